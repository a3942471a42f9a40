"""How well probabilities rank: the true class among the others, and the rows of a class among all rows.

A row is whatever has one label: a whole sequence, or a time step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.arguments import check_count
from bilstm.metrics.counts import Scores
from bilstm.metrics.labels import Known, check_probabilities, require_labelled


def top_k_accuracy(labels: npt.ArrayLike, probabilities: npt.ArrayLike, k: int = 1) -> float:
    """The share of rows whose true class is among the k likeliest; of equally likely classes the first are taken.

    Args:
        labels: (rows,) integers from -1, an unlabelled row, which is left out, to n_classes - 1.
        probabilities: (rows, n_classes), each row adding up to 1.
        k: at least 1; with 1 this is the accuracy.

    Raises:
        ValueError: no row is labelled, or an argument is not one of the above.
    """
    known, truth, rows = check_probabilities(labels, probabilities)
    require_labelled(known)
    check_count("top_k_accuracy", "k", k)
    of_truth = rows[np.arange(len(truth)), truth][:, np.newaxis]
    before = (rows > of_truth) | ((rows == of_truth) & (np.arange(rows.shape[1]) < truth[:, np.newaxis]))
    return float((before.sum(axis=1) < k).mean())


def roc_auc(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> dict[str, Any]:
    """The area under the receiver operating characteristic curve of each class against the rest.

    It is the chance that a row of the class is given a higher probability of it than a row of another class; equal
    probabilities count half. Computed from ranks, as the Mann-Whitney statistic is: Hanley and McNeil, "The Meaning
    and Use of the Area under a Receiver Operating Characteristic (ROC) Curve" (Radiology, 1982).

    Args:
        labels: (rows,) integers from -1, an unlabelled row, which is left out, to n_classes - 1.
        probabilities: (rows, n_classes), each row adding up to 1.

    Returns:
        "per_class": the area for each class, None where all rows or none are of it; "macro": the mean of those that
        are not None, None if there are none.

    Raises:
        ValueError: no row is labelled, or an argument is not one of the above.
    """
    return _per_class(_area, labels, probabilities)


def average_precision(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> dict[str, Any]:
    """The average precision of each class against the rest: its precision, averaged over all thresholds.

    At each threshold the precision counts as much as the recall grows, without interpolation; this is the definition
    of scikit-learn's `average_precision_score`.

    Args:
        labels: (rows,) integers from -1, an unlabelled row, which is left out, to n_classes - 1.
        probabilities: (rows, n_classes), each row adding up to 1.

    Returns:
        "per_class": the average precision of each class, None where no row is of it; "macro": the mean of those that
        are not None.

    Raises:
        ValueError: no row is labelled, or an argument is not one of the above.
    """
    return _per_class(precision_over_thresholds, labels, probabilities)


def precision_over_thresholds(scores: npt.NDArray[Any], positive: Known) -> float | None:
    """The average precision of (rows,) scores, None without a positive row."""
    if not positive.any():
        return None
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], np.cumsum(positive[order])
    last = np.append(scores[1:] != scores[:-1], True)  # equal scores pass a threshold together
    recalled, passed = hits[last], np.flatnonzero(last) + 1
    return float((np.diff(recalled, prepend=0) * recalled / passed).sum() / recalled[-1])


def mean_of_known(scores: list[float | None]) -> float | None:
    """The mean of those that are not None, None if there are none."""
    known = [score for score in scores if score is not None]
    return sum(known) / len(known) if known else None


def _per_class(
    score: Callable[[npt.NDArray[Any], Known], float | None], labels: npt.ArrayLike, probabilities: npt.ArrayLike
) -> dict[str, Any]:
    known, truth, rows = check_probabilities(labels, probabilities)
    require_labelled(known)
    scores = [score(rows[:, class_], truth == class_) for class_ in range(rows.shape[1])]
    return {"macro": mean_of_known(scores), "per_class": scores}


def _area(scores: npt.NDArray[Any], positive: Known) -> float | None:
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return None
    ranks = _ranks(scores)[positive].sum()
    return float((ranks - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def _ranks(scores: npt.NDArray[Any]) -> Scores:
    """Ranks from 1; equal scores share the mean of theirs."""
    _, index, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks: Scores = (np.cumsum(counts) - (counts - 1) / 2)[index]
    return ranks
