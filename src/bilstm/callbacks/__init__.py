"""What can be done between epochs: recording scores, early stopping, saving models, changing the learning rate."""

from __future__ import annotations

from bilstm.callbacks.base import Callback, Callbacks, Logs
from bilstm.callbacks.monitors import EarlyStopping, ModelCheckpoint
from bilstm.callbacks.rates import LearningRateScheduler, ReduceLROnPlateau
from bilstm.callbacks.records import CSVLogger, History, LambdaCallback

__all__ = [
    "CSVLogger",
    "Callback",
    "Callbacks",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "Logs",
    "ModelCheckpoint",
    "ReduceLROnPlateau",
]
