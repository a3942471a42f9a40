"""An ONNX graph while it is being written: nodes, constants, and names that are unique."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto, helper, numpy_helper

OPSET, ML_OPSET, IR_VERSION = 17, 3, 8  # of 2022: older runtimes read them too
ML = "ai.onnx.ml"


class Graph:
    """Collects nodes and constants.

    Args:
        reserved: names of the graph's inputs and outputs, which nothing else may have.
    """

    def __init__(self, reserved: Iterable[str]) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.scope = ""  # begins the names of what is added
        self._names = set(reserved)
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def name(self, hint: str) -> str:
        """A name that nothing else has."""
        base = f"{self.scope}/{hint}" if self.scope else hint
        name, number = base, 1
        while name in self._names:
            number += 1
            name = f"{base}_{number}"
        self._names.add(name)
        return name

    def constant(self, values: npt.ArrayLike, hint: str = "constant") -> str:
        """The name of a constant tensor; small ones that are equal share one."""
        array = np.ascontiguousarray(values) if np.ndim(values) else np.asarray(values)
        if array.dtype.kind in "UO":
            tensor = helper.make_tensor(self.name(hint), TensorProto.STRING, array.shape, [str(x) for x in array.flat])
            self.constants.append(tensor)
            return str(tensor.name)
        key = array.dtype.str, array.shape, array.tobytes() if array.size <= 8 else b""
        if array.size <= 8 and key in self._constants:
            return self._constants[key]
        name = self.name(hint)
        self.constants.append(numpy_helper.from_array(array, name))
        if array.size <= 8:
            self._constants[key] = name
        return name

    def add(self, operator: str, inputs: Sequence[str], output: str | None = None, **attributes: Any) -> str:
        """Add a node; returns the name of its output, `output` if given."""
        return self.add_many(operator, inputs, [output or self.name(operator)], **attributes)[0]

    def add_many(self, operator: str, inputs: Sequence[str], outputs: list[str], **attributes: Any) -> list[str]:
        """Add a node with several outputs, of which "" is one that nothing reads."""
        name = next(filter(None, outputs))
        self.nodes.append(helper.make_node(operator, inputs, outputs, name=f"{name}/node", **attributes))
        return outputs

    # --- Common operators, with the argument that opset 17 takes as a tensor -------------------------------------

    def cast(self, value: str, to: int) -> str:
        return self.add("Cast", [value], to=to)

    def transpose(self, value: str, *axes: int) -> str:
        return self.add("Transpose", [value], perm=list(axes))

    def unsqueeze(self, value: str, *axes: int) -> str:
        return self.add("Unsqueeze", [value, self.constant(np.array(axes, np.int64), "axes")])

    def squeeze(self, value: str, *axes: int) -> str:
        return self.add("Squeeze", [value, self.constant(np.array(axes, np.int64), "axes")])

    def reduce_sum(self, value: str, axis: int, *, keep: bool = False) -> str:
        return self.add("ReduceSum", [value, self.constant(np.array([axis], np.int64), "axes")], keepdims=int(keep))

    def size(self, value: str, axis: int) -> str:
        """(1,) int64, how long an axis is."""
        return self.add("Shape", [value], start=axis, end=axis + 1)

    def positions(self, size: str) -> str:
        """(size,) int64: 0, 1, 2 …, for a size of shape (1,)."""
        ends = [self.constant(np.int64(value)) for value in (0, 1)]
        return self.add("Range", [ends[0], self.squeeze(size, 0), ends[1]])

    def within(self, size: str, lengths: str) -> str:
        """(batch, time) booleans: which steps are within their sequence; `size` is the number of steps, (1,)."""
        positions = self.unsqueeze(self.positions(size), 0)
        return self.add("Less", [positions, self.unsqueeze(self.cast(lengths, TensorProto.INT64), 1)])
