"""idx files, the format MNIST is published in (http://yann.lecun.com/exdb/mnist/), plain or gzipped."""

import gzip
import math
import re
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latentdiff.data.class_folders import note_unused_names, note_unused_option
from latentdiff.data.npz import check_expansion
from latentdiff.data.raw import SPLITS, RawSplit, RawSplits
from latentdiff.data.read_report import ReadReport
from latentdiff.data.resize import Fit
from latentdiff.data.scan import HIDDEN, is_hidden
from latentdiff.errors import InputError

_NAME = re.compile(r"(train|t10k|test|val)-(images|labels)[-.]idx[13]-ubyte(\.gz)?", re.IGNORECASE)

Files = dict[tuple[str, str], Path]
"""(split, kind) -> file, for split train, val, test and kind images, labels."""


def _idx_files(folder: Path) -> Files:
    """The plain file before the .gz."""
    found: Files = {}
    for path in sorted(folder.iterdir()):
        match = _NAME.fullmatch(path.name)
        if match and path.is_file():
            split = match[1].lower().replace("t10k", "test")
            found.setdefault((split, match[2].lower()), path)
    return found


def recognises(path: Path) -> bool:
    """Whether it is a folder with idx files of the usual names."""
    if not path.is_dir():
        return False
    try:
        return bool(_idx_files(path))
    except OSError as error:
        raise InputError(f"{path}: expected a readable folder, found: {error.strerror}") from error


def read(path: Path, fit: Fit) -> RawSplits:
    """Read train-images-idx3-ubyte[.gz], train-labels-idx1-ubyte[.gz], the same for t10k (or test) and val.

    Labels and all but the training images are optional; the report counts the folder's other files.
    InputError for wrong headers, sizes or lengths.
    """
    files, report = _idx_files(path), ReadReport()
    note_unused_option(fit.class_folders, report)
    note_unused_names(fit.labels_from, fit.captions_from, report)
    if ("train", "images") not in files:
        names = ", ".join(file.name for file in files.values())
        raise InputError(
            f"{path}: expected train-images-idx3-ubyte or train-images-idx3-ubyte.gz, found {names}"
        )
    used = {file for (split, _), file in files.items() if (split, "images") in files}
    for other in sorted(set(path.iterdir()) - used):
        report.leave_out(other.name, HIDDEN if is_hidden(other.name) else "not an idx file of a split")
    found = {split: _read_split(path, files, split) for split in SPLITS if (split, "images") in files}
    return RawSplits(found["train"], found.get("val"), found.get("test"), report=report)


def _read_split(folder: Path, files: Files, split: str) -> RawSplit:
    images = _read_file(files[split, "images"], rank=3)
    if 0 in images.shape:
        raise InputError(f"{files[split, 'images']}: expected at least one image, found shape {images.shape}")
    labels = None
    if (split, "labels") in files:
        labels = _read_file(files[split, "labels"], rank=1)
        if len(labels) != len(images):
            raise InputError(
                f"{folder}: expected a label for each of {len(images)} images, found {len(labels)}"
            )
    return RawSplit(images[..., None], labels)


def _read_file(path: Path, *, rank: int) -> NDArray[np.uint8]:
    """One idx file of unsigned bytes with `rank` axes, .gz or not. InputError unless its size is right."""
    is_packed = path.suffix.lower() == ".gz"
    try:
        on_disk = path.stat().st_size
        with gzip.open(path) if is_packed else path.open("rb") as file:
            header = file.read(4 + 4 * rank)
            magic = bytes((0, 0, 8, rank))
            if len(header) < 4 + 4 * rank or header[:4] != magic:
                raise InputError(
                    f"{path}: expected an idx file (magic {magic.hex()}), found {header[:4].hex()}"
                )
            shape = struct.unpack(f">{rank}I", header[4:])
            size = math.prod(shape)
            if is_packed:
                check_expansion(size, on_disk, source=str(path))
            elif size != on_disk - len(header):
                raise InputError(f"{path}: expected {size} bytes for {shape}, found {on_disk - len(header)}")
            data = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: expected a readable idx file, found: {error}") from error
    if len(data) != size:
        found = f"{len(data)}" if len(data) < size else "more"
        raise InputError(f"{path}: expected {size} bytes for {shape}, found {found}")
    return np.frombuffer(bytearray(data), dtype=np.uint8).reshape(shape)
