"""Differences of models that were trained several times: laws of chance, and what intervals promise."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from bilstm.metrics import ClassScores, QuantityScores
from bilstm.metrics.counts import Counts
from bilstm.metrics.differences import Estimate, RunScores, estimate, score_runs

ACCURACY = {"accuracy": lambda counts: counts.overall().recall}
STEPS = 20


def trained(rng: np.random.Generator, shares: Any) -> Counts:
    """A model's counts on sequences of 20 steps, of which these shares are right but for chance."""
    right = rng.binomial(STEPS, np.clip(shares, 0, 1))[:, np.newaxis]
    return Counts(correct=right, true=np.full_like(right, STEPS), predicted=np.full_like(right, STEPS))


def kinds(
    rng: np.random.Generator, sequences: int = 40, seeds: int = 3, *, gain: float = 0.1, from_seed: float = 0.02
) -> list[Counts]:
    """Models of two kinds, first those of one, whose right steps differ by sequence, by seed and by kind."""
    hard = rng.normal(0.6, 0.1, sequences)
    gains = rng.normal(gain, 0.05, sequences)
    return [trained(rng, hard + kind * gains + rng.normal(0, from_seed)) for kind in (0, 1) for _ in range(seeds)]


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("from_seed", [0.0, 0.05])
def test_intervals_hold_the_truth_as_often_as_they_say(seeds: int, from_seed: float) -> None:
    """However much the seeds matter. Drawing sequences alone would promise too much."""
    rng = np.random.default_rng([seeds, int(100 * from_seed)])
    held, held_by_sequences_alone = [], []
    for _ in range(200):
        scores = score_runs(kinds(rng, seeds=seeds, from_seed=from_seed), ACCURACY, resamples=100)["accuracy"]
        found = estimate(scores, range(seeds, 2 * seeds), range(seeds))
        held.append(found.low <= 0.1 <= found.high)
        held_by_sequences_alone.append(abs(found.value - 0.1) < 1.96 * found.sequence_error)
    assert 0.91 <= np.mean(held)
    if from_seed:
        assert np.mean(held) <= 0.995
        assert np.mean(held_by_sequences_alone) < 0.7


def test_what_is_hard_for_both_cancels_out() -> None:
    rng = np.random.default_rng(1)
    scores = score_runs(kinds(rng, 100, from_seed=0), ACCURACY)["accuracy"]
    difference = estimate(scores, [3, 4, 5], [0, 1, 2]).sequence_error
    assert difference < 0.7 * np.hypot(*(estimate(scores, models).sequence_error for models in ([0, 1, 2], [3, 4, 5])))


def test_a_difference_the_other_way_round() -> None:
    scores = score_runs(kinds(np.random.default_rng(2)), ACCURACY)["accuracy"]
    there, back = estimate(scores, [3, 4, 5], [0, 1, 2]), estimate(scores, [0, 1, 2], [3, 4, 5])
    assert there.value == -back.value > 0
    assert (there.sequence_error, there.seed_error) == (back.sequence_error, back.seed_error)
    assert there.low == pytest.approx(-back.high, abs=0.01)
    same = estimate(scores, [0, 1, 2], [0, 1, 2])
    assert (same.value, same.low, same.high, same.seed_error) == (0, 0, 0, 0)


def test_one_seed_gives_the_interval_of_a_single_model() -> None:
    """To the last bit: the same sequences are drawn."""
    rng = np.random.default_rng(3)
    lengths = rng.integers(3, 9, 30)
    labels, offsets = rng.integers(-1, 3, lengths.sum()), np.cumsum([0, *lengths])
    given = rng.dirichlet([1, 1, 1], len(labels))
    scorer = ClassScores(np.ones(30, bool), 3)
    scorer.add(labels, given, offsets)
    report = scorer.report()
    for name, scores in score_runs([scorer.sums], scorer.scores).items():
        found = estimate(scores, [0])
        assert [found.low, found.high] == report["intervals"][name]
        assert found.value == report[name]


def test_fewer_than_three_sequences_give_no_interval() -> None:
    scorers = []
    for shift in (0, 1):
        scorer = QuantityScores(np.ones(2, bool), 1, [0.0])
        scorer.add([[1.0], [2.0]], [[1.0 + shift], [2.0]], [0, 1, 2])
        scorers.append(scorer)
    scores = score_runs([scorer.sums for scorer in scorers], scorer.scores)["mae"]
    assert estimate(scores, [1], [0]) == Estimate(0.5, None, None, None, 0.0)
    assert estimate(scores, [0, 1]) == Estimate(0.25, None, None, None, 0.25)


def test_runs_on_other_sequences_are_refused() -> None:
    runs = [trained(np.random.default_rng(0), np.full(count, 0.5)) for count in (4, 5)]
    with pytest.raises(ValueError, match="^all runs must be scored on the same sequences$"):
        score_runs(runs, ACCURACY)


def test_level_and_seed() -> None:
    scores = score_runs(kinds(np.random.default_rng(5)), ACCURACY)["accuracy"]
    wide, narrow = (estimate(scores, [3, 4], [0, 1], level=level) for level in (0.99, 0.5))
    assert wide.low < narrow.low < narrow.high < wide.high
    assert estimate(scores, [3, 4], [0, 1], seed=1) != estimate(scores, [3, 4], [0, 1], seed=2)
    assert estimate(scores, [3, 4], [0, 1], seed=1) == estimate(scores, [3, 4], [0, 1], seed=1)


@pytest.mark.parametrize(
    ("bounds", "mean", "difference"),
    [((0.0, 1.0), (0, 1), (-1, 1)), ((0.0, None), (0, None), (None, None)), ((None, 1.0), (None, 1), (None, None))],
)
def test_intervals_stay_where_scores_are(bounds: Any, mean: Any, difference: Any) -> None:
    """Student's t of two seeds goes far out."""
    scores = RunScores(np.array([0.1, 0.9]), np.tile([0.1, 0.9], (50, 1)))
    found = [estimate(scores, [0, 1], bounds=bounds), estimate(scores, [0, 1], [1, 0], bounds=bounds)]
    for ends, (low, high) in zip(found, (mean, difference), strict=True):
        assert ends.low == low if low is not None else ends.low < -1
        assert ends.high == high if high is not None else ends.high > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"against": [0]}, "there are 2 models of one kind and 1 of the other"),
        ({"level": 1}, "level must be a number between 0 and 1, such as 0.95, not 1"),
    ],
)
def test_what_is_no_estimate(arguments: Any, message: str) -> None:
    scores = RunScores(np.zeros(3), np.zeros((10, 3)))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        estimate(scores, [0, 1], **arguments)
