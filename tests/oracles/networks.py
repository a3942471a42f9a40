"""Descriptions of small networks, and random batches, weights and targets for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from bilstm.engine.losses import LOSSES, TABLE, TargetKind
from bilstm.engine.plans import ACTIVATIONS
from bilstm.ragged import Ragged
from oracles.models import without_bias
from oracles.numpy_engine import NumpyNetwork, random_weights

MERGE_MODES = ("concat", "sum", "mul", "ave", None)


def lstm(units: int = 3, *, sequences: bool = True, backwards: bool = False) -> dict[str, Any]:
    config = {"units": units, "return_sequences": sequences, "go_backwards": backwards}
    return {"class_name": "LSTM", "config": config}


def gru(units: int = 3, *, sequences: bool = True, backwards: bool = False, reset_after: bool = True) -> dict[str, Any]:
    config = lstm(units, sequences=sequences, backwards=backwards)["config"] | {"reset_after": reset_after}
    return {"class_name": "GRU", "config": config}


def simple(
    units: int = 3, *, sequences: bool = True, backwards: bool = False, activation: str = "tanh"
) -> dict[str, Any]:
    config = lstm(units, sequences=sequences, backwards=backwards)["config"] | {"activation": activation}
    return {"class_name": "SimpleRNN", "config": config}


def gru_reset_before(units: int = 3, **options: Any) -> dict[str, Any]:
    return gru(units, reset_after=False, **options)


def simple_relu(units: int = 3, **options: Any) -> dict[str, Any]:
    return simple(units, activation="relu", **options)


def hard(cell: Callable[..., dict[str, Any]], recurrent_activation: str) -> Callable[..., dict[str, Any]]:
    """The same cell with hard sigmoids for gates."""

    def made(units: int = 3, **options: Any) -> dict[str, Any]:
        description = cell(units, **options)
        return {**description, "config": description["config"] | {"recurrent_activation": recurrent_activation}}

    return made


# Keras 2's meaning goes with what was its default then.
hard_lstm, hard_lstm_keras2 = hard(lstm, "hard_sigmoid"), hard(lstm, "hard_sigmoid_keras2")
hard_gru, hard_gru_keras2 = hard(gru, "hard_sigmoid"), hard(gru_reset_before, "hard_sigmoid_keras2")
HARD = [hard_lstm, hard_lstm_keras2, hard_gru, hard_gru_keras2]
CELLS: list[Callable[..., dict[str, Any]]] = [lstm, gru, gru_reset_before, simple, simple_relu, *HARD]


def bidirectional(
    merge_mode: str | None = "concat",
    *,
    units: int = 3,
    sequences: bool = True,
    forward: dict[str, Any] | None = None,
    backward: dict[str, Any] | None = None,
) -> dict[str, Any]:
    layer = forward or lstm(units, sequences=sequences)
    config = {"layer": layer, "backward_layer": backward, "merge_mode": merge_mode}
    return {"class_name": "Bidirectional", "config": config}


def dense(units: int = 3, activation: str = "linear") -> dict[str, Any]:
    return {"class_name": "Dense", "config": {"units": units, "activation": activation}}


def convolution(
    filters: int = 3, size: int = 3, padding: str = "same", *, dilation: int = 1, activation: str = "tanh"
) -> dict[str, Any]:
    config = {"filters": filters, "kernel_size": size, "padding": padding}
    return {"class_name": "Conv1D", "config": config | {"dilation_rate": dilation, "activation": activation}}


def time_distributed(layer: dict[str, Any]) -> dict[str, Any]:
    return {"class_name": "TimeDistributed", "config": {"layer": layer}}


def dropout(rate: float) -> dict[str, Any]:
    return {"class_name": "Dropout", "config": {"rate": rate}}


def spatial_dropout(rate: float) -> dict[str, Any]:
    return {"class_name": "SpatialDropout1D", "config": {"rate": rate}}


def normalization(**config: Any) -> dict[str, Any]:
    return {"class_name": "BatchNormalization", "config": config}


def attention(units: int = 3) -> dict[str, Any]:
    return {"class_name": "GlobalAttentionPooling1D", "config": {"units": units}}


def column_embedding(
    numeric: int, vocabularies: list[int], dimensions: list[int], **options: list[Any]
) -> dict[str, Any]:
    config = {"numeric": numeric, "vocabularies": vocabularies, "dimensions": dimensions}
    return {"class_name": "ColumnEmbedding", "config": config | options}


def word_encoder(*layers: dict[str, Any], features: int = 1) -> dict[str, Any]:
    return {"class_name": "WordEncoder", "config": {"layers": list(layers), "features": features}}


def random_words(layer: dict[str, Any], rng: np.random.Generator, count: int = 4) -> Ragged:
    """Words that a word encoder can read, of 1 to 5 rows: whole numbers, which any layer can, of a small alphabet."""
    lengths = rng.integers(1, 6, size=count)
    rows = rng.integers(3, size=(lengths.sum(), layer["config"]["features"]))
    return Ragged(rows, np.cumsum([0, *lengths]))


def windows(kind: str, pool_size: int = 3, strides: int = 2, padding: str = "same") -> dict[str, Any]:
    return {"class_name": kind, "config": {"pool_size": pool_size, "strides": strides, "padding": padding}}


REVERSE: dict[str, Any] = {"class_name": "Reverse", "config": {}}
AVERAGE: dict[str, Any] = {"class_name": "GlobalAveragePooling1D", "config": {}}
LARGEST: dict[str, Any] = {"class_name": "GlobalMaxPooling1D", "config": {}}
EMBEDDING: dict[str, Any] = {"class_name": "Embedding", "config": {"input_dim": 5, "output_dim": 2}}


def inputs(layers: list[dict[str, Any]], lengths: list[int], rng: np.random.Generator) -> Ragged:
    """Random sequences that the first layer can take: two numeric columns unless it embeds."""
    total = sum(lengths)
    first = layers[0]
    numeric, vocabularies, words = 2, [], None
    if first["class_name"] == "Embedding":
        numeric, vocabularies = 0, [first["config"]["input_dim"]]
    elif first["class_name"] == "ColumnEmbedding":
        numeric, vocabularies = first["config"]["numeric"], first["config"]["vocabularies"]
    elif first["class_name"] == "WordEncoder":
        words = random_words(first, rng)
        vocabularies = [len(words)]
    columns = [rng.normal(size=total) for _ in range(numeric)] + [rng.integers(v, size=total) for v in vocabularies]
    return Ragged(np.stack(columns, axis=1), np.cumsum([0, *lengths]), words)


def network_for(layers: list[dict[str, Any]], features: int, rng: np.random.Generator, **options: Any) -> NumpyNetwork:
    return NumpyNetwork(layers, features, random_weights(layers, features, rng), **options)


def random_targets(loss: str, rows: int, width: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Hard or soft targets; about a fifth of the rows are unlabelled."""
    unlabelled = rng.random(rows) < 0.2
    kind = LOSSES[loss].targets
    if kind is TargetKind.LABELS:
        return np.where(unlabelled, -1, rng.integers(width, size=rows))
    if kind is TargetKind.NUMBERS:
        targets = rng.normal(size=(rows, width))
    elif rng.random() < 0.5:
        targets = rng.random((rows, width))
    elif LOSSES[loss].activation == "sigmoid":
        targets = rng.integers(2, size=(rows, width)).astype(np.float64)
    else:
        targets = np.eye(width)[rng.integers(width, size=rows)]
    targets[unlabelled] = np.nan
    return targets.astype(np.float32).astype(np.float64)


@dataclass
class Problem:
    """A network, a batch and all that its loss depends on."""

    network: NumpyNetwork
    batch: Ragged
    targets: np.ndarray[Any, Any]
    options: dict[str, Any]

    @classmethod
    def draw(cls, layers: list[dict[str, Any]], loss: str, lengths: list[int], seed: int) -> Problem:
        rng = np.random.default_rng(seed)
        batch = inputs(layers, lengths, rng)
        network = network_for(layers, batch.features, rng)
        rows, width = network.forward(batch).shape
        row_weights = rng.uniform(0.5, 2, rows).astype(np.float32) if seed % 2 else None
        options = {"loss": loss, "row_weights": row_weights, "training": True, "seed": seed << 30, "step": seed % 7}
        return cls(network, batch, random_targets(loss, rows, width, rng), options)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Random networks of all layers, with a loss that fits."""
    first = [[], [EMBEDDING], [column_embedding(1, [3, 4], [2, 3])], [dropout(0.25)], [time_distributed(dense(3))]]
    first += [[spatial_dropout(0.4)], [convolution(2, 3, activation="relu")], [EMBEDDING, convolution(3, 2, "causal")]]
    first += [[normalization()], [EMBEDDING, normalization(center=False)]]
    first += [[column_embedding(1, [3, 4], [2, 3], frozen=[True, False], unknown_rate=[0.0, 0.5])]]
    first += [[word_encoder(EMBEDDING, bidirectional(forward=gru(2, sequences=False)))]]
    first += [[word_encoder(convolution(3, 2), LARGEST, dense(2, "tanh"), features=2)]]
    layers = list(draw(st.sampled_from(first)))
    cell, other = draw(st.sampled_from(CELLS)), draw(st.sampled_from(CELLS))
    both = [bidirectional(mode, forward=cell(2)) for mode in MERGE_MODES]
    mixed = bidirectional(forward=cell(2), backward=other(2, backwards=True))
    recurrent = [cell(2), cell(2, backwards=True), *both, mixed]
    between: list[list[dict[str, Any]]] = [[], [REVERSE], [dropout(0.5)], [time_distributed(dense(2, "tanh"))]]
    between += [[spatial_dropout(0.5)], [convolution(2, 2, dilation=2)], [normalization(epsilon=0.1)]]
    between += [[convolution(2, 3), normalization(scale=False)], [normalization(scale=False, center=False)]]
    for _ in range(draw(st.integers(0, 2))):
        layers += [draw(st.sampled_from(recurrent)), *draw(st.sampled_from(between))]
    last = cell(2, sequences=False)
    summary = [[], [last], [bidirectional(forward=last)], [AVERAGE], [LARGEST]]
    end = draw(st.sampled_from([*summary, [attention(2)]]))
    if end:  # sequences of any length, the shortest too, can be made shorter before
        shorter = [windows("MaxPooling1D"), windows("AveragePooling1D", 2, 3), windows("MaxPooling1D", 1, 2, "valid")]
        layers += draw(st.sampled_from([[], *([each] for each in shorter), [shorter[0], lstm(2), shorter[1]]]))
    layers += end + draw(st.sampled_from([[], [], [normalization()]]))
    heads = [
        (loss.name, activation)
        for loss in TABLE
        for activation in (ACTIVATIONS if loss.targets is TargetKind.NUMBERS else (loss.activation,))
    ]
    if simple_relu in (cell, other):  # without a bound on its inputs, another last layer would saturate
        heads = [("mean_squared_error", "linear")]
    loss, activation = draw(st.sampled_from(heads))
    layers.append(dense(draw(st.integers(1, 3)), activation))
    unbiased = draw(st.sets(st.sampled_from(range(len(layers))))) if draw(st.booleans()) else set()
    layers = [without_bias(layer) if i in unbiased else layer for i, layer in enumerate(layers)]
    lengths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    return Problem.draw(layers, loss, lengths, draw(st.integers(0, 1000)))
