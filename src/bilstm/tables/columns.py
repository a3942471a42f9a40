"""What a model expects of a table, and the way from a table's columns to the numbers it takes."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.errors import UserError, counted, listed, shown
from bilstm.metrics import is_bio
from bilstm.ragged import IndexArray, Ragged, steps_of
from bilstm.tables import scratch
from bilstm.tables.features import (
    CategoricalColumn,
    NumericColumn,
    categorical_from_json,
    describe_columns,
    numeric_from_json,
    places_of,
    spelled_columns,
)
from bilstm.tables.fields import Fields
from bilstm.tables.sequences import Sequences, find_sequences
from bilstm.tables.spelling import WHOLE
from bilstm.tables.table import Table


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A table as a model takes it.

    Attributes:
        values: the features of every step: numbers, standardised, each followed by a 0/1 column that says where it is
            missing if any was in training; then one column of vocabulary indices for each categorical column.
        labels: (total_steps,) int32, the index of each step's class, -1 where it is unlabelled; labels that the model
            has never seen come after its classes, in the order of `unseen`.
        rows: (total_steps,) int64, the row of the table that each step is, counted from 0.
        missing: how many values of a numeric column are missing, by its name.
        unknown: how many of a categorical column are unknown to the model, likewise.
        unseen: how many steps of the table have a label that the model has never seen, by that label.
        left_out: likewise, where these steps count as unlabelled.
    """

    values: Ragged
    labels: npt.NDArray[np.int32]
    rows: IndexArray
    missing: Mapping[str, int] = dataclasses.field(default_factory=dict)
    unknown: Mapping[str, int] = dataclasses.field(default_factory=dict)
    unseen: Mapping[str, int] = dataclasses.field(default_factory=dict)
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about it, one sentence each."""
        found = notes_on(len(self.rows), self.missing, self.unknown)
        for labels, fate in ((self.unseen, "counted as wrong"), (self.left_out, "left out")):
            if labels:
                steps = sum(labels.values())
                what = f"{counted(steps, 'step')} with a label that is unknown to the model"
                found = (*found, f"{what} ({listed(labels)}), {fate}")
        return found

    def without_unseen(self, n_classes: int) -> Encoded:
        """The same, where a label that the model has never seen is none: such a label has no loss.

        Args:
            n_classes: how many it has seen.
        """
        labels = np.where(self.labels < n_classes, self.labels, np.int32(-1)) if self.unseen else self.labels
        return dataclasses.replace(self, labels=labels, unseen={}, left_out=self.unseen)

    def take(self, chosen: npt.ArrayLike) -> Encoded:
        """The chosen sequences, by their indices."""
        steps = steps_of(self.values.offsets, chosen)
        values = self.values[np.asarray(chosen, np.int64)]
        return Encoded(values, self.labels[steps], self.rows[steps], unseen=self.unseen)

    def part(self, sequences: slice) -> Encoded:
        """The sequences from one place up to another, without a copy of their steps."""
        offsets = self.values.offsets[sequences.start : sequences.stop + 1]
        steps = slice(offsets[0], offsets[-1])
        values = Ragged(self.values.values[steps], offsets - offsets[0])
        return Encoded(values, self.labels[steps], self.rows[steps], unseen=self.unseen)


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

    def encode(self, table: Table, need_labels: bool = False, *, allow_unseen: bool = False) -> Encoded:
        """Turn a table into what the model takes.

        Args:
            table: has the model's columns, in any order, and perhaps others. Without `need_labels` it may lack the
                label.
            need_labels: whether to read the labels, of which there must be at least one; otherwise all are -1.
            allow_unseen: whether some of them, up to half, may be unknown to the model.

        Raises:
            UserError: a column is missing, a cell is not what the model expects, or a label is unknown to it; the
                message says where and what would be right.
        """
        for name in self.features:
            table.require(name, "a feature of the model")
        if need_labels:
            table.require(self.label, "the label")
        codes, unseen = None, dict[str, int]()
        if need_labels:
            codes, unseen = read_some_labels(table, self.label, self.classes, allow_unseen=allow_unseen)
            if not (codes >= 0).any():
                raise UserError(f"{table.path} has no label in column {self.label!r}")
        encoded = self.encode_sequences(table, find_sequences(table, self.sequence, self.order), codes)
        return dataclasses.replace(encoded, unseen=unseen)

    def encode_sequences(self, table: Table, sequences: Sequences, codes: npt.NDArray[np.int32] | None) -> Encoded:
        """The same, for a table of which the sequences, and each row's label if they are needed, are known."""
        steps = len(sequences.rows)
        blocks = [slice(start, min(start + scratch.BLOCK, steps)) for start in range(0, steps, scratch.BLOCK)]
        values = scratch.empty((steps, self.numeric_width + len(self.categorical)), np.float32)
        labels = scratch.empty(steps, np.int32)
        for block in blocks:
            labels[block] = -1 if codes is None else codes[sequences.rows[block]]
        missing, unknown = dict[str, int](), dict[str, int]()
        place = 0
        for numeric in self.numeric:
            numbers = read_numbers(table, numeric.name)
            for block in blocks:
                rows = sequences.rows[block]
                encoded = numeric.encode(numbers[rows])
                _check_size(table, numeric.name, encoded[0], rows)
                values[block, place : place + numeric.width] = np.stack(encoded, axis=1)
                missing[numeric.name] = missing.get(numeric.name, 0) + int(np.isnan(numbers[rows]).sum())
            place += numeric.width
        for name, group in itertools.groupby(self.categorical, lambda column: column.name):
            parts = list(group)
            indices = scratch.empty((table.rows, len(parts)), np.int32)
            for start, stop in table.blocks():
                texts = table.texts(name, start, stop).tolist()
                for part, column in enumerate(parts):
                    indices[start:stop, part] = column.encode(texts)
            whole = [column.part == WHOLE for column in parts]
            for block in blocks:
                found = indices[sequences.rows[block]]
                values[block, place : place + len(parts)] = found
                unknown[name] = unknown.get(name, 0) + int((found[:, whole] == 0).sum())
            place += len(parts)
        return Encoded(Ragged(values, sequences.offsets), labels, sequences.rows, missing, unknown)

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
            numeric=tuple(numeric_from_json(item) for item in field.items("numeric")),
            categorical=tuple(categorical_from_json(item) for item in field.items("categorical")),
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


def read_labels(table: Table, name: str, classes: Sequence[str]) -> npt.NDArray[np.int32]:
    """A column's (rows,) labels as indices of classes, -1 where a cell is empty.

    Raises:
        UserError: a label is none of the classes.
    """
    return read_some_labels(table, name, classes, allow_unseen=False)[0]


def read_some_labels(
    table: Table, name: str, classes: Sequence[str], *, allow_unseen: bool
) -> tuple[npt.NDArray[np.int32], dict[str, int]]:
    """The same, and how often there is each label that is none of the classes; their indices follow the others.

    Raises:
        UserError: a label is none of the classes and not allowed. Never allowed are most of a column's, which then is
            another column, and one that is not of the form B-X, I-X and O where the classes are.
    """
    codes: npt.NDArray[np.int32] = scratch.empty(table.rows, np.int32)
    unseen, first_rows, places, labelled = dict[str, int](), dict[str, int](), dict[str, int](), 0
    for start, stop in table.blocks():
        texts = table.texts(name, start, stop).tolist()
        found = places_of(texts, classes)
        for place in np.flatnonzero(found < 0).tolist():
            text = texts[place]
            if text is not None and text.strip():
                row = first_rows.setdefault(text, start + place)
                if not allow_unseen:
                    raise _unknown_label(table, row, text, classes)
                unseen[text] = unseen.get(text, 0) + 1
                found[place] = len(classes) + places.setdefault(text, len(places))
        labelled += int((found >= 0).sum())
        codes[start:stop] = found
    if 2 * sum(unseen.values()) > labelled:
        text, row = next(iter(first_rows.items()))
        raise _unknown_label(table, row, text, classes)
    if is_bio(classes):
        for text, row in first_rows.items():
            if not is_bio((*classes, text)):
                raise _unknown_label(table, row, text, classes)
    return codes, unseen


def _unknown_label(table: Table, row: int, text: str, classes: Sequence[str]) -> UserError:
    return UserError(f"{table.place(row)}: the label {shown(text)} is unknown to the model; it knows {listed(classes)}")


def notes_on(steps: int, missing: Mapping[str, int], unknown: Mapping[str, int]) -> tuple[str, ...]:
    """What a person should know about so many steps: see `Encoded`."""
    filled = [f"{name}: {n:,} missing, filled with the mean of the training rows" for name, n in missing.items() if n]
    share = {name: f"{n / steps:.1%}".replace("%", " %") for name, n in unknown.items() if n}
    strange = [
        f"{name}: {counted(unknown[name], 'value')} of {steps:,} ({share[name]}) unknown to the model" for name in share
    ]
    return (*filled, *strange)


def _check_size(table: Table, name: str, inputs: npt.NDArray[np.float64], rows: IndexArray) -> None:
    too_large = rows[np.abs(inputs) > np.finfo(np.float32).max]
    if len(too_large):
        row = int(too_large.min())
        cell = shown(table.cell(name, row))
        raise UserError(f"{table.place(row)}: {cell} in column {name!r} is too far from the training rows' numbers")
