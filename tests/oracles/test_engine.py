"""The engine against the NumPy oracle in float64: outputs, losses, gradients and training steps of random networks."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from bilstm import optimizers
from bilstm.engine.losses import LOSSES, TargetKind
from bilstm.engine.plans import Targets
from bilstm.models import Sequential
from bilstm.models.targets import make_targets
from bilstm.ragged import Ragged
from oracles import numpy_optimizers
from oracles.models import without_bias
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
    convolution,
    dense,
    dropout,
    gru,
    gru_reset_before,
    hard_gru,
    hard_gru_keras2,
    hard_lstm,
    hard_lstm_keras2,
    inputs,
    lstm,
    network_for,
    problems,
    simple,
    simple_relu,
    spatial_dropout,
    time_distributed,
    windows,
)
from oracles.numpy_layers import Array

Json = dict[str, Any]


def merged(layers: list[Json]) -> list[Json]:
    """The same layers, "concat" for a merge mode of None: the oracle joins the two outputs itself."""
    layers = copy.deepcopy(layers)
    for layer in layers:
        if layer["class_name"] == "Bidirectional":
            layer["config"]["merge_mode"] = layer["config"]["merge_mode"] or "concat"
    return layers


def engine_model(layers: list[Json], features: int, weights: list[np.ndarray[Any, Any]]) -> Sequential:
    model = Sequential.from_config({"features": features, "layers": merged(layers)}, seed=1)
    model.set_weights(weights)
    return model


def close(actual: Any, expected: Any, tolerance: float) -> None:
    """Within `tolerance` of the largest number expected, or of 0.1 where numbers of about 1 cancel to less."""
    scale = max(float(np.abs(expected).max(initial=0)), 0.1)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


def targets_of(problem: Problem, model: Sequential) -> Targets:
    assert model.network is not None
    return make_targets(
        problem.targets,
        problem.batch,
        loss=problem.options["loss"],
        outputs=model.network.outputs,
        one_row_each=model.network.one_row_each,
        sample_weight=problem.options["row_weights"],
    )


def conditioning(problem: Problem, gradients: list[Array]) -> float:
    """What weights and targets that are off by a millionth change in gradients.

    Float32 can do no better where numbers nearly cancel: an output and its target, or 1 and a saturated activation.
    """
    tried = 1e-5  # a difference that stands out, of which a share is taken
    network, options = problem.network, problem.options
    targets, weights = problem.targets, network.weights
    if LOSSES[options["loss"]].targets is not TargetKind.LABELS:
        targets = targets + tried * max(1.0, float(np.abs(network.forward(problem.batch)).max(initial=0)))
    signs, most = np.random.default_rng(0), 0.0
    for _ in range(4):  # of one choice of signs, the changes of a few weights may cancel
        network.set_weights([weight * (1 + tried * signs.choice([-1, 1], weight.shape)) for weight in weights])
        _, moved = network.gradients(problem.batch, targets, **options)
        most = max(most, *(float(np.abs(a - b).max(initial=0)) for a, b in zip(gradients, moved, strict=True)))
    network.set_weights(weights)
    return 1e-6 / tried * most


def check_gradients(problem: Problem, *, well_conditioned: bool = False) -> None:
    network, options = problem.network, problem.options
    model = engine_model(network.description, problem.batch.features, network.weights)
    assert model.network is not None
    model.network.iteration = options["step"]
    loss, gradients = network.gradients(problem.batch, problem.targets, **options)
    score = model.network.gradient(
        problem.batch,
        targets_of(problem, model),
        options["loss"],
        training=options["training"],
        seed=options["seed"],
    )
    # A few rows that are nearly alike are normalized by a small deviation, which magnifies what float32 rounds.
    normalized = any(layer["class_name"] == "BatchNormalization" for layer in network.description)
    if score[1]:
        assert score[0] / score[1] == pytest.approx(loss, rel=1e-4 if normalized else 1e-5, abs=1e-6)
    # Of the largest gradient, or of 0.2: where an activation is saturated, the 3e-7 by which it may be off are all.
    scale = max(0.2, *(float(np.abs(gradient).max(initial=0)) for gradient in gradients))
    left = 0.0 if well_conditioned else conditioning(problem, gradients)
    tolerance = 1e-4 if normalized else 2e-6
    for actual, expected in zip(model._unflatten(model.network.read("gradients")), gradients, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale + left)


@given(problems())
@settings(max_examples=300)
def test_losses_and_gradients_of_random_networks(problem: Problem) -> None:
    check_gradients(problem)


@given(problems())
@settings(max_examples=100)
def test_outputs_of_random_networks(problem: Problem) -> None:
    model = engine_model(problem.network.description, problem.batch.features, problem.network.weights)
    close(model.predict_rows(problem.batch), problem.network.forward(problem.batch), 1e-6)


LARGER = {
    "two layers": [
        bidirectional(units=20),
        dropout(0.3),
        bidirectional(units=33),
        time_distributed(dense(5, "softmax")),
    ],
    "one unit": [lstm(1), bidirectional("ave", units=1), dense(2, "softmax")],
    "wide": [bidirectional("mul", units=64), lstm(17, backwards=True), REVERSE, dense(70, "tanh"), dense(3, "softmax")],
    "unequal directions": [bidirectional(units=40, backward=lstm(7, backwards=True)), dense(130, "softmax")],
    "a row a sequence": [
        EMBEDDING,
        bidirectional("sum", units=18),
        bidirectional(units=9, sequences=False),
        dense(4, "softmax"),
    ],
    "averages": [bidirectional(units=18), AVERAGE, dense(4, "softmax")],
    "largest numbers": [bidirectional("sum", units=33), dropout(0.3), LARGEST, dense(4, "softmax")],
    "dropout of what windows leave": [
        bidirectional(units=33),
        windows("MaxPooling1D", 2),
        dropout(0.3),
        lstm(17),
        windows("AveragePooling1D", 2, 3),
        spatial_dropout(0.3),
        dropout(0.2),
        AVERAGE,
        dense(4, "softmax"),
    ],
    "attention": [bidirectional(units=18), dropout(0.3), attention(37), dense(4, "softmax")],
    "attention of narrow rows": [lstm(3), attention(1), dense(40, "tanh"), dense(2, "softmax")],
    "convolutions": [
        convolution(20, 5, activation="relu"),
        dropout(0.3),
        convolution(33, 4, dilation=3),
        bidirectional(units=18),
        convolution(70, 2, "causal"),
        dense(4, "softmax"),
    ],
    "convolution last": [bidirectional(units=18), convolution(3, 6, activation="softmax")],
    "GRU": [bidirectional(forward=gru(20)), dropout(0.3), bidirectional(forward=gru(33)), dense(5, "softmax")],
    "GRU, reset before": [
        bidirectional("sum", forward=gru_reset_before(20)),
        gru_reset_before(64, backwards=True),
        REVERSE,
        dense(5, "softmax"),
    ],
    "simple": [bidirectional(forward=simple(35)), simple(130, backwards=True), dense(5, "softmax")],
    "simple, relu": [bidirectional("ave", forward=simple_relu(70)), dense(5, "tanh"), dense(5, "softmax")],
    "hard gates": [
        bidirectional(forward=hard_lstm(20)),
        dropout(0.3),
        bidirectional(forward=hard_gru(33), backward=hard_lstm(7, backwards=True)),
        dense(5, "softmax"),
    ],
    "Keras 2's hard gates": [
        bidirectional("sum", forward=hard_lstm_keras2(37)),
        hard_gru_keras2(64, backwards=True),
        bidirectional("mul", forward=hard_gru_keras2(19), backward=gru_reset_before(19, backwards=True)),
        bidirectional("ave", forward=hard_lstm_keras2(9), backward=lstm(9, backwards=True)),
        dense(5, "softmax"),
    ],
    "without biases": [
        without_bias(layer)
        for layer in (
            convolution(33, 4),
            bidirectional(forward=lstm(20), backward=gru(7, backwards=True)),
            bidirectional("mul", forward=simple(19), backward=gru_reset_before(19, backwards=True)),
            dense(2, "tanh"),
            dense(5, "softmax"),
        )
    ],
    "mixed cells": [
        bidirectional(forward=lstm(20), backward=gru(20, backwards=True)),
        bidirectional("mul", forward=simple(33), backward=gru_reset_before(33, backwards=True)),
        bidirectional("ave", forward=gru(9, sequences=False), backward=lstm(9, sequences=False, backwards=True)),
        dense(5, "softmax"),
    ],
    "masks of sequences": [spatial_dropout(0.4), bidirectional(units=33), spatial_dropout(0.3), dense(4, "softmax")],
}


@pytest.mark.parametrize("layers", LARGER.values(), ids=LARGER)
@pytest.mark.parametrize(
    "lengths", [[1], [40], [13, 1, 29, 7, 7, 30, 2, 19], [3] * 50], ids=lambda n: f"{len(n)} sequences"
)
def test_gradients_of_larger_networks(layers: list[Json], lengths: list[int]) -> None:
    problem = Problem.draw(layers, "sparse_categorical_crossentropy", lengths, seed=len(lengths))
    # Weights as small as initial ones: with larger ones gates saturate and even float64 is ill-conditioned.
    problem.network.set_weights([weight / np.sqrt(len(weight)) for weight in problem.network.weights])
    check_gradients(problem, well_conditioned=True)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("units", [2, 40])
def test_squared_errors_of_classes_that_are_nearly_certain(units: int, seed: int) -> None:
    problem = Problem.draw([dense(units, "softmax")], "mean_squared_error", [1], seed)
    weights, biases = problem.network.weights
    problem.network.set_weights([weights, biases + np.eye(units)[units // 2] * 12])
    problem.targets[:] *= 10
    check_gradients(problem, well_conditioned=True)


def test_equal_largest_numbers_share_a_gradient() -> None:
    problem = Problem.draw([dense(4), LARGEST, dense(2)], "mean_squared_error", [1, 9, 6, 9], 2)
    problem.batch.values[:, 0] = np.round(problem.batch.values[:, 0])
    problem.network.weights[0][1, :2] = 0  # two columns of the rows are the same wherever the first number is
    check_gradients(problem)


def test_attention_over_more_steps_than_are_summed_together() -> None:
    problem = Problem.draw([attention(7), dense(3, "softmax")], "sparse_categorical_crossentropy", [1025, 3, 512], 2)
    check_gradients(problem)


@pytest.mark.parametrize("weight_decay", [0.0, 0.7])
@pytest.mark.parametrize("clipping", [{}, {"clipnorm": 0.02}, {"global_clipnorm": 0.05}, {"clipvalue": 0.003}], ids=str)
@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_training_steps(kind: str, clipping: dict[str, float], weight_decay: float) -> None:
    rng = np.random.default_rng(5)
    layers = [bidirectional(units=5), time_distributed(dense(3, "softmax"))]
    network = network_for(layers, 2, rng)
    model = engine_model(layers, 2, network.weights)
    arguments = {"learning_rate": 0.02, "weight_decay": weight_decay, **clipping} | (
        {"beta_1": 0.8, "beta_2": 0.99} if kind == "adam" else {}
    )
    model.compile(optimizers.OPTIMIZERS[kind](**arguments), "sparse_categorical_crossentropy")
    reference = {"adam": numpy_optimizers.Adam, "sgd": numpy_optimizers.SGD}[kind](**arguments)
    for _ in range(20):
        lengths = [int(n) for n in rng.integers(1, 9, size=4)]
        batch, labels = inputs(layers, lengths, rng), rng.integers(3, size=sum(lengths))
        loss, gradients = network.gradients(batch, labels, loss="sparse_categorical_crossentropy")
        network.set_weights(reference.update(network.weights, gradients))
        assert model.train_on_batch(batch, labels) == pytest.approx(loss, rel=1e-4)
    for actual, expected in zip(model.get_weights(), network.weights, strict=True):
        close(actual, expected, 1e-4)


@pytest.mark.parametrize("merge_mode", MERGE_MODES)
def test_states_go_in_and_come_out(merge_mode: str | None) -> None:
    rng = np.random.default_rng(1)
    layers = [bidirectional(merge_mode, units=19), lstm(5, backwards=True), lstm(3, sequences=False)]
    network = network_for(layers, 2, rng)
    batch = inputs(layers, [4, 9, 1, 9], rng)
    model = engine_model(layers, 2, network.weights)
    assert model.network is not None
    states = rng.normal(size=(4, model.network.state_width)).astype(np.float32)
    bounds = [0, 19, 38, 57, 76, 81, 86, 89, 92]
    pieces = [states[:, a:b].astype(float) for a, b in itertools.pairwise(bounds)]
    pairs = list(zip(pieces[::2], pieces[1::2], strict=True))
    expected, ends = network.forward(batch, states={0: pairs[:2], 1: pairs[2:3], 2: pairs[3:]}, return_states=True)
    output, after = model.network.predict(batch, states, return_states=True)
    close(output, expected, 1e-6)
    close(
        after, np.concatenate([np.concatenate(pair, axis=1) for layer in ends.values() for pair in layer], axis=1), 1e-6
    )


@pytest.mark.parametrize("cell", CELLS)
def test_states_of_every_cell_go_in_and_come_out(cell: Any) -> None:
    rng = np.random.default_rng(1)
    layers = [bidirectional(forward=cell(19), backward=gru(7, backwards=True)), cell(5, backwards=True)]
    network = network_for(layers, 2, rng)
    network.set_weights([weight / np.sqrt(len(weight)) for weight in network.weights])
    model = engine_model(layers, 2, network.weights)
    assert model.network is not None
    arrays = 2 if cell in (lstm, hard_lstm, hard_lstm_keras2) else 1
    for lengths in ([4, 9, 1, 9], [6]):  # several sequences, and one alone, which has a way of its own
        batch = inputs(layers, lengths, rng)
        directions = [
            tuple(rng.normal(size=(len(lengths), units)).astype(np.float32) for _ in range(count))
            for units, count in ((19, arrays), (7, 1), (5, arrays))
        ]
        states = np.concatenate([part for direction in directions for part in direction], axis=1)
        assert model.network.state_width == states.shape[1]
        given: Any = {0: directions[:2], 1: directions[2:]}
        expected, ends = network.forward(batch, states=given, return_states=True)
        output, after = model.network.predict(batch, states, return_states=True)
        close(output, expected, 1e-6)
        close(after, np.concatenate([part for layer in ends.values() for one in layer for part in one], axis=1), 1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_a_sequence_can_be_read_in_pieces(cell: Any) -> None:
    rng = np.random.default_rng(2)
    layers = [cell(20), cell(6)]
    model = engine_model(layers, 2, network_for(layers, 2, rng).weights)
    assert model.network is not None
    whole = inputs(layers, [30], rng)
    states, outputs = None, []
    for start, stop in ((0, 7), (7, 8), (8, 30)):
        piece = Ragged(whole.values[start:stop], [0, stop - start])
        output, states = model.network.predict(piece, states, return_states=True)
        outputs.append(output)
    np.testing.assert_array_equal(np.concatenate(outputs), model.predict_rows(whole))


@pytest.mark.parametrize("settings", [{}, {"clipnorm": 0.02}, {"clipvalue": 0.01}, {"weight_decay": 0.1}], ids=str)
@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_nothing_is_learnt_in_place_of_biases_that_there_are_not(kind: str, settings: dict[str, float]) -> None:
    """Without biases these layers make zeros of zeros, whatever their weights have become."""
    rng = np.random.default_rng(3)
    recurrent = [bidirectional("sum", forward=cell(19)) for cell in CELLS]
    layers = [convolution(20, 3), *recurrent, time_distributed(dense(2, "tanh")), dense(5)]
    model = Sequential.from_config({"features": 2, "layers": [without_bias(layer) for layer in layers]}, seed=1)
    model.compile(optimizers.OPTIMIZERS[kind](learning_rate=0.05, **settings), "mean_squared_error")
    before = model.get_weights()
    for _ in range(5):
        model.train_on_batch(rng.normal(size=(4, 6, 2)), rng.normal(size=(4, 6, 5)))
    assert all(np.abs(old - new).max() > 0 for old, new in zip(before, model.get_weights(), strict=True))
    assert model.predict(rng.normal(size=(2, 6, 2))).any()
    assert not model.predict(np.zeros((2, 6, 2))).any()
