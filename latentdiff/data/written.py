"""Images in a folder that this package wrote: which command wrote them, and folders of several results."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from PIL import Image

KEYWORD = "latentdiff"  # of the PNG text chunk that holds a recipe
SOFTWARE = "latentdiff"  # begins the PNG keyword "Software", before the command where it is known
_VARIANT = re.compile(r"[a-z-]+=[^/]+")
_NUMBERED = re.compile(r"[0-9]{6,}\.png")


def variants_in(folder: Path) -> list[str]:
    """The variants that a folder holds, sorted; none where it is a folder of another kind.

    A variant is named as one and holds images of :func:`latentdiff.viz.image_folder.save_images` alone: a
    class may be called ``a=b``.
    """
    top = sorted(path for path in folder.iterdir() if path.is_dir() and _VARIANT.fullmatch(path.name))
    top = [path for path in top if any(path.rglob("*.png")) and foreign_in(path) is None]
    return [
        name
        for path in top
        for name in [f"{path.name}/{inner}" for inner in variants_in(path)] or [path.name]
    ]


def written_by(path: Path) -> str | None:
    """The command that wrote a file of :func:`latentdiff.viz.image_folder.save_images`, "" if unknown.

    None for any other file.
    """
    if not _NUMBERED.fullmatch(path.name):
        return None
    try:
        with path.open("rb") as file, Image.open(file, formats=("PNG",)) as image:
            software, _, command = str(image.info.get("Software", "")).partition(" ")
            return command if software == SOFTWARE else "" if KEYWORD in image.info else None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def is_written(path: Path) -> bool:
    """Whether a file is one of :func:`latentdiff.viz.image_folder.save_images`, by whatever command."""
    return written_by(path) is not None


def foreign_in(
    folder: Path, written: Callable[[Path], bool] = is_written, *, hidden: bool = False
) -> Path | None:
    """The first file below ``folder`` not ``written`` before; ``hidden``: names with a dot count too."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            found = foreign_in(path, written, hidden=hidden)
        else:
            found = None if (path.name.startswith(".") and not hidden) or written(path) else path
        if found is not None:
            return found
    return None
