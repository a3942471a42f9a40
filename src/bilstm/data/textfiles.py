"""Text files read line by line, so that a message can name the line an editor shows: CSV and CoNLL-style columns.

Nothing is guessed about the cells here: a table's rows are lists of text.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, cast

from bilstm.errors import UserError, counted, shown
from bilstm.files import AnyPath, reason

DELIMITERS = ",;\t|"
TOKEN, LABEL, SEQUENCE = "token", "label", "sequence"  # how the columns of a CoNLL file are called
_LAYOUT = "CoNLL-style files have one word a line and an empty line between sequences"


class CsvRows:
    """The rows of a CSV file with a header. The delimiter is the one of `, ; tab |` most frequent in the header.

    Attributes:
        path: the file.
        names: the columns' names; one left empty is called `column_1` and so on, after its place.
        unnamed: those that were left empty.

    Raises:
        UserError: the file is empty, a row has too few or too many cells, a quoted cell is not closed, or the text is
            not UTF-8; the message names the line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        header = next(text_lines(path), "")
        self.delimiter = max(DELIMITERS, key=header.count)
        try:
            names = next(csv.reader(text_lines(path), delimiter=self.delimiter, strict=True), [])
        except csv.Error as error:
            raise UserError(f"{path}, line 1: a quoted cell is not closed properly ({error})") from None
        if not any(name.strip() for name in names):
            raise UserError(f"{path} is empty: its first line has to name the columns")
        self.unnamed = [f"column_{place}" for place, name in enumerate(names, 1) if not name.strip()]
        self.names = [name.strip() or f"column_{place}" for place, name in enumerate(names, 1)]

    def __iter__(self) -> Iterator[list[str]]:
        return (cells for _, cells in self._numbered())

    def line(self, row: int) -> int:
        """The line on which a row begins, counted from 1."""
        return next(islice(self._numbered(), row, None))[0]

    def _numbered(self) -> Iterator[tuple[int, list[str]]]:
        width = len(self.names)
        reader = csv.reader(text_lines(self.path), delimiter=self.delimiter, strict=True)
        next(reader)
        line = reader.line_num + 1
        try:
            for row in reader:
                if len(row) == width:
                    yield line, row
                elif row:  # an empty line is passed over
                    cells = counted(len(row), "cell")
                    raise UserError(f"{self.path}, line {line}: {cells}, but the header names {width} columns")
                line = reader.line_num + 1
        except csv.Error as error:
            raise UserError(f"{self.path}, line {line}: a quoted cell is not closed properly ({error})") from None


class ConllRows:
    """One token a line, its columns separated by tabs or blanks, and an empty line between sequences.

    The columns are named `token`, `column_2`, … and the last one `label`; before them stands `sequence`, the number of
    the sequence. Comments before a sequence and `-DOCSTART-` lines are passed over.

    Args:
        path: the file.
        columns: how many columns such files have, where that is known. Then a file may lack the last one, the label,
            or hold nothing but tokens.

    Attributes:
        names: the columns' names, `sequence` included.

    Raises:
        UserError: the file is empty, not UTF-8, seems to have a sentence a line, or its lines have different numbers of
            columns.
    """

    def __init__(self, path: Path, columns: int | None = None) -> None:
        self.path = path
        self.unnamed: list[str] = []
        number, first = _first_token(path)
        self.delimiter = "\t" if "\t" in first else None
        self.width = len(first.split(self.delimiter))
        if columns is not None and self.width not in (1, columns - 1, columns):
            raise UserError(
                f"{path}, line {number}: {self.width} columns, but the model was trained on {columns}, "
                f"of which the last is the label; {_LAYOUT}"
            )
        self.names = [SEQUENCE, TOKEN, *(f"column_{place}" for place in range(2, self.width + 1))]
        if self.width > 1 and columns in (None, self.width):
            self.names[-1] = LABEL

    def __iter__(self) -> Iterator[list[str]]:
        return (cells for _, cells in self.lines() if cells)

    def line(self, row: int) -> int:
        """The line on which a row stands, counted from 1."""
        tokens = (number for number, (_, cells) in enumerate(self.lines(), 1) if cells)
        return next(islice(tokens, row, None))

    def lines(self) -> Iterator[tuple[str, list[str]]]:
        """Each line of the file, and the cells of its row, of which there are none where it is no token's."""
        sequence = rows = 0
        starts = True
        for number, line in enumerate(text_lines(self.path), 1):
            text = line.rstrip("\r\n")
            cells = text.split(self.delimiter)
            if _is_break(text):
                starts = True
                yield text, []
                continue
            if starts and text.startswith("#") and len(cells) != self.width:
                yield text, []  # a comment, not a token that is a number sign
                continue
            if len(cells) != self.width:
                separated, hint = ("tabs", "") if self.delimiter else ("blanks", f"; {_LAYOUT}")
                raise UserError(
                    f"{self.path}, line {number}: {counted(len(cells), 'column')} where the lines before have "
                    f"{self.width} (columns are separated by {separated}): {shown(text)}{hint}"
                )
            sequence += starts
            rows += 1
            starts = False
            yield text, [str(sequence), *cells]
        if self.delimiter is None and self.width > 1 and rows == sequence:
            raise UserError(
                f"{self.path}: {_LAYOUT}; this one seems to have a sentence a line (if each sequence does have one "
                f"word only, separate the columns by tabs)"
            )


class JsonLines:
    """Text with a JSON object a line; lines that are empty are passed over."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def line(self, row: int) -> int:
        """The line on which an object stands, counted from 1."""
        full = (number for number, line in enumerate(text_lines(self.path), 1) if line.strip())
        return next(islice(full, row, None))


def write_conll(source: ConllRows, additions: Iterable[tuple[str, ...]], path: Path, *, compress: bool) -> None:
    """Copy a CoNLL file line for line, each token's line extended by the given cells.

    Args:
        source: the file.
        additions: the new cells of every row, in order.
        path: the file to write.
        compress: whether to write gzip.
    """
    added = iter(additions)
    delimiter = "\t" if source.delimiter or source.width == 1 else " "
    with contextlib.ExitStack() as stack:
        raw: IO[bytes] = stack.enter_context(open(path, "wb"))
        if compress:  # without a name and a time in it, so that the same predictions are the same bytes
            raw = cast(IO[bytes], stack.enter_context(gzip.GzipFile("", "wb", fileobj=raw, mtime=0)))
        file = stack.enter_context(io.TextIOWrapper(raw, encoding="utf-8", newline="\n"))
        for text, cells in source.lines():
            if cells:
                text = delimiter.join([text if source.delimiter else text.rstrip(), *next(added)])
            file.write(text + "\n")


def has_sequence_breaks(path: Path) -> bool:
    """Whether empty lines stand between lines of text, as in CoNLL files and not in tables."""
    empty = False
    for line in text_lines(path):
        if not line.strip():
            empty = True
        elif empty:
            return True
    return False


def text_lines(path: AnyPath) -> Iterator[str]:
    """The lines of UTF-8 text, compressed by gzip or not, with the ends they have.

    Raises:
        UserError: the file cannot be read; the message says why, and where text is not UTF-8.
    """
    try:
        with open_bytes(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file:
            yield from file
    except UnicodeDecodeError:
        raise UserError(_encoding_message(path)) from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UserError(f"{path} is damaged: its gzip data is not complete") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from None


def open_bytes(path: AnyPath) -> IO[bytes]:
    """Open for reading in binary, decompressing what begins like gzip."""
    return cast(IO[bytes], gzip.open(path, "rb")) if is_gzip(path) else open(path, "rb")


def is_gzip(path: AnyPath) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _is_break(text: str) -> bool:
    return not text.strip(" ") or text.startswith("-DOCSTART-")


def _first_token(path: Path) -> tuple[int, str]:
    """The number and text of a line that shows how many columns there are: not a comment, if there is any other."""
    first = None
    for number, line in enumerate(text_lines(path), 1):
        text = line.rstrip("\r\n")
        if not _is_break(text):
            if not text.startswith("#"):
                return number, text
            first = first or (number, text)
    if first is None:
        raise UserError(f"{path} is empty: it has no line with a token")
    return first


def _encoding_message(path: AnyPath) -> str:
    with contextlib.suppress(OSError, EOFError, zlib.error), open_bytes(path) as file:
        start = file.read(4)
        if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return f"{path} is UTF-16 text: save it as UTF-8"
        if start == b"PAR1":
            return f"{path} is a Parquet file: give it a name that ends in .parquet"
        file.seek(0)
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = line[error.start]
                return f"{path}, line {number}: not UTF-8 text (byte 0x{byte:02x}): save the file as UTF-8"
    return f"{path} is not UTF-8 text: save the file as UTF-8"
