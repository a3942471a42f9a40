"""Functions timed in turn: what slows the machine down slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

_TURN = 0.4  # seconds for which one is timed in a round
_ROUNDS = 7


def in_turn(*functions: Callable[[], Any]) -> list[list[float]]:
    """Seconds of a call of each, in each round."""
    estimates = []
    for function in functions:
        function()
        started = time.perf_counter()
        function()
        estimates.append(time.perf_counter() - started)
    times: list[list[float]] = [[] for _ in functions]
    for number in range(_ROUNDS):
        order = range(len(functions)) if number % 2 else reversed(range(len(functions)))
        for which in order:
            count = max(1, round(_TURN / estimates[which]))
            started = time.perf_counter()
            for _ in range(count):
                functions[which]()
            times[which].append((time.perf_counter() - started) / count)
    return times
