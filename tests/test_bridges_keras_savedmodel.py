"""SavedModel folders, made here by hand: protocol buffers, LevelDB's tables, and arrays in one file or several."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import bilstm
from bilstm import layers
from bilstm.bridges.keras import load, read
from bilstm.cli import commands
from bilstm.errors import ModelFileError
from bilstm.models import Sequential
from bilstm.ragged import Ragged

pytestmark = pytest.mark.fast

Array = np.ndarray[Any, Any]
Config = dict[str, Any]


def number(value: int) -> bytes:
    """In groups of seven bits."""
    groups = bytearray()
    while value >= 128:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])


def message(*fields: tuple[int, int | bytes]) -> bytes:
    made = b""
    for key, value in fields:
        wire, content = (0, number(value)) if isinstance(value, int) else (2, number(len(value)) + value)
        made += number(key << 3 | wire) + content
    return made


def block(entries: Sequence[tuple[bytes, bytes]], restarts: int = 2) -> bytes:
    """Names share their beginnings with those before them, unless they begin anew."""
    made, before, starts = b"", b"", []
    for index, (key, value) in enumerate(entries):
        shared = 0
        if index % restarts:
            shared = next((i for i, (a, b) in enumerate(zip(key, before, strict=False)) if a != b), len(before))
        else:
            starts.append(len(made))
        made += number(shared) + number(len(key) - shared) + number(len(value)) + key[shared:] + value
        before = key
    return made + struct.pack(f"<{len(starts)}I", *starts) + struct.pack("<I", len(starts))


def table(entries: Sequence[tuple[bytes, bytes]], per_block: int = 3) -> bytes:
    content, index = b"", []
    for some in (entries[start : start + per_block] for start in range(0, len(entries), per_block)):
        own = block(some)
        index.append((some[-1][0], number(len(content)) + number(len(own))))
        content += own + b"\0" + bytes(4)
    handle = number(len(content)) + number(len(block(index)))
    content += block(index) + b"\0" + bytes(4)
    return content + (number(0) + number(0) + handle).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def layer(kind: str, name: str, **config: Any) -> Config:
    return {"class_name": kind, "config": {"name": name, "trainable": True, **config}}


def gru(name: str, **config: Any) -> Config:
    options = {"units": 3, "return_sequences": True, "reset_after": True, "recurrent_activation": "sigmoid"}
    return layer("GRU", name, **options | config)


FIRST = {"batch_input_shape": {"class_name": "__tuple__", "items": [None, None, 2]}, "dtype": "float32"}
DESCRIBED = [
    layer("InputLayer", "input", **FIRST),
    layer("Masking", "mask", mask_value=9.0),
    layer("BatchNormalization", "norm", axis=[2], epsilon=0.5),
    layer("Bidirectional", "both", layer=gru("gru"), merge_mode="concat"),
    layer("Dense", "dense", units=2, activation="softmax"),
]
KINDS = ("gamma", "beta", "moving_mean", "moving_variance", *[""] * 6, "kernel", "bias")
LAYERS = (0, 0, 0, 0, *[1] * 6, 2, 2)


def ours() -> Sequential:
    model = Sequential(
        [
            layers.Input((None, 2)),
            layers.Masking(9.0),
            layers.BatchNormalization(epsilon=0.5),
            layers.Bidirectional(layers.GRU(3, return_sequences=True)),
            layers.Dense(2, "softmax"),
        ]
    )
    random = np.random.default_rng(0)
    model.set_weights([random.random(each.shape) for each in model.get_weights()])
    return model


def write(
    folder: Path,
    described: Sequence[Config] = DESCRIBED,
    *,
    metadata: bool = True,
    shards: int = 1,
    kind: int = 1,
    change: Callable[[dict[str, tuple[Array, bytes]]], object] = lambda found: None,
) -> Path:
    """A SavedModel of `ours`.

    Args:
        metadata: whether the description has a file of its own, as from TensorFlow 2.5 on.
        shards: over how many files the arrays are divided.
        kind: of the arrays, in TensorFlow's numbering.
        change: changes the arrays and the messages about them.
    """
    (folder / "variables").mkdir(parents=True)
    config = {"name": "sequential", "layers": described}
    text = json.dumps({"class_name": "Sequential", "config": config, "keras_version": "2.8.0"}).encode()
    user = message((1, b"_tf_keras_sequential"), (3, b"" if metadata else text))
    graph = message((1, 1), (2, message((1, b""), (7, message((1, message((4, user))))))))
    (folder / "saved_model.pb").write_bytes(graph)
    if metadata:
        other = message((2, 3), (3, b"root.layer-0"), (5, b"{}"))
        root = message((3, b"root"), (4, b"_tf_keras_sequential"), (5, text))
        (folder / "keras_metadata.pb").write_bytes(message((1, root), (1, other)))
    contents, entries = [b""] * shards, dict[str, tuple[Array, bytes]]()
    for index, (name, at, array) in enumerate(zip(KINDS, LAYERS, ours().get_weights(), strict=True)):
        key = f"layer_with_weights-{at}/{name}" if name else f"variables/{index}"
        shard = index % shards
        shape = b"".join(message((2, message((1, size)))) for size in array.shape)
        place = [(3, shard)] * (shard > 0) + [(4, len(contents[shard]))] * (len(contents[shard]) > 0)
        entries[key] = array, message((1, kind), (2, shape), *place, (5, array.nbytes), (6, 7))
        contents[shard] += array.tobytes()
    change(entries)
    named = {f"{key}/.ATTRIBUTES/VARIABLE_VALUE".encode(): value for key, (_, value) in entries.items()}
    named[b"optimizer/iter/.ATTRIBUTES/VARIABLE_VALUE"] = message((1, 9), (5, 8))
    header = message((1, shards), (3, message((1, 1))))
    rows = [(b"", header), (b"_CHECKPOINTABLE_OBJECT_GRAPH", message((1, 7))), *sorted(named.items())]
    (folder / "variables" / "variables.index").write_bytes(table(sorted(rows)))
    for shard, content in enumerate(contents):
        (folder / "variables" / f"variables.data-{shard:05}-of-{shards:05}").write_bytes(content)
    return folder


def draw() -> Ragged:
    return Ragged(np.random.default_rng(1).normal(size=(9, 2)), [0, 4, 9])


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("metadata", [True, False], ids=["TensorFlow 2.5", "TensorFlow 2.2"])
def test_a_folder(metadata: bool, shards: int, tmp_path: Path) -> None:
    file = read(write(tmp_path / "saved", metadata=metadata, shards=shards))
    assert (file.layout, file.version, file.what) == ("savedmodel", "2.8.0", "SavedModel folder of Keras 2.8.0")
    assert file.agrees
    np.testing.assert_array_equal(file.model.predict(draw()).values, ours().predict(draw()).values)


def test_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "out.model"
    arguments = ["convert", str(write(tmp_path / "saved")), "--out", str(out), "--no-check"]
    ran = CliRunner().invoke(commands, arguments)
    assert ran.exit_code == 0, ran.output
    np.testing.assert_array_equal(bilstm.load_model(out).predict(draw()).values, ours().predict(draw()).values)


def without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda entries: entries.pop(name)


def of(name: str, *fields: tuple[int, int | bytes]) -> Callable[[dict[str, Any]], object]:
    """An array about which the folder says something else, too."""
    return lambda entries: entries.update({name: (None, entries[name][1] + message(*fields))})


FROZEN = [
    *DESCRIBED[:3],
    layer("Bidirectional", "both", layer=gru("gru"), backward_layer=gru("back", go_backwards=True, trainable=False)),
    DESCRIBED[4],
]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"change": without("variables/5")}, "it holds no 'variables/5'"),
        ({"change": without("layer_with_weights-2/kernel")}, "it holds no 'variables/10'"),
        ({"kind": 14}, "is of no type of floating-point numbers"),
        ({"change": of("variables/5", (5, 1 << 40))}, "'variables/5' is not wholly in the folder"),
        ({"change": of("variables/5", (4, 1 << 40))}, "'variables/5' is not wholly in the folder"),
        ({"change": of("variables/5", (7, b"slice"))}, "'variables/5' is not wholly in the folder"),
        ({"described": FROZEN}, "one direction is not trainable"),
        ({"described": [*DESCRIBED, layer("Lambda", "mine")]}, r"layer 'mine' \(Lambda\) is not supported"),
    ],
)
def test_what_is_refused(options: dict[str, Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=why):
        load(write(tmp_path / "saved", **options))


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"is a folder, but no SavedModel of Keras's"):
        load(tmp_path)
    folder = write(tmp_path / "saved")
    (folder / "keras_metadata.pb").unlink()
    with pytest.raises(ModelFileError, match="it does not describe a model of Keras's"):
        load(folder)


def loaded_or_error(folder: Path) -> str:
    try:
        return repr(load(folder))
    except ModelFileError as error:
        return str(error)


def test_damaged_folders_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    folder, random = write(tmp_path / "saved", shards=2), np.random.default_rng(0)
    for path in (folder / "keras_metadata.pb", *(folder / "variables").iterdir()):
        content = path.read_bytes()
        for attempt in range(60):
            damaged = bytearray(content)
            for at in random.integers(len(damaged), size=random.integers(1, 4)):
                damaged[at] = random.integers(256)
            path.write_bytes(damaged[: random.integers(len(content))] if attempt % 3 == 0 else damaged)
            assert "\n" not in loaded_or_error(folder)
        path.write_bytes(content)
    assert load(folder)
