"""The spans that models find in raw texts: the same from every front, by the characters of the original."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

import bilstm
from bilstm import console
from bilstm.cli import commands
from bilstm.data.marked import MarkedText, TokenSpan, line_of, written
from bilstm.data.reading import read_table
from bilstm.data.tokens import split, token_bounds
from bilstm.errors import UserError
from bilstm.metrics.tags import get_entities
from bilstm.model.predictions import PredictionOptions
from bilstm.model.streaming import predict_stream

SMALL: dict[str, Any] = {"units": 4, "layers": 1, "epochs": 8, "learning_rate": 0.05, "baseline": False, "seed": 1}
NAMES, TOWNS = ["Eva", "Tom Bar", "Ann"], ["Ashby", "Far Ley"]
# What texts may be: one token, none, unseen characters, combining marks, emoji, right to left, control characters.
HARD = [
    "Eva",
    "",
    " \t",
    "Tom Bar sold Far Ley to Ann.",
    "é̂va née À Ashby",
    "👩‍👩‍👧 Eva 👍🏽🇩🇪!",
    "\u200fאווה גרה ב־Ashby\u200e",
    "हिन्दी में Eva",
    "Eva\x1b[31m, \x00Ann \u2028Tom",
    "漢字 ，Ashby",
]


def sentences() -> list[tuple[str, list[list[Any]]]]:
    found = []
    for number in range(60):
        name, town = NAMES[number % 3], TOWNS[number % 2]
        text = [f"{name} sold {town}.", f"In {town}, {name} said so!", f"{town} elected {name}"][number % 3]
        marks = [[text.index(each), text.index(each) + len(each)] for each in (name, town)]
        found.append((text, [[*marks[0], "person"], [*marks[1], "town"]]))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With models of the same names, trained on annotated texts, lists, columns and lists in memory, and others."""
    folder = tmp_path_factory.mktemp("texts")
    docs = "".join(json.dumps({"text": text, "label": marks}) + "\n" for text, marks in sentences())
    (folder / "docs.jsonl").write_text(docs)
    table = read_table(folder / "docs.jsonl", long=False)
    tokens, tags = (table.texts(name).tolist() for name in ("token", "label"))
    ends = [index for index, (row,) in enumerate(table.query("SELECT step FROM cells ORDER BY rowid")) if row == 0]
    bounds = list(zip(ends, [*ends[1:], len(tokens)], strict=True))
    rows = [{"tokens": tokens[a:b], "tags": tags[a:b]} for a, b in bounds]
    (folder / "lists.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = ["".join(f"{x} {y}\n" for x, y in zip(row["tokens"], row["tags"], strict=True)) for row in rows]
    (folder / "words.conll").write_text("\n".join(columns))
    for source in ("docs.jsonl", "lists.jsonl", "words.conll"):
        bilstm.train(folder / source, **SMALL).save(folder / source.partition(".")[0])
    other = [{"tokens": row["tokens"], "tags": ["x" if each == "O" else "y" for each in row["tags"]]} for row in rows]
    (folder / "other.jsonl").write_text("".join(json.dumps(row) + "\n" for row in other))
    bilstm.train(folder / "other.jsonl", **SMALL).save(folder / "no-tags")
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> bilstm.TrainedModel:
    model = bilstm.load(folder / "docs")
    model.warn = False
    return model


def command(*arguments: Any, given: str | bytes = "", status: int = 0) -> str:
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments], input=given)
    assert result.exit_code == status, result.output
    return result.stdout if status == 0 else result.output


def plain(spans: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: span[name] for name in ("start", "end", "label", "text")} for span in spans]


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(st.one_of(st.sampled_from(HARD), st.text("Eva Ash\u0301by\n👍", max_size=12)), max_size=5))
def test_spans_are_those_of_the_tokens_wherever_they_stand(model: bilstm.TrainedModel, texts: list[str]) -> None:
    together = model.annotate(texts, probabilities=True)
    assert together == [model.annotate(text, probabilities=True) for text in texts]
    for text, spans in zip(texts, together, strict=True):
        bounds = token_bounds(text)
        tags = model.predict([split(text)])[0].tolist() if bounds else []
        assert [(s["label"], s["start"], s["end"]) for s in spans] == [
            (label, bounds[first][0], bounds[last][1]) for label, first, last in get_entities(tags)
        ]
        assert all(span["text"] == text[span["start"] : span["end"]] for span in spans)
        assert all(0 < span["probability"] <= 1 for span in spans)


@pytest.mark.parametrize("name", ["docs", "lists", "words"])
def test_every_front_finds_the_same(folder: Path, tmp_path: Path, name: str) -> None:
    model = bilstm.load(folder / name)
    model.warn = False
    texts = [text for text in HARD if "\u2028" not in text]
    expected = model.annotate(texts)
    assert sum(map(len, expected)) > 5
    raw = "\n".join(texts) + "\n"
    lines = command("predict", folder / name, "-", "--format", "text", "--out", "-", given=raw).splitlines()
    streamed = [json.loads(line) for line in lines]
    assert [each["text"] for each in streamed] == texts
    assert [plain(each["spans"]) for each in streamed] == expected
    (tmp_path / "raw.txt").write_text(raw, encoding="utf-8")
    for out in ("a.jsonl", "b.ndjson.gz"):
        command("predict", folder / name, tmp_path / "raw.txt", "--format", "text", "--out", tmp_path / out)
        content = (tmp_path / out).read_bytes()
        content = gzip.decompress(content) if out.endswith("gz") else content
        assert [json.loads(line) for line in content.splitlines()] == streamed
    given_objects = "".join(json.dumps({"id": 1, "text": text}) + "\n" for text in texts)
    options = ("--annotate", "json", "--out", "-")
    assert command("predict", folder / name, "-", *options, given=given_objects).splitlines() == lines
    (tmp_path / "texts.jsonl").write_text(given_objects)
    assert command("predict", folder / name, tmp_path / "texts.jsonl", *options).splitlines() == lines
    tagger = bilstm.SequenceTagger.load(folder / name)
    tagger.model_.warn = False
    assert tagger.annotate(texts) == expected
    from_file = model.adapted(reading=bilstm.ReadingOptions(format="text")).predict(tmp_path / "raw.txt")
    assert from_file.tolist() == [tag for text in texts if split(text) for tag in model.predict([split(text)])[0]]


def test_an_estimator_that_was_fitted_on_lists_annotates_texts(folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / "lists.jsonl").read_text().splitlines()]
    X, y = [row["tokens"] for row in rows], [row["tags"] for row in rows]
    options = {name: value for name, value in SMALL.items() if name != "seed"}
    tagger = bilstm.SequenceTagger(**options, random_state=1)
    with pytest.raises(NotFittedError):
        tagger.annotate("Eva")
    tagger.fit(X, y)
    (spans,) = tagger.annotate(["In Ashby, Eva said so!"], probabilities=True)
    tags = tagger.predict([split("In Ashby, Eva said so!")])[0].tolist()
    assert [span["label"] for span in spans] == [label for label, *_ in get_entities(tags)]


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_a_stream_may_be_cut_anywhere(model: bilstm.TrainedModel, size: int) -> None:
    class Cut(io.BytesIO):
        def read1(self, _: int | None = -1) -> bytes:
            return self.read(size)

    raw = model.adapted(reading=bilstm.ReadingOptions(format="text"))
    answers: list[bytes] = []
    options = PredictionOptions(annotate="doccano")
    streamed = predict_stream(Cut("Eva 👍\r\n\nIn Ashby".encode()), answers.append, raw, options)
    found = [json.loads(line) for line in b"".join(answers).splitlines()]
    assert [each["text"] for each in found] == ["Eva 👍", "", "In Ashby"]
    assert (streamed.lines, streamed.extent.sequences) == (3, 2)
    with pytest.raises(UserError, match="standard input is empty"):
        predict_stream(io.BytesIO(b""), answers.append, raw, options)
    with pytest.raises(UserError, match="standard input, line 2: not UTF-8 text"):
        predict_stream(io.BytesIO(b"Eva\n\xff"), answers.append, raw, options)


def test_each_raw_text_is_answered_before_the_next_one_comes(model: bilstm.TrainedModel) -> None:
    answers: list[bytes] = []
    texts = [b"In Ashby, Eva said so!\n", b"\n", b"Eva\n", b"Ashby\n"]

    class Typed(io.BytesIO):
        lines = 0

        def read1(self, _: int | None = -1) -> bytes:
            assert b"".join(answers).count(b"\n") == self.lines
            self.lines = min(self.lines + 1, len(texts))
            return self.readline()

    raw = model.adapted(reading=bilstm.ReadingOptions(format="text"))
    predict_stream(Typed(b"".join(texts)), answers.append, raw, PredictionOptions(annotate="json"))
    found = [json.loads(line)["text"] for line in b"".join(answers).splitlines()]
    assert found == [text.decode().strip("\n") for text in texts]


def test_a_text_of_20_000_tokens(model: bilstm.TrainedModel) -> None:
    text = "In Ashby, Eva said so! " * 3334
    spans = model.annotate(text)
    assert len(split(text)) > 20_000
    assert max(span["end"] for span in spans) > len(text) - 30


def test_what_is_written_is_read_again(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "raw.txt").write_text("\n".join(HARD[3:7]), encoding="utf-8")
    model = bilstm.load(folder / "docs")
    model.warn = False
    predicted = [tag for text in HARD[3:7] for tag in model.predict([split(text)])[0]]
    for form in ("json", "doccano"):
        options = ("--format", "text", "--annotate", form, "--force")
        command("predict", folder / "docs", tmp_path / "raw.txt", *options, "--out", tmp_path / "out.jsonl")
        table = read_table(tmp_path / "out.jsonl", long=False)
        assert table.texts("label").tolist() == predicted
        assert table.guesses()[0][1].format == {"json": "prodigy"}.get(form, form)
    options = ("--format", "text", "--annotate", "label-studio", "--probabilities")
    command("predict", folder / "docs", tmp_path / "raw.txt", *options, "--out", tmp_path / "tasks.json")
    tasks = json.loads((tmp_path / "tasks.json").read_text(encoding="utf-8"))
    regions = [[each["value"] for each in task["predictions"][0]["result"]] for task in tasks]
    assert [[(r["start"], r["end"], r["labels"][0]) for r in each] for each in regions] == [
        [(s["start"], s["end"], s["label"]) for s in spans] for spans in model.annotate(HARD[3:7])
    ]
    assert all("score" in each for task in tasks for each in task["predictions"][0]["result"])
    command("predict", folder / "docs", tmp_path / "raw.txt", *options, "--out", tmp_path / "tasks.json")  # again


def test_annotations_are_evaluated_and_predicted(folder: Path, tmp_path: Path) -> None:
    report = bilstm.load(folder / "words").evaluate(folder / "docs.jsonl")
    assert report["spans"]["f1"] > 0.9
    report = bilstm.load(folder / "lists").evaluate(folder / "docs.jsonl")
    assert report["spans"]["f1"] > 0.9
    command("predict", folder / "words", folder / "docs.jsonl", "--out", tmp_path / "out.jsonl")
    first = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert list(first) == ["text", "token", "start", "end", "label", "predicted", "probability"]
    lines = command("predict", folder / "docs", folder / "words.conll", "--annotate", "doccano", "--out", "-")
    assert json.loads(lines.splitlines()[0]) == {
        "text": "Eva sold Ashby .",
        "label": [[0, 3, "person"], [9, 14, "town"]],
    }


def test_wrong_spans_matter_to_those_who_use_them(folder: Path, tmp_path: Path) -> None:
    good = (folder / "docs.jsonl").read_text()
    bad = '{"text": "Eva said", "label": [[0, 2, "person"]]}\n{"text": "so", "label": [[0, 9, "person"]]}\n'
    (tmp_path / "a.jsonl").write_text(good + bad)
    lines = command("predict", folder / "docs", tmp_path / "a.jsonl", "--annotate", "doccano", "--out", "-")
    assert len(lines.splitlines()) == 62
    model = bilstm.load(folder / "docs")
    for reading, message in ({}, "line 62: the span .* lies outside"), ({"misaligned": "widen"}, "line 62"):
        with pytest.raises(UserError, match=message):
            model.adapted(reading=bilstm.ReadingOptions(**reading)).evaluate(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl").write_text(good + bad.splitlines()[0])
    with pytest.raises(UserError, match="line 61: the span 'Ev' .* ends within the token 'Eva'. Correct"):
        bilstm.train(tmp_path / "a.jsonl", **SMALL)
    with pytest.raises(UserError, match="line 61"):
        bilstm.train(folder / "docs.jsonl", valid=tmp_path / "a.jsonl", **SMALL)
    output = command("evaluate", folder / "docs", tmp_path / "a.jsonl", "--misaligned", "skip")
    assert "note: 1 span not on token borders: skipped, and their tokens are unlabelled" in output


def test_highlighting(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--format", "text", "--annotate", "highlight", "--quiet")
    assert command("predict", folder / "docs", "-", *options, given="Eva sold Far Ley.\n\n") == (
        "[Eva person] sold [Far Ley town].\n\n"
    )
    spans = [TokenSpan(0, 0, "a", 0.5), TokenSpan(1, 1, "b\x1b", 1.0)]
    text = MarkedText("x\x1b[31m\ny z", [(0, 1), (7, 8), (9, 10)], spans)
    assert line_of(text, "brackets", ["a", "b\x1b"], probabilities=True) == "[x a 0.50]\\x1b[31m\n[y b\\x1b 1.00] z\n"
    colours = line_of(text, "colours", ["a", "b\x1b"], probabilities=False)
    assert colours == "\x1b[30;46m x \x1b[1ma \x1b[0m\\x1b[31m\n\x1b[30;43m y \x1b[1mb\\x1b \x1b[0m z\n"
    assert list(written([], "label-studio", [], probabilities=False)) == ["[]\n"]
    for terminal, variables, expected in (
        (True, {}, "colours"),
        (False, {}, "brackets"),
        (True, {"NO_COLOR": "1"}, "brackets"),
        (True, {"NO_COLOR": ""}, "colours"),
        (True, {"TERM": "dumb"}, "brackets"),
    ):
        for name in ("NO_COLOR", "TERM"):
            monkeypatch.setenv(name, variables.get(name, ""))
        output = io.StringIO()
        monkeypatch.setattr(output, "isatty", lambda terminal=terminal: terminal)
        monkeypatch.setattr(console.sys, "stdout", output)
        assert console.highlighting() == expected
    monkeypatch.undo()


def test_the_rule_is_the_models(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("Lee-Ann B-person\nsaid O\nso O\n\n" * 30)
    compounds = bilstm.train(tmp_path / "a.conll", **SMALL)
    assert compounds.schema.tokens == "compounds"
    assert compounds.annotate("Lee-Ann said so")[0]["text"] == "Lee-Ann"
    stated = compounds.adapted(reading=bilstm.ReadingOptions(tokens="words"))
    stated.warn = False
    assert stated.schema.token_rule == "words"
    compounds.save(tmp_path / "model")
    assert bilstm.load(tmp_path / "model").schema.token_rule == "compounds"
    letters = bilstm.train(folder / "docs.jsonl", tokens="characters", **SMALL)
    assert letters.schema.token_rule == "characters"
    assert bilstm.load(folder / "docs").schema.token_rule == "words"
    given = "In Ashby, Eva said"
    lines = command(
        "predict", folder / "docs", "-", "--format", "text", "--tokens", "characters", "--out", "-", given=given
    )
    assert len(json.loads(lines)["tokens"]) == len(given)


def test_raw_texts_for_models_without_tags(folder: Path, tmp_path: Path) -> None:
    lines = command("predict", folder / "no-tags", "-", "--format", "text", "--out", "-", given="Eva said\n\n")
    first, second = map(json.loads, lines.splitlines())
    assert first | {"probability": 0} == {
        **{"text": "Eva said", "tokens": ["Eva", "said"], "start": [0, 4], "end": [3, 8]},
        **{"predicted": first["predicted"], "probability": 0},
    }
    assert second["predicted"] is None
    texts = [{"t": f"{word} it is", "y": word} for word in ("good", "bad") for _ in range(20)]
    (tmp_path / "reviews.jsonl").write_text("".join(json.dumps(each) + "\n" for each in texts))
    bilstm.train(tmp_path / "reviews.jsonl", text="t", label="y", **SMALL).save(tmp_path / "reviews")
    lines = command("predict", tmp_path / "reviews", "-", "--format", "text", "--out", "-", given="good it is\n\n")
    assert [json.loads(line)["predicted"] for line in lines.splitlines()] == ["good", None]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("predict no-tags - --annotate json --out -", "for labels that mark spans, tags such as B-X, I-X and O"),
        (
            "predict docs - --annotate json --top 2 --out -",
            "--annotate writes texts with spans, which cannot be combined with",
        ),
        ("predict docs - --annotate json --events --out -", "cannot be combined with --events"),
        (
            "predict docs - --annotate highlight --out a.jsonl",
            "highlight is for the terminal, so that --out can only be -",
        ),
        ("predict docs - --annotate json --spans --out -", "cannot be combined with --spans"),
        ("predict docs - --annotate json --paths 2 --out -", "cannot be combined with --paths"),
        ("predict docs - --annotate json --look-ahead 2 --out -", "step by step, which cannot be combined with"),
        ("predict docs - --annotate json", "missing option '--out'"),
        ("predict docs - --annotate label-studio --out -", "one JSON array, which no stream can be"),
        ("predict docs - --out a.json", "predictions for the standard input are written as .ndjson, or to -"),
        ("predict docs docs.jsonl --out a.json", "predictions are one JSON object per line; use .ndjson or .jsonl"),
        (
            "predict docs docs.jsonl --annotate json --out a.csv",
            "texts in the form json are written to .ndjson",
        ),
        ("predict docs docs.jsonl --annotate json --out a.json", "are written to .ndjson or .jsonl, or to -"),
        ("predict docs docs.jsonl --annotate label-studio --out a.jsonl", "are written to .json, or to -"),
        (
            "predict docs words.conll --annotate json --out lists.jsonl",
            "lists.jsonl exists and is not a file of",
        ),
        ("predict docs words.conll --misaligned skip --out a.csv", "says how annotated texts are read, and has no"),
        ("predict docs raw.txt --out a.jsonl", "for raw texts, predict has --format text"),
        ("predict docs empty.txt --format text --out a.jsonl", "empty.txt is empty: it has no row"),
    ],
)
def test_refusals(folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, message: str) -> None:
    monkeypatch.chdir(folder)
    Path("raw.txt").write_text("Eva said so\nIn Ashby\n")
    Path("empty.txt").write_text("\n\n")
    output = command(*arguments.split(), given='{"text": "Eva"}\n', status=2)
    assert message in " ".join(output.split())
    assert not Path("a.jsonl").exists()


def test_models_of_more_than_tokens_are_refused(folder: Path, tmp_path: Path) -> None:
    rows = "".join(f"{token} N {tag}\n" for token, tag in zip("abcd", "BOIB", strict=True)) + "\n"
    (tmp_path / "a.conll").write_text(rows * 10)
    model = bilstm.train(tmp_path / "a.conll", features=["token", "column_2"], **SMALL)
    with pytest.raises(UserError, match="at each step the model reads columns: 'token', 'column_2'"):
        model.annotate("a b")
    raw = model.adapted(reading=bilstm.ReadingOptions(format="text"))
    with pytest.raises(UserError, match="raw text has tokens and nothing else"):
        predict_stream(io.BytesIO(b"a"), len, raw, PredictionOptions(annotate="json"))
    with pytest.raises(UserError, match="texts are strings, but text 1 is a list"):
        bilstm.load(folder / "docs").annotate(["a", ["b"]])
    reviews = bilstm.train({"t": ["a b"] * 20, "y": ["p", "q"] * 10}, text="t", label="y", **SMALL)
    with pytest.raises(UserError, match="for labels of time steps, but the model's task is sequence-label"):
        reviews.annotate("a")


def test_steps_of_a_stream_are_annotated_in_their_order(tmp_path: Path) -> None:
    rows = [
        {"s": s, "t": 9 - t, "word": word, "label": label}
        for s in range(40)
        for t, (word, label) in enumerate([("said", "O"), ("Eva", "B-x"), ("so", "O")])
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"sequence": "s", "order": "t", "label": "label", "features": ["word"]}
    bilstm.train(tmp_path / "rows.jsonl", **options, **SMALL).save(tmp_path / "model")
    given = "".join(json.dumps({name: row[name] for name in ("s", "t", "word")}) + "\n" for row in rows[:6])
    lines = command("predict", tmp_path / "model", "-", "--annotate", "doccano", "--out", "-", given=given).splitlines()
    assert [json.loads(line) for line in lines] == [{"text": "so Eva said", "label": [[3, 6, "x"]]}] * 2


def test_folders(folder: Path, tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"Eva said {name}\n")
    command("predict", folder / "docs", tmp_path / "*.txt", "--format", "text", "--out", tmp_path / "out/")
    assert sorted(path.name for path in (tmp_path / "out").glob("*.ndjson")) == ["a.txt.ndjson", "b.txt.ndjson"]
