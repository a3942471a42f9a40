"""From y, class weights and sample weights as users give them to a target and a weight for each output row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.engine.losses import CRF_LIKELIHOOD, LOSSES, TargetKind
from bilstm.engine.network import mark_unlabelled
from bilstm.engine.plans import Targets
from bilstm.errors import UserError
from bilstm.ragged import FloatArray, Ragged


def make_targets(
    y: Any,
    data: Ragged,
    *,
    loss: str,
    outputs: int,
    one_row_each: bool,
    sample_weight: Any = None,
    class_weight: Mapping[int, float] | None = None,
    kept: npt.NDArray[np.bool_] | None = None,
    complete: bool = False,
) -> Targets:
    """Bring y and the weights into the engine's form.

    Args:
        y: for a network with a row for each step, a (n, steps), (n, steps, outputs) or (total_steps, outputs) array,
            a list with an array for each sequence, or a Ragged; for one row per sequence, (n,) or (n, outputs).
            NaN, or -1 unless y is any numbers: unlabelled.
        loss: a name in `bilstm.engine.losses.LOSSES`, which says what kind of targets y has.
        sample_weight: a number for each sequence, or for each row, shaped like y without outputs.
        class_weight: class -> weight; multiplies the sample weight.
        kept: (total_steps,) which steps of the data are not masked; the others' targets and weights are dropped. None:
            all, or one row per sequence.
        complete: whether y is a whole data set, in which labels of 1 and -1 alone are refused: they are two
            classes rather than unlabelled rows. In a batch they may be either.

    Raises:
        ValueError: shapes or values that do not fit; the message says which and what would fit.
    """
    if y is None:
        raise UserError("y is missing: it has the targets of the sequences in x")
    rows = len(data) if one_row_each else data.total_steps
    flat = _flat(y, data, one_row_each, "y")
    kind = LOSSES[loss].targets
    if LOSSES[loss] is CRF_LIKELIHOOD:
        if class_weight is not None:
            raise ValueError("class_weight is not for a CRF, whose loss is that of whole sequences: use sample_weight")
        if outputs > 1 and flat.size == rows * outputs:
            return _possible_labels(flat.reshape(rows, outputs), kept, sample_weight, data)
    if kind is TargetKind.LABELS:
        labels = _labels(flat, rows, outputs, kept, complete, loss)
        weights = _weights(sample_weight, class_weight, labels, data, one_row_each, kept)
        return Targets(labels=labels, weights=weights)
    if flat.size != rows * outputs or (rows and flat.shape[0] != rows):
        hint = "; whole-number labels go with 'sparse_categorical_crossentropy'" if outputs > 1 else ""
        raise ValueError(
            f"y has shape {flat.shape} where {loss} needs ({rows}, {outputs}): a number for each output{hint}"
        )
    values = np.array(flat, np.float32).reshape(rows, outputs)
    if kept is not None:
        values = values[kept]
    if complete and kind is TargetKind.PROBABILITIES:
        _check_coding(values)
    if kind is TargetKind.NUMBERS:
        if np.isinf(values).any():
            raise ValueError(f"y is infinite in row {np.argwhere(np.isinf(values))[0, 0]}")
    elif mark_unlabelled(values) >= 0:
        raise ValueError(f"{loss} needs y from 0 to 1, or -1 where unlabelled")
    weights = None
    if sample_weight is not None or class_weight is not None:
        weights = _weights(sample_weight, class_weight, _classes(values), data, one_row_each, kept)
    return Targets(values=values, weights=weights)


def _flat(y: Any, data: Ragged, one_row_each: bool, name: str) -> npt.NDArray[Any]:
    """An array whose first dimension is rows."""
    if isinstance(y, Ragged):
        if not np.array_equal(y.offsets, data.offsets):
            raise ValueError(f"{name} and x must have sequences of the same lengths")
        return y.values
    if isinstance(y, (list, tuple)) and not one_row_each:
        if len(y) != len(data):
            raise ValueError(f"{name} has {len(y)} sequences, x has {len(data)}")
        arrays = [np.asarray(sequence) for sequence in y]
        for position, (array, steps) in enumerate(zip(arrays, data.lengths, strict=True)):
            if array.ndim == 0 or len(array) != steps:
                raise ValueError(f"{name}: sequence {position} has shape {array.shape}, but {steps} steps in x")
        flattened = [array.reshape(len(array), -1) for array in arrays]
        return np.concatenate(flattened) if flattened else np.empty((0, 1))
    array = np.asarray(y)
    if one_row_each:
        if array.ndim == 0 or len(array) != len(data):
            raise ValueError(f"{name} has shape {array.shape}, but there are {len(data)} sequences")
        return array
    if array.ndim >= 2 and len(array) == len(data) and data.have_lengths(array.shape[1]):
        return array.reshape(data.total_steps, -1) if array.size else array.reshape(0, 1)
    if array.ndim >= 1 and len(array) == data.total_steps and array.ndim <= 2:
        return array
    raise ValueError(
        f"{name} has shape {array.shape}, but x has {len(data)} sequences of {data.total_steps} steps in all: "
        f"give a value for every step"
    )


def _check_coding(labels: npt.NDArray[Any]) -> None:
    unlabelled = labels == -1
    if unlabelled.any() and (labels == 1).any() and (unlabelled | (labels == 1) | np.isnan(labels)).all():
        raise UserError(
            "y has only the labels 1 and -1, and -1 means unlabelled, so all that is labelled is one class: number the "
            "classes 0 and 1 instead, or write NaN if -1 did mean unlabelled"
        )


def _labels(
    flat: npt.NDArray[Any], rows: int, outputs: int, kept: npt.NDArray[np.bool_] | None, complete: bool, loss: str
) -> npt.NDArray[np.int32]:
    if flat.size != rows:
        raise ValueError(f"{loss} needs one whole number per row, but y has shape {flat.shape}")
    numbers = np.asarray(flat.reshape(rows), np.float64)
    if kept is not None:
        numbers = numbers[kept]
    if complete:
        _check_coding(numbers)
    numbers = np.where(np.isnan(numbers), -1, numbers)
    wrong = np.flatnonzero((numbers != np.floor(numbers)) | (numbers < -1) | (numbers >= outputs))
    if len(wrong):
        raise ValueError(
            f"y must be whole numbers from 0 to {outputs - 1}, or -1 where unlabelled, "
            f"not {numbers[wrong[0]]:g} (row {wrong[0]})"
        )
    return numbers.astype(np.int32)


def _possible_labels(
    flat: npt.NDArray[Any],
    kept: npt.NDArray[np.bool_] | None,
    sample_weight: Any,
    data: Ragged,
) -> Targets:
    """Which labels each step may have, for a CRF."""
    values = np.array(flat, np.float32)
    if kept is not None:
        values = values[kept]
    unlabelled = np.isnan(values).any(axis=1) | (values == -1).any(axis=1)
    wrong = np.flatnonzero(~unlabelled & ((values != 0) & (values != 1)).any(axis=1))
    if len(wrong):
        raise ValueError(
            f"crf_likelihood needs y of 1 for each label that a step may have and 0 for the others, or -1 where "
            f"unlabelled, not {values[wrong[0]].tolist()} (row {wrong[0]})"
        )
    empty = np.flatnonzero(~unlabelled & ~(values == 1).any(axis=1))
    if len(empty):
        raise ValueError(f"y gives the step in row {empty[0]} no label: write -1 where it is unlabelled")
    values[unlabelled] = np.nan
    labels = np.where(unlabelled, -1, 0).astype(np.int32)
    return Targets(values=values, weights=_weights(sample_weight, None, labels, data, False, kept))


def _classes(values: FloatArray) -> npt.NDArray[np.int32]:
    """The class of each row of targets: the rounded number of a single output, else the largest; -1 unlabelled."""
    unlabelled = np.isnan(values).any(axis=1)
    filled = np.where(np.isnan(values), 0, values)
    classes = filled.argmax(axis=1) if values.shape[1] > 1 else np.rint(filled[:, 0])
    return np.where(unlabelled, -1, classes).astype(np.int32)


def _weights(
    sample_weight: Any,
    class_weight: Mapping[int, float] | None,
    classes: npt.NDArray[np.int32],
    data: Ragged,
    one_row_each: bool,
    kept: npt.NDArray[np.bool_] | None,
) -> FloatArray | None:
    if sample_weight is None and class_weight is None:
        return None
    rows = len(data) if one_row_each else data.total_steps
    weights = np.ones(rows, np.float32)
    if sample_weight is not None:
        array = None if isinstance(sample_weight, (Ragged, list, tuple)) else np.asarray(sample_weight)
        if isinstance(sample_weight, (list, tuple)) and np.ndim(sample_weight[0] if sample_weight else 0) == 0:
            array = np.asarray(sample_weight)
        if not one_row_each and array is not None and array.shape == (len(data),):
            weights = np.repeat(array.astype(np.float32), data.lengths)
        else:
            flat = _flat(sample_weight, data, one_row_each, "sample_weight")
            if flat.size != len(weights):
                raise ValueError(f"sample_weight has shape {flat.shape}, but there are {len(weights)} rows")
            weights = flat.reshape(-1).astype(np.float32)
    if kept is not None:
        weights = weights[kept]
    if class_weight is not None:
        known = np.unique(classes[classes >= 0])
        missing = [int(c) for c in known if int(c) not in class_weight]
        if missing:
            raise ValueError(f"class_weight lacks class {missing[0]}")
        table = np.array([class_weight.get(c, 1.0) for c in range(int(known.max(initial=0)) + 1)], np.float32)
        weights = weights * np.where(classes >= 0, table[np.maximum(classes, 0)], 0)
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError("weights must be finite and not negative")
    return weights
