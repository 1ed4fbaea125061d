"""SIGINT and SIGTERM end a command with one line and the exit code 130 or 143, at any moment."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType
from typing import NoReturn

NAMES: dict[int, str] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
IMPORTS = "<frozen importlib._bootstrap>"  # the file of the frames below which modules are imported
ONE_REQUEST = 1.0  # seconds within which another signal is part of the first one's request


class Terminated(BaseException):
    """SIGTERM came: what KeyboardInterrupt is for SIGINT."""


class Stop:
    """The handler of both signals. The first one raises; the same one again ends the process at once."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._since = 0.0

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signum is None:
            self.signum, self._since = signum, now
            if not _importing(frame):
                raise KeyboardInterrupt if signum == signal.SIGINT else Terminated
        elif signum != self.signum and now - self._since < ONE_REQUEST:
            return
        _leave(signum)  # modules turn an exception that meets them half imported into others, or abort


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == IMPORTS:
            return True
        frame = frame.f_back
    return False


def _leave(signum: int) -> NoReturn:
    """End the process without anything that could fail on the way."""
    try:
        os.write(2, f"error: {NAMES[signum]}\n".encode())
    finally:
        os._exit(128 + signum)


STOP = Stop()


def install() -> None:
    """Handle both signals, unless the process was started to ignore them or torchrun ends it."""
    for signum in NAMES:
        if signal.getsignal(signum) != signal.SIG_IGN and "TORCHELASTIC_RUN_ID" not in os.environ:
            signal.signal(signum, STOP)


def cause(error: BaseException) -> int | None:
    """The signal that ended a command with ``error``, even if a library replaced the exception."""
    return signal.SIGINT if isinstance(error, KeyboardInterrupt) else STOP.signum
