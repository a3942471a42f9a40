"""Columns of words, as in CoNLL's shared tasks: a token per line, and an empty line between sequences."""

from __future__ import annotations

import contextlib
import gzip
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import IO, Literal, cast

from bilstm.data.lines import found_encoding, text_lines
from bilstm.data.readingoptions import PLAIN, ReadingOptions
from bilstm.errors import UserError, counted, shown

TOKEN, LABEL, SEQUENCE = "token", "label", "sequence"  # how the columns of a CoNLL file are called
UNIVERSAL = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")  # those of CoNLL-U
_FEATS = "feats."  # begins the name of a column with one of CoNLL-U's features
_LAYOUT = (
    "CoNLL-style files have one word per line and an empty line between sequences (for raw texts, predict has "
    "--format text)"
)
_NO_TOKEN = re.compile(r"\d+-\d+|\d+\.\d+")  # CoNLL-U's number of a range, and of an empty node
_LOOKED_AT = 20  # sequences from which it is seen whether the first column numbers the words
# What header lines call their columns: in other lines, they may be words like any other.
_HEADER = re.compile(
    r"#?(id|index|token|tokens|word|words|form|text|lemma|lemmas|pos|pos_?tags?|upos|xpos|tag|tags|label|labels|ner"
    r"|ner_?tags?|iob|bio|entity|entities|chunk|chunks|chunk_?tags?|feats|head|deprel|deps|misc|sentence|sentence_?id"
    r"|column_\d+|(predicted|probability)(_\w+)?)",
    re.IGNORECASE,
)
LineKind = Literal["token", "break", "comment", "header", "other"]


class ConllRows:
    """One token per line, its columns separated by tabs or blanks, and an empty line between sequences.

    The columns are named `token`, `column_2`, … and the last one `label`; in `.conllu` files as CoNLL-U has them;
    before them stands `sequence`, the number of the sequence. Comments before a sequence, `-DOCSTART-` lines, a header
    and, where the first column numbers the words, ranges such as `4-5` and empty nodes such as `6.1` are no tokens.

    Args:
        path: the file.
        columns: how many columns such files have, where that is known. Then a file may lack the last one, the label,
            or hold nothing but tokens.
        options: what is known of the file: names of all columns, a header, what separates columns.
        named: columns that a person names; of CoNLL-U's features, `feats.Number` and so on become columns if named.

    Attributes:
        names: the columns' names, `sequence` included.
        encoding: of the text.
        has_header: whether its first line names the columns.
        numbered: whether the first column numbers the words of a sequence.
        universal: whether the columns are CoNLL-U's.
        guessed: what was guessed of the options.

    Raises:
        UserError: the file is empty, not UTF-8, seems to have a sentence a line, or its lines have different numbers of
            columns.
    """

    def __init__(
        self, path: Path, columns: int | None = None, options: ReadingOptions = PLAIN, named: Sequence[str] = ()
    ) -> None:
        self.path, self.options = path, options
        self.unnamed: list[str] = []
        if options.delimiter not in (None, "\t", " "):
            raise UserError(f"--delimiter of {path} is tab or space, and not {shown(options.delimiter)}: {_LAYOUT}")
        number, first = self._first_token()
        self.delimiter = "\t" if options.delimiter == "\t" or (options.delimiter is None and "\t" in first) else None
        cells = self._split(first)
        self.width = len(cells)
        self.header = number if options.header or (options.header is None and self._is_header(number, cells)) else 0
        found = found_encoding(path)
        self.encoding = options.encoding or found or "utf-8"
        self.guessed = ReadingOptions(
            header=True if self.header and not options.header else None,
            encoding=None if options.encoding else found,
        )
        self.has_header = bool(self.header)
        self.numbered = self.width > 1 and self._are_numbered()
        all_names = options.columns or (UNIVERSAL if is_conllu(path) else None)
        self.universal = all_names == UNIVERSAL and self.width == len(UNIVERSAL)
        self._feats = [name for name in dict.fromkeys(named) if self.universal and name.startswith(_FEATS)]
        expected = len(all_names) if all_names else columns
        if expected is not None and self.width not in (1, expected - 1, expected):
            known = "--columns names" if options.columns else "CoNLL-U has" if all_names else "the model was trained on"
            raise UserError(
                f"{path}, line {number}: {self.width} columns, but {known} {expected}, of which the last "
                f"{'may be missing' if all_names else 'is the label'}; {_LAYOUT}"
            )
        self.names = [SEQUENCE, *self._names(all_names, columns), *self._feats]

    def __iter__(self) -> Iterator[list[str]]:
        return (cells for kind, _, cells in self.lines() if kind == "token")

    def line(self, row: int) -> int:
        """The line on which a row stands, counted from 1."""
        tokens = (number for number, (kind, _, _) in enumerate(self.lines(), self._skip + 1) if kind == "token")
        return next(islice(tokens, row, None))

    def lines(self) -> Iterator[tuple[LineKind, str, list[str]]]:
        """Each line of the file, what it is, and the cells of its row, of which there are none unless it is a token."""
        sequence = rows = 0
        starts = True
        for number, text in self._numbered_lines():
            kind, cells = self._kind(number, text, starts)
            if kind == "break":
                starts = True
            if kind != "token":
                yield kind, text, []
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
            yield kind, text, [str(sequence), *cells, *self._features(cells)]
        if self.delimiter is None and self.width > 1 and rows == sequence:
            raise UserError(
                f"{self.path}: {_LAYOUT}; this one seems to have a sentence a line (if each sequence does have one "
                f"word only, separate the columns by tabs)"
            )

    @property
    def _skip(self) -> int:
        return self.options.skip_rows or 0

    def _numbered_lines(self) -> Iterator[tuple[int, str]]:
        lines = islice(text_lines(self.path, self.options.encoding), self._skip, None)
        return ((number, line.rstrip("\r\n")) for number, line in enumerate(lines, self._skip + 1))

    def _split(self, text: str) -> list[str]:
        """The cells of a line. Unicode's other blanks, such as a no-break space, are part of a word."""
        if self.delimiter:
            return text.split(self.delimiter)
        return [cell for cell in text.replace("\t", " ").split(" ") if cell]

    def _features(self, cells: list[str]) -> Iterator[str]:
        """The named ones of a word's features, such as Number=Sing|Person=3, "" where it has none."""
        if self._feats:
            found = dict(part.partition("=")[::2] for part in cells[UNIVERSAL.index("feats")].split("|"))
            yield from (found.get(name.removeprefix(_FEATS), "") for name in self._feats)

    def _kind(self, number: int, text: str, starts: bool) -> tuple[LineKind, list[str]]:
        if _is_break(text):
            return "break", []
        if number == self.header:
            return "header", []
        if self.options.comment is not None and text.startswith(self.options.comment):
            return "comment", []
        cells = self._split(text)
        if starts and text.startswith("#") and self.options.comment is None and self._is_comment(text, cells):
            return "comment", []
        if self.numbered and _NO_TOKEN.fullmatch(cells[0]) and len(cells) == self.width:
            return "other", []
        return "token", cells

    def _is_comment(self, text: str, cells: list[str]) -> bool:
        """Whether a line that begins with a number sign, before a sequence, is no token."""
        if len(cells) != self.width or (self.universal and text.startswith("#")):
            return True
        return self.width > 1 and text.startswith("# ") and cells[-1] not in self._labels

    @cached_property
    def _labels(self) -> set[str]:
        """The last cells of all lines that are tokens beyond doubt."""
        rows = (self._split(text) for _, text in self._numbered_lines() if not _is_break(text) and text[0] != "#")
        return {cells[-1] for cells in rows if len(cells) == self.width}

    def _is_header(self, number: int, cells: list[str]) -> bool:
        """Whether the first line names the columns: its cells are such names, and its last one never occurs again."""
        if len(cells) < 2 or not all(map(_HEADER.fullmatch, cells)):
            return False
        rows = (self._split(text) for other, text in self._numbered_lines() if other > number and not _is_break(text))
        return all(row[-1] != cells[-1] for row in rows)

    def _are_numbered(self) -> bool:
        """Whether the first column numbers the words of a sequence from 1."""
        expected, sequences, most = 1, 0, 1
        for number, text in self._numbered_lines():
            if _is_break(text):
                sequences += expected > 1
                most, expected = max(most, expected), 1
                if sequences == _LOOKED_AT:
                    break
            elif number != self.header and not (expected == 1 and text.startswith("#")):
                first = self._split(text)[0]
                if first == str(expected):
                    expected += 1
                elif not _NO_TOKEN.fullmatch(first):
                    return False
        return max(most, expected) > 2

    def _names(self, named: tuple[str, ...] | None, columns: int | None) -> list[str]:
        if named is not None:
            if self.width == 1 < len(named):
                return [next((name for name in (TOKEN, "form") if name in named), named[0])]
            found = enumerate(named[: self.width], 1)
            return [f"column_{number}" if name == "_" else name for number, name in found]
        names = [TOKEN, *(f"column_{number}" for number in range(2, self.width + 1))]
        if self.width > 1 and columns in (None, self.width):
            names[-1] = LABEL
        return names

    def _first_token(self) -> tuple[int, str]:
        """The number and text of a line that shows how many columns there are: no comment, if there is any other."""
        first = None
        for number, text in self._numbered_lines():
            comment = self.options.comment
            if not _is_break(text) and not (comment is not None and text.startswith(comment)):
                if not text.startswith("#"):
                    return number, text
                first = first or (number, text)
        if first is None:
            raise UserError(f"{self.path} is empty: it has no line with a token")
        return first


def write_conll(
    source: ConllRows,
    names: Sequence[str],
    additions: Iterable[tuple[str, ...]],
    path: Path,
    *,
    compress: bool,
    universal: bool,
) -> None:
    """Copy a CoNLL file line for line, each token's line extended by the given cells.

    Args:
        source: the file.
        names: of the new columns.
        additions: the new cells of every row, in order.
        path: the file to write.
        compress: whether to write gzip.
        universal: whether to write CoNLL-U, whose last column takes the new cells as name=value.
    """
    added = iter(additions)
    delimiter = "\t" if source.delimiter or source.width == 1 else " "
    with contextlib.ExitStack() as stack:
        raw: IO[bytes] = stack.enter_context(open(path, "wb"))
        if compress:  # without a name and a time in it, so that the same predictions are the same bytes
            raw = cast(IO[bytes], stack.enter_context(gzip.GzipFile("", "wb", fileobj=raw, mtime=0)))
        file = stack.enter_context(io.TextIOWrapper(raw, encoding=source.encoding, newline="\n"))
        for kind, text, _ in source.lines():
            if kind == "token" and universal:
                *cells, last = text.split("\t")
                values = (value.replace("|", "\\p") for value in next(added))  # as Universal Dependencies write it
                new = [f"{name}={value}" for name, value in zip(names, values, strict=True)]
                text = "\t".join([*cells, "|".join(([] if last == "_" else [last]) + new)])
            elif kind in ("token", "header"):
                new_cells = next(added) if kind == "token" else names
                text = delimiter.join([text if source.delimiter else text.rstrip(" \t"), *new_cells])
            file.write(text + "\n")


def is_conllu(path: Path) -> bool:
    return ".conllu" in [suffix.lower() for suffix in path.suffixes[-2:]]


def has_sequence_breaks(path: Path, options: ReadingOptions = PLAIN) -> bool:
    """Whether empty lines stand between lines of text, as in CoNLL files and not in tables."""
    empty = False
    for line in islice(text_lines(path, options.encoding), options.skip_rows or 0, None):
        if not line.strip():
            empty = True
        elif empty:
            return True
    return False


def _is_break(text: str) -> bool:
    return not text.strip(" \t") or text.startswith("-DOCSTART-")
