"""Figures of predictions that an evaluation does not give, from outputs that come some sequences at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.data.dataset import Truth
from bilstm.metrics import with_temperature
from bilstm.metrics.calibration import BINS, ProbabilitySums
from bilstm.tasks import LabelTask, Outputs, QuantityTask, Task

SURE = 0.9
BARS = 40  # of the histogram of residuals, between -4 and 4 root mean squared errors
_FINER = 10  # times as many bins are counted, for the quantiles of the errors
_FURTHEST = 4.0
MOST_POINTS = 1_000  # of residuals that are drawn

Scores = npt.NDArray[np.float64]


class LabelTotals:
    """How often each label is predicted, how sure predictions are, and the calibration before it was corrected.

    Args:
        task: labels, or several labels at once.
        temperature: by which the model's probabilities were scaled.
    """

    def __init__(self, task: Task, temperature: float) -> None:
        self._task, self._temperature = task, temperature
        self._predicted = np.zeros(task.outputs, np.int64)
        self._rows = self._sure = self._right = self._sure_and_right = 0
        self._raw = ProbabilitySums.zeros(1, task.outputs, BINS)

    def add(self, truth: Truth, outputs: Outputs) -> None:
        """Take the outputs of further rows."""
        labelled = self._task.labelled(truth)
        truth, outputs = truth[labelled], outputs[labelled]
        several = not isinstance(self._task, LabelTask)
        if self._temperature != 1.0:
            raw = with_temperature(outputs.values, 1 / self._temperature, several=several)
            self._raw.add_confidences(truth > 0.5 if several else truth, raw, np.zeros(len(truth), np.int64))
        if several:
            self._predicted += (outputs.values > 0.5).sum(axis=0)
            return
        sure, right = outputs.confidences >= SURE, outputs.labels == truth
        self._predicted += np.bincount(outputs.labels, minlength=len(self._predicted))
        self._rows += len(truth)
        self._sure += int(sure.sum())
        self._right += int(right.sum())
        self._sure_and_right += int((sure & right).sum())

    def report(self) -> dict[str, Any]:
        """The figures as plain data.

        Returns:
            "predicted": for how many labelled rows each label is predicted; "uncalibrated": the calibration curve
            before probabilities were scaled, None where they were not; "confidence": the "share" of the labelled rows
            whose label is predicted with a probability of at least "threshold", and the share of right predictions
            among these ("right") and among the others ("otherwise"), None where there are none.
        """
        others = self._rows - self._sure
        return {
            "predicted": self._predicted.tolist(),
            "uncalibrated": self._raw.total().curve() if self._temperature != 1.0 else None,
            "confidence": {
                "threshold": SURE,
                "share": self._sure / max(1, self._rows),
                "right": self._sure_and_right / self._sure if self._sure else None,
                "otherwise": (self._right - self._sure_and_right) / others if others else None,
            },
        }


class Residuals:
    """Histograms of residuals (predicted - true values), and a random sample of them.

    Args:
        task: what is predicted.
        errors: the root mean squared error of each quantity, which gives the histograms' range.
        seed: chooses the sample.
    """

    def __init__(self, task: QuantityTask, errors: list[float], seed: int = 0) -> None:
        self._task, self._rng = task, np.random.default_rng([seed, 4])
        self._errors = np.array([error or 1.0 for error in errors])
        self._counts = np.zeros((task.outputs, BARS * _FINER), np.int64)
        self._sums = np.zeros((2, task.outputs))  # of the true values' distances from the training mean, and squares
        self._rows = 0
        self._order = np.zeros(0)  # a random number for each row of the sample: the smallest ones of all rows
        self._sample = np.zeros((0, 2, task.outputs))

    def add(self, truth: Truth, outputs: Outputs) -> None:
        """Take the outputs of further rows."""
        labelled = self._task.labelled(truth)
        truth, predicted = truth[labelled], self._task.predicted(outputs[labelled])
        bins, width = self._counts.shape[1], 2 * _FURTHEST / self._counts.shape[1]
        bin_of_rows = np.floor((predicted - truth) / self._errors / width).clip(-bins // 2, bins // 2 - 1) + bins // 2
        for output, counts in enumerate(self._counts):
            counts += np.bincount(bin_of_rows[:, output].astype(np.int64), minlength=bins)
        columns, deviations = np.tile(np.arange(truth.shape[1]), len(truth)), (truth - self._task.mean).ravel()
        for sums, values in zip(self._sums, (deviations, deviations**2), strict=True):
            np.add.at(sums, columns, values)  # one after the other: the chunks do not matter
        self._rows += len(truth)
        order = np.append(self._order, self._rng.random(len(truth)))
        chosen = np.sort(np.argsort(order, kind="stable")[:MOST_POINTS])
        kept, new = chosen[chosen < len(self._order)], chosen[chosen >= len(self._order)] - len(self._order)
        self._sample = np.concatenate([self._sample[kept], np.stack([predicted[new], truth[new]], axis=1)])
        self._order = order[chosen]

    def report(self) -> dict[str, Any]:
        """The figures as plain data.

        Returns:
            "residuals", a list: for each quantity its "name"; "rows"; "mean" and "deviation" of the true values;
            "range" and "bars": how many residuals lie in each of 40 bins of that range, those beyond counted in the
            outermost; "half" and "ninety": the absolute error that 50 or 90 % of the predictions do not exceed,
            None if beyond the range; "points": a random sample of [predicted, true] values.
        """
        reports = []
        for output, name in enumerate(self._task.columns):
            edge, counts = _FURTHEST * float(self._errors[output]), self._counts[output]
            mean, square = self._sums[:, output] / max(1, self._rows)
            reports.append(
                {
                    "name": name,
                    "rows": self._rows,
                    "mean": float(self._task.mean[output] + mean),
                    "deviation": float(np.sqrt(max(0.0, square - mean**2))),
                    "range": [-edge, edge],
                    "bars": counts.reshape(BARS, _FINER).sum(axis=1).tolist(),
                    "half": _quantile(counts, 0.5, edge),
                    "ninety": _quantile(counts, 0.9, edge),
                    "points": self._sample[:, :, output].tolist(),
                }
            )
        return {"residuals": reports}


def _quantile(counts: npt.NDArray[np.int64], share: float, edge: float) -> float | None:
    """The absolute error that this share of residuals does not exceed, to a fiftieth of the root mean squared error."""
    half = len(counts) // 2
    absolute = np.cumsum(counts[half:] + counts[:half][::-1])
    index = int(np.searchsorted(absolute, share * absolute[-1]))
    return None if index >= half - 1 else edge * (index + 1) / half
