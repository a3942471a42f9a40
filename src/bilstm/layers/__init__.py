"""What a network is made of, by Keras's names: shapes, initial weights, and the order of weights.

Weights are stored in the model's engine, where the layers of a built model read and set theirs. A model asks each
layer for its weights' shapes and initial values, and for the plan by which the engine runs it.
"""

from __future__ import annotations

from typing import NoReturn

from bilstm.layers.base import LAYERS, Input, Layer, Symbol, WeightSpec, count_parameters, from_json, to_json
from bilstm.layers.convolution import Conv1D
from bilstm.layers.crf import CRF
from bilstm.layers.normalization import BatchNormalization
from bilstm.layers.pooling import (
    AveragePooling1D,
    GlobalAttentionPooling1D,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    MaxPooling1D,
)
from bilstm.layers.recurrent import GRU, LSTM, Bidirectional, Recurrent, Reverse, SimpleRNN
from bilstm.layers.stepwise import (
    ColumnEmbedding,
    Dense,
    Dropout,
    Embedding,
    Masking,
    Padding,
    SpatialDropout1D,
    TimeDistributed,
)
from bilstm.layers.words import WordEncoder

__all__ = [
    "CRF",
    "GRU",
    "LAYERS",
    "LSTM",
    "AveragePooling1D",
    "BatchNormalization",
    "Bidirectional",
    "ColumnEmbedding",
    "Conv1D",
    "Dense",
    "Dropout",
    "Embedding",
    "GlobalAttentionPooling1D",
    "GlobalAveragePooling1D",
    "GlobalMaxPooling1D",
    "Input",
    "Layer",
    "Masking",
    "MaxPooling1D",
    "Padding",
    "Recurrent",
    "Reverse",
    "SimpleRNN",
    "SpatialDropout1D",
    "Symbol",
    "TimeDistributed",
    "WeightSpec",
    "WordEncoder",
    "count_parameters",
    "from_json",
    "to_json",
]

LAYERS |= {
    cls.__name__: cls
    for cls in (
        Input,
        LSTM,
        GRU,
        SimpleRNN,
        Bidirectional,
        Reverse,
        Conv1D,
        BatchNormalization,
        Dense,
        TimeDistributed,
        Dropout,
        SpatialDropout1D,
        Masking,
        Padding,
        Embedding,
        ColumnEmbedding,
        WordEncoder,
        AveragePooling1D,
        MaxPooling1D,
        GlobalAveragePooling1D,
        GlobalMaxPooling1D,
        GlobalAttentionPooling1D,
        CRF,
    )
}

# What to do without Keras's other layers, by parts of their names.
_INSTEAD = {
    ("GRU", "RNN", "LSTM"): "the recurrent layers here are LSTM, GRU and SimpleRNN",
    ("Add", "Subtract", "Multiply", "Average", "Minimum", "Dot", "Concat", "concat"): (
        "a model is one chain of layers, which cannot merge branches"
    ),
    ("Conv",): 'Conv1D, with padding="same" or "causal", is the only convolution here',
    ("Pooling", "Cropping", "UpSampling", "ZeroPadding"): (
        "recurrent layers read sequences step by step, and MaxPooling1D or GlobalMaxPooling1D make fewer rows of each"
    ),
    ("Normalization",): "BatchNormalization is the only normalization here",
    ("Attention",): "GlobalAttentionPooling1D makes one row of a sequence by attention",
    ("Activation", "Softmax", "ReLU", "ELU"): 'Dense(units, activation="softmax") takes the activation',
    ("Flatten", "Reshape", "Repeat", "Permute"): (
        "sequences have any length; a recurrent layer without return_sequences, or a GlobalMaxPooling1D, makes one row "
        "of each"
    ),
    ("Dropout", "Noise"): "there are Dropout and SpatialDropout1D",
}


def __getattr__(name: str) -> NoReturn:
    """Names of Keras's layers that are not here.

    Raises:
        ImportError: the name is written like a layer's; an AttributeError would lose its message in an import.
        AttributeError: any other name.
    """
    if not name[:1].isupper():
        raise AttributeError(f"module 'bilstm.layers' has no attribute {name!r}")
    advice = next((text for parts, text in _INSTEAD.items() if any(part in name for part in parts)), None)
    raise ImportError(
        f"bilstm has no layer {name}{f': {advice}' if advice else ''}. Its layers: {', '.join(sorted(LAYERS))}"
    )
