"""One long recording through every front: trained on in windows, validated on blocks of time, predicted as a whole."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from click.testing import CliRunner, Result

import bilstm
from bilstm.cli import commands
from bilstm.compare import compare, plan_comparison
from bilstm.data.table import window_advice
from bilstm.errors import ModelFileError, UserError
from bilstm.model import TrainedModel
from bilstm.model.training import train_prepared
from bilstm.ragged import Ragged
from bilstm.training.checkpoints import Checkpoint
from oracles.models import weight_bits

SMALL: dict[str, Any] = {"units": 3, "layers": 1, "epochs": 2, "seed": 3}
FLAGS = ["--units", "3", "--layers", "1", "--epochs", "2", "--seed", "3", "--no-baseline"]
ROLES = ["--label", "state", "--order", "time"]


def run(*arguments: Any, given: str | None = None, status: int = 0) -> Result:
    result = CliRunner().invoke(commands, [str(argument) for argument in arguments], input=given)
    assert result.exit_code == status, result.output
    return result


def recording(steps: int = 400, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    state = np.cumsum(random.random(steps) < 0.1) % 2
    x = ((random.normal(size=steps) + state) * 64).round() / 64  # float32 holds them as well
    return pd.DataFrame({"time": np.arange(steps) * 2, "x": x, "state": np.array(["off", "on"])[state]})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same recording as files of each form."""
    place, frame = tmp_path_factory.mktemp("windows"), recording()
    frame.to_csv(place / "rec.csv", index=False)
    frame.sample(frac=1, random_state=1).to_csv(place / "mixed.csv", index=False)
    frame.to_parquet(place / "rec.parquet", index=False)
    frame.to_json(place / "rec.ndjson", orient="records", lines=True)
    (place / "options.toml").write_text("window = 20\n[train]\nstride = 10\n")
    return place


@pytest.fixture(scope="module")
def model(folder: Path) -> TrainedModel:
    run("train", folder / "rec.csv", *ROLES, *FLAGS, "--window", 20, "--stride", 10, "--out", folder / "model")
    return bilstm.load(folder / "model")


# --- Every front -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rec.csv", "mixed.csv", "rec.parquet", "rec.ndjson"])
def test_every_file_and_order_of_rows_gives_the_same_model(folder: Path, model: TrainedModel, name: str) -> None:
    out = folder / f"{name}.model"
    run("train", folder / name, *ROLES, *FLAGS, "--config", folder / "options.toml", "--out", out)
    assert weight_bits(bilstm.load(out).network) == weight_bits(model.network)


@pytest.mark.parametrize("kind", ["path", "pandas", "polars", "dictionary"])
def test_python_gives_the_same_model(folder: Path, model: TrainedModel, kind: str) -> None:
    frame = recording()
    data = {"path": folder / "rec.csv", "pandas": frame, "polars": pl.from_pandas(frame)}
    data["dictionary"] = {name: frame[name].tolist() for name in frame}
    found = bilstm.train(
        data[kind], label="state", order="time", window=20, stride=10, baseline=False, verbose=False, **SMALL
    )
    assert weight_bits(found.network) == weight_bits(model.network)
    assert found.training == model.training


@pytest.mark.parametrize("kind", ["frame", "array", "ragged"])
def test_the_estimator_gives_the_same_model(model: TrainedModel, kind: str) -> None:
    frame = recording()
    how = {name: value for name, value in SMALL.items() if name != "seed"} | {"random_state": 3, "verbose": False}
    tagger = bilstm.SequenceTagger(window=20, stride=10, order="time" if kind == "frame" else None, **how)
    x, y = frame[["x"]].to_numpy(), frame["state"].to_numpy()
    if kind == "frame":
        tagger.fit(frame, "state")
        assert tagger.predict(frame).shape == (len(frame),)
        assert tagger.score(frame, "state") == np.mean(tagger.predict(frame) == y)
    else:
        tagger.fit([x] if kind == "array" else Ragged(x, [0, len(x)]), [y])
        assert tagger.predict([x])[0].shape == (len(frame),)
    assert weight_bits(tagger.model_.network) == weight_bits(model.network)
    assert tagger.training_["windows"] == model.training["windows"]


def test_an_estimator_is_saved_with_its_windows(tmp_path: Path) -> None:
    tagger = bilstm.SequenceTagger(window=30, stride=15, units=3, layers=1, epochs=1, random_state=1)
    tagger.fit(recording(), "state").save(tmp_path / "model")
    found = bilstm.SequenceTagger.load(tmp_path / "model")
    assert (found.window, found.stride) == (30, 15)
    assert np.array_equal(found.predict(recording(seed=1)), tagger.predict(recording(seed=1)))


def test_the_estimator_prints_what_it_trains_on(capsys: pytest.CaptureFixture[str]) -> None:
    bilstm.SequenceTagger(window=30, units=3, layers=1, epochs=1, random_state=1, verbose=True).fit(
        recording(), "state"
    )
    printed = capsys.readouterr().out
    assert "windows of 30 steps, " in printed
    assert "one every 30 steps" in printed
    assert "gaps between the sets: " in printed


@pytest.mark.parametrize("stride", [None, 5])
def test_partial_fit_trains_on_windows(stride: int | None) -> None:
    frame = recording(60)
    x, y = frame[["x"]].to_numpy(), frame["state"].to_numpy()
    how: dict[str, Any] = {"units": 3, "layers": 1, "random_state": 1, "batch_size": 2, "standardize": False}
    whole = bilstm.SequenceTagger(window=10, stride=stride, **how)
    whole.partial_fit([x], [y], classes=["off", "on"]).partial_fit([x], [y])
    starts = range(0, 51, stride or 10)
    parts = [x[i : i + 10] for i in starts], [y[i : i + 10] for i in starts]
    by_hand = bilstm.SequenceTagger(**how).partial_fit(*parts, classes=["off", "on"]).partial_fit(*parts)
    assert weight_bits(whole.model_.network) == weight_bits(by_hand.model_.network)


# --- Each option -----------------------------------------------------------------------------------------------------


def test_windows_and_strides_matter() -> None:
    found = {}
    for window, stride in ((20, None), (20, 20), (20, 5), (40, None)):
        how: dict[str, Any] = {"window": window, "stride": stride, "baseline": False, "verbose": False}
        model = bilstm.train(recording(), label="state", order="time", **how, **SMALL)
        found[window, stride] = tuple(weight_bits(model.network))
        assert model.training["options"]["window"] == window
        assert model.training["options"]["stride"] == stride
    assert found[20, None] == found[20, 20]
    assert len(set(found.values())) == 3


@pytest.mark.parametrize("window", [10, 20])
def test_the_same_as_windows_that_are_sequences_of_a_table(window: int) -> None:
    """With the same validation set, the whole product gives the same bits."""
    frame, other = recording(80), recording(50, seed=1)
    ids = np.arange(80) // window
    how: dict[str, Any] = {"label": "state", "order": "time", "baseline": False, "verbose": False, **SMALL}
    long = bilstm.train(frame, valid=other, window=window, **how)
    by_hand = bilstm.train(frame.assign(id=ids), sequence="id", valid=other.assign(id=0), **how)
    assert weight_bits(long.network) == weight_bits(by_hand.network)
    assert long.training["history"] == by_hand.training["history"]
    assert long.training["windows"] == by_hand.training["sequences"] == 80 // window
    assert long.training["sequences"] == long.training["validation_sequences"] == 1
    assert (long.training["gap_steps"], long.training["validation_steps"]) == (0, 50)


@pytest.mark.parametrize("window", [None, 20])
def test_several_recordings(folder: Path, tmp_path: Path, window: int | None) -> None:
    """In one table with a sequence column, or each in a file: windows are of one recording each."""
    frames = [recording(150, seed) for seed in range(3)]
    for number, frame in enumerate(frames):
        frame.to_csv(tmp_path / f"{number}.csv", index=False)
    joined = pd.concat([frame.assign(id=f"r{number}") for number, frame in enumerate(frames)])
    how: dict[str, Any] = {"label": "state", "order": "time", "baseline": False, "verbose": False, **SMALL}
    together = bilstm.train(joined, sequence="id", window=window, **how)
    if window is None:
        assert "windows" not in together.training
        assert together.training["sequences"] == 2  # a whole one is set aside
        return
    assert together.training["blocks"]
    files = bilstm.train([tmp_path / f"{number}.csv" for number in range(3)], window=window, **how)
    assert weight_bits(together.network) == weight_bits(files.network)
    scores = files.evaluate([tmp_path / f"{number}.csv" for number in range(3)])
    assert scores["sequences"] == 3
    assert "about 100 % of the sequences were in the training data" in scores["notes"][-1]
    other = files.adapted(sequence="id").evaluate(joined)
    assert other["sequences"] == 3
    assert other["accuracy"] == scores["accuracy"]


def test_a_resumed_training_ends_alike(tmp_path: Path) -> None:
    """In an epoch of windows that overlap."""
    from bilstm.model.columns import ColumnOptions
    from bilstm.model.opening import prepare_data

    options = bilstm.TrainingOptions(**SMALL | {"epochs": 3}, window=20, stride=7)
    prepared = prepare_data(recording(), ColumnOptions(None, ("state",), "time"), options)
    expected = train_prepared(prepared, options)

    class StopError(Exception):
        pass

    def stop(figures: dict[str, Any]) -> None:
        if figures["epoch"] == 2 and figures["done"] == 1.0:
            raise StopError

    with pytest.raises(StopError):
        train_prepared(prepared, options, progress=stop, checkpoint=Checkpoint(str(tmp_path / "kept")))
    resumed = train_prepared(prepared, options, checkpoint=Checkpoint(str(tmp_path / "kept"), resume=True))
    assert weight_bits(resumed.network) == weight_bits(expected.network)
    other = dataclasses.replace(options, stride=8)
    with pytest.raises(UserError, match="stride"):
        train_prepared(prepared, other, checkpoint=Checkpoint(str(tmp_path / "kept"), resume=True))


# --- Prediction is of the whole --------------------------------------------------------------------------------------


def test_prediction_runs_over_the_whole(folder: Path, model: TrainedModel, tmp_path: Path) -> None:
    frame = recording(seed=5)
    frame.to_csv(tmp_path / "new.csv", index=False)
    data = model.read(frame)
    assert len(data) == 1
    expected = model.network.predict(data.values)[0]
    assert np.array_equal(model.predict_proba(frame), expected)
    pieces = [model.network.predict([data.values.values[i : i + 20]])[0] for i in range(0, 400, 20)]
    assert not np.allclose(np.concatenate(pieces), expected)
    run("predict", folder / "model", tmp_path / "new.csv", "--out", tmp_path / "out.csv")
    found = pd.read_csv(tmp_path / "out.csv")
    assert found["predicted"].tolist() == model.predict(frame).tolist()
    lines = frame.drop(columns="state").to_json(orient="records", lines=True)
    run("predict", folder / "model", "-", "--out", tmp_path / "out.ndjson", given=lines)
    streamed = [json.loads(line) for line in (tmp_path / "out.ndjson").read_text().splitlines()]
    assert [line["predicted"] for line in streamed] == found["predicted"].tolist()


@pytest.mark.parametrize("name", ["new.csv", "-"])
def test_events_of_a_recording(folder: Path, model: TrainedModel, tmp_path: Path, name: str) -> None:
    frame = recording(seed=5)
    frame.to_csv(tmp_path / "new.csv", index=False)
    source = name if name == "-" else tmp_path / name
    lines = frame.to_json(orient="records", lines=True)
    run("predict", folder / "model", source, "--events", "--out", tmp_path / "events.ndjson", given=lines)
    events = [json.loads(line) for line in (tmp_path / "events.ndjson").read_text().splitlines()]
    predicted = model.predict(frame)
    assert len(events) == 1 + (predicted[1:] != predicted[:-1]).sum()
    assert {event["sequence"] for event in events} == {None}
    assert events[-1]["end"] in (frame["time"].iloc[-1], str(frame["time"].iloc[-1]))


def test_a_line_of_a_stream_that_is_wrong(folder: Path, model: TrainedModel) -> None:
    result = run("predict", folder / "model", "-", "--out", "-", given='{"time": 1, "z": 2}\n', status=2)
    assert "there is no 'x' (a feature of the model)" in result.stderr
    result = run("predict", folder / "model", "-", "--out", "-", given="x\n", status=2)
    assert '{"time": 1, "x": 0.5}' in result.stderr


def test_evaluation_of_the_recording_itself_is_reported(folder: Path, model: TrainedModel) -> None:
    seen = run("evaluate", folder / "model", folder / "rec.csv").output
    assert "1 sequence, 400 labelled steps" in seen
    assert "about 100 % of the sequences were in the training data" in seen
    new = model.evaluate(recording(seed=9))
    assert new["sequences"] == 1
    assert not any("training data" in note for note in new["notes"])


# --- What is reported ------------------------------------------------------------------------------------------------


def test_what_is_printed_and_kept(folder: Path, model: TrainedModel) -> None:
    printed = run(
        "train", folder / "rec.csv", *ROLES, *FLAGS, "--window", 20, "--stride", 10, "--out", folder / "again"
    ).output
    record = model.training
    lines = {line.partition(": ")[0]: line.partition(": ")[2] for line in printed.splitlines()}
    assert lines["training set"].endswith(f"{record['steps']} in all")
    assert " block" in lines["training set"]
    assert lines["trained on"].startswith(f"{record['windows']} windows of 20 steps")
    assert lines["trained on"].endswith("one every 10 steps")
    assert lines["validation set"].endswith(f"{record['validation_steps']} in all")
    assert lines["gaps between the sets"].startswith(f"{record['gap_steps']} steps, ")
    assert record["steps"] + record["validation_steps"] + record["gap_steps"] == 400
    assert (folder / "again").read_bytes() == (folder / "model").read_bytes()
    shown = run("inspect", folder / "model").output
    assert "all of one sequence, ordered by 'time'" in shown
    assert f"trained on {record['windows']} windows of up to 20 steps, one every 10 steps, from " in shown
    facts = json.loads(run("inspect", folder / "model", "--json").output)
    assert facts["columns"]["one_sequence"] is True
    assert facts["training"]["windows"] == record["windows"]


@pytest.mark.parametrize(("name", "value"), [("windows", "many"), ("gap_steps", -1), ("blocks", 1)])
def test_a_damaged_record_is_refused(model: TrainedModel, tmp_path: Path, name: str, value: Any) -> None:
    damaged = TrainedModel(model.schema, model.task, model.network, model.training | {name: value})
    damaged.save(tmp_path / "model")
    with pytest.raises(ModelFileError, match="the record of its training is damaged"):
        bilstm.load(tmp_path / "model")


def test_windows_shorter_than_asked_for_are_reported(tmp_path: Path) -> None:
    recording(100).to_csv(tmp_path / "rec.csv", index=False)
    how = ["--window", 40, "--validation-split", 0.1, "--out", tmp_path / "model"]
    printed = run("train", tmp_path / "rec.csv", *ROLES, *FLAGS, *how).output
    assert "% of all" in printed
    assert "trained on: " in printed


@pytest.mark.parametrize(
    ("steps", "advice"), [(20_000, "--window 500 (window=500) "), (300, "--window 10 "), (50, "--window STEPS ")]
)
def test_a_window_that_fits_is_suggested(steps: int, advice: str) -> None:
    assert window_advice(steps).startswith(advice)


def test_one_sequence_without_windows_is_advised() -> None:
    frame = recording(400).assign(id=1)
    with pytest.raises(
        UserError, match=r"set aside: give .* of their own; --window 20 \(window=20\) trains on windows"
    ):
        compare(frame, label="state", sequence="id", order="time", **SMALL | {"epochs": 1})
    with pytest.raises(UserError, match=r"If the table is one long recording, --window 20 \(window=20\) trains on"):
        bilstm.train(frame, label="state", order="time", **SMALL)


# --- What makes no sense ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("front", ["train", "fit", "compare"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window must be"),
        ({"window": 10, "stride": 0}, "stride must be"),
        ({"window": 10, "stride": 11}, "stride must be at most window"),
        ({"stride": 11}, "no effect without window"),
        ({"window": 401}, "is longer than the longest sequence, which has 400 steps"),
        ({"window": 200}, "400 steps are too few for a training and a validation (and a test )?set with labels, wind"),
        (
            {"window": 120, "validation_split": 0.5},
            "windows of 120 steps, and gaps of as many between the sets: choose",
        ),
    ],
)
def test_windows_that_make_no_sense(front: str, options: dict[str, Any], message: str) -> None:
    how = {name: value for name, value in (SMALL | options).items() if name != "seed"}
    fronts = {
        "train": lambda: bilstm.train(recording(), label="state", order="time", verbose=False, **how),
        "fit": lambda: bilstm.SequenceTagger(order="time", random_state=3, **how).fit(recording(), "state"),
        "compare": lambda: compare(recording(), label="state", order="time", vary={"cell": ["lstm", "gru"]}, **how),
    }
    with pytest.raises((UserError, ValueError), match=message):
        fronts[front]()


def test_windows_need_an_answer_for_each_step() -> None:
    x = [np.zeros((30, 1)), np.ones((30, 1))] * 5
    with pytest.raises(UserError, match="whose steps have answers of their own, but the task is sequence-label"):
        bilstm.SequenceClassifier(window=10).fit(x, ["a", "b"] * 5)
    frame = recording().assign(id=np.arange(400) // 40)
    frame["state"] = np.where(frame["id"] % 2, "on", "off")
    with pytest.raises(UserError, match="say what is meant with --task step-label"):
        bilstm.train(frame, label="state", sequence="id", window=10, **SMALL)


def test_labels_by_sequence_do_not_go_with_one_recording() -> None:
    labels = pd.DataFrame({"id": [1], "y": ["a"]})
    with pytest.raises(UserError, match="has labels by sequence, so name the column"):
        bilstm.train(recording(), labels=labels, window=10, **SMALL)


# --- Comparisons -----------------------------------------------------------------------------------------------------


def test_windows_vary_on_the_same_sets(folder: Path) -> None:
    flags = ["--units", 3, "--layers", 1, "--epochs", 1, "--seeds", 1, "--vary", "window=10,20"]
    printed = run("compare", folder / "rec.csv", *ROLES, *flags).output
    assert "to compare: window 10, window 20" in printed
    assert "note: test set: it is of recordings that are trained on as well" in printed
    assert " blocks with labels and may be too narrow" in printed or "test blocks have labels" in printed
    plan = plan_comparison(
        recording(3000),
        columns={"label": "state", "order": "time"},
        vary={"window": [10, 50], "stride": [None, 5]},
        options={"units": 3},
    )
    assert len(plan.variants) == 4
    assert plan.prepared.validation is not None
    sets = [plan.prepared.training.rows, plan.prepared.validation.rows, plan.test.rows]
    for one in range(3):
        for other in range(one):
            assert np.abs(sets[one][:, np.newaxis] - sets[other]).min() > 50
    assert sum(map(len, sets)) + plan.prepared.gap_steps == 3000


def test_windows_can_be_compared_with_random_ones() -> None:
    frame = recording()
    report = compare(frame, label="state", order="time", vary={"window": [None, 20]}, seeds=1, units=2, epochs=1)
    assert [variant["name"] for variant in report["variants"]] == ["window None", "window 20"]


def test_a_test_set_of_its_own(folder: Path) -> None:
    other = recording(seed=4)
    plan = plan_comparison(
        recording(), columns={"label": "state", "order": "time"}, test=other, vary={"window": [10, 20]}, options={}
    )
    assert len(plan.test) == 1
    assert plan.prepared.training.blocks
    assert not plan.test.blocks
