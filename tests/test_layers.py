"""Layers: what they need, how they start, what they refuse, and that plain data describes them wholly."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilstm.engine.library import LayerStruct
from bilstm.engine.plans import ACTIVATIONS
from bilstm.layers import (
    CRF,
    GRU,
    LSTM,
    AveragePooling1D,
    BatchNormalization,
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
    Layer,
    Masking,
    MaxPooling1D,
    Padding,
    Recurrent,
    Reverse,
    SimpleRNN,
    SpatialDropout1D,
    TimeDistributed,
    WordEncoder,
    from_json,
    to_json,
)
from bilstm.layers.initializers import glorot_uniform, orthogonal, uniform
from bilstm.models import Sequential, load_model

pytestmark = pytest.mark.fast

MERGE_MODES = ("concat", "sum", "mul", "ave", None)
UNITS = st.integers(1, 20)
OPTIONS: dict[str, Any] = {
    "return_sequences": st.booleans(),
    "go_backwards": st.booleans(),
    "name": st.none() | st.just("reader"),
}
RECURRENT = st.one_of(
    st.builds(LSTM, UNITS, unit_forget_bias=st.booleans(), **OPTIONS),
    st.builds(GRU, UNITS, reset_after=st.booleans(), **OPTIONS),
    st.builds(SimpleRNN, UNITS, st.sampled_from(["tanh", "relu"]), **OPTIONS),
)


@st.composite
def bidirectionals(draw: st.DrawFn) -> Bidirectional:
    layer = draw(RECURRENT)
    merge_mode = draw(st.sampled_from(MERGE_MODES))
    if draw(st.booleans()):
        return Bidirectional(layer, merge_mode)
    units = draw(UNITS) if merge_mode in ("concat", None) else layer.units
    cls = draw(st.sampled_from([LSTM, GRU, SimpleRNN]))
    backward = cls(units, return_sequences=layer.return_sequences, go_backwards=not layer.go_backwards)
    return Bidirectional(layer, merge_mode=merge_mode, backward_layer=backward)


DENSES = st.builds(Dense, UNITS, activation=st.sampled_from(["linear", "sigmoid", "softmax", "tanh", "relu", None]))
DROPOUTS = st.builds(Dropout, st.floats(0, 0.99))
LAYER = st.one_of(
    RECURRENT,
    bidirectionals(),
    DENSES,
    DROPOUTS,
    st.builds(TimeDistributed, DENSES | DROPOUTS),
    st.builds(Embedding, UNITS, UNITS, mask_zero=st.booleans()),
    st.builds(Masking, st.floats(-9, 9)),
    st.builds(Padding, UNITS, st.sampled_from(["post", "pre"]), st.floats(-9, 9)),
    st.integers(1, 3).flatmap(
        lambda n: st.builds(
            ColumnEmbedding,
            st.integers(0, 3),
            *(st.lists(UNITS, min_size=n, max_size=n) for _ in range(2)),
            frozen=st.none() | st.lists(st.booleans(), min_size=n, max_size=n),
            unknown_rate=st.none() | st.lists(st.floats(0, 0.875, width=32), min_size=n, max_size=n),
        )
    ),
    st.builds(
        WordEncoder,
        st.tuples(DENSES, st.builds(GRU, UNITS) | st.builds(GlobalMaxPooling1D)),
        features=UNITS,
    ),
    st.builds(Input, st.tuples(st.none() | UNITS, UNITS)),
    st.builds(Reverse),
    st.builds(GlobalAveragePooling1D),
    st.builds(GlobalMaxPooling1D),
    st.builds(MaxPooling1D, UNITS, st.none() | UNITS, st.sampled_from(["valid", "same"])),
    st.builds(AveragePooling1D, UNITS, st.none() | UNITS, st.sampled_from(["valid", "same"])),
    st.builds(GlobalAttentionPooling1D, UNITS),
    st.builds(SpatialDropout1D, st.floats(0, 0.99)),
    st.builds(
        BatchNormalization,
        momentum=st.floats(0, 1),
        epsilon=st.floats(1e-9, 1.0),
        center=st.booleans(),
        scale=st.booleans(),
        gamma_initializer=st.sampled_from(["zeros", "ones"]),
    ),
    st.builds(
        Conv1D,
        UNITS,
        UNITS,
        padding=st.sampled_from(["same", "causal"]),
        dilation_rate=UNITS,
        activation=st.sampled_from([None, *ACTIVATIONS]),
    ),
    st.builds(CRF, st.just(3), st.none() | st.sets(st.tuples(st.integers(0, 2), st.none() | st.integers(0, 2)))),
)


def described(struct: LayerStruct | None) -> Any:
    """All that the engine is told of a layer."""
    if struct is None:
        return None
    plain = {name: getattr(struct, name) for name, *_ in struct._fields_}
    plain["ways"] = [(way.units, way.reverse, way.flip) for way in struct.ways]
    lengths = dict.fromkeys(("vocabularies", "dimensions", "frozen", "index_dropout"), struct.tables)
    lengths["forbidden"] = struct.units * (struct.units + 2)
    plain |= {name: plain[name][:length] if plain[name] else None for name, length in lengths.items()}
    return plain | {"encoder": [described(layer) for layer in struct.encoder[: struct.encoder_layers]]}


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
    assert again.weight_specs(features) == layer.weight_specs(features)
    assert described(again.plan(4, features)) == described(layer.plan(4, features))
    assert again.output_features(features) == layer.output_features(features)
    assert again.returns_rows_per_step() == layer.returns_rows_per_step()


@given(LAYER, st.integers(0, 2**32))
def test_initial_weights_have_the_shapes_announced(layer: Layer, seed: int) -> None:
    features = features_for(layer)
    specs = layer.weight_specs(features)
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
        (GRU(100).initial_weights(100, np.random.default_rng(3))[0], np.sqrt(6 / 400)),
        (SimpleRNN(200).initial_weights(100, np.random.default_rng(3))[0], np.sqrt(6 / 300)),
        (Embedding(100, 200).initial_weights(1, np.random.default_rng(4))[0], 0.05),
    ],
)
def test_uniform_numbers_fill_their_range_evenly(values: Any, limit: float) -> None:
    counts, _ = np.histogram(values, bins=10, range=(-limit, limit))
    assert counts.sum() == values.size  # none is outside
    np.testing.assert_allclose(counts, values.size / 10, rtol=0.12)  # five standard deviations


def test_embeddings_of_a_table_are_as_large_as_standardised_numbers() -> None:
    values = ColumnEmbedding(1, [100, 50], [200, 400]).initial_weights(2, np.random.default_rng(5))
    assert [table.shape for table in values] == [(100, 200), (50, 400)]
    for table in values:
        assert table.dtype == np.float32
        assert abs(table.mean()) < 0.05  # seven standard deviations
        assert abs(table.std() - 1) < 0.03
        assert abs((np.abs(table) < 1).mean() - 0.6827) < 0.02


def test_orthogonal_matrices_favour_no_sign() -> None:
    random = np.random.default_rng(6)
    corners = [orthogonal((3, 5), random)[0, 0] for _ in range(400)]
    assert abs(np.mean(np.sign(corners))) < 0.25


@pytest.mark.parametrize("unit_forget_bias", [True, False])
def test_only_the_forget_gate_starts_with_a_bias(unit_forget_bias: bool) -> None:
    bias = LSTM(3, unit_forget_bias=unit_forget_bias).initial_weights(2, np.random.default_rng(1))[2]
    forget = [1.0] * 3 if unit_forget_bias else [0.0] * 3
    assert bias.tolist() == [0.0] * 3 + forget + [0.0] * 6


@pytest.mark.parametrize("layer", [GRU(3), GRU(3, reset_after=False), SimpleRNN(3), SimpleRNN(3, "relu")], ids=repr)
def test_other_recurrent_layers_start_without_bias(layer: Recurrent) -> None:
    *kernels, bias = layer.initial_weights(2, np.random.default_rng(1))
    assert not bias.any()
    assert [array.shape for array in (*kernels, bias)] == [spec.shape for spec in layer.weight_specs(2)]


@pytest.mark.parametrize("cls", [LSTM, GRU, SimpleRNN])
def test_a_recurrent_kernel_is_orthogonal(cls: Any) -> None:
    kernel = cls(7).initial_weights(2, np.random.default_rng(1))[1].astype(np.float64)
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
        (GRU(5), 3, {"kernel": (3, 15), "recurrent_kernel": (5, 15), "bias": (2, 15)}, 5),
        (GRU(5, reset_after=False), 3, {"kernel": (3, 15), "recurrent_kernel": (5, 15), "bias": (15,)}, 5),
        (SimpleRNN(5), 3, {"kernel": (3, 5), "recurrent_kernel": (5, 5), "bias": (5,)}, 5),
        (Dense(5), 3, {"kernel": (3, 5), "bias": (5,)}, 5),
        (Conv1D(5, 2, padding="same"), 3, {"kernel": (2, 3, 5), "bias": (5,)}, 5),
        (
            BatchNormalization(),
            3,
            {"gamma": (3,), "beta": (3,), "moving_mean": (3,), "moving_variance": (3,)},
            3,
        ),
        (BatchNormalization(center=False), 3, {"gamma": (3,), "moving_mean": (3,), "moving_variance": (3,)}, 3),
        (BatchNormalization(scale=False), 3, {"beta": (3,), "moving_mean": (3,), "moving_variance": (3,)}, 3),
        (TimeDistributed(Dense(5)), 3, {"kernel": (3, 5), "bias": (5,)}, 5),
        (TimeDistributed(Dropout(0.5)), 3, {}, 3),
        (Dropout(0.5), 3, {}, 3),
        (Reverse(), 3, {}, 3),
        (GlobalAveragePooling1D(), 3, {}, 3),
        (GlobalMaxPooling1D(), 3, {}, 3),
        (MaxPooling1D(), 3, {}, 3),
        (AveragePooling1D(3, 2), 3, {}, 3),
        (GlobalAttentionPooling1D(5), 3, {"kernel": (3, 5), "bias": (5,), "query": (5,)}, 3),
        (SpatialDropout1D(0.5), 3, {}, 3),
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
    assert {spec.name: spec.shape for spec in layer.weight_specs(features)} == weights
    assert [spec.name for spec in layer.weight_specs(features)] == list(weights)
    assert layer.output_features(features) == outputs


@pytest.mark.parametrize(("merge_mode", "outputs"), [*zip(MERGE_MODES, (10, 5, 5, 5, 10), strict=True)])
def test_bidirectional_weights_are_forwards_then_backwards(merge_mode: str | None, outputs: int) -> None:
    layer = Bidirectional(LSTM(5), merge_mode)
    assert [(spec.name, spec.shape) for spec in layer.weight_specs(3)] == [
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
        assert [spec.shape for spec in layer.weight_specs(3)][3:] == [(3, 8), (2, 8), (8,)]


def test_merging_by_concatenation_is_the_default() -> None:
    assert Bidirectional(LSTM(5)).merge_mode == "concat"


def test_the_backward_layer_is_made_like_the_forward_one() -> None:
    layer = Bidirectional(LSTM(5, return_sequences=True, unit_forget_bias=False))
    assert layer.backward.get_config() == layer.layer.get_config() | {"go_backwards": True}
    assert layer.backward_layer is None
    backwards_first = Bidirectional(LSTM(5, go_backwards=True))
    assert not backwards_first.backward.go_backwards
    for forward in (GRU(5, reset_after=False), SimpleRNN(5, "relu")):
        both = Bidirectional(forward)
        assert type(both.backward) is type(forward)
        assert both.backward.get_config() == forward.get_config() | {"go_backwards": True}


def test_directions_may_be_of_different_cells() -> None:
    layer = Bidirectional(LSTM(5), "sum", backward_layer=GRU(5, go_backwards=True))
    assert layer.output_features(3) == 5
    assert [spec.shape for spec in layer.weight_specs(3)][3:] == [(3, 15), (5, 15), (2, 15)]


@pytest.mark.parametrize(
    ("make", "shapes"),
    [
        (lambda use_bias: Dense(2, use_bias=use_bias), [(3, 2)]),
        (lambda use_bias: TimeDistributed(Dense(2, "tanh", use_bias)), [(3, 2)]),
        (lambda use_bias: Conv1D(2, 4, padding="same", use_bias=use_bias), [(4, 3, 2)]),
        (lambda use_bias: LSTM(2, use_bias=use_bias), [(3, 8), (2, 8)]),
        (lambda use_bias: GRU(2, use_bias=use_bias), [(3, 6), (2, 6)]),
        (lambda use_bias: GRU(2, use_bias=use_bias, reset_after=False), [(3, 6), (2, 6)]),
        (lambda use_bias: SimpleRNN(2, use_bias=use_bias), [(3, 2), (2, 2)]),
        (lambda use_bias: Bidirectional(LSTM(2, use_bias=use_bias)), [(3, 8), (2, 8)] * 2),
    ],
)
def test_layers_without_biases_have_no_arrays_for_them(make: Any, shapes: list[Any], tmp_path: Path) -> None:
    layer = make(use_bias=False)
    again = from_json(to_json(layer))
    for made in (layer, again):
        assert [spec.shape for spec in made.weight_specs(3)] == shapes
        assert not any("bias" in spec.name for spec in made.weight_specs(3))
    assert repr(layer) == repr(again)
    assert len(make(use_bias=True).weight_specs(3)) > len(shapes)

    model = Sequential([layer, Dense(1)], seed=1)
    model.build((None, 3))
    assert [weight.shape for weight in layer.get_weights()] == shapes
    assert layer.count_params() == sum(math.prod(shape) for shape in shapes)
    assert model.network is not None
    assert model.count_params() == model.network.parameter_count == sum(each.size for each in model.get_weights())
    random = np.random.default_rng(1)
    layer.set_weights([random.normal(size=shape) for shape in shapes])
    model.save(tmp_path / "model")
    x = random.normal(size=(2, 5, 3))
    np.testing.assert_array_equal(load_model(tmp_path / "model").predict(x), model.predict(x))


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
