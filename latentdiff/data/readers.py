"""The types of data at a path; imports neither torch nor numpy.

A type is a file and a row in :data:`READERS`. The file has ``recognises(path: Path) -> bool`` and
``read(path: Path, fit: Fit) -> RawSplits``, or, for images that stay on the disk,
``index(path: Path, fit: Fit) -> Listed``.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentdiff.data.catalog import NAMED
from latentdiff.errors import InputError
from latentdiff.files.paths import expanded

if TYPE_CHECKING:
    from latentdiff.data.raw import Listed, RawSplits
    from latentdiff.data.resize import Fit


@dataclass(frozen=True)
class Reader:
    """A row: the type in words, as errors and `latentdiff datasets` name it, and the file that reads it.

    ``reads``: it has ``read``; ``streams``: it has ``index``. ``cuts``: a missing split that is read alone is
    cut out of train, as for a training.
    """

    description: str
    module: str
    reads: bool = True
    streams: bool = False
    cuts: bool = False

    @property
    def _file(self) -> Any:
        return import_module(READERS[self.module].module)

    def recognises(self, path: Path) -> bool:
        """Whether data at ``path`` is of this type."""
        return bool(self._file.recognises(path))

    def read(self, path: Path, fit: "Fit") -> "RawSplits":
        """The images in memory; InputError for data that cannot be read."""
        found: RawSplits = self._file.read(path, fit)
        return found

    def index(self, path: Path, fit: "Fit") -> "Listed":
        """The images before any is decoded; InputError for data that cannot be listed."""
        found: Listed = self._file.index(path, fit)
        return found


_ROWS = (
    Reader("tar shards", "latentdiff.data.tar", reads=False, streams=True),
    Reader("a folder of idx files", "latentdiff.data.idx", cuts=True),
    Reader("a .npz file", "latentdiff.data.npz"),
    Reader("a folder of images", "latentdiff.data.folder", streams=True),
)
READERS = {row.module: row for row in _ROWS}
"""By module; the first that recognises a path reads it."""


def types_of_data() -> str:
    """The types of data at a path, for a sentence."""
    *first, last = (reader.description for reader in READERS.values())
    return f"{', '.join(first)} or {last}"


def find_reader(data: str) -> tuple[Path, Reader | None]:
    """The path and its reader, None where no type fits. InputError for an unusable path."""
    try:
        path = expanded(data)
        return path, next((reader for reader in READERS.values() if reader.recognises(path)), None)
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"`data` {data!r}: expected {expected()}, found an unusable path: {error}"
        ) from error


def expected() -> str:
    """Everything that --data takes, for an error."""
    return f"{', '.join(NAMED)}, {types_of_data()}"


def is_streamed(data: str) -> bool:
    """Whether --data names data that always stays on the disk, as tar shards do."""
    try:
        _, reader = find_reader(data)
    except InputError:
        return False
    return reader is not None and not reader.reads
