"""What it costs to add the gradients of several machines over a network: a model of gloo, and its time on this one."""

from __future__ import annotations

import contextlib
import datetime
import math
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bilstm.training.communicator import Numbers

SEGMENT = 1 << 20  # bytes that gloo sends at once at most: kMaxSegmentSize in its allreduce.h
_WAITS = 2  # one-way trips of a segment: the receiver announces that it is ready, then data are sent
_IN_FLIGHT = 2  # segments
_SMALL, _MOST = 45, 1 << 22  # float64 numbers of the exchanges that are timed, in bytes 360 and 32 MiB
_TIMES = 9
_PATIENCE = 20  # seconds


@dataclass(frozen=True)
class Link:
    """A network between machines.

    Attributes:
        latency: seconds from one machine to another, half of what `ping` prints.
        second_per_byte: 0 for a network without limit.
    """

    latency: float = 0.0
    second_per_byte: float = 0.0

    @classmethod
    def of(cls, bandwidth: float, latency: float) -> Link:
        """A link of this bandwidth in Gbit/s, in each direction, and this one-way latency in milliseconds.

        Raises:
            ValueError: the bandwidth is not above 0, or the latency is below it.
        """
        if not bandwidth > 0:
            raise ValueError(f"bandwidth must be a number of Gbit/s above 0, not {bandwidth!r}")
        if not 0 <= latency < math.inf:
            raise ValueError(f"latency must be a number of milliseconds from 0, not {latency!r}")
        return cls(latency / 1e3, 8e-9 / bandwidth)

    def through(self, other: Link) -> Link:
        """Both, one after the other: their latencies add up, and the slower one limits the bandwidth."""
        return Link(self.latency + other.latency, max(self.second_per_byte, other.second_per_byte))

    def seconds(self, size: int, workers: int) -> float:
        """What it takes to add arrays of this number of bytes from each of some workers, on all of them.

        gloo does it in a ring, twice: first each worker gets the sum of a part, then all parts. A worker sends and
        receives `workers - 1` parts each time, of which each is at least two segments, with two in flight.
        """
        if workers == 1:
            return 0.0
        segments = max(2, -(-size // (workers * SEGMENT)))  # of a part
        trips = 2 * -(-segments * (workers - 1) // _IN_FLIGHT) * _WAITS
        return trips * self.latency + 2 * (workers - 1) / workers * size * self.second_per_byte


IDEAL = Link()


def own_link(count: int) -> Link | None:
    """What gloo itself takes on this machine, measured between two threads.

    Args:
        count: float64 numbers of an exchange.

    Returns:
        The link; None without PyTorch, or where its gloo does not work.
    """
    try:
        import torch
        import torch.distributed as dist

        store = dist.HashStore()
    except (ImportError, AttributeError):  # the latter: PyTorch was built without it
        return None
    found: list[tuple[float, float, int]] = []

    def exchange(rank: int) -> None:
        with contextlib.suppress(RuntimeError):  # such as without a network
            group = dist.ProcessGroupGloo(store, rank, 2, datetime.timedelta(seconds=_PATIENCE))
            found.append(medians(lambda values: group.allreduce([torch.from_numpy(np.array(values))]).wait(), count))

    threads = [threading.Thread(target=exchange, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return fitted(*found[0]) if len(found) == 2 else None


def fitted(small: float, large: float, size: int) -> Link:
    """The link between two workers that take these seconds for a small exchange, and for one of `size` bytes."""
    latency = small / Link(latency=1.0).seconds(8 * _SMALL, 2)
    rest = large - Link(latency=latency).seconds(size, 2)
    return Link(latency, max(0.0, rest) / size)


def medians(exchange: Callable[[Numbers], Any], count: int) -> tuple[float, float, int]:
    """Seconds of a small exchange and of one of as many numbers, but 32 MiB at most, and the latter's bytes."""
    found, count = [], max(_SMALL, min(count, _MOST))
    for each in (_SMALL, count):
        values, times = np.zeros(each), []
        for _ in range(_TIMES):
            started = time.perf_counter()
            exchange(values)
            times.append(time.perf_counter() - started)
        found.append(statistics.median(times[2:]))
    return found[0], found[1], 8 * count
