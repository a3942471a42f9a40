"""Which sequences, or which blocks of time of long ones, are set aside for validation and for testing."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.ragged import IndexArray, offsets_of, steps_between

MOST_SET_ASIDE = 1000  # by default: more tell one epoch from another no better, and are missing in training
MOST_BLOCKS = 20  # of time in the validation set: each costs the training set two gaps
FEWEST_LABELS = 500  # of sequences with one label each: a tenth are 50, and fewer can hardly show which epoch is better


@dataclasses.dataclass(frozen=True)
class Division:
    """What is trained on, validated on and tested on: whole sequences or ranges of their steps.

    Attributes:
        starts, stops: (n,) a range is the steps from its start up to its stop, counted through all sequences. Those of
            the training set come first, then those of the validation set, then those of the test set; each ascending.
        sequences: (n,) the sequence that each range belongs to.
        counts: the number of ranges in the training, validation and test set.
        gap_steps: steps that are left out, since they are too near to steps of another set.
        blocks: whether the ranges are blocks of time, rather than whole sequences.
    """

    starts: IndexArray
    stops: IndexArray
    sequences: IndexArray
    counts: tuple[int, int, int]
    gap_steps: int = 0
    blocks: bool = False

    @property
    def parts(self) -> list[slice]:
        """The ranges of the training, validation and test set."""
        bounds = offsets_of(self.counts).tolist()
        return [slice(start, stop) for start, stop in itertools.pairwise(bounds)]


def divide(
    labelled: npt.NDArray[np.bool_],
    offsets: IndexArray,
    shares: tuple[float, float],
    *,
    seed: int,
    groups: Any = None,
    classes: npt.NDArray[np.int32] | None = None,
) -> Division:
    """Divide sequences into training, validation and test set; see `split`.

    Args:
        offsets: (n + 1,) where the steps of each sequence begin and end.
        shares: of the labelled sequences, or of the groups, for the validation and the test set.
    """
    sets = _sets(labelled, shares, seed, groups, classes)
    order = np.concatenate(sets)
    counts = (len(sets[0]), len(sets[1]), len(sets[2]))
    return Division(offsets[order], offsets[order + 1], order, counts)


def divide_time(
    labelled: npt.NDArray[np.bool_], offsets: IndexArray, shares: tuple[float, float], gap: int, *, seed: int
) -> Division:
    """Divide the time of a few long sequences into training, validation and test set.

    Sequences are cut into equal blocks of at least two gaps (unless that leaves no block), some of which are set aside
    at random; blocks of one set that follow each other become one. Between two sets at least `gap` steps are left out:
    those of the training set around both others, and those of the validation set around the test set. What is left for
    training between two gaps is left out as well if it is shorter than a gap.

    Args:
        labelled: (steps,) whether a step has a label; blocks without any are not set aside.
        offsets: (n + 1,) where the steps of each sequence begin and end.
        shares: of the steps, for the validation and the test set.
        gap: steps that are left out between two sets.
    """
    total, share = int(offsets[-1]), sum(shares)
    of_each = sum(0 < each for each in shares)
    count = min(max(of_each, int(share * total / (2 * gap))), of_each * MOST_BLOCKS)
    starts, stops, sequence = _equal_blocks(offsets, count / share)
    sets = _sets(np.logical_or.reduceat(labelled, starts), shares, seed)
    of_step = np.zeros(total, np.int64)
    for number, blocks in enumerate(sets):
        of_step[steps_between(starts[blocks], stops[blocks])] = number
    near = np.zeros(total, np.bool_)  # to a set that comes after the step's own
    for number, blocks in enumerate(sets):
        change = np.zeros(total + 1, np.int64)
        np.add.at(change, np.maximum(starts[blocks] - gap, offsets[sequence[blocks]]), 1)
        np.add.at(change, np.minimum(stops[blocks] + gap, offsets[sequence[blocks] + 1]), -1)
        near |= (change[:-1].cumsum() > 0) & (of_step < number)
    of_step[near] = -1
    return _ranges(of_step, offsets, gap)


def _equal_blocks(offsets: IndexArray, count: float) -> tuple[IndexArray, IndexArray, IndexArray]:
    """Equal blocks, about `count` in all and at least one of each sequence: their starts, stops and sequences."""
    lengths = np.diff(offsets)
    numbers = np.clip(np.rint(lengths * count / offsets[-1]).astype(np.int64), 1, lengths)
    sequence = np.repeat(np.arange(len(lengths)), numbers)
    within = np.arange(len(sequence)) - np.repeat(offsets_of(numbers)[:-1], numbers)
    starts = offsets[sequence] + within * lengths[sequence] // numbers[sequence]
    return starts, np.append(starts[1:], offsets[-1]), sequence


def _ranges(of_step: IndexArray, offsets: IndexArray, shortest: int) -> Division:
    """The steps that stand together and are of one set.

    Args:
        of_step: (steps,) the number of each step's set, -1 for none.
        shortest: a shorter part of a sequence is not trained on.
    """
    changes = np.diff(of_step, prepend=-2) != 0
    changes[offsets[:-1]] = True
    starts = np.flatnonzero(changes)
    stops, of_range = np.append(starts[1:], len(of_step)), of_step[starts]
    sequence = np.searchsorted(offsets, starts, "right") - 1
    lengths = stops - starts
    of_range[(of_range == 0) & (lengths < np.minimum(shortest, np.diff(offsets)[sequence]))] = -1
    order = np.argsort(of_range, kind="stable")
    order = order[of_range[order] >= 0]
    training, validation, test = (int((of_range == number).sum()) for number in range(3))
    left_out = len(of_step) - int(lengths[order].sum())
    return Division(starts[order], stops[order], sequence[order], (training, validation, test), left_out, blocks=True)


def _sets(
    labelled: npt.NDArray[np.bool_],
    shares: tuple[float, float],
    seed: int,
    groups: Any = None,
    classes: npt.NDArray[np.int32] | None = None,
) -> tuple[IndexArray, IndexArray, IndexArray]:
    """The indices of what is for training, validation and testing, each ascending."""
    training, aside = split(labelled, sum(shares), seed=seed, groups=groups, classes=classes)
    if not all(shares):
        nothing = np.zeros(0, np.int64)
        return (training, nothing, aside) if shares[1] else (training, aside, nothing)
    own = None if groups is None else np.asarray(groups)[aside]
    validation, test = split(labelled[aside], shares[1] / sum(shares), seed=seed, groups=own)
    return training, aside[validation], aside[test]


def default_share(share: float | None, sequences: int, one_label_each: bool = False) -> float:
    """The share of sequences for the validation set: as asked for, or by default a tenth, but at most 1,000 sequences.

    Args:
        share: as asked for; None: the default.
        one_label_each: whether a sequence has one label only; then fewer than 500 are all trained on by default.
    """
    if share is not None:
        return share
    return 0.0 if one_label_each and sequences < FEWEST_LABELS else min(0.1, MOST_SET_ASIDE / max(1, sequences))


def split(
    labelled: npt.NDArray[np.bool_],
    share: float,
    *,
    seed: int,
    groups: Any = None,
    classes: npt.NDArray[np.int32] | None = None,
) -> tuple[IndexArray, IndexArray]:
    """Divide n sequences at random into those to train on and those set aside.

    Args:
        labelled: (n,) whether a sequence has a label; others are not set aside, unless their group is.
        share: of the labelled sequences, or of the groups, to set aside: at least one, and all but one at most.
        seed: the same seed gives the same division.
        groups: (n,) names or codes; the sequences of a group stay together.
        classes: (n,) class numbers, of which each is set aside in proportion; none whose class has no other sequence.

    Returns:
        The indices of both parts, ascending. Nothing is set aside of one sequence.
    """
    everything = np.arange(len(labelled))
    random = np.random.default_rng(seed)
    if groups is not None:
        codes = np.unique(np.asarray(groups), return_inverse=True)[1]
        chosen = random.permutation(np.unique(codes[labelled]))
        aside = np.isin(codes, chosen[: _count(share, len(chosen))])
        return everything[~aside], everything[aside]
    order = random.permutation(np.flatnonzero(labelled))
    if classes is not None:
        several = np.bincount(classes[order])[classes[order]] > 1
        order = order[several]
        order = order[np.argsort(classes[order], kind="stable")]
        count = _count(share, len(order))
        order = order[((np.arange(count) + 0.5) * len(order) / max(count, 1)).astype(np.int64)]
    chosen = order[: _count(share, len(order))] if classes is None else order
    return np.setdiff1d(everything, chosen, assume_unique=True), np.sort(chosen)


def _count(share: float, of: int) -> int:
    return max(0, min(max(1, round(share * of)), of - 1)) if share else 0
