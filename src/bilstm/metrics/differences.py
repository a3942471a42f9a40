"""How far two ways to train differ, and how uncertain that is given few test sequences and few seeds.

Both ways are scored on the same sequences, and these are resampled together (the paired bootstrap, see
`bilstm.metrics.intervals`), so that what makes a sequence hard for both cancels out. The variation of the difference
between seeds is added. Seeds are too few to be resampled: with three, the bootstrap's interval would be from the least
to the greatest, which holds the truth three times in four. Their mean is taken to vary as Student's t. How a seed
fares on these very sequences counts twice, so intervals err on the wide side.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from bilstm.metrics.counts import S, Scores
from bilstm.metrics.intervals import FEWEST_CLUSTERS, RESAMPLES, resampled_scores, tails

_DRAWS = 10  # of the seeds' variation for each resample of the sequences: Student's t has long tails
Bounds = tuple[float | None, float | None]


@dataclasses.dataclass(frozen=True)
class RunScores:
    """A score of several trained models on the same sequences.

    Attributes:
        values: (models,) the score of each.
        resampled: (resamples, models) the score of each on the same resamples of the sequences; None where there are
            fewer than three clusters of sequences.
    """

    values: Scores
    resampled: Scores | None


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over seeds, or a difference of two, with its interval.

    Attributes:
        value: the mean or difference.
        low, high: the ends of the interval, None where there are fewer than three clusters of sequences.
        sequence_error: the standard error due to the choice of the sequences, None where the ends are.
        seed_error: the standard error due to the choice of the seeds; 0 with a single seed, which tells nothing of it.
    """

    value: float
    low: float | None
    high: float | None
    sequence_error: float | None
    seed_error: float


def score_runs(
    runs: Sequence[S], scores: Mapping[str, Callable[[S], Scores]], *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, RunScores]:
    """Scores of several models, and their scores on the same resamples of the sequences.

    Args:
        runs: the `sums` of each model's scorer; all have taken the same sequences.
        scores: functions of such sums by name, such as the scorers' `scores`.
        resamples: how many, at least 1.
        seed: the same seed gives the same resamples.

    Raises:
        ValueError: the scorers have different sequences, or an argument is out of range.
    """
    clusters = {len(next(iter(run.fields().values()))) for run in runs}
    if len(clusters) != 1:
        raise ValueError("all runs must be scored on the same sequences")
    values = {name: np.array([float(score(run.total())) for run in runs]) for name, score in scores.items()}
    if clusters.pop() < FEWEST_CLUSTERS:
        return {name: RunScores(values[name], None) for name in scores}
    resampled = [resampled_scores(run, scores, resamples=resamples, seed=seed) for run in runs]
    return {name: RunScores(values[name], np.stack([run[name] for run in resampled], axis=1)) for name in scores}


def estimate(
    scores: RunScores,
    models: npt.ArrayLike,
    against: npt.ArrayLike | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
    bounds: Bounds = (0.0, 1.0),
) -> Estimate:
    """The mean score of some models, or its difference from that of as many others.

    Args:
        scores: of all models.
        models: (seeds,) indices of the models of one kind, one for each seed.
        against: (seeds,) those of another kind, for the same seeds in the same order; None: nothing is subtracted.
        level: the share of cases in which such an interval holds the truth, that is, the mean over all seeds and over
            all sequences that might have been drawn.
        seed: the same seed gives the same interval.
        bounds: the least and greatest possible score, each None where there is none, such as (0.0, None) for errors of
            quantities; the interval stays within them.

    Raises:
        ValueError: the level is not between 0 and 1, or there are not as many of both kinds.
    """
    ends = tails(level)
    chosen = [np.asarray(models, np.int64)] + ([] if against is None else [np.asarray(against, np.int64)])
    if chosen[0].shape != chosen[-1].shape:
        raise ValueError(f"there are {len(chosen[0])} models of one kind and {len(chosen[-1])} of the other")

    def differences(of_models: Scores) -> Scores:
        first = of_models[..., chosen[0]]
        return first if against is None else first - of_models[..., chosen[-1]]

    values = differences(scores.values)
    value, seeds = float(values.mean()), len(values)
    seed_error = float(values.std(ddof=1) / np.sqrt(seeds)) if seeds > 1 else 0.0
    if scores.resampled is None:
        return Estimate(value, None, None, None, seed_error)
    means = differences(scores.resampled).mean(axis=1)
    drawn = means[:, np.newaxis]
    if seed_error:
        chance = np.random.default_rng([seed, 2]).standard_t(seeds - 1, (len(means), _DRAWS))
        drawn = drawn + seed_error * chance
    least, most = (
        infinite if bound is None else bound for bound, infinite in zip(bounds, (-np.inf, np.inf), strict=True)
    )
    if against is not None:
        least, most = least - most, most - least
    low, high = np.quantile(drawn.clip(least, most), ends)  # Student's t knows no bounds
    return Estimate(value, float(low), float(high), float(means.std()), seed_error)
