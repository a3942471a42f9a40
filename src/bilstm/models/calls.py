"""How much goes into one call of the engine: Python notices Ctrl-C, and redraws a progress bar, only between calls."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bilstm.ragged import IndexArray

CALL_SECONDS = 0.1  # what a call of several training steps should take
# Multiplications by weights that take a core at most a few tenths of a second.
_TRAINING = 100_000_000
_PREDICTION = 5_000_000_000
_FEWEST_SEQUENCES = 32  # in a call for prediction: the engine needs some to fill the processor


class Pace:
    """Finds, from how long the last call took, how many batches to train on in the next.

    Args:
        ends: (batches,) steps up to the end of each batch.
        weights: the number of weights that each step is multiplied by.
    """

    def __init__(self, ends: IndexArray, weights: int) -> None:
        self.ends = ends
        self.steps = max(1, _TRAINING // max(1, weights))  # in the next call

    def next(self, done: int) -> int:
        """The index of the batch after the next call's last, when `done` batches are done."""
        return max(done + 1, int(self.ends.searchsorted(self._before(done) + self.steps, "right")))

    def note(self, done: int, end: int, seconds: float) -> None:
        """Record how long the call for these batches took."""
        steps = self._before(end) - self._before(done)
        self.steps = max(1, int(steps * min(8.0, CALL_SECONDS / max(seconds, 1e-9))))

    def _before(self, batch: int) -> int:
        return int(self.ends[batch - 1]) if batch else 0


def chunks(lengths: IndexArray, weights: int) -> Iterator[slice]:
    """Divide sequences into slices, each for one prediction call. The division depends on their lengths only.

    Args:
        lengths: (n,) steps of each sequence.
        weights: the number of weights that each step is multiplied by.
    """
    most = steps_to_predict(weights)
    ends = np.cumsum(lengths)
    start = 0
    while start < len(lengths):
        before = int(ends[start - 1]) if start else 0
        stop = max(int(np.searchsorted(ends, before + most, "right")), start + _FEWEST_SEQUENCES)
        yield slice(start, min(stop, len(lengths)))
        start = stop


def steps_to_predict(weights: int) -> int:
    """The most steps that one call may predict for a model with this many weights per step."""
    return _PREDICTION // max(1, weights)
