"""What a model predicts, as JSON for people: the columns that `bilstm predict` writes, and spans of texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bilstm.data.writing import Addition, DictionaryColumn
from bilstm.model import TrainedModel
from bilstm.model.predictions import PredictionOptions, find_runs, predicted_columns
from bilstm.serving.reading import Question, Tokens
from bilstm.tasks import LabelTask, Outputs


def answers(
    model: TrainedModel, question: Question, outputs: Outputs, baseline: Outputs | None = None
) -> list[dict[str, Any]]:
    """An answer for each sequence.

    Args:
        outputs: what the network gives for all sequences of the question.
        baseline: what the network without recurrence gives, if it is asked for.

    Returns:
        Plain data: the "sequence", if its rows name it; "steps", their number; of a text its "tokens" and their
        "starts"; a list or a value for each column that `bilstm predict` writes; the "spans" that tags mark, and the
        "events", if asked for: see `_marked`; of the "baseline" the columns.
    """
    task, offsets = model.task, question.data.values.offsets
    own = _columns(model, question, outputs)
    others = None if baseline is None or model.baseline is None else _columns(model.baseline, question, baseline)
    found: list[dict[str, Any]] = []
    for index, (key, tokens) in enumerate(zip(question.keys, question.tokens, strict=True)):
        answer: dict[str, Any] = {} if key is None else {"sequence": key}
        answer["steps"] = int(offsets[index + 1] - offsets[index])
        if tokens is not None:
            answer |= {"tokens": tokens.steps, "starts": tokens.starts}
        answer |= own[index]
        if others is not None:
            answer["baseline"] = others[index]
        found.append(answer)
    if isinstance(task, LabelTask) and task.spans:
        _add(found, "spans", _marks(model, question, PredictionOptions(spans=True), outputs), question)
    if question.events:
        _add(found, "events", _marks(model, question, question.options, outputs), question)
    return found


def _columns(model: TrainedModel, question: Question, outputs: Outputs) -> list[dict[str, Any]]:
    """For each sequence the columns that `bilstm predict` writes, as lists of its steps or as one value."""
    data = question.data
    count = len(data) if data.per_sequence else len(data.rows)
    rows = np.arange(count) if data.per_sequence else data.rows
    columns = predicted_columns(model, data, question.options, rows, count, outputs)
    values = {name: _plain(column) for name, column in columns.items()}
    bounds = data.row_offsets.tolist()
    chosen = [i if data.per_sequence else slice(bounds[i], bounds[i + 1]) for i in range(len(data))]
    return [{name: column[each] for name, column in values.items()} for each in chosen]


Mark = tuple[int, int, int, str, float]  # sequence, first step, last step, label, probability


def _marks(model: TrainedModel, question: Question, options: PredictionOptions, outputs: Outputs) -> Iterator[Mark]:
    """Spans, each with its probability, or runs of equal labels, each with the mean of its steps' probabilities."""
    offsets = question.data.values.offsets
    _, labels, chunks = find_runs(model, question.data, options, outputs)
    for runs in chunks:
        sequences = np.searchsorted(offsets, runs.first, "right") - 1
        for index, sequence in enumerate(sequences.tolist()):
            ends = int(runs.first_step[index]), int(runs.last_step[index])
            yield sequence, *ends, labels[runs.codes[index]], float(runs.confidences[index])


def _add(answers: list[dict[str, Any]], name: str, marks: Iterator[Mark], question: Question) -> None:
    for answer in answers:
        answer[name] = []
    for sequence, first, last, label, probability in marks:
        answers[sequence][name].append(_marked(question.tokens[sequence], first, last, label, probability))


def _marked(tokens: Tokens | None, first: int, last: int, label: str, probability: float) -> dict[str, Any]:
    """The "first" and "last" step, counted from 0, the "label" and the "probability"; in a text also the "text", with
    its "start" and "end" in characters: text[start:end]."""
    mark: dict[str, Any] = {"first": first, "last": last, "label": label, "probability": probability}
    if tokens is not None:
        start, end = tokens.starts[first], tokens.starts[last] + len(tokens.steps[last])
        mark |= {"start": start, "end": end, "text": tokens.text[start:end]}
    return mark


def _plain(column: Addition) -> list[Any]:
    if isinstance(column, DictionaryColumn):
        return column.texts(0, len(column.codes))
    plain: list[Any] = column.tolist()
    return plain
