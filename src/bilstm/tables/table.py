"""Tables: one row a step, from CSV, Parquet, NDJSON and CoNLL-style files.

A table lives in a DuckDB database, whose memory is limited: what is more goes to the disk, or stays in the Parquet file
it came from. CSV and CoNLL cells stay the text they are, JSON values stay JSON and Parquet columns keep their types, so
that a table written back has its cells as they were.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from bilstm.errors import UserError, listed, suggestion
from bilstm.tables import scratch
from bilstm.tables.textfiles import ConllRows, CsvRows

if TYPE_CHECKING:
    import duckdb

Format = Literal["csv", "parquet", "ndjson", "conll"]
Kind = Literal["number", "boolean", "text", "time", "nested", "cell"]

BLANKS = "' \t'"


class Source(Protocol):
    """The text that a table was read from."""

    def line(self, row: int) -> int:
        """The line on which a row stands, counted from 1."""
        ...


@dataclasses.dataclass(frozen=True)
class Profile:
    """What the cells of a column look like, read as numbers.

    Attributes:
        present: the number of cells that are not missing.
        numbers: the number of those that are numbers.
        times: the number of those that are dates or times.
        decimal_commas: the number of those that would be numbers if a comma were a decimal point.
        other: the first row whose cell is no number, or None.
        infinite: the first row whose cell is infinite, or None.
    """

    present: int
    numbers: int
    times: int
    decimal_commas: int
    other: int | None
    infinite: int | None


class Table:
    """A table that was read; made by `read_table`.

    Attributes:
        path: the file it came from.
        format: "csv", "parquet", "ndjson" or "conll".
        names: the columns' names.
        unnamed: those of them that the file leaves without a name.
        kinds: what a column holds, by name: "number", "boolean", "text", "time", "nested", or "cell" for text of which
            only a look at all of it can tell.
        rows: the number of rows, at least one.
        source: the text that was read, for formats that are text.
        lists: the columns that held lists, if each row of the file is a sequence: see `lists.unnest`.
        sequence_key: SQL of what all rows of one sequence share, if this is no column of the table's own.
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
        self.path = path
        self.format = table_format
        self.names = list(names)
        self.unnamed = source.unnamed if isinstance(source, CsvRows) else []
        self.source = source
        self.lists = list(lists)
        self.sequence_key = "list_row" if lists else sequence_key
        self.connection = connection
        self._profiles: dict[str, Profile] = {}
        self._whole: dict[str, bool] = {}
        self.rows = int(self.query("SELECT count(*) FROM cells")[0][0])
        if not self.rows:
            raise UserError(f"{path} is empty: it has no row")
        self.kinds: dict[str, Kind] = dict(zip(self.names, self._find_kinds(), strict=True))

    @property
    def conll_columns(self) -> int | None:
        """How many columns a CoNLL file has, None for other formats."""
        return self.source.width if isinstance(self.source, ConllRows) else None

    def require(self, name: str, role: str) -> str:
        """Return the name if there is such a column.

        Raises:
            UserError: there is none; the message says what it was for, and which columns there are.
        """
        if name not in self.names:
            how = ", read as CoNLL-style columns," if self.format == "conll" else ""
            raise UserError(
                f"{self.path}{how} has no column {name!r} ({role}).{suggestion(name, self.names)} "
                f"Its columns: {listed(self.names)}"
            )
        return name

    def place(self, row: int) -> str:
        """Where a row stands, such as `train.csv, line 17` or `train.parquet, row 16`."""
        step = ""
        if self.lists:
            ((row, number),) = self.query(f"SELECT list_row, step FROM cells WHERE rowid = {int(row)}")
            step = f", step {number + 1}"
        return (
            f"{self.path}, line {self.source.line(row)}{step}" if self.source else f"{self.path}, row {row + 1}{step}"
        )

    def cell(self, name: str, row: int) -> str:
        """One cell as text, "" where it is missing."""
        text = self.query(f"SELECT {self.text(name)} FROM cells WHERE rowid = {int(row)}")[0][0]
        return "" if text is None else str(text)

    def blocks(self) -> Iterator[tuple[int, int]]:
        """The first row of each block of rows that is worked on at a time, and the first after it."""
        for start in range(0, self.rows, scratch.BLOCK):
            yield start, min(start + scratch.BLOCK, self.rows)

    def block(self, expression: str, start: int, stop: int) -> npt.NDArray[Any]:
        """What an SQL expression is in the rows from `start` up to `stop`; masked where it is NULL."""
        rows = f"FROM cells WHERE rowid >= {start} AND rowid < {stop} ORDER BY rowid"
        return self.arrays(f"SELECT {expression} AS value {rows}")[0]

    def texts(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[np.object_]:
        """The cells of a column in the rows from `start` up to `stop` as text, None where one is missing.

        Where all of the column are whole numbers, they have no `.0`, whatever their type.
        """
        column = self.block(self.key(name), start, self.rows if stop is None else stop)
        texts: npt.NDArray[np.object_] = np.ma.getdata(column).astype(object)
        texts[np.ma.getmaskarray(column)] = None
        return texts

    def key(self, name: str) -> str:
        """SQL: the same of a row."""
        text = self.text(name)
        if name not in self._whole:
            ((whole,),) = self.query(
                f"SELECT bool_and(regexp_full_match(t, '-?[0-9]+([.]0+)?')) AND bool_or(contains(t, '.')) "
                f"FROM (SELECT {text} AS t FROM cells)"
            )
            self._whole[name] = bool(whole)
        return f"regexp_replace({text}, '[.]0+$', '')" if self._whole[name] else text

    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        """A column as (rows,) float64, NaN where a cell is missing or not a number."""
        numbers: npt.NDArray[np.float64] = scratch.empty(self.rows, np.float64)
        for start, stop in self.blocks():
            block = self.block(self.number(name), start, stop)
            numbers[start:stop] = np.ma.filled(block.astype(np.float64), np.nan)
        return numbers

    def profile(self, name: str) -> Profile:
        """Count what the cells of a column are."""
        if name not in self._profiles:
            # CASE, unlike AND, looks at its second half only where the first holds.
            is_time = "TRY_CAST(t AS TIMESTAMP) IS NOT NULL OR TRY_CAST(t AS TIME) IS NOT NULL"
            has_comma = "TRY_CAST(replace(t, ',', '.') AS DOUBLE) IS NOT NULL"
            (row,) = self.query(
                f"""
                SELECT count(*) FILTER (present), count(n) FILTER (present),
                    count(*) FILTER (CASE WHEN other THEN {is_time} END),
                    count(*) FILTER (CASE WHEN other THEN {has_comma} END),
                    min(r) FILTER (other), min(r) FILTER (isinf(n))
                FROM (SELECT *, present AND n IS NULL AS other FROM (
                    SELECT rowid AS r, {self.text(name)} AS t, {self.number(name)} AS n,
                        NOT {self.missing(name)} AS present
                    FROM cells
                ))
                """
            )
            self._profiles[name] = Profile(*row)
        return self._profiles[name]

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows that an SQL query returns."""
        rows: list[tuple[Any, ...]] = self._run(sql).fetchall()
        return rows

    def arrays(self, sql: str) -> list[npt.NDArray[Any]]:
        """The same as one array a column, masked where there are NULLs."""
        return list(self._run(sql).fetchnumpy().values())

    @contextlib.contextmanager
    def beside(self, columns: Mapping[str, npt.NDArray[Any]]) -> Iterator[None]:
        """Let queries in the block join (rows,) arrays with `cells` by position, as the columns of a table `beside`."""
        self.connection.register("beside", dict(columns))
        try:
            yield
        finally:
            self.connection.unregister("beside")

    def column(self, name: str) -> str:
        """SQL: the cell as it is."""
        return f"c{self.names.index(name)}"

    def sequence(self, name: str) -> str:
        """SQL: what all rows of one sequence share, by the name of the column that says so; NULL where missing."""
        return self.sequence_key or self.text(name)

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
        # DuckDB reads 1_000 as a number, which hardly anyone means in a table.
        return (
            f"CASE {text} WHEN 'true' THEN 1 WHEN 'false' THEN 0 "
            f"ELSE nullif(TRY_CAST(replace({text}, '_', 'x') AS DOUBLE), 'nan'::DOUBLE) END"
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
        for place, (_, sql_type, *_) in enumerate(self.query(f"DESCRIBE SELECT {columns} FROM cells")):
            if self.format in ("csv", "conll"):
                yield "cell"
            elif self.format == "ndjson":
                types = self.query(f"SELECT DISTINCT json_type(c{place}) FROM cells WHERE c{place} IS NOT NULL")
                yield _kind_of_json({name for (name,) in types} - {"NULL"})
            else:
                yield _kind_of_sql(sql_type)


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
