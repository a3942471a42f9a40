"""Predictions by the workers of Ray, Spark, Dask and others, which are imported by none of it but their own module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bilstm.distributed.predictor import Predictor

__all__ = ["Predictor"]


def __getattr__(name: str) -> Any:
    if name == "Predictor":
        from bilstm.distributed.predictor import Predictor

        return Predictor
    raise AttributeError(f"module 'bilstm.distributed' has no attribute {name!r}")
