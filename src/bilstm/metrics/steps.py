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
    counts = Counts(*(np.bincount(each, minlength=n_classes) for each in (truth[truth == guess], truth, guess)))
    return {
        "steps": len(truth),
        "majority": float(counts.true.max() / len(truth)),
        **{name: float(score(counts)) for name, score in _MEANS.items()},
        "per_class": counts.per_class(),
    }


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
    truth, rows = _labelled(truth, rows)
    confidence, places = _confidence(rows, bins)
    right = rows.argmax(axis=1) == truth
    steps = np.bincount(places, minlength=bins)
    confidences = ratio(np.bincount(places, confidence, minlength=bins), steps)
    accuracies = ratio(np.bincount(places, right, minlength=bins), steps)
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


def calibration_error(labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = BINS) -> float:
    """The expected calibration error: the mean distance of confidence and accuracy in equally wide bins.

    After Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks" (2017), equation 3, whose bins
    `calibration_curve` gives.

    Raises:
        ValueError: see `calibration_curve`.
    """
    curve = calibration_curve(labels, probabilities, bins)
    distances = [abs(found["confidence"] - found["accuracy"]) for found in curve]
    return float(np.average(distances, weights=[found["steps"] for found in curve]))


def accuracy_gain(
    labels: npt.ArrayLike,
    predicted: npt.ArrayLike,
    others: npt.ArrayLike,
    offsets: npt.ArrayLike,
    n_classes: int,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, Scores | None]:
    """How much more often predictions are right than other predictions for the same steps.

    Args:
        labels: (steps,) integers from -1 to n_classes - 1.
        predicted, others: (steps,) integers from 0 to n_classes - 1.
        offsets: (n_sequences + 1,) where sequences begin and end, as in `Ragged`.
        level, resamples, seed: see `step_intervals`.

    Returns:
        The difference of the accuracies, and its (2,) interval, None where fewer than two sequences have labels. It is
        paired: both are scored on the same sequences in every resample, so what is hard for both does not widen it.

    Raises:
        ValueError: no step is labelled, or an argument is not one of the above.
    """
    truth, guess = check_classes(labels, predicted, n_classes)
    _, other = check_classes(labels, others, n_classes)
    labelled = truth >= 0
    if not labelled.any():
        raise ValueError("no step is labelled, so there is nothing to score")
    gained = (guess == truth).astype(np.int64) - (other == truth)
    places = as_offsets(offsets, len(truth))
    units = units_of(labelled_sequences(truth, places), 3, seed)
    gain = float(gained[labelled].mean())
    if units is None:
        return gain, None
    of_steps = units[sequence_of_steps(places)][labelled]
    steps = np.bincount(of_steps)[:, np.newaxis]
    sums = Counts(np.bincount(of_steps, gained[labelled])[:, np.newaxis], steps, steps)
    scores = {"gain": lambda counts: counts.overall().recall}
    return gain, intervals(sums, scores, level=level, resamples=resamples, seed=seed)["gain"]


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
    report = classification_report(truth, rows.argmax(axis=1), rows.shape[1])
    report["log_loss"] = log_loss(truth, rows)
    report["calibration_error"] = calibration_error(truth, rows)
    report["calibration"] = calibration_curve(truth, rows)
    found = step_intervals(truth, rows, offsets, [*_MEANS, "log_loss", "f1"])
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
