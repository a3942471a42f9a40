"""Random models of all layers with sequences and labels for them, for laws that need no second opinion; a small one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from bilstm.engine.losses import CRF_LIKELIHOOD, LOSSES, TABLE, TargetKind
from bilstm.layers import (
    CRF,
    GRU,
    LSTM,
    AveragePooling1D,
    BatchNormalization,
    Bidirectional,
    ColumnEmbedding,
    Conv1D,
    Dense,
    Dropout,
    Embedding,
    GlobalAttentionPooling1D,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    Layer,
    MaxPooling1D,
    Reverse,
    SimpleRNN,
    SpatialDropout1D,
    TimeDistributed,
    WordEncoder,
    from_json,
    to_json,
)
from bilstm.models import Sequential
from bilstm.ragged import Ragged, offsets_of

UNITS = (1, 3, 16, 17, 35)  # the engine works on blocks of 16
# The loss -> the activation of the last layer.
HEADS = {loss.name: "tanh" if loss.targets is TargetKind.NUMBERS else loss.activation for loss in TABLE}
CELLS: dict[str, Callable[..., Any]] = {
    "LSTM": LSTM,
    "GRU": GRU,
    "GRU, reset before": partial(GRU, reset_after=False),
    "SimpleRNN": SimpleRNN,
    "SimpleRNN, relu": partial(SimpleRNN, activation="relu"),
    "LSTM, hard gates": partial(LSTM, recurrent_activation="hard_sigmoid"),
    "LSTM, Keras 2's hard gates": partial(LSTM, recurrent_activation="hard_sigmoid_keras2"),
    "GRU, hard gates": partial(GRU, recurrent_activation="hard_sigmoid"),
    "GRU, reset before, Keras 2's hard gates": partial(
        GRU, reset_after=False, recurrent_activation="hard_sigmoid_keras2"
    ),
}


BIASED = ("LSTM", "GRU", "SimpleRNN", "Dense", "Conv1D")  # unless use_bias is False


def without_bias(layer: dict[str, Any]) -> dict[str, Any]:
    """The description of the layer without biases, its own and those of the layers within it."""
    inner = {key: without_bias(part) if isinstance(part, dict) else part for key, part in layer["config"].items()}
    return {**layer, "config": inner | ({"use_bias": False} if layer["class_name"] in BIASED else {})}


NATIVE = Path(__file__).parents[2] / "src" / "bilstm" / "engine" / "native"
COMPILER = next(filter(None, map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))), None)
SANITIZED = os.environ.get("BILSTM_SANITIZE")  # the sanitizers that `make sanitize` runs the tests under


@dataclass
class Case:
    """A model's description, sequences, and what their rows should be."""

    layers: list[dict[str, Any]]
    data: Ragged
    y: Any
    loss: str
    seed: int

    def model(self, optimizer: Any = "adam") -> Sequential:
        """A new model, the same each time."""
        model = Sequential([from_json(layer) for layer in self.layers], seed=self.seed)
        model.build((None, self.data.features))
        model.compile(optimizer, self.loss, ["acc", "mse", "mae"])
        return model

    @property
    def one_row_each(self) -> bool:
        return not all(from_json(layer).returns_rows_per_step() for layer in self.layers)


@st.composite
def cases(draw: st.DrawFn, *, dropout: bool = True, longest: int = 9, most: int = 7, crf: bool = False) -> Case:
    """`crf`: whether some networks may end with a CRF, whose loss is that of sequences."""
    seed = draw(st.integers(0, 2**32))
    random = np.random.default_rng(seed)
    lengths = draw(st.lists(st.integers(1, longest), min_size=1, max_size=most))
    first, columns, *words = draw(st.sampled_from(_firsts(random, sum(lengths), dropout=dropout)))
    layers: list[Layer] = list(first)
    for _ in range(draw(st.integers(1, 2))):
        layers += draw(_recurrent())
        if dropout:
            between = ([], [Dropout(0.4)], [SpatialDropout1D(0.3)], [TimeDistributed(Dense(5, "relu"))])
            more = [Conv1D(5, 4, padding="same", activation="tanh")], [BatchNormalization()]
            layers += draw(st.sampled_from([*between, *more]))
    units = draw(st.sampled_from(UNITS))
    pools = [GlobalAveragePooling1D()], [GlobalMaxPooling1D()], [GlobalAttentionPooling1D(units)]
    cell = CELLS[draw(st.sampled_from(sorted(CELLS)))]
    ends = ([], [cell(units)], [Bidirectional(cell(units), merge_mode="ave")], *pools)
    end = draw(st.sampled_from(ends))
    if end:
        shorter = (
            [],
            [MaxPooling1D(2, padding="same")],
            [AveragePooling1D(3, strides=2, padding="same"), Dropout(0.2)],
        )
        layers += draw(st.sampled_from(shorter if dropout else shorter[:2]))
    layers += end
    loss = draw(st.sampled_from(list(HEADS)))
    outputs = draw(st.sampled_from([1, 3, 18]))
    layers.append(Dense(outputs, HEADS[loss]))
    if crf and not end and draw(st.integers(0, 2)) == 0:
        loss, layers[-1:] = CRF_LIKELIHOOD.name, crf_ending(outputs, random)
    data = Ragged(columns, offsets_of(lengths), *words)
    described = [to_json(layer) for layer in layers]
    unbiased = draw(st.sets(st.sampled_from(range(len(layers))))) if draw(st.booleans()) else set()
    described = [without_bias(layer) if i in unbiased else layer for i, layer in enumerate(described)]
    case = Case(described, data, None, loss, seed)
    case.y = random_labels(loss, len(data) if case.one_row_each else data.total_steps, outputs, random)
    return case


@st.composite
def _recurrent(draw: st.DrawFn) -> list[Layer]:
    units = draw(st.sampled_from(UNITS))
    merge_mode = draw(st.sampled_from(["concat", "sum", "mul", "ave"]))
    cell, other = (CELLS[draw(st.sampled_from(sorted(CELLS)))] for _ in range(2))
    forward = cell(units, return_sequences=True)
    backwards = cell(draw(st.sampled_from(UNITS)), return_sequences=True, go_backwards=True)
    mixed = other(draw(st.sampled_from(UNITS)), return_sequences=True, go_backwards=True)
    choices: list[list[Layer]] = [
        [forward],
        [backwards],
        [backwards, Reverse()],
        [Bidirectional(forward, merge_mode=merge_mode)],
        [Bidirectional(forward, backward_layer=mixed)],
    ]
    return draw(st.sampled_from(choices))


def random_words(random: np.random.Generator, count: int, alphabet: int) -> Ragged:
    """Words of 1 to 9 letters of an alphabet."""
    lengths = random.integers(1, 10, count)
    return Ragged(random.integers(alphabet, size=lengths.sum()), offsets_of(lengths))


def _firsts(random: np.random.Generator, steps: int, *, dropout: bool) -> list[tuple[Any, ...]]:
    """The first layers, the columns that they take and, where some refer to words, these."""
    numbers = random.normal(size=(steps, 2))
    words, tags = random.integers(5, size=(steps, 1)), random.integers(3, size=(steps, 1))
    return [
        ([], numbers),
        ([Dense(17, "tanh")], numbers),
        ([Embedding(5, 4)], words),
        ([Conv1D(17, 3, padding="same", activation="relu")], numbers),
        ([BatchNormalization(momentum=0.5)], numbers),
        ([Embedding(5, 4), Conv1D(5, 2, padding="causal", dilation_rate=3)], words),
        ([ColumnEmbedding(2, [5, 3], [4, 2])], np.hstack([numbers, words, tags])),
        (
            [
                WordEncoder([Embedding(3, 4), Bidirectional(LSTM(5))]),
                ColumnEmbedding(12, [5], [4], unknown_rate=[0.3 * dropout], frozen=[steps % 2 == 0]),
            ],
            np.hstack([numbers, words, tags]),
            random_words(random, 3, 3),
        ),
        (
            [WordEncoder([Embedding(3, 4), Conv1D(5, 3, padding="same"), GlobalMaxPooling1D()])],
            np.hstack([numbers, words]),
            random_words(random, 5, 3),
        ),
    ]


def crf_ending(outputs: int, random: np.random.Generator) -> list[Layer]:
    """The last layers of a network that ends with a CRF, of whose labels the last may not follow some others."""
    forbidden = np.zeros((outputs + 2, outputs), bool)
    if outputs > 2:
        forbidden[:, -1] = random.random(outputs + 2) < 0.5
        forbidden[-1] = False
    return [TimeDistributed(Dense(outputs)), CRF(outputs, forbidden)]


def random_labels(loss: str, rows: int, outputs: int, random: np.random.Generator) -> Any:
    """About a quarter of the rows are unlabelled, but not the first, which is never 1: labels 1 and -1 are refused."""
    unlabelled = random.random(rows) < 0.25
    unlabelled[0] = False
    if LOSSES[loss].targets is TargetKind.LABELS:
        most = max(1, outputs - 1) if loss == CRF_LIKELIHOOD.name else outputs  # the last label: see crf_ending
        return np.where(unlabelled, -1, np.append(0, random.integers(most, size=rows - 1)))
    if LOSSES[loss].targets is TargetKind.NUMBERS:
        y = random.random((rows, outputs))
    elif LOSSES[loss].activation == "softmax":
        y = np.eye(outputs)[random.integers(outputs, size=rows)]
    else:
        y = random.integers(2, size=(rows, outputs))
    return np.where(unlabelled[:, np.newaxis], np.nan, y)


def bits(array: Any) -> bytes:
    """What tells 0.0 from -0.0 and one NaN from another."""
    return np.ascontiguousarray(array).tobytes()


def set_random_weights(model: Sequential, random: np.random.Generator, scale: float | None = None) -> None:
    """Normally distributed ones, by default smaller the more there are; variances are not negative."""
    weights = [random.normal(scale=scale or len(own) ** -0.5, size=own.shape) for own in model.get_weights()]
    specs = (spec for own in model._specs for spec in own)
    model.set_weights([w if spec.negative else abs(w) for w, spec in zip(weights, specs, strict=True)])


def weight_bits(model: Sequential) -> list[bytes]:
    return [bits(weight) for weight in model.get_weights()]


def tagger(units: int = 3, outputs: int = 1, seed: int | None = 1, features: int = 2) -> Sequential:
    """A small model with a label for each step, not compiled."""
    activation = "sigmoid" if outputs == 1 else "softmax"
    layers = [
        Bidirectional(LSTM(units, return_sequences=True), input_shape=(None, features)),
        TimeDistributed(Dense(outputs, activation)),
    ]
    return Sequential(layers, seed=seed)


def numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random(shape, np.float32)


def compiled(metrics: list[str] | None = None, optimizer: Any = "adam") -> Sequential:
    """A small model, ready to learn whether a number exceeds one half."""
    model = tagger(features=1)
    model.compile(optimizer, "binary_crossentropy", metrics)
    return model


def above_half(count: int, steps: int = 4, seed: int = 0) -> tuple[Any, Any]:
    """(count, steps, 1) numbers, and whether each exceeds one half."""
    x = np.random.default_rng(seed).random((count, steps, 1), np.float32)
    return x, (x > 0.5).astype(np.int64)
