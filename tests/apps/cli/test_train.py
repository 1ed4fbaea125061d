"""The training commands: what they write, dry runs, configuration files, JSON, resuming and fine-tuning."""

import json
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
import yaml
from helpers import Result, reseal
from PIL import Image
from safetensors.torch import load_file

from latentdiff.apps.cli.root import COMMANDS
from latentdiff.apps.cli.shared.inputs import read_input
from latentdiff.apps.cli.train import train
from latentdiff.config.data import FITTING, LABELLING
from latentdiff.data import load_dataset
from latentdiff.errors import InputError
from latentdiff.nn import VAEConfig, default_latent
from latentdiff.pipeline.checkpoint.pretrained import shipped_folder
from latentdiff.pipeline.checkpoint.runs import locate
from latentdiff.train.loop import Trainer

WEIGHTS = "diffusion_pytorch_model.safetensors"
VAE = "train-vae --data tiny.npz --latent 4 --width 8 --depth 0 --batch 16"


@pytest.fixture
def work(tmp_path: Path, tiny_folder: Path, tiny_vae_run: Path) -> Path:
    """A folder with tiny.npz and a copy of the tiny VAE run."""
    shutil.copy(tiny_folder / "tiny.npz", tmp_path)
    shutil.copytree(tiny_vae_run, tmp_path / "runs" / "vae")
    return tmp_path


def paths(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def planned(cli: Callable, command: str, cwd: Path) -> dict:
    """The options that a dry run tells."""
    result = cli(f"{command} --dry-run --json", cwd=cwd)
    assert result.code == 0, result.err
    return json.loads(result.out)["options"]


@pytest.mark.parametrize(
    "command", [VAE, "train-denoiser --data tiny.npz", "train-denoiser --data tiny.npz --pixel"]
)
def test_dry_run_describes_and_writes_nothing(command: str, work: Path, cli: Callable) -> None:
    before = paths(work)
    result = cli(f"{command} --dry-run", cwd=work)
    answer = json.loads(result.out)
    assert result.code == 0
    assert (answer["data"]["train"], answer["data"]["val"], answer["data"]["test"]) == (43, 5, 12)
    assert answer["network"]["parameters"] > 0 and answer["options"]["data"] == "tiny.npz"
    assert paths(work) == before


def test_class_folders_are_part_of_a_run(tmp_path: Path, cli: Callable) -> None:
    """An image beside the class folders: the option that leaves it out holds for all that reads the run's
    data.
    """
    for k in range(24):
        folder = tmp_path / "pets" / ("cats", "dogs")[k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 10 * k).save(folder / f"{k}.png")
    Image.new("L", (8, 8), 250).save(tmp_path / "pets" / "sheet.png")
    small = "--data pets --class-folders only --batch 4 --steps 2 --warmup 0"
    planned = cli(f"train-vae {small} --latent 4 --dry-run", cwd=tmp_path)
    plan = json.loads(planned.out)
    assert plan["data"]["report"]["left_out"] == {"outside class folders": {"count": 1, "first": "sheet.png"}}
    assert set(plan["data"]["class_counts"]) == {"cats", "dogs"}
    assert sum(plan["data"]["class_counts"].values()) == plan["data"]["train"]
    left_out = "data: left out 1: 1 outside class folders (sheet.png)\n"
    for words in (
        f"train-vae {small} --latent 4 --width 8 --depth 0 --name vae",
        "train-vae --resume runs/vae --steps 3",
        f"train-denoiser {small} --vae runs/vae --width 16 --depth 1 --T 20 --name denoiser",
        "reconstruct --run runs/vae -n 2",
        "encode --run runs/vae",
        "edit --run runs/denoiser -n 2 --steps 2 --label own",
        "edit --run runs/denoiser --input pets --class-folders only -n 2 --steps 2 --label own",
        f"train-cold {small} --width 8 --depth 1 --T 4 --name cold",
        "sample-cold --run runs/cold --restore -n 2",
        (
            "evaluate --images pets --reference pets --class-folders only --features mnist --resamples 0"
            " --no-cache"
        ),
    ):
        done = cli(words, cwd=tmp_path)
        assert done.code == 0, done.err
        assert left_out.removeprefix("data: ") in done.err, words
    assert (
        yaml.safe_load((tmp_path / "runs/vae/config.yaml").read_text())["train-vae"]["class_folders"]
        == "only"
    )
    changed = cli("train-vae --resume runs/vae --class-folders auto --steps 4", cwd=tmp_path)
    assert changed.code == 2 and "--class-folders: the resumed run has only, got auto" in changed.err
    state = max((tmp_path / "runs/vae").glob("checkpoint-*")) / "training" / "state.json"
    saved = json.loads(state.read_text())
    del saved["options"]["class_folders"]  # as a version without the option wrote it
    state.write_text(json.dumps(saved))
    reseal(state.parents[1])
    other = cli("train-vae --resume runs/vae --steps 4", cwd=tmp_path)
    assert other.code == 1 and "was trained on other images" in other.err
    found = cli("train-vae --resume runs/vae --class-folders only --steps 4", cwd=tmp_path)
    assert found.code == 0, found.err


def test_fit_filter_background_and_labels_are_part_of_a_run(tmp_path: Path, cli: Callable) -> None:
    """Whatever reads the data of the run again gets the same pixels and labels."""
    (tmp_path / "sprites").mkdir()
    rng = np.random.default_rng(0)
    for k in range(24):
        pixels = rng.integers(0, 256, (4, 6, 4), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"sprites/{('cat', 'dog')[k % 2]}_{k}.png")
    how = {"fit": "pad", "resize": "nearest", "background": "#000080", "labels_from": "name"}
    words = "--fit pad --resize nearest --background navy --labels-from name"
    small = f"--data sprites --size 12 --batch 4 --steps 2 --warmup 0 {words}"
    data = load_dataset(str(tmp_path / "sprites"), size=12, **how)  # type: ignore[arg-type]
    for command in (
        f"train-vae {small} --latent 4 --width 8 --depth 0 --name vae",
        "train-vae --resume runs/vae --steps 3",
        "train-vae --resume runs/vae --steps 4 --background #000080 --image-cache off",
        f"train-denoiser {small} --pixel --width 16 --depth 1 --T 20 --name pixels",
        "reconstruct --run runs/vae -n 2",
        "encode --run runs/vae --out latents",
        "edit --run runs/pixels -n 2 --steps 2 --label own",
    ):
        done = cli(command, cwd=tmp_path)
        assert done.code == 0, done.err
        assert "labels: 2 classes from file names, as cat (12, cat_0.png), dog (12, dog_1.png)" in done.err
    for run in (max((tmp_path / "runs/vae").glob("checkpoint-*")), tmp_path / "runs/pixels"):
        state = next(run.rglob("state.json"))
        saved = json.loads(state.read_text())
        assert saved["data"] == data.fingerprint() and {key: saved["options"][key] for key in how} == how
    read = (
        locate(tmp_path / "runs/pixels"),
        data.shape,
        dict.fromkeys((*FITTING, *LABELLING, "image_cache")),
    )
    own = read_input(
        *read[:2], read[2] | {"source": None, "split": "test", "negate": False, "drawing": "off"}
    )
    trained = torch.cat([part.images for part in (data.train, data.val, data.test)])
    assert {image.numpy().tobytes() for image in own.images} == {i.numpy().tobytes() for i in trained}
    assert own.classes == data.classes == ("cat", "dog")
    for option, text in (("background", "red"), ("fit", "crop"), ("resize", "box"), ("labels-from", "none")):
        changed = cli(f"train-vae --resume runs/vae --{option} {text} --steps 5", cwd=tmp_path)
        assert changed.code == 2 and f"--{option}: the resumed run has " in changed.err, option
    wrong = cli("datasets sprites --background blanc", cwd=tmp_path)
    assert wrong.code == 2 and "--background" in wrong.err and "expected the name of a colour" in wrong.err


def test_a_run_folder_holds_log_pictures_and_one_checkpoint(
    tiny_vae_run: Path, tiny_denoiser_run: Path
) -> None:
    for run in (tiny_vae_run, tiny_denoiser_run):
        assert {path.name for path in run.iterdir()} == {
            "checkpoint-00000040",
            "config.yaml",
            "log.jsonl",
            "loss.png",
            "samples-00000040.png",
        }
        entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        assert [entry["step"] for entry in entries if "loss" in entry] == list(range(1, 41))
        for name in ("loss.png", "samples-00000040.png"):
            with Image.open(run / name) as image:
                image.load()


def test_the_config_of_a_run_repeats_it(tiny_denoiser_run: Path, cli: Callable, tiny_folder: Path) -> None:
    saved = yaml.safe_load((tiny_denoiser_run / "config.yaml").read_text())["train-denoiser"]
    again = planned(cli, f"train-denoiser --config {tiny_denoiser_run}/config.yaml", tiny_folder)
    assert saved == {key: value for key, value in again.items() if value is not None}


@pytest.mark.parametrize(
    "text", ["batch: 8\nlr: 1e-3\nbf16: off\n", "sample: {n: 4}\ntrain-vae: {batch: 8, lr: 0.001, bf16: off}"]
)
def test_config_flat_or_in_sections_and_the_command_line_wins(text: str, work: Path, cli: Callable) -> None:
    (work / "a.yaml").write_text(text)
    found = planned(cli, "train-vae --data tiny.npz --config a.yaml", work)
    assert (found["batch"], found["lr"], found["bf16"], found["ema"]) == (8, 1e-3, "off", 0.999)
    found = planned(cli, "train-vae --data tiny.npz --batch 4 --config a.yaml --bf16 on", work)
    assert (found["batch"], found["lr"], found["bf16"]) == (4, 1e-3, "on")


def test_config_takes_options_as_they_are_called(work: Path, cli: Callable) -> None:
    lines = "data: tiny.npz\nlabel-dropout: 0.25\nlog_every: 3\nflip: true\nno_such: null\n"
    (work / "a.yaml").write_text(lines)
    assert "no_such" in cli("train-denoiser --config a.yaml --dry-run", cwd=work).err
    (work / "a.yaml").write_text(lines.replace("no_such: null", "minutes: null"))
    found = planned(cli, "train-denoiser --config a.yaml", work)
    assert (found["label_dropout"], found["log_every"], found["flip"], found["minutes"]) == (
        0.25,
        3,
        True,
        None,
    )
    (work / "b.yaml").write_text("number: 4\nsteps: 2,5\njson: true\nrun: gone\n")
    assert cli("sample --config b.yaml", cwd=work).err.startswith(
        "error: gone: no such run or checkpoint folder"
    )


@pytest.mark.parametrize(
    ("config", "flags", "expected"),
    [
        ("", "", "v"),
        ("", "--v-pred", "v"),
        ("prediction: eps", "", "eps"),
        ("prediction: eps", "--v-pred", "v"),
        ("v-pred: true", "--prediction eps", "eps"),
        ("v-pred: true", "", "v"),
    ],
)
def test_v_pred_is_prediction_v(config: str, flags: str, expected: str, work: Path, cli: Callable) -> None:
    (work / "a.yaml").write_text(config)
    command = f"train-denoiser --pixel --data tiny.npz --config a.yaml {flags}"
    assert planned(cli, command, work)["prediction"] == expected


def test_json_tells_the_end_of_a_training(work: Path, cli: Callable) -> None:
    result = cli(f"{VAE} --steps 2 --json --name a --seed 1", cwd=work)
    answer = json.loads(result.out)
    assert (result.code, answer["run"], answer["steps"], answer["interrupted"]) == (0, "runs/a", 2, False)
    assert answer["latent_units"] == 4 and 0 < answer["val_psnr"] < 60
    result = cli(
        "train-denoiser --data tiny.npz --width 8 --depth 1 --T 5 --batch 8 --steps 1 --json", cwd=work
    )
    answer = json.loads(result.out)
    assert result.code == 0 and answer["run"].endswith("-denoiser") and answer["val_loss"] > 0
    assert "using the VAE of runs/a/checkpoint-00000002" in result.err


def test_resume_goes_on_to_the_bits_of_an_uninterrupted_training(work: Path, cli: Callable) -> None:
    options = "--decay constant --bf16 off"  # the cosine of another budget would be another training
    assert cli(f"{VAE} --steps 5 --name whole {options}", cwd=work).code == 0
    assert cli(f"{VAE} --steps 2 --name parts {options}", cwd=work).code == 0
    assert cli("train-vae --resume runs/parts --steps 5", cwd=work).code == 0
    again = cli("train-vae --resume runs/parts --steps 5", cwd=work)
    assert again.code == 0 and "parts: 5 steps were made before, nothing was left to do" in again.out
    whole, parts = (
        load_file(work / f"runs/{name}/checkpoint-00000005/vae/{WEIGHTS}") for name in ("whole", "parts")
    )
    assert whole.keys() == parts.keys()
    assert all((whole[name] == parts[name]).all() for name in whole)


def test_fine_tuning_starts_from_the_weights_of_a_run(work: Path, cli: Callable) -> None:
    result = cli(f"{VAE} --steps 1 --lr 1e-30 --init-from runs/vae --name fine", cwd=work)
    assert result.code == 0, result.err
    old, new = (
        load_file(next((work / f"runs/{name}").glob("check*")) / f"vae/{WEIGHTS}") for name in ("vae", "fine")
    )
    assert all((old[name] - new[name]).abs().max() < 1e-6 for name in old)


BOTH = """
train-vae: {latent: 4, width: 8, depth: 0, batch: 16, steps: 4}
train-denoiser: {width: 16, depth: 1, batch: 16, steps: 6, prediction: eps}
"""


def test_both_trainings_in_one_command_go_on_by_name(
    work: Path, cli: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "both.yaml").write_text(BOTH)
    command = "train --config both.yaml --data tiny.npz --seed 3 --prediction v --name mine --json"
    result = cli(command, cwd=work)
    assert result.code == 0, result.err
    answers = json.loads(result.out)
    assert [(kind, found["steps"]) for kind, found in answers.items()] == [("vae", 4), ("denoiser", 6)]
    saved = {kind: yaml.safe_load((work / f"runs/mine-{kind}/config.yaml").read_text()) for kind in answers}
    options = saved["denoiser"]["train-denoiser"]
    assert options["vae"] == "runs/mine-vae" and options["prediction"] == "v" and options["width"] == 16
    assert saved["vae"]["train-vae"]["latent"] == "4"
    assert {options["seed"], saved["vae"]["train-vae"]["seed"]} == {3}
    again = cli(command, cwd=work)
    assert again.code == 0 and again.err.count("is finished already") == 1
    assert cli("sample --run runs/mine-denoiser -n 2 --steps 2", cwd=work).code == 0


def test_what_was_left_out_of_the_data_is_said_once(cli: Callable, tmp_path: Path) -> None:
    for k in range(24):
        pixels = np.random.default_rng(k).integers(0, 256, (8, 8, 3), np.uint8)
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{k}.png")
    (tmp_path / "photos" / "broken.png").write_bytes(b"no image")
    (tmp_path / "c.yaml").write_text(
        "train-vae: {latent: 2, depth: 0, width: 8, steps: 1}\n"
        "train-denoiser: {network: mlp, width: 16, depth: 1, T: 4, steps: 1}\n"
    )
    made = cli("train --config c.yaml --name mine --data photos", cwd=tmp_path)
    assert made.code == 0 and made.err.count("data: refused 1 of 25") == 1, made.err


def test_other_images_under_an_old_name_are_refused_in_words(work: Path, cli: Callable) -> None:
    (work / "c.yaml").write_text(
        "train-vae: {data: tiny.npz, latent: 2, depth: 0, width: 8, steps: 2}\n"
        "train-denoiser: {data: tiny.npz, network: mlp, width: 16, depth: 1, T: 4, steps: 2}\n"
    )
    made = cli("train --config c.yaml --name mine", cwd=work)
    assert made.code == 0, made.err
    images = np.random.default_rng(1).integers(0, 256, (20, 8, 8), np.uint8)
    np.savez(work / "other.npz", x_train=images, x_test=images[:4], y_train=np.arange(20) % 2, y_test=[0] * 4)
    other = cli("train --config c.yaml --name mine --data other.npz", cwd=work)
    line = "error: runs/mine-denoiser: was begun with other images; choose another --name, or give the --data"
    assert other.code == 1 and line in other.err


def test_minutes_are_shared_and_replace_those_of_a_file(
    work: Path, cli: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "both.yaml").write_text(BOTH)
    called: list[tuple[str, float | None]] = []

    def noted(part: click.Context, *, as_json: bool) -> tuple[int, None]:
        called.append((str(part.command.name), part.params["minutes"]))
        return 0, None

    monkeypatch.setattr(train, "_called", noted)
    for given, expected in (
        ("--minutes 8 --config both.yaml", (2, 6)),
        ("", (3.75, 11.25)),
        ("--config both.yaml", (None, None)),
    ):
        called.clear()
        assert cli(f"train --data tiny.npz {given}", cwd=work).code == 0
        assert called == [("train-vae", expected[0]), ("train-denoiser", expected[1])]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("--data nowhere.npz", 1, "data 'nowhere.npz': expected"),
        ("--minutes 0", 2, "0"),
        ("--latent 4y4", 2, "latent"),
        ("--config nothing.yaml", 2, "nothing.yaml: cannot be read"),
        ("--name a/b", 2, "name"),
        ("--data tiny.npz --text", 1, "captions"),
        ("--data tiny.npz --text --latent 4x4x4", 1, "captions"),
        ("--config pixels.yaml", 2, "a model of pixels needs no VAE"),
    ],
)
def test_bad_input_to_both_is_one_line(
    work: Path, cli: Callable, words: str, code: int, message: str
) -> None:
    (work / "pixels.yaml").write_text("train-vae: {}\ntrain-denoiser: {pixel: true}")
    before = paths(work)
    result = cli(f"train {words}", cwd=work)
    assert paths(work) == before
    last = result.err.strip().splitlines()[-1]
    assert (
        result.code == code
        and last.startswith("error: ")
        and message in last
        and "Traceback" not in result.err
    )


def test_a_training_that_is_stopped_stops_both(
    work: Path, cli: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    monkeypatch.setattr(
        train, "_called", lambda part, *, as_json: (called.append(part.command.name), (130, None))[1]
    )
    result = cli("train --data tiny.npz --name mine", cwd=work)
    assert result.code == 130 and called == ["train-vae"]
    assert "the same command with --name mine goes on from here" in result.err


def test_after_a_signal_there_is_one_instruction(
    work: Path, cli: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of this command, which has no --resume."""
    monkeypatch.setattr(Trainer, "_record", lambda *_: signal.raise_signal(signal.SIGINT))
    result = cli("train --data tiny.npz --name mine --minutes 1", cwd=work)
    assert result.code == 130 and "stopped by a signal after step 1\n" in result.err
    assert "--name mine goes on from here" in result.err and "--resume" not in result.err


def test_a_larger_budget_continues_the_denoiser_on_its_vae(work: Path, cli: Callable) -> None:
    """A VAE that is trained further would be another one."""
    for steps in (2, 4):
        text = f"train-vae: {{latent: 2x4x4, steps: {steps}}}\ntrain-denoiser: {{steps: {steps}, batch: 8}}"
        (work / "both.yaml").write_text(text)
        done = cli("train --data tiny.npz --config both.yaml --name mine", cwd=work)
        assert done.code == 0, done.err
    other = cli("train --data tiny.npz --config both.yaml --name mine --vae runs/vae", cwd=work)
    assert other.code == 1 and "holds another VAE" in other.err, other.err
    newest = {kind: locate(work / "runs" / f"mine-{kind}").folder.name for kind in ("vae", "denoiser")}
    assert newest == {"vae": "checkpoint-00000002", "denoiser": "checkpoint-00000004"}


def test_a_dry_run_of_both_trainings_describes_both_and_writes_nothing(
    cli: Callable, tiny_folder: Path, tmp_path: Path
) -> None:
    shutil.copy(tiny_folder / "tiny.npz", tmp_path)
    done = cli("train --data tiny.npz --latent 2x4x4 --minutes 8 --dry-run", cwd=tmp_path)
    assert done.code == 0, done.err
    plans = json.loads(done.out)
    assert [plans[kind]["kind"] for kind in ("vae", "denoiser")] == ["vae", "denoiser"]
    assert plans["vae"]["network"]["latent"] == plans["denoiser"]["network"]["shape"] == [2, 4, 4]
    assert [plans[kind]["options"]["minutes"] for kind in ("vae", "denoiser")] == [2.0, 6.0]
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.npz"]
    for name in (name for name in COMMANDS if name.startswith("train")):
        assert "--dry-run" in cli(f"{name} --help", cwd=tmp_path).out, name


@pytest.mark.parametrize(
    ("image", "latent"),
    [
        ((1, 28, 28), (32,)),
        ((1, 64, 64), (8, 8, 8)),
        ((3, 64, 64), (8, 8, 8)),
        ((3, 128, 96), (8, 16, 12)),
        ((3, 32, 32), (4, 8, 8)),
        ((3, 32, 48), (4, 8, 12)),
        ((3, 30, 30), (4, 15, 15)),
    ],
)
def test_the_default_latent_suits_the_images(image: tuple[int, int, int], latent: tuple[int, ...]) -> None:
    assert default_latent(image) == latent
    assert VAEConfig.of_preset("small", image=image, latent=latent).latent == latent


def test_images_without_a_fitting_grid_are_refused() -> None:
    with pytest.raises(InputError, match=r"no grid fits images of 45x64 pixels.*`size` 48x64"):
        default_latent((3, 45, 64))


def test_the_default_latent_of_colour_images_is_said(cli: Callable, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (20, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "colour.npz", x_train=images, x_test=images[:4])
    for words in ("", "--latent auto"):
        done = cli(f"train-vae --data colour.npz --dry-run --json {words}", cwd=tmp_path)
        assert json.loads(done.out)["network"]["latent"] == [4, 4, 4]
        assert "latent 4x4x4: 4 channels at 1/4 of each side, as for images up to 48 pixels, 12" in done.err
        both = plans_of(cli(f"train --data colour.npz --minutes 2 --dry-run {words}", cwd=tmp_path))
        assert both["vae"]["network"]["latent"] == [4, 4, 4]
    done = cli("train-vae --data colour.npz --latent 32 --dry-run --json", cwd=tmp_path)
    assert json.loads(done.out)["network"]["latent"] == [32] and "fewer numbers" not in done.err


def smooth_photos(folder: Path, sizes: Sequence[tuple[int, int]]) -> None:
    """Two classes of soft colour gradients, which any VAE of photos reconstructs."""
    for k in range(24):
        width, height = sizes[k % len(sizes)]
        x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
        pixels = np.stack([x * (k + 1) / 24, y, (x + y) / 2], 2)
        path = folder / ("warm" if k % 2 else "cold") / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((255 * pixels).astype(np.uint8)).save(path)


def plans_of(done: Result) -> dict[str, Any]:
    assert done.code == 0, done.err
    plans = json.loads(done.out)
    assert isinstance(plans, dict)
    return plans


def test_photos_as_they_are_need_no_option(cli: Callable, tmp_path: Path) -> None:
    smooth_photos(tmp_path / "photos", [(80, 96), (96, 80)])
    done = cli("train --data photos --minutes 8 --dry-run", cwd=tmp_path)
    plans = plans_of(done)
    assert "images of different sizes are brought to 64x64 pixels" in done.err
    assert "VAE `colour` of the package, which reconstructs these images at" in done.err
    assert list(plans) == ["denoiser"] and plans["denoiser"]["options"]["minutes"] == 8
    network, options = plans["denoiser"]["network"], plans["denoiser"]["options"]
    assert network["shape"] == [8, 8, 8] and network["num_classes"] == 2
    assert options["prediction"] == "x0" and options["network"] == network["kind"] == "unet"
    both = plans_of(cli("train --data photos --minutes 8 --vae own --dry-run", cwd=tmp_path))
    assert list(both) == ["vae", "denoiser"] and both["vae"]["options"]["minutes"] == 2
    assert both["vae"]["network"]["latent"] == [8, 8, 8] and both["vae"]["batch"] == 32
    folder = shipped_folder("colour")
    assert folder is not None
    about = json.loads((folder / "vae/config.json").read_text())
    assert both["vae"]["network"]["depth"] == about["depth"]  # the training begins with it
    other = plans_of(cli("train --data photos --minutes 8 --vae own --latent 4x8x8 --dry-run", cwd=tmp_path))
    assert (
        other["vae"]["network"]["latent"] == [4, 8, 8] and other["vae"]["network"]["depth"] != about["depth"]
    )
    assert list(tmp_path.iterdir()) == [tmp_path / "photos"]
    assert (options["flip"], options["random_shift"]) == (True, 4) and "are few for 8 minutes" in done.err
    for given, expected in (("--no-flip", (False, 4)), ("--no-flip --random-shift 0", (False, 0))):
        plan = plans_of(cli(f"train --data photos --minutes 8 {given} --dry-run", cwd=tmp_path))["denoiser"]
        assert (plan["options"]["flip"], plan["options"]["random_shift"]) == expected


@pytest.mark.parametrize("augmented", [True, False])
def test_a_stopped_train_goes_on_with_the_changes_of_its_vae(
    augmented: bool, cli: Callable, tmp_path: Path
) -> None:
    """Which an older version did not choose: they stay what they were."""
    smooth_photos(tmp_path / "photos", [(64, 64)])
    options = "--flip --random-shift 4" if augmented else ""
    small = "--steps 1 --batch 4 --width 8 --depth 0 --workers 1 --bf16 off"
    begun = cli(f"train-vae --data photos --latent 8x8x8 --name mine-vae {small} {options}", cwd=tmp_path)
    assert begun.code == 0, begun.err
    done = cli("train --data photos --vae own --minutes 8 --name mine --dry-run", cwd=tmp_path)
    found = plans_of(done)["denoiser"]["options"]
    assert (found["flip"], found["random_shift"]) == ((True, 4) if augmented else (False, 0)), done.err


def test_two_hours_get_larger_pictures(cli: Callable, tmp_path: Path) -> None:
    """Where photos are large enough; a training that has begun keeps its size."""
    smooth_photos(tmp_path / "photos", [(160, 96), (96, 120)])
    smooth_photos(tmp_path / "small", [(80, 96), (96, 80)])
    command = "train --data photos --minutes 120 --name mine"
    plans = plans_of(cli(f"{command} --dry-run", cwd=tmp_path))
    assert plans["denoiser"]["network"]["shape"] == [8, 16, 16]
    small = plans_of(cli("train --data small --minutes 120 --dry-run", cwd=tmp_path))
    assert small["denoiser"]["network"]["shape"] == [8, 8, 8]
    tiny = "--vae colour --size 64x64 --name mine-denoiser --steps 1 --batch 4 --width 8 --workers 1"
    begun = cli(f"train-denoiser --data photos {tiny} --bf16 off --network mlp", cwd=tmp_path)
    assert begun.code == 0, begun.err
    kept = plans_of(cli(f"{command} --dry-run", cwd=tmp_path))
    assert kept["denoiser"]["options"]["size"] == "64x64"
    smooth_photos(tmp_path / "mixed", [(80 + k, 80) for k in range(4)] + 20 * [(900, 700)])
    assert plans_of(cli("train --data mixed --minutes 120 --dry-run", cwd=tmp_path))["denoiser"]["network"][
        "shape"
    ] == [8, 16, 16]
    smooth_photos(tmp_path / "thumbs", 20 * [(80, 80)] + [(900 + k, 700) for k in range(4)])
    assert plans_of(cli("train --data thumbs --minutes 120 --dry-run", cwd=tmp_path))["denoiser"]["network"][
        "shape"
    ] == [8, 8, 8]


def test_what_a_begun_training_cannot_follow_is_said(cli: Callable, tmp_path: Path) -> None:
    """Its VAE and network stay; an option for others is refused, more minutes say that they keep them."""
    smooth_photos(tmp_path / "photos", [(64, 64)])
    tiny = "--vae colour --size 64x64 --name mine-denoiser --minutes 0.001 --batch 4 --width 8 --workers 1"
    begun = cli(f"train-denoiser --data photos {tiny} --bf16 off --network mlp", cwd=tmp_path)
    assert begun.code == 0, begun.err
    command = "train --data photos --minutes 8 --name mine --dry-run"
    for option in ("--vae own", "--latent 4x8x8"):
        refused = cli(f"{command} {option}", cwd=tmp_path)
        assert refused.code == 2 and refused.out == ""
        assert f"{option.split(' 4')[0]}: mine-denoiser knows the latents of another VAE" in refused.err
    done = cli(f"{command} --size 64", cwd=tmp_path)
    assert plans_of(done)["denoiser"]["options"]["size"] == "64x64"
    assert "mine goes on with what was chosen for 0.001 minutes of its denoiser (--network mlp)" in done.err
    other = cli(f"{command} --size 72", cwd=tmp_path)
    assert other.code == 2 and "--size: the resumed run has 64x64, got 72" in other.err


def test_a_begun_training_goes_on_at_its_size_past_a_damaged_checkpoint(
    cli: Callable, tmp_path: Path
) -> None:
    """Also where that was the images' own, which `train` would not choose."""
    smooth_photos(tmp_path / "photos", [(128, 128)])
    small = "--latent 8x8x8 --batch 4 --width 8 --depth 0 --workers 1 --bf16 off --save-every 1"
    for steps in (1, 2):
        more = (
            "--resume mine-vae --steps 2"
            if steps == 2
            else f"--data photos --name mine-vae --steps 1 {small}"
        )
        begun = cli(f"train-vae {more}", cwd=tmp_path)
        assert begun.code == 0, begun.err
    (tmp_path / "runs/mine-vae/checkpoint-00000002/training/state.json").write_text("{")
    again = cli("train --data photos --vae own --minutes 8 --name mine --dry-run", cwd=tmp_path)
    assert again.code == 0, again.err
    plans = plans_of(again)
    assert plans["vae"]["network"]["image"] == [3, 128, 128]


def test_photos_of_a_camera_are_not_trained_on_at_full_size(cli: Callable, tmp_path: Path) -> None:
    """Of one size, too large for a CPU; --size and --latent keep what they say."""
    smooth_photos(tmp_path / "photos", [(320, 240)])
    done = cli("train --data photos --minutes 8 --dry-run", cwd=tmp_path)
    plans = plans_of(done)
    assert "images of 240x320 are brought to 56x72 pixels" in done.err
    assert plans["denoiser"]["network"]["shape"] == [8, 7, 9]
    given = plans_of(cli("train --data photos --size 48x64 --minutes 8 --dry-run", cwd=tmp_path))
    assert given["denoiser"]["network"]["shape"] == [8, 6, 8]
    kept = plans_of(cli("train --data photos --latent 4x30x40 --minutes 8 --dry-run", cwd=tmp_path))
    assert kept["vae"]["network"]["image"] == [3, 240, 320]


def test_sizes_are_found_before_anything_is_decoded(
    cli: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Photos of a hundred megapixels together would not fit into memory as they are."""
    smooth_photos(tmp_path / "photos", [(320, 240), (240, 320)])
    monkeypatch.setattr("latentdiff.data.folder_pixels.MAX_BYTES", 24 * 3 * 64 * 64)
    done = cli("train --data photos --minutes 8 --dry-run", cwd=tmp_path)
    assert "images of different sizes are brought to 64x64 pixels" in done.err
    assert plans_of(done)["denoiser"]["network"]["shape"] == [8, 8, 8]


def test_few_minutes_get_the_quick_network(cli: Callable, tmp_path: Path) -> None:
    smooth_photos(tmp_path / "photos", [(64, 64)])
    plans = plans_of(cli("train --data photos --minutes 2 --dry-run", cwd=tmp_path))
    assert plans["denoiser"]["network"]["kind"] == "mlp"
    given = plans_of(cli("train --data photos --minutes 2 --prediction v --dry-run", cwd=tmp_path))
    assert given["denoiser"]["options"]["prediction"] == "v"


def test_images_that_the_vae_of_the_package_cannot_reconstruct_get_one_of_their_own(
    cli: Callable, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (20, 64, 64, 3), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", x_train=noise, x_test=noise[:4])
    done = cli("train --data noise.npz --minutes 8 --dry-run", cwd=tmp_path)
    assert list(plans_of(done)) == ["vae", "denoiser"] and "dB: training one" in done.err


def test_fine_tuning_keeps_the_network_and_what_it_predicts(
    cli: Callable, tiny_spatial_run: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    shutil.copy(tiny_folder / "tiny.npz", tmp_path)
    command = f"train-denoiser --data tiny.npz --init-from {tiny_spatial_run} --vae {tiny_spatial_run}"
    done = cli(f"{command} --T 20 --steps 1 --dry-run --json", cwd=tmp_path)
    plan = plans_of(done)
    assert plan["options"]["prediction"] == "v" and plan["network"]["kind"] == "unet"
    assert "--network unet --width 16" in done.err
    other = cli(f"{command} --T 20 --steps 1 --network mlp --dry-run", cwd=tmp_path)
    assert other.code == 1 and "its denoiser has" in other.err


def test_small_and_grey_images_get_a_vae_of_their_own(cli: Callable, tmp_path: Path) -> None:
    smooth_photos(tmp_path / "photos", [(80, 96)])
    for size in ("--size 32", "--size 64 --channels 1"):
        done = cli(f"train --data photos {size} --minutes 8 --dry-run", cwd=tmp_path)
        assert list(plans_of(done)) == ["vae", "denoiser"] and "colour" not in done.err, size
    done = cli("train --data photos --size 90x100 --minutes 8 --dry-run", cwd=tmp_path)
    assert list(plans_of(done)) == ["vae", "denoiser"]
    assert (
        "the VAE `colour` of the package takes sides that 8 divides, --size 88x96: training one" in done.err
    )


def test_the_vae_of_the_package_takes_other_sizes(cli: Callable, tmp_path: Path) -> None:
    smooth_photos(tmp_path / "photos", [(80, 96)])
    done = cli("train --data photos --size 96x64 --vae colour --minutes 8 --dry-run", cwd=tmp_path)
    assert plans_of(done)["denoiser"]["network"]["shape"] == [8, 12, 8]
    assert "colour: trained on images of 64x64, used at 96x64: latents of 8x12x8" in done.err
    refused = cli("train --data photos --size 60 --vae colour --minutes 8 --dry-run", cwd=tmp_path)
    assert refused.code == 1 and "its VAE is for images" in refused.err
    both = cli("train --data photos --size 64 --vae colour --latent 32 --dry-run", cwd=tmp_path)
    assert both.code == 2 and "--latent is for a VAE that is trained" in both.err


# data, runs and checkpoints that are elsewhere or damaged


def test_a_run_goes_on_wherever_its_data_is_now(work: Path, cli: Callable) -> None:
    made = cli(f"{VAE} --steps 2 --name mine", cwd=work)
    assert made.code == 0, made.err
    (work / "deep" / "er").mkdir(parents=True)
    state = work / "runs" / "mine"
    for steps, command, cwd in (
        (3, "--resume mine", work),  # the name of a run
        (4, f"--resume {state}", work / "deep" / "er"),  # another working directory
        (5, "--resume ../../runs/mine --data ../../tiny.npz", work / "deep" / "er"),
        (6, f"--resume runs/mine --data {work}/tiny.npz", work),
    ):
        result = cli(f"train-vae {command} --steps {steps}", cwd=cwd)
        assert result.code == 0 and ("data: tiny.npz is" in result.err) == (steps == 4), result.err
    (work / "tiny.npz").rename(work / "moved.npz")
    lost = cli("train-vae --resume mine --steps 9", cwd=work)
    assert lost.code == 1 and "tiny.npz: not found" in lost.err and "--data names where it is now" in lost.err
    found = cli("train-vae --resume mine --steps 9 --data moved.npz", cwd=work)
    assert found.code == 0, found.err
    options = json.loads((state / "checkpoint-00000009" / "training" / "state.json").read_text())["options"]
    assert options["data"] == "moved.npz"
    assert cli("reconstruct --run mine -n 4", cwd=work / "deep").code == 1  # there is no runs/ here
    assert cli("reconstruct --run ../runs/mine -n 4", cwd=work / "deep").code == 0


def test_a_vae_that_is_named_again_must_be_the_same(work: Path, cli: Callable) -> None:
    command = "train-denoiser --data tiny.npz --width 16 --depth 1 --T 4 --batch 16"
    assert cli(f"{command} --vae runs/vae --steps 2 --name mine", cwd=work).code == 0
    assert cli(f"{VAE} --steps 2 --seed 5 --name other", cwd=work).code == 0
    (work / "runs" / "vae").rename(work / "runs" / "renamed")
    assert cli("train-denoiser --resume mine --steps 3", cwd=work).code == 0
    assert cli("train-denoiser --resume mine --steps 4 --vae renamed", cwd=work).code == 0
    other = cli("train-denoiser --resume mine --steps 5 --vae other", cwd=work)
    assert other.code == 1 and "--vae other: holds another VAE" in other.err
    pixel = cli(
        "train-denoiser --data tiny.npz --pixel --width 16 --depth 1 --T 4 --steps 1 --name pixel", cwd=work
    )
    assert pixel.code == 0, pixel.err
    assert cli("train-denoiser --resume pixel --steps 2 --vae renamed", cwd=work).code == 2


def test_a_damaged_checkpoint_is_named_with_the_way_out(work: Path, cli: Callable) -> None:
    saves = "--steps 4 --save-every 2 --name mine"
    assert cli(f"{VAE} {saves}", cwd=work).code == 0
    weights = work / "runs" / "mine" / "checkpoint-00000004" / "vae" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1])
    older = "runs/mine/checkpoint-00000002"
    refused = cli("reconstruct --run mine -n 4", cwd=work)
    assert refused.code == 1 and "damaged" in refused.err and f"an older one is {older}" in refused.err
    resumed = cli("train-vae --resume mine --steps 4", cwd=work)
    assert resumed.code == 0, resumed.err
    assert (
        f"going on from {older}" in resumed.err
        and "kept as runs/mine/damaged-checkpoint-00000004" in resumed.err
    )
    assert cli("inspect mine", cwd=work).code == 0


def test_the_newest_vae_that_fits_the_images_is_taken(work: Path, cli: Callable) -> None:
    images = np.random.default_rng(0).integers(0, 255, (20, 16, 16, 3), dtype=np.uint8)
    np.savez(work / "colour.npz", x_train=images, x_test=images[:4])
    made = cli(
        "train-vae --data colour.npz --latent 4x4x4 --width 8 --batch 4 --steps 1 --name colour", cwd=work
    )
    assert made.code == 0, made.err
    done = cli("train-denoiser --data tiny.npz --width 16 --depth 1 --T 4 --steps 1 --dry-run", cwd=work)
    assert done.code == 0, done.err
    assert (
        "runs/vae/checkpoint-" in done.err
        and "that of runs/colour, which is newer, is for other images" in done.err
    )
    np.savez(work / "other.npz", x_train=images[:, :8, :8], x_test=images[:4, :8, :8])
    none = cli("train-denoiser --data other.npz --T 4 --steps 1 --dry-run", cwd=work)
    assert none.code == 1 and "name a fitting one with --vae" in none.err


def test_a_width_that_is_no_multiple_of_the_groups_is_named(work: Path, cli: Callable) -> None:
    refused = cli(
        "train-denoiser --data tiny.npz --pixel --network unet --width 8 --steps 1 --dry-run", cwd=work
    )
    assert refused.code in (1, 2) and "width: expected a multiple of 16" in refused.err


def test_a_recipe_is_named_where_its_file_is_not(work: Path, cli: Callable) -> None:
    refused = cli("train-vae --config configs/scenes.yaml", cwd=work)
    assert refused.code == 2 and "--config scenes is the recipe of that name" in refused.err


def test_errors_of_both_trainings_name_the_help_that_has_the_option(cli: Callable, tmp_path: Path) -> None:
    assert "(see `latentdiff train --help`)" in cli("train --latent 0", cwd=tmp_path).err
    (tmp_path / "c.yaml").write_text("train-vae: {lr: 0}\ntrain-denoiser: {}")
    assert "(see `latentdiff train-vae --help`)" in cli("train --config c.yaml", cwd=tmp_path).err
