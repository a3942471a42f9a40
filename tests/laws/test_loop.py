"""Laws of the training loop, for models of any kind: what it trains on, what it keeps, what it leaves alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilstm.engine.plans import Targets
from bilstm.errors import DivergedError, UserError
from bilstm.layers import LSTM, Dense, Layer
from bilstm.models import Sequential
from bilstm.models.fitting import FitData
from bilstm.optimizers import SGD, Adam, Optimizer
from bilstm.ragged import Ragged, offsets_of
from bilstm.training import windows
from bilstm.training.loop import LoopOptions, TrainingInterrupted, train_model
from oracles.models import weight_bits


def network(per_step: bool = True, loss: str = "sparse_categorical_crossentropy", **how: Any) -> Sequential:
    last: list[Layer] = [Dense(2, activation="softmax")] if loss != "mse" else [Dense(1)]
    model = Sequential([LSTM(3, return_sequences=per_step, input_shape=(None, 1)), *last], seed=2)
    model.compile(how.get("optimizer", "adam"), loss, how.get("metrics", ["accuracy"] if loss != "mse" else []))
    return model


def data(lengths: list[int], per_step: bool = True, seed: int = 0, loss: str = "") -> FitData:
    random = np.random.default_rng(seed)
    offsets = offsets_of(lengths)
    rows = int(offsets[-1]) if per_step else len(lengths)
    x = Ragged(random.normal(size=(int(offsets[-1]), 1)), offsets)
    if loss == "mse":
        return FitData.all_of(x, Targets(values=random.normal(size=(rows, 1)).astype(np.float32)))
    return FitData.all_of(x, Targets(labels=random.integers(2, size=rows, dtype=np.int32)))


def watch(monkeypatch: pytest.MonkeyPatch) -> list[tuple[FitData, list[int]]]:
    """Every training step's data and sequences from now on."""
    steps: list[tuple[FitData, list[int]]] = []
    train_batches = Sequential.train_batches

    def step(model: Sequential, training: FitData, chosen: Any, starts: Any) -> Any:
        assert starts.tolist() == [0, len(chosen)]
        steps.append((training, chosen.tolist()))
        return train_batches(model, training, chosen, starts)

    monkeypatch.setattr(Sequential, "train_batches", step)
    return steps


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(1, 20), st.booleans(), st.integers(0, 99))
def test_every_step_is_trained_on_once_an_epoch(lengths: list[int], longest: int, per_step: bool, seed: int) -> None:
    """Long sequences are cut, except where there is one row for each."""
    training = data(lengths, per_step)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(windows, "LONGEST", longest)
        steps = watch(patched)
        train_model(network(per_step), training, None, LoopOptions(epochs=1, batch_size=3, seed=seed))
    used, whole = steps[0][0], training.data
    assert sorted(i for _, chosen in steps for i in chosen) == list(range(len(used.data)))
    assert np.array_equal(used.data.values, whole.values)
    assert used.targets.labels is training.targets.labels
    if per_step:
        assert set(whole.offsets.tolist()) <= set(used.data.offsets.tolist())
        assert used.data.lengths.max() <= longest
    else:
        assert used.data.offsets.tolist() == whole.offsets.tolist()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=8, unique=True), st.booleans())
def test_only_those_chosen_count(chosen: list[int], per_step: bool) -> None:
    """A choice among sequences gives the model that these sequences give by themselves."""
    everything, validation = data([3, 5, 2, 8, 4, 1, 6, 7], per_step), data([4, 4, 4], per_step, seed=1)
    choice = FitData(everything.data, everything.targets, np.array(chosen, np.int64))
    alone = FitData.all_of(*choice.take(slice(None), not per_step))
    judged = FitData(validation.data, validation.targets, np.array([2, 0], np.int64))
    judged_alone = FitData.all_of(*judged.take(slice(None), not per_step))
    options = LoopOptions(epochs=2, batch_size=3)
    models = [network(per_step), network(per_step)]
    first = train_model(models[0], choice, judged, options)
    second = train_model(models[1], alone, judged_alone, options)
    assert weight_bits(models[0]) == weight_bits(models[1])
    assert first == second
    assert (first["sequences"], first["validation_sequences"]) == (len(chosen), 2)
    assert first["steps"] == alone.data.total_steps


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", "mse"])
@pytest.mark.parametrize("per_step", [True, False])
@pytest.mark.parametrize("judged", [True, False])
def test_the_best_epoch_is_kept(loss: str, per_step: bool, judged: bool) -> None:
    """Of steps by accuracy and then by loss; otherwise by loss alone; the last one without a validation set."""
    lengths = [3, 5, 2, 8, 4, 1, 6, 7]
    training, validation = data(lengths, per_step, loss=loss), data(lengths, per_step, seed=1, loss=loss)
    model = network(per_step, loss, optimizer=Adam(0.1))
    summary = train_model(model, training, validation if judged else None, LoopOptions(epochs=40, patience=4))
    history, best = summary["history"], summary["best_epoch"] - 1
    assert set(history) == {"loss", *(["val_loss"] if judged else [])} | (
        {"val_accuracy"} if judged and loss != "mse" else set()
    )
    if not judged:
        assert (best, summary["epochs"], summary["stopped"]) == (39, 40, "all epochs done")
    else:
        accuracies = history.get("val_accuracy", [0.0] * 40) if per_step else [0.0] * 40
        scores = list(zip(accuracies, history["val_loss"], strict=False))
        assert best == min(range(len(scores)), key=lambda i: (-scores[i][0], scores[i][1]))
        assert summary["epochs"] == best + 5 < 40
        assert summary["stopped"] == "no better for 4 epochs"
        assert model.logs_of(model.score(validation))["loss"] == history["val_loss"][best]


@pytest.mark.parametrize(("per_step", "kept"), [(True, 2), (False, 4)])
def test_few_sequences_that_are_all_right_by_chance(per_step: bool, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    epochs = iter([(0.5, 0.9), (1.0, 0.8), (0.9, 0.7), (0.99, 0.6), (0.9, 0.65)])

    def score(*_: Any) -> Any:
        accuracy, loss = next(epochs)
        return np.array([100 * loss, 100, 100 * accuracy, 0, 0])

    monkeypatch.setattr(Sequential, "score", score)
    summary = train_model(network(per_step), data([3, 4], per_step), data([2], per_step), LoopOptions(epochs=5))
    assert summary["best_epoch"] == kept


@pytest.mark.parametrize("optimizer", [Adam(0.02), SGD(0.03)])
def test_the_learning_rate_rises_and_falls(optimizer: Optimizer, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    plan = type(optimizer).plan

    def note(self: Any) -> Any:
        rates.append(self.learning_rate)
        return plan(self)

    monkeypatch.setattr(type(optimizer), "plan", note)
    highest, told = optimizer.learning_rate, []
    train_model(
        network(optimizer=optimizer), data([4] * 50), None, LoopOptions(epochs=4, batch_size=5), progress=told.append
    )
    peak = rates.index(max(rates))
    assert 0.9 * highest < rates[peak] <= highest
    assert rates == sorted(rates[:peak]) + sorted(rates[peak:], reverse=True)
    assert rates[0] < highest / 100
    assert rates[-1] < highest / 100
    assert [call["learning_rate"] for call in told if call["done"] == 1] == rates[9::10]
    assert optimizer.learning_rate == highest


@pytest.mark.parametrize("per_step", [True, False])
@pytest.mark.parametrize("counts", [1, 100])
def test_batches_are_chosen_by_themselves(per_step: bool, counts: int) -> None:
    training = data([5] * counts, per_step)
    summary = train_model(network(per_step), training, None, LoopOptions(epochs=1))
    assert 4 <= summary["batch_size"] <= 64
    assert train_model(network(per_step), training, None, LoopOptions(epochs=1, batch_size=7))["batch_size"] == 7
    assert train_model(network(per_step), training, None, LoopOptions(time_limit=1e-9))["epochs"] == 1


def test_epochs_are_chosen_by_themselves() -> None:
    told: list[dict[str, Any]] = []
    for count in (8, 5000):
        options = LoopOptions(time_limit=1e-9)
        train_model(network(), data([2] * count), None, options, progress=told.append)
    assert [call["epochs"] for call in told if call["done"] == 1] == [200, 20]


def test_interrupted_after_an_epoch() -> None:
    def interrupt(figures: dict[str, Any]) -> None:
        if figures["epoch"] == stop and figures["done"] == 1:
            raise KeyboardInterrupt

    training, validation = data([5] * 20), data([5] * 5, seed=1)
    stop, model = 3, network()
    with pytest.raises(TrainingInterrupted) as caught:
        train_model(model, training, validation, LoopOptions(epochs=5), progress=interrupt)
    summary = caught.value.summary
    assert (summary["epochs"], summary["stopped"]) == (3, "stopped by the user after epoch 3")
    best = summary["history"]["val_loss"][summary["best_epoch"] - 1]
    assert model.logs_of(model.score(validation))["loss"] == best


def test_interrupted_before() -> None:
    def interrupt(_: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        train_model(network(), data([5] * 20), None, LoopOptions(), progress=interrupt)
    assert not isinstance(caught.value, TrainingInterrupted)


@pytest.mark.parametrize("epoch", [1, 3])
@pytest.mark.parametrize("which", ["loss", "weights", "validation"])
def test_divergence_keeps_the_best_weights(epoch: int, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, expected = network(), network()
    training, validation = data([5] * 8), data([5] * 4, seed=1)
    train_batches, score, ended = Sequential.train_batches, Sequential.score, [0]

    def step(self: Sequential, *arguments: Any) -> Any:
        scores = train_batches(self, *arguments)
        assert self.network
        if which != "validation" and ended[0] == epoch - 1:
            if which == "loss":
                return scores * math.nan
            self.network.write(np.full(self.network.parameter_count, math.nan, np.float32))
        return scores

    def judge(self: Sequential, *arguments: Any) -> Any:
        ended[0] += 1
        return score(self, *arguments) * (math.inf if which == "validation" and ended[0] == epoch else 1)

    with monkeypatch.context() as patched:
        patched.setattr(Sequential, "train_batches", step)
        patched.setattr(Sequential, "score", judge)
        if epoch == 1:
            with pytest.raises(DivergedError, match="no longer .*finite number.*: try a smaller learning rate"):
                train_model(model, training, validation, LoopOptions(epochs=5))
            return
        summary = train_model(model, training, validation, LoopOptions(epochs=5))
    assert (summary["epochs"], summary["stopped"]) == (2, "the loss was no longer finite")
    assert np.isfinite(np.concatenate([array.ravel() for array in model.get_weights()])).all()
    assert model.logs_of(model.score(validation))["loss"] == summary["history"]["val_loss"][summary["best_epoch"] - 1]
    assert weight_bits(model) != weight_bits(expected)


def test_what_cannot_be_trained_on() -> None:
    model, good = network(), data([5] * 4)
    with pytest.raises(ValueError, match="^there are no sequences to train on$"):
        train_model(model, data([0, 0]), None, LoopOptions())
    with pytest.raises(ValueError, match="^there are no sequences to train on$"):
        train_model(model, FitData(good.data, good.targets, np.array([], np.int64)), None, LoopOptions())
    unlabelled = FitData.all_of(good.data, Targets(labels=np.full(20, -1, np.int32)))
    with pytest.raises(ValueError, match="^no row of the sequences to validate on is labelled$"):
        train_model(model, good, unlabelled, LoopOptions())
    values = good.data.values.copy()
    values[7] = math.nan
    spoilt = FitData.all_of(Ragged(values, good.data.offsets), good.targets)
    with pytest.raises(UserError, match="x has nan in sequence 1, step 2, feature 0: every value must be"):
        train_model(model, spoilt, None, LoopOptions())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "training: epochs must be at least 1, not 0"),
        ({"batch_size": 0}, ValueError, "training: batch_size must be at least 1, not 0"),
        ({"patience": 1.5}, TypeError, "training: patience must be a whole number, not 1.5"),
        ({"seed": -1}, ValueError, "training: seed must be at least 0, not -1"),
        ({"time_limit": 0}, ValueError, "training: time_limit must be a positive number, not 0"),
    ],
)
def test_impossible_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}$"):
        LoopOptions(**options)


def test_seeds_order_the_sequences() -> None:
    bits = []
    for seed in (1, 1, 2):
        model = network()
        train_model(model, data([5] * 20), None, LoopOptions(epochs=1, batch_size=4, seed=seed))
        bits.append(weight_bits(model))
    assert bits[0] == bits[1] != bits[2]
