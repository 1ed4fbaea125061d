"""mnist5k: 5,000 real MNIST digits inside the package."""

import hashlib
import lzma
from importlib.resources import files

import numpy as np

from latentdiff.data.raw import RawSplit, RawSplits
from latentdiff.data.resize import ReadOptions
from latentdiff.errors import InputError

FILE = "mnist5k.xz"
SIDE = 28
COUNTS = (4_000, 500, 500)
"""Images of train, val and test; in each, image i is of class i % 10."""
SHA256 = "3be5eb227b93e2fe0b1b316eed2d418f9f31fd1db27fd8246d45274547b0fe03"
"""Of the decompressed content: 5,000 label bytes, then 5,000 x 28 x 28 pixel bytes, train, val and test in
turn.
"""


def unpack(packed: bytes) -> RawSplits:
    """Decode the bytes of mnist5k.xz; InputError unless the content has the known SHA-256."""
    total = sum(COUNTS)
    size = total * (1 + SIDE * SIDE)
    try:
        content = lzma.LZMADecompressor(format=lzma.FORMAT_XZ).decompress(packed, max_length=size + 1)
    except lzma.LZMAError as error:
        raise InputError(f"{FILE} in the package is damaged ({error}); install latentdiff again") from error
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise InputError(
            f"{FILE} in the package: expected SHA-256 {SHA256}, found {found}; install latentdiff again"
        )
    data = np.frombuffer(bytearray(content), dtype=np.uint8)
    labels, images = data[:total].astype(np.int64), data[total:].reshape(total, SIDE, SIDE, 1)
    train, val = COUNTS[0], COUNTS[0] + COUNTS[1]
    return RawSplits(
        RawSplit(images[:train], labels[:train]),
        RawSplit(images[train:val], labels[train:val]),
        RawSplit(images[val:], labels[val:]),
    )


def read(options: ReadOptions) -> RawSplits:
    """See :func:`load_mnist5k`."""
    return load_mnist5k()


def load_mnist5k() -> RawSplits:
    """The embedded digits, 4000/500/500 and the same number of each class; InputError if the file is
    damaged.
    """
    try:
        packed = files("latentdiff.data").joinpath(FILE).read_bytes()
    except OSError as error:
        raise InputError(f"{FILE} is missing from the package ({error}); install latentdiff again") from error
    return unpack(packed)
