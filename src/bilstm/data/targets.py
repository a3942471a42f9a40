"""Targets and groups that are passed with sequences: they become columns of the sequences' table."""

from __future__ import annotations

from typing import Any

import numpy as np

from bilstm.data.arrays import INCONSISTENT, as_array, read_matrix, read_rows, read_values
from bilstm.data.frames import read_columns
from bilstm.data.memory import Cells, MemoryTable
from bilstm.data.table import Table
from bilstm.errors import UserError

GROUPS = "groups"  # the column of groups that were passed with X


def with_targets(
    table: Table,
    y: Any,
    *,
    per_sequence: bool,
    sequence: str | None = None,
    order: str | None = None,
    missing: Any = None,
) -> tuple[Table, tuple[str, ...]]:
    """The table with y as columns, unless y names some of its columns, and the names of the target columns.

    Args:
        table: n sequences.
        y: names of columns; for each step of divided sequences a list with an array for each, a (n, steps) array or a
            `Ragged`; for each sequence (n,), or (n, outputs); for a long table an entry for each row or, with
            `per_sequence`, for each sequence in the order they begin.
        per_sequence: whether there is one answer for each sequence.
        sequence, order: of a long table, the columns that identify sequences and sort their rows.
        missing: what stands for "unlabelled" besides None and NaN.

    Raises:
        UserError: y does not fit the table; the message says why.
    """
    names = column_names(y)
    in_memory = isinstance(table, MemoryTable)
    if names and (isinstance(y, str) or not in_memory or set(names) <= set(table.names)):
        for name in names:
            table.require(name, "y")
        if isinstance(table, MemoryTable):
            return table.with_columns({name: table.columns[name].without(missing) for name in names}), names
        if missing is not None:
            raise UserError(
                "missing_label has no effect on a file: leave the cells of missing labels empty, or name what they "
                "hold with reading={'missing': […]}"
            )
        return table, names
    if not isinstance(table, MemoryTable):
        raise UserError(f"X is the file {table.label}: pass the name of the label's column as y")
    if table.offsets is not None:
        columns = read_rows(y, table.offsets, per_sequence, missing=missing)
        return table.with_columns(columns), tuple(columns)
    named = read_columns(y)
    if named is None:
        columns = read_matrix(as_array(y), "y", "label", missing)
    else:
        columns = {name or "label": cells.without(missing) for name, cells in named}
    for column, _ in named or ():
        if column in table.names:
            raise UserError(
                f"y is called {column!r}, as is a column of X, which would be a feature: drop that from X, or pass "
                f"y={column!r}"
            )
    rows = {name: _by_row(table, cells, "y", per_sequence, sequence, order) for name, cells in columns.items()}
    return table.with_columns(rows), tuple(rows)


def with_groups(
    table: Table, groups: Any, *, sequence: str | None = None, order: str | None = None
) -> tuple[Table, str]:
    """The table with groups as a column, unless they name one of its columns, and the column's name.

    Args:
        table: n sequences.
        groups: the name of a column, or (n,) the group of each sequence; of a long table also an entry for each row.
        sequence, order: of a long table, the columns that identify sequences and sort their rows.

    Raises:
        UserError: the groups do not fit the table; the message says why.
    """
    if isinstance(groups, str):
        return table, table.require(groups, "groups")
    if not isinstance(table, MemoryTable):
        raise UserError(f"X is the file {table.label}: pass the name of the groups' column")
    if table.offsets is not None:
        shape = as_array(groups).shape
        if shape != (len(table.offsets) - 1,):
            raise UserError(f"groups has shape {shape}, but X has {len(table.offsets) - 1} sequences")
        return table.with_columns(read_rows(groups, table.offsets, True, GROUPS, GROUPS)), GROUPS
    named = read_columns(groups)
    cells = read_values(as_array(groups)) if named is None else named[0][1]
    return table.with_columns({GROUPS: _by_row(table, cells, GROUPS, True, sequence, order)}), GROUPS


def column_names(y: Any) -> tuple[str, ...]:
    """The columns that y may name: a string, or the strings of a list or tuple, which could be labels as well."""
    if isinstance(y, str):
        return (y,)
    return tuple(y) if isinstance(y, (list, tuple)) and all(isinstance(name, str) for name in y) else ()


def _by_row(
    table: MemoryTable, cells: Cells, name: str, per_sequence: bool, sequence: str | None, order: str | None
) -> Cells:
    """An entry for each row of a long table; `per_sequence`: there may be one for each sequence instead."""
    count = len(cells.values)
    if count == table.rows:
        return cells
    table.check_sequence(sequence)
    sequences = table.sequences(sequence, order)
    if count == len(sequences) and per_sequence:
        rows = np.empty(table.rows, np.int64)
        rows[sequences.rows] = np.repeat(np.arange(count), np.diff(sequences.offsets))
        return cells.take(rows)
    per = f" and {len(sequences)} sequences" if per_sequence else ""
    raise UserError(f"{INCONSISTENT}: X has {table.rows} rows{per}, but {name} has {count} entries")
