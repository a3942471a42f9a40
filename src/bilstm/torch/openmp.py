"""PyTorch's threads, of which the engine needs the CPUs."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable

import torch

from bilstm import utils

_SOFT = 1  # omp_pause_soft: threads end, settings stay
_WORTH_IT = 10_000_000  # multiply-adds of a call that takes far longer than it does to start the threads again


@functools.cache
def _pause() -> Callable[[int], int] | None:
    """OpenMP 5's function, of the library that PyTorch uses; None where it uses another or an older one."""
    try:
        pause: Callable[[int], int] = ctypes.CDLL(torch._C.__file__).omp_pause_resource_all
    except (AttributeError, OSError):
        return None
    return pause


def free_cpus(work: int) -> None:
    """End PyTorch's threads if the engine is to do much work: they start again when PyTorch needs them.

    After an operation they wait for the next one busily for some milliseconds, on the CPUs that the engine's threads
    would run on: a training step took up to twice the time.

    Args:
        work: multiply-adds of the call that follows.
    """
    if work >= _WORTH_IT and utils.threads() > 1 and torch.get_num_threads() > 1 and (pause := _pause()):
        pause(_SOFT)
