"""A network's layers as ONNX nodes.

Between them, rows are (time, batch, features), as ONNX's recurrent layers take them. Steps beyond a sequence's length
may hold anything finite; whatever reads other steps than its own leaves them out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from bilstm.bridges.onnx.graph import Graph
from bilstm.errors import UserError
from bilstm.layers import (
    CRF,
    GRU,
    LSTM,
    AveragePooling1D,
    BatchNormalization,
    Bidirectional,
    ColumnEmbedding,
    Conv1D,
    Dense,
    Dropout,
    Embedding,
    GlobalAttentionPooling1D,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    Layer,
    Masking,
    MaxPooling1D,
    Recurrent,
    Reverse,
    SimpleRNN,
    SpatialDropout1D,
    TimeDistributed,
)
from bilstm.models import Sequential
from bilstm.models.structure import mask_value_of
from bilstm.ragged import FloatArray

Arrays = Sequence[FloatArray]
_ZERO = np.float32(0)
_LOWEST = np.float32(np.finfo(np.float32).min)
_ACTIVATIONS = {"sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu"}
# Of gates: ONNX's activation, and its slope where it has one.
_GATES = {
    "sigmoid": ("Sigmoid", None),
    "hard_sigmoid": ("HardSigmoid", 1 / 6),
    "hard_sigmoid_keras2": ("HardSigmoid", 0.2),
}
# Our order of gates, i f c o and z r h -> ONNX's, i o f c and z r h.
_ORDER = {"LSTM": (0, 3, 1, 2), "GRU": (0, 1, 2), "RNN": (0,)}


@dataclasses.dataclass(frozen=True)
class Rows:
    """What a layer reads.

    Attributes:
        name: of the tensor, (time, batch, features), or (batch, features) where a sequence has one row.
        lengths: of (batch,) int32, the number of steps of each sequence.
        mask: of (time, batch, 1) booleans, which steps are within their sequence.
    """

    name: str
    lengths: str
    mask: str


class Writer:
    """Writes a network into a graph.

    Attributes:
        graph: the graph.
        rows: the output of the layers so far.
    """

    def __init__(self, graph: Graph, model: Sequential) -> None:
        self.graph = graph
        self.model = model
        self.rows = Rows("", "", "")
        self._moved: tuple[str, str] | None = None  # where steps were left out: their order, and how many there are
        self._reversed = False  # whether the next layer restores the order of steps

    def write(self, x: str, lengths: str) -> str:
        """The outputs for (batch, time, features) and lengths (batch,) int32: (batch, time, outputs), 0 beyond a
        sequence's end, or (batch, outputs).
        """
        graph, layers = self.graph, self.model.layers
        kept = graph.within(graph.size(x, 1), lengths)
        mask_value = mask_value_of(layers[0])
        if mask_value is not None:
            x, lengths, kept = self._without_masked(x, kept, mask_value)
        # Nothing that padding holds, NaN included, may reach a sum.
        mask = graph.unsqueeze(kept, 2)
        x = graph.add("Where", [mask, x, graph.constant(np.zeros((), self.dtype), "zero")])
        self.rows = Rows(graph.transpose(x, 1, 0, 2), lengths, graph.transpose(mask, 1, 0, 2))
        weights = self.model.tensors()
        for index, layer in enumerate(layers):
            graph.scope = f"layers.{index}"
            follower = layers[index + 1] if index + 1 < len(layers) else None
            self._reversed = isinstance(follower, Reverse)
            own = [array for name, array in weights.items() if name.startswith(f"{graph.scope}.")]
            self.rows = self._layer(layer, own)
        graph.scope = ""
        if not all(layer.returns_rows_per_step() for layer in layers):
            return self.rows.name
        y = graph.transpose(self._cleared(), 1, 0, 2)
        if self._moved is None:
            return y
        places = graph.unsqueeze(self._ranked(*self._moved), 2)
        return graph.add("GatherND", [y, places], batch_dims=1)

    @property
    def dtype(self) -> type:
        """Of the input: whole numbers before an Embedding."""
        return np.int64 if isinstance(self.model.layers[0], Embedding) else np.float32

    def _layer(self, layer: Layer, weights: Arrays) -> Rows:
        if isinstance(layer, TimeDistributed):
            layer = layer.layer
        translate = _LAYERS.get(type(layer))
        if translate is None:
            raise UserError(f"cannot write {layer!r} as ONNX: this layer is not supported")
        return translate(self, layer, weights)

    def _replaced(self, name: str) -> Rows:
        return dataclasses.replace(self.rows, name=name)

    # --- Steps ---------------------------------------------------------------------------------------------------

    def _without_masked(self, x: str, within: str, mask_value: float) -> tuple[str, str, str]:
        """The steps that are not masked moved to the front, how many there are, and which those are."""
        graph = self.graph
        different = graph.add("Not", [graph.add("Equal", [x, graph.constant(np.array(mask_value, self.dtype))])])
        some = graph.add("ReduceMax", [graph.cast(different, TensorProto.INT32)], axes=[2], keepdims=0)
        kept = graph.add("And", [within, graph.cast(some, TensorProto.BOOL)])
        size = graph.size(x, 1)
        positions = graph.positions(size)
        keys = graph.add("Where", [kept, positions, graph.add("Add", [positions, size])])
        order = self._ranked(keys, size)
        self._moved = order, size
        moved = graph.add("GatherND", [x, graph.unsqueeze(order, 2)], batch_dims=1)
        lengths = graph.reduce_sum(graph.cast(kept, TensorProto.INT32), 1)
        return moved, lengths, graph.within(size, lengths)

    def _ranked(self, keys: str, size: str) -> str:
        """(batch, time) indices that sort the keys of each sequence."""
        outputs = ["", self.graph.name("order")]
        outputs[0] = self.graph.name("keys")
        return self.graph.add_many("TopK", [keys, size], outputs, axis=1, largest=0)[1]

    def _cleared(self, value: np.float32 = _ZERO) -> str:
        """The rows, with a value at the steps beyond their sequence's end."""
        return self.graph.add("Where", [self.rows.mask, self.rows.name, self.graph.constant(value, "padding")])

    # --- Recurrent layers ----------------------------------------------------------------------------------------

    def recurrent(self, layer: Recurrent, weights: Arrays) -> Rows:
        outputs = self._run([layer], [weights])
        one = self.graph.squeeze(outputs, 1 if layer.return_sequences else 0)
        turned = layer.return_sequences and layer.go_backwards != self._reversed
        return self._replaced(self._turned(one) if turned else one)

    def bidirectional(self, layer: Bidirectional, weights: Arrays) -> Rows:
        both = [layer.forward, layer.backward]
        first = len(layer.forward.weight_specs(1))
        halves = [weights[:first], weights[first:]]
        if layer.forward.go_backwards:  # ONNX's first direction is the one that reads forwards
            both, halves = both[::-1], halves[::-1]
        axis = 1 if layer.returns_rows_per_step() else 0
        if _operator(both[0]) == _operator(both[1]):
            outputs = self._run(both, halves)
            split = None
        else:
            split = [self.graph.squeeze(self._run([one], [half]), axis) for one, half in zip(both, halves, strict=True)]
            outputs = ""
        name = self._merged(layer, split, outputs, axis)
        turned = layer.returns_rows_per_step() and layer.forward.go_backwards != self._reversed
        return self._replaced(self._turned(name) if turned else name)

    def _merged(self, layer: Bidirectional, split: list[str] | None, outputs: str, axis: int) -> str:
        """Both directions' outputs as one; they are in one tensor, along an axis, or in two."""
        graph, mode = self.graph, layer.merge_mode or "concat"
        swapped = layer.forward.go_backwards
        if split is None and mode != "concat":
            if mode == "sum":
                return graph.reduce_sum(outputs, axis)
            return graph.add({"mul": "ReduceProd", "ave": "ReduceMean"}[mode], [outputs], axes=[axis], keepdims=0)
        if split is None and not swapped:
            moved = graph.transpose(outputs, 0, 2, 1, 3) if axis else graph.transpose(outputs, 1, 0, 2)
            shape = [0, 0, -1] if axis else [0, -1]
            return graph.add("Reshape", [moved, graph.constant(np.array(shape, np.int64), "shape")])
        if split is None:
            names = [graph.name("direction") for _ in range(2)]
            split = [graph.squeeze(each, axis) for each in graph.add_many("Split", [outputs], names, axis=axis)]
        if mode == "concat":
            return graph.add("Concat", split[::-1] if swapped else split, axis=-1)
        if mode == "ave":
            return graph.add("Mul", [graph.add("Add", split), graph.constant(np.float32(0.5))])
        return graph.add({"sum": "Add", "mul": "Mul"}[mode], split)

    def _run(self, layers: Sequence[Recurrent], weights: Sequence[Arrays]) -> str:
        """The outputs of one direction or of two, (time, directions, batch, units), or of their last steps."""
        graph, (operator, attributes) = self.graph, _operator(layers[0])
        arranged = [_arranged(operator, layer, arrays) for layer, arrays in zip(layers, weights, strict=True)]
        names = [
            graph.constant(np.stack(arrays), kind)
            for kind, arrays in zip("WRB", zip(*arranged, strict=True), strict=True)
        ]
        direction = "bidirectional" if len(layers) == 2 else "reverse" if layers[0].go_backwards else "forward"
        slopes = attributes.pop("slopes") * len(layers)
        if slopes:
            attributes |= {"activation_alpha": slopes, "activation_beta": [0.5] * len(slopes)}
        attributes["activations"] = attributes["activations"] * len(layers)
        every_step = layers[0].return_sequences
        outputs = [graph.name("Y")] if every_step else ["", graph.name("Y_h")]
        return graph.add_many(
            operator,
            [self.rows.name, *names, self.rows.lengths],
            outputs,
            direction=direction,
            **attributes,
        )[-1]

    def _turned(self, name: str) -> str:
        """The steps of each sequence in reverse."""
        lengths = self.graph.cast(self.rows.lengths, TensorProto.INT64)
        return self.graph.add("ReverseSequence", [name, lengths], time_axis=0, batch_axis=1)

    # --- Layers of single steps ----------------------------------------------------------------------------------

    def dense(self, layer: Dense, weights: Arrays) -> Rows:
        return self._replaced(self._linear(self.rows.name, weights, layer.activation))

    def _linear(self, name: str, weights: Arrays, activation: str) -> str:
        graph = self.graph
        name = graph.add("MatMul", [name, graph.constant(weights[0], "kernel")])
        if len(weights) > 1:
            name = graph.add("Add", [name, graph.constant(weights[1], "bias")])
        return self._activated(name, activation)

    def _activated(self, name: str, activation: str) -> str:
        if activation == "softmax":
            return self.graph.add("Softmax", [name], axis=-1)
        return name if activation == "linear" else self.graph.add(_ACTIVATIONS[activation], [name])

    def normalization(self, layer: BatchNormalization, weights: Arrays) -> Rows:
        """By the moving averages: one product and one sum."""
        graph, (*learned, mean, variance) = self.graph, [np.asarray(array, np.float64) for array in weights]
        factor = 1 / np.sqrt(variance + layer.epsilon)
        if layer.scale:
            factor *= learned[0]
        shift = (learned[-1] if layer.center else 0.0) - mean * factor
        scaled = graph.add("Mul", [self.rows.name, graph.constant(factor.astype(np.float32), "factor")])
        return self._replaced(graph.add("Add", [scaled, graph.constant(shift.astype(np.float32), "shift")]))

    def nothing(self, layer: Layer, weights: Arrays) -> Rows:
        """Dropout acts in training only; masked steps were left out at the beginning, and Reverse done before. What a
        CRF reads are the emissions.
        """
        return self.rows

    def embedding(self, layer: Embedding, weights: Arrays) -> Rows:
        graph = self.graph
        indices = graph.cast(graph.squeeze(self.rows.name, 2), TensorProto.INT64)
        return self._replaced(graph.add("Gather", [graph.constant(weights[0], "embeddings"), indices]))

    def column_embedding(self, layer: ColumnEmbedding, weights: Arrays) -> Rows:
        graph = self.graph
        sizes = [*([layer.numeric] if layer.numeric else []), *[1] * len(weights)]
        columns = [graph.name("columns") for _ in sizes]
        if len(sizes) == 1:
            columns = [self.rows.name]
        else:
            graph.add_many("Split", [self.rows.name, graph.constant(np.array(sizes, np.int64))], columns, axis=2)
        parts = columns[: len(sizes) - len(weights)]
        for table, column in zip(weights, columns[len(parts) :], strict=True):
            indices = graph.cast(graph.squeeze(column, 2), TensorProto.INT64)
            parts.append(graph.add("Gather", [graph.constant(table, "embeddings"), indices]))
        return self._replaced(parts[0] if len(parts) == 1 else graph.add("Concat", parts, axis=2))

    # --- Convolution and pooling ---------------------------------------------------------------------------------

    def convolution(self, layer: Conv1D, weights: Arrays) -> Rows:
        graph = self.graph
        reach = (layer.kernel_size - 1) * layer.dilation_rate
        before = reach if layer.padding == "causal" else reach // 2
        name = graph.transpose(self._cleared(), 1, 2, 0)
        kernel = graph.constant(np.ascontiguousarray(weights[0].transpose(2, 1, 0)), "kernel")
        bias = [graph.constant(weights[1], "bias")] if len(weights) > 1 else []
        name = graph.add(
            "Conv",
            [name, kernel, *bias],
            kernel_shape=[layer.kernel_size],
            dilations=[layer.dilation_rate],
            pads=[before, reach - before],
        )
        return self._replaced(self._activated(graph.transpose(name, 2, 0, 1), layer.activation))

    def average(self, layer: GlobalAveragePooling1D, weights: Arrays) -> Rows:
        graph = self.graph
        lengths = graph.unsqueeze(graph.cast(self.rows.lengths, TensorProto.FLOAT), 1)
        return self._replaced(graph.add("Div", [graph.reduce_sum(self._cleared(), 0), lengths]))

    def maximum(self, layer: GlobalMaxPooling1D, weights: Arrays) -> Rows:
        return self._replaced(self.graph.add("ReduceMax", [self._cleared(_LOWEST)], axes=[0], keepdims=0))

    def attention(self, layer: GlobalAttentionPooling1D, weights: Arrays) -> Rows:
        graph, (kernel, bias, query) = self.graph, weights
        hidden = self._linear(self.rows.name, [kernel, bias], "tanh")
        scores = graph.add("MatMul", [hidden, graph.constant(query[:, np.newaxis], "query")])
        scores = graph.add("Where", [self.rows.mask, scores, graph.constant(_LOWEST, "padding")])
        shares = graph.add("Softmax", [scores], axis=0)
        return self._replaced(graph.reduce_sum(graph.add("Mul", [shares, self._cleared()]), 0))

    def window_pooling(self, layer: AveragePooling1D | MaxPooling1D, weights: Arrays) -> Rows:
        """Gathers the rows of all windows: where they begin depends on a sequence's length."""
        graph, (before, lengths) = self.graph, self._windows(layer)
        count = graph.add("ReduceMax", [lengths], axes=[0], keepdims=1)
        starts = graph.add("Mul", [graph.positions(count), graph.constant(np.int64(layer.strides))])
        starts = graph.add("Sub", [graph.unsqueeze(starts, 0), graph.unsqueeze(before, 1)])  # (batch, windows)
        places = graph.add(
            "Add", [graph.unsqueeze(starts, 2), graph.constant(np.arange(layer.pool_size, dtype=np.int64))]
        )
        ends = graph.unsqueeze(graph.cast(self.rows.lengths, TensorProto.INT64), 1, 2)
        zero = graph.constant(np.int64(0))
        inside = graph.add("And", [graph.add("GreaterOrEqual", [places, zero]), graph.add("Less", [places, ends])])
        safe = graph.unsqueeze(graph.add("Where", [inside, places, zero]), 3)
        rows = graph.add("GatherND", [graph.transpose(self.rows.name, 1, 0, 2), safe], batch_dims=1)
        inside = graph.unsqueeze(inside, 3)  # (batch, windows, pool_size, 1)
        if isinstance(layer, MaxPooling1D):
            rows = graph.add("Where", [inside, rows, graph.constant(_LOWEST, "padding")])
            pooled = graph.add("ReduceMax", [rows], axes=[2], keepdims=0)
        else:
            rows = graph.add("Where", [inside, rows, graph.constant(np.float32(0), "padding")])
            counts = graph.reduce_sum(graph.cast(inside, TensorProto.FLOAT), 2)
            counts = graph.add("Max", [counts, graph.constant(np.float32(1))])
            pooled = graph.add("Div", [graph.reduce_sum(rows, 2), counts])
        lengths = graph.cast(lengths, TensorProto.INT32)
        mask = graph.unsqueeze(graph.transpose(graph.within(count, lengths), 1, 0), 2)
        return Rows(graph.transpose(pooled, 1, 0, 2), lengths, mask)

    def _windows(self, layer: AveragePooling1D | MaxPooling1D) -> tuple[str, str]:
        """(batch,) int64: how far a sequence's first window begins before it, and how many windows there are."""
        graph = self.graph
        size, stride = (graph.constant(np.int64(value)) for value in (layer.pool_size, layer.strides))
        lengths = graph.cast(self.rows.lengths, TensorProto.INT64)
        zero, one = (graph.constant(np.int64(value)) for value in (0, 1))
        if layer.padding == "valid":
            counts = graph.add("Add", [graph.add("Div", [graph.add("Sub", [lengths, size]), stride]), one])
            return graph.add("Sub", [counts, counts]), counts
        rounded = graph.add("Add", [lengths, graph.constant(np.int64(layer.strides - 1))])
        counts = graph.add("Div", [rounded, stride])
        spanned = graph.add("Add", [graph.add("Mul", [graph.add("Sub", [counts, one]), stride]), size])
        beyond = graph.add("Max", [graph.add("Sub", [spanned, lengths]), zero])
        return graph.add("Div", [beyond, graph.constant(np.int64(2))]), counts


def _operator(layer: Recurrent) -> tuple[str, dict[str, Any]]:
    """ONNX's operator for a layer, and what says how it computes; "slopes" are those of its activations."""
    if isinstance(layer, SimpleRNN):
        return "RNN", {"activations": [_ACTIVATIONS[layer.activation]], "slopes": [], "hidden_size": layer.units}
    gate, slope = _GATES[layer.recurrent_activation]
    slopes = [] if slope is None else [slope]
    if isinstance(layer, LSTM):
        return "LSTM", {"activations": [gate, "Tanh", "Tanh"], "slopes": slopes, "hidden_size": layer.units}
    assert isinstance(layer, GRU)
    after = {"linear_before_reset": int(layer.reset_after)}
    return "GRU", {"activations": [gate, "Tanh"], "slopes": slopes, "hidden_size": layer.units, **after}


def _arranged(operator: str, layer: Recurrent, weights: Arrays) -> list[FloatArray]:
    """A direction's W (gates * units, inputs), R (gates * units, units) and B (2 * gates * units)."""
    order = _ORDER[operator]

    def ordered(array: FloatArray) -> FloatArray:
        blocks = np.split(array, layer.gates, axis=-1)
        return np.concatenate([blocks[gate] for gate in order], axis=-1)

    kernel, recurrent_kernel = (ordered(array).T for array in weights[:2])
    biases = np.zeros((2, layer.gates * layer.units), np.float32)
    if layer.use_bias and np.ndim(weights[2]) == 2:  # of the inputs and of the recurrent product
        biases[:] = ordered(weights[2])
    elif layer.use_bias:
        biases[0] = ordered(weights[2])
    return [kernel, recurrent_kernel, biases.ravel()]


_Translation = Callable[[Writer, Any, Arrays], Rows]
_LAYERS: dict[type[Layer], _Translation] = {
    **dict.fromkeys((LSTM, GRU, SimpleRNN), Writer.recurrent),
    Bidirectional: Writer.bidirectional,
    Dense: Writer.dense,
    BatchNormalization: Writer.normalization,
    Embedding: Writer.embedding,
    ColumnEmbedding: Writer.column_embedding,
    Conv1D: Writer.convolution,
    GlobalAveragePooling1D: Writer.average,
    GlobalMaxPooling1D: Writer.maximum,
    GlobalAttentionPooling1D: Writer.attention,
    **dict.fromkeys((AveragePooling1D, MaxPooling1D), Writer.window_pooling),
    **dict.fromkeys((Dropout, SpatialDropout1D, Masking, Reverse, CRF), Writer.nothing),
}
