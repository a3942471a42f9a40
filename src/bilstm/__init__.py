"""Learn to label sequences with bidirectional LSTMs on an ordinary CPU.

Everything is imported when it is first used, so that `import bilstm` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bilstm._version import __version__

if TYPE_CHECKING:
    from bilstm import callbacks as callbacks
    from bilstm import layers as layers
    from bilstm import metrics as metrics
    from bilstm import models as models
    from bilstm import optimizers as optimizers
    from bilstm import problems as problems
    from bilstm import utils as utils
    from bilstm.estimators.classifier import SequenceClassifier
    from bilstm.estimators.regressor import SequenceRegressor
    from bilstm.estimators.tagger import SequenceTagger
    from bilstm.layers import Input
    from bilstm.models import Model, Sequential, load_model
    from bilstm.ragged import Ragged
    from bilstm.tagging.tagger import Tagger

_MODULES = ("callbacks", "layers", "metrics", "models", "optimizers", "problems", "utils")
_NAMES = {
    "Input": "layers",
    "Model": "models",
    "Ragged": "ragged",
    "SequenceClassifier": "estimators",
    "SequenceRegressor": "estimators",
    "SequenceTagger": "estimators",
    "Sequential": "models",
    "Tagger": "tagging.tagger",
    "load_model": "models",
}

__all__ = [
    "Input",
    "Model",
    "Ragged",
    "SequenceClassifier",
    "SequenceRegressor",
    "SequenceTagger",
    "Sequential",
    "Tagger",
    "__version__",
    "callbacks",
    "layers",
    "load_model",
    "metrics",
    "models",
    "optimizers",
    "problems",
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
