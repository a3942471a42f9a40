"""Predictions piece by piece: the bits of a single prediction, however the steps are divided; and what cannot be."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilstm.layers import (
    CRF,
    GRU,
    LSTM,
    Bidirectional,
    ColumnEmbedding,
    Conv1D,
    Dense,
    Dropout,
    Embedding,
    GlobalMaxPooling1D,
    Masking,
    MaxPooling1D,
    Padding,
    Reverse,
    SimpleRNN,
    TimeDistributed,
)
from bilstm.models import Sequential
from bilstm.models.stream import Stream
from oracles.models import bits, numbers

FRONTS: dict[str, list[Any]] = {
    "numbers": [LSTM(17, return_sequences=True, input_shape=(None, 2))],
    "two layers": [LSTM(5, return_sequences=True, input_shape=(None, 2)), Dropout(0.5), LSTM(3, return_sequences=True)],
    "words": [Embedding(4, 3, input_shape=(None,)), LSTM(4, return_sequences=True)],
    "columns": [ColumnEmbedding(1, [4], [3], input_shape=(None, 2)), LSTM(4, return_sequences=True)],
    "GRU and SimpleRNN": [GRU(5, return_sequences=True, input_shape=(None, 2)), SimpleRNN(3, return_sequences=True)],
    "one row each": [LSTM(4, return_sequences=True, input_shape=(None, 2)), LSTM(6)],
}


def model_of(front: str) -> Sequential:
    last = Dense(3, "softmax")
    return Sequential([*FRONTS[front], last if front == "one row each" else TimeDistributed(last)], seed=1)


def sequences(front: str, lengths: list[int], seed: int) -> list[Any]:
    random = np.random.default_rng(seed)
    if front == "words":
        return [random.integers(4, size=(length, 1)) for length in lengths]
    return [np.column_stack([random.normal(size=n), random.integers(4, size=n)]).astype(np.float32) for n in lengths]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(list(FRONTS)),
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
    st.integers(0, 999),
    st.sampled_from(["float32", "bfloat16"]),
)
def test_pieces_are_predicted_as_the_whole(front: str, lengths: list[int], seed: int, precision: str) -> None:
    """Each sequence goes on by itself: at any moment some of them get some steps."""
    model, random = model_of(front), np.random.default_rng(seed)
    whole = sequences(front, lengths, seed)
    expected = model.predict(whole, precision=precision)
    stream = model.stream(sequences=len(whole), precision=precision)
    at, found = [0] * len(whole), [[] for _ in whole]
    while left := [i for i in range(len(whole)) if at[i] < lengths[i]]:
        chosen = random.permutation(left)[: random.integers(1, len(left) + 1)]
        counts = [int(random.integers(1, lengths[i] - at[i] + 1)) for i in chosen]
        rows = stream.predict([whole[i][at[i] : at[i] + n] for i, n in zip(chosen, counts, strict=True)], chosen)
        for i, n, row in zip(chosen, counts, rows, strict=True):
            at[i] += n
            found[i].append(row)
    for i in range(len(whole)):
        assert bits(found[i][-1] if front == "one row each" else np.concatenate(found[i])) == bits(expected[i])


def test_states_can_be_kept_restored_and_begun_again() -> None:
    model = model_of("two layers")
    x = numbers(2, 12, 2)
    expected = model.predict(x)
    stream = model.stream(sequences=2)
    assert stream.states.shape == (2, 2 * 5 + 2 * 3)
    stream.predict(x[:, :5])
    kept = stream.states.copy()
    first = stream.predict(x[:, 5:])
    stream.states = kept
    assert bits(stream.predict(x[:, 5:])) == bits(first) == bits(expected[:, 5:])
    stream.reset([1])
    assert [state.any() for state in stream.states] == [True, False]
    assert bits(stream.predict(x[1:], [1])) == bits(expected[1:])
    stream.reset()
    assert bits(stream.predict(x)) == bits(expected)


def test_nothing_is_changed_by_a_piece_that_is_refused() -> None:
    stream = model_of("numbers").stream(sequences=2)
    stream.predict(numbers(2, 3, 2))
    before = stream.states.copy()
    pieces: list[tuple[Any, Any, str]] = [
        (numbers(1, 3, 2), None, "stream: 2 sequences are open, but x has 1"),
        (numbers(2, 3, 5), None, "the network takes 2 features, the sequences have 5"),
        (numbers(2, 3, 2), [1, 1], "stream: which must be different whole numbers, not [1, 1]"),
        (numbers(2, 3, 2), [0.5, 1], "stream: which must be different whole numbers, not [0.5, 1]"),
        (numbers(2, 3, 2), [0, 2], "stream: which must be from 0 to 1, not [0, 2]"),
        (numbers(2, 3, 2), [-1, 0], "stream: which must be from 0 to 1, not [-1, 0]"),
        ([np.zeros((0, 2)), np.zeros((1, 2))], None, "no steps"),
        (
            [np.zeros((1, 2)), [[0, 1], [np.nan, 1]]],
            None,
            "x has nan in sequence 1, step 1, feature 0: every value must",
        ),
        (np.full((2, 3, 2), np.inf), None, "every value must be a finite number"),
    ]
    for x, which, message in pieces:
        with pytest.raises(ValueError, match=re.escape(message)):
            stream.predict(x, which)
        np.testing.assert_array_equal(stream.states, before)
    for which in ([2], [-1], [0, 0], [0.5]):
        with pytest.raises(ValueError, match="stream: which must be"):
            stream.reset(which)
        np.testing.assert_array_equal(stream.states, before)
    stream.reset([])
    np.testing.assert_array_equal(stream.states, before)
    stream.states = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match="states have shape"):
        stream.predict(numbers(2, 3, 2))


@pytest.mark.parametrize(
    "layer",
    [
        Bidirectional(LSTM(2, return_sequences=True), input_shape=(None, 2)),
        LSTM(2, return_sequences=True, go_backwards=True, input_shape=(None, 2)),
    ],
)
@pytest.mark.parametrize("after", [[], [Reverse()], [GlobalMaxPooling1D()]])
def test_networks_that_need_the_end_of_a_sequence(layer: Any, after: list[Any]) -> None:
    model = Sequential([layer, *after, Dense(1)])
    message = f"stream: {layer!r} cannot work step by step: only layers that read forward and keep what they know"
    with pytest.raises(ValueError, match=re.escape(message)):
        model.stream()


def test_other_networks_without_a_stream() -> None:
    forward = LSTM(2, return_sequences=True, input_shape=(None, 2))
    with pytest.raises(ValueError, match="GlobalMaxPooling1D.* cannot work step by step"):
        Sequential([forward, GlobalMaxPooling1D()]).stream()
    with pytest.raises(ValueError, match="Conv1D.* cannot work step by step"):
        Sequential([Conv1D(2, 3, padding="causal", input_shape=(None, 2)), LSTM(2)]).stream()
    with pytest.raises(ValueError, match="leaves out masked steps"):
        Sequential([Masking(input_shape=(None, 2)), LSTM(2)]).stream()
    with pytest.raises(ValueError, match="stream: the model is not built"):
        Sequential([LSTM(2)]).stream()
    with pytest.raises(ValueError, match="stream: sequences must be"):
        Sequential([forward]).stream(sequences=0)
    with pytest.raises(ValueError, match="stream: precision must be one of"):
        Sequential([forward]).stream(precision="float16")


def test_it_says_what_it_is() -> None:
    model = model_of("numbers")
    assert isinstance(model.stream(), Stream)
    assert repr(model.stream(sequences=3)) == f"Stream(3 sequences of {model!r})"


# --- Bounded look-ahead: tests/laws/test_lookahead.py has its laws ----------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([LSTM(2), Dense(1)], "LSTM.* returns one row for each sequence, which needs its end"),
        ([LSTM(2, return_sequences=True), GlobalMaxPooling1D()], "GlobalMaxPooling1D.* returns one row for each"),
        ([MaxPooling1D(2), LSTM(2, return_sequences=True)], "MaxPooling1D.* changes the number of steps"),
        ([LSTM(2, return_sequences=True), Conv1D(2, 3, padding="same")], "Conv1D.* behind a recurrent layer"),
        ([LSTM(2, return_sequences=True, go_backwards=True)], "LSTM.* returns a sequence's last step first"),
        ([LSTM(2, return_sequences=True), Reverse()], "LSTM.* returns a sequence's last step first"),
        (
            [Bidirectional(LSTM(2, return_sequences=True, go_backwards=True)), Dense(1)],
            "Bidirectional.* returns a sequence's last step first",
        ),
        ([Bidirectional(LSTM(2, return_sequences=True), merge_mode=None)], "Bidirectional.* has two outputs"),
        ([Masking(), LSTM(2, return_sequences=True)], "Masking.* leaves out masked steps"),
        ([Padding(9), LSTM(2, return_sequences=True)], "Padding.* extends sequences to a length that only"),
        ([Embedding(3, 2, mask_zero=True), LSTM(2, return_sequences=True)], "Embedding.* leaves out masked steps"),
        ([LSTM(2, return_sequences=True), Dense(2), CRF(2)], "CRF.* predicts the labels of a sequence together"),
    ],
)
def test_layers_without_bounded_look_ahead(layers: list[Any], message: str) -> None:
    model = Sequential(layers)
    model.build((None, 1 if isinstance(layers[0], Embedding) else 2))
    for look_ahead in (0, "all"):
        with pytest.raises(ValueError, match=f"stream: {message}"):
            model.stream(look_ahead=look_ahead)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"look_ahead": -1}, ValueError, "look_ahead must be at least 0, not -1"),
        ({"look_ahead": 1.5}, TypeError, "look_ahead must be a whole number, not 1.5"),
        ({"look_ahead": "some"}, ValueError, "look_ahead must be a number of steps or 'all', not 'some'"),
        ({"look_ahead": 2, "block": 0}, ValueError, "block must be at least 1, not 0"),
        ({"look_ahead": "all", "block": 2}, ValueError, "block has no effect with look_ahead='all'"),
        ({"look_ahead": 2, "sequences": 2}, ValueError, "with look_ahead, sequences are opened by their keys"),
        ({"look_ahead": 2, "precision": "float16"}, ValueError, "precision must be one of"),
        ({"block": 2}, ValueError, "block is for streams with look_ahead"),
        ({"look_ahead": 1}, ValueError, "the convolutions read 2 steps ahead, so look_ahead must be at least 2, not 1"),
    ],
)
def test_options_of_look_ahead(options: dict[str, Any], error: Any, message: str) -> None:
    both = Bidirectional(LSTM(2, return_sequences=True))
    model = Sequential([Conv1D(2, 5, padding="same", input_shape=(None, 2)), both])
    with pytest.raises(error, match=re.escape(message)):
        model.stream(**options)


def test_look_ahead_that_only_delays() -> None:
    message = "no layer reads backward, so look_ahead=3 only delays outputs: give 0"
    with pytest.raises(ValueError, match=re.escape(message)):
        model_of("numbers").stream(look_ahead=3)
    stream = model_of("numbers").stream(look_ahead=0)
    assert repr(stream) == "LookAheadStream(look_ahead=0, block=1; 0 open)"
    with pytest.raises(ValueError, match="stream: the model is not built"):
        Sequential([LSTM(2, return_sequences=True)]).stream(look_ahead=0)
