"""The options of an evaluation."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator

from latentdiff.config.base import Config, setting
from latentdiff.config.recipe import NetworkType

PARTS = ("vae", "samples", "denoiser", "reconstruction", "scenes")
"""The parts of a model that can be measured, in the order in which they are."""
LEAST_RESAMPLES = 20  # that make an interval


def _resamples(number: int) -> int:
    if 0 < number < LEAST_RESAMPLES:
        raise ValueError(f"expected 0 (no intervals) or {LEAST_RESAMPLES} and more, got {number}")
    return number


class EvaluationOptions(Config):
    """How much is measured, by which weights and with which intervals."""

    option_group: ClassVar[str] = "Metrics"

    class_balance: Literal["equal", "data"] | None = setting(
        None,
        "class frequencies of the samples; equal: all in turn, data: as in the training data (default: data"
        " where the model records it)",
        group="Images",
        advanced=True,
    )
    test_images: int = setting(
        500,
        "images of the split for the denoiser and the reconstructions from noise",
        ge=2,
        le=1_000_000,
        advanced=True,
    )
    dtype: NetworkType = setting(
        "auto",
        "floating-point type of the samples' network and decoder; auto: bfloat16 where the processor computes"
        " in it",
        group="Compute",
        advanced=True,
    )
    neighbors: int = setting(
        1000,
        "samples whose nearest training images are searched; 0 turns the search off",
        ge=0,
        le=1_000_000,
        advanced=True,
    )
    feature_size: int | None = setting(
        None,
        "pixels a side of the images as efficientnet-lite0 sees them, a multiple of 32; part of the name of"
        " every figure (default: 96; 224: as it was trained, five times as long or more)",
        ge=64,
        le=512,
        multiple_of=32,
    )
    feature_weights: str | None = setting(
        None,
        "weights (.safetensors) of a feature network that brings none (default: its own)",
        was="weights",
        advanced=True,
    )
    perceptual_weights: str | None = setting(
        None,
        "weights (.safetensors) of a perceptual network that brings none (default: its own)",
        advanced=True,
    )
    resamples: Annotated[int, AfterValidator(_resamples)] = setting(
        200, "bootstrap resamples for the intervals; 20 or more, 0 turns them off", ge=0, le=100_000
    )
    confidence: float = setting(0.95, "confidence level of the intervals", ge=0.5, le=0.999, was="level")
    batch: int = setting(
        500, "images in a batch; changes memory, no result", ge=1, le=65536, group="Compute", advanced=True
    )
    cache: bool = setting(
        True,
        "keep the features of references in $LATENTDIFF_CACHE or ~/.cache/latentdiff/features",
        group="Compute",
        advanced=True,
    )
