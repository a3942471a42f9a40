"""The case's network as an ONNX model, for ONNX Runtime, OpenVINO, tract and MNN."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from benchmarks.speed.cases import WINDOW, Case
from benchmarks.speed.peers.base import directions, gates_to


def onnx_model(case: Case, *, by_hand: bool = False) -> bytes:
    """Input "x" (steps, sequences, inputs) and, for sequences of different lengths, "lengths" (sequences,) int32;
    output "y" (steps, sequences, outputs).

    Args:
        by_hand: for a library that does not read lengths: backward layers are forward ones, before and after which each
            sequence is turned around by its length, which the model has as a constant. There is no input "lengths".
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
    lengths = "lengths" if case.ragged and not by_hand else ""
    x = "x"
    if case.filters:
        constants |= {"filters": case.weights[0].transpose(2, 1, 0), "filters_bias": case.weights[1]}
        nodes += [
            helper.make_node("Transpose", [x], ["channels"], perm=[1, 2, 0]),
            helper.make_node("Conv", ["channels", "filters", "filters_bias"], ["convolved"], pads=[WINDOW // 2] * 2),
            helper.make_node("Relu", ["convolved"], ["positive"]),
            helper.make_node("Transpose", ["positive"], ["features"], perm=[2, 0, 1]),
        ]
        x = "features"
    for layer, both in layers.items():
        make = _by_hand if by_hand else _bidirectional
        made, arrays = make(case, x, f"layer{layer}", both, lengths)
        nodes += made
        constants |= arrays
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
    if lengths:
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


_Layer = tuple[list[Any], dict[str, np.ndarray]]  # nodes; constants by name


def _bidirectional(case: Case, x: str, name: str, both: list[list[np.ndarray]], lengths: str) -> _Layer:
    names = [f"{name}_{kind}" for kind in "WRB"]
    nodes = [
        _recurrent(case, [x, *names, lengths], f"{name}_directions", direction="bidirectional"),
        helper.make_node("Transpose", [f"{name}_directions"], [f"{name}_transposed"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", [f"{name}_transposed", "rows"], [name]),
    ]
    return nodes, {each: np.stack(arrays) for each, arrays in zip(names, zip(*both, strict=True), strict=True)}


def _by_hand(case: Case, x: str, name: str, both: list[list[np.ndarray]], lengths: str) -> _Layer:
    nodes, constants = [], {}
    # Row t * sequences + s is step t of sequence s.
    rows = (case.reversal.T * case.sequences + np.arange(case.sequences)).ravel()
    constants["reversal"] = rows
    for direction, arrays in enumerate(both):
        way = f"{name}_{direction}"
        names = [f"{way}_{kind}" for kind in "WRB"]
        constants |= {each: array[np.newaxis] for each, array in zip(names, arrays, strict=True)}
        constants[f"{way}_one"] = np.array([1])
        source = x
        if direction:
            nodes += _turned(case, x, f"{way}_turned", arrays[0].shape[1], constants)
            source = f"{way}_turned"
        nodes.append(_recurrent(case, [source, *names], f"{way}_directions"))
        nodes.append(helper.make_node("Squeeze", [f"{way}_directions", f"{way}_one"], [f"{way}_output"]))
    nodes += _turned(case, f"{name}_1_output", f"{name}_1_back", case.units, constants)
    nodes.append(helper.make_node("Concat", [f"{name}_0_output", f"{name}_1_back"], [name], axis=2))
    return nodes, constants


def _turned(case: Case, x: str, name: str, width: int, constants: dict[str, np.ndarray]) -> list[Any]:
    """Each sequence from its last step to its first."""
    constants[f"{name}_flat"] = np.array([case.longest * case.sequences, width])
    constants[f"{name}_shape"] = np.array([case.longest, case.sequences, width])
    return [
        helper.make_node("Reshape", [x, f"{name}_flat"], [f"{name}_before"]),
        helper.make_node("Gather", [f"{name}_before", "reversal"], [f"{name}_after"], axis=0),
        helper.make_node("Reshape", [f"{name}_after", f"{name}_shape"], [name]),
    ]


def _recurrent(case: Case, inputs: list[str], output: str, **attributes: Any) -> Any:
    gru = {"linear_before_reset": 1} if case.cell == "gru" else {}
    return helper.make_node(case.cell.upper(), inputs, [output], hidden_size=case.units, **gru, **attributes)


def feeds(case: Case, *, by_hand: bool = False) -> list[dict[str, np.ndarray]]:
    """The model's inputs for each batch."""
    lengths = {"lengths": np.array(case.lengths, np.int32)} if case.ragged and not by_hand else {}
    return [{"x": np.ascontiguousarray(batch.x.swapaxes(0, 1))} | lengths for batch in case.data]
