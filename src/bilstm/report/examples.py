"""The sequences with the worst predictions, with all that is needed to draw them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.data.dataset import Dataset, Truth
from bilstm.data.memory import MemoryTable
from bilstm.data.table import Table
from bilstm.metrics.spanerrors import OUTCOMES, OUTCOMES_OF_PREDICTED, RIGHT, compare_spans
from bilstm.metrics.spans import find_spans
from bilstm.model.spans import predicted_spans
from bilstm.model.trained import TrainedModel
from bilstm.ragged import IndexArray
from bilstm.report.importance import step_importance
from bilstm.tasks import LabelTask, Outputs, QuantityTask, Task

HOW_MANY = 6
MOST_STEPS = 2_000  # of a sequence that are drawn
MOST_WORDS = 120  # of one that is shown as text
MOST_NUMBERS = 4  # numeric features that are drawn
MOST_TARGETS = 6  # labels or quantities that are drawn
_DAMPING = 10  # steps: of a very short sequence, a single wrong step is not the worst

Scores = npt.NDArray[np.float64]


def row_errors(task: Task, truth: Truth, outputs: Outputs) -> tuple[Scores, Scores]:
    """(rows,) how wrong predictions are, and how improbable the true answers; 0 for unlabelled rows.

    Labels: 1 where wrong; several labels: the share of the labels that is wrong; quantities: the mean squared error in
    standard deviations of the training set. The second is the loss: -log(probability of the true answers), or the
    squared error again.
    """
    labelled, values = task.labelled(truth), outputs.values
    if isinstance(task, LabelTask):
        wrong = (outputs.labels != truth).astype(np.float64)
        columns = np.minimum(np.maximum(truth, 0), values.shape[1] - 1)
        probabilities = np.where(truth < values.shape[1], values[np.arange(len(truth)), columns], 0)
        loss = -np.log(probabilities.clip(1e-7, None).astype(np.float64))
    elif isinstance(task, QuantityTask):
        wrong = loss = (((task.predicted(outputs) - truth) / task.scale) ** 2).mean(axis=1)
    else:
        wrong = ((values > 0.5) != (truth > 0.5)).mean(axis=1)
        loss = -np.log(np.where(truth > 0.5, values, 1 - values).clip(1e-7, None).astype(np.float64)).mean(axis=1)
    return np.where(labelled, wrong, 0.0), np.where(labelled, loss, 0.0)


def span_errors(
    classes: Sequence[str], truth: Truth, predicted: npt.NDArray[np.integer], offsets: IndexArray
) -> tuple[Scores, Scores]:
    """(steps,) how many true and predicted spans begin at each step, and how many of these are not right."""
    true, _ = find_spans(truth, offsets, classes)
    guessed, _ = find_spans(np.where(truth >= 0, predicted, -1), offsets, classes)
    all_, wrong = np.zeros(len(truth)), np.zeros(len(truth))
    for own, other in ((true, guessed), (guessed, true)):
        outcomes, _ = compare_spans(own, other)
        begins = offsets[own.sequences] + own.onsets
        np.add.at(all_, begins, 1)
        np.add.at(wrong, begins[outcomes != RIGHT], 1)
    return all_, wrong


class WorstSequences:
    """Keeps the indices of the worst sequences, while the outputs of all pass by in chunks.

    They are ordered by errors / (labelled rows + 10), see `row_errors`, then by the mean loss. Where tags mark spans,
    the true and the predicted spans count instead, and those of them that are not right.

    Args:
        task: what is predicted.
        data: the sequences, with their true answers.
        count: how many to keep.
    """

    def __init__(self, task: Task, data: Dataset, count: int = HOW_MANY) -> None:
        self._task, self._data, self._count = task, data, count
        self._kept: list[tuple[float, float, int]] = []  # badness, loss, index; worst first

    def add(self, sequences: slice, rows: slice, outputs: Outputs) -> None:
        """Take the outputs of the next sequences; `rows` are their steps or, with one answer each, themselves."""
        truth = self._data.known[rows]
        errors, losses = row_errors(self._task, truth, outputs)
        scored: npt.NDArray[Any] = self._task.labelled(truth)
        offsets = self._data.row_offsets[sequences.start : sequences.stop + 1] - rows.start
        if isinstance(self._task, LabelTask) and self._task.spans:
            classes = (*self._task.classes, *self._data.unseen)
            scored, errors = span_errors(classes, truth, outputs.labels, offsets)
        labelled, wrong, loss = (
            np.add.reduceat(values.astype(np.float64), offsets[:-1]) for values in (scored, errors, losses)
        )
        badness, loss = wrong / (labelled + _DAMPING), loss / np.maximum(labelled, 1)
        # With one answer each, those that are right by a hair are worth a look, too.
        candidates = np.flatnonzero(labelled > 0 if self._task.per_sequence else wrong > 0)
        chosen = candidates[np.lexsort((-loss[candidates], -badness[candidates]))[: self._count]]
        self._kept += [(float(badness[i]), float(loss[i]), sequences.start + i) for i in chosen.tolist()]
        self._kept = sorted(self._kept, key=lambda kept: (-kept[0], -kept[1], kept[2]))[: self._count]

    @property
    def indices(self) -> list[int]:
        """The worst sequences so far, worst first."""
        return [index for _, _, index in self._kept]


def describe_sequences(
    model: TrainedModel, table: Table, data: Dataset, indices: list[int], *, seed: int = 0
) -> list[dict[str, Any]]:
    """Everything that is drawn of some sequences.

    Args:
        table: what the data were read from.
        indices: of the sequences.
        seed: see `step_importance`.

    Returns:
        For each, plain data: "name" (its identifier, or its number), "place" in the table, "steps", "labelled" rows and
        "error", the sum of their `row_errors`; "start" and "stop" (from 0) of the part that is shown, the worst where a
        sequence is too long; there "numbers" and "texts" by feature (None where missing) and "targets". These have
        "truth", "predicted" and, for one label, "confidence" or, for whole sequences, "probabilities" of the likeliest
        labels; for several labels or quantities they are by name, with a "probability" of labels; for answers by time
        step they are lists. "importance" of the steps of whole sequences: see `step_importance`; otherwise None.
        "spans", where tags mark them: the "true" and the "predicted" ones, each with its "first" and "last" step, its
        "label" and "outcome", see `bilstm.metrics.spanerrors`, and predicted ones with their "probability", or None
        where steps in them are unlabelled; otherwise None.
    """
    schema = model.schema
    numbers = {column.name: table.numbers(column.name) for column in schema.numeric[:MOST_NUMBERS]}
    descriptions = []
    for index in indices:
        one = data.take([index])
        outputs = model.outputs(one.values)
        importance = None
        errors, _ = row_errors(model.task, one.known, outputs)
        weights: npt.NDArray[Any] = errors
        if model.task.per_sequence:
            importance = step_importance(model.task, model.outputs, data.values, index, seed)
            weights = np.zeros(len(one.rows)) if importance is None else np.array(importance["steps"])
        shown = _worst_steps(weights, MOST_WORDS if schema.categorical else MOST_STEPS)
        rows = one.rows[shown]
        answers = slice(0, 1) if model.task.per_sequence else shown
        descriptions.append(
            {
                "name": _name(schema.sequence or table.own_sequence, table, int(one.rows[0]), index),
                "place": _location(table, int(one.rows.min())),
                "steps": len(one.rows),
                "labelled": int(model.task.labelled(one.known).sum()),
                "error": float(errors.sum()),
                "start": shown.start,
                "stop": shown.stop,
                "targets": _targets(model.task, one.known[answers], outputs[answers], tuple(data.unseen)),
                "importance": importance,
                "spans": _spans(model, one, outputs, tuple(data.unseen)),
                "numbers": {name: _plain(cells[rows]) for name, cells in numbers.items()},
                "texts": {column.name: _texts(table, column.name, rows) for column in schema.categorical[:1]},
            }
        )
    return descriptions


def _spans(
    model: TrainedModel, one: Dataset, outputs: Outputs, unseen: tuple[str, ...]
) -> dict[str, list[dict[str, Any]]] | None:
    """The true and the predicted spans of a sequence."""
    task = model.task
    if not isinstance(task, LabelTask) or not task.spans:
        return None
    classes, truth = (*task.classes, *unseen), one.known
    true, types = find_spans(truth, one.values.offsets, classes)
    guessed, _ = find_spans(np.where(truth >= 0, outputs.labels, -1), one.values.offsets, classes)
    found = predicted_spans(model, one.values)
    ends = zip(found.events.classes, found.events.onsets, found.events.offsets, strict=True)
    chances = {
        (found.types[type_], int(first), int(last)): round(chance, 4)
        for (type_, first, last), chance in zip(ends, found.probabilities.tolist(), strict=True)
    }
    described: dict[str, list[dict[str, Any]]] = {}
    sides = (("true", true, guessed, OUTCOMES), ("predicted", guessed, true, OUTCOMES_OF_PREDICTED))
    for side, own, others, names in sides:
        outcomes, _ = compare_spans(own, others)
        columns = (own.onsets.tolist(), own.offsets.tolist(), own.classes.tolist(), outcomes.tolist())
        described[side] = [
            {"first": first, "last": last, "label": types[type_], "outcome": names[outcome]}
            | ({} if side == "true" else {"probability": chances.get((types[type_], first, last))})
            for first, last, type_, outcome in zip(*columns, strict=True)
        ]
    return described


def _targets(task: Task, truth: Truth, outputs: Outputs, unseen: tuple[str, ...]) -> dict[str, Any]:
    if isinstance(task, LabelTask):
        classes = (*task.classes, *unseen)
        targets: dict[str, Any] = {
            "truth": [None if code < 0 else classes[code] for code in truth.tolist()],
            "predicted": [classes[code] for code in outputs.labels.tolist()],
            "confidence": outputs.confidences.astype(np.float64).round(4).tolist(),
        }
        if task.per_sequence:
            likeliest, row = outputs.likeliest(3)[0].tolist(), outputs.values[0]
            targets = {name: values[0] for name, values in targets.items() if name != "confidence"}
            targets["probabilities"] = {classes[i]: round(float(row[i]), 4) for i in likeliest}
            if truth[0] < len(row):
                targets["probabilities"].setdefault(targets["truth"], round(float(row[truth[0]]), 4))
        return targets
    predicted = task.predicted(outputs)
    distances = np.nansum((predicted - truth) ** 2 / np.array(getattr(task, "scale", 1.0)) ** 2, axis=0)
    drawn = sorted(np.argsort(-distances, kind="stable")[:MOST_TARGETS].tolist())
    targets = {task.columns[i]: {"truth": _plain(truth[:, i]), "predicted": _plain(predicted[:, i])} for i in drawn}
    if not isinstance(task, QuantityTask):
        for i in drawn:
            targets[task.columns[i]]["probability"] = outputs.values[:, i].astype(np.float64).round(4).tolist()
    return targets


def _name(sequence: str | None, table: Table, row: int, index: int) -> str:
    """The cell that the rows of a sequence share or, without such a column, its number as `Table.place` counts."""
    if sequence in table.names:
        return table.cell(str(sequence), row)
    return str(index if isinstance(table, MemoryTable) else index + 1)


def _location(table: Table, row: int) -> str:
    """Such as `line 17` of a file, or `row 16 of X`."""
    return table.place(row).removeprefix(f"{table.label}, ").removesuffix(", step 0")


def _worst_steps(weights: Scores, most: int) -> slice:
    """All steps or, of too many, the `most` contiguous ones with the largest sum of weights."""
    if len(weights) <= most:
        return slice(0, len(weights))
    sums = np.append(0, np.cumsum(weights))
    start = int((sums[most:] - sums[:-most]).argmax())
    return slice(start, start + most)


def _plain(numbers: npt.NDArray[Any]) -> list[float | None]:
    return [None if np.isnan(number) else number for number in numbers.astype(np.float64).tolist()]


def _texts(table: Table, name: str, rows: IndexArray) -> list[str]:
    return ["" if text is None else str(text) for text in table.values(name, rows)]
