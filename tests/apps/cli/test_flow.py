"""Rectified flow from training to every use on the command line: a process that does not preserve
variance.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import latentdiff as ld

OPTIONS = "--data tiny.npz --batch 16 --warmup 0 --ema 0 --bf16 off --log-every 1 --steps 8"
PROCESS = "--prediction flow --schedule rectified-flow --T 20"


@pytest.fixture(scope="module")
def work(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory, cli: Callable) -> Path:
    """A folder with tiny.npz and three flow models: of vector latents, of pixels, with a learned variance."""
    folder = tmp_path_factory.mktemp("flow")
    shutil.copy(tiny_folder / "tiny.npz", folder)
    shutil.copytree(tiny_folder / "runs" / "vae", folder / "runs" / "vae")
    models = {
        "latent": "--vae runs/vae --width 16 --depth 1 --weighting min-snr",
        "pixel": "--pixel --width 16 --depth 1",
        "learned": "--pixel --width 16 --depth 1 --variance learned",
    }
    for name, options in models.items():
        done = cli(f"train-denoiser --name {name} {options} {PROCESS} {OPTIONS}", cwd=folder)
        assert done.code == 0, done.err
    return folder


@pytest.fixture(scope="module", autouse=True)
def _vae(tiny_vae_run: Path) -> None:
    """The autoencoder that ``work`` copies."""


@pytest.fixture
def answer(work: Path, cli: Callable, tmp_path: Path) -> Callable[[str], dict]:
    """`answer("edit ...")`: the JSON of a command that must succeed."""

    def ask(command: str) -> dict:
        done = cli(f"{command} --json", cwd=work)
        assert done.code == 0, done.err
        return json.loads(done.out)

    return ask


def test_the_checkpoint_says_what_was_trained(work: Path) -> None:
    pipe = ld.load(work / "runs" / "latent")
    assert pipe.diffusion.prediction == "flow" and pipe.schedule.config.kind == "rectified-flow"
    assert pipe.schedule.at(20) == (0.0, 1.0) and pipe.schedule.at(5) == pytest.approx((0.75, 0.25))


@pytest.mark.parametrize(
    "options",
    [
        "ddim",
        "ddim --eta 1",
        "ddpm",
        "ddpm --variance large",
        "dpm++ --spacing quadratic",
        "heun",
        "heun --spacing karras",
        "ddim --spacing karras",
    ],
)
@pytest.mark.parametrize("run", ["latent", "pixel"])
def test_every_sampler_draws_the_same_in_any_batch(
    run: str, options: str, work: Path, cli: Callable, tmp_path: Path
) -> None:
    images = []
    for batch in (1, 5):
        out = tmp_path / f"{batch}.npz"
        command = f"sample --run runs/{run} -n 5 --steps 6 --guidance 2 --sampler {options} --batch {batch}"
        done = cli(f"{command} --out {out}", cwd=work)
        assert done.code == 0, done.err
        images.append(np.load(out)["images"].astype(np.int16))
    assert np.abs(images[0] - images[1]).max() <= 1 and len(np.unique(images[0])) > 10


def test_a_learned_variance_draws(work: Path, cli: Callable) -> None:
    done = cli("sample --run runs/learned -n 2 --sampler ddpm --out l.png --json", cwd=work)
    assert done.code == 0 and "learned" in done.out + str(ld.load(work / "runs/learned").diffusion.variance)


def test_it_is_evaluated(
    work: Path, answer: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound of a pixel model ends in pure noise: its prior term is 0."""
    monkeypatch.setenv("LATENTDIFF_CACHE", str(tmp_path / "cache"))
    options = "--features mnist --resamples 20 --test-images 8 --threads 1 -n 12 --neighbors 6 --steps 3"
    found = answer(f"evaluate --run runs/learned {options} --out {tmp_path / 'out'}")
    bits = found["denoiser"]["bits_per_dimension"]
    assert bits["prior"] == 0 and bits["variance"] == "learned" and bits["total"]["value"] > 1
    assert all(np.isfinite(found["denoiser"]["by_level"]["prediction"]))
    found = answer(f"evaluate --run runs/latent {options} --sampler heun --out {tmp_path / 'latent'}")
    assert found["samples"] is not None and found["denoiser"]["bits_per_dimension"] is None


@pytest.mark.slow
@pytest.mark.parametrize("run", ["latent", "pixel"])
def test_it_edits_inverts_and_restores(run: str, work: Path, answer: Callable) -> None:
    model = f"--run runs/{run} --steps 6"
    found = answer(f"edit {model} --sampler heun -n 3 --strength 0,0.4,1 --label own --overwrite")
    assert [edit["level"] for edit in found["edits"]] == [0, 8, 20]
    few, many = (answer(f"invert --run runs/{run} --steps {n} -n 4 --label own --overwrite") for n in (4, 20))
    assert 0 < many["round_trip_error"] < few["round_trip_error"]
    for solver in ("sdedit", "ald", "dps", "diffpir"):
        answer(f"restore {model} -n 2 --operator downsample --noise 0.05 --solver {solver} --overwrite")
    if run == "pixel":
        for solver in ("replacement", "repaint --jump-length 2", "dps"):
            answer(f"inpaint {model} -n 2 --mask half --half bottom --solver {solver} --overwrite")


def test_what_does_not_fit_is_one_line(work: Path, cli: Callable) -> None:
    refused = {
        "restore --run runs/pixel --operator downsample --solver dps --sampler heun": "expected a sampler with one",
        "restore --run runs/pixel --operator downsample --solver diffpir --sampler heun": "steps of its own",
        "sample --run runs/latent --spacing leading --steps 4": "spacing leading starts at level 16",
        "sample --run runs/latent --sampler heun --eta 0.5": "eta is an option of the ddim sampler",
        "export --run runs/latent --part scheduler --out x": "predicts flow",
        "invert --run runs/latent --sampler heun": "deterministic ddim sampler, got --sampler heun",
        f"train-denoiser --pixel {PROCESS} {OPTIONS} --prediction eps": "cannot be used with the rectified-flow",
    }
    for command, message in refused.items():
        done = cli(command, cwd=work)
        assert done.code in (1, 2) and message in done.err and "Traceback" not in done.err, (
            command,
            done.err,
        )


def test_progress_counts_moves(work: Path) -> None:
    """Heun's method evaluates the network twice a move; a bar of moves ends at its number of steps."""
    seen: list[tuple[int, int]] = []
    pipe = ld.load(work / "runs" / "latent")
    images = pipe.sample(2, sampler="heun", spacing="karras", steps=6, progress=lambda *now: seen.append(now))
    assert seen == [(k, 6) for k in range(1, 7)] and torch.isfinite(images).all()
