"""What a network is made of, by Keras's names: shapes, initial weights, and the order of weights.

Layers hold no numbers. A model asks each for its weights' shapes and initial values, and for the plan by which the
engine runs it.
"""

from __future__ import annotations

from bilstm.layers.base import LAYERS, Input, Layer, WeightSpec, count_parameters, from_json, to_json
from bilstm.layers.pooling import GlobalAttentionPooling1D, GlobalAveragePooling1D, GlobalMaxPooling1D
from bilstm.layers.recurrent import LSTM, Bidirectional, Reverse
from bilstm.layers.stepwise import ColumnEmbedding, Dense, Dropout, Embedding, SpatialDropout1D, TimeDistributed

__all__ = [
    "LAYERS",
    "LSTM",
    "Bidirectional",
    "ColumnEmbedding",
    "Dense",
    "Dropout",
    "Embedding",
    "GlobalAttentionPooling1D",
    "GlobalAveragePooling1D",
    "GlobalMaxPooling1D",
    "Input",
    "Layer",
    "Reverse",
    "SpatialDropout1D",
    "TimeDistributed",
    "WeightSpec",
    "count_parameters",
    "from_json",
    "to_json",
]

LAYERS |= {
    cls.__name__: cls
    for cls in (
        Input,
        LSTM,
        Bidirectional,
        Reverse,
        Dense,
        TimeDistributed,
        Dropout,
        SpatialDropout1D,
        Embedding,
        ColumnEmbedding,
        GlobalAveragePooling1D,
        GlobalMaxPooling1D,
        GlobalAttentionPooling1D,
    )
}
