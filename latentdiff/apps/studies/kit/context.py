"""The context of a study: folder, data, seed and device; it draws figures as blocks of the report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentdiff.apps.studies.report.blocks import Paragraph, Picture
from latentdiff.apps.studies.report.curves import Panel, draw_panels
from latentdiff.data import Dataset, to_float
from latentdiff.data.classes import indices_by_class
from latentdiff.train.progress import Reporter
from latentdiff.viz.figures import save_figure, save_panels
from latentdiff.viz.images import image_grid
from latentdiff.viz.rows import draw_rows
from latentdiff.viz.table import Column, draw_table

CPU = torch.device("cpu")
GRID_COLUMNS = 8
GIVEN = ("given", "colour")  # names among the runs of models that were not trained by the study


@dataclass(frozen=True, eq=False, kw_only=True)
class StudyContext:
    """Passed to every study.

    ``load`` reads the images at another size (pixels a side; None: as they are). ``note`` and ``reporter``
    print messages and progress. ``features`` names the network that scores samples (None: by the data).
    ``colour`` is the data set of colour images, ``colour_missing`` the reason if there is none. ``run`` and
    ``run_colour`` are run folders of given models. ``parts`` collects seconds by part, ``runs`` the models.
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

    def test_images(self, n: int) -> tuple[Tensor, Tensor | None]:
        """``n`` test images [n, C, H, W] in [-1, 1], one of each class in turn, and their labels."""
        test = self.data.test
        places = indices_by_class(test, n)
        return to_float(test.images[places]), None if test.labels is None else test.labels[places]

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
        return Picture(f"{name}.png", caption, {"panels": [asdict(panel) for panel in panels]})

    def rows(
        self,
        name: str,
        rows: Sequence[tuple[str, Tensor]],
        caption: str,
        *,
        columns: Sequence[str] = (),
        about: Mapping[str, Any] | None = None,
        most: int | None = None,
    ) -> Picture:
        """Images [n, C, H, W], at most ``most``, in labelled rows; results.json keeps seed and ``about``."""
        name = "".join(letter if letter.isalnum() else "-" for letter in name)
        shown = [(title, images[:most]) for title, images in rows]
        save_figure(draw_rows(shown, columns=columns), self.out / f"{name}.png")
        return self._images(name, shown, caption, columns, about or {})

    def stages(
        self,
        name: str,
        stages: Sequence[tuple[str, Tensor]],
        caption: str,
        *,
        names: Sequence[str] = (),
        notes: Mapping[str, Sequence[str]] | None = None,
        legend: str = "",
        about: Mapping[str, Any] | None = None,
        most: int = 6,
    ) -> Picture:
        """A row for each image, of its ``stages`` [n, C, H, W] beside one another, as the figures of edits.

        ``names``: of the rows, of which there are ``most``. ``notes``: by stage a text below each image,
        which the ``legend`` explains.
        """
        notes, name = notes or {}, "".join(letter if letter.isalnum() else "-" for letter in name)
        shown = [(title, images[:most]) for title, images in stages]
        columns = [Column(title, images, notes.get(title, ())[:most]) for title, images in shown]
        save_figure(draw_table([columns], names=names[:most], note=legend), self.out / f"{name}.png")
        return self._images(name, shown, caption, (), {"names": list(names[:most]), **(about or {})})

    def grids(
        self,
        name: str,
        grids: Sequence[tuple[str, Tensor]],
        caption: str,
        *,
        columns: int | None = None,
        across: int = GRID_COLUMNS,
    ) -> Picture:
        """Grids of images beside each other, ``columns`` in a row, ``across`` images in a row of each."""
        pictures = [(title, image_grid(images, columns=across)) for title, images in grids]
        save_panels(pictures, self.out / f"{name}.png", columns=columns)
        return self._images(name, grids, caption, (), {})

    def _images(
        self,
        name: str,
        shown: Sequence[tuple[str, Tensor]],
        caption: str,
        columns: Sequence[str],
        about: Mapping[str, Any],
    ) -> Picture:
        """A figure of images with its source for results.json."""
        names, counts = [title for title, _ in shown], [len(images) for _, images in shown]
        source = {"rows": names, "columns": list(columns), "images": counts, "seed": self.seed, **about}
        return Picture(f"{name}.png", caption, source)


def colour_missing(context: StudyContext) -> Paragraph:
    """The warning of a study without colour images."""
    return Paragraph(
        f"Colour images were left out: {context.colour_missing}. Colour images of your own: --data-colour"
        " NAME_OR_PATH.",
        "warning",
    )
