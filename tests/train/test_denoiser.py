"""The denoiser's training loss against closed forms, with networks that are oracles."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from latentdiff.config.training import TrainDenoiser
from latentdiff.data import Dataset, Split, to_float
from latentdiff.data.order import integers
from latentdiff.diffusion.schedule import make_schedule
from latentdiff.evaluate.outputs import OutputTables, network_output
from latentdiff.nn import VAEConfig, build
from latentdiff.nn.networks import MLPConfig, UNetConfig
from latentdiff.ops.random import Key
from latentdiff.pipeline.codec import Codec, IdentityCodec, LatentStatistics, VAECodec
from latentdiff.train import denoiser
from latentdiff.train import latents as sources
from latentdiff.train.denoiser import DenoiserTask

CPU = torch.device("cpu")
SIZE, BATCH, SEED = 60, 24, 3
KINDS = ["vector", "spatial", "pixel"]
PREDICTIONS = ["eps", "v", "x0", "skip", "score"]
SKIP = 0.3  # sigma_data of an x_0 prediction that is preconditioned, called skip here


def predicting(name: str) -> dict[str, Any]:
    """The options of a prediction."""
    return (
        {"prediction": "x0", "sigma_data": SKIP if name == "skip" else 0.0}
        if name in ("x0", "skip")
        else {"prediction": name}
    )


def make_data() -> Dataset:
    generator = torch.Generator().manual_seed(11)
    splits = [
        Split(
            torch.randint(0, 256, (n, 1, 8, 8), generator=generator, dtype=torch.uint8), torch.arange(n) % 3
        )
        for n in (SIZE, 10, 3)
    ]
    return Dataset("tiny", *splits, classes=("a", "b", "c"))


DATA = make_data()


def make_codec(kind: str) -> Codec:
    if kind == "pixel":
        return IdentityCodec((1, 8, 8))
    latent = (4,) if kind == "vector" else (2, 4, 4)
    vae = build(VAEConfig(image=(1, 8, 8), latent=latent, width=8, depth=0, hidden=16), seed=5).eval()
    c = latent[0]
    return VAECodec(vae, LatentStatistics(torch.arange(c) / 10 - 0.1, torch.arange(1, c + 1) / 2))


def make_config(kind: str, **numbers: int) -> MLPConfig | UNetConfig:
    shape = make_codec(kind).latent_shape
    if kind == "vector":
        return MLPConfig.of_preset("small", shape=shape, width=16, depth=1, time_dim=8, **numbers)
    return UNetConfig.of_preset("small", shape=shape, width=16, depth=1, **numbers)


class Fixed(nn.Module):
    """A network that answers ``answer`` and remembers what it was asked."""

    def __init__(self, config: MLPConfig | UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.answer: Tensor | float = 0.0
        self.asked: tuple[Tensor, Tensor, Tensor | None] | None = None

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        self.asked = (x, t, labels)
        channels = x.shape[1] * self.config.out_factor
        return torch.zeros(len(x), channels, *x.shape[2:]) + self.answer


def make_task(kind: str, network: nn.Module, **options: Any) -> DenoiserTask:
    plain = {"pixel": kind == "pixel", "seed": SEED, "bf16": "off", "T": 50, "time_sampling": "uniform"}
    plain |= {} if kind == "pixel" else {"posterior": "sample"}
    settings = TrainDenoiser(**plain | options)
    return DenoiserTask(settings, DATA, make_codec(kind), network, CPU)


def positions_and_indices(n: int = BATCH, *, first: int = 1000) -> tuple[Tensor, Tensor]:
    positions = torch.arange(first, first + n)
    return positions, (positions * 7) % SIZE


def truth(
    task: DenoiserTask, kind: str, positions: Tensor, indices: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(x_0, eps, alpha, sigma) of training samples, from the definitions: float64 [B, *shape], the last two
    [B, 1, ...].
    """
    x = DATA.train.images[indices].double() / 127.5 - 1
    key = Key(positions + (SEED << 32))
    if kind != "pixel":
        codec = task.codec
        assert isinstance(codec, VAECodec)
        with torch.no_grad():
            posterior = codec.vae.encode(x.float())
        mean, logvar = posterior.mean.double(), posterior.logvar.double()
        z = mean + (logvar / 2).exp() * key.at("posterior").normal(codec.latent_shape).double()
        per_channel = (-1, *[1] * (z.ndim - 2))
        x = (z - codec.statistics.mean.double().view(per_channel)) / codec.statistics.std.double().view(
            per_channel
        )
    eps = key.at("train").normal(x.shape[1:]).double()
    t = 1 + integers("level", positions, seed=SEED, choices=50)
    shape = (-1, *[1] * (x.ndim - 1))
    return x, eps, task.schedule.alpha[t].view(shape), task.schedule.sigma[t].view(shape)


def wanted(prediction: str, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    skip = (sigma * x0 - SKIP**2 * alpha * eps) / (SKIP**2 * alpha**2 + sigma**2).sqrt()
    return {"eps": eps, "v": alpha * eps - sigma * x0, "x0": x0, "skip": skip, "score": -eps / sigma}[
        prediction
    ]


def weight(prediction: str, weighting: str, alpha: Tensor, sigma: Tensor) -> Tensor:
    """min(snr, 5) |x_0 error|^2 in terms of the prediction's error (Hang et al.

    2023), or sigma^2 for a score, or 1.
    """
    snr = (alpha / sigma) ** 2
    if weighting == "uniform":
        return sigma**2 if prediction == "score" else torch.ones_like(sigma)
    errors = {"eps": sigma / alpha, "v": sigma, "x0": torch.ones_like(sigma), "score": sigma**2 / alpha}
    x0_error = (errors | {"skip": sigma / (SKIP**2 * alpha**2 + sigma**2).sqrt()})[prediction]
    return snr.clamp_max(5) * x0_error**2


@pytest.mark.parametrize("weighting", ["uniform", "min-snr"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_equals_its_closed_form(kind: str, prediction: Any, weighting: Any) -> None:
    network = Fixed(make_config(kind))
    task = make_task(kind, network, weighting=weighting, labels=False, **predicting(prediction))
    positions, indices = positions_and_indices()
    x0, eps, alpha, sigma = truth(task, kind, positions, indices)
    target = wanted(prediction, x0, eps, alpha, sigma)
    weights = weight(prediction, weighting, alpha, sigma)

    network.answer = 0.0  # the error is the target itself
    expected = float((weights * target**2).mean())
    assert float(task.loss(0, positions, indices)[0]) == pytest.approx(expected, rel=1e-4)

    network.answer = target.float()  # a network that knows
    assert float(task.loss(0, positions, indices)[0]) < 1e-6 * expected

    network.answer = (
        target + 0.5 / weights.sqrt()
    ).float()  # an error of the same size at every level after weighting
    assert float(task.loss(0, positions, indices)[0]) == pytest.approx(0.25, rel=1e-3)

    assert network.asked is not None
    x_t, timestep, labels = network.asked
    torch.testing.assert_close(x_t.double(), alpha * x0 + sigma * eps, rtol=1e-4, atol=1e-5)
    # level t is the timestep t - 1 of the network
    assert torch.equal(timestep, integers("level", positions, seed=SEED, choices=50).float())
    assert labels is None


def test_levels_and_noise_are_uniform_and_normal() -> None:
    network, n = Fixed(make_config("pixel")), 4000
    task = make_task("pixel", network, prediction="eps", labels=False)
    loss = float(task.loss(0, *positions_and_indices(n))[0])
    assert loss == pytest.approx(1, abs=5 * math.sqrt(2 / (64 * n)))  # E |eps|^2 = 1
    assert network.asked is not None
    counts = torch.bincount(network.asked[1].long(), minlength=50)
    assert len(counts) == 50  # levels 1..T, no other
    chi_square = float(((counts - n / 50) ** 2 / (n / 50)).sum())
    assert chi_square < 49 + 5 * math.sqrt(2 * 49)


@pytest.mark.parametrize("augmented", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_what_happens_to_an_image_depends_on_seed_and_position_alone(kind: str, augmented: bool) -> None:
    network = build(make_config(kind, num_classes=3))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():  # away from zero outputs, so that inputs and labels matter
            p += 0.1 * torch.randn(p.shape, generator=generator)
    task = make_task(kind, network, flip=augmented, random_shift=int(augmented), label_dropout=0.5)
    positions, indices = positions_and_indices(12)
    whole = task.loss(0, positions, indices)[0]
    singles = [task.loss(5, positions[k : k + 1], indices[k : k + 1])[0] for k in range(12)]
    torch.testing.assert_close(torch.stack(singles).mean(), whole, rtol=1e-5, atol=1e-6)
    # the halves, and other company: each image's share stays what it is
    halves = [task.loss(1, positions[part], indices[part])[0] for part in (slice(0, 6), slice(6, 12))]
    torch.testing.assert_close(torch.stack(halves).mean(), whole, rtol=1e-5, atol=1e-6)
    assert len({round(float(loss.detach()), 5) for loss in singles}) > 6
    elsewhere = task.loss(0, positions + 12, indices)[0]
    assert float((elsewhere - whole).detach().abs()) > 1e-3 * float(
        whole.detach()
    )  # another position, other noise
    whole.backward()
    gradients = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    assert len(gradients) == len(list(network.parameters()))  # every parameter is trained
    network.zero_grad()
    for part in positions.chunk(4):
        (task.loss(0, part, (part * 7) % SIZE)[0] / 4).backward()
    for p, expected in zip(network.parameters(), gradients, strict=True):
        assert p.grad is not None
        torch.testing.assert_close(p.grad, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("flip", [False, True])
def test_posteriors_are_cached_with_those_of_mirror_images(
    flip: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []
    for limit in (sources.CACHE_BYTES, 0):
        monkeypatch.setattr(sources, "CACHE_BYTES", limit)
        task = make_task("vector", Fixed(make_config("vector")), flip=flip)
        assert task.latents._variants == (0 if limit == 0 else 2 if flip else 1)
        positions, indices = positions_and_indices()
        key = denoiser.data_key(positions, seed=0, device=CPU)
        batches.append(task.latents.train_batch(positions, indices, key))
    torch.testing.assert_close(batches[0], batches[1], rtol=1e-5, atol=1e-5)


def test_images_that_change_in_more_ways_are_encoded_anew_in_each_of_sixteen_epochs() -> None:
    task = make_task("vector", Fixed(make_config("vector")), flip=True, random_shift=2)
    indices, source = torch.arange(SIZE), task.latents._images
    epochs = []
    for epoch in (0, 1, 2, 16, 17):
        positions = epoch * SIZE + (indices * 7) % SIZE  # in some order
        key = denoiser.data_key(indices, seed=0, device=CPU)  # the same noise of the posterior
        epochs.append(task.latents.train_batch(positions, indices, key))
    for variant in (0, 1):
        changed = source.augment(source.split.images, variant * SIZE + indices, source.seed)
        noise = key.at("posterior").normal(task.codec.latent_shape)
        expected = task.codec.encode(source.to_device(changed), noise=noise)
        torch.testing.assert_close(epochs[variant], expected, rtol=1e-5, atol=1e-5)
    assert (epochs[0] - epochs[1]).abs().max() > 0.01 < (epochs[1] - epochs[2]).abs().max()
    assert torch.equal(epochs[3], epochs[0]) and torch.equal(epochs[4], epochs[1])
    assert set(task.latents._posteriors) == {0, 1, 2}
    task.latents.prefetch(torch.tensor([3 * SIZE - 1, 3 * SIZE]), indices[:2])  # encodes the epoch to come
    assert set(task.latents._posteriors) == {0, 1, 2, 3}
    spanning = torch.arange(SIZE - 3, SIZE + 3)  # a batch may lie in two epochs
    both = task.latents.train_batch(spanning, indices[:6], denoiser.data_key(indices[:6], seed=0, device=CPU))
    assert torch.equal(both[:3], epochs[0][:3]) and torch.equal(both[3:], epochs[1][3:6])


def test_few_variants_are_kept_where_many_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task("vector", Fixed(make_config("vector")), random_shift=2)
    size = 8 * SIZE * math.prod(task.codec.latent_shape)
    for fits, variants in ((3, 0), (5, 5), (40, 16)):
        monkeypatch.setattr(sources, "VARIANT_BYTES", fits * size)
        fresh = make_task("vector", Fixed(make_config("vector")), random_shift=2)
        assert fresh.latents._variants == variants
    monkeypatch.setenv("WORLD_SIZE", "2")  # each process encodes its own share, at every step
    for shift, variants in ((2, 0), (0, 1)):
        fresh = make_task("vector", Fixed(make_config("vector")), random_shift=shift)
        assert fresh.latents._variants == variants


@pytest.mark.parametrize("cached", [True, False])
def test_latents_are_samples_of_the_posterior_or_its_mean(
    cached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "CACHE_BYTES", sources.CACHE_BYTES if cached else 0)
    positions, indices = positions_and_indices()
    key = denoiser.data_key(positions, seed=0, device=CPU)
    found = {}
    for kind in ("sample", "mean"):
        task = make_task("vector", Fixed(make_config("vector")), labels=False, posterior=kind)
        found[kind] = task.latents.train_batch(positions, indices, key)
    modes = task.codec.encode(task.latents._images.batch(positions, indices))
    torch.testing.assert_close(found["mean"], modes, rtol=1e-5, atol=1e-6)
    assert float((found["sample"] - modes).abs().max()) > 1e-3


@pytest.mark.parametrize(("kind", "same"), [("vector", "sample"), ("spatial", "mean")])
def test_latents_are_samples_on_vectors_and_means_on_grids_by_default(kind: str, same: str) -> None:
    positions, indices = positions_and_indices()
    key = denoiser.data_key(positions, seed=0, device=CPU)
    found = {
        latents: (
            make_task(kind, Fixed(make_config(kind)), labels=False, posterior=latents).latents.train_batch(
                positions, indices, key
            )
        )
        for latents in ("auto", "sample", "mean")
    }
    assert [name for name in ("sample", "mean") if torch.equal(found[name], found["auto"])] == [same]


# labels


@pytest.mark.parametrize("rate", [0.0, 0.1, 1.0])
def test_labels_are_dropped_at_the_rate_asked_for(rate: float) -> None:
    network, n = Fixed(make_config("vector", num_classes=3)), 20_000
    task = make_task("vector", network, label_dropout=rate)
    positions, indices = positions_and_indices(n)
    task.loss(0, positions, indices)
    assert network.asked is not None
    labels = network.asked[2]
    assert labels is not None and DATA.train.labels is not None
    dropped = labels == 3
    assert torch.equal(labels[~dropped], DATA.train.labels[indices][~dropped])
    assert float(dropped.float().mean()) == pytest.approx(rate, abs=5 * math.sqrt(rate * (1 - rate) / n))
    # dropping tells nothing about the level: neither depends on the other
    levels = network.asked[1]
    if 0 < rate < 1:
        assert float(levels[dropped].mean() - levels.mean()) == pytest.approx(
            0, abs=5 * 14.5 / math.sqrt(rate * n)
        )


def test_validation_keeps_every_label_and_repeats_itself() -> None:
    network = Fixed(make_config("vector", num_classes=3))
    task = make_task("vector", network, label_dropout=1.0)
    first, second = task.validate(network), task.validate(network)
    assert first == second and first["val_loss"] > 0
    assert network.asked is not None and network.asked[2] is not None
    assert torch.equal(network.asked[2], torch.arange(10) % 3)
    assert network.asked[1].tolist() == [k * 5.0 for k in range(10)]  # levels spread evenly over 1..50


# learned variance


class Halves(nn.Module):
    """Two parameters: what is predicted, and the range of the variance."""

    def __init__(self, config: MLPConfig | UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.mean, self.spread = (nn.Parameter(torch.full((BATCH, *config.shape), v)) for v in (0.3, -0.2))

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        return torch.cat([self.mean, self.spread], 1)


def _gradients(value: Tensor, network: Halves) -> list[Tensor | None]:
    return list(
        torch.autograd.grad(value, [network.mean, network.spread], retain_graph=True, allow_unused=True)
    )


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_learned_variance_trains_the_spread_through_the_bound_alone(kind: str, prediction: Any) -> None:
    network = Halves(make_config(kind, out_factor=2))
    task = make_task(kind, network, **predicting(prediction), variance="learned", labels=False)
    positions, indices = positions_and_indices()
    loss, parts = task.loss(0, positions, indices)
    assert loss.item() == pytest.approx(parts["simple"].item() + 1e-3 * 50 * parts["bound"].item(), rel=1e-5)
    of_mean, of_spread = _gradients(parts["simple"], network)
    assert of_mean is not None and (of_spread is None or not of_spread.any())
    bound_mean, bound_spread = _gradients(parts["bound"], network)
    assert bound_spread is not None and bool(bound_spread.any())
    assert bound_mean is None or not bound_mean.any()
    total_mean, total_spread = _gradients(loss, network)
    assert total_mean is not None and total_spread is not None
    torch.testing.assert_close(total_mean, of_mean)
    torch.testing.assert_close(total_spread, 1e-3 * 50 * bound_spread)
    # the simple part is the loss without a learned variance
    plain = Fixed(make_config(kind))
    plain.answer = 0.3
    fixed: Mapping[str, Tensor]
    simple, fixed = make_task(kind, plain, **predicting(prediction), labels=False).loss(0, positions, indices)
    assert parts["simple"].item() == pytest.approx(simple.item(), rel=1e-5) and fixed == {}


def test_the_bound_of_a_perfect_network_is_lowest_at_the_true_variance() -> None:
    """With the true x_0 the reverse move has exactly the small variance: the bound's gradient pushes the
    range there.
    """
    network = Fixed(make_config("vector", out_factor=2))
    task = make_task("vector", network, **predicting("x0"), variance="learned", labels=False)
    positions, indices = positions_and_indices()
    above_1 = integers("level", positions, seed=SEED, choices=50) > 0  # level 1 has no variance to find
    positions, indices = positions[above_1], indices[above_1]
    x0 = truth(task, "vector", positions, indices)[0].float()
    bounds = []
    for spread in (-1.0, -0.5, 0.0, 1.0):
        network.answer = torch.cat([x0, torch.full_like(x0, spread)], 1)
        bounds.append(float(task.loss(0, positions, indices)[1]["bound"]))
    assert bounds[0] == pytest.approx(0, abs=1e-5)
    assert bounds == sorted(bounds) and bounds[1] > 1e-5


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_pipeline_reads_what_was_trained(prediction: str) -> None:
    """A network that returns its target gives the clean image at every level, in sampling and in
    evaluation.
    """
    network = Fixed(make_config("pixel"))
    pipeline = make_task("pixel", network, labels=False, **predicting(prediction)).pipeline(network)
    tables = OutputTables.of(pipeline)
    x0 = to_float(DATA.train.images[:3])
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    for t in (1, 20, 50):
        alpha, sigma = (torch.tensor(each) for each in pipeline.schedule.at(t))
        network.answer = wanted(prediction, x0, eps, alpha, sigma).float()
        found = pipeline.denoiser()((alpha * x0 + sigma * eps).float(), t).x0()
        torch.testing.assert_close(found, x0, atol=2e-3, rtol=0)
        answer = network_output(pipeline, tables, x0, torch.full((3,), t), None, noise=eps)
        torch.testing.assert_close(answer.x0_hat, x0.double(), atol=2e-3, rtol=0)
        assert float(answer.error().max()) < 1e-8


def test_zero_terminal_snr_trains_with_finite_losses() -> None:
    for prediction in ("v", "x0"):
        for weighting in ("uniform", "min-snr"):
            network = Fixed(make_config("vector"))
            task = make_task(
                "vector", network, prediction=prediction, weighting=weighting, zero_snr=True, labels=False
            )
            assert float(make_schedule(task.diffusion.schedule).alpha[-1]) == 0
            loss = task.loss(0, *positions_and_indices(400))[0]
            assert network.asked is not None and 49.0 in network.asked[1]
            assert math.isfinite(float(loss))
