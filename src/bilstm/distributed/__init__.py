"""Beyond one machine: training by workers that torchrun or mpiexec started, predictions by those of Ray, Spark or Dask.

A module imports the library that it is for, and no other does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bilstm.distributed.launchers import join
    from bilstm.distributed.predictor import Predictor
    from bilstm.distributed.sizes import Estimate, estimate

_NAMES = {"Estimate": "sizes", "Predictor": "predictor", "estimate": "sizes", "join": "launchers"}

__all__ = ["Estimate", "Predictor", "estimate", "join"]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"bilstm.distributed.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'bilstm.distributed' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
