"""Lines of a stream as a table."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.data.dataset import Dataset
from bilstm.data.frames import read_cells
from bilstm.data.memory import Cells, MemoryTable
from bilstm.data.sources import divide_texts
from bilstm.errors import UserError
from bilstm.model.datasets import read_dataset
from bilstm.model.lines import NAME, Line, number, order_columns, text
from bilstm.model.trained import TrainedModel
from bilstm.ragged import IndexArray, offsets_of

_PLAIN_NUMBERS = frozenset({int, float})


class _Lines(MemoryTable):
    """Lines as a table: a row is a line or, where each is a sequence, one of its steps."""

    def __init__(self, table: MemoryTable, lines: Sequence[Line]) -> None:
        super().__init__(table.columns, table.offsets, form=table.form, label=table.label, rows=table.rows)
        self.lists, self.reading, self._lines = table.lists, table.reading, lines

    def _sequence_codes(self, sequence: str) -> tuple[IndexArray, npt.NDArray[np.object_]]:
        keys = [line.key for line in self._lines]
        changes = [i > 0 and key != keys[i - 1] for i, key in enumerate(keys)]
        return np.cumsum(changes), np.array(keys, object)

    def place(self, row: int) -> str:
        if self.offsets is None:
            return self._lines[row].name
        line = int(np.searchsorted(self.offsets, row, "right")) - 1
        return f"{self._lines[line].name}, step {row - self.offsets[line] + 1}"


def located(error: UserError, lines: Sequence[Line], source: str = NAME) -> UserError:
    """An error that says in which lines it is."""
    if str(error).startswith(f"{source}, line"):
        return error
    first, last = lines[0], lines[-1]
    where = first.name if first is last else f"{source}, lines {first.number} to {last.number}"
    return UserError(f"{where}: {error}")


def read_lines(lines: Sequence[Line], model: TrainedModel, source: str = NAME) -> tuple[MemoryTable, Dataset]:
    """The sequences of lines, all of which are whole sequences, or all of which are steps; encoded, too.

    Args:
        lines: as `LineReader` checked them.
        source: what messages call that from which they come.

    Raises:
        UserError: a cell is not what the model expects; the message says where.
    """
    table = table_of(lines, model, source)
    return table, read_dataset(model.schema, model.task, table, with_truth=False)


def table_of(lines: Sequence[Line], model: TrainedModel, source: str = NAME) -> MemoryTable:
    """Lines as a table."""
    schema = model.schema
    if schema.text is not None:
        texts = {schema.text.column: read_cells([text(line.cells[schema.text.column]) for line in lines])}
        table = divide_texts(_Lines(MemoryTable(texts, label=source), lines), schema.text)
    else:
        roles: dict[str, Callable[[Any], Any]] = {column.name: text for column in schema.categorical}
        read_number = partial(number, reading=schema.reading)
        roles |= {column.name: read_number for column in schema.numeric}
        for name in order_columns(schema, lines[0].cells):
            if name in lines[0].cells:
                roles.setdefault(name, read_number)
        if lines[0].key is None:
            table = _own_steps(lines, roles, source)
        else:
            columns = {} if schema.sequence is None else {schema.sequence: read_cells([line.key for line in lines])}
            columns |= {name: _read_column([line.cells[name] for line in lines], read) for name, read in roles.items()}
            table = MemoryTable(columns, label=source)
    return _Lines(table.read_as(schema.reading), lines)


def _own_steps(lines: Sequence[Line], roles: Mapping[str, Callable[[Any], Any]], source: str) -> MemoryTable:
    """The steps of lines that are sequences; a single value stands for all of a line's steps."""
    lists = {name: [isinstance(line.cells[name], list) for line in lines] for name in roles}
    columns, lengths = {}, np.zeros(len(lines), np.int64)
    for name, listed in lists.items():
        lengths[listed] = [len(line.cells[name]) for line, is_list in zip(lines, listed, strict=True) if is_list]
    for name, read in roles.items():
        cells: list[Any] = []
        for line, is_list, length in zip(lines, lists[name], lengths.tolist(), strict=True):
            cells += line.cells[name] if is_list else [line.cells[name]] * length
        columns[name] = _read_column(cells, read)
    table = MemoryTable(columns, offsets_of(lengths), form="list", label=source)
    table.lists = [name for name, listed in lists.items() if any(listed)]
    return table


def _read_column(cells: list[Any], read: Callable[[Any], Any]) -> Cells:
    """Cells as JSON has them as a column; `read` makes text or a number of one."""
    if read is not text and _PLAIN_NUMBERS.issuperset(kinds := set(map(type, cells))):
        with contextlib.suppress(OverflowError):
            values = np.array(cells, np.float64)
            return Cells("number", values, integers=np.array(cells, np.int64) if kinds == {int} else None)
    return read_cells([read(cell) for cell in cells])


def check_new_names(lines: Sequence[Line], names: frozenset[str], model: TrainedModel) -> None:
    """Refuse lines that have values of these names already."""
    for line in lines:
        written: Iterable[str] = line.cells
        if model.task.per_sequence and line.key is not None:
            written = (str(model.schema.sequence),)
        for name in sorted(names.intersection(written)):
            raise UserError(f"{line.name}: there is a value {name!r} already, which would be lost")
