"""What a network is made of, by Keras's names: shapes, initial weights, and the order of weights.

Layers hold no numbers. A model asks each for its weights' shapes and initial values, and for the plan by which the
engine runs it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bilstm.arguments import check_choice, check_count, check_fraction, refuse_unsupported
from bilstm.engine.network import (
    ACTIVATIONS,
    MERGES,
    DensePlan,
    DirectionPlan,
    DropoutPlan,
    EmbeddingPlan,
    LayerPlan,
    RecurrentPlan,
)
from bilstm.initializers import glorot_uniform, orthogonal, uniform
from bilstm.ragged import FloatArray

# Arguments that any layer of Keras takes and that change nothing here.
_ANY_LAYER: dict[str, Any] = {"trainable": True, "dtype": (None, "float32"), "activity_regularizer": None}
_REGULARIZERS = {
    f"{weight}_{kind}": None
    for weight in ("kernel", "recurrent", "bias", "embeddings")
    for kind in ("regularizer", "constraint")
}


@dataclass(frozen=True)
class WeightSpec:
    """The name and shape of one weight array."""

    name: str
    shape: tuple[int, ...]


class Layer(ABC):
    """A layer. `input_shape=(steps, features)`, or `input_dim=features`, on a model's first layer builds the model
    at once; steps may be None and are not enforced: sequences may have any length.
    """

    takes: ClassVar[dict[str, Any]] = {}  # further arguments of Keras's, with the values that change nothing

    def __init__(self, *, name: str | None = None, **keywords: Any) -> None:
        self.name = name
        self.input_features = _input_features(type(self).__name__, keywords)
        refuse_unsupported(type(self).__name__, keywords, _ANY_LAYER | self.takes)

    @abstractmethod
    def output_features(self, features: int) -> int:
        """Numbers of an output row, for inputs of `features` numbers."""

    @abstractmethod
    def get_config(self) -> dict[str, Any]:
        """Plain data from which `from_config` makes the same layer."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Layer:
        return cls(**config)

    def weights(self, features: int) -> list[WeightSpec]:
        """The weight arrays in the order of `get_weights()`."""
        return []

    def initial_weights(self, features: int, random: np.random.Generator) -> list[FloatArray]:
        return []

    def plan(self, index: int, features: int) -> LayerPlan | None:
        """How the engine runs the layer, or None where nothing is to be done."""
        return None

    def returns_rows_per_step(self) -> bool:
        """Whether there is an output row for every input row, rather than one for each sequence."""
        return True


class Input(Layer):
    """The shape of a model's input: `Input((steps, features))`; steps may be None."""

    def __init__(self, shape: Sequence[int | None], *, name: str | None = None, **keywords: Any) -> None:
        super().__init__(name=name, input_shape=shape, **keywords)

    takes: ClassVar[dict[str, Any]] = {"batch_size": None, "sparse": False, "ragged": False}

    def output_features(self, features: int) -> int:
        return features

    def get_config(self) -> dict[str, Any]:
        return {"shape": [None, self.input_features], "name": self.name}


class LSTM(Layer):
    """Long short-term memory (Hochreiter & Schmidhuber 1997; forget gates of Gers et al. 2000), as in Keras.

    Input rows are steps. Output: (steps, units) with return_sequences, else (units,) for each sequence, from its
    last processed step. With go_backwards sequences are processed from their last step, and, as in Keras, the output
    sequence is in the order of processing; `Reverse` turns it back, `Bidirectional` does so by itself.

    Weights: kernel (features, 4·units), recurrent_kernel (units, 4·units), bias (4·units), gates in the order
    i, f, c, o.

    Raises:
        ValueError: an argument of Keras's with a value that is not supported, by its name.
    """

    takes: ClassVar[dict[str, Any]] = {
        "activation": "tanh",
        "recurrent_activation": "sigmoid",
        "use_bias": True,
        "kernel_initializer": "glorot_uniform",
        "recurrent_initializer": "orthogonal",
        "bias_initializer": "zeros",
        "dropout": (0, 0.0),
        "recurrent_dropout": (0, 0.0),
        "seed": None,
        "return_state": False,
        "stateful": False,
        "unroll": (False, True),
        "use_cudnn": ("auto", False),
        "implementation": (1, 2),
        **_REGULARIZERS,
    }

    def __init__(
        self,
        units: int,
        *,
        return_sequences: bool = False,
        go_backwards: bool = False,
        unit_forget_bias: bool = True,
        name: str | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(name=name, **keywords)
        self.units = check_count("LSTM", "units", units)
        self.return_sequences = bool(return_sequences)
        self.go_backwards = bool(go_backwards)
        self.unit_forget_bias = bool(unit_forget_bias)

    def output_features(self, features: int) -> int:
        return self.units

    def get_config(self) -> dict[str, Any]:
        return {
            "units": self.units,
            "return_sequences": self.return_sequences,
            "go_backwards": self.go_backwards,
            "unit_forget_bias": self.unit_forget_bias,
            "name": self.name,
        }

    def weights(self, features: int) -> list[WeightSpec]:
        gates = 4 * self.units
        return [
            WeightSpec("kernel", (features, gates)),
            WeightSpec("recurrent_kernel", (self.units, gates)),
            WeightSpec("bias", (gates,)),
        ]

    def initial_weights(self, features: int, random: np.random.Generator) -> list[FloatArray]:
        bias = np.zeros(4 * self.units, np.float32)
        if self.unit_forget_bias:
            bias[self.units : 2 * self.units] = 1.0
        return [
            glorot_uniform((features, 4 * self.units), random),
            orthogonal((self.units, 4 * self.units), random),
            bias,
        ]

    def plan(self, index: int, features: int) -> LayerPlan:
        direction = DirectionPlan(self.units, reverse=self.go_backwards)
        return RecurrentPlan(index, (direction,), return_sequences=self.return_sequences)

    def returns_rows_per_step(self) -> bool:
        return self.return_sequences


class Bidirectional(Layer):
    """Two LSTMs, one reading each sequence from its first step, one from its last; Schuster & Paliwal 1997.

    Their outputs are merged at each step, or, without return_sequences, after the last step each has processed.

    Args:
        layer: the LSTM that reads forward.
        merge_mode: "concat" (default), "sum", "mul", "ave", or None for two outputs, possible in a last layer only.
        backward_layer: the LSTM that reads backward, with go_backwards=True; made like `layer` if left out. For
            merge modes other than "concat" and None it needs as many units.

    Weights: the forward layer's, then the backward layer's.
    """

    takes: ClassVar[dict[str, Any]] = {"weights": None}

    def __init__(
        self,
        layer: LSTM,
        merge_mode: str | None = "concat",
        backward_layer: LSTM | None = None,
        *,
        name: str | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(name=name, **keywords)
        for argument, value in (("layer", layer), ("backward_layer", backward_layer)):
            if not isinstance(value, LSTM) and not (argument == "backward_layer" and value is None):
                raise TypeError(f"Bidirectional: {argument} must be an LSTM, not {value!r}")
        self.merge_mode = check_choice("Bidirectional", "merge_mode", merge_mode, (*MERGES, None))
        self.layer = layer
        self.backward_layer = backward_layer
        self.forward = layer
        self.backward = backward_layer or LSTM(**layer.get_config() | {"go_backwards": not layer.go_backwards})
        self.input_features = self.input_features or layer.input_features
        self._check_agreement()

    def _check_agreement(self) -> None:
        if self.forward.go_backwards == self.backward.go_backwards:
            raise ValueError("Bidirectional: backward_layer must have go_backwards opposite to the forward layer's")
        if self.forward.return_sequences != self.backward.return_sequences:
            raise ValueError("Bidirectional: both layers must have the same return_sequences")
        if self.merge_mode in ("sum", "mul", "ave") and self.forward.units != self.backward.units:
            raise ValueError(
                f"Bidirectional: merge_mode={self.merge_mode!r} needs layers of as many units, "
                f"not {self.forward.units} and {self.backward.units}"
            )

    def output_features(self, features: int) -> int:
        if self.merge_mode in ("concat", None):
            return self.forward.units + self.backward.units
        return self.forward.units

    def get_config(self) -> dict[str, Any]:
        return {
            "layer": to_json(self.layer),
            "merge_mode": self.merge_mode,
            "backward_layer": None if self.backward_layer is None else to_json(self.backward_layer),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Layer:
        layers: dict[str, Any] = {
            key: config[key] and from_json(config[key]) for key in ("layer", "backward_layer") if key in config
        }
        return cls(**config | layers)

    def weights(self, features: int) -> list[WeightSpec]:
        return [
            WeightSpec(f"{direction}_{weight.name}", weight.shape)
            for direction, layer in (("forward", self.forward), ("backward", self.backward))
            for weight in layer.weights(features)
        ]

    def initial_weights(self, features: int, random: np.random.Generator) -> list[FloatArray]:
        return [*self.forward.initial_weights(features, random), *self.backward.initial_weights(features, random)]

    def plan(self, index: int, features: int) -> LayerPlan:
        # The second layer's output is turned round in time to line up with the first's.
        directions = (
            DirectionPlan(self.forward.units, reverse=self.forward.go_backwards),
            DirectionPlan(self.backward.units, reverse=self.backward.go_backwards, flip=True),
        )
        return RecurrentPlan(index, directions, self.merge_mode or "concat", self.forward.return_sequences)

    def returns_rows_per_step(self) -> bool:
        return self.forward.return_sequences


class Reverse(Layer):
    """Reverses the steps of every sequence: after LSTM(go_backwards=True, return_sequences=True), each output stands
    at the step it belongs to. Must follow a recurrent layer with return_sequences=True.
    """

    def output_features(self, features: int) -> int:
        return features

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name}


class Dense(Layer):
    """A linear map of each row and an activation: "linear" (or None), "sigmoid", "softmax", "tanh" or "relu".

    Weights: kernel (features, units), bias (units).
    """

    takes: ClassVar[dict[str, Any]] = {
        "use_bias": True,
        "kernel_initializer": "glorot_uniform",
        "bias_initializer": "zeros",
        "lora_rank": None,
        **_REGULARIZERS,
    }

    def __init__(self, units: int, activation: str | None = None, *, name: str | None = None, **keywords: Any) -> None:
        super().__init__(name=name, **keywords)
        self.units = check_count("Dense", "units", units)
        self.activation = check_choice("Dense", "activation", activation or "linear", ACTIVATIONS)

    def output_features(self, features: int) -> int:
        return self.units

    def get_config(self) -> dict[str, Any]:
        return {"units": self.units, "activation": self.activation, "name": self.name}

    def weights(self, features: int) -> list[WeightSpec]:
        return [WeightSpec("kernel", (features, self.units)), WeightSpec("bias", (self.units,))]

    def initial_weights(self, features: int, random: np.random.Generator) -> list[FloatArray]:
        return [glorot_uniform((features, self.units), random), np.zeros(self.units, np.float32)]

    def plan(self, index: int, features: int) -> LayerPlan:
        return DensePlan(index, self.units, self.activation)


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

    def weights(self, features: int) -> list[WeightSpec]:
        return self.layer.weights(features)

    def initial_weights(self, features: int, random: np.random.Generator) -> list[FloatArray]:
        return self.layer.initial_weights(features, random)

    def plan(self, index: int, features: int) -> LayerPlan | None:
        return self.layer.plan(index, features)


class Dropout(Layer):
    """In training, sets a share `rate` of numbers to zero and scales the others by 1 / (1 - rate).

    Which ones depends only on the seed, the training step, the layer and the place in the batch.
    """

    takes: ClassVar[dict[str, Any]] = {"noise_shape": None, "seed": None}

    def __init__(self, rate: float, *, name: str | None = None, **keywords: Any) -> None:
        super().__init__(name=name, **keywords)
        self.rate = check_fraction("Dropout", "rate", rate)

    def output_features(self, features: int) -> int:
        return features

    def get_config(self) -> dict[str, Any]:
        return {"rate": self.rate, "name": self.name}

    def plan(self, index: int, features: int) -> LayerPlan | None:
        return DropoutPlan(index, self.rate) if self.rate else None


class Embedding(Layer):
    """Whole numbers from 0 to input_dim - 1 -> learnt vectors of output_dim numbers. Input: one number a step.

    Weights: embeddings (input_dim, output_dim).
    """

    takes: ClassVar[dict[str, Any]] = {
        "embeddings_initializer": "uniform",
        "mask_zero": False,  # sequences are not padded, so there is nothing to mask
        "lora_rank": None,
        **_REGULARIZERS,
    }

    def __init__(self, input_dim: int, output_dim: int, *, name: str | None = None, **keywords: Any) -> None:
        if len(keywords.get("input_shape") or ()) == 1:  # Keras's way: the steps alone
            keywords["input_shape"] = (None, 1)
        super().__init__(name=name, **keywords)
        if self.input_features not in (None, 1):
            raise ValueError(f"Embedding takes one whole number a step, not {self.input_features} features")
        self.input_dim = check_count("Embedding", "input_dim", input_dim)
        self.output_dim = check_count("Embedding", "output_dim", output_dim)
        self.input_features = 1

    def output_features(self, features: int) -> int:
        if features != 1:
            raise ValueError(f"Embedding takes sequences of one whole number a step, not of {features} features")
        return self.output_dim

    def get_config(self) -> dict[str, Any]:
        return {"input_dim": self.input_dim, "output_dim": self.output_dim, "name": self.name}

    def weights(self, features: int) -> list[WeightSpec]:
        return [WeightSpec("embeddings", (self.input_dim, self.output_dim))]

    def initial_weights(self, features: int, random: np.random.Generator) -> list[FloatArray]:
        return [uniform((self.input_dim, self.output_dim), random)]

    def plan(self, index: int, features: int) -> LayerPlan:
        return EmbeddingPlan(index, 0, (self.input_dim,), (self.output_dim,))


class ColumnEmbedding(Layer):
    """Steps of a table: numbers are passed on, categories embedded.

    Input: `numeric` numbers, then one whole number for each vocabulary. Output: the numbers, then the embeddings.

    Args:
        vocabularies: number of categories of each.
        dimensions: numbers of an embedding of each.

    Weights: one embeddings array (vocabulary, dimension) for each vocabulary.
    """

    def __init__(
        self,
        numeric: int,
        vocabularies: Sequence[int],
        dimensions: Sequence[int],
        *,
        name: str | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(name=name, **keywords)
        self.numeric = check_count("ColumnEmbedding", "numeric", numeric, 0)
        self.vocabularies = tuple(check_count("ColumnEmbedding", "vocabularies", size) for size in vocabularies)
        self.dimensions = tuple(check_count("ColumnEmbedding", "dimensions", size) for size in dimensions)
        if not self.vocabularies or len(self.vocabularies) != len(self.dimensions):
            raise ValueError("ColumnEmbedding: vocabularies and dimensions must be lists of one length, at least 1")
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
            "name": self.name,
        }

    def weights(self, features: int) -> list[WeightSpec]:
        pairs = zip(self.vocabularies, self.dimensions, strict=True)
        return [WeightSpec(f"embeddings_{i}", shape) for i, shape in enumerate(pairs)]

    def initial_weights(self, features: int, random: np.random.Generator) -> list[FloatArray]:
        return [uniform(weight.shape, random) for weight in self.weights(features)]

    def plan(self, index: int, features: int) -> LayerPlan:
        return EmbeddingPlan(index, self.numeric, self.vocabularies, self.dimensions)


LAYERS: dict[str, type[Layer]] = {
    cls.__name__: cls
    for cls in (Input, LSTM, Bidirectional, Reverse, Dense, TimeDistributed, Dropout, Embedding, ColumnEmbedding)
}


def to_json(layer: Layer) -> dict[str, Any]:
    """{"class_name", "config"}, plain data."""
    config = {key: value for key, value in layer.get_config().items() if not (key == "name" and value is None)}
    return {"class_name": type(layer).__name__, "config": config}


def from_json(data: Any) -> Layer:
    """The layer that `to_json` described.

    Raises:
        ValueError: the data describes no layer, or one with impossible settings.
    """
    if not isinstance(data, dict) or not isinstance(data.get("config"), dict):
        raise ValueError(f"a layer is described by its class_name and config, not by {data!r:.100}")
    cls = LAYERS.get(str(data.get("class_name")))
    if cls is None:
        raise ValueError(f"unknown layer {data.get('class_name')!r:.100}")
    try:
        return cls.from_config(data["config"])
    except KeyError as error:
        raise ValueError(f"{cls.__name__}: {error} is missing") from None
    except TypeError as error:
        raise ValueError(f"{cls.__name__}: {str(error).removeprefix(cls.__name__ + ': ')}") from None


def _input_features(owner: str, keywords: dict[str, Any]) -> int | None:
    """Take Keras's several ways to give the input's shape out of the keywords; returns the number of features."""
    shape = keywords.pop("input_shape", None)
    batch_shape = keywords.pop("batch_input_shape", keywords.pop("batch_shape", None))
    features = keywords.pop("input_dim", None)
    keywords.pop("input_length", None)
    if batch_shape is not None:
        shape = tuple(batch_shape)[1:]
    if shape is not None:
        shape = (None, 1) if tuple(shape) == (None,) else tuple(shape)  # any number of steps, of one number each
        if not 1 <= len(shape) <= 2 or shape[-1] is None:
            raise ValueError(f"{owner}: input_shape must be (steps, features), not {shape}")
        features = shape[-1]
    return None if features is None else check_count(owner, "the number of features", features)
