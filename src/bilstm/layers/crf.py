"""CRF, the last layer of a model that labels whole sequences rather than each step by itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.arguments import check_count
from bilstm.engine import plans
from bilstm.engine.library import LayerStruct
from bilstm.layers.base import Layer, WeightSpec
from bilstm.layers.initializers import uniform
from bilstm.ragged import FloatArray

Transition = tuple[int | None, int | None]


class CRF(Layer):
    """A linear-chain conditional random field (Lafferty, McCallum and Pereira 2001), the last layer of a model.

    Input: a score for each label at each step, from a `TimeDistributed(Dense(labels))`. A sequence of labels has a
    score, the sum of those of its steps, of the transitions from each label to the next, and of beginning and ending
    as it does; its probability is the exponential of that score over the sum of all sequences' exponentials.

    Output: (steps, labels), the probability of each label at each step given the whole sequence (marginals).
    `predict_classes` and `decode` give the likeliest labels of a sequence as a whole (Viterbi).

    The loss is "crf_likelihood": minus the logarithm of the probability of a sequence's labels. Unlabelled steps may
    have any label: the probabilities of all are added up. A model's loss is the sum over sequences divided by the
    number of labelled steps, so that its size compares with other losses'.

    Weights: transitions (labels, labels), from the row's label to the column's; start (1, labels); end (1, labels).

    Args:
        labels: how many there are; as many as the input has scores.
        forbidden: transitions that never happen: their probability is exactly 0. Pairs (from, to), where None as the
            first is a sequence's beginning and as the second its end; or a (labels + 2, labels) array that is not 0
            for them, whose last two rows are beginnings and ends. `bilstm.metrics.forbidden_transitions` makes them
            of tags such as B-X and I-X.
        name: what the layer is called.

    Raises:
        TypeError: labels is not a whole number, or an argument is unknown.
        ValueError: a transition is of a label that there is not.
    """

    def __init__(
        self,
        labels: int,
        forbidden: Iterable[Transition | str] | npt.NDArray[Any] | None = None,
        *,
        name: str | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(name=name, **keywords)
        self.labels = check_count("CRF", "labels", labels)
        self.forbidden = _table(forbidden, self.labels)

    def __repr__(self) -> str:
        forbidden = "" if self.forbidden is None else f", {self.forbidden.sum():,} transitions forbidden"
        return f"CRF(labels={self.labels}{forbidden})"

    def output_features(self, features: int) -> int:
        if features != self.labels:
            raise ValueError(f"CRF: {self.labels} labels need a score for each, but the layer before has {features}")
        return features

    def get_config(self) -> dict[str, Any]:
        # A line of digits for each row: pairs of many labels would take tens of times as much.
        forbidden = self.forbidden
        rows = None if forbidden is None else ["".join("01"[cell] for cell in row) for row in forbidden.astype(int)]
        return {"labels": self.labels, "forbidden": rows, "name": self.name}

    def weight_specs(self, features: int) -> list[WeightSpec]:
        n = self.labels
        return [WeightSpec("transitions", (n, n)), WeightSpec("start", (1, n)), WeightSpec("end", (1, n))]

    def initial_weights(self, features: int, random: np.random.Generator) -> list[FloatArray]:
        return [2 * uniform(spec.shape, random) for spec in self.weight_specs(features)]

    def scores(self, weights: Sequence[npt.ArrayLike]) -> dict[str, FloatArray]:
        """The scores "transitions" (labels, labels), "start" (labels,) and "end" (labels,), float32, minus infinity for
        what is forbidden.

        Args:
            weights: the layer's, in the order of `get_weights`.
        """
        table = np.concatenate([np.asarray(each, np.float32) for each in weights])
        if self.forbidden is not None:
            table = np.where(self.forbidden, np.float32(-np.inf), table)
        return {"transitions": table[:-2], "start": table[-2], "end": table[-1]}

    @property
    def needs_whole_sequence(self) -> bool:
        return True

    def plan(self, index: int, features: int) -> LayerStruct:
        return plans.crf(index, self.labels, self.forbidden)


def _table(forbidden: Any, labels: int) -> npt.NDArray[np.bool_] | None:
    """(labels + 2, labels) which transitions are forbidden; None: none."""
    if forbidden is None:
        return None
    shape = labels + 2, labels
    if isinstance(forbidden, np.ndarray):
        if forbidden.shape != shape:
            raise ValueError(f"CRF: forbidden has shape {forbidden.shape}, not (labels + 2, labels) = {shape}")
        table = forbidden.astype(bool)
    else:
        given = list(forbidden)
        if given and all(isinstance(row, str) for row in given):
            if len(given) != labels + 2 or any(len(row) != labels or set(row) - {"0", "1"} for row in given):
                raise ValueError(f"CRF: forbidden must be {labels + 2} rows of {labels} digits, 0 or 1")
            table = np.array([[digit == "1" for digit in row] for row in given])
        else:
            table = np.zeros(shape, bool)
            for pair in given:
                table[_cell(pair, labels)] = True
    return table if table.any() else None


def _cell(pair: Any, labels: int) -> tuple[int, int]:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2 or tuple(pair) == (None, None):
        raise ValueError(f"CRF: a forbidden transition is a pair of labels, of which one may be None, not {pair!r}")
    for label in pair:
        if label is not None and (isinstance(label, bool) or not isinstance(label, (int, np.integer))):
            raise ValueError(f"CRF: labels are whole numbers from 0 to {labels - 1}, or None, not {label!r}")
        if label is not None and not 0 <= label < labels:
            raise ValueError(f"CRF: {label} is not a label: they are 0 to {labels - 1}")
    before, after = pair
    if before is None:
        return labels, int(after)
    return (labels + 1, int(before)) if after is None else (int(before), int(after))
