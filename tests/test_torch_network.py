"""Networks as modules of PyTorch's, and back: the same answers, the same training."""

from __future__ import annotations

import copy
import functools
import io
import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.utils.rnn import pack_sequence, unpack_sequence  # noqa: E402

from bilstm import SequenceTagger, layers, optimizers  # noqa: E402
from bilstm.models import Sequential  # noqa: E402
from bilstm.ragged import Ragged  # noqa: E402
from bilstm.torch import from_torch, to_torch  # noqa: E402
from oracles.models import Case, bits, cases, numbers  # noqa: E402

Tensor = Any


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
    module = functools.partial(module, words=data.words)
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


def test_learned_parameters_are_the_networks() -> None:
    """PyTorch's second bias is not learned, except a GRU's, which Keras has, too."""
    for cell, frozen in ((layers.LSTM, 1), (layers.SimpleRNN, 1), (layers.GRU, 0)):
        model = Sequential([cell(4, input_shape=(None, 3))], seed=1)
        module = to_torch(model)
        assert sum(each.numel() for each in module.parameters() if each.requires_grad) == model.count_params()
        assert sum(not each.requires_grad for each in module.parameters()) == frozen


def test_embeddings_that_are_not_learned_and_unknown_categories() -> None:
    layer = layers.ColumnEmbedding(1, [5, 4], [2, 3], frozen=[True, False], unknown_rate=[0.0, 0.5])
    model = Sequential([layer], seed=1)
    model.build((None, 3))
    module = to_torch(model)
    assert [table.weight.requires_grad for table in module.layers[0].tables] == [False, True]
    x = torch.tensor([[[0.5, 3, 2]] * 200])
    first, unknown = (module.layers[0].tables[1].weight[i] for i in (2, 0))
    found = module.train()(x)[0, :, 3:]
    of_each = [int((found == row).all(1).sum()) for row in (first, unknown)]
    assert sum(of_each) == 200
    assert min(of_each) > 60
    assert (module.eval()(x)[0, :, 3:] == first).all()


def test_dropout_drops_in_training() -> None:
    model = Sequential([layers.SpatialDropout1D(0.5), layers.Dropout(0.5)], seed=1)
    model.build((None, 200))
    module, x = to_torch(model).train(), torch.ones(3, 4, 200)
    found = module(x)
    assert set(found.unique().tolist()) == {0.0, 4.0}
    assert abs(float(found.mean()) - 1) < 0.3
    columns = module.layers[0](torch.ones(12, 200), np.array([0, 4, 8, 12]))[0].view(3, 4, 200)
    assert torch.equal(columns, columns[:, :1].expand_as(columns))
    assert torch.equal(module.eval()(x), x)


# --- Trained models and estimators ------------------------------------------------------------------------------------


def tables() -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    X = [random.normal(size=(n, 2)).astype(np.float32) for n in random.integers(3, 9, 30)]
    return X, [np.where(steps[:, 0] > 0, "up", "down") for steps in X]


@pytest.fixture(scope="module", params=["softmax", "crf"])
def tagger(request: pytest.FixtureRequest) -> Any:
    options: dict[str, Any] = {"epochs": 2, "units": 4, "validation_split": 0.3, "random_state": 1}
    return SequenceTagger(output=request.param, **options).fit(*tables())


def test_trained_models_and_estimators_come_back(tagger: Any) -> None:
    X, _ = tables()
    model = tagger.model_
    for source in (tagger, model, model.network):
        module = to_torch(source).eval()
        encoded = model.read(X).values
        close(module(encoded).detach(), np.concatenate(model.predict_proba(X)))
    with torch.no_grad():
        for weights in module.parameters():
            weights.mul_(1.5)
    changed = from_torch(module, like=tagger)
    assert type(changed) is SequenceTagger
    expected = module(encoded).detach()
    close(np.concatenate(changed.predict_proba(X)), expected)
    close(np.concatenate(from_torch(module, like=model).predict_proba(X)), expected)
    assert np.abs(np.concatenate(tagger.predict_proba(X)) - expected.numpy()).max() > 1e-3  # it has its own still
    assert "calibration" not in changed.model_.training
    same = from_torch(to_torch(tagger), like=tagger)
    assert same.model_.training == tagger.model_.training
    assert bits(np.concatenate(same.predict_proba(X))) == bits(np.concatenate(tagger.predict_proba(X)))


def test_fine_tuned_and_back(tagger: Any) -> None:
    X, y = tables()
    encoded = tagger.model_.read(X).values
    labels = torch.from_numpy(np.searchsorted(tagger.classes_, np.concatenate(y)))
    module = to_torch(tagger).train()
    optimizer = torch.optim.Adam([each for each in module.parameters() if each.requires_grad], 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        logits = module(encoded, logits=True)
        if tagger.output == "crf":
            packed = [
                nn.utils.rnn.pad_sequence(each.split(encoded.lengths.tolist()), True) for each in (logits, labels)
            ]
            mask = torch.arange(packed[0].shape[1]) < torch.from_numpy(encoded.lengths).unsqueeze(1)
            loss = -module.layers[-1].crf(*packed, mask, "token_mean")
        else:
            loss = nn.functional.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
    assert from_torch(module, like=tagger).score(X, y) > max(0.95, tagger.score(X, y))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # PyTorch's, between graphs
def test_as_a_module() -> None:
    model = Sequential(
        [layers.Bidirectional(layers.LSTM(4, return_sequences=True), "ave"), layers.Dense(3), layers.CRF(3)], seed=1
    )
    model.build((None, 2))
    module, x = to_torch(model).eval(), torch.randn(3, 5, 2)
    expected = module(x)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    others = copy.deepcopy(module), pickle.loads(pickle.dumps(module)), torch.load(file, weights_only=False)
    for other in (*others, torch.compile(module, backend="eager")):
        assert torch.equal(other(x), expected)
    other = to_torch(Sequential.from_config(model.get_config()))
    assert not torch.equal(other(x), expected)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(x), expected)
    with torch.autocast("cpu", torch.bfloat16):
        close(module(x).float().detach(), expected.detach(), 0.05)
    assert module.bfloat16()(x.bfloat16()).dtype == torch.bfloat16
    assert from_torch(module).built


def simple(*stack: layers.Layer, features: int = 2) -> Sequential:
    model = Sequential(stack or [layers.Dense(3, "softmax")], seed=1)
    model.build((None, features))
    return model


REFUSED: list[tuple[Any, str]] = [
    (lambda: to_torch(3), "a Sequential, a TrainedModel or a fitted estimator is needed, not 3"),
    (lambda: to_torch(SequenceTagger()), "a fitted estimator is needed"),
    (lambda: to_torch(Sequential([layers.Dense(3)])), "the model has no weights yet"),
    (
        lambda: to_torch(simple(layers.LSTM(3, recurrent_activation="hard_sigmoid"))),
        "gates have no recurrent_activation",
    ),
    (lambda: to_torch(simple(layers.GRU(3, reset_after=False))), "reset_after=True"),
    (lambda: to_torch(simple())(torch.zeros(2, 3, 4)), "the network takes 2 features, the sequences have 4"),
    (lambda: to_torch(simple())(torch.zeros(2, 3, 2), lengths=[4, 1]), "lengths must be from 1 to 3"),
    (lambda: to_torch(simple())([torch.zeros(3, 2)], lengths=[3]), "a list has its own lengths"),
    (lambda: to_torch(simple())([]), "at least one"),
    (lambda: to_torch(simple())([torch.zeros(0, 2)]), "each must have a step"),
    (lambda: to_torch(simple())(None), "a Tensor or a PackedSequence is needed, not NoneType"),
    (lambda: to_torch(simple(layers.LSTM(3)))(torch.zeros(2, 3, 2), logits=True), "neither Dense nor a CRF"),
    (
        lambda: to_torch(simple(layers.Masking(), layers.LSTM(3)))(torch.zeros(1, 3, 2)),
        "sequence 0 has only masked steps",
    ),
    (lambda: to_torch(simple(layers.MaxPooling1D(4), layers.LSTM(3)))(torch.zeros(1, 3, 2)), "too short for pooling"),
    (lambda: to_torch(simple(layers.Padding(9), layers.LSTM(3))), "Padding.* it is not supported"),
    (lambda: to_torch(spelling())(torch.zeros(2, 3, 1)), "give sequences as a Ragged that has them, or give words"),
    (
        lambda: to_torch(spelling())(torch.full((2, 3, 1), 9), words=Ragged(np.zeros((4, 1)), [0, 1, 4])),
        "to word 9, but",
    ),
    (lambda: from_torch(nn.LSTM(2, 3)), "for other taggers there is from_state_dict"),
    (lambda: from_torch(to_torch(simple()), like=3), "like must be a TrainedModel or a fitted estimator"),
    (lambda: from_torch(broken()), "holds NaN or infinity"),
]


def spelling() -> Sequential:
    return simple(layers.WordEncoder([layers.Embedding(5, 3), layers.LSTM(2)]), layers.Dense(2), features=1)


def broken() -> Any:
    module = to_torch(simple())
    with torch.no_grad():
        module.layers[0].weight[0, 0] = torch.nan
    return module


@pytest.mark.fast
@pytest.mark.parametrize(("do", "message"), REFUSED)
def test_what_is_refused(do: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        do()


def test_another_network_is_refused(tagger: Any) -> None:
    with pytest.raises(ValueError, match="like has another network than the module"):
        from_torch(to_torch(simple()), like=tagger)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # PyTorch's, between graphs
def test_compiled_again_and_again() -> None:
    """After some times PyTorch gives up, and looks into what the functions call that it was not to look into."""
    for units in range(1, 13):
        module = to_torch(
            simple(layers.Bidirectional(layers.LSTM(units, return_sequences=True)), layers.CRF(2 * units))
        )
        x = torch.randn(2, 3, 2)
        assert torch.equal(torch.compile(module, backend="eager")(x, lengths=[3, 1]), module(x, lengths=[3, 1]))


def test_transforms_of_functions() -> None:
    recurrent = layers.Bidirectional(layers.LSTM(3, return_sequences=True), "sum")
    module, x = to_torch(simple(recurrent, layers.CRF(3))), torch.randn(2, 4, 2)
    crf, tags = module.layers[-1].crf, torch.tensor([[0, 1, 2, 2], [1, 1, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])

    def loss(weights: dict[str, Tensor]) -> Tensor:
        scores = torch.func.functional_call(module, weights, (x,), {"logits": True, "lengths": [4, 2]})
        own = {name.removeprefix("layers.1.crf."): each for name, each in weights.items() if "crf" in name}
        return torch.func.functional_call(crf, own, (scores, tags, mask))

    weights = dict(module.named_parameters())
    found = torch.func.grad(loss)(weights)
    learned = {name: each for name, each in weights.items() if each.requires_grad}
    for name, expected in zip(learned, torch.autograd.grad(loss(weights), list(learned.values())), strict=True):
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-5)
