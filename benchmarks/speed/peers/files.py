"""Models in files: as Keras wrote them, converted to bilstm, and these exported to ONNX.

`benchmarks.speed.convert` makes the files. Keras runs on the backend that the environment variable KERAS_BACKEND names.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.cases import Case, FloatArray
from benchmarks.speed.peers.base import NO_LOSS, Peer, Runner, Setting

FOLDER = Path(__file__).parents[3] / "build" / "bench" / "convert"
_SHORT = 10  # at most so many steps are worth XLA's minutes


class KerasFile(Peer):
    """Keras, in each of the ways in which a program asks it for predictions."""

    def __init__(self) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        self.keras = importlib.import_module("keras")
        self.backend: str = self.keras.backend.backend()

    def versions(self) -> dict[str, str]:
        names = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
        version = str(importlib.import_module(self.backend).__version__)
        return {"Keras": str(self.keras.__version__), names[self.backend]: version}

    def settings(self, case: Case) -> list[Setting]:
        names = ["predict", "predict_on_batch"]
        if self.backend != "jax":  # which would compile each operation by itself
            names.append("model(x)")
        if self.backend == "tensorflow":
            names += ["tf.function", *(["tf.function, compiled by XLA"] if case.longest <= _SHORT else [])]
        return [Setting(name) for name in names]

    def prepare(self, case: Case, setting: Setting) -> Runner:
        model = self.keras.saving.load_model(FOLDER / f"{case.name}.keras", compile=False)
        call = self._call(model, setting.name)

        def outputs() -> FloatArray:
            return np.asarray(call(case.data[0].x), np.float32)

        def run(steps: int) -> float:
            for batch in case.data[:steps]:
                call(batch.x)
            return NO_LOSS

        return Runner(outputs, run)

    def _call(self, model: Any, name: str) -> Callable[[FloatArray], Any]:
        if name == "predict":
            return lambda x: model.predict(x, verbose=0)
        if name == "predict_on_batch":
            predict: Callable[[FloatArray], Any] = model.predict_on_batch
            return predict
        if name == "model(x)":
            return lambda x: self.keras.ops.convert_to_numpy(model(x, training=False))
        function = importlib.import_module("tensorflow").function
        compiled = function(lambda x: model(x, training=False), jit_compile="XLA" in name)
        return lambda x: compiled(x).numpy()


class Converted(Peer):
    """The same files, opened by bilstm."""

    def versions(self) -> dict[str, str]:
        from bilstm import __version__, utils

        return {"bilstm": f"{__version__} ({utils.target()}, threads: {utils.threads()})"}

    def settings(self, case: Case) -> list[Setting]:
        return [Setting("predict")] + [Setting("a predictor")] * (not case.ragged)

    def prepare(self, case: Case, setting: Setting) -> Runner:
        from benchmarks.speed.peers import ours
        from bilstm.bridges.keras import load

        return ours.runner(load(FOLDER / f"{case.name}.keras"), case, setting)


class OnnxFile(Peer):
    """The converted models, exported to ONNX, in ONNX Runtime."""

    def versions(self) -> dict[str, str]:
        return {"ONNX Runtime": str(importlib.import_module("onnxruntime").__version__)}

    def settings(self, case: Case) -> list[Setting]:
        counts = sorted({1, os.cpu_count() or 1})
        return [Setting(f"{count} thread{'s'[: count - 1]}", options={"threads": count}) for count in counts]

    def prepare(self, case: Case, setting: Setting) -> Runner:
        onnxruntime = importlib.import_module("onnxruntime")
        assert setting.options is not None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = setting.options["threads"]
        # Its threads may spin while it runs, which is fast, but not while others are measured.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        path = str(FOLDER / f"{case.name}.onnx")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        lengths = np.array(case.lengths, np.int32)

        def outputs() -> FloatArray:
            predicted: FloatArray = session.run(None, {"x": case.data[0].x, "lengths": lengths})[0]
            return predicted

        def run(steps: int) -> float:
            for batch in case.data[:steps]:
                session.run(None, {"x": batch.x, "lengths": lengths})
            return NO_LOSS

        return Runner(outputs, run)
