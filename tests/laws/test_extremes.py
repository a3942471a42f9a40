"""Exactness at the edges: very long, very many, very small, infinite and no numbers; and the functions at the gates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bilstm import utils
from bilstm.engine import library
from bilstm.engine.network import Network
from bilstm.engine.plans import dense
from bilstm.errors import UserError
from bilstm.layers import GRU, LSTM, Bidirectional, Dense, GlobalAttentionPooling1D
from bilstm.models import Sequential
from bilstm.ragged import FloatArray, Ragged, offsets_of
from laws.test_invariance import OPTIMIZERS, THREADS
from oracles.engines import using
from oracles.models import CELLS, UNITS, Case, bits, cases, weight_bits


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = utils.threads()
    yield
    utils.set_threads(before)


# --- Builds ----------------------------------------------------------------------------------------------------------


def builds() -> list[Any]:
    """Those that this processor can run."""
    found = [library._load(path) for name in library.TARGETS if (path := library._find(name))]
    return [engine for engine in found if engine.bilstm_supported()]


@pytest.mark.skipif(len(builds()) < 2, reason="this processor runs one build only")
@given(cases(most=9, crf=True), st.sampled_from(OPTIMIZERS))
@settings(max_examples=60)
def test_builds_change_no_bit(case: Case, optimizer: Any) -> None:
    results = []
    for engine in builds():
        with using(engine):
            model = case.model(optimizer)
            history = model.fit(case.data, case.y, batch_size=3, epochs=2, verbose=0).history
            scores = model.evaluate(case.data, case.y, verbose=0)
            predicted = [bits(model.predict_rows(case.data, precision=p)) for p in ("float32", "bfloat16")]
            results.append((weight_bits(model), predicted, repr(history), repr(scores)))
    assert len(set(map(repr, results))) == 1


# --- Very long, very many --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "units"), [("LSTM", 1), ("LSTM", 5), ("GRU", 1), ("GRU", 5), ("GRU, reset before", 5), ("SimpleRNN", 5)]
)
def test_a_million_steps_in_one_sequence(cell: str, units: int) -> None:
    """As read in pieces, each from the states that the one before it left."""
    steps = 1_000_000
    values = np.random.default_rng(units).normal(size=(steps, 2)).astype(np.float32)
    make = CELLS[cell]
    model = Sequential([make(units, return_sequences=True, input_shape=(None, 2))], seed=1)
    both = Sequential([Bidirectional(make(units, return_sequences=True), input_shape=(None, 2))], seed=1)
    both.set_weights(model.get_weights() * 2)
    whole = model.predict_rows(Ragged(values, [0, steps]))
    assert bits(both.predict_rows(Ragged(values, [0, steps]))[:, :units]) == bits(whole)
    assert model.network is not None
    states = None
    for start, stop in ((0, 1), (1, 700_001), (700_001, steps)):
        piece = Ragged(values[start:stop], [0, stop - start])
        rows, states = model.network.predict(piece, states, return_states=True)
        assert bits(rows) == bits(whole[start:stop])


def test_learning_from_a_million_steps_in_one_sequence() -> None:
    steps = 1_000_000
    values = np.random.default_rng(1).normal(size=(steps, 1)).astype(np.float32)
    results = []
    for count in (1, 2):
        utils.set_threads(count)
        model = Sequential([LSTM(1, return_sequences=True, input_shape=(None, 1)), Dense(1)], seed=1)
        model.compile("adam", "mse")
        loss = model.train_on_batch(Ragged(values, [0, steps]), np.ones((steps, 1), np.float32))
        assert np.isfinite(loss)
        results.append((loss, weight_bits(model)))
    assert results[0] == results[1]


@pytest.mark.parametrize("steps", [1, 2, 511, 513, 16385, 1_000_000])
def test_attention_over_any_number_of_steps(steps: int) -> None:
    values = np.random.default_rng(steps).normal(size=(steps, 2)).astype(np.float32)
    model = Sequential([GlobalAttentionPooling1D(3, input_shape=(None, 2))], seed=1)
    kernel, bias, query = (weight.astype(np.float64) for weight in model.get_weights())
    for scale in (1, 30):
        model.set_weights([kernel, bias, scale * query])
        scores = np.tanh(values @ kernel + bias) @ query * scale
        shares = np.exp(scores - scores.max())
        expected = shares / shares.sum() @ values
        alone = model.predict_rows(Ragged(values, [0, steps]))
        np.testing.assert_allclose(alone[0], expected, rtol=0, atol=1e-5)
        both = model.predict_rows(Ragged(np.vstack([values, values[::-1]]), [0, steps, 2 * steps]))
        assert bits(both[0]) == bits(alone[0])


@pytest.mark.parametrize("count", THREADS)
def test_learning_by_attention_over_long_sequences(count: int) -> None:
    lengths = [100_000, 1, 70_000]
    data = Ragged(np.random.default_rng(2).normal(size=(sum(lengths), 3)), offsets_of(lengths))
    results = []
    for threads in (1, count):
        utils.set_threads(threads)
        model = Sequential([GlobalAttentionPooling1D(20, input_shape=(None, 3)), Dense(2, "softmax")], seed=1)
        model.compile("adam", "sparse_categorical_crossentropy")
        results.append((model.train_on_batch(data, [0, 1, 1]), weight_bits(model)))
    assert results[0] == results[1]


@pytest.mark.parametrize("units", [1, 17])
def test_ten_thousand_sequences_of_mixed_lengths(units: int) -> None:
    random = np.random.default_rng(units)
    lengths = np.where(random.random(10_000) < 0.01, random.integers(1, 200, 10_000), random.integers(1, 12, 10_000))
    data = Ragged(random.normal(size=(lengths.sum(), 2)), offsets_of(lengths))
    y = random.integers(3, size=data.total_steps)
    results = []
    for count in THREADS:
        utils.set_threads(count)
        layers = [Bidirectional(LSTM(units, return_sequences=True), input_shape=(None, 2)), Dense(3, "softmax")]
        model = Sequential(layers, seed=1)
        model.compile("adam", "sparse_categorical_crossentropy")
        before = model.predict_rows(data)
        loss = model.train_on_batch(data, y)  # all of them as one batch
        after = model.predict_rows(data)
        results.append((bits(before), loss, weight_bits(model), bits(after)))
        for i in random.integers(10_000, size=20):
            assert bits(model.predict_rows(data[[i]])) == bits(after[data.offsets[i] : data.offsets[i + 1]])
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("steps", [1, 2])
def test_one_short_sequence(units: int, steps: int) -> None:
    """A single step has no state before it: h = o tanh(i g)."""
    values = np.random.default_rng(steps).normal(size=(steps, 3)).astype(np.float32)
    model = Sequential([LSTM(units, return_sequences=True, input_shape=(None, 3))], seed=1)
    kernel, _, bias = (weight.astype(np.float64) for weight in model.get_weights())
    i, _, g, o = np.split(values[0] @ kernel + bias, 4)
    expected = np.tanh(np.tanh(g) / (1 + np.exp(-i))) / (1 + np.exp(-o))
    np.testing.assert_allclose(model.predict_rows(Ragged(values, [0, steps]))[0], expected, rtol=0, atol=3e-7)


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("reset_after", [True, False])
def test_one_short_sequence_of_a_gru(reset_after: bool, units: int, steps: int) -> None:
    """A single step has no state before it: h = (1 - z) h'; but a recurrent bias there is."""
    values = np.random.default_rng(steps).normal(size=(steps, 3)).astype(np.float32)
    layer = GRU(units, return_sequences=True, reset_after=reset_after, input_shape=(None, 3))
    model = Sequential([layer], seed=1)
    random = np.random.default_rng(units)
    model.set_weights([random.normal(scale=0.5, size=weight.shape) for weight in model.get_weights()])
    kernel, _, bias = (weight.astype(np.float64) for weight in model.get_weights())
    inner, recurrent = bias if reset_after else (bias, np.zeros_like(bias))
    z, r, h = np.split(values[0] @ kernel + inner, 3)
    of_z, of_r, of_h = np.split(recurrent, 3)
    candidate = np.tanh(h + of_h / (1 + np.exp(-r - of_r)))
    expected = candidate / (1 + np.exp(z + of_z))
    np.testing.assert_allclose(model.predict_rows(Ragged(values, [0, steps]))[0], expected, rtol=0, atol=3e-7)


# --- Numbers that are hardly numbers, or none ------------------------------------------------------------------------


@given(cases(most=6, crf=True), st.sampled_from([np.nan, np.inf, -np.inf, 3e38]), st.data())
@settings(max_examples=80)
def test_what_is_no_number_never_reaches_another_sequence(case: Case, special: float, data: st.DataObject) -> None:
    assume("Embedding" not in case.layers[0]["class_name"])  # takes indexes, and refuses these
    model = case.model()
    before = model.predict_rows(case.data)
    poisoned = data.draw(st.integers(0, len(case.data) - 1))
    start, stop = case.data.offsets[poisoned : poisoned + 2]
    values = case.data.values.copy()
    values[data.draw(st.integers(start, stop - 1)), data.draw(st.integers(0, 1))] = special
    after = model.predict_rows(case.data.with_values(values).with_words(case.data.words))
    others = np.ones(len(before), bool)
    others[poisoned if case.one_row_each else slice(start, stop)] = False
    assert bits(after[others]) == bits(before[others])


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("return_sequences", [True, False])
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "GRU, reset before", "SimpleRNN"])
def test_nan_stays_nan_and_infinity_saturates(cell: str, special: float, return_sequences: bool) -> None:
    """A NaN is in every output that has seen it; an infinite input opens or closes gates, or is NaN where both meet."""
    values = np.zeros((6, 1), np.float32)
    values[2] = special
    model = Sequential([CELLS[cell](4, return_sequences=return_sequences, input_shape=(None, 1))], seed=1)
    outputs = model.predict_rows(Ragged(values, [0, 6]))
    if np.isnan(special):
        assert np.isnan(outputs[2:] if return_sequences else outputs).all()
    else:
        assert (np.abs(outputs) <= 1).all()
    if return_sequences:
        assert (np.abs(outputs[:2]) < 1).all()


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_not_learnt(special: float) -> None:
    model = Sequential([Dense(2, "softmax", input_shape=(None, 1))], seed=1)
    model.compile("adam", "sparse_categorical_crossentropy")
    before = weight_bits(model)
    with pytest.raises(UserError, match=r"x has -?\w+ in sequence 1, step 2, feature 0: every value must be"):
        model.fit(np.float32([[0, 1, 2], [3, 4, special]]), np.zeros((2, 3)), verbose=0)
    assert weight_bits(model) == before


def applied(activation: str, values: FloatArray) -> FloatArray:
    """An activation of single numbers."""
    network = Network([dense(0, 1, activation)], 1)
    network.write(np.float32([1, 0]))
    return network.predict(Ragged(values, [0, len(values)]))[0][:, 0]


def all_exponents() -> FloatArray:
    """Every 2048th of the finite numbers of float32, and infinity."""
    positive = np.arange(0, 0x7F800001, 2048, dtype=np.uint32).view(np.float32)
    near = np.random.default_rng(1).uniform(-100, 100, 300_000).astype(np.float32)
    return np.concatenate([-positive[::-1], positive, near])


def test_subnormal_numbers_pass_unchanged() -> None:
    values = np.float32([1e-45, -1e-45, 1e-40, -1.1754942e-38, 1.1754944e-38, 0.0])
    np.testing.assert_array_equal(applied("linear", values), values)
    np.testing.assert_array_equal(applied("relu", values), np.maximum(values, 0))


def test_the_sigmoid_over_its_whole_range() -> None:
    values = all_exponents()
    with np.errstate(over="ignore"):
        expected = 1 / (1 + np.exp(-values.astype(np.float64)))
    found = applied("sigmoid", values)
    assert np.abs(found - expected).max() <= 3e-7
    assert ((found >= 0) & (found <= 1)).all()
    assert applied("sigmoid", np.float32([0, np.inf])).tolist() == [0.5, 1]
    assert applied("sigmoid", np.float32([-np.inf, -90]))[0] < 1e-37
    assert np.isnan(applied("sigmoid", np.float32([np.nan, -np.nan]))).all()


def test_the_hyperbolic_tangent_over_its_whole_range() -> None:
    values = all_exponents()
    expected = np.tanh(values.astype(np.float64))
    found = applied("tanh", values)
    assert np.abs(found - expected).max() <= 3e-7
    assert (np.abs(found) <= 1).all()
    assert applied("tanh", np.float32([np.inf, -np.inf, 12, -12])).tolist() == [1, -1, 1, -1]
    assert np.isnan(applied("tanh", np.float32([np.nan, -np.nan]))).all()
    small = np.abs(values) < 1e-3
    normal = small & (np.abs(values) > 1e-30)
    np.testing.assert_allclose(found[normal], expected[normal], rtol=1e-6)


def test_softmax_of_numbers_of_any_size() -> None:
    random = np.random.default_rng(1)
    for scale in (1e-38, 1e-3, 1, 30, 80, 1e4, 1e38):
        values = (random.uniform(-1, 1, (2000, 7)) * scale).astype(np.float32)
        network = Network([dense(0, 7, "softmax")], 7)
        network.write(np.concatenate([np.eye(7, dtype=np.float32).ravel(), np.zeros(7, np.float32)]))
        found = network.predict(Ragged(values, [0, 2000]))[0]
        exact = np.exp(values.astype(np.float64) - values.astype(np.float64).max(axis=1, keepdims=True))
        assert np.abs(found - exact / exact.sum(axis=1, keepdims=True)).max() <= 3e-7
