"""Checks of what metrics are given: labels, probabilities and quantities; and which sequences have labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.arguments import check_count

Classes = npt.NDArray[np.int64]
Known = npt.NDArray[np.bool_]
Probabilities = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Quantities = npt.NDArray[np.float64]


def check_classes(labels: npt.ArrayLike, predicted: npt.ArrayLike, n_classes: int) -> tuple[Classes, Classes]:
    """Labels and predictions as int64; -1 is an unlabelled step.

    Raises:
        TypeError: n_classes is no whole number.
        ValueError: another shape than (steps,) or a class out of range.
    """
    check_count("metrics", "n_classes", n_classes)
    truth, guess = np.asarray(labels), np.asarray(predicted)
    if truth.shape != guess.shape or truth.ndim != 1:
        raise ValueError(f"labels and predictions have one shape (steps,), not {truth.shape} and {guess.shape}")
    message = f"classes must be integers from 0 to {n_classes - 1}, or -1 where a step is unlabelled"
    if any(len(array) and array.dtype.kind not in "biu" for array in (truth, guess)):
        raise ValueError(message)
    truth, guess = truth.astype(np.int64), guess.astype(np.int64)
    labelled = truth != -1
    for classes in (truth[labelled], guess[labelled]):
        if len(classes) and not (classes.min() >= 0 and classes.max() < n_classes):
            raise ValueError(message)
    return truth, guess


def check_probabilities(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, n_classes: int | None = None
) -> tuple[Known, Classes, Probabilities]:
    """Check (steps,) labels of one class each, -1 for none, and (steps, n_classes) probabilities of the classes.

    Returns:
        (steps,) whether a step is labelled; and of the labelled steps the labels as int64 and the probabilities, which
        stay float32 if they are, otherwise float64.

    Raises:
        ValueError: another shape, a class out of range, or rows that are no probabilities.
    """
    rows = np.asarray(probabilities)
    if rows.ndim != 2 or np.shape(labels) != rows.shape[:1] or rows.shape[1] != (n_classes or rows.shape[1]):
        raise ValueError(
            f"labels have shape (steps,) and probabilities (steps, {n_classes or 'n_classes'}), "
            f"not {np.shape(labels)} and {rows.shape}"
        )
    rows = _as_floats(rows)
    truth, _ = check_classes(labels, np.zeros(len(rows), np.int64), max(rows.shape[1], 1))
    if len(rows) and not (rows.min() >= 0 and np.abs(rows.sum(axis=1) - 1).max() < 1e-3):  # NaN is neither
        raise ValueError("each row of probabilities must be numbers from 0 to 1 that add up to 1")
    known = truth >= 0
    return known, *((truth, rows) if known.all() else (truth[known], rows[known]))


def check_label_sets(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, n_labels: int | None = None
) -> tuple[Known, Known, Probabilities]:
    """Check (steps, n_labels) labels of 0 and 1, with NaN where a step is unlabelled, and the probability of each.

    Returns:
        (steps,) whether a step is labelled; and of the labelled steps the labels as booleans and the probabilities,
        which stay float32 if they are, otherwise float64.

    Raises:
        ValueError: another shape, or other values.
    """
    truth, rows = _check_matrices("labels and probabilities", labels, probabilities, n_labels or "n_labels")
    if not ((truth == 0) | (truth == 1) | np.isnan(truth)).all():
        raise ValueError("labels must be 0 or 1, or NaN where a step is unlabelled")
    rows = _as_floats(rows)
    if not ((rows >= 0) & (rows <= 1)).all():
        raise ValueError("probabilities must be numbers from 0 to 1")
    known = ~np.isnan(truth).any(axis=1)
    return known, *((truth == 1, rows) if known.all() else (truth[known] == 1, rows[known]))


def check_quantities(
    quantities: npt.ArrayLike, predicted: npt.ArrayLike, n_outputs: int
) -> tuple[Known, Quantities, Quantities]:
    """Check (steps, n_outputs) finite quantities, with NaN where a step is unlabelled, and their predictions.

    Returns:
        (steps,) whether a step is labelled; and of the labelled steps the quantities and predictions as float64.

    Raises:
        ValueError: another shape, or other values.
    """
    truth, guess = _check_matrices("quantities and predictions", quantities, predicted, n_outputs)
    truth, guess = truth.astype(np.float64), guess.astype(np.float64)
    known = ~np.isnan(truth).any(axis=1)
    truth, guess = truth[known], guess[known]
    if not np.isfinite(truth).all():
        raise ValueError("quantities must be finite numbers, or NaN where a step is unlabelled")
    if not np.isfinite(guess).all():
        raise ValueError("predicted quantities must be finite numbers")
    return known, truth, guess


def require_labelled(known: Any) -> None:
    """Raise a ValueError where nothing is labelled; takes an array of booleans or a number of labelled steps."""
    if not np.any(known):
        raise ValueError("no step is labelled, so there is nothing to score")


def sequence_of_steps(offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(steps,) the sequence that each step belongs to."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def labelled_sequences(labels: npt.NDArray[np.integer], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """(n_sequences,) whether any step of a sequence is labelled."""
    sequences = sequence_of_steps(offsets)[labels >= 0]
    return np.bincount(sequences, minlength=len(offsets) - 1) > 0


def _as_floats(probabilities: npt.NDArray[Any]) -> Probabilities:
    if probabilities.dtype.kind not in "fbiu":
        raise ValueError(f"probabilities must be numbers, not {probabilities.dtype}")
    return probabilities if probabilities.dtype == np.float32 else probabilities.astype(np.float64)


def _check_matrices(
    names: str, truth: npt.ArrayLike, predicted: npt.ArrayLike, columns: int | str
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Both as arrays of numbers of one shape (steps, columns)."""
    one, two = np.asarray(truth), np.asarray(predicted)
    if one.ndim != 2 or one.shape != two.shape or (isinstance(columns, int) and one.shape[1] != columns):
        raise ValueError(f"{names} have one shape (steps, {columns}), not {one.shape} and {two.shape}")
    for array in (one, two):
        if array.dtype.kind not in "fbiu":
            raise ValueError(f"{names} must be numbers, not {array.dtype}")
    return one, two
