"""A model of ours as an ONNX model: its inputs, outputs, graph and metadata, and the file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from bilstm._version import __version__
from bilstm.errors import UserError, listed, shown
from bilstm.files import AnyPath, check_replaceable, check_writable, replacing
from bilstm.layers import CRF, Embedding
from bilstm.model import TrainedModel
from bilstm.models import Sequential
from bilstm.ragged import FloatArray

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

Inputs = Literal["columns", "encoded"]
INPUTS = ("columns", "encoded")
PRODUCER = "bilstm"
_MOST_BYTES = 2**31 - 1  # of a protocol buffer


def export(
    model: TrainedModel | Sequential, path: AnyPath, *, inputs: Inputs = "columns", force: bool = False
) -> ModelProto:
    """Write a model to an ONNX file atomically, and return what was written.

    Args:
        model: the model.
        path: the file to write.
        inputs: see `to_onnx`.
        force: whether to replace a file that bilstm did not write.

    Raises:
        UserError: a part of the model cannot be written as ONNX; the file cannot be written, or another program's file
            would be replaced; the package onnx is missing.
    """
    made = to_onnx(model, inputs=inputs)
    check_onnx_path(path, force=force)
    with replacing(path) as temporary:
        temporary.write_bytes(made.SerializeToString())
    return made


def check_onnx_path(path: AnyPath, *, inputs: Iterable[AnyPath] = (), force: bool = False) -> None:
    """Find out now whether an ONNX model can be written to `path` and replaces nothing but one of ours.

    Args:
        path: the file that will be written.
        inputs: files that are being read, and must not be overwritten.
        force: replace an existing file of any content.

    Raises:
        UserError: the file cannot be written, or exists, is not empty and is not an ONNX model of bilstm's.
    """
    check_writable(path, inputs=inputs)
    if not force:
        check_replaceable(path, "an ONNX model of bilstm's", _is_ours)


def to_onnx(model: TrainedModel | Sequential, *, inputs: Inputs = "columns") -> ModelProto:
    """A model as an `onnx.ModelProto`, for opset 17 and, where there are words, ai.onnx.ml 3.

    Its inputs, of any batch size and number of time steps:

    - "lengths", (batch,) int32: how many steps each sequence has, at least 1. What lies beyond is not read.
    - Of a trained model: each feature by its name, (batch, time), float64 for numbers, NaN where missing, and strings
      for words or categories, "" where missing. A model trained on arrays of numbers has one input "x", (batch, time,
      features) float64.
    - Of a trained model with `inputs="encoded"`: "x", (batch, time, inputs) float32, as `TrainedModel.read` encodes.
    - Of a Sequential: "x", (batch, time, features) float32; (batch, time, 1) int64 before an Embedding.

    Its outputs, of each time step, 0 or "" beyond a sequence's length, or of each sequence:

    - "label" with its "probability", and the "probabilities" of all labels;
    - of several labels "labels", int64 of 0 and 1, and their "probabilities";
    - of quantities "quantities", float64;
    - of a Sequential "y", float32; "y_forward" and "y_backward" after Bidirectional(merge_mode=None);
    - of a model that ends with a CRF, instead, "emissions", (batch, time, labels), the scores of each step's labels,
      and the CRF's "transitions" (labels, labels), "start" and "end" (labels), float32, minus infinity where forbidden:
      Viterbi's algorithm makes labels of them, whose names are in the metadata.

    Metadata: "bilstm.version"; of a trained model also "bilstm.task", "bilstm.schema", "bilstm.labels", all JSON.

    Raises:
        UserError: a part of the model cannot be written as ONNX; the package onnx is missing.
    """
    try:
        import onnx
    except ModuleNotFoundError:
        raise UserError("writing ONNX needs the package onnx: pip install 'bilstm[onnx]'") from None
    if inputs not in INPUTS:
        raise ValueError(f"inputs must be one of {listed(INPUTS)}, not {inputs!r}")
    network = model.network if isinstance(model, TrainedModel) else model
    if not network.built:
        raise UserError("the model has no weights yet: give its first layer input_shape=(steps, features)")
    if 4 * network.count_params() > _MOST_BYTES:
        raise UserError(f"the model has {network.count_params():,} weights; an ONNX file holds up to 2 GB")
    made = _trained(model, inputs) if isinstance(model, TrainedModel) else _sequential(model)
    onnx.checker.check_model(made, full_check=True)
    return made


def _trained(model: TrainedModel, inputs: Inputs) -> ModelProto:
    from onnx import TensorProto

    from bilstm.bridges.onnx.columns import LENGTHS, VALUES, answers, column_inputs, write_answers, write_encoding
    from bilstm.bridges.onnx.graph import Graph
    from bilstm.bridges.onnx.network import Writer

    raw = inputs == "columns"
    width = model.network.input_features
    if model.schema.characters is not None:
        raise UserError(
            f"cannot write the network as ONNX: it reads the characters of {shown(model.schema.characters.name)}, and "
            f"ONNX has no operator that takes a word apart. Train with --no-spelling and without --characters"
        )
    columns = column_inputs(model.schema) if raw else {VALUES: (TensorProto.FLOAT, width)}
    scores = _crf_scores(model.network)
    outputs = {"emissions": (TensorProto.FLOAT, model.task.outputs)} if scores else answers(model.task)
    taken = [name for name in columns if name in (LENGTHS, *outputs, *scores)]
    if taken:
        raise UserError(
            f"the feature {taken[0]!r} has the name of another input or output of the ONNX model: rename it, "
            f"model.adapted(features=…), or export with inputs encoded"
        )
    if not model.task.plain:
        raise UserError(
            "cannot write a trained model with train_scheme, which learned other tags than it predicts, as ONNX: from "
            "Python, bilstm.bridges.onnx.export writes its network (model.network) alone"
        )
    graph = Graph([*columns, LENGTHS, *outputs, *scores])
    x = write_encoding(graph, model.schema) if raw else VALUES
    y = Writer(graph, model.network).write(x, LENGTHS)
    if scores:
        graph.add("Identity", [y], "emissions")
    else:
        write_answers(graph, model.task, y, LENGTHS)
    labels = getattr(model.task, "classes", model.task.columns)
    metadata = {
        "task": json.dumps(model.task.to_json(), ensure_ascii=False),
        "labels": json.dumps(list(labels), ensure_ascii=False),
        "schema": json.dumps(model.schema.to_json(), ensure_ascii=False),
        "inputs": inputs,
    }
    return _finished(graph, columns, outputs, metadata, scores, per_sequence=model.task.per_sequence)


def _sequential(model: Sequential) -> ModelProto:
    from onnx import TensorProto

    from bilstm.bridges.onnx.columns import LENGTHS, VALUES
    from bilstm.bridges.onnx.graph import Graph
    from bilstm.bridges.onnx.network import Writer

    assert model.network is not None
    columns = {
        VALUES: (
            TensorProto.INT64 if isinstance(model.layers[0], Embedding) else TensorProto.FLOAT,
            model.input_features,
        )
    }
    scores = _crf_scores(model)
    names = ["emissions"] if scores else ["y_forward", "y_backward"] if model.splits else ["y"]
    graph = Graph([*columns, LENGTHS, *names, *scores])
    y = Writer(graph, model).write(VALUES, LENGTHS)
    if model.splits:
        graph.add_many("Split", [y], names, axis=-1)
    else:
        graph.add("Identity", [y], names[0])
    outputs = dict.fromkeys(names, (TensorProto.FLOAT, model.network.outputs // len(names)))
    return _finished(graph, columns, outputs, {}, scores, per_sequence=model.network.one_row_each)


def _crf_scores(network: Sequential) -> dict[str, FloatArray]:
    """What Viterbi's algorithm needs besides the emissions; nothing if the network does not end with a CRF."""
    last = network.layers[-1]
    return last.scores(network.get_weights()[-3:]) if isinstance(last, CRF) else {}


def _finished(
    graph: Any,
    inputs: Mapping[str, tuple[int, int | None]],
    outputs: Mapping[str, tuple[int, int | None]],
    metadata: Mapping[str, str],
    constants: Mapping[str, FloatArray],
    *,
    per_sequence: bool,
) -> ModelProto:
    """The model; `constants` are outputs that do not depend on the input."""
    from onnx import TensorProto, helper, numpy_helper

    from bilstm.bridges.onnx.columns import LENGTHS
    from bilstm.bridges.onnx.graph import IR_VERSION, ML, ML_OPSET, OPSET

    def value(name: str, kind: int, width: int | None, steps: bool) -> ValueInfoProto:
        shape = ["batch", *(["time"] if steps else []), *([width] if width is not None else [])]
        return helper.make_tensor_value_info(name, kind, shape)

    for name, array in constants.items():
        graph.add("Constant", [], name, value=numpy_helper.from_array(array))
    made = helper.make_graph(
        graph.nodes,
        "bilstm",
        [
            *(value(name, *kind, True) for name, kind in inputs.items()),
            helper.make_tensor_value_info(LENGTHS, TensorProto.INT32, ["batch"]),
        ],
        [
            *(value(name, *kind, not per_sequence) for name, kind in outputs.items()),
            *(helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in constants.items()),
        ],
        graph.constants,
    )
    opsets = [helper.make_opsetid("", OPSET)]
    if any(node.domain == ML for node in graph.nodes):
        opsets.append(helper.make_opsetid(ML, ML_OPSET))
    model = helper.make_model(
        made, opset_imports=opsets, ir_version=IR_VERSION, producer_name=PRODUCER, producer_version=__version__
    )
    helper.set_model_props(model, {"bilstm.version": __version__, **{f"bilstm.{k}": v for k, v in metadata.items()}})
    return model


def _is_ours(path: AnyPath) -> bool:
    import onnx

    try:
        return bool(onnx.load(os.fspath(path)).producer_name == PRODUCER)
    except Exception:  # of protobuf's, whose errors have no common class
        return False


def describe(model: ModelProto) -> list[str]:
    """A line for each input and output of an ONNX model: its name, type and shape."""
    import onnx

    lines = []
    for kind, values in (("in", model.graph.input), ("out", model.graph.output)):
        for each in values:
            tensor = each.type.tensor_type
            shape = ", ".join(size.dim_param or str(size.dim_value) for size in tensor.shape.dim)
            lines.append(f"  {kind:4}{each.name}: {onnx.TensorProto.DataType.Name(tensor.elem_type).lower()} ({shape})")
    return lines
