"""Labels as metrics take them: checked, and by sequence."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bilstm.arguments import check_count

Classes = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float32] | npt.NDArray[np.float64]


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
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, *, some: bool = True
) -> tuple[Classes, Probabilities]:
    """Labels as int64, and (steps, n_classes) probabilities, float32 if they are, otherwise float64.

    Args:
        some: whether at least one step must be labelled.

    Raises:
        ValueError: no step is labelled, another shape, a class out of range, or rows that are no probabilities.
    """
    rows = np.asarray(probabilities)
    if rows.ndim != 2 or np.shape(labels) != rows.shape[:1]:
        raise ValueError(
            f"labels have shape (steps,) and probabilities (steps, n_classes), not {np.shape(labels)} and {rows.shape}"
        )
    if rows.dtype.kind not in "fbiu":
        raise ValueError(f"probabilities must be numbers, not {rows.dtype}")
    rows = rows if rows.dtype == np.float32 else rows.astype(np.float64)
    truth, _ = check_classes(labels, np.zeros(len(rows), np.int64), max(rows.shape[1], 1))
    if some and not (truth >= 0).any():
        raise ValueError("no step is labelled, so there is nothing to score")
    if len(rows) and not (rows.min() >= 0 and np.abs(rows.sum(axis=1) - 1).max() < 1e-3):  # NaN is neither
        raise ValueError("each row of probabilities must be numbers from 0 to 1 that add up to 1")
    return truth, rows


def sequence_of_steps(offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(steps,) the sequence that each step belongs to."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def labelled_sequences(labels: npt.NDArray[np.integer], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """(n_sequences,) whether any step of a sequence is labelled."""
    sequences = sequence_of_steps(offsets)[labels >= 0]
    return np.bincount(sequences, minlength=len(offsets) - 1) > 0
