"""A model file gives back what was written, and no other file does harm."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save

from bilstm import modelfile
from bilstm.errors import UserError
from bilstm.layers import Dense
from bilstm.modelfile import FORMAT, MAXIMUM_HEADER, ModelFileError, check_model_path, read_model, write_model
from bilstm.models import Sequential

pytestmark = pytest.mark.fast

HEADER = {"kind": "model", "columns": {"label": "größe"}, "numbers": [0.1, -2, None, True]}
TENSORS = {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.zeros(0, np.float32)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    write_model(path, TENSORS, HEADER)
    return path


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)
ARRAYS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, min_side=0), elements=FINITE)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(tensors=st.dictionaries(TEXT.filter(lambda name: name != "__metadata__"), ARRAYS, max_size=4), described=JSON)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, tensors: Any, described: Any) -> None:
    path = tmp_path_factory.mktemp("models") / "model.safetensors"
    write_model(path, tensors, {"kind": "sequential", "described": described})
    read, header = read_model(path)
    assert header["described"] == described
    assert header["format"] == FORMAT
    assert set(header["versions"]) >= {"bilstm", "numpy"}
    assert set(read) == set(tensors)
    for name, tensor in tensors.items():
        assert read[name].dtype == np.float32
        np.testing.assert_array_equal(read[name], tensor)


def test_the_same_model_is_the_same_bytes(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    write_model(one, TENSORS, HEADER)
    write_model(other, dict(reversed(TENSORS.items())), HEADER)
    assert one.read_bytes() == other.read_bytes()


def test_every_truncation_is_refused(model: Path) -> None:
    content = model.read_bytes()
    for length in range(len(content)):
        model.write_bytes(content[:length])
        with pytest.raises(ModelFileError, match="damaged|empty|not a bilstm model"):
            read_model(model)


def test_no_changed_byte_does_harm(model: Path) -> None:
    content = bytearray(model.read_bytes())
    for place in range(len(content)):
        for change in (0x01, 0x20, 0x80):
            content[place] ^= change
            model.write_bytes(content)
            with contextlib.suppress(ModelFileError):
                tensors, header = read_model(model)
                assert all(np.isfinite(tensor).all() for tensor in tensors.values())
                assert header["kind"] in ("model", "sequential")
            content[place] ^= change


def outer(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def described(header: Any, **tensors: Any) -> bytes:
    text = header if isinstance(header, str) else json.dumps(header)
    return save(tensors, {"bilstm": text})


VALID = {"format": FORMAT, "kind": "model", "versions": {}}
FLOAT = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
EMPTY = {**FLOAT, "data_offsets": [0, 0]}
METADATA = {"bilstm": json.dumps(VALID)}
HOSTILE = {
    "empty": (b"", "is empty, so it is not a model file"),
    "text": (b"seq,x,label\n1,2,a\n", "is not a bilstm model (it is not a safetensors file)"),
    "pickle": (b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix", "it is not a safetensors file"),
    "header longer than the file": (struct.pack("<Q", 10**6) + b"{}", "it ends within its header"),
    "header of 2**63 bytes": (struct.pack("<Q", 2**63) + b"{}", "is not a bilstm model"),
    "header of no bytes": (struct.pack("<Q", 0), "is not a bilstm model"),
    "header too long": (outer(b"{" + b" " * MAXIMUM_HEADER + b"}"), "its header has"),
    "header not JSON": (outer(b"{]"), "is damaged or was not written completely"),
    "header nested without end": (outer(b'{"a":' + b"[" * 100_000), "is damaged or was not written completely"),
    "no metadata": (outer(json.dumps({"w": FLOAT}).encode(), b"\0" * 4), "but not a bilstm model"),
    "foreign metadata": (save({}, {"format": "pt"}), "is a safetensors file, but not a bilstm model"),
    "metadata not text": (outer(b'{"__metadata__":{"bilstm":{}}}'), "is damaged or was not written completely"),
    "description not JSON": (described("{"), "its description is not JSON"),
    "description nested without end": (described("[" * 100_000), "its description is not JSON"),
    "description with NaN": (described('{"x": NaN}'), "NaN is not a JSON number"),
    "description with infinity": (described('{"x": 1e999}'), "1e999 is too large"),
    "description with a million digits": (described('{"x": ' + "9" * 10**6 + "}"), "its description is not JSON"),
    "description with a number beyond all floats": (described('{"x": ' + "9" * 400 + "}"), "99999 is too large"),
    "description with half a character": (described({**VALID, "x": ["\udc80"]}), r"'\udc80' is no Unicode character"),
    "a name with half a character": (described({**VALID, "\ud83d": 1}), r"'\ud83d' is no Unicode character"),
    "description a list": (described([VALID]), "its description is not an object"),
    "no format": (described({"kind": "model"}), "has no valid format number"),
    "format true": (described({**VALID, "format": True}), "has no valid format number"),
    "format text": (described({**VALID, "format": "1"}), "has no valid format number"),
    "newer format": (described({**VALID, "format": FORMAT + 1}), f"(format {FORMAT + 1}; this version reads {FORMAT})"),
    "unknown kind": (described({**VALID, "kind": "exec"}), "its kind is none of model, sequential, tagger, checkpoint"),
    "kind a list": (described({**VALID, "kind": []}), "its kind is none of model, sequential, tagger, checkpoint"),
    "versions a list": (described({**VALID, "versions": []}), "its versions are not text"),
    "weights of float64": (described(VALID, w=np.zeros(2)), "its tensor 'w' has the type F64, not F32"),
    "weights of integers": (described(VALID, w=np.zeros(2, np.int8)), "its tensor 'w' has the type I8, not F32"),
    "weights NaN": (described(VALID, w=np.full(2, np.nan, np.float32)), "its tensor 'w' holds NaN or infinity"),
    "weights infinite": (described(VALID, w=np.full(2, np.inf, np.float32)), "its tensor 'w' holds NaN or infinity"),
    "weights outside of the file": (
        outer(json.dumps({"__metadata__": METADATA, "w": {**FLOAT, "data_offsets": [4, 8]}}).encode(), b"\0" * 4),
        "is damaged or was not written completely",
    ),
    "weights larger than the file": (
        outer(json.dumps({"__metadata__": METADATA, "w": {**FLOAT, "shape": [2**62]}}).encode(), b"\0" * 4),
        "is damaged or was not written completely",
    ),
    "weights of an absurd empty shape": (
        outer(json.dumps({"__metadata__": METADATA, "w": {**EMPTY, "shape": [0, 2**62, 2**62]}}).encode()),
        "damaged",
    ),
    "bytes after the weights": (
        outer(json.dumps({"__metadata__": METADATA, "w": FLOAT}).encode(), b"\0" * 8),
        "is damaged or was not written completely",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_without_much_memory(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model"
    path.write_bytes(content)
    np.zeros(1)
    tracemalloc.start()
    with pytest.raises(ModelFileError) as caught:
        read_model(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert peak < 5 * len(content) + 2**20


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="is a folder, not a model file"):
        read_model(tmp_path)
    with pytest.raises(ModelFileError, match="there is no model file"):
        read_model(tmp_path / "nothing")
    (tmp_path / "nothing.safetensors").write_bytes(b"x")
    with pytest.raises(ModelFileError, match=r"there is no model file .*nothing; there is .*nothing\.safetensors"):
        read_model(tmp_path / "nothing")
    if os.path.exists("/dev/zero"):
        with pytest.raises(ModelFileError, match="is not an ordinary file"):
            read_model("/dev/zero")


@pytest.mark.parametrize(
    ("tensors", "header", "message"),
    [
        ({"w": [np.nan]}, HEADER, "the tensor 'w' holds NaN or infinity"),
        ({"w": [1e300]}, HEADER, "the tensor 'w' holds NaN or infinity"),
        ({}, {"kind": "model", "x": float("nan")}, "not JSON compliant"),
        ({}, {"kind": "other"}, "its kind is none of"),
        ({}, {}, "its kind is none of"),
        ({}, {"kind": "model", "x": "y" * MAXIMUM_HEADER}, "description is larger than"),
        (
            {},
            {"kind": "model", "x": ["a", "b\ud83d"]},
            r"the model cannot be stored: '\\ud83d' is no Unicode character",
        ),
        ({}, {"kind": "model", "\udc00": 1}, r"the model cannot be stored: '\\udc00' is no Unicode character"),
        ({"\udc00": [1]}, HEADER, r"the model cannot be stored: '\\udc00' is no Unicode character"),
        ({}, {"kind": "model", "x": 10**400}, "the model cannot be stored: .* 10000000000000000000 is too large"),
        ({}, {"kind": "model", "format": 0}, "the model cannot be stored: .* no valid format number"),
    ],
)
def test_what_could_not_be_read_is_not_written(tmp_path: Path, tensors: Any, header: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_model(tmp_path / "model", tensors, header)
    assert os.listdir(tmp_path) == []


def test_whole_characters_may_be_written_as_escapes(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(described(json.dumps({**VALID, "x": "\U0001f600ß"}, ensure_ascii=True)))
    assert read_model(tmp_path / "m")[1]["x"] == "\U0001f600ß"


# --- What a model may replace ----------------------------------------------------------------------------------------

FOREIGN = {
    "text": b"id,x\n1,2\n",
    "text with a brace": b"12345678{",
    "a short file": b"x",
    "JSON": b'{"bilstm": 1}',
    "a foreign safetensors file": save({"w": np.zeros(3, np.float32)}, {"format": "pt"}),
    "a safetensors file without metadata": save({"w": np.zeros(3, np.float32)}),
    "metadata that is text": outer(b'{"__metadata__":"bilstm"}'),
    "metadata that is a list": outer(b'{"__metadata__":["bilstm"]}'),
    "a header that is a list": outer(b'["__metadata__"]'),
    "a header that is nested without end": outer(b'{"__metadata__":{"bilstm":' + b"[" * 100_000),
    "a tensor of our name": save({"bilstm": np.zeros(3, np.float32)}),
    "a header that is not complete": outer(b'{"__metadata__":{"bilstm":"{}"}}')[:-1],
}
OURS = {
    "an empty file": b"",
    "a model": described(VALID),
    "a model of a newer format": described({**VALID, "format": 9}),
    "a model whose weights were not written completely": described(VALID, w=np.zeros(3, np.float32))[:-1],
}


@pytest.mark.parametrize("content", OURS.values(), ids=OURS)
def test_a_model_is_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m").write_bytes(content)
    check_model_path(tmp_path / "m")
    write_model(tmp_path / "m", TENSORS, HEADER)
    assert read_model(tmp_path / "m")[1]["columns"] == HEADER["columns"]


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("force", [False, True])
def test_other_files_are_replaced_by_force_only(tmp_path: Path, content: bytes, force: bool) -> None:
    path = tmp_path / "m"
    path.write_bytes(content)
    for write in (check_model_path, lambda path, **force: write_model(path, TENSORS, HEADER, **force)):
        if force:
            write(path, force=True)
        else:
            with pytest.raises(UserError, match="m exists and is not a bilstm model: give another name, or re"):
                write(path)
            assert path.read_bytes() == content
    if force:
        assert read_model(path)[1]["columns"] == HEADER["columns"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_what_cannot_be_read_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(FOREIGN["text"])
    (tmp_path / "m").chmod(0o200)
    with pytest.raises(UserError, match="cannot read .*m: permission denied"):
        check_model_path(tmp_path / "m")


# --- Time and memory -------------------------------------------------------------------------------------------------


def test_too_little_memory_is_no_damage(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_much(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(modelfile, "_tensor", too_much)
    with pytest.raises(MemoryError):
        read_model(model)


def test_names_of_tensors_are_not_compared_one_by_one() -> None:
    """80,000 empty tensors in a file with 1,000 layers took seconds to refuse."""
    compared = 0

    class Name(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str(self) == other

    network = Sequential([Dense(1, input_shape=(None, 1)) for _ in range(100)])
    extra = {Name(f"extra.{number}"): np.zeros(0) for number in range(1000)}
    with pytest.raises(ValueError, match=r"weights extra\.0, extra\.1, extra\.10 are unknown"):
        network.set_tensors({**network.tensors(), **extra})
    assert compared < 10 * len(extra)
