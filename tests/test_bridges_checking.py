"""Conversions check themselves: against ONNX Runtime, against a live Keras, and what is said where there is none."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import bilstm
from bilstm.bridges import checking, keras, onnx
from bilstm.bridges.keras import checking as keras_checking
from bilstm.cli import commands
from bilstm.errors import UserError
from bilstm.layers import LSTM, Bidirectional, Dense, Embedding, Input, Layer, Masking, MaxPooling1D, Padding
from bilstm.models import Sequential

pytestmark = pytest.mark.fast


def network(*layers: Layer, features: int = 2) -> Sequential:
    return Sequential([Input((None, features)), *layers], seed=1)


def tagger(*first: Layer) -> Sequential:
    return network(*first, Bidirectional(LSTM(3, return_sequences=True)), Dense(2, "softmax"))


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(commands, ["convert", *map(str, arguments)])


def recurrent(path: Path, *, layout: int, batch: Any, steps: Any, lengths: bool, embedded: bool = False) -> Path:
    """An ONNX file of one bidirectional LSTM, as exporters write it: with and without lengths and fixed sizes."""
    random = np.random.default_rng(0)
    shapes = {"W": (2, 12, 2), "R": (2, 12, 3), "B": (2, 24), "table": (5, 2)}
    arrays = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    inputs = [helper.make_tensor_value_info("lengths", TensorProto.INT32, ["b"])] if lengths else []
    sizes = [batch, steps] if layout else [steps, batch]
    nodes = [helper.make_node("Gather", ["table", "words"], ["x"])] if embedded else []
    kind = TensorProto.INT64 if embedded else TensorProto.FLOAT
    main = helper.make_tensor_value_info("words" if embedded else "x", kind, [*sizes, *([] if embedded else [2])])
    read = ["x"]
    if layout:  # as PyTorch's exporter transposes
        nodes.append(helper.make_node("Transpose", ["x"], ["turned"], perm=[1, 0, 2]))
        read = ["turned"]
    given = [*read, "W", "R", "B", *(["lengths"] if lengths else [])]
    nodes += [
        helper.make_node("LSTM", given, ["Y"], hidden_size=3, direction="bidirectional"),
        helper.make_node("ReduceMean", ["Y"], ["both"], axes=[1], keepdims=0),
        helper.make_node("Transpose", ["both"], ["y"], perm=[1, 0, 2] if layout else [0, 1, 2]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [main, *inputs],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 3)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items() if embedded or name != "table"],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


# --- ONNX -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [tagger(), network(Bidirectional(LSTM(3)), Dense(1)), network(Embedding(5, 3), LSTM(2), features=1)],
    ids=["steps", "sequences", "words"],
)
def test_our_own_onnx_files(model: Sequential, tmp_path: Path) -> None:
    onnx.export(model, tmp_path / "model.onnx")
    found = onnx.read(tmp_path / "model.onnx").check()
    assert found.passed
    assert found.difference is not None
    assert found.difference < 1e-6
    assert found.sentence.startswith("check: compared with ONNX Runtime 1.")
    assert "on 8 random sequences of " in found.sentence


@pytest.mark.parametrize("embedded", [False, True], ids=["numbers", "words"])
@pytest.mark.parametrize("lengths", [False, True], ids=["alone", "lengths"])
@pytest.mark.parametrize(("batch", "steps"), [("b", "t"), (2, "t"), ("b", 6), (1, 6)])
@pytest.mark.parametrize("layout", [0, 1], ids=["time first", "batch first"])
def test_graphs_of_other_exporters(
    layout: int, batch: Any, steps: Any, lengths: bool, embedded: bool, tmp_path: Path
) -> None:
    path = recurrent(tmp_path / "m.onnx", layout=layout, batch=batch, steps=steps, lengths=lengths, embedded=embedded)
    file = onnx.read(path)
    assert (file.agrees, file.steps) == (lengths, steps if isinstance(steps, int) else None)
    found = file.check()
    assert found.passed
    assert found.difference is not None, found.sentence
    assert found.difference < 1e-5
    assert ("each alone" in found.sentence) == (not lengths)
    if not lengths:
        for side in ("post", "pre"):
            padded = file.padded(6, side, 1.0)
            again = padded.check()
            assert again.difference is not None, again.sentence
            assert again.difference < 1e-5
            assert isinstance(padded.model.layers[0], Padding)


# --- Keras ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow  # Keras is imported anew
def test_a_live_keras_in_a_process_of_its_own(tmp_path: Path) -> None:
    """Masks at the end of a padded batch; the output of each step; words of which 0 is none."""
    model = network(Embedding(5, 3, mask_zero=True), Bidirectional(LSTM(2, return_sequences=True)), features=1)
    keras.save(model, tmp_path / "model.keras")
    found = keras.read(tmp_path / "model.keras").check()
    assert found.library.startswith("Keras 3."), found.sentence
    assert found.difference is not None, found.sentence
    assert found.difference < 1e-5
    assert "each alone" not in found.sentence


Batches = list[tuple[Any, Any]]


def answering(model: Sequential, off: float = 0.0) -> Any:
    """Stands for a Keras that reads padding as data, but for what is masked."""

    def predictions(file: Any, library: str, batches: Batches) -> list[list[Any]]:
        return [[np.asarray(model.predict(x)) + off] for x, _ in batches]

    return predictions


@pytest.mark.parametrize(
    ("model", "alone"),
    [
        (tagger(), True),
        (tagger(Masking(9.0)), False),
        (network(Bidirectional(LSTM(3)), Dense(1)), True),
        (network(LSTM(3, return_sequences=True)), False),
        (network(MaxPooling1D(3), MaxPooling1D(2), LSTM(2)), True),
        (network(LSTM(2, return_sequences=True, go_backwards=True)), True),
    ],
    ids=["steps", "masked", "sequences", "forward", "pooled", "backward"],
)
def test_what_padding_would_change_is_read_alone(
    model: Sequential, alone: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keras.save(model, tmp_path / "model.keras")
    monkeypatch.setattr(keras_checking, "_predictions", answering(model))
    found = keras.read(tmp_path / "model.keras").check()
    assert found.difference is not None, found.sentence
    assert found.difference < 1e-6
    assert ("each alone" in found.sentence) == alone


@pytest.mark.parametrize(("off", "status"), [(1e-5, 0), (1e-2, 2)])
def test_predictions_that_differ_write_nothing(
    off: float, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out = tagger(Masking()), tmp_path / "out.model"
    keras.save(model, tmp_path / "model.keras")
    monkeypatch.setattr(keras_checking, "_predictions", answering(model, off))
    ran = run(tmp_path / "model.keras", "--out", out)
    assert ran.exit_code == status, ran.output
    assert out.exists() == (status == 0)
    assert "the largest difference is 1.0e-0" in ran.output
    if status:
        assert ran.stderr.count("\n") == 1
        assert "nothing was written" in ran.stderr
        assert "check" not in run(tmp_path / "model.keras", "--out", out, "--no-check").stdout
        assert out.exists()


def test_what_is_not_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keras.save(tagger(), tmp_path / "model.keras")
    onnx.export(tagger(), tmp_path / "model.onnx")
    file = keras.read(tmp_path / "model.keras")
    there = importlib.util.find_spec

    def without(*names: str) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in names else there(name))

    def said(major: int = 3) -> str:
        library, why = keras_checking._library(major)
        return checking.not_compared(library, why).sentence

    without("keras", "onnxruntime")
    assert file.check().sentence == "check: not compared with Keras 3: it is not installed"
    assert onnx.read(tmp_path / "model.onnx").check().sentence.endswith("ONNX Runtime: it is not installed")
    without("tensorflow", "torch", "jax")
    assert "none of its backends" in said()
    without("tf_keras")
    assert said(2) == "check: not compared with Keras 2: tf-keras, which reads its files, is not installed"
    monkeypatch.setattr(keras_checking, "_version", {"tf_keras": "2.15.0"}.get)
    without("tensorflow")
    assert said(2) == "check: not compared with tf-keras 2.15.0: TensorFlow is not installed"
    monkeypatch.setattr(keras_checking, "_version", {"keras": "2.2.4", "tf_keras": "2.15.0"}.get)
    assert "Keras 2.2.4" in said(2)
    assert said(3) == "check: not compared with Keras 3: it is not installed"


def test_a_source_that_does_not_run_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keras.save(tagger(), tmp_path / "model.keras")
    file = keras.read(tmp_path / "model.keras")
    (tmp_path / "model.keras").write_bytes(b"")
    monkeypatch.setattr(keras_checking, "_library", lambda major: ("tf-keras 2", ""))
    found = file.check()  # there is no such module
    assert found.passed
    assert "it does not run there (" in found.sentence
    assert "\n" not in found.sentence
    monkeypatch.setattr(keras_checking, "_predictions", lambda *_: [[np.zeros((1, 1, 5))]] * 8)
    assert "its predictions have the shape (8, 5), not " in file.check().sentence


# --- Padding that the source read -------------------------------------------------------------------------------------


def test_padded_like_the_source(tmp_path: Path) -> None:
    model, out = tagger(), tmp_path / "out.model"
    keras.save(model, tmp_path / "model.keras")
    for options, side, value in (([], "post", 0.0), (["--padding-side", "pre", "--padding-value", "-1"], "pre", -1.0)):
        ran = run(tmp_path / "model.keras", "--out", out, "--no-check", "--padded-like-the-source", 5, *options)
        assert ran.exit_code == 0, ran.output
        assert f"extended to 5 time steps by {value:g}" in ran.stdout
        first = bilstm.load_model(out).layers[0]
        assert isinstance(first, Padding)
        assert (first.steps, first.side, first.value) == (5, side, value)


def test_padding_that_nothing_read_is_refused(tmp_path: Path) -> None:
    path, out = tmp_path / "model.keras", tmp_path / "out.model"
    keras.save(tagger(Masking()), path)
    ran = run(path, "--out", out, "--padded-like-the-source", 5)
    assert ran.exit_code == 2
    assert "no layer reads padding, so that there is nothing to reproduce" in ran.stderr
    keras.save(network(Masking(), MaxPooling1D(2), Bidirectional(LSTM(2))), path)
    with pytest.raises(UserError, match="cannot be reproduced, since masked steps are left out here"):
        keras.read(path).padded(5)
    keras.save(network(LSTM(2, return_sequences=True)), path)
    with pytest.raises(UserError, match="nothing to reproduce"):
        keras.read(path).padded(5)
    assert keras.read(path).padded(5, "pre").model.layers[1:]
    keras.save(network(LSTM(2, return_sequences=True, go_backwards=True)), path)
    with pytest.raises(UserError, match="padding cannot be reproduced: .* cannot follow Padding"):
        keras.read(path).padded(5)
    keras.save(tagger(), path)
    assert "5 time steps" in keras.read(path).padded(5).padding
    assert run(path, "--out", out, "--padding-side", "pre").exit_code == 2
    assert run(path, "--out", out, "--padded-like-the-source", 0).exit_code == 2
    fixed = recurrent(tmp_path / "m.onnx", layout=1, batch="b", steps=6, lengths=False)
    with pytest.raises(UserError, match="its sequences have 6 time steps, not 5: pad to those"):
        onnx.read(fixed).padded(5)
    assert not out.exists()
