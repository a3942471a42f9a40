"""What is served and asked: three models, and requests made of sequences that they have not seen."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bilstm
from benchmarks.accuracy.datasets import DATASETS
from bilstm.bridges.onnx import export
from bilstm.data.sources import open_for
from bilstm.model import TrainedModel
from bilstm.problems import cumulative_sum

MOST = 200  # different requests of each model


@dataclass(frozen=True)
class Case:
    """A model, and what it is asked.

    Attributes:
        name: of the model.
        what: what it is, for the table.
        path: its file; that for ONNX Runtime has the same name with another ending.
        sequences: each a list for each column.
    """

    name: str
    what: str
    path: Path
    sequences: list[dict[str, list[Any]]]

    @property
    def bodies(self) -> list[bytes]:
        return [json.dumps({"columns": cells}).encode() for cells in self.sequences]


def make_cases(folder: Path, data: Path | None) -> list[Case]:
    """Train the models, an epoch each, unless they are there: how long an answer takes does not depend on weights.

    Args:
        folder: where they are kept.
        data: the data sets of benchmarks/accuracy; None: the tutorial's model alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cases = [_tutorial(folder)]
    for name, what in (("ecg_waves", "waves of electrocardiograms"), ("flight_queries_pos", "words of queries")):
        if data is not None:
            cases.append(_of_data(name, what, folder, data))
    return cases


def _tutorial(folder: Path) -> Case:
    X, y = cumulative_sum(1000 + MOST, 10, seed=1)
    path = folder / "tutorial.safetensors"
    if not path.exists():
        rows = {"id": [i for i in range(1000) for _ in range(10)], "x": X[:1000].ravel(), "label": y[:1000].ravel()}
        options: dict[str, Any] = {"units": 20, "layers": 1, "epochs": 1, "baseline": False}
        _keep(bilstm.train(rows, label="label", sequence="id", **options), path)
    sequences = [{"x": [round(float(x), 4) for x in each.ravel()]} for each in X[1000:]]
    return _case("the tutorial's", path, sequences)


def _of_data(name: str, what: str, folder: Path, data: Path) -> Case:
    data_set, path = DATASETS[name], folder / f"{name}.safetensors"
    if not path.exists():
        # ONNX has no operator that takes a word apart.
        options: dict[str, Any] = {"spelling": False} if name == "flight_queries_pos" else {}
        train = data_set.tables(data, ["train"], folder)["data"]
        _keep(bilstm.train(train, **data_set.columns(train), epochs=1, baseline=False, **options), path)
    model = TrainedModel.load(path)
    table = open_for(model.schema, data_set.tables(data, ["test"], folder)["data"])
    found = table.sequences(model.schema.sequence or table.own_sequence, model.schema.order)
    numeric = {column.name for column in model.schema.numeric}
    sequences = []
    for start, stop in zip(found.offsets[:MOST], found.offsets[1 : MOST + 1], strict=False):
        cells = {each: table.values(each, found.rows[start:stop]) for each in model.schema.features}
        sequences.append({each: [float(c) for c in v] if each in numeric else v for each, v in cells.items()})
    return _case(what, path, sequences)


def _keep(model: TrainedModel, path: Path) -> None:
    export(model, path.with_suffix(".onnx"), force=True)
    model.save(path)


def _case(what: str, path: Path, sequences: list[dict[str, list[Any]]]) -> Case:
    model = TrainedModel.load(path)
    steps = sorted(len(next(iter(cells.values()))) for cells in sequences)
    parameters = model.network.count_params()
    described = (
        f"{what}: {parameters:,} parameters, {steps[0]} to {steps[-1]} steps, {steps[len(steps) // 2]} in the middle"
    )
    return Case(path.stem, described, path, sequences)
