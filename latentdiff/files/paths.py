"""Paths that users write, and the folder for what can be made again."""

from __future__ import annotations

import os
from pathlib import Path

from latentdiff.errors import InputError

TEMPORARY = ".tmp-"  # begins the names of files and folders that were being written when their process died
RESERVED = ".reserved-"  # begins the names of lock files beside what a running command is to write


def printable(text: str) -> str:
    """The text of a path or an option as UTF-8 can hold it; bytes that are not UTF-8 are escaped."""
    return text.encode(errors="surrogateescape").decode(errors="backslashreplace")


def expanded(path: str | Path) -> Path:
    """The path with a leading ``~`` or ``~name`` as that home folder; unchanged where there is none."""
    return Path(os.path.expanduser(path))


def cache_folder(variable: str, name: str) -> Path:
    """The folder in ``variable`` of the environment, else ~/.cache/latentdiff/``name``.

    InputError for a home folder that is unknown.
    """
    if named := os.environ.get(variable):
        return expanded(named)
    folder = expanded(f"~/.cache/latentdiff/{name}")
    if not folder.is_absolute():
        raise InputError(f"no home folder for ~/.cache/latentdiff/{name}; set ${variable} to a folder")
    return folder


def temporary_beside(path: Path) -> Path:
    """A hidden, short name in the folder of ``path`` for what is being written."""
    return path.with_name(f"{TEMPORARY}{os.getpid()}-{os.urandom(4).hex()}")
