"""ONNX Runtime, and OpenVINO where it is installed, as a second opinion on what is exported."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import assume, given, settings

from bilstm import Ragged, Sequential
from bilstm.bridges.onnx import to_onnx
from bilstm.layers import (
    CRF,
    GRU,
    LSTM,
    AveragePooling1D,
    BatchNormalization,
    Bidirectional,
    Dense,
    Embedding,
    GlobalMaxPooling1D,
    Layer,
    Masking,
    MaxPooling1D,
    Reverse,
    SimpleRNN,
)
from oracles.models import Case, cases

Array = np.ndarray[Any, Any]
LENGTHS = (3, 7, 1, 12)
EXACT = {"INFERENCE_PRECISION_HINT": "f32"}  # otherwise OpenVINO computes in bfloat16 where the CPU can
GARBAGE = np.nan  # what padding holds, and nothing reads


def session(model: Any) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def padded(data: Ragged, kind: str) -> Array:
    """(batch, time, features), longer than the longest sequence."""
    steps = int(data.lengths.max()) + 2
    x = np.full((len(data), steps, data.features), GARBAGE, np.float32)
    for i in range(len(data)):
        x[i, : data.lengths[i]] = data[i]
    return np.nan_to_num(x, nan=-7).astype(np.int64) if kind == "tensor(int64)" else x


def flat(outputs: Sequence[Array], lengths: Array) -> Array:
    """The rows of all outputs side by side; what is beyond a sequence's length is 0."""
    y = np.concatenate(outputs, axis=-1)
    if y.ndim == 2:
        return y
    assert not any(y[i, length:].any() for i, length in enumerate(lengths))
    return np.concatenate([y[i, :length] for i, length in enumerate(lengths)])


def run(model: Sequential, data: Ragged) -> Array:
    made = session(to_onnx(model))
    x = padded(data, made.get_inputs()[0].type)
    return flat(made.run(None, {"x": x, "lengths": data.lengths.astype(np.int32)}), data.lengths)


def check(model: Sequential, data: Ragged) -> None:
    ours = model.predict_rows(data)
    np.testing.assert_allclose(run(model, data), ours, rtol=1e-5, atol=1e-5 * max(1.0, float(np.abs(ours).max())))


@settings(max_examples=30)
@given(cases())
def test_random_models_give_the_same(case: Case) -> None:
    assume(case.data.words is None)  # words are refused
    check(case.model(), case.data)


def lstm(units: int = 4, **options: Any) -> LSTM:
    return LSTM(units, return_sequences=True, **options)


LAYERS: dict[str, list[Layer]] = {
    "forwards second": [Bidirectional(lstm(go_backwards=True), backward_layer=lstm(5))],
    "forwards second, as many": [Bidirectional(lstm(go_backwards=True), merge_mode="concat")],
    "forwards second, merged": [Bidirectional(GRU(4, go_backwards=True), merge_mode="ave")],
    "forwards second, last": [Bidirectional(GRU(4, go_backwards=True))],
    "two outputs": [Bidirectional(lstm(), merge_mode=None)],
    "two outputs of sequences": [Bidirectional(SimpleRNN(3), merge_mode=None)],
    "reversed": [lstm(go_backwards=True), Reverse()],
    "reversed after two": [Bidirectional(lstm(go_backwards=True)), Reverse()],
    "other cells": [Bidirectional(lstm(), "mul", GRU(4, return_sequences=True, go_backwards=True))],
    "other cells, added": [Bidirectional(lstm(), "sum", SimpleRNN(4, return_sequences=True, go_backwards=True))],
    "other gates": [
        Bidirectional(lstm(), "ave", lstm(go_backwards=True, recurrent_activation="hard_sigmoid")),
    ],
    "normalized": [BatchNormalization(), lstm(), BatchNormalization(center=False, epsilon=0.2)],
    "normalized in part": [lstm(), BatchNormalization(scale=False), Bidirectional(GRU(3)), BatchNormalization()],
    "masked": [Masking(-1.0), Bidirectional(lstm()), Dense(2)],
    "masked, last": [Masking(-1.0), Bidirectional(GRU(3))],
    "masked, two": [Masking(0.0), lstm(go_backwards=True), Reverse(), Bidirectional(lstm(2))],
}


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_layers_give_the_same(layers: list[Layer]) -> None:
    model = Sequential(layers, seed=1)
    model.build((None, 2))
    random = np.random.default_rng(0)
    model.set_tensors({name: random.uniform(0.1, 1, array.shape) for name, array in model.tensors().items()})
    values = random.normal(size=(sum(LENGTHS), 2)).astype(np.float32)
    values[random.random(len(values)) < 0.3] = -1.0
    values[[0, 10]] = 2.0  # no sequence is masked as a whole
    check(model, Ragged(values, [0, *itertools.accumulate(LENGTHS)]))


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("size", "stride"), [(2, None), (3, 1), (2, 3), (4, 3)])
@pytest.mark.parametrize("kind", [MaxPooling1D, AveragePooling1D])
def test_windows_are_those_of_each_length(kind: Any, size: int, stride: int | None, padding: str) -> None:
    model = Sequential([kind(size, stride, padding), Bidirectional(lstm()), GlobalMaxPooling1D()], seed=2)
    model.build((None, 2))
    lengths = [4, 5, 6, 7, 8, 11]
    values = np.random.default_rng(1).normal(size=(sum(lengths), 2))
    check(model, Ragged(values, [0, *itertools.accumulate(lengths)]))


def test_masked_words() -> None:
    model = Sequential([Embedding(6, 3, mask_zero=True), Bidirectional(lstm()), Dense(2, "softmax")], seed=3)
    values = np.random.default_rng(2).integers(6, size=(sum(LENGTHS), 1))
    values[[0, 3, 10, 11]] = 5
    check(model, Ragged(values, [0, *itertools.accumulate(LENGTHS)]))


@pytest.mark.parametrize("forbidden", [None, [(0, 1), (2, None), (None, 1)]], ids=["all", "some"])
def test_a_crf_can_be_decoded(forbidden: Any) -> None:
    """Viterbi's algorithm in NumPy, over all sequences of labels: as many as there are."""
    model = Sequential([Masking(9.0), Bidirectional(lstm()), Dense(3), CRF(3, forbidden)], seed=4)
    model.build((None, 2))
    random = np.random.default_rng(3)
    model.set_weights([random.normal(size=array.shape) for array in model.get_weights()])
    lengths = [1, 4, 5]
    data = Ragged(random.normal(size=(sum(lengths), 2)), [0, *itertools.accumulate(lengths)])
    inputs = {"x": padded(data, ""), "lengths": data.lengths.astype(np.int32)}
    emissions, transitions, start, end = session(to_onnx(model)).run(None, inputs)
    for i, labels in enumerate(model.predict_classes([data[i] for i in range(len(data))])):
        paths = np.array(list(itertools.product(range(3), repeat=lengths[i])))
        scores = start[paths[:, 0]] + end[paths[:, -1]] + transitions[paths[:, :-1], paths[:, 1:]].sum(axis=1)
        scores += emissions[i, np.arange(lengths[i]), paths].sum(axis=1)
        np.testing.assert_array_equal(paths[scores.argmax()], labels)


def test_open_vino_gives_the_same() -> None:
    openvino = pytest.importorskip("openvino")
    model = Sequential([Masking(9.0), Bidirectional(lstm(8)), Bidirectional(GRU(5)), Dense(2, "softmax")], seed=1)
    model.build((None, 3))
    data = Ragged(np.random.default_rng(0).normal(size=(sum(LENGTHS), 3)), [0, *itertools.accumulate(LENGTHS)])
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(to_onnx(model).SerializeToString()), "CPU", EXACT)
    inputs = {"x": np.nan_to_num(padded(data, "")), "lengths": data.lengths.astype(np.int32)}
    np.testing.assert_allclose(compiled(inputs)[0], model.predict_rows(data), atol=1e-5)
