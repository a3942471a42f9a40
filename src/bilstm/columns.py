"""What a model expects of a table, and the way from a table's columns to the numbers it takes."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.errors import UserError, counted, listed, shown
from bilstm.fields import Fields
from bilstm.ragged import Ragged, steps_of
from bilstm.sequences import Sequences, find_sequences
from bilstm.spelling import PARTS, WHOLE, are_words
from bilstm.tables import Table

IndexArray = npt.NDArray[np.int64]
LARGEST_VOCABULARY = 100_000  # the most frequent values; the others are unknown to the model
LARGEST_INDEX = 2**24  # float32 holds whole numbers up to here


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A table as a model takes it.

    Attributes:
        values: the features of every step: numbers, standardised, each followed by a 0/1 column that says where it is
            missing if any was in training; then one column of vocabulary indices for each categorical column.
        labels: (total_steps,) int32, the index of each step's class, -1 where it is unlabelled.
        rows: (total_steps,) int64, the row of the table that each step is, counted from 0.
        notes: what a person should know about it, such as missing or unknown values; one sentence each.
    """

    values: Ragged
    labels: npt.NDArray[np.int32]
    rows: IndexArray
    notes: tuple[str, ...] = ()

    def take(self, chosen: npt.ArrayLike) -> Encoded:
        """The chosen sequences, by their indices."""
        steps = steps_of(self.values.offsets, chosen)
        return Encoded(self.values[np.asarray(chosen, np.int64)], self.labels[steps], self.rows[steps])


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
    def fit(cls, name: str, numbers: npt.NDArray[np.float64]) -> NumericColumn:
        """Standardise by these numbers, NaN where missing."""
        present = numbers[~np.isnan(numbers)]
        missing = len(numbers) - len(present)
        if not len(present):
            return cls(name, 0.0, 1.0, missing)
        largest = float(np.abs(present).max()) or 1.0
        mean = float((present / largest).mean()) * largest  # numbers near 1e308 do not overflow
        scale = float(((present - mean) / largest).std()) * largest
        constant = scale <= 1e-12 * largest  # what is left is the rounding of a mean
        return cls(name, mean, 1.0 if constant else scale, missing)

    @property
    def width(self) -> int:
        """The number of inputs: 1, or 2 with the one that says where it is missing."""
        return 2 if self.missing else 1

    def encode(self, numbers: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
        absent = np.isnan(numbers)
        with np.errstate(over="ignore"):  # the caller refuses what is too large
            values = np.where(absent, 0.0, (numbers - self.mean) / self.scale)
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
        return cls._of(name, Counter(text or "" for text in texts), part)

    @classmethod
    def fit_parts(cls, name: str, texts: Iterable[str | None], spelling: bool | None) -> list[CategoricalColumn]:
        """The column of these cells and, with `spelling`, those of their other parts; None: if the cells are words."""
        counts = Counter(text or "" for text in texts)
        parts = PARTS if spelling or (spelling is None and are_words(counts)) else (WHOLE,)
        return [cls._of(name, counts, part) for part in parts]

    @classmethod
    def _of(cls, name: str, cells: Counter[str], part: str) -> CategoricalColumn:
        counts = Counter[str]()
        for text, count in cells.items():
            counts[PARTS[part](text)] += count
        frequent = sorted((-count, value) for value, count in counts.items() if count > 1)
        return cls(name, tuple(value for _, value in frequent[:LARGEST_VOCABULARY]), len(counts), part)

    @property
    def size(self) -> int:
        """The number of indices, the unknown value's included."""
        return len(self.vocabulary) + 1

    def encode(self, texts: Sequence[str | None]) -> IndexArray:
        indices, part = {value: index for index, value in enumerate(self.vocabulary, 1)}, PARTS[self.part]
        known = {text: indices.get(part(text or ""), 0) for text in set(texts)}
        return np.fromiter((known[text] for text in texts), np.int64, len(texts))

    def note_unknown(self, indices: npt.NDArray[Any]) -> list[str]:
        """A sentence on how many of a column's cells are unknown, by their indices; nothing where none is.

        Nor of the parts of texts: they are there for texts that are unknown as a whole.
        """
        unknown = int((indices == 0).sum()) if self.part == WHOLE else 0
        share = f"{unknown / max(1, len(indices)):.1%}".replace("%", " %")
        which = f"{counted(unknown, 'value')} of {len(indices):,} ({share})"
        return [f"{self.name}: {which} unknown to the model"] if unknown else []


@dataclasses.dataclass(frozen=True)
class Columns:
    """What a model expects of a table.

    Attributes:
        sequence: the column that tells sequences apart.
        order: the column that orders a sequence's rows, or None: they stand in order.
        label: the column that is predicted.
        classes: its values, sorted; as numbers if all are whole numbers.
        numeric: the features that are numbers.
        categorical: the features that are text or codes; one for each part that is looked up.
        conll_columns: the number of columns of the CoNLL-style file that the model was trained on, None for others.
    """

    sequence: str
    order: str | None
    label: str
    classes: tuple[str, ...]
    numeric: tuple[NumericColumn, ...]
    categorical: tuple[CategoricalColumn, ...]
    conll_columns: int | None = None

    @property
    def features(self) -> list[str]:
        """The names of the features."""
        return list(dict.fromkeys(column.name for column in self._all()))

    @property
    def spelled(self) -> list[str]:
        """The names of the features whose spelling counts."""
        return spelled_columns(self.categorical)

    @property
    def numeric_width(self) -> int:
        """The number of inputs that are numbers, those that say where one is missing included."""
        return sum(column.width for column in self.numeric)

    @property
    def vocabularies(self) -> list[int]:
        """The number of indices of each part of the categorical columns, that of the unknown value included."""
        return [column.size for column in self.categorical]

    def _all(self) -> list[NumericColumn | CategoricalColumn]:
        return [*self.numeric, *self.categorical]

    def describe(self) -> list[tuple[str, str]]:
        """The name of each feature, and in words what was found in the training rows and what is made of it."""
        return describe_columns(self._all())

    def encode(self, table: Table, need_labels: bool = False) -> Encoded:
        """Turn a table into what the model takes.

        Args:
            table: has the model's columns, in any order, and perhaps others. Without `need_labels` it may lack the
                label.
            need_labels: whether to read the labels, of which there must be at least one; otherwise all are -1.

        Raises:
            UserError: a column is missing, a cell is not what the model expects, or a label is unknown to it; the
                message says where and what would be right.
        """
        for name in self.features:
            table.require(name, "a feature of the model")
        if need_labels:
            table.require(self.label, "the label")
        return self.encode_sequences(table, find_sequences(table, self.sequence, self.order), need_labels)

    def encode_sequences(self, table: Table, sequences: Sequences, need_labels: bool = False) -> Encoded:
        """The same, for a table whose sequences are known."""
        inputs: list[npt.NDArray[Any]] = []
        notes: list[str] = []
        for numeric in self.numeric:
            numbers = read_numbers(table, numeric.name)
            inputs += numeric.encode(numbers)
            _check_size(table, numeric.name, inputs[-numeric.width])
            absent = int(np.isnan(numbers).sum())
            if absent:
                notes.append(f"{numeric.name}: {_missing(absent)}, filled with the mean of the training rows")
        for column in self.categorical:
            texts = table.texts(column.name).tolist()
            indices = column.encode(texts)
            inputs.append(indices)
            notes += column.note_unknown(indices)
        values = np.stack([column[sequences.rows] for column in inputs], axis=1, dtype=np.float32, casting="unsafe")
        labels = self._labels(table)[sequences.rows] if need_labels else np.full(table.rows, -1, np.int32)
        return Encoded(Ragged(values, sequences.offsets), labels, sequences.rows, tuple(notes))

    def _labels(self, table: Table) -> npt.NDArray[np.int32]:
        """(rows,) class indices, -1 where a row has no label."""
        texts = read_labels(table, self.label)
        indices = {value: index for index, value in enumerate(self.classes)}
        labels = np.fromiter((-1 if text is None else indices.get(text, -2) for text in texts), np.int32, len(texts))
        unknown = np.flatnonzero(labels == -2)
        if len(unknown):
            row = int(unknown[0])
            raise UserError(
                f"{table.place(row)}: the label {shown(texts[row])} is unknown to the model; it knows "
                f"{listed(self.classes)}"
            )
        if (labels == -1).all():
            raise UserError(f"{table.path} has no label in column {self.label!r}")
        return labels

    def to_json(self) -> dict[str, Any]:
        """The same as what JSON can hold."""
        return {
            "sequence": self.sequence,
            "order": self.order,
            "label": self.label,
            "classes": list(self.classes),
            "conll_columns": self.conll_columns,
            "numeric": [dataclasses.asdict(column) for column in self.numeric],
            "categorical": [
                {
                    "name": column.name,
                    "part": column.part,
                    "vocabulary": list(column.vocabulary),
                    "distinct": column.distinct,
                }
                for column in self.categorical
            ],
        }

    @classmethod
    def from_json(cls, data: Any) -> Columns:
        """Rebuild what `to_json` gave, from a file that nobody vouches for.

        Raises:
            ModelFileError: it is not what `to_json` gives.
        """
        field = Fields("columns", data)
        columns = cls(
            sequence=field.text("sequence"),
            order=None if field.get("order") is None else field.text("order"),
            label=field.text("label"),
            classes=field.distinct_texts("classes"),
            numeric=tuple(_numeric_from(item) for item in field.items("numeric")),
            categorical=tuple(_categorical_from(item) for item in field.items("categorical")),
            conll_columns=None if field.get("conll_columns") is None else field.count("conll_columns"),
        )
        if len(columns.classes) < 2:
            raise field.wrong("classes")
        names = [column.name for column in columns.numeric]
        names += [column.name for column in columns.categorical if column.part == WHOLE]
        if not names or len(set(names)) != len(names):
            raise field.wrong("numeric")
        parts = {(column.name, column.part) for column in columns.categorical}
        if len(parts) != len(columns.categorical) or any((name, WHOLE) not in parts for name, _ in parts):
            raise field.wrong("categorical")
        return columns


def read_numbers(table: Table, name: str) -> npt.NDArray[np.float64]:
    """A feature's (rows,) numbers, NaN where missing.

    Raises:
        UserError: a cell is not a number, or infinite.
    """
    profile = table.profile(name)
    if profile.other is not None:
        cell = shown(table.cell(name, profile.other))
        raise UserError(
            f"{table.place(profile.other)}: {cell} in column {name!r} is not a number; correct it, or leave the cell "
            f"empty"
        )
    if profile.infinite is not None:
        cell = shown(table.cell(name, profile.infinite))
        raise UserError(
            f"{table.place(profile.infinite)}: {cell} in column {name!r} is infinite; give a finite number, or leave "
            f"the cell empty"
        )
    return table.numbers(name)


def read_labels(table: Table, name: str) -> list[str | None]:
    """A column's (rows,) labels, None where a cell is empty."""
    return [None if text is None or not text.strip() else text for text in table.texts(name).tolist()]


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
    missing = f"; {_missing(column.missing)}, filled with the mean and flagged" if column.missing else ""
    return f"number, mean {column.mean:.4g}, standard deviation {column.scale:.4g}{missing}"


def _missing(number: int) -> str:
    return f"{number:,} missing"


def _check_size(table: Table, name: str, inputs: npt.NDArray[np.float64]) -> None:
    too_large = np.flatnonzero(np.abs(inputs) > np.finfo(np.float32).max)
    if len(too_large):
        row = int(too_large[0])
        cell = shown(table.cell(name, row))
        raise UserError(f"{table.place(row)}: {cell} in column {name!r} is too far from the training rows' numbers")


def _numeric_from(data: Any) -> NumericColumn:
    field = Fields("numeric columns", data)
    column = NumericColumn(field.text("name"), field.number("mean"), field.number("scale"), field.count("missing"))
    if column.scale <= 0:
        raise field.wrong("scale")
    return column


def _categorical_from(data: Any) -> CategoricalColumn:
    field = Fields("categorical columns", data)
    part = WHOLE if field.get("part") is None else field.text("part")
    column = CategoricalColumn(field.text("name"), field.distinct_texts("vocabulary"), field.count("distinct"), part)
    if column.part not in PARTS:
        raise field.wrong("part")
    if column.size > LARGEST_INDEX:
        raise field.wrong("vocabulary")
    return column
