"""Sequences of different lengths without padding: the one form in which data travels through the package.

A batch is `values` of shape (total_steps, features) and `offsets` of shape (n_sequences + 1); sequence `i`
is `values[offsets[i]:offsets[i + 1]]`. This is the layout of an Arrow list array.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IndexArray = npt.NDArray[np.int64]
_Number = TypeVar("_Number", np.float32, np.int32, np.int64)


def as_array(values: Any, dtype: type[_Number]) -> npt.NDArray[_Number]:
    """As the engine reads arrays: C-contiguous, of this type, aligned. No copy is made where none is needed."""
    array = np.ascontiguousarray(values, dtype)
    return array if array.flags.aligned else array.copy()


class Ragged:
    """A batch of sequences, stored one after the other.

    Args:
        values: (total_steps, features), or (total_steps,) for a single feature; converted to C-contiguous
            float32. No copy is made where none is needed.
        offsets: (n_sequences + 1,) integers, starting at 0, never decreasing, ending at total_steps.
        words: sequences of their own, such as the characters of words, to which the last column of `values` refers by
            their indices; see `bilstm.layers.WordEncoder`. None if no column does.

    Raises:
        ValueError: the shapes or offsets contradict each other; the message says where.
    """

    __slots__ = ("offsets", "values", "words")

    values: FloatArray
    offsets: IndexArray
    words: Ragged | None

    def __init__(self, values: npt.ArrayLike, offsets: npt.ArrayLike, words: Ragged | None = None) -> None:
        self.values = _as_steps(values)
        self.offsets = as_offsets(offsets, len(self.values))
        if words is not None and not isinstance(words, Ragged):
            raise ValueError(f"words are a Ragged with a sequence for each word, not a {type(words).__name__}")
        self.words = words

    @classmethod
    def _checked(cls, values: FloatArray, offsets: IndexArray, words: Ragged | None = None) -> Ragged:
        """From parts that are known to be right, without looking at them again."""
        ragged = object.__new__(cls)
        ragged.values, ragged.offsets, ragged.words = values, offsets, words
        return ragged

    @classmethod
    def from_sequences(cls, sequences: Sequence[npt.ArrayLike]) -> Ragged:
        """Join arrays of shape (steps, features) or (steps,), of any lengths.

        Raises:
            ValueError: a sequence is not numeric, has more than two dimensions, or has another number of
                features than the first.
        """
        arrays: list[FloatArray] = []
        for position, sequence in enumerate(sequences):
            try:
                array = _as_steps(sequence)
            except (TypeError, ValueError) as error:
                raise ValueError(f"sequence {position}: {error}") from None
            if arrays and array.shape[1] != arrays[0].shape[1]:
                raise ValueError(
                    f"sequence {position} has {array.shape[1]} features, but sequence 0 has {arrays[0].shape[1]}"
                )
            arrays.append(array)
        values = np.concatenate(arrays) if arrays else np.empty((0, 1), np.float32)
        return cls(values, offsets_of([len(array) for array in arrays]))

    @classmethod
    def from_padded(cls, padded: npt.ArrayLike, lengths: npt.ArrayLike | None = None) -> Ragged:
        """Take the first `lengths[i]` steps of each row of a (n_sequences, steps, features) array.

        Args:
            padded: (n_sequences, steps, features) or (n_sequences, steps).
            lengths: (n_sequences,) integers; all steps of every row when left out.
        """
        array = np.asarray(padded)
        if array.ndim == 2:
            array = array[:, :, np.newaxis]
        if array.ndim != 3:
            raise ValueError(f"a padded batch has shape (n, steps, features), not {array.shape}")
        count, steps, features = array.shape
        if lengths is None:
            values = _as_steps(array.reshape(count * steps, features))
            return cls._checked(values, equal_offsets(count, steps))
        lengths = np.asarray(lengths)
        if lengths.shape != (count,):
            raise ValueError(f"{count} sequences need {count} lengths, not an array of shape {lengths.shape}")
        if lengths.dtype.kind not in "iu" and count:
            raise ValueError(f"lengths must be whole numbers, not {lengths.dtype}")
        if count and not (lengths.min() >= 0 and lengths.max() <= steps):
            raise ValueError(f"lengths must lie between 0 and {steps}, the number of steps")
        return cls(array[np.arange(steps) < lengths[:, np.newaxis]], offsets_of(lengths))

    @property
    def lengths(self) -> IndexArray:
        """(n_sequences,) the number of steps of each sequence."""
        return np.diff(self.offsets)

    def have_lengths(self, steps: int) -> bool:
        """Whether every sequence has this many steps."""
        known = equal_offsets(len(self), steps)
        return self.offsets is known or np.array_equal(self.offsets, known)

    @property
    def total_steps(self) -> int:
        """The number of steps of all sequences."""
        return len(self.values)

    @property
    def features(self) -> int:
        """The number of features of a step."""
        return int(self.values.shape[1])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[FloatArray]:
        for start, stop in zip(self.offsets[:-1], self.offsets[1:], strict=True):
            yield self.values[start:stop]

    @overload
    def __getitem__(self, index: int | np.integer[Any]) -> FloatArray: ...
    @overload
    def __getitem__(self, index: slice | npt.NDArray[Any] | Sequence[int]) -> Ragged: ...
    def __getitem__(self, index: Any) -> FloatArray | Ragged:
        """One sequence as a (steps, features) view, or a slice, index array or mask of sequences as a Ragged."""
        if isinstance(index, (int, np.integer)):
            position = int(index) + (len(self) if index < 0 else 0)
            if not 0 <= position < len(self):
                raise IndexError(f"sequence {index} of {len(self)}")
            return self.values[self.offsets[position] : self.offsets[position + 1]]
        chosen = np.arange(len(self))[index]
        return self.take_steps(steps_of(self.offsets, chosen), offsets_of(self.lengths[chosen]))

    def take_steps(self, steps: Any, offsets: npt.ArrayLike) -> Ragged:
        """Some steps, as a slice, index array or mask of all steps, which become sequences with other offsets."""
        return Ragged(self.values[steps], offsets, self.words)

    def with_values(self, values: npt.ArrayLike) -> Ragged:
        """The same sequences carrying other values, shape (total_steps, …)."""
        return Ragged(values, self.offsets)

    def with_words(self, words: Ragged | None) -> Ragged:
        """The same sequences, whose last column refers to other words."""
        return Ragged(self.values, self.offsets, words)

    def to_list(self) -> list[FloatArray]:
        """The sequences as a list of (steps, features) views."""
        return list(self)

    def to_padded(self, fill: float = 0.0) -> FloatArray:
        """(n_sequences, longest, features) with `fill` after each sequence's last step."""
        longest = int(self.lengths.max()) if len(self) else 0
        padded = np.full((len(self), longest, self.features), fill, np.float32)
        padded[np.arange(longest) < self.lengths[:, np.newaxis]] = self.values
        return padded

    def __repr__(self) -> str:
        return f"Ragged({len(self)} sequences, {self.total_steps} steps, {self.features} features)"


def as_ragged(data: Any) -> Ragged:
    """Accept what people have: Ragged, a (n, steps, features) array, or a list of (steps, features) arrays.

    A two-dimensional array is n sequences of one feature.

    Raises:
        ValueError: the data is none of these, or a data frame, which does not say where sequences begin.
    """
    if isinstance(data, Ragged):
        return data
    if isinstance(data, (list, tuple)):
        return Ragged.from_sequences(data)
    if any(hasattr(data, name) for name in ("__dataframe__", "columns", "column_names")):
        raise ValueError(
            f"sequences are not given as a {type(data).__name__}, which does not say where they begin: give a list "
            f"with a (steps, features) array for each sequence, or use bilstm.SequenceTagger, SequenceClassifier or "
            f"SequenceRegressor, which read data frames"
        )
    array = np.asarray(data)
    if array.dtype == object and array.ndim == 1:
        return Ragged.from_sequences(list(array))
    if array.ndim not in (2, 3):
        raise ValueError(
            f"sequences are a (n, steps, features) array, a list of (steps, features) arrays or a Ragged, "
            f"not {type(data).__name__} of shape {array.shape}"
        )
    return Ragged.from_padded(array)


def equal_offsets(count: int, steps: int) -> IndexArray:
    """Of sequences that have the same number of steps."""
    return _kept_offsets(count, steps) if count <= 256 else np.arange(count + 1, dtype=np.int64) * steps


@lru_cache(maxsize=64)
def _kept_offsets(count: int, steps: int) -> IndexArray:
    offsets = (np.arange(count + 1, dtype=np.int64) * steps).view()
    offsets.flags.writeable = False  # it has many owners
    return offsets


def offsets_of(lengths: npt.ArrayLike) -> IndexArray:
    """(n,) lengths → (n + 1,) offsets."""
    lengths = np.asarray(lengths, np.int64)
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def steps_of(offsets: IndexArray, chosen: npt.ArrayLike) -> IndexArray:
    """The positions in `values` of all steps of the chosen sequences, in the order chosen."""
    chosen = np.asarray(chosen, np.int64)
    return steps_between(offsets[chosen], offsets[chosen + 1])


def steps_between(starts: IndexArray, stops: IndexArray) -> IndexArray:
    """All numbers of some ranges, one range after the other."""
    lengths = stops - starts
    offsets = offsets_of(lengths)
    return np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])


@dataclasses.dataclass
class Extent:
    """How many sequences there are, of how many steps."""

    sequences: int = 0
    shortest: int = 0
    longest: int = 0
    steps: int = 0

    def add(self, lengths: IndexArray) -> Extent:
        """Count further sequences, of these lengths."""
        if len(lengths):
            shortest = int(lengths.min())
            self.shortest = min(self.shortest, shortest) if self.sequences else shortest
            self.longest = max(self.longest, int(lengths.max()))
            self.sequences += len(lengths)
            self.steps += int(lengths.sum())
        return self


def chunks(offsets: IndexArray, steps: int) -> Iterator[slice]:
    """Divide sequences into slices of at most `steps` steps each, or of one sequence that has more."""
    start = 0
    while start < len(offsets) - 1:
        stop = int(np.searchsorted(offsets, offsets[start] + steps, "right")) - 1
        yield slice(start, max(stop, start + 1))
        start = max(stop, start + 1)


def _as_steps(values: npt.ArrayLike) -> FloatArray:
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"values must be numbers, not {array.dtype}")
    if array.ndim == 1:
        array = array[:, np.newaxis]
    if array.ndim != 2:
        raise ValueError(f"values have shape (steps, features), not {array.shape}")
    return as_array(array, np.float32)


def as_offsets(offsets: npt.ArrayLike, total_steps: int) -> IndexArray:
    """(n_sequences + 1,) int64 offsets of `total_steps` steps.

    Raises:
        ValueError: they are no such offsets; the message says where.
    """
    array = np.asarray(offsets)
    if array.ndim != 1 or not len(array) or array.dtype.kind not in "iu":
        raise ValueError(f"offsets are n_sequences + 1 integers, not {array.dtype} of shape {array.shape}")
    array = as_array(array, np.int64)
    if array[0] != 0 or array[-1] != total_steps:
        raise ValueError(f"offsets go from 0 to the number of steps, {total_steps}, not from {array[0]} to {array[-1]}")
    decreasing = np.flatnonzero(np.diff(array) < 0)
    if len(decreasing):
        raise ValueError(f"offsets must not decrease, but do after position {decreasing[0]}")
    return array
