"""The case's network as an ONNX model, for ONNX Runtime and OpenVINO."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from benchmarks.speed.cases import Case
from benchmarks.speed.peers.base import directions, gates_to


def onnx_model(case: Case) -> bytes:
    """Input "x" (steps, sequences, inputs) and, for sequences of different lengths, "lengths" (sequences,) int32;
    output "y" (steps, sequences, outputs).
    """
    nodes, constants = [], {}
    layers: dict[int, list[list[np.ndarray]]] = {}
    for layer, _, (kernel, recurrent, bias) in directions(case):
        order = "zrh" if case.cell == "gru" else "iofc"
        parts = [gates_to(case, array, order).T for array in (kernel, recurrent)]
        biases = gates_to(case, bias, order)
        parts.append(biases.ravel() if case.cell == "gru" else np.concatenate([biases, np.zeros_like(biases)]))
        layers.setdefault(layer, []).append(parts)
    constants["rows"] = np.array([case.longest, case.sequences, 2 * case.units])
    x = "x"
    for layer, both in layers.items():
        names = [f"{kind}{layer}" for kind in "WRB"]
        constants |= {name: np.stack(arrays) for name, arrays in zip(names, zip(*both, strict=True), strict=True)}
        lengths = "lengths" if case.ragged else ""
        nodes += [
            helper.make_node(
                case.cell.upper(),
                [x, *names, lengths],
                [f"directions{layer}"],
                direction="bidirectional",
                hidden_size=case.units,
                **({"linear_before_reset": 1} if case.cell == "gru" else {}),
            ),
            helper.make_node("Transpose", [f"directions{layer}"], [f"transposed{layer}"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", [f"transposed{layer}", "rows"], [f"layer{layer}"]),
        ]
        x = f"layer{layer}"
    constants |= {"kernel": case.weights[-2], "bias": case.weights[-1]}
    nodes += [
        helper.make_node("MatMul", [x, "kernel"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["y"])
        if case.outputs == 1
        else helper.make_node("Softmax", ["logits"], ["y"], axis=2),
    ]
    shape = (case.longest, case.sequences)
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, (*shape, case.inputs))]
    if case.ragged:
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, (case.sequences,)))
    graph = helper.make_graph(
        nodes,
        "tagger",
        inputs,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (*shape, case.outputs))],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def feeds(case: Case) -> list[dict[str, np.ndarray]]:
    """The model's inputs for each batch."""
    lengths = {"lengths": np.array(case.lengths, np.int32)} if case.ragged else {}
    return [{"x": np.ascontiguousarray(batch.x.swapaxes(0, 1))} | lengths for batch in case.data]
