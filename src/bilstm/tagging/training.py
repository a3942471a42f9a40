"""Training a tagger: the network for a table's columns, and what is held out of the sequences."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.data.columns import Columns, Encoded
from bilstm.engine.plans import Targets
from bilstm.errors import UserError
from bilstm.layers import (
    ColumnEmbedding,
    Dense,
    Layer,
    TimeDistributed,
)
from bilstm.models import Sequential
from bilstm.models.fitting import FitData
from bilstm.splitting import share_to_hold_out
from bilstm.tagging.tagger import Tagger
from bilstm.training.checkpoints import Checkpoint, fingerprint
from bilstm.training.classweights import row_weights
from bilstm.training.loop import Progress, TrainingInterrupted, train_model
from bilstm.training.network import depth, dropout, embedding_dimension, optimizer, recurrent
from bilstm.training.options import TrainingOptions


class TaggerInterrupted(TrainingInterrupted):
    """Ctrl-C, or what stands for it, after at least one epoch.

    Attributes:
        tagger: the best model until then.
    """

    def __init__(self, tagger: Tagger) -> None:
        super().__init__(tagger.training)
        self.tagger = tagger


def build_model(columns: Columns, options: TrainingOptions) -> Sequential:
    """The network: embeddings of categories, recurrent layers with dropout, a softmax over the classes."""
    layers: list[Layer] = []
    features = columns.numeric_width + len(columns.vocabularies)
    if columns.vocabularies:
        dimensions = [options.embedding or embedding_dimension(size) for size in columns.vocabularies]
        layers += [ColumnEmbedding(columns.numeric_width, columns.vocabularies, dimensions), dropout(options)]
    for _ in range(depth(options, columns.numeric_width)):
        layers += recurrent(options)
        layers.append(dropout(options))
    layers.append(TimeDistributed(Dense(len(columns.classes), activation="softmax")))
    model = Sequential(layers, seed=options.seed)
    model.build((None, features))
    # By accuracy, an epoch that forgets the rare classes could be the best.
    metrics = ["accuracy"] if options.class_weight is None else []
    model.compile(optimizer(options), "sparse_categorical_crossentropy", metrics)
    return model


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
    share = share_to_hold_out(options.validation_split, count)
    held_out = min(max(1, round(count * share)), count - 1) if share else 0
    if not held_out:
        return training, None
    order = np.random.default_rng(options.seed).permutation(count)
    return training.take(np.sort(order[held_out:])), training.take(np.sort(order[:held_out]))
