"""Errors of the library name arguments; the command line writes the options that the user types."""

import re
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from latentdiff import InputError
from latentdiff.apps.cli.root import COMMANDS, root
from latentdiff.apps.cli.shared.help import with_flags
from latentdiff.config.loop import LoopOptions
from latentdiff.config.sampling import Sampling
from latentdiff.data import load_dataset
from latentdiff.data.classes import class_index
from latentdiff.errors import explain
from latentdiff.nn.networks import UNetConfig


def command(name: str) -> click.Command:
    found = root.get_command(click.Context(root), name)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("train-vae --steps 3 --minutes 1", "give one budget, got --steps and --minutes ("),
        ("train-vae --batch 8 --accumulate 3", "--batch must be a multiple of --accumulate, got 8 and 3 ("),
        ("train-vae --steps 0", "--steps: expected a number greater"),
        (
            "train-vae --perceptual-network lpips-vgg",
            "--perceptual-network, --perceptual-size and --perceptual-weights need a",
        ),
        ("train-vae --latent 3x5x5 --data tiny.npz", "--latent: 3x5x5 does not fit"),
        ("train-vae --data nowhere", "--data 'nowhere': expected"),
        ("train --data nowhere", "--data 'nowhere': expected"),
        ("datasets nowhere", "DATA 'nowhere': expected"),
        ("train-denoiser --pixel --vae x", "--pixel works without a VAE, got --vae x ("),
        ("train-denoiser --pixel --network resnet", "Invalid value for '--network'"),
        ("train-denoiser --pixel --network dit --patch 3 --data tiny.npz", "--patch: expected a divisor"),
        ("train-cold --blur-kernel 4", "--blur-kernel must be odd, got 4 ("),
        (
            "plot-schedule --zero-snr --T 1 --schedule cosine",
            "--zero-snr needs --T of at least 2, got 1 (",
        ),
        (
            "sample --guidance-low 0.5 --guidance-high 0.2",
            "--guidance-low must not exceed --guidance-high, got",
        ),
        (
            "sample --guidance 1 --negative-prompt x",
            "--negative-prompt has no effect at guidance 1; set --guid",
        ),
        (
            "sample --eta 0.5 --sampler heun",
            "--eta is an option of the ddim sampler, got 0.5 with --sampler h",
        ),
        ("inpaint --solver dps --jumps 3", "--jumps is an option of repaint, got 3 with --solver dps ("),
        ("p2p --prompt a --edit b --self 3", "--self: expected a number less than or equal to 1, got 3.0 ("),
    ],
)
def test_usage_errors_name_the_options_as_they_are_typed(
    cli: Callable, tiny_folder: Path, words: str, error: str
) -> None:
    code, _, err = cli(words, cwd=tiny_folder)
    assert code in (1, 2) and err.splitlines()[-1].startswith(f"error: {error}"), err
    assert not re.search(r"`\w+`", err)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("sample --label ''", "--label: unknown class"),
        ("sample --label 7", "--label must lie in 0..2, got 7"),
        ("sample --steps 50", "--steps must be at most 20, the levels of this model, got 50"),
        ("sample --sampler ddpm --variance learned", "--variance learned needs a model"),
        ("edit --level 21", "--level must lie in 0..20, got 21"),
        ("edit --start-index 9 --steps 4", "--start-index must lie in 0..4, "),
        ("denoise --level 30", "--level must lie in 0..20, got 30"),
        ("invert --start-level 20", "--start-level must lie in 0..19, got 20"),
        ("evaluate --data nowhere", "--data 'nowhere': expected"),
    ],
)
def test_errors_of_a_model_name_the_options_as_they_are_typed(
    cli: Callable, tiny_folder: Path, tiny_class_run: Path, words: str, error: str
) -> None:
    code, _, err = cli(f"{words} --run {tiny_class_run}", cwd=tiny_folder)
    assert code == 1 and err.splitlines()[-1].startswith(f"error: {error}"), err


def test_a_folder_option_with_a_file_in_its_place_names_the_option(
    cli: Callable, tiny_folder: Path, tiny_class_run: Path
) -> None:
    code, _, err = cli(f"sample --run {tiny_class_run} --files tiny.npz", cwd=tiny_folder)
    assert code == 1 and "error: --files tiny.npz: expected a folder, found a file" in err


def test_names_become_the_options_of_their_command() -> None:
    text = "`n`, `number`, `as_json`, `steps`, `nothing`, '`steps`', `latentdiff sample`, steps"
    assert with_flags(text, command("sample")) == (
        "-n, -n, --json, --steps, `nothing`, '`steps`', `latentdiff sample`, steps"
    )
    assert with_flags("`self_share`, `factors`", command("p2p")) == "--self, --word-weight"
    assert with_flags("`data`", command("datasets")) == "DATA"


def test_every_option_is_found_by_its_own_name() -> None:
    for name in COMMANDS:
        for param in command(name).params:
            shown = with_flags(f"`{param.name}`", command(name))
            assert shown == (param.opts[0] if isinstance(param, click.Option) else param.human_readable_name)


def test_in_python_they_are_arguments_in_backticks() -> None:
    with pytest.raises(ValueError, match="give one budget, got `steps` and `minutes`"):
        LoopOptions(steps=1, minutes=1)
    with pytest.raises(InputError, match=r"^`data` 'nowhere': expected"):
        load_dataset("nowhere")
    with pytest.raises(InputError, match=r"^`label`: unknown class ''; this model knows a"):
        class_index(["a", "b"], "")
    with pytest.raises(InputError, match=r"^`width`: expected a number"):
        UNetConfig.of_preset("small", shape=(1, 8, 8), width=0)


def test_keys_of_files_are_no_arguments() -> None:
    for values, text in (
        ({"steps": 0}, "steps: expected"),
        ({"guidance_low": 0.9, "guidance_high": 0.1}, "guid"),
    ):
        with pytest.raises(ValueError) as caught:
            Sampling.model_validate(values)
        assert explain(caught.value).startswith(text) and "`" not in explain(caught.value)  # type: ignore[arg-type]
        assert explain(caught.value, arguments=True).startswith(f"`{text[:4]}")  # type: ignore[arg-type]
