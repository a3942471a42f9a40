"""Tables from CSV, Parquet, NDJSON and CoNLL-style files.

The rows live in a DuckDB database with limited memory: the rest goes to the disk, or stays in the Parquet file that it
came from. CSV and CoNLL cells stay the text they are, JSON values stay JSON and Parquet columns keep their types, so
that a table written back has its cells as they were.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bilstm.data import scratch
from bilstm.data.annotations import DocumentFile
from bilstm.data.conll import ConllRows
from bilstm.data.database import filled
from bilstm.data.documents import TokenColumns
from bilstm.data.lists import json_types
from bilstm.data.names import literal
from bilstm.data.places import Places
from bilstm.data.readingoptions import GROUPS, MISSING_NUMBERS, PLAIN, ReadingOptions, is_number
from bilstm.data.sequences import find_sequences
from bilstm.data.table import Format, Kind, Profile, Sequences, Table
from bilstm.data.textfiles import CsvRows
from bilstm.data.times import read_moment
from bilstm.errors import UserError, counted, shown
from bilstm.ragged import IndexArray

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_FIRST = 1000  # rows that are looked at before all are
_MANY = 10_000  # rows, from which on it is worth asking how many different texts there are
_FEW = 10_000  # of these
BLANKS = "' \t'"
# A number whose digits stand in groups of three: 50,972 or 1.234,5.
_GROUPED = r"\s*[+-]?([0-9]{1,3}(,[0-9]{3})+([.][0-9]*)?|[0-9]{1,3}([.][0-9]{3})+,[0-9]*)\s*"


class NoRowsError(UserError):
    """A file has columns, but no row.

    Attributes:
        table: what was read of it.
    """

    def __init__(self, table: FileTable) -> None:
        super().__init__(f"{table.label} is empty: it has no row")
        self.table = table


class FileTable(Table):
    """A table that was read from a file, or from several; made by `read_table`.

    Attributes:
        path: the file it came from, or the first one.
        places: the files, and where each row stands in them.
        written: the columns that are written with predictions, in order.
        source: the text of the first file, for formats that are text.
        own_sequence: the column by which the table knows its sequences.
        sequence_key: SQL of what all rows of one sequence share, if this is not a column of the table's own.
        reading: what a person said about the file.
        connection: the database, in which the table is called `cells` and its columns c0, c1, …; its `rowid` counts
            from 0.
    """

    def __init__(
        self,
        places: Places,
        connection: duckdb.DuckDBPyConnection,
        table_format: Format,
        names: Sequence[str],
        *,
        lists: Sequence[str] = (),
        own_sequence: str | None = None,
        written: Sequence[str] | None = None,
        tagged: tuple[str, str] | None = None,
        documents: TokenColumns | None = None,
        reading: ReadingOptions = PLAIN,
    ) -> None:
        path, source = places.paths[0], places.sources[0]
        others = len(places.paths) - 1
        self.places, self.path = places, path
        self.label = f"{path} and {counted(others, 'other file')}" if others else str(path)
        self.format = table_format
        self.names = list(names)
        self.written = self.names if written is None else list(written)
        self.unnamed = source.unnamed if isinstance(source, CsvRows) else []
        self.source, self.reading = source, reading
        self.conll_columns = source.width if isinstance(source, ConllRows) else None
        self.lists, self.own_sequence = list(lists), own_sequence
        self.tagged, self.documents = tagged, documents
        read = [each for each in places.sources if isinstance(each, DocumentFile)]
        self.notes = [note for each in read for note in each.notes]
        self.problem = next((each.problem for each in read if each.problem), "")
        self.sequence_key = "list_row" if lists else None
        self.connection = connection
        self._profiles: dict[str, Profile] = {}
        self.rows = int(self.query("SELECT count(*) FROM cells")[0][0])
        self.kinds: dict[str, Kind] = dict(zip(self.names, self._find_kinds(), strict=True))

    def sequences(self, sequence: str | None, order: str | None = None) -> Sequences:
        return find_sequences(self, sequence or self.own_sequence, order)

    def guesses(self) -> list[tuple[str, ReadingOptions]]:
        guessed = self.source.guessed if isinstance(self.source, (CsvRows, ConllRows, DocumentFile)) else PLAIN
        return [(self.label, guessed)] if guessed.said else []

    def require(self, name: str, role: str) -> str:
        try:
            return super().require(name, role)
        except UserError as error:
            raise UserError(f"{error}{self._layout_advice()}") from None

    def _layout_advice(self) -> str:
        """What may be wrong where a text file lacks a column."""
        if not isinstance(self.source, CsvRows):
            return ""
        if len(self.names) == 1:
            return f"; is {shown(self.source.delimiter)} what separates its cells? Say otherwise with --delimiter"
        if any(map(is_number, self.names)) and not self.names[0].startswith("column_"):
            return "; if the file has no header, say so with --no-header"
        return ""

    @property
    def file_starts(self) -> IndexArray:
        return self.places.starts[:-1] if not self.lists else super().file_starts

    def counts_rows(self, name: str) -> bool:
        first = self.block(self.number(name), 0, min(int(self.places.starts[1]), self.rows, _FIRST))
        return bool((np.diff(filled(first.astype(np.float64), np.nan)) == 1).all()) and super().counts_rows(name)

    @property
    def input_count(self) -> int:
        """The number of rows of the input, where each of them is a sequence."""
        return int(self.query("SELECT count(*) FROM lists")[0][0])

    def input_rows(self, rows: IndexArray) -> IndexArray:
        """The rows of the input from which some rows come, where each row of the input is a sequence."""
        blocks = [self.block("list_row", *block) for block in self.blocks()]
        found: IndexArray = np.concatenate(blocks)[rows] if blocks else rows
        return found

    def place(self, row: int) -> str:
        if not self.lists:
            return self.places.place(row)
        ((row, number),) = self.query(f"SELECT list_row, step FROM cells WHERE rowid = {int(row)}")
        return f"{self.places.place(row)}, step {number + 1}"

    def place_from(self, row: int, other: int) -> str:
        """Where a row stands, for a message that has named the place of another one: without its file if it is that."""
        place, path = self.place(row), self.places.paths[self._file(row)]
        return place.removeprefix(f"{path}, ") if self._file(row) == self._file(other) else place

    def _file(self, row: int) -> int:
        return 0 if self.lists else self.places.file(row)

    def cell(self, name: str, row: int) -> str:
        text = self.query(f"SELECT {self.text(name)} FROM cells WHERE rowid = {int(row)}")[0][0]
        return "" if text is None else str(text)

    def block(self, expression: str, start: int, stop: int) -> npt.NDArray[Any]:
        """What an SQL expression is in the rows from `start` up to `stop`; masked where it is NULL."""
        rows = f"FROM cells WHERE rowid >= {start} AND rowid < {stop} ORDER BY rowid"
        return self.arrays(f"SELECT {expression} AS value {rows}")[0]

    def texts(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[np.object_]:
        column = self.block(self.text(name), start, self.rows if stop is None else stop)
        return filled(column.astype(object), None)

    def text_codes(self, name: str) -> Iterator[tuple[slice, npt.NDArray[np.integer[Any]], list[str | None]]]:
        if self.rows < _MANY:
            yield from super().text_codes(name)
            return
        different = f"SELECT DISTINCT t FROM (SELECT {self.text(name)} AS t FROM cells) WHERE t IS NOT NULL"
        texts: list[str | None] = [text for (text,) in self.query(f"{different} ORDER BY t LIMIT {_FEW + 1}")]
        if not 0 < len(texts) <= _FEW:
            yield from super().text_codes(name)
            return
        # The database finds the text of each cell among few, which costs a fraction of making Python's text of it.
        self.query(f"CREATE TYPE texts AS ENUM ({different} ORDER BY t)")
        try:
            for start, stop in self.blocks():
                code = f"CAST(enum_code(CAST({self.text(name)} AS texts)) AS INTEGER)"
                yield slice(start, stop), filled(self.block(code, start, stop), len(texts)), [*texts, None]
        finally:
            self.query("DROP TYPE texts")

    def values(self, name: str, rows: IndexArray) -> list[Any]:
        return self._at(rows, f"coalesce({self.text(name)}, '')")

    def numbers_at(self, name: str, rows: IndexArray) -> npt.NDArray[np.float64]:
        return np.array([np.nan if n is None else n for n in self._at(rows, self.number(name))], np.float64)

    def _at(self, rows: IndexArray, expression: str) -> list[Any]:
        """What an SQL expression is in some rows."""
        self.connection.register("chosen", {"row": rows, "place": np.arange(len(rows))})
        near = f"cells.rowid BETWEEN {rows.min()} AND {rows.max()}" if len(rows) else "false"
        found = self.query(
            f"SELECT {expression} FROM chosen JOIN cells ON cells.rowid = chosen.row WHERE {near} ORDER BY place"
        )
        self.connection.unregister("chosen")
        return [value for (value,) in found]

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
            numbers[start:stop] = filled(block.astype(np.float64), np.nan)
        return numbers

    def only_numbers(self, name: str) -> bool:
        number = self.number(name)
        others = f"count(*) FILTER (CASE WHEN n IS NULL THEN NOT {self.missing(name)} END)"
        numbered = f"(SELECT *, {number} AS n FROM cells)"
        ((wrong,),) = self.query(f"SELECT {others} + count(*) FILTER (isinf(n)) FROM {numbered}")
        return not wrong

    def profile(self, name: str) -> Profile:
        if name not in self._profiles:
            # CASE, unlike AND, looks at its second half only where the first holds.
            has_comma = f"TRY_CAST(replace(t, ',', '.') AS DOUBLE) IS NOT NULL OR regexp_full_match(t, '{_GROUPED}')"
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
            if other is not None and read_moment(self.cell(name, other)) is not None:  # to look at all takes long
                for start, stop in self.blocks():
                    found = self.query(f"SELECT t FROM {cells} WHERE other AND r >= {start} AND r < {stop}")
                    times += sum(read_moment(text) is not None for (text,) in found)
            self._profiles[name] = Profile(present, count, times, commas, other, *firsts)
        return self._profiles[name]

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows that an SQL query returns."""
        rows: list[tuple[Any, ...]] = self._run(sql).fetchall()
        return rows

    def arrays(self, sql: str) -> list[npt.NDArray[Any]]:
        """What an SQL query returns as one array a column, masked where there are NULLs."""
        return list(self._run(sql).fetchnumpy().values())

    def arrow(self, sql: str) -> pa.Table:
        """What an SQL query returns as an Arrow table."""
        return self._run(sql, lambda sql: self.connection.sql(sql).to_arrow_table())

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
        """SQL: what all rows of one sequence share, by the name of the column that says so; NULL where missing.

        Without a name and a key, all rows are one sequence.
        """
        return self.sequence_key or ("(cells.rowid < 0)" if name is None else self.text(name))

    def text(self, name: str) -> str:
        """SQL: the cell as text, NULL where missing."""
        column = self.column(name)
        if self.format == "ndjson":
            text = f"nullif({column}->>'$', '')"
        else:
            text = f"nullif(CAST({column} AS VARCHAR), '')"
            if self.kinds[name] == "number":
                text = f"nullif({text}, 'nan')"
        if self.reading.missing is None:
            return text
        return f"CASE WHEN NOT {self._is_missing(text)} THEN {text} END"

    def number(self, name: str) -> str:
        """SQL: the cell as DOUBLE, NULL where it is missing or not a number."""
        kind = self.kinds[name]
        if kind == "time" or (kind == "nested" and self.format == "parquet"):
            return "CAST(NULL AS DOUBLE)"
        if self.format == "parquet" and kind in ("number", "boolean"):
            number = f"nullif(CAST({self.column(name)} AS DOUBLE), 'nan'::DOUBLE)"
            return f"CASE WHEN {self.text(name)} IS NOT NULL THEN {number} END" if self.reading.missing else number
        text = f"lower(trim({self.text(name)}, {BLANKS}))"
        # DuckDB reads 1_000 and +-1 as numbers, which hardly anyone means in a table.
        plain = f"replace(replace({text}, '_', 'x'), '+-', 'x')"
        localised = kind != "number" and bool(self.reading.decimal or self.reading.thousands)
        if localised:
            plain = self._localised(name, text, plain)
        careful = (
            f"CASE {text} WHEN 'true' THEN 1 WHEN 'false' THEN 0 "
            f"ELSE nullif(TRY_CAST({plain} AS DOUBLE), 'nan'::DOUBLE) END"
        )
        if localised:
            return careful
        at_once = f"nullif(TRY_CAST({self.text(name)} AS DOUBLE), 'nan'::DOUBLE)"
        return f"CASE WHEN {self._is_odd(name)} THEN {careful} ELSE {at_once} END"  # a third of the time

    def _is_odd(self, name: str) -> str:
        """SQL: whether a cell may be another number than DuckDB reads in its text, or none; most are not."""
        text = self.text(name)
        return f"(TRY_CAST({text} AS DOUBLE) IS NULL OR contains({text}, '_') OR contains({text}, '+'))"

    def missing(self, name: str) -> str:
        """SQL: whether the cell says that a number is not known, in the spellings that programs write."""
        if self.kinds[name] in ("number", "boolean"):
            return f"({self.number(name)} IS NULL)"
        if self.reading.missing is not None:
            return f"({self.text(name)} IS NULL)"
        text = f"lower(trim(coalesce({self.text(name)}, ''), {BLANKS}))"
        return f"({text} IN ({', '.join(map(literal, MISSING_NUMBERS))}))"

    def _is_missing(self, text: str) -> str:
        """SQL: whether a text is one of those that a person said mean a missing value, as text or as a number."""
        named = self.reading.missing or ()
        texts = ", ".join(map(literal, ("", *(name.strip() for name in named))))
        numbers = [name for name in named if is_number(name)]
        same = f" OR coalesce(TRY_CAST({text} AS DOUBLE) IN ({', '.join(numbers)}), false)" if numbers else ""
        return f"(coalesce(trim({text}, {BLANKS}), '') IN ({texts}){same})"

    def _localised(self, name: str, text: str, plain: str) -> str:
        """SQL: the text of a number with another decimal sign, or with groups of digits, as DuckDB reads it."""
        decimal, thousands = self.reading.decimal or ".", self.reading.thousands
        digits, ungrouped = "[0-9]*", text
        if thousands:
            signs = f"[{GROUPS.get(thousands, re.escape(thousands))}]"
            digits = f"([0-9]*|[0-9]{{1,3}}({signs}[0-9]{{3}})+)"
            ungrouped = f"regexp_replace({text}, {literal(signs)}, '', 'g')"
        pattern = literal(f"[+-]?{digits}([{decimal}][0-9]*)?(e[+-]?[0-9]+)?")
        found = f"CASE WHEN regexp_full_match({text}, {pattern}) THEN replace({ungrouped}, {literal(decimal)}, '.') END"
        return (
            f"CASE WHEN json_type(c{self.names.index(name)}) <> 'VARCHAR' THEN {plain} ELSE {found} END"
            if (self.format == "ndjson")
            else found
        )

    def _run(self, sql: str, run: Callable[[str], Any] | None = None) -> Any:
        import duckdb

        try:
            return (run or self.connection.execute)(sql)
        except duckdb.OutOfMemoryException:
            raise UserError(f"{self.label} needs more memory than is free") from None
        except (duckdb.IOException, duckdb.InvalidInputException) as error:
            if self.format != "parquet":
                raise
            # A large one is read only now.
            raise UserError(f"cannot read {self.label}, or work on it ({str(error).splitlines()[0]})") from None

    def _find_kinds(self) -> Iterator[Kind]:
        columns = ", ".join(f"c{place}" for place in range(len(self.names)))
        if self.format == "ndjson":
            yield from (_kind_of_json(types - {"NULL"}) for types in json_types(self.connection, len(self.names)))
            return
        for _, sql_type, *_ in self.query(f"DESCRIBE SELECT {columns} FROM cells"):
            yield "cell" if self.format in ("csv", "conll") else _kind_of_sql(sql_type)


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
