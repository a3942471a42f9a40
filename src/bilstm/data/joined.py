"""Several data frames as one table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.data import scratch
from bilstm.data.readingoptions import ReadingOptions
from bilstm.data.table import Profile, Sequences, Table
from bilstm.errors import UserError, counted, shown
from bilstm.ragged import IndexArray, offsets_of


class JoinedTable(Table):
    """The rows of several tables, one after the other.

    Args:
        parts: tables with the same columns, whose sequences are different ones.

    Raises:
        UserError: a table lacks a column that the first one has, or has another one.
    """

    def __init__(self, parts: Sequence[Table]) -> None:
        first, *others = self.parts = list(parts)
        for table in others:
            for name in {*first.names} ^ {*table.names}:
                has, lacks = (first, table) if name in first.names else (table, first)
                raise UserError(f"{lacks.label} has no column {name!r}, which {has.label} has: both are one table")
            if (list(table.lists), table.conll_columns) != (list(first.lists), first.conll_columns):
                raise UserError(f"{table.label} and {first.label} are of different forms: pass one of them at a time")
        self.label = f"{first.label} and {counted(len(others), 'other table')}"
        self.format, self.reading = first.format, first.reading
        self.names, self.lists, self.conll_columns = list(first.names), first.lists, first.conll_columns
        self.tagged, self.documents = first.tagged, first.documents
        self.notes = [note for table in self.parts for note in table.notes]
        self.problem = next((table.problem for table in self.parts if table.problem), "")
        self.unnamed = [name for name in first.unnamed if all(name in table.unnamed for table in others)]
        kinds = {name: {table.kinds[name] for table in self.parts} for name in self.names}
        self.kinds = {name: found.pop() if len(found) == 1 else "cell" for name, found in kinds.items()}
        self._starts = offsets_of([table.rows for table in self.parts])
        self.rows = int(self._starts[-1])

    def guesses(self) -> list[tuple[str, ReadingOptions]]:
        return [guess for table in self.parts for guess in table.guesses()]

    def counts_rows(self, name: str) -> bool:
        return all(table.counts_rows(name) for table in self.parts)

    @property
    def divided(self) -> bool:
        return all(table.divided for table in self.parts)

    def sequences(self, sequence: str | None, order: str | None = None) -> Sequences:
        found = [table.sequences(sequence, order) for table in self.parts]
        if not self.divided and sequence is not None:
            self._check_different(sequence, found)
        lengths = np.concatenate([np.diff(each.offsets) for each in found])
        rows: IndexArray = scratch.empty(self.rows, np.int64)
        for start, stop, each in zip(self._starts, self._starts[1:], found, strict=False):
            rows[start:stop] = each.rows
            rows[start:stop] += start
        return Sequences(offsets_of(lengths), rows)

    def place(self, row: int) -> str:
        table, own = self._locate(row)
        return table.place(own)

    def cell(self, name: str, row: int) -> str:
        table, own = self._locate(row)
        return table.cell(name, own)

    def texts(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[np.object_]:
        return self._joined(start, stop, lambda table, first, last: table.texts(name, first, last))

    def values(self, name: str, rows: IndexArray) -> list[Any]:
        found = np.empty(len(rows), object)
        parts = np.searchsorted(self._starts, rows, "right") - 1
        for part, table in enumerate(self.parts):
            chosen = parts == part
            found[chosen] = table.values(name, rows[chosen] - self._starts[part])
        return list(found)

    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        numbers: npt.NDArray[np.float64] = scratch.empty(self.rows, np.float64)
        for start, stop, table in zip(self._starts, self._starts[1:], self.parts, strict=False):
            numbers[start:stop] = table.numbers(name)
        return numbers

    def profile(self, name: str) -> Profile:
        profiles = [table.profile(name) for table in self.parts]

        def first(field: str) -> int | None:
            rows = zip(self._starts.tolist(), (getattr(profile, field) for profile in profiles), strict=False)
            return next((start + row for start, row in rows if row is not None), None)

        def total(field: str) -> int:
            return sum(getattr(profile, field) for profile in profiles)

        return Profile(
            present=total("present"),
            numbers=total("numbers"),
            times=total("times"),
            decimal_commas=total("decimal_commas"),
            other=first("other"),
            infinite=first("infinite"),
            fraction=first("fraction"),
        )

    def counts(self, name: str, chosen: npt.NDArray[np.bool_]) -> Iterator[tuple[str, int]]:
        counts = Counter[str]()
        for start, stop, table in zip(self._starts, self._starts[1:], self.parts, strict=False):
            counts.update(dict(table.counts(name, chosen[start:stop])))
        yield from counts.items()

    def _locate(self, row: int) -> tuple[Table, int]:
        part = int(np.searchsorted(self._starts, row, "right")) - 1
        return self.parts[part], row - int(self._starts[part])

    def _joined(
        self, start: int, stop: int | None, read: Callable[[Table, int, int], npt.NDArray[Any]]
    ) -> npt.NDArray[Any]:
        stop = self.rows if stop is None else stop
        found = []
        for part, table in enumerate(self.parts):
            begin = int(self._starts[part])
            first, last = max(start - begin, 0), min(stop - begin, table.rows)
            if first < last:
                found.append(read(table, first, last))
        return np.concatenate(found) if found else np.empty(0, object)

    def _check_different(self, sequence: str, found: Sequence[Sequences]) -> None:
        """Refuse a sequence that begins in one table and continues in another."""
        seen: dict[str, Table] = {}
        for table, sequences in zip(self.parts, found, strict=True):
            for name in table.values(sequence, sequences.first_rows):
                other = seen.setdefault(str(name), table)
                if other is not table:
                    raise UserError(
                        f"sequence {shown(name)} is in {other.label} and in {table.label}: give each sequence its own "
                        f"name in column {sequence!r}"
                    )
