"""A feature's column: fitted to the training rows, and from its cells to numbers."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.errors import counted
from bilstm.ragged import IndexArray
from bilstm.tables.fields import Fields
from bilstm.tables.spelling import PARTS, WHOLE, are_words

LARGEST_VOCABULARY = 100_000  # the most frequent values; the others are unknown to the model
LARGEST_INDEX = 2**24  # float32 holds whole numbers up to here
_SUMMED = 1 << 20  # numbers that are added up at a time: the last bits of a mean depend on it
_NUMBER = re.compile(r"-?[0-9]+([.][0-9]*)?")
_WHOLE = re.compile(r"(-?[0-9]+)[.]0+")


@dataclasses.dataclass(frozen=True)
class NumericColumn:
    """A column of numbers: (value - mean) / scale goes in, 0 where it is missing.

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
        """Standardise by these numbers, NaN where missing; or by those in these rows."""
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
            return (_distances(block, centre, largest) for block in blocks())

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

    def encode(self, numbers: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
        absent = np.isnan(numbers)
        distances = _distances(numbers, self.mean, self.scale)  # the caller refuses what is too large
        values = np.where(absent, 0.0, distances)
        return [values, absent.astype(np.float64)] if self.missing else [values]


@dataclasses.dataclass(frozen=True)
class CategoricalColumn:
    """A column of text or codes, of which each value has an index; 0 is every value not in the vocabulary.

    Attributes:
        name: the column's name.
        vocabulary: the values seen at least twice in the training rows, the most frequent first. Those seen once count
            as unknown, so that training meets unknown values too.
        distinct: how many different values the training rows had.
        part: which part of a cell the value is, one of `PARTS`.
    """

    name: str
    vocabulary: tuple[str, ...]
    distinct: int = 0
    part: str = WHOLE

    @classmethod
    def fit(cls, name: str, texts: Iterable[str | None], part: str = WHOLE) -> CategoricalColumn:
        """Collect the vocabulary of these cells; a missing cell is the value ''."""
        return cls.fit_counted(name, Counter(text or "" for text in texts).items(), part)

    @classmethod
    def fit_parts(cls, name: str, texts: Iterable[str | None], spelling: bool | None) -> list[CategoricalColumn]:
        """The column of these cells and, with `spelling`, those of their other parts; None: if the cells are words."""
        counts = Counter(text or "" for text in texts)
        parts = PARTS if spelling or (spelling is None and are_words(counts)) else (WHOLE,)
        return [cls.fit_counted(name, counts.items(), part) for part in parts]

    @classmethod
    def fit_counted(cls, name: str, cells: Iterable[tuple[str, int]], part: str = WHOLE) -> CategoricalColumn:
        """The same for different cells, each with the number of times that it is there."""
        counts = Counter[str]()
        for text, count in cells:
            counts[PARTS[part](text)] += count
        frequent = sorted((-count, value) for value, count in counts.items() if count > 1)
        return cls(name, tuple(value for _, value in frequent[:LARGEST_VOCABULARY]), len(counts), part)

    @property
    def size(self) -> int:
        """The number of indices, the unknown value's included."""
        return len(self.vocabulary) + 1

    def encode(self, texts: Sequence[str | None]) -> IndexArray:
        part, distinct = PARTS[self.part], list(set(texts))
        places = places_of([part(text or "") for text in distinct], self.vocabulary) + 1
        known = dict(zip(distinct, places.tolist(), strict=True))
        return np.fromiter((known[text] for text in texts), np.int64, len(texts))

    def note_unknown(self, indices: npt.NDArray[Any]) -> list[str]:
        """A sentence on how many of a column's cells are unknown, by their indices; nothing where none is.

        Nor of the parts of texts: they are there for texts that are unknown as a whole.
        """
        unknown = int((indices == 0).sum()) if self.part == WHOLE else 0
        share = f"{unknown / max(1, len(indices)):.1%}".replace("%", " %")
        which = f"{counted(unknown, 'value')} of {len(indices):,} ({share})"
        return [f"{self.name}: {which} unknown to the model"] if unknown else []


def describe_columns(columns: Sequence[NumericColumn | CategoricalColumn]) -> list[tuple[str, str]]:
    """The name of each, and in words what was found in the training rows and what is made of it."""
    spelled = spelled_columns(columns)
    return [
        (column.name, _describe_text(column, column.name in spelled))
        if isinstance(column, CategoricalColumn)
        else (column.name, _describe_number(column))
        for column in columns
        if isinstance(column, NumericColumn) or column.part == WHOLE
    ]


def spelled_columns(columns: Sequence[NumericColumn | CategoricalColumn]) -> list[str]:
    """The names of those whose spelling counts."""
    texts = [column for column in columns if isinstance(column, CategoricalColumn)]
    return list(dict.fromkeys(column.name for column in texts if column.part != WHOLE))


def _describe_text(column: CategoricalColumn, spelled: bool) -> str:
    rare = column.distinct - len(column.vocabulary)
    how = "known by their spelling only" if spelled else "treated as unknown"
    unknown = f"; {rare:,} too rare to learn, {how}" if rare else ""
    return f"{'words' if spelled else 'text'}, {counted(column.distinct, 'different value')}{unknown}"


def _describe_number(column: NumericColumn) -> str:
    missing = f"; {column.missing:,} missing, filled with the mean and flagged" if column.missing else ""
    return f"number, mean {column.mean:.4g}, standard deviation {column.scale:.4g}{missing}"


def places_of(texts: Sequence[str | None], known: Sequence[str]) -> IndexArray:
    """The index of each text among those known, -1 where it is none of them; None is the text ''.

    Where all that are known are numbers, whole ones are the same with `.0` and without: which of them a file holds may
    depend on whether one is missing, or is a fraction.
    """
    places = {text: place for place, text in enumerate(known)}
    found = np.fromiter((places.get(text or "", -1) for text in texts), np.int64, len(texts))
    if all(_NUMBER.fullmatch(text) for text in known if text):
        whole = {_without_fraction(text): place for text, place in places.items()} | places
        for place in np.flatnonzero(found < 0).tolist():
            found[place] = whole.get(_without_fraction(texts[place] or ""), -1)
    return found


def _without_fraction(text: str) -> str:
    match = _WHOLE.fullmatch(text)
    return match[1] if match else text


def _distances(numbers: npt.NDArray[np.float64], centre: float, unit: float) -> npt.NDArray[np.float64]:
    """(numbers - centre) / unit, infinite only where this itself is too large: the difference may be."""
    with np.errstate(over="ignore"):
        distances = (numbers - centre) / unit
        lost = np.isinf(distances)
        distances[lost] = (numbers[lost] / 2 - centre / 2) / unit * 2
    return distances


def numeric_from_json(data: Any) -> NumericColumn:
    """Rebuild a column from a file that nobody vouches for.

    Raises:
        ModelFileError: it is none.
    """
    field = Fields("numeric columns", data)
    column = NumericColumn(field.text("name"), field.number("mean"), field.number("scale"), field.count("missing"))
    if column.scale <= 0:
        raise field.wrong("scale")
    return column


def categorical_from_json(data: Any) -> CategoricalColumn:
    """The same for a column of text."""
    field = Fields("categorical columns", data)
    part = WHOLE if field.get("part") is None else field.text("part")
    column = CategoricalColumn(field.text("name"), field.distinct_texts("vocabulary"), field.count("distinct"), part)
    if column.part not in PARTS:
        raise field.wrong("part")
    if column.size > LARGEST_INDEX:
        raise field.wrong("vocabulary")
    return column
