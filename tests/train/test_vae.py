"""The VAE's training loss, its validation figures and the final metrics."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from latentdiff.config.training import TrainVAE
from latentdiff.data import Dataset, Split, load_dataset, to_float
from latentdiff.metrics.features import perceptual_loss
from latentdiff.nn import VAE, VAEConfig, build
from latentdiff.ops.random import Key
from latentdiff.train.vae import VAETask

CPU = torch.device("cpu")
SIZE, UNITS = 40, 6


def make_data(images: Tensor | None = None) -> Dataset:
    generator = torch.Generator().manual_seed(1)
    train, val, test = (
        torch.randint(0, 256, (n, 1, 8, 8), generator=generator, dtype=torch.uint8) for n in (SIZE, 30, 3)
    )
    return Dataset("tiny", Split(train if images is None else images), Split(val), Split(test))


def make_vae(latent: tuple[int, ...] = (UNITS,)) -> VAE:
    return build(VAEConfig(image=(1, 8, 8), latent=latent, width=8, depth=0, hidden=16), seed=4)


def make_task(network: VAE, **options: Any) -> VAETask:
    return VAETask(TrainVAE(**{"bf16": "off", "seed": 2} | options), make_data(), network, CPU)


def pixels(loss: str, logits: Tensor, x: Tensor) -> Tensor:
    """The error of each pixel from its definition, float64."""
    logits, x = logits.double(), x.double()
    copy = 2 / (1 + (-logits).exp()) - 1
    if loss == "mse":
        return (copy - x) ** 2
    if loss == "l1":
        return (copy - x).abs()
    p, q = (x + 1) / 2, (copy + 1) / 2
    return -(p * q.log() + (1 - p) * (1 - q).log())


@pytest.mark.parametrize("loss", ["mse", "l1", "bce"])
@pytest.mark.parametrize("latent", [(UNITS,), (2, 4, 4)])
def test_the_loss_is_reconstruction_plus_beta_kl_over_pixels(latent: tuple[int, ...], loss: Any) -> None:
    vae = make_vae(latent)
    task = make_task(vae, loss=loss, beta=0.7, beta_warmup=10)
    positions, indices = torch.arange(500, 512), torch.arange(12) * 3
    x = to_float(task.images.split.images[indices])
    with torch.no_grad():
        posterior = vae.encode(x)
        mean, logvar = posterior.mean.double(), posterior.logvar.double()
        z = mean + (logvar / 2).exp() * Key(positions + (2 << 32)).at("posterior").normal(latent)
        reconstruction = pixels(loss, vae.decode_logits(z.float()), x).flatten(1).sum(1).mean()
    kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).flatten(1).sum(1).mean()
    for step, beta in ((0, 0.07), (4, 0.35), (9, 0.7), (500, 0.7)):  # beta rises over the warm-up
        found, parts = task.loss(step, positions, indices)
        assert float(parts["reconstruction"].detach()) == pytest.approx(float(reconstruction), rel=1e-4)
        assert float(parts["kl"].detach()) == pytest.approx(float(kl), rel=1e-4)
        assert float(found.detach()) == pytest.approx(float(reconstruction + beta * kl) / 64, rel=1e-4)


def test_without_a_warm_up_beta_is_there_from_the_start() -> None:
    task = make_task(make_vae(), beta=0.5, beta_warmup=0)
    loss, parts = task.loss(0, torch.arange(4), torch.arange(4))
    assert loss.item() == pytest.approx((parts["reconstruction"] + 0.5 * parts["kl"]).item() / 64, rel=1e-6)


@pytest.mark.parametrize("augmented", [False, True])
def test_what_happens_to_an_image_depends_on_seed_and_position_alone(augmented: bool) -> None:
    task = make_task(make_vae(), flip=augmented, random_shift=2 * int(augmented))
    positions, indices = torch.arange(70, 82), torch.arange(12)
    whole = task.loss(3, positions, indices)[0]
    singles = [task.loss(3, positions[k : k + 1], indices[k : k + 1])[0].item() for k in range(12)]
    assert sum(singles) / 12 == pytest.approx(whole.item(), rel=1e-5)
    assert len({round(loss, 5) for loss in singles}) == 12
    assert task.loss(3, positions + 1, indices)[0].item() != pytest.approx(whole.item(), rel=1e-5)


def test_validation_figures_follow_their_definitions() -> None:
    vae = make_vae()
    task = make_task(vae, beta=0.3)
    found = task.validate(vae)
    with torch.no_grad():
        x = to_float(task.val.images)
        posterior = vae.encode(x)
        copy = vae.decode(posterior.mean).double()
        mse = ((copy - x.double()) / 2).square().flatten(1).mean(1)
        logits = vae.decode_logits(posterior.sample(Key.of(0, 30).at("posterior").normal((UNITS,))))
        error = pixels("mse", logits, x).flatten(1).sum(1)
        kl = posterior.kl().double()
    assert found["val_psnr"] == pytest.approx(float((10 * (1 / mse).log10()).mean()), rel=1e-5)
    assert found["val_kl"] == pytest.approx(float(kl.mean()), rel=1e-5)
    assert found["val_loss"] == pytest.approx(float((error + 0.3 * kl).mean()) / 64, rel=1e-5)
    assert task.validate(vae) == found  # the same noise at every call


def silence(vae: VAE, units: int) -> None:
    """Give the first ``units`` latent units a posterior that hardly looks at the image: mean about 0.2,
    variance 1.
    """
    last = vae.encoder[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight *= 40  # the others vary well above the threshold
        last.weight[:units] *= 1e-4  # these vary, but below it
        last.bias[:units] = 0.2
        last.weight[UNITS : UNITS + units], last.bias[UNITS : UNITS + units] = 0, 0


@pytest.mark.parametrize("silent", [0, 2, UNITS])
def test_the_metrics_count_active_units_and_sees_collapse(silent: int) -> None:
    vae = make_vae()
    silence(vae, silent)
    metrics = make_task(vae).final_metrics(vae)
    assert (metrics["active_units"], metrics["latent_units"]) == (UNITS - silent, UNITS)
    assert metrics["collapsed"] is (silent == UNITS)
    assert metrics["latents_std"][:silent] == [1.0] * silent  # all of it is the posterior's own variance


@pytest.mark.parametrize("latent", [(UNITS,), (2, 4, 4)])
def test_the_statistics_are_those_of_the_whole_training_set(latent: tuple[int, ...]) -> None:
    vae, images = make_vae(latent), make_data().train.images.repeat(15, 1, 1, 1)[:577]  # more than two chunks
    task = VAETask(
        TrainVAE(flip=True, random_shift=3), make_data(images), vae, CPU
    )  # augmentation does not enter
    task.final_metrics(vae)
    statistics = task._statistics
    assert statistics is not None
    with torch.no_grad():
        posterior = vae.encode(to_float(images))
    for c in range(latent[0]):
        mean, variance = posterior.mean[:, c].double(), posterior.logvar[:, c].double().exp()
        assert float(statistics.mean[c]) == pytest.approx(float(mean.mean()), rel=1e-4, abs=1e-6)
        expected = math.sqrt(mean.var(correction=0) + variance.mean())
        assert float(statistics.std[c]) == pytest.approx(expected, rel=1e-5)


def digits(shape: tuple[int, int] = (28, 28)) -> Dataset:
    """Twenty digits, the ten classes named after them; noise where another shape is asked for."""
    g = torch.Generator().manual_seed(0)
    part = Split(
        torch.randint(0, 256, (20, 1, *shape), generator=g, dtype=torch.uint8), torch.arange(20) % 10
    )
    if shape == (28, 28):
        whole = load_dataset("mnist5k").train
        assert whole.labels is not None
        part = Split(whole.images[:20], whole.labels[:20])
    return Dataset("d", part, part, part, classes=tuple("0123456789"))


def parts_of_loss(**options: Any) -> tuple[float, dict[str, float]]:
    network = build(VAEConfig.of_preset("small", image=(1, 28, 28), latent=(UNITS,), width=8), seed=1)
    task = VAETask(TrainVAE(bf16="off", beta=0.5, beta_warmup=0, **options), digits(), network, CPU)
    loss, parts = task.loss(0, torch.arange(8), torch.arange(8))
    return loss.item(), {name: value.item() for name, value in parts.items()}


def test_digits_get_a_perceptual_term_and_it_is_weighted_as_told() -> None:
    plain, without = parts_of_loss(perceptual=0)
    assert "perceptual" not in without
    assert plain == pytest.approx((without["reconstruction"] + 0.5 * without["kl"]) / 784, rel=1e-6)
    for weight, options in ((1.3, {}), (3.0, {"perceptual": 3.0, "perceptual_network": "mnist"})):
        loss, parts = parts_of_loss(**options)
        assert parts["perceptual"] > 0.01
        assert loss == pytest.approx(plain + weight * parts["perceptual"], rel=1e-5)


def test_other_images_get_none_unless_asked_for() -> None:
    task = make_task(make_vae())
    assert "perceptual" not in task.loss(0, torch.arange(4), torch.arange(4))[1]
    asked = make_task(make_vae(), perceptual=0.1, perceptual_network="mnist")
    assert "perceptual" in asked.loss(0, torch.arange(4), torch.arange(4))[1]


def test_ten_classes_that_are_no_digits_get_no_term_for_digits() -> None:
    data = digits()
    assert data.train.labels is not None
    shifted = replace(data, train=Split(data.train.images, (data.train.labels + 1) % 10))
    network = build(VAEConfig.of_preset("small", image=(1, 28, 28), latent=(UNITS,), width=8), seed=1)
    for images, expected in ((data, "mnist"), (shifted, None)):
        assert VAETask(TrainVAE(bf16="off"), images, network, CPU).perceptual_fingerprint == expected


def test_the_validation_loss_holds_the_perceptual_term() -> None:
    network = build(VAEConfig.of_preset("small", image=(1, 28, 28), latent=(UNITS,), width=8), seed=1)
    found = [
        VAETask(TrainVAE(bf16="off", perceptual=weight), digits(), network, CPU).validate(network)["val_loss"]
        for weight in (0.0, 1.0, 2.0)
    ]
    assert found[2] - found[1] == pytest.approx(found[1] - found[0], rel=1e-4) and found[1] - found[0] > 0.01


def test_the_cost_of_the_perceptual_term_is_measured_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes on by one whenever it is read, and by two with each call of the network."""
    clock = [0.0]

    def read() -> float:
        clock[0] += 1
        return clock[0]

    def taking_two(*values: Any) -> Any:
        clock[0] += 2
        return perceptual_loss(*values)

    monkeypatch.setattr("latentdiff.train.vae.time.perf_counter", read)
    monkeypatch.setattr("latentdiff.train.vae.perceptual_loss", taking_two)
    network = build(VAEConfig.of_preset("small", image=(1, 28, 28), latent=(UNITS,), width=8), seed=1)
    task = VAETask(TrainVAE(bf16="off", perceptual=1.0), digits(), network, CPU)
    before, loss = (
        {k: v.clone() for k, v in network.state_dict().items()},
        task.loss(0, *2 * [torch.arange(4)]),
    )
    assert task.perceptual_cost() == 3
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(weight.grad is None for weight in network.parameters())
    assert torch.equal(task.loss(0, *2 * [torch.arange(4)])[0], loss[0]) and "perceptual" in loss[1]


def test_a_network_without_a_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="need a weight"):
        TrainVAE(perceptual_network="mnist")
