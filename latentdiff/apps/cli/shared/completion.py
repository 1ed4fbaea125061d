"""What the shell proposes for runs, models, data sets and studies; imports no torch."""

from __future__ import annotations

from pathlib import Path

import click

ASSETS = Path(__file__).parents[3] / "assets" / "models"


def runs(ctx: click.Context) -> list[str]:
    """The runs below --runs, the newest first, then the models of the package."""
    folder = Path(str(ctx.params.get("runs") or "runs"))
    try:
        found = [path for path in folder.iterdir() if (path / "config.yaml").is_file()]
        found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    except OSError:
        found = []
    return [*(path.name for path in found), *sorted(path.stem for path in ASSETS.glob("*.json"))]


def data_sets(ctx: click.Context) -> list[str]:
    """The names of data sets."""
    from latentdiff.data.catalog import NAMED

    return list(NAMED)


def studies(ctx: click.Context) -> list[str]:
    """The names of studies, and `all`."""
    from latentdiff.apps.studies.catalog import STUDIES

    return [*STUDIES, "all"]
