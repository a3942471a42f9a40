"""How far a score may be off by the chance that chose the sequences: percentile intervals of the bootstrap.

Whole sequences are drawn, with replacement, as many as there are, and scored again: steps of one sequence resemble each
other, so drawing steps would promise too much. After Efron and Tibshirani, "An Introduction to the Bootstrap" (1993),
chapter 13, and, for the drawing of whole clusters, Davison and Hinkley, "Bootstrap Methods and their Application"
(1997), section 3.8.

All scores are functions of sums over sequences. So a resample needs no step again: 2,000 of them are a matrix product.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from bilstm.arguments import check_count
from bilstm.metrics.counts import Counts, Scores

RESAMPLES = 2000
_MOST_UNITS = 10_000  # from here on, sequences are drawn in groups, which makes an interval's width vary by 0.7 %
_MOST_NUMBERS = 2**24  # in a block of a matrix: 128 MB
_Sums = TypeVar("_Sums", bound=Counts)


def units_of(labelled: npt.NDArray[np.bool_], width: int, seed: int) -> npt.NDArray[np.int64] | None:
    """What is drawn: each sequence by itself, or a random group of them where there are very many.

    Args:
        labelled: (n_sequences,) whether a sequence has a label; those without take no part.
        width: how many numbers are kept for each.

    Returns:
        (n_sequences,) the unit of each sequence, counted from 0 and every one in use, -1 for those without a label;
        None if fewer than two have one, which tells nothing of how sequences differ.
    """
    chosen = np.flatnonzero(labelled)
    if len(chosen) < 2:
        return None
    count = min(len(chosen), _MOST_UNITS, max(2, _MOST_NUMBERS // width))
    positions = np.arange(len(chosen))
    if count < len(chosen):
        positions = np.random.default_rng([seed, 1]).permutation(positions)
    units = np.full(len(labelled), -1, np.int64)
    units[chosen] = positions % count
    return units


def intervals(
    sums: _Sums, scores: Mapping[str, Callable[[_Sums], Scores]], *, level: float, resamples: int, seed: int
) -> dict[str, Scores]:
    """Percentile intervals of some scores, from the same resamples.

    Args:
        sums, scores, resamples, seed: see `resampled_scores`.
        level: the share of the resamples that the interval holds, between 0 and 1; the others are cut off at both ends
            alike.

    Returns:
        For each score its low and high end, as a last axis of length 2.

    Raises:
        ValueError: an argument is out of range.
    """
    ends = tails(level)
    found = resampled_scores(sums, scores, resamples=resamples, seed=seed)
    return {name: np.moveaxis(np.quantile(values, ends, axis=0), 0, -1) for name, values in found.items()}


def tails(level: float) -> list[float]:
    """The quantiles at which an interval that holds this share begins and ends.

    Raises:
        ValueError: the share is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be a number between 0 and 1, such as 0.95, not {level!r}")
    return [(1 - level) / 2, (1 + level) / 2]


def resampled_scores(
    sums: _Sums, scores: Mapping[str, Callable[[_Sums], Scores]], *, resamples: int, seed: int
) -> dict[str, Scores]:
    """Some scores of the same resamples.

    Args:
        sums: what each unit contributes; the first axis of every field is the unit.
        scores: functions of such sums, added up over the units of a resample; the first axis is then the resample.
        resamples: how many, at least 1.
        seed: the same seed gives the same resamples.

    Returns:
        For each score an array whose first axis is the resample.

    Raises:
        ValueError: an argument is out of range.
    """
    check_count("intervals", "resamples", resamples)
    fields = [getattr(sums, field.name) for field in dataclasses.fields(sums)]
    units = len(fields[0])
    matrix = np.concatenate([field.reshape(units, -1) for field in fields], axis=1, dtype=np.float64)
    ends = np.cumsum([field[0].size for field in fields])[:-1]
    rng = np.random.default_rng(seed)
    at_once = max(1, _MOST_NUMBERS // 4 // max(matrix.shape))
    found: dict[str, list[Scores]] = {name: [] for name in scores}
    for start in range(0, resamples, at_once):
        totals = _draws(rng, min(at_once, resamples - start), units) @ matrix
        parts = zip(np.split(totals, ends, axis=1), fields, strict=True)
        resampled = type(sums)(*(part.reshape(len(totals), *field.shape[1:]) for part, field in parts))
        for name, score in scores.items():
            found[name].append(score(resampled))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _draws(rng: np.random.Generator, resamples: int, units: int) -> Scores:
    """(resamples, units) how often each unit is drawn, `units` times in all."""
    drawn = rng.integers(0, units, (resamples, units)) + units * np.arange(resamples)[:, np.newaxis]
    return np.bincount(drawn.ravel(), minlength=resamples * units).reshape(resamples, units).astype(np.float64)
