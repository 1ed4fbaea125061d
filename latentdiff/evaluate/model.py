"""A trained model, part by part: what `latentdiff evaluate` measures of a run, and the figures it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentdiff.config.sampling import Sampling
from latentdiff.data import Dataset
from latentdiff.data.classes import ClassBalance
from latentdiff.errors import InputError
from latentdiff.evaluate import figures
from latentdiff.evaluate.alignment import FIGURE, ListScore, can_be_read, evaluate_alignment
from latentdiff.evaluate.denoiser import DenoiserScores, score_denoiser
from latentdiff.evaluate.images import NEIGHBORS, SampleScores, score_features
from latentdiff.evaluate.neighbors import NeighborScores, find_neighbors, score_neighbors
from latentdiff.evaluate.read import split_of
from latentdiff.evaluate.reconstruct import (
    ReconstructionScores,
    default_levels,
    reconstruct_from,
    score_reconstruction,
)
from latentdiff.evaluate.reference import Reference, at_most, random_subset, rows
from latentdiff.evaluate.sampling import draw_features
from latentdiff.evaluate.settings import EvaluationSettings, MetricNetworks
from latentdiff.evaluate.vae import VAEScores, encode_all, score_vae
from latentdiff.metrics.features import Features
from latentdiff.nn import Autoencoder
from latentdiff.pipeline.codec import VAECodec
from latentdiff.pipeline.pipeline import Pipeline

PARTS = ("vae", "samples", "denoiser", "reconstruction", "scenes")


@dataclass(frozen=True)
class SamplingScores:
    """Samples against the reference, as many real images against the same (the floor), and whether samples
    are copies.
    """

    samples: SampleScores
    floor: SampleScores | None
    neighbors: NeighborScores | None
    settings: Sampling
    class_balance: ClassBalance | None
    seed: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return {
            **self.samples.as_dict(),
            "floor": None if self.floor is None else self.floor.as_dict(),
            "neighbors": None if self.neighbors is None else self.neighbors.as_dict(),
            "settings": self.settings.model_dump(),
            "class_balance": self.class_balance,
            "seed": self.seed,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class ModelScores:
    """The parts that were measured; the others are None."""

    vae: VAEScores | None = None
    samples: SamplingScores | None = None
    denoiser: DenoiserScores | None = None
    reconstruction: tuple[ReconstructionScores, ...] | None = None
    scenes: tuple[ListScore, ...] | None = None

    def as_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in PARTS:
            part = getattr(self, name)
            found[name] = (
                [each.as_dict() for each in part] if isinstance(part, tuple) else part and part.as_dict()
            )
        return found


def parts_of(model: Pipeline | Autoencoder) -> tuple[str, ...]:
    """What there is to measure of a model."""
    if isinstance(model, Autoencoder):
        return PARTS[:1]
    parts = PARTS if can_be_read(model) else PARTS[:-1]
    return parts if isinstance(model.codec, VAECodec) else parts[1:]


def evaluate_model(
    model: Pipeline | Autoencoder,
    data: Dataset,
    judge: MetricNetworks,
    request: EvaluationSettings,
    *,
    parts: Sequence[str] = PARTS,
) -> ModelScores:
    """Measure those of the ``parts`` that the model has, on ``data``; the figures go to the request's folder.

    Of several processes the first measures; the others draw their share of its samples.
    """
    wanted = set(parts) & set(parts_of(model))
    _check_numbers(wanted, data, request)
    if not request.ranks.first:
        wanted &= {"samples"}
    if isinstance(model, Pipeline) and "reconstruction" in wanted:
        _check_guidance(model, data, request)
    vae = model if isinstance(model, Autoencoder) else getattr(model.codec, "vae", None)
    found: dict[str, Any] = {}
    if "vae" in wanted and vae is not None:
        found["vae"] = evaluate_vae(vae, data, judge, request)
    if isinstance(model, Pipeline):
        if "samples" in wanted:
            found["samples"] = evaluate_samples(model, data, judge, request)
        if "denoiser" in wanted:
            found["denoiser"] = evaluate_denoiser(model, data, request)
        if "reconstruction" in wanted:
            found["reconstruction"] = evaluate_reconstruction(model, data, request)
        if "scenes" in wanted:
            found["scenes"] = evaluate_alignment(model, data, request)
    return ModelScores(**found)


def _check_numbers(parts: set[str], data: Dataset, request: EvaluationSettings) -> None:
    """InputError, before any work, where there are too few images to compare samples with."""
    found = len(getattr(data, request.split))
    if "samples" in parts and found <= NEIGHBORS:
        others = ", ".join(sorted(parts - {"samples"}))
        raise InputError(
            f"{data.name}: expected more than {NEIGHBORS} images in the {request.split} split to compare"
            f" samples with, found {found}; --split train has {len(data.train)}"
            + (f", --what {others} needs none" if others else "")
        )


def pictures(scores: ModelScores) -> tuple[str, ...]:
    """The names of the figures that were left."""
    found = [] if scores.vae is None else ["vae.png"]
    if scores.samples is not None:
        sides = scores.samples.samples, scores.samples.floor
        found.append("samples.png")
        found += ["classes.png"] if all(side is not None and side.histogram for side in sides) else []
        found += [] if scores.samples.neighbors is None else ["neighbors.png"]
    found += [] if scores.denoiser is None else ["denoiser.png"]
    found += [] if scores.reconstruction is None else ["reconstruction.png"]
    return (*found, *([] if scores.scenes is None else [FIGURE]))


def evaluate_vae(
    vae: Autoencoder, data: Dataset, judge: MetricNetworks, request: EvaluationSettings
) -> VAEScores:
    """The VAE over a split, of which at most as many images as there are samples are measured; leaves
    vae.png.
    """
    images = at_most(split_of(data, request.split), request.n, seed=request.seed)
    with request.stage("reconstructions") as bar:
        made = encode_all(vae, images.images, progress=bar.update)
    figures.save_vae_figure(images.images, made, request.out / "vae.png", labels=images.labels)
    reference = judge.reference(images, request)
    with request.stage("distances of the reconstructions") as bar:
        return score_vae(
            vae,
            images.images,
            encoded=made,
            reference=reference,
            perceptual=judge.perceptual,
            resampling=request.resampling,
            batch=request.batch,
            progress=bar.update,
        )


def evaluate_samples(
    pipeline: Pipeline, data: Dataset, judge: MetricNetworks, request: EvaluationSettings
) -> SamplingScores | None:
    """Samples against a split, their floor and their neighbors; leaves samples.png, neighbors.png and
    classes.png.

    Several processes share the drawing; all but the first have nothing to tell.
    """
    _check_shape(pipeline, data)
    split = split_of(data, request.split)
    asked = len(pipeline.classes) if request.settings.guidance else 0
    balance: ClassBalance = request.class_balance or ("data" if pipeline.class_counts else "equal")
    labels = pipeline.class_labels(request.n, balance) if asked else None
    texts = _texts(pipeline, data, request)
    images, features, seconds = draw_features(pipeline, judge.network, request, labels=labels, texts=texts)
    if not request.ranks.first:
        return None
    reference = judge.reference(split, request)
    figures.save_sample_grid(images, request.out / "samples.png", labels=labels)
    known = judge.known(labels, pipeline.classes)
    with request.stage("distances"):
        scores = score_features(features, reference, labels=known, resampling=request.resampling)
        real = _real_images(data, judge, request)
        floor = _floor(real, reference, request)
        neighbors = _neighbors(images, features, real, reference, request)
    if scores.histogram and floor is not None and floor.histogram:
        seen = {"samples": scores.histogram, "real images": floor.histogram}
        names = judge.network.class_names or tuple(map(str, range(len(scores.histogram))))
        figures.save_histogram(seen, names, request.out / "classes.png")
    return SamplingScores(
        scores,
        floor,
        neighbors,
        settings=pipeline.with_defaults(request.settings),
        class_balance=balance if asked else None,
        seed=request.seed,
        seconds=seconds,
    )


def _real_images(data: Dataset, judge: MetricNetworks, request: EvaluationSettings) -> Reference:
    """Training images (test images where those are the reference): all if neighbors are looked up, else as
    many as samples.
    """
    other = split_of(data, "test" if request.split == "train" else "train")
    if request.neighbors:
        return judge.reference(other, request)
    return judge.reference(at_most(other, request.n, seed=request.seed), request)


def _floor(real: Reference, reference: Reference, request: EvaluationSettings) -> SampleScores | None:
    """The scores of as many real images as there are samples: what perfect samples would get.

    None for too few.
    """
    part = real.take(random_subset(len(real), request.n, seed=request.seed))
    if len(part) <= NEIGHBORS:
        return None
    return score_features(part.features, reference, labels=part.labels, resampling=request.resampling)


def _neighbors(
    images: Tensor, features: Features, train: Reference, reference: Reference, request: EvaluationSettings
) -> NeighborScores | None:
    """Whether samples are copies of training images, by the reference's images; None where these are the
    training images.
    """
    if not request.neighbors or request.split == "train":
        return None
    sides = []
    first = torch.arange(min(request.neighbors, len(images)))
    spread = random_subset(
        len(reference), request.neighbors, seed=request.seed
    )  # data may be sorted by class
    for mine, theirs, chosen in ((images, features, first), (reference.images, reference.features, spread)):
        sides.append(find_neighbors(mine[chosen], rows(theirs, chosen), train))
    figures.save_neighbor_figure(images, sides[0], train.images, request.out / "neighbors.png")
    return score_neighbors(*sides, resampling=request.resampling)


def evaluate_denoiser(pipeline: Pipeline, data: Dataset, request: EvaluationSettings) -> DenoiserScores:
    """The denoiser's losses on some images of a split; leaves denoiser.png."""
    images, labels = _some_of(pipeline, data, request)
    with request.stage("denoiser") as bar:
        scores = score_denoiser(
            pipeline,
            images,
            labels=labels,
            weighting=request.weighting,
            seed=request.seed,
            resampling=request.resampling,
            progress=bar.update,
        )
    figures.save_level_figure(
        scores.by_level, request.out / "denoiser.png", prediction=pipeline.diffusion.prediction
    )
    return scores


def evaluate_reconstruction(
    pipeline: Pipeline, data: Dataset, request: EvaluationSettings
) -> tuple[ReconstructionScores, ...]:
    """Some images of a split noised to T/10, T/4 and T/2 and brought back; leaves reconstruction.png."""
    images, labels = _some_of(pipeline, data, request)
    made = []
    for t in default_levels(pipeline.schedule.T):
        with request.stage(f"reconstruction from t = {t}") as bar:
            made.append(
                reconstruct_from(
                    pipeline,
                    images,
                    t,
                    labels=labels,
                    settings=request.settings,
                    seed=request.seed,
                    progress=bar.update,
                )
            )
    figures.save_reconstruction_figure(images, made, request.out / "reconstruction.png")
    return tuple(score_reconstruction(images, each, resampling=request.resampling) for each in made)


def _texts(pipeline: Pipeline, data: Dataset, request: EvaluationSettings) -> Sequence[str] | None:
    """What a model that listens to texts is asked for: the captions of the split; None for other models, or
    unguided by any.
    """
    if pipeline.tokenizer is None or not request.settings.guidance:
        return None
    captions = split_of(data, request.split).captions
    if captions is None:
        raise InputError(
            f"{data.name}: has no captions to ask this model for; expected --guidance 0, or other --data"
        )
    return captions


def _some_of(pipeline: Pipeline, data: Dataset, request: EvaluationSettings) -> tuple[Tensor, Tensor | None]:
    """Some images of the split with what the network is told of each, the same for the same seed."""
    _check_shape(pipeline, data)
    split = split_of(data, request.split)
    chosen = random_subset(len(split.images), request.images, seed=request.seed)
    if pipeline.classes and split.labels is not None and int(split.labels.max()) >= len(pipeline.classes):
        known, found = len(pipeline.classes), int(split.labels.max()) + 1
        raise InputError(f"{data.name}: the model knows {known} classes, the data has {found}")
    if texts := _texts(pipeline, data, request):
        return split.images[chosen], pipeline.labels([texts[k] for k in chosen.tolist()], len(chosen))
    return split.images[chosen], None if split.labels is None else split.labels[chosen]


def _check_shape(pipeline: Pipeline, data: Dataset) -> None:
    wanted, found = list(pipeline.codec.image_shape), list(data.shape)
    if wanted != found:
        raise InputError(
            f"{data.name}: expected images {wanted} (channels, height, width), as the model makes, found"
            f" {found}"
        )


def _check_guidance(pipeline: Pipeline, data: Dataset, request: EvaluationSettings) -> None:
    """InputError where reconstructions would be guided by labels that the data have not: said before the
    work.
    """
    guidance = request.settings.guidance
    if guidance not in (0, 1) and pipeline.classes and split_of(data, request.split).labels is None:
        raise InputError(
            f"{data.name}: guidance {guidance:g} needs labels for the reconstructions, these images have"
            " none; expected --what without reconstruction, or --guidance 1"
        )
