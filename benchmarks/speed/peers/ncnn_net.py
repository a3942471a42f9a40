"""ncnn, whose LSTM takes a sequence at a time: of a batch, one after the other, without padding."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ncnn
import numpy as np

from benchmarks.speed.cases import Case
from benchmarks.speed.peers.base import Predicting, Setting, directions, gates_to

_MAGIC = "7767517"
_FLOAT32 = np.int32(0).tobytes()  # what stands before an array's values


class Ncnn(Predicting):
    def versions(self) -> dict[str, str]:
        return {"ncnn": ncnn.__version__}

    def settings(self, case: Case) -> list[Setting]:
        return super().settings(case) if case.cell == "lstm" else []

    def load(self, case: Case, threads: int) -> Callable[[Any], Any]:
        net = ncnn.Net()
        net.opt.num_threads = threads
        for option in ("fp16_packed", "fp16_storage", "fp16_arithmetic"):
            setattr(net.opt, f"use_{option}", False)
        description, weights = _model(case)
        with tempfile.TemporaryDirectory() as folder:
            for name, content, load in (
                ("model.param", description.encode(), net.load_param),
                ("model.bin", weights, net.load_model),
            ):
                path = Path(folder) / name
                path.write_bytes(content)
                if load(str(path)):
                    raise ValueError(f"ncnn does not read {name}")

        def predict(sequences: Any) -> list[np.ndarray]:
            predicted = []
            for sequence in sequences:
                extractor = net.create_extractor()
                extractor.input("x", sequence)
                predicted.append(np.array(extractor.extract("y")[1]))
            return predicted

        return predict

    def batches(self, case: Case) -> list[Any]:
        # A copy: its own form of an array is a view of memory that NumPy may free.
        return [
            [ncnn.Mat(x[:length]).clone() for x, length in zip(batch.x, case.lengths, strict=True)]
            for batch in case.data
        ]

    def padded(self, case: Case, predicted: Any) -> np.ndarray:
        padded = np.zeros((case.sequences, case.longest, case.outputs), np.float32)
        padded[case.mask] = np.concatenate(predicted)
        return padded


def _model(case: Case) -> tuple[str, bytes]:
    """Its two files: the layers, and their weights in the same order."""
    layers, arrays = ["Input in 0 1 x"], []
    gates: dict[int, list[list[np.ndarray]]] = {}
    for layer, _, weights in directions(case):
        gates.setdefault(layer, []).append([gates_to(case, array, "ifoc").T for array in weights])
    x, inputs = "x", case.inputs
    for layer, both in gates.items():
        y = f"layer{layer}"
        layers.append(f"LSTM lstm{layer} 1 1 {x} {y} 0={case.units} 1={8 * case.units * inputs} 2=2")
        kernels, recurrent, biases = (np.stack(parts) for parts in zip(*both, strict=True))
        arrays += [_FLOAT32, kernels.tobytes(), _FLOAT32, biases.tobytes(), _FLOAT32, recurrent.tobytes()]
        x, inputs = y, 2 * case.units
    layers.append(f"InnerProduct dense 1 1 {x} logits 0={case.outputs} 1=1 2={inputs * case.outputs}")
    arrays += [_FLOAT32, np.ascontiguousarray(case.weights[-2].T).tobytes(), case.weights[-1].tobytes()]
    layers.append("Sigmoid last 1 1 logits y" if case.outputs == 1 else "Softmax last 1 1 logits y 0=1 1=1")
    return "\n".join([_MAGIC, f"{len(layers)} {len(layers)}", *layers, ""]), b"".join(arrays)
