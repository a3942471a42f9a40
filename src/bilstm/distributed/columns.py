"""The columns of the tables that go into predictions in batches, and of those that come out."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.types as types

from bilstm.data.writing import Addition, DictionaryColumn
from bilstm.errors import UserError, listed
from bilstm.model.predictions import EVENTS, SPANS, PredictionOptions, empty_columns
from bilstm.model.trained import TrainedModel

BATCH = "the batch"  # what messages call a table


def has_lists(model: TrainedModel, columns: pa.Schema) -> bool:
    """Whether each row is a sequence, with lists of steps or a text."""
    schema = model.schema
    steps = {*schema.features, *model.task.columns}
    lists = [field.name for field in columns if is_list(field.type)]
    return schema.text is not None or any(schema.sequence is None or name in steps for name in lists)


def is_list(kind: pa.DataType) -> bool:
    """Whether cells are lists, of any length or of a fixed one."""
    return any(
        check(kind) for check in (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view)
    )


def sequence_column(model: TrainedModel, columns: pa.Schema) -> str:
    """The column that tells which sequence each row belongs to.

    Raises:
        UserError: there is none; without it, a batch may have a part of a sequence.
    """
    sequence = model.schema.sequence
    if sequence is None or sequence not in columns.names:
        role = "reads a whole table as one sequence" if sequence is None else f"knows sequences by {sequence!r}"
        raise UserError(
            f"{BATCH} has no column that identifies sequences, as it must since it may hold only a part of the rows: "
            f"the model {role}; name the column with sequence='…', or pass sequences as lists, one per row. Its "
            f"columns: {listed(columns.names)}"
        )
    return sequence


def predicted_schema(model: TrainedModel, options: PredictionOptions, columns: pa.Schema) -> pa.Schema:
    """The columns of predictions for a table with these columns.

    Raises:
        UserError: there cannot be predictions for it in batches.
    """
    lists = has_lists(model, columns)
    if options.runs:
        return _schema_of_runs(model, options, columns, lists)
    added = _added(model, options)
    if not lists:
        sequence = sequence_column(model, columns)
        if model.task.per_sequence:
            return pa.schema([columns.field(sequence), *added.items()])
    elif not model.task.per_sequence:
        added = {name: pa.list_(kind) for name, kind in added.items()}
    return pa.schema([*columns, *added.items()])


def _added(model: TrainedModel, options: PredictionOptions) -> dict[str, pa.DataType]:
    """The type of each column of predictions, by its name."""
    return {name: _type_of(addition) for name, addition in empty_columns(model.task, options).items()}


def _type_of(addition: Addition) -> pa.DataType:
    return pa.string() if isinstance(addition, DictionaryColumn) else pa.from_numpy_dtype(addition.dtype)


def _schema_of_runs(model: TrainedModel, options: PredictionOptions, columns: pa.Schema, lists: bool) -> pa.Schema:
    """The columns of a table of runs; where there is an order, its cells are their ends."""
    if lists and model.schema.sequence not in columns.names:
        raise UserError(
            f"{BATCH} has no column that identifies sequences, by which events and spans are named: name it with "
            f"sequence='…'. Its columns: {listed(columns.names)}"
        )
    end: Any = pa.int64()
    order = model.schema.order
    if order is not None:
        end = columns.field(order).type if order in columns.names else pa.string()
        end = end.value_type if lists and is_list(end) else end
    header = SPANS if options.spans else EVENTS
    kinds = (columns.field(sequence_column(model, columns)).type, end, end, pa.string(), pa.float64())
    return pa.schema(list(zip(header, kinds, strict=True)))
