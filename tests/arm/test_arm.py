"""The engine's build for 64-bit Arm, under an emulator, gives the bits that this processor's build gives.

`make test-arm` builds it and runs these; BILSTM_ARM_ENGINE is then the command that starts it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilstm import utils
from bilstm.engine import library
from bilstm.engine.library import DirectionStruct
from bilstm.engine.network import Network
from bilstm.engine.plans import ACTIVATIONS, Targets, dense, dropout, recurrent
from bilstm.layers import Layer
from bilstm.models import load_model
from bilstm.optimizers import SGD, Adam, Optimizer
from bilstm.ragged import FloatArray, Ragged, offsets_of
from laws.test_invariance import OPTIMIZERS, POOLS, large, pooled
from oracles.engines import EmulatedEngine, using
from oracles.models import Case, bits, cases
from oracles.thresholds import draw

THREADS = (1, 2, 7)


@pytest.fixture(scope="module")
def arm() -> Iterator[EmulatedEngine]:
    engine = EmulatedEngine(shlex.split(os.environ["BILSTM_ARM_ENGINE"]))
    yield engine
    engine.close()


def on_both(arm: EmulatedEngine, compute: Callable[[], list[Any]], threads: tuple[int, ...] = THREADS) -> None:
    """Compute here, and there with each number of threads, and compare every bit but a NaN's sign and payload."""
    expected = compute()
    with using(arm):
        for count in threads:
            utils.set_threads(count)
            for ours, theirs in zip(expected, compute(), strict=True):
                assert bits(without_nan_bits(theirs)) == bits(without_nan_bits(ours)), f"{count} threads"


def without_nan_bits(array: Any) -> Any:
    """IEEE 754 leaves open which NaN comes of an operation, and processors differ in it."""
    array = np.asarray(array)
    return np.where(np.isnan(array), np.nan, array).astype(array.dtype)


def trained(case: Case, optimizer: Optimizer, *, epochs: int = 2) -> list[Any]:
    model = case.model(optimizer)
    assert model.network is not None
    history = model.fit(case.data, case.y, batch_size=3, epochs=epochs, verbose=0).history
    arrays = [model.network.read(name) for name in ("weights", "gradients", "first_moments", "second_moments")]
    scores = model.evaluate(case.data, case.y, verbose=0)
    predicted = [model.predict_rows(case.data, precision=precision) for precision in ("float32", "bfloat16")]
    return [*arrays, *predicted, scores, *history.values()]


def test_it_is_another_build(arm: EmulatedEngine) -> None:
    assert utils.target() != "neon"
    with using(arm):
        assert utils.target() == "neon"
        with pytest.raises(ValueError, match="units must be from 1 to 1048576, not 0"):
            Network([dense(0, 0)], 1)


@given(case=cases(most=9, crf=True), optimizer=st.sampled_from(OPTIMIZERS))
@settings(max_examples=150)
def test_models_of_all_layers(arm: EmulatedEngine, case: Case, optimizer: Optimizer) -> None:
    on_both(arm, lambda: trained(case, optimizer))


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, Adam(0.02, clipvalue=0.01), SGD(0.1, clipvalue=0.001)])
def test_where_every_thread_has_work(arm: EmulatedEngine, optimizer: Optimizer) -> None:
    case, threads = large(), THREADS if optimizer is OPTIMIZERS[0] else (2,)

    def steps() -> list[Any]:
        model = case.model(optimizer)
        assert model.network is not None
        losses = [model.train_on_batch(case.data, case.y) for _ in range(2)]
        predicted = [model.predict_rows(case.data, precision=precision) for precision in ("float32", "bfloat16")]
        return [*losses, model.network.read(), *predicted]

    on_both(arm, steps, threads)


@pytest.mark.parametrize("seed", range(40))
def test_random_networks_of_about_the_sizes_where_the_work_is_divided_differently(
    arm: EmulatedEngine, seed: int
) -> None:
    case = draw(seed)

    def steps() -> list[Any]:
        model = case.model(OPTIMIZERS[seed % len(OPTIMIZERS)])
        assert model.network is not None
        losses = [model.train_on_batch(case.data, case.y) for _ in range(3)]
        return [*losses, model.evaluate(case.data, case.y), model.network.read(), model.predict_rows(case.data)]

    on_both(arm, steps, (2,))


@pytest.mark.parametrize("pool", POOLS, ids=lambda p: type(p).__name__)
def test_pooling(arm: EmulatedEngine, pool: Layer) -> None:
    on_both(arm, lambda: trained(pooled(pool), OPTIMIZERS[0], epochs=1), (2,))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_elementary_functions(arm: EmulatedEngine, activation: str) -> None:
    """Of numbers of every sign and exponent, subnormal, infinite and not a number included."""
    random = np.random.default_rng(1)
    values = random.integers(0, 2**32, (20_000, 5), np.uint32).view(np.float32)
    near = random.normal(size=(20_000, 5), scale=10).astype(np.float32)
    special = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 88, -88, 87, 10, -10], np.float32)
    rows = np.vstack([values, near, np.stack([np.roll(special, i) for i in range(5)], axis=1)])

    def apply() -> list[Any]:
        made = Network([dense(0, 5, activation)], 5)
        made.write(np.concatenate([np.eye(5, dtype=np.float32).ravel(), np.zeros(5, np.float32)]))
        alone = Network([dense(0, 1, activation)], 1)
        alone.write(np.array([1, 0], np.float32))
        single = Ragged(rows.reshape(-1, 1), [0, rows.size])
        return [made.predict(Ragged(rows, [0, len(rows)]))[0], alone.predict(single)[0]]

    on_both(arm, apply, (2,))


def test_gates_of_any_size(arm: EmulatedEngine) -> None:
    random = np.random.default_rng(2)
    lengths = [40, 1, 17, 3]
    for scale in (1e-38, 1e-20, 1e-3, 1, 30, 1e5, 1e38):
        data = Ragged((random.normal(size=(sum(lengths), 3)) * scale).astype(np.float32), offsets_of(lengths))

        def steps(data: Ragged = data) -> list[Any]:
            directions = (DirectionStruct(19), DirectionStruct(19, reverse=True, flip=True))
            made = Network([recurrent(0, directions, "mul"), dense(1, 2)], 3)
            made.write(np.random.default_rng(3).normal(size=made.parameter_count).astype(np.float32))
            targets = Targets(values=np.zeros((data.total_steps, 2), np.float32))
            score = made.gradient(data, targets, "mean_squared_error")
            output, states = made.predict(data, return_states=True)
            return [score, made.read("gradients"), output, states]

        on_both(arm, steps)


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf, 3e38])
def test_numbers_that_are_none(arm: EmulatedEngine, special: float) -> None:
    case = large()
    values = case.data.values.copy()
    values[::97, 0] = special
    data = case.data.with_values(values)

    def steps() -> list[Any]:
        model = case.model("adam")
        assert model.network is not None
        try:
            scores = model.network.gradient(data, Targets(labels=np.maximum(case.y, 0)), "categorical_crossentropy")
        except ValueError as error:
            return [model.predict_rows(data), np.frombuffer(str(error).encode(), np.uint8)]
        return [model.predict_rows(data), np.isnan(scores[0])]

    on_both(arm, steps, (2,))


def test_what_is_dropped(arm: EmulatedEngine) -> None:
    """The generator of random numbers, seen through the weights of a layer that follows it."""
    data = Ragged(np.ones((700, 30), np.float32), [0, 300, 700])
    targets = Targets(values=np.zeros((700, 1), np.float32))

    def masks() -> list[FloatArray]:
        made = Network([dropout(3, 0.37), dense(4, 1)], 30)
        made.write(np.linspace(-1, 1, 31, dtype=np.float32))
        found = []
        for seed in (0, 1, 2**31, 2**32, 2**64 - 1):
            for iteration in (0, 1, 2**32 - 1):
                made.iteration = iteration
                made.gradient(data, targets, "mean_squared_error", training=True, seed=seed)
                found.append(made.read("gradients"))
        return found

    on_both(arm, masks, (2,))


def test_many_steps_of_adam(arm: EmulatedEngine) -> None:
    """Its bias correction raises two numbers to the power of the step, which no two C libraries need agree on."""
    data = Ragged(np.random.default_rng(1).normal(size=(8, 4)).astype(np.float32), [0, 8])
    targets = Targets(values=np.ones((8, 3), np.float32))

    def steps() -> list[Any]:
        found = []
        for beta_1, beta_2 in ((0.9, 0.999), (0.8, 0.99), (0.5, 0.9999), (0.0, 0.0)):
            made = Network([dense(0, 3)], 4)
            made.write(np.linspace(-1, 1, made.parameter_count, dtype=np.float32))
            plan = Adam(0.01, beta_1, beta_2).plan()
            for batches, iteration in ((300, 0), (50, 5000), (50, 10**6), (1, 2**53 - 1)):
                made.iteration = iteration
                starts = np.arange(batches + 1)
                chosen = np.zeros(batches, np.int64)
                found.append(made.train(data, targets, chosen, starts, "mean_squared_error", plan, 1))
                found.append(made.read())
        return found

    on_both(arm, steps, (2,))


def test_saved_weights_predict_the_same(arm: EmulatedEngine, tmp_path: Any) -> None:
    case = large()
    model = case.model("adam")
    model.fit(case.data, case.y, epochs=1, verbose=0)
    model.save(tmp_path / "model.safetensors")

    def predict() -> list[FloatArray]:
        return [load_model(tmp_path / "model.safetensors").predict_rows(case.data)]

    on_both(arm, predict, (2,))


# --- Processors that the engine refuses ------------------------------------------------------------------------------


def run_on(processor: str) -> subprocess.CompletedProcess[str]:
    program = "from bilstm import utils; print(utils.target())"
    emulator = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
    assert emulator
    command = [emulator, "-cpu", processor, sys.executable, "-c", program]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BILSTM_")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.skipif("neon" in library.target(), reason="this processor is of another family")
def test_a_processor_without_fused_multiply_add_is_refused() -> None:
    found = run_on("Nehalem")
    assert found.returncode == 1
    assert found.stderr.splitlines()[-1].endswith(
        "EngineError: this processor has no AVX512 or AVX2: exact results need fused multiply-add, "
        "which came with these"
    )


@pytest.mark.skipif("neon" in library.target(), reason="this processor is of another family")
def test_a_processor_without_avx512_gets_the_build_it_can_run() -> None:
    found = run_on("Haswell")
    assert found.stdout == "avx2\n", found.stderr
