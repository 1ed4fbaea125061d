"""Comparisons in findings: differences with their intervals.

A finding ranks only against a number (the input, chance, real images) and beyond the interval of the
difference. Several comparisons at once have wider intervals (Bonferroni), since the largest of many random
differences is large.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

import torch
from torch import Tensor

from latentdiff.evaluate.interval_score import Resampling, Score, proportion_score
from latentdiff.metrics.interval import normal_quantile, student_quantile

LEVEL = 0.95
WITHIN = f"{LEVEL:.0%} interval"
K = TypeVar("K")


@dataclass(frozen=True)
class Difference:
    """How much larger one figure is than another, and where the true difference lies.

    The ends are infinite where that is unknown.
    """

    value: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 where 0 lies outside of the interval, else 0."""
        return int(self.low > 0) - int(self.high < 0)

    @property
    def unknown(self) -> bool:
        """Whether there is no interval."""
        return math.isfinite(self.value) and (math.isinf(self.low) or math.isinf(self.high))

    def text(self, unit: str = "", *, times: float = 1.0) -> str:
        """In words: "+1.2 dB (95% interval +0.9 to +1.5)"."""
        if math.isinf(self.value):
            return f"{'+' if self.value > 0 else '−'}∞{unit}"
        value, low, high = (
            f"{times * each:+.3g}".replace("-", "−") for each in (self.value, self.low, self.high)
        )
        if self.unknown:
            return f"{value}{unit} (interval unknown)"
        return f"{value}{unit} ({WITHIN} {low} to {high})"


def level_for(comparisons: int) -> float:
    """The level of each of so many intervals, for a joint level LEVEL (Bonferroni)."""
    return 1 - (1 - LEVEL) / max(1, comparisons)


def paired(a: Tensor, b: Tensor, *, comparisons: int = 1) -> Difference:
    """The mean of a - b over the same images, float64 [n] each, with Student's interval.

    Where one of the two is infinite (the PSNR of an unchanged image), so is the mean, if all images agree
    about the sign.
    """
    difference = torch.where(a == b, 0.0, a.double() - b.double())
    infinite = difference.isinf()
    if bool(infinite.any()):
        rest = paired(a[~infinite], b[~infinite], comparisons=comparisons)
        signs = {
            *difference[infinite].sign().tolist(),
            *([float(rest.sign)] if not bool(infinite.all()) else []),
        }
        end = signs.pop() * math.inf if len(signs) == 1 and 0 not in signs else None
        return Difference(rest.value, -math.inf, math.inf) if end is None else Difference(end, end, end)
    n = len(difference)
    if n < 2:
        return Difference(float(difference.mean()) if n else 0.0, -math.inf, math.inf)
    mean, error = float(difference.mean()), float(difference.std()) / math.sqrt(n)
    reach = student_quantile(level_for(comparisons), n - 1) * error
    return Difference(mean, mean - reach, mean + reach)


def unpaired(a: Score, b: Score, *, comparisons: int = 1) -> Difference:
    """a - b from intervals of level LEVEL of their own (Zou & Donner 2008, eq. 3).

    Too wide rather than too narrow where both have noise or images in common. Figures without an interval
    have a difference without one.
    """
    (x, low_x, high_x), (y, low_y, high_y) = _ends(a), _ends(b)
    wider = normal_quantile(level_for(comparisons)) / normal_quantile(LEVEL)
    difference = x - y
    below, above = math.hypot(x - low_x, high_y - y), math.hypot(high_x - x, y - low_y)
    return Difference(difference, difference - wider * below, difference + wider * above)


def _ends(score: Score) -> tuple[float, float, float]:
    """The figure without its bias, where that is known, and the ends of its interval."""
    if score.low is None or score.high is None:
        return score.value, -math.inf, math.inf
    return score.value if score.corrected is None else score.corrected, score.low, score.high


def share(value: float, n: int) -> Score:
    """A share that was counted among ``n``, with Wilson's interval."""
    return proportion_score(value, n, Resampling())


def ordered(
    what: str, scores: Mapping[str, Score], *, smaller: bool = True, times: float = 1.0, unit: str = ""
) -> str:
    """A sentence: all figures, and those that differ from the best one beyond the interval of the difference.

    ``smaller``: small figures are good ones. ``times`` and ``unit`` are those of the text.
    """
    listed = ", ".join(f"{name} {times * score.value:.3g}{unit}" for name, score in scores.items())
    if len(scores) < 2:
        return f"{what}: {listed}."
    if any(score.low is None or score.high is None for score in scores.values()):
        return f"{what}: {listed} (without intervals: differences are not tested)."
    pick = min if smaller else max
    first = pick(scores, key=lambda name: _ends(scores[name])[0])
    comparisons = math.comb(len(scores), 2)  # whichever came out first
    behind = [
        name
        for name in scores
        if name != first
        and unpaired(scores[name], scores[first], comparisons=comparisons).sign == (1 if smaller else -1)
    ]
    if not behind:
        return f"{what}: {listed}; no two of them differ beyond the {WITHIN} of their difference."
    relation = "larger" if smaller else "smaller"
    return (
        f"{what}: {listed}; {relation} than {first} beyond the {WITHIN} of the difference:"
        f" {', '.join(behind)}."
    )


def disagreements(losses: Mapping[str, float], scores: Mapping[str, Score]) -> str:
    """A sentence: pairs where one has the smaller loss, the other, beyond the interval, the smaller score."""
    pairs = list(combinations(scores, 2))
    found = {(a, b): unpaired(scores[a], scores[b], comparisons=len(pairs)) for a, b in pairs}
    apart = {pair if each.sign < 0 else pair[::-1]: each for pair, each in found.items() if each.sign}
    against_loss = [f"{a} and {b}" for a, b in apart if losses[a] > losses[b]]
    text = f"{len(apart)} of {len(pairs)} pairs have FDs that differ beyond the {WITHIN} of the difference"
    if not against_loss:
        return f"{text}{'; the losses order these alike' if apart else ''}."
    contrary = f"in {len(against_loss)} of these the one with the higher loss draws better"
    return f"{text}; {contrary} ({'; '.join(against_loss)})."


def extremes(scores: Mapping[K, Score]) -> tuple[K, K] | None:
    """The keys of the smallest and the largest figure; None where these may be equal."""
    if len(scores) < 2:
        return None
    low, high = min(scores, key=lambda key: scores[key].value), max(scores, key=lambda key: scores[key].value)
    difference = unpaired(scores[high], scores[low], comparisons=math.comb(len(scores), 2))
    return (low, high) if difference.sign > 0 else None


def against(
    what: str, base: str, differences: Mapping[str, Difference], *, smaller: bool = True, unit: str = ""
) -> str:
    """A sentence: which figures are better than that of ``base``, which worse, which do not differ from it.

    ``differences`` are theirs minus that of ``base``; ``smaller``: small figures are good ones.
    """
    signs = {
        name: None if difference.unknown else -difference.sign if smaller else difference.sign
        for name, difference in differences.items()
    }
    parts = []
    for sign, word in ((1, "better"), (0, "no difference"), (-1, "worse"), (None, "not tested")):
        chosen = [f"{name} {differences[name].text(unit)}" for name in differences if signs[name] == sign]
        if chosen:
            parts.append(f"{word}: {', '.join(chosen)}")
    return f"{what} against {base}: {'; '.join(parts)}."
