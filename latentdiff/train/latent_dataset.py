"""Data sets that were encoded once: the posteriors of their images in shards, beside the VAE that made them.

A denoiser trains on them without the images and without the VAE's time. The folder is a checkpoint (its
manifest holds a SHA-256 of every file); shards stay on disk and are read where a batch needs them, so that
they may be larger than memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, InstanceOf, Strict
from torch import Tensor

from latentdiff.data import ReadReport, Unreadable, to_float
from latentdiff.data.types import ImageData, ImageSplit, TrainData
from latentdiff.data.written import foreign_in
from latentdiff.errors import InputError
from latentdiff.files.lock import locked
from latentdiff.files.untrusted import MAX_ENTRIES, checked
from latentdiff.nn import Posterior
from latentdiff.pipeline.checkpoint.folder import (
    INDEX,
    MANIFEST,
    Checkpoint,
    Writer,
    open_checkpoint,
    writing,
)
from latentdiff.pipeline.checkpoint.runs import LOOKS
from latentdiff.pipeline.codec import VAECodec
from latentdiff.pipeline.components import index_of, load_codec, save_vae

KIND = "EncodedData"  # the class name in the index of such a folder
CHUNK = 250  # images that are encoded at once; fixed, so that latents do not depend on anything else
SHARD = 64 * 2**20  # bytes of a file of latents, about
MAX_TEXT = 2**28  # bytes of the captions of a shard
SPLITS = ("train", "val")


class Posteriors:
    """Means and log variances of a split, in shards of equal length but the last; ``files``: their bytes."""

    def __init__(self, means: Sequence[Tensor], logvars: Sequence[Tensor], files: Mapping[Path, int]) -> None:
        self._means, self._logvars, self._length = means, logvars, len(means[0])
        self._files = list(files.items())

    def __getitem__(self, indices: Tensor) -> Posterior:
        """Of the images ``indices`` int64 [B], in float32, as stored. Unreadable where a file has changed."""
        for k in (indices // self._length).unique().tolist():
            self._check(*self._files[k])
        return Posterior(self._rows(self._means, indices), self._rows(self._logvars, indices))

    def _check(self, file: Path, size: int) -> None:
        """A process that reads beyond the end of a file that it has mapped is killed."""
        try:
            found = file.stat().st_size
        except OSError as error:
            raise Unreadable(f"{file}: cannot be read any more ({error.strerror})") from None
        if found != size:
            raise Unreadable(f"{file}: has changed, expected {size} bytes, found {found}")

    def _rows(self, shards: Sequence[Tensor], indices: Tensor) -> Tensor:
        which, rows = indices // self._length, indices % self._length
        found = torch.empty(len(indices), *shards[0].shape[1:])
        for k in which.unique().tolist():
            mine = which == k
            found[mine] = shards[k][rows[mine]].float()
        return found


@dataclass(frozen=True, eq=False)
class EncodedSplit:
    """The posteriors of the ``n`` images of a split, with labels int64 [n] or None, captions or None."""

    n: int
    posteriors: Posteriors
    labels: Tensor | None
    captions: tuple[str, ...] | None

    def __len__(self) -> int:
        return self.n


@dataclass(frozen=True, eq=False)
class EncodedData(TrainData):
    """Training and validation images as latents of ``codec``; name and classes are the images'."""

    name: str
    codec: VAECodec
    train: EncodedSplit
    val: EncodedSplit
    classes: tuple[str, ...] | None
    _fingerprint: str
    report: ReadReport = field(default_factory=ReadReport)

    @property
    def shape(self) -> tuple[int, ...]:
        """[channels, height, width] of the images."""
        return self.codec.image_shape

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the hashes of all its files."""
        return self._fingerprint


def write_encoded(
    folder: Path,
    data: ImageData,
    codec: VAECodec,
    *,
    device: torch.device,
    half: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Encode the training and validation images of ``data`` into ``folder``; ``half``: latents as float16.

    InputError where the folder is something else or is being written by another process, or the images are
    not those of the codec.
    """
    check_replaceable(folder)
    with locked(
        folder.with_name(f".{folder.name}.lock"), lambda holder: f"{folder}: is being written by {holder}"
    ):
        if data.shape != codec.image_shape:
            expected = list(codec.image_shape)
            raise InputError(f"{data.name}: has images {list(data.shape)}, the VAE is for {expected}")
        codec, each = codec.to(device), _shard(codec.latent_shape)
        splits, done = {"train": data.train, "val": data.val}, 0
        total = sum(map(len, splits.values()))
        with writing(folder) as writer:
            for name, split in splits.items():
                for k, rows in enumerate(_shards(len(split), each)):
                    _write_shard(writer, f"{name}/{k:05d}", split, rows, codec, device=device, half=half)
                    done += len(range(len(split))[rows])
                    if progress is not None:
                        progress(done, total)
            save_vae(writer, codec.vae, codec.statistics)
            index = index_of(codec.vae, None) | {
                "_class_name": KIND,
                "image": list(data.shape),
                "data": data.name,
                "classes": list(data.classes or ()),
                "half": half,
                "shard": each,
                "labels": data.train.labels is not None,
                "captions": data.train.captions is not None,
            }
            writer.json(INDEX, index | {name: len(split) for name, split in splits.items()})


def _shard(latent: Sequence[int]) -> int:
    """Images of a shard: as many chunks as fit, in float32, at least one."""
    return CHUNK * max(1, SHARD // (8 * CHUNK * math.prod(latent)))


def _shards(n: int, each: int) -> Iterator[slice]:
    return (slice(first, min(first + each, n)) for first in range(0, n, each))


@torch.no_grad()
def _write_shard(
    writer: Writer,
    name: str,
    split: ImageSplit,
    rows: slice,
    codec: VAECodec,
    *,
    device: torch.device,
    half: bool,
) -> None:
    firsts = range(rows.start, rows.stop, CHUNK)
    images = (split.images[first : min(first + CHUNK, rows.stop)] for first in firsts)
    x = (to_float(chunk.to(device)).contiguous(memory_format=torch.channels_last) for chunk in images)
    found = list(map(codec.vae.encode, x))
    tensors = {"mean": torch.cat([p.mean for p in found]), "logvar": torch.cat([p.logvar for p in found])}
    for key, values in tensors.items():
        tensors[key] = values.half() if half else values.float()
        if not bool(torch.isfinite(tensors[key]).all()):
            raise InputError(f"the VAE gives a {key} that is not finite for an image of {name.split('/')[0]}")
    if split.labels is not None:
        tensors["labels"] = split.labels[rows]
    writer.tensors(f"{name}.safetensors", tensors)
    if split.captions is not None:
        writer.json(f"{name}.json", {"captions": list(split.captions[rows])})


def check_replaceable(folder: Path) -> None:
    """InputError for a folder that holds something else than a data set encoded before."""
    if not (folder / MANIFEST).is_file():
        return  # new or empty, or `writing` refuses it
    if not is_encoded(folder):
        raise InputError(
            f"{folder}: holds a checkpoint, expected a new folder or one that was encoded before"
        )
    listed = {MANIFEST, *open_checkpoint(folder).files}
    found = foreign_in(folder, lambda path: path.relative_to(folder).as_posix() in listed, hidden=True)
    if found is not None:
        raise InputError(
            f"{folder}: holds {found.relative_to(folder)}, which is not of the encoded data set and would be"
            " lost; move it away or choose another folder"
        )


def is_encoded(folder: Path) -> bool:
    """Whether a folder is a data set that was encoded. InputError for a damaged checkpoint of any kind."""
    try:
        if not ((folder / MANIFEST).is_file() and (folder / INDEX).is_file()):
            return False  # folders of images may have a manifest of their own
    except OSError:
        return False
    return open_checkpoint(folder).json(INDEX).get("_class_name") == KIND


def load_encoded(folder: Path) -> EncodedData:
    """Open such a folder, checked against its manifest. InputError names what is missing or does not fit."""
    for _ in range(LOOKS):
        checkpoint = open_checkpoint(folder)
        try:
            return _read(checkpoint)
        except InputError:
            if checkpoint.stands():
                raise
    raise InputError(f"{folder}: is replaced faster than it can be read; try again")


def _read(checkpoint: Checkpoint) -> EncodedData:
    folder, index = checkpoint.folder, checkpoint.json(INDEX)
    codec, where = load_codec(checkpoint, index), f"{folder}/{INDEX}"
    if not isinstance(codec, VAECodec):
        raise InputError(f"{where}: expected a data set that was encoded by a VAE, found none")
    classes = checked(list[InstanceOf[str]], index.get("classes"), where, "classes as a list of names")
    train, val = (_read_split(checkpoint, index, name, codec, len(classes)) for name in SPLITS)
    report = ReadReport()
    report.used = len(train) + len(val)
    for path in sorted(path for path in folder.rglob("*") if not path.is_dir()):
        if (name := path.relative_to(folder).as_posix()) not in (MANIFEST, *checkpoint.files):
            report.leave_out(name, "not in the manifest")
    return EncodedData(
        str(index.get("data", "")), codec, train, val, tuple(classes) or None, checkpoint.fingerprint, report
    )


def _read_split(
    checkpoint: Checkpoint, index: Mapping[str, Any], name: str, codec: VAECodec, classes: int
) -> EncodedSplit:
    n, each = (_count(checkpoint, index, key) for key in (name, "shard"))
    means, logvars, labels, captions = list[Tensor](), list[Tensor](), list[Tensor](), list[str]()
    files: dict[Path, int] = {}
    for k, rows in enumerate(_shards(n, each)):
        file, count = f"{name}/{k:05d}.safetensors", len(range(n)[rows])
        tensors = checkpoint.mapped(file)
        files[checkpoint.path(file)] = int(checkpoint.files[file]["bytes"])
        for key, found in (("mean", means), ("logvar", logvars)):
            found.append(
                _checked(tensors.get(key), [count, *codec.latent_shape], f"{checkpoint.folder}/{file}: {key}")
            )
        if index.get("labels"):
            labels.append(_labels(tensors.get("labels"), count, classes, f"{checkpoint.folder}/{file}"))
        if index.get("captions"):
            captions += _captions(checkpoint, f"{name}/{k:05d}.json", count)
    return EncodedSplit(
        n,
        Posteriors(means, logvars, files),
        torch.cat(labels) if labels else None,
        tuple(captions) if index.get("captions") else None,
    )


def _count(checkpoint: Checkpoint, index: Mapping[str, Any], key: str) -> int:
    kind = Annotated[int, Strict(), Field(gt=0, lt=2**40)]
    where, what = f"{checkpoint.folder}/{INDEX}", f"{key} as a number of images"
    found: int = checked(kind, index.get(key), where, what)
    return found


def _checked(tensor: Tensor | None, shape: list[int], where: str) -> Tensor:
    if tensor is None or list(tensor.shape) != shape or tensor.dtype not in (torch.float16, torch.float32):
        found = "none" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"
        raise InputError(f"{where}: expected float16 or float32 of shape {shape}, found {found}")
    return tensor


def _labels(tensor: Tensor | None, count: int, classes: int, where: str) -> Tensor:
    if tensor is None or tensor.dtype != torch.int64 or tensor.shape != (count,):
        raise InputError(f"{where}: expected int64 labels of shape [{count}]")
    if not bool(((tensor >= 0) & (tensor < classes)).all()):
        raise InputError(
            f"{where}: expected labels from 0 to {classes - 1}, found {tensor.min()} to {tensor.max()}"
        )
    return tensor.clone()


def _captions(checkpoint: Checkpoint, file: str, count: int) -> list[str]:
    kind = Annotated[list[InstanceOf[str]], Field(min_length=count, max_length=count)]
    captions = checkpoint.json(file, limit=MAX_TEXT, entries=MAX_ENTRIES + count).get("captions")
    found: list[str] = checked(kind, captions, f"{checkpoint.folder}/{file}", f"{count} captions")
    return found
