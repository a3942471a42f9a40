"""Bootstrap intervals: how far a score may be off because of the choice of the sequences.

Whole clusters, sequences or groups of sequences, are drawn with replacement, as many as there are, and scored again.
Steps of one sequence resemble each other, and so do the sequences of one patient: drawing steps, or sequences where
there are groups, gives intervals that are too narrow. After Efron and Tibshirani, "An Introduction to the Bootstrap"
(1993), chapter 13, and, for drawing whole clusters, Davison and Hinkley, "Bootstrap Methods and their Application"
(1997), section 3.8.

All scores are functions of sums over clusters, so a resample needs no second look at the steps: 2,000 resamples are one
matrix product.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from bilstm.arguments import check_count
from bilstm.errors import counted
from bilstm.metrics.counts import S, Scores

RESAMPLES = 2000
FEWEST_CLUSTERS = 3  # two tell next to nothing of how clusters differ
_RELIABLE_CLUSTERS = 20
_MOST_CLUSTERS = 10_000  # beyond, sequences are merged at random, which makes an interval's width vary by 0.7 %
_MOST_NUMBERS = 2**24  # in a block of a matrix: 128 MB


def clusters_of(
    labelled: npt.NDArray[np.bool_], width: int, seed: int, groups: npt.ArrayLike | None = None
) -> npt.NDArray[np.int64] | None:
    """What the bootstrap draws: each sequence or group by itself, or several merged where there are very many.

    Args:
        labelled: (n_sequences,) whether a sequence has a label; sequences without labels are not drawn.
        width: how many numbers are kept for each cluster.
        seed: decides which are merged.
        groups: (n_sequences,) integers, the group of each sequence, such as its patient; None: each is its own.

    Returns:
        (n_sequences,) the cluster of each sequence, numbered from 0 without gaps, -1 for those without labels; None if
        there are fewer than three sequences, or groups, with labels.

    Raises:
        ValueError: `groups` has another length or holds no integers.
    """
    chosen = np.flatnonzero(labelled)
    numbers = np.arange(len(chosen))
    if groups is not None:
        groups = np.asarray(groups)
        if groups.shape != np.shape(labelled) or groups.dtype.kind not in "iu":
            raise ValueError(
                f"groups must be {np.size(labelled)} integers, one for each sequence, not {groups.dtype} of shape "
                f"{groups.shape}"
            )
        numbers = np.unique(groups[chosen], return_inverse=True)[1]
    n_numbers = int(numbers.max(initial=-1)) + 1
    if n_numbers < FEWEST_CLUSTERS:
        return None
    n_clusters = min(n_numbers, _MOST_CLUSTERS, max(FEWEST_CLUSTERS, _MOST_NUMBERS // width))
    if n_clusters < n_numbers:
        numbers = np.random.default_rng([seed, 1]).permutation(n_numbers)[numbers] % n_clusters
    clusters = np.full(len(labelled), -1, np.int64)
    clusters[chosen] = numbers
    return clusters


def interval_caution(clusters: int, of: str = "sequences") -> str | None:
    """What to tell the reader of intervals that rest on few clusters, in a sentence; None for at least 20.

    Args:
        clusters: how many sequences, or groups of them, have labels.
        of: "sequences" or "groups".
    """
    if clusters < FEWEST_CLUSTERS:
        verb = "has" if clusters == 1 else "have"
        return (
            f"Only {counted(clusters, of[:-1])} {verb} labels, so no intervals are given: "
            f"they need at least {FEWEST_CLUSTERS}."
        )
    if clusters < _RELIABLE_CLUSTERS:
        return (
            f"The intervals rest on only {clusters} {of} with labels and may be too narrow: "
            f"at least {_RELIABLE_CLUSTERS} are advisable."
        )
    return None


def intervals(
    sums: S, scores: Mapping[str, Callable[[S], Scores]], *, level: float, resamples: int, seed: int
) -> dict[str, Scores]:
    """Percentile intervals of some scores, from the same resamples.

    Args:
        sums: what each cluster contributes; the first axis of every field is the cluster.
        scores: functions of such sums, added up over the clusters of a resample; the first axis is then the resample.
        level: the share of the resamples that the interval holds, between 0 and 1; the rest is cut off at both ends in
            equal parts.
        resamples: how many, at least 1.
        seed: the same seed gives the same resamples.

    Returns:
        For each score its low and high end, as a last axis of length 2.

    Raises:
        ValueError: an argument is out of range.
    """
    ends = tails(level)
    resampled = resampled_scores(sums, scores, resamples=resamples, seed=seed)
    return {name: np.moveaxis(np.quantile(values, ends, axis=0), 0, -1) for name, values in resampled.items()}


def tails(level: float) -> list[float]:
    """The quantiles at which an interval with this share begins and ends; a ValueError if it is not within (0, 1)."""
    if not 0 < level < 1:
        raise ValueError(f"level must be a number between 0 and 1, such as 0.95, not {level!r}")
    return [(1 - level) / 2, (1 + level) / 2]


def resampled_scores(
    sums: S, scores: Mapping[str, Callable[[S], Scores]], *, resamples: int, seed: int
) -> dict[str, Scores]:
    """Some scores of the same resamples, which depend only on the seed and the number of clusters.

    Args:
        sums, scores, resamples, seed: as for `intervals`.

    Returns:
        For each score an array whose first axis is the resample.

    Raises:
        ValueError: an argument is out of range.
    """
    check_count("intervals", "resamples", resamples)
    fields = sums.fields()
    clusters = len(next(iter(fields.values())))
    matrix = np.concatenate([f.reshape(clusters, -1) for f in fields.values()], axis=1, dtype=np.float64)
    ends = np.cumsum([field[0].size for field in fields.values()])[:-1]
    rng = np.random.default_rng(seed)
    at_once = max(1, _MOST_NUMBERS // 4 // max(matrix.shape))
    blocks: dict[str, list[Scores]] = {name: [] for name in scores}
    for start in range(0, resamples, at_once):
        totals = _draws(rng, min(at_once, resamples - start), clusters) @ matrix
        columns = zip(fields.items(), np.split(totals, ends, axis=1), strict=True)
        drawn = {name: array.reshape(len(totals), *field.shape[1:]) for (name, field), array in columns}
        resampled: S = dataclasses.replace(sums, **drawn)
        for name, score in scores.items():
            blocks[name].append(score(resampled))
    return {name: np.concatenate(arrays) for name, arrays in blocks.items()}


def _draws(rng: np.random.Generator, resamples: int, clusters: int) -> Scores:
    """(resamples, clusters) how often each cluster is drawn, `clusters` times in all."""
    drawn = rng.integers(0, clusters, (resamples, clusters)) + clusters * np.arange(resamples)[:, np.newaxis]
    return np.bincount(drawn.ravel(), minlength=resamples * clusters).reshape(resamples, clusters).astype(np.float64)
