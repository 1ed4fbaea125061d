"""The output paths of a command, settled by one rule before any work.

Nothing is replaced. A file or folder whose name is taken goes beside it under the next free number, as
`samples-2.png`, and stderr says so; with ``--overwrite`` it takes the place of what is there. An empty folder
is not taken; a name that another running command is to write is. Refused are two options of one command that
name one file, and with ``--overwrite`` what the command reads and a folder that holds what the command did
not write.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import combinations, count
from pathlib import Path
from typing import Any, NamedTuple

import click

from latentdiff.apps.cli.shared.help import option
from latentdiff.apps.cli.shared.progress import note_at_work
from latentdiff.errors import InputError

# parameters whose files --overwrite never replaces
READ = ("source", "mask", "images", "reference", "data", "prompt_file", "weights", "perceptual_weights")


class Output(click.Path):
    """The type of an option that names what a command writes: a file of one of the ``suffixes``, or a folder
    if there are none.

    ``check(folder)`` raises InputError where ``--overwrite`` must not replace what a folder holds.
    """

    def __init__(self, *suffixes: str, check: Callable[[Path], None] | None = None) -> None:
        super().__init__(path_type=Path, readable=False)
        self.suffixes, self.check = suffixes, check

    @property
    def folder(self) -> bool:
        """Whether it is a folder."""
        return not self.suffixes

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if self.suffixes and path.suffix.lower() not in self.suffixes:
            option = param.opts[0] if param is not None else "the output"
            expected = " or ".join(self.suffixes)
            raise click.UsageError(
                f"{option}: expected a name that ends in {expected}, got {path.name!r}", ctx
            )
        return path


def _check_images(folder: Path) -> None:
    from latentdiff.data.written import foreign_in, written_by

    command = running()
    refuse_foreign(folder, foreign_in(folder, lambda path: written_by(path) == command))


def running() -> str:
    """The name of the running command, which its single images carry."""
    return str(click.get_current_context().command.name)


def refuse_foreign(folder: Path, found: Path | None) -> None:
    """InputError where a file was ``found`` in ``folder`` that the command did not write."""
    if found is not None:
        raise InputError(
            f"{folder}: holds {found.relative_to(folder)}, and --overwrite replaces only what this command"
            " wrote; choose another folder"
        )


IMAGE_FOLDER = Output(check=_check_images)
"""A folder of single images, as of ``--files``."""


overwrite_option = option(
    "--overwrite",
    group="Output",
    is_flag=True,
    help="Replace existing files and folders; otherwise results get the next free name, as NAME-2.",
)


class _Chosen(NamedTuple):
    """An output option that has a value."""

    option: str
    parameter: str
    kind: Output
    path: Path


def settle(values: dict[str, Any]) -> None:
    """Decide where the outputs of the running command go: replaces their paths in ``values`` by those to be
    written. Folders are made, and removed again if the command leaves them empty.

    UsageError and InputError, before any work, for places that cannot be written or must not be replaced.
    """
    if os.environ.get("RANK", "0") != "0":
        return  # of several processes the first one writes
    context = click.get_current_context()
    chosen = [
        _Chosen(param.opts[0], str(param.name), param.type, values[str(param.name)])
        for param in context.command.params
        if isinstance(param.type, Output) and values.get(str(param.name)) is not None
    ]
    for first, second in combinations(chosen, 2):
        _check_apart(first, second)
    settled: list[Path] = []
    for each in chosen:
        path, kind = each.path, each.kind
        if values["overwrite"]:
            _check_not_read(each, values, context)
        if kind.folder and os.path.exists(path) and not os.path.isdir(path):
            raise InputError(f"{each.option} {path}: expected a folder, found a file")
        if values["overwrite"]:
            if kind.check is not None and not _is_free(path, kind):
                kind.check(path)
            _reserve(path)
        else:
            is_free = partial(_is_free_to_reserve, kind=kind, besides=settled)
            path = free(path, is_free, folder=kind.folder, say=note_at_work)
        _check_writable(path, kind)
        settled.append(path)
        values[each.parameter] = path


def _is_free_to_reserve(path: Path, kind: Output, besides: list[Path]) -> bool:
    """Whether nothing is there, nor another output of this command or of another; it is reserved then."""
    if path in besides or not _is_free(path, kind):
        return False
    try:
        _reserve(path)
    except InputError:
        return False
    return _is_free(path, kind)  # another command may have written it before it was reserved


def _remove_if_empty(folder: Path) -> None:
    """Once the command ends, take back those of a folder and its parents that are made now, if left empty."""
    missing = [each for each in (folder, *folder.parents) if not os.path.lexists(each)]
    click.get_current_context().call_on_close(lambda: remove_empty(missing))


def remove_empty(folders: list[Path]) -> None:
    """Take back folders, the innermost first, in which a command that failed has left nothing."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _reserve(path: Path) -> None:
    """Keep a name for the running command until it ends, however it ends. InputError where another command
    has it.

    It is a lock on a hidden file beside it; where that cannot be made, nothing is reserved.
    """
    from latentdiff.files.lock import locked
    from latentdiff.files.paths import RESERVED

    target = Path(os.path.realpath(path))
    lock = target.parent / f"{RESERVED}{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}"
    _remove_if_empty(lock.parent)

    def busy(holder: str) -> str:
        return f"{path}: is being written by {holder}; wait for it or give another name"

    with suppress(OSError):
        click.get_current_context().with_resource(locked(lock, busy, patience=0))


def free(path: Path, is_free: Callable[[Path], bool], *, folder: bool, say: Callable[[str], None]) -> Path:
    """``path`` where it is free, else the first free one of NAME-2, NAME-3 and so on, reported by ``say``.

    InputError for the working folder and the one above it, which have no name to number.
    """
    if is_free(path):
        return path
    if path.name in ("", ".."):
        raise InputError(f"{path}: holds files already, expected a new or empty folder")
    stem, suffix = (path.name, "") if folder else (path.stem, path.suffix)
    numbered = (path.with_name(f"{stem}-{k}{suffix}") for k in count(2))
    found = next(other for other in numbered if is_free(other))
    if os.path.lexists(path):
        say(f"{path} exists: writing {found} (--overwrite replaces it)")
    else:
        say(f"{path} is taken: writing {found}")
    return found


def _is_free(path: Path, kind: Output) -> bool:
    """Whether nothing is there; an empty folder is nothing, for a folder.

    InputError for a folder where a file is to go.
    """
    if not os.path.lexists(path):
        return True
    if kind.folder:
        return os.path.isdir(path) and all(name.startswith(".") for name in os.listdir(path))
    if os.path.isdir(path):
        raise InputError(f"{path}: cannot be written (it is a folder)")
    return False


def _check_writable(path: Path, kind: Output) -> None:
    """InputError unless it can be written; folders that are missing on the way are made."""
    from latentdiff.viz.images import check_place

    _remove_if_empty(path if kind.folder else path.parent)
    try:
        check_place(path / "000000.png" if kind.folder else path)
    except InputError as error:
        raise InputError(str(error).replace(str(path / "000000.png"), str(path), 1)) from None


def _check_apart(first: _Chosen, second: _Chosen) -> None:
    """UsageError where two options name one file, or one names a file in the folder of the other."""
    here, there = (Path(os.path.realpath(each.path)) for each in (first, second))
    if here == there:
        raise click.UsageError(
            f"{first.option} {first.path} and {second.option} {second.path} name the same place; give each"
            " its own"
        )
    for inner, outer, path, folder in ((first, second, here, there), (second, first, there, here)):
        if outer.kind.folder and folder in path.parents:
            raise click.UsageError(
                f"{inner.option} {inner.path} lies in the folder of {outer.option}, which is for single"
                " images alone; give it another place"
            )


def _check_not_read(each: _Chosen, values: dict[str, Any], context: click.Context) -> None:
    """UsageError where --overwrite would replace what the command reads, or a part of it."""
    target = Path(os.path.realpath(each.path))
    for found in [values.get(name) for name in READ] + [context.meta.get("like", (None,))[0]]:
        if not isinstance(found, str | Path) or not os.path.exists(found) or not os.path.lexists(each.path):
            continue
        read = Path(os.path.realpath(found))
        problem = ""
        if read == target:
            problem = "is what the command reads; give it another name"
        elif target in read.parents:
            problem = f"holds {found}, which the command reads; give it another name"
        elif read in target.parents and not _is_free(each.path, each.kind):
            problem = f"is in {found}, which the command reads; give it another place"
        if problem:
            raise click.UsageError(f"{each.option} {each.path} {problem}")
