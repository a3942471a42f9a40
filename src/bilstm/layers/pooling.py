"""Layers that make one row of a sequence's rows: their mean, their maximum, or a mean weighted by attention."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from bilstm.arguments import check_count
from bilstm.engine import plans
from bilstm.engine.library import LayerStruct
from bilstm.layers.base import Layer, WeightSpec
from bilstm.layers.initializers import glorot_uniform
from bilstm.ragged import FloatArray


class _Pooling(Layer):
    pool: ClassVar[str]
    takes: ClassVar[dict[str, Any]] = {"data_format": (None, "channels_last"), "keepdims": False}

    def output_features(self, features: int) -> int:
        return features

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name}

    def plan(self, index: int, features: int) -> LayerStruct:
        return plans.pooling(index, self.pool)

    def returns_rows_per_step(self) -> bool:
        return False

    @property
    def needs_whole_sequence(self) -> bool:
        return True


class GlobalAveragePooling1D(_Pooling):
    """The mean of each sequence's rows, over its own steps: (features,) for each sequence."""

    pool = "average"


class GlobalMaxPooling1D(_Pooling):
    """The maximum of each feature over each sequence's own steps: (features,) for each sequence.

    Where several steps have the same largest number, they share its gradient equally, as in Keras.
    """

    pool = "maximum"


class GlobalAttentionPooling1D(Layer):
    """The mean of each sequence's rows x, weighted by a softmax over its own steps of query · tanh(x W + b), by which
    it learns what steps matter: (features,) for each sequence.

    The word attention of Yang et al., "Hierarchical attention networks for document classification", NAACL 2016. Keras
    has no such layer.

    Args:
        units: dimensions of the query.

    Weights: kernel W (features, units), bias b (units), query (units).
    """

    def __init__(self, units: int, *, name: str | None = None, **keywords: Any) -> None:
        super().__init__(name=name, **keywords)
        self.units = check_count("GlobalAttentionPooling1D", "units", units)

    def output_features(self, features: int) -> int:
        return features

    def get_config(self) -> dict[str, Any]:
        return {"units": self.units, "name": self.name}

    def weight_specs(self, features: int) -> list[WeightSpec]:
        shapes = {"kernel": (features, self.units), "bias": (self.units,), "query": (self.units,)}
        return [WeightSpec(name, shape) for name, shape in shapes.items()]

    def initial_weights(self, features: int, random: np.random.Generator) -> list[FloatArray]:
        kernel, query = glorot_uniform((features, self.units), random), glorot_uniform((self.units, 1), random)
        return [kernel, np.zeros(self.units, np.float32), query[:, 0]]

    def plan(self, index: int, features: int) -> LayerStruct:
        return plans.attention_pooling(index, self.units)

    def returns_rows_per_step(self) -> bool:
        return False

    @property
    def needs_whole_sequence(self) -> bool:
        return True
