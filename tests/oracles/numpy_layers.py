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


def dropout_keep(rate: float, rows: int, width: int, **drawn: int) -> Array:
    """(rows, width) booleans: the elements of a sequence that dropout keeps in this training step."""
    return dropout_words(rows, width, **drawn) >= int(rate * 2**32)


def dropout_words(rows: int, width: int, *, seed: int, position: int, layer_index: int, step: int) -> Array:
    """(rows, width) integers below 2**32, random: for the elements of a sequence in this training step."""
    quads = np.arange((rows * width + 3) // 4, dtype=np.uint64)
    counter = np.empty((len(quads), 4), np.uint64)
    counter[:, 0] = quads
    counter[:, 1] = position
    counter[:, 2] = layer_index
    counter[:, 3] = step
    words = philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32)).reshape(-1)[: rows * width]
    return words.reshape(rows, width).astype(np.int64)


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
    words: list[Array] = field(default_factory=list)  # each (rows, features)
    states: States = field(default_factory=dict)
    final_states: States = field(default_factory=dict)


class Layer:
    """`forward` takes and returns one (steps, width) array per sequence and keeps what `backward` needs.

    `backward` takes the loss's gradient by the output, adds to `gradients` and returns the gradient by the input.
    After a recurrent layer without return_sequences, every array has one row: the sequence's.
    """

    averages = 0  # of the weights, the last so many are moving averages

    def __init__(self, index: int, width: int, shapes: Sequence[tuple[int, ...]] = (), use_bias: bool = True) -> None:
        self.index = index
        self.output_width = width
        kept = len(shapes) if use_bias else len(shapes) - 1
        self.shapes, self.no_bias = list(shapes[:kept]), list(shapes[kept:])
        self.weights: list[Array] = []
        self.gradients: list[Array] = []

    @property
    def learned(self) -> list[bool]:
        """Which of the weights optimizers change."""
        return [i < len(self.shapes) - self.averages for i in range(len(self.shapes))]

    def set_weights(self, weights: list[Array]) -> None:
        self.weights = weights
        self.gradients = [np.zeros_like(weight) for weight in weights]

    def possible(self, weights: list[Array]) -> list[Array]:
        """Weights that the layer can have, made of any."""
        return weights

    def with_bias(self, arrays: list[Array]) -> list[Array]:
        """The layer's weights or gradients, and zeros in place of biases where it has none."""
        return arrays + [np.zeros(shape, arrays[0].dtype) for shape in self.no_bias]

    def forward(self, inputs: list[Array], context: Context) -> list[Array]:
        raise NotImplementedError

    def backward(self, gradients: list[Array]) -> list[Array]:
        raise NotImplementedError


class ColumnEmbedding(Layer):
    """Numeric columns pass; each index column after them becomes a row of its table. Embedding is the case (0, 1)."""

    def __init__(
        self,
        index: int,
        width: int,
        numeric: int,
        vocabularies: list[int],
        dimensions: list[int],
        frozen: Sequence[bool] | None = None,
        unknown_rate: Sequence[float] | None = None,
    ) -> None:
        if width != numeric + len(vocabularies):
            raise ValueError(f"layer {index} needs {numeric + len(vocabularies)} input columns, not {width}")
        super().__init__(index, numeric + sum(dimensions), list(zip(vocabularies, dimensions, strict=True)))
        self.numeric = numeric
        self.frozen = list(frozen or [False] * len(vocabularies))
        self.thresholds: Array = np.array([int(rate * 2**32) for rate in unknown_rate or [0.0] * len(vocabularies)])

    @property
    def learned(self) -> list[bool]:
        return [not frozen for frozen in self.frozen]

    def forward(self, inputs: list[Array], context: Context) -> list[Array]:
        self.indices = [rows[:, self.numeric :].astype(np.int64) for rows in inputs]
        for indices in self.indices:
            if indices.size and (indices.min() < 0 or (indices.max(axis=0) >= [len(w) for w in self.weights]).any()):
                raise ValueError(f"layer {self.index}: an index lies outside of its vocabulary")
        if context.training and self.thresholds.any():
            drawn = {"seed": context.seed, "layer_index": self.index, "step": context.step}
            words = [dropout_words(*own.shape, position=n, **drawn) for n, own in enumerate(self.indices)]
            self.indices = [
                np.where(own < self.thresholds, 0, indices) for own, indices in zip(words, self.indices, strict=True)
            ]
        outputs = []
        for rows, indices in zip(inputs, self.indices, strict=True):
            embedded = [table[column] for table, column in zip(self.weights, indices.T, strict=True)]
            outputs.append(np.concatenate([rows[:, : self.numeric], *embedded], axis=1))
        return outputs

    def backward(self, gradients: list[Array]) -> list[Array]:
        for rows, indices in zip(gradients, self.indices, strict=True):
            start = self.numeric
            for table, column, frozen in zip(self.gradients, indices.T, self.frozen, strict=True):
                np.add.at(table, column, rows[:, start : start + table.shape[1]] * (not frozen))
                start += table.shape[1]
        # Indices have no gradient, so theirs is zero.
        return [
            np.concatenate([rows[:, : self.numeric], np.zeros(indices.shape, rows.dtype)], axis=1)
            for rows, indices in zip(gradients, self.indices, strict=True)
        ]


class WordEncoder(Layer):
    """Layers that make one row of the word whose index is the last column; the other columns follow that row."""

    def __init__(self, index: int, width: int, layers: list[Layer]) -> None:
        super().__init__(index, layers[-1].output_width + width - 1, [shape for own in layers for shape in own.shapes])
        self.layers = layers

    def set_weights(self, weights: list[Array]) -> None:
        self.weights = weights
        for layer in self.layers:
            layer.set_weights(weights[: len(layer.shapes)])
            weights = weights[len(layer.shapes) :]
        self.gradients = [gradient for layer in self.layers for gradient in layer.gradients]

    def forward(self, inputs: list[Array], context: Context) -> list[Array]:
        self.lengths = [len(rows) for rows in inputs]
        words = [context.words[int(row[-1])].astype(row.dtype) for rows in inputs for row in rows]
        for layer in self.layers:  # every occurrence by itself
            words = layer.forward(words, Context())
        return [
            np.concatenate([encoded, rows[:, :-1]], axis=1)
            for encoded, rows in zip(self._by_sequence(np.concatenate(words)), inputs, strict=True)
        ]

    def _by_sequence(self, rows: Array) -> list[Array]:
        return np.split(rows, np.cumsum(self.lengths)[:-1])

    def backward(self, gradients: list[Array]) -> list[Array]:
        width = self.layers[-1].output_width
        words = [row[np.newaxis, :width] for rows in gradients for row in rows]
        for layer in reversed(self.layers):
            words = layer.backward(words)
        return [np.concatenate([rows[:, width:], np.zeros((len(rows), 1))], axis=1) for rows in gradients]


class BatchNormalization(Layer):
    """Columns of mean 0 and variance 1 over all rows of the batch; outside of training, by their moving averages.

    The gradient of a moving average is how far it is from the batch's number.
    """

    averages = 2

    def __init__(
        self,
        index: int,
        width: int,
        momentum: float = 0.99,
        epsilon: float = 0.001,
        center: bool = True,
        scale: bool = True,
        **_initializers: str,
    ) -> None:
        super().__init__(index, width, [(width,)] * (2 + center + scale))
        self.momentum, self.epsilon, self.center, self.scale = momentum, epsilon, center, scale

    def possible(self, weights: list[Array]) -> list[Array]:
        return [*weights[:-1], np.abs(weights[-1]) + np.float32(0.1)]

    def forward(self, inputs: list[Array], context: Context) -> list[Array]:
        self.training = context.training
        self.mean, variance = self.weights[-2:]
        if self.training:
            rows = np.concatenate(inputs)
            self.mean, variance = rows.mean(axis=0), rows.var(axis=0)
        self.away = [self.weights[-2] - self.mean, self.weights[-1] - variance]
        self.inverse = 1 / np.sqrt(variance + self.epsilon)
        self.normal = [(rows - self.mean) * self.inverse for rows in inputs]
        self.gamma = self.weights[0] if self.scale else np.ones_like(variance)
        beta = self.weights[int(self.scale)] if self.center else 0
        return [rows * self.gamma + beta for rows in self.normal]

    def backward(self, gradients: list[Array]) -> list[Array]:
        rows, normal = np.concatenate(gradients), np.concatenate(self.normal)
        learned = [(rows * normal).sum(axis=0)] * self.scale + [rows.sum(axis=0)] * self.center
        for gradient, own in zip(self.gradients, [*learned, *self.away], strict=True):
            gradient += own
        if self.training:
            rows = rows - rows.mean(axis=0) - normal * (rows * normal).mean(axis=0)
        return np.split(rows * self.gamma * self.inverse, np.cumsum([len(own) for own in gradients])[:-1])


class Dropout(Layer):
    """Element (row, column) is number row * width + column; four elements share the Philox counter number // 4.

    Counter (number // 4, position of the sequence in the batch, layer index, training step), key (seed low, high). An
    element is kept where its word is at least floor(rate * 2**32), and then multiplied by float32(1 / (1 - rate)).
    Rows count through their sequence.
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
        drawn = {"seed": context.seed, "layer_index": self.index, "step": context.step}
        keep = [
            dropout_keep(self.rate, self.drawn_rows(rows), self.output_width, position=position, **drawn)
            for position, rows in enumerate(inputs)
        ]
        scale = np.float32(1 / (1 - self.rate))
        self.factors = [
            np.broadcast_to(kept * scale, rows.shape).astype(rows.dtype)
            for rows, kept in zip(inputs, keep, strict=True)
        ]
        return [rows * factor for rows, factor in zip(inputs, self.factors, strict=True)]

    def drawn_rows(self, rows: Array) -> int:
        """Of how many rows of a sequence each is drawn by itself."""
        return len(rows)

    def backward(self, gradients: list[Array]) -> list[Array]:
        return [rows * factor for rows, factor in zip(gradients, self.factors, strict=True)]


class SpatialDropout(Dropout):
    """One row's mask for all rows of a sequence."""

    def drawn_rows(self, rows: Array) -> int:
        return 1


class Dense(Layer):
    """Row by row: activation(x @ kernel + bias). Keeps the sums before the activation as `logits`."""

    def __init__(self, index: int, width: int, units: int, activation: str = "linear", use_bias: bool = True) -> None:
        if activation not in ("linear", "sigmoid", "softmax", "tanh", "relu"):
            raise ValueError(f"layer {index}: unknown activation {activation!r}")
        super().__init__(index, units, [(width, units), (units,)], use_bias)
        self.activation = activation

    def forward(self, inputs: list[Array], context: Context) -> list[Array]:
        self.inputs = inputs
        kernel, bias = self.with_bias(self.weights)
        self.logits = [rows @ kernel + bias for rows in inputs]
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
        by_kernel, by_bias = self.with_bias(self.gradients)
        for x, by_logits in zip(self.inputs, gradients, strict=True):
            by_kernel += x.T @ by_logits
            by_bias += by_logits.sum(axis=0)
        return [by_logits @ self.weights[0].T for by_logits in gradients]


class Conv1D(Layer):
    """Every step's sum, over taps, of the row there times the tap's matrix, then an activation; nothing is there beyond
    a sequence's ends. The first tap is `before` steps earlier: with padding "same" half of the others, rounded down.
    """

    def __init__(
        self,
        index: int,
        width: int,
        filters: int,
        kernel_size: int,
        padding: str = "same",
        dilation_rate: int = 1,
        activation: str = "linear",
        use_bias: bool = True,
    ) -> None:
        super().__init__(index, filters, [(kernel_size, width, filters), (filters,)], use_bias)
        if padding not in ("same", "causal"):
            raise ValueError(f"layer {index}: unknown padding {padding!r}")
        others = (kernel_size - 1) * dilation_rate
        before = others if padding == "causal" else others // 2
        self.places = [tap * dilation_rate - before for tap in range(kernel_size)]
        self.dense = Dense(index, width, filters, activation)

    def _read(self, steps: int) -> list[tuple[int, int, int]]:
        """A step, a tap and the step that it reads there, for all of a sequence."""
        read = [(step, tap, step + place) for step in range(steps) for tap, place in enumerate(self.places)]
        return [(step, tap, at) for step, tap, at in read if 0 <= at < steps]

    def forward(self, inputs: list[Array], context: Context) -> list[Array]:
        kernel, bias = self.with_bias(self.weights)
        self.inputs = inputs
        self.outputs = []
        for rows in inputs:
            sums = np.tile(bias, (len(rows), 1))
            for step, tap, at in self._read(len(rows)):
                sums[step] += rows[at] @ kernel[tap]
            self.outputs.append(self.dense._activate(sums))
        return self.outputs

    def backward(self, gradients: list[Array]) -> list[Array]:
        kernel = self.weights[0]
        by_kernel, by_bias = self.with_bias(self.gradients)
        by_inputs = []
        for rows, y, by_y in zip(self.inputs, self.outputs, gradients, strict=True):
            by_sums = self.dense._by_logits(y, by_y)
            by_bias += by_sums.sum(axis=0)
            by_rows = np.zeros((len(rows), kernel.shape[1]), kernel.dtype)
            for step, tap, at in self._read(len(rows)):
                by_kernel[tap] += np.outer(rows[at], by_sums[step])
                by_rows[at] += kernel[tap] @ by_sums[step]
            by_inputs.append(by_rows)
        return by_inputs


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


class WindowPooling(Layer):
    """Of each window of a sequence's rows the mean, or the largest of each number; the first of equal ones counts."""

    def __init__(
        self, index: int, width: int, pool: str, pool_size: int, strides: int | None, padding: str, **_: object
    ) -> None:
        super().__init__(index, width)
        self.pool, self.size, self.strides, self.same = pool, pool_size, strides or pool_size, padding == "same"

    def windows(self, length: int) -> list[slice]:
        count = -(-length // self.strides) if self.same else (length - self.size) // self.strides + 1
        before = max((count - 1) * self.strides + self.size - length, 0) // 2 if self.same else 0
        starts = [n * self.strides - before for n in range(count)]
        return [slice(max(start, 0), min(start + self.size, length)) for start in starts]

    def forward(self, inputs: list[Array], context: Context) -> list[Array]:
        self.inputs, outputs = inputs, []
        for rows in inputs:
            windows = [rows[window] for window in self.windows(len(rows))]
            outputs.append(np.array([w.mean(axis=0) if self.pool == "average" else w.max(axis=0) for w in windows]))
        return outputs

    def backward(self, gradients: list[Array]) -> list[Array]:
        by_inputs = []
        for rows, gradient in zip(self.inputs, gradients, strict=True):
            by_rows = np.zeros_like(rows)
            for window, row in zip(self.windows(len(rows)), gradient, strict=True):
                if self.pool == "average":
                    by_rows[window] += row / (window.stop - window.start)
                else:
                    by_rows[window.start + rows[window].argmax(axis=0), np.arange(rows.shape[1])] += row
            by_inputs.append(by_rows)
        return by_inputs


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
