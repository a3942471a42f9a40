"""Files of word vectors: every format gives the same rows, and a broken file one line that says where."""

from __future__ import annotations

import gzip
import json
import os
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from bilstm.data import vectorfiles
from bilstm.data.vectorfiles import WordVectors, read_vectors
from bilstm.errors import UserError

pytestmark = pytest.mark.fast

Rows = dict[str, list[float]]
ROWS: Rows = {"the": [0.5, -1.0, 2.0], "Élan": [1e-3, 0.0, -0.25], "</s>": [3.0, 4.0, 5.0], "日本": [1.0, 1.0, 1.5]}


def lines(rows: Rows, blank: str = " ") -> str:
    return "".join(f"{word}{blank}{blank.join(map(repr, values))}\n" for word, values in rows.items())


def header(rows: Rows) -> str:
    return f"{len(rows)} {len(next(iter(rows.values())))}\n"


def glove(path: Path, rows: Rows) -> None:
    path.write_text(lines(rows), encoding="utf-8")


def with_tabs(path: Path, rows: Rows) -> None:
    path.write_text("\ufeff" + lines(rows, "\t").replace("\n", "\r\n"), encoding="utf-8", newline="")


def word2vec_text(path: Path, rows: Rows) -> None:
    path.write_text(header(rows) + lines(rows), encoding="utf-8")


def fasttext(path: Path, rows: Rows) -> None:
    """Lines end with a blank."""
    path.write_text(header(rows) + lines(rows).replace("\n", " \n"), encoding="utf-8")


def compressed(path: Path, rows: Rows) -> None:
    path.write_bytes(gzip.compress((header(rows) + lines(rows)).encode()))


def binary(path: Path, rows: Rows, end: bytes = b"\n") -> None:
    """As word2vec writes it, with a line end after each row; gensim writes none."""
    body = b"".join(word.encode() + b" " + np.array(row, "<f4").tobytes() + end for word, row in rows.items())
    path.write_bytes(header(rows).encode() + body)


def binary_of_gensim(path: Path, rows: Rows) -> None:
    binary(path, rows, b"")


def compressed_binary(path: Path, rows: Rows) -> None:
    binary(path, rows)
    path.write_bytes(gzip.compress(path.read_bytes()))


def tensor(path: Path, rows: Rows) -> None:
    matrix = np.array(list(rows.values()), np.float32)
    save_file({"m": matrix, "b": np.zeros(2)}, path, {"vocabulary": json.dumps(list(rows))})


def tensor_and_words(path: Path, rows: Rows) -> None:
    save_file({"embeddings": np.array(list(rows.values()), np.float64)}, path)
    path.with_suffix(".txt").write_text("\n".join(rows) + "\n", encoding="utf-8")


WRITERS: list[Callable[[Path, Rows], None]] = [
    *(glove, with_tabs, word2vec_text, fasttext, compressed),
    *(binary, binary_of_gensim, compressed_binary, tensor, tensor_and_words),
]
write = pytest.mark.parametrize("write", WRITERS, ids=lambda writer: writer.__name__)


def as_rows(vectors: WordVectors) -> Rows:
    assert vectors.values.dtype == np.float32
    return dict(zip(vectors.words, vectors.values.tolist(), strict=True))


def single(rows: Rows) -> Rows:
    return {word: np.array(values, np.float32).tolist() for word, values in rows.items()}


@write
def test_all_words(write: Callable[[Path, Rows], None], tmp_path: Path) -> None:
    path = tmp_path / "vectors.anything"
    write(path, ROWS)
    vectors = read_vectors(path, None)
    assert as_rows(vectors) == single(ROWS)
    assert (vectors.rows, vectors.notes) == (4, ())


@write
@pytest.mark.parametrize("wanted", [["日本", "the", "nothing", ""], []])
def test_some_words(write: Callable[[Path, Rows], None], wanted: list[str], tmp_path: Path) -> None:
    write(tmp_path / "v", ROWS)
    expected = {word: values for word, values in single(ROWS).items() if word in wanted}
    assert as_rows(read_vectors(tmp_path / "v", wanted)) == expected


WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Z")), min_size=1, max_size=8)
FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(st.data())
def test_every_format_gives_the_same(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Of words of every script and vectors of any dimension. One text form cannot tell a header from a word `3`."""
    words = data.draw(st.lists(WORDS, min_size=1, max_size=4, unique=True))
    dimensions = data.draw(st.integers(2, 5))
    rows = {word: data.draw(st.lists(FLOATS, min_size=dimensions, max_size=dimensions)) for word in words}
    folder = tmp_path_factory.mktemp("same")
    for writer in WRITERS:
        writer(folder / "v", rows)
        assert as_rows(read_vectors(folder / "v", None)) == single(rows), writer


@pytest.mark.parametrize("first", [4687143.0, 2.1e-19, -1.0])
def test_bytes_that_look_like_a_line_of_text(first: float, tmp_path: Path) -> None:
    """The first of these numbers is an N and a line feed in binary."""
    rows = single({"0": [first, 0.0], "a": [0.0, first]})
    binary(tmp_path / "v", rows)
    assert as_rows(read_vectors(tmp_path / "v", None)) == rows


@pytest.mark.parametrize("rows", [{"5": [1.0], "6": [2.0]}, {"a": [0.5]}, {"3": [1.0], "x": [0.25], "y": [7.0]}])
def test_one_dimension(rows: Rows, tmp_path: Path) -> None:
    for writer in (word2vec_text, binary) if len(rows) != 2 else (glove, word2vec_text, binary):
        writer(tmp_path / "v", rows)
        assert as_rows(read_vectors(tmp_path / "v", None)) == rows


def test_words_with_blanks(tmp_path: Path) -> None:
    """As in GloVe's vectors of 840 billion tokens; and several blanks between numbers."""
    (tmp_path / "v").write_text("a 1 2\n. . . 3 4\nat name@domain.com 5 6\nb  7   8\n\n")
    vectors = read_vectors(tmp_path / "v", None)
    assert as_rows(vectors) == {"a": [1, 2], ". . .": [3, 4], "at name@domain.com": [5, 6], "b": [7, 8]}


def test_the_first_of_several_rows_counts(tmp_path: Path) -> None:
    (tmp_path / "v").write_text("a 1 2\nb 3 4\na 5 6\na 7 8\nb 9 9\n")
    vectors = read_vectors(tmp_path / "v", ["a"])
    assert as_rows(vectors) == {"a": [1, 2]}
    assert vectors.notes == (f"{tmp_path / 'v'}: 2 rows left out whose word occurs before; the first is line 3, 'a'",)
    assert read_vectors(tmp_path / "v", ["c"]).notes == ()


def test_words_that_are_not_utf8(tmp_path: Path) -> None:
    """word2vec cuts long words, within a character too."""
    (tmp_path / "v").write_bytes(b"a 1 2\n\xc3 3 4\nb 5 6\n")
    for wanted in (None, ["a", "b"]):
        vectors = read_vectors(tmp_path / "v", wanted)
        assert as_rows(vectors) == {"a": [1, 2], "b": [5, 6]}
        assert vectors.notes == (f"{tmp_path / 'v'}: 1 word left out, not in UTF-8; the first is in line 2",)


BINARY = b"2 3\na " + np.ones(3, "<f4").tobytes() + b"\nbb " + np.ones(3, "<f4").tobytes() + b"\n"
BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "v is empty"),
    "a table": (b"id,word\n1,a\n", "v is no file of word vectors: its first line is neither a number of words"),
    "a text": (b"The quick brown fox\n", "v is no file of word vectors"),
    "nulls": (b"\0\0\0 \0\0", "v is no file of word vectors"),
    "UTF-16": ("a 1 2\n".encode("utf-16"), "v is UTF-16 text: convert it to UTF-8"),
    "Latin-1": ("é 1 2\nà 1 2\na 1 2\n".encode("latin-1"), "v: most words are not UTF-8, the first is in line 1"),
    "a pickle": (b"\x80\x04\x95abc", "v is a Python pickle, which could run code"),
    "a fastText model": (b"\xba\x16\x4f\x2f\x0c\0\0\0", "v is a fastText model, not a file of vectors: use the .vec"),
    "a zip archive": (b"PK\x03\x04abc", "v is a zip archive: unpack it first"),
    "an array": (b"\x93NUMPY\x01\0", "v is a NumPy array, which has no words"),
    "too few values": (b"a 1 2\nb 3\n", "v, line 2: 'b' has 1 value, but other words have 2; the line is broken"),
    "too many values": (b"a 1 2\nb 3.5 4 5\n", "v, line 2: 'b' has 3 values, but other words have 2"),
    "other dimensions": (b"2 3\na 1 2 3\nb 1 2\n", "v, line 3: 'b' has 2 values, but other words have 3"),
    "a word alone": (b"a 1 2\nb\n", "v, line 2: 'b' has 0 values, but other words have 2"),
    "no number below a header": (b"1 9\na x 2 3 4 5 6 7 8 9\n", "v, line 2: 'x' in the vector of 'a' is not a number"),
    "no number": (b"a 1 2\nb x 2\n", "v, line 2: 'x' in the vector of 'b' is not a number"),
    "a decimal comma": (b"a 1 2\nb 1,5 2\n", "v, line 2: '1,5' in the vector of 'b' is not a number"),
    "an underscore": (b"a 1 2\nb 1_0 2\n", "v, line 2: '1_0' in the vector of 'b' is not a number"),
    "NaN": (b"a 1 2\nb nan 2\n", "v, line 2: the vector of 'b' holds NaN, infinity or too large a number"),
    "too large": (b"a 1 2\nb 1e39 2\n", "v, line 2: the vector of 'b' holds NaN, infinity or too large a number"),
    "words missing": (b"3 2\na 1 2\nb 3 4\n", "v ends after 2 words, but its first line states 3: it was not copied"),
    "words too many": (b"1 2\na 1 2\nb 3 4\n", "v, line 3: the first line states 1 word, but here is another"),
    "no words": (b"0 2\n", "v, line 1: a header of 0 words and 2 dimensions is impossible"),
    "no dimensions": (b"2 0\n", "v, line 1: a header of 2 words and 0 dimensions is impossible"),
    "endless": (b"a 1 2\n" + b"b" * (1 << 20), "v, line 2: longer than 1,048,576 bytes, so it is no word with a"),
    "gzip cut": (gzip.compress(b"a 1 2\n" * 99)[:-9], "v is damaged or was not copied completely: "),
    "gzip damaged": (gzip.compress(bytes(999))[:20] + b"x" * 40, "v is damaged or was not copied completely: "),
    "binary cut": (BINARY[:-3], "v ends within row 2 of 2: it was not copied completely, or its vectors do not have"),
    "binary cut in a word": (BINARY[:19], "v ends within row 2 of 2: it was not copied completely"),
    "binary with more": (BINARY + b"c 123", "v continues after row 2, the last that its first line states"),
    "binary of other dimensions": (b"2 2" + BINARY[3:], "v continues after row 2, the last that its first line states"),
    "binary without words": (b"2 3\na \0" + b"\1" * (1 << 15), "v, row 2: here is no word; the file is damaged"),
    "binary with NaN": (BINARY[:-5] + b"\xff\xff\xff\x7f\n", "v, row 2: the vector of 'bb' holds NaN"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file(name: str, tmp_path: Path) -> None:
    content, message = BROKEN[name]
    (tmp_path / "v").write_bytes(content)
    with pytest.raises(UserError, match=re.escape(f"{tmp_path}{os.sep}{message}")) as caught:
        read_vectors(tmp_path / "v", None)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=60), st.sampled_from([b"", b"2 3\n", b"a 1 2\n", b"\x1f\x8b\x08"]))
def test_any_bytes_are_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, beginning: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "v"
    path.write_bytes(beginning + content)
    for wanted in (None, ["a"]):
        try:
            vectors = read_vectors(path, wanted)
        except UserError:
            continue
        assert vectors.values.shape[0] == len(vectors.words) == len(set(vectors.words))
        assert np.isfinite(vectors.values).all()


def test_a_matrix_without_words(tmp_path: Path) -> None:
    path = tmp_path / "v.safetensors"
    matrix = np.ones((2, 3), np.float32)
    save_file({"m": matrix}, path)
    with pytest.raises(
        UserError, match="v.safetensors has no words: give them as a JSON list 'vocabulary' in its meta"
    ):
        read_vectors(path, None)
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    assert read_vectors(path, ["b"]).words == ("b",)
    (tmp_path / "v.txt").write_text("a\nb\nc\n")
    with pytest.raises(UserError, match="v.txt has 3 words, but the matrix in .*v.safetensors has 2 rows"):
        read_vectors(path, None)
    save_file({"m": matrix, "n": matrix}, path)
    with pytest.raises(UserError, match="v.safetensors has 2 tensors with rows and columns, but the vectors are one"):
        read_vectors(path, None)
    save_file({"m": matrix.astype(np.int32)}, path)
    with pytest.raises(UserError, match="v.safetensors: the matrix 'm' has the type I32, not F16, F32 or F64"):
        read_vectors(path, None)
    for words in ('["a", 1]', '{"a": 0}', "a b", "[" * 9999):
        save_file({"m": matrix}, path, {"words": words})
        with pytest.raises(UserError, match="v.safetensors: 'words' in the metadata is no JSON list of words"):
            read_vectors(path, None)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="v.safetensors is damaged or was not copied completely"):
        read_vectors(path, None)


def test_half_precision(tmp_path: Path) -> None:
    save_file({"m": np.array([[0.5, 2]], np.float16)}, tmp_path / "v", {"vocab": '["a"]'})
    assert as_rows(read_vectors(tmp_path / "v", None)) == {"a": [0.5, 2.0]}


@pytest.mark.parametrize("name", ["missing", "folder"])
def test_what_is_no_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=f"{name}"):
        read_vectors(tmp_path / name, None)


@pytest.mark.parametrize("write", [word2vec_text, binary, tensor], ids=lambda writer: writer.__name__)
def test_a_large_file_is_never_in_memory_as_a_whole(write: Callable[[Path, Rows], None], tmp_path: Path) -> None:
    """Of 12 MB at least; a safetensors file is mapped."""
    rows: Rows = {f"w{i}": [i * 0.125] * 1000 for i in range(4000)}
    write(tmp_path / "v", rows)
    if write is tensor:  # the words alone are in memory
        rows.clear()
    assert (tmp_path / "v").stat().st_size > 12_000_000
    tracemalloc.start()
    vectors = read_vectors(tmp_path / "v", ["w3999"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert vectors.values.tolist() == [[3999 * 0.125] * 1000]
    assert peak < 9_000_000


def test_more_words_than_a_model_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectorfiles, "LARGEST_TEXT", 16)
    glove(tmp_path / "v", {"abc": [1.0], "def": [2.0], "ghi": [3.0]})
    with pytest.raises(
        UserError, match="v has more words than a model can hold, which is about 3: leave out --all-vec"
    ):
        read_vectors(tmp_path / "v", None)
    with pytest.raises(
        UserError, match=r"v has vectors of more words of the tr.*, which is about 3: cut the .* at line 3"
    ):
        read_vectors(tmp_path / "v", ["abc", "def", "ghi"])
    assert len(read_vectors(tmp_path / "v", ["abc", "ghi"]).words) == 2
