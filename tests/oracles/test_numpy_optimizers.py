"""The reference's optimizers, checked against closed forms and, where it is installed, PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from oracles.numpy_engine import SGD, Adam


@pytest.mark.parametrize("epsilon", [1e-7, 0.1])
@pytest.mark.parametrize("learning_rate", [0.001, 0.5])
def test_adam_under_a_constant_gradient_moves_as_its_closed_form(learning_rate: float, epsilon: float) -> None:
    """m = (1 - beta_1^t) g and v = (1 - beta_2^t) g², and Keras adds epsilon before the bias correction."""
    adam = Adam(learning_rate=learning_rate, epsilon=epsilon)
    g = np.array([0.3, -2.0, 1e-3])
    weights = [np.zeros(3)]
    expected = np.zeros(3)
    for t in range(1, 30):
        root = np.sqrt(1 - 0.999**t)
        expected -= learning_rate * root * g / (root * np.abs(g) + epsilon)
        weights = adam.update(weights, [g])
        np.testing.assert_allclose(weights[0], expected, rtol=1e-10)


@pytest.mark.parametrize("kind", [Adam, SGD])
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_clipping(kind: type[Adam] | type[SGD], factor: float) -> None:
    gradients = [np.array([3.0, 0.0, 4.0]) * factor, np.array([[-12.0]]) * factor]

    def clipped(**options: float) -> list[list[float]]:
        return [g.ravel().tolist() for g in kind(**options).clip(gradients)]  # type: ignore[arg-type]

    unclipped = clipped()
    assert unclipped == [[3 * factor, 0, 4 * factor], [-12 * factor]]
    np.testing.assert_allclose(np.hypot.reduce(np.hstack(clipped(global_clipnorm=13.0))), min(13 * factor, 13))
    assert clipped(clipnorm=5.0) == ([[3, 0, 4], [-5]] if factor > 1 else [[1.5, 0, 2], [-5]])
    assert clipped(clipvalue=2.0) == ([[2, 0, 2], [-2]] if factor > 1 else [[1.5, 0, 2], [-2]])
    assert clipped(clipvalue=100.0) == unclipped
    with pytest.raises(ValueError, match="only one of"):
        kind(clipnorm=1.0, clipvalue=1.0)


@pytest.mark.parametrize(
    ("name", "options", "ours"),
    [
        # PyTorch adds epsilon after the bias correction and Keras before, so the comparison needs one of no weight.
        ("Adam", {"lr": 0.01, "eps": 1e-30}, Adam(learning_rate=0.01, epsilon=1e-30)),
        ("Adam", {"betas": (0.8, 0.9), "eps": 0}, Adam(beta_1=0.8, beta_2=0.9, epsilon=0)),
        ("AdamW", {"lr": 0.1, "weight_decay": 0.3, "eps": 0}, Adam(learning_rate=0.1, weight_decay=0.3, epsilon=0)),
        ("SGD", {"lr": 0.1}, SGD(learning_rate=0.1)),
        # Without momentum it is all one whether weights decay by themselves or by their gradients.
        ("SGD", {"lr": 0.1, "weight_decay": 0.3}, SGD(learning_rate=0.1, weight_decay=0.3)),
        ("SGD", {"lr": 0.1, "momentum": 0.9}, SGD(learning_rate=0.1, momentum=0.9)),
        ("SGD", {"lr": 0.1, "momentum": 0.7, "nesterov": True}, SGD(learning_rate=0.1, momentum=0.7, nesterov=True)),
    ],
)
def test_optimizers_equal_pytorch(name: str, options: dict[str, Any], ours: Adam | SGD) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(2, 3)), rng.normal(size=4)]
    parameters = [torch.tensor(weight, requires_grad=True) for weight in weights]
    optimizer = getattr(torch.optim, name)(parameters, **options)
    for _ in range(20):
        gradients = [rng.normal(size=weight.shape) for weight in weights]
        weights = ours.update(weights, gradients)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = torch.tensor(gradient)
        optimizer.step()
        for weight, parameter in zip(weights, parameters, strict=True):
            np.testing.assert_allclose(weight, parameter.detach(), rtol=1e-10)
