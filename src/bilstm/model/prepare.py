"""From a table and what a person said about its columns to what training takes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bilstm.data import scratch
from bilstm.data.dataset import Dataset
from bilstm.data.features import CategoricalColumn, NumericColumn
from bilstm.data.schema import Schema, read_numbers
from bilstm.data.table import Sequences, Table
from bilstm.data.textfiles import LABEL, SEQUENCE, TOKEN
from bilstm.data.texts import TextColumn
from bilstm.errors import UserError, counted, listed, shown
from bilstm.ragged import IndexArray, portions, steps_of
from bilstm.splitting import default_share, split
from bilstm.tasks import Task
from bilstm.tasks.finding import find_target, find_task, read_truth
from bilstm.tasks.labels import LabelTask

FeatureKind = Literal["numeric", "categorical"]
_PREDICTION = re.compile(r"predicted(\d*|_.+)|probability(\d*|_of_.+)")  # the columns that `predict` writes
MOSTLY = 0.5  # of the cells are numbers: then the kind has to be stated rather than guessed


@dataclasses.dataclass(frozen=True)
class ColumnOptions:
    """What a person says about a table's columns; None leaves it to the table.

    Attributes:
        sequence: identifies the sequences; not needed for CoNLL-style files and where each row is a sequence.
        label: the target columns: one, or several for several labels or quantities; may be left out for CoNLL-style
            files, whose last column it is.
        order: sorts the rows of a sequence; None: they are in order.
        features: what to predict from. None: of a CoNLL-style file the first column, of others all that have a name
            and no other role.
        categorical: features to treat as text even if they are numbers.
        drop: columns to leave out of the features.
        spelling: whether the first and last letters and the shape of texts count besides the whole; None: where they
            are words.
        standardize: whether numeric features are scaled to mean 0 and standard deviation 1.
        group: tells which sequences belong together, such as one patient's: all of a group are in the validation set,
            or none. It is no feature unless it is named among them.
        text: the column whose texts are the sequences.
        task: which task is meant, one of `bilstm.tasks.KINDS`; None: what is certain from the table.
        classes: the labels that there are, where not all need occur.
    """

    sequence: str | None = None
    label: tuple[str, ...] = ()
    order: str | None = None
    features: Sequence[str] | None = None
    categorical: Sequence[str] = ()
    drop: Sequence[str] = ()
    spelling: bool | None = None
    standardize: bool = True
    group: str | None = None
    text: TextColumn | None = None
    task: str | None = None
    classes: Sequence[Any] | None = None


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A table ready for training.

    Attributes:
        table: the table.
        schema: its features, fitted to the training sequences only.
        task: what is predicted.
        training: the sequences to train on.
        validation: the validation set; None if there is none.
        notes: what a person should know, one sentence each.
    """

    table: Table
    schema: Schema
    task: Task
    training: Dataset
    validation: Dataset | None
    notes: tuple[str, ...] = ()


def prepare(
    table: Table,
    options: ColumnOptions,
    *,
    labels: Table | None = None,
    valid: Table | None = None,
    valid_labels: Table | None = None,
    validation_split: float | None = None,
    seed: int = 0,
) -> Prepared:
    """Decide what each column is, set sequences aside for validation, and encode.

    Args:
        table: labelled sequences; steps or sequences without a label are context.
        options: which column is what.
        labels: a table with one row a sequence that holds the labels.
        valid: a table to validate on; then nothing is set aside.
        valid_labels: the labels of `valid`, where they are in a table of their own.
        validation_split: the share of the sequences, or of the groups, for the validation set, from 0 up to but without
            1; at least one goes there, and one stays for training. None: see `default_share`.
        seed: chooses the validation set.

    Raises:
        UserError: a column is missing or unfit for its role, or a cell is wrong; the message says where.
    """
    options = _resolved(table, options, labels)
    kinds, notes = choose_features(table, options)
    sequences = table.sequences(options.sequence, options.order)
    target = find_target(table, sequences, options.sequence, options.label, labels, notes)
    task, truth = find_task(target, sequences, options.task, options.classes)
    labelled = task.labelled_sequences(truth, sequences.offsets)
    grouped = options.group is not None
    share = 0.0 if valid else default_share(validation_split, len(sequences), task.per_sequence and not grouped)
    if grouped and not share:
        other = "a validation table" if valid else "validation_split=0"
        raise UserError(
            f"groups stay together in the validation set, and with {other} none is set aside: leave them out"
        )
    groups = None if options.group is None else read_groups(table, options.group, sequences)
    classes = truth if task.per_sequence and isinstance(task, LabelTask) and groups is None else None
    training, aside = split(labelled, share, seed=seed, groups=groups, classes=classes)
    if share and not len(aside):
        only = f"all labels are of one {options.group}" if grouped else "only one sequence has labels"
        notes.append(f"{only}, so there is no validation set, and training does not stop early")
    order = np.concatenate([training, aside])
    if not np.array_equal(order, np.arange(len(sequences))):
        chosen = truth[order] if task.per_sequence else truth[steps_of(sequences.offsets, order)]
        sequences, truth = sequences.take(order), chosen
    fitted_rows = sequences.rows[: sequences.offsets[len(training)]]
    task = task.fitted(truth[: len(training)] if task.per_sequence else truth[: len(fitted_rows)])
    schema = _fit(table, kinds, fitted_rows, options)
    encoded = schema.encode(table, sequences)
    encoded = dataclasses.replace(
        encoded, truth=truth, per_sequence=task.per_sequence, groups=None if groups is None else groups[order]
    )
    if valid:
        read = read_dataset(schema, task, valid, labels=valid_labels, option="valid_labels")
        validation: Dataset | None = without_unseen(read, task)
    else:
        validation = None
        if len(aside):
            validation = schema.observed(table, encoded.part(slice(len(training), len(sequences))))
    return Prepared(table, schema, task, encoded.part(slice(0, len(training))), validation, tuple(notes))


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
) -> Dataset:
    """The sequences of a table as a model takes them.

    Args:
        labels: a table with one row a sequence that holds the true answers.
        group: the column that tells which sequences belong together.
        with_truth: whether to read the true answers, of which there must be at least one.
        most_unseen: the share of labels that the model may never have seen; if more are, it is another column.
        option: the argument that names a table of labels, for messages.

    Raises:
        UserError: a column is missing, or a cell is not what the model expects; the message says where.
    """
    table.check_sequence(schema.sequence)
    sequences = table.sequences(schema.sequence, schema.order)
    data = dataclasses.replace(schema.encode(table, sequences), per_sequence=task.per_sequence)
    if with_truth:
        target = find_target(table, sequences, schema.sequence, task.columns, labels, [])
        truth, unseen = read_truth(task, target, sequences, most_unseen=most_unseen, option=option)
        data = dataclasses.replace(data, truth=truth, unseen=unseen)
    if group is not None:
        data = dataclasses.replace(data, groups=read_groups(table, group, sequences, least=1))
    return data


def without_unseen(data: Dataset, task: Task) -> Dataset:
    """The data with labels that the model has never seen as unlabelled: such a label has no loss."""
    if not data.unseen or not isinstance(task, LabelTask):
        return data
    truth = np.where(data.known < len(task.classes), data.known, np.int32(-1))
    return dataclasses.replace(data, truth=truth, unseen={}, left_out=data.unseen)


def choose_features(table: Table, options: ColumnOptions) -> tuple[dict[str, FeatureKind], list[str]]:
    """Which columns are features, each numeric or categorical, and notes on those left out.

    Raises:
        UserError: a feature does not exist, has another role, or cannot be one.
    """
    notes: list[str] = []
    names = list(dict.fromkeys(options.features)) if options.features is not None else None
    uses = [(name, "a feature") for name in (*(names or ()), *options.categorical)]
    for name, use in (*uses, *((name, "to drop") for name in options.drop)):
        table.require(name, use)
        if name == options.sequence or name in options.label:
            role = "the label" if name in options.label else "the sequence"
            refused = "be a feature as well" if use == "a feature" else "be dropped"
            raise UserError(f"column {name!r} is {role}, so it cannot {refused}")
    both = [name for name in options.drop if name in (*(names or ()), *options.categorical)]
    if both:
        raise UserError(f"column {both[0]!r} is named among the features and among those to drop")
    explicit = names is not None
    if names is None:
        taken = {options.sequence, options.order, options.group, *options.label, *options.drop}
        names = _default_features(table, taken, options.text, notes)
        names += [name for name in options.categorical if name not in names]
        if predictions := [name for name in names if _PREDICTION.fullmatch(name)]:
            notes.append(f"{', '.join(predictions)}: look like predictions of a model; leave them out with --drop")
    for name in options.categorical:
        if name not in names:
            raise UserError(f"column {name!r} is to be categorical, but is not among the features: {listed(names)}")
    kinds: dict[str, FeatureKind] = {}
    for name in names:
        kind = "categorical" if name in options.categorical else _feature_kind(table, name)
        if kind is not None:
            kinds[name] = kind
        elif explicit:
            raise UserError(f"{table.label} has no value in column {name!r}, so it cannot be a feature")
        else:
            notes.append(f"{name}: left out, since it has no value")
    if not kinds and names:
        raise UserError(f"{table.label} has no column left to predict from: all values are missing in {listed(names)}")
    if not kinds:
        fit = " with a value for each time step" if table.lists else ""
        raise UserError(
            f"{table.label} has no column left to predict from{fit}: 0 feature(s); its columns: {listed(table.names)}"
        )
    return kinds, notes


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
    for part in portions(sequences.offsets, scratch.BLOCK):
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


def _resolved(table: Table, options: ColumnOptions, labels: Table | None) -> ColumnOptions:
    """The roles that the table itself decides, and checks that no column has two."""
    conll = table.format == "conll"
    sequence = options.sequence or (SEQUENCE if conll else None)
    label = options.label or ((LABEL,) if conll else ())
    table.check_sequence(sequence)
    if sequence is not None and not (conll and options.sequence is None):
        table.require(sequence, "the sequence of each row")
    if not label and labels is None:
        raise UserError(f"which column of {table.label} is to be predicted? Name it with --label (label='…')")
    for name in label if labels is None else ():
        table.require(name, "a target" if len(label) > 1 else "the label")
    if options.order is not None:
        table.require(options.order, "the order within a sequence")
    roles = [name for name in (sequence, options.order, *(label if labels is None else ())) if name is not None]
    if len(set(roles)) < len(roles):
        raise UserError("the sequence, the label and the order are different columns, but one is named twice")
    if options.group is not None:
        table.require(options.group, "the group of each sequence")
        if options.group in (*label, options.order):
            raise UserError(f"the group is a column of its own, but {options.group!r} is named for something else too")
    return dataclasses.replace(options, sequence=sequence, label=label)


def _default_features(table: Table, taken: set[str | None], text: TextColumn | None, notes: list[str]) -> list[str]:
    if text is not None:
        others = [name for name in table.names if name not in (*taken, text.column)]
        if others:
            notes.append(f"{', '.join(others)}: not used, since the steps are the {text.tokens} of {text.column}")
        return [text.column]
    if table.format == "conll":
        others = [name for name in table.names if name not in (*taken, SEQUENCE, TOKEN)]
        if others:
            notes.append(f"{', '.join(others)}: not used unless named with --features")
        return [TOKEN]
    if table.lists:
        others = [name for name in table.names if name not in (*taken, *table.lists)]
        if others:
            notes.append(f"{', '.join(others)}: not a list of steps, so not used unless named with --features")
        return [name for name in table.lists if name not in taken]
    notes += [f"{name}: left out, since it has no name in the file" for name in table.unnamed if name not in taken]
    return [name for name in table.names if name not in taken and name not in table.unnamed]


def _feature_kind(table: Table, name: str) -> FeatureKind | None:
    """What a feature's column holds, None if it has no value.

    Raises:
        UserError: it holds what cannot be a feature, or a few cells that do not fit the others.
    """
    kind = table.kinds[name]
    if kind == "nested":
        raise UserError(
            f"column {name!r} of {table.label} holds lists or objects; give each number a column of its own, or name "
            f"the features to use with --features"
        )
    profile = table.profile(name)
    if kind == "time" or (profile.present and profile.times == profile.present):
        raise UserError(
            f"column {name!r} of {table.label} holds dates or times, which are no features as they are; use it as the "
            f"order (--order {name}), convert it to numbers such as the seconds since the start or the hour, or leave "
            f"it out (--drop {name})"
        )
    if not profile.present:
        return None
    if kind == "text" or (kind == "cell" and profile.numbers < MOSTLY * profile.present):
        if profile.other is not None and profile.decimal_commas >= MOSTLY * profile.present:
            cell = shown(table.cell(name, profile.other))
            raise UserError(
                f"{table.place(profile.other)}: {cell} in column {name!r} has a decimal comma; write a point, or treat "
                f"the column as text with --categorical {name}"
            )
        return "categorical"
    if profile.other is not None:
        cell = shown(table.cell(name, profile.other))
        raise UserError(
            f"{table.place(profile.other)}: {cell} in column {name!r} is not a number, "
            f"as {counted(profile.numbers, 'other cell')} of it are; correct it, leave the cell empty, or treat the "
            f"column as text with --categorical {name}"
        )
    return "numeric"


def _fit(table: Table, kinds: dict[str, FeatureKind], rows: IndexArray, options: ColumnOptions) -> Schema:
    """Fit each column to these rows.

    Raises:
        UserError: spelling is to count, but there is no text.
    """
    if options.spelling and "categorical" not in kinds.values():
        raise UserError(f"spelling=True, but {table.label} has no feature that is text, whose spelling could count")
    numeric = [NumericColumn.fit(n, read_numbers(table, n), rows) for n, kind in kinds.items() if kind == "numeric"]
    if not options.standardize:
        numeric = [dataclasses.replace(column, mean=0.0, scale=1.0) for column in numeric]
    chosen: npt.NDArray[np.bool_] = scratch.empty(table.rows, np.bool_)
    chosen[:] = False
    chosen[rows] = True
    categorical = [
        column
        for name, kind in kinds.items()
        if kind == "categorical"
        for column in CategoricalColumn.fit(name, table.counts(name, chosen), options.spelling)
    ]
    named = table.format != "memory" or any(not name.isdigit() and name != "words" for name in kinds)
    return Schema(
        options.sequence,
        options.order,
        tuple(numeric),
        tuple(categorical),
        named=named,
        conll_columns=table.conll_columns,
        text=options.text,
    )
