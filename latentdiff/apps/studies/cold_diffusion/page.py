"""The tables, figures and words of study `cold-diffusion`."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from latentdiff.apps.studies.cold_diffusion.results import Fixtures, Kind, Numbers
from latentdiff.apps.studies.kit import comparison
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.paired import PairedMetrics, against_input, difference
from latentdiff.apps.studies.kit.scoring import distance, distances
from latentdiff.apps.studies.report.blocks import Cell, Measured, Picture, Report, Section, Table, Words
from latentdiff.apps.studies.report.figures import Curve, Panel
from latentdiff.config.cold import DegradationConfig
from latentdiff.diffusion.cold.degradation import make_degradation
from latentdiff.evaluate import SampleScores

SHOWN = 10


def report(lab: StudyContext, numbers: Numbers, look: Fixtures, kinds: list[Kind]) -> Report:
    floor = look.judge.floor(numbers.samples)
    return Report(
        tuple(_findings(kinds, look.eye.distance)),
        (
            Section(
                "How images are lost",
                (Words(ABOUT.format(T=numbers.T, w=numbers.width)), _degraded(lab, numbers, look.images)),
            ),
            Section("Losses", (_losses(lab, kinds, numbers),)),
            Section("Restored test images", tuple(_restored(lab, look, kinds))),
            Section(
                "New images",
                (
                    Words(NEW.format(left=_left(kinds))),
                    *(_through(lab, kind) for kind in kinds),
                    look.judge.words(numbers.samples),
                ),
            ),
            Section("Compared", (_table(look.eye, kinds, floor),)),
        ),
    )


ABOUT = (
    "Cold diffusion (Bansal et al. 2022) puts a deterministic degradation in the place of noise: here"
    " repeated Gaussian blur with a kernel of 11 pixels, its variance growing over {T} levels. A network (a"
    " UNet of ConvNeXt blocks, {w} channels, told the level in every block) learns to give the clean image"
    " back in one step. Naive sampling degrades its estimate to the next level, x_s = D(x_0, s); the improved"
    " one goes on from where it is, x_s = x_t − D(x_0, t) + D(x_0, s). The same network on noise (cosine"
    " schedule, T = 1000) stands beside it."
)
NEW = (
    "New images start from intensities of 7 x 7 cells, drawn from a normal distribution that was fitted to"
    " the training images and blurred to level T; a little noise (σ = 0.002) breaks their symmetry. Published"
    " is a flat start, of the mean intensity of a whole image (the last row). What test images keep around"
    " their mean at level T, in the standard deviation of a pixel: {left}. The less is left, the more a flat"
    " start is like what the network learned from; where more is left, cells have it too."
)


def _left(kinds: list[Kind]) -> str:
    """The mean deviation within degraded images, for the kinds without noise."""
    found = {
        kind.name: float(kind.degraded.flatten(1).std(1).mean()) for kind in kinds if kind.name != "noise"
    }
    return ", ".join(f"{value:.2g} ({name})" for name, value in found.items())


def _degraded(lab: StudyContext, numbers: Numbers, images: Tensor) -> Picture:
    shape, rows = (lab.data.channels, lab.data.height, lab.data.width), []
    levels = [round(numbers.T * share) for share in (0, 0.1, 0.25, 0.5, 0.75, 1)]
    for name, config in (
        ("blur", DegradationConfig(T=numbers.T, variance=numbers.variance)),
        ("longer blur", DegradationConfig(T=numbers.T, variance=numbers.long)),
        ("pixelate", DegradationConfig(degradation="pixelate", T=numbers.T)),
        ("fade", DegradationConfig(degradation="fade", T=numbers.T)),
    ):
        degrade = make_degradation(config, shape)
        rows.append((name, torch.cat([degrade(images[3:4], level) for level in levels])))
    return lab.rows(
        "degradations",
        rows,
        "The degradations of this package, from level 0 to T.",
        columns=[f"t = {level}" for level in levels],
    )


def _losses(lab: StudyContext, kinds: list[Kind], numbers: Numbers) -> Picture:
    panels = []
    for kind in kinds:
        a_step = max(kind.marks) / kind.trained.marks[-1]
        curves = []
        for name, label, style in (("loss", "training", "thin"), ("val_loss", "validation", "marked")):
            steps, values = kind.trained.curve(name)
            curves.append(Curve(label, [step * a_step for step in steps], values, style))  # type: ignore[arg-type]
        what = "mean squared error of x_0" if kind.name == "noise" else "mean absolute error of x_0"
        panels.append(Panel(kind.name, "epoch", what, curves, log_y=True))
    return lab.plot(
        "losses",
        panels,
        "Errors of the restored image over the epochs; blur and noise are measured differently, do not"
        " compare their sizes.",
    )


def _restored(lab: StudyContext, look: Fixtures, kinds: list[Kind]) -> Iterator[Picture]:
    for kind in kinds:
        rows = [("original", look.images[:SHOWN]), ("degraded", kind.degraded[:SHOWN].clamp(-1, 1))]
        rows += [(way.name, way.images[:SHOWN]) for way in kind.ways]
        yield lab.rows(
            f"restored-{kind.name.replace(' ', '-')}",
            rows,
            f"Restored from {kind.name}.",
            about={"seed": lab.seed},
        )


def _through(lab: StudyContext, kind: Kind) -> Picture:
    rows = [(f"epoch {epoch}", images[:SHOWN]) for epoch, images in kind.made.items()]
    if kind.flat is not None:
        rows.append(("flat start", kind.flat[0][:SHOWN]))
    return lab.rows(
        f"new-{kind.name.replace(' ', '-')}",
        rows,
        f"New images out of {kind.name}, after each of these epochs.",
        about={"seed": lab.seed},
    )


def _table(eye: PairedMetrics, kinds: list[Kind], floor: SampleScores) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for kind in kinds:
        rows.append((f"{kind.name}: degraded", None, *eye.cells([kind.input]), None, None, None))
        for way in kind.ways:
            kept = None if way.kept is None else Measured(way.kept)
            rows.append(
                (
                    f"{kind.name}: {way.name}",
                    kind.loss,
                    *eye.cells([way.pairs]),
                    *distance(way.scores.fd),
                    kept,
                )
            )
        rows.append(
            (
                f"{kind.name}: new images",
                kind.loss,
                *[None] * len(eye.columns),
                *distance(kind.scores.fd),
                None,
            )
        )
        if kind.flat is not None:
            fd = distance(kind.flat[1].fd)
            rows.append(
                (f"{kind.name}: new images, flat start", kind.loss, *[None] * len(eye.columns), *fd, None)
            )
    rows.append((f"real images ({floor.n:,})", None, *[None] * len(eye.columns), *distance(floor.fd), None))
    columns = ("", "validation loss", *eye.columns, *distances(floor), "class kept")
    return Table(
        "compared",
        columns,
        tuple(rows),
        "Restored test images against their originals and as a set, and new images as a set. Losses are of"
        " different distances (L1 of x_0 out of blur, squared error of the noise's network) and do not"
        " compare across kinds.",
    )


def _findings(kinds: list[Kind], distance: str) -> Iterator[str]:
    for kind in kinds:
        scores = {"degraded": [kind.input], **{way.name: [way.pairs] for way in kind.ways}}
        yield against_input(f"Restored from {kind.name}", scores, "degraded", "psnr", "PSNR", unit=" dB")
        yield against_input(f"Restored from {kind.name}", scores, "degraded", "distance", distance)
        fd = {way.name: way.scores.fd for way in kind.ways if way.scores.fd is not None}
        yield comparison.ordered(f"FD of what is restored from {kind.name}", fd)
    blur = {way.name: way for way in kinds[0].ways}
    one, improved = blur["one step"], blur["improved sampling"]
    off = difference([improved.pairs], [one.pairs], "rmse")
    yield (
        f"Out of blur, improved sampling against one step: FD {_apart(improved.scores, one.scores)}, RMSE"
        f" {off.text()}. Published is a smaller FD with a larger error."
    )
    made = {f"out of {kind.name}": kind.scores.fd for kind in kinds if kind.scores.fd is not None}
    yield comparison.ordered("FD of new images", made)
    yield from (
        f"Out of {kind.name}, a flat start against one of cells: FD {_apart(kind.flat[1], kind.scores)}."
        for kind in kinds
        if kind.flat is not None
    )


def _apart(a: SampleScores, b: SampleScores) -> str:
    """How much larger the Fréchet distance of a is."""
    assert a.fd is not None and b.fd is not None
    return comparison.unpaired(a.fd, b.fd).text()
