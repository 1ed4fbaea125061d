"""Build script: metadata lives in pyproject.toml; this builds the extension ``latentdiff._C`` from ``csrc/``.

Built against the torch of the environment (``pip install --no-build-isolation``). Where torch or a compiler
is missing the package installs without it and runs on the PyTorch fallback; ``latentdiff info`` and a note
before trainings say so.

LATENTDIFF_BUILD=auto (default: CUDA where torch and CUDA_HOME have it), cpu, cuda (required) or off.
LATENTDIFF_REQUIRE_EXTENSION=1 makes a failed build an error. TORCH_CUDA_ARCH_LIST chooses architectures.
MAX_JOBS limits parallel compilers.

LATENTDIFF_URL=https://github.com/OWNER/latentdiff: the address of the repository, for the links of a package.
"""

import os
import re
import sys
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
ARCHITECTURES = "7.5;8.0;8.6;8.9;9.0+PTX"
# No contraction of a * b + c and no errno: every rounding is written out in csrc/number.h.
# -O2: 10% faster than -O3 here, and half the time to compile.
FLAGS = [
    "-O2",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fvisibility=hidden",
    "-g0",
    "-Wno-maybe-uninitialized",
]
# -fmad=false is for the float64 forms alone; float32 operations are explicit intrinsics.
NVCC_FLAGS = ["-O3", "-fmad=false", "-lineinfo", "--extended-lambda"]


def sources(*folders: str) -> list[str]:
    return sorted(
        str(file.relative_to(ROOT)) for folder in folders for file in (ROOT / "csrc" / folder).glob("*.c*")
    )


def extension(mode: str):
    """The extension and its build command, from the torch that is installed."""
    import torch
    from torch.utils.cpp_extension import CUDA_HOME, BuildExtension, CppExtension, CUDAExtension

    class Build(BuildExtension):
        """Leaves the package without kernels where they cannot be compiled, unless they are required."""

        def run(self) -> None:
            try:
                super().run()
            except (Exception, SystemExit) as error:
                if required(mode):
                    raise
                print(
                    f"warning: the extension was not built, the fallback will be used: {error}",
                    file=sys.stderr,
                )

    has_cuda = (
        torch.version.cuda is not None
        and CUDA_HOME is not None
        and (Path(CUDA_HOME) / "bin" / "nvcc").exists()
    )
    if mode == "cuda" and not has_cuda:
        found = f"torch {torch.__version__}, CUDA_HOME {CUDA_HOME}"
        sys.exit(
            f"error: LATENTDIFF_BUILD=cuda expects a torch with CUDA and CUDA_HOME/bin/nvcc, found {found}"
        )
    cuda = has_cuda and mode != "cpu"
    # clang's OpenMP needs a runtime of its own, beside torch's: without it the kernels run on one thread.
    openmp = ["-fopenmp"] if sys.platform == "linux" and "clang" not in os.environ.get("CXX", "") else []
    flags = {"cxx": [*FLAGS, *openmp]}
    # The symbols of OpenMP come from torch's own runtime, so that there is one pool of threads.
    common = {"name": "latentdiff._C", "include_dirs": [str(ROOT / "csrc")], "optional": not required(mode)}
    if not cuda:
        files = [file for file in sources("cpu", "torch") if not file.endswith("cuda.cpp")]
        return CppExtension(sources=files, extra_compile_args=flags, **common), Build
    architectures = os.environ.setdefault("TORCH_CUDA_ARCH_LIST", ARCHITECTURES)
    macros = [
        ("LATENTDIFF_WITH_CUDA", "1"),
        ("LATENTDIFF_CUDA_VERSION", torch.version.cuda),
        ("LATENTDIFF_CUDA_ARCHITECTURES", architectures),
    ]
    flags["nvcc"] = NVCC_FLAGS
    files = sources("cpu", "cuda", "torch")
    return CUDAExtension(sources=files, extra_compile_args=flags, define_macros=macros, **common), Build


def required(mode: str) -> bool:
    return mode == "cuda" or os.environ.get("LATENTDIFF_REQUIRE_EXTENSION", "") not in ("", "0")


LINK = re.compile(r"(!?)\[([^\[\]]*)\]\((?!https?:|#)([^()\s]+)\)")


def description(text: str, address: str) -> str:
    """A README as it reads outside its repository: relative links lead to ``address``; without one they are
    text.
    """

    def absolute(found: re.Match[str]) -> str:
        picture, words, place = found.groups()
        kind = "raw" if picture else "blob"
        return f"{picture}[{words}]({address}/{kind}/HEAD/{place})" if address else words

    return LINK.sub(absolute, text)


def links() -> dict[str, object]:
    """The description and the addresses of a package."""
    address = os.environ.get("LATENTDIFF_URL", "").rstrip("/")
    if address and not re.fullmatch(r"https://[\w.~-]+(/[\w.~-]+){2,}", address):
        sys.exit(f"error: expected LATENTDIFF_URL to be like https://github.com/OWNER/NAME, got {address!r}")
    named = {
        "Documentation": "blob/HEAD/docs/index.md",
        "Changes": "blob/HEAD/CHANGELOG.md",
        "Issues": "issues",
    }
    urls = {"Source": address, **{name: f"{address}/{place}" for name, place in named.items()}}
    return {
        "long_description": description((ROOT / "README.md").read_text(encoding="utf-8"), address),
        "long_description_content_type": "text/markdown",
        "project_urls": urls if address else {},
    }


def arguments() -> dict[str, object]:
    mode = os.environ.get("LATENTDIFF_BUILD", "") or "auto"
    if mode not in ("auto", "cpu", "cuda", "off"):
        sys.exit(f"error: expected LATENTDIFF_BUILD to be auto, cpu, cuda or off, got {mode!r}")
    if mode == "off":
        return {}
    try:
        module, build = extension(mode)
    except ImportError as error:
        if required(mode):
            sys.exit(f"error: the extension needs torch ({error}); install it, then use --no-build-isolation")
        print(
            f"warning: no torch to build the extension against ({error}): the fallback will be used",
            file=sys.stderr,
        )
        return {}
    return {"ext_modules": [module], "cmdclass": {"build_ext": build}}


setup(**links(), **arguments())
