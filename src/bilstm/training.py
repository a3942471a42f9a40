"""Training a tagger: the network for a table's columns, and what is held out of the sequences."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.arguments import check_choice, check_count, check_fraction
from bilstm.checkpoints import Checkpoint, fingerprint
from bilstm.classweights import ClassWeight, row_weights
from bilstm.columns import Columns, Encoded
from bilstm.engine.network import MERGES, Targets
from bilstm.errors import UserError
from bilstm.fitting import FitData
from bilstm.layers import (
    LSTM,
    Bidirectional,
    ColumnEmbedding,
    Dense,
    Dropout,
    Layer,
    Reverse,
    SpatialDropout1D,
    TimeDistributed,
)
from bilstm.loop import LoopOptions, Progress, TrainingInterrupted, check_positive, train_model
from bilstm.models import Sequential
from bilstm.optimizers import Adam
from bilstm.tagger import Tagger

DIRECTIONS = ("both", "forward", "backward", "none")


class TaggerInterrupted(TrainingInterrupted):
    """Ctrl-C, or what stands for it, after at least one epoch.

    Attributes:
        tagger: the best model until then.
    """

    def __init__(self, tagger: Tagger) -> None:
        super().__init__(tagger.training)
        self.tagger = tagger


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingOptions(LoopOptions):
    """How to train; the defaults are the product's.

    Attributes:
        units: of each LSTM, in each direction.
        layers: number of recurrent layers.
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
        validation_split: the share of sequences held out.
        seed: the same seed and data give the same model, bit for bit.
        epochs, batch_size, patience, time_limit: see `LoopOptions`.
    """

    units: int = 128
    layers: int = 2
    merge_mode: str = "concat"
    direction: str = "both"
    dropout: float = 0.3
    variational_dropout: bool = False
    embedding: int | None = None
    learning_rate: float = 0.004
    weight_decay: float = 0.0
    class_weight: ClassWeight = None
    validation_split: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("units", "layers"):
            check_count("training", name, getattr(self, name))
        if self.embedding is not None:
            check_count("training", "embedding", self.embedding)
        check_choice("training", "merge_mode", self.merge_mode, MERGES)
        check_choice("training", "direction", self.direction, DIRECTIONS)
        check_fraction("training", "dropout", self.dropout)
        check_fraction("training", "validation_split", self.validation_split)
        check_positive("learning_rate", self.learning_rate)
        check_choice("training", "variational_dropout", self.variational_dropout, (True, False))
        if not 0 <= self.weight_decay * self.learning_rate < 1:
            raise ValueError(
                f"training: weight_decay must be a number from 0 to below 1 / learning_rate, not {self.weight_decay!r}"
            )


def build_model(columns: Columns, options: TrainingOptions) -> Sequential:
    """The network: embeddings of categories, recurrent layers with dropout, a softmax over the classes."""
    layers: list[Layer] = []
    features = columns.numeric_width + len(columns.vocabularies)
    if columns.vocabularies:
        dimensions = [options.embedding or embedding_dimension(size) for size in columns.vocabularies]
        layers += [ColumnEmbedding(columns.numeric_width, columns.vocabularies, dimensions), dropout(options)]
    for _ in range(options.layers):
        layers += recurrent(options)
        layers.append(dropout(options))
    layers.append(TimeDistributed(Dense(len(columns.classes), activation="softmax")))
    model = Sequential(layers, seed=options.seed)
    model.build((None, features))
    # By accuracy, an epoch that forgets the rare classes could be the best.
    metrics = ["accuracy"] if options.class_weight is None else []
    model.compile(optimizer(options), "sparse_categorical_crossentropy", metrics)
    return model


def optimizer(options: TrainingOptions) -> Adam:
    return Adam(options.learning_rate, weight_decay=options.weight_decay or None, global_clipnorm=1.0)


def dropout(options: TrainingOptions, *, sequences: bool = True) -> Layer:
    """Dropout where there is a row for each step or, without `sequences`, for each sequence."""
    variational = options.variational_dropout and sequences
    return SpatialDropout1D(options.dropout) if variational else Dropout(options.dropout)


def embedding_dimension(vocabulary: int) -> int:
    """Numbers in an embedding: 16 for a handful of values, 128 for many thousand."""
    return int(min(128, max(8, 8 * round(2 * vocabulary**0.25))))


def recurrent(options: TrainingOptions, *, sequences: bool = True) -> list[Layer]:
    """A recurrent layer, or what stands in its place, with an output for each step or, last, for each sequence."""
    if options.direction == "none":
        return [TimeDistributed(Dense(options.units, activation="tanh"))]
    lstm = LSTM(options.units, return_sequences=sequences, go_backwards=options.direction == "backward")
    if options.direction == "both":
        return [Bidirectional(lstm, merge_mode=options.merge_mode)]
    return [lstm, Reverse()] if sequences and lstm.go_backwards else [lstm]


def train_tagger(
    columns: Columns,
    training: Encoded,
    validation: Encoded | None,
    *,
    options: TrainingOptions | None = None,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
) -> Tagger:
    """Train on labelled sequences.

    Args:
        validation: sequences that decide when to stop and which epoch's weights to keep; where None, a part of
            `training` is held out.
        progress, checkpoint: see `train_model`.

    Raises:
        DivergedError: the loss is not finite in the first epoch.
        TaggerInterrupted: Ctrl-C after the first epoch; holds the best model. A KeyboardInterrupt, as is raised
            before.
        UserError: the checkpoint cannot be written, or belongs to another training; a class weight is impossible.
    """
    options = options or TrainingOptions()
    if options.embedding is not None and not columns.vocabularies:
        raise UserError("embedding has no use here: there are no words or categories to embed; leave it out")
    if validation is None:
        training, validation = _hold_out(training, options)
    model = build_model(columns, options)
    counted = training.labels  # by which weights are balanced
    held_out = _fit_data(validation, columns, options, counted) if validation else None
    if checkpoint:
        checkpoint.belongs_to(_facts(columns))
    try:
        data = _fit_data(training, columns, options, counted)
        summary = train_model(model, data, held_out, options, progress=progress, checkpoint=checkpoint)
    except TrainingInterrupted as interrupt:
        raise TaggerInterrupted(Tagger(columns, model, interrupt.summary)) from interrupt.__cause__
    return Tagger(columns, model, summary)


def train_baseline(
    columns: Columns,
    training: Encoded,
    validation: Encoded | None,
    *,
    options: TrainingOptions | None = None,
    progress: Progress | None = None,
) -> Tagger:
    """Train what `train_tagger` trains with the same arguments, but without recurrence: each step by itself.

    What it reaches says what context is worth. It is cheap, and of a time limit it takes a tenth at most.

    Raises:
        DivergedError: the loss is not finite in the first epoch.
        KeyboardInterrupt: Ctrl-C; a network half trained would flatter the other.
    """
    options = options or TrainingOptions()
    limit = options.time_limit and options.time_limit / 10
    alone = dataclasses.replace(options, direction="none", time_limit=limit)
    try:
        return train_tagger(columns, training, validation, options=alone, progress=progress)
    except TaggerInterrupted as interrupt:
        raise KeyboardInterrupt from interrupt.__cause__


def _facts(columns: Columns) -> dict[str, Any]:
    """What tells this table's columns from another's; that its rows are others, their numbers tell."""
    return {
        "the sequence column": columns.sequence,
        "the order column": columns.order,
        "the label column": columns.label,
        "the features": columns.features,
        "the categorical features": list(dict.fromkeys(column.name for column in columns.categorical)),
        "the features whose spelling counts": columns.spelled,
        "the classes": fingerprint(*columns.classes),
    }


def _fit_data(encoded: Encoded, columns: Columns, options: TrainingOptions, counted: npt.NDArray[np.int32]) -> FitData:
    try:
        weights = row_weights(options.class_weight, columns.classes, encoded.labels, counted)
    except ValueError as error:
        raise UserError(str(error)) from None
    return FitData.all_of(encoded.values, Targets(labels=encoded.labels, weights=weights))


def _hold_out(training: Encoded, options: TrainingOptions) -> tuple[Encoded, Encoded | None]:
    count = len(training.values)
    held_out = min(max(1, round(count * options.validation_split)), count - 1) if options.validation_split else 0
    if not held_out:
        return training, None
    order = np.random.default_rng(options.seed).permutation(count)
    return training.take(np.sort(order[held_out:])), training.take(np.sort(order[:held_out]))
