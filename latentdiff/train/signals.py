"""SIGINT and SIGTERM end a training after the current step instead of in its middle."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

ONE_REQUEST = 1.0  # seconds within which the other signal is part of the first one's request


class Interrupt:
    """While entered, remembers the first SIGINT or SIGTERM in ``signum``; a second one acts at once, as
    usual.

    The other signal within a second of the first changes nothing: a terminal and a parent process may send
    one each. ``patient``: no later signal does, as a process among several is told by the system and by
    torchrun alike.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.signum: int | None = None
        self._patient, self._since = patient, 0.0
        self._old: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._old[signum] = signal.signal(signum, self._remember)
        return self

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signum is None:
            self.signum, self._since = signum, now
        elif not self._patient and (signum == self.signum or now - self._since >= ONE_REQUEST):
            self._act(signum, frame)

    def _act(self, signum: int, frame: FrameType | None) -> None:
        """Do what the handler before this one does."""
        handler = self._old[signum]
        if callable(handler):
            handler(signum, frame)
        elif handler == signal.SIG_DFL:
            signal.signal(signum, handler)
            signal.raise_signal(signum)

    def _restore(self) -> None:
        while self._old:
            signal.signal(*self._old.popitem())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
