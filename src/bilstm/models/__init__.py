"""Models by Keras's names."""

from __future__ import annotations

from bilstm.models.functional import Model
from bilstm.models.lookahead import LookAheadStream
from bilstm.models.predictor import Predictor
from bilstm.models.saved import load_model, model_from_parts
from bilstm.models.sequential import Sequential
from bilstm.models.stream import Stream

__all__ = ["LookAheadStream", "Model", "Predictor", "Sequential", "Stream", "load_model", "model_from_parts"]
