"""The sizes of the images of a folder, found without decoding them."""

from latentdiff.data.catalog import NAMED
from latentdiff.data.decode import size_in_head
from latentdiff.data.folder import list_folder
from latentdiff.data.readers import find_reader
from latentdiff.data.resize import Fit

MOST_READ = 500  # images, evenly over the folder


def sizes_in_heads(source: str, fit: Fit) -> list[tuple[int, int]]:
    """The (height, width) of up to :data:`MOST_READ` images of a folder, by the heads of their files.

    Empty for data of another type. InputError for a folder that holds no images.
    """
    if source in NAMED:
        return []
    path, reader = find_reader(source)
    if reader is None or not (reader.reads and reader.streams):
        return []
    paths = list_folder(path, fit).paths
    chosen = paths[:: max(1, -(-len(paths) // MOST_READ))]
    return [size for name in chosen if (size := size_in_head(path / name)) is not None]
