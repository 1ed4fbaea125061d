"""The log of a training: log.jsonl, and TensorBoard events with --tensorboard."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latentdiff.errors import InputError, pip_install
from latentdiff.files.untrusted import RegularFile

MAX_LINE = 2**16  # bytes of an entry


class TrainLog:
    """Appends one JSON object a line; a resumed run first cuts what was written after its checkpoint."""

    def __init__(self, path: Path | None, *, keep_to: int | None = None, tensorboard: bool = False) -> None:
        self.entries: list[dict[str, Any]] = []
        self._file, self._board = None, None
        if path is None:  # of a process other than the first
            return
        self._board = _summary_writer(path.parent / "tensorboard", keep_to) if tensorboard else None
        entries = read_log(path) if keep_to is not None else []
        self.entries = [entry for entry in entries if entry["step"] <= (keep_to or 0)]
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(entry) + "\n" for entry in self.entries), encoding="utf-8")
        os.replace(temporary, path)
        self._file = path.open("a", encoding="utf-8")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Record ``values`` at ``step`` and flush."""
        entry = {"step": step, **values}
        self.entries.append(entry)
        if self._file is not None:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The entries of a log.jsonl; what follows a damaged line (a kill cuts off the last one) is dropped."""
    if not path.is_file():
        return []
    entries = []
    for line in RegularFile(path).lines(MAX_LINE):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(entry, dict) or not isinstance(entry.get("step"), int):
            break
        entries.append(entry)
    return entries


def _summary_writer(folder: Path, purge_step: int | None) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError(
            f"`tensorboard` needs the package tensorboard: {pip_install('tensorboard')}"
        ) from None
    return SummaryWriter(folder, purge_step=None if purge_step is None else purge_step + 1)
