"""A training that was ended by whatever it was goes on from its checkpoint, and ends with the same bits."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from bilstm import problems
from bilstm.cli import commands
from bilstm.data.dataset import Dataset
from bilstm.data.features import CategoricalColumn, NumericColumn
from bilstm.data.memory import Cells, MemoryTable
from bilstm.data.schema import Schema
from bilstm.engine.plans import Targets
from bilstm.errors import ModelFileError, UserError
from bilstm.layers import LSTM, Bidirectional, Dense, Dropout
from bilstm.model import TrainedModel
from bilstm.model.prepare import Prepared
from bilstm.model.training import train_prepared
from bilstm.modelfile import read_model, write_model
from bilstm.models import Sequential
from bilstm.models.fitting import FitData
from bilstm.ragged import Ragged
from bilstm.tasks import LabelSetTask, LabelTask, QuantityTask
from bilstm.training import checkpoints, windows
from bilstm.training.checkpoints import Checkpoint, fingerprint
from bilstm.training.loop import LoopOptions, TrainingInterrupted, train_model
from bilstm.training.options import TrainingOptions
from oracles.models import weight_bits
from test_interrupts import HEEDING, TELLING, process, wait_for
from test_interrupts import table as table_of

COLUMNS = Schema("id", None, (NumericColumn("x", 0.0, 1.0),), ())
TASK = LabelTask(("label",), False, ("0", "1"))
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk: nothing here takes the computer's power away."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


class CrashError(Exception):
    """Stands for whatever ends a process."""


def sequences(count: int = 30, seed: int = 0) -> FitData:
    x, y = problems.echo(count, (3, 40), lag=1, seed=seed, ragged=True)
    return FitData.all_of(x, Targets(labels=y.values.reshape(-1).astype(np.int32)))


def network() -> Sequential:
    layers = [LSTM(3, return_sequences=True, input_shape=(None, 1)), Dropout(0.3), Dense(2, activation="softmax")]
    model = Sequential(layers, seed=5)
    model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    return model


def train(checkpoint: Checkpoint | None = None, told: Any = None, **options: Any) -> tuple[bytes, dict[str, Any]]:
    """The bits of the weights that a small training ends with, and its summary."""
    model, chosen = network(), LoopOptions(**{"epochs": 4, "batch_size": 8} | options)
    summary = train_model(model, sequences(), sequences(6, 1), chosen, checkpoint=checkpoint, progress=told)
    return weight_bits(model), summary


def crash_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let training crash before the training step after so many, those of a baseline left out."""
    train_batches, done = Sequential.train_batches, [0]

    def step(model: Sequential, *arguments: Any) -> Any:
        done[0] += any(isinstance(layer, (LSTM, Bidirectional)) for layer in model.layers)
        if done[0] > steps:
            raise CrashError
        return train_batches(model, *arguments)

    monkeypatch.setattr(Sequential, "train_batches", step)


# --- The same bits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("minutes", [None, 1e-9])
def test_a_crash_after_any_training_step(
    tmp_path: Path, minutes: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "LONGEST", 19)  # so that half of the sequences are cut
    expected = train(epochs=3)
    path, kept = tmp_path / "checkpoint", []
    while True:
        with monkeypatch.context() as patched:
            crash_after(len(kept), patched)
            try:
                assert train(Checkpoint(path, minutes=minutes), epochs=3) == expected
                break
            except CrashError:
                kept.append(path.exists())
        assert train(Checkpoint(path, minutes=minutes, resume=True), epochs=3) == expected
        path.unlink()
    assert kept == sorted(kept)
    assert kept.index(True) == 1 if minutes else 1 < kept.index(True) <= len(kept) / 2  # of three epochs


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=6), st.sampled_from([None, 1e-9]))
def test_crash_after_crash(tmp_path_factory: pytest.TempPathFactory, crashes: list[int], minutes: float | None) -> None:
    path = tmp_path_factory.mktemp("crashes") / "checkpoint"
    for steps in crashes:
        with pytest.MonkeyPatch.context() as patched:
            crash_after(steps, patched)
            try:
                train(Checkpoint(path, minutes=minutes, resume=True))
            except CrashError:
                continue
    assert train(Checkpoint(path, minutes=minutes, resume=True)) == train()
    # What had ended already ends with the same once more.
    assert train(Checkpoint(path, resume=True)) == train()


@pytest.mark.parametrize("options", [{"patience": 1, "epochs": 60}, {"epochs": 1}], ids=str)
def test_what_had_ended_is_not_trained_again(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the model could not be written."""
    path = tmp_path / "checkpoint"
    expected = train(Checkpoint(path, minutes=1e6), **options)
    crash_after(0, monkeypatch)
    assert train(Checkpoint(path, resume=True), **options) == expected
    assert expected[1]["epochs"] < 60


def test_interrupted_training_goes_on(tmp_path: Path) -> None:
    def interrupt(figures: dict[str, Any]) -> None:
        if figures["epoch"] == 3 and figures["done"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(TrainingInterrupted) as caught:
        train(Checkpoint(tmp_path / "checkpoint"), interrupt)
    assert caught.value.summary["stopped"] == "stopped by the user after epoch 3"
    assert train(Checkpoint(tmp_path / "checkpoint", resume=True)) == train()


def test_progress_tells_of_the_epochs_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before: list[dict[str, Any]] = []
    after: list[dict[str, Any]] = []
    with monkeypatch.context() as patched:
        crash_after(10, patched)  # of four in an epoch
        with pytest.raises(CrashError):
            train(Checkpoint(tmp_path / "checkpoint"), before.append)
    train(Checkpoint(tmp_path / "checkpoint", resume=True), after.append)
    ended = [call for call in before if call["done"] == 1]
    assert len(ended) == 2
    assert after[0] == {
        **{"epoch": 3, "epochs": 4, "done": 0.0},
        "resumed": [{name: value for name, value in call.items() if name not in ("epochs", "done")} for call in ended],
    }
    assert [call["epoch"] for call in after if call["done"] == 1] == [3, 4]
    times = [call["seconds"] for call in ended + after if "seconds" in call]
    assert times == sorted(times)


def test_the_time_before_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint"
    options = {"time_limit": 1000.0}
    with monkeypatch.context() as patched:
        crash_after(5, patched)
        with pytest.raises(CrashError):
            train(Checkpoint(path), **options)
    change(path, seconds=1001.0)
    _, summary = train(Checkpoint(path, resume=True), **options)
    assert (summary["epochs"], summary["stopped"]) == (1, "the time limit was reached")


# --- What is refused -------------------------------------------------------------------------------------------------


@pytest.fixture
def unfinished(tmp_path: Path) -> Path:
    """The checkpoint of a training that was stopped after its first epoch."""
    with pytest.MonkeyPatch.context() as patched:
        crash_after(4, patched)
        with pytest.raises(CrashError):
            train(Checkpoint(tmp_path / "checkpoint"))
    return tmp_path / "checkpoint"


def change(path: Path, **changes: Any) -> None:
    tensors, header = read_model(path)
    write_model(path, tensors, header | changes)


def test_it_is_not_overwritten_by_mistake(unfinished: Path) -> None:
    with pytest.raises(UserError, match="holds an unfinished training: continue it with --resume, or start"):
        Checkpoint(unfinished)


def test_force_starts_anew_whatever_stands_there(unfinished: Path, tmp_path: Path) -> None:
    network().save(tmp_path / "model")
    (tmp_path / "text").write_text("something else")
    for path in (unfinished, tmp_path / "model", tmp_path / "text"):
        assert train(Checkpoint(path, force=True)) == train()
        assert read_model(path)[1]["kind"] == "checkpoint"


def test_force_does_not_lose_what_is_resumed(unfinished: Path) -> None:
    told: list[dict[str, Any]] = []
    assert train(Checkpoint(unfinished, resume=True, force=True), told.append) == train()
    assert len(told[0]["resumed"]) == 1
    unfinished.write_bytes(unfinished.read_bytes()[:-3])
    with pytest.raises(ModelFileError, match="is damaged or was not written completely"):
        Checkpoint(unfinished, resume=True, force=True)


def test_what_has_come_since_is_not_lost(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint")
    (tmp_path / "checkpoint").write_text("something else")
    with pytest.raises(UserError, match="checkpoint exists and is not a bilstm model: .*; training was stopped$"):
        train(checkpoint)
    assert (tmp_path / "checkpoint").read_text() == "something else"


def test_a_model_is_no_checkpoint_nor_the_reverse(unfinished: Path, tmp_path: Path) -> None:
    network().save(tmp_path / "model")
    with pytest.raises(UserError, match="model is a model, not a checkpoint: give another name"):
        Checkpoint(tmp_path / "model", resume=True)
    (tmp_path / "text").write_text("something else")
    with pytest.raises(ModelFileError, match="text is not a bilstm model"):
        Checkpoint(tmp_path / "text", resume=True)
    with pytest.raises(ModelFileError, match="holds an unfinished training, not a model: finish it with --resume"):
        TrainedModel.load(unfinished)


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"epochs": 5}, "epochs: 4 in the file, 5 now"),
        ({"batch_size": None}, "batch_size: 8 in the file, not given now"),
        ({"patience": 3}, "patience: 10 in the file, 3 now"),
        ({"seed": 2}, "seed: 1 in the file, 2 now"),
        ({"time_limit": 60.0}, "time_limit: not given in the file, 60.0 now"),
    ],
)
def test_other_options(unfinished: Path, options: dict[str, Any], difference: str) -> None:
    message = f"{unfinished} belongs to another training ({difference}): give the same, or remove it to start anew"
    with pytest.raises(UserError, match="^" + re.escape(message) + "$"):
        train(Checkpoint(unfinished, resume=True), **options)


def test_other_data_and_another_network(unfinished: Path) -> None:
    data, held_out, options = sequences(), sequences(6, 1), LoopOptions(epochs=4, batch_size=8)
    labels = data.targets.labels
    assert labels is not None
    relabelled = FitData.all_of(data.data, Targets(labels=1 - labels))
    weighted = FitData.all_of(data.data, Targets(labels=labels, weights=np.ones(len(labels), np.float32)))
    joined = FitData.all_of(Ragged(data.data.values, data.data.offsets[[0, *range(2, 31)]]), data.targets)
    wide = Sequential([LSTM(4, return_sequences=True, input_shape=(None, 1)), Dense(2, activation="softmax")], seed=5)
    wide.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    cases: list[tuple[str, Sequential, FitData, FitData | None]] = [
        *(("the sequences to train on", network(), other, held_out) for other in (relabelled, weighted, joined)),
        *(("the sequences to validate on", network(), data, other) for other in (sequences(6, 2), None)),
        ("the network's layers", wide, data, held_out),
    ]
    for name, model, training, validation in cases:
        with pytest.raises(UserError, match=rf"belongs to another training \({name} differ\): give the same"):
            train_model(model, training, validation, options, checkpoint=Checkpoint(unfinished, resume=True))


def prepared(schema: Schema = COLUMNS, task: Any = TASK) -> Prepared:
    x, y = problems.echo(20, (3, 9), seed=0, ragged=True)
    truth = y.values.reshape(-1).astype(np.int32)
    if not isinstance(task, LabelTask):
        truth = np.repeat(truth[:, np.newaxis], len(task.columns), axis=1).astype(np.float32)
    table = MemoryTable({"x": Cells("number", np.zeros(1))})
    return Prepared(table, schema, task, Dataset(x, np.arange(x.total_steps), truth), None)


@pytest.mark.parametrize(
    ("schema", "task", "options", "difference"),
    [
        ({"sequence": "key"}, TASK, {}, "the sequence column: 'id' in the file, 'key' now"),
        ({"order": "t"}, TASK, {}, "the order column: not given in the file, 't' now"),
        ({}, LabelTask(("state",), False, ("0", "1")), {}, "the label column: 'label' in the file, 'state' now"),
        ({"numeric": (NumericColumn("y", 0.0, 1.0),)}, TASK, {}, "the features: 'x' in the file, 'y' now"),
        (
            {"numeric": (), "categorical": (CategoricalColumn("x", ()),)},
            TASK,
            {},
            "the categorical features: none in the file, 'x' now",
        ),
        ({}, LabelTask(("label",), False, ("a", "b")), {}, "the classes differ"),
        ({}, LabelSetTask(("label", "other"), False), {}, "the task: 'step-label' in the file, 'step-labels' now"),
        (
            {},
            QuantityTask(("label",), False, (0.0,), (1.0,)),
            {},
            "the task: 'step-label' in the file, 'step-quantity' now",
        ),
        ({}, TASK, {"units": 3}, "units: 2 in the file, 3 now"),
        ({}, TASK, {"dropout": 0.2}, "dropout: 0.3 in the file, 0.2 now"),
        ({}, TASK, {"calibrate": False}, "calibrate: not given in the file, False now"),
    ],
)
def test_other_columns(
    tmp_path: Path, schema: dict[str, Any], task: Any, options: dict[str, Any], difference: str
) -> None:
    path, small = tmp_path / "checkpoint", {"units": 2, "layers": 1, "epochs": 2}
    train_prepared(prepared(), TrainingOptions(**small), checkpoint=Checkpoint(path))
    other = prepared(dataclasses.replace(COLUMNS, **schema), task)
    with pytest.raises(UserError, match=re.escape(f" belongs to another training ({difference}): ")):
        train_prepared(other, TrainingOptions(**small | options), checkpoint=Checkpoint(path, resume=True))


def test_another_version(unfinished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "__version__", "9.9.9")
    with pytest.raises(
        UserError, match=r"was written by bilstm .*, and this is 9\.9\.9: finish it with that version, or"
    ):
        train(Checkpoint(unfinished, resume=True))


@pytest.mark.parametrize(
    "changes",
    [
        {"random": None},
        {"random": {"bit_generator": "PCG64"}},
        {"random": {"bit_generator": "MT19937", "state": {"state": 1, "inc": 1}, "has_uint32": 0, "uinteger": 0}},
        {"batches": -1},
        {"batches": 1.5},
        {"iteration": "many"},
        {"iteration": 2**60},
        {"sums": [1, 2]},
        {"sums": "12345"},
        {"logs": None},
        {"logs": []},
        {"logs": [{"loss": 1.0}, {"val_loss": 1.0}]},
        {"logs": [{"loss": "low"}]},
        {"best": None},
        {"best": {"score": [0.5], "epoch": 0}},
        {"best": {"score": [0.5, 0.5], "epoch": 7}},
        {"seconds": None},
        {"training": None},
    ],
    ids=str,
)
def test_a_damaged_checkpoint_is_refused(unfinished: Path, changes: dict[str, Any]) -> None:
    change(unfinished, **changes)
    with pytest.raises(ModelFileError, match="checkpoint is damaged "):
        train(Checkpoint(unfinished, resume=True))


@pytest.mark.parametrize("name", ["weights", "first_moments", "second_moments", "average", "best"])
@pytest.mark.parametrize("tensor", [None, np.zeros(3)], ids=["missing", "too short"])
def test_a_damaged_tensor_is_refused(unfinished: Path, name: str, tensor: Any) -> None:
    tensors, header = read_model(unfinished)
    del tensors[name]
    write_model(unfinished, {**tensors, **({} if tensor is None else {name: tensor})}, header)
    with pytest.raises(ModelFileError, match="checkpoint is damaged "):
        train(Checkpoint(unfinished, resume=True))


@given(st.lists(st.sampled_from([None, "a", "b", "ab", "", 0, 1]), max_size=4))
def test_fingerprints_tell_parts_apart(parts: list[Any]) -> None:
    arrays = [np.arange(part, dtype=np.int64) if isinstance(part, int) else part for part in parts]
    assert fingerprint(*arrays) == fingerprint(*arrays)
    others = [[*arrays, "a"], [np.zeros(1, np.float32), *arrays], ["", *arrays, ""], [*arrays, None]]
    assert len({fingerprint(*other) for other in [arrays, *others]}) == 5
    assert fingerprint(np.zeros((2, 3))) != fingerprint(np.zeros((3, 2))) != fingerprint(np.zeros((3, 2), np.float32))


# --- From the command line -------------------------------------------------------------------------------------------

SMALL = ["--units", "16", "--layers", "1", "--epochs", "30", "--patience", "30", "--quiet"]


TASKS = {  # what `train.csv` is, and what its columns are
    "step-label": ["--label", "state"],
    "sequence-label": ["--label", "mood", "--validation-split", "0.2", "--pooling", "attention"],
    "sequence-labels": ["--label", "loud,high", "--validation-split", "0.2"],
    "step-quantity": ["--label", "level", "--task", "step-quantity"],
}
EVERY_TASK = pytest.mark.parametrize("uninterrupted", list(TASKS), indirect=True)


def write_table(folder: Path, task: str, sequences: int = 40) -> None:
    """The table of test_interrupts.py, or one with other targets, and what it is in `task`."""
    path = table_of(folder / "train.csv", sequences)
    (folder / "task").write_text(task)
    if task != "step-label":
        header, *rows = path.read_text().splitlines()
        lines = [f"{header.removesuffix(',state')},mood,loud,high,level"]
        for row in rows:
            sequence, x, _ = row.split(",")
            number = int(sequence[1:])
            lines.append(f"{sequence},{x},{'ab'[number % 2]},{number % 2},{number % 3 // 2},{float(x) * 2:.3f}")
        features = {"step-quantity": (0, 1, 5), "sequence-label": (0, 1, 2), "sequence-labels": (0, 1, 3, 4)}[task]
        path.write_text("\n".join(",".join(line.split(",")[i] for i in features) for line in lines) + "\n")


def command(folder: Path, *more: Any) -> list[str]:
    columns = ["--sequence", "id", *TASKS[(folder / "task").read_text()]]
    return ["train", str(folder / "train.csv"), *columns, *SMALL, "--out", str(folder / "model"), *map(str, more)]


def kept(folder: Path, *more: Any) -> list[str]:
    return command(folder, "--checkpoint", folder / "checkpoint", "--log", folder / "log", *more)


def scores(log: Path) -> list[dict[str, Any]]:
    """What a log holds but for the time, which never goes back."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    times = [line.pop("seconds") for line in lines]
    assert times == sorted(times)
    return lines


@pytest.fixture(scope="module")
def uninterrupted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table, and the model and the log of a training on it."""
    task = getattr(request, "param", "step-label")
    folder = tmp_path_factory.mktemp("uninterrupted")
    write_table(folder, task)
    assert CliRunner().invoke(commands, kept(folder)).output == ""
    assert sorted(os.listdir(folder)) == ["log", "model", "task", "train.csv"]
    assert TrainedModel.load(folder / "model").task.kind == task
    return folder


@pytest.fixture
def work(uninterrupted: Path, tmp_path: Path) -> Path:
    """An own folder with the same table."""
    for name in ("train.csv", "task"):
        (tmp_path / name).write_bytes((uninterrupted / name).read_bytes())
    return tmp_path


def finish(work: Path, uninterrupted: Path, *more: Any) -> None:
    """Go on to the end, and compare what there is then with what the uninterrupted training left."""
    assert CliRunner().invoke(commands, kept(work, "--resume", *more)).output == ""
    assert sorted(os.listdir(work)) == ["log", "model", "task", "train.csv"]
    assert (work / "model").read_bytes() == (uninterrupted / "model").read_bytes()
    assert scores(work / "log") == scores(uninterrupted / "log")


def epochs_kept(work: Path) -> int:
    return len(read_model(work / "checkpoint")[1]["logs"])


def starts(text: str) -> Callable[[str], bool]:
    return lambda line: line.startswith(text)


@POSIX
@EVERY_TASK
@pytest.mark.parametrize("minutes", [[], ["--checkpoint-minutes", "0.00001"]], ids=["epochs", "minutes"])
def test_killed_at_random_moments(work: Path, uninterrupted: Path, minutes: list[str]) -> None:
    for line in ("epoch 2 ", "epoch ", "epoch "):
        with process(TELLING.format(stay="after some epochs"), *kept(work, "--resume", *minutes)) as running:
            wait_for(running, starts(line))
            time.sleep(random.random() / 10)  # an epoch takes about a fiftieth of a second
            running.kill()
    assert 0 < epochs_kept(work) < 30
    finish(work, uninterrupted, *minutes)


@POSIX
def test_killed_while_the_checkpoint_is_written(work: Path, uninterrupted: Path) -> None:
    """The old one is there still, and what was being written is removed at the next start."""
    for stay, line in (("after some epochs", "epoch 4 "), ("in writing", "writing")):
        with process(TELLING.format(stay=stay), *kept(work, "--resume")) as running:
            wait_for(running, starts(line))
            running.kill()
    assert len([name for name in os.listdir(work) if name.endswith(".partial")]) == 1
    assert epochs_kept(work) >= 3
    finish(work, uninterrupted)


@POSIX
@EVERY_TASK
def test_stopped_by_the_user(work: Path, uninterrupted: Path) -> None:
    for number, status, epoch in ((signal.SIGINT, 130, 3), (signal.SIGTERM, 143, 5)):
        with process(HEEDING + TELLING.format(stay="after some epochs"), *kept(work, "--resume")) as running:
            wait_for(running, starts(f"epoch {epoch} "))
            running.send_signal(number)
            _, errors = running.communicate(timeout=60)
        assert running.returncode == status
        assert errors.endswith("; the same command with --resume continues\n")
        assert sorted(os.listdir(work)) == ["checkpoint", "log", "model", "task", "train.csv"]
        assert epochs_kept(work) >= epoch - 1
    finish(work, uninterrupted)


@POSIX
def test_a_full_disk(work: Path, uninterrupted: Path) -> None:
    with process(TELLING.format(stay="after some epochs"), *kept(work)) as running:
        wait_for(running, starts("epoch 4 "))
        running.kill()
    before = epochs_kept(work)
    most = (uninterrupted / "model").stat().st_size + 1000
    assert (work / "checkpoint").stat().st_size > most
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most}))\n"
    with process(limited + "from bilstm.__main__ import main; main()", *kept(work, "--resume")) as running:
        _, errors = running.communicate(timeout=60)
    what = "training was stopped, and the same command with --resume continues"
    assert errors == f"bilstm: cannot write {work / 'checkpoint'}: file too large; {what}\n"
    assert running.returncode == 2
    assert sorted(os.listdir(work)) == ["checkpoint", "log", "task", "train.csv"]
    assert epochs_kept(work) == before
    finish(work, uninterrupted)


@POSIX
def test_a_disk_that_has_room_for_no_checkpoint_at_all(work: Path, uninterrupted: Path) -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
    with process(limited + "from bilstm.__main__ import main; main()", *kept(work)) as running:
        _, errors = running.communicate(timeout=60)
    assert errors == f"bilstm: cannot write {work / 'checkpoint'}: file too large; training was stopped\n"
    assert running.returncode == 2
    assert sorted(os.listdir(work)) == ["log", "task", "train.csv"]
    finish(work, uninterrupted)


def test_a_model_that_cannot_be_written(work: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the training is lost."""

    def save(_: TrainedModel, path: str, **__: Any) -> None:
        raise UserError(f"cannot write {path}: no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(TrainedModel, "save", save)
        result = CliRunner().invoke(commands, kept(work))
    what = "no space left on device; the same command with --resume continues"
    assert (result.exit_code, result.output) == (2, f"bilstm: cannot write {work / 'model'}: {what}\n")
    assert epochs_kept(work) == 30
    with monkeypatch.context() as patched:
        crash_after(0, patched)
        finish(work, uninterrupted)


def test_resuming_is_printed(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loud = [argument for argument in kept(work, "--resume") if argument != "--quiet"]
    with monkeypatch.context() as patched:
        crash_after(50, patched)
        said = CliRunner().invoke(commands, loud).stdout
    assert "resuming after" not in said
    epochs = epochs_kept(work)
    said = CliRunner().invoke(commands, loud).stdout
    assert f"\nresuming after {epochs} of at most 30 epochs\n30 epochs in " in said


@pytest.mark.parametrize("minutes", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_minutes(tmp_path: Path, minutes: float) -> None:
    with pytest.raises(UserError, match=f"between two checkpoints must be a positive number, not {minutes}"):
        Checkpoint(tmp_path / "checkpoint", minutes=minutes)
