"""Annotated texts as Doccano, Prodigy and Label Studio export them, and plain texts, as documents.

Objects stand one per line, or all in one JSON array. Offsets count characters from 0, and an end is the offset after
the last one.

- Doccano (https://doccano.github.io/doccano/tutorial/, and the exporters in its `backend/data_export`): a line is
  `{"text": …, "label": [[start, end, label], …]}`; the text may be called "data", and the spans "labels" or "entities".
  With relations, "entities" are `{"start_offset": …, "end_offset": …, "label": …}`.
- Prodigy (https://prodi.gy/docs/api-interfaces#ner_manual, https://prodi.gy/docs/recipes#db-out): a line is
  `{"text": …, "tokens": [{"text": …, "start": …, "end": …}, …], "spans": [{"start": …, "end": …, "label": …}, …],
  "answer": "accept"}`. A text whose answer is "reject" or "ignore" is unlabelled.
- Label Studio (https://labelstud.io/guide/task_format, https://labelstud.io/guide/export): an array of tasks
  `{"data": {"text": …}, "annotations": [{"result": [{"value": {"start": …, "end": …, "text": …, "labels": […]}}]}]}`;
  in its JSON-MIN a task has the keys of "data" itself, and a list of such values. Of several annotations
  of a task the one that is marked as ground truth counts, otherwise the first that was not cancelled.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from bilstm.data.documents import Document, Span, Tagger, TokenColumns, row_of
from bilstm.data.jsontext import is_array, json_objects, line_of_object
from bilstm.data.lines import text_lines
from bilstm.data.readingoptions import ReadingOptions
from bilstm.data.tokens import Bounds
from bilstm.errors import UserError, counted, listed, shown

_LOOKED_AT = 100  # objects from which it is seen which program wrote them
_TEXTS = ("text", "data")
_SPANS = ("label", "labels", "entities", "annotations")
_ANSWERS = ("accept", "reject", "ignore")
_EXAMPLES = {
    "doccano": '{"text": "Eva came", "label": [[0, 3, "person"]]}',
    "prodigy": '{"text": "Eva came", "spans": [{"start": 0, "end": 3, "label": "person"}]}',
    "label-studio": '{"data": {"text": "Eva came"}, "annotations": []}',
}


class DocumentFile:
    """The documents of a file.

    Args:
        path: the file.
        kind: "doccano", "prodigy", "label-studio", or "text" for a text in each line.
        options: how it is read.

    Attributes:
        guessed: what was guessed of the options.
        notes: what a person should know, one sentence each, once all documents have been read.
        problem: why their spans cannot be used, or "".
    """

    def __init__(self, path: Path, kind: str, options: ReadingOptions) -> None:
        self.path, self.kind, self.options = path, kind, options
        self.guessed = ReadingOptions(format=None if options.format else kind)
        self.notes: list[str] = []
        self.problem = ""

    def line(self, row: int) -> int:
        """The line on which a document begins, counted from 1."""
        return row + 1 if self.kind == "text" else line_of_object(self.path, row, self.options.encoding)

    def documents(self) -> Iterator[Document]:
        """The documents, in order.

        Raises:
            UserError: the file holds something else; the message names the line.
        """
        if self.kind == "text":
            for number, line in enumerate(text_lines(self.path, self.options.encoding), 1):
                yield Document(f"{self.path}, line {number}", line.rstrip("\r\n"))
            return
        read: Callable[[str, dict[str, Any]], Document] = {
            "doccano": _read_doccano,
            "prodigy": _read_prodigy,
            "label-studio": _read_task,
        }[self.kind]
        remarks = Counter[str]()
        for number, found in json_objects(self.path, self.options.encoding, _EXAMPLES[self.kind]):
            if self.kind == "prodigy" and (answer := found.get("answer", "accept")) != "accept":
                remarks[f"with the answer {answer!r}: unlabelled"] += 1
            if self.kind == "label-studio" and len(_annotations(found)) > 1:
                remarks["with several annotations: the ground truth counts, or the first"] += 1
            yield read(f"{self.path}, line {number}", found)
        self.notes = [f"{counted(count, 'text')} {remark}" for remark, count in remarks.items()]


def document_lines(
    files: Sequence[DocumentFile], columns: TokenColumns, reading: ReadingOptions, lengths: list[int]
) -> Iterator[str]:
    """The documents of files as lines with a JSON object, which has lists of tokens and of their tags.

    Args:
        columns: the names of these lists.
        reading: what a person said about tokens and spans.
        lengths: takes the number of each file's documents.

    Raises:
        UserError: a file holds something else; the message names the line.
    """
    scheme, misaligned = reading.span_scheme or "IOB2", reading.misaligned or "error"
    tagger = Tagger(scheme, misaligned, reading.tokens or columns.rule, own_tokens=reading.tokens is None)
    for file in files:
        count = 0
        for document in file.documents():
            yield json.dumps(row_of(document, tagger, columns), ensure_ascii=False)
            count += 1
        lengths.append(count)
    files[0].problem = tagger.problem()
    files[0].notes += tagger.notes()


def kind_of(path: Path, options: ReadingOptions, columns: TokenColumns) -> str | None:
    """The program whose annotations a file of JSON holds; None if it holds something else.

    Args:
        columns: whose lists of tokens are none of these programs', and whether texts alone are documents, too.

    Raises:
        UserError: it holds a JSON array of something else.
    """
    array = is_array(path, options.encoding)
    kind, marked = None, False
    try:
        for _, item in islice(json_objects(path, options.encoding), _LOOKED_AT):
            kind = None if _has_tokens(item, columns.token) else _kind_of_object(item)
            if kind:
                return kind
            if kind is None:
                break
            marked = marked or any(item.get(name) == [] for name in _SPANS)
    except UserError:
        if array:
            raise
        return None  # whoever reads the file says what is wrong
    if kind is not None and (columns.texts or marked):
        return "doccano"
    if array:
        raise UserError(
            f"{path} holds a JSON array that is no export of Doccano, Prodigy or Label Studio: give one JSON object "
            f"per line, or say with --format whose export it is"
        )
    return None


def _kind_of_object(item: dict[str, Any]) -> str | None:
    """The program that wrote an object, "" if it may be any, None if it is none of these."""
    data = item.get("data")
    if isinstance(data, dict):
        return "label-studio" if isinstance(item.get("annotations", item.get("completions")), list) else None
    if any(map(_is_region, _lists(item.values()))) or {"annotation_id", "annotator"} <= item.keys():
        return "label-studio"
    if not any(isinstance(item.get(name), str) for name in _TEXTS):
        return None
    if _has_tokens(item, "tokens"):
        return None
    tokens, spans, answer = item.get("tokens"), item.get("spans"), item.get("answer")
    if (isinstance(spans, list) and (spans or answer in _ANSWERS)) or (isinstance(tokens, list) and tokens):
        return "prodigy"
    marked = [item[name] for name in _SPANS if name in item]
    if any(not isinstance(each, list) or (each and not _is_mark(each[0])) for each in marked):
        return None  # labels of whole texts
    return "doccano" if any(marked) else ""


def _has_tokens(item: dict[str, Any], name: str) -> bool:
    """Whether an object has tokens of its own in a column, rather than what Prodigy says of them."""
    return name in item and item[name] != [] and not (isinstance(item[name], list) and isinstance(item[name][0], dict))


def _lists(values: Any) -> Iterator[Any]:
    """The first elements of lists."""
    return (value[0] for value in values if isinstance(value, list) and value)


def _is_region(item: Any) -> bool:
    """Whether an element of a task's results marks a part of a text."""
    return isinstance(item, dict) and {"start", "end", "labels"} <= item.keys()


def _is_mark(item: Any) -> bool:
    return (isinstance(item, list) and len(item) == 3) or (isinstance(item, dict) and "start_offset" in item)


def _read_doccano(place: str, item: dict[str, Any]) -> Document:
    name, text = _text(place, item)
    key = next((each for each in _SPANS if each in item), None)
    marks = None if key is None else item[key]
    spans = None
    if marks is not None:
        spans = []
        for mark in _list(place, str(key), marks):
            if isinstance(mark, dict):
                values = [mark.get("start_offset"), mark.get("end_offset"), mark.get("label")]
            else:
                values = mark if isinstance(mark, list) else []
            spans.append(_span(place, mark, *(values if len(values) == 3 else [None] * 3)))
    return Document(place, text, spans, others=_others(item, {name, key}))


def _read_prodigy(place: str, item: dict[str, Any]) -> Document:
    name, text = _text(place, item)
    marks = item.get("spans")
    spans = None
    if item.get("answer", "accept") == "accept" and ("spans" in item or "answer" in item):
        spans = []
        for mark in _list(place, "spans", marks or []):
            said = mark if isinstance(mark, dict) else {}
            spans.append(_span(place, mark, said.get("start"), said.get("end"), said.get("label"), said.get("text")))
    tokens = item.get("tokens")
    bounds = None if tokens is None else _own_bounds(place, text, _list(place, "tokens", tokens))
    return Document(place, text, spans, bounds, _others(item, {name, "spans", "tokens", "answer"}))


def _read_task(place: str, item: dict[str, Any]) -> Document:
    if isinstance(item.get("data"), dict):
        data = item["data"]
        regions: list[Any] | None = None
        chosen = _annotations(item)
        if chosen:
            truth = next((each for each in chosen if each.get("ground_truth")), chosen[0])
            results = _list(place, "result", truth.get("result") or [])
            regions = [each.get("value") for each in results if isinstance(each, dict)]
    else:  # JSON-MIN
        data = {name: value for name, value in item.items() if not (isinstance(value, list) and value)}
        regions = [region for value in item.values() if isinstance(value, list) for region in value]
    spans = None
    if regions is not None:
        spans = [_region(place, region) for region in regions if _is_region(region)]
    name = _text_key(place, data, spans or [])
    others = _others(data, {name}) | _others({"id": item.get("id")}, set())
    return Document(place, data[name], spans, others=others)


def _annotations(item: dict[str, Any]) -> list[dict[str, Any]]:
    """The annotations of a task that count."""
    found = item.get("annotations", item.get("completions")) or []
    return [each for each in found if isinstance(each, dict) and not each.get("was_cancelled")]


def _region(place: str, region: dict[str, Any]) -> Span:
    labels = region["labels"]
    if not isinstance(labels, list) or len(labels) != 1:
        raise UserError(f"{place}: {shown(region.get('text', region))} has the labels {labels}: a token has one tag")
    return _span(place, region, region["start"], region["end"], labels[0], region.get("text"))


def _text_key(place: str, data: dict[str, Any], spans: list[Span]) -> str:
    """The name under which a task has its text."""
    names = [name for name, value in data.items() if isinstance(value, str)]
    said = [span for span in spans if span.text]
    if said and "text" not in names:
        names = [name for name in names if all(span.text in data[name] for span in said if span.text)] or names
    if "text" in names:
        return "text"
    if len(names) == 1:
        return names[0]
    what = f"which of {listed(names)} is its text? Rename it to text" if names else "it has no text"
    raise UserError(f"{place}: {what}")


def _text(place: str, item: dict[str, Any]) -> tuple[str, str]:
    name = next((name for name in _TEXTS if name in item), None)
    if name is None:
        raise UserError(f"{place}: there is no 'text'. Its keys: {listed(item)}")
    if not isinstance(item[name], str):
        raise UserError(f"{place}: {name!r} is {shown(item[name])}, and not a text")
    return name, item[name]


def _list(place: str, name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise UserError(f"{place}: {name!r} is {shown(value)}, and not a list")
    return value


def _span(place: str, mark: Any, start: Any, end: Any, label: Any, text: Any = None) -> Span:
    ends = _offsets(start, end)
    if ends is None or not isinstance(label, str) or not label:
        raise UserError(f"{place}: {shown(mark, 80)} is no span: a span has a start, an end, and a label that is text")
    return Span(*ends, label, text if isinstance(text, str) else None)


def _offsets(start: Any, end: Any) -> tuple[int, int] | None:
    """Two offsets, None if these are none."""
    whole = all(isinstance(each, int) and not isinstance(each, bool) for each in (start, end))
    return (start, end) if whole else None


def _own_bounds(place: str, text: str, tokens: list[Any]) -> Bounds:
    """The tokens that a file has found itself."""
    bounds, before = Bounds(), 0
    for token in tokens:
        said = token if isinstance(token, dict) else {}
        start, end = _offsets(said.get("start"), said.get("end")) or (-1, -1)
        if not before <= start < end <= len(text) or said.get("text", text[start:end]) != text[start:end]:
            raise UserError(
                f"{place}: {shown(token, 80)} is no token of the text: its start, end and text do not fit, or it "
                f"overlaps the token before"
            )
        if text[start:end].strip():  # spaCy has tokens of blanks
            bounds.append((start, end))
        before = end
    return bounds


def _others(item: dict[str, Any], used: set[str | None]) -> dict[str, Any]:
    """Further cells that have a value each. Names that begin with _ are a program's own."""
    kept = {name: value for name, value in item.items() if name not in used and not name.startswith("_")}
    return {name: value for name, value in kept.items() if isinstance(value, (str, int, float)) and name}
