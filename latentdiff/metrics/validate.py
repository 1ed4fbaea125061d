"""Checks of the input that all measures share."""

from __future__ import annotations

from torch import Tensor

from latentdiff.errors import InputError


def check_features(*sets: Tensor, least: int) -> None:
    """InputError unless each set is [N, D] of ``least`` images or more, all finite, with one D for all."""
    for features in sets:
        if features.ndim != 2 or features.shape[1] < 1:
            raise InputError(f"expected features [images, dimensions], found shape {list(features.shape)}")
        if len(features) < least:
            raise InputError(f"expected features of at least {least} images, found {len(features)}")
        bad = int((~features.isfinite()).any(1).sum())
        if bad:
            raise InputError(
                f"expected finite features, found NaN or infinity in {bad} of {len(features)} images"
            )
        check_dimensions(sets[0].shape[1], features.shape[1])


def check_dimensions(first: int, second: int) -> None:
    """InputError unless two sets of features have as many dimensions."""
    if first != second:
        raise InputError(f"expected features of one network, found {first} and {second} dimensions")
