"""How well probabilities agree with what happens, and temperature scaling, which makes them agree better.

All functions take labels of one of two forms, as the classifiers predict them. By default each time step has one of
several classes: labels are (steps,) integers, -1 where a step is unlabelled, and each row of (steps, n_classes)
probabilities adds up to 1. With `several`, each of several labels holds or not: labels are (steps, n_labels) of 0 and
1, with NaN where a step is unlabelled, and probabilities are (steps, n_labels) numbers from 0 to 1. Whole sequences
that have one label each are scored as steps are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.arguments import check_count
from bilstm.metrics.counts import Counts, Numbers, Scores, add_at, ratio
from bilstm.metrics.labels import (
    Classes,
    Known,
    Probabilities,
    check_label_sets,
    check_probabilities,
    require_labelled,
)

BINS = 15  # as Guo and others use
_TEMPERATURES = 2.0 ** (np.arange(-64, 97) / 32)  # from 1/4 to 8; a grid hides the last bits of exp and log
_LEAST_GAIN = 1e-6  # of the log loss: less is not worth a temperature
_AT_ONCE = 2**20  # numbers


def log_loss(labels: npt.ArrayLike, probabilities: npt.ArrayLike, *, several: bool = False) -> float:
    """The mean of -log(probability of the true class), in nats; probabilities of 0 count as the type's epsilon.

    Args:
        labels: (steps,) integers from -1 to n_classes - 1; with `several`, (steps, n_labels) of 0, 1 and NaN.
        probabilities: (steps, n_classes), each row adding up to 1; with `several`, (steps, n_labels).
        several: whether several labels may hold at once; the mean is then over all labels of all steps.

    Raises:
        ValueError: no step is labelled, another shape, a class out of range, or rows that are no probabilities.
    """
    return float(losses(*_labelled(labels, probabilities, several)).mean())


def calibration_curve(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = BINS, *, several: bool = False
) -> list[dict[str, Any]]:
    """How often predictions are right, by the probability they are given, as in a reliability diagram.

    The confidence of a step is the largest of its probabilities, and its prediction is right if it is of the true
    class. With `several`, each label of each step is a prediction of its own: its confidence is the label's
    probability, and it is right if the label holds. Confidences fall into equally wide bins (0, 1 / bins], …,
    (1 - 1 / bins, 1].

    Args:
        labels: (steps,) integers from -1 to n_classes - 1; with `several`, (steps, n_labels) of 0, 1 and NaN.
        probabilities: (steps, n_classes), each row adding up to 1; with `several`, (steps, n_labels).
        bins: how many, at least 1.
        several: whether several labels may hold at once.

    Returns:
        For each bin with predictions in it, "above" and "up_to" (its ends), "steps" (the number of predictions), and
        their mean "confidence" and "accuracy".

    Raises:
        ValueError: no step is labelled, `bins` is below 1, another shape, or values out of range.
    """
    truth, rows = _labelled(labels, probabilities, several)
    check_count("calibration", "bins", bins)
    sums = ProbabilitySums.zeros(1, rows.shape[1], bins)
    sums.add_confidences(truth, rows, np.zeros(len(rows), np.int64))
    return sums.total().curve()


def calibration_error(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = BINS, *, several: bool = False
) -> float:
    """The expected calibration error: the mean distance of confidence and accuracy in equally wide bins.

    After Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks" (2017), equation 3; the bins are
    those of `calibration_curve`.

    Args:
        labels, probabilities, bins, several: as for `calibration_curve`.

    Raises:
        ValueError: no step is labelled, `bins` is below 1, another shape, or values out of range.
    """
    curve = calibration_curve(labels, probabilities, bins, several=several)
    distances = [abs(entry["confidence"] - entry["accuracy"]) for entry in curve]
    return float(np.average(distances, weights=[entry["steps"] for entry in curve]))


def find_temperature(labels: npt.ArrayLike, probabilities: npt.ArrayLike, *, several: bool = False) -> float:
    """The temperature with which probabilities fit the labels best, to be found on a validation set.

    Networks tend to be too sure of their predictions. Dividing the logits by one temperature corrects that and changes
    no prediction: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks" (2017), section 4.2.

    A small set without a mistake would fit the lowest temperature best. So each of n labels counts as true with
    probability (n + 1) / (n + 2), not 1, and the other classes share the rest, as in Platt, "Probabilistic Outputs for
    Support Vector Machines" (1999): n predictions that are all right show no more than that.

    Args:
        labels: (steps,) integers from -1 to n_classes - 1; with `several`, (steps, n_labels) of 0, 1 and NaN.
        probabilities: (steps, n_classes), each row adding up to 1; with `several`, (steps, n_labels).
        several: whether several labels may hold at once.

    Returns:
        One of 2**(k / 32) for whole k from -64 to 96: the one of the least mean cross-entropy with these targets over
        labelled steps, or 1.0 if it lowers the log loss by less than a millionth.

    Raises:
        ValueError: no step is labelled, another shape, or values out of range.
    """
    truth, rows = _labelled(labels, probabilities, several)

    def loss(index: int) -> float:
        return float(sum(_soft_losses(truth, rows, _TEMPERATURES[index])))

    low, high = 0, len(_TEMPERATURES) - 1
    while low < high:  # the loss is a convex function of 1 / temperature, so it has no other valley
        middle = (low + high) // 2
        low, high = (low, middle) if loss(middle) <= loss(middle + 1) else (middle + 1, high)
    temperature = float(_TEMPERATURES[low])
    before = losses(truth, rows).mean()
    after = losses(truth, with_temperature(rows, temperature, several=several)).mean()
    return temperature if after < before - _LEAST_GAIN else 1.0


def with_temperature(probabilities: npt.ArrayLike, temperature: float, *, several: bool = False) -> Probabilities:
    """The probabilities after dividing their logits by a temperature; above 1 they become less sure.

    Args:
        probabilities: (steps, n_classes), each row adding up to 1; with `several`, (steps, n_labels).
        temperature: above 0; 1 changes nothing.
        several: whether several labels may hold at once.

    Returns:
        An array of the same shape, float32 if the given one is, otherwise float64. No prediction changes:
        neither a row's first largest class nor, with `several`, which labels have probabilities above a half.
        Probabilities of exactly 0 stay 0.

    Raises:
        ValueError: the temperature is not a finite number above 0, another shape, or values out of range.
    """
    if not 0 < temperature < np.inf:
        raise ValueError(f"temperature must be a finite number above 0, not {temperature!r}")
    original = np.asarray(probabilities)
    unlabelled = np.zeros(original.shape) if several else np.zeros(original.shape[:1], np.int64)
    _, _, rows = check_label_sets(unlabelled, original) if several else check_probabilities(unlabelled, original)
    if temperature == 1 or not rows.size:
        return rows.copy()
    scaled: npt.NDArray[Any]
    if several:
        scaled = np.exp(-np.logaddexp(0, -_logits(rows) / temperature)).astype(rows.dtype)
        below, above = (np.nextafter(rows.dtype.type(0.5), rows.dtype.type(end)) for end in (0, 1))
        # Rounding may move a probability next to a half onto it.
        scaled[rows > 0.5] = np.maximum(scaled[rows > 0.5], above)
        scaled[rows < 0.5] = np.minimum(scaled[rows < 0.5], below)
        return scaled
    scaled = np.exp(_scaled_logs(rows, temperature)).astype(rows.dtype)
    best = rows.argmax(axis=1)
    changed = np.flatnonzero(scaled.argmax(axis=1) != best)  # rounding may make two classes equal
    scaled[changed, best[changed]] = np.nextafter(scaled[changed].max(axis=1), rows.dtype.type(2))
    return scaled


@dataclasses.dataclass(frozen=True)
class ProbabilitySums(Counts):
    """Counts of labels, and the sums that scores of their probabilities are made of.

    Attributes:
        loss: (…,) the sum of the losses.
        bin_steps: (…, bins) how many predictions there are by their confidence.
        bin_confidence: (…, bins) the sum of their confidences.
        bin_right: (…, bins) how many of them are right.
    """

    loss: Numbers
    bin_steps: Numbers
    bin_confidence: Numbers
    bin_right: Numbers

    @classmethod
    def zeros(cls, clusters: int, n_classes: int, bins: int) -> ProbabilitySums:
        """Sums of nothing."""
        correct, true, predicted = (np.zeros((clusters, n_classes), np.int64) for _ in range(3))
        return cls(correct, true, predicted, np.zeros(clusters), *(np.zeros((clusters, bins)) for _ in range(3)))

    def add_confidences(
        self, truth: Classes | Known, rows: Probabilities, clusters: Classes, guess: Classes | None = None
    ) -> None:
        """Add the confidences of labelled steps in place.

        Args:
            clusters: the cluster of each step.
            guess: of steps that have one class, the predicted one; None: the likeliest.
        """
        if truth.ndim == 2:
            confidence, right, clusters = rows.ravel(), truth.ravel(), np.repeat(clusters, rows.shape[1])
        else:
            guess = rows.argmax(axis=1) if guess is None else guess
            confidence, right = rows[np.arange(len(rows)), guess], guess == truth
        confidence, bins = confidence.astype(np.float64), self.bin_steps.shape[1]
        bin_of = (np.ceil(confidence * bins).astype(np.int64) - 1).clip(0, bins - 1)
        add_at(self.bin_steps, clusters, bin_of)
        add_at(self.bin_confidence, clusters, bin_of, confidence)
        add_at(self.bin_right, clusters[right], bin_of[right])

    @property
    def calibration_error(self) -> Scores:
        """(…,) the expected calibration error."""
        distances = np.abs(self.bin_confidence - self.bin_right).sum(-1)
        return ratio(distances, self.bin_steps.sum(-1))

    def curve(self) -> list[dict[str, Any]]:
        """What `calibration_curve` returns; for sums without leading axes."""
        bins, confidences = len(self.bin_steps), ratio(self.bin_confidence, self.bin_steps)
        accuracies = ratio(self.bin_right, self.bin_steps)
        return [
            {
                "above": index / bins,
                "up_to": (index + 1) / bins,
                "steps": int(self.bin_steps[index]),
                "confidence": float(confidences[index]),
                "accuracy": float(accuracies[index]),
            }
            for index in np.flatnonzero(self.bin_steps).tolist()
        ]


def losses(truth: Classes | Known, rows: Probabilities) -> Scores:
    """Of labelled steps, -log(probability of what is true), float64: (steps,), or (steps, n_labels) with several."""
    epsilon = np.finfo(rows.dtype).eps
    of_truth = np.where(truth, rows, 1 - rows) if truth.ndim == 2 else rows[np.arange(len(truth)), truth]
    return -np.log(of_truth.clip(epsilon, 1 - epsilon).astype(np.float64))


def _labelled(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, several: bool
) -> tuple[Classes | Known, Probabilities]:
    """The labels and probabilities of labelled steps, of which there must be some."""
    check = check_label_sets if several else check_probabilities
    known, truth, rows = check(labels, probabilities)
    require_labelled(known)
    return truth, rows


def _soft_losses(truth: Classes | Known, rows: Probabilities, temperature: float) -> Iterator[float]:
    """The sums of cross-entropies at a temperature with the targets of `find_temperature`, of some rows at a time.

    Probabilities of 0, and of 1 with several labels, count nothing: no temperature changes them.
    """
    sure, others = (len(rows) + 1) / (len(rows) + 2), max(1, rows.shape[1] - 1)
    at_once = max(1, _AT_ONCE // rows.shape[1])
    for start in range(0, len(rows), at_once):
        part, of_part = rows[start : start + at_once], truth[start : start + at_once]
        if truth.ndim == 2:
            logits = np.where(of_part, 1, -1) * _logits(part) / temperature
            logits = logits[np.isfinite(logits)]
            yield float(sure * np.logaddexp(0, -logits).sum() + (1 - sure) * np.logaddexp(0, logits).sum())
        else:
            logs = _scaled_logs(part, temperature)
            logs[np.isneginf(logs)] = 0
            true = logs[np.arange(len(part)), of_part].sum()
            yield -float(sure * true + (1 - sure) / others * (logs.sum() - true))


def _logits(rows: Probabilities) -> Scores:
    """log(p / (1 - p)) as float64, infinite for 0 and 1."""
    exact = rows.astype(np.float64)
    with np.errstate(divide="ignore"):
        logits: Scores = np.log(exact) - np.log(1 - exact)
    return logits


def _scaled_logs(rows: Probabilities, temperature: float) -> Scores:
    """The logarithms of rows of probabilities after dividing their logits by a temperature, as float64."""
    with np.errstate(divide="ignore"):
        scaled = np.log(rows.astype(np.float64)) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    normalised: Scores = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
    return normalised
