"""Scores of steps: laws, and definitions written out in plain Python."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilstm.metrics import (
    calibration_curve,
    calibration_error,
    classification_report,
    confusion_matrix,
    log_loss,
    step_intervals,
    step_report,
)

PAIRS = st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 3)), max_size=30)
MEANS = [
    "accuracy",
    "balanced_accuracy",
    *(f"{mean}_{score}" for mean in ("macro", "weighted") for score in ("precision", "recall", "f1")),
]


def probabilities(rng: np.random.Generator, steps: int, classes: int = 4) -> np.ndarray:
    return rng.dirichlet(np.full(classes, 0.5), steps).astype(np.float32)


def batches(least: int = 1) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(labels, probabilities, offsets) of some sequences, at least one of them with a label; of 4 classes."""

    @st.composite
    def draw(draw: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        lengths = draw(st.lists(st.integers(0, 6), min_size=least, max_size=8))
        rng = np.random.default_rng(draw(st.integers(0, 10**6)))
        labels = rng.integers(-1, 4, sum(lengths))
        return labels, probabilities(rng, len(labels)), np.cumsum([0, *lengths])

    return draw().filter(lambda batch: bool((batch[0] >= 0).any()))


def plain(report: dict[str, Any]) -> dict[str, Any]:
    """What does not depend on which sequences are drawn: all but intervals and what is said of them."""
    scores = [{name: score[name] for name in score if name != "f1_interval"} for score in report["per_class"]]
    return {**report, "intervals": None, "caution": None, "per_class": scores}


def approximately(data: Any) -> Any:
    """Equal to plain data but for rounding."""
    if isinstance(data, dict):
        return {name: approximately(value) for name, value in data.items()}
    if isinstance(data, list):
        return [approximately(value) for value in data]
    return None if data is None else pytest.approx(data, rel=1e-9, abs=1e-12)


# --- Laws ------------------------------------------------------------------------------------------------------------


@given(PAIRS)
def test_a_cell_counts_the_steps_of_a_true_and_a_predicted_class(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    matrix = confusion_matrix(np.array(labels, int), np.array(predicted, int), 4)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == [[pairs.count((truth, guess)) for guess in range(4)] for truth in range(4)]


@given(PAIRS.filter(lambda pairs: any(label >= 0 for label, _ in pairs)))
def test_scores_by_their_definitions(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    report = classification_report(labels, predicted, 4)
    scored = [pair for pair in pairs if pair[0] >= 0]
    assert report["steps"] == len(scored)
    assert report["accuracy"] == pytest.approx(sum(t == g for t, g in scored) / len(scored))
    truths = [t for t, _ in scored]
    assert report["majority"] == pytest.approx(max(map(truths.count, truths)) / len(scored))
    f1s = []
    for c, found in enumerate(report["per_class"]):
        hits = scored.count((c, c))
        support, guessed = truths.count(c), sum(g == c for _, g in scored)
        precision = hits / guessed if guessed else 0
        recall = hits / support if support else 0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0
        assert found == {"precision": precision, "recall": recall, "f1": pytest.approx(f1), "support": support}
        if support or guessed:
            f1s.append(f1)
    assert report["macro_f1"] == pytest.approx(sum(f1s) / len(f1s))
    recalls = [score["recall"] for score in report["per_class"] if score["support"]]
    assert report["balanced_accuracy"] == pytest.approx(sum(recalls) / len(recalls))
    for score in ("precision", "recall", "f1"):
        of_each_step = [report["per_class"][truth][score] for truth in truths]
        assert report[f"weighted_{score}"] == pytest.approx(sum(of_each_step) / len(truths))


@given(PAIRS, st.lists(st.integers(0, 3), max_size=5))
def test_what_is_predicted_for_unlabelled_steps_changes_nothing(
    pairs: list[tuple[int, int]], others: list[int]
) -> None:
    labels, predicted = [pair[0] for pair in pairs] + [0], [pair[1] for pair in pairs] + [0]
    expected = classification_report(labels, predicted, 4)
    assert classification_report(labels + [-1] * len(others), predicted + others, 4) == expected


@given(batches(), st.randoms(use_true_random=False))
def test_the_order_of_sequences_is_no_matter(batch: Any, random: Any) -> None:
    labels, given, offsets = batch
    order = list(range(len(offsets) - 1))
    random.shuffle(order)
    steps = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in order]).astype(int)
    again = np.cumsum([0, *np.diff(offsets)[order]])
    assert plain(step_report(labels[steps], given[steps], again)) == approximately(
        plain(step_report(labels, given, offsets))
    )


@given(batches())
def test_every_sequence_twice_scores_as_once(batch: Any) -> None:
    labels, given, offsets = batch
    once = plain(step_report(labels, given, offsets))
    twice = plain(
        step_report(np.tile(labels, 2), np.tile(given, (2, 1)), np.append(offsets, offsets[1:] + offsets[-1]))
    )
    for score in (*once["per_class"], *once["calibration"], once):
        for name in {"steps", "support"} & set(score):
            score[name] *= 2
    assert twice == approximately(once)


@given(batches())
def test_names_of_classes_are_no_matter(batch: Any) -> None:
    labels, given, offsets = batch
    once, swapped = (
        step_report(labels, given, offsets),
        step_report(np.where(labels >= 0, 3 - labels, -1), given[:, ::-1], offsets),
    )
    names = [*MEANS, "log_loss", "calibration_error", "majority", "calibration"]
    assert {name: swapped[name] for name in names} == approximately({name: once[name] for name in names})
    assert swapped["per_class"] == approximately(once["per_class"][::-1])


@given(batches())
def test_the_truth_scores_one(batch: Any) -> None:
    labels, _, offsets = batch
    given = np.eye(4)[np.maximum(labels, 0)]
    report = step_report(labels, given, offsets)
    assert {report[name] for name in MEANS} == {1.0}
    assert report["log_loss"] == pytest.approx(0, abs=1e-12)
    assert report["calibration_error"] == 0
    assert step_report(labels, np.roll(given, 1, axis=1), offsets)["accuracy"] == 0
    if report["intervals"]:
        assert all(report["intervals"][name] == [1, 1] for name in ("accuracy", "balanced_accuracy", "macro_f1"))


@given(batches(), st.integers(0, 3))
def test_a_constant_guess(batch: Any, guess: int) -> None:
    labels, _, offsets = batch
    frequencies = np.bincount(labels[labels >= 0], minlength=4) / (labels >= 0).sum()
    report = step_report(labels, np.tile(frequencies, (len(labels), 1)), offsets)
    assert report["accuracy"] == report["majority"] == pytest.approx(frequencies.max())
    assert report["balanced_accuracy"] == pytest.approx(1 / (frequencies > 0).sum())
    assert report["log_loss"] == pytest.approx(-sum(f * np.log(f) for f in frequencies if f))  # the labels' entropy
    assert report["calibration_error"] == pytest.approx(0, abs=1e-9)
    certain = step_report(labels, np.tile(np.eye(4)[guess], (len(labels), 1)), offsets)
    assert certain["accuracy"] == pytest.approx(frequencies[guess])
    assert certain["calibration_error"] == pytest.approx(1 - frequencies[guess])


@given(batches(), st.integers(1, 20))
def test_calibration_by_its_definition(batch: Any, bins: int) -> None:
    labels, given, _ = batch
    found = calibration_curve(labels, given, bins)
    scored = [(float(row.max()), row.argmax() == label) for row, label in zip(given, labels, strict=True) if label >= 0]
    expected, distance = [], 0.0
    for m in range(bins):
        inside = [(p, right) for p, right in scored if m < p * bins <= m + 1]
        if inside:
            confidence, accuracy = (sum(pair[i] for pair in inside) / len(inside) for i in (0, 1))
            ends = {"above": m / bins, "up_to": (m + 1) / bins}
            expected.append({**ends, "steps": len(inside), "confidence": confidence, "accuracy": accuracy})
            distance += len(inside) / len(scored) * abs(confidence - accuracy)
    assert found == approximately(expected)
    assert calibration_error(labels, given, bins) == pytest.approx(distance)


def test_honest_probabilities_are_calibrated() -> None:
    """Labels drawn from the probabilities themselves; and then ones that are surer than they should be."""
    rng = np.random.default_rng(0)
    given = rng.dirichlet(np.ones(3), 200_000)
    labels = (rng.random((len(given), 1)) < given.cumsum(axis=1)).argmax(axis=1)
    assert calibration_error(labels, given) < 0.01
    bold = given**3 / (given**3).sum(axis=1, keepdims=True)
    assert calibration_error(labels, bold) > 0.1
    assert log_loss(labels, given) < log_loss(labels, bold)


# --- Examples --------------------------------------------------------------------------------------------------------


def test_a_report_is_plain_data() -> None:
    report = classification_report(np.int32([0, 0, 1, 2, -1]), np.int64([0, 1, 1, 1, 2]), 4)
    assert report == {
        "steps": 4,
        "accuracy": 0.5,
        "majority": 0.5,
        "balanced_accuracy": pytest.approx((0.5 + 1 + 0) / 3),
        "macro_precision": pytest.approx((1 + 1 / 3 + 0) / 3),
        "macro_recall": pytest.approx((0.5 + 1 + 0) / 3),
        "macro_f1": pytest.approx((2 / 3 + 0.5 + 0) / 3),
        "weighted_precision": pytest.approx((2 * 1 + 1 / 3 + 0) / 4),
        "weighted_recall": pytest.approx(0.5),
        "weighted_f1": pytest.approx((2 * 2 / 3 + 0.5 + 0) / 4),
        "per_class": [
            {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(2 / 3), "support": 2},
            {"precision": pytest.approx(1 / 3), "recall": 1.0, "f1": pytest.approx(0.5), "support": 1},
            {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1},
            {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0},
        ],
    }
    assert type(report["accuracy"]) is float
    assert type(report["per_class"][0]["support"]) is int


@pytest.mark.parametrize(
    ("labels", "predicted", "message"),
    [
        ([0, 1], [0], "labels and predictions have one shape (steps,), not (2,) and (1,)"),
        ([[0]], [[0]], "labels and predictions have one shape (steps,), not (1, 1) and (1, 1)"),
        ([0, 3], [0, 0], "classes must be integers from 0 to 2, or -1 where a step is unlabelled"),
        ([0, -2], [0, 0], "classes must be integers from 0 to 2, or -1 where a step is unlabelled"),
        ([0, 1], [0, 3], "classes must be integers from 0 to 2, or -1 where a step is unlabelled"),
        ([0, 1], [0, -1], "classes must be integers from 0 to 2, or -1 where a step is unlabelled"),
        ([0.5, 1.0], [0, 0], "classes must be integers from 0 to 2, or -1 where a step is unlabelled"),
        ([0, 1], [0.5, 0], "classes must be integers from 0 to 2, or -1 where a step is unlabelled"),
        (["a"], ["b"], "classes must be integers from 0 to 2, or -1 where a step is unlabelled"),
        ([-1, -1], [0, 0], "no step is labelled, so there is nothing to score"),
        ([], [], "no step is labelled, so there is nothing to score"),
    ],
)
def test_what_cannot_be_counted(labels: Any, predicted: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        classification_report(labels, predicted, 3)


def test_a_probability_of_nought_is_no_infinite_loss() -> None:
    for kind in (np.float32, np.float64):
        given = np.array([[0, 1], [1, 0]], kind)
        assert log_loss([0, 0], given) == pytest.approx(-np.log(np.finfo(kind).eps) / 2)


def test_a_confidence_between_two_bins_falls_into_the_lower() -> None:
    given = [[0.5, 0.5], [0.75, 0.25], [1, 0], [0.25, 0.75]]
    found = [(part["above"], part["up_to"], part["steps"]) for part in calibration_curve([0, 0, 0, 0], given, bins=4)]
    assert found == [(0.25, 0.5, 1), (0.5, 0.75, 2), (0.75, 1.0, 1)]


def test_a_step_report_is_plain_data() -> None:
    given = np.array([[0.75, 0.25], [0.25, 0.75], [0.75, 0.25], [0.5, 0.5]])
    report = step_report([0, 1, 1, -1], given, [0, 1, 2, 4])
    assert json.loads(json.dumps(report)) == report
    assert report["log_loss"] == pytest.approx(-(2 * np.log(0.75) + np.log(0.25)) / 3)
    assert report["calibration_error"] == pytest.approx(0.75 - 2 / 3)
    assert report["calibration"] == [
        {"above": 11 / 15, "up_to": 12 / 15, "steps": 3, "confidence": 0.75, "accuracy": pytest.approx(2 / 3)}
    ]
    assert set(report["intervals"]) == {*MEANS, "log_loss"}
    assert report["intervals"]["accuracy"] == [0, 1]
    assert [score["f1_interval"] for score in report["per_class"]] == [[0, 1], [0, 1]]


def test_two_sequences_have_no_interval() -> None:
    given = np.array([[0.75, 0.25], [0.25, 0.75], [0.5, 0.5]])
    report = step_report([0, 1, -1], given, [0, 1, 2, 3])  # the third has no label
    assert report["caution"] == "Only 2 sequences have labels, so no intervals are given: they need at least 3."
    assert report["intervals"] is None
    assert [score["f1_interval"] for score in report["per_class"]] == [None, None]


PROBABILITIES = "each row of probabilities must be numbers from 0 to 1 that add up to 1"


@pytest.mark.parametrize("score", [log_loss, calibration_error, calibration_curve, step_intervals])
@pytest.mark.parametrize(
    ("labels", "given", "message"),
    [
        ([0], [0.5, 0.5], "labels have shape (steps,) and probabilities (steps, n_classes), not (1,) and (2,)"),
        ([0, 1], [[0.5, 0.5]], "labels have shape (steps,) and probabilities (steps, n_classes), not (2,) and (1, 2)"),
        ([0], [["a", "b"]], "probabilities must be numbers, not <U1"),
        ([0], [[2.0, -1.0]], PROBABILITIES),
        ([0], [[3.5, 1.25]], PROBABILITIES),
        ([0], [[float("nan"), 1.0]], PROBABILITIES),
        ([2], [[0.5, 0.5]], "classes must be integers from 0 to 1, or -1 where a step is unlabelled"),
        ([-1], [[0.5, 0.5]], "no step is labelled, so there is nothing to score"),
        ([], np.empty((0, 2)), "no step is labelled, so there is nothing to score"),
        ([], np.empty((0, 0)), "no step is labelled, so there is nothing to score"),
    ],
)
def test_what_are_no_probabilities(score: Any, labels: Any, given: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        score(labels, given)


def test_there_is_at_least_one_bin() -> None:
    for score in (calibration_curve, calibration_error, step_intervals):
        with pytest.raises(ValueError, match="^calibration: bins must be at least 1, not 0$"):
            score([0], [[0.5, 0.5]], bins=0)
