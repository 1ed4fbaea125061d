"""The pixels of the images of a folder: decoded one by one, or out of the cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latentdiff.data.background import WHITE, Color
from latentdiff.data.decode import Decoded, decode_file
from latentdiff.data.image_cache import ImageCache, key_of, open_cache
from latentdiff.data.npz import MAX_BYTES
from latentdiff.data.progress import reported
from latentdiff.data.read_report import ReadReport, total
from latentdiff.data.resize import Fit, set_channels
from latentdiff.data.scan import shown
from latentdiff.errors import InputError, in_bytes
from latentdiff.files.untrusted import checked

Pixels = NDArray[np.uint8]


class SizesDiffer(InputError):
    """Images of a folder have different sizes, and none to bring them to was given."""


@dataclass(frozen=True)
class Counted:
    """Of a reason: how many images, and the name of the first."""

    count: int
    first: str


@dataclass(frozen=True)
class DecodedFacts:
    """What is stored beside pixels: the folder, and what was found as its images were decoded."""

    source: str
    refused: list[tuple[int, str]]
    converted: dict[str, Counted]
    resized: dict[str, Counted]


def _options(fit: Fit) -> tuple[object, ...]:
    """What the pixels of :meth:`FolderPixels.read` depend on, beside the files; channels come after it."""
    return "images", fit.size, fit.fit, fit.resize, fit.background


class FolderPixels:
    """The images ``paths`` below ``root``; what is found of them goes into ``report``.

    ``refused``: the places in ``paths`` of those that cannot be decoded, with the reason.
    """

    def __init__(self, root: Path, paths: Sequence[str], report: ReadReport) -> None:
        self.root, self.paths, self.report = root, tuple(paths), report
        self.refused: list[tuple[int, str]] = []
        self._cache: ImageCache | None = None
        self._key: str | None = None  # of what is read, where it may be cached

    def decoded(self, under: Color = WHITE, least: int = 0) -> Iterator[tuple[str, Pixels]]:
        """Paths and pixels of the images that can be decoded, in order, with a colour ``under`` transparent
        pixels; ``least`` as of :func:`decode_file`. InputError if most are refused.
        """
        for k, path in reported(tuple(enumerate(self.paths)), "images"):
            result = decode_file(self.root / path, under, least)
            if isinstance(result, Decoded):
                self.report.used += 1
                self.report.convert(path, result.conversions)
                yield path, result.pixels
            else:
                self._refuse(k, result.reason)
        self._check_usable()

    def read(self, fit: Fit) -> tuple[list[str], Pixels]:
        """Paths of the usable images, and their pixels uint8 [N, H, W, C] with the size and channels of
        ``fit``, else their own.

        InputError if they are of several sizes or do not fit into memory.
        """
        found = self._cached(fit, _options(fit))
        if found is not None:
            return self._usable(), set_channels(found, fit.channels or found.shape[3])
        paths, images, size = list[str](), list[Pixels](), 0
        for path, image in self.decoded(fit.under, fit.least):
            self.report.resize(path, fit.effects(image.shape))
            images.append(fit.resized(image))
            paths.append(path)
            size += images[-1].nbytes
            if size > MAX_BYTES:
                raise InputError(
                    f"{self.root}: expected at most {in_bytes(MAX_BYTES)} of pixels, found more; give a"
                    " smaller `size`"
                )
        if self._key is None:
            return paths, self._stacked(paths, images, fit.channels)
        stacked = self._stacked(paths, images, None)
        self._store(stacked)
        return paths, set_channels(stacked, fit.channels or stacked.shape[3])

    def stored(self, fit: Fit) -> Pixels | None:
        """The pixels of all images where they are in the cache, mapped from the disk: uint8 [N, H, W, C].

        They have the size of ``fit``, and channels as :meth:`read` without ``channels``. None where they are
        not there, or some are refused.
        """
        return self._cached(fit, _options(fit), whole=True)

    def sizes(self, fit: Fit) -> tuple[list[str], NDArray[np.int32]]:
        """Paths of the usable images, and int32 [N, 3]: height, width and channels as the files have them,
        on the background of ``fit``.
        """
        found = self._cached(fit, ("sizes", fit.background))
        if found is not None:
            return self._usable(), found.view(np.int32)
        rows = [(path, image.shape) for path, image in self.decoded(fit.under)]
        sizes = np.array([shape for _, shape in rows], dtype=np.int32).reshape(-1, 3)
        self._store(sizes.view(np.uint8))
        return [path for path, _ in rows], sizes

    def _cached(self, fit: Fit, options: Sequence[object], *, whole: bool = False) -> Pixels | None:
        """What was stored of these images with these options; the report as if they were read.

        ``whole``: None where some are refused.
        """
        self._cache = open_cache(fit.image_cache)
        self._key = None if self._cache is None else key_of(self.root, self.paths, options)
        if self._cache is None or self._key is None:
            return None
        try:
            found = self._cache.load(self._key)
            if found is None:
                return None
            array, about = found
            facts: DecodedFacts = checked(DecodedFacts, about, "the cached images", "what was found of them")
            places = {k for k, _ in facts.refused}
            if not places <= set(range(len(self.paths))) or len(array) + len(places) != len(self.paths):
                raise InputError(
                    f"the cached images are damaged (they are {len(array)} of {len(self.paths)})"
                )
            if not (whole and facts.refused):
                self._replay(facts, len(array))
        except InputError as error:
            self.report.remark(f"{error}; the images were read anew")
            return None
        return None if whole and facts.refused else array

    def _replay(self, facts: DecodedFacts, used: int) -> None:
        """Enter into the report what was found as the images were decoded."""
        for k, reason in facts.refused:
            self._refuse(k, reason)
        self.report.used += used
        for kind, counts in (("converted", facts.converted), ("resized", facts.resized)):
            for reason, counted in counts.items():
                self.report.add(kind, reason, counted.first, counted.count)

    def _store(self, array: Pixels) -> None:
        if self._cache is None or self._key is None:
            return
        counts = self.report.as_dict()
        facts = {"source": str(self.root), "refused": self.refused}
        self._cache.save(self._key, array, facts | {kind: counts[kind] for kind in ("converted", "resized")})

    def _refuse(self, k: int, reason: str) -> None:
        self.refused.append((k, reason))
        self.report.refuse(self.paths[k], reason)

    def _usable(self) -> list[str]:
        refused = {k for k, _ in self.refused}
        return [path for k, path in enumerate(self.paths) if k not in refused]

    def _check_usable(self) -> None:
        report, refused = self.report, total(self.report.refused)
        with report.explaining(str(self.root)):
            if refused > report.used:
                name, reason = report.first_refused()
                raise InputError(
                    f"expected mostly usable images, found {refused} of {refused + report.used} refused, "
                    f"the first {name}: {reason}"
                )
            if not report.used:
                raise InputError("expected PNG, JPEG or WEBP images, found none that can be used")

    def _stacked(self, paths: Sequence[str], images: Sequence[Pixels], channels: int | None) -> Pixels:
        """uint8 [N, H, W, C]; C is ``channels``, else 1 if all images are grey, or 3. InputError: sizes
        differ.
        """
        sizes = Counter(image.shape[:2] for image in images)
        if len(sizes) > 1:
            (common, count), (other, _) = sizes.most_common(2)
            example = next(
                path for path, image in zip(paths, images, strict=True) if image.shape[:2] == other
            )
            raise SizesDiffer(
                f"{self.root}: expected images of one size, found {len(sizes)} sizes (height x width):"
                f" {common[0]}x{common[1]} in {count} of {len(images)}, but {other[0]}x{other[1]} in"
                f" {shown(example)}; give one `size`, as 64"
            )
        channels = channels or max(image.shape[2] for image in images)
        return np.stack([set_channels(image, channels) for image in images])
