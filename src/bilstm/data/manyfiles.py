"""Several files as one table: they have the same columns and are read alike, or the file that differs is named."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bilstm.data.conll import ConllRows
from bilstm.data.readingoptions import ReadingOptions
from bilstm.data.sniffing import quotes_of
from bilstm.data.textfiles import CsvRows
from bilstm.errors import UserError, counted, listed, printable, shown

FILE = "file"  # the column with the name of each row's file, where each file is a sequence
_REPORTED = 3  # of the files that differ
_WHOLE = re.compile(r"(U?)(TINY|SMALL|BIG|HUGE)?INT(EGER)?")
_NUMBER = re.compile(rf"{_WHOLE.pattern}|FLOAT|DOUBLE|DECIMAL\(.*\)")


class TextFiles:
    """The rows of text files, one file after the other. What is guessed is guessed once.

    Args:
        paths: the files.
        options: what is known of them.

    Attributes:
        files: the rows of each file.
        names: the columns' names.
        lengths: the number of rows of each file that has been read.

    Raises:
        UserError: a file is not like the others; the message names it.
    """

    def __init__(self, paths: Sequence[Path], options: ReadingOptions) -> None:
        self.paths, self.options = list(paths), options
        self.lengths: list[int] = []
        self.files = self._opened()
        if len(self.files) > 1:
            check_columns({path: rows.names for path, rows in zip(self.paths, self.files, strict=True)}, self._advice)
        self.names = self.files[0].names

    def __iter__(self) -> Iterator[list[str]]:
        if len(self.files) == 1:
            return iter(self.files[0])
        return self._rows()

    def _rows(self) -> Iterator[list[str]]:
        for path, file in zip(self.paths, self.files, strict=True):
            count, cells = 0, self._named(file_name(path), file)
            if file.names != self.names:
                order = [file.names.index(name) for name in self.names]
                cells = ([row[index] for index in order] for row in cells)
            for row in cells:
                yield row
                count += 1
            if not count:
                raise UserError(f"{path} is empty: it has no row")
            self.lengths.append(count)

    def _opened(self) -> Sequence[CsvRows | ConllRows]:
        first = CsvRows(self.paths[0], self.options)
        known = first.options_for_others()
        if len(self.paths) > 1 and self.options.quote is None and first.delimiter == "\t":
            known = dataclasses.replace(known, quote=_common_quotes(self.paths, known))
            first.dialect = dataclasses.replace(first.dialect, quote=str(known.quote))
            first.guessed = dataclasses.replace(first.guessed, quote=None if known.quote else "")
        files = [first, *(CsvRows(path, known) for path in self.paths[1:])]
        _check_alike(files, "encoding", lambda file: f"is {file.encoding} text")
        return files

    def _named(self, name: str, file: CsvRows | ConllRows) -> Iterable[list[str]]:
        return file

    def _advice(self, names: Sequence[str]) -> str:
        """What may be wrong where a file has these columns."""
        delimiter = self.files[0].delimiter
        return f"; is {shown(delimiter)} what separates its cells?" if len(names) == 1 and delimiter else ""


class ConllFiles(TextFiles):
    """The rows of CoNLL-style files. The sequences of several are numbered by file: `a.conll:1`.

    Args:
        width, named: see `ConllRows`.
    """

    def __init__(self, paths: Sequence[Path], options: ReadingOptions, width: int | None, named: Sequence[str]) -> None:
        self._width, self._columns = width, named
        super().__init__(paths, options)

    def _opened(self) -> Sequence[CsvRows | ConllRows]:
        files = [ConllRows(path, self._width, self.options, self._columns) for path in self.paths]
        _check_alike(files, "encoding", lambda file: f"is {file.encoding} text")
        _check_alike(files, "has_header", lambda file: "has a header" if file.has_header else "has none")
        separated = {None: "blanks", "\t": "tabs"}
        _check_alike(files, "delimiter", lambda file: f"has columns separated by {separated[file.delimiter]}")
        return files

    def _named(self, name: str, file: CsvRows | ConllRows) -> Iterable[list[str]]:
        return ([f"{name}:{sequence}", *cells] for sequence, *cells in file)

    def _advice(self, names: Sequence[str]) -> str:
        return ""


def check_formats(formats: Mapping[Path, str]) -> None:
    """Refuse files of another format than the most common one.

    Raises:
        UserError: the message names one that differs.
    """
    ((usual, _),) = Counter(formats.values()).most_common(1)
    like = next(path for path, name in formats.items() if name == usual)
    for path, name in formats.items():
        if name != usual:
            raise UserError(
                f"{path} would be read as {name}, but {like} as {usual}: the files of one table have one format; name "
                f"those that belong to it, such as '*{like.suffix}'"
            )


def check_columns(names: Mapping[Path, Sequence[str]], advice: Callable[[Sequence[str]], str] | None = None) -> None:
    """Refuse files with other columns than the most common ones, in any order.

    Args:
        names: the columns of each file.
        advice: says what may be wrong where a file has other columns, by their names.

    Raises:
        UserError: the message names the first files that differ, and the columns that they lack or have besides.
    """
    sets = {path: frozenset(columns) for path, columns in names.items()}
    ((usual, _),) = Counter(sets.values()).most_common(1)
    like = next(path for path, columns in sets.items() if columns == usual)
    different = [path for path, columns in sets.items() if columns != usual]
    if not different:
        return
    reports = []
    for path in different[:_REPORTED]:
        missing = [name for name in names[like] if name not in sets[path]]
        extra = [name for name in names[path] if name not in usual]
        plural = "columns" if len(missing) > 1 else "column"
        lacks = f"has no {plural} {listed(missing)}, which {like} has" if missing else ""
        other = f"has {listed(extra)}, which {like} has not" if extra else ""
        reports.append(f"{path} {' and '.join(part for part in (lacks, other) if part)}")
        if advice:
            reports[-1] += advice(names[path])
    rest = len(different) - len(reports)
    more = f"; {counted(rest, 'other file')} {'differs' if rest == 1 else 'differ'}, too" if rest else ""
    raise UserError(f"{'; '.join(reports)}{more}: the files of one table have the same columns")


def has_file_column(names: Iterable[str]) -> bool:
    """Whether one of some columns is called like the one with the files' names, in any case."""
    return any(name.lower() == FILE for name in names)


def file_name(path: Path) -> str:
    """What a sequence is called that is a file."""
    return printable(path.name)


def check_names(paths: Iterable[Path], what: str = "their sequences", name: Callable[[Path], str] = file_name) -> None:
    """Refuse files of the same name, which could not be told apart.

    Args:
        what: what is named after them.
        name: gives what is named after a file its name.

    Raises:
        UserError: there are two; the message names both.
    """
    seen: dict[str, Path] = {}
    for path in paths:
        if (other := seen.setdefault(name(path), path)) is not path:
            raise UserError(
                f"{other} and {path} have the same name, after which {what} would be named: rename one of them"
            )


def common_type(types: Iterable[str]) -> str | None:
    """DuckDB's type that holds the values of columns of some types, None if there is none."""
    different = set(types)
    if len(different) == 1:
        return different.pop()
    if all(each.endswith("[]") for each in different):
        element = common_type(each[:-2] for each in different)
        return element and f"{element}[]"
    if all(map(_WHOLE.fullmatch, different)):
        return "HUGEINT" if different & {"UBIGINT", "HUGEINT", "UHUGEINT"} else "BIGINT"
    return "DOUBLE" if all(map(_NUMBER.fullmatch, different)) else None


def _common_quotes(paths: Sequence[Path], options: ReadingOptions) -> str:
    """Whether quotes enclose the cells of all files with tabs, or are characters like others."""
    quotes = {path: quotes_of(path, options, options.skip_rows or 0) for path in paths}
    enclosing = [path for path, quote in quotes.items() if quote]
    characters = [path for path, quote in quotes.items() if quote == ""]
    if enclosing and characters:
        raise UserError(
            f"quotes enclose the cells of {enclosing[0]}, but are characters in {characters[0]}: say which holds for "
            f"all files with --quote '\"' or --no-quotes"
        )
    return "" if characters else '"'


def _check_alike(files: Sequence[CsvRows | ConllRows], name: str, words: Callable[[Any], str]) -> None:
    """Refuse a file that has another value of an attribute than the first; `words` says what a file is or has."""
    first = files[0]
    for file in files[1:]:
        if getattr(file, name) != getattr(first, name):
            raise UserError(
                f"{file.path} {words(file)}, but {first.path} {words(first)}: the files of one table are read alike"
            )
