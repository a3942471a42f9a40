"""Tables from CSV, Parquet, NDJSON and CoNLL-style files.

The rows live in a DuckDB database with limited memory: the rest goes to the disk, or stays in the Parquet file that it
came from. CSV and CoNLL cells stay the text they are, JSON values stay JSON and Parquet columns keep their types, so
that a table written back has its cells as they were.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from bilstm.data import scratch
from bilstm.data.lists import json_types
from bilstm.data.sequences import find_sequences
from bilstm.data.table import Format, Kind, Profile, Sequences, Table
from bilstm.data.textfiles import ConllRows, CsvRows
from bilstm.errors import UserError
from bilstm.ragged import IndexArray

if TYPE_CHECKING:
    import duckdb

BLANKS = "' \t'"


class Source(Protocol):
    """The text that a table was read from."""

    def line(self, row: int) -> int:
        """The line on which a row stands, counted from 1."""
        ...


class FileTable(Table):
    """A table that was read from a file; made by `read_table`.

    Attributes:
        path: the file it came from.
        source: the text that was read, for formats that are text.
        sequence_key: SQL of what all rows of one sequence share, if this is not a column of the table's own.
        connection: the database, in which the table is called `cells` and its columns c0, c1, …; its `rowid` counts
            from 0.
    """

    def __init__(
        self,
        path: Path,
        connection: duckdb.DuckDBPyConnection,
        table_format: Format,
        names: Sequence[str],
        source: Source | None = None,
        *,
        lists: Sequence[str] = (),
        sequence_key: str | None = None,
    ) -> None:
        self.path, self.label = path, str(path)
        self.format = table_format
        self.names = list(names)
        self.unnamed = source.unnamed if isinstance(source, CsvRows) else []
        self.source = source
        self.conll_columns = source.width if isinstance(source, ConllRows) else None
        self.lists = list(lists)
        self.sequence_key = "list_row" if lists else sequence_key
        self.connection = connection
        self._profiles: dict[str, Profile] = {}
        self.rows = int(self.query("SELECT count(*) FROM cells")[0][0])
        if not self.rows:
            raise UserError(f"{path} is empty: it has no row")
        self.kinds: dict[str, Kind] = dict(zip(self.names, self._find_kinds(), strict=True))

    def sequences(self, sequence: str | None, order: str | None = None) -> Sequences:
        return find_sequences(self, sequence, order)

    @property
    def input_count(self) -> int:
        """The number of rows of the input, where each of them is a sequence."""
        return int(self.query("SELECT count(*) FROM lists")[0][0])

    def input_rows(self, rows: IndexArray) -> IndexArray:
        """The rows of the input from which some rows come, where each row of the input is a sequence."""
        found: IndexArray = np.concatenate([self.block("list_row", *block) for block in self.blocks()])[rows]
        return found

    def place(self, row: int) -> str:
        step = ""
        if self.lists:
            ((row, number),) = self.query(f"SELECT list_row, step FROM cells WHERE rowid = {int(row)}")
            step = f", step {number + 1}"
        return (
            f"{self.path}, line {self.source.line(row)}{step}" if self.source else f"{self.path}, row {row + 1}{step}"
        )

    def cell(self, name: str, row: int) -> str:
        text = self.query(f"SELECT {self.text(name)} FROM cells WHERE rowid = {int(row)}")[0][0]
        return "" if text is None else str(text)

    def block(self, expression: str, start: int, stop: int) -> npt.NDArray[Any]:
        """What an SQL expression is in the rows from `start` up to `stop`; masked where it is NULL."""
        rows = f"FROM cells WHERE rowid >= {start} AND rowid < {stop} ORDER BY rowid"
        return self.arrays(f"SELECT {expression} AS value {rows}")[0]

    def texts(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[np.object_]:
        column = self.block(self.text(name), start, self.rows if stop is None else stop)
        texts: npt.NDArray[np.object_] = np.ma.getdata(column).astype(object)
        texts[np.ma.getmaskarray(column)] = None
        return texts

    def values(self, name: str, rows: IndexArray) -> list[Any]:
        self.connection.register("chosen", {"row": rows, "place": np.arange(len(rows))})
        found = self.query(
            f"SELECT coalesce({self.text(name)}, '') FROM chosen JOIN cells ON cells.rowid = chosen.row ORDER BY place"
        )
        self.connection.unregister("chosen")
        return [text for (text,) in found]

    def counts(self, name: str, chosen: npt.NDArray[np.bool_]) -> Iterator[tuple[str, int]]:
        with self.additions({"chosen": chosen}):  # in the database, since there may be very many
            self.query(
                f"CREATE OR REPLACE TABLE counts AS SELECT t, count(*) AS n FROM (SELECT "
                f"coalesce({self.text(name)}, '') AS t, chosen FROM cells POSITIONAL JOIN additions) WHERE chosen "
                f"GROUP BY t"
            )
        ((distinct,),) = self.query("SELECT count(*) FROM counts")
        for start in range(0, distinct, scratch.BLOCK):
            yield from self.query(f"SELECT t, n FROM counts WHERE rowid >= {start} AND rowid < {start + scratch.BLOCK}")
        self.query("DROP TABLE counts")

    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        numbers: npt.NDArray[np.float64] = scratch.empty(self.rows, np.float64)
        for start, stop in self.blocks():
            block = self.block(self.number(name), start, stop)
            numbers[start:stop] = np.ma.filled(block.astype(np.float64), np.nan)
        return numbers

    def profile(self, name: str) -> Profile:
        if name not in self._profiles:
            # CASE, unlike AND, looks at its second half only where the first holds.
            has_comma = "TRY_CAST(replace(t, ',', '.') AS DOUBLE) IS NOT NULL"
            cells = f"""
                (SELECT *, present AND n IS NULL AS other FROM (
                    SELECT rowid AS r, {self.text(name)} AS t, {self.number(name)} AS n,
                        NOT {self.missing(name)} AS present
                    FROM cells
                ))
            """
            ((present, count, commas, other, *firsts),) = self.query(
                f"""
                SELECT count(*) FILTER (present), count(n) FILTER (present),
                    count(*) FILTER (CASE WHEN other THEN {has_comma} END),
                    min(r) FILTER (other), min(r) FILTER (isinf(n)), min(r) FILTER (n <> trunc(n))
                FROM {cells}
                """
            )
            times = 0
            if other is not None:  # to look at all takes as long as all else
                is_time = "TRY_CAST(t AS TIMESTAMP) IS NOT NULL OR TRY_CAST(t AS TIME) IS NOT NULL"
                found = f"SELECT count(*) FROM {cells} WHERE CASE WHEN other THEN {is_time} END"
                if self.query(f"{found} AND r = {other}")[0][0]:
                    times = self.query(found)[0][0]
            self._profiles[name] = Profile(present, count, times, commas, other, *firsts)
        return self._profiles[name]

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows that an SQL query returns."""
        rows: list[tuple[Any, ...]] = self._run(sql).fetchall()
        return rows

    def arrays(self, sql: str) -> list[npt.NDArray[Any]]:
        """What an SQL query returns as one array a column, masked where there are NULLs."""
        return list(self._run(sql).fetchnumpy().values())

    @contextlib.contextmanager
    def additions(self, columns: Mapping[str, npt.NDArray[Any]]) -> Iterator[None]:
        """Let queries in the block join (rows,) arrays with `cells` by position, as the columns of a table
        `additions`."""
        self.connection.register("additions", dict(columns))
        try:
            yield
        finally:
            self.connection.unregister("additions")

    def column(self, name: str) -> str:
        """SQL: the cell as it is."""
        return f"c{self.names.index(name)}"

    def sequence(self, name: str | None) -> str:
        """SQL: what all rows of one sequence share, by the name of the column that says so; NULL where missing."""
        return self.sequence_key or self.text(str(name))

    def text(self, name: str) -> str:
        """SQL: the cell as text, NULL where missing."""
        column = self.column(name)
        if self.format == "ndjson":
            return f"nullif({column}->>'$', '')"
        text = f"nullif(CAST({column} AS VARCHAR), '')"
        return f"nullif({text}, 'nan')" if self.kinds[name] == "number" else text

    def number(self, name: str) -> str:
        """SQL: the cell as DOUBLE, NULL where it is missing or not a number."""
        kind = self.kinds[name]
        if kind == "time" or (kind == "nested" and self.format == "parquet"):
            return "CAST(NULL AS DOUBLE)"
        if self.format == "parquet" and kind in ("number", "boolean"):
            return f"nullif(CAST({self.column(name)} AS DOUBLE), 'nan'::DOUBLE)"
        text = f"lower(trim({self.text(name)}, {BLANKS}))"
        # DuckDB reads 1_000 as a number, which hardly anyone means in a table, and +-3 as -3.
        plain = f"replace(replace({text}, '_', 'x'), '+-', 'x')"
        return (
            f"CASE {text} WHEN 'true' THEN 1 WHEN 'false' THEN 0 "
            f"ELSE nullif(TRY_CAST({plain} AS DOUBLE), 'nan'::DOUBLE) END"
        )

    def missing(self, name: str) -> str:
        """SQL: whether the cell says that a number is not known, in the spellings that programs write."""
        if self.kinds[name] in ("number", "boolean"):
            return f"({self.number(name)} IS NULL)"
        text = f"lower(trim(coalesce({self.text(name)}, ''), {BLANKS}))"
        return f"({text} IN ('', 'na', 'n/a', '<na>', 'nan', '-nan', 'null', 'none'))"

    def _run(self, sql: str) -> Any:
        import duckdb

        try:
            return self.connection.execute(sql)
        except duckdb.OutOfMemoryException:
            raise UserError(f"{self.path} needs more memory than is free") from None
        except (duckdb.IOException, duckdb.InvalidInputException) as error:
            if self.format != "parquet":
                raise
            # A large one is read only now.
            raise UserError(f"cannot read {self.path}, or work on it ({str(error).splitlines()[0]})") from None

    def _find_kinds(self) -> Iterator[Kind]:
        columns = ", ".join(f"c{place}" for place in range(len(self.names)))
        if self.format == "ndjson":
            yield from (_kind_of_json(types - {"NULL"}) for types in json_types(self.connection, len(self.names)))
            return
        for _, sql_type, *_ in self.query(f"DESCRIBE SELECT {columns} FROM cells"):
            yield "cell" if self.format in ("csv", "conll") else _kind_of_sql(sql_type)


def identifier(name: str) -> str:
    """SQL: a name as it is."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """SQL: a text as it is."""
    return "'" + text.replace("'", "''") + "'"


def _kind_of_json(types: set[str]) -> Kind:
    if types & {"OBJECT", "ARRAY"}:
        return "nested"
    if types == {"VARCHAR"}:
        return "text"
    if types == {"BOOLEAN"}:
        return "boolean"
    return "number" if types and not types & {"VARCHAR", "BOOLEAN"} else "cell"


def _kind_of_sql(sql_type: str) -> Kind:
    if sql_type.endswith("]") or sql_type.startswith(("STRUCT", "MAP", "UNION", "BLOB", "BIT", "JSON")):
        return "nested"
    if sql_type.startswith(("DATE", "TIME", "INTERVAL")):
        return "time"
    if sql_type == "BOOLEAN":
        return "boolean"
    number = re.fullmatch(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL\(.*\)", sql_type)
    return "number" if number else "text"
