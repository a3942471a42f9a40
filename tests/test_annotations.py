"""Exports of Doccano, Prodigy and Label Studio as tables of tokens with tags."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bilstm
from bilstm.data.documents import TokenColumns
from bilstm.data.filetable import FileTable
from bilstm.data.reading import read_table
from bilstm.errors import UserError
from bilstm.model.columns import ColumnOptions
from bilstm.model.prepare import prepare

TEXT = "Ann Lee took aspirin."
TOKENS = ["Ann", "Lee", "took", "aspirin", "."]
TAGS = ["B-person", "I-person", "O", "B-drug", "O"]
SPANS = [[0, 7, "person"], [13, 20, "drug"]]
REGIONS = [{"start": s, "end": e, "text": TEXT[s:e], "labels": [label]} for s, e, label in SPANS]
MARKS = [{"start": s, "end": e, "label": label} for s, e, label in SPANS]
OFFSETS = [(0, 3), (4, 7), (8, 12), (13, 20), (20, 21)]


def task(*annotations: Any, **others: Any) -> dict[str, Any]:
    return {"id": 4, "data": {"text": TEXT, "site": "b"}, "annotations": list(annotations), "predictions": [], **others}


def result(regions: list[dict[str, Any]], **others: Any) -> dict[str, Any]:
    values = [{"from_name": "label", "to_name": "text", "type": "labels", "value": each} for each in regions]
    return {"id": 1, "completed_by": 2, "result": values, **others}


PRODIGY = {
    "text": TEXT,
    "_input_hash": 12,
    "tokens": [{"text": TEXT[s:e], "start": s, "end": e, "id": i, "ws": True} for i, (s, e) in enumerate(OFFSETS)],
    "_session_id": None,
    "_view_id": "ner_manual",
    "spans": [{**mark, "token_start": 0, "token_end": 1} for mark in MARKS],
    "answer": "accept",
    "meta": {"source": "x"},
}
EXPORTS: dict[str, tuple[str, Any]] = {
    "Doccano's label": ("doccano", {"id": 4, "text": TEXT, "label": SPANS}),
    "Doccano's data and labels": ("doccano", {"data": TEXT, "labels": SPANS, "Comments": []}),
    "Doccano's entities": ("doccano", {"text": TEXT, "entities": SPANS}),
    "Doccano's relations": (
        "doccano",
        {
            "id": 6400,
            "text": TEXT,
            "Comments": [],
            "entities": [
                {"id": 7 + i, "label": x, "start_offset": s, "end_offset": e} for i, (s, e, x) in enumerate(SPANS)
            ],
            "relations": [{"id": 2, "from_id": 7, "to_id": 8, "type": "takes"}],
        },
    ),
    "Prodigy": ("prodigy", PRODIGY),
    "Prodigy without tokens": ("prodigy", {"text": TEXT, "spans": MARKS, "answer": "accept"}),
    "Label Studio": ("label-studio", [task(result(REGIONS))]),
    "Label Studio's completions": (
        "label-studio",
        [{"data": {"note": TEXT}, "completions": [result(REGIONS)]}],
    ),
    "Label Studio's JSON-MIN": (
        "label-studio",
        [{"id": 4, "text": TEXT, "label": REGIONS, "annotator": 1, "annotation_id": 9, "lead_time": 2.5}],
    ),
    "Label Studio, one task per line": ("label-studio", task(result(REGIONS))),
}


def written(path: Path, *items: Any) -> Path:
    path.write_text("".join(f"{json.dumps(item, ensure_ascii=False)}\n" for item in items), encoding="utf-8")
    return path


def opened(path: Path, **options: Any) -> FileTable:
    return read_table(path, long=False, reading=bilstm.ReadingOptions(**options))


def steps(table: FileTable) -> list[tuple[str | None, ...]]:
    names = [name for name in ("token", "label") if name in table.names]
    return list(zip(*(table.texts(name).tolist() for name in names), strict=True))


@pytest.mark.parametrize("name", EXPORTS)
@pytest.mark.parametrize("stated", [False, True])
def test_exports_are_detected_reported_and_stated(tmp_path: Path, name: str, stated: bool) -> None:
    kind, export = EXPORTS[name]
    path = written(tmp_path / ("a.json" if isinstance(export, list) else "a.jsonl"), export)
    table = opened(path, **({"format": kind} if stated else {}))
    assert steps(table) == list(zip(TOKENS, TAGS, strict=True))
    assert table.guesses() == ([] if stated else [(str(path), bilstm.ReadingOptions(format=kind))])
    assert (table.format, table.tagged, table.lists[0]) == ("ndjson", ("token", "label"), "token")
    assert [table.values(each, np.array([1]))[0] for each in ("start", "end")] == ["4", "7"]


def test_another_format_overrides_what_is_detected(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", {"text": TEXT, "label": SPANS})
    assert opened(path, format="ndjson").names == ["text", "label"]
    with pytest.raises(UserError, match=r"a.jsonl, line 1: .*no 'data'|which of 'text'|a.jsonl, line 1: "):
        steps(opened(written(tmp_path / "a.jsonl", {"x": 1}), format="doccano"))


@pytest.mark.parametrize(
    "item",
    [
        {"text": "good", "label": "positive"},
        {"text": "good", "label": ["a", "b"]},
        {"text": "good", "tokens": ["good"], "tags": ["O"]},
        {"text": "a b", "token": ["a", "b"], "label": ["O", "O"]},
        {"text": "good", "x": [[1, 2, 3]]},
        {"data": {"x": 1}, "y": 2},
        {"id": 1, "x": 0.5},
    ],
)
def test_other_json_is_a_table_as_before(tmp_path: Path, item: dict[str, Any]) -> None:
    table = opened(written(tmp_path / "a.jsonl", item, item))
    assert table.documents is None
    assert table.names == list(item)


def test_compressed_and_several_files(tmp_path: Path) -> None:
    first = tmp_path / "a.jsonl.gz"
    first.write_bytes(gzip.compress(json.dumps({"text": TEXT, "label": SPANS}).encode()))
    second = written(
        tmp_path / "b.jsonl", {"text": "So", "label": [], "meta": 1}, {"text": "Ann", "label": [[1, 2, "x"]]}
    )
    table = read_table([first, second], long=False, reading=bilstm.ReadingOptions(misaligned="skip"))
    assert steps(table)[4:] == [(".", "O"), ("So", "O"), ("Ann", None)]
    assert table.place(6) == f"{second}, line 2, step 1"
    assert table.notes == ["1 span not on token borders: skipped, and their tokens are unlabelled"]


def test_answers_and_annotations_that_do_not_count(tmp_path: Path) -> None:
    rejected, ignored = {**PRODIGY, "answer": "reject"}, {**PRODIGY, "answer": "ignore", "spans": []}
    table = opened(written(tmp_path / "a.jsonl", PRODIGY, rejected, ignored))
    assert [label for _, label in steps(table)] == [*TAGS, *[None] * 10]
    assert table.notes == [
        "1 text with the answer 'reject': unlabelled",
        "1 text with the answer 'ignore': unlabelled",
    ]
    other = result(REGIONS[:1])
    cancelled, truth = result([], was_cancelled=True), result(REGIONS, ground_truth=True)
    tasks = [task(cancelled), task(), task(cancelled, result([])), task(other, truth), task(other, result([]))]
    path = tmp_path / "b.json"
    path.write_text(json.dumps(tasks, indent=1))
    table = opened(path)
    labels = [label for _, label in steps(table)]
    assert labels[:10] == [None] * 10
    assert labels[10:] == ["O"] * 5 + TAGS + ["B-person", "I-person", "O", "O", "O"]
    assert table.notes == ["2 texts with several annotations: the ground truth counts, or the first"]
    assert table.place(0) == f"{path}, line 2, step 1"


def test_own_tokens_count_unless_a_rule_is_stated(tmp_path: Path) -> None:
    own = [{"text": "Ann Lee", "start": 0, "end": 7}, {"text": " ", "start": 7, "end": 8}]
    path = written(tmp_path / "a.jsonl", {"text": TEXT, "tokens": own, "spans": MARKS[:1]})
    assert steps(opened(path)) == [("Ann Lee", "B-person")]
    assert len(steps(opened(path, tokens="words"))) == 5
    assert len(steps(opened(path, tokens="characters"))) == len(TEXT)


@pytest.mark.parametrize(("scheme", "tags"), [("BILOU", ["B-person", "L-person", "O", "U-drug", "O"]), ("io", None)])
def test_spans_become_tags_of_a_scheme(tmp_path: Path, scheme: str, tags: list[str] | None) -> None:
    table = opened(written(tmp_path / "a.jsonl", {"text": TEXT, "label": SPANS}), span_scheme=scheme)
    assert [label for _, label in steps(table)] == (tags or [tag.replace("B-", "I-") for tag in TAGS])


def test_empty_documents_and_texts_alone(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", {"text": "", "label": []}, {"text": "👍 é́", "label": [[0, 1, "x"]]})
    table = opened(path)
    assert (table.input_count, steps(table)) == (2, [("👍", "B-x"), ("é́", "O")])
    empty = opened(written(tmp_path / "c.jsonl", {"text": "a"}, {"text": "b", "label": []}))
    assert steps(empty) == [("a", None), ("b", "O")]
    columns = TokenColumns("word", "tag", "characters", texts=True)
    alone = read_table(written(tmp_path / "b.jsonl", {"text": "ab"}), long=False, words=columns)
    assert (alone.names, alone.texts("word").tolist()) == (["text", "word", "start", "end"], ["a", "b"])
    raw = tmp_path / "a.txt"
    raw.write_text("Ann\r\n\n.", encoding="utf-8")
    table = read_table(raw, reading=bilstm.ReadingOptions(format="text"))
    assert (table.input_count, table.texts("token").tolist()) == (3, ["Ann", "."])
    assert table.place(1) == f"{raw}, line 3, step 1"


TASK = json.dumps(task(result(REGIONS)))
BROKEN = {
    "a.jsonl": [
        ('{"text": "a", "label": [[0, 1, "x"]]}\n{"text": "b", "label": [[0,\n', "line 2: not one JSON object such as"),
        ('{"text": "a", "label": [[0, 1, "x"]]}\n\n{"text": 5, "label": []}', "line 3: 'text' is '5', and not a text"),
        ('{"text": "a", "label": [[0, 1, "x"]]}\n{"label": []}', "there is no 'text'. Its keys: 'label'"),
        ('{"text": "a", "label": [[0, "1", "x"]]}', "line 1: \"[0, '1', 'x']\" is no span"),
        (
            '{"text": "a", "label": [[0, 1, "x"]]}\n{"text": "a", "label": "x"}',
            "line 2: 'label' is 'x', and not a list",
        ),
        ('{"text": "a", "entities": [{"start_offset": 0, "label": "x"}]}', "is no span: a span has a start, an end"),
        ('{"text": "a", "spans": [{"start": 0, "end": 1}]}', "is no span"),
        ('{"text": "a b", "tokens": [{"text": "b", "start": 0, "end": 1}]}', "is no token of the text"),
        ('{"text": "a", "label": [[0, 2, "x"]]}', "line 1: the span 'a' ('x', 0 to 2) lies outside the text"),
        ('{"text": "ab", "label": [[0, 1, "x"]]}', "line 1: the span 'a' ('x', 0 to 1) ends within the token 'ab'"),
        ('{"text": "a", "label": [[0, 1, "x"], [0, 1, "y"]]}', "overlaps 'a' ('x'): a token has one tag"),
    ],
    "a.json": [
        (f"[\n{TASK},\n{TASK[:-9]}\n]", "line 3: broken JSON"),
        (f"[{TASK},\n]", "line 2: broken JSON: Expecting value"),
        (f"[{TASK}\n{TASK}]", "line 2: broken JSON: '{' where , or ] should be"),
        (f"[{TASK}", "line 1: broken JSON: the array is not closed"),
        (f"[{TASK}]\n\n[1]", "line 1: broken JSON: there is something after the array"),
        ("[\n\n5]", "line 3: not a JSON object"),
        ('[{"x": 1}]', "holds a JSON array that is no export of Doccano, Prodigy or Label Studio"),
        ("[]", "holds a JSON array that is no export"),
        (
            f"[{TASK}]".replace('["drug"]', '["drug", "x"]'),
            "'aspirin' has the labels ['drug', 'x']: a token has one tag",
        ),
        ('[{"data": {"x": 1}, "annotations": []}]', "line 1: it has no text"),
        ('[{"data": {"a": "x", "b": "y"}, "annotations": []}]', "which of 'a', 'b' is its text? Rename it to text"),
        (f"[{TASK}]".replace("aspirin.", "\\ud800."), "half of a character"),
    ],
}


@pytest.mark.parametrize(("name", "content", "message"), [(n, *case) for n, cases in BROKEN.items() for case in cases])
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as error:
        opened(path).check_labels()
    assert message in str(error.value)
    assert str(error.value).startswith(str(path))


def test_training_takes_the_columns(tmp_path: Path) -> None:
    items = [{"id": i, "text": TEXT, "label": SPANS} for i in range(8)]
    prepared = prepare(opened(written(tmp_path / "a.jsonl", *items)), ColumnOptions())
    assert (prepared.schema.features, prepared.task.columns) == (["token"], ("label",))
    assert prepared.schema.tokens == "words"
    assert "id: not used unless named with --features" in prepared.notes
    grouped = prepare(opened(tmp_path / "a.jsonl"), ColumnOptions(group="id"))
    assert grouped.schema.features == ["token"]


@pytest.mark.parametrize("tags", ["tags", "ner_tags", "labels"])
def test_lists_of_tokens_and_tags_need_no_option(tmp_path: Path, tags: str) -> None:
    path = written(tmp_path / "a.jsonl", *[{"id": i, "tokens": TOKENS, tags: TAGS, "pos": TOKENS} for i in range(8)])
    prepared = prepare(opened(path), ColumnOptions())
    assert (prepared.schema.features, prepared.task.columns) == (["tokens"], (tags,))
    other = prepare(opened(path), ColumnOptions(label=("pos",)))
    assert other.schema.features == ["tokens", tags]
    both = written(tmp_path / "b.jsonl", {"tokens": TOKENS, "tags": TAGS, "labels": TAGS})
    with pytest.raises(UserError, match="which column of .* is to be predicted"):
        prepare(opened(both), ColumnOptions())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"misaligned": "widen"}, "is for annotated texts, which .* has not"),
        ({"span_scheme": "IOBES"}, "is for annotated texts, which .* has not"),
        ({"tokens": "characters"}, "tokens say what the steps of a text are"),
        ({"tokens": "syllables"}, "--tokens is one of words, compounds, characters, and not 'syllables'"),
        ({"misaligned": "x"}, "--misaligned is one of error, widen, skip"),
        ({"span_scheme": "ABC"}, "--span-scheme is one of IO, IOB2"),
    ],
)
def test_options_without_effect_are_refused(tmp_path: Path, options: dict[str, str], message: str) -> None:
    path = written(tmp_path / "a.jsonl", *[{"s": i // 2, "x": i % 3, "y": "a"} for i in range(8)])
    with pytest.raises(UserError, match=message):
        bilstm.train(path, label="y", sequence="s", reading=options, epochs=1)
    with pytest.raises(UserError, match="cannot be combined with --text"):
        bilstm.train(path, label="y", text="y", reading={"format": "doccano"})
