"""Chains of layers: which fit together, their weights, their seeds and their summary."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilstm import utils
from bilstm.layers import (
    LSTM,
    Bidirectional,
    ColumnEmbedding,
    Conv1D,
    Dense,
    Dropout,
    Embedding,
    GlobalAttentionPooling1D,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    Input,
    MaxPooling1D,
    Reverse,
    SpatialDropout1D,
)
from bilstm.models import Sequential
from oracles.models import Case, bits, cases, tagger, weight_bits

# --- Laws ------------------------------------------------------------------------------------------------------------


@given(cases(crf=True))
@settings(max_examples=40)
def test_setting_what_was_got_changes_nothing(case: Case) -> None:
    model, other = case.model(), case.model()
    other.set_weights([np.zeros_like(weight) for weight in other.get_weights()])
    assert all(not weight.any() for weight in other.get_weights())
    other.set_weights(model.get_weights())
    assert weight_bits(other) == weight_bits(model)
    assert bits(other.predict_rows(case.data)) == bits(model.predict_rows(case.data))
    assert model.count_params() == sum(weight.size for weight in model.get_weights())
    other.set_tensors(dict(reversed(model.tensors().items())))
    assert weight_bits(other) == weight_bits(model)


@given(st.integers(0, 2**63), st.integers(0, 2**63))
@settings(max_examples=20)
def test_the_seed_decides_the_initial_weights(seed: int, other: int) -> None:
    assert weight_bits(tagger(seed=seed)) == weight_bits(tagger(seed=seed))
    assert (weight_bits(tagger(seed=seed)) == weight_bits(tagger(seed=other))) == (seed == other)


# --- Building --------------------------------------------------------------------------------------------------------


def test_layers_one_by_one_make_the_same_model() -> None:
    layers = lambda: [Dense(4, input_shape=(None, 2)), LSTM(3, return_sequences=True), Dropout(0.5), Dense(1)]  # noqa: E731
    at_once, later = Sequential(layers(), seed=3), Sequential(seed=3)
    for layer in layers():
        later.add(layer)
        assert later.built
    assert weight_bits(later) == weight_bits(at_once)
    assert later.get_config() == at_once.get_config()


def test_adding_keeps_the_weights_there_are() -> None:
    model = tagger()
    ones = [np.ones_like(weight) for weight in model.get_weights()]
    model.set_weights(ones)
    model.add(Dense(5))
    for weight in model.get_weights()[:-2]:
        assert (weight == 1).all()
    assert [weight.shape for weight in model.get_weights()[-2:]] == [(1, 5), (5,)]


@pytest.mark.parametrize(
    "first",
    [
        [Input((None, 2)), LSTM(3)],
        [Input((7, 2)), LSTM(3)],
        [LSTM(3, input_shape=(7, 2))],
        [LSTM(3, input_dim=2)],
        [Bidirectional(LSTM(3, input_shape=(None, 2)))],
        [Dropout(0.5, input_shape=(None, 2)), LSTM(3)],
    ],
)
def test_an_input_shape_builds_the_model(first: list[Any]) -> None:
    model = Sequential(first)
    assert model.built
    assert model.input_features == 2
    assert model.get_weights()[0].shape == (2, 12)
    assert model.predict(np.zeros((1, 3, 2))).shape[0] == 1  # steps are not enforced


def test_data_build_the_model() -> None:
    model = Sequential([LSTM(3), Dense(2)], seed=1)
    assert not model.built
    with pytest.raises(ValueError, match="the model has no weights yet: give the first layer input_shape="):
        model.get_weights()
    with pytest.raises(ValueError, match="the model has no weights yet"):
        model.predict([])  # tells no number of features
    assert model.predict([[[1, 2, 3]]]).shape == (1, 2)
    assert model.input_features == 3
    with pytest.raises(ValueError, match="the network takes 3 features, the sequences have 2"):
        model.predict([[[1, 2]]])


def test_building_by_hand() -> None:
    model = Sequential([LSTM(3)])
    model.build((None, None, 5))
    assert model.get_weights()[0].shape == (5, 12)
    for shape, error in (((None, 0), ValueError), ((None, None), TypeError)):
        with pytest.raises(error, match="build: the number of features must be"):
            Sequential([LSTM(3)]).build(shape)


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ([3], TypeError, "Sequential: a layer of bilstm.layers is needed, not 3"),
        ([LSTM], TypeError, "Sequential: a layer of bilstm.layers is needed, not <class"),
        ([LSTM(2), Input((None, 2))], ValueError, "Sequential: Input must come first"),
        (
            [LSTM(2), LSTM(2)],
            ValueError,
            "Sequential: LSTM needs sequences, but a layer before it returns one row for each: give that layer "
            "return_sequences=True",
        ),
        ([LSTM(2), Dense(2), Bidirectional(LSTM(2))], ValueError, "Sequential: Bidirectional needs sequences, but a"),
        (
            [LSTM(2), Dense(2), GlobalMaxPooling1D()],
            ValueError,
            "Sequential: GlobalMaxPooling1D needs sequences, but a layer before it returns one row for each: give",
        ),
        (
            [GlobalMaxPooling1D(), GlobalAveragePooling1D()],
            ValueError,
            "Sequential: GlobalAveragePooling1D needs sequences, but a layer before it returns one row for each",
        ),
        (
            [GlobalMaxPooling1D(), MaxPooling1D()],
            ValueError,
            "Sequential: MaxPooling1D needs sequences, but a layer before it returns one row for each",
        ),
        (
            [LSTM(2), GlobalAttentionPooling1D(3)],
            ValueError,
            "Sequential: GlobalAttentionPooling1D needs sequences, but a layer before it returns one row for each",
        ),
        (
            [LSTM(2), Conv1D(3, 2, padding="same")],
            ValueError,
            "Sequential: Conv1D needs sequences, but a layer before it returns one row for each: give that layer",
        ),
        (
            [GlobalAttentionPooling1D(3), SpatialDropout1D(0.5)],
            ValueError,
            "Sequential: SpatialDropout1D needs sequences, but a layer before it returns one row for each",
        ),
        ([Reverse()], ValueError, "Reverse must directly follow a recurrent layer with return_sequences=True"),
        ([LSTM(2), Reverse()], ValueError, "Reverse must directly follow a recurrent layer with return_sequences=True"),
        ([Dense(2), Reverse()], ValueError, "Reverse must directly follow a recurrent layer with return_sequences=Tr"),
        (
            [Bidirectional(LSTM(2), merge_mode=None), Dense(2)],
            ValueError,
            "Sequential: no layer can follow Bidirectional(merge_mode=None), which has two outputs",
        ),
        ([Dense(2)] * 1001, ValueError, "Sequential: a model has at most 1,000 layers"),
    ],
)
def test_layers_that_do_not_fit(layers: list[Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        Sequential(layers)
    assert str(caught.value).startswith(message)


def test_a_layer_that_does_not_fit_is_not_added() -> None:
    model = tagger()
    before = weight_bits(model)
    with pytest.raises(ValueError, match="Reverse must directly follow"):
        model.add(Reverse())
    with pytest.raises(ValueError, match="ColumnEmbedding takes 3 features, not 1"):
        model.add(ColumnEmbedding(2, [5], [3]))
    with pytest.raises(ValueError, match="units must be from 1 to 1048576"):
        model.add(Dense(1 << 21))
    assert len(model.layers) == 2
    assert weight_bits(model) == before

    empty = Sequential()
    with pytest.raises(ValueError, match="LSTM would have more than 8,589,934,592 parameters"):
        empty.add(LSTM(1 << 20, input_shape=(None, 2)))
    assert empty.layers == []
    empty.add(Dense(2))
    assert not empty.built


def test_no_layers() -> None:
    with pytest.raises(ValueError, match="the model has no layers yet: add some"):
        Sequential().predict([[1.0]])


def test_the_summary() -> None:
    lines: list[str] = []
    model = Sequential([Embedding(20, 8), Bidirectional(LSTM(3)), Dropout(0.5), Dense(2)], name="small")
    model.summary(print_fn=lines.append)
    assert lines == [
        'Model: "small"',
        "Layer (type)         Output shape     Param #",
        "=============================================",
        "Embedding            (None, None, 8)      160",
        "Bidirectional(LSTM)  (None, 6)            288",
        "Dropout              (None, 6)              0",
        "Dense                (None, 2)             14",
        "=============================================",
        "Total params: 462 (1.8 KiB)",
    ]
    assert model.count_params() == 462


def test_the_summary_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    tagger().summary()
    assert capsys.readouterr().out.startswith('Model: "sequential"\nLayer (type)')


# --- Weights ---------------------------------------------------------------------------------------------------------


def test_weights_are_copies() -> None:
    model = tagger()
    before = weight_bits(model)
    for weight in model.get_weights():
        weight[:] = 7
    assert weight_bits(model) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights[:-1], "set_weights: the model has 8 weight arrays, not 7"),
        (
            lambda weights: [weights[0].T, *weights[1:]],
            "set_weights: layers.0.forward_kernel has shape (2, 12), not (12, 2)",
        ),
        (lambda weights: [*weights[:-1], [np.nan]], "set_weights: layers.1.bias holds NaN or infinity"),
    ],
)
def test_weights_that_do_not_fit_change_nothing(change: Any, message: str) -> None:
    model = tagger()
    before = weight_bits(model)
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        model.set_weights(change(model.get_weights()))
    assert weight_bits(model) == before


def test_names_of_weights_are_unique() -> None:
    assert list(tagger().tensors()) == [
        *(f"layers.0.{d}_{n}" for d in ("forward", "backward") for n in ("kernel", "recurrent_kernel", "bias")),
        "layers.1.kernel",
        "layers.1.bias",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("layers.1.bias"), "weights layers.1.bias are missing"),
        (lambda tensors: tensors.update(extra=np.zeros(1)), "weights extra are unknown"),
    ],
)
def test_named_weights_that_do_not_fit(change: Any, message: str) -> None:
    model = tagger()
    tensors = model.tensors()
    change(tensors)
    with pytest.raises(ValueError, match=message):
        model.set_tensors(tensors)


# --- Seeds -----------------------------------------------------------------------------------------------------------


def test_without_a_seed_models_differ_unless_all_is_seeded() -> None:
    assert weight_bits(tagger(seed=None)) != weight_bits(tagger(seed=None))
    utils.set_random_seed(5)
    first = [weight_bits(tagger(seed=None)) for _ in range(2)]
    utils.set_random_seed(5)
    assert first == [weight_bits(tagger(seed=None)) for _ in range(2)]
    assert first[0] != first[1]


@pytest.mark.parametrize(
    ("seed", "error", "message"),
    [
        (-1, ValueError, "Sequential: seed must be at least 0, not -1"),
        (1.5, TypeError, "Sequential: seed must be a whole number, not 1.5"),
    ],
)
def test_seeds_that_are_none(seed: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        Sequential(seed=seed)
    assert str(caught.value) == message
