"""ONNX models as ours: round trips, what PyTorch exports, graphs by hand, what is refused, the command line."""

from __future__ import annotations

import itertools
import re
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from hypothesis import assume, given, settings
from onnx import TensorProto, helper, numpy_helper

import bilstm
from bilstm import Ragged, Sequential
from bilstm.bridges.onnx import export, load, read
from bilstm.cli import commands
from bilstm.errors import ModelFileError
from bilstm.layers import (
    GRU,
    LSTM,
    Bidirectional,
    Conv1D,
    Dense,
    Embedding,
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    Layer,
    Masking,
    MaxPooling1D,
    Reverse,
    SimpleRNN,
    to_json,
)
from oracles.models import Case, cases

pytestmark = pytest.mark.fast

Array = np.ndarray[Any, Any]


def ragged(features: int = 2, seed: int = 0) -> Ragged:
    lengths = (3, 7, 1, 5)
    values = np.random.default_rng(seed).normal(size=(sum(lengths), features))
    return Ragged(values, [0, *itertools.accumulate(lengths)])


def described(model: Sequential) -> list[dict[str, Any]]:
    return [to_json(layer) for layer in model.layers]


def load_or_error(path: Path) -> Sequential | str:
    try:
        return load(path)
    except bilstm.UserError as error:
        return str(error)


# --- Our own ----------------------------------------------------------------------------------------------------------


def lstm(units: int = 4, **options: Any) -> LSTM:
    return LSTM(units, return_sequences=True, **options)


OWN: dict[str, list[Layer]] = {
    "LSTM": [lstm()],
    "backwards": [lstm(go_backwards=True), Reverse(), Dense(2, "softmax")],
    "backwards, as processed": [lstm(go_backwards=True), Dense(2)],
    "the last of backwards": [GRU(3, go_backwards=True)],
    "hard gates": [Bidirectional(lstm(recurrent_activation="hard_sigmoid"))],
    "Keras 2's hard gates": [Bidirectional(GRU(3, recurrent_activation="hard_sigmoid_keras2"))],
    "reset before": [Bidirectional(GRU(3, reset_after=False, return_sequences=True))],
    "relu": [Bidirectional(SimpleRNN(3, "relu", return_sequences=True)), SimpleRNN(2)],
    "sum": [Bidirectional(lstm(), "sum"), Bidirectional(lstm(), "mul"), Bidirectional(GRU(2), "ave")],
    "mixed": [Bidirectional(lstm(), "ave", GRU(4, return_sequences=True, go_backwards=True)), Dense(3, "sigmoid")],
    "convolution": [Conv1D(4, 4, padding="same", dilation_rate=2, activation="relu"), lstm(), GlobalMaxPooling1D()],
    "causal": [Conv1D(4, 3, padding="causal", activation="tanh"), Bidirectional(lstm()), GlobalAveragePooling1D()],
}


@pytest.mark.parametrize("layers", OWN.values(), ids=OWN)
def test_our_own_come_back(layers: list[Layer], tmp_path: Path) -> None:
    model = Sequential(layers, seed=1)
    model.build((None, 2))
    export(model, tmp_path / "model.onnx")
    found = read(tmp_path / "model.onnx")
    assert described(found.model) == described(model)
    np.testing.assert_allclose(found.model.predict_rows(ragged()), model.predict_rows(ragged()), rtol=1e-6)
    assert found.agrees
    assert found.what == f"ONNX model of bilstm {bilstm.__version__}"


@settings(max_examples=20)
@given(cases())
def test_random_models_come_back_or_are_refused_by_node(case: Case) -> None:
    assume(case.data.words is None)  # words are refused
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export(case.model(), path)
        found = load_or_error(path)
        if isinstance(found, str):
            assert re.search(r"node 'layers\.\d+/\w+/node' \(\w+\): ", found), found
        else:
            ours = case.model().predict_rows(case.data)
            np.testing.assert_allclose(found.predict_rows(case.data), ours, rtol=1e-5, atol=1e-5)


def test_words_come_back(tmp_path: Path) -> None:
    model = Sequential([Embedding(5, 3), Bidirectional(lstm()), Dense(2, "softmax")], seed=1)
    export(model, tmp_path / "model.onnx")
    words = Ragged(np.arange(16).reshape(-1, 1) % 5, [0, 3, 10, 11, 16])
    np.testing.assert_allclose(load(tmp_path / "model.onnx").predict_rows(words), model.predict_rows(words), rtol=1e-6)


@pytest.mark.parametrize(
    "layers", [[Masking(0.0), lstm()], [lstm(), MaxPooling1D(2), GRU(2)]], ids=["masked", "windows"]
)
def test_what_is_more_than_layers_in_onnx_is_refused(layers: list[Layer], tmp_path: Path) -> None:
    model = Sequential(layers)
    model.build((None, 2))
    export(model, tmp_path / "model.onnx")
    with pytest.raises(ModelFileError, match=r"cannot open .*model.onnx: node '\S+' \(\w+\): "):
        load(tmp_path / "model.onnx")


# --- PyTorch ----------------------------------------------------------------------------------------------------------


class Net(torch.nn.Module):
    """An embedding, recurrent layers, and a linear layer of each step, of the final states, or of the last step."""

    def __init__(self, cell: Any, end: str = "steps", words: bool = False, **options: Any) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(10, 4) if words else None
        self.recurrent = cell(4, 5, **options)
        self.linear = torch.nn.Linear(10 if options.get("bidirectional") else 5, 3)
        self.end = end

    def forward(self, x: Any) -> Any:
        y, final = self.recurrent(x if self.embedding is None else self.embedding(x))
        if self.end == "final":
            states = final[0] if isinstance(final, tuple) else final
            y = torch.cat([states[-2], states[-1]], dim=-1) if self.recurrent.bidirectional else states[-1]
        elif self.end == "last":
            y = y[:, -1]
        return torch.softmax(self.linear(y), dim=-1)


def exported(net: Net, path: Path, words: bool = False) -> Path:
    torch.manual_seed(0)
    x = torch.randint(0, 10, (2, 6)) if words else torch.randn(2, 6, 4)
    axes = {0: "a", 1: "b"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of deprecations, and about batches of a fixed size
        torch.onnx.export(net.eval(), (x,), str(path), dynamo=False, input_names=["x"], dynamic_axes={"x": axes})
    return path


NETS: dict[str, tuple[Callable[[], Net], bool]] = {
    "LSTM": (lambda: Net(torch.nn.LSTM, bidirectional=True, batch_first=True), False),
    "two layers, time first": (lambda: Net(torch.nn.LSTM, bidirectional=True, num_layers=2), False),
    "one direction": (lambda: Net(torch.nn.GRU, batch_first=True, num_layers=2), False),
    "words": (lambda: Net(torch.nn.GRU, words=True, bidirectional=True, batch_first=True), False),
    "final states": (lambda: Net(torch.nn.LSTM, "final", bidirectional=True, batch_first=True), True),
    "final state": (lambda: Net(torch.nn.RNN, "final", batch_first=True, nonlinearity="relu"), True),
    "last step": (lambda: Net(torch.nn.LSTM, "last", batch_first=True), True),
    "without biases": (lambda: Net(torch.nn.LSTM, bidirectional=True, batch_first=True, bias=False), False),
}


@pytest.mark.parametrize(("make", "per_sequence"), NETS.values(), ids=NETS)
def test_models_of_pytorch(make: Callable[[], Net], per_sequence: bool, tmp_path: Path) -> None:
    net = make()
    words = net.embedding is not None
    found = read(exported(net, tmp_path / "net.onnx", words))
    x = torch.randint(0, 10, (3, 8)) if words else torch.randn(3, 8, 4)
    y = net(x).detach().numpy()
    time_first = not net.recurrent.batch_first
    inputs = x.numpy()[..., np.newaxis] if words else x.numpy()
    ours = found.model.predict(inputs.swapaxes(0, 1) if time_first else inputs, verbose=0)
    np.testing.assert_allclose(ours.swapaxes(0, 1) if time_first else ours, y, atol=1e-6)
    assert found.model.network is not None
    assert found.model.network.one_row_each == per_sequence
    assert found.agrees == (not per_sequence and not net.recurrent.bidirectional)


class Packed(torch.nn.Module):
    """Sequences of different lengths, as PyTorch wants them; outputs of each step, or of the final states."""

    def __init__(self, cell: Any, final: bool, in_order: bool, layers: int) -> None:
        super().__init__()
        self.recurrent = cell(4, 5, bidirectional=True, batch_first=True, num_layers=layers)
        self.linear = torch.nn.Linear(10, 3)
        self.final, self.in_order = final, in_order

    def forward(self, x: Any, lengths: Any) -> Any:
        rnn = torch.nn.utils.rnn
        packed = rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=self.in_order)
        y, final = self.recurrent(packed)
        if self.final:
            states = final[0] if isinstance(final, tuple) else final
            return self.linear(torch.cat([states[-2], states[-1]], dim=-1))
        return self.linear(rnn.pad_packed_sequence(y, batch_first=True)[0])


@pytest.mark.parametrize("in_order", [True, False], ids=["sorted", "unsorted"])
@pytest.mark.parametrize(("final", "layers"), [(False, 1), (False, 2), (True, 2)])
def test_packed_sequences_of_pytorch(final: bool, in_order: bool, layers: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, path = Packed(torch.nn.GRU if layers == 1 else torch.nn.LSTM, final, in_order, layers), tmp_path / "net.onnx"
    x, lengths = torch.randn(3, 7, 4), torch.tensor([7, 4, 2] if in_order else [4, 7, 2])
    names = {"input_names": ["x", "lengths"], "dynamic_axes": {"x": {0: "a", 1: "b"}, "lengths": {0: "a"}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net.eval(), (x, lengths), str(path), dynamo=False, **names)
    found = read(path)
    assert found.agrees
    ours = found.model.predict([sequence[:n] for sequence, n in zip(x.numpy(), lengths, strict=True)], verbose=0)
    for one, theirs, n in zip(ours, net(x, lengths).detach().numpy(), lengths, strict=True):
        np.testing.assert_allclose(one, theirs if final else theirs[:n], atol=1e-6)


def test_the_last_step_of_a_backward_direction_is_refused(tmp_path: Path) -> None:
    path = exported(Net(torch.nn.LSTM, "last", bidirectional=True, batch_first=True), tmp_path / "net.onnx")
    with pytest.raises(ModelFileError, match="where a backward direction has read one step only"):
        load(path)


# --- By hand ----------------------------------------------------------------------------------------------------------

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
Nodes = list[tuple[str, list[str], list[str], dict[str, Any]]]


def weights(seed: int = 0, directions: int = 2, gates: int = 4, units: int = 3, features: int = 2) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    shapes = {"W": (gates * units, features), "R": (gates * units, units), "B": (2 * gates * units,)}
    arrays = {name: random.normal(0, 0.5, (directions, *shape)).astype(np.float32) for name, shape in shapes.items()}
    return arrays | {"kernel": random.normal(size=(directions * units, 2)).astype(np.float32)}


def write(path: Path, nodes: Nodes, arrays: dict[str, Array], sizes: tuple[Any, ...] = ("b", "t", 2)) -> Path:
    """A model with input x and output y."""
    rank = 2 if any("Y_h" in given or kind == "ReduceMax" for kind, given, _, _ in nodes) else 3
    graph = helper.make_graph(
        [helper.make_node(kind, given, made, name=f"{kind} {made[0]}", **more) for kind, given, made, more in nodes],
        "graph",
        [helper.make_tensor_value_info("x", FLOAT, sizes)],
        [helper.make_tensor_value_info("y", FLOAT, [None] * rank)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="hand")
    path.write_bytes(model.SerializeToString())
    return path


def same_as_runtime(path: Path, sizes: tuple[int, ...] = (3, 6, 2)) -> None:
    x = np.random.default_rng(1).normal(size=sizes).astype(np.float32)
    theirs = onnxruntime.InferenceSession(str(path)).run(None, {"x": x})[0]
    np.testing.assert_allclose(load(path).predict(x, verbose=0), theirs, atol=1e-6)


RECURRENT = ("LSTM", ["X", "W", "R", "B"], ["Y", "Y_h"], {"hidden_size": 3, "direction": "bidirectional"})
ENDS: dict[str, Nodes] = {
    # As tf2onnx writes Keras's Bidirectional and a Dense of each step.
    "split, and steps in one axis": [
        ("Split", ["Y"], ["f1", "b1"], {"axis": 1}),
        ("Squeeze", ["f1", "one"], ["f"], {}),
        ("Squeeze", ["b1", "one"], ["b"], {}),
        ("Concat", ["f", "b"], ["both"], {"axis": 2}),
        ("Transpose", ["both"], ["rows"], {"perm": [1, 0, 2]}),
        ("Reshape", ["rows", "flat"], ["many"], {}),
        ("MatMul", ["many", "kernel"], ["product"], {}),
        ("Shape", ["x"], ["sizes"], {"end": 2}),
        ("Concat", ["sizes", "two"], ["shape"], {"axis": 0}),
        ("Reshape", ["product", "shape"], ["y"], {}),
    ],
    "sliced": [
        ("Slice", ["Y_h", "zero", "one", "zero"], ["f1"], {}),
        ("Slice", ["Y_h", "one", "two", "zero"], ["b1"], {}),
        ("Squeeze", ["f1", "zero"], ["f"], {}),
        ("Squeeze", ["b1", "zero"], ["b"], {}),
        ("Concat", ["f", "b"], ["y"], {"axis": -1}),
    ],
    "added": [
        ("Gather", ["Y_h", "first"], ["f"], {}),
        ("Gather", ["Y_h", "second"], ["b"], {}),
        ("Add", ["b", "f"], ["y"], {}),
    ],
    "mean": [
        ("ReduceMean", ["Y"], ["both"], {"axes": [1], "keepdims": 0}),
        ("Transpose", ["both"], ["y"], {"perm": [1, 0, 2]}),
    ],
    "half of the sum": [
        ("ReduceSum", ["Y", "one"], ["both"], {"keepdims": 0}),
        ("Mul", ["both", "half"], ["mean"], {}),
        ("Transpose", ["mean"], ["y"], {"perm": [1, 0, 2]}),
    ],
    "pooled": [
        ("ReduceProd", ["Y"], ["both"], {"axes": [1], "keepdims": 0}),
        ("ReduceMax", ["both"], ["y"], {"axes": [0], "keepdims": 0}),
    ],
}
SMALL: dict[str, Array] = {
    "zero": np.array([0]),
    "one": np.array([1]),
    "two": np.array([2]),
    "first": np.array(0),
    "second": np.array(1),
    "flat": np.array([-1, 6]),
    "half": np.array(0.5, np.float32),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_graphs_by_hand(end: Nodes, tmp_path: Path) -> None:
    begin: Nodes = [("Transpose", ["x"], ["X"], {"perm": [1, 0, 2]}), RECURRENT]
    same_as_runtime(write(tmp_path / "hand.onnx", begin + end, SMALL | weights()))


@pytest.mark.parametrize(("kind", "name"), [(np.float16, "float16"), (np.float64, "double"), (np.float32, "")])
def test_weights_of_other_types_are_noted(kind: type, name: str, tmp_path: Path) -> None:
    begin: Nodes = [("Transpose", ["x"], ["X"], {"perm": [1, 0, 2]}), RECURRENT]
    arrays = {key: array.astype(kind) for key, array in weights().items()}
    found = read(write(tmp_path / "hand.onnx", begin + ENDS["added"], SMALL | arrays))
    assert found.notes == ([f"weights: {name} in the file; bilstm computes in float32"] if name else [])
    np.testing.assert_allclose(found.model.get_weights()[0].T[:3], arrays["W"][0, :3], rtol=1e-3)


def test_initial_states_of_zeros_may_be_computed(tmp_path: Path) -> None:
    nodes: Nodes = [
        ("Transpose", ["x"], ["X"], {"perm": [1, 0, 2]}),
        ("Shape", ["x"], ["batch"], {"end": 1}),
        ("Concat", ["two", "batch", "three"], ["sizes"], {"axis": 0}),
        ("Expand", ["nothing", "sizes"], ["zeros"], {}),
        ("Slice", ["zeros", "zero", "two", "zero"], ["states"], {}),
        (
            "LSTM",
            ["X", "W", "R", "B", "", "states", "states"],
            ["", "Y_h"],
            {"hidden_size": 3, "direction": "bidirectional"},
        ),
        ("Transpose", ["Y_h"], ["moved"], {"perm": [1, 0, 2]}),
        ("Reshape", ["moved", "rows"], ["y"], {}),
    ]
    arrays = (
        SMALL | weights() | {"nothing": np.zeros((), np.float32), "three": np.array([3]), "rows": np.array([0, -1])}
    )
    same_as_runtime(write(tmp_path / "hand.onnx", nodes, arrays))


REFUSED: dict[str, tuple[Nodes, dict[str, Array], str]] = {
    "an unknown operator": ([("Erf", ["Y_h"], ["y"], {})], {}, r"node 'Erf y' \(Erf\): this operator is not supported"),
    "directions apart": (
        [("Identity", ["Y_h"], ["y"], {})],
        {},
        "the two directions of a recurrent layer must be joined",
    ),
    "the second first": (
        [*ENDS["added"][:2], ("Concat", ["b", "f"], ["y"], {"axis": 1})],
        {},
        r"node 'Concat y' \(Concat\): of two directions the first must read forwards",
    ),
    "an activation alone": (
        [*ENDS["added"][:1], ("Tanh", ["f"], ["y"], {})],
        {},
        "no product or convolution is before it",
    ),
    "a sum with the input": (
        [*ENDS["mean"][:1], ("Add", ["X", "both"], ["y"], {})],
        {},
        "only the two directions of a layer",
    ),
    "a cumulated sum": ([("CumSum", ["Y", "first"], ["y"], {})], {}, r"\(CumSum\)"),
    "a step in the middle": ([("Gather", ["Y", "second"], ["y"], {"axis": 0})], {}, "it selects a step or a feature"),
    "features that do not fit": (
        [*ENDS["added"][:1], ("MatMul", ["f", "kernel"], ["y"], {})],
        {},
        "its matrix does not fit the features",
    ),
}


@pytest.mark.parametrize(("end", "arrays", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_understood_is_named(end: Nodes, arrays: dict[str, Array], message: str, tmp_path: Path) -> None:
    begin: Nodes = [("Transpose", ["x"], ["X"], {"perm": [1, 0, 2]}), RECURRENT]
    path = write(tmp_path / "hand.onnx", begin + end, SMALL | weights() | arrays)
    with pytest.raises(ModelFileError, match=message):
        load(path)


ARGUMENTS: dict[str, tuple[dict[str, Any], dict[str, Array], str]] = {
    "clip": ({"clip": 3.0}, {}, "clip=3.0 is not supported"),
    "input_forget": ({"input_forget": 1}, {}, "input_forget=1 is not supported"),
    "activations": ({"activations": ["Sigmoid", "Relu", "Tanh"] * 2}, {}, "activations sigmoid, relu, tanh are not"),
    "slopes": (
        {"activations": ["HardSigmoid", "Tanh", "Tanh"] * 2, "activation_alpha": [0.3, 0.3]},
        {},
        "activations hardsigmoid, tanh, tanh are not",
    ),
    "initial state": ({}, {"h": np.ones((2, 1, 3), np.float32)}, "its initial state initial_h is not zero"),
    "lengths": ({}, {"lengths": np.array([4], np.int32)}, "its sequence lengths are fixed"),
    "shapes": ({"direction": "forward"}, {}, "its weights have other shapes than direction 'forward'"),
    "not a number": ({}, {"R": np.full((2, 12, 3), np.nan, np.float32)}, "holds NaN or infinity"),
}


@pytest.mark.parametrize(("more", "arrays", "message"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments_of_recurrent_layers_are_refused(
    more: dict[str, Any], arrays: dict[str, Array], message: str, tmp_path: Path
) -> None:
    operator, inputs, outputs, attributes = RECURRENT
    inputs = [*inputs, *("lengths" if "lengths" in arrays else "", "h" if "h" in arrays else "")]
    nodes: Nodes = [("Transpose", ["x"], ["X"], {"perm": [1, 0, 2]}), (operator, inputs, outputs, attributes | more)]
    path = write(tmp_path / "hand.onnx", nodes + ENDS["added"], SMALL | weights() | arrays)
    with pytest.raises(ModelFileError, match=message):
        load(path)


# --- Files ------------------------------------------------------------------------------------------------------------


def test_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with pytest.raises(bilstm.UserError, match="there is no file"):
        read(path)
    path.write_bytes(b"a,b\n1,2\n")
    with pytest.raises(ModelFileError, match=r"model\.onnx"):
        read(path)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(bilstm.UserError, match="pip install 'bilstm\\[onnx\\]'"):
        read("model.onnx")


def test_damaged_files_give_one_line(tmp_path: Path) -> None:
    """A fuzz: bytes changed and files cut, at random."""
    model = Sequential([Bidirectional(lstm(2)), Dense(2, "softmax")], seed=1)
    model.build((None, 2))
    content = export(model, tmp_path / "whole.onnx").SerializeToString()
    random, path = np.random.default_rng(0), tmp_path / "damaged.onnx"
    for number in range(150):
        damaged = bytearray(content)
        for at in random.integers(len(content), size=random.integers(1, 4)):
            damaged[at] = random.integers(256)
        path.write_bytes(damaged[: random.integers(len(content))] if number % 3 == 0 else damaged)
        assert "\n" not in str(load_or_error(path))


def test_several_outputs_are_refused(tmp_path: Path) -> None:
    model = Sequential([Bidirectional(lstm(), merge_mode=None)])
    model.build((None, 2))
    export(model, tmp_path / "model.onnx")
    with pytest.raises(ModelFileError, match="2 outputs, 'y_forward', 'y_backward', not one"):
        load(tmp_path / "model.onnx")


def test_the_command_line(tmp_path: Path) -> None:
    model = Sequential([Bidirectional(lstm()), Dense(2, "softmax")], seed=1)
    model.build((None, 2))
    export(model, tmp_path / "model.onnx")

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(commands, ["convert", str(tmp_path / "model.onnx"), *arguments])

    ran = run("--out", str(tmp_path / "ours.model"))
    assert ran.exit_code == 0, ran.output
    lines = ran.output.splitlines()
    assert lines[0].endswith(f"model.onnx: ONNX model of bilstm {bilstm.__version__}; 2 inputs, 242 parameters")
    assert lines[1].split() == [
        "layers.0/Y/node",
        "LSTM",
        "Bidirectional(layer=LSTM(units=4,",
        "return_sequences=True))",
    ]
    assert lines[-3].startswith("padding: no node reads it")
    assert lines[-2].startswith("check: compared with ONNX Runtime")
    assert described(bilstm.load_model(tmp_path / "ours.model")) == described(model)
    ran = run("--out", str(tmp_path / "other.model"), "--architecture", str(tmp_path / "model.onnx"))
    assert ran.exit_code == 2
    assert "an ONNX model describes itself" in ran.output
    (tmp_path / "model.onnx").write_bytes(b"\x00")
    ran = run("--out", str(tmp_path / "other.model"))
    assert ran.exit_code == 2
    assert not (tmp_path / "other.model").exists()
