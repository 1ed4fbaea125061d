"""The adversarial term: who gets which gradient, its definition, its start, and parts of a batch."""

from typing import Any

import pytest
import torch
from torch import Tensor

from latentdiff.config.training import TrainVAE
from latentdiff.data import Dataset, Split
from latentdiff.nn import VAE, VAEConfig, build
from latentdiff.nn.discriminator import PatchDiscriminator
from latentdiff.train.adversarial import AdversarialVAE, adversarial_losses
from latentdiff.train.batch import data_key
from latentdiff.train.vae import VAETask

CPU = torch.device("cpu")


def make_task(**options: Any) -> VAETask:
    generator = torch.Generator().manual_seed(1)
    split = Split(torch.randint(0, 256, (24, 3, 16, 16), generator=generator, dtype=torch.uint8))
    network = build(VAEConfig(image=(3, 16, 16), latent=(2, 4, 4), width=8, depth=0, hidden=16), seed=4)
    chosen = {"bf16": "off", "seed": 2, "latent": "2x4x4", "perceptual": 0} | options
    return VAETask(TrainVAE(**chosen), Dataset("tiny", split, split, split), network, CPU)


def pair() -> tuple[PatchDiscriminator, Tensor, Tensor]:
    torch.manual_seed(0)
    real, fake = torch.rand(2, 4, 3, 16, 16) * 2 - 1
    return PatchDiscriminator(3, width=8), real, fake.requires_grad_()


def test_the_losses_follow_their_definitions() -> None:
    discriminator, real, fake = pair()
    found = adversarial_losses(discriminator, real, fake)
    on_real, real_maps = discriminator(real)
    on_fake, fake_maps = discriminator(fake)
    hinge = (1 - on_real).clamp_min(0).mean() + (1 + on_fake).clamp_min(0).mean()
    pairs = zip(real_maps, fake_maps, strict=True)
    features = sum((a - b).abs().mean().item() for a, b in pairs)
    assert found.generator.item() == pytest.approx(-on_fake.mean().item(), rel=1e-5)
    assert found.discriminator.item() == pytest.approx(hinge.item(), rel=1e-5)
    assert found.features.item() == pytest.approx(features, rel=1e-5)


@pytest.mark.parametrize(
    ("term", "moves_fake"), [("generator", True), ("features", True), ("discriminator", False)]
)
def test_each_loss_has_gradients_where_it_belongs(term: str, moves_fake: bool) -> None:
    discriminator, real, fake = pair()
    getattr(adversarial_losses(discriminator, real, fake), term).backward()
    assert (fake.grad is not None and bool(fake.grad.any())) == moves_fake
    for conv in discriminator.convs:
        grad = conv.weight.grad
        assert (grad is not None and bool(grad.any())) != moves_fake


def test_a_step_down_the_discriminator_loss_tells_copies_apart() -> None:
    discriminator, real, fake = pair()
    optimizer = torch.optim.AdamW(discriminator.parameters(), lr=2e-3)
    for _ in range(60):
        optimizer.zero_grad()
        adversarial_losses(discriminator, real, fake).discriminator.backward()
        optimizer.step()
    with torch.no_grad():
        assert float(discriminator(real)[0].mean()) > 0.5 > -0.5 > float(discriminator(fake)[0].mean())


def test_the_term_starts_at_its_step_and_is_weighted() -> None:
    positions, indices = torch.arange(8), torch.arange(8)
    plain = make_task().loss(5, positions, indices)[0]
    for weight in (0.01, 0.03):
        task = make_task(adversarial=weight, adversarial_start=5)
        assert task.loss(4, positions, indices)[0].item() == pytest.approx(plain.item(), rel=1e-4)
        found, parts = task.loss(5, positions, indices)
        assert isinstance(task.network, AdversarialVAE)
        x = task.images.batch(positions, indices)[::2]
        with torch.no_grad():
            drawn = data_key(positions, seed=2, device=CPU).at("posterior").normal((2, 4, 4))
            copies = task.vae.decode(task.vae.encode(task.images.batch(positions, indices)).sample(drawn))
        losses = adversarial_losses(task.network.discriminator, x, copies[::2])
        term = (losses.generator + 5 * losses.features + losses.discriminator).item()
        assert found.item() - plain.item() == pytest.approx(weight * term, rel=1e-3)
        assert set(parts) >= {"generator", "discriminator"}


def test_parts_of_a_batch_add_up() -> None:
    """Whatever the number of workers that share a batch."""
    task = make_task(adversarial=0.1, adversarial_start=0)
    positions, indices = torch.arange(12), torch.arange(12)
    whole = task.loss(0, positions, indices)[0].item()
    parts = [
        len(p) / 12 * task.loss(0, p, i)[0].item()
        for p, i in zip(positions.tensor_split(5), indices.tensor_split(5), strict=True)
    ]
    assert sum(parts) == pytest.approx(whole, rel=1e-5)


def test_the_checkpointed_network_is_the_vae_alone() -> None:
    task = make_task(adversarial=0.1)
    assert isinstance(task.network, AdversarialVAE) and isinstance(task.network.vae, VAE)
    plain = make_task()
    assert task.validate(task.network) == plain.validate(plain.network)


def test_before_the_start_every_weight_has_a_gradient() -> None:
    """Processes that average gradients need one of every weight."""
    task = make_task(adversarial=0.1, adversarial_start=100)
    task.loss(0, torch.arange(4), torch.arange(4))[0].backward()
    assert all(weight.grad is not None for weight in task.network.parameters())
