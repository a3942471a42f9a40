"""Tables of pandas, Polars and PyArrow become the same sequences; what cannot is refused in words."""

# ruff: noqa: E501 - one case a row
from __future__ import annotations

import datetime
import decimal
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilstm.inputs.frames import Frame, is_frame
from bilstm.inputs.steps import StepEncoder

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
        frame = Frame(make(table), "id", "t")
        parts = np.split(frame.rows, frame.offsets[1:-1])
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
    frame = Frame(make({"id": [7, 7, 7], "t": values, "x": [0.0, 1.0, 2.0]}), "id", "t")
    assert frame.rows.tolist() == [1, 2, 0]
    assert frame.steps(["x"]).columns["x"].tolist() == [1.0, 2.0, 0.0]
    assert frame.features() == ["x"]


@EACH
@pytest.mark.parametrize(
    "ids", [["b", "b", "a"], [2, 2, 1], [2.5, 2.5, -1.0], [True, True, False], DAYS[:1] * 2 + DAYS[1:2]]
)
def test_whatever_tells_sequences_apart(make: Make, ids: list[Any]) -> None:
    frame = Frame(make({"id": ids, "x": [1, 2, 3]}), "id")
    assert frame.offsets.tolist() == [0, 2, 3]
    assert frame.rows.tolist() == [0, 1, 2]


# --- Columns ---------------------------------------------------------------------------------------------------------

NAN = math.nan
COLUMNS: dict[str, tuple[list[Any], list[Any]]] = {
    "fractions": ([0.5, None, -2.0], [0.5, NAN, -2.0]),
    "NaN": ([0.5, NAN, -2.0], [0.5, NAN, -2.0]),
    "whole numbers": ([3, 1, 2], [3.0, 1.0, 2.0]),
    "whole numbers, one missing": ([3, None, 2], [3.0, NAN, 2.0]),
    "booleans": ([True, False, True], [1.0, 0.0, 1.0]),
    "booleans, one missing": ([True, None, False], [1.0, NAN, 0.0]),
    "decimals": ([decimal.Decimal("1.5")] * 3, [1.5, 1.5, 1.5]),
    "strings": (["a", "", "7"], ["a", "", "7"]),
    "strings, one missing": (["a", None, "b"], ["a", None, "b"]),
    "nothing": ([None, None, None], [NAN, NAN, NAN]),
}


@EACH
@pytest.mark.parametrize(("cells", "expected"), COLUMNS.values(), ids=COLUMNS)
def test_columns(make: Make, cells: list[Any], expected: list[Any]) -> None:
    column = Frame(make({"id": [1, 1, 2], "x": cells}), "id").steps(["x"]).columns["x"]
    assert column.dtype == (object if any(isinstance(cell, str) for cell in cells) else np.float64)
    assert same(column, expected)


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
    assert Frame(table, "id").steps(["w"]).columns["w"].tolist() == ["u", None, "v"]


@pytest.mark.parametrize("cells", [[1, 2, 1], [1, None, 1]])
def test_categories_that_are_numbers_are_strings_too(cells: list[Any]) -> None:
    table = pd.DataFrame({"id": [1, 1, 2], "w": pd.Categorical(cells)})
    found = Frame(table, "id").steps(["w"]).columns["w"].tolist()
    assert found == [None if cell is None else str(cell) for cell in cells]


@EACH
def test_what_the_encoder_says_of_unknown_values(make: Make) -> None:
    fitted = Frame(make({"id": [1, 1, 1, 2], "w": ["a", "a", "b", "b"], "x": [1.0, 2.0, 3.0, 4.0]}), "id").steps(
        ["w", "x"]
    )
    encoder = StepEncoder.fit(fitted)
    assert encoder.notes(encoder.encode(fitted)) == []
    new = Frame(make({"id": [1, 1, 2], "w": ["a", "c", None], "x": [1.0, None, 3.0]}), "id").steps(["w", "x"])
    assert encoder.encode(new).values[:, 1].tolist() == [1, 0, 0]
    assert encoder.notes(encoder.encode(new)) == ["w: 2 values of 3 (66.7 %) unknown to the model"]


@EACH
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": ["a", "b", "a"]}, "column 'x' of X holds strings, but in the fit it held numbers"),
        ({"w": [1, 2, 3]}, "column 'w' of X holds numbers, but in the fit it held strings"),
        ({"x": [1.0, 1e39, 1.0]}, "X has 1e+39 in row 1, column 'x', too far from the numbers of the fit"),
    ],
)
def test_columns_unlike_those_of_the_fit(make: Make, change: dict[str, Any], message: str) -> None:
    table = {"id": [1, 1, 2], "w": ["a", "b", "a"], "x": [1.0, 2.0, 3.0]}
    encoder = StepEncoder.fit(Frame(make(table), "id").steps(["w", "x"]))
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        encoder.encode(Frame(make(table | change), "id").steps(["w", "x"]))
    empty = {"w": [None] * 3, "x": [None] * 3}  # of no type, or of any
    assert encoder.encode(Frame(make(table | empty), "id").steps(["w", "x"])).values.tolist() == [[0, 0]] * 3


# --- What comes with it ----------------------------------------------------------------------------------------------


@EACH
def test_labels_and_groups_in_all_forms(make: Make) -> None:
    columns = {"id": ["b", "a", "b", "a"], "t": [1, 2, 0, 1], "y": [5, 6, 5, 6], "x": [1, 2, 3, 4]}
    table = make(columns)
    frame = Frame(table, "id", "t")
    y = columns["y"]
    given: list[Any] = ["y", table["y"], make({"y": y}), y, np.array(y), np.array(y)[:, np.newaxis], pl.Series("y", y)]
    for form in given:
        assert [part.tolist() for part in frame.by_step(form, "y")] == [[5, 5], [6, 6]]
        assert frame.by_sequence(form, "y").tolist() == [5, 6]
    assert frame.features(y="y", groups=None) == ["x"]
    assert frame.features(y=y) == ["y", "x"]
    assert frame.features(y=pl.Series("z", y)) == ["y", "x"]
    for form in [given[2], *([] if isinstance(table, pa.Table) else given[1:2])]:  # PyArrow's columns have no name
        with pytest.raises(
            ValueError, match="groups is called 'y', as is a column of X, which would be learnt from: d"
        ):
            frame.features(groups=form)


@EACH
def test_missing_labels_are_none(make: Make) -> None:
    frame = Frame(make({"id": [1, 1, 2], "y": ["a", None, "b"], "n": [1, None, 2], "x": [1, 2, 3]}), "id")
    assert [part.tolist() for part in frame.by_step("y", "y")] == [["a", None], ["b"]]
    assert [part.tolist() for part in frame.by_step("n", "y")] == [[1, None], [2]]


# --- What is refused -------------------------------------------------------------------------------------------------

TABLE: dict[str, Any] = {"id": [1, 1, 2], "t": [1, 2, 1], "x": [1.0, 2.0, 3.0], "y": ["a", "b", "a"]}


@EACH
@pytest.mark.parametrize(
    ("change", "use", "message"),
    [
        ({}, lambda t: Frame(t, None), "X is a table, a row for each step: name the column that tells its sequences ap"),
        ({}, lambda t: Frame(t, "key"), "X has no column 'key' (the sequence of each row). Its columns: 'id', 't', 'x', 'y'"),
        ({}, lambda t: Frame(t, "ID"), "X has no column 'ID' (the sequence of each row). Did you mean 'id'? Its columns"),
        ({}, lambda t: Frame(t, "id", "time"), "X has no column 'time' (the order within a sequence)."),
        ({}, lambda t: Frame(t, "id", "id"), "the sequence and the order are two columns, but both are 'id'"),
        ({}, lambda t: Frame(t, "id", "y"), "column 'y' of X holds text, which cannot order rows: make numbers, dates or t"),
        ({"id": [1, None, 2]}, lambda t: Frame(t, "id"), "row 1 of X has no value in column 'id', the sequence of each row"),
        ({"id": [1.0, 1.0, NAN]}, lambda t: Frame(t, "id"), "row 2 of X has no value in column 'id', the sequence of each"),
        ({"t": [1, 2, None]}, lambda t: Frame(t, "id", "t"), "row 2 of X has no value in column 't', the order within a s"),
        ({"t": [1, 1, 1]}, lambda t: Frame(t, "id", "t"), "row 1 of X: sequence '1' has t '1' a second time, after row 0"),
        ({"id": [1, 2, 1]}, lambda t: Frame(t, "id"), "row 2 of X: sequence '1' goes on after rows of another one; sort t"),
        ({}, lambda t: Frame(t, "id").steps(["z"]), "X has no column 'z' (a feature). Its columns: 'id', 't', 'x', 'y'"),
        ({"x": DAYS}, lambda t: Frame(t, "id").steps(["x"]), "column 'x' of X holds dates or times, which are no feature as they are: use it as the order (order='x'), make numbers of it such as the hour, or leave it out"),
        ({"x": [[1], [2], [3]]}, lambda t: Frame(t, "id").steps(["x"]), "column 'x' of X holds lists or bytes, which are no feature as they are: give each number a column of its own, or leave it out"),
        ({"x": [1.0, math.inf, 2.0]}, lambda t: Frame(t, "id").steps(["x"]), "X has inf in row 1, column 'x': give finite numbers, or NaN"),
        ({}, lambda t: Frame(t, "id").features(a="t", b="x", c="y"), "X has no column left to learn from: 0 feature(s); its columns: 'id', 't', 'x', 'y'"),
        ({}, lambda t: Frame(t, "id").by_step("label", "y"), "X has no column 'label' (y). Its columns"),
        ({}, lambda t: Frame(t, "id").by_step([1, 2], "y"), "Found input variables with inconsistent numbers of samples: X has 3 rows, but y has shape (2,)"),
        ({}, lambda t: Frame(t, "id").by_sequence("y", "y"), "row 1 of X has 'b' in y, but its sequence '1' begins with 'a': all rows of a sequence share one value"),
        ({"y": ["a", None, "b"]}, lambda t: Frame(t, "id").by_sequence("y", "groups"), "row 1 of X has no value in groups"),
        ({"y": [1.0, NAN, 1.0]}, lambda t: Frame(t, "id").by_sequence("y", "groups"), "row 1 of X has no value in groups"),
        ({name: [] for name in TABLE}, lambda t: Frame(t, "id"), "X has no rows: 0 sample(s) while a minimum of 1 is required."),
    ],
)  # fmt: skip
def test_tables_that_do_not_serve(make: Make, change: dict[str, Any], use: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        use(make(TABLE | change))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pl.LazyFrame({"id": [1]}), "X is a polars LazyFrame that cannot be read ("),
        (pd.DataFrame([[1, 2]], columns=["id", "id"]), "X is a pandas DataFrame that cannot be read ("),
        (pd.DataFrame({"id": [1], 5: [2]}), "X has a column named 5: the names of columns must be strings"),
        (pd.DataFrame({"id": [[1]], "x": [2]}), "column 'id' of X holds lists, which tell no sequences apart"),
    ],
)
def test_what_is_no_table_of_named_columns(table: Any, message: str) -> None:
    assert is_frame(table)
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        Frame(table, "id")


def test_columns_of_several_kinds() -> None:
    table = pd.DataFrame({"id": [1, 1], "x": [1, "a"]})
    with pytest.raises(
        ValueError, match="column 'x' of X holds values of several kinds, which are no feature as they are: m"
    ):
        Frame(table, "id").steps(["x"])


@pytest.mark.parametrize("X", [[[1.0]], np.zeros((2, 3)), None, "text", pd.DataFrame(np.zeros((2, 3))), pd.Series([1])])
def test_what_is_no_table(X: Any) -> None:
    assert not is_frame(X)
