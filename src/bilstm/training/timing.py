"""How long training steps take on this machine: those of one worker, and its part of those that several divide."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bilstm.models import Sequential
from bilstm.models.fitting import FitData, check_finite
from bilstm.ragged import IndexArray
from bilstm.training.communicator import Communicator, Numbers
from bilstm.training.planning import Plan, batches_by_length
from bilstm.training.shares import train_shares
from bilstm.training.windows import WindowSource

_SAMPLED = 5  # batches
_ENOUGH = 7  # times that each of them is timed at most


@dataclass(frozen=True)
class StepTimes:
    """What training steps cost.

    Attributes:
        batches: training steps in an epoch.
        shares: that a full batch is divided into: the most workers that have something to do.
        seconds: number of workers -> the mean time of an epoch's training steps, of the worker with the most shares and
            without exchanges.
    """

    batches: int
    shares: int
    seconds: dict[int, float]


class _Rehearsal(Communicator):
    """Worker 0 of several, without the others: nothing is exchanged, and what they would send is missing."""

    same_data = True

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def _reduce(self, values: Numbers, operation: np.ufunc) -> Numbers:
        return np.where(np.isneginf(values), 0.0, values) if operation is np.maximum else values


def useful_workers(shares: int) -> list[int]:
    """1, 2, 4 … workers, up to one for each share: more have nothing to do."""
    return [count for count in (1, 2, 4, 8) if count < shares] + [shares]


def time_steps(
    model: Sequential, data: FitData, plan: Plan, *, seed: int, seconds: float, times: float = 1.0
) -> StepTimes:
    """Time training steps on some of the first epoch's batches, for each number of workers that divide them.

    Args:
        model: compiled; its weights change.
        data: all sequences to train on, or a sample of them.
        plan: of the training.
        seed: draws the batches.
        seconds: about how long to take, unless a single training step takes longer.
        times: the training has this number of times as many sequences.

    Raises:
        UserError: a value is not finite.
    """
    network, optimizer = model.network, model.optimizer
    assert network is not None
    assert optimizer is not None
    check_finite(data.data)
    optimizer.learning_rate *= 1e-3  # as at the beginning: some steps, of a part of the gradients, change little
    random = np.random.default_rng([seed, 1])
    source = WindowSource(data.data, data.targets, plan.windows.draw(random))
    count = max(1, round(times * len(source.lengths)))
    batches = _sample(source.lengths, plan.batch_size, random, enough=count >= plan.batch_size)
    steps = [int(source.lengths[batch].sum()) for batch in batches]
    of_epoch = times * int(source.lengths.sum())
    number = -(-count // plan.batch_size)
    shares = len(network.divide(np.ones(len(batches[0]), np.int64)))

    counts = useful_workers(shares)
    taken: dict[tuple[int, int], list[float]] = {}
    _step(model, source, batches[0], shares)  # the first one makes room in memory
    started = time.perf_counter()
    # In turn, so that what else the machine does meanwhile slows all numbers of workers alike; first what is needed.
    for index, workers in itertools.product([*range(len(batches))] * _ENOUGH, dict.fromkeys([shares, 1, *counts])):
        taken.setdefault((workers, index), []).append(_step(model, source, batches[index], workers))
        if time.perf_counter() - started > seconds and (1, 0) in taken:
            break

    def mean(workers: int) -> float:
        """Seconds of a step, by what sampled batches take for each of their time steps."""
        timed = [index for index in range(len(batches)) if (workers, index) in taken]
        total = sum(min(taken[workers, index]) for index in timed)  # what else runs only makes them longer
        return total / sum(steps[index] for index in timed) * of_epoch / number

    found = {workers: mean(workers) for workers in counts if (workers, 0) in taken}
    return StepTimes(number, shares, _completed(found, counts, shares))


def _completed(found: dict[int, float], counts: Sequence[int], shares: int) -> dict[int, float]:
    """With the numbers of workers for which no time was left: by how many shares a worker has."""
    parts = sorted((-(-shares // workers), seconds) for workers, seconds in found.items())
    known, times = zip(*parts, strict=True)
    return {
        workers: found[workers] if workers in found else float(np.interp(-(-shares // workers), known, times))
        for workers in counts
    }


def _sample(lengths: IndexArray, batch_size: int, random: np.random.Generator, *, enough: bool) -> list[IndexArray]:
    """Some full batches of an epoch: a middle one first, then short and long ones.

    Args:
        enough: whether an epoch has a full batch, though the sequences here may be fewer.
    """
    if enough and len(lengths) < batch_size:
        return [np.resize(np.arange(len(lengths)), batch_size)]
    batches = list(batches_by_length(lengths, batch_size, random))
    full = [batch for batch in batches if len(batch) == batch_size] or batches
    full.sort(key=lambda batch: int(lengths[batch].sum()))
    return [full[position] for position in _spread(len(full))]


def _spread(count: int) -> Iterable[int]:
    """Positions in an ordered list of this length: the middles of equal parts, from the middle one outwards."""
    parts = min(_SAMPLED, count)
    middles = [(2 * part + 1) * count // (2 * parts) for part in range(parts)]
    return sorted(middles, key=lambda position: abs(2 * position + 1 - count))


def _step(model: Sequential, source: WindowSource, batch: IndexArray, workers: int) -> float:
    """Seconds of a training step of worker 0 of several."""
    started = time.perf_counter()
    if workers > 1:
        train_shares(model, source, batch, _Rehearsal(workers))
    else:
        data = source.batch(batch)
        model.train_batches(data, data.chosen, np.array([0, len(batch)]))
    assert model.network is not None
    model.network.average(0.01)  # as the training loop does after each step
    return time.perf_counter() - started
