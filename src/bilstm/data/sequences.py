"""Which rows of a table from a file form which sequence, found in its database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bilstm.data import scratch
from bilstm.data.table import Sequences
from bilstm.errors import UserError, shown
from bilstm.ragged import IndexArray, offsets_of

if TYPE_CHECKING:
    from bilstm.data.filetable import FileTable

_BLANKS = "' \t'"


def find_sequences(table: FileTable, sequence: str | None, order: str | None = None) -> Sequences:
    """Find the sequences of a table: see `Table.sequences`."""
    if table.sequence_key is None:
        table.require(str(sequence), "the sequence of each row")
    name = table.sequence(sequence)
    missing = table.query(f"SELECT min(rowid) FROM cells WHERE {name} IS NULL")[0][0]
    if missing is not None:
        raise UserError(f"{table.place(missing)}: the cell in column {sequence!r}, the row's sequence, is missing")
    if order is not None:
        table.require(order, "the order within a sequence")
    firsts, lasts, lengths = table.arrays(
        f"SELECT min(rowid) AS first, max(rowid) AS last, count(*) AS length FROM cells GROUP BY {name} ORDER BY first"
    )
    offsets = offsets_of(lengths)
    together = np.array_equal(firsts, offsets[:-1]) and np.array_equal(lasts, offsets[1:] - 1)
    if order is None and not together:
        raise _scattered(table, sequence)
    key = None if order is None else _sort_key(table, order)
    if key is None or (together and _ascends(table, offsets, key)):
        return Sequences(offsets, _in_order(table.rows))
    return Sequences(offsets, _sorted_rows(table, sequence, str(order), key))


def _scattered(table: FileTable, sequence: str | None) -> UserError:
    """The mistake of a sequence whose rows do not stand together."""
    name = table.sequence(sequence)
    ((row,),) = table.query(
        f"""
        SELECT min(r) FROM (
            SELECT rowid AS r, {_first_row(table, sequence)} AS first,
                {name} IS DISTINCT FROM lag({name}) OVER (ORDER BY rowid) AS begins
            FROM cells
        ) WHERE begins AND r <> first
        """
    )
    return UserError(
        f"{table.place(row)}: sequence {shown(table.cell(str(sequence), row))} is not contiguous: it "
        f"continues after rows of another one; sort the file, or name the column that gives the order (--order)"
    )


def _in_order(count: int) -> IndexArray:
    rows: IndexArray = scratch.empty(count, np.int64)
    for start in range(0, count, scratch.BLOCK):
        stop = min(start + scratch.BLOCK, count)
        rows[start:stop] = np.arange(start, stop)
    return rows


def _ascends(table: FileTable, offsets: IndexArray, key: str) -> bool:
    """Whether sequences that stand together are sorted already, as they are in most files."""
    for start, stop in table.blocks():
        before = max(start - 1, 0)
        rows = f"FROM cells WHERE rowid >= {before} AND rowid < {stop}"
        (falls,) = table.arrays(
            f"SELECT r FROM (SELECT rowid AS r, {key} AS k, lag({key}) OVER (ORDER BY rowid) AS previous {rows}) "
            f"WHERE NOT k > previous ORDER BY r"
        )
        if not np.isin(falls, offsets[np.searchsorted(offsets, start) : np.searchsorted(offsets, stop)]).all():
            return False
    return True


def _sorted_rows(table: FileTable, sequence: str | None, order: str, key: str) -> IndexArray:
    """The rows by sequence and order. The database sorts what does not fit into memory on the disk."""
    rows: IndexArray = scratch.empty(table.rows, np.int64)
    table.query(
        f"CREATE TABLE sorted AS SELECT first, r, k FROM "
        f"(SELECT {_first_row(table, sequence)} AS first, rowid AS r, {key} AS k FROM cells) ORDER BY first, k, r"
    )
    for start, stop in table.blocks():
        found, repeated = table.arrays(
            f"SELECT r, first = lag(first) OVER w AND k = lag(k) OVER w AS repeated FROM sorted "
            f"WHERE rowid >= {max(start - 1, 0)} AND rowid < {stop} WINDOW w AS (ORDER BY rowid) ORDER BY rowid"
        )
        rows[max(start - 1, 0) : stop] = found
        again = np.flatnonzero(np.ma.filled(repeated, False))
        if len(again):
            before, row = table.place(int(found[again[0] - 1])), int(found[again[0]])
            raise UserError(
                f"{table.place(row)}: {_named(table, sequence, row)} has {order} "
                f"{shown(table.cell(order, row))} a second time, after {before.removeprefix(f'{table.path}, ')}"
            )
    table.query("DROP TABLE sorted")
    return rows


def _named(table: FileTable, sequence: str | None, row: int) -> str:
    return "the sequence" if table.sequence_key else f"sequence {shown(table.cell(str(sequence), row))}"


def _first_row(table: FileTable, sequence: str | None) -> str:
    """SQL: the first row of the sequence, which stands for it."""
    return f"min(rowid) OVER (PARTITION BY {table.sequence(sequence)})"


def _sort_key(table: FileTable, order: str) -> str:
    """SQL: what to sort by. Text is read as whole numbers if all of it can be, or else as numbers, dates or times."""
    if table.kinds[order] == "time" or (table.format == "parquet" and table.kinds[order] == "number"):
        readings = [table.column(order)]  # as it is: a time in nanoseconds does not fit into a DOUBLE
    else:
        text = f"trim({table.text(order)}, {_BLANKS})"
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
