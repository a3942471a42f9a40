"""WordEncoder: what a step's word is made of, such as its characters, becomes one row by layers of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bilstm.arguments import check_count
from bilstm.engine import plans
from bilstm.engine.library import LayerStruct
from bilstm.layers.base import Layer, WeightSpec, from_json, to_json
from bilstm.layers.convolution import Conv1D
from bilstm.layers.pooling import GlobalAttentionPooling1D, GlobalAveragePooling1D, GlobalMaxPooling1D
from bilstm.layers.recurrent import Bidirectional, Recurrent
from bilstm.layers.stepwise import ColumnEmbedding, Dense, Embedding, TimeDistributed
from bilstm.ragged import FloatArray

_POSSIBLE = (
    Embedding,
    ColumnEmbedding,
    Dense,
    TimeDistributed,
    Conv1D,
    Recurrent,
    Bidirectional,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    GlobalAttentionPooling1D,
)


class WordEncoder(Layer):
    """Sequences within sequences: a step's word, itself a sequence of characters, becomes one row.

    Input: rows whose last column is the index of a word in the `words` of the `bilstm.Ragged` that holds the
    sequences. Output: the word's encoding, then the other columns. Each word of a batch is encoded once, to its own
    length, however often it occurs. It must be the model's first layer.

    Characters by a bidirectional LSTM are Lample et al., "Neural architectures for named entity recognition", 2016; by
    a convolution with maximum Ma & Hovy, "End-to-end sequence labeling via bi-directional LSTM-CNNs-CRF", 2016.

    Args:
        layers: what makes one row of a word's rows, such as [Embedding(100, 25), Bidirectional(LSTM(25))]. Embeddings,
            Dense, Conv1D, recurrent layers and global poolings; the last of them must return one row for each word.
        features: dimensions of a word's rows, 1 for indices of characters.

    Weights: those of the layers, one after the other.
    """

    def __init__(self, layers: Sequence[Layer], features: int = 1, *, name: str | None = None, **keywords: Any) -> None:
        super().__init__(name=name, **keywords)
        self.features = check_count("WordEncoder", "features", features)
        self.layers = list(layers)
        for layer in self.layers:
            possible = isinstance(layer, _POSSIBLE) and getattr(layer, "merge_mode", "") is not None
            if isinstance(layer, TimeDistributed):
                possible = isinstance(layer.layer, Dense)
            if not possible or getattr(layer, "mask_zero", False):
                raise ValueError(
                    f"WordEncoder: {layer!r} cannot encode words; embeddings, Dense, Conv1D, recurrent layers and "
                    f"global poolings can"
                )
        one_row = [not layer.returns_rows_per_step() for layer in self.layers]
        if not any(one_row):
            raise ValueError(
                "WordEncoder: the layers must return one row for each word: end with a recurrent layer without "
                "return_sequences or with GlobalMaxPooling1D()"
            )
        after = self.layers[one_row.index(True) + 1 :]
        if not all(isinstance(layer, (Dense, TimeDistributed)) for layer in after):
            raise ValueError(
                f"WordEncoder: {after[0]!r} needs sequences, but a layer before it returns one row for each"
            )

    def output_features(self, features: int) -> int:
        *_, (_, width) = self._inputs()
        return self.layers[-1].output_features(width) + features - 1

    def _inputs(self) -> Iterator[tuple[Layer, int]]:
        """Each layer, with the dimensions of its input."""
        width = self.features
        for layer in self.layers:
            yield layer, width
            width = layer.output_features(width)

    def get_config(self) -> dict[str, Any]:
        return {"layers": [to_json(layer) for layer in self.layers], "features": self.features, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Layer:
        return cls(**config | {"layers": [from_json(layer) for layer in config["layers"]]})

    def weight_specs(self, features: int) -> list[WeightSpec]:
        return [
            WeightSpec(f"encoder.{index}.{spec.name}", spec.shape, spec.negative)
            for index, (layer, width) in enumerate(self._inputs())
            for spec in layer.weight_specs(width)
        ]

    def initial_weights(self, features: int, random: np.random.Generator) -> list[FloatArray]:
        return [array for layer, width in self._inputs() for array in layer.initial_weights(width, random)]

    def plan(self, index: int, features: int) -> LayerStruct:
        planned = [layer.plan(index, width) for layer, width in self._inputs()]
        return plans.words(index, [plan for plan in planned if plan], self.features)
