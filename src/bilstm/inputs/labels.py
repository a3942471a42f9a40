"""Labels of any kind -> the classes there are, and what the engine learns: a class for each row, or several at once."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.engine.plans import Targets
from bilstm.errors import listed
from bilstm.ragged import FloatArray, IndexArray, Ragged
from bilstm.training.classweights import row_weights

UNLABELLED, UNKNOWN = -1, -2
INCONSISTENT = "Found input variables with inconsistent numbers of samples"  # scikit-learn's words


@dataclasses.dataclass(frozen=True)
class Labels:
    """A label for each row, and where there is none.

    Attributes:
        values: (rows,) strings, whole numbers, booleans, or objects of any of these.
        labelled: (rows,) booleans.
    """

    values: npt.NDArray[Any]
    labelled: npt.NDArray[np.bool_]

    def classes(self) -> npt.NDArray[Any]:
        """The different labels, sorted; see `as_classes`."""
        return as_classes(self.values[self.labelled])

    def codes(self, classes: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
        """(rows,) the index of each label's class, UNLABELLED or UNKNOWN."""
        indices = {label: index for index, label in enumerate(classes.tolist())}
        if self.values.dtype == object:
            found = (indices.get(label, UNKNOWN) for label in self.values.tolist())
            codes = np.fromiter(found, np.int32, len(self.values))
        else:
            different, inverse = np.unique(self.values, return_inverse=True)
            known = np.array([indices.get(label, UNKNOWN) for label in different.tolist()], np.int32)
            codes = known[inverse.reshape(-1)]
        return np.where(self.labelled, codes, np.int32(UNLABELLED))

    def known_codes(self, classes: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
        """The same, where every label must be one of the classes.

        Raises:
            ValueError: one is not; the message names it.
        """
        codes = self.codes(classes)
        unknown = np.flatnonzero(codes == UNKNOWN)
        if len(unknown):
            label, names = str(self.values[unknown[0]]), listed(map(str, classes.tolist()))
            raise ValueError(f"y has the label {label!r}, which is none of the classes {names}")
        return codes

    def targets(self, classes: npt.NDArray[Any], class_weight: Any, counted: IndexArray | None = None) -> Targets:
        """What is to be learnt.

        Args:
            class_weight: see `row_weights`.
            counted: the rows by which weights are balanced; all, if left out.

        Raises:
            ValueError: a label is none of the classes, or the weights are impossible.
        """
        codes = self.known_codes(classes)
        weights = row_weights(class_weight, classes, codes, codes if counted is None else codes[counted])
        return Targets(labels=codes, weights=weights)


@dataclasses.dataclass(frozen=True)
class Indicators:
    """Which of several labels each row has, any number of them at once: scikit-learn's multilabel indicators.

    Attributes:
        values: (rows, n_labels) float32, 1 or 0; NaN in rows without labels.
        labelled: (rows,) booleans.
    """

    values: FloatArray
    labelled: npt.NDArray[np.bool_]

    def classes(self) -> npt.NDArray[Any]:
        """The labels' numbers, as they have no names.

        Raises:
            ValueError: no row is labelled.
        """
        if not self.labelled.any():
            raise ValueError("no step of y is labelled, so there is nothing to learn")
        return np.arange(self.values.shape[1])

    def targets(self, classes: npt.NDArray[Any], class_weight: Any, counted: IndexArray | None = None) -> Targets:
        """What is to be learnt.

        Raises:
            ValueError: there are other classes than these labels, or weights of classes.
        """
        if class_weight is not None:
            raise ValueError("class_weight is for steps of one label each, but those of y have several")
        return Targets(values=self.known_values(classes))

    def known_values(self, classes: npt.NDArray[Any]) -> FloatArray:
        """The values, where there are as many labels as classes.

        Raises:
            ValueError: there are not.
        """
        if not np.array_equal(classes, np.arange(self.values.shape[1])):
            raise ValueError(
                f"y has {self.values.shape[1]} labels a step, which are not the classes {classes.tolist()}"
            )
        return self.values


def as_classes(labels: Any) -> npt.NDArray[Any]:
    """The different ones of some labels, sorted.

    Raises:
        ValueError: there are fewer than two, they cannot be sorted, or are quantities.
    """
    array = np.asarray(labels).ravel()
    kinds = {type(label).__name__ for label in array.tolist()} if array.dtype == object else set()
    try:
        found = np.array(sorted(set(array.tolist()))) if array.dtype == object else np.unique(array)
    except TypeError:
        found = np.empty(0, object)
    if len(array) and found.dtype.kind not in "biufU":
        raise ValueError(f"labels must be strings or whole numbers, of one kind, not {' and '.join(sorted(kinds))}")
    if found.dtype.kind == "f" and (found != np.floor(found)).any():
        quantity = found[found != np.floor(found)][0]
        raise ValueError(f"Unknown label type: continuous. Labels are classes, but {quantity} is a quantity")
    if len(found) < 2:
        there = f"y has only one class, {str(found[0])!r}" if len(found) else "y has none"
        raise ValueError(f"labels of at least two classes are needed to learn the difference; {there}")
    return found


def read_step_labels(y: Any, offsets: IndexArray, missing: Any = None) -> Labels | Indicators:
    """A label for every step, or none; or indicators of several.

    Args:
        y: a list with an array or a list for each sequence, a (n, steps) array, or a Ragged. Indicators have a further
            dimension, of two or more.
        offsets: (n + 1,) of the sequences.
        missing: what stands for "unlabelled" besides None and NaN.

    Raises:
        ValueError: y has none of these forms, or another number of sequences or steps.
    """
    if not isinstance(y, (list, tuple)):
        y = list(y if isinstance(y, Ragged) else np.atleast_1d(np.asarray(y)))
    if len(y) != len(offsets) - 1:
        raise ValueError(f"{INCONSISTENT}: X has {len(offsets) - 1} sequences, y has {len(y)}")
    arrays = [as_array(labels) for labels in y]
    several = arrays[0].shape[1] if arrays and arrays[0].ndim == 2 else 1
    for position, (array, steps) in enumerate(zip(arrays, np.diff(offsets).tolist(), strict=True)):
        if array.shape not in (((steps,), (steps, 1)) if several == 1 else ((steps, several),)):
            raise ValueError(f"y: sequence {position} has shape {array.shape}, but {steps} steps in X")
    if several > 1:
        return _indicators(arrays, missing)
    kinds = {array.dtype.kind for array in arrays}
    alike = kinds <= set("biuf") or kinds == {"U"}
    flat = [array.reshape(-1) if alike else array.reshape(-1).astype(object) for array in arrays]
    return _labels(np.concatenate(flat), missing)


def read_labels(y: Any, sequences: int) -> Labels:
    """A label for each of so many sequences.

    Raises:
        ValueError: another number of labels, or one is missing.
    """
    array = as_array(y)
    if array.shape != (sequences,):
        raise ValueError(
            f"{INCONSISTENT}: X has {sequences} sequences and needs a label for each, but y has shape {array.shape}"
        )
    labels = _labels(array, None)
    if not labels.labelled.all():
        raise ValueError(f"y: sequence {np.flatnonzero(~labels.labelled)[0]} has no label")
    return labels


def as_array(labels: Any) -> npt.NDArray[Any]:
    """An array of what is given, in which a missing label stays None or NaN."""
    if not isinstance(labels, (list, tuple)):
        return np.asarray(labels)
    # By way of objects: otherwise NumPy would write a missing one among strings as "nan" or "None".
    given = np.array(labels, object)
    texts = {isinstance(label, str) for label in given.ravel()}
    simple = all(isinstance(label, (str, int, float, np.generic)) for label in given.ravel())
    return np.array(labels) if simple and len(texts) == 1 else given


def _labels(values: npt.NDArray[Any], missing: Any) -> Labels:
    if values.dtype == object:
        absent = np.fromiter((label is None or label != label or _same(label, missing) for label in values), np.bool_)
        return Labels(values, ~absent)
    if values.dtype.kind not in "biufU":
        raise ValueError(f"labels must be strings or whole numbers, not {values.dtype}")
    absent = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), np.bool_)
    if missing is not None and isinstance(missing, str) == (values.dtype.kind == "U"):
        absent |= values == missing
    return Labels(values, ~absent)


def _indicators(arrays: list[npt.NDArray[Any]], missing: Any) -> Indicators:
    given = np.concatenate(arrays)
    try:
        values = given.astype(np.float32) if given.dtype.kind in "biufO" else None
    except (TypeError, ValueError):
        values = None
    if values is None:
        raise ValueError("several labels a step are 1 where a step has them, else 0, not text")
    if missing is not None and not isinstance(missing, str):
        values[values == missing] = np.nan
    absent = np.isnan(values)
    wrong = np.argwhere(~absent & (values != 0) & (values != 1))
    if len(wrong):
        raise ValueError(f"several labels a step are 1 where a step has them, else 0, not {values[tuple(wrong[0])]:g}")
    labelled = np.logical_not(absent.all(axis=1))
    if absent[labelled].any():
        raise ValueError("y lacks some of a step's labels: a step is labelled wholly or not at all")
    return Indicators(values, labelled)


def _same(label: Any, missing: Any) -> bool:
    return missing is not None and isinstance(label, str) == isinstance(missing, str) and bool(label == missing)
