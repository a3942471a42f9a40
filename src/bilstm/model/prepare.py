"""From a table and what a person said about its columns to what training takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from bilstm.data import scratch
from bilstm.data.characters import CharacterColumn
from bilstm.data.conll import LABEL, TOKEN
from bilstm.data.dataset import Dataset
from bilstm.data.features import CategoricalColumn, NumericColumn, spelled_columns
from bilstm.data.filetable import FileTable
from bilstm.data.readingoptions import ReadingOptions
from bilstm.data.schema import Schema, read_numbers
from bilstm.data.spelling import WHOLE
from bilstm.data.table import Table
from bilstm.data.tokens import fitting_rule
from bilstm.data.wordvectors import files_of_features, fit_vectors
from bilstm.errors import UserError, counted, listed
from bilstm.model.answers import find_answers, has_truth
from bilstm.model.columns import ColumnOptions, FeatureKind, choose_features
from bilstm.model.datasets import read_dataset, read_groups, without_unseen
from bilstm.model.fingerprint import fingerprint
from bilstm.model.holdout import check_groups, set_aside
from bilstm.ragged import FloatArray, IndexArray, steps_between
from bilstm.tasks import Task
from bilstm.tasks.labels import LabelTask
from bilstm.tasks.softtargets import probability_columns


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
        test: the test set; None if none was split off.
        gap_steps: steps between blocks of time that are in no set.
        recordings: the fingerprint of the whole sequences that blocks of time were cut from.
        vectors: feature -> (size, dimensions) the word vectors that training begins with.
        targets: (answers, labels) what training aims at, see `Answers`; None: the truth of the training set.
        validated_by_targets: whether the true answers of the validation set are the likeliest by such targets, which
            probabilities cannot be calibrated on.
        valid_table: what the validation set was read from; None: `table`.
    """

    table: Table
    schema: Schema
    task: Task
    training: Dataset
    validation: Dataset | None
    notes: tuple[str, ...] = ()
    test: Dataset | None = None
    gap_steps: int = 0
    recordings: tuple[int, ...] = ()
    vectors: Mapping[str, FloatArray] = dataclasses.field(default_factory=dict)
    targets: FloatArray | None = None
    validated_by_targets: bool = False
    valid_table: Table | None = None

    def without_characters(self) -> Prepared:
        """The table as a network takes it that reads no characters."""
        if self.schema.characters is None:
            return self
        sets = {name: getattr(self, name) for name in ("training", "validation", "test")}
        return dataclasses.replace(
            self,
            schema=self.schema.without_characters(),
            **{name: data and data.without_words() for name, data in sets.items()},
        )


def prepare(
    table: Table,
    options: ColumnOptions,
    *,
    labels: Table | None = None,
    valid: Table | None = None,
    valid_labels: Table | None = None,
    validation_split: float | None = None,
    test_split: float = 0.0,
    window: int | None = None,
    characters: str | None = None,
    seed: int = 0,
) -> Prepared:
    """Decide what each column is, set sequences aside for validation, and encode.

    Args:
        table: labelled sequences; steps or sequences without a label are context.
        options: which column is what.
        labels: a table with one row per sequence that holds the labels.
        valid: a table to validate on; then nothing is set aside for that.
        valid_labels: the labels of `valid`, where they are in a table of their own.
        validation_split: the share of the sequences, or of the groups, for the validation set, from 0 up to but without
            1; at least one goes there, and one stays for training. None: see `default_share`.
        test_split: the share for a test set besides.
        window: the steps of the windows that are trained on, of the longest where they vary. With it, a table without a
            sequence column is one sequence, and blocks of time are set aside where whole sequences are too few.
        characters: as in `TrainingOptions`.
        seed: chooses the validation and the test set.

    Raises:
        UserError: a column is missing or unfit for its role, or a cell is wrong; the message says where.
    """
    one_sequence = window is not None and options.sequence is None and not table.divided
    options = _resolved(table, options, labels, one_sequence)
    table.check_labels()
    kinds, notes = choose_features(table, options)
    notes += table.notes
    whole = table.sequences(options.sequence, options.order)
    answers = find_answers(table, whole, options, labels, notes)
    task, truth, targets = answers.task, answers.truth, answers.targets
    notes += _cell_notes(answers.table, task, kinds if answers.table is table else {})
    shares, column, groups = (validation_split, test_split), options.group, None
    if column is not None:
        check_groups(shares, bool(valid))
        groups = read_groups(table, column, whole)
    division, more = set_aside(
        task, truth, whole.offsets, shares, groups=groups, group=column, window=window, valid=bool(valid), seed=seed
    )
    notes += more
    sequences = whole
    if not np.array_equal(division.starts, whole.offsets[:-1]):
        sequences = whole.cut(division.starts, division.stops)
        order = division.sequences
        taken = order if task.per_sequence else steps_between(division.starts, division.stops)
        truth, targets = truth[taken], None if targets is None else targets[taken]
    training, *others = division.parts
    fitted_rows = sequences.rows[: sequences.offsets[training.stop]]
    fitted = slice(training.stop if task.per_sequence else len(fitted_rows))
    task, targets = task.fitted(truth[fitted]), None if targets is None else targets[fitted]
    schema, vectors = _fit(table, kinds, fitted_rows, options, characters, notes)
    schema = dataclasses.replace(schema, one_sequence=one_sequence)
    recordings: tuple[int, ...] = ()
    if division.blocks:
        uncut = schema.encode(table, whole)
        recordings, encoded = tuple(fingerprint(uncut.values)), uncut.cut(division.starts, division.stops)
    else:
        encoded = schema.encode(table, sequences)
    groups = None if groups is None else groups[division.sequences]
    encoded = dataclasses.replace(encoded, truth=truth, per_sequence=task.per_sequence, groups=groups)
    aside, test = (schema.observed(table, encoded.part(part)) if part.start < part.stop else None for part in others)
    soft = options if options.soft_targets is not None and not options.label else None
    by_targets = soft is not None and not (valid and has_truth(valid, task, valid_labels))
    if valid:
        read = read_dataset(schema, task, valid, labels=valid_labels, option="valid_labels", soft=soft)
        aside = without_unseen(read, task)
    own, gaps = encoded.part(training), division.gap_steps
    return Prepared(
        table, schema, task, own, aside, tuple(notes), test, gaps, recordings, vectors, targets, by_targets, valid
    )


def _resolved(table: Table, options: ColumnOptions, labels: Table | None, one_sequence: bool) -> ColumnOptions:
    """The roles that the table itself decides, and checks that no column has two."""
    conll = table.format == "conll"
    sequence = options.sequence or table.own_sequence
    label = options.label
    if not label and options.soft_targets is None and conll and (LABEL in table.names or TOKEN in table.names):
        label = (LABEL,)
    if table.tagged is not None and labels is None and options.soft_targets is None:
        label = label or table.tagged[1:]
    table.check_sequence(sequence, one=one_sequence)
    if options.sequence is not None:
        table.require(options.sequence, "the sequence of each row")
    if not label and labels is None and options.soft_targets is None:
        raise UserError(f"which column of {table.label} is to be predicted? Name it with --label (label='…')")
    for name in label if labels is None else ():
        table.require(name, "a target" if len(label) > 1 else "the label")
    order = table.order_columns(options.order)
    roles = [name for name in (sequence, *order, *(label if labels is None else ())) if name is not None]
    if len(set(roles)) < len(roles):
        raise UserError("the sequence, the label and the order are different columns, but one is named twice")
    if options.group is not None:
        table.require(options.group, "the group of each sequence")
        if options.group in (*label, *order):
            raise UserError(f"the group is a column of its own, but {options.group!r} is named for something else too")
    drop = tuple(options.drop)
    if options.soft_targets is not None and labels is None:
        drop += tuple(probability_columns(table, options.soft_targets).values())
    return dataclasses.replace(options, sequence=sequence, label=label, drop=drop)


def _fit(
    table: Table,
    kinds: dict[str, FeatureKind],
    rows: IndexArray,
    options: ColumnOptions,
    characters: str | None,
    notes: list[str],
) -> tuple[Schema, dict[str, FloatArray]]:
    """Fit each column to these rows, and read the word vectors of features; notes are added.

    Raises:
        UserError: spelling is to count, or characters are to be read, but there is no text; word vectors are unfit.
    """
    if characters not in (None, "none") and "categorical" not in kinds.values():
        raise UserError(f"{table.label} has no feature that is text, whose characters could be read; leave them out")
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
    alone = categorical[0] if len(kinds) == 1 and categorical and options.text is None else None
    rule = None if alone is None else table.reading.tokens or fitting_rule(alone.vocabulary)
    spelled = next((column.name for column in categorical if column.part != WHOLE), None)
    if spelled is None and characters not in (None, "none"):
        spelled = categorical[0].name
    reads = spelled is not None and characters != "none"
    categorical, vectors = _with_vectors(table, categorical, chosen, options, notes)
    named = table.format != "memory" or any(not name.isdigit() and name != "words" for name in kinds)
    schema = Schema(
        options.sequence,
        options.order,
        tuple(numeric),
        tuple(categorical),
        named=named,
        conll_columns=table.conll_columns,
        text=options.text,
        reading=_remembered(table),
        tokens=rule,
        characters=CharacterColumn.fit(spelled, table.counts(spelled, chosen)) if spelled and reads else None,
    )
    return schema, vectors


def _with_vectors(
    table: Table,
    columns: list[CategoricalColumn],
    chosen: npt.NDArray[np.bool_],
    options: ColumnOptions,
    notes: list[str],
) -> tuple[list[CategoricalColumn], dict[str, FloatArray]]:
    """The columns with those of word vectors, each after the others of its feature, and the vectors.

    Raises:
        UserError: the vectors are unfit, or it is not clear for which feature they are.
    """
    if options.vectors is None:
        if options.all_vectors:
            raise UserError(
                "all_vectors has no effect: there is no file of word vectors, which --vectors (vectors=…) names"
            )
        return columns, {}
    texts = list(dict.fromkeys(column.name for column in columns))
    files = files_of_features(options.vectors, texts, spelled_columns(columns))
    joined, vectors = list[CategoricalColumn](), dict[str, FloatArray]()
    for name in texts:
        joined += [column for column in columns if column.name == name]
        if name in files:
            words = {text for text, _ in table.counts(name, chosen) if text}
            column, vectors[name], more = fit_vectors(name, words, files[name], everything=options.all_vectors)
            joined.append(column)
            notes += more
    return joined, vectors


def _remembered(table: Table) -> ReadingOptions:
    """How other files are read for the model: as a person said, and with quotes as characters where these are."""
    guessed = {reading.quote for _, reading in table.guesses()}
    return table.reading.over(ReadingOptions(quote="")) if guessed == {""} else table.reading


def _cell_notes(table: Table, task: Task, features: Mapping[str, FeatureKind]) -> Iterator[str]:
    """Sentences on cells that may be read otherwise than they are meant."""
    everywhere = np.ones(table.rows, np.bool_)
    label = [name for name in task.columns if isinstance(task, LabelTask) and name in table.names]
    for name in label:
        counts = dict(table.counts(name, everywhere)) if table.kinds[name] in ("cell", "text") else {}
        missing = {text: count for text, count in counts.items() if text.strip() in table.missing_labels - {""}}
        if missing and table.reading.missing is None:
            count = sum(missing.values())
            cells = f"{counted(count, 'cell')} with {listed(missing)} {'has' if count == 1 else 'have'} no label"
            yield f"{name}: {cells}; --missing says which texts mean that"
    texts = [name for name, kind in features.items() if kind == "categorical"]
    if isinstance(table, FileTable) and table.format == "csv":
        for name in (*label, *texts):
            row = table.query(f"SELECT min(rowid) FROM cells WHERE contains({table.column(name)}, chr(10))")[0][0]
            if row is not None:
                yield (
                    f"{name}: the cell in {table.place(row).removeprefix(f'{table.label}, ')} holds a line break; if "
                    f'" is a character like others, say so with --no-quotes'
                )
