"""The samples of `latentdiff sample` and the files that are written from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from latentdiff.apps.cli.shared.outputs import running
from latentdiff.apps.cli.shared.progress import SamplingBar
from latentdiff.config.recipe import Recipe
from latentdiff.config.sampling import Sampling
from latentdiff.data import to_uint8
from latentdiff.data.classes import joined, label_text
from latentdiff.diffusion.trajectory import Frame, Recorder, SampleResult
from latentdiff.errors import counted
from latentdiff.parallel.device import dtype_name
from latentdiff.parallel.processes import ALONE, Ranks
from latentdiff.pipeline.checkpoint.folder import Checkpoint
from latentdiff.pipeline.checkpoint.runs import recipe_of
from latentdiff.pipeline.pipeline import Pipeline
from latentdiff.viz.figures import Math, save_panels, save_trajectory
from latentdiff.viz.image_folder import save_images
from latentdiff.viz.images import (
    Pixels,
    class_columns,
    image_grid,
    latent_pictures,
    save_gif,
    save_image,
    save_npz,
    side_by_side,
)

SHOWN = {".gif": 64, ".png": 16}  # images in a trajectory, at most
FRAMES = {".gif": 40, ".png": 10}  # frames of a trajectory unless --frames says otherwise


@dataclass(frozen=True)
class SampleRequest:
    """The images to draw and the files to write."""

    n: int
    labels: list[int] | list[str] | None  # classes or prompts
    seed: int
    out: Path
    files: Path | None
    batch: int | None
    columns: int | None
    trajectory: Path | None = None
    frames: int | None = None
    recipe: Recipe | None = None  # stored in the pictures


def recipe(
    checkpoint: Checkpoint,
    pipeline: Pipeline,
    values: Mapping[str, Any],
    prompts: list[str],
    settings: list[Sampling],
) -> Recipe:
    """The settings that repeat the pictures of the option ``values``, with the model's defaults filled in."""
    options = ("n", "seed", "class_balance", "interpolate", "batch", "columns")
    unguided = 1.0 if pipeline.tokenizer is not None and not prompts else None
    eta = None if values["interpolate"] is None else 0.0
    resolved = [pipeline.with_defaults(each, guidance=unguided, eta=eta) for each in settings]
    given = {name: values[name] for name in options}
    label = None if values["label"] is None else joined(pipeline.classes, values["label"])
    given["dtype"] = dtype_name(pipeline.dtype)
    return recipe_of(checkpoint, settings=resolved, prompts=prompts, label=label, **given)


def alone(request: SampleRequest, k: int, classes: Sequence[str]) -> Recipe | None:
    """The recipe of image ``k``, drawn alone; None where it lies between two seeds, or there is none."""
    if request.recipe is None or request.recipe.interpolate is not None:
        return None
    label = None if request.labels is None else request.labels[k]
    return request.recipe.of_one(k, label if isinstance(label, str | None) else label_text(classes, label))


def columns(pipeline: Pipeline, request: SampleRequest) -> int | None:
    """The columns of the request, or one a class where all classes are drawn in turn."""
    labels, classes = request.labels or [], len(pipeline.classes)
    in_turn = len(labels) >= classes > 0 and labels == [k % classes for k in range(len(labels))]
    return request.columns or (class_columns(request.n, classes) if in_turn else None)


def draw(
    pipeline: Pipeline, request: SampleRequest, settings: Sampling, ranks: Ranks = ALONE
) -> SampleResult:
    """Image k from seed + k, with a trajectory's frames; of several processes the first gets all images."""
    mine = ranks.share(request.n)
    label = None if request.labels is None else request.labels[mine]
    key = pipeline.key(request.seed, request.n)[mine]
    with SamplingBar(settings.sampler) as bar:
        recorder = Recorder(progress=bar.update)
        if request.trajectory is not None:
            kind = request.trajectory.suffix.lower()
            recorder = replace(recorder, frames=request.frames or FRAMES[kind], images=SHOWN[kind])
        made = pipeline.run(settings, key, label=label, batch=request.batch, recorder=recorder)
    return SampleResult(ranks.rows(made.images, request.n), made.frames)


def interpolated(pipeline: Pipeline, request: SampleRequest, settings: Sampling, other: int) -> Tensor:
    """Images on the way from the seed of the request to ``other``."""
    with SamplingBar("interpolation") as bar:
        return pipeline.interpolate(
            settings,
            (request.seed, other),
            count=request.n,
            label=request.labels,
            batch=request.batch,
            progress=bar.update,
        )


def compare(pipeline: Pipeline, request: SampleRequest, settings: list[Sampling]) -> Tensor:
    """One panel for each number of steps, all from the same starting noise."""
    panels = []
    for each in settings:
        images = draw(pipeline, request, each).images
        grid = image_grid(images, columns=columns(pipeline, request))
        panels.append((counted(each.steps or 0, "step"), grid))
    title = f"{settings[0].sampler}, the same starting noise"
    save_panels(panels, request.out, title=title, recipe=request.recipe)
    return images


def write(images: Tensor, request: SampleRequest, classes: Sequence[str], *, columns: int | None) -> None:
    """The grid or npz, and the separate files."""
    pixels = to_uint8(images)
    if request.out.suffix.lower() == ".png":
        save_image(image_grid(pixels, columns=columns), request.out, recipe=request.recipe)
    else:
        save_npz(pixels, request.out, labels=request.labels)
    if request.files is not None:
        save_images(
            request.files, {"": pixels}, recipe=lambda k: alone(request, k, classes), command=running()
        )


def write_trajectory(frames: Sequence[Frame], path: Path) -> None:
    """Write the reverse process of the recorded images as an animation or a strip: x_t, of a VAE's latents
    also decoded, and the estimate of x_0.
    """
    rows: dict[str, list[Pixels]] = {Math("$x_t$"): [image_grid(frame.noisy) for frame in frames]}
    if frames[0].latent.shape != frames[0].noisy.shape:  # decoded noise looks like images, which it is not
        latents = [image_grid(latent_pictures(frame.latent)) for frame in frames]
        rows = {Math("$x_t$, latent"): latents, Math("$x_t$, decoded"): next(iter(rows.values()))}
    rows[Math(r"$\hat x_0$")] = [image_grid(frame.estimate) for frame in frames]
    if path.suffix.lower() == ".gif":
        save_gif([side_by_side(*pictures) for pictures in zip(*rows.values(), strict=True)], path)
    else:
        save_trajectory([frame.t for frame in frames], rows, path)
