"""Locks between processes: the kernel releases them when a process ends, however it ends."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from latentdiff.errors import InputError
from latentdiff.files.untrusted import RegularFile

PATIENCE = 1.0  # seconds: a check of another process holds a lock for an instant
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
_UNSUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}

Busy = Callable[[str], str]
"""The process that holds a lock ("process 12 on host") -> the message of the error where it is held."""


@contextmanager
def locked(path: Path, busy: Busy, *, patience: float = PATIENCE) -> Iterator[str | None]:
    """Hold the lock file ``path``, removed at the end; one that a killed process left is no obstacle.

    InputError by ``busy`` where another process still holds it after ``patience`` seconds. Yields None, or a
    note where the file system has no locks (some network file systems): nothing is held then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = _acquired(path, busy, time.monotonic() + patience)
    if handle is None:
        yield f"{path.parent}: its file system has no locks; take care that no other process writes there"
        return
    try:
        yield None
    finally:
        with suppress(OSError):  # the folder may be gone
            path.unlink()
        os.close(handle)


def check_unlocked(path: Path, busy: Busy) -> None:
    """InputError by ``busy`` while a process holds the lock file ``path``."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:  # there is none, or none that can be read: who wants the lock will see
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(busy(_holder(path))) from None
    except OSError:  # no locks here
        pass
    finally:
        os.close(handle)


def _acquired(path: Path, busy: Busy, deadline: float) -> int | None:
    """A locked file handle; None where there are no locks."""
    while True:
        handle = os.open(path, _FLAGS, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(path, handle):
                os.truncate(handle, 0)
                os.write(handle, f"process {os.getpid()} on {platform.node()}\n".encode())
                return handle
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(handle)
                raise InputError(busy(_holder(path))) from None
            time.sleep(0.02)
        except OSError as error:
            os.close(handle)
            if error.errno in _UNSUPPORTED:
                return None
            raise
        except InputError:
            os.close(handle)
            raise
        os.close(handle)  # its holder has removed it, or still holds it


def _is_still(path: Path, handle: int) -> bool:
    """Whether the name still means the open file. InputError for a name of something else than a file."""
    facts = os.fstat(handle)
    if not stat.S_ISREG(facts.st_mode):
        raise InputError(f"{path}: expected a lock file, found something else; remove it")
    with suppress(FileNotFoundError):
        return os.path.samestat(facts, path.lstat())
    return False


def _holder(path: Path) -> str:
    """The process that holds a lock, as it has written."""
    try:
        text = RegularFile(path).beginning(200).decode("utf-8", "replace").strip()
    except InputError:
        text = ""
    return text if text and text.isprintable() else "another process"
