"""Streams of JSON lines: what is answered, whatever comes, ends or is wrong."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from bilstm import train
from bilstm.cli import commands
from bilstm.errors import UserError
from bilstm.model import TrainedModel, streaming
from bilstm.model.predictions import PredictionOptions
from bilstm.model.streaming import predict_stream

SMALL: dict[str, Any] = {"units": 2, "layers": 1, "epochs": 1, "baseline": False}


class Chunks(io.BytesIO):
    """Bytes that come some at a time."""

    def __init__(self, content: bytes, size: int | None = None) -> None:
        super().__init__(content)
        self._size = size

    def read1(self, size: int | None = -1) -> bytes:
        return self.readline() if self._size is None else self.read(self._size)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With models of steps, `steps`, of whole sequences, `sequences`, and of texts, `texts`."""
    folder = tmp_path_factory.mktemp("streams")
    draw = np.random.default_rng(0)
    rows = [{"id": i, "time": t, "x": draw.normal(), "y": "pq"[i % 2]} for i in range(12) for t in range(4)]
    (folder / "train.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns: dict[str, Any] = {"label": "y", "sequence": "id", "order": "time"}
    for name, task in (("steps", "step-label"), ("sequences", "sequence-label")):
        train(folder / "train.ndjson", **columns, task=task, **SMALL).save(folder / name)
    return folder


def bilstm(*arguments: Any, given: str | bytes, status: int = 0) -> Result:
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments], input=given)
    assert result.exit_code == status, result.output
    return result


GOOD = {"id": 0, "time": 0, "x": 0.5}
BAD = [
    b"word",
    b"[1]",
    b'"a"',
    b"{",
    b"\xff",
    b'{"id": null, "time": 1, "x": 1}',
    b'{"id": 1, "time": 1}',
    b'{"id": 1, "time": 1, "x": "a"}',
    b'{"id": 1, "time": 1, "x": "0,5"}',
    b'{"id": 1, "time": 1, "x": "+-3"}',
    b'{"id": 1, "time": 1, "x": {}}',
    b'{"id": 1, "time": "noon", "x": 1}',
    b'{"id": "\\ud800", "time": 1, "x": 1}',
    b'{"id": 1, "id": 2, "time": 1, "x": 1}',
    b'{"id": 1, "time": 1, "x": Infinity}',
    b'{"time": [1, 2], "x": [1, 2]}',
]


def stream_of(lengths: list[int], bad: list[tuple[int, int]]) -> tuple[list[bytes], list[bool]]:
    """The lines of sequences, with bad ones before some of them; and whether each line is bad."""
    lines = [
        json.dumps({**GOOD, "id": f"s{i}", "time": t, "x": i - t}).encode()
        for i, length in enumerate(lengths)
        for t in range(length)
    ]
    wrong = [False] * len(lines)
    for place, kind in sorted(bad, reverse=True):
        at = 1 + place % len(lines)  # after the first, which says what the stream's lines are
        lines.insert(at, BAD[kind])
        wrong.insert(at, True)
    return lines, wrong


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, len(BAD) - 1)), max_size=5),
    st.sampled_from([None, 7, 1 << 16]),
    st.sampled_from(["steps", "sequences"]),
)
def test_a_stream_with_bad_lines(
    folder: Path, lengths: list[int], bad: list[tuple[int, int]], size: int | None, name: str
) -> None:
    """Skipping is as if the bad lines were not there; stopping keeps what was complete before the first of them."""
    model = TrainedModel.load(folder / name)
    lines, wrong = stream_of(lengths, bad)
    content = b"\n".join(lines) + b"\n"
    whole = b"\n".join(line for line, is_bad in zip(lines, wrong, strict=True) if not is_bad)

    messages: list[str] = []
    target = io.BytesIO()
    streamed = predict_stream(
        Chunks(content, size), target.write, model, PredictionOptions(), lambda error: messages.append(str(error))
    )
    expected = io.BytesIO()
    predict_stream(Chunks(whole), expected.write, model, PredictionOptions())
    assert target.getvalue() == expected.getvalue()
    assert (streamed.skipped, streamed.extent.sequences) == (sum(wrong), len(lengths))
    numbers = [number for number, is_bad in enumerate(wrong, 1) if is_bad]
    assert [int(message.split("line ")[1].split()[0].rstrip(":")) for message in messages] == numbers

    if numbers:
        target = io.BytesIO()
        with pytest.raises(UserError, match=f"^standard input, line {numbers[0]}[ :]"):
            predict_stream(Chunks(content, size), target.write, model, PredictionOptions())
        before = io.BytesIO()
        predict_stream(Chunks(b"\n".join(lines[: numbers[0] - 1])), before.write, model, PredictionOptions())
        last = json.loads(lines[numbers[0] - 2])["id"]
        complete = [line for line in before.getvalue().splitlines(keepends=True) if json.loads(line)["id"] != last]
        # The last one is complete, too, where the bad line tells that it is of another sequence.
        assert target.getvalue() in (before.getvalue(), b"".join(complete))


@pytest.mark.parametrize("size", [None, 1 << 16])
@pytest.mark.parametrize("name", ["steps", "sequences"])
def test_rows_of_sequences_that_alternate_are_refused(folder: Path, name: str, size: int | None) -> None:
    keys = ["a", "a", "b", "a", "b", "c"]
    lines = [json.dumps({"id": key, "time": t, "x": t}) for t, key in enumerate(keys)]
    content = "\n".join(lines).encode()
    message = "standard input, line 4: sequence 'a' is not contiguous: after its row in line 2 came one of another seq"
    target = io.BytesIO()
    model = TrainedModel.load(folder / name)
    with pytest.raises(UserError, match=f"^{message}"):
        predict_stream(Chunks(content, size), target.write, model, PredictionOptions())
    told = {json.loads(line)["id"] for line in target.getvalue().splitlines()}
    assert told == {"a", "b"}

    messages: list[str] = []
    target, expected = io.BytesIO(), io.BytesIO()
    predict_stream(
        Chunks(content, size), target.write, model, PredictionOptions(), lambda error: messages.append(str(error))
    )
    predict_stream(Chunks("\n".join(lines[:3] + lines[4:]).encode()), expected.write, model, PredictionOptions())
    assert target.getvalue() == expected.getvalue()
    assert len(messages) == 1


def test_only_the_last_sequences_are_remembered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded: an identifier that comes again after many others is a new sequence."""
    monkeypatch.setattr(streaming, "REMEMBERED", 3)
    model = TrainedModel.load(folder / "steps")
    for others in (3, 4):
        keys = ["a", *map(str, range(others)), "a"]
        content = "\n".join(json.dumps({**GOOD, "id": key}) for key in keys).encode()
        messages: list[UserError] = []
        predict_stream(Chunks(content, 99), lambda _: None, model, PredictionOptions(), messages.append)
        assert len(messages) == (others == 3)


def test_a_sequence_that_is_wrong_as_a_whole_is_left_out(folder: Path) -> None:
    rows = [{"id": i // 2, "time": i % 2, "x": i} for i in range(20)]
    rows[5]["time"] = 0  # a second time in sequence 2
    content = "\n".join(map(json.dumps, rows)).encode()
    messages: list[UserError] = []
    good = "\n".join(json.dumps(row) for row in rows if row["id"] != 2).encode()
    model = TrainedModel.load(folder / "steps")
    target, expected = io.BytesIO(), io.BytesIO()
    streamed = predict_stream(Chunks(content, 99), target.write, model, PredictionOptions(), messages.append)
    predict_stream(Chunks(good), expected.write, model, PredictionOptions())
    assert target.getvalue() == expected.getvalue()
    assert (streamed.skipped, len(messages)) == (2, 1)
    assert str(messages[0]).startswith("standard input, line 6: sequence '2' has time '0' a second time")


@pytest.mark.parametrize("name", ["steps", "sequences"])
def test_empty_lists_mean_the_same_alone_and_in_company(folder: Path, name: str) -> None:
    empty, full = b'{"time": [], "x": []}\n', b'{"time": [1, 2], "x": [0.5, 1]}\n'
    model = TrainedModel.load(folder / name)

    def written(content: bytes) -> bytes:
        target = io.BytesIO()
        predict_stream(Chunks(content, 1 << 16), target.write, model, PredictionOptions())
        return target.getvalue()

    alone, other = written(empty), written(full)
    assert json.loads(alone) == {"time": [], "x": [], "predicted": None, "probability": None}
    assert written(empty + full + empty) == alone + other + alone
    events = io.BytesIO()
    if name == "steps":
        predict_stream(Chunks(empty + full), events.write, model, PredictionOptions(events=True))
        assert {json.loads(line)["sequence"] for line in events.getvalue().splitlines()} == {2}


def test_nan_is_a_missing_value(folder: Path) -> None:
    """As Python's json and NumPy write it; and as a file with it is read."""
    content = '{"id": 1, "time": 1, "x": NaN}\n{"id": 1, "time": 2, "x": 1}\n'
    said = bilstm("predict", folder / "steps", "-", "--out", "-", given=content)
    null = bilstm("predict", folder / "steps", "-", "--out", "-", given=content.replace("NaN", "null"))
    assert said.stdout.replace("NaN", "null") == null.stdout
    assert "x: 1 missing value" in said.stderr


def test_on_error_on_the_command_line(folder: Path, tmp_path: Path) -> None:
    good = "".join(json.dumps({"id": i, "time": t, "x": 1}) + "\n" for i in range(3) for t in range(2))
    lines = good.splitlines(keepends=True)
    content = "".join([*lines[:3], "word\n", *lines[3:], "\n", '{"id": 9, "time": 1}\n'])
    command = ["predict", folder / "steps", "-", "--out"]
    plain = bilstm(*command, "-", "--quiet", given=good).stdout
    for out in ("-", tmp_path / "out.ndjson"):
        result = bilstm(*command, out, "--on-error", "skip", "--quiet", given=content)
        assert (result.stdout if out == "-" else (tmp_path / "out.ndjson").read_text()) == plain
        first, second, count = result.stderr.splitlines()
        assert first.startswith("bilstm: standard input, line 4: not one JSON object such as")
        assert first.endswith("; skipped")
        assert second.startswith("bilstm: standard input, line 9: there is no 'x' (a feature of the model).")
        assert count == "bilstm: 2 lines skipped"

    out = tmp_path / "out.ndjson"
    result = bilstm(*command, out, "--on-error", "stop", given=content, status=2)
    assert result.stderr.startswith("bilstm: standard input, line 4: not one JSON object")
    assert result.stderr.endswith(f"; {out} holds the predictions for all sequences before\n")
    assert result.stderr.count("\n") == 1
    assert out.read_text() == "".join(plain.splitlines(keepends=True)[:2])
    assert os.listdir(tmp_path) == ["out.ndjson"]

    result = bilstm("predict", folder / "steps", "x.csv", "--out", "-", "--on-error", "skip", given="", status=2)
    assert result.stderr == "bilstm: --on-error skip is for the standard input: it needs - as the TABLE\n"


def test_a_file_stays_until_a_sequence_is_complete(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.ndjson"
    out.write_text('{"predicted": "before"}')
    given = json.dumps(GOOD) + "\n["
    result = bilstm("predict", folder / "steps", "-", "--out", out, given=given, status=2)
    assert result.stderr.startswith("bilstm: standard input, line 2: not one JSON object")
    assert out.read_text() == '{"predicted": "before"}'
    assert os.listdir(tmp_path) == ["out.ndjson"]


# --- Time -------------------------------------------------------------------------------------------------------------


def seconds(model: TrainedModel, content: bytes, size: int | None = None) -> float:
    began = time.process_time()
    predict_stream(Chunks(content, size), lambda _: None, model, PredictionOptions())
    return time.process_time() - began


def test_time_grows_with_what_comes_and_not_faster(folder: Path) -> None:
    """Lines one by one of one long sequence; a line in many pieces; objects of many keys; names of many columns."""
    model = TrainedModel.load(folder / "steps")

    def rows(count: int) -> bytes:
        return "".join(json.dumps({"id": 1, "time": t, "x": 1}) + "\n" for t in range(count)).encode()

    def long_line(count: int) -> bytes:
        return json.dumps({"time": [0], "x": [1], "more": "z" * count}).encode()

    def keys(count: int) -> bytes:
        lines = ({"id": i, "time": 0, "x": 1, **{f"k{i}_{n}": n for n in range(count)}} for i in range(10))
        return "".join(json.dumps(line) + "\n" for line in lines).encode()

    for make, small, size in ((rows, 1_000, None), (long_line, 500_000, 1_000), (keys, 500, None)):
        shortest = min(seconds(model, make(small), size) for _ in range(3))
        assert seconds(model, make(8 * small), size) < 30 * shortest + 0.1, make.__name__


@pytest.mark.slow
def test_a_million_lines_one_by_one(folder: Path) -> None:
    resource = pytest.importorskip("resource")
    model = TrainedModel.load(folder / "steps")

    class Endless(io.BytesIO):
        def __init__(self, count: int) -> None:
            super().__init__()
            self._lines = ({"id": i // 4, "time": i % 4, "x": i % 7} for i in range(count))

        def read1(self, size: int | None = -1) -> bytes:
            line = next(self._lines, None)
            return b"" if line is None else json.dumps(line).encode() + b"\n"

    figures = []
    for count in (100_000, 1_000_000):
        began = time.process_time()
        streamed = predict_stream(Endless(count), lambda _: None, model, PredictionOptions())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        figures.append((time.process_time() - began, peak))
        assert streamed.extent.steps == count
    print([f"{took:.0f} s, {peak:.0f} MB" for took, peak in figures])
    assert figures[1][0] < 13 * figures[0][0]
    assert figures[1][1] < figures[0][1] + 20


def test_a_file_of_many_keys_takes_no_more_time_than_they_are(tmp_path: Path) -> None:
    from bilstm.data.reading import read_table

    def seconds_for(count: int) -> float:
        path = tmp_path / "keys.ndjson"
        path.write_text(json.dumps({"id": 1, "x": [1], **{f"k{n}": n for n in range(count)}}) + "\n")
        began = time.process_time()
        assert len(read_table(path).names) == count + 2
        return time.process_time() - began

    assert seconds_for(600) < 30 * min(seconds_for(100) for _ in range(3)) + 0.2
