"""What the engine is told: plans of layers and of the optimizer, and the targets of rows."""

from __future__ import annotations

from ctypes import c_int64
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bilstm.engine.library import DirectionStruct, LayerStruct, OptimizerStruct
from bilstm.ragged import FloatArray, IndexArray, as_array

ACTIVATIONS = ("linear", "sigmoid", "softmax", "tanh", "relu")
MERGES = ("concat", "sum", "mul", "ave")
POOLS = ("average", "maximum")
LOSSES = ("binary_crossentropy", "categorical_crossentropy", "mean_squared_error")
OPTIMIZERS = ("adam", "sgd")
PRECISIONS = ("float32", "bfloat16")  # of weights, in predictions


@dataclass(frozen=True)
class DirectionPlan:
    """One LSTM: `reverse` reads sequences from their last step; `flip` stores outputs from the last place."""

    units: int
    reverse: bool = False
    flip: bool = False


@dataclass(frozen=True)
class RecurrentPlan:
    index: int
    directions: tuple[DirectionPlan, ...]
    merge: str = "concat"
    return_sequences: bool = True


@dataclass(frozen=True)
class DensePlan:
    index: int
    units: int
    activation: str = "linear"


@dataclass(frozen=True)
class DropoutPlan:
    index: int
    rate: float


@dataclass(frozen=True)
class SpatialDropoutPlan:
    """Dropout whose mask a sequence keeps over its steps."""

    index: int
    rate: float


@dataclass(frozen=True)
class EmbeddingPlan:
    index: int
    numeric: int
    vocabularies: tuple[int, ...]
    dimensions: tuple[int, ...]


@dataclass(frozen=True)
class PoolingPlan:
    """One row for each sequence: its rows' "average", or "maximum" of each number."""

    index: int
    pool: str


@dataclass(frozen=True)
class AttentionPoolingPlan:
    """One row for each sequence: the mean of its rows x, weighted by softmax(query · tanh(W x + b)) over its steps."""

    index: int
    units: int


LayerPlan = (
    RecurrentPlan | DensePlan | DropoutPlan | SpatialDropoutPlan | EmbeddingPlan | PoolingPlan | AttentionPoolingPlan
)


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


def layer_struct(layer: LayerPlan) -> LayerStruct:
    """The plan as the engine reads it."""
    match layer:
        case RecurrentPlan(index, directions, merge, return_sequences):
            ways = (DirectionStruct * 2)(*(DirectionStruct(d.units, d.reverse, d.flip) for d in directions))
            return LayerStruct(
                kind=0,
                index=index,
                directions=len(directions),
                ways=ways,
                merge=MERGES.index(merge),
                return_sequences=return_sequences,
            )
        case DensePlan(index, units, activation):
            return LayerStruct(kind=1, index=index, units=units, activation=ACTIVATIONS.index(activation))
        case DropoutPlan(index, rate):
            return LayerStruct(kind=2, index=index, rate=rate)
        case EmbeddingPlan(index, numeric, vocabularies, dimensions):
            count = len(vocabularies)
            return LayerStruct(
                kind=3,
                index=index,
                numeric=numeric,
                tables=count,
                vocabularies=(c_int64 * count)(*vocabularies),
                dimensions=(c_int64 * count)(*dimensions),
            )
        case PoolingPlan(index, pool):
            return LayerStruct(kind=4, index=index, pool=POOLS.index(pool))
        case SpatialDropoutPlan(index, rate):
            return LayerStruct(kind=5, index=index, rate=rate)
        case AttentionPoolingPlan(index, units):
            return LayerStruct(kind=6, index=index, units=units)


@lru_cache(maxsize=64)
def optimizer_struct(plan: OptimizerPlan) -> OptimizerStruct:
    """The plan as the engine reads it; made once for each plan."""
    return OptimizerStruct(OPTIMIZERS.index(plan.kind), *plan[1:])
