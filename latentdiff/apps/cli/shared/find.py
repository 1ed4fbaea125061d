"""Find the model of a command (a run by name, or the newest with what the options need), and its data."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latentdiff.apps.cli.shared.options import given
from latentdiff.config.data import DataOptions, StreamOptions
from latentdiff.errors import InputError

if TYPE_CHECKING:
    from latentdiff.config.recipe import NetworkType
    from latentdiff.pipeline.capabilities import Need
    from latentdiff.pipeline.checkpoint.folder import Checkpoint
    from latentdiff.pipeline.checkpoint.pretrained import Shipped
    from latentdiff.pipeline.pipeline import Pipeline

HOW_TO = "make one with `latentdiff train-vae` and then `latentdiff train-denoiser`"


def find_denoiser(
    run: str | None,
    runs: str,
    *,
    needs: Sequence[Need] = (),
    pixels: bool = False,
    fits: Callable[[Shipped], bool] | None = None,
) -> Checkpoint:
    """The checkpoint of --run, or of the newest run whose model meets the ``needs``, which is named on
    stderr.

    Where there is none: a model of the package that ``fits`` takes, one of ``pixels`` where a command works
    best with that.
    """
    from latentdiff.apps.cli.shared.progress import note
    from latentdiff.pipeline.capabilities import capabilities_of, shipped_that
    from latentdiff.pipeline.checkpoint.folder import open_checkpoint
    from latentdiff.pipeline.checkpoint.runs import locate, runs_by_date

    if run is not None:
        return locate(Path(run), Path(runs))
    passed = ""  # the newest run that lacks something, and what
    for found in runs_by_date(Path(runs)):
        checkpoint = found.newest()
        if checkpoint is None or (has := capabilities_of(checkpoint)) is None:
            continue
        if (lacks := has.lacking(needs)) is None:
            note(f"using {checkpoint.folder}" + (f": {passed}" if passed else ""))
            return checkpoint
        passed = passed or f"{found.folder}, which is newer, {has.against(lacks.kind)}"
    model = shipped_that(needs, pixels=pixels, fits=fits) or shipped_that(needs, pixels=pixels)
    if model is None:
        raise InputError(f"no trained model in {runs}/{_for(needs)}; {HOW_TO}")
    passed = f"no denoiser in {runs}/" if not passed else f"no model in {runs}/{_for(needs)}"
    note(f"{passed}: using {model.name} of the package (see `latentdiff models`)")
    return open_checkpoint(model.folder)


def _for(needs: Sequence[Need]) -> str:
    options = " and ".join(dict.fromkeys(need.option for need in needs if need.option != "--run"))
    return f" for {options}" if options else ""


def check_meets(checkpoint: Checkpoint, needs: Sequence[Need]) -> None:
    """InputError where a model lacks what a command needs, which names the option and a way out."""
    from latentdiff.pipeline.capabilities import capabilities_of, way_out

    has = capabilities_of(checkpoint)
    if (
        has is None or (lacks := has.lacking(needs)) is None
    ):  # one without a denoiser is refused when it is loaded
        return
    found, instead = has.against(lacks.kind), has.instead(lacks)
    raise InputError(f"{lacks.option}: {checkpoint.folder} {found}; {instead}{way_out(needs)}")


def find_vae(run: str | None, runs: str) -> Checkpoint:
    """The checkpoint of --run, which holds a VAE, or that of the newest VAE run, which is named on stderr."""
    from latentdiff.pipeline.checkpoint.folder import INDEX
    from latentdiff.pipeline.checkpoint.index import has_vae, holds_vae_alone

    missing = f"no VAE run in {runs}/; make one with `latentdiff train-vae`"
    checkpoint = find_run(run, runs, wanted=holds_vae_alone, missing=missing)
    if not has_vae(checkpoint, checkpoint.json(INDEX)):
        raise InputError(
            f"{checkpoint.folder}: is a pixel model, it has no VAE; expected the --run of a VAE or of a"
            " latent model (`latentdiff train-vae` makes one)"
        )
    return checkpoint


def find_run(
    run: str | Path | None, runs: str, *, wanted: Callable[[Mapping[str, Any]], bool], missing: str
) -> Checkpoint:
    """The checkpoint of --run, or of the newest run whose index is ``wanted``, which is named on stderr.

    InputError where there is none, which says ``missing``.
    """
    from latentdiff.apps.cli.shared.progress import note
    from latentdiff.pipeline.checkpoint.runs import locate, newest

    if run is not None:
        return locate(Path(run), Path(runs))
    if (checkpoint := newest(Path(runs), wanted=wanted)) is None:
        raise InputError(missing)
    note(f"using {checkpoint.folder}")
    return checkpoint


def load_checked(
    checkpoint: Checkpoint,
    *,
    needs: Sequence[Need] = (),
    prediction: str | None,
    device: str,
    dtype: NetworkType,
) -> Pipeline:
    """The model on its device; InputError where it lacks a need, or has another prediction."""
    from latentdiff.apps.cli.shared.progress import note_kernels
    from latentdiff.parallel.device import network_dtype, resolve_device
    from latentdiff.pipeline.pipeline import from_checkpoint

    note_kernels()
    check_meets(checkpoint, needs)
    pipeline = from_checkpoint(checkpoint)
    trained = pipeline.diffusion.prediction
    if prediction is not None and prediction != trained:
        raise InputError(
            f"{checkpoint.folder}: was trained with {trained}-prediction, expected {prediction}-prediction;"
            " leave out --prediction (--v-pred), or name another model with --run"
        )
    where = resolve_device(device)
    return pipeline.to(where, dtype=network_dtype(dtype, where))


def trained_on(checkpoint: Checkpoint) -> dict[str, Any]:
    """The data options that the run was trained with, each where this command was not given it.

    Where the data are others than those of the run, so is the place where they are looked for.
    """
    params = click.get_current_context().params
    fields = (*DataOptions.model_fields, *StreamOptions.model_fields)
    names = [name for name in fields if name in params and name != "image_cache"]
    chosen = given(names)
    chosen += ["data_root"] if "data" in chosen else []
    saved = saved_options(checkpoint) if "data" in chosen else saved_images(checkpoint, "--data")
    return {name: saved[name] for name in names if name in saved and name not in chosen}


def saved_options(checkpoint: Checkpoint) -> dict[str, Any]:
    """The options that a run was trained with, its paths as written; {} for one without a training state."""
    from latentdiff.train.state import STATE, load_train_state

    return load_train_state(checkpoint).options if STATE in checkpoint else {}


def saved_images(checkpoint: Checkpoint, option: str) -> dict[str, Any]:
    """As :func:`saved_options`, with ``data`` and ``data_root`` as paths from here; ``option`` names other
    images.

    InputError where the data is gone, or is encoded latents.
    """
    from latentdiff.files.paths import expanded
    from latentdiff.pipeline.checkpoint.folder import INDEX, open_checkpoint
    from latentdiff.pipeline.checkpoint.runs import recorded_paths
    from latentdiff.train.latent_dataset import is_encoded

    saved = saved_options(checkpoint)
    if not isinstance(data := saved.get("data"), str):
        return saved
    place = place_of(checkpoint, data, option)
    if is_encoded(expanded(place)):
        source = open_checkpoint(expanded(place)).json(INDEX).get("data")
        example = f", as {option} {shlex.quote(source)}" if isinstance(source, str) else ""
        raise InputError(
            f"{place}: expected images, found the encoded latents that {checkpoint.folder} was trained on; "
            f"{option} names images{example}"
        )
    if isinstance(root := saved.get("data_root"), str):
        saved = saved | {"data_root": next(iter(recorded_paths(checkpoint.folder, root)), root)}
    return saved | {"data": place}


def place_of(checkpoint: Checkpoint, data: str, option: str) -> str:
    """Where the ``data`` of a run is now: the place that is seen from the run, or the path from here.

    Where these are two places, and where only the one from here exists, the images decide; a note names the
    place that is not the path itself, and a warning says that no place has the images of the training.
    InputError where there is none.
    """
    from latentdiff.apps.cli.shared.progress import note
    from latentdiff.data.catalog import NAMED
    from latentdiff.files.paths import expanded
    from latentdiff.pipeline.checkpoint.runs import recorded_paths
    from latentdiff.train.state import load_train_state

    if data in NAMED:
        return data
    places = recorded_paths(checkpoint.folder, data)
    if not places:
        raise InputError(
            f"{data}: not found, {checkpoint.folder} was trained on it; {option} names where it is now"
        )
    place = places[0]
    seen = place != data or expanded(data).is_absolute() or _is_below_here(checkpoint.folder)
    if len(places) > 1 or not seen:
        progress = load_train_state(checkpoint)
        same = (each for each in places if _fingerprint(each, progress.options) == progress.data)
        if (found := next(same, None)) is None:
            note(
                f"warning: {checkpoint.folder} was trained on other images than those of"
                f" {' and of '.join(places)}; using {place}, {option} names others"
            )
            return place
        place = found
    if place != data:
        note(f"data: {data} is {place}")
    return place


def _is_below_here(folder: Path) -> bool:
    return Path.cwd() in (*Path(os.path.abspath(folder)).parents, *folder.resolve().parents)


def _fingerprint(place: str, saved: Mapping[str, Any]) -> str | None:
    """The fingerprint of the data at a place, read as the run did; None where it cannot be."""
    from latentdiff.config.base import parse
    from latentdiff.config.data import DataOptions
    from latentdiff.data import is_streamed, load_dataset, stream_dataset
    from latentdiff.files.paths import expanded
    from latentdiff.train.latent_dataset import is_encoded, load_encoded

    fields = {name: saved[name] for name in DataOptions.model_fields if name in saved}
    fields.pop("image_cache", None)
    try:
        if is_encoded(folder := expanded(place)):
            return load_encoded(folder).fingerprint()
        reading = parse(DataOptions, fields, place).reading()
        if saved.get("stream") or is_streamed(place):
            return stream_dataset(place, **reading).fingerprint()
        return load_dataset(place, **reading).fingerprint()
    except InputError:
        return None
