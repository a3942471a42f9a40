"""The trained model: what it reads, its network, what it predicts, and how it was trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bilstm.model.trained import TrainedModel

if TYPE_CHECKING:
    from bilstm.model.training import train

__all__ = ["TrainedModel", "train"]


def __getattr__(name: str) -> Any:
    """Training is imported when it is first used, which prediction never does."""
    if name == "train":
        from bilstm.model.training import train

        return train
    raise AttributeError(f"module 'bilstm.model' has no attribute {name!r}")
