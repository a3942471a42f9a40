"""Live against Keras 3: BatchNormalization over the steps that are not masked, its moving averages, and `fit`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import bilstm.layers
import bilstm.models
from bilstm.layers import BatchNormalization
from bilstm.ragged import offsets_of
from oracles.test_keras import (
    OUTPUT_TOLERANCE,
    Twins,
    assert_same_history,
    draw,
    draw_shapes,
    keras,
    normalized,
    normalized_rows,
    padded,
    predict,
    true_steps,
    values_of,
)

pytestmark = pytest.mark.filterwarnings("ignore:::keras", "ignore:::torch")

Layers = Any
SETTINGS: list[dict[str, Any]] = [
    {},
    {"momentum": 0.5, "epsilon": 0.1},
    {"momentum": 0.0},
    {"momentum": 1.0},
    {"center": False},
    {"scale": False},
    {"center": False, "scale": False},
]
each = pytest.mark.parametrize("settings", SETTINGS, ids=str)
STARTS = {
    "beta_initializer": "ones",
    "gamma_initializer": "zeros",
    "moving_mean_initializer": "ones",
    "moving_variance_initializer": "zeros",
}


@pytest.mark.parametrize("seed", range(3))
@each
def test_outputs_by_moving_averages(settings: dict[str, Any], seed: int) -> None:
    _, X, units = draw_shapes(seed)

    def network(layers: Layers) -> Sequence[Any]:
        recurrent = layers.Bidirectional(layers.LSTM(units, return_sequences=True))
        return [layers.BatchNormalization(**settings), recurrent, layers.BatchNormalization(**settings)]

    twins = Twins.of(network, X.features, seed)
    expected = true_steps(predict(twins.theirs, padded(X)), X.lengths)
    np.testing.assert_allclose(values_of(twins.ours.predict(X, verbose=0)), expected, rtol=0, atol=OUTPUT_TOLERANCE)


@each
def test_a_training_step_of_masked_sequences(settings: dict[str, Any]) -> None:
    """Gradients, which a step of plain descent by a rate of 1 takes away, and moving averages."""

    def network(layers: Layers) -> Sequence[Any]:
        return [layers.Dense(4, "tanh"), layers.BatchNormalization(**settings), layers.Dense(2)]

    generator = np.random.default_rng(3)
    X = draw(generator, np.array([3, 1, 7, 2, 7]), 3)
    y = X.with_values(generator.normal(size=(X.total_steps, 2)))
    twins = Twins.of(network, 3, 1)
    twins.compile("mean_squared_error", "sgd", learning_rate=1.0)
    before = twins.ours.get_weights()
    ours = twins.ours.train_on_batch(X, y)
    assert ours == pytest.approx(float(twins.theirs.train_on_batch(padded(X), padded(y, 0))), rel=1e-5)
    moved = 0
    for weights, mine, theirs in zip(before, twins.ours.get_weights(), twins.theirs.get_weights(), strict=True):
        moved += bool(np.abs(weights - theirs).max() > 1e-3)
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5)
    assert moved == len(before) - 2 * (settings.get("momentum") == 1.0)


@pytest.mark.parametrize("network", [normalized, normalized_rows])
def test_fit_validates_by_moving_averages(network: Any) -> None:
    generator = np.random.default_rng(4)
    X = generator.normal(2, 3, (24, 5, 3)).astype(np.float32)
    y = generator.integers(0, 2, (24, 5, 2)) if network is normalized else generator.integers(0, 3, 24)
    loss = "binary_crossentropy" if network is normalized else "sparse_categorical_crossentropy"
    twins = Twins.of(network, 3, seed=9, masking=False, scale=0.3)
    twins.compile(loss, learning_rate=0.01)
    options: dict[str, Any] = {"epochs": 4, "batch_size": 8, "shuffle": False, "verbose": 0, "validation_split": 0.25}
    histories = [model.fit(X, y, **options).history for model in (twins.ours, twins.theirs)]
    assert_same_history(*histories, names={"loss", "val_loss"})
    scores = [model.evaluate(X, y, verbose=0) for model in (twins.ours, twins.theirs)]
    np.testing.assert_allclose(*scores, rtol=1e-4)


@pytest.mark.parametrize("settings", [{}, STARTS], ids=["by default", "others"])
def test_weights_begin_as_in_keras(settings: dict[str, Any]) -> None:
    ours, theirs = (
        made([layers.Input((None, 3)), layers.BatchNormalization(**settings)])
        for made, layers in ((bilstm.models.Sequential, bilstm.layers), (keras.Sequential, keras.layers))
    )
    for mine, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)
    config = ours.layers[0].get_config()
    assert {name: value for name, value in config.items() if name.endswith("_initializer")} == {
        name: getattr(BatchNormalization(**settings), name) for name in STARTS
    }


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_columns_far_from_zero(offset: float) -> None:
    """Means and variances are summed in float64: a large mean takes no digits from the variance."""
    lengths = np.array([40, 1, 600, 3])
    values = np.random.default_rng(5).normal(offset, 1, (lengths.sum(), 2)).astype(np.float32)
    model = bilstm.models.Sequential([BatchNormalization(momentum=0.0, input_shape=(None, 2))])
    model.compile("sgd", "mse")
    model.train_on_batch(bilstm.Ragged(values, offsets_of(lengths)), np.zeros_like(values))
    _, _, mean, variance = model.get_weights()
    np.testing.assert_allclose(mean, values.mean(axis=0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(variance, values.var(axis=0, dtype=np.float64), rtol=1e-6)
