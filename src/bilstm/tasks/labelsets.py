"""Several labels at once for each time step or sequence, any number of which may hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from bilstm.data.dataset import Truth
from bilstm.data.fields import Fields
from bilstm.data.schema import read_numbers
from bilstm.data.table import Table
from bilstm.engine.plans import Targets
from bilstm.errors import UserError
from bilstm.ragged import IndexArray
from bilstm.tasks.base import Head, Task
from bilstm.tasks.outputs import Outputs

if TYPE_CHECKING:
    from bilstm.metrics.label_sets import LabelSetScores


@dataclasses.dataclass(frozen=True)
class LabelSetTask(Task):
    """Several labels, each of which holds or does not, learned by binary cross-entropy.

    Truth is (rows, n_labels) float32 of 0 and 1; rows of NaN are unlabelled. The labels' names are the columns'.
    """

    what: ClassVar[str] = "labels"

    @property
    def outputs(self) -> int:
        return len(self.columns)

    def read(self, table: Table, *, most_unseen: float = 0.0) -> tuple[Truth, dict[str, int]]:
        truth = np.empty((table.rows, len(self.columns)), np.float32)
        for column, name in enumerate(self.columns):
            numbers = read_numbers(table, name, ", a label,")
            wrong = np.flatnonzero(~np.isnan(numbers) & (numbers != 0) & (numbers != 1))
            if len(wrong):
                row = int(wrong[0])
                raise UserError(
                    f"{table.place(row)}: several labels are 1 where a {self.unit} has them and 0 where not, but "
                    f"{name!r} is {table.cell(name, row)}"
                )
            truth[:, column] = numbers
        missing = np.isnan(truth)
        partly = np.flatnonzero(missing.any(axis=1) & ~missing.all(axis=1))
        if len(partly):
            raise UserError(
                f"{table.place(int(partly[0]))} lacks some of the labels: a {self.unit} has all of them or none"
            )
        return truth, {}

    def labelled(self, truth: Truth) -> npt.NDArray[np.bool_]:
        return ~np.isnan(truth[:, 0])

    def head(self, class_weight: Any = None) -> Head:
        return Head(self.outputs, "binary_crossentropy")

    def targets(self, truth: Truth, class_weight: Any, counted: Truth) -> Targets:
        if class_weight is not None:
            raise ValueError("class_weight is for one label at a time, but here there are several labels")
        return Targets(values=truth)

    def predicted(self, outputs: Outputs) -> npt.NDArray[Any]:
        return np.asarray(outputs.values > 0.5).astype(np.int64)

    def scorer(
        self, labelled: npt.NDArray[np.bool_], groups: IndexArray | None, unseen: Sequence[str] = ()
    ) -> LabelSetScores:
        from bilstm.metrics.label_sets import LabelSetScores

        return LabelSetScores(labelled, len(self.columns), groups=groups, per_sequence=self.per_sequence)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "columns": list(self.columns)}

    @classmethod
    def from_json(cls, field: Fields, columns: tuple[str, ...], per_sequence: bool) -> Task:
        if len(columns) < 2:
            raise field.wrong("columns")
        return cls(columns, per_sequence)
