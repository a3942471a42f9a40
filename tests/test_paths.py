"""The likeliest labels of whole sequences, of trained models: the same from every front."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bilstm
from bilstm.errors import UserError
from bilstm.estimators import SequenceClassifier, SequenceTagger
from test_spans import OUTPUTS
from test_tagging import SMALL, run, table


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paths")
    test = pd.concat([table("IOB2", 10, 2), pd.DataFrame({"id": ["one"], "x": [0.3], "y": ["O"]})])
    test.to_csv(folder / "test.csv", index=False)
    for name, options in OUTPUTS.items():
        bilstm.train(
            table("IOB2", 40, 1), label="y", sequence="id", baseline=False, **SMALL | {"epochs": 1} | options
        ).save(folder / name)
    return folder


@pytest.mark.parametrize("name", ["crf", "constrained", "learned"])
@pytest.mark.parametrize("paths", [1, 7])
def test_every_front(name: str, paths: int, folder: Path) -> None:
    model, test = bilstm.load(folder / name), pd.read_csv(folder / "test.csv")
    found = model.predict_paths(test, paths)
    assert len(found) == paths
    assert found[0][0].tolist() == model.predict(test).tolist()
    chances = np.array([chances for _, chances in found])
    assert chances.shape == (paths, 11)
    assert (np.diff(chances, axis=0) <= 0).all()
    assert (chances.sum(axis=0) <= 1 + 1e-9).all()
    assert (chances[0] > 0).all()
    data = model.read(test)
    network = model.network.decode(data.values, paths)
    np.testing.assert_allclose(chances, np.exp([each for _, each in network]))
    if paths > 5 and name != "learned":  # of one step there are B-X, B-Y and O only
        assert chances[:, -1].astype(bool).tolist() == [True] * 3 + [False] * 4
        assert chances[:3, -1].sum() == pytest.approx(1)

    columns = [column for rank in range(1, paths + 1) for column in (f"path_{rank}", f"path_{rank}_probability")]
    for suffix in ("csv", "ndjson", "parquet"):
        out = folder / f"out.{suffix}"
        run("predict", folder / name, folder / "test.csv", "--out", out, f"--paths={paths}", "--quiet")
        read = {"csv": pd.read_csv, "parquet": pd.read_parquet}.get(suffix)
        written = read(out) if read else pd.DataFrame(map(json.loads, out.read_text().splitlines()))
        assert list(written.columns) == [*test.columns, "predicted", "probability", *columns]
        steps = test.groupby("id", sort=False).ngroup()
        for rank, (labels, own) in enumerate(found, 1):
            assert written[f"path_{rank}_probability"].to_numpy() == pytest.approx(own[steps], abs=1e-6)
            there = own[steps] > 0
            assert written.loc[there, f"path_{rank}"].tolist() == labels[there].tolist()
            assert written.loc[~there, f"path_{rank}"].isna().all()
    lines = "".join(json.dumps(row) + "\n" for row in test[["id", "x"]].to_dict("records"))
    said = run("predict", folder / name, "-", "--out=-", f"--paths={paths}", "--quiet", given=lines).stdout
    answers = [json.loads(line) for line in said.splitlines()]
    stored = [json.loads(line) for line in (folder / "out.ndjson").read_text().splitlines()]
    assert [{key: each[key] for key in columns} for each in answers] == [
        {key: each[key] for key in columns} for each in stored
    ]
    tagger = SequenceTagger.load(folder / name)
    of_tagger = tagger.predict_paths(test[["id", "x"]], paths)
    assert [labels.tolist() for labels, _ in of_tagger] == [labels.tolist() for labels, _ in found]


def test_words_in_columns(tmp_path: Path) -> None:
    path = tmp_path / "train.conll"
    path.write_text("Ada B-P\nLee I-P\nmet O\n\nBob B-P\n\n" * 10)
    run("train", path, "--out", tmp_path / "model", "--output=crf", "--units=2", "--layers=1", "--epochs=1", "--quiet")
    run("predict", tmp_path / "model", path, "--out", tmp_path / "out.conll", "--paths=3", "--quiet")
    rows = [line.split(" ") for line in (tmp_path / "out.conll").read_text().splitlines()]
    assert [len(row) for row in rows[:4]] == [10, 10, 10, 1]
    assert rows[4][-2:] == ["_", "0.0"]


def test_what_is_refused(folder: Path) -> None:
    model, test = bilstm.load(folder / "softmax"), folder / "test.csv"
    with pytest.raises(
        UserError, match="is for models with output 'crf' or 'constrained', but the model has output 'so"
    ):
        model.predict_paths(test, 2)
    with pytest.raises(UserError, match="is for up to 1,000 of each sequence, not 1,001"):
        bilstm.load(folder / "crf").predict_paths(test, 1001)
    with pytest.raises(ValueError, match="paths must be at least 1"):
        bilstm.load(folder / "crf").predict_paths(test, 0)
    other = SequenceClassifier(units=2, layers=1, epochs=1).fit([np.ones((2, 1))] * 8, ["a", "b"] * 4)
    with pytest.raises(UserError, match="but the model has output 'softmax'"):
        other.model_.predict_paths([np.ones((2, 1))], 2)
    out = folder / "refused.csv"
    said = run("predict", folder / "softmax", test, "--out", out, "--paths=2", status=2).output
    assert "--paths is for models with output 'crf' or 'constrained'" in said
    said = run("predict", folder / "crf", test, "--out", out, "--paths=1001", status=2).output
    assert "1001 is not in the range" in said
    said = run("predict", folder / "crf", test, "--out", out, "--paths=2", "--spans", status=2).output
    assert "--spans writes runs of steps, which cannot be combined with --paths" in said
    for more in ("--paths=2", "--spans"):
        said = run("predict", folder / "crf", "-", "--out=-", "--look-ahead=2", more, status=2, given="").output
        assert "--look-ahead answers row by row, which cannot be combined with" in said
