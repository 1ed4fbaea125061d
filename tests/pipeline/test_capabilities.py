"""Which model a command takes, and how one that cannot do what is asked is refused."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from latentdiff.pipeline.checkpoint.folder import open_checkpoint

RUNS = ("denoiser", "pixel", "classes", "spatial", "vae", "cold", "text")


@pytest.fixture(scope="module")
def work(
    tiny_denoiser_run: Path,
    tiny_pixel_run: Path,
    tiny_class_run: Path,
    tiny_spatial_run: Path,
    tiny_vae_run: Path,
    tiny_cold_run: Path,
    text_folder: Path,
    tiny_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A copy of one run of each kind, without any in runs/ yet."""
    folder = tmp_path_factory.mktemp("kinds")
    runs = (tiny_denoiser_run, tiny_pixel_run, tiny_class_run, tiny_spatial_run, tiny_vae_run, tiny_cold_run)
    for run in (*runs, text_folder / "runs" / "text"):
        shutil.copytree(run, folder / "all" / run.name)
    shutil.copy(tiny_folder / "tiny.npz", folder)
    return folder


def with_runs(work: Path, folder: Path, names: tuple[str, ...]) -> None:
    """Put runs of these names below ``folder``, the newest first."""
    for age, name in enumerate(names):
        shutil.copytree(work / "all" / name, folder / "runs" / name)
        for manifest in (folder / "runs" / name).glob("*/manifest.json"):
            os.utime(manifest, (2e9 - 1000 * age,) * 2)
    shutil.copy(work / "tiny.npz", folder)


@pytest.mark.parametrize(
    ("command", "runs", "taken"),
    [
        ("sample -n 1 --steps 2", ("denoiser", "text"), "denoiser"),
        ("sample -n 1 --steps 2 --prompt 'a disc'", ("denoiser", "text"), "text"),
        ("sample -n 1 --steps 2 --prompt 'a red seven'", ("denoiser", "vae"), "scenes"),
        ("sample -n 1 --steps 2 --prompt 'a large lion on a blue background'", ("denoiser",), "things"),
        ("sample -n 1 --steps 2 --prompt 'a red dress'", ("denoiser",), "clothes-text"),
        (
            "sample -n 1 --steps 2 --prompt 'a lion left of a seven'",
            ("denoiser",),
            "scenes",
        ),  # none knows all
        (
            "p2p -n 1 --steps 2 --prompt 'a large red seven' --edit 'a large tiger'",
            ("denoiser",),
            "things",
        ),
        ("sample -n 1 --steps 2 --label bee", ("text", "cold", "pixel", "classes"), "classes"),
        ("sample -n 1 --steps 2 --label 7", ("text",), "digits"),
        ("sample -n 1 --steps 2", ("vae", "cold", "pixel"), "pixel"),
        ("p2p -n 1 --steps 2 --prompt 'a red seven' --edit 'a green seven'", ("denoiser",), "scenes"),
        (
            "inpaint -n 1 --samples 1 --steps 3 --mask half --solver repaint --jumps 1",
            ("denoiser", "spatial"),
            "spatial",
        ),
        (
            "inpaint -n 1 --samples 1 --steps 3 --mask half --solver repaint --jumps 1",
            ("denoiser",),
            "digits-pixels",
        ),
        ("restore -n 1 --steps 3 --solver psld --operator blur", ("classes", "denoiser"), "denoiser"),
        (
            "edit -n 1 --input tiny.npz --steps 2 --strength 0.5 --prompt 'a disc'",
            ("classes", "text"),
            "text",
        ),
        ("anagram -n 1 --steps 2 --label ant --label bee", ("pixel", "classes"), "classes"),
    ],
)
def test_the_newest_run_that_can_do_what_is_asked_is_taken_and_named(
    command: str, runs: tuple[str, ...], taken: str, work: Path, cli: Callable, tmp_path: Path
) -> None:
    with_runs(work, tmp_path, runs)
    done = cli(command, cwd=tmp_path)
    assert done.code == 0, done.err
    if taken in runs:
        assert f"using runs/{taken}/checkpoint-" in done.err
        passed = [name for name in runs[: runs.index(taken)] if name not in ("vae", "cold")]
        assert not passed or f": runs/{passed[0]}, which is newer, " in done.err
    else:
        assert re.search(rf"no model in runs/ for --\S+.*: using {taken} of the package", done.err)


@pytest.mark.parametrize(
    ("command", "way"),
    [
        ("sample --run all/denoiser --prompt 'a disc'", "use --label, take --run scenes"),
        ("sample --run all/pixel --prompt 'a disc'", "leave --prompt out, take --run scenes"),
        ("sample --run all/text --label 2", "use --prompt, take --run digits"),
        ("sample --run all/pixel --label 2", "leave --label out, take --run digits"),
        ("sample --run all/pixel --guidance 3", "leave --guidance out, take --run digits"),
        ("sample --run all/pixel --class-balance data", "leave --class-balance out, take --run digits"),
        (
            "sample --run all/classes --guidance 3 --negative-prompt x",
            "leave --negative-prompt out, take --run scenes",
        ),
        (
            "sample --run all/denoiser --prediction eps",
            "leave out --prediction (--v-pred), or name another model with --run",
        ),
        ("sample --run all/pixel --v-pred", "leave out --prediction (--v-pred)"),
        ("sample --run all/pixel --sampler ddpm --variance learned", "expected small or large"),
        ("sample --run all/vae", "`latentdiff train-denoiser`"),
        ("sample --run all/cold", "`latentdiff sample-cold`"),
        ("sample-cold --run all/pixel", "`latentdiff train-cold`"),
        ("edit --run all/pixel --label own", "leave --label out, take --run digits"),
        ("edit --run all/denoiser --prompt x", "use --label, take --run scenes"),
        ("denoise --run all/text --label 1", "use --prompt, take --run digits"),
        ("invert --run all/pixel --to 1", "leave --to out, take --run digits"),
        ("inpaint --run all/denoiser --solver repaint", "use --solver dps, take --run digits-pixels"),
        ("inpaint --run all/denoiser --solver replacement", "use --solver dps"),
        ("restore --run all/classes --solver psld", "use --solver dps, take --run digits"),
        ("p2p --run all/denoiser --prompt a --edit b", "take --run scenes"),
        ("anagram --run all/pixel --label 0 --label 1", "take --run digits"),
        ("anagram --run all/classes --prompt a --prompt b", "use --label, take --run scenes"),
        ("hybrid --run all/text --label 0 --label 1", "use --prompt, take --run digits"),
        ("export --run all/pixel --part vae", "leave --part out, take --run digits"),
        ("export --run all/vae", "--part vae"),
        ("reconstruct --run all/pixel", "`latentdiff train-vae`"),
        ("encode --run all/pixel", "`latentdiff train-vae`"),
        ("train-denoiser --data tiny.npz --vae all/pixel", "--pixel"),
        ("evaluate --run all/pixel --what vae", "--what samples,denoiser,reconstruction"),
        ("evaluate --run all/pixel --guidance 2", "leave --guidance out"),
        ("evaluate --run all/pixel --class-balance equal", "leave --class-balance out"),
        ("evaluate --run all/cold", "--images"),
        ("sample --run nothing", "`latentdiff models`"),
    ],
)
def test_a_refusal_because_of_the_model_names_a_way_out(
    command: str, way: str, work: Path, cli: Callable
) -> None:
    code, _, err = cli(command, cwd=work)
    assert (code, err.count("error:")) == (1, 1), err
    assert way in err, err


@pytest.mark.parametrize(
    ("asked", "close"),
    [("smaple", "sample"), ("train_vae", "train-vae"), ("vae", "train-vae"), ("xyzzy", "")],
)
def test_a_mistyped_command_is_guessed(asked: str, close: str, cli: Callable, tmp_path: Path) -> None:
    code, _, err = cli(f"{asked} -n 3", cwd=tmp_path)
    assert code == 2 and f"no such command {asked!r}" in err and err.count("\n") == 1
    assert f"did you mean {close!r}?" in err if close else "expected one of train, train-vae," in err


def test_words_that_a_model_was_not_trained_on_are_named(work: Path, cli: Callable) -> None:
    done = cli("sample --run scenes -n 1 --steps 2 --prompt 'ein rotes Pferd'", cwd=work)
    assert done.code == 0 and "warning: 'ein', 'rotes', 'pferd' are not among the words" in done.err
    for command in (
        "sample --run all/text -n 1 --steps 2 --guidance 2 --prompt 'a disc' --negative-prompt 'a horse'",
        "edit --run all/text --input tiny.npz -n 1 --steps 2 --prompt 'a horse'",
        "invert --run all/text --input tiny.npz -n 1 --steps 2 --to 'a horse on the left'",
        "p2p --run all/text -n 1 --steps 2 --prompt 'a disc' --edit 'a horse'",
        "anagram --run all/text -n 1 --steps 2 --prompt 'a horse' --prompt 'a disc'",
    ):
        assert "warning: 'horse' is not among the words" in cli(command, cwd=work).err, command
    fine = cli("sample --run all/text -n 1 --steps 2 --prompt 'A disc, on the left!'", cwd=work)
    assert fine.code == 0 and "warning" not in fine.err
    assert "disc, left, middle" in cli("inspect all/text", cwd=work).out.replace("\n ", "")
    assert "tokenizer/tokenizer.json" in open_checkpoint(next((work / "all/text").glob("checkpoint-*")))
