"""What `bilstm evaluate` finds and says, on labels of every kind."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from click.testing import CliRunner

from bilstm.cli import commands
from bilstm.metrics import event_report, span_report, step_report
from bilstm.model import TrainedModel
from bilstm.model.evaluation import evaluate

SMALL = ["--units", "4", "--layers", "1", "--epochs", "4", "--learning-rate", "0.05", "--quiet", "--no-baseline"]
CALIBRATED = (("log loss", "log_loss"), ("calibration error", "calibration_error"))
STATES = ["rest", "jump", "run"]


def bilstm(*arguments: Any) -> str:
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def movements(path: Path, sequences: int, seed: int) -> Path:
    """Runs of three states and a noisy signal of them; some steps have no label."""
    rng = np.random.default_rng(seed)
    lines = ["id,t,x,state"]
    for sequence in range(sequences):
        states = np.repeat(rng.integers(0, 3, 8), rng.integers(2, 6, 8))
        for step, state in enumerate(states.tolist()):
            label = "" if rng.random() < 0.02 else STATES[state]
            lines.append(f"{sequence},{step},{state - 1 + rng.normal(0, 0.4):.4f},{label}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a model of movements, `model`, a table to score it by, `test.csv`, and one of a single sequence."""
    folder = tmp_path_factory.mktemp("evaluation")
    table = movements(folder / "train.csv", 40, seed=0)
    columns = ["--sequence", "id", "--order", "t", "--label", "state"]
    bilstm("train", table, *columns, *SMALL, "--out", folder / "model")
    movements(folder / "test.csv", 20, seed=1)
    movements(folder / "one.csv", 1, seed=2)
    return folder


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a model of names, `model`, and the table it was trained on, `train.conll`."""
    folder = tmp_path_factory.mktemp("names")
    phrases = ["Ada\tB-PER\nByron\tI-PER\n", "Paris\tB-LOC\n", "in\tO\n", "met\tO\n", "New\tB-LOC\nYork\tI-LOC\n"]
    rng = np.random.default_rng(0)
    sentences = ["".join(phrases[i] for i in rng.integers(0, 5, rng.integers(1, 6))) for _ in range(120)]
    (folder / "train.conll").write_text("\n".join(sentences))
    bilstm("train", folder / "train.conll", *SMALL, "--out", folder / "model")
    return folder


def evaluated(folder: Path, *arguments: Any, table: str = "test.csv") -> dict[str, Any]:
    report = json.loads(bilstm("evaluate", folder / "model", folder / table, "--json", *arguments))
    assert isinstance(report, dict)
    return report


def predictions(folder: Path, table: str) -> tuple[TrainedModel, Any, np.ndarray]:
    model = TrainedModel.load(folder / "model")
    data = model.read(folder / table, with_truth=True)
    return model, data, model.outputs(data.values).values


def test_the_scores_of_steps(folder: Path) -> None:
    report = evaluated(folder)
    model, data, probabilities = predictions(folder, "test.csv")
    expected = step_report(data.known, probabilities, data.values.offsets)
    classes = model.task.classes
    assert report["per_class"] == dict(zip(classes, expected.pop("per_class"), strict=True))
    assert {name: report[name] for name in expected} == expected
    assert (report["sequences"], report["steps"]) == (20, int((data.known >= 0).sum()))
    assert (report["spans"], report["events"], report["notes"]) == (None, None, [])
    for name in classes:
        assert sum(report["confusion"][name].values()) == report["per_class"][name]["support"]
        right = report["confusion"][name][name]
        assert right / report["per_class"][name]["support"] == pytest.approx(report["per_class"][name]["recall"])


def test_what_is_printed(folder: Path) -> None:
    report, said = evaluated(folder), bilstm("evaluate", folder / "model", folder / "test.csv").splitlines()
    assert said[0] == f"{folder / 'test.csv'}: 20 sequences, {report['steps']:,} labelled steps"
    for line, (name, key) in zip(
        said[1:6],
        [
            ("accuracy", "accuracy"),
            ("balanced accuracy", "balanced_accuracy"),
            ("mean F1", "macro_f1"),
            ("log loss", "log_loss"),
            ("calibration error", "calibration_error"),
        ],
        strict=True,
    ):
        low, high = report["intervals"].get(key, (None, None))
        interval = "" if low is None else f" [{low:.4f}, {high:.4f}]"
        assert line == f"{name:17}  {report[key]:.4f}{interval}"
        assert low is None or low < report[key] < high
    assert said[6] == f"always guessing the majority class: accuracy {report['majority']:.4f}"
    assert said[7] == "in brackets: 95 % intervals, from resampling whole sequences 2,000 times"
    assert [line.split() for line in said[8:]] == [
        ["class", "precision", "recall", "F1", "steps"],
        *(
            [name, *(f"{scores[key]:.4f}" for key in ("precision", "recall", "f1")), f"{scores['support']:,}"]
            for name, scores in report["per_class"].items()
        ),
    ]


def test_one_sequence_tells_nothing_of_others(folder: Path) -> None:
    assert evaluated(folder, table="one.csv")["intervals"] is None
    said = bilstm("evaluate", folder / "model", folder / "one.csv")
    assert "[" not in said
    assert "in brackets" not in said


@pytest.mark.parametrize("tolerance", [0, 2])
@pytest.mark.parametrize("background", [None, "rest", "run"])
def test_events(folder: Path, tolerance: int, background: str | None) -> None:
    options = ["--events", tolerance, *([] if background is None else ["--background", background])]
    found = evaluated(folder, *options)["events"]
    model, data, probabilities = predictions(folder, "test.csv")
    classes = model.task.classes
    expected = event_report(
        data.known,
        probabilities.argmax(axis=1),
        data.values.offsets,
        3,
        onset_tolerance=tolerance,
        offset_tolerance=tolerance,
        background=None if background is None else classes.index(background),
    )
    by_name = dict(zip(classes, expected.pop("per_class"), strict=True))
    by_name.pop(background or "", None)
    assert found == {"tolerance": tolerance, "background": background, "per_class": by_name, **expected}
    assert sum(scores["support"] for scores in by_name.values()) > 50
    said = bilstm("evaluate", folder / "model", folder / "test.csv", *options).splitlines()
    low, high = found["intervals"]["f1"]
    start = said.index(
        f"events, first and last step off by {tolerance} steps at most: F1 {found['f1']:.4f} [{low:.4f}, {high:.4f}], "
        f"precision {found['precision']:.4f}, recall {found['recall']:.4f}"
    )
    assert [line.split()[0] for line in said[start + 1 :]] == ["event", *by_name]


def test_more_tolerance_finds_more_events(folder: Path) -> None:
    strict, lax = (evaluated(folder, "--events", steps)["events"]["f1"] for steps in (0, 2))
    assert 0 < strict < lax < 1


def test_spans(names: Path) -> None:
    report = evaluated(names, table="train.conll")
    model, data, probabilities = predictions(names, "train.conll")
    predicted = probabilities.argmax(axis=1)
    classes = model.task.classes
    assert report["spans"] == span_report(data.known, predicted, data.values.offsets, classes)
    assert report["spans"]["f1"] > 0.9
    assert list(report["spans"]["per_class"]) == ["LOC", "PER"]
    said = bilstm("evaluate", names / "model", names / "train.conll").splitlines()
    start = next(i for i, line in enumerate(said) if line.startswith(f"spans: F1 {report['spans']['f1']:.4f}"))
    assert [line.split()[0] for line in said[start + 1 : start + 4]] == ["type", "LOC", "PER"]
    errors = report["spans"]["errors"]
    true = {name: sum(counts[name] for counts in errors["true"].values()) for name in errors["true"]["LOC"]}
    expected = f"of {sum(true.values())} true spans, {true['boundary']} predicted with another boundary, "
    assert said[start + 4].startswith(f"{expected}{true['type']} with another type, {true['both']} with both, ")
    assert said[start + 5 :] == [f"note: {note}" for note in report["notes"]]


def test_spans_and_events_together(names: Path) -> None:
    report = evaluated(names, "--events", 0, "--background", "O", table="train.conll")
    assert report["spans"]["f1"] > 0.9
    assert set(report["events"]["per_class"]) == {"B-LOC", "B-PER", "I-LOC", "I-PER"}


def test_labels_that_training_never_saw_are_wrong(folder: Path) -> None:
    lines = (folder / "test.csv").read_text().splitlines()
    lines[1::9] = [line.rpartition(",")[0] + ",fall" for line in lines[1::9]]
    (folder / "fall.csv").write_text("\n".join(lines) + "\n")
    report = evaluated(folder, "--events", 1, table="fall.csv")
    model, _, probabilities = predictions(folder, "test.csv")
    names = [*model.task.classes, "fall"]
    truth = np.array([line.rpartition(",")[2] for line in lines[1:]])
    predicted = np.array(names)[probabilities.argmax(axis=1)]
    truth, predicted, rows = truth[truth != ""], predicted[truth != ""], probabilities[truth != ""]
    expected = sklearn.metrics.classification_report(truth, predicted, output_dict=True, zero_division=0)
    assert report["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(truth, predicted), abs=0)
    assert report["macro_f1"] == pytest.approx(expected["macro avg"]["f1-score"])
    assert list(report["per_class"]) == names
    assert report["per_class"]["fall"]["recall"] == report["events"]["per_class"]["fall"]["recall"] == 0
    assert (
        report["per_class"]["fall"]["support"] == sum(report["confusion"]["fall"].values()) == (truth == "fall").sum()
    )
    for name in names[:3]:
        assert report["per_class"][name]["precision"] == pytest.approx(expected[name]["precision"])
    padded = np.hstack([rows, np.zeros((len(rows), 1), np.float32)])
    columns = [names.index(name) for name in truth]
    losses = -np.log(padded[np.arange(len(rows)), columns].clip(np.finfo(np.float32).eps, 1).astype(float))
    assert report["log_loss"] == pytest.approx(losses.mean())
    steps = (truth == "fall").sum()
    note = f"{steps} steps with a label that is unknown to the model ('fall'), counted as wrong"
    assert report["notes"] == [note]
    assert bilstm("evaluate", folder / "model", folder / "fall.csv").endswith(f"\nnote: {note}\n")


def test_a_type_of_span_that_training_never_saw_is_missed(names: Path) -> None:
    text = (names / "train.conll").read_text()
    (names / "other.conll").write_text(text + "\nNile\tB-RIVER\n\nNile\tB-RIVER\n")
    report = evaluated(names, table="other.conll")
    assert report["spans"]["per_class"]["RIVER"]["support"] == 2
    assert report["spans"]["per_class"]["RIVER"]["recall"] == 0
    assert report["spans"]["recall"] < evaluated(names, table="train.conll")["spans"]["recall"]


def test_a_report_holds_only_what_json_can(folder: Path) -> None:
    model, data, _ = predictions(folder, "test.csv")
    report = evaluate(model, data, tolerance=1)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert all(math.isfinite(report[name]) for name in report if isinstance(report[name], float))


# --- Notes and cautions ----------------------------------------------------------------------------------------------


def notes(folder: Path, table: Path, *arguments: Any) -> list[str]:
    """The notes, which are printed, too."""
    found = json.loads(bilstm("evaluate", folder / "model", table, "--json", *arguments))["notes"]
    printed = bilstm("evaluate", folder / "model", table, *arguments).splitlines()
    assert [line for line in printed if line.startswith("note: ")] == [f"note: {note}" for note in found]
    return [str(note) for note in found]


def changed(folder: Path, source: str, change: Any) -> Path:
    """A copy of a table with something else as each row's x."""
    header, *rows = (folder / source).read_text().splitlines()
    lines = [row.split(",") for row in rows]
    for number, cells in enumerate(lines):
        cells[2] = change(number, cells[2])
    (folder / "changed.csv").write_text("\n".join([header, *(",".join(cells) for cells in lines)]) + "\n")
    return folder / "changed.csv"


def test_sequences_that_training_had(folder: Path) -> None:
    assert notes(folder, folder / "test.csv") == []
    (note,) = notes(folder, folder / "train.csv")
    assert note == "about 100 % of the sequences were in the training data, so the scores are too good to be true"
    header, *seen = (folder / "train.csv").read_text().splitlines()
    new = (folder / "test.csv").read_text().splitlines()[1:]
    seen = [row for row in seen if int(row.split(",")[0]) < 10]
    both = [f"new{row}" for row in new]  # 20 sequences
    (folder / "both.csv").write_text("\n".join([header, *seen, *both]) + "\n")
    assert [note.partition(" of")[0] for note in notes(folder, folder / "both.csv")] == ["about 33 %"]


def test_values_that_are_far_from_those_of_training(folder: Path) -> None:
    (note,) = notes(folder, changed(folder, "test.csv", lambda _, cell: f"{1000 * float(cell):.1f}"))
    assert note.startswith("x: values lie ")
    assert note.endswith(
        " standard deviations from the training mean on average; are the units the same as in training?"
    )
    predicted = bilstm("predict", folder / "model", folder / "changed.csv", "--out", folder / "out.csv")
    assert f"note: {note}\n" in predicted


def test_missing_values(folder: Path) -> None:
    (note,) = notes(folder, changed(folder, "test.csv", lambda number, cell: "" if number % 50 == 0 else cell))
    count = len((folder / "test.csv").read_text().splitlines()) // 50 + 1
    assert note == f"x: {count} missing values, imputed with the mean of the training rows; training had none"


def test_few_sequences_are_cautioned_of(folder: Path) -> None:
    movements(folder / "few.csv", 5, seed=3)
    for table, few in (("few.csv", True), ("test.csv", False)):
        caution = evaluated(folder, table=table)["caution"]
        printed = bilstm("evaluate", folder / "model", folder / table)
        assert (f"\ncaution: {caution}\n" in printed) == few
        assert ("caution" in printed) == few


def test_groups_are_resampled_whole(folder: Path) -> None:
    header, *rows = (folder / "test.csv").read_text().splitlines()
    grouped = folder / "groups.csv"
    grouped.write_text("\n".join([f"{header},who", *(f"{row},{int(row.split(',')[0]) // 2}" for row in rows)]) + "\n")
    alone, together = evaluated(folder, table="groups.csv"), evaluated(folder, "--group", "who", table="groups.csv")
    assert (alone["clusters_of"], together["clusters_of"]) == ("sequences", "groups")
    assert together["accuracy"] == alone["accuracy"]
    assert together["intervals"]["accuracy"] != alone["intervals"]["accuracy"]
    printed = bilstm("evaluate", folder / "model", grouped, "--group", "who")
    assert "\nin brackets: 95 % intervals, from resampling whole groups 2,000 times\n" in printed
    model = TrainedModel.load(folder / "model")
    assert model.evaluate(grouped, group="who")["intervals"] == together["intervals"]


def test_scores_of_probabilities_before_they_were_scaled(folder: Path, tmp_path: Path) -> None:
    options = ["--sequence", "id", "--order", "t", "--label", "state", "--validation-split", 0.3]
    for name, more in (("model", []), ("raw", ["--no-calibrate"])):
        bilstm("train", folder / "train.csv", *options, *SMALL, *more, "--out", tmp_path / name)
    (tmp_path / "test.csv").write_bytes((folder / "test.csv").read_bytes())
    report = evaluated(tmp_path)
    raw = json.loads(bilstm("evaluate", tmp_path / "raw", tmp_path / "test.csv", "--json"))
    assert report["temperature"] != 1
    assert (raw["temperature"], raw["uncalibrated"]) == (1, None)
    for name in ("log_loss", "calibration_error"):
        assert report["uncalibrated"][name] == pytest.approx(raw[name], rel=1e-4)
        assert report[name] != raw[name]
    assert report["accuracy"] == raw["accuracy"]
    printed = bilstm("evaluate", tmp_path / "model", tmp_path / "test.csv")
    figures = ", ".join(f"{n} {report['uncalibrated'][k]:.4f}" for n, k in CALIBRATED)
    assert f"\nbefore scaling by a temperature of {report['temperature']:.3g}: {figures}\n" in printed
    assert "before scaling" not in bilstm("evaluate", tmp_path / "raw", tmp_path / "test.csv")
