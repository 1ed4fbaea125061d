"""Reading images back: which class a classifier that took no part sees in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.report.blocks import Cell, Table
from latentdiff.data import to_uint8
from latentdiff.errors import InputError
from latentdiff.metrics.features import FeatureNetwork, default_features, extract, feature_network


@dataclass(frozen=True, eq=False)
class ClassReader:
    """A feature network that tells the classes of the data apart."""

    network: FeatureNetwork

    @classmethod
    def of(cls, lab: StudyContext) -> ClassReader | None:
        """The network for the data of the study; None where there is none that knows its classes."""
        data = lab.data
        name = lab.features or default_features(data.shape, data.classes)
        try:
            network = feature_network(name, device=lab.device)
        except InputError:
            return None
        return (
            cls(network) if network.class_names is not None and network.class_names == data.classes else None
        )

    def classes(self, images: Tensor) -> Tensor:
        """The class seen in each image [n, C, H, W] in [-1, 1], int64 [n]."""
        seen = extract(self.network, to_uint8(images)).predictions
        assert seen is not None
        return seen

    def share(self, images: Tensor, labels: Tensor | int) -> float:
        """How many of the images are seen as what they should be."""
        return float((self.classes(images) == labels).float().mean())


def matrix(
    name: str, classes: Sequence[str], shares: Mapping[tuple[int, int], float], caption: str, *, corner: str
) -> Table:
    """Shares by (row, column) as a table with a row for each first class; what was not tried stays empty."""
    rows: list[tuple[Cell, ...]] = []
    for first in range(len(classes)):
        found = [shares.get((first, second)) for second in range(len(classes))]
        rows.append((classes[first], *(None if share is None else f"{share:.0%}" for share in found)))
    return Table(name, (corner, *classes), tuple(rows), caption)


def mean(values: Sequence[float]) -> float:
    """The mean of some shares."""
    return float(torch.tensor(values, dtype=torch.float64).mean())
