"""Layers that make one row of a sequence's rows: GlobalAveragePooling1D, GlobalMaxPooling1D."""

from __future__ import annotations

from typing import Any, ClassVar

from bilstm.engine.network import LayerPlan, PoolingPlan
from bilstm.layers.base import Layer


class _Pooling(Layer):
    pool: ClassVar[str]
    takes: ClassVar[dict[str, Any]] = {"data_format": (None, "channels_last"), "keepdims": False}

    def output_features(self, features: int) -> int:
        return features

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name}

    def plan(self, index: int, features: int) -> LayerPlan:
        return PoolingPlan(index, self.pool)

    def returns_rows_per_step(self) -> bool:
        return False


class GlobalAveragePooling1D(_Pooling):
    """The mean of each sequence's rows, over its own steps: (features,) for each sequence."""

    pool = "average"


class GlobalMaxPooling1D(_Pooling):
    """The largest of each of the row's numbers over each sequence's own steps: (features,) for each sequence.

    Where several steps have the same largest number, they share its gradient equally, as in Keras.
    """

    pool = "maximum"
