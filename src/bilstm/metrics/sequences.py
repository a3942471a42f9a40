"""How good the labels of whole sequences are, where each has one, beyond what `bilstm.metrics.steps` tells of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.arguments import check_count
from bilstm.metrics.counts import Scores
from bilstm.metrics.labels import check_probabilities


def top_k_accuracy(labels: npt.ArrayLike, probabilities: npt.ArrayLike, k: int = 1) -> float:
    """The share of sequences whose true class is among the k likeliest; of equally likely ones the first are taken.

    Args:
        labels: (n_sequences,) integers from -1, which is an unlabelled sequence and left out, to n_classes - 1.
        probabilities: (n_sequences, n_classes), each row adding up to 1.
        k: at least 1; with 1 this is the accuracy.

    Raises:
        ValueError: no sequence is labelled, or an argument is not one of the above.
    """
    truth, rows = check_probabilities(labels, probabilities)
    check_count("top_k_accuracy", "k", k)
    rows, truth = rows[truth >= 0], truth[truth >= 0, np.newaxis]
    given = rows[np.arange(len(truth)), truth[:, 0]][:, np.newaxis]
    before = (rows > given) | ((rows == given) & (np.arange(rows.shape[1]) < truth))
    return float((before.sum(axis=1) < k).mean())


def roc_auc(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> dict[str, Any]:
    """The area under the receiver operating characteristic curve of each class against the rest.

    It is the chance that a sequence of the class is given a higher probability of it than one of another class; equal
    ones count half. Computed from ranks, as the Mann-Whitney statistic is: Hanley and McNeil, "The Meaning and Use of
    the Area under a Receiver Operating Characteristic (ROC) Curve" (Radiology, 1982).

    Args:
        labels: (n_sequences,) integers from -1, which is an unlabelled sequence and left out, to n_classes - 1.
        probabilities: (n_sequences, n_classes), each row adding up to 1.

    Returns:
        "per_class": the area for each class, None where all sequences or none are of it; "macro": the mean of those
        that there are, None if there are none.

    Raises:
        ValueError: no sequence is labelled, or an argument is not one of the above.
    """
    truth, rows = check_probabilities(labels, probabilities)
    rows, truth = rows[truth >= 0], truth[truth >= 0]
    areas = [_area(rows[:, class_], truth == class_) for class_ in range(rows.shape[1])]
    known = [area for area in areas if area is not None]
    return {"macro": sum(known) / len(known) if known else None, "per_class": areas}


def _area(scores: npt.NDArray[Any], of_class: npt.NDArray[np.bool_]) -> float | None:
    positive = int(of_class.sum())
    negative = len(of_class) - positive
    if not positive or not negative:
        return None
    ranks = _ranks(scores)[of_class].sum()
    return float((ranks - positive * (positive + 1) / 2) / (positive * negative))


def _ranks(scores: npt.NDArray[Any]) -> Scores:
    """Ranks from 1; equal scores share the mean of theirs."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks: Scores = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks
