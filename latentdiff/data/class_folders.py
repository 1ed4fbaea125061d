"""Where a folder of images begins, its split folders and its class folders."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from latentdiff.data.captions import nfc
from latentdiff.data.report import ReadReport
from latentdiff.data.walk import shown
from latentdiff.errors import InputError

OPTION = "--class-folders"
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_NAMED = 5  # classes that a line names


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
    places: Sequence[str], paths: Sequence[str], mode: str, report: ReadReport, *, source: str, base: str | None
) -> tuple[NDArray[np.int64] | None, tuple[str, ...] | None]:
    """Labels [N] and class names of images by the class folders of their `places`; None, None where there are none.

    Class folders are labels if there are two or more and every image is in one. A remark of the report says where some
    image is not. For messages: `paths` names the images, `base` is the folder that places are below, None below split folders.
    InputError where `mode` is "only" and there are no class folders.
    """
    if mode == "ignore":
        return None, None
    start = common_folder(places)
    tops = [class_of(place) for place in below(places, start)]
    names = sorted({top for top in tops if top})
    # One folder's name may be spelled with composed characters in one split and with decomposed ones in another.
    numbers = {name: number for number, name in enumerate(dict.fromkeys(nfc(name) for name in names))}
    stray = [path for path, top in zip(paths, tops, strict=True) if not top]
    if len(numbers) < 2:
        if mode == "only":
            raise InputError(f"{source}: {OPTION} only needs two class folders or more, found {len(numbers)}")
        inner = [place for place, top in zip(places, tops, strict=True) if top]
        deeper = common_folder(inner)
        classes = sorted({top for place in below(inner, deeper) if (top := class_of(place))})
        if stray and len(classes) > 1:
            report.remark(
                f"no labels: of {len(paths)} images {_in_none(stray)}, the class folders ({_named(classes)}) are below "
                f"{shown((base or '') + deeper)}" + ("" if base is None else "; give that folder itself to have labels")
            )
        return None, None
    if stray:
        report.remark(
            f"no labels: of {len(paths)} images {_in_none(stray)}; {OPTION} only leaves such images out and takes "
            f"the {len(numbers)} folders ({_named(list(numbers))}) as classes, {OPTION} ignore means no labels"
        )
        return None, None
    if entered := (base or "") + start:
        report.remark(f"class folders are those in {shown(entered)}, which holds all images")
    return np.array([numbers[nfc(top)] for top in tops], dtype=np.int64), tuple(shown(name) for name in numbers)


def _in_none(stray: Sequence[str]) -> str:
    first = f"first: {shown(stray[0])}" if len(stray) > 1 else shown(stray[0])
    return f"{len(stray)} {'is' if len(stray) == 1 else 'are'} in no class folder ({first})"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(shown(name) for name in names[:_NAMED]) + more
