"""The service behind the page: drawings as generators of views, pictures saved with their settings."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from secrets import token_urlsafe
from threading import Event
from typing import Any
from zipfile import ZipFile

from torch import Tensor

from latentdiff.apps.ui.canvas import canvas, image_of, painted_mask
from latentdiff.apps.ui.drawing import Preview, stream
from latentdiff.apps.ui.limits import HISTORY, KEPT
from latentdiff.apps.ui.models import ListedModel, ModelList
from latentdiff.apps.ui.request import ALL_CLASSES, PageRequest, controls_of, usual_request
from latentdiff.config.recipe import CommandRecipe, Recipe
from latentdiff.config.restoration import Restoration, Solver
from latentdiff.data import to_uint8
from latentdiff.data.classes import label_text
from latentdiff.edit import Recorder, SampleResult, inpaint, level_of, sdedit
from latentdiff.errors import InputError
from latentdiff.parallel.device import dtype_name
from latentdiff.pipeline.batching import Cancelled
from latentdiff.pipeline.conditioner import Labels
from latentdiff.viz.images import Pixels, class_columns, image_grid, read_recipe, save_gif, save_image

Moment = tuple[str, Pixels, Pixels]  # a line, x_t and the estimate of x_0 as grids


@dataclass(frozen=True, eq=False)
class Finished:
    """A finished drawing: ``grid``, all images in one PNG; ``files``, each alone with a caption; ``archive``,
    these in a ZIP file; ``gif``, the denoising; ``moments`` of it; ``pair``: the first image of an edit
    before and after, enlarged.
    """

    grid: Path
    files: Sequence[tuple[Path, str]]
    archive: Path
    gif: Path
    moments: Sequence[Moment]
    pair: tuple[Pixels, Pixels] | None = None


@dataclass(frozen=True, eq=False)
class PageView:
    """The page during a drawing: a status line, x_t and the estimate of x_0 as grids; at the end the files.

    ``done``: what there is at the end; None before.
    """

    status: str
    noisy: Pixels
    estimate: Pixels
    done: Finished | None = None

    @property
    def grid(self) -> Path | None:
        """The file of all images."""
        return None if self.done is None else self.done.grid

    @property
    def files(self) -> Sequence[tuple[Path, str]]:
        """The file of each image, with a caption."""
        return () if self.done is None else self.done.files


@dataclass(frozen=True, eq=False)
class Job:
    """A requested drawing: the function that draws it, and the recipe and captions of its pictures.

    ``before``: the image [1, C, H, W] that it edits; None: it is drawn from noise.
    """

    model: ListedModel
    request: PageRequest
    recipe: Recipe
    labels: Labels  # one for all images, or one for each
    draw: Callable[[Recorder], SampleResult]
    before: Tensor | None = None

    @property
    def columns(self) -> int | None:
        """The columns of the grid, as in `latentdiff sample`: one a class where all are drawn in turn."""
        classes = len(self.model.pipeline.classes)
        n, label = self.request.n, self.request.label
        in_turn = self.recipe.made_by == "sample" and label == ALL_CLASSES and self.labels is not None
        return class_columns(n, classes) if in_turn and n >= classes > 0 else None

    def caption(self, k: int) -> str | None:
        """The class or prompt of image k."""
        label = self.labels if self.labels is None or isinstance(self.labels, int | str) else self.labels[k]
        return label_text(self.model.pipeline.classes, label) if isinstance(label, int) else label


class PageService:
    """Draws with listed models and saves the pictures below ``folder``."""

    def __init__(self, models: ModelList, folder: Path) -> None:
        self.models, self._folder, self._numbers = models, folder, count()
        self._opening: tuple[str, PageView] | None = None
        self._closed = Event()

    def draw_opening(self) -> None:
        """Draw what the page opens with: pictures of the first model as it is, for all visitors."""
        model = self.models.first()
        with suppress(Cancelled):
            *_, view = self.sample(model.name, usual_request(model), stop=self._closed)
            self._opening = model.name, view

    def opening(self, name: str) -> PageView | None:
        """The pictures of :meth:`draw_opening`; None where they are not there (yet), or of another model."""
        if self._opening is None or self._opening[0] != name:
            return None
        view = self._opening[1]
        return view if view.grid is not None and view.grid.exists() else None

    def close(self) -> None:
        """Stop the drawing of the opening pictures."""
        self._closed.set()

    def sample(self, name: str, request: PageRequest, *, stop: Event | None = None) -> Iterator[PageView]:
        """Images from noise. InputError for what the model cannot follow; Cancelled once ``stop`` is set."""
        return self._views(self._sampling(name, request), stop)

    def compare(
        self, name: str, requests: tuple[PageRequest, PageRequest], *, stop: Event | None = None
    ) -> Iterator[tuple[PageView | None, PageView | None]]:
        """Two requests from one noise: the views of the first, then its last beside those of the second."""
        first, second = requests
        second = second.model_copy(update={"seed": first.seed, "n": first.n})
        jobs = self._sampling(name, first), self._sampling(name, second)  # checked before either is drawn
        return self._compared(jobs, stop)

    def edit(
        self,
        name: str,
        request: PageRequest,
        image: Pixels | None,
        strength: float,
        *,
        stop: Event | None = None,
    ) -> Iterator[PageView]:
        """SDEdit of an image uint8 [h, w(, c)], ``request.n`` variations of it."""
        model = self.models.load(name)
        edit = partial(sdedit, model.pipeline, t=level_of(model.pipeline, strength))
        job = self._editing(model, request, image, edit, made_by="edit", strength=strength)
        return self._views(job, stop)

    def inpaint(
        self,
        name: str,
        request: PageRequest,
        image: Pixels | None,
        layers: list[Pixels],
        solver: Solver,
        *,
        stop: Event | None = None,
    ) -> Iterator[PageView]:
        """Fill in the painted parts of an image, ``request.n`` times.

        ``layers``: uint8 RGBA [h, w, 4], painted where they are opaque.
        """
        model, how = self.models.load(name), Restoration(solver=solver)
        edit = partial(inpaint, model.pipeline, mask=painted_mask(layers, model.shape), how=how)
        job = self._editing(model, request, image, edit, made_by="inpaint", restoration=how)
        return self._views(job, stop)

    def sample_one(self, name: str, request: PageRequest, *, stop: Event | None = None) -> Pixels:
        """The first image of the controls on a canvas; Cancelled once ``stop`` is set."""
        job = self._sampling(name, request.model_copy(update={"n": 1}))
        *_, found = stream(job.draw, (1, *job.model.shape), stop=stop)
        assert isinstance(found, SampleResult)
        return _enlarged(found.images, job.model.shape)

    def repeat(self, path: str | Path) -> tuple[str | None, PageRequest, Recipe]:
        """The model that drew a picture (None: its weights are not found), the controls and the recipe.

        InputError for a file without settings, or with settings beyond the page's limits.
        """
        recipe = read_recipe(path)
        if isinstance(recipe, CommandRecipe):
            command = f"latentdiff {recipe.command}"
            raise InputError(f"the picture was made by `{command}`; `{command} --like` repeats it")
        name = self.models.of_weights(recipe.weights)
        eta = None if name is None else self.models.load(name).pipeline.eta
        return name, controls_of(recipe, eta=eta), recipe

    def is_first_of(self, path: str | Path, name: str, request: PageRequest) -> bool:
        """Whether a picture is the first one that a request draws with a model."""
        try:
            drawn_with, found, recipe = self.repeat(path)
            model = self.models.load(name)
        except InputError:
            return False
        classes = model.pipeline.classes
        label = request.label or (classes[0] if classes and not model.takes_text else "")
        wanted = request.model_copy(update={"n": found.n, "label": label})
        return drawn_with == name and recipe.made_by == "sample" and found == wanted

    def _sampling(self, name: str, request: PageRequest) -> Job:
        model = self.models.load(name)
        request = request.for_edit(model) if model.takes_text else request
        pipeline, settings, labels = model.drawing, request.settings(model), request.labels(model)
        key = pipeline.key(request.seed, request.n)

        def draw(recorder: Recorder) -> SampleResult:
            return pipeline.run(settings, key, label=labels, recorder=recorder)

        pipeline.plan(settings)  # more steps than levels are refused here
        recipe = request.recipe(model, dtype=dtype_name(pipeline.dtype))
        return Job(model, request, recipe, labels, draw)

    def _editing(
        self,
        model: ListedModel,
        request: PageRequest,
        image: Pixels | None,
        edit: Callable[..., SampleResult],
        **recipe: Any,
    ) -> Job:
        """The job that applies ``edit`` to ``request.n`` copies of an image."""
        request, label = request.for_edit(model), request.edit_label(model)
        before = image_of(image, model.shape)
        images = before.expand(request.n, -1, -1, -1)
        draw = partial(edit, images, settings=request.settings(model), label=label, seed=request.seed)
        stored = request.recipe(model, **recipe)
        return Job(model, request, stored, label, lambda recorder: draw(recorder=recorder), before)

    def _compared(
        self, jobs: tuple[Job, Job], stop: Event | None
    ) -> Iterator[tuple[PageView | None, PageView | None]]:
        left: PageView | None = None
        for left in self._views(jobs[0], stop):
            yield left, None
        for right in self._views(jobs[1], stop):
            yield left, right

    def _views(self, job: Job, stop: Event | None) -> Iterator[PageView]:
        begun, shape = time.monotonic(), (job.request.n, *job.model.shape)
        moments: list[Moment] = []
        for found in stream(job.draw, shape, stop=stop):
            if isinstance(found, Preview):
                noisy = image_grid(found.noisy, columns=job.columns)
                estimate = image_grid(found.estimate, columns=job.columns)
                line = f"t = {found.t}: {found.share:.0%}"
                moments.append((line, noisy, estimate))
                yield PageView(line, noisy, estimate)
            else:
                noun = "image" if job.request.n == 1 else "images"
                status = f"{job.request.n} {noun} in {time.monotonic() - begun:.1f} s{_unknown_words(job)}"
                # not the last estimate: known pixels are put back after the last move
                grid = image_grid(found.images, columns=job.columns)
                moments.append((status, grid, grid))
                yield PageView(status, grid, grid, self._saved(job, found.images, moments))

    def _saved(self, job: Job, images: Tensor, moments: Sequence[Moment]) -> Finished:
        """Save a drawing as one picture, image by image, as an archive of these, and as a GIF of its
        ``moments``; the files of the oldest are deleted.
        """
        number = next(self._numbers)
        folder = self._folder / f"{number:06d}-{token_urlsafe(12)}"  # which no other visitor can guess
        model = re.sub("[^A-Za-z0-9]+", "-", job.model.name)[-60:].strip("-")
        name = f"{model}-{job.recipe.made_by}-seed{job.request.seed}"
        grid = folder / f"{name}-grid.png"
        save_image(moments[-1][2], grid, recipe=job.recipe)
        files = []
        for k, image in enumerate(to_uint8(images)):
            label = job.caption(k)
            path = folder / f"{model}-{job.recipe.made_by}-seed{job.request.seed + k}.png"
            save_image(image.permute(1, 2, 0).squeeze(2).numpy(), path, recipe=job.recipe.of_one(k, label))
            files.append((path, f"seed {job.request.seed + k}" + (f" · {label[:40]}" if label else "")))
        archive, gif = folder / f"{name}.zip", folder / f"{name}.gif"
        with ZipFile(archive, "w") as packed:
            for path, _ in files:
                packed.write(path, path.name)
        save_gif([estimate for _, _, estimate in moments], gif, milliseconds=200)
        for old in self._folder.glob(f"{number - KEPT:06d}-*"):
            shutil.rmtree(old, ignore_errors=True)
        pair = None
        if job.before is not None:
            before, after = (_enlarged(each, job.model.shape) for each in (job.before, images))
            pair = before, after
        return Finished(grid, files, archive, gif, moments, pair)

    def kept(self, pictures: Any) -> list[tuple[str, str]]:
        """Paths and captions of the pictures that a browser names, by path below the folder of the page and
        caption; those that are no pictures of this page any more are left out.
        """
        found = []
        for entry in pictures if isinstance(pictures, list) else []:
            match entry:
                case [str(name), str(caption)] if re.fullmatch(r"\d{6}-[\w-]+/[\w.-]+\.png", name):
                    if (path := self._folder / name).is_file():
                        found.append((str(path), caption))
        return found[:HISTORY]

    def place(self, path: Path) -> str:
        """The name of a picture below the folder of the page."""
        return path.relative_to(self._folder).as_posix()


def _enlarged(images: Tensor, shape: tuple[int, ...]) -> Pixels:
    """The first of some images, as it is shown on a canvas."""
    return canvas(to_uint8(images[:1])[0].permute(1, 2, 0).numpy(), shape)


def _unknown_words(job: Job) -> str:
    """The words of the prompt that the model has not learned."""
    tokenizer = job.model.pipeline.tokenizer
    unknown = [] if tokenizer is None else tokenizer.unknown(job.request.prompt)
    return f" · words that it does not know: {', '.join(unknown)[:200]}" if unknown else ""
