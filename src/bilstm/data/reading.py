"""Reading tables from files, in the format that a file's name stands for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bilstm.data.annotations import DocumentFile, document_lines, kind_of
from bilstm.data.conll import SEQUENCE, ConllRows, has_sequence_breaks
from bilstm.data.database import check_distinct, connect, count_rows, first_line, limit_memory
from bilstm.data.documents import TOKEN_COLUMNS, TokenColumns
from bilstm.data.filetable import FileTable, NoRowsError
from bilstm.data.jsontext import check_json
from bilstm.data.lines import is_gzip, text_lines
from bilstm.data.lists import columns_of, present_json, unnest, unnest_texts
from bilstm.data.manyfiles import (
    FILE,
    ConllFiles,
    TextFiles,
    check_columns,
    check_formats,
    check_names,
    file_name,
    has_file_column,
)
from bilstm.data.names import literal
from bilstm.data.parquetfiles import ParquetFile, load_parquet
from bilstm.data.paths import format_of
from bilstm.data.places import Places, Source
from bilstm.data.plaincsv import load_plain
from bilstm.data.readingoptions import ANNOTATIONS, PLAIN, ReadingOptions
from bilstm.data.stores import as_path, fetch
from bilstm.data.table import Format
from bilstm.data.textfiles import CsvRows, JsonLines
from bilstm.data.texts import TextColumn
from bilstm.errors import UserError, listed, suggestion
from bilstm.files import AnyPath, check_readable

if TYPE_CHECKING:
    import duckdb

CHUNK = 50_000  # rows of text handed to the database at a time
LARGE_CHUNK = 1 << 25  # characters of them, from which on they are fewer
LARGE_TEXT = 1 << 26  # bytes from which on a table may need more memory than there is
_TAGS = ("tags", "ner_tags", "labels")  # how lists of tags are called where others are called "tokens"


def read_table(
    path: AnyPath | Sequence[AnyPath],
    *,
    conll_columns: int | None = None,
    steps: Sequence[str] = (),
    text: TextColumn | None = None,
    long: bool = True,
    by_file: bool = False,
    words: TokenColumns = TOKEN_COLUMNS,
    reading: ReadingOptions = PLAIN,
) -> FileTable:
    """Read a table of the format that its name stands for; all but Parquet may be compressed by gzip.

    A large one needs no more memory than a middling one: the rest of it is on the disk, and of a Parquet file's only
    what is being worked on is read.

    Args:
        path: the file, or several with the same columns, whose rows stand one after the other. A `.tsv` file with empty
            lines inside is read as CoNLL-style columns unless `reading` says it.
        conll_columns: for CoNLL-style files, how many columns the model was trained on; see `ConllRows`.
        steps: columns that have a value for each step. If one of them holds lists, each row is a sequence.
        text: a column whose texts are sequences: each row is one, and its words or characters are the steps.
        long: whether each row is a step unless `steps` tell otherwise, whatever other columns hold.
        by_file: whether each file is a sequence, if rows are steps and nothing in the files tells their sequences. A
            further column, `file`, has the file's name then, unless the files have a column of this name.
        words: how texts with spans of characters become a table of tokens; see `bilstm.data.annotations`.
        reading: how a person says that it is to be read; the rest is guessed.

    Raises:
        NoRowsError: the table has columns, but no row.
        UserError: a file is missing, empty, damaged, not in its encoding, not what its name says, or not like the
            others.
    """
    paths = [as_path(each) for each in ([path] if isinstance(path, (str, os.PathLike)) else path)]
    formats = {each: _format_to_read(each, reading) for each in paths}
    fetch(paths)
    for each in paths:
        check_readable(each)
    formats, guessed = _with_words(formats, reading)
    check_formats(formats)
    table_format, connection = formats[paths[0]], connect()
    kind = _kind_of_documents(formats, reading, words, text, long)
    lengths, sources = list[int](), list[Source | None]([None] * len(paths))
    if table_format == "parquet":
        names, lengths = load_parquet(connection, paths)
    else:
        if sum(each.stat().st_size * (20 if is_gzip(each) else 1) for each in paths) > LARGE_TEXT:
            limit_memory(connection)
        if kind is not None:
            files = [DocumentFile(each, kind, reading) for each in paths]
            sources, steps = list(files), (words.token, words.label, *words.others[1:])
            names = _load_ndjson(connection, paths, _document_lines(files, words, text, reading, lengths))
        elif table_format == "ndjson":
            sources = [JsonLines(each, reading) for each in paths]
            names = _load_ndjson(connection, paths, _json_lines(paths, reading, lengths), lengths)
        else:
            conll = table_format == "conll"
            rows = ConllFiles(paths, reading, conll_columns, steps) if conll else TextFiles(paths, reading)
            sources, names = list(rows.files), list(rows.names)
            check_distinct(paths[0], names)
            plain = (
                None if conll else load_plain(connection, [each for each in rows.files if isinstance(each, CsvRows)])
            )
            if plain is None:
                _load_rows(connection, len(names), iter(rows))
            lengths = rows.lengths if plain is None else plain
            rows.files[0].guessed = guessed.over(rows.files[0].guessed)
            steps = ()
    places = Places(paths, sources, lengths or count_rows(connection))
    lists = divide(connection, places, table_format, names, steps, text, long)
    own_sequence = SEQUENCE if table_format == "conll" else None
    written = names
    if by_file and not lists and own_sequence is None and not has_file_column(names):
        check_names(paths)
        _name_files(connection, len(names), places, table_format)
        own_sequence = FILE
        if not isinstance(path, (str, os.PathLike)):
            written = [FILE, *names]
        names = [*names, FILE]
    tagged = None if kind is None or text is not None else (words.token, words.label)
    if "tokens" in lists and sum(name in lists for name in _TAGS) == 1:
        tagged = tagged or ("tokens", next(name for name in _TAGS if name in lists))
    about: dict[str, Any] = {"tagged": tagged, "documents": words if kind and text is None else None}
    about |= {"lists": lists, "own_sequence": own_sequence, "written": written, "reading": reading}
    table = FileTable(places, connection, table_format, names, **about)
    if not table.rows:
        raise NoRowsError(table)
    return table


def _format_to_read(path: Path, reading: ReadingOptions) -> Format:
    if reading.format in (*ANNOTATIONS, "text"):
        return "ndjson"
    if reading.format is not None:
        return cast(Format, reading.format)
    try:
        return format_of(path)
    except UserError as error:
        raise UserError(f"{error}, or --format says what it is") from None


def _with_words(formats: dict[Path, Format], reading: ReadingOptions) -> tuple[dict[Path, Format], ReadingOptions]:
    """The formats where empty lines inside a file with tabs show that it has columns of words; and what was guessed."""
    found = dict(formats)
    for path, table_format in formats.items():
        if (
            table_format == "csv"
            and not reading.format
            and ".tsv" in path.suffixes
            and has_sequence_breaks(path, reading)
        ):
            found[path] = "conll"
    return found, ReadingOptions(format="conll") if found != formats else PLAIN


def _name_files(connection: duckdb.DuckDBPyConnection, width: int, places: Places, table_format: Format) -> None:
    """Give `cells` a further column with the name of each row's file."""
    names = ", ".join(literal(file_name(path)) for path in places.paths)
    codes = np.repeat(np.arange(len(places.paths), dtype=np.int32), np.diff(places.starts))
    name = f"([{names}])[1 + code]"
    column = f"{f'to_json({name})' if table_format == 'ndjson' else name} AS c{width}"
    if "rowid" in columns_of(connection):  # a view of a file, which is the only one
        connection.execute("ALTER VIEW cells RENAME TO unnamed").fetchall()
        connection.execute(f"CREATE VIEW cells AS SELECT *, {names} AS c{width} FROM unnamed")
        return
    connection.execute("ALTER TABLE cells RENAME TO unnamed").fetchall()
    connection.register("codes", {"code": codes})
    connection.execute(
        f"CREATE TABLE cells AS SELECT unnamed.*, {column} FROM unnamed POSITIONAL JOIN codes; DROP TABLE unnamed"
    ).fetchall()
    connection.unregister("codes")


def column_names(path: AnyPath) -> list[str]:
    """The names of a table's columns; of NDJSON those of its first object. No more of the file is read.

    Raises:
        UserError: the file cannot be read as what its name says.
    """
    path = as_path(path)
    table_format = format_of(path)
    if table_format == "parquet":
        return ParquetFile(connect(), path).names
    if table_format == "ndjson":
        number, line = next(((i, line) for i, line in enumerate(text_lines(path), 1) if line.strip()), (1, ""))
        return list(check_json(path, number, line.strip()))
    return (ConllRows(path) if table_format == "conll" else CsvRows(path)).names


def divide(
    connection: duckdb.DuckDBPyConnection,
    places: Places,
    table_format: Format,
    names: Sequence[str],
    steps: Sequence[str],
    text: TextColumn | None,
    long: bool,
) -> list[str]:
    """Where each row is a sequence, make `cells` a table of their steps; returns the columns that have steps.

    Args:
        connection: the database with `cells` as it was read.
        steps, text, long: see `read_table`.
    """
    if text is None:
        return unnest(connection, places, table_format, names, steps, long=long)
    if text.column not in names:
        raise UserError(
            f"{places.paths[0]} has no column {text.column!r} (the text).{suggestion(text.column, names)} Its columns: "
            f"{listed(names)}"
        )
    return unnest_texts(connection, places, table_format, names, text)


def _load_rows(connection: duckdb.DuckDBPyConnection, width: int, rows: Iterator[list[str]]) -> None:
    names = [f"c{index}" for index in range(width)]
    connection.execute(f"CREATE TABLE cells ({', '.join(f'{name} VARCHAR' for name in names)})").fetchall()
    filled = ", ".join(f"nullif({name}, '')" for name in names)
    while chunk := list(islice(rows, CHUNK)):
        columns = zip(*chunk, strict=True)
        connection.register("chunk", dict(zip(names, (np.array(c, object) for c in columns), strict=True)))
        connection.execute(f"INSERT INTO cells SELECT {filled} FROM chunk").fetchall()
        connection.unregister("chunk")


def _load_ndjson(
    connection: duckdb.DuckDBPyConnection, paths: Sequence[Path], lines: Iterator[str], lengths: Sequence[int] = ()
) -> list[str]:
    """Make `cells` of the objects of lines; returns the columns' names.

    Args:
        lengths: holds, once all lines have come, the number of each file's: the objects of all have the same keys.
    """
    import duckdb

    try:
        connection.execute("CREATE TABLE objects (json JSON)").fetchall()
        while chunk := _some_of(lines):
            connection.register("chunk", {"line": np.array(chunk, object)})
            connection.execute("INSERT INTO objects SELECT CAST(line AS JSON) FROM chunk").fetchall()
            connection.unregister("chunk")
        if connection.execute("SELECT count(*) FROM objects WHERE json_type(json) <> 'OBJECT'").fetchall()[0][0]:
            raise _bad_json(paths, "some are no objects")
        if lengths:
            _check_keys(connection, paths, lengths)
        return _cells_of_objects(connection, paths[0])
    except (duckdb.OutOfMemoryException, duckdb.InterruptException):
        raise
    except duckdb.Error as error:
        raise _bad_json(paths, first_line(error)) from None


def _kind_of_documents(
    formats: dict[Path, Format], reading: ReadingOptions, words: TokenColumns, text: TextColumn | None, long: bool
) -> str | None:
    """Whose annotated texts files are, or "text"; None if they are others."""
    if reading.format in (*ANNOTATIONS, "text"):
        if text is not None and reading.format != "text":
            raise UserError(f"--format {reading.format} has texts with spans, which cannot be combined with --text")
        return reading.format
    if (
        reading.format is not None
        or text is not None
        or (long and not words.texts)
        or set(formats.values()) != {"ndjson"}
    ):
        return None
    kinds = {kind_of(path, reading, words) for path in formats}
    return kinds.pop() if len(kinds) == 1 else None


def _document_lines(
    files: Sequence[DocumentFile],
    words: TokenColumns,
    text: TextColumn | None,
    reading: ReadingOptions,
    lengths: list[int],
) -> Iterator[str]:
    """The documents of files as JSON objects, with lists of their tokens unless texts are a column of their own."""
    if text is None:
        yield from document_lines(files, words, reading, lengths)
        return
    for file in files:
        count = 0
        for document in file.documents():
            yield json.dumps({text.column: document.text}, ensure_ascii=False)
            count += 1
        lengths.append(count)


def _json_lines(paths: Sequence[Path], reading: ReadingOptions, lengths: list[int]) -> Iterator[str]:
    """The lines of files that are not blank; `lengths` takes the number of each file's."""
    for path in paths:
        count = 0
        for line in text_lines(path, reading.encoding):
            if text := line.strip():
                yield text
                count += 1
        if not count and len(paths) > 1:
            raise UserError(f"{path} is empty: it has no row")
        lengths.append(count)


def _check_keys(connection: duckdb.DuckDBPyConnection, paths: Sequence[Path], lengths: Sequence[int]) -> None:
    """Refuse files whose objects have other keys than those of the other files."""
    if len(paths) == 1:
        return
    connection.register("codes", {"code": np.repeat(np.arange(len(paths)), lengths)})
    found: dict[Path, list[str]] = {path: [] for path in paths}
    for code, key in connection.execute(
        "SELECT DISTINCT code, unnest(json_keys(json)) FROM objects POSITIONAL JOIN codes"
    ).fetchall():
        found[paths[code]].append(key)
    connection.unregister("codes")
    check_columns(found)


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
    check_distinct(path, names)
    if not names:
        raise UserError(f"{path} is empty: it has no JSON object with a value")
    # All values of an object at once: an expression for each key would take milliseconds to plan.
    paths = ", ".join(literal(_pointer(name)) for name in names)
    found = f"list_transform(json_extract(json, [{paths}]), lambda e: {present_json('e')})"
    kept = ", ".join(f"found[{index + 1}] AS c{index}" for index in range(len(names)))
    connection.execute(
        f"CREATE TABLE cells AS SELECT {kept} FROM (SELECT {found} AS found FROM objects); DROP TABLE objects"
    ).fetchall()
    return [name or f"column_{index}" for index, name in enumerate(names, 1)]


def _pointer(name: str) -> str:
    """The JSON Pointer (RFC 6901) to an object's value."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def _bad_json(paths: Sequence[Path], problem: str) -> UserError:
    try:
        for path in paths:
            for number, line in enumerate(text_lines(path), 1):
                if line.strip():
                    check_json(path, number, line.strip())
    except UserError as error:
        return error
    return UserError(f"{paths[0]} cannot be read as one JSON object per line ({problem})")
