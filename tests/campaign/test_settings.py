"""Random settings, good and bad: what is accepted runs, what is not is refused in one line before any
work.
"""

import random
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import pytest
import yaml
from campaign_tools import latentdiff, times
from pydantic.fields import FieldInfo

from latentdiff.config.base import Config
from latentdiff.config.sampling import Sampling
from latentdiff.config.training import TrainCold, TrainDenoiser, TrainStudent, TrainVAE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
MODELS: dict[str, tuple[type[Config], str]] = {
    "train-vae": (TrainVAE, "--data {data}"),
    "train-denoiser": (TrainDenoiser, "--data {data} --pixel"),
    "train-cold": (TrainCold, "--data {data}"),
    "distill": (TrainStudent, "--run {run}"),
    "sample": (Sampling, "--run {run} -n 2 --out a{k}.png"),
}
ODD = (
    "",
    "nan",
    "inf",
    "-1",
    "0",
    "1e400",
    "1e-320",
    "٣",
    "\0",
    "x" * 1000,
    "[1, 2]",
    "{a: 1}",
    "~",
    "'",
    "💥",
    "9" * 400,
    "0x10",
    "1_000",
    "true",
)
ALWAYS = {"steps": "2", "threads": "1"}
FEW = {"distill": {"trajectories": "32", "teacher_steps": "16"}}


def _kinds(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        for argument in get_args(annotation):
            yield from _kinds(argument)
    elif hasattr(annotation, "__metadata__"):
        yield from _kinds(get_args(annotation)[0])
    else:
        yield annotation


def value(field: FieldInfo, dice: random.Random) -> str:
    """A value that the field's type allows, or something odd."""
    if dice.random() < 0.25:
        return dice.choice(ODD)
    kind = dice.choice([kind for kind in _kinds(field.annotation) if kind is not type(None)])
    if get_origin(kind) is Literal:
        return str(dice.choice(get_args(kind)))
    if kind is bool:
        return dice.choice(["true", "false"])
    if kind is int:
        return str(dice.choice([0, 1, 2, 3, 8, 16]))
    if kind is float:
        return str(dice.choice([0, 0.1, 0.5, 0.9, 1, 2.5]))
    return dice.choice(["4", "2x4x4", "8", "0.5", "a", "cosine"])


@pytest.mark.parametrize("command", MODELS)
def test_random_settings(
    command: str, tiny_folder: Path, tiny_class_run: Path, tmp_path: Path, record_property: Callable
) -> None:
    """One to four settings of a file, drawn at random; trainings of two steps really run."""
    model, given = MODELS[command]
    dice, trials, ran = random.Random(command), times(150), 0
    names = sorted(
        set(model.model_fields)
        - {"data", "data_root", "run", "runs", "name", "device", "resume", "steps", "epochs", "minutes"}
    )
    for k in range(trials):
        chosen = dice.sample(names, dice.randint(1, 4))
        settings = {name: value(model.model_fields[name], dice) for name in chosen}
        if command != "sample":
            settings = ALWAYS | FEW.get(command, {}) | settings | {"name": f"run{k}"}
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(settings, allow_unicode=True), encoding="utf-8")
        words = given.format(data=tiny_folder / "tiny.npz", run=tiny_class_run, k=k)
        ended = latentdiff(f"{command} {words} --config c.yaml", tmp_path, RLIMIT_AS=2**32)
        try:
            ran += ended.check(0, 1, 2).code == 0
        except AssertionError as error:
            raise AssertionError(f"{settings}\n{error}") from None
    record_property(f"count:random settings of {command}", trials)
    record_property("count:of these, accepted and run", ran)
