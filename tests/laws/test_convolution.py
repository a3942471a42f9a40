"""Conv1D: what a sequence's outputs depend on, and to the last bit on nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilstm import utils
from bilstm.engine import library
from bilstm.layers import LSTM, Bidirectional, Conv1D, Dense, Dropout, Embedding, Layer, from_json, to_json
from bilstm.models import Sequential, load_model
from bilstm.ragged import Ragged, offsets_of
from oracles.models import Case, bits, weight_bits

THREADS = (1, 2, 7)
PRECISIONS = ("float32", "bfloat16")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = utils.threads()
    yield
    utils.set_threads(before)


@st.composite
def convolutions(draw: st.DrawFn, most: int = 9) -> Conv1D:
    return Conv1D(
        draw(st.sampled_from([1, 2, 3, 17, 70])),
        draw(st.integers(1, most)),
        padding=draw(st.sampled_from(["same", "causal"])),
        dilation_rate=draw(st.integers(1, 4)),
        activation=draw(st.sampled_from(["linear", "sigmoid", "softmax", "tanh", "relu"])),
    )


def sequences(lengths: list[int], features: int, seed: int = 0) -> Ragged:
    values = np.random.default_rng(seed).normal(size=(sum(lengths), features)).astype(np.float32)
    return Ragged(values, offsets_of(lengths))


def model_of(*layers: Layer, features: int = 2) -> Sequential:
    model = Sequential([from_json(to_json(layer)) for layer in layers], seed=1)
    model.build((None, None, features))
    random = np.random.default_rng(2)
    model.set_weights([random.normal(scale=0.5, size=weight.shape) for weight in model.get_weights()])
    return model


def reads(layer: Conv1D) -> tuple[int, int]:
    """How many steps before and after its own an output depends on."""
    others = (layer.kernel_size - 1) * layer.dilation_rate
    before = others if layer.padding == "causal" else others // 2
    return before, others - before


LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=6)


# --- What outputs depend on ------------------------------------------------------------------------------------------


@given(convolutions(), LENGTHS, st.sampled_from([1, 2, 20]))
@settings(max_examples=100)
def test_a_sequence_alone_in_company_and_among_zeros(layer: Conv1D, lengths: list[int], features: int) -> None:
    """With as many zeros around it as a window reaches, whatever the steps beyond them hold."""
    model, data = model_of(layer, features=features), sequences(lengths, features)
    before, after = reads(layer)
    for precision in PRECISIONS:
        together = model.predict_rows(data, precision=precision)
        parts = np.split(together, data.offsets[1:-1])
        for sequence, rows in zip(data, parts, strict=True):
            alone = Ragged(sequence, [0, len(sequence)])
            assert bits(model.predict_rows(alone, precision=precision)) == bits(rows)
            zeros = [np.zeros((count, features), np.float32) for count in (after, before)]
            loud = np.full((1, features), 1e3, np.float32)
            framed = np.concatenate([loud, zeros[1], sequence, zeros[0], loud])
            around = model.predict_rows(Ragged(framed, [0, len(framed)]), precision=precision)
            assert bits(around[1 + before : 1 + before + len(sequence)]) == bits(rows)


@given(convolutions(), st.integers(1, 40), st.data())
@settings(max_examples=60)
def test_an_output_depends_on_the_steps_that_its_window_reads(layer: Conv1D, steps: int, data: st.DataObject) -> None:
    layer.activation = "linear"
    model, changed = model_of(layer), data.draw(st.integers(0, steps - 1))
    values = sequences([steps], 2).values
    other = values.copy()
    other[changed] += 1
    first, second = (model.predict_rows(Ragged(each, [0, steps])) for each in (values, other))
    before, after = reads(layer)
    read = {changed - place for place in range(-before, after + 1, layer.dilation_rate)}
    found = {int(step) for step in np.flatnonzero((first != second).any(axis=1))}
    assert found == {step for step in read if 0 <= step < steps}


@given(LENGTHS, st.sampled_from([1, 2, 3, 20, 70]), st.sampled_from(["linear", "tanh", "softmax"]))
@settings(max_examples=40)
def test_a_convolution_of_one_step_is_dense(lengths: list[int], units: int, activation: str) -> None:
    data, y = sequences(lengths, 3), np.ones((sum(lengths), 1))
    one = model_of(Conv1D(units, 1, padding="same", dilation_rate=3, activation=activation), Dense(1), features=3)
    dense = model_of(Dense(units, activation), Dense(1), features=3)
    dense.set_weights([weight.reshape(weight.shape[-2:]) for weight in one.get_weights()])
    assert bits(one.predict_rows(data)) == bits(dense.predict_rows(data))
    for model in (one, dense):
        model.compile("sgd", "mse")
        model.train_on_batch(data, y)
    for a, b in zip(one.get_weights(), dense.get_weights(), strict=True):
        np.testing.assert_allclose(a.reshape(b.shape), b, rtol=0, atol=1e-6)


def test_nothing_that_is_not_a_number_leaves_its_sequence_or_its_windows() -> None:
    data = sequences([20, 20, 20], 2)
    model = model_of(Conv1D(5, 5, padding="same"))
    expected = model.predict_rows(data)
    data.values[30] = np.nan
    found = model.predict_rows(data)
    assert np.flatnonzero(np.isnan(found).any(axis=1)).tolist() == [28, 29, 30, 31, 32]
    apart = np.r_[:28, 33:60]
    assert bits(found[apart]) == bits(expected[apart])


def test_windows_that_are_longer_than_sequences() -> None:
    model, data = model_of(Conv1D(4, 200, padding="causal", dilation_rate=1000)), sequences([1, 3, 2], 2)
    kernel, bias = model.get_weights()
    np.testing.assert_allclose(model.predict_rows(data), data.values @ kernel[-1] + bias, rtol=0, atol=1e-5)


# --- Threads, builds, shares -----------------------------------------------------------------------------------------


def large(lengths: list[int] | None = None) -> Case:
    """Work for all threads, in a network that is trained by shares, and in one that is not."""
    random = np.random.default_rng(1)
    lengths = [*random.integers(1, 60, 37).tolist(), 1, 1500] if lengths is None else lengths
    layers = [
        Conv1D(70, 5, padding="same", activation="relu"),
        Dropout(0.2),
        Conv1D(33, 4, padding="same", dilation_rate=3, activation="tanh"),
        Bidirectional(LSTM(20 if len(lengths) > 1 else 200, return_sequences=True)),
        Conv1D(50, 3, padding="causal", activation="sigmoid"),
        Dense(5, "softmax"),
    ]
    y = random.integers(-1, 5, sum(lengths))
    return Case([to_json(layer) for layer in layers], sequences(lengths, 19), y, "sparse_categorical_crossentropy", 3)


CASES = {"many sequences": None, "one sequence": [2500], "few of one step": [1] * 40}


def trained(case: Case, **options: Any) -> list[Any]:
    model = case.model()
    model.compile("adam", case.loss, ["acc"], **options)
    losses = [model.train_on_batch(case.data, case.y) for _ in range(2)]
    predicted = [bits(model.predict_rows(case.data, precision=precision)) for precision in PRECISIONS]
    return [losses, model.evaluate(case.data, case.y), *weight_bits(model), *predicted]


@pytest.mark.parametrize("lengths", CASES.values(), ids=CASES)
def test_threads_and_recomputing_change_no_bit(lengths: list[int] | None) -> None:
    case, results = large(lengths), []
    for count in THREADS:
        utils.set_threads(count)
        results.append(trained(case))
    assert results[0] == results[1] == results[2] == trained(case, recompute=True)


PROGRAM = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from bilstm import utils
from laws.test_convolution import CASES, large, trained
assert utils.target() == sys.argv[2]
for lengths in CASES.values():
    print(hashlib.sha256(repr(trained(large(lengths))).encode()).hexdigest())
"""


def run_build(target: str) -> list[str]:
    """What one build of the engine computes; skips where there is none or the processor cannot run it."""
    folder = str(Path(__file__).parents[1])
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM, folder, target],
        env=os.environ | {"BILSTM_ENGINE": target},
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "EngineError" in finished.stderr:
        pytest.skip(finished.stderr.strip().splitlines()[-1])
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.split()


@pytest.mark.skipif("neon" in library.target(), reason="there is one build for this processor")
def test_builds_for_different_processors_agree() -> None:
    avx2 = run_build("avx2")
    assert len(avx2) == len(CASES)
    assert run_build("avx512") == avx2


# --- Models ----------------------------------------------------------------------------------------------------------


@given(convolutions(), st.integers(1, 12), st.integers(1, 5))
@settings(max_examples=20)
def test_arrays_lists_predictors_and_files(layer: Conv1D, steps: int, count: int) -> None:
    model = model_of(layer, LSTM(3, return_sequences=True))
    x: npt.NDArray[np.float32] = sequences([steps] * count, 2).values.reshape(count, steps, 2)
    expected = bits(model.predict(x))
    assert bits(np.asarray(model.predict(list(x)))) == expected
    assert bits(model.predictor(sequences=count, steps=steps)(x)) == expected
    again = Sequential.from_config(model.get_config())
    again.set_weights(model.get_weights())
    assert bits(again.predict(x)) == expected


def test_a_saved_model_predicts_the_same(tmp_path: Path) -> None:
    layers = [Embedding(9, 4), Conv1D(6, 3, padding="causal", dilation_rate=2, activation="relu"), LSTM(3), Dense(1)]
    model = model_of(*layers, features=1)
    words = Ragged(np.random.default_rng(1).integers(9, size=(12, 1)), [0, 5, 12])
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert again.layers[1].get_config() == layers[1].get_config()
    assert again.count_params() == 9 * 4 + 3 * 4 * 6 + 6 + 4 * 3 * (6 + 3 + 1) + 4
    assert bits(again.predict_rows(words)) == bits(model.predict_rows(words))


def test_it_finds_a_pattern_of_three_steps() -> None:
    """Whether a step is larger than both of its neighbours."""
    random = np.random.default_rng(1)
    lengths = random.integers(3, 20, 200)
    data = Ragged(random.normal(size=(int(lengths.sum()), 1)), offsets_of(lengths))
    parts = [np.pad(rows[:, 0], 1, constant_values=0) for rows in data]
    y = np.concatenate([(x[1:-1] > np.maximum(x[:-2], x[2:])).astype(int) for x in parts])
    model = Sequential([Conv1D(16, 3, padding="same", activation="relu"), Dense(1, "sigmoid")], seed=1)
    model.build((None, None, 1))
    model.compile("adam", "binary_crossentropy", ["acc"])
    model.fit(data, y, epochs=60, batch_size=16, verbose=0)
    assert model.evaluate(data, y)[1] > 0.95
