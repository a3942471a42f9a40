"""The spans that a model predicts, with their probabilities: the same from every front."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bilstm
from bilstm.errors import UserError
from bilstm.estimators import SequenceTagger
from bilstm.metrics.tags import get_entities
from bilstm.model.spans import Span
from bilstm.models.chains import span_probabilities
from test_tagging import SMALL, run, table

OUTPUTS = {
    "softmax": {"output": "softmax"},
    "constrained": {"output": "constrained"},
    "crf": {"output": "crf"},
    "learned": {"output": "crf", "train_scheme": "IOBES"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spans")
    table("IOB2", 12, 2).to_csv(folder / "test.csv", index=False)
    for name, options in OUTPUTS.items():
        chosen: dict[str, Any] = SMALL | options | {"baseline": False}
        bilstm.train(table("IOB2", 60, 1), label="y", sequence="id", **chosen).save(folder / name)
    return folder


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_front(name: str, folder: Path) -> None:
    model, test = bilstm.load(folder / name), pd.read_csv(folder / "test.csv")
    spans = model.predict_spans(test)
    tags = test.assign(y=model.predict(test)).groupby("id", sort=False)["y"].agg(list)
    assert [[(span.label, span.first, span.last) for span in own] for own in spans] == [
        get_entities(own) for own in tags
    ]
    assert sum(map(len, spans)) > 4
    chances = np.array([span.probability for own in spans for span in own])
    assert ((chances > 0) & (chances < 1)).all()
    data = model.read(test)
    events = model.predict_spans(test)
    assert events == spans
    tagger = SequenceTagger.load(folder / name)
    assert tagger.predict_spans(test[["id", "x"]]) == spans

    rows = [
        {"sequence": key, "start": span.first, "end": span.last, "label": span.label, "probability": span.probability}
        for key, own in zip(tags.index, spans, strict=True)
        for span in own
    ]
    expected = [{**row, "probability": round(row["probability"], 6)} for row in rows]
    for suffix in ("csv", "ndjson", "parquet"):
        out = folder / f"out.{suffix}"
        run("predict", folder / name, folder / "test.csv", "--out", out, "--spans", "--quiet")
        read = {"csv": pd.read_csv, "parquet": pd.read_parquet}.get(suffix)
        found = read(out).to_dict("records") if read else [json.loads(line) for line in out.read_text().splitlines()]
        assert found == expected
    lines = "".join(json.dumps(row) + "\n" for row in test[["id", "x"]].to_dict("records"))
    answers = run("predict", folder / name, "-", "--out=-", "--spans", "--quiet", given=lines).stdout.splitlines()
    assert [json.loads(line) for line in answers] == expected
    (folder / "several").mkdir(exist_ok=True)
    test.to_csv(folder / "several" / "a.csv", index=False)
    out = folder / f"predicted by {name}"
    run("predict", folder / name, folder / "several", "--out", f"{out}/", "--spans", "--quiet")
    assert pd.read_csv(out / "a.csv").to_dict("records") == expected
    assert data.values.total_steps == len(test)


def test_words(tmp_path: Path) -> None:
    """A file of words in columns, whose sentences are counted from 1; another ending than its own."""
    path = tmp_path / "train.conll"
    path.write_text("Ada B-P\nLee I-P\nmet O\nBob B-P\n\n" * 30)
    run("train", path, "--out", tmp_path / "model", "--output=crf", "--units=6", "--layers=1", "--epochs=8", "--quiet")
    run("predict", tmp_path / "model", path, "--out", tmp_path / "spans.csv", "--spans", "--quiet")
    found = pd.read_csv(tmp_path / "spans.csv")
    assert found.iloc[:2].drop(columns="probability").to_dict("records") == [
        {"sequence": 1, "start": 0, "end": 1, "label": "P"},
        {"sequence": 1, "start": 3, "end": 3, "label": "P"},
    ]
    assert (found["probability"] > 0.5).all()
    said = run("predict", tmp_path / "model", path, "--out", tmp_path / "spans.conll", "--spans", status=2).output
    assert "spans are a table of their own; use .csv, .parquet or .ndjson" in said
    model = bilstm.load(tmp_path / "model")
    ((span, *_),) = model.predict_spans([["Bob", "met", "Lee"]])
    assert span == Span(0, 0, "P", span.probability)


def test_tags_without_a_type_and_sequences_without_spans() -> None:
    X, y = [np.array([[1.0], [1], [0]]), np.zeros((2, 1))] * 20, [["B", "I", "O"], ["O", "O"]] * 20
    tagger = SequenceTagger(output="crf", units=4, layers=1, epochs=20, random_state=1).fit(X, y)
    one, none = tagger.predict_spans(X[:2])
    assert [(span.first, span.last, span.label) for span in one] == [(0, 1, "")]
    assert none == []


def test_the_precision_is_the_models(folder: Path) -> None:
    model, test = bilstm.load(folder / "crf"), pd.read_csv(folder / "test.csv")
    exact = model.predict_spans(test)
    model.precision = "bfloat16"
    rounded = model.predict_spans(test)
    assert rounded != exact
    assert rounded[0][0].probability == pytest.approx(exact[0][0].probability, abs=0.02)
    data = model.read(test)
    assert span_probabilities(model.network, data.values[:0], *_no_spans()).shape == (0,)


def _no_spans() -> tuple[Any, Any]:
    from bilstm.metrics.events import Events

    return Events(*[np.zeros(0, np.int64)] * 4), ["B-X", "O"]


def test_what_is_refused(folder: Path) -> None:
    frame = table("IOB2", 20, 1)
    other = bilstm.train(frame.assign(y=frame["y"].str[0] + "?"), label="y", sequence="id", **SMALL)
    with pytest.raises(
        UserError, match=r"is for labels that mark spans, tags such as B-X, I-X and O, but the model's a"
    ):
        other.predict_spans(frame)
    other.save(folder / "other", force=True)
    test = folder / "test.csv"
    said = run("predict", folder / "other", test, "--out", folder / "out.csv", "--spans", status=2).output
    assert "--spans is for labels that mark spans" in said
    for more in (["--events"], ["--top=2"], ["--probabilities"]):
        said = run("predict", folder / "crf", test, "--out", folder / "out.csv", "--spans", *more, status=2).output
        assert f"writes runs of steps, which cannot be combined with {more[0].partition('=')[0]}" in said or (
            "--events writes runs of steps, which cannot be combined with --spans" in said
        )
    said = run("predict", folder / "crf", test, "--out=x.csv", "--spans", "--background=O", status=2).output
    assert "--background says which label is no event: it needs --events" in said
