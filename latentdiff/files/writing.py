"""Files that are whole or absent: written beside their place and moved there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from latentdiff.errors import InputError
from latentdiff.files.paths import temporary_beside


def write_whole(path: str | Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a temporary file that then becomes ``path``, or what ``path`` links to.

    InputError where it cannot be written, and for a device, a FIFO or a socket: those would be replaced by a
    file.
    """
    target = Path(os.path.realpath(path))
    if os.path.lexists(target) and not (os.path.isfile(target) or os.path.isdir(target)):
        raise InputError(
            f"{path}: cannot be written (expected a file or nothing there, found something special)"
        )
    temporary = temporary_beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, target)
    except OSError as error:
        if target.parent.is_dir():
            temporary.unlink(missing_ok=True)
        parent = Path(path).parent
        reason = f"{parent} is a file" if parent.is_file() else error.strerror or str(error)
        raise InputError(f"{path}: cannot be written ({reason})") from None
