"""`latentdiff reproduce` from the command line: the list, refusals, signals, going on, and what may not be
overwritten.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import SIDE
from PIL import Image

from latentdiff.apps.cli.root import COMMANDS
from latentdiff.apps.studies import catalog
from latentdiff.apps.studies.kit import training
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.training import StoppedTraining, train_denoiser, train_vae
from latentdiff.apps.studies.process import schedules
from latentdiff.apps.studies.runner import Study, find
from latentdiff.apps.studies.sampling import ddim_steps
from latentdiff.config.training import TrainDenoiser, TrainVAE
from latentdiff.data import load_dataset
from latentdiff.errors import InputError

Cli = Callable[..., Any]


class Silent:
    """A reporter that says nothing; ``at`` is called at the step of that number."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at

    def note(self, message: str) -> None: ...
    def start(self, budget: object, step: int) -> None: ...
    def step(self, step: int, progress: float, values: object) -> None:
        if step == self.at:
            signal.raise_signal(signal.SIGINT)

    def stop(self) -> None: ...


@pytest.fixture
def context(tmp_path: Path, tiny_folder: Path) -> Callable[..., StudyContext]:
    """A lab on the tiny discs in ``tmp_path``; its trainings are interrupted at a step, if one is given."""
    data = load_dataset(str(tiny_folder / "tiny.npz"))

    def make(at: int | None = None, **more: Any) -> StudyContext:
        values = {
            "out": tmp_path,
            "load": lambda size: data,
            "data": data,
            "seed": 0,
            "note": lambda text: None,
        }
        return StudyContext(**{**values, "reporter": lambda batch: Silent(at), **more})  # type: ignore[arg-type]

    return make


def pixel_options(**changed: Any) -> TrainDenoiser:
    values = {
        "pixel": True,
        "network": "cnn",
        "width": 8,
        "batch": 8,
        "T": 10,
        "decay": "constant",
        "warmup": 0,
    }
    return TrainDenoiser.model_validate({**values, "validate_every": 3, **changed})


def weights(trained: training.Trained) -> list[dict[str, torch.Tensor]]:
    name = "denoiser/diffusion_pytorch_model.safetensors"
    return [trained.checkpoint(mark).tensors(name) for mark in trained.marks]


def same(a: list[dict[str, torch.Tensor]], b: list[dict[str, torch.Tensor]]) -> bool:
    return all(bool((one[key] == other[key]).all()) for one, other in zip(a, b, strict=True) for key in one)


def test_the_list_shows_every_study_without_torch(cli: Cli, tmp_path: Path) -> None:
    program = (
        "import sys; from latentdiff.apps.cli.root import run; run(['reproduce', '--list']); sys.exit('torch'"
        " in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    code, out, _ = cli("reproduce --list", cwd=tmp_path)
    assert code == 0 and all(f"{name} " in out for name in catalog.STUDIES)
    code, out, _ = cli("reproduce --list --json", cwd=tmp_path)
    assert code == 0 and [entry["name"] for entry in json.loads(out)["studies"]] == list(catalog.STUDIES)
    assert len(catalog.STUDIES) == 22 and "reproduce" in COMMANDS


@pytest.mark.parametrize("name", list(catalog.STUDIES))
def test_every_study_has_two_budgets_of_its_own(name: str) -> None:
    study = find(name)
    assert isinstance(study, Study) and study.quick != study.full and type(study.quick) is type(study.full)
    assert study.settings("quick") is study.quick and study.settings("full") is study.full


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("nonsense", 2, "no such study 'nonsense'; expected one of schedules, .*, text-hybrids, all"),
        ("schedule", 2, "no such study 'schedule'; did you mean 'schedules'"),
        ("", 2, "name a study: schedules, .* or all"),
        ("schedules --budget huge", 2, "'huge' is not one of 'quick', 'full'"),
        ("schedules --data nowhere.npz", 1, "data 'nowhere.npz': expected .*, found no such file"),
        ("schedules --device cuda:99", 1, "device cuda:99 is not available"),
        ("schedules --seed -1", 2, "-1 is not in the range"),
        ("ddim-steps --data-colour nowhere", 1, "--data-colour 'nowhere': expected .*, found no such file"),
        (
            "anagrams --data-colour nowhere",
            2,
            (
                "--data-colour is for ddim-steps, one-step-unet, sdedit, restoration, inpainting, hybrids,"
                " text-to-image, anagrams uses no other images"
            ),
        ),
        ("schedules --features mnist", 2, "--features scores images of models, schedules trains none"),
        ("text-to-image --features mnist", 2, "--features has no part in text-to-image"),
        ("schedules --size big", 2, "--size: expected pixels like 32 .*'big'"),
        ("latent-size --run x", 2, "--run is for studies of one model: ddim-steps, .*; got latent-size"),
        ("all --run x", 2, "--run is for studies of one model: .*; got all"),
        (
            "anagrams --run-colour x",
            2,
            "--run-colour is for studies of one model: ddim-steps, sdedit, restoration, .*; got anagrams",
        ),
        ("schedules --out taken --overwrite", 1, "taken: holds something else than a study"),
        ("schedules --out file", 1, "file: expected a folder for the study, found a file"),
    ],
)
def test_bad_input_gets_one_line(cli: Cli, tmp_path: Path, words: str, code: int, message: str) -> None:
    import re

    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("")
    result = cli(f"reproduce {words}", cwd=tmp_path)
    assert result.code == code and result.err.count("\n") == 1 and "Traceback" not in result.err
    assert re.search(message, result.err), result.err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "taken", "thesis.tex"]


def test_an_unknown_study_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"unknown study 'x', expected one of schedules, "):
        find("x")


def test_a_study_from_the_command_line(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    micro = replace(schedules.STUDY, quick=schedules.SchedulesSettings(T=20, images=1))
    monkeypatch.setattr(schedules, "STUDY", micro)
    code, out, err = cli("reproduce schedules --seed 3 --json", cwd=tmp_path)
    assert code == 0, err
    (found,) = json.loads(out)["studies"]
    assert (
        found["study"] == "schedules"
        and found["findings"]
        and found["page"] == "studies/schedules/report.html"
    )
    results = json.loads((tmp_path / found["results"]).read_text())
    assert results["command"] == "latentdiff reproduce schedules --budget quick --seed 3"
    assert (results["seed"], results["numbers"]["T"], results["budget"]) == (3, 20, "quick")
    code, out, _ = cli("reproduce schedules --out there", cwd=tmp_path)
    assert code == 0 and "there/report.html" in out
    assert "--out there" in json.loads((tmp_path / "there" / "results.json").read_text())["command"]


def test_images_of_several_sizes_are_resized_where_a_size_is_given(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    micro = replace(schedules.STUDY, quick=schedules.SchedulesSettings(T=20, images=1))
    monkeypatch.setattr(schedules, "STUDY", micro)
    (tmp_path / "uneven").mkdir()
    for k in range(40):
        Image.new("L", (20 + k % 2, 20), color=5 * k).save(tmp_path / "uneven" / f"{k}.png")
    code, _, err = cli("reproduce schedules --data uneven", cwd=tmp_path)
    assert code == 1 and "give one --size" in err
    code, _, err = cli("reproduce schedules --data uneven --size 16x12 --json", cwd=tmp_path)
    assert code == 0, err
    results = json.loads((tmp_path / "studies" / "schedules" / "results.json").read_text())
    assert results["data"]["image"][1:] == [16, 12] and "--size 16x12" in results["command"]


@pytest.mark.slow  # every study has its own tests; this is about the word `all`
def test_all_makes_every_study_in_a_folder_of_its_own(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    micro = replace(schedules.STUDY, quick=schedules.SchedulesSettings(T=20, images=1))
    monkeypatch.setattr("latentdiff.apps.studies.runner.find", lambda name: micro)
    code, out, err = cli("reproduce all --out there --json", cwd=tmp_path)
    assert code == 0, err
    assert [entry["page"] for entry in json.loads(out)["studies"]] == [
        f"there/{n}/report.html" for n in catalog.STUDIES
    ]


def test_a_signal_stops_a_study_and_the_same_command_goes_on(
    cli: Cli, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(context: StudyContext, settings: ddim_steps.DDIMStepsSettings) -> Any:
        raise StoppedTraining(signal.SIGTERM)

    monkeypatch.setattr(ddim_steps, "STUDY", replace(ddim_steps.STUDY, run=run))
    code, out, err = cli(f"reproduce ddim-steps --data {tiny_folder}/tiny.npz", cwd=tmp_path)
    assert code == 128 + signal.SIGTERM and not out and "the same command goes on from here" in err
    assert not (tmp_path / "studies" / "ddim-steps" / "report.html").exists()


def test_an_interrupted_training_ends_with_the_bits_of_one_that_was_not(
    context: Callable[..., StudyContext], tmp_path: Path
) -> None:
    whole = train_denoiser(context(out=tmp_path / "whole"), "d", pixel_options(), vae=None, marks=(4, 9))
    broken = context(at=6, out=tmp_path / "broken")
    with pytest.raises(StoppedTraining) as stopped:
        train_denoiser(broken, "d", pixel_options(), vae=None, marks=(4, 9))
    assert stopped.value.signum == signal.SIGINT and not broken.runs
    resumed = train_denoiser(context(out=tmp_path / "broken"), "d", pixel_options(), vae=None, marks=(4, 9))
    assert not resumed.reused and [path.name for path in resumed.folder.glob("checkpoint-*")].__len__() == 2
    assert same(weights(whole), weights(resumed))
    assert whole.curve("loss") == resumed.curve("loss") and whole.curve("val_loss") == resumed.curve(
        "val_loss"
    )


def test_marks_are_looks_at_one_training(context: Callable[..., StudyContext], tmp_path: Path) -> None:
    looked = train_denoiser(context(out=tmp_path / "a"), "d", pixel_options(), vae=None, marks=(4, 9))
    straight = train_denoiser(context(out=tmp_path / "b"), "d", pixel_options(), vae=None, marks=(9,))
    assert same(weights(looked)[1:], weights(straight)) and not same(weights(looked)[:1], weights(straight))
    assert looked.at("val_loss", 9) == straight.at("val_loss", 9) != looked.at("val_loss", 4)
    with pytest.raises(ValueError, match="several marks need a constant learning rate, got decay cosine"):
        train_denoiser(context(), "d", pixel_options(decay="cosine"), vae=None, marks=(4, 9))


def test_only_a_training_with_the_same_options_and_data_is_used_again(
    context: Callable[..., StudyContext], tiny_folder: Path
) -> None:
    first = train_denoiser(context(), "d", pixel_options(), vae=None, marks=(3,))
    assert not first.reused
    assert train_denoiser(
        context(), "d", pixel_options(device="cpu", log_every=7), vae=None, marks=(3,)
    ).reused
    other_data = load_dataset(str(tiny_folder / "tiny.npz"), size=SIDE + 4)
    for changed, more in (
        ({"lr": 0.1}, {}),
        ({"seed": 1}, {}),
        ({}, {"marks": (4,)}),
        ({}, {"data": other_data}),
    ):
        again = train_denoiser(
            context(), "d", pixel_options(**changed), **{"vae": None, "marks": (3,), **more}
        )  # type: ignore[arg-type]
        assert not again.reused and again.folder != first.folder


def test_a_denoiser_on_another_vae_is_another_training(context: Callable[..., StudyContext]) -> None:
    options = TrainDenoiser.model_validate({"width": 16, "depth": 1, "batch": 8, "T": 10, "warmup": 0})

    def encoder(seed: int) -> training.Trained:
        values = {"latent": "2", "width": 8, "steps": 2, "batch": 8, "seed": seed}
        return train_vae(context(), f"vae{seed}", TrainVAE.model_validate(values))

    first = train_denoiser(context(), "d", options, vae=encoder(0), marks=(2,))
    assert train_denoiser(context(), "d", options, vae=encoder(0), marks=(2,)).reused
    assert not train_denoiser(context(), "d", options, vae=encoder(1), marks=(2,)).reused
    assert first.folder.is_dir()


def test_a_run_without_its_early_checkpoint_is_trained_anew(context: Callable[..., StudyContext]) -> None:
    first = train_denoiser(context(), "d", pixel_options(), vae=None, marks=(2, 4))
    before = weights(first)
    shutil.rmtree(first.checkpoint(2).folder)
    again = train_denoiser(context(), "d", pixel_options(), vae=None, marks=(2, 4))
    assert not again.reused and same(before, weights(again))


def test_a_study_does_not_take_the_folder_of_another(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "st").mkdir()
    held = tmp_path / "st" / "results.json"
    held.write_text('{"study": "forward-process"}')
    result = cli("reproduce schedules --out st --overwrite", cwd=tmp_path)
    assert result.code == 1 and "st: holds the study forward-process, expected schedules" in result.err
    assert held.read_text() == '{"study": "forward-process"}'
    held.write_text("[")  # a study that was cut off may be made again
    assert cli("reproduce schedules --out st", cwd=tmp_path).code == 0
    assert '"schedules"' in held.read_text()
