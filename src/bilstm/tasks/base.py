"""What all tasks have in common."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from bilstm.data.dataset import Truth
from bilstm.data.fields import Fields
from bilstm.data.table import Table
from bilstm.engine.losses import LOSSES
from bilstm.engine.plans import Targets
from bilstm.ragged import IndexArray
from bilstm.tasks.outputs import Outputs


@dataclasses.dataclass(frozen=True)
class Head:
    """The last layer of a network for a task, and how the network is trained.

    Attributes:
        units: outputs of the last layer.
        loss: what training minimises, a name in `bilstm.engine.losses.LOSSES`.
        metrics: further scores on the validation set. Of time steps, accuracy decides which epoch is the best.
    """

    units: int
    loss: str
    metrics: tuple[str, ...] = ()

    @property
    def activation(self) -> str:
        """Of the last layer: the one that goes with the loss."""
        return LOSSES[self.loss].activation


@dataclasses.dataclass(frozen=True)
class Task(ABC):
    """What a model predicts.

    The true answers, `truth`, are an array with a row for each time step or, `per_sequence`, for each sequence.

    Attributes:
        columns: the target columns.
        per_sequence: whether there is one answer for each sequence, rather than for each time step.
    """

    what: ClassVar[str]  # "label", "labels" or "quantity"
    columns: tuple[str, ...]
    per_sequence: bool

    @property
    def kind(self) -> str:
        """Such as "step-label" or "sequence-quantity"."""
        return f"{self.unit}-{self.what}"

    @property
    def unit(self) -> str:
        """The unit that has an answer, "step" or "sequence"."""
        return "sequence" if self.per_sequence else "step"

    @property
    @abstractmethod
    def outputs(self) -> int:
        """The number of columns of the `Outputs` of a model for this task."""

    @abstractmethod
    def read(self, table: Table, *, most_unseen: float = 0.0) -> tuple[Truth, dict[str, int]]:
        """The true answers of a table's rows, and how often it has labels that the model has never seen.

        Args:
            most_unseen: the share of the labels that may be unknown to the model.

        Raises:
            UserError: a column is missing, or a cell is wrong; the message says where.
        """

    @abstractmethod
    def labelled(self, truth: Truth) -> npt.NDArray[np.bool_]:
        """(rows,) where there is an answer."""

    def labelled_sequences(self, truth: Truth, offsets: IndexArray) -> npt.NDArray[np.bool_]:
        """(n_sequences,) whether a sequence has an answer; `offsets` are those of its steps."""
        labelled = self.labelled(truth)
        return labelled if self.per_sequence else np.logical_or.reduceat(labelled, offsets[:-1])

    def fitted(self, truth: Truth) -> Self:
        """The task for training on these answers."""
        return self

    @abstractmethod
    def head(self, class_weight: Any = None) -> Head:
        """The last layer, and how the network is trained."""

    def with_output(self, output: str, scheme: str | None = None, train_scheme: str | None = None) -> Self:
        """The task with another output, see `TrainingOptions`; only labels of time steps have a choice."""
        return self

    @property
    def plain(self) -> bool:
        """Whether the outputs of a model are its network's as they are, so that their temperature can be undone."""
        return True

    def restored(self, outputs: Outputs, offsets: IndexArray) -> Outputs:
        """A network's outputs for the steps of sequences as outputs for the task's labels."""
        return outputs

    @abstractmethod
    def targets(self, truth: Truth, class_weight: Any, counted: Truth) -> Targets:
        """What the network is trained to give.

        Args:
            class_weight: see `TrainingOptions`.
            counted: the true answers of the training part, by which weights are balanced.

        Raises:
            ValueError: the weights are impossible.
        """

    @abstractmethod
    def predicted(self, outputs: Outputs) -> npt.NDArray[Any]:
        """What the outputs of a network mean: (rows,) labels, (rows, n_labels) 0 or 1, or quantities."""

    @abstractmethod
    def scorer(self, labelled: npt.NDArray[np.bool_], groups: IndexArray | None, unseen: Sequence[str] = ()) -> Any:
        """What compares outputs with the truth: one of `ClassScores`, `LabelSetScores` and `QuantityScores`."""

    def add_scores(
        self, scorer: Any, truth: Truth, outputs: Outputs, offsets: IndexArray, unseen: Sequence[str] = ()
    ) -> None:
        """Give a `scorer` of this task the outputs for the next sequences, whose rows lie between offsets."""
        scorer.add(truth, outputs.values, offsets)

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The task as JSON-serialisable data."""

    @classmethod
    @abstractmethod
    def from_json(cls, field: Fields, columns: tuple[str, ...], per_sequence: bool) -> Task:
        """Rebuild the task from an untrusted file."""
