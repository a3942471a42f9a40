"""Every option of training that says what the data are: typed, in a TOML file and in Python it is the same, and each of
two values makes another model."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import save_file

import bilstm
from bilstm.cli import commands
from bilstm.model import TrainedModel

VALID: dict[str, Any] = {"sequence": "id", "features": ["x"], "labels": "some.csv", "valid": "steps.csv"}
SMALL: dict[str, Any] = {"units": 2, "layers": 1, "epochs": 2, "validation_split": 0.3}
LONG: dict[str, Any] = {"sequence": "id", "order": "t", "label": "mood", "features": ["x", "word"]}
# The option, what else is said, and two values.
CASES: list[tuple[str, dict[str, Any], Any, Any]] = [
    ("sequence", LONG | {"order": None}, "id", "pair"),
    ("order", LONG, "t", "down"),
    ("label", LONG, "mood", "level"),
    ("label", LONG, ["loud", "high"], ["loud", "low"]),
    ("features", LONG, ["x"], ["word", "x"]),
    ("drop", {"sequence": "id", "order": "t", "label": "mood"}, ["x"], ["word", "level"]),
    ("categorical", LONG, ["x"], []),
    ("spelling", LONG, True, False),
    ("standardize", LONG, True, False),
    ("vectors", LONG, "v.txt", None),
    ("vectors", LONG, "v.txt", {"word": "v.safetensors"}),
    ("freeze_vectors", LONG | {"vectors": "v.txt"}, True, None),
    ("all_vectors", LONG | {"vectors": "v.txt"}, True, None),
    ("group", LONG, "pair", None),
    ("task", LONG | {"label": "level"}, "sequence-label", "sequence-quantity"),
    ("task", LONG | {"label": "level"}, "step-label", "step-quantity"),
    ("labels", {"sequence": "id", "features": ["x"]}, "some.csv", "others.csv"),
    ("valid", LONG | {"validation_split": 0}, "valid.csv", None),
    ("valid_labels", VALID, "some.csv", "o2.csv"),
    ("text", {"label": "mood"}, "word", "note"),
    ("tokens", {"label": "mood", "text": "note"}, "words", "characters"),
    ("pooling", LONG, "max", "attention"),
    ("pooling", LONG, "mean", "last"),
    ("conv", LONG, "4x3", "none"),
    ("conv", LONG | {"task": "step-label"}, "4x3", "4x3+2x2"),
    ("calibrate", LONG, True, False),
    ("calibrate", LONG | {"task": "step-label"}, None, False),
    ("class_weight", LONG, "balanced", {"calm": 3.0, "wild": 0.5}),
    ("baseline", LONG, True, False),
]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("options")
    rng = np.random.default_rng(1)
    for name in ("train.csv", "valid.csv", "steps.csv"):
        lines = ["id,pair,t,down,x,word,note,mood,level,loud,high,low"]
        for i in range(40):
            steps = int(rng.integers(2, 6))
            answers = f"{('calm', 'wild')[i // 2 % 2]},{i // 2 % 3},{i % 2},{i // 3 % 2},{i // 5 % 2}"
            for t in range(steps):
                word = ("Abc", "xyz", "w-1")[int(rng.integers(3))]
                lines.append(f"s{i},p{i // 2},{t},{-t},{rng.normal():.3f},{word},{word} and {word}s,{answers}")
        (folder / name).write_text("\n".join(lines) + "\n")
    for name, classes in (("some.csv", "ab"), ("others.csv", "xyz"), ("o2.csv", "ba")):
        rows = [f"s{i},{classes[i % len(classes)]}" for i in range(40)]
        (folder / name).write_text("\n".join(["id,answer", *rows]) + "\n")
    (folder / "v.txt").write_text("Abc 1 2\nxyz 3 4\nother 5 6\n")
    save_file({"vectors": np.eye(2, dtype=np.float32)}, folder / "v.safetensors", {"words": '["Abc", "xyz"]'})
    return folder


@pytest.fixture
def folder(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    return made


def run(*arguments: Any, status: int = 0) -> Result:
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result


def typed(options: dict[str, Any]) -> list[str]:
    words = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, dict):
            words += [word for key, number in value.items() for word in (f"--{flag}", f"{key}={number}")]
        else:
            words += [f"--{flag}", ",".join(value) if isinstance(value, list) else str(value)]
    return words


def in_toml(options: dict[str, Any]) -> str:
    lines = []
    for name, value in options.items():
        if isinstance(value, dict):
            value = [f"{key}={number}" for key, number in value.items()]
        lines.append(f"{name.replace('_', '-')} = {json.dumps(value)}")
    return "\n".join(lines) + "\n"


NAMES = [f"{number} {case[0]}" for number, case in enumerate(CASES)]


@pytest.mark.parametrize(("name", "others", "first", "second"), CASES, ids=NAMES)
def test_typed_in_a_file_and_in_python(
    folder: Path, name: str, others: dict[str, Any], first: Any, second: Any
) -> None:
    contents = []
    for value in (first, second):
        options = {key: each for key, each in (SMALL | others | {name: value}).items() if each not in (None, [])}
        table = "steps.csv" if "labels" in options and "valid" not in options else "train.csv"
        run("train", table, *typed(options), "--quiet", "--out", "typed")
        (folder / "options.toml").write_text(in_toml(options))
        run("train", table, "--config", "options.toml", "--quiet", "--out", "toml")
        bilstm.train(table, **options).save("python")
        contents.append(Path("typed").read_bytes())
        assert Path("toml").read_bytes() == contents[-1]
        assert Path("python").read_bytes() == contents[-1]
    assert contents[0] != contents[1]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("option", ["out", "checkpoint", "log", "tensorboard"])
def test_files_of_others_are_replaced_by_force_only(folder: Path, tmp_path: Path, option: str, force: bool) -> None:
    files = {"out": "model", option: "taken"}
    other = tmp_path / "taken"
    if option == "tensorboard":
        other.mkdir()
        other = other / "events.out.tfevents.1.host"
    other.write_text("something else\n")
    arguments = ["train", "train.csv", *typed(SMALL | LONG), "--quiet", "--no-baseline", *["--force"] * force]
    arguments += [word for key, name in files.items() for word in (f"--{key}", tmp_path / name)]
    result = run(*arguments, status=0 if force else 2)
    if force:
        assert not other.exists() or other.read_bytes() != b"something else\n"
        assert TrainedModel.load(tmp_path / files["out"]).task.kind == "sequence-label"
    else:
        assert other.read_text() == "something else\n"
        assert os.listdir(tmp_path) == ["taken"]
        assert result.stderr.count("\n") == 1


def test_a_model_is_saved_over_other_files_by_force_only(folder: Path, tmp_path: Path) -> None:
    model = bilstm.train("train.csv", **SMALL, **LONG, baseline=False)
    (tmp_path / "taken").write_text("something else")
    with pytest.raises(bilstm.UserError, match="taken exists and is not a bilstm model: give another name, or"):
        model.save(tmp_path / "taken")
    model.save(tmp_path / "taken", force=True)
    assert bilstm.load(tmp_path / "taken").task == model.task


@pytest.mark.parametrize("calibrate", [True, False, None])
@pytest.mark.parametrize("label", ["mood", ["loud", "high"]])
def test_calibration_leaves_the_labels(folder: Path, calibrate: bool | None, label: Any) -> None:
    """By default a validation set of 12 sequences is too small."""
    options = SMALL | LONG | {"label": label, "baseline": False}
    plain = bilstm.train("train.csv", **options, calibrate=False)
    model = bilstm.train("train.csv", **options, calibrate=calibrate)
    found = model.training["calibration"]
    assert (found is None) == (not calibrate)
    assert (model.predict_proba("train.csv") == plain.predict_proba("train.csv")).all() == (not calibrate)
    assert model.predict("train.csv").tolist() == plain.predict("train.csv").tolist()
    if found:
        assert found["log_loss"] <= found["log_loss_before"]
        model.save("calibrated")
        said = run("inspect", "calibrated").stdout
        assert f"\nprobabilities are scaled by a temperature of {found['temperature']:.3g}\n" in said


def test_calibration_by_default(folder: Path) -> None:
    """Where the validation set is large enough; what it did is printed. Two epochs leave a network too unsure."""
    rng = np.random.default_rng(2)
    rows = [f"{i // 5},{x:.3f},{'hi' if x > 0 else 'lo'}" for i, x in enumerate(rng.normal(size=400))]
    Path("clear.csv").write_text("\n".join(["id,x,y", *rows]) + "\n")
    options = ["--sequence", "id", "--label", "y", "--task", "step-label", *typed(SMALL | {"validation_split": 0.5})]
    options += ["--no-baseline", "--learning-rate", "0.05", "--out", "default"]
    said = run("train", "clear.csv", *options).stdout
    found = TrainedModel.load("default").training["calibration"]
    assert found["temperature"] < 1
    assert found["log_loss"] < found["log_loss_before"]
    assert f"\nprobabilities are scaled by a temperature of {found['temperature']:.3g}: calibration error " in said
    assert f" from {found['calibration_error_before']:.4f} to {found['calibration_error']:.4f}\n" in said
    for more in (["--no-calibrate"], ["--validation-split", "0.2"]):  # the latter: 80 answers
        assert "temperature" not in run("train", "clear.csv", *options, *more).stdout
        assert TrainedModel.load("default").training["calibration"] is None


def test_what_is_printed_of_texts(folder: Path) -> None:
    Path("q.csv").write_text("text,q\n" + "".join(f"word is {i}.5,{i}\n" for i in range(6)))
    options = ["--text", "text", "--label", "q", "--task", "sequence-quantity", "--units", 2, "--epochs", 1]
    said = run("train", "q.csv", *options, "--out", "q").stdout
    assert said.startswith("q.csv: 6 rows, 30 steps\n")
    assert "\ntraining set: 6 sequences of 5 steps, 30 in all\n" in said
    assert "\ntask: quantities for each sequence: q 2.5 ± 1.708 (mean ± standard deviation)\n" in said
    said = run("evaluate", "q", "q.csv").stdout
    assert "\nby how much context lowers the root mean squared error: " in said
    run("predict", "q", "q.csv", "--out", "q.ndjson")
    assert [json.loads(line)["q"] for line in Path("q.ndjson").read_text().splitlines()] == list(range(6))
