"""Scores of labels of one class each, and of the probabilities they come with; steps labelled -1 are left out.

Whole sequences that have one label each are scored as steps are: each is a sequence of one step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.arguments import check_choice, check_count
from bilstm.metrics.calibration import BINS, ProbabilitySums, losses
from bilstm.metrics.counts import Counts, Scores, add_at, mean_where, ratio
from bilstm.metrics.intervals import RESAMPLES
from bilstm.metrics.labels import (
    Classes,
    Probabilities,
    check_classes,
    check_probabilities,
    labelled_sequences,
    require_labelled,
)
from bilstm.metrics.rankings import average_precision, roc_auc, top_k_accuracy
from bilstm.metrics.scorer import Scorer
from bilstm.ragged import as_offsets

_MEANS: dict[str, Callable[[Counts], Scores]] = {
    "accuracy": lambda counts: counts.overall().recall,
    "balanced_accuracy": lambda counts: mean_where(counts.recall, counts.true > 0),
    "macro_precision": lambda counts: counts.macro(counts.precision),
    "macro_recall": lambda counts: counts.macro(counts.recall),
    "macro_f1": lambda counts: counts.macro(counts.f1),
    "weighted_precision": lambda counts: counts.weighted(counts.precision),
    "weighted_recall": lambda counts: counts.weighted(counts.recall),
    "weighted_f1": lambda counts: counts.weighted(counts.f1),
}
_BY_CLASS: dict[str, Callable[[Counts], Scores]] = {
    "precision": lambda counts: counts.precision,
    "recall": lambda counts: counts.recall,
    "f1": lambda counts: counts.f1,
}
_OF_PROBABILITIES: dict[str, Callable[[ProbabilitySums], Scores]] = {
    "log_loss": lambda sums: ratio(sums.loss, sums.true.sum(-1)),
    "calibration_error": lambda sums: sums.calibration_error,
}
_SCORES: dict[str, Callable[[ProbabilitySums], Scores]] = {**_MEANS, **_BY_CLASS, **_OF_PROBABILITIES}
_COMPARED = {name: _MEANS[name] for name in ("accuracy", "macro_f1")}


def confusion_matrix(labels: npt.ArrayLike, predicted: npt.ArrayLike, n_classes: int) -> npt.NDArray[np.int64]:
    """(n_classes, n_classes) counts: rows are true classes, columns predicted ones; steps labelled -1 are left out.

    Args:
        labels: (steps,) integers from -1 to n_classes - 1.
        predicted: (steps,) integers from 0 to n_classes - 1.

    Raises:
        ValueError: another shape or a class out of range.
    """
    truth, guess = check_classes(labels, predicted, n_classes)
    matrix = np.zeros((n_classes, n_classes), np.int64)
    add_at(matrix, truth[truth >= 0], guess[truth >= 0])
    return matrix


def classification_report(labels: npt.ArrayLike, predicted: npt.ArrayLike, n_classes: int) -> dict[str, Any]:
    """Scores over labelled steps, as plain data.

    Args:
        labels: (steps,) integers from -1 to n_classes - 1.
        predicted: (steps,) integers from 0 to n_classes - 1.

    Returns:
        "steps": how many are labelled; "accuracy"; "majority": the share of the majority class, which is the accuracy
        of always predicting it; "balanced_accuracy": the mean recall of the classes that occur in labels;
        "macro_precision", "macro_recall", "macro_f1": means over the classes that occur in labels or predictions;
        "weighted_precision", "weighted_recall", "weighted_f1": means in which each class is weighted by how often it
        is true; "per_class": for each class its "precision", "recall", "f1" (0 where undefined) and "support".

    Raises:
        ValueError: no step is labelled, another shape or a class out of range.
    """
    truth, guess = check_classes(labels, predicted, n_classes)
    truth, guess = truth[truth >= 0], guess[truth >= 0]
    require_labelled(len(truth))
    counts = Counts(*(np.bincount(each, minlength=n_classes) for each in (truth[truth == guess], truth, guess)))
    return {"steps": len(truth), **_of_counts(counts)}


def step_intervals(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    offsets: npt.ArrayLike | None = None,
    scores: Iterable[str] = ("accuracy", "macro_f1"),
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
    bins: int = BINS,
) -> dict[str, Scores] | None:
    """Bootstrap intervals of scores, by drawing sequences rather than steps; see `bilstm.metrics.intervals`.

    Args:
        labels: (steps,) integers from -1 to n_classes - 1.
        probabilities: (steps, n_classes), each row adding up to 1.
        offsets: (n_sequences + 1,) where sequences begin and end, as in `Ragged`; None: each step is one.
        scores: any of "accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1",
            "weighted_precision", "weighted_recall", "weighted_f1", "log_loss", "calibration_error", and, by class,
            "precision", "recall" and "f1".
        level: the share of the resamples that lies within.
        resamples: how many resamples.
        seed: the same seed gives the same intervals.
        bins: for the calibration error.

    Returns:
        (2,) the low and high end of each score, (n_classes, 2) for those by class; None where fewer than three
        sequences have labels. Where every resample scores alike, for instance because all is right, both ends are the
        same; that does not prove that nothing can go wrong. The interval of the calibration error tends to lie too
        high, since resampling adds deviations to every bin, and none is negative.

    Raises:
        ValueError: no step is labelled, or an argument is not one of the above.
    """
    check_count("calibration", "bins", bins)
    chosen = {name: _SCORES[check_choice("intervals", "scores", name, _SCORES)] for name in scores}
    bounds = np.arange(len(np.asarray(labels)) + 1) if offsets is None else offsets
    return _scorer(labels, probabilities, bounds, bins).intervals(chosen, level=level, resamples=resamples, seed=seed)


def step_report(labels: npt.ArrayLike, probabilities: npt.ArrayLike, offsets: npt.ArrayLike) -> dict[str, Any]:
    """All scores of steps, as plain data.

    Args:
        labels: (steps,) integers from -1 to n_classes - 1.
        probabilities: (steps, n_classes), each row adding up to 1.
        offsets: (n_sequences + 1,) where sequences begin and end, as in `Ragged`.

    Returns:
        What `ClassScores.report` returns.

    Raises:
        ValueError: no step is labelled, or an argument is not one of the above.
    """
    return _scorer(labels, probabilities, offsets).report()


class ClassScores(Scorer[ProbabilitySums]):
    """Scores of labels of one class each, for sequences that come in batches.

    Args:
        labelled: (n_sequences,) whether a sequence has labels.
        n_classes: how many classes there are.
        groups: (n_sequences,) integers, the group of each sequence: intervals then come from drawing whole groups.
        per_sequence: whether each sequence has one label; then all probabilities are kept, for the scores of rankings.
        bins: for the calibration error.

    Raises:
        ValueError: `groups` has another length or holds no integers.
    """

    scores = _COMPARED
    main = "accuracy"

    def __init__(
        self,
        labelled: npt.ArrayLike,
        n_classes: int,
        *,
        groups: npt.ArrayLike | None = None,
        per_sequence: bool = False,
        bins: int = BINS,
    ) -> None:
        super().__init__(labelled, 3 * n_classes + 1 + 3 * bins, groups)
        self.sums = ProbabilitySums.zeros(self._n_clusters, n_classes, bins)
        self._kept: list[tuple[Classes, Probabilities]] | None = [] if per_sequence else None

    def add(
        self,
        labels: npt.ArrayLike,
        probabilities: npt.ArrayLike,
        offsets: npt.ArrayLike,
        *,
        predicted: npt.ArrayLike | None = None,
    ) -> None:
        """Take the next sequences, which may have no labels.

        Args:
            labels: (steps,) integers from -1, which is unlabelled, to n_classes - 1.
            probabilities: (steps, n_classes), each row adding up to 1.
            offsets: (sequences + 1,) where these sequences begin and end.
            predicted: (steps,) integers from 0 to n_classes - 1, where these are not the likeliest classes of each
                step, as of a `CRF`.

        Raises:
            ValueError: an argument is not one of the above.
        """
        sums = self.sums
        known, truth, rows = check_probabilities(labels, probabilities, sums.true.shape[1])
        clusters = self._clusters_of_rows(offsets, known)
        if predicted is None:
            guess = rows.argmax(axis=1)
        else:
            guess = check_classes(labels, predicted, sums.true.shape[1])[1][known]
        right = truth == guess
        add_at(sums.correct, clusters[right], truth[right])
        add_at(sums.true, clusters, truth)
        add_at(sums.predicted, clusters, guess)
        add_at(sums.loss, clusters, values=losses(truth, rows))
        sums.add_confidences(truth, rows, clusters, guess)
        if self._kept is not None:
            self._kept.append((truth, rows.astype(np.float32)))

    def report(self) -> dict[str, Any]:
        """All scores, as plain data.

        Returns:
            "steps": how many are labelled, or with `per_sequence` "labelled_sequences"; the other scores of
            `classification_report`; "log_loss"; "calibration_error" and the "calibration" curve, see
            `calibration_curve`; "intervals": of each mean and the log loss its 95 % interval [low, high], or None
            where fewer than three sequences or groups have labels; in "per_class" also each class's "f1_interval", or
            None; "caution": a sentence where the intervals rest on few sequences or groups, otherwise None. With
            `per_sequence` also "top_k": by "2", "3" and "5", where there are more classes, the share of sequences
            whose class is among the k likeliest; "roc_auc" and "average_precision": see the functions of that name.

        Raises:
            ValueError: no step is labelled.
        """
        require_labelled(self.sums.true)
        total = self.sums.total()
        count = "steps" if self._kept is None else "labelled_sequences"
        report = {count: int(total.true.sum()), **_of_counts(total)}
        report |= {name: float(score(total)) for name, score in _OF_PROBABILITIES.items()}
        report["calibration"] = total.curve()
        ends = self.intervals({name: _SCORES[name] for name in (*_MEANS, "log_loss", "f1")})
        report["intervals"] = ends and {name: end.tolist() for name, end in ends.items() if name != "f1"}
        report["caution"] = self.caution
        for class_, scores in enumerate(report["per_class"]):
            scores["f1_interval"] = ends and ends["f1"][class_].tolist()
        if self._kept is not None:
            truth, rows = (np.concatenate(arrays) for arrays in zip(*self._kept, strict=True))
            report["top_k"] = {str(k): top_k_accuracy(truth, rows, k) for k in (2, 3, 5) if k < rows.shape[1]}
            report["roc_auc"] = roc_auc(truth, rows)
            report["average_precision"] = average_precision(truth, rows)
        return report


def _scorer(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, offsets: npt.ArrayLike, bins: int = BINS
) -> ClassScores:
    """A scorer that has taken all sequences, of which some must be labelled."""
    known, _, rows = check_probabilities(labels, probabilities)
    require_labelled(known)
    bounds = as_offsets(offsets, len(known))
    scorer = ClassScores(labelled_sequences(np.asarray(labels), bounds), rows.shape[1], bins=bins)
    scorer.add(labels, probabilities, bounds)
    return scorer


def _of_counts(counts: Counts) -> dict[str, Any]:
    """The scores of `classification_report`."""
    return {
        "majority": float(counts.true.max() / counts.true.sum()),
        **{name: float(score(counts)) for name, score in _MEANS.items()},
        "per_class": counts.per_class(),
    }
