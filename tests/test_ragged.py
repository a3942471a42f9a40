"""Sequences go into a Ragged and come out as they were, and what contradicts itself is refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bilstm.ragged import FloatArray, Ragged, as_ragged, offsets_of, steps_of

pytestmark = pytest.mark.fast

NUMBERS = st.floats(-1e6, 1e6, width=32)


@st.composite
def sequence_lists(draw: st.DrawFn, min_size: int = 0, min_steps: int = 0) -> list[FloatArray]:
    features = draw(st.integers(1, 3))
    lengths = draw(st.lists(st.integers(min_steps, 5), min_size=min_size, max_size=6))
    return [draw(arrays.arrays(np.float32, (steps, features), elements=NUMBERS)) for steps in lengths]


def same(left: list[FloatArray], right: list[FloatArray]) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


# --- Laws ------------------------------------------------------------------------------------------------------------


@given(sequence_lists())
def test_a_list_comes_back(sequences: list[FloatArray]) -> None:
    ragged = Ragged.from_sequences(sequences)
    same(ragged.to_list(), sequences)
    same(list(ragged), sequences)
    assert len(ragged) == len(sequences)
    assert ragged.lengths.tolist() == [len(sequence) for sequence in sequences]
    assert ragged.total_steps == sum(len(sequence) for sequence in sequences)


@given(sequence_lists(), st.floats(-10, 10, width=32))
def test_a_padded_array_comes_back_whatever_stands_in_the_padding(sequences: list[FloatArray], fill: float) -> None:
    ragged = Ragged.from_sequences(sequences)
    padded = ragged.to_padded(fill)
    longest = max((len(sequence) for sequence in sequences), default=0)
    assert padded.shape == (len(sequences), longest, ragged.features)
    for row, sequence in zip(padded, sequences, strict=True):
        np.testing.assert_array_equal(row[: len(sequence)], sequence)
        assert (row[len(sequence) :] == np.float32(fill)).all()
    same(Ragged.from_padded(padded, ragged.lengths).to_list(), sequences)


@given(arrays.arrays(np.float32, st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(1, 3)), elements=NUMBERS))
def test_an_array_is_as_many_sequences_of_one_length(array: FloatArray) -> None:
    same(as_ragged(array).to_list(), list(array))
    np.testing.assert_array_equal(as_ragged(array).to_padded() if len(array) else array, array)


@given(sequence_lists(min_size=1), st.data())
def test_indexing_is_that_of_a_list(sequences: list[FloatArray], data: st.DataObject) -> None:
    ragged, count = Ragged.from_sequences(sequences), len(sequences)
    position = data.draw(st.integers(-count, count - 1))
    np.testing.assert_array_equal(ragged[position], sequences[position])
    np.testing.assert_array_equal(ragged[np.int64(position)], sequences[position])
    part = data.draw(st.slices(count))
    same(ragged[part].to_list(), sequences[part])
    chosen = data.draw(st.lists(st.integers(-count, count - 1)))
    same(ragged[chosen].to_list(), [sequences[i] for i in chosen])
    same(ragged[np.array(chosen, np.int64)].to_list(), [sequences[i] for i in chosen])
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    same(ragged[mask].to_list(), [sequence for sequence, wanted in zip(sequences, mask, strict=True) if wanted])


@given(sequence_lists(), st.data())
def test_steps_of_are_the_places_of_the_chosen_sequences(sequences: list[FloatArray], data: st.DataObject) -> None:
    ragged = Ragged.from_sequences(sequences)
    chosen = data.draw(st.lists(st.integers(0, len(sequences) - 1))) if sequences else []
    expected = [step for i in chosen for step in range(ragged.offsets[i], ragged.offsets[i + 1])]
    assert steps_of(ragged.offsets, chosen).tolist() == expected


@given(st.lists(st.integers(0, 9)))
def test_offsets_are_running_sums_of_lengths(lengths: list[int]) -> None:
    offsets = offsets_of(lengths)
    assert offsets.dtype == np.int64
    assert offsets.tolist() == [sum(lengths[:i]) for i in range(len(lengths) + 1)]


@given(sequence_lists(), st.sampled_from([np.float64, np.float32, np.int16, np.uint8, np.bool_]))
def test_values_are_float32_and_offsets_int64(sequences: list[FloatArray], dtype: Any) -> None:
    ragged = Ragged.from_sequences([np.zeros_like(sequence, dtype) for sequence in sequences])
    assert (ragged.values.dtype, ragged.offsets.dtype) == (np.float32, np.int64)
    assert ragged.values.flags.c_contiguous


# --- Examples --------------------------------------------------------------------------------------------------------


def test_nothing_is_copied_where_nothing_need_be() -> None:
    values, offsets = np.arange(6, dtype=np.float32).reshape(3, 2), np.array([0, 1, 3])
    ragged = Ragged(values, offsets)
    assert ragged.values is values
    assert ragged.offsets is offsets
    assert np.shares_memory(ragged[1], values)
    assert as_ragged(ragged) is ragged
    assert np.shares_memory(as_ragged(values.reshape(1, 3, 2)).values, values)


@pytest.mark.parametrize(
    "data",
    [
        [[1, 2], [3]],
        ([1.0, 2.0], [3.0]),
        [np.array([[1], [2]]), np.array([[3]])],
        [np.array([1, 2]), [3]],
        np.array([np.array([1, 2]), np.array([3])], dtype=object),
        Ragged([1, 2, 3], [0, 2, 3]),
    ],
    ids=lambda data: type(data).__name__,
)
def test_what_people_have_is_accepted(data: Any) -> None:
    same(as_ragged(data).to_list(), [np.array([[1], [2]], np.float32), np.array([[3]], np.float32)])


def test_two_dimensions_are_sequences_of_one_feature() -> None:
    same(as_ragged(np.array([[1, 2], [3, 4]])).to_list(), [np.float32([[1], [2]]), np.float32([[3], [4]])])


def test_other_values_for_the_same_sequences() -> None:
    ragged = Ragged([1, 2, 3], [0, 2, 3])
    other = ragged.with_values([[1, 9], [2, 8], [3, 7]])
    same(other.to_list(), [np.float32([[1, 9], [2, 8]]), np.float32([[3, 7]])])
    with pytest.raises(ValueError, match="from 0 to the number of steps, 2, not from 0 to 3"):
        ragged.with_values([1, 2])


def test_it_says_what_it_is() -> None:
    assert repr(Ragged(np.zeros((5, 2)), [0, 2, 2, 5])) == "Ragged(3 sequences, 5 steps, 2 features)"


def test_sequences_without_steps_are_kept() -> None:
    ragged = Ragged.from_sequences([[], [1.0], []])
    assert ragged.lengths.tolist() == [0, 1, 0]
    assert Ragged.from_sequences([]).to_padded().shape == (0, 0, 1)


@pytest.mark.parametrize(
    ("values", "offsets", "message"),
    [
        ([1, 2, 3], [0, 2], "offsets go from 0 to the number of steps, 3, not from 0 to 2"),
        ([1, 2, 3], [1, 3], "offsets go from 0 to the number of steps, 3, not from 1 to 3"),
        ([1, 2, 3], [0, 2, 1, 3], "offsets must not decrease, but do after position 1"),
        ([1, 2, 3], [], "offsets are n_sequences + 1 integers, not float64 of shape (0,)"),
        ([1, 2, 3], [[0, 3]], "offsets are n_sequences + 1 integers, not int64 of shape (1, 2)"),
        ([1, 2, 3], [0.0, 3.0], "offsets are n_sequences + 1 integers, not float64 of shape (2,)"),
        (["a", "b"], [0, 2], "values must be numbers, not <U1"),
        ([1j], [0, 1], "values must be numbers, not complex128"),
        (np.zeros((2, 2, 2)), [0, 2], "values have shape (steps, features), not (2, 2, 2)"),
        (3.0, [0, 1], "values have shape (steps, features), not ()"),
    ],
)
def test_contradictions_are_refused(values: Any, offsets: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        Ragged(values, offsets)


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        ([np.zeros((2, 3)), np.zeros((1, 2))], "sequence 1 has 2 features, but sequence 0 has 3"),
        ([[1.0], ["a"]], "sequence 1: values must be numbers, not <U1"),
        ([[1.0], np.zeros((1, 1, 1))], "sequence 1: values have shape (steps, features), not (1, 1, 1)"),
        ([1.0, 2.0], "sequence 0: values have shape (steps, features), not ()"),
        ([[1.0], None], "sequence 1: values must be numbers, not object"),
    ],
)
def test_the_sequence_that_is_wrong_is_named(sequences: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        as_ragged(sequences)


@pytest.mark.parametrize(
    ("padded", "lengths", "message"),
    [
        (np.zeros(3), None, "a padded batch has shape (n, steps, features), not (3,)"),
        (np.zeros((2, 3)), [1], "2 sequences need 2 lengths, not an array of shape (1,)"),
        (np.zeros((2, 3)), [1, 4], "lengths must lie between 0 and 3, the number of steps"),
        (np.zeros((2, 3)), [-1, 3], "lengths must lie between 0 and 3, the number of steps"),
        (np.zeros((2, 3)), [1.5, 2.0], "lengths must be whole numbers, not float64"),
        (np.full((1, 1), "a"), None, "values must be numbers, not <U1"),
    ],
)
def test_padded_arrays_that_contradict_their_lengths(padded: Any, lengths: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        Ragged.from_padded(padded, lengths)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (5, "not int of shape ()"),
        (np.zeros(3), "not ndarray of shape (3,)"),
        (np.zeros((1, 1, 1, 1)), "not ndarray of shape (1, 1, 1, 1)"),
        ("text", "not str of shape ()"),
        (None, "not NoneType of shape ()"),
    ],
    ids=str,
)
def test_what_holds_no_sequences_is_refused(data: Any, message: str) -> None:
    expected = "sequences are a (n, steps, features) array, a list of (steps, features) arrays or a Ragged, "
    with pytest.raises(ValueError, match="^" + re.escape(expected + message) + "$"):
        as_ragged(data)


@pytest.mark.parametrize("position", [3, -4])
def test_a_sequence_that_does_not_exist(position: int) -> None:
    with pytest.raises(IndexError, match=f"sequence {position} of 3"):
        Ragged([1, 2, 3], [0, 1, 2, 3])[position]


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow", "duckdb"])
def test_a_data_frame_does_not_say_where_sequences_begin(library: str) -> None:
    """It was read as a sequence of one feature for each row."""
    module: Any = pytest.importorskip(library)
    columns = {name: np.arange(50.0) for name in "abc"}
    frame = module.table(columns) if library == "pyarrow" else None
    if library == "duckdb":
        frame = module.sql("SELECT 1.0 AS a, 2.0 AS b")
    frame = module.DataFrame(columns) if frame is None else frame
    with pytest.raises(ValueError, match=r"^sequences are not given as a \w+, .* a list with a \(steps, "):
        as_ragged(frame)
    if library in ("pandas", "polars"):
        assert as_ragged([frame, frame]).lengths.tolist() == [50, 50]  # a frame for each sequence does
