"""Study `cold-diffusion`: images out of blur, beside images out of noise, by the same network."""

from __future__ import annotations

from latentdiff.apps.studies.cold_diffusion import page
from latentdiff.apps.studies.cold_diffusion.results import Fixtures, Numbers
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.report.blocks import Report
from latentdiff.apps.studies.runner import Study
from latentdiff.data import to_float
from latentdiff.data.select import indices_by_class


def study(lab: StudyContext, numbers: Numbers) -> Report:
    places = indices_by_class(lab.data.test, numbers.tested)
    look = Fixtures(
        lab,
        numbers,
        to_float(lab.data.test.images[places]),
        None if lab.data.test.labels is None else lab.data.test.labels[places],
    )
    kinds = [look.cold("blur", numbers.variance), look.noise(), look.cold("longer blur", numbers.long)]
    return page.report(lab, numbers, look, kinds)


FULL = Numbers(
    epochs=(3, 5, 15, 45), patch=1, width=64, lr=1e-3, samples=5000, tested=1000, steps=250, resamples=200
)
STUDY = Study(quick=Numbers(), full=FULL, run=study)
