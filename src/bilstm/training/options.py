"""What a person may say about a training: the network's parts and size, and how it is trained."""

from __future__ import annotations

import dataclasses

from bilstm.arguments import check_choice, check_count, check_fraction
from bilstm.engine.plans import MERGES
from bilstm.training.classweights import ClassWeight
from bilstm.training.loop import LoopOptions, check_positive

DIRECTIONS = ("both", "forward", "backward", "none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingOptions(LoopOptions):
    """How to train; the defaults are the product's.

    Attributes:
        units: of each LSTM, in each direction.
        layers: number of recurrent layers; None chooses: 3 where all features are text, else 2.
        merge_mode: how the directions' outputs are merged: "concat", "sum", "mul" or "ave".
        direction: "both", or only "forward" or "backward"; "none" puts a dense layer in each recurrent one's place, so
            that each step is labelled by itself: what remains without context.
        dropout: share of numbers dropped before and after each recurrent layer.
        variational_dropout: whether a sequence (or a piece of a long one) loses the same numbers at all of its steps,
            rather than others at each; Gal & Ghahramani 2016.
        embedding: numbers in a category's embedding; None chooses by the vocabulary's size.
        learning_rate: the highest reached; it rises at first and falls to zero at the end.
        weight_decay: a training step takes this share of each weight away, times the learning rate; Loshchilov & Hutter
            2019.
        class_weight: class -> weight of its steps' losses, 1 where it is not named; "balanced": inverse to its number
            of steps. The weighted loss of the sequences held out then decides what is best, else accuracy.
        validation_split: the share of sequences held out; None: a tenth, but 1,000 sequences at most.
        seed: the same seed and data give the same model, bit for bit.
        epochs, batch_size, patience, time_limit: see `LoopOptions`.
    """

    units: int = 128
    layers: int | None = None
    merge_mode: str = "concat"
    direction: str = "both"
    dropout: float = 0.3
    variational_dropout: bool = False
    embedding: int | None = None
    learning_rate: float = 0.004
    weight_decay: float = 0.0
    class_weight: ClassWeight = None
    validation_split: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("training", "units", self.units)
        for name in ("layers", "embedding"):
            if getattr(self, name) is not None:
                check_count("training", name, getattr(self, name))
        check_choice("training", "merge_mode", self.merge_mode, MERGES)
        check_choice("training", "direction", self.direction, DIRECTIONS)
        check_fraction("training", "dropout", self.dropout)
        if self.validation_split is not None:
            check_fraction("training", "validation_split", self.validation_split)
        check_positive("learning_rate", self.learning_rate)
        check_choice("training", "variational_dropout", self.variational_dropout, (True, False))
        if not 0 <= self.weight_decay * self.learning_rate < 1:
            raise ValueError(
                f"training: weight_decay must be a number from 0 to below 1 / learning_rate, not {self.weight_decay!r}"
            )
