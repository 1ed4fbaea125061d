"""Study `cold-diffusion`: images out of blur, beside images out of noise, by the same network."""

from __future__ import annotations

from latentdiff.apps.studies.cold_diffusion import page
from latentdiff.apps.studies.cold_diffusion.results import ColdDiffusionSettings, ModelRunner
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.report.blocks import Report
from latentdiff.apps.studies.runner import Study


def study(context: StudyContext, settings: ColdDiffusionSettings) -> Report:
    runner = ModelRunner(context, settings, *context.test_images(settings.tested))
    models = [
        runner.cold("blur", settings.variance),
        runner.noise(),
        runner.cold("longer blur", settings.long),
    ]
    return page.report(context, settings, runner, models)


FULL = ColdDiffusionSettings(
    epochs=(3, 5, 15, 45), patch=1, width=64, lr=1e-3, samples=5000, tested=1000, steps=250, resamples=200
)
STUDY = Study(quick=ColdDiffusionSettings(), full=FULL, run=study)
