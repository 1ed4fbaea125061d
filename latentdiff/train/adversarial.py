"""The adversarial term of a VAE's loss: a discriminator that is trained along (Esser et al. 2021, 3.1)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from latentdiff.nn import Autoencoder
from latentdiff.nn.discriminator import PatchDiscriminator


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
