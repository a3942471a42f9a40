"""The spans that a model of tags predicts, in the characters of texts."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from bilstm.data import scratch
from bilstm.data.dataset import Dataset
from bilstm.data.documents import joined
from bilstm.data.filetable import FileTable
from bilstm.data.marked import UNTYPED, MarkedText, TokenSpan, written
from bilstm.data.schema import Schema
from bilstm.data.tokens import token_bounds
from bilstm.errors import UserError
from bilstm.files import AnyPath, replacing
from bilstm.metrics.spans import find_spans
from bilstm.model.lines import Line
from bilstm.model.lines import text as cell_text
from bilstm.model.spans import check_spans, span_chunks
from bilstm.ragged import chunks
from bilstm.tasks import LabelTask, Task

if TYPE_CHECKING:
    from bilstm.model.trained import TrainedModel

_TEXTS = 1000  # that are read from a table at a time
_DECIMALS = 6
_WHAT = "an annotation of texts"


def default_form(task: Task) -> str | None:
    """The form of annotated texts for a task, unless another is chosen; None for a task without spans."""
    return "json" if isinstance(task, LabelTask) and task.spans else None


def span_labels(task: Task) -> list[str]:
    """The labels that spans may have, sorted.

    Raises:
        UserError: the task has no spans.
    """
    classes = check_spans(task, _WHAT).classes
    types = find_spans(np.zeros(0, np.int64), np.zeros(1, np.int64), classes)[1]
    return [type_ or UNTYPED for type_ in types]


def token_column(schema: Schema) -> str:
    """The feature that is shown as the text, where only tokens are known: the first that is text.

    Raises:
        UserError: the model reads numbers only.
    """
    if not schema.categorical:
        raise UserError("--annotate writes texts, but the model reads numbers only: use --spans or --events")
    return schema.categorical[0].name


def found_spans(model: TrainedModel, data: Dataset) -> Iterator[list[TokenSpan]]:
    """The spans in each sequence, with their probabilities: see `TrainedModel.predict_spans`.

    Raises:
        UserError: the model's labels mark no spans.
    """
    check_spans(model.task, _WHAT)
    for group, _, (events, types, probabilities) in span_chunks(model, data.values):
        found: list[list[TokenSpan]] = [[] for _ in range(group.stop - group.start)]
        rounded = np.round(probabilities, _DECIMALS)
        columns = (events.sequences, events.onsets, events.offsets, events.classes, rounded)
        for sequence, first, last, type_, probability in zip(*(column.tolist() for column in columns), strict=True):
            found[sequence].append(TokenSpan(first, last, types[type_] or UNTYPED, probability))
        yield from found


def mark_texts(model: TrainedModel, texts: Sequence[str]) -> list[MarkedText]:
    """Raw texts with the spans that the model finds in them. A text without tokens has none.

    Raises:
        UserError: the model predicts no tags, or reads more than tokens.
    """
    check_spans(model.task, _WHAT)
    column, rule = model.schema.token_column(), model.schema.token_rule
    bounds = [token_bounds(text, rule) for text in texts]
    filled = [
        {column: [text[start:end] for start, end in each]} for text, each in zip(texts, bounds, strict=True) if each
    ]
    found = found_spans(model, model.read(filled)) if filled else iter(list[list[TokenSpan]]())
    return [MarkedText(text, each, next(found) if each else ()) for text, each in zip(texts, bounds, strict=True)]


def annotate(model: TrainedModel, texts: Any, *, probabilities: bool = False) -> Any:
    """See `TrainedModel.annotate`."""
    if isinstance(texts, str):
        return mark_texts(model, [texts])[0].described(probabilities=probabilities)
    texts = list(texts)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise UserError(f"texts are strings, but text {index} is a {type(text).__name__}")
    return [text.described(probabilities=probabilities) for text in mark_texts(model, texts)]


def marked_rows(model: TrainedModel, table: FileTable, data: Dataset) -> Iterator[MarkedText]:
    """The texts of a table with the spans that the model finds in them.

    Where a table has tokens without the text that they come from, the text is these with blanks between them.

    Raises:
        UserError: the model predicts no tags, or reads no text.
    """
    found = found_spans(model, data)
    if table.documents is not None:
        firsts = table.input_rows(data.rows[data.values.offsets[:-1]]).tolist()
        filled = iter([*firsts, -1])
        following = next(filled)
        for row, (text, starts, ends) in enumerate(_documents(table)):
            spans: list[TokenSpan] = []
            if row == following:
                spans, following = next(found), next(filled)
            yield MarkedText(text, list(zip(json.loads(starts), json.loads(ends), strict=True)), spans)
        return
    name = token_column(model.schema)
    offsets = data.values.offsets
    for group in chunks(offsets, scratch.BLOCK):
        tokens = table.values(name, data.rows[offsets[group.start] : offsets[group.stop]])
        for sequence in range(group.start, group.stop):
            start, stop = offsets[sequence : sequence + 2] - offsets[group.start]
            yield MarkedText(*joined(tokens[start:stop]), next(found))


def mark_lines(
    model: TrainedModel, data: Dataset | None, lines: Sequence[Line], sequences: Iterable[Sequence[Line]]
) -> Iterator[MarkedText]:
    """The texts of lines of a stream with the spans that the model finds in them.

    Args:
        data: those of the sequences that have steps; None: none has.
        lines: those whose rows the data have, where each is a step.
        sequences: the lines of each sequence.

    Raises:
        UserError: the model predicts no tags, or reads no text.
    """
    column, number = token_column(model.schema), 0
    found = iter(list[list[TokenSpan]]()) if data is None else found_spans(model, data)
    for sequence in sequences:
        line, spans = sequence[0], list[TokenSpan]()
        if not line.empty:
            spans, number = next(found), number + 1
        if line.raw is not None:
            yield MarkedText(line.raw, line.bounds, spans)
            continue
        tokens = line.cells[column]
        if line.key is not None and data is not None:
            rows = data.rows[data.values.offsets[number - 1] : data.values.offsets[number]]
            tokens = [lines[row].cells[column] for row in rows.tolist()]
        yield MarkedText(*joined([cell_text(token) or "" for token in tokens]), spans)


def _documents(table: FileTable) -> Iterator[tuple[str, str, str]]:
    """The text of each document, and the offsets of its tokens as JSON."""
    assert table.documents is not None
    text, start, end = (table.column(name) for name in table.documents.others)
    for first in range(0, table.input_count, _TEXTS):
        rows = f"rowid >= {first} AND rowid < {first + _TEXTS} ORDER BY rowid"
        yield from table.query(f"SELECT {text}->>'$', {start}, {end} FROM lists WHERE {rows}")


def write_annotated(
    model: TrainedModel, table: FileTable, data: Dataset, form: str, path: AnyPath, *, probabilities: bool
) -> None:
    """Write the texts of a table with the spans that the model finds in them, atomically.

    Args:
        form: one of `bilstm.data.marked.FORMS`.
        probabilities: whether spans have their probability.

    Raises:
        UserError: the file cannot be written, or the model finds no spans in such texts.
    """
    labels = span_labels(model.task)
    with replacing(path) as temporary, open(temporary, "wb") as raw:
        file = raw
        if Path(path).suffix == ".gz":
            file = cast(IO[bytes], gzip.GzipFile("", "wb", fileobj=raw, mtime=0))  # type: ignore[assignment]
        for line in written(marked_rows(model, table, data), form, labels, probabilities=probabilities):
            file.write(line.encode())
        if file is not raw:
            file.close()
