"""The engine's descriptions of layers and of the optimizer, and the targets of rows."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import c_float, c_int64, c_uint8
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bilstm.engine.library import DirectionStruct, LayerStruct, OptimizerStruct
from bilstm.ragged import FloatArray, IndexArray, as_array

ACTIVATIONS = ("linear", "sigmoid", "softmax", "tanh", "relu")
CELLS = ("lstm", "gru", "gru_reset_before", "simple_tanh", "simple_relu")
GATES = ("sigmoid", "hard_sigmoid", "hard_sigmoid_keras2")  # what squashes the sums of an LSTM's or a GRU's gates
MERGES = ("concat", "sum", "mul", "ave")
POOLS = ("average", "maximum")
OPTIMIZERS = ("adam", "sgd")
PRECISIONS = ("float32", "bfloat16")  # of weights, in predictions


class OptimizerPlan(NamedTuple):
    """How gradients become steps; clipping values and a weight decay of 0 mean none."""

    kind: str = "adam"
    learning_rate: float = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    clipnorm: float = 0.0
    global_clipnorm: float = 0.0
    clipvalue: float = 0.0
    weight_decay: float = 0.0


class Targets:
    """What rows should have been. A row is a step, or a sequence where the network returns one row for each.

    Args:
        labels: (rows,) int32 classes, -1 where unlabelled; or None.
        values: (rows, outputs) float32, NaN where unlabelled; or None. One of the two is given.
        weights: (rows,) float32, or None.
    """

    __slots__ = ("labels", "values", "weights")

    def __init__(
        self,
        labels: npt.NDArray[np.int32] | None = None,
        values: FloatArray | None = None,
        weights: FloatArray | None = None,
    ) -> None:
        self.labels = None if labels is None else as_array(labels, np.int32)
        self.values = None if values is None else as_array(values, np.float32)
        self.weights = None if weights is None else as_array(weights, np.float32)

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """(rows,) which rows are."""
        if self.labels is not None:
            return np.asarray(self.labels >= 0)
        assert self.values is not None
        return np.asarray(~np.isnan(self.values).any(axis=1))

    def take(self, rows: IndexArray) -> Targets:
        """Those of the rows with these indices."""
        return Targets(
            None if self.labels is None else self.labels[rows],
            None if self.values is None else self.values[rows],
            None if self.weights is None else self.weights[rows],
        )


# --- Layers. The index tells apart the dropout layers of a network, which draw other numbers ------------------------


def direction(
    cell: str,
    units: int,
    gates: str = "sigmoid",
    *,
    use_bias: bool = True,
    reverse: bool = False,
    flip: bool = False,
) -> DirectionStruct:
    """A recurrent cell, one of CELLS, with one of GATES, that reads sequences from their last step if `reverse`, and
    stores its outputs from the last step on if `flip`.
    """
    return DirectionStruct(
        units,
        reverse=reverse,
        flip=flip,
        cell=CELLS.index(cell),
        gates=GATES.index(gates),
        without_bias=not use_bias,
    )


def recurrent(
    index: int, directions: Sequence[DirectionStruct], merge: str = "concat", return_sequences: bool = True
) -> LayerStruct:
    """One or two directions, their outputs merged by one of MERGES."""
    return LayerStruct(
        kind=0,
        index=index,
        directions=len(directions),
        ways=(DirectionStruct * 2)(*directions),
        merge=MERGES.index(merge),
        return_sequences=return_sequences,
    )


def dense(index: int, units: int, activation: str = "linear", *, use_bias: bool = True) -> LayerStruct:
    """A linear map of each row and one of ACTIVATIONS."""
    number = ACTIVATIONS.index(activation)
    return LayerStruct(kind=1, index=index, units=units, activation=number, without_bias=not use_bias)


def dropout(index: int, rate: float, *, spatial: bool = False) -> LayerStruct:
    """Dropout; a spatial one drops the same columns at all steps of a sequence."""
    return LayerStruct(kind=5 if spatial else 2, index=index, rate=rate)


def embedding(
    index: int,
    numeric: int,
    vocabularies: Sequence[int],
    dimensions: Sequence[int],
    frozen: Sequence[bool] = (),
    index_dropout: Sequence[float] = (),
) -> LayerStruct:
    """`numeric` columns that are passed on, and a table for each further one.

    Args:
        frozen: for each table, whether training leaves it as it is; if empty, it changes all.
        index_dropout: for each table, the share of indices that become 0 in training; if empty, none.
    """
    tables = c_int64 * len(vocabularies)
    layer = LayerStruct(
        kind=3,
        index=index,
        numeric=numeric,
        tables=len(vocabularies),
        vocabularies=tables(*vocabularies),
        dimensions=tables(*dimensions),
    )
    if any(frozen):
        layer.frozen = (c_uint8 * len(vocabularies))(*frozen)
    if any(index_dropout):
        layer.index_dropout = (c_float * len(vocabularies))(*index_dropout)
    return layer


def words(index: int, encoder: Sequence[LayerStruct], features: int) -> LayerStruct:
    """A word's encoding for its index, the last column: what layers make of its rows, of `features` columns."""
    layers = (LayerStruct * len(encoder))(*encoder)
    return LayerStruct(kind=11, index=index, encoder=layers, encoder_layers=len(encoder), word_features=features)


def pooling(index: int, pool: str) -> LayerStruct:
    """One row for each sequence, by one of POOLS."""
    return LayerStruct(kind=4, index=index, pool=POOLS.index(pool))


def window_pooling(index: int, pool: str, window: int, stride: int, *, same: bool) -> LayerStruct:
    """A row for each window of consecutive rows of a sequence, by one of POOLS."""
    return LayerStruct(kind=8, index=index, pool=POOLS.index(pool), window=window, stride=stride, same=same)


def attention_pooling(index: int, units: int) -> LayerStruct:
    """One row for each sequence: the mean of its rows x, weighted by softmax(query · tanh(W x + b)) over its steps."""
    return LayerStruct(kind=6, index=index, units=units)


def convolution(
    index: int,
    units: int,
    kernel_size: int,
    dilation: int = 1,
    causal: bool = False,
    activation: str = "linear",
    *,
    use_bias: bool = True,
) -> LayerStruct:
    """A linear map of `kernel_size` rows around each, `dilation` steps apart, and one of ACTIVATIONS.

    Args:
        causal: whether a step's own row is the last of them; otherwise they lie around it.
    """
    return LayerStruct(
        kind=7,
        index=index,
        units=units,
        window=kernel_size,
        dilation=dilation,
        causal=causal,
        activation=ACTIVATIONS.index(activation),
        without_bias=not use_bias,
    )


def crf(index: int, labels: int, forbidden: npt.NDArray[np.bool_] | None = None) -> LayerStruct:
    """The probabilities of labels from scores of them, given the whole sequence.

    Args:
        forbidden: (labels + 2, labels) which transitions are, from each label, from a sequence's beginning (the row
            before the last) and to its end (the last row); None: none.
    """
    layer = LayerStruct(kind=10, index=index, units=labels)
    if forbidden is not None:
        cells = forbidden.ravel().tolist()
        layer.forbidden = (c_uint8 * len(cells))(*cells)
    return layer


def batch_normalization(
    index: int, momentum: float, epsilon: float, *, center: bool = True, scale: bool = True
) -> LayerStruct:
    """Columns of mean 0 and variance 1, times gamma if `scale`, plus beta if `center`.

    Args:
        momentum: what moving averages keep of themselves in a training step.
        epsilon: added to variances.
    """
    return LayerStruct(
        kind=9, index=index, rate=1 - momentum, epsilon=epsilon, without_bias=not center, without_scale=not scale
    )


@lru_cache(maxsize=64)
def optimizer_struct(plan: OptimizerPlan) -> OptimizerStruct:
    """The plan as the engine reads it; made once for each plan."""
    return OptimizerStruct(OPTIMIZERS.index(plan.kind), *plan[1:])
