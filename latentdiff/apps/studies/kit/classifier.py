"""Class predictions for generated images, by a feature network that took no part in the training."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.data import to_uint8
from latentdiff.errors import InputError
from latentdiff.metrics.features import FeatureNetwork, default_features, extract, feature_network


@dataclass(frozen=True, eq=False)
class ClassReader:
    """Predicts classes with a feature network that has those of the data."""

    network: FeatureNetwork

    @classmethod
    def of(cls, context: StudyContext) -> ClassReader | None:
        """The network for the data of the study; None if no network has their classes."""
        data = context.data
        name = context.features or default_features(data.shape, data.classes)
        try:
            network = feature_network(name, device=context.device)
        except InputError:
            return None
        known = network.class_names is not None and network.class_names == data.classes
        return cls(network) if known else None

    @classmethod
    def of_ten_classes(cls, context: StudyContext, study: str) -> tuple[ClassReader, tuple[str, ...]]:
        """The reader and the classes; InputError for fewer than ten classes, or classes no network has."""
        data = context.data
        if not data.classes or len(data.classes) < 10:
            raise InputError(f"{data.name}: {study} is a study of ten classes, found {data.num_classes}")
        reader = cls.of(context)
        if reader is None:
            raise InputError(f"{data.name}: {study} needs a feature network that knows its classes")
        return reader, data.classes

    def classes(self, images: Tensor) -> Tensor:
        """The predicted class of each image [n, C, H, W] in [-1, 1], int64 [n]."""
        predictions = extract(self.network, to_uint8(images)).predictions
        assert predictions is not None
        return predictions

    def share(self, images: Tensor, labels: Tensor | int) -> float:
        """The accuracy: the share of images whose predicted class is their label."""
        return float((self.classes(images) == labels).float().mean())
