#!/usr/bin/env bash
# Everything that needs a GPU, in under 8 minutes and without a network: bash benchmarks/gpu.sh [FOLDER]
#
# Builds the extension for the GPU at hand, runs the tests of the operations and the golden hashes on it, and measures.
# JSON, figures and logs go to FOLDER (default: benchmarks/results/NAME-OF-THE-GPU). A part that fails does not stop the
# others; the exit code is 1 then. PYTHON chooses the interpreter, TORCH_CUDA_ARCH_LIST the architectures.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python}

missing=0
need() { # need "what is missing" COMMAND...: one line for each prerequisite that is not there
    local what=$1
    shift
    "$@" >/dev/null 2>&1 || { echo "error: $what" >&2; missing=1; }
}
need "expected a Python interpreter, $PYTHON does not start (PYTHON=... chooses one)" "$PYTHON" -c ""
need "expected a torch that sees a CUDA device" "$PYTHON" -c "import torch; assert torch.cuda.is_available()"
need "expected nvcc, found neither CUDA_HOME/bin/nvcc nor nvcc" \
    "$PYTHON" -c "from torch.utils.cpp_extension import CUDA_HOME; import os; assert os.path.exists(f'{CUDA_HOME}/bin/nvcc')"
need "expected a C++ compiler (c++, or what CXX names)" "${CXX:-c++}" --version
need "expected the Python package setuptools" "$PYTHON" -c "import setuptools"
need "expected the Python packages pytest and pytest-timeout" "$PYTHON" -c "import pytest, pytest_timeout"
need "expected what latentdiff depends on (see pyproject.toml)" \
    "$PYTHON" -c "import click, matplotlib, numpy, PIL, pydantic, rich, safetensors, yaml"
((missing)) && exit 1
"$PYTHON" -c "import diffusers" 2>/dev/null || echo "note: diffusers is not installed, the comparison with it is left out"
"$PYTHON" -c "import triton" 2>/dev/null || echo "note: triton is not installed, torch.compile is left out"

gpu=$("$PYTHON" -c "import re, torch; print(re.sub(r'[^A-Za-z0-9]+', '-', torch.cuda.get_device_name()).strip('-'))")
out=${1:-benchmarks/results/$gpu}
mkdir -p "$out" || exit 1
out=$(cd "$out" && pwd)
unset LATENTDIFF_OPS # the fallback shall not be what is tested
export LATENTDIFF_REQUIRE_EXTENSION=1 LATENTDIFF_BUILD=cuda
TORCH_CUDA_ARCH_LIST=${TORCH_CUDA_ARCH_LIST:-$("$PYTHON" -c "import torch; print('{}.{}'.format(*torch.cuda.get_device_capability()))")}
export TORCH_CUDA_ARCH_LIST MAX_JOBS="${MAX_JOBS:-$(nproc)}"

DEADLINE=470 # seconds for all parts
names=() codes=() spent=()
part() { # part NAME SECONDS COMMAND...: run with a limit of time, output into NAME.log
    local name=$1 limit=$2 begun=$SECONDS code=0 left=$((DEADLINE - SECONDS))
    shift 2
    ((left < limit)) && limit=$((left > 1 ? left : 1))
    rm -f "$out/$name".{log,json,png}
    echo "$name ..."
    timeout "$limit" "$@" >"$out/$name.log" 2>&1 || code=$?
    ((code == 124)) && echo "over the limit of $limit s" >>"$out/$name.log"
    ((code)) && tail -n 5 "$out/$name.log" | sed 's/^/    /'
    names+=("$name") codes+=("$code") spent+=("$((SECONDS - begun))")
}

part build 150 "$PYTHON" setup.py build_ext --inplace
part native 30 "$PYTHON" -c "from latentdiff import ops; n = ops.implementation(); assert n == 'native', (n, ops.NATIVE.reason)"
part info 30 "$PYTHON" -m latentdiff info
part golden 60 "$PYTHON" -m pytest -m "not slow" -k golden tests
part tests 90 "$PYTHON" -m pytest -m "not slow" tests/ops
part captured 60 "$PYTHON" -m pytest tests/diffusion/test_compile_cuda.py # loops as CUDA graphs, without host synchronizations
part networks 60 "$PYTHON" -m latentdiff bench --network --device cuda
part kernels 120 "$PYTHON" -m benchmarks.kernels --device cuda --seconds 70 \
    --json "$out/kernels.json" --figure "$out/kernels.png"
part kernels-small 60 "$PYTHON" -m benchmarks.kernels --device cuda --compile static --max-mib 4 --seconds 25 \
    --dtypes float32 --json "$out/kernels-small.json" --figure "$out/kernels-small.png"
part sampling 120 "$PYTHON" -m benchmarks.sampling --device cuda --rounds 3 --seconds 60 \
    --json "$out/sampling.json" --figure "$out/sampling.png"

part distill 60 "$PYTHON" -m latentdiff distill --run digits --calls 1 --steps 500 --trajectories 20000 \
    --device cuda --runs "$out/runs" --name student
part end-to-end 90 "$PYTHON" -m benchmarks.end_to_end --rounds 2 --device cuda \
    --student digits="$out/runs/student" --json "$out/end-to-end.json"
rm -rf "$out/runs"

{
    echo
    echo "$gpu, $((SECONDS)) s in all; results in $out"
    failed=0
    for i in "${!names[@]}"; do
        state=ok
        ((codes[i])) && state="FAILED (${codes[i]}), see ${names[i]}.log" && failed=1
        printf '%-14s %4d s  %s\n' "${names[i]}" "${spent[i]}" "$state"
    done
    for name in kernels kernels-small sampling; do
        [[ -f $out/$name.log ]] && grep -E '^(met|NOT MET| {7}[A-Z])' "$out/$name.log" | sed "s/^/$name: /"
    done
} | tee "$out/summary.txt"
for code in "${codes[@]}"; do
    ((code)) && exit 1
done
exit 0
