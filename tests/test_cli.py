"""The command line on tables of every format, and every option of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from bilstm.cli import commands
from bilstm.data.reading import read_table
from bilstm.model import TrainedModel
from bilstm.modelfile import read_model
from bilstm.progress import Progress
from bilstm.training.options import TrainingOptions
from bilstm.training.planning import _MOST_EPOCHS
from bilstm.wording import when_stopped

SMALL = [
    "--units",
    "8",
    "--layers",
    "1",
    "--epochs",
    "6",
    "--learning-rate",
    "0.05",
    "--dropout",
    "0",
    "--batch-size",
    "4",
]
COLUMNS = ["--sequence", "id", "--label", "state", "--order", "t"]


def bilstm(*arguments: Any, status: int = 0) -> Result:
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result


def rows(sequences: int, seed: int = 0) -> list[dict[str, Any]]:
    """`state` is "high" or "low" as x is, except that the word "not" a step before turns it round; shuffled rows."""
    rng = np.random.default_rng(seed)
    made = []
    for sequence in range(sequences):
        words = rng.choice(["not", "is", "was"], size=rng.integers(1, 9)).tolist()
        for step, word in enumerate(words):
            x = float(rng.normal())
            high = (x > 0) != (step > 0 and words[step - 1] == "not")
            state = "" if rng.random() < 0.1 else "high" if high else "low"
            made.append({"id": f"s{sequence}", "t": step, "x": round(x, 4), "word": word, "state": state})
    return [made[i] for i in rng.permutation(len(made))]


def write(path: Path, table: list[dict[str, Any]]) -> Path:
    if path.suffix in (".csv", ".parquet"):
        text = "\n".join([",".join(table[0]), *(",".join(str(cell) for cell in row.values()) for row in table)]) + "\n"
        source = path.with_suffix(".csv")
        source.write_text(text)
        if path.suffix == ".parquet":
            import duckdb

            read = f"SELECT * FROM read_csv('{source}', all_varchar = false)"
            duckdb.connect().execute(f"COPY ({read}) TO '{path}' (FORMAT parquet)").fetchall()
            source.unlink()
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table))
    return path


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Path]:
    """Train on a small CSV with further arguments; the model's path."""
    write(tmp_path / "train.csv", rows(30))

    def run(*arguments: Any, name: str = "model") -> Path:
        bilstm("train", tmp_path / "train.csv", *COLUMNS, *SMALL, "--quiet", "--out", tmp_path / name, *arguments)
        return tmp_path / name

    return run


@pytest.mark.fast
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".ndjson"])
def test_train_evaluate_predict(tmp_path: Path, suffix: str) -> None:
    model, out = tmp_path / "model.safetensors", tmp_path / f"out{suffix}"
    training, testing = (
        write(tmp_path / f"train{suffix}", rows(300)),
        write(tmp_path / f"test{suffix}", rows(50, seed=1)),
    )
    said = bilstm("train", training, *COLUMNS, *SMALL, "--epochs", 25, "--out", model).stdout
    labels = [row["state"] for row in rows(300)]
    assert f"train{suffix}: {len(labels):,} rows\n" in said
    assert "2 features:\n  x     number, mean " in said
    assert "  word  text, 3 different values\n" in said
    assert "\ntask: a label for each time step, 2 classes in 'state'; the majority class, " in said
    assert "training set: 270 sequences of 1 to 8 steps, " in said
    assert "validation set: 30 sequences of 1 to 8 steps, " in said
    assert "and on the validation set an accuracy of " in said

    tested = rows(50, seed=1)
    labelled = [row["state"] for row in tested if row["state"]]
    report = json.loads(bilstm("evaluate", model, testing, "--json").stdout)
    assert report["accuracy"] > 0.9
    assert report["steps"] == len(labelled)
    assert report["majority"] == max(labelled.count("high"), labelled.count("low")) / len(labelled)
    assert {name: score["support"] for name, score in report["per_class"].items()} == {
        "high": labelled.count("high"),
        "low": labelled.count("low"),
    }
    said = bilstm("evaluate", model, testing).stdout
    low, high = report["intervals"]["accuracy"]
    assert f"\naccuracy           {report['accuracy']:.4f} [{low:.4f}, {high:.4f}]\n" in said
    assert f"\nalways guessing the majority class: accuracy {report['majority']:.4f}\n" in said
    assert [line.split()[0] for line in said.splitlines()[-3:]] == ["class", "high", "low"]

    assert "50 sequences of 1 to 8 steps" in bilstm("predict", model, testing, "--out", out).stdout
    before, after = read_table(testing), read_table(out)
    assert after.names == [*before.names, "predicted", "probability"]
    for name in before.names:
        assert after.texts(name).tolist() == before.texts(name).tolist()
    predicted, probability = after.texts("predicted"), after.numbers("probability")
    assert set(predicted) == {"high", "low"}
    right = [guess == row["state"] for guess, row in zip(predicted, tested, strict=True) if row["state"]]
    assert np.mean(right) == report["accuracy"]
    expected = TrainedModel.load(model).predict_proba(testing).max(axis=1)
    np.testing.assert_allclose(probability, expected, atol=1e-6)


def test_formats_can_be_mixed(tmp_path: Path) -> None:
    """The same rows give the same model and the same predictions in every format."""
    predictions = []
    tested = rows(20, seed=1)
    for suffix in (".csv", ".parquet", ".ndjson"):
        model = tmp_path / f"model{suffix}"
        bilstm("train", write(tmp_path / f"train{suffix}", rows(40)), *COLUMNS, *SMALL, "--quiet", "--out", model)
        for other in (".csv", ".ndjson"):
            out = tmp_path / f"out{other}"
            bilstm("predict", model, write(tmp_path / f"test{other}", tested), "--quiet", "--out", out)
            predictions.append(read_table(out).numbers("probability"))
    for other in predictions[1:]:
        np.testing.assert_array_equal(other, predictions[0])


def test_conll_files_need_no_flags(tmp_path: Path) -> None:
    table = sorted(rows(60), key=lambda row: (int(row["id"][1:]), row["t"]))
    lines = []
    for row, following in zip(table, [*table[1:], None], strict=True):
        lines.append(f"{row['word']}\t{row['x']}\t{'B' if row['word'] == 'not' else 'O'}\n")
        if following is None or following["id"] != row["id"]:
            lines.append("\n")
    content = "# newdoc\n" + "".join(lines)
    (tmp_path / "train.conll").write_text(content)
    model = tmp_path / "model"
    said = bilstm("train", tmp_path / "train.conll", "--out", model, *SMALL).stdout
    assert "  token  text, 3 different values\n" in said
    assert "note: column_2: not used unless named with --features" in said
    assert json.loads(bilstm("evaluate", model, tmp_path / "train.conll", "--json").stdout)["accuracy"] == 1

    tokens = "".join(line.split("\t")[0].rstrip("\n") + "\n" for line in content.splitlines(keepends=True))
    (tmp_path / "tokens.txt").write_text(tokens)
    bilstm("predict", model, tmp_path / "tokens.txt", "--out", tmp_path / "out.txt")
    for before, after in zip(tokens.splitlines(), (tmp_path / "out.txt").read_text().splitlines(), strict=True):
        if before and not before.startswith("#"):
            token, predicted, probability = after.split("\t")
            assert (token, predicted) == (before, "B" if before == "not" else "O")
            assert 0.5 <= float(probability) <= 1
        else:
            assert after == before

    both = bilstm("train", tmp_path / "train.conll", "--features", "token,column_2", "--out", model, *SMALL).stdout
    assert "  column_2  number, mean " in both


def test_the_same_seed_gives_the_same_file(train: Callable[..., Path]) -> None:
    first = train()
    options = [["--seed", "1"], ["--threads", "1"], ["--threads", "2"], ["--checkpoint", first.with_name("checkpoint")]]
    for number, same in enumerate(options):
        assert train(*same, name=f"same{number}").read_bytes() == first.read_bytes()
    assert train("--seed", "2", name="other").read_bytes()[-2000:] != first.read_bytes()[-2000:]


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--units", [3, 5]),
        ("--layers", [1, 2]),
        ("--merge-mode", ["concat", "sum", "mul", "ave"]),
        ("--direction", ["both", "forward", "backward", "none"]),
        ("--cell", ["lstm", "gru", "simple"]),
        ("--dropout", [0.25, 0.5]),
        ("--embedding", [2, 7]),
        ("--epochs", [1, 3]),
        ("--batch-size", [1, 9]),
        ("--learning-rate", [0.01, 0.02]),
        ("--weight-decay", [0.0, 2.0]),
        ("--patience", [1, 2]),
        ("--validation-split", [0.2, 0.5]),
        ("--seed", [3, 4]),
        ("--time-limit", [30.0, 60.0]),
    ],
)
def test_every_training_option_has_its_effect(train: Callable[..., Path], option: str, values: list[Any]) -> None:
    models = [read_model(train(option, value, name=f"model{value}")) for value in values]
    name = option.removeprefix("--").replace("-", "_")
    assert [header["training"]["options"][name] for _, header in models] == values
    if option not in ("--patience", "--time-limit"):
        contents = {tuple((key, tensor.tobytes()) for key, tensor in sorted(tensors.items())) for tensors, _ in models}
        assert len(contents) == len(values)
    if option == "--validation-split":
        assert [header["training"]["validation_sequences"] for _, header in models] == [6, 14]  # of 29 with labels


def test_one_mask_for_all_steps_of_a_sequence(train: Callable[..., Path]) -> None:
    for given, kind in (([], "Dropout"), (["--variational-dropout"], "SpatialDropout1D")):
        _, header = read_model(train(*given, "--dropout", 0.2))
        names = {layer["class_name"] for layer in header["network"]["layers"]}
        assert {name for name in names if "Dropout" in name} == {kind}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["balanced"], "balanced"),
        (["high=3"], {"high": 3.0}),
        (["high=3", "low=0.5"], {"high": 3.0, "low": 0.5}),
    ],
)
def test_class_weights(train: Callable[..., Path], given: list[str], expected: Any) -> None:
    plain = TrainedModel.load(train())
    weighted = TrainedModel.load(train(*(word for text in given for word in ("--class-weight", text)), name="weighted"))
    assert weighted.training["options"]["class_weight"] == expected
    assert set(weighted.training["history"]) == {"loss", "val_loss"}  # the weighted loss decides
    assert weighted.network.tensors().keys() == plain.network.tensors().keys()
    assert weighted.training["history"]["loss"] != plain.training["history"]["loss"]


def test_training_stops_early(tmp_path: Path, train: Callable[..., Path]) -> None:
    _, header = read_model(train("--epochs", 200, "--patience", 2))
    assert header["training"]["epochs"] == header["training"]["best_epoch"] + 2
    log = tmp_path / "log"
    _, header = read_model(train("--epochs", 10**6, "--patience", 10**6, "--time-limit", 0.3, "--log", log))
    assert header["training"]["stopped"] == "the time limit was reached"
    assert 0.2 <= json.loads(log.read_text().splitlines()[-1])["seconds"] < 3


def test_no_validation_set(train: Callable[..., Path]) -> None:
    _, header = read_model(train("--validation-split", 0))
    assert header["training"]["validation_sequences"] == 0
    assert header["training"]["sequences"] == 30
    assert set(header["training"]["history"]) == {"loss"}


def test_what_is_printed_without_a_validation_set(tmp_path: Path) -> None:
    path, model = write(tmp_path / "train.csv", rows(30)), tmp_path / "model"
    said = [
        bilstm("train", path, *COLUMNS, *SMALL, "--validation-split", share, "--out", model).stdout
        + bilstm("inspect", model).stdout
        for share in (0, 0.2)
    ]
    for words in (
        "\nno validation set: the last epoch was kept, with a loss of ",
        "; no validation set\n",
    ):
        assert [words in text for text in said] == [True, False]
    for words in ("\nthe best was epoch ", "; validated on 6 more\n"):
        assert [words in text for text in said] == [False, True]


def test_a_validation_table(tmp_path: Path, train: Callable[..., Path]) -> None:
    valid = write(tmp_path / "valid.ndjson", rows(7, seed=2))
    _, header = read_model(train("--valid", valid))
    assert header["training"]["validation_sequences"] == 7
    assert header["training"]["sequences"] == 30


def test_a_new_label_in_the_validation_table_is_left_out(tmp_path: Path) -> None:
    path, valid = write(tmp_path / "train.csv", rows(30)), rows(7, seed=2)
    said, histories = [], []
    for name, label in (("without", ""), ("new", "strange")):
        valid[3] = {**valid[3], "state": label}
        table, model = write(tmp_path / f"{name}.csv", valid), tmp_path / name
        said.append(bilstm("train", path, *COLUMNS, *SMALL, "--valid", table, "--out", model).stdout)
        histories.append(read_model(model)[1]["training"]["history"])
    assert histories[0] == histories[1]
    note = "\nnote on the validation set: 1 step with a label that is unknown to the model ('strange'), left out\n"
    assert [note in text for text in said] == [False, True]


def test_groups_are_set_aside_whole(tmp_path: Path) -> None:
    table = [{"who": f"w{int(str(row['id'])[1:]) // 6}", **row} for row in rows(24)]
    path, sides = write(tmp_path / "groups.ndjson", table), []
    for seed in (1, 2):
        arguments = ["--group", "who", "--validation-split", 0.5, "--seed", seed, "--out", tmp_path / "model"]
        bilstm("train", path, *COLUMNS, *SMALL, *arguments)
        trained = TrainedModel.load(tmp_path / "model")
        assert trained.schema.features == ["x", "word"]
        sides.append((trained.training["validation_sequences"], trained.schema.numeric[0].mean))
    assert {count for count, _ in sides} == {12}
    assert sides[0][1] != sides[1][1]  # other groups are trained on


@pytest.mark.fast
def test_features_are_chosen(tmp_path: Path, train: Callable[..., Path]) -> None:
    def features(*arguments: str) -> list[str]:
        return TrainedModel.load(train(*arguments)).schema.features

    assert features() == ["x", "word"]
    assert features("--features", "word") == ["word"]
    assert features("--features", "word, x") == ["x", "word"]
    assert features("--features", "word", "--features", "t") == ["t", "word"]
    assert TrainedModel.load(train("--features", "t", "--categorical", "t")).schema.categorical[0].name == "t"
    table = [{**row, "a,b": row["x"]} for row in rows(9)]
    path = write(tmp_path / "commas.ndjson", table)
    bilstm("train", path, *COLUMNS, *SMALL, "--features", "a,b", "--out", tmp_path / "model")
    assert TrainedModel.load(tmp_path / "model").schema.features == ["a,b"]


def test_other_names_can_be_given(tmp_path: Path, train: Callable[..., Path]) -> None:
    model = train()
    usual = write(tmp_path / "usual.csv", rows(9, seed=3))
    other = tmp_path / "other.csv"
    other.write_text(usual.read_text().replace("id,t,x,word,state", "key,time,x,word,truth"))
    names = ["--sequence", "key", "--order", "time"]
    expected = json.loads(bilstm("evaluate", model, usual, "--json").stdout)
    found = json.loads(bilstm("evaluate", model, other, "--json", *names, "--label", "truth").stdout)
    assert {**found, "table": None} == {**expected, "table": None}
    bilstm("predict", model, usual, "--out", tmp_path / "a.csv")
    bilstm("predict", model, other, *names, "--out", tmp_path / "b.csv", "--threads", 1)
    assert (tmp_path / "a.csv").read_text().split("\n")[1:] == (tmp_path / "b.csv").read_text().split("\n")[1:]


def test_sequences_of_one_step(tmp_path: Path) -> None:
    table = [{"id": i, "x": i % 2, "state": "ab"[i % 2]} for i in range(40)]
    path = write(tmp_path / "train.csv", table)
    said = bilstm("train", path, "--sequence", "id", "--label", "state", *SMALL, "--out", tmp_path / "model").stdout
    assert "training set: 36 sequences of 1 step, 36 in all" in said
    assert json.loads(bilstm("evaluate", tmp_path / "model", path, "--json").stdout)["accuracy"] == 1


def test_missing_and_unknown_values_are_reported(tmp_path: Path, train: Callable[..., Path]) -> None:
    table = rows(9, seed=4)
    table[0]["x"], table[1]["word"], table[2]["word"] = "", "perhaps", ""
    path = write(tmp_path / "new.csv", table)
    said = bilstm("predict", train(), path, "--out", tmp_path / "out.csv").stdout
    assert "note: x: 1 missing value, imputed with the mean of the training rows; training had none\n" in said
    assert f"note: word: 2 values of {len(table)} (" in said
    assert said.count("note: ") == 2


def test_quiet_is_quiet(tmp_path: Path, train: Callable[..., Path]) -> None:
    model = train()
    result = bilstm("predict", model, tmp_path / "train.csv", "--out", tmp_path / "out.csv", "--quiet")
    assert result.output == ""


def test_a_model_may_be_replaced_by_another(tmp_path: Path, train: Callable[..., Path]) -> None:
    assert train("--units", 2).read_bytes() != train("--units", 3).read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["model", "train.csv"]


def test_help_tells_the_defaults() -> None:
    said = " ".join(bilstm("train", "--help").stdout.split())
    for name in ("units", "dropout", "learning_rate", "weight_decay", "patience", "seed"):
        default = getattr(TrainingOptions(), name)
        part = said.partition(f"--{name.replace('_', '-')} ")[2].partition(" --")[0]
        assert f"[default: {default}]" in part
    assert "Recurrent layers. Default: 3 for steps whose features are all text, otherwise 2." in said
    assert "Share of the sequences for the validation set. Default: 0.1, but at most 1,000 sequences; none if" in said


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_names_the_commands(arguments: list[str]) -> None:
    said = bilstm(*arguments).stdout
    for command in ("train", "evaluate", "predict", "compare", "demo"):
        assert f"\n  {command} " in said


def test_demo_is_called_with_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    import bilstm.demo as module

    calls = []
    monkeypatch.setattr(module, "run_demo", lambda *arguments: calls.append(arguments))
    bilstm("demo")
    options = ["--steps", 5, "--units", 6, "--sequences", 7, "--merge-mode", "sum", "--seed", 8, "--out", "a.png"]
    bilstm("demo", *options)
    assert calls == [(10, 20, 1000, "concat", None, None), (5, 6, 7, "sum", 8, "a.png")]


def test_python_m_and_its_imports() -> None:
    from bilstm import __version__

    run = subprocess.run([sys.executable, "-m", "bilstm", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout == f"bilstm {__version__}\n"
    code = "import sys, bilstm.cli; print([m for m in ('numpy', 'duckdb', 'tqdm', 'matplotlib') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


class Terminal:
    """A standard error that someone watches."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("quiet", [False, True])
def test_progress_is_shown_where_somebody_watches(monkeypatch: pytest.MonkeyPatch, quiet: bool) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(quiet=quiet) as progress:
        for epoch in range(1, 4):
            progress({"epoch": epoch, "epochs": 3, "done": 0.5, "loss": 0.5})
            time.sleep(0.11)
            progress({"epoch": epoch, "epochs": 3, "done": 1.0, "loss": 0.25, "val_loss": 0.3, "val_accuracy": 0.9})
    if quiet:
        assert terminal.text == ""
    else:
        assert "of 3 |" in terminal.text
        assert "validation accuracy=0.9000" in terminal.text


def test_progress_of_what_is_gone_on_with(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The time left is told by the epochs of this run; without an accuracy, the loss is what is judged by."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress(quiet=False) as progress:
        progress({"epoch": 91, "epochs": 100, "done": 0.0, "resumed": [{"epoch": 1}] * 90})
        time.sleep(0.2)
        progress({"epoch": 91, "epochs": 100, "done": 1.0, "loss": 0.25, "val_loss": 0.3, "seconds": 40.0})
    assert capsys.readouterr().out == "resuming after 90 of at most 100 epochs\n"
    assert "epoch 90.0 of 100 |" in terminal.text
    assert re.search(
        r"<(?!00:00)\d\d:\d\d, loss=0.2500, validation loss=0.3000", terminal.text
    )  # not as after 91 epochs
    assert progress.seconds == 40


@pytest.mark.parametrize("unlabelled", [0, 12])
def test_train_says_how_many_sequences_have_a_label(tmp_path: Path, unlabelled: int) -> None:
    steps = [f"s{row // 2},{row % 5}" for row in range(80)]
    labels = [f"s{number},{'ab'[number % 2]}" for number in range(40 - unlabelled)]
    (tmp_path / "train.csv").write_text("\n".join(["id,x", *steps]) + "\n")
    (tmp_path / "labels.csv").write_text("\n".join(["id,label", *labels]) + "\n")
    arguments = ["--sequence", "id", "--labels", tmp_path / "labels.csv", *SMALL, "--out", tmp_path / "model"]
    said = bilstm("train", tmp_path / "train.csv", *arguments, "--validation-split", 0.25).stdout
    sets = dict(re.findall("^(training|validation) set: (.*)$", said, re.MULTILINE))
    assert ("with a label" in sets["training"]) == bool(unlabelled)
    counts = [re.findall(r"(\d+) sequences", extent)[-1] for extent in sets.values()]
    assert sum(map(int, counts)) == 40 - unlabelled
    report = bilstm("evaluate", tmp_path / "model", tmp_path / "train.csv", status=2).stderr
    assert report.endswith("if the labels are in a table of their own, name it with --labels (labels=…)\n")


def test_after_a_stop_the_temperature_is_said() -> None:
    history = {"loss": [0.5], "val_loss": [0.6], "val_accuracy": [0.7]}
    training = {"stopped": "stopped by the user after epoch 1", "best_epoch": 1, "history": history}
    assert when_stopped(training, "m").endswith("; it has no baseline")
    scaled = {"temperature": 1.5, "calibration_error_before": 0.2, "calibration_error": 0.1}
    said = when_stopped({**training, "calibration": scaled}, "m")
    assert "; it has no baseline; probabilities are scaled by a temperature of 1.5: " in said


@pytest.mark.parametrize("command", ["train", "compare"])
def test_help_gives_the_default_of_epochs(command: str) -> None:
    said = " ".join(bilstm(command, "--help").stdout.split())
    assert f"Default: by the amount of data, 20 to {_MOST_EPOCHS}." in said
