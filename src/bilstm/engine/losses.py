"""The losses: one table for `compile`, tasks, documentation and tests. Adding one: docs/engine.md."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

NO_LOSS = -1  # for the engine: predictions that are not scored


class TargetKind(Enum):
    """What a loss takes as y."""

    LABELS = "labels"  # a whole number per row, from 0; -1 or NaN: unlabelled
    PROBABILITIES = "probabilities"  # numbers from 0 to 1, as many as there are outputs; -1 or NaN: unlabelled
    NUMBERS = "numbers"  # any numbers, as many as there are outputs; NaN: unlabelled


class Loss(NamedTuple):
    """A loss.

    Attributes:
        name: Keras's.
        number: the engine's, of `bilstm_loss` in native/api.h. With labels categorical cross-entropy is sparse.
        targets: what it takes as y.
        activation: of the last layer that it goes with.
        aliases: Keras's other names for it that are supported.
    """

    name: str
    number: int
    targets: TargetKind
    activation: str
    aliases: tuple[str, ...] = ()


TABLE = (
    Loss("binary_crossentropy", 0, TargetKind.PROBABILITIES, "sigmoid"),
    Loss("categorical_crossentropy", 1, TargetKind.PROBABILITIES, "softmax"),
    Loss("sparse_categorical_crossentropy", 1, TargetKind.LABELS, "softmax"),
    Loss("mean_squared_error", 2, TargetKind.NUMBERS, "linear", ("mse",)),
    Loss("mean_absolute_error", 3, TargetKind.NUMBERS, "linear", ("mae",)),
    Loss("huber", 4, TargetKind.NUMBERS, "linear"),
)
# Of models that end with a CRF layer, and of no others: a loss of sequences, where those of the table are of rows.
CRF_LIKELIHOOD = Loss("crf_likelihood", 5, TargetKind.LABELS, "linear", ("crf",))
# Every name and alias -> its loss.
LOSSES = {name: loss for loss in (*TABLE, CRF_LIKELIHOOD) for name in (loss.name, *loss.aliases)}
