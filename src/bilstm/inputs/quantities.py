"""Quantities of any form -> numbers for each step, and where there are none."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.engine.plans import Targets
from bilstm.inputs.labels import INCONSISTENT, as_array
from bilstm.ragged import IndexArray, Ragged

Numbers = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Quantities:
    """What was measured at each step.

    Attributes:
        values: (rows, outputs) numbers; NaN in rows without.
        labelled: (rows,) whether there are any.
        flat: whether each step was given one number rather than a row of them.
    """

    values: Numbers
    labelled: npt.NDArray[np.bool_]
    flat: bool

    def scale(self, rows: IndexArray) -> tuple[Numbers, Numbers]:
        """(outputs,) the means of these rows, and their standard deviations, 1 where all are the same.

        Raises:
            ValueError: none of them has a value.
        """
        values = self.values[rows][self.labelled[rows]]
        if not len(values):
            raise ValueError("no step of y has a value, so there is nothing to learn")
        deviations = values.std(axis=0)
        return values.mean(axis=0), np.where(deviations > 0, deviations, 1.0)

    def targets(self, mean: Numbers, scale: Numbers) -> Targets:
        """What is to be learnt: quantities of mean 0 and standard deviation 1."""
        return Targets(values=((self.values - mean) / scale).astype(np.float32))


def read_quantities(y: Any, offsets: IndexArray) -> Quantities:
    """Quantities of every step, or none.

    Args:
        y: a list with a (steps,) or a (steps, outputs) array for each sequence, a (n, steps) or (n, steps, outputs)
            array, or a Ragged; None and NaN: unknown.
        offsets: (n + 1,) of the sequences.

    Raises:
        ValueError: y has none of these forms, another number of sequences or steps, or what is no finite number.
    """
    if not isinstance(y, (list, tuple)):
        y = list(y if isinstance(y, Ragged) else np.atleast_1d(np.asarray(y)))
    if len(y) != len(offsets) - 1:
        raise ValueError(f"{INCONSISTENT}: X has {len(offsets) - 1} sequences, y has {len(y)}")
    arrays = [as_array(quantities) for quantities in y]
    row = arrays[0].shape[1:2]
    for position, (array, steps) in enumerate(zip(arrays, np.diff(offsets).tolist(), strict=True)):
        if array.shape != (steps, *row) or row == (0,):
            raise ValueError(f"y: sequence {position} has shape {array.shape}, but {steps} steps in X")
    given = np.concatenate(arrays)
    try:
        values = given.astype(np.float64) if given.dtype.kind in "biufO" else None
    except (TypeError, ValueError):
        values = None
    if values is None:
        raise ValueError("quantities must be numbers, not text")
    values = values.reshape(len(values), -1)
    if np.isinf(values).any():
        raise ValueError("quantities must be finite numbers, or NaN where unknown, not infinite")
    absent = np.isnan(values)
    labelled = np.logical_not(absent.all(axis=1))
    if absent[labelled].any():
        raise ValueError("y lacks some of a step's quantities: a step has all of them or none")
    return Quantities(values, labelled, not row)
