"""A trained model, part by part: the scores that `latentdiff evaluate` computes of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from latentdiff.config.evaluation import PARTS
from latentdiff.config.sampling import Sampling
from latentdiff.data import Dataset, split_of
from latentdiff.data.classes import ClassBalance
from latentdiff.errors import InputError
from latentdiff.evaluate.alignment import AlignmentScores, evaluate_alignment, is_scene_model
from latentdiff.evaluate.classes import ClassAgreement, class_classifier, score_classes
from latentdiff.evaluate.denoiser import DenoiserScores, score_denoiser
from latentdiff.evaluate.examples import ImageGrid, sample_examples, vae_examples
from latentdiff.evaluate.images import SampleScores, score_features
from latentdiff.evaluate.interval_score import Scores
from latentdiff.evaluate.metric_table import NEIGHBORS
from latentdiff.evaluate.neighbors import NeighborScores, find_neighbors, neighbor_examples, score_neighbors
from latentdiff.evaluate.reconstruct import (
    ReconstructionScores,
    default_levels,
    reconstruct_from,
    score_reconstruction,
)
from latentdiff.evaluate.reference import Reference, at_most, random_subset
from latentdiff.evaluate.sampling import draw_features
from latentdiff.evaluate.settings import EvaluationSettings, MetricNetworks
from latentdiff.evaluate.vae import VAEScores, encode_all, score_vae
from latentdiff.metrics.features import Features
from latentdiff.metrics.names import default_features
from latentdiff.nn import Autoencoder
from latentdiff.pipeline.codec import VAECodec
from latentdiff.pipeline.pipeline import Pipeline


@dataclass(frozen=True, kw_only=True)
class SamplingScores(SampleScores):
    """Samples against the reference; ``floor``: as many real images against the same, the real baseline;
    ``agreement``: their classes, where the feature network does not know those; ``neighbors``: whether
    samples are copies.
    """

    floor: SampleScores | None
    agreement: ClassAgreement | None = None
    neighbors: NeighborScores | None
    settings: Sampling
    class_balance: ClassBalance | None
    seed: int
    seconds: float
    examples: ImageGrid | None = field(default=None, repr=False, compare=False)
    class_names: tuple[str, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True)
class ModelScores(Scores):
    """The parts that were measured; the others are None."""

    vae: VAEScores | None = None
    samples: SamplingScores | None = None
    denoiser: DenoiserScores | None = None
    reconstruction: tuple[ReconstructionScores, ...] | None = None
    scenes: tuple[AlignmentScores, ...] | None = None


def parts_of(model: Pipeline | Autoencoder) -> tuple[str, ...]:
    """The parts of a model that can be measured."""
    if isinstance(model, Autoencoder):
        return PARTS[:1]
    parts = [*PARTS] if is_scene_model(model) else [*PARTS[:-1]]
    lacking = set() if isinstance(model.codec, VAECodec) else {"vae"}
    lacking |= set() if model.student is None else {"denoiser", "reconstruction"}  # it knows few noise levels
    return tuple(part for part in parts if part not in lacking)


def evaluate_model(
    model: Pipeline | Autoencoder,
    data: Dataset,
    networks: MetricNetworks,
    settings: EvaluationSettings,
    *,
    parts: Sequence[str] = PARTS,
) -> ModelScores:
    """Measure those of the ``parts`` that the model has, on ``data``.

    Of several processes the first measures; the others draw their share of its samples.
    """
    wanted = set(parts) & set(parts_of(model))
    _check_numbers(wanted, data, settings)
    if not settings.ranks.first:
        wanted &= {"samples"}
    if isinstance(model, Pipeline) and "reconstruction" in wanted:
        _check_guidance(model, data, settings)
    vae = model if isinstance(model, Autoencoder) else getattr(model.codec, "vae", None)
    found: dict[str, Any] = {}
    if {"vae", "samples"} <= wanted:  # the VAE's images are among the reference of the samples
        networks.reference(split_of(data, settings.split), settings)
    if "vae" in wanted and vae is not None:
        found["vae"] = evaluate_vae(vae, data, networks, settings)
    if isinstance(model, Pipeline):
        if "samples" in wanted:
            found["samples"] = evaluate_samples(model, data, networks, settings)
        if "denoiser" in wanted:
            found["denoiser"] = evaluate_denoiser(model, data, settings)
        if "reconstruction" in wanted:
            found["reconstruction"] = evaluate_reconstruction(model, data, settings)
        if "scenes" in wanted:
            found["scenes"] = evaluate_alignment(model, data, settings)
    return ModelScores(**found)


def _check_numbers(parts: set[str], data: Dataset, settings: EvaluationSettings) -> None:
    """InputError, before any work, where there are too few images to compare samples with."""
    found = len(getattr(data, settings.split))
    if "samples" in parts and found <= NEIGHBORS:
        others = ", ".join(sorted(parts - {"samples"}))
        raise InputError(
            f"{data.name}: expected more than {NEIGHBORS} images in the {settings.split} split to compare"
            f" samples with, found {found}; split train has {len(data.train)}"
            + (f", parts {others} need none" if others else "")
        )


def evaluate_vae(
    vae: Autoencoder, data: Dataset, networks: MetricNetworks, settings: EvaluationSettings
) -> VAEScores:
    """Score the VAE on a split, on at most as many images as there are samples."""
    reference = networks.some_of(split_of(data, settings.split), settings)
    with settings.stage("reconstructions") as bar:
        made = encode_all(vae, reference.images, progress=bar.update)
    with settings.stage("distances of the reconstructions") as bar:
        scores = score_vae(
            vae,
            reference.images,
            encoded=made,
            reference=reference,
            perceptual=networks.perceptual,
            resampling=settings.resampling,
            batch=settings.batch,
            progress=bar.update,
        )
    return replace(scores, examples=vae_examples(reference.images, made.copies, reference.data_labels))


def evaluate_samples(
    pipeline: Pipeline, data: Dataset, networks: MetricNetworks, settings: EvaluationSettings
) -> SamplingScores | None:
    """Score samples against a split, with their real baseline and their neighbors.

    Several processes share the drawing; None for all but the first.
    """
    _check_shape(pipeline, data)
    split = split_of(data, settings.split)
    by_class = bool(pipeline.classes) and settings.sampling.guidance != 0
    balance: ClassBalance = settings.class_balance or ("data" if pipeline.class_counts else "equal")
    labels = pipeline.class_labels(settings.n, balance) if by_class else None
    texts = _texts(pipeline, data, settings)
    images, features, seconds = draw_features(
        pipeline, networks.network, settings, labels=labels, texts=texts
    )
    if not settings.ranks.first:
        return None
    reference = networks.reference(split, settings)
    real = _real_images(data, networks, settings)
    with settings.stage("distances"):
        scores = score_features(
            features,
            reference,
            labels=networks.network_labels(labels, pipeline.classes),
            resampling=settings.resampling,
        )
        floor = _real_baseline(real, reference, settings)
    digits = default_features(data.shape, data.classes) == "mnist"  # mirrored, they are other signs
    return SamplingScores(
        **vars(scores),
        floor=floor,
        agreement=_agreement(pipeline, data, labels, features, (real, reference), networks, settings),
        neighbors=_neighbors(images, features, real, reference, networks, settings, mirrored=not digits),
        settings=pipeline.with_defaults(settings.sampling),
        class_balance=balance if by_class else None,
        seed=settings.seed,
        seconds=seconds,
        examples=sample_examples(images, labels),
        class_names=networks.network.class_names,
    )


def _agreement(
    pipeline: Pipeline,
    data: Dataset,
    labels: Tensor | None,
    features: Features,
    sides: tuple[Reference, Reference],
    networks: MetricNetworks,
    settings: EvaluationSettings,
) -> ClassAgreement | None:
    """The classes of samples by a classifier fitted to the training images; None where the feature network
    knows the classes itself, and for data without.
    """
    train, real = reversed(sides) if settings.split == "train" else sides
    names = data.classes or ()
    if len(names) < 2 or real.data_labels is None or real.labels is not None:
        return None
    with settings.stage("classes"):
        classifier = class_classifier(train, names, cache=networks.cache)
    if classifier is None:
        return None
    wanted = None
    if labels is not None and set(pipeline.classes) <= set(names):
        wanted = torch.tensor([names.index(name) for name in pipeline.classes])[labels]
    found = real.features, real.data_labels
    return score_classes(classifier, features, wanted, *found, names, resampling=settings.resampling)


def _real_images(data: Dataset, networks: MetricNetworks, settings: EvaluationSettings) -> Reference:
    """Training images (test ones if those are the reference): all, or as many as samples if no neighbors."""
    other = split_of(data, "test" if settings.split == "train" else "train")
    if settings.neighbors:
        return networks.reference(other, settings)
    return networks.reference(at_most(other, settings.n, seed=settings.seed), settings)


def _real_baseline(
    real: Reference, reference: Reference, settings: EvaluationSettings
) -> SampleScores | None:
    """The scores of as many real images as there are samples: what perfect samples would score.

    None for too few.
    """
    part = real.take(random_subset(len(real), settings.n, seed=settings.seed))
    if len(part) <= NEIGHBORS:
        return None
    return score_features(part.features, reference, labels=part.labels, resampling=settings.resampling)


def _neighbors(
    images: Tensor,
    features: Features,
    train: Reference,
    reference: Reference,
    networks: MetricNetworks,
    settings: EvaluationSettings,
    *,
    mirrored: bool,
) -> NeighborScores | None:
    """Compare samples and the reference with the training images, and with their mirror images; None where
    those are the reference.
    """
    if not settings.neighbors or settings.split == "train":
        return None
    first = torch.arange(min(settings.neighbors, len(images)))
    spread = random_subset(len(reference), settings.neighbors, seed=settings.seed)  # data may be sorted
    test_images = reference.images[spread]
    turned: list[Features | None] = [None, None]
    if mirrored:
        turned = [
            networks.mirrored(images[first], settings, name="samples", real=False),
            networks.mirrored(test_images, settings, name="test images", real=True),
        ]
    with settings.stage("nearest training images"):
        mine = find_neighbors(images[first], features[first], train, mirrored=turned[0])
        test = find_neighbors(test_images, reference.features[spread], train, mirrored=turned[1])
    examples = neighbor_examples(images, train.images, mine, test)
    return replace(score_neighbors(mine, test, resampling=settings.resampling), examples=examples)


def evaluate_denoiser(pipeline: Pipeline, data: Dataset, settings: EvaluationSettings) -> DenoiserScores:
    """The denoiser's losses on some images of a split."""
    images, labels = _some_of(pipeline, data, settings)
    with settings.stage("denoiser") as bar:
        return score_denoiser(
            pipeline,
            images,
            labels=labels,
            weighting=settings.weighting,
            seed=settings.seed,
            resampling=settings.resampling,
            progress=bar.update,
        )


def evaluate_reconstruction(
    pipeline: Pipeline, data: Dataset, settings: EvaluationSettings
) -> tuple[ReconstructionScores, ...]:
    """Some images of a split noised to T/10, T/4 and T/2 and brought back."""
    images, labels = _some_of(pipeline, data, settings)
    made = []
    for t in default_levels(pipeline.schedule.T):
        with settings.stage(f"reconstruction from t = {t}") as bar:
            made.append(
                reconstruct_from(
                    pipeline,
                    images,
                    t,
                    labels=labels,
                    settings=settings.sampling,
                    seed=settings.seed,
                    progress=bar.update,
                )
            )
    return tuple(score_reconstruction(images, each, resampling=settings.resampling) for each in made)


def _texts(pipeline: Pipeline, data: Dataset, settings: EvaluationSettings) -> Sequence[str] | None:
    """The captions of the split as prompts; None for a model without texts, and without guidance."""
    if pipeline.tokenizer is None or settings.sampling.guidance == 0:
        return None
    captions = split_of(data, settings.split).captions
    if captions is None:
        raise InputError(
            f"{data.name}: has no captions to draw images for; expected guidance 0, or other data"
        )
    return captions


def _some_of(pipeline: Pipeline, data: Dataset, settings: EvaluationSettings) -> tuple[Tensor, Tensor | None]:
    """Some images of the split with the label or caption of each, the same for the same seed."""
    _check_shape(pipeline, data)
    split = split_of(data, settings.split)
    chosen = random_subset(len(split.images), settings.images, seed=settings.seed)
    if pipeline.classes and split.labels is not None and int(split.labels.max()) >= len(pipeline.classes):
        found = int(split.labels.max()) + 1
        raise InputError(f"{data.name}: the model has {len(pipeline.classes)} classes, the data has {found}")
    if texts := _texts(pipeline, data, settings):
        each = [texts[k] for k in chosen.tolist()]
        return split.images[chosen], pipeline.conditioner.encode(each, len(each))
    return split.images[chosen], None if split.labels is None else split.labels[chosen]


def _check_shape(pipeline: Pipeline, data: Dataset) -> None:
    wanted, found = list(pipeline.codec.image_shape), list(data.shape)
    if wanted != found:
        raise InputError(
            f"{data.name}: expected images {wanted} (channels, height, width), as the model makes, found"
            f" {found}"
        )


def _check_guidance(pipeline: Pipeline, data: Dataset, settings: EvaluationSettings) -> None:
    """InputError, before any work, where guidance of reconstructions lacks labels in the data."""
    guidance = settings.sampling.guidance
    if settings.sampling.exaggerates and pipeline.classes and split_of(data, settings.split).labels is None:
        raise InputError(
            f"{data.name}: guidance {guidance:g} needs labels for the reconstructions, these images have"
            " none; expected guidance 1, or parts without reconstruction"
        )
