"""Streams of a trained model with bounded look-ahead: from Python, on standard input, and their scores."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from bilstm import SequenceTagger, train
from bilstm.cli import commands
from bilstm.errors import UserError
from bilstm.model import TrainedModel
from bilstm.model.predictions import PredictionOptions
from bilstm.model.streaming import predict_stream
from oracles.models import bits

SMALL: dict[str, Any] = {"units": 3, "layers": 2, "epochs": 1, "baseline": False, "seed": 1}
TARGETS = {"label": "y", "labels": "p,q", "quantity": "z"}


class Lines(io.BytesIO):
    """Bytes that come line by line."""

    def read1(self, size: int | None = -1) -> bytes:
        return self.readline()


def bilstm(*arguments: Any, given: str | bytes = "", status: int = 0) -> Result:
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments], input=given)
    assert result.exit_code == status, result.output
    return result


def rows(sequences: int, seed: int = 0) -> list[dict[str, Any]]:
    draw, made = np.random.default_rng(seed), list[dict[str, Any]]()
    for i in range(sequences):
        for t in range(int(draw.integers(1, 15))):
            x = None if draw.random() < 0.1 else round(float(draw.normal()), 3)
            word = str(draw.choice(["red", "green", "blue"]))
            own = {"y": "rst"[int(draw.integers(3))], "p": int(draw.integers(2)), "q": int(draw.integers(2))}
            made.append({"id": f"s{i}", "time": 2 * t, "x": x, "word": word, **own, "z": float(draw.normal())})
    return made


def lines_of(table: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in table)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a model for each kind of answer, `new.ndjson`, and models that cannot be a stream."""
    folder = tmp_path_factory.mktemp("live")
    (folder / "train.ndjson").write_text(lines_of(rows(40)))
    (folder / "new.ndjson").write_text(lines_of(rows(9, seed=1)))
    columns: dict[str, Any] = {"sequence": "id", "order": "time", "features": ["x", "word"]}
    for name, label in TARGETS.items():
        train(folder / "train.ndjson", label=label.split(","), task=f"step-{name}", **columns, **SMALL).save(
            folder / name
        )
    options = SMALL | {"layers": 1}
    train(folder / "train.ndjson", label="y", direction="forward", conv="4x3", **columns, **options).save(
        folder / "forward"
    )
    train(folder / "train.ndjson", label="y", output="crf", **columns, **options).save(folder / "crf")
    firsts = [{**row, "y": "a"} for row in rows(10)] + [{**row, "id": "t" + row["id"], "y": "b"} for row in rows(10)]
    (folder / "firsts.ndjson").write_text(lines_of(firsts))
    train(folder / "firsts.ndjson", label="y", task="sequence-label", **columns, **options).save(folder / "sequence")
    return folder


def sequences(seed: int = 1) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows(9, seed):
        found.setdefault(row["id"], []).append(row)
    return found


# --- From Python ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=8, deadline=None)
@given(st.integers(0, 999), st.sampled_from([30, "all"]))
def test_with_enough_look_ahead_answers_are_those_of_predict(
    folder: Path, name: str, seed: int, look_ahead: Any
) -> None:
    model = TrainedModel.load(folder / name)
    stream, random, found = model.stream(look_ahead=look_ahead), np.random.default_rng(seed), dict[str, Any]()
    left = sequences(seed)
    whole = {key: {n: [row[n] for row in own] for n in ("x", "word")} for key, own in left.items()}
    expected = dict(zip(whole, model.predict(list(whole.values())), strict=True))
    while left:
        steps = {key: [own.pop(0) for _ in range(random.integers(0, len(own) + 1))] for key, own in left.items()}
        for key, answers in stream.push_many(steps).items():
            found.setdefault(key, []).append(answers)
        ended = [key for key, own in left.items() if not own]
        for key, answers in stream.finish_many(ended).items():
            found[key].append(answers)
        left = {key: own for key, own in left.items() if own}
    proba = None if name == "quantity" else dict(zip(whole, model.predict_proba(list(whole.values())), strict=True))
    for key, parts in found.items():
        assert [part.first for part in parts] == np.cumsum([0, *map(len, parts)])[:-1].tolist()
        np.testing.assert_array_equal(np.concatenate([part.predicted for part in parts]), expected[key])
        if proba is None:
            assert {part.probabilities for part in parts} == {None}
        else:
            assert bits(np.concatenate([part.probabilities for part in parts])) == bits(proba[key])
    everything = pd.DataFrame([row for own in sequences(seed).values() for row in own])
    assert stream.observations.missing == {"x": int(everything["x"].isna().sum())}


def test_every_form_of_steps(folder: Path) -> None:
    model = TrainedModel.load(folder / "label")
    steps = [row for own in sequences().values() for row in own if row["x"] is not None][:12]
    columns = {name: [row[name] for row in steps] for name in ("word", "x", "z")}
    forms: list[Any] = [steps, columns, pd.DataFrame(columns), pa.table(columns), tuple(steps)]
    forms.append({name: np.array(values) for name, values in columns.items()})
    expected = model.predict([{name: columns[name] for name in ("x", "word")}])[0]
    for form in forms:
        stream = model.stream(look_ahead=20)
        assert not len(stream.push(form))
        np.testing.assert_array_equal(stream.finish().predicted, expected)
    stream = model.stream(look_ahead=20)
    for row in steps:
        stream.push({"x": row["x"], "word": row["word"], "other": [1, 2]})
    np.testing.assert_array_equal(stream.finish().predicted, expected)


def test_arrays_and_words() -> None:
    draw = np.random.default_rng(0)
    x = [draw.normal(size=(length, 2)) for length in (9, 7, 12)]
    tagger = SequenceTagger(units=2, layers=1, epochs=1, random_state=0).fit(
        x, [(own[:, 0] > 0).astype(int) for own in x]
    )
    stream = tagger.stream(look_ahead=3, block=2)
    parts = [stream.push(x[0][:4]), stream.push([]), stream.push(x[0][4:]), stream.finish()]
    assert [len(part) for part in parts] == [0, 0, 6, 3]
    words = [["a", "b", "a"], ["b", "a", "b", "a"]] * 5
    tagger = SequenceTagger(units=2, layers=1, epochs=1, random_state=0).fit(
        words, [[word == "a" for word in own] for own in words]
    )
    stream = tagger.stream(look_ahead="all")
    stream.push(words[1][:2])
    stream.push(words[1][2:])
    np.testing.assert_array_equal(stream.finish().predicted, tagger.predict(words)[1])
    with pytest.raises(UserError, match="'a b' is a text, which does not say where its steps begin"):
        stream.push("a b")


def test_states_go_to_another_process(folder: Path, tmp_path: Path) -> None:
    model, steps = TrainedModel.load(folder / "label"), rows(3)
    once = model.stream(look_ahead=2)
    expected = [once.push(steps).predicted, once.finish().predicted]
    first = model.stream(look_ahead=2)
    found = [first.push(steps[:5], "a").predicted]
    np.savez(tmp_path / "state.npz", **first.get_state("a"))
    second = TrainedModel.load(folder / "label").stream(look_ahead=2)
    second.set_state(np.load(tmp_path / "state.npz"))
    found += [second.push(steps[5:]).predicted, second.finish().predicted]
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(expected))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ({"x": 1}, "the steps have no 'word', a feature of the model; where it is missing, give None"),
        ({"x": "a", "word": "red"}, "sequence 0 of the stream, step 0: 'a' in column 'x' is not a number"),
        ({"x": np.inf, "word": "red"}, "'inf' in column 'x' is infinite"),
        ({"x": [1, 2], "word": "red"}, "give each feature a list with a value for each step, or, for one step"),
        ({"x": [1, 2], "word": ["red"]}, "'word' has 1 steps, but 'x' has 2"),
        ("red", "'red' is a text, which does not say where its steps begin: give a list of its words"),
        (np.zeros((2, 3)), "the stream has 3 features, but the model is expecting 2 features"),
    ],
)
def test_steps_that_are_refused(folder: Path, steps: Any, message: str) -> None:
    stream = TrainedModel.load(folder / "label").stream(look_ahead=0)
    good = {"x": 1, "word": "red"}
    stream.push(good, "good")
    for call in (lambda: stream.push(steps, "bad"), lambda: stream.push_many({"good": good, "bad": steps})):
        with pytest.raises(UserError) as caught:
            call()
        assert message in str(caught.value)
        assert stream.keys == ["good"]
    assert str(caught.value).startswith("sequence 'bad': ")
    assert stream.finish("good").first == 1


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("crf", {"look_ahead": 4}, "CRF.* predicts the labels of a sequence together"),
        ("sequence", {"look_ahead": 4}, "the model's task is sequence-label: it needs whole sequences"),
        ("forward", {"look_ahead": 4}, "no layer reads backward, so look_ahead=4 only delays outputs: give 0"),
        ("label", {"look_ahead": -1}, "look_ahead must be at least 0"),
        ("label", {"look_ahead": 1, "block": 0}, "block must be at least 1"),
    ],
)
def test_models_that_are_refused(folder: Path, name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TrainedModel.load(folder / name).stream(**options)


def test_a_stream_says_what_it_is(folder: Path) -> None:
    stream = TrainedModel.load(folder / "label").stream(look_ahead=4, block=2)
    stream.push({"x": 1, "word": "red"}, "a")
    assert repr(stream) == "ModelStream(look_ahead=4, block=2; 1 open)"
    assert (len(stream), "a" in stream, "b" in stream) == (1, True, False)
    answers = stream.finish("a")
    assert repr(answers).startswith("Answers(first=0, predicted=array(['")


# --- On standard input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--probabilities"], ["--top", "2"]])
@pytest.mark.parametrize("name", [*TARGETS, "forward"])
def test_with_enough_look_ahead_a_stream_gives_what_the_file_gives(
    folder: Path, tmp_path: Path, name: str, options: list[str]
) -> None:
    if options and name in ("labels", "quantity"):
        options = ["--probabilities"] if name == "labels" else []
    command = ["predict", folder / name, "-", *options, "--quiet"]
    content = (folder / "new.ndjson").read_text()
    expected = bilstm(*command, "--out", "-", given=content).stdout
    bounds: list[Any] = [("all", 1), (40, 7), (40, 1)] if name != "forward" else [(0, 1), (0, 5)]
    for look_ahead, block in bounds:
        bounded = [*command, "--look-ahead", look_ahead, "--block", block, "--out"]
        assert bilstm(*bounded, "-", given=content).stdout == expected
        bilstm(*bounded, tmp_path / "out.ndjson", given=content)
        assert (tmp_path / "out.ndjson").read_text() == expected


def test_rows_are_answered_when_they_are_final(folder: Path) -> None:
    """However they arrive; a row waits for look_ahead rows, and the last ones for another sequence, or the end."""
    model, content = TrainedModel.load(folder / "label"), (folder / "new.ndjson").read_bytes()
    model.network.stream(look_ahead=0)
    found = []
    for source in (Lines(content), io.BytesIO(content)):
        answered = list[bytes]()
        predict_stream(source, answered.append, model, PredictionOptions(), look_ahead=2, block=3)
        found.append(b"".join(answered))
    assert found[0] == found[1]
    of = [json.loads(line) for line in found[0].splitlines()]
    assert [{key: row[key] for key in rows(1)[0]} for row in of] == rows(9, seed=1)
    stream, expected = model.stream(look_ahead=2, block=3), list[str]()
    for own in sequences().values():
        expected += [*stream.push(own).predicted, *stream.finish().predicted]
    assert [row["predicted"] for row in of] == expected

    class Watched(Lines):
        def read1(self, size: int | None = -1) -> bytes:
            line = self.readline()
            read.append(line)
            return line

    read, written, counts = list[bytes](), list[bytes](), list[tuple[int, int]]()

    def write(content: bytes) -> None:
        written.extend(content.splitlines())
        counts.append((len(read), len(written)))

    one = b"".join(json.dumps({"id": 1, "time": t, "x": 0, "word": "red"}).encode() + b"\n" for t in range(10))
    predict_stream(Watched(one), write, model, PredictionOptions(), look_ahead=2, block=3)
    assert counts == [(5, 3), (8, 6), (11, 10)]


def test_summary_of_a_stream(folder: Path) -> None:
    given_lines = (folder / "new.ndjson").read_text()
    whole = bilstm("predict", folder / "label", "-", "--out", "-", given=given_lines).stderr
    assert bilstm("predict", folder / "label", "-", "--look-ahead", 3, "--out", "-", given=given_lines).stderr == whole
    assert whole.startswith("the standard input: 9 sequences of ")


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ('{"id": 1, "time": 2, "x": 1, "word": "a"}', "sequence '1' has time '2' a second time"),
        ('{"id": 1, "time": 1, "x": 1, "word": "a"}', "'1' in 'time' comes before that of the row before it"),
        ('{"id": 1, "time": 3}', "there is no 'x'"),
        ('{"id": 1, "time": 3, "x": 1e999, "word": "a"}', "'inf' in column 'x' is infinite"),
        ('{"id": 1, "time": 3, "x": 1, "word": "a", "predicted": 1}', "there is a value 'predicted' already"),
        ('{"id": 0, "time": 9, "x": 1, "word": "a"}', "sequence '0' is not contiguous"),
        ('{"time": [1], "x": [1], "word": ["a"]}', "is a sequence of its own"),
        ("word", "not one JSON object such as"),
    ],
)
def test_bad_lines(folder: Path, bad: str, message: str, at_once: bool) -> None:
    model = TrainedModel.load(folder / "label")
    good = [json.dumps({"id": i, "time": t, "x": t / 3, "word": "red"}) for i in range(3) for t in (0, 2, 4)]
    content = "\n".join([*good[:5], bad, *good[5:]]).encode()
    source = io.BytesIO if at_once else Lines
    options: Any = {"look_ahead": 1}
    plain, written, problems = io.BytesIO(), io.BytesIO(), list[str]()
    predict_stream(source("\n".join(good).encode()), plain.write, model, PredictionOptions(), **options)
    streamed = predict_stream(
        source(content), written.write, model, PredictionOptions(), lambda error: problems.append(str(error)), **options
    )
    assert written.getvalue() == plain.getvalue()
    assert (streamed.lines, streamed.skipped, len(problems)) == (9, 1, 1)
    assert problems[0].startswith("standard input, line 6")
    assert message in problems[0]
    written = io.BytesIO()
    with pytest.raises(UserError) as caught:
        predict_stream(source(content), written.write, model, PredictionOptions(), **options)
    assert str(caught.value) == problems[0]
    assert written.getvalue().startswith(b"".join(plain.getvalue().splitlines(keepends=True)[:4]))
    assert written.getvalue().count(b"\n") == (5 if "contiguous" in message else 4)  # that row ends the sequence


def test_lines_that_are_sequences(folder: Path) -> None:
    own = [{n: [row[n] for row in steps] for n in ("time", "x", "word")} for steps in sequences().values()]
    content = lines_of([*own, {"time": [], "x": [], "word": []}])
    command = ["predict", folder / "label", "-", "--quiet", "--out", "-"]
    expected = bilstm(*command, given=content).stdout
    assert bilstm(*command, "--look-ahead", 30, given=content).stdout == expected
    assert bilstm(*command, "--look-ahead", 0, given=content).stdout != expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["new.ndjson", "--look-ahead", "3"], "--look-ahead is for the standard input: it needs - as the TABLE"),
        (["-", "--block", "3"], "--block says how many rows become final together: it needs --look-ahead"),
        (["-", "--look-ahead", "3", "--events"], "--look-ahead answers row by row, which cannot be combined with"),
        (["-", "--look-ahead", "3", "--spans"], "answers row by row, which cannot be combined with --spans"),
        (["-", "--look-ahead", "-3"], "'-3' is neither a number of steps, from 0, nor 'all'."),
        (["-", "--look-ahead", "some"], "'some' is neither a number of steps, from 0, nor 'all'."),
        (["-", "--look-ahead", "all", "--block", "2"], "block has no effect with look_ahead='all'"),
    ],
)
def test_options_that_are_refused(folder: Path, options: list[str], message: str) -> None:
    result = bilstm("predict", folder / "label", *options, "--out", "-", status=2)
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_what_is_kept_when_a_stream_stops(folder: Path, tmp_path: Path) -> None:
    content = lines_of([{"id": 1, "time": t, "x": 0, "word": "red"} for t in range(5)]) + "word\n"
    out = tmp_path / "out.ndjson"
    result = bilstm("predict", folder / "label", "-", "--look-ahead", 2, "--out", out, given=content, status=2)
    assert result.stderr.endswith(f"; {out} holds the predictions for all rows whose answers were final\n")
    assert len(out.read_text().splitlines()) == 3
    result = bilstm("predict", folder / "crf", "-", "--look-ahead", 2, "--out", "-", given=content, status=2)
    assert "predicts the labels of a sequence together" in result.stderr


# --- Scores against delay ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TARGETS)
def test_scores_of_a_look_ahead_are_those_of_its_answers(folder: Path, name: str) -> None:
    model = TrainedModel.load(folder / name)
    short, long, whole = model.evaluate_delays(folder / "new.ndjson", [1, 40, "all"], block=2)
    leading = {"label": "accuracy", "labels": "subset_accuracy", "quantity": "mae"}[name]
    assert [each["look_ahead"] for each in (short, long, whole)] == [1, 40, "all"]
    assert [each["delay"] for each in (short, long, whole)] == [2, 41, None]
    offline = model.evaluate(folder / "new.ndjson")
    assert {key: whole[key] for key in offline} == offline == {key: long[key] for key in offline}
    stream, right, truth = model.stream(look_ahead=1, block=2), list[Any](), list[Any]()
    for own in sequences().values():
        right += [*stream.push(own).predicted, *stream.finish().predicted]
        truth += [[row[column] for column in TARGETS[name].split(",")] for row in own]
    answers, true = np.array(right).reshape(len(right), -1), np.array(truth)
    by_hand = np.abs(answers - true).mean() if name == "quantity" else (answers == true).all(axis=1).mean()
    assert short[leading] == pytest.approx(by_hand, abs=1e-6)


def test_evaluate_on_the_command_line(folder: Path, tmp_path: Path) -> None:
    command = ["evaluate", folder / "label", folder / "new.ndjson", "--look-ahead", "0, 2,all,2"]
    said = bilstm(*command, "--out", tmp_path / "delay.svg").stdout.splitlines()
    assert said[1].split() == ["look-ahead", "delay", "accuracy", "mean", "F1"]
    assert [line.split()[0] for line in said[2:5]] == ["0", "2", "all"]
    assert "the whole sequence" in said[4]
    assert said[-1] == f"{tmp_path / 'delay.svg'}: the score against the look-ahead"
    assert "<svg" in (tmp_path / "delay.svg").read_text()
    result = json.loads(bilstm(*command, "--block", 3, "--json").stdout)
    assert [each["delay"] for each in result["look_aheads"]] == [2, 4, None]
    for name in ("labels", "quantity"):
        bilstm("evaluate", folder / name, folder / "new.ndjson", "--look-ahead", "3", "--out", tmp_path / "x.png")
        assert (tmp_path / "x.png").exists()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("label", ["--look-ahead", "0,x"], "'x' is neither a number of steps, from 0, nor 'all'."),
        ("label", ["--block", "2"], "--block is for scores with bounded look-ahead: it needs --look-ahead"),
        ("label", ["--out", "x.png"], "--out is for scores with bounded look-ahead: it needs --look-ahead"),
        ("label", ["--look-ahead", "all", "--block", "2"], "--block has no effect with --look-ahead all"),
        ("label", ["--look-ahead", "0", "--report", "x.html"], "which cannot be combined with a --report"),
        ("crf", ["--look-ahead", "all,4"], "predicts the labels of a sequence together"),
        ("sequence", ["--look-ahead", "4"], "it needs whole sequences"),
    ],
)
def test_evaluations_that_are_refused(folder: Path, name: str, options: list[str], message: str) -> None:
    result = bilstm("evaluate", folder / name, folder / "new.ndjson", *options, status=2)
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_block_without_look_ahead(folder: Path) -> None:
    with pytest.raises(UserError, match="block has no effect without look_ahead"):
        TrainedModel.load(folder / "label").evaluate(folder / "new.ndjson", block=2)
