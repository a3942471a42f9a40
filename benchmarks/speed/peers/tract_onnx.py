"""tract, which predicts in one thread. It reads no lengths: sequences are turned around by hand where they differ."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tract

from benchmarks.speed.cases import Case
from benchmarks.speed.peers.base import Predicting
from benchmarks.speed.peers.onnx_model import onnx_model


class Tract(Predicting):
    convolves = True
    divides = False

    def versions(self) -> dict[str, str]:
        return {"tract": tract.version()}

    def load(self, case: Case, threads: int) -> Callable[[Any], Any]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(onnx_model(case, by_hand=case.ragged))
            model = tract.onnx().load(str(path))
        model.analyse()
        network = model.into_model().into_runnable()

        def predict(x: Any) -> np.ndarray:
            predicted: np.ndarray = network.run([tract.Tensor.from_numpy(x)])[0].to_numpy()
            return predicted

        return predict
