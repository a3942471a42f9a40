"""Finding out whether this process is one of several that torchrun, mpiexec or a similar program has started."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from bilstm.errors import UserError, shown
from bilstm.training.communicator import TIMEOUT, Alone, Communicator

# Of each implementation of MPI: how many processes there are, and how many of them on this machine.
_MPI = (
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE"),
    ("PMI_SIZE", "MPI_LOCALNRANKS"),
)


@dataclass(frozen=True)
class Launch:
    """How this process was started.

    Attributes:
        by: the kind of launcher: "torchrun" or "mpiexec".
        size: the number of processes.
        local_size: how many of them are on this machine; 1 where the launcher does not tell.
        variable: the environment variable that says so.
    """

    by: str
    size: int
    local_size: int
    variable: str


def launch(environment: Mapping[str, str] = os.environ) -> Launch | None:
    """How this process was started; None if it was started alone.

    Raises:
        UserError: a variable of a launcher's is no number.
    """
    if all(name in environment for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR")):
        found = Launch("torchrun", _count(environment, "WORLD_SIZE"), 1, "WORLD_SIZE")
        local = "LOCAL_WORLD_SIZE"
    else:
        sizes = [names for names in _MPI if names[0] in environment]
        if not sizes:
            return None
        variable, local = sizes[0]
        found = Launch("mpiexec", _count(environment, variable), 1, variable)
    if found.size == 1:
        return None
    if local in environment:
        found = Launch(found.by, found.size, _count(environment, local), found.variable)
    return found


def _count(environment: Mapping[str, str], name: str) -> int:
    text = environment[name]
    if not (text.isascii() and text.isdigit() and int(text)):
        raise UserError(f"the environment variable {name} must be a number of processes, not {shown(text)}")
    return int(text)


def join(timeout: float = TIMEOUT) -> Communicator:
    """This process's connection to the others that torchrun, mpiexec or a similar program has started with it.

    Each process calls this once, as `with join() as communicator:`, and trains in that block with
    `bilstm.train(…, communicator=communicator)`. Of torchrun and of what sets
    the same environment variables, such as Kubeflow's PyTorchJob, it needs PyTorch, whose gloo connects processes; of
    mpiexec, mpi4py.

    Args:
        timeout: seconds after which a process that does not answer is given up.

    Returns:
        The connection; of a process that was started alone, one without others.

    Raises:
        UserError: a package is missing, or the others cannot be reached in this time.
    """
    found = launch()
    if found is None:
        return Alone()
    if found.by == "torchrun":
        try:
            from bilstm.distributed.torchrun import TorchCommunicator
        except ModuleNotFoundError as error:
            raise UserError(_missing(found, error, "torch", "PyTorch")) from None
        return TorchCommunicator(timeout, found.local_size)
    try:
        from bilstm.distributed.mpi import MPICommunicator
    except ModuleNotFoundError as error:
        raise UserError(_missing(found, error, "mpi4py", "mpi4py")) from None
    return MPICommunicator(timeout, found.size, found.local_size)


def _missing(found: Launch, error: ModuleNotFoundError, package: str, name: str) -> str:
    if error.name != package:
        raise error
    return (
        f"this is one of {found.size} processes that {found.by} has started ({found.variable}={found.size}), which "
        f"connect by {name}: pip install {package}; or train alone with --workers 1"
    )
