"""`latentdiff export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from latentdiff.apps.cli.shared.help import option
from latentdiff.apps.cli.shared.options import cli_command, given, out_option, run_options
from latentdiff.apps.cli.shared.outputs import Output, overwrite_option, refuse_foreign

if TYPE_CHECKING:
    from latentdiff.pipeline.checkpoint.folder import Checkpoint, Writer


def _check_exported(folder: Path) -> None:
    from latentdiff.data.written import foreign_in
    from latentdiff.pipeline.checkpoint.folder import MANIFEST

    refuse_foreign(
        folder,
        foreign_in(
            folder,
            written=lambda path: path.name != MANIFEST and path.suffix in (".json", ".safetensors"),
            hidden=True,
        ),
    )


@cli_command(
    "export",
    "latentdiff export --run runs/NAME",
    "latentdiff export --run runs/NAME --part scheduler --out scheduler",
    title="Parts",
)
@run_options()
@option(
    "--part",
    "what",
    was="--what",
    type=click.Choice(["pipeline", "scheduler", "unet", "vae"]),
    default="pipeline",
    help="The whole model, or one of its parts.",
)
@option(
    "--scheduler",
    "sampler",
    was="--sampler",
    type=click.Choice(["ddim", "ddpm"]),
    default="ddim",
    help="Pipeline and scheduler of diffusers; unet and vae have none.",
)
@out_option(Output(check=_check_exported), "exported", "Folder of the exported model.")
@overwrite_option
def command(*, as_json: bool, **values: Any) -> int:
    """Write a model as a folder that diffusers loads.

    Diffusion processes can be exported, except score prediction and x_0 with --sigma-data. Networks can be
    exported if they came from diffusers, such as an autoencoder that a denoiser was trained on; those of this
    package are built differently, and the error names the first difference.
    """
    what, sampler = values["what"], values["sampler"]
    if given(["sampler"]) and what in ("unet", "vae"):
        raise click.UsageError(f"--sampler {sampler}: a {what} by itself has none; leave it out")

    from latentdiff.apps.cli.shared import outputs
    from latentdiff.apps.cli.shared.find import check_meets, find_denoiser
    from latentdiff.apps.cli.shared.progress import result
    from latentdiff.pipeline.capabilities import Need
    from latentdiff.pipeline.checkpoint.folder import writing

    outputs.settle(values)
    needs = [Need("latents", "--part vae")] if what == "vae" else []
    checkpoint, out = find_denoiser(values["run"], values["runs"], needs=needs), values["out"]
    check_meets(checkpoint, needs)
    with writing(out, manifest=False, replace=values["overwrite"]) as writer:
        _export(checkpoint, writer, what, sampler)
    result(
        {"run": str(checkpoint.folder), "what": what, "wrote": str(out)},
        as_json=as_json,
        text=f"{what} of {checkpoint.folder}: {out}",
    )
    return 0


def _export(checkpoint: Checkpoint, writer: Writer, what: str, sampler: Literal["ddim", "ddpm"]) -> None:
    """Write the chosen part, reading no other."""
    from latentdiff.errors import InputError
    from latentdiff.pipeline.checkpoint.folder import INDEX
    from latentdiff.pipeline.checkpoint.index import has_vae
    from latentdiff.pipeline.components import (
        diffusers_for,
        load_autoencoder,
        load_denoiser,
        load_diffusion,
    )
    from latentdiff.pipeline.pipeline import from_checkpoint

    diffusers, index = diffusers_for(checkpoint), checkpoint.json(INDEX)
    if what == "vae":
        if not has_vae(checkpoint, index):
            raise InputError(f"{checkpoint.folder}: is a pixel model, it has no VAE to export")
        diffusers.export_network(writer, load_autoencoder(checkpoint, index)[0])
        return
    if "denoiser" not in index:
        raise InputError(f"{checkpoint.folder}: holds no denoiser; --part vae exports its VAE")
    if what == "unet":
        diffusers.export_network(writer, load_denoiser(checkpoint, index))
    elif what == "scheduler":
        diffusers.export_scheduler(writer, load_diffusion(checkpoint, index), sampler=sampler)
    else:
        model = from_checkpoint(checkpoint)
        diffusers.export_pipeline(writer, model.network, model.diffusion, model.codec, sampler=sampler)
