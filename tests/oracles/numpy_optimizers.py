"""Keras 3's Adam and SGD in plain NumPy, with its three ways of clipping gradients and its weight decay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from oracles.numpy_layers import Array


@dataclass(kw_only=True)
class Clipping:
    """At most one of: each array's norm at most clipnorm, all arrays' common norm at most global_clipnorm, or

    each element within -clipvalue and clipvalue. And decoupled weight decay: Loshchilov & Hutter 2019.
    """

    clipnorm: float | None = None
    global_clipnorm: float | None = None
    clipvalue: float | None = None
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if sum(limit is not None for limit in (self.clipnorm, self.global_clipnorm, self.clipvalue)) > 1:
            raise ValueError("only one of clipnorm, global_clipnorm and clipvalue can be set")

    def clip(self, gradients: Sequence[Array]) -> list[Array]:
        if self.clipnorm is not None:
            return [g * (self.clipnorm / max(norm([g]), self.clipnorm)) for g in gradients]
        if self.global_clipnorm is not None:
            scale = self.global_clipnorm / max(norm(gradients), self.global_clipnorm)
            return [g * scale for g in gradients]
        if self.clipvalue is not None:
            return [np.clip(g, -self.clipvalue, self.clipvalue) for g in gradients]
        return list(gradients)

    def decayed(self, weights: Sequence[Array], learning_rate: float) -> list[Array]:
        return [w - w * self.weight_decay * learning_rate for w in weights]


def norm(arrays: Sequence[Array]) -> float:
    """The square root of the sum of the squares of all elements of all arrays."""
    return float(np.sqrt(sum(float((array.astype(np.float64) ** 2).sum()) for array in arrays)))


@dataclass(kw_only=True)
class Adam(Clipping):
    """keras.optimizers.Adam: `update` takes weights and gradients and returns new weights; moments live here."""

    learning_rate: float = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    iterations: int = 0
    m: list[Array] = field(default_factory=list)
    v: list[Array] = field(default_factory=list)

    def update(self, weights: Sequence[Array], gradients: Sequence[Array]) -> list[Array]:
        if not self.iterations:
            self.m = [np.zeros_like(w) for w in weights]
            self.v = [np.zeros_like(w) for w in weights]
        self.iterations += 1
        t = self.iterations
        alpha = self.learning_rate * (1 - self.beta_2**t) ** 0.5 / (1 - self.beta_1**t)
        updated = []
        decayed = self.decayed(weights, self.learning_rate)
        for w, g, m, v in zip(decayed, self.clip(gradients), self.m, self.v, strict=True):
            m += (g - m) * (1 - self.beta_1)
            v += (g * g - v) * (1 - self.beta_2)
            updated.append(w - m * alpha / (np.sqrt(v) + self.epsilon))
        return updated


@dataclass(kw_only=True)
class SGD(Clipping):
    """keras.optimizers.SGD, with momentum, Nesterov's or the plain one."""

    learning_rate: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    m: list[Array] = field(default_factory=list)

    def update(self, weights: Sequence[Array], gradients: Sequence[Array]) -> list[Array]:
        if not self.m:
            self.m = [np.zeros_like(w) for w in weights]
        updated = []
        decayed = self.decayed(weights, self.learning_rate)
        for number, (w, g) in enumerate(zip(decayed, self.clip(gradients), strict=True)):
            self.m[number] = self.momentum * self.m[number] - self.learning_rate * g
            step = self.momentum * self.m[number] - self.learning_rate * g if self.nesterov else self.m[number]
            updated.append(w + step)
        return updated
