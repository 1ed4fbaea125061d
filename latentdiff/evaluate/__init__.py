"""Evaluation of models and of sets of images: results are frozen dataclasses with ``as_dict()``, which
``save_figures`` draws. Nothing here prints.

Images are uint8 [N, C, H, W], labels int64 [N] or None. ``Resampling(count, level, seed)`` says how intervals
are made (count 0: none). ``batch`` only bounds memory: networks get images in fixed chunks.

>>> from latentdiff import evaluate
>>> from latentdiff.metrics.features import feature_network
>>> network = feature_network("mnist")
>>> reference = evaluate.Reference.from_images(test_images, network, labels=test_labels)
>>> scores = evaluate.score_images(samples, reference, labels=labels)
>>> scores.fd.value, scores.fd.low, scores.fd.high, scores.fd.corrected
"""

from latentdiff.config.evaluation import PARTS
from latentdiff.evaluate.alignment import AlignmentScores
from latentdiff.evaluate.bound import Bits, bits_per_dimension
from latentdiff.evaluate.classes import (
    ClassAgreement,
    ClassShare,
    class_classifier,
    score_classes,
    score_set_classes,
)
from latentdiff.evaluate.denoiser import DenoiserScores, LevelLoss, loss_by_level, score_denoiser
from latentdiff.evaluate.images import (
    ClassScore,
    PairScores,
    SampleScores,
    frechet_warnings,
    score_features,
    score_images,
    score_pairs,
    size_warnings,
)
from latentdiff.evaluate.interval_score import Resampling, Score
from latentdiff.evaluate.matching import aligned, shared
from latentdiff.evaluate.model import (
    ModelScores,
    SamplingScores,
    evaluate_denoiser,
    evaluate_model,
    evaluate_reconstruction,
    evaluate_samples,
    evaluate_vae,
    parts_of,
)
from latentdiff.evaluate.neighbors import Neighbors, NeighborScores, find_neighbors, score_neighbors
from latentdiff.evaluate.reconstruct import (
    Reconstruction,
    ReconstructionScores,
    reconstruct_from,
    score_reconstruction,
)
from latentdiff.evaluate.reference import Reference, random_subset
from latentdiff.evaluate.sampling import draw_samples
from latentdiff.evaluate.score_figures import save_figures
from latentdiff.evaluate.settings import EvaluationSettings, MetricNetworks
from latentdiff.evaluate.vae import Encoded, VAEScores, encode_all, score_vae
from latentdiff.metrics.features.cache import FeatureCache, cache_folder
from latentdiff.metrics.features.pixels import as_pixels

__all__ = [
    "PARTS",
    "AlignmentScores",
    "Bits",
    "ClassAgreement",
    "ClassScore",
    "ClassShare",
    "DenoiserScores",
    "Encoded",
    "EvaluationSettings",
    "FeatureCache",
    "LevelLoss",
    "MetricNetworks",
    "ModelScores",
    "NeighborScores",
    "Neighbors",
    "PairScores",
    "Reconstruction",
    "ReconstructionScores",
    "Reference",
    "Resampling",
    "SampleScores",
    "SamplingScores",
    "Score",
    "VAEScores",
    "aligned",
    "as_pixels",
    "bits_per_dimension",
    "cache_folder",
    "class_classifier",
    "draw_samples",
    "encode_all",
    "evaluate_denoiser",
    "evaluate_model",
    "evaluate_reconstruction",
    "evaluate_samples",
    "evaluate_vae",
    "find_neighbors",
    "frechet_warnings",
    "loss_by_level",
    "parts_of",
    "random_subset",
    "reconstruct_from",
    "save_figures",
    "score_classes",
    "score_denoiser",
    "score_features",
    "score_images",
    "score_neighbors",
    "score_pairs",
    "score_reconstruction",
    "score_set_classes",
    "score_vae",
    "shared",
    "size_warnings",
]
