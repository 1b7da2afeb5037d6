#!/bin/bash
# What only a machine with an NVIDIA GPU can show, in at most eight minutes: build, tests, sanitizers, benchmarks. Needs
# nvcc 13, and NumPy, safetensors, pytest, scikit-build-core, pybind11, PyTorch and what other peers there are, installed.
# Usage: benchmarks/gpu.sh [folder for results and logs]. Fails where the build, a test or a sanitizer does.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:-benchmarks/results}")
mkdir -p "$out"
export PATH=$PATH:/usr/local/cuda/bin PIP_BREAK_SYSTEM_PACKAGES=1
export PYTHONSAFEPATH=1  # the installed mlpfast, not this folder's
export MLPFAST_CUDA=ON MLPFAST_CUDA_ARCHS=${MLPFAST_CUDA_ARCHS:-$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d .)}
failed=0

echo "== build for $MLPFAST_CUDA_ARCHS"
timeout 120 python3 -m pip install --no-build-isolation --no-deps --force-reinstall . > "$out/build.log" 2>&1 ||
  { tail -40 "$out/build.log"; exit 1; }
python3 -c "import mlpfast; mlpfast.cuda.synchronize(); mlpfast.show_config()" || exit 1

echo "== tests"
timeout 60 python3 -m pytest -q -p no:cacheprovider tests/cuda -k "(gpu- or gpu] or machine) and not shim" 2>&1 | tee "$out/tests.log" | tail -15 ||
  failed=1

small="(gpu- or gpu]) and not shim and (test_gemm or test_layers or test_softmax_cross_entropy_in_place or test_levels or test_recorded_steps or test_what_becomes_of_sums)"
for tool in memcheck racecheck initcheck synccheck; do
  echo "== $tool"
  timeout 20 compute-sanitizer --tool $tool --error-exitcode 9 --target-processes all \
    python3 -m pytest -q -x -p no:cacheprovider tests/cuda -k "$small" > "$out/$tool.log" 2>&1 || failed=1
  grep -E "ERROR SUMMARY|passed|failed" "$out/$tool.log" | tail -2
done

echo "== benchmarks"
timeout 180 env -u PYTHONSAFEPATH python3 -m benchmarks gpu --threads "$(nproc)" --rounds 5 --json "$out/gpu.json" | tail -30 || failed=1
for threads in 1 2 4 8 16; do
  [ "$threads" -le "$(nproc)" ] && timeout 8 env -u PYTHONSAFEPATH python3 -m benchmarks step --cases "784-256-10 batch 256 float32" \
    --contenders mlpfast --threads "$threads" --rounds 5 --json "$out/cpu-$threads-threads.json" | grep "step 784"
done
exit $failed
