"""What is around a trained model's network: raw columns in, labels out."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from bilstm.bridges.onnx.graph import ML, Graph
from bilstm.data.features import CategoricalColumn, whole_number
from bilstm.data.schema import Schema
from bilstm.data.spelling import VECTOR
from bilstm.errors import UserError, listed
from bilstm.tasks import LabelSetTask, LabelTask, QuantityTask, Task

VALUES = "x"  # the one input of models of arrays
LENGTHS = "lengths"


def column_inputs(schema: Schema) -> dict[str, tuple[int, int | None]]:
    """The graph's inputs for raw values: their names, types, and dimensions of a step where there are several.

    Raises:
        UserError: a feature cannot be encoded by ONNX's operators, or its name is taken.
    """
    if schema.spelled:
        raise UserError(
            f"cannot write the encoding of {listed(schema.spelled)} as ONNX: the spelling of words counts, and ONNX "
            f"has no operator that takes a word apart. Train with --no-spelling, or export with --inputs encoded and "
            f"encode with TrainedModel.read"
        )
    vectors = [column.name for column in schema.categorical if column.part == VECTOR]
    if vectors:
        raise UserError(
            f"cannot write the encoding of {listed(vectors)} as ONNX: word vectors are looked up in lower case where a "
            f"word has none, which no operator for sequences does. Export with --inputs encoded and encode with "
            f"TrainedModel.read"
        )
    if not schema.named and not schema.categorical:
        return {VALUES: (TensorProto.DOUBLE, len(schema.numeric))}
    inputs: dict[str, tuple[int, int | None]] = {column.name: (TensorProto.DOUBLE, None) for column in schema.numeric}
    return inputs | {column.name: (TensorProto.STRING, None) for column in schema.categorical}


def write_encoding(graph: Graph, schema: Schema) -> str:
    """The network's input, (batch, time, features), from the columns."""
    columns = []
    if schema.numeric and not schema.named and not schema.categorical:
        columns.append(_numbers(graph, schema, VALUES))
    elif schema.numeric:
        cells = [graph.unsqueeze(column.name, 2) for column in schema.numeric]
        joined = cells[0] if len(cells) == 1 else graph.add("Concat", cells, axis=2)
        columns.append(_numbers(graph, schema, joined))
    for column in schema.categorical:
        columns.append(graph.unsqueeze(graph.cast(_index(graph, column), TensorProto.FLOAT), 2))
    return columns[0] if len(columns) == 1 else graph.add("Concat", columns, axis=2)


def _numbers(graph: Graph, schema: Schema, cells: str) -> str:
    """Scaled numbers, 0 where missing, and after each that training knew to be missing a flag."""
    mean = graph.constant(np.array([column.mean for column in schema.numeric]), "mean")
    scale = graph.constant(np.array([column.scale for column in schema.numeric]), "scale")
    absent = graph.add("IsNaN", [cells])
    scaled = graph.add("Div", [graph.add("Sub", [cells, mean]), scale])
    scaled = graph.cast(graph.add("Where", [absent, graph.constant(np.float64(0)), scaled]), TensorProto.FLOAT)
    flagged = [place for place, column in enumerate(schema.numeric) if column.missing]
    if not flagged:
        return scaled
    both = graph.add("Concat", [scaled, graph.cast(absent, TensorProto.FLOAT)], axis=2)
    count = len(schema.numeric)
    order = [
        place for column in range(count) for place in ([column, count + column] if column in flagged else [column])
    ]
    return graph.add("Gather", [both, graph.constant(np.array(order, np.int64), "order")], axis=2)


def _index(graph: Graph, column: CategoricalColumn) -> str:
    """(batch, time) int64: the index of each text, 0 where it is unknown. Of numbers, `1.0` means `1`."""
    indices = {text: index for index, text in enumerate(column.vocabulary, 1)}
    numbers = {text: column.lookup(f"{whole_number(text)}.0") + 1 for text in column.vocabulary if text}
    indices = {f"{whole_number(text)}.0": index for text, index in numbers.items() if index} | indices
    if not indices:  # all values are unknown
        indices = {"": 0}
    return graph.add(
        "LabelEncoder",
        [column.name],
        domain=ML,
        keys_strings=list(indices),
        values_int64s=list(indices.values()),
        default_int64=0,
    )


# --- Answers --------------------------------------------------------------------------------------------------------


def answers(task: Task) -> dict[str, tuple[int, int | None]]:
    """The graph's outputs: their names, types, and dimensions of a row where there are several."""
    if isinstance(task, LabelTask):
        kinds = {"text": TensorProto.STRING, "integer": TensorProto.INT64, "boolean": TensorProto.BOOL}
        probabilities = TensorProto.FLOAT, task.outputs
        return {
            "label": (kinds[task.type], None),
            "probability": (TensorProto.FLOAT, None),
            "probabilities": probabilities,
        }
    if isinstance(task, LabelSetTask):
        return {"labels": (TensorProto.INT64, task.outputs), "probabilities": (TensorProto.FLOAT, task.outputs)}
    if isinstance(task, QuantityTask):
        return {"quantities": (TensorProto.DOUBLE, task.outputs)}
    raise UserError(f"cannot write a model for the task {task.kind!r} as ONNX")


def write_answers(graph: Graph, task: Task, y: str, lengths: str) -> None:
    """The graph's outputs, from the network's, (batch, time, outputs) or (batch, outputs)."""
    if isinstance(task, LabelTask):
        graph.add("Identity", [y], "probabilities")
        graph.add("ReduceMax", [y], "probability", axes=[-1], keepdims=0)
        best = graph.add("ArgMax", [y], axis=-1, keepdims=0)
        labels = task.labels
        if not task.per_sequence:  # beyond a sequence's end there is none
            labels = np.append(labels, np.zeros(1, labels.dtype))
            best = graph.add(
                "Where", [graph.within(graph.size(y, 1), lengths), best, graph.constant(np.int64(task.outputs))]
            )
        graph.add("Gather", [graph.constant(labels, "classes"), best], "label")
    elif isinstance(task, LabelSetTask):
        graph.add("Identity", [y], "probabilities")
        some = graph.add("Greater", [y, graph.constant(np.float32(0.5))])
        graph.add("Cast", [some], "labels", to=TensorProto.INT64)
    elif isinstance(task, QuantityTask):
        scaled = graph.add("Mul", [graph.cast(y, TensorProto.DOUBLE), graph.constant(np.array(task.scale), "scale")])
        own = graph.add("Add", [scaled, graph.constant(np.array(task.mean), "mean")])
        if not task.per_sequence:
            within = graph.unsqueeze(graph.within(graph.size(y, 1), lengths), 2)
            own = graph.add("Where", [within, own, graph.constant(np.float64(0))])
        graph.add("Identity", [own], "quantities")
