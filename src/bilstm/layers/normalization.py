"""BatchNormalization, which gives each column mean 0 and variance 1."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from bilstm.arguments import check_choice, check_number
from bilstm.engine import plans
from bilstm.engine.library import LayerStruct
from bilstm.layers.base import Layer, WeightSpec
from bilstm.ragged import FloatArray

_INITIALIZERS = {"zeros": 0.0, "ones": 1.0}
_WEIGHTS = ("gamma", "beta", "moving_mean", "moving_variance")


class BatchNormalization(Layer):
    """Scales each column to mean 0 and variance 1, times gamma, plus beta, which are learned.

    Training takes a column's mean and variance over all rows of the batch, as Keras does over those that are not
    masked: steps without labels count, too. It moves moving averages of them, with which predictions, evaluation and
    validation then work: so a row's output depends on that row alone. A batch without any labelled row, in which
    nothing is learned, does not move them. Input: rows of steps, or a row for each sequence.

    Keras's layer of the same name: Ioffe & Szegedy, "Batch normalization", 2015.

    Weights: gamma (features), beta (features), moving_mean (features), moving_variance (features): the first two
    unless `scale` or `center` is False.

    Args:
        axis: -1, or 2 for sequences: columns are what is normalized.
        momentum: what the moving averages keep of themselves in a training step, from 0 to 1.
        epsilon: what is added to variances, above 0.
        center: whether there is a beta.
        scale: whether there is a gamma.
        beta_initializer, gamma_initializer, moving_mean_initializer, moving_variance_initializer: "zeros" or "ones".
        name: what the layer is called.
        keywords: Keras's other arguments, with the values that change nothing here.

    Raises:
        TypeError: an argument is unknown.
        ValueError: an argument of Keras's with a value that is not supported, by its name.
    """

    takes: ClassVar[dict[str, Any]] = {
        **{f"{weight}_{kind}": None for weight in ("beta", "gamma") for kind in ("regularizer", "constraint")},
        "axis": (-1, 2),
        "synchronized": False,
        "renorm": False,
        "renorm_clipping": None,
        "renorm_momentum": 0.99,
        "virtual_batch_size": None,
        "fused": (None, True, False),
    }

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 0.001,
        center: bool = True,
        scale: bool = True,
        beta_initializer: str = "zeros",
        gamma_initializer: str = "ones",
        moving_mean_initializer: str = "zeros",
        moving_variance_initializer: str = "ones",
        *,
        name: str | None = None,
        **keywords: Any,
    ) -> None:
        owner = type(self).__name__
        super().__init__(name=name, axis=axis, **keywords)
        self.momentum = check_number(owner, "momentum", momentum)
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"{owner}: momentum must be from 0 to 1, not {momentum!r}")
        self.epsilon = check_number(owner, "epsilon", epsilon)
        if not 0 < np.float32(self.epsilon) < math.inf:
            raise ValueError(f"{owner}: epsilon must be above 0, not {epsilon!r}")
        self.center = bool(check_choice(owner, "center", center, (False, True)))
        self.scale = bool(check_choice(owner, "scale", scale, (False, True)))
        self.beta_initializer = check_choice(owner, "beta_initializer", beta_initializer, _INITIALIZERS)
        self.gamma_initializer = check_choice(owner, "gamma_initializer", gamma_initializer, _INITIALIZERS)
        self.moving_mean_initializer = check_choice(
            owner, "moving_mean_initializer", moving_mean_initializer, _INITIALIZERS
        )
        self.moving_variance_initializer = check_choice(
            owner, "moving_variance_initializer", moving_variance_initializer, _INITIALIZERS
        )

    def output_features(self, features: int) -> int:
        return features

    def get_config(self) -> dict[str, Any]:
        initializers = {f"{weight}_initializer": getattr(self, f"{weight}_initializer") for weight in _WEIGHTS}
        return {
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "center": self.center,
            "scale": self.scale,
            **initializers,
            "name": self.name,
        }

    def weight_specs(self, features: int) -> list[WeightSpec]:
        there = {"gamma": self.scale, "beta": self.center}
        return [
            WeightSpec(weight, (features,), negative=weight != "moving_variance")
            for weight in _WEIGHTS
            if there.get(weight, True)
        ]

    def initial_weights(self, features: int, random: np.random.Generator) -> list[FloatArray]:
        return [
            np.full(weight.shape, _INITIALIZERS[getattr(self, f"{weight.name}_initializer")], np.float32)
            for weight in self.weight_specs(features)
        ]

    def plan(self, index: int, features: int) -> LayerStruct:
        return plans.batch_normalization(index, self.momentum, self.epsilon, center=self.center, scale=self.scale)
