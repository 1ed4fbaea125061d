"""The files below a folder, in a fixed order; links are followed, but no folder is entered twice."""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from latentdiff.errors import InputError
from latentdiff.files.paths import RESERVED

MAX_DEPTH = 64


HIDDEN = "hidden or system"
_SYSTEM = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "$recycle.bin")
"""What Windows and macOS put into folders (in lower case); their other files have names that start with a
dot.
"""


@dataclass(frozen=True)
class Tree:
    """Relative paths ("/" between the parts) of the regular files, sorted; (path, reason) of what was
    refused.

    ``left_out``: (path, reason) of what is none of the user's: hidden and system files and folders, pipes,
    devices; ``folders``: the folders that were entered, `root` apart.
    """

    files: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]
    left_out: tuple[tuple[str, str], ...] = ()
    folders: tuple[str, ...] = ()


def is_hidden(name: str) -> bool:
    """Whether a file or folder called `name` is hidden, or one that an operating system keeps for itself."""
    return name.startswith(".") or name.lower() in _SYSTEM


def shown(path: str) -> str:
    """`path` for one line of text: unprintable characters escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in path)


def walk(root: Path, *, suffixes: Sequence[str]) -> Tree:
    """List the files below `root` without hidden ones (:func:`is_hidden`).

    Refused: broken links, special files whose name ends in one of `suffixes`, folders that were entered
    already (a link that makes a loop or a double), cannot be read or are nested more than 64 deep. InputError
    if `root` cannot be read.
    """
    files: list[str] = []
    refused: list[tuple[str, str]] = []
    left_out: list[tuple[str, str]] = []
    try:
        start = root.stat()
        os.scandir(root).close()
    except OSError as error:
        raise InputError(f"{root}: expected a readable folder, found: {error.strerror}") from error
    seen = {(start.st_dev, start.st_ino)}
    pending, folders = [""], list[str]()
    while pending:
        folder = pending.pop()
        try:
            names = sorted(os.listdir(root / folder))
        except OSError as error:
            refused.append((folder, f"unreadable folder ({error.strerror})"))
            continue
        for name in names:
            if name.startswith(RESERVED):
                continue
            path = f"{folder}/{name}" if folder else name
            if is_hidden(name):
                left_out.append((path, HIDDEN))
                continue
            is_image = name.lower().endswith(tuple(suffixes))
            try:
                facts = (root / path).stat()
            except OSError as error:
                refused.append((path, f"broken link or unreadable ({error.strerror})"))
                continue
            if stat.S_ISDIR(facts.st_mode):
                if (facts.st_dev, facts.st_ino) in seen:
                    refused.append((path, "folder linked in a loop or twice"))
                elif path.count("/") >= MAX_DEPTH:
                    refused.append((path, "nested too deeply"))
                else:
                    seen.add((facts.st_dev, facts.st_ino))
                    pending.append(path)
                    folders.append(path)
            elif stat.S_ISREG(facts.st_mode):
                files.append(path)
            else:
                (refused if is_image else left_out).append((path, "not a regular file"))
    return Tree(tuple(sorted(files)), tuple(sorted(refused)), tuple(sorted(left_out)), tuple(sorted(folders)))
