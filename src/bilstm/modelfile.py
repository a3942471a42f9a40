"""The model file: one safetensors file, weights as tensors and everything else as JSON. Data, never code.

The JSON is in the safetensors metadata under the one key `bilstm`. It holds at least `format` (the version of this
layout), `kind` ("model", "sequential", "checkpoint" of an unfinished training, or "tagger", as version 0.1 called a
model) and `versions` (of the packages that wrote it).

Reading allocates no more than a small multiple of the file's size, whatever the file claims: the library checks every
offset against the file before it touches a tensor, and the header has a limit of its own.

Format of the outer file: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from bilstm._version import __version__
from bilstm.errors import ModelFileError, UserError, shown
from bilstm.files import NOT_FROM_STORES, AnyPath, check_writable, is_address, reason, replacing

__all__ = [
    "FORMAT",
    "KINDS",
    "MAXIMUM_HEADER",
    "ModelFileError",
    "check_model_path",
    "parse_json",
    "read_model",
    "write_model",
]

FORMAT = 2  # 1 was version 0.1, which knew labels of time steps only
KINDS = ("model", "sequential", "tagger", "checkpoint")
MAXIMUM_HEADER = 32 * 1024 * 1024  # bytes; a vocabulary of a million words takes about half

Tensors = dict[str, npt.NDArray[np.float32]]


def check_model_path(path: AnyPath, *, inputs: Iterable[AnyPath] = (), force: bool = False) -> None:
    """Find out now, before training, whether a model can be written to `path` and replaces nothing but a model.

    Args:
        path: the file that will be written.
        inputs: files that are being read, and must not be overwritten.
        force: replace an existing file of any content.

    Raises:
        UserError: the file cannot be written, or exists, is not empty and is not a bilstm model.
    """
    check_writable(path, inputs=inputs)
    if not force and not _may_be_replaced(path):
        raise UserError(f"{path} exists and is not a bilstm model: give another name, or replace it with --force")


def write_model(
    path: AnyPath, tensors: Mapping[str, npt.ArrayLike], header: Mapping[str, Any], *, force: bool = False
) -> None:
    """Write a model, atomically. The same model gives the same bytes.

    Args:
        path: the file to write.
        tensors: arrays of any shape by name, stored as float32.
        header: JSON-serialisable data with a `kind`; `format` and `versions` are added.
        force: replace an existing file of any content; without it, only one that `write_model` wrote, or an empty one.

    Raises:
        UserError: the file cannot be written, or something else would be lost by it.
        ValueError: the header or a tensor cannot be stored: not JSON, not finite, not Unicode, or too large.
    """
    import safetensors
    from safetensors.numpy import save

    versions = {"bilstm": __version__, "numpy": np.__version__, "safetensors": safetensors.__version__}
    text = json.dumps({"format": FORMAT, "versions": versions, **header}, allow_nan=False, ensure_ascii=False)
    try:
        _check_unicode([text, *tensors])
        _parse(text)
    except ValueError as error:
        raise ValueError(f"the model cannot be stored: {error}") from None
    if len(text.encode()) > MAXIMUM_HEADER // 2:  # quoting it inside the outer JSON can double it
        raise ValueError(f"the model's description is larger than {MAXIMUM_HEADER // 2:,} bytes")
    with np.errstate(over="ignore"):  # what is too large is refused below
        stored = {name: np.asarray(tensor, np.float32, order="C") for name, tensor in tensors.items()}
    for name, tensor in stored.items():
        if not np.isfinite(tensor).all():
            raise ValueError(f"the tensor {name!r} holds NaN or infinity")
    content = save(stored, {"bilstm": text})
    if not force and not _may_be_replaced(path):
        raise UserError(f"{path} exists and is not a bilstm model: give another name, or remove it first")
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def read_model(path: AnyPath) -> tuple[Tensors, dict[str, Any]]:
    """Read what `write_model` wrote.

    Returns:
        The tensors by name (float32, finite), and the header.

    Raises:
        ModelFileError: the file is missing, truncated, damaged, foreign, hostile or of a newer format.
        MemoryError: there is too little memory for it.
    """
    _check_outside(path)
    import safetensors

    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            header = _header(path, file.metadata())
            tensors = {name: _tensor(path, file, name) for name in file.keys()}  # noqa: SIM118 - it has no iterator
    except safetensors.SafetensorError as error:
        raise ModelFileError(f"{path} is damaged or was not written completely ({error})") from None
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {reason(error)}") from None
    return tensors, header


def _check_outside(path: AnyPath) -> None:
    """Say what the file is when it is not safetensors at all, which the library's own messages do not."""
    if is_address(path):
        raise ModelFileError(f"cannot read {path}: {NOT_FROM_STORES}")
    try:
        if os.path.isdir(path):
            raise ModelFileError(f"{path} is a folder, not a model file")
        if not os.path.exists(path):
            raise ModelFileError(f"there is no model file {path}{_similar(Path(path))}")
        if not os.path.isfile(path):
            raise ModelFileError(f"{path} is not an ordinary file")
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            start = file.read(9)
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(f"cannot read {path}: {reason(error) if isinstance(error, OSError) else error}") from None
    if not size:
        raise ModelFileError(f"{path} is empty, so it is not a model file")
    length = struct.unpack("<Q", start[:8])[0] if len(start) == 9 else 0
    if start[8:] != b"{" or length > 2**40:
        raise ModelFileError(f"{path} is not a bilstm model (it is not a safetensors file)")
    if length > size - 8:
        raise ModelFileError(f"{path} is damaged or was not written completely (it ends within its header)")
    if length > MAXIMUM_HEADER:
        raise ModelFileError(f"{path} is not a bilstm model (its header has {length:,} bytes)")


def _similar(path: Path) -> str:
    other = path.with_name(path.name + ".safetensors")
    return f"; there is {other}" if other.is_file() else ""


def _tensor(path: AnyPath, file: Any, name: str) -> npt.NDArray[np.float32]:
    kind = file.get_slice(name).get_dtype()
    if kind != "F32":
        raise ModelFileError(f"{path} is not a bilstm model (its tensor {name!r} has the type {kind}, not F32)")
    try:
        tensor: npt.NDArray[np.float32] = file.get_tensor(name)
    except (ValueError, OverflowError) as error:  # such as an empty tensor of a billion columns
        raise ModelFileError(f"{path} is damaged (tensor {name!r}: {error})") from None
    if not np.isfinite(tensor).all():
        raise ModelFileError(f"{path} is damaged (its tensor {name!r} holds NaN or infinity)")
    return tensor


def _may_be_replaced(path: AnyPath) -> bool:
    """Whether nothing is lost with the file: it does not exist, is empty, or has a header of ours."""
    try:
        with open(path, "rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            outer = json.loads(file.read(length)) if length <= MAXIMUM_HEADER else None
            metadata = outer.get("__metadata__") if isinstance(outer, dict) else None
            return isinstance(metadata, dict) and "bilstm" in metadata
    except FileNotFoundError:
        return True
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from None
    except (ValueError, RecursionError):
        return not start


def _header(path: AnyPath, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    if not metadata or "bilstm" not in metadata:
        raise ModelFileError(f"{path} is a safetensors file, but not a bilstm model")
    try:
        header = _parse(metadata["bilstm"])
    except ValueError as error:
        raise ModelFileError(f"{path} is damaged ({error})") from None
    if (version := header["format"]) > FORMAT:
        raise ModelFileError(
            f"{path} was written by a newer bilstm (format {shown(version)[1:-1]}; this version reads {FORMAT}): "
            f"upgrade with `pip install --upgrade bilstm`"
        )
    return header


def _parse(text: str) -> dict[str, Any]:
    """The description of a model from its JSON, in a format of this version or a newer one.

    Raises:
        ValueError: it is none; the message says why.
    """
    try:
        header = parse_json(text)
    except ValueError as error:
        raise ValueError(f"its description is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise ValueError("its description is not an object")
    version = header.get("format")
    if type(version) is not int or version < 1:
        raise ValueError("its description has no valid format number")
    if version > FORMAT:
        return header
    if header.get("kind") not in KINDS:
        raise ValueError(f"its kind is none of {', '.join(KINDS)}")
    versions = header.get("versions")
    if not isinstance(versions, dict) or not all(isinstance(value, str) for value in versions.values()):
        raise ValueError("its versions are not text")
    return header


def parse_json(text: str) -> Any:
    """The data in untrusted JSON: finite numbers and whole characters only, however deep it is nested.

    Raises:
        ValueError: it is not that; the message says why.
    """
    try:
        data = json.loads(text, parse_constant=_refuse, parse_float=_finite, parse_int=_whole)
        if "\\u" in text:
            _check_unicode([json.dumps(data, ensure_ascii=False)])
    except RecursionError as error:
        raise ValueError(str(error)) from None
    return data


def _check_unicode(texts: Iterable[str]) -> None:
    """JSON can hold halves of characters (unpaired surrogates), which can be neither stored nor printed."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{shown(text[error.start])} is no Unicode character") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large")
    return number


def _whole(text: str) -> int:
    _finite(text)  # an int beyond all floats would raise OverflowError wherever it meets one
    return int(text)
