"""SIGINT and SIGTERM end a training after the current step instead of in its middle."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

GRACE = 1.0  # seconds within which the other signal belongs to the same request to stop


class GracefulStop:
    """While entered, remembers the first SIGINT or SIGTERM in ``signum``; a second one acts at once, as
    usual.

    The other signal within a second of the first changes nothing: a terminal and a parent process may send
    one each. ``patient``: no later signal acts, as the system and torchrun both signal each of several
    processes.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.signum: int | None = None
        self._patient, self._since = patient, 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> GracefulStop:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._previous[signum] = signal.signal(signum, self._remember)
        return self

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signum is None:
            self.signum, self._since = signum, now
        elif not self._patient and (signum == self.signum or now - self._since >= GRACE):
            self._act(signum, frame)

    def _act(self, signum: int, frame: FrameType | None) -> None:
        """Do what the handler before this one does."""
        handler = self._previous[signum]
        if callable(handler):
            handler(signum, frame)
        elif handler == signal.SIG_DFL:
            signal.signal(signum, handler)
            signal.raise_signal(signum)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())
