"""Figures with axes: numbers that can be read, names as they stand, formulas as formulas, memory given
back.
"""

import gc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import RendererAgg
from PIL import Image

from latentdiff.apps.cli.info.plot_schedule import save_schedule_figure
from latentdiff.apps.studies.report.curves import Curve, Panel, draw_panels
from latentdiff.diffusion.schedule import make_schedule
from latentdiff.evaluate.interval_score import Resampling
from latentdiff.evaluate.model import ModelScores
from latentdiff.evaluate.reconstruct import Reconstruction, score_reconstruction
from latentdiff.evaluate.score_figures import save_figures, save_histogram, save_sets_figure
from latentdiff.viz.figures import (
    Math,
    new_figure,
    readable_log,
    save_figure,
    save_loss_curve,
    save_panels,
    save_trajectory,
)
from latentdiff.viz.rows import draw_rows

IMAGES = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
NONE = Resampling(0)
PIXELS = np.zeros((4, 4, 3), np.uint8)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [([0.42, 0.77, 1.9], {"0.5", "1"}), ([3.0, 40.0], {"5", "10", "20"}), ([12.0, 19.0], {"20"})],
)
def test_a_short_log_axis_has_plain_numbers(values: list[float], wanted: set[str]) -> None:
    figure = new_figure(4, 3)
    axes = figure.subplots()
    axes.plot(range(len(values)), values)
    axes.set_yscale("log")
    readable_log(axes.yaxis)
    figure.canvas.draw()
    low, high = axes.get_ylim()
    labels = [text.get_text() for text in axes.yaxis.get_ticklabels(which="both")]
    seen = {text for text in labels if text and low <= float(text) <= high * 1.1}
    assert wanted <= seen, labels


def test_a_long_log_axis_and_a_linear_one_are_left_alone() -> None:
    figure = new_figure(4, 3)
    for place, (scale, values) in enumerate((("log", [1e-4, 1.0]), ("linear", [1.0, 2.0]))):
        axes = figure.add_subplot(1, 2, place + 1)
        axes.plot([0, 1], values)
        axes.set_yscale(scale)
        before = axes.yaxis.get_major_formatter()
        readable_log(axes.yaxis)
        assert axes.yaxis.get_major_formatter() is before


@pytest.mark.parametrize(
    "draw",
    [
        lambda path: save_loss_curve(
            [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0, "val_loss": 1.5}], path
        ),
        lambda path: save_panels([("a", np.zeros((4, 4, 3), dtype=np.uint8))], path),
        lambda path: save_figure(draw_panels([Panel("a", "x", "y", [Curve("b", [0, 1], [0, 1])])]), path),
    ],
    ids=["loss curve", "pictures", "study"],
)
def test_figures_do_not_pile_up_in_memory(tmp_path: Path, draw: Callable[[Path], None]) -> None:
    from matplotlib.figure import Figure

    gc.collect()
    before = sum(type(thing) is Figure for thing in gc.get_objects())
    gc.disable()  # as if it did not come round: it counts objects, not their bytes
    try:
        for _ in range(3):
            draw(tmp_path / "figure.png")
        assert sum(type(thing) is Figure for thing in gc.get_objects()) <= before + 1
    finally:
        gc.enable()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[str]]:
    """The formulas and the plain lines of text that are drawn."""
    formulas, plain = list[str](), list[str]()
    text = RendererAgg.draw_text

    def spied(
        self: RendererAgg,
        gc: object,
        x: float,
        y: float,
        s: str,
        *rest: object,
        ismath: object = False,
        **more: object,
    ) -> None:
        (formulas if ismath else plain).append(s)
        text(self, gc, x, y, s, *rest, ismath=ismath, **more)

    monkeypatch.setattr(RendererAgg, "draw_text", spied)
    return formulas, plain


@pytest.mark.parametrize("name", ["cash_$_and_$", r"$\frac$", r"\$5", "$$", "a\x07\udce9"])
@pytest.mark.parametrize(
    "draw",
    [
        lambda name, path: save_panels([(name, PIXELS), (name, PIXELS)], path, title=name),
        lambda name, path: save_figure(draw_rows([(name, IMAGES)] * 2, columns=[name, name]), path),
        lambda name, path: save_sets_figure((IMAGES, IMAGES), (name, name), path, paired=True),
        lambda name, path: save_sets_figure((IMAGES, IMAGES), (name, name), path, paired=False),
        lambda name, path: save_histogram({name: [1, 2]}, [name, name], path),
        lambda name, path: save_schedule_figure({name: make_schedule("cosine")}, path),
        lambda name, path: save_figure(
            draw_panels([Panel(name, name, name, [Curve(name, [1, 2], [1, 2]), Curve("b", [1, 2], [1, 2])])]),
            path,
        ),
    ],
    ids=["panels", "rows", "pairs", "sets", "histogram", "schedules", "curves"],
)
def test_names_are_drawn_as_they_stand(
    draw: Callable[[str, Path], None], name: str, tmp_path: Path, drawn: tuple[list[str], list[str]]
) -> None:
    draw(name, tmp_path / "a.png")
    formulas, plain = drawn
    assert name.replace("\x07", r"\x07").replace("\udce9", r"\udce9") in plain
    assert not any(name in formula for formula in formulas)


def test_formulas_and_powers_of_ten_are_drawn_as_such(
    tmp_path: Path, drawn: tuple[list[str], list[str]]
) -> None:
    save_schedule_figure({"cosine": make_schedule("cosine")}, tmp_path / "a.png")
    rows = {Math("$x_t$"): [PIXELS], Math(r"$\hat x_0$"): [PIXELS]}
    save_trajectory([1], rows, tmp_path / "b.png")
    whole = torch.zeros(2, 1, 4, 4)
    made = score_reconstruction(IMAGES, Reconstruction(5, 0.25, 1, whole, whole, whole), resampling=NONE)
    save_figures(ModelScores(reconstruction=(made,)), tmp_path)
    formulas = set(drawn[0])
    assert formulas >= {
        r"$\beta_t$",
        r"$\bar\alpha_t$",
        r"$x_t$",
        r"$\hat x_0$",
        r"from t = 5 ($\bar\alpha_t$ = 0.250)",
    }
    assert r"$\mathdefault{10^{-2}}$" in formulas
    assert not any("$" in text for text in drawn[1])


def test_quick_evaluations_have_a_panel_beside_the_losses(tmp_path: Path) -> None:
    losses: list[dict[str, float]] = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0, "val_loss": 1.5}]
    quick = {"quick_kd": 0.3, "quick_samples": 200, "quick_seconds": 1.0}
    rated = {**quick, "quick_accuracy": 0.4, "quick_real_accuracy": 0.8}
    sizes = {}
    for name, more in (("losses", []), ("distance", [quick]), ("both", [quick, rated])):
        path = tmp_path / f"{name}.png"
        save_loss_curve([*losses, *({"step": 3 + k, **each} for k, each in enumerate(more))], path)
        sizes[name] = Image.open(path).size
    assert sizes["distance"] == sizes["both"] == (2 * sizes["losses"][0], sizes["losses"][1])
    assert (tmp_path / "distance.png").read_bytes() != (tmp_path / "both.png").read_bytes()
