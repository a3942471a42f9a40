"""How good predictions are: counts over labelled steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def confusion_matrix(labels: npt.ArrayLike, predicted: npt.ArrayLike, n_classes: int) -> npt.NDArray[np.int64]:
    """(n_classes, n_classes) counts: rows are true classes, columns predicted ones; steps labelled -1 are left out.

    Args:
        labels: (steps,) integers from -1 to n_classes - 1.
        predicted: (steps,) integers from 0 to n_classes - 1.

    Raises:
        ValueError: another shape or a class out of range.
    """
    truth, guess = np.asarray(labels), np.asarray(predicted)
    if truth.shape != guess.shape or truth.ndim != 1:
        raise ValueError(f"labels and predictions have one shape (steps,), not {truth.shape} and {guess.shape}")
    message = f"classes must be integers from 0 to {n_classes - 1}, or -1 where a step is unlabelled"
    if any(len(array) and array.dtype.kind not in "biu" for array in (truth, guess)):
        raise ValueError(message)
    labelled = truth != -1
    truth, guess = truth[labelled].astype(np.int64), guess[labelled].astype(np.int64)
    if len(truth) and not (0 <= min(truth.min(), guess.min()) and max(truth.max(), guess.max()) < n_classes):
        raise ValueError(message)
    counts = np.bincount(truth * n_classes + guess, minlength=n_classes * n_classes)
    return counts.reshape(n_classes, n_classes)


def classification_report(labels: npt.ArrayLike, predicted: npt.ArrayLike, n_classes: int) -> dict[str, Any]:
    """Scores over labelled steps, as plain data.

    Returns:
        "steps": how many are labelled; "accuracy"; "majority": the share of the commonest class, what a constant
        guess would score; "macro_f1": the mean F1 of the classes that occur in labels or predictions; "per_class": for
        each class its "precision", "recall", "f1" (0 where undefined) and "support".

    Raises:
        ValueError: no step is labelled, or see `confusion_matrix`.
    """
    matrix = confusion_matrix(labels, predicted, n_classes)
    steps = int(matrix.sum())
    if not steps:
        raise ValueError("no step is labelled, so there is nothing to score")
    correct, support, guessed = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    precision = correct / np.maximum(guessed, 1)
    recall = correct / np.maximum(support, 1)
    f1 = 2 * correct / np.maximum(support + guessed, 1)
    occurs = support + guessed > 0
    return {
        "steps": steps,
        "accuracy": float(correct.sum() / steps),
        "majority": float(support.max() / steps),
        "macro_f1": float(f1[occurs].mean()),
        "per_class": [
            {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(s)}
            for p, r, f, s in zip(precision, recall, f1, support, strict=True)
        ],
    }
