"""What a model file holds, as plain data and in words."""

from __future__ import annotations

import os
from typing import Any

from bilstm.data.manyfiles import FILE
from bilstm.data.readingoptions import ReadingOptions
from bilstm.data.schema import Schema
from bilstm.data.spelling import VECTOR
from bilstm.errors import counted, listed, shown
from bilstm.layers import (
    BatchNormalization,
    Bidirectional,
    ColumnEmbedding,
    Conv1D,
    Dense,
    Dropout,
    Layer,
    Recurrent,
    TimeDistributed,
)
from bilstm.model import TrainedModel
from bilstm.modelfile import read_model
from bilstm.models import Sequential, load_model
from bilstm.tasks import LabelTask
from bilstm.wording import aligned, reached

_MOST_LISTED = 60  # features
_NOT_SHOWN = ("fingerprint", "examples")
_POOLING = {
    "GlobalAveragePooling1D": "mean of all steps",
    "GlobalMaxPooling1D": "maximum of all steps",
    "AveragePooling1D": "mean of windows",
    "MaxPooling1D": "maximum of windows",
    "GlobalAttentionPooling1D": "mean of all steps, weighted by attention",
}
_TASKS = {
    "label": "predicts a label for each {unit}",
    "labels": "predicts several labels for each {unit}",
    "quantity": "predicts quantities for each {unit}",
}


def inspect_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Describe what a model file holds.

    Returns:
        Plain data: "file", "bytes", "kind" ("model", "sequential" or "checkpoint") and "versions" of the packages that
        wrote it. Of a trained model see `describe_model`; of a Sequential network "network"; of a checkpoint "epochs"
        done, "best_epoch" (from 1, None before the first has ended), "history" and "seconds".

    Raises:
        ModelFileError: the file is none of these; the message says why.
    """
    _, header = read_model(path)
    kind = "model" if header["kind"] == "tagger" else header["kind"]
    facts = {"file": os.fspath(path), "bytes": os.path.getsize(path), "kind": kind, "versions": header["versions"]}
    if kind == "model":
        return facts | describe_model(TrainedModel.load(path))
    if kind == "sequential":
        return facts | {"network": describe_network(load_model(path))}
    return facts | _checkpoint(header)


def describe_model(model: TrainedModel) -> dict[str, Any]:
    """Describe a trained model.

    Returns:
        Plain data: "task" (its kind), "targets" (the columns that are predicted), "classes" (None where quantities
        are), "columns" (see `describe_columns`), "network" (see `describe_network`), "training" (the record of the
        training), "examples", how many sequences of the validation set it holds, and "baseline", its "network" and
        "training", or None.
    """
    task, baseline = model.task, model.baseline
    classes = task.classes if isinstance(task, LabelTask) else task.columns if task.what == "labels" else None
    return {
        "task": task.kind,
        "targets": list(task.columns),
        "classes": None if classes is None else list(classes),
        "columns": describe_columns(model.schema),
        "network": describe_network(model.network),
        "training": {name: value for name, value in model.training.items() if name not in _NOT_SHOWN},
        "examples": len(model.examples),
        "baseline": baseline and {"network": describe_network(baseline.network), "training": baseline.training},
    }


def describe_columns(schema: Schema) -> dict[str, Any]:
    """What a model reads: "sequence", "order", "one_sequence" (whether a table without a sequence column is one
    sequence), "conll_columns", "reading" (the options with which files are read),
    "text" (the column of texts and what their steps are), "tokens" (the rule that divides raw texts),
    and of each of the "features" its "name", "kind" ("number" or "text"), and of numbers the training rows' "mean",
    "deviation" and "missing" cells, of text the number of "known" and of "different" values and, where it has
    word vectors, of "vectors" and of their "dimensions"."""
    features: dict[str, dict[str, Any]] = {}
    for number in schema.numeric:
        fitted = {"mean": number.mean, "deviation": number.scale, "missing": number.missing}
        features[number.name] = {"name": number.name, "kind": "number", **fitted}
    for text in schema.categorical:
        known = {"known": len(text.vocabulary), "different": text.distinct}
        feature = features.setdefault(text.name, {"name": text.name, "kind": "text", **known})
        if text.part == VECTOR:
            feature |= {"vectors": len(text.vocabulary), "dimensions": text.dimensions}
    return {
        "sequence": schema.sequence,
        "order": schema.order,
        "one_sequence": schema.one_sequence,
        "named": schema.named,
        "conll_columns": schema.conll_columns,
        "reading": schema.reading.to_json(),
        "text": schema.text and {"column": schema.text.column, "tokens": schema.text.tokens},
        "tokens": schema.token_rule if schema.tokens else None,
        "features": list(features.values()),
    }


def describe_network(model: Sequential) -> dict[str, Any]:
    """Its "inputs", "parameters", and "layers", of each "what" it is in words, its "outputs" and "parameters"."""
    width = model.input_features or 0
    layers = []
    for layer in model.layers:
        parameters = sum(spec.size for spec in layer.weight_specs(width))
        width = layer.output_features(width)
        layers.append({"what": _in_words(layer), "outputs": width, "parameters": parameters})
    return {
        "inputs": model.input_features,
        "parameters": sum(layer["parameters"] for layer in layers),
        "layers": layers,
    }


def _in_words(layer: Layer) -> str:
    if isinstance(layer, Bidirectional):
        joined = f"joined by {layer.merge_mode}" if layer.merge_mode else "not joined"
        if layer.backward_layer is not None:
            return f"{_in_words(layer.forward)}, and {_in_words(layer.backward)}, {joined}"
        return f"{type(layer.forward).__name__} in both directions, {layer.forward.units} units each, {joined}"
    if isinstance(layer, Recurrent):
        return f"{type(layer).__name__} {'backward' if layer.go_backwards else 'forward'}, {layer.units} units"
    if isinstance(layer, Conv1D):
        steps = f"{'causal ' * (layer.padding == 'causal')}convolution of {counted(layer.kernel_size, 'step')}"
        apart = f", {layer.dilation_rate} apart" if layer.dilation_rate > 1 else ""
        return f"{steps}{apart}, {counted(layer.filters, 'filter')}, {layer.activation}"
    inner = layer.layer if isinstance(layer, TimeDistributed) else layer
    if isinstance(inner, Dense):
        return f"dense, {counted(inner.units, 'output')}, {inner.activation}"
    if isinstance(layer, BatchNormalization):
        return "batch normalization"
    if isinstance(layer, Dropout):
        return f"dropout of {100 * layer.rate:g} %, in training only"
    if isinstance(layer, ColumnEmbedding):
        sizes = [
            f"{values:,} values by {size}" for values, size in zip(layer.vocabularies, layer.dimensions, strict=True)
        ]
        return f"embedding of {', '.join(sizes)} dimensions"
    name = type(layer).__name__
    return _POOLING.get(name, name)


def _checkpoint(header: dict[str, Any]) -> dict[str, Any]:
    """An unfinished training, from an untrusted header."""
    logs, best = header.get("logs"), header.get("best")
    logs = [log for log in logs if isinstance(log, dict)] if isinstance(logs, list) else []
    epoch = best.get("epoch") if isinstance(best, dict) else None
    return {
        "epochs": len(logs),
        "best_epoch": epoch + 1 if isinstance(epoch, int) else None,
        "history": {name: [log.get(name) for log in logs] for name in (logs[0] if logs else ())},
        "seconds": header.get("seconds"),
    }


def inspection(facts: dict[str, Any]) -> list[str]:
    """What `inspect_file` found, in lines to print."""
    kinds = {"sequential": "a Sequential network", "checkpoint": "an unfinished training"}
    what = kinds.get(facts["kind"]) or _task(facts["task"])
    written = f"written by bilstm {facts['versions'].get('bilstm', 'of an unknown version')}"
    lines = [f"{facts['file']}: {what}; {-(-facts['bytes'] // 1000):,} kB, {written}"]
    if facts["kind"] == "checkpoint":
        return lines + _unfinished(facts)
    if facts["kind"] == "sequential":
        return lines + _network_lines(facts["network"])
    return lines + model_lines(facts)


def model_lines(facts: dict[str, Any]) -> list[str]:
    """What `describe_model` found, in lines to print."""
    lines = [*_expected(facts["columns"]), _predicted(facts), *_network_lines(facts["network"])]
    lines += _training_lines(facts["training"])
    if facts["examples"]:
        lines.append(f"examples: {counted(facts['examples'], 'sequence')} of the validation set, values and labels")
    if baseline := facts["baseline"]:
        parameters = counted(baseline["network"]["parameters"], "parameter")
        return [*lines, f"baseline: the network without recurrence, {parameters}; {_kept(baseline['training'])}"]
    return [*lines, "baseline: none"]


def _task(kind: str) -> str:
    unit, _, what = kind.partition("-")
    return _TASKS[what].format(unit="time step" if unit == "step" else unit)


def _predicted(facts: dict[str, Any]) -> str:
    targets = listed(facts["targets"])
    if facts["task"].endswith("-label"):
        return f"predicts {counted(len(facts['classes']), 'class')} of {targets}: {listed(facts['classes'])}"
    return f"predicts {targets}"


def _expected(columns: dict[str, Any]) -> list[str]:
    """What the data must have."""
    if columns["conll_columns"]:
        lines = [f"reads CoNLL-style columns, {columns['conll_columns']} in training, with the features:"]
    elif columns["text"]:
        lines = [f"reads a table with a text in each row of {shown(columns['text']['column'])}; features:"]
    elif not columns["named"]:
        lines = ["reads arrays, or a table whose columns are named with --features; features:"]
    elif columns["sequence"] is None and columns["one_sequence"]:
        order = f", ordered by {shown(columns['order'])}" if columns["order"] else ", in order"
        lines = [f"reads a table with a row per time step, all of one sequence{order}; features:"]
    elif columns["sequence"] is None:
        lines = ["reads a table with a sequence in each row; features:"]
    else:
        order = f", ordered by {shown(columns['order'])}" if columns["order"] else ", in order"
        lines = [f"reads a table with a row per time step: sequences in {shown(columns['sequence'])}{order}; features:"]
        if columns["sequence"] == FILE:
            lines.insert(0, f"reads files, each of which is a sequence if it has no column {FILE!r}")
    if columns["reading"]:
        lines.insert(0, f"reads files with {ReadingOptions.from_json(columns['reading']).typed}")
    features = columns["features"]
    rows = [(shown(feature["name"])[1:-1], _feature(feature)) for feature in features[:_MOST_LISTED]]
    width = max(len(name) for name, _ in rows)
    lines += [f"  {name:{width}}  {text}" for name, text in rows]
    if len(features) > _MOST_LISTED:
        lines.append(f"  … and {len(features) - _MOST_LISTED} more")
    if columns["tokens"]:
        lines.append(f"divides raw texts by the rule {columns['tokens']}")
    return lines


def _feature(feature: dict[str, Any]) -> str:
    if feature["kind"] == "text":
        vectors = ""
        if "vectors" in feature:
            vectors = f"; {counted(feature['vectors'], 'word vector')} of {counted(feature['dimensions'], 'dimension')}"
        known = counted(feature["known"], "value")
        return f"text, {known} in the vocabulary, of {feature['different']:,} in training{vectors}"
    missing = f", {feature['missing']:,} missing" if feature["missing"] else ""
    return f"number, in training of mean {feature['mean']:.4g}, standard deviation {feature['deviation']:.4g}{missing}"


def _network_lines(network: dict[str, Any]) -> list[str]:
    inputs = "inputs of any number" if network["inputs"] is None else counted(network["inputs"], "input")
    rows = [(layer["what"], f"{layer['outputs']:,}", f"{layer['parameters']:,}") for layer in network["layers"]]
    return [
        f"network: {inputs}, {counted(network['parameters'], 'parameter')}",
        *aligned([("layer", "outputs", "parameters"), *rows]),
    ]


def _training_lines(training: dict[str, Any]) -> list[str]:
    what = "block" if training.get("blocks") else "sequence"
    data = f"{counted(training['sequences'], what)}, {counted(training['steps'], 'step')}"
    validation = training["validation_sequences"]
    if "windows" in training:
        window = training["options"]["window"]
        every = counted(training["options"].get("stride") or window, "step")
        windows = f"{counted(training['windows'], 'window')} of up to {counted(window, 'step')}, one every {every}"
        gaps = f"; {counted(training['gap_steps'], 'step')} in gaps" if training["blocks"] else ""
        data = f"{windows}, from {data}{gaps}"
    judged = f"validated on {validation:,} more" if validation else "no validation set"
    calibration, options = training.get("calibration"), training["options"]
    output, learned = options.get("output"), options.get("train_scheme")
    chosen = ", ".join(f"{name} {value}" for name, value in training["options"].items() if value is not None)
    return [
        f"trained on {data}; {judged}",
        f"{_kept(training)}; {training['stopped']}",
        *(["labels by a CRF; probabilities are not scaled by a temperature"] if output == "crf" else []),
        *(["labels by a softmax and a decoding that their scheme constrains"] if output == "constrained" else []),
        *([f"learned tags: those of the scheme {shown(str(learned))[1:-1]}"] if learned else []),
        *([f"probabilities are scaled by a temperature of {calibration['temperature']:.3g}"] if calibration else []),
        *([f"options: {chosen}"] if chosen else []),
    ]


def _kept(training: dict[str, Any]) -> str:
    return f"epoch {training['best_epoch']} of {training['epochs']} was kept, with {reached(training)}"


def _unfinished(facts: dict[str, Any]) -> list[str]:
    epochs, last = facts["epochs"], {name: values[-1] for name, values in facts["history"].items()}
    scores = ", ".join(f"{name} {value:.4f}" for name, value in last.items() if isinstance(value, float))
    best = f"; the best so far is epoch {facts['best_epoch']}" if facts["best_epoch"] else ""
    return [
        f"{counted(epochs, 'epoch')} done{best}",
        *([f"the last epoch's scores: {scores}"] if scores else []),
        "the same bilstm train command with --resume continues",
    ]
