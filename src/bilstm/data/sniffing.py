"""What a text file with a header looks like, unless it is stated: its encoding, delimiter, quotes, and lines to skip.

Plain files keep the plain reading: something else is guessed only where that fails, and every guess is reported.
"""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from bilstm.data.lines import text_lines
from bilstm.data.readingoptions import PLAIN, ReadingOptions
from bilstm.errors import UserError

DELIMITERS = ",;\t|"
_LINES, _CHARACTERS = 1000, 1 << 20  # of a file are looked at
_FEWEST_COLUMNS = 3  # below lines that are skipped
_FEWEST_ROWS = 3  # with the header
_QUOTED = re.compile(r'"(?:[^"]|"")*"')


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How a text file is divided into cells.

    Attributes:
        delimiter: what separates cells.
        quote: what encloses them; "" for nothing.
        skip: lines before the header.
        guessed: those of these that were guessed and are not what the file's name leads one to expect.
    """

    delimiter: str
    quote: str = '"'
    skip: int = 0
    guessed: ReadingOptions = PLAIN


def sniff(path: Path, options: ReadingOptions) -> Dialect:
    """How a file is divided into cells: as the options say, and as it looks where they say nothing.

    Raises:
        UserError: the file cannot be read; the message says why.
    """
    if None not in (options.delimiter, options.quote, options.skip_rows):  # nothing is left to guess
        return Dialect(str(options.delimiter), str(options.quote), int(options.skip_rows or 0))
    usual = "\t" if ".tsv" in path.suffixes else ","
    lines, complete = _sample(path, options)
    delimiter, skip, quote = options.delimiter, options.skip_rows, options.quote
    kept = [
        number
        for number, line in enumerate(lines)
        if number >= (skip or 0) and line.strip() and not (options.comment and line.startswith(options.comment))
    ]
    sample = [lines[number] for number in kept]
    if sample:
        delimiter, above = _layout(sample, complete, delimiter, '"' if quote is None else quote, usual, skip is None)
        skip = kept[above] if above else skip
    delimiter = delimiter or usual
    if quote is None:
        quote = quotes_of(path, options, skip or 0) if delimiter == "\t" else '"'
        quote = '"' if quote is None else quote
    guessed = ReadingOptions(
        delimiter=delimiter if options.delimiter is None and delimiter != usual else None,
        quote="" if options.quote is None and not quote else None,
        skip_rows=skip if options.skip_rows is None and skip else None,
    )
    return Dialect(delimiter, quote, skip or 0, guessed)


def cells_of(lines: Iterator[str], delimiter: str, quote: str) -> Iterator[list[str]]:
    """The rows of lines, by Python's reader of CSV.

    Raises:
        csv.Error: a quoted cell is not closed properly.
    """
    csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))
    if not quote:
        return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE, quotechar=None, strict=True)
    return csv.reader(lines, delimiter=delimiter, quotechar=quote, strict=True)


def _sample(path: Path, options: ReadingOptions) -> tuple[list[str], bool]:
    """The first lines, and whether these are all."""
    lines, size = list[str](), 0
    for line in text_lines(path, options.encoding):
        if len(lines) == _LINES + (options.skip_rows or 0) or (size > _CHARACTERS and len(lines) > 1):
            return lines, False
        lines.append(line)
        size += len(line)
    return lines, True


def _ranked(header: str, usual: str) -> list[str]:
    """The delimiters that a header may have, the likeliest first."""
    candidates = sorted((d for d in DELIMITERS if d in header), key=lambda d: -header.count(d))
    if usual == "\t" and "\t" in candidates:
        candidates = ["\t", *(d for d in candidates if d != "\t")]
    return candidates or [","]


def _layout(
    sample: Sequence[str], complete: bool, delimiter: str | None, quote: str, usual: str, skips: bool
) -> tuple[str, int]:
    """The delimiter, and how many of these lines stand above the header.

    Args:
        sample: the first lines of a file, without empty ones and comments.
        complete: whether there are no others.
        delimiter: what it is known to be, or None.
        usual: what the file's name leads one to expect.
        skips: whether lines may be skipped.
    """
    if usual == "\t" and "\t" in sample[0]:  # whatever quotes mean there
        delimiter = delimiter or "\t"
    plain = [delimiter] if delimiter else _ranked(sample[0], usual)
    for each in plain:
        if _width(sample, complete, each, quote) > 1:
            return each, 0
    below = _below(sample, complete, delimiter, quote) if skips else None
    return below or (plain[0], 0)


def _width(sample: Sequence[str], complete: bool, delimiter: str, quote: str) -> int:
    """The number of cells in each row, 0 where rows differ."""
    found = set()
    try:
        for row in cells_of(iter(sample), delimiter, quote):
            found.add(len(row))
            if len(found - {0}) > 1:
                return 0
    except csv.Error:
        if complete:  # else a cell may end below
            return 0
    return max(found, default=0) if len(found - {0}) == 1 else 0


def _below(sample: Sequence[str], complete: bool, delimiter: str | None, quote: str) -> tuple[str, int] | None:
    """The delimiter of a table that begins below some lines, and their number; None if there is none for certain.

    What is skipped is unlike the table: it is empty, a comment, one cell, or short by two cells at least. A header that
    is short by one cell stands over rows that begin with a number or name of their own, and is not skipped.
    """
    best: tuple[int, str, int] | None = None
    lines = sample if complete else sample[:-1]
    for each in delimiter or DELIMITERS:
        try:
            rows = [next(cells_of(iter([line.rstrip("\r\n")]), each, quote), []) for line in lines]
        except csv.Error:
            continue
        widths = [len(row) for row in rows]
        width = widths[-1] if widths else 0
        start = max((i for i, other in enumerate(widths) if other != width), default=-1) + 1
        while start + 1 < len(rows) and lines[start].startswith("#") and _are_names(rows[start + 1]):
            start += 1
        unlike = all(lines[i].startswith("#") or widths[i] <= max(1, width - 2) for i in range(start))
        enough = width >= _FEWEST_COLUMNS and len(rows) - start >= _FEWEST_ROWS
        if start and enough and unlike and _are_names(rows[start]) and (best is None or width > best[0]):
            best = width, each, start
    return None if best is None else (best[1], best[2])


def _are_names(cells: Sequence[str]) -> bool:
    """Whether cells may be a header: each a different name, no number."""
    names = [cell.strip() for cell in cells]
    numbers = any(re.fullmatch(r"[+-]?[\d.,:/-]+([eE][+-]?\d+)?", name) for name in names)
    return all(names) and len(set(names)) == len(names) and not numbers


def quotes_of(path: Path, options: ReadingOptions, skip: int) -> str | None:
    """Whether quotes enclose the cells of a table with tabs, or are characters like others; None: there are none.

    They are characters where every line has as many cells as the header if they are read so, and some cell holds a
    quote without being enclosed; or where cells are not enclosed consistently in any reading. Where all names of the
    header are enclosed, so are the cells.
    """
    width, differs, loose, none = 0, False, False, True
    for line in islice(text_lines(path, options.encoding), skip, None):
        text = line.rstrip("\r\n")
        if not text or (options.comment is not None and text.startswith(options.comment)):
            continue
        cells = text.split("\t")
        if not width and all(map(_QUOTED.fullmatch, cells)):
            return '"'
        width = width or len(cells)
        differs = differs or len(cells) != width
        if '"' in text:
            none = False
            loose = loose or any('"' in cell and not _QUOTED.fullmatch(cell) for cell in cells)
        if differs and loose:
            break
    if none:
        return None
    if not loose:
        return '"'
    if not differs:
        return ""
    try:
        rows = cells_of(islice(text_lines(path, options.encoding), skip, None), "\t", '"')
        widths = {len(row) for row in rows} - {0}
    except (csv.Error, UserError):
        return ""
    return '"' if len(widths) == 1 else ""
