"""Truncated backpropagation: sequences are trained on chunk by chunk, and recurrent states go from one to the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from bilstm.engine.network import DIVERGED, Network
from bilstm.layers import Layer
from bilstm.models.fitting import FitData, Scores
from bilstm.optimizers import Optimizer
from bilstm.ragged import IndexArray, offsets_of


def check_truncation(layers: Sequence[Layer]) -> None:
    """Refuse layers that cannot continue with the next chunk of a sequence.

    Raises:
        ValueError: a layer needs its whole sequence, or makes one row of it; the message names it.
    """
    for layer in layers:
        if layer.needs_whole_sequence:
            raise ValueError(
                f"fit: truncate cuts sequences into chunks, but {layer!r} needs its whole sequence: only layers that "
                f"read forward and keep what they know in a state can continue with the next chunk"
            )
        if not layer.returns_rows_per_step():
            raise ValueError(
                f"fit: truncate trains on the labels of each chunk's steps, but {layer!r} returns one row for each "
                f"sequence"
            )


def train_in_chunks(
    network: Network,
    training: FitData,
    chosen: IndexArray,
    starts: IndexArray,
    steps: int,
    *,
    loss: str,
    optimizer: Optimizer,
    seed: int,
) -> Scores:
    """A training step for each chunk of at most `steps` steps of a batch's sequences, the first chunks first.

    Gradients go back to a chunk's first step, and no further. A chunk without labels teaches nothing, but has states.

    Args:
        chosen, starts: batch i is the sequences chosen[starts[i]:starts[i + 1]].

    Returns:
        (batches, 5) the sums of the chunks' scores; see `Network.train`. Training stops at a loss that is not finite,
        which is then NaN, before it changes any weight.
    """
    scores = np.zeros((len(starts) - 1, 5))
    for total, (begin, end) in zip(scores, pairwise(starts), strict=True):
        batch = chosen[begin:end]
        longest = int(training.data.lengths[batch].max(initial=0))
        states = np.zeros((len(batch), network.state_width), np.float32)
        for start, alive, rows, lengths in _chunks(training.data.offsets, batch, steps):
            own = states[alive]  # which becomes those after the chunk
            score = network.gradient(
                training.data.take_steps(rows, offsets_of(lengths)),
                training.targets.take(rows),
                loss,
                training=True,
                seed=seed,
                states=own if start else None,
                states_out=own if start + steps < longest else None,
            )
            states[alive] = own
            total += score
            if not abs(score[0]) < DIVERGED:
                total[0] = np.nan
                return scores
            if score[1]:
                network.update(optimizer.plan(network.iteration if optimizer.scheduled else 0))
    return scores


def _chunks(
    offsets: IndexArray, batch: IndexArray, steps: int
) -> Iterator[tuple[int, IndexArray, IndexArray, IndexArray]]:
    """For each chunk: its first step, which sequences of the batch have it, its rows in the data, and its lengths."""
    starts, ends = offsets[batch], offsets[batch + 1]
    for start in range(0, int((ends - starts).max(initial=0)), steps):
        alive = np.flatnonzero(ends - starts > start)
        first = starts[alive] + start
        last = np.minimum(first + steps, ends[alive])
        rows = np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)])
        yield start, alive, rows, last - first
