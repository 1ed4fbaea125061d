"""Figures with axes say their numbers in a form that people read."""

import pytest

from latentdiff.plots import new_figure, readable_log


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
