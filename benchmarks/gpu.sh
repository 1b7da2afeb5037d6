#!/bin/bash
# What only a machine with an NVIDIA GPU can show, in eight minutes: build, tests, sanitizers, benchmarks. Needs nvcc 13,
# CMake 3.25.2 and ninja, and NumPy, safetensors, pytest, pytest-timeout, scikit-build-core, pybind11, PyTorch and what
# other peers there are, installed. MLPFAST_DATA, a folder with fashion-mnist, adds trainings on it.
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
  [ "$left" -gt 2 ] || { echo "timed out: no time is left"; return 2; }
  timeout -k 5 "$(($1 < left ? $1 : left))" "${@:2}"
  case $? in
    0) return 0 ;;
    124 | 137) echo "timed out"; return 2 ;;
    *) echo "failed"; return 1 ;;
  esac
}
note() {  # note <status of within>
  case $1 in
    1) failed=1 ;;
    2) late=2 ;;
  esac
}

echo "== build for $MLPFAST_CUDA_ARCHS"
timeout 120 python3 -m pip install --no-build-isolation --no-deps --force-reinstall . > "$out/build.log" 2>&1 ||
  { tail -40 "$out/build.log"; exit 1; }
python3 -c "import mlpfast; mlpfast.cuda.synchronize(); mlpfast.show_config()" || exit 1

# Tests take turns on the GPU, and wait for the host more than for it: all at the same time.
pytest=(python3 -m pytest -q -p no:cacheprovider tests/cuda)
every="(gpu- or gpu] or machine) and not shim"
small="(gpu- or gpu]) and not shim and (test_gemm or test_layers or test_large_tiles or test_columns or test_softmax_cross_entropy_in_place or test_levels or test_recorded_steps or test_classes_of or test_what_becomes_of_sums or test_what_the_mean or test_more_than_fits or test_every_activation or test_weights_that_do_not)"
sanitizers=("memcheck --track-stream-ordered-races all" racecheck initcheck synccheck)
echo "== tests, ${sanitizers[*]%% *}"
within 110 "${pytest[@]}" -k "$every" > "$out/tests.log" 2>&1 &
waiting=($!)
for sanitizer in "${sanitizers[@]}"; do
  within 110 compute-sanitizer --tool $sanitizer --error-exitcode 9 --target-processes all \
    "${pytest[@]}" -x -k "$small" > "$out/${sanitizer%% *}.log" 2>&1 &
  waiting+=($!)
done
for job in "${waiting[@]}"; do
  wait "$job"
  note $?
done
tail -15 "$out/tests.log"
grep -E "SUMMARY|passed|failed|timed out|not supported" "$out"/{memcheck,racecheck,initcheck,synccheck}.log | tail -20

measure() {  # measure <seconds> <name> <arguments ...>: the cases done in time are in <name>.json, and printed
  echo "== benchmarks: $2"
  rm -f "$out/$2.json"
  within "$1" env -u PYTHONSAFEPATH python3 -m benchmarks "${@:3}" --rounds 5 --json "$out/$2.json" > "$out/$2.log" 2>&1
  note $?
  [ -f "$out/$2.json" ] && env -u PYTHONSAFEPATH python3 -m benchmarks report "$out/$2.json" | sed -n '/^## /,$p'
  grep -E "^(timed out|failed)" -B 3 "$out/$2.log"
}
gpu() {  # gpu <seconds> <name> <cases> [contenders]
  measure "$1" "$2" gpu --cases "$3" --threads "$(nproc)" ${4:+--contenders "$4"}
}

# What matters most comes first: where time ends, the rest is missing.
gpu 110 gpu-step "step 784-256-10"
gpu 35 gpu-gemm-ieee "float32 ieee" mlpfast,torch_gpu,cupy
gpu 40 gpu-gemm-highest "NN float32 cuda"
gpu 25 gpu-gemm-medium "NN float32 medium" mlpfast,torch_gpu
gpu 90 gpu-step-wide "784-2048-2048-10" mlpfast,torch_gpu,torch_gpu_graph,jax_gpu
gpu 30 gpu-softmax "softmax 65536x10"
gpu 60 gpu-softmax-wide "softmax 16384x32768"
echo "== agreement with the CPU"
within 30 env -u PYTHONSAFEPATH python3 -m benchmarks.agreement "$out/gpu-agreement.json"
note $?
for threads in 1 2 4 8 16; do
  [ "$threads" -le "$(nproc)" ] &&
    measure 8 "cpu-$threads-threads" step --quick --cases "784-256-10 batch 256 float32" --contenders mlpfast --threads "$threads"
done
exit $((failed ? 1 : late))
