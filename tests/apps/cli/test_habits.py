"""Small habits of the commands that save a user time: budgets, finished runs, defaults, places, layouts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers import ROOT
from PIL import Image

from latentdiff.apps.cli.measure import evaluate
from latentdiff.apps.cli.shared import progress
from latentdiff.config.sampling import Sampling
from latentdiff.config.training import TrainDenoiser, TrainVAE
from latentdiff.errors import InputError
from latentdiff.viz.images import check_place, class_columns, pair_grid

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize(
    "budget", [("--steps", "steps", 5), ("--epochs", "epochs", 2.0), ("--minutes", "minutes", 9.0)]
)
def test_a_budget_on_the_command_line_replaces_that_of_the_config(
    cli: Callable, tmp_path: Path, budget: tuple[str, str, float]
) -> None:
    flag, name, value = budget
    (tmp_path / "c.yaml").write_text("train-vae: {minutes: 3}")
    code, out, err = cli(f"train-vae --config c.yaml {flag} {value:g} --dry-run --json", cwd=tmp_path)
    assert code == 0, err
    given = {key: json.loads(out)["options"][key] for key in ("steps", "epochs", "minutes")}
    assert {key: number for key, number in given.items() if number is not None} == {name: value}


@pytest.mark.parametrize("config", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_every_shipped_config_holds_valid_options(config: Path) -> None:
    sections = yaml.safe_load(config.read_text(encoding="utf-8"))
    assert (
        sections.keys() <= {"train-vae", "train-denoiser", "sample", "evaluate"}
        and "train-denoiser" in sections
    )
    assert sections.get("evaluate", {}).keys() <= {parameter.name for parameter in evaluate.command.params}
    TrainDenoiser.model_validate(sections["train-denoiser"])
    TrainVAE.model_validate(sections.get("train-vae", {}))
    Sampling.model_validate({key: value for key, value in sections["sample"].items() if key != "number"})


def test_resuming_a_finished_run_leaves_it_alone(
    cli: Callable, tiny_folder: Path, tiny_vae_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_folder, tmp_path / "copy")
    run = tmp_path / "copy" / "runs" / "vae"
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in run.rglob("*") if path.is_file()}
    code, _, err = cli("train-vae --resume runs/vae", cwd=tmp_path / "copy")
    assert code == 0 and "finished already" in err
    assert before == {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in run.rglob("*") if path.is_file()
    }


def test_reconstruct_takes_the_data_that_the_run_was_trained_on(
    cli: Callable, tiny_folder: Path, tiny_vae_run: Path, tmp_path: Path
) -> None:
    code, out, err = cli(f"reconstruct --json --out {tmp_path}/r.png", cwd=tiny_folder)
    assert code == 0, err
    assert json.loads(out)["psnr_db"] > 0


def test_the_diagnosis_needs_no_more_than_one_validation_image(
    cli: Callable, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    images = np.random.default_rng(0).integers(0, 255, (12, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "few.npz", x_train=images, x_test=images[:1], x_val=images[:1])
    code, out, err = cli(
        "train-vae --data few.npz --latent 4 --width 8 --steps 2 --batch 4 --json", cwd=tmp_path
    )
    assert code == 0, err
    assert json.loads(out)["latent_units"] == 4
    assert not [warning for warning in recwarn if "degrees of freedom" in str(warning.message)]


@pytest.mark.parametrize(
    ("n", "classes", "columns"),
    [(64, 2, 8), (64, 10, 10), (100, 10, 10), (8, 10, 10), (64, 1, None), (64, 30, None)],
)
def test_classes_in_turn_fill_whole_columns_of_a_squarish_grid(
    n: int, classes: int, columns: int | None
) -> None:
    assert class_columns(n, classes) == columns


@pytest.mark.parametrize("n", [1, 5, 8, 11])
def test_every_copy_stands_below_its_original(n: int) -> None:
    originals = torch.full((n, 1, 4, 4), 1.0)
    grid = pair_grid(originals, -originals, columns=8)
    scale = grid.shape[1] // (2 + min(n, 8) * 6)
    centers = grid[4 * scale :: 6 * scale, 4 * scale :: 6 * scale, 0]
    for k in range(n):
        row, column = divmod(k, min(n, 8))
        assert (centers[2 * row, column], centers[2 * row + 1, column]) == (255, 0)


def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    cli: Callable, tiny_folder: Path, tiny_denoiser_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(
        "latentdiff.pipeline.pipeline.Pipeline.sample", lambda *_, **__: pytest.fail("it sampled")
    )
    code, _, err = cli(f"sample --run {tiny_denoiser_run} -n 2 --out {tmp_path}/file/x.png", cwd=tiny_folder)
    assert code == 1 and "cannot be written" in err
    with pytest.raises(InputError, match="it is a folder"):
        check_place(tmp_path)
    check_place(str(tmp_path / "new" / "x.png"))
    assert not list((tmp_path / "new").iterdir())


def test_the_answer_of_sample_says_what_ran(cli: Callable, tiny_denoiser_run: Path, tmp_path: Path) -> None:
    code, out, _ = cli(f"sample --run {tiny_denoiser_run} -n 2 --sampler ddpm --json", cwd=tmp_path)
    settings = json.loads(out)["settings"][0]
    assert code == 0 and (settings["steps"], settings["variance"]) == (20, "small")
    code, out, err = cli(
        f"sample --run {tiny_denoiser_run} -n 2 --guidance 0 --label 1 --steps 2 --json", cwd=tmp_path
    )
    assert code == 0 and json.loads(out)["labels"] is None and "no effect" in err


def test_images_are_opened_by_pillow_and_paths_may_be_text(tmp_path: Path) -> None:
    from latentdiff import image_grid, save_gif, save_image

    grid = image_grid(torch.zeros(4, 1, 4, 4))
    save_image(grid, str(tmp_path / "a.png"))
    save_gif([grid, grid // 2], str(tmp_path / "a.gif"))
    assert Image.open(tmp_path / "a.png").size == Image.open(tmp_path / "a.gif").size


def test_a_trained_vae_names_the_command_that_follows_and_it_works(
    cli: Callable, tiny_folder: Path, tmp_path: Path
) -> None:
    shutil.copy(tiny_folder / "tiny.npz", tmp_path / "my tiny.npz")
    config = (
        "train-vae: {latent: 4, width: 8, steps: 2, batch: 8}\ntrain-denoiser: {width: 16, depth: 1,"
        " steps: 2}"
    )
    (tmp_path / "both.yaml").write_text(config)
    for words, expected in (
        (
            "--config both.yaml",
            "latentdiff train-denoiser --config both.yaml --data 'my tiny.npz' --size 16x16 --vae runs/v0",
        ),
        ("--latent 4 --steps 2", "latentdiff train-denoiser --data 'my tiny.npz' --size 16x16 --vae runs/v1"),
    ):
        name = expected[-2:]
        done = cli(f"train-vae {words} --data 'my tiny.npz' --size 16 --name {name}", cwd=tmp_path)
        (following,) = (line.removeprefix("  next: ") for line in done.out.splitlines() if "next: " in line)
        assert following == expected
        assert cli(following.removeprefix("latentdiff ") + " --dry-run", cwd=tmp_path).code == 0


def test_missing_kernels_are_said_before_a_computation(
    cli: Callable, tiny_denoiser_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from latentdiff import ops

    monkeypatch.delenv("LATENTDIFF_OPS", raising=False)
    monkeypatch.setattr(ops, "NATIVE", ops.NATIVE.__class__("the extension was not built"))
    draw = f"sample --run {tiny_denoiser_run} -n 1 --steps 2"
    assert "without the compiled kernels" in cli(draw, cwd=tmp_path).err
    assert "the extension was not built" in cli("info", cwd=tmp_path).out
    monkeypatch.setenv("LATENTDIFF_OPS", "fallback")
    assert "without the compiled kernels" not in cli(draw, cwd=tmp_path).err


def test_a_long_stage_says_in_a_pipe_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    with progress.SamplingBar("distances") as bar:
        for done in range(5):
            bar.update(done, 4)
    assert [line.split("  ")[:2] for line in capsys.readouterr().err.splitlines()] == [
        [share, "distances"] for share in (" 25%", " 50%", " 75%")
    ]


def test_no_more_images_of_the_vae_are_measured_than_samples(
    cli: Callable, tiny_folder: Path, tiny_denoiser_run: Path, tmp_path: Path
) -> None:
    command = (
        f"evaluate --run {tiny_denoiser_run} --what vae --json --no-cache --resamples 0 --features"
        " efficientnet-lite0"
    )
    pytest.importorskip("efficientnet_lite_pytorch")
    for n, measured in ((5, 5), (100, 12)):
        done = cli(f"{command} -n {n} --out {tmp_path}", cwd=tiny_folder)
        assert done.code == 0, done.err
        assert json.loads(done.out)["vae"]["n"] == measured


def test_the_time_to_go_is_that_of_this_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed training begins with a share that took no time here."""
    from latentdiff.apps.cli.shared import progress

    lines, now = list[str](), iter([0.0, 100.0, 160.0, 220.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(progress, "note", lines.append)
    bar = progress._Bar("training")
    for share in (0.8, 0.85, 0.9):
        bar.show(share, "step")
    assert [line.rpartition("ETA ")[2] for line in lines[-2:]] == ["180 s", "120 s"]
