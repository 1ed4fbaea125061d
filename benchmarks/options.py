"""Types of the options of the benchmarks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from latentdiff.apps.cli.shared.outputs import remove_empty


class Target(click.Path):
    """A file or folder to be written ("-": the terminal), in a folder that is there or can be made."""

    def __init__(self, *, folder: bool = False, suffix: str | None = None) -> None:
        super().__init__(path_type=Path, file_okay=not folder, dir_okay=folder)
        self._folder, self._suffix = folder, suffix

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if str(path) == "-":
            return path
        if self._suffix is not None and path.suffix.lower() != self._suffix:
            self.fail(f"{str(path)!r}: expected a name that ends in {self._suffix}.", param, ctx)
        folder = path if self._folder else path.parent
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self.fail(f"{str(folder)!r}: {error.strerror or error}.", param, ctx)
        if not os.access(folder, os.W_OK):
            self.fail(f"{str(folder)!r}: expected a folder that can be written to.", param, ctx)
        writes = os.environ.get("RANK", "0") == "0"  # of several processes the first one
        if ctx is not None and missing and writes:
            ctx.call_on_close(lambda: remove_empty(missing))
        return path
