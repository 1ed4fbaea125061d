"""Images in, uint8 tensors out: built-in digits, npz, idx, image folders; order, augmentation, conversion.

The names load on first use, so that `latentdiff datasets` (catalog.py) runs without importing torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latentdiff.data.augment import Augment
    from latentdiff.data.catalog import DatasetInfo, list_datasets
    from latentdiff.data.convert import to_float, to_uint8
    from latentdiff.data.describe import DataDescription, describe_data, describe_loaded
    from latentdiff.data.image_set import ImageSet, read_images, split_of
    from latentdiff.data.lazy import Unreadable
    from latentdiff.data.load import load_dataset
    from latentdiff.data.locations import data_root
    from latentdiff.data.order import batch_indices, permutation
    from latentdiff.data.read_report import ReadReport
    from latentdiff.data.readers import is_streamed
    from latentdiff.data.stream import StreamedData, StreamedSplit, stream_dataset
    from latentdiff.data.types import Dataset, ImageData, ImageSplit, Split, TrainData, TrainSplit

__all__ = [
    "Augment",
    "DataDescription",
    "Dataset",
    "DatasetInfo",
    "ImageData",
    "ImageSet",
    "ImageSplit",
    "ReadReport",
    "Split",
    "StreamedData",
    "StreamedSplit",
    "TrainData",
    "TrainSplit",
    "Unreadable",
    "batch_indices",
    "data_root",
    "describe_data",
    "describe_loaded",
    "is_streamed",
    "list_datasets",
    "load_dataset",
    "permutation",
    "read_images",
    "split_of",
    "stream_dataset",
    "to_float",
    "to_uint8",
]

_HOME = {
    "Augment": "augment",
    "DataDescription": "describe",
    "Dataset": "types",
    "DatasetInfo": "catalog",
    "ImageData": "types",
    "ImageSet": "image_set",
    "ImageSplit": "types",
    "ReadReport": "read_report",
    "Split": "types",
    "StreamedData": "stream",
    "StreamedSplit": "stream",
    "TrainData": "types",
    "TrainSplit": "types",
    "Unreadable": "lazy",
    "batch_indices": "order",
    "data_root": "locations",
    "describe_data": "describe",
    "describe_loaded": "describe",
    "is_streamed": "readers",
    "list_datasets": "catalog",
    "load_dataset": "load",
    "permutation": "order",
    "read_images": "image_set",
    "split_of": "image_set",
    "stream_dataset": "stream",
    "to_float": "convert",
    "to_uint8": "convert",
}


def __getattr__(name: str) -> object:
    """Import a public name from its module on first use; AttributeError for any other name."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__})
