"""Text files with a row per line, read so that a message can name the line an editor shows: CSV and NDJSON.

Nothing is guessed about the cells here: a table's rows are lists of text.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from bilstm.data.lines import found_encoding, text_lines
from bilstm.data.readingoptions import PLAIN, ReadingOptions
from bilstm.data.sniffing import cells_of, sniff
from bilstm.errors import UserError, counted


class CsvRows:
    """The rows of a text file whose lines are divided into cells, which most often has a header.

    Args:
        path: the file.
        options: what is known of it; the rest is guessed, see `sniff`.

    Attributes:
        path: the file.
        names: the columns' names; one left empty is called `column_1` and so on, by its position.
        unnamed: those that were left empty.
        has_header: whether its first line names them.
        dialect: how lines are divided.
        encoding: of the text.
        guessed: what was guessed of that.

    Raises:
        UserError: the file is empty, a row has too few or too many cells, a quoted cell is not closed, or the text is
            not in its encoding; the message names the line.
    """

    def __init__(self, path: Path, options: ReadingOptions = PLAIN) -> None:
        self.path, self.options = path, options
        self.dialect = sniff(path, options)
        self.delimiter = self.dialect.delimiter
        self.guessed = self.dialect.guessed
        found = found_encoding(path)
        self.encoding = options.encoding or found or "utf-8"
        if options.encoding is None and found:
            self.guessed = self.guessed.over(ReadingOptions(encoding=found))
        try:
            line, first = next(self._rows(), (1, []))
        except csv.Error as error:
            raise self._not_closed(self.dialect.skip + 1, error) from None
        same = options.columns is None or [name.strip() for name in first] == list(options.columns)
        self.has_header = same if options.header is None else options.header
        if not any(name.strip() for name in first):
            needed = "its first line has to name the columns" if self.has_header else "it has no row"
            skipped = f" below the {counted(self.dialect.skip, 'line')} that are skipped" if self.dialect.skip else ""
            raise UserError(f"{path} is empty{skipped}: {needed}")
        names = first if self.has_header else [""] * len(first)
        self.unnamed = [
            f"column_{number}" for number, name in enumerate(names, 1) if self.has_header and not name.strip()
        ]
        self.names = [name.strip() or f"column_{number}" for number, name in enumerate(names, 1)]
        if options.columns is not None:
            if len(options.columns) != len(first):
                raise UserError(
                    f"{path}, line {line}: {counted(len(first), 'cell')}, but --columns names {len(options.columns)}"
                )
            self.names, self.unnamed = list(options.columns), []

    def __iter__(self) -> Iterator[list[str]]:
        return (cells for _, cells in self._numbered())

    def line(self, row: int) -> int:
        """The line on which a row begins, counted from 1."""
        return next(islice(self._numbered(), row, None))[0]

    def options_for_others(self) -> ReadingOptions:
        """The options by which files that are like this one are read, without a guess."""
        dialect = self.dialect
        known = ReadingOptions(delimiter=dialect.delimiter, quote=dialect.quote, skip_rows=dialect.skip)
        return self.options.over(known)

    def _numbered(self) -> Iterator[tuple[int, list[str]]]:
        width, line = len(self.names), self.dialect.skip + 1
        rows = self._rows()
        try:
            if self.has_header:
                next(rows)
            for line, row in rows:
                if len(row) == width:
                    yield line, row
                else:
                    named = "the header names" if self.has_header else "the first line has"
                    cells = f"{self.path}, line {line}: {counted(len(row), 'cell')}, but {named} {width} columns"
                    raise UserError(f"{cells}{self._advice(row)}")
        except csv.Error as error:
            raise self._not_closed(self._line, error) from None

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """The rows that are not empty, the header's included, each with the line on which it begins."""
        self._line = self.dialect.skip + 1
        lines = _Lines(islice(text_lines(self.path, self.options.encoding), self.dialect.skip, None), self.options)
        reader = cells_of(lines if self.options.comment else lines.lines, self.dialect.delimiter, self.dialect.quote)
        if self.options.comment is None:
            for row in reader:
                if row:  # an empty line is passed over
                    yield self._line, row
                self._line = self.dialect.skip + reader.line_num + 1  # type: ignore[attr-defined]
            return
        for row in reader:
            if row:
                yield self.dialect.skip + lines.start, row
            self._line = self.dialect.skip + lines.number + 1
            lines.start = 0

    def _advice(self, row: list[str]) -> str:
        if row and row[0].startswith("#") and self.options.comment is None:
            return "; if lines that begin with # are comments, say so with --comment '#'"
        if '"' in "".join(row) and self.dialect.quote:
            return '; if " is a character like others, say so with --no-quotes'
        return ""

    def _not_closed(self, line: int, error: csv.Error) -> UserError:
        return UserError(
            f'{self.path}, line {line}: a quoted cell is not closed properly ({error}); if " is a character like '
            f"others, say so with --no-quotes"
        )


class _Lines:
    """Lines without those that are comments.

    Attributes:
        lines: all of them.
        number: how many have been read.
        start: the number of the line on which the current row begins; 0: it has not begun.
    """

    def __init__(self, lines: Iterator[str], options: ReadingOptions) -> None:
        self.lines = lines
        self.number = self.start = 0
        self._comment = options.comment or ""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        for line in self.lines:
            self.number += 1
            if self.start or not line.startswith(self._comment):
                self.start = self.start or self.number
                return line
        raise StopIteration


class JsonLines:
    """Text with a JSON object per line; lines that are empty are passed over."""

    def __init__(self, path: Path, options: ReadingOptions = PLAIN) -> None:
        self.path, self.options = path, options

    def line(self, row: int) -> int:
        """The line on which an object stands, counted from 1."""
        full = (number for number, line in enumerate(text_lines(self.path, self.options.encoding), 1) if line.strip())
        return next(islice(full, row, None))
