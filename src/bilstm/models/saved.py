"""Reading saved models, and checking first that they are some."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from bilstm.layers import from_json
from bilstm.modelfile import ModelFileError, read_model
from bilstm.models.sequential import Sequential
from bilstm.ragged import FloatArray


def load_model(path: str | os.PathLike[str]) -> Sequential:
    """Read a model that `Sequential.save` wrote.

    Raises:
        ModelFileError: the file is no such model; the message says why. Never runs code from the file.
    """
    tensors, header = read_model(path)
    kind = header.get("kind")
    if kind in ("model", "tagger"):
        raise ModelFileError(
            f"{os.fspath(path)} holds a TrainedModel, not a Sequential model: open it with bilstm.load"
        )
    if kind != "sequential":
        raise ModelFileError(f"{os.fspath(path)} holds a {kind}, not a Sequential model")
    return model_from_parts(path, tensors, header.get("model"))


def model_from_parts(path: str | os.PathLike[str], tensors: Mapping[str, FloatArray], config: Any) -> Sequential:
    """A model from a file's contents; the file's size bounds what is allocated.

    Raises:
        ModelFileError: they do not belong together.
        MemoryError: there is too little memory for the model.
    """
    try:
        if not isinstance(config, dict):
            raise ValueError("it describes no model")
        _check_sizes(config, tensors)
        model = Sequential.from_config(config, draw=False)
        model.set_tensors(tensors)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelFileError(f"{os.fspath(path)} is not a valid model: {error}") from None
    return model


def _check_sizes(config: Mapping[str, Any], tensors: Mapping[str, FloatArray]) -> None:
    """Compare the numbers of parameters before anything is allocated for them."""
    layers, width = config.get("layers"), config.get("features")
    if not isinstance(layers, list) or not isinstance(width, int) or isinstance(width, bool):
        raise ValueError("its layers or features are missing")
    total = 0
    for data in layers:
        layer = from_json(data)
        total += sum(spec.size for spec in layer.weight_specs(width))
        width = layer.output_features(width)
    stored = sum(array.size for array in tensors.values())
    if total != stored:
        raise ValueError(f"its layers need {total:,} weights, but it holds {stored:,}")
