"""The figure of the editing commands: a row for each input, stages beside each other, scores below."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from latentdiff.viz.figures import save_figure
from latentdiff.viz.table import ACROSS, DOWN, Column, draw_table


def column(title: str, n: int = 3, *, grey: int = 100, channels: int = 3, notes: bool = False) -> Column:
    images = torch.full((n, channels, 8, 8), grey, dtype=torch.uint8)
    return Column(title, images, [f"{title} {k}" for k in range(n)] if notes else ())


def texts(figure: object) -> list[str]:
    (axes,) = figure.axes  # type: ignore[attr-defined]
    return [text.get_text() for text in axes.texts]


def test_titles_stand_above_and_notes_below_their_images() -> None:
    columns = [column("input"), column("edited", notes=True)]
    figure = draw_table([columns], names=["a", "b", "c"], note="what the notes say")
    (axes,) = figure.axes
    places = {text.get_text(): text.get_position() for text in axes.texts}
    images = sorted((image.get_extent() for image in axes.images), key=lambda box: (box[0], box[3]))
    assert len(images) == 6 and {box[0] for box in images} == {images[0][0], images[3][0]}
    for k, (left, right, bottom, top) in enumerate(images[3:]):
        x, y = places[f"edited {k}"]
        assert left < x < right and bottom < y < bottom + 0.1
        x, y = places["abc"[k]]
        assert x < images[k][0] and top < y < bottom
    for name, box in (("input", images[0]), ("edited", images[3])):
        x, y = places[name]
        assert box[0] < x < box[1] and y < box[3]
    assert places["what the notes say"][1] > max(box[2] for box in images)


@pytest.mark.parametrize(
    ("count", "bands"), [(1, 1), (ACROSS, 1), (ACROSS + 1, 2), (2 * ACROSS - 1, 2), (19, 3)]
)
def test_many_columns_go_on_below_with_the_input_at_their_left(count: int, bands: int) -> None:
    figure = draw_table([[column(str(k), 2) for k in range(count)]])
    found = texts(figure)
    assert [text for text in found if text != "0"] == [str(k) for k in range(1, count)]
    assert found.count("0") == bands
    (axes,) = figure.axes
    per_row = np.unique([round(image.get_extent()[3], 3) for image in axes.images], return_counts=True)[1]
    assert per_row.max() <= ACROSS and figure.get_size_inches()[0] < 8


@pytest.mark.parametrize(("n", "bands", "shown"), [(3, 1, 3), (20, 1, DOWN), (20, 2, DOWN // 2), (20, 9, 2)])
def test_a_figure_has_few_rows_and_says_so(n: int, bands: int, shown: int) -> None:
    first = [column("input", n), column("x", n)]
    figure = draw_table([first, *([[column("y", n)]] * (bands - 1))], names=[f"name {k}" for k in range(n)])
    found = texts(figure)
    assert ("name 0" in found) and f"name {shown - 1}" in found and f"name {shown}" not in found
    assert any(f"the first {shown} of {n} images" in text for text in found) == (shown < n)
    assert len(figure.axes[0].images) == 2 * shown * bands


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_drawn_as_they_are(channels: int, tmp_path: Path) -> None:
    """Grey images as grey, 120 pixels an image, nothing but white, black and the image itself."""
    figure = draw_table(
        [[column("", 1, grey=77, channels=channels), column("", 1, grey=200, channels=channels)]]
    )
    save_figure(figure, tmp_path / "a.png")
    pixels = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    for grey in (77, 200):
        assert 110**2 <= int((pixels == grey).all(2).sum()) <= 125**2
    inside = (pixels != 255).any(2) & (pixels != 77).any(2) & (pixels != 200).any(2)
    assert inside.mean() < 0.02  # the edges, at most


def test_images_keep_their_aspect_ratio() -> None:
    figure = draw_table([[Column("wide", torch.zeros(1, 3, 8, 16))]])
    left, right, bottom, top = figure.axes[0].images[0].get_extent()
    assert (right - left) == pytest.approx(2 * (bottom - top))


def test_a_table_without_images_of_one_number_is_refused() -> None:
    with pytest.raises(ValueError, match="as many images"):
        draw_table([[column("a", 3), column("b", 2)]])
