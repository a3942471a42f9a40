"""Data frames of pandas, Polars and PyArrow become the same tables in memory; what cannot is refused in words."""

# ruff: noqa: E501 - one case a row
from __future__ import annotations

import datetime
import decimal
import math
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilstm.data.frames import is_frame, read_columns, read_frame
from bilstm.data.memory import number_text
from bilstm.data.schema import read_numbers
from bilstm.data.sources import open_table
from bilstm.errors import UserError
from bilstm.model.columns import ColumnOptions, choose_features

Make = Callable[[dict[str, Any]], Any]


def arrow_backed(columns: dict[str, Any]) -> Any:
    return pa.table(columns).to_pandas(types_mapper=pd.ArrowDtype)


LIBRARIES: dict[str, Make] = {
    "pandas": pd.DataFrame,
    "pandas with Arrow": arrow_backed,
    "Polars": pl.DataFrame,
    "PyArrow": pa.table,
}
EACH = pytest.mark.parametrize("make", LIBRARIES.values(), ids=LIBRARIES)


def same(found: Any, expected: list[Any]) -> bool:
    """Whether the cells are equal, NaN to NaN."""
    pairs = zip(found.tolist(), expected, strict=True)
    return all(a == b or (a != a and b != b) for a, b in pairs)


# --- Sequences -------------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(-9, 9)), min_size=1, max_size=20, unique=True))
def test_rows_are_sorted_within_their_sequences(rows: list[tuple[str, int]]) -> None:
    names = list(dict.fromkeys(name for name, _ in rows))
    expected = [sorted((row for row in rows if row[0] == name), key=lambda row: row[1]) for name in names]
    table = {"id": [name for name, _ in rows], "t": [time for _, time in rows]}
    for make in LIBRARIES.values():
        found = read_frame(make(table)).sequences("id", "t")
        parts = np.split(found.rows, found.offsets[1:-1])
        assert [[rows[row] for row in part] for part in parts] == expected


DAYS = [datetime.date(2026, 3, 2), datetime.date(2026, 1, 3), datetime.date(2026, 2, 1)]
ORDERS: dict[str, list[Any]] = {
    "whole numbers": [2**60 + 1, 2**60 - 1, 2**60],
    "fractions": [0.5, -1.5, 0.25],
    "decimals": [decimal.Decimal("1.50"), decimal.Decimal("-1.00"), decimal.Decimal("1.20")],
    "dates": DAYS,
    "times": [datetime.datetime.combine(day, datetime.time(4, 5)) for day in DAYS],
    "times of a zone": [datetime.datetime.combine(day, datetime.time(4), datetime.UTC) for day in DAYS],
    "times of a day": [datetime.time(3), datetime.time(1), datetime.time(2)],
    "durations": [datetime.timedelta(3), datetime.timedelta(1), datetime.timedelta(2)],
}


@EACH
@pytest.mark.parametrize("values", ORDERS.values(), ids=ORDERS)
def test_whatever_has_an_order_orders(make: Make, values: list[Any]) -> None:
    table = read_frame(make({"id": [7, 7, 7], "t": values, "x": [0.0, 1.0, 2.0]}))
    assert table.sequences("id", "t").rows.tolist() == [1, 2, 0]


@EACH
@pytest.mark.parametrize(
    "ids", [["b", "b", "a"], [2, 2, 1], [2.5, 2.5, -1.0], [True, True, False], DAYS[:1] * 2 + DAYS[1:2]]
)
def test_whatever_tells_sequences_apart(make: Make, ids: list[Any]) -> None:
    found = read_frame(make({"id": ids, "x": [1, 2, 3]})).sequences("id")
    assert found.offsets.tolist() == [0, 2, 3]
    assert found.rows.tolist() == [0, 1, 2]


# --- Columns ---------------------------------------------------------------------------------------------------------

NAN = math.nan
# What a column's cells are: its kind, the numbers, NaN where missing or text, and the texts.
LARGE = 2**60 + 1
COLUMNS: dict[str, tuple[list[Any], str, list[Any], list[Any]]] = {
    "fractions": ([0.5, None, -2.0], "number", [0.5, NAN, -2.0], ["0.5", None, "-2"]),
    "NaN": ([0.5, NAN, -2.0], "number", [0.5, NAN, -2.0], ["0.5", None, "-2"]),
    "large fractions": ([1e22, 1e-7, 3.0], "number", [1e22, 1e-7, 3.0], ["1e+22", "1e-07", "3"]),
    "whole numbers": ([3, 1, 2], "number", [3.0, 1.0, 2.0], ["3", "1", "2"]),
    "large numbers": (
        [LARGE, LARGE + 1, 2],
        "number",
        [float(LARGE), float(LARGE), 2.0],
        [str(LARGE), str(LARGE + 1), "2"],
    ),
    "booleans": ([True, False, True], "boolean", [1.0, 0.0, 1.0], ["true", "false", "true"]),
    "booleans, one missing": ([True, None, False], "boolean", [1.0, NAN, 0.0], ["true", None, "false"]),
    "decimals": ([decimal.Decimal("1.5")] * 3, "number", [1.5, 1.5, 1.5], ["1.5"] * 3),
    "strings": (["a", "", "7"], "text", [NAN] * 3, ["a", None, "7"]),
    "strings, one missing": (["a", None, "b"], "text", [NAN] * 3, ["a", None, "b"]),
    "nothing": ([None, None, None], "number", [NAN, NAN, NAN], [None] * 3),
}


@EACH
@pytest.mark.parametrize(("cells", "kind", "numbers", "texts"), COLUMNS.values(), ids=COLUMNS)
def test_columns(make: Make, cells: list[Any], kind: str, numbers: list[Any], texts: list[Any]) -> None:
    table = read_frame(make({"id": [1, 1, 2], "x": cells}))
    assert table.kinds["x"] == kind
    assert same(table.numbers("x"), numbers)
    assert table.texts("x").tolist() == texts
    assert [table.cell("x", row) for row in range(3)] == [text or "" for text in texts]
    assert table.values("x", np.array([2, 0])) == [texts[2], texts[0]]
    assert dict(table.counts("x", np.array([True, False, True]))) == dict(Counter(t or "" for t in texts[::2]))
    profile = table.profile("x")
    assert profile.present == sum(text is not None for text in texts)
    assert profile.numbers == (0 if kind == "text" else profile.present)
    assert profile.other == (0 if kind == "text" else None)
    fractions = [row for row, number in enumerate(numbers) if number % 1 > 0]
    assert profile.fraction == (fractions[0] if fractions else None)


@pytest.mark.parametrize("make", [pl.DataFrame, pa.table, arrow_backed])
def test_whole_numbers_of_which_some_are_missing(make: Make) -> None:
    table = read_frame(make({"x": [LARGE, None, LARGE + 1]}))
    assert table.texts("x").tolist() == [str(LARGE), None, str(LARGE + 1)]
    unsigned = read_frame(pl.DataFrame({"x": pl.Series([2**64 - 1, 2**64 - 2], dtype=pl.UInt64), "id": [1, 1]}))
    assert unsigned.texts("x").tolist() == [str(2**64 - 1), str(2**64 - 2)]
    assert unsigned.sequences("id", "x").rows.tolist() == [1, 0]


@given(st.floats(allow_nan=False))
def test_a_number_as_text_is_that_number(value: float) -> None:
    assert float(number_text(value)) == value
    assert not number_text(value).endswith(".0")


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(pd.Categorical(["u", None, "v"])),
        pd.Series(["u", None, "v"], dtype="string"),
        pd.Series(["u", pd.NA, "v"], dtype=object),
        pl.Series(["u", None, "v"], dtype=pl.Categorical),
        pl.Series(["u", None, "v"], dtype=pl.Enum(["v", "u"])),
        pa.array(["u", None, "v"]).dictionary_encode(),
        pa.array(["u", None, "v"], pa.large_string()),
    ],
    ids=lambda column: f"{type(column).__module__.partition('.')[0]} {getattr(column, 'dtype', None) or column.type}",
)
def test_categories_are_strings(column: Any) -> None:
    library = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}
    table = library[type(column).__module__.partition(".")[0]]({"id": [1, 1, 2], "w": column})
    assert read_frame(table).texts("w").tolist() == ["u", None, "v"]


@pytest.mark.parametrize("cells", [[1, 2, 1], [1, None, 1]])
def test_categories_that_are_numbers_are_strings_too(cells: list[Any]) -> None:
    table = pd.DataFrame({"id": [1, 1, 2], "w": pd.Categorical(cells)})
    found = read_frame(table).texts("w").tolist()
    assert found == [None if cell is None else str(cell) for cell in cells]


@EACH
def test_columns_that_were_passed_alone(make: Make) -> None:
    y = [5, 6, 5, 6]
    table = make({"y": y, "x": [1, 2, 3, 4]})
    for form, names in ((make({"y": y}), ["y"]), (table, ["y", "x"]), (table["y"], [getattr(table["y"], "name", "")])):
        columns = read_columns(form)
        assert columns is not None
        assert [name or "" for name, _ in columns] == [name or "" for name in names]
        assert columns[0][1].values.tolist() == y
    for other in (y, np.array(y), "y", None, [make({"y": y})]):
        assert read_columns(other) is None


# --- What is refused -------------------------------------------------------------------------------------------------

TABLE: dict[str, Any] = {"id": [1, 1, 2], "t": [1, 2, 1], "x": [1.0, 2.0, 3.0], "y": ["a", "b", "a"]}


def features(table: Any) -> Any:
    return choose_features(read_frame(table), ColumnOptions("id", ("y",), "t"))


@EACH
@pytest.mark.parametrize(
    ("change", "use", "message"),
    [
        ({}, lambda t: read_frame(t).sequences("key"), "X has no column 'key' (the sequence of each row). Its columns: 'id', 't', 'x', 'y'"),
        ({}, lambda t: read_frame(t).sequences("ID"), "X has no column 'ID' (the sequence of each row). Did you mean 'id'? Its columns"),
        ({}, lambda t: read_frame(t).sequences("id", "time"), "X has no column 'time' (the order within a sequence)."),
        ({}, lambda t: read_frame(t).sequences("id", "y"), "column 'y' of X holds text, which cannot order rows: convert it to numbers, d"),
        ({"id": [1, None, 2]}, lambda t: read_frame(t).sequences("id"), "row 1 of X: the cell in column 'id', the row's sequence, is missing"),
        ({"id": [1.0, 1.0, NAN]}, lambda t: read_frame(t).sequences("id"), "row 2 of X: the cell in column 'id', the row's sequence, is mis"),
        ({"id": ["a", "a", ""]}, lambda t: read_frame(t).sequences("id"), "row 2 of X: the cell in column 'id', the row's sequence, is missing"),
        ({"t": [1, 2, None]}, lambda t: read_frame(t).sequences("id", "t"), "row 2 of X: the cell in column 't', the order, is missing"),
        ({"t": [1, 1, 1]}, lambda t: read_frame(t).sequences("id", "t"), "row 1 of X: sequence '1' has t '1' a second time, after row 0 of X"),
        ({"id": [1, 2, 1]}, lambda t: read_frame(t).sequences("id"), "row 2 of X: sequence '1' is not contiguous: it continues after rows of"),
        ({"x": DAYS}, features, "column 'x' of X holds dates or times, which are no features as they are; use it as the order (--order x)"),
        ({"x": [b"1", b"2", b"3"]}, features, "column 'x' of X holds lists or objects; give each number a column of its own"),
        ({"x": [1.0, math.inf, 2.0]}, lambda t: read_numbers(read_frame(t), "x"), "row 1 of X: 'inf' in column 'x' is infinite"),
        ({"x": ["1", "a", "2"]}, lambda t: read_numbers(read_frame(t), "x"), "row 0 of X: '1' in column 'x' is not a number"),
        ({name: [] for name in TABLE}, read_frame, "X has no rows: 0 sample(s) while a minimum of 1 is required."),
    ],
)  # fmt: skip
def test_tables_that_do_not_serve(make: Make, change: dict[str, Any], use: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(UserError, match="^" + re.escape(message)):
        use(make(TABLE | change))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pl.LazyFrame({"id": [1]}), "X is a polars LazyFrame that cannot be read ("),
        (pd.DataFrame([[1, 2]], columns=["id", "id"]), "X is a pandas DataFrame that cannot be read ("),
        (pd.DataFrame({"id": [1], 5: [2]}), "X has a column named 5: the names of columns must be strings"),
    ],
)
def test_what_is_no_table_of_named_columns(table: Any, message: str) -> None:
    assert is_frame(table)
    with pytest.raises(UserError, match="^" + re.escape(message)):
        read_frame(table)


def test_columns_of_several_kinds() -> None:
    table = read_frame(pd.DataFrame({"id": [1, 1], "x": [1, "a"], "n": [{}, []]}))
    for use in (table.profile, table.texts, table.numbers):
        with pytest.raises(UserError, match="^column 'x' of X holds values of several kinds: make it all numbers or"):
            use("x")
    assert table.kinds["n"] == "nested"
    assert table.sequences("id").offsets.tolist() == [0, 2]  # it may be left out


def test_whole_numbers_that_no_float_holds_are_infinite() -> None:
    table = open_table({"id": [1, 1], "x": [-(10**400), 1]}, sequence="id")
    with pytest.raises(UserError, match="^row 0 of X: '-inf' in column 'x' is infinite"):
        read_numbers(table, "x")


def test_a_list_identifies_no_sequences() -> None:
    table = read_frame(pd.DataFrame({"id": [[1], [2]], "x": [1, 2]}), long=True)
    with pytest.raises(UserError, match="^column 'id' of X holds lists or objects; the row's sequence is one value"):
        table.sequences("id")


@pytest.mark.parametrize("X", [[[1.0]], np.zeros((2, 3)), None, "text", pd.DataFrame(np.zeros((2, 3))), pd.Series([1])])
def test_what_is_no_table(X: Any) -> None:
    assert not is_frame(X)
