"""Recipes by name: `--config scenes` is the file of configs/, wherever the command runs."""

import json
from collections.abc import Callable
from pathlib import Path

import click
from helpers import ROOT

from latentdiff.apps.cli.shared import config_file

CONFIGS = ROOT / "configs"


def test_the_package_has_the_recipes_of_the_repository() -> None:
    files = {path.name: path.read_bytes() for path in CONFIGS.glob("*.yaml")}
    assert {path.name: path.read_bytes() for path in config_file.FOLDER.glob("*")} == files
    assert config_file.recipes() == tuple(sorted(name.removesuffix(".yaml") for name in files))


def test_a_name_is_a_recipe_and_a_path_a_file(cli: Callable, tmp_path: Path) -> None:
    """A name wins over a file called so; with `./` the file is meant."""
    (tmp_path / "demo").write_text("nonsense: 1\n")
    named, meant = (
        cli(f"train-vae --dry-run --json --config {config}", cwd=tmp_path) for config in ("demo", "./demo")
    )
    assert named.code == 0 and json.loads(named.out)["options"]["minutes"] == 1, named.err
    assert (meant.code, meant.err.count("\n")) == (2, 1) and "unknown option 'nonsense'" in meant.err


def test_train_hands_the_name_on_to_both_trainings(cli: Callable, tmp_path: Path) -> None:
    """It refuses before either begins: the text that `scenes` wants needs captions, which digits have not."""
    result = cli("train --config scenes --data mnist5k", cwd=tmp_path)
    assert result.code == 1 and "caption" in result.err, result.err
    (tmp_path / "scenes").write_text("train-vae:\n  nonsense: 1\n")
    result = cli("train --config ./scenes", cwd=tmp_path)
    assert result.code == 2 and "unknown option 'nonsense'" in result.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scenes"]


def test_a_name_that_is_no_recipe_is_told_those_that_are(cli: Callable, tmp_path: Path) -> None:
    result = cli("sample --config scene", cwd=tmp_path)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert (
        "--config scene: cannot be read (No such file or directory); the recipes are"
        f" {', '.join(config_file.recipes())}" in result.err
    )
    for path in ("scene.yaml", "folder/scene", "../demo", "configs/../demo"):
        result = cli(f"sample --config {path}", cwd=tmp_path)
        assert result.code == 2 and "cannot be read" in result.err and "the recipes are" not in result.err


def test_shells_complete_the_names() -> None:
    option = click.Option(["--config"], type=config_file.ConfigFile())
    context = click.Context(click.Command("sample"))
    items = option.type.shell_complete(context, option, "mnist-p")
    assert [(item.type, item.value) for item in items] == [
        ("file", "mnist-p"),  # bash forgets what comes before it
        ("plain", "mnist-pixel"),
        ("plain", "mnist-pixel-cnn"),
    ]


def test_the_pages_name_every_recipe() -> None:
    """docs/commands/index.md is where an installed package's user looks."""
    text = (CONFIGS.parent / "docs" / "commands" / "index.md").read_text(encoding="utf-8")
    assert [name for name in config_file.recipes() if f"`{name}`" not in text] == []
