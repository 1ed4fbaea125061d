"""Where a study works: its folder, data, seed and device; figures become blocks of the report here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentdiff.apps.studies.report.blocks import Picture, Words
from latentdiff.apps.studies.report.figures import Panel, draw_panels, origin
from latentdiff.data import Dataset
from latentdiff.train.result import Reporter
from latentdiff.viz.figures import save_figure, save_panels
from latentdiff.viz.images import image_grid
from latentdiff.viz.rows import draw_rows

CPU = torch.device("cpu")
GRID_COLUMNS = 8
GIVEN = ("given", "colour")  # names among the runs of models that were not trained by the study


@dataclass(frozen=True, eq=False, kw_only=True)
class StudyContext:
    """Passed to every study.

    ``load`` reads the images at another size (pixels a side; None: as they are). ``note`` and ``reporter``
    tell the user what goes on. ``features`` names the network that judges samples (None: by the data).
    ``colour`` is the second data set of studies that also look at colour images, ``colour_missing`` says why
    there is none. ``run`` and ``run_colour`` hold models to look at instead of training some. ``parts``
    collects seconds and ``runs`` what was trained.
    """

    out: Path
    load: Callable[[int | None], Dataset]
    data: Dataset
    seed: int
    reporter: Callable[[int], Reporter]
    note: Callable[[str], None]
    device: torch.device = CPU
    features: str | None = None
    colour: Dataset | None = None
    colour_missing: str = ""
    run: Path | None = None
    run_colour: Path | None = None
    parts: dict[str, float] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Announce a part of the study and keep its seconds."""
        self.note(name)
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.parts[name] = self.parts.get(name, 0.0) + time.perf_counter() - begun

    def plot(self, name: str, panels: Sequence[Panel], caption: str) -> Picture:
        """Curves with axes; every point goes to results.json."""
        save_figure(draw_panels(panels), self.out / f"{name}.png")
        return Picture(f"{name}.png", caption, {"panels": [panel.as_dict() for panel in panels]})

    def rows(
        self,
        name: str,
        rows: Sequence[tuple[str, Tensor]],
        caption: str,
        *,
        columns: Sequence[str] = (),
        about: Mapping[str, Any] | None = None,
    ) -> Picture:
        """Images in labelled rows; ``about`` says where they come from."""
        save_figure(draw_rows(rows, columns=columns), self.out / f"{name}.png")
        return Picture(f"{name}.png", caption, origin(rows, columns, about or {}))

    def grids(
        self,
        name: str,
        grids: Sequence[tuple[str, Tensor]],
        caption: str,
        *,
        columns: int | None = None,
        across: int = GRID_COLUMNS,
        about: Mapping[str, Any] | None = None,
    ) -> Picture:
        """Grids of images beside each other, ``columns`` of them in a row and ``across`` images in a row of
        each, with titles.
        """
        pictures = [(title, image_grid(images, columns=across)) for title, images in grids]
        save_panels(pictures, self.out / f"{name}.png", columns=columns)
        return Picture(f"{name}.png", caption, origin(grids, (), about or {}))


def colour_missing(lab: StudyContext) -> Words:
    """Why a study shows no colour images."""
    return Words(
        f"Colour images were left out: {lab.colour_missing}. Colour images of your own: --data-colour"
        " NAME_OR_PATH.",
        "warning",
    )
