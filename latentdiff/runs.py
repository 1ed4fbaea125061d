"""Run folders: ``runs/NAME/`` with its log, pictures and ``checkpoint-NNNNNNNN/`` folders."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentdiff import __version__
from latentdiff.checkpoint import INDEX, MANIFEST, Checkpoint, open_checkpoint
from latentdiff.compat.folder import open_folder
from latentdiff.config.recipe import Recipe
from latentdiff.errors import InputError
from latentdiff.paths import temporary_beside
from latentdiff.shipped import shipped_folder, shipped_models

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
            shutil.rmtree(path.rename(temporary_beside(path)))  # never half a checkpoint under its name

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


def checkpoints_by_run(runs: Path) -> list[list[Path]]:
    """The checkpoint folders of each run below ``runs``, the newest first; the newest run first.

    The date of a run is the time its newest checkpoint was completed.
    """
    found = [Run(folder).checkpoints()[::-1] for folder in (runs.iterdir() if runs.is_dir() else ())]
    dated = [((folders[0] / MANIFEST).stat().st_mtime, folders) for folders in found if folders]
    return [folders for _, folders in sorted(dated, reverse=True)]


def all_checkpoints(runs: Path) -> list[Path]:
    """The checkpoint folders of all runs below ``runs``, as :func:`checkpoints_by_run` orders them; then the models in the package."""
    found = [path for folders in checkpoints_by_run(runs) for path in folders]
    return found + [model.folder for model in shipped_models()]


def with_fingerprint(runs: Path, fingerprint: str) -> Checkpoint | None:
    """The checkpoint of exactly those files among :func:`all_checkpoints`; None where there is none."""
    for path in all_checkpoints(runs):
        try:
            checkpoint = open_checkpoint(path)
        except InputError:  # a damaged one is not the one
            continue
        if checkpoint.fingerprint == fingerprint:
            return checkpoint
    return None


def recipe_of(checkpoint: Checkpoint, **options: Any) -> Recipe:
    """The recipe of pictures that a checkpoint draws with the ``options``. It is called by its run, without the folders above."""
    name = "/".join(checkpoint.folder.absolute().parts[-2:])
    return Recipe(latentdiff=__version__, run=name[-300:], weights=checkpoint.fingerprint, **options)


def newest(runs: Path, *, wanted: Callable[[dict[str, Any]], bool]) -> Checkpoint | None:
    """The newest checkpoint of the newest run below ``runs`` whose model index is ``wanted``; None where there is none."""
    for path, *_ in checkpoints_by_run(runs):
        checkpoint = open_checkpoint(path)
        if wanted(checkpoint.json(INDEX)):
            return checkpoint
    return None
