"""The measured context is the known one, and none is found where there is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

import bilstm
from bilstm.data.dataset import Dataset
from bilstm.ragged import FloatArray, Ragged, offsets_of
from bilstm.report import reach
from bilstm.report.reach import ContextReach, step_scores, steps_of_others
from bilstm.tasks import LabelSetTask, LabelTask, Outputs, QuantityTask, Task

LABELS = LabelTask(("y",), False, ("no", "yes"), "text")
Predict = Callable[[Ragged], Outputs]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "MOST_STEPS", 60_000)


def window_sums(values: Ragged, back: int, ahead: int) -> npt.NDArray[np.float64]:
    """(total_steps,) the sum of so many steps before each, itself, and so many after it."""
    sums = np.append(0, np.cumsum(values.values, dtype=np.float64))
    steps = np.arange(values.total_steps)
    first = np.repeat(values.offsets[:-1], values.lengths)
    last = np.repeat(values.offsets[1:], values.lengths)
    return np.asarray(sums[np.minimum(steps + ahead + 1, last)] - sums[np.maximum(steps - back, first)])


def looking(back: int, ahead: int) -> Predict:
    """Gives probabilities of whether the sum of the steps around each is positive."""

    def predict(values: Ragged) -> Outputs:
        yes = (window_sums(values, back, ahead) > 0).astype(np.float32)
        return Outputs(np.stack([1 - yes, yes], axis=1))

    return predict


def noise(lengths: Any, predict: Predict, seed: int = 0, groups: Any = None) -> Dataset:
    """Sequences of white noise, labelled as `predict` does."""
    lengths = np.asarray(lengths)
    values = Ragged(np.random.default_rng(seed).normal(size=lengths.sum()), offsets_of(lengths))
    truth = predict(values).labels.astype(np.int32)
    return Dataset(values, np.arange(values.total_steps), truth, groups=groups)


def measure(
    predict: Predict, data: Dataset, *, seed: int = 0, task: Task = LABELS, at_once: int = 10
) -> dict[str, Any]:
    """The context reach, from outputs that come some sequences at a time."""
    found = ContextReach(task, data, seed)
    for start in range(0, len(data), at_once):
        part = slice(start, min(start + at_once, len(data)))
        rows = slice(int(data.values.offsets[part.start]), int(data.values.offsets[part.stop]))
        found.add(part, rows, predict(data.part(part).values))
    return found.report(predict)


@pytest.mark.parametrize(("back", "ahead"), [(0, 0), (3, 0), (0, 3), (8, 1), (1, 40)])
def test_a_known_window_is_found(back: int, ahead: int) -> None:
    predict = looking(back, ahead)
    found = measure(predict, noise(np.random.default_rng(1).integers(60, 120, 60), predict))
    for side, window in (("past", back), ("future", ahead)):
        result = found[side]
        assert [known["from"] for known in result["known"]][:6] == [0, 1, 2, 3, 5, 9]
        for known in result["known"]:
            assert known["intact"] == 1
            assert known["lost"] == pytest.approx(known["intact"] - known["score"])
            if known["from"] >= window:
                assert known["lost"] == 0
        if not window:
            assert (result["worth"], result["reach"]) == (0, 0)
        else:
            assert result["worth"] > 0.05
            low, high = result["known"][0]["interval"]
            assert low < result["worth"] < high
            assert window / 4 <= result["reach"] <= 2 * window


@pytest.mark.parametrize("what", ["labels", "quantity"])
def test_other_tasks(what: str) -> None:
    """A window of three steps back, from several labels and from quantities."""
    rng = np.random.default_rng(0)
    values = Ragged(rng.normal(size=4000), offsets_of([80] * 50))

    def predict(values: Ragged) -> Outputs:
        sums, own = window_sums(values, 3, 0), values.values[:, 0]
        pair = [sums > 0, own > 0] if what == "labels" else [sums / 2, own]
        return Outputs(np.stack(pair, axis=1).astype(np.float32))

    truth = predict(values).values.astype(np.float64)
    task: Task = LabelSetTask(("a", "b"), False)
    if what == "quantity":
        task = QuantityTask(("a", "b"), False, (0.0, 0.0), (1.0, 1.0))
    found = measure(predict, Dataset(values, np.arange(4000), truth), task=task)
    assert found["future"]["worth"] == found["future"]["reach"] == 0
    assert found["past"]["reach"] in (2, 3, 4)
    if what == "labels":  # the signs of sums with a correlation of 1 / 4 differ; that is one of two labels
        assert found["past"]["worth"] == pytest.approx(np.arccos(1 / 4) / np.pi / 2, abs=0.03)
    else:  # the mean absolute value of half the difference of two sums of three, of one of two quantities
        assert found["past"]["worth"] == pytest.approx(np.sqrt(6) / 2 * np.sqrt(2 / np.pi) / 2, rel=0.1)


def test_scores_of_steps() -> None:
    outputs = Outputs(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32))
    assert step_scores(LABELS, np.array([0, 0, -1]), outputs).tolist()[:2] == [1, 0]
    sets = step_scores(LabelSetTask(("a", "b"), False), np.array([[1, 1], [0, 1], [np.nan] * 2]), outputs)
    assert sets.tolist()[:2] == [0.5, 1]
    quantities = QuantityTask(("a", "b"), False, (1.0, 0.0), (2.0, 10.0))
    errors = step_scores(quantities, np.array([[2.8, 2.0], [1.4, 8.0], [np.nan] * 2]), outputs)
    assert errors.tolist()[:2] == pytest.approx([-0.05, 0], abs=1e-7)
    assert all(np.isnan(scores[2]) for scores in (sets, errors, step_scores(LABELS, np.array([0, 0, -1]), outputs)))


def echoes(count: int, lag: int, seed: int = 0) -> pd.DataFrame:
    """Sequences of numbers, labelled with whether the number so many steps later is positive."""
    rng = np.random.default_rng(seed)
    rows = []
    for sequence in range(count):
        x = rng.normal(size=int(rng.integers(5, 13)))
        state = np.where(np.roll(x, -lag) > 0, "up", "down")
        rows.append(pd.DataFrame({"id": sequence, "x": x, "state": state}))
    return pd.concat(rows, ignore_index=True)


@pytest.mark.parametrize(("direction", "sides"), [("forward", ["past"]), ("backward", ["future"]), ("none", [])])
def test_a_direction_sees_its_side_only(direction: str, sides: list[str]) -> None:
    options: dict[str, Any] = {"units": 6, "layers": 1, "epochs": 3, "dropout": 0.0, "baseline": False}
    model = bilstm.train(echoes(60, 1), label="state", sequence="id", direction=direction, **options)
    found = bilstm.report.examine(model, echoes(80, 1, seed=3))["reach"]
    for side in ("past", "future"):
        lost = [known["lost"] for known in found[side]["known"]]
        assert any(lost) == (side in sides)


def test_what_a_network_needs_is_found() -> None:
    options: dict[str, Any] = {"units": 8, "layers": 1, "epochs": 20, "learning_rate": 0.03, "dropout": 0.0}
    model = bilstm.train(echoes(120, 1), label="state", sequence="id", baseline=False, **options)
    found = bilstm.report.examine(model, echoes(200, 1, seed=9))["reach"]
    assert found["future"]["reach"] == 1
    assert found["future"]["worth"] > 0.3
    assert found["past"]["worth"] < 0.05


def test_unlabelled_steps_are_not_scored() -> None:
    predict = looking(2, 2)
    data = noise([40] * 20, predict)
    wrong = np.where(np.arange(800) % 2, 1 - data.known, -1).astype(np.int32)
    found = measure(predict, Dataset(data.values, data.rows, wrong))
    assert all(known["intact"] == 0 for known in found["past"]["known"])
    whole = measure(predict, data)
    assert found["past"]["known"][5]["steps"] < 0.6 * whole["past"]["known"][5]["steps"]


def test_seeds_and_chunks() -> None:
    predict = looking(4, 4)
    data = noise([50] * 30, predict)
    first = measure(predict, data)
    assert measure(predict, data, seed=0, at_once=1) == first
    assert measure(predict, data, seed=1) != first
    assert json.loads(json.dumps(first)) == first


def test_intervals_over_groups_are_wider_where_groups_differ() -> None:
    """In half of the groups, the past is worth nothing: all their signs are those of the step itself."""
    predict = looking(3, 0)
    groups = np.repeat(np.arange(6), 20)
    data = noise([30] * 120, predict, groups=groups)
    scale = np.repeat(np.where(groups < 3, 1.0, 0.0), 30)
    values = data.values.values + (1 - scale[:, np.newaxis]) * 100
    data = Dataset(Ragged(values, data.values.offsets), data.rows, predict(Ragged(values, data.values.offsets)).labels)
    widths = []
    for groups_ in (None, groups):
        found = measure(predict, Dataset(data.values, data.rows, data.known, groups=groups_))
        widths.append(np.ptp(found["past"]["known"][0]["interval"]))
    assert widths[1] > 1.5 * widths[0]


@pytest.mark.parametrize("lengths", [[1] * 5, [1], [2], [3, 1], [9, 9, 1], [700], [1200, 900, 800]], ids=str)
def test_few_and_odd_lengths(lengths: list[int]) -> None:
    predict = looking(1, 1)
    found = measure(predict, noise(lengths, predict))
    for side in ("past", "future"):
        if max(lengths) == 1:
            assert found[side] is None
        else:
            assert all(known["from"] <= known["to"] for known in found[side]["known"])
            assert (found[side]["known"][0]["interval"] is None) == (sum(length > 1 for length in lengths) < 3)


def test_the_work_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "MOST_STEPS", 5000)
    predict, sizes = looking(1, 1), []

    def counting(values: Ragged) -> FloatArray:
        sizes.append(values.total_steps)
        return predict(values)

    data = noise([3000] * 4, predict)
    ContextReach(LABELS, data)  # predicts nothing
    found = ContextReach(LABELS, data)
    found.add(slice(0, 4), slice(0, 12_000), predict(data.values))
    found.report(counting)
    assert len(sizes) == 2
    assert max(sizes) <= 5000


@pytest.mark.parametrize("part", ["start", "end", "any"])
def test_replacements_are_real_steps_of_others(part: Any) -> None:
    lengths = [3, 50, 4, 20]
    values = Ragged(np.arange(77.0), offsets_of(lengths))
    rng = np.random.default_rng(0)
    for sequence in range(4):
        for count in (0, 1, 7, 60):
            steps = steps_of_others(values, sequence, count, rng, part)[:, 0]
            assert len(steps) == count
            start, stop = values.offsets[sequence], values.offsets[sequence + 1]
            assert not ((steps >= start) & (steps < stop)).any()
            jumps = np.flatnonzero(np.diff(steps) != 1)
            firsts, lasts = values.offsets[:-1], values.offsets[1:] - 1
            if part == "start":  # each piece begins where a sequence does, and all but the last are whole
                assert set(steps[[0, *(jumps + 1)]] if count else []) <= set(firsts)
            if part == "end":
                assert set(steps[[*jumps, -1]] if count else []) <= set(lasts)
