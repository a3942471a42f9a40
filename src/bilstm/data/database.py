"""The databases that hold tables: in memory, and what does not fit there on the disk."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bilstm.data import scratch
from bilstm.data.names import identifier, literal
from bilstm.errors import UserError

if TYPE_CHECKING:
    import duckdb

MEMORY = "600MB"  # for the database of a table that may need more memory than there is; it keeps the rest on the disk
_threads: int | None = None
_spare: list[duckdb.DuckDBPyConnection] = []  # empty databases: to make one takes longer than to read a small table


def use_threads(threads: int) -> None:
    """Let databases use at most this many threads, as the engine does; otherwise they have one for each CPU."""
    global _threads
    _threads = threads


def connect() -> duckdb.DuckDBPyConnection:
    """A database in memory that fetches nothing from a network."""
    try:
        connection = _spare.pop()
    except IndexError:
        connection = _new()
    if _threads is not None:
        connection.execute(f"SET threads = {_threads}").fetchall()
    return connection


def _new() -> duckdb.DuckDBPyConnection:
    try:
        import duckdb
    except ModuleNotFoundError:
        raise UserError("reading tables needs DuckDB: pip install 'bilstm[cli]'") from None
    connection = duckdb.connect(":memory:")
    # Nothing is fetched from a network: what the formats here need is built in.
    for setting in (
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "preserve_insertion_order = true",
        "TimeZone = 'UTC'",
    ):
        connection.execute(f"SET {setting}").fetchall()
    with contextlib.suppress(duckdb.Error):  # in Jupyter without ipywidgets, where there is no bar to turn off
        connection.execute("SET enable_progress_bar = false").fetchall()
    return connection


def recycle(connection: duckdb.DuckDBPyConnection) -> None:
    """Empty a database that nothing uses any more, for the next table."""
    for kind in ("view", "table"):
        names = connection.execute(f"SELECT {kind}_name FROM duckdb_{kind}s() WHERE NOT internal").fetchall()
        for (name,) in names:
            connection.execute(f"DROP {kind} {identifier(name)}").fetchall()
    _spare.append(connection)


def limit_memory(connection: duckdb.DuckDBPyConnection) -> None:
    """Give the database so much memory and no more, and a folder for the rest."""
    for setting in (
        f"memory_limit = '{MEMORY}'",
        f"temp_directory = {literal(str(scratch.folder(connection)))}",
        f"threads = {min(4, _threads or os.cpu_count() or 1)}",  # each needs some of it
    ):
        connection.execute(f"SET {setting}").fetchall()


def count_rows(connection: duckdb.DuckDBPyConnection, table: str = "cells") -> list[int]:
    """The number of rows of a table."""
    return [int(rows) for (rows,) in connection.execute(f"SELECT count(*) FROM {table}").fetchall()]


def check_distinct(path: Path, names: Sequence[str]) -> None:
    """Refuse columns whose names differ in capitals only, or not at all."""
    seen: dict[str, str] = {}
    for name in names:
        if name.lower() in seen:
            other = seen[name.lower()]
            twice = f"two columns {name!r}" if other == name else f"columns {other!r} and {name!r}"
            raise UserError(f"{path} has {twice}: give each a name of its own")
        seen[name.lower()] = name


def filled(column: npt.NDArray[Any], value: Any) -> npt.NDArray[Any]:
    """An array of the database's with a value where it is masked; most are not, so that numpy.ma is not needed."""
    mask = getattr(column, "mask", None)
    if mask is None:
        return column
    values = np.array(column.data)
    values[mask] = value
    return values


def first_line(error: Exception) -> str:
    """What a library's error says, without its longer explanation."""
    return str(error).partition("\n")[0]
