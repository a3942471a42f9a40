"""How far two ways to train differ, and how far that may be chance: of the test sequences, and of the seeds.

Both ways are scored on the same sequences, and drawn again together (the paired bootstrap, see
`bilstm.metrics.intervals`), so that what makes a sequence hard for both cancels out. To that is added how the
difference varies from seed to seed. Seeds are too few to be drawn again: of three, the bootstrap's interval would be
from the least to the greatest, which holds the truth three times in four. Their mean is taken to vary as Student's t.
What is chance of both, a seed's luck with these very sequences, counts twice, so intervals err on the wide side.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from bilstm.metrics.counts import Counts, Numbers, Scores, count_classes
from bilstm.metrics.intervals import RESAMPLES, resampled_scores, tails
from bilstm.metrics.labels import Classes

_DRAWS = 10  # of the seeds' chance to each resample of the sequences: Student's t has long tails


@dataclasses.dataclass(frozen=True)
class RunScores:
    """A score of several trained models on the same sequences.

    Attributes:
        values: (models,) from 0 to 1.
        resampled: (resamples, models) the same on resamples of the sequences.
    """

    values: Scores
    resampled: Scores


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over seeds, or a difference of two, with its interval.

    Attributes:
        value: what was found.
        low, high: the ends of the interval.
        sequence_error: the standard error that is due to the choice of the sequences.
        seed_error: the standard error that is due to the choice of the seeds; 0 if there is only one, which tells
            nothing of it.
    """

    value: float
    low: float
    high: float
    sequence_error: float
    seed_error: float


def count_steps(truth: Classes, guess: Classes, of_steps: Classes, n_units: int, n_classes: int) -> Counts:
    """(n_units, n_classes) counts of labelled steps; `of_steps` is the unit of each."""
    shape, right = (n_units, n_classes), truth == guess
    return Counts(
        correct=count_classes(of_steps[right], truth[right], shape),
        true=count_classes(of_steps, truth, shape),
        predicted=count_classes(of_steps, guess, shape),
    )


def score_runs(
    runs: list[Counts], scores: Mapping[str, Callable[[Counts], Scores]], *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, RunScores]:
    """Scores of several models, and of the same resamples for all.

    Args:
        runs: of each model, (n_units, n_classes) counts on the same sequences.
        scores: functions of counts, as of `intervals`.
        resamples, seed: as of `intervals`.
    """

    def stacked(field: str) -> Numbers:
        return np.stack([getattr(counts, field) for counts in runs], axis=1)

    sums = Counts(stacked("correct"), stacked("true"), stacked("predicted"))
    total = Counts(sums.correct.sum(0), sums.true.sum(0), sums.predicted.sum(0))
    found = resampled_scores(sums, scores, resamples=resamples, seed=seed)
    return {name: RunScores(score(total), found[name]) for name, score in scores.items()}


def estimate(
    scores: RunScores,
    models: npt.ArrayLike,
    against: npt.ArrayLike | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """The mean score of some models, or its difference from that of as many others.

    Args:
        scores: of all models.
        models: (seeds,) indices of the models of one kind, one for each seed.
        against: (seeds,) those of another kind, for the same seeds in the same order; None: nothing is taken off.
        level: the share of cases in which such an interval holds the truth, that is, the mean over all seeds and over
            all sequences that might have been drawn.
        seed: the same seed gives the same interval.

    Raises:
        ValueError: the level is not between 0 and 1, or the two are not as many.
    """
    ends = tails(level)
    first = np.asarray(models, np.int64)
    values, resampled = scores.values[first], scores.resampled[:, first]
    if against is not None:
        second = np.asarray(against, np.int64)
        if first.shape != second.shape:
            raise ValueError(f"there are {len(first)} models of one kind and {len(second)} of the other")
        values, resampled = values - scores.values[second], resampled - scores.resampled[:, second]
    means = resampled.mean(axis=1)
    seeds = len(values)
    seed_error = float(values.std(ddof=1) / np.sqrt(seeds)) if seeds > 1 else 0.0
    drawn = means[:, np.newaxis]
    if seed_error:
        chance = np.random.default_rng([seed, 2]).standard_t(seeds - 1, (len(means), _DRAWS))
        drawn = drawn + seed_error * chance
    least = 0.0 if against is None else -1.0  # scores are from 0 to 1, which Student's t does not know
    low, high = np.quantile(drawn.clip(least, 1.0), ends)
    return Estimate(float(values.mean()), float(low), float(high), float(means.std()), seed_error)
