"""Other builds of the engine in place of the one that was loaded: this processor's, or another's under an emulator."""

from __future__ import annotations

import ctypes
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np

from bilstm.engine import library, network
from bilstm.engine.library import DataStruct
from bilstm.engine.library import library as own_engine


@contextmanager
def using(engine: Any) -> Iterator[None]:
    """Networks made here run on this engine, and belong to it."""
    with patch.object(library, "library", lambda: engine), patch.object(network, "library", lambda: engine):
        yield


def own_builds() -> dict[str, Any]:
    """The builds that this processor can run, by their names, each loaded."""
    paths = {target: library._find(target) for target in library.TARGETS}
    engines = {target: library._load(path) for target, path in paths.items() if path is not None}
    return {target: engine for target, engine in engines.items() if engine.bilstm_supported()}


class EmulatedEngine:
    """What `library.library()` returns, for the program tests/native/server.cpp: the same calls of the same arguments.

    Args:
        command: starts the program.
    """

    _CALLS = (
        *("create", "describe", "read", "write", "iteration", "train", "gradient", "update", "predict", "destroy"),
        *("set_threads", "target"),
    )

    def __init__(self, command: Sequence[str]) -> None:
        self._program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._message = b""
        self._shapes: dict[int, tuple[int, int, int, int]] = {}  # features, outputs, one_row_each, state_width
        self._unused: list[int] = []
        self._threads = 0

    def close(self) -> None:
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.close()
        self._program.wait()
        self._program.stdout.close()

    def bilstm_last_error(self) -> bytes:
        return self._message

    def bilstm_target(self) -> bytes:
        self._call("target")
        return self._message

    def bilstm_threads(self) -> int:
        return self._threads

    def bilstm_first_not_finite(self, *arguments: Any) -> int:
        return int(own_engine().bilstm_first_not_finite(*arguments))  # compares numbers, and computes none

    def bilstm_mark_unlabelled(self, *arguments: Any) -> int:
        return int(own_engine().bilstm_mark_unlabelled(*arguments))

    def bilstm_set_threads(self, count: int) -> int:
        self._threads = count
        return self._call("set_threads", struct.pack("<i", count))

    def bilstm_create(self, layers: Any, count: int, features: int, out: Any) -> int:
        code = self._call("create", *_plan(layers, count), struct.pack("<q", features), into=[out])
        if not code:
            self._shapes[out._obj.value] = (features, 0, 0, 0)
        return code

    def bilstm_describe(self, handle: Any, *out: Any) -> int:
        numbers = np.zeros(4, np.int64)
        code = self._call("describe", _handle(handle), into=[numbers])
        for place, number in zip(out, numbers.tolist(), strict=True):
            place._obj.value = number
        self._shapes[handle.value] = (self._shapes[handle.value][0], *numbers.tolist()[1:])
        return code

    def bilstm_read(self, handle: Any, which: int, to: int, count: int) -> int:
        arguments = struct.pack("<iq", which, count)
        return self._call("read", _handle(handle), arguments, into=[_view(to, count, np.float32)])

    def bilstm_write(self, handle: Any, which: int, start: int, count: int) -> int:
        numbers = _array(_view(start, count, np.float32))
        return self._call("write", _handle(handle), struct.pack("<i", which), numbers)

    def bilstm_iteration(self, handle: Any, number: Any, put: int) -> int:
        arguments = struct.pack("<qqi", 1, number._obj.value, put)
        return self._call("iteration", _handle(handle), arguments, into=[number])

    def bilstm_train(self, handle: Any, data: Any, chosen: int, count: int, *rest: Any) -> int:
        starts, batches, loss, optimizer, seed, scores = rest
        return self._call(
            "train",
            *self._data(handle, data._obj),
            _array(_view(chosen, count, np.int64)),
            _array(_view(starts, batches + 1, np.int64)),
            struct.pack("<i", loss),
            bytes(optimizer._obj),
            struct.pack("<Q", seed),
            into=[_view(scores, 5 * batches, np.float64)],
        )

    def bilstm_gradient(
        self, handle: Any, data: Any, chosen: int, count: int, loss: int, training: int, seed: int, *rest: Any
    ) -> int:
        states, states_out, score = rest
        assert states is None
        assert states_out is None
        chosen_sequences, options = _array(_view(chosen, count, np.int64)), struct.pack("<iiQ", loss, training, seed)
        into = [_view(score, 5, np.float64)]
        return self._call("gradient", *self._data(handle, data._obj), chosen_sequences, options, into=into)

    def bilstm_update(self, handle: Any, optimizer: Any) -> int:
        return self._call("update", _handle(handle), bytes(optimizer._obj))

    def bilstm_predict(self, handle: Any, data: Any, loss: int, precision: int, *places: int | None) -> int:
        states_in, states_out, leave_at, output, score = places
        assert leave_at is None
        _, outputs, one_row_each, state_width = self._shapes[handle.value]
        sequences, steps = data._obj.sequences, data._obj.steps
        rows = sequences if one_row_each else steps
        into = [
            _view(states_out, sequences * state_width, np.float32),
            _view(output, rows * outputs, np.float32),
            _view(score, 5, np.float64),
        ]
        counts = [-1 if array is None else array.size for array in into]
        counts[2] = min(counts[2], 1)
        states = _array(_view(states_in, sequences * state_width, np.float32))
        how, rooms = struct.pack("<ii", loss, precision), struct.pack("<3q", *counts)
        return self._call("predict", *self._data(handle, data._obj), how, states, rooms, into=into)

    def bilstm_destroy(self, handle: Any) -> None:
        self._unused.append(handle.value)  # may be called at any moment: told to the program before its next call

    def _data(self, handle: Any, data: DataStruct) -> list[bytes]:
        features, outputs, one_row_each, _ = self._shapes[handle.value]
        rows = data.sequences if one_row_each else data.steps
        word_offsets = _view(data.word_offsets, data.words + 1, np.int64)
        word_rows = 0 if word_offsets is None else int(word_offsets[-1])
        return [
            _handle(handle),
            _array(_view(data.values, data.steps * features, np.float32)),
            _array(_view(data.offsets, data.sequences + 1, np.int64)),
            struct.pack("<qq", data.steps, data.sequences),
            _array(_view(data.labels, rows, np.int32)),
            _array(_view(data.targets, rows * outputs, np.float32)),
            _array(_view(data.weights, rows, np.float32)),
            _array(_view(data.word_values, word_rows * data.word_features, np.float32)),
            _array(word_offsets),
            struct.pack("<qq", data.words, data.word_features),
        ]

    def _call(self, name: str, *arguments: bytes, into: Sequence[Any] = ()) -> int:
        while self._unused and name != "destroy":
            self._call("destroy", struct.pack("<Q", self._unused.pop()))
        assert self._program.stdin is not None
        self._program.stdin.write(b"".join([struct.pack("<I", self._CALLS.index(name)), *arguments]))
        self._program.stdin.flush()
        (code,) = struct.unpack("<i", self._read(4))
        if code:
            self._message = self._read(struct.unpack("<q", self._read(8))[0])
            return code
        for place in into:
            if isinstance(place, np.ndarray):
                place[:] = np.frombuffer(self._read(place.nbytes), place.dtype)
            elif place is not None:
                place._obj.value = struct.unpack("<q", self._read(8))[0]
        return 0

    def _read(self, count: int) -> bytes:
        assert self._program.stdout is not None
        found = self._program.stdout.read(count)
        assert len(found) == count, "the emulated engine ended"
        return found


def _handle(handle: Any) -> bytes:
    return struct.pack("<Q", handle.value)


def _view(address: int | bytes | None, count: int, dtype: Any) -> Any:
    """The numbers at an address, as an array that shares them; None for null. Or a small array's contents."""
    if address is None:
        return None
    if isinstance(address, bytes):
        return np.frombuffer(address, dtype)
    size = count * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(address), dtype) if size else np.empty(0, dtype)


def _plan(layers: Any, count: int) -> list[bytes]:
    """Layers, and then for each the arrays that it points to."""
    size = count * ctypes.sizeof(library.LayerStruct)
    parts = [struct.pack("<q", count), ctypes.string_at(ctypes.addressof(layers[0]), size) if count else b""]
    for layer in layers[:count]:
        tables, cells = layer.tables, (layer.units + 2) * layer.units
        for items, number, dtype in (
            (layer.vocabularies, tables, np.int64),
            (layer.dimensions, tables, np.int64),
            (layer.forbidden, cells, np.uint8),
            (layer.frozen, tables, np.uint8),
            (layer.index_dropout, tables, np.float32),
        ):
            parts.append(_array(np.array(items[:number], dtype) if items else None))
        if layer.encoder_layers:
            parts += _plan(layer.encoder, layer.encoder_layers)
    return parts


def _array(array: Any) -> bytes:
    return struct.pack("<q", -1) if array is None else struct.pack("<q", array.size) + array.tobytes()
