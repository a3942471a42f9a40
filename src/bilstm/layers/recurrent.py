"""Layers that read sequences: LSTM, GRU, SimpleRNN, Bidirectional, and Reverse, which restores the order of a backward
layer.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np

from bilstm.arguments import check_choice, check_count
from bilstm.engine import plans
from bilstm.engine.library import DirectionStruct, LayerStruct
from bilstm.engine.plans import GATES, MERGES
from bilstm.layers.base import REGULARIZERS, Layer, WeightSpec, from_json, to_json
from bilstm.layers.initializers import glorot_uniform, orthogonal
from bilstm.ragged import FloatArray

# Keras's arguments that all recurrent layers take, with the values that change nothing.
_ANY_CELL: dict[str, Any] = {
    "kernel_initializer": "glorot_uniform",
    "recurrent_initializer": "orthogonal",
    "bias_initializer": "zeros",
    "dropout": (0, 0.0),
    "recurrent_dropout": (0, 0.0),
    "seed": None,
    "return_state": False,
    "stateful": False,
    "unroll": (False, True),
    "time_major": False,
    **REGULARIZERS,
}
_GATED: dict[str, Any] = {
    "activation": "tanh",
    "use_cudnn": ("auto", False),
    "implementation": (1, 2),
    **_ANY_CELL,
}


# Keras's arguments that have one value here, and what to do instead of another, for which {} stands.
_DROPOUT = "for dropout of inputs that is the same at all steps, put SpatialDropout1D({}) before the layer"
_STATES = "to carry states from one part of a sequence to the next, use the model's stream()"
_FIXED: dict[str, tuple[Any, str]] = {
    "dropout": (0, _DROPOUT),
    "recurrent_dropout": (0, _DROPOUT),
    "return_state": (False, _STATES),
    "stateful": (False, _STATES),
}


class Recurrent(Layer):
    """What `LSTM`, `GRU` and `SimpleRNN` have in common: a cell that reads each sequence step by step.

    Attributes:
        units: dimensions of the state and of an output row.
        return_sequences: whether there is an output row for each step.
        go_backwards: whether sequences are read from their last step.
        use_bias: whether there are biases.
    """

    gates: ClassVar[int]  # blocks of `units` columns in the weights
    own: ClassVar[tuple[str, ...]] = ()  # arguments of the class's own, for get_config
    recurrent_activation: str = "sigmoid"  # of gates, where there are any

    def __init__(
        self,
        units: int,
        *,
        return_sequences: bool = False,
        go_backwards: bool = False,
        use_bias: bool = True,
        name: str | None = None,
        **keywords: Any,
    ) -> None:
        owner = type(self).__name__
        for argument, (only, advice) in _FIXED.items():
            if value := keywords.get(argument):
                instead = advice.format(repr(value))
                raise ValueError(f"{owner}: {argument}={value!r} is not supported (only {only}): {instead}")
        super().__init__(name=name, **keywords)
        self.units = check_count(owner, "units", units)
        self.return_sequences = bool(return_sequences)
        self.go_backwards = bool(go_backwards)
        self.use_bias = bool(check_choice(owner, "use_bias", use_bias, (False, True)))

    @property
    @abstractmethod
    def cell(self) -> str:
        """One of the engine's kinds of cells."""

    def output_features(self, features: int) -> int:
        return self.units

    def get_config(self) -> dict[str, Any]:
        return {
            "units": self.units,
            "return_sequences": self.return_sequences,
            "go_backwards": self.go_backwards,
            "use_bias": self.use_bias,
            **{argument: getattr(self, argument) for argument in self.own},
            "name": self.name,
        }

    def weight_specs(self, features: int) -> list[WeightSpec]:
        columns = self.gates * self.units
        bias = [WeightSpec("bias", self.bias_shape())] if self.use_bias else []
        return [
            WeightSpec("kernel", (features, columns)),
            WeightSpec("recurrent_kernel", (self.units, columns)),
            *bias,
        ]

    def bias_shape(self) -> tuple[int, ...]:
        return (self.gates * self.units,)

    def initial_weights(self, features: int, random: np.random.Generator) -> list[FloatArray]:
        kernel, recurrent_kernel, *bias = self.weight_specs(features)
        return [
            glorot_uniform((features, kernel.shape[1]), random),
            orthogonal((self.units, recurrent_kernel.shape[1]), random),
            *(np.zeros(each.shape, np.float32) for each in bias),
        ]

    def direction(self, *, flip: bool = False) -> DirectionStruct:
        """How the engine runs the layer, as one direction; `flip` stores outputs from a sequence's last step on."""
        return plans.direction(
            self.cell,
            self.units,
            self.recurrent_activation,
            use_bias=self.use_bias,
            reverse=self.go_backwards,
            flip=flip,
        )

    def plan(self, index: int, features: int) -> LayerStruct:
        return plans.recurrent(index, (self.direction(),), return_sequences=self.return_sequences)

    def returns_rows_per_step(self) -> bool:
        return self.return_sequences

    @property
    def needs_whole_sequence(self) -> bool:
        return self.go_backwards


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997; forget gates of Gers et al. 2000), as in Keras.

    Input rows are steps. Output: (steps, units) with return_sequences, else (units,) for each sequence, from its
    last processed step. With go_backwards sequences are processed from their last step, and, as in Keras, the output
    sequence is in the order of processing; `Reverse` turns it back, `Bidirectional` does so by itself.

    Weights: kernel (features, 4·units), recurrent_kernel (units, 4·units), bias (4·units), gates in the order
    i, f, c, o.

    Args:
        units: dimensions of the state and of an output row.
        return_sequences: whether there is an output row for each step.
        go_backwards: whether sequences are read from their last step.
        use_bias: whether there are biases; without, `get_weights` has no array for them.
        unit_forget_bias: whether the forget gates' biases begin at 1.
        recurrent_activation: of the gates: "sigmoid" (default); "hard_sigmoid", in Keras 3 clip(x / 6 + 0.5, 0, 1); or
            "hard_sigmoid_keras2", Keras 2's meaning of "hard_sigmoid", clip(0.2 x + 0.5, 0, 1), which was the default
            of its earlier versions.
        name: what the layer is called.
        keywords: Keras's other arguments, with the values that change nothing here.

    For Keras's `dropout` put a `SpatialDropout1D` before the layer; `recurrent_dropout` is not supported.

    Raises:
        ValueError: an argument of Keras's with a value that is not supported, by its name.
    """

    gates = 4
    own = ("unit_forget_bias", "recurrent_activation")
    takes: ClassVar[dict[str, Any]] = _GATED

    def __init__(
        self,
        units: int,
        *,
        return_sequences: bool = False,
        go_backwards: bool = False,
        use_bias: bool = True,
        unit_forget_bias: bool = True,
        recurrent_activation: str = "sigmoid",
        name: str | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(
            units,
            return_sequences=return_sequences,
            go_backwards=go_backwards,
            use_bias=use_bias,
            name=name,
            **keywords,
        )
        self.unit_forget_bias = bool(unit_forget_bias)
        self.recurrent_activation = check_choice("LSTM", "recurrent_activation", recurrent_activation, GATES)

    @property
    def cell(self) -> str:
        return "lstm"

    def initial_weights(self, features: int, random: np.random.Generator) -> list[FloatArray]:
        kernel, recurrent_kernel, *bias = super().initial_weights(features, random)
        for gates in bias if self.unit_forget_bias else []:
            gates[self.units : 2 * self.units] = 1.0
        return [kernel, recurrent_kernel, *bias]


class GRU(Recurrent):
    """Gated recurrent unit (Cho et al. 2014), as in Keras: an update gate z, a reset gate r and a candidate h.

    Input rows are steps. Output: (steps, units) with return_sequences, else (units,) for each sequence, from its
    last processed step. With go_backwards sequences are processed from their last step, and, as in Keras, the output
    sequence is in the order of processing; `Reverse` turns it back, `Bidirectional` does so by itself.

    Weights: kernel (features, 3·units), recurrent_kernel (units, 3·units), gates in the order z, r, h, and bias: with
    reset_after (2, 3·units), of the inputs and of the recurrent product, else (3·units).

    Args:
        units: dimensions of the state and of an output row.
        return_sequences: whether there is an output row for each step.
        go_backwards: whether sequences are read from their last step.
        use_bias: whether there are biases; without, `get_weights` has no array for them.
        reset_after: whether the reset gate is applied after the recurrent product, as in Keras by default, or before
            it, as in the paper and in files of Keras 1.
        recurrent_activation: of the gates: "sigmoid" (default); "hard_sigmoid", in Keras 3 clip(x / 6 + 0.5, 0, 1); or
            "hard_sigmoid_keras2", Keras 2's meaning of "hard_sigmoid", clip(0.2 x + 0.5, 0, 1), which was the default
            of its earlier versions.
        name: what the layer is called.
        keywords: Keras's other arguments, with the values that change nothing here.

    For Keras's `dropout` put a `SpatialDropout1D` before the layer; `recurrent_dropout` is not supported.

    Raises:
        ValueError: an argument of Keras's with a value that is not supported, by its name.
    """

    gates = 3
    own = ("reset_after", "recurrent_activation")
    takes: ClassVar[dict[str, Any]] = _GATED

    def __init__(
        self,
        units: int,
        *,
        return_sequences: bool = False,
        go_backwards: bool = False,
        use_bias: bool = True,
        reset_after: bool = True,
        recurrent_activation: str = "sigmoid",
        name: str | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(
            units,
            return_sequences=return_sequences,
            go_backwards=go_backwards,
            use_bias=use_bias,
            name=name,
            **keywords,
        )
        self.reset_after = bool(reset_after)
        self.recurrent_activation = check_choice("GRU", "recurrent_activation", recurrent_activation, GATES)

    @property
    def cell(self) -> str:
        return "gru" if self.reset_after else "gru_reset_before"

    def bias_shape(self) -> tuple[int, ...]:
        return (2, *super().bias_shape()) if self.reset_after else super().bias_shape()


class SimpleRNN(Recurrent):
    """A recurrent layer without gates (Elman 1990), as in Keras: h = activation(x W + h U + b).

    Input rows are steps. Output: (steps, units) with return_sequences, else (units,) for each sequence, from its
    last processed step. With go_backwards sequences are processed from their last step, and, as in Keras, the output
    sequence is in the order of processing; `Reverse` turns it back, `Bidirectional` does so by itself.

    Weights: kernel (features, units), recurrent_kernel (units, units), bias (units).

    Args:
        units: dimensions of the state and of an output row.
        activation: "tanh" (default) or "relu".
        return_sequences: whether there is an output row for each step.
        go_backwards: whether sequences are read from their last step.
        use_bias: whether there are biases; without, `get_weights` has no array for them.
        name: what the layer is called.
        keywords: Keras's other arguments, with the values that change nothing here.

    For Keras's `dropout` put a `SpatialDropout1D` before the layer; `recurrent_dropout` is not supported.

    Raises:
        ValueError: an argument of Keras's with a value that is not supported, by its name.
    """

    gates = 1
    own = ("activation",)
    takes: ClassVar[dict[str, Any]] = _ANY_CELL

    def __init__(
        self,
        units: int,
        activation: str = "tanh",
        *,
        return_sequences: bool = False,
        go_backwards: bool = False,
        use_bias: bool = True,
        name: str | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(
            units,
            return_sequences=return_sequences,
            go_backwards=go_backwards,
            use_bias=use_bias,
            name=name,
            **keywords,
        )
        self.activation = check_choice("SimpleRNN", "activation", activation, ("tanh", "relu"))

    @property
    def cell(self) -> str:
        return f"simple_{self.activation}"


class Bidirectional(Layer):
    """Two recurrent layers, one reading each sequence from its first step, one from its last; Schuster & Paliwal 1997.

    Their outputs are merged at each step, or, without return_sequences, after the last step each has processed.

    Args:
        layer: the LSTM, GRU or SimpleRNN that reads forward.
        merge_mode: "concat" (default), "sum", "mul", "ave", or None for two outputs, possible in a last layer only.
        backward_layer: the layer that reads backward, with go_backwards=True; made like `layer` if left out. It may be
            of another class. For merge modes other than "concat" and None it needs as many units.

    Weights: the forward layer's, then the backward layer's.
    """

    takes: ClassVar[dict[str, Any]] = {"weights": None}

    def __init__(
        self,
        layer: Recurrent,
        merge_mode: str | None = "concat",
        backward_layer: Recurrent | None = None,
        *,
        name: str | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(name=name, **keywords)
        for argument, value in (("layer", layer), ("backward_layer", backward_layer)):
            if not isinstance(value, Recurrent) and not (argument == "backward_layer" and value is None):
                raise TypeError(f"Bidirectional: {argument} must be an LSTM, GRU or SimpleRNN, not {value!r}")
        self.merge_mode = check_choice("Bidirectional", "merge_mode", merge_mode, (*MERGES, None))
        self.layer = layer
        self.backward_layer = backward_layer
        self.forward = layer
        self.backward = backward_layer or type(layer)(**layer.get_config() | {"go_backwards": not layer.go_backwards})
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

    def weight_specs(self, features: int) -> list[WeightSpec]:
        return [
            WeightSpec(f"{direction}_{weight.name}", weight.shape)
            for direction, layer in (("forward", self.forward), ("backward", self.backward))
            for weight in layer.weight_specs(features)
        ]

    def initial_weights(self, features: int, random: np.random.Generator) -> list[FloatArray]:
        return [*self.forward.initial_weights(features, random), *self.backward.initial_weights(features, random)]

    def plan(self, index: int, features: int) -> LayerStruct:
        # The second layer's output is reversed in time to line up with the first's.
        directions = self.forward.direction(), self.backward.direction(flip=True)
        return plans.recurrent(index, directions, self.merge_mode or "concat", self.forward.return_sequences)

    def returns_rows_per_step(self) -> bool:
        return self.forward.return_sequences

    @property
    def needs_whole_sequence(self) -> bool:
        return True


class Reverse(Layer):
    """Reverses the steps of every sequence: after a recurrent layer with go_backwards=True and return_sequences=True,
    each output stands at the step it belongs to. Must follow a recurrent layer with return_sequences=True.
    """

    def output_features(self, features: int) -> int:
        return features

    @property
    def needs_whole_sequence(self) -> bool:
        return True

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name}
