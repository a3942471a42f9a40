"""Writing tables back to files, with what was found out about their rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.data import scratch
from bilstm.data.arrow import ArrowTarget
from bilstm.data.conll import ConllRows, is_conllu, write_conll
from bilstm.data.database import first_line
from bilstm.data.filetable import FileTable
from bilstm.data.lines import encode, is_utf_8
from bilstm.data.lists import nest
from bilstm.data.names import identifier, literal
from bilstm.data.paths import format_of
from bilstm.data.table import Format
from bilstm.data.textfiles import CsvRows
from bilstm.errors import UserError, shown
from bilstm.files import AnyPath, replacing
from bilstm.ragged import IndexArray

WRITTEN_AS = {  # codes such as 007 match none of these: they stay text
    "BIGINT": "-?(0|[1-9][0-9]{0,17})",
    "DOUBLE": "-?(0|[1-9][0-9]*)?([.][0-9]*)?(e[+-]?[0-9]{1,2})?",
    "BOOLEAN": "true|false",
}


@dataclasses.dataclass(frozen=True)
class DictionaryColumn:
    """A column of text of which only a few are different.

    Attributes:
        codes: (rows,) int32, the index of each row's text, -1 where it has none.
        names: the different texts.
    """

    codes: npt.NDArray[np.int32]
    names: tuple[str, ...]

    def texts(self, start: int, stop: int) -> list[str | None]:
        """The texts of the rows from `start` up to `stop`, None where there is none."""
        return [self.names[code] if code >= 0 else None for code in self.codes[start:stop].tolist()]


Addition = DictionaryColumn | npt.NDArray[Any]  # of text or numbers, (rows,)


def check_output(table: FileTable, names: Sequence[str], path: AnyPath, *, lists: bool = True) -> Format:
    """The format in which the table, extended by columns of these names, will be written to this path.

    Args:
        lists: whether the columns hold lists where each row of the table is a sequence.

    Raises:
        UserError: the format is unknown or cannot hold this table, or it has such columns already.
    """
    output = format_of(path)
    if table.format == "conll" and ".tsv" in Path(path).suffixes:
        output = "conll"
    if Path(path).name.removesuffix(".gz").lower().endswith(".json"):
        raise UserError(f"cannot write {path}: predictions are one JSON object per line; use .ndjson or .jsonl")
    if output == "conll" and table.format != "conll":
        raise UserError(f"cannot write {path}: only a CoNLL file can be written as one; use .csv, .parquet or .ndjson")
    if output == "conll" and len(table.places.paths) > 1:
        raise UserError(
            f"cannot write {path}: several files of words in columns are written to one for each (--out FOLDER), or to "
            f".csv, .parquet or .ndjson"
        )
    if table.lists and output == "csv" and (lists or table.format != "csv"):
        raise UserError(
            f"cannot write {path}: in {table.label} each row is a sequence with lists of steps, which CSV cannot hold; "
            f"use .parquet or .ndjson"
        )
    check_new_names(table, names)
    return output


def check_new_names(table: FileTable, names: Sequence[str]) -> None:
    """Refuse names that columns of the table have already.

    Raises:
        UserError: one has; the message names it.
    """
    taken = {name.lower(): name for name in table.names}
    for name in names:
        if name.lower() in taken:
            other = taken[name.lower()]
            raise UserError(f"{table.label} has a column {other!r} already: rename it, since it would be replaced")


def write_table(table: FileTable, additions: Mapping[str, Addition], path: AnyPath) -> None:
    """Write a table row for row, extended by columns of text or numbers, atomically.

    Where the table has a row per sequence, the new columns hold lists of the steps' values.

    Args:
        table: the table as it was read.
        additions: the new columns by name.
        path: the file; its name tells the format.

    Raises:
        UserError: the file cannot be written, or cannot hold this table.
    """
    output = check_output(table, list(additions), path)
    if output == "conll":
        assert isinstance(table.source, ConllRows)
        with replacing(path) as temporary:
            compress = Path(path).suffix == ".gz"
            texts = _texts(table, list(additions.values()))
            universal = table.source.universal and is_conllu(Path(path))
            write_conll(table.source, list(additions), texts, temporary, compress=compress, universal=universal)
        return
    added = {f"a{index}": addition for index, addition in enumerate(additions.values())}
    values = {name: _value(key, added[key]) for key, name in zip(added, additions, strict=True)}
    with table.additions({key: a.codes if isinstance(a, DictionaryColumn) else a for key, a in added.items()}):
        if table.lists:
            nest(table.connection, values)
            source = "lists POSITIONAL JOIN nested"
            columns = [f"{_exported_list(table, name, output)} AS {identifier(name)}" for name in table.written]
            columns += [f"v{index} AS {identifier(name)}" for index, name in enumerate(values)]
        else:
            source = "cells POSITIONAL JOIN additions"
            columns = [f"{exported(table, name, output)} AS {identifier(name)}" for name in table.written]
            columns += [f"{value} AS {identifier(name)}" for name, value in values.items()]
        write_query(table, f"SELECT {', '.join(columns)} FROM {source}", path, output)


def write_sequences(
    table: FileTable,
    additions: Mapping[str, Addition],
    path: AnyPath,
    output: Format,
    firsts: IndexArray | None = None,
    sequence: str | None = None,
) -> None:
    """Write a row for each sequence, atomically.

    Args:
        additions: the new columns by name, with a value for each sequence.
        output: the file's format.
        firsts: (n_sequences,) the first row of each sequence of a long table, whose identifier is written; None: each
            row of the input is a sequence, and is written as it was.
        sequence: the column of the identifier.

    Raises:
        UserError: the file cannot be written.
    """
    added = {f"a{index}": addition for index, addition in enumerate(additions.values())}
    columns = [f"{_value(key, added[key])} AS {identifier(name)}" for key, name in zip(added, additions, strict=True)]
    arrays = {key: a.codes if isinstance(a, DictionaryColumn) else a for key, a in added.items()}
    if firsts is None:
        own = [f"{_exported_list(table, name, output)} AS {identifier(name)}" for name in table.written]
        source = "lists POSITIONAL JOIN additions"
    else:
        own = []
        if sequence in table.names:
            own = [f"{exported(table, str(sequence), output)} AS {identifier(str(sequence))}"]
        arrays |= {"first_row": firsts, "number": np.arange(len(firsts))}
        source = "additions JOIN cells ON cells.rowid = additions.first_row ORDER BY number"
    with table.additions(arrays):
        write_query(table, f"SELECT {', '.join([*own, *columns])} FROM {source}", path, output)


def write_query(table: FileTable, sql: str, path: AnyPath, output: Format) -> None:
    """Write what an SQL query on a table's database returns, atomically, or give it to an `ArrowTarget`.

    Raises:
        UserError: the file cannot be written.
    """
    import duckdb

    if isinstance(path, ArrowTarget):
        path.table = table.arrow(sql)
        return
    compress = Path(path).suffix == ".gz"
    like = table.source if isinstance(table.source, CsvRows) and _ending(path) == _ending(table.path) else None
    options = _copy_options(path, output, compress, like)
    with replacing(path) as temporary:
        target = literal(str(scratch.unicode_path(temporary, table)))
        try:
            table.connection.execute(f"COPY ({sql}) TO {target} ({options})").fetchall()
            if like is not None and output == "csv" and not is_utf_8(like.encoding):
                encode(temporary, like.encoding, compress=compress)
        except UnicodeEncodeError as error:
            cell = shown(error.object[error.start : error.end])
            raise UserError(
                f"cannot write {path}: it would be {like and like.encoding}, as {table.label} is, which has no {cell}; "
                f"use another ending, such as .parquet"
            ) from None
        except duckdb.IOException as error:
            raise UserError(f"cannot write {path}: {first_line(error)}") from None
        except duckdb.OutOfMemoryException:
            raise UserError(f"{table.label} needs more memory than is free") from None


def _ending(path: AnyPath) -> str:
    """What a name ends in, whether compressed or not."""
    return Path(path).with_suffix("").suffix if Path(path).suffix == ".gz" else Path(path).suffix


def _texts(table: FileTable, additions: Sequence[Addition]) -> Iterator[tuple[str, ...]]:
    """The text of the new cells of each row."""
    for start, stop in table.blocks():
        columns = (
            a.texts(start, stop) if isinstance(a, DictionaryColumn) else a[start:stop].tolist() for a in additions
        )
        yield from zip(*(["_" if value is None else str(value) for value in column] for column in columns), strict=True)


def _value(key: str, addition: Addition) -> str:
    """SQL: the value of an added column."""
    if not isinstance(addition, DictionaryColumn):
        return f"additions.{key}"
    return f"([{', '.join(map(literal, addition.names))}])[1 + additions.{key}]"


def exported(table: FileTable, name: str, output: Format, source: str = "cells") -> str:
    """SQL: the cell as it is written; text becomes a number where a format has types and all cells of the `source` are
    numbers."""
    column = table.column(name)
    if table.format in ("parquet", output):
        return column
    if output == "csv" or table.kinds[name] in ("text", "nested"):
        return table.text(name)
    text, missing = table.text(name), table.missing(name)
    for sql_type, pattern in WRITTEN_AS.items():
        fits = f"bool_and({missing} OR regexp_full_match(lower({text}), '{pattern}'))"
        if table.query(f"SELECT {fits} FROM {source}")[0][0]:
            return f"CASE WHEN NOT {missing} THEN CAST({text} AS {sql_type}) END"
    return text


def _exported_list(table: FileTable, name: str, output: Format) -> str:
    """SQL: the cell where each row is a sequence: lists and objects are kept where the format holds them."""
    if table.format == "csv":
        return exported(table, name, output, "lists")
    column = f"lists.{table.column(name)}"
    return f"{column}->>'$'" if table.format == "ndjson" != output else column


def _copy_options(path: AnyPath, output: Format, compress: bool, like: CsvRows | None) -> str:
    """DuckDB's options for a file; one of text is written as another was, which is read by the same options then."""
    if output == "parquet":
        return "FORMAT parquet"
    compression = f"COMPRESSION {'gzip' if compress else 'none'}"
    if output == "ndjson":
        return f"FORMAT json, {compression}"
    delimiter, quote = "\t" if ".tsv" in Path(path).suffixes else ",", '"'
    if like is not None:
        delimiter, quote = like.delimiter, like.dialect.quote
    quotes = f"QUOTE {literal(quote)}, ESCAPE {literal(quote)}"
    return f"FORMAT csv, HEADER true, DELIMITER {literal(delimiter)}, {quotes}, {compression}"
