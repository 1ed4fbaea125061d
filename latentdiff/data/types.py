"""Splits and data sets: the interfaces that trainings read, and data sets held in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from latentdiff.data.read_report import ReadReport


class TrainSplit(Protocol):
    """A split that a denoiser trains on: labels int64 [N] or None, N captions or None, and N as its length.

    Implementations: :class:`Split`, :class:`latentdiff.data.StreamedSplit` and
    :class:`latentdiff.train.latent_dataset.EncodedSplit`.
    """

    @property
    def labels(self) -> Tensor | None: ...
    @property
    def captions(self) -> tuple[str, ...] | None: ...
    def __len__(self) -> int: ...


class Images(Protocol):
    """uint8 [N, C, H, W]: a tensor, or :class:`latentdiff.data.stream.LazyImages`."""

    @property
    def shape(self) -> torch.Size: ...
    def __len__(self) -> int: ...
    def __getitem__(self, which: Tensor | slice, /) -> Tensor: ...
    def split(self, size: int, /) -> Iterable[Tensor]: ...


class ImageSplit(TrainSplit, Protocol):
    """A split with its images, in memory or on the disk."""

    @property
    def images(self) -> Images: ...
    def __hash__(self) -> int: ...

    def prefetch(self, indices: Tensor) -> None:
        """Hint that the images ``indices`` int64 [K] are read next."""

    def read(self, source: str) -> Split:
        """The split in memory; InputError, which names ``source``, where it does not fit."""


@dataclass(frozen=True, eq=False)
class Split:
    """Images of one purpose (train, val or test), held as uint8.

    images: uint8 [N, C, H, W], C is 1 or 3; labels: int64 [N] or None; captions: N strings ("" where an image
    has none) or None. ValueError if dtypes or lengths disagree.
    """

    images: Tensor
    labels: Tensor | None = None
    captions: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ValueError(
                f"expected uint8 images [N, C, H, W], found {self.images.dtype} {tuple(self.images.shape)}"
            )
        n = self.images.shape[0]
        if self.labels is not None and (self.labels.dtype != torch.int64 or self.labels.shape != (n,)):
            raise ValueError(
                f"expected int64 labels [{n}], found {self.labels.dtype} {tuple(self.labels.shape)}"
            )
        if self.captions is not None and len(self.captions) != n:
            raise ValueError(f"expected {n} captions, found {len(self.captions)}")

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def prefetch(self, indices: Tensor) -> None:
        """Nothing to do: the images are in memory."""

    def read(self, source: str) -> Split:
        """The split itself."""
        return self


class TrainData:
    """Training and validation images, or their latents, with the shape of the images and the class names."""

    name: str
    train: TrainSplit
    val: TrainSplit
    classes: tuple[str, ...] | None  # index = label; None without labels
    report: ReadReport

    @property
    def shape(self) -> tuple[int, ...]:
        """[channels, height, width] of the images."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the training split."""
        raise NotImplementedError

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for the user: files that were converted, refused or left out."""
        return self.report.lines()

    @property
    def sizes(self) -> dict[str, int]:
        """Images by split."""
        return {"train": len(self.train), "val": len(self.val)}

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (RGB)."""
        return self.shape[0]

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.shape[1]

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.shape[2]

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 if the data has no labels."""
        return 0 if self.classes is None else len(self.classes)


class ImageData(TrainData):
    """Three splits of images: :class:`Dataset` in memory, :class:`latentdiff.data.StreamedData` on disk."""

    train: ImageSplit
    val: ImageSplit
    test: ImageSplit

    @property
    def shape(self) -> tuple[int, int, int]:
        """[channels, height, width] of the images."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width

    @property
    def sizes(self) -> dict[str, int]:
        """Images by split."""
        return super().sizes | {"test": len(self.test)}


@dataclass(frozen=True, eq=False)
class Dataset(ImageData):
    """Three splits of one shape, the class names (None: unlabeled), the report. ValueError: shapes differ."""

    name: str
    train: Split
    val: Split
    test: Split
    classes: tuple[str, ...] | None = None
    report: ReadReport = field(default_factory=ReadReport)

    def __post_init__(self) -> None:
        shapes = {tuple(split.images.shape[1:]) for split in (self.train, self.val, self.test)}
        if len(shapes) != 1:
            raise ValueError(f"expected one image shape in train, val and test, found {sorted(shapes)}")

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the training images' shape and pixels, and of the training labels and captions."""
        digest = hashlib.sha256(repr(tuple(self.train.images.shape)).encode())
        digest.update(self.train.images.contiguous().cpu().numpy().data)
        if self.train.labels is not None:
            digest.update(self.train.labels.contiguous().cpu().numpy().astype("<i8").data)
        if self.train.captions is not None:
            digest.update("\0".join(self.train.captions).encode(errors="surrogatepass"))
        return digest.hexdigest()
