"""What the page does: drawings as generators of views, whose pictures become files that carry their
settings.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Event

from torch import Tensor

from latentdiff.apps.ui.canvas import canvas, image_of, painted
from latentdiff.apps.ui.limits import KEPT
from latentdiff.apps.ui.models import ListedModel, ModelList
from latentdiff.apps.ui.request import EVERY, PageRequest, asked_by
from latentdiff.apps.ui.stream import Moment, live
from latentdiff.config.recipe import Recipe
from latentdiff.config.restoration import Restoration, Solver
from latentdiff.data import to_uint8
from latentdiff.data.classes import label_text
from latentdiff.diffusion.operators import masked
from latentdiff.edit import Recorder, SampleResult, level_of, restore, sdedit
from latentdiff.pipeline.conditioner import Labels
from latentdiff.viz.images import Pixels, class_columns, image_grid, read_recipe, save_image


@dataclass(frozen=True, eq=False)
class PageView:
    """What the page shows at a moment: a line of words, x_t and the estimate of x_0 as grids; at the end the
    files.

    ``grid``: all images in one PNG; ``shots``: each alone, with a caption.
    """

    said: str
    noisy: Pixels
    estimate: Pixels
    grid: Path | None = None
    shots: tuple[tuple[Path, str], ...] = ()


@dataclass(frozen=True, eq=False)
class Job:
    """A drawing that was asked for: how its images come about and what they are stamped with."""

    model: ListedModel
    ask: PageRequest
    recipe: Recipe
    labels: Labels  # one for all images, or one for each
    draw: Callable[[Recorder], SampleResult]

    @property
    def columns(self) -> int | None:
        """Those of the grid, as `latentdiff sample` lays it out: one a class where all are drawn in turn."""
        classes = len(self.model.pipeline.classes)
        in_turn = self.recipe.made_by == "sample" and self.ask.label == EVERY and self.labels is not None
        return class_columns(self.ask.n, classes) if in_turn and self.ask.n >= classes > 0 else None

    def word(self, k: int) -> str | None:
        """What image k was to be."""
        label = self.labels if self.labels is None or isinstance(self.labels, int | str) else self.labels[k]
        return label_text(self.model.pipeline.classes, label) if isinstance(label, int) else label


class Studio:
    """Draws with the models of a shelf and leaves the pictures below ``folder``."""

    def __init__(self, shelf: ModelList, folder: Path) -> None:
        self.shelf, self._folder, self._numbers = shelf, folder, count()

    def sample(self, name: str, ask: PageRequest, *, stop: Event | None = None) -> Iterator[PageView]:
        """Images from noise. InputError for what the model cannot follow; Stopped once ``stop`` is set."""
        return self._views(self._sampling(name, ask), stop)

    def compare(
        self, name: str, asks: tuple[PageRequest, PageRequest], *, stop: Event | None = None
    ) -> Iterator[tuple[PageView | None, PageView | None]]:
        """Two settings from the same noise, that of the first: the first one's views, then beside its last
        those of the second.
        """
        first, second = asks[0], asks[1].model_copy(update={"seed": asks[0].seed, "n": asks[0].n})
        jobs = (
            self._sampling(name, first),
            self._sampling(name, second),
        )  # both are checked before either is drawn
        return self._compared(jobs, stop)

    def edit(
        self, name: str, ask: PageRequest, image: Pixels | None, strength: float, *, stop: Event | None = None
    ) -> Iterator[PageView]:
        """SDEdit of an image uint8 [h, w(, c)], ``ask.n`` variations of it."""
        model = self.shelf.model(name)
        ask, label, pipeline = ask.of_one_thing(model), ask.thing(model), model.pipeline
        images = self._copies(image, model, ask.n)
        settings, level = ask.settings(model), level_of(pipeline, strength)
        recipe = ask.recipe(model, made_by="edit", strength=strength)

        def draw(recorder: Recorder) -> SampleResult:
            return sdedit(
                pipeline, images, level, settings=settings, label=label, seed=ask.seed, recorder=recorder
            )

        return self._views(Job(model, ask, recipe, label, draw), stop)

    def inpaint(
        self,
        name: str,
        ask: PageRequest,
        image: Pixels | None,
        layers: list[Pixels],
        solver: Solver,
        *,
        stop: Event | None = None,
    ) -> Iterator[PageView]:
        """The painted parts of an image filled in, ``ask.n`` times; ``layers``: uint8 RGBA [h, w, 4], painted
        where they are not transparent.
        """
        model = self.shelf.model(name)
        ask, label, pipeline = ask.of_one_thing(model), ask.thing(model), model.pipeline
        images, shape = self._copies(image, model, ask.n), _shape(model)
        mask, how = painted(layers, shape), Restoration(solver=solver)
        operator, settings = masked(shape, mask), ask.settings(model)
        recipe = ask.recipe(model, made_by="inpaint", restoration=how)

        def draw(recorder: Recorder) -> SampleResult:
            y = operator(images)
            return restore(
                pipeline,
                operator,
                y,
                how=how,
                settings=settings,
                mask=mask,
                label=label,
                seed=ask.seed,
                recorder=recorder,
            )

        return self._views(Job(model, ask, recipe, label, draw), stop)

    def one(self, name: str, ask: PageRequest, *, stop: Event | None = None) -> Pixels:
        """The first image of the controls on a canvas; Stopped once ``stop`` is set."""
        job = self._sampling(name, ask.model_copy(update={"n": 1}))
        *_, found = live(job.draw, (1, *_shape(job.model)), stop=stop)
        assert isinstance(found, SampleResult)
        return canvas(to_uint8(found.images)[0].permute(1, 2, 0).numpy(), _shape(job.model))

    def repeat(self, path: str | Path) -> tuple[str | None, PageRequest, Recipe]:
        """The model (None: its weights are not here) and the controls of a picture's settings.

        InputError for a file without, or beyond the page's limits.
        """
        recipe = read_recipe(path)
        return self.shelf.of_weights(recipe.weights), asked_by(recipe), recipe

    def _sampling(self, name: str, ask: PageRequest) -> Job:
        model = self.shelf.model(name)
        ask = ask.of_one_thing(model) if model.listens else ask
        pipeline, settings, labels = model.pipeline, ask.settings(model), ask.labels(model)
        key = pipeline.key(ask.seed, ask.n)

        def draw(recorder: Recorder) -> SampleResult:
            return pipeline.run(settings, key, label=labels, recorder=recorder)

        pipeline.plan(settings)  # more steps than levels are refused here
        return Job(model, ask, ask.recipe(model), labels, draw)

    def _compared(
        self, jobs: tuple[Job, Job], stop: Event | None
    ) -> Iterator[tuple[PageView | None, PageView | None]]:
        left: PageView | None = None
        for left in self._views(jobs[0], stop):
            yield left, None
        for right in self._views(jobs[1], stop):
            yield left, right

    def _copies(self, image: Pixels | None, model: ListedModel, n: int) -> Tensor:
        return image_of(image, _shape(model)).expand(n, -1, -1, -1)

    def _views(self, job: Job, stop: Event | None) -> Iterator[PageView]:
        begun, shape = time.monotonic(), (job.ask.n, *_shape(job.model))
        for found in live(job.draw, shape, stop=stop):
            if isinstance(found, Moment):
                noisy, estimate = (
                    image_grid(each, columns=job.columns) for each in (found.noisy, found.estimate)
                )
                yield PageView(f"t = {found.t}: {found.share:.0%}", noisy, estimate)
            else:
                grid, shots = self._saved(job, found.images)
                took = (
                    f"{job.ask.n} {'image' if job.ask.n == 1 else 'images'} in"
                    f" {time.monotonic() - begun:.1f} s"
                )
                image = image_grid(
                    found.images, columns=job.columns
                )  # known pixels are put back after the last move
                yield PageView(took, image, image, grid, shots)

    def _saved(self, job: Job, images: Tensor) -> tuple[Path, tuple[tuple[Path, str], ...]]:
        """The files of a drawing; those of long ago make room."""
        number, pixels = next(self._numbers), to_uint8(images)
        folder = self._folder / f"{number:06d}"
        model = re.sub("[^A-Za-z0-9]+", "-", job.model.name)[-60:].strip("-")
        name = f"{model}-{job.recipe.made_by}-seed{job.ask.seed}"
        grid = folder / f"{name}-grid.png"
        save_image(image_grid(pixels, columns=job.columns), grid, recipe=job.recipe)
        shots = []
        for k, image in enumerate(pixels):
            word = job.word(k)
            path = folder / f"{name}-{k:02d}.png"
            save_image(image.permute(1, 2, 0).squeeze(2).numpy(), path, recipe=job.recipe.of_one(k, word))
            shots.append((path, f"seed {job.ask.seed + k}" + (f" · {word[:40]}" if word else "")))
        shutil.rmtree(self._folder / f"{number - KEPT:06d}", ignore_errors=True)
        return grid, tuple(shots)


def _shape(model: ListedModel) -> tuple[int, int, int]:
    channels, height, width = model.pipeline.codec.image_shape
    return channels, height, width
