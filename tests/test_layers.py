"""Layers: what they need, how they start, what they refuse, and that plain data describes them wholly."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilstm.initializers import glorot_uniform, orthogonal, uniform
from bilstm.layers import (
    LAYERS,
    LSTM,
    Bidirectional,
    ColumnEmbedding,
    Dense,
    Dropout,
    Embedding,
    Input,
    Layer,
    Reverse,
    TimeDistributed,
    from_json,
    to_json,
)

MERGE_MODES = ("concat", "sum", "mul", "ave", None)
UNITS = st.integers(1, 20)
LSTMS = st.builds(
    LSTM,
    UNITS,
    return_sequences=st.booleans(),
    go_backwards=st.booleans(),
    unit_forget_bias=st.booleans(),
    name=st.none() | st.just("lstm"),
)


@st.composite
def bidirectionals(draw: st.DrawFn) -> Bidirectional:
    layer = draw(LSTMS)
    merge_mode = draw(st.sampled_from(MERGE_MODES))
    if draw(st.booleans()):
        return Bidirectional(layer, merge_mode)
    units = draw(UNITS) if merge_mode in ("concat", None) else layer.units
    backward = LSTM(units, return_sequences=layer.return_sequences, go_backwards=not layer.go_backwards)
    return Bidirectional(layer, merge_mode=merge_mode, backward_layer=backward)


DENSES = st.builds(Dense, UNITS, activation=st.sampled_from(["linear", "sigmoid", "softmax", "tanh", "relu", None]))
DROPOUTS = st.builds(Dropout, st.floats(0, 0.99))
LAYER = st.one_of(
    LSTMS,
    bidirectionals(),
    DENSES,
    DROPOUTS,
    st.builds(TimeDistributed, DENSES | DROPOUTS),
    st.builds(Embedding, UNITS, UNITS),
    st.integers(1, 3).flatmap(
        lambda n: st.builds(
            ColumnEmbedding, st.integers(0, 3), *(st.lists(UNITS, min_size=n, max_size=n) for _ in range(2))
        )
    ),
    st.builds(Input, st.tuples(st.none() | UNITS, UNITS)),
    st.builds(Reverse),
)


def features_for(layer: Layer) -> int:
    return layer.input_features or 3


# --- Laws ------------------------------------------------------------------------------------------------------------


@given(LAYER)
def test_plain_data_describes_a_layer_wholly(layer: Layer) -> None:
    data = to_json(layer)
    again = from_json(json.loads(json.dumps(data)))
    assert type(again) is type(layer)
    assert to_json(again) == data
    features = features_for(layer)
    assert again.weights(features) == layer.weights(features)
    assert again.plan(4, features) == layer.plan(4, features)
    assert again.output_features(features) == layer.output_features(features)
    assert again.returns_rows_per_step() == layer.returns_rows_per_step()


@given(LAYER, st.integers(0, 2**32))
def test_initial_weights_have_the_shapes_announced(layer: Layer, seed: int) -> None:
    features = features_for(layer)
    specs = layer.weights(features)
    weights = layer.initial_weights(features, np.random.default_rng(seed))
    assert [weight.shape for weight in weights] == [spec.shape for spec in specs]
    assert all(weight.dtype == np.float32 and weight.flags.c_contiguous for weight in weights)
    assert len({spec.name for spec in specs}) == len(specs)
    again = layer.initial_weights(features, np.random.default_rng(seed))
    assert all(np.array_equal(a, b) for a, b in zip(weights, again, strict=True))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32))
def test_orthogonal_means_orthonormal(rows: int, columns: int, seed: int) -> None:
    matrix = orthogonal((rows, columns), np.random.default_rng(seed)).astype(np.float64)
    short = matrix if rows <= columns else matrix.T
    np.testing.assert_allclose(short @ short.T, np.eye(len(short)), atol=1e-5)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32))
def test_glorot_stays_within_its_limit(rows: int, columns: int, seed: int) -> None:
    matrix = glorot_uniform((rows, columns), np.random.default_rng(seed))
    assert np.abs(matrix).max() <= np.float32(np.sqrt(6 / (rows + columns)))


# --- Initial weights -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "limit"),
    [
        (glorot_uniform((100, 200), np.random.default_rng(1)), np.sqrt(6 / 300)),
        (uniform((100, 200), np.random.default_rng(1)), 0.05),
        (Dense(200).initial_weights(100, np.random.default_rng(2))[0], np.sqrt(6 / 300)),
        (LSTM(50).initial_weights(100, np.random.default_rng(3))[0], np.sqrt(6 / 300)),
        (Embedding(100, 200).initial_weights(1, np.random.default_rng(4))[0], 0.05),
        (ColumnEmbedding(1, [100], [200]).initial_weights(2, np.random.default_rng(5))[0], 0.05),
    ],
)
def test_uniform_numbers_fill_their_range_evenly(values: Any, limit: float) -> None:
    counts, _ = np.histogram(values, bins=10, range=(-limit, limit))
    assert counts.sum() == values.size  # none is outside
    np.testing.assert_allclose(counts, values.size / 10, rtol=0.12)  # five standard deviations


def test_orthogonal_matrices_favour_no_sign() -> None:
    random = np.random.default_rng(6)
    corners = [orthogonal((3, 5), random)[0, 0] for _ in range(400)]
    assert abs(np.mean(np.sign(corners))) < 0.25


@pytest.mark.parametrize("unit_forget_bias", [True, False])
def test_only_the_forget_gate_starts_with_a_bias(unit_forget_bias: bool) -> None:
    bias = LSTM(3, unit_forget_bias=unit_forget_bias).initial_weights(2, np.random.default_rng(1))[2]
    forget = [1.0] * 3 if unit_forget_bias else [0.0] * 3
    assert bias.tolist() == [0.0] * 3 + forget + [0.0] * 6


def test_an_lstms_recurrent_kernel_is_orthogonal() -> None:
    kernel = LSTM(7).initial_weights(2, np.random.default_rng(1))[1].astype(np.float64)
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(7), atol=1e-6)


def test_both_directions_start_with_weights_of_their_own() -> None:
    weights = Bidirectional(LSTM(4)).initial_weights(2, np.random.default_rng(1))
    assert not np.array_equal(weights[0], weights[3])
    assert not np.array_equal(weights[1], weights[4])


# --- Weights and outputs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "features", "weights", "outputs"),
    [
        (LSTM(5), 3, {"kernel": (3, 20), "recurrent_kernel": (5, 20), "bias": (20,)}, 5),
        (Dense(5), 3, {"kernel": (3, 5), "bias": (5,)}, 5),
        (TimeDistributed(Dense(5)), 3, {"kernel": (3, 5), "bias": (5,)}, 5),
        (TimeDistributed(Dropout(0.5)), 3, {}, 3),
        (Dropout(0.5), 3, {}, 3),
        (Reverse(), 3, {}, 3),
        (Input((None, 3)), 3, {}, 3),
        (Embedding(7, 5), 1, {"embeddings": (7, 5)}, 5),
        (ColumnEmbedding(2, [7, 8], [5, 6]), 4, {"embeddings_0": (7, 5), "embeddings_1": (8, 6)}, 13),
        (ColumnEmbedding(0, [7], [5]), 1, {"embeddings_0": (7, 5)}, 5),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Layer) else "",
)
def test_names_and_shapes_in_kerass_order(
    layer: Layer, features: int, weights: dict[str, tuple[int, ...]], outputs: int
) -> None:
    assert {spec.name: spec.shape for spec in layer.weights(features)} == weights
    assert [spec.name for spec in layer.weights(features)] == list(weights)
    assert layer.output_features(features) == outputs


@pytest.mark.parametrize(("merge_mode", "outputs"), [*zip(MERGE_MODES, (10, 5, 5, 5, 10), strict=True)])
def test_bidirectional_weights_are_forwards_then_backwards(merge_mode: str | None, outputs: int) -> None:
    layer = Bidirectional(LSTM(5), merge_mode)
    assert [(spec.name, spec.shape) for spec in layer.weights(3)] == [
        ("forward_kernel", (3, 20)),
        ("forward_recurrent_kernel", (5, 20)),
        ("forward_bias", (20,)),
        ("backward_kernel", (3, 20)),
        ("backward_recurrent_kernel", (5, 20)),
        ("backward_bias", (20,)),
    ]
    assert layer.output_features(3) == outputs


def test_directions_may_have_different_units_where_they_are_not_mixed() -> None:
    for merge_mode in ("concat", None):
        layer = Bidirectional(LSTM(5), merge_mode, backward_layer=LSTM(2, go_backwards=True))
        assert layer.output_features(3) == 7
        assert [spec.shape for spec in layer.weights(3)][3:] == [(3, 8), (2, 8), (8,)]


def test_merging_by_concatenation_is_the_default() -> None:
    assert Bidirectional(LSTM(5)).merge_mode == "concat"


def test_the_backward_layer_is_made_like_the_forward_one() -> None:
    layer = Bidirectional(LSTM(5, return_sequences=True, unit_forget_bias=False))
    assert layer.backward.get_config() == layer.layer.get_config() | {"go_backwards": True}
    assert layer.backward_layer is None
    backwards_first = Bidirectional(LSTM(5, go_backwards=True))
    assert not backwards_first.backward.go_backwards


# --- The input's shape -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keywords",
    [
        {"input_shape": (10, 3)},
        {"input_shape": (None, 3)},
        {"input_shape": [10, 3]},
        {"input_shape": (3,)},
        {"batch_input_shape": (32, 10, 3)},
        {"batch_shape": (None, None, 3)},
        {"input_dim": 3},
        {"input_dim": 3, "input_length": 10},
    ],
    ids=str,
)
@pytest.mark.parametrize("make", [lambda **k: LSTM(2, **k), lambda **k: Dense(2, **k), lambda **k: Dropout(0.5, **k)])
def test_the_input_is_described_in_any_of_kerass_ways(make: Any, keywords: dict[str, Any]) -> None:
    assert make(**keywords).input_features == 3


def test_a_wrapper_takes_the_input_shape_or_finds_it_inside() -> None:
    assert Bidirectional(LSTM(2), input_shape=(10, 3)).input_features == 3
    assert Bidirectional(LSTM(2, input_shape=(10, 3))).input_features == 3
    assert TimeDistributed(Dense(2), input_shape=(10, 3)).input_features == 3
    assert TimeDistributed(Dense(2, input_dim=3)).input_features == 3
    assert LSTM(2).input_features is None


def test_steps_of_one_number_need_no_second_dimension() -> None:
    assert Input((None,)).input_features == 1
    assert Embedding(5, 2).input_features == 1
    assert Embedding(5, 2, input_length=10).input_features == 1
    for shape in ((10,), (None,), (10, 1), (None, 1)):
        assert Embedding(5, 2, input_shape=shape).input_features == 1


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((), "LSTM: input_shape must be (steps, features), not ()"),
        ((1, 2, 3), "LSTM: input_shape must be (steps, features), not (1, 2, 3)"),
        ((10, None), "LSTM: input_shape must be (steps, features), not (10, None)"),
        ((10, 0), "LSTM: the number of features must be at least 1, not 0"),
    ],
)
def test_impossible_input_shapes(shape: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        LSTM(2, input_shape=shape)


# --- Keras's arguments -----------------------------------------------------------------------------------------------

REGULARIZERS = ("kernel_regularizer", "bias_regularizer", "kernel_constraint", "bias_constraint")
ANY: dict[str, tuple[list[Any], list[Any]]] = {  # argument -> values that change nothing, values refused
    "trainable": ([True], [False]),
    "dtype": ([None, "float32"], ["float16", "float64"]),
    "activity_regularizer": ([None], ["l2"]),
}
LSTM_ARGUMENTS = {
    "activation": (["tanh"], ["relu", None]),
    "recurrent_activation": (["sigmoid"], ["hard_sigmoid"]),
    "use_bias": ([True], [False]),
    "kernel_initializer": (["glorot_uniform"], ["zeros"]),
    "recurrent_initializer": (["orthogonal"], ["glorot_uniform"]),
    "bias_initializer": (["zeros"], ["ones"]),
    "dropout": ([0, 0.0], [0.5]),
    "recurrent_dropout": ([0, 0.0], [0.5]),
    "seed": ([None], [1]),
    "return_state": ([False], [True]),
    "stateful": ([False], [True]),
    "unroll": ([False, True], ["no"]),
    "use_cudnn": (["auto", False], [True]),
    "implementation": ([1, 2], [3]),
    **{name: ([None], ["l2"]) for name in (*REGULARIZERS, "recurrent_regularizer", "recurrent_constraint")},
}
DENSE_ARGUMENTS = {
    "use_bias": ([True], [False]),
    "kernel_initializer": (["glorot_uniform"], ["he_normal"]),
    "bias_initializer": (["zeros"], ["ones"]),
    "lora_rank": ([None], [4]),
    **{name: ([None], ["l2"]) for name in REGULARIZERS},
}
EMBEDDING_ARGUMENTS = {
    "embeddings_initializer": (["uniform"], ["zeros"]),
    "embeddings_regularizer": ([None], ["l2"]),
    "embeddings_constraint": ([None], ["max_norm"]),
    "mask_zero": ([False], [True]),
    "lora_rank": ([None], [4]),
}
MAKERS: dict[str, tuple[Any, dict[str, tuple[list[Any], list[Any]]]]] = {
    "LSTM": (lambda **k: LSTM(2, **k), ANY | LSTM_ARGUMENTS),
    "Dense": (lambda **k: Dense(2, **k), ANY | DENSE_ARGUMENTS),
    "Embedding": (lambda **k: Embedding(3, 2, **k), ANY | EMBEDDING_ARGUMENTS),
    "Dropout": (lambda **k: Dropout(0.5, **k), ANY | {"noise_shape": ([None], [(1, 2)]), "seed": ([None], [1])}),
    "Bidirectional": (lambda **k: Bidirectional(LSTM(2), **k), ANY | {"weights": ([None], [[1.0]])}),
    "TimeDistributed": (lambda **k: TimeDistributed(Dense(2), **k), ANY),
    "Input": (
        lambda **k: Input((None, 2), **k),
        ANY | {"batch_size": ([None], [3]), "sparse": ([False], [True]), "ragged": ([False], [True])},
    ),
    "Reverse": (Reverse, ANY),
    "ColumnEmbedding": (lambda **k: ColumnEmbedding(1, [2], [3], **k), ANY),
}
CASES = [(owner, argument) for owner, (_, arguments) in MAKERS.items() for argument in arguments]


@pytest.mark.parametrize(("owner", "argument"), CASES)
def test_kerass_arguments_are_accepted_or_refused_by_name(owner: str, argument: str) -> None:
    make, arguments = MAKERS[owner]
    accepted, refused = arguments[argument]
    plain = to_json(make())
    for value in accepted:
        assert to_json(make(**{argument: value})) == plain
    for value in refused:
        with pytest.raises(ValueError, match="^" + re.escape(f"{owner}: {argument}={value!r} is not supported (only ")):
            make(**{argument: value})


@pytest.mark.parametrize("owner", MAKERS)
def test_no_argument_of_kerass(owner: str) -> None:
    with pytest.raises(TypeError, match=f"{owner}: unexpected argument 'unit'"):
        MAKERS[owner][0](unit=3)


def test_every_layer_is_tested_here() -> None:
    assert set(MAKERS) == set(LAYERS)


# --- Arguments of our own --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LSTM(0), ValueError, "LSTM: units must be at least 1, not 0"),
        (lambda: LSTM(2.5), TypeError, "LSTM: units must be a whole number, not 2.5"),
        (lambda: Dense(-1), ValueError, "Dense: units must be at least 1, not -1"),
        (
            lambda: Dense(1, activation="sigmoi"),
            ValueError,
            "Dense: activation must be one of 'linear', 'sigmoid', 'softmax', 'tanh', 'relu', not 'sigmoi'; "
            "did you mean 'sigmoid'?",
        ),
        (lambda: Dropout(1.0), ValueError, "Dropout: rate must be at least 0 and below 1, not 1.0"),
        (lambda: Dropout("half"), ValueError, "Dropout: rate must be a number, not 'half'"),
        (lambda: Embedding(0, 2), ValueError, "Embedding: input_dim must be at least 1, not 0"),
        (lambda: Embedding(2, 0), ValueError, "Embedding: output_dim must be at least 1, not 0"),
        (
            lambda: Embedding(2, 2, input_shape=(5, 3)),
            ValueError,
            "Embedding takes one whole number a step, not 3 features",
        ),
        (
            lambda: Embedding(2, 2).output_features(3),
            ValueError,
            "Embedding takes sequences of one whole number a step, not of 3 features",
        ),
        (
            lambda: ColumnEmbedding(1, [2], [3]).output_features(3),
            ValueError,
            "ColumnEmbedding takes 2 features, not 3",
        ),
        (
            lambda: ColumnEmbedding(1, [2, 3], [4]),
            ValueError,
            "ColumnEmbedding: vocabularies and dimensions must be lists of one length, at least 1",
        ),
        (
            lambda: ColumnEmbedding(1, [], []),
            ValueError,
            "ColumnEmbedding: vocabularies and dimensions must be lists of one length, at least 1",
        ),
        (
            lambda: ColumnEmbedding(-1, [2], [4]),
            ValueError,
            "ColumnEmbedding: numeric must be at least 0, not -1",
        ),
        (
            lambda: ColumnEmbedding(1, [0], [4]),
            ValueError,
            "ColumnEmbedding: vocabularies must be at least 1, not 0",
        ),
        (
            lambda: Bidirectional(LSTM(2), merge_mode="average"),
            ValueError,
            "Bidirectional: merge_mode must be one of 'concat', 'sum', 'mul', 'ave', None, not 'average'; "
            "did you mean 'ave'?",
        ),
        (
            lambda: Bidirectional(LSTM(2), backward_layer=LSTM(2)),
            ValueError,
            "Bidirectional: backward_layer must have go_backwards opposite to the forward layer's",
        ),
        (
            lambda: Bidirectional(LSTM(2), backward_layer=LSTM(2, go_backwards=True, return_sequences=True)),
            ValueError,
            "Bidirectional: both layers must have the same return_sequences",
        ),
        (
            lambda: Bidirectional(LSTM(2), "sum", LSTM(3, go_backwards=True)),
            ValueError,
            "Bidirectional: merge_mode='sum' needs layers of as many units, not 2 and 3",
        ),
    ],
)
def test_impossible_settings(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bidirectional(Dense(2)), "Bidirectional: layer must be an LSTM, not <"),
        (lambda: Bidirectional(None), "Bidirectional: layer must be an LSTM, not None"),
        (lambda: Bidirectional(LSTM(2), backward_layer=2), "Bidirectional: backward_layer must be an LSTM, not 2"),
        (lambda: TimeDistributed(LSTM(2)), "TimeDistributed: only Dense and Dropout are supported, not <"),
        (lambda: TimeDistributed(3), "TimeDistributed: only Dense and Dropout are supported, not 3"),
    ],
)
def test_wrappers_of_what_they_cannot_wrap(make: Any, message: str) -> None:
    with pytest.raises(TypeError, match="^" + re.escape(message)):
        make()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "a layer is described by its class_name and config, not by None"),
        ({"class_name": "LSTM"}, "a layer is described by its class_name and config, not by {'class_name': 'LSTM'}"),
        ({"class_name": "GRU", "config": {}}, "unknown layer 'GRU'"),
        ({"class_name": ["LSTM"], "config": {}}, "unknown layer ['LSTM']"),
        ({"class_name": "LSTM", "config": {"units": "3"}}, "LSTM: units must be a whole number, not '3'"),
        ({"class_name": "LSTM", "config": {"units": -3}}, "LSTM: units must be at least 1, not -3"),
        ({"class_name": "LSTM", "config": {"units": 3, "self": 1}}, "LSTM: "),
        ({"class_name": "LSTM", "config": {}}, "LSTM: "),
        ({"class_name": "Bidirectional", "config": {}}, "Bidirectional: "),
        ({"class_name": "Bidirectional", "config": {"layer": 5}}, "a layer is described by its class_name and config"),
        ({"class_name": "Bidirectional", "config": {"layer": None}}, "Bidirectional: layer must be an LSTM"),
        ({"class_name": "TimeDistributed", "config": {}}, "TimeDistributed: 'layer' is missing"),
        ({"class_name": "ColumnEmbedding", "config": {"numeric": 1, "vocabularies": 5, "dimensions": [1]}}, "ColumnE"),
        (
            {"class_name": "ColumnEmbedding", "config": {"numeric": 1, "vocabularies": "12", "dimensions": "3"}},
            "Column",
        ),
        ({"class_name": "Dropout", "config": {"rate": "nan"}}, "Dropout: rate must be at least 0 and below 1"),
        ({"class_name": "Input", "config": {"shape": 3}}, "Input: "),
    ],
)
def test_data_that_describe_no_layer(data: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        from_json(data)
