"""idx files, the format MNIST is published in (http://yann.lecun.com/exdb/mnist/), plain or gzipped."""

import gzip
import re
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latentdiff.data.class_folders import note_unused_option
from latentdiff.data.npz import check_expansion
from latentdiff.data.raw import RawSplit, RawSplits
from latentdiff.data.read_report import ReadReport
from latentdiff.data.resize import Fit
from latentdiff.data.scan import HIDDEN, is_hidden
from latentdiff.errors import InputError

_NAME = re.compile(r"(train|t10k|test|val)-(images|labels)[-.]idx[13]-ubyte(\.gz)?", re.IGNORECASE)
_RANK = {"images": 3, "labels": 1}


def _idx_files(folder: Path) -> dict[tuple[str, str], Path]:
    """(split, kind) -> file, for split train, val, test and kind images, labels; the plain file before the
    .gz.
    """
    found: dict[tuple[str, str], Path] = {}
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


def read_idx(path: Path, *, rank: int) -> NDArray[np.uint8]:
    """One idx file of unsigned bytes with `rank` axes; a .gz name is decompressed.

    InputError unless the header says just that and the content has the length the header promises.
    """
    source, compressed = str(path), 0
    try:
        compressed = path.stat().st_size
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            header = file.read(4 + 4 * rank)
            magic = bytes((0, 0, 8, rank))
            if len(header) < 4 + 4 * rank or header[:4] != magic:
                raise InputError(
                    f"{source}: expected an idx file (magic {magic.hex()}), found {header[:4].hex()}"
                )
            shape = struct.unpack(f">{rank}I", header[4:])
            size = 1
            for side in shape:
                size *= side
            if path.suffix.lower() == ".gz":
                check_expansion(size, compressed, source=source)
            elif size != compressed - len(header):
                raise InputError(
                    f"{source}: expected {size} bytes for {shape}, found {compressed - len(header)}"
                )
            data = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{source}: expected a readable idx file, found: {error}") from error
    if len(data) != size:
        found = f"{len(data)}" if len(data) < size else "more"
        raise InputError(f"{source}: expected {size} bytes for {shape}, found {found}")
    return np.frombuffer(bytearray(data), dtype=np.uint8).reshape(shape)


def read(path: Path, fit: Fit) -> RawSplits:
    """See :func:`load_idx`; class folders in the options are noted."""
    found = load_idx(path)
    note_unused_option(fit.class_folders, found.report)
    return found


def load_idx(folder: Path) -> RawSplits:
    """Read train-images-idx3-ubyte[.gz], train-labels-idx1-ubyte[.gz] and the same for t10k (or test) and
    val.

    Labels and all but the training images are optional; the report counts the folder's other files.
    InputError for wrong headers, sizes or lengths.
    """
    files, report = _idx_files(folder), ReadReport()
    if ("train", "images") not in files:
        names = ", ".join(path.name for path in files.values())
        raise InputError(
            f"{folder}: expected train-images-idx3-ubyte or train-images-idx3-ubyte.gz, found {names}"
        )
    parts: dict[str, RawSplit] = {}
    used = {path for (split, _), path in files.items() if (split, "images") in files}
    for path in sorted(set(folder.iterdir()) - used):
        report.leave_out(path.name, HIDDEN if is_hidden(path.name) else "not an idx file of a split")
    for split in ("train", "val", "test"):
        if (split, "images") not in files:
            continue
        images = read_idx(files[split, "images"], rank=_RANK["images"])
        if 0 in images.shape:
            raise InputError(
                f"{files[split, 'images']}: expected at least one image, found shape {images.shape}"
            )
        labels = None
        if (split, "labels") in files:
            labels = read_idx(files[split, "labels"], rank=_RANK["labels"])
            if len(labels) != len(images):
                raise InputError(
                    f"{folder}: expected a label for each of {len(images)} images, found {len(labels)}"
                )
        parts[split] = RawSplit(images[..., None], labels)
    return RawSplits(parts["train"], parts.get("val"), parts.get("test"), report=report)
