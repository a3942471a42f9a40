"""Workers that torchrun, Ray Train or Kubeflow has started, connected by PyTorch's gloo."""

from __future__ import annotations

import datetime
import hashlib
import time
import uuid
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from bilstm.errors import UserError
from bilstm.signals import ended_by_signals
from bilstm.training.communicator import Communicator, Numbers, WorkerLostError

_PAUSE = 0.02  # seconds after which a worker looks for the others again


class TorchCommunicator(Communicator):
    """A worker of torch.distributed. A group that the program has initialized is used; otherwise one is made.

    Args:
        timeout: seconds after which a worker that does not answer is given up.
        local_size: how many of the workers are on this machine.

    Raises:
        UserError: the others cannot be reached in this time.
    """

    def __init__(self, timeout: float, local_size: int) -> None:
        super().__init__()
        self.local_size = local_size
        limit = datetime.timedelta(seconds=timeout)
        try:
            self._own = not dist.is_initialized()
            if self._own:
                with ended_by_signals():  # such as the launcher's, when another worker is lost meanwhile
                    _connect(limit)
                self._group = dist.group.WORLD
            else:
                self._group = dist.new_group(backend="gloo", timeout=limit)
        except (RuntimeError, ValueError) as error:  # the latter: a variable of the environment is missing
            raise UserError(f"cannot reach the other workers within {timeout:g} seconds: {_line(error)}") from None
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def _reduce(self, values: Numbers, operation: np.ufunc) -> Numbers:
        result = np.array(values)
        chosen = dist.ReduceOp.SUM if operation is np.add else dist.ReduceOp.MAX
        started = time.monotonic()
        try:
            dist.all_reduce(torch.from_numpy(result), chosen, group=self._group)
        except RuntimeError as error:
            waited = time.monotonic() - started
            raise WorkerLostError(
                f"lost another worker after {waited:,.0f} seconds of waiting: {_line(error)}"
            ) from None
        return result

    def close(self, *, failed: bool) -> None:
        if self._own and not failed:
            dist.destroy_process_group()


def _connect(limit: datetime.timedelta) -> None:
    """Make the group of all workers.

    When torchrun starts workers again, its store still has the addresses of those before (PyTorch's issue 135712). So
    each start has a part of the store for itself.
    """
    store, rank, size = next(dist.rendezvous("env://", timeout=limit))
    start = _agree(dist.PrefixStore("bilstm", store), rank, size, limit.total_seconds())
    dist.init_process_group(
        "gloo", store=dist.PrefixStore(f"bilstm/{start}", store), rank=rank, world_size=size, timeout=limit
    )


def _agree(store: Any, rank: int, size: int, seconds: float) -> str:
    """A name that all workers which run now agree on, and that none before them had.

    Each writes a name of its own, and under it what it has read of all names. Once all have read the same names, each
    of them has read this worker's new one: so none is of a worker that has ended before.
    """
    own, ranks = uuid.uuid4().hex, [f"worker {number}" for number in range(size)]
    store.set(ranks[rank], own)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if store.check(ranks):
            names = [name.decode() for name in store.multi_get(ranks)]
            read = hashlib.sha256(" ".join(names).encode()).hexdigest()
            store.set(own, read)
            if store.check(names) and all(other.decode() == read for other in store.multi_get(names)):
                return read
        time.sleep(_PAUSE)
    raise RuntimeError("one of them has not started, or ended before all were connected")


def _line(error: Exception) -> str:
    """What the library says, without where in its source."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return text.rpartition("] ")[2] if text.startswith("[") else text
