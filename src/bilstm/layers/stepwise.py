"""Layers that are applied to each step separately: Dense, TimeDistributed, dropouts, embeddings; Masking, Padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from bilstm.arguments import check_choice, check_count, check_fraction, check_number
from bilstm.engine import plans
from bilstm.engine.library import LayerStruct
from bilstm.engine.plans import ACTIVATIONS
from bilstm.errors import UserError
from bilstm.layers.base import REGULARIZERS, Layer, WeightSpec, from_json, to_json
from bilstm.layers.initializers import glorot_uniform, standard_normal, uniform
from bilstm.ragged import FloatArray, IndexArray, Ragged

SIDES = ("post", "pre")  # of a sequence, on which padding is put


class Dense(Layer):
    """A linear map of each row and an activation: "linear" (or None), "sigmoid", "softmax", "tanh" or "relu".

    Weights: kernel (features, units), and, unless use_bias is False, bias (units).
    """

    takes: ClassVar[dict[str, Any]] = {
        "kernel_initializer": "glorot_uniform",
        "bias_initializer": "zeros",
        "lora_rank": None,
        **REGULARIZERS,
    }

    def __init__(
        self,
        units: int,
        activation: str | None = None,
        use_bias: bool = True,
        *,
        name: str | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(name=name, **keywords)
        self.units = check_count("Dense", "units", units)
        self.activation = check_choice("Dense", "activation", activation or "linear", ACTIVATIONS)
        self.use_bias = bool(check_choice("Dense", "use_bias", use_bias, (False, True)))

    def output_features(self, features: int) -> int:
        return self.units

    def get_config(self) -> dict[str, Any]:
        return {"units": self.units, "activation": self.activation, "use_bias": self.use_bias, "name": self.name}

    def weight_specs(self, features: int) -> list[WeightSpec]:
        bias = [WeightSpec("bias", (self.units,))] if self.use_bias else []
        return [WeightSpec("kernel", (features, self.units)), *bias]

    def initial_weights(self, features: int, random: np.random.Generator) -> list[FloatArray]:
        kernel, *bias = self.weight_specs(features)
        return [glorot_uniform(kernel.shape, random), *(np.zeros(each.shape, np.float32) for each in bias)]

    def plan(self, index: int, features: int) -> LayerStruct:
        return plans.dense(index, self.units, self.activation, use_bias=self.use_bias)


class TimeDistributed(Layer):
    """Applies a Dense or Dropout layer to every step. Without padding that is what these layers do anyway."""

    def __init__(self, layer: Layer, *, name: str | None = None, **keywords: Any) -> None:
        super().__init__(name=name, **keywords)
        if not isinstance(layer, (Dense, Dropout)):
            raise TypeError(f"TimeDistributed: only Dense and Dropout are supported, not {layer!r}")
        self.layer = layer
        self.input_features = self.input_features or layer.input_features

    def output_features(self, features: int) -> int:
        return self.layer.output_features(features)

    def get_config(self) -> dict[str, Any]:
        return {"layer": to_json(self.layer), "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Layer:
        return cls(**config | {"layer": from_json(config["layer"])})

    def weight_specs(self, features: int) -> list[WeightSpec]:
        return self.layer.weight_specs(features)

    def initial_weights(self, features: int, random: np.random.Generator) -> list[FloatArray]:
        return self.layer.initial_weights(features, random)

    def plan(self, index: int, features: int) -> LayerStruct | None:
        return self.layer.plan(index, features)


class Dropout(Layer):
    """In training, sets a share `rate` of the values to zero and scales the others by 1 / (1 - rate).

    Which ones depends only on the seed, the training step, the layer and the position in the batch.
    """

    takes: ClassVar[dict[str, Any]] = {"noise_shape": None, "seed": None}

    def __init__(self, rate: float, *, name: str | None = None, **keywords: Any) -> None:
        super().__init__(name=name, **keywords)
        self.rate = check_fraction("Dropout", "rate", rate)

    def output_features(self, features: int) -> int:
        return features

    def get_config(self) -> dict[str, Any]:
        return {"rate": self.rate, "name": self.name}

    def plan(self, index: int, features: int) -> LayerStruct | None:
        return plans.dropout(index, self.rate) if self.rate else None


class SpatialDropout1D(Layer):
    """In training, sets a share `rate` of the columns of each sequence to zero at all of its steps, and scales the
    others by 1 / (1 - rate): the variational dropout of Gal & Ghahramani, "A theoretically grounded application of
    dropout in recurrent neural networks", 2016, on a layer's inputs.

    Which columns depends only on the seed, the training step, the layer and the sequence's position in the batch.
    """

    takes: ClassVar[dict[str, Any]] = {"seed": None}

    def __init__(self, rate: float, *, name: str | None = None, **keywords: Any) -> None:
        super().__init__(name=name, **keywords)
        self.rate = check_fraction("SpatialDropout1D", "rate", rate)

    def output_features(self, features: int) -> int:
        return features

    def get_config(self) -> dict[str, Any]:
        return {"rate": self.rate, "name": self.name}

    def plan(self, index: int, features: int) -> LayerStruct | None:
        return plans.dropout(index, self.rate, spatial=True) if self.rate else None


class Masking(Layer):
    """Skips the steps whose values all equal `mask_value`. It must be the model's first layer.

    The layers after it never see these steps, wherever in a sequence they are: a recurrent layer carries its state
    across them in both directions, poolings leave them out, and their targets and weights are not used, as in Keras.
    `predict` gives 0 for them where it returns a value for each step.

    Args:
        mask_value: a finite number.
    """

    def __init__(self, mask_value: float = 0.0, *, name: str | None = None, **keywords: Any) -> None:
        super().__init__(name=name, **keywords)
        self.mask_value = check_number("Masking", "mask_value", mask_value)

    def output_features(self, features: int) -> int:
        return features

    def get_config(self) -> dict[str, Any]:
        return {"mask_value": self.mask_value, "name": self.name}


class Padding(Layer):
    """Extends each shorter sequence to `steps` time steps, which the layers after it read as data. The first layer.

    It reproduces a model whose predictions depended on padding, such as one of Keras's without a mask: see
    `bilstm.bridges.keras.KerasFile.padded`. `predict` gives the rows of a sequence's own steps, or one row for each
    sequence. A model with it only predicts; it cannot be trained.

    Args:
        steps: time steps of each sequence, at most, and after this layer.
        side: "post": the padding is put after a sequence's last step; "pre": before its first.
        value: a finite number, that of each feature at the padding.
    """

    def __init__(
        self, steps: int, side: str = "post", value: float = 0.0, *, name: str | None = None, **keywords: Any
    ) -> None:
        super().__init__(name=name, **keywords)
        self.steps = check_count("Padding", "steps", steps)
        self.side = check_choice("Padding", "side", side, SIDES)
        self.value = check_number("Padding", "value", value)

    def output_features(self, features: int) -> int:
        return features

    def get_config(self) -> dict[str, Any]:
        return {"steps": self.steps, "side": self.side, "value": self.value, "name": self.name}

    @property
    def needs_whole_sequence(self) -> bool:
        return True

    def extended(self, data: Ragged) -> tuple[Ragged, IndexArray]:
        """The padded sequences, and (total_steps,) where in them the steps of `data` are.

        Raises:
            UserError: a sequence is longer.
        """
        lengths = data.lengths
        if len(long := np.flatnonzero(lengths > self.steps)):
            raise UserError(
                f"sequence {long[0]} of x has {lengths[long[0]]:,} time steps, more than the {self.steps:,} that the "
                f"model extends each sequence to"
            )
        offsets = np.arange(len(data) + 1, dtype=np.int64) * self.steps
        starts = offsets[:-1] if self.side == "post" else offsets[1:] - lengths
        own = np.arange(data.total_steps) + np.repeat(starts - data.offsets[:-1], lengths)
        values = np.full((int(offsets[-1]), data.features), self.value, np.float32)
        values[own] = data.values
        return Ragged(values, offsets), own


class Embedding(Layer):
    """Whole numbers from 0 to input_dim - 1 -> learned vectors of output_dim values. Input: one whole number per step.

    Args:
        input_dim: how many different numbers there are.
        output_dim: dimensions of a vector.
        mask_zero: whether steps that are 0 are skipped, as `Masking` does; then it must be the model's first layer.
            Without padding there is no need for it.

    Weights: embeddings (input_dim, output_dim).
    """

    takes: ClassVar[dict[str, Any]] = {
        "embeddings_initializer": "uniform",
        "lora_rank": None,
        **REGULARIZERS,
    }

    def __init__(
        self, input_dim: int, output_dim: int, *, mask_zero: bool = False, name: str | None = None, **keywords: Any
    ) -> None:
        if len(keywords.get("input_shape") or ()) == 1:  # Keras's way: the steps alone
            keywords["input_shape"] = (None, 1)
        super().__init__(name=name, **keywords)
        if self.input_features not in (None, 1):
            raise ValueError(f"Embedding takes one whole number per step, not {self.input_features} features")
        self.input_dim = check_count("Embedding", "input_dim", input_dim)
        self.output_dim = check_count("Embedding", "output_dim", output_dim)
        self.mask_zero = bool(check_choice("Embedding", "mask_zero", mask_zero, (False, True)))
        self.input_features = 1

    def output_features(self, features: int) -> int:
        if features != 1:
            raise ValueError(f"Embedding takes sequences of one whole number per step, not of {features} features")
        return self.output_dim

    def get_config(self) -> dict[str, Any]:
        return {
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "mask_zero": self.mask_zero,
            "name": self.name,
        }

    def weight_specs(self, features: int) -> list[WeightSpec]:
        return [WeightSpec("embeddings", (self.input_dim, self.output_dim))]

    def initial_weights(self, features: int, random: np.random.Generator) -> list[FloatArray]:
        return [uniform((self.input_dim, self.output_dim), random)]

    def plan(self, index: int, features: int) -> LayerStruct:
        return plans.embedding(index, 0, (self.input_dim,), (self.output_dim,))


class ColumnEmbedding(Layer):
    """Steps of a table: numeric columns are passed on, categories embedded.

    Input: `numeric` values, then one whole number for each vocabulary. Output: the values, then the embeddings.

    Args:
        numeric: the number of numeric columns, which come first.
        vocabularies: number of categories of each.
        dimensions: dimensions of each one's embedding.
        frozen: for each, whether training leaves its embeddings as they are, such as pretrained vectors; None: none.
        unknown_rate: for each, the share of steps at which training puts category 0, which stands for unknown ones, in
            the place of the category, so that it is learned; None: 0 for all.

    Weights: one embeddings array (vocabulary, dimension) for each vocabulary; at first of mean 0 and standard deviation
    1, like the standardised columns next to them, with which words and letters are learned in fewer epochs than with
    `Embedding`'s, a thirtieth as large.
    """

    def __init__(
        self,
        numeric: int,
        vocabularies: Sequence[int],
        dimensions: Sequence[int],
        *,
        frozen: Sequence[bool] | None = None,
        unknown_rate: Sequence[float] | None = None,
        name: str | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(name=name, **keywords)
        self.numeric = check_count("ColumnEmbedding", "numeric", numeric, 0)
        self.vocabularies = tuple(check_count("ColumnEmbedding", "vocabularies", size) for size in vocabularies)
        self.dimensions = tuple(check_count("ColumnEmbedding", "dimensions", size) for size in dimensions)
        if not self.vocabularies or len(self.vocabularies) != len(self.dimensions):
            raise ValueError("ColumnEmbedding: vocabularies and dimensions must be lists of one length, at least 1")
        count = len(self.vocabularies)
        if any(each is not None and len(each) != count for each in (frozen, unknown_rate)):
            raise ValueError("ColumnEmbedding: frozen and unknown_rate must have a value for each vocabulary")
        self.frozen: tuple[bool, ...] | None = None
        self.unknown_rate: tuple[float, ...] | None = None
        for flag in frozen or ():
            check_choice("ColumnEmbedding", "frozen", flag, (False, True))
        if frozen is not None and any(frozen):
            self.frozen = tuple(map(bool, frozen))
        rates = [check_fraction("ColumnEmbedding", "unknown_rate", rate) for rate in unknown_rate or ()]
        if any(rates):
            self.unknown_rate = tuple(rates)
        self.input_features = self.numeric + len(self.vocabularies)

    def output_features(self, features: int) -> int:
        if features != self.input_features:
            raise ValueError(f"ColumnEmbedding takes {self.input_features} features, not {features}")
        return self.numeric + sum(self.dimensions)

    def get_config(self) -> dict[str, Any]:
        return {
            "numeric": self.numeric,
            "vocabularies": list(self.vocabularies),
            "dimensions": list(self.dimensions),
            "frozen": self.frozen and list(self.frozen),
            "unknown_rate": self.unknown_rate and list(self.unknown_rate),
            "name": self.name,
        }

    def weight_specs(self, features: int) -> list[WeightSpec]:
        pairs = zip(self.vocabularies, self.dimensions, strict=True)
        return [WeightSpec(f"embeddings_{i}", shape) for i, shape in enumerate(pairs)]

    def initial_weights(self, features: int, random: np.random.Generator) -> list[FloatArray]:
        return [standard_normal(spec.shape, random) for spec in self.weight_specs(features)]

    def plan(self, index: int, features: int) -> LayerStruct:
        flags = self.frozen or (), self.unknown_rate or ()
        return plans.embedding(index, self.numeric, self.vocabularies, self.dimensions, *flags)
