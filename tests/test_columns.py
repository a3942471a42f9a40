"""Columns become the numbers that a model takes, and a hostile description of them is refused."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bilstm.data.columns import Columns, Encoded
from bilstm.data.features import CategoricalColumn, NumericColumn
from bilstm.data.reading import read_table
from bilstm.data.table import Table
from bilstm.errors import ModelFileError, UserError
from bilstm.ragged import Ragged

COLUMNS = Columns(
    sequence="id",
    order="t",
    label="label",
    classes=("a", "b", "c"),
    numeric=(NumericColumn("x", mean=2.0, scale=4.0), NumericColumn("y", mean=0.0, scale=1.0, missing=3)),
    categorical=(CategoricalColumn("word", ("the", "a", ""), 5),),
)


def table(folder: Path, content: str, name: str = "table.csv") -> Table:
    (folder / name).write_text(content)
    return read_table(folder / name)


LARGEST = np.finfo(np.float64).max
NUMBERS = hnp.arrays(np.float64, st.integers(1, 20), elements=st.floats(allow_infinity=False))


@given(NUMBERS)
@example(np.array([-9.46e306] * 19 + [1.797e308]))
@example(np.array([-LARGEST, LARGEST]))
@example(np.array([LARGEST, LARGEST, np.nan, -LARGEST]))
@example(np.array([LARGEST] * 13 + [np.nextafter(LARGEST, 0)] * 7))
def test_numbers_are_standardised(numbers: np.ndarray) -> None:
    column = NumericColumn.fit("x", numbers)
    present = numbers[~np.isnan(numbers)]
    assert np.isfinite(column.mean)
    assert 0 < column.scale < np.inf
    assert column.missing == len(numbers) - len(present)
    encoded = column.encode(numbers)
    assert len(encoded) == column.width == (2 if column.missing else 1)
    values = encoded[0]
    assert np.isfinite(values).all()
    assert (values[np.isnan(numbers)] == 0).all()
    if column.missing:
        np.testing.assert_array_equal(encoded[1], np.isnan(numbers))
    values = values[~np.isnan(numbers)]
    largest = np.abs(present).max(initial=0)
    if largest > 1e-150 and np.ptp(present / largest) > 1e-6:  # not where squares vanish
        assert abs(values.mean()) < 1e-6
        assert abs(values.std() - 1) < 1e-6


@pytest.mark.parametrize("value", [0.0, 0.1, -1e300, 5e-324])
def test_a_constant_column_has_scale_one(value: float) -> None:
    column = NumericColumn.fit("x", np.full(7, value))
    assert column.scale == 1
    np.testing.assert_allclose(column.encode(np.full(7, value))[0], 0, atol=1e285 if abs(value) > 1 else 1e-12)


@given(st.lists(st.sampled_from(["a", "b", "B", " ", "é", None, ""]), max_size=20))
def test_values_seen_once_are_unknown(texts: list[str | None]) -> None:
    column = CategoricalColumn.fit("word", texts)
    cells = [text or "" for text in texts]
    assert set(column.vocabulary) == {text for text in cells if cells.count(text) > 1}
    assert column.distinct == len(set(cells))
    counts = [cells.count(text) for text in column.vocabulary]
    assert counts == sorted(counts, reverse=True)
    indices = column.encode(texts)
    assert indices.max(initial=0) < column.size
    for text, index in zip(cells, indices, strict=True):
        assert (index == 0) == (cells.count(text) == 1)
        assert index == 0 or column.vocabulary[index - 1] == text
    assert column.encode(["never seen"]) == 0


def test_a_table_becomes_what_the_model_takes(tmp_path: Path) -> None:
    found = COLUMNS.encode(
        table(tmp_path, "word,label,y,x,t,id\nthe,a,1,2,2,p\nnew,,NA,6,1,p\n,c,-1,-2,0,q\n"), need_labels=True
    )
    assert found.values.offsets.tolist() == [0, 2, 3]
    assert found.rows.tolist() == [1, 0, 2]
    assert found.values.values.tolist() == [[1, 0, 1, 0], [0, 1, 0, 1], [-1, -1, 0, 3]]
    assert found.labels.dtype == np.int32
    assert found.labels.tolist() == [-1, 0, 2]
    assert found.notes == (
        "y: 1 missing, filled with the mean of the training rows",
        "word: 1 value of 3 (33.3 %) unknown to the model",
    )
    assert COLUMNS.numeric_width == 3
    assert COLUMNS.vocabularies == [4]
    assert found.values.features == COLUMNS.numeric_width + len(COLUMNS.vocabularies)


def test_without_need_the_labels_are_not_looked_at(tmp_path: Path) -> None:
    content = "word,label,y,x,t,id\nthe,strange,1,2,2,p\n"
    assert COLUMNS.encode(table(tmp_path, content)).labels.tolist() == [-1]
    without = "word,y,x,t,id\nthe,1,2,2,p\n"
    assert COLUMNS.encode(table(tmp_path, without)).values.values.tolist() == [[0, 1, 0, 1]]


def test_the_order_of_rows_and_columns_and_the_format_make_no_difference(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = [
        {"id": f"s{i}", "t": t, "x": round(rng.normal(), 3), "y": rng.integers(9), "word": "the", "label": "abc"[t % 3]}
        for i in range(4)
        for t in range(i + 1)
    ]

    def encoded(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
        names = list(rows[0])
        if name.endswith(".csv"):
            content = "\n".join([",".join(names), *(",".join(str(row[n]) for n in names) for row in rows)])
        else:
            content = "\n".join(json.dumps(row, default=int) for row in rows)
        found = COLUMNS.encode(table(tmp_path, content, name), need_labels=True)
        ids = [rows[found.rows[start]]["id"] for start in found.values.offsets[:-1]]
        return {key: (values.tolist(), len(values)) for key, values in zip(ids, found.values, strict=True)}

    expected = encoded(rows, "table.csv")
    shuffled = [dict(reversed(rows[i].items())) for i in rng.permutation(len(rows))]
    assert encoded(shuffled, "table.csv") == expected
    assert encoded(shuffled, "table.ndjson") == expected


def test_labels_that_another_program_made_fractions_match(tmp_path: Path) -> None:
    columns = Columns("id", None, "label", ("0", "1"), (NumericColumn("x", 0, 1),), ())
    found = columns.encode(table(tmp_path, "id,x,label\na,1,1.0\na,2,\na,3,0.0\n"), need_labels=True)
    assert found.labels.tolist() == [1, -1, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("word,label,y,t,id\nthe,a,1,2,p\n", r"has no column 'x' \(a feature of the model\)"),
        ("word,y,x,t,id\nthe,1,2,2,p\n", r"has no column 'label' \(the label\)"),
        ("word,label,y,x,id\nthe,a,1,2,p\n", r"has no column 't' \(the order within a sequence\)"),
        (
            "word,label,y,x,t,id\nthe,d,1,2,2,p\n",
            "line 2: the label 'd' is unknown to the model; it knows 'a', 'b', 'c'",
        ),
        ("word,label,y,x,t,id\nthe, ,1,2,2,p\n", "has no label in column 'label'"),
        ("word,label,y,x,t,id\nthe,a,1,z,2,p\n", "line 2: 'z' in column 'x' is not a number"),
        ("word,label,y,x,t,id\nthe,a,-inf,1,2,p\n", "line 2: '-inf' in column 'y' is infinite"),
        (
            "word,label,y,x,t,id\nthe,a,1,-1e308,2,p\n",
            "line 2: '-1e308' in column 'x' is too far from the training rows",
        ),
        ("word,label,y,x,t,id\nthe,a,1e39,1,2,p\n", "line 2: '1e39' in column 'y' is too far from the training rows"),
    ],
)
def test_what_does_not_fit_the_model_is_said(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        COLUMNS.encode(table(tmp_path, content), need_labels=True)


def test_labels_that_the_model_has_never_seen(tmp_path: Path) -> None:
    labels = ["e", "a", "d", "", "c", "b", "e", "a"]
    lines = "".join(f"the,{label},{t},1,2,p\n" for t, label in enumerate(labels))
    new = table(tmp_path, "word,label,t,y,x,id\n" + lines)
    with pytest.raises(UserError, match="line 2: the label 'e' is unknown to the model; it knows 'a', 'b', 'c'"):
        COLUMNS.encode(new, need_labels=True)
    found = COLUMNS.encode(new, need_labels=True, allow_unseen=True)
    assert found.labels.tolist() == [3, 0, 4, -1, 2, 1, 3, 0]
    assert dict(found.unseen) == {"e": 2, "d": 1}
    assert found.notes[-1] == "3 steps with a label that is unknown to the model ('e', 'd'), counted as wrong"
    assert found.take([0]).unseen == found.part(slice(0, 1)).unseen == found.unseen
    without = found.without_unseen(3)
    assert without.labels.tolist() == [-1, 0, -1, -1, 2, 1, -1, 0]
    assert without.labels.dtype == np.int32
    assert not without.unseen
    assert without.notes[-1] == "3 steps with a label that is unknown to the model ('e', 'd'), left out"
    known = COLUMNS.encode(table(tmp_path, "word,label,t,y,x,id\nthe,a,1,1,2,p\n"), need_labels=True, allow_unseen=True)
    assert not known.unseen
    assert known.without_unseen(3).notes == known.notes


@pytest.mark.parametrize(
    ("classes", "labels", "wrong"),
    [
        (("a", "b"), "a x b a y z w", "line 3: the label 'x'"),  # most of them: another column
        (("B-X", "I-X", "O"), "B-X I-X B-Y O x", "line 6: the label 'x'"),
        (("B-X", "I-X", "O"), "B-X I-X B-Y O", None),
        (("a", "b"), "a x b y", None),
    ],
)
def test_labels_that_are_none(tmp_path: Path, classes: tuple[str, ...], labels: str, wrong: str | None) -> None:
    columns = Columns("id", None, "label", classes, (NumericColumn("x", 0, 1),), ())
    new = table(tmp_path, "id,x,label\n" + "".join(f"a,1,{label}\n" for label in labels.split()))
    if wrong:
        with pytest.raises(UserError, match=wrong):
            columns.encode(new, need_labels=True, allow_unseen=True)
    else:
        assert columns.encode(new, need_labels=True, allow_unseen=True).unseen


def test_some_sequences_can_be_taken() -> None:
    whole = Encoded(Ragged(np.arange(6), [0, 2, 3, 6]), np.arange(6, dtype=np.int32), np.arange(6)[::-1])
    part = whole.take([2, 0])
    assert part.values.values.ravel().tolist() == part.labels.tolist() == [3, 4, 5, 0, 1]
    assert part.values.offsets.tolist() == [0, 3, 5]
    assert part.rows.tolist() == [2, 1, 0, 5, 4]


def test_a_description_survives_json() -> None:
    assert Columns.from_json(json.loads(json.dumps(COLUMNS.to_json()))) == COLUMNS
    without = Columns("id", None, "label", ("a", "b"), (), (CategoricalColumn("w", ()),), conll_columns=3)
    assert Columns.from_json(json.loads(json.dumps(without.to_json()))) == without


def test_the_largest_numbers_survive_json() -> None:
    columns = dataclasses.replace(COLUMNS, numeric=(NumericColumn("x", -LARGEST, LARGEST),))
    assert Columns.from_json(json.loads(json.dumps(columns.to_json()))) == columns


def test_the_description_says_what_was_found() -> None:
    assert COLUMNS.describe() == [
        ("x", "number, mean 2, standard deviation 4"),
        ("y", "number, mean 0, standard deviation 1; 3 missing, filled with the mean and flagged"),
        ("word", "text, 5 different values; 2 too rare to learn, treated as unknown"),
    ]


HOSTILE: dict[str, Any] = {
    "sequence": [None, "", 1, ["id"]],
    "order": ["", 1, {}],
    "label": [None, 3],
    "classes": [None, [], ["a"], ["a", "a"], ["a", 1], "ab", {"a": 1}],
    "conll_columns": [-1, 1.5, True, "3", 2**70],
    "numeric": [None, {}, [None], [{}], [COLUMNS.to_json()["numeric"][0]] * 2],
    "categorical": [None, "x", [[]], [{"name": "w", "vocabulary": ["a", "a"], "distinct": 1}]],
}
HOSTILE_NUMBERS = {
    "name": [None, "", 5],
    "mean": [None, "0", True, [], 10**400, 1e309],
    "scale": [None, 0, -1.0, 0.0, False, 10**400, -0.0],
    "missing": [None, -1, 0.5, True, 2**64],
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in HOSTILE.items() for value in values])
def test_a_hostile_description_is_refused(field: str, value: Any) -> None:
    data = COLUMNS.to_json() | {field: value}
    with pytest.raises(ModelFileError, match="the model is damaged: its .* (have no valid|are not an object)"):
        Columns.from_json(data)


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in HOSTILE_NUMBERS.items() for value in values]
)
def test_a_hostile_number_is_refused(field: str, value: Any) -> None:
    data = copy.deepcopy(COLUMNS.to_json())
    data["numeric"][0][field] = value
    with pytest.raises(ModelFileError, match=f"the model is damaged: its numeric columns have no valid '{field}'"):
        Columns.from_json(data)


@pytest.mark.parametrize("data", [None, [], "columns", 1, {}])
def test_what_is_no_description_is_refused(data: Any) -> None:
    with pytest.raises(ModelFileError, match="the model is damaged"):
        Columns.from_json(data)
