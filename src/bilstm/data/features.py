"""A feature's column: fitted to the training rows, and from its cells to numbers."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.data.fields import Fields
from bilstm.data.spelling import PARTS, VECTOR, WHOLE, are_words, has_letters
from bilstm.errors import counted
from bilstm.ragged import IndexArray

LARGEST_VOCABULARY = 100_000  # the most frequent values; the others are unknown to the model
LARGEST_INDEX = 2**24  # float32 holds whole numbers up to here
_SUMMED = 1 << 20  # numbers that are added up at a time: the last bits of a mean depend on it
_NUMBER = re.compile(r"-?[0-9]+([.][0-9]*)?")
_WHOLE = re.compile(r"(-?[0-9]+)[.]0+")


@dataclasses.dataclass(frozen=True)
class NumericColumn:
    """A column of numbers: the input is (value - mean) / scale, 0 where it is missing.

    Attributes:
        name: the column's name.
        mean: the mean of the training rows.
        scale: their standard deviation, 1 for a constant column.
        missing: how many of them had no number; if any, a second input says where it is missing.
    """

    name: str
    mean: float
    scale: float
    missing: int = 0

    @classmethod
    def fit(cls, name: str, numbers: npt.NDArray[np.float64], rows: IndexArray | None = None) -> NumericColumn:
        """Find the mean and the standard deviation of numbers, NaN where missing; of those in some rows, if given."""
        total = len(numbers if rows is None else rows)

        def blocks() -> Iterator[npt.NDArray[np.float64]]:
            for start in range(0, total, _SUMMED):
                places = slice(start, start + _SUMMED)
                block = numbers[places] if rows is None else numbers[rows[places]]
                yield block[~np.isnan(block)]

        present = sum(len(block) for block in blocks())
        if not present:
            return cls(name, 0.0, 1.0, total)

        def scaled(centre: float) -> Iterator[npt.NDArray[np.float64]]:
            return (standardised(block, centre, largest) for block in blocks())

        largest = max(float(np.abs(block).max(initial=0.0)) for block in blocks()) or 1.0
        # Numbers near 1.8e308 do not overflow in the sum, nor does its rounding.
        mean = float(np.clip(sum((block / largest).sum() for block in blocks()) / present, -1.0, 1.0)) * largest
        rest = sum(block.sum() for block in scaled(mean)) / present
        variance = sum(np.square(block - rest).sum() for block in scaled(mean)) / present
        scale = min(float(np.sqrt(variance)), 1.0) * largest
        constant = scale <= 1e-12 * largest  # what is left is the rounding of a mean
        return cls(name, mean, 1.0 if constant else scale, total - present)

    @property
    def width(self) -> int:
        """The number of inputs: 1, or 2 with the one that says where it is missing."""
        return 2 if self.missing else 1


@dataclasses.dataclass(frozen=True)
class CategoricalColumn:
    """A column of text or codes, of which each value has an index; 0 is every value not in the vocabulary.

    Attributes:
        name: the column's name.
        vocabulary: the values that occur at least twice in the training rows, the most frequent first. Values that
            occur once count as unknown, so that training meets unknown values too. Of word vectors, the words of a
            file, in its order.
        distinct: how many different values the training rows had; of word vectors, how many of these have one.
        part: which part of a cell the value is, one of `PARTS`, or `VECTOR`: then a text that is not in the vocabulary
            has the index of its lower case.
        dimensions: of word vectors; None for other parts.
    """

    name: str
    vocabulary: tuple[str, ...]
    distinct: int = 0
    part: str = WHOLE
    dimensions: int | None = None

    @classmethod
    def fit(cls, name: str, cells: Iterable[tuple[str, int]], spelling: bool | None = None) -> list[CategoricalColumn]:
        """Collect the vocabulary of a column and, where spelling counts, of the parts of its texts.

        Args:
            cells: the different cells ("" where missing), each with its number of rows; there may be more than memory
                can hold, as long as few of them occur twice.
            spelling: whether the parts count besides the whole; None: if the cells look like a language's words.
        """
        whole, parts = (
            _Vocabulary(),
            {part: Counter[str]() for part in PARTS if part != WHOLE and spelling is not False},
        )
        lettered = Counter[bool]()
        for text, count in cells:
            whole.add(text, count)
            lettered[has_letters(text)] += 1
            for part, counts in parts.items():
                counts[PARTS[part](text)] += count
        columns = [cls(name, *whole.result())]
        if spelling or (spelling is None and are_words(lettered)):
            columns += [cls(name, *_ranked(counts.items()), part) for part, counts in parts.items()]
        return columns

    @property
    def size(self) -> int:
        """The number of indices, the unknown value's included."""
        return len(self.vocabulary) + 1

    def encode(self, texts: Sequence[str | None]) -> IndexArray:
        """(n,) the index of each cell, 0 where it is not in the vocabulary; None is a missing cell."""
        return encode_texts([self], texts)[:, 0]

    def indices(self, texts: Sequence[str]) -> list[int]:
        """The index of each cell's text, "" where it is missing."""
        if self.part != VECTOR:
            return [1 + index for index in self.lookup.all(map(PARTS[self.part], texts))]
        as_they_are, lower = self.lookup.all(texts), self.lookup.all(text.lower() for text in texts)
        return [1 + (own if own >= 0 else other) for own, other in zip(as_they_are, lower, strict=True)]

    @cached_property
    def lookup(self) -> Lookup:
        """Finds a value's index in the vocabulary."""
        return Lookup(self.vocabulary)


def encode_texts(columns: Sequence[CategoricalColumn], texts: Sequence[str | None]) -> IndexArray:
    """(n, columns) the indices of the parts of each cell, 0 where not in the vocabulary; None is a missing cell."""
    rows: dict[str | None, int] = {}
    numbers = [rows.setdefault(text, len(rows)) for text in texts]
    distinct = [text or "" for text in rows]
    found = np.empty((len(distinct), len(columns)), np.int64)
    for place, column in enumerate(columns):
        found[:, place] = column.indices(distinct)
    return found[numbers] if len(numbers) != len(distinct) else found


class _Vocabulary:
    """Counts the values of a column, keeping only those that may become part of the vocabulary."""

    def __init__(self) -> None:
        self._repeated: dict[str, int] = {}
        self._numbers: Counter[str] | None = Counter()  # of whole numbers without `.0`, as long as all are numbers
        self._distinct = 0

    def add(self, text: str, count: int) -> None:
        self._distinct += 1
        if self._numbers is not None:
            if text and not _NUMBER.fullmatch(text):
                self._numbers = None
            else:
                self._numbers[whole_number(text)] += count
        if count > 1:
            self._repeated[text] = count
            if len(self._repeated) > 4 * LARGEST_VOCABULARY:
                self._repeated = dict(sorted(self._repeated.items(), key=_by_count)[:LARGEST_VOCABULARY])

    def result(self) -> tuple[tuple[str, ...], int]:
        """The vocabulary, and how many different values there are."""
        if self._numbers:
            return _ranked(self._numbers.items())
        return _ranked(self._repeated.items())[0], self._distinct


def _by_count(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def _ranked(counts: Iterable[tuple[str, int]]) -> tuple[tuple[str, ...], int]:
    """The values that occur at least twice, the most frequent first, and how many different ones there are."""
    items = list(counts)
    frequent = sorted((item for item in items if item[1] > 1), key=_by_count)
    return tuple(value for value, _ in frequent[:LARGEST_VOCABULARY]), len(items)


def describe_columns(columns: Sequence[NumericColumn | CategoricalColumn]) -> list[tuple[str, str]]:
    """The name of each, and in words what was found in the training rows and what is made of it."""
    spelled = spelled_columns(columns)
    vectors = {column.name: column for column in columns if isinstance(column, CategoricalColumn) and column.dimensions}
    return [
        (column.name, _describe_text(column, column.name in spelled) + _describe_vectors(vectors.get(column.name)))
        if isinstance(column, CategoricalColumn)
        else (column.name, _describe_number(column))
        for column in columns
        if isinstance(column, NumericColumn) or column.part == WHOLE
    ]


def spelled_columns(columns: Sequence[NumericColumn | CategoricalColumn]) -> list[str]:
    """The names of those whose spelling counts."""
    texts = [column for column in columns if isinstance(column, CategoricalColumn)]
    return list(dict.fromkeys(column.name for column in texts if column.part not in (WHOLE, VECTOR)))


def _describe_vectors(column: CategoricalColumn | None) -> str:
    """Which words have a vector, as the end of a sentence; nothing where a feature has none."""
    if column is None:
        return ""
    vectors = counted(len(column.vocabulary), "word vector")
    return f"; {vectors} of {counted(column.dimensions or 0, 'dimension')}, for {column.distinct:,} of them"


def _describe_text(column: CategoricalColumn, spelled: bool) -> str:
    rare = column.distinct - len(column.vocabulary)
    how = "represented by spelling only" if spelled else "treated as unknown"
    unknown = f"; {rare:,} below the frequency threshold, {how}" if rare else ""
    return f"{'words' if spelled else 'text'}, {counted(column.distinct, 'different value')}{unknown}"


def _describe_number(column: NumericColumn) -> str:
    missing = f"; {column.missing:,} missing, imputed with the mean and flagged" if column.missing else ""
    return f"number, mean {column.mean:.4g}, standard deviation {column.scale:.4g}{missing}"


class Lookup:
    """Finds the index of a text among known ones.

    Where all known texts are numbers, `1.0` means `1`. The other values of a table do not change what a text means.

    Attributes:
        numbers: whether all known texts are numbers.
        indices: the index of each known text, and of each whole number without `.0`.
    """

    def __init__(self, known: Sequence[str]) -> None:
        self.indices = {text: index for index, text in enumerate(known)}
        self.numbers = all(_NUMBER.fullmatch(text) for text in known if text)
        if self.numbers:
            self.indices = {whole_number(text): index for text, index in self.indices.items()} | self.indices

    def __call__(self, text: str) -> int:
        """The index of a text, -1 where it is not known."""
        return self.indices.get(whole_number(text) if self.numbers else text, -1)

    def all(self, texts: Iterable[str]) -> list[int]:
        """The index of each text, -1 where it is not known."""
        get = self.indices.get
        return [get(text, -1) for text in (map(whole_number, texts) if self.numbers else texts)]


def whole_number(text: str) -> str:
    """A whole number without `.0`; any other text as it is."""
    match = _WHOLE.fullmatch(text)
    return match[1] if match else text


def standardised(numbers: npt.NDArray[np.float64], mean: Any, scale: Any) -> npt.NDArray[np.float64]:
    """(numbers - mean) / scale, infinite only where this itself is too large: the difference may be."""
    with np.errstate(over="ignore"):
        distances: npt.NDArray[np.float64] = (numbers - mean) / scale
        if np.isinf(distances).any():
            halves = (numbers / 2 - np.divide(mean, 2)) / scale * 2
            distances = np.where(np.isinf(distances), halves, distances)
    return distances


def numeric_from_json(data: Any) -> NumericColumn:
    """Rebuild a column from an untrusted file.

    Raises:
        ModelFileError: it is none.
    """
    field = Fields("numeric columns", data)
    column = NumericColumn(field.text("name"), field.number("mean"), field.number("scale"), field.count("missing"))
    if column.scale <= 0:
        raise field.wrong("scale")
    return column


def categorical_from_json(data: Any) -> CategoricalColumn:
    """Rebuild a column of text from an untrusted file.

    Raises:
        ModelFileError: it is none.
    """
    field = Fields("categorical columns", data)
    part = WHOLE if field.get("part") is None else field.text("part")
    dimensions = field.count("dimensions") if part == VECTOR else None
    vocabulary = field.distinct_texts("vocabulary")
    column = CategoricalColumn(field.text("name"), vocabulary, field.count("distinct"), part, dimensions)
    if column.part not in (*PARTS, VECTOR):
        raise field.wrong("part")
    if column.dimensions == 0:
        raise field.wrong("dimensions")
    if column.size > LARGEST_INDEX:
        raise field.wrong("vocabulary")
    return column
