"""Columns of files: what the database does at once is what it does carefully, cell by cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bilstm.data import filetable, scratch
from bilstm.data.filetable import FileTable
from bilstm.data.reading import read_table
from bilstm.data.readingoptions import PLAIN, ReadingOptions
from bilstm.data.table import Table

NUMBERS = st.one_of(
    st.floats(width=64).map(repr),
    st.integers().map(str),
    st.text(alphabet="0123456789.eE+-_ ,\t'", max_size=8),
    st.sampled_from(["true", "FALSE", "True ", "nan", "NaN", "inf", "-Infinity", "NA", "n/a", "-", "?", "x", "1_000"]),
    st.sampled_from(["+-3", "+5", "0x1F", "1e400", "1d", " 7 ", "\t7", "\x0b5", "5\xa0", "٣", "1,5", "1.234,5", "1e5"]),
)


def table_of(folder: Path, cells: list[str], reading: ReadingOptions = PLAIN) -> FileTable:
    path = folder / "table.csv"
    path.write_text("".join(f'{number};"{cell}"\n' for number, cell in enumerate(["x", *cells])), encoding="utf-8")
    return read_table(path, reading=ReadingOptions(delimiter=";", header=True).over(reading))


@settings(max_examples=30)
@given(st.lists(NUMBERS, min_size=1, max_size=12))
@example(["1_000", "+-3", "+5", " 7", "1e400", "nan", "", "5\xa0"])
def test_numbers(tmp_path_factory: pytest.TempPathFactory, cells: list[str]) -> None:
    folder = tmp_path_factory.mktemp("numbers")
    for reading in (PLAIN, ReadingOptions(missing=("5", "x"))):
        table = table_of(folder, cells, reading)
        found, only = table.numbers("x"), table.only_numbers("x")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FileTable, "_is_odd", lambda *_: "true")
            table = table_of(folder, cells, reading)
            assert table.numbers("x").tobytes() == found.tobytes()
            assert Table.only_numbers(table, "x") == only


@settings(max_examples=15)
@given(st.lists(st.text(alphabet="aB'\\ é\u2028", max_size=3), min_size=1, max_size=30))
def test_few_different_texts(tmp_path_factory: pytest.TempPathFactory, cells: list[str]) -> None:
    table = table_of(tmp_path_factory.mktemp("texts"), cells)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scratch, "BLOCK", 7)
        patch.setattr(filetable, "_MANY", 0)
        for few in (3, 10_000):
            patch.setattr(filetable, "_FEW", few)
            assert _texts(table.text_codes("x")) == _texts(Table.text_codes(table, "x")) == table.texts("x").tolist()


def _texts(blocks: Any) -> list[str | None]:
    found: list[str | None] = []
    for rows, codes, texts in blocks:
        assert rows.start == len(found)
        found += np.array(texts, object)[codes].tolist()
    return found
