"""Temperature scaling, and the calibration of several labels at once: laws, and definitions written out."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilstm.metrics import calibration_curve, calibration_error, find_temperature, log_loss, with_temperature

GRID = 2.0 ** (np.arange(-64, 97) / 32)
TYPES = st.sampled_from([np.float32, np.float64])


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def draw(rng: np.random.Generator, logits: np.ndarray, several: bool) -> np.ndarray:
    """Labels drawn from the probabilities of these logits."""
    if several:
        return (rng.random(logits.shape) < sigmoid(logits)).astype(float)
    return (rng.random((len(logits), 1)) < softmax(logits).cumsum(axis=1)).argmax(axis=1)


@st.composite
def answers(draw_: Any) -> tuple[np.ndarray, np.ndarray, bool]:
    """(labels, probabilities, several): from fair to absurdly sure, zeros, ones and equal probabilities among them."""
    rng = np.random.default_rng(draw_(st.integers(0, 10**6)))
    several, kind = draw_(st.booleans()), draw_(TYPES)
    logits = rng.normal(0, draw_(st.sampled_from([0.0, 1e-8, 1, 10, 1000])), (draw_(st.integers(1, 12)), 3))
    rows = (sigmoid(logits.clip(-700, 700)) if several else softmax(logits)).astype(kind)
    labels = draw(rng, rng.normal(size=rows.shape), several)
    labels[1 : draw_(st.integers(1, 3))] = np.nan if several else -1
    return labels, rows, several


@given(answers())
def test_a_temperature_that_is_found_is_never_worse(answer: Any) -> None:
    labels, rows, several = answer
    temperature = find_temperature(labels, rows, several=several)
    assert temperature in GRID
    after = log_loss(labels, with_temperature(rows, temperature, several=several), several=several)
    assert after <= log_loss(labels, rows, several=several)


@given(answers(), st.sampled_from([0.1, 0.5, 0.99, 1.0, 1.01, 3, 8, 1000]))
def test_no_prediction_changes(answer: Any, temperature: float) -> None:
    _, rows, several = answer
    scaled = with_temperature(rows, temperature, several=several)
    assert scaled.dtype == rows.dtype
    assert ((scaled >= 0) & (scaled <= 1)).all()  # nor is any NaN
    if several:
        np.testing.assert_array_equal(scaled > 0.5, rows > 0.5)
        np.testing.assert_array_equal(scaled < 0.5, rows < 0.5)
    else:
        np.testing.assert_array_equal(scaled.argmax(axis=1), rows.argmax(axis=1))
        np.testing.assert_allclose(scaled.sum(axis=1), 1, rtol=1e-5)
    assert (scaled[rows == 0] == 0).all()
    assert (scaled[rows == 1] == 1).all() or not several


def test_probabilities_next_to_each_other_stay_apart() -> None:
    for kind in (np.float32, np.float64):
        close = np.array([np.nextafter(kind(0.5), kind(0)), np.nextafter(kind(0.5), kind(1))])
        assert with_temperature([close], 8.0).argmax() == 1
        scaled = with_temperature([close], 8.0, several=True)[0]
        assert scaled[0] < 0.5 < scaled[1]


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_temperature_divides_logits(several: bool, kind: type) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (50, 4))
    normal = sigmoid if several else softmax
    given = normal(logits).astype(kind)
    for temperature in (0.5, 1.0, 2.5):
        scaled = with_temperature(given, temperature, several=several)
        np.testing.assert_allclose(scaled, normal(logits / temperature), rtol=1e-12 if kind is np.float64 else 1e-4)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("index", [0, 20, 32, 40, 64, 96, 128])
def test_temperatures_are_recovered(several: bool, index: int) -> None:
    rng = np.random.default_rng(index)
    logits = rng.normal(0, 1.5, (20_000, 4))
    labels = draw(rng, logits, several)
    bold = (sigmoid if several else softmax)(logits * GRID[index])
    found = find_temperature(labels, bold, several=several)
    assert abs(np.log2(found / GRID[index])) <= 2 / 32
    fair = with_temperature(bold, found, several=several)
    assert calibration_error(labels, fair, several=several) < 0.02
    if GRID[index] >= 2:
        assert calibration_error(labels, bold, several=several) > 0.04


@pytest.mark.parametrize("several", [False, True])
def test_no_temperature_of_the_grid_is_better(several: bool) -> None:
    rng = np.random.default_rng(3)
    for spread in (0.3, 1, 3):
        logits = rng.normal(0, spread, (200, 3))
        labels = draw(rng, rng.normal(size=logits.shape) + logits, several)
        rows = (sigmoid if several else softmax)(logits)
        sure = (len(rows) + 1) / (len(rows) + 2)
        right = labels if several else np.eye(3)[labels]
        targets = np.where(right, sure, (1 - sure) / (1 if several else 2))
        losses = []
        for temperature in GRID:
            fair = with_temperature(rows, temperature, several=several)
            parts = targets * np.log(fair) + (1 - targets) * np.log(1 - fair) if several else targets * np.log(fair)
            losses.append(-parts.sum())
        assert find_temperature(labels, rows, several=several) == GRID[np.argmin(losses)]


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("count", [30, 300, 3000])
def test_predictions_without_a_mistake_do_not_become_certain(several: bool, count: int) -> None:
    """n of them that are all right show that 1 in n + 2 may be wrong, not that none will ever be."""
    labels = np.random.default_rng(count).integers(0, 2, (count, 3) if several else count)
    logits = 3 * (2.0 * labels - 1) if several else 3 * np.eye(3)[labels]
    rows = (sigmoid if several else softmax)(logits)
    fair = with_temperature(rows, find_temperature(labels, rows, several=several), several=several)
    truths = np.where(labels, fair, 1 - fair) if several else fair[np.arange(count), labels]
    assert truths.mean() == pytest.approx((count + 1) / (count + 2), abs=0.2 / count)


def test_nothing_gained_is_one() -> None:
    sure = np.eye(3)[[0, 1, 2, 0]]
    assert find_temperature([0, 1, 2, 0], sure) == 1  # no mistake
    assert find_temperature([1, 1, 2, 0], sure) == 1  # one that no temperature mends
    assert find_temperature([0, 1, 2], np.full((3, 3), 1 / 3)) == 1
    assert find_temperature([[1, 0]], [[0.5, 0.5]], several=True) == 1


@pytest.mark.parametrize("several", [False, True])
def test_impossible_truths_do_not_decide_the_temperature(several: bool) -> None:
    """Where the truth has a probability of exactly 0, no temperature helps."""
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 1.5, (2000, 3))
    labels, rows = draw(rng, logits, several), (sigmoid if several else softmax)(3 * logits)
    wrong = np.zeros((50, 3)) if several else np.eye(3)[np.zeros(50, int)]
    more = np.ones((50, 3)) if several else np.ones(50, int)
    expected = find_temperature(labels, rows, several=several)
    assert expected > 2
    found = find_temperature(np.concatenate([labels, more]), np.concatenate([rows, wrong]), several=several)
    assert found == expected


def test_many_rows_are_taken_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    import bilstm.metrics.calibration as module

    rng = np.random.default_rng(5)
    for several in (False, True):
        logits = rng.normal(0, 1, (500, 3))
        labels, rows = draw(rng, logits, several), (sigmoid if several else softmax)(3 * logits)
        whole = find_temperature(labels, rows, several=several)
        with monkeypatch.context() as context:
            context.setattr(module, "_AT_ONCE", 20)
            assert find_temperature(labels, rows, several=several) == whole


@given(answers(), st.integers(1, 20))
def test_calibration_of_several_labels_by_its_definition(answer: Any, bins: int) -> None:
    labels, rows, _ = answer
    if labels.ndim == 1:
        labels = np.where(labels[:, np.newaxis] < 0, np.nan, np.eye(3)[np.maximum(labels, 0)])
    pairs = [(float(p), holds == 1) for p, holds in zip(rows.ravel(), labels.ravel(), strict=True) if holds >= 0]
    curve = calibration_curve(labels, rows, bins, several=True)
    assert sum(entry["steps"] for entry in curve) == len(pairs)
    distance = 0.0
    for entry in curve:
        inside = [
            pair for pair in pairs if entry["above"] < pair[0] <= entry["up_to"] or pair[0] == entry["above"] == 0
        ]
        confidence, accuracy = (sum(pair[i] for pair in inside) / len(inside) for i in (0, 1))
        assert (entry["confidence"], entry["accuracy"]) == (pytest.approx(confidence), pytest.approx(accuracy))
        distance += len(inside) / len(pairs) * abs(confidence - accuracy)
    assert calibration_error(labels, rows, bins, several=True) == pytest.approx(distance)
    clipped = [min(max(p if holds else 1 - p, 1e-16), 1) for p, holds in pairs]
    if rows.dtype == np.float64 and rows.min() > 1e-9 and rows.max() < 1 - 1e-9:
        assert log_loss(labels, rows, several=True) == pytest.approx(-np.mean(np.log(clipped)))


@pytest.mark.parametrize("function", [find_temperature, calibration_curve, calibration_error, log_loss])
@pytest.mark.parametrize(
    ("labels", "rows", "message"),
    [
        ([[1, 2]], [[0.5, 0.5]], "labels must be 0 or 1, or NaN where a step is unlabelled"),
        ([[1, 0]], [[0.5, 1.5]], "probabilities must be numbers from 0 to 1"),
        ([[1, 0]], [[0.5, np.nan]], "probabilities must be numbers from 0 to 1"),
        ([[1, 0]], [["a", "b"]], "labels and probabilities must be numbers, not <U1"),
        (
            [1, 0],
            [[0.5, 0.5]],
            "labels and probabilities have one shape (steps, n_labels), not (2,) and (1, 2)",
        ),
        ([[1, np.nan]], [[0.5, 0.5]], "no step is labelled, so there is nothing to score"),
    ],
)
def test_what_are_no_label_sets(function: Any, labels: Any, rows: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        function(labels, rows, several=True)


@pytest.mark.parametrize("temperature", [0, -1, np.inf, np.nan])
def test_what_is_no_temperature(temperature: float) -> None:
    message = f"temperature must be a finite number above 0, not {temperature!r}"
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        with_temperature([[0.5, 0.5]], temperature)


def test_only_probabilities_have_a_temperature() -> None:
    with pytest.raises(ValueError, match="add up to 1"):
        with_temperature([[0.5, 0.6]], 2.0)
    assert with_temperature([[0.5, 0.6]], 2.0, several=True).shape == (1, 2)
    with pytest.raises(ValueError, match="from 0 to 1"):
        with_temperature([[0.5, 1.6]], 2.0, several=True)
    with pytest.raises(ValueError, match="no step is labelled"):
        find_temperature([-1], [[0.5, 0.5]])
