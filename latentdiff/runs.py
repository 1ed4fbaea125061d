"""Run folders: ``runs/NAME/`` with its log, pictures and ``checkpoint-NNNNNNNN/`` folders."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentdiff.checkpoint import INDEX, MANIFEST, TEMPORARY, Checkpoint, open_checkpoint
from latentdiff.compat.folder import open_folder
from latentdiff.errors import InputError
from latentdiff.shipped import shipped_folder

_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class Run:
    """A folder that a training writes to."""

    folder: Path

    def checkpoint_folder(self, step: int) -> Path:
        return self.folder / f"checkpoint-{step:08d}"

    def checkpoints(self) -> list[Path]:
        """Complete checkpoint folders, the newest (of the highest step) last."""
        if not self.folder.is_dir():
            return []
        found = [
            (int(match[1]), path)
            for path in self.folder.iterdir()
            if (match := _NAME.fullmatch(path.name)) and (path / MANIFEST).is_file()
        ]
        return [path for _, path in sorted(found)]

    def prune(self, limit: int) -> None:
        """Delete all but the newest ``limit`` checkpoints."""
        for path in self.checkpoints()[:-limit]:
            shutil.rmtree(path.rename(path.with_name(TEMPORARY + path.name)))  # never half a checkpoint under its name

    @property
    def log(self) -> Path:
        return self.folder / "log.jsonl"


def locate(path: Path) -> Checkpoint:
    """The checkpoint that a path means: a checkpoint folder itself, a folder of diffusers, a run's newest, or else a model that ships with the package.

    InputError where there is none.
    """
    if (path / MANIFEST).is_file():
        return open_checkpoint(path)
    if path.is_dir() and (foreign := open_folder(path)) is not None:
        return foreign
    if not path.exists():
        if (folder := shipped_folder(str(path))) is not None:
            return open_checkpoint(folder)
        raise InputError(f"{path}: no such run or checkpoint folder, and no model of `latentdiff models`")
    checkpoints = Run(path).checkpoints()
    if not checkpoints:
        raise InputError(
            f"{path}: not a run, expected a checkpoint-* folder or {MANIFEST} in it, or the files of a diffusers model"
        )
    return open_checkpoint(checkpoints[-1])


def newest(runs: Path, *, wanted: Callable[[dict[str, Any]], bool]) -> Checkpoint | None:
    """The newest checkpoint of the newest run below ``runs`` whose model index is ``wanted``; None where there is none.

    The date of a run is the time its newest checkpoint was completed.
    """
    candidates: list[tuple[float, Path]] = []
    if not runs.is_dir():
        return None
    for folder in runs.iterdir():
        checkpoints = Run(folder).checkpoints()
        if checkpoints:
            candidates.append(((checkpoints[-1] / MANIFEST).stat().st_mtime, checkpoints[-1]))
    for _, path in sorted(candidates, reverse=True):
        checkpoint = open_checkpoint(path)
        if wanted(checkpoint.json(INDEX)):
            return checkpoint
    return None
