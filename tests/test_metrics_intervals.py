"""Bootstrap intervals: laws of chance, cases that can be enumerated, and what the intervals are for."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import bilstm.metrics.intervals as module
from bilstm.metrics import calibration_error, step_intervals, step_report

SCORES = [
    "accuracy",
    "balanced_accuracy",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "weighted_precision",
    "weighted_recall",
    "weighted_f1",
    "log_loss",
    "calibration_error",
]


def sequences(rng: np.random.Generator, count: int, *, spread: float = 2.0) -> tuple[Any, Any, Any]:
    """(labels, probabilities, offsets) of two classes; how good the probabilities are differs between sequences."""
    lengths = rng.integers(5, 20, count)
    labels = rng.integers(0, 2, lengths.sum())
    skill = np.repeat(rng.normal(1, spread, count), lengths)
    likely = 1 / (1 + np.exp(-skill - rng.normal(0, 1, len(labels))))  # of the true class
    of_one = np.where(labels == 1, likely, 1 - likely)
    return labels, np.stack([1 - of_one, of_one], axis=1), np.cumsum([0, *lengths])


def widths(*arguments: Any, **options: Any) -> dict[str, float]:
    found = step_intervals(*arguments, SCORES, **options)
    assert found is not None
    return {name: float(np.diff(ends)[0]) for name, ends in found.items()}


def test_intervals_shrink_with_the_root_of_the_number_of_sequences() -> None:
    rng = np.random.default_rng(1)
    few, many = widths(*sequences(rng, 150)), widths(*sequences(rng, 16 * 150))
    for name in set(SCORES) - {"calibration_error"}:
        assert few[name] / many[name] == pytest.approx(4, rel=0.2), name


def test_sequences_that_are_all_alike_leave_no_doubt() -> None:
    """Every resample scores as all of them do."""
    labels, given, _ = sequences(np.random.default_rng(9), 3)
    copies = np.tile(labels, 7), np.tile(given, (7, 1)), np.arange(8) * len(labels)
    report = step_report(*copies)
    found = step_intervals(*copies, [*SCORES, "precision", "recall", "f1"])
    assert found is not None
    for name in SCORES:
        np.testing.assert_allclose(found[name], [report[name]] * 2)
    for name in ("precision", "recall", "f1"):
        np.testing.assert_allclose(found[name], [[scores[name]] * 2 for scores in report["per_class"]])


def test_bins_are_those_of_the_calibration_error() -> None:
    labels, given, _ = sequences(np.random.default_rng(10), 3)
    copies = np.tile(labels, 7), np.tile(given, (7, 1)), np.arange(8) * len(labels)
    for bins in (2, 7):
        found = step_intervals(*copies, ["calibration_error"], bins=bins)
        assert found is not None
        np.testing.assert_allclose(found["calibration_error"], [calibration_error(labels, given, bins)] * 2)


def test_steps_of_one_sequence_count_together() -> None:
    """Each step five times tells nothing new, and so leaves the intervals as they are."""
    labels, given, offsets = sequences(np.random.default_rng(2), 40)
    once = step_intervals(labels, given, offsets, SCORES)
    often = step_intervals(labels.repeat(5), given.repeat(5, axis=0), offsets * 5, SCORES)
    assert once is not None
    assert often is not None
    for name in SCORES:
        np.testing.assert_allclose(often[name], once[name], rtol=1e-9)


def test_drawing_steps_would_promise_too_much() -> None:
    labels, given, offsets = sequences(np.random.default_rng(3), 60)
    assert widths(labels, given, offsets)["accuracy"] > 1.5 * widths(labels, given, None)["accuracy"]


@pytest.mark.parametrize(("level", "least", "most"), [(0.95, 0.90, 0.98), (0.5, 0.40, 0.60)])
def test_intervals_hold_the_truth_as_often_as_they_say(level: float, least: float, most: float) -> None:
    rng = np.random.default_rng(4)
    labels, given, _ = sequences(rng, 40_000)
    truth = float((given.argmax(axis=1) == labels).mean())
    held = []
    for _ in range(300):
        found = step_intervals(*sequences(rng, 50), ["accuracy"], level=level, resamples=200)
        assert found is not None
        low, high = found["accuracy"]
        held.append(low <= truth <= high)
    assert least <= np.mean(held) <= most


def test_three_sequences_are_enumerated() -> None:
    """One sequence in three is wrong: of 27 resamples, 8 have it never, 12 once, 6 twice and 1 three times."""
    given = np.eye(2)[[0, 0, 1]]
    for level, expected in [(0.95, [0, 1]), (0.8, [1 / 3, 1]), (0.3, [2 / 3, 2 / 3])]:
        found = step_intervals([0, 0, 0], given, [0, 1, 2, 3], ["accuracy"], level=level)
        assert found is not None
        np.testing.assert_allclose(found["accuracy"], expected)


@pytest.mark.parametrize("score", ["precision", "recall", "f1"])
def test_intervals_by_class(score: str) -> None:
    labels, given, offsets = sequences(np.random.default_rng(5), 30)
    found = step_intervals(labels, given, offsets, [score, f"macro_{score}"])
    assert found is not None
    assert found[score].shape == (2, 2)
    assert (found[score][:, 0] < found[score][:, 1]).all()
    # The class that fares worse has the lower ends, and their mean lies between.
    low, high = found[f"macro_{score}"]
    assert found[score].min() <= low < high <= found[score].max()


def test_the_seed_and_the_number_of_resamples() -> None:
    batch = sequences(np.random.default_rng(6), 30)
    first, same, other = (widths(*batch, seed=seed) for seed in (0, 0, 1))
    assert first == same
    assert all(first[name] != other[name] for name in SCORES)
    assert all(first[name] == pytest.approx(other[name], rel=0.15) for name in SCORES)
    assert widths(*batch, resamples=1) == dict.fromkeys(SCORES, 0)
    assert widths(*batch, resamples=3000)["accuracy"] != first["accuracy"]


def test_sequences_without_labels_take_no_part() -> None:
    labels, given, offsets = sequences(np.random.default_rng(7), 20)
    expected = step_intervals(labels, given, offsets)
    more = np.append(labels, [-1] * 5), np.append(given, [[0.5, 0.5]] * 5, axis=0), np.append(offsets, offsets[-1] + 5)
    found = step_intervals(*more)
    assert expected is not None
    assert found is not None
    np.testing.assert_array_equal(found["accuracy"], expected["accuracy"])
    assert step_intervals(labels[:5], given[:5], [0, 5]) is None


@pytest.mark.parametrize("limit", ["_MOST_CLUSTERS", "_MOST_NUMBERS"])
def test_very_many_sequences_are_merged(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """Which changes the intervals by chance only, and the memory by much."""
    batch = sequences(np.random.default_rng(8), 4000)
    expected = widths(*batch)
    monkeypatch.setattr(module, limit, {"_MOST_CLUSTERS": 600, "_MOST_NUMBERS": 600 * 52}[limit])
    drawn: list[tuple[int, int]] = []
    original = module._draws
    monkeypatch.setattr(module, "_draws", lambda rng, *shape: (drawn.append(shape), original(rng, *shape))[1])
    found = widths(*batch)
    assert {clusters for _, clusters in drawn} == {600}
    assert sum(resamples for resamples, _ in drawn) == 2000
    for name in set(SCORES) - {"calibration_error"}:
        assert found[name] == pytest.approx(expected[name], rel=0.2), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 0}, "level must be a number between 0 and 1, such as 0.95, not 0"),
        ({"level": 95}, "level must be a number between 0 and 1, such as 0.95, not 95"),
        ({"resamples": 0}, "intervals: resamples must be at least 1, not 0"),
        ({"scores": ["macro_f2"]}, "intervals: scores must be one of 'accuracy', …; did you mean 'macro_f1'?"),
        ({"offsets": [0, 2]}, "offsets go from 0 to the number of steps, 3, not from 0 to 2"),
        ({"offsets": [0, 2, 1, 3]}, "offsets must not decrease, but do after position 1"),
    ],
)
def test_what_is_no_interval(options: dict[str, Any], message: str) -> None:
    given = np.eye(2)[[0, 1, 1]]
    with pytest.raises(ValueError, match="^" + re.escape(message).replace("…", ".*") + "$"):
        step_intervals(**{"labels": [0, 1, 0], "probabilities": given, "offsets": [0, 1, 2, 3], **options})
