"""Which rows of a table form which sequence."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from bilstm.errors import UserError, shown
from bilstm.tables import BLANKS, Table

IndexArray = npt.NDArray[np.int64]


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


def find_sequences(table: Table, sequence: str, order: str | None = None) -> Sequences:
    """Find the sequences of a table, in the order in which they begin in the file.

    Args:
        table: one row a step.
        sequence: the column whose value all rows of one sequence share.
        order: the column by which the rows of a sequence are sorted: numbers, dates or times. Without it, the rows of a
            sequence stand together in the file, in order.

    Raises:
        UserError: there are no such columns, a cell of either is missing, two rows of a sequence have the same order,
            a column gives no order, or, without one, a sequence is scattered; the message names the rows.
    """
    table.require(sequence, "the sequence of each row")
    name = table.text(sequence)
    missing = table.query(f"SELECT min(rowid) FROM cells WHERE {name} IS NULL")[0][0]
    if missing is not None:
        raise UserError(f"{table.place(missing)}: the cell in column {sequence!r}, the row's sequence, is missing")
    if order is None:
        return _as_they_stand(table, sequence)
    table.require(order, "the order within a sequence")
    firsts, rows, repeated = table.arrays(
        f"""
        SELECT first, r, k IS NOT DISTINCT FROM lag(k) OVER (PARTITION BY first ORDER BY k, r) AS repeated
        FROM (SELECT {_first_row(table, sequence)} AS first, rowid AS r, {_sort_key(table, order)} AS k FROM cells)
        ORDER BY first, k, r
        """
    )
    if repeated.any():
        after = int(np.flatnonzero(repeated)[0])
        before, row = table.place(int(rows[after - 1])), int(rows[after])
        raise UserError(
            f"{table.place(row)}: sequence {shown(table.cell(sequence, row))} has {order} "
            f"{shown(table.cell(order, row))} a second time, after {before.removeprefix(f'{table.path}, ')}"
        )
    return _sequences(firsts, rows)


def _as_they_stand(table: Table, sequence: str) -> Sequences:
    (firsts,) = table.arrays(f"SELECT {_first_row(table, sequence)} AS first FROM cells ORDER BY rowid")
    found = _sequences(firsts, np.arange(table.rows))
    starts = found.offsets[:-1]
    again = starts[firsts[starts] != starts]
    if len(again):
        row = int(again[0])
        raise UserError(
            f"{table.place(row)}: sequence {shown(table.cell(sequence, row))} goes on after rows of another one; sort "
            f"the file, or give the column that says the order of a sequence's rows (--order)"
        )
    return found


def _sequences(firsts: IndexArray, rows: IndexArray) -> Sequences:
    starts = np.flatnonzero(np.diff(firsts, prepend=-1))
    return Sequences(np.append(starts, len(rows)).astype(np.int64), rows.astype(np.int64))


def _first_row(table: Table, sequence: str) -> str:
    """SQL: the first row of the sequence, which stands for it."""
    return f"min(rowid) OVER (PARTITION BY {table.text(sequence)})"


def _sort_key(table: Table, order: str) -> str:
    """SQL: what to sort by. Text is read as whole numbers if all of it can be, or else as numbers, dates or times."""
    if table.kinds[order] == "time" or (table.format == "parquet" and table.kinds[order] == "number"):
        readings = [table.column(order)]  # as it is: a time in nanoseconds does not fit into a DOUBLE
    else:
        text = f"trim({table.text(order)}, {BLANKS})"
        whole = f"CASE WHEN regexp_full_match({text}, '[+-]?[0-9]+') THEN TRY_CAST({text} AS HUGEINT) END"
        readings = [whole, table.number(order), f"TRY_CAST({text} AS TIMESTAMP)", f"TRY_CAST({text} AS TIME)"]
    missing = table.missing(order) if table.kinds[order] != "time" else "false"
    misfit = 0
    for reading in readings:
        row = table.query(f"SELECT min(rowid) FROM cells WHERE {reading} IS NULL OR {missing}")[0][0]
        if row is None:
            return reading
        misfit = max(misfit, row)  # of the reading that goes furthest: that is probably what the column holds
    cell = table.cell(order, misfit)
    problem = f"{shown(cell)} is neither a number nor a date" if cell else "the cell is missing"
    raise UserError(f"{table.place(misfit)}: {problem} in column {order!r}, which gives the order of the rows")
