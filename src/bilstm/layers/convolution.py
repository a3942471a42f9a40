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


class Conv1D(Layer):
    """A convolution over time: each step's output is a linear map of the rows around it, and an activation.

    Output: (steps, filters) for a sequence of any number of steps. Beyond its own ends there are zeros, never another
    sequence's steps. Put it before recurrent layers, for patterns of a few steps.

    Weights: kernel (kernel_size, features, filters), bias (filters).

    Args:
        filters: dimensions of an output row.
        kernel_size: how many rows an output is made of.
        strides: 1 only; there is an output for each step.
        padding: "same": a step's own row is in the middle, of an even kernel_size the one before the middle; "causal":
            it is the last, so that no output depends on later steps. One of them must be given: Keras's default,
            "valid", would shorten sequences.
        data_format: None or "channels_last".
        dilation_rate: steps from one of the rows to the next.
        groups: 1 only.
        activation: "linear" (or None), "sigmoid", "softmax", "tanh" or "relu".
        name: what the layer is called.
        keywords: Keras's other arguments, with the values that change nothing here.

    Raises:
        TypeError: filters, kernel_size or dilation_rate is not a whole number, or an argument is unknown.
        ValueError: an argument of Keras's with a value that is not supported, by its name.
    """

    takes: ClassVar[dict[str, Any]] = {
        "use_bias": True,
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
        *,
        name: str | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(name=name, **keywords)
        self.filters = check_count("Conv1D", "filters", filters)
        self.kernel_size = check_count("Conv1D", "kernel_size", _only(kernel_size))
        self.dilation_rate = check_count("Conv1D", "dilation_rate", _only(dilation_rate))
        if _only(strides) != 1:
            raise ValueError(
                f"Conv1D: strides={strides!r} is not supported (only 1): there is an output for each step; to read "
                f"fewer steps, leave them out of the data"
            )
        if padding == "valid":
            raise ValueError(
                "Conv1D: padding='valid' is not supported (only 'same' or 'causal'): this default of Keras's shortens "
                "sequences; pass padding='same', or padding='causal', with which no output depends on later steps"
            )
        self.padding = check_choice("Conv1D", "padding", padding, PADDINGS)
        if data_format not in (None, "channels_last"):
            raise ValueError(
                f"Conv1D: data_format={data_format!r} is not supported (only None or 'channels_last'): give "
                f"sequences as (steps, features)"
            )
        if groups != 1:
            raise ValueError(f"Conv1D: groups={groups!r} is not supported (only 1): each filter reads all features")
        self.activation = check_choice("Conv1D", "activation", activation or "linear", ACTIVATIONS)

    def output_features(self, features: int) -> int:
        return self.filters

    def get_config(self) -> dict[str, Any]:
        return {
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "padding": self.padding,
            "dilation_rate": self.dilation_rate,
            "activation": self.activation,
            "name": self.name,
        }

    def weight_specs(self, features: int) -> list[WeightSpec]:
        kernel = (self.kernel_size, features, self.filters)
        return [WeightSpec("kernel", kernel), WeightSpec("bias", (self.filters,))]

    def initial_weights(self, features: int, random: np.random.Generator) -> list[FloatArray]:
        kernel, bias = self.weight_specs(features)
        return [glorot_uniform(kernel.shape, random), np.zeros(bias.shape, np.float32)]

    @property
    def needs_whole_sequence(self) -> bool:
        return self.kernel_size > 1

    def plan(self, index: int, features: int) -> LayerStruct:
        causal = self.padding == "causal"
        return plans.convolution(index, self.filters, self.kernel_size, self.dilation_rate, causal, self.activation)


def _only(value: Any) -> Any:
    """What Keras takes as a number or as a list of one."""
    return value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value
