"""Tensors of a graph that do not depend on the sequences' values: shapes, initial states, lengths and masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bilstm.bridges.onnx.values import Constant, Filled, Lengths, Mask, Order, Value, is_value
from bilstm.bridges.refusals import RefusedError

Values = Sequence[Value | None]
Attributes = Mapping[str, Any]
_MOST_FOLDED = 1 << 27  # elements of a constant that is computed
_SEQUENCES = 99_971  # stands for how many lengths there are
# Operators whose results are computed where nothing depends on the input: shapes, and weights that are rearranged.
FOLDED = {
    *("Add", "And", "Cast", "Concat", "Div", "Equal", "Flatten", "Gather", "Identity", "Max", "Min", "Mul", "Neg"),
    *("Range", "ReduceProd", "Reshape", "Slice", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where"),
}


def folded(node: Any, inputs: Values, opsets: Mapping[str, int]) -> Constant:
    """The result of a node whose inputs are constants.

    Raises:
        RefusedError: it would be too large.
    """
    from onnx.reference import ReferenceEvaluator

    arrays = {name: each.array for name, each in zip(node.input, inputs, strict=True) if isinstance(each, Constant)}
    shapes = [array.shape for array in arrays.values()]
    if node.op_type == "Range":
        start, stop, step = (array.item() for array in arrays.values())
        size = abs((stop - start) / step) if step else np.inf
    elif node.op_type in ("Add", "And", "Div", "Equal", "Max", "Min", "Mul", "Sub", "Where"):
        size = float(np.prod(np.broadcast_shapes(*shapes), dtype=float))
    else:
        size = float(sum(array.size for array in arrays.values()))
        if node.op_type == "Gather":
            size = float(np.prod(shapes[0][1:] + shapes[-1], dtype=float))
    if size > _MOST_FOLDED:
        raise RefusedError("its result would be too large")
    (result,) = ReferenceEvaluator(node, opsets=dict(opsets)).run(None, arrays)
    return Constant(np.asarray(result))


def length_value(operator: str, inputs: Values) -> Value:
    """Lengths, masks of steps and orders of sequences through what only changes their type or shape; Less(positions,
    lengths) is a mask, and an order that is scattered its inverse.
    """
    first = inputs[0]
    rearranged = operator in ("Cast", "Unsqueeze", "Squeeze", "Identity", "Transpose", "Reshape", "Expand")
    if rearranged and isinstance(first, (Lengths, Mask, Order)):
        return first
    if operator == "Shape" and isinstance(first, (Lengths, Order)):
        return Constant(np.array([_SEQUENCES]))
    if operator == "ScatterElements" and is_value(first, 0) and inputs[1] == Order():
        places = inputs[2]
        if isinstance(places, Constant) and np.array_equal(places.array, np.arange(_SEQUENCES)):
            return Order(inverse=True)
    if operator in ("Less", "Greater"):
        positions, lengths = inputs if operator == "Less" else inputs[::-1]
        if isinstance(positions, Constant) and isinstance(lengths, Lengths) and not lengths.sorted:
            flat = positions.array.ravel()
            if np.array_equal(flat, np.arange(len(flat))):
                return Mask()
    raise RefusedError("what it computes from the lengths is not supported")


def ordered(inputs: Values, attributes: Attributes) -> list[Value]:
    """TopK of the lengths: sorted, and their order."""
    if inputs[0] != Lengths() or not attributes.get("sorted", 1) or integers(inputs[1]) != [_SEQUENCES]:
        raise RefusedError("what it computes from the lengths is not supported")
    return [Lengths(sorted=True), Order()]


def integers(value: Value | None) -> list[int]:
    if not isinstance(value, Constant) or value.array.dtype.kind not in "iu":
        raise RefusedError("what it selects is not known before the model runs")
    return [int(number) for number in value.array.ravel()]


def _constant_of_shape(inputs: Values, attributes: Attributes) -> Value:
    from onnx import numpy_helper

    value = attributes.get("value")
    return Filled(0.0 if value is None else float(numpy_helper.to_array(value).ravel()[0]))


def _expanded(inputs: Values, attributes: Attributes) -> Value:
    first = inputs[0]
    if isinstance(first, Constant) and first.array.size and np.all(first.array == first.array.ravel()[0]):
        return Filled(float(first.array.ravel()[0]))
    if isinstance(first, (Filled, Lengths, Mask)):
        return first
    raise RefusedError("this operator is not supported here")


def filled(operator: str, inputs: Values) -> Value:
    """A tensor of one value through what only selects or rearranges its elements."""
    first = inputs[0]
    if isinstance(first, Filled) and operator in (
        *("Cast", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"),
    ):
        return first
    if operator == "Concat" and isinstance(first, Filled) and all(each == first for each in inputs):
        return first
    raise RefusedError("this operator is not supported here")


FILLING: dict[str, Callable[[Values, Attributes], Value]] = {
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expanded,
    "Tile": _expanded,
}
