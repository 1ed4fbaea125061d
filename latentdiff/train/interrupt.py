"""SIGINT and SIGTERM end a training after the current step instead of in its middle."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interrupt:
    """While entered, remembers the first SIGINT or SIGTERM in ``signum``; a second one acts at once, as usual.

    ``patient``: later ones change nothing, as a process among several is told by the system and by torchrun alike.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.signum: int | None = None
        self._patient = patient
        self._old: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._old[signum] = signal.signal(signum, self._remember)
        return self

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is None:
            self.signum = signum
        if not self._patient:
            self._restore()

    def _restore(self) -> None:
        while self._old:
            signal.signal(*self._old.popitem())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()
