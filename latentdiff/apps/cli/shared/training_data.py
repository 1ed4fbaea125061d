"""Find the training data of a run, from any working folder."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentdiff.errors import InputError

if TYPE_CHECKING:
    from latentdiff.pipeline.checkpoint.folder import Checkpoint


def saved_options(checkpoint: Checkpoint) -> dict[str, Any]:
    """The options that a run was trained with, its paths as they were written; {} for a model without a
    training state.
    """
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
    try:
        if is_encoded(folder := expanded(place)):
            return load_encoded(folder).fingerprint()
        reading = parse(DataOptions, fields, place).reading()
        if saved.get("stream") or is_streamed(place):
            return stream_dataset(place, **reading).fingerprint()
        return load_dataset(place, **reading).fingerprint()
    except InputError:
        return None
