"""Model files of version 0.1, which knew labels of time steps only, are read, and predict what they predicted."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from bilstm.cli import commands
from bilstm.errors import ModelFileError
from bilstm.model import TrainedModel
from bilstm.modelfile import read_model, write_model
from oracles.models import bits

ROWS = [f"s{i // 5},{i % 5},{'' if i == 7 else i % 7},w{i % 3},{'pq'[i % 2]}\n" for i in range(60)]


def bilstm(*arguments: Any) -> str:
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def as_version_0_1(header: dict[str, Any]) -> dict[str, Any]:
    """The header of a model of time steps' labels as version 0.1 wrote it: see its `tagging/tagger.py`."""
    header = copy.deepcopy(header)

    def part(described: dict[str, Any]) -> dict[str, Any]:
        training = described["training"]
        for name in ("fingerprint", "calibration"):
            training.pop(name, None)
        for name in ("pooling", "calibrate", "conv", "output", "scheme"):
            training["options"].pop(name)
        training["held_out_sequences"] = training.pop("validation_sequences")
        return {"model": described["network"], "training": training}

    schema, task = header["schema"], header["task"]
    columns = {name: schema[name] for name in ("sequence", "order", "numeric", "categorical", "conll_columns")}
    columns |= {"label": task["columns"][0], "classes": task["classes"]}
    old = {"kind": "tagger", "columns": columns, **part(header)}
    return old | ({"baseline": part(header["baseline"])} if "baseline" in header else {})


@pytest.fixture(params=[[], ["--no-baseline"]], ids=["baseline", "none"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """With `new`, a model without scaled probabilities, and the same as version 0.1 wrote it, `old`."""
    (tmp_path / "train.csv").write_text("id,t,x,word,y\n" + "".join(ROWS))
    options = "--sequence id --order t --label y --units 3 --layers 1 --epochs 2 --quiet --no-calibrate"
    bilstm("train", tmp_path / "train.csv", *options.split(), *request.param, "--out", tmp_path / "new")
    tensors, header = read_model(tmp_path / "new")
    write_model(tmp_path / "old", tensors, as_version_0_1(header))
    return tmp_path


def test_it_predicts_the_same(folder: Path) -> None:
    old, new = TrainedModel.load(folder / "old"), TrainedModel.load(folder / "new")
    assert (old.task.kind, old.task.columns, old.schema) == ("step-label", ("y",), new.schema)
    table = folder / "train.csv"
    assert bits(old.predict_proba(table)) == bits(new.predict_proba(table))
    assert old.predict(table).tolist() == new.predict(table).tolist()
    for name in ("old", "new"):
        bilstm("predict", folder / name, table, "--out", folder / f"{name}.csv", "--quiet")
    assert (folder / "old.csv").read_bytes() == (folder / "new.csv").read_bytes()
    scores = [json.loads(bilstm("evaluate", folder / name, table, "--json")) for name in ("old", "new")]
    for found in scores:
        del found["model"], found["notes"]  # it cannot tell whether training had the sequences
    assert scores[0] == scores[1]


def test_it_is_inspected_and_saved_as_a_model(folder: Path) -> None:
    facts = [json.loads(bilstm("inspect", folder / name, "--json")) for name in ("old", "new")]
    assert facts[0]["kind"] == "model"
    assert facts[0]["training"]["validation_sequences"] == facts[1]["training"]["validation_sequences"] > 0
    for name in ("task", "targets", "classes", "columns", "network"):
        assert facts[0][name] == facts[1][name]
    assert (facts[0]["baseline"] is None) == (facts[1]["baseline"] is None)
    assert "predicts a label for each time step" in bilstm("inspect", folder / "old")
    TrainedModel.load(folder / "old").save(folder / "again")
    assert read_model(folder / "again")[1]["kind"] == "model"
    table = folder / "train.csv"
    again, new = TrainedModel.load(folder / "again"), TrainedModel.load(folder / "new")
    assert bits(again.predict_proba(table)) == bits(new.predict_proba(table))
    assert np.array_equal(again.predict(table), new.predict(table))


@pytest.mark.parametrize(
    "change", [{"columns": None}, {"columns": {}}, {"model": None}, {"training": None}, {"baseline": 7}], ids=str
)
def test_a_damaged_one_is_refused(folder: Path, change: dict[str, Any]) -> None:
    tensors, header = read_model(folder / "old")
    write_model(folder / "old", tensors, header | change)
    with pytest.raises(ModelFileError, match="old is not a valid model: "):
        TrainedModel.load(folder / "old")
