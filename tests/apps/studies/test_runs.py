"""Every study end to end on tiny digits with micro numbers: pages, numbers, figures, reuse."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import latentdiff as ld
from latentdiff.apps.studies.catalog import STUDIES
from latentdiff.apps.studies.illusions import anagrams, hybrids
from latentdiff.apps.studies.kit.presets import MLPPreset, PixelPreset, TextPreset, VAEPreset
from latentdiff.apps.studies.process import forward_process, noise_schedules, schedules
from latentdiff.apps.studies.restoration import (
    cold_diffusion,
    denoising,
    inpainting,
    one_step_unet,
    restoration,
    sdedit,
)
from latentdiff.apps.studies.runner import StudyRequest, StudyResult, make
from latentdiff.apps.studies.sampling import (
    class_guidance,
    course_unets,
    ddim_steps,
    ddpm_ddim,
    denoiser_training,
    latent_size,
)
from latentdiff.apps.studies.text import prompt_to_prompt, text_sdedit, text_to_image
from latentdiff.data import load_dataset
from latentdiff.errors import InputError
from latentdiff.pipeline.checkpoint.pretrained import shipped_folder

PRAISE = re.compile(
    r"\b(best|better|worst|worse|easiest|easier|hardest|closest|larger than|smaller than)\b", re.I
)
VAE = VAEPreset("4", steps=12, batch=16, width=8)
MLP = MLPPreset(width=16, depth=1, steps=6, batch=16)
TEXTS = TextPreset(vae=VAEPreset("2x8x8", steps=6, batch=16, width=8), width=16, steps=4, batch=16)
PIXELS = PixelPreset(width=16, patch=2, steps=6, batch=16, T=40)

MICRO: dict[str, Any] = {
    "schedules": schedules.SchedulesSettings(T=50, images=1),
    "forward-process": forward_process.ForwardProcessSettings(T=40, images=3, shown=(0, 5, 20), chains=4),
    "latent-size": latent_size.LatentSizeSettings(
        variants=(("2", 0.5, True), ("4", 0.5, True), ("4", 5.0, False)),
        vae=VAE,
        denoiser=MLP,
        pairs=6,
        points=5,
        samples=12,
        steps=3,
        resamples=20,
    ),
    "denoiser-training": denoiser_training.DenoiserTrainingSettings(
        vae=VAE, epochs=(1, 2), width=16, depth=1, batch=32, samples=12, steps=3, resamples=0
    ),
    "ddpm-ddim": ddpm_ddim.DDPMDDIMSettings(
        vae=VAE, denoiser=MLP, ddim_steps=(2, 4), samples=12, frames=4, levels=4, tested=12, resamples=0
    ),
    "ddim-steps": ddim_steps.DDIMStepsSettings(
        vae=VAE,
        denoiser=MLP,
        students=(1, 2),
        trajectories=16,
        student_steps=2,
        steps=(2, 5),
        etas=(0.0, 1.0),
        solver_steps=(2,),
        samples=12,
        resamples=0,
        colour_vae=VAE,
        colour_denoiser=MLP,
        colour_steps=(2, 3),
    ),
    "noise-schedule-study": noise_schedules.NoiseScheduleSettings(
        side=None, epochs=(1, 2), batch=32, width=8, samples=12, steps=3, tested=12, levels=6, resamples=0
    ),
    "course-unets": course_unets.CourseUNetsSettings(
        T=10, width=8, epochs=(1, 2), steps=3, samples=20, resamples=0
    ),
    "class-guidance": class_guidance.GuidanceSettings(
        unet=class_guidance.UNetSettings(vae=replace(VAE, latent="4x6x6"), width=16, batch=32, epochs=(1, 2)),
        scales=(0.0, 1.0, 4.0),
        intervals=((0.0, 0.5),),
        samples=20,
        steps=3,
        resamples=0,
    ),
    "denoising": denoising.DenoisingSettings(
        pixels=PIXELS, levels=(3, 10, 30), figure=(10,), top=30, marks=(30, 10), stride=4, tested=10
    ),
    "one-step-unet": one_step_unet.OneStepSettings(
        pixels=replace(PIXELS, steps=6), sigmas=(0.0, 0.5, 1.0), tested=10
    ),
    "sdedit": sdedit.SDEditSettings(
        pixels=PIXELS, indices=(4, 2), steps=6, tested=10, trips=(4, 8), colour=PIXELS, colour_tested=2
    ),
    "restoration": restoration.RestorationSettings(
        pixels=PIXELS,
        tested=4,
        seeds=2,
        steps=6,
        fast=3,
        chains=200,
        analytic=(5, 10),
        colour=PIXELS,
        colour_tested=2,
    ),
    "inpainting": inpainting.InpaintingSettings(
        pixels=PIXELS, tested=4, draws=2, steps=6, jumps=2, length=2, colour=PIXELS, colour_tested=4
    ),
    "cold-diffusion": cold_diffusion.ColdDiffusionSettings(
        epochs=(1, 2),
        batch=32,
        width=16,
        T=6,
        noise_levels=20,
        noise_level=10,
        steps=4,
        samples=12,
        tested=12,
        resamples=0,
    ),
    "anagrams": anagrams.AnagramSettings(pixels=PIXELS, seeds=2, tried=2, every=1, shown=2, steps=3),
    "hybrids": hybrids.HybridSettings(
        pixels=PIXELS, seeds=2, shown=2, steps=3, sigmas=(1.0, 2.0), colour=PIXELS
    ),
    "text-to-image": text_to_image.TextToImageSettings(
        counts=(64, 16, 60), text=TEXTS, scales=(1.0, 2.0), drawn=6, shown=2, steps=3, emoji=TEXTS
    ),
    "prompt-to-prompt": prompt_to_prompt.PromptToPromptSettings(
        counts=(64, 16, 60),
        text=TEXTS,
        edits=2,
        shares=((0.8, 0.4), (1.0, 1.0)),
        strengths=(0.5,),
        steps=3,
        shown=2,
    ),
    "text-sdedit": text_sdedit.TextSDEditSettings(
        counts=(64, 16, 60), text=TEXTS, edits=2, strengths=(0.5, 1.0), scales=(1.0, 2.0), steps=3, shown=2
    ),
    "text-anagrams": anagrams.TextAnagramSettings(
        counts=(64, 16, 30),
        text=TEXTS,
        seeds=2,
        shown=2,
        steps=3,
        scales=(1.0, 2.0),
        pairs=anagrams.PROMPT_PAIRS[4:7],
    ),
    "text-hybrids": hybrids.TextHybridSettings(
        counts=(64, 16, 30), text=TEXTS, seeds=2, shown=2, steps=3, sigmas=(1.5, 2.0)
    ),
}


class Silent:
    """A reporter that says nothing."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def note(self, message: str) -> None: ...
    def start(self, budget: object, step: int) -> None: ...
    def step(self, step: int, progress: float, values: Mapping[str, float]) -> None: ...
    def stop(self) -> None: ...


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits of 12 x 12 pixels: 80 for training, 30 for testing."""
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    data = load_dataset(size=12)
    x, y = data.train.images[:110, 0].numpy(), data.train.labels[:110].numpy()
    np.savez(path, x_train=x[:80], y_train=y[:80], x_test=x[80:], y_test=y[80:])
    return path


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random colour images of three classes: 40 for training, 8 for testing."""
    path = tmp_path_factory.mktemp("colours") / "colours.npz"
    images = np.random.default_rng(0).integers(0, 255, (48, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(48) % 3
    captions = np.array([f"colours number {k}" for k in range(48)])
    arrays = {"x": images, "y": labels, "caption": captions}
    train = {f"{name}_train": array[:40] for name, array in arrays.items()}
    np.savez(path, **train, **{f"{name}_test": array[40:] for name, array in arrays.items()})
    return path


def run(
    study: str, out: Path, data: Path, *, settings: Any = None, note: Callable[[str], None] = str, **more: Any
) -> StudyResult:
    request = StudyRequest(
        study, "quick", out, f"latentdiff reproduce {study}", data=str(data), features="mnist", **more
    )
    return make(request, reporter=Silent, note=note, settings=settings or MICRO[study])


def results(made: StudyResult) -> dict[str, Any]:
    found = json.loads(made.results.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


SHIPPED = tuple(name for name, info in STUDIES.items() if info.ships_colour)
LONG = {"restoration", "noise-schedule-study", "cold-diffusion", "anagrams", "hybrids"}


@pytest.fixture(
    scope="session", params=[pytest.param(n, marks=[pytest.mark.slow] if n in LONG else []) for n in STUDIES]
)
def made(
    request: pytest.FixtureRequest, digits: Path, colours: Path, tmp_path_factory: pytest.TempPathFactory
) -> StudyResult:
    """Each study, made once."""
    return run(request.param, tmp_path_factory.mktemp(request.param), digits, data_colour=str(colours))


def test_a_study_leaves_all_that_it_should(made: StudyResult) -> None:
    found = results(made)
    assert {
        "command",
        "budget",
        "numbers",
        "seed",
        "data",
        "versions",
        "hardware",
        "seconds",
        "runs",
    } <= found.keys()
    assert found["study"] == made.study and found["findings"] == list(made.findings) and found["findings"]
    assert found["versions"]["torch"] and found["hardware"]["threads"] >= 1 and found["data"]["train"] == 72
    assert {path.name for path in made.out.glob("*.png")} == set(found["figures"])
    assert bool(found["runs"]) == STUDIES[made.study].trains
    for name in found["figures"]:
        with Image.open(made.out / name) as picture:
            assert picture.width > 200 and len(picture.convert("L").getcolors(256) or ()) > 2  # drawn on


def test_every_curve_and_table_is_in_the_results(made: StudyResult) -> None:
    found = results(made)
    assert all(entry["caption"] for entry in (*found["figures"].values(), *found["tables"].values()))
    curves = [
        curve
        for figure in found["figures"].values()
        for panel in figure.get("panels", ())
        for curve in panel["curves"]
    ]
    assert curves and all(len(curve["x"]) == len(curve["y"]) > 0 for curve in curves)
    rows = [row for table in found["tables"].values() for row in table["rows"]]
    assert rows and all(len(row) > 1 for row in rows)


def test_findings_hold_no_canned_claim(made: StudyResult) -> None:
    for finding in made.findings:
        assert any(letter.isdigit() for letter in finding) and "nan" not in finding.lower(), finding
        assert not PRAISE.search(finding) or "95% interval" in finding, finding


LARGER = {
    "text-to-image": {"things.png", "photos.png"},
    "prompt-to-prompt": {"things.png", "things-weighted.png", "photos.png", "photos-weighted.png"},
    "text-sdedit": {"drawings-things.png", "photos.png"},
    "text-anagrams": {"things.png"},
    "text-hybrids": {"things.png"},
}


@pytest.mark.parametrize("made", LARGER, indirect=True)
def test_studies_of_prompts_show_larger_pictures_too(made: StudyResult) -> None:
    """By the model of the package, beside those of the study's own."""
    assert set(results(made)["figures"]) >= LARGER[made.study]
    page = made.page.read_text(encoding="utf-8")
    assert "The model is things of the package" in page
    assert ("The model is clothes-text of the package" in page) == ("photos.png" in LARGER[made.study])


SOON = (
    "schedules",
    "latent-size",
    "ddim-steps",
    "sdedit",
    "text-to-image",
)  # the others do the same, for a minute more


@pytest.mark.parametrize(
    "made",
    [name if name in SOON else pytest.param(name, marks=pytest.mark.slow) for name in STUDIES],
    indirect=True,
)
def test_a_study_called_again_trains_nothing_and_finds_the_same(
    made: StudyResult, digits: Path, colours: Path
) -> None:
    before, notes = results(made), []
    states = {path: path.stat().st_mtime_ns for path in (made.out / "runs").rglob("*") if path.is_file()}
    again = run(made.study, made.out, digits, note=notes.append, data_colour=str(colours))
    after = results(again)
    assert states == {
        path: path.stat().st_mtime_ns for path in (made.out / "runs").rglob("*") if path.is_file()
    }
    assert all(entry["reused"] for entry in after["runs"].values())
    timed = {"tables", "findings", "figures"} if made.study == "ddim-steps" else set()  # it measures time
    for key in {"tables", "findings", "figures", "values"} - timed:
        assert before[key] == after[key], key
    if STUDIES[made.study].trains:
        assert "trained by an earlier call" in again.page.read_text(encoding="utf-8")
        assert sum("used again" in text for text in notes) == len(after["runs"])


@pytest.fixture(scope="session")
def unlabeled(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits without their labels."""
    path = tmp_path_factory.mktemp("unlabeled") / "unlabeled.npz"
    with np.load(digits, allow_pickle=False) as arrays:
        np.savez(path, x_train=arrays["x_train"], x_test=arrays["x_test"])
    return path


def test_images_without_labels_are_studied_without_classes(unlabeled: Path, tmp_path: Path) -> None:
    trained = results(run("denoiser-training", tmp_path / "a", unlabeled))
    assert {row["class accuracy"] for row in trained["tables"]["epochs"]["rows"]} == {None}
    assert (
        "image 1"
        in results(run("forward-process", tmp_path / "b", unlabeled))["tables"]["mse"]["rows"][0][""]
    )
    with pytest.raises(
        InputError, match=r"unlabeled\.npz: class-guidance needs images with labels, found none"
    ):
        run("class-guidance", tmp_path / "c", unlabeled)
    with pytest.raises(InputError, match="course-unets needs images with labels, found none"):
        run("course-unets", tmp_path / "d", unlabeled)


def test_without_colour_images_the_page_says_how_to_get_some(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentdiff.apps.studies.runner.COLOUR", "no-such-set")
    made = run("text-to-image", tmp_path, digits)
    (text,) = [warning for warning in made.warnings if warning.startswith("Colour images were left out: ")]
    assert (
        "no-such-set" in text
        and "--data-colour" in text
        and text[:28] in made.page.read_text(encoding="utf-8")
    )
    assert results(made)["data_colour"] is None


def test_a_seed_decides_everything(digits: Path, tmp_path: Path) -> None:
    settings = replace(MICRO["denoiser-training"], epochs=(1,), resamples=0)
    one, same, other = (
        results(run("denoiser-training", tmp_path / name, digits, settings=settings, seed=seed))
        for name, seed in (("a", 5), ("b", 5), ("c", 6))
    )
    assert one["tables"] == same["tables"] and one["figures"] == same["figures"]
    assert one["tables"] != other["tables"]


def test_a_model_that_is_given_is_looked_at_and_none_is_trained(
    digits: Path, colours: Path, tmp_path: Path
) -> None:
    first = run("sdedit", tmp_path / "first", digits)
    (trained,) = results(first)["runs"].values()
    given = tmp_path / "first" / trained["folder"]
    again = run("sdedit", tmp_path / "again", digits, run=given)
    assert results(again)["tables"] == results(first)["tables"]  # the very same model
    assert not list((tmp_path / "again" / "runs").iterdir())
    (entry,) = results(again)["runs"].values()
    assert (
        given.name in entry["folder"]
        and entry["step"] == MICRO["sdedit"].pixels.steps
        and not entry["reused"]
    )
    assert ", not trained for this page" in again.page.read_text(encoding="utf-8")
    assert ", not trained for this page" not in first.page.read_text(encoding="utf-8")
    with np.load(digits, allow_pickle=False) as arrays:
        np.savez(tmp_path / "two.npz", **{k: v % 2 if k[0] == "y" else v for k, v in arrays.items()})
    for study, other, message in (
        (
            "sdedit",
            colours,
            r"expected a model of images \[3, 32, 32\], as .*colours\.npz has, got \[1, 12, 12\]",
        ),
        (
            "prompt-to-prompt",
            digits,
            r"expected a model of images \[3, 32, 32\], as scenes has, got \[1, 12, 12\]",
        ),
        ("sdedit", tmp_path / "two.npz", r"expected the classes of .*two\.npz, 0, 1, got 0, 1, 2 and 7 more"),
    ):
        with pytest.raises(InputError, match=message):
            run(study, tmp_path / "refused", other, run=given)


@pytest.mark.slow
def test_models_of_latents_are_looked_at_where_that_makes_sense(digits: Path, tmp_path: Path) -> None:
    first = run("ddpm-ddim", tmp_path / "first", digits)
    given = next((first.out / "runs").glob("*eps*"), None) or sorted((first.out / "runs").iterdir())[0]
    for study in ("sdedit", "anagrams"):
        assert results(run(study, tmp_path / study, digits, run=given))["tables"]
    with pytest.raises(InputError, match="expected a model of pixels, whose noise turns and splits"):
        run("denoising", tmp_path / "refused", digits, run=given)


def test_digits_are_looked_at_with_the_model_of_the_package(tmp_path: Path) -> None:
    settings = replace(MICRO["denoising"], levels=(300,), figure=(300,), top=300, marks=(300,), stride=100)
    made = run("denoising", tmp_path, Path("mnist5k"), settings=settings)
    (entry,) = results(made)["runs"].values()
    assert entry["folder"].endswith("models/digits-pixels") and not list((tmp_path / "runs").iterdir())
    psnr = {row[""]: row["PSNR (dB)"] for row in results(made)["tables"]["denoised"]["rows"]}
    assert psnr["one step"]["value"] > psnr["noisy"]["value"] + 3


@pytest.mark.parametrize(
    "study", [name if name == "sdedit" else pytest.param(name, marks=pytest.mark.slow) for name in SHIPPED]
)
def test_colour_pictures_are_those_of_the_shipped_model(study: str, digits: Path, tmp_path: Path) -> None:
    """Without --data-colour none is read and nothing is trained for them; a given model draws its own."""
    made = run(study, tmp_path / "shipped", digits)
    found, page = results(made), made.page.read_text(encoding="utf-8")
    assert found["data_colour"] is None and not any("colour" in name for name in found["runs"])
    assert "clothes of the package" in page
    assert not any(line.startswith("Colour images were left out") for line in made.warnings)
    colour = {name for name in found["figures"] if name.startswith("colour")}
    assert colour
    folder = shipped_folder("clothes")
    assert folder is not None
    pipeline = replace(ld.load(folder), classes=tuple(f"kind {k}" for k in range(10)))
    pipeline.save(tmp_path / "given")
    given = run(study, tmp_path / "out", digits, run_colour=tmp_path / "given")
    assert str(tmp_path / "given") in given.page.read_text(encoding="utf-8")
    assert (made.out / min(colour)).stat().st_size > 2000
