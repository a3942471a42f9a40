"""Quantities for each time step or sequence: regression."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from bilstm.data.dataset import Truth
from bilstm.data.features import NumericColumn
from bilstm.data.fields import Fields
from bilstm.data.schema import read_numbers
from bilstm.data.table import Table
from bilstm.engine.plans import Targets
from bilstm.errors import UserError
from bilstm.ragged import IndexArray
from bilstm.tasks.base import Head, Task
from bilstm.tasks.outputs import Outputs

if TYPE_CHECKING:
    from bilstm.metrics.quantities import QuantityScores


@dataclasses.dataclass(frozen=True)
class QuantityTask(Task):
    """Quantities, learned by mean squared error after scaling to mean 0 and standard deviation 1.

    Truth is (rows, quantities) float64 in the quantities' own units; rows of NaN are unlabelled.

    Attributes:
        mean: the means of the training part.
        scale: their standard deviations there, 1 for a constant quantity.
    """

    what: ClassVar[str] = "quantity"
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    @property
    def outputs(self) -> int:
        return len(self.columns)

    def read(self, table: Table, *, most_unseen: float = 0.0) -> tuple[Truth, dict[str, int]]:
        truth = np.stack([read_numbers(table, name, ", a quantity,") for name in self.columns], axis=1)
        missing = np.isnan(truth)
        partly = np.flatnonzero(missing.any(axis=1) & ~missing.all(axis=1))
        if len(partly):
            raise UserError(
                f"{table.place(int(partly[0]))} lacks some of the quantities: a {self.unit} has all of them or none"
            )
        return truth, {}

    def labelled(self, truth: Truth) -> npt.NDArray[np.bool_]:
        return ~np.isnan(truth[:, 0])

    def fitted(self, truth: Truth) -> Self:
        if not self.labelled(truth).any():
            raise UserError(f"no {self.unit} of the training part has a value, so there is nothing to learn")
        columns = [NumericColumn.fit(name, column) for name, column in zip(self.columns, truth.T, strict=True)]
        mean, scale = tuple(column.mean for column in columns), tuple(column.scale for column in columns)
        return dataclasses.replace(self, mean=mean, scale=scale)

    def head(self, class_weight: Any = None) -> Head:
        return Head(self.outputs, "mean_squared_error")

    def targets(self, truth: Truth, class_weight: Any, counted: Truth) -> Targets:
        if class_weight is not None:
            raise ValueError("class_weight is for labels, but quantities are predicted")
        return Targets(values=((truth - self.mean) / self.scale).astype(np.float32))

    def predicted(self, outputs: Outputs) -> npt.NDArray[np.float64]:
        return np.asarray(outputs.values * np.array(self.scale) + np.array(self.mean), np.float64)

    def scorer(
        self, labelled: npt.NDArray[np.bool_], groups: IndexArray | None, unseen: Sequence[str] = ()
    ) -> QuantityScores:
        from bilstm.metrics.quantities import QuantityScores

        means = np.array(self.mean)
        return QuantityScores(labelled, self.outputs, means, groups=groups, per_sequence=self.per_sequence)

    def add_scores(
        self, scorer: Any, truth: Truth, outputs: Outputs, offsets: IndexArray, unseen: Sequence[str] = ()
    ) -> None:
        scorer.add(truth, self.predicted(outputs), offsets)

    def to_json(self) -> dict[str, Any]:
        columns = {"kind": self.kind, "columns": list(self.columns)}
        return columns | {"mean": list(self.mean), "scale": list(self.scale)}

    @classmethod
    def from_json(cls, field: Fields, columns: tuple[str, ...], per_sequence: bool) -> Task:
        mean, scale = field.numbers("mean"), field.numbers("scale")
        if not len(mean) == len(scale) == len(columns) or min(scale) <= 0:
            raise field.wrong("scale")
        return cls(columns, per_sequence, mean, scale)
