"""What all layers have in common: shapes, weights, a plan for the engine, and plain data that describe them.

Calling a layer on an `Input`, or on what calling another layer returned, makes a chain of layers, a `Symbol`, of which
`bilstm.Model` makes a model: Keras's functional style, as far as it goes without branches.
"""

from __future__ import annotations

import math
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bilstm.arguments import call_of, check_count, refuse_unsupported
from bilstm.engine.library import LayerStruct
from bilstm.ragged import FloatArray

if TYPE_CHECKING:
    from bilstm.models import Sequential

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
    """The name and shape of one weight array, and whether there may be negative numbers in it."""

    name: str
    shape: tuple[int, ...]
    negative: bool = True

    @property
    def size(self) -> int:
        return math.prod(self.shape)


class Layer(ABC):
    """A layer. `input_shape=(steps, features)`, or `input_dim=features`, on a model's first layer builds the model
    at once; steps may be None and are not enforced: sequences may have any length.
    """

    _owner: tuple[weakref.ref[Sequential], int] | None = None  # the model it was built into, and its index there
    takes: ClassVar[dict[str, Any]] = {}  # further arguments of Keras's, with the values that change nothing

    def __init__(self, *, name: str | None = None, **keywords: Any) -> None:
        self.name = name
        self.input_features = _input_features(type(self).__name__, keywords)
        refuse_unsupported(type(self).__name__, keywords, _ANY_LAYER | self.takes)

    def __call__(self, inputs: Any) -> Symbol:
        """The chain that ends with this layer.

        Args:
            inputs: an `Input`, or what calling another layer returned.

        Raises:
            ValueError: `inputs` is something else, such as an array, or several of them.
        """
        if isinstance(inputs, (Input, Symbol)):
            return Symbol((*inputs.chain, self))
        if isinstance(inputs, (list, tuple)):
            raise ValueError(
                f"{self!r} was called on {len(inputs)} inputs: a model of bilstm is one chain of layers, which cannot "
                f"merge branches"
            )
        raise ValueError(
            f"{self!r} was called on a {type(inputs).__name__}: call it on an Input or on another layer's output, make "
            f"a model of the last one with bilstm.Model, and give arrays to the model's predict"
        )

    def __repr__(self) -> str:
        return call_of(self)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_owner"}

    @abstractmethod
    def output_features(self, features: int) -> int:
        """The dimensions of an output row, for input rows of `features` dimensions."""

    @abstractmethod
    def get_config(self) -> dict[str, Any]:
        """Plain data from which `from_config` makes the same layer."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Layer:
        return cls(**config)

    def weight_specs(self, features: int) -> list[WeightSpec]:
        """The names and shapes of the weight arrays, in the order of `get_weights`."""
        return []

    def _built(self) -> tuple[Sequential, slice]:
        """The model that this layer was built into, and where its arrays are among the model's."""
        model = self._owner and self._owner[0]()
        if self._owner is None or model is None:
            raise ValueError(f"{self!r} has no weights of its own yet: it is not part of a model that is built")
        return model, model._weights_of(self._owner[1])

    def get_weights(self) -> list[FloatArray]:
        """The layer's weight arrays, float32 copies, in the order that its class describes.

        Raises:
            ValueError: the layer is not part of a model that is built.
        """
        model, own = self._built()
        return model.get_weights()[own]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Set the layer's weight arrays, in the order of `get_weights`.

        Raises:
            ValueError: another number of arrays, another shape, a value that is not finite, or a layer that is not part
                of a model that is built.
        """
        model, own = self._built()
        arrays: list[Any] = list(model.get_weights())
        if len(weights) != len(arrays[own]):
            raise ValueError(f"set_weights: {self!r} has {len(arrays[own])} weight arrays, not {len(weights)}")
        arrays[own] = weights
        model.set_weights(arrays)

    @property
    def weights(self) -> list[FloatArray]:
        """What `get_weights` returns."""
        return self.get_weights()

    def count_params(self) -> int:
        """The number of values in all weight arrays of the layer."""
        return sum(array.size for array in self.get_weights())

    def initial_weights(self, features: int, random: np.random.Generator) -> list[FloatArray]:
        return []

    def plan(self, index: int, features: int) -> LayerStruct | None:
        """How the engine runs the layer, or None where nothing is to be done."""
        return None

    def returns_rows_per_step(self) -> bool:
        """Whether there is an output row for every input row, rather than one for each sequence."""
        return True

    @property
    def needs_whole_sequence(self) -> bool:
        """Whether an output depends on more of its sequence than its step and the recurrent states before it."""
        return False


class Input(Layer):
    """The shape of a model's input: `Input((steps, features))`; steps may be None. `Input((None,))`, or before an
    `Embedding` `Input((steps,))`, is one value per step.
    """

    def __init__(self, shape: Sequence[int | None], *, name: str | None = None, **keywords: Any) -> None:
        super().__init__(name=name, input_shape=shape, **keywords)
        self.shape = tuple(shape)

    takes: ClassVar[dict[str, Any]] = {
        "batch_size": None,
        "sparse": False,
        "ragged": False,
        "dtype": (None, "float32", "int32", "int64"),
    }

    @property
    def chain(self) -> tuple[Layer, ...]:
        """The layers up to this one."""
        return (self,)

    def output_features(self, features: int) -> int:
        return features

    def get_config(self) -> dict[str, Any]:
        return {"shape": [None, self.input_features], "name": self.name}


def count_parameters(layers: Iterable[Layer], features: int) -> int:
    """The number of weights of a chain of layers for inputs of `features` numbers, without making any of them."""
    total = 0
    for layer in layers:
        total += sum(weight.size for weight in layer.weight_specs(features))
        features = layer.output_features(features)
    return total


class Symbol:
    """What calling a layer returns: it stands for the layer's output.

    Attributes:
        chain: the layers up to that one, first an `Input`.
    """

    def __init__(self, chain: tuple[Layer, ...]) -> None:
        self.chain = chain

    def __repr__(self) -> str:
        return f"Symbol(output of {self.chain[-1]!r}, layer {len(self.chain) - 1} after the Input)"


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
