"""Which rows of a table from a file form which sequence, found in its database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bilstm.data import scratch
from bilstm.data.database import filled
from bilstm.data.orderkeys import OrderKey, order_key
from bilstm.data.table import Sequences
from bilstm.errors import UserError, shown
from bilstm.ragged import IndexArray, offsets_of

if TYPE_CHECKING:
    from bilstm.data.filetable import FileTable


def find_sequences(table: FileTable, sequence: str | None, order: str | None = None) -> Sequences:
    """Find the sequences of a table: see `Table.sequences`."""
    if table.sequence_key is None and sequence is not None:
        table.require(sequence, "the sequence of each row")
    name = table.sequence(sequence)
    missing = table.query(f"SELECT min(rowid) FROM cells WHERE {name} IS NULL")[0][0]
    if missing is not None:
        raise UserError(f"{table.place(missing)}: the cell in column {sequence!r}, the row's sequence, is missing")
    columns = table.order_columns(order)
    firsts, lasts, lengths = table.arrays(
        f"SELECT min(rowid) AS first, max(rowid) AS last, count(*) AS length FROM cells GROUP BY {name} ORDER BY first"
    )
    _check_different(table, sequence, firsts, lasts)
    offsets = offsets_of(lengths)
    together = np.array_equal(firsts, offsets[:-1]) and np.array_equal(lasts, offsets[1:] - 1)
    if order is None and not together:
        raise _scattered(table, sequence)
    key = order_key(table, sequence, columns) if columns else None
    if key is None or (together and _ascends(table, offsets, key)):
        rows = _in_order(table.rows)
    else:
        rows = _sorted_rows(table, sequence, columns, key)
    table.query("DROP TABLE IF EXISTS order_keys")
    return Sequences(offsets, rows)


def _check_different(table: FileTable, sequence: str | None, firsts: IndexArray, lasts: IndexArray) -> None:
    """Refuse a sequence that begins in one file and continues in another: each may count its own from 1."""
    places = table.places
    if len(places.paths) == 1 or table.lists:
        return
    files = [np.searchsorted(places.starts, rows, "right") for rows in (firsts, lasts)]
    for wrong in np.flatnonzero(files[0] != files[1])[:1].tolist():
        one, other = (places.paths[file[wrong] - 1] for file in files)
        raise UserError(
            f"sequence {shown(table.cell(str(sequence), int(firsts[wrong])))} is in {one} and in {other}: give each "
            f"sequence its own name in column {sequence!r}"
        )


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


def _ascends(table: FileTable, offsets: IndexArray, key: OrderKey) -> bool:
    """Whether sequences that stand together are sorted already, as they are in most files."""
    for start, stop in table.blocks():
        before = max(start - 1, 0)
        rows = f"SELECT rowid AS r, {key.sql} AS k FROM {key.source} WHERE rowid >= {before} AND rowid < {stop}"
        (falls,) = table.arrays(
            f"SELECT r FROM (SELECT r, k, lag(k) OVER (ORDER BY r) AS previous FROM ({rows})) "
            f"WHERE NOT k > previous ORDER BY r"
        )
        if not np.isin(falls, offsets[np.searchsorted(offsets, start) : np.searchsorted(offsets, stop)]).all():
            return False
    return True


def _sorted_rows(table: FileTable, sequence: str | None, columns: Sequence[str], key: OrderKey) -> IndexArray:
    """The rows by sequence and order. The database sorts what does not fit into memory on the disk."""
    rows: IndexArray = scratch.empty(table.rows, np.int64)
    source = "cells" if key.source == "cells" else f"cells POSITIONAL JOIN {key.source}"
    table.query(
        f"CREATE OR REPLACE TABLE sorted AS SELECT first, r, k FROM (SELECT {_first_row(table, sequence)} AS first, "
        f"cells.rowid AS r, {key.sql} AS k FROM {source}) ORDER BY first, k, r"
    )
    for start, stop in table.blocks():
        found, repeated = table.arrays(
            f"SELECT r, first = lag(first) OVER w AND k = lag(k) OVER w AS repeated FROM sorted "
            f"WHERE rowid >= {max(start - 1, 0)} AND rowid < {stop} WINDOW w AS (ORDER BY rowid) ORDER BY rowid"
        )
        rows[max(start - 1, 0) : stop] = found
        again = np.flatnonzero(filled(repeated, False))
        if len(again):
            before, row = int(found[again[0] - 1]), int(found[again[0]])
            raise UserError(
                f"{table.place(row)}: {_named(table, sequence, row)} has {','.join(columns)} "
                f"{shown(' '.join(table.cell(name, row) for name in columns))} a second time, after "
                f"{table.place_from(before, row)}"
            )
    table.query("DROP TABLE sorted")
    return rows


def _named(table: FileTable, sequence: str | None, row: int) -> str:
    return (
        "the sequence"
        if table.sequence_key or sequence is None
        else f"sequence {shown(table.cell(str(sequence), row))}"
    )


def _first_row(table: FileTable, sequence: str | None) -> str:
    """SQL: the first row of the sequence, which stands for it."""
    return f"min(cells.rowid) OVER (PARTITION BY {table.sequence(sequence)})"
