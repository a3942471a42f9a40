"""The table of losses: each is the engine's, Keras's by name, and what the oracle computes, and is documented."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bilstm.engine.losses import CRF_LIKELIHOOD, LOSSES, TABLE, Loss, TargetKind
from bilstm.engine.network import Network
from bilstm.engine.plans import Targets, dense
from bilstm.layers import Dense
from bilstm.models import Sequential
from bilstm.models.sequential import _METRICS
from bilstm.ragged import Ragged
from oracles.models import NATIVE
from oracles.numpy_losses import ROW_LOSSES, row_losses

pytestmark = pytest.mark.fast

PAGE = Path(__file__).parents[1] / "docs" / "keras.md"
ALL = (*TABLE, CRF_LIKELIHOOD)
each_loss = pytest.mark.parametrize("loss", TABLE, ids=lambda loss: loss.name)


def test_numbers_are_those_of_the_engines_header() -> None:
    (text,) = re.findall(r"typedef enum bilstm_loss \{(.*?)\}", (NATIVE / "api.h").read_text(), re.DOTALL)
    none, *names, count = re.findall(r"^ *BILSTM_(\w+)", text, re.MULTILINE)
    assert (none, count) == ("NO_LOSS", "LOSSES")
    numbers = {loss.name: loss.number for loss in ALL}
    assert numbers.pop("sparse_categorical_crossentropy") == numbers["categorical_crossentropy"]
    assert numbers == {name.lower(): number for number, name in enumerate(names)}


def test_no_name_means_two_losses() -> None:
    assert len(LOSSES) == sum(1 + len(loss.aliases) for loss in ALL)


def test_the_oracle_has_every_loss() -> None:
    assert list(ROW_LOSSES) == [loss.name for loss in TABLE]


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: loss.name)
def test_every_name_is_documented(loss: Loss) -> None:
    said = inspect.getdoc(Sequential.compile) or ""
    (row,) = re.findall(r"^\| losses .*$", PAGE.read_text(), re.MULTILINE)
    for name in (loss.name, *loss.aliases):
        assert f'"{name}"' in said
        assert f"`{name}`" in row


@pytest.mark.parametrize("name", sorted(LOSSES.keys() & _METRICS))
def test_a_loss_that_is_a_metric_too_is_the_same_number(name: str) -> None:
    """So that an alias of one loss is none of another."""
    model = Sequential([Dense(2, input_shape=(None, 1))], seed=1)
    model.compile(loss=name, metrics=[name])
    x, y = np.ones((1, 3, 1)), np.arange(6.0).reshape(1, 3, 2)
    loss, metric = model.evaluate(x, y)  # type: ignore[misc]
    assert loss == pytest.approx(metric, rel=1e-7)


def score_of(loss: Loss, outputs: Any, targets: Any) -> tuple[float, Any]:
    """The engine's loss of one row of outputs, and its gradient by them."""
    width = len(outputs)
    network = Network([dense(0, width)], width)
    network.write(np.concatenate([np.eye(width).ravel(), np.zeros(width)]))
    labelled = loss.targets is TargetKind.LABELS
    truth = Targets(labels=[np.argmax(targets)]) if labelled else Targets(values=[targets])
    score = network.gradient(Ragged([outputs], [0, 1]), truth, loss.name)
    return float(score[0]), network.read("gradients")[-width:]  # of the biases: the row's own


@each_loss
def test_values_and_gradients_by_the_oracle(loss: Loss) -> None:
    random = np.random.default_rng(1)
    for width in (1, 2, 5):
        for size in (0.1, 1.0, 3.0):
            if loss.targets is TargetKind.NUMBERS:
                outputs, targets = random.normal(size=(2, width), scale=size).astype(np.float32)
            else:
                outputs = random.uniform(0.01, 0.99, width).astype(np.float32)
                targets = np.eye(width)[random.integers(width)]
            value, gradient = score_of(loss, outputs, targets)
            expected = row_losses(loss.name, outputs[np.newaxis].astype(float), targets[np.newaxis].astype(float))
            assert value == pytest.approx(expected[0][0], rel=1e-6, abs=1e-7)
            np.testing.assert_allclose(gradient, expected[1][0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", [loss for loss in TABLE if loss.targets is TargetKind.NUMBERS], ids=lambda x: x.name)
@pytest.mark.parametrize("outputs", [[0.0, -0.0, 2.0], [1e30, -1e30, 1e-45]])
def test_right_numbers_have_neither_loss_nor_gradient(loss: Loss, outputs: list[float]) -> None:
    value, gradient = score_of(loss, np.float32(outputs), np.float32(outputs))
    assert value == 0
    assert not gradient.any()
