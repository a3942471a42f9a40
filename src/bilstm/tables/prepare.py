"""From a table and what a person said about it to what training takes: which column is what, and what is held out."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from bilstm import splitting
from bilstm.errors import UserError, counted, listed, shown
from bilstm.ragged import portions
from bilstm.tables import scratch
from bilstm.tables.columns import Columns, Encoded, read_labels, read_numbers
from bilstm.tables.features import LARGEST_VOCABULARY, CategoricalColumn, NumericColumn
from bilstm.tables.sequences import Sequences, find_sequences
from bilstm.tables.spelling import PARTS, WHOLE, are_words
from bilstm.tables.table import Table
from bilstm.tables.textfiles import LABEL, SEQUENCE, TOKEN

FeatureKind = Literal["numeric", "categorical"]
MOSTLY = 0.5  # of the cells are numbers: then what is meant has to be said, rather than be guessed
MOST_CLASSES = 10_000
MOST_FRACTIONS = 1_000  # different fractions in a label column: then it is a quantity, not a class


@dataclasses.dataclass(frozen=True)
class Roles:
    """What a person says about a table's columns; None leaves it to the table.

    Attributes:
        sequence: tells sequences apart; may be left out for CoNLL-style files only.
        label: what to predict; may be left out for CoNLL-style files, whose last column it is.
        order: sorts the rows of a sequence; None: they stand in order.
        features: what to predict from. None: of a CoNLL-style file the first column, of others all that have a name
            and no other role.
        categorical: features to treat as text even if they are numbers.
        spelling: whether the first and last letters and the shape of texts count besides the whole; None: where they
            are words.
        group: tells which sequences belong together, such as one patient's: all of a group are held out, or none.
            No feature, unless named among them.
    """

    sequence: str | None = None
    label: str | None = None
    order: str | None = None
    features: Sequence[str] | None = None
    categorical: Sequence[str] = ()
    spelling: bool | None = None
    group: str | None = None


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A table ready for training.

    Attributes:
        columns: what was found, fitted to the training sequences only.
        training: the sequences to train on.
        validation: those held out, or those of the table given for it; None if there are none.
        groups: the group of each sequence held out; None where nothing was said of groups.
        notes: what a person should know, one sentence each.
    """

    columns: Columns
    training: Encoded
    validation: Encoded | None
    notes: tuple[str, ...]
    groups: tuple[str, ...] | None = None


def prepare(
    table: Table, roles: Roles, *, valid: Table | None = None, validation_split: float | None = None, seed: int = 0
) -> Prepared:
    """Decide what each column is, hold sequences out, and encode.

    Args:
        table: labelled sequences; rows without a label are context.
        roles: which column is what.
        valid: a table to validate on; then nothing is held out.
        validation_split: the share of the sequences, or of the groups, to hold out, from 0 up to but without 1; at
            least one is held out, and one is left for training. None: see `share_to_hold_out`.
        seed: chooses those held out.

    Raises:
        UserError: a column is missing or unfit for its role, or a cell is wrong; the message says where.
    """
    sequence, label = _key_columns(table, roles)
    kinds, notes = choose_features(table, roles, sequence, label)
    sequences = find_sequences(table, sequence, roles.order)
    classes = find_classes(table, label)
    labels = read_labels(table, label, classes)
    share = 0.0 if valid else splitting.share_to_hold_out(validation_split, len(sequences))
    if roles.group is not None and not share:
        other = "--valid" if valid else "--validation-split 0"
        raise UserError(f"--group says what is held out together, and with {other} nothing is: leave one of them out")
    groups = None if roles.group is None else _read_groups(table, roles.group, sequences)
    training, held_out = hold_out(sequences, labels[sequences.rows] >= 0, share, seed, groups)
    if share and not len(held_out):
        only = f"all labels are of one {roles.group}" if roles.group else "only one sequence has labels"
        notes.append(f"{only}, so none is held out, and training does not stop early")
    sequences = sequences.take(np.concatenate([training, held_out]))
    rows = sequences.rows[: sequences.offsets[len(training)]]
    features = _fit(table, kinds, rows, roles.spelling)
    columns = Columns(sequence, roles.order, label, classes, *features, table.conll_columns)
    encoded = columns.encode_sequences(table, sequences, labels)
    if valid:
        judged_by = columns.encode(valid, need_labels=True, allow_unseen=True)
        validation: Encoded | None = judged_by.without_unseen(len(classes))
    else:
        validation = encoded.part(slice(len(training), len(sequences))) if len(held_out) else None
    held_out_groups = None if groups is None else tuple(groups[i] for i in held_out)
    return Prepared(columns, encoded.part(slice(0, len(training))), validation, tuple(notes), held_out_groups)


def choose_features(table: Table, roles: Roles, sequence: str, label: str) -> tuple[dict[str, FeatureKind], list[str]]:
    """Which columns are features, each numeric or categorical, and notes on those left out.

    Raises:
        UserError: a feature does not exist, has another role, or cannot be one.
    """
    notes: list[str] = []
    names = list(dict.fromkeys(roles.features)) if roles.features is not None else None
    for name in (*(names or ()), *roles.categorical):
        table.require(name, "a feature")
        if name in (sequence, label):
            role = "the label" if name == label else "the sequence"
            raise UserError(f"column {name!r} is {role}, so it cannot be a feature as well")
    explicit = names is not None
    if names is None:
        names = _default_features(table, {sequence, label, roles.order, roles.group}, notes)
        names += [name for name in roles.categorical if name not in names]
    for name in roles.categorical:
        if name not in names:
            raise UserError(f"column {name!r} is to be categorical, but is not among the features: {listed(names)}")
    kinds: dict[str, FeatureKind] = {}
    for name in names:
        kind = "categorical" if name in roles.categorical else _feature_kind(table, name)
        if kind is not None:
            kinds[name] = kind
        elif explicit:
            raise UserError(f"{table.path} has no value in column {name!r}, so it cannot be a feature")
        else:
            notes.append(f"{name}: left out, since it has no value")
    if not kinds:
        fit = f" with as many values in each row as {label!r}" if table.lists else ""
        raise UserError(f"{table.path} has no column left to predict from{fit}; its columns: {listed(table.names)}")
    return kinds, notes


def find_classes(table: Table, label: str) -> tuple[str, ...]:
    """The different labels, sorted; as numbers if all are whole numbers.

    Raises:
        UserError: there are fewer than two, or so many that they are no classes.
    """
    different = f"FROM (SELECT {table.key(label)} AS t FROM cells) WHERE t IS NOT NULL"
    ((count,),) = table.query(f"SELECT count(DISTINCT t) {different}")
    some = table.query(f"SELECT DISTINCT t {different} LIMIT {MOST_CLASSES + 1}")
    found = {text for (text,) in some if text.strip()}
    if not found:
        raise UserError(f"{table.path} has no label in column {label!r}: all of its cells are empty")
    if len(found) == 1:
        raise UserError(
            f"{table.path} has the same label {shown(found.pop())} in every labelled row of column {label!r}; at least "
            f"two are needed to learn the difference"
        )
    whole = all(re.fullmatch(r"-?[0-9]{1,18}", text) for text in found)
    profile = table.profile(label) if count > MOST_FRACTIONS and not whole else None
    if profile and profile.numbers == profile.present:
        raise UserError(
            f"{table.path} has {count:,} different fractions in column {label!r}; labels are classes, and "
            f"predicting a quantity for every step is not supported"
        )
    if count > MOST_CLASSES:
        raise UserError(
            f"{table.path} has {count:,} different labels in column {label!r}, more than {MOST_CLASSES:,}; is it "
            f"the column that you mean?"
        )
    return tuple(sorted(found, key=lambda text: (int(text), text)) if whole else sorted(found))


def hold_out(
    sequences: Sequences,
    labelled: npt.NDArray[np.bool_],
    share: float,
    seed: int,
    groups: Sequence[str] | None = None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Part the sequences by chance into those to train on and those held out, of which each has a labelled step.

    Args:
        sequences: n of them.
        labelled: (total_steps,) whether a step has a label.
        share: of the sequences with a label, or of the groups with one, how many to hold out: at least one, and all
            but one at most.
        seed: the same seed parts them in the same way.
        groups: (n,) names; the sequences of a group stay together.

    Returns:
        The indices of both parts, ascending.
    """
    everything = np.arange(len(sequences))
    has_label = np.logical_or.reduceat(labelled, sequences.offsets[:-1])
    if groups is not None:
        return splitting.hold_out(has_label, share, seed=seed, groups=groups)
    candidates = np.flatnonzero(has_label)
    count = min(max(1, round(share * len(candidates))), len(candidates) - 1) if share else 0
    chosen = np.sort(np.random.default_rng(seed).permutation(candidates)[:count])
    return np.setdiff1d(everything, chosen), chosen


def _key_columns(table: Table, roles: Roles) -> tuple[str, str]:
    conll = table.format == "conll"
    sequence = roles.sequence or (SEQUENCE if conll or table.lists else None)
    label = roles.label or (LABEL if conll else None)
    if sequence is None:
        raise UserError(f"which rows of {table.path} belong together? Name the column that tells with --sequence")
    if label is None:
        raise UserError(f"which column of {table.path} is to be predicted? Name it with --label")
    if roles.sequence or conll:
        table.require(sequence, "the sequence of each row")
    table.require(label, "the label")
    if roles.order is not None:
        table.require(roles.order, "the order within a sequence")
    if len({sequence, label, roles.order}) < 3:
        raise UserError("the sequence, the label and the order are three columns, but one is named twice")
    if roles.group is not None:
        table.require(roles.group, "the group of each sequence")
        if roles.group in (sequence, label, roles.order):
            raise UserError(
                f"the group is a column of its own, but {roles.group!r} is named for something else as well"
            )
    if table.kinds[label] == "nested":
        raise UserError(f"column {label!r} of {table.path} holds lists or objects; a label is one value")
    return sequence, label


def _read_groups(table: Table, name: str, sequences: Sequences) -> list[str]:
    """(n_sequences,) the group of each.

    Raises:
        UserError: a cell is missing, a sequence has two groups, or there is one group only.
    """
    numbers: dict[str, int] = {}
    codes = scratch.empty(table.rows, np.int32)
    for start, stop in table.blocks():
        texts = table.texts(name, start, stop).tolist()
        codes[start:stop] = [-1 if text is None else numbers.setdefault(text, len(numbers)) for text in texts]
    names, firsts = list(numbers), codes[sequences.rows[sequences.offsets[:-1]]]
    for part in portions(sequences.offsets, scratch.BLOCK):
        rows = sequences.rows[sequences.offsets[part.start] : sequences.offsets[part.stop]]
        expected = np.repeat(firsts[part], np.diff(sequences.offsets)[part])
        for wrong in np.flatnonzero((codes[rows] < 0) | (codes[rows] != expected))[:1].tolist():
            place, code = table.place(int(rows[wrong])), int(codes[rows[wrong]])
            if code < 0:
                raise UserError(f"{place}: the cell in column {name!r}, the group, is missing")
            raise UserError(
                f"{place}: the group in column {name!r} is {shown(names[code])}, but its sequence begins with "
                f"{shown(names[expected[wrong]])}; a sequence is of one group"
            )
    if len(names) == 1:
        raise UserError(
            f"{table.path} has one group only, {shown(names[0])} in column {name!r}, so none can be held out; leave "
            f"--group out, or give sequences to validate on with --valid"
        )
    return [names[code] for code in firsts.tolist()]


def _default_features(table: Table, taken: set[str | None], notes: list[str]) -> list[str]:
    if table.format == "conll":
        others = [name for name in table.names if name not in (*taken, SEQUENCE, TOKEN)]
        if others:
            notes.append(f"{', '.join(others)}: not used unless named with --features")
        return [TOKEN]
    if table.lists:
        others = [name for name in table.names if name not in (*taken, *table.lists)]
        if others:
            notes.append(f"{', '.join(others)}: no list of steps, so not used unless named with --features")
        return [name for name in table.lists if name not in taken]
    notes += [f"{name}: left out, since it has no name in the file" for name in table.unnamed if name not in taken]
    return [name for name in table.names if name not in taken and name not in table.unnamed]


def _feature_kind(table: Table, name: str) -> FeatureKind | None:
    """What a feature's column holds, None if nothing at all.

    Raises:
        UserError: it holds what cannot be a feature, or a few cells that do not fit the others.
    """
    kind = table.kinds[name]
    if kind == "nested":
        raise UserError(
            f"column {name!r} of {table.path} holds lists or objects; give each number a column of its own, or name "
            f"the features to use with --features"
        )
    profile = table.profile(name)
    if kind == "time" or (profile.present and profile.times == profile.present):
        raise UserError(
            f"column {name!r} of {table.path} holds dates or times, which are no features as they are; use it as the "
            f"order (--order {name}), make numbers of it such as the seconds since the start or the hour, or name the "
            f"features to use with --features"
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


def _fit(
    table: Table, kinds: dict[str, FeatureKind], rows: npt.NDArray[np.int64], spelling: bool | None
) -> tuple[tuple[NumericColumn, ...], tuple[CategoricalColumn, ...]]:
    """Fit each column to these rows.

    Raises:
        UserError: spelling is to count, but there is no text.
    """
    if spelling and "categorical" not in kinds.values():
        raise UserError(f"{table.path} has no feature that is text, so there is no spelling to learn from")
    numeric = [NumericColumn.fit(n, read_numbers(table, n), rows) for n, kind in kinds.items() if kind == "numeric"]
    chosen = scratch.empty(table.rows, np.bool_)
    chosen[:] = False
    chosen[rows] = True
    texts = [name for name, kind in kinds.items() if kind == "categorical"]
    categorical = [column for name in texts for column in _fit_categories(table, name, chosen, spelling)]
    return tuple(numeric), tuple(categorical)


def _fit_categories(
    table: Table, name: str, chosen: npt.NDArray[np.bool_], spelling: bool | None
) -> list[CategoricalColumn]:
    """Count the values of a column in the chosen ones of all rows; in the database, since there may be very many."""
    with table.beside({"chosen": chosen}):
        table.query(
            f"CREATE TABLE counts AS SELECT t, count(*) AS n FROM (SELECT coalesce({table.key(name)}, '') AS t, chosen "
            f"FROM cells POSITIONAL JOIN beside) WHERE chosen GROUP BY t"
        )
    ((distinct,),) = table.query("SELECT count(*) FROM counts")
    frequent = table.query(f"SELECT t FROM counts WHERE n > 1 ORDER BY n DESC, t LIMIT {LARGEST_VOCABULARY}")

    def values() -> Iterator[tuple[str, int]]:
        for start in range(0, distinct, scratch.BLOCK):
            stop = start + scratch.BLOCK
            yield from table.query(f"SELECT t, n FROM counts WHERE rowid >= {start} AND rowid < {stop}")

    columns = [CategoricalColumn(name, tuple(text for (text,) in frequent), distinct)]
    if spelling or (spelling is None and are_words(text for text, _ in values())):
        columns += [CategoricalColumn.fit_counted(name, values(), part) for part in PARTS if part != WHOLE]
    table.query("DROP TABLE counts")
    return columns
