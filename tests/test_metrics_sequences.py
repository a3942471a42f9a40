"""Scores of labels for whole sequences, against definitions written out in plain Python."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilstm.metrics import classification_report, roc_auc, top_k_accuracy


@st.composite
def answers(draw: Any) -> tuple[np.ndarray, np.ndarray]:
    """(labels, probabilities) of 4 classes, many probabilities equal."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    count = draw(st.integers(1, 20))
    weights = rng.integers(0, draw(st.sampled_from([2, 4, 1000])), (count, 4)) + 0.5
    labels = rng.integers(-1, 4, count)
    labels[rng.integers(count)] = rng.integers(4)
    return labels, weights / weights.sum(axis=1, keepdims=True)


@given(answers(), st.integers(1, 5))
def test_top_k_by_its_definition(answer: Any, k: int) -> None:
    labels, given = answer
    hits = [
        label in sorted(range(4), key=lambda c: -row[c])[:k]
        for label, row in zip(labels, given, strict=True)
        if label >= 0
    ]
    assert top_k_accuracy(labels, given, k) == pytest.approx(np.mean(hits))


@given(answers())
def test_the_first_is_the_accuracy_and_all_are_one(answer: Any) -> None:
    labels, given = answer
    expected = classification_report(labels, given.argmax(axis=1), 4)["accuracy"]
    assert top_k_accuracy(labels, given) == top_k_accuracy(labels, given, k=1) == pytest.approx(expected)
    assert top_k_accuracy(labels, given, k=4) == 1


@given(answers())
def test_auc_is_the_share_of_pairs_in_the_right_order(answer: Any) -> None:
    labels, given = answer
    found = roc_auc(labels, given)
    scored = [(label, row) for label, row in zip(labels, given, strict=True) if label >= 0]
    for c, area in enumerate(found["per_class"]):
        ours = [row[c] for label, row in scored if label == c]
        others = [row[c] for label, row in scored if label != c]
        pairs = [1.0 if p > q else 0.5 if p == q else 0.0 for p in ours for q in others]
        assert area == (pytest.approx(np.mean(pairs)) if pairs else None)
    known = [area for area in found["per_class"] if area is not None]
    assert found["macro"] == (pytest.approx(np.mean(known)) if known else None)


@given(answers())
def test_auc_turned_round(answer: Any) -> None:
    """Of the opposite order it is the rest to 1; of the truth 1; of a constant a half."""
    labels, given = answer
    there, back = roc_auc(labels, given)["per_class"], roc_auc(labels, (1 - given) / 3)["per_class"]
    truth, guess = roc_auc(labels, np.eye(4)[np.maximum(labels, 0)]), roc_auc(labels, np.full((len(labels), 4), 0.25))
    for area, opposite, one, half in zip(there, back, truth["per_class"], guess["per_class"], strict=True):
        if area is not None:
            assert (one, half) == (1, 0.5)
            assert opposite == pytest.approx(1 - area)


def test_a_class_that_does_not_occur_has_no_area() -> None:
    given = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.5, 0.5, 0]])
    assert roc_auc([0, 1, 1], given) == {"macro": 0.875, "per_class": [0.75, 1.0, None]}
    assert roc_auc([0, 0, -1], given) == {"macro": None, "per_class": [None, None, None]}


@pytest.mark.parametrize("score", [roc_auc, top_k_accuracy])
@pytest.mark.parametrize(
    ("labels", "given", "message"),
    [
        ([-1], [[0.5, 0.5]], "no step is labelled, so there is nothing to score"),
        ([0], [[0.5, 0.6]], "each row of probabilities must be numbers from 0 to 1 that add up to 1"),
        ([0], [0.5], "labels have shape (steps,) and probabilities (steps, n_classes), not (1,) and (1,)"),
    ],
)
def test_what_cannot_be_scored(score: Any, labels: Any, given: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        score(labels, given)


def test_there_is_at_least_one_answer() -> None:
    with pytest.raises(ValueError, match="^top_k_accuracy: k must be at least 1, not 0$"):
        top_k_accuracy([0], [[0.5, 0.5]], k=0)
