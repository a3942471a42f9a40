"""Which columns of a table are what: what a person says, and what the rest are for."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any, Literal

from bilstm.data.conll import SEQUENCE, TOKEN, ConllRows
from bilstm.data.filetable import FileTable
from bilstm.data.readingoptions import PLAIN, ReadingOptions
from bilstm.data.schema import number_signs
from bilstm.data.table import Table
from bilstm.data.texts import TextColumn
from bilstm.data.wordvectors import VectorFiles
from bilstm.errors import UserError, counted, listed, shown
from bilstm.tasks.softtargets import SoftColumns

FeatureKind = Literal["numeric", "categorical"]
_PREDICTION = re.compile(r"predicted(\d*|_.+)|probability(\d*|_of_.+)")  # the columns that `predict` writes
_INDEX = re.compile(r"__index_level_\d+__|Unnamed: \d+")  # pandas' names for an index that has none
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
        reading: how files are read.
        vectors: a file of word vectors for the feature that is words, or feature -> file; see `read_vectors`.
        all_vectors: whether all words of these are kept, rather than those of the training rows.
        soft_targets: what the names of columns begin with that hold the probability of a label, which is the rest of
            the name; or label -> column. Training aims at these instead of at one label. None: there are none.
        label_separator: what is between labels in cells that name several, of which one is right, such as `A|B`.
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
    reading: ReadingOptions = PLAIN
    vectors: VectorFiles | None = None
    all_vectors: bool = False
    soft_targets: SoftColumns | None = None
    label_separator: str | None = None


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
        order = table.order_columns(options.order)
        taken = {options.sequence, *order, options.group, *options.label, *options.drop}
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


def _default_features(table: Table, taken: set[str | None], text: TextColumn | None, notes: list[str]) -> list[str]:
    if text is not None:
        others = [name for name in table.names if name not in (*taken, text.column)]
        if others:
            notes.append(f"{', '.join(others)}: not used, since the steps are the {text.what} of {text.column}")
        return [text.column]
    if table.format == "conll":
        words = _words_of(table, taken)
        others = [name for name in table.names if name not in (*taken, SEQUENCE, words)]
        if others[:1] == [TOKEN]:
            notes.append(f"{TOKEN}: left out, since it numbers the words; {words} is used")
            del others[0]
        if others:
            notes.append(f"{', '.join(others)}: not used unless named with --features")
        return [words]
    if table.tagged is not None and (table.documents or table.tagged[1] in taken):
        own = (*taken, table.tagged[0], *(table.documents.others if table.documents else ()), table.tagged[1])
        if others := [name for name in table.names if name not in own]:
            notes.append(f"{', '.join(others)}: not used unless named with --features")
        return [table.tagged[0]]
    if table.lists:
        others = [name for name in table.names if name not in (*taken, *table.lists)]
        if others:
            notes.append(f"{', '.join(others)}: not a list of steps, so not used unless named with --features")
        return [name for name in table.lists if name not in taken]
    features = list[str]()
    for name in table.names:
        if name in taken:
            continue
        if name in table.unnamed:
            notes.append(f"{name}: left out, since it has no name in the file")
        elif _INDEX.fullmatch(name):
            notes.append(f"{name}: left out, since it is a data frame's index; name it with --features to use it")
        else:
            features.append(name)
    counters = [name for name in features if table.counts_rows(name)]
    if len(counters) == len(features):
        notes += [f"{name}: numbers the rows, but there is nothing else to predict from" for name in counters]
        return features
    notes += [f"{name}: left out, since it numbers the rows; name it with --features to use it" for name in counters]
    return [name for name in features if name not in counters]


def _words_of(table: Table, taken: set[str | None]) -> str:
    """The column of a CoNLL-style file that has the words."""
    numbered = isinstance(table, FileTable) and isinstance(table.source, ConllRows) and table.source.numbered
    if "form" in table.names and TOKEN not in table.names:
        return "form"
    names = [name for name in table.names if name not in (*taken, SEQUENCE)]
    if numbered and names[:1] == [TOKEN] and len(names) > 1:
        return names[1]
    return TOKEN if TOKEN in table.names or not names else names[0]


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
            what, advice = number_signs(table.cell(name, profile.other)) or ("has a decimal comma", "write a point")
            raise UserError(
                f"{table.place(profile.other)}: {cell} in column {name!r} {what}; {advice.replace(', or ', ', ')}, or "
                f"treat the column as text with --categorical {name}"
            )
        return "categorical"
    if profile.other is not None:
        text = table.cell(name, profile.other)
        correct = "correct it, leave the cell empty, name it with --missing"
        if signs := number_signs(text):
            correct = f"it {signs[0]}: {signs[1].replace(', or ', ', ')}"
        raise UserError(
            f"{table.place(profile.other)}: {shown(text)} in column {name!r} is not a number, "
            f"as {counted(profile.numbers, 'other cell')} of it are; {correct}, or treat the column as text with "
            f"--categorical {name}"
        )
    return "numeric"
