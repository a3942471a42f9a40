"""Tables with a row per sequence, whose steps stand in lists: the layout that Arrow's lists have.

The table as it was read is called `lists` in the database then, and `cells` holds its steps: the elements of lists that
run alongside, and what else a row has, repeated. Further columns `list_row` and `step` say where a step comes from,
counted from 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bilstm.data import scratch
from bilstm.data.texts import TextColumn
from bilstm.errors import UserError, counted

if TYPE_CHECKING:
    import duckdb

    from bilstm.data.places import Places
    from bilstm.data.table import Format

_COLUMNS = 100  # that one query looks at
_TEXTS = 10_000  # rows whose texts are divided at a time


def unnest(
    connection: duckdb.DuckDBPyConnection,
    places: Places,
    table_format: Format,
    names: Sequence[str],
    steps: Sequence[str],
    *,
    long: bool = True,
) -> list[str]:
    """Where one of some columns holds lists, make `cells` a table with a row per step.

    Args:
        connection: the database with `cells` as it was read.
        places: where its rows stand.
        names: its columns.
        steps: those whose lists make a table one with a row per sequence: features and labels. Others of as many
            elements run alongside.
        long: whether lists of other columns alone change nothing.

    Returns:
        The columns whose lists run alongside; none if there were no lists.

    Raises:
        UserError: such lists in one row have different lengths.
    """
    lists = _lists(connection, table_format, len(names))
    chosen = [index for index in lists if names[index] in steps] or ([] if long else [*lists])
    if not chosen:
        return []
    length = f"greatest({', '.join(f'len({lists[index]})' for index in chosen)})"
    for index in chosen:
        _check_lengths(connection, places, names[index], lists[index], length)
    others = [index for index in lists if index not in chosen]
    agree = ", ".join(f"count(*) = 0 OR bool_and(len({lists[index]}) = {length})" for index in others)
    same = connection.execute(f"SELECT {agree} FROM cells").fetchall()[0] if others else ()
    alongside = {*chosen, *(index for index, all_agree in zip(others, same, strict=True) if all_agree)}
    cells = [f"unnest({lists[p]}) AS c{p}" if p in alongside else f"c{p}" for p in range(len(names))]
    kind = "VIEW" if "rowid" in columns_of(connection) else "TABLE"
    connection.execute(f"ALTER {kind} cells RENAME TO lists").fetchall()
    selected = ", ".join(["rowid AS list_row", f"unnest(range({length})) AS step", *cells])
    connection.execute(f"CREATE TABLE cells AS SELECT {selected} FROM lists").fetchall()
    return [name for index, name in enumerate(names) if index in alongside]


def unnest_texts(
    connection: duckdb.DuckDBPyConnection,
    places: Places,
    table_format: Format,
    names: Sequence[str],
    text: TextColumn,
) -> list[str]:
    """Make `cells` a table with a row for each word or character of a column's texts.

    Args:
        connection: the database with `cells` as it was read.
        places: where its rows stand.
        names: its columns.
        text: which of them holds the texts.

    Returns:
        The column of the texts, as a list.

    Raises:
        UserError: a text has no words; the message says where.
    """
    index = names.index(text.column)
    cell = f"c{index}->>'$'" if table_format == "ndjson" else f"CAST(c{index} AS VARCHAR)"
    kind = "VIEW" if "rowid" in columns_of(connection) else "TABLE"
    connection.execute(f"ALTER {kind} cells RENAME TO lists").fetchall()
    connection.execute("CREATE TABLE tokens (list_row BIGINT, step BIGINT, token VARCHAR)").fetchall()
    ((rows,),) = connection.execute("SELECT count(*) FROM lists").fetchall()
    for start in range(0, rows, _TEXTS):
        chosen = f"FROM lists WHERE rowid >= {start} AND rowid < {start + _TEXTS} ORDER BY rowid"
        texts = connection.execute(f"SELECT {cell} {chosen}").fetchall()
        tokens = [text.split(found) for (found,) in texts]
        lengths = np.array([len(words) for words in tokens], np.int64)
        if not lengths.all():
            row = start + int((lengths == 0).argmax())
            raise text.is_empty(places.place(row))
        block = {
            "list_row": np.repeat(np.arange(start, start + len(tokens)), lengths),
            "step": np.concatenate([np.arange(length) for length in lengths]),
            "token": np.array([word for words in tokens for word in words], object),
        }
        connection.register("block", block)
        connection.execute("INSERT INTO tokens SELECT * FROM block").fetchall()
        connection.unregister("block")
    token = "to_json(token)" if table_format == "ndjson" else "token"
    cells = [f"{token} AS c{p}" if p == index else f"c{p}" for p in range(len(names))]
    connection.execute(
        f"CREATE TABLE cells AS SELECT list_row, step, {', '.join(cells)} FROM tokens JOIN lists "
        f"ON lists.rowid = list_row ORDER BY list_row, step"
    ).fetchall()
    connection.execute("DROP TABLE tokens").fetchall()
    return [text.column]


def nest(connection: duckdb.DuckDBPyConnection, additions: Mapping[str, str]) -> None:
    """Make a table `nested` with a row for each one of `lists`, of columns with a list of what its steps were given.

    Args:
        connection: the database, in which `cells` can be joined with `additions` by position.
        additions: SQL of what each step is given, by the new column's name.
    """
    ((count,),) = connection.execute("SELECT count(*) FROM lists").fetchall()
    ((steps,),) = connection.execute("SELECT count(*) FROM cells").fetchall()
    values = ", ".join(f"{sql} AS v{index}" for index, sql in enumerate(additions.values()))
    connection.execute(
        f"CREATE TABLE given AS SELECT list_row, step, {values} FROM cells POSITIONAL JOIN additions"
    ).fetchall()
    made = ", ".join(f"list(v{index} ORDER BY step) AS v{index}" for index in range(len(additions)))
    create = "CREATE TABLE nested AS"
    at_once = max(1, scratch.BLOCK * count // max(steps, 1))
    for start in range(0, max(count, 1), at_once):  # lists that are being made must stay in memory
        rows = f"BETWEEN {start} AND {start + at_once - 1}"
        connection.execute(
            f"{create} SELECT v.* EXCLUDE (list_row) FROM (SELECT rowid AS r FROM lists WHERE rowid {rows}) AS l "
            f"LEFT JOIN (SELECT list_row, {made} FROM given WHERE list_row {rows} GROUP BY list_row) AS v "
            f"ON l.r = v.list_row ORDER BY l.r"
        ).fetchall()
        create = "INSERT INTO nested"
    connection.execute("DROP TABLE given").fetchall()


def json_types(connection: duckdb.DuckDBPyConnection, width: int) -> list[set[str]]:
    """The types of JSON that each of the first columns of `cells` holds."""
    names = ("NULL", "BOOLEAN", "BIGINT", "UBIGINT", "DOUBLE", "VARCHAR", "ARRAY", "OBJECT")
    found: list[set[str]] = []
    for start in range(0, width, _COLUMNS):
        columns = range(start, min(start + _COLUMNS, width))
        # A bit for each type: to collect different texts takes milliseconds a column.
        bits = (f"bit_or(1 << (list_position({list(names)}, json_type(c{column})) - 1))" for column in columns)
        ((*sums,),) = connection.execute(f"SELECT {', '.join(bits)} FROM cells").fetchall()
        found += [{name for index, name in enumerate(names) if (each or 0) >> index & 1} for each in sums]
    return found


def present_json(value: str) -> str:
    """SQL: a JSON value, NULL where it is null, or NaN as Python and NumPy write it."""
    return f"nullif(nullif({value}, 'null'::JSON), 'NaN'::JSON)"


def columns_of(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    return {name: sql_type for name, sql_type, *_ in connection.execute("DESCRIBE cells").fetchall()}


def _lists(connection: duckdb.DuckDBPyConnection, table_format: Format, width: int) -> dict[int, str]:
    """SQL of each column's lists, by its index; none of the columns that hold anything else."""
    if table_format == "parquet":
        return {
            index: f"CAST(c{index} AS {sql_type[: sql_type.rindex('[')]}[])"  # of arrays, whose lengths are fixed, too
            for index, sql_type in enumerate(columns_of(connection).get(f"c{index}", "") for index in range(width))
            if sql_type.endswith("]")
        }
    found: dict[int, str] = {}
    for index, types in enumerate(json_types(connection, width) if table_format == "ndjson" else ()):
        if types == {"ARRAY"}:
            elements = f"from_json(c{index}, '[\"JSON\"]')"
            found[index] = f"list_transform({elements}, lambda e: {present_json('e')})"
    return found


def _check_lengths(
    connection: duckdb.DuckDBPyConnection, places: Places, name: str, elements: str, length: str
) -> None:
    wrong = connection.execute(
        f"SELECT rowid, len({elements}), {length} FROM cells WHERE len({elements}) <> {length} ORDER BY rowid LIMIT 1"
    ).fetchall()
    for row, one, other in wrong:
        raise UserError(
            f"{places.place(row)}: column {name!r} has a list of {counted(one, 'step')}, but another column's has "
            f"{other:,}: the lists of one row are one sequence"
        )
