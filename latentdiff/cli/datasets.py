"""`latentdiff datasets`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from latentdiff.cli.options import config_option, json_option


@click.command(name="datasets")
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder with downloaded data sets (default: $LATENTDIFF_DATA or ~/.cache/latentdiff/data).",
)
@config_option
@json_option
def command(data_root: Path | None, as_json: bool) -> int:
    """List the data sets and where to put them."""
    from latentdiff.data import list_datasets

    found = list_datasets(data_root)
    if as_json:
        click.echo(json.dumps({"datasets": [asdict(entry) for entry in found]}))
        return 0
    for entry in found:
        click.echo(f"{entry.name}: {entry.description}")
        for key, value in asdict(entry).items():
            if key not in ("name", "description"):
                click.echo(f"    {key}: {value}")
    click.echo(
        "Besides these, --data takes a path: an .npz file, a folder of idx files, a folder of images, or tar shards."
    )
    return 0
