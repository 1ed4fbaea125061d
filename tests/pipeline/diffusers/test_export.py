"""Folders that diffusers loads: exact where the two are the same, a line that names the difference where they
are not.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny, DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers_models import SIDE, T, given_noise, quiet, saved, tiny_autoencoder

import latentdiff as ld
from latentdiff.config.diffusion import DiffusionConfig, ScheduleConfig
from latentdiff.config.sampling import Sampling
from latentdiff.diffusion.loop import start
from latentdiff.diffusion.schedule import make_schedule
from latentdiff.errors import InputError
from latentdiff.nn.networks import NETWORKS, UNetConfig
from latentdiff.nn.vae_config import VAEConfig
from latentdiff.ops.random import Key
from latentdiff.pipeline.checkpoint.folder import writing
from latentdiff.pipeline.codec import IdentityCodec
from latentdiff.pipeline.diffusers import export_pipeline, export_scheduler

SCHEDULERS: dict[str, Any] = {"ddim": DDIMScheduler, "ddpm": DDPMScheduler}
SCHEDULES = [
    {"kind": "linear"},
    {"kind": "linear", "T": 50},
    {"kind": "scaled_linear", "beta_start": 0.001, "beta_end": 0.01},
    {"kind": "cosine"},
    {"kind": "sigmoid", "T": 100},
    {"kind": "constant", "T": 30, "beta_start": 0.2},
    {"kind": "betas", "T": 3, "betas": (0.1, 0.2, 0.3)},
    {"kind": "cosine", "zero_terminal_snr": True},
    {"kind": "sigmoid", "T": 40, "zero_terminal_snr": True},
]


@pytest.mark.parametrize("sampler", SCHEDULERS)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: "-".join(map(str, s.values())))
def test_every_schedule_is_that_of_the_exported_scheduler(
    schedule: dict[str, Any], sampler: Any, tmp_path: Path
) -> None:
    spec = ScheduleConfig(**schedule)
    process = DiffusionConfig(schedule=spec, prediction="v", clip=0.5, noise="large")
    with writing(tmp_path / "s", manifest=False) as writer:
        export_scheduler(writer, process, sampler=sampler)
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["scheduler_config.json"]
    theirs = SCHEDULERS[sampler].from_pretrained(tmp_path / "s")
    assert (theirs.config.prediction_type, theirs.config.clip_sample_range) == ("v_prediction", 0.5)
    assert theirs.config.clip_sample and (sampler == "ddim" or theirs.config.variance_type == "fixed_large")
    expected = make_schedule(spec).alpha[1:].square()
    torch.testing.assert_close(theirs.alphas_cumprod.double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("ours", "theirs"), [("eps", "epsilon"), ("x0", "sample"), ("v", "v_prediction")])
def test_predictions_have_other_names_there(ours: Any, theirs: str, tmp_path: Path) -> None:
    with writing(tmp_path / "s", manifest=False) as writer:
        export_scheduler(writer, DiffusionConfig(prediction=ours, variance="learned"), sampler="ddpm")
    values = json.loads((tmp_path / "s" / "scheduler_config.json").read_text())
    assert (values["prediction_type"], values["clip_sample"]) == (theirs, False)
    assert values["variance_type"] == "learned_range"


@pytest.mark.parametrize(
    ("process", "message"),
    [
        (DiffusionConfig(prediction="score"), "predicts score"),
        (DiffusionConfig(prediction="flow"), "predicts flow"),
        (DiffusionConfig(schedule=ScheduleConfig(kind="rectified-flow")), "its schedule is rectified-flow"),
        (
            DiffusionConfig(prediction="x0", sigma_data=0.2),
            r"preconditioned \(sigma_data 0.2\).*--sigma-data 0",
        ),
    ],
)
def test_what_diffusers_cannot_read_is_not_exported(
    process: DiffusionConfig, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message), writing(tmp_path / "s", manifest=False) as writer:
        export_scheduler(writer, process, sampler="ddim")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sampler", SCHEDULERS)
def test_an_imported_pipeline_goes_back_and_draws_the_same(
    sampler: str, cli: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(tmp_path / "theirs", DDPMScheduler(num_train_timesteps=T, variance_type="fixed_large"))
    code, _, err = cli(f"export --run theirs --scheduler {sampler} --out back", cwd=tmp_path)
    assert code == 0, err
    assert not (tmp_path / "back" / "manifest.json").exists()
    kind = DDIMPipeline if sampler == "ddim" else DDPMPipeline
    theirs = quiet(kind.from_pretrained(tmp_path / "back"))
    before = UNet2DModel.from_pretrained(folder / "unet").state_dict()
    assert all(torch.equal(value, before[name]) for name, value in theirs.unet.state_dict().items())
    mine, key = ld.load(folder), Key.of(2, 3)
    x, settings = start(key, (1, SIDE, SIDE)), Sampling(sampler=sampler, steps=5)  # type: ignore[arg-type]
    levels = mine.plan(settings)[1]
    noises = [key.at("step", t).normal((1, SIDE, SIDE)) for t in levels[:-1]]
    noises[-1].zero_()  # on its last move diffusers adds noise where that starts above level 1, ours does not
    given_noise(monkeypatch, iter([x, *noises]))
    images = 2 * theirs(batch_size=3, num_inference_steps=5, output_type="pt").images - 1
    torch.testing.assert_close(mine.run(settings, key, x).images, images, rtol=0, atol=1e-5)
    again = ld.load(tmp_path / "back")
    assert again.diffusion.schedule == mine.diffusion.schedule and again.diffusion.clip == mine.diffusion.clip
    assert torch.equal(again.run(settings, key, x).images, mine.run(settings, key, x).images)


def test_parts_are_exported_alone(
    cli: Callable, tiny_folder: Path, tiny_pixel_run: Path, tmp_path: Path
) -> None:
    saved(tmp_path / "theirs")
    assert cli("export --run theirs --part unet --out unet", cwd=tmp_path).code == 0
    assert UNet2DModel.from_pretrained(tmp_path / "unet").config.sample_size == SIDE
    code, out, _ = cli(f"export --run {tiny_pixel_run} --part scheduler --out s --json", cwd=tmp_path)
    assert code == 0 and json.loads(out)["wrote"] == "s"
    theirs, mine = DDIMScheduler.from_pretrained(tmp_path / "s"), ld.load(tiny_pixel_run)
    torch.testing.assert_close(
        theirs.alphas_cumprod.double(), mine.schedule.alpha[1:] ** 2, rtol=0, atol=1e-6
    )
    tiny_autoencoder().save_pretrained(tmp_path / "tiny")
    train = (
        f"train-denoiser --vae tiny --data {tiny_folder}/tiny.npz --batch 8 --width 16 --depth 1 --T 20"
        " --steps 1"
    )
    assert cli(f"{train} --name run", cwd=tmp_path).code == 0
    assert cli("export --run runs/run --part vae --out vae", cwd=tmp_path).code == 0
    found = AutoencoderTiny.from_pretrained(tmp_path / "vae").state_dict()
    assert all(torch.equal(value, found[name]) for name, value in tiny_autoencoder().state_dict().items())


@pytest.mark.parametrize("what", ["pipeline", "unet", "vae"])
def test_our_own_networks_are_refused_with_what_differs_first(
    what: str, cli: Callable, tiny_spatial_run: Path, tmp_path: Path
) -> None:
    code, _, err = cli(f"export --run {tiny_spatial_run} --part {what} --out x", cwd=tmp_path)
    expected = (VAEConfig if what == "vae" else UNetConfig).difference
    assert (
        (code, err.count("\n")) == (1, 1)
        and expected in err
        and ("--part scheduler" in err) == (what != "vae")
    )
    assert not (tmp_path / "x").exists()


def test_every_network_of_the_package_has_its_difference() -> None:
    """Without one, the export would end in a traceback."""
    assert all(config.difference for config in NETWORKS)


def test_what_is_there_is_never_replaced(cli: Callable, tiny_pixel_run: Path, tmp_path: Path) -> None:
    (checkpoint,) = tiny_pixel_run.glob("checkpoint-*")
    before = sorted(checkpoint.rglob("*"))
    command = f"export --run {tiny_pixel_run} --part scheduler --overwrite --out {checkpoint}"
    code, _, err = cli(command, cwd=tmp_path)
    assert (code, err.count("\n")) == (1, 1) and "--overwrite replaces only what this command wrote" in err
    assert sorted(checkpoint.rglob("*")) == before


def test_a_model_that_is_no_pixel_pipeline_is_refused(
    cli: Callable, tiny_pixel_run: Path, tiny_vae_run: Path, tmp_path: Path
) -> None:
    code, _, err = cli(f"export --run {tiny_pixel_run} --part vae --out x", cwd=tmp_path)
    assert code == 1 and "is a pixel model, it has no VAE; leave --part out" in err
    code, _, err = cli(f"export --run {tiny_pixel_run} --part unet --scheduler ddpm --out x", cwd=tmp_path)
    assert code == 2 and "--sampler ddpm: a unet by itself has none" in err
    code, _, err = cli(f"export --run {tiny_vae_run} --out x", cwd=tmp_path)
    assert code == 1 and "holds no denoiser; --part vae exports its VAE" in err
    model = ld.load(saved(tmp_path / "theirs"))
    with (
        pytest.raises(InputError, match=r"scaled by 0\.5"),
        writing(tmp_path / "y", manifest=False) as writer,
    ):
        export_pipeline(
            writer, model.network, model.diffusion, IdentityCodec((1, SIDE, SIDE), 0.5), sampler="ddim"
        )
