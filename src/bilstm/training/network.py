"""The parts of a network, as the options of a training ask for them."""

from __future__ import annotations

from bilstm.layers import LSTM, Bidirectional, Dense, Dropout, Layer, Reverse, SpatialDropout1D, TimeDistributed
from bilstm.optimizers import Adam
from bilstm.training.options import TrainingOptions


def optimizer(options: TrainingOptions) -> Adam:
    return Adam(options.learning_rate, weight_decay=options.weight_decay or None, global_clipnorm=1.0)


def dropout(options: TrainingOptions, *, sequences: bool = True) -> Layer:
    """Dropout where there is a row for each step or, without `sequences`, for each sequence."""
    variational = options.variational_dropout and sequences
    return SpatialDropout1D(options.dropout) if variational else Dropout(options.dropout)


def depth(options: TrainingOptions, numbers: int) -> int:
    """The number of recurrent layers, for steps of so many numbers besides text."""
    return options.layers or (2 if numbers else 3)


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
