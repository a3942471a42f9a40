"""How much past and future context a model uses at a time step, measured by replacing the rest.

A sequence is cut at a random step, and everything before the cut is replaced by the beginnings of other sequences (as
many steps, at most `WASHED_OUT`). The step at the cut is then predicted without any of its own past, the next one with
one step of it, the one after with two, and so on: one altered sequence shows the effect of every amount of past. The
future is replaced in the same way, by the ends of other sequences. Scores are compared with those of the same steps in
the sequence as it was.

Replacements are real stretches of other sequences, since noise would confuse the network rather than leave it
uninformed. After "permutation importance": Breiman, "Random Forests" (2001), section 10.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bilstm.data.dataset import Dataset, Truth
from bilstm.metrics.counts import Counts
from bilstm.metrics.intervals import FEWEST_CLUSTERS, RESAMPLES, intervals
from bilstm.ragged import FloatArray, IndexArray, Ragged
from bilstm.tasks import LabelTask, Outputs, QuantityTask, Task

FURTHEST = 512  # steps of context that are distinguished
WASHED_OUT = 300  # steps of other sequences after which a network has forgotten what came before them
MOST_STEPS = 300_000  # to predict, for each side
MOST_CUTS = 2_000
FEWEST = 30  # cuts needed for each amount of context
NEARLY_ALL = 0.9  # of what a side is worth

Side = Literal["past", "future"]
SIDES: tuple[Side, ...] = ("past", "future")
Predict = Callable[[Ragged], Outputs]
Scores = npt.NDArray[np.float64]


def step_scores(task: Task, truth: Truth, outputs: Outputs) -> Scores:
    """(rows,) how good predictions are, NaN for unlabelled rows; higher is better.

    Labels: 1 if right, 0 if wrong; several labels: the share of the labels that is right; quantities: minus the mean
    absolute error, in standard deviations of the training set.
    """
    if isinstance(task, LabelTask):
        scores = (outputs.labels == truth).astype(np.float64)
    elif isinstance(task, QuantityTask):
        scores = -(abs(task.predicted(outputs) - truth) / task.scale).mean(axis=1)
    else:
        scores = ((outputs.values > 0.5) == truth).mean(axis=1)
    return np.where(task.labelled(truth), scores, np.nan)


@dataclasses.dataclass(frozen=True)
class Cuts:
    """Where sequences are cut to take one side away.

    Attributes:
        sequences, steps: (cuts,) the sequence, in ascending order, and the step within it.
        intact: for each cut the scores with full context: of the step at the cut, of the next on its other side, …
    """

    sequences: IndexArray
    steps: IndexArray
    intact: list[Scores]


class ContextReach:
    """Measures the context that predictions of time steps need, while the outputs of all sequences pass by in chunks.

    Args:
        task: a task of time steps.
        data: the sequences, with their true answers.
        seed: chooses where sequences are cut, and what replaces their steps.
    """

    def __init__(self, task: Task, data: Dataset, seed: int = 0) -> None:
        self._task, self._data = task, data
        self._rng = np.random.default_rng([seed, 2])
        self._cuts = {side: _choose_cuts(side, data.values, self._rng) for side in SIDES}

    def add(self, sequences: slice, rows: slice, outputs: Outputs) -> None:
        """Take the outputs of the next sequences; `rows` are their steps."""
        for side, cuts in self._cuts.items():
            chosen = slice(*np.searchsorted(cuts.sequences, [sequences.start, sequences.stop]).tolist())
            for sequence, cut in zip(cuts.sequences[chosen], cuts.steps[chosen], strict=True):
                steps = self._steps(side, sequence, cut)
                cuts.intact.append(step_scores(self._task, self._data.known[steps], outputs[steps - rows.start]))

    def report(self, predict: Predict) -> dict[str, Any]:
        """Measure, once all sequences have passed.

        Args:
            predict: the outputs of the network for any sequences.

        Returns:
            Plain data, for "past" and "future": "cuts", their number; "known", by amount of context, a list of "from"
            and "to" (the steps of that side that are known), "steps", their "score" (the mean of `step_scores`), the
            "intact" score of the same steps with full context, and "lost", the difference, with its 95 % "interval"
            (None with fewer than three sequences or groups); "worth": what is lost without that side; "reach": the
            fewest steps from which on nine tenths of the worth are retained, 0 where it is worth nothing (0 lies
            within its interval), None where more steps than were measured are needed. None for a side where no
            sequence has a second step.
        """
        return {side: self._measure(side, predict) for side in SIDES}

    def _steps(self, side: Side, sequence: int, cut: int) -> IndexArray:
        """The step at a cut, which has nothing of the side, and those with more and more of it."""
        start, stop = self._data.values.offsets[sequence], self._data.values.offsets[sequence + 1]
        here = start + cut
        known = min(FURTHEST, (stop - 1 - here) if side == "past" else cut)
        return np.arange(here, here + known + 1) if side == "past" else np.arange(here, here - known - 1, -1)

    def _measure(self, side: Side, predict: Predict) -> dict[str, Any] | None:
        data, cuts = self._data, self._cuts[side]
        if not len(cuts.steps):
            return None
        positions = list(zip(cuts.sequences.tolist(), cuts.steps.tolist(), strict=True))
        altered = [_altered(side, data.values, *position, self._rng) for position in positions]
        batch = Ragged.from_sequences([steps for steps, _ in altered]).with_words(data.values.words)
        outputs = predict(batch)
        edges = _edges(int(data.values.lengths.max()))
        sums = np.zeros((3, len(positions), len(edges) - 1))  # steps, their scores, and their scores with full context
        for number, (position, (_, at), intact) in enumerate(zip(positions, altered, cuts.intact, strict=True)):
            steps = self._steps(side, *position)
            here = batch.offsets[number] + at + steps - steps[0]
            scores = step_scores(self._task, data.known[steps], outputs[here])
            scored = ~np.isnan(scores)
            amounts = np.searchsorted(edges, np.arange(len(steps)), side="right")[scored] - 1
            for row, weights in enumerate((scored[scored], scores[scored], intact[scored])):
                sums[row, number] = np.bincount(amounts, weights, minlength=len(edges) - 1)
        clusters = cuts.sequences if data.groups is None else data.groups[cuts.sequences]
        return _summed(sums, clusters, edges)


def _choose_cuts(side: Side, values: Ragged, rng: np.random.Generator) -> Cuts:
    """Random steps that have something before them or, for the future, after them."""
    before = values.offsets - np.arange(len(values) + 1)  # the steps that qualify, in the sequences before each
    most = min(MOST_CUTS, int(before[-1]))
    chosen = rng.choice(before[-1], most, replace=False) if most else np.zeros(0, np.int64)
    sequences = np.searchsorted(before, chosen, side="right") - 1
    steps = chosen - before[sequences] + (side == "past")
    remaining = values.lengths[sequences] - 1 - steps
    lost, kept = (steps, remaining) if side == "past" else (remaining, steps)
    sizes = np.minimum(lost, WASHED_OUT) + np.minimum(kept + 1, 2 * FURTHEST)
    within = slice(max(1, int((np.cumsum(sizes) <= MOST_STEPS).sum())))
    order = np.argsort(sequences[within], kind="stable")
    return Cuts(sequences[within][order], steps[within][order], [])


def _altered(side: Side, values: Ragged, sequence: int, cut: int, rng: np.random.Generator) -> tuple[FloatArray, int]:
    """The sequence with one side of a step replaced, and where that step is now."""
    own = values[sequence]
    if side == "past":
        instead = steps_of_others(values, sequence, min(cut, WASHED_OUT), rng, "start")
        return np.concatenate([instead, own[cut : cut + 2 * FURTHEST]]), len(instead)
    instead = steps_of_others(values, sequence, min(len(own) - 1 - cut, WASHED_OUT), rng, "end")
    kept = own[max(0, cut + 1 - 2 * FURTHEST) : cut + 1]
    return np.concatenate([kept, instead]), len(kept) - 1


def steps_of_others(
    values: Ragged, sequence: int, count: int, rng: np.random.Generator, where: Literal["start", "end", "any"]
) -> FloatArray:
    """(count, features) steps from the starts, the ends or any part of other sequences than this one."""
    if len(values) == 1:  # then from elsewhere in this one
        own = values[0]
        return np.roll(own, int(rng.integers(1, max(2, len(own)))), axis=0)[:count]
    chunks: list[FloatArray] = [values.values[:0]]
    while missing := count - sum(map(len, chunks)):
        other = int(rng.integers(len(values) - 1))
        steps = values[other + (other >= sequence)]
        spare = max(0, len(steps) - missing)
        start = {"start": 0, "end": spare, "any": int(rng.integers(spare + 1)) if where == "any" else 0}[where]
        chunks.append(steps[start : start + missing])
    return np.concatenate(chunks[::-1] if where == "end" else chunks)


def _edges(longest: int) -> npt.NDArray[np.int64]:
    """Amounts of context: 0, 1, 2, then 3 to 4, 5 to 8 … The first of each, and one more than the last."""
    ends = [0, 1, 2]
    while ends[-1] < min(longest - 1, FURTHEST):
        ends.append(2 * ends[-1])
    return np.array([0, *(end + 1 for end in ends)], np.int64)


def _summed(sums: Scores, clusters: IndexArray, edges: npt.NDArray[np.int64]) -> dict[str, Any]:
    """The results for one side, from (3, cuts, amounts) sums and the sequence or group of each cut."""
    enough = int((np.cumprod((sums[0] > 0).sum(axis=0) >= FEWEST)).sum()) or 1
    _, numbers = np.unique(clusters, return_inverse=True)
    by_cluster = np.zeros((3, numbers.max() + 1, enough))
    for row in range(3):
        np.add.at(by_cluster[row], numbers, sums[row, :, :enough])
    steps, altered, intact = by_cluster
    ends = None
    if len(steps) >= FEWEST_CLUSTERS:
        lost = {"lost": lambda sums: sums.recall}
        ends = intervals(Counts(intact - altered, steps, steps), lost, level=0.95, resamples=RESAMPLES, seed=0)["lost"]
    totals = by_cluster.sum(axis=1)
    known: list[dict[str, Any]] = [
        {
            "from": int(edges[amount]),
            "to": int(edges[amount + 1]) - 1,
            "steps": int(totals[0, amount]),
            "score": float(totals[1, amount] / totals[0, amount]),
            "intact": float(totals[2, amount] / totals[0, amount]),
            "lost": float((totals[2, amount] - totals[1, amount]) / totals[0, amount]),
            "interval": None if ends is None else ends[amount].tolist(),
        }
        for amount in range(enough)
        if totals[0, amount]
    ]
    if not known:
        return {"cuts": len(clusters), "known": [], "worth": 0.0, "reach": 0}
    worth = known[0]["lost"]
    doubtful = known[0]["interval"] is not None and known[0]["interval"][0] <= 0
    return {"cuts": len(clusters), "known": known, "worth": worth, "reach": 0 if doubtful else _reach(known, worth)}


def _reach(known: list[dict[str, Any]], worth: float) -> int | None:
    """The fewest steps of context with which, as with any more, nearly nothing is lost."""
    if worth <= 0:
        return 0
    reach = None
    for amount in reversed(known):
        if amount["lost"] > (1 - NEARLY_ALL) * worth:
            break
        reach = amount["to"]
    return reach
