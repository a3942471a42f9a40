"""The true answers of a table's sequences, and what training aims at where that is not the one right label."""

from __future__ import annotations

import dataclasses

import numpy as np

from bilstm.data.dataset import Truth
from bilstm.data.table import Sequences, Table
from bilstm.errors import UserError
from bilstm.model.columns import ColumnOptions
from bilstm.ragged import FloatArray
from bilstm.tasks import LabelTask, Task
from bilstm.tasks.finding import TargetTable, find_target, find_task
from bilstm.tasks.softtargets import (
    likeliest,
    probability_columns,
    read_possible_labels,
    read_probabilities,
    with_labels,
)


@dataclasses.dataclass(frozen=True)
class Answers:
    """The answers of sequences, one for each time step or for each sequence.

    Attributes:
        task: what is predicted.
        truth: the true answers, as `Task.read` gives them.
        table: the table that has them.
        targets: (answers, labels) what training aims at: the probability of each label, or 1 for each that is possible
            and 0 for the others; rows of NaN are unlabelled. None: it aims at the truth.
    """

    task: Task
    truth: Truth
    table: Table
    targets: FloatArray | None = None


def find_answers(
    table: Table, sequences: Sequences, options: ColumnOptions, labels: Table | None, notes: list[str]
) -> Answers:
    """What is to be predicted, and the answers.

    Args:
        options: which column is what, without doubt.
        labels: a table with one row per sequence that holds the answers.
        notes: gets sentences on sequences and labels that do not match.

    Raises:
        UserError: the columns do not fit together, or a cell is wrong; the message says where.
    """
    if options.soft_targets is not None:
        return _soft(table, sequences, options, labels, notes)
    separator, kind = options.label_separator, options.task
    if separator is not None:
        if not separator.strip():
            raise UserError(f"label_separator is a sign between labels, such as '|', not {separator!r}")
        if kind not in (None, "step-label"):
            raise UserError(f"label_separator is for one label for each time step, but the task is {kind}")
        kind = "step-label"
    target = find_target(table, sequences, options.sequence, options.label, labels, notes)
    task, truth = find_task(target, sequences, kind, options.classes, separator)
    targets = None
    if separator is not None:
        assert isinstance(task, LabelTask)
        targets = read_possible_labels(task, target, sequences)
    return Answers(task, truth, target.table, targets)


def soft_truth(table: Table, sequences: Sequences, options: ColumnOptions, task: Task, labels: Table | None) -> Truth:
    """The likeliest labels by the probabilities of a table that has no column for the label.

    Raises:
        UserError: it has not those of the labels that are learned.
    """
    target, names = _probabilities(table, sequences, options, labels, [])
    found, probabilities = read_probabilities(target, names, sequences, task.kind)
    if not isinstance(task, LabelTask) or found.classes != task.classes:
        raise UserError(f"{target.table.label} has the probabilities of other labels than those of the training set")
    return likeliest(probabilities)


def has_truth(table: Table, task: Task, labels: Table | None) -> bool:
    """Whether the target columns are there."""
    return set(task.columns) <= set((labels or table).names)


def _soft(
    table: Table, sequences: Sequences, options: ColumnOptions, labels: Table | None, notes: list[str]
) -> Answers:
    """Training aims at probabilities; the truth is the label that is stated, or else the likeliest one."""
    if options.label_separator is not None:
        raise UserError("soft_targets and label_separator both say what training aims at: leave one out")
    target, names = _probabilities(table, sequences, options, labels, notes)
    task: Task
    task, probabilities = read_probabilities(target, names, sequences, options.task)
    truth = likeliest(probabilities)
    if options.label:
        stated = TargetTable(target.table, options.label, target.rows)
        task, known = find_task(stated, sequences, task.kind, list(names))
        truth = np.where(known >= 0, known, truth)
    targets = with_labels(truth, probabilities)
    return Answers(task, truth, target.table, targets)


def _probabilities(
    table: Table, sequences: Sequences, options: ColumnOptions, labels: Table | None, notes: list[str]
) -> tuple[TargetTable, tuple[str, ...]]:
    """Where the probabilities are, and the labels that they are of."""
    assert options.soft_targets is not None
    columns = probability_columns(labels or table, options.soft_targets)
    target = find_target(table, sequences, options.sequence, tuple(columns.values()), labels, notes)
    return target, tuple(columns)
