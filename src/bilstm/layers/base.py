"""What all layers have in common: shapes, weights, a plan for the engine, and plain data that describe them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bilstm.arguments import check_count, refuse_unsupported
from bilstm.engine.plans import LayerPlan
from bilstm.ragged import FloatArray

LAYERS: dict[str, type[Layer]] = {}  # those that plain data can describe, by their names; the package fills it

# Arguments that any layer of Keras takes and that change nothing here.
_ANY_LAYER: dict[str, Any] = {"trainable": True, "dtype": (None, "float32"), "activity_regularizer": None}
REGULARIZERS = {
    f"{weight}_{kind}": None
    for weight in ("kernel", "recurrent", "bias", "embeddings")
    for kind in ("regularizer", "constraint")
}


@dataclass(frozen=True)
class WeightSpec:
    """The name and shape of one weight array."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


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


def count_parameters(layers: Iterable[Layer], features: int) -> int:
    """The number of weights of a chain of layers for inputs of `features` numbers, without making any of them."""
    total = 0
    for layer in layers:
        total += sum(weight.size for weight in layer.weights(features))
        features = layer.output_features(features)
    return total


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
