"""How much more often one prediction is right than another for the same steps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bilstm.metrics.counts import Counts, Scores
from bilstm.metrics.intervals import RESAMPLES, intervals, units_of
from bilstm.metrics.labels import check_classes, sequence_of_steps
from bilstm.ragged import as_offsets


def accuracy_gain(
    labels: npt.ArrayLike,
    predicted: npt.ArrayLike,
    others: npt.ArrayLike,
    offsets: npt.ArrayLike,
    n_classes: int,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, Scores | None]:
    """How much more often predictions are right than other predictions for the same steps.

    Args:
        labels: (steps,) integers from -1 to n_classes - 1.
        predicted, others: (steps,) integers from 0 to n_classes - 1.
        offsets: (n_sequences + 1,) where sequences begin and end, as in `Ragged`.
        level, resamples, seed: see `bilstm.metrics.step_intervals`.

    Returns:
        The difference of the accuracies, and its (2,) interval, None where fewer than two sequences have labels. It is
        paired: both are scored on the same sequences in every resample, so what is hard for both does not widen it.

    Raises:
        ValueError: no step is labelled, or an argument is not one of the above.
    """
    scores = GainScores(len(np.asarray(offsets)) - 1)
    scores.add(labels, predicted, others, offsets, n_classes)
    return scores.report(level=level, resamples=resamples, seed=seed)


class GainScores:
    """The same for sequences that come some at a time.

    Args:
        n_sequences: how many there are.
    """

    def __init__(self, n_sequences: int) -> None:
        self._gained, self._steps = np.zeros(n_sequences, np.int64), np.zeros(n_sequences, np.int64)
        self._done = 0

    def add(
        self,
        labels: npt.ArrayLike,
        predicted: npt.ArrayLike,
        others: npt.ArrayLike,
        offsets: npt.ArrayLike,
        n_classes: int,
    ) -> None:
        """Take the next sequences: see `accuracy_gain`."""
        truth, guess = check_classes(labels, predicted, n_classes)
        _, other = check_classes(labels, others, n_classes)
        places = as_offsets(offsets, len(truth))
        labelled = truth >= 0
        gained = ((guess == truth).astype(np.int64) - (other == truth))[labelled]
        of_steps = sequence_of_steps(places)[labelled] + self._done
        np.add.at(self._gained, of_steps, gained)
        np.add.at(self._steps, of_steps, 1)
        self._done += len(places) - 1

    def report(self, *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, Scores | None]:
        """What `accuracy_gain` returns.

        Raises:
            ValueError: none of the steps is labelled.
        """
        if not self._steps.any():
            raise ValueError("no step is labelled, so there is nothing to score")
        gain = float(self._gained.sum() / self._steps.sum())
        units = units_of(self._steps > 0, 3, seed)
        if units is None:
            return gain, None
        chosen = units >= 0
        gained, steps = (np.bincount(units[chosen], each[chosen]) for each in (self._gained, self._steps))
        sums = Counts(*(each.astype(np.int64)[:, np.newaxis] for each in (gained, steps, steps)))
        scores = {"gain": lambda counts: counts.overall().recall}
        return gain, intervals(sums, scores, level=level, resamples=resamples, seed=seed)["gain"]
