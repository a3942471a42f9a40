"""The engine as a library: how it is found and set up, what it refuses, and that threads and forks may use it."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest

from bilstm import utils
from bilstm.engine import library
from bilstm.engine.library import DirectionStruct, LayerStruct
from bilstm.engine.losses import TABLE
from bilstm.engine.network import Network
from bilstm.engine.plans import (
    OptimizerPlan,
    Targets,
    attention_pooling,
    convolution,
    dense,
    dropout,
    embedding,
    recurrent,
)
from bilstm.layers import LSTM, Bidirectional, Dense
from bilstm.models import Sequential
from bilstm.ragged import Ragged, offsets_of
from oracles.models import COMPILER, NATIVE, SANITIZED, bits

LSTM_PLAN = recurrent(0, (DirectionStruct(3),))
DENSE_PLAN = dense(1, 2, "softmax")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = utils.threads()
    yield
    utils.set_threads(before)


def network(*layers: LayerStruct, features: int = 2) -> Network:
    made = Network(layers or (LSTM_PLAN, DENSE_PLAN), features)
    made.write(np.random.default_rng(1).normal(size=made.parameter_count).astype(np.float32))
    return made


def data(*lengths: int, features: int = 2) -> Ragged:
    random = np.random.default_rng(sum(lengths))
    return Ragged(random.normal(size=(sum(lengths), features)), offsets_of(lengths))


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], env=os.environ | environment, capture_output=True, text=True, timeout=60
    )


# --- Setting up ------------------------------------------------------------------------------------------------------


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = "import sys, bilstm; print(*sorted(sys.modules))"
    loaded = set(run(program).stdout.split())
    assert "bilstm" in loaded
    heavy = {"numpy", "torch", "keras", "tensorflow", "duckdb", "matplotlib", "click", "tqdm", "ctypes", "safetensors"}
    assert not loaded & heavy
    assert {name for name in loaded if name.startswith("bilstm.")} == {"bilstm._version"}


def test_predicting_imports_no_framework() -> None:
    program = (
        "import sys; from bilstm import Sequential, layers\n"
        "Sequential([layers.LSTM(2)]).predict([[1.0]]); print(*sorted(sys.modules))"
    )
    assert not set(run(program).stdout.split()) & {
        "torch",
        "keras",
        "tensorflow",
        "duckdb",
        "matplotlib",
        "click",
        "tqdm",
    }


@pytest.mark.parametrize("count", [1, 3, 1024])
def test_the_number_of_threads(count: int) -> None:
    utils.set_threads(count)
    assert utils.threads() == count


@pytest.mark.parametrize("count", [0, -1, 1025])
def test_numbers_of_threads_there_are_not(count: int) -> None:
    before = utils.threads()
    with pytest.raises(ValueError, match=f"the number of threads must be from 1 to 1024, not {count}"):
        utils.set_threads(count)
    assert utils.threads() == before


@pytest.mark.parametrize("count", ["1", "7"])
def test_the_number_of_threads_from_the_environment(count: str) -> None:
    assert run("from bilstm import utils; print(utils.threads())", BILSTM_THREADS=count).stdout.strip() == count


def test_a_thread_a_processor_unless_said() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "BILSTM_THREADS"}
    program = "from bilstm import utils; print(utils.threads())"
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert int(found.stdout) == processors


@pytest.mark.parametrize("text", ["0", "many", "", "1.5", "1025"])
def test_the_environment_asks_for_an_impossible_number_of_threads(text: str) -> None:
    found = run("from bilstm import utils; utils.threads()", BILSTM_THREADS=text)
    expected = f"EngineError: BILSTM_THREADS must be a number from 1 to 1024, not {text!r}"
    assert found.stderr.strip().endswith(expected)


@pytest.mark.parametrize("target", ["avx512", "avx2", "neon"])
def test_the_build_from_the_environment(target: str) -> None:
    found = run("from bilstm import utils; print(utils.target())", BILSTM_ENGINE=target)
    if found.returncode == 0:
        assert found.stdout.strip() == target
    else:
        message = found.stderr.strip().splitlines()[-1]
        missing = f"the engine is not installed: no bilstm_{target} library next to "
        assert (
            message.startswith(f"bilstm.engine.library.EngineError: {missing}") or f"no {target.upper()}: " in message
        )


@pytest.mark.parametrize("target", ["sse", "", "AVX2"])
def test_the_environment_asks_for_a_build_there_is_not(target: str) -> None:
    found = run("from bilstm import utils; utils.target()", BILSTM_ENGINE=target)
    expected = f"EngineError: BILSTM_ENGINE must be one of avx512, avx2, neon, not {target!r}"
    assert found.stderr.strip().endswith(expected)


def test_the_build_in_use() -> None:
    assert utils.target() in library.TARGETS


def test_an_engine_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "ABI", 999)
    with pytest.raises(library.EngineError, match=r"bilstm_\w+\.\w+ is of another version of bilstm: install it again"):
        library.library.__wrapped__()


def test_no_engine_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BILSTM_ENGINE", raising=False)
    monkeypatch.setattr(library, "SUFFIXES", (".nothing",))
    with pytest.raises(library.EngineError, match=r"the engine is not installed: no bilstm_\* library next to "):
        library.library.__wrapped__()


@pytest.mark.skipif("neon" in library.target(), reason="every 64-bit Arm processor has what the engine needs")
def test_a_processor_without_fused_multiply_add(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make test-arm` tries it on such a processor, emulated."""

    class Refused:
        def bilstm_supported(self) -> int:
            return 0

    monkeypatch.delenv("BILSTM_ENGINE", raising=False)
    monkeypatch.setattr(library, "_load", lambda _: Refused())
    message = r"this processor has no (AVX512 or )?AVX2: exact results need fused multiply-add, which came with th"
    with pytest.raises(library.EngineError, match=message):
        library.library.__wrapped__()


@pytest.mark.skipif(COMPILER is None or "neon" in library.target(), reason="needs a compiler for x86-64")
def test_the_engine_is_not_built_without_fused_multiply_add(tmp_path: Path) -> None:
    (tmp_path / "use.cpp").write_text('#include "vector.h"\n')
    command = [
        str(COMPILER),
        "-std=gnu++20",
        "-march=x86-64",
        "-fsyntax-only",
        f"-I{NATIVE}",
        str(tmp_path / "use.cpp"),
    ]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert found.returncode != 0
    assert "exactness rests on fused multiply-add" in found.stderr


# --- Networks that cannot be -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "features", "message"),
    [
        ([], 2, "a network has 1 to 1000 layers"),
        ([dropout(0, 0.5)] * 1001, 2, "a network has 1 to 1000 layers"),
        ([DENSE_PLAN], 0, "features must be from 1 to 1048576, not 0"),
        ([DENSE_PLAN], 1 << 21, "features must be from 1 to 1048576, not 2097152"),
        ([dense(0, 0)], 2, "units must be from 1 to 1048576, not 0"),
        ([recurrent(0, (DirectionStruct(-1),))], 2, "units must be from 1 to 1048576, not -1"),
        ([recurrent(0, (DirectionStruct(3, cell=5),))], 2, "unknown recurrent cell 5"),
        ([recurrent(0, (DirectionStruct(3, cell=-1),))], 2, "unknown recurrent cell -1"),
        ([recurrent(0, (DirectionStruct(3, gates=3),))], 2, "unknown kind of gates 3"),
        ([recurrent(0, (DirectionStruct(3, gates=-1),))], 2, "unknown kind of gates -1"),
        ([recurrent(0, ())], 2, "a recurrent layer has 1 or 2 directions"),
        ([dropout(0, 1.0)], 2, "a dropout rate must be at least 0 and below 1"),
        ([dropout(0, float("nan"))], 2, "a dropout rate must be at least 0 and below 1"),
        ([dropout(0, -0.5, spatial=True)], 2, "a dropout rate must be at least 0 and below 1"),
        ([attention_pooling(0, 0)], 2, "units must be from 1 to 1048576, not 0"),
        (
            [attention_pooling(0, 3), attention_pooling(1, 3)],
            2,
            "pooling cannot follow a layer that returns one row for a sequence",
        ),
        (
            [attention_pooling(0, 3), dropout(1, 0.5, spatial=True)],
            2,
            "spatial dropout cannot follow a layer that returns one row for a sequence",
        ),
        ([convolution(0, 0, 3)], 2, "units must be from 1 to 1048576, not 0"),
        ([convolution(0, 3, 0)], 2, "a kernel size must be from 1 to 1048576, not 0"),
        ([convolution(0, 3, 3, 0)], 2, "a dilation must be from 1 to 1048576, not 0"),
        (
            [attention_pooling(0, 3), convolution(1, 3, 2)],
            2,
            "a convolution cannot follow a layer that returns one row for a sequence",
        ),
        ([embedding(0, 1, (3,), (2,))], 3, "an embedding's columns must add up to its input's"),
        ([embedding(0, 0, (0,), (2,))], 1, "a vocabulary must have 1 to 16777216 entries"),
        ([embedding(0, 0, (3,), (0,))], 1, "an embedding's dimension must be from 1 to 1048576, not 0"),
        (
            [recurrent(0, (DirectionStruct(3),), return_sequences=False), LSTM_PLAN],
            2,
            "a recurrent layer cannot follow a layer that returns one row for a sequence",
        ),
        (
            [recurrent(0, (DirectionStruct(3), DirectionStruct(4)), "sum")],
            2,
            "this merge mode needs as many units in both directions",
        ),
    ],
)
def test_impossible_networks(layers: list[LayerStruct], features: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Network(layers, features)


def test_a_network_too_large_for_memory() -> None:
    with pytest.raises(MemoryError, match="not enough memory"):
        Network([recurrent(0, (DirectionStruct(1 << 20),))], 1 << 20)


def test_what_a_network_says_of_itself() -> None:
    made = network(recurrent(0, (DirectionStruct(3), DirectionStruct(4)), return_sequences=False), DENSE_PLAN)
    assert (made.features, made.outputs, made.one_row_each, made.state_width) == (2, 2, True, 14)
    assert made.parameter_count == 4 * (3 * (2 + 3 + 1) + 4 * (2 + 4 + 1)) + 7 * 2 + 2
    assert made.iteration == 0
    made.iteration = 5
    assert made.iteration == 5
    with pytest.raises(ValueError, match="a negative iteration"):
        made.iteration = -1


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's account of memory")
@pytest.mark.skipif(SANITIZED is not None, reason="sanitizers take memory of their own")
def test_only_training_takes_memory_for_gradients() -> None:
    program = """
import numpy as np
from bilstm.engine.losses import TABLE
from bilstm.engine.network import Network
from bilstm.engine.library import DirectionStruct
from bilstm.engine.plans import OptimizerPlan, Targets, recurrent
from bilstm.ragged import Ragged

def pages():
    return int(open("/proc/self/statm").read().split()[1])

x = Ragged(np.zeros((1, 1000), np.float32), [0, 1])
Network([recurrent(0, (DirectionStruct(1),))], 1000).predict(x)
before = pages()
made = Network([recurrent(0, (DirectionStruct(1000),))], 1000)
made.predict(x)
predicting = pages() - before
made.train(x, Targets(values=np.zeros((1, 1000), np.float32)), [0], [0, 1], "mean_squared_error", OptimizerPlan(), 0)
print(predicting, pages() - before)
"""
    predicting, training = map(int, run(program).stdout.split())
    weights = 4 * 1000 * 2001 * 4 // os.sysconf("SC_PAGE_SIZE")
    assert predicting < 2 * weights
    assert training > 4 * weights


# --- Data that do not fit --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["weights", "gradients", "first_moments", "second_moments"])
def test_arrays_are_written_and_read(which: str) -> None:
    made = network()
    values = np.random.default_rng(2).normal(size=made.parameter_count).astype(np.float32)
    made.write(values, which)
    assert bits(made.read(which)) == bits(values)
    with pytest.raises(ValueError, match="another number of weights than the network has"):
        made.write(values[1:], which)


def test_sequences_of_other_features() -> None:
    with pytest.raises(ValueError, match="the network takes 2 features, the sequences have 3"):
        network().predict(data(4, features=3))


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (Targets(labels=np.zeros(4, np.int32)), r"labels have shape \(5,\), not \(4,\)"),
        (Targets(values=np.zeros((5, 3), np.float32)), r"targets have shape \(5, 2\), not \(5, 3\)"),
        (
            Targets(labels=np.zeros(5, np.int32), weights=np.ones(4, np.float32)),
            r"weights have shape \(5,\), not \(4,\)",
        ),
        (Targets(), "either labels or targets are needed"),
        (
            Targets(labels=np.zeros(5, np.int32), values=np.zeros((5, 2), np.float32)),
            "either labels or targets are needed",
        ),
        (Targets(labels=np.int32([0, 1, 2, 0, 0])), r"label 2 of row 2 is not -1 \(unlabelled\) or 0 to 1"),
        (Targets(labels=np.int32([0, 1, -2, 0, 0])), r"label -2 of row 2 is not -1 \(unlabelled\) or 0 to 1"),
    ],
)
@pytest.mark.parametrize("call", ["train", "gradient", "evaluate"])
def test_targets_that_do_not_fit(call: str, targets: Targets, message: str) -> None:
    made, sequences, loss = network(), data(3, 2), "categorical_crossentropy"
    before = made.read()
    batch = (np.arange(2), np.array([0, 2]), loss, OptimizerPlan(), 0) if call == "train" else (loss,)
    with pytest.raises(ValueError, match=message):
        getattr(made, call)(sequences, targets, *batch)
    assert bits(made.read()) == bits(before)


@pytest.mark.parametrize("loss", [loss.name for loss in TABLE if loss.activation != "softmax"])
def test_losses_that_take_no_labels(loss: str) -> None:
    with pytest.raises(ValueError, match="this loss of 2 outputs needs targets, not labels"):
        network().evaluate(data(3), Targets(labels=np.zeros(3, np.int32)), loss)


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([0, 3, 1, 5], "offsets of sequence 1 leave the data: 3 to 1"),
        ([0, 3, 9, 5], "offsets of sequence 1 leave the data: 3 to 9"),
        ([-2, 3, 4, 5], "offsets of sequence 0 leave the data: -2 to 3"),
        ([0, 3, 3, 5], "sequence 1 has no steps"),
    ],
)
def test_offsets_that_contradict_themselves(offsets: list[int], message: str) -> None:
    """Ragged refuses these itself, but the engine does not rely on it."""
    wrong = Ragged._checked(data(5).values, np.array(offsets, np.int64))
    with pytest.raises(ValueError, match=message):
        network().predict(wrong)
    with pytest.raises(ValueError, match=message):
        network().gradient(wrong, Targets(labels=np.zeros(5, np.int32)), "categorical_crossentropy")


@pytest.mark.parametrize(
    ("chosen", "starts", "message"),
    [
        ([0, 2], [0, 2], "sequence 2 of 2"),
        ([-1], [0, 1], "sequence -1 of 2"),
        ([0, 1], [1, 0], "decreasing batches"),
        ([0, 1], [-1, 1], "decreasing batches"),
    ],
)
def test_batches_of_sequences_there_are_not(chosen: list[int], starts: list[int], message: str) -> None:
    targets = Targets(labels=np.zeros(5, np.int32))
    with pytest.raises(ValueError, match=message):
        network().train(
            data(3, 2), targets, np.array(chosen), np.array(starts), "categorical_crossentropy", OptimizerPlan(), 0
        )


@pytest.mark.parametrize("causal", [True, False])
def test_a_convolution_cannot_go_on_from_states(causal: bool) -> None:
    """They do not say what the steps before a piece were."""
    one, several = (Network([convolution(0, 3, size, causal=causal), LSTM_PLAN], 2) for size in (1, 2))
    data = Ragged(np.ones((4, 2)), np.array([0, 4]))
    states = np.zeros((1, several.state_width), np.float32)
    for arguments in ({"states": states}, {"return_states": True}):
        assert one.predict(data, **arguments)[0].shape == (4, 3)
        with pytest.raises(
            ValueError, match="a layer that reads several steps at once cannot continue from states: give it whole"
        ):
            several.predict(data, **arguments)


def test_states_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"states have shape \(2, 6\), not \(2, 5\)"):
        network().predict(data(3, 2), np.zeros((2, 5), np.float32))


def test_after_an_error_all_goes_on() -> None:
    made, good = network(), data(3, 2)
    before = bits(made.predict(good)[0])
    with pytest.raises(ValueError, match="has no steps"):
        made.predict(Ragged(np.zeros((2, 2)), [0, 0, 2]))
    assert bits(made.predict(good)[0]) == before


@pytest.mark.parametrize("return_sequences", [True, False])
def test_zero_sequences(return_sequences: bool) -> None:
    made = network(recurrent(0, (DirectionStruct(3),), return_sequences=return_sequences), DENSE_PLAN)
    nothing = data()
    output, states = made.predict(nothing, return_states=True)
    assert output.shape == (0, 2)
    assert states is not None
    assert states.shape == (0, 6)
    targets = Targets(labels=np.zeros(0, np.int32))
    assert made.evaluate(nothing, targets, "categorical_crossentropy").tolist() == [0] * 5
    assert made.gradient(nothing, targets, "categorical_crossentropy").tolist() == [0] * 5
    assert not made.read("gradients").any()
    empty = np.zeros(0, np.int64)
    for starts in (np.array([0]), np.array([0, 0, 0])):
        scores = made.train(nothing, targets, empty, starts, "categorical_crossentropy", OptimizerPlan(), 0)
        assert scores.tolist() == [[0] * 5] * (len(starts) - 1)
    assert made.iteration == 0


# --- Many at once ----------------------------------------------------------------------------------------------------


def large_model() -> Sequential:
    layers = [Bidirectional(LSTM(40, return_sequences=True), input_shape=(None, 8)), Dense(5, "softmax")]
    return Sequential(layers, seed=1)


def large_data() -> Ragged:
    random = np.random.default_rng(3)
    lengths = random.integers(1, 60, 120)
    return Ragged(random.normal(size=(lengths.sum(), 8)), offsets_of(lengths))


@pytest.mark.parametrize("count", [1, 3])
def test_predictions_from_several_python_threads(count: int) -> None:
    utils.set_threads(count)
    model, sequences = large_model(), large_data()
    expected, together = bits(model.predict_rows(sequences)), Barrier(4)

    def predict(_: int) -> list[bytes]:
        together.wait()
        return [bits(model.predict_rows(sequences)) for _ in range(5)]

    with ThreadPoolExecutor(4) as pool:
        for results in pool.map(predict, range(4)):
            assert results == [expected] * 5


def test_training_and_predicting_at_once_waits_its_turn() -> None:
    """Every prediction is of the weights before or after a whole training step."""
    model, sequences = large_model(), large_data()[:20]
    model.compile("sgd", "sparse_categorical_crossentropy")
    y = np.random.default_rng(1).integers(5, size=sequences.total_steps)
    after_steps = [bits(model.predict_rows(sequences))]
    for _ in range(5):
        model.train_on_batch(sequences, y)
        after_steps.append(bits(model.predict_rows(sequences)))
    again = large_model()
    again.compile("sgd", "sparse_categorical_crossentropy")
    together = Barrier(2)

    def predict() -> list[bytes]:
        together.wait()
        return [bits(again.predict_rows(sequences)) for _ in range(10)]

    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(predict)
        together.wait()
        for _ in range(5):
            again.train_on_batch(sequences, y)
        assert set(found.result()) <= set(after_steps)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*use of fork\\(\\) may lead to deadlocks:DeprecationWarning")
@pytest.mark.parametrize("count", [1, 3])
def test_a_forked_child_predicts_and_trains(count: int) -> None:
    utils.set_threads(count)
    model, sequences = large_model(), large_data()
    model.compile("adam", "sparse_categorical_crossentropy")
    y = np.random.default_rng(1).integers(5, size=sequences.total_steps)
    expected = bits(model.predict_rows(sequences))  # the engine's threads run, and are not there after the fork
    context: Any = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)

    def child() -> None:
        before = bits(model.predict_rows(sequences))
        model.train_on_batch(sequences, y)
        send.send((before, bits(model.predict_rows(sequences))))

    process = context.Process(target=child)
    process.start()
    assert receive.poll(60), "the child hangs"
    before, after = receive.recv()
    process.join(60)
    assert process.exitcode == 0
    assert before == expected
    assert bits(model.predict_rows(sequences)) == expected  # the parent's model is its own
    model.train_on_batch(sequences, y)
    assert bits(model.predict_rows(sequences)) == after
