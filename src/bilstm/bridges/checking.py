"""A converted model and the library that its file is from, on the same random sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.bridges.source import SourceFile
from bilstm.errors import counted
from bilstm.layers import AveragePooling1D, Embedding, Layer, Masking, MaxPooling1D, Padding
from bilstm.models.structure import mask_value_of, returns_reversed
from bilstm.ragged import FloatArray, Ragged, offsets_of

Lengths = npt.NDArray[np.int64]
Predict = Callable[[list[tuple[FloatArray, Lengths]]], list[list[FloatArray]]]
_LONGEST, _MOST_STEPS = 30, 2000
_TOLERANCE, _LOOSE = 1e-4, 0.05  # relative to the largest output: of float32, and of what is computed in float16


@dataclass(frozen=True)
class Check:
    """How a converted model compares with its source.

    Attributes:
        library: the source library and its version, or only its name if it is not installed.
        difference: the largest between the predictions; None: they were not compared.
        tolerance: what rounding may make of it.
        about: what was compared, or why nothing was.
    """

    library: str
    difference: float | None
    tolerance: float
    about: str

    @property
    def passed(self) -> bool:
        """Whether the predictions are the same, but for rounding, or could not be compared."""
        return self.difference is None or self.difference <= self.tolerance

    @property
    def sentence(self) -> str:
        if self.difference is None:
            return f"check: not compared with {self.library}: {self.about}"
        return f"check: compared with {self.library} on {self.about}: the largest difference is {self.difference:.1e}"


def not_compared(library: str, why: str) -> Check:
    return Check(library, None, _TOLERANCE, why)


def compare(file: SourceFile, library: str, predict: Predict, *, batch: int | None = None) -> Check:
    """Compare predictions.

    Args:
        file: the converted file.
        library: the source library and its version.
        predict: its predictions for each of several batches, (sequences, steps, features) with the lengths of the
            sequences: a list of its outputs. A sequence is at the beginning of its row, the longest comes first.
        batch: the number of sequences that the source takes at a time; None: any.

    Raises:
        Exception: whatever `predict` raises.
    """
    first, alone = file.model.layers[0], _reads_alone(file)
    data = random_sequences(file, alone, batch)
    ours = file.model.predict(data)
    own = [each.values if isinstance(each, Ragged) else each for each in (ours if isinstance(ours, list) else [ours])]
    mask_value = mask_value_of(first)
    if alone:
        batches = [(np.repeat(each[np.newaxis], batch or 1, axis=0), np.full(batch or 1, len(each))) for each in data]
    else:
        batches = [(_padded(data, file, 0.0 if mask_value is None else mask_value), data.lengths)]
    theirs = predict(batches)
    per_step = file.model.network is not None and not file.model.network.one_row_each
    difference, largest = 0.0, 1.0
    for place, mine in enumerate(own):
        rows = _rows([each[place] for each in theirs], data, alone, per_step, first)
        if rows.shape != mine.shape:
            raise ValueError(f"its predictions have the shape {rows.shape}, not {mine.shape}")
        difference = max(difference, float(np.abs(rows - mine).max()))
        largest = max(largest, float(np.abs(rows).max()))
    steps = f"{data.lengths.min()} to {data.lengths.max()}" if np.ptp(data.lengths) else str(data.lengths[0])
    about = f"{counted(len(data), 'random sequence')} of {steps} time steps{', each alone' * alone}"
    return Check(library, difference, (_TOLERANCE if file.exact else _LOOSE) * largest, about)


def random_sequences(file: SourceFile, alone: bool, count: int | None = None) -> Ragged:
    """Sequences of random lengths, the longest first, of random numbers of which none is a mask's.

    Args:
        file: which model reads them.
        alone: whether it reads each alone.
        count: how many; None: 8, or fewer where they are long.
    """
    random = np.random.default_rng(0)
    layers = file.model.layers
    shortest = _shortest(layers)
    longest = file.steps or max(_LONGEST, 2 * shortest)
    if file.steps and alone:
        shortest = longest
    count = count or max(1, min(8, _MOST_STEPS // longest))
    lengths = np.sort(random.integers(min(shortest, longest), longest + 1, count))[::-1].copy()
    lengths[0] = longest
    size = int(lengths.sum())
    reader = next((layer for layer in layers if not isinstance(layer, Padding)), None)
    if isinstance(reader, Embedding):
        values = random.integers(1 if reader.mask_zero else 0, reader.input_dim, (size, 1)).astype(np.float32)
    else:
        values = random.standard_normal((size, file.model.input_features or 1), np.float32)
    if isinstance(reader, Masking):  # no step is masked by chance
        values[values == reader.mask_value] += 1.0
    return Ragged(values, offsets_of(lengths))


def _reads_alone(file: SourceFile) -> bool:
    """Whether the source is to read each sequence alone, since padding would change what it predicts."""
    if isinstance(file.model.layers[0], Padding):
        return False
    return not file.agrees or any(map(returns_reversed, file.model.layers))


def _shortest(layers: Sequence[Layer]) -> int:
    """The fewest steps with which each pooling has a window."""
    steps = 1
    for layer in reversed(layers):
        if isinstance(layer, (MaxPooling1D, AveragePooling1D)):
            steps = (steps - 1) * layer.strides + layer.pool_size
    return steps


def _padded(data: Ragged, file: SourceFile, value: float) -> FloatArray:
    first = file.model.layers[0]
    steps = file.steps or int(data.lengths.max())
    padding = first if isinstance(first, Padding) else Padding(steps, "post", value)
    return padding.extended(data)[0].values.reshape(len(data), padding.steps, data.features)


def _rows(outputs: Sequence[Any], data: Ragged, alone: bool, per_step: bool, first: Layer) -> FloatArray:
    """Of padded outputs the rows of the sequences' own steps."""
    if alone:
        return np.concatenate([each[0] if per_step else each[:1] for each in outputs])
    (array,) = outputs
    if not per_step:
        return np.asarray(array)
    before = np.arange(array.shape[1]) < data.lengths[:, np.newaxis]
    return np.asarray(array[before[:, ::-1] if isinstance(first, Padding) and first.side == "pre" else before])
