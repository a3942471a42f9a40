"""Models by Keras's names."""

from __future__ import annotations

from bilstm.models.saved import load_model, model_from_parts
from bilstm.models.sequential import Sequential

__all__ = ["Sequential", "load_model", "model_from_parts"]
