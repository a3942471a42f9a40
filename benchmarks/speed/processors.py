"""On paper: how the engine divides the cases among more processors than the machine has, and what that may gain.

The divisions are those of `training.cpp`, `network.cpp`, `ranges.h` and `recurrent_backward.cpp`; see docs/engine.md.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from benchmarks.speed.cases import GATES, WINDOW, Case

COUNTS = (4, 8)
_SHARE, _MOST_SHARES, _MOST_SEQUENCES = 16, 8, 96  # sequences of a share, shares, sequences of a prediction's piece
_OWN, _OWN_TO_PREDICT = 300_000, 200_000  # weights per step up to which a share is one thread's
_WORTH = 400_000  # multiply-adds that are worth waking a thread
_LANES = 16  # units of a panel
# A direction's backward pass is about one product for the gradients of the steps before, and one for the weights'.
_PASSES = 3


def divided(case: Case, processors: int) -> float:
    """How many times as fast so many processors are if dividing the work were all: 1 if it is not divided."""
    layers = _weights_of_layers(case)
    own = _OWN if case.trains else _OWN_TO_PREDICT
    small = sum(layers) <= own
    shares = _shares(case, small)
    work = sum(layers) * sum(case.lengths)
    if small and len(shares) >= max(2, processors) and work >= _WORTH:
        return sum(case.lengths) / _longest(map(sum, shares), processors)
    time = sum(_time(case, weights, share, processors) for share in shares for weights in layers)
    return (_PASSES if case.trains else 1) * work / time


def serial(case: Case, gain: float) -> float:
    """The part of one processor's time that is not divided, by the gain that was measured on two."""
    most = divided(case, 2)
    return min(1.0, max(0.0, (most / gain - 1) / (most - 1))) if most > 1 else 1.0


def expected(case: Case, gain: float, processors: int) -> float:
    """Of so many processors: Amdahl's law."""
    part = serial(case, gain)
    return 1 / (part + (1 - part) / divided(case, processors))


def _weights_of_layers(case: Case) -> list[int]:
    """Per step; the last layer's and a convolution's are few, and count with their neighbors'."""
    inputs, layers = case.width, []
    for _ in range(case.layers):
        layers.append(2 * len(GATES[case.cell]) * case.units * (1 + inputs + case.units))
        inputs = 2 * case.units
    layers[0] += case.filters * (1 + WINDOW * case.inputs)
    layers[-1] += case.outputs * (1 + inputs)
    return layers


def _shares(case: Case, small: bool) -> list[list[int]]:
    """The lengths of the sequences of each share, or of each piece of a prediction."""
    if case.trains:
        count = min(max(case.sequences // _SHARE, 1), _MOST_SHARES)
        ordered = sorted(case.lengths, reverse=True)
        return [ordered[share::count] for share in range(count)]
    most = _SHARE if small else _MOST_SEQUENCES
    return [sorted(case.lengths[i : i + most], reverse=True) for i in range(0, case.sequences, most)]


def _time(case: Case, weights: int, lengths: list[int], processors: int) -> float:
    """Of a layer and a share, in multiply-adds."""
    work = float(weights * sum(lengths))
    passes = _PASSES if case.trains else 1
    if work < _WORTH:
        return passes * work
    ranges = _ranges(lengths, max(1, processors // 2))
    tasks = [steps / sum(lengths) / 2 for steps in ranges for _ in range(2)]
    forward = work * _longest(tasks, processors)
    if not case.trains:
        return forward
    if processors < 4 or len(lengths) < processors:  # a thread for each direction
        return forward + 2 * work / min(2, processors)
    through = work * max(_ranges(lengths, processors)) / sum(lengths)
    panels = -(-case.units // _LANES)
    return forward + through + work * -(-panels // min(panels, processors)) / panels


def _ranges(lengths: list[int], parts: int) -> list[int]:
    """Steps of the ranges into which sequences are cut, of about equal numbers of steps."""
    sums: list[int] = []
    cut = steps = 0
    for row, length in enumerate(lengths, 1):
        steps += length
        if len(sums) + 1 < parts and steps * parts >= sum(lengths) * (len(sums) + 1) and row < len(lengths):
            sums.append(steps - cut)
            cut = steps
    return [*sums, sum(lengths) - cut]


def _longest(tasks: Iterable[float], processors: int) -> float:
    """The time until all are done, each taken by the first processor that is free."""
    free = [0.0] * processors
    for task in tasks:
        heapq.heappush(free, heapq.heappop(free) + task)
    return max(free)
