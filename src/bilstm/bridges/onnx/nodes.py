"""ONNX's nodes, one after the other, as layers of ours. What is not understood is refused by the node's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from bilstm.bridges.onnx.axes import AxisReader, floats_of, returning_last, rows_of
from bilstm.bridges.onnx.constants import (
    FILLING,
    FOLDED,
    Attributes,
    Values,
    filled,
    folded,
    integers,
    length_value,
    ordered,
)
from bilstm.bridges.onnx.recurrent import read_directions
from bilstm.bridges.onnx.values import (
    DIRECTION,
    FEATURE,
    Constant,
    Filled,
    Lengths,
    Mask,
    Order,
    Rows,
    States,
    Step,
    Value,
    is_value,
    merged,
)
from bilstm.bridges.refusals import RefusedError
from bilstm.layers import (
    Bidirectional,
    Conv1D,
    Dense,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    Recurrent,
)
from bilstm.ragged import FloatArray

_LOW = -1e30  # nothing that a maximum would choose


class Reader(AxisReader):
    """Follows the input of a graph through its nodes."""

    def run(self, node: Any, inputs: Values, attributes: Attributes) -> list[Value]:
        """The outputs of a node.

        Raises:
            RefusedError: the node is not supported.
        """
        operator = node.op_type
        if node.domain not in ("", "ai.onnx"):
            raise RefusedError(f"operators of {node.domain} are not supported")
        if operator in ("LSTM", "GRU", "RNN"):
            return self.recurrent(operator, inputs, attributes, node.name or node.output[0])
        if operator == "Split" and isinstance(inputs[0], Rows):
            return self.split(inputs, attributes, len(node.output))
        if operator == "TopK" and isinstance(inputs[0], Lengths):
            return ordered(inputs, attributes)
        if operator == "Gather" and isinstance(inputs[0], States):
            return [self.state(inputs[0], inputs[1], attributes)]
        if operator in FILLING:
            return [FILLING[operator](inputs, attributes)]
        if operator in FOLDED and all(isinstance(each, Constant) for each in inputs if each is not None):
            return [folded(node, inputs, self.opsets)]
        if any(isinstance(each, Rows) for each in inputs):
            handler = _ROWS.get(operator)
            if handler is None:
                raise RefusedError("this operator is not supported here")
            return [handler(self, inputs, attributes, node.name or node.output[0])]
        if any(isinstance(each, (Lengths, Mask, Order)) for each in inputs):
            return [length_value(operator, inputs)]
        return [filled(operator, inputs)]

    # --- Recurrent layers ------------------------------------------------------------------------------------------

    def recurrent(self, operator: str, inputs: Values, attributes: Attributes, node: str) -> list[Value]:
        if not isinstance(inputs[0], Rows):
            raise RefusedError("its input is not the model's")
        rows, last = inputs[0].settled(), attributes.get("layout", 0) == 1
        if len(rows.axes) != 3 or rows.names[2] != FEATURE:
            raise RefusedError("its input has no time, batch and features")
        time, batch = rows.axes[1 if last else 0], rows.axes[0 if last else 1]
        self.is_time(time[0])
        if time[0] == self.batch:
            raise RefusedError("it reads the axis that was sorted as time")
        lengths = inputs[4] if len(inputs) > 4 else None
        if not isinstance(lengths, Lengths):
            self.unbounded.add(node)
        elif lengths.sorted != rows.sorted:
            raise RefusedError("its lengths are in another order than its sequences")
        directions = tuple(read_directions(operator, inputs, attributes, time[1], node))
        layer = directions[0].layer
        assert isinstance(layer, Recurrent)
        kernel = directions[0].arrays[0]
        if kernel.shape[0] != rows.features:
            raise RefusedError(f"its W takes {kernel.shape[0]} features, but its input has {rows.features}")
        axis, feature = (DIRECTION, len(directions)), (FEATURE, layer.units)
        every = (batch, time, axis, feature) if last else (time, axis, batch, feature)
        final = (batch, axis, feature) if last else (axis, batch, feature)
        ends = tuple(returning_last(step) for step in directions)
        beyond = 0.0 if isinstance(lengths, Lengths) else None
        steps = replace(rows, axes=every, pending=directions, padding=beyond)
        # Nothing is to be made of the final cell state.
        return [steps, replace(rows, axes=final, pending=ends, padding=None), Filled(float("nan"))]

    # --- Layers ----------------------------------------------------------------------------------------------------

    def product(self, inputs: Values, attributes: Attributes, node: str) -> Rows:
        """MatMul with a constant on the right."""
        rows, kernel = inputs
        if not isinstance(rows, Rows) or not isinstance(kernel, Constant) or kernel.array.ndim != 2:
            raise RefusedError("only a product with a matrix that is stored in the file is supported")
        return self._dense(rows, [floats_of(kernel)], node)

    def gemm(self, inputs: Values, attributes: Attributes, node: str) -> Rows:
        rows, kernel, *bias = inputs
        scales = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
        if (
            not isinstance(rows, Rows)
            or not isinstance(kernel, Constant)
            or attributes.get("transA")
            or scales != (1, 1)
        ):
            raise RefusedError("only a product with a matrix that is stored in the file is supported")
        matrix = floats_of(kernel).T if attributes.get("transB") else floats_of(kernel)
        rows = self._dense(rows, [matrix], node)
        return self._biased(rows, bias[0]) if bias and bias[0] is not None else rows

    def _dense(self, rows: Rows, arrays: list[FloatArray], node: str) -> Rows:
        if not rows.names or rows.names[-1] != FEATURE or rows.features != arrays[0].shape[0]:
            raise RefusedError("its matrix does not fit the features")
        return rows.then(Dense(arrays[0].shape[1], use_bias=False), arrays, node)

    def _biased(self, rows: Rows, bias: Value | None) -> Rows:
        layer = self._open(rows)
        if layer.use_bias or not isinstance(bias, Constant) or rows.names.index(FEATURE) != len(rows.axes) - 1:
            raise RefusedError("only a bias after a product is supported")
        array = floats_of(bias).ravel()
        if array.size != rows.features or bias.array.shape[-1:] != (array.size,):
            raise RefusedError(f"a bias of {rows.features} numbers is needed, not of {array.size}")
        return self._changed(rows, {"use_bias": True}, [array])

    def _open(self, rows: Rows) -> Dense | Conv1D:
        """The last layer, if it can still be given a bias or an activation."""
        layer = rows.settled().steps[-1].layer if rows.steps or rows.pending else None
        if not isinstance(layer, (Dense, Conv1D)) or layer.activation != "linear":
            raise RefusedError("this operator is not supported here: no product or convolution is before it")
        return layer

    def _changed(self, rows: Rows, config: dict[str, Any], arrays: list[FloatArray]) -> Rows:
        *before, last = rows.steps
        layer = type(last.layer).from_config(last.layer.get_config() | config)
        return replace(rows, steps=(*before, Step(layer, [*last.arrays, *arrays], last.node)))

    def activate(self, activation: str, rows: Rows, attributes: Attributes) -> Rows:
        self._open(rows)
        if activation == "softmax":
            default = -1 if self.opsets.get("", 13) >= 13 else 1
            axis = attributes.get("axis", default) % len(rows.axes)
            if rows.names[axis] != FEATURE or axis != len(rows.axes) - 1:
                raise RefusedError("it is over another axis than the features")
        return self._changed(rows, {"activation": activation}, [])

    def add(self, inputs: Values, attributes: Attributes, node: str) -> Rows:
        first, second = inputs
        if isinstance(first, Rows) and isinstance(second, Rows):
            return merged(first, second, "sum")
        return self._biased(rows_of(inputs), second if isinstance(first, Rows) else first)

    def multiply(self, inputs: Values, attributes: Attributes, node: str) -> Rows:
        first, second = inputs
        if isinstance(first, Rows) and isinstance(second, Rows):
            return merged(first, second, "mul")
        rows, other = rows_of(inputs), second if isinstance(first, Rows) else first
        if isinstance(other, Mask) and not rows.sorted:
            return replace(rows, padding=0.0)
        return self._halved(rows, is_value(other, 0.5))

    def divide(self, inputs: Values, attributes: Attributes, node: str) -> Rows:
        rows, other = inputs
        if isinstance(rows, Rows) and isinstance(other, Lengths) and rows.summed and rows.sorted == other.sorted:
            if rows.summed in self.unbounded:
                self.unbounded.add(node)
            return replace(rows, summed="").then(GlobalAveragePooling1D(), [], node)
        return self._halved(rows_of(inputs), isinstance(rows, Rows) and is_value(other, 2))

    def _halved(self, rows: Rows, half: bool) -> Rows:
        last = rows.steps[-1] if rows.steps and not rows.pending else None
        if not half or last is None or getattr(last.layer, "merge_mode", None) != "sum":
            raise RefusedError("only the sum of two directions can be multiplied, by one half")
        return _averaged(rows, last)

    def where(self, inputs: Values, attributes: Attributes, node: str) -> Rows:
        """What padding holds changes nothing here."""
        mask, rows, other = inputs
        if not isinstance(mask, Mask) or not isinstance(rows, Rows) or rows.sorted:
            raise RefusedError("only the steps beyond a sequence's length can be replaced")
        one = isinstance(other, Constant) and other.array.size == 1
        return replace(rows, padding=float(other.array.ravel()[0]) if one and isinstance(other, Constant) else None)

    def reduce(self, mode: str, inputs: Values, attributes: Attributes, node: str) -> Rows:
        rows = rows_of(inputs)
        axes = attributes.get("axes") if len(inputs) < 2 else integers(inputs[1])
        if axes is None or len(axes) != 1:
            raise RefusedError("it reduces several axes, which is not supported")
        axis, keep = axes[0] % len(rows.axes), attributes.get("keepdims", 1)
        name = rows.names[axis]
        if name == DIRECTION and mode in _MERGES and not keep and len(rows.pending) == 2:
            return merged(rows.direction(0), rows.direction(1), _MERGES[mode])
        if name in (FEATURE, DIRECTION) or keep:
            raise RefusedError("only the two directions, or all steps, can be reduced")
        self.is_time(name)
        kept = tuple(axis for axis in rows.axes if axis[0] != name)
        least = rows.padding is not None and rows.padding <= _LOW
        if not (mode == "ReduceMax" and least) and not (mode == "ReduceSum" and rows.padding == 0):
            self.unbounded.add(node)
        if mode == "ReduceSum":
            return replace(rows.settled(), axes=kept, summed=node, padding=None)
        if mode == "ReduceProd":
            raise RefusedError("the product of all steps is not supported")
        layer = GlobalMaxPooling1D() if mode == "ReduceMax" else GlobalAveragePooling1D()
        return rows.then(layer, [], node, kept)

    def convolve(self, inputs: Values, attributes: Attributes, node: str) -> Rows:
        rows, kernel, *bias = inputs
        if not isinstance(rows, Rows) or not isinstance(kernel, Constant) or kernel.array.ndim != 3:
            raise RefusedError("only a convolution over time with weights that are stored in the file is supported")
        if len(rows.axes) != 3 or rows.names[1] != FEATURE:
            raise RefusedError("its input has no batch, features and time")
        self.is_time(rows.names[2])
        filters, features, size = kernel.array.shape
        dilation = (attributes.get("dilations") or [1])[0]
        before, after = attributes.get("pads") or [0, 0]
        reach = (size - 1) * dilation
        paddings = {(reach // 2, reach - reach // 2): "same", (reach, 0): "causal"}
        pads = attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", b"")
        padding = paddings.get((before, after)) if pads else None
        if padding is None or attributes.get("group", 1) != 1 or (attributes.get("strides") or [1]) != [1]:
            raise RefusedError("only a stride of 1, one group, and padding to as many steps, or causal, are supported")
        if features != rows.features:
            raise RefusedError(f"its weights take {features} features, but its input has {rows.features}")
        if rows.padding != 0 and padding == "same":
            self.unbounded.add(node)
        arrays = [np.ascontiguousarray(floats_of(kernel).transpose(2, 1, 0))]
        if bias and bias[0] is not None:
            if not isinstance(bias[0], Constant):
                raise RefusedError("its bias is not stored in the file")
            arrays.append(floats_of(bias[0]))
        layer = Conv1D(filters, size, padding=padding, dilation_rate=dilation, use_bias=len(arrays) == 2)
        return rows.then(layer, arrays, node)

    def reverse(self, inputs: Values, attributes: Attributes, node: str) -> Rows:
        rows, lengths = inputs
        if not isinstance(rows, Rows) or not isinstance(lengths, Lengths) or len(rows.pending) != 1 or rows.turned:
            raise RefusedError("only the output of a backward layer can be reversed")
        layer = rows.pending[0].layer
        if not isinstance(layer, Recurrent) or not layer.go_backwards:
            raise RefusedError("only the output of a backward layer can be reversed")
        return replace(rows, turned=True)

    def size(self, inputs: Values, attributes: Attributes, node: str) -> Any:
        rows = rows_of(inputs)
        part = slice(attributes.get("start", 0), attributes.get("end"))
        return Constant(np.array(rows.shape[part], np.int64))


# --- Parts of the above ---------------------------------------------------------------------------------------------


def _averaged(rows: Rows, last: Step) -> Rows:
    assert isinstance(last.layer, Bidirectional)
    layer = Bidirectional(last.layer.layer, "ave", last.layer.backward_layer)
    return replace(rows, steps=(*rows.steps[:-1], Step(layer, last.arrays, last.node)))


_MERGES = {"ReduceSum": "sum", "ReduceMean": "ave", "ReduceProd": "mul"}
_Handler = Callable[[Reader, Values, Attributes, str], Any]


def _reducing(mode: str) -> _Handler:
    return lambda reader, inputs, attributes, node: reader.reduce(mode, inputs, attributes, node)


def _activating(activation: str) -> _Handler:
    return lambda reader, inputs, attributes, node: reader.activate(activation, rows_of(inputs), attributes)


_ROWS: dict[str, _Handler] = {
    **dict.fromkeys(("Identity", "Dropout"), Reader.same),
    "Cast": Reader.cast,
    "Transpose": Reader.transpose,
    "Squeeze": Reader.squeeze,
    "Reshape": Reader.reshape,
    "Gather": Reader.select,
    "Slice": Reader.slice,
    "Shape": Reader.size,
    "MatMul": Reader.product,
    "Gemm": Reader.gemm,
    "Add": Reader.add,
    "Mul": Reader.multiply,
    "Div": Reader.divide,
    "Concat": Reader.concatenate,
    "Where": Reader.where,
    "Conv": Reader.convolve,
    "ReverseSequence": Reader.reverse,
    **{mode: _reducing(mode) for mode in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceProd")},
    **{name.capitalize(): _activating(name) for name in ("softmax", "sigmoid", "tanh", "relu")},
}
