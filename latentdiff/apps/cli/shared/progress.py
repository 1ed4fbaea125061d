"""Progress on stderr: rich bars on a terminal, plain lines in a pipe.

Results go to stdout, as text or JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from latentdiff.train.progress import Budget

if TYPE_CHECKING:
    import torch
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from latentdiff.data.read_report import ReadReport
    from latentdiff.parallel.processes import Ranks

PLAIN_SECONDS = 10.0  # between plain lines
WIDE = 100  # columns of a terminal, from which on a bar is long
FIXED = 15  # columns of percent, time left and the gaps of a bar
READING_SECONDS = 1.0  # without a bar
_WAITING = "latentdiff.notes"  # in a click context: lines that are not printed yet


# Of several processes of torchrun the first one prints; each prints its own errors.
SILENT = "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("RANK", "0") != "0"


def note(message: str) -> None:
    """One line on stderr."""
    if not SILENT:
        click.echo(message, err=True)


def note_loading() -> None:
    """Note on a terminal that the command has started, where torch is still to be imported."""
    if "torch" not in sys.modules and sys.stderr.isatty():
        note("loading PyTorch")


def note_at_work(message: str) -> None:
    """One line on stderr as soon as the running command gets to its work; none where it is refused before."""
    click.get_current_context().meta.setdefault(_WAITING, []).append(message)


def _note_waiting() -> None:
    context = click.get_current_context(silent=True)
    for message in [] if context is None else context.meta.pop(_WAITING, []):
        note(message)


def together(device: torch.device, what: str) -> tuple[Ranks, torch.device]:
    """The processes of this command, until it ends, and this one's device; ``what`` they share is noted."""
    from latentdiff.parallel.processes import joined

    ranks = click.get_current_context().with_resource(joined(device))
    if ranks.count > 1:
        note(f"{ranks.count} processes share {what}")
    return ranks, device if ranks.count == 1 else ranks.device


def print_report(read: ReadReport, what: str = "data", *, since: Sequence[str] = ()) -> None:
    """What a reader converted, refused and left out, a line each on stderr, without lines ``since`` has."""
    for line in read.lines():
        if line not in since:
            note(f"{what}: {line}")


def note_kernels() -> None:
    """Note that the kernels are missing, unless LATENTDIFF_OPS chooses the fallback."""
    from latentdiff.ops import NATIVE

    if NATIVE.module is None and "LATENTDIFF_OPS" not in os.environ:
        note(
            "without the compiled kernels: the same results, slower; `latentdiff info` shows why and how to"
            " build them (LATENTDIFF_OPS=fallback hides this note)"
        )


def result(values: Mapping[str, Any], *, as_json: bool, text: str) -> None:
    """The result of a command on stdout: ``values`` as one JSON object, or ``text`` for people."""
    _note_waiting()
    if not SILENT:
        click.echo(json.dumps(values, default=str) if as_json else text)


def show_tables(tables: Iterable[Table], *, width: int) -> None:
    """Rich tables on stdout, ``width`` characters wide where that is no terminal.

    Brackets in names are no markup.
    """
    from rich.console import Console

    _note_waiting()
    console = Console(markup=False, emoji=False)
    if not console.is_terminal:
        console.width = width
    for table in tables:
        console.print(table)


class _Bar:
    """A bar on a terminal; in a pipe a line now and then."""

    def __init__(self, title: str, fields: str = "") -> None:
        self._said = time.monotonic()
        self._begun: tuple[float, float] | None = None  # when it was first shown, and the share then
        self._bar = _rich_bar(title, fields) if sys.stderr.isatty() and not SILENT else None

    def show(self, share: float, text: str, *, last: bool = False) -> None:
        now = time.monotonic()
        begun, before = self._begun = self._begun or (now, share)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=min(share, 1.0), values=text)
        elif last or (now - self._said >= PLAIN_SECONDS and 0 < share < 1):
            self._said = now
            left = (now - begun) * max(1 - share, 0) / max(share - before, 1e-9)
            note(f"{min(share, 1):4.0%}  {text}  ETA {left:.0f} s")

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()


class TrainingBar:
    """Reports a training; see :class:`latentdiff.train.progress.Reporter`."""

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._bar: _Bar | None = None
        self._first, self._begun = 0, 0.0

    def note(self, message: str) -> None:
        note(message)

    def start(self, budget: Budget, step: int) -> None:
        self._first, self._begun = step, time.monotonic()
        note(f"training for {budget}" + (f", from step {step}" if step else ""))
        self._bar = _Bar("training", "{task.fields[values]}")

    def step(self, step: int, progress: float, values: Mapping[str, float]) -> None:
        rate = (step - self._first) * self._batch / max(time.monotonic() - self._begun, 1e-9)
        if self._bar is not None:
            text = f"step {step}  loss {values['loss']:.4f}  {rate:.0f} images/s"
            self._bar.show(progress, text, last=progress >= 1)

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()


class SamplingBar:
    """A context whose ``update(done, total)`` draws a bar, and in a pipe a line now and then."""

    def __init__(self, title: str) -> None:
        self._title = title

    def __enter__(self) -> SamplingBar:
        self._bar = _Bar(self._title)
        return self

    def update(self, done: int, total: int) -> None:
        _note_waiting()  # not before, as the first step may still be refused
        self._bar.show(done / total, self._title)

    def __exit__(self, *error: object) -> None:
        self._bar.stop()


class ReadingBar:
    """Progress of reading on a terminal, once it lasts longer than a moment; nothing elsewhere.

    Its ``update`` is an observer of :func:`latentdiff.data.progress.observing`; :meth:`stop` removes the bar.
    """

    def __init__(self) -> None:
        self._begun, self._last = time.monotonic(), 0
        self._bar: Progress | None = None

    def update(self, what: str, done: int, total: int) -> None:
        """``done`` of ``total`` of ``what`` are read."""
        if SILENT or not sys.stderr.isatty():
            return
        if done <= self._last:  # other images
            self.stop()
        self._last = done
        if done == total:
            self.stop()
        elif self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done / total, values=f"{done:,} of {total:,}")
        elif time.monotonic() - self._begun > READING_SECONDS:
            self._bar = _rich_bar(f"reading {what}", "{task.fields[values]}", transient=True)

    def stop(self) -> None:
        """Remove the bar; a later one begins anew."""
        if self._bar is not None:
            self._bar.stop()
        self._begun, self._last, self._bar = time.monotonic(), 0, None


def _rich_bar(
    title: str, fields: str, *, transient: bool = False, console: Console | None = None
) -> Progress:
    """A bar in one line: where that is short, the bar and then the values give way, percent and time stay."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.table import Column

    console = console or Console(stderr=True)
    bar_width = 40 if console.width >= WIDE else 10
    left = console.width - len(title) - bar_width - FIXED
    columns = (
        TextColumn(title, table_column=Column(no_wrap=True)),
        BarColumn(bar_width),
        TaskProgressColumn(table_column=Column(no_wrap=True, min_width=4)),
        TimeRemainingColumn(table_column=Column(no_wrap=True, min_width=7)),
        TextColumn(fields, table_column=Column(no_wrap=True, overflow="ellipsis", max_width=max(1, left))),
    )
    bar = Progress(*columns, console=console, transient=transient)
    bar.add_task(title, total=1.0, values="")
    bar.start()
    return bar
