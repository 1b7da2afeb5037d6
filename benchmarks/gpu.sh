#!/bin/bash
# What only a machine with an NVIDIA GPU can show, in eight minutes: build, tests, benchmarks, sanitizers. Needs
# nvcc 13, CMake 3.25.2 and ninja, and NumPy, safetensors, pytest, pytest-timeout, scikit-build-core, pybind11, PyTorch
# and what other peers there are, installed. MLPFAST_DATA, a folder with fashion-mnist, adds a training on it.
# Usage: benchmarks/gpu.sh [folder for results and logs]. Ends with 1 where something fails, with 2 where all that went
# wrong is time that did not suffice.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:-benchmarks/results}")
mkdir -p "$out"
export PATH=$PATH:/usr/local/cuda/bin PIP_BREAK_SYSTEM_PACKAGES=1
export PYTHONSAFEPATH=1  # the installed mlpfast, not this folder's
export MLPFAST_CUDA=ON MLPFAST_CUDA_ARCHS=${MLPFAST_CUDA_ARCHS:-$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -1 | tr -d .)}
failed=0 late=0 all=470  # seconds

within() {  # within <seconds, or what is left of all> <command ...>, which says so where it is not done by then
  local left=$((all - SECONDS))
  local limit=$(($1 < left ? $1 : left > 1 ? left : 1))
  timeout -k 5 "$limit" "${@:2}"
  case $? in
    0) ;;
    124 | 137) late=2; echo "timed out after $limit s" ;;
    *) failed=1; echo "failed" ;;
  esac
}

echo "== build for $MLPFAST_CUDA_ARCHS"
timeout 120 python3 -m pip install --no-build-isolation --no-deps --force-reinstall . > "$out/build.log" 2>&1 ||
  { tail -40 "$out/build.log"; exit 1; }
python3 -c "import mlpfast; mlpfast.cuda.synchronize(); mlpfast.show_config()" || exit 1

echo "== tests"
within 80 python3 -m pytest -q -p no:cacheprovider -W ignore::pytest.PytestConfigWarning tests/cuda -k "(gpu- or gpu] or machine) and not shim" > "$out/tests.log" 2>&1
tail -15 "$out/tests.log"

small="(gpu- or gpu]) and not shim and (test_gemm or test_layers or test_large_tiles or test_columns or test_softmax_cross_entropy_in_place or test_levels or test_recorded_steps or test_classes_of or test_what_becomes_of_sums or test_what_the_mean)"
sanitize() {  # sanitize <seconds> <tool>
  echo "== $2"
  within "$1" compute-sanitizer --tool "$2" --error-exitcode 9 --target-processes all \
    python3 -m pytest -q -x -p no:cacheprovider -W ignore::pytest.PytestConfigWarning tests/cuda -k "$small" > "$out/$2.log" 2>&1
  grep -E "SUMMARY|passed|failed|timed out" "$out/$2.log" | tail -3
}
measure() {  # measure <seconds> <name> <arguments ...>: the cases done in time are in <name>.json, and printed
  echo "== benchmarks: $2"
  rm -f "$out/$2.json"
  within "$1" env -u PYTHONSAFEPATH python3 -m benchmarks "${@:3}" --rounds 5 --json "$out/$2.json" > "$out/$2.log" 2>&1
  [ -f "$out/$2.json" ] && env -u PYTHONSAFEPATH python3 -m benchmarks report "$out/$2.json" | sed -n '/^## /,$p'
  grep -E "^(timed out|failed)" -B 3 "$out/$2.log"
}

# What matters most comes first: where time ends, the rest is missing.
sanitize 50 memcheck
measure 130 gpu-step gpu --cases step --threads "$(nproc)"
measure 60 gpu-gemm gpu --cases gemm --threads "$(nproc)"
sanitize 40 racecheck
measure 50 gpu-softmax gpu --cases softmax --threads "$(nproc)"
sanitize 30 initcheck
sanitize 30 synccheck
for threads in 1 2 4 8 16; do
  [ "$threads" -le "$(nproc)" ] &&
    measure 8 "cpu-$threads-threads" step --quick --cases "784-256-10 batch 256 float32" --contenders mlpfast --threads "$threads"
done
exit $((failed ? 1 : late))
