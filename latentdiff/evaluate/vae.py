"""Scores of a VAE: its reconstructions beside the originals, and its active latent units."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from latentdiff.data import to_float
from latentdiff.errors import InputError
from latentdiff.evaluate.chunks import Progress, chunks
from latentdiff.evaluate.examples import Strips
from latentdiff.evaluate.images import PairScores, score_pairs
from latentdiff.evaluate.interval_score import Resampling, Score, frechet_score, mean_score
from latentdiff.evaluate.reference import Reference
from latentdiff.metrics.features import PerceptualNetwork, extract
from latentdiff.metrics.features.pixels import as_pixels, as_unit
from latentdiff.nn import Autoencoder
from latentdiff.pipeline.codec import ACTIVE


@dataclass(frozen=True, kw_only=True)
class VAEScores(PairScores):
    """Each image against its own reconstruction (of the posterior's mode), and the latent.

    ``fd``: Frechet distance between the reconstructions and the same originals; ``kl_nats``: of the posterior
    from the prior, nats an image; a unit is active if its posterior mean varies by more than 0.01 over the
    images (Burda et al. 2016, section 5), and ``collapsed`` a latent without any.
    """

    fd: Score | None
    kl_nats: Score
    active_units: int
    latent_units: int
    collapsed: bool
    examples: tuple[Strips, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True, eq=False)
class Encoded:
    """A VAE's reconstructions float32 [N, C, H, W] in [0, 1], modes [N, units] and KL float64 [N]."""

    copies: Tensor
    modes: Tensor
    kl: Tensor


@torch.no_grad()
def encode_all(vae: Autoencoder, images: Tensor, *, progress: Progress | None = None) -> Encoded:
    """Pass images uint8 [N, C, H, W] through ``vae`` on its device, in fixed chunks.

    InputError for another shape.
    """
    if tuple(images.shape[1:]) != vae.config.image:
        raise InputError(
            f"the VAE is for images {list(vae.config.image)}, the data has {list(images.shape[1:])}"
        )
    device = next(vae.parameters()).device
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for part in chunks(len(images), images.shape[1:]):
        posterior = vae.encode(to_float(images[part].to(device)))
        copies = as_unit(vae.decode(posterior.mode()))
        found.append((copies.cpu(), posterior.mean.flatten(1).cpu(), posterior.kl().double().cpu()))
        if progress is not None:
            progress(min(part.stop, len(images)), len(images))
    return Encoded(*(torch.cat(column) for column in zip(*found, strict=True)))


def score_vae(
    vae: Autoencoder,
    images: Tensor,
    *,
    encoded: Encoded | None = None,
    reference: Reference | None = None,
    perceptual: PerceptualNetwork | None = None,
    resampling: Resampling | None = None,
    batch: int = 500,
    progress: Progress | None = None,
) -> VAEScores:
    """The scores of ``vae`` on images uint8 [N, C, H, W]; ``encoded``: the result of
    :func:`encode_all` for them.

    ``reference``: the same images with their features, for the Frechet distance (none for N < 4).
    """
    if not len(images):
        raise InputError("a VAE is scored on at least one image, got none")
    chosen = resampling or Resampling()
    made, after = (encoded, progress) if encoded else (encode_all(vae, images, progress=progress), None)
    fd = None
    if reference is not None and len(images) > 3:
        features = extract(reference.network, as_pixels(made.copies), batch=batch, progress=after)
        fd = frechet_score(reference.features.values, features.values, chosen, reference="paired")
        fd = replace(fd, features=reference.network.name)
    pairs = score_pairs(
        images, made.copies, perceptual=perceptual, resampling=chosen, batch=batch, progress=after
    )
    variance = made.modes.double().var(0, correction=0)
    active = int((variance > ACTIVE).sum())
    return VAEScores(
        **vars(pairs),
        fd=fd,
        kl_nats=mean_score(made.kl, chosen),
        active_units=active,
        latent_units=variance.numel(),
        collapsed=active == 0,
    )
