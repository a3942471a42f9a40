"""What people pass as sequences, numbers or words, -> the numbers that a model takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.columns import CategoricalColumn, NumericColumn
from bilstm.ragged import IndexArray, Ragged, offsets_of, steps_of

FORMS = (
    "a list of (steps, features) arrays, a (n, steps, features) array, a Ragged, or a list of lists of strings, one a "
    "step"
)


@dataclasses.dataclass(frozen=True)
class Steps:
    """Sequences of numbers or of words, as they were given.

    Attributes:
        values: (total_steps, features) float64, NaN where one is missing; or (total_steps,) strings.
        offsets: (n_sequences + 1,) int64; sequence i is values[offsets[i]:offsets[i + 1]], at least one step.
        array: whether they were given as one array, so that all have the same number of steps.
    """

    values: npt.NDArray[Any]
    offsets: IndexArray
    array: bool = False

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def words(self) -> bool:
        """Whether the steps are strings."""
        return self.values.ndim == 1

    @property
    def features(self) -> int:
        """The number of features of a step; a word is one."""
        return 1 if self.words else int(self.values.shape[1])

    def take(self, chosen: IndexArray) -> Steps:
        """The chosen sequences, by their indices."""
        lengths = np.diff(self.offsets)[chosen]
        return Steps(self.values[steps_of(self.offsets, chosen)], offsets_of(lengths))


def read_steps(X: Any) -> Steps:
    """Accept sequences in any of their forms; a two-dimensional array is n sequences of one feature.

    Raises:
        ValueError: X has none of the forms, no sequence, one without steps, or an infinite number; the message says
            which.
    """
    if isinstance(X, Ragged):
        steps = Steps(X.values.astype(np.float64), X.offsets)
    elif isinstance(X, (list, tuple)):
        steps = _join(X)
    else:
        steps = _read_array(X)
    if not len(steps):
        raise ValueError("X has no sequences: 0 sample(s) while a minimum of 1 is required.")
    if not steps.features:
        raise ValueError(f"X has 0 feature(s) (shape={np.shape(X)}) while a minimum of 1 is required.")
    empty = np.flatnonzero(np.diff(steps.offsets) == 0)
    if len(empty):
        raise ValueError(f"sequence {empty[0]} of X has no steps")
    if not steps.words:
        infinite = np.argwhere(np.isinf(steps.values))
        if len(infinite):
            place = _place(steps, *infinite[0].tolist())
            raise ValueError(f"X has {place}: give finite numbers, or NaN where one is missing")
    return steps


def _read_array(X: Any) -> Steps:
    if hasattr(X, "tocsr"):
        raise ValueError(f"Sparse data is not supported: X must be {FORMS}")
    array = np.asarray(X)
    if array.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: X must be {FORMS}")
    if array.dtype == object and array.ndim:
        return dataclasses.replace(_join(list(array)), array=array.ndim > 1)
    if array.ndim not in (2, 3) or array.dtype.kind not in "fiubU":
        raise ValueError(f"Reshape your data: X must be {FORMS}, not {array.dtype} of shape {array.shape}")
    if array.ndim == 2 and array.shape[1]:
        array = array[:, :, np.newaxis]
    count, steps = array.shape[:2]
    rows = array.reshape(count * steps, array.shape[2] if array.ndim == 3 else 0)
    values = _words(rows) if array.dtype.kind == "U" else rows.astype(np.float64)
    return Steps(values, np.arange(count + 1, dtype=np.int64) * steps, array=True)


def _place(steps: Steps, row: int, feature: int) -> str:
    sequence = int(np.searchsorted(steps.offsets, row, "right")) - 1
    where = f"sequence {sequence}, step {row - steps.offsets[sequence]}, feature {feature}"
    return f"{steps.values[row, feature]} in {where}"


def _join(sequences: Sequence[Any]) -> Steps:
    arrays: list[npt.NDArray[Any]] = []
    for position, sequence in enumerate(sequences):
        try:
            arrays.append(_read_sequence(sequence))
            _check_alike(arrays[0], arrays[-1])
        except (TypeError, ValueError) as error:
            raise ValueError(f"sequence {position} of X: {error}") from None
    values = np.concatenate(arrays) if arrays else np.zeros((0, 1))
    return Steps(values, offsets_of([len(array) for array in arrays]))


def _read_sequence(sequence: Any) -> npt.NDArray[Any]:
    if isinstance(sequence, (str, bytes)):
        raise ValueError(
            "text must be divided into steps: list(text) for its characters, text.split() for its words, of each text"
        )
    array = np.asarray(sequence)
    if array.ndim not in (1, 2):
        raise ValueError(f"a sequence has shape (steps, features), not {array.shape}")
    rows = array[:, np.newaxis] if array.ndim == 1 else array
    if array.dtype.kind == "U" or (array.dtype == object and any(isinstance(value, str) for value in array.flat)):
        return _words(rows)
    if array.dtype.kind not in "fiubO":
        raise ValueError(f"steps must be numbers or strings, not {array.dtype}")
    return rows.astype(np.float64)


def _words(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if rows.shape[1] != 1:
        raise ValueError(f"a step is one string, not {rows.shape[1]}")
    words = rows[:, 0].astype(object)
    others = [word for word in words if not isinstance(word, str)]
    if others:
        raise ValueError(f"steps must be all numbers or all strings, but {others[0]!r} is among strings")
    return words


def _check_alike(first: npt.NDArray[Any], array: npt.NDArray[Any]) -> None:
    if first.ndim != array.ndim:
        names = ("strings", "numbers") if array.ndim == 1 else ("numbers", "strings")
        raise ValueError(f"its steps are {names[0]}, but those of sequence 0 are {names[1]}")
    if array.shape[1:] != first.shape[1:]:
        raise ValueError(f"it has {array.shape[1]} features, but sequence 0 has {first.shape[1]}")


@dataclasses.dataclass(frozen=True)
class StepEncoder:
    """How steps become the numbers that a model takes; fitted to the sequences that are trained on.

    Attributes:
        numeric: one for each feature; none for words.
        words: the vocabulary, or None for numbers.
    """

    numeric: tuple[NumericColumn, ...]
    words: CategoricalColumn | None = None

    @classmethod
    def fit(cls, steps: Steps, *, standardize: bool = True) -> StepEncoder:
        """Find each feature's mean and scale, and whether any is missing; or the words that occur twice."""
        if steps.words:
            return cls((), CategoricalColumn.fit("words", steps.values.tolist()))
        found = [NumericColumn.fit(str(index), column) for index, column in enumerate(steps.values.T)]
        if not standardize:
            found = [dataclasses.replace(column, mean=0.0, scale=1.0) for column in found]
        return cls(tuple(found))

    @property
    def features(self) -> int:
        """The number of features of X that it was fitted to."""
        return len(self.numeric) or 1

    @property
    def numeric_width(self) -> int:
        """The number of outputs that are numbers, those that say where one is missing included."""
        return sum(column.width for column in self.numeric)

    @property
    def vocabularies(self) -> list[int]:
        """The number of words, the unknown one included; nothing for numbers."""
        return [] if self.words is None else [self.words.size]

    def encode(self, steps: Steps) -> Ragged:
        """Numbers, standardised, each followed by a 0/1 column that says where it is missing if any was in training;
        or the index of each word, 0 for unknown ones.

        Raises:
            ValueError: the steps are not like those of the fit.
        """
        if steps.words != (self.words is not None):
            kinds = ("strings", "numbers") if steps.words else ("numbers", "strings")
            raise ValueError(f"the steps of X are {kinds[0]}, but those of the fit were {kinds[1]}")
        if self.words is not None:
            indices = self.words.encode(steps.values.tolist())
            return Ragged(indices.astype(np.float32), steps.offsets)
        columns: list[npt.NDArray[np.float64]] = []
        for feature, column in enumerate(self.numeric):
            columns += column.encode(steps.values[:, feature])
            too_large = np.flatnonzero(np.abs(columns[-column.width]) > np.finfo(np.float32).max)
            if len(too_large):
                place = _place(steps, int(too_large[0]), feature)
                raise ValueError(f"X has {place}, too far from the numbers of the fit")
        return Ragged(np.stack(columns, axis=1, dtype=np.float32, casting="same_kind"), steps.offsets)
