"""Ctrl-C and SIGTERM, sent to processes that are at work: what is kept, what is said, and the exit status."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bilstm import utils
from bilstm.layers import LSTM, Bidirectional, Dense
from bilstm.model import TrainedModel
from bilstm.modelfile import read_model
from bilstm.models import Sequential
from bilstm.ragged import Ragged
from oracles.models import bits, weight_bits

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")
SIGNALS = pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])

# A process that the shell has started in the background ignores Ctrl-C, and so would those of the tests.
HEEDING = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
IGNORING = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"

# Tells the test, by lines on standard output, how far the command line is.
TELLING = """
import sys, time
from pathlib import Path
from bilstm import progress

calls = []

def tell(_, figures):
    print("epoch", figures["epoch"], "done", figures["done"], flush=True)
    calls.append(figures)
    if {stay!r} == "after some epochs":
        time.sleep(0.01 if len(calls) < 16 else 60)
    if {stay!r} == "in epoch" and figures["done"] < 1:
        time.sleep(60)

def write(path, content):
    with open(path, "wb") as file:
        file.write(content[:100])
        print("writing", flush=True)
        time.sleep(60)

progress.Progress.__call__ = tell
if {stay!r} == "in writing":
    Path.write_bytes = write
from bilstm.__main__ import main

main()
"""


def table(path: Path, sequences: int = 40) -> Path:
    random = np.random.default_rng(1)
    lines = ["id,x,state"]
    for sequence in range(sequences):
        for x in random.normal(size=8):
            lines.append(f"s{sequence},{x:.4f},{'high' if x > 0 else 'low'}")
    path.write_text("\n".join(lines) + "\n")
    return path


@contextlib.contextmanager
def process(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A Python that runs the script, and is ended with the block whatever happens."""
    command = [sys.executable, "-c", script, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def wait_for(running: subprocess.Popen[str], fits: Callable[[str], bool]) -> None:
    """Read what the process prints up to a line that fits."""
    assert running.stdout is not None
    for line in running.stdout:
        if fits(line):
            return
    raise AssertionError("the process ended early")


def train(folder: Path, script: str, send: list[tuple[Callable[[str], bool], int]]) -> tuple[int, str]:
    """Train without end, and send a signal at the first line of output that fits, then the next. Status and errors."""
    out = str(folder / "model")
    options = ["--units", "4", "--layers", "1", "--epochs", "1000000", "--patience", "1000000", "--out", out]
    columns = ["--sequence", "id", "--label", "state"]
    with process(script, "train", str(table(folder / "train.csv")), *columns, *options) as running:
        for fits, number in send:
            wait_for(running, fits)
            running.send_signal(number)
        _, errors = running.communicate(timeout=60)
    return running.returncode, errors


def third_epoch_ended(line: str) -> bool:
    return line == "epoch 3 done 1.0\n"


@SIGNALS
def test_the_best_model_until_then_is_saved(tmp_path: Path, number: int, status: int) -> None:
    found, errors = train(tmp_path, HEEDING + TELLING.format(stay=""), [(third_epoch_ended, number)])
    assert found == status
    said = re.fullmatch(
        r"bilstm: stopped by the user after epoch (\d+); (.*)/model holds epoch (\d+), with a loss of \d\.\d{4}, and "
        r"on the validation set an accuracy of (\d\.\d{4}) and a loss of (\d\.\d{4}); it has no baseline\n",
        errors,
    )
    assert said, errors
    epochs, best = int(said[1]), int(said[3])
    assert 3 <= epochs
    assert 1 <= best <= epochs
    _, header = read_model(tmp_path / "model")
    summary = header["training"]
    assert summary["stopped"] == f"stopped by the user after epoch {epochs}"
    assert (summary["epochs"], summary["best_epoch"]) == (epochs, best)
    assert {len(values) for values in summary["history"].values()} == {epochs}
    assert f"{summary['history']['val_accuracy'][best - 1]:.4f}" == said[4]
    assert f"{summary['history']['val_loss'][best - 1]:.4f}" == said[5]
    assert TrainedModel.load(tmp_path / "model").task.classes == ("high", "low")
    assert sorted(os.listdir(tmp_path)) == ["model", "train.csv"]


@SIGNALS
def test_before_an_epoch_ended_nothing_is_written(tmp_path: Path, number: int, status: int) -> None:
    send = [(lambda line: line.startswith("epoch 1 done 0"), number)]
    found, errors = train(tmp_path, HEEDING + TELLING.format(stay="in epoch"), send)
    assert (found, errors) == (status, "bilstm: stopped before the first epoch ended: no model was written\n")
    assert os.listdir(tmp_path) == ["train.csv"]


def test_a_job_in_the_background_still_ignores_ctrl_c(tmp_path: Path) -> None:
    after = (lambda line: line == "epoch 9 done 1.0\n", signal.SIGTERM)
    found, errors = train(tmp_path, IGNORING + TELLING.format(stay=""), [(third_epoch_ended, signal.SIGINT), after])
    assert found == 143
    assert int(re.findall(r"after epoch (\d+)", errors)[0]) >= 9


@pytest.mark.parametrize("old", [None, b'\x21\0\0\0\0\0\0\0{"__metadata__":{"bilstm":"old"}} an older model'])
def test_a_second_ctrl_c_leaves_nothing_half_written(tmp_path: Path, old: bytes | None) -> None:
    if old is not None:
        (tmp_path / "model").write_bytes(old)
    send = [(third_epoch_ended, signal.SIGINT), (lambda line: line == "writing\n", signal.SIGINT)]
    found, errors = train(tmp_path, HEEDING + TELLING.format(stay="in writing"), send)
    assert (found, errors) == (130, "bilstm: stopped while the model was being written: it was not\n")
    if old is None:
        assert os.listdir(tmp_path) == ["train.csv"]
    else:
        assert sorted(os.listdir(tmp_path)) == ["model", "train.csv"]
        assert (tmp_path / "model").read_bytes() == old


@SIGNALS
def test_a_database_at_work_is_stopped_without_a_fuss(number: int, status: int) -> None:
    """DuckDB hears signals itself, and raises an error of its own."""
    script = """
import duckdb
from bilstm.data import reading

def read_table(*_, **__):
    print("reading", flush=True)
    duckdb.sql("SELECT sum(a.range * b.range) FROM range(1000000) a, range(1000000) b").fetchall()

reading.read_table = read_table
from bilstm.__main__ import main

main()
"""
    with process(HEEDING + script, "train", "t.csv", "--out", "model") as running:
        wait_for(running, lambda line: line == "reading\n")
        running.send_signal(number)
        _, errors = running.communicate(timeout=60)
    assert (running.returncode, errors) == (status, "bilstm: stopped\n")


def test_fit_keeps_the_weights_reached() -> None:
    script = """
import numpy as np
from bilstm.callbacks import LambdaCallback
from bilstm.layers import LSTM, Dense
from bilstm.models import Sequential

model = Sequential([LSTM(8, return_sequences=True, input_shape=(None, 1)), Dense(1, "sigmoid")], seed=1)
model.compile("adam", "binary_crossentropy")
before = model.get_weights()
x = np.random.default_rng(1).random((200_000, 10, 1), np.float32)
print("ready", flush=True)
try:
    model.fit(x, x > 0.5, batch_size=1, epochs=1000, verbose=0)
except KeyboardInterrupt:
    moved = [np.abs(a - b).max() for a, b in zip(before, model.get_weights())]
    print("interrupted", min(moved) > 0, np.isfinite(moved).all(), model.network.iteration > 0)
model.fit(x[:4], x[:4] > 0.5, verbose=0)
print("goes on")
"""
    with process(HEEDING + script) as running:
        wait_for(running, lambda line: line == "ready\n")
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(1.0)  # by then the first batches have been trained on
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=60)
    assert out == "interrupted True True True\ngoes on\n"


class AlarmError(Exception):
    """What the tests below raise from a signal's handler."""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers that send signals")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("call", ["predict", "evaluate", "train"])
def test_a_long_call_of_the_engine_ends_at_a_signal(call: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of very long sequences is one call. What a signal's handler raises ends it, and reaches its caller."""
    model = Sequential(
        [Bidirectional(LSTM(48, return_sequences=True), input_shape=(None, 1)), Dense(2, "softmax")], seed=1
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    short = np.random.default_rng(1).random((2, 50, 1), np.float32)
    expected, weights = bits(model.predict(short)), weight_bits(model)
    x = Ragged(np.zeros((3_000_000, 1), np.float32), np.arange(3) * 1_500_000)
    y = np.zeros(3_000_000, np.int32)
    calls = {
        "predict": lambda: model.predict_rows(x),
        "evaluate": lambda: model.evaluate(x, y, verbose=0),
        "train": lambda: model.train_on_batch(x, y),
    }

    def stop(*_: object) -> None:
        raise AlarmError("now")

    before, own_threads = signal.signal(signal.SIGALRM, stop), utils.threads()
    utils.set_threads(threads)
    try:
        began = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(AlarmError, match="now"):
            calls[call]()
        assert time.monotonic() - began < 4  # the call takes ten times as long
        assert (bits(model.predict(short)), weight_bits(model)) == (expected, weights)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        utils.set_threads(own_threads)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers that send signals")
def test_a_handler_that_raises_nothing_changes_nothing() -> None:
    model = Sequential(
        [Bidirectional(LSTM(48, return_sequences=True), input_shape=(None, 1)), Dense(2, "softmax")], seed=1
    )
    x, alarms = Ragged(np.zeros((600_000, 1), np.float32), np.arange(3) * 300_000), []
    expected = bits(model.predict_rows(x))
    before = signal.signal(signal.SIGALRM, lambda *_: alarms.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        assert bits(model.predict_rows(x)) == expected
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert alarms
