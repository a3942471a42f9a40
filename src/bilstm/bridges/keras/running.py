"""Predictions of Keras's, in a process of its own: `python -m bilstm.bridges.keras.running`.

Arguments: the module, "keras" or "tf_keras"; the file; the JSON file that describes the model, "" if it holds weights,
too; a folder with x.npz, whose arrays x0, x1, … are batches. It gets y.npz: "outputs", the number of the model's
outputs, and y0_0, y0_1, …: of each batch each output.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np


def main(module: str, path: str, architecture: str, folder: str) -> None:
    choose_backend()
    library = importlib.import_module(module)
    model = load(library, path, architecture)
    results: dict[str, Any] = {}
    with np.load(Path(folder) / "x.npz") as batches:
        for number in range(len(batches.files)):
            predicted = model(batches[f"x{number}"], training=False)
            outputs = list(predicted) if isinstance(predicted, (list, tuple)) else [predicted]
            results |= {f"y{number}_{place}": array_of(library, output) for place, output in enumerate(outputs)}
            results["outputs"] = len(outputs)
    np.savez(Path(folder) / "y.npz", **results)


def choose_backend() -> None:
    """Keras 3's: one that is installed, whatever Keras would take."""
    if "KERAS_BACKEND" not in os.environ:
        installed = [name for name in ("tensorflow", "torch", "jax") if importlib.util.find_spec(name)]
        os.environ["KERAS_BACKEND"] = installed[0] if installed else "tensorflow"


def load(library: Any, path: str, architecture: str) -> Any:
    others = {} if hasattr(library, "ops") else of_old_files(library)
    if not architecture:
        return library.models.load_model(path, compile=False, custom_objects=others)
    model = library.models.model_from_json(Path(architecture).read_text(encoding="utf-8"), custom_objects=others)
    try:
        model.load_weights(path)
    except ValueError:  # Keras 3 tells layouts apart by the name
        renamed = Path(path).with_name("model.weights.h5")
        Path(path).rename(renamed)
        model.load_weights(renamed)
    return model


def of_old_files(library: Any) -> dict[str, Any]:
    """Layers of Keras 2 as a CPU can run them.

    Files until 2.1.3 do not say that the reset gate of a GRU comes before the product. Layers of cuDNN need a GPU;
    tf-keras rearranges their weights for a layer that is called GRU or LSTM.
    """

    class GRU(library.layers.GRU):  # type: ignore[misc]
        def __init__(self, *arguments: Any, reset_after: bool = False, **keywords: Any) -> None:
            super().__init__(*arguments, reset_after=reset_after, **keywords)

    return {"GRU": GRU, "CuDNNGRU": library.layers.GRU, "CuDNNLSTM": library.layers.LSTM}


def array_of(library: Any, tensor: Any) -> Any:
    return library.ops.convert_to_numpy(tensor) if hasattr(library, "ops") else np.asarray(tensor)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {' '.join(str(error).split())}")
