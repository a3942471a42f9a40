"""Where PyTorch's recurrent weights are among the engine's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bilstm.engine import plans
from bilstm.engine.library import DirectionStruct
from bilstm.ragged import FloatArray

_CELLS = {"LSTM": "lstm", "GRU": "gru"}


class Direction(NamedTuple):
    """A cell of PyTorch's that reads sequences in one direction: its mode, "LSTM" or "GRU", and its units."""

    mode: str
    units: int

    def plan(self, *, backward: bool) -> DirectionStruct:
        return plans.direction(_CELLS[self.mode], self.units, reverse=backward, flip=backward)

    @property
    def gates(self) -> list[tuple[slice, slice]]:
        """PyTorch's rows and the engine's columns of blocks of gates: a GRU's are r, z, n there and z, r, n here."""
        if self.mode == "LSTM":
            return [(slice(None), slice(None))]  # i, f, g, o, in both
        r, z, n = (slice(i * self.units, (i + 1) * self.units) for i in range(3))
        return [(r, z), (z, r), (n, n)]


class _Part(NamedTuple):
    """One of PyTorch's weights.

    Attributes:
        number: among PyTorch's.
        shape: (rows,) or (rows, columns), of which the engine has the transpose.
        where: among the engine's weights.
        gates: PyTorch's rows and the engine's columns.
        adds: whether the engine has the sum of it and the next.
    """

    number: int
    shape: tuple[int, ...]
    where: slice
    gates: list[tuple[slice, slice]]
    adds: bool

    def blocks(self, flat: FloatArray) -> list[tuple[slice, FloatArray]]:
        """PyTorch's rows, and what the engine's weights have of them."""
        own = flat[self.where].reshape(self.shape[::-1])
        return [(rows, own[..., columns].T) for rows, columns in self.gates]


class Arrangement:
    """PyTorch's weights, four for each direction, as the engine's.

    Args:
        directions: in the order of their weights.
        shapes: of all of PyTorch's weights.
    """

    def __init__(self, directions: Sequence[Direction], shapes: Sequence[tuple[int, ...]]) -> None:
        self._parts: list[_Part] = []
        at = 0
        for index, shape in enumerate(shapes):
            direction = directions[index // 4]
            adds = direction.mode == "LSTM" and index % 4 == 2  # PyTorch adds an LSTM's two biases
            if direction.mode == "LSTM" and index % 4 == 3:
                continue
            size = int(np.prod(shape))
            self._parts.append(_Part(index, shape, slice(at, at + size), direction.gates, adds))
            at += size
        self.flat = np.empty(at, np.float32)
        self._targets = [part.blocks(self.flat) for part in self._parts]

    def gather(self, arrays: Sequence[npt.NDArray[Any]]) -> FloatArray:
        """The engine's weights from PyTorch's, in an array that the next call writes over."""
        for part, blocks in zip(self._parts, self._targets, strict=True):
            array = arrays[part.number]
            if part.adds:
                array = array + arrays[part.number + 1]
            for rows, target in blocks:
                target[...] = array[rows]
        return self.flat

    def scatter(self, flat: FloatArray) -> list[FloatArray]:
        """Gradients of the engine's weights as those of PyTorch's. Two that are added have the same."""
        arrays: list[FloatArray] = []
        for part in self._parts:
            array = np.empty(part.shape, np.float32)
            for rows, source in part.blocks(flat):
                array[rows] = source
            arrays.append(array)
            if part.adds:
                arrays.append(array.copy())
        return arrays
