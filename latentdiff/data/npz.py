""".npz files with x_train/y_train/x_test/y_test, without trust: nothing is unpickled, sizes are checked."""

import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from latentdiff.data.background import flatten_alpha
from latentdiff.data.class_folders import note_unused_names, note_unused_option
from latentdiff.data.raw import RawSplit, RawSplits
from latentdiff.data.read_report import ReadReport
from latentdiff.data.resize import Fit
from latentdiff.errors import InputError, in_bytes

MAX_BYTES = 8 * 2**30
"""Largest array, uncompressed."""
BOMB_RATIO, BOMB_BYTES = 200, 64 * 2**20
"""Arrays above BOMB_BYTES may be at most BOMB_RATIO times as large as what is in the file (MNIST: 5)."""
_CHUNK = 1024
_DAMAGED = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError)
_KEYS = {
    **{part: (f"x{part}", f"y{part}", f"caption{part}") for part in ("_train", "_val", "_test", "")},
    "samples": ("images", "labels", "captions"),
    "unnamed": ("arr_0", "arr_1", ""),
}
"""Images, labels and captions of each part; the last two are of images without a split: as `latentdiff
sample` writes
them, and as `np.savez(file, images, labels)` and the samplers of other libraries (guided-diffusion) do."""


def check_expansion(size: int, compressed: int, *, source: str) -> None:
    """InputError if `size` bytes out of `compressed` bytes look like a decompression bomb."""
    if size > MAX_BYTES:
        raise InputError(
            f"{source}: expected at most {in_bytes(MAX_BYTES)} uncompressed, found {in_bytes(size)}"
        )
    if size > BOMB_BYTES and size > BOMB_RATIO * max(compressed, 1):
        raise InputError(
            f"{source}: expected at most {BOMB_RATIO} times its compressed size, found {size} bytes in"
            f" {compressed}"
        )


def _read_header(
    member: IO[bytes], *, key: str, source: str
) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Shape, Fortran order and dtype of an npy stream, which then stands at the data (numpy's NEP 1)."""
    try:
        version = npy.read_magic(member)
        if version not in ((1, 0), (2, 0)):
            raise InputError(
                f"{source}: expected {key} in npy format 1.0 or 2.0, found {version[0]}.{version[1]}"
            )
        return (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(member)
    except (SyntaxError, TypeError, RecursionError, tokenize.TokenError) as error:  # out of numpy
        raise InputError(f"{source}: expected an npy header in {key}, found something else") from error


def _read_array(archive: zipfile.ZipFile, key: str, *, source: str) -> NDArray[np.generic]:
    """One array of the archive, its header checked against the member's size before anything is allocated."""
    info = archive.getinfo(f"{key}.npy")
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InputError(
            f"{source}: expected {key} stored or deflated, found encryption or another compression"
        )
    check_expansion(info.file_size, info.compress_size, source=f"{source}: {key}")
    with archive.open(info) as member:
        shape, fortran, dtype = _read_header(member, key=key, source=source)
        if dtype.hasobject or dtype.kind not in "buifU":
            raise InputError(f"{source}: expected numbers or strings in {key}, found {dtype}")
        size = dtype.itemsize
        for side in shape:
            if side < 0:
                raise InputError(f"{source}: expected sizes of 0 and more in {key}, found shape {shape}")
            size *= side
        if size != info.file_size - member.tell():
            raise InputError(
                f"{source}: expected {size} bytes for {key} {shape} {dtype}, found"
                f" {info.file_size - member.tell()}"
            )
        data = bytearray()
        while piece := member.read(2**20):
            data += piece
        if len(data) != size:
            raise InputError(f"{source}: expected {size} bytes for {key}, found {len(data)}")
    if dtype.itemsize == 0 or size == 0:
        return np.zeros(shape, dtype)
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _to_uint8(array: NDArray[np.generic], report: ReadReport, *, key: str, source: str) -> NDArray[np.uint8]:
    """Pixels as uint8, with a remark if they were converted; floats must be in [0, 1], integers in 0..255."""
    if array.dtype == np.uint8:
        return array.view(np.uint8)
    if array.dtype.kind not in "buif":
        raise InputError(f"{source}: expected numbers in {key}, found {array.dtype}")
    scale, high = (255.0, 1) if array.dtype.kind in "fb" else (1.0, 255)
    pixels = np.empty(array.shape, dtype=np.uint8)
    for start in range(0, len(array), _CHUNK):
        chunk = array[start : start + _CHUNK].astype(np.float64)
        if not np.isfinite(chunk).all():
            raise InputError(f"{source}: expected finite pixels in {key}, found NaN or infinity")
        if chunk.min() < 0 or chunk.max() > high:
            found = f"{chunk.min():g}..{chunk.max():g}"
            raise InputError(
                f"{source}: expected {array.dtype} pixels of {key} in 0..{high}, found {found}; "
                "give uint8 in 0..255 or floats in 0..1"
            )
        pixels[start : start + _CHUNK] = np.rint(chunk * scale)
    report.remark(f"converted {array.dtype} images in 0..{high} to uint8")
    return pixels


def _to_channels_last(images: NDArray[np.uint8], *, key: str, source: str) -> NDArray[np.uint8]:
    """[N, H, W], [N, H, W, C] or [N, C, H, W] with C in 1, 3, 4 as [N, H, W, C], the first that fits."""
    shape = images.shape
    if images.ndim == 3:
        images = images[..., None]
    elif images.ndim == 4 and shape[3] not in (1, 3, 4) and shape[1] in (1, 3, 4):
        images = images.transpose(0, 2, 3, 1)
    if images.ndim != 4 or images.shape[3] not in (1, 3, 4):
        raise InputError(
            f"{source}: expected {key} as [N, H, W], [N, H, W, C] or [N, C, H, W], found {shape}"
        )
    if 0 in images.shape:
        raise InputError(f"{source}: expected at least one image in {key}, found shape {shape}")
    return images


def _read_part(
    archive: zipfile.ZipFile, part: str, used: set[str], report: ReadReport, fit: Fit, *, source: str
) -> RawSplit:
    """The images of a part, with its labels and captions (see _KEYS); `used` collects their keys."""
    names = set(archive.namelist())
    key, label, caption = _KEYS[part]
    pixels = _to_uint8(_read_array(archive, key, source=source), report, key=key, source=source)
    images = _to_channels_last(pixels, key=key, source=source)
    used.add(key)
    if images.shape[3] == 4:
        images = flatten_alpha(images, fit.under)
        report.remark(f"composited images with alpha on {fit.background or 'white'}")
    labels = captions = None
    if f"{label}.npy" in names:
        labels = _read_array(archive, label, source=source)
        labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
        if part == "unnamed" and (labels.shape != (len(images),) or labels.dtype.kind not in "iu"):
            labels = None  # an array without a name is not always labels
        else:
            _check_rows(labels, len(images), key=label, images=key, source=source)
            used.add(label)
    if f"{caption}.npy" in names:
        texts = _read_array(archive, caption, source=source)
        _check_rows(texts, len(images), key=caption, images=key, source=source)
        if texts.dtype.kind != "U":
            raise InputError(f"{source}: expected strings in {caption}, found {texts.dtype}")
        captions = tuple(str(text) for text in texts.tolist())
        used.add(caption)
    return RawSplit(images, labels, captions)


def _check_rows(array: NDArray[np.generic], n: int, *, key: str, images: str, source: str) -> None:
    """InputError unless `array` is [n]."""
    if array.shape != (n,):
        raise InputError(
            f"{source}: expected {key} [{n}], one for each image of {images}, found {list(array.shape)}"
        )


def recognises(path: Path) -> bool:
    """Whether it is a file whose name ends in .npz."""
    return path.is_file() and path.suffix.lower() == ".npz"


def read(path: Path, fit: Fit) -> RawSplits:
    """Read x_train (x_val, x_test optional) or x, with labels y_* and captions caption_*, or images, labels,
    captions.

    Or arr_0 and arr_1, images and labels that were saved without names. Images [N, H, W], [N, H, W, C] or
    [N, C, H, W], C in 1, 3, 4; uint8, other integers in 0..255, floats in [0, 1]. The report counts other
    arrays. InputError for damaged files, object arrays, zip bombs, missing keys, wrong shapes or values.
    """
    source, report, used = str(path), ReadReport(), set[str]()
    note_unused_option(fit.class_folders, report)
    note_unused_names(fit.labels_from, fit.captions_from, report)
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            split = [part for part in ("_train", "_val", "_test") if f"{_KEYS[part][0]}.npy" in names]
            whole = [part for part in ("", "samples", "unnamed") if f"{_KEYS[part][0]}.npy" in names][:1]
            found = split if "_train" in split else whole
            if not found:
                keys = ", ".join(sorted(name.removesuffix(".npy") for name in names)[:8]) or "nothing"
                raise InputError(
                    f"{source}: expected the arrays x_train, y_train, x_test, y_test, or x, images or arr_0,"
                    f" found {keys}"
                )
            parts = {part: _read_part(archive, part, used, report, fit, source=source) for part in found}
            for name in sorted(names):
                if name.removesuffix(".npy") not in used:
                    report.leave_out(name.removesuffix(".npy"), "neither images nor their labels or captions")
    except InputError:
        raise
    except _DAMAGED as error:
        raise InputError(
            f"{source}: expected a readable .npz file, found: {' '.join(str(error).split())}"
        ) from error
    except MemoryError as error:
        raise InputError(f"{source}: expected arrays that fit into memory, found larger ones") from error
    if found == whole:
        return RawSplits(parts[found[0]], unsplit=True, report=report)
    return RawSplits(parts["_train"], parts.get("_val"), parts.get("_test"), report=report)
