"""`latentdiff reproduce`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latentdiff.apps.cli.shared.help import Argument, nearest, option
from latentdiff.apps.cli.shared.options import (
    build,
    class_folders_option,
    cli_command,
    device_option,
    flags,
    seed_option,
    threads_option,
)
from latentdiff.apps.cli.shared.outputs import overwrite_option
from latentdiff.apps.studies.catalog import BUDGETS, STUDIES
from latentdiff.config.data import DataOptions
from latentdiff.metrics.names import NAMES, NEEDS_WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from latentdiff.apps.studies.runner import StudyResult

ALL = "all"
OUT = "studies"
FEATURES = [name for name in NAMES if name not in NEEDS_WEIGHTS]


@cli_command(
    "reproduce",
    "latentdiff reproduce --list",
    "latentdiff reproduce forward-process",
    "latentdiff reproduce class-guidance --budget full --data mnist",
    title="Study",
)
@click.argument("study", cls=Argument, required=False)
@option("--list", "listing", is_flag=True, help="List the studies and the question of each.")
@option(
    "--budget",
    type=click.Choice(BUDGETS),
    default="quick",
    help="Amount of computation; quick: about 5 minutes on 2 CPU cores, full: up to an hour there, with the"
    " images of the package.",
)
@option(
    "--data",
    default="mnist5k",
    group="Data",
    help="Data set name or path; see `latentdiff datasets`.",
)
@option(
    "--data-root",
    type=click.Path(path_type=Path),
    group="Data",
    advanced=True,
    help="Folder of downloaded data sets (default: $LATENTDIFF_DATA or ~/.cache/latentdiff/data).",
)
@option(
    "--size",
    group="Data",
    advanced=True,
    help="Resize images to 32 or HEIGHTxWIDTH pixels (default: as the images are, or as the study needs).",
)
@class_folders_option("auto")
@option(
    "--data-colour",
    group="Data",
    advanced=True,
    help=(
        "Colour images, for the study of some; a data set name or path (default: pictures of the model"
        " clothes of the package, or openmoji, if installed)."
    ),
)
@option(
    "--run",
    type=click.Path(path_type=Path),
    group="Model",
    help="Run or checkpoint to study, for studies of one model (default: the study trains it).",
)
@option(
    "--run-colour",
    type=click.Path(path_type=Path),
    group="Model",
    advanced=True,
    help=(
        "Run or checkpoint for the part of a study on colour images (default: one of the package, or the"
        " study trains it)."
    ),
)
@option(
    "--features",
    type=click.Choice(FEATURES),
    advanced=True,
    help="Feature network that scores samples (default: mnist for digits, else efficientnet-lite0).",
)
@seed_option("Seed of weights, data order, noise and resampling.", most=2**31 - 1)
@option(
    "--out",
    type=click.Path(path_type=Path),
    group="Output",
    help="Folder of the study (default: studies/STUDY).",
)
@overwrite_option
@device_option
@threads_option
def command(study: str | None, listing: bool, as_json: bool, **values: Any) -> int:
    """Regenerate a study: figures, numbers and a page to read.

    STUDY is one of --list, or `all`. Writes report.html (a self-contained page), results.json with every
    number, the figures as PNG, and the trained models in runs/. An interrupted study continues where it
    stopped. The same command makes its study again in the same folder, with the models that it trained
    before; another command's study gets a new folder, unless --overwrite.
    """
    if listing:
        return _list(as_json=as_json)
    if study is None:
        raise click.UsageError(f"name a study: {', '.join(STUDIES)} or {ALL}")
    if study not in (*STUDIES, ALL):
        raise click.UsageError(f"no such study {study!r:.60}; {nearest(study, (*STUDIES, ALL))}")
    _check(study, values)
    out = values.pop("out")
    places = {study: out or Path(OUT) / study}
    if study == ALL:
        places = {name: (out or Path(OUT)) / name for name in STUDIES}
    return _run(places, as_json=as_json, **values)


def _check(study: str, values: dict[str, Any]) -> None:
    """A usage error for an option that the study has no use for, or a size that is none."""
    build(DataOptions, {"size": values["size"]})
    for name, has in (("run", "takes_run"), ("run_colour", "takes_run_colour")):
        if values[name] is not None and not (study in STUDIES and getattr(STUDIES[study], has)):
            names = ", ".join(each for each, info in STUDIES.items() if getattr(info, has))
            raise click.UsageError(
                f"--{name.replace('_', '-')} is for studies of one model: {names}; got {study}"
            )
    if study == ALL:
        return
    if values["data_colour"] is not None and not STUDIES[study].colour:
        names = ", ".join(name for name, info in STUDIES.items() if info.colour)
        raise click.UsageError(f"--data-colour is for {names}, {study} uses no other images")
    if values["features"] is not None and not STUDIES[study].trains:
        raise click.UsageError(f"--features scores images of models, {study} trains none")
    if values["features"] is not None and not STUDIES[study].scored:
        raise click.UsageError(f"--features has no part in {study}, which scores pictures by other means")


def _list(*, as_json: bool) -> int:
    from latentdiff.apps.cli.shared.progress import result

    found = [
        {"name": name, "title": study.title, "question": study.question} for name, study in STUDIES.items()
    ]
    width = max(map(len, STUDIES))
    lines = [f"{entry['name']:{width}}  {entry['question']}" for entry in found]
    result({"studies": found}, as_json=as_json, text="\n".join(lines))
    return 0


def _run(
    places: dict[str, Path],
    *,
    threads: int | None,
    device: str,
    overwrite: bool,
    as_json: bool,
    **values: Any,
) -> int:
    """Make the studies one after the other; a signal ends them all, and the same command goes on."""
    import torch

    from latentdiff.apps.cli.shared.progress import TrainingBar, note, result
    from latentdiff.apps.studies.kit.training import StoppedTraining
    from latentdiff.apps.studies.runner import StudyRequest, make
    from latentdiff.parallel.device import resolve_device

    if threads is not None:
        torch.set_num_threads(threads)
    where = resolve_device(device)
    made = []

    def note_study(text: str) -> None:
        note(f"{name}: {text}")

    def command_of(name: str, out: Path) -> str:
        return _command(name, out, values | {"threads": threads, "device": device})

    if not overwrite:
        places = {name: _settled(name, out, command_of) for name, out in places.items()}
    for name, out in places.items():
        command = command_of(name, out)
        request = StudyRequest(study=name, out=out, command=command, device=where, **values)
        try:
            made.append(make(request, reporter=TrainingBar, note=note_study))
        except StoppedTraining as stopped:
            note(f"{name}: stopped by a signal; the same command goes on from here")
            return 128 + stopped.signum
    result({"studies": [_facts(each) for each in made]}, as_json=as_json, text="\n\n".join(map(_text, made)))
    return 0


def _settled(name: str, out: Path, command_of: Callable[[str, Path], str]) -> Path:
    """Where a study goes: ``out``, or beside it where that holds anything but this study by this command."""
    from latentdiff.apps.cli.shared import outputs
    from latentdiff.apps.cli.shared.progress import note
    from latentdiff.apps.studies.runner import goes_on

    if out.exists() and not out.is_dir():
        return out  # which is refused
    return outputs.free(out, lambda path: goes_on(path, name, command_of(name, path)), folder=True, say=note)


def _command(name: str, out: Path, values: dict[str, Any]) -> str:
    """The command line that makes this study again."""
    defaults = {param.name: param.default for param in command.params}
    chosen = {key: value for key, value in values.items() if value not in (None, defaults[key])}
    words = ["latentdiff", "reproduce", name, *flags({"budget": values["budget"]} | chosen)]
    return shlex.join(words if out == Path(OUT) / name else [*words, "--out", str(out)])


def _facts(made: StudyResult) -> dict[str, Any]:
    return {
        "study": made.study,
        "page": str(made.page),
        "results": str(made.results),
        "seconds": round(made.seconds, 2),
        "findings": list(made.findings),
        "warnings": list(made.warnings),
    }


def _text(made: StudyResult) -> str:
    lines = [
        f"{STUDIES[made.study].title} ({made.seconds:.0f} s)",
        *(f"  - {text}" for text in made.findings),
    ]
    return "\n".join([*lines, str(made.page)])
