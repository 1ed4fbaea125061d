"""A training that was stopped and resumed ends with the same bits as one that was not."""

import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from resumed_training import CPU, STEPS, Hook, Stop, content, make_task, trainer

from latentdiff.errors import InputError
from latentdiff.pipeline.checkpoint.folder import open_checkpoint
from latentdiff.pipeline.checkpoint.runs import LOCK, Run, locate, resumable
from latentdiff.train import loop
from latentdiff.train.denoiser import DenoiserTask
from latentdiff.train.loop import Trainer


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take longer than these trainings; the sample grids stay, for what they may disturb."""
    monkeypatch.setattr(loop, "save_loss_curve", lambda entries, path: None)


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []


def stop_and_resume(
    kind: str, folder: Path, options: Mapping[str, Any], stops: list[tuple[int, int | None]]
) -> None:
    """Train with a break after each of the given steps, resumed every time from what is on disk, then to the
    end.
    """
    resume = None
    for at, signum in stops:
        training = trainer(kind, folder, options, hook=Hook(at, signum), resume=resume)
        if signum is None:
            with pytest.raises(Stop):
                training.train()
        else:
            outcome = training.train()
            assert (outcome.signum, outcome.step) == (signum, at)
            assert outcome.checkpoint == Run(folder).checkpoint_folder(at)
        resume = locate(folder)
    outcome = trainer(kind, folder, options, resume=resume).train()
    assert (outcome.signum, outcome.step) == (None, STEPS)


DEATH, SIGINT, SIGTERM = None, signal.SIGINT, signal.SIGTERM


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("vae", {}),
        ("vae", {"accumulate": 4, "bf16": "on", "flip": True, "random_shift": 1}),
        ("vae", {"ema": 0.0, "fused": False, "channels_last": False, "loss": "bce"}),
        ("vector", {}),
        ("vector", {"accumulate": 2, "ema": 0.0, "bf16": "on", "variance": "learned"}),
        ("vector", {"flip": True, "prediction": "eps", "decay": "linear"}),
        ("spatial", {"flip": True, "random_shift": 1}),
        ("spatial", {"accumulate": 4, "bf16": "on"}),
        ("spatial", {"workers": 2}),
        ("pixel", {"ema": 0.0, "random_shift": 1}),
        ("cnn", {"variance": "learned", "pixel_scale": 0.5}),
        ("course-unet", {"accumulate": 2, "prediction": "eps"}),
    ],
)
def test_a_stopped_and_resumed_training_ends_with_the_same_bits(
    tmp_path: Path, kind: str, options: dict[str, Any]
) -> None:
    trainer(kind, tmp_path / "whole", options).train()
    expected = content(tmp_path / "whole")
    # A death at 5 and 8 repeats steps after the saves at 3 and 6, in the middle of a log window and of an
    # epoch;
    # a signal saves where it came: at 2 before any save, at 7 between two.
    for name, stops in {
        "deaths": [(5, DEATH), (5, DEATH), (8, DEATH)],
        "signals": [(2, SIGINT), (4, DEATH), (7, SIGTERM)],
    }.items():
        stop_and_resume(kind, tmp_path / name, options, stops)
        assert_same(content(tmp_path / name), expected)


@pytest.fixture(scope="module")
def whole_vector(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run of kind "vector" that was never stopped ends with."""
    folder = tmp_path_factory.mktemp("whole")
    trainer("vector", folder, {}).train()
    return content(folder)


@pytest.mark.parametrize("stop", range(3, STEPS + 1))
def test_any_step_is_a_good_place_to_die(tmp_path: Path, whole_vector: dict[str, Any], stop: int) -> None:
    stop_and_resume("vector", tmp_path, {}, [(stop, DEATH if stop > 3 else SIGTERM)])
    assert_same(content(tmp_path), whole_vector)


def test_the_comparison_sees_another_seed(tmp_path: Path, whole_vector: dict[str, Any]) -> None:
    trainer("vector", tmp_path, {"seed": 1}).train()
    other = content(tmp_path)
    assert other["log"] != whole_vector["log"]
    assert other["training/state.safetensors"] != whole_vector["training/state.safetensors"]


@pytest.mark.parametrize("kind", ["vae", "vector"])
def test_resuming_a_finished_run_changes_nothing(tmp_path: Path, kind: str) -> None:
    options = {"validate_every": 4}  # the closing validation is not one of the regular ones
    trainer(kind, tmp_path, options).train()
    expected = content(tmp_path)
    outcome = trainer(kind, tmp_path, options, resume=locate(tmp_path)).train()
    assert outcome.metrics["val_loss"] == expected["log"][-1]["val_loss"]
    assert_same(content(tmp_path), expected)


def test_a_death_between_the_last_step_and_the_end_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"save_every": 5, "validate_every": 4}
    trainer("vae", tmp_path / "whole", options).train()
    dying = trainer("vae", tmp_path / "dying", options)

    def die(*arguments: object) -> None:
        raise Stop

    monkeypatch.setattr(dying.task, "final_metrics", die)
    with pytest.raises(Stop):
        dying.train()
    half = locate(tmp_path / "dying")
    assert half.folder.name == f"checkpoint-{STEPS:08d}"
    assert "latents_mean" not in half.json("vae/config.json")
    trainer("vae", tmp_path / "dying", options, resume=half).train()
    assert_same(content(tmp_path / "dying"), content(tmp_path / "whole"))


def test_a_longer_budget_continues_the_run(tmp_path: Path) -> None:
    constant = {"decay": "constant", "validate_every": 100}
    trainer("vae", tmp_path / "whole", constant | {"steps": 14}).train()
    trainer("vae", tmp_path / "parts", constant | {"steps": 9}).train()
    trainer("vae", tmp_path / "parts", constant | {"steps": 14}, resume=locate(tmp_path / "parts")).train()
    found, expected = content(tmp_path / "parts"), content(tmp_path / "whole")
    assert found["training/state.safetensors"] == expected["training/state.safetensors"]


def test_resume_refuses_other_images_and_older_checkpoints(tmp_path: Path) -> None:
    trainer("vector", tmp_path, {}).train()
    task, last = make_task("vector", {}), locate(tmp_path)
    with pytest.raises(InputError, match="was trained on other images"):
        Trainer(task, task.options, Run(tmp_path), data="else", device=CPU, reporter=Hook(), resume=last)
    old = open_checkpoint(Run(tmp_path).checkpoints()[0])
    assert old.folder != last.folder
    with pytest.raises(
        InputError, match=rf"expected the newest checkpoint of a run, .* is {last.folder.name}"
    ):
        trainer("vector", tmp_path, {}, resume=old)


def test_resume_starts_by_clearing_what_a_death_left(tmp_path: Path, whole_vector: dict[str, Any]) -> None:
    with pytest.raises(Stop):
        trainer("vector", tmp_path, {}, hook=Hook(8)).train()
    leftover = tmp_path / ".tmp-checkpoint-00000009-4242"
    (leftover / "denoiser").mkdir(parents=True)
    (leftover / "denoiser" / "config.json").write_text("{")
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"step": 8, "los')  # cut off in the middle of a line
    trainer("vector", tmp_path, {}, resume=locate(tmp_path)).train()
    assert not leftover.exists()
    assert_same(content(tmp_path), whole_vector)


def test_a_death_while_drawing_loses_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dying = trainer("vector", tmp_path, {"save_every": 5, "sample_every": 5})

    def die(*arguments: object) -> None:
        raise Stop

    monkeypatch.setattr(dying.task, "save_samples", die)
    with pytest.raises(Stop):
        dying.train()
    assert locate(tmp_path).folder.name == "checkpoint-00000005"


def test_resume_asks_for_the_same_perceptual_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_judge(name: str | None, steps: int) -> None:
        monkeypatch.setattr(DenoiserTask, "perceptual_fingerprint", name)
        resume = locate(tmp_path) if Run(tmp_path).has_any() else None
        trainer("vector", tmp_path, {"steps": steps}, resume=resume).train()

    with_judge(None, 2)  # as of checkpoints that do not say
    with_judge("lpips-vgg (weights 1)", 4)
    with_judge("lpips-vgg (weights 1)", 6)
    with pytest.raises(
        InputError, match=r"perceptual network lpips-vgg \(weights 1\), found lpips-vgg \(weights 2\)"
    ):
        with_judge("lpips-vgg (weights 2)", 8)


# one process at a time


def test_a_run_that_is_being_trained_is_not_trained_twice(
    tmp_path: Path, whole_vector: dict[str, Any]
) -> None:
    refused: list[str] = []

    def meddle(*attempts: Callable[[], object]) -> None:
        for attempt in attempts:
            with pytest.raises(InputError, match="is being trained by process") as error:
                attempt()
            refused.append(str(error.value))

    class Meddler(Hook):
        def step(self, step: int, progress: float, values: Mapping[str, float]) -> None:
            if step == 2:  # before the first checkpoint
                meddle(trainer("vector", tmp_path, {}).train)
            elif step == 7:
                newest = locate(tmp_path)
                meddle(trainer("vector", tmp_path, {}, resume=newest).train, lambda: resumable(tmp_path))
                meddle(lambda: resumable(newest.folder))

    trainer("vector", tmp_path, {}, hook=Meddler()).train()
    assert len(refused) == 4
    assert_same(content(tmp_path), whole_vector)
    assert not (tmp_path / LOCK).exists()


def test_a_training_that_waited_too_long_does_not_overwrite_another(tmp_path: Path) -> None:
    trainer("vector", tmp_path, {"steps": 4}).train()
    late = trainer("vector", tmp_path, {"steps": 8}, resume=locate(tmp_path))
    anew = trainer("vector", tmp_path, {})
    trainer("vector", tmp_path, {"steps": 6}, resume=locate(tmp_path)).train()
    expected = content(tmp_path)
    with pytest.raises(InputError, match="expected the newest checkpoint of a run"):
        late.train()
    with pytest.raises(InputError, match="exists already; choose another --name"):
        anew.train()
    assert_same(content(tmp_path), expected)


# damaged checkpoints


def _flip(folder: Path) -> None:
    path = folder / "training" / "state.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def _to_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("was a folder")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a flipped bit": _flip,
    "a file cut off": lambda folder: (folder / "training" / "state.json").write_text("{"),
    "a file gone": lambda folder: (folder / "training" / "state.json").unlink(),
    "a manifest gone": lambda folder: (folder / "manifest.json").unlink(),
    "a manifest damaged": lambda folder: (folder / "manifest.json").write_text("{}"),
    "nothing left": lambda folder: (shutil.rmtree(folder), folder.mkdir()),
    "a file in its place": _to_a_file,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_resume_passes_over_damaged_checkpoints_and_keeps_them(
    tmp_path: Path, whole_vector: dict[str, Any], damage: str
) -> None:
    """The steps of the damaged one are made again: the training ends with the same bits, and what was damaged
    is still there.
    """
    with pytest.raises(Stop):
        trainer("vector", tmp_path, {"checkpoints_total_limit": 9}, hook=Hook(8)).train()
    run = Run(tmp_path)
    DAMAGES[damage](run.checkpoint_folder(6))
    left = sorted(path.name for path in run.checkpoint_folder(6).rglob("*"))
    resume, wrong = resumable(tmp_path)
    assert resume.folder == run.checkpoint_folder(3) and len(wrong) == 1 and "checkpoint-00000006" in wrong[0]
    (tmp_path / "damaged-checkpoint-00000006").mkdir()  # of an earlier accident
    hook = Hook()
    trainer("vector", tmp_path, {}, hook=hook, resume=resume).train()
    aside = tmp_path / "damaged-checkpoint-00000006-2"
    assert hook.notes == [f"{wrong[0]}; kept as {aside}"]
    assert sorted(path.name for path in aside.rglob("*")) == left and aside.exists()
    assert_same(content(tmp_path), whole_vector)
    DAMAGES[damage](run.checkpoint_folder(STEPS))
    with pytest.raises(InputError, match=rf"--resume {tmp_path} continues from its newest whole checkpoint"):
        resumable(run.checkpoint_folder(STEPS))
    assert (
        resumable(run.checkpoint_folder(9))[0].folder
        == resumable(tmp_path)[0].folder
        == run.checkpoint_folder(9)
    )
    DAMAGES[damage](run.checkpoint_folder(9))
    with pytest.raises(InputError, match="is whole, start anew under another --name"):
        resumable(tmp_path)


def test_a_new_training_is_not_ended_by_what_has_the_name_of_a_checkpoint(
    tmp_path: Path, whole_vector: dict[str, Any]
) -> None:
    (tmp_path / "checkpoint-00000003" / "vae").mkdir(parents=True)
    trainer("vector", tmp_path, {}).train()
    assert (tmp_path / "damaged-checkpoint-00000003" / "vae").is_dir()
    assert_same(content(tmp_path), whole_vector)
