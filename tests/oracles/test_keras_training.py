"""Live against Keras 3: learning rates that change, logs in files, batches from generators, padding, and its names."""

from __future__ import annotations

import csv
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bilstm.callbacks
import bilstm.layers
import bilstm.models
import bilstm.optimizers
import bilstm.utils

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what Keras's and PyTorch's own imports warn of is not ours to judge
    keras = pytest.importorskip("keras")

# PyTorch and Keras warn of their own use of each other; bilstm's warnings stay errors.
pytestmark = pytest.mark.filterwarnings("ignore:::keras", "ignore:::torch")

LIBRARIES = (bilstm, keras)


def models(optimizer: Any = None, metrics: Any = None) -> list[Any]:
    """A small model of each library with the same weights, compiled; `optimizer` is made of each library."""
    made: list[Any] = []
    for library in LIBRARIES:
        layers = library.layers
        recurrent = layers.Bidirectional(layers.LSTM(3, return_sequences=True))
        model = library.models.Sequential([layers.Input((4, 2)), recurrent, layers.Dense(1, activation="sigmoid")])
        if made:
            model.set_weights(made[0].get_weights())
        model.compile(
            loss="binary_crossentropy",
            optimizer=optimizer(library) if optimizer else "adam",
            metrics=metrics,
        )
        made.append(model)
    return made


def data(count: int = 11, seed: int = 1) -> tuple[Any, Any]:
    x = np.random.default_rng(seed).random((count, 4, 2)).astype(np.float32)
    return x, (x.sum(axis=2, keepdims=True) > 1).astype(np.float32)


def assert_same(histories: list[Any]) -> None:
    mine, other = (history.history for history in histories)
    assert set(mine) == set(other)
    for name in mine:
        np.testing.assert_allclose(mine[name], other[name], rtol=2e-4, err_msg=name)


# --- Learning rates --------------------------------------------------------------------------------------------------

SCHEDULES = [
    ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.5}),
    ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.5, "staircase": True}),
    ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 7}),
    ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 7, "alpha": 0.2}),
    ("CosineDecay", {"initial_learning_rate": 0.0, "decay_steps": 5, "warmup_target": 0.1, "warmup_steps": 4}),
    ("PiecewiseConstantDecay", {"boundaries": [2, 5], "values": [0.1, 0.05, 0.01]}),
]


@pytest.mark.parametrize(("name", "arguments"), SCHEDULES)
def test_schedules(name: str, arguments: dict[str, Any]) -> None:
    mine, other = (getattr(library.optimizers.schedules, name)(**arguments) for library in LIBRARIES)
    for step in range(12):
        assert mine(step) == pytest.approx(float(np.asarray(other(step).cpu())), rel=1e-6, abs=1e-8)
    assert type(mine)(**mine.get_config()).get_config() == mine.get_config()
    assert repr(mine).startswith(f"{name}(")


@pytest.mark.parametrize(("name", "arguments"), SCHEDULES)
@pytest.mark.parametrize("kind", ["Adam", "SGD"])
def test_training_by_a_schedule(kind: str, name: str, arguments: dict[str, Any]) -> None:
    """Steps are counted from one fit to the next, and by train_on_batch."""
    x, y = data()

    def optimizer(library: Any) -> Any:
        return getattr(library.optimizers, kind)(getattr(library.optimizers.schedules, name)(**arguments))

    made = models(optimizer)
    for _ in range(2):
        assert_same([model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0) for model in made])
    losses = [[float(model.train_on_batch(x, y)) for _ in range(2)] for model in made]
    np.testing.assert_allclose(*losses, rtol=2e-4)


def test_reducing_on_a_plateau() -> None:
    x, y = data()
    for arguments in (
        {"patience": 1, "factor": 0.5, "min_delta": 10.0},
        {"patience": 2, "factor": 0.1, "min_delta": 10.0, "min_lr": 0.0005},
        {"patience": 1, "factor": 0.5, "min_delta": 10.0, "cooldown": 2},
        {"patience": 1, "monitor": "accuracy", "mode": "max", "min_delta": 1.0},
        {"patience": 1, "monitor": "loss", "min_delta": 0.0},
    ):
        histories = []
        for library, model in zip(LIBRARIES, models(metrics=["accuracy"]), strict=True):
            callback = library.callbacks.ReduceLROnPlateau(**arguments)
            fit = {"epochs": 8, "shuffle": False, "verbose": 0, "validation_split": 0.3}
            histories.append(model.fit(x, y, callbacks=[callback], **fit))
        assert "learning_rate" in histories[0].history
        assert_same(histories)


@pytest.mark.parametrize("schedule", [lambda epoch, rate: rate * 0.5, lambda epoch: 0.1 / (1 + epoch)])
def test_scheduling_by_epoch(schedule: Any) -> None:
    x, y = data()
    histories = []
    for library, model in zip(LIBRARIES, models(), strict=True):
        callback = library.callbacks.LearningRateScheduler(schedule)
        histories.append(model.fit(x, y, epochs=4, shuffle=False, verbose=0, callbacks=[callback]))
    assert_same(histories)


# --- Logs in files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize("validated", [1, 2])
def test_logs_in_a_file(append: bool, validated: int, tmp_path: Path) -> None:
    """The same table; where an epoch is not validated Keras writes NA, too."""
    x, y = data()
    tables = []
    for library, model in zip(LIBRARIES, models(metrics=["accuracy"]), strict=True):
        path = tmp_path / library.__name__
        for _ in range(2):
            callback = library.callbacks.CSVLogger(str(path), separator=";", append=append)
            fit = {"validation_split": 0.3, "validation_freq": validated, "callbacks": [callback]}
            model.fit(x, y, epochs=3, shuffle=False, verbose=0, **fit)
        with open(path, newline="") as file:
            tables.append(list(csv.DictReader(file, delimiter=";")))
    mine, other = tables
    assert len(mine) == len(other) == (6 if append else 3)
    for row, expected in zip(mine, other, strict=True):
        assert set(row) == set(expected)
        for name, value in expected.items():
            assert (value == row[name] == "NA") or float(row[name]) == pytest.approx(float(value), rel=1e-3)


# --- Batches ---------------------------------------------------------------------------------------------------------


def batches(weighted: bool = False) -> list[Any]:
    random = np.random.default_rng(3)
    return [(*data(3, seed), *([random.random((3, 4)).astype(np.float32)] if weighted else [])) for seed in range(4)]


def endless(of: list[Any]) -> Any:
    while True:
        yield from of


@pytest.mark.parametrize("validation_steps", [1, 3])
def test_generators(validation_steps: int) -> None:
    histories = []
    for model in models(metrics=["accuracy"]):
        fit = {"steps_per_epoch": 3, "epochs": 4, "verbose": 0, "validation_steps": validation_steps}
        validation = endless(batches()[:1])  # Keras draws on, where bilstm draws once
        histories.append(model.fit(endless(batches()), validation_data=validation, **fit))
    assert_same(histories)


@pytest.mark.parametrize("name", ["PyDataset", "Sequence"])
@pytest.mark.parametrize("steps", [None, 2])
@pytest.mark.parametrize("weighted", [False, True])
def test_sequences_of_batches(name: str, steps: int | None, weighted: bool) -> None:
    histories = []
    for library, model in zip(LIBRARIES, models(), strict=True):

        class Batches(getattr(library.utils, name)):  # type: ignore[misc]
            def __len__(self) -> int:
                return 4

            def __getitem__(self, index: int) -> Any:
                return batches(weighted)[index]

        fit = {"epochs": 1 if steps else 3, "steps_per_epoch": steps, "shuffle": False, "verbose": 0}
        histories.append(model.fit(Batches(), validation_data=Batches(), **fit))
        if not steps:
            histories[-1].history["evaluated"] = [model.evaluate(Batches(), verbose=0)]
    assert_same(histories)


def test_single_batches_by_position() -> None:
    x, y = data()
    weight = np.random.default_rng(2).random(len(x)).astype(np.float32)
    named = []
    for model in models(metrics=["accuracy"]):
        weights = np.repeat(weight[:, np.newaxis], 4, axis=1)
        named.append(model.test_on_batch(x, y, weights, return_dict=True))
        named[-1] |= {f"trained {k}": v for k, v in model.train_on_batch(x, y, weights, return_dict=True).items()}
    for key in ("loss", "trained loss"):
        assert named[0][key] == pytest.approx(named[1][key], rel=1e-4)


# --- Padding ---------------------------------------------------------------------------------------------------------

ENDS = st.sampled_from(["pre", "post"])


@given(
    st.lists(st.lists(st.integers(0, 99), max_size=6), min_size=1, max_size=5),
    st.none() | st.integers(1, 8),
    ENDS,
    ENDS,
    st.sampled_from([0, 7, -1]),
    st.sampled_from(["int32", "float32"]),
    st.booleans(),
)
@settings(max_examples=60)
def test_padding(
    lists: list[list[int]], maxlen: int | None, padding: str, truncating: str, value: int, dtype: str, wide: bool
) -> None:
    sequences: Any = [[[each, each + 1] for each in one] for one in lists] if wide else lists
    arguments: Any = {"padding": padding, "truncating": truncating, "value": value, "dtype": dtype, "maxlen": maxlen}
    mine, other = (library.utils.pad_sequences(sequences, **arguments) for library in LIBRARIES)
    assert mine.dtype == other.dtype
    np.testing.assert_array_equal(mine, other)
    np.testing.assert_array_equal(bilstm.utils.pad_sequences(lists), keras.utils.pad_sequences(lists))


# --- Names -----------------------------------------------------------------------------------------------------------

# What Sequential has beyond Keras, all of it described in the reference.
ADDITIONS = {
    "decode",
    "log_likelihoods",
    "logs_of",
    "predict_classes",
    "predict_proba",
    "predict_rows",
    "predictor",
    "score",
    "set_tensors",
    "splits",
    "stream",
    "tensors",
    "train_batches",
}


def test_sequential_shows_kerass_names_and_documented_ones() -> None:
    public = {name for name in dir(bilstm.models.Sequential) if not name.startswith("_")}
    assert public - set(dir(keras.Sequential())) == ADDITIONS
    assert all(getattr(bilstm.models.Sequential, name).__doc__ for name in public)
    described = str(bilstm.models.Sequential.__doc__).split("Attributes:")[1]
    for name in vars(bilstm.models.Sequential()):
        assert name.startswith("_") or re.search(rf"\b{name}\b.*:", described), name


def test_every_layer_of_kerass_is_there_or_refused_by_a_sentence() -> None:
    for name in dir(keras.layers):
        if name[0].isupper() and name not in bilstm.layers.LAYERS and name != "Layer":
            with pytest.raises(ImportError, match=f"^bilstm has no layer {name}[:.]"):
                getattr(bilstm.layers, name)
            with pytest.raises(ImportError, match=f"^bilstm has no layer {name}[:.]"):
                exec(f"from bilstm.layers import {name}")
    assert not hasattr(bilstm.layers, "nothing")
