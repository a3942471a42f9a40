"""Events: found by walking along the labels, matched as well as any matching could."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilstm.metrics import Events, classification_report, event_report, find_events, match_events

TOLERANCES = st.tuples(st.integers(0, 4), st.one_of(st.none(), st.integers(0, 4)))


@st.composite
def batches(draw: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(labels, predicted, offsets) of sequences of long and short runs of 3 classes, some steps without a label."""
    lengths = draw(st.lists(st.integers(0, 25), max_size=5))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    total = sum(lengths)
    labels = np.repeat(rng.integers(-1, 3, total), rng.integers(1, 6, total))[:total]
    moved = np.roll(labels, rng.integers(-2, 3))
    predicted = np.where(rng.random(total) < draw(st.sampled_from([0.0, 0.1, 0.5])), rng.integers(0, 3, total), moved)
    return labels, np.maximum(predicted, 0), np.cumsum([0, *lengths])


def walk(labels: np.ndarray, offsets: np.ndarray) -> list[tuple[int, int, int, int]]:
    """(sequence, class, onset, offset) of the runs, one after the other."""
    found = []
    for sequence, (start, stop) in enumerate(itertools.pairwise(offsets.tolist())):
        step = 0
        for label, run in itertools.groupby(labels[start:stop].tolist()):
            length = len(list(run))
            if label >= 0:
                found.append((sequence, label, step, step + length - 1))
            step += length
    return found


def rows(events: Events) -> list[tuple[int, int, int, int]]:
    columns = (events.sequences, events.classes, events.onsets, events.offsets)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def agree(true: Any, guess: Any, onset_tolerance: int, offset_tolerance: int | None) -> bool:
    close = abs(true[2] - guess[2]) <= onset_tolerance
    return bool(
        true[:2] == guess[:2] and close and (offset_tolerance is None or abs(true[3] - guess[3]) <= offset_tolerance)
    )


def largest_matching(candidates: list[list[int]]) -> int:
    """How many can be matched at most, by augmenting paths (Kuhn's algorithm)."""
    owner: dict[int, int] = {}

    def place(one: int, seen: set[int]) -> bool:
        for other in candidates[one]:
            if other not in seen:
                seen.add(other)
                if other not in owner or place(owner[other], seen):
                    owner[other] = one
                    return True
        return False

    return sum(place(one, set()) for one in range(len(candidates)))


@given(batches())
def test_events_are_runs_of_equal_labels(batch: Any) -> None:
    labels, _, offsets = batch
    expected = walk(labels, offsets)
    assert rows(find_events(labels, offsets)) == expected
    for background in range(3):
        kept = [event for event in expected if event[1] != background]
        assert rows(find_events(labels, offsets, background)) == kept


@given(batches(), TOLERANCES)
def test_no_matching_is_larger(batch: Any, tolerances: tuple[int, int | None]) -> None:
    labels, predicted, offsets = batch
    true, guesses = find_events(labels, offsets), find_events(predicted, offsets)
    pairs = match_events(true, guesses, onset_tolerance=tolerances[0], offset_tolerance=tolerances[1])
    rows_true, rows_guessed = rows(true), rows(guesses)
    assert all(agree(rows_true[t], rows_guessed[g], *tolerances) for t, g in pairs.tolist())
    assert all(len(set(column)) == len(pairs) for column in pairs.T.tolist())
    candidates = [[g for g, guess in enumerate(rows_guessed) if agree(one, guess, *tolerances)] for one in rows_true]
    assert len(pairs) == largest_matching(candidates)


@given(batches(), TOLERANCES)
def test_a_report_counts_the_matches(batch: Any, tolerances: tuple[int, int | None]) -> None:
    labels, predicted, offsets = batch
    names = dict(zip(("onset_tolerance", "offset_tolerance"), tolerances, strict=True))
    report = event_report(labels, predicted, offsets, 3, **names)  # type: ignore[arg-type]
    masked = np.where(labels >= 0, predicted, -1)
    true, guesses = find_events(labels, offsets), find_events(masked, offsets)
    pairs = match_events(true, guesses, **names)  # type: ignore[arg-type]
    f1s = []
    for class_, scores in enumerate(report["per_class"]):
        right = int((true.classes[pairs[:, 0]] == class_).sum())
        there, found = int((true.classes == class_).sum()), int((guesses.classes == class_).sum())
        assert scores == {
            "precision": right / max(found, 1),
            "recall": right / max(there, 1),
            "f1": pytest.approx(2 * right / max(there + found, 1)),
            "support": there,
            "f1_interval": scores["f1_interval"],
        }
        interval = scores["f1_interval"]
        assert (interval is None) == (report["intervals"] is None)
        assert interval is None or 0 <= interval[0] <= interval[1] <= 1
        if there or found:
            f1s.append(scores["f1"])
    assert report["f1"] == pytest.approx(2 * len(pairs) / max(len(true) + len(guesses), 1))
    assert report["precision"] == pytest.approx(len(pairs) / max(len(guesses), 1))
    assert report["recall"] == pytest.approx(len(pairs) / max(len(true), 1))
    assert report["macro_f1"] == pytest.approx(sum(f1s) / max(len(f1s), 1))
    assert json.loads(json.dumps(report)) == report


@given(batches())
def test_more_tolerance_finds_no_fewer(batch: Any) -> None:
    labels, predicted, offsets = batch
    found = [
        event_report(labels, predicted, offsets, 3, onset_tolerance=steps, offset_tolerance=steps)["f1"]
        for steps in range(5)
    ]
    assert found == sorted(found)


@given(batches())
def test_the_truth_is_found_without_tolerance(batch: Any) -> None:
    labels, _, offsets = batch
    report = event_report(labels, np.maximum(labels, 0), offsets, 3, onset_tolerance=0, offset_tolerance=0)
    assert report["f1"] == report["precision"] == report["recall"] == float((labels >= 0).any())


@given(batches(), st.integers(0, 3))
def test_time_may_run_backwards(batch: Any, tolerance: int) -> None:
    """Onsets become offsets: with one tolerance for both, nothing changes."""
    labels, predicted, offsets = batch
    names = {"onset_tolerance": tolerance, "offset_tolerance": tolerance}
    there = event_report(labels, predicted, offsets, 3, **names)
    back = event_report(labels[::-1], predicted[::-1], offsets[-1] - offsets[::-1], 3, **names)
    for report in (there, back):
        report["intervals"] = None  # which draw other sequences
        report["per_class"] = [scores | {"f1_interval": None} for scores in report["per_class"]]
    assert back == there


@given(batches())
def test_events_of_one_step_are_scored_as_steps(batch: Any) -> None:
    labels, predicted, _ = batch
    offsets = np.arange(len(labels) + 1)
    if (labels >= 0).any():
        report = event_report(labels, predicted, offsets, 3, onset_tolerance=0, offset_tolerance=0)
        steps = classification_report(labels, predicted, 3)
        assert report["f1"] == pytest.approx(steps["accuracy"])
        own = [{name: scores[name] for name in scores if name != "f1_interval"} for scores in report["per_class"]]
        assert own == steps["per_class"]


def test_intervals_over_sequences() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(0, 3, 4000), 5)
    predicted = np.where(rng.random(20_000) < 0.02, 0, labels)
    found = []
    for sequences in (100, 1600):
        steps = labels[: 10 * sequences], predicted[: 10 * sequences], np.arange(0, 10 * sequences + 1, 10)
        report = event_report(*steps, 3, onset_tolerance=1, offset_tolerance=1)
        assert list(report["intervals"]) == ["precision", "recall", "f1", "macro_f1"]
        for scores in report["per_class"]:
            assert scores["f1_interval"][0] < scores["f1"] < scores["f1_interval"][1]
        for name, (low, high) in report["intervals"].items():
            assert low < report[name] < high
            found.append(high - low)
    for name in range(4):
        assert found[name] / found[name + 4] == pytest.approx(4, rel=0.3)
    steps = labels[:20], predicted[:20], [0, 20]
    assert event_report(*steps, 3, onset_tolerance=1, offset_tolerance=1)["intervals"] is None


@pytest.mark.parametrize(
    ("true", "guess", "tolerances", "found"),
    [
        ("..AAA...", "..AAA...", (0, 0), 1),
        ("..AAA...", ".AAA....", (0, 0), 0),
        ("..AAA...", ".AAA....", (1, 1), 1),
        ("..AAA...", "..AAAAA.", (1, 1), 0),
        ("..AAA...", "..AAAAA.", (1, 2), 1),
        ("..AAA...", "..AAAAA.", (0, None), 1),
        ("..AAA...", "AAAAA...", (2, 0), 1),
        ("..AAA...", "AAAAA...", (0, 2), 0),
        ("..AAA...", "..BBB...", (5, 5), 0),  # another class
        ("..AAAA..", "..A.A...", (3, 3), 1),  # one is found once
        ("..A.A...", "..AAA...", (3, 3), 1),  # and finds one
        ("A.A.A...", "..A.A.A.", (2, 2), 3),  # the nearest ones would leave the last without a partner
        ("..??A...", "..AAA...", (0, 0), 1),  # what is unknown counts for nobody
        ("..???...", "..AAA...", (0, 0), 0),
    ],
)
def test_matches(true: str, guess: str, tolerances: tuple[int, int | None], found: int) -> None:
    labels, predicted = (np.array([".AB?".index(mark) for mark in text]) for text in (true, guess))
    labels[labels == 3] = -1
    onset, offset = tolerances
    report = event_report(labels, predicted, [0, 8], 3, onset_tolerance=onset, offset_tolerance=offset, background=0)
    assert report["recall"] * sum(scores["support"] for scores in report["per_class"]) == pytest.approx(found)
    assert report["per_class"][0]["support"] == 0


def test_sequences_are_kept_apart() -> None:
    """The last step of one sequence and the first of the next are no neighbours, however large the tolerance."""
    assert rows(find_events([1, 1, 1, 1], [0, 2, 2, 4])) == [(0, 1, 0, 1), (2, 1, 0, 1)]
    report = event_report([1, 0, 0, 0], [0, 0, 1, 0], [0, 2, 4], 2, onset_tolerance=9, offset_tolerance=9, background=0)
    assert report["f1"] == 0


NAMES = {"onset_tolerance": 1, "offset_tolerance": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"onset_tolerance": -1}, "events: onset_tolerance must be at least 0, not -1"),
        ({"offset_tolerance": -2}, "events: offset_tolerance must be at least 0, not -2"),
        ({"background": 2}, "background must be a class from 0 to 1, not 2"),
        ({"offsets": [0, 3]}, "offsets go from 0 to the number of steps, 2, not from 0 to 3"),
        ({"labels": [0, 2]}, "classes must be integers from 0 to 1, or -1 where a step is unlabelled"),
        ({"labels": [0]}, "labels and predictions have one shape (steps,), not (1,) and (2,)"),
    ],
)
def test_what_are_no_events(changes: dict[str, Any], message: str) -> None:
    given = {"labels": [0, 1], "predicted": [0, 1], "offsets": [0, 2], "n_classes": 2, **NAMES, **changes}
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        event_report(**given)


@pytest.mark.parametrize("labels", [[0.5], [[0]], [-2], ["a"]])
def test_what_are_no_labels(labels: Any) -> None:
    message = "labels must be integers of shape (steps,), from 0, or -1 where a step is unlabelled"
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        find_events(labels, [0, 1])


def test_a_tolerance_is_a_whole_number() -> None:
    with pytest.raises(TypeError, match="^events: onset_tolerance must be a whole number, not 0.5$"):
        event_report([0], [0], [0, 1], 1, onset_tolerance=0.5, offset_tolerance=0)  # type: ignore[arg-type]
