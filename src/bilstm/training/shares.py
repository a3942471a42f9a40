"""A training step and a validation that several workers divide among them, with the results of one, to the last bit."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np

from bilstm.engine.network import DIVERGED, Network
from bilstm.models import Sequential
from bilstm.models.fitting import FitData, Scores
from bilstm.ragged import IndexArray
from bilstm.training.communicator import Communicator
from bilstm.training.windows import WindowSource

_PARTS, _FEWEST_SEQUENCES = 8, 32  # of a validation set, and in each
_MUCH, _SHORT = 0.5, 1.0  # a share of an epoch, and seconds of an epoch too short to matter


def train_shares(model: Sequential, source: WindowSource, batch: IndexArray, communicator: Communicator) -> Scores:
    """One training step on a batch of windows, whose shares are dealt out to the workers.

    Args:
        batch: the windows' indices, the same on each worker.

    Returns:
        (5,) the batch's scores, as `Network.train` returns them: with a loss of NaN, no weight has changed.
    """
    network, optimizer = model.network, model.optimizer
    assert network is not None
    assert optimizer is not None
    assert model.loss is not None
    labelled = source.count_labelled(batch, network.one_row_each)
    if not labelled:
        return np.zeros(5)
    network.recompute = model.recompute
    shares = network.divide(source.lengths[batch])
    numbers = range(communicator.rank, len(shares), communicator.size)
    own = [shares[number] for number in numbers]
    positions = np.concatenate([np.zeros(0, np.int64), *own])
    part = source.batch(batch[positions])
    bounds = np.cumsum([0, *map(len, own)])
    chosen = [part.chosen[begin:end] for begin, end in pairwise(bounds)]
    scores, magnitude = network.gradient_of_shares(
        part.data, part.targets, chosen, own, labelled, model.loss, training=True, seed=model.seed
    )
    # One exchange tells each worker all scores, of which it has its own only, and the largest magnitude.
    exchanged = np.full((len(shares) + 1, 5), -np.inf)
    exchanged[list(numbers)] = np.where(np.isnan(scores), np.inf, scores)
    exchanged[-1] = magnitude
    exchanged = communicator.maximum(exchanged)
    total = np.zeros(5)
    for score in exchanged[:-1]:  # as the engine adds them
        total = total + score
    if not abs(total[0]) < DIVERGED:
        total[0] = math.nan
        return total
    sums = communicator.sum(network.sum_of_shares(len(shares), float(exchanged[-1, 0])))
    network.write(sums.astype(np.float32), "gradients")
    network.update(optimizer.plan(network.iteration if optimizer.scheduled else 0))
    return total


def score_parts(model: Sequential, validation: FitData, communicator: Communicator) -> Scores:
    """What `Sequential.score` returns, with the validation set's parts dealt out to the workers.

    The parts, and the order in which their sums are added, are the same for any number of workers.
    """
    parts = divide_validation(validation.data.lengths[validation.chosen])
    scores = np.zeros((len(parts), 5))
    for number in range(communicator.rank, len(parts), communicator.size):
        scores[number] = model.score(replace(validation, chosen=validation.chosen[parts[number]]))
    total = np.zeros(5)
    for score in communicator.sum(scores):
        total = total + score
    return total


def divide_validation(lengths: IndexArray) -> list[slice]:
    """Parts of about as many steps each, by the sequences' lengths alone."""
    count = min(_PARTS, max(1, len(lengths) // _FEWEST_SEQUENCES))
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    cuts = np.searchsorted(ends, [total * part // count for part in range(1, count)]).tolist()
    bounds = sorted({0, *cuts, len(lengths)})
    return [slice(begin, end) for begin, end in pairwise(bounds)]


def idle_workers(network: Network, batch_size: int, communicator: Communicator) -> str | None:
    """A note if some workers have no share of a batch of this number of sequences."""
    workers = communicator.size
    if workers == 1 or (busy := len(network.divide(np.ones(batch_size, np.int64)))) >= workers:
        return None
    return (
        f"a batch of {batch_size:,} sequences has work for {busy} of the {workers} workers, one for every 16 sequences "
        f"and 8 at most: larger batches (batch_size) or fewer workers make better use of them"
    )


def slow_exchanges(exchanging: float, seconds: float) -> str | None:
    """A note if workers wait for each other most of the time.

    Args:
        exchanging: seconds of an epoch that were spent in exchanges.
        seconds: that the epoch took.
    """
    if seconds < _SHORT or exchanging < _MUCH * seconds:
        return None
    return (
        f"{exchanging / seconds:.0%} of the first epoch was spent in adding the workers' gradients, and in waiting for "
        f"the slowest worker: fewer workers, or larger batches (batch_size), may be as fast"
    )
