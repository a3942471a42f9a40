"""What a model file holds, as plain data and in words."""

from __future__ import annotations

import os
from typing import Any

from bilstm.errors import counted, listed, shown
from bilstm.layers import LSTM, Bidirectional, ColumnEmbedding, Dense, Dropout, Layer, TimeDistributed
from bilstm.modelfile import read_model
from bilstm.models import Sequential, load_model
from bilstm.tables.columns import Columns
from bilstm.tagging.tagger import Tagger
from bilstm.wording import aligned, reached

_MOST_LISTED = 60  # features


def inspect_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Tell what a model file holds.

    Returns:
        Plain data: "file", "bytes", "kind" ("tagger", "sequential" or "checkpoint") and "versions" of the packages that
        wrote it. Of a tagger "columns" ("sequence", "order", "label" and "features": see `describe_columns`),
        "classes", "network" (see `describe_network`), "training" (the summary of `train_model`), and "baseline", its
        "network" and "training", or None; of a Sequential model "network"; of a checkpoint "epochs" done, "best_epoch"
        (from 1, None before the first has ended), "history" and "seconds".

    Raises:
        ModelFileError: the file is no such thing; the message says why.
    """
    _, header = read_model(path)
    facts = {
        "file": os.fspath(path),
        "bytes": os.path.getsize(path),
        "kind": header["kind"],
        "versions": header["versions"],
    }
    if header["kind"] == "tagger":
        return facts | describe_tagger(Tagger.load(path))
    if header["kind"] == "sequential":
        return facts | {"network": describe_network(load_model(path))}
    return facts | _checkpoint(header)


def describe_tagger(tagger: Tagger) -> dict[str, Any]:
    """What `inspect_file` tells of one."""
    baseline = tagger.baseline
    return {
        "columns": describe_columns(tagger.columns),
        "classes": list(tagger.columns.classes),
        "network": describe_network(tagger.model),
        "training": tagger.training,
        "baseline": baseline and {"network": describe_network(baseline.model), "training": baseline.training},
    }


def describe_columns(columns: Columns) -> dict[str, Any]:
    """What is expected of a table: "sequence", "order", "label", "conll_columns", and of each of the "features" its
    "name", "kind" ("number" or "text"), and of numbers the training rows' "mean", "deviation" and "missing" cells, of
    text the number of "known" and of "different" values."""
    features: dict[str, dict[str, Any]] = {}
    for number in columns.numeric:
        fitted = {"mean": number.mean, "deviation": number.scale, "missing": number.missing}
        features[number.name] = {"name": number.name, "kind": "number", **fitted}
    for text in columns.categorical:
        known = {"known": len(text.vocabulary), "different": text.distinct}
        features.setdefault(text.name, {"name": text.name, "kind": "text", **known})
    return {
        "sequence": columns.sequence,
        "order": columns.order,
        "label": columns.label,
        "conll_columns": columns.conll_columns,
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
        return f"LSTM in both directions, {layer.forward.units} units each, {joined}"
    if isinstance(layer, LSTM):
        return f"LSTM {'backward' if layer.go_backwards else 'forward'}, {layer.units} units"
    inner = layer.layer if isinstance(layer, TimeDistributed) else layer
    if isinstance(inner, Dense):
        return f"dense, {counted(inner.units, 'output')}, {inner.activation}"
    if isinstance(layer, Dropout):
        return f"dropout of {100 * layer.rate:g} %, in training only"
    if isinstance(layer, ColumnEmbedding):
        sizes = [
            f"{values:,} values by {size}" for values, size in zip(layer.vocabularies, layer.dimensions, strict=True)
        ]
        return f"embedding of {', '.join(sizes)} numbers"
    return type(layer).__name__


def _checkpoint(header: dict[str, Any]) -> dict[str, Any]:
    """Of an unfinished training, whose header nobody vouches for."""
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
    kinds = {
        "tagger": "labels every step of a sequence",
        "sequential": "a Sequential network",
        "checkpoint": "an unfinished training",
    }
    written = f"written by bilstm {facts['versions'].get('bilstm', 'of an unknown version')}"
    lines = [f"{facts['file']}: {kinds[facts['kind']]}; {-(-facts['bytes'] // 1000):,} kB, {written}"]
    if facts["kind"] == "checkpoint":
        return lines + _unfinished(facts)
    if facts["kind"] == "tagger":
        lines += _expected(facts["columns"], facts["classes"])
    lines += _network_lines(facts["network"])
    if facts["kind"] == "tagger":
        lines += _training_lines(facts["training"])
        if baseline := facts["baseline"]:
            parameters = counted(baseline["network"]["parameters"], "parameter")
            lines.append(f"baseline: the same without recurrence, {parameters}; {_kept(baseline['training'])}")
        else:
            lines.append("baseline: none")
    return lines


def _expected(columns: dict[str, Any], classes: list[str]) -> list[str]:
    """What a table must have."""
    if columns["conll_columns"]:
        lines = [f"expects CoNLL-style columns, {columns['conll_columns']} in training, with the features:"]
    else:
        order = f", ordered by {shown(columns['order'])}" if columns["order"] else ", in order"
        lines = [f"expects a table with a row a step: the sequences in {shown(columns['sequence'])}{order}; features:"]
    features = columns["features"]
    rows = [(shown(feature["name"])[1:-1], _feature(feature)) for feature in features[:_MOST_LISTED]]
    width = max(len(name) for name, _ in rows)
    lines += [f"  {name:{width}}  {text}" for name, text in rows]
    if len(features) > _MOST_LISTED:
        lines.append(f"  … and {len(features) - _MOST_LISTED} more")
    return [*lines, f"gives {counted(len(classes), 'class')} of {shown(columns['label'])}: {listed(classes)}"]


def _feature(feature: dict[str, Any]) -> str:
    if feature["kind"] == "text":
        return f"text, {counted(feature['known'], 'value')} known of {feature['different']:,} met in training"
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
    data = f"{counted(training['sequences'], 'sequence')}, {counted(training['steps'], 'step')}"
    held_out = training["held_out_sequences"]
    judged = f"judged by {held_out:,} more" if held_out else "none was held out to judge by"
    chosen = ", ".join(f"{name} {value}" for name, value in training["options"].items() if value is not None)
    return [
        f"trained on {data}; {judged}",
        f"{_kept(training)}; {training['stopped']}",
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
        "the same bilstm train command with --resume goes on",
    ]
