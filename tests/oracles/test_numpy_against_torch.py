"""The reference against PyTorch, where that is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from oracles.networks import (
    AVERAGE,
    LARGEST,
    attention,
    bidirectional,
    convolution,
    dense,
    gru,
    inputs,
    lstm,
    network_for,
    simple,
    simple_relu,
)

torch = pytest.importorskip("torch")


def test_forward_and_gradients_equal_pytorch_on_packed_sequences() -> None:
    rng = np.random.default_rng(0)
    layers = [bidirectional(units=4), bidirectional(units=4), dense(3, "softmax")]
    batch = inputs(layers, [3, 1, 6, 2], rng)
    network = network_for(layers, 2, rng)
    weights = [torch.tensor(weight, requires_grad=True) for weight in network.weights]
    names = [f"weight_ih_l{n}{d},weight_hh_l{n}{d},bias_ih_l{n}{d}" for n in (0, 1) for d in ("", "_reverse")]
    state = dict(zip(",".join(names).split(","), [w.T if w.ndim == 2 else w for w in weights[:12]], strict=True))
    state |= {name.replace("ih", "hh"): torch.zeros(16).double() for name in state if name.startswith("bias")}
    reference = torch.nn.LSTM(2, 4, num_layers=2, bidirectional=True, dtype=torch.float64)
    packed = torch.nn.utils.rnn.pack_sequence([torch.tensor(s).double() for s in batch], enforce_sorted=False)
    result = torch.func.functional_call(reference, state, (packed,))[0]
    hidden = torch.cat(torch.nn.utils.rnn.unpack_sequence(result))
    logits = hidden @ weights[12] + weights[13]
    np.testing.assert_allclose(network.forward(batch), logits.softmax(1).detach(), rtol=1e-12)

    labels = np.arange(12) % 4 - 1  # every fourth is unlabelled
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels), ignore_index=-1)
    loss.backward()
    value, gradients = network.gradients(batch, labels, loss="sparse_categorical_crossentropy")
    np.testing.assert_allclose(value, loss.item(), rtol=1e-12)
    for actual, weight in zip(gradients, weights, strict=True):
        np.testing.assert_allclose(actual, weight.grad, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("backwards", [True, False])
def test_states_equal_pytorch(backwards: bool) -> None:
    rng = np.random.default_rng(0)
    layers = [lstm(backwards=backwards)]
    batch = inputs(layers, [5, 5], rng)
    network = network_for(layers, 2, rng)
    h, c = rng.normal(size=(2, 2, 3))
    rows, states = network.forward(batch, states={0: [(h, c)]}, return_states=True)
    reference = torch.nn.LSTM(2, 3, batch_first=True, dtype=torch.float64)
    kernel, recurrent, bias = (torch.tensor(weight) for weight in network.weights)
    reference.load_state_dict(
        {"weight_ih_l0": kernel.T, "weight_hh_l0": recurrent.T, "bias_ih_l0": bias, "bias_hh_l0": torch.zeros(12)}
    )
    steps = torch.tensor(batch.values).double().reshape(2, 5, 2)
    with torch.no_grad():
        expected, final = reference(
            steps.flip(1) if backwards else steps, (torch.tensor(h)[None], torch.tensor(c)[None])
        )
    np.testing.assert_allclose(rows, expected.reshape(10, 3), rtol=1e-12)
    np.testing.assert_allclose(states[0][0], torch.cat(final), rtol=1e-12)


@pytest.mark.parametrize(
    ("cell", "name", "options"),
    [(gru, "GRU", {}), (simple, "RNN", {}), (simple_relu, "RNN", {"nonlinearity": "relu"})],
)
def test_other_cells_equal_pytorch(cell: Any, name: str, options: dict[str, str]) -> None:
    rng = np.random.default_rng(0)
    batch = inputs([cell()], [5, 5], rng)
    network = network_for([cell()], 2, rng)
    h = rng.normal(size=(2, 3))
    rows, states = network.forward(batch, states={0: [(h,)]}, return_states=True)
    kernel, recurrent, bias = (torch.tensor(weight) for weight in network.weights)
    biases = bias if bias.ndim == 2 else torch.stack([bias, torch.zeros_like(bias)])
    if name == "GRU":  # PyTorch's gates are r, z, n
        order = torch.tensor([3, 4, 5, 0, 1, 2, 6, 7, 8])
        kernel, recurrent, biases = kernel[:, order], recurrent[:, order], biases[:, order]
    reference = getattr(torch.nn, name)(2, 3, batch_first=True, dtype=torch.float64, **options)
    weights = {"weight_ih_l0": kernel.T, "weight_hh_l0": recurrent.T, "bias_ih_l0": biases[0], "bias_hh_l0": biases[1]}
    reference.load_state_dict(weights)
    with torch.no_grad():
        expected, final = reference(torch.tensor(batch.values).double().reshape(2, 5, 2), torch.tensor(h)[None])
    np.testing.assert_allclose(rows, expected.reshape(10, 3), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(states[0][0][0], final[0], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("pool", ["average", "maximum"])
def test_pooling_equals_pytorch_with_equal_largest_numbers_too(pool: str) -> None:
    rng = np.random.default_rng(3)
    layers = [dense(4, "linear"), AVERAGE if pool == "average" else LARGEST]
    batch = inputs(layers, [3, 1, 6, 4], rng)
    batch.values[:, 0] = np.round(batch.values[:, 0])
    network = network_for(layers, 2, rng)
    network.weights[0][1, :2] = 0  # two columns of the rows are the same wherever the first number is
    kernel, bias = (torch.tensor(weight, requires_grad=True) for weight in network.weights)
    rows = torch.tensor(batch.values).double() @ kernel + bias
    of_sequences = rows.split(batch.lengths.tolist())
    expected = torch.stack([part.mean(0) if pool == "average" else part.amax(0) for part in of_sequences])
    targets = rng.normal(size=(4, 4))
    torch.nn.functional.mse_loss(expected, torch.tensor(targets)).backward()
    np.testing.assert_allclose(network.forward(batch), expected.detach(), rtol=1e-12)
    _, gradients = network.gradients(batch, targets, loss="mean_squared_error")
    np.testing.assert_allclose(gradients[0], kernel.grad, rtol=1e-9)
    np.testing.assert_allclose(gradients[1], bias.grad, rtol=1e-9)


def test_attention_pooling_equals_pytorch() -> None:
    rng = np.random.default_rng(4)
    layers = [dense(4, "tanh"), attention(5)]
    batch = inputs(layers, [3, 1, 6, 4], rng)
    network = network_for(layers, 2, rng)
    kernel, bias, *weights = (torch.tensor(weight, requires_grad=True) for weight in network.weights)
    rows = torch.tanh(torch.tensor(batch.values).double() @ kernel + bias)
    scores = torch.tanh(rows @ weights[0] + weights[1]) @ weights[2]
    parts = zip(rows.split(batch.lengths.tolist()), scores.split(batch.lengths.tolist()), strict=True)
    expected = torch.stack([part.softmax(0) @ x for x, part in parts])
    targets = rng.normal(size=(4, 4))
    torch.nn.functional.mse_loss(expected, torch.tensor(targets)).backward()
    np.testing.assert_allclose(network.forward(batch), expected.detach(), rtol=1e-12)
    _, gradients = network.gradients(batch, targets, loss="mean_squared_error")
    for actual, weight in zip(gradients, (kernel, bias, *weights), strict=True):
        np.testing.assert_allclose(actual, weight.grad, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("dilation", [1, 3])
@pytest.mark.parametrize("padding", ["same", "causal"])
def test_convolution_of_each_sequence_equals_pytorch(padding: str, dilation: int, size: int) -> None:
    rng = np.random.default_rng(5)
    layers = [convolution(4, size, padding, dilation=dilation)]
    batch = inputs(layers, [3, 1, 6, 4], rng)
    network = network_for(layers, 2, rng)
    kernel, bias = (torch.tensor(weight, requires_grad=True) for weight in network.weights)
    columns = torch.tensor(batch.values).double()
    others = (size - 1) * dilation
    before = others if padding == "causal" else others // 2
    convolved = []
    for rows in columns.split(batch.lengths.tolist()):
        padded = torch.nn.functional.pad(rows.T[None], (before, others - before))
        convolved.append(torch.nn.functional.conv1d(padded, kernel.permute(2, 1, 0), bias, dilation=dilation)[0].T)
    expected = torch.tanh(torch.cat(convolved))
    targets = rng.normal(size=(14, 4))
    torch.nn.functional.mse_loss(expected, torch.tensor(targets)).backward()
    np.testing.assert_allclose(network.forward(batch), expected.detach(), rtol=1e-12)
    _, gradients = network.gradients(batch, targets, loss="mean_squared_error")
    for actual, weight in zip(gradients, (kernel, bias), strict=True):
        np.testing.assert_allclose(actual, weight.grad, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("loss", ["binary_crossentropy", "categorical_crossentropy", "mean_squared_error"])
def test_losses_equal_pytorch(loss: str) -> None:
    functions = torch.nn.functional
    activation, function = {
        "binary_crossentropy": ("sigmoid", functions.binary_cross_entropy_with_logits),
        "categorical_crossentropy": ("softmax", functions.cross_entropy),
        "mean_squared_error": ("linear", functions.mse_loss),
    }[loss]
    rng = np.random.default_rng(0)
    batch = inputs([dense()], [3, 1, 5], rng)
    network = network_for([dense(3, activation)], 2, rng)
    targets = rng.dirichlet([1, 1, 1], size=9)
    kernel, bias = (torch.tensor(weight, requires_grad=True) for weight in network.weights)
    expected = function(torch.tensor(batch.values).double() @ kernel + bias, torch.tensor(targets))
    expected.backward()
    value, gradients = network.gradients(batch, targets, loss=loss)
    np.testing.assert_allclose(value, expected.item(), rtol=1e-12)
    np.testing.assert_allclose(gradients[0], kernel.grad, rtol=1e-10)
    np.testing.assert_allclose(gradients[1], bias.grad, rtol=1e-10)
