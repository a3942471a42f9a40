"""What both directions of time have in common, and what each may not see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilstm.layers import LSTM, Bidirectional, GlobalAveragePooling1D, GlobalMaxPooling1D, Layer, Reverse
from bilstm.models import Sequential
from bilstm.ragged import FloatArray, Ragged, offsets_of
from oracles.models import CELLS, UNITS, bits

MERGE_MODES = ("concat", "sum", "mul", "ave", None)
MERGES: dict[str | None, Any] = {
    "concat": lambda f, b: np.concatenate([f, b], axis=1),
    "sum": lambda f, b: f + b,
    "mul": lambda f, b: f * b,
    "ave": lambda f, b: (f + b) * np.float32(0.5),
    None: lambda f, b: np.concatenate([f, b], axis=1),
}
LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=6)
BATCHES = st.builds(
    lambda lengths, seed: Ragged(
        np.random.default_rng(seed).normal(size=(sum(lengths), 3)).astype(np.float32), offsets_of(lengths)
    ),
    LENGTHS,
    st.integers(0, 2**32),
)
SIZES = st.sampled_from(UNITS)
KINDS = st.sampled_from([*CELLS.values()])


def of_layers(*layers: Layer, weights: list[FloatArray] | None = None) -> Sequential:
    model = Sequential(layers, seed=1)
    model.build((None, 3))
    random = np.random.default_rng(5)
    model.set_weights(weights or [random.normal(size=w.shape).astype(np.float32) for w in model.get_weights()])
    return model


def of_two(merge_mode: str | None, units: int, *, sequences: bool = True, cell: Any = LSTM) -> Sequential:
    return of_layers(Bidirectional(cell(units, return_sequences=sequences), merge_mode))


def backwards(data: Ragged) -> Ragged:
    return Ragged.from_sequences([sequence[::-1] for sequence in data])


def rows(model: Sequential, data: Ragged) -> Ragged:
    """A row for each step, as sequences."""
    return data.with_values(model.predict_rows(data))


def exchanged(weights: list[FloatArray]) -> list[FloatArray]:
    return weights[3:] + weights[:3]


# --- Reversal --------------------------------------------------------------------------------------------------------


@given(BATCHES, st.sampled_from(MERGE_MODES), SIZES, KINDS)
@settings(max_examples=80)
def test_reversed_sequences_and_exchanged_directions_give_reversed_outputs(
    data: Ragged, merge_mode: str | None, units: int, cell: Any
) -> None:
    model = of_two(merge_mode, units, cell=cell)
    mirrored = of_two(merge_mode, units, cell=cell)
    mirrored.set_weights(exchanged(model.get_weights()))
    expected = rows(model, data)
    found = backwards(rows(mirrored, backwards(data)))
    if merge_mode in ("concat", None):  # the halves change places as well
        found = found.with_values(np.roll(found.values, units, axis=1))
    assert bits(found.values) == bits(expected.values)


@given(BATCHES, st.sampled_from(MERGE_MODES), SIZES, KINDS)
@settings(max_examples=40)
def test_the_same_for_one_row_each(data: Ragged, merge_mode: str | None, units: int, cell: Any) -> None:
    model, mirrored = (of_two(merge_mode, units, sequences=False, cell=cell) for _ in range(2))
    mirrored.set_weights(exchanged(model.get_weights()))
    found = mirrored.predict_rows(backwards(data))
    if merge_mode in ("concat", None):
        found = np.roll(found, units, axis=1)
    assert bits(found) == bits(model.predict_rows(data))


@given(BATCHES, SIZES, st.booleans(), KINDS)
@settings(max_examples=40)
def test_going_backwards_is_reading_reversed_sequences(data: Ragged, units: int, sequences: bool, cell: Any) -> None:
    forward = of_layers(cell(units, return_sequences=sequences))
    backward = of_layers(cell(units, return_sequences=sequences, go_backwards=True))
    assert bits(backward.predict_rows(data)) == bits(forward.predict_rows(backwards(data)))


@given(BATCHES, SIZES, KINDS)
@settings(max_examples=40)
def test_reverse_turns_the_outputs_of_every_sequence_round(data: Ragged, units: int, cell: Any) -> None:
    for go_backwards in (False, True):
        layer = cell(units, return_sequences=True, go_backwards=go_backwards)
        plain, turned = of_layers(layer), of_layers(layer, Reverse())
        assert bits(rows(turned, data).values) == bits(backwards(rows(plain, data)).values)
    for merge_mode in ("concat", "sum", "mul", "ave"):
        both = of_two(merge_mode, units, cell=cell)
        turned = of_layers(*both.layers, Reverse(), weights=both.get_weights())
        assert bits(rows(turned, data).values) == bits(backwards(rows(both, data)).values)


def test_reverse_may_follow_once_only() -> None:
    with pytest.raises(ValueError, match="Reverse must directly follow a recurrent layer"):
        of_layers(LSTM(2, return_sequences=True), Reverse(), Reverse())


# --- Two directions are two layers -----------------------------------------------------------------------------------


@given(BATCHES, st.sampled_from(MERGE_MODES), SIZES, st.booleans(), KINDS)
@settings(max_examples=80)
def test_merging_is_elementwise_on_the_two_layers_outputs(
    data: Ragged, merge_mode: str | None, units: int, sequences: bool, cell: Any
) -> None:
    model = of_two(merge_mode, units, sequences=sequences, cell=cell)
    weights = model.get_weights()
    forward = of_layers(cell(units, return_sequences=sequences), weights=weights[:3])
    reader = cell(units, return_sequences=sequences, go_backwards=True)
    backward = of_layers(reader, *([Reverse()] if sequences else []), weights=weights[3:])
    expected = MERGES[merge_mode](forward.predict_rows(data), backward.predict_rows(data))
    assert bits(model.predict_rows(data)) == bits(expected)


@given(BATCHES, SIZES, SIZES, st.booleans(), KINDS, KINDS)
@settings(max_examples=40)
def test_unequal_directions_stand_side_by_side(
    data: Ragged, units: int, others: int, sequences: bool, cell: Any, other: Any
) -> None:
    forward = cell(units, return_sequences=sequences)
    backward = other(others, return_sequences=sequences, go_backwards=True)
    model = of_layers(Bidirectional(forward, backward_layer=backward))
    weights = model.get_weights()
    halves = [
        of_layers(forward, weights=weights[:3]).predict_rows(data),
        of_layers(backward, *([Reverse()] if sequences else []), weights=weights[3:]).predict_rows(data),
    ]
    assert bits(model.predict_rows(data)) == bits(np.concatenate(halves, axis=1))


@given(BATCHES, st.sampled_from(MERGE_MODES), SIZES, KINDS)
@settings(max_examples=40)
def test_a_forward_layer_that_goes_backwards(data: Ragged, merge_mode: str | None, units: int, cell: Any) -> None:
    """As in Keras, the second layer's outputs are turned round to line up with the first's, in processing order."""
    plain = of_two(merge_mode, units, cell=cell)
    other = of_layers(
        Bidirectional(cell(units, return_sequences=True, go_backwards=True), merge_mode), weights=plain.get_weights()
    )
    assert bits(rows(other, data).values) == bits(rows(plain, backwards(data)).values)


@given(BATCHES, st.sampled_from(MERGE_MODES), SIZES, KINDS)
@settings(max_examples=40)
def test_one_row_each_is_the_last_that_each_direction_computed(
    data: Ragged, merge_mode: str | None, units: int, cell: Any
) -> None:
    every = of_two("concat", units, cell=cell)
    last = of_layers(Bidirectional(cell(units), merge_mode), weights=every.get_weights())
    outputs = rows(every, data)
    forward = np.stack([sequence[-1, :units] for sequence in outputs])
    backward = np.stack([sequence[0, units:] for sequence in outputs])
    assert bits(last.predict_rows(data)) == bits(MERGES[merge_mode](forward, backward))


# --- Pooling ---------------------------------------------------------------------------------------------------------


@given(BATCHES, SIZES)
@settings(max_examples=40)
def test_pooling_is_numpys_over_each_sequences_own_steps(data: Ragged, units: int) -> None:
    every = of_two("concat", units)
    outputs = rows(every, data)
    for layer, pool in ((GlobalMaxPooling1D(), np.max), (GlobalAveragePooling1D(), np.mean)):
        model = of_layers(*every.layers, layer, weights=every.get_weights())
        expected = np.stack([pool(sequence, axis=0) for sequence in outputs])
        np.testing.assert_allclose(model.predict_rows(data), expected, rtol=1e-6, atol=1e-7)
    largest = of_layers(GlobalMaxPooling1D()).predict_rows(data)
    assert bits(largest) == bits(np.stack([sequence.max(axis=0) for sequence in data]))
    assert bits(of_layers(GlobalMaxPooling1D()).predict_rows(backwards(data))) == bits(largest)


@pytest.mark.parametrize("layer", [GlobalMaxPooling1D(), GlobalAveragePooling1D()], ids=lambda p: type(p).__name__)
def test_what_is_no_number_stays_in_its_sequence_and_column(layer: Layer) -> None:
    values = np.arange(15, dtype=np.float32).reshape(5, 3)
    values[0, 1] = values[2, 1] = np.nan
    pooled = of_layers(layer).predict_rows(Ragged(values, [0, 1, 3, 5]))
    assert np.isnan(pooled).tolist() == [[False, True, False]] * 2 + [[False] * 3]


# --- What a direction may not see ------------------------------------------------------------------------------------


@given(BATCHES, st.lists(st.integers(0, 4), min_size=6, max_size=6), SIZES, st.integers(0, 2**32), KINDS)
@settings(max_examples=60)
def test_later_steps_change_nothing_before_them(
    data: Ragged, extra: list[int], units: int, seed: int, cell: Any
) -> None:
    random = np.random.default_rng(seed)
    more = [random.normal(size=(count, 3)) for count in extra]
    longer = Ragged.from_sequences([np.concatenate(pair) for pair in zip(data, more, strict=False)])
    earlier = Ragged.from_sequences([np.concatenate(pair[::-1]) for pair in zip(data, more, strict=False)])
    forward = of_layers(cell(units, return_sequences=True), cell(5, return_sequences=True))
    for whole, part in zip(rows(forward, longer), rows(forward, data), strict=True):
        assert bits(whole[: len(part)]) == bits(part)
    backward = of_layers(cell(units, return_sequences=True, go_backwards=True), Reverse())
    for whole, part in zip(rows(backward, earlier), rows(backward, data), strict=True):
        assert bits(whole[len(whole) - len(part) :]) == bits(part)


@pytest.mark.parametrize("merge_mode", MERGE_MODES)
def test_every_output_of_both_directions_sees_every_step(merge_mode: str | None) -> None:
    model = of_two(merge_mode, 4)
    data = Ragged(np.random.default_rng(1).normal(size=(6, 3)), [0, 6])
    before = model.predict_rows(data)
    for step in range(6):
        values = data.values.copy()
        values[step] += 1
        assert (model.predict_rows(data.with_values(values)) != before).any(axis=1).all()


@given(BATCHES, st.sampled_from([np.nan, np.inf, -1e30, 7.0]), st.sampled_from(MERGE_MODES), st.booleans())
@settings(max_examples=60)
def test_padding_is_never_read(data: Ragged, garbage: float, merge_mode: str | None, sequences: bool) -> None:
    padded = data.to_padded(garbage)
    padded = np.concatenate([padded, np.full_like(padded[:, :1], garbage)], axis=1)
    model = of_two(merge_mode, 3, sequences=sequences)
    assert bits(model.predict_rows(Ragged.from_padded(padded, data.lengths))) == bits(model.predict_rows(data))


@given(BATCHES)
@settings(max_examples=20)
def test_nor_is_it_learnt_from(data: Ragged) -> None:
    y = np.random.default_rng(1).normal(size=(data.total_steps, 6))
    models = []
    for x in (data, Ragged.from_padded(data.to_padded(np.nan), data.lengths)):
        model = of_two("concat", 3)
        model.compile("adam", "mse")
        models.append((model.train_on_batch(x, y), [bits(weight) for weight in model.get_weights()]))
    assert models[0] == models[1]
