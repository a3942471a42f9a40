"""Counts of things that have classes, be they steps, events or spans, and the scores that follow from counts."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[Any]
Scores = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Counts:
    """How many things of each class there are, how many are predicted, and how many of these are right.

    Leading axes, if any, are units such as sequences or resamples; every score keeps them.

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
        """(…, n_classes) correct / true, 0 where there is nothing."""
        return ratio(self.correct, self.true)

    @property
    def f1(self) -> Scores:
        """(…, n_classes) the harmonic mean of precision and recall, 0 where there is neither."""
        return ratio(2 * self.correct, self.true + self.predicted)

    def overall(self) -> Counts:
        """The same without regard to classes, (…,): its precision, recall and F1 are the micro averages."""
        return Counts(self.correct.sum(-1), self.true.sum(-1), self.predicted.sum(-1))

    def macro(self, scores: Scores) -> Scores:
        """(…,) the mean of (…, n_classes) scores over the classes that are true or predicted somewhere."""
        return mean_where(scores, self.true + self.predicted > 0)

    def weighted(self, scores: Scores) -> Scores:
        """(…,) the mean of (…, n_classes) scores, each class as often as it is true."""
        return ratio((scores * self.true).sum(-1), self.true.sum(-1))

    def per_class(self) -> list[dict[str, Any]]:
        """The scores of each class as plain data; of counts without leading axes."""
        return [
            {"precision": float(precision), "recall": float(recall), "f1": float(f1), "support": int(support)}
            for precision, recall, f1, support in zip(self.precision, self.recall, self.f1, self.true, strict=True)
        ]


def count_classes(units: npt.NDArray[np.int64], classes: npt.NDArray[np.int64], shape: tuple[int, int]) -> Numbers:
    """(n_units, n_classes) how many things each unit has of each class; `shape` gives these two numbers."""
    return np.bincount(units * shape[1] + classes, minlength=shape[0] * shape[1]).reshape(shape)


def ratio(part: Numbers, whole: Numbers) -> Scores:
    """part / whole, 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole > 0))


def mean_where(scores: Scores, chosen: npt.NDArray[np.bool_]) -> Scores:
    """(…,) the mean of the chosen among (…, n) scores, 0 where none is."""
    return ratio((scores * chosen).sum(-1), chosen.sum(-1))
