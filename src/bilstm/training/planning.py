"""What a training consists of: how sequences are cut and batched, and for how many epochs at most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bilstm.models import Sequential
from bilstm.models.decoding import decodes
from bilstm.ragged import IndexArray
from bilstm.training.windows import Windows, windows_for

if TYPE_CHECKING:
    from bilstm.training.loop import LoopOptions

_STEPS_IN_BATCH = 3600
_UPDATES = 600  # at least, in all epochs together
_MOST_EPOCHS = 200
_POOL = 16  # batches sorted by length together


@dataclass(frozen=True)
class Plan:
    """How a training goes through its sequences.

    Attributes:
        windows: how sequences are cut.
        batch_size: sequences, or windows of long ones, in a training step.
        epochs: passes over all of them, at most.
    """

    windows: Windows
    batch_size: int
    epochs: int


def plan_training(model: Sequential, offsets: IndexArray, options: LoopOptions, *, times: float = 1.0) -> Plan:
    """What the options mean for a model and sequences.

    Args:
        model: if it returns a row for each sequence, or ends with a `CRF`, sequences are not cut.
        offsets: (n_sequences + 1,) where sequences begin and end.
        times: plan for this number of times as many sequences, of which these are a sample.

    Raises:
        ValueError: windows are asked for where sequences cannot be cut.
    """
    assert model.network is not None
    whole = model.network.one_row_each or decodes(model)
    if options.window and whole:
        raise ValueError(
            "windows are for a network that returns a row for each step, not for each sequence, and without a CRF"
        )
    windows = windows_for(offsets, options.window, options.stride, cut=not whole)
    count = max(1, round(times * windows.count))
    batch_size = options.batch_size or _default_batch_size(count, windows.steps / max(1, windows.count))
    return Plan(windows, batch_size, options.epochs or _default_epochs(count, batch_size))


def _default_batch_size(count: int, mean_length: float) -> int:
    # Little data: many updates an epoch all the same.
    most = min(64, max(32, count // 128), max(4, count // 8))
    return int(min(most, max(8, round(_STEPS_IN_BATCH / mean_length))))


def _default_epochs(count: int, batch_size: int) -> int:
    batches = -(-count // batch_size)
    return min(_MOST_EPOCHS, max(20, -(-_UPDATES // batches)))


def batches_by_length(lengths: IndexArray, batch_size: int, random: np.random.Generator) -> Iterator[IndexArray]:
    """Shuffled batches of sequences of similar length: within a pool of some batches, sorted by length.

    Args:
        lengths: (n,) steps of each sequence.

    Returns:
        Index arrays that together hold every sequence once.
    """
    order = random.permutation(len(lengths)).astype(np.int64)
    batches = []
    for start in range(0, len(order), batch_size * _POOL):
        pool = order[start : start + batch_size * _POOL]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    for position in random.permutation(len(batches)):
        yield batches[position]
