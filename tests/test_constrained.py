"""A softmax whose labels are decoded under their scheme: the likeliest sequence, by enumeration, on every front."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bilstm
from bilstm.errors import UserError
from bilstm.estimators import SequenceClassifier, SequenceTagger
from bilstm.layers import CRF
from bilstm.metrics import forbidden_transitions
from bilstm.metrics.schemes import find_transitions
from oracles.models import bits
from test_tagging import MARKS, SMALL, run, streamed, table

OPTIONS: dict[str, Any] = {**SMALL, "output": "constrained"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("constrained")
    table("IOB2", 60, 1).to_csv(folder / "train.csv", index=False)
    table("IOB2", 30, 2).to_csv(folder / "test.csv", index=False)
    for output in ("softmax", "constrained"):
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in {**SMALL, "output": output}.items()]
        arguments = ("train", folder / "train.csv", "--label=y", "--sequence=id", "--calibrate", *flags)
        (folder / f"said by {output}").write_text(run(*arguments, "--out", folder / output).stdout)
    return folder


@pytest.mark.parametrize("scheme", MARKS)
def test_the_likeliest_labels_that_the_scheme_allows(scheme: str) -> None:
    options = SMALL | {"validation_split": 0, "epochs": 1, "baseline": False}
    frame = table(scheme, 20, 1)
    plain = bilstm.train(frame, label="y", sequence="id", **options, output="softmax")
    model = bilstm.train(frame, label="y", sequence="id", **options, output="constrained")
    classes = model.task.classes  # type: ignore[attr-defined]
    table_of = forbidden_transitions(classes, scheme)
    broken = 0
    for _, rows in table(scheme, 6, 3).groupby("id", sort=False):
        test = rows.iloc[: 4 if len(classes) < 9 else 3]
        each = plain.predict_proba(test).astype(np.float64)
        every = list(itertools.product(range(len(classes)), repeat=len(test)))
        every = [codes for codes in every if not len(find_transitions(codes, [0, len(test)], table_of))]
        chances = np.array([np.prod(each[np.arange(len(test)), list(codes)]) for codes in every])
        best = every[int(chances.argmax())]
        assert model.predict(test).tolist() == [classes[code] for code in best]
        marginals = np.zeros_like(each)
        for codes, chance in zip(every, chances / chances.sum(), strict=True):
            marginals[np.arange(len(test)), list(codes)] += chance
        np.testing.assert_allclose(model.predict_proba(test), marginals, atol=1e-5)
        broken += tuple(each.argmax(axis=1)) not in every
    assert broken  # each step's likeliest label would break the scheme


def test_training_is_that_of_a_softmax(folder: Path) -> None:
    plain, model = bilstm.load(folder / "softmax"), bilstm.load(folder / "constrained")
    weights = model.network.get_weights()
    assert [bits(each) for each in weights[:-3]] == [bits(each) for each in plain.network.get_weights()]
    assert not any(each.any() for each in weights[-3:])
    assert model.training["calibration"] == plain.training["calibration"] != None  # noqa: E711
    assert model.training["history"] == plain.training["history"]
    said = (folder / "said by constrained").read_text()
    assert "output: a softmax and a decoding that forbids the transitions which the scheme IOB2 (detected) does" in said
    assert (
        "labels by a softmax and a decoding that their scheme constrains"
        in run("inspect", folder / "constrained").stdout
    )
    report = json.loads(run("evaluate", folder / "constrained", folder / "test.csv", "--json").stdout)
    assert report["temperature"] == model.training["calibration"]["temperature"]
    assert report["uncalibrated"] is None
    run("evaluate", folder / "constrained", folder / "test.csv", "--report", folder / "page.html")
    assert "scaled by a temperature of" in (folder / "page.html").read_text()


def test_every_front(folder: Path) -> None:
    test = pd.read_csv(folder / "test.csv")
    expected = bilstm.load(folder / "constrained").predict(test).tolist()
    run("predict", folder / "constrained", folder / "test.csv", "--out", folder / "out.csv", "--quiet")
    assert pd.read_csv(folder / "out.csv")["predicted"].tolist() == expected
    lines = "".join(json.dumps(row) + "\n" for row in test[["id", "x"]].to_dict("records"))
    assert [answer["predicted"] for answer in streamed(folder / "constrained", lines)] == expected
    own = {name: value for name, value in OPTIONS.items() if name != "seed"}
    frame = pd.read_csv(folder / "train.csv")
    tagger = SequenceTagger(sequence="id", random_state=3, calibrate=True, baseline=True, examples=True, **own)
    tagger.fit(frame[["id", "x"]], frame["y"]).save(folder / "other", force=True)
    assert (folder / "other").read_bytes() == (folder / "constrained").read_bytes()
    assert SequenceTagger.load(folder / "constrained").output == "constrained"
    compared = bilstm.compare(
        frame,
        label="y",
        sequence="id",
        vary={"output": ["softmax", "constrained"]},
        seeds=1,
        units=3,
        layers=1,
        epochs=1,
    )
    assert [each["name"] for each in compared["variants"]] == ["softmax", "constrained softmax"]


def test_transitions_of_the_data_are_allowed() -> None:
    frame = table("IOB2", 40, 1)
    frame.loc[0, "y"] = "I-X"
    model = bilstm.train(frame, label="y", sequence="id", **OPTIONS)
    layer = model.network.layers[-1]
    assert isinstance(layer, CRF)
    assert layer.forbidden is not None
    classes = list(model.task.classes)  # type: ignore[attr-defined]
    assert not layer.forbidden[len(classes), classes.index("I-X")]
    assert layer.forbidden[len(classes), classes.index("I-Y")]


def test_what_is_refused() -> None:
    frame = table("IOB2", 20, 1)
    with pytest.raises(
        UserError, match="output 'constrained' needs a task|output 'constrained' needs tags of a scheme"
    ):
        bilstm.train(frame.assign(y=frame["y"].str[0] + "?"), label="y", sequence="id", **OPTIONS)
    with pytest.raises(UserError, match="output 'constrained' needs tags of a scheme, but scheme none"):
        bilstm.train(frame, label="y", sequence="id", scheme="none", **OPTIONS)
    with pytest.raises(UserError, match=r"output 'constrained' needs tags of a scheme, but .*'noun' is no tag, but"):
        bilstm.train(frame.replace({"y": {"B-Y": "noun"}}), label="y", sequence="id", **OPTIONS)
    with pytest.raises(
        UserError, match="output 'constrained' is for one label for each time step, but the task is seq"
    ):
        SequenceClassifier(output="constrained", units=2, epochs=1).fit([np.ones((3, 1))] * 8, ["a", "b"] * 4)
    X, y = [np.ones((2, 1))] * 2, [["B-X", "I-X"], ["O", "B-X"]]
    tagger = SequenceTagger(output="constrained", units=2, layers=1)
    with pytest.raises(ValueError, match="partial_fit is for outputs 'softmax' and 'crf'"):
        tagger.partial_fit(X, y, classes=["B-X", "I-X", "O"])
