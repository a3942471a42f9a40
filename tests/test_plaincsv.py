"""Plain text files are read as all others are, whichever way is taken."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilstm.data import plaincsv, reading
from bilstm.data.reading import read_table
from bilstm.data.readingoptions import PLAIN, ReadingOptions
from bilstm.errors import UserError


@pytest.fixture(autouse=True)
def _small_files_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plaincsv, "LEAST", 0)


CELLS = st.text(alphabet="ab1.- _'#%\\*äß€\u2028\x0b\x1c\x85N", max_size=4)


def read(paths: list[Path], options: ReadingOptions = PLAIN) -> Any:
    """The names, the cells and the number of rows of each file; or the message of what is wrong."""
    try:
        table = read_table(paths, reading=options)
    except UserError as error:
        return str(error)
    columns = ", ".join(f"c{index}" for index in range(len(table.names)))
    return table.names, table.query(f"SELECT {columns} FROM cells ORDER BY rowid"), table.places.starts.tolist()


def row_by_row(paths: list[Path], options: ReadingOptions = PLAIN) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "load_plain", lambda *_: None)
        return read(paths, options)


def is_plain(path: Path, options: ReadingOptions = PLAIN) -> bool:
    taken = []

    def spied(*arguments: Any) -> Any:
        taken.append(plaincsv.load_plain(*arguments))
        return taken[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "load_plain", spied)
        read([path], options)
    return bool(taken) and taken[0] is not None


@st.composite
def texts(draw: st.DrawFn) -> str:
    delimiter, width = draw(st.sampled_from(",;\t|")), draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=0, max_size=6))
    lines = [delimiter.join(f"name{index}" for index in range(width)), *(delimiter.join(row) for row in rows)]
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):  # what makes a file another one
        odd = draw(st.sampled_from(["", " ", delimiter, '"', f'"{delimiter}"', "a\r", "\ufeffa", "x" * 3000]))
        lines[draw(st.integers(0, len(lines) - 1))] += odd
    return draw(st.sampled_from(["\n", "\n", "\r\n"])).join(lines) + draw(st.sampled_from(["", "\n", "\n\n"]))


@settings(max_examples=150)
@given(texts())
def test_any_file_is_read_alike(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("plain") / "table.csv"
    path.write_bytes(text.encode())
    assert read([path]) == row_by_row([path])


@pytest.mark.parametrize(
    ("content", "plain"),
    [
        (b"a,b\n1,2\n,\n3,\n", True),
        (b"a,b\n1,2", True),
        (b"a;b\n1,5;2\n 1 ; x\n", True),
        ("a,b\nä€,\u2028\n".encode(), True),
        (b"a,b\n1,2\n\n3,4\n", False),
        (b"a,b\r\n1,2\r\n", False),
        (b'a,b\n"1",2\n', False),
        (b"\xef\xbb\xbfa,b\n1,2\n", False),
        (b"a,b\n1,\xff\n", False),
        (b"a,b\n1,2,\n", False),
        (b"a,b,c\n1,2\n1,2,3,4\n", False),
        (b"a,b\n1,2\x00\n", False),
        (b"a\n1\n", False),
        (b"a,b\n", False),
    ],
)
def test_what_is_plain(tmp_path: Path, content: bytes, plain: bool) -> None:
    path = tmp_path / "table*[1].csv"
    path.write_bytes(content)
    assert is_plain(path) == plain
    assert read([path]) == row_by_row([path])


@pytest.mark.parametrize(
    ("options", "plain"),
    [
        ({"header": False}, True),
        ({"skip_rows": 1}, True),
        ({"skip_rows": 2, "header": False, "columns": ("x", "y")}, True),
        ({"delimiter": ";", "quote": ""}, True),
        ({"comment": "#"}, False),
        ({"encoding": "latin-1"}, False),
    ],
)
def test_options(tmp_path: Path, options: dict[str, Any], plain: bool) -> None:
    path, stated = tmp_path / "table.csv", ReadingOptions(**options)
    delimiter = options.get("delimiter", ",")
    text = f"one{delimiter}two\n1{delimiter}2\n3{delimiter}\n5{delimiter}6\n"
    path.write_text(text.replace("6", '6"') if "quote" in options else text, encoding="utf-8")
    assert is_plain(path, stated) == plain
    assert read([path], stated) == row_by_row([path], stated)


def test_several_files_and_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plaincsv, "_BLOCK", 7)
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    one.write_text("a,b\n" + "".join(f"{i},x{i}\n" for i in range(50)), encoding="utf-8")
    other.write_text("b,a\ny,1\n", encoding="utf-8")
    names, cells, starts = read([one, other])
    assert (names, starts, len(cells)) == (["a", "b"], [0, 50, 51], 51)
    assert (cells[49], cells[50]) == (("49", "x49"), ("1", "y"))
    other.write_text('b,a\n"y",1\n', encoding="utf-8")  # which is not plain, so that neither is read so
    assert read([one, other]) == (names, cells, starts)
    with gzip.open(tmp_path / "one.csv.gz", "wb") as file:
        file.write(one.read_bytes())
    assert not is_plain(tmp_path / "one.csv.gz")
    assert read([tmp_path / "one.csv.gz"])[1] == cells[:50]
