"""What people pass as sequences, numbers or words, -> the numbers that a model takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.ragged import IndexArray, Ragged, offsets_of, steps_of
from bilstm.tables.features import CategoricalColumn, NumericColumn

WORDS = "words"
FORMS = (
    "a list of (steps, features) arrays, a (n, steps, features) array, a Ragged, or a list of lists of strings, one a "
    "step"
)


@dataclasses.dataclass(frozen=True)
class Steps:
    """Sequences of numbers or of texts, as they were given.

    Attributes:
        columns: (total_steps,) of each feature by its name: float64, NaN where one is missing, or strings, None where
            one is missing. What is no table has features "0", "1" …, or strings called "words".
        offsets: (n_sequences + 1,) int64; sequence i is the steps from offsets[i] to offsets[i + 1], at least one.
        array: whether they were given as one array, so that all have the same number of steps.
        rows: (total_steps,) int64, the row of the table that each step is; None for what is no table.
    """

    columns: Mapping[str, npt.NDArray[Any]]
    offsets: IndexArray
    array: bool = False
    rows: IndexArray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def words(self) -> bool:
        """Whether the steps are strings, of no table."""
        return self.rows is None and [*self.columns] == [WORDS]

    def take(self, chosen: IndexArray) -> Steps:
        """The chosen sequences, by their indices."""
        steps = steps_of(self.offsets, chosen)
        columns = {name: column[steps] for name, column in self.columns.items()}
        rows = None if self.rows is None else self.rows[steps]
        return Steps(columns, offsets_of(np.diff(self.offsets)[chosen]), rows=rows)

    def in_rows(self, found: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What was found for each step, in the order of the table's rows."""
        assert self.rows is not None
        ordered = np.empty_like(found)
        ordered[self.rows] = found
        return ordered

    def place(self, step: int, feature: str) -> str:
        """Where a step's feature stands in what was given."""
        if self.rows is not None:
            return f"row {self.rows[step]}, column {feature!r}"
        sequence = int(np.searchsorted(self.offsets, step, "right")) - 1
        return f"sequence {sequence}, step {step - self.offsets[sequence]}, feature {feature}"


def read_steps(X: Any) -> Steps:
    """Accept sequences in any of their forms; a two-dimensional array is n sequences of one feature.

    Raises:
        ValueError: X has none of the forms, no sequence, one without steps, or an infinite number; the message says
            which.
    """
    if isinstance(X, Ragged):
        steps = _steps(X.values.astype(np.float64), X.offsets)
    elif isinstance(X, (list, tuple)):
        steps = _join(X)
    else:
        steps = _read_array(X)
    if not len(steps):
        raise ValueError("X has no sequences: 0 sample(s) while a minimum of 1 is required.")
    if not steps.columns:
        raise ValueError(f"X has 0 feature(s) (shape={np.shape(X)}) while a minimum of 1 is required.")
    empty = np.flatnonzero(np.diff(steps.offsets) == 0)
    if len(empty):
        raise ValueError(f"sequence {empty[0]} of X has no steps")
    if not steps.words:
        for name, column in steps.columns.items():
            infinite = np.flatnonzero(np.isinf(column))
            if len(infinite):
                found = f"{column[infinite[0]]} in {steps.place(int(infinite[0]), name)}"
                raise ValueError(f"X has {found}: give finite numbers, or NaN where one is missing")
    return steps


def _steps(values: npt.NDArray[Any], offsets: IndexArray, *, array: bool = False) -> Steps:
    """Of (total_steps, features) numbers, or (total_steps,) strings."""
    if values.ndim == 1:
        return Steps({WORDS: values}, offsets, array)
    return Steps({str(feature): column for feature, column in enumerate(values.T)}, offsets, array)


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
    return _steps(values, np.arange(count + 1, dtype=np.int64) * steps, array=True)


def _join(sequences: Sequence[Any]) -> Steps:
    arrays: list[npt.NDArray[Any]] = []
    for position, sequence in enumerate(sequences):
        try:
            arrays.append(_read_sequence(sequence))
            _check_alike(arrays[0], arrays[-1])
        except (TypeError, ValueError) as error:
            raise ValueError(f"sequence {position} of X: {error}") from None
    values = np.concatenate(arrays) if arrays else np.zeros((0, 1))
    return _steps(values, offsets_of([len(array) for array in arrays]))


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
        numeric: one for each feature that is a number.
        categorical: one for each that is a string, and for each of its parts that count.
    """

    numeric: tuple[NumericColumn, ...]
    categorical: tuple[CategoricalColumn, ...] = ()

    @classmethod
    def fit(cls, steps: Steps, *, standardize: bool = True, spelling: bool | None = None) -> StepEncoder:
        """Find each number's mean and scale, and whether any is missing; and the strings that occur twice.

        Raises:
            ValueError: spelling is to count, but there are no strings.
        """
        texts = {name for name, column in steps.columns.items() if column.dtype == object}
        if spelling and not texts:
            raise ValueError("spelling=True, but X has no strings whose spelling could count")
        numeric = [NumericColumn.fit(name, column) for name, column in steps.columns.items() if name not in texts]
        if not standardize:
            numeric = [dataclasses.replace(column, mean=0.0, scale=1.0) for column in numeric]
        categorical = [
            part
            for name, column in steps.columns.items()
            if name in texts
            for part in CategoricalColumn.fit_parts(name, column.tolist(), spelling)
        ]
        return cls(tuple(numeric), tuple(categorical))

    @property
    def columns(self) -> list[NumericColumn | CategoricalColumn]:
        """All of them."""
        return [*self.numeric, *self.categorical]

    @property
    def numeric_width(self) -> int:
        """The number of outputs that are numbers, those that say where one is missing included."""
        return sum(column.width for column in self.numeric)

    @property
    def vocabularies(self) -> list[int]:
        """The number of different strings of each categorical column, the unknown one included."""
        return [column.size for column in self.categorical]

    def encode(self, steps: Steps) -> Ragged:
        """Numbers, standardised, each followed by a 0/1 column that says where it is missing if any was in training;
        then the index of each string, 0 for unknown ones.

        Raises:
            ValueError: the steps are not like those of the fit.
        """
        self._check_kinds(steps)
        columns: list[npt.NDArray[Any]] = []
        for numeric in self.numeric:
            values = steps.columns[numeric.name]
            columns += numeric.encode(values)
            too_large = np.flatnonzero(np.abs(columns[-numeric.width]) > np.finfo(np.float32).max)
            if len(too_large):
                step = int(too_large[0])
                place = steps.place(step, numeric.name)
                raise ValueError(f"X has {values[step]} in {place}, too far from the numbers of the fit")
        for categorical in self.categorical:
            texts = steps.columns[categorical.name]
            columns.append(categorical.encode(texts.tolist() if texts.dtype == object else [None] * len(texts)))
        return Ragged(np.stack(columns, axis=1, dtype=np.float32, casting="unsafe"), steps.offsets)

    def notes(self, encoded: Ragged) -> list[str]:
        """What a person should know of encoded steps: how many strings are unknown, one sentence for each feature."""
        indices = encoded.values.T[self.numeric_width :]
        return [
            note for column, found in zip(self.categorical, indices, strict=True) for note in column.note_unknown(found)
        ]

    def _check_kinds(self, steps: Steps) -> None:
        if steps.rows is None:
            if steps.words == bool(self.numeric):
                kinds = ("strings", "numbers") if steps.words else ("numbers", "strings")
                raise ValueError(f"the steps of X are {kinds[0]}, but those of the fit were {kinds[1]}")
            return
        for kind, columns in ((np.float64, self.numeric), (np.object_, self.categorical)):
            for column in columns:
                cells = steps.columns[column.name]
                nothing = cells.dtype == np.float64 and bool(np.isnan(cells).all())
                if cells.dtype != kind and not nothing:
                    kinds = ("strings", "numbers") if kind == np.float64 else ("numbers", "strings")
                    raise ValueError(f"column {column.name!r} of X holds {kinds[0]}, but in the fit it held {kinds[1]}")
