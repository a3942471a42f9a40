"""What fit, evaluate and predict print: a bar, a line, or nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from bilstm.models import calls, progress
from bilstm.models.progress import format_logs
from oracles.models import above_half, compiled

pytestmark = pytest.mark.fast


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Makes every look at the clock find it so much later."""

    def set_step(seconds: float) -> None:
        now = [0.0]

        def perf_counter() -> float:
            now[0] += seconds
            return now[0]

        monkeypatch.setattr(progress.time, "perf_counter", perf_counter)

    return set_step


@pytest.mark.parametrize("verbose", [0, False])
def test_silence(verbose: Any, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = above_half(3)
    compiled().fit(x, y, verbose=verbose)
    compiled().evaluate(x, y, verbose=verbose)
    compiled().predict(x, verbose=verbose)
    compiled().predict_classes(x, verbose=verbose)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_line_an_epoch(epochs: int, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = above_half(10)
    history = compiled(["acc"]).fit(x, y, epochs=epochs, batch_size=1, verbose=2).history
    lines = []
    for epoch in range(epochs):
        lines += [f"Epoch {epoch + 1}/{epochs}"]
        lines += [f"0s - loss: {history['loss'][epoch]:.4f} - acc: {history['acc'][epoch]:.4f}"]
    assert capsys.readouterr().out.splitlines() == lines


def test_a_line_with_validation_and_later_epochs(
    clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    clock(1.0)
    x, y = above_half(4)
    history = compiled().fit(x, y, epochs=4, initial_epoch=3, validation_split=0.5, verbose=2).history
    first, second = capsys.readouterr().out.splitlines()
    assert first == "Epoch 4/4"
    assert re.fullmatch(rf"[1-9]s - loss: {history['loss'][0]:.4f} - val_loss: {history['val_loss'][0]:.4f}", second)


@pytest.mark.parametrize("verbose", [1, "auto", True])
@pytest.mark.parametrize(
    ("step", "time"), [(2.0, "6s 2s"), (0.002, "0s 2ms"), (0.0000017, "0s 2us")], ids=["seconds", "ms", "us"]
)
def test_a_bar_where_there_is_no_terminal_is_a_line(
    verbose: Any, step: float, time: str, clock: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    clock(step)  # three looks from the start to the end: three batches in one call
    x, y = above_half(30)
    loss = compiled().fit(x, y, batch_size=10, verbose=verbose).history["loss"][0]
    assert capsys.readouterr().out == f"Epoch 1/1\n3/3 [{'=' * 30}] - {time}/step - loss: {loss:.4f}\n"


def test_a_bar_on_a_terminal_moves(
    clock: Callable[[float], None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(1.0)
    monkeypatch.setattr(progress.sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(calls, "_TRAINING", 0)  # one batch a call
    x, y = above_half(10)
    loss = compiled().fit(x, y, batch_size=1, verbose=1).history["loss"][0]
    out = capsys.readouterr().out
    head, *states = out.split("\r")
    assert head == "Epoch 1/1\n"
    assert len(states) == 10
    assert re.fullmatch(r" 1/10 \[={3}>\.{26}\] - ETA: \d+s - loss: 0\.\d{4}\x1b\[K", states[0])
    assert re.fullmatch(r" 9/10 \[={27}>\.\.\] - ETA: \d+s - loss: 0\.\d{4}\x1b\[K", states[8])
    assert re.fullmatch(rf"10/10 \[={{30}}\] - \d+s \d+s/step - loss: {loss:.4f}\x1b\[K\n", states[9])


@pytest.mark.parametrize(
    ("verbose", "form"), [(1, "{n}/{n} [{bar}] - 2s {step}/step{logs}"), (2, "{n}/{n} - 2s{logs}")]
)
@pytest.mark.parametrize(("batch_size", "n", "step"), [(None, 2, "1s"), (10, 4, "500ms"), (100, 1, "2s")])
def test_an_evaluation_and_a_prediction_end_with_a_line(
    verbose: int,
    form: str,
    batch_size: int | None,
    n: int,
    step: str,
    clock: Callable[[float], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, (x, y) = compiled(["acc"]), above_half(40)
    clock(2.0)
    loss, accuracy = model.evaluate(x, y, batch_size=batch_size, verbose=verbose)
    logs = f" - loss: {loss:.4f} - acc: {accuracy:.4f}"
    assert capsys.readouterr().out == form.format(n=n, bar="=" * 30, step=step, logs=logs) + "\n"
    for method in (model.predict, model.predict_classes):
        method(x, batch_size=batch_size, verbose=verbose)
        assert capsys.readouterr().out == form.format(n=n, bar="=" * 30, step=step, logs="") + "\n"


def test_the_bar_of_an_evaluation_moves(
    clock: Callable[[float], None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(1.0)
    monkeypatch.setattr(progress.sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(calls, "_PREDICTION", 0)  # 32 sequences a call
    model, (x, y) = compiled(), above_half(100)
    loss = model.evaluate(x, y, batch_size=10, verbose=1)
    states = capsys.readouterr().out.split("\r")[1:]
    assert len(states) == 4
    assert re.fullmatch(r" 3/10 \[={9}>\.{20}\] - ETA: \d+s - loss: 0\.\d{4}\x1b\[K", states[0])
    assert re.fullmatch(rf"10/10 \[={{30}}\] - \d+s \d+ms/step - loss: {loss:.4f}\x1b\[K\n", states[3])


@pytest.mark.parametrize(
    ("logs", "printed"),
    [
        ({"loss": 0.0967, "acc": 0.9}, " - loss: 0.0967 - acc: 0.9000"),
        ({"loss": 0.00012345, "acc": 1.0}, " - loss: 1.2345e-04 - acc: 1.0000"),
        ({"loss": 0.0}, " - loss: 0.0000e+00"),
        ({"loss": 1234.5}, " - loss: 1234.5000"),
        ({"loss": float("nan")}, " - loss: nan"),
        ({}, ""),
    ],
)
def test_numbers_as_keras_writes_them(logs: dict[str, float], printed: str) -> None:
    assert format_logs(logs) == printed
