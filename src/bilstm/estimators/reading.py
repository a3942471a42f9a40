"""What is passed to an estimator, X, y and groups, as one table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.utils.validation import column_or_1d

from bilstm.data.memory import MemoryTable
from bilstm.data.readingoptions import ReadingOptions
from bilstm.data.sources import open_table
from bilstm.data.table import Table
from bilstm.data.targets import column_names, with_groups, with_targets
from bilstm.errors import counted
from bilstm.model.columns import ColumnOptions


@dataclasses.dataclass(frozen=True)
class Reader:
    """Joins X, y and groups.

    Attributes:
        owner: the estimator's name, for messages.
        unit: what has a label, "step" or "sequence".
        what: what is predicted, "label" or "quantity".
        sequence, order, missing_label, reading, soft_targets, label_separator: see `SequenceEstimator`.
    """

    owner: str
    unit: str
    what: str
    sequence: str | None
    order: str | None
    missing_label: Any
    reading: ReadingOptions | Mapping[str, Any] | None
    soft_targets: Sequence[Any] | None = None
    label_separator: str | None = None

    def open(self, X: Any, y: Any, groups: Any, classes: Any = None) -> tuple[Table, ColumnOptions]:
        """Sequences and what belongs to them as one table, and which column is what.

        Raises:
            ValueError: X, y and groups do not fit together, or a parameter is impossible or has no effect on X.
        """
        if y is None:
            raise ValueError(f"{self.owner} requires y to be passed, but the target y is None")
        names = column_names(y)
        reading = ReadingOptions.of(self.reading)
        reading.check_order(self.order)
        if isinstance(X, Table):
            table = X
        else:
            table = open_table(X, sequence=self.sequence, steps=names, reading=reading)
            reading.check_used({table.format}, table.label)
        for name in ("sequence", "order") if table.divided else ():
            if getattr(self, name) is not None and getattr(self, name) not in table.names:
                raise ValueError(f"{name}={getattr(self, name)!r} names a column of a table, but X has no such column")
        table, labels = self.with_targets(table, y)
        group = None
        if groups is not None:
            table, group = with_groups(table, groups, sequence=self.sequence, order=self.order)
        soft = None if self.soft_targets is None else self._soft_columns(self.soft_targets, labels)
        what = "labels" if len(labels) > 1 and self.what == "label" and not soft else self.what
        if classes is not None and what == "labels" and len(classes) != len(labels):
            raise ValueError(f"y has {len(labels)} labels a {self.unit}, which are not the classes {list(classes)}")
        return table, ColumnOptions(
            sequence=self.sequence,
            label=() if soft else labels,
            soft_targets=soft,
            label_separator=self.label_separator,
            order=self.order,
            group=group,
            reading=reading,
            task=f"{self.unit}-{what}",
            classes=None if classes is None or what == "labels" else list(classes),
        )

    def _soft_columns(self, labels: Sequence[Any], columns: tuple[str, ...]) -> dict[str, str]:
        """Label -> the column of its probability."""
        names = [str(label).lower() if isinstance(label, (bool, np.bool_)) else str(label) for label in labels]
        if len(set(names)) < len(names) or len(names) != len(columns):
            raise ValueError(
                f"soft_targets names {counted(len(set(names)), 'different label')}, but y has "
                f"{counted(len(columns), 'column')}: it needs the probability of each label"
            )
        return dict(zip(names, columns, strict=True))

    def with_targets(self, table: Table, y: Any) -> tuple[Table, tuple[str, ...]]:
        """The table with y as columns, unless y names some of its columns."""
        if (self.unit, self.what) == ("sequence", "label") and isinstance(y, np.ndarray) and y.shape[1:] == (1,):
            y = column_or_1d(y, warn=True)
        table, names = with_targets(
            table,
            y,
            per_sequence=self.unit == "sequence",
            sequence=self.sequence,
            order=self.order,
            missing=self.missing_label,
        )
        columns = [table.columns[name] for name in names] if isinstance(table, MemoryTable) else []
        for cells in columns if self.what == "label" and self.soft_targets is None else ():
            if cells.numeric and (cells.values % 1 > 0).any():
                fraction = cells.values[cells.values % 1 > 0][0]
                raise ValueError(
                    f"Unknown label type: continuous. Labels are classes, but y has {fraction}; use SequenceRegressor "
                    f"for quantities"
                )
        return table, names
