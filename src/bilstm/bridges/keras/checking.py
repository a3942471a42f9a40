"""A converted model and Keras's, on the same random sequences.

Keras runs in a process of its own: its import takes seconds, prints much, and need not work.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bilstm.bridges.checking import Check, Lengths, compare, not_compared
from bilstm.bridges.keras.reading import KerasFile
from bilstm.layers import Embedding, Padding
from bilstm.ragged import FloatArray

_BACKENDS = ("tensorflow", "torch", "jax")
_PATIENCE = 900.0  # seconds


def check(file: KerasFile) -> Check:
    """Compare a converted file with what Keras makes of it, if the version that reads it is installed."""
    library, missing = _library(int(file.version.split(".")[0]))
    if missing:
        return not_compared(library, missing)
    try:
        return compare(file, library, lambda batches: _predictions(file, library, batches))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return not_compared(library, f"it does not run there ({' '.join(str(error).split()):.200})")


def _library(major: int) -> tuple[str, str]:
    """The library that reads files of a major version of Keras, and what is missing, "" if nothing is."""
    keras = _version("keras")
    if major >= 3:
        if keras is None or keras.startswith(("0.", "1.", "2.")):
            return "Keras 3", "it is not installed"
        if not any(map(importlib.util.find_spec, _BACKENDS)):
            return f"Keras {keras}", "it has none of its backends: TensorFlow, PyTorch or JAX"
        return f"Keras {keras}", ""
    if keras is not None and keras.startswith("2."):
        name = f"Keras {keras}"
    elif (version := _version("tf_keras")) is not None:
        name = f"tf-keras {version}"
    else:
        return "Keras 2", "tf-keras, which reads its files, is not installed"
    return name, "" if importlib.util.find_spec("tensorflow") else "TensorFlow is not installed"


def _version(module: str) -> str | None:
    """The version of an installed module, without an import of it."""
    try:
        return importlib.metadata.version(module) if importlib.util.find_spec(module) else None
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None


def _predictions(file: KerasFile, library: str, batches: list[tuple[FloatArray, Lengths]]) -> list[list[FloatArray]]:
    words = any(isinstance(layer, Embedding) for layer in _readers(file))
    arrays = {f"x{number}": x[:, :, 0].astype(np.int32) if words else x for number, (x, _) in enumerate(batches)}
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        np.savez(here / "x.npz", **arrays)  # type: ignore[arg-type]
        link = here / {"keras": "model.keras", "savedmodel": "model"}.get(file.layout, "model.h5")
        link.symlink_to(os.path.abspath(file.path))
        architecture = "" if file.architecture is None else os.path.abspath(file.architecture)
        module = "tf_keras" if library.startswith("tf-keras") else "keras"
        command = [sys.executable, "-m", "bilstm.bridges.keras.running", module, str(link), architecture, folder]
        settings = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", **os.environ}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE, env=settings, errors="replace"
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"]
            raise ValueError(lines[-1])
        with np.load(here / "y.npz") as found:
            outputs = int(found["outputs"])
            return [[found[f"y{number}_{place}"] for place in range(outputs)] for number in range(len(batches))]


def _readers(file: KerasFile) -> list[Any]:
    """The first layer that reads values."""
    return [layer for layer in file.model.layers if not isinstance(layer, Padding)][:1]
