"""How far a tagger looks is found where it is known, and nothing is found where there is nothing."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bilstm.data.columns import Encoded
from bilstm.ragged import Ragged, offsets_of
from bilstm.report import reach
from bilstm.report.reach import context_reach
from bilstm.tagging.training import train_tagger
from bilstm.training.options import TrainingOptions
from test_training import COLUMNS, echoes


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "MOST_STEPS", 60_000)


def looking(back: int, ahead: int) -> Any:
    """Predicts whether the sum of the steps around each is positive: so many before it and so many after."""

    def predict(values: Ragged) -> npt.NDArray[np.int64]:
        sums = np.append(0, np.cumsum(values.values, dtype=np.float64))
        steps = np.arange(values.total_steps)
        first = np.repeat(values.offsets[:-1], values.lengths)
        last = np.repeat(values.offsets[1:], values.lengths)
        within = sums[np.minimum(steps + ahead + 1, last)] - sums[np.maximum(steps - back, first)]
        return (within > 0).astype(np.int64)

    return predict


def noise(lengths: Any, predict: Any, seed: int = 0) -> Encoded:
    """Sequences of white noise, labelled as `predict` does."""
    lengths = np.asarray(lengths)
    values = Ragged(np.random.default_rng(seed).normal(size=lengths.sum()), offsets_of(lengths))
    return Encoded(values, predict(values).astype(np.int32), np.arange(values.total_steps))


@pytest.mark.parametrize(("back", "ahead"), [(0, 0), (3, 0), (0, 3), (8, 1), (1, 40)])
def test_a_known_window_is_found(back: int, ahead: int) -> None:
    predict = looking(back, ahead)
    data = noise(np.random.default_rng(1).integers(60, 120, 60), predict)
    found = context_reach(predict, data)
    for side, window in (("past", back), ("future", ahead)):
        told = found[side]
        assert [known["from"] for known in told["known"]][:6] == [0, 1, 2, 3, 5, 9]
        for known in told["known"]:
            assert known["intact"] == 1
            assert known["lost"] == pytest.approx(known["intact"] - known["accuracy"])
            if known["from"] >= window:
                assert known["lost"] == 0
        if not window:
            assert (told["worth"], told["reach"]) == (0, 0)
        else:
            assert told["worth"] > 0.05
            low, high = told["known"][0]["interval"]
            assert low < told["worth"] < high
            assert window / 4 <= told["reach"] <= 2 * window


@pytest.mark.parametrize(("direction", "sides"), [("forward", ["past"]), ("backward", ["future"]), ("none", [])])
def test_a_direction_sees_its_side_only(direction: str, sides: list[str]) -> None:
    options = TrainingOptions(units=6, layers=1, epochs=3, direction=direction, dropout=0.0)
    tagger = train_tagger(COLUMNS, echoes(60, -1 if direction == "forward" else 1), None, options=options)
    found = context_reach(tagger.predict, echoes(80, seed=3))
    for side in ("past", "future"):
        lost = [known["lost"] for known in found[side]["known"]]
        assert any(lost) == (side in sides)


def test_what_a_network_needs_is_found() -> None:
    options = TrainingOptions(units=8, layers=1, epochs=20, learning_rate=0.03, dropout=0.0)
    tagger = train_tagger(COLUMNS, echoes(120), None, options=options)  # of the number one step later
    found = context_reach(tagger.predict, echoes(200, seed=9))
    assert found["future"]["reach"] == 1
    assert found["future"]["worth"] > 0.3
    assert found["past"]["worth"] < 0.05


def test_unlabelled_steps_are_not_scored() -> None:
    predict = looking(2, 2)
    data = noise([40] * 20, predict)
    wrong = np.where(np.arange(800) % 2, 1 - data.labels, -1).astype(np.int32)
    found = context_reach(predict, Encoded(data.values, wrong, data.rows))
    assert all(known["intact"] == 0 for known in found["past"]["known"])
    whole = context_reach(predict, data)
    assert found["past"]["known"][5]["steps"] < 0.6 * whole["past"]["known"][5]["steps"]


def test_seeds() -> None:
    predict = looking(4, 4)
    data = noise([50] * 30, predict)
    first = context_reach(predict, data)
    assert context_reach(predict, data, seed=0) == first
    assert context_reach(predict, data, seed=1) != first
    assert json.loads(json.dumps(first)) == first


@pytest.mark.parametrize("lengths", [[1] * 5, [1], [2], [3, 1], [700], [1200, 900]], ids=str)
def test_few_and_odd_lengths(lengths: list[int]) -> None:
    predict = looking(1, 1)
    found = context_reach(predict, noise(lengths, predict))
    for side in ("past", "future"):
        if max(lengths) == 1:
            assert found[side] is None
        else:
            assert all(known["from"] <= known["to"] for known in found[side]["known"])
            assert (found[side]["known"][0]["interval"] is None) == (sum(length > 1 for length in lengths) == 1)


def test_the_work_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "MOST_STEPS", 5000)
    predict, sizes = looking(1, 1), []

    def watch(values: Ragged) -> npt.NDArray[np.int64]:
        sizes.append(values.total_steps)
        return predict(values)

    data = noise([3000] * 4, predict)
    context_reach(watch, data)
    assert sizes[0] == 12000
    assert max(sizes[1:]) <= 5000
