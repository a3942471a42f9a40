"""OpenVINO on the CPU; predictions only. Its float32 is asked for: by itself it may choose bfloat16."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino

from benchmarks.speed.cases import Case
from benchmarks.speed.peers.base import NO_LOSS, Peer, Runner, Setting
from benchmarks.speed.peers.onnx_model import feeds, onnx_model


class OpenVino(Peer):
    convolves = True

    def versions(self) -> dict[str, str]:
        return {"OpenVINO": openvino.__version__.split("-")[0]}

    def settings(self, case: Case) -> list[Setting]:
        """Batch after batch; and, where throughput is what counts, a batch on each processor at the same time."""
        if case.trains:
            return []
        processors = os.cpu_count() or 1
        settings = [
            Setting(f"{threads} thread{'s'[: threads - 1]}", options={"threads": threads, "streams": 1})
            for threads in sorted({1, processors})
        ]
        if case.sequences > 1 and processors > 1:
            options = {"threads": processors, "streams": processors}
            settings.append(Setting(f"{processors} batches at once", granule=processors, options=options))
        return settings

    def prepare(self, case: Case, setting: Setting) -> Runner:
        assert setting.options is not None
        core = openvino.Core()
        config: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": setting.options["threads"],
            "NUM_STREAMS": setting.options["streams"],
        }
        network = core.compile_model(core.read_model(onnx_model(case)), "CPU", config)
        batches = feeds(case)
        request = network.create_infer_request()

        def outputs() -> npt.NDArray[np.float32]:
            predicted: npt.NDArray[np.float32] = request.infer(batches[0])[0]
            return predicted.swapaxes(0, 1).copy()

        def run(steps: int) -> float:
            for batch in batches[:steps]:
                request.infer(batch, share_inputs=True, share_outputs=True)
            return NO_LOSS

        if setting.options["streams"] == 1:
            return Runner(outputs, run)
        queue = openvino.AsyncInferQueue(network, setting.options["streams"])

        def run_at_once(steps: int) -> float:
            for batch in batches[:steps]:
                queue.start_async(batch, share_inputs=True)
            queue.wait_all()
            return NO_LOSS

        return Runner(outputs, run_at_once)
