"""Tables from Parquet files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from bilstm.data import scratch
from bilstm.data.database import check_distinct, count_rows, first_line, limit_memory
from bilstm.data.manyfiles import check_columns, common_type
from bilstm.data.names import identifier, literal, literal_glob
from bilstm.errors import UserError

if TYPE_CHECKING:
    import duckdb

LARGE_PARQUET = 1 << 24  # values from which on a table may need more memory than there is


def load_parquet(connection: duckdb.DuckDBPyConnection, paths: Sequence[Path]) -> tuple[list[str], list[int]]:
    """Make `cells` of the files; returns the columns' names, and the number of rows of each file."""
    files = [ParquetFile(connection, path) for path in paths]
    check_columns({file.path: file.names for file in files})
    names = files[0].names
    if len(files) == 1 and files[0].size > LARGE_PARQUET:
        limit_memory(connection)
        numbered = f"{files[0].reader[:-1]}, file_row_number = true)"
        columns = files[0].columns(files[0].types)
        connection.execute(f"CREATE VIEW cells AS SELECT {columns}, file_row_number AS rowid FROM {numbered}")
        return names, count_rows(connection)
    if sum(file.size for file in files) > LARGE_PARQUET:
        limit_memory(connection)
    types = {name: _common_type(connection, files, name) for name in names} if len(files) > 1 else files[0].types
    create, lengths = "CREATE TABLE cells AS", list[int]()
    for file in files:
        with file.refusing():
            ((count,),) = connection.execute(f"{create} SELECT {file.columns(types)} FROM {file.reader}").fetchall()
        create = "INSERT INTO cells"
        lengths.append(int(count))
        if not count and len(files) > 1:
            raise UserError(f"{file.path} is empty: it has no row")
    return names, lengths


class StoredColumns:
    """Columns with types of their own that a database reads from elsewhere.

    Args:
        label: what messages call them.
        problem: what is wrong with them where they cannot be read, such as "is no Parquet file".
        reader: SQL that reads them.

    Attributes:
        reader: that SQL.
        names: the columns' names.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, label: str, problem: str, reader: str) -> None:
        self._connection, self._label, self._problem, self.reader = connection, label, problem, reader
        with self.refusing():
            self._described = connection.execute(f"DESCRIBE SELECT * FROM {self.reader}").fetchall()
        self.names = [str(row[0]) for row in self._described]

    @cached_property
    def types(self) -> dict[str, str]:
        """DuckDB's type of each column."""
        return {name: "VARCHAR" if name in self._texts else str(kind) for name, kind, *_ in self._described}

    @cached_property
    def _texts(self) -> set[str]:
        """The columns of bytes that are UTF-8 text, which some programs do not say."""
        import duckdb

        texts = set()
        for name, kind, *_ in self._described:
            if kind == "BLOB":
                decoded = f"SELECT max(length(decode({identifier(name)}))) FROM {self.reader}"
                with self.refusing(), contextlib.suppress(duckdb.ConversionException):
                    self._connection.execute(decoded).fetchall()
                    texts.add(name)
        return texts

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Turn what is wrong with them into a message."""
        import duckdb

        try:
            yield
        except (duckdb.OutOfMemoryException, duckdb.InterruptException):
            raise
        except duckdb.Error as error:
            raise UserError(f"{self._label} {self._problem} ({first_line(error)})") from None

    def value(self, name: str, sql_type: str | None = None) -> str:
        """SQL: a cell, of another type if one is named."""
        value = f"decode({identifier(name)})" if name in self._texts else identifier(name)
        return value if sql_type in (None, self.types[name]) else f"CAST({value} AS {sql_type})"

    def columns(self, types: Mapping[str, str]) -> str:
        """SQL: the columns of these names and types, as c0, c1, …"""
        return ", ".join(f"{self.value(name, types[name])} AS c{index}" for index, name in enumerate(types))


class ParquetFile(StoredColumns):
    """A Parquet file.

    Attributes:
        size: the number of its values.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, path: Path) -> None:
        self.path = path
        file = literal(literal_glob(scratch.unicode_path(path, connection)))
        reader = f"read_parquet({file}, hive_partitioning = false)"
        super().__init__(connection, str(path), "is not a Parquet file, or is damaged", reader)
        with self.refusing():
            stored = [row[0] for row in connection.execute(f"SELECT name FROM parquet_schema({file})").fetchall()]
            # Names that differ in capitals only are renamed on reading: look at those in the file.
            check_distinct(path, self.names if set(self.names) <= set(stored) else stored)
            ((size,),) = connection.execute(f"SELECT sum(num_values) FROM parquet_metadata({file})").fetchall()
        self.size = int(size or 0)


def _common_type(connection: duckdb.DuckDBPyConnection, files: Sequence[ParquetFile], name: str) -> str:
    """The type that holds a column of all files; one without any value says nothing about it.

    Raises:
        UserError: there is none; the message names two files.
    """
    types = {file.types[name] for file in files}
    if common := common_type(types):
        return common
    full = []
    for file in files:
        with file.refusing():
            if count_rows(connection, f"{file.reader} WHERE {identifier(name)} IS NOT NULL LIMIT 1")[0]:
                full.append(file)
    if common := common_type(file.types[name] for file in full):
        return common
    first = full[0]
    other = next(file for file in full if common_type({first.types[name], file.types[name]}) is None)
    raise UserError(
        f"column {name!r} of {other.path} has the type {other.types[name]}, but that of {first.path} "
        f"{first.types[name]}: the files of one table have columns of the same types"
    )
