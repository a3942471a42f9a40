"""Tags that are learned in another scheme than the data's: predictions are tags of that, on every front."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bilstm
from bilstm.errors import ModelFileError, UserError
from bilstm.estimators import SequenceTagger
from bilstm.metrics import convert_tags, forbidden_transitions
from bilstm.metrics.conversion import tag_names
from bilstm.metrics.schemes import SCHEMES, find_transitions, parse_tag, role_of
from bilstm.model import TrainedModel
from bilstm.modelfile import read_model, write_model
from bilstm.ragged import offsets_of
from bilstm.tasks import Outputs
from bilstm.tasks.learnedtags import LearnedTags, tells_all
from oracles.models import bits
from test_tagging import SMALL, run, table

PAIRS = [(one, other) for one in SCHEMES for other in SCHEMES if one != other and tells_all(other, one)]
CLASSES = {scheme: tag_names("XY", scheme) for scheme in SCHEMES}


def test_which_schemes_tell_all() -> None:
    assert all((scheme, "IOBES") in PAIRS for scheme in SCHEMES if scheme != "IOBES")
    assert ("IOB1", "IOB2") in PAIRS
    assert ("IOE1", "IOE2") in PAIRS
    assert ("IOB2", "IOE2") not in PAIRS
    assert not any(other in ("IO", "IOB1", "IOE1") for _, other in PAIRS if _ != "IO")


ANY_TAGS = st.lists(st.lists(st.sampled_from(CLASSES["IOBES"]), min_size=1, max_size=6), min_size=1, max_size=3)


@given(st.sampled_from(PAIRS), ANY_TAGS)
def test_what_is_learned_comes_back(pair: tuple[str, str], any_tags: list[list[str]]) -> None:
    scheme, other = pair
    tags = convert_tags(any_tags, scheme)
    classes = sorted({tag for sequence in tags for tag in sequence})
    offsets = offsets_of([len(sequence) for sequence in tags])
    codes = np.array([classes.index(tag) for sequence in tags for tag in sequence])
    learned = LearnedTags(classes, scheme, other)
    assert set(learned.names) <= set(CLASSES[other])
    labels = learned.learn(codes, offsets)
    assert (labels >= 0).all()
    restored = learned.restore(Outputs(np.eye(len(learned.names), dtype=np.float32)[labels]), offsets)
    assert restored.labels.tolist() == codes.tolist()
    assert restored.confidences.tolist() == [1.0] * len(codes)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_probabilities_are_sums(pair: tuple[str, str]) -> None:
    """Of all learned tags that mean a tag, next to what is predicted there."""
    scheme, other = pair
    learned, random = LearnedTags(CLASSES[scheme], scheme, other), np.random.default_rng(1)
    offsets = np.array([0, 1, 5, 40])
    values = random.dirichlet(np.ones(len(learned.names)), 40).astype(np.float32)
    outputs = learned.restore(Outputs(values), offsets)
    np.testing.assert_allclose(outputs.values.sum(axis=1), 1, atol=1e-6)
    assert (outputs.confidences <= 1).all()
    alone = [learned.restore(Outputs(values[a:b]), np.array([0, b - a])) for a, b in itertools.pairwise(offsets)]
    assert bits(np.concatenate([each.values for each in alone])) == bits(outputs.values)
    tags = [parse_tag(name) or ("", "") for name in learned.names]
    guess = values.argmax(axis=1)
    for step in range(40):
        expected = dict.fromkeys(CLASSES[scheme], 0.0)
        beside = step - 1 if scheme == "IOB1" else step + 1
        near = tags[guess[beside]] if 0 <= beside < 40 and not set(offsets) & {max(step, beside)} else ("O", "")
        for (prefix, type_), value in zip(tags, values[step], strict=True):
            role, mark = role_of(prefix), "I"
            if scheme in ("IOB1", "IOE1"):
                parted = role in ("BS" if scheme == "IOB1" else "ES")
                mark = scheme[2] if parted and near[0] != "O" and near[1] == type_ else "I"
            elif scheme != "IO":
                ((first, *_),) = convert_tags([[f"{prefix}-{type_}"]], scheme) if role in "SBE" else (["I"],)
                marks = {"S": first[0], "B": "B" if "B" in "".join(CLASSES[scheme]) else "I", "I": "I", "E": "I"}
                marks["E"] = next((p for p in "EL" if f"{p}-X" in CLASSES[scheme]), "I")
                marks["I"] = "M" if scheme == "BMES" else "I"
                mark = marks.get(role, "I")
            expected["O" if role == "O" else f"{mark}-{type_}"] += value
        assert dict(zip(CLASSES[scheme], outputs.values[step], strict=True)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (["B-X", "I-X", "B-Y", "O"], ["B-X", "E-X", "I-X", "O", "S-X", "S-Y"]),  # no Y has two steps
        (["B-X", "B-Y"], ["S-X", "S-Y"]),
        (["I-X", "O"], ["B-X", "E-X", "I-X", "O", "S-X"]),  # breaks the scheme, so that anything may be meant
        (["B", "I", "O"], ["B", "E", "I", "O", "S"]),
    ],
)
def test_only_tags_are_learned_that_the_data_can_have(classes: list[str], names: list[str]) -> None:
    assert list(LearnedTags(classes, "IOB2", "IOBES").names) == names


def test_a_tag_that_the_data_lack_is_another_of_its_type() -> None:
    learned = LearnedTags(["I-X", "O"], "IOB1", "IOBES")
    labels = [learned.names.index(name) for name in ("S-X", "B-X", "E-X")]
    outputs = learned.restore(Outputs(np.eye(5, dtype=np.float32)[labels]), np.array([0, 3]))
    assert outputs.labels.tolist() == [0, 0, 0]  # B-X at the second
    assert outputs.values[:, 0].tolist() == [1, 1, 1]


# --- Fronts ----------------------------------------------------------------------------------------------------------


def in_scheme(scheme: str, seed: int, sequences: int = 40) -> Any:
    frame = table("IOB2", sequences, seed)
    tags = convert_tags([of["y"].tolist() for _, of in frame.groupby("id", sort=False)], scheme)
    return frame.assign(y=[tag for sequence in tags for tag in sequence])


@pytest.mark.parametrize("output", ["softmax", "constrained", "crf"])
@pytest.mark.parametrize(("scheme", "other"), [("IOB2", "IOBES"), ("IOB1", "BILOU"), ("IOE1", "IOE2")])
def test_every_front(scheme: str, other: str, output: str, tmp_path: Path) -> None:
    frame, test = in_scheme(scheme, 1), in_scheme(scheme, 2)
    options = {**SMALL, "output": output, "train_scheme": other, "scheme": scheme}
    model = bilstm.train(frame, label="y", sequence="id", **options)
    classes = sorted(set(frame["y"]))
    assert list(model.task.classes) == classes  # type: ignore[attr-defined]
    predicted, probabilities = model.predict(test), model.predict_proba(test)
    assert probabilities.shape == (len(test), len(classes))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    codes = np.array([classes.index(label) for label in predicted])
    lengths = test.groupby("id", sort=False).size().to_numpy()
    if output != "softmax":
        assert not len(find_transitions(codes, offsets_of(lengths), forbidden_transitions(classes, scheme)))
        assert model.network.layers[-1].labels >= len(classes)  # type: ignore[attr-defined]
    assert model.evaluate(test)["accuracy"] == (predicted == test["y"]).mean()
    assert model.baseline is not None
    assert model.baseline.task.learned == model.task.classes  # type: ignore[attr-defined]

    frame.to_csv(tmp_path / "train.csv", index=False)
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    said = run("train", tmp_path / "train.csv", "--label=y", "--sequence=id", "--out", tmp_path / "model", *flags)
    assert f"learned tags: those of the scheme {other} for labels of the scheme {scheme} (as stated)" in said.stdout
    model.save(tmp_path / "other")
    assert (tmp_path / "other").read_bytes() == (tmp_path / "model").read_bytes()
    own = {name: value for name, value in options.items() if name != "seed"}
    tagger = SequenceTagger(sequence="id", random_state=3, baseline=True, examples=True, **own).fit(
        frame[["id", "x"]], frame["y"]
    )
    tagger.save(tmp_path / "other", force=True)
    assert (tmp_path / "other").read_bytes() == (tmp_path / "model").read_bytes()
    loaded = bilstm.load(tmp_path / "model")
    assert loaded.task == model.task
    assert loaded.predict(test).tolist() == predicted.tolist()
    assert bits(loaded.predict_proba(test)) == bits(probabilities)
    assert SequenceTagger.load(tmp_path / "model").predict(test[["id", "x"]]).tolist() == predicted.tolist()
    assert f"learned tags: those of the scheme {other}" in run("inspect", tmp_path / "model").stdout


def test_learned_tags_vary() -> None:
    several = bilstm.compare(
        in_scheme("IOB2", 1),
        label="y",
        sequence="id",
        vary={"train_scheme": [None, "IOBES"]},
        seeds=1,
        output="crf",
        units=3,
        layers=1,
        epochs=1,
    )
    names = [each["name"] for each in several["variants"]]
    assert names == ["labels as they are", "learned as IOBES"]
    plain, learned = (each["parameters"] for each in several["variants"])
    assert learned - plain == (9 - 5) * 7 + 9 * 11 - 5 * 7


def test_the_labels_own_scheme_is_no_other() -> None:
    frame = in_scheme("IOB2", 1)
    same = bilstm.train(frame, label="y", sequence="id", output="crf", train_scheme="bio", **SMALL)
    plain = bilstm.train(frame, label="y", sequence="id", output="crf", **SMALL)
    assert same.task == plain.task
    assert [bits(each) for each in same.network.get_weights()] == [bits(each) for each in plain.network.get_weights()]


def test_unlabelled_steps_and_labels_that_break_the_scheme(tmp_path: Path) -> None:
    path = tmp_path / "train.conll"
    path.write_text("a O\nb I-P\nc I-P\n\n" + "a B-P\nb\nc O\n\n" * 0 + "a B-P\nb I-P\nc O\n\n" * 8)
    said = run(
        *("train", path, "--out", tmp_path / "model", "--train-scheme=IOBES", "--units=2", "--layers=1", "--epochs=1"),
        *("--validation-split=0", "--output=crf"),
    ).stdout
    assert f"note: {path}, line 2: 'I-P' after 'O' breaks the scheme IOB2; spans are read as conlleval does" in said
    tagger = SequenceTagger(output="crf", train_scheme="IOBES", units=2, layers=1, epochs=1, random_state=1)
    X, y = [np.ones((3, 1))] * 8, [["B-P", None, "O"], ["O", "B-P", "I-P"]] * 4
    tagger.fit(X, y)
    assert np.isfinite(tagger.training_["history"]["loss"]).all()
    tagger.partial_fit(X, y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_scheme": "IOE2"}, "train_scheme IOE2 does not tell all that labels of the scheme IOB2 do: choose one"),
        ({"train_scheme": "IO"}, "train_scheme IO does not tell all"),
        ({"train_scheme": "XYZ"}, "train_scheme must be one of IO, IOB2, .*, not 'XYZ'"),
        ({"train_scheme": "IOBES", "class_weight": "balanced"}, "class_weight names labels, but with train_scheme"),
        ({"train_scheme": "IOBES", "scheme": "none"}, "train_scheme needs tags of a scheme, but scheme none"),
        ({"train_scheme": "IOBES", "scheme": "IOE2"}, "the label 'B-X' is none of the scheme IOE2"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bilstm.train(table("IOB2", 20, 1), label="y", sequence="id", **SMALL | options)


def test_other_labels_and_tasks_are_refused() -> None:
    frame = table("IOB2", 20, 1)
    with pytest.raises(UserError, match="train_scheme needs tags of a scheme, but labels are no tags such as B-X"):
        bilstm.train(frame.assign(y=frame["y"].str[0] + "?"), label="y", sequence="id", train_scheme="IOBES", **SMALL)
    with pytest.raises(UserError, match="train_scheme is for one label for each time step, but the task is step-quan"):
        bilstm.train(frame, label="x", task="step-quantity", sequence="id", train_scheme="IOBES", **SMALL)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_scheme": "IOE2"}, "no valid 'train_scheme'"),
        ({"train_scheme": 3}, "no valid 'train_scheme'"),
        ({"scheme": None}, "no valid 'train_scheme'"),
        ({"scheme": "BMES"}, "no valid 'train_scheme'"),
        ({"train_scheme": None, "scheme": None}, "its network does not fit its columns"),
    ],
)
def test_damaged_files(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    model = bilstm.train(
        table("IOB2", 20, 1), label="y", sequence="id", train_scheme="IOBES", baseline=False, **SMALL | {"epochs": 1}
    )
    model.save(tmp_path / "model")
    tensors, header = read_model(tmp_path / "model")
    write_model(tmp_path / "model", tensors, header | {"task": header["task"] | changes}, force=True)
    with pytest.raises(ModelFileError, match=message):
        TrainedModel.load(tmp_path / "model")
