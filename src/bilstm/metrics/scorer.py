"""What all scorers share: sums over clusters of sequences that come in batches, their intervals and differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic

import numpy as np
import numpy.typing as npt

from bilstm.metrics.counts import S, Scores
from bilstm.metrics.intervals import RESAMPLES, clusters_of, interval_caution, intervals, resampled_scores, tails
from bilstm.ragged import as_offsets


class Scorer(Generic[S]):
    """Scores of sequences that come in batches, of which only sums over clusters are kept.

    Args:
        labelled: (n_sequences,) whether a sequence has labels; the sequences then come in this order.
        width: how many numbers `sums` keeps for each cluster.
        groups: (n_sequences,) integers, the group of each sequence: intervals then come from drawing whole groups.

    Attributes:
        sums: what each cluster contributes to the scores.
        scores: functions of such sums, by name: those that comparisons use.
        main: the name of the leading one among them.
        lower_is_better: whether lower values of the leading score are better.
        caution: what to tell the reader of the intervals, or None; see `interval_caution`.

    Raises:
        ValueError: `groups` has another length or holds no integers.
    """

    sums: S
    scores: Mapping[str, Callable[[S], Scores]]
    main: str
    lower_is_better = False

    def __init__(self, labelled: npt.ArrayLike, width: int, groups: npt.ArrayLike | None) -> None:
        chosen = np.asarray(labelled, bool)
        clusters = clusters_of(chosen, width, seed=0, groups=groups)
        self._has_intervals = clusters is not None
        # Without intervals, one cluster is enough.
        self._cluster_of = np.where(chosen, 0, -1) if clusters is None else clusters
        self._n_clusters = int(self._cluster_of.max(initial=0)) + 1
        self._next = 0
        independent = chosen.sum() if groups is None else len(np.unique(np.asarray(groups)[chosen]))
        self.caution = interval_caution(int(independent), "sequences" if groups is None else "groups")

    def intervals(
        self,
        scores: Mapping[str, Callable[[S], Scores]],
        *,
        level: float = 0.95,
        resamples: int = RESAMPLES,
        seed: int = 0,
    ) -> dict[str, Scores] | None:
        """For each score its low and high end, as a last axis of length 2; None with fewer than three clusters."""
        if not self._has_intervals:
            return None
        return intervals(self.sums, scores, level=level, resamples=resamples, seed=seed)

    def gain(
        self, other: Scorer[S], *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
    ) -> dict[str, Any]:
        """By how much the leading score is better than that of other predictions for the same sequences.

        Args:
            other: a scorer that was given the same sequences and labels.
            level: the share of the resamples that lies within the interval.
            resamples: how many resamples.
            seed: the same seed gives the same interval.

        Returns:
            "value": the difference, positive if these predictions are better; "interval": its [low, high], None with
            fewer than three clusters. It is paired: in every resample both are scored on the same sequences, so what
            is hard for both does not widen it.

        Raises:
            ValueError: the scorers are of different kinds or have different sequences.
        """
        if type(self) is not type(other) or not np.array_equal(self._cluster_of, other._cluster_of):
            raise ValueError("gain: both scorers must be of one kind and have the same sequences")
        score, sign = self.scores[self.main], -1 if self.lower_is_better else 1
        value = float(score(self.sums.total()) - score(other.sums.total()))
        if not self._has_intervals:
            return {"value": sign * value, "interval": None}
        mine, theirs = (
            resampled_scores(scorer.sums, {"main": score}, resamples=resamples, seed=seed)["main"]
            for scorer in (self, other)
        )
        return {"value": sign * value, "interval": np.quantile(sign * (mine - theirs), tails(level)).tolist()}

    def _clusters(self, sequences: int) -> npt.NDArray[np.int64]:
        """(sequences,) the clusters of the next sequences, -1 for those without labels."""
        start, self._next = self._next, self._next + sequences
        if self._next > len(self._cluster_of):
            raise ValueError(f"there are {len(self._cluster_of)} sequences in all, but {self._next} were added")
        return self._cluster_of[start : self._next]

    def _clusters_of_rows(self, offsets: npt.ArrayLike, known: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """The clusters of the labelled rows of the next sequences; `known` is (rows,) whether a row is labelled."""
        lengths = np.diff(as_offsets(offsets, len(known)))
        return np.repeat(self._clusters(len(lengths)), lengths)[known]
