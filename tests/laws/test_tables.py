"""What is learned depends on what a table says, never on the format, the dialect or the order in which it says so."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

import bilstm
from bilstm.data.reading import read_table
from bilstm.data.readingoptions import ReadingOptions
from bilstm.errors import UserError

WORDS = st.text("abcxyzé ,;|\t'\"#\n-", min_size=1, max_size=5)
PLAIN_WORDS = st.text("abcxyzé'\"-", min_size=1, max_size=5)
NUMBERS = st.one_of(st.none(), st.integers(-(10**6), 10**6).map(lambda n: n / 100))


@dataclasses.dataclass(frozen=True)
class Content:
    """What a table says: of each step its sequence, its time, a number or None, a word, and a label or None."""

    rows: list[tuple[str, int, float | None, str, str | None]]

    @property
    def words_only(self) -> bool:
        """Whether columns separated by blanks can hold all words."""
        return all(not set(word) & set(" \t\n") and not word.startswith("#") for _, _, _, word, _ in self.rows)


@st.composite
def contents(draw: st.DrawFn, words: st.SearchStrategy[str] = WORDS) -> Content:
    lengths = draw(st.lists(st.integers(1, 4), min_size=3, max_size=5))
    rows = [
        (f"s{sequence}", 10 * step, draw(NUMBERS), draw(words).strip() or "a", draw(st.sampled_from(["p", "q", None])))
        for sequence, length in enumerate(lengths)
        for step in range(length)
    ]
    # Each class, and each kind of cell, occurs.
    rows[0] = (*rows[0][:2], 1.25, rows[0][3], "p")
    rows[-1] = (*rows[-1][:2], -0.5, rows[-1][3], "q")
    return Content(rows)


@st.composite
def dialects(draw: st.DrawFn) -> dict[str, Any]:
    """Reading options that go together."""
    delimiter = draw(st.sampled_from([",", ";", "\t", "|", ":"]))
    return {
        "delimiter": delimiter,
        "quote": draw(st.sampled_from(['"', "'"])),
        "decimal": draw(st.sampled_from([".", ","])),
        "encoding": draw(st.sampled_from(["utf-8", "latin-1", "utf-16", "cp1252"])),
        "skip_rows": draw(st.integers(0, 2)),
        "missing": draw(st.sampled_from([["?"], ["-999", "?"]])),
    }


def text_of(number: float | None, dialect: dict[str, Any], thousands: str = "") -> str:
    if number is None:
        return str(dialect["missing"][0])
    return f"{number:,}".replace(",", "_").replace(".", dialect["decimal"]).replace("_", thousands)


def as_csv(content: Content, dialect: dict[str, Any], order: list[int], quoting: Any) -> bytes:
    out = io.StringIO(newline="")
    for line in range(dialect["skip_rows"]):
        out.write(f"line {line}\r\n")
    writer = csv.writer(out, delimiter=dialect["delimiter"], quotechar=dialect["quote"], quoting=quoting)
    writer.writerow(["id", "t", "x", "w", "y"])
    for place in order:
        sequence, time, number, word, label = content.rows[place]
        writer.writerow([sequence, time, text_of(number, dialect, dialect.get("thousands", "")), word, label or "?"])
    return out.getvalue().encode(dialect["encoding"])


def model_of(
    path: Path | str, reading: dict[str, Any] | None, sequence: str | None = "id", order: str | None = "t"
) -> tuple[list[np.ndarray], list[str]]:
    """The weights of a model of a table, and what it predicts for the table, by sequence and time."""
    roles = {"sequence": sequence, "order": order, "features": ["x", "w"], "label": "y"}
    small: dict[str, Any] = {"units": 2, "layers": 1, "epochs": 1, "baseline": False, "verbose": False}
    model = bilstm.train(path, **roles, reading=reading, task="step-label", **small)
    table = model.open(path)
    predicted = model.predict(path)
    rows = table.sequences(sequence, order)
    return model.network.get_weights(), predicted[rows.rows].tolist()


def check_alike(one: tuple[list[np.ndarray], list[str]], other: tuple[list[np.ndarray], list[str]]) -> None:
    for mine, theirs in zip(one[0], other[0], strict=True):
        assert np.array_equal(mine, theirs)
    assert one[1] == other[1]


def plain_table(content: Content, folder: Path) -> Path:
    path = folder / "plain.csv"
    dialect = {"delimiter": ",", "quote": '"', "decimal": ".", "encoding": "utf-8", "skip_rows": 0, "missing": [""]}
    text = as_csv(content, dialect, list(range(len(content.rows))), csv.QUOTE_MINIMAL).decode()
    path.write_bytes(text.replace(",?\r\n", ",\r\n").encode())
    return path


@settings(max_examples=8)
@given(
    content=contents(),
    dialect=dialects(),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    thousands=st.sampled_from(["", " ", "'", "."]),
    seed=st.integers(0, 2**32),
    suffix=st.sampled_from([".csv", ".tsv", ".csv.gz"]),
)
def test_any_dialect_and_order_of_rows_trains_the_same_model(
    tmp_path_factory: pytest.TempPathFactory,
    content: Content,
    dialect: dict[str, Any],
    quoting: Any,
    thousands: str,
    seed: int,
    suffix: str,
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    if thousands and thousands not in (dialect["decimal"], dialect["quote"]):
        dialect["thousands"] = thousands
    # Which sequence comes first decides which is in the validation set; all other rows may stand anywhere.
    places = range(len(content.rows))
    first = [place for place in places if content.rows[place][1] == 0]
    others = [place for place in places if content.rows[place][1] > 0]
    random.Random(seed).shuffle(others)
    written = as_csv(content, dialect, first + others, quoting)
    if suffix.endswith(".gz"):
        written = gzip.compress(written)
    path = folder / f"odd{suffix}"
    path.write_bytes(written)
    check_alike(model_of(plain_table(content, folder), None), model_of(path, dialect))


def as_ndjson(content: Content, path: Path) -> None:
    names = ("id", "t", "x", "w", "y")
    lines = (json.dumps(dict(zip(names, row, strict=True))) for row in content.rows)
    path.write_text("".join(f"{line}\n" for line in lines))


def as_lists(content: Content) -> list[dict[str, Any]]:
    """A dictionary for each sequence, with a list for each column."""
    found: dict[str, dict[str, Any]] = {}
    for sequence, _, number, word, label in content.rows:
        lists = found.setdefault(sequence, {"id": sequence, "x": [], "w": [], "y": []})
        for name, cell in zip(("x", "w", "y"), (number, word, label), strict=True):
            lists[name].append(cell)
    return list(found.values())


def as_parquet(content: Content, path: Path) -> None:
    columns = zip(*content.rows, strict=True)
    parquet.write_table(pyarrow.table(dict(zip(("id", "t", "x", "w", "y"), map(list, columns), strict=True))), path)


@settings(max_examples=8)
@given(content=contents())
def test_any_format_trains_the_same_model(tmp_path_factory: pytest.TempPathFactory, content: Content) -> None:
    folder = tmp_path_factory.mktemp("tables")
    expected = model_of(plain_table(content, folder), None)
    writers: dict[str, Callable[[Content, Path], None]] = {"t.ndjson": as_ndjson, "t.parquet": as_parquet}
    for name, write in writers.items():
        write(content, folder / name)
        check_alike(expected, model_of(folder / name, None))
    sequences = as_lists(content)
    (folder / "lists.ndjson").write_text("".join(f"{json.dumps(each)}\n" for each in sequences))
    parquet.write_table(pyarrow.Table.from_pylist(sequences), folder / "lists.parquet")
    for name in ("lists.ndjson", "lists.parquet"):
        check_alike(expected, model_of(folder / name, None, sequence=None, order=None))


def parts_of(content: Content, seed: int) -> dict[str, Content]:
    """Each sequence alone, its rows in any order."""
    found: dict[str, list[Any]] = {}
    for row in content.rows:
        found.setdefault(row[0], []).append(row)
    for rows in found.values():
        random.Random(seed).shuffle(rows)
    return {name: Content(rows) for name, rows in found.items()}


@settings(max_examples=5)
@given(
    content=contents(),
    dialect=dialects(),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    seed=st.integers(0, 2**32),
    suffix=st.sampled_from([".csv", ".tsv", ".csv.gz"]),
)
def test_one_file_for_each_sequence_trains_the_same_model(
    tmp_path_factory: pytest.TempPathFactory,
    content: Content,
    dialect: dict[str, Any],
    quoting: Any,
    seed: int,
    suffix: str,
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    expected = model_of(plain_table(content, folder), None)
    for kind in (suffix, ".ndjson", ".parquet"):
        parts = folder / kind[1:]
        parts.mkdir()
        for name, part in parts_of(content, seed).items():
            path = parts / f"{name}{kind}"
            if kind == ".ndjson":
                as_ndjson(part, path)
            elif kind == ".parquet":
                as_parquet(part, path)
            else:
                written = as_csv(part, dialect, list(range(len(part.rows))), quoting)
                path.write_bytes(gzip.compress(written) if kind.endswith(".gz") else written)
        reading = dialect if kind == suffix else None
        check_alike(expected, model_of(f"{parts}/*{kind}", reading, sequence=None))
        check_alike(expected, model_of(parts, reading))  # by the column that identifies them, as one table


@settings(max_examples=8)
@given(content=contents(PLAIN_WORDS), delimiter=st.sampled_from([" ", "\t", " \t "]), named=st.booleans())
def test_columns_of_words_train_the_same_model(
    tmp_path_factory: pytest.TempPathFactory, content: Content, delimiter: str, named: bool
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    lines = ["# a comment = 1"]
    for before, (sequence, _, number, word, label) in zip([None, *content.rows], content.rows, strict=False):
        if before is not None and before[0] != sequence:
            lines.append(delimiter.strip(" ") and "\t")
        lines.append(delimiter.join([word, "NA" if number is None else str(number), label or "NA"]))
    path = folder / "t.conll"
    path.write_text("\n".join(lines) + "\n")
    small: dict[str, Any] = {"units": 2, "layers": 1, "epochs": 1, "baseline": False, "verbose": False}
    roles: dict[str, Any] = {"features": ["token", "column_2"]}
    if named:
        roles = {"features": ["w", "x"], "label": "y", "reading": {"columns": ["w", "x", "y"]}}
    if len({row[0] for row in content.rows}) == len(content.rows):
        return  # that looks like a sentence a line
    model = bilstm.train(path, **roles, **small)
    plain = bilstm.train(
        plain_table(content, folder), sequence="id", label="y", features=["w", "x"], task="step-label", **small
    )
    for mine, theirs in zip(model.network.get_weights(), plain.network.get_weights(), strict=True):
        assert np.array_equal(mine, theirs)


def read_by_others(path: Path, dialect: dict[str, Any]) -> list[list[list[str]]]:
    """The cells, column by column, by pandas, Polars and DuckDB, all as text."""
    import duckdb
    import pandas
    import polars

    frame = pandas.read_csv(
        path,
        sep=dialect["delimiter"],
        quotechar=dialect["quote"],
        skiprows=dialect["skip_rows"],
        encoding=dialect["encoding"],
        dtype=str,
        keep_default_na=False,
        skip_blank_lines=True,
    )
    found = [[frame[name].tolist() for name in frame.columns]]
    text = path.read_bytes().decode(dialect["encoding"])
    table = polars.read_csv(
        io.BytesIO(text.encode()),
        separator=dialect["delimiter"],
        quote_char=dialect["quote"],
        skip_lines=dialect["skip_rows"],
        infer_schema=False,
    ).fill_null("")
    found.append([table[name].to_list() for name in table.columns])
    copy = path.with_name("utf8.csv")
    copy.write_bytes(text.encode())
    quote = dialect["quote"].replace("'", "''")
    rows = duckdb.connect().execute(
        f"SELECT * FROM read_csv('{copy}', delim = '{dialect['delimiter']}', quote = '{quote}', escape = '{quote}', "
        f"skip = {dialect['skip_rows']}, header = true, all_varchar = true, nullstr = '\x01', auto_detect = false, "
        f"columns = {{{', '.join(f'{name!r}: {chr(39)}VARCHAR{chr(39)}' for name in ('id', 't', 'x', 'w', 'y'))}}})"
    )
    found.append([list(column) for column in zip(*rows.fetchall(), strict=True)])
    return found


@settings(max_examples=15)
@given(
    content=contents(),
    dialect=dialects(),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
)
def test_pandas_polars_and_duckdb_read_the_same_cells(
    tmp_path_factory: pytest.TempPathFactory, content: Content, dialect: dict[str, Any], quoting: Any
) -> None:
    path = tmp_path_factory.mktemp("tables") / "odd.csv"
    path.write_bytes(as_csv(content, dialect, list(range(len(content.rows))), quoting))
    said = {name: dialect[name] for name in ("delimiter", "quote", "encoding", "skip_rows")}
    table = read_table(path, reading=ReadingOptions(**said))
    ours = [["" if cell is None else cell for cell in table.texts(name)] for name in table.names]
    for theirs in read_by_others(path, dialect):
        assert [[cell.replace("\r\n", "\n") for cell in column] for column in theirs] == ours
    if dialect["delimiter"] != ":" and not dialect["skip_rows"]:  # then nothing need be said about them
        guessing = read_table(path, reading=ReadingOptions(encoding=dialect["encoding"], quote=dialect["quote"]))
        assert [["" if cell is None else cell for cell in guessing.texts(name)] for name in guessing.names] == ours


@settings(max_examples=25)
@given(content=contents(PLAIN_WORDS), place=st.integers(0, 10**6), character=st.sampled_from('",;\n\t'))
def test_a_damaged_file_is_refused_by_its_line_or_read_as_pandas_does(
    tmp_path_factory: pytest.TempPathFactory, content: Content, place: int, character: str
) -> None:
    import pandas

    path = tmp_path_factory.mktemp("tables") / "damaged.csv"
    text = plain_table(content, path.parent).read_bytes().decode()
    start = text.index("\r\n") + 2
    place = start + place % (len(text) - start)
    damaged = text[:place] + character + text[place:]
    path.write_bytes(damaged.encode())
    try:
        table = read_table(path)
    except UserError as error:
        assert "line " in str(error)  # noqa: PT017
        return
    try:
        theirs = pandas.read_csv(path, dtype=str, keep_default_na=False, index_col=False)
    except pandas.errors.ParserError:
        pytest.fail("pandas refuses what was read")
    if table.rows != len(theirs):
        return  # pandas passes over cells that are too many, and does not say so
    for name in table.names:
        assert [cell or "" for cell in table.texts(name)] == theirs[name].tolist()
