"""Reading tables from files, in the format that a file's name stands for."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bilstm.data import scratch
from bilstm.data.conll import ConllRows, has_sequence_breaks
from bilstm.data.filetable import FileTable, Source
from bilstm.data.lines import is_gzip, text_lines
from bilstm.data.lists import present_json, unnest, unnest_texts
from bilstm.data.names import identifier, literal, literal_glob
from bilstm.data.readingoptions import PLAIN, ReadingOptions
from bilstm.data.table import Format
from bilstm.data.textfiles import CsvRows, JsonLines
from bilstm.data.texts import TextColumn
from bilstm.errors import UserError, listed, suggestion
from bilstm.files import AnyPath, check_readable

if TYPE_CHECKING:
    import duckdb

SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".conll": "conll",
    ".bio": "conll",
    ".iob": "conll",
    ".iob2": "conll",
    ".conllu": "conll",
    ".txt": "conll",
}
KNOWN = ".csv, .tsv, .parquet, .ndjson, .jsonl or .conll"
CHUNK = 50_000  # rows of text handed to the database at a time
LARGE_CHUNK = 1 << 25  # characters of them, from which on they are fewer
LARGE_TEXT = 1 << 26  # bytes from which on a table may need more memory than there is
LARGE_PARQUET = 1 << 24  # values from which on it may
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # an escape of half of a character
MEMORY = "600MB"  # for the database of such a table, which keeps the rest on the disk


def format_of(path: AnyPath) -> Format:
    """The format that the name of a file stands for.

    Raises:
        UserError: none that is known; the message lists those that are.
    """
    suffixes = Path(path).suffixes[-2:]
    compressed = suffixes[-1:] == [".gz"]
    suffix = "".join(suffixes[-2:-1] if compressed else suffixes[-1:]).lower()
    found = SUFFIXES.get(suffix)
    if found is None or (compressed and found == "parquet"):
        what = f"has an unknown format ({suffix})" if suffix else "has no ending that gives its format"
        raise UserError(f"{path} {what}: a table's name ends in {KNOWN}")
    return found


def read_table(
    path: AnyPath,
    *,
    conll_columns: int | None = None,
    steps: Sequence[str] = (),
    text: TextColumn | None = None,
    long: bool = True,
    reading: ReadingOptions = PLAIN,
) -> FileTable:
    """Read a table of the format that its name stands for; all but Parquet may be compressed by gzip.

    A large one needs no more memory than a middling one: the rest of it is on the disk, and of a Parquet file's only
    what is being worked on is read.

    Args:
        path: the file. A `.tsv` file with empty lines inside is read as CoNLL-style columns unless `reading` says it.
        conll_columns: for CoNLL-style files, how many columns the model was trained on; see `ConllRows`.
        steps: columns that have a value for each step. If one of them holds lists, each row is a sequence.
        text: a column whose texts are sequences: each row is one, and its words or characters are the steps.
        long: whether each row is a step unless `steps` tell otherwise, whatever other columns hold.
        reading: how a person says that it is to be read; the rest is guessed.

    Raises:
        UserError: the file is missing, empty, damaged, not in its encoding, or not what its name says.
    """
    path = Path(path)
    table_format = _format_to_read(path, reading)
    check_readable(path)
    connection, guessed = connect(), PLAIN
    if table_format == "csv" and not reading.format and ".tsv" in path.suffixes and has_sequence_breaks(path, reading):
        table_format, guessed = "conll", ReadingOptions(format="conll")
    if table_format == "parquet":
        names = _load_parquet(connection, path)
        lists = _divide(connection, path, table_format, names, steps, text, None, long)
        return FileTable(path, connection, table_format, names, lists=lists, reading=reading)
    if path.stat().st_size * (20 if is_gzip(path) else 1) > LARGE_TEXT:
        _limit_memory(connection)
    if table_format == "ndjson":
        source = JsonLines(path, reading)
        names = _load_ndjson(connection, path, reading)
        lists = _divide(connection, path, table_format, names, steps, text, source, long)
        return FileTable(path, connection, table_format, names, source, lists=lists, reading=reading)
    rows = ConllRows(path, conll_columns, reading, steps) if table_format == "conll" else CsvRows(path, reading)
    _check_names(path, rows.names)
    _load_rows(connection, len(rows.names), iter(rows))
    lists = _divide(connection, path, table_format, rows.names, (), text, rows)
    rows.guessed = guessed.over(rows.guessed)
    return FileTable(path, connection, table_format, rows.names, rows, lists=lists, reading=reading)


def _format_to_read(path: Path, reading: ReadingOptions) -> Format:
    if reading.format is not None:
        return cast(Format, reading.format)
    try:
        return format_of(path)
    except UserError as error:
        raise UserError(f"{error}, or --format says what it is") from None


def column_names(path: AnyPath) -> list[str]:
    """The names of a table's columns; of NDJSON those of its first object. No more of the file is read.

    Raises:
        UserError: the file cannot be read as what its name says.
    """
    import duckdb

    path = Path(path)
    table_format = format_of(path)
    if table_format == "parquet":
        connection = connect()
        file = literal(literal_glob(scratch.unicode_path(path, connection)))
        try:
            found = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({file}, hive_partitioning = false)")
        except (duckdb.OutOfMemoryException, duckdb.InterruptException):
            raise
        except duckdb.Error as error:
            raise UserError(f"{path} is not a Parquet file, or is damaged ({first_line(error)})") from None
        return [row[0] for row in found.fetchall()]
    if table_format == "ndjson":
        number, line = next(((i, line) for i, line in enumerate(text_lines(path), 1) if line.strip()), (1, ""))
        return list(check_json(path, number, line.strip()))
    return (ConllRows(path) if table_format == "conll" else CsvRows(path)).names


def _divide(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    table_format: Format,
    names: Sequence[str],
    steps: Sequence[str],
    text: TextColumn | None,
    source: Source | None,
    long: bool = True,
) -> list[str]:
    """Where each row is a sequence, make `cells` a table of their steps; returns the columns that have steps."""
    if text is None:
        return unnest(connection, path, table_format, names, steps, source, long=long)
    if text.column not in names:
        raise UserError(
            f"{path} has no column {text.column!r} (the text).{suggestion(text.column, names)} Its columns: "
            f"{listed(names)}"
        )
    return unnest_texts(connection, path, table_format, names, text, source)


def connect() -> duckdb.DuckDBPyConnection:
    """A database in memory that fetches nothing from a network."""
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


def _limit_memory(connection: duckdb.DuckDBPyConnection) -> None:
    """Give the database so much memory and no more, and a folder for the rest."""
    for setting in (
        f"memory_limit = '{MEMORY}'",
        f"temp_directory = {literal(str(scratch.folder(connection)))}",
        f"threads = {min(4, os.cpu_count() or 1)}",  # each needs some of it
    ):
        connection.execute(f"SET {setting}").fetchall()


def _load_rows(connection: duckdb.DuckDBPyConnection, width: int, rows: Iterator[list[str]]) -> None:
    names = [f"c{place}" for place in range(width)]
    connection.execute(f"CREATE TABLE cells ({', '.join(f'{name} VARCHAR' for name in names)})").fetchall()
    filled = ", ".join(f"nullif({name}, '')" for name in names)
    while chunk := list(islice(rows, CHUNK)):
        columns = zip(*chunk, strict=True)
        connection.register("chunk", dict(zip(names, (np.array(c, object) for c in columns), strict=True)))
        connection.execute(f"INSERT INTO cells SELECT {filled} FROM chunk").fetchall()
        connection.unregister("chunk")


def _load_parquet(connection: duckdb.DuckDBPyConnection, path: Path) -> list[str]:
    import duckdb

    file = literal(literal_glob(scratch.unicode_path(path, connection)))
    reader = f"read_parquet({file}, hive_partitioning = false)"
    try:
        names = [row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {reader}").fetchall()]
        stored = [row[0] for row in connection.execute(f"SELECT name FROM parquet_schema({file})").fetchall()]
        # Names that differ in capitals only are renamed on reading: look at those in the file.
        _check_names(path, names if set(names) <= set(stored) else stored)
        texts = _binary_texts(connection, reader)
        values = (f"decode({identifier(name)})" if name in texts else identifier(name) for name in names)
        columns = ", ".join(f"{value} AS c{place}" for place, value in enumerate(values))
        ((size,),) = connection.execute(f"SELECT sum(num_values) FROM parquet_metadata({file})").fetchall()
        if (size or 0) > LARGE_PARQUET:
            _limit_memory(connection)
            numbered = f"{reader[:-1]}, file_row_number = true)"
            connection.execute(f"CREATE VIEW cells AS SELECT {columns}, file_row_number AS rowid FROM {numbered}")
        else:
            connection.execute(f"CREATE TABLE cells AS SELECT {columns} FROM {reader}").fetchall()
    except (duckdb.OutOfMemoryException, duckdb.InterruptException):
        raise
    except duckdb.Error as error:
        raise UserError(f"{path} is not a Parquet file, or is damaged ({first_line(error)})") from None
    return names


def _binary_texts(connection: duckdb.DuckDBPyConnection, reader: str) -> set[str]:
    """The columns of bytes that are UTF-8 text, which some programs do not say."""
    import duckdb

    found = set()
    for name, sql_type, *_ in connection.execute(f"DESCRIBE SELECT * FROM {reader}").fetchall():
        if sql_type == "BLOB":
            with contextlib.suppress(duckdb.ConversionException):
                connection.execute(f"SELECT max(length(decode({identifier(name)}))) FROM {reader}").fetchall()
                found.add(name)
    return found


def _load_ndjson(connection: duckdb.DuckDBPyConnection, path: Path, reading: ReadingOptions) -> list[str]:
    import duckdb

    lines = (text for line in text_lines(path, reading.encoding) if (text := line.strip()))
    try:
        connection.execute("CREATE TABLE objects (json JSON)").fetchall()
        while chunk := _some_of(lines):
            connection.register("chunk", {"line": np.array(chunk, object)})
            connection.execute("INSERT INTO objects SELECT CAST(line AS JSON) FROM chunk").fetchall()
            connection.unregister("chunk")
        if connection.execute("SELECT count(*) FROM objects WHERE json_type(json) <> 'OBJECT'").fetchall()[0][0]:
            raise _bad_json(path, "some are no objects")
        return _cells_of_objects(connection, path)
    except (duckdb.OutOfMemoryException, duckdb.InterruptException):
        raise
    except duckdb.Error as error:
        raise _bad_json(path, first_line(error)) from None


def _some_of(lines: Iterator[str]) -> list[str]:
    """The next lines, as many as are handed to the database at a time."""
    chunk, size = list[str](), 0
    for line in lines:
        chunk.append(line)
        size += len(line)
        if len(chunk) == CHUNK or size > LARGE_CHUNK:
            break
    return chunk


def _cells_of_objects(connection: duckdb.DuckDBPyConnection, path: Path) -> list[str]:
    """Make `cells` of `objects`, which has a column `json`; returns the names of its columns."""
    keys = "json_keys(json)"
    twice = f"SELECT count(*) FROM objects WHERE len({keys}) <> len(list_distinct({keys}))"
    if connection.execute(twice).fetchall()[0][0]:
        raise UserError(
            f"{path} cannot be read as one JSON object per line (an object has two values of the same name)"
        )
    names = [
        row[0]
        for row in connection.execute(
            f"SELECT k FROM (SELECT rowid AS r, unnest({keys}) AS k, generate_subscripts({keys}, 1) AS place "
            f"FROM objects) GROUP BY k ORDER BY min(r), min(place)"
        ).fetchall()
    ]
    _check_names(path, names)
    if not names:
        raise UserError(f"{path} is empty: it has no JSON object with a value")
    # All values of an object at once: an expression for each key would take milliseconds to plan.
    paths = ", ".join(literal(_pointer(name)) for name in names)
    found = f"list_transform(json_extract(json, [{paths}]), lambda e: {present_json('e')})"
    kept = ", ".join(f"found[{place + 1}] AS c{place}" for place in range(len(names)))
    connection.execute(
        f"CREATE TABLE cells AS SELECT {kept} FROM (SELECT {found} AS found FROM objects); DROP TABLE objects"
    ).fetchall()
    return [name or f"column_{place}" for place, name in enumerate(names, 1)]


def _pointer(name: str) -> str:
    """The JSON Pointer (RFC 6901) to an object's value."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def check_json(name: AnyPath, number: int, line: str, example: str = '{"id": 1, "x": 0.5}') -> dict[str, Any]:
    """The JSON object that a line holds.

    Args:
        name: what messages call the text.
        number: the line's, counted from 1.
        line: its text.
        example: an object that would be right, for the message.

    Raises:
        UserError: it holds none; the message names the line.
    """
    try:
        found = json.loads(line, object_pairs_hook=_object, parse_constant=_constant)
        cause = "it is not an object"
        if _SURROGATE.search(line):
            json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        found, cause = None, f"it has half of a character, {ascii(error.object[error.start])[1:-1]}"
    except (ValueError, RecursionError) as error:
        found, cause = None, str(error)
    if isinstance(found, dict):
        return found
    raise UserError(f"{name}, line {number}: not one JSON object such as {example}: {cause}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = set[str]()
        for name, _ in pairs:
            if name in names:
                raise ValueError(f"it has {name!r} twice")
            names.add(name)
    return found


def _constant(name: str) -> None:
    """NaN, as Python and NumPy write it, is a missing value; infinity is none."""
    if name != "NaN":
        raise ValueError(f"{name} is not a JSON number")


def _bad_json(path: Path, problem: str) -> UserError:
    try:
        for number, line in enumerate(text_lines(path), 1):
            if line.strip():
                check_json(path, number, line.strip())
    except UserError as error:
        return error
    return UserError(f"{path} cannot be read as one JSON object per line ({problem})")


def _check_names(path: Path, names: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        if name.lower() in seen:
            other = seen[name.lower()]
            twice = f"two columns {name!r}" if other == name else f"columns {other!r} and {name!r}"
            raise UserError(f"{path} has {twice}: give each a name of its own")
        seen[name.lower()] = name


def first_line(error: Exception) -> str:
    """What a library's error says, without its longer explanation."""
    return str(error).partition("\n")[0]
