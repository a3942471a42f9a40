"""Files of word vectors, read row by row, of which only the rows asked for are kept.

Formats: word2vec's text and binary form (Mikolov et al. 2013), fastText's `.vec`, which is the former, GloVe's text,
which has no header (Pennington et al. 2014), each also compressed with gzip; and a matrix in a safetensors file, whose
words are in its metadata or in a text file next to it. Which it is, the content tells, not the name.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from bilstm.errors import UserError, counted, shown
from bilstm.files import AnyPath, check_readable, reason
from bilstm.ragged import FloatArray

LARGEST_TEXT = 12_000_000  # bytes of words: what the description in a model file has room for
_LONGEST_LINE = 1 << 20  # bytes
_LONGEST_WORD = 1 << 14
_MOST_DIMENSIONS = 100_000
_AT_ONCE = 1 << 20  # bytes that are read
_DIGITS = frozenset(b"0123456789.+-eE \t\r\naAiInNfF")  # the characters of numbers as text
_PRINTABLE = frozenset(range(0x20, 0x7F)) | _DIGITS
_FEW = 8  # values
_NUMBER = re.compile(rb"[+-]?[0-9]*[.][0-9]+([eE][+-]?[0-9]+)?|[+-]?[0-9.]+[eE][+-]?[0-9]+")
_KEYS = ("vocabulary", "vocab", "words", "tokens")  # of a safetensors file's metadata
_OTHERS = {
    b"\xba\x16\x4f\x2f": "a fastText model, not a file of vectors: use the .vec file that comes with it",
    b"\x80": "a Python pickle, which could run code: write the vectors as text first, in gensim with "
    "save_word2vec_format",
    b"\x93NUMPY": "a NumPy array, which has no words: write its rows as text, each after its word",
    b"PK\x03\x04": "a zip archive: unpack it first",
    b"BZh": "compressed with bzip2: unpack it first",
    b"\xfd7zXZ": "compressed with xz: unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: unpack it first",
    b"\xff\xfe": "UTF-16 text: convert it to UTF-8",
    b"\xfe\xff": "UTF-16 text: convert it to UTF-8",
}


@dataclasses.dataclass(frozen=True)
class WordVectors:
    """Rows of a file of word vectors.

    Attributes:
        words: their words, in the file's order, each once.
        values: (words, dimensions) float32, finite.
        rows: the number of rows of the file.
        notes: what a person should know about the file, one sentence each.
    """

    words: tuple[str, ...]
    values: FloatArray
    rows: int
    notes: tuple[str, ...] = ()


def read_vectors(path: AnyPath, words: Collection[str] | None) -> WordVectors:
    """Read the vectors of some words; the memory needed is that of these.

    Of a word that occurs several times the first row counts. Words that are not UTF-8 are left out.

    Args:
        words: which words; None: all.

    Raises:
        UserError: the file is no file of vectors, is truncated, or has a broken row; the message names its line or
            row. Of the rows of other words only the number of values is checked.
    """
    path = Path(path)
    check_readable(path)
    kept = _Kept(path, words)
    try:
        if _is_safetensors(path):
            _read_safetensors(kept)
        else:
            with _opened(path) as file:
                layout = _layout(path, file.read(_LONGEST_LINE))
            with _opened(path) as file:
                (_read_binary if layout.binary else _read_text)(kept, file, layout)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is damaged or was not copied completely: {error}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from None
    return kept.result()


class _Kept:
    """The rows that are kept of a file."""

    def __init__(self, path: Path, words: Collection[str] | None) -> None:
        self.path = path
        self.rows = 0
        self._asked = None if words is None else {word.encode("utf-8", "surrogatepass") for word in words}
        self._words: dict[bytes, int] = {}  # the row of each
        self._vectors: list[FloatArray] = []
        self._bytes = 0
        self._repeated: list[tuple[str, bytes]] = []  # the first, and how many there are
        self._repetitions = 0
        self._undecodable: list[str] = []
        self._not_utf8 = 0

    def wants(self, word: bytes, place: str) -> bool:
        """Whether the next row, which is of this word, is to be kept.

        Args:
            place: such as "line 3".
        """
        self.rows += 1
        if not word.isascii() and not _is_utf8(word):
            self._not_utf8 += 1
            self._undecodable = self._undecodable or [place]
            return False
        if not word or (self._asked is not None and word not in self._asked):
            return False
        if word in self._words:
            self._repetitions += 1
            self._repeated = self._repeated or [(place, word)]
            return False
        return True

    def keep(self, word: bytes, vector: FloatArray, place: str) -> None:
        """Keep a row."""
        if not np.isfinite(vector).all():
            raise UserError(
                f"{self.path}, {place}: the vector of {_quoted(word)} holds NaN, infinity or too large a number"
            )
        self._words[word] = len(self._vectors)
        self._vectors.append(vector)
        self._bytes += len(word) + 4
        if self._bytes > LARGEST_TEXT:
            which = "more words" if self._asked is None else "vectors of more words of the training set"
            advice = "leave out --all-vectors (all_vectors), or cut" if self._asked is None else "cut"
            raise UserError(
                f"{self.path} has {which} than a model can hold, which is about {len(self._vectors):,}: {advice} the "
                f"file off at {place}, since the most frequent words come first"
            )

    def result(self) -> WordVectors:
        notes = []
        if self._not_utf8:
            words = counted(self._not_utf8, "word")
            first = f"the first is in {self._undecodable[0]}"
            if self._not_utf8 * 2 > self.rows:
                raise UserError(f"{self.path}: most words are not UTF-8, {first}: convert the file to UTF-8")
            notes.append(f"{self.path}: {words} left out, not in UTF-8; {first}")
        if self._repetitions:
            place, word = self._repeated[0]
            notes.append(
                f"{self.path}: {counted(self._repetitions, 'row')} left out whose word occurs before; the first is "
                f"{place}, {_quoted(word)}"
            )
        values = np.stack(self._vectors) if self._vectors else np.zeros((0, 0), np.float32)
        return WordVectors(tuple(word.decode() for word in self._words), values, self.rows, tuple(notes))


# --- Which format it is ----------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Layout:
    """How a file is divided: the number of rows that its header states, None without one; the dimensions."""

    rows: int | None
    dimensions: int
    binary: bool


def _opened(path: Path) -> IO[bytes]:
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return io.BufferedReader(gzip.open(path), _AT_ONCE) if packed else open(path, "rb", _AT_ONCE)


def _layout(path: Path, head: bytes) -> _Layout:
    """What the beginning of a file tells.

    Raises:
        UserError: it is not one of a file of vectors.
    """
    for signature, what in _OTHERS.items():
        if head.startswith(signature):
            raise UserError(f"{path} is {what}")
    head = head.removeprefix(b"\xef\xbb\xbf")
    line, _, rest = head.partition(b"\n")
    fields = line.split()
    if len(fields) < 2 or not _is_number(fields[-1]):
        raise UserError(
            f"{path} is no file of word vectors: its first line is neither a number of words and one of dimensions nor "
            f"a word and its vector"
        )
    if len(fields) > 2 or not all(field.isdigit() for field in fields):
        return _Layout(None, len(fields) - 1, binary=False)
    following = rest.lstrip(b"\n").partition(b"\n")[0].split()
    rows, dimensions = (int(field[:20]) for field in fields)
    if not rows or not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise UserError(f"{path}, line 1: a header of {rows:,} words and {dimensions:,} dimensions is impossible")
    values = rest.lstrip(b"\n").partition(b" ")[2].partition(b"\n")[0]
    first = values[: 4 * dimensions]
    # A broken line of text is none of binary, unless the values are few enough to be letters by chance.
    if not first or not (_DIGITS if dimensions <= _FEW else _PRINTABLE).issuperset(first):
        return _Layout(rows, dimensions, binary=True)
    if dimensions <= _FEW and not (values.split() and _is_number(values.split()[0])):  # such as N, of NaN
        return _Layout(rows, dimensions, binary=True)
    if dimensions != 1 and len(following) == 2:  # words that are numbers, each with a vector of one dimension
        return _Layout(None, 1, binary=False)
    return _Layout(rows, dimensions, binary=False)


def _is_safetensors(path: Path) -> bool:
    with open(path, "rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


# --- Text -----------------------------------------------------------------------------------------------------------


def _read_text(kept: _Kept, file: IO[bytes], layout: _Layout) -> None:
    if layout.rows is not None:
        file.readline()
    line = ""
    for number, word, numbers in _lines(kept.path, file, layout):
        line = f"line {number}"
        if layout.rows is not None and kept.rows == layout.rows:
            raise UserError(
                f"{kept.path}, {line}: the first line states {counted(layout.rows, 'word')}, but here is another"
            )
        if kept.wants(word, line):
            kept.keep(word, _parsed(kept.path, line, word, numbers), line)
    _check_complete(kept, layout)


def _lines(path: Path, file: IO[bytes], layout: _Layout) -> Iterator[tuple[int, bytes, bytes]]:
    """The number of each line, its word and its numbers.

    Raises:
        UserError: a line has too few or too many numbers.
    """
    number, between = int(layout.rows is not None), layout.dimensions - 1
    while line := file.readline(_LONGEST_LINE):
        number += 1
        if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
            raise UserError(
                f"{path}, line {number}: longer than {_LONGEST_LINE:,} bytes, so it is no word with a vector"
            )
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        line = line.rstrip().replace(b"\t", b" ")
        word, _, numbers = line.partition(b" ")
        if numbers.count(b" ") != between or not numbers:
            if not line:
                continue
            word, numbers = _divided(path, number, line, layout.dimensions)
        yield number, word, numbers


def _divided(path: Path, number: int, line: bytes, dimensions: int) -> tuple[bytes, bytes]:
    """The word and the numbers of a line with blanks within the word, or several between numbers."""
    fields = line.split()
    surplus = len(fields) - dimensions - 1
    if surplus < 0 or (surplus and _NUMBER.fullmatch(fields[surplus])):
        values = counted(len(fields) - 1, "value")
        raise UserError(
            f"{path}, line {number}: {_quoted(fields[0])} has {values}, but other words have {dimensions:,}; the line "
            f"is broken, or the vectors have different dimensions"
        )
    return b" ".join(fields[: surplus + 1]), b" ".join(fields[surplus + 1 :])


def _parsed(path: Path, line: str, word: bytes, numbers: bytes) -> FloatArray:
    fields = numbers.split()
    try:
        if b"_" in numbers:  # which Python allows between digits
            raise ValueError
        values = np.array([float(field) for field in fields])
    except ValueError:
        wrong = next(field for field in fields if not _is_number(field))
        raise UserError(f"{path}, {line}: {_quoted(wrong)} in the vector of {_quoted(word)} is not a number") from None
    with np.errstate(over="ignore"):  # what is too large is refused where it is kept
        return values.astype(np.float32)


def _check_complete(kept: _Kept, layout: _Layout) -> None:
    if layout.rows is not None and kept.rows < layout.rows:
        raise UserError(
            f"{kept.path} ends after {counted(kept.rows, 'word')}, but its first line states {layout.rows:,}: it was "
            f"not copied completely"
        )


# --- Binary ----------------------------------------------------------------------------------------------------------


def _read_binary(kept: _Kept, file: IO[bytes], layout: _Layout) -> None:
    """Rows of a word, a blank, and little-endian float32 values; some programs end a row with a line end."""
    assert layout.rows is not None
    file.readline()
    size, buffer, start = 4 * layout.dimensions, b"", 0
    for row in range(1, layout.rows + 1):
        place = f"row {row:,}"
        while (blank := buffer.find(b" ", start)) < 0 or blank + size >= len(buffer):
            if (blank if blank >= 0 else len(buffer)) - start > _LONGEST_WORD:
                _not_a_row(kept.path, place)
            more = file.read(max(_AT_ONCE, size))
            if not more:
                raise UserError(
                    f"{kept.path} ends within {place} of {layout.rows:,}: it was not copied completely, or its vectors "
                    f"do not have the {layout.dimensions:,} dimensions that its first line states"
                )
            buffer, start = buffer[start:] + more, 0
        word = buffer[start:blank].lstrip(b"\n")
        if kept.wants(word, place):
            kept.keep(word, np.frombuffer(buffer, "<f4", layout.dimensions, blank + 1).astype(np.float32), place)
        start = blank + 1 + size
    if (buffer[start:] + file.read(_AT_ONCE)).strip():
        raise UserError(
            f"{kept.path} continues after row {layout.rows:,}, the last that its first line states: its vectors do not "
            f"have the {layout.dimensions:,} dimensions stated there, or it is damaged"
        )


def _not_a_row(path: Path, place: str) -> NoReturn:
    raise UserError(
        f"{path}, {place}: here is no word; the file is damaged, or its vectors do not have the dimensions that its "
        f"first line states"
    )


# --- safetensors -----------------------------------------------------------------------------------------------------


def _read_safetensors(kept: _Kept) -> None:
    import safetensors

    path = kept.path
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - it has no iterator
            matrices = [name for name, shape in shapes.items() if len(shape) == 2]
            if len(matrices) != 1:
                raise UserError(f"{path} has {len(matrices)} tensors with rows and columns, but the vectors are one")
            rows = file.get_slice(matrices[0])
            if rows.get_dtype() not in ("F16", "F32", "F64"):
                raise UserError(
                    f"{path}: the matrix {matrices[0]!r} has the type {rows.get_dtype()}, not F16, F32 or F64"
                )
            source, words = _vocabulary(path, file.metadata() or {})
            _keep_rows(kept, words, source, shapes[matrices[0]][0], lambda part: rows[part])
    except safetensors.SafetensorError as error:
        raise UserError(f"{path} is damaged or was not copied completely ({error})") from None


def _vocabulary(path: Path, metadata: dict[str, str]) -> tuple[Path, Iterator[bytes]]:
    """The words of a matrix's rows, and the file that holds them.

    Raises:
        UserError: there are none.
    """
    for key in _KEYS:
        if key in metadata:
            try:
                words: Any = json.loads(metadata[key])
            except (ValueError, RecursionError):
                words = None
            if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
                raise UserError(f"{path}: {key!r} in the metadata is no JSON list of words")
            return path, (word.encode("utf-8", "surrogatepass") for word in words)
    names = (path.with_suffix(".txt"), path.with_name("vocab.txt"))
    for other in names:
        if other.is_file():
            return other, _words_of(other)
    raise UserError(
        f"{path} has no words: give them as a JSON list {_KEYS[0]!r} in its metadata, or one per line in the file "
        f"{names[0]}"
    )


def _words_of(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        for line in file:
            yield line.rstrip(b"\r\n").removeprefix(b"\xef\xbb\xbf")


def _keep_rows(
    kept: _Kept, words: Iterator[bytes], source: Path, count: int, read: Callable[[slice], FloatArray]
) -> None:
    row = 0
    for row, word in enumerate(words, 1):
        place = f"row {row:,}"
        if row <= count and kept.wants(word, place):
            with np.errstate(over="ignore"):  # what is too large is refused where it is kept
                kept.keep(word, read(slice(row - 1, row))[0].astype(np.float32), place)
    if row != count:
        raise UserError(
            f"{source} has {counted(row, 'word')}, but the matrix in {kept.path} has {counted(count, 'row')}"
        )


def _quoted(word: bytes) -> str:
    return shown(word.decode("utf-8", "replace"))


def _is_utf8(word: bytes) -> bool:
    try:
        word.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_number(field: bytes) -> bool:
    return field != b"" and _DIGITS.issuperset(field) and _is_float(field)


def _is_float(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
