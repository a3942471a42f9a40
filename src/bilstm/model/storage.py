"""Trained models in files."""

from __future__ import annotations

import dataclasses
from typing import Any

from bilstm.data.schema import Schema
from bilstm.errors import ModelFileError
from bilstm.files import AnyPath
from bilstm.layers import CRF, ColumnEmbedding, Dense, TimeDistributed, WordEncoder
from bilstm.model.examples import are_examples
from bilstm.modelfile import Tensors, read_model, write_model
from bilstm.models import Sequential, model_from_parts
from bilstm.tasks import LabelTask, Task, task_from_json

_COUNTS = ("epochs", "best_epoch", "sequences", "steps", "validation_sequences")  # in the record of a training
_BASELINE = "baseline."  # begins the names of the baseline's tensors


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a model file holds: see `TrainedModel`; of the baseline its network and the record of its training."""

    schema: Schema
    task: Task
    network: Sequential
    training: dict[str, Any]
    baseline: tuple[Sequential, dict[str, Any]] | None


def write_parts(path: AnyPath, parts: Parts, *, force: bool = False) -> None:
    """Write a model file, atomically.

    Raises:
        UserError: the file cannot be written.
    """
    header = {
        "kind": "model",
        "schema": parts.schema.to_json(),
        "task": parts.task.to_json(),
        "network": parts.network.get_config(),
        "training": parts.training,
    }
    tensors = parts.network.tensors()
    if parts.baseline:
        network, training = parts.baseline
        header["baseline"] = {"network": network.get_config(), "training": training}
        tensors |= {_BASELINE + name: tensor for name, tensor in network.tensors().items()}
    write_model(path, tensors, header, force=force)


def read_parts(path: AnyPath) -> Parts:
    """Read a model file.

    Raises:
        ModelFileError: the file is not a trained model; the message says why.
    """
    tensors, header = read_model(path)
    name = str(path)
    if header.get("kind") == "checkpoint":
        raise ModelFileError(f"{name} holds an unfinished training, not a model: finish it with --resume first")
    if header.get("kind") == "tagger":
        header = _of_version_0_1(header)
    if header.get("kind") != "model":
        raise ModelFileError(
            f"{name} holds a {header.get('kind')} network without the columns that it reads: open it with "
            f"bilstm.load_model, or train a model with `bilstm train` or an estimator"
        )
    try:
        schema, task = Schema.from_json(header.get("schema")), task_from_json(header.get("task"))
    except ModelFileError as error:
        raise ModelFileError(f"{name} is not a valid model: {error}") from None
    described = header.get("baseline")
    own = {key: tensor for key, tensor in tensors.items() if described is None or not key.startswith(_BASELINE)}
    network, training = _network(name, schema, task, own, header)
    if not are_examples(training.get("examples"), schema.features, task.columns):
        raise ModelFileError(f"{name} is not a valid model: its examples are damaged")
    if described is None:
        return Parts(schema, task, network, training, None)
    if not isinstance(described, dict):
        raise ModelFileError(f"{name} is not a valid model: its baseline is not an object")
    others = {key.removeprefix(_BASELINE): tensor for key, tensor in tensors.items() if key not in own}
    return Parts(
        schema, task, network, training, _network(name, schema, task.with_output("softmax"), others, described)
    )


def _of_version_0_1(header: dict[str, Any]) -> dict[str, Any]:
    """The header of a file that version 0.1 wrote, which knew labels of time steps only."""
    columns: Any = header.get("columns")
    columns = columns if isinstance(columns, dict) else {}
    label = {"kind": "step-label", "columns": [columns.get("label")], "classes": columns.get("classes"), "type": "text"}

    def network_of(described: Any) -> Any:
        if not isinstance(described, dict):
            return described
        training = described.get("training")
        if isinstance(training, dict):
            training = {"validation_sequences" if n == "held_out_sequences" else n: v for n, v in training.items()}
        return {"network": described.get("model"), "training": training}

    converted = {"kind": "model", "schema": columns, "task": label, **network_of(header)}
    return converted | ({"baseline": network_of(header["baseline"])} if header.get("baseline") is not None else {})


def _network(
    name: str, schema: Schema, task: Task, tensors: Tensors, described: dict[str, Any]
) -> tuple[Sequential, dict[str, Any]]:
    """A network and the record of its training, from an untrusted file."""
    training = described.get("training")
    if not isinstance(training, dict):
        raise ModelFileError(f"{name} is not a valid model: the record of its training is missing")
    if not _is_record(training):
        raise ModelFileError(f"{name} is not a valid model: the record of its training is damaged")
    network = model_from_parts(name, tensors, described.get("network"))
    if not _fits(schema, task, network):
        raise ModelFileError(f"{name} is not a valid model: its network does not fit its columns")
    return network, training


def _is_record(training: dict[str, Any]) -> bool:
    """Whether it has what `train_model` returns, as far as others read it."""
    counts: list[Any] = [training.get(name) for name in _COUNTS]
    history, stopped, options = (training.get(name) for name in ("history", "stopped", "options"))
    if not all(type(count) is int and 0 <= count < 2**53 for count in counts) or not isinstance(stopped, str):
        return False
    if not isinstance(history, dict) or not isinstance(options, dict) or not 0 < counts[1] <= counts[0]:
        return False
    if "loss" not in history or ("val_accuracy" in history and "val_loss" not in history):
        return False
    if "windows" in training and not _are_windows(training, options):
        return False
    if not _is_calibration(training.get("calibration")) or not _is_fingerprint(training.get("fingerprint")):
        return False
    return all(
        isinstance(values, list) and len(values) == counts[0] and all(type(value) in (int, float) for value in values)
        for values in history.values()
    )


def _are_windows(training: dict[str, Any], options: dict[str, Any]) -> bool:
    counts = [training.get(name) for name in ("windows", "validation_steps", "gap_steps")]
    stride = options.get("stride")
    counts += [options.get("window"), 1 if stride is None else stride]
    return isinstance(training.get("blocks"), bool) and all(type(n) is int and 0 <= n < 2**53 for n in counts)


def _is_calibration(record: Any) -> bool:
    if record is None:
        return True
    names = ("temperature", "log_loss_before", "log_loss", "calibration_error_before", "calibration_error")
    return (
        isinstance(record, dict)
        and all(type(record.get(n)) in (int, float) for n in names)
        and record["temperature"] > 0
    )


def _is_fingerprint(record: Any) -> bool:
    return record is None or (isinstance(record, list) and all(type(value) is int for value in record))


def _fits(schema: Schema, task: Task, model: Sequential) -> bool:
    """Whether the network takes what the schema gives, and has the task's outputs."""
    network, first = model.network, model.layers[0] if model.layers else None
    if network is None or network.one_row_each != task.per_sequence or network.outputs != task.head().units:
        return False
    crf = isinstance(task, LabelTask) and task.output != "softmax"
    if isinstance(model.layers[-1], CRF) != crf or len(model.layers) < 1 + crf:
        return False
    last = model.layers[-2 if crf else -1]
    dense = last.layer if isinstance(last, TimeDistributed) else last
    if not isinstance(dense, Dense) or dense.activation != ("linear" if crf else task.head().activation):
        return False
    alphabet: tuple[int, ...] = ()
    encoded = 0  # dimensions of a word's encoding, which comes before the numbers; sizes of what it reads
    if isinstance(first, WordEncoder):
        encoded, embedding = first.output_features(1), first.layers[0]
        alphabet = embedding.vocabularies if isinstance(embedding, ColumnEmbedding) else ()
        first = model.layers[1] if len(model.layers) > 1 else None
    if network.features != schema.width or alphabet != ((schema.characters.size,) if schema.characters else ()):
        return False
    taken = (first.numeric, first.vocabularies) if isinstance(first, ColumnEmbedding) else (schema.numeric_width, ())
    return taken == (encoded + schema.numeric_width, tuple(schema.vocabularies))
