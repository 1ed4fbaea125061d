"""Adversarial terms: a discriminator is trained along with a VAE (Esser et al. 2021, 3.1) or a student."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from latentdiff.nn import Autoencoder
from latentdiff.nn.discriminator import PatchDiscriminator, SampleDiscriminator


class AdversarialVAE(nn.Module):
    """An autoencoder and its discriminator, which one optimizer trains."""

    def __init__(self, vae: Autoencoder, discriminator: PatchDiscriminator) -> None:
        super().__init__()
        self.vae, self.discriminator = vae, discriminator


class AdversarialLosses(NamedTuple):
    """Means over the images: of the autoencoder ``generator`` and ``features``, of the ``discriminator``."""

    generator: Tensor
    features: Tensor
    discriminator: Tensor


def adversarial_losses(discriminator: PatchDiscriminator, real: Tensor, fake: Tensor) -> AdversarialLosses:
    """The losses for real images and reconstructions of them, [N, C, H, W] in [-1, 1].

    generator: -D(fake), gradients in ``fake`` alone; features: mean absolute difference of the
    discriminator's feature maps (Larsen et al. 2016), gradients in ``fake`` alone; discriminator: the hinge
    max(0, 1 - D(real)) + max(0, 1 + D(fake)) (Lim and Ye 2017), gradients in the discriminator alone.
    """
    on_real, real_maps = discriminator(real.detach())
    on_fake, _ = discriminator(fake.detach())
    passed, fake_maps = discriminator(fake, frozen=True)
    features = sum(
        (F.l1_loss(theirs, ours.detach()) for ours, theirs in zip(real_maps, fake_maps, strict=True)),
        start=passed.new_zeros(()),
    )
    return AdversarialLosses(
        generator=-passed.mean(),
        features=features,
        discriminator=F.relu(1 - on_real).mean() + F.relu(1 + on_fake).mean(),
    )


PENALTY = 0.1  # weight of the squared gradient at real samples
PENALIZED = 8  # real samples of a batch that the penalty is measured on


class AdversarialStudent(nn.Module):
    """A student and its discriminator, which one optimizer trains."""

    def __init__(self, student: nn.Module, discriminator: SampleDiscriminator) -> None:
        super().__init__()
        self.student, self.discriminator = student, discriminator


class SampleLosses(NamedTuple):
    """Means over the samples: of the student, ``generator``, and of the ``discriminator``."""

    generator: Tensor
    discriminator: Tensor


def sample_losses(
    discriminator: SampleDiscriminator, real: Tensor, fake: Tensor, condition: Tensor | None
) -> SampleLosses:
    """The losses for samples [N, C, H, W] of the teacher and of the student, drawn for the same conditions.

    generator: softplus(-D(fake)), gradients in ``fake`` alone; discriminator: softplus(-D(real)) +
    softplus(D(fake)) and a penalty on the gradient at real samples (Mescheder et al. 2018, R1), gradients in
    the discriminator alone.
    """
    fixed = {name: weight.detach() for name, weight in discriminator.named_parameters()}
    passed = functional_call(discriminator, fixed, (fake, condition))
    some = real[:PENALIZED].detach().requires_grad_()
    on_some = discriminator(some, None if condition is None else condition[:PENALIZED])
    rest = None if condition is None else condition[PENALIZED:]
    on_real = torch.cat([on_some, discriminator(real[PENALIZED:].detach(), rest)])
    on_fake = discriminator(fake.detach(), condition)
    (slope,) = torch.autograd.grad(on_some.sum(), some, create_graph=True)
    return SampleLosses(
        generator=F.softplus(-passed).mean(),
        discriminator=F.softplus(-on_real).mean()
        + F.softplus(on_fake).mean()
        + PENALTY * slope.float().square().flatten(1).sum(1).mean(),
    )
