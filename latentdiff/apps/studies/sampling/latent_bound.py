"""The bound that a VAE is trained by: reconstruction and KL divergence of test images, and samples of its
prior.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.report.blocks import Cell, Picture, Section, Table
from latentdiff.data import to_float
from latentdiff.nn import VAE
from latentdiff.ops.random import Key

IMAGES = 500  # test images at most
DRAWS = 4  # latents of each image
SHOWN = 24
LEVELS = 256  # of a pixel


@dataclass(frozen=True)
class LatentBound:
    """Means over images: ``rate`` is the KL divergence of the posterior from the prior in nats, ``error`` the
    squared error of a pixel in [0, 1], of ``pixels`` an image, with latents drawn from the posterior.
    """

    rate: float
    error: float
    pixels: int

    @property
    def distortion(self) -> float:
        """Minus the log-density of an image in nats by a Gaussian around the decoder's, whose variance is the
        error: no other variance gives less.
        """
        return 0.5 * self.pixels * (math.log(2 * math.pi * self.error) + 1)

    @property
    def bits(self) -> float:
        """Minus the bound in bits for each pixel of 256 levels; uncompressed pixels have 8."""
        return (self.rate + self.distortion) / (self.pixels * math.log(2)) + math.log2(LEVELS)


ABOUT = (
    "A VAE is trained by a bound of the likelihood. For any distribution q of the latent, log p(x) ="
    " log ∫ p(x|z) p(z) dz = log E_q[p(x|z) p(z) / q(z|x)] ≥ E_q[log p(x|z)] − KL(q(z|x) ‖ p(z)), by Jensen's"
    " inequality; the gap is KL(q(z|x) ‖ p(z|x)), so that it is closed where q is the true posterior (Kingma"
    " and Welling 2014). The first term asks for latents that the image can be read from, the second for few"
    " nats of them: a rate and a distortion. A KL weight β other than 1 trades one for the other (Higgins et"
    " al. 2017); the table has both without it. The density of a pixel is a Gaussian around the decoder's,"
    " of the variance that fits all of them best."
)
PRIOR = (
    "Latents drawn from the prior N(0, I) and decoded. The posteriors of all images together are not the"
    " prior where β is small, and these are images from between them; a denoiser learns what lies where"
    " instead."
)


@torch.no_grad()
def bound_of(vae: VAE, images: Tensor, seed: int) -> LatentBound:
    """The bound of images uint8 [N, C, H, W], from latents of seeds ``seed`` + image."""
    device = next(vae.parameters()).device
    rates, errors = [], []
    for part in torch.arange(len(images)).split(100):
        x = to_float(images[part]).to(device)
        posterior, key = vae.encode(x), Key.of(seed + int(part[0]), len(part))
        rates.append(posterior.kl().double().cpu())
        for k in range(DRAWS):
            noise = key.at("posterior", k).normal(posterior.mean.shape[1:]).to(device)
            off = (vae.decode(posterior.sample(noise)) - x) / 2
            errors.append(off.double().square().flatten(1).mean(1).cpu())
    return LatentBound(float(torch.cat(rates).mean()), float(torch.cat(errors).mean()), images[0].numel())


def bound_section(context: StudyContext, vaes: Mapping[str, VAE]) -> tuple[Section, dict[str, LatentBound]]:
    """The bound of each VAE in a table, and what it decodes latents of the prior to."""
    images = context.data.test.images[:IMAGES]
    found = {name: bound_of(vae, images, context.seed) for name, vae in vaes.items()}
    rows: list[tuple[Cell, ...]] = [
        (name, each.rate, each.distortion, each.rate + each.distortion, each.bits)
        for name, each in found.items()
    ]
    heads = (
        "",
        "rate: KL (nats)",
        "distortion (nats)",
        "minus the bound (nats)",
        "bits a pixel",
    )
    caption = f"Means over {len(images)} test images, {DRAWS} latents of each; smaller is better."
    table = Table("bound", heads, tuple(rows), caption)
    return Section("The bound, and samples of the prior", ABOUT, table, PRIOR, _prior(context, vaes)), found


@torch.no_grad()
def _prior(context: StudyContext, vaes: Mapping[str, VAE]) -> Picture:
    grids = []
    for name, vae in vaes.items():
        z = Key.of(context.seed, SHOWN).at("init").normal(vae.config.latent)
        grids.append((name, vae.decode(z.to(next(vae.parameters()).device)).cpu()))
    return context.grids("prior", grids, "The same noise for latents of one size.", across=6)
