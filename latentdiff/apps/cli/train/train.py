"""`latentdiff train`: both trainings, one after the other."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import os
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latentdiff.apps.cli.shared.help import GENERAL, option, with_flags
from latentdiff.apps.cli.shared.options import build, cli_command, dry_run_option, flags, given, options_of
from latentdiff.config.data import DataOptions, StreamOptions
from latentdiff.config.loop import RunOptions
from latentdiff.config.training import TrainDenoiser, TrainVAE
from latentdiff.errors import counted

if TYPE_CHECKING:
    from latentdiff.data.types import ImageData

AUGMENTATIONS = ("flip", "random_shift")
CHOSEN = {  # here where they are not given, in words
    "size": "small images of one size as they are; others 64x64, large ones 128x128 from 120 minutes on",
    "flip": "no-flip; flip where the minutes would show each colour photo more than a hundred times",
    "random_shift": "0; where --flip is chosen for fewer than 1000 photos, a sixteenth of their side",
}
OWN_VAE = "own"  # --vae: train one on the images
SHARES = {"vae": 0.25, "denoiser": 0.75}  # of the minutes
MINUTES = 15.0
COMMON = (*DataOptions.model_fields, *StreamOptions.model_fields, "seed", "device", "threads", "runs")
OWN = {"vae": ("latent",), "denoiser": ("text", "prediction")}  # options that only one of the two has
SKIPPED = tuple(set(TrainVAE.model_fields) - set(COMMON) - {"latent"})
SKIPPED_OF_DENOISER = tuple(set(TrainDenoiser.model_fields) - {"text", "prediction"})


@cli_command(
    "train",
    "latentdiff train --data photos/ --minutes 60",
    "latentdiff train --config mnist-latent32",
    config=False,
)
@options_of(TrainVAE, skip=SKIPPED, chosen=CHOSEN, plain=("fit", "background", "labels_from", "flip"))
@options_of(TrainDenoiser, skip=SKIPPED_OF_DENOISER)
@options_of(RunOptions, skip=("init_from", "resume", "name"))
@option(
    "--minutes",
    type=click.FloatRange(0, 10**6, min_open=True),
    group="Training",
    help=(
        "Budget of both, a quarter of it for a VAE that is trained (default: that of --config, else"
        f" {MINUTES:g})."
    ),
)
@option(
    "--vae",
    group="Model",
    help=(
        "VAE: own trains one on these images, which begins with colour where that suits them; with colour of"
        " the package, a run or a checkpoint all minutes are the denoiser's (default: colour for colour"
        " images that it reconstructs well, else own)."
    ),
)
@option(
    "--name",
    group="Run",
    help="Name of the runs, NAME-vae and NAME-denoiser (default: the date).",
)
@option(
    "--config",
    group=GENERAL,
    help=(
        "YAML file with options, or the name of a recipe; sections train-vae and train-denoiser hold all"
        " their options. The command line wins."
    ),
)
@dry_run_option
@click.pass_context
def command(
    ctx: click.Context, /, dry_run: bool, as_json: bool, name: str | None, config: str | None, **values: Any
) -> int:
    """Train a VAE, and a denoiser on its latents.

    The same as `latentdiff train-vae` and then `latentdiff train-denoiser --vae` on its run, which have all
    the options; a --config file can give them here too. Stopped by a signal, the same command with its --name
    goes on where it was.
    """
    from latentdiff.apps.cli.shared.progress import note, note_loading

    note_loading()
    from latentdiff.apps.cli.train.common import PART_OF_TRAIN, REPORTED
    from latentdiff.parallel.device import resolve_device
    from latentdiff.parallel.processes import joined
    from latentdiff.pipeline.checkpoint.runs import Run

    if name is None:
        if os.environ.get("WORLD_SIZE", "1") != "1":
            raise click.UsageError("several processes train runs of one name: give --name")
        name = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    build(RunOptions, {"name": name, "runs": values["runs"]})
    chosen = given(values)
    if values["latent"] is not None and values["latent"].strip().lower() == "auto":
        values["latent"], chosen = None, [name for name in chosen if name != "latent"]
    if values["vae"] not in (None, OWN_VAE) and "latent" in chosen:
        raise click.UsageError(f"--latent is for a VAE that is trained, got it with --vae {values['vae']}")
    begin = None
    if config is None:
        settled, begin = _settle(values, Path(values["runs"]) / name)
        chosen += settled
    vae = None if values["vae"] in (None, OWN_VAE) else values["vae"]
    minutes = values["minutes"] or (None if config is not None else MINUTES)
    shared = [] if config is None else ["--config", config]
    parts, place = {}, Path(values["runs"]) / name
    if vae is None and not Run(_folder(place, "denoiser")).checkpoints():
        shares = SHARES
    else:  # what there is of a VAE stays as it is
        shares = {"denoiser": 1.0 if vae is not None else SHARES["denoiser"]}
    for kind, share in shares.items():
        words = shared + flags({key: values[key] for key in (*COMMON, *OWN[kind]) if key in chosen})
        with _errors_of(ctx):
            words += ["--init-from", begin] if kind == "vae" and begin is not None else []
            budget, named = None if minutes is None else minutes * share, vae if "vae" in chosen else None
            parts[kind] = _prepared(kind, place, words, budget, vae, named)
    _check(parts["denoiser"].params)
    ranks = ctx.with_resource(
        joined(resolve_device(values["device"]))
    )  # several processes meet once, for both
    code = 0
    answers: dict[str, Any] = {}
    for kind, part in parts.items():
        part.params["dry_run"] = dry_run
        part.meta[PART_OF_TRAIN] = True
        if answers:
            part.meta[REPORTED] = True
        with _errors_of(ctx):
            code, answers[kind] = _called(part, as_json=as_json or dry_run)
        if dry_run:
            parts["denoiser"].meta.update(part.meta)
        elif code:
            note(f"the same command with --name {name} goes on from here")
            break
        ranks.sums([0.0])  # wait until the first process has written what the next training reads
    if (as_json or dry_run) and ranks.first:
        click.echo(json.dumps(answers, indent=2))
    return code


def _settle(values: dict[str, Any], place: Path) -> tuple[list[str], str | None]:
    """Choose --size and --vae from the images where they are left open; the names of what was chosen, and the
    VAE that an own one begins with, if any.

    Images of different sizes, large ones and those that no latent grid fits are brought to another size. The
    VAE of the package is taken for colour images that it reconstructs well, unless a VAE was trained by this
    name before; an own one begins with it.
    """
    from latentdiff.apps.cli.shared.find import saved_options
    from latentdiff.files.paths import expanded
    from latentdiff.pipeline.checkpoint.runs import Run
    from latentdiff.train.choices import CODEC
    from latentdiff.train.latent_dataset import is_encoded

    options = build(DataOptions, {name: values[name] for name in DataOptions.model_fields})
    if is_encoded(expanded(options.data)):
        return [], None
    settled: list[str] = []
    minutes = values["minutes"] or MINUTES
    found = {kind: Run(_folder(place, kind)).newest_whole()[0] for kind in SHARES}
    saved = {kind: saved_options(checkpoint) for kind, checkpoint in found.items() if checkpoint is not None}
    if "denoiser" in saved and "vae" not in saved and (values["vae"] == OWN_VAE or values["latent"]):
        option, known = "--vae own" if values["vae"] else "--latent", _folder(place, "denoiser").name
        raise click.UsageError(f"{option}: {known} knows the latents of another VAE; choose another --name")
    _note_of_the_beginning(saved.get("denoiser"), values["minutes"], place.name)
    begun = next((each["size"] for each in saved.values() if "size" in each), None)
    if options.size is None and begun is not None:
        options = options.model_copy(update={"size": begun})
        values["size"], settled = begun, ["size"]
    keep = values["latent"] is not None or bool(saved)
    data, size = _sized(options, minutes, stream=values["stream"], keep=keep)
    if size is not None:
        values["size"], settled = size, ["size"]
    begin = None
    if values["latent"] is None and "vae" not in saved:
        if values["vae"] is None:
            values["vae"] = CODEC if "denoiser" in saved else _codec_of_the_package(data, own=False)
        elif values["vae"] == OWN_VAE and "denoiser" not in saved:
            begin = _codec_of_the_package(data, own=True)
    if not ("denoiser" in saved or values["text"]):
        changes = _augmentation_of(data, minutes, saved.get("vae"))
        values.update(changes)
        settled += changes
    return settled, begin


def _note_of_the_beginning(saved: Mapping[str, Any] | None, minutes: float | None, name: str) -> None:
    """Say that a denoiser goes on with what was chosen for the fewer minutes that it was begun for."""
    from latentdiff.apps.cli.shared.progress import note

    begun = saved.get("minutes") if saved is not None else None
    if saved is not None and begun is not None and minutes is not None and minutes > 2 * begun:
        note(
            f"{name} goes on with what was chosen for {counted(begun, 'minute')} of its denoiser (--network"
            f" {saved.get('network')}); a new --name chooses anew for {minutes:g}"
        )


def _augmentation_of(data: ImageData, minutes: float, saved: Mapping[str, Any] | None) -> dict[str, Any]:
    """How photos are changed at random where there are few of them for the minutes, with a note; without what
    the command line says. ``saved``: the options of a VAE that was trained by this name before, which stay.
    """
    from latentdiff.apps.cli.shared.progress import note
    from latentdiff.train.choices import usual_augmentation

    chosen = usual_augmentation(data.shape, len(data.train), minutes)
    if saved is not None:
        chosen = {name: saved[name] for name in AUGMENTATIONS if saved.get(name)}
    found = {name: value for name, value in chosen.items() if name not in given(AUGMENTATIONS)}
    words = {
        "flip": "mirrored (--no-flip leaves them)",
        "random_shift": f"shifted by up to {found.get('random_shift')} pixels (--random-shift 0)",
    }
    if found:
        how = " and ".join(words[name] for name in found)
        note(f"{len(data.train)} images are few for {counted(minutes, 'minute')}: {how}")
    return found


def _sized(options: DataOptions, minutes: float, *, stream: bool, keep: bool) -> tuple[ImageData, str | None]:
    """The images, and the --size that they were brought to for a training of ``minutes``, with a note.

    None: they stay as they are, as those of one size do with ``keep``.
    """
    from latentdiff.apps.cli.shared.progress import note
    from latentdiff.apps.cli.train.common import unreported_images
    from latentdiff.data.folder_pixels import SizesDiffer
    from latentdiff.data.resize import Fit
    from latentdiff.data.sizes import sizes_in_heads
    from latentdiff.nn.base_config import cross
    from latentdiff.train.choices import training_side, training_size

    if options.size is not None:
        return unreported_images(options, stream=stream), None
    sizes = sizes_in_heads(options.data, Fit(**options.reading()))
    several = len(set(sizes)) > 1
    if not several and all(keep or training_size(*each, minutes) == each for each in sizes):
        try:
            data = unreported_images(options, stream=stream)
        except SizesDiffer:  # in other heads than those that were read
            several = True
        else:
            sizes = [(data.height, data.width)]
            if keep or training_size(data.height, data.width, minutes) == (data.height, data.width):
                return data, None
    if several:
        side = training_side(statistics.median(height * width for height, width in sizes), minutes)
        what, size = "different sizes", (side, side)
    else:
        what, size = cross(*sizes[0]), training_size(*sizes[0], minutes)
    chosen = cross(*size)
    note(f"images of {what} are brought to {chosen} pixels; --size chooses another")
    return unreported_images(options.model_copy(update={"size": chosen}), stream=stream), chosen


def _codec_of_the_package(data: ImageData, *, own: bool) -> str | None:
    """The name of the package's VAE where it suits the images, else None, with a note; ``own``: for one of
    these images to begin with.
    """
    from latentdiff.apps.cli.shared.progress import note
    from latentdiff.nn.base_config import cross
    from latentdiff.pipeline.checkpoint.folder import INDEX, open_checkpoint
    from latentdiff.pipeline.checkpoint.pretrained import shipped_folder
    from latentdiff.pipeline.components import load_codec
    from latentdiff.train.choices import CODEC, LEAST_PSNR, LEAST_SIDE, reconstruction_psnr

    folder = shipped_folder(CODEC)
    if folder is None or data.channels != 3 or min(data.height, data.width) < LEAST_SIDE:
        return None
    checkpoint = open_checkpoint(folder)
    codec = load_codec(checkpoint, checkpoint.json(INDEX), image=data.shape)
    if codec.image_shape != data.shape:
        near = cross(*(8 * max(1, round(side / 8)) for side in (data.height, data.width)))
        note(f"the VAE `{CODEC}` of the package takes sides that 8 divides, --size {near}: training one")
        return None
    found = reconstruction_psnr(codec, data.train)
    if found < LEAST_PSNR:
        note(f"the VAE `{CODEC}` of the package reconstructs these images at {found:.1f} dB: training one")
        return None
    known = f"VAE `{CODEC}` of the package, which reconstructs these images at {found:.1f} dB"
    note(f"the training begins with the {known}" if own else f"{known}; --vae {OWN_VAE} trains one")
    return CODEC


def _folder(place: Path, kind: str) -> Path:
    """The folder of the run of a kind."""
    return place.with_name(f"{place.name}-{kind}")


@contextlib.contextmanager
def _errors_of(ctx: click.Context) -> Iterator[None]:
    """Usage errors of a training that begin with an option of this command, too, point to this one's help."""
    try:
        yield
    except click.UsageError as error:
        option = with_flags(error.message, ctx.command).partition(" ")[0].rstrip(":")
        if any(option in param.opts for param in ctx.command.params):
            error.ctx = ctx
        raise


def _prepared(
    kind: str, place: Path, words: list[str], minutes: float | None, vae: str | None, named: str | None
) -> click.Context:
    """The command line of one training, read, not run: its errors come before either training begins.

    ``named``: the VAE that the command line names, which a denoiser that goes on has to have.
    """
    from latentdiff.apps.cli.train import denoiser as train_denoiser
    from latentdiff.apps.cli.train import vae as train_vae
    from latentdiff.pipeline.checkpoint.runs import Run

    called: click.Command = {"vae": train_vae, "denoiser": train_denoiser}[kind].command
    folder = _folder(place, kind)
    words = words + ([] if minutes is None else ["--minutes", f"{minutes:g}"])
    started = bool(Run(folder).checkpoints())
    if kind == "denoiser" and not started:
        words += ["--vae", vae or str(_folder(place, "vae"))]
    elif kind == "denoiser" and named is not None:  # it keeps the VAE that it has
        words += ["--vae", named]
    words += ["--resume", str(folder)] if started else ["--name", folder.name]
    return called.make_context(f"latentdiff train-{kind}", words)


def _check(denoiser: dict[str, Any]) -> None:
    """What the denoiser would refuse once the VAE is trained is refused before."""
    if denoiser["pixel"]:
        raise click.UsageError("a model of pixels needs no VAE: use `latentdiff train-denoiser --pixel`")
    if not denoiser["text"]:
        return
    if not denoiser["stream"]:
        from latentdiff.apps.cli.train.common import unreported_images
        from latentdiff.train.build import check_captions

        check_captions(unreported_images(build(DataOptions, denoiser), stream=False))


def _called(part: click.Context, *, as_json: bool) -> tuple[int, Any]:
    """The exit code of a prepared training, and its answer where that is JSON."""
    part.params["as_json"] = as_json
    with part, contextlib.redirect_stdout(io.StringIO()) if as_json else contextlib.nullcontext() as out:
        code = int(part.command.invoke(part) or 0)
    return code, json.loads(out.getvalue() or "null") if out is not None else None
