"""Layers that make one row of a sequence's rows, or one of each window of them: means, maxima, attention."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from bilstm.arguments import check_choice, check_count
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


class _WindowPooling(Layer):
    pool: ClassVar[str]
    takes: ClassVar[dict[str, Any]] = {"data_format": (None, "channels_last")}

    def __init__(
        self,
        pool_size: int = 2,
        strides: int | None = None,
        padding: str = "valid",
        *,
        name: str | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(name=name, **keywords)
        owner = type(self).__name__
        self.pool_size = check_count(owner, "pool_size", pool_size)
        self.strides = self.pool_size if strides is None else check_count(owner, "strides", strides)
        self.padding = check_choice(owner, "padding", padding, ("valid", "same"))

    def output_features(self, features: int) -> int:
        return features

    def get_config(self) -> dict[str, Any]:
        return {"pool_size": self.pool_size, "strides": self.strides, "padding": self.padding, "name": self.name}

    def plan(self, index: int, features: int) -> LayerStruct:
        same = self.padding == "same"
        return plans.window_pooling(index, self.pool, self.pool_size, self.strides, same=same)

    @property
    def needs_whole_sequence(self) -> bool:
        return True


class AveragePooling1D(_WindowPooling):
    """The mean of each window of a sequence's rows, which makes the sequence shorter: (windows, features).

    A layer that returns one row for each sequence must follow. Windows never hold steps of another sequence.

    Args:
        pool_size: rows of a window.
        strides: rows from the beginning of a window to the beginning of the next; None: pool_size.
        padding: "valid": only whole windows, (steps - pool_size) // strides + 1 of them; "same": a window begins at
            every `strides` rows, ceil(steps / strides) of them, and what lies beyond the sequence's ends is left out
            of the mean.
        name: what the layer is called.
        keywords: Keras's other arguments, with the values that change nothing here.

    Raises:
        ValueError: an impossible argument; or, when it is used, a sequence shorter than a window of padding "valid".
    """

    pool = "average"


class MaxPooling1D(_WindowPooling):
    """The maximum of each feature in each window of a sequence's rows, which makes the sequence shorter: (windows,
    features).

    A layer that returns one row for each sequence must follow. Windows never hold steps of another sequence. Of equal
    maxima in a window the first has the gradient.

    Args:
        pool_size: rows of a window.
        strides: rows from the beginning of a window to the beginning of the next; None: pool_size.
        padding: "valid": only whole windows, (steps - pool_size) // strides + 1 of them; "same": a window begins at
            every `strides` rows, ceil(steps / strides) of them, and nothing lies beyond the sequence's ends.
        name: what the layer is called.
        keywords: Keras's other arguments, with the values that change nothing here.

    Raises:
        ValueError: an impossible argument; or, when it is used, a sequence shorter than a window of padding "valid".
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
