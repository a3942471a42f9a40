"""The steps that an answer rests on are found where they are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import bilstm
from bilstm.ragged import Ragged, offsets_of
from bilstm.report import importance
from bilstm.report.importance import belief, step_importance
from bilstm.tasks import LabelSetTask, LabelTask, Outputs, QuantityTask

pytestmark = pytest.mark.fast

LABEL = LabelTask(("y",), True, ("no", "yes"), "text")
KNOCK = 5  # steps


def recordings(count: int, seed: int) -> tuple[pd.DataFrame, dict[int, int]]:
    """Noise of two sensors; a worn machine knocks once, for five steps. And where each of these knocks."""
    rng = np.random.default_rng(seed)
    frames, knocks = [], {}
    for number in range(count):
        steps = int(rng.integers(20, 60))
        vibration = rng.normal(0, 1, (steps, 2))
        worn = bool(rng.random() < 0.5)
        if worn:
            knocks[number] = int(rng.integers(0, steps - KNOCK))
            vibration[knocks[number] : knocks[number] + KNOCK, 1] += 3
        columns = {"id": number, "a": vibration[:, 0], "b": vibration[:, 1], "state": "worn" if worn else "good"}
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True), knocks


@pytest.fixture(scope="module")
def model() -> bilstm.TrainedModel:
    options: dict[str, Any] = {"units": 12, "layers": 1, "epochs": 20, "learning_rate": 0.02, "baseline": False}
    return bilstm.train(recordings(300, 0)[0], label="state", sequence="id", pooling="max", **options)


def test_the_knock_is_found(model: bilstm.TrainedModel) -> None:
    data, knocks = recordings(80, 1)
    dataset = model.read(data, with_truth=True)
    outputs = model.outputs(dataset.values).values
    hits, tries, inside, outside = 0, 0, [], []
    for sequence, start in knocks.items():
        if outputs[sequence].argmax() != dataset.known[sequence]:
            continue
        found = step_importance(model.task, model.outputs, dataset.values, sequence)
        assert found is not None
        steps = np.array(found["steps"])
        knock = slice(start, start + KNOCK)
        inside.append(steps[knock].mean())
        outside.append(np.delete(steps, knock).mean())
        window = found["window"]
        tries += 1
        hits += window is not None and window["start"] < start + KNOCK and window["stop"] > start
        assert window is None or window["without"][1] < outputs[sequence, 1]
    assert tries > 25
    assert hits >= 0.95 * tries
    assert np.mean(inside) > 5 * np.mean(outside)


def test_the_report_shows_it(model: bilstm.TrainedModel, tmp_path: Any) -> None:
    data, _ = recordings(80, 1)
    findings = bilstm.report.write_report(tmp_path / "r.html", model, data)
    assert "How the important steps were found" in (tmp_path / "r.html").read_text()
    dataset = model.read(data)
    for found in findings["worst"]:
        assert found["importance"] == step_importance(model.task, model.outputs, dataset.values, int(found["name"]))


def largest(values: Ragged) -> Outputs:
    """The probability that a sequence has a value above 3."""
    yes = np.array([0.98 if steps.max() > 3 else 0.02 for steps in values], np.float32)
    return Outputs(np.stack([1 - yes, yes], axis=1))


def spiked(length: int, place: int) -> Ragged:
    """Noise below 3, and in the first sequence one step of 9."""
    values = np.random.default_rng(0).uniform(-1, 1, (20, length)).astype(np.float32)
    values[0, place] = 9
    return Ragged(values.reshape(-1, 1), offsets_of([length] * 20))


@pytest.mark.parametrize("length", [2, 3, 7, 16, 33, 100])
def test_a_single_deciding_step(length: int) -> None:
    for place in {0, length // 3, length - 1}:
        found = step_importance(LABEL, largest, spiked(length, place), 0)
        assert found is not None
        window = found["window"]
        assert window["start"] <= place < window["stop"]
        assert window["stop"] - window["start"] == min(found["windows"]) == max(1, length // 16)
        assert window["drop"] == pytest.approx(np.log(0.98 / 0.02), rel=1e-4)
        assert window["without"] == pytest.approx([0.98, 0.02])
        assert len(found["steps"]) == length
        assert np.argmax(found["steps"]) in range(window["start"], window["stop"])
        assert min(found["steps"]) >= 0


def test_nothing_is_found_where_nothing_decides() -> None:
    values = spiked(40, 3)
    found = step_importance(LABEL, lambda values: Outputs(np.full((len(values), 2), 0.5, np.float32)), values, 0)
    assert found is not None
    assert found["window"] is None
    assert set(found["steps"]) == {0.0}


def test_what_answers_are_believed() -> None:
    rows = np.array([[0.2, 0.8], [0.6, 0.4]], np.float32)
    assert belief(LABEL, rows[:1], rows).tolist() == pytest.approx(np.log([0.8, 0.4]).tolist())
    both = belief(LabelSetTask(("a", "b"), True), rows[:1], rows)
    assert both.tolist() == pytest.approx([np.log(0.8) * 2, np.log(0.4) * 2])
    quantity = QuantityTask(("a", "b"), True, (0.0, 0.0), (1.0, 5.0))
    assert belief(quantity, rows[:1], rows).tolist() == pytest.approx([0, -0.4])


def test_of_quantities() -> None:
    """The mean of a sequence changes most where its outlier is replaced."""
    task = QuantityTask(("m",), True, (0.0,), (1.0,))
    found = step_importance(task, lambda v: Outputs(np.array([[s.mean()] for s in v], np.float32)), spiked(32, 20), 0)
    assert found is not None
    assert found["window"]["start"] <= 20 < found["window"]["stop"]
    assert found["window"]["drop"] == pytest.approx(9 / 32, abs=0.1)


@pytest.mark.parametrize("length", [1, 8, 300, 5_000, 20_000, 60_000])
def test_the_work_is_bounded(length: int) -> None:
    steps = 0

    def counting(values: Ragged) -> Outputs:
        nonlocal steps
        steps += values.total_steps
        return Outputs(np.full((len(values), 2), 0.5, np.float32))

    values = Ragged(np.zeros((2 * length, 1)), offsets_of([length] * 2))
    found = step_importance(LABEL, counting, values, 0)
    assert steps <= importance.MOST_STEPS + length
    assert (found is None) == (length in (1, 20_000, 60_000))
    if found:
        assert found["replacements"] >= importance.FEWEST_REPLACEMENTS
        assert found["windows"] == [max(1, length // share) for share in importance.SHARES][-len(found["windows"]) :]


def test_a_single_sequence_is_replaced_by_itself() -> None:
    values = Ragged(np.arange(40.0)[:, np.newaxis], offsets_of([40]))
    found = step_importance(LABEL, largest, values, 0)
    assert found is not None
    assert len(found["steps"]) == 40
