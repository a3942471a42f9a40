"""Our models as .keras files: what Keras makes of them, what is refused, files, the command line. And live models."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from click.testing import CliRunner

import bilstm
from bilstm import Sequential
from bilstm.bridges.keras import load, read, save, to_keras
from bilstm.bridges.keras.saving import check_keras_path
from bilstm.cli import commands
from bilstm.errors import UserError
from bilstm.layers import (
    GRU,
    LSTM,
    AveragePooling1D,
    BatchNormalization,
    Bidirectional,
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
    Reverse,
    SimpleRNN,
    SpatialDropout1D,
    TimeDistributed,
    to_json,
)

pytestmark = pytest.mark.fast


def lstm(units: int = 4, **options: Any) -> LSTM:
    return LSTM(units, return_sequences=True, **options)


def built(layers: list[Layer], features: int = 3) -> Sequential:
    """With weights that are all different from zero."""
    model = Sequential(layers, seed=0, name="tagger")
    model.build((None, features))
    random = np.random.default_rng(0)
    weights = {name: random.normal(0, 0.5, array.shape) for name, array in model.tensors().items()}
    model.set_tensors({name: np.abs(array) if "variance" in name else array for name, array in weights.items()})
    return model


LAYERS: dict[str, list[Layer]] = {
    "tagger": [Masking(-1.0), Bidirectional(lstm()), TimeDistributed(Dense(2, "softmax"))],
    "two cells": [Bidirectional(lstm(), backward_layer=GRU(4, return_sequences=True, go_backwards=True)), Dense(2)],
    "backwards": [lstm(go_backwards=True), GRU(3, go_backwards=True, reset_after=False)],
    "merged": [Bidirectional(lstm(), "sum"), Bidirectional(lstm(), "mul"), Bidirectional(GRU(2), "ave")],
    "windows": [
        Conv1D(4, 3, padding="causal", dilation_rate=2, activation="relu"),
        MaxPooling1D(2),
        SimpleRNN(3, "relu"),
    ],
    "pooled": [lstm(), AveragePooling1D(3, 2), GlobalMaxPooling1D(), Dense(2, "sigmoid")],
    "dropouts": [SpatialDropout1D(0.3), lstm(use_bias=False), Dropout(0.2), GlobalAveragePooling1D()],
    "normalized": [BatchNormalization(epsilon=0.1), lstm(), BatchNormalization(scale=False), Dense(2)],
    "equal names": [Dense(4, name="a"), lstm(name="a"), Dense(2, name="a"), Dense(2, use_bias=False)],
    "hard gates": [Bidirectional(lstm(recurrent_activation="hard_sigmoid")), Dense(2)],
    "hard gates of Keras 2": [
        Bidirectional(lstm(recurrent_activation="hard_sigmoid_keras2")),
        GRU(3, recurrent_activation="hard_sigmoid_keras2", return_sequences=True),
        GRU(3, recurrent_activation="hard_sigmoid_keras2", reset_after=False),
    ],
}


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_keras_predicts_the_same(layers: list[Layer]) -> None:
    model = built(layers)
    live = to_keras(model)
    assert isinstance(live, keras.Sequential)
    assert live.name == "tagger"
    x = np.random.default_rng(1).normal(size=(3, 8, 3)).astype(np.float32)
    theirs = keras.ops.convert_to_numpy(live(x))
    np.testing.assert_allclose(theirs, model.predict(x, verbose=0), atol=1e-5)


def test_masks_make_padded_batches_right() -> None:
    model = built(LAYERS["tagger"])
    x = np.random.default_rng(1).normal(size=(2, 6, 3)).astype(np.float32)
    x[1, 4:] = -1.0
    theirs = keras.ops.convert_to_numpy(to_keras(model)(x))
    np.testing.assert_allclose(theirs[1, :4], model.predict([x[1, :4]], verbose=0)[0], atol=1e-5)


def test_words() -> None:
    model = built([Embedding(5, 3, mask_zero=True), Bidirectional(lstm()), Dense(2)], features=1)
    x = np.array([[1, 2, 3, 4], [4, 3, 0, 0]])
    theirs = keras.ops.convert_to_numpy(to_keras(model)(x))
    np.testing.assert_allclose(theirs[1, :2], model.predict([x[1, :2, np.newaxis]], verbose=0)[0], atol=1e-5)


@pytest.mark.parametrize("name", ["tagger", "two cells", "windows", "dropouts"])
def test_our_own_file_comes_back(name: str, tmp_path: Path) -> None:
    model = built(LAYERS[name])
    save(model, tmp_path / "model.keras")
    found = read(tmp_path / "model.keras").model
    unnamed = [to_json(layer) for layer in model.layers]
    assert [each["class_name"] for each in map(to_json, found.layers)] == [each["class_name"] for each in unnamed]
    for ours, theirs in zip(model.get_weights(), found.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_live_model_is_read() -> None:
    live = keras.Sequential(
        [keras.Input((None, 2)), keras.layers.Bidirectional(keras.layers.GRU(3)), keras.layers.Dense(2)], name="live"
    )
    found = read(live)
    assert found.path == "live"
    x = np.random.default_rng(0).normal(size=(2, 5, 2)).astype(np.float32)
    np.testing.assert_allclose(load(live).predict(x, verbose=0), keras.ops.convert_to_numpy(live(x)), atol=1e-6)
    with pytest.raises(TypeError, match="a path or a model of Keras's is needed, not 3"):
        read(3)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([lstm(go_backwards=True), Reverse()], "Reverse.*Keras has none; read both directions"),
        ([lstm(), GlobalAttentionPooling1D(2)], "GlobalAttentionPooling1D.*Keras has none"),
        ([bilstm.layers.ColumnEmbedding(1, [3, 3], [2, 2]), lstm()], "ColumnEmbedding.*words and numbers"),
    ],
    ids=["Reverse", "attention", "columns"],
)
def test_layers_that_keras_lacks_are_refused(layers: list[Layer], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        save(built(layers), tmp_path / "model.keras")
    assert not list(tmp_path.iterdir())


def test_a_model_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no weights yet"):
        save(Sequential([lstm()]), tmp_path / "model.keras")


def test_without_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(UserError, match="needs the package keras"):
        to_keras(built([lstm()]))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match="pip install 'bilstm\\[keras\\]'"):
        save(built([lstm()]), tmp_path / "model.keras")


def test_files(tmp_path: Path) -> None:
    path, model = tmp_path / "model.keras", built([lstm()])
    keras.Sequential([keras.Input((None, 2)), keras.layers.LSTM(2)]).save(path)
    content = path.read_bytes()
    for refused in (check_keras_path, lambda other: save(model, other)):
        with pytest.raises(UserError, match="is not a .keras file of bilstm's"):
            refused(path)
    assert path.read_bytes() == content
    with pytest.raises(UserError, match="names end with .keras"):
        save(model, tmp_path / "model.zip")
    save(model, path, force=True)
    first = path.read_bytes()
    save(model, path)
    assert path.read_bytes() == first
    with zipfile.ZipFile(path) as archive:
        assert json.loads(archive.read("metadata.json"))["bilstm"] == bilstm.__version__


def test_the_command_line(tmp_path: Path) -> None:
    def run(*arguments: Any, status: int = 0) -> str:
        result = CliRunner().invoke(commands, ["export", *map(str, arguments)])
        assert result.exit_code == status, result.output
        return result.output

    network, out = tmp_path / "network.model", tmp_path / "net.keras"
    built([lstm(), Dense(2)]).save(network)
    assert run(network, "--to", out) == f"wrote {out}\n"
    assert load(out).count_params() == 138
    table = {"id": np.repeat(np.arange(4), 3), "x": np.arange(12.0), "y": np.tile(["a", "b", "a"], 4)}
    options: dict[str, Any] = {"units": 2, "layers": 1, "epochs": 1, "validation_split": 0, "baseline": False}
    trained = bilstm.train(table, sequence="id", label="y", task="step-label", verbose=False, **options)
    trained.save(tmp_path / "trained.model")
    assert "say --inputs encoded if that is wanted" in run(tmp_path / "trained.model", "--to", out, status=2)
    assert run(tmp_path / "trained.model", "--to", out, "--inputs", "encoded", "--quiet") == ""
    assert load(out).count_params() == trained.network.count_params()
