"""`latentdiff evaluate` after its options are checked: load, measure, write, print."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from latentdiff import evaluate
from latentdiff._version import __version__
from latentdiff.apps.cli.measure.scores import model_tables, sets_tables, show
from latentdiff.apps.cli.shared.find import find_run, saved_options, trained_on
from latentdiff.apps.cli.shared.options import build
from latentdiff.apps.cli.shared.progress import SamplingBar, note, print_report, result, together
from latentdiff.apps.cli.train.common import read_data
from latentdiff.config.data import DataOptions
from latentdiff.config.sampling import Sampling
from latentdiff.data import Dataset, ImageSet, read_images
from latentdiff.data.classes import ClassBalance
from latentdiff.data.resize import Fit
from latentdiff.errors import InputError
from latentdiff.evaluate.score_figures import save_sets_figure
from latentdiff.files.untrusted import read_json
from latentdiff.files.writing import write_whole
from latentdiff.metrics.features import (
    FeatureNetwork,
    PerceptualNetwork,
    extract,
    feature_network,
    perceptual_network,
)
from latentdiff.metrics.names import FEATURE_SIZE, PERCEPTUAL_NAMES, SIZED, default_features, sized_name
from latentdiff.nn import Autoencoder
from latentdiff.parallel.device import dtype_name, network_dtype, resolve_device
from latentdiff.pipeline.checkpoint.folder import INDEX, Checkpoint
from latentdiff.pipeline.checkpoint.index import holds_vae_alone
from latentdiff.pipeline.components import load_autoencoder
from latentdiff.pipeline.pipeline import Pipeline, from_checkpoint
from latentdiff.viz.image_folder import remove_written

RESULT = "evaluation.json"
FLATTERED = (
    "VAEs of digits learn through the network mnist unless --perceptual 0 said otherwise, which flatters the"
    " distances it measures here; --features efficientnet-lite0 measures by another network"
)


def evaluate_run(values: dict[str, Any], settings: Sampling, *, as_json: bool) -> int:
    """Measure a run or checkpoint."""
    missing = (
        f"no runs in {values['runs']}/; make one with `latentdiff train-vae`, name a model of the package"
        " (`latentdiff models`) with --run, or give --images and --reference"
    )
    checkpoint = find_run(
        values["run"],
        values["runs"],
        wanted=lambda index: "denoiser" in index or holds_vae_alone(index),
        missing=missing,
    )
    ranks, device = together(_device(values["device"]), "the samples")
    data = read_data(build(DataOptions, values | trained_on(checkpoint)))
    model = _model(checkpoint, device, data)
    parts = _parts(values["what"], evaluate.parts_of(model), str(checkpoint.folder))
    if isinstance(model, Pipeline):
        _check_settings(model, settings, values["class_balance"])
    as_named = ("n", "class_balance", "split", "neighbors", "seed", "batch")
    dtype = network_dtype(values["dtype"], device)
    weighting = saved_options(checkpoint).get("weighting")  # which older runs do not record
    chosen = evaluate.EvaluationSettings(
        **{name: values[name] for name in as_named},
        sampling=settings,
        images=values["test_images"],
        weighting=weighting if weighting in ("uniform", "min-snr") else "uniform",
        resampling=_resampling(values),
        dtype=dtype,
        stage=SamplingBar,
        ranks=ranks,
    )
    networks = _networks(values, data.shape, data.classes or (), device)
    if ranks.count > 1 and "samples" not in parts:
        raise InputError(
            f"{ranks.count} processes share the samples of an evaluation, --what {','.join(parts)} draws none"
        )
    scores = evaluate.evaluate_model(model, data, networks, chosen, parts=parts)
    if not ranks.first:
        return 0
    answer = {"run": str(checkpoint.folder), "data": data.name, "split": chosen.split, "parts": parts}
    names = model.classes if isinstance(model, Pipeline) else ()
    if {"samples", "scenes"} & set(parts):
        answer["dtype"] = dtype_name(dtype)
    if scores.samples is not None:
        names = scores.samples.class_names or names  # numbered in the tables as the network's
    return _write(
        values,
        f"{checkpoint.folder} on the {chosen.split} split of {data.name}",
        answer | scores.as_dict(),
        model_tables(scores, names),
        _warnings(scores, networks, latent="vae" in evaluate.parts_of(model)),
        evaluate.save_figures(scores, values["out"]),
        as_json=as_json,
    )


def evaluate_sets(values: dict[str, Any], *, as_json: bool) -> int:
    """Compare two sets of images."""
    options = build(DataOptions, values)
    fit = Fit(**options.reading())
    root = None if options.data_root is None else Path(options.data_root)
    sides = []
    for name in ("images", "reference"):
        sides.append(read_images(values[name], split=values["split"], fit=fit, root=root))
        print_report(sides[-1].report, name)
    mine, other = sides
    if values["paired"]:
        other = evaluate.aligned(mine, other)
    ranks, device = together(_device(values["device"]), "the samples of a run")
    if ranks.count > 1:
        raise InputError(f"{ranks.count} processes share the samples of a run; --images are measured by one")
    classes = other.classes or mine.classes
    networks = _networks(values, tuple(mine.images.shape[1:]), classes, device)
    resampling = _resampling(values)
    settings = evaluate.EvaluationSettings(batch=values["batch"], stage=SamplingBar)
    reference = networks.reference(other, settings)
    labels = networks.network_labels(mine.labels, mine.classes)
    with SamplingBar("features of the images") as bar:
        features = extract(networks.network, mine.images, batch=settings.batch, progress=bar.update)
    scores = evaluate.score_features(features, reference, labels=labels, resampling=resampling)
    agreement = None
    if reference.labels is None and len(other.classes) > 1:
        wanted = _labels_among(mine, other.classes)
        agreement = evaluate.score_set_classes(
            features, wanted, reference, other.classes, cache=networks.cache, resampling=resampling
        )
    if mine.labels is not None and labels is None and (agreement is None or agreement.accuracy is None):
        names = f"{networks.network.name} or of {other.name}"
        note(f"no class accuracy: the classes of {mine.name} are not those of {names}")
    pairs = None
    if values["paired"]:
        pairs = evaluate.score_pairs(
            mine.images,
            other.images,
            perceptual=networks.perceptual,
            resampling=resampling,
            batch=settings.batch,
        )
    figure = values["out"] / "images.png"
    save_sets_figure((mine.images, other.images), (mine.name, other.name), figure, paired=values["paired"])
    answer = {"images": mine.name, "split": values["split"], **scores.as_dict()}
    return _write(
        values,
        f"{mine.name} against {other.name}",
        answer
        | {
            "agreement": None if agreement is None else agreement.as_dict(),
            "pairs": None if pairs is None else pairs.as_dict(),
        },
        sets_tables(scores, pairs, networks.network.class_names or classes, agreement),
        evaluate.size_warnings(scores) + _kinds(mine, other, paired=values["paired"]),
        [figure],
        as_json=as_json,
    )


def _labels_among(images: ImageSet, classes: tuple[str, ...]) -> torch.Tensor | None:
    """The labels int64 [N] of the images in the numbering of ``classes``; None where theirs are others."""
    if images.labels is None or not images.classes or not set(images.classes) <= set(classes):
        return None
    return torch.tensor([classes.index(name) for name in images.classes])[images.labels]


def _kinds(mine: ImageSet, other: ImageSet, *, paired: bool) -> tuple[str, ...]:
    """Warnings about two sets of different shapes, or with images in common."""
    here, there = (list(each.images.shape[1:]) for each in (mine, other))
    if here != there:
        line = f"images {here} against {there} (channels, height, width): every distance measures that too"
        return (line,)
    if not paired and (both := evaluate.shared(mine.images, other.images)) > 0:
        line = f"{both} of {len(mine.images)} images stand in {other.name} too"
        return (f"{line}: intervals assume independent sets",)
    return ()


def earlier(out: Path) -> Callable[[Path], bool]:
    """A test for the files of an earlier evaluation in ``out``."""
    try:
        listed = read_json(out / RESULT).get("wrote")
    except InputError:
        listed = None
    names = {Path(str(name)).name for name in listed} if isinstance(listed, list) else set()
    return lambda path: path.parent == out and path.name in names


def _write(
    values: dict[str, Any],
    title: str,
    answer: dict[str, Any],
    tables: list[Table],
    warnings: tuple[str, ...],
    figures: list[Path],
    *,
    as_json: bool,
) -> int:
    """Write evaluation.json, and print the result."""
    out, intervals = values["out"], _resampling(values).options()
    about = {
        "resampling": intervals,
        "seed": values["seed"],
        "warnings": warnings,
        "versions": {"latentdiff": __version__, "torch": str(torch.__version__)},
        "wrote": [str(path) for path in (out / RESULT, *figures)],
    }
    text = json.dumps(answer | about, indent=2, allow_nan=False, default=str) + "\n"
    remove_written(out, earlier(out), keep=figures)
    write_whole(out / RESULT, lambda path: path.write_text(text, encoding="utf-8"))
    for line in warnings:
        note(f"warning: {line}")
    if as_json:
        result(json.loads(text), as_json=True, text="")
    else:
        show(title, tables, str(out), intervals=intervals)
    return 0


def _device(name: str) -> torch.device:
    """The device of --device, or the CPU in place of one without float64, which statistics need."""
    device = resolve_device(name)
    if device.type != "mps":
        return device
    note("mps has no float64, which the figures are computed in: measuring on the CPU")
    return torch.device("cpu")


def _model(checkpoint: Checkpoint, device: torch.device, data: Dataset) -> Pipeline | Autoencoder:
    """The denoiser of a checkpoint with all parts, or its autoencoder where it holds nothing else."""
    index = checkpoint.json(INDEX)
    if "restorer" in index:
        raise InputError(
            f"{checkpoint.folder}: is of cold diffusion, which `latentdiff evaluate` does not measure; score"
            " what `sample-cold` draws with --images"
        )
    if "denoiser" in index:
        return from_checkpoint(checkpoint).to(device)
    return load_autoencoder(checkpoint, index, data.shape)[0].to(device)


def _parts(text: str | None, has: tuple[str, ...], where: str) -> tuple[str, ...]:
    """--what as parts; all that the run ``has`` by default. InputError for a part that it lacks."""
    wanted = has if text is None else tuple(part.strip() for part in text.split(","))
    for part in wanted:
        if part not in has:
            raise InputError(
                f"{where}: has no {part} to evaluate, only {', '.join(has)}; --what {','.join(has)} takes"
                " these"
            )
    return tuple(part for part in has if part in wanted)


def _check_settings(pipeline: Pipeline, settings: Sampling, balance: ClassBalance | None) -> None:
    """InputError for settings that do not fit the model, before any work."""
    if not (pipeline.classes or pipeline.tokenizer) and settings.guidance not in (None, 1):
        raise InputError(
            f"--guidance {settings.guidance:g}: this model is unconditional; leave --guidance out, or --run"
            " NAME a conditional one"
        )
    if balance is not None and not (pipeline.classes and settings.guidance != 0):
        raise InputError(
            f"--class-balance {balance}: classes take no part in these samples; leave --class-balance out"
        )
    pipeline.class_labels(1, balance or "equal")
    pipeline.plan(settings)


def _resampling(values: dict[str, Any]) -> evaluate.Resampling:
    return evaluate.Resampling(values["resamples"], values["confidence"], values["seed"])


def _networks(
    values: dict[str, Any], shape: tuple[int, ...], classes: tuple[str, ...], device: torch.device
) -> evaluate.MetricNetworks:
    """The networks of the options, or those that suit the images, named on stderr if chosen here."""
    name = values["features"] or default_features(shape, classes)
    other = values["perceptual"] or (name if name in PERCEPTUAL_NAMES else None)
    size = values["feature_size"]
    if size is not None and not {name, other} & SIZED.keys():
        raise InputError(f"`feature_size` is for the network {' or '.join(SIZED)}, got {name} and {other}")

    def side(network: str) -> int | None:
        return (size or FEATURE_SIZE) if network in SIZED else None

    def shown(network: str) -> str:
        pixels = side(network)
        return network if pixels is None else sized_name(network, pixels)

    def weights(key: str) -> Path | None:
        return None if values[key] is None else Path(values[key])

    def load() -> FeatureNetwork:
        if values["features"] is None:
            why = (
                "28x28 grey images are taken for digits" if name == "mnist" else "features of natural images"
            )
            note(f"feature network: {shown(name)} ({why}); --features chooses")
        return feature_network(name, weights=weights("feature_weights"), side=side(name), device=device)

    def load_perceptual() -> PerceptualNetwork | None:
        if other is None:
            note(f"no perceptual distance: {name} has none; --perceptual-network chooses one")
            return None
        found = weights("perceptual_weights")
        return perceptual_network(other, weights=found, side=side(other), device=device)

    cache = None
    if values["cache"]:
        try:
            cache = evaluate.FeatureCache(evaluate.cache_folder(), note)
        except InputError as error:
            note(f"the features are not cached: {error}")
    return evaluate.MetricNetworks(load, load_perceptual, cache)


def _warnings(
    scores: evaluate.ModelScores, networks: evaluate.MetricNetworks, *, latent: bool
) -> tuple[str, ...]:
    """Warnings that limit the meaning of the scores."""
    samples, vae, found = scores.samples, scores.vae, list[str]()
    if samples is not None:
        found += evaluate.size_warnings(samples)
        if samples.neighbors is not None and samples.neighbors.copies is not None:
            found.append(samples.neighbors.verdict)
    if vae is not None and vae.fd is not None:
        found += evaluate.frechet_warnings(vae.n, vae.n, networks.network.name, networks.network.dim)
    measured = samples is not None or (vae is not None and vae.fd is not None)
    if latent and measured and networks.network.name == "mnist":
        found.append(FLATTERED)
    bits = None if scores.denoiser is None else scores.denoiser.bits_per_dimension
    if bits is not None and bits.total.value > 8:
        found.append(
            f"{bits.total.value:.3g} bits per dimension, more than the 8 of uncompressed pixels: this"
            " model is no measure of likelihood"
        )
    if vae is not None and vae.collapsed:
        found.append("the VAE has collapsed: no unit of its latent depends on the image")
    return tuple(found)
