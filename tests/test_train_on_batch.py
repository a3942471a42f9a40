"""A training step on a small array goes to the engine by a shorter way: the same bits, and the same refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bilstm.engine import network
from bilstm.engine.losses import LOSSES, TABLE, TargetKind
from bilstm.errors import UserError
from bilstm.layers import LSTM, Bidirectional, Dense, Dropout, GlobalMaxPooling1D
from bilstm.models import Sequential
from bilstm.optimizers import SGD, Adam
from bilstm.ragged import Ragged
from oracles.models import numbers, weight_bits

pytestmark = pytest.mark.fast

OUTPUTS = {"sigmoid": 1, "softmax": 3, "linear": 2}  # by the last layer's activation
SHORT = [loss.name for loss in TABLE if loss.targets is TargetKind.PROBABILITIES]


def model_for(loss: str, *, ending: Any = (), optimizer: Any = "adam", metrics: Any = None) -> Sequential:
    activation = LOSSES[loss].activation
    layers = [Bidirectional(LSTM(5, return_sequences=True), input_shape=(None, 2)), Dropout(0.2), *ending]
    model = Sequential([*layers, Dense(OUTPUTS[activation], activation)], seed=1)
    model.compile(optimizer, loss, metrics)
    return model


def shares(*shape: int) -> Any:
    y = np.random.default_rng(3).random(shape, np.float32)
    y = y / y.sum(axis=-1, keepdims=True) if shape[-1] > 1 else y
    y[0, ..., 0] = -1  # unlabelled
    return y


@pytest.fixture
def short_ways(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """A word for each step that was tried the shorter way: whether it was taken."""
    taken: list[bool] = []
    train_equal = network.Network.train_equal

    def noted(*arguments: Any) -> Any:
        score = train_equal(*arguments)
        taken.append(score is not None)
        return score

    monkeypatch.setattr(network.Network, "train_equal", noted)
    return taken


@pytest.mark.parametrize("loss", SHORT)
@pytest.mark.parametrize("ending", [(), (GlobalMaxPooling1D(),)])
@pytest.mark.parametrize("optimizer", [Adam(0.01, global_clipnorm=0.5), SGD(0.1)])
@pytest.mark.parametrize("metrics", [None, ["accuracy", "mse"]])
def test_both_ways_take_the_same_step(
    short_ways: list[bool], loss: str, ending: Any, optimizer: Any, metrics: Any
) -> None:
    short, long = (model_for(loss, ending=ending, optimizer=optimizer, metrics=metrics) for _ in range(2))
    x = numbers(4, 6, 2)
    y = shares(4, *([] if ending else [6]), OUTPUTS[LOSSES[loss].activation])
    ragged = Ragged.from_padded(x)
    for _ in range(3):
        assert short.train_on_batch(x, y) == long.train_on_batch(ragged, y if ending else Ragged.from_padded(y))
        assert weight_bits(short) == weight_bits(long)
    assert short_ways == [True] * 3


def test_y_is_left_as_it_is(short_ways: list[bool]) -> None:
    y = shares(4, 6, 1)
    before = y.copy()
    model_for("binary_crossentropy").train_on_batch(numbers(4, 6, 2), y)
    assert short_ways == [True]
    assert y.tobytes() == before.tobytes()


def test_memory_is_saved_this_way_too(short_ways: list[bool]) -> None:
    models = [model_for("binary_crossentropy") for _ in range(2)]
    models[1].compile("adam", "binary_crossentropy", recompute=True)
    assert len({models[i].train_on_batch(numbers(4, 6, 2), shares(4, 6, 1)) for i in range(2)}) == 1
    assert models[1].network is not None
    assert models[1].network.recompute
    assert short_ways == [True] * 2


@pytest.mark.parametrize(
    ("values", "targets", "error", "message"),
    [
        (np.nan, 0.5, UserError, "sequence 1"),
        (np.inf, 0.5, UserError, "sequence 1"),
        (0.5, 1.5, ValueError, "y from 0 to 1"),
        (0.5, -0.5, ValueError, "y from 0 to 1"),
    ],
)
def test_what_it_refuses_is_told_as_ever(
    short_ways: list[bool], values: float, targets: float, error: type[Exception], message: str
) -> None:
    model = model_for("binary_crossentropy")
    before = weight_bits(model)
    x, y = numbers(4, 6, 2), shares(4, 6, 1)
    x[1, 2, 1], y[2, 3, 0] = values, targets
    with pytest.raises(error, match=message):
        model.train_on_batch(x, y)
    assert short_ways == [False]
    assert weight_bits(model) == before


@pytest.mark.parametrize(
    ("loss", "x", "y"),
    [
        *(
            (loss.name, numbers(4, 6, 2), numbers(4, 6, 2))  # -1 is a number like any other
            for loss in TABLE
            if loss.targets is TargetKind.NUMBERS
        ),
        ("sparse_categorical_crossentropy", numbers(4, 6, 2), np.zeros((4, 6, 1), np.float32)),
        ("binary_crossentropy", numbers(4, 6, 2).astype(np.float64), shares(4, 6, 1)),
        ("binary_crossentropy", numbers(4, 6, 2), shares(4, 6, 1)[:, :, 0]),
        ("binary_crossentropy", numbers(4, 6, 2), shares(4, 6, 1).astype(np.float64)),
        ("binary_crossentropy", numbers(400, 60, 2), shares(400, 60, 1)),  # not small
    ],
)
def test_what_is_not_in_the_engines_form_takes_the_longer_way(
    short_ways: list[bool], loss: str, x: Any, y: Any
) -> None:
    assert np.isfinite(model_for(loss).train_on_batch(x, y))
    assert short_ways == []


def test_wrong_shapes_are_told_as_ever(short_ways: list[bool]) -> None:
    model = model_for("binary_crossentropy")
    with pytest.raises(ValueError, match="2 features"):
        model.train_on_batch(numbers(4, 6, 3), shares(4, 6, 1))
    with pytest.raises(ValueError, match="y has shape"):
        model.train_on_batch(numbers(4, 6, 2), shares(4, 5, 1))
    assert model.optimizer
    model.optimizer.learning_rate = -1.0
    with pytest.raises(ValueError, match="must be a positive number"):
        model.train_on_batch(numbers(4, 6, 2), shares(4, 6, 1))
    assert short_ways == []
