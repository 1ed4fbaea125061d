"""What is built and installed: a source distribution, from it a platform wheel with the kernels and a pure
one, and what they do alone.

The environments are empty but for the libraries that the tests run with, which they see; nothing is
downloaded.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pytest
from helpers import ROOT

from latentdiff import __version__, errors
from latentdiff.pipeline.checkpoint import pretrained

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
STEM = f"latentdiff-{__version__}"
BUILT = {
    ".venv",
    ".venv-docs",
    "__pycache__",
    "build",
    "dist",
    "latentdiff.egg-info",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
}
NOT_IN_SDISTS = {
    ".ci",
    ".github",
    ".gitignore",
    ".pre-commit-config.yaml",
}  # of those who work in the repository
MADE = {"PKG-INFO", "setup.cfg"}  # by setuptools
LITTER = (
    "runs/mine/log.jsonl",
    "site/index.html",
    "demo/samples.png",
    "build/lib/latentdiff/old.py",
    "latentdiff/_C.cpython-311-x86_64-linux-gnu.so",
    "latentdiff/nn/__pycache__/mlp.cpython-311.pyc",
    "tests/__pycache__/conftest.cpython-311.pyc",
)

needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "c++").split()[0]) is None,
    reason="no C++ compiler: the platform wheel cannot be built",
)


def sources() -> list[str]:
    """The files of the repository as git knows them; in an unpacked source distribution, all there are."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    names = [name for name in listed.stdout.split("\0") if name] if listed.returncode == 0 else []
    if "setup.py" in names:
        links = [name for name in names if (ROOT / name).is_dir()]
        linked = [f"{link}/{file.name}" for link in links for file in (ROOT / link).iterdir()]
        return sorted({name for name in [*names, *linked] if (ROOT / name).is_file()})
    files = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return sorted(str(path) for path in files if not BUILT & set(path.parts) and path.suffix != ".so")


def call(line: Sequence[str | Path], folder: Path, **environment: str) -> str:
    """What a process says on stdout; it must succeed."""
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "LATENTDIFF_"))
    }
    done = subprocess.run(
        [str(word) for word in line],
        cwd=folder,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, f"{line}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


def pip(command: str, *arguments: str | Path, python: Path | None = None, **environment: str) -> None:
    place = [] if python is None else ["--python", python]
    line = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        *place,
        command,
        "--no-index",
        "--no-deps",
    ]
    call([*line, *arguments], Path(arguments[-1]).parent, **environment)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, made in a copy of the repository in which somebody has worked."""
    folder = tmp_path_factory.mktemp("sdist")
    for name in sources():
        (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / "tree" / name)
    for name in LITTER:
        (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "tree" / name).write_text("litter")
    program = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    call([sys.executable, "-c", program, folder], folder / "tree", LATENTDIFF_BUILD="off")
    (made,) = folder.glob("*.tar.gz")
    assert made.name == f"{STEM}.tar.gz"
    return made


def wheel(sdist: Path, folder: Path, **environment: str) -> Path:
    """The wheel that pip makes of a source distribution."""
    pip("wheel", "--no-build-isolation", "--no-cache-dir", "--wheel-dir", folder, sdist, **environment)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def pure(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel(sdist, tmp_path_factory.mktemp("pure"), LATENTDIFF_BUILD="off")


@pytest.fixture(scope="module")
def platform(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    required = {"LATENTDIFF_BUILD": "cpu", "LATENTDIFF_REQUIRE_EXTENSION": "1"}
    return wheel(sdist, tmp_path_factory.mktemp("platform"), **required)


def installed(wheel: Path, folder: Path) -> Path:
    """The command `latentdiff` in a new environment that holds the wheel alone, and sees the libraries of
    this one.
    """
    call([sys.executable, "-m", "venv", "--without-pip", folder], wheel.parent)
    python = folder / "bin" / "python"
    pip("install", wheel, python=python)
    (place,) = (folder / "lib").glob("python*/site-packages")
    (place / "libraries.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    found = call([python, "-c", "import latentdiff; print(latentdiff.__file__)"], wheel.parent).strip()
    assert Path(found) == place / "latentdiff" / "__init__.py"
    return folder / "bin" / "latentdiff"


def files_of(wheel: Path) -> set[str]:
    """What a wheel puts into site-packages, without its own metadata."""
    with zipfile.ZipFile(wheel) as file:
        assert {name.split("/")[0] for name in file.namelist()} == {"latentdiff", f"{STEM}.dist-info"}
        return {name for name in file.namelist() if name.startswith("latentdiff/")}


def package() -> set[str]:
    return {name for name in sources() if name.startswith("latentdiff/")}


def use(command: Path, folder: Path, kernels: str) -> str:
    """Ask an installed package what it is and let it draw, in an empty folder; returns what it says of the
    kernels.
    """
    folder.mkdir()
    assert call([command, "--version"], folder) == f"latentdiff {__version__}\n"
    assert "train-denoiser" in call([command, "--help"], folder)
    info = json.loads(call([command, "info", "--json"], folder))
    assert (info["latentdiff"], info["kernels"]) == (__version__, kernels)
    call([command, "sample", "-n", "4", "--steps", "5"], folder)
    assert (folder / "samples.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in folder.iterdir()] == [
        "samples.png"
    ]  # by the model that ships: nothing was trained
    call([command, "train-vae", "--config", "demo", "--dry-run"], folder)  # the recipe, and the digits
    models = json.loads(call([command, "models", "--json"], folder))["models"]
    assert [model["name"] for model in models] == [model.name for model in pretrained.shipped_models()]
    return str(info["extension"].get("reason", ""))


@pytest.mark.slow
def test_the_sdist_is_the_repository_without_what_was_left_in_it(sdist: Path) -> None:
    with tarfile.open(sdist) as file:
        members = [member for member in file.getmembers() if not member.isdir()]
    assert all(member.isfile() for member in members)  # no links
    names = {str(PurePosixPath(member.name).relative_to(STEM)) for member in members}
    found = {name for name in names - MADE if not name.startswith("latentdiff.egg-info/")}
    expected = {name for name in sources() if name.split("/")[0] not in NOT_IN_SDISTS | MADE}
    assert (found - expected, expected - found) == (set(), set())
    for name in (
        "csrc/number.h",
        "tests/conftest.py",
        "configs/demo.yaml",
        "LICENSE",
        "constraints.txt",
        "MANIFEST.in",
    ):
        assert name in found


@pytest.mark.slow
def test_the_pure_wheel_has_the_package_alone_and_runs_on_the_fallback(pure: Path, tmp_path: Path) -> None:
    assert pure.name == f"{STEM}-py3-none-any.whl"
    assert files_of(pure) == package()
    said = use(installed(pure, tmp_path / "environment"), tmp_path / "empty", "fallback")
    assert said.startswith("the extension was not built")


@pytest.mark.slow
@needs_compiler
@pytest.mark.timeout(1800)
def test_the_platform_wheel_has_the_kernels_and_uses_them(platform: Path, tmp_path: Path) -> None:
    tags = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert re.fullmatch(rf"{re.escape(STEM)}-{tags}-{tags}-\w+\.whl", platform.name)
    (kernels,) = files_of(platform) - package()
    assert re.fullmatch(r"latentdiff/_C\.[\w-]+\.so", kernels) and package() < files_of(platform)
    assert (
        use(installed(platform, tmp_path / "environment"), tmp_path / "empty", "cpu native, cuda fallback")
        == ""
    )


@pytest.mark.slow
def test_a_wheel_tells_its_version_licences_and_extras(pure: Path) -> None:
    with zipfile.ZipFile(pure) as file:
        names = {name.removeprefix(f"{STEM}.dist-info/") for name in file.namelist()}
        facts = file.read(f"{STEM}.dist-info/METADATA").decode()
    assert (
        f"Version: {__version__}\n" in facts and "License-Expression: Apache-2.0 AND CC-BY-SA-3.0\n" in facts
    )
    assert {"licenses/LICENSE", "licenses/latentdiff/data/MNIST5K_LICENSE.md"} <= names
    assert set(re.findall(r"^Provides-Extra: (\S+)$", facts, re.MULTILINE)) == set(EXTRAS)
    assert {"ui", "diffusers", "metrics", "text", "demo"} <= set(EXTRAS)
    needed = {
        line for line in re.findall(r"^Requires-Dist: (.+)$", facts, re.MULTILINE) if "extra ==" not in line
    }
    assert needed == set(PROJECT["dependencies"])


RELATIVE = re.compile(r"\]\((?!https?:|#)")  # a link into the repository


def described(folder: Path, **environment: str) -> str:
    """The metadata of the package, without building it."""
    line = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", folder]
    call(line, ROOT, LATENTDIFF_BUILD="off", **environment)
    return (folder / "latentdiff.egg-info" / "PKG-INFO").read_text(encoding="utf-8")


def test_the_description_of_a_package_reads_outside_of_the_repository(tmp_path: Path) -> None:
    text = described(tmp_path)
    assert "Description-Content-Type: text/markdown\n" in text and "Project-URL" not in text
    assert not RELATIVE.search(text) and "## Start" in text and "drawn photos of clothes" in text
    address = "https://github.com/somebody/latentdiff"
    text = described(tmp_path, LATENTDIFF_URL=f"{address}/")
    assert f"Project-URL: Source, {address}\n" in text and f"Project-URL: Issues, {address}/issues\n" in text
    assert not RELATIVE.search(text)
    assert f"![drawn photos of clothes]({address}/raw/HEAD/docs/images/clothes.png)" in text
    assert f"[Installing]({address}/blob/HEAD/docs/install.md)" in text
    with pytest.raises(AssertionError, match=r"expected LATENTDIFF_URL to be like .*, got 'github\.com'"):
        described(tmp_path, LATENTDIFF_URL="github.com")


def mentions() -> list[tuple[str, str]]:
    """(file, extra) for every extra that somebody is told to install, anywhere."""
    kinds = (".py", ".md", ".yaml", ".toml", "Makefile")
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in sources() if name.endswith(kinds)}
    found = re.compile(r"(?:latentdiff|['\"\s]\.)\[([a-z][a-z0-9,-]*)\]")
    return [
        (name, extra)
        for name, text in texts.items()
        for group in found.findall(text)
        for extra in group.split(",")
    ]


def test_every_extra_that_is_mentioned_exists() -> None:
    named = mentions()
    assert [each for each in named if each[1] not in EXTRAS] == []
    assert {"Makefile", "pyproject.toml"} <= {file for file, _ in named}


def test_the_page_of_the_installation_explains_every_extra() -> None:
    table = re.search(
        r"^\| extra \|.*?(?=^$)",
        (ROOT / "docs" / "install.md").read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    assert table is not None
    assert re.findall(r"^\| `(\w+)` \|", table[0], re.MULTILINE) == [
        name for name in EXTRAS if name != "features"
    ]


def test_no_word_of_the_program_or_the_docs_takes_latentdiff_from_an_index() -> None:
    """It is in none; what the program says to install is what the extras bring."""
    assert {name: list(packages) for name, packages in errors.EXTRAS.items()} == {
        name: EXTRAS[name] for name in errors.EXTRAS
    }
    assert errors.pip_install("ui") == "pip install 'gradio>=6.31,<7'"
    files = [
        path for where in ("latentdiff", "docs", "scripts", "configs") for path in (ROOT / where).rglob("*")
    ]
    texts = {
        path: path.read_text(encoding="utf-8") for path in files if path.suffix in (".py", ".md", ".yaml")
    }
    texts[ROOT / "README.md"] = (ROOT / "README.md").read_text(encoding="utf-8")
    for path, text in texts.items():
        for command in re.findall(r"pip install[^`\n]*", text):
            assert not re.search(r"[ '\"]latentdiff\b", command), (path, command)
            assert not re.search(r"(?<!['\"])\.\[", command), (path, "unquoted", command)
        assert "latentdiff[" not in text, path
