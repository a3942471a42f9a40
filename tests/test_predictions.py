"""What `bilstm predict` writes: labels, probabilities, the likeliest labels, events; and streams of sequences."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from bilstm import SequenceTagger, train
from bilstm.cli import commands
from bilstm.data.reading import read_table
from bilstm.model import TrainedModel
from bilstm.model.predictions import PredictionOptions
from bilstm.model.streaming import predict_stream
from oracles.models import weight_bits

LABELS = ["rest", "walk", "run"]


class Pipe(io.BytesIO):
    """Lines that come one by one."""

    def read1(self, size: int | None = -1) -> bytes:
        return self.readline()


def bilstm(*arguments: Any, given: str | bytes | None = None, status: int = 0) -> Result:
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments], input=given)
    assert result.exit_code == status, result.output
    return result


def rows(sequences: int, seed: int = 0) -> list[dict[str, Any]]:
    """Sequences of up to nine steps in order; each label stands for a range of x."""
    rng = np.random.default_rng(seed)
    made = []
    for sequence in range(sequences):
        x = rng.normal(size=rng.integers(1, 10)).cumsum().round(3).tolist()
        labels = [LABELS[int(value > -0.5) + int(value > 0.5)] for value in x]
        made += [{"id": f"s{sequence}", "time": 10 * t, "x": x[t], "state": label} for t, label in enumerate(labels)]
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With `model`, `unordered`, which was not told of an order, and new sequences in `new.ndjson` and `new.csv`."""
    folder = tmp_path_factory.mktemp("predictions")
    (folder / "train.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows(40)))
    (folder / "new.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows(12, seed=1)))
    with open(folder / "new.csv", "w") as file:
        writer = csv.DictWriter(file, ["id", "time", "x", "state"])
        writer.writeheader()
        writer.writerows(rows(12, seed=1))
    small = "--sequence id --label state --features x --units 3 --layers 1 --epochs 8 --learning-rate 0.05 --quiet"
    for name, order in (("model", ["--order", "time"]), ("unordered", [])):
        bilstm("train", folder / "train.ndjson", *small.split(), *order, "--out", folder / name)
    return folder


def probabilities(folder: Path, precision: str = "float32") -> np.ndarray:
    model = TrainedModel.load(folder / "model")
    model.precision = precision
    found = model.predict_proba(folder / "new.ndjson")
    assert isinstance(found, np.ndarray)
    return found


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("top", [1, 2, 3])
@pytest.mark.parametrize("every", [False, True])
def test_probabilities_and_the_likeliest(folder: Path, tmp_path: Path, top: int, every: bool) -> None:
    out = tmp_path / "out.ndjson"
    bilstm("predict", folder / "model", folder / "new.ndjson", "--out", out, "--top", top, *["--probabilities"] * every)
    classes = TrainedModel.load(folder / "model").task.classes
    assert classes == ("rest", "run", "walk")
    for row, given, expected in zip(written(out), rows(12, seed=1), probabilities(folder), strict=True):
        for name in given:
            assert row.pop(name) == given[name]
        order = np.argsort(-expected)
        for rank in range(top):
            suffix = f"_{rank + 1}" if rank else ""
            assert row.pop(f"predicted{suffix}") == classes[order[rank]]
            assert row.pop(f"probability{suffix}") == pytest.approx(expected[order[rank]], abs=1e-6)
        if every:
            found = [row.pop(f"probability_of_{name}") for name in classes]
            np.testing.assert_allclose(found, expected, atol=1e-6)
        assert row == {}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_precision_asked_for(folder: Path, tmp_path: Path, precision: str) -> None:
    model, asked = TrainedModel.load(folder / "model"), ("--precision", precision)
    expected = probabilities(folder, precision).astype(np.float64)
    assert np.array_equal(expected, probabilities(folder)) == (precision == "float32")
    out = tmp_path / "out.ndjson"
    bilstm("predict", folder / "model", folder / "new.ndjson", "--out", out, "--probabilities", *asked)
    found = [[row[f"probability_of_{name}"] for name in model.task.classes] for row in written(out)]
    np.testing.assert_array_equal(found, expected.round(6))
    scores = json.loads(bilstm("evaluate", folder / "model", folder / "new.ndjson", "--json", *asked).stdout)
    labels = model.read(folder / "new.ndjson", with_truth=True).known
    right = expected[np.arange(len(labels)), labels]
    assert scores["log_loss"] == pytest.approx(-np.log(right).mean(), rel=1e-9)


@pytest.mark.parametrize("command", [["predict", "--out", "-"], ["evaluate"]])
def test_other_precisions(folder: Path, command: list[str]) -> None:
    name, *options = command
    said = bilstm(name, folder / "model", folder / "new.ndjson", *options, "--precision", "float16", status=2).output
    assert "'float16' is not one of 'float32', 'bfloat16'" in said


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".ndjson", ".csv.gz"])
@pytest.mark.parametrize("model", ["model", "unordered"])
def test_events_are_runs_of_equal_labels(folder: Path, tmp_path: Path, suffix: str, model: str) -> None:
    steps, out = tmp_path / "steps.ndjson", tmp_path / f"events{suffix}"
    bilstm("predict", folder / model, folder / "new.ndjson", "--out", steps)
    expected: list[list[Any]] = []
    before, step = None, 0
    for row in written(steps):
        step = 0 if before is None or before["id"] != row["id"] else step + 1
        if step == 0 or before is None or before["predicted"] != row["predicted"]:
            expected.append([row["id"], None, None, row["predicted"], []])
            expected[-1][1] = row["time"] if model == "model" else step
        expected[-1][2] = row["time"] if model == "model" else step
        expected[-1][4].append(row["probability"])
        before = row
    assert len({event[3] for event in expected}) == 3

    for background in (None, "rest"):
        options = [] if background is None else ["--background", background]
        bilstm("predict", folder / model, folder / "new.ndjson", "--out", out, "--events", *options)
        table = read_table(out)
        assert table.names == ["sequence", "start", "end", "label", "confidence"]
        columns = [table.texts(name).tolist() for name in table.names[:4]]
        wanted = [event for event in expected if event[3] != background]
        assert list(zip(*columns, strict=True)) == [tuple(map(str, event[:4])) for event in wanted]
        means = [np.mean(event[4]) for event in wanted]
        np.testing.assert_allclose(table.numbers("confidence"), means, atol=2e-6)


def test_a_background_that_is_everything_leaves_no_event(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("id,time,x\na,1,-9\na,2,-9\n")
    out = tmp_path / "out.csv"
    bilstm("predict", folder / "model", tmp_path / "new.csv", "--out", out, "--events", "--background", "rest")
    assert out.read_text() == "sequence,start,end,label,confidence\n"


def test_labels_that_differ_in_capitals_only(tmp_path: Path) -> None:
    lines = [f"s{i},{i % 2},{'aA'[i % 2]}" for i in range(20)]
    (tmp_path / "t.csv").write_text("\n".join(["id,x,y", *lines]) + "\n")
    small = ["--sequence", "id", "--label", "y", "--units", "1", "--layers", "1", "--epochs", "1", "--quiet"]
    bilstm("train", tmp_path / "t.csv", *small, "--out", tmp_path / "model")
    command = ["predict", tmp_path / "model", tmp_path / "t.csv", "--out", tmp_path / "out.csv"]
    result = bilstm(*command, "--probabilities", status=2)
    assert "the labels 'A', 'a' differ in capitals only" in result.stderr
    bilstm(*command, "--top", 2)
    assert (tmp_path / "out.csv").read_text().startswith("id,x,y,predicted,probability,predicted_2,probability_2\n")


@pytest.mark.parametrize("options", [[], ["--probabilities"], ["--top", "2"], ["--events"]])
def test_a_stream_gives_what_the_file_gives(folder: Path, tmp_path: Path, options: list[str]) -> None:
    file, stream = tmp_path / "file.ndjson", tmp_path / "stream.ndjson"
    given = (folder / "new.ndjson").read_text()
    bilstm("predict", folder / "model", folder / "new.ndjson", *options, "--out", file)
    result = bilstm("predict", folder / "model", "-", *options, "--out", "-", given=given)
    assert [json.loads(line) for line in result.stdout.splitlines()] == written(file)
    assert result.stderr.startswith("the standard input: 12 sequences of ")
    result = bilstm("predict", folder / "model", "-", *options, "--out", stream, given="\ufeff" + given)
    assert written(stream) == written(file)
    assert result.stdout.startswith(f"{stream}: 12 sequences of ")
    result = bilstm("predict", folder / "model", folder / "new.csv", *options, "--out", "-", "--quiet")
    assert [json.loads(line) for line in result.stdout.splitlines()] == written(file)


def test_a_line_keeps_what_stands_in_it(folder: Path) -> None:
    line = '{ "x":1.50 , "id":1,"time":3,"é":[1,{"a":null}] }'
    said = bilstm(
        "predict", folder / "model", "-", "--out", "-", "--quiet", given=line + "\n\n" + line.replace("1,", "2,", 1)
    ).stdout
    assert said.splitlines()[0].startswith(line[:-1].rstrip() + ', "predicted": "')
    assert len(said.splitlines()) == 2


def test_missing_values_in_a_stream_are_reported(folder: Path) -> None:
    given = '{"id": 1, "time": 1, "x": null}\n{"id": 2, "time": 1, "x": 1}\n'
    said = bilstm("predict", folder / "model", "-", "--out", "-", given=given).stderr
    assert said == (
        "the standard input: 2 sequences of 1 step, 2 in all\n"
        "note: x: 1 missing value, imputed with the mean of the training rows; training had none\n"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ('{"id": 1, "x": 1, "time": 1}\n{"id"\n', "standard input, line 2: not one JSON object such as"),
        ('\n{"time": 1, "x": 1}\n', "standard input, line 2: there is no 'id' (the sequence of each row)."),
        ('{"id": null, "x": 1, "time": 1}\n', "standard input, line 1: 'id', the row's sequence, is missing"),
        ('{"id": 1, "x": "a", "time": 1}\n', "standard input, line 1: 'a' in column 'x' is not a number"),
        ('{"id": 1, "x": 1}\n', "standard input, line 1: there is no 'time' (the order within a sequence)."),
        ('{"id": 1, "time": 1, "X": 1}\n', "standard input, line 1: there is no 'x' (a feature of the model). Did you"),
        ('{"id": 1, "time": 1, "x": 1}\n{"id": 1, "time": 2}\n', "standard input, line 2: there is no 'x' (a feature"),
        ('{"id": 1, "time": 1, "x": 1, "predicted": 1}\n', "standard input, line 1: there is a value 'predicted' alr"),
        ('{"id": 1, "time": 1, "x": 1, "x": 2}\n', "standard input, line 1: not one JSON object such as … 'x' twice"),
        ('{"id": 1, "time": 1, "x": Infinity}\n', "standard input, line 1: not one JSON object such as … Infinity"),
        ('{"id": 1, "time": 1, "x": "+-3"}\n', "standard input, line 1: '+-3' in column 'x' is not a number"),
        ('{"id": "\\ud83d", "time": 1, "x": 1}\n', "standard input, line 1: not one JSON object such as … half of"),
        ('{"id": 1, "time": 1, "x": {"a": 1}}\n', "standard input, line 1: 'x' holds a list or an object, but a cell"),
        ('{"id": 1, "time": 1, "x": 1e999}\n', "standard input, line 1: 'inf' in column 'x' is infinite"),
        ('{"time": [1, 2], "x": [1]}\n', "standard input, line 1: 'time' has 2 steps, but 'x' has 1: the lists of"),
        ('{"id": 1, "time": 1, "x": 1}\n{"time": [1], "x": [1]}\n', "standard input, line 2 is a sequence of its own"),
        ('{"time": [1], "x": [1]}\n{"id": 1, "time": 1, "x": 1}\n', "standard input, line 2 is a time step, but"),
        ('{"id": 1, "time": 1, "x": "1_0"}\n', "standard input, line 1: '1_0' in column 'x' is not a number"),
        ('{"id": 1, "time": "noon", "x": 1}\n', "standard input, line 1: 'noon' in column 'time' cannot order rows"),
        (b'{"id": "\xe9"}\n', "standard input, line 1: not UTF-8 text (byte 0xe9)"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_stream(folder: Path, given: str | bytes, message: str) -> None:
    result = bilstm("predict", folder / "model", "-", "--out", "-", given=given, status=2)
    start, _, rest = message.partition("…")
    assert result.stderr.startswith(f"bilstm: {start}")
    assert rest in result.stderr
    assert result.stderr.count("\n") == 1


S1 = '{"id": 1, "time": 1, "x": 1}\n{"id": 1, "time": 2, "x": 2}\n'
S2 = '{"id": 2, "time": 1, "x": 1}\n'


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(
    ("bad", "answered", "message"),
    [
        ('{"id": 2, "time": 1}\n', 2, "line 3: there is no 'x'"),
        ('{"id": 1, "time": 3}\n', 0, "line 3: there is no 'x'"),
        ('{"id": 2, "time": 1, "x": "a"}\n', 2, "line 3: 'a' in column 'x' is not a number"),
        (S2 + '{"id": 2, "time": 2, "x": "0,5"}\n', 2, "line 4: '0,5' in column 'x' has a decimal comma; write a"),
        (S2 + '{"id": 2, "time": 1, "x": 1}\n', 2, "line 4: sequence '2' has time '1' a second time"),
        (S2 + '{"id": 3, "time": 1, "x": 1, "predicted": 1}\n', 3, "line 4: there is a value 'predicted' already"),
        (S2 + '{"id": 3, "time": 1}\n', 3, "line 4: there is no 'x'"),
        (S2 + "word\n", 2, "line 4: not one JSON object such as"),
        (S2 + "\xff\n", 2, "line 4: not UTF-8 text"),
        (S2 + '{"id": null, "time": 1, "x": 1}\n', 2, "line 4: 'id', the row's sequence, is missing"),
        (S2 + '{"time": [1], "x": [1]}\n', 2, "line 4 is a sequence of its own"),
    ],
)
def test_a_bad_line_loses_no_complete_answer(
    folder: Path, bad: str, answered: int, message: str, at_once: bool
) -> None:
    """What was complete is answered as in a stream without the bad line, whether lines come at once or one by one."""
    model = TrainedModel.load(folder / "model")
    given = (S1 + bad).encode("latin-1")
    expected, target = io.BytesIO(), io.BytesIO()
    good = b"".join(given.splitlines(keepends=True)[: max(answered, 1)])
    predict_stream(io.BytesIO(good), expected.write, model, PredictionOptions())
    source = io.BytesIO(given) if at_once else Pipe(given)
    with pytest.raises(ValueError, match=f"^standard input, {message}"):
        predict_stream(source, target.write, model, PredictionOptions())
    assert target.getvalue() == (expected.getvalue() if answered else b"")


def test_a_mistake_among_many_sequences_that_come_at_once(folder: Path) -> None:
    steps = [json.dumps({"id": i, "time": t, "x": i / 10 - t}) for i in range(40) for t in range(3)]
    steps[3 * 25 + 1] = '{"id": 25, "time": 1, "x": "a"}'
    command = ["predict", folder / "model", "-", "--out", "-"]
    result = bilstm(*command, given="\n".join(steps), status=2)
    assert result.stderr.startswith("bilstm: standard input, line 77: 'a' in column 'x' is not a number")
    assert result.stdout == bilstm(*command, "--quiet", given="\n".join(steps[: 3 * 25])).stdout


@pytest.fixture(scope="module")
def other_models(folder: Path) -> Path:
    """With models of texts, of words in lists, of a CoNLL file, and one that was fitted on arrays."""
    small = {"units": 2, "layers": 1, "epochs": 1, "baseline": False}
    texts = [{"text": text, "of": "ab"[i % 2]} for i in range(10) for text in ("Who is it?", "Where are they?")]
    train(pd.DataFrame(texts), label="of", text="text", **small).save(folder / "texts")
    words = [{"word": ["a", "b"], "tag": ["p", "q"]}, {"word": ["b", "a", "a"], "tag": ["q", "p", "p"]}] * 6
    train(words, label="tag", **small).save(folder / "words")
    (folder / "t.conll").write_text("a p\nb q\n\nb q\na p\n\n" * 6)
    train(folder / "t.conll", **small).save(folder / "conll")
    arrays = np.random.default_rng(0).normal(size=(20, 4, 2))
    SequenceTagger(units=2, layers=1, epochs=1).fit(arrays, arrays[:, :, 0] > 0).save(folder / "arrays")
    return folder


@pytest.mark.parametrize(
    ("model", "given", "answers", "message"),
    [
        ("texts", '{"text": "Who"}\n{"text": "Where"}\n\n{"text": ""}\n{"text": "Who"}\n', 2,
         "line 4: the text in column 'text' has no words: give it some, or leave the row out"),
        ("texts", '{"text": "Who"}\n{"text": null}\n', 1, "line 2: the text in column 'text' has no words: give it"),
        ("texts", '{"text": "Who"}\nWhere is it?\n', 1,
         'line 2: not one JSON object such as {"text": "Where is it?"}: Expecting value'),
        ("texts", '"Where is it?"\n', 0, 'line 1: not one JSON object such as {"text": "Where is it?"}: it is not an'),
        ("words", "a b\n", 0, 'line 1: not one JSON object such as {"word": ["a", "b"]}: '),
        ("words", '{"word": "a"}\n', 0, 'line 1 has no list of steps: for this model, a line is a sequence such as '
         '{"word": ["a", "b"]}, or a time step whose sequence is in a column that --sequence names'),
        ("conll", "a b\n", 0, 'line 1: not one JSON object such as {"token": ["a", "b"]}: '),
        ("arrays", "0.5\n", 0, 'line 1: not one JSON object such as {"0": [0.5, 1.5], "1": [0.5, 1.5]}: '),
        ("arrays", '{"x": [1, 2], "y": [1, 2]}\n', 0, 'line 1 has no list of steps: for this model, a line is a '
         'sequence such as {"0": [0.5, 1.5], "1": [0.5, 1.5]}, or a time step whose sequence is in a column that '
         "--sequence names; --features gives its features other names"),
        ("model", "a b\n", 0, 'line 1: not one JSON object such as {"id": 1, "time": 1, "x": 0.5}: '),
    ],
)  # fmt: skip
def test_a_message_shows_what_the_model_takes(
    other_models: Path, model: str, given: str, answers: int, message: str
) -> None:
    result = bilstm("predict", other_models / model, "-", "--out", "-", given=given, status=2)
    assert result.stderr.startswith(f"bilstm: standard input, {message}")
    assert result.stdout.count("\n") == answers


@pytest.mark.parametrize("model", ["texts", "words", "conll", "arrays", "model"])
def test_the_example_in_a_message_is_right(other_models: Path, model: str) -> None:
    command = ["predict", other_models / model, "-", "--out", "-"]
    said = bilstm(*command, given="5\n", status=2).stderr
    example = said.partition("such as ")[2].partition(": it is not an object")[0]
    assert bilstm(*command, "--quiet", given=example + "\n").stdout.startswith(example[:-1])


def test_a_stream_with_names_for_the_features_of_arrays(other_models: Path) -> None:
    given = '{"x": [1, 2], "y": [1, -2]}\n'
    plain = bilstm(
        "predict", other_models / "arrays", "-", "--out", "-", given=given.replace("x", "0").replace("y", "1")
    )
    named = bilstm("predict", other_models / "arrays", "-", "--out", "-", "--features", "x,y", given=given)
    assert named.stdout.replace('"x"', '"0"').replace('"y"', '"1"') == plain.stdout


@pytest.mark.parametrize("suffix", ["csv", "tsv", "csv.gz", "parquet", "ndjson", "jsonl"])
@pytest.mark.parametrize("options", [[], ["--events"]])
def test_predictions_replace_predictions_and_with_force_anything(
    folder: Path, tmp_path: Path, suffix: str, options: list[str]
) -> None:
    out = tmp_path / f"out.{suffix}"
    out.touch()  # an empty file is no loss
    command = ["predict", folder / "model", folder / "new.csv", "--out", out, "--quiet"]
    bilstm(*command, *options)
    content = out.read_bytes()
    bilstm(*command)
    bilstm(*command, *options)
    assert out.read_bytes() == content
    out.write_bytes((folder / "new.csv").read_bytes())
    assert "exists and is not a file of predictions" in bilstm(*command, status=2).stderr
    assert out.read_bytes() == (folder / "new.csv").read_bytes()
    bilstm(*command, *options, "--force")
    assert out.read_bytes() == content


def test_predictions_of_words_replace_such(other_models: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.conll"
    command = ["predict", other_models / "conll", other_models / "t.conll", "--out", out, "--quiet"]
    bilstm(*command)
    bilstm(*command)
    out.write_bytes((other_models / "t.conll").read_bytes())
    assert "exists and is not a file of predictions" in bilstm(*command, status=2).stderr
    bilstm(*command, "--force")


def test_a_report_replaces_a_report_and_with_force_anything(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.html"
    command = ["evaluate", folder / "model", folder / "new.csv", "--report", out]
    bilstm(*command)
    bilstm(*command)
    out.write_text("<html></html>")
    assert "exists and is not a report that bilstm wrote" in bilstm(*command, status=2).stderr
    bilstm(*command, "--force")
    assert "bilstm" in out.read_text()


def test_a_pipe_that_never_ends(folder: Path) -> None:
    """A sequence is labelled when the next one begins, while the pipe stays open; Ctrl-C and a mistake leave a file."""
    command = [sys.executable, "-m", "bilstm", "predict", str(folder / "model"), "-", "--out", "-"]
    timer = None
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(60, process.kill)
        timer.start()
        for sequence in range(3):
            for t in range(4):
                process.stdin.write(json.dumps({"id": sequence, "time": t, "x": t - 1}).encode() + b"\n")
            process.stdin.flush()
            if sequence:
                found = [json.loads(process.stdout.readline()) for _ in range(4)]
                assert [(row["id"], row["time"]) for row in found] == [(sequence - 1, t) for t in range(4)]
        process.stdin.close()
        assert len(process.stdout.readlines()) == 4
    timer.cancel()
    assert process.returncode == 0


LISTS = [
    {"id": 7, "x": [1.0, -2.0, None], "word": ["a", "b", "a"], "state": ["up", "down", None], "tags": [1]},
    {"id": 7, "x": [0.5, 3.0], "word": ["b", "b"], "state": ["up", "up"], "tags": []},
    {"id": 9, "x": [-1.0], "word": ["a"], "state": None, "tags": [1, 2]},
    {"id": 8, "x": [], "word": [], "state": [], "tags": None},
    {"id": 6, "x": [-0.5, 2.0], "word": ["b", "a"], "state": ["down", "up"], "tags": []},
]


@pytest.mark.parametrize("suffix", [".ndjson", ".parquet"])
def test_rows_with_lists_are_sequences(tmp_path: Path, suffix: str) -> None:
    import duckdb

    lists, steps, out = tmp_path / f"lists{suffix}", tmp_path / "steps.ndjson", tmp_path / f"out{suffix}"
    objects = tmp_path / "lists.ndjson"
    objects.write_text("".join(json.dumps(row) + "\n" for row in LISTS))
    if suffix == ".parquet":
        duckdb.connect().execute(f"COPY (FROM '{objects}') TO '{lists}' (FORMAT parquet)").fetchall()
    with open(steps, "w") as file:
        for number, row in enumerate(LISTS):
            for step, (x, word) in enumerate(zip(row["x"], row["word"], strict=True)):
                state = row["state"] and row["state"][step]
                file.write(json.dumps({"sequence": number, "x": x, "word": word, "state": state}) + "\n")
    small = ["--label", "state", "--units", "2", "--layers", "1", "--epochs", "2", "--quiet", "--validation-split", "0"]
    bilstm("train", steps, "--sequence", "sequence", *small, "--out", tmp_path / "a")
    said = bilstm("train", lists, *[option for option in small if option != "--quiet"], "--out", tmp_path / "b").stdout
    assert weight_bits(TrainedModel.load(tmp_path / "a").network) == weight_bits(
        TrainedModel.load(tmp_path / "b").network
    )
    assert "note: id, tags: not a list of steps, so not used unless named with --features" in said
    assert "training set: 4 sequences of 1 to 3 steps, 8 in all" in said

    bilstm("predict", tmp_path / "b", steps, "--sequence", "sequence", "--out", tmp_path / "expected.ndjson")
    bilstm("predict", tmp_path / "b", lists, "--out", out)
    columns = duckdb.connect().execute(f"SELECT id, x, predicted, probability FROM '{out}'").fetchall()
    assert [(number, x) for number, x, *_ in columns] == [(row["id"], row["x"]) for row in LISTS]
    expected = written(tmp_path / "expected.ndjson")
    assert [label for *_, labels, _ in columns for label in labels or []] == [row["predicted"] for row in expected]
    assert [value for *_, each in columns for value in each or []] == [row["probability"] for row in expected]
    assert [len(labels or []) for *_, labels, _ in columns] == [3, 2, 1, 0, 2]

    first = bilstm("evaluate", tmp_path / "b", lists, "--json").stdout
    second = bilstm("evaluate", tmp_path / "b", steps, "--json", "--sequence", "sequence").stdout
    assert {**json.loads(first), "table": None} == {**json.loads(second), "table": None}
    bilstm("predict", tmp_path / "b", lists, "--out", tmp_path / "events.csv", "--events")
    events = read_table(tmp_path / "events.csv")
    assert events.texts("sequence").tolist()[0] == "1"
    assert events.texts("start").tolist()[0] == "0"


def test_lists_in_a_stream(folder: Path, tmp_path: Path) -> None:
    lines = [json.dumps({"time": [0, 1, 2], "x": [0.5, 1, -3]}), json.dumps({"time": [5], "x": [9]})]
    given = "\n".join(lines) + "\n"
    (tmp_path / "new.ndjson").write_text(given)
    bilstm("predict", folder / "model", tmp_path / "new.ndjson", "--out", tmp_path / "out.ndjson")
    said = bilstm("predict", folder / "model", "-", "--out", "-", "--quiet", given=given).stdout
    assert [json.loads(line) for line in said.splitlines()] == written(tmp_path / "out.ndjson")
    assert [len(json.loads(line)["predicted"]) for line in said.splitlines()] == [3, 1]


def changed(name: str, change: Any) -> list[dict[str, Any]]:
    """The new sequences, the rows of each in another order, with one value of each row changed."""
    table = [{**row, name: change(row[name])} for row in rows(12, seed=1)]
    places = np.random.default_rng(2).permutation(len(table))
    return [table[i] for i in sorted(places.tolist(), key=lambda i: int(table[i]["id"][1:]))]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("time", lambda time: f"2024-02-0{1 + time // 30}T{time % 30:02}:00:00Z"),
        ("time", lambda time: f"2024-02-03 {time // 10:02}:30:00+02"),
        ("time", lambda time: f"2024-02-03T12:00:00.0000{time:02}"),
        ("time", lambda time: f"{time // 10:02}:15"),
        ("time", lambda time: f"{time + 2**60}"),
        ("time", lambda time: time + 2**60),
        ("time", lambda time: f"{time / 8}"),
        ("x", str),
        ("x", lambda x: f" {x}e0 "),
        ("x", lambda x: x > 0),
        ("x", lambda x: "TRUE" if x > 0 else "NA"),
        ("x", lambda x: None if x > 0 else ""),
        ("x", lambda x: "+1" if x > 0 else -1),
    ],
)
@pytest.mark.parametrize("options", [[], ["--events"]])
def test_cells_of_a_stream_are_read_as_those_of_a_file(
    folder: Path, tmp_path: Path, name: str, change: Any, options: list[str]
) -> None:
    given = "".join(json.dumps(row) + "\n" for row in changed(name, change))
    (tmp_path / "new.ndjson").write_text(given)
    command = ["predict", folder / "model"]
    result = bilstm(*command, "-", *options, "--out", "-", given=given)
    notes = bilstm(*command, tmp_path / "new.ndjson", *options, "--out", tmp_path / "out.ndjson").stdout.splitlines()
    assert [json.loads(line) for line in result.stdout.splitlines()] == written(tmp_path / "out.ndjson")
    assert result.stderr.splitlines()[1:] == notes[1:]


def test_codes_and_words_in_a_stream(tmp_path: Path) -> None:
    """What is text in one line and a number in another is the same as in a file, whatever comes at once."""
    values = ["a", 1, "1", True, "true", 2.5, None, "", 3.0, "b"]
    table = [{"id": i // 5, "code": values[i % 10], "y": "pq"[i % 10 < 5]} for i in range(60)]
    given = "".join(json.dumps(row) + "\n" for row in table)
    (tmp_path / "t.ndjson").write_text(given)
    small = ["--sequence", "id", "--label", "y", "--categorical", "code", "--units", 2, "--epochs", 3, "--quiet"]
    bilstm("train", tmp_path / "t.ndjson", *small, "--out", tmp_path / "model")
    bilstm("predict", tmp_path / "model", tmp_path / "t.ndjson", "--out", tmp_path / "out.ndjson", "--quiet")
    said = bilstm("predict", tmp_path / "model", "-", "--out", "-", "--quiet", given=given).stdout
    assert [json.loads(line) for line in said.splitlines()] == written(tmp_path / "out.ndjson")


def test_a_long_sequence_line_by_line_takes_no_more_time_than_at_once(folder: Path, tmp_path: Path) -> None:
    """Each line is looked at once, however many are waiting."""

    lines = [json.dumps({"id": 1, "time": t, "x": t % 3}) + "\n" for t in range(20_000)]
    model = TrainedModel.load(folder / "model")
    target, began = io.BytesIO(), time.process_time()
    found = predict_stream(Pipe("".join(lines).encode()), target.write, model, PredictionOptions())
    assert (found.extent.sequences, found.extent.steps) == (1, 20_000)
    assert target.getvalue().count(b"\n") == 20_000
    assert time.process_time() - began < 10
