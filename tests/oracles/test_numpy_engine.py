"""The reference itself, checked against published vectors, central differences and symmetries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from bilstm.engine.losses import TABLE
from bilstm.engine.plans import ACTIVATIONS
from bilstm.ragged import Ragged
from oracles.networks import (
    AVERAGE,
    CELLS,
    EMBEDDING,
    LARGEST,
    MERGE_MODES,
    REVERSE,
    Problem,
    attention,
    bidirectional,
    column_embedding,
    convolution,
    dense,
    dropout,
    gru,
    inputs,
    lstm,
    network_for,
    problems,
    spatial_dropout,
    time_distributed,
)
from oracles.numpy_engine import Adam, NumpyNetwork, dropout_keep, philox4x32
from oracles.numpy_losses import labelled_targets

# --- Philox and dropout ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_gives_the_known_answers_of_random123(counter: str, key: str, expected: str) -> None:
    counters = [[int(word, 16) for word in counter.split()]] * 2
    k0, k1 = (int(word, 16) for word in key.split())
    assert [" ".join(f"{word:08x}" for word in row) for row in philox4x32(counters, (k0, k1))] == [expected] * 2


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (5, 3), (2, 8)])
def test_dropout_keeps_what_its_law_says_element_by_element(rate: float, rows: int, width: int) -> None:
    seed = 0x123456789ABCDEF0
    keep = dropout_keep(rate, rows, width, seed=seed, position=6, layer_index=4, step=9)
    for row in range(rows):
        for column in range(width):
            element = row * width + column
            words = philox4x32([[element // 4, 6, 4, 9]], (0x9ABCDEF0, 0x12345678))[0]
            assert keep[row, column] == (int(words[element % 4]) / 2**32 >= rate)


def test_an_element_at_the_threshold_is_kept() -> None:
    word = int(philox4x32([[0, 0, 1, 2]], (3, 0))[0, 0])
    for threshold, kept in [(word, True), (word + 1, False)]:
        assert dropout_keep(threshold / 2**32, 1, 1, seed=3, position=0, layer_index=1, step=2)[0, 0] == kept


def test_dropout_depends_on_every_part_of_its_counter_and_key() -> None:
    masks = [
        dropout_keep(0.5, 40, 5, seed=seed, position=position, layer_index=layer_index, step=step).tobytes()
        for seed, position, layer_index, step in [
            (1, 0, 0, 0),
            (2, 0, 0, 0),
            (1 + 2**32, 0, 0, 0),
            (1, 1, 0, 0),
            (1, 0, 1, 0),
            (1, 0, 0, 1),
        ]
    ]
    assert len(set(masks)) == len(masks)


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.8])
def test_dropout_drops_its_share_scales_the_rest_and_rests_outside_of_training(rate: float) -> None:
    batch = Ragged(np.ones((20_000, 2)), [0, 1, 12_000, 20_000])
    network = NumpyNetwork([dropout(rate)], 2, [])
    dropped = network.forward(batch, training=True, seed=5, step=3)
    assert set(np.unique(dropped)) <= {0.0, float(np.float32(1 / (1 - rate)))}
    assert abs((dropped == 0).mean() - rate) < 0.01
    np.testing.assert_array_equal(network.forward(batch, seed=5, step=3), batch.values)


# --- Gradients ------------------------------------------------------------------------------------------------------

LENGTHS = [3, 1, 5]


def check_gradients(problem: Problem) -> None:
    """Every learned array's gradient, along two random directions, against central differences."""
    weights = problem.network.weights
    value, gradients = problem.network.gradients(problem.batch, problem.targets, **problem.options)
    assert value == problem.network.loss(problem.batch, problem.targets, **problem.options)
    assert [g.shape for g in gradients] == [w.shape for w in weights]
    rng = np.random.default_rng(1)
    for number in [*np.flatnonzero(problem.network.learned)] * 2:
        direction = rng.normal(size=weights[number].shape)
        losses = []
        for step in (1e-5, -1e-5):
            moved = [w + step * direction if k == number else w for k, w in enumerate(weights)]
            problem.network.set_weights(moved)
            losses.append(problem.network.loss(problem.batch, problem.targets, **problem.options))
        numeric = (losses[0] - losses[1]) / 2e-5
        np.testing.assert_allclose((gradients[number] * direction).sum(), numeric, rtol=1e-6, atol=1e-8)
    problem.network.set_weights(weights)


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("merge_mode", MERGE_MODES)
def test_gradients_of_bidirectional(merge_mode: str | None, sequences: bool) -> None:
    layers = [bidirectional(), bidirectional(merge_mode, sequences=sequences)]
    check_gradients(Problem.draw([*layers, dense(2)], "mean_squared_error", LENGTHS, 1))
    check_gradients(Problem.draw(layers, "mean_squared_error", LENGTHS, 2))


@pytest.mark.parametrize("merge_mode", ["concat", None])
@pytest.mark.parametrize("sequences", [True, False])
def test_gradients_of_a_backward_layer_with_other_units(merge_mode: str | None, sequences: bool) -> None:
    layer = bidirectional(merge_mode, sequences=sequences, backward=lstm(2, sequences=sequences, backwards=True))
    check_gradients(Problem.draw([layer, dense(2)], "mean_squared_error", LENGTHS, 3))


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("backwards", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_of_recurrent_layers(cell: Any, backwards: bool, sequences: bool) -> None:
    layers = [cell(2, backwards=not backwards), cell(3, sequences=sequences, backwards=backwards)]
    check_gradients(Problem.draw(layers, "mean_squared_error", LENGTHS, 4))


@pytest.mark.parametrize("merge_mode", ["concat", "mul"])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_of_mixed_directions(cell: Any, merge_mode: str) -> None:
    layer = bidirectional(merge_mode, forward=cell(2), backward=gru(2, backwards=True))
    check_gradients(Problem.draw([layer, dense(2)], "mean_squared_error", LENGTHS, 3))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_of_activations(activation: str) -> None:
    layers = [time_distributed(dense(4, activation)), lstm(2), time_distributed(dense(3, activation))]
    check_gradients(Problem.draw(layers, "mean_squared_error", LENGTHS, 5))
    check_gradients(Problem.draw(layers[:1], "mean_squared_error", LENGTHS, 6))


@pytest.mark.parametrize(
    "layers",
    [
        [EMBEDDING, lstm()],
        [EMBEDDING, dropout(0.3), lstm()],
        [column_embedding(2, [4, 3], [2, 1]), bidirectional()],
        [column_embedding(0, [4], [2]), bidirectional()],
        [column_embedding(1, [], []), bidirectional()],
        [lstm(2, backwards=True), REVERSE, lstm(2)],
        [bidirectional(), dropout(0.5), lstm(2, sequences=False), dropout(0.4), dense(2)],
        [bidirectional(), AVERAGE, dense(2)],
        [bidirectional(), LARGEST, dense(2)],
        [bidirectional(), attention(4), dense(2)],
        [attention(1)],
        [convolution(2, 3), convolution(3, 4, dilation=2), lstm(2)],
        [lstm(2), convolution(2, 3, "causal", dilation=2), convolution(2, 9, activation="softmax")],
        [EMBEDDING, convolution(3, 2, activation="sigmoid"), LARGEST],
        [spatial_dropout(0.5), bidirectional(), spatial_dropout(0.4), dense(2)],
        [EMBEDDING, LARGEST],  # the same word twice, and so equal numbers
    ],
)
def test_gradients_of_other_layers(layers: list[dict[str, Any]]) -> None:
    for seed in (7, 8):
        check_gradients(Problem.draw(layers, "mean_squared_error", LENGTHS, seed))


@pytest.mark.parametrize(
    ("loss", "activation"),
    [
        (loss.name, activation)
        for loss in TABLE
        for activation in (("softmax", "sigmoid") if loss.activation == "softmax" else ACTIVATIONS)
    ],
)
def test_gradients_of_losses(loss: str, activation: str) -> None:
    for seed in range(9, 13):
        check_gradients(Problem.draw([lstm(), dense(3, activation)], loss, [4, 1, 5], seed))


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(problems())
def test_gradients_of_random_networks(problem: Problem) -> None:
    check_gradients(problem)


# --- Losses ---------------------------------------------------------------------------------------------------------


def test_the_loss_is_divided_by_the_number_of_labelled_rows_and_not_by_their_weight() -> None:
    network = NumpyNetwork([dense(2)], 2, [np.eye(2), np.zeros(2)])
    batch = Ragged([[1, 0], [0, 3], [5, 5]], [0, 1, 3])
    targets = np.array([[0, 0], [0, 0], [np.nan, np.nan]])
    value, gradients = network.gradients(batch, targets, loss="mean_squared_error", row_weights=[10, 2, 7])
    assert value == (10 * 0.5 + 2 * 4.5) / 2
    np.testing.assert_array_equal(gradients[1], [10 * 1 / 2, 2 * 3 / 2])


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_a_batch_without_labels_has_neither_loss_nor_gradient(activation: str) -> None:
    rng = np.random.default_rng(0)
    layers = [lstm(), dense(2, activation)]
    batch = inputs(layers, LENGTHS, rng)
    loss = "binary_crossentropy" if activation == "sigmoid" else "sparse_categorical_crossentropy"
    targets = np.full((9, 2) if activation == "sigmoid" else 9, -1)
    value, gradients = network_for(layers, 2, rng).gradients(batch, targets, loss=loss)
    assert value == 0
    assert not any(gradient.any() for gradient in gradients)


def test_sparse_labels_are_one_hot_targets() -> None:
    rng = np.random.default_rng(0)
    layers = [lstm(), dense(4, "softmax")]
    batch = inputs(layers, LENGTHS, rng)
    network = network_for(layers, 2, rng)
    labels = np.array([0, 3, -1, 2, 1, 1, 0, -1, 2])
    one_hot = np.where(labels[:, np.newaxis] == -1, np.nan, np.eye(4)[labels])
    value, gradients = network.gradients(batch, labels, loss="sparse_categorical_crossentropy")
    again, same = network.gradients(batch, one_hot, loss="categorical_crossentropy")
    assert value == again
    for a, b in zip(gradients, same, strict=True):
        np.testing.assert_array_equal(a, b)
    probabilities = network.forward(batch)
    expected = -np.log([probabilities[row, label] for row, label in enumerate(labels) if label >= 0]).mean()
    np.testing.assert_allclose(value, expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("activation", "loss", "target"),
    [("sigmoid", "binary_crossentropy", [[0.0, 1.0]]), ("softmax", "categorical_crossentropy", [[0.0, 1.0]])],
)
def test_cross_entropy_of_extreme_logits_is_finite_and_exact(activation: str, loss: str, target: Any) -> None:
    network = NumpyNetwork([dense(2, activation)], 1, [[[1000.0, -1000.0]], [0.0, 0.0]])
    value, gradients = network.gradients(Ragged([[1.0]], [0, 1]), target, loss=loss)
    assert value == (1000 if activation == "sigmoid" else 2000)
    np.testing.assert_array_equal(gradients[1], [0.5, -0.5] if activation == "sigmoid" else [1, -1])


def test_targets_that_contradict_the_outputs_are_refused() -> None:
    outputs = np.zeros((3, 2))
    cases: list[tuple[str, Any, str]] = [
        ("hinge", np.zeros((3, 2)), "unknown loss"),
        ("mean_squared_error", np.zeros(3), "cannot take targets of shape"),
        ("mean_squared_error", [[0, np.nan]] * 3, "all of its outputs or in none"),
        ("sparse_categorical_crossentropy", [0, 2, -1], "from 0 to 1"),
        ("sparse_categorical_crossentropy", [0, 0.5, -1], "integers"),
    ]
    for loss, targets, message in cases:
        with pytest.raises(ValueError, match=message):
            labelled_targets(loss, targets, outputs)


# --- Symmetries and states ------------------------------------------------------------------------------------------


def reversed_steps(batch: Ragged) -> Ragged:
    return Ragged.from_sequences([sequence[::-1] for sequence in batch])


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("merge_mode", MERGE_MODES)
def test_swapped_directions_on_reversed_sequences_give_the_same_swapped_and_reversed(
    merge_mode: str | None, sequences: bool
) -> None:
    rng = np.random.default_rng(0)
    layers = [bidirectional(merge_mode, sequences=sequences)]
    batch = inputs(layers, LENGTHS, rng)
    network = network_for(layers, 2, rng)
    swapped = NumpyNetwork(layers, 2, network.weights[3:] + network.weights[:3])
    expected = network.forward(batch)
    actual = swapped.forward(reversed_steps(batch))
    if sequences:
        actual = np.concatenate([rows[::-1] for rows in np.split(actual, batch.offsets[1:-1])])
    if merge_mode in ("concat", None):
        actual = np.roll(actual, 3, axis=1)
    np.testing.assert_array_equal(actual, expected)


def test_bidirectional_is_its_two_lstms_side_by_side() -> None:
    rng = np.random.default_rng(0)
    batch = inputs([lstm()], LENGTHS, rng)
    both = network_for([bidirectional(None)], 2, rng)
    forward = NumpyNetwork([lstm()], 2, both.weights[:3])
    backward = NumpyNetwork([lstm(backwards=True), REVERSE], 2, both.weights[3:])
    np.testing.assert_array_equal(both.forward(batch), np.hstack([forward.forward(batch), backward.forward(batch)]))


@pytest.mark.parametrize("backwards", [True, False])
def test_without_return_sequences_the_output_is_the_last_processed_step(backwards: bool) -> None:
    rng = np.random.default_rng(0)
    batch = inputs([lstm()], LENGTHS, rng)
    every = network_for([lstm(backwards=backwards)], 2, rng)
    last = NumpyNetwork([lstm(backwards=backwards, sequences=False)], 2, every.weights)
    # Processing order: the last output row of a sequence comes from its first step when going backwards.
    np.testing.assert_array_equal(last.forward(batch), every.forward(batch)[batch.offsets[1:] - 1])


@pytest.mark.parametrize("backwards", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_states_carry_a_stream_from_chunk_to_chunk(cell: Any, backwards: bool) -> None:
    rng = np.random.default_rng(0)
    layers = [cell(backwards=backwards, sequences=False)]
    batch = inputs(layers, [6, 4], rng)
    network = network_for(layers, 2, rng)
    expected, final = network.forward(batch, return_states=True)
    chunks = [Ragged.from_sequences([s[:2] for s in batch]), Ragged.from_sequences([s[2:] for s in batch])]
    states = None
    for chunk in reversed(chunks) if backwards else chunks:
        actual, states = network.forward(chunk, states=states, return_states=True)
    np.testing.assert_array_equal(actual, expected)
    assert states is not None
    np.testing.assert_array_equal(states[0], final[0])
    np.testing.assert_array_equal(final[0][0][0], expected)


def test_states_of_bidirectional_go_to_the_direction_they_name() -> None:
    rng = np.random.default_rng(0)
    batch = inputs([lstm()], [6, 4], rng)
    both = network_for([bidirectional(backward=lstm(2, backwards=True))], 2, rng)
    given = [(rng.normal(size=(2, units)), rng.normal(size=(2, units))) for units in (3, 2)]
    rows, states = both.forward(batch, states={0: given}, return_states=True)
    for number, (layer, columns) in enumerate([(lstm(), slice(0, 3)), (lstm(2, backwards=True), slice(3, 5))]):
        alone = NumpyNetwork([layer, REVERSE][: number + 1], 2, both.weights[3 * number : 3 * number + 3])
        expected, final = alone.forward(batch, states={0: [given[number]]}, return_states=True)
        np.testing.assert_array_equal(rows[:, columns], expected)
        np.testing.assert_array_equal(states[0][number], final[0][0])


def test_sequences_without_steps_keep_their_initial_state() -> None:
    rng = np.random.default_rng(0)
    layers = [bidirectional(sequences=False)]
    network = network_for(layers, 2, rng)
    rows = network.forward(inputs(layers, [0, 2, 0], rng))
    assert rows.any(axis=1).tolist() == [False, True, False]
    assert network.forward(Ragged(np.zeros((0, 2)), [0])).shape == (0, 6)


def test_float32_is_float32_throughout_and_near_float64() -> None:
    rng = np.random.default_rng(0)
    layers = [column_embedding(2, [4], [2]), dropout(0.2), bidirectional("mul"), dense(3, "softmax")]
    batch = inputs(layers, LENGTHS, rng)
    double = network_for(layers, 3, rng)
    single = NumpyNetwork(layers, 3, double.weights, dtype=np.float32)
    assert single.forward(batch).dtype == np.float32
    options: dict[str, Any] = {"loss": "sparse_categorical_crossentropy", "training": True}
    expected = double.gradients(batch, np.arange(9) % 3, **options)
    actual = single.gradients(batch, np.arange(9) % 3, **options)
    assert {g.dtype for g in actual[1]} == {np.dtype(np.float32)}
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-5)
    for a, b in zip(actual[1], expected[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "needs a layer"),
        ([{"class_name": "Conv2D", "config": {}}], "unknown layer 'Conv2D'"),
        ([dense(2, "selu")], "unknown activation 'selu'"),
        ([dropout(1.0)], "dropout rate"),
        ([bidirectional("max")], "unknown merge_mode 'max'"),
        ([bidirectional("sum", backward=lstm(2, backwards=True))], "same units"),
        ([bidirectional(backward=lstm())], "differ in go_backwards"),
        ([lstm(sequences=False), lstm()], "needs sequences"),
        ([AVERAGE, LARGEST], "needs sequences"),
        ([EMBEDDING], "needs 1 input columns, not 2"),
        ([time_distributed(lstm())], "takes a Dense layer"),
        ([dense()], "weights' shapes"),
    ],
)
def test_what_is_no_network_is_refused(layers: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NumpyNetwork(layers, 2, [])


def test_an_index_outside_of_its_vocabulary_is_refused() -> None:
    network = NumpyNetwork([column_embedding(1, [5, 3], [1, 1])], 3, [np.zeros((5, 1)), np.zeros((3, 1))])
    for indices in ([4, 3], [-1, 0]):
        with pytest.raises(ValueError, match="outside of its vocabulary"):
            network.forward(Ragged([[0.5, *indices]], [0, 1]))


def test_a_network_learns() -> None:
    rng = np.random.default_rng(0)
    layers = [bidirectional(), time_distributed(dense(1, "sigmoid"))]
    batch = inputs(layers, [5, 1, 7], rng)
    network = network_for(layers, 2, rng)
    targets = batch.values[:, :1] > 0
    adam = Adam(learning_rate=0.05, global_clipnorm=1.0)
    for _ in range(60):
        value, gradients = network.gradients(batch, targets, loss="binary_crossentropy")
        network.set_weights(adam.update(network.weights, gradients))
    assert value < 0.1
    np.testing.assert_array_equal(network.forward(batch) > 0.5, targets)
