"""Figures with axes: numbers that can be read, and memory that is given back."""

import gc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from latentdiff.plots import new_figure, readable_log, save_figure, save_loss_curve, save_panels
from latentdiff.study.figures import Curve, Panel, draw_panels


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
        lambda path: save_loss_curve([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0, "val_loss": 1.5}], path),
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
