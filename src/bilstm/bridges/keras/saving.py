"""Our models as .keras files that Keras 3 loads, written without Keras: a zip archive of JSON and HDF5."""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bilstm._version import __version__
from bilstm.bridges.keras.container import snake_case
from bilstm.errors import UserError
from bilstm.files import AnyPath, check_replaceable, check_writable, replacing
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
    GlobalAveragePooling1D,
    GlobalMaxPooling1D,
    Layer,
    Masking,
    MaxPooling1D,
    Recurrent,
    SimpleRNN,
    SpatialDropout1D,
    TimeDistributed,
)
from bilstm.models import Sequential
from bilstm.ragged import FloatArray

_SAME = (
    *(LSTM, GRU, SimpleRNN, Dense, Dropout, SpatialDropout1D, Masking, Embedding, Conv1D),
    *(BatchNormalization, AveragePooling1D, MaxPooling1D, GlobalAveragePooling1D, GlobalMaxPooling1D),
)
_INSTEAD = {
    "Reverse": "Keras has none; read both directions with Bidirectional",
    "GlobalAttentionPooling1D": "Keras has none; pool by the mean or the maximum",
    "ColumnEmbedding": "Keras has no layer for words and numbers in one input",
}
# Keras 3 has one hard sigmoid, x / 6 + 1/2. With sums 6/5 as large it is that of Keras 2, x / 5 + 1/2.
_STEEPER = np.float32(1.2)
_GATES = {"LSTM": (0, 1, 3), "GRU": (0, 1)}  # the blocks of columns that a gate's activation squashes
_CREATED = (1980, 1, 1, 0, 0, 0)  # the archive's members' time: the same model gives the same bytes


def save(model: Sequential, path: AnyPath, *, force: bool = False) -> None:
    """Write a model atomically to a .keras file that Keras 3 loads. Needs h5py, but not Keras.

    Keras makes the same predictions for each sequence. In batches of sequences that are padded to one length it does
    so only if the model begins with `Masking` or `Embedding(mask_zero=True)`, since it reads padding otherwise.

    Args:
        model: the model; optimizer and loss are not written.
        path: the file to write, ending with .keras as Keras wants it.
        force: whether to replace a file that bilstm did not write.

    Raises:
        UserError: Keras has no such layer, by its name; the file cannot be written, or another program's file would be
            replaced; the package h5py is missing.
    """
    content = _archive(model)
    check_keras_path(path, force=force)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def to_keras(model: Sequential) -> Any:
    """A live `keras.Model` that makes the same predictions. Needs Keras 3.

    Raises:
        UserError: see `save`; or Keras is missing.
    """
    try:
        import keras
    except ModuleNotFoundError:
        raise UserError("a live model of Keras's needs the package keras: pip install keras") from None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        save(model, path)
        return keras.saving.load_model(path)


def check_keras_path(path: AnyPath, *, inputs: Iterable[AnyPath] = (), force: bool = False) -> None:
    """Find out now whether a .keras file can be written to `path` and replaces nothing but one of ours.

    Args:
        path: the file that will be written.
        inputs: files that are being read, and must not be overwritten.
        force: replace an existing file of any content.

    Raises:
        UserError: its name does not end with .keras; the file cannot be written, or exists and bilstm did not write it.
    """
    if not os.fspath(path).endswith(".keras"):
        raise UserError(f"cannot write {path}: Keras opens only files whose names end with .keras")
    check_writable(path, inputs=inputs)
    if not force:
        check_replaceable(path, "a .keras file of bilstm's", _is_ours)


def _is_ours(path: AnyPath) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return "bilstm" in json.loads(archive.read("metadata.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, NotImplementedError, RuntimeError):
        return False


def _archive(model: Sequential) -> bytes:
    try:
        import h5py
    except ModuleNotFoundError:
        raise UserError("files of Keras's need the package h5py: pip install 'bilstm[keras]'") from None
    if not model.built or model.input_features is None:
        raise UserError("the model has no weights yet: give its first layer input_shape=(steps, features)")
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        described = _layers(model, file)
    shape = _input_shape(model)
    config = {"name": model.name, "trainable": True, "dtype": "float32", "layers": described}
    sequential = _object("Sequential", config | {"build_input_shape": shape}, "keras") | {
        "build_config": {"input_shape": shape}
    }
    members: dict[str, str | bytes] = {
        "metadata.json": json.dumps({"keras_version": "3.0.0", "date_saved": "", "bilstm": __version__}),
        "config.json": json.dumps(sequential, ensure_ascii=False),
        "model.weights.h5": weights.getvalue(),
    }
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name, content in members.items():
            file.writestr(zipfile.ZipInfo(name, _CREATED), content)
    return archive.getvalue()


def _input_shape(model: Sequential) -> list[int | None]:
    return [None, None] if isinstance(model.layers[0], Embedding) else [None, None, model.input_features]


def _layers(model: Sequential, file: Any) -> list[dict[str, Any]]:
    """The descriptions of a model's layers, the input's first; their weights are written to the HDF5 file."""
    shape = _input_shape(model)
    described = [_object("InputLayer", {"batch_shape": shape, "dtype": "float32", "name": "input_layer"})]
    seen, names, tensors = Counter[str](), {"input_layer"}, model.tensors()
    for index, layer in enumerate(model.layers):
        stem = snake_case(type(layer).__name__)
        group = f"{stem}_{seen[stem]}" if seen[stem] else stem
        seen[stem] += 1
        name = layer.name if layer.name and "/" not in layer.name else group
        while name in names:
            name += "_"
        names.add(name)
        described.append(_described(layer, name))
        arrays = [array for key, array in tensors.items() if key.startswith(f"layers.{index}.")]
        for path, own in _parts(layer, arrays):
            variables = file.create_group("/".join(filter(None, ("layers", group, path, "vars"))))
            for number, array in enumerate(own):
                variables.create_dataset(str(number), data=array)
    return described


def _object(class_name: str, config: dict[str, Any], module: str = "keras.layers") -> dict[str, Any]:
    return {"module": module, "class_name": class_name, "config": config, "registered_name": None}


def _described(layer: Layer, name: str) -> dict[str, Any]:
    """A layer as Keras describes it."""
    config = layer.get_config() | {"name": name, "dtype": "float32"}
    if isinstance(layer, Bidirectional):
        config["layer"] = _described(layer.forward, layer.forward.name or "forward")
        config["backward_layer"] = _described(layer.backward, layer.backward.name or "backward")
    elif isinstance(layer, TimeDistributed):
        config["layer"] = _described(layer.layer, layer.layer.name or "layer")
    elif not isinstance(layer, _SAME):
        kind = type(layer).__name__
        raise UserError(f"cannot write {layer!r} to a .keras file: {_INSTEAD.get(kind, 'Keras has no such layer')}")
    if config.get("recurrent_activation") == "hard_sigmoid_keras2":
        config["recurrent_activation"] = "hard_sigmoid"
    return _object(type(layer).__name__, config)


def _parts(layer: Layer, arrays: Sequence[FloatArray]) -> list[tuple[str, list[FloatArray]]]:
    """Where Keras keeps a layer's arrays, below the layer, and those there."""
    if isinstance(layer, Bidirectional):
        count = len(layer.forward.weight_specs(1))
        ways = [(layer.forward, arrays[:count]), (layer.backward, arrays[count:])]
        return [
            (f"{name}/{path}", own)
            for name, (way, half) in zip(("forward_layer", "backward_layer"), ways, strict=True)
            for path, own in _parts(way, half)
        ]
    if isinstance(layer, Recurrent):
        return [("cell", [_squashed(layer, array) for array in arrays])]
    if isinstance(layer, TimeDistributed):
        return [("layer", list(arrays))]
    return [("", list(arrays))]


def _squashed(layer: Recurrent, array: FloatArray) -> FloatArray:
    """An array of a layer whose gates Keras 3 squashes."""
    if layer.recurrent_activation != "hard_sigmoid_keras2":
        return array
    blocks = np.split(array, layer.gates, axis=-1)
    steeper = _GATES[type(layer).__name__]
    return np.concatenate([block * _STEEPER if gate in steeper else block for gate, block in enumerate(blocks)], -1)
