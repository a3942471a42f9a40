"""Workers that torchrun, Ray Train or Kubeflow has started, connected by PyTorch's gloo."""

from __future__ import annotations

import datetime
import time

import numpy as np
import torch
import torch.distributed as dist

from bilstm.errors import UserError
from bilstm.training.communicator import Communicator, Numbers, WorkerLostError


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
                dist.init_process_group("gloo", timeout=limit)
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


def _line(error: Exception) -> str:
    """What the library says, without where in its source."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return text.rpartition("] ")[2] if text.startswith("[") else text
