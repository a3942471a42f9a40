"""MNN, with the recurrent operator of its own: that which unrolls one in a loop, its converter's default, fails here.

It reads no lengths: sequences are turned around by hand where they differ.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import MNN
import numpy as np

from benchmarks.speed.cases import Case
from benchmarks.speed.peers.base import Predicting
from benchmarks.speed.peers.onnx_model import onnx_model

# The package's converter without `MNN.tools`, which installs another package and reports its use when it is imported.
# It may end the process that it fails in.
_CONVERT = "import sys, _tools; _tools.mnnconvert(sys.argv)"
_OPTIONS = ["--framework", "ONNX", "--bizCode", "benchmark", "--useOriginRNNImpl"]


class Mnn(Predicting):
    convolves = True

    def versions(self) -> dict[str, str]:
        return {"MNN": MNN.version()}

    def load(self, case: Case, threads: int) -> Callable[[Any], Any]:
        with tempfile.TemporaryDirectory() as folder:
            source, made = Path(folder) / "model.onnx", Path(folder) / "model.mnn"
            source.write_bytes(onnx_model(case, by_hand=case.ragged))
            files = ["--modelFile", str(source), "--MNNModel", str(made)]
            subprocess.run([sys.executable, "-c", _CONVERT, *_OPTIONS, *files], check=True, stdout=subprocess.DEVNULL)
            network = MNN.Interpreter(str(made))
        session = network.createSession({"backend": "CPU", "numThread": threads, "precision": "high"})
        input_, output = network.getSessionInput(session), network.getSessionOutput(session)
        predicted = _tensor(np.zeros((case.longest, case.sequences, case.outputs), np.float32))

        def predict(x: Any) -> Any:
            input_.copyFrom(_tensor(x))
            network.runSession(session)
            output.copyToHostTensor(predicted)
            return predicted.getNumpyData()

        return predict


def _tensor(array: np.ndarray) -> Any:
    """A copy in MNN's form."""
    return MNN.Tensor(array.shape, MNN.Halide_Type_Float, array, MNN.Tensor_DimensionType_Caffe)
