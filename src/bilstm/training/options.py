"""The options of a training: the network's parts and size, and how it is trained."""

from __future__ import annotations

import dataclasses
import numbers
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from bilstm.arguments import check_choice, check_count, check_fraction
from bilstm.engine.plans import MERGES
from bilstm.metrics.schemes import SCHEMES, scheme_name
from bilstm.tasks.classweights import ClassWeight
from bilstm.training.loop import LoopOptions, check_positive, use_python_numbers

DIRECTIONS = ("both", "forward", "backward", "none")
CELLS = ("lstm", "gru", "simple")
CHARACTERS = ("none", "lstm", "conv")
POOLINGS = ("mean", "max", "attention", "last")
OUTPUTS = ("softmax", "constrained", "crf")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingOptions(LoopOptions):
    """How to train; the defaults are the product's.

    Attributes:
        units: of each recurrent layer, in each direction.
        layers: number of recurrent layers; None: 3 for labels of steps whose features are all text, otherwise 2.
        merge_mode: how the directions' outputs are merged: "concat", "sum", "mul" or "ave".
        direction: "both", or only "forward" or "backward"; "none" puts a dense layer in each recurrent one's place, so
            that each step is labelled alone: what remains without context.
        cell: the kind of recurrent layers: "lstm", "gru" or "simple"; see `LSTM`, `GRU` and `SimpleRNN`.
        pooling: for tasks with one answer per sequence, how its steps become one row: "last" (what each direction has
            computed when it has read the whole sequence), "mean" or "max" of the last layer's outputs, or "attention",
            a mean with learned weights (see `GlobalAttentionPooling1D`); None: "mean".
        conv: convolutions in front of the recurrent layers, as filters x kernel size: "64x5" makes of each step and the
            two before and after it 64 features, with relu, and with direction "forward" of the step and the four before
            it; "64x5+64x3" puts another after it (see `Conv1D`). None, or "none": without. Not with direction "none".
        characters: how the characters of words become a part of a step: "lstm", by a bidirectional LSTM over each word
            (Lample et al. 2016), "conv", by a convolution and its maximum (Ma & Hovy 2016), or "none"; None: "conv" for
            a feature whose spelling counts. Of several such features, the first; if there is none, the first text.
        unknown_words: the share of words that training treats as unknown, besides those below the frequency threshold.
        freeze_vectors: whether training leaves word vectors that are read from a file as they are.
        output: for one label for each step, how labels are predicted: "softmax", each step on its own; "crf", those of
            a sequence together, with scores for each transition (see `CRF`): sequences are then never cut in training,
            and probabilities are not calibrated; or "constrained", which is trained as "softmax" and predicts those
            labels of a sequence that are likeliest among all that the scheme of tags such as B-X and I-X allows. None:
            "crf" for tags of a scheme, in sequences of up to 300 steps and with no option that needs a softmax
            (class_weight, calibrate, window, direction "none"); otherwise "softmax".
        scheme: with output "crf" or "constrained", or with `train_scheme`, the scheme of the labels, whose forbidden
            transitions are never predicted: one of "IO", "IOB1", "IOB2" (or "BIO"), "IOE1", "IOE2", "IOBES" (or
            "BIOES"), "BILOU" and "BMES"; "none": all transitions are allowed; None: detected. Transitions that occur
            in the data are always allowed.
        train_scheme: the scheme of the tags that are learned instead of the labels, such as "IOBES"; predictions are
            tags of the labels' scheme again. None: the labels are learned as they are.
        dropout: share of values dropped before and after each recurrent layer.
        variational_dropout: whether a sequence (or a window of a long one) loses the same values at all of its steps,
            rather than others at each; Gal & Ghahramani 2016.
        embedding: dimensions of a category's embedding; None chooses by the vocabulary's size.
        learning_rate: the highest reached; it rises at first and falls to zero at the end.
        weight_decay: a training step takes this share of each weight away, times the learning rate; Loshchilov & Hutter
            2019.
        class_weight: class -> weight of its rows' losses, 1 where it is not named; "balanced": inverse to its number
            of rows. The weighted loss of the validation set then decides which epoch is the best.
        calibrate: whether probabilities are scaled by a temperature found on the validation set (Guo et al. 2017);
            None: if the validation set is large enough.
        validation_split: the share of sequences for the validation set; None: a tenth, but at most 1,000 sequences,
            and none of fewer than 500 sequences with one answer each.
        seed: the same seed and data give the same model, bit for bit.
        epochs, batch_size, patience, time_limit, window, stride: see `LoopOptions`.
    """

    units: int = 128
    layers: int | None = None
    merge_mode: str = "concat"
    direction: str = "both"
    cell: str = "lstm"
    pooling: str | None = None
    conv: str | None = None
    characters: str | None = None
    unknown_words: float = 0.0
    freeze_vectors: bool = False
    output: str | None = None
    scheme: str | None = None
    train_scheme: str | None = None
    dropout: float = 0.3
    variational_dropout: bool = False
    embedding: int | None = None
    learning_rate: float = 0.004
    weight_decay: float = 0.0
    class_weight: ClassWeight = None
    calibrate: bool | None = None
    validation_split: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("training", "units", self.units)
        for name in ("layers", "embedding"):
            if getattr(self, name) is not None:
                check_count("training", name, getattr(self, name))
        check_choice("training", "merge_mode", self.merge_mode, MERGES)
        check_choice("training", "direction", self.direction, DIRECTIONS)
        check_choice("training", "cell", self.cell, CELLS)
        check_choice("training", "pooling", self.pooling, (None, *POOLINGS))
        if self.conv == "none":  # what a file of options or a comparison can say
            object.__setattr__(self, "conv", None)
        read_convolutions(self.conv)
        check_choice("training", "characters", self.characters, (None, *CHARACTERS))
        check_fraction("training", "unknown_words", self.unknown_words)
        check_choice("training", "freeze_vectors", self.freeze_vectors, (True, False))
        check_choice("training", "output", self.output, (None, *OUTPUTS))
        object.__setattr__(self, "scheme", _checked_scheme(self.scheme))
        if self.train_scheme is not None:
            learned = _checked_scheme(self.train_scheme, "train_scheme")
            object.__setattr__(self, "train_scheme", None if learned == "none" else learned)
        check_choice("training", "calibrate", self.calibrate, (None, True, False))
        check_fraction("training", "dropout", self.dropout)
        if self.validation_split is not None:
            check_fraction("training", "validation_split", self.validation_split)
        check_positive("learning_rate", self.learning_rate)
        check_choice("training", "variational_dropout", self.variational_dropout, (True, False))
        if not 0 <= self.weight_decay * self.learning_rate < 1:
            raise ValueError(
                f"training: weight_decay must be a number from 0 to below 1 / learning_rate, not {self.weight_decay!r}"
            )
        use_python_numbers(self, TrainingOptions)
        if isinstance(self.class_weight, Mapping):
            weights: dict[Any, float] = {}
            given: Mapping[Any, Any] = self.class_weight
            for label, weight in given.items():
                if not isinstance(weight, numbers.Real):
                    raise ValueError(f"training: class_weight of {label!r} must be a number, not {weight!r}")
                weights[label.item() if isinstance(label, np.generic) else label] = float(weight)
            object.__setattr__(self, "class_weight", weights)


def _checked_scheme(name: str | None, option: str = "scheme") -> str | None:
    if name is None or str(name).lower() == "none":
        return name and "none"
    try:
        return scheme_name(name)
    except ValueError:
        raise ValueError(f"training: {option} must be one of {', '.join(SCHEMES)} and none, not {name!r}") from None


def read_convolutions(text: str | None) -> list[tuple[int, int]]:
    """The filters and kernel sizes that `TrainingOptions.conv` describes, the first layer's first.

    Raises:
        ValueError: the text does not describe any.
    """
    if text is None:
        return []
    parts = str(text).split("+")
    if not all(re.fullmatch("[1-9][0-9]{0,5}x[1-9][0-9]{0,5}", part) for part in parts):
        raise ValueError(
            "training: conv must be filters x kernel size, such as '64x5', or several of them, '64x5+64x3', not "
            f"{text!r}"
        )
    return [(int(filters), int(size)) for filters, _, size in (part.partition("x") for part in parts)]
