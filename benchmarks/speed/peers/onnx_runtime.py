"""ONNX Runtime on the CPU; predictions only."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnxruntime

from benchmarks.speed.cases import Case
from benchmarks.speed.peers.base import NO_LOSS, Peer, Runner, Setting
from benchmarks.speed.peers.onnx_model import feeds, onnx_model


class OnnxRuntime(Peer):
    convolves = True

    def versions(self) -> dict[str, str]:
        return {"ONNX Runtime": onnxruntime.__version__}

    def settings(self, case: Case) -> list[Setting]:
        if case.trains:
            return []
        return [
            Setting(
                f"{threads} thread{'s'[: threads - 1]}{', bound arrays' * bound}",
                options={"threads": threads, "bound": bound},
            )
            for threads in sorted({1, os.cpu_count() or 1})
            for bound in (False, True)
        ]

    def prepare(self, case: Case, setting: Setting) -> Runner:
        assert setting.options is not None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = setting.options["threads"]
        # Its threads may spin while it runs, which is fast, but not while others are measured.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        session = onnxruntime.InferenceSession(onnx_model(case), options, providers=["CPUExecutionProvider"])
        batches = feeds(case)

        def outputs() -> npt.NDArray[np.float32]:
            predicted: npt.NDArray[np.float32] = session.run(None, batches[0])[0]
            return predicted.swapaxes(0, 1)

        def run(steps: int) -> float:
            for batch in batches[:steps]:
                session.run(None, batch)
            return NO_LOSS

        return Runner(outputs, _run_bound(session, batches) if setting.options["bound"] else run)


def _run_bound(session: onnxruntime.InferenceSession, batches: list[dict[str, np.ndarray]]) -> Callable[[int], float]:
    """Inputs are copied to where they stay, and outputs are not allocated: its way for the least delay."""
    inputs = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array.copy()) for name, array in batches[0].items()}
    output = onnxruntime.OrtValue.ortvalue_from_numpy(session.run(None, batches[0])[0])
    binding = session.io_binding()
    for name, value in inputs.items():
        binding.bind_ortvalue_input(name, value)
    binding.bind_ortvalue_output("y", output)

    def run(steps: int) -> float:
        for batch in batches[:steps]:
            for name, value in inputs.items():
                value.update_inplace(batch[name])
            session.run_with_iobinding(binding)
        return NO_LOSS

    return run
