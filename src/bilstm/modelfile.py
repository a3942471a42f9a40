"""The model file: one safetensors file, weights as tensors and everything else as JSON. Data, never code.

The JSON stands in the safetensors metadata under the one key `bilstm`. It holds at least `format` (the version of this
layout), `kind` ("sequential", "tagger", or "checkpoint" of an unfinished training) and `versions` (of the packages that
wrote it).

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
from bilstm.errors import ModelFileError, UserError
from bilstm.files import AnyPath, check_writable, reason, replacing

__all__ = ["FORMAT", "KINDS", "MAXIMUM_HEADER", "ModelFileError", "check_model_path", "read_model", "write_model"]

FORMAT = 1
KINDS = ("model", "sequential", "tagger", "checkpoint")
MAXIMUM_HEADER = 32 * 1024 * 1024  # bytes; a vocabulary of a million words takes about half

Tensors = dict[str, npt.NDArray[np.float32]]


def check_model_path(path: AnyPath, *, inputs: Iterable[AnyPath] = ()) -> None:
    """Find out now, before training, whether a model can be written to `path`, and that nothing else is lost by it.

    Raises:
        UserError: it cannot, or a file that is not a model stands there.
    """
    check_writable(path, inputs=inputs)
    if os.path.exists(path) and os.path.getsize(path):
        with open(path, "rb") as file:
            if file.read(9)[8:] != b"{":
                raise UserError(f"{path} exists and is not a model: give another name, or remove it first")


def write_model(path: AnyPath, tensors: Mapping[str, npt.ArrayLike], header: Mapping[str, Any]) -> None:
    """Write a model, wholly or not at all. The same model gives the same bytes.

    Args:
        path: the file to write.
        tensors: arrays of any shape by name, stored as float32.
        header: what JSON can hold, `kind` among it; `format` and `versions` are added.

    Raises:
        UserError: the file cannot be written.
        ValueError: the header or a tensor cannot be stored: not JSON, not finite, or too large.
    """
    import safetensors
    from safetensors.numpy import save

    versions = {"bilstm": __version__, "numpy": np.__version__, "safetensors": safetensors.__version__}
    complete = {"format": FORMAT, "versions": versions, **header}
    _check_header(path, complete)
    text = json.dumps(complete, allow_nan=False, ensure_ascii=False)
    if len(text.encode()) > MAXIMUM_HEADER // 2:  # quoting it inside the outer JSON can double it
        raise ValueError(f"the model's description is larger than {MAXIMUM_HEADER // 2:,} bytes")
    with np.errstate(over="ignore"):  # what is too large is refused below
        stored = {name: np.asarray(tensor, np.float32, order="C") for name, tensor in tensors.items()}
    for name, tensor in stored.items():
        if not np.isfinite(tensor).all():
            raise ValueError(f"the tensor {name!r} holds NaN or infinity")
    content = save(stored, {"bilstm": text})
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def read_model(path: AnyPath) -> tuple[Tensors, dict[str, Any]]:
    """Read what `write_model` wrote.

    Returns:
        The tensors by name (float32, finite), and the header.

    Raises:
        ModelFileError: the file is missing, truncated, damaged, foreign, hostile or of a newer format.
    """
    _check_outside(path)
    import safetensors

    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            header = _parse_header(path, file.metadata())
            names = file.keys()
            tensors = {name: _tensor(path, file, name) for name in names}
    except safetensors.SafetensorError as error:
        raise ModelFileError(f"{path} is damaged or was not written completely ({error})") from None
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {reason(error)}") from None
    return tensors, header


def _check_outside(path: AnyPath) -> None:
    """Say what the file is when it is not safetensors at all, which the library's own messages do not."""
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
    except (ValueError, OverflowError, MemoryError) as error:  # such as an empty tensor of a billion columns
        raise ModelFileError(f"{path} is damaged (tensor {name!r}: {error})") from None
    if not np.isfinite(tensor).all():
        raise ModelFileError(f"{path} is damaged (its tensor {name!r} holds NaN or infinity)")
    return tensor


def _parse_header(path: AnyPath, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    if not metadata or "bilstm" not in metadata:
        raise ModelFileError(f"{path} is a safetensors file, but not a bilstm model")
    try:
        header = json.loads(metadata["bilstm"], parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is damaged (its description is not JSON: {error})") from None
    _check_header(path, header)
    return dict(header)


def _check_header(path: AnyPath, header: Any) -> None:
    if not isinstance(header, dict):
        raise ModelFileError(f"{path} is damaged (its description is not an object)")
    version = header.get("format")
    if type(version) is not int or version < 1:
        raise ModelFileError(f"{path} is damaged (its description has no valid format number)")
    if version > FORMAT:
        raise ModelFileError(
            f"{path} was written by a newer bilstm (format {version}; this version reads {FORMAT}): "
            f"upgrade with `pip install --upgrade bilstm`"
        )
    if header.get("kind") not in KINDS:
        raise ModelFileError(f"{path} is damaged (its kind is none of {', '.join(KINDS)})")
    versions = header.get("versions")
    if not isinstance(versions, dict) or not all(isinstance(value, str) for value in versions.values()):
        raise ModelFileError(f"{path} is damaged (its versions are not text)")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large")
    return number
