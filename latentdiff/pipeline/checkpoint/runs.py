"""Run folders: ``runs/NAME/`` with its log, pictures and ``checkpoint-NNNNNNNN/`` folders."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any

from latentdiff._version import __version__
from latentdiff.config.recipe import Recipe
from latentdiff.errors import InputError
from latentdiff.files.lock import check_unlocked, locked
from latentdiff.files.paths import expanded, printable, temporary_beside
from latentdiff.pipeline.checkpoint.diffusers_folder import open_folder
from latentdiff.pipeline.checkpoint.folder import (
    INDEX,
    MANIFEST,
    Checkpoint,
    open_checkpoint,
    remove_temporaries,
)
from latentdiff.pipeline.checkpoint.pretrained import shipped_folder, shipped_models

LOCK = ".lock"  # in a run that is being trained
LOOKS = 100  # for a checkpoint, while a training deletes those that were found
RUNS = Path("runs")  # where commands keep runs unless --runs says otherwise
_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class Run:
    """A folder that a training writes to."""

    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / "log.jsonl"

    @property
    def config(self) -> Path:
        """The options of the training, for people."""
        return self.folder / "config.yaml"

    def checkpoint_folder(self, step: int) -> Path:
        return self.folder / f"checkpoint-{step:08d}"

    def checkpoints(self) -> list[Path]:
        """Complete checkpoint folders, the newest (of the highest step) last.

        Looks again where all that were listed are gone: a training has deleted them and written another one
        meanwhile.
        """
        for _ in range(LOOKS):
            listed = [path for _, path in self._numbered()]
            whole = [path for path in listed if (path / MANIFEST).is_file()]
            if (
                whole
                or any(path.exists() for path in listed)
                or not (listed or (self.folder / LOCK).exists())
            ):
                return whole
        return []

    def _numbered(self) -> list[tuple[int, Path]]:
        """The folders with the name of a checkpoint, whole or not, by their step."""
        try:
            names = list(self.folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted((int(match[1]), path) for path in names if (match := _NAME.fullmatch(path.name)))

    def date(self) -> float | None:
        """When the newest checkpoint was completed, in seconds since 1970; None without any."""
        for _ in range(LOOKS):
            if not (found := self.checkpoints()):
                return None
            with suppress(FileNotFoundError):
                return (found[-1] / MANIFEST).stat().st_mtime
        return None

    def newest(self) -> Checkpoint | None:
        """The newest complete checkpoint, readable whatever a training does meanwhile; None without any."""
        found = self.checkpoints()
        older = f"; an older one is {found[-2]}" if len(found) > 1 else ""
        try:
            checkpoint = _held(lambda: next(reversed(self.checkpoints()), None))
        except InputError as error:
            raise InputError(f"{error}{older}") from None
        return None if checkpoint is None else replace(checkpoint, instead=older)

    def has_any(self) -> bool:
        """Whether anything in it has the name of a checkpoint, whole or not."""
        return bool(self._numbered())

    def newest_whole(self) -> tuple[Checkpoint | None, tuple[str, ...]]:
        """The newest checkpoint with every byte right, to resume from, and what is wrong with later ones."""
        wrong: list[str] = []
        for _, path in reversed(self._numbered()):
            try:
                checkpoint = open_checkpoint(path).held()
                checkpoint.verify()
            except InputError as error:
                wrong.append(str(error))
            else:
                return checkpoint, tuple(wrong)
        return None, tuple(wrong)

    def damaged_after(self, checkpoint: Checkpoint | None) -> dict[Path, str]:
        """What is wrong with each checkpoint of a later step than ``checkpoint``, or with all where it is
        None.

        InputError for one that is whole, as a training from ``checkpoint`` would end up among what another
        has learned.
        """
        start = None if checkpoint is None else checkpoint.folder.resolve()
        wrong: dict[Path, str] = {}
        for _, path in reversed(self._numbered()):
            if path.resolve() == start:
                return wrong
            try:
                open_checkpoint(path).verify()
            except InputError as error:
                wrong[path] = str(error)
                continue
            if checkpoint is None:
                raise InputError(exists_already(self.folder))
            raise InputError(
                f"{checkpoint.folder}: expected the newest checkpoint of a run, the newest in {self.folder}"
                f" is {path.name}; --init-from takes any"
            )
        if checkpoint is not None:
            found = "found another folder" if checkpoint.stands() else "it was deleted meanwhile"
            raise InputError(
                f"{checkpoint.folder}: expected the newest checkpoint of a run, {found}; --init-from"
                " takes any"
            )
        return wrong

    def _set_aside(self, path: Path) -> Path:
        """Rename a damaged checkpoint, so that nothing reads or deletes it; returns its new path."""
        names = (
            path.with_name(f"damaged-{path.name}{suffix}")
            for suffix in chain([""], (f"-{k}" for k in count(2)))
        )
        return path.rename(next(name for name in names if not name.exists()))

    def prune(self, limit: int) -> None:
        """Delete all but the newest ``limit`` checkpoints."""
        for path in self.checkpoints()[:-limit]:
            self.remove(path)

    def remove(self, path: Path) -> None:
        """Delete a checkpoint after renaming it, so that no part keeps its name; open files stay readable."""
        shutil.rmtree(path.rename(temporary_beside(path)))

    @contextmanager
    def training_from(self, start: Checkpoint | None, note: Callable[[str], None]) -> Iterator[None]:
        """Hold the run, which is made if need be, as the one process that trains in it, from the checkpoint
        ``start`` or anew.

        Damaged checkpoints of later steps, whose names the training will need, are kept under other names;
        ``note`` is called with a line for each. InputError where another process holds the run, or it has a
        later checkpoint that is whole.
        """
        with locked(self.folder / LOCK, self._busy) as missing:
            if missing is not None:
                note(missing)
            for path, damage in self.damaged_after(start).items():
                note(f"{damage}; kept as {self._set_aside(path)}")
            remove_temporaries(self.folder)
            yield

    def check_unlocked(self) -> None:
        """InputError while a training holds the run."""
        check_unlocked(self.folder / LOCK, self._busy)

    def _busy(self, holder: str) -> str:
        return (
            f"{self.folder}: is being trained by {holder}; wait for it or stop it, or choose another --name"
        )


def exists_already(folder: Path) -> str:
    """The error of a new run with the name of an old one."""
    return f"{folder}: exists already; choose another --name, or continue it with --resume {folder}"


def _held(find: Callable[[], Path | None]) -> Checkpoint | None:
    """The checkpoint that ``find`` gives, held open; looked for again where a training takes it away."""
    for _ in range(LOOKS):
        if (folder := find()) is None:
            return None
        try:
            checkpoint = open_checkpoint(folder).held()
        except InputError:
            if find() == folder:
                raise
            continue
        if checkpoint.stands():
            return checkpoint
    raise InputError(f"{folder}: is replaced faster than it can be read; try again")


def locate(path: Path, runs: Path = RUNS) -> Checkpoint:
    """The checkpoint that a path means: a checkpoint folder itself, a folder of diffusers, a run's newest,
    the same below ``runs``, or else a model that ships with the package.

    It can be read to its end whatever a training does meanwhile. InputError where there is none.
    """
    for folder in _candidates(path, runs):
        if (folder / MANIFEST).is_file() and (checkpoint := _held(partial(Path, folder))) is not None:
            return checkpoint
        if folder.is_dir() and (foreign := open_folder(folder)) is not None:
            return foreign
        if (checkpoint := Run(folder).newest()) is not None:
            return checkpoint
    if (shipped := shipped_folder(str(path))) is not None:
        return open_checkpoint(shipped)
    if path.exists():
        raise InputError(
            f"{path}: not a run, expected a checkpoint-* folder or {MANIFEST} in it, or the files of a"
            " diffusers model"
        )
    below = "" if path.is_absolute() else f" here or in {runs}/"
    begun = [f"{each}-denoiser" for each in _candidates(path, runs) if Path(f"{each}-denoiser").is_dir()]
    hint = f"; there is {begun[0]}, of `latentdiff train --name {path.name}`" if begun else ""
    raise InputError(
        f"{path}: no such run or checkpoint folder{below}, and no model of `latentdiff models`{hint}"
    )


def resumable(path: Path, runs: Path = RUNS) -> tuple[Checkpoint, tuple[str, ...]]:
    """The checkpoint to resume at a path, all of it verified, and what is wrong with those of later steps.

    Of a run it is the newest that is whole. InputError where there is none, where a checkpoint that is named
    itself is damaged, and while a process trains in the run.
    """
    folder = next((folder for folder in _candidates(path, runs) if folder.exists()), path)
    named = (folder / MANIFEST).is_file() or _NAME.fullmatch(folder.name) is not None
    run = Run(folder.parent if named else folder)
    if not run.has_any():  # a model of another kind, or nothing
        return locate(path, runs), ()
    run.check_unlocked()
    if not named:
        newest, wrong = run.newest_whole()
        if newest is None:
            raise InputError(
                f"{wrong[0]}; no checkpoint in {run.folder} is whole, start anew under another --name"
            )
        return newest, wrong
    try:
        checkpoint = open_checkpoint(folder).held()
        checkpoint.verify()
    except InputError as error:
        raise InputError(
            f"{error}; --resume {run.folder} continues from its newest whole checkpoint"
        ) from None
    return checkpoint, tuple(run.damaged_after(checkpoint).values())


def _candidates(path: Path, runs: Path) -> list[Path]:
    """The folders that a path may mean: itself, or a run below ``runs``."""
    return list(dict.fromkeys((path, runs / path)))


def recorded_paths(run: Path, path: str) -> list[str]:
    """The existing paths of a file or folder that a run or a checkpoint recorded as ``path``, each once.

    A path that is relative to where the training began is first looked for in the folders above the run, the
    nearest that has it, and then from here. Their content is not checked.
    """
    given = expanded(path)
    above = (folder for base in (Path(os.path.abspath(run)), run.resolve()) for folder in base.parents)
    seen = (
        None
        if given.is_absolute()
        else next((folder / given for folder in above if (folder / given).exists()), None)
    )
    found = {} if seen is None else {seen.resolve(): str(seen)}
    return list((found | ({given.resolve(): path} if given.exists() else {})).values())


def all_checkpoints(runs: Path) -> list[Path]:
    """The checkpoint folders of all runs below ``runs``, the newest first; then the models in the package."""
    found = [path for run in runs_by_date(runs) for path in reversed(run.checkpoints())]
    return found + [model.folder for model in shipped_models()]


def runs_by_date(runs: Path) -> list[Run]:
    """The runs in a folder, the one whose newest checkpoint was completed last first."""
    try:
        folders = list(runs.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    dated = [(run.date(), run) for run in map(Run, folders)]
    return [
        run
        for date, run in sorted(dated, key=lambda each: (each[0] or 0, each[1].folder), reverse=True)
        if date
    ]


def with_fingerprint(runs: Path, fingerprint: str) -> Checkpoint | None:
    """The checkpoint of exactly those files among :func:`all_checkpoints`; None where there is none."""
    for path in all_checkpoints(runs):
        try:
            checkpoint = open_checkpoint(path)
        except InputError:  # a damaged one is not the one
            continue
        if checkpoint.fingerprint == fingerprint:
            return checkpoint.held()
    return None


def recipe_of(checkpoint: Checkpoint, **options: Any) -> Recipe:
    """The recipe of pictures that a checkpoint draws with the ``options``, called by its run."""
    return Recipe(**made_with(checkpoint), **options)


def made_with(checkpoint: Checkpoint) -> dict[str, str]:
    """The fields of a :class:`~latentdiff.config.recipe.MadeWith`, the model called by its run."""
    name = printable("/".join(checkpoint.folder.absolute().parts[-2:]))
    return {"latentdiff": __version__, "run": name[-300:], "weights": checkpoint.fingerprint}


def newest(runs: Path, *, wanted: Callable[[dict[str, Any]], bool]) -> Checkpoint | None:
    """The newest checkpoint of the newest run below ``runs`` whose model index is ``wanted``, or None."""
    for run in runs_by_date(runs):
        checkpoint = run.newest()
        if checkpoint is not None and wanted(checkpoint.json(INDEX)):
            return checkpoint
    return None
