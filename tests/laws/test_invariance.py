"""One answer, to the last bit: whatever the company, the number of threads, or how training is divided."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilstm import utils
from bilstm.engine.losses import CRF_LIKELIHOOD
from bilstm.layers import (
    GRU,
    LSTM,
    Bidirectional,
    ColumnEmbedding,
    Dense,
    Dropout,
    GlobalAttentionPooling1D,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    Layer,
    Reverse,
    SimpleRNN,
    SpatialDropout1D,
    to_json,
)
from bilstm.models import Sequential
from bilstm.models.targets import make_targets
from bilstm.optimizers import SGD, Adam, Optimizer
from bilstm.ragged import Ragged, offsets_of
from oracles.models import CELLS, Case, bits, cases, weight_bits

OPTIMIZERS: list[Optimizer] = [
    Adam(0.02),
    SGD(0.1),
    Adam(0.02, global_clipnorm=0.1, weight_decay=0.3),
    SGD(0.5, clipnorm=0.05, weight_decay=0.1),
]
POOLS = [GlobalAveragePooling1D(), GlobalMaxPooling1D(), GlobalAttentionPooling1D(70)]
THREADS = (1, 2, 7)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = utils.threads()
    yield
    utils.set_threads(before)


def large() -> Case:
    """Enough work for every parallel section of the engine to be divided."""
    random = np.random.default_rng(1)
    lengths = [*random.integers(1, 60, 37), 1, 150]
    layers = [
        ColumnEmbedding(2, [30_000], [7]),
        Dropout(0.2),
        Bidirectional(LSTM(33, return_sequences=True)),
        LSTM(50, return_sequences=True, go_backwards=True),
        Reverse(),
        SpatialDropout1D(0.3),
        Bidirectional(LSTM(20, return_sequences=True), merge_mode="mul"),
        Bidirectional(
            GRU(33, return_sequences=True), backward_layer=SimpleRNN(70, return_sequences=True, go_backwards=True)
        ),
        GRU(35, return_sequences=True, reset_after=False),
        Dense(70, "tanh"),
        Dropout(0.5),
        Dense(5, "softmax"),
    ]
    steps = sum(lengths)
    values = np.hstack([random.normal(size=(steps, 2)), random.integers(30_000, size=(steps, 1))])
    data = Ragged(values, offsets_of(lengths))
    y = random.integers(-1, 5, steps)
    return Case([to_json(layer) for layer in layers], data, y, "sparse_categorical_crossentropy", 3)


def pooled(pool: Layer) -> Case:
    """The same for a label a sequence."""
    random = np.random.default_rng(2)
    lengths = [*random.integers(1, 60, 37), 1, 1500]
    layers = [Bidirectional(LSTM(130, return_sequences=True)), Dropout(0.3), pool, Dense(5, "softmax")]
    data = Ragged(random.normal(size=(sum(lengths), 3)), offsets_of(lengths))
    y = random.integers(-1, 5, len(lengths))
    return Case([to_json(layer) for layer in layers], data, y, "sparse_categorical_crossentropy", 3)


def rows_of(case: Case, sequence: int) -> slice:
    if case.one_row_each:
        return slice(sequence, sequence + 1)
    return slice(int(case.data.offsets[sequence]), int(case.data.offsets[sequence + 1]))


# --- Company ---------------------------------------------------------------------------------------------------------


@given(cases(most=9, crf=True), st.data())
@settings(max_examples=60)
def test_a_sequence_is_predicted_the_same_alone_and_in_any_company(case: Case, data: st.DataObject) -> None:
    model = case.model()
    together = model.predict_rows(case.data)
    alone = [model.predict_rows(case.data[[i]]) for i in range(len(case.data))]
    for i, rows in enumerate(alone):
        assert bits(rows) == bits(together[rows_of(case, i)])
    # Any order, any of them twice.
    chosen = data.draw(st.lists(st.integers(0, len(case.data) - 1), min_size=1, max_size=12))
    assert bits(model.predict_rows(case.data[chosen])) == b"".join(bits(alone[i]) for i in chosen)


@pytest.mark.parametrize("merge_mode", ["concat", "sum", "mul", "ave", None])
@pytest.mark.parametrize("return_sequences", [True, False])
@pytest.mark.parametrize(
    ("cell", "units"),
    [("LSTM", 1), ("LSTM", 16), ("LSTM", 23), ("GRU", 23), ("GRU, reset before", 23), ("SimpleRNN", 70)],
)
def test_more_sequences_than_are_computed_together(
    merge_mode: str | None, return_sequences: bool, cell: str, units: int
) -> None:
    random = np.random.default_rng(units)
    layer = Bidirectional(CELLS[cell](units, return_sequences=return_sequences), merge_mode, input_shape=(None, 3))
    model = Sequential([layer], seed=1)
    lengths = random.integers(1, 25, 230)
    data = Ragged(random.normal(size=(lengths.sum(), 3)), offsets_of(lengths))
    together = model.predict_rows(data)
    row = together if not return_sequences else None
    for i in (0, 1, 95, 96, 97, 191, 192, 229, int(lengths.argmax()), int(lengths.argmin())):
        expected = row[i] if row is not None else together[data.offsets[i] : data.offsets[i + 1]]
        assert bits(model.predict_rows(data[[i]])) == bits(expected)


@given(cases(crf=True))
@settings(max_examples=30)
def test_a_loss_is_the_sum_of_its_sequences_losses(case: Case) -> None:
    model = case.model()
    network = model.network
    assert network is not None
    total = np.zeros(5)
    for i in range(len(case.data)):
        part = case.data[[i]]
        options = {"loss": case.loss, "outputs": network.outputs, "one_row_each": network.one_row_each}
        targets = make_targets(case.y[rows_of(case, i)], part, **options)
        total += network.evaluate(part, targets, case.loss)
    if total[1]:
        scores, expected = np.array(model.evaluate(case.data, case.y)), (total / total[1])[[0, 2, 3, 4]]
        if case.loss == CRF_LIKELIHOOD.name:  # the accuracy is that of the likeliest path
            scores[1] = expected[1]
        np.testing.assert_allclose(scores, expected, rtol=1e-12)


def long(lengths: list[int]) -> Case:
    """Work enough for threads, and in the end few sequences that run on."""
    random = np.random.default_rng(5)
    layers = [
        Bidirectional(LSTM(33, return_sequences=True)),
        LSTM(17, return_sequences=True, go_backwards=True),
        Bidirectional(LSTM(48, return_sequences=True), merge_mode="ave"),
        Bidirectional(GRU(23, return_sequences=True)),
        GRU(17, return_sequences=True, reset_after=False),
        SimpleRNN(70, return_sequences=True),
        Dense(4, "softmax"),
    ]
    data = Ragged(random.normal(size=(sum(lengths), 19)), offsets_of(lengths))
    y = random.integers(-1, 4, sum(lengths))
    return Case([to_json(layer) for layer in layers], data, y, "sparse_categorical_crossentropy", 3)


@pytest.mark.parametrize("count", THREADS)
def test_long_sequences_are_predicted_the_same_alone_and_in_company(count: int) -> None:
    utils.set_threads(count)
    case = long([300, 299, 180, 7, *[20] * 20])
    model = case.model()
    together = model.predict_rows(case.data)
    for i in range(6):
        assert bits(model.predict_rows(case.data[[i]])) == bits(together[rows_of(case, i)])


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 30))
@settings(max_examples=20)
def test_arrays_are_predicted_as_lists_are(steps: int, features: int, count: int) -> None:
    x = np.random.default_rng(0).normal(size=(count, steps, features)).astype(np.float32)
    for layers in ([LSTM(5), Dense(2)], [Bidirectional(LSTM(20, return_sequences=True)), Dense(1, "sigmoid")]):
        model = Sequential(layers, seed=1)
        listed = model.predict(list(x))
        assert bits(model.predict(x)) == bits(np.asarray(listed))
        assert bits(model.predict(np.asfortranarray(x))) == bits(model.predict(x))


# --- Threads ---------------------------------------------------------------------------------------------------------


@given(cases(crf=True), st.sampled_from(OPTIMIZERS))
@settings(max_examples=30)
def test_threads_change_no_bit(case: Case, optimizer: Optimizer) -> None:
    results = []
    for count in THREADS:
        utils.set_threads(count)
        model = case.model(optimizer)
        history = model.fit(case.data, case.y, batch_size=3, epochs=2, verbose=0).history
        results.append((weight_bits(model), bits(model.predict_rows(case.data)), repr(history)))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: f"{o.kind} {o.clipping}")
def test_threads_change_no_bit_where_all_have_work(optimizer: Optimizer) -> None:
    case, results = large(), []
    for count in THREADS:
        utils.set_threads(count)
        model = case.model(optimizer)
        losses = [model.train_on_batch(case.data, case.y) for _ in range(3)]
        scores = model.evaluate(case.data, case.y)
        results.append((weight_bits(model), bits(model.predict_rows(case.data)), losses, scores))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("pool", POOLS, ids=lambda p: type(p).__name__)
def test_threads_change_no_bit_of_pooled_rows(pool: Layer) -> None:
    case, results = pooled(pool), []
    for count in THREADS:
        utils.set_threads(count)
        model = case.model()
        losses = [model.train_on_batch(case.data, case.y) for _ in range(2)]
        results.append((network_arrays(model), bits(model.predict_rows(case.data)), losses))
    assert results[0] == results[1] == results[2]


# --- What is kept for the backward pass ------------------------------------------------------------------------------


def recomputing(case: Case) -> Sequential:
    model = case.model()
    model.compile("adam", case.loss, ["acc", "mse", "mae"], recompute=True)
    return model


@given(cases(most=9, crf=True))
@settings(max_examples=60)
def test_recomputing_changes_no_bit(case: Case) -> None:
    model, other = case.model(), recomputing(case)
    for _ in range(3):
        assert model.train_on_batch(case.data, case.y) == other.train_on_batch(case.data, case.y)
    assert network_arrays(model) == network_arrays(other)


@pytest.mark.parametrize("count", THREADS)
@pytest.mark.parametrize("lengths", [[9000], [5000, 4999, 1], [1300] * 9])
def test_recomputing_in_several_chunks_changes_no_bit(lengths: list[int], count: int) -> None:
    case = long(lengths)
    model, other = case.model(), recomputing(case)
    model.train_on_batch(case.data, case.y)
    utils.set_threads(count)
    other.train_on_batch(case.data, case.y)
    assert network_arrays(model) == network_arrays(other)


# --- How training is divided -----------------------------------------------------------------------------------------


def network_arrays(model: Sequential) -> list[bytes]:
    network = model.network
    assert network is not None
    return [bits(network.read(name)) for name in ("weights", "first_moments", "second_moments")]


@given(cases(crf=True), st.sampled_from(OPTIMIZERS))
@settings(max_examples=40)
def test_a_gradient_and_an_update_are_a_training_step(case: Case, optimizer: Optimizer) -> None:
    whole, halves = case.model(optimizer), case.model(optimizer)
    network = halves.network
    assert network is not None
    options: dict[str, Any] = {"loss": case.loss, "outputs": network.outputs, "one_row_each": network.one_row_each}
    targets = make_targets(case.y, case.data, **options)
    for step in range(3):
        losses = whole.train_on_batch(case.data, case.y)
        score = network.gradient(case.data, targets, case.loss, training=True, seed=case.seed)
        network.update(optimizer.plan())
        assert list(halves.logs_of(score).values()) == losses
        assert network.iteration == step + 1
    assert network_arrays(whole) == network_arrays(halves)


@given(cases(crf=True), st.integers(1, 4))
@settings(max_examples=30)
def test_two_fits_of_an_epoch_are_one_of_two(case: Case, batch_size: int) -> None:
    once, twice = case.model(), case.model()
    options: dict[str, Any] = {"batch_size": batch_size, "verbose": 0}
    for shuffle in (False, True):
        first = once.fit(case.data, case.y, epochs=2, shuffle=shuffle, **options).history["loss"]
        later = twice.fit(case.data, case.y, shuffle=shuffle, **options).history["loss"]
        later += twice.fit(case.data, case.y, epochs=2, initial_epoch=1, shuffle=shuffle, **options).history["loss"]
        assert first == later
        assert network_arrays(once) == network_arrays(twice)


@given(cases(crf=True))
@settings(max_examples=30)
def test_a_batch_where_nothing_is_labelled_changes_nothing(case: Case) -> None:
    model, other = case.model(), case.model()
    nothing = np.full_like(case.y, -1 if case.y.ndim == 1 else np.nan)
    for _ in range(2):
        model.train_on_batch(case.data, case.y)
        other.train_on_batch(case.data, nothing)
        other.train_on_batch(case.data, case.y)
    assert network_arrays(model) == network_arrays(other)
    assert model.network.iteration == other.network.iteration == 2  # type: ignore[union-attr]


@given(cases(crf=True))
@settings(max_examples=30)
def test_predicting_and_evaluating_leave_no_trace(case: Case) -> None:
    model, other = case.model(), case.model()
    for _ in range(2):
        other.predict_rows(case.data[::-1])
        other.evaluate(case.data, case.y)
        model.train_on_batch(case.data, case.y)
        other.train_on_batch(case.data, case.y)
    assert network_arrays(model) == network_arrays(other)


@given(cases(dropout=False), st.integers(0, 2**32))
@settings(max_examples=20)
def test_the_seed_has_no_part_in_a_training_step_without_dropout(case: Case, seed: int) -> None:
    model, other = case.model(), case.model()
    other.seed = seed
    for one in (model, other):
        one.train_on_batch(case.data, case.y)
    assert network_arrays(model) == network_arrays(other)


def test_the_seed_decides_what_is_dropped() -> None:
    results = []
    for seed in (1, 1, 2):
        model = Sequential([Dropout(0.5, input_shape=(None, 4)), Dense(3, "softmax")], seed=7)
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.seed = seed
        model.train_on_batch(np.ones((2, 5, 4)), np.zeros((2, 5)))
        results.append(weight_bits(model))
    assert results[0] == results[1] != results[2]
