"""Every task through every front: the same data and options give the same model and the same predictions, bit for bit.

A front trains, or predicts; what it gives is compared with what the command line gives for a file.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

import bilstm
from bilstm.cli import commands
from bilstm.model import TrainedModel
from bilstm.tasks import KINDS
from oracles.models import bits

SMALL: dict[str, Any] = {"units": 3, "layers": 1, "epochs": 2, "batch_size": 4, "validation_split": 0.2, "seed": 3}


def run(*arguments: Any, given: str | None = None, status: int = 0) -> Result:
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments], input=given)
    assert result.exit_code == status, result.output
    return result


# --- Data: for each task a table with a row per time step -------------------------------------------------------------

TARGETS = {"label": ["state"], "labels": ["loud", "high"], "quantity": ["level", "speed"]}


def long_table(kind: str, sequences: int, seed: int) -> pd.DataFrame:
    """Sequences of 1 to 6 steps of a number and a word; some time steps, or sequences, have no answer."""
    unit, what = kind.split("-")
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for sequence in range(sequences):
        steps = int(rng.integers(1, 7))
        x = rng.normal(size=steps).round(3)
        words = rng.choice(["not", "is", "was"], size=steps).tolist()
        level = x if unit == "step" else np.full(steps, x.mean().round(4))
        unknown = rng.random(steps) < 0.1 if unit == "step" else np.full(steps, sequence == 4)
        for step in range(steps):
            value = float(level[step])
            answers: dict[str, list[Any]] = {
                "label": ["up" if value > 0 else "down"],
                "labels": [int(value > 0.3), int(value > -0.3)],
                "quantity": [value, 2 - value],
            }
            cells = [None] * len(answers[what]) if unknown[step] else answers[what]
            known = {"id": f"s{sequence}", "t": step, "x": float(x[step]), "word": words[step]}
            rows.append(known | dict(zip(TARGETS[what], cells, strict=True)))
    frame = pd.DataFrame(rows)
    if what == "labels":
        frame = frame.astype(dict.fromkeys(TARGETS[what], "Int64"))
    return frame


@dataclasses.dataclass(frozen=True)
class Layout:
    """A way to hold sequences.

    Attributes:
        suffixes: the files that can hold it.
        make: the table, from one with a row per time step.
        tasks: those that it can hold.
        options: what has to be said of its columns.
    """

    suffixes: tuple[str, ...]
    make: Callable[[pd.DataFrame, str], pd.DataFrame]
    tasks: tuple[str, ...] = KINDS
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


def shuffled(frame: pd.DataFrame, kind: str) -> pd.DataFrame:
    return frame.sample(frac=1, random_state=1).reset_index(drop=True)


def nested(frame: pd.DataFrame, kind: str) -> pd.DataFrame:
    """A row a sequence, with lists of steps; the answer of a sequence is beside them."""
    unit, what = kind.split("-")
    lists = frame.groupby("id", sort=False).agg(list).reset_index()
    for name in TARGETS[what]:
        cells = [[None if pd.isna(cell) else cell for cell in row] for row in lists[name]]
        lists[name] = cells if unit == "step" else pd.Series([row[0] for row in cells], dtype=frame[name].dtype)
    return lists.drop(columns=["t"])


def texts(frame: pd.DataFrame, kind: str) -> pd.DataFrame:
    """A row a text, with the answer beside it."""
    answers = frame.groupby("id", sort=False).agg(dict.fromkeys(TARGETS[kind.split("-")[1]], "first"))
    words = frame.groupby("id", sort=False)["word"].agg(" ".join)
    return pd.concat([words.rename("text"), answers], axis=1).reset_index()


OF_SEQUENCES = tuple(kind for kind in KINDS if kind.startswith("sequence"))
LAYOUTS = {
    "long": Layout((".csv", ".parquet", ".ndjson"), shuffled, options={"sequence": "id", "order": "t"}),
    "lists": Layout((".parquet", ".ndjson"), nested),
    "texts": Layout((".csv", ".parquet", ".ndjson"), texts, OF_SEQUENCES, {"text": "text"}),
}
CASES = [
    pytest.param(kind, name, suffix, id=f"{kind} {name} {suffix[1:]}")
    for name, layout in LAYOUTS.items()
    for kind in layout.tasks
    for suffix in layout.suffixes
]


def arrow(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False)


def write(frame: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        pq.write_table(arrow(frame), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in arrow(frame).to_pylist()))
    return path


def options_of(kind: str, layout: str) -> dict[str, Any]:
    """The arguments of `bilstm.train`."""
    what = kind.split("-")[1]
    return {**LAYOUTS[layout].options, "label": TARGETS[what], "task": kind, **SMALL}


def flags(options: dict[str, Any]) -> list[str]:
    """The same for the command line."""
    return [
        word
        for name, value in options.items()
        for word in (f"--{name.replace('_', '-')}", ",".join(value) if isinstance(value, list) else str(value))
    ]


# --- Training: a front takes the table's file and the table, and gives a model ----------------------------------------


def by_path(path: Path, frame: pd.DataFrame, options: dict[str, Any]) -> TrainedModel:
    return bilstm.train(path, **options)


def by_pandas(path: Path, frame: pd.DataFrame, options: dict[str, Any]) -> TrainedModel:
    return bilstm.train(frame, **options)


def by_arrow(path: Path, frame: pd.DataFrame, options: dict[str, Any]) -> TrainedModel:
    return bilstm.train(arrow(frame), **options)


def by_estimator(path: Path, frame: pd.DataFrame, options: dict[str, Any]) -> TrainedModel:
    """scikit-learn's protocol, fitted to the file's path and its column names; texts are lists of words there."""
    unit, what = options["task"].split("-")
    if "text" in options:
        return by_path(path, frame, options)
    own = {name: value for name, value in options.items() if name not in ("label", "task", "seed")}
    own |= {"random_state": options.get("seed", 1), "baseline": options.get("baseline", True)}
    own |= {"examples": options.get("examples", True)}
    if what == "quantity":
        estimator: Any = bilstm.SequenceRegressor(per_sequence=unit == "sequence", **own)
    else:
        estimator = (bilstm.SequenceTagger if unit == "step" else bilstm.SequenceClassifier)(**own)
    model: TrainedModel = estimator.fit(path, options["label"]).model_
    return model


def by_estimator_of_a_frame(path: Path, frame: pd.DataFrame, options: dict[str, Any]) -> TrainedModel:
    return by_path(path, frame, options) if "text" in options else by_estimator(frame, frame, options)  # type: ignore[arg-type]


FRONTS: list[Callable[[Path, pd.DataFrame, dict[str, Any]], TrainedModel]] = [
    by_path,
    by_pandas,
    by_arrow,
    by_estimator,
    by_estimator_of_a_frame,
]


@functools.cache
def trained_bytes(kind: str, layout: str, folder: Path) -> bytes:
    """The file that the command line writes for an NDJSON table."""
    path = write(LAYOUTS[layout].make(long_table(kind, 30, seed=0), kind), folder / f"{kind} {layout}.ndjson")
    run("train", path, *flags(options_of(kind, layout)), "--quiet", "--out", folder / "model")
    return (folder / "model").read_bytes()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fronts")


@pytest.mark.parametrize(("kind", "layout", "suffix"), CASES)
def test_training(kind: str, layout: str, suffix: str, folder: Path, tmp_path: Path) -> None:
    frame = LAYOUTS[layout].make(long_table(kind, 30, seed=0), kind)
    path, options = write(frame, tmp_path / f"train{suffix}"), options_of(kind, layout)
    run("train", path, *flags(options), "--quiet", "--out", tmp_path / "typed")
    expected = trained_bytes(kind, layout, folder)
    assert (tmp_path / "typed").read_bytes() == expected
    for front in FRONTS:
        front(path, frame, options).save(tmp_path / "other")
        assert (tmp_path / "other").read_bytes() == expected, front.__name__


@pytest.mark.parametrize(("kind", "layout", "suffix"), CASES)
def test_the_task_is_found_where_it_is_certain(kind: str, layout: str, suffix: str, folder: Path) -> None:
    frame = LAYOUTS[layout].make(long_table(kind, 30, seed=0), kind)
    options = options_of(kind, layout) | {"task": None, "epochs": 1, "baseline": False}
    assert bilstm.train(frame, **options).task.kind == kind


# --- Prediction -------------------------------------------------------------------------------------------------------


@pytest.fixture
def model(kind: str, layout: str, folder: Path, tmp_path: Path) -> Path:
    (tmp_path / "model").write_bytes(trained_bytes(kind, layout, folder))
    return tmp_path / "model"


def read(path: Path) -> pd.DataFrame:
    if path.suffix == ".csv":
        return pd.read_csv(path, float_precision="round_trip")
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pandas()
    return pd.DataFrame(objects_in(path.read_text()))


def objects_in(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def names_of(kind: str, model: TrainedModel, probabilities: bool) -> list[str]:
    what = kind.split("-")[1]
    if what == "label":
        of_all = [f"probability_of_{name}" for name in model.task.classes] if probabilities else []  # type: ignore[attr-defined]
        return ["predicted", "probability", *of_all]
    names = [f"predicted_{name}" for name in TARGETS[what]]
    return names + [f"probability_of_{name}" for name in TARGETS[what] if probabilities]


def expected_columns(kind: str, model: TrainedModel, path: Path, probabilities: bool) -> list[list[Any]]:
    """What `predict` and `predict_proba` give for a file, as columns."""
    predicted = np.asarray(model.predict(path))
    if kind.endswith("quantity"):
        return [column.tolist() for column in predicted.T]
    likely = model.predict_proba(path).astype(np.float64).round(6)
    if kind.endswith("labels"):
        columns = [*predicted.T, *(likely.T if probabilities else ())]
    else:
        columns = [predicted, likely.max(axis=1), *(likely.T if probabilities else ())]
    return [column.tolist() for column in columns]


@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize(("kind", "layout", "suffix"), CASES)
def test_prediction(
    kind: str, layout: str, suffix: str, probabilities: bool, model: Path, folder: Path, tmp_path: Path
) -> None:
    if kind.endswith("quantity") and probabilities:
        return
    frame = LAYOUTS[layout].make(long_table(kind, 12, seed=1), kind)
    path, out = write(frame, tmp_path / f"new{suffix}"), tmp_path / f"out{suffix}"
    more = ["--probabilities"] * probabilities
    run("predict", model, path, "--out", out, "--quiet", *more)
    loaded, found = bilstm.load(model), read(out)
    names = names_of(kind, loaded, probabilities)
    per_sequence = kind.startswith("sequence")
    own = ["id"] if per_sequence and layout == "long" else list(frame.columns)
    assert list(found.columns) == [*own, *names]
    assert found["id"].tolist() == (frame["id"].unique() if own == ["id"] else frame["id"]).tolist()

    columns = [found[name].tolist() for name in names]
    if layout == "lists" and not per_sequence:
        columns = [[cell for row in column for cell in row] for column in columns]
    expected = expected_columns(kind, loaded, path, probabilities)
    assert columns == expected

    # The data frame, and the stream of the same objects, give the same.
    in_memory = np.asarray(loaded.predict(path)), loaded.predict(frame)
    flat = np.concatenate(in_memory[1]) if layout == "lists" and not per_sequence else np.asarray(in_memory[1])
    if layout == "long" and per_sequence:
        flat = flat[~frame["id"].duplicated().to_numpy()]
    assert bits(in_memory[0]) == bits(flat) if flat.dtype.kind == "f" else in_memory[0].tolist() == flat.tolist()
    ordered = frame.sort_values(["id", "t"]) if layout == "long" else frame
    steps, objects = tmp_path / "steps.ndjson", write(ordered, tmp_path / "new.ndjson")
    run("predict", model, objects, "--out", steps, "--quiet", *more)
    said = run("predict", model, "-", "--out", "-", "--quiet", *more, given=objects.read_text()).stdout
    assert objects_in(said) == objects_in(steps.read_text())


@pytest.mark.parametrize("layout", ["long", "lists"])
@pytest.mark.parametrize("kind", ["step-label"])
def test_events(kind: str, layout: str, model: Path, tmp_path: Path) -> None:
    frame = LAYOUTS[layout].make(long_table(kind, 12, seed=1), kind)
    if layout == "long":
        frame = frame.sort_values(["id", "t"])
    path, out = write(frame, tmp_path / "new.ndjson"), tmp_path / "out.ndjson"
    run("predict", model, path, "--out", out, "--quiet", "--events")
    said = run("predict", model, "-", "--out", "-", "--quiet", "--events", given=path.read_text()).stdout
    assert said.count("\n") > 12
    assert objects_in(said) == objects_in(out.read_text())


def test_a_stream_sorts_the_rows_of_a_sequence(folder: Path, tmp_path: Path) -> None:
    """As files do; its answers keep the order of its lines."""
    for kind in ("step-label", "sequence-quantity"):
        path = tmp_path / "model"
        path.write_bytes(trained_bytes(kind, "long", folder))
        frame = long_table(kind, 12, seed=1)
        frame = frame.groupby("id", sort=False).sample(frac=1, random_state=2)
        objects, out = write(frame, tmp_path / "new.ndjson"), tmp_path / "out.ndjson"
        run("predict", path, objects, "--out", out, "--quiet")
        said = run("predict", path, "-", "--out", "-", "--quiet", given=objects.read_text()).stdout
        assert objects_in(said) == objects_in(out.read_text())
        ordered = write(frame.sort_values(["id", "t"]), tmp_path / "ordered.ndjson")
        run("predict", path, ordered, "--out", out, "--quiet")
        key = ("id", "t") if kind.startswith("step") else ("id",)
        known = {tuple(row[name] for name in key): row for row in objects_in(out.read_text())}
        assert all(known[tuple(row[name] for name in key)] == row for row in objects_in(said))


# --- Evaluation and inspection ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "layout", "suffix"), CASES)
def test_evaluation(kind: str, layout: str, suffix: str, model: Path, tmp_path: Path) -> None:
    frame = LAYOUTS[layout].make(long_table(kind, 12, seed=1), kind)
    path = write(frame, tmp_path / f"new{suffix}")
    typed = json.loads(run("evaluate", model, path, "--json").stdout)
    assert {name: typed.pop(name) for name in ("model", "table")} == {"model": str(model), "table": str(path)}
    loaded = bilstm.load(model)
    assert json.loads(json.dumps(loaded.evaluate(path), allow_nan=False)) == typed
    assert json.loads(json.dumps(loaded.evaluate(frame), allow_nan=False)) == typed
    assert typed["task"] == kind
    assert typed["sequences"] == 12
    printed = run("evaluate", model, path).stdout
    assert printed.startswith(f"{path}: 12 sequences, ")


@pytest.mark.parametrize("layout", ["long"])
@pytest.mark.parametrize("kind", KINDS)
def test_inspection(kind: str, layout: str, model: Path) -> None:
    facts = json.loads(run("inspect", model, "--json").stdout)
    loaded = bilstm.load(model)
    assert (facts["kind"], facts["task"], facts["targets"]) == ("model", kind, TARGETS[kind.split("-")[1]])
    assert facts["network"]["parameters"] == loaded.network.count_params()
    assert facts["training"]["sequences"] == loaded.training["sequences"]
    printed = run("inspect", model).stdout
    assert "for each time step" in printed if kind.startswith("step") else "for each sequence" in printed


# --- The labels of sequences in a table of their own ------------------------------------------------------------------


@pytest.mark.parametrize("kind", OF_SEQUENCES)
def test_labels_in_a_table_of_their_own(kind: str, folder: Path, tmp_path: Path) -> None:
    names = TARGETS[kind.split("-")[1]]
    tables = []
    for seed in (0, 1):
        frame = long_table(kind, 30, seed)
        labels = frame.groupby("id", sort=False)[names].first().reset_index().iloc[::-1]
        tables.append((frame.drop(columns=names), labels))
    (steps, labels), (valid, valid_labels) = tables
    paths = [
        write(table, tmp_path / f"{name}.csv")
        for name, table in zip(("steps", "labels", "valid", "valid_labels"), (*tables[0], *tables[1]), strict=True)
    ]
    options = {"sequence": "id", "order": "t", "label": names, "task": kind, **SMALL}
    files = {"labels": paths[1], "valid": paths[2], "valid_labels": paths[3]}
    run("train", paths[0], *flags(options | files), "--quiet", "--out", tmp_path / "typed")
    bilstm.train(paths[0], **options, **files).save(tmp_path / "path")
    frames = {"labels": labels, "valid": valid, "valid_labels": valid_labels}
    bilstm.train(steps, **options, **frames).save(tmp_path / "frame")
    beside = steps.merge(labels, on="id", sort=False)
    valid_beside = valid.merge(valid_labels, on="id", sort=False)
    bilstm.train(beside, **options, valid=valid_beside).save(tmp_path / "beside")
    first = (tmp_path / "typed").read_bytes()
    for name in ("path", "frame", "beside"):
        assert (tmp_path / name).read_bytes() == first, name
    model = bilstm.load(tmp_path / "typed")
    assert model.training["validation_sequences"] == 30
    expected = json.loads(run("evaluate", tmp_path / "typed", paths[2], "--labels", paths[3], "--json").stdout)
    assert model.evaluate(valid_beside) == {
        name: value for name, value in expected.items() if name not in ("model", "table")
    }
