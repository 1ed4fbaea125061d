"""Finding the model that a command works with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latentdiff.config.loop import DataOptions, StreamOptions
from latentdiff.errors import InputError

if TYPE_CHECKING:
    from latentdiff.checkpoint import Checkpoint
    from latentdiff.pipeline import Pipeline

HOW_TO = "make one with `latentdiff train-vae` and then `latentdiff train-denoiser`"


def find_denoiser(run: str | None, runs: str, *, texts: bool = False, pixels: bool = False) -> Checkpoint:
    """The checkpoint of --run, or of the newest run with a denoiser, which is named on stderr.

    Where nothing has been trained: of a model in the package, one for ``texts`` if they are given, and one of ``pixels``
    where a command works best, or only, with that.
    """
    from latentdiff.checkpoint import open_checkpoint
    from latentdiff.cli.report import note
    from latentdiff.runs import locate, newest
    from latentdiff.shipped import shipped_for

    if run is not None:
        return locate(Path(run), Path(runs))
    checkpoint = newest(Path(runs), wanted=lambda index: "denoiser" in index)
    if checkpoint is not None:
        note(f"using {checkpoint.folder}")
        return checkpoint
    model = shipped_for("text" if texts else "classes", pixels=pixels)
    if model is None:
        raise InputError(f"no trained model in {runs}/; {HOW_TO}")
    note(f"no denoiser in {runs}/: using {model.name} of the package (see `latentdiff models`)")
    return open_checkpoint(model.folder)


def find_vae(run: str | None, runs: str) -> Checkpoint:
    """The checkpoint of --run, which holds a VAE, or that of the newest VAE run, which is named on stderr."""
    from latentdiff.checkpoint import INDEX
    from latentdiff.cli.report import note
    from latentdiff.index import has_vae, holds_vae_alone
    from latentdiff.runs import locate, newest

    if run is not None:
        checkpoint = locate(Path(run), Path(runs))
        if not has_vae(checkpoint, checkpoint.json(INDEX)):
            raise InputError(f"{checkpoint.folder}: is a pixel model, it has no VAE")
        return checkpoint
    newest_vae = newest(Path(runs), wanted=holds_vae_alone)
    if newest_vae is None:
        raise InputError(f"no VAE run in {runs}/; make one with `latentdiff train-vae`")
    note(f"using {newest_vae.folder}")
    return newest_vae


def load_checked(checkpoint: Checkpoint, *, prediction: str | None, device: str, dtype: str) -> Pipeline:
    """The model on its device; a --prediction that differs from the checkpoint's is an error, never a silent search."""
    import torch

    from latentdiff.device import resolve_device
    from latentdiff.pipeline import from_checkpoint

    pipeline = from_checkpoint(checkpoint)
    trained = pipeline.diffusion.prediction
    if prediction is not None and prediction != trained:
        raise InputError(
            f"{checkpoint.folder}: was trained with {trained}-prediction, but {prediction}-prediction was asked for"
        )
    types = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    return pipeline.to(resolve_device(device), dtype=types[dtype])


def trained_on(ctx: click.Context, checkpoint: Checkpoint) -> dict[str, Any]:
    """The data options that the run was trained with, each where this command was not given it.

    Where the data are others than those of the run, so is the place where they are looked for.
    """
    from latentdiff.runs import data_of
    from latentdiff.train.state import STATE, load_progress

    names = [name for name in (*DataOptions.model_fields, *StreamOptions.model_fields) if name in ctx.params]
    if STATE not in checkpoint:
        return {}
    given = {name for name in names if ctx.get_parameter_source(name) != click.core.ParameterSource.DEFAULT}
    given |= {"data_root"} if "data" in given else set()
    saved = load_progress(checkpoint).options
    if isinstance(data := saved.get("data"), str):
        saved = saved | {"data": data_of(checkpoint.folder, data) or data}
    return {name: saved[name] for name in names if name in saved and name not in given}
