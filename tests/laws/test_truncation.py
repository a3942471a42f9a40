"""Truncated backpropagation in `fit`: a training step for each chunk, with the states of the one before."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilstm import utils
from bilstm.callbacks import LambdaCallback
from bilstm.engine.network import DIVERGED
from bilstm.errors import DivergedError
from bilstm.layers import (
    GRU,
    LSTM,
    BatchNormalization,
    Bidirectional,
    Conv1D,
    Dense,
    Dropout,
    Embedding,
    GlobalMaxPooling1D,
    Layer,
    Masking,
    SimpleRNN,
    SpatialDropout1D,
    to_json,
)
from bilstm.models import Sequential
from bilstm.optimizers import SGD, Adam, Optimizer
from bilstm.optimizers.schedules import ExponentialDecay
from bilstm.ragged import Ragged, offsets_of
from laws.test_invariance import THREADS, network_arrays
from oracles import numpy_optimizers
from oracles.models import NATIVE, Case
from oracles.networks import CELLS, dense, network_for, normalization
from oracles.test_engine import close, engine_model

OPTIMIZERS: list[Optimizer] = [Adam(0.02), SGD(0.1, clipnorm=0.1), Adam(ExponentialDecay(0.05, 3, 0.5))]


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = utils.threads()
    yield
    utils.set_threads(before)


def case_of(lengths: list[int], seed: int = 1) -> Case:
    """Layers that read forward, of all kinds, and sequences with steps that are not labelled."""
    random = np.random.default_rng(seed)
    layers: list[Layer] = [
        BatchNormalization(),
        Dense(5, "tanh"),
        SpatialDropout1D(0.2),
        LSTM(17, return_sequences=True),
        Dropout(0.3),
        GRU(5, return_sequences=True),
        SimpleRNN(3, return_sequences=True),
        Dense(3, "softmax"),
    ]
    y = np.where(random.random(sum(lengths)) < 0.3, -1, random.integers(3, size=sum(lengths)))
    y[0] = 0
    data = Ragged(random.normal(size=(sum(lengths), 2)), offsets_of(lengths))
    return Case([to_json(layer) for layer in layers], data, y, "sparse_categorical_crossentropy", seed)


def fitted(case: Case, optimizer: Optimizer | None = None, **options: Any) -> tuple[list[bytes], Any]:
    model = case.model(optimizer or Adam(0.02))
    history = model.fit(case.data, case.y, **{"epochs": 2, "batch_size": 3, "verbose": 0} | options).history
    return network_arrays(model), history


LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=8)


@given(LENGTHS, st.integers(0, 5), st.sampled_from(OPTIMIZERS))
@settings(max_examples=30)
def test_a_chunk_that_no_sequence_exceeds_changes_no_bit(lengths: list[int], more: int, optimizer: Optimizer) -> None:
    case = case_of(lengths)
    assert fitted(case, optimizer, truncate=max(lengths) + more) == fitted(case, optimizer)


@given(LENGTHS, st.integers(1, 12))
@settings(max_examples=20)
def test_threads_change_no_bit(lengths: list[int], steps: int) -> None:
    case, results = case_of(lengths), []
    for count in THREADS:
        utils.set_threads(count)
        results.append(fitted(case, truncate=steps))
    assert results[0] == results[1] == results[2]


def test_callbacks_that_see_each_batch_change_no_bit() -> None:
    case, seen = case_of([40, 3, 17, 8, 22]), []
    callback = LambdaCallback(on_batch_end=lambda batch, logs: seen.append(batch))
    assert fitted(case, truncate=7, callbacks=[callback]) == fitted(case, truncate=7)
    assert seen == [0, 1] * 2


@given(LENGTHS, st.integers(1, 12))
@settings(max_examples=20)
def test_each_chunk_with_labels_is_a_training_step(lengths: list[int], steps: int) -> None:
    case = case_of(lengths)
    case.y[:] = 0
    model = case.model()
    model.fit(case.data, case.y, batch_size=len(lengths), verbose=0, truncate=steps)
    assert model.network is not None
    assert model.network.iteration == -(-max(lengths) // steps)


@pytest.mark.parametrize("steps", [1, 3, 4, 100])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_and_losses_are_the_oracles(cell: Callable[..., dict[str, Any]], steps: int) -> None:
    """Chunk by chunk, with the states that the one before left; each learned from before the next."""
    random = np.random.default_rng(steps)
    layers = [normalization(momentum=0.5), cell(7), cell(3), dense(2)]
    oracle = network_for(layers, 2, random)
    oracle.set_weights([weight / np.sqrt(len(weight)) for weight in oracle.weights])
    lengths = np.array([9, 4, 12, 3])
    data = Ragged(random.normal(size=(lengths.sum(), 2)), offsets_of(lengths))
    y = random.normal(size=(lengths.sum(), 2)).astype(np.float32)
    model = engine_model(layers, 2, oracle.weights)
    model.compile(SGD(0.1), "mse")
    history = model.fit(data, y, batch_size=4, shuffle=False, verbose=0, truncate=steps).history

    losses, rows, states = 0.0, 0, {}
    sequences, targets = list(data), list(data.with_values(y))
    optimizer = numpy_optimizers.SGD(learning_rate=0.1)
    for start in range(0, 12, steps):
        alive = [i for i, length in enumerate(lengths) if length > start]
        chunk = Ragged.from_sequences([sequences[i][start : start + steps] for i in alive])
        own = {layer: [tuple(part[alive] for part in way) for way in ways] for layer, ways in states.items()}
        goal = np.concatenate([targets[i][start : start + steps] for i in alive])
        _, after = oracle.forward(chunk, training=True, states=own, return_states=True)
        loss, gradients = oracle.gradients(chunk, goal, loss="mean_squared_error", training=True, states=own)
        losses, rows = losses + loss * len(goal), rows + len(goal)
        if not states:
            states = {layer: [tuple(np.zeros_like(p) for p in way) for way in ways] for layer, ways in after.items()}
        for layer, ways in after.items():
            for kept, way in zip(states[layer], ways, strict=True):
                for all_parts, part in zip(kept, way, strict=True):
                    all_parts[alive] = part
        pairs = zip(oracle.weights, optimizer.update(oracle.weights, gradients), oracle.learned, strict=True)
        moved = [new if learned else 0 for _, new, learned in pairs]
        for i, (weight, gradient) in enumerate(zip(oracle.weights, gradients, strict=True)):
            if not oracle.learned[i]:
                moved[i] = weight - 0.5 * gradient
        oracle.set_weights(moved)
    assert history["loss"][0] == pytest.approx(losses / rows, rel=1e-5)
    for mine, other in zip(model.get_weights(), oracle.weights, strict=True):
        close(mine, other, 1e-5)


def test_states_are_carried() -> None:
    """What is to be said at a step was read longer ago than a chunk."""
    random = np.random.default_rng(1)
    x = random.integers(2, size=(64, 12, 1)).astype(np.float32)
    y = np.repeat(x[:, :1], 12, axis=1)
    x[:, 1:] = 0.5
    losses = []
    for known in (True, False):
        model = Sequential([LSTM(8, return_sequences=True, input_shape=(None, 1)), Dense(1, "sigmoid")], seed=1)
        model.compile(Adam(0.02), "binary_crossentropy")
        if known:
            history = model.fit(x, y, epochs=60, verbose=0, truncate=4)
        else:  # the chunks as sequences of their own
            history = model.fit(x.reshape(-1, 4, 1), y.reshape(-1, 4, 1), epochs=60, verbose=0)
        losses.append(history.history["loss"][-1])
    assert losses[0] < 0.1 < 0.4 < losses[1]


def test_masked_steps_are_no_part_of_a_chunk() -> None:
    case = case_of([5, 9, 2])
    layers = [LSTM(4, return_sequences=True), Dense(3, "softmax")]
    padded = case.data.to_padded(-7.0)
    y = Ragged(case.y.reshape(-1, 1), case.data.offsets).to_padded(-1.0)
    results = []
    for first, x, labels in (([], case.data, case.y), ([Masking(-7.0)], padded[:, ::1], y)):
        model = Sequential([*first, *layers], seed=1)
        model.build((None, None, 2))
        model.compile("adam", case.loss)
        model.fit(x, labels, batch_size=2, shuffle=False, verbose=0, truncate=3)
        results.append(network_arrays(model))
    assert results[0] == results[1]


def test_chunks_without_labels_leave_their_states() -> None:
    case = case_of([6])
    case.y[:4] = -1
    case.y[4:] = 0, 1
    model = case.model(SGD(0.1))
    model.fit(case.data, case.y, verbose=0, truncate=2)
    assert model.network is not None
    assert model.network.iteration == 1


@pytest.mark.fast
@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            [Bidirectional(LSTM(2, return_sequences=True))],
            "Bidirectional(layer=LSTM(units=2, return_sequences=True)) needs",
        ),
        ([LSTM(2, return_sequences=True, go_backwards=True)], "go_backwards=True) needs its whole sequence"),
        ([Conv1D(2, 3, padding="causal")], "padding='causal', activation='linear') needs its whole sequence"),
        ([LSTM(2)], "LSTM(units=2) returns one row for each sequence"),
        ([GlobalMaxPooling1D()], "but GlobalMaxPooling1D() needs its whole sequence"),
    ],
)
def test_layers_that_cannot_go_on_are_refused_by_name(layers: list[Layer], message: str) -> None:
    model = Sequential([*layers, Dense(1)], seed=1)
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match=f"fit: truncate .*{re.escape(message)}"):
        model.fit(np.zeros((2, 3, 1)), np.zeros((2, 3, 1)), truncate=2)


@pytest.mark.fast
@pytest.mark.parametrize(("steps", "error"), [(0, ValueError), (-3, ValueError), (2.5, TypeError), ("4", TypeError)])
def test_impossible_chunks_are_refused(steps: Any, error: type[Exception]) -> None:
    case = case_of([3])
    with pytest.raises(error, match="fit: truncate must be"):
        case.model().fit(case.data, case.y, truncate=steps)


def test_a_loss_that_is_not_finite_ends_training_before_it_changes_a_weight() -> None:
    x, y = np.ones((1, 4, 1)), np.zeros((1, 4, 1))
    y[0, 2] = 3e38
    results = []
    for values in (y, y[:, :2]):
        model = Sequential([Dense(1, input_shape=(None, 1))], seed=1)
        model.compile("adam", "mse")
        if values is y:
            with pytest.raises(DivergedError):
                model.fit(x, values, verbose=0, truncate=2)
        else:
            model.fit(x[:, :2], values, verbose=0, truncate=2)
        results.append(network_arrays(model))
    assert results[0] == results[1]
    assert f"kDiverged = {DIVERGED:.0e}".replace("+", "") in (NATIVE / "training.cpp").read_text()


def test_words_that_are_embedded() -> None:
    random = np.random.default_rng(1)
    x, y = random.integers(5, size=(4, 9)), random.integers(2, size=(4, 9))
    results = []
    for steps in (None, 9, 4):
        model = Sequential(
            [Embedding(5, 3, input_shape=(9,)), LSTM(4, return_sequences=True), Dense(2, "softmax")], seed=1
        )
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(x[:, :, np.newaxis], y, verbose=0, truncate=steps)
        results.append(network_arrays(model))
    assert results[0] == results[1] != results[2]
