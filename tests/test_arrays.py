"""Sequences in all of their forms, and what comes with them, become the same columns; what cannot is refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilstm.data.arrays import as_array, read_rows, read_sequences
from bilstm.data.memory import Cells, MemoryTable
from bilstm.ragged import Ragged, offsets_of
from oracles.models import bits

LENGTHS = st.lists(st.integers(1, 5), min_size=1, max_size=5)


def values(table: MemoryTable) -> Any:
    """(total_steps, features) as they were passed, (total_steps,) words."""
    columns = [cells.values for cells in table.columns.values()]
    return columns[0] if table.names == ["words"] else np.stack(columns, axis=1)


def offsets(table: MemoryTable) -> Any:
    return table.sequences(None).offsets


def objects(sequences: list[Any]) -> Any:
    made = np.empty(len(sequences), object)
    made[:] = sequences
    return made


@given(LENGTHS, st.integers(1, 3))
def test_numbers_in_every_form(lengths: list[int], features: int) -> None:
    numbers = np.random.default_rng(1).normal(size=(sum(lengths), features)).astype(np.float32)
    parts = np.split(numbers, np.cumsum(lengths)[:-1])
    forms: list[Any] = [parts, tuple(parts), objects(parts), Ragged(numbers, offsets_of(lengths))]
    forms.append([part.tolist() for part in parts])
    for form in forms:
        steps = read_sequences(form)
        assert steps.form != "array"
        assert offsets(steps).tolist() == [0, *np.cumsum(lengths)]
        assert bits(values(steps)) == bits(numbers.astype(np.float64))
        assert steps.names == [str(feature) for feature in range(features)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, bool])
def test_one_array(dtype: Any) -> None:
    array = np.arange(24).reshape(2, 4, 3).astype(dtype)
    steps = read_sequences(array)
    assert steps.form == "array"
    assert offsets(steps).tolist() == [0, 4, 8]
    assert (values(steps) == array.reshape(8, 3)).all()
    flat = read_sequences(array[:, :, 0])
    assert values(flat).shape == (8, 1)
    assert (values(read_sequences(array.astype(object))) == values(steps)).all()


@pytest.mark.parametrize(
    "form",
    [
        [["a", "b", "a"], ["b"]],
        [np.array(["a", "b", "a"]), np.array(["b"], object)],
        objects([["a", "b", "a"], ["b"]]),
        [("a", "b", "a"), np.array([["b"]])],
    ],
)
def test_words_in_every_form(form: Any) -> None:
    steps = read_sequences(form)
    assert steps.names == ["words"]
    assert values(steps).tolist() == ["a", "b", "a", "b"]
    assert offsets(steps).tolist() == [0, 3, 4]


@pytest.mark.parametrize("dtype", ["U1", object])
def test_an_array_of_words(dtype: Any) -> None:
    steps = read_sequences(np.array([["a", "b"], ["c", "a"]], dtype))
    assert steps.form == "array"
    assert steps.names == ["words"]
    assert offsets(steps).tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("text", "Reshape your data: X must be a list of (steps, features) arrays"),
        (5, "Reshape your data: X must be a list"),
        (np.zeros(3), "Reshape your data: X must be a list"),
        (np.zeros((1, 2, 3, 4)), "Reshape your data: X must be a list"),
        (np.array([b"a"]), "Reshape your data: X must be a list"),
        ([], "X has no sequences: 0 sample(s)"),
        (np.zeros((0, 3, 2)), "X has no sequences: 0 sample(s)"),
        (np.zeros((2, 3, 0)), "X has 0 feature(s) (shape=(2, 0))"),
        ([np.zeros((3, 2)), np.zeros((0, 2))], "sequence 1 of X has no steps"),
        (np.zeros((2, 0, 3)), "sequence 0 of X has no steps"),
        ([np.zeros((3, 2)), np.zeros((3, 1))], "sequence 1 of X: it has 1 features, but sequence 0 has 2"),
        ([[1.0], ["a"]], "sequence 1 of X: its steps are strings, but those of sequence 0 are numbers"),
        ([["a"], [1.0]], "sequence 1 of X: its steps are numbers, but those of sequence 0 are strings"),
        ([["a"], ["b", None]], "sequence 1 of X: steps must be all numbers or all strings, but None is among strings"),
        (["two words"], "sequence 0 of X: text must be divided into steps: list(text) for its characters"),
        ([np.array([["a", "b"]])], "sequence 0 of X: a step is one string, not 2"),
        ([np.zeros((1, 2, 3))], "sequence 0 of X: a sequence has shape (steps, features), not (1, 2, 3)"),
        ([3, 4], "sequence 0 of X: a sequence has shape (steps, features), not ()"),
        ([np.array([1j])], "sequence 0 of X: steps must be numbers or strings, not complex128"),
        (np.array([[1j]]), "Complex data not supported"),
        ([[1.0, 2.0], [3.0, -np.inf]], "X has -inf in sequence 1 of X, step 1, feature 0: pass finite num"),
    ],
)
def test_what_is_no_sequence(X: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        read_sequences(X)


# --- What comes with it ----------------------------------------------------------------------------------------------

NAN = float("nan")
OFFSETS = np.array([0, 2, 5])
KINDS: dict[str, tuple[list[Any], list[str]]] = {
    "text": (["x", "y", "z"], ["x", "y", "z"]),
    "number": ([3, -1, 7], ["3", "-1", "7"]),
    "fractions": ([1.0, 0.5, 2.0], ["1", "0.5", "2"]),
    "boolean": ([True, False, True], ["true", "false", "true"]),
}


@given(st.sampled_from([*KINDS]), st.lists(st.integers(0, 2), min_size=5, max_size=5))
def test_labels_of_steps_in_every_form(kind: str, chosen: list[int]) -> None:
    labels, texts = KINDS[kind]
    y = [labels[i] for i in chosen]
    forms: list[Any] = [[y[:2], y[2:]], [np.array(y[:2]), np.array(y[2:])], [np.array(y[:2], object), tuple(y[2:])]]
    forms += [objects([y[:2], y[2:]]), [np.array(y[:2])[:, np.newaxis], np.array(y[2:])]]
    for form in forms:
        found = read_rows(form, OFFSETS, False)
        assert [*found] == ["label"]
        assert found["label"].kind == ("number" if kind == "fractions" else kind)
        assert found["label"].texts().tolist() == [texts[i] for i in chosen]
    of_sequences = read_rows(y, np.arange(6) * 2, True, "groups", "group")["group"]
    assert of_sequences.texts().tolist() == [texts[i] for i in chosen for _ in range(2)]


def test_labels_of_steps_in_one_array_or_ragged() -> None:
    square = np.array([0, 1, 1, 0, 0, 1]).reshape(2, 3)
    ragged = Ragged(square.ravel(), [0, 3, 6])
    for form in (square, square[:, :, np.newaxis], ragged, list(ragged), square.astype(object), square.astype(str)):
        (cells,) = read_rows(form, np.array([0, 3, 6]), False).values()
        assert cells.texts().tolist() == ["0", "1", "1", "0", "0", "1"]


SEVERAL = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [1, 0, 0]])


def test_several_in_every_form() -> None:
    square = SEVERAL[:4].reshape(2, 2, 3)
    forms: list[tuple[Any, Any]] = [
        ([SEVERAL[:2], SEVERAL[2:]], OFFSETS),
        ([SEVERAL[:2].tolist(), SEVERAL[2:].astype(bool)], OFFSETS),
        ([SEVERAL[:2].astype(object), SEVERAL[2:].astype(np.float32)], OFFSETS),
        (Ragged(SEVERAL, OFFSETS), OFFSETS),
        (square, np.array([0, 2, 4])),
    ]
    for form, places in forms:
        found = read_rows(form, places, False)
        assert [*found] == ["label 0", "label 1", "label 2"]
        np.testing.assert_array_equal(np.stack([c.values for c in found.values()], axis=1), SEVERAL[: places[-1]])
    of_sequences = read_rows(SEVERAL, np.arange(6), True)
    np.testing.assert_array_equal(np.stack([c.values for c in of_sequences.values()], axis=1), SEVERAL)


@pytest.mark.parametrize(
    ("y", "missing"),
    [
        ([["a", None], ["b", "a", None]], None),
        ([["a", NAN], ["b", "a", NAN]], None),
        ([["a", pd.NA], ["b", "a", pd.NaT]], None),
        ([["a", ""], ["b", "a", ""]], ""),
        ([["a", -1], ["b", "a", -1]], -1),
        ([np.array(["a", "?"]), np.array(["b", "a", "?"])], "?"),
        ([[4, None], [7, 4, None]], None),
        ([[4, NAN], [7, 4, NAN]], None),
        ([[4, -1], [7, 4, -1]], -1),
        ([[4, -1], [7, 4, None]], -1),
        ([np.array([4, -1]), np.array([7, 4, NAN])], -1),
        (Ragged([4, -1, 7, 4, -1], OFFSETS), -1),
        ([np.array(["a", None], object), np.array(["b", "a", None], object)], -1),
        ([[True, None], [False, True, None]], -1),
    ],
)
def test_steps_without_a_label(y: Any, missing: Any) -> None:
    (cells,) = read_rows(y, OFFSETS, False, missing=missing).values()
    texts = cells.texts().tolist()
    assert [text is None for text in texts] == [False, True, False, False, True]
    assert cells.missing.tolist() == [False, True, False, False, True]
    assert texts[0] == texts[3] != texts[2]


@pytest.mark.parametrize(("kind", "missing"), [("text", 1), ("number", "3"), ("boolean", "true"), ("text", None)])
def test_what_stands_for_missing_is_of_the_labels_kind(kind: str, missing: Any) -> None:
    labels, texts = KINDS[kind]
    (cells,) = read_rows(labels, np.arange(4), True, missing=missing).values()
    assert cells.texts().tolist() == texts


def test_cells_without_a_value_are_a_copy() -> None:
    cells = Cells("number", np.array([1.0, 2.0]), integers=np.array([1, 2]))
    assert cells.without(2).texts().tolist() == ["1", None]
    assert cells.texts().tolist() == ["1", "2"]
    assert cells.take(np.array([1, 1, 0])).texts().tolist() == ["2", "2", "1"]


@pytest.mark.parametrize(
    ("values", "kind"),
    [([1, 2], "i"), ([1.5, 2], "f"), (["a", "b"], "U"), (["a", None], "O"), ([1, None], "O"), ([True, False], "b")],
)
def test_python_values_as_an_array(values: list[Any], kind: str) -> None:
    assert as_array(values).tolist() == values
    assert as_array(values).dtype.kind in (kind, "O")


@pytest.mark.parametrize(
    ("y", "per_sequence", "message"),
    [
        ([[1, 2]], False, "Found input variables with inconsistent numbers of samples: X has 2 sequences, y has 1"),
        ([[1, 2], [1, 2]], False, "y: sequence 1 has shape (2,), but X has 3 steps"),
        ([1, 2], False, "y: sequence 0 has shape (), but X has 2 steps"),
        (5, False, "Found input variables with inconsistent numbers of samples"),
        ([[[1, 0]] * 2, [[1, 0, 1]] * 3], False, "y: sequence 1 has shape (3, 3), but X has 3 steps"),
        ([[[1, 0]] * 2, [1, 0, 1]], False, "y: sequence 1 has shape (3,), but X has 3 steps"),
        ([[1, 0], [[1, 0]] * 3], False, "y: sequence 1 has shape (3, 2), but X has 3 steps"),
        ([[[[1]]] * 2, [[[1]]] * 3], False, "y: sequence 0 has shape (2, 1, 1), but X has 2 steps"),
        (
            [1, 2, 3],
            True,
            "Found input variables with inconsistent numbers of samples: X has 2 sequences and needs one",
        ),
        (np.zeros((2, 0)), True, "y has shape (2, 0), but needs one entry, or a row of entries, for each"),
    ],
)
def test_what_does_not_fit_the_sequences(y: Any, per_sequence: bool, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        read_rows(y, OFFSETS, per_sequence)
