"""Make a study: its folder, its data, the run of its module, results.json and report.html."""

from __future__ import annotations

import datetime
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from latentdiff import ops
from latentdiff._version import __version__
from latentdiff.apps.studies.catalog import STUDIES, Budget
from latentdiff.apps.studies.kit.context import CPU, GIVEN, StudyContext
from latentdiff.apps.studies.report.blocks import Report, to_json
from latentdiff.apps.studies.report.html import page
from latentdiff.config.base import parse
from latentdiff.config.data import DataOptions
from latentdiff.data import Dataset, load_dataset
from latentdiff.errors import InputError
from latentdiff.files.system import processor_name
from latentdiff.files.untrusted import read_json
from latentdiff.files.writing import write_whole
from latentdiff.pipeline.checkpoint.folder import INDEX
from latentdiff.pipeline.checkpoint.index import image_shape
from latentdiff.pipeline.checkpoint.runs import locate
from latentdiff.train.progress import Reporter

N = TypeVar("N")
SCHEMA = 1  # of results.json; grows when a field changes its meaning
MODULES = {name: f"latentdiff.apps.studies.{info.module}" for name, info in STUDIES.items()}
COLOUR = "openmoji"  # taken where it is installed
LIBRARIES = ("torch", "numpy", "safetensors", "pydantic", "Pillow", "matplotlib")


@dataclass(frozen=True)
class Study(Generic[N]):
    """A study: the settings of both budgets, and the function that runs it."""

    quick: N
    full: N
    run: Callable[[StudyContext, N], Report]

    def settings(self, budget: Budget) -> N:
        return self.quick if budget == "quick" else self.full


@dataclass(frozen=True)
class StudyRequest:
    """The options of `latentdiff reproduce`; ``command`` is the whole command line."""

    study: str
    budget: Budget
    out: Path
    command: str
    data: str = "mnist5k"
    data_root: Path | None = None
    size: str | None = None
    class_folders: str | None = None
    data_colour: str | None = None
    seed: int = 0
    device: torch.device = CPU
    features: str | None = None
    run: Path | None = None
    run_colour: Path | None = None


@dataclass(frozen=True)
class StudyResult:
    """The folder of a finished study, its findings and warnings."""

    study: str
    out: Path
    seconds: float
    findings: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def page(self) -> Path:
        return self.out / "report.html"

    @property
    def results(self) -> Path:
        return self.out / "results.json"


def find(name: str) -> Study[Any]:
    """The study of that name; InputError names the known ones."""
    if name not in STUDIES:
        raise InputError(f"unknown study {name!r:.60}, expected one of {', '.join(STUDIES)}")
    study = getattr(import_module(MODULES[name]), STUDIES[name].variable)
    assert isinstance(study, Study)
    return study


def make(
    request: StudyRequest,
    *,
    reporter: Callable[[int], Reporter],
    note: Callable[[str], None],
    settings: Any = None,
) -> StudyResult:
    """Run a study and write its folder; ``settings`` stand in for those of the budget.

    InputError for bad input.
    """
    study, info = find(request.study), STUDIES[request.study]
    chosen = study.settings(request.budget) if settings is None else settings
    begun, started = time.perf_counter(), datetime.datetime.now(datetime.UTC)
    data = _loaded(request, None)
    for line in data.notes:
        note(f"data: {line}")
    named = request.data_colour is not None
    colour, missing = _colour(request) if info.colour and (named or not info.ships_colour) else (None, "")
    _claim(request.out, request.study)
    context = StudyContext(
        out=request.out,
        load=partial(_loaded, request),
        data=data,
        seed=request.seed,
        reporter=reporter,
        note=note,
        device=request.device,
        features=request.features,
        colour=colour,
        colour_missing=missing,
        run=request.run,
        run_colour=request.run_colour,
    )
    report = study.run(context, chosen)
    seconds = time.perf_counter() - begun
    results = {
        "schema": SCHEMA,
        "study": request.study,
        "title": info.title,
        "question": info.question,
        "command": request.command,
        "budget": request.budget,
        "numbers": asdict(chosen),
        "seed": request.seed,
        "data": _described(data),
        "data_colour": None if colour is None else _described(colour),
        "date": started.isoformat(timespec="seconds"),
        "seconds": seconds,
        "seconds_by_part": context.parts,
        "hardware": _hardware(request.device),
        "versions": {
            "latentdiff": __version__,
            "python": platform.python_version(),
            **{name: _version(name) for name in LIBRARIES},
        },
        "runs": context.runs,
        **report.as_dict(),
    }
    text = json.dumps(to_json(results), indent=1, allow_nan=False) + "\n"
    html = page(info.title, info.question, report, _about(results, context), folder=request.out)
    findings, warnings = tuple(results["findings"]), tuple(results["warnings"])
    made = StudyResult(request.study, request.out, seconds, findings, warnings)
    write_whole(made.results, lambda path: path.write_text(text, encoding="utf-8"))
    write_whole(made.page, lambda path: path.write_text(html, encoding="utf-8"))
    return made


def _loaded(request: StudyRequest, size: int | None) -> Dataset:
    """The images, of the size that the study needs, else of the one requested."""
    sides = parse(DataOptions, {"size": request.size}).sides() if size is None else size
    data = load_dataset(
        request.data, size=sides, class_folders=request.class_folders or "auto", root=request.data_root
    )
    for name, split in (("training", data.train), ("validation", data.val), ("test", data.test)):
        if not len(split):
            raise InputError(f"{request.data}: expected {name} images, found none")
    return data


def _colour(request: StudyRequest) -> tuple[Dataset | None, str]:
    """The colour images named, or the emoji where they are installed, or why there are none."""
    size = (32, 32)
    if request.run_colour is not None:
        checkpoint = locate(request.run_colour)
        _, *sides = image_shape(checkpoint, checkpoint.json(INDEX))
        size = sides[0], sides[1]
    load = partial(load_dataset, size=size, channels=3, root=request.data_root)
    if request.data_colour is not None:
        folders = request.class_folders or "auto"
        try:
            return load(request.data_colour, class_folders=folders), ""
        except InputError as error:
            raise InputError(str(error).replace("`data`", "`data_colour`")) from error
    try:
        return load(COLOUR), ""
    except InputError as error:
        return None, str(error)


def _claim(out: Path, study: str) -> None:
    """InputError unless ``out`` can hold this study: a new or empty folder, or one that holds it already."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: expected a folder for the study, found a file")
    if out.is_dir() and not _free_or_study(out):
        raise InputError(f"{out}: holds something else than a study; choose a new or empty folder with --out")
    if (other := _held(out)) not in (None, study):
        raise InputError(
            f"{out}: holds the study {other}, expected {study} or a new folder; choose another --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / "runs").mkdir(exist_ok=True)  # says what the folder is, before there are results


def goes_on(out: Path, study: str, command: str) -> bool:
    """Whether ``command`` may write its study to ``out``: a free place, or its own, or an unfinished one."""
    if not out.is_dir():
        return not os.path.lexists(out)
    if _held(out) is not None:
        return _held(out) == study and _held(out, "command") == command
    return _free_or_study(out)


def _free_or_study(out: Path) -> bool:
    """Whether a folder is empty or holds a study."""
    return not any(out.iterdir()) or (out / "results.json").exists() or (out / "runs").exists()


def _held(out: Path, key: str = "study") -> str | None:
    """The study whose results lie in a folder, or another entry of them; None where none can be read."""
    try:
        held = read_json(out / "results.json")[key]
    except (InputError, KeyError):
        return None
    return str(held)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _hardware(device: torch.device) -> dict[str, Any]:
    """The processor (and GPU) that computed."""
    return {
        "cpu": processor_name(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "kernels": ops.implementation(),
        "platform": platform.platform(),
    }


def _described(data: Dataset) -> dict[str, Any]:
    """A data set as numbers: sizes, shape, classes and the fingerprint of its training images."""
    return {
        "name": data.name,
        "train": len(data.train),
        "val": len(data.val),
        "test": len(data.test),
        "image": list(data.shape),
        "classes": data.num_classes,
        "fingerprint": data.fingerprint(),
    }


def _about(results: dict[str, Any], context: StudyContext) -> dict[str, str]:
    """The origin of the page, for its last table."""
    data, machine = results["data"], results["hardware"]
    parts = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in context.parts.items())
    again = [name for name, run in context.runs.items() if run["reused"]]
    about = {
        "command": results["command"],
        "budget": f"{results['budget']}: {_flat(results['numbers'])}",
        "seed": str(results["seed"]),
        "data": (
            f"{data['name']}: {data['train']:,} training, {data['val']:,} validation and {data['test']:,}"
            " test images"
        ),
        "time": f"{results['seconds']:.0f} s" + (f" ({parts})" if parts else ""),
        "hardware": (
            f"{machine['gpu'] or machine['cpu']}, {machine['threads']} threads, device {machine['device']}"
        ),
        "versions": ", ".join(f"{name} {number}" for name, number in results["versions"].items()),
        "date": results["date"],
    }
    given = [run["folder"] for name, run in context.runs.items() if name in GIVEN]
    if given:
        about["model"] = f"{', '.join(given)}, not trained for this page"
    if again:
        about["used again"] = f"{', '.join(again)}: trained by an earlier call with the same options"
    return about | {"numbers": "all of them are in results.json beside this page"}


def _flat(settings: dict[str, Any]) -> str:
    """The settings of a budget as text."""
    return ", ".join(
        f"{key.replace('_', ' ')} {_value(value)}" for key, value in settings.items() if value is not None
    )


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return f"({_flat(value)})"
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
