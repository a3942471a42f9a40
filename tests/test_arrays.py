"""Sequences in all of their forms become the same numbers; what is no sequence is refused in words."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilstm.inputs.steps import StepEncoder, Steps, read_steps
from bilstm.ragged import Ragged, offsets_of
from oracles.models import bits

LENGTHS = st.lists(st.integers(1, 5), min_size=1, max_size=5)


def values(steps: Steps) -> Any:
    """(total_steps, features) as they were given, (total_steps,) words."""
    columns = [*steps.columns.values()]
    return columns[0] if steps.words else np.stack(columns, axis=1)


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
        steps = read_steps(form)
        assert not steps.array
        assert steps.offsets.tolist() == [0, *np.cumsum(lengths)]
        assert bits(values(steps)) == bits(numbers.astype(np.float64))
        assert [*steps.columns] == [str(feature) for feature in range(features)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, bool])
def test_one_array(dtype: Any) -> None:
    array = np.arange(24).reshape(2, 4, 3).astype(dtype)
    steps = read_steps(array)
    assert steps.array
    assert steps.offsets.tolist() == [0, 4, 8]
    assert (values(steps) == array.reshape(8, 3)).all()
    flat = read_steps(array[:, :, 0])
    assert values(flat).shape == (8, 1)
    assert (values(read_steps(array.astype(object))) == values(steps)).all()


def test_numbers_keep_their_precision_until_they_are_standardised() -> None:
    times = 1.7e9 + np.arange(5.0)
    found = StepEncoder.fit(read_steps([times])).encode(read_steps([times])).values
    np.testing.assert_allclose(found[:, 0], (np.arange(5) - 2) / np.sqrt(2), atol=1e-6)


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
    steps = read_steps(form)
    assert steps.words
    assert values(steps).tolist() == ["a", "b", "a", "b"]
    assert steps.offsets.tolist() == [0, 3, 4]


@pytest.mark.parametrize("dtype", ["U1", object])
def test_an_array_of_words(dtype: Any) -> None:
    steps = read_steps(np.array([["a", "b"], ["c", "a"]], dtype))
    assert steps.array
    assert steps.words
    assert steps.offsets.tolist() == [0, 2, 4]


def test_taking_sequences() -> None:
    steps = read_steps([[1, 2], [3], [4, 5]]).take(np.array([2, 0]))
    assert values(steps).tolist() == [[4], [5], [1], [2]]
    assert steps.offsets.tolist() == [0, 2, 4]


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
        (np.zeros((2, 3, 0)), "X has 0 feature(s) (shape=(2, 3, 0))"),
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
        ([[1.0, 2.0], [3.0, -np.inf]], "X has -inf in sequence 1, step 1, feature 0: give finite numbers, or NaN"),
    ],
)
def test_what_is_no_sequence(X: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        read_steps(X)


# --- The encoder -----------------------------------------------------------------------------------------------------


def test_standardising_and_leaving_as_it_is() -> None:
    steps = read_steps([[[1.0, 5.0], [3.0, 5.0]], [[5.0, 5.0]]])
    standardised = StepEncoder.fit(steps).encode(steps).values
    np.testing.assert_allclose(standardised.mean(axis=0), 0, atol=1e-7)
    np.testing.assert_allclose(standardised.std(axis=0), [1, 0], atol=1e-6)
    assert (StepEncoder.fit(steps, standardize=False).encode(steps).values == values(steps)).all()


@pytest.mark.parametrize("standardize", [True, False])
def test_missing_numbers_are_filled_and_flagged(standardize: bool) -> None:
    steps = read_steps([[[1.0, 7.0], [np.nan, 9.0]], [[3.0, 8.0]]])
    encoder = StepEncoder.fit(steps, standardize=standardize)
    found = encoder.encode(steps).values
    assert encoder.numeric_width == 3
    assert found[:, 1].tolist() == [0, 1, 0]
    assert found[1, 0] == 0
    new = encoder.encode(read_steps([[[2.0, np.nan]]])).values  # none was missing of the second in training
    assert new[0, 2] == 0
    assert [column.name for column in encoder.columns] == ["0", "1"]


def test_words_that_occur_once_are_unknown_as_new_ones_are() -> None:
    steps = read_steps([["a", "b", "a"], ["c", "b", "a"]])
    encoder = StepEncoder.fit(steps)
    assert encoder.vocabularies == [3]
    assert encoder.numeric_width == 0
    assert encoder.encode(steps).values[:, 0].tolist() == [1, 2, 1, 0, 2, 1]
    assert encoder.encode(read_steps([["new", "b"]])).values[:, 0].tolist() == [0, 2]


@pytest.mark.parametrize(
    ("fitted", "given", "message"),
    [
        ([["a"]], [[1.0]], "the steps of X are numbers, but those of the fit were strings"),
        ([[1.0]], [["a"]], "the steps of X are strings, but those of the fit were numbers"),
        ([[1.0, 1.1]], [[0.0], [0.0, 1e39]], "X has 1e+39 in sequence 1, step 1, feature 0, too far from the numbers"),
    ],
)
def test_steps_unlike_those_of_the_fit(fitted: Any, given: Any, message: str) -> None:
    encoder = StepEncoder.fit(read_steps(fitted))
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        encoder.encode(read_steps(given))
