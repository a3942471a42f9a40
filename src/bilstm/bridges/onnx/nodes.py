"""ONNX's nodes, one after the other, as layers of ours. What is not understood is refused by the node's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bilstm.bridges.onnx.constants import FILLING, FOLDED, Attributes, Values, filled, folded, integers, length_value
from bilstm.bridges.onnx.recurrent import read_directions
from bilstm.bridges.onnx.values import (
    DIRECTION,
    FEATURE,
    Constant,
    Filled,
    Lengths,
    Mask,
    Rows,
    Step,
    Value,
    is_value,
    merged,
    reshaped,
    resized,
    without,
)
from bilstm.bridges.refusals import RefusedError
from bilstm.layers import (
    Bidirectional,
    Conv1D,
    Dense,
    Embedding,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    Recurrent,
)
from bilstm.ragged import FloatArray

_LOW = -1e30  # nothing that a maximum would choose
_FLOAT32, _INT32, _INT64 = 1, 6, 7  # ONNX's numbers of types


class Reader:
    """Follows the input of a graph through its nodes.

    Attributes:
        time: the name of the axis that is time, "" until a recurrent layer tells.
        unbounded: the nodes that read steps beyond a sequence's length, or may.
    """

    def __init__(self, opsets: Mapping[str, int]) -> None:
        self.opsets = dict(opsets)
        self.time = ""
        self.unbounded = set[str]()

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
        if operator in FILLING:
            return [FILLING[operator](inputs, attributes)]
        if operator in FOLDED and all(isinstance(each, Constant) for each in inputs if each is not None):
            return [folded(node, inputs, self.opsets)]
        if any(isinstance(each, Rows) for each in inputs):
            handler = _ROWS.get(operator)
            if handler is None:
                raise RefusedError("this operator is not supported here")
            return [handler(self, inputs, attributes, node.name or node.output[0])]
        if any(isinstance(each, (Lengths, Mask)) for each in inputs):
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
        self._is_time(time[0])
        if len(inputs) < 5 or not isinstance(inputs[4], Lengths):
            self.unbounded.add(node)
        directions = tuple(read_directions(operator, inputs, attributes, time[1], node))
        layer = directions[0].layer
        assert isinstance(layer, Recurrent)
        kernel = directions[0].arrays[0]
        if kernel.shape[0] != rows.features:
            raise RefusedError(f"its W takes {kernel.shape[0]} features, but its input has {rows.features}")
        axis, feature = (DIRECTION, len(directions)), (FEATURE, layer.units)
        every = (batch, time, axis, feature) if last else (time, axis, batch, feature)
        final = (batch, axis, feature) if last else (axis, batch, feature)
        ends = tuple(_returning_last(step) for step in directions)
        outputs = [replace(rows, axes=every, pending=directions), replace(rows, axes=final, pending=ends)]
        return [*outputs, Filled(float("nan"))]  # nothing is to be made of the final cell state

    def _is_time(self, name: str) -> None:
        if self.time and self.time != name:
            raise RefusedError("it reads another axis as time than the layer before")
        self.time = name

    def split(self, inputs: Values, attributes: Attributes, count: int) -> list[Value]:
        rows = inputs[0]
        assert isinstance(rows, Rows)
        axis = attributes.get("axis", 0) % len(rows.axes)
        if rows.names[axis] != DIRECTION or count != len(rows.pending):
            raise RefusedError("only the directions of a recurrent layer can be split")
        one = tuple((name, 1 if name == DIRECTION else size) for name, size in rows.axes)
        return [replace(rows, axes=one, pending=(step,)) for step in rows.pending]

    # --- Axes ------------------------------------------------------------------------------------------------------

    def same(self, inputs: Values, attributes: Attributes, node: str) -> Rows:
        return _rows(inputs)

    def cast(self, inputs: Values, attributes: Attributes, node: str) -> Rows:
        rows = _rows(inputs)
        if attributes["to"] not in (_FLOAT32, _INT32, _INT64) or (rows.steps and attributes["to"] != _FLOAT32):
            raise RefusedError("it changes numbers to another type, which is not supported")
        return rows

    def transpose(self, inputs: Values, attributes: Attributes, node: str) -> Rows:
        rows = _rows(inputs)
        order = attributes.get("perm", list(range(len(rows.axes)))[::-1])
        return replace(rows, axes=tuple(rows.axes[axis] for axis in order))

    def squeeze(self, inputs: Values, attributes: Attributes, node: str) -> Rows:
        rows = _rows(inputs)
        axes = attributes.get("axes") if len(inputs) < 2 else integers(inputs[1])
        chosen = [axis for axis, (_, size) in enumerate(rows.axes) if size == 1] if axes is None else axes
        return without(rows, [axis % len(rows.axes) for axis in chosen])

    def reshape(self, inputs: Values, attributes: Attributes, node: str) -> Rows:
        rows = _rows(inputs)
        wanted = [rows.shape[i] if n == 0 else n for i, n in enumerate(integers(inputs[1]))]
        if wanted.count(-1) > 1:
            raise RefusedError("its shape is not known")
        rest = int(np.prod([n for n in wanted if n != -1]))
        shape = tuple(int(np.prod(rows.shape)) // max(1, rest) if n == -1 else n for n in wanted)
        return reshaped(rows, shape)

    def select(self, inputs: Values, attributes: Attributes, node: str) -> Rows:
        """Gather: a word's vector, a direction, or the last step."""
        table, chosen = inputs[:2]
        axis = attributes.get("axis", 0)
        if isinstance(table, Constant) and isinstance(chosen, Rows):
            return self._embedded(table, chosen, axis, node)
        rows = _rows(inputs)
        index = integers(chosen)
        axis %= len(rows.axes)
        if not isinstance(chosen, Constant) or len(index) != 1:
            raise RefusedError("it selects several steps or features, which is not supported")
        kept = chosen.array.ndim == 1
        if rows.names[axis] == DIRECTION and -len(rows.pending) <= index[0] < len(rows.pending):
            one = rows.direction(index[0])
            return replace(one, axes=resized(rows.axes, axis, 1)) if kept else one
        if index[0] == -1 and not kept and rows.names[axis] != FEATURE:
            return self._last_step(rows, axis)
        raise RefusedError("it selects a step or a feature, which is not supported")

    def _last_step(self, rows: Rows, axis: int) -> Rows:
        self._is_time(rows.names[axis])
        layer = rows.pending[0].layer if len(rows.pending) == 1 else None
        if not isinstance(layer, Recurrent) or layer.go_backwards or not layer.return_sequences:
            raise RefusedError(
                "it takes the last step, where a backward direction has read one step only: take the final state "
                "of the recurrent layer instead"
            )
        ended = replace(rows, pending=(_returning_last(rows.pending[0]),))
        return without(replace(ended, axes=resized(rows.axes, axis, 1)), [axis])

    def slice(self, inputs: Values, attributes: Attributes, node: str) -> Rows:
        rows = _rows(inputs)
        start, stop, *rest = map(integers, inputs[1:])
        axes, step = [*rest, *([0], [1])[len(rest) :]]
        if len(start) != 1 or step != [1]:
            raise RefusedError("it selects several steps or features, which is not supported")
        axis, size = axes[0] % len(rows.axes), rows.shape[axes[0] % len(rows.axes)]
        first, end = (min(n + size if n < 0 else n, size) for n in (start[0], stop[0]))
        if (first, end) == (0, size):
            return rows
        if rows.names[axis] == DIRECTION and end == first + 1:
            return replace(rows.direction(first), axes=resized(rows.axes, axis, 1))
        raise RefusedError("it selects steps or features, which is not supported")

    # --- Layers ----------------------------------------------------------------------------------------------------

    def _embedded(self, table: Constant, indices: Rows, axis: int, node: str) -> Rows:
        if indices.steps or indices.pending or FEATURE in indices.names or table.array.ndim != 2 or axis != 0:
            raise RefusedError("only the model's input can be looked up in a table of vectors")
        layer = Embedding(*table.array.shape)
        return indices.then(layer, [_floats(table)], node, (*indices.axes, (FEATURE, 1)))

    def product(self, inputs: Values, attributes: Attributes, node: str) -> Rows:
        """MatMul with a constant on the right."""
        rows, kernel = inputs
        if not isinstance(rows, Rows) or not isinstance(kernel, Constant) or kernel.array.ndim != 2:
            raise RefusedError("only a product with a matrix that is stored in the file is supported")
        return self._dense(rows, [_floats(kernel)], node)

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
        matrix = _floats(kernel).T if attributes.get("transB") else _floats(kernel)
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
        array = _floats(bias).ravel()
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
        return self._biased(_rows(inputs), second if isinstance(first, Rows) else first)

    def multiply(self, inputs: Values, attributes: Attributes, node: str) -> Rows:
        first, second = inputs
        if isinstance(first, Rows) and isinstance(second, Rows):
            return merged(first, second, "mul")
        rows, other = _rows(inputs), second if isinstance(first, Rows) else first
        if isinstance(other, Mask):
            return replace(rows, padding=0.0)
        return self._halved(rows, is_value(other, 0.5))

    def divide(self, inputs: Values, attributes: Attributes, node: str) -> Rows:
        rows, other = inputs
        if isinstance(rows, Rows) and isinstance(other, Lengths) and rows.summed:
            if rows.summed in self.unbounded:
                self.unbounded.add(node)
            return replace(rows, summed="").then(GlobalAveragePooling1D(), [], node)
        return self._halved(_rows(inputs), isinstance(rows, Rows) and is_value(other, 2))

    def _halved(self, rows: Rows, half: bool) -> Rows:
        last = rows.steps[-1] if rows.steps and not rows.pending else None
        if not half or last is None or getattr(last.layer, "merge_mode", None) != "sum":
            raise RefusedError("only half the sum of two directions is supported")
        return _averaged(rows, last)

    def concatenate(self, inputs: Values, attributes: Attributes, node: str) -> Rows:
        if len(inputs) != 2 or not all(isinstance(each, Rows) for each in inputs):
            raise RefusedError("only the two directions of a recurrent layer can be joined")
        first, second = inputs
        assert isinstance(first, Rows)
        assert isinstance(second, Rows)
        axis = attributes.get("axis", 0) % len(first.axes)
        if first.names[axis] != FEATURE:
            raise RefusedError("it joins another axis than the features")
        return merged(first, second, "concat")

    def where(self, inputs: Values, attributes: Attributes, node: str) -> Rows:
        """What padding holds changes nothing here."""
        mask, rows, other = inputs
        if not isinstance(mask, Mask) or not isinstance(rows, Rows):
            raise RefusedError("only the steps beyond a sequence's length can be replaced")
        one = isinstance(other, Constant) and other.array.size == 1
        return replace(rows, padding=float(other.array.ravel()[0]) if one and isinstance(other, Constant) else None)

    def reduce(self, mode: str, inputs: Values, attributes: Attributes, node: str) -> Rows:
        rows = _rows(inputs)
        axes = attributes.get("axes") if len(inputs) < 2 else integers(inputs[1])
        if axes is None or len(axes) != 1:
            raise RefusedError("it reduces several axes, which is not supported")
        axis, keep = axes[0] % len(rows.axes), attributes.get("keepdims", 1)
        name = rows.names[axis]
        if name == DIRECTION and mode in _MERGES and not keep and len(rows.pending) == 2:
            return merged(rows.direction(0), rows.direction(1), _MERGES[mode])
        if name in (FEATURE, DIRECTION) or keep:
            raise RefusedError("only the two directions, or all steps, can be reduced")
        self._is_time(name)
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
        self._is_time(rows.names[2])
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
        arrays = [np.ascontiguousarray(_floats(kernel).transpose(2, 1, 0))]
        if bias and bias[0] is not None:
            if not isinstance(bias[0], Constant):
                raise RefusedError("its bias is not stored in the file")
            arrays.append(_floats(bias[0]))
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
        rows = _rows(inputs)
        part = slice(attributes.get("start", 0), attributes.get("end"))
        return Constant(np.array(rows.shape[part], np.int64))


# --- Parts of the above ---------------------------------------------------------------------------------------------


def _rows(inputs: Values) -> Rows:
    return next(each for each in inputs if isinstance(each, Rows))


def _floats(value: Constant) -> FloatArray:
    if value.array.dtype.kind != "f":
        raise RefusedError(f"its weights are of type {value.array.dtype}, not float32")
    array = np.asarray(value.array, np.float32)
    if not np.isfinite(array).all():
        raise RefusedError("its weights hold NaN or infinity")
    return array


def _returning_last(step: Step) -> Step:
    layer = type(step.layer).from_config(step.layer.get_config() | {"return_sequences": False})
    return Step(layer, step.arrays, step.node)


def _averaged(rows: Rows, last: Step) -> Rows:
    assert isinstance(last.layer, Bidirectional)
    layer = Bidirectional(last.layer.layer, "ave", last.layer.backward_layer)
    return replace(rows, steps=(*rows.steps[:-1], Step(layer, last.arrays, last.node)))


_MERGES = {"ReduceSum": "sum", "ReduceMean": "ave", "ReduceProd": "mul"}
_Handler = Callable[[Reader, Values, Attributes, str], Any]


def _reducing(mode: str) -> _Handler:
    return lambda reader, inputs, attributes, node: reader.reduce(mode, inputs, attributes, node)


def _activating(activation: str) -> _Handler:
    return lambda reader, inputs, attributes, node: reader.activate(activation, _rows(inputs), attributes)


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
