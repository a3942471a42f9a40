"""Whatever holds sequences -> a table: files, data frames, dictionaries, arrays, lists and texts."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bilstm.data.arrays import read_sequences, read_values
from bilstm.data.conll import LABEL, TOKEN
from bilstm.data.documents import TOKEN_COLUMNS, TokenColumns
from bilstm.data.frames import is_frame, read_cells, read_frame, repeated
from bilstm.data.joined import JoinedTable
from bilstm.data.manyfiles import FILE, has_file_column
from bilstm.data.memory import Cells, MemoryTable
from bilstm.data.paths import are_paths, table_files
from bilstm.data.readingoptions import PLAIN, ReadingOptions
from bilstm.data.schema import Schema
from bilstm.data.table import Table
from bilstm.data.texts import TextColumn
from bilstm.errors import UserError, listed, shown
from bilstm.ragged import offsets_of

if TYPE_CHECKING:
    from bilstm.data.filetable import FileTable


def open_table(
    data: Any,
    *,
    label: str = "X",
    steps: Sequence[str] = (),
    conll_columns: int | None = None,
    text: TextColumn | None = None,
    sequence: str | None = None,
    by_file: bool = True,
    words: TokenColumns = TOKEN_COLUMNS,
    reading: ReadingOptions = PLAIN,
) -> Table:
    """Read what holds sequences.

    Args:
        data: a path, a folder or a pattern (see `table_files`), or a list of some; a data frame of pandas, Polars or
            PyArrow, or an object with Arrow's PyCapsule interface, or a list of such; a dictionary of columns; arrays
            and lists of sequences (see `read_sequences`); with `text`, a list of texts, or of dictionaries with a text
            each.
        label: what messages call it, if it is not a file.
        steps: columns that have a value for each time step. If one of them holds lists, each row is a sequence; without
            a `sequence` column it is one if any column holds lists.
        conll_columns: for CoNLL-style files, how many columns the model was trained on.
        text: the column whose texts are sequences.
        sequence: the column that identifies the sequences of a long table. Without one, each of several files is a
            sequence, named in a column `file`; with `file`, if there is no such column, one file or data frame is a
            sequence, too.
        by_file: whether files and data frames may be sequences.
        words: of files, how texts with spans of characters become a table of tokens.
        reading: how files are read; of data in memory, which cells are missing, and how times are written.

    Raises:
        UserError: the data cannot be read; the message says why.
    """
    if isinstance(data, Table):
        return data
    options: dict[str, Any] = {"steps": steps, "conll_columns": conll_columns, "text": text, "reading": reading}
    if isinstance(data, (str, os.PathLike)) or are_paths(data, texts=text is not None):
        return _open_files(data, sequence, by_file, options | {"words": words})
    if isinstance(data, (list, tuple)) and data and all(is_frame(each) for each in data):
        options["sequence"] = sequence
        frames = [open_table(each, label=f"{label}[{index}]", **options) for index, each in enumerate(data)]
        return JoinedTable(frames) if len(frames) > 1 else frames[0]
    if is_frame(data):
        table = read_frame(data, label, steps, long=sequence is not None)
        if by_file and sequence == FILE and not table.divided and not has_file_column(table.names):
            table = table.with_columns({FILE: Cells("text", np.full(table.rows, label, object))})
    elif isinstance(data, Mapping) and not hasattr(data, "tocsr"):  # a sparse matrix may be one
        table = _read_dictionary(data, sequence, label, text)
    elif text is not None and isinstance(data, (list, tuple)) and data and isinstance(data[0], str):
        table = MemoryTable({text.column: read_cells(list(data))}, label=label)
    elif text is not None and _are_texts(data, text):
        names = dict.fromkeys(name for row in data for name in row)
        cells = {name: read_cells([row.get(name) for row in data]) for name in names}
        table = MemoryTable(cells, form="list", label=label)
    else:
        table = read_sequences(data, label)
        if text is not None and table.names == ["words"]:  # divided already
            table = renamed(table, [text.column])
    if text is not None and not table.divided:
        table = divide_texts(table, text)
    return table.read_as(reading) if reading.said else table


def _open_files(data: Any, sequence: str | None, by_file: bool, options: dict[str, Any]) -> FileTable:
    from bilstm.data.reading import read_table

    files, several = table_files(data, any_name=options["reading"].format is not None)
    unnamed = sequence is None and several
    by_file = by_file and (unnamed or sequence == FILE)
    table = read_table(files if several else files[0], long=sequence is not None, by_file=by_file, **options)
    if by_file and unnamed and not table.divided and options["text"] is None:
        name = next(name for name in table.names if name.lower() == FILE)
        raise UserError(
            f"{table.label} has a column {name!r}, which would have the name of each file: name the column that "
            f"identifies the sequences with --sequence (sequence='…'), such as --sequence {name}, or rename it"
        )
    return table


def open_labels(data: Any, label: str, sequence: str | None, reading: ReadingOptions) -> Table:
    """Read a table of labels: see `open_table`. The options that say how a file is laid out are the steps' alone."""
    layout = ("format", "delimiter", "quote", "skip_rows", "header", "columns")
    own = dataclasses.replace(reading, **dict.fromkeys(layout))
    return open_table(data, label=label, sequence=sequence, by_file=False, reading=own)


def _are_texts(data: Any, text: TextColumn) -> bool:
    """Whether a list holds dictionaries with a text each, rather than with lists of its words or characters."""
    if not isinstance(data, (list, tuple)) or not data or not all(isinstance(row, Mapping) for row in data):
        return False
    return not any(isinstance(row.get(text.column), (list, tuple, np.ndarray)) for row in data)


def open_for(schema: Schema, data: Any, *, label: str = "X", steps: Sequence[str] = ()) -> Table:
    """Read sequences for a model: see `open_table`. The columns of arrays are the model's features, in their order.

    Args:
        steps: columns besides the features that may hold lists, such as the label's.

    Raises:
        UserError: the data cannot be read, or do not have the features.
    """
    table = open_table(
        data,
        label=label,
        steps=[*schema.features, *steps],
        conll_columns=schema.conll_columns,
        text=schema.text,
        sequence=schema.sequence,
        words=token_columns(schema, steps),
        reading=schema.reading,
    )
    if not isinstance(table, MemoryTable) or table.form == "frame":
        if not schema.named and not set(schema.features) <= set(table.names):
            raise UserError(
                f"the model was fitted on arrays, whose {len(schema.features)} features have no names: name the "
                f"columns of {table.label} that are these features, in order, with --features (features=[…])"
            )
        return table
    positional = all(name.isdigit() for name in table.names) or table.names == ["words"]
    if positional and table.names != schema.features:
        if len(table.names) != len(schema.features):
            raise UserError(
                f"{label} has {len(table.names)} features, but the model is expecting {len(schema.features)} features "
                f"as input{': ' + listed(schema.features) if schema.named else ''}"
            )
        words = table.names == ["words"]
        if words and schema.numeric:
            raise UserError(f"the steps of {label} are strings, but those of the training data were numbers")
        if not words and schema.features == ["words"]:
            raise UserError(f"the steps of {label} are numbers, but those of the training data were strings")
        return renamed(table, schema.features).read_as(table.reading)
    return table


def token_columns(schema: Schema, targets: Sequence[str]) -> TokenColumns:
    """How texts become the table of tokens that a model reads."""
    token = schema.features[0] if len(schema.features) == 1 else TOKEN
    return TokenColumns(token, targets[0] if len(targets) == 1 else LABEL, schema.token_rule, texts=True)


def renamed(table: MemoryTable, names: Sequence[str]) -> MemoryTable:
    """The table with other names for its columns, in their order."""
    columns = dict(zip(names, table.columns.values(), strict=True))
    return MemoryTable(columns, table.offsets, form=table.form, label=table.label)


def divide_texts(table: MemoryTable, text: TextColumn) -> MemoryTable:
    """A table with a text in each row, as sequences of its words or characters.

    Raises:
        UserError: there is no such column, or a text has no words.
    """
    table.require(text.column, "the text")
    tokens = [text.split(cell) for cell in table.texts(text.column)]
    empty = next((row for row, words in enumerate(tokens) if not words), None)
    if empty is not None:
        raise text.is_empty(table.place(empty))
    lengths = np.array([len(words) for words in tokens])
    columns = {name: repeated(cells, lengths) for name, cells in table.columns.items() if name != text.column}
    columns[text.column] = Cells("text", np.array([word for words in tokens for word in words], object))
    form = "list" if table.form == "list" or len(table.columns) == 1 else table.form
    divided = MemoryTable(columns, offsets_of(lengths), form=form, label=table.label)
    divided.lists = [text.column]
    return divided


def _read_dictionary(data: Mapping[str, Any], sequence: str | None, label: str, text: TextColumn | None) -> MemoryTable:
    """Columns of a long table, of texts, or of one sequence."""
    if sequence in data or text is not None:
        for name, values in data.items():
            if isinstance(values, (str, bytes)) or not hasattr(values, "__len__"):
                raise UserError(
                    f"column {name!r} of {label} is {shown(values)}: a column is a list or an array of cells"
                )
            if isinstance(values, np.ndarray) and values.ndim != 1:
                raise UserError(f"column {name!r} of {label} has shape {values.shape}: a column has one dimension")
        columns = {
            name: read_values(values) if isinstance(values, np.ndarray) else read_cells(list(values))
            for name, values in data.items()
        }
        lengths = {name: len(cells.values) for name, cells in columns.items()}
        if len(set(lengths.values())) > 1:
            raise UserError(f"the columns of {label} have different lengths: {lengths}")
        return MemoryTable(columns, label=label)
    return read_sequences([data], label)
