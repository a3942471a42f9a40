"""Layers that make sequences shorter: what must follow, sequences too short for a window, and each by itself."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from bilstm import utils
from bilstm.layers import (
    LSTM,
    AveragePooling1D,
    Bidirectional,
    Dense,
    Dropout,
    GlobalMaxPooling1D,
    Layer,
    MaxPooling1D,
    SpatialDropout1D,
)
from bilstm.models import Sequential, load_model
from bilstm.ragged import Ragged, offsets_of
from oracles.models import bits, weight_bits


def model_of(*windows: Layer, dropout: float = 0.0) -> Sequential:
    first = Bidirectional(LSTM(4, return_sequences=True), input_shape=(None, 2))
    between = [Dropout(dropout), SpatialDropout1D(dropout)] if dropout else []
    layers = [
        first,
        *windows,
        *between,
        LSTM(5, return_sequences=True),
        *windows,
        GlobalMaxPooling1D(),
        Dense(2, "softmax"),
    ]
    model = Sequential(layers, seed=1)
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def sequences(lengths: list[int], seed: int = 0) -> Ragged:
    return Ragged(np.random.default_rng(seed).normal(size=(sum(lengths), 2)), offsets_of(lengths))


@pytest.mark.parametrize("windows", [MaxPooling1D(3), AveragePooling1D(2, 3, "same")], ids=repr)
def test_each_sequence_by_itself(windows: Layer) -> None:
    model = model_of(windows)
    x = sequences([9, 40, 13, 25, 10, 300])
    together = model.predict(x)
    assert bits(together) == bits(np.concatenate([model.predict(x[i : i + 1]) for i in range(len(x))]))
    equal = np.random.default_rng(3).normal(size=(3, 20, 2)).astype(np.float32)
    assert bits(model.predictor(sequences=3, steps=20)(equal)) == bits(model.predict(equal))


@pytest.mark.parametrize("recompute", [False, True])
def test_threads_change_nothing(recompute: bool) -> None:
    """Of a batch that is trained on by shares."""
    lengths = np.random.default_rng(1).integers(9, 60, 64).tolist()
    x, y = sequences(lengths), np.arange(64) % 2
    found, before = [], utils.threads()
    for threads in (1, 2, 5):
        utils.set_threads(threads)
        model = model_of(MaxPooling1D(3), dropout=0.4)
        model.compile("adam", "sparse_categorical_crossentropy", recompute=recompute)
        for _ in range(3):
            model.train_on_batch(x, y)
        found.append(weight_bits(model))
    utils.set_threads(before)
    assert found[0] == found[1] == found[2]


def test_a_sequence_that_is_too_short() -> None:
    """It is named by its number in x, behind a second layer of windows as well."""
    model = model_of(MaxPooling1D(3))
    for lengths, message in [
        ([9, 2, 30], "sequence 1 is too short for pooling: 2 steps are left of it, and a window has 3"),
        ([30, 9, 8, 50], "sequence 2 is too short for pooling: 2 steps are left of it, and a window has 3"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            model.predict(sequences(lengths))
        with pytest.raises(ValueError, match=re.escape(message)):
            model.train_on_batch(sequences(lengths), np.zeros(len(lengths)))
    assert np.isfinite(model.predict(sequences([9, 30]))).all()


def test_something_must_follow() -> None:
    model = Sequential([LSTM(2, return_sequences=True, input_shape=(None, 2)), MaxPooling1D()], seed=1)
    message = "pooling of windows makes sequences shorter: a layer that returns one row for each must follow"
    with pytest.raises(ValueError, match=message):
        model.predict(sequences([4, 5]))
    with pytest.raises(ValueError, match=message):
        model.predictor(steps=4)
    with pytest.raises(ValueError, match=message):
        model.predict(np.zeros((1, 4, 2), np.float32))
    weights = weight_bits(model)
    model.add(GlobalMaxPooling1D())
    assert weight_bits(model) == weights
    assert model.predict(sequences([4, 5])).shape == (2, 2)


def test_states_are_not_carried() -> None:
    model = model_of(MaxPooling1D(3))
    assert model.network is not None
    with pytest.raises(ValueError, match="a layer that reads several steps at once cannot continue from states"):
        model.network.predict(sequences([9, 12]), return_states=True)
    with pytest.raises(ValueError, match=re.escape("Bidirectional")):
        model.stream()
    forward = Sequential([LSTM(2, return_sequences=True, input_shape=(None, 2)), MaxPooling1D(), LSTM(2)])
    with pytest.raises(ValueError, match=re.escape("stream: MaxPooling1D(strides=2) cannot work step by step")):
        forward.stream()


def test_a_file_keeps_them(tmp_path: Path) -> None:
    model = model_of(AveragePooling1D(3, 2, "same"), dropout=0.2)
    model.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    x = sequences([9, 40])
    assert bits(again.predict(x)) == bits(model.predict(x))
    assert repr(again.layers) == repr(model.layers)
