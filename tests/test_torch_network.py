"""Networks as modules of PyTorch's, and back: the same answers, the same training."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.utils.rnn import pack_sequence, unpack_sequence  # noqa: E402

from bilstm import layers, optimizers  # noqa: E402
from bilstm.models import Sequential  # noqa: E402
from bilstm.ragged import Ragged  # noqa: E402
from bilstm.torch import from_torch, to_torch  # noqa: E402
from oracles.models import Case, bits, cases, numbers  # noqa: E402

Tensor = Any


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """PyTorch's threads wait busily, which takes most of the time of small tests where processors are few."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def refusal(case: Case) -> str | None:
    """Why PyTorch cannot compute the network, if it cannot."""
    described = json.dumps(case.layers)
    if "hard_sigmoid" in described:
        return "PyTorch's gates have no recurrent_activation 'hard_sigmoid|reset_after=True"
    return "reset gate after the recurrent product: reset_after=True" if '"reset_after": false' in described else None


def close(found: Any, expected: Any, tolerance: float = 2e-5) -> None:
    expected = np.asarray(expected)
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=tolerance * scale)


def randomized(model: Sequential, seed: int = 0) -> Sequential:
    """With weights that are not zero, such as biases, moving averages and transitions are at first."""
    random = np.random.default_rng(seed)
    specs = [spec for own in model._specs for spec in own]
    shifts = [random.normal(0, 0.3, spec.shape) for spec in specs]
    model.set_weights(
        [
            weights + shift if spec.negative else weights + np.abs(shift)
            for weights, shift, spec in zip(model.get_weights(), shifts, specs, strict=True)
        ]
    )
    return model


# --- The same answers -------------------------------------------------------------------------------------------------


@given(cases(crf=True), st.sampled_from(["ragged", "list", "lengths", "mask", "packed", "nested"]))
@settings(max_examples=60)
def test_a_network_gives_the_same_as_a_module_and_comes_back(case: Case, form: str) -> None:
    model = randomized(case.model())
    if why := refusal(case):
        with pytest.raises(ValueError, match=why):
            to_torch(model)
        return
    module = to_torch(model).eval()
    expected = model.predict(case.data)
    expected = expected.values if isinstance(expected, Ragged) else expected
    with torch.no_grad():
        close(by_rows(module, case.data, form, case.one_row_each), expected)
        close(module.double()(case.data), expected)
    again = from_torch(module)
    close(again.predict(case.data).values if not case.one_row_each else again.predict(case.data), expected)
    assert again.get_config() == model.get_config()
    for own, other in zip(again.get_weights(), model.get_weights(), strict=True):
        assert bits(own) == bits(other)


def by_rows(module: Any, data: Ragged, form: str, one_row_each: bool) -> Any:
    """What the module gives for a form of the data: (rows, outputs)."""
    own = [torch.from_numpy(each.copy()) for each in data]
    if form == "ragged":
        return module(data)
    if form == "list":
        found = module(own)
    elif form == "packed":
        found = module(pack_sequence(own, enforce_sorted=False))
        found = found if one_row_each else unpack_sequence(found)
    elif form == "nested":
        found = module(torch.nested.as_nested_tensor(own, layout=torch.jagged))
        found = found if one_row_each else found.unbind()
    else:
        padded = nn.utils.rnn.pad_sequence(own, batch_first=True, padding_value=1)
        mask = torch.arange(padded.shape[1]) < torch.tensor(data.lengths).unsqueeze(1)
        found = module(padded, data.lengths) if form == "lengths" else module(padded, mask=mask)
        if not one_row_each:
            assert not found[~mask].any()
            found = found[mask]
    return found if isinstance(found, torch.Tensor) else torch.cat(list(found))


LAYERS: list[list[layers.Layer]] = [
    [layers.Masking(2.0), layers.LSTM(4, return_sequences=True)],
    [layers.Masking(2.0), layers.GlobalMaxPooling1D()],
    [layers.Bidirectional(layers.GRU(4, return_sequences=True), merge_mode=None)],
    [layers.Bidirectional(layers.LSTM(4), merge_mode=None)],
    [layers.Bidirectional(layers.LSTM(4, return_sequences=True, go_backwards=True)), layers.Dense(2)],
    [layers.Bidirectional(layers.LSTM(4, return_sequences=True, go_backwards=True), "sum"), layers.Reverse()],
    [layers.SimpleRNN(4, activation="relu", return_sequences=True), layers.SimpleRNN(3, go_backwards=True)],
    [layers.MaxPooling1D(3, strides=2), layers.GRU(3, use_bias=False)],
    [layers.AveragePooling1D(2), layers.MaxPooling1D(2, padding="same"), layers.GlobalAttentionPooling1D(3)],
    [layers.BatchNormalization(center=False), layers.BatchNormalization(scale=False), layers.GlobalAveragePooling1D()],
    [layers.TimeDistributed(layers.Dropout(0.5)), layers.SpatialDropout1D(0.5), layers.Dense(3, "softmax")],
]


@pytest.mark.parametrize("stack", LAYERS, ids=lambda stack: "-".join(type(layer).__name__ for layer in stack))
def test_layers_that_are_rare(stack: list[layers.Layer]) -> None:
    model = Sequential(copy.deepcopy(stack), seed=1)
    model.build((None, 2))
    if model.count_params():
        randomized(model)
    x = numbers(3, 9, 2)
    x[0, [0, 4]] = 2.0
    found, expected = to_torch(model).eval()(torch.from_numpy(x)), model.predict(x)
    for own, other in zip(*(each if model.splits else [each] for each in (found, expected)), strict=True):
        close(own.detach(), other)


def test_sequences_of_one_feature() -> None:
    model = Sequential([layers.Embedding(5, 3, mask_zero=True, input_shape=(None,)), layers.LSTM(2)], seed=1)
    x = np.array([[1, 2, 0, 0], [3, 0, 4, 0]])
    module, expected = to_torch(model), model.predict(x)
    close(module(torch.from_numpy(x)).detach(), expected)
    close(module(torch.from_numpy(x).unsqueeze(2)).detach(), expected)
    own = [torch.from_numpy(each) for each in x]
    for given_ in (own, pack_sequence(own), torch.nested.as_nested_tensor(own, layout=torch.jagged)):
        close(module(given_).detach(), expected)


# --- The same training ------------------------------------------------------------------------------------------------


@given(cases(dropout=False, crf=True), st.sampled_from(["float32", "float64"]))
@settings(max_examples=60)
def test_a_training_step_is_the_same(case: Case, dtype: str) -> None:
    if refusal(case):
        return
    crf = case.loss == "crf_likelihood"
    model = case.model(optimizers.SGD(0.5))
    module = to_torch(model).to(getattr(torch, dtype)).train()
    optimizer = torch.optim.SGD([each for each in module.parameters() if each.requires_grad], 0.5)
    if crf:
        loss = minus_log_likelihood(module, case.data)
        y: Any = np.zeros(case.data.total_steps, np.int32)
    else:
        outputs = module(case.data)
        y = np.random.default_rng(case.seed).random(outputs.shape, np.float32)
        loss = (outputs - torch.from_numpy(y)).square().mean()
        model.compile(optimizers.SGD(0.5), "mse")
    loss.backward()
    optimizer.step()
    model.train_on_batch(case.data, y if case.one_row_each else np.split(y, case.data.offsets[1:-1]))
    for own, other in zip(from_torch(module).get_weights(), model.get_weights(), strict=True):
        close(own, other, 1e-4)


def minus_log_likelihood(module: Any, data: Ragged) -> Tensor:
    """A CRF's loss where all labels are 0, a mean over steps."""
    parts = module(data, logits=True).split(data.lengths.tolist())
    crf = module.layers[-1].crf
    return -sum(crf(part.unsqueeze(0), torch.zeros(1, len(part), dtype=torch.long)) for part in parts) / len(
        data.values
    )
