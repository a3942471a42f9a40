"""Sums over clusters of sequences, counts of things that have classes, and the scores that follow from counts."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[Any]
Scores = npt.NDArray[np.float64]
S = TypeVar("S", bound="Sums")


@dataclasses.dataclass(frozen=True)
class Sums:
    """What clusters of sequences contribute to scores: the first axis of every field is the cluster.

    Scores are functions of these sums. They work on any leading axes, so that they can be computed from each of many
    bootstrap resamples at once.
    """

    def total(self: S) -> S:
        """The sums over all clusters."""
        sums: S = dataclasses.replace(self, **{name: array.sum(0) for name, array in self.fields().items()})
        return sums

    def fields(self) -> dict[str, Numbers]:
        """The arrays by their names."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


@dataclasses.dataclass(frozen=True)
class Counts(Sums):
    """How many things of each class there are, how many are predicted, and how many of these are right.

    Leading axes, if any, are clusters of sequences or resamples; every score keeps them.

    Attributes:
        correct: (…, n_classes)
        true: (…, n_classes)
        predicted: (…, n_classes)
    """

    correct: Numbers
    true: Numbers
    predicted: Numbers

    @property
    def precision(self) -> Scores:
        """(…, n_classes) correct / predicted, 0 where nothing is predicted."""
        return ratio(self.correct, self.predicted)

    @property
    def recall(self) -> Scores:
        """(…, n_classes) correct / true, 0 where nothing is true."""
        return ratio(self.correct, self.true)

    @property
    def f1(self) -> Scores:
        """(…, n_classes) the harmonic mean of precision and recall, 0 where both are 0."""
        return ratio(2 * self.correct, self.true + self.predicted)

    def overall(self) -> Counts:
        """(…,) the counts of all classes together: their precision, recall and F1 are the micro averages."""
        return Counts(self.correct.sum(-1), self.true.sum(-1), self.predicted.sum(-1))

    def macro(self, scores: Scores) -> Scores:
        """(…,) the mean of (…, n_classes) scores over the classes that are true or predicted somewhere."""
        return mean_where(scores, self.true + self.predicted > 0)

    def weighted(self, scores: Scores) -> Scores:
        """(…,) the mean of (…, n_classes) scores, each class weighted by how often it is true."""
        return ratio((scores * self.true).sum(-1), self.true.sum(-1))

    def per_class(self) -> list[dict[str, Any]]:
        """The scores of each class as plain data; for counts without leading axes."""
        return [
            {"precision": float(precision), "recall": float(recall), "f1": float(f1), "support": int(support)}
            for precision, recall, f1, support in zip(self.precision, self.recall, self.f1, self.true, strict=True)
        ]


def add_at(
    array: Numbers, clusters: npt.NDArray[np.int64], columns: npt.NDArray[np.int64] | None = None, values: Any = 1
) -> None:
    """Add values to the cells of a (clusters, columns) array, or of a (clusters,) array, one after the other.

    The order is that of the values, so the result does not depend on how they are divided into calls.

    Raises:
        ValueError: a cluster is -1: the sequence was declared to have no labels.
    """
    if len(clusters) and clusters.min() < 0:
        raise ValueError("a sequence has labels although `labelled` says that it has none")
    cells = clusters if columns is None else clusters * array.shape[1] + columns
    np.add.at(array.reshape(-1), cells, values)


def ratio(part: Numbers, whole: Numbers) -> Scores:
    """part / whole, 0 where the whole is 0."""
    shape = np.broadcast_shapes(np.shape(part), np.shape(whole))
    return np.divide(part, whole, out=np.zeros(shape), where=np.asarray(whole > 0))


def mean_where(scores: Scores, chosen: npt.NDArray[np.bool_]) -> Scores:
    """(…,) the mean of the chosen among (…, n) scores, 0 where none is chosen."""
    return ratio((scores * chosen).sum(-1), chosen.sum(-1))
