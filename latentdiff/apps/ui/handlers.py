"""Between the browser and the service: values of controls become requests, errors one line of HTML."""

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

MAX_SESSIONS = 1000  # remembered


class Sessions:
    """The stop events of browser sessions."""

    def __init__(self) -> None:
        self._stops: OrderedDict[str, Event] = OrderedDict()
        self._lock = Lock()

    def begin(self, session: str, stop: Event) -> None:
        """Register the stop event of a new drawing; one that still runs in this session is stopped."""
        self.stop(session)
        with self._lock:
            self._stops[session] = stop
            while len(self._stops) > MAX_SESSIONS:
                self._stops.popitem(last=False)

    def stop(self, session: str) -> None:
        """Stop the drawing of a session at its next step."""
        with self._lock:
            if session in self._stops:
                self._stops.pop(session).set()


def parse_controls(
    label: Any, prompt: Any, sampler: Any, steps: Any, guidance: Any, seed: Any, n: Any
) -> PageRequest:
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
    """The message of an error as one escaped line of HTML; re-raises errors other than InputError and out of
    memory.
    """
    if isinstance(error, InputError):
        text = str(error)
    elif is_out_of_memory(error):
        text = "out of memory; fewer images need less"
    else:
        raise error
    return html.escape(" ".join(without_folders(text).split())[:500])


def without_folders(text: str) -> str:
    """``text`` without the folders of absolute paths, so that the page does not disclose them."""
    for folder in (Path.cwd(), Path(gettempdir())):
        text = text.replace(f"{folder}/", "")
    return re.sub(r"(?<![\w./])/(?:[^\s/]+/)+", "…/", text)
