"""The data sets that have a name; imports neither torch nor numpy, so that listing is instant.

A named data set is a file with a function ``read(options: ReadOptions) -> RawSplits`` and a row in
:data:`NAMED`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from latentdiff.data.locations import Location, mnist_location, openmoji_location

if TYPE_CHECKING:
    from latentdiff.data.raw import RawSplits
    from latentdiff.data.resize import ReadOptions


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
        """The images in memory. InputError."""
        found: RawSplits = import_module(NAMED[self.name].module).read(options)
        return found


@dataclass(frozen=True)
class DatasetInfo:
    """An entry of `latentdiff datasets`: size in words, license, whether it can be loaded now, where it comes
    from.
    """

    name: str
    description: str
    size: str
    license: str
    available: bool
    source: str


_ROWS = (
    NamedDataset(
        name="mnist5k",
        description="5,000 handwritten digits, 500 of each (the default)",
        size="28x28 grey; train 4,000, val 500, test 500; 0.7 MB",
        license="CC BY-SA 3.0",
        module="latentdiff.data.embedded",
        location=lambda root: ((Path(__file__).parent / "mnist5k.xz").is_file(), "in the package"),
    ),
    NamedDataset(
        name="mnist",
        description="MNIST, all 70,000 handwritten digits",
        size="28x28 grey; train 55,000, val 5,000, test 10,000; 12 MB",
        license="CC BY-SA 3.0",
        module="latentdiff.data.mnist",
        location=mnist_location,
    ),
    NamedDataset(
        name="openmoji",
        description="the colour emoji of the OpenMoji project with their Unicode names as captions",
        size="32x32 RGB (--size up to 256); train 3,848, val 270, test 212 in version 17.0.0; 31 MB",
        license="CC BY-SA 4.0",
        module="latentdiff.data.openmoji",
        location=openmoji_location,
    ),
    NamedDataset(
        name="scenes",
        description='coloured digits with exact captions, "a large red seven on a blue background"',
        size="32x32 RGB; train 40,000, val 2,000, test 2,000; drawn in seconds",
        license="CC BY-SA 3.0",
        module="latentdiff.data.synthetic_scene_images",
        location=lambda root: (True, "drawn from mnist5k"),
        splits_alone=True,
    ),
    NamedDataset(
        name="scenes-mnist",
        description="the same with the digits of mnist",
        size="32x32 RGB; train 40,000, val 2,000, test 2,000; drawn in seconds",
        license="CC BY-SA 3.0",
        module="latentdiff.data.synthetic_scene_images",
        location=mnist_location,
        splits_alone=True,
    ),
)
NAMED = {row.name: row for row in _ROWS}


def list_datasets(root: Path | None = None) -> list[DatasetInfo]:
    """The named data sets; `root` as in :func:`latentdiff.data.data_root`. Reads no images and does not touch
    the network.
    """
    return [
        DatasetInfo(row.name, row.description, row.size, row.license, *row.location(root))
        for row in NAMED.values()
    ]
