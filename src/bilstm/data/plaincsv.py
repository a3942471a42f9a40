"""Plain text files, which the database itself reads, several times as fast as row by row.

A file is plain if its rows are its lines, and its cells what delimiters separate: UTF-8 text without quotes and empty
lines, in which every line has as many delimiters as the header. All others are read row by row by `CsvRows`, which
also says what is wrong in a file, and where.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bilstm.data import scratch
from bilstm.data.lines import is_gzip, is_utf_8
from bilstm.data.names import literal, literal_glob
from bilstm.data.sniffing import DELIMITERS
from bilstm.data.textfiles import CsvRows

if TYPE_CHECKING:
    import duckdb

LEAST = 1 << 18  # bytes: row by row, less is read before the database is ready
_BLOCK = 1 << 24  # bytes that are looked at a time
_MARK = b"\xef\xbb\xbf"


def load_plain(connection: duckdb.DuckDBPyConnection, files: Sequence[CsvRows]) -> list[int] | None:
    """Make `cells` of files that all are plain, each column text, NULL where a cell is empty.

    Args:
        files: with the same columns, in any order; the first one's is that of `cells`.

    Returns:
        The number of rows of each file; None if all together are small, or one is not plain or has no row: then
            there are no `cells`.
    """
    import duckdb

    if sum(os.path.getsize(file.path) for file in files) < LEAST:
        return None
    counts = list[int]()
    for file in files:
        rows = _plain_rows(file)
        if not rows:
            return None
        counts.append(rows)
    names = files[0].names
    connection.execute(f"CREATE TABLE cells ({', '.join(f'c{index} VARCHAR' for index in range(len(names)))})")
    try:
        for file, rows in zip(files, counts, strict=True):
            columns = ", ".join(f"c{file.names.index(name)}" for name in names)
            ((found,),) = connection.execute(
                f"INSERT INTO cells SELECT {columns} FROM {_reader(connection, file)}"
            ).fetchall()
            if found != rows:
                break
        else:
            return counts
    except (duckdb.OutOfMemoryException, duckdb.InterruptException):
        raise
    except duckdb.Error:  # such as of text that is not UTF-8
        pass
    connection.execute("DROP TABLE cells")
    return None


def _reader(connection: duckdb.DuckDBPyConnection, file: CsvRows) -> str:
    """SQL that reads the rows of a plain file as they are."""
    columns = ", ".join(f"'c{index}': 'VARCHAR'" for index in range(len(file.names)))
    path = literal(literal_glob(scratch.unicode_path(file.path, connection)))
    return (
        f"read_csv({path}, columns = {{{columns}}}, auto_detect = false, header = false, compression = 'none', "
        f"delim = {literal(file.delimiter)}, quote = '', escape = '', nullstr = '', strict_mode = true, "
        f"skip = {file.dialect.skip + file.has_header})"
    )


def _plain_rows(file: CsvRows) -> int:
    """The number of rows of a file if it is plain, otherwise 0."""
    delimiter, quote = file.delimiter.encode(), file.dialect.quote.encode()
    own = file.options.comment is not None or not is_utf_8(file.encoding) or len(file.names) == 1
    if own or file.delimiter not in DELIMITERS or len(quote) > 1 or is_gzip(file.path):
        return 0
    return _regular_lines(file.path, delimiter, quote, len(file.names) - 1, file.dialect.skip, file.has_header)


def _regular_lines(path: Path, delimiter: bytes, quote: bytes, each: int, skip: int, header: bool) -> int:
    lines = delimiters = 0
    last = b"\n"  # the end of the block before
    with open(path, "rb") as file:
        for _ in range(skip):
            file.readline()
        while block := file.read(_BLOCK):
            if last == b"\n" and block.startswith((b"\n", _MARK)):
                return 0
            if b"\n\n" in block or b"\r" in block or b"\0" in block or (quote and quote in block):
                return 0
            lines += block.count(b"\n")
            delimiters += block.count(delimiter)
            last = block[-1:]
    lines += last != b"\n"
    return lines - header if delimiters == each * lines else 0
