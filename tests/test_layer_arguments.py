"""Layers: which of Keras's arguments they take, which they refuse, and settings that are impossible."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from bilstm.engine.plans import GATES
from bilstm.layers import (
    CRF,
    GRU,
    LAYERS,
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
    Masking,
    MaxPooling1D,
    Padding,
    Reverse,
    SimpleRNN,
    SpatialDropout1D,
    TimeDistributed,
    WordEncoder,
    from_json,
    to_json,
)

pytestmark = pytest.mark.fast

# --- Keras's arguments -----------------------------------------------------------------------------------------------

REGULARIZERS = ("kernel_regularizer", "bias_regularizer", "kernel_constraint", "bias_constraint")
ANY: dict[str, tuple[list[Any], list[Any]]] = {  # argument -> values that change nothing, values refused
    "trainable": ([True], [False]),
    "dtype": ([None, "float32"], ["float16", "float64"]),
    "activity_regularizer": ([None], ["l2"]),
}
RECURRENT_ARGUMENTS = {
    "kernel_initializer": (["glorot_uniform"], ["zeros"]),
    "recurrent_initializer": (["orthogonal"], ["glorot_uniform"]),
    "bias_initializer": (["zeros"], ["ones"]),
    "dropout": ([0, 0.0], [0.5]),
    "recurrent_dropout": ([0, 0.0], [0.5]),
    "seed": ([None], [1]),
    "return_state": ([False], [True]),
    "stateful": ([False], [True]),
    "unroll": ([False, True], ["no"]),
    "time_major": ([False], [True]),
    **{name: ([None], ["l2"]) for name in (*REGULARIZERS, "recurrent_regularizer", "recurrent_constraint")},
}
GATED_ARGUMENTS = RECURRENT_ARGUMENTS | {
    "activation": (["tanh"], ["relu", None]),
    "use_cudnn": (["auto", False], [True]),
    "implementation": ([1, 2], [3]),
}
DENSE_ARGUMENTS = {
    "kernel_initializer": (["glorot_uniform"], ["he_normal"]),
    "bias_initializer": (["zeros"], ["ones"]),
    "lora_rank": ([None], [4]),
    **{name: ([None], ["l2"]) for name in REGULARIZERS},
}
EMBEDDING_ARGUMENTS = {
    "embeddings_initializer": (["uniform"], ["zeros"]),
    "embeddings_regularizer": ([None], ["l2"]),
    "embeddings_constraint": ([None], ["max_norm"]),
    "lora_rank": ([None], [4]),
}
POOLING_ARGUMENTS = {
    "data_format": ([None, "channels_last"], ["channels_first"]),
    "keepdims": ([False], [True]),
}
CONVOLUTION_ARGUMENTS = {
    "strides": ([1, (1,)], [2, (3,)]),
    "padding": (["same"], ["valid"]),
    "data_format": ([None, "channels_last"], ["channels_first"]),
    "groups": ([1], [2]),
}
NORMALIZATION_ARGUMENTS: dict[str, tuple[list[Any], list[Any]]] = {
    "axis": ([-1, 2], [1, "features"]),
    "synchronized": ([False], [True]),
    "renorm": ([False], [True]),
    "renorm_clipping": ([None], [{"rmax": 3.0}]),
    "renorm_momentum": ([0.99], [0.5]),
    "virtual_batch_size": ([None], [4]),
    "fused": ([None, True, False], ["no"]),
    **{f"{name}_{kind}": ([None], ["l2"]) for name in ("beta", "gamma") for kind in ("regularizer", "constraint")},
}
MAKERS: dict[str, tuple[Any, dict[str, tuple[list[Any], list[Any]]]]] = {
    "LSTM": (lambda **k: LSTM(2, **k), ANY | GATED_ARGUMENTS),
    "GRU": (lambda **k: GRU(2, **k), ANY | GATED_ARGUMENTS),
    "SimpleRNN": (lambda **k: SimpleRNN(2, **k), ANY | RECURRENT_ARGUMENTS),
    "Dense": (lambda **k: Dense(2, **k), ANY | DENSE_ARGUMENTS),
    "Conv1D": (
        lambda **k: Conv1D(2, 3, **{"padding": "same"} | k),
        ANY | DENSE_ARGUMENTS | CONVOLUTION_ARGUMENTS,
    ),
    "BatchNormalization": (BatchNormalization, ANY | NORMALIZATION_ARGUMENTS),
    "Embedding": (lambda **k: Embedding(3, 2, **k), ANY | EMBEDDING_ARGUMENTS),
    "Dropout": (lambda **k: Dropout(0.5, **k), ANY | {"noise_shape": ([None], [(1, 2)]), "seed": ([None], [1])}),
    "SpatialDropout1D": (lambda **k: SpatialDropout1D(0.5, **k), ANY | {"seed": ([None], [1])}),
    "Bidirectional": (lambda **k: Bidirectional(LSTM(2), **k), ANY | {"weights": ([None], [[1.0]])}),
    "TimeDistributed": (lambda **k: TimeDistributed(Dense(2), **k), ANY),
    "Input": (
        lambda **k: Input((None, 2), **k),
        ANY | {"batch_size": ([None], [3]), "sparse": ([False], [True]), "ragged": ([False], [True])},
    ),
    "Masking": (Masking, ANY),
    "Padding": (lambda **k: Padding(3, **k), ANY),
    "Reverse": (Reverse, ANY),
    "GlobalAveragePooling1D": (GlobalAveragePooling1D, ANY | POOLING_ARGUMENTS),
    "GlobalMaxPooling1D": (GlobalMaxPooling1D, ANY | POOLING_ARGUMENTS),
    "AveragePooling1D": (AveragePooling1D, ANY | {"data_format": ([None, "channels_last"], ["channels_first"])}),
    "MaxPooling1D": (MaxPooling1D, ANY | {"data_format": ([None, "channels_last"], ["channels_first"])}),
    "GlobalAttentionPooling1D": (lambda **k: GlobalAttentionPooling1D(2, **k), ANY),
    "CRF": (lambda **k: CRF(2, **k), ANY),
    "ColumnEmbedding": (lambda **k: ColumnEmbedding(1, [2], [3], **k), ANY),
    "WordEncoder": (lambda **k: WordEncoder([LSTM(2)], **k), ANY),
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
        (lambda: MaxPooling1D(0), ValueError, "MaxPooling1D: pool_size must be at least 1, not 0"),
        (lambda: AveragePooling1D(2, 0), ValueError, "AveragePooling1D: strides must be at least 1, not 0"),
        (
            lambda: MaxPooling1D(padding="causal"),
            ValueError,
            "MaxPooling1D: padding must be one of 'valid', 'same', not 'causal'",
        ),
        (lambda: LSTM(0), ValueError, "LSTM: units must be at least 1, not 0"),
        (lambda: LSTM(2.5), TypeError, "LSTM: units must be a whole number, not 2.5"),
        (lambda: GRU(0), ValueError, "GRU: units must be at least 1, not 0"),
        (lambda: SimpleRNN(2.5), TypeError, "SimpleRNN: units must be a whole number, not 2.5"),
        (
            lambda: SimpleRNN(2, activation="sigmoid"),
            ValueError,
            "SimpleRNN: activation must be one of 'tanh', 'relu', not 'sigmoid'",
        ),
        (
            lambda: LSTM(2, recurrent_activation="relu"),
            ValueError,
            "LSTM: recurrent_activation must be one of 'sigmoid', 'hard_sigmoid', 'hard_sigmoid_keras2', not 'relu'",
        ),
        (
            lambda: GRU(2, recurrent_activation="hard-sigmoid"),
            ValueError,
            "GRU: recurrent_activation must be one of 'sigmoid', 'hard_sigmoid', 'hard_sigmoid_keras2', "
            "not 'hard-sigmoid'; did you mean 'hard_sigmoid'?",
        ),
        (
            lambda: SimpleRNN(2, recurrent_activation="sigmoid"),
            TypeError,
            "SimpleRNN: unexpected argument 'recurrent_activation'",
        ),
        (
            lambda: Bidirectional(LSTM(2), "sum", GRU(3, go_backwards=True)),
            ValueError,
            "Bidirectional: merge_mode='sum' needs layers of as many units, not 2 and 3",
        ),
        (lambda: Dense(1, "tanh", "no"), ValueError, "Dense: use_bias must be one of False, True, not 'no'"),
        (lambda: GRU(1, use_bias=None), ValueError, "GRU: use_bias must be one of False, True, not None"),
        (
            lambda: Conv1D(1, 3, padding="same", use_bias=2),
            ValueError,
            "Conv1D: use_bias must be one of False, True, not 2",
        ),
        (
            lambda: BatchNormalization(momentum=1.5),
            ValueError,
            "BatchNormalization: momentum must be from 0 to 1, not 1.5",
        ),
        (
            lambda: BatchNormalization(momentum="a"),
            ValueError,
            "BatchNormalization: momentum must be a finite number, not 'a'",
        ),
        (lambda: BatchNormalization(epsilon=0), ValueError, "BatchNormalization: epsilon must be above 0, not 0"),
        (
            lambda: BatchNormalization(epsilon=1e-50),
            ValueError,
            "BatchNormalization: epsilon must be above 0, not 1e-50",
        ),
        (
            lambda: BatchNormalization(center="no"),
            ValueError,
            "BatchNormalization: center must be one of False, True, not 'no'",
        ),
        (
            lambda: BatchNormalization(gamma_initializer="normal"),
            ValueError,
            "BatchNormalization: gamma_initializer must be one of 'zeros', 'ones', not 'normal'",
        ),
        (lambda: Dense(-1), ValueError, "Dense: units must be at least 1, not -1"),
        (lambda: CRF(0), ValueError, "CRF: labels must be at least 1, not 0"),
        (lambda: CRF(2, [(0, 2)]), ValueError, "CRF: 2 is not a label: they are 0 to 1"),
        (lambda: CRF(2, [(True, 1)]), ValueError, "CRF: labels are whole numbers from 0 to 1, or None, not True"),
        (
            lambda: CRF(2, [(None, None)]),
            ValueError,
            "CRF: a forbidden transition is a pair of labels, of which one may be None, not (None, None)",
        ),
        (lambda: CRF(2, ["01", "10"]), ValueError, "CRF: forbidden must be 4 rows of 2 digits, 0 or 1"),
        (
            lambda: CRF(2, np.zeros((2, 2))),
            ValueError,
            "CRF: forbidden has shape (2, 2), not (labels + 2, labels) = (4, 2)",
        ),
        (
            lambda: Dense(1, activation="sigmoi"),
            ValueError,
            "Dense: activation must be one of 'linear', 'sigmoid', 'softmax', 'tanh', 'relu', not 'sigmoi'; "
            "did you mean 'sigmoid'?",
        ),
        (
            lambda: Conv1D(64, 5),
            ValueError,
            "Conv1D: padding='valid' is not supported (only 'same' or 'causal'): this default of Keras's shortens "
            "sequences; pass padding='same', or padding='causal', with which no output depends on later steps",
        ),
        (
            lambda: Conv1D(64, 5, 2, "same"),
            ValueError,
            "Conv1D: strides=2 is not supported (only 1): there is an output for each step; to read fewer steps, leave "
            "them out of the data",
        ),
        (
            lambda: Conv1D(64, 5, 1, "same", "channels_first"),
            ValueError,
            "Conv1D: data_format='channels_first' is not supported (only None or 'channels_last'): give sequences as "
            "(steps, features)",
        ),
        (lambda: Conv1D(0, 5, padding="same"), ValueError, "Conv1D: filters must be at least 1, not 0"),
        (lambda: Conv1D(1, 0, padding="same"), ValueError, "Conv1D: kernel_size must be at least 1, not 0"),
        (
            lambda: Conv1D(1, (3, 3), padding="same"),
            TypeError,
            "Conv1D: kernel_size must be a whole number, not (3, 3)",
        ),
        (
            lambda: Conv1D(1, 2, padding="causal", dilation_rate=0),
            ValueError,
            "Conv1D: dilation_rate must be at least 1, not 0",
        ),
        (
            lambda: Conv1D(1, 2, padding="sam"),
            ValueError,
            "Conv1D: padding must be one of 'same', 'causal', not 'sam'; did you mean 'same'?",
        ),
        (
            lambda: Conv1D(1, 2, padding="same", activation="elu"),
            ValueError,
            "Conv1D: activation must be one of 'linear', 'sigmoid', 'softmax', 'tanh', 'relu', not 'elu'; did you mean "
            "'relu'?",
        ),
        (lambda: Dropout(1.0), ValueError, "Dropout: rate must be at least 0 and below 1, not 1.0"),
        (lambda: Dropout("half"), ValueError, "Dropout: rate must be a number, not 'half'"),
        (lambda: SpatialDropout1D(-0.1), ValueError, "SpatialDropout1D: rate must be at least 0 and below 1, not -0.1"),
        (
            lambda: GlobalAttentionPooling1D(0),
            ValueError,
            "GlobalAttentionPooling1D: units must be at least 1, not 0",
        ),
        (lambda: Embedding(0, 2), ValueError, "Embedding: input_dim must be at least 1, not 0"),
        (lambda: Embedding(2, 0), ValueError, "Embedding: output_dim must be at least 1, not 0"),
        (
            lambda: Embedding(2, 2, input_shape=(5, 3)),
            ValueError,
            "Embedding takes one whole number per step, not 3 features",
        ),
        (
            lambda: Embedding(2, 2).output_features(3),
            ValueError,
            "Embedding takes sequences of one whole number per step, not of 3 features",
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
        (lambda: Bidirectional(Dense(2)), "Bidirectional: layer must be an LSTM, GRU or SimpleRNN, not Dense(units=2"),
        (lambda: Bidirectional(None), "Bidirectional: layer must be an LSTM, GRU or SimpleRNN, not None"),
        (
            lambda: Bidirectional(LSTM(2), backward_layer=2),
            "Bidirectional: backward_layer must be an LSTM, GRU or SimpleRNN, not 2",
        ),
        (lambda: TimeDistributed(LSTM(2)), "TimeDistributed: only Dense and Dropout are supported, not LSTM(units=2)"),
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
        ({"class_name": "GRU2", "config": {}}, "unknown layer 'GRU2'"),
        ({"class_name": "GRU", "config": {}}, "GRU: "),
        ({"class_name": "SimpleRNN", "config": {"units": 2, "activation": 1}}, "SimpleRNN: activation must be one of"),
        ({"class_name": ["LSTM"], "config": {}}, "unknown layer ['LSTM']"),
        ({"class_name": "LSTM", "config": {"units": "3"}}, "LSTM: units must be a whole number, not '3'"),
        ({"class_name": "LSTM", "config": {"units": -3}}, "LSTM: units must be at least 1, not -3"),
        ({"class_name": "LSTM", "config": {"units": 3, "self": 1}}, "LSTM: "),
        ({"class_name": "LSTM", "config": {}}, "LSTM: "),
        ({"class_name": "Bidirectional", "config": {}}, "Bidirectional: "),
        ({"class_name": "Bidirectional", "config": {"layer": 5}}, "a layer is described by its class_name and config"),
        (
            {"class_name": "Bidirectional", "config": {"layer": None}},
            "Bidirectional: layer must be an LSTM, GRU or SimpleRNN",
        ),
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


@pytest.mark.parametrize("argument", ["dropout", "recurrent_dropout"])
@pytest.mark.parametrize("cls", [LSTM, GRU, SimpleRNN])
def test_dropout_of_a_recurrent_layer_is_refused_by_what_does_it_here(cls: Any, argument: str) -> None:
    message = rf"^{cls.__name__}: {argument}=0.2 is not supported \(only 0\): .* SpatialDropout1D\(0.2\)"
    with pytest.raises(ValueError, match=message):
        cls(2, **{argument: 0.2})


@pytest.mark.parametrize("argument", ["stateful", "return_state"])
@pytest.mark.parametrize("cls", [LSTM, GRU, SimpleRNN])
def test_states_of_a_recurrent_layer_are_refused_by_what_carries_them_here(cls: Any, argument: str) -> None:
    message = rf"^{cls.__name__}: {argument}=True is not supported \(only False\): .*stream"
    with pytest.raises(ValueError, match=message):
        cls(2, **{argument: True})


@pytest.mark.parametrize("activation", GATES)
@pytest.mark.parametrize("cls", [LSTM, GRU])
def test_activations_of_gates_are_kept_by_plain_data_and_copies(cls: Any, activation: str) -> None:
    layer = Bidirectional(cls(2, recurrent_activation=activation, return_sequences=True))
    again = from_json(to_json(layer))
    assert isinstance(again, Bidirectional)
    for part in (layer.forward, layer.backward, again.forward, again.backward):
        assert part.recurrent_activation == activation
    assert repr(activation) in repr(layer.backward) or activation == "sigmoid"
