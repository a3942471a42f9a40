"""Scores of predicted quantities."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.metrics.counts import Numbers, Scores, Sums, add_at, ratio
from bilstm.metrics.labels import check_quantities, require_labelled
from bilstm.metrics.scorer import Scorer

_CONSTANT = 1e-13  # a variance that is a smaller share of the squares it was computed from is rounding


@dataclasses.dataclass(frozen=True)
class QuantitySums(Sums):
    """The sums that scores of quantities are made of.

    Attributes:
        steps: (…,) how many are labelled.
        error: (…, n_outputs) the sum of predicted - true values.
        absolute: (…, n_outputs) the sum of the errors' absolute values.
        squared: (…, n_outputs) the sum of the errors' squares.
        deviation: (…, n_outputs) the sum of reference - true values, for a fixed reference near their mean.
        absolute_deviation: (…, n_outputs) the sum of the deviations' absolute values.
        squared_deviation: (…, n_outputs) the sum of the deviations' squares.
    """

    steps: Numbers
    error: Numbers
    absolute: Numbers
    squared: Numbers
    deviation: Numbers
    absolute_deviation: Numbers
    squared_deviation: Numbers

    def of_reference(self) -> QuantitySums:
        """The sums of always predicting the reference."""
        return dataclasses.replace(
            self, error=self.deviation, absolute=self.absolute_deviation, squared=self.squared_deviation
        )

    def mean(self, sums_over_steps: Numbers) -> Scores:
        """(…, n_outputs) the mean over steps."""
        return ratio(sums_over_steps, self.steps[..., np.newaxis])

    @property
    def r2(self) -> Scores:
        """(…, n_outputs) 1 - squared errors / squared deviations from the mean.

        As in scikit-learn, it is 1 or 0 where the true values are constant: 1 if every prediction is right.
        """
        variation = self.squared_deviation - self.deviation * self.mean(self.deviation)
        varies = variation > _CONSTANT * self.squared_deviation
        constant = np.where(self.squared > 0, 0.0, 1.0)
        shares = np.divide(self.squared, variation, out=np.zeros(variation.shape), where=varies)
        return np.where(varies, 1 - shares, constant)


_BY_OUTPUT: dict[str, Callable[[QuantitySums], Scores]] = {
    "mae": lambda sums: sums.mean(sums.absolute),
    "rmse": lambda sums: np.sqrt(sums.mean(sums.squared)),
    "r2": lambda sums: sums.r2,
    "bias": lambda sums: sums.mean(sums.error),
}
_SCORES: dict[str, Callable[[QuantitySums], Scores]] = {
    "mae": lambda sums: _BY_OUTPUT["mae"](sums).mean(-1),
    "rmse": lambda sums: _BY_OUTPUT["rmse"](sums).mean(-1),
    "r2": lambda sums: _BY_OUTPUT["r2"](sums).mean(-1),
}


class QuantityScores(Scorer[QuantitySums]):
    """Scores of quantities, for sequences that come in batches.

    Args:
        labelled: (n_sequences,) whether a sequence has known quantities.
        n_outputs: how many quantities a step has.
        means: (n_outputs,) float64, their means in the training set. Sums are taken of differences from these, so
            that scores are exact where the variation is small compared with the values.
        groups: (n_sequences,) integers, the group of each sequence: intervals then come from drawing whole groups.
        per_sequence: whether each sequence has quantities of its own, rather than each step.

    Raises:
        ValueError: `means` are not n_outputs finite numbers, or `groups` has another length or holds no integers.
    """

    scores = _SCORES
    main = "rmse"
    lower_is_better = True

    def __init__(
        self,
        labelled: npt.ArrayLike,
        n_outputs: int,
        means: npt.ArrayLike,
        *,
        groups: npt.ArrayLike | None = None,
        per_sequence: bool = False,
    ) -> None:
        super().__init__(labelled, 6 * n_outputs + 1, groups)
        self._means = np.asarray(means, np.float64)
        if self._means.shape != (n_outputs,) or not np.isfinite(self._means).all():
            raise ValueError(f"means must be {n_outputs} finite numbers, not {self._means.tolist()}")
        of_outputs = (np.zeros((self._n_clusters, n_outputs)) for _ in range(6))
        self.sums = QuantitySums(np.zeros(self._n_clusters, np.int64), *of_outputs)
        self._count = "labelled_sequences" if per_sequence else "steps"

    def add(self, quantities: npt.ArrayLike, predicted: npt.ArrayLike, offsets: npt.ArrayLike) -> None:
        """Take the next sequences, which may have no known quantities.

        Args:
            quantities: (steps, n_outputs) finite numbers; a step with a NaN is left out.
            predicted: (steps, n_outputs) finite numbers.
            offsets: (sequences + 1,) where these sequences begin and end.

        Raises:
            ValueError: an argument is not one of the above.
        """
        sums = self.sums
        known, truth, guess = check_quantities(quantities, predicted, len(self._means))
        clusters = self._clusters_of_rows(offsets, known)
        add_at(sums.steps, clusters)
        error, deviation = guess - truth, self._means - truth
        additions = (error, abs(error), error**2, deviation, abs(deviation), deviation**2)
        of_outputs = list(sums.fields().values())[1:]
        columns = np.tile(np.arange(truth.shape[1]), len(truth))
        for array, values in zip(of_outputs, additions, strict=True):
            add_at(array, clusters.repeat(truth.shape[1]), columns, values.ravel())

    def report(self) -> dict[str, Any]:
        """All scores, as plain data.

        Returns:
            "steps": how many have known quantities, or with `per_sequence` "labelled_sequences"; "mae", "rmse" and
            "r2": the mean absolute error, the root of the mean squared error and the coefficient of determination,
            each the mean over the quantities; "intervals": of each the 95 % interval [low, high], or None where fewer
            than three sequences or groups have known quantities; "caution": a sentence where the intervals rest on few
            sequences or groups, otherwise None; "mean_guess": the "mae", "rmse" and "r2" of always predicting `means`;
            "per_quantity": for each its "mae", "rmse", "r2" and "bias", the mean of predicted - true values, and their
            "intervals".

        Raises:
            ValueError: no step has known quantities.
        """
        require_labelled(self.sums.steps)
        total = self.sums.total()
        ends = self.intervals({**_SCORES, **{f"each_{name}": score for name, score in _BY_OUTPUT.items()}})
        return {
            self._count: int(total.steps),
            **{name: float(score(total)) for name, score in _SCORES.items()},
            "intervals": ends and {name: ends[name].tolist() for name in _SCORES},
            "caution": self.caution,
            "mean_guess": {name: float(score(total.of_reference())) for name, score in _SCORES.items()},
            "per_quantity": [
                {
                    **{name: float(score(total)[output]) for name, score in _BY_OUTPUT.items()},
                    "intervals": ends and {name: ends[f"each_{name}"][output].tolist() for name in _BY_OUTPUT},
                }
                for output in range(len(self._means))
            ],
        }
