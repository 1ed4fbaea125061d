"""Names of the feature networks and of the distances by them; needs no torch."""

from collections.abc import Sequence

NAMES = ("mnist", "efficientnet-lite0", "inception")
"""Networks whose features the Fréchet and kernel distances compare."""
PERCEPTUAL_NAMES = ("mnist", "efficientnet-lite0", "lpips-alex", "lpips-vgg")
"""Networks whose maps the perceptual distance compares."""
NEEDS_WEIGHTS = ("inception", "lpips-alex", "lpips-vgg")
"""Networks whose weights the user brings, as a safetensors file."""

SIZED = {"efficientnet-lite0": 224}
"""Networks that take images of several sizes, with the side in pixels that their names do not tell."""
LEAST_SIDE, MOST_SIDE, SIDE_STEP = 64, 512, 32
FEATURE_SIZE = 96
"""The side of `latentdiff evaluate` without --feature-size (docs/evaluation.md compares sides)."""

DIGIT_SHAPE, DIGITS = (1, 28, 28), tuple("0123456789")

_LPIPS = {"lpips-alex": "LPIPS (alex)", "lpips-vgg": "LPIPS (vgg)"}


def default_features(shape: Sequence[int], classes: Sequence[str] | None) -> str:
    """The feature network for images [C, H, W]: mnist for digits (28x28 grey, ten or no classes)."""
    digits = tuple(shape) == DIGIT_SHAPE and (not classes or tuple(classes) == DIGITS)
    return "mnist" if digits else "efficientnet-lite0"


def sized_name(network: str, side: int) -> str:
    """The name of figures by a ``network`` of `SIZED` that sees images of ``side`` pixels a side."""
    return network if side == SIZED[network] else f"{network}@{side}"


def check_side(side: int) -> int:
    """``side`` if a network of `SIZED` takes images of that side in pixels; ValueError otherwise."""
    if side % SIDE_STEP or not LEAST_SIDE <= side <= MOST_SIDE:
        raise ValueError(f"expected a multiple of {SIDE_STEP} from {LEAST_SIDE} to {MOST_SIDE}, got {side}")
    return side


def frechet_name(network: str) -> str:
    """The name of a Fréchet distance on the features of ``network`` (a FeatureNetwork's name)."""
    return "FID" if network == "inception" else f"FD ({network})"


def kernel_name(network: str) -> str:
    """The name of a kernel distance on the features of ``network``."""
    return "KID" if network == "inception" else f"KD ({network})"


def perceptual_name(network: str) -> str:
    """The name of a perceptual distance on the maps of ``network`` (a PerceptualNetwork's name)."""
    return _LPIPS.get(network, f"perceptual distance ({network})")
