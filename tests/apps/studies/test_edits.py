"""How edits of texts are scored: on pictures that were drawn as an edit should, and should not, come out."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import is_held_out
from torch import Tensor

from latentdiff.apps.studies.report.curves import Panel
from latentdiff.apps.studies.text import text_sdedit
from latentdiff.apps.studies.text.text_edits import SWAPS, EditScores, EditTask, score, tasks
from latentdiff.data import synthetic_scene_images, to_float
from latentdiff.data.draws import Draws
from latentdiff.data.mnist import load_digits
from latentdiff.data.synthetic_scenes import Scene, caption, parse

TASKS = tasks(6)


def drawn(scenes: list[Scene], *, glyph: int = 0) -> Tensor:
    """Pictures [n, 3, 32, 32] in [-1, 1] of scenes of one digit, each of the ``glyph``-th test digit of its
    kind.
    """
    part = load_digits(None).test
    assert part is not None and part.labels is not None
    pictures = []
    for scene in scenes:
        place = int(np.flatnonzero(part.labels == scene.things[0].digit)[glyph])
        draws = Draws(np.full(32, 2**23))
        pictures.append(synthetic_scene_images.draw(scene, [part.images[place, ..., 0]], draws))
    return to_float(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2))


SOURCE = drawn([task.source for task in TASKS])


def other(task: EditTask, what: str) -> Scene:
    """The edit with one attribute changed besides."""
    scene = task.edited
    if what == "digit":
        return replace(scene, things=(replace(scene.things[0], digit=(scene.things[0].digit + 3) % 10),))
    taken = {scene.background, scene.things[0].colour, task.source.background, task.source.things[0].colour}
    colour = next(c for c in ("green", "white", "black", "red", "blue") if c not in taken)
    if what == "background":
        return replace(scene, background=colour)
    return replace(scene, things=(replace(scene.things[0], colour=colour),))


def test_each_task_exchanges_one_attribute_of_a_kind_that_training_shows() -> None:
    assert [task.what for task in TASKS] == [what for what in SWAPS for _ in range(6)] and tasks(6) == TASKS
    for task in TASKS:
        one, two = (parse(caption(scene)) for scene in (task.source, task.edited))
        assert not is_held_out(one) and not is_held_out(two)
        changed = {
            "background": one.background != two.background,
            "colour": one.things[0].colour != two.things[0].colour,
            "digit": one.things[0].digit != two.things[0].digit,
        }
        assert [what for what, is_other in changed.items() if is_other] == [task.what]


@pytest.mark.parametrize("what", SWAPS)
def test_a_perfect_edit_scores_perfectly(what: str) -> None:
    found = score(TASKS, SOURCE, drawn([task.edited for task in TASKS]), what)
    assert found.success == 1 and found.others == 1
    assert found.psnr > 40
    assert found.overlap is None if what == "digit" else found.overlap is not None and found.overlap > 0.95


@pytest.mark.parametrize("what", SWAPS)
def test_an_edit_that_changes_nothing_keeps_all_and_fails(what: str) -> None:
    found = score(TASKS, SOURCE, SOURCE, what)
    assert found.success == 0 and found.others == 1 and found.psnr > 100


@pytest.mark.parametrize(("what", "besides"), [(a, b) for a in SWAPS for b in SWAPS if a != b])
def test_what_else_an_edit_changes_is_noticed(what: str, besides: str) -> None:
    wrong = [other(task, besides) if task.what == what else task.edited for task in TASKS]
    found = score(TASKS, SOURCE, drawn(wrong), what)
    assert found.success == 1 and found.others == 0
    # the rest is the ground of a digit, or the colour of the digit on a ground: what besides changes these
    # costs decibels
    suffers = besides == "background" or (what, besides) == ("background", "colour")
    assert found.psnr < 25 if suffers else found.psnr > 40


@pytest.mark.parametrize("what", ["colour", "background"])
def test_another_shape_overlaps_less(what: str) -> None:
    same, shape = (
        score(TASKS, SOURCE, drawn([t.edited for t in TASKS], glyph=g), what).overlap for g in (0, 1)
    )
    assert same is not None and shape is not None and shape < 0.7 < same


def test_the_curves_of_strengths_have_their_units_and_a_colour_for_each_attribute() -> None:
    """Dashed without guidance, in the colour of the same attribute with the most of it."""
    settings = text_sdedit.TextSDEditSettings(strengths=(0.2, 0.8), scales=(1.0, 2.0, 4.0))
    found = EditScores(success=0.5, others=0.25, psnr=20.0, overlap=None)
    scores = {(w, s): dict.fromkeys(SWAPS, found) for w in settings.scales for s in settings.strengths}
    plotted: list[Panel] = []
    context = SimpleNamespace(plot=lambda name, panels, caption: plotted.extend(panels))
    text_sdedit._curves(context, settings, scores)  # type: ignore[arg-type]
    assert [panel.y for panel in plotted] == ["percent", "percent", "PSNR (dB)"]
    for panel, value in zip(plotted, (50, 25, 20), strict=True):
        assert [curve.color for curve in panel.curves] == [0, 1, 2, 0, 1, 2]
        assert [curve.style for curve in panel.curves] == ["dashed"] * 3 + ["marked"] * 3
        assert panel.curves[-1].label == "digit, guidance 4" and list(panel.curves[-1].y) == [value, value]
