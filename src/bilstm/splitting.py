"""Which sequences are held out to decide when training stops."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.ragged import IndexArray

MOST_HELD_OUT = 1000  # by itself: more tell one epoch from another no better, and are missing in training


def share_to_hold_out(wanted: float | None, sequences: int) -> float:
    """The share of so many sequences that was asked for; None: a tenth, but 1,000 sequences at most."""
    return min(0.1, MOST_HELD_OUT / max(1, sequences)) if wanted is None else wanted


def hold_out(
    labelled: npt.NDArray[np.bool_],
    share: float,
    *,
    seed: int,
    groups: Any = None,
    classes: npt.NDArray[np.int32] | None = None,
) -> tuple[IndexArray, IndexArray]:
    """Part n sequences by chance into those to train on and those held out.

    Args:
        labelled: (n,) whether a sequence has a label; others are not held out, unless their group is.
        share: of the labelled sequences, or of the groups, to hold out: at least one, and all but one at most.
        seed: the same seed parts them in the same way.
        groups: (n,) names; the sequences of a group stay together.
        classes: (n,) class numbers, of which each is held out in proportion; none whose class has no other sequence.

    Returns:
        The indices of both parts, ascending. Nothing is held out of one sequence.

    Raises:
        ValueError: there is one group only.
    """
    everything = np.arange(len(labelled))
    random = np.random.default_rng(seed)
    if groups is not None:
        names, group = np.unique(np.asarray(groups), return_inverse=True)
        if share and len(names) < 2:
            raise ValueError(
                f"groups has one group only, {str(names[0])!r}, so none can be held out; or set validation_split=0"
            )
        chosen = random.permutation(np.unique(group[labelled]))
        held_out = np.isin(group, chosen[: _count(share, len(chosen))])
        return everything[~held_out], everything[held_out]
    order = random.permutation(np.flatnonzero(labelled))
    if classes is not None:
        several = np.bincount(classes[order])[classes[order]] > 1
        order = order[several]
        order = order[np.argsort(classes[order], kind="stable")]
    count = _count(share, len(order))
    chosen = order[((np.arange(count) + 0.5) * len(order) / max(count, 1)).astype(np.int64)]
    return np.setdiff1d(everything, chosen), np.sort(chosen)


def _count(share: float, of: int) -> int:
    return max(0, min(max(1, round(share * of)), of - 1)) if share else 0
