"""Workers that mpiexec has started, connected by mpi4py."""

from __future__ import annotations

import atexit
import sys
import time
from typing import Any

import numpy as np
from mpi4py import MPI

from bilstm.errors import UserError
from bilstm.training.communicator import Communicator, Numbers, WorkerLostError

_SPIN = 0.002  # seconds in which an answer is looked for without a pause
_PAUSE = 0.0002


class MPICommunicator(Communicator):
    """A worker of MPI. When one ends before its training has, all are ended: MPI has no other way.

    Args:
        timeout: seconds after which workers that do not answer are given up.
        size: how many there should be.
        local_size: how many of them are on this machine.

    Raises:
        UserError: there are others: mpi4py is of another MPI than mpiexec.
    """

    def __init__(self, timeout: float, size: int, local_size: int) -> None:
        super().__init__()
        self._timeout, self._world, self.local_size = timeout, MPI.COMM_WORLD, local_size
        self.rank, self.size = self._world.Get_rank(), self._world.Get_size()
        if self.size != size:
            raise UserError(
                f"mpiexec has started {size} processes, of which mpi4py sees {self.size}: it was built for another "
                f"MPI than that of this mpiexec"
            )
        self._failed = False
        atexit.register(self._end)

    def _reduce(self, values: Numbers, operation: np.ufunc) -> Numbers:
        result = np.empty_like(values)
        request = self._world.Iallreduce(values, result, MPI.SUM if operation is np.add else MPI.MAX)
        started = time.monotonic()
        while not request.Test():
            waited = time.monotonic() - started
            if waited > self._timeout:
                raise WorkerLostError(f"the other workers have not answered for {self._timeout:g} seconds")
            time.sleep(0 if waited < _SPIN else _PAUSE)  # and lets Python notice signals
        return result

    def close(self, *, failed: bool) -> None:
        self._failed = failed

    def _end(self) -> None:
        """At the process's end, after its messages: where it failed, the others would wait forever."""
        if self._failed:
            sys.stdout.flush()
            sys.stderr.flush()
            abort: Any = self._world.Abort
            abort(1)
