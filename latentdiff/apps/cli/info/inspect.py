"""`latentdiff inspect`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from latentdiff.apps.cli.shared.help import Argument, option
from latentdiff.apps.cli.shared.options import cli_command

MOST_WORDS = 500  # of a vocabulary, for people


@cli_command(
    "inspect", "latentdiff inspect", "latentdiff inspect runs/NAME --json", "latentdiff inspect samples.png"
)
@click.argument("path", cls=Argument, type=click.Path(path_type=Path), required=False)
@option(
    "--runs",
    default="runs",
    group="Model",
    help="Folder of all runs; used where PATH is not given.",
)
def command(path: Path | None, runs: str, as_json: bool) -> int:
    """Describe a run, a checkpoint or a picture's settings.

    PATH is a run or checkpoint folder (default: the newest run), a folder of diffusers, or a PNG of
    `latentdiff sample`, an editing command or `latentdiff ui`, which holds its settings. Files of a
    checkpoint are checked against its SHA-256 manifest; folders of diffusers have none (verified: false).
    """
    from latentdiff.apps.cli.shared.find import find_run
    from latentdiff.apps.cli.shared.progress import result
    from latentdiff.pipeline.checkpoint.folder import INDEX
    from latentdiff.pipeline.text.encoder import TOKENIZER
    from latentdiff.pipeline.text.tokenizer import Tokenizer

    if path is not None and path.is_file():
        return _picture(path, Path(runs), as_json=as_json)
    missing = f"no runs in {runs}/; make one with `latentdiff train-vae`"
    checkpoint = find_run(path, runs, wanted=lambda index: True, missing=missing)
    checkpoint.verify()
    values: dict[str, Any] = {
        "checkpoint": str(checkpoint.folder),
        "files": len(checkpoint.files),
        "index": checkpoint.json(INDEX),
    }
    for name in sorted(checkpoint.files):
        if name.endswith("config.json"):
            values[name.split("/")[0]] = checkpoint.json(name)
        elif name.endswith(".safetensors") and not name.startswith("training/"):
            shapes = checkpoint.shapes(name).values()
            values[f"{name.split('/')[0]}_parameters"] = sum(math.prod(shape) for shape in shapes)
    if TOKENIZER in checkpoint:
        values["words"] = Tokenizer.parse(
            checkpoint.json(TOKENIZER), f"{checkpoint.folder}/{TOKENIZER}"
        ).vocabulary
    if "training/state.json" in checkpoint:
        state = checkpoint.json("training/state.json")
        values["training"] = {key: state.get(key) for key in ("kind", "step", "elapsed", "finished")}
    values["bytes"] = sum(entry["bytes"] for entry in checkpoint.files.values())
    values["verified"] = checkpoint.has_manifest
    result(values, as_json=as_json, text=_lines(_shortened(values)))
    return 0


def _shortened(values: dict[str, Any]) -> dict[str, Any]:
    """The values with the beginning of a long vocabulary."""
    words = values.get("words", [])
    if len(words) <= MOST_WORDS:
        return values
    return values | {
        "words": [*words[:MOST_WORDS], f"and {len(words) - MOST_WORDS} more (--json lists them)"]
    }


def _picture(path: Path, runs: Path, *, as_json: bool) -> int:
    """The settings of a picture, and the checkpoint that made it, if it is below ``runs``."""
    from latentdiff.apps.cli.shared.progress import result
    from latentdiff.pipeline.checkpoint.runs import with_fingerprint
    from latentdiff.viz.images import read_recipe

    recipe = read_recipe(path)
    found = with_fingerprint(runs, recipe.weights)
    values = recipe.model_dump(mode="json", exclude_none=True)
    values |= {"picture": str(path), "checkpoint": None if found is None else str(found.folder)}
    result(values, as_json=as_json, text=_lines(values))
    return 0


def _lines(values: dict[str, Any]) -> str:
    """For people: YAML, short lists in one line."""
    import yaml

    text: str = yaml.safe_dump(
        values, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True
    )
    return text.rstrip()
