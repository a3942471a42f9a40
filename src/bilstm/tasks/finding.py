"""Which task a table means, and the true answers of its sequences."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.data.dataset import Truth
from bilstm.data.features import whole_number
from bilstm.data.table import Sequences, Table
from bilstm.errors import UserError, counted, listed, shown
from bilstm.metrics.labels import sequence_of_steps
from bilstm.ragged import IndexArray
from bilstm.tasks.base import Task
from bilstm.tasks.labels import LabelTask, label_text
from bilstm.tasks.labelsets import LabelSetTask
from bilstm.tasks.quantities import QuantityTask

_MOST_NAMED = 5  # sequences in a message


@dataclasses.dataclass(frozen=True)
class TargetTable:
    """Where the true answers are: in the table of the sequences, or in a table of their own with a row per sequence.

    Attributes:
        table: the table with the target columns.
        columns: their names.
        rows: (n_sequences,) the row of each sequence, -1 where it has none; None: the rows of its time steps.
    """

    table: Table
    columns: tuple[str, ...]
    rows: IndexArray | None = None


def find_target(
    table: Table,
    sequences: Sequences,
    sequence: str | None,
    columns: tuple[str, ...],
    labels: Table | None,
    notes: list[str],
) -> TargetTable:
    """Where the true answers are.

    Args:
        sequence: the column that identifies sequences, in both tables.
        columns: the target columns; may be left out where a table of labels has one other column only.
        labels: a table with one row per sequence that holds the labels.
        notes: gets a sentence on sequences without a label, and on labels without a sequence.

    Raises:
        UserError: the tables do not fit together; the message says where.
    """
    if labels is None:
        return TargetTable(table, columns)
    key = str(sequence)
    if sequence is None or key not in table.names:
        raise UserError(
            f"{labels.label} has labels by sequence, so name the column of {table.label} that identifies sequences "
            f"(--sequence)"
        )
    labels.require(key, "the sequence of each row")
    names = columns or tuple(name for name in labels.names if name != key)[:1]
    if not columns and len(labels.names) != 2:
        raise UserError(f"which column of {labels.label} is the label? Name it with --label: {listed(labels.names)}")
    row_of = dict[str, int]()
    for row, cell in enumerate(labels.texts(key)):
        if cell is None:
            raise UserError(f"{labels.place(row)}: the cell in column {key!r}, the row's sequence, is missing")
        text = whole_number(cell.strip())
        if text in row_of:
            raise UserError(f"{labels.place(row)}: sequence {shown(text)} has a second label")
        row_of[text] = row
    own = [whole_number(str(text).strip()) for text in table.values(key, sequences.first_rows)]
    rows = np.array([row_of.get(text, -1) for text in own])
    if not (rows >= 0).any():
        examples = f"the first are {shown(next(iter(row_of), ''))} there and {shown(own[0])} here"
        raise UserError(f"none of the sequences of {table.label} is in column {key!r} of {labels.label}: {examples}")
    without = int((rows < 0).sum())
    if without:
        notes.append(f"{counted(without, 'sequence')} without a row in {labels.label}, so without a label")
    unused = len(row_of) - len(set(own) & row_of.keys())
    if unused:
        notes.append(f"{labels.label}: {counted(unused, 'row')} of sequences that are not in {table.label}")
    return TargetTable(labels, names, rows)


def find_task(
    target: TargetTable,
    sequences: Sequences,
    kind: str | None = None,
    classes: Sequence[Any] | None = None,
    separator: str | None = None,
) -> tuple[Task, Truth]:
    """The task, and the true answers of the sequences.

    Args:
        kind: which task is meant, one of `KINDS`; None: what is certain from the table.
        classes: the labels that there are, where these are known.
        separator: what is between labels in cells that name several, of which one is right; None: nothing.

    Raises:
        UserError: the columns do not fit the task, or it is not certain which one is meant.
    """
    what = kind.split("-")[1] if kind else None
    task = _of_columns(target, what, classes, separator)
    steps, _ = task.read(target.table)
    _check_labelled(task, steps, target)
    unit = find_unit(task, steps, target, sequences, kind)
    task = dataclasses.replace(task, per_sequence=unit == "sequence")
    if target.rows is not None:
        return task, chosen_rows(task, steps, target.rows)
    truth = steps[sequences.rows]
    return task, truth if unit == "step" else answers_of_sequences(task, target.table, truth, sequences)


def find_unit(task: Task, rows: Truth, target: TargetTable, sequences: Sequences, kind: str | None) -> str:
    """Whether a table has answers for each "step" or for each "sequence".

    Args:
        rows: the answers in the table's rows.
        kind: which task is meant, one of `KINDS`; None: what is certain from the table.

    Raises:
        UserError: it is not certain, or the task does not go with the table.
    """
    unit = kind.split("-")[0] if kind else None
    if unit == "step" and target.rows is not None:
        raise UserError(f"{target.table.label} has one row for each sequence, which does not go with the task {kind!r}")
    if target.rows is not None or (unit is None and _are_repeated(target)):
        return "sequence"
    return unit or _unit_of(task, target, rows[sequences.rows], sequences)


def read_truth(
    task: Task, target: TargetTable, sequences: Sequences, *, most_unseen: float = 0.0, option: str = "labels"
) -> tuple[Truth, dict[str, int]]:
    """The true answers of sequences for a known task, and how often each label occurs that the model does not know.

    Args:
        most_unseen: the share of the labels that may be unknown to the model.
        option: the argument that names a table of labels, for messages.

    Raises:
        UserError: a column is missing, or a cell is wrong; the message says where.
    """
    for name in target.columns:
        try:
            target.table.require(name, "a target" if len(target.columns) > 1 else "the label")
        except UserError as error:
            if not task.per_sequence or target.rows is not None:
                raise
            own = f"--{option.replace('_', '-')} ({option}=…)"
            raise UserError(f"{error}; if the labels are in a table of their own, name it with {own}") from None
    task = dataclasses.replace(task, columns=target.columns)
    steps, unseen = task.read(target.table, most_unseen=most_unseen)
    if target.rows is not None:
        if not task.per_sequence:
            raise UserError(f"{target.table.label} has one row for each sequence, but the model labels time steps")
        truth = chosen_rows(task, steps, target.rows)
    else:
        truth = steps[sequences.rows]
        if task.per_sequence:
            truth = answers_of_sequences(task, target.table, truth, sequences)
    _check_labelled(task, truth, target)
    return truth, unseen


def _check_labelled(task: Task, truth: Truth, target: TargetTable) -> None:
    if not task.labelled(truth).any():
        what = "value" if task.what == "quantity" else "label"
        raise UserError(f"{target.table.label} has no {what} in column {listed(target.columns)}")


def answers_of_sequences(task: Task, table: Table, truth: Truth, sequences: Sequences) -> Truth:
    """(n_sequences, …) the answers of sequences, of which all labelled time steps have the same.

    Raises:
        UserError: some have not; the message names the rows.
    """
    firsts, constant = _first_answers(task, truth, sequences.offsets)
    if not constant.all():
        raise _not_constant(task, table, truth, sequences, constant)
    answers: Truth = truth[firsts]
    return answers


def _of_columns(target: TargetTable, what: str | None, classes: Sequence[Any] | None, separator: str | None) -> Task:
    """The task of predicting these columns for each time step."""
    table, columns = target.table, target.columns
    for name in columns:
        table.require(name, "a target" if len(columns) > 1 else "the label")
        if table.kinds[name] == "nested":
            raise UserError(f"column {name!r} of {table.label} holds lists or objects; a label is one value")
    if separator is not None and (len(columns) > 1 or what not in (None, "label")):
        raise UserError(f"label_separator is for one label for each time step, but the labels are {listed(columns)}")
    if what is None:
        what = "label" if separator is not None else _what(table, columns)
    if what == "labels":
        if len(columns) < 2:
            raise UserError("several labels need several columns of 0 and 1: name them all with --label a,b,c")
        return LabelSetTask(columns, False)
    if what == "quantity":
        return QuantityTask(columns, False, (0.0,) * len(columns), (1.0,) * len(columns))
    if len(columns) > 1:
        raise UserError(f"{listed(columns)}: one label is one column; several columns of 0 and 1 are several labels")
    return LabelTask.find(table, columns[0], False, classes, separator)


def _what(table: Table, columns: Sequence[str]) -> str:
    """Whether the columns are a label, several labels or quantities, where this is certain."""
    if len(columns) == 1 and table.kinds[columns[0]] in ("text", "boolean"):
        return "label"
    profiles = [table.profile(name) for name in columns]
    numeric = [profile.present > 0 and profile.numbers == profile.present for profile in profiles]
    if len(columns) == 1:
        fraction = profiles[0].fraction
        if numeric[0] and fraction is not None:
            raise UserError(
                f"{table.place(fraction)}: column {columns[0]!r} holds numbers with fractions, such as "
                f"{table.cell(columns[0], fraction)}. Are they quantities (--task step-quantity or sequence-quantity) "
                f"or labels (--task step-label or sequence-label)?"
            )
        return "label"
    if not all(numeric):
        name = columns[numeric.index(False)]
        raise UserError(
            f"column {name!r} of {table.label} is not a number in every row: several target columns are labels of 0 "
            f"and 1, or quantities"
        )
    everywhere = np.ones(table.rows, np.bool_)
    different = {
        label_text(text, table.missing_labels) for name in columns for text, _ in table.counts(name, everywhere)
    }
    return "labels" if different <= {None, "0", "1", "0.0", "1.0", "true", "false", "True", "False"} else "quantity"


def _are_repeated(target: TargetTable) -> bool:
    """Whether each row of the input was a sequence, with its label in a cell next to its lists of steps."""
    return bool(target.table.lists) and not set(target.columns) & set(target.table.lists)


def _unit_of(task: Task, target: TargetTable, truth: Truth, sequences: Sequences) -> str:
    """Whether the answers are of sequences or of steps.

    Those of sequences are the same within each, and not all alike. Of sequences whose answer is the most frequent one,
    such as sentences without a name, nothing can be told; nor of sequences with fewer than two answers.

    Raises:
        UserError: they change within a few sequences only.
    """
    if target.table.format == "conll" or target.table.lists:
        return "step"
    firsts, constant = _first_answers(task, truth, sequences.offsets)
    labelled = np.add.reduceat(task.labelled(truth).astype(np.int64), sequences.offsets[:-1])
    several = labelled > 1
    changing = int((several & ~constant).sum())
    _, counts = np.unique(truth[firsts[several & constant]], axis=0, return_counts=True)
    telling = int(counts.sum() - counts.max(initial=0))
    if not telling or telling < changing:
        return "step"
    if not changing:
        return "sequence"
    raise _not_constant(task, target.table, truth, sequences, constant, said=False)


def _first_answers(task: Task, truth: Truth, offsets: IndexArray) -> tuple[IndexArray, npt.NDArray[np.bool_]]:
    """The first labelled step of each sequence (its first if none is), and whether all its answers are the same."""
    labelled = task.labelled(truth)
    order = np.where(labelled, np.arange(len(truth)), len(truth))
    firsts = np.minimum.reduceat(order, offsets[:-1])
    firsts = np.where(firsts < offsets[1:], firsts, offsets[:-1])
    sequence = sequence_of_steps(offsets)
    differs = labelled & _differ(truth, truth[firsts][sequence])
    return firsts, ~np.logical_or.reduceat(differs, offsets[:-1])


def _differ(one: Truth, other: Truth) -> npt.NDArray[np.bool_]:
    differs = one != other
    return np.asarray(differs if differs.ndim == 1 else differs.any(axis=1))


def _not_constant(
    task: Task, table: Table, truth: Truth, sequences: Sequences, constant: npt.NDArray[np.bool_], said: bool = True
) -> UserError:
    wrong = np.flatnonzero(~constant)
    firsts, _ = _first_answers(task, truth, sequences.offsets)
    locations = []
    for sequence in wrong[:_MOST_NAMED].tolist():
        steps = np.arange(sequences.offsets[sequence], sequences.offsets[sequence + 1])
        differs = task.labelled(truth[steps]) & _differ(
            truth[steps], truth[firsts[sequence]][np.newaxis].repeat(len(steps), 0)
        )
        locations.append(table.place(int(sequences.rows[steps[differs][0]])))
    more = f" and {len(wrong) - len(locations)} more" if len(wrong) > len(locations) else ""
    where = "; ".join(place.removeprefix(f"{table.label}, ") for place in locations)
    name = listed(task.columns)
    if said:
        return UserError(
            f"the label in column {name} changes within {counted(len(wrong), 'sequence')} of {table.label}: {where}"
            f"{more}. All rows of a sequence share one label"
        )
    return UserError(
        f"the label in column {name} is the same in all rows of most sequences of {table.label}, but changes within "
        f"{counted(len(wrong), 'sequence')}: {where}{more}. Correct these, or say what is meant with --task: a label "
        f"for each time step (step-{task.what}) or for each sequence (sequence-{task.what})"
    )


def chosen_rows(task: Task, values: Truth, rows: IndexArray) -> Truth:
    """The rows of a table of labels that belong to sequences; unlabelled where a sequence has none."""
    chosen: Truth = values[np.maximum(rows, 0)].copy()
    chosen[rows < 0] = -1 if task.what == "label" else np.nan
    return chosen
