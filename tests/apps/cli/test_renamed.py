"""An option by its name of the version before: the same result, and one line that says the new name."""

from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from latentdiff.apps.cli.measure import evaluate
from latentdiff.apps.cli.shared.config_file import config_option
from latentdiff.apps.cli.shared.help import Several, option
from latentdiff.apps.cli.shared.options import options_of
from latentdiff.config.base import Config, current_names, setting


class Settings(Config):
    timesteps: int = setting(5, "steps", ge=1, was="T")
    clip_x0: bool = setting(True, "clip", was="clip")


@click.command(name="renamed")
@options_of(Settings)
@option("--confidence", was="--level", type=float, default=0.9, help="Share.")
@option("--classes", cls=Several, was="--labels", help="Classes.")
@config_option
def command(**values: object) -> None:
    """Print the values."""
    click.echo(str(sorted(values.items())))


def invoked(words: str) -> tuple[str, list[str]]:
    result = CliRunner().invoke(command, words.split(), standalone_mode=False)
    assert result.exception is None, result.exception
    return result.stdout, result.stderr.splitlines()


@pytest.mark.parametrize(
    ("old", "new", "notes"),
    [
        ("--T 7", "--timesteps 7", ["--T is now --timesteps"]),
        ("--T=7", "--timesteps 7", ["--T is now --timesteps"]),
        ("--no-clip", "--no-clip-x0", ["--no-clip is now --no-clip-x0"]),
        (
            "--level .5 --T 3",
            "--confidence .5 --timesteps 3",
            ["--level is now --confidence", "--T is now --timesteps"],
        ),
        ("--classes 1 --labels 2", "--classes 1,2", ["--labels is now --classes"]),
    ],
)
def test_an_old_flag_is_the_new_one(old: str, new: str, notes: list[str]) -> None:
    assert invoked(old) == (invoked(new)[0], notes)
    assert invoked(new)[1] == []
    assert not any(
        flag in command.get_help(click.Context(command)) for flag in ("--T ", "--level", "--labels")
    )


def test_an_old_key_of_a_file_is_the_new_one(tmp_path: Path) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text("{T: 7, clip: false, level: 0.5, labels: [a, b]}")
    new.write_text("{timesteps: 7, clip_x0: false, confidence: 0.5, classes: [a, b]}")
    out, notes = invoked(f"--config {old}")
    assert (out, []) == invoked(f"--config {new}")
    assert notes[0] == f"--config {old}: T is now timesteps" and len(notes) == 4


def test_saved_settings_are_read_by_their_old_names() -> None:
    assert (
        Settings.model_validate({"T": 7}) == Settings.model_validate_json('{"T": 7}') == Settings(timesteps=7)
    )
    assert current_names(Settings, {"T": 7, "other": 1}) == {"timesteps": 7, "other": 1}
    with pytest.raises(ValueError, match="T"):
        Settings.model_validate({"T": 7, "timesteps": 8})


class Fitting(Config):
    fit: str = setting("crop", "fit")
    resize: str = setting("bicubic", "filter", moved={"pad": ("fit", "edge")})


@click.command(name="moved")
@options_of(Fitting)
@config_option
def fitting(**values: object) -> None:
    """Print the values."""
    click.echo(str(sorted(values.items())))


def test_an_old_value_goes_to_the_option_that_has_it_now(tmp_path: Path) -> None:
    old, both = tmp_path / "old.yaml", tmp_path / "both.yaml"
    old.write_text("{resize: pad}")
    both.write_text("{resize: pad, fit: crop}")
    expected = "[('fit', 'edge'), ('resize', 'bicubic')]\n"
    for words, line in (
        ("--resize pad", "--resize pad is now --fit edge"),
        ("--resize=pad", "--resize pad is now --fit edge"),
        (f"--config {old}", f"--config {old}: resize pad is now fit edge"),
    ):
        result = CliRunner().invoke(fitting, words.split(), standalone_mode=False)
        assert (result.stdout, result.stderr) == (expected, f"{line}\n"), words
    plain = CliRunner().invoke(fitting, ["--resize", "box"], standalone_mode=False)
    assert (plain.stdout, plain.stderr) == ("[('fit', 'crop'), ('resize', 'box')]\n", "")
    given = CliRunner().invoke(fitting, ["--config", str(both)], standalone_mode=False)
    assert given.stdout == "[('fit', 'crop'), ('resize', 'bicubic')]\n"
    assert current_names(Fitting, {"resize": "pad"}) == {"fit": "edge"}
    assert current_names(Fitting, {"resize": "box"}) == {"resize": "box"}


def test_encode_and_evaluate_know_their_old_names(
    cli: Callable, tiny_folder: Path, tiny_vae_run: Path, tmp_path: Path
) -> None:
    done = cli(f"encode --run {tiny_vae_run} --half --out {tmp_path}/latents", cwd=tiny_folder)
    assert done.code == 0 and "--half is now --fp16\n" in done.err, done.err
    assert {"--level": "--confidence"} in [getattr(each, "was", None) for each in evaluate.command.params]
