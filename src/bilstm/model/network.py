"""The network for a schema and a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from bilstm.data.schema import Schema
from bilstm.data.spelling import VECTOR, WHOLE
from bilstm.errors import UserError
from bilstm.layers import (
    CRF,
    GRU,
    LSTM,
    Bidirectional,
    ColumnEmbedding,
    Conv1D,
    Dense,
    Dropout,
    GlobalAttentionPooling1D,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    Layer,
    Recurrent,
    Reverse,
    SimpleRNN,
    SpatialDropout1D,
    TimeDistributed,
    WordEncoder,
    count_parameters,
    from_json,
    to_json,
)
from bilstm.models import Sequential
from bilstm.optimizers import Adam
from bilstm.ragged import FloatArray
from bilstm.tasks import LabelTask, Task
from bilstm.training.options import TrainingOptions, read_convolutions

CELLS: dict[str, type[Recurrent]] = {"lstm": LSTM, "gru": GRU, "simple": SimpleRNN}
# How the steps of a sequence become one row: the last recurrent layer and what follows it.
POOLS: dict[str, Callable[[TrainingOptions], list[Layer]]] = {
    "last": lambda options: _recurrent(options, sequences=False),
    "mean": lambda options: [*_recurrent(options), GlobalAveragePooling1D()],
    "max": lambda options: [*_recurrent(options), GlobalMaxPooling1D()],
    "attention": lambda options: [*_recurrent(options), GlobalAttentionPooling1D(options.units)],
}

# How characters become a part of a step: a bidirectional LSTM, or a convolution and its maximum.
_CHARACTER, _CHARACTER_UNITS, _CHARACTER_FILTERS = 25, 25, 50  # dimensions of a character and of its word
CHARACTERS: dict[str, Callable[[int], list[Layer]]] = {
    "lstm": lambda size: [
        ColumnEmbedding(0, [size], [_CHARACTER]),
        Bidirectional(LSTM(_CHARACTER_UNITS)),
    ],
    "conv": lambda size: [
        ColumnEmbedding(0, [size], [_CHARACTER]),
        Conv1D(_CHARACTER_FILTERS, 3, padding="same"),
        GlobalMaxPooling1D(),
    ],
}


def build_network(
    schema: Schema,
    task: Task,
    options: TrainingOptions,
    forbidden: npt.NDArray[np.bool_] | None = None,
    vectors: Mapping[str, FloatArray] | None = None,
) -> Sequential:
    """An untrained network.

    Args:
        forbidden: the transitions that its `CRF`, if it has one, forbids.
        vectors: feature -> (size, dimensions) its word vectors.

    Raises:
        UserError: an option has no effect on a network for this task.
    """
    check_options(schema, task, options)
    network = Sequential(network_layers(schema, task, options, forbidden), seed=options.seed)
    network.build((None, schema.width))
    if vectors:
        _set_vectors(network, schema, vectors)
    head = _as_trained(task, options).head(options.class_weight)
    network.compile(optimizer(options), head.loss, head.metrics)
    return network


def _set_vectors(network: Sequential, schema: Schema, vectors: Mapping[str, FloatArray]) -> None:
    """Begin training with the vectors of words."""
    embedding = next(layer for layer in network.layers if isinstance(layer, ColumnEmbedding))
    tables = [
        vectors[text.name] if text.part == VECTOR else table
        for text, table in zip(schema.categorical, embedding.get_weights(), strict=True)
    ]
    embedding.set_weights(tables)


def network_layers(
    schema: Schema,
    task: Task,
    options: TrainingOptions,
    forbidden: npt.NDArray[np.bool_] | None = None,
) -> list[Layer]:
    """Embeddings of categories, convolutions, recurrent layers with dropout, pooling for tasks with one answer per
    sequence, a dense layer and, if labels are predicted together, a CRF.
    """
    layers: list[Layer] = []
    numeric = schema.numeric_width
    if schema.characters:
        layers.append(WordEncoder(CHARACTERS[options.characters or "conv"](schema.characters.size)))
        numeric = layers[0].output_features(schema.width) - len(schema.vocabularies)
    if schema.vocabularies:
        texts = schema.categorical
        dimensions = [text.dimensions or options.embedding or embedding_dimension(text.size) for text in texts]
        embedding = ColumnEmbedding(
            numeric,
            schema.vocabularies,
            dimensions,
            frozen=[options.freeze_vectors and text.part == VECTOR for text in texts],
            unknown_rate=[options.unknown_words * (text.part == WHOLE) for text in texts],
        )
        layers += [embedding, _dropout(options)]
    for filters, size in read_convolutions(options.conv):
        # A network that only reads forward must not know what comes next.
        padding = "causal" if options.direction == "forward" else "same"
        layers += [Conv1D(filters, size, padding=padding, activation="relu"), _dropout(options)]
    for _ in range(depth(options, schema.numeric_width, task.per_sequence) - 1):
        layers += [*_recurrent(options), _dropout(options)]
    layers += POOLS[options.pooling or "mean"](options) if task.per_sequence else _recurrent(options)
    layers.append(Dropout(options.dropout) if task.per_sequence else _dropout(options))
    head = _as_trained(task, options).head(options.class_weight)
    dense = Dense(head.units, activation=head.activation)
    layers.append(dense if task.per_sequence else TimeDistributed(dense))
    return [*layers, CRF(head.units, forbidden)] if options.output == "crf" else layers


def constrained(network: Sequential, forbidden: npt.NDArray[np.bool_] | None) -> Sequential:
    """A network whose last layer is a softmax for each step as one that predicts the labels of a sequence together.

    The probability of a sequence of labels is the product of theirs at each step, divided by the sum of that product
    over all sequences without a forbidden transition; it is a `CRF` whose transitions have scores of 0.
    """
    last = network.layers[-1]
    assert isinstance(last, TimeDistributed)
    assert isinstance(last.layer, Dense)
    layers = [*network.layers[:-1], TimeDistributed(Dense(last.layer.units)), CRF(last.layer.units, forbidden)]
    decoder = Sequential([from_json(to_json(layer)) for layer in layers], seed=network.seed)
    decoder.build((None, network.input_features))
    weights = network.get_weights()
    decoder.set_weights([*weights, *(np.zeros_like(each) for each in decoder.get_weights()[len(weights) :])])
    return decoder


def _as_trained(task: Task, options: TrainingOptions) -> Task:
    """What a network is trained for, whether the task is one whose output is chosen already or not."""
    return task.with_output("crf" if options.output == "crf" else "softmax")


def network_size(schema: Schema, task: Task, options: TrainingOptions) -> int:
    """The number of parameters of the network, which is not built for that."""
    if options.characters == "none":
        schema = schema.without_characters()
    return count_parameters(network_layers(schema, task, options), schema.width)


def check_options(schema: Schema, task: Task, options: TrainingOptions) -> None:
    """Refuse options that would be ignored.

    Raises:
        UserError: an option has no effect for this schema or task.
    """
    if options.embedding is not None and not schema.vocabularies:
        raise UserError("embedding has no effect: there are no words or categories to embed; leave it out")
    if options.unknown_words and not schema.vocabularies:
        raise UserError("unknown_words has no effect: there are no words or categories; leave it out")
    if options.freeze_vectors and not any(text.part == VECTOR for text in schema.categorical):
        raise UserError("freeze_vectors has no effect: there are no word vectors, which vectors names; leave it out")
    if options.pooling is not None and not task.per_sequence:
        raise UserError("pooling has no effect: it is for tasks with one answer for each sequence; leave it out")
    if task.per_sequence or not isinstance(task, LabelTask):
        if options.output not in (None, "softmax"):
            raise UserError(
                f"output {options.output!r} is for one label for each time step, but the task is {task.kind}"
            )
        if options.train_scheme is not None:
            raise UserError(f"train_scheme is for one label for each time step, but the task is {task.kind}")
    if options.output == "crf" and options.class_weight is not None:
        raise UserError(
            "class_weight weights the losses of steps, but with output 'crf' a sequence has one loss: leave one out"
        )
    if options.output == "crf" and options.calibrate:
        raise UserError("calibrate scales the logits of a softmax, which output 'crf' does not have: leave one out")
    if options.output == "crf" and options.window is not None:
        raise UserError("window cuts sequences, whose labels output 'crf' predicts together: leave one out")
    if options.scheme is not None and options.output == "softmax" and options.train_scheme is None:
        raise UserError(
            "scheme has no effect: it says which transitions outputs 'crf' and 'constrained' forbid; leave it out"
        )
    if options.train_scheme is not None and options.class_weight is not None:
        raise UserError("class_weight names labels, but with train_scheme other tags are learned: leave one out")
    if options.conv is not None and options.direction == "none":
        raise UserError("with direction 'none' no step knows the others, which a convolution reads: leave conv out")
    if options.direction == "none" and options.cell != TrainingOptions.cell:
        raise UserError("cell has no effect with direction 'none', which has no recurrent layers; leave it out")
    if task.per_sequence and (options.pooling, options.direction) == ("last", "none"):
        raise UserError("with direction 'none' no step knows the others: pool by mean, max or attention, not last")


def optimizer(options: TrainingOptions) -> Adam:
    """The optimizer that trains a network."""
    return Adam(options.learning_rate, weight_decay=options.weight_decay or None, global_clipnorm=1.0)


def depth(options: TrainingOptions, numeric_width: int, per_sequence: bool) -> int:
    """The number of recurrent layers."""
    return options.layers or (2 if numeric_width or per_sequence else 3)


def embedding_dimension(vocabulary: int) -> int:
    """The dimensions of an embedding: 8 for a handful of values, 128 for many thousand."""
    return int(min(128, max(8, 8 * round(2 * vocabulary**0.25))))


def _dropout(options: TrainingOptions) -> Layer:
    return SpatialDropout1D(options.dropout) if options.variational_dropout else Dropout(options.dropout)


def _recurrent(options: TrainingOptions, *, sequences: bool = True) -> list[Layer]:
    """A recurrent layer, or what replaces it, with an output for each step or, last, for each sequence."""
    if options.direction == "none":
        return [TimeDistributed(Dense(options.units, activation="tanh"))]
    backward = options.direction == "backward"
    layer = CELLS[options.cell](options.units, return_sequences=sequences, go_backwards=backward)
    if options.direction == "both":
        return [Bidirectional(layer, merge_mode=options.merge_mode)]
    return [layer, Reverse()] if sequences and backward else [layer]
