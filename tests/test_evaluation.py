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
    return model, data, model.outputs(data.values)


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
    assert said[start + 4 :] == [f"note: {note}" for note in report["notes"]]


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
