"""The reference: what the engine must compute, in plain NumPy, written to be read and not to be fast.

Layers, losses and optimizers are in the modules beside this one; here they become a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from bilstm.ragged import Ragged
from oracles.numpy_layers import (
    Array,
    AttentionPooling,
    BatchNormalization,
    ColumnEmbedding,
    Context,
    Conv1D,
    Dense,
    Dropout,
    Layer,
    Pooling,
    Reverse,
    SpatialDropout,
    States,
    WindowPooling,
    WordEncoder,
    dropout_keep,
    philox4x32,
)
from oracles.numpy_losses import FROM_LOGITS, labelled_targets, row_losses, row_losses_from_logits
from oracles.numpy_optimizers import SGD, Adam
from oracles.numpy_recurrent import CELLS, Bidirectional, Recurrent

__all__ = ["SGD", "Adam", "NumpyNetwork", "States", "dropout_keep", "philox4x32", "random_weights"]

LayerConfig = Mapping[str, Any]


class NumpyNetwork:
    """A network of the layers of `Sequential.get_config()["layers"]`.

    Args:
        layers: {"class_name": ..., "config": {...}} each.
        features: columns of the input.
        weights: arrays in the order of Keras's get_weights; copied, converted to dtype.
        dtype: of all computation.

    Raises:
        ValueError: an unknown layer or option, layers that do not fit together, or weights of other shapes.
    """

    def __init__(
        self,
        layers: Sequence[LayerConfig],
        features: int,
        weights: Sequence[npt.ArrayLike],
        dtype: npt.DTypeLike = np.float64,
    ) -> None:
        self.description = list(layers)
        self.layers = build_layers(layers, features)
        self.features = features
        self.dtype = np.dtype(dtype)
        self.set_weights(weights)

    @property
    def weights(self) -> list[Array]:
        return [weight for layer in self.layers for weight in layer.weights]

    @property
    def learned(self) -> list[bool]:
        """Which of the weights optimizers change: all but moving averages and frozen embeddings."""
        return [learned for layer in self.layers for learned in layer.learned]

    def set_weights(self, weights: Sequence[npt.ArrayLike]) -> None:
        arrays = [np.array(weight, self.dtype) for weight in weights]
        expected = [shape for layer in self.layers for shape in layer.shapes]
        if [array.shape for array in arrays] != expected:
            raise ValueError(f"the weights' shapes must be {expected}, not {[array.shape for array in arrays]}")
        for layer in self.layers:
            layer.set_weights(arrays[: len(layer.shapes)])
            arrays = arrays[len(layer.shapes) :]

    @overload
    def forward(
        self,
        ragged: Ragged,
        *,
        training: bool = ...,
        seed: int = ...,
        step: int = ...,
        states: States | None = ...,
        return_states: Literal[False] = ...,
    ) -> Array: ...
    @overload
    def forward(
        self,
        ragged: Ragged,
        *,
        training: bool = ...,
        seed: int = ...,
        step: int = ...,
        states: States | None = ...,
        return_states: Literal[True],
    ) -> tuple[Array, States]: ...
    def forward(
        self,
        ragged: Ragged,
        *,
        training: bool = False,
        seed: int = 0,
        step: int = 0,
        states: States | None = None,
        return_states: bool = False,
    ) -> Array | tuple[Array, States]:
        """The network's output rows.

        Args:
            ragged: n_sequences sequences with `features` columns.
            training: whether Dropout drops, with this seed, in this training step (counted from 0).
            states: initial states {layer index: [(h, c) or (h,) per direction]}, (n_sequences, units) each, the
                direction `layer` before the direction `backward_layer`; layers left out start at zero.
            return_states: also return the final states in the same form, of every recurrent layer.

        Returns:
            (total_steps, width), or (n_sequences, width) after a recurrent layer without return_sequences. A last
            layer with merge_mode None gives the two outputs side by side, forward first.
        """
        if ragged.features != self.features:
            raise ValueError(f"the network takes {self.features} features, not {ragged.features}")
        context = Context(training, seed, step, list(ragged.words or ()), states or {})
        sequences = [sequence.astype(self.dtype) for sequence in ragged]
        for layer in self.layers:
            sequences = layer.forward(sequences, context)
        self._row_counts = [len(rows) for rows in sequences]
        rows = joined(sequences, self.layers[-1].output_width, self.dtype)
        return (rows, context.final_states) if return_states else rows

    def loss(
        self,
        ragged: Ragged,
        targets: npt.ArrayLike,
        *,
        loss: str,
        row_weights: npt.ArrayLike | None = None,
        training: bool = False,
        seed: int = 0,
        step: int = 0,
        states: States | None = None,
    ) -> float:
        """The batch's loss: what `gradients` returns first."""
        outputs = self.forward(ragged, training=training, seed=seed, step=step, states=states)
        return self._loss(outputs, targets, loss, row_weights)[0]

    def gradients(
        self,
        ragged: Ragged,
        targets: npt.ArrayLike,
        *,
        loss: str,
        row_weights: npt.ArrayLike | None = None,
        training: bool = False,
        seed: int = 0,
        step: int = 0,
        states: States | None = None,
    ) -> tuple[float, list[Array]]:
        """The batch's loss and its gradients by the weights, in the order of the weights.

        The loss is the sum over labelled rows of row weight * row loss / the number of labelled rows (0 without any).
        Cross-entropies of a last Dense layer with sigmoid (binary) or softmax (categorical) are computed from its
        logits; all others from its outputs, clipped as Keras does.

        Args:
            targets: one per output row; see `labelled_targets`.
            row_weights: (rows,), ones when left out.
            states: as for `forward`. Gradients go no further back than the first steps.
        """
        outputs = self.forward(ragged, training=training, seed=seed, step=step, states=states)
        value, by_rows, by_logits = self._loss(outputs, targets, loss, row_weights)
        for layer in self.layers:
            layer.set_weights(layer.weights)  # starts the gradients at zero
        by_sequences = np.split(by_rows, np.cumsum(self._row_counts)[:-1]) if self._row_counts else []
        *before, last = self.layers
        if by_logits and isinstance(last, Dense):
            by_sequences = last.backward_from_logits(by_sequences)
        else:
            by_sequences = last.backward(by_sequences)
        for layer in reversed(before):
            by_sequences = layer.backward(by_sequences)
        learns = labelled_targets(loss, targets, outputs)[1].any()  # otherwise averages do not move, either
        return value, [gradient * learns for layer in self.layers for gradient in layer.gradients]

    def _loss(
        self, outputs: Array, targets: npt.ArrayLike, loss: str, row_weights: npt.ArrayLike | None
    ) -> tuple[float, Array, bool]:
        """The loss, its gradient by the outputs or by the last layer's logits, and whether it is by logits."""
        t, labelled = labelled_targets(loss, targets, outputs)
        last = self.layers[-1]
        by_logits = isinstance(last, Dense) and last.activation == FROM_LOGITS.get(loss)
        if by_logits and isinstance(last, Dense):
            losses, by_rows = row_losses_from_logits(last.activation, joined(last.logits, t.shape[1], self.dtype), t)
        else:
            losses, by_rows = row_losses(loss, outputs, t)
        scale = np.ones(len(t)) if row_weights is None else np.asarray(row_weights, np.float64)
        if scale.shape != labelled.shape:
            raise ValueError(f"{len(t)} rows need {len(t)} weights, not an array of shape {scale.shape}")
        scale = np.where(labelled, scale, 0) / max(labelled.sum(), 1)
        value = float((losses[labelled] * scale[labelled]).sum())
        return value, (by_rows * scale[:, np.newaxis]).astype(self.dtype), by_logits


def random_weights(
    layers: Sequence[LayerConfig], features: int, rng: np.random.Generator, scale: float = 0.7
) -> list[Array]:
    """Normally distributed ones, rounded to float32: an engine that computes in it starts from the same numbers."""
    return [
        weight
        for layer in build_layers(layers, features)
        for weight in layer.possible([rng.normal(size=s, scale=scale).astype(np.float32) for s in layer.shapes])
    ]


def build_layers(layers: Sequence[LayerConfig], features: int) -> list[Layer]:
    """The layers, each knowing its place and the widths of its input and output."""
    built: list[Layer] = []
    width, steps = features, True
    for index, description in enumerate(layers):
        layer = build_layer(index, width, description, steps=steps)
        if isinstance(layer, Recurrent):
            steps = layer.return_sequences
        elif isinstance(layer, Bidirectional):
            steps = layer.first.return_sequences
        elif isinstance(layer, (Pooling, AttentionPooling)):
            steps = False
        built.append(layer)
        width = layer.output_width
    if not built:
        raise ValueError("a network needs a layer")
    return built


def build_layer(index: int, width: int, description: LayerConfig, *, steps: bool) -> Layer:
    """One layer from its description; `steps` tells whether its input still has a row per step."""
    name, config = description["class_name"], dict(description["config"])
    if not steps and name not in ("BatchNormalization", "ColumnEmbedding", "Dense", "Dropout"):
        raise ValueError(f"layer {index}, {name}, needs sequences, but a layer before it returns one row for each")
    if name == "WordEncoder":
        return WordEncoder(index, width, build_layers(config["layers"], config["features"]))
    if name == "Embedding":
        return ColumnEmbedding(index, width, 0, [config["input_dim"]], [config["output_dim"]])
    if name == "TimeDistributed":
        inner = config["layer"]
        if inner["class_name"] != "Dense":
            raise ValueError(f"layer {index}: TimeDistributed takes a Dense layer, not {inner['class_name']}")
        return Dense(index, width, **inner["config"])
    if name == "Bidirectional":
        first = config["layer"]
        second = config.get("backward_layer") or {**first, "config": {**first["config"], "go_backwards": True}}
        if first["class_name"] not in CELLS or second["class_name"] not in CELLS:
            raise ValueError(f"layer {index}: Bidirectional takes recurrent layers")
        directions: list[Any] = [
            CELLS[direction["class_name"]](index, width, **direction["config"]) for direction in (first, second)
        ]
        return Bidirectional(index, directions[0], directions[1], config["merge_mode"])
    if name in ("GlobalAveragePooling1D", "GlobalMaxPooling1D"):
        return Pooling(index, width, "average" if name == "GlobalAveragePooling1D" else "maximum")
    if name in ("AveragePooling1D", "MaxPooling1D"):
        return WindowPooling(index, width, "average" if name == "AveragePooling1D" else "maximum", **config)
    if name == "Reverse":
        return Reverse(index, width)
    classes = {
        "BatchNormalization": BatchNormalization,
        "ColumnEmbedding": ColumnEmbedding,
        "Dropout": Dropout,
        "SpatialDropout1D": SpatialDropout,
        **CELLS,
        "Conv1D": Conv1D,
        "Dense": Dense,
        "GlobalAttentionPooling1D": AttentionPooling,
    }
    if name not in classes:
        raise ValueError(f"layer {index}: unknown layer {name!r}")
    layer: Layer = classes[name](index, width, **config)
    return layer


def joined(sequences: Sequence[Array], width: int, dtype: npt.DTypeLike) -> Array:
    """All rows of all sequences, (rows, width), also where there are none."""
    return np.concatenate([np.zeros((0, width), dtype), *sequences])
