"""Recipes by name: the files of ``configs/``, which are in the package too, so that an installed one can be
told to follow them.
"""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import CompletionItem

FOLDER = Path(__file__).parents[3] / "assets" / "recipes"  # in the repository a link to configs/


def recipes() -> tuple[str, ...]:
    """The names of all of them."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


class ConfigFile(click.Path):
    """What --config takes: the path of a file, or the name of a recipe, which wins over a file called so
    (write ``./scenes``).
    """

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # type: ignore[override]
        """The path to read; whether there is a file, its reader will see."""
        found = super().convert(FOLDER / f"{value}.yaml" if str(value) in recipes() else value, param, ctx)
        assert isinstance(found, Path)
        return found

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Recipes first, then what the shell finds."""
        named = [CompletionItem(name) for name in recipes() if name.startswith(incomplete)]
        return named + super().shell_complete(ctx, param, incomplete)


def named(path: Path) -> str:
    """What --config takes to read this file: the name of a recipe, or the path."""
    return path.stem if path.parent == FOLDER else str(path)


def hint(path: Path) -> str:
    """What to say of a file that is not there, where its name could be meant for a recipe's; else nothing."""
    if path.stem in recipes():
        return f"; --config {path.stem} is the recipe of that name"
    bare = path.parent == Path() and not path.suffix
    return f"; the recipes are {', '.join(recipes())}" if bare else ""
