"""What OpenAPI says of each address, with examples that the served models can take."""

from __future__ import annotations

from typing import Any

from bilstm.model import TrainedModel
from bilstm.model.lines import example_for
from bilstm.serving.protocol import OFFSETS, VALUES, metadata
from bilstm.serving.reading import example_body
from bilstm.serving.store import Store

ABOUT = (
    "Labels and quantities for sequences of any lengths. A sequence's answer is the same to the last bit whatever else "
    'is in its request or comes at the same time. Errors are {"error": "what is wrong, and what would be right"}.'
)
_ERRORS = {
    400: "The body is not JSON",
    401: "The service needs its key",
    404: "There is no such model or version",
    408: "The body did not come in time",
    413: "The body is too large, or has too many time steps",
    415: "The body is compressed",
    422: "The request is not what the model expects; the message says where",
    503: "There is no room or time now; Retry-After says when to try again",
}
_ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_JSON = "application/json"
_CELL = {"type": ["number", "string", "boolean", "null"]}
_COLUMNS = {"type": "object", "additionalProperties": {"oneOf": [{"type": "array", "items": _CELL}, _CELL]}}
_ROWS = {"type": "array", "items": {"type": "object"}, "minItems": 1}
_SEQUENCE = {
    "description": "A text, columns, rows, or a list with a value or a list of values for each step.",
    "anyOf": [{"type": "string"}, _COLUMNS, {"type": "array", "minItems": 1}],
}
_QUESTION = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "text": {"type": "string", "description": "One sequence: a text."},
        "columns": {**_COLUMNS, "description": "One sequence: a list for each column, with a cell for each time step."},
        "rows": {**_ROWS, "description": "One sequence, or several that the model's sequence column tells apart."},
        "sequences": {"type": "array", "items": _SEQUENCE, "minItems": 1, "description": "Several sequences."},
        "probabilities": {"type": "boolean", "description": "Whether to give the probability of each label."},
        "top": {"type": "integer", "minimum": 1, "description": "How many of the likeliest labels to give."},
        "events": {"type": "boolean", "description": "Whether to give runs of equal labels besides."},
        "background": {"type": "string", "description": "With events: the label that is none."},
        "paths": {
            "type": "integer",
            "minimum": 1,
            "description": "How many of the likeliest labels of a sequence as a whole.",
        },
        "baseline": {"type": "boolean", "description": "Whether to give what the model without recurrence predicts."},
    },
}
_ANSWER = {
    "type": "object",
    "required": ["model", "version", "sequences"],
    "properties": {
        "model": {"type": "string"},
        "version": {"type": "string"},
        "sequences": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["steps"],
                "properties": {
                    "steps": {"type": "integer"},
                    "sequence": {"description": "The identifier that the rows have."},
                    "tokens": {"type": "array", "items": {"type": "string"}},
                    "starts": {"type": "array", "items": {"type": "integer"}},
                    "spans": {"type": "array", "items": {"type": "object"}},
                    "events": {"type": "array", "items": {"type": "object"}},
                },
            },
        },
    },
}
_TENSOR = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string"},
        "datatype": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "data": {"type": "array"},
        "parameters": {"type": "object"},
    },
}
_INFERENCE = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": {"type": "object"},
        "inputs": {"type": "array", "items": _TENSOR},
        "outputs": {"type": "array", "items": {"type": "object", "required": ["name"]}},
    },
}
_OBJECT = {"type": "object"}


def _route(tag: str, summary: str, content: dict[str, Any], *errors: int, **more: Any) -> dict[str, Any]:
    responses: dict[int, dict[str, Any]] = {200: {"description": "The answer", "content": content}}
    for status in (401, *errors):
        responses[status] = {"description": _ERRORS[status], "content": {_JSON: {"schema": _ERROR}}}
    if 503 in errors:
        responses[503]["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds"}}
    return {"tags": [tag], "summary": summary, "responses": responses, **more}


def _body(media_type: str, schema: Any, examples: dict[str, Any]) -> dict[str, Any]:
    named = {name: {"value": value} for name, value in examples.items()}
    return {"requestBody": {"required": True, "content": {media_type: {"schema": schema, "examples": named}}}}


def _json(schema: Any = _OBJECT) -> dict[str, Any]:
    return {_JSON: {"schema": schema}}


def _models(store: Store) -> dict[str, TrainedModel]:
    return {name: store.get(name).model for name in store.names()}


SERVER = _route("Open Inference Protocol", "The service and its version", _json())
LIVE = _route("Open Inference Protocol", "Whether the service runs", _json())
READY = _route("Open Inference Protocol", "Whether all models are loaded", _json())
METRICS = _route("Operation", "Counters for Prometheus", {"text/plain": {"schema": {"type": "string"}}})


def models(store: Store) -> dict[str, Any]:
    return _route("Labels", "The models", _json())


def model(store: Store) -> dict[str, Any]:
    return _route(
        "Labels",
        "What a model reads and predicts",
        _json(),
        *(404, 422),
        description="With the examples that its file keeps: sequences of the validation set and their true labels.",
    )


def label(store: Store) -> dict[str, Any]:
    examples = {name: example_body(each) for name, each in _models(store).items()}
    return _route(
        "Labels",
        "Labels or quantities for sequences",
        _json(_ANSWER),
        *(400, 404, 408, 413, 415, 422, 503),
        description="Without the name of a model, by the first one. The answer has the columns that `bilstm predict` "
        "writes; with tags such as B-X, also the spans; of a text, its words or characters and where they begin.",
        openapi_extra=_body(_JSON, _QUESTION, examples),
    )


def stream(store: Store) -> dict[str, Any]:
    """Of lines, OpenAPI knows no schema."""
    examples = {name: example_for(each) for name, each in _models(store).items()}
    options = [
        ("probabilities", {"type": "boolean"}, "Add a value for each label with its probability."),
        ("top", {"type": "integer", "minimum": 1}, "Give the most probable labels, as many as this."),
        ("events", {"type": "boolean"}, "Write a line per run of equal labels instead of one per time step."),
        ("background", {"type": "string"}, "With events: the label that is not one."),
        (
            "look_ahead",
            {"type": "string"},
            "How many further steps an answer waits for, or all.",
        ),
        ("block", {"type": "integer", "minimum": 1}, "With look_ahead: how many steps become final together."),
        ("on_error", {"type": "string", "enum": ["stop", "skip"]}, "What an invalid line does."),
    ]
    parameters = [{"name": n, "in": "query", "schema": schema, "description": text} for n, schema, text in options]
    lines = "application/x-ndjson"
    return _route(
        "Labels",
        "Lines of JSON, answered as soon as a sequence is complete",
        {lines: {"schema": {"type": "string"}}},
        *(404, 422, 503),
        description="What `bilstm predict MODEL -` reads and writes. A line that is wrong is answered by an error. A "
        "WebSocket at the same address takes the same options: a message is one or several lines, each answer is a "
        "message, and an empty message ends the stream.",
        openapi_extra={**_body(lines, {"type": "string"}, examples), "parameters": parameters},
    )


def model_ready(store: Store) -> dict[str, Any]:
    return _route("Open Inference Protocol", "Whether a model is served", _json(), 404, 422)


def metadata_of(store: Store) -> dict[str, Any]:
    return _route("Open Inference Protocol", "The tensors of a model", _json(), 404, 422)


def infer(store: Store) -> dict[str, Any]:
    examples = {name: _inference(each) for name, each in _models(store).items()}
    return _route(
        "Open Inference Protocol",
        "Tensors for tensors",
        {**_json(), "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        *(400, 404, 408, 413, 415, 422, 503),
        openapi_extra=_body(_JSON, _INFERENCE, examples),
    )


def _inference(model: TrainedModel) -> dict[str, Any]:
    """Two sequences, of two steps and of one."""
    tensors = []
    for described in metadata("", "", model)["inputs"]:
        name, datatype = described["name"], described["datatype"]
        width = described["shape"][1:]
        steps = 2 if model.schema.text is not None else 3
        cells: list[Any] = [0.5, 1.5, 2.5] if datatype == "FP64" else ["a", "b", "c"]
        data = [0, 2, 3] if name == OFFSETS else [cell for cell in cells[:steps] for _ in range(*width or [1])]
        shape = [len(data) // (width or [1])[0], *width] if name == VALUES else [len(data)]
        tensors.append({"name": name, "datatype": datatype, "shape": shape, "data": data})
    return {"inputs": tensors}
