"""What users get wrong: flags, configs, data and checkpoints.

Each gives one line, the right exit code, and destroys nothing.
"""

import hashlib
import json
import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import reseal
from PIL import Image
from safetensors.torch import load_file, save_file

WEIGHTS = "diffusion_pytorch_model.safetensors"
NOTES = ("using ", "drawing all ", "drawing the first ", "data: ", "training for ")


@dataclass(frozen=True)
class Place:
    """The folder that a bad command runs in: tiny.npz and copies of the tiny runs that the case asks for."""

    folder: Path
    tiny: Path

    def run(self, name: str) -> Path:
        """A copy of a tiny run; its checkpoint folder."""
        target = self.folder / "runs" / name
        shutil.copytree(self.tiny / "runs" / name, target)
        return next(target.glob("checkpoint-*"))

    def write(self, name: str, content: str | bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def npz(self, **arrays: np.ndarray) -> None:
        np.savez_compressed(self.folder / "bad.npz", **arrays)


Make = Callable[[Place], object]


@dataclass(frozen=True)
class Case:
    """A command line, what to prepare for it, and what its one line must name."""

    name: str
    command: str
    expected: tuple[str, ...]
    code: int = 1
    make: Make = field(default=lambda place: None)


def edited(run: str, name: str, **values: object) -> Make:
    """Set keys of a JSON file in a run's checkpoint, or drop them (None), under a right manifest."""

    def make(place: Place) -> None:
        checkpoint = place.run(run)
        content = json.loads((checkpoint / name).read_text())
        for key, value in values.items():
            content.pop(key, None)
            if value is not None:
                content[key] = value
        (checkpoint / name).write_text(json.dumps(content))
        reseal(checkpoint)

    return make


def replaced(run: str, name: str, change: Callable[[bytes], bytes], *, sealed: bool) -> Make:
    """Change the bytes of a file in a run's checkpoint, under a right manifest (`sealed`) or the old one."""

    def make(place: Place) -> None:
        checkpoint = place.run(run)
        path = checkpoint / name
        path.write_bytes(change(path.read_bytes()))
        if sealed:
            reseal(checkpoint)

    return make


def nan_weights(place: Place) -> None:
    checkpoint = place.run("denoiser")
    path = checkpoint / "denoiser" / WEIGHTS
    tensors = load_file(path)
    tensors[sorted(tensors)[0]].view(-1)[0] = torch.nan
    save_file(tensors, path)
    reseal(checkpoint)


def outside_manifest(place: Place) -> None:
    place.write("secret", "s")
    path = place.run("denoiser") / "manifest.json"
    content = json.loads(path.read_text())
    content["files"]["../../../secret"] = {"bytes": 1, "sha256": hashlib.sha256(b"s").hexdigest()}
    path.write_text(json.dumps(content))


def removed(run: str, name: str) -> Make:
    return lambda place: (place.run(run) / name).unlink()


def runs(*names: str) -> Make:
    return lambda place: [place.run(name) for name in names]


def config(text: str | bytes) -> Make:
    return lambda place: place.write("bad.yaml", text)


def images(side: int, count: int = 12, **more: np.ndarray) -> dict[str, np.ndarray]:
    return {"x_train": np.arange(count * side * side, dtype=np.uint8).reshape(count, side, side), **more}


def npz(**arrays: np.ndarray) -> Make:
    return lambda place: place.npz(**arrays)


def other_data(place: Place) -> None:
    place.run("vae")
    place.npz(**images(8, 48))


def truncated_pictures(place: Place) -> None:
    (place.folder / "pictures").mkdir()
    for k in range(4):
        path = place.folder / "pictures" / f"{k}.png"
        Image.fromarray(np.random.default_rng(k).integers(0, 256, (32, 32), dtype=np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[:200])


def picture_bomb(place: Place) -> None:
    """PNGs of a few bytes whose header promises 10^10 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    body = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    for k in range(4):
        place.write(f"pictures/{k}.png", b"\x89PNG\r\n\x1a\n" + body + struct.pack(">I", 0) + b"IDAT")


LAUGHS = "a0: &a0 [ha, ha]\n" + "".join(
    f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 30)
)
MERGES = "a0: &a0 {ha: 1}\n" + "".join(
    f"a{k}: &a{k} {{<<: [{', '.join([f'*a{k - 1}'] * 9)}]}}\n" for k in range(1, 30)
)
PICKLE = pickle.dumps({"weight": [1.0, 2.0]})
SAMPLE = "sample -n 2 --steps 2 --run runs/denoiser"
TRAIN = "train-vae --data bad.npz --steps 1"
FROM_CONFIG = "train-vae --config bad.yaml --dry-run"

FLAGS = [
    Case("unknown flag", "sample --stpes 5", ("No such option", "--stpes"), 2),
    Case("unknown command", "trian-vae", ("no such command 'trian-vae'", "did you mean 'train-vae'"), 2),
    Case("wrong choice", "sample --sampler euler", ("'euler' is not one of", "'ddim', 'ddpm', 'dpm++'"), 2),
    Case("number out of range", "sample -n 0", ("'--number'", "0 is not in the range 1<=x<=1000000"), 2),
    Case("rate out of range", "train-vae --lr 2", ("--lr", "less than or equal to 1", "got 2.0"), 2),
    Case("not a number", "train-vae --steps ten", ("'--steps'", "'ten' is not a valid integer"), 2),
    Case("two budgets", "train-vae --steps 5 --minutes 1", ("one budget", "--steps and --minutes"), 2),
    Case("latent of two sides", "train-vae --latent 4x5", ("--latent: expected", "4x7x7", "got '4x5'"), 2),
    Case("batch in uneven parts", "train-vae --batch 10 --accumulate 3", ("multiple", "got 10 and 3"), 2),
    Case(
        "default batch in uneven parts",
        "train-vae --data tiny.npz --accumulate 1000 --dry-run",
        ("multiple of --accumulate", "got 128 and 1000"),
    ),
    Case(
        "steps that are no numbers", "sample --steps 10,x", ("--steps: expected", "10,25,50", "got '10,x'"), 2
    ),
    Case("steps of absurd length", f"sample --steps {'9' * 5000}", ("--steps: expected a number",), 2),
    Case(
        "eta with ddpm",
        "sample --sampler ddpm --eta 0.5",
        ("eta is an option of the ddim", "0.5 with --sampler ddpm"),
        2,
    ),
    Case(
        "variance with ddim",
        "sample --variance large",
        ("variance is an option of the ddpm", "with --sampler ddim"),
        2,
    ),
    Case("v-pred and eps", "sample --v-pred --prediction eps", ("--prediction v", "got --prediction eps"), 2),
    Case("rate NaN", "train-vae --lr nan", ("--lr", "finite", "got nan"), 2),
    Case("guidance infinite", "sample --guidance inf", ("--guidance", "finite number", "got inf"), 2),
    Case(
        "zero SNR with eps",
        "train-denoiser --zero-snr --prediction eps",
        ("--prediction eps", "alpha is 0", "use v, x0 or flow"),
        2,
    ),
    Case(
        "zero SNR with score",
        "train-denoiser --zero-snr --prediction score",
        ("--prediction score", "use v, x0 or flow"),
        2,
    ),
    Case(
        "a skip for v",
        "train-denoiser --sigma-data 0.2",
        ("belongs to --prediction x0", "0.2 with v", "--sigma-data"),
        2,
    ),
    Case("width off the raster", "train-vae --width 12", ("--width", "multiple of 8", "got 12"), 2),
    Case("unknown device", "sample --device tpu", ("--device: expected auto, cpu", "got 'tpu'"), 2),
    Case(
        "unknown device in training",
        "train-vae --device tpu",
        ("--device: expected auto, cpu", "got 'tpu'"),
        2,
    ),
    Case("absent device", f"{SAMPLE} --device cuda:99", ("cuda:99 is not available",), 1, runs("denoiser")),
    Case("name with a slash", "train-vae --name ../x", ("--name: expected", "got '../x'"), 2),
    Case("size of three sides", "train-vae --size 8x8x8", ("--size: expected pixels", "got '8x8x8'"), 2),
    Case("no picture format", "sample --out a.jpg", ("--out", ".png or .npz", "got 'a.jpg'"), 2),
    Case("frames without trajectory", "sample --frames 5", ("--frames", "needs --trajectory"), 2),
    Case("figure as npz", "sample --steps 1,2 --out a.npz", ("--steps with several", "a.npz"), 2),
    Case("figure with files", "sample --steps 1,2 --files d", ("--steps with several", "--files"), 2),
    Case(
        "trajectory of a way",
        "sample --interpolate 1 --trajectory a.gif",
        ("does not go with --interpolate",),
        2,
    ),
    Case("pixels with a VAE", "train-denoiser --pixel --vae x", ("--pixel works without a VAE", "vae x"), 2),
    Case(
        "pixel scale of latents",
        "train-denoiser --pixel-scale 0.5",
        ("--pixel-scale is for models of pixels", "got 0.5"),
        2,
    ),
    Case("pixel scale zero", "train-denoiser --pixel --pixel-scale 0", ("--pixel-scale", "0.01", "got 0"), 2),
    Case("depth of a CNN", "train-denoiser --network cnn --depth 2", ("--depth", "network cnn", "got 2"), 2),
    Case("unknown network", "train-denoiser --network resnet", ("--network", "'resnet'", "course-unet"), 2),
    Case(
        "unknown schedule",
        "plot-schedule --schedule cosin",
        ("--schedule: expected linear", "got 'cosin'"),
        2,
    ),
    Case(
        "beta of a cosine",
        "plot-schedule --schedule cosine --beta-end 0.1",
        ("--beta-end is not used", "cosine"),
        2,
    ),
]
CONFIGS = [
    Case("no YAML", FROM_CONFIG, ("bad.yaml: not valid YAML",), 2, config("steps: [1, 2")),
    Case("not text", FROM_CONFIG, ("bad.yaml: not valid YAML",), 2, config(b"\xff\xfe\x00\xd8a: 1")),
    Case(
        "unknown key", FROM_CONFIG, ("unknown option 'stesp'", "did you mean 'steps'"), 2, config("stesp: 5")
    ),
    Case(
        "text for a number",
        FROM_CONFIG,
        ("--steps", "'many' is not a valid integer"),
        2,
        config("steps: many"),
    ),
    Case(
        "truth for a number",
        FROM_CONFIG,
        ("--steps", "'true' is not a valid integer"),
        2,
        config("steps: true"),
    ),
    Case(
        "fraction of a step",
        FROM_CONFIG,
        ("--steps", "'10.7' is not a valid integer"),
        2,
        config("steps: 10.7"),
    ),
    Case("number for a truth", FROM_CONFIG, ("--flip", "'7' is not a valid boolean"), 2, config("flip: 7")),
    Case(
        "list for a mapping",
        FROM_CONFIG,
        ("expected `option: value` lines, found list",),
        2,
        config("- steps: 5"),
    ),
    Case(
        "list for a value",
        FROM_CONFIG,
        ("steps: expected a single value, found a list",),
        2,
        config("steps: [5]"),
    ),
    Case(
        "missing section",
        FROM_CONFIG,
        ("no section 'train-vae'", "found sample"),
        2,
        config("sample: {n: 4}"),
    ),
    Case(
        "key beside sections", FROM_CONFIG, ("'steps' stands beside",), 2, config("train-vae: {}\nsteps: 5")
    ),
    Case(
        "NUL",
        FROM_CONFIG,
        ("bad.yaml: data: expected text, found the character '\\x00'",),
        2,
        config(r'data: "a\0b"'),
    ),
    Case(
        "surrogate",
        FROM_CONFIG,
        ("data: expected text, found the character '\\ud800'",),
        2,
        config(r'data: "\uD800"'),
    ),
    Case("missing config", FROM_CONFIG, ("bad.yaml: cannot be read (No such file",), 2),
    Case("alias bomb", FROM_CONFIG, ("not valid YAML", "found an alias"), 2, config(LAUGHS)),
    Case("merge bomb", FROM_CONFIG, ("not valid YAML", "found an alias"), 2, config(MERGES)),
    Case("huge config", FROM_CONFIG, ("expected at most 1048576 bytes",), 2, config("#" * 2**21)),
    Case("nested too deeply", FROM_CONFIG, ("not valid YAML",), 2, config("[" * 2000)),
    Case(
        "code",
        FROM_CONFIG,
        ("not valid YAML",),
        2,
        config("steps: !!python/object/apply:os.system [touch pwned]"),
    ),
]
DATA = [
    Case(
        "missing data",
        "train-vae --data gone",
        ("'gone'", "expected mnist5k", "found no such file or folder"),
    ),
    Case(
        "no data format",
        "train-vae --data a.txt",
        ("a.txt", "found a .txt"),
        1,
        lambda place: place.write("a.txt", ""),
    ),
    Case(
        "no archive",
        TRAIN,
        ("bad.npz", "readable .npz"),
        1,
        lambda place: place.write("bad.npz", b"PK\3\4 not so"),
    ),
    Case(
        "missing arrays",
        TRAIN,
        ("expected the arrays x_train", "found pictures"),
        1,
        npz(pictures=np.zeros(3)),
    ),
    Case(
        "objects",
        TRAIN,
        ("expected numbers or strings in x_train", "found object"),
        1,
        npz(x_train=np.array([None, 1])),
    ),
    Case(
        "NaN pixels",
        TRAIN,
        ("finite pixels in x_train", "found NaN"),
        1,
        npz(x_train=np.full((9, 8, 8), np.nan)),
    ),
    Case(
        "labels short",
        TRAIN,
        ("expected y_train [12]", "found [5]"),
        1,
        npz(**images(8), y_train=np.zeros(5)),
    ),
    Case("too few images", TRAIN, ("at least 3 images",), 1, npz(**images(8, 2))),
    Case(
        "archive bomb",
        TRAIN,
        ("200 times its compressed size",),
        1,
        npz(x_train=np.zeros(2**26 + 2**20, np.uint8)),
    ),
    Case(
        "truncated pictures",
        "train-vae --data pictures",
        ("4 of 4 refused", "truncated"),
        1,
        truncated_pictures,
    ),
    Case("picture bomb", "train-vae --data pictures", ("4 of 4 refused", "too large"), 1, picture_bomb),
    Case(
        "empty folder",
        "train-vae --data e",
        ("e: expected PNG",),
        1,
        lambda place: (place.folder / "e").mkdir(),
    ),
    Case(
        "crop beyond the image",
        "train-vae --data tiny.npz --random-shift 8",
        ("--random-shift must be below the image side 8", "8"),
    ),
    Case(
        "latent of no fit",
        "train-vae --data tiny.npz --latent 4x3x3",
        ("4x3x3 does not fit images of 1x8x8",),
    ),
    Case(
        "images not of the VAE's size",
        "train-denoiser --vae runs/vae --data bad.npz",
        ("images [1, 8, 8]", "the data has [1, 16, 16]"),
        1,
        lambda place: (place.run("vae"), place.npz(**images(16))),
    ),
    Case(
        "images not of the VAE's size, reconstructed",
        "reconstruct --run runs/vae --data bad.npz",
        ("images [1, 8, 8]", "the data has [1, 16, 16]"),
        1,
        lambda place: (place.run("vae"), place.npz(**images(16))),
    ),
]
CHECKPOINTS = [
    Case(
        "no manifest",
        SAMPLE,
        ("runs/denoiser: not a run", "manifest.json"),
        1,
        removed("denoiser", "manifest.json"),
    ),
    Case(
        "manifest not JSON",
        SAMPLE,
        ("manifest.json: not valid JSON",),
        1,
        replaced("denoiser", "manifest.json", lambda data: data[:50], sealed=False),
    ),
    Case(
        "manifest to the outside",
        "inspect runs/denoiser",
        ("manifest.json: names a file that cannot be in the checkpoint: '../../../secret'",),
        1,
        outside_manifest,
    ),
    Case(
        "file gone",
        SAMPLE,
        (WEIGHTS, "cannot be read (No such file"),
        1,
        removed("denoiser", f"denoiser/{WEIGHTS}"),
    ),
    Case(
        "weights cut short",
        SAMPLE,
        (WEIGHTS, "damaged, the manifest says", "bytes, found 500"),
        1,
        replaced("denoiser", f"denoiser/{WEIGHTS}", lambda data: data[:500], sealed=False),
    ),
    Case(
        "weights cut short under a right manifest",
        SAMPLE,
        (WEIGHTS, "not a readable safetensors file"),
        1,
        replaced("denoiser", f"denoiser/{WEIGHTS}", lambda data: data[:500], sealed=True),
    ),
    Case(
        "one byte changed",
        SAMPLE,
        (WEIGHTS, "SHA-256 differs"),
        1,
        replaced(
            "denoiser", f"denoiser/{WEIGHTS}", lambda data: data[:-1] + bytes([data[-1] ^ 1]), sealed=False
        ),
    ),
    Case(
        "pickle for safetensors",
        SAMPLE,
        (WEIGHTS, "not a readable safetensors file"),
        1,
        replaced("denoiser", f"denoiser/{WEIGHTS}", lambda data: PICKLE, sealed=True),
    ),
    Case("NaN weights", SAMPLE, (WEIGHTS, "not finite"), 1, nan_weights),
    Case(
        "width edited",
        SAMPLE,
        ("should have shape [", ", found ["),
        1,
        edited("denoiser", "denoiser/config.json", width=32),
    ),
    Case(
        "width of text",
        SAMPLE,
        ("width", "got 'wide'"),
        1,
        edited("denoiser", "denoiser/config.json", width="wide"),
    ),
    Case(
        "class by path",
        SAMPLE,
        ("unknown class 'os.system'", "MLPDenoiser"),
        1,
        edited("denoiser", "denoiser/config.json", _class_name="os.system"),
    ),
    Case(
        "class is a list",
        SAMPLE,
        ("unknown class []",),
        1,
        edited("denoiser", "vae/config.json", _class_name=[]),
    ),
    Case(
        "unknown key of a component",
        SAMPLE,
        ("scheduler_config.json: unknown key 'beta'",),
        1,
        edited("denoiser", "scheduler/scheduler_config.json", beta=1),
    ),
    Case(
        "index without VAE entry",
        SAMPLE,
        ("model_index.json: expected vae as [library, class]", "found 'x'"),
        1,
        edited("denoiser", "model_index.json", vae="x"),
    ),
    Case(
        "classes lost",
        SAMPLE,
        ("names of 3 classes", "found []"),
        1,
        edited("denoiser", "model_index.json", classes=[]),
    ),
    Case(
        "eta out of range",
        SAMPLE,
        ("model_index.json: expected eta as a number from 0 to 1",),
        1,
        edited("denoiser", "model_index.json", eta=1.5),
    ),
    Case(
        "guidance out of range",
        SAMPLE,
        ("model_index.json: expected guidance as a number from 0 to 100",),
        1,
        edited("denoiser", "model_index.json", guidance=-1),
    ),
    Case(
        "student of no calls",
        SAMPLE,
        ("model_index.json: expected student as its calls and guidance",),
        1,
        edited("denoiser", "model_index.json", student={"calls": 0}),
    ),
    Case(
        "student whose network takes no guidance",
        SAMPLE,
        ("expected a network that takes the guidance",),
        1,
        edited("denoiser", "model_index.json", student={"calls": 2}),
    ),
    Case(
        "guidance that is no number",
        SAMPLE,
        ("model_index.json: expected guidance as a number from 0 to 100",),
        1,
        edited("denoiser", "model_index.json", guidance="3"),
    ),
    Case(
        "VAE without statistics",
        "train-denoiser --vae runs/vae --data tiny.npz",
        ("no latent statistics", "train-vae --resume"),
        1,
        edited("vae", "vae/config.json", latents_mean=None, latents_std=None),
    ),
    Case(
        "statistics too large",
        "train-denoiser --vae runs/vae --data tiny.npz",
        ("expected latents_mean as a list of 4 finite numbers", "found [1000"),
        1,
        edited("vae", "vae/config.json", latents_mean=[10**400] * 4),
    ),
    Case(
        "v-prediction of an eps model",
        "sample --run runs/pixel --v-pred",
        ("trained with eps-prediction", "expected v-prediction"),
        1,
        runs("pixel"),
    ),
    Case(
        "label out of range", f"{SAMPLE} --label 3", ("label must lie in 0..2", "got 3"), 1, runs("denoiser")
    ),
    Case("unknown label", f"{SAMPLE} --label ant,dog", ("'dog'", "ant, bee, cat"), 1, runs("denoiser")),
    Case(
        "guidance without classes",
        "sample --run runs/pixel --guidance 2",
        ("unconditional",),
        1,
        runs("pixel"),
    ),
    Case("label without classes", "sample --run runs/pixel --label 1", ("unconditional",), 1, runs("pixel")),
    Case("more steps than levels", f"{SAMPLE} --steps 21", ("at most 20", "got 21"), 1, runs("denoiser")),
    Case(
        "learned variance of a fixed one",
        f"{SAMPLE} --sampler ddpm --variance learned",
        ("needs a model trained with it",),
        1,
        runs("denoiser"),
    ),
    Case(
        "VAE alone",
        "sample --run runs/vae",
        ("holds a VAE but no denoiser", "train-denoiser"),
        1,
        runs("vae"),
    ),
    Case("no VAE", "reconstruct --run runs/pixel", ("pixel model", "no VAE"), 1, runs("pixel")),
    Case(
        "resume of the wrong kind",
        "train-vae --resume runs/pixel",
        ("denoiser training", "a vae"),
        1,
        runs("pixel"),
    ),
    Case(
        "resume with other data",
        "train-vae --resume runs/vae --data bad.npz --steps 90",
        ("trained on other images", "--data names where they are"),
        1,
        other_data,
    ),
    Case(
        "resume with a spent budget",
        "train-vae --resume runs/vae --steps 9",
        ("40 steps already", "got 9"),
        2,
        runs("vae"),
    ),
    Case(
        "resume after the data changed",
        "train-vae --resume runs/vae --steps 90",
        ("trained on other images", "resume needs the same"),
        1,
        lambda place: (other_data(place), (place.folder / "bad.npz").replace(place.folder / "tiny.npz")),
    ),
    Case(
        "resume as another",
        "train-vae --resume runs/vae --beta 9",
        ("--beta", "0.01, got 9.0"),
        2,
        runs("vae"),
    ),
    Case("resume and rename", "train-vae --resume runs/vae --name b", ("neither --name",), 2, runs("vae")),
    Case(
        "fine-tuning another width",
        "train-vae --data tiny.npz --latent 4 --width 16 --depth 0 --init-from runs/vae",
        ("--init-from", "width 8, expected 16"),
        1,
        runs("vae"),
    ),
    Case(
        "name taken",
        "train-vae --data tiny.npz --name vae",
        ("runs/vae: exists already", "--resume"),
        1,
        runs("vae"),
    ),
    Case(
        "runs in a file",
        "train-vae --data tiny.npz --runs tiny.npz --steps 1",
        ("tiny.npz", "Not a directory"),
    ),
    Case(
        "figure in a file",
        "plot-schedule --out tiny.npz/a.png",
        ("tiny.npz/a.png: cannot be written", "is a file"),
    ),
    Case("picture in a file", f"{SAMPLE} --out tiny.npz/a.png", ("tiny.npz is a file",), 1, runs("denoiser")),
    Case(
        "no runs to sample",
        "sample-cold",
        ("no cold diffusion model in runs/", "`latentdiff train-cold`"),
    ),
    Case(
        "no runs to train on",
        "train-denoiser --data tiny.npz",
        ("no VAE run in runs", "train-vae", "--pixel"),
    ),
    Case("no runs to reconstruct", "reconstruct", ("no VAE run in runs/", "`latentdiff train-vae`")),
    Case("no runs to inspect", "inspect", ("no runs in runs/", "`latentdiff train-vae`")),
    Case("no such run", "inspect runs/gone", ("runs/gone: no such run",)),
]
CASES = [*FLAGS, *CONFIGS, *DATA, *CHECKPOINTS]


def snapshot(folder: Path) -> dict[str, str]:
    """Every path below a folder with the hash of what is in it."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        )
        for path in folder.rglob("*")
    }


@pytest.fixture
def place(
    tmp_path: Path, tiny_folder: Path, tiny_vae_run: Path, tiny_denoiser_run: Path, tiny_pixel_run: Path
) -> Iterator[Place]:
    shutil.copy(tiny_folder / "tiny.npz", tmp_path)
    yield Place(tmp_path, tiny_folder)
    shutil.rmtree(tmp_path)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_one_clear_line_and_nothing_destroyed(case: Case, place: Place, cli: Callable) -> None:
    case.make(place)
    before = snapshot(place.folder)
    code, out, err = cli(case.command, cwd=place.folder)
    *notes, line = err.splitlines()
    assert code == case.code, err
    assert line.startswith("error: "), err
    assert all(note.startswith(NOTES) for note in notes), err
    for words in case.expected:
        assert words in line, f"{words!r} is not in: {line}"
    assert out == ""
    assert snapshot(place.folder) == before


def test_case_names_are_unique_and_there_are_more_than_thirty() -> None:
    assert len({case.name for case in CASES}) == len(CASES) > 30


def start(command: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "latentdiff", *command.split()],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


@pytest.mark.parametrize(("command", "code"), [("sample --eta 2", 2), ("inspect gone", 1)])
def test_exit_codes_of_a_process(command: str, code: int, tmp_path: Path) -> None:
    process = start(command, tmp_path)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err.count("\n")) == (code, "", 1)
    assert err.startswith("error: ")


def test_an_interrupt_ends_a_training_with_130_and_a_checkpoint(
    tiny_folder: Path, tmp_path: Path, cli: Callable
) -> None:
    shutil.copy(tiny_folder / "tiny.npz", tmp_path)
    options = (
        "--data tiny.npz --latent 4 --width 8 --depth 0 --batch 8 --steps 1000000 --log-every 1 --name a"
    )
    process = start(f"train-vae {options}", tmp_path)
    log = tmp_path / "runs" / "a" / "log.jsonl"
    deadline = time.monotonic() + 120
    while not (log.is_file() and log.stat().st_size):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "continue with --resume runs/a" in err and "Traceback" not in err
    answer = json.loads(cli("inspect runs/a --json", cwd=tmp_path).out)
    assert answer["verified"] and not answer["training"]["finished"] and answer["training"]["step"] >= 1
