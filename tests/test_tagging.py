"""Models whose labels a CRF predicts together, trained and used through every front."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

import bilstm
from bilstm.cli import commands
from bilstm.errors import ModelFileError, UserError
from bilstm.estimators import SequenceClassifier, SequenceRegressor, SequenceTagger
from bilstm.metrics import ClassScores, span_report
from bilstm.metrics.schemes import find_transitions, forbidden_transitions
from bilstm.model import TrainedModel
from bilstm.modelfile import read_model, write_model
from bilstm.report.findings import examine
from bilstm.report.reach import step_scores
from bilstm.tasks import Outputs
from oracles.models import bits

SMALL: dict[str, Any] = {"units": 4, "layers": 1, "epochs": 2, "validation_split": 0.2, "seed": 3}
CRF: dict[str, Any] = {**SMALL, "output": "crf"}
FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in CRF.items()]
# How each scheme marks a span of so many steps.
MARKS: dict[str, Callable[[int], str]] = {
    "IOB2": lambda steps: "B" + "I" * (steps - 1),
    "IOE2": lambda steps: "I" * (steps - 1) + "E",
    "IOBES": lambda steps: "S" if steps == 1 else "B" + "I" * (steps - 2) + "E",
    "BILOU": lambda steps: "U" if steps == 1 else "B" + "I" * (steps - 2) + "L",
    "BMES": lambda steps: "S" if steps == 1 else "B" + "M" * (steps - 2) + "E",
}


def tagged(scheme: str, sequences: int, seed: int) -> list[tuple[list[float], list[str]]]:
    """Values that say little about tags: a network of two epochs alone would break the scheme often."""
    rng = np.random.default_rng(seed)
    data = []
    for _ in range(sequences):
        tags: list[str] = []
        while len(tags) < rng.integers(3, 12):
            steps = int(rng.integers(1, 4))
            type_ = rng.choice(["X", "Y", ""])
            tags += [f"{mark}-{type_}" for mark in MARKS[scheme](steps)] if type_ else ["O"] * steps
        values = [round(float(rng.normal() + (tag != "O")), 3) for tag in tags]
        data.append((values, tags))
    return data


def table(scheme: str, sequences: int, seed: int) -> pd.DataFrame:
    return pd.DataFrame(
        {"id": f"s{number}", "x": x, "y": tag}
        for number, (values, tags) in enumerate(tagged(scheme, sequences, seed))
        for x, tag in zip(values, tags, strict=True)
    )


def run(*arguments: Any, given: str | None = None, status: int = 0) -> Result:
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments], input=given)
    assert result.exit_code == status, result.output
    return result


def streamed(model: Path, lines: str) -> list[dict[str, Any]]:
    """The answers for JSON objects from standard input."""
    answers = run("predict", model, "-", "--out=-", "--quiet", given=lines).stdout
    return [json.loads(line) for line in answers.splitlines()]


@pytest.fixture(scope="module")
def models() -> dict[str, TrainedModel]:
    return {name: bilstm.train(table(name, 40, 1), label="y", sequence="id", **CRF) for name in MARKS}


@pytest.fixture(scope="module")
def test_set() -> pd.DataFrame:
    return table("IOBES", 30, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, test_set: pd.DataFrame) -> Path:
    """A table, the model that the command line trains on it, and a test set."""
    folder = tmp_path_factory.mktemp("crf")
    table("IOBES", 40, 1).to_csv(folder / "train.csv", index=False)
    test_set.to_csv(folder / "test.csv", index=False)
    said = run("train", folder / "train.csv", "--label=y", "--sequence=id", "--out", folder / "model", *FLAGS).stdout
    (folder / "said").write_text(said)
    return folder


# --- Laws ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", MARKS)
def test_predictions_never_break_the_scheme(scheme: str, models: dict[str, TrainedModel]) -> None:
    """Whatever the weights are."""
    model, rng = copy.deepcopy(models[scheme]), np.random.default_rng(0)
    assert (model.task.output, model.task.scheme) == ("crf", scheme)  # type: ignore[attr-defined]
    data = model.read(table(scheme, 60, 7), with_truth=True)
    forbidden = forbidden_transitions(model.task.classes, scheme)  # type: ignore[attr-defined]
    assert not len(find_transitions(data.known, data.values.offsets, forbidden))
    alone = 0
    for _ in range(5):
        model.network.set_weights([rng.normal(0, 2, each.shape) for each in model.network.get_weights()])
        outputs = model.outputs(data.values)
        assert not len(find_transitions(outputs.labels, data.values.offsets, forbidden))
        alone += len(find_transitions(Outputs(outputs.values).labels, data.values.offsets, forbidden))
    assert alone  # each step's likeliest label would break it


def test_labels_are_the_path_and_probabilities_the_marginals(
    models: dict[str, TrainedModel], test_set: pd.DataFrame
) -> None:
    model = models["IOBES"]
    data = model.read(test_set)
    outputs = model.outputs(data.values)
    ((labels, _),) = model.network.decode(data.values)
    assert outputs.labels.tolist() == labels.values[:, 0].tolist()
    assert bits(outputs.values) == bits(model.network.predict_rows(data.values))
    assert model.predict(test_set).tolist() == model.task.labels[outputs.labels].tolist()  # type: ignore[attr-defined]
    assert bits(model.predict_proba(test_set)) == bits(outputs.values)
    rounded = copy.copy(model)
    rounded.precision = "bfloat16"
    ((labels, _),) = model.network.decode(data.values, precision="bfloat16")
    assert rounded.outputs(data.values).labels.tolist() == labels.values[:, 0].tolist()
    assert bits(rounded.outputs(data.values).values) != bits(outputs.values)
    chosen = outputs[::2]
    assert (chosen.labels.tolist(), len(chosen)) == (outputs.labels[::2].tolist(), (len(outputs) + 1) // 2)
    assert chosen.confidences.tolist() == outputs.values[np.arange(len(outputs)), outputs.labels][::2].tolist()


def test_a_sequence_does_not_depend_on_others(models: dict[str, TrainedModel], test_set: pd.DataFrame) -> None:
    model = models["IOBES"]
    data = model.read(test_set)
    whole = model.outputs(data.values)
    for sequence in range(len(data)):
        rows = slice(*data.values.offsets[sequence : sequence + 2])
        alone = model.outputs(data.values[sequence : sequence + 1])
        assert alone.labels.tolist() == whole.labels[rows].tolist()
        assert bits(alone.values) == bits(whole.values[rows])
    chunks = [outputs for _, _, outputs in model.output_chunks(data.values, width=1 << 20)]
    assert len(chunks) > 1
    assert np.concatenate([chunk.labels for chunk in chunks]).tolist() == whole.labels.tolist()


def test_a_saved_model_is_the_same(models: dict[str, TrainedModel], test_set: pd.DataFrame, tmp_path: Path) -> None:
    model = models["IOBES"]
    model.save(tmp_path / "model")
    again = bilstm.load(tmp_path / "model")
    assert again.task == model.task
    assert again.baseline is not None
    assert again.baseline.task.output == "softmax"  # type: ignore[attr-defined]
    assert again.predict(test_set).tolist() == model.predict(test_set).tolist()
    assert bits(again.predict_proba(test_set)) == bits(model.predict_proba(test_set))
    adapted = again.adapted(sequence="other")
    other = test_set.rename(columns={"id": "other"})
    assert adapted.predict(other).tolist() == model.predict(test_set).tolist()
    assert adapted.baseline is not None
    assert adapted.baseline.predict(other).tolist() == again.baseline.predict(test_set).tolist()


@pytest.mark.parametrize("direction", ["forward", "none"])
def test_any_network_has_a_crf(direction: str, test_set: pd.DataFrame) -> None:
    model = bilstm.train(table("IOBES", 20, 1), label="y", sequence="id", direction=direction, **CRF)
    assert model.training["calibration"] is None
    labels = set(model.predict(test_set))
    assert labels <= set(model.task.classes)  # type: ignore[attr-defined]


def test_long_sequences_are_not_cut() -> None:
    """A piece may begin with a label with which no sequence does."""
    tags = ["B-X", *["I-X"] * 400, "O"] * 2
    frame = pd.DataFrame({"id": np.repeat([1, 2, 3], len(tags)), "x": 1.0, "y": tags * 3})
    model = bilstm.train(frame, label="y", sequence="id", baseline=False, **CRF | {"validation_split": 0, "epochs": 1})
    assert np.isfinite(model.training["history"]["loss"]).all()
    assert set(zip(["", *model.predict(frame)], model.predict(frame), strict=False)) <= {
        (before, after)
        for before, after in [*zip(["", *tags], tags, strict=False), *((a, b) for a in tags for b in tags)]
        if after != "I-X" or before in ("B-X", "I-X")
    }


# --- Fronts ----------------------------------------------------------------------------------------------------------


def test_every_front_trains_the_same(folder: Path) -> None:
    trained = TrainedModel.load(folder / "model")
    frame = pd.read_csv(folder / "train.csv")
    by_function = bilstm.train(folder / "train.csv", label="y", sequence="id", **CRF)
    options = {name: value for name, value in CRF.items() if name != "seed"}
    tagger = SequenceTagger(sequence="id", random_state=3, baseline=True, **options).fit(frame[["id", "x"]], frame["y"])
    (folder / "options.toml").write_text(
        'label = "y"\nsequence = "id"\n' + "".join(f"{name} = {json.dumps(value)}\n" for name, value in CRF.items())
    )
    run("train", folder / "train.csv", "--config", folder / "options.toml", "--out", folder / "toml", "--quiet")
    others = [by_function, tagger.model_, TrainedModel.load(folder / "toml")]
    for other in others:
        assert [bits(each) for each in other.network.get_weights()] == [
            bits(each) for each in trained.network.get_weights()
        ]
    assert others[0].task == trained.task
    said = (folder / "said").read_text()
    assert "\noutput: a CRF that forbids the transitions which the scheme IOBES (detected) does not have\n" in said


def test_every_front_predicts_the_path(folder: Path, test_set: pd.DataFrame) -> None:
    model = TrainedModel.load(folder / "model")
    expected, probabilities = model.predict(test_set).tolist(), model.predict_proba(test_set)
    classes = list(model.task.classes)  # type: ignore[attr-defined]
    of_path = probabilities[np.arange(len(expected)), [classes.index(label) for label in expected]]
    run("predict", folder / "model", folder / "test.csv", "--out", folder / "out.csv", "--top", 3, "--quiet")
    written = pd.read_csv(folder / "out.csv")
    assert written["predicted"].tolist() == expected
    assert written["probability"].to_numpy() == pytest.approx(of_path, abs=1e-6)
    assert (written["probability_2"] > written["probability"]).any()  # of the label at its step, not of the path
    assert (written["probability_2"] >= written["probability_3"]).all()
    assert (written["predicted"] != written["predicted_2"]).all()

    lines = "".join(json.dumps(row) + "\n" for row in test_set[["id", "x"]].to_dict("records"))
    answers = [
        json.loads(line)
        for line in run("predict", folder / "model", "-", "--out=-", "--quiet", given=lines).stdout.splitlines()
    ]
    assert [answer["predicted"] for answer in answers] == expected
    lists = "".join(json.dumps({"x": of["x"].tolist()}) + "\n" for _, of in test_set.groupby("id", sort=False))
    answers = [
        json.loads(line)
        for line in run("predict", folder / "model", "-", "--out=-", "--quiet", given=lists).stdout.splitlines()
    ]
    assert [label for answer in answers for label in answer["predicted"]] == expected

    tagger = SequenceTagger.load(folder / "model")
    assert (tagger.output, tagger.scheme) == ("crf", None)
    assert tagger.predict(test_set[["id", "x"]]).tolist() == expected
    assert tagger.score(test_set[["id", "x"]], test_set["y"]) == np.mean(np.array(expected) == test_set["y"])

    events = run("predict", folder / "model", folder / "test.csv", "--out", folder / "events.csv", "--events")
    assert events.exit_code == 0
    found = pd.read_csv(folder / "events.csv")
    runs = (test_set["id"] != test_set["id"].shift()) | (pd.Series(expected) != pd.Series(expected).shift())
    assert found["label"].tolist() == [label for label, first in zip(expected, runs, strict=True) if first]
    means = pd.Series(of_path.astype(float)).groupby(runs.cumsum()).mean()
    assert found["confidence"].to_numpy() == pytest.approx(means.to_numpy(), abs=1e-6)


def test_scores_are_of_the_path(folder: Path, test_set: pd.DataFrame, tmp_path: Path) -> None:
    model = TrainedModel.load(folder / "model")
    data = model.read(test_set, with_truth=True)
    outputs = model.outputs(data.values)
    right = outputs.labels == data.known
    assert right.mean() != (outputs.values.argmax(axis=1) == data.known).mean()
    report = json.loads(run("evaluate", folder / "model", folder / "test.csv", "--json", "--events", 0).stdout)
    assert report["accuracy"] == right.mean()
    assert (report["temperature"], report["uncalibrated"]) == (1.0, None)
    classes = model.task.classes  # type: ignore[attr-defined]
    assert report["spans"] == span_report(data.known, outputs.labels, data.values.offsets, classes)
    assert sum(row.get(name, 0) for name, row in report["confusion"].items()) == right.sum()
    curve = report["calibration"]
    assert sum(each["confidence"] * each["steps"] for each in curve) == pytest.approx(outputs.confidences.sum())
    assert sum(each["accuracy"] * each["steps"] for each in curve) == pytest.approx(right.sum())
    found = examine(model, test_set)
    assert found["confidence"]["share"] == (outputs.confidences >= 0.9).mean()
    names = [*classes]
    assert found["predicted"] == {name: int((outputs.labels == code).sum()) for code, name in enumerate(names)}
    worst = found["worst"][0]
    rows = test_set[test_set["id"] == worst["name"]]
    assert worst["targets"]["predicted"] == model.predict(rows).tolist()
    assert np.array_equal(step_scores(model.task, data.known, outputs), right)
    run("evaluate", folder / "model", folder / "test.csv", "--report", tmp_path / "page.html")
    assert "CRF" in (tmp_path / "page.html").read_text()


def test_the_validation_accuracy_is_that_of_predictions(test_set: pd.DataFrame) -> None:
    """What decides which epoch is the best is what `evaluate` finds of it."""
    options = CRF | {"epochs": 4, "baseline": False}
    model = bilstm.train(table("IOBES", 40, 1), label="y", sequence="id", valid=test_set, **options)
    history, best = model.training["history"]["val_accuracy"], model.training["best_epoch"] - 1
    assert history[best] == model.evaluate(test_set)["accuracy"]
    assert max(history) == history[best]


def test_outputs_are_compared(folder: Path) -> None:
    report = json.loads(
        run(
            *("compare", folder / "train.csv", "--label=y", "--sequence=id", "--vary=output=softmax,crf", "--seeds=1"),
            *("--units=4", "--layers=1", "--epochs=2", "--scheme=BIOES", "--json", "--quiet"),
        ).stdout
    )
    softmax, crf = report["variants"]
    assert (softmax["name"], crf["name"]) == ("softmax", "CRF")
    labels = 9
    assert crf["parameters"] - softmax["parameters"] == labels * labels + 2 * labels
    assert report["score"] == "span_f1"
    several = bilstm.compare(
        table("IOB2", 30, 1),
        label="y",
        sequence="id",
        vary={"output": ["crf", "softmax"], "scheme": [None, "none", "IOB2"]},
        seeds=1,
        units=3,
        layers=1,
        epochs=1,
    )
    names = [each["name"] for each in several["variants"]]
    assert names == ["CRF, scheme detected", "CRF, scheme none", "CRF, scheme IOB2", "softmax"]


def test_predicted_labels_of_scores() -> None:
    scores = ClassScores([True], 3)
    values = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    scores.add([0, 1], values, [0, 2], predicted=[1, 1])
    report = scores.report()
    assert report["accuracy"] == 0.5
    assert [each["confidence"] for each in report["calibration"]] == pytest.approx([0.2, 0.3])
    with pytest.raises(ValueError, match="classes must be integers from 0 to 2"):
        ClassScores([True], 3).add([0, 1], values, [0, 2], predicted=[1, 3])


# --- Schemes ---------------------------------------------------------------------------------------------------------


def said_of(path: Path, *options: Any) -> list[str]:
    out = path.parent / "model"
    return run("train", path, "--out", out, "--no-baseline", *FLAGS, *options).stdout.splitlines()


def test_labels_that_break_their_scheme_are_reported_and_allowed(tmp_path: Path) -> None:
    text = "Ada B-P\nmet O\nBob B-P\nLee I-P\n\n" * 9
    path = tmp_path / "train.conll"
    path.write_text(text.replace("met O\nBob B-P", "met O\nBob I-P", 1) + "x I-P\n\n")
    said = said_of(path, "--validation-split=0")
    assert (
        f"note: {path}, line 3: 'I-P' after 'O' breaks the scheme IOB2, and 1 other step does; transitions that occur "
        f"in the data are not forbidden"
    ) in said
    model = TrainedModel.load(tmp_path / "model")
    assert model.network.layers[-1].forbidden is None  # type: ignore[attr-defined]
    data = model.read(path, with_truth=True)
    truth = data.values.with_values(data.known[:, np.newaxis])
    assert np.isfinite(model.network.log_likelihoods(data.values, truth)).all()


def test_the_validation_set_counts_as_well(tmp_path: Path) -> None:
    (tmp_path / "train.conll").write_text("Ada B-P\nmet O\nBob B-P\nLee I-P\n\n" * 9)
    (tmp_path / "valid.conll").write_text("Ada B-P\nmet O\nBob I-P\n\n")
    said = said_of(tmp_path / "train.conll", "--valid", tmp_path / "valid.conll")
    assert "note: validation set: 'I-P' after 'O' breaks the scheme IOB2; transitions that" in "\n".join(said)
    assert np.isfinite(TrainedModel.load(tmp_path / "model").training["history"]["val_loss"]).all()


@pytest.mark.parametrize(
    ("options", "expected", "forbidden"),
    [
        ([], "the scheme IOB2 (detected)", 2),
        (["--scheme=bio"], "the scheme IOB2 (as stated)", 2),
        (["--scheme=IOB1"], "the scheme IOB1 (as stated)", 0),
        (["--scheme=none"], "allows all transitions between labels (scheme none)", 0),
    ],
)
def test_the_scheme_is_chosen(options: list[str], expected: str, forbidden: int, tmp_path: Path) -> None:
    (tmp_path / "train.conll").write_text("Ada B-P\nmet O\nBob B-P\nLee I-P\n\n" * 9)
    said = "\n".join(said_of(tmp_path / "train.conll", *options))
    assert expected in said
    layer = TrainedModel.load(tmp_path / "model").network.layers[-1]
    assert (0 if layer.forbidden is None else layer.forbidden.sum()) == forbidden  # type: ignore[attr-defined]


def test_labels_without_a_scheme(capsys: pytest.CaptureFixture[str]) -> None:
    X, y = [np.ones((3, 1))] * 6, [[1, 2, 1], [2, 2, 2]] * 3
    tagger = SequenceTagger(verbose=True, units=2, layers=1, epochs=1, output="crf", random_state=1).fit(X, y)
    assert "output: a CRF that allows all transitions between labels (labels are no tags such as" in (
        capsys.readouterr().out
    )
    assert tagger.predict(X)[0].dtype == np.int64
    with pytest.raises(ValueError, match=r"the label '1' is none of the scheme IOB2, whose tags are B-X, I-X and O"):
        SequenceTagger(output="crf", scheme="BIO", units=2, epochs=1).fit(X, y)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            ["B-X", "I-X", "noun"],
            "line 3: 'noun' is no tag, but 'B-X', 'I-X' look like tags, so that labels have no sch",
        ),
        (["B-X", "E-X", "L-X"], "line 3: 'L-X' is of no scheme that has 'B-X', 'E-X', so that labels have no scheme"),
        (["O", "B_X", "I_X"], "line 2: 'B_X' looks like a tag, but tags are written as 'B-X', so that labels have no"),
        (["b-X", "i-X", "O"], "line 1: 'b-X' looks like a tag, but tags are written as 'B-X', so that labels have no"),
    ],
)
@pytest.mark.parametrize("output", ["softmax", "crf"])
def test_labels_of_a_mixed_scheme_are_reported(
    labels: list[str], message: str, output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the first that fits no scheme, whatever the output."""
    path = tmp_path / "train.conll"
    path.write_text("".join(f"x {label}\n" for label in labels) + "\n" + "y O\ny O\n\n" * 4)
    assert f"note: {path}, {message}" in "\n".join(said_of(path, "--validation-split=0", f"--output={output}"))
    SequenceTagger(verbose=True, units=2, layers=1, epochs=1, output=output).fit(
        [np.ones((3, 1))] * 4, [labels, ["O"] * 3] * 2
    )
    assert message.partition(": ")[2] in capsys.readouterr().out


@pytest.mark.parametrize("labels", [["E-mail", "S-Bahn", "O"], ["b-flat", "O", "i-x"], ["noun", "verb", "B_X"]])
def test_other_labels_are_not_taken_for_tags(labels: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    SequenceTagger(verbose=True, units=2, layers=1, epochs=1).fit([np.ones((3, 1))] * 4, [labels] * 4)
    assert "scheme" not in capsys.readouterr().out


def test_training_once_more(folder: Path) -> None:
    tagger = SequenceTagger(output="crf", units=2, layers=1, random_state=1)
    X, y = [np.ones((2, 1))] * 2, [["B-X", "I-X"], ["O", "B-X"]]
    tagger.partial_fit(X, y, classes=["B-X", "I-X", "O"])
    before = [bits(each) for each in tagger.model_.network.get_weights()]
    tagger.partial_fit(X, y)
    assert [bits(each) for each in tagger.model_.network.get_weights()] != before
    with pytest.raises(ValueError, match="y has 'I-X' after 'O', which the model forbids"):
        tagger.partial_fit(X, [["O", "I-X"], ["O", "O"]])
    with pytest.raises(ValueError, match="y has 'I-X' at the beginning of a sequence, which the model forbids"):
        tagger.partial_fit(X, [["I-X", "O"], ["O", "O"]])


# --- What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "output"),
    [
        ({}, "crf"),
        ({"scheme": "IOB2"}, "crf"),
        ({"output": "softmax"}, "softmax"),
        ({"class_weight": "balanced"}, "softmax"),
        ({"calibrate": True}, "softmax"),
        ({"window": 3}, "softmax"),
        ({"direction": "none"}, "softmax"),
    ],
)
def test_tags_are_predicted_together_unless_an_option_needs_a_softmax(options: dict[str, Any], output: str) -> None:
    model = bilstm.train(table("IOB2", 30, seed=1), label="y", sequence="id", **SMALL | options)
    assert model.task.output == output  # type: ignore[attr-defined]
    assert model.training["options"]["output"] == options.get("output")
    assert model.baseline is None or model.baseline.task.output == "softmax"  # type: ignore[attr-defined]


def test_labels_that_are_no_tags_and_long_sequences_have_a_softmax() -> None:
    frame = table("IOB2", 30, seed=1)
    plain = bilstm.train(
        frame.assign(y=frame["y"].map(lambda tag: "xyz"["BIO".index(tag[0])])), label="y", sequence="id", **SMALL
    )
    assert plain.task.output == "softmax"  # type: ignore[attr-defined]
    recordings = pd.concat([pd.concat([frame] * 3).assign(id=name) for name in "abcdef"])
    long = bilstm.train(recordings, label="y", sequence="id", **SMALL)
    assert long.task.output == "softmax"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "crf", "class_weight": "balanced"}, "class_weight weights the losses of steps, but with output"),
        ({"output": "crf", "calibrate": True}, "calibrate scales the logits of a softmax, which output 'crf' does not"),
        (
            {"output": "crf", "window": 3},
            "window cuts sequences, whose labels output .crf. predicts together",
        ),
        (
            {"output": "softmax", "scheme": "IOB2"},
            "scheme has no effect: it says which transitions outputs 'crf' and 'constrained' forbid",
        ),
        ({"output": "viterbi"}, "output must be one of None, 'softmax', 'constrained', 'crf', not 'viterbi'"),
        ({"output": "crf", "scheme": "XYZ"}, "scheme must be one of IO, IOB2, .* and none, not 'XYZ'"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bilstm.train(table("IOB2", 20, 1), label="y", sequence="id", **SMALL | options)


def test_other_tasks_have_no_crf(tmp_path: Path) -> None:
    X, y = [np.ones((3, 1))] * 8, ["a", "b"] * 4
    with pytest.raises(UserError, match="output 'crf' is for one label for each time step, but the task is sequence-l"):
        SequenceClassifier(output="crf", units=2, epochs=1).fit(X, y)
    with pytest.raises(UserError, match="one label for each time step, but the task is step-labels"):
        SequenceTagger(output="crf", units=2, epochs=1).fit(X, [np.ones((3, 2), int)] * 8)
    with pytest.raises(TypeError, match="output"):
        SequenceRegressor(output="crf")  # type: ignore[call-arg]
    table("IOB2", 20, 1).to_csv(tmp_path / "t.csv", index=False)
    flags = ["--label=x", "--sequence=id", "--task=step-quantity", "--out", tmp_path / "model", *FLAGS]
    assert "but the task is step-quantity" in run("train", tmp_path / "t.csv", *flags, status=2).output
    assert "'model' is not one of" in run("train", tmp_path / "t.csv", "--output", "model", status=2).output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output": "softmax"}, "its task have no valid 'output'"),
        ({"output": None}, "its task have no valid 'scheme'"),
        ({"output": None, "scheme": None}, "its network does not fit its columns"),
        ({"scheme": "XYZ"}, "its task have no valid 'scheme'"),
        ({"kind": "sequence-label"}, "its task have no valid 'output'"),
    ],
)
def test_damaged_files(changes: dict[str, Any], message: str, folder: Path, tmp_path: Path) -> None:
    tensors, header = read_model(folder / "model")
    write_model(tmp_path / "model", tensors, header | {"task": header["task"] | changes})
    with pytest.raises(ModelFileError, match=message):
        TrainedModel.load(tmp_path / "model")


def test_inspect_says_so(folder: Path) -> None:
    said = run("inspect", folder / "model").stdout
    assert "labels by a CRF; probabilities are not scaled by a temperature" in said
    assert re.search(r"\n  CRF +9 +99\n", said)
