"""How good the labels of steps are, and the probabilities they come with; steps labelled -1 are left out.

Sequences that have one label each are scored alike: a sequence then is a step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.arguments import check_choice, check_count
from bilstm.metrics.counts import Counts, Numbers, Scores, count_classes, mean_where, ratio
from bilstm.metrics.intervals import RESAMPLES, intervals, units_of
from bilstm.metrics.labels import (
    Classes,
    Probabilities,
    check_classes,
    check_probabilities,
    labelled_sequences,
    sequence_of_steps,
)
from bilstm.ragged import as_offsets

BINS = 15  # as Guo and others use


def confusion_matrix(labels: npt.ArrayLike, predicted: npt.ArrayLike, n_classes: int) -> npt.NDArray[np.int64]:
    """(n_classes, n_classes) counts: rows are true classes, columns predicted ones; steps labelled -1 are left out.

    Args:
        labels: (steps,) integers from -1 to n_classes - 1.
        predicted: (steps,) integers from 0 to n_classes - 1.

    Raises:
        ValueError: another shape or a class out of range.
    """
    truth, guess = check_classes(labels, predicted, n_classes)
    labelled = truth >= 0
    return count_classes(truth[labelled], guess[labelled], (n_classes, n_classes))


def classification_report(labels: npt.ArrayLike, predicted: npt.ArrayLike, n_classes: int) -> dict[str, Any]:
    """Scores over labelled steps, as plain data.

    Returns:
        "steps": how many are labelled; "accuracy"; "majority": the share of the commonest class, what a constant
        guess would score; "balanced_accuracy": the mean recall of the classes that occur in labels;
        "macro_precision", "macro_recall", "macro_f1": means over the classes that occur in labels or predictions;
        "weighted_precision", "weighted_recall", "weighted_f1": means in which each class counts as often as it is
        true; "per_class": for each class its "precision", "recall", "f1" (0 where undefined) and "support".

    Raises:
        ValueError: no step is labelled, or see `confusion_matrix`.
    """
    truth, guess = check_classes(labels, predicted, n_classes)
    truth, guess = truth[truth >= 0], guess[truth >= 0]
    if not len(truth):
        raise ValueError("no step is labelled, so there is nothing to score")
    return _of_counts(Counts(*(np.bincount(e, minlength=n_classes) for e in (truth[truth == guess], truth, guess))))


def log_loss(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """The mean of -log(probability of the true class), in nats; probabilities of 0 count as the type's epsilon.

    Args:
        labels: (steps,) integers from -1 to n_classes - 1.
        probabilities: (steps, n_classes), each row adding up to 1.

    Raises:
        ValueError: no step is labelled, another shape, a class out of range, or rows that are no probabilities.
    """
    truth, rows = check_probabilities(labels, probabilities)
    return float(_losses(*_labelled(truth, rows)).mean())


def calibration_curve(labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = BINS) -> list[dict[str, Any]]:
    """How often the likeliest class is right, by the probability it is given: what a reliability diagram shows.

    The confidence of a step, the largest of its probabilities, falls into one of `bins` equally wide bins
    (0, 1 / bins], …, (1 - 1 / bins, 1].

    Returns:
        For each bin with steps in it, "above" and "up_to" (its ends), "steps", and their mean "confidence" and
        "accuracy".

    Raises:
        ValueError: bins is below 1, or see `log_loss`.
    """
    truth, rows = check_probabilities(labels, probabilities)
    check_count("calibration", "bins", bins)
    return _curve(_bin_sums(*_labelled(truth, rows), bins))


def calibration_error(labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = BINS) -> float:
    """The expected calibration error: the mean distance of confidence and accuracy in equally wide bins.

    After Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks" (2017), equation 3, whose bins
    `calibration_curve` gives.

    Raises:
        ValueError: see `calibration_curve`.
    """
    return _expected_error(calibration_curve(labels, probabilities, bins))


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
        (2,) the low and high end of each score, (n_classes, 2) for those by class; None where fewer than two
        sequences have labels. Where every resample scores alike, as where all is right, both ends are the same:
        that is no proof that nothing can go wrong. The interval of the calibration error tends to lie too high, since
        resampling adds deviations to every bin, and none is negative.

    Raises:
        ValueError: an argument is not one of the above.
    """
    truth, rows = check_probabilities(labels, probabilities)
    check_count("calibration", "bins", bins)
    chosen = {name: _SCORES[check_choice("intervals", "scores", name, _SCORES)] for name in scores}
    places = as_offsets(np.arange(len(truth) + 1) if offsets is None else offsets, len(truth))
    units = units_of(labelled_sequences(truth, places), 3 * rows.shape[1] + 1 + bins, seed)
    if units is None:
        return None
    of_steps = units[sequence_of_steps(places)][truth >= 0]
    sums = _step_sums(*_labelled(truth, rows), of_steps, int(units.max()) + 1, bins)
    return intervals(sums, chosen, level=level, resamples=resamples, seed=seed)


def step_report(labels: npt.ArrayLike, probabilities: npt.ArrayLike, offsets: npt.ArrayLike) -> dict[str, Any]:
    """All scores of steps, as plain data.

    Args:
        labels: (steps,) integers from -1 to n_classes - 1.
        probabilities: (steps, n_classes), each row adding up to 1.
        offsets: (n_sequences + 1,) where sequences begin and end, as in `Ragged`.

    Returns:
        What `classification_report` gives; "log_loss"; "calibration_error" and the "calibration" curve; "intervals":
        for each mean and the log loss its 95 % interval [low, high], as "f1_interval" is of each class in "per_class";
        None where fewer than two sequences have labels.

    Raises:
        ValueError: an argument is not one of the above.
    """
    truth, rows = check_probabilities(labels, probabilities)
    places = as_offsets(offsets, len(truth))
    scores = StepScores(labelled_sequences(truth, places), rows.shape[1])
    scores.add(truth, rows, places)
    return scores.report()


class StepScores:
    """The same for steps that come some sequences at a time, so that memory need not hold the probabilities of all.

    Args:
        labelled: (n_sequences,) whether a sequence has labels; at least one has.
        n_classes: how many classes there are.
    """

    def __init__(self, labelled: npt.NDArray[np.bool_], n_classes: int) -> None:
        units = units_of(labelled, 3 * n_classes + 1 + BINS, seed=0)
        self._drawn = units is not None
        self._units = np.zeros(len(labelled), np.int64) if units is None else units
        self._n_units = int(self._units.max(initial=0)) + 1
        self._sums: _StepSums | None = None
        self._bins = np.zeros((3, BINS))  # steps, and their confidence and those that are right
        self._done = 0

    def add(self, labels: npt.ArrayLike, probabilities: npt.ArrayLike, offsets: npt.ArrayLike) -> None:
        """Take the next sequences: see `step_report`; they may be without labels."""
        truth, rows = check_probabilities(labels, probabilities, some=False)
        lengths = np.diff(as_offsets(offsets, len(truth)))
        of_steps = np.repeat(self._units[self._done : self._done + len(lengths)], lengths)[truth >= 0]
        self._done += len(lengths)
        truth, rows = _labelled(truth, rows)
        sums = _step_sums(truth, rows, of_steps, self._n_units, BINS)
        self._sums = sums if self._sums is None else self._sums.plus(sums)
        self._bins += _bin_sums(truth, rows, BINS)

    def report(self) -> dict[str, Any]:
        """What `step_report` returns.

        Raises:
            ValueError: none of the steps is labelled.
        """
        sums = self._sums
        if sums is None or not sums.true.any():
            raise ValueError("no step is labelled, so there is nothing to score")
        total = Counts(sums.correct.sum(0), sums.true.sum(0), sums.predicted.sum(0))
        report = _of_counts(total)
        report["log_loss"] = float(sums.loss.sum() / total.true.sum())
        report["calibration"] = _curve(self._bins)
        report["calibration_error"] = _expected_error(report["calibration"])
        found = None
        if self._drawn:
            chosen = {name: _SCORES[name] for name in (*_MEANS, "log_loss", "f1")}
            found = intervals(sums, chosen, level=0.95, resamples=RESAMPLES, seed=0)
        report["intervals"] = found and {name: ends.tolist() for name, ends in found.items() if name != "f1"}
        for class_, scores in enumerate(report["per_class"]):
            scores["f1_interval"] = found and found["f1"][class_].tolist()
        return report


@dataclasses.dataclass(frozen=True)
class _StepSums(Counts):
    """Counts of steps, and what else scores of steps are made of.

    Attributes:
        loss: (…,) the sum of the steps' losses.
        excess: (…, bins) the sum of confidence - 1 over right steps and of confidence over wrong ones.
    """

    loss: Numbers
    excess: Numbers

    def plus(self, other: _StepSums) -> _StepSums:
        """The sums of both."""
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in dataclasses.fields(self))
        return _StepSums(*(one + two for one, two in pairs))


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
_OF_PROBABILITIES: dict[str, Callable[[_StepSums], Scores]] = {
    "log_loss": lambda sums: ratio(sums.loss, sums.true.sum(-1)),
    "calibration_error": lambda sums: ratio(np.abs(sums.excess).sum(-1), sums.true.sum(-1)),
}
_SCORES: dict[str, Callable[[_StepSums], Scores]] = {**_MEANS, **_BY_CLASS, **_OF_PROBABILITIES}


def _step_sums(truth: Classes, rows: Probabilities, units: Classes, n_units: int, bins: int) -> _StepSums:
    """What each unit contributes; of labelled steps, and the unit of each."""
    shape = (n_units, rows.shape[1])
    guess = rows.argmax(axis=1)
    right = truth == guess
    confidence, places = _confidence(rows, bins)
    return _StepSums(
        correct=count_classes(units[right], truth[right], shape),
        true=count_classes(units, truth, shape),
        predicted=count_classes(units, guess, shape),
        loss=np.bincount(units, _losses(truth, rows), minlength=n_units),
        excess=np.bincount(units * bins + places, confidence - right, minlength=n_units * bins).reshape(n_units, bins),
    )


def _of_counts(counts: Counts) -> dict[str, Any]:
    """What `classification_report` returns."""
    steps = int(counts.true.sum())
    return {
        "steps": steps,
        "majority": float(counts.true.max() / steps),
        **{name: float(score(counts)) for name, score in _MEANS.items()},
        "per_class": counts.per_class(),
    }


def _bin_sums(truth: Classes, rows: Probabilities, bins: int) -> Scores:
    """(3, bins) the number of labelled steps by their confidence, the sum of that, and how many of them are right."""
    confidence, places = _confidence(rows, bins)
    right = rows.argmax(axis=1) == truth
    weights = (None, confidence, right)
    return np.stack([np.bincount(places, each, minlength=bins).astype(np.float64) for each in weights])


def _curve(sums: Scores) -> list[dict[str, Any]]:
    """What `calibration_curve` returns."""
    steps, confidence, right = sums
    bins, confidences, accuracies = len(steps), ratio(confidence, steps), ratio(right, steps)
    return [
        {
            "above": place / bins,
            "up_to": (place + 1) / bins,
            "steps": int(steps[place]),
            "confidence": float(confidences[place]),
            "accuracy": float(accuracies[place]),
        }
        for place in np.flatnonzero(steps).tolist()
    ]


def _expected_error(curve: list[dict[str, Any]]) -> float:
    distances = [abs(found["confidence"] - found["accuracy"]) for found in curve]
    return float(np.average(distances, weights=[found["steps"] for found in curve]))


def _labelled(truth: Classes, rows: Probabilities) -> tuple[Classes, Probabilities]:
    labelled = truth >= 0
    return (truth, rows) if labelled.all() else (truth[labelled], rows[labelled])


def _losses(truth: Classes, rows: Probabilities) -> Scores:
    """(steps,) float64, of labelled steps."""
    epsilon = np.finfo(rows.dtype).eps
    given = rows[np.arange(len(truth)), truth].clip(epsilon, 1 - epsilon)
    return -np.log(given.astype(np.float64))


def _confidence(rows: Probabilities, bins: int) -> tuple[Scores, Classes]:
    """(steps,) each: the largest probability, and the bin that it falls into."""
    confidence = rows.max(axis=1).astype(np.float64)
    places = np.ceil(confidence * bins).astype(np.int64) - 1
    return confidence, places.clip(0, bins - 1)
