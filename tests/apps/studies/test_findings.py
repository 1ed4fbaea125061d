"""What studies say they found: nothing is ranked or praised that is tied, chance, or no better than the
input.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from latentdiff.apps.studies.illusions import anagrams, hybrids
from latentdiff.apps.studies.illusions.anagrams import AnagramPair, Anagrams
from latentdiff.apps.studies.illusions.subjects import PAIRS, Shares
from latentdiff.apps.studies.kit import comparison
from latentdiff.apps.studies.kit.paired import PairedMetrics, PairedScores, against_input, closer, difference
from latentdiff.apps.studies.process import noise_schedules
from latentdiff.apps.studies.process.analytic import Gaussian
from latentdiff.apps.studies.restoration import (
    cold_diffusion,
    denoising,
    inpainting,
    one_step_unet,
    restoration,
    sdedit,
)
from latentdiff.apps.studies.restoration.posterior import PosteriorError
from latentdiff.apps.studies.sampling import (
    class_guidance,
    course_unets,
    ddim_steps,
    ddpm_ddim,
    denoiser_training,
    latent_size,
)
from latentdiff.apps.studies.text import text_to_image
from latentdiff.evaluate.interval_score import Score

PRAISE = re.compile(
    r"\bbest|\bbetter\b|\bworse|\bworst|\bbeats|\bgains|larger than|smaller than|easier than", re.I
)
N = 30  # images


def noise(seed: int, n: int = N) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pairs(good: float, seed: int) -> PairedScores:
    """Pairs of images that are ``good`` deviations closer than the others, on average."""
    own = noise(seed)
    psnr = 20 + 3 * noise(99) + 0.5 * (own - own.mean() + good)
    return PairedScores(
        {"psnr": psnr, "ssim": psnr / 40, "rmse": 10 ** (-psnr / 20), "distance": 1 - psnr / 60}
    )


def score(good: float, seed: int) -> Score:
    """A distance with an interval of 0.2 on both sides; small is good."""
    value = 2 - good + 0.05 * float(noise(seed, 1))
    return Score(value, value - 0.2, value + 0.2, value, 100)


def of_samples(good: float, seed: int) -> Any:
    hits = comparison.share(min(max(0.5 + good / 10, 0.0), 1.0), 200)
    return SimpleNamespace(fd=score(good, seed), accuracy=hits, recall=score(0, 1))


def trained(**values: float) -> Any:
    return SimpleNamespace(
        marks=(1, 2), at=lambda name, mark: 0.5, curve=lambda name: ([1, 2], [0.6, 0.5]), **values
    )


def of_denoising(good: float) -> Iterator[str]:
    ways = {
        name: pairs(good * (name != "noisy"), k)
        for k, name in enumerate(("noisy", "blur", "one step", "step by step"))
    }
    yield from denoising._findings({30: ways, 500: ways}, {"noise": 1e-12}, PairedMetrics(None))


def of_one_step(good: float) -> Iterator[str]:
    found = {sigma: (pairs(0, k), pairs(good, 9 + k)) for k, sigma in enumerate((0.2, 0.5, 1.0))}
    yield from one_step_unet._findings(one_step_unet.OneStepSettings(), {"digits": found, "others": found})


def of_inpainting(good: float) -> Iterator[str]:
    scores = {
        "nothing filled in": [pairs(0, 0)],
        "replacement": [pairs(good / 4, 5)],
        "RePaint": [pairs(good / 2, 4)],
        "DPS": [pairs(good, 1), pairs(good, 2)],
        "DiffPIR": [pairs(good, 3)],
    }
    yield from inpainting._findings({"a box": scores}, {"a box": "distance"})


def of_restoration(good: float) -> Iterator[str]:
    row = PosteriorError("exact", 10, 0.1, 0.1, Gaussian(torch.zeros(1), torch.zeros(1, 1)))
    known = [row._replace(solver=name) for name in ("exact", "DPS", "ScoreALD", "DiffPIR")]
    names = ("SDEdit", "ScoreALD", "DPS", "DiffPIR, 20 steps")
    scores = {"as measured": [pairs(0, 0)]} | {name: [pairs(k * good, 5 + k)] for k, name in enumerate(names)}
    yield from restoration._findings(restoration.RestorationSettings(), known, {"a box missing": scores})


def of_cold(good: float) -> Iterator[str]:
    names = ("one step", "naive sampling", "improved sampling")
    methods = [
        SimpleNamespace(
            name=name, pairs=pairs(good * (k + 1), k), scores=of_samples(good * k, k), images=torch.rand(2, 9)
        )
        for k, name in enumerate(names)
    ]
    kind = SimpleNamespace(
        name="blur",
        input=pairs(0, 8),
        methods=methods,
        scores=of_samples(0, 3),
        flat=(None, of_samples(good, 4)),
    )
    other = SimpleNamespace(
        name="noise", input=pairs(0, 8), methods=methods, scores=of_samples(good, 5), flat=None
    )
    yield from cold_diffusion._findings([kind, other], "distance", torch.rand(2, 9))  # type: ignore[list-item]


def of_steps(good: float) -> Iterator[str]:
    ways = [ddim_steps.SamplerVariant("ddim", eta, steps) for eta in (0.0, 1.0) for steps in (10, 50)]
    ways.append(ddim_steps.SamplerVariant("student", 0.0, 1))
    found = {
        way: ddim_steps.VariantResults(torch.zeros(1), 0.1, Score(0.1), of_samples(good * k, k))
        for k, way in enumerate(ways)
    }
    yield from ddim_steps._findings(found, of_samples(0, 7))


def of_predictions(good: float) -> Iterator[str]:
    scores = {("DDPM", "eps"): of_samples(0, 0), ("DDPM", "v"): of_samples(good, 1)}
    clear = {"eps": [(1, 0.2), (9, 0.3)], "v": [(1, 0.1), (9, 0.3)]}
    yield from ddpm_ddim._findings(scores, clear, of_samples(0, 2), {"DDPM": None})  # type: ignore[dict-item]


def of_schedules(good: float) -> Iterator[str]:
    found = [
        SimpleNamespace(
            process=SimpleNamespace(name=name),
            scores=of_samples(good * k, k),
            test_loss=0.1 * (k + 1),
            signal=0.1 * k,
            from_images=of_samples(good * k, 3 + k) if k == 2 else None,
            at_equal_noise=lambda span: 0.3,
        )
        for k, name in enumerate(("linear", "cosine", "constant"))
    ]
    yield from noise_schedules._findings(found, of_samples(0, 9), (-4.0, 2.0))  # type: ignore[arg-type]


def of_course(good: float) -> Iterator[str]:
    drawn = [course_unets.EpochSamples(torch.zeros(1), of_samples(good * k, k)) for k in range(3)]
    settings = course_unets.CourseUNetsSettings(epochs=(1, 2))
    found = {
        name: SimpleNamespace(by_epoch={1: drawn[0], 2: each})
        for name, each in zip(("time", "class", "guided"), drawn, strict=True)
    }
    yield from course_unets._findings(settings, found, of_samples(0, 9))  # type: ignore[arg-type]


def of_guidance(good: float) -> Iterator[str]:
    scored = [class_guidance.ScoredSamples(torch.zeros(1), of_samples(good * k, k), 1.0) for k in range(3)]
    epochs = SimpleNamespace(found={1: scored[0], 2: scored[0]})
    found = SimpleNamespace(
        unet=epochs,
        scales={1.0: scored[0], 2.0: scored[1], 4.0: scored[2]},
        intervals={(0.0, 1.0): scored[0], (0.0, 0.5): scored[1], (0.5, 1.0): scored[2]},
    )
    yield from class_guidance._findings(class_guidance.GuidanceSettings(), found)  # type: ignore[arg-type]


def of_latents(good: float) -> Iterator[str]:
    variants = [latent_size.VAEVariant(size, 0.5, True) for size in ("8", "32")]
    found: dict[Any, Any] = {}
    sampled: dict[Any, Any] = {}
    for k, variant in enumerate(variants):
        detours = 1 + (0.3 * noise(k)).abs() + good * k
        units = {"active_units": 8, "latent_units": 8, "collapsed": False}
        numbers = SimpleNamespace(psnr=score(-good * k, k), fd=score(good * k, k), **units)
        found[variant] = SimpleNamespace(scores=numbers, paths=SimpleNamespace(detour=detours))
        sampled[variant] = SimpleNamespace(loss=0.1 * k, scores=of_samples(good * k, 4 + k))
    yield from latent_size._findings(found, sampled, of_samples(0, 9))


def of_training(good: float) -> Iterator[str]:
    scores = {1: of_samples(0, 0), 5: of_samples(good, 1), 9: of_samples(good, 2)}
    yield from denoiser_training._findings(trained(), {1: 10, 5: 50, 9: 90}, scores, of_samples(0, 3))


def of_sdedit(good: float) -> Iterator[str]:
    trips = {steps: (0.2 + 0.01 * noise(steps)).abs() * steps ** (-good / 4) for steps in (10, 20, 40)}
    scores = {3: pairs(0, 0), 1: pairs(0, 1)}
    yield from sdedit._findings(scores, {}, trips)


def read(pairs: Sequence[AnagramPair], good: float) -> list[Anagrams]:
    """Anagrams of pairs, each of which is read more often than the one before."""
    return [
        Anagrams(pair, torch.zeros(1), Shares(0.6, 0.6, min(1.0, 0.5 + good * k / 40)))
        for k, pair in enumerate(pairs)
    ]


def of_anagrams(good: float) -> Iterator[str]:
    ten = read([AnagramPair(*pair, "flip") for pair in PAIRS], good)
    tried = dict.fromkeys(anagrams.VIEWS, ten)
    yield from anagrams._findings(anagrams.AnagramSettings(seeds=100), ten, {(0, 1): 0.5}, tried, 0.99, 10)


def of_hybrids(good: float) -> Iterator[str]:
    shares = {pair: min(1.0, 0.5 + good * k / 40) for k, pair in enumerate(PAIRS)}
    real = {1.5: hybrids.RealMixture(0.6, 0.1), 3.0: hybrids.RealMixture(0.4, 0.1)}
    cuts = {1.5: 0.5, 3.0: 0.5 - good / 10}
    yield from hybrids._findings(hybrids.HybridSettings(seeds=100), shares, cuts, shares, real)


def of_text_anagrams(good: float) -> Iterator[str]:
    found, plain = (read(anagrams.PROMPT_PAIRS, each) for each in (good, 0.0))
    yield from anagrams._text_findings(anagrams.TextAnagramSettings(seeds=100), found, plain)


def of_text_hybrids(good: float) -> Iterator[str]:
    far = {s: Shares(0.6, 0.6, min(1.0, 0.3 + good * k / 8)) for k, s in enumerate((1.5, 3.0))}
    yield from hybrids._text_findings(hybrids.TextHybridSettings(seeds=100), far, far[1.5])


def of_texts(good: float) -> Iterator[str]:
    shares = {name: comparison.share(0.5 + good * k / 20, 100) for k, name in enumerate(("digit", "colour"))}
    shares |= {name: comparison.share(0.5, 100) for name in ("all attributes", "whole pictures")}
    found = dict.fromkeys(("seen", "held", "pairs"), shares)
    yield from text_to_image._findings({"one digit": shares}, {2.0: found}, 2.0)


STUDIES: dict[str, Callable[[float], Iterator[str]]] = {
    "denoising": of_denoising,
    "one-step-unet": of_one_step,
    "inpainting": of_inpainting,
    "restoration": of_restoration,
    "cold-diffusion": of_cold,
    "ddim-steps": of_steps,
    "ddpm-ddim": of_predictions,
    "noise-schedule-study": of_schedules,
    "course-unets": of_course,
    "class-guidance": of_guidance,
    "latent-size": of_latents,
    "anagrams": of_anagrams,
    "hybrids": of_hybrids,
    "text-anagrams": of_text_anagrams,
    "text-hybrids": of_text_hybrids,
    "text-to-image": of_texts,
    "denoiser-training": of_training,
    "sdedit": of_sdedit,
}
PLAIN = ("denoiser-training", "sdedit")  # numbers and intervals, no ranking even where something is apart


def praise(findings: Sequence[str]) -> list[str]:
    return [text for text in findings if PRAISE.search(text)]


@pytest.mark.parametrize("study", STUDIES)
def test_what_is_tied_is_not_ranked(study: str) -> None:
    findings = list(STUDIES[study](0.0))
    assert findings and not praise(findings), praise(findings)


@pytest.mark.parametrize("study", [name for name in STUDIES if name not in PLAIN])
def test_what_is_apart_is_said_with_its_interval(study: str) -> None:
    found = praise(list(STUDIES[study](4.0)))
    assert found and all("95% interval" in text for text in found), found


@pytest.mark.parametrize(
    "study", ["denoising", "one-step-unet", "inpainting", "restoration", "cold-diffusion"]
)
def test_what_is_worse_than_the_input_is_called_worse(study: str) -> None:
    found = [text for text in STUDIES[study](-4.0) if "against" in text and "FD" not in text]
    assert found and all("worse: " in text and "better: " not in text for text in found), found


def test_solvers_are_counted_by_task_beyond_the_interval() -> None:
    apart, tied, reverse = (
        {"a": [pairs(good, 1)], "b": [pairs(0, 2)], "c": [pairs(0, 2)]} for good in (4, 0, -4)
    )
    found = {"one": apart, "two": tied, "three": reverse, "four": apart}
    text = closer(found, (("a", "b"), ("b", "c")))
    assert "a is closer than b in 2, farther in 1; b is closer than c in 0, farther in 0 of 4" in text


def test_contrast_is_that_of_the_pixels() -> None:
    """Half the contrast is 50%; a flat image has none."""
    images = torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    methods = [
        SimpleNamespace(name=name, images=scale * images - 1) for name, scale in (("half", 0.5), ("flat", 0))
    ]
    found = cold_diffusion._contrast(SimpleNamespace(methods=methods), images)  # type: ignore[arg-type]
    assert found == "half 50%, flat 0%"


def test_a_paired_interval_covers_the_true_difference() -> None:
    """Student's interval of 12 normal differences holds the true mean in 95% (and 99%) of 2000 repeats."""
    for comparisons, level in ((1, 0.95), (5, 0.99)):
        hits = 0
        for seed in range(2000):
            found = comparison.paired(3 + noise(seed, 12), torch.zeros(12), comparisons=comparisons)
            hits += found.low <= 3 <= found.high
        assert hits / 2000 == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / 2000))


def test_an_unpaired_interval_covers_the_difference_of_two_shares() -> None:
    generator, hits = torch.Generator().manual_seed(3), 0
    for _ in range(1000):
        a, b = (
            comparison.share(float((torch.rand(60, generator=generator) < p).double().mean()), 60)
            for p in (0.8, 0.6)
        )
        found = comparison.unpaired(a, b)
        hits += found.low <= 0.2 <= found.high
    assert 0.93 < hits / 1000 < 0.985


def test_an_untouched_input_is_infinitely_good() -> None:
    """Equal images have an infinite PSNR: whatever is made of them is worse, and two of them are tied."""
    exact, changed = torch.full((5,), math.inf, dtype=torch.float64), 20 + noise(0, 5)
    assert comparison.paired(changed, exact).sign == -1 and "−∞" in comparison.paired(changed, exact).text(
        " dB"
    )
    assert comparison.paired(exact, exact).sign == 0 == comparison.paired(exact[:1], exact[:1]).sign
    assert (
        comparison.paired(torch.cat([exact, changed]), torch.cat([changed, exact])).sign == 0
    )  # they disagree


def test_seeds_are_no_more_images() -> None:
    """Draws of one image are averaged before images are compared: 40 copies of the draws say no more than
    one.
    """
    one, many = ([pairs(0.3, 1)] * k for k in (1, 40))
    assert difference(many, [pairs(0, 0)], "psnr").text() == difference(one, [pairs(0, 0)], "psnr").text()


def test_figures_without_an_interval_have_no_order() -> None:
    text = comparison.ordered("FD", {"a": Score(1.0), "b": Score(99.0)})
    assert not PRAISE.search(text) and "without intervals" in text
    assert comparison.extremes({"a": Score(1.0), "b": Score(99.0)}) is None
    unknown = comparison.unpaired(Score(1.0), Score(99.0))
    assert "interval unknown" in unknown.text()
    assert comparison.against("FD", "x", {"y": unknown}).startswith("FD against x: not tested: y")
    assert "better" not in against_input("x", {"a": [pairs(0, 0)], "b": [pairs(0, 0)]}, "a", "psnr", "PSNR")


def test_the_power_of_a_law_is_found_with_its_interval() -> None:
    trips = {steps: (2 + 0.1 * noise(steps)).abs() * steps**-0.5 for steps in (10, 20, 40, 80)}
    found = sdedit.exponent(trips)
    assert found.low < -0.5 < found.high < -0.4 and found.value == pytest.approx(-0.5, abs=0.03)


def test_an_order_that_the_losses_contradict_is_named() -> None:
    scores = {"a": score(0, 0), "b": score(4, 1), "c": score(0, 2)}
    text = comparison.disagreements({"a": 0.1, "b": 0.9, "c": 0.1}, scores)
    assert text.startswith("2 of 3 pairs have FDs") and "in 2 of these" in text and "b and a; b and c" in text
    assert "the losses order these alike" in comparison.disagreements({"a": 0.9, "b": 0.1, "c": 0.9}, scores)
    tied = comparison.disagreements({"a": 0.1, "b": 0.9}, {"a": score(0, 0), "b": score(0, 1)})
    assert tied.startswith("0 of 1 pairs") and "draws" not in tied and "alike" not in tied
