"""Which sequences are set aside for validation."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.ragged import IndexArray

MOST_SET_ASIDE = 1000  # by default: more tell one epoch from another no better, and are missing in training
FEWEST_LABELS = 500  # of sequences with one label each: a tenth are 50, and fewer can hardly show which epoch is better


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
    return np.setdiff1d(everything, chosen), np.sort(chosen)


def _count(share: float, of: int) -> int:
    return max(0, min(max(1, round(share * of)), of - 1)) if share else 0
