"""ONNX's nodes that move or select axes, rows, directions and states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from bilstm.bridges.onnx.constants import Attributes, Values, integers
from bilstm.bridges.onnx.values import (
    DIRECTION,
    FEATURE,
    Constant,
    Order,
    Rows,
    States,
    Step,
    Value,
    merged,
    reshaped,
    resized,
    without,
)
from bilstm.bridges.refusals import RefusedError
from bilstm.layers import Embedding, Recurrent
from bilstm.ragged import FloatArray

_FLOAT32, _INT32, _INT64 = 1, 6, 7  # ONNX's numbers of types


class AxisReader:
    """Follows the axes of rows.

    Attributes:
        opsets: the versions of ONNX's operators, by their domain.
        time: the name of the axis that is time, "" until a recurrent layer tells.
        batch: the name of the axis that was sorted, "" if none was.
        unbounded: the nodes that read steps beyond a sequence's length, or may.
    """

    def __init__(self, opsets: Mapping[str, int]) -> None:
        self.opsets = dict(opsets)
        self.time = ""
        self.batch = ""
        self.unbounded = set[str]()

    def is_time(self, name: str) -> None:
        if self.time and self.time != name:
            raise RefusedError("it reads another axis as time than the layer before")
        self.time = name

    def same(self, inputs: Values, attributes: Attributes, node: str) -> Rows:
        return rows_of(inputs)

    def cast(self, inputs: Values, attributes: Attributes, node: str) -> Rows:
        rows = rows_of(inputs)
        if attributes["to"] not in (_FLOAT32, _INT32, _INT64) or (rows.steps and attributes["to"] != _FLOAT32):
            raise RefusedError("it changes numbers to another type, which is not supported")
        return rows

    def transpose(self, inputs: Values, attributes: Attributes, node: str) -> Rows:
        rows = rows_of(inputs)
        order = attributes.get("perm", list(range(len(rows.axes)))[::-1])
        return replace(rows, axes=tuple(rows.axes[axis] for axis in order))

    def squeeze(self, inputs: Values, attributes: Attributes, node: str) -> Rows:
        rows = rows_of(inputs)
        axes = attributes.get("axes") if len(inputs) < 2 else integers(inputs[1])
        chosen = [axis for axis, (_, size) in enumerate(rows.axes) if size == 1] if axes is None else axes
        return without(rows, [axis % len(rows.axes) for axis in chosen])

    def reshape(self, inputs: Values, attributes: Attributes, node: str) -> Rows:
        rows = rows_of(inputs)
        requested = [rows.shape[i] if n == 0 else n for i, n in enumerate(integers(inputs[1]))]
        if requested.count(-1) > 1:
            raise RefusedError("its shape is not known")
        rest = int(np.prod([n for n in requested if n != -1]))
        shape = tuple(int(np.prod(rows.shape)) // max(1, rest) if n == -1 else n for n in requested)
        return reshaped(rows, shape)

    def select(self, inputs: Values, attributes: Attributes, node: str) -> Rows:
        """Gather: a word's vector, a direction, or the last step."""
        table, chosen = inputs[:2]
        axis = attributes.get("axis", 0)
        if isinstance(table, Constant) and isinstance(chosen, Rows):
            return self._embedded(table, chosen, axis, node)
        rows = rows_of(inputs)
        axis %= len(rows.axes)
        if isinstance(chosen, Order) and chosen.inverse == rows.sorted and rows.names[axis] not in (FEATURE, DIRECTION):
            self.batch = self.batch or rows.names[axis]
            if self.batch in (self.time, "") or self.batch != rows.names[axis]:
                raise RefusedError("it sorts another axis than the sequences")
            return replace(rows, sorted=not rows.sorted)
        index = integers(chosen)
        if not isinstance(chosen, Constant) or len(index) != 1:
            raise RefusedError("it selects several steps or features, which is not supported")
        kept = chosen.array.ndim == 1
        if rows.names[axis] == DIRECTION and -len(rows.pending) <= index[0] < len(rows.pending):
            one = rows.direction(index[0])
            return replace(one, axes=resized(rows.axes, axis, 1)) if kept else one
        if index[0] == -1 and not kept and rows.names[axis] != FEATURE:
            return self._last_step(rows, axis)
        raise RefusedError("it selects a step or a feature, which is not supported")

    def state(self, states: States, chosen: Value | None, attributes: Attributes) -> Value:
        """One of the final states, or all in another order of the sequences."""
        axis = attributes.get("axis", 0)
        if isinstance(chosen, Order) and axis == 1:
            return States(tuple(self.select([each, chosen], {"axis": 0}, "") for each in states.each))
        index = integers(chosen)
        if axis != 0 or not isinstance(chosen, Constant) or chosen.array.ndim:
            raise RefusedError("it selects several states, which is not supported")
        return states.each[index[0]]

    def _last_step(self, rows: Rows, axis: int) -> Rows:
        self.is_time(rows.names[axis])
        layer = rows.pending[0].layer if len(rows.pending) == 1 else None
        if not isinstance(layer, Recurrent) or layer.go_backwards or not layer.return_sequences:
            raise RefusedError(
                "it takes the last step, where a backward direction has read one step only: take the final state "
                "of the recurrent layer instead"
            )
        ended = replace(rows, pending=(returning_last(rows.pending[0]),))
        return without(replace(ended, axes=resized(rows.axes, axis, 1)), [axis])

    def slice(self, inputs: Values, attributes: Attributes, node: str) -> Rows:
        rows = rows_of(inputs)
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

    def _embedded(self, table: Constant, indices: Rows, axis: int, node: str) -> Rows:
        if indices.steps or indices.pending or FEATURE in indices.names or table.array.ndim != 2 or axis != 0:
            raise RefusedError("only the model's input can be looked up in a table of vectors")
        layer = Embedding(*table.array.shape)
        return indices.then(layer, [floats_of(table)], node, (*indices.axes, (FEATURE, 1)))

    def split(self, inputs: Values, attributes: Attributes, count: int) -> list[Value]:
        rows = inputs[0]
        assert isinstance(rows, Rows)
        axis = attributes.get("axis", 0) % len(rows.axes)
        if rows.names[axis] != DIRECTION or count != len(rows.pending):
            raise RefusedError("only the directions of a recurrent layer can be split")
        one = tuple((name, 1 if name == DIRECTION else size) for name, size in rows.axes)
        return [replace(rows, axes=one, pending=(step,)) for step in rows.pending]

    def concatenate(self, inputs: Values, attributes: Attributes, node: str) -> Rows | States:
        axes = [each.names[attributes.get("axis", 0) % len(each.axes)] for each in inputs if isinstance(each, Rows)]
        if axes == [DIRECTION] * len(inputs):
            ends = [each for each in inputs if isinstance(each, Rows)]
            return States(tuple(each.direction(i) for each in ends for i in range(len(each.pending))))
        if len(inputs) != 2 or not all(isinstance(each, Rows) for each in inputs):
            raise RefusedError("only the two directions of a recurrent layer can be joined")
        first, second = inputs
        assert isinstance(first, Rows)
        assert isinstance(second, Rows)
        axis = attributes.get("axis", 0) % len(first.axes)
        if first.names[axis] != FEATURE:
            raise RefusedError("it joins another axis than the features")
        return merged(first, second, "concat")


def rows_of(inputs: Values) -> Rows:
    return next(each for each in inputs if isinstance(each, Rows))


def floats_of(value: Constant) -> FloatArray:
    if value.array.dtype.kind != "f":
        raise RefusedError(f"its weights are of type {value.array.dtype}, not float32")
    array = np.asarray(value.array, np.float32)
    if not np.isfinite(array).all():
        raise RefusedError("its weights hold NaN or infinity")
    return array


def returning_last(step: Step) -> Step:
    layer = type(step.layer).from_config(step.layer.get_config() | {"return_sequences": False})
    return Step(layer, step.arrays, step.node)
