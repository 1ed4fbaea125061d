"""Models of diffusers in our commands: the same samples, latents and processes as there, and the core none
the wiser.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers_models import SIDE, T, autoencoder, given_noise, quiet, saved, tiny_autoencoder, unet
from torch import Tensor

import latentdiff as ld
from latentdiff.config.sampling import Sampling
from latentdiff.diffusion.loop import start
from latentdiff.errors import InputError
from latentdiff.ops.random import Key
from latentdiff.pipeline.checkpoint.folder import INDEX
from latentdiff.pipeline.checkpoint.runs import locate
from latentdiff.pipeline.components import load_autoencoder, load_codec
from latentdiff.pipeline.diffusers import FusedDDIMScheduler

N = 3
KEY = Key.of(5, N)
SHAPE = (1, SIDE, SIDE)
PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}


def drawn(pipeline: Any, **options: Any) -> Tensor:
    """Samples of a diffusers pipeline, as they are before it maps them to [0, 1]."""
    return 2 * pipeline(batch_size=N, output_type="pt", **options).images - 1


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("clip", [None, 1.0, 0.4])
@pytest.mark.parametrize(
    ("steps", "spacing", "eta"), [(6, "leading", 0.0), (5, "trailing", 0.0), (4, "leading", 0.7)]
)
def test_ddim_draws_what_the_pipeline_of_diffusers_draws(
    prediction: str,
    clip: float | None,
    steps: int,
    spacing: Any,
    eta: float,
    tmp_path: Path,
    monkeypatch: Any,
) -> None:
    options = {"clip_sample": clip is not None, "clip_sample_range": clip or 1.0, "timestep_spacing": spacing}
    folder = saved(tmp_path, DDIMScheduler(num_train_timesteps=T, prediction_type=prediction, **options))
    mine = ld.load(folder)
    assert mine.diffusion.prediction == PREDICTIONS[prediction] and mine.diffusion.clip == clip
    x = start(KEY, SHAPE)
    settings = Sampling(steps=steps, spacing=spacing, eta=eta)
    noises = [x, *(KEY.at("step", t).normal(SHAPE) for t in mine.plan(settings)[1][:-1])]
    given_noise(monkeypatch, iter(noises))
    theirs = drawn(quiet(DDIMPipeline.from_pretrained(folder)), num_inference_steps=steps, eta=eta)
    # their tables are float32, where 1 - alpha-bar of the lowest levels has lost digits
    torch.testing.assert_close(mine.run(settings, KEY, x).images, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "variance"), [("linear", "fixed_small"), ("squaredcos_cap_v2", "fixed_large")]
)
@pytest.mark.parametrize("steps", [None, 5])
def test_ddpm_draws_what_the_pipeline_of_diffusers_draws(
    kind: str, variance: str, steps: int | None, tmp_path: Path, monkeypatch: Any
) -> None:
    folder = saved(tmp_path, DDPMScheduler(num_train_timesteps=T, beta_schedule=kind, variance_type=variance))
    mine, x = ld.load(folder), start(KEY, SHAPE)
    settings = Sampling(sampler="ddpm", steps=steps, spacing="leading")
    assert mine.with_defaults(settings).variance == variance.removeprefix("fixed_")
    levels = mine.plan(settings)[1]
    given_noise(monkeypatch, iter([x, *(KEY.at("step", t).normal(SHAPE) for t in levels[:-1])]))
    theirs = drawn(quiet(DDPMPipeline.from_pretrained(folder)), num_inference_steps=steps or T)
    torch.testing.assert_close(mine.run(settings, KEY, x).images, theirs, rtol=0, atol=2e-5)


def test_a_model_without_a_clip_starts_at_the_top_as_diffusers_does(tmp_path: Path, monkeypatch: Any) -> None:
    """Ours of eps start lower, where alpha is not yet so small; T = 1000 of diffusers' own betas ends at
    alpha = 0.006.
    """
    folder = saved(
        tmp_path, DDIMScheduler(num_train_timesteps=1000, clip_sample=False, timestep_spacing="trailing")
    )
    mine, x = ld.load(folder), start(KEY, SHAPE)
    assert mine.plan(Sampling(steps=4))[1][0] == 1000
    given_noise(monkeypatch, iter([x]))
    theirs = drawn(quiet(DDIMPipeline.from_pretrained(folder)), num_inference_steps=4)
    torch.testing.assert_close(mine.run(Sampling(steps=4), KEY, x).images, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"beta_schedule": "linear", "beta_start": 0.001, "beta_end": 0.3},
        {"beta_schedule": "scaled_linear", "beta_start": 0.001, "beta_end": 0.3},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"beta_schedule": "sigmoid", "beta_end": 0.3},
        {"beta_schedule": "laplace"},
        {"trained_betas": [0.01 + 0.02 * k for k in range(T)]},
        {"beta_schedule": "linear", "rescale_betas_zero_snr": True, "prediction_type": "v_prediction"},
        {"trained_betas": [0.02] * T, "rescale_betas_zero_snr": True, "prediction_type": "sample"},
    ],
    ids=lambda options: "-".join(map(str, options)),
)
def test_every_schedule_is_taken_as_it_is(options: dict[str, Any], tmp_path: Path) -> None:
    theirs = DDPMScheduler(num_train_timesteps=T, **options)
    mine = ld.load(saved(tmp_path, theirs))
    found = mine.schedule.alpha[1:].square()
    torch.testing.assert_close(found, theirs.alphas_cumprod.double(), rtol=2e-5, atol=1e-7)
    mine.save(tmp_path / "again")
    assert torch.equal(ld.load(tmp_path / "again").schedule.alpha, mine.schedule.alpha)


def test_a_pipeline_that_was_saved_with_our_scheduler_comes_back(tmp_path: Path) -> None:
    pipeline = DDIMPipeline(unet(), DDIMScheduler(num_train_timesteps=T))
    pipeline.scheduler = FusedDDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.save_pretrained(tmp_path / "fused")
    expected = ld.load(saved(tmp_path / "stock")).sample(2, steps=3)
    assert torch.equal(ld.load(tmp_path / "fused").sample(2, steps=3), expected)
    for path, old in (  # files named our class before they named the stock one
        (
            tmp_path / "fused" / INDEX,
            {"scheduler": ["latentdiff.compat.diffusers.ddim", "FusedDDIMScheduler"]},
        ),
        (tmp_path / "fused" / "scheduler" / "scheduler_config.json", {"_class_name": "FusedDDIMScheduler"}),
    ):
        path.write_text(json.dumps(json.loads(path.read_text()) | old))
    assert torch.equal(ld.load(tmp_path / "fused").sample(2, steps=3), expected)


@pytest.fixture(scope="module")
def class_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class-conditional DDPM pipeline, which diffusers' own call cannot draw from."""
    return saved(
        tmp_path_factory.mktemp("classes"), DDPMScheduler(num_train_timesteps=T), network=unet(classes=3)
    )


def test_classes_are_told_to_the_network(class_folder: Path) -> None:
    mine, x = ld.load(class_folder), start(KEY, SHAPE)
    assert mine.classes == ("0", "1", "2")
    network, scheduler = (
        UNet2DModel.from_pretrained(class_folder / "unet"),
        DDIMScheduler(num_train_timesteps=T),
    )
    scheduler.set_timesteps(5)
    theirs, labels = x, torch.tensor([2, 0, 1])
    with torch.no_grad():
        for t in scheduler.timesteps:
            theirs = scheduler.step(network(theirs, t, class_labels=labels).sample, t, theirs).prev_sample
    found = mine.run(Sampling(steps=5, spacing="leading"), KEY, x, label=[2, 0, 1]).images
    torch.testing.assert_close(found, theirs.clamp(-1, 1), rtol=0, atol=2e-5)
    other = mine.run(Sampling(steps=5, spacing="leading"), KEY, x, label=[1, 0, 1]).images
    assert not torch.allclose(other[0], found[0], atol=1e-3) and torch.equal(other[1:], found[1:])


@pytest.mark.parametrize(
    ("options", "found"), [({"label": 1, "guidance": 2.0}, "got guidance 2"), ({}, "got no label")]
)
def test_a_network_without_a_null_class_refuses_to_do_without(
    class_folder: Path, options: dict[str, Any], found: str
) -> None:
    with pytest.raises(InputError, match=f"has no null class: expected a `label` and `guidance` 1, {found}"):
        ld.load(class_folder).sample(2, steps=2, **options)


def test_a_saved_model_is_whole_and_its_network_still_diffusers(class_folder: Path, tmp_path: Path) -> None:
    mine = ld.load(class_folder)
    mine.save(tmp_path / "a")
    again = ld.load(tmp_path / "a")
    again.save(tmp_path / "b")
    assert torch.equal(again.sample(2, steps=3, label=1), mine.sample(2, steps=3, label=1))
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 5 and all(
        (tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files
    )
    theirs = UNet2DModel.from_pretrained(tmp_path / "a" / "denoiser").state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.network.inner.state_dict().items())


AUTOENCODERS = {
    "kl": lambda: autoencoder(),
    "kl with statistics": lambda: autoencoder(
        latents_mean=(0.5, -1.0), latents_std=(2.0, 0.5), scaling_factor=0.5
    ),
    "tiny": lambda: tiny_autoencoder(scaling_factor=1.5, shift_factor=0.2),
}


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_latents_are_those_of_diffusers_and_normalised_as_there(name: str, tmp_path: Path) -> None:
    theirs = AUTOENCODERS[name]()
    theirs.save_pretrained(tmp_path)
    codec = load_codec(checkpoint := locate(tmp_path), checkpoint.json(INDEX), image=(1, 16, SIDE))
    assert codec.image_shape == (1, 16, SIDE) and codec.latent_shape == (2, 8, SIDE // 2)
    images = Key.of(1, N).normal((1, 16, SIDE)).clamp(-1, 1)
    with torch.no_grad():
        answer = theirs.encode(images)
        z = answer.latents if name == "tiny" else answer.latent_dist.mode()
        config = theirs.config
        if name == "kl with statistics":
            mean, std = (
                torch.tensor(config[key]).view(1, 2, 1, 1) for key in ("latents_mean", "latents_std")
            )
            expected = (z - mean) * config.scaling_factor / std
        else:
            expected = (z - config.shift_factor) * config.scaling_factor
        torch.testing.assert_close(codec.encode(images), expected, rtol=1e-5, atol=1e-6)
        back = theirs.decode(z).sample.clamp(-1, 1)
        torch.testing.assert_close(codec.decode(codec.encode(images)), back, rtol=0, atol=1e-5)
        noise = Key.of(2, N).normal(codec.latent_shape)
        spread = codec.encode(images, noise=noise) - codec.encode(images)
        if name == "kl":
            torch.testing.assert_close(
                spread, config.scaling_factor * answer.latent_dist.std * noise, rtol=1e-4, atol=1e-6
            )
        if name == "tiny":
            assert spread.abs().max() < 1e-3


@pytest.fixture(scope="module")
def latent_run(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory, cli: Callable) -> Path:
    """A denoiser trained for a moment on an AutoencoderKL whose folder is gone by now."""
    folder = tmp_path_factory.mktemp("latent")
    autoencoder().save_pretrained(folder / "kl")
    data = f"--data {tiny_folder}/tiny.npz --batch 16 --warmup 0 --ema 0 --bf16 off"
    code, _, err = cli(
        f"train-denoiser --vae kl {data} --width 16 --depth 1 --T 20 --steps 3 --name run", cwd=folder
    )
    assert code == 0, err
    shutil.rmtree(folder / "kl")
    return folder / "runs" / "run"


def test_a_denoiser_trained_on_an_autoencoder_of_diffusers_holds_it(cli: Callable, latent_run: Path) -> None:
    code, _, err = cli(f"sample --run {latent_run} -n 4 --steps 3 --out {latent_run}/a.npz", cwd=latent_run)
    assert code == 0, err
    with np.load(latent_run / "a.npz") as found:
        assert found["images"].shape == (4, SIDE, SIDE)
    (checkpoint,) = latent_run.glob("checkpoint-*")
    assert json.loads((checkpoint / INDEX).read_text())["vae"] == ["diffusers", "AutoencoderKL"]
    theirs, first = AutoencoderKL.from_pretrained(checkpoint / "vae"), autoencoder()
    assert theirs.config.shift_factor == first.config.shift_factor
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in first.state_dict().items())


def test_a_data_set_is_encoded_by_an_autoencoder_of_diffusers(
    cli: Callable, tiny_folder: Path, tmp_path: Path
) -> None:
    autoencoder().save_pretrained(tmp_path / "kl")
    data = f"--data {tiny_folder}/tiny.npz"
    code, _, err = cli(f"encode --run kl {data}", cwd=tmp_path)
    assert code == 0, err
    shutil.rmtree(tmp_path / "kl")
    training = "--batch 16 --warmup 0 --ema 0 --bf16 off --width 16 --depth 1 --T 20 --steps 3"
    code, _, err = cli(f"train-denoiser --data latents {training} --name run", cwd=tmp_path)
    assert code == 0, err
    code, _, err = cli("sample --run runs/run -n 4 --steps 3", cwd=tmp_path)
    assert code == 0, err


def test_a_run_on_an_autoencoder_of_diffusers_is_resumed(
    cli: Callable, latent_run: Path, tiny_folder: Path
) -> None:
    copy = latent_run.with_name("copy")
    shutil.copytree(latent_run, copy)
    code, out, err = cli(f"train-denoiser --resume {copy} --steps 4 --json", cwd=latent_run)
    assert code == 0 and json.loads(out)["steps"] == 4, err


@pytest.mark.parametrize(
    "command",
    [
        "sample -n 2 --steps 2 --sampler dpm++",
        "edit -n 2 --input DATA --steps 4",
        "inpaint -n 2 --input DATA --steps 4",
        "restore -n 2 --input DATA --steps 4",
        "invert -n 2 --input DATA --steps 4",
        "inspect",
    ],
)
def test_commands_work_on_a_pipeline_of_diffusers(
    command: str, cli: Callable, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = saved(tmp_path / "pipeline")
    name, *rest = command.replace("DATA", f"{tiny_folder}/tiny.npz").split()
    place = [str(folder)] if name == "inspect" else ["--run", str(folder), *rest]
    code, out, err = cli([name, *place, "--json"], cwd=tmp_path)
    assert code == 0 and json.loads(out), err


def test_inspect_does_not_say_that_it_verified_what_has_no_manifest(
    cli: Callable, tmp_path: Path, tiny_pixel_run: Path
) -> None:
    folder = saved(tmp_path / "pipeline")
    found = json.loads(cli(f"inspect {folder} --json", cwd=tmp_path).out)
    assert not found["verified"] and found["index"]["denoiser"] == ["diffusers", "UNet2DModel"]
    assert found["denoiser_parameters"] == sum(p.numel() for p in unet().parameters())
    assert json.loads(cli(f"inspect {tiny_pixel_run} --json", cwd=tmp_path).out)["verified"]


def test_evaluate_and_reconstruct_measure_models_of_diffusers(
    cli: Callable, tiny_folder: Path, tmp_path: Path
) -> None:
    folder, data = saved(tmp_path / "pipeline"), f"--data {tiny_folder}/tiny.npz"
    measured = "--what denoiser --resamples 0 --test-images 6"
    code, out, err = cli(f"evaluate --run {folder} {data} {measured} --json", cwd=tmp_path)
    assert code == 0 and json.loads(out)["denoiser"]["loss"]["value"] > 0, err
    tiny_autoencoder().save_pretrained(tmp_path / "tiny")
    code, out, err = cli(f"reconstruct --run {tmp_path}/tiny {data} --json", cwd=tmp_path)
    theirs = tiny_autoencoder()
    with np.load(tiny_folder / "tiny.npz") as arrays, torch.no_grad():
        images = torch.from_numpy(arrays["x_test"])[:, None] / 127.5 - 1
        copies = theirs.decode(theirs.encode(images).latents).sample.clamp(-1, 1)
    psnr = -10 * torch.log10(((copies - images) / 2).square().flatten(1).mean(1)).mean()
    assert code == 0 and json.loads(out)["psnr_db"] == pytest.approx(float(psnr), abs=1e-3), err


def test_loading_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    before = torch.get_rng_state()
    ld.load(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_half_precision_weights_compute_in_float32(tmp_path: Path) -> None:
    folder = saved(tmp_path, network=unet().half())
    assert all(p.dtype == torch.float32 for p in ld.load(folder).network.parameters())


def test_without_diffusers_one_line_says_what_to_install(
    cli: Callable, tmp_path: Path, tiny_pixel_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(tmp_path / "pipeline")
    for name in [name for name in sys.modules if name.startswith("latentdiff.pipeline.diffusers")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("latentdiff.pipeline.diffusers", raising=False)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    for command in (f"sample --run {folder} -n 1", f"export --run {tiny_pixel_run} --out {tmp_path}/x"):
        code, _, err = cli(command, cwd=tmp_path)
        assert (code, err.count("\n")) == (1, 1) and "pip install 'diffusers>=0.35'" in err
    assert cli(f"inspect {folder}", cwd=tmp_path).code == 0
    assert cli(f"sample --run {tiny_pixel_run} -n 1 --steps 1", cwd=tmp_path).code == 0


def test_the_core_does_not_import_diffusers(tiny_pixel_run: Path) -> None:
    program = (
        "import sys, latentdiff as ld, latentdiff.apps.cli.shared.find,"
        f" latentdiff.pipeline.checkpoint.diffusers_folder\nld.load({str(tiny_pixel_run)!r})\nsys.exit('diffusers'"
        " in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=200, check=False).returncode == 0


def test_load_autoencoder_takes_the_size_that_a_folder_says(tmp_path: Path) -> None:
    autoencoder(sample_size=[16, 8]).save_pretrained(tmp_path)
    checkpoint = locate(tmp_path)
    assert load_autoencoder(checkpoint, checkpoint.json(INDEX))[0].config.image == (1, 16, 8)
