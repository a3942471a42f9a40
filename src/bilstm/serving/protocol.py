"""The Open Inference Protocol, version 2, over REST: tensors in, tensors out.

https://github.com/open-inference/open-inference-protocol, with its extension for binary tensors that Triton's clients
use (https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md).

Sequences are a tensor "values" (all steps, features) with "offsets" (sequences + 1), which says where each begins and
ends, or (sequences, steps, features) where all have the same length. Instead of "values", there may be a tensor for
each feature, by its name. A model of texts takes one tensor of texts.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from bilstm.data.dataset import Dataset
from bilstm.data.memory import Cells, MemoryTable
from bilstm.data.sources import divide_texts
from bilstm.errors import UserError, counted, listed, shown, suggestion
from bilstm.model import TrainedModel
from bilstm.model.datasets import read_dataset
from bilstm.ragged import IndexArray, offsets_of
from bilstm.serving.reading import SOURCE, parse_json
from bilstm.serving.refusals import Refusal, too_large
from bilstm.tasks import LabelTask, Outputs

HEADER_LENGTH = "inference-header-content-length"
VALUES, OFFSETS = "values", "offsets"
_TYPES: dict[str, type[np.generic]] = {
    "BOOL": np.bool_,
    **{f"INT{bits}": np.dtype(f"i{bits // 8}").type for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"u{bits // 8}").type for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"f{bits // 8}").type for bits in (16, 32, 64)},
    "BYTES": np.object_,
}
_NAMES = {np.dtype(kind): name for name, kind in _TYPES.items()}
Tensor = npt.NDArray[Any]  # texts are objects


@dataclasses.dataclass(frozen=True)
class Inference:
    """A request.

    Attributes:
        data: the encoded sequences.
        equal: (sequences, steps) where they came as a tensor with these dimensions, None where they are ragged.
        outputs: the names of the outputs that are asked for, and whether each is to be binary.
        id: what the request calls itself, or None.
    """

    data: Dataset
    equal: tuple[int, int] | None
    outputs: Mapping[str, bool]
    id: str | None


def metadata(name: str, version: str, model: TrainedModel) -> dict[str, Any]:
    """What the protocol tells of a model: the names, data types and shapes of its tensors."""
    schema = model.schema
    if schema.text is not None:
        inputs = [_described(schema.text.column, "BYTES", [-1])]
    else:
        offsets = _described(OFFSETS, "INT64", [-1])
        if schema.numeric and schema.categorical:
            numeric = {column.name for column in schema.numeric}
            inputs = [_described(n, "FP64" if n in numeric else "BYTES", [-1]) for n in schema.features] + [offsets]
        else:
            kind = "FP64" if schema.numeric else "BYTES"
            inputs = [_described(VALUES, kind, [-1, len(schema.features)]), offsets]
    outputs = [
        _described(output, kind, [-1, *([width] if width else [])]) for output, kind, width in _outputs_of(model)
    ]
    return {"name": name, "versions": [version], "platform": "bilstm", "inputs": inputs, "outputs": outputs}


def _described(name: str, datatype: str, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape}


def _outputs_of(model: TrainedModel) -> list[tuple[str, str, int]]:
    """The name, data type and last dimension (0: none) of each output."""
    task = model.task
    if task.what == "quantity":
        outputs = [("quantities", "FP64", task.outputs)]
    elif isinstance(task, LabelTask):
        outputs = [("label", "BYTES", 0), ("probabilities", "FP32", task.outputs)]
    else:
        outputs = [("labels", "INT64", task.outputs), ("probabilities", "FP32", task.outputs)]
    return outputs if task.per_sequence else [*outputs, (OFFSETS, "INT64", 0)]


# --- Requests --------------------------------------------------------------------------------------------------------


def read_inference(model: TrainedModel, body: bytes, header_length: str | None, most_steps: int) -> Inference:
    """Read a request.

    Args:
        header_length: the bytes of JSON at the body's beginning, as the header `HEADER_LENGTH` says, None: all.
        most_steps: how many time steps there may be.

    Raises:
        UserError: it is not what the protocol or the model expects; the message says what.
        Refusal: it is not JSON, or has too many steps.
    """
    binary = b""
    if header_length is not None:
        if not header_length.isdecimal() or int(header_length) > len(body):
            raise Refusal(400, f"the header {HEADER_LENGTH} is not a number of bytes of the body")
        body, binary = body[: int(header_length)], body[int(header_length) :]
    asked = parse_json(body)
    if not isinstance(asked, dict) or not isinstance(asked.get("inputs"), list):
        raise UserError("the body is not an object with a list 'inputs' of tensors")
    identifier = asked.get("id")
    if identifier is not None and not isinstance(identifier, str):
        raise UserError("'id' must be a text")
    tensors = _tensors(asked["inputs"], binary)
    outputs = _requested(model, asked)
    table, equal = _table(model, tensors, most_steps)
    data = read_dataset(model.schema, model.task, table.read_as(model.schema.reading), with_truth=False)
    return Inference(data, equal, outputs, identifier)


def _tensors(inputs: list[Any], binary: bytes) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for number, each in enumerate(inputs):
        if not isinstance(each, dict) or not isinstance(each.get("name"), str):
            raise UserError(f"inputs[{number}] is not an object with a 'name'")
        name, datatype, shape = each["name"], each.get("datatype"), each.get("shape")
        if name in tensors:
            raise UserError(f"the input {name!r} is there twice")
        if not isinstance(datatype, str) or datatype not in _TYPES:
            raise UserError(f"the input {name!r}: 'datatype' must be one of {', '.join(_TYPES)}, not {shown(datatype)}")
        if not isinstance(shape, list) or not _is_shape(shape):
            raise UserError(f"the input {name!r}: 'shape' must be a list of whole numbers, not {shown(shape)}")
        parameters = each.get("parameters") or {}
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if size is None:
            tensor = _from_json(name, datatype, each.get("data"))
        elif type(size) is int and 0 <= size <= len(binary):
            tensor, binary = _from_bytes(name, datatype, binary[:size]), binary[size:]
        else:
            raise UserError(f"the input {name!r}: the body does not have as many bytes as 'binary_data_size' says")
        if tensor.size != math.prod(shape):
            raise UserError(f"the input {name!r} has {counted(tensor.size, 'value')}, not as many as its shape {shape}")
        tensors[name] = tensor.reshape(shape)
    if binary:
        raise UserError(f"the body has {counted(len(binary), 'byte')} that are of no input")
    return tensors


def _is_shape(shape: list[Any]) -> bool:
    return all(type(size) is int and 0 <= size < 2**40 for size in shape) and len(shape) < 4


def _from_json(name: str, datatype: str, data: Any) -> Tensor:
    """A tensor of nested lists or one flat list, in the order of rows."""
    if not isinstance(data, list):
        raise UserError(f"the input {name!r} has no list 'data'")
    values = data
    while values and isinstance(values[0], list):
        if not all(isinstance(value, list) for value in values):
            raise UserError(f"the input {name!r}: 'data' is nested unevenly")
        values = [value for row in values for value in row]
    kinds = set(map(type, values))
    if datatype == "BYTES":
        if not kinds <= {str, type(None)}:
            raise UserError(f"the input {name!r} is of texts, but 'data' holds others")
        return np.array([*values, None], object)[:-1]
    allowed = {"BOOL": {bool, int}, "FP": {int, float, type(None)}}.get(datatype.rstrip("0123456789"), {int})
    if not kinds <= allowed:
        raise UserError(f"the input {name!r}: 'data' holds other values than those of {datatype}")
    try:
        with np.errstate(over="ignore"):
            return np.array([math.nan if value is None else value for value in values], _TYPES[datatype])
    except OverflowError:
        raise UserError(f"the input {name!r}: 'data' holds numbers too large for {datatype}") from None


def _from_bytes(name: str, datatype: str, content: bytes) -> Tensor:
    """A binary tensor: little-endian numbers, or texts, each after its length in four bytes."""
    if datatype != "BYTES":
        kind = np.dtype(_TYPES[datatype]).newbyteorder("<")
        if len(content) % kind.itemsize:
            raise UserError(f"the input {name!r}: its bytes are no whole number of values of {datatype}")
        return np.frombuffer(content, kind).astype(_TYPES[datatype])
    texts, place = list[Any](), 0
    while place < len(content):
        if place + 4 > len(content) or place + 4 + (length := struct.unpack_from("<I", content, place)[0]) > len(
            content
        ):
            raise UserError(f"the input {name!r}: its bytes end within a text")
        try:
            texts.append(content[place + 4 : place + 4 + length].decode())
        except UnicodeDecodeError:
            raise UserError(f"the input {name!r}: text {len(texts)} is not UTF-8") from None
        place += 4 + length
    return np.array([*texts, None], object)[:-1]


def _requested(model: TrainedModel, asked: Mapping[str, Any]) -> dict[str, bool]:
    """The outputs that are asked for, all if none is named, and whether each is binary."""
    known = [name for name, _, _ in _outputs_of(model)]
    parameters = asked.get("parameters") or {}
    binary = isinstance(parameters, dict) and parameters.get("binary_data_output") is True
    listed_outputs = asked.get("outputs")
    if listed_outputs is None or listed_outputs == []:
        return dict.fromkeys(known, binary)
    if not isinstance(listed_outputs, list):
        raise UserError("'outputs' must be a list of objects with a 'name'")
    requested: dict[str, bool] = {}
    for each in listed_outputs:
        name = each.get("name") if isinstance(each, dict) else None
        if name not in known:
            raise UserError(
                f"there is no output {shown(name)}.{suggestion(str(name), known)} The outputs: {', '.join(known)}"
            )
        own = each.get("parameters") or {}
        requested[str(name)] = own.get("binary_data", binary) is True if isinstance(own, dict) else binary
    return requested


# --- Tensors -> a table ----------------------------------------------------------------------------------------------


def _table(
    model: TrainedModel, tensors: dict[str, Tensor], most_steps: int
) -> tuple[MemoryTable, tuple[int, int] | None]:
    schema = model.schema
    if schema.text is not None:
        ((name, texts),) = tensors.items() if len(tensors) == 1 else [("", np.empty(0))]
        if name not in ("text", schema.text.column) or texts.dtype != object or not texts.size:
            raise UserError(f"the model takes one tensor of texts, {schema.text.column!r}, of the data type BYTES")
        column = {schema.text.column: Cells("text", texts.ravel())}
        table = divide_texts(MemoryTable(column, form="list", label=SOURCE), schema.text)
        _check_steps(table.rows, most_steps)
        return table, None
    bounds = tensors.pop(OFFSETS, None)
    columns, dimensions = _columns(model, tensors)
    steps = len(next(iter(columns.values())))
    _check_steps(steps, most_steps)
    if bounds is not None:
        if len(dimensions) != 1:
            raise UserError("'offsets' go with a tensor of all steps; for sequences of equal lengths, leave them out")
        offsets, equal = _offsets(bounds, steps), None
    elif len(dimensions) == 1:
        offsets, equal = np.array([0, steps]), None
    else:
        offsets, equal = offsets_of(np.full(dimensions[0], dimensions[1])), (dimensions[0], dimensions[1])
    if steps == 0 or (np.diff(offsets) == 0).any():
        raise UserError("there is a sequence without steps")
    return MemoryTable(_cells(model, columns), offsets, form="list", label=SOURCE), equal


def _check_steps(steps: int, most: int) -> None:
    if steps > most:
        raise too_large(f"the request has more than {counted(most, 'time step')}: send fewer at a time")


def _columns(model: TrainedModel, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[int, ...]]:
    """The (steps,) values of each feature, and the dimensions of steps: one, or sequences and steps."""
    features = model.schema.features
    if set(tensors) == {VALUES} and features != [VALUES]:
        values = tensors[VALUES]
        if values.ndim == 1 and len(features) == 1:
            values = values[:, np.newaxis]
        if values.ndim not in (2, 3) or values.shape[-1] != len(features):
            raise UserError(
                f"'values' has the shape {[*values.shape]}, but must be (all steps, {len(features)}) with 'offsets' or "
                f"(sequences, steps, {len(features)}): the features are {listed(features)}"
            )
        rows = values.reshape(-1, len(features))
        return dict(zip(features, rows.T, strict=True)), values.shape[:-1]
    for name in (*features, *tensors):
        if name not in tensors or name not in features:
            problem = "is missing" if name in features else "is no feature of the model"
            raise UserError(f"the input {name!r} {problem}: give 'values', or a tensor for each of {listed(features)}")
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    first = shapes[features[0]]
    if len(set(shapes.values())) > 1 or len(first) not in (1, 2):
        raise UserError(
            f"the tensors of features must all have the shape (all steps), with 'offsets', or (sequences, steps), not "
            f"{', '.join(f'{name}: {[*shape]}' for name, shape in shapes.items())}"
        )
    return {name: tensors[name].ravel() for name in features}, first


def _offsets(bounds: Tensor, steps: int) -> IndexArray:
    if bounds.ndim != 1 or bounds.dtype.kind not in "iu" or len(bounds) < 2:
        raise UserError("'offsets' must be whole numbers, where each sequence begins and where the last one ends")
    offsets = bounds.astype(np.int64)
    if offsets[0] != 0 or offsets[-1] != steps or (np.diff(offsets) < 0).any():
        raise UserError(f"'offsets' must rise from 0 to the number of steps, {steps:,}")
    return offsets


def _cells(model: TrainedModel, columns: Mapping[str, Tensor]) -> dict[str, Cells]:
    numeric = {column.name for column in model.schema.numeric}
    cells: dict[str, Cells] = {}
    for name, values in columns.items():
        if values.dtype == object:
            if name in numeric:
                raise UserError(f"the feature {name!r} is a number, but its tensor has the data type BYTES")
            cells[name] = Cells("text", np.array([text or None for text in values.tolist()] + [None], object)[:-1])
        else:
            integers = values.astype(np.int64) if values.dtype.kind in "iu" else None
            cells[name] = Cells("number", values.astype(np.float64), integers=integers)
    return cells


# --- Answers ---------------------------------------------------------------------------------------------------------


def write_inference(
    name: str, version: str, model: TrainedModel, inference: Inference, outputs: Outputs
) -> tuple[bytes, int | None]:
    """The body of an answer, and how many bytes of JSON it begins with, where binary tensors follow; otherwise None."""
    described: list[dict[str, Any]] = []
    binary: list[bytes] = []
    for output, tensor in _results(model, inference, outputs).items():
        each: dict[str, Any] = {"name": output, "datatype": _NAMES[tensor.dtype], "shape": [*tensor.shape]}
        if inference.outputs[output]:
            binary.append(_to_bytes(tensor))
            each["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            each["data"] = tensor.ravel().tolist()
        described.append(each)
    answer = {"model_name": name, "model_version": version, "outputs": described}
    head = orjson.dumps(answer if inference.id is None else answer | {"id": inference.id})
    return head + b"".join(binary), len(head) if binary else None


def _results(model: TrainedModel, inference: Inference, outputs: Outputs) -> dict[str, Tensor]:
    task, data = model.task, inference.data
    results: dict[str, Tensor] = {}
    if task.what == "quantity":
        results["quantities"] = task.predicted(outputs)
    elif isinstance(task, LabelTask):
        results["label"] = np.array(task.classes, object)[outputs.labels]
        results["probabilities"] = outputs.values
    else:
        results["labels"] = task.predicted(outputs)
        results["probabilities"] = outputs.values
    if not task.per_sequence:
        if inference.equal:
            results = {name: each.reshape(*inference.equal, *each.shape[1:]) for name, each in results.items()}
        results[OFFSETS] = data.values.offsets
    return {name: results[name] for name in inference.outputs}


def _to_bytes(tensor: Tensor) -> bytes:
    if tensor.dtype != object:
        return tensor.astype(tensor.dtype.newbyteorder("<"), copy=False).tobytes()
    return b"".join(_text_bytes(str(text)) for text in tensor.ravel().tolist())


def _text_bytes(text: str) -> bytes:
    content = text.encode()
    return struct.pack("<I", len(content)) + content
