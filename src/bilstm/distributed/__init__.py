"""More than one machine: training by workers that a launcher started, such as torchrun or mpiexec."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bilstm.distributed.launchers import join

_NAMES = {"join": "launchers"}

__all__ = ["join"]


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"bilstm.distributed.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'bilstm.distributed' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
