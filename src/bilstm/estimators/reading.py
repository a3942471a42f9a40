"""What is passed to an estimator, X, y and groups, as one table."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from sklearn.utils.validation import column_or_1d

from bilstm.data.arrays import INCONSISTENT, as_array, read_matrix, read_rows, read_values
from bilstm.data.frames import read_columns
from bilstm.data.memory import Cells, MemoryTable
from bilstm.data.sources import open_table
from bilstm.data.table import Table
from bilstm.model.prepare import ColumnOptions, check_sequence

_GROUPS = "groups"  # the column of groups that were passed beside X


@dataclasses.dataclass(frozen=True)
class Reader:
    """Joins X, y and groups.

    Attributes:
        owner: the estimator's name, for messages.
        unit: what has a label, "step" or "sequence".
        what: what is predicted, "label" or "quantity".
        sequence, order, missing_label: see `SequenceEstimator`.
    """

    owner: str
    unit: str
    what: str
    sequence: str | None
    order: str | None
    missing_label: Any

    def open(self, X: Any, y: Any, groups: Any, classes: Any = None) -> tuple[Table, ColumnOptions]:
        """Sequences and what belongs to them as one table, and which column is what."""
        if y is None:
            raise ValueError(f"{self.owner} requires y to be passed, but the target y is None")
        names = _column_names(y)
        table = X if isinstance(X, Table) else open_table(X, sequence=self.sequence, steps=names)
        for name in ("sequence", "order") if table.divided else ():
            if getattr(self, name) is not None and getattr(self, name) not in table.names:
                raise ValueError(f"{name}={getattr(self, name)!r} names a column of a table, but X has no such column")
        table, labels = self.with_targets(table, y)
        group = None
        if groups is not None:
            table, group = self._with_groups(table, groups)
        what = "labels" if len(labels) > 1 and self.what == "label" else self.what
        if classes is not None and what == "labels" and len(classes) != len(labels):
            raise ValueError(f"y has {len(labels)} labels a {self.unit}, which are not the classes {list(classes)}")
        return table, ColumnOptions(
            sequence=self.sequence,
            label=labels,
            order=self.order,
            group=group,
            task=f"{self.unit}-{what}",
            classes=None if classes is None or what == "labels" else list(classes),
        )

    def with_targets(self, table: Table, y: Any) -> tuple[Table, tuple[str, ...]]:
        """The table with y as columns, unless y names some of its columns."""
        names = _column_names(y)
        if names and (isinstance(y, str) or set(names) <= set(table.names)):
            for name in names:
                table.require(name, "y")
            if isinstance(table, MemoryTable):
                columns = {name: table.columns[name].without(self.missing_label) for name in names}
            elif self.missing_label is not None:
                raise ValueError("missing_label has no effect on a file: leave the cells of missing labels empty")
            else:
                return table, names
        elif isinstance(table, MemoryTable):
            columns = self._target_columns(table, y)
        else:
            raise ValueError(f"X is the file {table.label}: pass the name of the label's column as y")
        for cells in columns.values() if self.what == "label" else ():
            if cells.numeric and (cells.values % 1 > 0).any():
                fraction = cells.values[cells.values % 1 > 0][0]
                raise ValueError(
                    f"Unknown label type: continuous. Labels are classes, but y has {fraction}; use SequenceRegressor "
                    f"for quantities"
                )
        return table.with_columns(columns), tuple(columns)

    def _target_columns(self, table: MemoryTable, y: Any) -> dict[str, Cells]:
        if (self.unit, self.what) == ("sequence", "label") and isinstance(y, np.ndarray) and y.shape[1:] == (1,):
            y = column_or_1d(y, warn=True)
        if table.offsets is not None:
            return read_rows(y, table.offsets, self.unit == "sequence", missing=self.missing_label)
        named = read_columns(y)
        if named is None:
            columns = read_matrix(as_array(y), "y", "label", self.missing_label)
        else:
            columns = {name or "label": cells.without(self.missing_label) for name, cells in named}
        for name, _ in named or ():
            if name in table.names:
                raise ValueError(
                    f"y is called {name!r}, as is a column of X, which would be a feature: drop that from X, or pass "
                    f"y={name!r}"
                )
        return {name: self._by_row(table, cells, "y") for name, cells in columns.items()}

    def _by_row(self, table: MemoryTable, cells: Cells, name: str) -> Cells:
        """What was passed beside a long table: an entry for each row, or for each sequence in the order they begin."""
        count = len(cells.values)
        if count == table.rows:
            return cells
        check_sequence(table, self.sequence)
        sequences = table.sequences(self.sequence, self.order)
        if count == len(sequences) and (self.unit == "sequence" or name == _GROUPS):
            rows = np.empty(table.rows, np.int64)
            rows[sequences.rows] = np.repeat(np.arange(count), np.diff(sequences.offsets))
            return cells.take(rows)
        per = f" and {len(sequences)} sequences" if self.unit == "sequence" or name == _GROUPS else ""
        raise ValueError(f"{INCONSISTENT}: X has {table.rows} rows{per}, but {name} has {count} entries")

    def _with_groups(self, table: Table, groups: Any) -> tuple[Table, str]:
        if isinstance(groups, str):
            return table, table.require(groups, "groups")
        if not isinstance(table, MemoryTable):
            raise ValueError(f"X is the file {table.label}: pass the name of the groups' column")
        if table.offsets is not None:
            shape = as_array(groups).shape
            if shape != (len(table.offsets) - 1,):
                raise ValueError(f"groups has shape {shape}, but X has {len(table.offsets) - 1} sequences")
            return table.with_columns(read_rows(groups, table.offsets, True, _GROUPS, _GROUPS)), _GROUPS
        named = read_columns(groups)
        cells = read_values(as_array(groups)) if named is None else named[0][1]
        return table.with_columns({_GROUPS: self._by_row(table, cells, _GROUPS)}), _GROUPS


def _column_names(y: Any) -> tuple[str, ...]:
    """The columns that y names, if it does: a name, or several."""
    if isinstance(y, str):
        return (y,)
    several = isinstance(y, (list, tuple)) and len(y) > 1 and all(isinstance(name, str) for name in y)
    return tuple(y) if several else ()
