"""Pixel models of data in [shift - scale, shift + scale]: what is learned, what is stored, what comes out."""

import json
from pathlib import Path

import pytest
import torch
from helpers import Cli
from torch import Tensor, nn

import latentdiff as ld
from latentdiff.config.sampling import Sampling
from latentdiff.config.training import TrainDenoiser
from latentdiff.data import Dataset, Split
from latentdiff.diffusion.illusions.views import view
from latentdiff.diffusion.loop import sample, start
from latentdiff.diffusion.losses import VariationalBound
from latentdiff.diffusion.schedule import ScheduleConfig, make_schedule
from latentdiff.edit.illusion import codec_error
from latentdiff.nn.networks import CNNConfig
from latentdiff.ops.random import Key
from latentdiff.pipeline.codec import IdentityCodec
from latentdiff.train.denoiser import DenoiserTask

CPU = torch.device("cpu")
SEED, SCALE = 3, 0.5


class Fixed(nn.Module):
    """A network that answers ``answer`` and remembers what it was asked."""

    config = CNNConfig(shape=(1, 8, 8))
    answer: Tensor | float = 0.0
    asked: tuple[Tensor, Tensor]

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        self.asked = x, t
        return self.answer if isinstance(self.answer, Tensor) else torch.full_like(x, self.answer)


def make_data() -> Dataset:
    generator = torch.Generator().manual_seed(11)
    splits = [
        Split(torch.randint(0, 256, (n, 1, 8, 8), generator=generator, dtype=torch.uint8)) for n in (30, 5, 5)
    ]
    return Dataset("tiny", *splits)


def test_the_training_target_is_the_scaled_image() -> None:
    """With x_0-prediction the loss of the answer 0 is E |scale x|^2, and the scaled image itself costs
    nothing.
    """
    data, network = make_data(), Fixed()
    options = TrainDenoiser(pixel=True, pixel_scale=SCALE, prediction="x0", T=50, seed=SEED, bf16="off")
    task = DenoiserTask(options, data, IdentityCodec((1, 8, 8), SCALE), network, CPU)
    positions, indices = torch.arange(100, 124), torch.arange(24)
    x0 = SCALE * (data.train.images[indices].double() / 127.5 - 1)
    assert float(task.loss(0, positions, indices)[0]) == pytest.approx(float((x0**2).mean()), rel=1e-5)
    network.answer = x0.float()
    assert float(task.loss(0, positions, indices)[0]) < 1e-10
    assert len(network.asked[1].unique()) > 5  # at many levels


def test_a_learned_variance_is_trained_with_bins_of_the_scaled_pixels() -> None:
    """The only level of this process is measured by the likelihood of 8-bit pixels 2 scale / 255 apart."""
    data, network = make_data(), Fixed()
    numbers = {
        "pixel_scale": SCALE,
        "prediction": "x0",
        "variance": "learned",
        "T": 1,
        "seed": SEED,
        "bf16": "off",
    }
    task = DenoiserTask(
        TrainDenoiser(pixel=True, **numbers), data, IdentityCodec((1, 8, 8), SCALE), network, CPU
    )
    positions, indices = torch.arange(100, 124), torch.arange(24)
    x0 = SCALE * (data.train.images[indices].float() / 127.5 - 1)
    network.answer = torch.cat([0.9 * x0, torch.zeros_like(x0)], 1)
    found = task.loss(0, positions, indices)[1]["bound"]
    x_t, timestep = network.asked
    t = 1 + timestep.long()
    assert set(t.tolist()) == {1}
    expected = VariationalBound(task.schedule, bins=True, scale=SCALE)(
        x0, x_t, 0.9 * x0, torch.zeros_like(x0), t
    )
    assert float(found) == pytest.approx(float(expected.mean()), rel=1e-4)


def test_shifted_pixels_of_eight_bits_are_as_likely_as_others() -> None:
    """The bound's term of level 1 moves with the pixels."""
    generator = torch.Generator().manual_seed(5)
    schedule = make_schedule(ScheduleConfig(T=10))
    x0 = torch.randint(0, 256, (4, 1, 8, 8), generator=generator).float() / 127.5 - 1
    mean, spread = 0.9 * x0, torch.zeros_like(x0)
    plain, moved = (VariationalBound(schedule, bins=True, scale=0.5, shift=shift) for shift in (0.0, 0.5))
    t = torch.ones(4, dtype=torch.int64)
    expected = plain(0.5 * x0, 0.5 * x0, 0.5 * mean, spread, t)
    assert len(expected.unique()) > 1
    k, m = (float(table[1]) for table in plain._tables[:2])
    assert k == pytest.approx(0, abs=1e-9) and m == pytest.approx(1)  # so that x_t has no part at level 1
    found = moved(0.5 * x0 + 0.5, 0.5 * x0, 0.5 * mean + 0.5, spread, t)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("scale", "shift"), [(0.5, 0.5), (1.0, -2.0)])
def test_a_shift_moves_the_pixels(scale: float, shift: float) -> None:
    codec, images = IdentityCodec((1, 8, 8), scale, shift), make_data().test.images.float() / 127.5 - 1
    latents = codec.encode(images)
    torch.testing.assert_close(latents, scale * images + shift)
    torch.testing.assert_close(codec.decode(latents), images)


def test_a_shifted_model_is_stored_unclipped_and_turns_negative_in_images(
    cli: Cli, tiny_folder: Path, tmp_path: Path
) -> None:
    options = f"--data {tiny_folder / 'tiny.npz'} --pixel --pixel-scale 0.5 --pixel-shift 0.5 --network cnn"
    result = cli(f"train-denoiser {options} --width 8 --T 20 --steps 6 --name run --ema 0", cwd=tmp_path)
    assert result.code == 0, result.err
    pipeline = ld.load(tmp_path / "runs" / "run")
    assert pipeline.codec == IdentityCodec((1, 8, 8), 0.5, 0.5) and pipeline.diffusion.clip is None
    assert codec_error(pipeline, view("negative")) > 0.5
    assert codec_error(pipeline, view("identity")) == 0
    refused = cli(f"train-denoiser --data {tiny_folder / 'tiny.npz'} --pixel-shift 0.5", cwd=tmp_path)
    assert refused.code == 2 and "without --pixel" in refused.err


@pytest.fixture(scope="module")
def scaled(cli: Cli, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a small CNN on pixels in [-0.5, 0.5] with learned variance."""
    folder = tmp_path_factory.mktemp("scaled")
    options = (
        f"--data {tiny_folder / 'tiny.npz'} --pixel --pixel-scale {SCALE} --network cnn --width 8 --no-labels"
    )
    result = cli(
        f"train-denoiser {options} --T 20 --variance learned --steps 6 --name run --ema 0", cwd=folder
    )
    assert result.code == 0, result.err
    return folder / "runs" / "run"


def test_the_scale_is_stored_and_loaded(scaled: Path) -> None:
    pipeline = ld.load(scaled)
    assert pipeline.codec == IdentityCodec((1, 8, 8), SCALE)
    assert pipeline.diffusion.clip == SCALE
    checkpoint = max(scaled.glob("checkpoint-*"))
    assert json.loads((checkpoint / "model_index.json").read_text())["pixel_scale"] == SCALE


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpm++"])
def test_samples_stay_in_the_range_and_are_stretched_to_images(scaled: Path, sampler: str) -> None:
    pipeline = ld.load(scaled)
    settings = Sampling.model_validate({"sampler": sampler, "steps": 5})
    step, levels = pipeline.plan(settings)
    key = Key.of(7, 6)
    x = start(key, (1, 8, 8))
    with torch.no_grad():
        *_, last = sample(pipeline.denoiser(), x, levels, step, key)
    assert float(last.x.abs().max()) <= SCALE * (1 + 1e-6)
    raw = pipeline.codec.decode(last.x)
    assert float(raw.abs().max()) <= 1 + 1e-6 and float(raw.abs().max()) > SCALE
    torch.testing.assert_close(pipeline.sample(6, sampler=sampler, steps=5, seed=7), 2 * last.x)


def test_reconstruction_through_the_codec_is_exact(scaled: Path) -> None:
    images = make_data().test.images.float() / 127.5 - 1
    torch.testing.assert_close(ld.load(scaled).reconstruct(images), images)


def test_a_resumed_run_keeps_its_scale(scaled: Path, cli: Cli) -> None:
    work = scaled.parents[1]
    refused = cli(f"train-denoiser --resume {scaled} --pixel --pixel-scale 1.0 --steps 7", cwd=work)
    assert refused.code == 2 and "--pixel-scale: the resumed run has 0.5, got 1.0" in refused.err
    assert cli(f"train-denoiser --resume {scaled} --steps 7", cwd=work).code == 0
    assert ld.load(scaled).codec == IdentityCodec((1, 8, 8), SCALE)
