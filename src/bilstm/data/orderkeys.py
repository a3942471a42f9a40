"""What the rows of a table from a file are sorted by: numbers, dates and times, read from one column or several."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bilstm.data.names import literal, literal_glob
from bilstm.data.times import FORMS, HALF_DAY, Form, past_midnight, reader
from bilstm.errors import UserError, listed, shown

if TYPE_CHECKING:
    from bilstm.data.filetable import FileTable

_BLANKS = "' \t'"


@dataclasses.dataclass(frozen=True)
class OrderKey:
    """What rows are sorted by.

    Attributes:
        source: the table in the database that has it, in the order of `cells`.
        sql: an expression over that table.
    """

    source: str
    sql: str


def order_key(table: FileTable, sequence: str | None, columns: Sequence[str]) -> OrderKey:
    """What the rows of a table are sorted by.

    Text is read as whole numbers if all of it can be, or else as numbers, dates or times. Several columns of text are
    read as dates and times together if they can be, and otherwise sort one after the other.

    Raises:
        UserError: a cell is missing or cannot be sorted by, times have an offset from UTC in some rows only, or times
            without a date fall back past midnight; the message says where.
    """
    if len(columns) == 1:
        key, clock = _key(table, columns[0], "order_keys")
    else:
        key, clock = _joint_key(table, columns), False
    if clock and not table.reading.one_day:
        _check_midnight(table, sequence, columns[0], key)
    return key


def _key(table: FileTable, name: str, keys: str) -> tuple[OrderKey, bool]:
    """The key of one column, and whether it is a time without a date; `keys` names a table that may be made."""
    if table.kinds[name] == "time" or (table.format == "parquet" and table.kinds[name] == "number"):
        # As it is: a time in nanoseconds does not fit into a DOUBLE.
        readings, texts = [table.column(name)], False
    else:
        text = f"trim({table.text(name)}, {_BLANKS})"
        whole = f"CASE WHEN regexp_full_match({text}, '[+-]?[0-9]+') THEN TRY_CAST({text} AS HUGEINT) END"
        readings, texts = ([] if table.reading.time_format else [whole, table.number(name)]), True
    # What can be read in a text is not missing. A number of Parquet's may be NaN.
    missing = "false" if texts or table.kinds[name] == "time" else table.missing(name)
    misfit = -1
    for reading in readings:
        row = table.query(f"SELECT min(rowid) FROM cells WHERE {reading} IS NULL OR {missing}")[0][0]
        if row is None:
            if table.kinds[name] != "time":
                return OrderKey("cells", reading), False
            ((kind,),) = table.query(f"SELECT typeof({table.column(name)}) FROM cells LIMIT 1")
            _check_nanoseconds(table, name, str(kind))
            return OrderKey("cells", reading), str(kind).startswith("TIME") and not str(kind).startswith("TIMESTAMP")
        misfit = max(misfit, row)  # of the reading that goes furthest: that is probably what the column holds
    if texts:
        found = _times(table, [name], keys)
        if not isinstance(found, int):
            return OrderKey(keys, "k"), found == "clock"
        misfit = max(misfit, found)
    raise _misfit(table, name, misfit)


def _joint_key(table: FileTable, columns: Sequence[str]) -> OrderKey:
    """The key of several columns."""
    if all(table.kinds[name] in ("cell", "text") for name in columns):
        found = _times(table, columns, "order_keys")
        if not isinstance(found, int):
            return OrderKey("order_keys", "k")
        if table.reading.time_format:
            raise _misfit(table, columns[0], found, " ".join(table.cell(name, found) for name in columns))
    keys = [_key(table, name, f"order_keys_{index}")[0] for index, name in enumerate(columns)]
    sources = list(dict.fromkeys(["cells", *(key.source for key in keys)]))
    selected = ", ".join(
        f"{key.sql if key.source == 'cells' else f'{key.source}.k'} AS k{index}" for index, key in enumerate(keys)
    )
    table.query(f"CREATE OR REPLACE TABLE order_keys AS SELECT {selected} FROM {' POSITIONAL JOIN '.join(sources)}")
    for source in sources[1:]:
        table.query(f"DROP TABLE {source}")
    return OrderKey("order_keys", f"struct_pack({', '.join(f'k{index} := k{index}' for index in range(len(keys)))})")


def _times(table: FileTable, columns: Sequence[str], keys: str) -> Form | int:
    """Read texts as times into a table whose column k has the moments; returns their form, or the row that has none.

    Raises:
        UserError: some have an offset from UTC, or a date, and others not.
    """
    read = reader(table.reading.time_format)
    table.query(f"CREATE OR REPLACE TABLE {keys} (k HUGEINT)")
    form, first = None, 0
    for start, stop in table.blocks():
        cells = zip(*(table.texts(name, start, stop).tolist() for name in columns), strict=True)
        seconds, rest = np.empty(stop - start, np.int64), np.empty(stop - start, np.int64)
        for index, texts in enumerate(cells):
            moment = None if None in texts else read(" ".join(texts) if len(texts) > 1 else texts[0])
            if moment is None:
                return start + index
            if form is None:
                form, first = moment.form, start + index
            elif moment.form != form:
                raise _mixed(table, columns, form, first, moment.form, start + index)
            seconds[index], rest[index] = divmod(moment.key, 10**9)
        with table.additions({"seconds": seconds, "rest": rest}):
            table.query(f"INSERT INTO {keys} SELECT seconds::HUGEINT * 1000000000 + rest FROM additions")
    return form or "date"


def _mixed(table: FileTable, columns: Sequence[str], form: Form, first: int, other: Form, row: int) -> UserError:
    cells = [shown(" ".join(table.cell(name, each) for name in columns)) for each in (row, first)]
    before = table.place_from(first, row)
    return UserError(
        f"{table.place(row)}: {cells[0]} in column {listed(columns)} {FORMS[other]}, but {cells[1]} in {before} "
        f"{FORMS[form]}: which comes first is not known; write all in one way"
    )


def _misfit(table: FileTable, name: str, row: int, cell: str | None = None) -> UserError:
    cell = table.cell(name, row) if cell is None else cell
    if table.reading.time_format and cell:
        problem = f"{shown(cell)} is not a time in the format {shown(table.reading.time_format)}"
    else:
        problem = f"{shown(cell)} is neither a number nor a date" if cell else "the cell is missing"
    advice = ""
    if cell and not table.reading.time_format and any(sign in cell for sign in ":./"):
        advice = "; if it is a time, say how it is written with --time-format, such as '%d.%m.%Y %H:%M'"
    return UserError(f"{table.place(row)}: {problem} in column {name!r}, which gives the order of the rows{advice}")


def _check_nanoseconds(table: FileTable, name: str, kind: str) -> None:
    """Refuse a column of a Parquet file whose nanoseconds the installed DuckDB drops; version 1.3 does for some."""
    if not kind.startswith("TIME") or kind.endswith("_NS") or table.format != "parquet":
        return
    files = (literal(literal_glob(path)) for path in table.places.paths)
    schemas = (f"SELECT logical_type FROM parquet_schema({file}) WHERE name = {literal(name)}" for file in files)
    if any("NanoSeconds" in str(found) for schema in schemas for (found,) in table.query(schema)):
        raise UserError(
            f"column {name!r} of {table.label} holds nanoseconds, which this version of DuckDB does not keep: pip "
            f"install --upgrade duckdb"
        )


def _check_midnight(table: FileTable, sequence: str | None, name: str, key: OrderKey) -> None:
    """Refuse times without a date that fall back by more than half a day from one row of a sequence to the next."""
    k = key.sql if key.source != "cells" else f"CAST(date_part('epoch', {key.sql}) * 1000000000 AS HUGEINT)"
    source = "cells" if key.source == "cells" else f"cells POSITIONAL JOIN {key.source}"
    ((row,),) = table.query(
        f"""
        SELECT min(r) FROM (
            SELECT r, s = lag(s) OVER w AS same, lag(k) OVER w - k AS fall
            FROM (SELECT cells.rowid AS r, {table.sequence(sequence)} AS s, {k} AS k FROM {source})
            WINDOW w AS (ORDER BY r)
        ) WHERE same AND fall > {HALF_DAY}
        """
    )
    if row is not None:
        raise UserError(past_midnight(table.place(row), name, table.cell(name, row), table.cell(name, row - 1)))
