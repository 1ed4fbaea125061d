"""Images in, uint8 tensors out: built-in digits, npz, idx, image folders; order, augmentation, conversion.

The names load on first use, so that `latentdiff datasets` (catalog.py) runs without importing torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latentdiff.data.augment import Augment
    from latentdiff.data.catalog import DatasetInfo, data_root, list_datasets
    from latentdiff.data.convert import to_float, to_uint8
    from latentdiff.data.describe import DataDescription, describe_data, describe_loaded
    from latentdiff.data.load import ImageSet, load_dataset, read_images, split_of
    from latentdiff.data.order import batch_indices, permutation
    from latentdiff.data.read_report import ReadReport
    from latentdiff.data.readers import is_streamed
    from latentdiff.data.stream import StreamedData, StreamedSplit, Unreadable, stream_dataset
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

_NAMES = {
    "augment": ("Augment",),
    "catalog": ("DatasetInfo", "data_root", "list_datasets"),
    "convert": ("to_float", "to_uint8"),
    "describe": ("DataDescription", "describe_data", "describe_loaded"),
    "load": ("ImageSet", "load_dataset", "read_images", "split_of"),
    "order": ("batch_indices", "permutation"),
    "read_report": ("ReadReport",),
    "readers": ("is_streamed",),
    "stream": ("StreamedData", "StreamedSplit", "Unreadable", "stream_dataset"),
    "types": ("Dataset", "ImageData", "ImageSplit", "Split", "TrainData", "TrainSplit"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name from its module on first use; AttributeError for any other name."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return found


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__})
