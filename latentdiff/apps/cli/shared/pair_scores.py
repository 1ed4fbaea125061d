"""Scores of images against others, pair by pair: as a command prints them and as --json has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from latentdiff.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from latentdiff.evaluate.images import PairScores


def scores_by_name(scores: Mapping[str, PairScores]) -> dict[str, Any]:
    """Scores by name, for --json."""
    return {name.replace(" ", "_"): scores_dict(each) for name, each in scores.items()}


def scores_of(found: Tensor, wanted: Tensor, classes: Sequence[str]) -> PairScores:
    """PSNR, SSIM, RMSE and, if installed, the perceptual distance of results from originals, by pair."""
    from latentdiff.data import to_uint8
    from latentdiff.evaluate.images import score_pairs
    from latentdiff.evaluate.interval_score import Resampling
    from latentdiff.metrics.features import default_features, perceptual_network

    try:
        perceptual = perceptual_network(default_features(wanted.shape[1:], classes))
    except InputError:
        perceptual = None
    return score_pairs(
        to_uint8(wanted), to_uint8(found), perceptual=perceptual, resampling=Resampling(count=0)
    )


def scores_dict(scores: PairScores) -> dict[str, Any]:
    """The scores for --json: without the intervals, which so few images do not have."""
    found = scores.as_dict()
    for name, part in found.items():
        if isinstance(part, dict):
            found[name] = {key: each for key, each in part.items() if key == "value" or each is not None}
    return found


def score_notes(scores: PairScores) -> list[str]:
    """The scores of each pair in two lines: PSNR and SSIM, and the perceptual distance where there is one."""
    from latentdiff.evaluate.metric_table import PAIR_METRICS

    each = {metric.name: scores.scores.get(metric.name) for metric in PAIR_METRICS}
    values = {name: score.each.tolist() for name, score in each.items() if score and score.each is not None}
    found = [f"{a:.1f} dB, {b:.2f}" for a, b in zip(values["psnr"], values["ssim"], strict=True)]
    distances = values.get("perceptual", [])
    return [f"{text}\n{d:.3f}" for text, d in zip(found, distances, strict=True)] if distances else found


def notes_legend(scores: Iterable[PairScores]) -> str:
    """What :func:`score_notes` says, in a line; "" without scores."""
    from latentdiff.metrics.names import perceptual_name

    networks = [None if each.scores["perceptual"] is None else each.perceptual.network for each in scores]
    if not networks:
        return ""
    name = next(filter(None, networks), None)
    below = "" if name is None else f"; below: {perceptual_name(name)}"
    return f"under a picture: PSNR, SSIM{below}"


def scores_text(scores: PairScores) -> str:
    """The scores in one line."""
    from latentdiff.metrics.names import perceptual_name

    psnr, ssim, rmse, perceptual = scores.psnr, scores.ssim, scores.rmse, scores.perceptual
    text = f"PSNR {psnr.value:.2f} dB, SSIM {ssim.value:.3f}, RMSE {rmse.value:.3f}"
    if perceptual is not None and perceptual.network is not None:
        text += f", {perceptual_name(perceptual.network)} {perceptual.value:.4f}"
    return text
