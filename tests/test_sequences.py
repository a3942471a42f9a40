"""Sequences are the rows that share a value, in order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilstm.data.reading import read_table
from bilstm.data.sequences import find_sequences
from bilstm.data.sources import open_table
from bilstm.errors import UserError


def written(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


@settings(max_examples=25)
@given(
    keys=st.lists(
        st.tuples(st.sampled_from(["a", "b", "A", "1", "1.0", "é"]), st.integers(-50, 50)), min_size=1, unique=True
    ),
    suffix=st.sampled_from([".csv", ".ndjson"]),
)
def test_rows_are_grouped_and_sorted(
    tmp_path_factory: pytest.TempPathFactory, keys: list[tuple[str, int]], suffix: str
) -> None:
    path = tmp_path_factory.mktemp("tables") / f"table{suffix}"
    if suffix == ".csv":
        written(path, "id,t\n" + "".join(f"{key},{order}\n" for key, order in keys))
    else:
        written(path, "".join(f'{{"id": "{key}", "t": {order}}}\n' for key, order in keys))
    found = find_sequences(read_table(path), "id", "t")
    expected: dict[str, list[int]] = {}
    for row, (key, _) in enumerate(keys):
        expected.setdefault(key, []).append(row)
    for rows in expected.values():
        rows.sort(key=lambda row: keys[row][1])
    assert [found.rows[a:b].tolist() for a, b in zip(found.offsets, found.offsets[1:], strict=False)] == list(
        expected.values()
    )


@settings(max_examples=25)
@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_without_an_order_rows_stay_as_they_stand(tmp_path_factory: pytest.TempPathFactory, lengths: list[int]) -> None:
    path = tmp_path_factory.mktemp("tables") / "table.csv"
    written(path, "id,x\n" + "".join(f"s{i},0\n" for i, length in enumerate(lengths) for _ in range(length)))
    found = find_sequences(read_table(path), "id")
    assert np.diff(found.offsets).tolist() == lengths
    assert found.rows.tolist() == list(range(sum(lengths)))


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["10", "9", "-1"], [2, 1, 0]),
        (["1e1", "9.5", "1"], [2, 1, 0]),
        (["9007199254740993", "9007199254740992"], [1, 0]),  # neighbours that float64 cannot tell apart
        (["2024-03-01", "2024-02-28 12:00:00", "2024-02-28 11:59:59.5"], [2, 1, 0]),
        (["2024-03-01T00:00:00Z", "2024-02-28T12:00:00Z"], [1, 0]),
        (["12:00:01", "11:59:00"], [1, 0]),
        ([" 2", "1 "], [1, 0]),
    ],
)
def test_what_gives_an_order(tmp_path: Path, cells: list[str], expected: list[int]) -> None:
    path = written(tmp_path / "table.csv", "id,t\n" + "".join(f"a,{cell}\n" for cell in cells))
    assert find_sequences(read_table(path), "id", "t").rows.tolist() == expected
    in_memory = open_table({"id": ["a"] * len(cells), "t": cells}, sequence="id")
    assert in_memory.sequences("id", "t").rows.tolist() == expected


@pytest.mark.parametrize(
    "column",
    [
        "i::BIGINT + 9007199254740992",
        "i / 3",
        "TIMESTAMP_NS '2024-01-01 00:00:00' + i",
        "DATE '2024-01-01' + i::INT",
        "'' || i",
    ],
)
def test_parquet_orders(tmp_path: Path, column: str) -> None:
    import duckdb

    path = tmp_path / "table.parquet"
    if "_NS" in column:
        column = "make_timestamp_ns(1700000000000000000 + i)"
    duckdb.connect().execute(
        f"COPY (SELECT 1 AS id, {column} AS t FROM range(5) AS r(i) ORDER BY i DESC) TO '{path}' (FORMAT parquet)"
    ).fetchall()
    assert find_sequences(read_table(path), "id", "t").rows.tolist() == [4, 3, 2, 1, 0]


@pytest.mark.parametrize(
    ("content", "order", "message"),
    [
        ("id,t\na,1\n,2\n", None, "line 3: the cell in column 'id', the row's sequence, is missing"),
        ("id,t\na,1\nb,2\na,3\n", None, "line 4: sequence 'a' is not contiguous: it continues after rows"),
        ("id,t\na,1\nb,1\na,1\n", "t", "line 4: sequence 'a' has t '1' a second time, after line 2"),
        ("id,t\na,1\na,1.0\n", "t", r"line 3: sequence 'a' has t '1.0' a second time, after line 2"),
        ("id,t\na,1\na,\n", "t", "line 3: the cell is missing in column 't', which gives the order of the rows"),
        ("id,t\na,1\na,NA\n", "t", "line 3: 'NA' is neither a number nor a date in column 't'"),
        ("id,t\na,1\na,x\na,2.5\n", "t", "line 3: 'x' is neither a number nor a date in column 't'"),
        ("id,t\na,2024-01-01\na,2024-13-01\n", "t", "line 3: '2024-13-01' is neither a number nor a date"),
        ("id,t\na,1\n", "time", r"has no column 'time' \(the order within a sequence\)"),
        ("ID,t\na,1\n", None, r"has no column 'id' \(the sequence of each row\). Did you mean 'ID'\?"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, content: str, order: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_sequences(read_table(written(tmp_path / "table.csv", content)), "id", order)
