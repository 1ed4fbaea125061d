"""Between the browser and the studio: values of controls become requests, errors one friendly line."""

from __future__ import annotations

import html
import math
import re
from collections import OrderedDict
from pathlib import Path
from tempfile import gettempdir
from threading import Event, Lock
from typing import Any

from latentdiff.apps.ui.request import PageRequest
from latentdiff.config.base import parse
from latentdiff.errors import InputError, is_out_of_memory

VISITORS = 1000  # whose stop buttons are remembered


class Sessions:
    """The stop buttons of those who visit the page, by the name of their session."""

    def __init__(self) -> None:
        self._stops: OrderedDict[str, Event] = OrderedDict()
        self._lock = Lock()

    def begin(self, session: str, stop: Event) -> None:
        """Remember the stop of a drawing that begins; one that still runs in this session is stopped."""
        self.stop(session)
        with self._lock:
            self._stops[session] = stop
            while len(self._stops) > VISITORS:
                self._stops.popitem(last=False)

    def stop(self, session: str) -> None:
        """End what is drawn in a session at its next step."""
        with self._lock:
            if session in self._stops:
                self._stops.pop(session).set()


def asked(label: Any, prompt: Any, sampler: Any, steps: Any, guidance: Any, seed: Any, n: Any) -> PageRequest:
    """The controls' values, checked. InputError names the first that does not fit."""
    values = {
        "label": label or "",
        "prompt": (prompt or "").strip(),
        "sampler": sampler,
        "guidance": guidance,
    }
    for name, value in (("steps", steps), ("seed", seed), ("n", n)):
        if not isinstance(value, int | float) or not math.isfinite(value) or value != int(value):
            raise InputError(
                f"{name}: expected a whole number, got {'nothing' if value is None else f'{value!r:.60}'}"
            )
        values[name] = int(value)
    return parse(PageRequest, values)


def error_html(error: BaseException) -> str:
    """What went wrong in one line of HTML without marks of its own; re-raises what is no fault of the visitor
    or of the memory.
    """
    if isinstance(error, InputError):
        text = str(error)
    elif is_out_of_memory(error):
        text = "out of memory; fewer images need less"
    else:
        raise error
    return html.escape(" ".join(without_folders(text).split())[:500])


def without_folders(text: str) -> str:
    """``text`` without the folders of absolute paths: visitors need not know where things lie on this
    machine.
    """
    for folder in (Path.cwd(), Path(gettempdir())):
        text = text.replace(f"{folder}/", "")
    return re.sub(r"(?<![\w./])/(?:[^\s/]+/)+", "…/", text)
