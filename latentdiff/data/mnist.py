"""MNIST: 5,000 of its digits inside the package, or all from the data root or the public mirrors."""

import hashlib
import http.client
import lzma
import os
import urllib.request
from collections.abc import Mapping, Sequence
from importlib.resources import files as resources
from pathlib import Path

import numpy as np

from latentdiff.data import idx, npz
from latentdiff.data.catalog import MNIST_FILES, data_root, find_mnist
from latentdiff.data.raw import RawSplit, RawSplits
from latentdiff.data.resize import Fit, ReadOptions
from latentdiff.errors import InputError
from latentdiff.files.paths import temporary_beside

EMBEDDED = "mnist5k.xz"
SIDE = 28
COUNTS = (4_000, 500, 500)
"""Embedded images of train, val and test; in each, image i is of class i % 10."""
SHA256 = "3be5eb227b93e2fe0b1b316eed2d418f9f31fd1db27fd8246d45274547b0fe03"
"""Of the decompressed content: 5,000 label bytes, then 5,000 x 28 x 28 pixel bytes, split by split."""
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_TIMEOUT, _MAX_BYTES = 20.0, 16 * 2**20


def read(options: ReadOptions) -> RawSplits:
    """The digits of mnist5k or mnist; InputError as in :func:`load_digits`."""
    return load_digits(None if options.name == "mnist5k" else data_root(options.root))


def load_digits(root: Path | None) -> RawSplits:
    """The embedded digits, 4000/500/500 and as many of each class; or MNIST from `root` or `root`/mnist
    (mnist.npz or the four idx files), else downloaded to `root`/mnist.

    Of MNIST: 60,000 training images (5,000 of them become the validation set) and 10,000 test images, 28 x
    28. InputError if files are damaged, or are not there and cannot be downloaded, or hold something else.
    """
    if root is not None:
        return _mnist(root)
    try:
        packed = resources("latentdiff.data").joinpath(EMBEDDED).read_bytes()
    except OSError as error:
        raise InputError(
            f"{EMBEDDED} is missing from the package ({error}); install latentdiff again"
        ) from error
    return unpack(packed)


def unpack(packed: bytes) -> RawSplits:
    """Decode the bytes of mnist5k.xz; InputError unless the content has the known SHA-256."""
    total = sum(COUNTS)
    size = total * (1 + SIDE * SIDE)
    try:
        content = lzma.LZMADecompressor(format=lzma.FORMAT_XZ).decompress(packed, max_length=size + 1)
    except lzma.LZMAError as error:
        raise InputError(
            f"{EMBEDDED} in the package is damaged ({error}); install latentdiff again"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise InputError(
            f"{EMBEDDED} in the package: expected SHA-256 {SHA256}, found {found}; install latentdiff again"
        )
    data = np.frombuffer(bytearray(content), dtype=np.uint8)
    labels, images = data[:total].astype(np.int64), data[total:].reshape(total, SIDE, SIDE, 1)
    cuts = np.cumsum(COUNTS)[:-1]
    train, val, test = map(RawSplit, np.split(images, cuts), np.split(labels, cuts))
    return RawSplits(train, val, test)


def _mnist(root: Path) -> RawSplits:
    found = find_mnist(root)
    if found is None:
        download(root / "mnist")
        found = root / "mnist"
    parts = npz.read(found, Fit()) if found.suffix == ".npz" else idx.read(found, Fit())
    shapes = (parts.train.images.shape, parts.test.images.shape if parts.test else None)
    if shapes != ((60_000, SIDE, SIDE, 1), (10_000, SIDE, SIDE, 1)):
        raise InputError(
            f"{found}: expected MNIST, 60000 and 10000 images of 28 x 28, found {shapes[0]}, {shapes[1]}"
        )
    return parts


def download(
    folder: Path, *, mirrors: Sequence[str] = MIRRORS, files: Mapping[str, str] = MNIST_FILES
) -> None:
    """Fetch the files (name -> SHA-256) that `folder` does not have yet, from the first mirror that has them.

    InputError, one line that says where to put which files, if no mirror delivers the right content.
    """
    reason = ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, sha256 in files.items():
            if (folder / name).is_file():
                continue
            content = None
            for mirror in mirrors:
                try:
                    content = _fetch(mirror + name, sha256)
                    break
                except (OSError, http.client.HTTPException) as error:
                    reason = reason or str(error)
            if content is None:
                break
            _write(folder / name, content)
        else:
            return
    except OSError as error:
        reason = str(error)
    raise InputError(
        f"mnist: expected mnist.npz or {', '.join(files)} in {folder}, found neither and could not download"
        f" them ({' '.join(reason.split())}); put the files there, from {' or '.join(mirrors)}"
    )


def _fetch(url: str, sha256: str) -> bytes:
    """The content at `url`; OSError if it cannot be had or is not what it should be."""
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
        content = bytes(response.read(_MAX_BYTES + 1))
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise OSError(f"{url}: expected SHA-256 {sha256}, found {found}")
    return content


def _write(path: Path, content: bytes) -> None:
    """Write to a temporary name beside `path`, then rename: `path` is whole or not there."""
    temporary = temporary_beside(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
