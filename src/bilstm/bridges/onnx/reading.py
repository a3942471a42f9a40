"""An ONNX file as a `Sequential` model, and what there is to know about it."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bilstm.bridges.onnx.values import FEATURE, Constant, Lengths, Rows, Step, Value
from bilstm.bridges.refusals import RefusedError, saying_why
from bilstm.bridges.source import IN_FLOAT32, Reach, SourceFile
from bilstm.errors import UserError, counted, listed, shown
from bilstm.files import AnyPath, check_readable
from bilstm.models import Sequential

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

    from bilstm.bridges.checking import Check
    from bilstm.bridges.onnx.nodes import Reader

_BATCH, _TIME = 99_991, 99_989  # stand for sizes that are not fixed: primes that no layer has for its size


@dataclass(frozen=True, kw_only=True)
class OnnxFile(SourceFile):
    """What an ONNX file holds.

    Attributes:
        model: the model, not compiled.
        path: the file.
        layers: of each layer the name of its node, the node's operator, and what it became here.
        notes: remarks, such as on weights that are not float32.
        agrees: whether ragged batches give the same predictions in ONNX, where shorter sequences are padded.
        padding: a sentence about why.
        steps: the number of time steps that the file fixes for each sequence; None: any.
        producer: what wrote it.
        time_axis: of the graph's input, 0 or 1.
    """

    producer: str
    time_axis: int

    @property
    def what(self) -> str:
        """What it is and what wrote it."""
        return f"ONNX model of {shown(self.producer)[1:-1] or 'an unknown program'}"

    def check(self) -> Check:
        """Compare predictions with ONNX Runtime's, where that is installed."""
        from bilstm.bridges.onnx.checking import check

        return check(self)


def read(path: AnyPath) -> OnnxFile:
    """Read an ONNX model, and what there is to know about it. Needs onnx only; nothing in the file is run.

    Args:
        path: the file: one chain of recurrent layers, embeddings, convolutions, products and poolings.

    Raises:
        ModelFileError: the file is missing, damaged or no ONNX model, or a node of it is not supported; the message
            names it.
        UserError: the package onnx is missing.
        MemoryError: there is too little memory for it.
    """
    try:
        import onnx
    except ModuleNotFoundError:
        raise UserError("reading ONNX needs the package onnx: pip install 'bilstm[onnx]'") from None
    check_readable(path)
    with saying_why(path):
        proto = onnx.load(os.fspath(path))
        if not proto.graph.output:
            raise RefusedError("it is not an ONNX model")
        onnx.checker.check_model(proto)
        rows, given, reader, has_lengths = _follow(proto)
        model = _model(rows, dict(given.axes).get(FEATURE, 1))
    operators = {node.name or node.output[0]: node.op_type for node in proto.graph.node}
    time_axis = given.names.index(reader.time) if reader.time else 1
    size = given.shape[time_axis]
    return OnnxFile(
        model=model,
        path=os.fspath(path),
        layers=[(step.node, operators[step.node], repr(step.layer)) for step in rows.steps],
        notes=_notes(proto.graph),
        reach=_reach_of(rows.steps, reader.unbounded, has_lengths),
        steps=None if size in (_BATCH, _TIME) else size,
        producer=f"{proto.producer_name} {proto.producer_version}".strip(),
        time_axis=time_axis,
    )


def load(path: AnyPath) -> Sequential:
    """The model in an ONNX file, not compiled. The errors are those of `read`."""
    return read(path).model


def _model(rows: Rows, features: int) -> Sequential:
    try:
        model = Sequential([step.layer for step in rows.steps])
        model.build((None, features))
        model.set_weights([array for step in rows.steps for array in step.arrays])
    except ValueError as error:
        raise RefusedError(str(error)) from None
    return model


def _notes(graph: GraphProto) -> list[str]:
    from onnx import TensorProto

    others = {each.data_type for each in graph.initializer} & {TensorProto.FLOAT16, TensorProto.DOUBLE}
    names = " and ".join(sorted(TensorProto.DataType.Name(kind).lower() for kind in others))
    return [f"weights: {names} in the file; {IN_FLOAT32}"] if others else []


def _follow(proto: ModelProto) -> tuple[Rows, Rows, Reader, bool]:
    """What the graph makes of its input, the input, the reader that followed its axes, and whether it takes lengths."""
    from onnx import helper

    from bilstm.bridges.onnx.nodes import Reader

    graph = proto.graph
    if len(graph.output) != 1:
        names = listed([each.name for each in graph.output])
        ours = ": keep the model file, or export its network alone" if proto.producer_name == "bilstm" else ""
        raise RefusedError(f"it has {len(graph.output)} outputs, {names}, not one{ours}")
    reader = Reader({each.domain: each.version for each in proto.opset_import})
    values, given = _inputs(graph)
    has_lengths = any(isinstance(value, Lengths) for value in values.values())
    for node in _needed(graph):
        title = f"node {shown(node.name or node.output[0])} ({shown(node.op_type)[1:-1]})"
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        try:
            outputs = [_constant(attributes)] if node.op_type == "Constant" else None
            if outputs is None:
                outputs = reader.run(node, [values.get(name) for name in node.input], attributes)
        except RefusedError as error:
            raise RefusedError(f"{title}: {error}") from None
        except (IndexError, ValueError, TypeError, KeyError, AssertionError, StopIteration):
            raise RefusedError(f"{title}: its arguments are not supported") from None
        values.update(zip(node.output, outputs, strict=False))
    end = values.get(graph.output[0].name)
    if not isinstance(end, Rows):
        raise RefusedError("its output does not come from its input")
    end = end.settled()
    if not end.steps or end.names[-1:] != [FEATURE] or len(end.axes) not in (2, 3) or "+" in end.names[0]:
        raise RefusedError(f"its output has the axes {', '.join(end.names)}, not batch, time and features")
    if end.sorted:
        raise RefusedError("its output is in the order of the sequences' lengths")
    return end, given, reader, has_lengths


def _inputs(graph: GraphProto) -> tuple[dict[str, Value], Rows]:
    """The values of the graph's inputs and stored tensors by their names, and the input of sequences."""
    from onnx import TensorProto, numpy_helper

    values: dict[str, Value] = {each.name: Constant(numpy_helper.to_array(each)) for each in graph.initializer}
    main: list[Rows] = []
    for each in graph.input:
        tensor = each.type.tensor_type
        sizes = [size.dim_value for size in tensor.shape.dim]
        if each.name in values:
            continue
        if len(sizes) == 1 and tensor.elem_type in (TensorProto.INT32, TensorProto.INT64):
            values[each.name] = Lengths()
            continue
        integers = tensor.elem_type in (TensorProto.INT32, TensorProto.INT64)
        known = [place for place, size in enumerate(sizes) if size]
        last = 2 if len(sizes) == 3 and (2 in known or len(known) != 1) else known[0] if len(sizes) == 3 else None
        if len(sizes) not in (2, 3) or (len(sizes) == 2 and not integers) or (last is not None and not sizes[last]):
            raise RefusedError(
                f"its input {shown(each.name)} has {counted(len(sizes), 'dimension')}; bilstm reads sequences, (batch, "
                f"time, features), or whole numbers, (batch, time)"
            )
        stand_ins = iter((_BATCH, _TIME))
        names = iter(("first", "second"))
        axes = tuple(
            (FEATURE, size) if place == last else (next(names), size or next(stand_ins))
            for place, size in enumerate(sizes)
        )
        values[each.name] = rows = Rows((), axes)
        main.append(rows)
    if len(main) != 1:
        raise RefusedError(f"it has {counted(len(main), 'input')} besides lengths, not one")
    return values, main[0]


def _needed(graph: GraphProto) -> list[NodeProto]:
    """The nodes that the output depends on, in their order."""
    needed, nodes = {graph.output[0].name}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.append(node)
    return nodes[::-1]


def _constant(attributes: dict[str, Any]) -> Value:
    from onnx import numpy_helper

    for name, value in attributes.items():
        if name == "value":
            return Constant(numpy_helper.to_array(value))
        if name in ("value_float", "value_int", "value_floats", "value_ints"):
            return Constant(np.array(value, np.float32 if "float" in name else np.int64))
    raise RefusedError("a constant of this type is not supported")


def _reach_of(steps: Sequence[Step], unbounded: Collection[str], has_lengths: bool) -> Reach:
    for step in steps:
        if step.node in unbounded and (step.layer.needs_whole_sequence or not step.layer.returns_rows_per_step()):
            warning = (
                f"padding: in ONNX the node {shown(step.node)} reads it, so that its predictions for shorter sequences "
                f"depended on their padding. Here each sequence is read alone, as ONNX reads one without padding"
            )
            if not has_lengths:
                warning += "; for the predictions of padded sequences, convert with --padded-like-the-source"
            return Reach(agrees=False, masked=has_lengths, sentence=warning)
    sentence = "padding: no node reads it, so that ragged batches give the same predictions in ONNX and here"
    return Reach(agrees=True, masked=has_lengths, sentence=sentence)
