"""Arrow tables -> tables that are read as Parquet files are, and what is written of them back to Arrow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bilstm.data.database import check_distinct, connect, count_rows
from bilstm.data.filetable import FileTable
from bilstm.data.names import identifier
from bilstm.data.parquetfiles import StoredColumns
from bilstm.data.places import Places
from bilstm.data.reading import divide
from bilstm.data.readingoptions import PLAIN, ReadingOptions
from bilstm.data.texts import TextColumn
from bilstm.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

_VIEW = "passed"  # what the Arrow table is called in the database while it is read


class ArrowTable(FileTable):
    """A table that was passed as Arrow data; made by `read_arrow`."""

    passed = True


class ArrowTarget(os.PathLike[str]):
    """Takes what would be written to a Parquet file, as an Arrow table in memory.

    Attributes:
        table: what was written.
    """

    table: pa.Table

    def __fspath__(self) -> str:
        return "predictions.parquet"

    __str__ = __fspath__


def read_arrow(
    data: pa.Table,
    label: str,
    *,
    steps: Sequence[str] = (),
    text: TextColumn | None = None,
    long: bool = True,
    reading: ReadingOptions = PLAIN,
) -> ArrowTable:
    """Read an Arrow table as a Parquet file that holds it would be.

    Args:
        data: the table.
        label: what messages call it.
        steps, text, long, reading: see `bilstm.data.reading.read_table`.

    Raises:
        UserError: it has two columns of one name, or a type that the database cannot read.
    """
    import duckdb

    connection = connect()
    check_distinct(Path(label), data.column_names)
    problem = "has a column of a type that cannot be read: cast it before"
    try:
        connection.register(_VIEW, data)
    except duckdb.Error as error:
        raise UserError(f"{label} {problem} ({str(error).splitlines()[0]})") from None
    columns = StoredColumns(connection, label, problem, identifier(_VIEW))
    with columns.refusing():
        connection.execute(f"CREATE TABLE cells AS SELECT {columns.columns(columns.types)} FROM {_VIEW}").fetchall()
    connection.unregister(_VIEW)
    places = Places([Path(label)], [None], count_rows(connection))
    lists = divide(connection, places, "parquet", columns.names, steps, text, long)
    return ArrowTable(places, connection, "parquet", columns.names, lists=lists, reading=reading)
