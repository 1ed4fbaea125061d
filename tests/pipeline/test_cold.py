"""Cold diffusion: degradations, the two samplings, the trained model and its commands."""

import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import reseal
from torch import Tensor, nn

from latentdiff.config.cold import DegradationConfig
from latentdiff.config.training import TrainCold
from latentdiff.data import Dataset, Split
from latentdiff.diffusion.cold import Degradation, Intensities, cold_step, make_degradation
from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.estimate import Estimate
from latentdiff.diffusion.loop import run
from latentdiff.diffusion.operators import gaussian_blur
from latentdiff.diffusion.trajectory import Recorder
from latentdiff.errors import InputError
from latentdiff.nn import build
from latentdiff.nn.networks import ConvNeXtConfig
from latentdiff.ops.random import Key
from latentdiff.pipeline.checkpoint.folder import Writer
from latentdiff.pipeline.cold import ColdModel, load_cold
from latentdiff.train.cold import ColdTask

SHAPE = (3, 12, 10)
IMAGES = Key.of(0, 4).normal(SHAPE)
KINDS = ("blur", "pixelate", "fade")
KEY = Key.of(0, 4)


def degradation(kind: str, T: int = 10, shape: tuple[int, int, int] = SHAPE) -> Degradation:
    return make_degradation(DegradationConfig(degradation=kind, T=T), shape)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_level_0_is_the_image_and_more_is_lost_at_every_level(kind: str) -> None:
    degrade = degradation(kind)
    assert degrade(IMAGES, 0) is IMAGES
    energy = [float(degrade(IMAGES, t).square().sum()) for t in range(11)]
    assert all(a >= b * (1 - 1e-6) for a, b in itertools.pairwise(energy)) and energy[-1] < 0.6 * energy[0]


@pytest.mark.parametrize("kind", KINDS)
def test_levels_of_a_batch_are_those_of_each_image(kind: str) -> None:
    degrade = degradation(kind)
    t = torch.tensor([0, 3, 10, 7])
    together = degrade(IMAGES, t)
    for k, level in enumerate(t.tolist()):
        torch.testing.assert_close(
            together[k : k + 1], degrade(IMAGES[k : k + 1], level), rtol=1e-5, atol=1e-5
        )
    for bad in (torch.tensor([1, 2]), 11, -1):
        with pytest.raises(ValueError, match=r"`t` must lie in 0\.\.10|expected levels of shape"):
            degrade(IMAGES, bad)
    with pytest.raises(ValueError, match="expected images"):
        degrade(IMAGES[:, :1], 3)


def test_a_level_of_blur_is_one_blur_more() -> None:
    config = DegradationConfig(T=4, kernel=7, variance=0.5, growth=0.1)
    degrade = make_degradation(config, SHAPE)
    x = IMAGES
    for t in range(1, 5):
        x = gaussian_blur(SHAPE, sigma=(0.5 * 1.1 ** (t - 1)) ** 0.5, size=7)(x)
        torch.testing.assert_close(degrade(IMAGES, t), x, rtol=1e-4, atol=1e-5)


def test_the_last_levels_of_pixelation_and_fading_are_flat() -> None:
    torch.testing.assert_close(
        degradation("pixelate")(IMAGES, 10), IMAGES.mean((2, 3), keepdim=True).expand_as(IMAGES)
    )
    assert float(degradation("fade")(IMAGES, 10).abs().max()) == 0


def knows(truth: Tensor, *, off: float = 0.0) -> Denoiser:
    return lambda x, t: Estimate.from_x0(x, t, x0=truth + off)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("improved", [True, False])
def test_a_perfect_restorer_restores(kind: str, improved: bool) -> None:
    degrade = degradation(kind)
    end = run(
        knows(IMAGES),
        degrade(IMAGES, 10),
        list(range(10, -1, -1)),
        cold_step(degrade, improved=improved),
        KEY,
    )
    torch.testing.assert_close(end, IMAGES, rtol=1e-4, atol=1e-5)


def test_the_improved_sampling_forgives_what_the_restorer_gets_wrong_alike() -> None:
    """A constant error of x_0 cancels in D(x_0, s) - D(x_0, t), but not in D(x_0, s): Bansal et al.

    2022, section 3.3.
    """
    degrade = degradation("blur")
    levels = list(range(10, -1, -1))
    ends = {
        improved: run(
            knows(IMAGES, off=0.3), degrade(IMAGES, 10), levels, cold_step(degrade, improved=improved), KEY
        )
        for improved in (True, False)
    }
    assert float((ends[True] - IMAGES).abs().max()) < 1e-4
    torch.testing.assert_close(ends[False], IMAGES + 0.3)


def test_intensities_are_fitted_and_drawn() -> None:
    truth = torch.tensor([[1.0, 0, 0], [0.8, 0.2, 0], [0.1, 0.3, 0.4]])
    means = Key.of(3, 5000).normal((3,)) @ truth.T * 0.2 + torch.tensor([0.1, -0.2, 0.0])
    fitted = Intensities.of(means[:, :, None, None].expand(5000, 3, 2, 2))
    drawn = fitted.draw(Key.of(9, 20_000))
    torch.testing.assert_close(drawn.mean(0), means.mean(0), rtol=0, atol=0.01)
    torch.testing.assert_close(drawn.T.cov(), means.T.cov(), rtol=0, atol=0.003)
    torch.testing.assert_close(fitted.draw(Key.of(10, 5)), drawn[1:6])


def test_intensities_of_several_kinds_of_images_are_drawn_from_each_kind() -> None:
    """Two clusters of unequal size, dark and bright; one normal distribution would draw grey ones."""
    noise = Key.of(4, 4000).normal((1,)) * 0.05
    dark = torch.arange(4000) % 4 > 0
    values = torch.where(dark[:, None], -0.6, 0.6) + noise
    fitted = Intensities.of(values[:, :, None, None].expand(4000, 1, 2, 2), components=2)
    drawn = fitted.draw(Key.of(0, 20_000))
    low = drawn < 0
    assert float(low.float().mean()) == pytest.approx(0.75, abs=0.01)
    for part, centre in ((low, -0.6), (~low, 0.6)):
        assert float(drawn[part].mean()) == pytest.approx(centre, abs=0.005)
        assert float(drawn[part].std()) == pytest.approx(0.05, abs=0.003)
    again = Intensities.stored(fitted.tensors(), 1, "file")
    torch.testing.assert_close(again.draw(Key.of(7, 5)), drawn[7:12])
    one = Intensities.of(values[:, :, None, None].expand(4000, 1, 2, 2))
    assert float((one.draw(Key.of(0, 2000)).abs() < 0.3).float().mean()) > 0.3


def test_intensities_of_cells_are_fitted_drawn_and_laid_out_as_images() -> None:
    cells = torch.tensor([[0.5, 0.1], [0.3, -0.7]])
    images = cells.repeat_interleave(3, 0).repeat_interleave(3, 1).expand(4, 1, 6, 6)
    fitted = Intensities.of(images * torch.tensor([1.0, 1.0, 0.8, 0.8]).view(4, 1, 1, 1), 2)
    assert fitted.side == 2
    torch.testing.assert_close(fitted.means[0].float(), 0.9 * cells.flatten())
    drawn = fitted.images(Key.of(0, 4000), (1, 6, 6))
    assert drawn.shape == (4000, 1, 6, 6)
    corners = drawn[:, 0, ::5, ::5]  # where interpolation leaves the cells as they are
    torch.testing.assert_close(corners.mean(0), 0.9 * cells, rtol=0, atol=0.01)
    ratio = corners.flatten(1) / cells.flatten()
    torch.testing.assert_close(ratio, ratio[:, :1].expand(-1, 4), rtol=1e-3, atol=1e-3)  # they vary together
    again = Intensities.stored(fitted.tensors(), 1, "file")
    torch.testing.assert_close(again.images(Key.of(0, 5), (1, 6, 6)), drawn[:5])


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"mean": torch.zeros(4)},
        {"mean": torch.zeros(5), "covariance": torch.zeros(5, 5)},
        {"mean": torch.zeros(4), "covariance": torch.zeros(4, 3)},
        {"mean": torch.zeros(0), "covariance": torch.zeros(0, 0)},
        {"mean": torch.full((4,), float("nan")), "covariance": torch.zeros(4, 4)},
        {"mean": torch.zeros(2, 4), "covariance": torch.zeros(2, 4, 4), "weights": torch.ones(3)},
        {"mean": torch.zeros(2, 4), "covariance": torch.zeros(2, 4, 4), "weights": torch.tensor([1.0, 0.0])},
        {"mean": torch.zeros(0, 4), "covariance": torch.zeros(0, 4, 4), "weights": torch.zeros(0)},
    ],
)
def test_cells_that_cannot_be_are_refused(tensors: dict[str, Tensor]) -> None:
    with pytest.raises(
        InputError,
        match="file: expected positive weights, a finite mean and covariance of square grids of cells",
    ):
        Intensities.stored(tensors, 1, "file")


def test_only_cells_may_be_a_mixture(tiny_cold_run: Path, tmp_path: Path) -> None:
    model = load_cold(tiny_cold_run)
    images = torch.linspace(-1, 1, 40).view(40, 1, 1, 1).expand(40, 1, 8, 8)
    mixed = replace(model, intensities=Intensities.of(images, components=2))
    with pytest.raises(ValueError, match="one normal distribution"):
        mixed.write(Writer(tmp_path))


def test_new_images_start_from_cells_or_flat(tiny_cold_run: Path) -> None:
    model = load_cold(tiny_cold_run)
    assert model.cells is not None and model.cells.side == 7
    default = model.sample(3, seed=1).images
    cells = model.sample(3, seed=1, start="cells", noise=0, recorder=Recorder(frames=3))
    flat = model.sample(3, seed=1, start="flat", noise=0, recorder=Recorder(frames=3))
    assert torch.equal(model.sample(3, seed=1, start="cells").images, default)
    assert not torch.equal(cells.images, flat.images)
    uneven, even = (made.frames[0].noisy.flatten(1).std(1) for made in (cells, flat))
    assert float(even.max()) < 1e-5 < float(uneven.min())
    old = replace(model, cells=None)
    assert torch.equal(old.sample(3, seed=1, noise=0).images, flat.images)
    with pytest.raises(InputError, match="`start` cells: this model was trained before"):
        old.sample(3, start="cells")


def test_a_trained_model_comes_back_from_its_files(tiny_cold_run: Path, tmp_path: Path) -> None:
    model = load_cold(tiny_cold_run)
    assert (model.config.T, model.config.kernel, model.image_shape) == (6, 5, (1, 8, 8))
    made = model.sample(3, seed=1, recorder=Recorder(frames=4))
    assert made.images.shape == (3, 1, 8, 8) and made.frames[-1].t == 0
    torch.testing.assert_close(model.sample(1, seed=2).images, made.images[1:2], rtol=0, atol=1e-4)
    assert torch.equal(model.sample(3, seed=1).images, made.images)


def test_the_model_learned_to_restore(tiny_folder: Path, tiny_cold_run: Path) -> None:
    import numpy as np

    model = load_cold(tiny_cold_run)
    test = torch.from_numpy(np.load(tiny_folder / "tiny.npz")["x_test"])[:, None].float() / 127.5 - 1
    degraded = model.degradation(test, 2)
    error = lambda x: float((x - test).abs().mean())  # noqa: E731
    assert error(model.one_step(degraded, 2)) < error(degraded)
    assert model.restore(degraded, 2).images.shape == test.shape


def test_levels_and_steps(tiny_cold_run: Path) -> None:
    model = load_cold(tiny_cold_run)
    assert model.levels(6) == [6, 5, 4, 3, 2, 1, 0] and model.levels(6, 3) == [6, 4, 2, 0]
    for t, steps in ((7, None), (0, None), (3, 4), (3, 0)):
        with pytest.raises(InputError, match="must lie in 1"):
            model.levels(t, steps)
    with pytest.raises(InputError, match="`n` of 1 or more"):
        model.sample(0)


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("model_index.json", {"intensities": {"mean": [0, 1], "covariance": [[1]]}}, "expected intensities"),
        ("model_index.json", {"intensities": None}, "expected intensities"),
        ("degradation/degradation_config.json", {"T": 0}, "T"),
        ("degradation/degradation_config.json", {"degradation": "melt"}, "degradation"),
        ("degradation/degradation_config.json", {"kernel": 4}, "odd"),
    ],
)
def test_a_damaged_model_is_refused(
    tiny_cold_run: Path, tmp_path: Path, file: str, change: dict, words: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny_cold_run, folder)
    checkpoint = next(folder.glob("checkpoint-*"))
    path = checkpoint / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    reseal(checkpoint)
    with pytest.raises(InputError, match=words):
        load_cold(folder)


def test_the_commands(tiny_folder: Path, tiny_cold_run: Path, tmp_path: Path, cli: Callable) -> None:
    run_, out = f"--run {tiny_cold_run}", f"--out {tmp_path}/step.png --json"
    made = cli(f"sample-cold {run_} -n 3 {out} --files {tmp_path}/files", cwd=tiny_folder)
    assert made.code == 0, made.err
    assert json.loads(made.out)["n"] == 3 and len(list((tmp_path / "files").iterdir())) == 3
    back = cli(
        f"sample-cold {run_} --restore -n 4 --degradation-level 4 --steps 2 --naive {out}", cwd=tiny_folder
    )
    assert back.code == 0, back.err
    answer = json.loads(back.out)
    assert (
        answer["level"] == 4 and answer["one_step"]["n"] == 4 and answer["step_by_step"]["psnr"]["value"] > 0
    )
    for words, code in (
        (f"sample-cold {run_} --restore --degradation-level 7", 1),
        (f"sample-cold {run_} --input tiny.npz", 2),
        (f"sample-cold {run_} --steps 9", 1),
        (f"sample-cold {run_} --split train", 2),
        (f"sample-cold {run_} --restore --noise 0.1", 2),
        (f"sample-cold {run_} --start-noise nan", 2),
        ("train-cold --data tiny.npz --blur-kernel 4", 2),
        ("train-cold --data tiny.npz --degradation fade --blur-kernel 5 --dry-run", 2),
        ("sample-cold --runs nowhere", 1),
    ):
        bad = cli(words, cwd=tiny_folder)
        assert bad.code == code and bad.err.count("error:") == 1, (words, bad.err)


def test_other_commands_do_not_take_a_cold_model(
    tiny_folder: Path, tiny_cold_run: Path, tmp_path: Path, cli: Callable
) -> None:
    shutil.copytree(tiny_cold_run, tmp_path / "runs" / "cold")
    shutil.copy(tiny_folder / "tiny.npz", tmp_path)
    assert "using things of the package" in cli("sample --prompt x -n 1 --steps 1", cwd=tmp_path).err
    assert "no VAE run" in cli("train-denoiser --data tiny.npz", cwd=tmp_path).err
    assert "no VAE run" in cli("reconstruct", cwd=tmp_path).err
    assert cli("inspect runs/cold", cwd=tmp_path).code == 0
    refused = cli("sample --run runs/cold", cwd=tmp_path)
    assert refused.code == 1 and "is a cold diffusion model; `latentdiff sample-cold`" in refused.err


def test_memory_bounds_the_batch_and_changes_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build(ConvNeXtConfig.of_preset("small", shape=(1, 8, 8), patch=None, width=8, depth=1), seed=0)
    model = ColdModel(
        network.eval(),
        DegradationConfig(T=5),
        Intensities.stored({"mean": torch.tensor([0.1]), "covariance": torch.tensor([[0.01]])}, 1, "test"),
    )
    whole = model.sample(5, seed=3).images
    monkeypatch.setattr("latentdiff.pipeline.cold.batch_that_fits", lambda *_: 2)
    calls: list[tuple[int, int]] = []
    recorder = Recorder(frames=3, progress=lambda done, total: calls.append((done, total)))
    split = model.sample(5, seed=3, recorder=recorder)
    torch.testing.assert_close(split.images, whole, rtol=0, atol=1e-5)
    assert model.one_step(whole, 2).shape == whole.shape
    assert split.frames[0].noisy.shape == whole.shape and calls[-1] == (15, 15)
    assert [done for done, _ in calls] == list(range(1, 16))


def test_a_degradation_is_computed_in_full_precision_under_autocast() -> None:
    """What a deep blur leaves of an image is less than the rounding of bfloat16."""
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
            seen.append(x)
            return torch.zeros_like(x) * self.weight

    part = Split((IMAGES.clamp(-1, 1) * 127 + 128).to(torch.uint8))
    data = Dataset("d", part, part, part)
    options = TrainCold(bf16="on", T=5)
    task = ColdTask(options, data, Spy(), torch.device("cpu"))
    loss, _ = task.loss(0, torch.arange(len(part)), torch.arange(len(part)))
    assert seen[0].dtype == torch.float32 and loss.dtype == torch.float32
    exact = task.degradation(task.images.batch(torch.arange(len(part)), torch.arange(len(part))), 5)
    assert float((exact - exact.bfloat16().float()).abs().max()) > 1e-4
