"""SavedModel folders of tf.keras, without TensorFlow: the description of the layers, and their arrays.

The description is JSON, in `keras_metadata.pb` from TensorFlow 2.5 on, and in `saved_model.pb` before. The table
`variables/variables.index` names each array and tells where in `variables/variables.data-…` it is.

Formats: saved_model.proto, saved_object_graph.proto and tensor_bundle.proto in tensorflow/core/protobuf, Keras 2's
saved_metadata.proto, and LevelDB's doc/table_format.md. Only the fields that are needed are read.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.bridges.refusals import RefusedError
from bilstm.errors import shown
from bilstm.modelfile import MAXIMUM_HEADER, parse_json

GRAPH = "saved_model.pb"  # what makes a folder a SavedModel
_METADATA, _INDEX = "keras_metadata.pb", "variables/variables.index"
_SUFFIX = b"/.ATTRIBUTES/VARIABLE_VALUE"
_MAGIC = 0xDB4775248B80FB57  # ends a table
_FOOTER = 48
_DTYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 2: np.dtype("<f8"), 19: np.dtype("<f2")}
_NAMED = (b"layer_with_weights-", b"variables/")  # the arrays of layers, not those of optimizers and metrics


def description(folder: Path) -> dict[str, Any]:
    """The model's: "class_name", "config", "keras_version" and more.

    Raises:
        RefusedError: it holds no model of Keras's.
    """
    metadata = folder / _METADATA
    if metadata.exists():
        nodes = [dict(_fields(value)) for number, value in _fields(metadata.read_bytes()) if number == 1]
        texts = [node.get(5) for node in nodes if node.get(3) == b"root"]
    else:  # MetaGraphDef 2, its SavedObjectGraph 7, the first SavedObject 1, its SavedUserObject 4, its metadata 3
        data: Any = (folder / GRAPH).read_bytes()
        for number in (2, 7, 1, 4):
            data = next((value for found, value in _fields(data) if found == number), b"")
        texts = [dict(_fields(data)).get(3)]
    if not texts or not isinstance(texts[0], bytes) or not texts[0]:
        raise RefusedError("it does not describe a model of Keras's: save it as .h5 or .keras where it was made")
    if len(texts[0]) > MAXIMUM_HEADER:
        raise RefusedError(f"its description is larger than {MAXIMUM_HEADER:,} bytes")
    root = parse_json(texts[0].decode())
    if not isinstance(root, dict):
        raise RefusedError("its description is not that of a model")
    return root


def arrays(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """The layers' arrays by their names, such as "layer_with_weights-0/kernel" and "variables/5".

    Raises:
        RefusedError: an array is not wholly in the folder, or of another type than float32, float64 and float16.
    """
    shards, found = 1, dict[str, npt.NDArray[Any]]()
    for key, value in _table((folder / _INDEX).read_bytes()):
        if not key:
            header = dict(_fields(value))
            shards = header.get(1, 1)
            if header.get(2, 0):
                raise RefusedError("its arrays have the byte order of another kind of processor")
        elif key.startswith(_NAMED) and key.endswith(_SUFFIX) and b"/." not in key.removesuffix(_SUFFIX):
            name = key.removesuffix(_SUFFIX).decode()
            found[name] = _array(folder, name, value, shards)
    return found


def _array(folder: Path, name: str, entry: bytes, shards: int) -> npt.NDArray[Any]:
    fields = dict(_fields(entry))
    if fields.get(1) not in _DTYPES:
        raise RefusedError(f"its array {shown(name)} is of no type of floating-point numbers that bilstm reads")
    dtype = _DTYPES[fields[1]]
    sizes = [dict(_fields(size)).get(1, 0) for number, size in _fields(fields.get(2, b"")) if number == 2]
    count, size = int(np.prod(sizes, dtype=object)), fields.get(5, 0)
    path = folder / f"{_INDEX.removesuffix('index')}data-{fields.get(3, 0):05}-of-{shards:05}"
    if 7 in fields or count * dtype.itemsize != size or fields.get(4, 0) + size > os.path.getsize(path):
        raise RefusedError(f"its array {shown(name)} is not wholly in the folder")
    values: npt.NDArray[Any] = np.fromfile(path, dtype, count, offset=fields.get(4, 0))
    return values.reshape(sizes)


# --- LevelDB's table -------------------------------------------------------------------------------------------------


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a table."""
    footer = data[-_FOOTER:]
    if len(footer) < _FOOTER or struct.unpack("<Q", footer[-8:])[0] != _MAGIC:
        raise RefusedError(f"its {_INDEX} is no table")
    at = 0
    for _ in range(2):  # the block about blocks is not needed
        _, at = _number(footer, at)
    for _, handle in _block(data, footer[at:]):
        yield from _block(data, handle)


def _block(data: bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
    start, at = _number(handle, 0)
    size, _ = _number(handle, at)
    block = data[start : start + size]
    if len(block) != size or size < 4 or data[start + size]:
        raise RefusedError(f"its {_INDEX} is compressed, or damaged")
    end = size - 4 - 4 * int(struct.unpack("<I", block[-4:])[0])
    at, key = 0, b""
    while at < end:
        shared, at = _number(block, at)
        own, at = _number(block, at)
        length, at = _number(block, at)
        key = key[:shared] + block[at : at + own]
        yield key, block[at + own : at + own + length]
        at += own + length


# --- Protocol buffers ------------------------------------------------------------------------------------------------


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a message: their numbers, and whole numbers or bytes."""
    at = 0
    while at < len(data):
        tag, at = _number(data, at)
        value: Any
        if tag & 7 == 0:
            value, at = _number(data, at)
        else:
            size, at = _number(data, at) if tag & 7 == 2 else ({1: 8, 5: 4}[tag & 7], at)
            value, at = data[at : at + size], at + size
            if at > len(data):
                raise RefusedError("it is damaged or was not written completely")
        yield tag >> 3, value


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise RefusedError("it holds a number of more than 64 bits")
