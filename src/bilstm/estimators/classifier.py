"""SequenceClassifier: a label for every sequence, by scikit-learn's protocol."""

from __future__ import annotations

from typing import Any

from bilstm.estimators.base import ClassifierMixin, LabelEstimator


class SequenceClassifier(ClassifierMixin, LabelEstimator):
    __doc__ = f"""Learns a label for every sequence, or several.

    y is (n,): strings, whole numbers or booleans; or (n, n_labels) of 0 and 1 where a sequence may have several labels
    at once. None and NaN are sequences without a label, which are not learned.

    {(LabelEstimator.__base__.__doc__ or "").partition("a sequence.")[2].strip()}
        classes_: (n_classes,) the labels, sorted; of several a sequence, their column names or 0 to n_labels - 1.
        multilabel_: whether sequences have several labels.
    """

    _unit = "sequence"

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of labelled sequences that are predicted right: see `SequenceTagger.score`."""
        return LabelEstimator.score(self, X, y, sample_weight)  # the mixin's knows no tables
