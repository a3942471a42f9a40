"""What would be read of a table, as plain data and in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np

from bilstm.data.filetable import FileTable
from bilstm.data.readingoptions import PLAIN, ReadingOptions
from bilstm.data.schema import number_signs
from bilstm.data.sources import open_table
from bilstm.data.table import Table
from bilstm.errors import counted, listed, shown
from bilstm.files import AnyPath
from bilstm.ragged import Extent
from bilstm.wording import extent_text, guesses, size_of

_ROWS, _COLUMNS = 5, 60  # are shown
_MOST_VALUES = 1000  # different texts are counted up to here
_WIDTH = 20  # of a cell
_KINDS = {"nested": "lists or objects", "time": "dates or times", "boolean": "true or false"}


def inspect_table(
    path: AnyPath | Sequence[AnyPath],
    *,
    sequence: str | None = None,
    order: str | None = None,
    reading: ReadingOptions = PLAIN,
) -> dict[str, Any]:
    """Describe what would be read of a table.

    Args:
        path: the file, a folder or a pattern, or several of them.
        sequence, order: the columns that identify sequences and sort their rows, if known.
        reading: how it is read.

    Returns:
        Plain data: "file" (what messages call it), "files", "format", "rows", "columns" (of each its "name", "kind" in
        words, how many cells are "missing", and whether it "numbers_rows"), the "size" in words, "guessed" reading
        options, and as they are "read_as" in words, "sequences" (None where no column identifies them, otherwise how
        many "sequences" there are, "shortest", "longest" and "steps"), and the "first_rows".

    Raises:
        UserError: the file cannot be read, or has no such columns, or an option has no effect; the message says where.
    """
    reading.check_order(order)
    table = open_table(path, sequence=sequence, reading=reading)
    assert isinstance(table, FileTable)
    extent = None
    if table.divided or sequence is not None:
        table.check_sequence(sequence)
        sequences = table.sequences(sequence, order)
        extent = dataclasses.asdict(Extent().add(np.diff(sequences.offsets)))
    rows = range(min(table.rows, _ROWS))
    return {
        "file": table.label,
        "files": [str(each) for each in table.places.paths],
        "format": table.format,
        "size": size_of(table),
        "rows": table.rows,
        "columns": [_column(table, name) for name in table.names],
        "guessed": {name: reading.to_json() for name, reading in table.guesses()}.get(table.label, {}),
        "read_as": guesses(table),
        "sequences": extent,
        "first_rows": [{name: table.cell(name, row) for name in table.names} for row in rows],
    }


def preview(facts: dict[str, Any]) -> list[str]:
    """What `inspect_table` found, in lines to print."""
    columns = facts["columns"]
    lines = [f"{facts['file']}: {facts['size']}", *facts["read_as"], f"{counted(len(columns), 'column')}:"]
    names = [shown(column["name"])[1:-1] for column in columns[:_COLUMNS]]
    width = max(map(len, names))
    for name, column in zip(names, columns, strict=False):
        missing = f"; {column['missing']:,} missing" if column["missing"] else ""
        counter = "; numbers the rows" if column["numbers_rows"] else ""
        lines.append(f"  {name:{width}}  {column['kind']}{missing}{counter}")
    if len(columns) > _COLUMNS:
        lines.append(f"  … and {len(columns) - _COLUMNS} more")
    if extent := facts["sequences"]:
        lines.append(extent_text(Extent(**extent)))
    else:
        lines.append("sequences: not known; --sequence names the column that identifies them")
    rows = [[_cell(row[column["name"]]) for column in columns[:_COLUMNS]] for row in facts["first_rows"]]
    widths = [max(map(len, cells)) for cells in zip(names, *rows, strict=True)]
    lines.append(f"first {counted(len(facts['first_rows']), 'row')}:")
    lines += ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in (names, *rows)]
    return lines


def _cell(text: str) -> str:
    return shown(text, _WIDTH + 2)[1:-1]


def _column(table: FileTable, name: str) -> dict[str, Any]:
    kind = table.kinds[name]
    if kind == "nested":
        return {"name": name, "kind": _KINDS[kind], "missing": 0, "numbers_rows": False}
    profile = table.profile(name)
    missing = table.rows - profile.present
    if kind == "time" or (profile.present and profile.times == profile.present):
        words = _KINDS["time"]
    elif not profile.present:
        words = "empty"
    elif profile.numbers == profile.present:
        words = _KINDS["boolean"] if kind == "boolean" else "number"
    elif kind != "text" and profile.other is not None and 2 * profile.numbers >= profile.present:
        where = table.place(profile.other).removeprefix(f"{table.label}, ")
        words = f"number, but not {shown(table.cell(name, profile.other))} in {where}"
    else:
        words, missing = _text(table, name)
        cell = "" if profile.other is None or kind == "text" else table.cell(name, profile.other)
        signs = number_signs(cell)
        if signs and 2 * profile.decimal_commas >= profile.present:
            words = f"text; {shown(cell)} {signs[0]}: {signs[1]}"
    return {"name": name, "kind": words, "missing": missing, "numbers_rows": table.counts_rows(name)}


def _text(table: Table, name: str) -> tuple[str, int]:
    """A column of text in words, and how many of its cells are empty."""
    counts = table.counts(name, np.ones(table.rows, np.bool_))
    values_counted = dict(islice(counts, _MOST_VALUES))
    more = next(counts, None) is not None
    missing = values_counted.pop("", 0)
    values = f"more than {_MOST_VALUES:,} different values" if more else counted(len(values_counted), "different value")
    few = f": {listed(sorted(values_counted))}" if len(values_counted) <= 5 and not more else ""
    return f"text, {values}{few}", missing
