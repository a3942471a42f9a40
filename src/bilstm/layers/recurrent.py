"""Layers that read sequences: LSTM, Bidirectional, and Reverse, which restores the order of a backward LSTM."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from bilstm.arguments import check_choice, check_count
from bilstm.engine import plans
from bilstm.engine.library import DirectionStruct, LayerStruct
from bilstm.engine.plans import MERGES
from bilstm.layers.base import REGULARIZERS, Layer, WeightSpec, from_json, to_json
from bilstm.layers.initializers import glorot_uniform, orthogonal
from bilstm.ragged import FloatArray


class LSTM(Layer):
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
        unit_forget_bias: whether the forget gates' biases begin at 1.
        name: what the layer is called.
        keywords: Keras's other arguments, with the values that change nothing here.

    For Keras's `dropout` put a `SpatialDropout1D` before the layer; `recurrent_dropout` is not supported.

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
        **REGULARIZERS,
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
        for argument in ("dropout", "recurrent_dropout"):
            if keywords.get(argument):
                raise ValueError(
                    f"LSTM: {argument}={keywords[argument]!r} is not supported (only 0): for dropout of inputs that is "
                    f"the same at all steps, put SpatialDropout1D({keywords[argument]!r}) before the layer"
                )
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

    def weight_specs(self, features: int) -> list[WeightSpec]:
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

    def plan(self, index: int, features: int) -> LayerStruct:
        direction = DirectionStruct(self.units, reverse=self.go_backwards)
        return plans.recurrent(index, (direction,), return_sequences=self.return_sequences)

    def returns_rows_per_step(self) -> bool:
        return self.return_sequences

    @property
    def needs_whole_sequence(self) -> bool:
        return self.go_backwards


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
        directions = (
            DirectionStruct(self.forward.units, reverse=self.forward.go_backwards),
            DirectionStruct(self.backward.units, reverse=self.backward.go_backwards, flip=True),
        )
        return plans.recurrent(index, directions, self.merge_mode or "concat", self.forward.return_sequences)

    def returns_rows_per_step(self) -> bool:
        return self.forward.return_sequences

    @property
    def needs_whole_sequence(self) -> bool:
        return True


class Reverse(Layer):
    """Reverses the steps of every sequence: after LSTM(go_backwards=True, return_sequences=True), each output stands
    at the step it belongs to. Must follow a recurrent layer with return_sequences=True.
    """

    def output_features(self, features: int) -> int:
        return features

    @property
    def needs_whole_sequence(self) -> bool:
        return True

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name}
