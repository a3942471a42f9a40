"""The network without recurrence that a model is compared with: how it is trained, kept, scored and left out."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from bilstm.cli import commands
from bilstm.errors import DivergedError, ModelFileError
from bilstm.metrics import span_report, step_report
from bilstm.model import TrainedModel, training
from bilstm.model.evaluation import evaluate
from bilstm.model.training import train_baseline, train_prepared
from bilstm.modelfile import read_model, write_model
from bilstm.training.options import TrainingOptions
from oracles.models import weight_bits
from test_checkpoints import POSIX, starts
from test_interrupts import HEEDING, process, wait_for
from test_interrupts import table as table_of
from test_training import echoes, layers_of, ready, train

QUICK: dict[str, Any] = {"units": 4, "layers": 1, "epochs": 2, "batch_size": 8}
SMALL = ["--units", "4", "--layers", "1", "--epochs", "2", "--quiet", "--sequence", "id", "--label", "state"]


def bilstm(*arguments: Any, status: int = 0) -> Result:
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return table_of(tmp_path / "train.csv")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A model with its baseline."""
    folder = tmp_path_factory.mktemp("baseline")
    bilstm("train", table_of(folder / "train.csv"), *SMALL, "--out", folder / "model")
    return (folder / "model").read_bytes()


@pytest.fixture
def model(trained: bytes, table: Path) -> Path:
    """The same, in an own folder beside the table."""
    table.with_name("model").write_bytes(trained)
    return table.with_name("model")


# --- Training it -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("validation", [None, echoes(7, seed=3)], ids=["a share", "its own"])
def test_it_is_what_direction_none_trains(validation: Any) -> None:
    prepared, options = ready(echoes(40), validation), TrainingOptions(**QUICK)
    baseline = train_baseline(prepared, options)
    same = train_prepared(prepared, TrainingOptions(**QUICK, direction="none"))
    assert baseline is not None
    assert weight_bits(baseline.network) == weight_bits(same.network)
    assert baseline.training == same.training
    assert layers_of(baseline, "Bidirectional") == []
    of_model = train_prepared(prepared, options).training
    for name in ("sequences", "steps", "validation_sequences", "batch_size"):
        assert baseline.training[name] == of_model[name]


def test_what_context_is_worth() -> None:
    """Of the number one step later, each step by itself tells nothing; of its own number, everything."""
    options = QUICK | {"units": 12, "epochs": 20, "learning_rate": 0.03, "dropout": 0.0}
    gains = []
    for lag in (0, 1):
        model = train(data=echoes(120, lag), baseline=True, **options)
        report = evaluate(model, echoes(100, lag, seed=9))
        assert report["baseline"]["gain"] == pytest.approx(report["accuracy"] - report["baseline"]["accuracy"])
        low, high = report["baseline"]["intervals"]["gain"]
        assert low <= report["baseline"]["gain"] <= high
        gains.append((low, high))
    assert -0.1 < gains[0][0] <= gains[0][1] < 0.1
    assert 0.3 < gains[1][0] < gains[1][1] < 0.7


@pytest.mark.parametrize(("limit", "of_baseline"), [(None, None), (30.0, 3.0)])
def test_it_takes_a_tenth_of_a_time_limit(limit: float | None, of_baseline: float | None) -> None:
    found = train_baseline(ready(echoes(20)), TrainingOptions(**QUICK, time_limit=limit))
    assert found is not None
    assert found.training["options"]["time_limit"] == of_baseline


def test_ctrl_c_leaves_none() -> None:
    def interrupt(figures: dict[str, Any]) -> None:
        if figures["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        train_baseline(ready(echoes(20)), TrainingOptions(**QUICK), progress=interrupt)
    assert type(caught.value) is KeyboardInterrupt


# --- In the file -----------------------------------------------------------------------------------------------------


def test_the_file_gives_it_back(model: Path, table: Path) -> None:
    trained = TrainedModel.load(model)
    assert trained.baseline is not None
    assert trained.baseline.schema == trained.schema
    assert trained.baseline.training["options"] == trained.training["options"] | {"direction": "none"}
    trained.save(model.with_name("again"))
    assert model.with_name("again").read_bytes() == model.read_bytes()
    again = TrainedModel.load(model.with_name("again")).baseline
    assert again is not None
    np.testing.assert_array_equal(again.predict_proba(table), trained.baseline.predict_proba(table), strict=True)


def test_it_changes_nothing_else(model: Path, table: Path) -> None:
    bilstm("train", table, *SMALL, "--out", table.with_name("without"), "--no-baseline")
    tensors, header = read_model(table.with_name("without"))
    others, described = read_model(model)
    assert "baseline" not in header
    assert {name for name in others if not name.startswith("baseline.")} == set(tensors)
    assert {name: value for name, value in described.items() if name != "baseline"} == header
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(others[name], tensor)


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        (7, "its baseline is not an object"),
        ({}, "the record of its training is missing"),
        ({"training": {}}, "the record of its training is damaged"),
        ("columns", "its network does not fit its columns"),
        ("missing", "its layers need "),
    ],
)
def test_a_damaged_one_is_refused(model: Path, baseline: Any, message: str) -> None:
    tensors, header = read_model(model)
    if baseline == "columns":
        other = train(9).network
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("baseline.")}
        config = other.get_config()
        config["layers"][-1]["config"]["layer"]["config"]["units"] = 3
        tensors |= {f"baseline.{name}": tensor for name, tensor in other.tensors().items()}
        for name in list(tensors)[-2:]:
            tensors[name] = np.zeros((*tensors[name].shape[:-1], 3), np.float32)
        header["baseline"]["network"] = config
    elif baseline == "missing":
        del tensors[next(name for name in tensors if name.startswith("baseline."))]
    else:
        header["baseline"] = baseline
    write_model(model, tensors, header)
    with pytest.raises(ModelFileError, match=re.escape(f"{model} is not a valid model: {message}")):
        TrainedModel.load(model)


# --- Scores ----------------------------------------------------------------------------------------------------------


def test_its_scores_are_reported(model: Path, table: Path) -> None:
    report = json.loads(bilstm("evaluate", model, table, "--json", "--events", 1).stdout)
    baseline = TrainedModel.load(model).baseline
    assert baseline is not None
    data = baseline.read(table, with_truth=True)
    expected = step_report(data.known, baseline.outputs(data.values).values, data.values.offsets)
    found = report["baseline"]
    for name in ("accuracy", "macro_f1", "log_loss", "calibration_error"):
        assert found[name] == expected[name]
    assert found["intervals"].pop("gain") is not None
    assert found["intervals"] == expected["intervals"]
    assert found["events"]["tolerance"] == 1
    assert found["spans"] is None
    assert "per_class" not in {*found, *found["events"]}
    said = bilstm("evaluate", model, table, "--events", 1).stdout
    assert f"\nwithout recurrence, each step alone: accuracy {found['accuracy']:.4f} [" in said
    assert f"\nwhat context adds to the accuracy: {found['gain']:.4f} [" in said
    assert f"\nwithout recurrence: F1 {found['events']['f1']:.4f} [" in said


def test_of_spans_too(tmp_path: Path) -> None:
    (tmp_path / "train.conll").write_text("Ada B-P\nmet O\nBob B-P\nLee I-P\n\nthe O\nend O\n\n" * 9)
    options = ["--units", 4, "--layers", 1, "--epochs", 2, "--quiet"]
    bilstm("train", tmp_path / "train.conll", "--out", tmp_path / "model", *options)
    model = TrainedModel.load(tmp_path / "model")
    assert model.baseline is not None
    data = model.read(tmp_path / "train.conll", with_truth=True)
    predicted = model.baseline.outputs(data.values).labels
    expected = span_report(data.known, predicted, data.values.offsets, model.task.classes)
    found = evaluate(model, data)["baseline"]["spans"]
    assert found == {name: value for name, value in expected.items() if name not in ("per_class", "errors")}
    said = bilstm("evaluate", tmp_path / "model", tmp_path / "train.conll").stdout
    assert f"\nwithout recurrence: F1 {found['f1']:.4f} [" in said


@pytest.mark.parametrize("options", [["--no-baseline"], ["--direction", "none"]], ids=" ".join)
def test_a_model_without_one_says_nothing_of_it(table: Path, options: list[str]) -> None:
    path = table.with_name("model")
    said = bilstm("train", table, *[option for option in SMALL if option != "--quiet"], "--out", path, *options).stdout
    assert "without recurrence" not in said
    assert TrainedModel.load(path).baseline is None
    assert json.loads(bilstm("evaluate", path, table, "--json").stdout)["baseline"] is None
    said = bilstm("evaluate", path, table).stdout
    assert "recurrence" not in said
    assert "context" not in said


def test_one_sequence_tells_nothing_of_others(model: Path) -> None:
    one = table_of(model.with_name("one.csv"), 1)
    assert json.loads(bilstm("evaluate", model, one, "--json").stdout)["baseline"]["intervals"] is None
    assert "what context adds to the accuracy: " in bilstm("evaluate", model, one).stdout


# --- What can come between -------------------------------------------------------------------------------------------

TELLING = """
import time
from bilstm import progress

def tell(self, figures):
    print(f"{self._what}epoch {figures['epoch']}", flush=True)
    if self._what:
        time.sleep(60)

progress.Progress.__call__ = tell
from bilstm.__main__ import main

main()
"""


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_what_ends_its_training_leaves_the_model(model: Path, table: Path, number: int) -> None:
    path, checkpoint = model.with_name("other"), model.with_name("checkpoint")
    kept = ["train", str(table), *SMALL, "--out", str(path), "--checkpoint", str(checkpoint), "--resume"]
    with process(HEEDING + TELLING, *kept) as running:
        wait_for(running, starts("without recurrence: epoch 1"))
        running.send_signal(number)
        _, errors = running.communicate(timeout=60)
    if number != signal.SIGKILL:
        assert running.returncode == 128 + number
        told = f"stopped in training the baseline: {path} has none; the same command with --resume continues"
        assert errors == f"bilstm: {told}\n"
    assert TrainedModel.load(path).baseline is None
    bilstm(*kept)
    assert path.read_bytes() == model.read_bytes()
    assert not checkpoint.exists()


def test_one_that_diverges_is_left_out(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = training.train_prepared

    def diverge(prepared: Any, options: TrainingOptions, **keywords: Any) -> TrainedModel:
        if options.direction == "none":
            raise DivergedError("the loss is no longer a finite number: try a smaller learning rate")
        return prepare(prepared, options, **keywords)

    monkeypatch.setattr(training, "train_prepared", diverge)
    path = table.with_name("model")
    said = bilstm("train", table, *SMALL, "--out", path).stderr
    assert said == "bilstm: there is no baseline, since its loss was not finite\n"
    assert TrainedModel.load(path).baseline is None
