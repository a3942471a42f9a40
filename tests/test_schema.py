"""The features of a table become the values that a network takes; a hostile description of them is refused."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bilstm.data.arrays import read_sequences
from bilstm.data.dataset import Dataset
from bilstm.data.features import CategoricalColumn, NumericColumn, encode_texts, standardised
from bilstm.data.memory import Cells, MemoryTable
from bilstm.data.reading import read_table
from bilstm.data.schema import Schema
from bilstm.data.table import Table
from bilstm.data.texts import TextColumn
from bilstm.errors import ModelFileError, UserError
from bilstm.ragged import Ragged

SCHEMA = Schema(
    sequence="id",
    order="t",
    numeric=(NumericColumn("x", mean=2.0, scale=4.0), NumericColumn("y", mean=0.0, scale=1.0, missing=3)),
    categorical=(CategoricalColumn("word", ("the", "a", ""), 5),),
)


def table(folder: Path, content: str, name: str = "table.csv") -> Table:
    (folder / name).write_text(content)
    return read_table(folder / name)


def encoded(schema: Schema, source: Table) -> Dataset:
    return schema.encode(source, source.sequences(schema.sequence, schema.order))


def one_column(column: NumericColumn, numbers: Any) -> Dataset:
    """The numbers as one sequence, encoded."""
    source = MemoryTable({column.name: Cells("number", np.asarray(numbers))}, np.array([0, len(numbers)]))
    return encoded(Schema(None, None, (column,), ()), source)


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
    values = standardised(present, column.mean, column.scale)
    assert np.isfinite(values).all()
    if np.abs(values).max(initial=0) < np.finfo(np.float32).max:  # else the table is refused
        inputs = one_column(column, numbers).values.values
        assert inputs.shape[1] == column.width == (2 if column.missing else 1)
        assert (inputs[np.isnan(numbers), 0] == 0).all()
        np.testing.assert_array_equal(inputs[~np.isnan(numbers), 0], values.astype(np.float32))
        if column.missing:
            np.testing.assert_array_equal(inputs[:, 1], np.isnan(numbers))
    largest = np.abs(present).max(initial=0)
    if largest > 1e-150 and np.ptp(present / largest) > 1e-6:  # not where squares vanish
        assert abs(values.mean()) < 1e-6
        assert abs(values.std() - 1) < 1e-6


@pytest.mark.parametrize("value", [0.0, 0.1, -1e300, 5e-324])
def test_a_constant_column_has_scale_one(value: float) -> None:
    column = NumericColumn.fit("x", np.full(7, value))
    assert column.scale == 1
    np.testing.assert_allclose(
        standardised(np.full(7, value), column.mean, 1), 0, atol=1e285 if abs(value) > 1 else 1e-12
    )


@given(st.lists(st.sampled_from(["a", "b", "B", " ", "é", None, ""]), max_size=20))
def test_values_seen_once_are_unknown(texts: list[str | None]) -> None:
    (column,) = CategoricalColumn.fit("word", Counter(text or "" for text in texts).items())
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
    found = encoded(SCHEMA, table(tmp_path, "word,y,x,t,id\nthe,1,2,2,p\nnew,NA,6,1,p\n,-1,-2,0,q\n"))
    assert found.values.offsets.tolist() == [0, 2, 3]
    assert found.rows.tolist() == [1, 0, 2]
    assert found.values.values.tolist() == [[1, 0, 1, 0], [0, 1, 0, 1], [-1, -1, 0, 3]]
    assert found.notes == (
        "y: 1 missing value, imputed with the mean of the training rows",
        "word: 1 value of 3 (33.3 %) unknown to the model",
    )
    assert SCHEMA.numeric_width == 3
    assert SCHEMA.vocabularies == [4]
    assert found.values.features == SCHEMA.numeric_width + len(SCHEMA.vocabularies)


def test_what_training_had_nothing_of_is_noted(tmp_path: Path) -> None:
    found = encoded(SCHEMA, table(tmp_path, "word,y,x,t,id\nthe,1,,2,p\nthe,1,60,3,p\nthe,,-9,4,p\n"))
    assert found.notes == (
        "y: 1 missing value, imputed with the mean of the training rows",
        "x: 1 missing value, imputed with the mean of the training rows; training had none",
        "x: values lie 8.6 standard deviations from the training mean on average; are the units the same as in "
        "training?",
    )
    assert [*found.observations.surprises] == [("missing", "x"), ("far", "x")]
    as_they_are = dataclasses.replace(SCHEMA, numeric=(NumericColumn("x", 0.0, 1.0),), categorical=())
    assert encoded(as_they_are, table(tmp_path, "x,t,id\n900,1,p\n")).notes == ()


@pytest.mark.parametrize("block", [1, 2, 1 << 20])
def test_blocks_and_groups_of_columns_make_no_difference(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = np.random.default_rng(1).normal(size=(7, 5))
    numbers[2:4, 1:4] = np.nan
    columns = {str(place): Cells("number", column) for place, column in enumerate(numbers.T)}
    schema = Schema(None, None, tuple(NumericColumn.fit(n, c.values) for n, c in columns.items()), (), named=False)
    source = MemoryTable(columns, np.array([0, 3, 7]))
    expected = encoded(schema, source)
    monkeypatch.setattr("bilstm.data.scratch.BLOCK", block)
    found = encoded(schema, source)
    np.testing.assert_array_equal(found.values.values, expected.values.values)
    distances = found.observations.distances  # sums of floats, whose order of addition depends on the blocks
    assert distances == pytest.approx(expected.observations.distances)
    assert dataclasses.replace(found.observations, distances={}) == dataclasses.replace(
        expected.observations, distances={}
    )
    alone = [
        one_column(column, cells.values).values.values
        for column, cells in zip(schema.numeric, columns.values(), strict=True)
    ]
    np.testing.assert_array_equal(found.values.values, np.concatenate(alone, axis=1))


CELLS = st.sampled_from(["1", "1.0", "2", "2.00", "-3", "1.5", "a", "A", " a", "01", "", None, "1e3", "nan"])


@given(st.lists(CELLS, min_size=1, max_size=12), st.lists(CELLS, max_size=12), st.booleans())
def test_a_cell_means_the_same_alone_and_in_company(
    training: list[str | None], others: list[str | None], spelling: bool
) -> None:
    counts = Counter(text or "" for text in [*training, *training])
    columns = CategoricalColumn.fit("w", counts.items(), spelling)
    together = encode_texts(columns, [*others, *training])
    for text, indices in zip([*others, *training], together.tolist(), strict=True):
        assert encode_texts(columns, [text]).tolist() == [indices]
    numbers = all(re.fullmatch(r"-?[0-9]+([.][0-9]*)?", text) for text in training if text)
    whole = [text and re.sub(r"^(-?[0-9]+)[.]0+$", r"\1", text) if numbers else text for text in training]
    assert set(columns[0].vocabulary) == {text or "" for text in whole}
    assert columns[0].distinct == len({text or "" for text in whole})


@given(st.lists(st.lists(st.floats(-9, 9) | st.just(np.nan), min_size=1, max_size=5), min_size=1, max_size=6))
def test_a_sequence_is_encoded_alike_alone_and_in_company(sequences: list[list[float]]) -> None:
    schema = Schema(None, None, (NumericColumn("0", 0.5, 3.0, 1),), (), named=False)
    together = encoded(schema, read_sequences(sequences)).values
    for sequence, values in zip(sequences, together, strict=True):
        np.testing.assert_array_equal(encoded(schema, read_sequences([sequence])).values.values, values)


def test_the_order_of_rows_and_columns_and_the_format_make_no_difference(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = [
        {"id": f"s{i}", "t": t, "x": round(rng.normal(), 3), "y": rng.integers(9), "word": "the", "label": "abc"[t % 3]}
        for i in range(4)
        for t in range(i + 1)
    ]

    def by_id(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
        names = list(rows[0])
        if name.endswith(".csv"):
            content = "\n".join([",".join(names), *(",".join(str(row[n]) for n in names) for row in rows)])
        else:
            content = "\n".join(json.dumps(row, default=int) for row in rows)
        found = encoded(SCHEMA, table(tmp_path, content, name))
        ids = [rows[found.rows[start]]["id"] for start in found.values.offsets[:-1]]
        return {key: (values.tolist(), len(values)) for key, values in zip(ids, found.values, strict=True)}

    expected = by_id(rows, "table.csv")
    shuffled = [dict(reversed(rows[i].items())) for i in rng.permutation(len(rows))]
    assert by_id(shuffled, "table.csv") == expected
    assert by_id(shuffled, "table.ndjson") == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("word,y,t,id\nthe,1,2,p\n", r"has no column 'x' \(a feature of the model\)"),
        ("word,y,x,id\nthe,1,2,p\n", r"has no column 't' \(the order within a sequence\)"),
        ("word,y,x,t,id\nthe,1,z,2,p\n", "line 2: 'z' in column 'x' is not a number"),
        ("word,y,x,t,id\nthe,-inf,1,2,p\n", "line 2: '-inf' in column 'y' is infinite"),
        ("word,y,x,t,id\nthe,1,1,1,p\nthe,1,-1e308,2,p\n", "line 3: '-1e308' in column 'x' is too far from the val"),
        ("word,y,x,t,id\nthe,1e39,1,2,p\n", "line 2: '1e39' in column 'y' is too far from the values of the training"),
    ],
)
def test_what_does_not_fit_the_model_is_said(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        encoded(SCHEMA, table(tmp_path, content))


def test_other_names_for_the_features() -> None:
    texts = Schema(None, None, (), tuple(CategoricalColumn.fit("w", [], True)), text=TextColumn("w"))
    renamed = texts.with_features(["v"])
    assert renamed.features == renamed.spelled == ["v"]
    assert renamed.text == TextColumn("v")
    assert SCHEMA.with_features(["a", "b", "c"]).features == ["a", "b", "c"]
    for names in (["a"], ["a", "b", "b"], ["a", "b", "c", "d"]):
        with pytest.raises(UserError, match="the model has 3 features, but . are named"):
            SCHEMA.with_features(names)


@pytest.mark.parametrize("per_sequence", [False, True])
def test_some_sequences_can_be_taken(per_sequence: bool) -> None:
    values, rows, groups = Ragged(np.arange(6), [0, 2, 3, 6]), np.arange(6)[::-1], np.array([7, 8, 9])
    whole = Dataset(values, rows, np.arange(3 if per_sequence else 6), per_sequence, groups)
    part = whole.take([2, 0])
    assert part.values.values.ravel().tolist() == [3, 4, 5, 0, 1]
    assert part.known.tolist() == ([2, 0] if per_sequence else [3, 4, 5, 0, 1])
    assert part.values.offsets.tolist() == [0, 3, 5]
    assert part.row_offsets.tolist() == ([0, 1, 2] if per_sequence else [0, 3, 5])
    assert part.rows.tolist() == [2, 1, 0, 5, 4]
    assert part.groups is not None
    assert part.groups.tolist() == [9, 7]
    for slice_, chosen in ((slice(1, 3), [1, 2]), (slice(0, 2), [0, 1])):
        found, expected = whole.part(slice_), whole.take(chosen)
        assert found.known.tolist() == expected.known.tolist()
        assert found.values.values.tolist() == expected.values.values.tolist()
        assert found.rows.tolist() == expected.rows.tolist()


def test_a_description_survives_json() -> None:
    assert Schema.from_json(json.loads(json.dumps(SCHEMA.to_json()))) == SCHEMA
    for other in (
        Schema("id", None, (), (CategoricalColumn("w", ()),), conll_columns=3),
        Schema(None, None, (), (CategoricalColumn("w", ()),), text=TextColumn("w", "characters")),
        Schema(None, None, (NumericColumn("0", 1.0, 2.0),), (), named=False),
        Schema(None, None, (), (CategoricalColumn("words", ("a",)),), named=False),
    ):
        assert Schema.from_json(json.loads(json.dumps(other.to_json()))) == other


def test_the_largest_numbers_survive_json() -> None:
    columns = dataclasses.replace(SCHEMA, numeric=(NumericColumn("x", -LARGEST, LARGEST),))
    assert Schema.from_json(json.loads(json.dumps(columns.to_json()))) == columns


def test_the_description_says_what_was_found() -> None:
    assert SCHEMA.describe() == [
        ("x", "number, mean 2, standard deviation 4"),
        ("y", "number, mean 0, standard deviation 1; 3 missing, imputed with the mean and flagged"),
        ("word", "text, 5 different values; 2 below the frequency threshold, treated as unknown"),
    ]


HOSTILE: dict[str, Any] = {
    "sequence": ["", 1, ["id"]],
    "order": ["", 1, {}],
    "named": [None, 1, False],
    "text": [[], {}, {"column": "", "tokens": "words"}, {"column": "w", "tokens": "lines"}],
    "conll_columns": [-1, 1.5, True, "3", 2**70],
    "numeric": [None, {}, [None], [{}], [SCHEMA.to_json()["numeric"][0]] * 2],
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
    data = SCHEMA.to_json() | {field: value}
    with pytest.raises(ModelFileError, match="the model is damaged: its .* (have no valid|are not an object)"):
        Schema.from_json(data)


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in HOSTILE_NUMBERS.items() for value in values]
)
def test_a_hostile_number_is_refused(field: str, value: Any) -> None:
    data = copy.deepcopy(SCHEMA.to_json())
    data["numeric"][0][field] = value
    with pytest.raises(ModelFileError, match=f"the model is damaged: its numeric columns have no valid '{field}'"):
        Schema.from_json(data)


@pytest.mark.parametrize("data", [None, [], "columns", 1, {}])
def test_what_is_no_description_is_refused(data: Any) -> None:
    with pytest.raises(ModelFileError, match="the model is damaged"):
        Schema.from_json(data)
