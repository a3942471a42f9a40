"""Training a model: what each option does, when training stops, what is kept, and that the future is found."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilstm import problems, utils
from bilstm.data.dataset import Dataset
from bilstm.data.features import CategoricalColumn, NumericColumn
from bilstm.data.memory import Cells, MemoryTable
from bilstm.data.reading import read_table
from bilstm.data.schema import Schema
from bilstm.errors import ModelFileError, UserError
from bilstm.model import TrainedModel
from bilstm.model.columns import ColumnOptions
from bilstm.model.network import build_network, embedding_dimension
from bilstm.model.prepare import Prepared, prepare
from bilstm.model.training import train_prepared
from bilstm.modelfile import read_model, write_model
from bilstm.models import Sequential
from bilstm.ragged import Ragged
from bilstm.splitting import default_share, split
from bilstm.tasks import LabelTask
from bilstm.training import windows
from bilstm.training.options import TrainingOptions
from bilstm.training.planning import batches_by_length
from oracles.models import bits, weight_bits

pytestmark = pytest.mark.fast

COLUMNS = Schema("id", None, (NumericColumn("x", 0.0, 1.0),), ())
WITH_WORDS = Schema("id", None, (NumericColumn("x", 0.0, 1.0),), (CategoricalColumn("w", ("a", "b", "c")),))
TASK = LabelTask(("label",), False, ("0", "1"), "integer")


def small(**keywords: Any) -> TrainingOptions:
    quick: dict[str, Any] = {"units": 4, "layers": 1, "epochs": 2, "batch_size": 8, "dropout": 0.1}
    return TrainingOptions(**quick | keywords)


def encoded(x: Ragged, y: Any) -> Dataset:
    return Dataset(x, np.arange(x.total_steps), np.asarray(y, np.int32).reshape(-1))


def echoes(count: int, lag: int = 1, seed: int = 0, steps: tuple[int, int] = (3, 9)) -> Dataset:
    x, y = problems.echo(count, steps, lag=lag, seed=seed, ragged=True)
    return encoded(x, y.values)


def with_words(data: Dataset) -> Dataset:
    """The same with a word at each step, for WITH_WORDS."""
    words = np.random.default_rng(1).integers(4, size=(data.values.total_steps, 1))
    values = data.values.with_values(np.hstack([data.values.values, words]))
    return dataclasses.replace(data, values=values)


def ready(
    data: Dataset,
    validation: Dataset | None = None,
    *,
    schema: Schema = COLUMNS,
    share: float | None = None,
    seed: int = 1,
    task: Any = TASK,
) -> Prepared:
    """Encoded sequences as they come from a table; without a validation set a share of them is set aside."""
    table = MemoryTable({"x": Cells("number", np.zeros(1))})
    if validation is None:
        labelled = np.ones(len(data), np.bool_)
        kept, aside = split(labelled, default_share(share, len(data), task.per_sequence), seed=seed)
        validation = data.take(aside) if len(aside) else None
        data = data.take(kept)
    return Prepared(table, schema, task, data, validation)


def train(
    count: int = 40,
    schema: Schema = COLUMNS,
    data: Dataset | None = None,
    validation: Dataset | None = None,
    baseline: bool = False,
    progress: Any = None,
    **options: Any,
) -> TrainedModel:
    how = small(**options)
    share, seed = how.validation_split, how.seed
    prepared = ready(data or echoes(count), validation, schema=schema, share=share, seed=seed)
    return train_prepared(prepared, how, baseline=baseline, progress=progress)


def layers_of(model: TrainedModel, kind: str) -> list[dict[str, Any]]:
    layers = model.network.get_config()["layers"]
    return [layer["config"] for layer in layers if layer["class_name"] == kind]


def accuracy(model: TrainedModel, data: Dataset) -> float:
    labels = data.known
    return float((model.outputs(data.values).labels == labels)[labels >= 0].mean())


# --- Batches ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 500), max_size=80), st.integers(1, 9), st.integers(0, 99))
def test_every_sequence_is_in_one_batch(lengths: list[int], batch_size: int, seed: int) -> None:
    batches = list(batches_by_length(np.array(lengths, np.int64), batch_size, np.random.default_rng(seed)))
    assert sorted(int(i) for batch in batches for i in batch) == list(range(len(lengths)))
    assert all(0 < len(batch) <= batch_size for batch in batches)
    again = batches_by_length(np.array(lengths, np.int64), batch_size, np.random.default_rng(seed))
    assert [batch.tolist() for batch in again] == [batch.tolist() for batch in batches]


def test_sequences_of_a_batch_are_of_similar_length() -> None:
    random = np.random.default_rng(1)
    lengths = random.integers(1, 1000, 64)
    batches = list(batches_by_length(lengths, 8, random))
    spread = [lengths[batch].max() - lengths[batch].min() for batch in batches]
    assert np.mean(spread) < 300  # of 1000; by chance nearly 800


def test_batches_differ_from_epoch_to_epoch() -> None:
    random = np.random.default_rng(1)
    first, second = ([b.tolist() for b in batches_by_length(np.arange(1, 65), 8, random)] for _ in range(2))
    assert first != second


@pytest.mark.parametrize("longest", [7, 10_000])
def test_long_sequences_are_cut_for_training_without_losing_a_step(
    longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "LONGEST", longest)
    data, epochs = echoes(12, steps=(5, 40)), []
    train_batches = Sequential.train_batches

    def watch(model: Sequential, given_: Any, chosen: Any, starts: Any) -> Any:
        pieces = given_.data
        if not epochs or sum(len(piece) for piece in epochs[-1]) == pieces.total_steps:
            epochs.append([])
        epochs[-1] += [range(pieces.offsets[i], pieces.offsets[i + 1]) for i in chosen]
        return train_batches(model, given_, chosen, starts)

    monkeypatch.setattr(Sequential, "train_batches", watch)
    train(data=data, epochs=3, validation_split=0.0)
    assert len(epochs) == 3
    ends = set(data.values.offsets.tolist())
    for pieces in epochs:
        assert sorted(step for piece in pieces for step in piece) == list(range(data.values.total_steps))
        assert max(map(len, pieces)) <= longest
        assert ends <= {0, *(piece.stop for piece in pieces)}  # no piece reaches over a sequence's end
    if longest == 7:
        assert sorted(map(repr, epochs[0])) != sorted(map(repr, epochs[1]))  # cut elsewhere each time


# --- Learning --------------------------------------------------------------------------------------------------------


def table_of(folder: Path, count: int, seed: int, name: str) -> Any:
    """A long table whose label tells whether the next number exceeds one half; of the text, only one word in two."""
    x, y = problems.echo(count, (4, 12), lag=1, seed=seed, ragged=True)
    lines = ["series,x,word,label"]
    for i, (numbers, labels) in enumerate(zip(x, y, strict=True)):
        for number, label in zip(numbers[:, 0], labels[:, 0], strict=True):
            lines.append(f"s{i},{number:.4f},{'above' if number > 0.5 else 'below'},{int(label)}")
    (folder / name).write_text("\n".join(lines) + "\n")
    return read_table(folder / name)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = tmp_path_factory.mktemp("tables")
    return table_of(folder, 120, 1, "training.csv"), table_of(folder, 60, 2, "test.csv")


@pytest.mark.parametrize("features", [["x"], ["word"], ["x", "word"]], ids="+".join)
def test_the_next_number_is_learned_from_a_table(tables: tuple[Any, Any], features: list[str]) -> None:
    columns = ColumnOptions("series", ("label",), features=features)
    options = TrainingOptions(units=12, layers=1, epochs=25, batch_size=8, learning_rate=0.03, dropout=0.0)
    model = train_prepared(prepare(tables[0], columns, seed=1), options)
    found = model.read(tables[1], with_truth=True)
    assert accuracy(model, found) > 0.95
    probabilities = model.predict_proba(tables[1])
    assert (probabilities.shape, probabilities.dtype) == ((found.values.total_steps, 2), np.float32)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("direction", "lag", "learns"),
    [
        ("both", 1, True),
        ("both", -1, True),
        ("forward", 1, False),
        ("forward", -1, True),
        ("backward", 1, True),
        ("backward", -1, False),
        ("none", 1, False),
        ("none", -1, False),
        ("none", 0, True),
    ],
)
def test_a_direction_finds_what_it_can_see(direction: str, lag: int, learns: bool) -> None:
    options = {"units": 8, "epochs": 20, "learning_rate": 0.03, "dropout": 0.0, "direction": direction}
    model = train(data=echoes(100, lag), **options)
    score = accuracy(model, echoes(100, lag, seed=9))
    assert score > 0.95 if learns else score < 0.75


# --- The same again --------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_model_at_any_number_of_threads() -> None:
    before, found = utils.threads(), []
    try:
        for threads in (1, 3):
            utils.set_threads(threads)
            model = train(seed=5)
            found.append((weight_bits(model.network), model.training["history"]))
    finally:
        utils.set_threads(before)
    assert found[0] == found[1]
    assert weight_bits(train(seed=6).network) != found[0][0]


def test_batches_where_nothing_is_labelled_change_nothing() -> None:
    data = echoes(20)
    nothing = dataclasses.replace(data, truth=np.full_like(data.known, -1))
    losses: list[float] = []
    model = train(data=nothing, validation_split=0.0, progress=lambda call: losses.append(call["loss"]))
    assert weight_bits(model.network) == weight_bits(build_network(COLUMNS, TASK, small()))
    assert losses


# --- Options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("units", [3, 5])
def test_units(units: int) -> None:
    assert layers_of(train(units=units), "Bidirectional")[0]["layer"]["config"]["units"] == units


@pytest.mark.parametrize("layers", [1, 3])
def test_layers(layers: int) -> None:
    assert len(layers_of(train(layers=layers), "Bidirectional")) == layers


@pytest.mark.parametrize("merge_mode", ["concat", "sum", "mul", "ave"])
def test_merge_modes(merge_mode: str) -> None:
    model = train(merge_mode=merge_mode)
    assert layers_of(model, "Bidirectional")[0]["merge_mode"] == merge_mode
    assert model.network.get_weights()[-2].shape == (8 if merge_mode == "concat" else 4, 2)


@pytest.mark.parametrize(("cell", "name"), [("lstm", "LSTM"), ("gru", "GRU"), ("simple", "SimpleRNN")])
def test_cells(cell: str, name: str) -> None:
    assert layers_of(train(cell=cell), "Bidirectional")[0]["layer"]["class_name"] == name
    assert len(layers_of(train(cell=cell, direction="backward"), name)) == 1


def test_cells_without_recurrence() -> None:
    with pytest.raises(UserError, match="cell has no effect with direction 'none', which has no recurrent layers"):
        train(cell="gru", direction="none")


def test_directions() -> None:
    assert layers_of(train(direction="both"), "LSTM") == []
    forward, backward = train(direction="forward"), train(direction="backward")
    assert [lstm["go_backwards"] for lstm in layers_of(forward, "LSTM") + layers_of(backward, "LSTM")] == [False, True]
    assert (len(layers_of(forward, "Reverse")), len(layers_of(backward, "Reverse"))) == (0, 1)
    alone = train(direction="none", units=7, layers=2)
    assert layers_of(alone, "LSTM") + layers_of(alone, "Bidirectional") == []
    assert [layer["layer"]["config"]["units"] for layer in layers_of(alone, "TimeDistributed")] == [7, 7, 2]


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_dropout(dropout: float) -> None:
    model = train(dropout=dropout)
    assert {layer["rate"] for layer in layers_of(model, "Dropout")} <= {dropout}
    assert dropout == 0 or layers_of(model, "Dropout")


@pytest.mark.parametrize("kept", [False, True])
def test_variational_dropout(kept: bool) -> None:
    model = train(data=with_words(echoes(10)), schema=WITH_WORDS, dropout=0.2, layers=2, variational_dropout=kept)
    counts = [len(layers_of(model, name)) for name in ("Dropout", "SpatialDropout1D")]
    assert counts == [0, 3][:: -1 if not kept else 1]
    with pytest.raises(ValueError, match="training: variational_dropout must be one of True, False, not 'sequence'"):
        small(variational_dropout="sequence")


def test_weight_decay() -> None:
    norms = [
        sum(float((weight**2).sum()) for weight in train(weight_decay=weight_decay).network.get_weights())
        for weight_decay in (0.0, 1.0, 50.0)
    ]
    assert norms[0] > norms[1] > norms[2]
    for weight_decay in (-1, float("nan"), float("inf"), 100):
        with pytest.raises(
            ValueError, match="training: weight_decay must be a number from 0 to below 1 / learning_rate"
        ):
            small(weight_decay=weight_decay, learning_rate=0.01)


def test_class_weights() -> None:
    """What is rare is guessed more often where it counts for more; balanced counts are those of the training part."""
    rare = echoes(40)
    rare.known[:] = np.random.default_rng(3).random(len(rare.known)) < 0.15
    guessed = [
        train(data=rare, class_weight=weight, epochs=6).outputs(rare.values).labels.mean()
        for weight in (None, "balanced", {"1": 9.0}, {"1": 100.0})
    ]
    assert guessed[0] < 0.1
    assert guessed[0] < guessed[1]
    assert guessed[3] > 0.9
    with pytest.raises(UserError, match="class_weight has 'other', which is none of the classes"):
        train(class_weight={"other": 2.0})


@pytest.mark.parametrize("embedding", [2, 5, None])
def test_embeddings(embedding: int | None) -> None:
    model = train(data=with_words(echoes(10)), schema=WITH_WORDS, embedding=embedding)
    config = layers_of(model, "ColumnEmbedding")[0]
    assert (config["numeric"], config["vocabularies"]) == (1, [4])
    assert config["dimensions"] == [embedding or embedding_dimension(4)]


@pytest.mark.parametrize(("layers", "of_words", "of_numbers"), [(None, 3, 2), (1, 1, 1), (2, 2, 2)])
def test_words_get_a_layer_more(layers: int | None, of_words: int, of_numbers: int) -> None:
    only_words = dataclasses.replace(WITH_WORDS, numeric=())
    for columns, expected in ((only_words, of_words), (WITH_WORDS, of_numbers), (COLUMNS, of_numbers)):
        model = build_network(columns, TASK, small(layers=layers))
        assert sum(layer.__class__.__name__ == "Bidirectional" for layer in model.layers) == expected


def test_the_default_validation_set_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    for most, count in ((1000, 4), (3, 3)):
        monkeypatch.setattr("bilstm.splitting.MOST_SET_ASIDE", most)
        assert train(40).training["validation_sequences"] == count


@given(st.integers(1, 10**6))
def test_larger_vocabularies_have_larger_embeddings(vocabulary: int) -> None:
    size = embedding_dimension(vocabulary)
    assert type(size) is int
    assert 1 <= size <= embedding_dimension(vocabulary + 1) <= 1000


@pytest.mark.parametrize("epochs", [1, 3])
def test_epochs(epochs: int) -> None:
    summary = train(epochs=epochs, patience=50).training
    assert summary["epochs"] == epochs
    assert {len(values) for values in summary["history"].values()} == {epochs}
    assert summary["stopped"] == "all epochs done"


@pytest.mark.parametrize("batch_size", [3, 50])
def test_batch_sizes(batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    train_batches = Sequential.train_batches

    def watch(model: Sequential, data: Any, chosen: Any, starts: Any) -> Any:
        sizes.extend(np.diff(starts).tolist())
        return train_batches(model, data, chosen, starts)

    monkeypatch.setattr(Sequential, "train_batches", watch)
    train(40, batch_size=batch_size, validation_split=0.0, epochs=1)
    assert max(sizes) == min(batch_size, 40)
    assert sum(sizes) == 40


def test_learning_rates() -> None:
    slow, fast = train(learning_rate=1e-6), train(learning_rate=0.05)
    initial = build_network(COLUMNS, TASK, small()).get_weights()
    moved = [
        max(float(np.abs(a - b).max()) for a, b in zip(model.network.get_weights(), initial, strict=True))
        for model in (slow, fast)
    ]
    assert moved[0] < 1e-3 < moved[1]


@pytest.mark.parametrize(("share", "aside"), [(0.0, 0), (0.1, 4), (0.5, 20), (0.001, 1), (0.999, 39)])
def test_validation_split(share: float, aside: int) -> None:
    summary = train(40, validation_split=share, epochs=1).training
    assert summary["validation_sequences"] == aside
    assert summary["sequences"] == 40 - aside
    assert ("val_accuracy" in summary["history"]) == (aside > 0)


def test_a_validation_table_of_ones_own() -> None:
    data, validation = echoes(20), echoes(7, seed=3)
    summary = train(data=data, validation=validation, validation_split=0.5).training
    assert (summary["sequences"], summary["validation_sequences"]) == (20, 7)
    assert summary["steps"] == data.values.total_steps


def test_a_single_sequence_is_trained_on() -> None:
    summary = train(1).training
    assert (summary["sequences"], summary["validation_sequences"]) == (1, 0)


def by_chance(count: int, seed: int) -> Dataset:
    """Nothing can be learned of these labels that makes validation better for long."""
    data = echoes(count, seed=seed)
    labels = np.random.default_rng(seed).integers(2, size=len(data.known), dtype=np.int32)
    return dataclasses.replace(data, truth=labels)


@pytest.mark.parametrize("patience", [1, 3])
def test_patience(patience: int) -> None:
    summary = train(data=by_chance(30, 1), patience=patience, epochs=80, learning_rate=0.02).training
    assert summary["epochs"] - summary["best_epoch"] == patience
    assert summary["epochs"] < 80
    assert summary["stopped"] == f"no better for {patience} epochs"


def test_the_weights_of_the_best_epoch_are_kept() -> None:
    validation = by_chance(20, 2)
    options = {"patience": 3, "epochs": 80, "learning_rate": 0.02, "calibrate": False}
    model = train(data=by_chance(30, 1), validation=validation, **options)
    history, best = model.training["history"], model.training["best_epoch"]
    assert best == model.training["epochs"] - 3
    kept = model.network.evaluate(validation.values, validation.known, return_dict=True)
    assert kept == {name: history[f"val_{name}"][best - 1] for name in ("loss", "accuracy")}
    assert history["val_loss"][-1] != history["val_loss"][best - 1]


@pytest.mark.parametrize("limit", [1e-9, None, 1000.0])
def test_time_limits(limit: float | None) -> None:
    model = train(epochs=3, time_limit=limit)
    stopped = limit == 1e-9
    assert model.training["epochs"] == (1 if stopped else 3)
    assert model.training["stopped"] == ("the time limit was reached" if stopped else "all epochs done")
    assert np.isfinite(model.outputs(echoes(3).values).values).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"units": 0}, ValueError, "training: units must be at least 1, not 0"),
        ({"layers": 0}, ValueError, "training: layers must be at least 1, not 0"),
        ({"patience": 0}, ValueError, "training: patience must be at least 1, not 0"),
        ({"embedding": 0}, ValueError, "training: embedding must be at least 1, not 0"),
        ({"epochs": 0}, ValueError, "training: epochs must be at least 1, not 0"),
        ({"batch_size": 2.5}, TypeError, "training: batch_size must be a whole number, not 2.5"),
        (
            {"merge_mode": "avg"},
            ValueError,
            "training: merge_mode must be one of 'concat', 'sum', 'mul', 'ave', not 'avg'; did you mean 'ave'?",
        ),
        ({"cell": "rnn"}, ValueError, "training: cell must be one of 'lstm', 'gru', 'simple', not 'rnn'"),
        (
            {"direction": "backwards"},
            ValueError,
            "training: direction must be one of 'both', 'forward', 'backward', 'none', not 'backwards'; did you "
            "mean 'backward'?",
        ),
        ({"dropout": 1.0}, ValueError, "training: dropout must be at least 0 and below 1, not 1.0"),
        ({"validation_split": -0.1}, ValueError, "training: validation_split must be at least 0 and below 1, not -0.1"),
        ({"learning_rate": 0}, ValueError, "training: learning_rate must be a positive number, not 0"),
        ({"learning_rate": float("nan")}, ValueError, "training: learning_rate must be a positive number, not nan"),
        ({"time_limit": -1}, ValueError, "training: time_limit must be a positive number, not -1"),
        ({"time_limit": float("inf")}, ValueError, "training: time_limit must be a positive number, not inf"),
    ],
)
def test_impossible_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match="^" + re.escape(message) + "$"):
        TrainingOptions(**options)


@pytest.mark.parametrize("weight", ["much", None, [1]])
def test_class_weights_are_numbers(weight: Any) -> None:
    with pytest.raises(ValueError, match="training: class_weight of 'a' must be a number, not "):
        TrainingOptions(class_weight={"a": weight})


def test_numbers_of_numpy_make_the_same_file(tmp_path: Path) -> None:
    own: dict[str, Any] = {"units": 3, "seed": 2, "dropout": 0, "time_limit": 1000, "class_weight": {0: 2, 1: 1}}
    foreign = {"units": np.int64(3), "seed": np.uint8(2), "dropout": np.float32(0), "time_limit": np.float64(1000)}
    foreign["class_weight"] = {np.int64(0): np.float32(2), np.int8(1): 1.0}  # type: ignore[assignment]
    for name, options in (("own", own), ("foreign", foreign)):
        train(20, **options).save(tmp_path / name)
    assert (tmp_path / "own").read_bytes() == (tmp_path / "foreign").read_bytes()


def test_every_option_is_tested_here() -> None:
    tested = {
        *("units", "layers", "merge_mode", "direction", "dropout", "embedding", "epochs", "batch_size"),
        *("variational_dropout", "weight_decay", "class_weight", "pooling", "conv", "calibrate", "cell"),
        *("learning_rate", "patience", "validation_split", "seed", "time_limit"),
        *("window", "stride"),  # in laws/test_windows.py and test_windows.py
        *("characters", "unknown_words", "freeze_vectors"),  # in test_characters.py and test_wordvectors.py
        *("output", "scheme", "train_scheme"),  # in test_tagging.py, test_constrained.py and test_learnedtags.py
    }
    assert set(TrainingOptions.__dataclass_fields__) == tested


def test_defaults_train() -> None:
    data = echoes(6)
    assert train_prepared(ready(data), TrainingOptions(epochs=1)).training["epochs"] == 1


# --- Summary and progress --------------------------------------------------------------------------------------------


def test_the_summary_is_plain_data() -> None:
    data = echoes(40)
    summary = train(data=data, epochs=3).training
    assert json.loads(json.dumps(summary)) == summary
    assert summary["sequences"] + summary["validation_sequences"] == 40
    assert 0 < summary["steps"] < data.values.total_steps
    assert set(summary["history"]) == {"loss", "val_loss", "val_accuracy"}
    assert summary["options"]["units"] == 4
    assert 1 <= summary["best_epoch"] <= summary["epochs"] == 3


@pytest.mark.parametrize("split", [0.0, 0.2])
def test_progress_is_reported(split: float) -> None:
    calls: list[dict[str, Any]] = []
    model = train(40, epochs=3, validation_split=split, progress=calls.append)
    assert all(call["epochs"] == 3 and 0 <= call["done"] <= 1 and np.isfinite(call["loss"]) for call in calls)
    places = [(call["epoch"], call["done"]) for call in calls]
    assert places == sorted(places)
    ends = [call for call in calls if call["done"] == 1]
    assert [call["epoch"] for call in ends] == [1, 2, 3]
    for name, values in model.training["history"].items():
        assert [call[name] for call in ends] == values
    assert ("val_accuracy" in ends[0]) == (split > 0)


# --- Files -----------------------------------------------------------------------------------------------------------


def test_a_saved_model_predicts_the_same_to_the_last_bit(tmp_path: Path) -> None:
    model, data = train(baseline=True), echoes(10, seed=4)
    model.save(tmp_path / "m")
    again = TrainedModel.load(tmp_path / "m")
    assert bits(again.outputs(data.values).values) == bits(model.outputs(data.values).values)
    assert (again.schema, again.task, again.training) == (model.schema, model.task, model.training)
    assert again.baseline is not None
    assert model.baseline is not None
    assert bits(again.baseline.outputs(data.values).values) == bits(model.baseline.outputs(data.values).values)
    again.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "m").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"kind": "sequential"},
            "holds a sequential network without the columns that it reads: open it with bilstm.load_model, or train a "
            "model with `bilstm train` or an estimator",
        ),
        ({"schema": None}, "is not a valid model: the model is damaged: its columns "),
        ({"task": None}, "is not a valid model: the model is damaged: its task "),
        ({"training": 5}, "is not a valid model: the record of its training is missing"),
        ({"network": None}, "is not a valid model: it describes no model"),
        ({"schema": WITH_WORDS.to_json()}, "is not a valid model: its network does not fit its columns"),
        (
            {"task": TASK.to_json() | {"classes": ["0", "1", "2"]}},
            "is not a valid model: its network does not fit its columns",
        ),
        (
            {"task": {"kind": "step-labels", "columns": ["a", "b"]}},
            "is not a valid model: its network does not fit its columns",
        ),
        (
            {"task": TASK.to_json() | {"kind": "sequence-label"}},
            "is not a valid model: its network does not fit its columns",
        ),
    ],
)
def test_parts_that_do_not_belong_together(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_changed(tmp_path / "m", train(epochs=1), change)
    with pytest.raises(ModelFileError, match="^" + re.escape(f"{tmp_path / 'm'} {message}")):
        TrainedModel.load(tmp_path / "m")


@pytest.mark.parametrize("words", [("a", "b"), ("a", "b", "c", "d")])
def test_a_vocabulary_must_fit_its_embedding(words: tuple[str, ...], tmp_path: Path) -> None:
    model = train(data=with_words(echoes(10)), schema=WITH_WORDS, epochs=1)
    schema = dataclasses.replace(WITH_WORDS, categorical=(CategoricalColumn("w", words),))
    write_changed(tmp_path / "m", model, {})
    assert TrainedModel.load(tmp_path / "m").schema == WITH_WORDS
    write_changed(tmp_path / "m", model, {"schema": schema.to_json()})
    with pytest.raises(ModelFileError, match="m is not a valid model: its network does not fit its columns"):
        TrainedModel.load(tmp_path / "m")


def write_changed(path: Path, model: TrainedModel, change: dict[str, Any]) -> None:
    """A model's file with something changed in its header."""
    model.save(path)
    tensors, header = read_model(path)
    write_model(path, tensors, header | change)
