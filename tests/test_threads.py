"""The engine's pool of threads, in a C++ program of its own; and what other libraries and processes do to it."""

from __future__ import annotations

import hashlib
import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bilstm import utils
from bilstm.engine.library import EngineError
from bilstm.layers import LSTM, Bidirectional, Dense
from bilstm.models import Sequential
from bilstm.ragged import Ragged, offsets_of
from oracles.models import COMPILER, NATIVE, SANITIZED, bits, weight_bits


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = utils.threads()
    yield
    utils.set_threads(before)


@pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")
def test_the_pool(tmp_path: Path) -> None:
    program, sources = tmp_path / "threads", [Path(__file__).parent / "native" / "threads.cpp", NATIVE / "threads.cpp"]
    command = [str(COMPILER), "-std=gnu++20", "-O1", f"-I{NATIVE}", *map(str, sources), "-o", str(program), "-pthread"]
    command += [f"-fsanitize={SANITIZED}"] if SANITIZED else []
    subprocess.run(command, check=True, timeout=120)
    finished = subprocess.run([str(program)], capture_output=True, text=True, timeout=120)
    assert (finished.returncode, finished.stderr) == (0, "")


# --- Other libraries -------------------------------------------------------------------------------------------------


def work() -> tuple[Sequential, Ragged, npt.NDArray[np.int64]]:
    """Enough for every thread."""
    layers = [Bidirectional(LSTM(40, return_sequences=True), input_shape=(None, 8)), Dense(5, "softmax")]
    model = Sequential(layers, seed=1)
    model.compile("adam", "sparse_categorical_crossentropy")
    random = np.random.default_rng(3)
    lengths = random.integers(1, 40, 40)
    values = random.normal(size=(lengths.sum(), 8))
    return model, Ragged(values, offsets_of(lengths)), random.integers(5, size=lengths.sum())


def answers() -> list[bytes]:
    model, data, y = work()
    before = bits(model.predict_rows(data))
    model.train_on_batch(data, y)
    return [before, *weight_bits(model)]


@pytest.fixture
def torch() -> Iterator[Any]:
    torch = pytest.importorskip("torch")
    yield torch
    torch.set_flush_denormal(False)


@pytest.mark.parametrize("count", [1, 3])
def test_subnormal_numbers_are_kept_whatever_another_library_sets(torch: Any, count: int) -> None:
    utils.set_threads(count)
    model = Sequential([Bidirectional(LSTM(40, return_sequences=True), "mul", input_shape=(None, 8))], seed=1)
    data = work()[1]
    data = data.with_values(data.values * np.float32(1e-19))
    expected = model.predict_rows(data)
    assert ((expected != 0) & (np.abs(expected) < np.finfo(np.float32).tiny)).mean() > 0.5
    assert torch.set_flush_denormal(True)
    found = model.predict_rows(data)
    assert torch.tensor([1e-40]).mul(1).item() == 0  # it is set, and the engine leaves it so
    assert bits(found) == bits(expected)


@pytest.mark.parametrize("count", [1, 3])
def test_beside_pytorch_and_numpys_blas(torch: Any, count: int) -> None:
    """All three compute at once, each with threads of its own."""
    utils.set_threads(count)
    expected = answers()
    matrix = np.random.default_rng(1).normal(size=(300, 300)).astype(np.float32)
    tensor, product = torch.from_numpy(matrix), matrix @ matrix
    together = Barrier(3)

    def ours() -> list[list[bytes]]:
        together.wait()
        return [answers() for _ in range(4)]

    def theirs(multiply: Any) -> list[bool]:
        together.wait()
        return [np.allclose(multiply(), product, atol=1e-3) for _ in range(30)]

    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(ours), pool.submit(theirs, lambda: matrix @ matrix)]
        calls.append(pool.submit(theirs, lambda: (tensor @ tensor).numpy()))
        assert calls[0].result() == [expected] * 4
        assert all(calls[1].result() + calls[2].result())


def test_python_goes_on_while_the_engine_computes() -> None:
    """The engine's calls release the interpreter's lock: another thread takes many turns during one of them."""
    model, data, _ = work()
    utils.set_threads(1)
    long = data[np.tile(np.arange(len(data)), 100)]
    finished, turns = Event(), 0

    def predict() -> None:
        model.predict_rows(long)
        finished.set()

    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(predict)
        while not finished.wait(0.001):
            turns += 1
        call.result()
    assert turns > 3


# --- Processes -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*use of fork\\(\\) may lead to deadlocks:DeprecationWarning")
@pytest.mark.parametrize("count", [1, 3])
def test_a_pool_of_forked_processes(count: int) -> None:
    utils.set_threads(count)
    expected = answers()  # the engine's threads run, and are not there after the fork
    with multiprocessing.get_context("fork").Pool(3) as pool:
        results = [pool.apply_async(answers) for _ in range(6)]
        assert [result.get(60) for result in results] == [expected] * 6
    assert answers() == expected


def test_a_pool_of_spawned_processes() -> None:
    expected = answers()
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import hashlib, multiprocessing, test_threads\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(2) as pool:\n"
        "        for found in pool.map(test_threads.digest, range(2)): print(found)\n"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert finished.stdout.split() == [digest_of(expected)] * 2, finished.stderr


def digest(_: int) -> str:
    return digest_of(answers())


def digest_of(found: list[bytes]) -> str:
    return hashlib.sha256(b"".join(found)).hexdigest()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*use of fork\\(\\) may lead to deadlocks:DeprecationWarning")
@pytest.mark.parametrize("busy", ["predict", "train"])
def test_forking_while_another_thread_computes(busy: str) -> None:
    """A child has its own copy of the model that the parent's other thread was using, and never waits for it."""
    utils.set_threads(2)
    expected = answers()
    model, data, y = work()
    stop = Event()

    def compute() -> None:
        while not stop.is_set():
            model.predict_rows(data) if busy == "predict" else model.train_on_batch(data, y)

    def child(connection: Any) -> None:
        own = answers()
        try:
            shared = np.isfinite(model.predict_rows(data)).all() and np.isfinite(model.train_on_batch(data, y))
        except EngineError as error:
            connection.send((own, str(error)))
        else:
            connection.send((own, bool(shared)))

    context: Any = multiprocessing.get_context("fork")
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(compute)
        try:
            for _ in range(5):
                receive, send = context.Pipe(duplex=False)
                process = context.Process(target=child, args=(send,))
                process.start()
                assert receive.poll(30), "the child hangs"
                found, shared = receive.recv()
                assert found == expected
                # Half a training step is no model: the child is told, and told what to do.
                assert shared is True or (busy == "train" and "was being changed when the process was forked" in shared)
                process.join(30)
                assert process.exitcode == 0
        finally:
            stop.set()
            if process.is_alive():
                process.kill()
        call.result()
