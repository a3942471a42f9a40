"""A converted model and ONNX Runtime's, on the same random sequences."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from bilstm.bridges.checking import Check, Lengths, compare, not_compared
from bilstm.bridges.onnx.reading import OnnxFile
from bilstm.ragged import FloatArray

_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


def check(file: OnnxFile) -> Check:
    """Compare a converted file with what ONNX Runtime makes of it, if that is installed."""
    if not importlib.util.find_spec("onnxruntime"):
        return not_compared("ONNX Runtime", "it is not installed")
    import onnxruntime

    library = f"ONNX Runtime {onnxruntime.__version__}"
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what it raises is reported below
        session = onnxruntime.InferenceSession(file.path, options, providers=["CPUExecutionProvider"])
        (main,) = (each for each in session.get_inputs() if len(each.shape) != 1)
        size = main.shape[1 - file.time_axis]
        batch = size if isinstance(size, int) else None
        return compare(file, library, lambda batches: _predictions(file, session, batches), batch=batch)
    except Exception as error:  # of its own classes, which have nothing in common
        return not_compared(library, f"it does not run there ({' '.join(str(error).split()):.200})")


def _predictions(file: OnnxFile, session: Any, batches: list[tuple[FloatArray, Lengths]]) -> list[list[FloatArray]]:
    outputs = []
    for x, lengths in batches:
        feeds: dict[str, Any] = {}
        for each in session.get_inputs():
            values = lengths if len(each.shape) == 1 else x if len(each.shape) == 3 else x[:, :, 0]
            if file.time_axis == 0 and values.ndim > 1:
                values = values.swapaxes(0, 1)
            feeds[each.name] = np.ascontiguousarray(values, _TYPES[each.type])
        predicted = session.run(None, feeds)
        turned = file.time_axis == 0 and file.model.network is not None and not file.model.network.one_row_each
        outputs.append([each.swapaxes(0, 1) if turned else each for each in predicted])
    return outputs
