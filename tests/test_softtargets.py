"""Targets that are not one label: probabilities of labels, and several labels of which one is right."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

import bilstm
from bilstm.cli import commands
from bilstm.data.fields import Fields
from bilstm.errors import ModelFileError, UserError
from bilstm.model import TrainedModel
from bilstm.tasks import LabelTask, task_from_json

pytestmark = pytest.mark.fast

SMALL: dict[str, Any] = {"units": 4, "layers": 1, "epochs": 3, "seed": 5}
LABELS = ("A", "B", "O")
SOFT = [f"p_{label}" for label in LABELS]
COLUMNS: dict[str, Any] = {"sequence": "id", "features": ["w"]}


def soften(labels: Any, certainty: float = 0.7) -> np.ndarray:
    """(rows, 3) probabilities."""
    rest = (1 - certainty) / 2
    return np.where(np.array(labels)[:, None] == np.array(LABELS), certainty, rest)


def made(sequences: int = 40, seed: int = 0) -> pd.DataFrame:
    """Steps of four words, each with its label."""
    rng = np.random.default_rng(seed)
    words = rng.choice(list("abcd"), sequences * 4)
    labels = [{"a": "A", "b": "A", "c": "B", "d": "O"}[word] for word in words]
    frame = pd.DataFrame({"id": np.repeat([f"s{i}" for i in range(sequences)], 4), "w": words, "label": labels})
    frame[SOFT] = soften(labels)
    return frame


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("soft")
    made().drop(columns="label").to_csv(folder / "soft.csv", index=False)
    partial = made()
    partial["label"] = [f"{label}|O" if i % 3 else label for i, label in enumerate(partial["label"])]
    partial.drop(columns=SOFT).to_csv(folder / "partial.csv", index=False)
    return folder


def run(*arguments: Any, status: int = 0) -> Result:
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result


def trained(data: Any, **options: Any) -> TrainedModel:
    return bilstm.train(data, **COLUMNS | SMALL | {"baseline": False} | options)


def weights_of(model: TrainedModel) -> list[Any]:
    return [weight.tolist() for weight in model.network.get_weights()]


# --- Probabilities: laws --------------------------------------------------------------------------------------------


def test_a_probability_of_one_is_a_label() -> None:
    """Bit for bit; and the order of the columns is of no importance."""
    frame = made()
    plain = trained(frame.drop(columns=SOFT), label="label", task="step-label")
    frame[SOFT] = soften(frame["label"], 1.0)
    soft = trained(frame.drop(columns="label"), soft_targets="p_", task="step-label")
    assert (soft.task, soft.schema) == (plain.task, plain.schema)
    assert weights_of(soft) == weights_of(plain)
    other = trained(frame[["p_O", "w", "p_A", "id", "p_B"]], soft_targets="p_", task="step-label")
    assert weights_of(other) == weights_of(plain)


def test_the_loss_is_cross_entropy_against_the_probabilities() -> None:
    """With a learning rate of next to nothing and without dropout, the network's outputs are known."""
    frame = made(12)
    rng = np.random.default_rng(1)
    target = rng.dirichlet(np.ones(3), len(frame))
    frame[SOFT] = target
    model = trained(frame, soft_targets="p_", learning_rate=1e-30, dropout=0.0, validation_split=0.0)
    outputs = model.predict_proba(frame.drop(columns=["label", *SOFT]))
    expected = -(target * np.log(outputs)).sum(axis=1).mean()
    assert model.training["history"]["loss"][0] == pytest.approx(expected, rel=1e-5)


def test_the_probabilities_are_learned() -> None:
    frame = made()
    model = trained(
        frame, soft_targets="p_", label="label", epochs=60, dropout=0.0, calibrate=False, validation_split=0.0
    )
    np.testing.assert_allclose(model.predict_proba(frame.drop(columns=SOFT)), frame[SOFT], atol=0.05)


def test_rounded_probabilities_are_scaled_to_a_sum_of_1() -> None:
    frame = made()
    exact = trained(frame.drop(columns="label"), soft_targets="p_")
    frame[SOFT] *= 1.005
    scaled = trained(frame.drop(columns="label"), soft_targets="p_")
    for one, other in zip(exact.network.get_weights(), scaled.network.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_rows_without_probabilities() -> None:
    """They have their label, if that is known, or are unlabelled."""
    frame = made()
    some = np.arange(len(frame)) % 3 == 0
    frame.loc[some, SOFT] = np.nan
    filled, unlabelled = frame.copy(), frame.copy()
    filled.loc[some, SOFT] = soften(frame["label"], 1.0)[some]
    assert weights_of(trained(frame, soft_targets="p_", label="label")) == weights_of(
        trained(filled, soft_targets="p_", label="label")
    )
    unlabelled.loc[some, "label"] = None
    model = trained(unlabelled, soft_targets="p_", label="label", validation_split=0.0)
    without = trained(frame.drop(columns="label"), soft_targets="p_", validation_split=0.0)
    assert weights_of(model) == weights_of(without)


def test_the_stated_label_is_the_true_one() -> None:
    """By it the validation set is scored, and the likeliest label replaces it where it is missing."""
    frame = made()
    frame["label"] = frame["label"].map({"A": "B", "B": "O", "O": "A"})
    model = trained(frame, soft_targets="p_", label="label", epochs=20, learning_rate=0.05)
    assert model.training["history"]["val_accuracy"][-1] == 0.0
    assert (
        trained(frame, soft_targets="p_", epochs=20, learning_rate=0.05, features=["w"]).training["history"][
            "val_accuracy"
        ][-1]
        == 1.0
    )


# --- Probabilities: tables and fronts -------------------------------------------------------------------------------


def by_sequence() -> pd.DataFrame:
    """One label for each sequence."""
    frame = made()
    firsts = frame.groupby("id", sort=False)[SOFT].transform("first")
    frame[SOFT] = firsts
    return frame.drop(columns="label")


def nested(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.groupby("id", sort=False).agg({"w": list, **dict.fromkeys(SOFT, "first")}).reset_index()


def test_every_layout_of_sequences(tmp_path: Path) -> None:
    frame, options = by_sequence(), {"soft_targets": "p_", "validation_split": 0.2}
    expected = weights_of(trained(frame, **options))
    labels = frame.groupby("id", sort=False)[SOFT].first().reset_index()
    assert weights_of(trained(frame[["id", "w"]], labels=labels.iloc[::-1], **options)) == expected
    assert weights_of(trained(nested(frame), **options | {"sequence": None})) == expected
    nested(frame).to_parquet(tmp_path / "nested.parquet")
    assert weights_of(trained(tmp_path / "nested.parquet", **options | {"sequence": None})) == expected
    frame.to_parquet(tmp_path / "long.parquet")
    assert weights_of(trained(tmp_path / "long.parquet", **options)) == expected
    classifier = bilstm.SequenceClassifier(
        units=4, layers=1, epochs=3, random_state=5, soft_targets=LABELS, validation_split=0.2
    )
    classifier.fit(frame.groupby("id", sort=False)["w"].apply(list).tolist(), labels[SOFT].to_numpy())
    assert weights_of(classifier.model_) == expected
    assert classifier.classes_.tolist() == list(LABELS)


def test_steps_in_lists() -> None:
    frame = made().drop(columns="label")
    lists = frame.groupby("id", sort=False).agg(list).reset_index()
    assert weights_of(trained(lists, soft_targets="p_", sequence=None)) == weights_of(trained(frame, soft_targets="p_"))


def test_every_front(folder: Path, tmp_path: Path) -> None:
    path, options = folder / "soft.csv", {"task": "step-label", "baseline": True}
    trained(path, soft_targets="p_", **options).save(tmp_path / "python")
    expected = (tmp_path / "python").read_bytes()
    trained(path, soft_targets=dict(zip(LABELS, SOFT, strict=True)), **options).save(tmp_path / "mapping")
    assert (tmp_path / "mapping").read_bytes() == expected
    typed = ["--sequence", "id", "--features", "w", "--task", "step-label", "--quiet", "--out", tmp_path / "typed"]
    typed += [word for name, value in SMALL.items() for word in (f"--{name}", value)]
    run("train", path, *typed, "--soft-targets", "p_")
    assert (tmp_path / "typed").read_bytes() == expected
    (tmp_path / "o.toml").write_text('soft-targets = "p_"\n')
    run("train", path, *typed, "--config", tmp_path / "o.toml")
    assert (tmp_path / "typed").read_bytes() == expected
    tagger = bilstm.SequenceTagger(
        units=4, layers=1, epochs=3, random_state=5, soft_targets=LABELS, sequence="id", baseline=True, examples=True
    )
    tagger.fit(path, SOFT).save(tmp_path / "estimator")
    assert (tmp_path / "estimator").read_bytes() == expected
    frame = pd.read_csv(path)
    tagger.fit(frame[["id", "w"]], frame[SOFT].to_numpy())
    assert weights_of(tagger.model_) == weights_of(bilstm.load(tmp_path / "python"))
    printed = run("train", path, *[word for word in typed if word != "--quiet"], "--soft-targets", "p_").stdout
    assert "\ntargets: probabilities for 144 time steps of the training set, rather than one label\n" in printed


def test_a_validation_set_of_its_own(folder: Path) -> None:
    """With probabilities or with labels."""
    frame, valid = made().drop(columns="label"), made(10, seed=1)
    first = trained(frame, soft_targets="p_", valid=valid.drop(columns="label"))
    assert weights_of(trained(frame, soft_targets="p_", valid=valid)) == weights_of(first)
    assert first.training["validation_sequences"] == 10
    with pytest.raises(UserError, match="has the probabilities of other labels than those of the training set"):
        trained(frame, soft_targets="p_", valid=valid.drop(columns="label").rename(columns={"p_O": "p_x"}))


def test_probabilities_are_calibrated_on_true_labels_only() -> None:
    frame, valid, options = made(), made(100, seed=1), {"soft_targets": "p_", "epochs": 20, "learning_rate": 0.02}
    for label, calibrated in (("label", True), (None, False)):
        model = trained(frame, label=label, valid=valid.drop(columns=[] if label else ["label"]), **options)
        assert (model.training["calibration"] is not None) == calibrated


def test_labels_that_are_numbers_or_truth_values() -> None:
    frame = made().rename(columns={"p_A": "p_10", "p_B": "p_9", "p_O": "p_1"}).drop(columns="label")
    model = trained(frame, soft_targets="p_")
    assert model.task == LabelTask(("label",), False, ("1", "9", "10"), "integer")
    assert set(model.predict(frame[["id", "w"]]).tolist()) <= {1, 9, 10}
    two = frame.drop(columns="p_1").rename(columns={"p_10": "p_True", "p_9": "p_False"})
    two["p_False"] = 1 - two["p_True"]
    assert trained(two, soft_targets="p_").task == LabelTask(("label",), False, ("false", "true"), "boolean")


def changed(column: str, value: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[2, column] = value
        return frame

    return change


MISTAKES: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], dict[str, Any], str]] = {
    "no columns": (
        lambda frame: frame,
        {"soft_targets": "q_"},
        "data needs columns for the probabilities of at least two labels, but those whose names begin with 'q_' are "
        "none; its columns: 'id', 'w', 'label', 'p_A'",
    ),
    "no prefix": (lambda frame: frame, {"soft_targets": ""}, "soft_targets is what the names of columns begin with"),
    "one column": (lambda frame: frame, {"soft_targets": {"A": "p_A"}}, "whose probabilities are named are 'p_A'"),
    "no such column": (lambda frame: frame, {"soft_targets": {"A": "p_A", "B": "x"}}, "no column 'x'"),
    "no probability": (changed("p_B", 1.5), {}, "row 2 of data: '1.5' in column 'p_B' is no probability, which is"),
    "negative": (changed("p_B", -0.5), {}, "row 2 of data: '-0.5' in column 'p_B' is no probability"),
    "sum": (
        changed("p_B", 0.95),
        {},
        "row 2 of data: the probabilities of all labels have the sum 1.25, not 1; they are",
    ),
    "partly": (
        changed("p_B", np.nan),
        {},
        "row 2 of data lacks some of the probabilities in 'p_A', 'p_B', 'p_O': give all",
    ),
    "none": (lambda frame: frame.assign(**dict.fromkeys(SOFT, np.nan)), {}, "data has no value in 'p_A', 'p_B', 'p_O'"),
    "crf": (lambda frame: frame, {"output": "crf"}, "soft_targets are probabilities of the labels of single steps"),
    "weights": (lambda frame: frame, {"class_weight": "balanced"}, "class_weight weights steps by their one label"),
    "both": (lambda frame: frame, {"label_separator": "|"}, "soft_targets and label_separator both say what training"),
    "calibrate": (lambda frame: frame, {"calibrate": True}, "probabilities are calibrated on true labels, but there"),
    "scheme": (lambda frame: frame, {"train_scheme": "IOBES"}, "train_scheme learns other tags than the labels"),
    "quantities": (
        lambda frame: frame,
        {"task": "step-quantity"},
        "soft targets are probabilities of one label, which",
    ),
    "a feature": (lambda frame: frame, {"features": ["w", "p_A"]}, "'p_A' is named among the features and among those"),
    "another label": (
        changed("label", "C"),
        {"label": "label"},
        "row 2 of data: the label 'C' is unknown to the model",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str) -> None:
    change, options, message = MISTAKES[name]
    with pytest.raises(UserError, match=message) as caught:
        trained(change(made()), **{"soft_targets": "p_"} | options)
    assert "\n" not in str(caught.value)


def test_estimators_refuse() -> None:
    words, targets = [["a", "b"]] * 10, [soften(["A", "B"])] * 10
    small: dict[str, Any] = {"units": 2, "layers": 1, "epochs": 1, "random_state": 0}
    with pytest.raises(
        ValueError, match="soft_targets names 2 different labels, but y has 3 columns: it needs the prob"
    ):
        bilstm.SequenceTagger(soft_targets=["A", "B"], **small).fit(words, targets)
    with pytest.raises(ValueError, match="soft_targets is for fit: partial_fit learns from one label at a time"):
        bilstm.SequenceTagger(soft_targets=LABELS, **small).partial_fit(words, targets, classes=LABELS)
    tagger = bilstm.SequenceTagger(soft_targets=LABELS, **small).fit(words, targets)
    assert 0 <= tagger.score(words, [["A", "B"]] * 10) <= 1
    assert tagger.fit(words, targets, validation_data=(words, targets)).training_["validation_sequences"] == 10


def test_a_comparison() -> None:
    options = {"vary": {"units": [2, 3]}, "seeds": 1, "epochs": 1, "layers": 1, **COLUMNS}
    report = bilstm.compare(made().drop(columns="label"), soft_targets="p_", **options)
    assert (report["task"], report["finished"]) == ("step-label", 2)


# --- Several possible labels ----------------------------------------------------------------------------------------

CRF: dict[str, Any] = {"label": "label", "output": "crf", "label_separator": "|", "validation_split": 0.0}


def test_laws_of_possible_labels() -> None:
    """All labels are as none, one is itself, and their order and repetition do not count; bit for bit."""
    frame = made().drop(columns=SOFT)
    frame.loc[5, "label"] = "A|B"
    some = np.arange(len(frame)) % 4 == 3
    unlabelled, everything = frame.copy(), frame.copy()
    unlabelled.loc[some, "label"] = None
    everything.loc[some, "label"] = "A|B|O"
    expected = weights_of(trained(unlabelled, **CRF))
    assert weights_of(trained(everything, **CRF)) == expected
    everything.loc[some, "label"] = " O |B|A|B|"
    assert weights_of(trained(everything, **CRF)) == expected
    everything["label"] = everything["label"].str.replace("|", "/")
    assert weights_of(trained(everything, **CRF | {"label_separator": "/"})) == expected
    assert weights_of(trained(frame, **CRF)) != expected


def test_the_loss_is_that_of_all_possible_sequences_together() -> None:
    """By enumeration, with a learning rate of next to nothing and without dropout."""
    frame = made(6).drop(columns=SOFT)
    rng = np.random.default_rng(2)
    sets = [sorted({label, *rng.choice(LABELS, int(rng.integers(0, 2)))}) for label in frame["label"]]
    sets[3] = []
    frame["label"] = ["|".join(each) for each in sets]
    model = trained(frame, **CRF | {"learning_rate": 1e-30, "dropout": 0.0, "scheme": "none"})
    data = model.read(frame[["id", "w"]]).values
    total = 0.0
    for sequence, (start, stop) in enumerate(itertools.pairwise(data.offsets.tolist())):
        paths = [list(path) for path in itertools.product(*(each or LABELS for each in sets[start:stop]))]
        codes = [np.array([LABELS.index(label) for label in path]) for path in paths]
        logs = model.network.log_likelihoods(data[[sequence] * len(paths)], codes)
        total += float(np.log(np.exp(logs).sum()))
    labelled = sum(map(bool, sets))
    assert model.training["history"]["loss"][0] == pytest.approx(-total / labelled, rel=1e-5)


def test_what_is_right_is_learned(folder: Path) -> None:
    """Of each word the other possible label is another one at other steps."""
    frame = made(80).drop(columns=SOFT)
    right = frame["label"].copy()
    others = np.random.default_rng(0).permuted(np.tile(LABELS, (len(frame), 1)), axis=1)
    frame["label"] = [f"{label}|{next(o for o in row if o != label)}" for label, row in zip(right, others, strict=True)]
    frame.loc[::10, "label"] = right[::10]
    model = trained(frame, **CRF | {"epochs": 40, "learning_rate": 0.02})
    assert (model.predict(frame[["id", "w"]]) == right).mean() > 0.95
    with pytest.raises(UserError, match="only output 'crf' learns from several possible labels"):
        trained(frame, **CRF | {"output": "softmax"})


def test_answers_with_several_labels_are_not_scored(folder: Path, tmp_path: Path) -> None:
    path = folder / "partial.csv"
    options = ["--sequence", "id", "--label", "label", "--label-separator", "|", "--output", "crf", "--epochs", 2]
    printed = run("train", path, *options, "--units", 2, "--layers", 1, "--out", tmp_path / "m").stdout
    assert "\ntask: a label for each time step, 3 classes in 'label';" in printed
    assert "\ntargets: several possible labels for " in printed
    report = json.loads(run("evaluate", tmp_path / "m", path, "--json").stdout)
    single = sum("|" not in line for line in path.read_text().splitlines()[1:])
    # A label with itself is one label.
    single += sum(line.endswith("O|O") for line in path.read_text().splitlines())
    assert report["steps"] == single
    assert report["baseline"] is not None
    tagger = bilstm.SequenceTagger.load(tmp_path / "m")
    assert tagger.label_separator == "|"
    frame = pd.read_csv(path)
    same = bilstm.SequenceTagger(
        units=2, layers=1, epochs=2, output="crf", label_separator="|", sequence="id", random_state=1, baseline=True
    )
    same.fit(frame, "label")
    assert weights_of(same.model_) == weights_of(tagger.model_)
    with pytest.raises(ValueError, match="label_separator is for fit: partial_fit learns from one label at a time"):
        same.partial_fit(frame, "label")


def test_labels_that_do_not_go_with_the_scheme() -> None:
    tags = ["O", "B-X", "I-X", "O"] * 20
    frame = pd.DataFrame({"id": np.repeat(range(20), 4), "w": list("abcd") * 20, "label": tags})
    frame.loc[2, "label"] = "I-X|O"
    model = trained(frame, **CRF)
    assert isinstance(model.task, LabelTask)
    assert (model.task.scheme, model.task.separator) == ("IOB2", "|")
    frame.loc[4:6, "label"] = ["O", "O|I-X", "I-X|I-Y"]  # O, I-X, I-X or O, O, I-X: neither is possible
    with pytest.raises(
        UserError, match="row 6 of data: none of the labels 'I-X', 'I-Y' goes with those before it in the"
    ):
        trained(frame, **CRF | {"scheme": "IOB2"})
    trained(frame, **CRF | {"scheme": "none"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_separator": ""}, "label_separator is a sign between labels, such as '|', not ''"),
        ({"label_separator": "/"}, "no cell in column 'label' of data has '/' between labels: leave it out"),
        ({"task": "sequence-label"}, "label_separator is for one label for each time step, but the task is sequence-l"),
        (
            {"label": ["label", "id2"]},
            "label_separator is for one label for each time step, but the labels are 'label'",
        ),
        (
            {"class_weight": "balanced"},
            "class_weight weights the losses of steps",
        ),
    ],
)
def test_mistakes_with_separators(options: dict[str, Any], message: str) -> None:
    frame = made().drop(columns=SOFT).assign(id2="x")
    frame.loc[3, "label"] = "A|B"
    with pytest.raises(UserError, match=message):
        trained(frame, **CRF | options)


def test_a_hostile_separator() -> None:
    data = LabelTask(("label",), False, ("a", "b"), separator="|").to_json()
    assert task_from_json(data) == LabelTask(("label",), False, ("a", "b"), separator="|")
    for wrong in (1, "", []):
        with pytest.raises(ModelFileError, match="have no valid 'separator'"):
            LabelTask.from_json(Fields("task", data | {"separator": wrong}), ("label",), False)
