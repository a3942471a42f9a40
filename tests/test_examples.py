"""Examples in model files: sequences of the validation set, as they are, a few of them, and only if they are wanted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

import bilstm
from bilstm.cli import commands
from bilstm.data.schema import Schema
from bilstm.data.tokens import RULES, split
from bilstm.errors import ModelFileError
from bilstm.estimators import SequenceTagger
from bilstm.model import TrainedModel
from bilstm.model.examples import MOST, Example, find_examples
from bilstm.model.opening import column_options, prepare_data
from bilstm.model.training import train_prepared
from bilstm.modelfile import read_model, write_model

pytestmark = pytest.mark.fast

SMALL: dict[str, Any] = {"units": 2, "layers": 1, "epochs": 1, "calibrate": False}
COLUMNS = ("id", "x", "level", "word", "y", "a", "b", "size")
KINDS: dict[str, dict[str, Any]] = {
    "step-label": {"label": "y"},
    "step-labels": {"label": ["a", "b"]},
    "step-quantity": {"label": ["size", "a"]},
    "sequence-label": {"label": "whole"},
    "sequence-labels": {"label": ["p", "q"]},
    "sequence-quantity": {"label": "total"},
}


def table(seed: int = 0, sequences: int = 30) -> dict[str, list[Any]]:
    """Sequences with missing cells and labels; numbers of a float32, which have many digits."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[Any]] = {name: [] for name in (*COLUMNS, "whole", "p", "q", "total")}
    for i in range(sequences):
        whole = {"whole": "mn"[i % 2], "p": i % 2, "q": i % 3 // 2, "total": i / 7}
        for t in range(1 + i % 9):
            cells = {"id": f"s{i}", "x": float(np.float32(rng.normal())), "level": None if t % 5 == 3 else t / 3}
            cells |= {
                "word": None if t % 4 == 2 else ("é", 'a "b"', "c, d")[t % 3],
                "y": None if t == 6 else "uv"[t % 2],
            }
            cells |= {"a": t % 2, "b": int(t > 3), "size": i - t / 3}
            for name, cell in (cells | whole).items():
                rows[name].append(cell)
    return rows


def prepared_from(data: Any, task: str, **more: Any) -> Any:
    columns = {"sequence": "id", "task": task, "features": ["x", "level", "word"], **KINDS[task], **more}
    return prepare_data(data, column_options(**columns), bilstm.TrainingOptions(**SMALL, validation_split=0.4))


def save(rows: dict[str, list[Any]], path: Path) -> Path:
    import pandas as pd

    frame = pd.DataFrame(rows)
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.astype({"x": "float32"}).to_parquet(path)
    return path


@pytest.mark.parametrize("task", KINDS)
@pytest.mark.parametrize("source", ["memory", "train.csv", "train.parquet"])
def test_examples_are_sequences_of_the_validation_set(task: str, source: str, tmp_path: Path) -> None:
    """They encode to the same bits, and have the true answers."""
    rows = table()
    prepared = prepared_from(rows if source == "memory" else save(rows, tmp_path / source), task)
    model = train_prepared(prepared, bilstm.TrainingOptions(**SMALL), examples=True)
    model.save(tmp_path / "model")
    model = TrainedModel.load(tmp_path / "model")
    assert len(model.examples) == MOST
    validation = prepared.validation
    encoded = [part.tobytes() for part in validation.values]
    for example in model.examples:
        assert example.whole
        assert list(example.cells) == ["x", "level", "word"]
        index = encoded.index(model.read(model.open([example.cells])).values.values.tobytes())
        name = rows["id"][rows["x"].index(example.cells["x"][0])]
        chosen = [i for i, each in enumerate(rows["id"]) if each == name]
        assert example.steps == len(chosen) == validation.values.lengths[index]
        for target, truth in example.truth.items():
            expected = [rows[target][i] for i in chosen]
            expected = expected[0] if model.task.per_sequence else expected
            assert truth == (pytest.approx(expected) if model.task.what == "quantity" else expected)
    again = find_examples(prepared)
    assert again == model.training["examples"]


def test_they_have_many_labels_and_are_short() -> None:
    rows: dict[str, list[Any]] = {"id": [], "x": [], "y": []}
    for i in range(60):
        for t in range(2 if i % 2 else 50):
            rows["id"].append(i)
            rows["x"].append(t / 7)
            rows["y"].append("rare" if i % 12 == 1 and t == 1 else "common")
    model = bilstm.train(rows, sequence="id", label="y", validation_split=0.5, baseline=False, **SMALL)
    assert [len(example) for example in model.examples] == [2] * MOST
    assert "rare" in model.examples[0].truth["y"]


def test_a_validation_table_is_their_source() -> None:
    rows, valid = table(), table(seed=1)
    columns: dict[str, Any] = {"sequence": "id", "features": ["x"], "baseline": False}
    model = bilstm.train(rows, label="y", valid=valid, **columns, **SMALL)
    assert all(cell in valid["x"] for example in model.examples for cell in example.cells["x"])
    assert model.examples


def test_long_sequences_are_cut_and_none_takes_much_room() -> None:
    rng = np.random.default_rng(0)
    rows = {"id": np.repeat(range(12), 3000), "x": rng.normal(size=36000), "z": rng.normal(size=36000)}
    rows["y"] = np.where(rows["x"] > 0, "up", "down")
    options = {"sequence": "id", "label": "y", "baseline": False, "validation_split": 0.5, **SMALL}
    model = bilstm.train(rows, **options)
    assert len(json.dumps(model.training["examples"])) < 64_000
    assert all(200 < len(each) < 3000 == each.steps and not each.whole for each in model.examples)
    assert all(len(each.truth["y"]) == len(each) for each in model.examples)
    rows["y"] = np.repeat(["up", "down"] * 6, 3000)
    assert bilstm.train(rows, task="sequence-label", **options).examples == []


def test_no_validation_set_has_no_examples() -> None:
    rows = table()
    assert bilstm.train(rows, sequence="id", label="y", validation_split=0.0, **SMALL).examples == []


# --- Texts ------------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30), st.sampled_from(RULES))
def test_a_text_has_the_steps_of_the_example(text: str, rule: str) -> None:
    """Where there is a text; for what a rule itself has divided there is one of words without strange blanks."""
    tokens = split(text, rule)
    schema = Schema.from_json(SCHEMA | {"tokens": rule})
    if not tokens:
        return
    written = Example({"word": list(tokens)}, {}, len(tokens)).text(schema)
    assert written is None or split(written, rule) == tokens
    if text.isascii() and rule != "compounds":
        assert written is not None


model = bilstm.train(
    {"text": ["Is it (really) good, or not?", "No. Bad!"] * 9, "y": ["p", "q"] * 9},
    text="text",
    label="y",
    validation_split=0.3,
    baseline=False,
    **SMALL,
)
SCHEMA = bilstm.train(
    {"id": [1, 1, 2, 2], "word": ["a", "b", "c", "d"], "y": ["p", "q"] * 2},
    sequence="id",
    label="y",
    baseline=False,
    spelling=False,
    **SMALL,
).schema.to_json()


def test_signs_stand_where_they_are_written() -> None:
    assert {example.text(model.schema) for example in model.examples} == {"Is it (really) good, or not?", "No. Bad!"}
    example = Example({"x": [1.0]}, {}, 1)
    assert example.text(bilstm.train(table(), sequence="id", label="y", features=["x"], **SMALL).schema) is None


# --- Whether they are kept --------------------------------------------------------------------------------------------


def test_every_front_leaves_them_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = table()
    save(rows, tmp_path / "train.csv")
    command = ["train", "train.csv", "--sequence", "id", "--label", "y", "--features", "x", "--no-baseline"]
    command += ["--units", "2", "--layers", "1", "--epochs", "1", "--validation-split", "0.4"]
    options: dict[str, Any] = {"sequence": "id", "label": "y", "features": ["x"], "baseline": False}
    options |= {"validation_split": 0.4, "units": 2, "layers": 1, "epochs": 1}
    said = {}
    for name, flags, keyword in (("with", [], {}), ("without", ["--no-examples"], {"examples": False})):
        result = CliRunner().invoke(commands, [*command, "--out", name, *flags])
        assert result.exit_code == 0, result.output
        said[name] = result.output
        trained = TrainedModel.load(name)
        assert bool(trained.examples) == (name == "with")
        assert bilstm.train(tmp_path / "train.csv", **options, **keyword).examples == trained.examples
        inspected = CliRunner().invoke(commands, ["inspect", name]).output
        assert ("examples: 5 sequences of the validation set" in inspected) == (name == "with")
        facts = json.loads(CliRunner().invoke(commands, ["inspect", name, "--json"]).output)
        assert facts["examples"] == len(trained.examples)
        assert "examples" not in facts["training"]
    assert "5 sequences of the validation set are in the file as examples" in said["with"]
    assert "examples" not in said["without"]
    for name, tensor in load_file("with").items():
        assert np.array_equal(tensor, load_file("without")[name])
    own = {"units": 2, "layers": 1, "epochs": 1, "validation_split": 0.4}
    X, y = [np.array([[i / 3], [1.0]]) for i in range(20)], [["p", "q"]] * 20
    assert SequenceTagger(**own).fit(X, y).model_.examples == []
    tagger = SequenceTagger(**own, examples=True).fit(X, y)
    assert len(tagger.model_.examples) == MOST
    tagger.save("tagger")
    assert SequenceTagger.load("tagger").examples is True
    with pytest.raises(ValueError, match="examples must be"):
        SequenceTagger(**own, examples=3).fit(X, y)
    with pytest.raises(ValueError, match="examples must be"):
        bilstm.train(rows, examples=3, **options)


@pytest.mark.parametrize(
    "change",
    [
        lambda e: e[0].pop("steps"),
        lambda e: e[0]["cells"].pop("x"),
        lambda e: e[0]["cells"]["x"].append(1),
        lambda e: e[0]["cells"]["x"].__setitem__(0, [1]),
        lambda e: e[0]["truth"].update(other=1),
        lambda e: e[0].update(cells=3),
        lambda e: e.append("a"),
    ],
)
def test_damaged_examples_are_refused(change: Any, tmp_path: Path) -> None:
    path = tmp_path / "model"
    bilstm.train(table(), sequence="id", label="y", features=["x"], validation_split=0.4, **SMALL).save(path)
    tensors, header = read_model(path)
    change(header["training"]["examples"])
    write_model(path, tensors, {k: v for k, v in header.items() if k != "versions"})
    with pytest.raises(ModelFileError, match="its examples are damaged"):
        TrainedModel.load(path)
