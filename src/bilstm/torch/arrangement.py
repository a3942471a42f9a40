"""Where PyTorch's recurrent weights are among the engine's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

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
    def gates(self) -> list[int]:
        """Which of PyTorch's blocks of rows each of the engine's blocks of columns is, and the reverse."""
        return [0, 1, 2, 3] if self.mode == "LSTM" else [1, 0, 2]  # a GRU's are r, z, n there and z, r, n here


class _Part(NamedTuple):
    """One of PyTorch's weights.

    Attributes:
        number: among PyTorch's.
        shape: (rows,) or (rows, columns), of which the engine has the transpose.
        where: among the engine's weights.
        gates: see `Direction`.
        adds: whether the engine has the sum of it and the next.
    """

    number: int
    shape: tuple[int, ...]
    where: slice
    gates: list[int]
    adds: bool

    def ordered(self, array: FloatArray) -> FloatArray:
        """The array with blocks of rows in the other library's order."""
        if self.gates == sorted(self.gates):
            return array
        blocks = np.split(array, len(self.gates))
        return np.concatenate([blocks[gate] for gate in self.gates])


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
        self.flat = np.empty(at, np.float32)  # what is gathered or to be scattered

    def gather(self, arrays: Sequence[FloatArray]) -> FloatArray:
        """The engine's weights from PyTorch's, in an array that the next call writes over."""
        for part in self._parts:
            array = arrays[part.number]
            if part.adds:
                array = array + arrays[part.number + 1]
            _transpose(part.ordered(array), self.flat[part.where].reshape(part.shape[::-1]))
        return self.flat

    def scatter(self, flat: FloatArray) -> list[FloatArray]:
        """Gradients of the engine's weights as those of PyTorch's. Two that are added have the same."""
        arrays: list[FloatArray] = []
        block = np.empty_like(self.flat)  # one: for several, the system has to find the pages again each time
        for part in self._parts:
            array = block[part.where].reshape(part.shape)
            _transpose(flat[part.where].reshape(part.shape[::-1]), array)
            arrays.append(part.ordered(array))
            if part.adds:
                arrays.append(arrays[-1].copy())
        return arrays


def _transpose(source: FloatArray, target: FloatArray) -> None:
    """Copy the transpose: PyTorch does it in blocks, several times as fast as NumPy, and on the calling thread."""
    torch.from_numpy(target).copy_(torch.from_numpy(source).T if source.ndim == 2 else torch.from_numpy(source))
