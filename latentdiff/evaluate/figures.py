"""The pictures of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentdiff.data.classes import representative
from latentdiff.evaluate.denoiser import LevelLoss
from latentdiff.evaluate.neighbors import Neighbors
from latentdiff.evaluate.pairs import as_pixels
from latentdiff.evaluate.reconstruct import Reconstruction
from latentdiff.evaluate.vae import Encoded
from latentdiff.metrics.pairs import mse
from latentdiff.viz.figures import COLORS, FAINT, INK, SECOND, Math, new_figure, save_figure
from latentdiff.viz.images import class_columns, image_grid, save_image

ACROSS = 12  # images in a strip
GRID = 100  # samples in the grid
FLOOR = 1e-4  # of the prediction's largest error: what is below it is not shown
SYMBOLS = {"x0": Math(r"of $x_0$"), "eps": Math(r"of $\epsilon$")}

Strip = tuple[str, Tensor]
"""A label and images uint8 [n, C, H, W] that stand side by side."""


def save_strips(groups: Sequence[tuple[str, Sequence[Strip]]], path: Path) -> None:
    """Groups of strips below each other, each group under its title and each strip beside its label."""
    count = sum(len(strips) for _, strips in groups)
    across = max(len(images) for _, strips in groups for _, images in strips)
    height, width = groups[0][1][0][1].shape[2:]
    side = 9.0 / across  # inches an image
    tall = side * height / width + 0.05
    figure = new_figure(9.7, count * tall + 0.32 * len(groups) + 0.1)
    heights = [len(strips) * tall + 0.32 for _, strips in groups]
    parts = figure.subfigures(len(groups), 1, squeeze=False, height_ratios=heights)
    for part, (title, strips) in zip(parts[:, 0], groups, strict=True):
        part.suptitle(title, fontsize=11, x=0.01, ha="left")
        for axes, (label, images) in zip(
            part.subplots(len(strips), 1, squeeze=False)[:, 0], strips, strict=True
        ):
            axes.imshow(image_grid(images, columns=len(images)), interpolation="nearest")
            axes.set_ylabel(label, fontsize=9, rotation=0, ha="right", va="center")
            axes.set(xticks=[], yticks=[], anchor="W")
            for edge in axes.spines.values():
                edge.set_visible(False)
    save_figure(figure, path)


def save_vae_figure(images: Tensor, made: Encoded, path: Path, *, labels: Tensor | None = None) -> None:
    """Some images of all classes and those with the largest errors, each above its reconstruction."""
    copies = as_pixels(made.copies)
    error = mse(images, copies)
    some = representative(labels, len(images), ACROSS)
    worst = error.argsort(descending=True, stable=True)[:ACROSS]
    groups = [("some images", some), ("the worst reconstructions", worst)]
    save_strips(
        [(title, [("original", images[rows]), ("reconstruction", copies[rows])]) for title, rows in groups],
        path,
    )


def save_sample_grid(images: Tensor, path: Path, *, labels: Tensor | None = None) -> None:
    """The first 100 samples uint8, or with ``labels`` int64 [N] of few classes the first of each, one class a
    column.
    """
    chosen, columns = torch.arange(min(GRID, len(images))), None
    if labels is not None and (columns := class_columns(len(chosen), len(labels.unique()))):
        found = [torch.nonzero(labels == k)[:, 0] for k in labels.unique().tolist()]
        each = min(GRID // len(found), *map(len, found))
        if (
            each < min(GRID, len(labels)) // len(found) // 2
        ):  # a rare class would leave next to nothing to see
            columns = None
        else:
            chosen = torch.stack([places[:each] for places in found], 1).flatten()
    save_image(image_grid(images[chosen], columns=columns), path)


def save_neighbor_figure(samples: Tensor, found: Neighbors, train: Tensor, path: Path) -> None:
    """Samples above their nearest training images: those that come closest in features, and the first
    ones.
    """
    n = len(found.feature_distance)
    closest = found.feature_distance.argsort(stable=True)[:ACROSS]
    groups = [
        ("samples closest to a training image", closest),
        ("the first samples", closest.new_tensor(range(n))[:ACROSS]),
    ]
    save_strips(
        [
            (
                title,
                [
                    ("sample", samples[rows]),
                    ("nearest in\nfeatures", train[found.feature_index[rows]]),
                    ("nearest in\npixels", train[found.pixel_index[rows]]),
                ],
            )
            for title, rows in groups
        ],
        path,
    )


def save_reconstruction_figure(images: Tensor, made: Sequence[Reconstruction], path: Path) -> None:
    """A group for each level: the images, noised, brought back by one step and by the sampler."""
    groups = []
    for each in made:
        rows = [
            ("original", images),
            ("noised", as_pixels(each.noised)),
            ("estimate", as_pixels(each.one_step)),
        ]
        rows.append((f"{each.steps} step{'s' * (each.steps > 1)}", as_pixels(each.iterative)))
        title = Math(rf"from t = {each.t} ($\bar\alpha_t$ = {each.signal:.3f})")
        groups.append((title, [(label, strip[:ACROSS]) for label, strip in rows]))
    save_strips(groups, path)


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
    axes.set(xlabel="noise level t", ylabel="mean squared error", yscale="log", ylim=(FLOOR * top, 10 * top))
    axes.set_title(f"test loss by noise level, {curve.n} images", fontsize=11)
    axes.grid(alpha=0.25, which="both")
    axes.legend(frameon=False)
    save_figure(figure, path)


def save_histogram(shares: Mapping[str, Sequence[int]], names: Sequence[str], path: Path) -> None:
    """Shares of the classes that a feature network sees, a group of bars for each class; ``shares`` by set of
    images.
    """
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
    if paired:
        strips = [(name, side[:ACROSS]) for name, side in zip(names, sides, strict=True)]
        save_strips([("the first pairs", strips)], path)
        return
    groups = []
    for name, side in zip(names, sides, strict=True):
        groups.append(
            (name, [("", side[k : k + ACROSS]) for k in range(0, min(len(side), 3 * ACROSS), ACROSS)])
        )
    save_strips(groups, path)
