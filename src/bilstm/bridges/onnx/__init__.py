"""ONNX models out of ours and into ours: `pip install 'bilstm[onnx]'` adds onnx, which is imported when it is used.

`export` writes a model for ONNX Runtime, OpenVINO and others; `to_onnx` makes it in memory. `load` opens an ONNX model
with recurrent layers as a `Sequential`; `read` also tells what it found.
"""

from __future__ import annotations

from bilstm.bridges.onnx.reading import OnnxFile, load, read
from bilstm.bridges.onnx.writing import export, to_onnx

__all__ = ["OnnxFile", "export", "load", "read", "to_onnx"]
