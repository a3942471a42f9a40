"""What the workers of one training need of each other: sums and maxima of numbers. No processes and no network here."""

from __future__ import annotations

import hashlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from bilstm._version import __version__
from bilstm.errors import UserError

Numbers = npt.NDArray[np.float64]

TIMEOUT = 300.0  # seconds


class WorkerLostError(UserError):
    """Another worker ended, or did not answer in time. Nothing was written that is not complete."""


class Communicator(ABC):
    """One worker's connection to those that it trains with.

    All workers call the same methods in the same order, with arrays of the same shape. A training adds numbers whose
    sum no order of additions changes (see `Network.sum_of_shares`), so any algorithm of any library may add them.

    Attributes:
        rank: this worker's number, from 0. Worker 0 writes the files and prints.
        size: how many workers there are.
        same_data: whether all workers are known to have the same data; otherwise training compares them first.
        seconds: spent in exchanges so far, waiting for slower workers included.
        local_size: how many of the workers are on this machine, as far as is known.

    A block `with communicator:` tells the others if this worker ends with an exception.
    """

    rank: int = 0
    size: int = 1
    local_size: int = 1
    same_data: bool = False

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        self.close(failed=kind is not None)

    def close(self, *, failed: bool) -> None:  # noqa: B027 - there may be nothing to end
        """End the connection."""

    def sum(self, values: Numbers) -> Numbers:
        """The sum of all workers' arrays, on each of them.

        Raises:
            WorkerLostError: a worker ended or does not answer; the message says which, or after how many seconds.
        """
        return self._timed(values, np.add)

    def maximum(self, values: Numbers) -> Numbers:
        """The maxima of all workers' numbers, on each of them. None of them is NaN.

        Raises:
            WorkerLostError: as `sum` raises it.
        """
        return self._timed(values, np.maximum)

    def _timed(self, values: Numbers, operation: np.ufunc) -> Numbers:
        started = time.perf_counter()
        try:
            return self._reduce(np.ascontiguousarray(values, np.float64), operation)
        finally:
            self.seconds += time.perf_counter() - started

    @abstractmethod
    def _reduce(self, values: Numbers, operation: np.ufunc) -> Numbers:
        """What `sum` (np.add) and `maximum` (np.maximum) return, of a C-contiguous array."""

    def decide(self, decision: bool) -> bool:
        """What worker 0 has decided, on each worker."""
        if self.size == 1:
            return decision
        return bool(self.maximum(np.array([decision and self.rank == 0], np.float64))[0])

    def broadcast(self, data: bytes) -> bytes:
        """The data of worker 0, on each worker; what the others give counts for nothing."""
        if self.size == 1:
            return data
        own = data if self.rank == 0 else b""
        length = int(self.sum(np.array([len(own)], np.float64))[0])
        numbers = np.zeros(-(-length // 4), np.uint32)  # float64 has room for each
        numbers.view(np.uint8)[: len(own)] = np.frombuffer(own, np.uint8)
        return self.sum(numbers.astype(np.float64)).astype(np.uint32).tobytes()[:length]

    def gather(self, row: Numbers) -> Numbers:
        """(size, n): the (n,) numbers of each worker, on each of them."""
        rows = np.zeros((self.size, len(row)))
        rows[self.rank] = row
        return self.sum(rows)


class Alone(Communicator):
    """Of a training in one process, which exchanges nothing."""

    same_data = True

    def _reduce(self, values: Numbers, operation: np.ufunc) -> Numbers:
        return values


ALONE = Alone()


def check_same(communicator: Communicator, facts: Mapping[str, Any]) -> None:
    """Refuse to train with workers that have other data or options, or another version of bilstm.

    Args:
        facts: plain data by name, which must be equal on all workers.

    Raises:
        UserError: they are not; the message names a worker, and the first difference.
    """
    texts = {name: json.dumps(value, default=str) for name, value in facts.items()}
    names = {"the version of bilstm": __version__, "the options": json.dumps(list(texts))}
    for each in (names, texts):  # the second exchange needs as many facts on all workers
        digests = [hashlib.sha256(f"{name} {text}".encode()).digest()[:8] for name, text in each.items()]
        rows = communicator.gather(np.frombuffer(b"".join(digests), np.uint32).astype(np.float64))
        for rank, number in np.argwhere(rows != rows[0]):
            raise UserError(
                f"{list(each)[number // 2]} differ between worker 0 and worker {rank} of {communicator.size}: start "
                f"all workers with the same command, the same files and the same version of bilstm"
            )
