"""What a network gives for some rows, and the labels that follow from it."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bilstm.ragged import FloatArray


@dataclasses.dataclass(frozen=True)
class Outputs:
    """A network's outputs for some rows: time steps, or whole sequences.

    Attributes:
        values: (rows, outputs) float32: probabilities, or scaled quantities.
        path: (rows,) int32, the predicted labels where these are not each row's own likeliest one: the likeliest of
            the rows' sequences as a whole (Viterbi), from a network that ends with a `CRF`, or of a scheme of tags that
            was learned instead of theirs.
    """

    values: FloatArray
    path: npt.NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice | npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> Outputs:
        return Outputs(self.values[rows], None if self.path is None else self.path[rows])

    @cached_property
    def labels(self) -> npt.NDArray[np.integer]:
        """(rows,) the predicted label of each row, where each has one."""
        return self.values.argmax(axis=1) if self.path is None else self.path

    @property
    def confidences(self) -> FloatArray:
        """(rows,) the probability of each predicted label."""
        if self.path is None:
            return np.asarray(self.values.max(axis=1))
        return np.asarray(self.values[np.arange(len(self.path)), self.path])

    def likeliest(self, count: int) -> npt.NDArray[np.integer]:
        """(rows, count) the predicted label, then the others by probability, of equally likely ones the first."""
        if count == 1:
            return self.labels[:, np.newaxis]
        keys = -self.values
        if self.path is not None:
            keys[np.arange(len(keys)), self.path] = -np.inf
        return np.argsort(keys, axis=1, kind="stable")[:, :count]
