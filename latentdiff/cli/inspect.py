"""`latentdiff inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from latentdiff.cli.options import config_option, json_option


@click.command(name="inspect")
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--runs", default="runs", show_default=True, help="Folder of all runs, used when no PATH is given.")
@config_option
@json_option
def command(path: Path | None, runs: str, as_json: bool) -> int:
    """Describe a run or checkpoint and verify its files.

    PATH is a run or checkpoint folder (default: the newest run), or one of diffusers. Every file is checked against the
    SHA-256 manifest; folders of diffusers have none, theirs are only read (verified: false).
    """
    import yaml

    from latentdiff.checkpoint import INDEX, Checkpoint
    from latentdiff.cli.report import note, result
    from latentdiff.errors import InputError
    from latentdiff.runs import locate, newest

    checkpoint: Checkpoint | None
    if path is None:
        checkpoint = newest(Path(runs), wanted=lambda index: True)
        if checkpoint is None:
            raise InputError(f"no runs in {runs}/; make one with `latentdiff train-vae`")
        note(f"using {checkpoint.folder}")
    else:
        checkpoint = locate(path)
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
            tensors = checkpoint.tensors(name)
            values[f"{name.split('/')[0]}_parameters"] = sum(tensor.numel() for tensor in tensors.values())
    if "training/state.json" in checkpoint:
        state = checkpoint.json("training/state.json")
        values["training"] = {key: state.get(key) for key in ("kind", "step", "elapsed", "finished")}
    values["bytes"] = sum(entry["bytes"] for entry in checkpoint.files.values())
    values["verified"] = checkpoint.sealed
    result(
        values,
        as_json=as_json,
        text=yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=110).rstrip(),
    )
    return 0
