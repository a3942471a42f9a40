"""Losses in plain NumPy. A batch's loss is the sum of weight * row loss over labelled rows / their number."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from oracles.numpy_layers import Array, sigmoid, softmax

EPSILON = 1e-7  # keras.config.epsilon(): probabilities are clipped to [epsilon, 1 - epsilon]


def labelled_targets(loss: str, targets: npt.ArrayLike, outputs: Array) -> tuple[Array, Array]:
    """Targets as a (rows, width) array, and (rows,) booleans: which rows are labelled.

    A row is unlabelled where its target is NaN or, in the cross-entropies of single labels, -1. Its targets become 0.
    Sparse targets have shape (rows,) or (rows, 1) and become one-hot; others have the shape of the outputs, or (rows,)
    where that is (rows, 1).

    Raises:
        ValueError: an unknown loss, another shape, a label that is no class, or a row labelled in part.
    """
    if loss not in ROW_LOSSES:
        raise ValueError(f"unknown loss {loss!r}")
    rows, width = outputs.shape
    sparse = loss == "sparse_categorical_crossentropy"
    array = np.asarray(targets, np.float64)
    if array.size != rows * (1 if sparse else width) or array.shape[:1] != (rows,):
        raise ValueError(f"{loss} of outputs {outputs.shape} cannot take targets of shape {array.shape}")
    array = array.reshape(rows, -1) if rows else np.zeros((0, 1 if sparse else width))
    missing: Array = np.asarray(np.isnan(array))
    if sparse or loss == "binary_crossentropy":
        missing |= array == -1
    labelled: Array = np.logical_not(missing.any(axis=1))
    if (labelled == missing.all(axis=1)).any():
        raise ValueError("a row is labelled in all of its outputs or in none")
    array = np.where(missing, 0, array)
    if sparse:
        classes = array[:, 0].astype(np.int64)
        if (classes != array[:, 0]).any() or (classes < 0).any() or (classes >= width).any():
            raise ValueError(f"labels must be integers from 0 to {width - 1}")
        array = (classes[:, np.newaxis] == np.arange(width)) & labelled[:, np.newaxis]
    return array.astype(outputs.dtype), labelled


def row_losses_from_logits(activation: str, x: Array, t: Array) -> tuple[Array, Array]:
    """(rows,) cross-entropies of sigmoid(x) or softmax(x) with targets t, and their gradients by x; never overflows."""
    if activation == "sigmoid":
        losses = np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x)))
        return losses.mean(axis=1), (sigmoid(x) - t) / x.shape[1]
    shifted = x - x.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -(t * log_probabilities).sum(axis=1), softmax(x) * t.sum(axis=1, keepdims=True) - t


def row_losses(loss: str, y: Array, t: Array) -> tuple[Array, Array]:
    """(rows,) losses of the outputs y with targets t, and their gradients by y, as Keras computes them."""
    return ROW_LOSSES[loss](y, t)


def _binary_crossentropy(y: Array, t: Array) -> tuple[Array, Array]:
    p = np.clip(y, EPSILON, 1 - EPSILON)
    by_p = ((1 - t) / (1 - p) - t / p) / y.shape[1]
    return -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean(axis=1), by_p * (p == y)


def _categorical_crossentropy(y: Array, t: Array) -> tuple[Array, Array]:
    total = y.sum(axis=1, keepdims=True)
    q = y / total
    p = np.clip(q, EPSILON, 1 - EPSILON)
    by_q = -t / p * (p == q)
    return -(t * np.log(p)).sum(axis=1), (by_q - (by_q * q).sum(axis=1, keepdims=True)) / total


def _mean_squared_error(y: Array, t: Array) -> tuple[Array, Array]:
    return ((y - t) ** 2).mean(axis=1), 2 * (y - t) / y.shape[1]


def _mean_absolute_error(y: Array, t: Array) -> tuple[Array, Array]:
    return np.abs(y - t).mean(axis=1), np.sign(y - t) / y.shape[1]


def _huber(y: Array, t: Array) -> tuple[Array, Array]:
    """Of delta 1, by Huber 1964, "Robust Estimation of a Location Parameter"."""
    error = np.abs(y - t)
    losses = np.where(error <= 1, error**2 / 2, error - 1 / 2)
    return losses.mean(axis=1), np.where(error <= 1, y - t, np.sign(y - t)) / y.shape[1]


# Of one-hot targets the sparse one is the other.
ROW_LOSSES: dict[str, Callable[[Array, Array], tuple[Array, Array]]] = {
    "binary_crossentropy": _binary_crossentropy,
    "categorical_crossentropy": _categorical_crossentropy,
    "sparse_categorical_crossentropy": _categorical_crossentropy,
    "mean_squared_error": _mean_squared_error,
    "mean_absolute_error": _mean_absolute_error,
    "huber": _huber,
}
# Computed from the logits of this activation.
FROM_LOGITS = {
    "binary_crossentropy": "sigmoid",
    "categorical_crossentropy": "softmax",
    "sparse_categorical_crossentropy": "softmax",
}
