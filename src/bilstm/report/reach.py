"""How far into the past and the future a tagger looks, measured by taking the rest away.

A sequence is cut at a step chosen at random, and everything before it is replaced by the beginnings of other sequences
of the table (as many steps, at most `WASHED_OUT`). The step at the cut is then labelled without any of its own past,
the next one with one step of it, the one after with two, and so on: one altered sequence tells of every amount of past
alike. The future is taken away likewise, by the ends of other sequences. The same steps as they were are the measure.

What is replaced by real stretches of other sequences still looks like data to the network; noise would not, and it
would be confused rather than uninformed. After "permutation importance": Breiman, "Random Forests" (2001), section 10.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bilstm.data.columns import Encoded
from bilstm.metrics.counts import Counts
from bilstm.metrics.intervals import RESAMPLES, intervals
from bilstm.ragged import FloatArray, Ragged

FURTHEST = 512  # steps of context that are told apart
WASHED_OUT = 300  # steps of other sequences after which nothing that was before them is left in a network
MOST_STEPS = 300_000  # to predict, for each side
MOST_CUTS = 2_000
FEWEST = 30  # cuts that tell of an amount of context
NEARLY_ALL = 0.9  # of what a side is worth

Side = Literal["past", "future"]
Predict = Callable[[Ragged], npt.NDArray[np.int64]]


def context_reach(predict: Predict, encoded: Encoded, *, seed: int = 0) -> dict[str, Any]:
    """Measure how much context predictions need.

    Args:
        predict: (total_steps,) the class of each step, of any sequences of that kind.
        encoded: labelled sequences.
        seed: chooses where sequences are cut, and by what the rest is replaced.

    Returns:
        Plain data, for "past" and "future" each: "cuts", how many there were; "known", by amount of context, a list of
        "from" and "to" (so many steps of that side are left), "steps", "accuracy" with them, "intact", that of the same
        steps with everything, and "lost", the difference, with its 95 % "interval" (None with fewer than two
        sequences); "worth": what is lost without any context of that side; "reach": the fewest steps from which on
        nine tenths of that worth are there, 0 where it is worth nothing (0 is within its interval), None where more
        than were measured are needed. None instead of all this where no sequence has a second step.
    """
    intact = predict(encoded.values)
    sides: tuple[Side, ...] = ("past", "future")
    return {side: _measure(side, predict, encoded, intact, np.random.default_rng([seed, 2])) for side in sides}


def _measure(
    side: Side, predict: Predict, encoded: Encoded, intact: npt.NDArray[np.int64], rng: np.random.Generator
) -> dict[str, Any] | None:
    values, labels = encoded.values, encoded.labels
    cuts = _cuts(side, values, rng)
    if not len(cuts):
        return None
    altered, judged = [], []
    for sequence, cut in cuts:
        steps, first = _altered(side, values, sequence, cut, rng)
        altered.append(steps)
        judged.append(first)
    batch = Ragged.from_sequences(altered)
    predicted = predict(batch)
    edges = _edges(int(values.lengths.max()))
    sums = np.zeros((3, len(cuts), len(edges) - 1))  # steps, those that are right, and would be
    for number, (sequence, cut) in enumerate(cuts):
        there = values.offsets[sequence] + cut  # with no context of this side; then those with more and more
        here = batch.offsets[number] + judged[number]
        known = min(FURTHEST, (values.lengths[sequence] - 1 - cut) if side == "past" else cut)
        away = np.arange(known + 1) * (1 if side == "past" else -1)
        truth = labels[there + away]
        scored, places = truth >= 0, np.searchsorted(edges, np.arange(known + 1), side="right") - 1
        for row, marks in enumerate((scored, predicted[here + away] == truth, intact[there + away] == truth)):
            sums[row, number] = np.bincount(places[scored], marks[scored], minlength=len(edges) - 1)
    return _summed(sums, np.array([sequence for sequence, _ in cuts]), edges)


def _cuts(side: Side, values: Ragged, rng: np.random.Generator) -> list[tuple[int, int]]:
    """(sequence, step) pairs: any step that has something before it or, for the future, after it."""
    within = np.arange(values.total_steps) - np.repeat(values.offsets[:-1], values.lengths)
    remaining = np.repeat(values.lengths, values.lengths) - 1 - within
    chosen = rng.permutation(np.flatnonzero(within if side == "past" else remaining))[:MOST_CUTS]
    lost, kept = (within, remaining) if side == "past" else (remaining, within)
    size = np.minimum(lost[chosen], WASHED_OUT) + np.minimum(kept[chosen] + 1, 2 * FURTHEST)
    chosen = chosen[: max(1, int((np.cumsum(size) <= MOST_STEPS).sum()))]
    sequences = np.searchsorted(values.offsets, chosen, side="right") - 1
    return list(zip(sequences.tolist(), within[chosen].tolist(), strict=True))


def _altered(side: Side, values: Ragged, sequence: int, cut: int, rng: np.random.Generator) -> tuple[FloatArray, int]:
    """The sequence with one side of a step replaced, and where that step is now."""
    own = values[sequence]
    if side == "past":
        instead = _of_others(values, sequence, min(cut, WASHED_OUT), rng)
        return np.concatenate([instead, own[cut : cut + 2 * FURTHEST]]), len(instead)
    count = min(len(own) - 1 - cut, WASHED_OUT)
    instead = _of_others(values, sequence, count, rng, ends=True)
    kept = own[max(0, cut + 1 - 2 * FURTHEST) : cut + 1]
    return np.concatenate([kept, instead]), len(kept) - 1


def _of_others(
    values: Ragged, sequence: int, count: int, rng: np.random.Generator, *, ends: bool = False
) -> FloatArray:
    """(count, features) of the beginnings of other sequences, or of their ends."""
    if len(values) == 1:  # then from elsewhere in this one
        own = values[0]
        return np.roll(own, len(own) // 2, axis=0)[:count]
    found: list[FloatArray] = []
    while sum(map(len, found)) < count:
        other = int(rng.integers(len(values) - 1))
        found.append(values[other + (other >= sequence)])
    joined = np.concatenate(found)
    return joined[len(joined) - count :] if ends else joined[:count]


def _edges(longest: int) -> npt.NDArray[np.int64]:
    """Amounts of context: 0, 1, 2, then 3 to 4, 5 to 8 … The first of each, and one more than the last."""
    ends = [0, 1, 2]
    while ends[-1] < min(longest - 1, FURTHEST):
        ends.append(2 * ends[-1])
    return np.array([0, *(end + 1 for end in ends)], np.int64)


def _summed(
    sums: npt.NDArray[np.float64], sequences: npt.NDArray[np.int64], edges: npt.NDArray[np.int64]
) -> dict[str, Any]:
    """What `context_reach` tells of one side, from (3, cuts, amounts) sums and the sequence of each cut."""
    enough = int((np.cumprod((sums[0] > 0).sum(axis=0) >= FEWEST)).sum()) or 1
    _, units = np.unique(sequences, return_inverse=True)
    by_unit = np.zeros((3, units.max() + 1, enough))
    for row in range(3):
        np.add.at(by_unit[row], units, sums[row, :, :enough])
    steps, right, would_be = by_unit
    ends = None
    if len(steps) > 1:
        counts = Counts(would_be - right, steps, steps)
        lost = {"lost": lambda counts: counts.recall}
        ends = intervals(counts, lost, level=0.95, resamples=RESAMPLES, seed=0)["lost"]
    totals = by_unit.sum(axis=1)
    known: list[dict[str, Any]] = [
        {
            "from": int(edges[place]),
            "to": int(edges[place + 1]) - 1,
            "steps": int(totals[0, place]),
            "accuracy": float(totals[1, place] / totals[0, place]),
            "intact": float(totals[2, place] / totals[0, place]),
            "lost": float((totals[2, place] - totals[1, place]) / totals[0, place]),
            "interval": None if ends is None else ends[place].tolist(),
        }
        for place in range(enough)
        if totals[0, place]
    ]
    if not known:
        return {"cuts": len(sequences), "known": [], "worth": 0.0, "reach": 0}
    worth = known[0]["lost"]
    doubtful = known[0]["interval"] is not None and known[0]["interval"][0] <= 0
    return {"cuts": len(sequences), "known": known, "worth": worth, "reach": 0 if doubtful else _reach(known, worth)}


def _reach(known: list[dict[str, Any]], worth: float) -> int | None:
    """The fewest steps of context that leave nearly nothing lost, with them and with any more."""
    if worth <= 0:
        return 0
    reach = None
    for amount in reversed(known):
        if amount["lost"] > (1 - NEARLY_ALL) * worth:
            break
        reach = amount["to"]
    return reach
