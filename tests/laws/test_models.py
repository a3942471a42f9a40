"""Trained models of every task: the bits of a sequence's prediction do not depend on what else is predicted with it, on
the order, on the number of threads or on the process."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bilstm
from bilstm import utils
from bilstm.model import TrainedModel
from bilstm.tasks import KINDS
from oracles.models import bits

TARGETS = {"label": "state", "labels": ["loud", "high"], "quantity": ["level"]}
SEQUENCES = 24


def sequences(count: int, seed: int) -> list[dict[str, list[Any]]]:
    """Of 1 to 40 steps: a number that may be missing, a word, and every target."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        steps = int(rng.integers(1, 41))
        x = rng.normal(size=steps)
        made.append(
            {
                "x": [None if rng.random() < 0.1 else float(value) for value in x],
                "word": rng.choice(["a", "b", "c"], steps).tolist(),
                "state": [("up", "down")[number % 2]] * steps,
                "loud": [number % 2] * steps,
                "high": [number % 3 // 2] * steps,
                "level": [number / 3] * steps,
            }
        )
    return made


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest) -> TrainedModel:
    options: dict[str, Any] = {"units": 5, "layers": 1, "epochs": 2, "validation_split": 0.2, "features": ["x", "word"]}
    target = TARGETS[request.param.split("-")[1]]
    options["conv"] = "4x3" if request.param.startswith("step") else None
    trained = bilstm.train(sequences(30, 0), label=target, task=request.param, **options)
    trained.warn = False
    return trained


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = utils.threads()
    yield
    utils.set_threads(before)


def answers(model: TrainedModel, data: list[Any]) -> list[bytes]:
    """The bits of what is predicted for each sequence."""
    found = [model.predict(data)] + ([] if model.task.what == "quantity" else [model.predict_proba(data)])
    return [b"".join(_bits(each[i]) for each in found) for i in range(len(data))]


def _bits(values: Any) -> bytes:
    array = np.asarray(values)
    return array.tobytes() if array.dtype.kind != "f" else bits(array)


DATA = sequences(SEQUENCES, 1)


@given(st.lists(st.integers(0, SEQUENCES - 1), min_size=1, max_size=SEQUENCES), st.sampled_from([1, 2, 3]))
def test_neither_the_batch_nor_its_order_nor_the_threads_count(
    model: TrainedModel, chosen: list[int], count: int
) -> None:
    utils.set_threads(1)
    expected = [answers(model, [DATA[i]])[0] for i in chosen]
    utils.set_threads(count)
    assert answers(model, [DATA[i] for i in chosen]) == expected


def test_eight_threads_at_once(model: TrainedModel) -> None:
    expected = answers(model, DATA)
    with ThreadPoolExecutor(8) as pool:
        assert all(found == expected for found in pool.map(lambda _: answers(model, DATA), range(32)))


def loaded_answers(path: Path) -> list[bytes]:
    model = bilstm.load(path)
    model.warn = False
    return answers(model, DATA)


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_four_processes(model: TrainedModel, how: str, tmp_path: Path) -> None:
    expected = answers(model, DATA)
    model.save(tmp_path / "model")
    with ProcessPoolExecutor(4, multiprocessing.get_context(how)) as pool:
        assert all(found == expected for found in pool.map(loaded_answers, [tmp_path / "model"] * 4))
