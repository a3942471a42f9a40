"""Bounded look-ahead: the same bits however steps are cut into pushes, and those of a whole prediction at the end."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from bilstm.layers import (
    GRU,
    LSTM,
    BatchNormalization,
    Bidirectional,
    Conv1D,
    Dense,
    Dropout,
    Embedding,
    Reverse,
    SimpleRNN,
    TimeDistributed,
)
from bilstm.models import LookAheadStream, Sequential
from bilstm.ragged import FloatArray
from oracles.models import bits

SHAPE: dict[str, Any] = {"input_shape": (None, 2)}
FRONTS: dict[str, list[Any]] = {
    "one layer": [Bidirectional(LSTM(9, return_sequences=True), **SHAPE)],
    "two layers": [
        Bidirectional(LSTM(5, return_sequences=True), merge_mode="sum", **SHAPE),
        Dropout(0.5),
        Bidirectional(GRU(3, return_sequences=True)),
    ],
    "convolutions": [
        Conv1D(4, 4, padding="same", activation="relu", **SHAPE),
        BatchNormalization(),
        Conv1D(3, 2, padding="causal", dilation_rate=2),
        Bidirectional(SimpleRNN(5, return_sequences=True)),
    ],
    "backward": [GRU(5, return_sequences=True, go_backwards=True, **SHAPE), Reverse()],
    "mixed": [
        LSTM(4, return_sequences=True, **SHAPE),
        Bidirectional(LSTM(3, return_sequences=True), backward_layer=GRU(4, return_sequences=True, go_backwards=True)),
    ],
    "words": [Embedding(4, 3, input_shape=(None,)), Bidirectional(LSTM(4, return_sequences=True))],
}
FORWARD: dict[str, list[Any]] = {
    "forward": [LSTM(5, return_sequences=True, **SHAPE), GRU(3, return_sequences=True)],
    "convolutions, forward": [Conv1D(4, 5, padding="same", **SHAPE), LSTM(3, return_sequences=True)],
    "convolutions alone": [Conv1D(4, 3, padding="same", activation="tanh", **SHAPE)],
    "steps alone": [Dense(3, "tanh", **SHAPE)],
}
AHEAD = {"convolutions": 2, "convolutions, forward": 2, "convolutions alone": 1}  # what the convolutions read ahead
LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=4)


def model_of(front: str) -> Sequential:
    model = Sequential([*(FRONTS | FORWARD)[front], TimeDistributed(Dense(3, "softmax"))], seed=1)
    random = np.random.default_rng(1)
    model.set_weights([np.abs(w) if w.ndim == 1 else w + random.normal(0, 0.2, w.shape) for w in model.get_weights()])
    return model


def sequences(front: str, lengths: list[int], seed: int = 0) -> list[FloatArray]:
    random = np.random.default_rng(seed)
    if front == "words":
        return [random.integers(4, size=(length, 1)).astype(np.float32) for length in lengths]
    return [random.normal(size=(length, 2)).astype(np.float32) for length in lengths]


def pushed(stream: LookAheadStream, whole: list[FloatArray], seed: int) -> list[FloatArray]:
    """The outputs when at any moment some sequences get some steps, and some end; their states move now and then."""
    random = np.random.default_rng(seed)
    at, found = [0] * len(whole), [list[FloatArray]() for _ in whole]
    going_on = list(range(len(whole)))
    while going_on:
        chosen = random.permutation(going_on)[: random.integers(1, len(going_on) + 1)].tolist()
        steps = {}
        for i in chosen:
            count = int(random.integers(0, len(whole[i]) - at[i] + 1))
            steps[i] = whole[i][at[i] : at[i] + count]
            at[i] += count
        for i, rows in stream.push_many(steps).items():
            found[i].append(rows)
        ended = [i for i in chosen if at[i] == len(whole[i])]
        for i, rows in stream.finish_many(ended).items():
            found[i].append(rows)
        going_on = [i for i in going_on if i not in ended]
        for i in going_on:
            if i in stream and random.random() < 0.2:
                stream.set_state(stream.get_state(i), i)
    assert not len(stream)
    return [np.concatenate(rows) for rows in found]


def by_definition(model: Sequential, steps: FloatArray, look_ahead: int, block: int) -> FloatArray:
    """For networks without convolutions: block after block, by the engine's own pass from states."""
    network = model.network
    assert network is not None
    from bilstm.models.stages import stages_of
    from bilstm.ragged import Ragged

    backward = stages_of(model).backward
    states, rows = np.zeros((1, network.state_width), np.float32), []
    for start in range(0, len(steps), block):
        window = steps[start : start + block + look_ahead]
        count = min(block, len(window))
        outputs, after = network.predict(
            Ragged.from_sequences([window]), states, return_states=True, leave_at=np.array([count])
        )
        assert after is not None
        states = np.where(backward, np.float32(0), after)
        rows.append(outputs[:count])
    return np.concatenate(rows)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(list(FRONTS)),
    LENGTHS,
    st.integers(0, 6),
    st.integers(1, 7),
    st.integers(0, 999),
    st.sampled_from(["float32", "bfloat16"]),
)
def test_any_cut_and_any_company(
    front: str, lengths: list[int], look_ahead: int, block: int, seed: int, precision: str
) -> None:
    model, whole = model_of(front), sequences(front, lengths, seed)
    options: dict[str, Any] = {
        "look_ahead": look_ahead + AHEAD.get(front, 0),
        "block": block,
        "precision": precision,
    }
    found = pushed(model.stream(**options), whole, seed)
    for steps, rows in zip(whole, found, strict=True):
        alone = model.stream(**options)
        expected = np.concatenate([*(alone.push(step[np.newaxis]) for step in steps), alone.finish()])
        assert bits(rows) == bits(expected)
        if precision == "float32" and front not in AHEAD:
            assert bits(rows) == bits(by_definition(model, steps, look_ahead, block))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([*FRONTS, *FORWARD]), LENGTHS, st.integers(1, 40), st.integers(0, 999), st.booleans())
def test_where_the_look_ahead_reaches_the_end(
    front: str, lengths: list[int], block: int, seed: int, bounded: bool
) -> None:
    model, whole = model_of(front), sequences(front, lengths, seed)
    options: dict[str, Any] = {"look_ahead": "all"}
    if front in FORWARD:
        options = {"look_ahead": AHEAD.get(front, 0), "block": block}
    elif bounded:
        options = {"look_ahead": max(*lengths, AHEAD.get(front, 0)), "block": block}
    found = pushed(model.stream(**options), whole, seed)
    for rows, expected in zip(found, model.predict(whole), strict=True):
        assert bits(rows) == bits(expected)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 30), st.integers(0, 6), st.integers(1, 7))
def test_a_single_layer_is_exact_for_each_block_that_sees_the_end(steps: int, look_ahead: int, block: int) -> None:
    model, (whole,) = model_of("one layer"), sequences("one layer", [steps])
    stream = model.stream(look_ahead=look_ahead, block=block)
    rows = np.concatenate([stream.push(whole), stream.finish()])
    seen = [start for start in range(0, steps, block) if start + block + look_ahead >= steps]
    assert bits(rows[seen[0] :]) == bits(model.predict([whole])[0][seen[0] :])


@pytest.mark.parametrize("front", ["two layers", "convolutions"])
@pytest.mark.parametrize("look_ahead", [2, 5, "all"])
def test_steps_are_final_when_their_look_ahead_is_there(front: str, look_ahead: Any) -> None:
    block = 3 if look_ahead != "all" else 1
    stream = model_of(front).stream(look_ahead=look_ahead, block=block)
    (whole,) = sequences(front, [40])
    final = 0
    for count, step in enumerate(whole, 1):
        final += len(stream.push(step[np.newaxis]))
        assert final == stream.position()
        assert final == (0 if look_ahead == "all" else max(0, (count - look_ahead) // block * block))
    assert final + len(stream.finish()) == 40


# --- States as data ---------------------------------------------------------------------------------------------------


def through_npz(state: Mapping[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    np.savez(file, **state)
    file.seek(0)
    return dict(np.load(file))


def through_safetensors(state: Mapping[str, Any]) -> dict[str, Any]:
    return safetensors.numpy.load(safetensors.numpy.save(dict(state)))


@pytest.mark.parametrize("saved", [through_npz, through_safetensors])
@pytest.mark.parametrize("front", ["two layers", "convolutions"])
def test_another_stream_takes_up_what_one_left(saved: Any, front: str) -> None:
    (whole,) = sequences(front, [50])
    options: dict[str, Any] = {"look_ahead": 4, "block": 3}
    once = model_of(front).stream(**options)
    expected = np.concatenate([once.push(whole), once.finish()])
    for cut in range(0, 50, 7):
        first, second = model_of(front).stream(**options), model_of(front).stream(**options)
        rows = [first.push(whole[:cut], "a")]
        second.set_state(saved(first.get_state("a")), "b")
        rows += [second.push(whole[cut:], "b"), second.finish("b")]
        assert bits(np.concatenate(rows)) == bits(expected)


def test_what_is_kept_does_not_grow() -> None:
    stream = model_of("convolutions").stream(look_ahead=4, block=3)
    (whole,) = sequences("convolutions", [3000])
    for start in range(0, 3000, 50):
        stream.push(whole[start : start + 50])
        assert len(stream.get_state()["inputs"]) < 3 + 4 + 3


# --- What is refused --------------------------------------------------------------------------------------------------


def test_nothing_changes_with_steps_that_are_refused() -> None:
    stream = model_of("two layers").stream(look_ahead=1)
    (whole,) = sequences("two layers", [9])
    stream.push(whole, "a")
    before = stream.get_state("a")
    wrong: list[tuple[Any, str]] = [
        ([[0.0, np.nan]], "sequence 'b': x has nan in sequence 0, step 0, feature 1"),
        ([[np.inf, 0.0]], "every value must be a finite number"),
        ([[1.0, 2.0, 3.0]], "sequence 'b': the network takes 2 features, the steps have 3"),
        ([["x", "y"]], "values must be numbers"),
        (np.zeros((2, 2, 2)), "values have shape"),
    ]
    for steps, message in wrong:
        with pytest.raises(ValueError, match=message):
            stream.push_many({"a": whole, "b": steps})
        assert stream.keys == ["a"]
        assert all(np.array_equal(before[name], value) for name, value in stream.get_state("a").items())
    for call in (stream.finish, stream.get_state):
        with pytest.raises(KeyError, match="no sequence 'b' is open"):
            call("b")
        with pytest.raises(KeyError, match="no sequence is open"):
            call()
    with pytest.raises(KeyError, match="'b'"):
        stream.finish_many(["a", "b"])
    assert "a" in stream
    assert stream.finish_many([]) == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"look_ahead": np.array(3)}, "that of a stream with look_ahead 3, not 4"),
        ({"block": np.array(2)}, "that of a stream with block 2, not 3"),
        ({"network": np.zeros(8, np.uint8)}, "that of another network"),
        ({"position": np.array(4)}, "position must be a multiple of 3, not 4"),
        ({"position": np.array(-3)}, "position must be a multiple of 3"),
        ({"position": np.array(3.0)}, "position must be a multiple of 3"),
        ({"inputs": np.zeros((3, 1), np.float32)}, "have shapes that no stream"),
        ({"inputs": np.zeros((99, 2), np.float32)}, "have shapes that no stream"),
        ({"inputs": np.array(1.0, np.float32)}, "have shapes that no stream"),
        ({"states": np.zeros(3, np.float32)}, "have shapes that no stream"),
        ({"inputs": np.full((4, 2), np.nan, np.float32)}, "no finite float32"),
        ({"states": None}, "the state has no 'states'"),
    ],
)
def test_damaged_states(change: dict[str, Any], message: str) -> None:
    stream = model_of("two layers").stream(look_ahead=4, block=3)
    stream.push(sequences("two layers", [11])[0])
    state: dict[str, Any] = {name: value for name, value in (stream.get_state() | change).items() if value is not None}
    with pytest.raises(ValueError, match=message):
        stream.set_state(state)


def test_other_weights_are_another_network() -> None:
    stream = model_of("two layers").stream(look_ahead=1)
    stream.push(sequences("two layers", [3])[0])
    other = model_of("two layers")
    other.set_weights([weight * 2 for weight in other.get_weights()])
    with pytest.raises(ValueError, match="another network"):
        other.stream(look_ahead=1).set_state(stream.get_state())
