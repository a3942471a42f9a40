"""Conv1D, which makes each step's row of the rows around it."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from bilstm.arguments import check_choice, check_count
from bilstm.engine import plans
from bilstm.engine.library import LayerStruct
from bilstm.engine.plans import ACTIVATIONS
from bilstm.layers.base import REGULARIZERS, Layer, WeightSpec
from bilstm.layers.initializers import glorot_uniform
from bilstm.ragged import FloatArray

PADDINGS = ("same", "causal")
# Arguments that have one value here, and what to do instead of another.
_FIXED: dict[str, tuple[tuple[Any, ...], str]] = {
    "strides": ((1,), "there is an output for each step; to read fewer steps, leave them out of the data"),
    "data_format": ((None, "channels_last"), "give sequences as (steps, features)"),
    "groups": ((1,), "each filter reads all features"),
}


class Conv1D(Layer):
    """A convolution over time: each step's output is a linear map of the rows around it, and an activation.

    Output: (steps, filters) for a sequence of any number of steps. Beyond its own ends there are zeros, never another
    sequence's steps. Put it before recurrent layers, for patterns of a few steps.

    Weights: kernel (kernel_size, features, filters), bias (filters).

    Args:
        filters: dimensions of an output row.
        kernel_size: how many rows an output is made of.
        strides: 1 only; there is an output for each step.
        padding: "same": the rows lie around the step's own, with an even kernel_size half a step further ahead than
            back; "causal": its own is the last, so that no output depends on later steps. One of them must be given:
            Keras's default, "valid", would shorten sequences.
        data_format: None or "channels_last".
        dilation_rate: steps from one of the rows to the next.
        groups: 1 only.
        activation: "linear" (or None), "sigmoid", "softmax", "tanh" or "relu".
        use_bias: whether there are biases; without, `get_weights` has no array for them.
        name: what the layer is called.
        keywords: Keras's other arguments, with the values that change nothing here.

    Raises:
        TypeError: filters, kernel_size or dilation_rate is not a whole number, or an argument is unknown.
        ValueError: an argument of Keras's with a value that is not supported, by its name.
    """

    takes: ClassVar[dict[str, Any]] = {
        **{argument: only for argument, (only, _) in _FIXED.items()},
        "kernel_initializer": "glorot_uniform",
        "bias_initializer": "zeros",
        "lora_rank": None,
        **REGULARIZERS,
    }

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        strides: int = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int = 1,
        groups: int = 1,
        activation: str | None = None,
        use_bias: bool = True,
        *,
        name: str | None = None,
        **keywords: Any,
    ) -> None:
        arguments = {"strides": strides, "data_format": data_format, "groups": groups}
        fixed = {argument: _only(value) for argument, value in arguments.items()}
        for argument, (only, advice) in _FIXED.items():
            if fixed[argument] not in only:
                allowed = " or ".join(map(repr, only))
                raise ValueError(
                    f"Conv1D: {argument}={arguments[argument]!r} is not supported (only {allowed}): {advice}"
                )
        super().__init__(name=name, **fixed, **keywords)
        self.filters = check_count("Conv1D", "filters", filters)
        self.kernel_size = check_count("Conv1D", "kernel_size", _only(kernel_size))
        self.dilation_rate = check_count("Conv1D", "dilation_rate", _only(dilation_rate))
        if padding == "valid":
            raise ValueError(
                "Conv1D: padding='valid' is not supported (only 'same' or 'causal'): this default of Keras's shortens "
                "sequences; pass padding='same', or padding='causal', with which no output depends on later steps"
            )
        self.padding = check_choice("Conv1D", "padding", padding, PADDINGS)
        self.activation = check_choice("Conv1D", "activation", activation or "linear", ACTIVATIONS)
        self.use_bias = bool(check_choice("Conv1D", "use_bias", use_bias, (False, True)))

    def output_features(self, features: int) -> int:
        return self.filters

    def get_config(self) -> dict[str, Any]:
        return {
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "padding": self.padding,
            "dilation_rate": self.dilation_rate,
            "activation": self.activation,
            "use_bias": self.use_bias,
            "name": self.name,
        }

    def weight_specs(self, features: int) -> list[WeightSpec]:
        kernel = (self.kernel_size, features, self.filters)
        bias = [WeightSpec("bias", (self.filters,))] if self.use_bias else []
        return [WeightSpec("kernel", kernel), *bias]

    def initial_weights(self, features: int, random: np.random.Generator) -> list[FloatArray]:
        kernel, *bias = self.weight_specs(features)
        return [glorot_uniform(kernel.shape, random), *(np.zeros(each.shape, np.float32) for each in bias)]

    @property
    def needs_whole_sequence(self) -> bool:
        return self.kernel_size > 1

    def plan(self, index: int, features: int) -> LayerStruct:
        causal = self.padding == "causal"
        return plans.convolution(
            index,
            self.filters,
            self.kernel_size,
            self.dilation_rate,
            causal,
            self.activation,
            use_bias=self.use_bias,
        )


def _only(value: Any) -> Any:
    """What Keras takes as a number or as a list of one."""
    return value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value
