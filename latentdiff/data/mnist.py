"""mnist: the full MNIST, from the data root or from its public mirrors."""

import hashlib
import http.client
import os
import tempfile
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from latentdiff.data.idx import load_idx
from latentdiff.data.locations import data_root, find_mnist
from latentdiff.data.npz import load_npz
from latentdiff.data.raw import RawSplits
from latentdiff.data.resize import ReadOptions
from latentdiff.errors import InputError

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
FILES = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
"""Name -> SHA-256."""
_TIMEOUT, _MAX_BYTES = 20.0, 16 * 2**20


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
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def download(folder: Path, *, mirrors: Sequence[str] = MIRRORS, files: Mapping[str, str] = FILES) -> None:
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


def read(options: ReadOptions) -> RawSplits:
    """See :func:`load_mnist`."""
    return load_mnist(data_root(options.root))


def load_mnist(root: Path) -> RawSplits:
    """MNIST from `root` or `root`/mnist (mnist.npz or the four idx files), else downloaded to `root`/mnist.

    60,000 training images (5,000 of them become the validation set) and 10,000 test images, 28 x 28.
    InputError if the files are not there and cannot be downloaded, or hold something else.
    """
    found = find_mnist(root)
    if found is None:
        download(root / "mnist")
        found = root / "mnist"
    parts = load_npz(found) if found.suffix == ".npz" else load_idx(found)
    shapes = (parts.train.images.shape, parts.test.images.shape if parts.test else None)
    if shapes != ((60_000, 28, 28, 1), (10_000, 28, 28, 1)):
        raise InputError(
            f"{found}: expected MNIST, 60000 and 10000 images of 28 x 28, found {shapes[0]}, {shapes[1]}"
        )
    return parts
