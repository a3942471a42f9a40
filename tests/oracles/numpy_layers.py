"""Every layer but recurrent ones in plain NumPy, forward and by hand backward, one sequence at a time.

Semantics are Keras 3's; dropout follows a Philox law of our own (see `Dropout`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
State = tuple[Array, ...]  # h and, of an LSTM, c, each (n_sequences, units)
States = dict[int, list[State]]  # layer index -> one state per direction, forward first


def philox4x32(counter: npt.ArrayLike, key: tuple[int, int]) -> Array:
    """Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).

    Args:
        counter: (n, 4) integers below 2**32.
        key: two integers below 2**32.

    Returns:
        (n, 4) uint32.
    """
    low = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    c0, c1, c2, c3 = np.asarray(counter, np.uint64).T
    for number in range(10):
        k0 = np.uint64((key[0] + number * 0x9E3779B9) & 0xFFFFFFFF)
        k1 = np.uint64((key[1] + number * 0xBB67AE85) & 0xFFFFFFFF)
        product0 = c0 * np.uint64(0xD2511F53)
        product1 = c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (product1 >> shift) ^ c1 ^ k0, product1 & low, (product0 >> shift) ^ c3 ^ k1, product0 & low
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def dropout_keep(rate: float, rows: int, width: int, *, seed: int, layer_index: int, step: int) -> Array:
    """(rows, width) booleans: the elements that dropout keeps in this training step."""
    quads = np.arange((rows * width + 3) // 4, dtype=np.uint64)
    counter = np.empty((len(quads), 4), np.uint64)
    counter[:, 0] = quads & np.uint64(0xFFFFFFFF)
    counter[:, 1] = quads >> np.uint64(32)
    counter[:, 2] = layer_index
    counter[:, 3] = step
    words = philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32)).reshape(-1)[: rows * width]
    return (words >= int(rate * 2**32)).reshape(rows, width)


def sigmoid(x: Array) -> Array:
    small: Array = np.exp(-np.abs(x))
    probabilities: Array = np.where(x >= 0, np.ones_like(x), small) / (1 + small)
    return probabilities


def softmax(x: Array) -> Array:
    powers: Array = np.exp(x - x.max(axis=-1, keepdims=True))
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers


@dataclass
class Context:
    """What one forward pass is told besides its rows."""

    training: bool = False
    seed: int = 0
    step: int = 0
    states: States = field(default_factory=dict)
    final_states: States = field(default_factory=dict)


class Layer:
    """`forward` takes and returns one (steps, width) array per sequence and keeps what `backward` needs.

    `backward` takes the loss's gradient by the output, adds to `gradients` and returns the gradient by the input.
    After a recurrent layer without return_sequences, every array has one row: the sequence's.
    """

    def __init__(self, index: int, width: int, shapes: Sequence[tuple[int, ...]] = ()) -> None:
        self.index = index
        self.output_width = width
        self.shapes = list(shapes)
        self.weights: list[Array] = []
        self.gradients: list[Array] = []

    def set_weights(self, weights: list[Array]) -> None:
        self.weights = weights
        self.gradients = [np.zeros_like(weight) for weight in weights]

    def forward(self, inputs: list[Array], context: Context) -> list[Array]:
        raise NotImplementedError

    def backward(self, gradients: list[Array]) -> list[Array]:
        raise NotImplementedError


class ColumnEmbedding(Layer):
    """Numeric columns pass; each index column after them becomes a row of its table. Embedding is the case (0, 1)."""

    def __init__(self, index: int, width: int, numeric: int, vocabularies: list[int], dimensions: list[int]) -> None:
        if width != numeric + len(vocabularies):
            raise ValueError(f"layer {index} needs {numeric + len(vocabularies)} input columns, not {width}")
        super().__init__(index, numeric + sum(dimensions), list(zip(vocabularies, dimensions, strict=True)))
        self.numeric = numeric

    def forward(self, inputs: list[Array], context: Context) -> list[Array]:
        self.indices = [rows[:, self.numeric :].astype(np.int64) for rows in inputs]
        for indices in self.indices:
            if indices.size and (indices.min() < 0 or (indices.max(axis=0) >= [len(w) for w in self.weights]).any()):
                raise ValueError(f"layer {self.index}: an index lies outside of its vocabulary")
        outputs = []
        for rows, indices in zip(inputs, self.indices, strict=True):
            embedded = [table[column] for table, column in zip(self.weights, indices.T, strict=True)]
            outputs.append(np.concatenate([rows[:, : self.numeric], *embedded], axis=1))
        return outputs

    def backward(self, gradients: list[Array]) -> list[Array]:
        for rows, indices in zip(gradients, self.indices, strict=True):
            start = self.numeric
            for table, column in zip(self.gradients, indices.T, strict=True):
                np.add.at(table, column, rows[:, start : start + table.shape[1]])
                start += table.shape[1]
        # Indices have no gradient, so theirs is zero.
        return [
            np.concatenate([rows[:, : self.numeric], np.zeros(indices.shape, rows.dtype)], axis=1)
            for rows, indices in zip(gradients, self.indices, strict=True)
        ]


class Dropout(Layer):
    """Element (row, column) is number row * width + column; four elements share the Philox counter number // 4.

    Counter (number // 4 low, high, layer index, training step), key (seed low, high). An element is kept where its
    word is at least floor(rate * 2**32), and then multiplied by float32(1 / (1 - rate)). Rows count through the batch.
    """

    def __init__(self, index: int, width: int, rate: float) -> None:
        if not 0 <= rate < 1:
            raise ValueError(f"layer {index}: a dropout rate lies in [0, 1), not at {rate}")
        super().__init__(index, width)
        self.rate = rate

    def forward(self, inputs: list[Array], context: Context) -> list[Array]:
        if not context.training:
            self.factors = [np.ones_like(rows) for rows in inputs]
            return inputs
        boundaries = np.cumsum([len(rows) for rows in inputs])
        total = int(boundaries[-1]) if len(inputs) else 0
        keep = dropout_keep(
            self.rate, total, self.output_width, seed=context.seed, layer_index=self.index, step=context.step
        )
        factors = keep * np.float32(1 / (1 - self.rate))
        self.factors = [
            factors[stop - len(rows) : stop].astype(rows.dtype) for rows, stop in zip(inputs, boundaries, strict=True)
        ]
        return [rows * factor for rows, factor in zip(inputs, self.factors, strict=True)]

    def backward(self, gradients: list[Array]) -> list[Array]:
        return [rows * factor for rows, factor in zip(gradients, self.factors, strict=True)]


class SpatialDropout(Dropout):
    """One mask a sequence: element (sequence's position in the batch, column), counted and drawn as Dropout's are."""

    def forward(self, inputs: list[Array], context: Context) -> list[Array]:
        if not context.training:
            return super().forward(inputs, context)
        drawn = {"seed": context.seed, "layer_index": self.index, "step": context.step}
        keep = dropout_keep(self.rate, len(inputs), self.output_width, **drawn)
        factors = keep * np.float32(1 / (1 - self.rate))
        self.factors = [
            np.tile(factor, (len(rows), 1)).astype(rows.dtype) for rows, factor in zip(inputs, factors, strict=True)
        ]
        return [rows * factor for rows, factor in zip(inputs, self.factors, strict=True)]


class Dense(Layer):
    """Row by row: activation(x @ kernel + bias). Keeps the sums before the activation as `logits`."""

    def __init__(self, index: int, width: int, units: int, activation: str = "linear") -> None:
        if activation not in ("linear", "sigmoid", "softmax", "tanh", "relu"):
            raise ValueError(f"layer {index}: unknown activation {activation!r}")
        super().__init__(index, units, [(width, units), (units,)])
        self.activation = activation

    def forward(self, inputs: list[Array], context: Context) -> list[Array]:
        self.inputs = inputs
        self.logits = [rows @ self.weights[0] + self.weights[1] for rows in inputs]
        self.outputs = [self._activate(logits) for logits in self.logits]
        return self.outputs

    def _activate(self, x: Array) -> Array:
        outputs: dict[str, Callable[[Array], Array]] = {
            "linear": np.copy,
            "sigmoid": sigmoid,
            "softmax": softmax,
            "tanh": np.tanh,
            "relu": lambda x: np.maximum(x, 0),
        }
        return outputs[self.activation](x)

    def _by_logits(self, y: Array, by_y: Array) -> Array:
        gradients: dict[str, Callable[[], Array]] = {
            "linear": lambda: by_y,
            "sigmoid": lambda: by_y * y * (1 - y),
            "softmax": lambda: y * (by_y - (by_y * y).sum(axis=1, keepdims=True)),
            "tanh": lambda: by_y * (1 - y**2),
            "relu": lambda: by_y * (y > 0),
        }
        return gradients[self.activation]()

    def backward(self, gradients: list[Array]) -> list[Array]:
        return self.backward_from_logits(
            [self._by_logits(y, by_y) for y, by_y in zip(self.outputs, gradients, strict=True)]
        )

    def backward_from_logits(self, gradients: list[Array]) -> list[Array]:
        for x, by_logits in zip(self.inputs, gradients, strict=True):
            self.gradients[0] += x.T @ by_logits
            self.gradients[1] += by_logits.sum(axis=0)
        return [by_logits @ self.weights[0].T for by_logits in gradients]


class Pooling(Layer):
    """Every sequence's mean, or the largest of each number; equal largest ones share the gradient."""

    def __init__(self, index: int, width: int, pool: str) -> None:
        super().__init__(index, width)
        self.pool = pool

    def forward(self, inputs: list[Array], context: Context) -> list[Array]:
        if self.pool == "average":
            self.shares = [np.full_like(rows, 1 / len(rows)) for rows in inputs]
            return [rows.mean(axis=0, keepdims=True) for rows in inputs]
        outputs = [rows.max(axis=0, keepdims=True) for rows in inputs]
        largest = [(rows == most).astype(rows.dtype) for rows, most in zip(inputs, outputs, strict=True)]
        self.shares = [ones / ones.sum(axis=0) for ones in largest]
        return outputs

    def backward(self, gradients: list[Array]) -> list[Array]:
        return [shares * row for shares, row in zip(self.shares, gradients, strict=True)]


class AttentionPooling(Layer):
    """Every sequence's rows x, weighted by softmax(query · tanh(x W + b)) over its steps; Yang et al. 2016."""

    def __init__(self, index: int, width: int, units: int) -> None:
        super().__init__(index, width, [(width, units), (units,), (units,)])

    def forward(self, inputs: list[Array], context: Context) -> list[Array]:
        kernel, bias, query = self.weights
        self.inputs = inputs
        self.hidden = [np.tanh(rows @ kernel + bias) for rows in inputs]
        self.shares = [softmax(hidden @ query) for hidden in self.hidden]
        return [(shares @ rows)[np.newaxis] for shares, rows in zip(self.shares, inputs, strict=True)]

    def backward(self, gradients: list[Array]) -> list[Array]:
        kernel, _, query = self.weights
        by_kernel, by_bias, by_query = self.gradients
        by_inputs = []
        for rows, hidden, shares, (gradient,) in zip(self.inputs, self.hidden, self.shares, gradients, strict=True):
            by_shares = rows @ gradient
            by_scores = shares * (by_shares - shares @ by_shares)
            by_query += by_scores @ hidden
            by_sums = np.outer(by_scores, query) * (1 - hidden**2)
            by_kernel += rows.T @ by_sums
            by_bias += by_sums.sum(axis=0)
            by_inputs.append(np.outer(shares, gradient) + by_sums @ kernel.T)
        return by_inputs


class Reverse(Layer):
    """The steps of every sequence in reversed order."""

    def forward(self, inputs: list[Array], context: Context) -> list[Array]:
        return [rows[::-1] for rows in inputs]

    def backward(self, gradients: list[Array]) -> list[Array]:
        return [rows[::-1] for rows in gradients]
