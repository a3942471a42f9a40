"""Tables in memory: what data frames, arrays, lists and dictionaries of sequences become when they are read."""

from __future__ import annotations

import dataclasses
import datetime
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bilstm.data.readingoptions import ReadingOptions, is_number
from bilstm.data.table import Kind, Profile, Sequences, Table
from bilstm.data.times import HALF_DAY, key_of, past_midnight, reader
from bilstm.data.times import Form as TimeForm
from bilstm.errors import UserError, shown
from bilstm.ragged import IndexArray, offsets_of

# Whatever stands in a table's place: it decides what the answers look like, and how messages name a row.
Form = Literal["frame", "list", "array", "objects", "ragged"]
_KINDS = {"nested": "lists or objects", "time": "dates or times", "mixed": "values of several kinds"}


@dataclasses.dataclass(frozen=True)
class Cells:
    """A column.

    Attributes:
        kind: what it holds.
        values: (rows,) float64 with NaN where missing for numbers and booleans; objects for everything else: strings,
            None where missing.
        keys: (rows,) what rows are sorted by, where that is not `values`: times.
        integers: (rows,) int64, of whole numbers that float64 may not hold, or None.
        problem: why the column can be neither a feature nor a label, or None.
    """

    kind: Kind
    values: npt.NDArray[Any]
    keys: npt.NDArray[Any] | None = None
    integers: npt.NDArray[np.int64] | None = None
    problem: str | None = None

    @property
    def numeric(self) -> bool:
        """Whether the cells are numbers."""
        return self.values.dtype != object

    @property
    def missing(self) -> npt.NDArray[np.bool_]:
        """(rows,) where there is no value."""
        if self.numeric:
            return np.asarray(np.isnan(self.values))
        return np.fromiter((value is None for value in self.values), np.bool_, len(self.values))

    def take(self, rows: IndexArray) -> Cells:
        """The cells of some rows."""
        keys, integers = (each if each is None else each[rows] for each in (self.keys, self.integers))
        return Cells(self.kind, self.values[rows], keys, integers, self.problem)

    def without(self, value: Any) -> Cells:
        """The cells with those of a value as missing; None for no value."""
        if value is None or isinstance(value, str) == self.numeric:
            return self
        same = self.values == value
        values = self.values.copy()
        values[same] = np.nan if self.numeric else None
        return dataclasses.replace(self, values=values)

    def without_texts(self, named: set[str]) -> Cells:
        """The cells with those of some texts, or of the numbers that these are, as missing."""
        if self.kind in ("time", "nested"):
            return self
        if self.numeric:
            numbers = [float(name) for name in named if is_number(name)]
            same = np.isin(self.values, numbers)
        else:
            same = np.array([text is not None and text.strip(" \t") in named for text in self.values], np.bool_)
        if not same.any():
            return self
        values = self.values.copy()
        values[same] = np.nan if self.numeric else None
        return dataclasses.replace(self, values=values)

    def texts(self, rows: slice | IndexArray = slice(None)) -> npt.NDArray[np.object_]:
        """The cells of some rows as text, None where missing."""
        values = self.values[rows]
        if not self.numeric:
            return values
        if self.integers is not None:
            texts = np.array([str(value) for value in self.integers[rows].tolist()], object)
        elif self.kind == "boolean":
            texts = np.array(["true" if value == 1 else "false" for value in values], object)
        else:
            texts = np.array([number_text(value) for value in values.tolist()], object)
        texts[np.isnan(values)] = None
        return texts


def check_names(names: Iterable[Any], label: str) -> None:
    """Refuse names of columns that are no strings."""
    for name in names:
        if not isinstance(name, str):
            raise UserError(f"{label} has a column named {name!r}: the names of columns must be strings")


def _read_order(texts: list[str], reading: ReadingOptions) -> tuple[npt.NDArray[np.object_], TimeForm | None] | None:
    """What texts are sorted by, and the form of times: whole numbers if all can be, or else numbers, dates or times;
    None if they are none."""
    for parse in () if reading.time_format else (int, float):
        try:
            return np.array([parse(text.strip()) for text in texts], object), None
        except ValueError:
            continue
    moments = list(map(reader(reading.time_format), texts))
    forms = {moment.form for moment in moments if moment is not None}
    if None in moments or len(forms) != 1:
        return None
    return np.array([moment.key for moment in moments if moment is not None], object), forms.pop()


def _ranks_of(keys: npt.NDArray[Any]) -> IndexArray:
    return np.unique(keys, return_inverse=True)[1]


def number_text(value: float) -> str:
    """A number as text, whole ones without `.0`."""
    return repr(value).removesuffix(".0")


class MemoryTable(Table):
    """A table in memory.

    Args:
        columns: a name for each column, and its cells.
        offsets: (n_sequences + 1,) where sequences begin and end, for data that are sequences already; None for a long
            table, whose columns identify them.
        form: what the data were; predictions have that form, too.
        label: what messages call the data.

    Raises:
        UserError: there is no row.
    """

    format = "memory"
    passed = True

    def __init__(
        self,
        columns: Mapping[str, Cells],
        offsets: IndexArray | None = None,
        *,
        form: Form = "frame",
        label: str = "X",
        rows: int | None = None,
    ) -> None:
        check_names(columns, label)
        self.columns = dict(columns)
        self.offsets = offsets
        self.form: Form = form
        self.label = label
        self.names = list(columns)
        self.rows = next((len(cells.values) for cells in columns.values()), 0) if rows is None else rows
        self.kinds = {name: cells.kind for name, cells in self.columns.items()}
        self.lists = list(columns) if offsets is not None else []
        if not self.rows:
            raise UserError(f"{label} has no rows: 0 sample(s) while a minimum of 1 is required.")

    @property
    def divided(self) -> bool:
        return self.offsets is not None

    def with_columns(self, columns: Mapping[str, Cells]) -> MemoryTable:
        """The table with more columns, such as labels that were passed separately."""
        more = MemoryTable({**self.columns, **columns}, self.offsets, form=self.form, label=self.label, rows=self.rows)
        more.lists, more.reading = self.lists, self.reading
        return more

    def read_as(self, reading: ReadingOptions) -> MemoryTable:
        """The table with the cells that these options call missing as missing."""
        table = self
        if reading.missing is not None:
            named = {name.strip() for name in reading.missing}
            columns = {name: cells.without_texts(named) for name, cells in self.columns.items()}
            table = MemoryTable(columns, self.offsets, form=self.form, label=self.label, rows=self.rows)
            table.lists = self.lists
        table.reading = reading
        return table

    def sequences(self, sequence: str | None, order: str | None = None) -> Sequences:
        if self.offsets is not None:
            if order is None or not {order, *order.split(",")} & self.columns.keys():  # arrays are in order
                return Sequences(self.offsets, np.arange(self.rows))
            codes = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
            return Sequences(self.offsets, self._sorted(codes, order))
        if sequence is None:
            codes, cells = np.zeros(self.rows, np.int64), None
        else:
            codes, cells = self._sequence_codes(sequence)
        offsets = offsets_of(np.bincount(codes))
        if order is not None:
            return Sequences(offsets, self._sorted(codes, order, cells))
        starts = np.flatnonzero(np.diff(codes, prepend=-1))
        again = starts[codes[starts] != np.arange(len(starts))]
        if len(again) and cells is not None:
            raise UserError(
                f"{self.place(int(again[0]))}: sequence {shown(cells[again[0]])} is not contiguous: it continues after "
                f"rows of another one; sort the rows, or name the column that gives their order, such as order='time'"
            )
        return Sequences(offsets, np.arange(self.rows))

    def place(self, row: int) -> str:
        if self.offsets is None:
            return f"row {row} of {self.label}"
        sequence = int(np.searchsorted(self.offsets, row, "right")) - 1
        return f"sequence {sequence} of {self.label}, step {row - self.offsets[sequence]}"

    def cell(self, name: str, row: int) -> str:
        text = self.columns[name].texts(slice(row, row + 1))[0]
        return "" if text is None else str(text)

    def texts(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[np.object_]:
        return self._usable(name).texts(slice(start, stop))

    def values(self, name: str, rows: IndexArray) -> list[Any]:
        return list(self.columns[name].texts(rows))

    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        cells = self._usable(name)
        return cells.values if cells.numeric else np.full(self.rows, np.nan)

    def profile(self, name: str) -> Profile:
        cells = self._usable(name)
        present = ~cells.missing
        count = int(present.sum())
        if not cells.numeric:
            return Profile(count, 0, 0, 0, int(present.argmax()) if count else None, None, None)
        values = cells.values
        with np.errstate(invalid="ignore"):
            fraction = present & (values != np.trunc(values))
        infinite = np.isinf(values)
        first = [int(found.argmax()) if found.any() else None for found in (infinite, fraction)]
        return Profile(count, count, 0, 0, None, *first)

    def counts(self, name: str, chosen: npt.NDArray[np.bool_]) -> Iterator[tuple[str, int]]:
        texts = self._usable(name).texts(np.flatnonzero(chosen))
        yield from Counter("" if text is None else text for text in texts).items()

    def _usable(self, name: str) -> Cells:
        cells = self.columns[name]
        if cells.problem:
            raise UserError(f"column {name!r} of {self.label} {cells.problem}")
        return cells

    def _sequence_codes(self, sequence: str) -> tuple[IndexArray, npt.NDArray[np.object_]]:
        """(rows,) the number of each row's sequence, in the order of their first rows, and the cells."""
        self.require(sequence, "the sequence of each row")
        cells = self._present(sequence, "the row's sequence").texts()
        numbers: dict[Any, int] = {}
        found = (numbers.setdefault(cell, len(numbers)) for cell in cells)
        return np.fromiter(found, np.int64, len(cells)), cells

    def _present(self, name: str, role: str) -> Cells:
        cells = self.columns[name]
        if cells.kind == "nested":
            raise UserError(f"column {name!r} of {self.label} holds lists or objects; {role} is one value")
        missing = cells.missing
        if missing.any():
            row = int(missing.argmax())
            raise UserError(f"{self.place(row)}: the cell in column {name!r}, {role}, is missing")
        return cells

    def _sorted(self, codes: IndexArray, order: str, sequences: npt.NDArray[np.object_] | None = None) -> IndexArray:
        columns = self.order_columns(order)
        joined = self._joined(columns)
        if joined is not None:
            ranks = [joined]
        else:
            ranks = [self._ranks(name, codes, alone=len(columns) == 1) for name in columns]
        rows = np.lexsort((*reversed(ranks), codes))
        same = np.diff(codes[rows]) == 0
        for rank in ranks:
            same &= np.diff(rank[rows]) == 0
        repeated = np.flatnonzero(same)
        if len(repeated):
            before, row = int(rows[repeated[0]]), int(rows[repeated[0] + 1])
            which = "the sequence" if sequences is None else f"sequence {shown(sequences[row])}"
            cell = shown(" ".join(self.cell(name, row) for name in columns))
            raise UserError(f"{self.place(row)}: {which} has {order} {cell} a second time, after {self.place(before)}")
        return rows

    def _joined(self, columns: Sequence[str]) -> IndexArray | None:
        """The ranks of several columns of text that are dates and times together, None if they are not."""
        cells = [self.columns[name] for name in columns]
        if len(cells) < 2 or any(each.kind != "text" or each.problem or each.missing.any() for each in cells):
            return None
        texts = zip(*(each.values.tolist() for each in cells), strict=True)
        found = _read_order([" ".join(text) for text in texts], self.reading)
        return None if found is None else _ranks_of(found[0])

    def _ranks(self, name: str, codes: IndexArray, *, alone: bool) -> IndexArray:
        """What the rows are sorted by, of one column; `alone`: there is no other one."""
        cells, clock = self._present(name, "the order"), False
        keys = cells.integers if cells.integers is not None else cells.values if cells.numeric else cells.keys
        if keys is None and cells.kind == "text" and cells.problem is None:
            found = _read_order(cells.values.tolist(), self.reading)
            if found is not None:
                keys, clock = found[0], found[1] == "clock"
        elif keys is not None and keys.dtype == object and len(keys) and isinstance(keys[0], datetime.time):
            keys, clock = np.array([key_of(key).key for key in keys], object), True
        if keys is None:
            written = "text"
            if self.reading.time_format:
                written = f"what is not in the format {shown(self.reading.time_format)}"
            raise UserError(
                f"column {name!r} of {self.label} holds {_KINDS.get(cells.kind, written)}, which cannot order rows: "
                f"convert it to numbers, dates or times, all with an offset from UTC or none"
            )
        if clock and alone and not self.reading.one_day:
            falls = np.flatnonzero((keys[:-1] - keys[1:] > HALF_DAY) & (np.diff(codes) == 0))
            if len(falls):
                row = int(falls[0]) + 1
                raise UserError(past_midnight(self.place(row), name, self.cell(name, row), self.cell(name, row - 1)))
        return _ranks_of(keys)
