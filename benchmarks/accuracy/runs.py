"""One training and its score on the test sequences: by the command line, the estimator, or the twin in PyTorch.

    python -m benchmarks.accuracy.runs CONTENDER DATA_SET SEED FOLDER [OPTION=VALUE ...]

prints one JSON object. The options are those of `TrainingOptions`; without any, all are the defaults.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.datasets import DATASETS, DataSet, labelled_sequences
from bilstm import SequenceClassifier
from bilstm.engine.plans import Targets
from bilstm.metrics import step_report
from bilstm.models.fitting import FitData
from bilstm.data.prepare import prepare
from bilstm.data.reading import read_table
from bilstm.training.loop import train_model
from bilstm.training.options import TrainingOptions

OURS, TWIN, FORWARD = "bilstm", "PyTorch", "forward only"
CONTENDERS = (OURS, TWIN, FORWARD)
Run = dict[str, Any]


def tag(contender: str, data_set: DataSet, seed: int, data: Path, options: dict[str, Any]) -> Run:
    """`bilstm train` with its default flags, and `bilstm evaluate`."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    flags += ["--direction=forward"] if contender == FORWARD else []
    table = data_set.file(data, "train")
    columns = [] if table.endswith(".conll") else ["--sequence", "seq", "--order", "t", "--label", "label"]
    with tempfile.TemporaryDirectory() as temporary:
        model, log = str(Path(temporary) / "model"), Path(temporary) / "log"
        started = time.perf_counter()
        _bilstm("train", table, *columns, "--out", model, "--log", str(log), f"--seed={seed}", "--quiet", *flags)
        seconds = time.perf_counter() - started
        report = json.loads(_bilstm("evaluate", model, data_set.file(data, "test"), "--json"))
        epochs = [json.loads(line) for line in log.read_text().splitlines()]
    return {"whole_command": seconds, **_curve(epochs), **_scores(report)}


def _bilstm(*arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "bilstm", *arguments], check=True, stdout=subprocess.PIPE
    ).stdout.decode()


def tag_with_twin(data_set: DataSet, seed: int, data: Path, given: dict[str, Any]) -> Run:
    """The same on the numbers that `bilstm train` makes of the table, and with the sequences held out that it does."""
    from benchmarks.accuracy.twin import Twin, TwinModel

    options = TrainingOptions(seed=seed, **given)
    table = read_table(data_set.file(data, "train"))
    prepared = prepare(table, data_set.roles(str(table.path)), validation_split=options.validation_split, seed=seed)
    columns, held_out = prepared.columns, prepared.validation
    assert held_out
    training, validation = (
        FitData.all_of(part.values, Targets(labels=part.labels)) for part in (prepared.training, held_out)
    )
    twin = Twin(columns.numeric_width, columns.vocabularies, len(columns.classes), options)
    model, epochs = TwinModel(twin, options), list[dict[str, Any]]()
    train_model(model, training, validation, options, progress=_keep(epochs))  # type: ignore[arg-type]
    test = columns.encode(read_table(data_set.file(data, "test"), conll_columns=table.conll_columns), need_labels=True)
    report = step_report(test.labels, model.predict_rows(test.values), test.values.offsets)
    return {**_curve(epochs), **_scores(report)}


def classify(contender: str, data_set: DataSet, seed: int, data: Path, options: dict[str, Any]) -> Run:
    """`SequenceClassifier` with its default parameters; the twin takes the place of its network."""
    epochs = list[dict[str, Any]]()

    class Classifier(SequenceClassifier):
        def _progress(self) -> Callable[[dict[str, Any]], None]:
            return _keep(epochs)

    class TwinClassifier(Classifier):
        def _build(self, options: TrainingOptions) -> Any:
            from benchmarks.accuracy.twin import Twin, TwinModel

            encoder = self.encoder_
            classes = len(self.classes_)
            twin = Twin(encoder.numeric_width, encoder.vocabularies, classes, options, pooled=True)
            return TwinModel(twin, options)

    parameters = {name: value for name, value in options.items() if name != "seed"}
    parameters |= {"direction": "forward"} if contender == FORWARD else {}
    kind = TwinClassifier if contender == TWIN else Classifier
    X, y = labelled_sequences(data_set, data, "train", "dev")
    started = time.perf_counter()
    classifier = kind(random_state=seed, **parameters).fit(X, y)
    seconds = time.perf_counter() - started
    X, y = labelled_sequences(data_set, data, "test")
    commonest = float(np.unique(y, return_counts=True)[1].max() / len(y))
    return {"whole_command": seconds, **_curve(epochs), "accuracy": classifier.score(X, y), "majority": commonest}


def _keep(epochs: list[dict[str, Any]]) -> Callable[[dict[str, Any]], None]:
    def progress(event: dict[str, Any]) -> None:
        if event["done"] == 1.0:
            epochs.append(event)

    return progress


def _curve(epochs: list[dict[str, Any]]) -> Run:
    """The training seconds in all, and when the held-out accuracy was what; if none is held out, minus the loss."""
    return {
        "seconds": epochs[-1]["seconds"],
        "curve": [[epoch["seconds"], round(epoch.get("val_accuracy", -epoch["loss"]), 5)] for epoch in epochs],
    }


def _scores(report: dict[str, Any]) -> Run:
    return {name: report[name] for name in ("accuracy", "macro_f1", "majority")}


def run(contender: str, name: str, seed: int, data: Path, options: dict[str, Any]) -> Run:
    data_set = DATASETS[name]
    if data_set.classified:
        found = classify(contender, data_set, seed, data, options)
    elif contender == TWIN:
        found = tag_with_twin(data_set, seed, data, options)
    else:
        found = tag(contender, data_set, seed, data, options)
    return {"contender": contender, "data_set": name, "seed": seed, **found}


if __name__ == "__main__":
    contender, name, seed, folder, *options = sys.argv[1:]
    given = {key: json.loads(value) for key, value in (option.split("=") for option in options)}
    print(json.dumps(run(contender, name, int(seed), Path(folder), given)))
