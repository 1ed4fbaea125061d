"""`latentdiff models`."""

from __future__ import annotations

from latentdiff.apps.cli.shared.options import cli_command

HIDDEN = "title", "brightness"  # the second: ranges that --input is compared with


@cli_command("models", "latentdiff models", "latentdiff sample --run NAME")
def command(as_json: bool) -> int:
    """List the trained models that ship with the package.

    Every --run takes their names: latentdiff sample --run NAME.
    """
    from latentdiff.apps.cli.shared.progress import result
    from latentdiff.pipeline.checkpoint.pretrained import shipped_models

    rows, lines = [], []
    for model in shipped_models():
        rows.append({"name": model.name, "bytes": model.bytes, "folder": str(model.folder)} | model.about)
        lines.append(f"{model.name}: {model.about['title']} ({model.bytes / 2**20:.1f} MiB)")
        for key, value in model.about.items():
            if value is not None and key not in HIDDEN:
                lines.append(f"    {key}: {'; '.join(value) if isinstance(value, list) else value}")
    last = "Every --run takes these names; `latentdiff inspect NAME` describes the networks."
    lines.append(last if rows else "no trained models ship with this version")
    result({"models": rows}, as_json=as_json, text="\n".join(lines))
    return 0
