"""What is needed before the first training of a comparison: training, validation and test set, and the variants."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bilstm.arguments import check_fraction
from bilstm.compare.variants import DIRECTIONS, Variant, equally_large, grid
from bilstm.data.dataset import Dataset
from bilstm.data.sources import open_for, open_labels, open_table
from bilstm.data.table import Table
from bilstm.data.targets import with_groups, with_targets
from bilstm.errors import UserError, counted
from bilstm.model.columns import ColumnOptions
from bilstm.model.datasets import read_dataset, without_unseen
from bilstm.model.holdout import ONE_SEQUENCE, advice_for
from bilstm.model.network import check_options, network_size
from bilstm.model.opening import column_options, open_data
from bilstm.model.prepare import Prepared, prepare
from bilstm.model.tagging import choose_output, task_to_learn, with_output
from bilstm.training.options import TrainingOptions

TEST_SPLIT = 0.2
# What differs from `bilstm train`: a network small enough to be trained nine times in minutes, and no early stopping,
# which would give each variant another budget. Calibration changes no score.
DEFAULTS: dict[str, Any] = {
    "units": 64,
    "layers": 2,
    "validation_split": 0.1,
    "patience": 1_000_000,
    "calibrate": False,
}


@dataclasses.dataclass(frozen=True)
class Plan:
    """A comparison before its first training.

    Attributes:
        prepared: the training and the validation set; the latter decides which epoch of a training is kept.
        test: the test set, whose labels need not occur in training.
        variants: the ways to train; the others are compared with the first.
        notes: what a person should know about the test set, one sentence each.
    """

    prepared: Prepared
    test: Dataset
    variants: list[Variant]
    notes: list[str]

    def sets_for(self, options: TrainingOptions) -> tuple[Prepared, Dataset]:
        """The training and validation set, and the test set, as a variant's network takes them."""
        if options.characters == "none":
            return self.prepared.without_characters(), self.test.without_words()
        return self.prepared, self.test


def plan_comparison(
    data: Any,
    y: Any = None,
    *,
    columns: Mapping[str, Any],
    test: Any = None,
    test_labels: Any = None,
    valid: Any = None,
    valid_labels: Any = None,
    vary: Mapping[str, Sequence[Any]] | None = None,
    same_size: bool = False,
    test_split: float | None = None,
    options: Mapping[str, Any],
) -> Plan:
    """Read the data, set sequences aside, and check every variant; for the arguments see `bilstm.compare`.

    Args:
        columns: the arguments that say which column is what.
        options: those of `TrainingOptions`.

    Raises:
        TypeError: there is no such option.
        UserError: an argument is impossible, or there are too few sequences or groups.
    """
    variants = _variants(vary, options)
    base = variants[0].options
    asked = options.get("validation_split")
    test_share = _share("test", test, test_labels, "test_split", test_split, TEST_SPLIT)
    validation_share = _share("valid", valid, valid_labels, "validation_split", asked, base.validation_split)
    share = validation_share + test_share
    if share >= 1:
        raise UserError(f"validation_split and test_split together are {share:g}: nothing is left to train on")
    table, chosen, labels = _opened(data, y, columns)
    group = chosen.group
    if group is not None and not share:  # only the test set needs it
        unused = (group,) if chosen.features is None and group in table.names else ()
        chosen = dataclasses.replace(chosen, group=None, drop=(*chosen.drop, *unused))
    window = max((variant.options.window or 0 for variant in variants), default=0) or None
    prepared = prepare(
        table,
        chosen,
        labels=labels,
        validation_split=validation_share,
        test_split=test_share,
        window=window,
        characters=next((v.options.characters for v in variants if v.options.characters != "none"), "none"),
        seed=base.seed,
    )
    _check_sets(prepared, validation_share, test_share, group)
    validation, tested, notes = prepared.validation, prepared.test, list[str]()
    if valid is not None:
        validation = without_unseen(_read(prepared, valid, valid_labels, y is not None, "valid"), prepared.task)
    if test is not None:
        tested = _read(prepared, test, test_labels, y is not None, "test", group)
        if group is not None and tested.groups is None:
            notes.append("it has no groups, so intervals draw its sequences one by one")
    assert tested is not None
    if tested.blocks:
        notes.append("it is of recordings that are trained on as well: other ones may differ by more")
    prepared = dataclasses.replace(prepared, validation=validation)
    variants = [dataclasses.replace(each, options=with_output(prepared, each.options)) for each in variants]
    _check(prepared, variants)
    if same_size:
        variants = equally_large(variants, lambda options: size_for(prepared, options))
    return Plan(prepared, tested, variants, [*notes, *tested.notes])


def _share(name: str, own: Any, labels: Any, option: str, share: float | None, default: float | None) -> float:
    """The share of the sequences that is set aside, 0 where there is a set of its own.

    Raises:
        UserError: the share is impossible, or something has no effect.
    """
    if own is not None and share is not None:
        raise UserError(f"{name} is a set of its own, so {option} has no effect: leave one out")
    if own is None and labels is not None:
        raise UserError(f"{name}_labels belong to the sequences of {name}, which is missing")
    chosen = check_fraction("compare", option, default if share is None else share)
    if not chosen:
        raise UserError(f"{option} must be above 0: variants are compared on sequences that are set aside")
    return 0.0 if own is not None else chosen


def _check_sets(prepared: Prepared, validation_share: float, test_share: float, group: str | None) -> None:
    """Refuse data from which no validation set or no test set could be set aside.

    Raises:
        UserError: there are too few sequences, or too few groups.
    """
    sets = [each for each in (prepared.validation, prepared.test) if each is not None]
    if validation_share + test_share and not sets:
        only, advice = f"all labels are of one group in column {group!r}", ""
        if group is None:
            only = ONE_SEQUENCE
            advice = "" if prepared.task.per_sequence else advice_for(prepared.training.values.offsets)
        raise UserError(f"{only}, so nothing can be set aside: give validation and test sets of their own{advice}")
    labelled = [prepared.task.labelled_sequences(each.known, each.values.offsets) for each in sets]
    if validation_share and test_share and not (len(sets) == 2 and all(each.any() for each in labelled)):
        there = counted(sum(int(each.sum()) for each in labelled), "labelled sequence")
        if group is not None:
            codes = [
                each.groups[chosen] for each, chosen in zip(sets, labelled, strict=True) if each.groups is not None
            ]
            there = counted(len(np.unique(np.concatenate(codes))), "group")
        raise UserError(
            f"only {there} set aside, too few for a validation "
            f"set and a test set: set more aside, or give test sequences of their own"
        )


def _variants(vary: Mapping[str, Sequence[Any]] | None, options: Mapping[str, Any]) -> list[Variant]:
    """The variants, of which none is described twice."""
    vary = DIRECTIONS if vary is None else vary
    for name in vary:
        if options.get(name) is not None:
            raise UserError(f"{name} varies, so it cannot have one value as well: leave it out, or vary something else")
    said = {name: value for name, value in options.items() if (name, value) != ("validation_split", None)}
    try:
        return grid(vary, TrainingOptions(**DEFAULTS | said))
    except ValueError as error:
        raise UserError(str(error)) from None


def _opened(data: Any, y: Any, columns: Mapping[str, Any]) -> tuple[Table, ColumnOptions, Table | None]:
    """The table with all that belongs to it, which column is what, and the table of labels."""
    columns = dict(columns)
    labels, group = columns.pop("labels", None), columns.get("group")
    if y is None:
        if not isinstance(group, (str, type(None))):
            raise UserError("group is the name of a column; the groups themselves can be given together with y only")
        table, chosen = open_data(data, column_options(**columns))
        return table, chosen, None if labels is None else open_labels(labels, "labels", chosen.sequence, chosen.reading)
    for name, value in (("label", columns.get("label")), ("labels", labels), ("text", columns.get("text"))):
        if value is not None:
            raise UserError(f"y has the labels of X, so {name} has no effect: leave one out")
    chosen = column_options(**columns | {"group": None})
    roles = {"sequence": chosen.sequence, "order": chosen.order}
    table = open_table(data, sequence=chosen.sequence, reading=chosen.reading)
    kind = chosen.task or "step-label"
    table, names = with_targets(table, y, per_sequence=kind.startswith("sequence"), **roles)
    if chosen.task is None and len(names) > 1:
        kind = "step-labels"
    if group is not None:
        table, group = with_groups(table, group, **roles)
    return table, dataclasses.replace(chosen, label=names, task=kind, group=group), None


def _read(prepared: Prepared, data: Any, labels: Any, pair: bool, name: str, group: str | None = None) -> Dataset:
    """A set of its own: a table, or with `pair` (X, y) or (X, y, groups)."""
    schema, task = prepared.schema, prepared.task
    if not pair:
        table = open_for(schema, data, label=name, steps=task.columns)
        own_labels = None if labels is None else open_labels(labels, f"{name}_labels", None, schema.reading)
    else:
        if not isinstance(data, (tuple, list)) or len(data) not in (2, 3) or labels is not None:
            raise UserError(f"{name} is (X, y) where data and y are given, or (X, y, groups)")
        roles: dict[str, Any] = {"sequence": schema.sequence, "order": schema.order}
        table = open_for(schema, data[0], label=f"the X of {name}")
        table, names = with_targets(table, data[1], per_sequence=task.per_sequence, **roles)
        if len(names) != len(task.columns):
            raise UserError(f"the y of {name} has {counted(len(names), 'column')}, but y has {len(task.columns)}")
        task, own_labels = dataclasses.replace(task, columns=names), None
        if len(data) == 3:
            table, group = with_groups(table, data[2], **roles)
    group = group if group in table.names else None
    return read_dataset(schema, task, table, labels=own_labels, group=group, option=f"{name}_labels")


def size_for(prepared: Prepared, options: TrainingOptions) -> int:
    """The number of parameters of the network for some options."""
    return network_size(prepared.schema, task_to_learn(prepared, options), options)


def _check(prepared: Prepared, variants: Sequence[Variant]) -> None:
    """Refuse options that have no effect on this task before an hour has been spent on others.

    Raises:
        UserError: the message names the option.
    """
    truth = prepared.training.known
    for variant in variants:
        check_options(prepared.schema, prepared.task, variant.options)
        choose_output(prepared, variant.options)
        try:
            prepared.task.targets(truth[:1], variant.options.class_weight, truth)
        except ValueError as error:
            raise UserError(str(error)) from None
