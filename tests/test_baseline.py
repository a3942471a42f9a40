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
from bilstm.data.reading import read_table
from bilstm.errors import DivergedError, ModelFileError
from bilstm.metrics import accuracy_gain, span_report, step_report
from bilstm.modelfile import read_model, write_model
from bilstm.tagging import training
from bilstm.tagging.evaluation import evaluate_tagger
from bilstm.tagging.tagger import Tagger
from bilstm.tagging.training import train_baseline, train_tagger
from bilstm.training.options import TrainingOptions
from oracles.models import weight_bits
from test_checkpoints import POSIX, starts
from test_interrupts import HEEDING, process, wait_for
from test_interrupts import table as table_of
from test_training import COLUMNS, echoes, layers_of

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


@pytest.mark.parametrize("validation", [None, echoes(7, seed=3)], ids=["held out", "its own"])
def test_it_is_what_direction_none_trains(validation: Any) -> None:
    options = TrainingOptions(**QUICK)
    baseline = train_baseline(COLUMNS, echoes(40), validation, options=options)
    alone = TrainingOptions(**QUICK, direction="none")
    same = train_tagger(COLUMNS, echoes(40), validation, options=alone)
    assert weight_bits(baseline.model) == weight_bits(same.model)
    assert baseline.training == same.training
    assert layers_of(baseline, "Bidirectional") == []
    of_model = train_tagger(COLUMNS, echoes(40), validation, options=options).training
    for name in ("sequences", "steps", "held_out_sequences", "batch_size"):
        assert baseline.training[name] == of_model[name]


def test_what_context_is_worth() -> None:
    """Of the number one step later, each step by itself tells nothing; of its own number, everything."""
    options = TrainingOptions(**QUICK | {"units": 12, "epochs": 20, "learning_rate": 0.03, "dropout": 0.0})
    gains = []
    for lag in (0, 1):
        tagger = train_tagger(COLUMNS, echoes(120, lag), None, options=options)
        tagger.baseline = train_baseline(COLUMNS, echoes(120, lag), None, options=options)
        report = evaluate_tagger(tagger, echoes(100, lag, seed=9))
        assert report["baseline"]["gain"] == pytest.approx(report["accuracy"] - report["baseline"]["accuracy"])
        low, high = report["baseline"]["intervals"]["gain"]
        assert low <= report["baseline"]["gain"] <= high
        gains.append((low, high))
    assert -0.1 < gains[0][0] <= gains[0][1] < 0.1
    assert 0.3 < gains[1][0] < gains[1][1] < 0.7


@pytest.mark.parametrize(("limit", "of_baseline"), [(None, None), (30.0, 3.0)])
def test_it_takes_a_tenth_of_a_time_limit(limit: float | None, of_baseline: float | None) -> None:
    found = train_baseline(COLUMNS, echoes(20), None, options=TrainingOptions(**QUICK, time_limit=limit))
    assert found.training["options"]["time_limit"] == of_baseline


def test_ctrl_c_leaves_none() -> None:
    def interrupt(figures: dict[str, Any]) -> None:
        if figures["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        train_baseline(COLUMNS, echoes(20), None, options=TrainingOptions(**QUICK), progress=interrupt)
    assert type(caught.value) is KeyboardInterrupt


# --- In the file -----------------------------------------------------------------------------------------------------


def test_the_file_gives_it_back(model: Path, table: Path) -> None:
    tagger = Tagger.load(model)
    assert tagger.baseline is not None
    assert tagger.baseline.columns == tagger.columns
    assert tagger.baseline.training["options"] == tagger.training["options"] | {"direction": "none"}
    encoded = tagger.columns.encode(read_table(table))
    tagger.save(model.with_name("again"))
    assert model.with_name("again").read_bytes() == model.read_bytes()
    again = Tagger.load(model.with_name("again")).baseline
    assert again is not None
    np.testing.assert_array_equal(
        again.predict_proba(encoded.values), tagger.baseline.predict_proba(encoded.values), strict=True
    )


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
        ({}, "its training summary is missing"),
        ({"training": {}}, "its training summary is damaged"),
        ("columns", "its network does not fit its columns"),
        ("missing", "its layers need "),
    ],
)
def test_a_damaged_one_is_refused(model: Path, baseline: Any, message: str) -> None:
    tensors, header = read_model(model)
    if baseline == "columns":
        other = train_tagger(COLUMNS, echoes(9), None, options=TrainingOptions(**QUICK)).model
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("baseline.")}
        config = other.get_config()
        config["layers"][-1]["config"]["layer"]["config"]["units"] = 3
        tensors |= {f"baseline.{name}": tensor for name, tensor in other.tensors().items()}
        for name in list(tensors)[-2:]:
            tensors[name] = np.zeros((*tensors[name].shape[:-1], 3), np.float32)
        header["baseline"]["model"] = config
    elif baseline == "missing":
        del tensors[next(name for name in tensors if name.startswith("baseline."))]
    else:
        header["baseline"] = baseline
    write_model(model, tensors, header)
    with pytest.raises(ModelFileError, match=re.escape(f"{model} is not a valid model: {message}")):
        Tagger.load(model)


# --- Scores ----------------------------------------------------------------------------------------------------------


def test_its_scores_are_told(model: Path, table: Path) -> None:
    report = json.loads(bilstm("evaluate", model, table, "--json", "--events", 1).stdout)
    tagger = Tagger.load(model)
    assert tagger.baseline is not None
    encoded = tagger.columns.encode(read_table(table), need_labels=True)
    expected = step_report(encoded.labels, tagger.baseline.predict_proba(encoded.values), encoded.values.offsets)
    found = report["baseline"]
    for name in ("accuracy", "macro_f1", "log_loss", "calibration_error"):
        assert found[name] == expected[name]
    assert found["intervals"].pop("gain") is not None
    assert found["intervals"] == expected["intervals"]
    assert found["events"]["tolerance"] == 1
    assert found["spans"] is None
    assert "per_class" not in {*found, *found["events"]}
    said = bilstm("evaluate", model, table, "--events", 1).stdout
    assert f"\nwithout recurrence, each step by itself: an accuracy of {found['accuracy']:.4f} [" in said
    assert f"\nwhat context adds to the accuracy: {found['gain']:.4f} [" in said
    assert f"\nwithout recurrence: F1 {found['events']['f1']:.4f} [" in said


def test_of_spans_too(tmp_path: Path) -> None:
    (tmp_path / "train.conll").write_text("Ada B-P\nmet O\nBob B-P\nLee I-P\n\nthe O\nend O\n\n" * 9)
    options = ["--units", 4, "--layers", 1, "--epochs", 2, "--quiet"]
    bilstm("train", tmp_path / "train.conll", "--out", tmp_path / "model", *options)
    tagger = Tagger.load(tmp_path / "model")
    assert tagger.baseline is not None
    encoded = tagger.columns.encode(read_table(tmp_path / "train.conll"), need_labels=True)
    predicted = tagger.baseline.predict(encoded.values)
    expected = span_report(encoded.labels, predicted, encoded.values.offsets, tagger.columns.classes)
    found = evaluate_tagger(tagger, encoded)["baseline"]["spans"]
    assert found == {name: value for name, value in expected.items() if name != "per_class"}
    said = bilstm("evaluate", tmp_path / "model", tmp_path / "train.conll").stdout
    assert f"\nwithout recurrence: F1 {found['f1']:.4f} [" in said


@pytest.mark.parametrize("options", [["--no-baseline"], ["--direction", "none"]], ids=" ".join)
def test_a_model_without_one_says_nothing_of_it(table: Path, options: list[str]) -> None:
    path = table.with_name("model")
    said = bilstm("train", table, *[option for option in SMALL if option != "--quiet"], "--out", path, *options).stdout
    assert "without recurrence" not in said
    assert Tagger.load(path).baseline is None
    assert json.loads(bilstm("evaluate", path, table, "--json").stdout)["baseline"] is None
    said = bilstm("evaluate", path, table).stdout
    assert "recurrence" not in said
    assert "context" not in said


def test_one_sequence_tells_nothing_of_others(model: Path) -> None:
    one = table_of(model.with_name("one.csv"), 1)
    assert json.loads(bilstm("evaluate", model, one, "--json").stdout)["baseline"]["intervals"] is None
    assert "what context adds to the accuracy: " in bilstm("evaluate", model, one).stdout


def test_gains() -> None:
    """Paired: what is hard for both does not widen the interval."""
    rng = np.random.default_rng(1)
    labels, offsets = rng.integers(0, 3, 600), np.arange(0, 601, 10)
    labels[::7] = -1
    skill = np.repeat(rng.random(60), 10)  # of both, by sequence
    guess = np.where(rng.random(600) < skill, np.maximum(labels, 0), rng.integers(0, 3, 600))
    other = np.where(rng.random(600) < 0.1, rng.integers(0, 3, 600), guess)
    gain, ends = accuracy_gain(labels, guess, other, offsets, 3)
    scored = labels >= 0
    assert gain == pytest.approx((guess == labels)[scored].mean() - (other == labels)[scored].mean())
    assert ends is not None
    assert ends[0] < gain < ends[1]
    back, swapped = accuracy_gain(labels, other, guess, offsets, 3)
    assert back == -gain
    np.testing.assert_allclose(swapped, -ends[::-1])
    own = step_report(labels, np.eye(3)[guess], offsets)["intervals"]["accuracy"]
    assert ends[1] - ends[0] < (own[1] - own[0]) / 2
    nothing, none = accuracy_gain(labels, guess, guess, offsets, 3)
    assert nothing == 0
    np.testing.assert_array_equal(none, [0, 0])
    for keywords in ({"level": 0.5}, {"resamples": 50}, {"seed": 1}):
        changed = accuracy_gain(labels, guess, other, offsets, 3, **keywords)[1]  # type: ignore[arg-type]
        assert changed is not None
        assert not np.array_equal(changed, ends)
    with pytest.raises(ValueError, match="no step is labelled"):
        accuracy_gain(np.full(4, -1), np.zeros(4, int), np.zeros(4, int), [0, 4], 3)


# --- What can come between -------------------------------------------------------------------------------------------

TELLING = """
import time
from bilstm import cli, console

def tell(self, figures):
    print(f"{self._what}epoch {figures['epoch']}", flush=True)
    if self._what:
        time.sleep(60)

console.Progress.__call__ = tell
cli.main()
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
        told = f"stopped in training the baseline: {path} has none; the same command with --resume goes on"
        assert errors == f"bilstm: {told}\n"
    assert Tagger.load(path).baseline is None
    bilstm(*kept)
    assert path.read_bytes() == model.read_bytes()
    assert not checkpoint.exists()


def test_one_that_diverges_is_left_out(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(*_: Any, **__: Any) -> Tagger:
        raise DivergedError("the loss is no longer a finite number: try a smaller learning rate")

    monkeypatch.setattr(training, "train_baseline", diverge)
    path = table.with_name("model")
    said = bilstm("train", table, *SMALL, "--out", path).stderr
    assert said.startswith("bilstm: there is no baseline, since without recurrence the loss is no longer a finite")
    assert Tagger.load(path).baseline is None
