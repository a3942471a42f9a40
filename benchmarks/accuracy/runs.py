"""One training and its score on the test sequences: by the command line, or the twin in PyTorch.

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

from benchmarks.accuracy.datasets import DATASETS, DataSet
from bilstm.model.calibrating import calibrate
from bilstm.model.evaluation import evaluate
from bilstm.model.opening import column_options, prepare_data
from bilstm.model.trained import TrainedModel
from bilstm.models.fitting import FitData
from bilstm.training.loop import train_model
from bilstm.training.options import TrainingOptions

OURS, TWIN, FORWARD = "bilstm", "PyTorch", "forward only"
CONTENDERS = (OURS, TWIN, FORWARD)
Run = dict[str, Any]


def train(contender: str, data_set: DataSet, seed: int, data: Path, options: dict[str, Any]) -> Run:
    """`bilstm train` with its default flags, and `bilstm evaluate`."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    flags += ["--direction=forward"] if contender == FORWARD else []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model, log = str(folder / "model"), folder / "log"
        training, test = (data_set.tables(data, parts, folder) for parts in (data_set.training_parts, ["test"]))
        columns = [f"--{role}={name}" for role, name in data_set.columns(training["data"]).items()]
        started = time.perf_counter()
        _bilstm("train", *_named(training), *columns, "--out", model, "--log", str(log), f"--seed={seed}", *flags)
        seconds = time.perf_counter() - started
        report = json.loads(_bilstm("evaluate", model, *_named(test), "--json"))
        epochs = [json.loads(line) for line in log.read_text().splitlines()]
    return {"whole_command": seconds, **_curve(epochs), **_scores(report)}


def _named(files: dict[str, str]) -> list[str]:
    return [files["data"], *(["--labels", files["labels"]] if "labels" in files else [])]


def _bilstm(*arguments: str) -> str:
    command = [sys.executable, "-m", "bilstm", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode()


def train_twin(data_set: DataSet, seed: int, data: Path, given: dict[str, Any]) -> Run:
    """The twin, on the values that `bilstm train` makes of the table, with its validation set and its temperature."""
    from benchmarks.accuracy.twin import Twin, TwinModel

    options = TrainingOptions(seed=seed, **given)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        training, test = (data_set.tables(data, parts, folder) for parts in (data_set.training_parts, ["test"]))
        columns = column_options(**data_set.columns(training["data"]))
        prepared = prepare_data(training["data"], columns, options, labels=training.get("labels"))
        schema, task = prepared.schema, prepared.task

        def fit_data(part: Any) -> FitData:
            return FitData.all_of(part.values, task.targets(part.known, None, part.known))

        pooled = data_set.classified
        twin = Twin(schema.numeric_width, schema.vocabularies, task.outputs, options, pooled=pooled)
        network, epochs = TwinModel(twin, options), list[dict[str, Any]]()
        validation = fit_data(prepared.validation) if prepared.validation else None
        record = train_model(
            network,  # type: ignore[arg-type]
            fit_data(prepared.training),
            validation,
            options,
            progress=_keep(epochs),
        )
        model = TrainedModel(schema, task, network, record)  # type: ignore[arg-type]
        record["calibration"] = calibrate(model, prepared.validation, None)
        report = evaluate(model, model.read(test["data"], labels=test.get("labels"), with_truth=True))
    return {**_curve(epochs), **_scores(report)}


def _keep(epochs: list[dict[str, Any]]) -> Callable[[dict[str, Any]], None]:
    def progress(event: dict[str, Any]) -> None:
        if event["done"] == 1.0:
            epochs.append(event)

    return progress


def _curve(epochs: list[dict[str, Any]]) -> Run:
    """The training seconds in all, and when the validation accuracy was what; without a validation set, minus the
    loss."""
    return {
        "seconds": epochs[-1]["seconds"],
        "curve": [[epoch["seconds"], round(epoch.get("val_accuracy", -epoch["loss"]), 5)] for epoch in epochs],
    }


def _scores(report: dict[str, Any]) -> Run:
    names = ("accuracy", "macro_f1", "majority", "calibration_error", "log_loss", "temperature", "uncalibrated")
    spans = {"span_f1": report["spans"]["f1"]} if report.get("spans") else {}
    return {name: report[name] for name in names} | spans


def run(contender: str, name: str, seed: int, data: Path, options: dict[str, Any]) -> Run:
    data_set = DATASETS[name]
    if contender == TWIN:
        found = train_twin(data_set, seed, data, options)
    else:
        found = train(contender, data_set, seed, data, options)
    return {"contender": contender, "data_set": name, "seed": seed, **found}


if __name__ == "__main__":
    contender, name, seed, folder, *options = sys.argv[1:]
    given = {key: json.loads(value) for key, value in (option.split("=") for option in options)}
    print(json.dumps(run(contender, name, int(seed), Path(folder), given)))
