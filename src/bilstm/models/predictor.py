"""Predictions one after the other with the least delay: for programs in which a microsecond counts."""

from __future__ import annotations

from typing import Any

import numpy as np

from bilstm.engine.library import check
from bilstm.engine.network import Network
from bilstm.ragged import FloatArray


class Predictor:
    """Predicts for arrays of one shape, over and over, and allocates nothing: `Sequential.predictor` makes it.

    It predicts what the model's `predict` of the same precision does, with the model's current weights. It is for one
    thread at a time; each can have its own.

    Attributes:
        input: (sequences, steps, features) float32: what is predicted for. It may be written into.
        output: (sequences, steps, outputs) float32, or (sequences, outputs) where the model returns one row for a
            sequence: what was predicted last. The next call writes over it.
    """

    def __init__(self, network: Network, sequences: int, steps: int, precision: str = "float32") -> None:
        self.input: FloatArray = np.zeros((sequences, steps, network.features), np.float32)
        shape = (sequences, network.outputs) if network.one_row_each else (sequences, steps, network.outputs)
        self.output: FloatArray = np.zeros(shape, np.float32)
        self._prepared = network.prepared(self.input, self.output, precision)
        self._predict = self._prepared.predict
        self._shape = self.input.shape

    def __call__(self, x: Any = None) -> FloatArray:
        """Predict for x, which is copied into `input`, or for what `input` holds. Returns `output`, always the same
        array.

        Raises:
            ValueError: x is not of the shape of `input`, or another thread is using this predictor.
        """
        if x is not None:
            if getattr(x, "shape", None) != self._shape and np.shape(x) != self._shape:  # at once for an array
                raise ValueError(f"this predictor takes arrays of shape {self._shape}, not {np.shape(x)}")
            self.input[...] = x
        if code := self._predict():
            check(code)
        return self.output
