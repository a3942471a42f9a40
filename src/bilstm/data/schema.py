"""What a model reads: the features of a table, and how their cells become the values that a network takes."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.data import scratch
from bilstm.data.characters import CharacterColumn, Spellings
from bilstm.data.dataset import Dataset, Observations
from bilstm.data.features import (
    CategoricalColumn,
    NumericColumn,
    categorical_from_json,
    describe_columns,
    encode_texts,
    numeric_from_json,
    spelled_columns,
    standardised,
)
from bilstm.data.fields import Fields
from bilstm.data.readingoptions import PLAIN, ReadingOptions
from bilstm.data.spelling import VECTOR, WHOLE
from bilstm.data.table import Sequences, Table
from bilstm.data.texts import TextColumn
from bilstm.data.tokens import RULES, fitting_rule
from bilstm.errors import UserError, counted, listed, shown
from bilstm.ragged import IndexArray, Ragged, offsets_of


@dataclasses.dataclass(frozen=True)
class Schema:
    """The features that a model reads, fitted to its training sequences.

    Attributes:
        sequence: the column that identifies sequences; None for arrays and for tables in which a row is a sequence.
        order: the column that orders a sequence's rows; None: they are in order.
        numeric: the features that are numbers.
        categorical: the features that are text or codes; one for each part of a text that is looked up.
        characters: the one of them whose characters the network reads too; None: of none.
        named: whether the features have names, rather than positions in an array.
        conll_columns: how many columns the CoNLL-style file had that the model was trained on, None for others.
        text: how the texts of a column were divided into steps, None where no column was.
        reading: how the files were read that the model was trained on, and how others are.
        one_sequence: whether a table without a column that identifies sequences is one, such as a long recording.
        tokens: where the only feature is text, the rule of `bilstm.data.tokens` that divides texts into tokens like
            those of training.
    """

    sequence: str | None
    order: str | None
    numeric: tuple[NumericColumn, ...]
    categorical: tuple[CategoricalColumn, ...]
    named: bool = True
    conll_columns: int | None = None
    text: TextColumn | None = None
    reading: ReadingOptions = PLAIN
    one_sequence: bool = False
    tokens: str | None = None
    characters: CharacterColumn | None = None

    @cached_property
    def token_rule(self) -> str:
        """The rule by which raw texts are divided into tokens."""
        known = self.categorical[0].vocabulary if self.categorical else ()
        return self.reading.tokens or self.tokens or fitting_rule(known)

    @cached_property
    def features(self) -> list[str]:
        """The names of the features."""
        return list(dict.fromkeys(column.name for column in self.columns))

    def token_column(self) -> str:
        """The column of tokens, for a model that reads nothing but these: raw text gives it all that it needs.

        Raises:
            UserError: the model reads something else.
        """
        if len(self.features) != 1 or self.numeric:
            raise UserError(
                f"raw text has tokens and nothing else, but at each step the model reads columns: "
                f"{listed(self.features)}"
            )
        return self.features[0]

    @property
    def columns(self) -> list[NumericColumn | CategoricalColumn]:
        """All columns, the numeric ones first."""
        return [*self.numeric, *self.categorical]

    @property
    def spelled(self) -> list[str]:
        """The names of the features whose spelling counts."""
        return spelled_columns(self.categorical)

    @cached_property
    def numeric_width(self) -> int:
        """The number of inputs that are numbers, those that flag missing values included."""
        return sum(column.width for column in self.numeric)

    @cached_property
    def vocabularies(self) -> list[int]:
        """The number of indices of each categorical column, that of the unknown value included."""
        return [column.size for column in self.categorical]

    @property
    def width(self) -> int:
        """Dimensions of an encoded step."""
        return self.numeric_width + len(self.categorical) + (self.characters is not None)

    def without_characters(self) -> Schema:
        """The schema of a network that reads no characters."""
        return dataclasses.replace(self, characters=None)

    def with_features(self, names: Sequence[str]) -> Schema:
        """The schema with other names for its features, in their order.

        Raises:
            UserError: there are more or fewer names than features.
        """
        if len(set(names)) != len(self.features) or len(names) != len(self.features):
            raise UserError(f"the model has {len(self.features)} features, but {len(set(names))} are named")
        new = dict(zip(self.features, names, strict=True))
        spelled = self.characters and dataclasses.replace(self.characters, name=new[self.characters.name])
        text = self.text and dataclasses.replace(self.text, column=new.get(self.text.column, self.text.column))
        return dataclasses.replace(
            self,
            numeric=tuple(dataclasses.replace(column, name=new[column.name]) for column in self.numeric),
            categorical=tuple(dataclasses.replace(column, name=new[column.name]) for column in self.categorical),
            named=True,
            text=text,
            characters=spelled,
        )

    def describe(self) -> list[tuple[str, str]]:
        """The name of each feature, and in words what training found in it and how it is encoded."""
        described = describe_columns(self.columns)
        if self.characters is None:
            return described
        read = f"; its {counted(len(self.characters.alphabet), 'different character')} are read, too"
        return [(name, text + read if name == self.characters.name else text) for name, text in described]

    def encode(self, table: Table, sequences: Sequences) -> Dataset:
        """Turn the steps of sequences into what the network takes.

        Args:
            table: has the features, in any order, and perhaps other columns.

        Raises:
            UserError: a feature is missing, or a cell is not what the model expects; the message says where.
        """
        for name in self.features:
            table.require(name, "a feature of the model")
        steps = len(sequences.rows)
        values = scratch.empty((steps, self.width), np.float32)
        observed = Observations(steps)
        place = 0
        at_once = max(1, scratch.BLOCK // max(1, steps))  # columns
        for first in range(0, len(self.numeric), at_once):
            numeric = self.numeric[first : first + at_once]
            width = sum(column.width for column in numeric)
            _encode_numbers(table, numeric, sequences.rows, values[:, place : place + width], observed)
            place += width
        for _, group in itertools.groupby(self.categorical, lambda column: column.name):
            parts = list(group)
            _encode_texts(table, parts, sequences.rows, values[:, place : place + len(parts)], observed)
            place += len(parts)
        words = None
        if self.characters:
            words = _encode_characters(table, self.characters, sequences.rows, values[:, place])
        return Dataset(Ragged(values, sequences.offsets, words), sequences.rows, observations=observed)

    def observed(self, table: Table, data: Dataset) -> Dataset:
        """Encoded sequences with the observations of their own steps, which a part of others does not have.

        Args:
            table: what the sequences were read from.
        """
        values, observed, place = data.values.values, Observations(len(data.rows)), 0
        for number in self.numeric:
            missing = data.observations.missing.get(number.name, 0)
            if number.missing:  # then there is a flag
                missing = int(values[:, place + 1].sum())
            elif missing:
                numbers = table.numbers(number.name)
                missing = sum(int(np.isnan(numbers[data.rows[block]]).sum()) for block in _blocks(observed.steps))
            _observe_numbers(observed, number, missing, float(np.abs(values[:, place]).sum(dtype=np.float64)))
            place += number.width
        known: dict[str, npt.NDArray[np.bool_]] = {}
        for place, text in enumerate(self.categorical, self.numeric_width):
            if text.part in (WHOLE, VECTOR):
                known[text.name] = known.get(text.name, np.False_) | (values[:, place] != 0)
        observed.unknown |= {name: int((~steps).sum()) for name, steps in known.items()}
        return dataclasses.replace(data, observations=observed)

    def to_json(self) -> dict[str, Any]:
        """The schema as JSON-serialisable data."""
        return {
            "sequence": self.sequence,
            "order": self.order,
            "named": self.named,
            "conll_columns": self.conll_columns,
            "text": self.text and dataclasses.asdict(self.text),
            "reading": self.reading.to_json(),
            **({"one_sequence": True} if self.one_sequence else {}),
            **({"tokens": self.tokens} if self.tokens else {}),
            **({"characters": self.characters.to_json()} if self.characters else {}),
            "numeric": [dataclasses.asdict(column) for column in self.numeric],
            "categorical": [
                {
                    "name": column.name,
                    "part": column.part,
                    "vocabulary": list(column.vocabulary),
                    "distinct": column.distinct,
                    **({"dimensions": column.dimensions} if column.dimensions else {}),
                }
                for column in self.categorical
            ],
        }

    @classmethod
    def from_json(cls, data: Any) -> Schema:
        """Rebuild a schema from an untrusted file.

        Raises:
            ModelFileError: the data do not describe a schema.
        """
        field = Fields("columns", data)
        schema = cls(
            sequence=None if field.get("sequence") is None else field.text("sequence"),
            order=None if field.get("order") is None else field.text("order"),
            numeric=tuple(numeric_from_json(item) for item in field.items("numeric")),
            categorical=tuple(categorical_from_json(item) for item in field.items("categorical")),
            named=field.flag("named", default=True),
            conll_columns=None if field.get("conll_columns") is None else field.count("conll_columns"),
            text=None if field.get("text") is None else TextColumn.from_json(field.get("text")),
            reading=PLAIN if field.get("reading") is None else ReadingOptions.from_json(field.get("reading")),
            one_sequence=field.flag("one_sequence", default=False),
            tokens=field.get("tokens"),
            characters=None if field.get("characters") is None else CharacterColumn.from_json(field.get("characters")),
        )
        names = [column.name for column in schema.numeric]
        names += [column.name for column in schema.categorical if column.part == WHOLE]
        if not names or len(set(names)) != len(names):
            raise field.wrong("numeric")
        if schema.tokens not in (None, *RULES):
            raise field.wrong("tokens")
        parts = {(column.name, column.part) for column in schema.categorical}
        if len(parts) != len(schema.categorical) or any((name, WHOLE) not in parts for name, _ in parts):
            raise field.wrong("categorical")
        if schema.characters and (schema.characters.name, WHOLE) not in parts:
            raise field.wrong("characters")
        if not schema.named and [*schema.features] != [str(i) for i in range(len(names))] and names != ["words"]:
            raise field.wrong("named")
        return schema


def read_numbers(table: Table, name: str, role: str = "") -> npt.NDArray[np.float64]:
    """A column's (rows,) numbers, NaN where missing.

    Raises:
        UserError: a cell is not a number, or infinite.
    """
    numbers = table.numbers(name)
    if not all(np.isfinite(numbers[start:stop]).all() for start, stop in table.blocks()):
        _check_numbers(table, name, role)
    return numbers


def not_a_number(where: str, name: str, cell: str, role: str = "") -> UserError:
    """The error of a cell in a column of numbers; `where` names its row."""
    problem, advice = number_signs(cell) or ("is not a number", "correct it, or leave the cell empty")
    return UserError(f"{where}: {shown(cell)} in column {name!r}{role} {problem}; {advice}")


def number_signs(cell: str) -> tuple[str, str] | None:
    """What is unusual about a cell that is a number with other signs than a decimal point, and what to do; or None."""
    cell = cell.strip()
    if re.fullmatch(r"[+-]?\d{1,3},\d{3}", cell):
        return "has a comma", "read it with --thousands ',' (between thousands) or --decimal ',' (a decimal comma)"
    if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+([.]\d*)?", cell):
        return "has commas between thousands", "read them with --thousands ','"
    if re.fullmatch(r"[+-]?\d{1,3}([.]\d{3})+(,\d*)?", cell) and cell.count(".") + cell.count(",") > 1:
        return "has points between thousands", "read them with --thousands . --decimal ','"
    if re.fullmatch(r"[+-]?\d*,\d+([eE][+-]?\d+)?", cell):
        return "has a decimal comma", "write a point, or read it with --decimal ','"
    if re.fullmatch(r"[+-]?\d{1,3}([ '\u00a0\u2009\u2019\u202f]\d{3})+([.,]\d*)?", cell):
        comma = " --decimal ','" if "," in cell else ""
        sign = '"\'"' if "'" in cell or "\u2019" in cell else "' '"
        return "has groups of digits", f"read them with --thousands {sign}{comma}"
    return None


def _check_numbers(table: Table, name: str, role: str = "") -> None:
    """Refuse cells that are not finite numbers, other than missing ones."""
    if table.only_numbers(name):
        return
    profile = table.profile(name)
    if profile.other is not None:
        raise not_a_number(table.place(profile.other), name, table.cell(name, profile.other), role)
    if profile.infinite is not None:
        cell = shown(table.cell(name, profile.infinite))
        raise UserError(
            f"{table.place(profile.infinite)}: {cell} in column {name!r}{role} is infinite; give a finite number, or "
            f"leave the cell empty"
        )


def _blocks(steps: int) -> Iterator[slice]:
    for start in range(0, steps, scratch.BLOCK):
        yield slice(start, min(start + scratch.BLOCK, steps))


def _encode_numbers(
    table: Table,
    columns: Sequence[NumericColumn],
    rows: IndexArray,
    out: npt.NDArray[np.float32],
    observed: Observations,
) -> None:
    """Fill the (total_steps, width) inputs of some columns."""
    numbers = [table.numbers(column.name) for column in columns]
    mean, scale = np.array([(column.mean, column.scale) for column in columns]).T
    values = offsets_of([column.width for column in columns])[:-1]
    flagged = [place for place, column in enumerate(columns) if column.missing]
    missing, distance = np.zeros(len(columns), np.int64), np.zeros(len(columns))
    checked = np.zeros(len(columns), np.bool_)
    for block in _blocks(len(rows)):
        cells = np.stack([column[rows[block]] for column in numbers], axis=1)
        absent = ~np.isfinite(cells)
        for place in np.flatnonzero(absent.any(axis=0) & ~checked).tolist() if absent.any() else ():
            _check_numbers(table, columns[place].name)
            checked[place] = True
        inputs = np.where(absent, 0.0, standardised(cells, mean, scale))
        distances = np.abs(inputs)
        if not distances.max(initial=0.0) <= np.finfo(np.float32).max:
            raise _too_far(table, columns, distances, rows[block])
        out[block, values] = inputs
        if flagged:
            out[block, values[flagged] + 1] = absent[:, flagged]
        missing += absent.sum(axis=0)
        distance += distances.sum(axis=0)
    for column, absences, total in zip(columns, missing.tolist(), distance.tolist(), strict=True):
        _observe_numbers(observed, column, absences, total)


def _observe_numbers(observed: Observations, column: NumericColumn, missing: int, distance: float) -> None:
    """Count the missing values of a column, and add its values' distances from the training mean."""
    observed.missing[column.name] = missing
    if missing and not column.missing:
        observed.unexpected.append(column.name)
    is_scaled = (column.mean, column.scale) != (0.0, 1.0)  # else nothing is known of the training values
    if is_scaled:
        observed.distances[column.name] = distance


def _encode_texts(
    table: Table,
    parts: Sequence[CategoricalColumn],
    rows: IndexArray,
    out: npt.NDArray[np.float32],
    observed: Observations,
) -> None:
    """Fill (total_steps, parts) indices of the parts of one feature's texts."""
    name = parts[0].name
    telling = [place for place, column in enumerate(parts) if column.part in (WHOLE, VECTOR)]
    indices = scratch.empty((table.rows, len(parts)), np.int32)
    for block, codes, texts in table.text_codes(name):
        indices[block] = encode_texts(parts, texts)[codes]
    unknown = 0
    for block in _blocks(len(rows)):
        out[block] = indices[rows[block]]
        unknown += int((out[block, telling] == 0).all(axis=1).sum())
    observed.unknown[name] = unknown


def _encode_characters(table: Table, column: CharacterColumn, rows: IndexArray, out: npt.NDArray[np.float32]) -> Ragged:
    """Fill (total_steps,) numbers of the steps' texts. Returns these, each a sequence of characters."""
    spellings = Spellings(column)
    numbers = scratch.empty(table.rows, np.int32)
    for start, stop in table.blocks():
        numbers[start:stop] = spellings.add(table.texts(column.name, start, stop).tolist())
    for block in _blocks(len(rows)):
        out[block] = numbers[rows[block]]
    return spellings.result()


def _too_far(
    table: Table, columns: Sequence[NumericColumn], distances: npt.NDArray[np.float64], rows: IndexArray
) -> UserError:
    """The mistake of a value that is too far from those of training for the network's inputs."""
    far = ~(distances <= np.finfo(np.float32).max)
    place = int(far.any(axis=0).argmax())
    name, row = columns[place].name, int(rows[far[:, place]].min())
    cell = shown(table.cell(name, row))
    return UserError(f"{table.place(row)}: {cell} in column {name!r} is too far from the values of the training rows")
