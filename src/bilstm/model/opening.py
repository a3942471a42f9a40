"""From data and what a person says of their columns to what a training reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from bilstm.arguments import check_choice
from bilstm.data.manyfiles import FILE
from bilstm.data.readingoptions import ReadingOptions
from bilstm.data.sources import open_labels, open_table
from bilstm.data.table import Table
from bilstm.data.texts import TextColumn
from bilstm.errors import UserError
from bilstm.model.columns import ColumnOptions
from bilstm.model.prepare import Prepared, prepare
from bilstm.training.options import TrainingOptions


def column_options(
    *,
    label: Any = None,
    text: str | None = None,
    tokens: str | None = None,
    task: str | None = None,
    reading: ReadingOptions | Mapping[str, Any] | None = None,
    **columns: Any,
) -> ColumnOptions:
    """What a person says about the columns; the arguments are those of `bilstm.train`.

    Raises:
        UserError: a value is impossible or has no effect.
    """
    from bilstm.data.tokens import RULES
    from bilstm.tasks import KINDS

    names = (label,) if isinstance(label, str) else tuple(label or ())
    check_choice("training", "task", task, (None, *KINDS))
    check_choice("training", "tokens", tokens, (None, *RULES))
    options = ReadingOptions.of(reading)
    if tokens is not None:
        options = dataclasses.replace(options, tokens=tokens)
    divided = None if text is None else TextColumn(text, options.tokens or "words")
    options.check_order(columns.get("order"))
    return ColumnOptions(label=names, text=divided, task=task, reading=options, **columns)


def prepare_data(
    data: Any,
    columns: ColumnOptions,
    options: TrainingOptions,
    *,
    labels: Any = None,
    valid: Any = None,
    valid_labels: Any = None,
) -> Prepared:
    """Read the data, and decide what is what.

    Args:
        data, labels, valid, valid_labels: as `bilstm.train` takes them.
        columns: what is known of their columns.
        options: of which the validation split, the windows, the characters and the seed count here.

    Raises:
        UserError: the data cannot be read, or do not fit together.
    """
    if valid_labels is not None and valid is None:
        raise UserError("valid_labels are the labels of a validation table: name that as well, with --valid (valid=…)")
    table, columns = open_data(data, columns)
    steps = open_data(valid, columns, table)[0] if valid is not None else None
    tables = [
        None if each is None else open_labels(each, "labels", columns.sequence, columns.reading)
        for each in (labels, valid_labels)
    ]
    return prepare(
        table,
        columns,
        labels=tables[0],
        valid=steps,
        valid_labels=tables[1],
        validation_split=options.validation_split,
        window=options.window,
        characters=options.characters,
        seed=options.seed,
    )


def open_data(data: Any, columns: ColumnOptions, like: Table | None = None) -> tuple[Table, ColumnOptions]:
    """Read the data; and the options with `a,b` as two columns, unless the table has one of this name.

    Args:
        like: the table that the model is trained on, where that is another one.
    """
    steps = [part for name in (*columns.label, *(columns.features or ())) for part in (name, *name.split(","))]
    table = open_table(
        data,
        label="data",
        steps=steps,
        conll_columns=like.conll_columns if like else None,
        text=columns.text,
        sequence=columns.sequence or (FILE if like is not None and like.own_sequence == FILE else None),
        reading=columns.reading,
    )
    _check_reading(table, columns)

    def names(typed: Any) -> tuple[str, ...]:
        parts = ([name] if name in table.names else name.split(",") for name in typed)
        return tuple(name.strip() for part in parts for name in part if name.strip())

    features = None if columns.features is None else names(columns.features)
    categorical, drop = names(columns.categorical), names(columns.drop)
    return table, dataclasses.replace(
        columns, label=names(columns.label), features=features, categorical=categorical, drop=drop
    )


def _check_reading(table: Table, columns: ColumnOptions) -> None:
    """Refuse reading options that have no effect on a table.

    Raises:
        UserError: there is one.
    """
    reading = columns.reading
    reading.check_used({reading.format if table.documents and reading.format else table.format}, table.label)
    if reading.tokens and columns.text is None and table.tagged is None and table.format != "conll":
        raise UserError("tokens say what the steps of a text are: name its column with --text (text='…')")
    for name in ("span_scheme", "misaligned") if table.documents is None else ():
        if name in reading.said:
            raise UserError(f"--{name.replace('_', '-')} ({name}) is for annotated texts, which {table.label} has not")
