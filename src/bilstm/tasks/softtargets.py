"""Targets of training that are not one label: the probability of each, and several labels of which one is right."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from bilstm.data.conll import LABEL
from bilstm.data.features import Lookup, whole_number
from bilstm.data.schema import read_numbers
from bilstm.data.table import Sequences, Table
from bilstm.errors import UserError, listed, shown
from bilstm.ragged import FloatArray
from bilstm.tasks.finding import TargetTable, answers_of_sequences, chosen_rows, find_unit
from bilstm.tasks.labels import LabelTask, possible_labels
from bilstm.tasks.quantities import QuantityTask

SoftColumns = str | Mapping[str, str]
_TOLERANCE = 0.01  # by how much probabilities may miss a sum of 1: some are rounded


def probability_columns(table: Table, soft: SoftColumns) -> dict[str, str]:
    """Label -> the column of its probability, in the order of a task's classes.

    Args:
        soft: this, or what the names of the columns begin with; the rest is the label.

    Raises:
        UserError: there are fewer than two.
    """
    if soft == "":
        raise UserError("soft_targets is what the names of columns begin with, such as 'probability_of_', not ''")
    if isinstance(soft, str):
        columns = {name.removeprefix(soft): name for name in table.names if name.startswith(soft) and name != soft}
    else:
        columns = dict(soft)
    for name in columns.values():
        table.require(name, "the probability of a label")
    if len(columns) < 2:
        named = f"names begin with {soft!r}" if isinstance(soft, str) else "probabilities are named"
        raise UserError(
            f"{table.label} needs columns for the probabilities of at least two labels, but those whose {named} are "
            f"{listed(columns.values()) or 'none'}; its columns: {listed(table.names)}"
        )
    task = LabelTask.named(LABEL, tuple(columns))
    spelt = {"integer": whole_number, "boolean": str.lower}.get(task.type, str)
    columns = {spelt(label): name for label, name in columns.items()}
    return {label: columns[label] for label in task.classes}


def read_probabilities(
    target: TargetTable, labels: Sequence[str], sequences: Sequences, kind: str | None
) -> tuple[LabelTask, FloatArray]:
    """The task of predicting the labels whose probabilities a table has, and these.

    Args:
        target: where they are.
        labels: the label of each column, in the order of `probability_columns`.
        kind: "step-label" or "sequence-label"; None: what is certain from the table.

    Returns:
        The task, whose column is called `label`; and (answers, labels) the probabilities for each time step or each
        sequence, of sum 1; rows of NaN where there are none.

    Raises:
        UserError: a column holds no probabilities, or the task is another one; the message says where.
    """
    if kind is not None and not kind.endswith("-label"):
        raise UserError(f"soft targets are probabilities of one label, which do not go with the task {kind!r}")
    task, quantities = LabelTask.named(LABEL, labels), QuantityTask(target.columns, False)
    rows = _checked(target)
    unit = find_unit(task, likeliest(rows), target, sequences, kind)
    task = dataclasses.replace(task, per_sequence=unit == "sequence")
    if target.rows is not None:
        return task, chosen_rows(quantities, rows, target.rows)
    rows = rows[sequences.rows]
    if unit == "sequence":
        rows = answers_of_sequences(quantities, target.table, rows, sequences)
    return task, rows


def likeliest(probabilities: FloatArray) -> npt.NDArray[np.int32]:
    """(rows,) the label with the highest probability, the first of several; -1 where there are none."""
    known = ~np.isnan(probabilities).any(axis=1)
    labels = np.full(len(probabilities), -1, np.int32)
    labels[known] = probabilities[known].argmax(axis=1)
    return labels


def with_labels(labels: npt.NDArray[np.int32], targets: FloatArray) -> FloatArray:
    """Targets of rows with a known label but without probabilities: 1 for the label.

    Args:
        labels: (rows,) the label of each, -1 where unknown.
        targets: (rows, labels), rows of NaN where there are none.
    """
    single = np.isnan(targets).any(axis=1) & (labels >= 0)
    filled = targets.copy()
    filled[single] = np.eye(targets.shape[1], dtype=np.float32)[labels[single]]
    return filled


def read_possible_labels(task: LabelTask, target: TargetTable, sequences: Sequences) -> FloatArray:
    """(steps, labels) 1 for each label that a step may have, and 0 for the others; rows of NaN are unlabelled, as are
    those with all labels.

    Raises:
        UserError: a cell names an unknown label, or none names several.
    """
    table, (name,) = target.table, target.columns
    rows: dict[str | None, FloatArray] = {}
    lookup, several, values = Lookup(task.classes), False, np.empty((table.rows, len(task.classes)), np.float32)
    for start, stop in table.blocks():
        for row, text in enumerate(table.texts(name, start, stop).tolist(), start):
            if text not in rows:
                rows[text] = np.zeros(len(task.classes), np.float32)
                labels = possible_labels(text, table.missing_labels, task.separator)
                codes = [lookup(label.lower() if task.type == "boolean" else label) for label in labels]
                if -1 in codes:
                    unknown = shown(labels[codes.index(-1)])
                    raise UserError(
                        f"{table.place(row)}: {shown(text)} in column {name!r} names {unknown}, which is none of the "
                        f"classes {listed(task.classes)}"
                    )
                rows[text][codes] = 1
                if len(set(codes)) in (0, len(task.classes)):  # nothing is known
                    rows[text][:] = np.nan
                several = several or len(labels) > 1
            values[row] = rows[text]
    if not several:
        raise UserError(
            f"no cell in column {name!r} of {table.label} has {task.separator!r} between labels: leave it out"
        )
    return values[sequences.rows]


def _checked(target: TargetTable) -> FloatArray:
    """(rows, labels) the probabilities in the columns of a table.

    Raises:
        UserError: some are none; the message says where.
    """
    table, columns = target.table, target.columns
    numbers = np.stack([read_numbers(table, name, ", a probability,") for name in columns], axis=1)
    missing = np.isnan(numbers)
    for row in np.flatnonzero(missing.any(axis=1) & ~missing.all(axis=1))[:1].tolist():
        raise UserError(f"{table.place(row)} lacks some of the probabilities in {listed(columns)}: give all or none")
    outside = (numbers < 0) | (numbers > 1)
    for row, column in np.argwhere(outside)[:1].tolist():
        raise UserError(
            f"{table.place(row)}: {shown(table.cell(columns[column], row))} in column {columns[column]!r} is no "
            f"probability, which is a number from 0 to 1"
        )
    sums = numbers.sum(axis=1)
    for row in np.flatnonzero(np.abs(sums - 1) > _TOLERANCE)[:1].tolist():
        raise UserError(
            f"{table.place(row)}: the probabilities of all labels have the sum {sums[row]:.4g}, not 1; they are in the "
            f"columns {listed(columns)}"
        )
    if np.isnan(sums).all():
        raise UserError(f"{table.label} has no value in {listed(columns)}")
    return np.asarray(numbers / sums[:, np.newaxis], np.float32)
