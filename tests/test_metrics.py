"""Counts and scores against definitions written out in plain Python."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilstm.metrics import classification_report, confusion_matrix

PAIRS = st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 3)), max_size=30)


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


@given(PAIRS, st.lists(st.integers(0, 3), max_size=5))
def test_what_is_predicted_for_unlabelled_steps_changes_nothing(
    pairs: list[tuple[int, int]], others: list[int]
) -> None:
    labels, predicted = [pair[0] for pair in pairs] + [0], [pair[1] for pair in pairs] + [0]
    expected = classification_report(labels, predicted, 4)
    assert classification_report(labels + [-1] * len(others), predicted + others, 4) == expected


# --- Examples --------------------------------------------------------------------------------------------------------


def test_a_report_is_plain_data() -> None:
    report = classification_report(np.int32([0, 0, 1, 2, -1]), np.int64([0, 1, 1, 1, 2]), 4)
    assert report == {
        "steps": 4,
        "accuracy": 0.5,
        "majority": 0.5,
        "macro_f1": pytest.approx((2 / 3 + 0.5 + 0) / 3),
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
