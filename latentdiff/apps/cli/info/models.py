"""`latentdiff models`."""

from __future__ import annotations

import json

import click

from latentdiff.apps.cli.shared.options import cli_command


@cli_command("models", "latentdiff models", "latentdiff sample --run NAME")
def command(as_json: bool) -> int:
    """List the trained models that ship with the package.

    Every --run takes their names: latentdiff sample --run NAME.
    """
    from latentdiff.pipeline.checkpoint.pretrained import shipped_models

    found = shipped_models()
    if as_json:
        rows = [
            {"name": model.name, "bytes": model.bytes, "folder": str(model.folder)} | model.about
            for model in found
        ]
        click.echo(json.dumps({"models": rows}))
        return 0
    for model in found:
        click.echo(f"{model.name}: {model.about['title']} ({model.bytes / 2**20:.1f} MiB)")
        for key, value in model.about.items():
            if key not in ("title", "brightness"):  # ranges that --input is compared with
                click.echo(f"    {key}: {'; '.join(value) if isinstance(value, list) else value}")
    if found:
        click.echo("Every --run takes these names; `latentdiff inspect NAME` describes the networks.")
    else:
        click.echo("no trained models ship with this version")
    return 0
