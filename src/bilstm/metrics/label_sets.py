"""Scores of labels of which several may hold at once, each a yes or no of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.metrics.calibration import BINS, ProbabilitySums, losses
from bilstm.metrics.counts import Numbers, Scores, add_at, ratio
from bilstm.metrics.labels import Known, check_label_sets, require_labelled
from bilstm.metrics.rankings import mean_of_known, precision_over_thresholds
from bilstm.metrics.scorer import Scorer


@dataclasses.dataclass(frozen=True)
class LabelSetSums(ProbabilitySums):
    """Counts of labels, and the sums that scores of label sets are made of.

    Attributes:
        steps: (…,) how many are labelled.
        exact: (…,) at how many of them every label is right.
    """

    steps: Numbers
    exact: Numbers


_SCORES: dict[str, Callable[[LabelSetSums], Scores]] = {
    "micro_f1": lambda sums: sums.overall().f1,
    "macro_f1": lambda sums: sums.macro(sums.f1),
    "subset_accuracy": lambda sums: ratio(sums.exact, sums.steps),
    "hamming_loss": lambda sums: _mean((sums.true + sums.predicted - 2 * sums.correct).sum(-1), sums),
    "log_loss": lambda sums: _mean(sums.loss, sums),
}
_COMPARED = {name: _SCORES[name] for name in ("macro_f1", "micro_f1", "subset_accuracy")}


class LabelSetScores(Scorer[LabelSetSums]):
    """Scores of several labels at once, for sequences that come in batches.

    A label is predicted where its probability is above a half. All labels and probabilities (as float32) are kept in
    memory, since the average precision needs them: 5 bytes for each label of each step.

    Args:
        labelled: (n_sequences,) whether a sequence has labels.
        n_labels: how many labels there are.
        groups: (n_sequences,) integers, the group of each sequence: intervals then come from drawing whole groups.
        per_sequence: whether each sequence has one set of labels.

    Raises:
        ValueError: `groups` has another length or holds no integers.
    """

    scores = _COMPARED
    main = "macro_f1"

    def __init__(
        self,
        labelled: npt.ArrayLike,
        n_labels: int,
        *,
        groups: npt.ArrayLike | None = None,
        per_sequence: bool = False,
    ) -> None:
        super().__init__(labelled, 3 * n_labels + 3 + 3 * BINS, groups)
        of_probabilities = ProbabilitySums.zeros(self._n_clusters, n_labels, BINS)
        steps, exact = (np.zeros(self._n_clusters, np.int64) for _ in range(2))
        self.sums = LabelSetSums(**of_probabilities.fields(), steps=steps, exact=exact)
        self._count = "labelled_sequences" if per_sequence else "steps"
        self._kept: list[tuple[Known, npt.NDArray[np.float32]]] = []

    def add(self, labels: npt.ArrayLike, probabilities: npt.ArrayLike, offsets: npt.ArrayLike) -> None:
        """Take the next sequences, which may have no labels.

        Args:
            labels: (steps, n_labels) of 0 and 1; a step with a NaN is unlabelled.
            probabilities: (steps, n_labels) numbers from 0 to 1.
            offsets: (sequences + 1,) where these sequences begin and end.

        Raises:
            ValueError: an argument is not one of the above.
        """
        sums = self.sums
        known, truth, rows = check_label_sets(labels, probabilities, sums.true.shape[1])
        clusters = self._clusters_of_rows(offsets, known)
        guess = rows > 0.5
        for counts, holds in ((sums.correct, truth & guess), (sums.true, truth), (sums.predicted, guess)):
            steps, columns = np.nonzero(holds)
            add_at(counts, clusters[steps], columns)
        add_at(sums.steps, clusters)
        add_at(sums.exact, clusters[(truth == guess).all(axis=1)])
        add_at(sums.loss, clusters, values=losses(truth, rows).sum(axis=1))
        sums.add_confidences(truth, rows, clusters)
        self._kept.append((truth, rows.astype(np.float32)))

    def report(self) -> dict[str, Any]:
        """All scores, as plain data.

        Returns:
            "steps": how many are labelled, or with `per_sequence` "labelled_sequences"; "micro_f1"; "macro_f1": the
            mean over the labels that hold or are predicted somewhere; "subset_accuracy": the share of steps at which
            every label is right; "majority": the subset accuracy of always predicting the most frequent answer of each
            label; "hamming_loss": the share of wrong answers; "log_loss": the mean over all labels of all steps;
            "calibration_error" and the "calibration" curve, see `calibration_curve` with `several`;
            "macro_average_precision": the mean over the labels that hold somewhere, None if none does; "per_label":
            for each label its "precision", "recall", "f1" (0 where undefined), "support", "average_precision" (as
            scikit-learn defines it, None where the label never holds) and "f1_interval"; "intervals": of each F1, the
            subset accuracy and both losses the 95 % interval [low, high], or None where fewer than three sequences or
            groups have labels; "caution": a sentence where the intervals rest on few sequences or groups, otherwise
            None.

        Raises:
            ValueError: no step is labelled.
        """
        require_labelled(self.sums.steps)
        total = self.sums.total()
        truth, rows = (np.concatenate(arrays) for arrays in zip(*self._kept, strict=True))
        per_label = total.per_class()
        ends = self.intervals({**_SCORES, "f1": lambda sums: sums.f1})
        for label, scores in enumerate(per_label):
            scores["average_precision"] = precision_over_thresholds(rows[:, label], truth[:, label])
            scores["f1_interval"] = ends and ends["f1"][label].tolist()
        return {
            self._count: int(total.steps),
            "majority": float((truth == (2 * total.true > total.steps)).all(axis=1).mean()),
            **{name: float(score(total)) for name, score in _SCORES.items()},
            "macro_average_precision": mean_of_known([scores["average_precision"] for scores in per_label]),
            "calibration_error": float(total.calibration_error),
            "calibration": total.curve(),
            "intervals": ends and {name: ends[name].tolist() for name in _SCORES},
            "caution": self.caution,
            "per_label": per_label,
        }


def _mean(sums_over_labels: Numbers, sums: LabelSetSums) -> Scores:
    """The mean over all labels of all steps."""
    return ratio(sums_over_labels, sums.steps * sums.true.shape[-1])
