"""Training by several workers: the model file of one, byte for byte, whatever connects them and whichever is lost."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bilstm
from bilstm import utils
from bilstm.distributed import launchers
from bilstm.engine.plans import Targets
from bilstm.errors import DivergedError, UserError
from bilstm.layers import LSTM, BatchNormalization, Dense
from bilstm.model import training as model_training
from bilstm.model.opening import column_options, prepare_data
from bilstm.model.training import train_prepared
from bilstm.models import Sequential
from bilstm.models.fitting import FitData
from bilstm.ragged import Ragged
from bilstm.training import workers
from bilstm.training.checkpoints import Checkpoint
from bilstm.training.communicator import Alone, Communicator, Numbers, WorkerLostError, check_same
from bilstm.training.loop import LoopOptions, train_model
from bilstm.training.options import TrainingOptions
from bilstm.training.shares import divide_validation, idle_workers, slow_exchanges
from oracles.models import weight_bits
from test_fronts import run
from test_interrupts import HEEDING, TELLING, process, third_epoch_ended, wait_for

SMALL: dict[str, Any] = {"units": 4, "layers": 1, "epochs": 2, "batch_size": 48, "seed": 3, "dropout": 0.2}
WORKERS = (2, 3)


class Meeting:
    """Where workers that are threads exchange numbers."""

    def __init__(self, size: int) -> None:
        self.rows = [np.zeros(0)] * size
        self._changed, self._arrived, self._lost = threading.Condition(), 0, False

    def wait(self) -> None:
        """Return when all have called this. An exception if one of those that have not is lost."""
        with self._changed:
            self._arrived += 1
            needed = -(-self._arrived // len(self.rows)) * len(self.rows)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._lost or self._arrived >= needed, timeout=60)
            if self._arrived < needed:
                raise WorkerLostError("a worker was lost")

    def lose(self) -> None:
        with self._changed:
            self._lost = True
            self._changed.notify_all()


class Thread(Communicator):
    """A worker that is a thread; numbers are added in the order of arrival, which is any."""

    def __init__(self, rank: int, meeting: Meeting) -> None:
        super().__init__()
        self.rank, self.size, self._meeting = rank, len(meeting.rows), meeting

    def _reduce(self, values: Numbers, operation: np.ufunc) -> Numbers:
        self._meeting.rows[self.rank] = values
        self._meeting.wait()
        order = np.random.default_rng(self.rank).permutation(self.size)
        result = functools.reduce(operation, [self._meeting.rows[rank] for rank in order])
        self._meeting.wait()
        return np.array(result)


def together(size: int, work: Callable[[Communicator], Any]) -> list[Any]:
    """What each of some workers returns, or the exception that it raises."""
    meeting, results = Meeting(size), [None] * size

    def one(rank: int) -> None:
        try:
            results[rank] = work(Thread(rank, meeting))
        except Exception as error:
            meeting.lose()
            results[rank] = error  # type: ignore[call-overload]

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


# --- Data: small tables like those that people train on ---------------------------------------------------------------


def words(count: int, seed: int, shortest: int = 4) -> pd.DataFrame:
    """A letter per step; the label says whether a word may be divided behind it."""
    random = np.random.default_rng(seed)
    rows = []
    for word in range(count):
        letters = random.choice(list("abcdefgi"), size=int(random.integers(shortest, 14)))
        for step, letter in enumerate(letters):
            divided = letter in "aei" and step + 1 < len(letters) and letters[step + 1] not in "aei"
            label = ("yes" if divided else "no") if random.random() > 0.05 else None
            rows.append({"id": word, "letter": letter, "state": label})
    return pd.DataFrame(rows)


def recordings(count: int, seed: int) -> pd.DataFrame:
    """Two numbers per step of long recordings, whose waves have three labels."""
    random = np.random.default_rng(seed)
    frames = []
    for number in range(count):
        steps = int(random.integers(200, 700))
        wave = np.sin(np.arange(steps) / random.uniform(3, 9)) + random.normal(0, 0.2, steps)
        state = np.select([wave > 0.6, wave < -0.6], ["high", "low"], "middle")
        frames.append(pd.DataFrame({"id": number, "a": wave, "b": random.normal(size=steps), "state": state}))
    return pd.concat(frames).round(4)


def names(count: int, seed: int) -> pd.DataFrame:
    """Words of sentences, with tags for names, which begin with a capital."""
    random = np.random.default_rng(seed)
    rows = []
    for sentence in range(count):
        inside = False
        for _ in range(int(random.integers(2, 12))):
            name = random.random() < 0.3
            word = "".join(random.choice(list("abcdef"), size=int(random.integers(2, 7))))
            tag = ("I-PER" if inside else "B-PER") if name else "O"
            rows.append({"id": sentence, "word": word.title() if name else word, "state": tag})
            inside = name
    return pd.DataFrame(rows)


def answers(count: int, seed: int) -> pd.DataFrame:
    """A quantity for each sequence: the mean of its numbers."""
    random = np.random.default_rng(seed)
    frames = []
    for number in range(count):
        x = random.normal(size=int(random.integers(1, 9)))
        frames.append(pd.DataFrame({"id": number, "x": x, "state": x.mean()}))
    return pd.concat(frames).round(4)


CASES: dict[str, tuple[pd.DataFrame, dict[str, Any]]] = {
    "letters": (words(200, 0), {}),
    "class weights": (words(150, 1), {"class_weight": "balanced", "variational_dropout": True}),
    "recordings": (recordings(30, 2), {"layers": 2}),
    "windows": (recordings(20, 3), {"window": 40, "stride": 25, "cell": "gru"}),
    "crf": (names(150, 4), {"output": "crf", "characters": "none"}),
    "characters": (names(150, 5), {"output": "constrained", "characters": "conv", "unknown_words": 0.1}),
    "quantities": (answers(300, 6), {"task": "sequence-quantity", "validation_split": 0.3, "pooling": "attention"}),
    "no validation set": (words(100, 7), {"validation_split": 0.0, "conv": "4x3"}),
    "early stopping": (words(150, 8), {"epochs": 30, "patience": 1, "learning_rate": 0.05}),
}


def trained(case: str, path: Path, communicator: Communicator | None = None, **more: Any) -> bytes:
    """The model file of a case."""
    frame, given_options = CASES[case]
    given_options = dict(given_options)
    task = given_options.pop("task", None)
    options = TrainingOptions(**(SMALL | given_options))
    columns = column_options(sequence="id", label="state", task=task)
    prepared = prepare_data(frame, columns, options)
    model = train_prepared(prepared, options, communicator=communicator, **more)
    out = path / f"model{communicator.rank if communicator else ''}"
    model.save(out)
    return out.read_bytes()


# --- One answer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_any_number_of_workers_makes_the_same_file(case: str, tmp_path: Path) -> None:
    expected = trained(case, tmp_path)
    for size in WORKERS:
        assert together(size, lambda worker: trained(case, tmp_path, worker)) == [expected] * size


def test_processes_make_the_same_file(tmp_path: Path) -> None:
    before = utils.threads()
    assert trained("crf", tmp_path, workers=2) == trained("crf", tmp_path)
    assert utils.threads() == before


def table(folder: Path) -> list[Any]:
    words(120, 9).to_csv(folder / "train.csv", index=False)
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    return ["train", folder / "train.csv", "--sequence", "id", "--label", "state", *options]


def test_the_command_line_and_python(tmp_path: Path) -> None:
    command = table(tmp_path)
    printed = [run(*command, "--out", tmp_path / f"{n}", "--workers", n, "--threads", "2").output for n in (1, 2)]
    bilstm.train(tmp_path / "train.csv", sequence="id", label="state", workers=2, verbose=False, **SMALL).save(
        tmp_path / "python"
    )
    assert len({(tmp_path / name).read_bytes() for name in ("1", "2", "python")}) == 1
    lines = [[line for line in text.splitlines() if "seconds" not in line] for text in printed]
    assert lines[0][:-1] == lines[1][:-1]


def test_estimators() -> None:
    x = np.random.default_rng(1).normal(size=(60, 5, 1))
    small = {name: value for name, value in SMALL.items() if name != "seed"} | {"random_state": 1}
    one, two = (
        bilstm.SequenceClassifier(**small, workers=count).fit(x, (x[:, :, 0] > 0).astype(int)) for count in (1, 2)
    )
    assert weight_bits(one.model_.network) == weight_bits(two.model_.network)
    with pytest.raises(ValueError, match="training: workers must be at least 1, not 0"):
        bilstm.SequenceRegressor(workers=0).fit(x, x[:, :, 0])


def network(*more: Any, units: int = 3) -> Sequential:
    layers = [LSTM(units, return_sequences=True, input_shape=(None, 1)), *more, Dense(2, activation="softmax")]
    model = Sequential(layers, seed=5)
    model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    return model


def sequences(count: int, seed: int, labelled: float = 1.0) -> FitData:
    random = np.random.default_rng(seed)
    offsets = np.concatenate([[0], random.integers(1, 20, count).cumsum()])
    x = random.normal(size=(offsets[-1], 1)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int32)
    y[random.random(len(y)) >= labelled] = -1
    return FitData.all_of(Ragged(x, offsets), Targets(labels=y))


def weights(communicator: Communicator | None = None, model: Sequential | None = None, **options: Any) -> bytes:
    model = model or network()
    more = {} if communicator is None else {"communicator": communicator}
    chosen = LoopOptions(**({"epochs": 2, "batch_size": 50} | options))
    train_model(model, sequences(160, 0, 0.2), sequences(70, 1, 0.5), chosen, **more)
    return weight_bits(model)


def test_a_batch_normalization_is_one_share() -> None:
    expected = weights(model=network(BatchNormalization()))
    found = together(3, lambda worker: weights(worker, network(BatchNormalization())))
    assert found == [expected] * 3


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 200), st.sampled_from([2, 3, 5, 8]), st.sampled_from([0.0, 0.02, 1.0]))
def test_batches_of_any_size(batch_size: int, size: int, labelled: float) -> None:
    """With more workers than shares, and with batches in which nothing is labelled."""

    def train(communicator: Communicator) -> bytes:
        model, options = network(), LoopOptions(epochs=1, batch_size=batch_size)
        train_model(model, sequences(120, 0, labelled), None, options, communicator=communicator)
        return weight_bits(model)

    assert together(size, train) == [train(Alone())] * size


@given(st.lists(st.integers(1, 400), max_size=400))
def test_a_validation_set_is_divided_once(lengths: list[int]) -> None:
    parts = divide_validation(np.array(lengths, np.int64))
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(len(lengths)))
    assert len(parts) <= max(1, len(lengths) // 32)
    assert len(parts) <= 8
    steps = [sum(lengths[part]) for part in parts]
    assert not steps or max(steps) <= sum(lengths) / len(parts) + 2 * max(lengths)


def test_workers_stop_together_at_the_time_limit() -> None:
    """By the clock of worker 0, whatever the others' say."""

    def train(worker: Communicator) -> tuple[str, int, bytes]:
        model, options = network(), LoopOptions(epochs=500, patience=500, batch_size=50, time_limit=1.0)
        if worker.rank:
            options = LoopOptions(epochs=500, patience=500, batch_size=50, time_limit=1e-3)
        worker.same_data = True  # or the options' difference is noticed
        summary = train_model(model, sequences(160, 0), sequences(70, 1), options, communicator=worker)
        return summary["stopped"], summary["epochs"], weight_bits(model)

    first, *others = together(2, train)
    assert others == [first]
    assert first[0] == "the time limit was reached"
    assert first[1] > 1


def test_a_loss_that_is_not_finite_ends_all_workers() -> None:
    def train(worker: Communicator) -> None:
        model = network()
        model.set_weights([weight * 1e38 for weight in model.get_weights()])
        model.optimizer.learning_rate = 1e30  # type: ignore[union-attr]
        train_model(model, sequences(160, 0), None, LoopOptions(epochs=3, batch_size=50), communicator=worker)

    errors = [*together(1, train), *together(3, train)]
    assert all(isinstance(error, DivergedError) for error in errors)
    assert len({str(error) for error in errors}) == 1


# --- Checkpoints ------------------------------------------------------------------------------------------------------


class CrashError(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize("minutes", [None, 1e-9])
def test_a_training_is_resumed_by_another_number_of_workers(tmp_path: Path, minutes: float | None) -> None:
    expected, path = weights(epochs=3), tmp_path / "checkpoint"

    def train(worker: Communicator, steps: int | None) -> bytes:
        model, calls = network(), iter(range(1_000_000))

        def crash(_: Any) -> None:
            if worker.rank == 0 and steps is not None and next(calls) >= steps:
                raise CrashError

        checkpoint = Checkpoint(path, resume=True, minutes=minutes) if worker.rank == 0 else None
        options = LoopOptions(epochs=3, batch_size=50)
        train_model(
            model,
            sequences(160, 0, 0.2),
            sequences(70, 1, 0.5),
            options,
            progress=crash,
            checkpoint=checkpoint,
            communicator=worker,
        )
        return weight_bits(model)

    for size, steps in ((1, 2), (3, 2), (2, 1)):
        results = together(size, lambda worker, steps=steps: train(worker, steps))
        assert isinstance(results[0], CrashError)
    assert together(2, lambda worker: train(worker, None)) == [expected] * 2


# --- Errors -----------------------------------------------------------------------------------------------------------


def test_workers_with_other_data_are_refused() -> None:
    def train(worker: Communicator) -> None:
        data = sequences(40 + (worker.rank == 1), 0)
        train_model(network(), data, None, LoopOptions(epochs=1), communicator=worker)

    for error in together(3, train):
        assert isinstance(error, UserError)
        assert str(error).startswith("the sequences to train on differ between worker 0 and worker 1 of 3: start all")


def test_workers_with_other_options_are_refused() -> None:
    def compare(worker: Communicator) -> None:
        check_same(worker, {"seed": 1} if worker.rank == 0 else {"seed": 1, "more": 2})

    assert [str(error)[:20] for error in together(2, compare)] == ["the options differ b"] * 2
    assert together(2, lambda worker: check_same(worker, {"seed": 1})) == [None] * 2


def test_what_is_broadcast() -> None:
    for data in (b"", b"a", bytes(range(256)) * 3 + b"xyz"):
        assert (
            together(3, lambda worker, data=data: worker.broadcast(data if not worker.rank else b"else")) == [data] * 3
        )
    assert Alone().broadcast(b"x") == b"x"
    assert together(2, lambda worker: worker.decide(worker.rank == 0)) == [True, True]
    assert together(2, lambda worker: worker.decide(worker.rank == 1)) == [False, False]


def lost(number: int, patched: pytest.MonkeyPatch, timeout: float = 30.0) -> str:
    """What is said of a worker that receives a signal after the first epoch."""
    teams: list[Any] = []
    start = workers._First.start

    def note(team: Any) -> None:
        teams.append(team)
        start(team)

    patched.setattr(workers._First, "start", note)

    def strike(figures: dict[str, Any]) -> None:
        if figures["done"] == 1.0:
            teams[0]._processes[0].send_signal(number)

    options = LoopOptions(epochs=100_000, patience=100_000, batch_size=50)
    with pytest.raises(WorkerLostError) as caught:
        workers.train_on_workers(
            2, network(), sequences(160, 0), sequences(9, 1), options, progress=strike, timeout=timeout
        )
    assert all(process.returncode is not None for process in teams[0]._processes)
    return str(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_worker_that_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lost(signal.SIGKILL, monkeypatch) == "worker 1 of 2 was killed by SIGKILL"


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_worker_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    assert lost(signal.SIGSTOP, monkeypatch, 0.5) == "worker 1 of 2 has not answered for 0.5 seconds"
    assert time.monotonic() - began < 20


def test_an_error_in_a_worker_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    send = workers._First.send

    def spoil(team: Any, work: Any) -> None:
        model, _, *rest = work
        send(team, (model, None, *rest))

    monkeypatch.setattr(workers._First, "send", spoil)
    with pytest.raises(UserError, match="worker 1 of 2: AttributeError: "):
        workers.train_on_workers(2, network(), sequences(90, 0), None, LoopOptions(epochs=1))


def test_more_numbers_than_an_exchange_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_ROOM", 7)
    model, expected = network(), weights(model=network())
    options = LoopOptions(epochs=2, batch_size=50)
    with workers.started(2, 7, 60.0) as team:
        data = sequences(160, 0, 0.2), sequences(70, 1, 0.5)
        team.send((model, *data, options, 1))
        train_model(model, *data, options, communicator=team)
    assert weight_bits(model) == expected


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"workers": 0}, ValueError, "training: workers must be at least 1, not 0"),
        ({"workers": 65}, UserError, "workers must be at most 64, not 65"),
        ({"workers": 1.5}, TypeError, "training: workers must be a whole number, not 1.5"),
    ],
)
def test_impossible_numbers_of_workers(arguments: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        bilstm.train(words(30, 0), sequence="id", label="state", **arguments)


def test_workers_are_not_started_twice() -> None:
    worker = Thread(0, Meeting(3))
    with pytest.raises(UserError, match="3 workers have been started already: leave out workers"):
        bilstm.train(words(30, 0), sequence="id", label="state", workers=2, communicator=worker)


@pytest.mark.parametrize("seconds", ["7", "0.5"])
def test_the_time_to_wait_for_a_worker(seconds: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts = []

    def train_on_workers(*_: Any, timeout: float, **__: Any) -> None:
        timeouts.append(timeout)
        raise WorkerLostError("worker 1 of 2 was lost")

    monkeypatch.setattr(model_training, "train_on_workers", train_on_workers)
    command = [*table(tmp_path), "--workers", 2, "--worker-timeout", seconds, "--out", tmp_path / "model"]
    assert run(*command, status=2).output.endswith("bilstm: worker 1 of 2 was lost\n")
    assert timeouts == [float(seconds)]
    assert os.listdir(tmp_path) == ["train.csv"]


# --- Signals ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def endless(folder: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A training by two workers, of which some epochs have ended; and the processes that it has started."""
    options = ["--units=4", "--layers=1", "--epochs=1000000", "--patience=1000000", "--workers=2", "--out=model"]
    words(60, 1).to_csv(folder / "train.csv", index=False)
    script = f"import os; os.chdir({str(folder)!r})\n{HEEDING}{TELLING.format(stay='')}"
    with process(script, "train", "train.csv", "--sequence=id", "--label=state", *options) as running:
        wait_for(running, third_epoch_ended)
        children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        assert len(children) == 1
        yield running, list(map(int, children))


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells which processes there are")


@LINUX
def test_ctrl_c_keeps_the_best_model(tmp_path: Path) -> None:
    with endless(tmp_path) as (running, children):
        os.kill(children[0], signal.SIGINT)  # as a terminal does to all
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert errors.startswith("bilstm: stopped by the user after epoch ")
    assert sorted(os.listdir(tmp_path)) == ["model", "train.csv"]
    assert bilstm.load(tmp_path / "model").training["epochs"] >= 3


@LINUX
def test_no_worker_outlives_the_first(tmp_path: Path) -> None:
    with endless(tmp_path) as (running, children):
        running.kill()
        running.wait()
        end = time.monotonic() + 60
        while Path(f"/proc/{children[0]}/cmdline").exists() and Path(f"/proc/{children[0]}/cmdline").read_bytes():
            assert time.monotonic() < end
            time.sleep(0.02)
    assert not [name for name in os.listdir("/dev/shm") if name.startswith("bilstm-")]


# --- Notes ------------------------------------------------------------------------------------------------------------


def test_workers_without_work_are_noted() -> None:
    worker, model = Thread(0, Meeting(3)), network()
    assert model.network is not None
    note = idle_workers(model.network, 40, worker)
    assert note is not None
    assert note.startswith("a batch of 40 sequences has work for 2 of the 3 workers, one for every 16 sequences")
    assert idle_workers(model.network, 48, worker) is None
    assert idle_workers(model.network, 1, Alone()) is None


def test_slow_exchanges_are_noted() -> None:
    assert str(slow_exchanges(6.0, 10.0)).startswith("60% of the first epoch was spent in adding the workers' gradient")
    assert slow_exchanges(4.0, 10.0) is None
    assert slow_exchanges(0.6, 0.9) is None


def test_notes_are_printed(tmp_path: Path) -> None:
    command = [*table(tmp_path), "--workers", 2, "--out", tmp_path / "model", "--no-baseline", "--batch-size=20"]
    assert "note: a batch of 20 sequences has work for 1 of the 2 workers" in run(*command).output
    assert run(*command, "--quiet").output == ""


# --- Launchers --------------------------------------------------------------------------------------------------------

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}


@pytest.mark.fast
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"WORLD_SIZE": "2"}, None),
        (TORCHRUN | {"WORLD_SIZE": "1"}, None),
        (TORCHRUN, launchers.Launch("torchrun", 2, 1, "WORLD_SIZE")),
        (TORCHRUN | {"LOCAL_WORLD_SIZE": "2"}, launchers.Launch("torchrun", 2, 2, "WORLD_SIZE")),
        (
            {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"},
            launchers.Launch("mpiexec", 4, 2, "OMPI_COMM_WORLD_SIZE"),
        ),
        ({"PMI_SIZE": "3"}, launchers.Launch("mpiexec", 3, 1, "PMI_SIZE")),
        ({"PMI_SIZE": "1"}, None),
    ],
)
def test_how_a_process_was_started(environment: dict[str, str], expected: launchers.Launch | None) -> None:
    assert launchers.launch(environment) == expected


@pytest.mark.fast
def test_a_launcher_that_says_nonsense() -> None:
    with pytest.raises(UserError, match="variable PMI_SIZE must be a number of processes, not 'two'"):
        launchers.launch({"PMI_SIZE": "two"})


@pytest.mark.fast
def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setenv("PMI_SIZE", "3")
    with pytest.raises(
        UserError, match=r"one of 3 processes that mpiexec has started \(PMI_SIZE=3\).*pip install mpi4"
    ):
        launchers.join()
    monkeypatch.setitem(sys.modules, "torch", None)
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="which connect by PyTorch: pip install torch; or train alone with --workers 1"):
        launchers.join()


def test_a_process_alone_is_connected_to_nobody() -> None:
    with bilstm.distributed.join() as communicator:  # type: ignore[attr-defined]
        assert (communicator.rank, communicator.size) == (0, 1)


@given(size=st.integers(1, 4), starts=st.lists(st.sets(st.integers(0, 3)), max_size=3), missing=st.integers(0, 3))
@settings(max_examples=8)
def test_workers_agree_on_a_start(size: int, starts: list[set[int]], missing: int) -> None:
    """Those that run now, whichever of the launcher's former ones left what in the store."""
    torchrun = pytest.importorskip("bilstm.distributed.torchrun")
    import torch.distributed

    store, names = torch.distributed.HashStore(), set()

    def start(present: set[int], seconds: float) -> list[Any]:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            workers = [pool.submit(torchrun._agree, store, rank, size, seconds) for rank in sorted(present)]
            return [worker.exception() or worker.result() for worker in workers]

    ranks = set(range(size))
    for killed in [*starts, {missing}]:
        if killed & ranks:  # while the others are connecting
            assert all(isinstance(each, RuntimeError) for each in start(ranks - killed, 0.06))
        agreed = set(start(ranks, 60))
        assert len(agreed) == 1
        assert not agreed & names
        names |= agreed


def test_workers_under_a_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PMI_SIZE", "3")
    command = [*table(tmp_path), "--out", tmp_path / "model"]
    refused = run(*command, "--workers", 2, status=2).output
    assert refused == "bilstm: mpiexec has started 3 workers already (PMI_SIZE=3): leave out --workers\n"
    run(*command, "--workers", 1)  # alone


def test_nothing_of_it_is_imported_without_need() -> None:
    program = (
        "import sys, bilstm.model.training, bilstm.distributed\n"
        "print([name for name in ('torch', 'mpi4py', 'multiprocessing', 'bilstm.distributed.launchers') "
        "if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ran.stdout == "[]\n"
