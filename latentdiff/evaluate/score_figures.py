"""The figures of an evaluation, drawn from its scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentdiff.evaluate.denoiser import LevelLoss
from latentdiff.evaluate.examples import ACROSS, Strips
from latentdiff.evaluate.model import ModelScores, SamplingScores
from latentdiff.evaluate.reconstruct import ReconstructionScores
from latentdiff.viz.figures import COLORS, FAINT, INK, SECOND, Math, new_figure, save_figure
from latentdiff.viz.images import image_grid, save_image

LEAST_SHOWN = 1e-4  # of the prediction's largest error: what is below it is not shown
SYMBOLS = {"x0": Math(r"of $x_0$"), "eps": Math(r"of $\epsilon$")}


def save_figures(scores: ModelScores, out: Path) -> list[Path]:
    """Draw the figures of all parts that were measured; returns their paths below ``out``."""
    drawn = []

    def draw(name: str, save: Callable[[Path], None]) -> None:
        save(out / name)
        drawn.append(out / name)

    if scores.vae is not None and (pairs := scores.vae.examples):
        draw("vae.png", lambda path: save_strips(pairs, path))
    if (samples := scores.samples) is not None:
        if (grid := samples.examples) is not None:
            draw("samples.png", lambda path: save_image(image_grid(grid.images, columns=grid.columns), path))
        if shares := _histograms(samples):
            own = () if samples.agreement is None else samples.agreement.names
            names = own or samples.class_names or tuple(map(str, range(len(shares["samples"]))))
            draw("classes.png", lambda path: save_histogram(shares, names, path))
        if samples.neighbors is not None and (nearest := samples.neighbors.examples):
            draw("neighbors.png", lambda path: save_strips(nearest, path))
    if (denoiser := scores.denoiser) is not None:
        curve = denoiser.by_level
        draw("denoiser.png", lambda path: save_level_figure(curve, path, prediction=denoiser.prediction))
    if scores.reconstruction is not None:
        strips = [Strips(_from_level(each), each.examples) for each in scores.reconstruction]
        draw("reconstruction.png", lambda path: save_strips(strips, path))
    if rows := [each.examples for each in scores.scenes or () if each.examples is not None]:
        draw("scenes.png", lambda path: save_image(image_grid(torch.cat(rows), columns=len(rows[0])), path))
    return drawn


def _histograms(samples: SamplingScores) -> dict[str, tuple[int, ...]]:
    """Images by predicted class, of the samples and of real images; empty where either has no histogram."""
    if (found := samples.agreement) is not None:
        rows = found.by_class
        return {
            "samples": tuple(each.predicted for each in rows),
            "real images": tuple(each.real_predicted for each in rows),
        }
    floor = samples.floor
    if not samples.histogram or floor is None or not floor.histogram:
        return {}
    return {"samples": samples.histogram, "real images": floor.histogram}


def _from_level(scores: ReconstructionScores) -> Math:
    return Math(rf"from t = {scores.t} ($\bar\alpha_t$ = {scores.alpha_bar:.3f})")


def save_strips(groups: Sequence[Strips], path: Path) -> None:
    """Groups of strips below each other, each group under its title and each strip beside its label."""
    count = sum(len(each.strips) for each in groups)
    across = max(len(images) for each in groups for _, images in each.strips)
    height, width = groups[0].strips[0][1].shape[2:]
    side = 9.0 / across  # inches an image
    tall = side * height / width + 0.05
    below = [0.36 if each.captions else 0.0 for each in groups]
    figure = new_figure(9.7, count * tall + 0.32 * len(groups) + sum(below) + 0.1)
    heights = [len(each.strips) * tall + 0.32 + more for each, more in zip(groups, below, strict=True)]
    parts = figure.subfigures(len(groups), 1, squeeze=False, height_ratios=heights)
    for part, (title, strips, captions) in zip(parts[:, 0], groups, strict=True):
        part.suptitle(title, fontsize=11, x=0.01, ha="left")
        for axes, (label, images) in zip(
            rows := part.subplots(len(strips), 1, squeeze=False)[:, 0], strips, strict=True
        ):
            axes.imshow(image_grid(images, columns=len(images)), interpolation="nearest")
            axes.set_ylabel(label, fontsize=9, rotation=0, ha="right", va="center")
            axes.set(xticks=[], yticks=[], anchor="W")
            for edge in axes.spines.values():
                edge.set_visible(False)
        if captions:
            total = strips[-1][1].shape[0]
            _, right = rows[-1].get_xlim()
            rows[-1].set_xticks(
                [(k + 0.5) * (right + 0.5) / total - 0.5 for k in range(total)], captions, fontsize=8
            )
            rows[-1].tick_params(length=0)
    save_figure(figure, path)


def save_level_figure(curve: LevelLoss, path: Path, *, prediction: str) -> None:
    """Mean squared errors over the noise level: of the prediction (with 95% bands), of x_0 and of eps."""
    figure = new_figure(7.2, 4.2)
    axes = figure.subplots()
    levels, error = np.array(curve.levels), np.array(curve.prediction)
    spread = 1.96 * np.array(curve.prediction_se)
    axes.fill_between(
        levels, np.maximum(error - spread, error / 10), error + spread, color=INK, alpha=0.2, linewidth=0
    )
    axes.plot(levels, error, color=INK, label=f"prediction ({prediction})")
    for name, values, color, style in (("x0", curve.x0, SECOND, "--"), ("eps", curve.eps, COLORS[2], ":")):
        if name != prediction:
            shown = np.array(values)
            axes.plot(levels[shown > 0], shown[shown > 0], color=color, linestyle=style, label=SYMBOLS[name])
    top = max(curve.prediction)  # the error of x_0 read from eps grows without bound towards pure noise
    axes.set(
        xlabel="noise level t", ylabel="mean squared error", yscale="log", ylim=(LEAST_SHOWN * top, 10 * top)
    )
    axes.set_title(f"test loss by noise level, {curve.n} images", fontsize=11)
    axes.grid(alpha=0.25, which="both")
    axes.legend(frameon=False)
    save_figure(figure, path)


def save_histogram(shares: Mapping[str, Sequence[int]], names: Sequence[str], path: Path) -> None:
    """Shares of predicted classes, a group of bars for each class; ``shares``: counts by set of images."""
    figure = new_figure(max(5.0, 0.55 * len(names)), 3.2)
    axes = figure.subplots()
    width = 0.8 / len(shares)
    for i, ((label, counts), color) in enumerate(zip(shares.items(), (INK, FAINT, SECOND), strict=False)):
        values = np.array(counts) / max(1, sum(counts))
        axes.bar(
            np.arange(len(names)) + (i - (len(shares) - 1) / 2) * width,
            values,
            width,
            color=color,
            label=label,
        )
    axes.set_xticks(np.arange(len(names)), names, rotation=0 if max(map(len, names)) < 4 else 45, ha="center")
    axes.set(xlabel="class", ylabel="share of images")
    axes.grid(alpha=0.25, axis="y")
    axes.set_axisbelow(True)
    axes.legend(frameon=False, ncols=len(shares), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    save_figure(figure, path)


def save_sets_figure(
    sides: tuple[Tensor, Tensor], names: tuple[str, str], path: Path, *, paired: bool
) -> None:
    """Two sets of images uint8 [N, C, H, W]: the first pairs, or the first images of each."""
    both = list(zip(names, sides, strict=True))
    if paired:
        groups = [Strips("the first pairs", tuple((name, side[:ACROSS]) for name, side in both))]
    else:
        groups = [
            Strips(name, tuple(("", strip) for strip in side[: 3 * ACROSS].split(ACROSS)))
            for name, side in both
        ]
    save_strips(groups, path)
