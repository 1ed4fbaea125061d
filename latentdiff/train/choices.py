"""What `auto` stands for in the training of a denoiser: by the shape of the latents and the budget."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch

from latentdiff.config.training import TrainDenoiser
from latentdiff.data import to_float
from latentdiff.data.types import ImageSplit
from latentdiff.nn.networks import KINDS
from latentdiff.nn.vae_config import SMALL_SIDE
from latentdiff.pipeline.codec import Codec, IdentityCodec


class GridChoice(NamedTuple):
    """The network for grids of up to ``numbers``, in trainings of up to ``minutes``."""

    numbers: float
    minutes: float
    network: str
    width: int
    batch: int
    lr: float


# The first row that fits; without minutes they are without end. Trials stand behind the networks, those of
# digits and emoji behind the first row (docs/quality.md, "Colour: the denoiser"); the minutes are choices.
GRIDS = (
    GridChoice(256, math.inf, "mlp", 512, 256, 2e-3),
    GridChoice(4096, 5, "mlp", 512, 256, 2e-3),
    GridChoice(math.inf, 40, "unet", 48, 64, 2e-3),
    GridChoice(math.inf, math.inf, "unet", 64, 64, 2e-3),
)


COLOUR_GUIDANCE = 4.0
COLOUR_ETA = 1.0


def resolved(options: TrainDenoiser, codec: Codec) -> TrainDenoiser:
    """The options with `prediction` and `network` chosen where they are "auto".

    On the grid of a VAE the network predicts x_0 of the posterior's mean, which lies near a surface of few
    dimensions, elsewhere v. The network of a grid comes from :data:`GRIDS`, with its width, batch and
    learning rate where these are not given; that of vectors, of pixels and of texts is the first that takes
    the shape.
    """
    grid = _is_grid(codec)
    update: dict[str, Any] = {}
    if options.prediction == "auto":
        update["prediction"] = "x0" if grid and not options.diffusion().schedule.zero_terminal_snr else "v"
    if options.network == "auto" and grid and not options.text and options.preset == "small":
        choice = _grid_choice(codec.latent_shape, options.minutes or math.inf)
        update["network"] = choice.network
        for name in ("width", "batch", "lr"):
            if getattr(options, name) is None:
                update[name] = getattr(choice, name)
    return TrainDenoiser.model_validate(options.model_dump() | update) if update else options


def _grid_choice(shape: tuple[int, ...], minutes: float) -> GridChoice:
    """The row of :data:`GRIDS` for latents of this shape: the first that fits, of networks that take them."""
    fits = [row for row in GRIDS if KINDS[row.network].takes(shape)]
    small = (row for row in fits if math.prod(shape) <= row.numbers and minutes <= row.minutes)
    return next(small, fits[-1])


def _is_grid(codec: Codec) -> bool:
    """Whether latents are the grid of a VAE."""
    return len(codec.latent_shape) == 3 and not isinstance(codec, IdentityCodec)


def _is_colour_grid(codec: Codec) -> bool:
    """Whether latents are the grid of a VAE of colour images."""
    return _is_grid(codec) and codec.image_shape[0] == 3


def usual_guidance(options: TrainDenoiser, codec: Codec, *, classes: bool) -> float:
    """The guidance to keep with a model, which has learned ``classes`` and to do without them, or has not.

    On photos of clothes 4 is far better than none (docs/quality.md), on digits none is best.
    """
    if options.guidance is not None:
        return options.guidance
    return COLOUR_GUIDANCE if classes and _is_colour_grid(codec) else 1.0


def usual_eta(options: TrainDenoiser, codec: Codec, *, classes: bool) -> float:
    """The noise of DDIM to keep with a model, which has learned ``classes`` and to do without them, or not.

    Guided photos of clothes become sharper with it from 25 steps on (docs/quality.md).
    """
    if options.eta is not None:
        return options.eta
    return COLOUR_ETA if classes and _is_colour_grid(codec) else 0.0


SIDE, LONG_SIDE = 64, 128  # pixels; images of more than twice the area of such a square are brought to it
LONG = (
    120  # minutes, from which on it is the second: a choice, of two hours there are samples (docs/quality.md)
)


def training_side(area: float, minutes: float) -> int:
    """The side of the square, in pixels, to whose area images of an ``area`` are brought in so many minutes.

    :data:`LONG_SIDE` where there is time for it and images are not enlarged to more than twice their area.
    """
    return LONG_SIDE if minutes >= LONG and 2 * area >= LONG_SIDE**2 else SIDE


def training_size(height: int, width: int, minutes: float) -> tuple[int, int]:
    """The (height, width) to train on for images of one size: that size where a latent grid fits it.

    Sides become even, above 48 pixels multiples of 8; images of more than twice the area of
    :func:`training_side` get that area, with about their aspect ratio.
    """
    area = height * width
    side = training_side(area, minutes)
    scale = side / math.sqrt(area) if area > 2 * side**2 else 1.0
    step = 8 if max(height, width) > SMALL_SIDE else 2
    found = [max(8, step * round(scale * side / step)) for side in (height, width)]
    return found[0], found[1]


MANY_EPOCHS = 100  # from which on a network knows photos by heart
FEW_PHOTOS = 1000  # below which mirror images do not keep it from that
# images a second that a network sees on two cores: a guess, the machine is not known
RATES = {"unet": 600, "mlp": 3000}
SHIFTS = 16  # parts of a side, by one of which photos are shifted at most
MOST_SHIFT = 64  # pixels


def usual_augmentation(shape: tuple[int, ...], images: int, minutes: float) -> dict[str, int]:
    """Options that keep a network from learning photos [C, H, W] by heart, {} where there is no need.

    Colour images of at least :data:`LEAST_SIDE` pixels, each of which would be seen more than
    :data:`MANY_EPOCHS` times in these minutes, are mirrored at random, and shifted too where there are fewer
    than :data:`FEW_PHOTOS`: shifts cost sharpness.
    """
    channels, *sides = shape
    if channels != 3 or min(sides) < LEAST_SIDE:
        return {}
    network = _grid_choice((8, *(side // 8 for side in sides)), minutes).network  # as on latents of `colour`
    if 60 * minutes * RATES[network] < MANY_EPOCHS * images:
        return {}
    shift = {"random_shift": min(MOST_SHIFT, min(sides) // SHIFTS)} if images < FEW_PHOTOS else {}
    return {"flip": True} | shift


CODEC = "colour"  # the VAE of the package
# both are chosen by eye; for photos of clothes it is far ahead of a VAE of their own (docs/quality.md)
LEAST_PSNR = 23.0  # dB
LEAST_SIDE = 48  # pixels
COMPARED = 100  # images that decide


@torch.no_grad()
def reconstruction_psnr(codec: Codec, split: ImageSplit) -> float:
    """PSNR in dB of the codec's reconstructions, a mean over up to :data:`COMPARED` images of the split."""
    chosen = torch.linspace(0, len(split) - 1, min(len(split), COMPARED)).long()
    found = []
    for indices in chosen.split(25):
        x = to_float(split.images[indices])
        error = ((codec.decode(codec.encode(x)) - x) / 2).square().flatten(1).mean(1)
        found.append(-10 * error.clamp_min(1e-10).log10())
    return float(torch.cat(found).mean())
