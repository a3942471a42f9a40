"""Probabilities of spans: of a model that ends with a CRF, or whose steps have their labels each on its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from bilstm.engine.network import Network
from bilstm.layers import CRF
from bilstm.metrics.events import Events
from bilstm.metrics.spans import meaning_of, span_breaks
from bilstm.models.decoding import decodes
from bilstm.ragged import IndexArray, Ragged

if TYPE_CHECKING:
    from bilstm.models import Sequential

Numbers = npt.NDArray[np.float64]

Scores = dict[str, Any]  # of transitions, and of beginning and ending with a label

# Of networks that end with a CRF: their count of changes when this was made, what they are without it, and its scores.
_cut: WeakKeyDictionary[Network, tuple[int, Sequential, Scores]] = WeakKeyDictionary()


def span_probabilities(
    model: Sequential, data: Ragged, spans: Events, classes: Sequence[str], precision: str = "float32"
) -> Numbers:
    """The probability of each span: that a sequence's labels mark precisely it, whatever the other labels are.

    All sequences of labels are counted that mark a span of this type from this first to this last step, as `conlleval`
    reads tags. Their probabilities are the model's if it ends with a `CRF`. Otherwise each step has its label with its
    own probability, whatever those of the others are, and a sequence's is the product.

    Args:
        model: has an output for each step and label; masks no steps.
        data: finite values.
        spans: of these sequences; their classes index the types of the tags, sorted, as those of `find_spans` do.
        classes: the names of the labels, tags such as B-X, I-X and O.
        precision: of the weights, see `Sequential.evaluate`.

    Returns:
        (n_spans,) float64 from 0 to 1.
    """
    if not len(spans):
        return np.zeros(0)
    if decodes(model):
        network, scores = _without_crf(model)
        emissions = network.predict_rows(data, precision=precision)
    else:
        with np.errstate(divide="ignore"):
            emissions = np.log(model.predict_rows(data, precision=precision))
        labels = emissions.shape[1]
        scores = {"transitions": np.zeros((labels, labels)), "start": np.zeros(labels), "end": np.zeros(labels)}
    roles, kinds, _ = meaning_of(classes)
    breaks = span_breaks(roles[:, np.newaxis], kinds[:, np.newaxis], roles, kinds)
    return chain_probabilities(emissions, data.offsets, spans, kinds, breaks, **scores)


def _without_crf(model: Sequential) -> tuple[Sequential, Scores]:
    """The network whose outputs a model's CRF reads, and the CRF's scores."""
    layer = model.layers[-1]
    assert model.network is not None
    assert isinstance(layer, CRF)
    changes, known = model.network.changes, _cut.get(model.network)
    if known is None or known[0] != changes:
        config = {name: value for name, value in model.get_config().items() if name != "compile"}
        network = type(model).from_config(config | {"layers": config["layers"][:-1]}, draw=False)
        weights = model.get_weights()
        network.set_weights(weights[:-3])
        known = _cut[model.network] = changes, network, {**layer.scores(weights[-3:])}
    return known[1:]


def chain_probabilities(
    emissions: npt.ArrayLike,
    offsets: IndexArray,
    spans: Events,
    kinds: npt.NDArray[np.int64],
    breaks: npt.NDArray[np.bool_],
    *,
    transitions: npt.ArrayLike,
    start: npt.ArrayLike,
    end: npt.ArrayLike,
) -> Numbers:
    """The probabilities of spans, where that of a sequence of labels is the exponential of its score over their sum.

    Scores may be minus infinity: what has such a score never happens.

    Args:
        emissions: (total_steps, labels) the score of each label at each step.
        offsets: (n_sequences + 1,) where sequences begin and end, as in `Ragged`.
        spans: their classes are types.
        kinds: (labels,) the type of each label, -1 outside spans.
        breaks: (labels, labels) whether a span ends between a step with the row's label and the next with the column's.
        transitions: (labels, labels) the scores of transitions, from the row's label to the column's.
        start, end: (labels,) the scores of beginning and of ending with a label.

    Returns:
        (n_spans,) float64.
    """
    tables = [np.asarray(each, np.float64) for each in (transitions, start, end)]
    rows = np.asarray(emissions, np.float64)
    found = _Chain(_Scaled(), rows, offsets, *tables).probabilities(spans, kinds, breaks)
    lost = np.flatnonzero(~np.isfinite(found))
    if len(lost):  # what is possible is less probable than what is forbidden by more than a float can tell
        own = Events(*(getattr(spans, name)[lost] for name in ("sequences", "classes", "onsets", "offsets")))
        found[lost] = _Chain(_Logarithmic(), rows, offsets, *tables).probabilities(own, kinds, breaks)
    return np.minimum(found, 1)


class _Scaled:
    """Sums of exponentials, as they are: those of each step are divided by the largest of them."""

    def of(self, scores: Numbers) -> Numbers:
        most = scores.max(axis=-1, keepdims=True)
        return np.asarray(np.exp(scores - np.where(np.isfinite(most), most, 0)))

    def table(self, scores: Numbers, allowed: npt.NDArray[np.bool_] | None = None) -> Numbers:
        return np.where(True if allowed is None else allowed, np.exp(scores - scores.max()), 0)

    def times(self, one: Numbers, other: Numbers) -> Numbers:
        return one * other

    def through(self, rows: Numbers, table: Numbers) -> Numbers:
        # Not a product by BLAS, whose sums may depend on the number of rows.
        return np.asarray(np.einsum("ni,ij->nj", rows, table))

    def sums(self, rows: Numbers) -> Numbers:
        return np.asarray(np.einsum("ni->n", rows)[:, np.newaxis])

    def over(self, rows: Numbers, sums: Numbers) -> Numbers:
        return rows / sums

    def quotient(self, one: Numbers, other: Numbers) -> Numbers:
        return np.asarray((one / other)[:, 0])


class _Logarithmic:
    """The same with logarithms of sums, for scores whose exponentials are too far apart."""

    def of(self, scores: Numbers) -> Numbers:
        return scores

    def table(self, scores: Numbers, allowed: npt.NDArray[np.bool_] | None = None) -> Numbers:
        return np.where(True if allowed is None else allowed, scores, -np.inf)

    def times(self, one: Numbers, other: Numbers) -> Numbers:
        return one + other

    def through(self, rows: Numbers, table: Numbers) -> Numbers:
        return np.asarray(np.logaddexp.reduce(rows[:, :, np.newaxis] + table, axis=1))

    def sums(self, rows: Numbers) -> Numbers:
        return np.asarray(np.logaddexp.reduce(rows, axis=1)[:, np.newaxis])

    def over(self, rows: Numbers, sums: Numbers) -> Numbers:
        return rows - sums

    def quotient(self, one: Numbers, other: Numbers) -> Numbers:
        return np.asarray(np.exp(one - other)[:, 0])


class _Chain:
    """Forward and backward sums over all sequences of labels, each step's divided by their own sum."""

    def __init__(
        self,
        numbers: _Scaled | _Logarithmic,
        emissions: Numbers,
        offsets: IndexArray,
        transitions: Numbers,
        start: Numbers,
        end: Numbers,
    ) -> None:
        self._numbers, self._offsets, self._transitions = numbers, offsets, transitions
        self._emissions, self._start, self._end = (numbers.of(each) for each in (emissions, start, end))
        self._before, self._after = np.empty_like(emissions), np.empty_like(emissions)
        forward = numbers.table(transitions)
        backward = np.ascontiguousarray(forward.T)
        # All sequences at once, step by step; the longest first, so that those that have ended are the last.
        lengths = np.diff(offsets)
        order = np.argsort(-lengths, kind="stable")
        counts = _longer(lengths[order])
        firsts, lasts = offsets[:-1][order], offsets[1:][order] - 1
        times, through, over, sums = numbers.times, numbers.through, numbers.over, numbers.sums
        state = other = np.empty((0, emissions.shape[1]))
        with np.errstate(divide="ignore", invalid="ignore"):
            for step, count in enumerate(counts):
                rows, backs = firsts[:count] + step, lasts[:count] - step
                if step:
                    state = times(through(state[:count], forward), self._emissions[rows])
                    other = through(times(other[:count], self._emissions[backs + 1]), backward)
                else:
                    state = times(self._start, self._emissions[rows])
                    other = np.broadcast_to(self._end, state.shape)
                state, other = over(state, sums(state)), over(other, sums(other))
                self._before[rows], self._after[backs] = state, other

    def probabilities(self, spans: Events, kinds: npt.NDArray[np.int64], breaks: npt.NDArray[np.bool_]) -> Numbers:
        """See `chain_probabilities`: the share of all labels from the step before a span to the one after it."""
        times, through, over, sums = (getattr(self._numbers, name) for name in ("times", "through", "over", "sums"))
        order = np.argsort(spans.onsets - spans.offsets, kind="stable")  # the longest first
        sequences = spans.sequences[order]
        begins, ends = self._offsets[sequences], self._offsets[sequences + 1] - 1
        firsts, lasts = begins + spans.onsets[order], begins + spans.offsets[order]
        all_, apart = self._numbers.table(self._transitions), self._numbers.table(self._transitions, breaks)
        together, never = self._numbers.table(self._transitions, ~breaks), self._numbers.of(np.array([-np.inf]))
        inner, last = firsts > begins, lasts < ends
        whole = np.broadcast_to(self._start, (len(order), len(kinds))).copy()
        state = whole.copy()
        before = self._before[firsts[inner] - 1]
        whole[inner], state[inner] = through(before, all_), through(before, apart)
        whole = times(whole, self._emissions[firsts])
        own = kinds == spans.classes[order][:, np.newaxis]
        state = np.where(own, times(state, self._emissions[firsts]), never)
        with np.errstate(divide="ignore", invalid="ignore"):
            for step, count in enumerate(_longer(lasts - firsts + 1)):
                if step:
                    emissions = self._emissions[firsts[:count] + step]
                    state[:count] = times(through(state[:count], together), emissions)
                    whole[:count] = times(through(whole[:count], all_), emissions)
                total = sums(whole[:count])
                state[:count], whole[:count] = over(state[:count], total), over(whole[:count], total)
            state[~last], whole[~last] = times(state[~last], self._end), times(whole[~last], self._end)
            after = times(self._emissions[lasts[last] + 1], self._after[lasts[last] + 1])
            state[last] = times(through(state[last], apart), after)
            whole[last] = times(through(whole[last], all_), after)
            shares = self._numbers.quotient(sums(state), sums(whole))
        found = np.empty(len(order))
        found[order] = shares
        return found


def _longer(lengths: npt.NDArray[np.int64]) -> list[int]:
    """How many of some lengths, from the largest down, are more than 0, 1, 2 …"""
    steps = np.arange(int(lengths.max(initial=0)))
    counts: list[int] = np.searchsorted(-lengths, -steps, side="left").tolist()
    return counts
