"""Learn to label sequences with bidirectional LSTMs on an ordinary CPU.

Everything is imported when it is first used, so that `import bilstm` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bilstm._version import __version__

if TYPE_CHECKING:
    from bilstm import callbacks as callbacks
    from bilstm import compare as compare
    from bilstm import layers as layers
    from bilstm import metrics as metrics
    from bilstm import models as models
    from bilstm import optimizers as optimizers
    from bilstm import problems as problems
    from bilstm import report as report
    from bilstm import utils as utils
    from bilstm.data.readingoptions import ReadingOptions
    from bilstm.errors import UserError
    from bilstm.estimators.classifier import SequenceClassifier
    from bilstm.estimators.regressor import SequenceRegressor
    from bilstm.estimators.tagger import SequenceTagger
    from bilstm.layers import Input
    from bilstm.model.trained import TrainedModel, load
    from bilstm.model.training import ModelInterrupted, train
    from bilstm.models import Model, Sequential, load_model
    from bilstm.ragged import Ragged
    from bilstm.training.options import TrainingOptions

_MODULES = ("callbacks", "compare", "layers", "metrics", "models", "optimizers", "problems", "report", "utils")
_NAMES = {
    "Input": "layers",
    "Model": "models",
    "ModelInterrupted": "model.training",
    "Ragged": "ragged",
    "ReadingOptions": "data.readingoptions",
    "SequenceClassifier": "estimators",
    "SequenceRegressor": "estimators",
    "SequenceTagger": "estimators",
    "Sequential": "models",
    "TrainedModel": "model.trained",
    "TrainingOptions": "training.options",
    "UserError": "errors",
    "load": "model.trained",
    "load_model": "models",
    "train": "model.training",
}

__all__ = [
    "Input",
    "Model",
    "ModelInterrupted",
    "Ragged",
    "ReadingOptions",
    "SequenceClassifier",
    "SequenceRegressor",
    "SequenceTagger",
    "Sequential",
    "TrainedModel",
    "TrainingOptions",
    "UserError",
    "__version__",
    "callbacks",
    "compare",
    "layers",
    "load",
    "load_model",
    "metrics",
    "models",
    "optimizers",
    "problems",
    "report",
    "train",
    "utils",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"bilstm.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"bilstm.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'bilstm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
