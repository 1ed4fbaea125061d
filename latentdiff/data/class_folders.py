"""Where a folder of images begins, its split folders and its class folders."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from latentdiff.data.captions import nfc
from latentdiff.data.read_report import ReadReport, named
from latentdiff.data.scan import shown
from latentdiff.errors import InputError

OPTION = "--class-folders"
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

_LIKE_SPLITS = {*_SPLITS, "training", "trn", "validate", "dev", "eval", "evaluation", "testing", "tst"}


def is_like_split(name: str) -> bool:
    """Whether a folder or file `name` is probably a split: by its first word, without digits."""
    first = re.match("[a-z]*", name.lower())
    return first is not None and first[0] in _LIKE_SPLITS


def folders_like_splits(paths: Sequence[str]) -> list[str]:
    """The folders on the way to `paths` with names like splits', the first of each path, sorted."""
    found = set[str]()
    for folders in {path.rpartition("/")[0] for path in paths}:
        parts = folders.split("/")
        alike = [k for k, part in enumerate(parts) if part.lower() in _LIKE_SPLITS]
        found |= {"/".join(parts[: k + 1]) for k in alike[:1]}
    return sorted(found)


def folders_beside_splits(places: Sequence[str]) -> list[str]:
    """The top folders that are no splits, sorted."""
    return sorted({class_of(place) for place in places if split_of(place) is None} - {""})


def may_be_classes(places: Sequence[str]) -> bool:
    """Whether a top folder called train may be a class: beside others, without val, test and subfolders."""
    inside = [place.partition("/")[2] for place in places if split_of(place) is not None]
    is_train_alone = {split_of(place) for place in places} == {"train", None}
    return is_train_alone and bool(folders_beside_splits(places)) and not any(map(class_of, inside))


def split_of(path: str) -> str | None:
    """train, val or test by the top folder of a relative path; None for other places."""
    top, slash, _ = path.partition("/")
    return _SPLITS.get(top.lower()) if slash else None


def common_folder(paths: Sequence[str]) -> str:
    """The deepest folder that holds all paths ("a/b/", "" for none); a folder called train is not entered."""
    if not paths:
        return ""
    first, last = min(paths).split("/")[:-1], max(paths).split("/")[:-1]
    common: list[str] = []
    for one, other in zip(first, last, strict=False):
        if one != other or _SPLITS.get(one.lower()) == "train":
            break
        common.append(one)
    return "".join(f"{name}/" for name in common)


def below(paths: Sequence[str], folder: str) -> list[str]:
    """`paths`, all of which begin with `folder`, relative to it."""
    return [path[len(folder) :] for path in paths]


def class_of(place: str) -> str:
    """The class folder of a place (a path below its split folder); "" for an image in none."""
    return place.partition("/")[0] if "/" in place else ""


def folder_labels(
    places: Sequence[str],
    paths: Sequence[str],
    mode: str,
    report: ReadReport,
    *,
    source: str,
    base: str | None,
) -> tuple[NDArray[np.int64] | None, tuple[str, ...] | None]:
    """Labels [N] and class names of images by the class folders of their `places`; None, None where there are
    none.

    Class folders are labels if there are two or more and every image is in one. A remark of the report says
    where some image is not. For messages: `paths` names the images, `base` is the folder that places are
    below, None below split folders. InputError where `mode` is "only" and there are no class folders.
    """
    if mode == "ignore":
        return None, None
    start = common_folder(places)
    tops = [class_of(place) for place in below(places, start)]
    names = sorted({top for top in tops if top})
    # One folder's name may be spelled with composed characters in one split and with decomposed ones in
    # another.
    numbers = {name: number for number, name in enumerate(dict.fromkeys(nfc(name) for name in names))}
    stray = [path for path, top in zip(paths, tops, strict=True) if not top]
    if len(numbers) < 2:
        if mode == "only":
            raise InputError(
                f"{source}: `class_folders` only needs two class folders or more, found {len(numbers)}"
            )
        inner = [place for place, top in zip(places, tops, strict=True) if top]
        deeper = common_folder(inner)
        classes = sorted({top for place in below(inner, deeper) if (top := class_of(place))})
        if stray and len(classes) > 1:
            report.remark(
                f"no labels: of {len(paths)} images {_in_none(stray)}, the class folders ({named(classes)})"
                f" are below {shown((base or '') + deeper)}"
                + ("" if base is None else "; give that folder itself to have labels")
            )
        return None, None
    if stray:
        report.remark(
            f"no labels: of {len(paths)} images {_in_none(stray)}; {OPTION} only leaves such images out and"
            f" takes the {len(numbers)} folders ({named(list(numbers))}) as classes, {OPTION} ignore means no"
            " labels"
        )
        return None, None
    if entered := (base or "") + start:
        report.remark(f"class folders are those in {shown(entered)}, which holds all images")
    return np.array([numbers[nfc(top)] for top in tops], dtype=np.int64), tuple(
        shown(name) for name in numbers
    )


def note_unused_folders(
    folders: Collection[str],
    files: Collection[str],
    *,
    used: Collection[str],
    images: Collection[str],
    report: ReadReport,
) -> None:
    """Say in a remark which folders beside those of `used` images may be meant as classes but have no image
    that is used.

    They are empty, or hold some of the `images` that could not be used. All are places (see
    :func:`class_of`); a folder of other `files` is none.
    """
    if not used:
        return
    start = common_folder(list(used))
    tops = {class_of(place) for place in below(list(used), start)}
    is_one = tops == {""}
    if is_one:  # all in one class folder: others stand beside it, or beside a folder around it
        parts = start.split("/")[:-1]
        levels = {"".join(f"{part}/" for part in parts[:k]) for k in range(len(parts))}
    else:
        levels = {start} if "" not in tops else set()
    occupied, others, refused = _ancestors(used), _ancestors(files), _ancestors(images)
    unused = [
        folder
        for folder in sorted(folders)
        if folder.rpartition("/")[0] in {level.rstrip("/") for level in levels}
        and folder not in occupied
        and (folder in refused or folder not in others)
    ]
    if unused:
        what = f"no labels: all images are in {shown(start)}, " if is_one else ""
        report.remark(f"{what}folders without a usable image are no classes: {named(unused)}")


def _ancestors(paths: Collection[str]) -> set[str]:
    """All folders on the way to `paths`."""
    found = set[str]()
    for folder in {path.rpartition("/")[0] for path in paths}:
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found


def note_unused_option(
    mode: str, report: ReadReport, reason: str = "this data has labels of its own, or none"
) -> None:
    """Remark that :data:`OPTION`, where it is not auto, changes nothing for data but folders of images."""
    if mode != "auto":
        report.remark(f"{OPTION} {mode} changes nothing: it is for folders of images, {reason}")


def note_unused_names(labels_from: str, captions_from: str, report: ReadReport) -> None:
    """Remark that labels and captions by file names are for data whose images have file names."""
    for option, value in (("--labels-from", labels_from), ("--captions-from", captions_from)):
        if value == "name":
            report.remark(f"{option} name changes nothing: the images of this data have no file names")


def _in_none(stray: Sequence[str]) -> str:
    first = f"first: {shown(stray[0])}" if len(stray) > 1 else shown(stray[0])
    return f"{len(stray)} {'is' if len(stray) == 1 else 'are'} in no class folder ({first})"
