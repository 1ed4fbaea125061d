"""A folder of images: class and split subfolders, captions; odd files are converted or refused."""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latentdiff.data.captions import SIDECARS, Annotations, read_annotations
from latentdiff.data.class_folders import (
    OPTION,
    below,
    class_of,
    common_folder,
    folder_labels,
    folders_beside_splits,
    folders_like_splits,
    may_be_classes,
    note_unused_folders,
    split_of,
)
from latentdiff.data.decode import (
    FORMATS,
    HEAD_BYTES,
    SUFFIXES,
    FileLocation,
    format_of,
)
from latentdiff.data.file_names import captions_by_name, labels_by_name
from latentdiff.data.folder_pixels import FolderPixels
from latentdiff.data.raw import Listed, RawSplit, RawSplits, labels_of_all
from latentdiff.data.read_report import ReadReport, named
from latentdiff.data.resize import Fit
from latentdiff.data.scan import Tree, shown, walk
from latentdiff.errors import InputError, counted

_OTHER_SUFFIXES = (
    ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif", ".jp2", ".jxl", ".ppm", ".pgm", ".svg",
    ".ico", ".psd",
)  # fmt: skip
"""Image formats that are refused by name, so that the user learns why the picture is missing."""
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.zst", ".zip", ".7z", ".rar")
_TAR_BESIDE = (
    "in a tar file (shards are read by themselves or from a folder without images and folders of its own)"
)
_TABLES = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".xml", ".yaml", ".yml")
_NO_IMAGES = (*SIDECARS, *_ARCHIVES, *_TABLES, ".md", ".html", ".htm", ".pdf", ".py", ".ipynb", ".log",
              ".npz", ".npy", ".safetensors", ".sqlite", ".db", ".url", ".mp4", ".webm", ".mov")  # fmt: skip
"""Files that are taken for what their suffix says; any other is looked into."""


@dataclass(frozen=True)
class Listing:
    """The images below a folder (``paths``), before any is decoded, and the ``others`` that are no images.

    ``base`` is the deepest folder that holds all images, "" or "a/b/": there splits and classes are looked
    for. ``image_files``: ``paths``, and the images that are refused or left out before any is decoded.
    """

    root: Path
    tree: Tree
    base: str
    paths: tuple[str, ...]
    others: tuple[str, ...]
    image_files: tuple[str, ...]
    has_splits: bool
    fit: Fit
    report: ReadReport

    @property
    def pixels(self) -> FolderPixels:
        """What reads the images."""
        return FolderPixels(self.root, self.paths, self.report)

    def splits(self, paths: Sequence[str]) -> tuple[str | None, ...] | None:
        """train, val or test of each; None where the folder defines none."""
        return tuple(split_of(path) for path in below(paths, self.base)) if self.has_splits else None

    def annotations(
        self, paths: Sequence[str]
    ) -> tuple[NDArray[np.int64] | None, tuple[str, ...] | None, tuple[str, ...] | None]:
        """Labels [N], class names and captions of ``paths``; the report counts the files that gave none."""
        found = read_annotations(self.root, self.report, files=self.tree.files, images=self.paths)
        _count_others(self.others, found.used, self.report)
        captions: tuple[str, ...] | None = tuple(found.captions.get(path, "") for path in paths)
        stems = [posixpath.splitext(posixpath.basename(path))[0] for path in paths]
        if self.fit.captions_from == "name":
            captions = captions_by_name(stems, paths, captions, self.report)
        if self.fit.captions_from == "none" or not any(captions or ()):
            captions = None
        return *self._labels(paths, stems, found), captions

    def _labels(
        self, paths: Sequence[str], stems: Sequence[str], found: Annotations
    ) -> tuple[NDArray[np.int64] | None, tuple[str, ...] | None]:
        """Labels [N] and class names of ``paths``, whose file names without suffix are ``stems``."""
        if self.fit.labels_from == "none":
            return None, None
        if self.fit.labels_from == "name":
            return labels_by_name(stems, paths, self.report, source=str(self.root))
        labels, classes = _metadata_labels(self.root, paths, found)
        if not found.labels:
            places = _places(below(paths, self.base), has_splits=self.has_splits)
            base = None if self.has_splits else self.base
            with self.report.explaining(str(self.root)):
                labels, classes = folder_labels(
                    places, paths, self.fit.class_folders, self.report, source=str(self.root), base=base
                )
            if self.fit.class_folders != "ignore":
                self._note_unused_folders(paths)
        return labels, classes

    def _note_unused_folders(self, paths: Sequence[str]) -> None:
        """Say which folders would be classes if they had a usable image, as those of ``paths`` have."""

        def places(found: Sequence[str]) -> list[str]:
            if not self.has_splits:
                return list(found)
            inside = [path[len(self.base) :] for path in found if path.startswith(self.base)]
            return _places([path for path in inside if split_of(path) is not None], has_splits=True)

        note_unused_folders(
            places(self.tree.folders),
            places(self.tree.files),
            used=places(paths),
            images=places(self.image_files),
            report=self.report,
        )


def _places(paths: Sequence[str], *, has_splits: bool) -> list[str]:
    """Paths below their split folders."""
    return [path.partition("/")[2] for path in paths] if has_splits else list(paths)


def list_folder(root: Path, fit: Fit) -> Listing:
    """The files that :func:`read` decodes, with a report of the rest. InputError if there is nothing."""
    report, candidates, others, image_files = ReadReport(), list[str](), list[str](), list[str]()
    tree = walk(root, suffixes=(*SUFFIXES, *_OTHER_SUFFIXES))
    for path, reason in tree.refused:
        report.refuse(path, reason)
    for path, reason in tree.left_out:
        report.leave_out(path, reason)
    for path in tree.files:
        try:
            kind = _format_of(root, path)
        except OSError as error:
            report.refuse(path, f"unreadable ({error.strerror or 'error'})")
            continue
        (image_files if kind else others).append(path)
        if kind in FORMATS:
            candidates.append(path)
        elif kind:
            report.refuse(path, f"unsupported format {kind}")
    if not candidates and not report.refused:
        _count_others(others, set(), report)
        with report.explaining(str(root)):
            raise InputError(
                f"expected PNG, JPEG or WEBP images, found none in {counted(len(tree.files), 'file')}"
                f"{_packed(tree)}"
            )
    base = common_folder(candidates)
    inner = below(candidates, base)
    has_splits = any(split_of(path) == "train" for path in inner)
    has_splits = has_splits and not (fit.class_folders == "only" and may_be_classes(inner))
    _note_doubtful_splits(inner, report, has_splits=has_splits)
    if has_splits:
        if base:
            report.remark(f"train, val and test are those in {shown(base)}, which holds all images")
        outside = {path for path in candidates if split_of(path[len(base) :]) is None}
        for path in sorted(outside):
            report.leave_out(path, "outside train, val and test")
        candidates = [path for path in candidates if path not in outside]
    if fit.class_folders == "only":
        places = _places(below(candidates, base), has_splits=has_splits)
        tops = map(class_of, below(places, common_folder(places)))
        outside = {path for path, top in zip(candidates, tops, strict=True) if not top}
        for path in sorted(outside):
            report.leave_out(path, "outside class folders")
        if len(outside) == len(candidates):
            raise InputError(
                f"{root}: `class_folders` only: expected images in class folders, found {len(outside)} in"
                " none"
            )
        candidates = [path for path in candidates if path not in outside]
    files = tuple(image_files)
    return Listing(root, tree, base, tuple(candidates), tuple(others), files, has_splits, fit, report)


def _note_doubtful_splits(places: Sequence[str], report: ReadReport, *, has_splits: bool) -> None:
    """Say where a folder called train may be a class, and which folders may be meant as splits."""
    if has_splits and (beside := folders_beside_splits(places)):
        way_out = "to use their images, move them into folders called train, val and test"
        if may_be_classes(places):
            way_out = f"{OPTION} only reads all {len(beside) + 1} folders as classes"
        report.remark(
            f"train is taken for a split, so the folders beside it ({named(beside)}) are left out and give no"
            f" labels; {way_out}"
        )
    if not has_splits and not may_be_classes(places) and (alike := folders_like_splits(places)):
        report.remark(
            f"folders named like splits ({named(alike)}) are read as any other folder, not as splits: those"
            " are called train, val and test, train is one of them, and all images are in them"
        )


def _format_of(root: Path, path: str) -> str | None:
    """The image format of a file, by an image's suffix, else by its content; None for no image. OSError."""
    name = path.lower()
    suffix = posixpath.splitext(name)[1]
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]  # what it is indeed is found when it is decoded
    if name.endswith(_NO_IMAGES):
        return None
    with (root / path).open("rb") as file:
        found = format_of(file.read(HEAD_BYTES))
    return found if found in FORMATS or suffix not in _OTHER_SUFFIXES else suffix


def _count_others(others: Sequence[str], used: set[str], report: ReadReport) -> None:
    """Enter into the report what is neither an image nor a text that was read."""
    for path in others:
        name = path.lower()
        suffix = posixpath.splitext(name)[1]
        if path in used:
            continue
        if name.endswith(_ARCHIVES):
            reason = _TAR_BESIDE if suffix == ".tar" else "not unpacked (archive)"
        elif suffix in SIDECARS:
            reason = f"not a caption ({suffix})"
        elif suffix in _TABLES:
            reason = f"without captions or labels of images ({suffix})"
        else:
            reason = f"not an image ({suffix or 'without a suffix'})"
        report.leave_out(path, reason)


def _packed(tree: Tree) -> str:
    """What to do about a folder of archives or of latents, if it is one."""
    if any(path.lower().endswith(".safetensors") for path in tree.files):
        whole = {"manifest.json", "model_index.json"} <= set(tree.files)
        needs = (
            "are for `latentdiff train-denoiser`"
            if whole
            else "need their manifest.json and model_index.json"
        )
        return f"; latents that were encoded {needs}"
    packed = [path for path in tree.files if path.lower().endswith(_ARCHIVES)]
    shards = [path for path in packed if path.lower().endswith(".tar")]
    if shards:
        return (
            f"; {shown(shards[0])}: tar shards are read from a folder without images and folders of its own,"
            " or one by itself; name the shard or such a folder"
        )
    return f"; {shown(packed[0])}: unpack it, tar shards are read without compression" if packed else ""


def _metadata_labels(
    root: Path, paths: Sequence[str], found: Annotations
) -> tuple[NDArray[np.int64] | None, tuple[str, ...] | None]:
    """Labels [N] and class names from metadata, None, None without; InputError if some image has none."""
    if not found.labels:
        return None, None
    files = named(sorted(found.labelled_by))
    try:
        return labels_of_all(
            [found.labels.get(path) for path in paths], paths, source=str(root), where=f" in {files}"
        )
    except InputError as error:
        way_out = f"rename or remove {files} to read the images without these labels"
        raise InputError(f"{error}; correct the labels, or {way_out}") from error


def recognises(path: Path) -> bool:
    """Whether it is a folder."""
    return path.is_dir()


def read(path: Path, fit: Fit) -> RawSplits:
    """All PNG, JPEG and WEBP files below a folder, whatever their names, in the order of their relative
    paths.

    Top folders train, val (valid, validation) and test are the splits if there is a train. Labels come from
    metadata.jsonl or .csv, else from class folders as `fit.class_folders` says, or from file names. A folder
    that holds all images is entered first. InputError if nothing (or less than half) is usable, sizes differ
    without --size, or annotations are wrong.
    """
    listing = list_folder(path, fit)
    paths, images = listing.pixels.read(fit)
    labels, classes, captions = listing.annotations(paths)
    everything = RawSplit(images, labels, captions, tuple(paths))
    found = RawSplits.by_name(everything, listing.splits(paths))
    return replace(found, classes=classes, report=listing.report)


def index(path: Path, fit: Fit) -> Listed:
    """The images of :func:`read` before any is decoded. InputError if there are none."""
    listing = list_folder(path, fit)
    labels, classes, captions = listing.annotations(listing.paths)
    places = [FileLocation(path / name, name) for name in listing.paths]
    splits, stored = listing.splits(listing.paths), listing.pixels.stored(fit)
    return Listed(places, listing.paths, splits, labels, classes, captions, listing.report, stored)
