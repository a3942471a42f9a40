"""From a table to the sequences that a trained model takes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from bilstm.data import scratch
from bilstm.data.dataset import Dataset
from bilstm.data.schema import Schema
from bilstm.data.table import Sequences, Table
from bilstm.errors import UserError, shown
from bilstm.ragged import IndexArray, chunks
from bilstm.tasks import LabelTask, Task

if TYPE_CHECKING:
    from bilstm.model.columns import ColumnOptions


def read_dataset(
    schema: Schema,
    task: Task,
    table: Table,
    *,
    labels: Table | None = None,
    group: str | None = None,
    with_truth: bool = True,
    most_unseen: float = 0.5,
    option: str = "labels",
    soft: ColumnOptions | None = None,
) -> Dataset:
    """The sequences of a table as a model takes them.

    Args:
        labels: a table with one row per sequence that holds the true answers.
        group: the column that tells which sequences belong together.
        with_truth: whether to read the true answers, of which there must be at least one.
        most_unseen: the share of labels that the model may never have seen; if more are, it is another column.
        option: the argument that names a table of labels, for messages.
        soft: says where the probabilities of labels are, whose likeliest is the true answer if a table has no other.

    Raises:
        UserError: a column is missing, or a cell is not what the model expects; the message says where.
    """
    table.check_sequence(schema.sequence, one=schema.one_sequence)
    sequences = table.sequences(schema.sequence, schema.order)
    data = dataclasses.replace(schema.encode(table, sequences), per_sequence=task.per_sequence)
    if with_truth:
        data = _with_truth(schema, task, table, sequences, data, labels, most_unseen, option, soft)
    if group is not None:
        data = dataclasses.replace(data, groups=read_groups(table, group, sequences, least=1))
    return data


def _with_truth(
    schema: Schema,
    task: Task,
    table: Table,
    sequences: Sequences,
    data: Dataset,
    labels: Table | None,
    most_unseen: float,
    option: str,
    soft: ColumnOptions | None,
) -> Dataset:
    from bilstm.model.answers import has_truth, soft_truth  # not before labels are read: prediction needs none of it
    from bilstm.tasks.finding import find_target, read_truth

    if soft is not None and not has_truth(table, task, labels):
        return dataclasses.replace(data, truth=soft_truth(table, sequences, soft, task, labels))
    table.check_labels()
    target = find_target(table, sequences, schema.sequence or table.own_sequence, task.columns, labels, [])
    truth, unseen = read_truth(task, target, sequences, most_unseen=most_unseen, option=option)
    return dataclasses.replace(data, truth=truth, unseen=unseen, remarks=tuple(table.notes))


def without_unseen(data: Dataset, task: Task) -> Dataset:
    """The data with labels that the model has never seen as unlabelled: such a label has no loss."""
    if not data.unseen or not isinstance(task, LabelTask):
        return data
    truth = np.where(data.known < len(task.classes), data.known, np.int32(-1))
    return dataclasses.replace(data, truth=truth, unseen={}, left_out=data.unseen)


def read_groups(table: Table, name: str, sequences: Sequences, least: int = 2) -> IndexArray:
    """(n_sequences,) a code for the group of each.

    Args:
        least: how many groups are needed.

    Raises:
        UserError: a cell is missing, a sequence has two groups, or there are too few groups.
    """
    table.require(name, "the group of each sequence")
    numbers: dict[str, int] = {}
    codes = scratch.empty(table.rows, np.int32)
    for start, stop in table.blocks():
        texts = table.texts(name, start, stop).tolist()
        codes[start:stop] = [-1 if text is None else numbers.setdefault(text, len(numbers)) for text in texts]
    names, firsts = list(numbers), codes[sequences.first_rows]
    for part in chunks(sequences.offsets, scratch.BLOCK):
        rows = sequences.rows[sequences.offsets[part.start] : sequences.offsets[part.stop]]
        expected = np.repeat(firsts[part], np.diff(sequences.offsets)[part])
        for wrong in np.flatnonzero((codes[rows] < 0) | (codes[rows] != expected))[:1].tolist():
            place, code = table.place(int(rows[wrong])), int(codes[rows[wrong]])
            if code < 0:
                raise UserError(f"{place}: the cell in column {name!r}, the group, is missing")
            raise UserError(
                f"{place}: the group in column {name!r} is {shown(names[code])}, but its sequence begins with "
                f"{shown(names[expected[wrong]])}; a sequence belongs to one group"
            )
    if len(names) < least:
        raise UserError(
            f"{table.label} has one group only, {shown(names[0])} in column {name!r}, so none can be set aside for "
            f"validation; leave groups out, or pass validation data"
        )
    return firsts.astype(np.int64)
