"""Tables: rows with named columns, wherever they are kept. The rest of the package reads data through this interface.

A row is a time step, or a sequence in a table of labels. `FileTable` keeps rows in a database that may be larger than
memory, `MemoryTable` holds data frames, arrays and lists.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bilstm.data import scratch
from bilstm.data.documents import TokenColumns
from bilstm.data.readingoptions import MISSING_LABELS, PLAIN, ReadingOptions
from bilstm.errors import UserError, listed, suggestion
from bilstm.ragged import IndexArray, chunks, offsets_of, steps_between

Format = Literal["csv", "parquet", "ndjson", "conll", "memory"]
FEWEST_COUNTED = 20  # rows, from which on a column that counts them is no coincidence
Kind = Literal["number", "boolean", "text", "time", "nested", "cell"]
_WINDOWS = (500, 200, 100, 50, 20, 10)  # steps: what is suggested, if a recording has twenty times as many


@dataclasses.dataclass(frozen=True)
class Profile:
    """What the cells of a column look like, read as numbers.

    Attributes:
        present: the number of cells that are not missing.
        numbers: the number of those that are numbers.
        times: the number of those that are dates or times; 0 if the first that is not a number is none.
        decimal_commas: the number of those that would be numbers if a comma were a decimal point.
        other: the first row whose cell is not a number, or None.
        infinite: the first row whose cell is infinite, or None.
        fraction: the first row whose cell is a number, but not a whole one, or None.
    """

    present: int
    numbers: int
    times: int
    decimal_commas: int
    other: int | None
    infinite: int | None
    fraction: int | None


@dataclasses.dataclass(frozen=True)
class Sequences:
    """The rows of sequence i, in order, are rows[offsets[i]:offsets[i + 1]].

    Attributes:
        offsets: (n_sequences + 1,) int64.
        rows: (total_steps,) int64, row numbers counted from 0.
    """

    offsets: IndexArray
    rows: IndexArray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def first_rows(self) -> IndexArray:
        """(n_sequences,) the row of each sequence's first step."""
        return self.rows[self.offsets[:-1]]

    def cut(self, starts: IndexArray, stops: IndexArray) -> Sequences:
        """Sequences of the steps from each start up to its stop, counted through all sequences."""
        return Sequences(offsets_of(stops - starts), cut(self.rows, starts, stops))


def window_advice(steps: int) -> str:
    """How to train on a recording of this number of steps, as the end of a sentence."""
    window = next((str(size) for size in _WINDOWS if steps >= 20 * size), "STEPS")
    example = f"window={window}" if window != "STEPS" else "window=…"
    return (
        f"--window {window} ({example}) trains on windows of it, validates on blocks of time with a gap of a window "
        f"between them and the training set, and predicts for the whole as one sequence"
    )


def cut(array: npt.NDArray[Any], starts: IndexArray, stops: IndexArray) -> npt.NDArray[Any]:
    """The rows of an array from each start up to its stop, one range after the other."""
    offsets = offsets_of(stops - starts)
    found = scratch.empty((int(offsets[-1]), *array.shape[1:]), array.dtype)
    for group in chunks(offsets, scratch.BLOCK):
        if group.stop - group.start == 1:  # may be as long as the array, for which indices would take memory
            rows: Any = slice(int(starts[group.start]), int(stops[group.start]))
        else:
            rows = steps_between(starts[group], stops[group])
        found[offsets[group.start] : offsets[group.stop]] = array[rows]
    return found


class Table(ABC):
    """Rows with named columns.

    Attributes:
        label: what messages call the table: the file's path, or the name of an argument.
        format: "csv", "parquet", "ndjson", "conll", or "memory" for what is not a file.
        names: the columns' names.
        unnamed: those of them that the file leaves without a name.
        kinds: what a column holds, by name: "number", "boolean", "text", "time", "nested", or "cell" for text whose
            kind only a look at all of it can tell.
        rows: the number of rows.
        lists: the columns that have a value for each time step, where each row of the input is a sequence.
        own_sequence: the column by which the table knows its sequences, unless another is named.
        conll_columns: how many columns a CoNLL file has, None for other formats.
        tagged: the columns of tokens and of their tags, where the names or the format of JSON or Parquet show them.
        documents: how texts with offsets became the table; None for others.
        notes: what a person should know of how it was read, one sentence each.
        problem: why its labels cannot be used, or "".
        reading: how it was read: what a person said.
        passed: whether a program passed it; then data unlike those of training are warned of.
    """

    label: str
    format: Format
    names: list[str]
    unnamed: Sequence[str] = ()
    kinds: Mapping[str, Kind]
    rows: int
    lists: Sequence[str] = ()
    own_sequence: str | None = None
    conll_columns: int | None = None
    tagged: tuple[str, str] | None = None
    documents: TokenColumns | None = None
    notes: Sequence[str] = ()
    problem: str = ""
    reading: ReadingOptions = PLAIN
    passed: bool = False

    @property
    def divided(self) -> bool:
        """Whether the table knows its sequences without a column that identifies them."""
        return bool(self.lists) or self.own_sequence is not None

    @property
    def missing_labels(self) -> frozenset[str]:
        """The cells that mean a missing label."""
        return MISSING_LABELS if self.reading.missing is None else frozenset({"", *self.reading.missing})

    def guesses(self) -> list[tuple[str, ReadingOptions]]:
        """For each of its files, by path, the reading options that were guessed."""
        return []

    def order_columns(self, order: str | None) -> list[str]:
        """The columns that sort the rows of a sequence: one of this name, or `a,b`, or none for None.

        Raises:
            UserError: there is no such column.
        """
        names = [] if order is None else [order] if order in self.names else order.split(",")
        return [self.require(name.strip(), "the order within a sequence") for name in names if name.strip()]

    @property
    def file_starts(self) -> IndexArray:
        """The first row of each file."""
        return np.zeros(1, np.int64)

    def counts_rows(self, name: str) -> bool:
        """Whether the column does no more than number the rows of each file as they stand."""
        starts = self.file_starts
        if self.kinds[name] not in ("number", "cell") or self.rows - len(starts) < FEWEST_COUNTED - 1:
            return False
        numbers, previous = self.numbers(name), np.nan
        for start, stop in self.blocks():
            block = numbers[start:stop]
            steps = np.diff(block, prepend=previous)
            steps[starts[(starts >= start) & (starts < stop)] - start] = 1
            if not (steps == 1).all() or not (block == np.trunc(block)).all():
                return False
            previous = block[-1]
        return True

    def require(self, name: str, role: str) -> str:
        """Return the name if there is such a column.

        Raises:
            UserError: there is none; the message says what it was for, and which columns there are.
        """
        if name not in self.names:
            how = ", read as CoNLL-style columns," if self.format == "conll" else ""
            raise UserError(
                f"{self.label}{how} has no column {name!r} ({role}).{suggestion(name, self.names)} "
                f"Its columns: {listed(self.names)}"
            )
        return name

    def check_sequence(self, sequence: str | None, *, one: bool = False) -> None:
        """Refuse a table whose sequences cannot be told apart.

        Args:
            one: whether all rows are one sequence, such as a long recording, where no column identifies sequences.

        Raises:
            UserError: there is no column of this name, or none was named where one is needed.
        """
        if self.divided or (sequence is None and one) or (sequence is not None and sequence in self.names):
            return
        if sequence is not None:
            self.require(sequence, "the sequence of each row")
        how = "name the column that identifies them with --sequence (sequence='…')"
        raise UserError(
            f"which rows of {self.label} belong together? If a row is a time step, {how}. If each row is a text, name "
            f"its column with --text (text='…'); if each row is a sequence, give lists, or arrays. If the table is one "
            f"long recording, {window_advice(self.rows)}"
        )

    def check_labels(self) -> None:
        """Refuse labels that could not be read, which only those need who learn from them or score by them.

        Raises:
            UserError: there are some; the message says where.
        """
        if self.problem:
            raise UserError(self.problem)

    def blocks(self) -> Iterator[tuple[int, int]]:
        """The first row of each block of rows that is worked on at a time, and the first row after it."""
        for start in range(0, self.rows, scratch.BLOCK):
            yield start, min(start + scratch.BLOCK, self.rows)

    @abstractmethod
    def sequences(self, sequence: str | None, order: str | None = None) -> Sequences:
        """Find the sequences of the table, in the order in which they begin.

        Args:
            sequence: the column whose value all rows of one sequence share; not needed where `divided`. None: all rows
                are one sequence; see `check_sequence`.
            order: the column by which the rows of a sequence are sorted: numbers, dates or times; several as `a,b`.
                Without it, the rows of a sequence are contiguous and in order.

        Raises:
            UserError: there are no such columns, a cell of either is missing, two rows of a sequence have the same
                order, the column holds nothing to sort by, or, without one, a sequence is not contiguous; the message
                names the rows.
        """

    @abstractmethod
    def place(self, row: int) -> str:
        """Where a row stands, such as `train.csv, line 17` or `row 16 of X`."""

    @abstractmethod
    def cell(self, name: str, row: int) -> str:
        """One cell as text, "" where it is missing."""

    @abstractmethod
    def texts(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[np.object_]:
        """The cells of a column in the rows from `start` up to `stop` as text, None where one is missing."""

    def text_codes(self, name: str) -> Iterator[tuple[slice, npt.NDArray[np.integer[Any]], list[str | None]]]:
        """A column as text, in blocks of rows.

        Yields:
            The rows; for each of them the position of its text among the different ones; and these, None for a missing
            cell.
        """
        for start, stop in self.blocks():
            positions: dict[str | None, int] = {}
            texts = self.texts(name, start, stop).tolist()
            codes = [positions.setdefault(text, len(positions)) for text in texts]
            yield slice(start, stop), np.array(codes, np.int64), list(positions)

    def only_numbers(self, name: str) -> bool:
        """Whether all cells of a column that are not missing are finite numbers."""
        profile = self.profile(name)
        return profile.other is None and profile.infinite is None

    @abstractmethod
    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        """A column as (rows,) float64, NaN where a cell is missing or not a number."""

    @abstractmethod
    def profile(self, name: str) -> Profile:
        """Count what the cells of a column are."""

    @abstractmethod
    def counts(self, name: str, chosen: npt.NDArray[np.bool_]) -> Iterator[tuple[str, int]]:
        """The different cells of a column in the chosen rows ("" where missing), each with its number of rows.

        Args:
            chosen: (rows,) booleans.
        """

    def numbers_at(self, name: str, rows: IndexArray) -> npt.NDArray[np.float64]:
        """(len(rows),) `numbers` in some rows."""
        return self.numbers(name)[rows]

    def values(self, name: str, rows: IndexArray) -> list[Any]:
        """The cells of a column in some rows, few enough for memory, as text."""
        return [self.cell(name, int(row)) for row in rows]
