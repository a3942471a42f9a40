"""Callbacks: what they are told, when they stop a fit, and which weights and files they leave."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilstm.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    History,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
)
from bilstm.layers import Dense
from bilstm.models import Sequential, load_model
from bilstm.optimizers import Adam
from bilstm.optimizers.schedules import CosineDecay
from oracles.models import above_half, compiled

pytestmark = pytest.mark.fast


class Weights:
    """Stands for a model of which only the epoch that its weights come from is known."""

    def __init__(self) -> None:
        self.stop_training = False
        self.epoch = -1
        self.saved: list[str] = []

    def get_weights(self) -> list[int]:
        return [self.epoch]

    def set_weights(self, weights: list[int]) -> None:
        self.epoch = weights[0]

    def save(self, path: str) -> None:
        self.saved.append(path)


def play(callback: Any, values: list[float], name: str = "val_loss", epochs: range | None = None) -> Weights:
    """Show a callback one log an epoch, until it stops the fit or there is none left."""
    model = Weights()
    callback.model = model
    callback.on_train_begin()
    for epoch, value in zip(epochs or range(len(values)), values, strict=True):
        model.epoch = epoch
        callback.on_epoch_end(epoch, {name: value})
        if model.stop_training:
            break
    callback.on_train_end()
    return model


def small_model() -> tuple[Sequential, Any, Any]:
    model = Sequential([Dense(1, "sigmoid", input_shape=(None, 2))], seed=1)
    model.compile("sgd", "binary_crossentropy", ["acc"])
    x = np.random.default_rng(1).random((6, 4, 2))
    return model, x, (x[:, :, :1] > 0.5).astype(int)


# --- Early stopping --------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 9), min_size=1, max_size=15), st.integers(1, 4), st.sampled_from(["min", "max"]))
def test_it_stops_once_patience_epochs_were_no_better(values: list[int], patience: int, mode: str) -> None:
    sign = 1 if mode == "max" else -1
    stopping = EarlyStopping(patience=patience, mode=mode, restore_best_weights=True)
    model = play(stopping, [float(value) for value in values])
    best = end = 0
    for end, value in enumerate(values):
        if sign * value > sign * values[best]:
            best = end
        if end - best >= patience:
            break
    assert model.stop_training == (end - best >= patience)
    assert stopping.best_epoch == best
    assert stopping.best == values[best]
    assert stopping.stopped_epoch == (end if model.stop_training else 0)
    assert model.epoch == best  # its weights are set


def test_without_restoring_the_last_weights_stay() -> None:
    assert play(EarlyStopping(patience=2), [3, 1, 2, 2, 0]).epoch == 3
    assert play(EarlyStopping(patience=2, restore_best_weights=True), [3, 1, 2, 2, 0]).epoch == 1


@pytest.mark.parametrize(("patience", "last"), [(0, 1), (1, 1), (2, 2)])
def test_patience(patience: int, last: int) -> None:
    assert play(EarlyStopping(patience=patience), [1, 1, 1, 1]).epoch == last


@pytest.mark.parametrize(
    ("monitor", "mode", "last"),
    [("val_loss", "auto", 1), ("val_acc", "auto", 3), ("val_f1", "auto", 3), ("val_acc", "min", 1), ("loss", "max", 3)],
)
def test_whether_more_is_better_follows_from_the_name_unless_said(monitor: str, mode: str, last: int) -> None:
    stopping = EarlyStopping(monitor, patience=1, mode=mode)
    assert play(stopping, [0.1, 0.2, 0.3, 0.4], monitor).epoch == last


@pytest.mark.parametrize(("min_delta", "last"), [(0.0, 3), (0.05, 3), (0.2, 1), (-0.2, 1)])
def test_an_improvement_must_exceed_min_delta(min_delta: float, last: int) -> None:
    assert play(EarlyStopping(patience=1, min_delta=min_delta), [0.9, 0.8, 0.7, 0.6]).epoch == last


@pytest.mark.parametrize(("baseline", "last"), [(None, 2), (0.95, 2), (0.75, 1)])
def test_patience_runs_until_the_baseline_is_passed(baseline: float | None, last: int) -> None:
    assert play(EarlyStopping(patience=2, baseline=baseline), [0.9, 0.9, 0.9, 0.9]).epoch == last


def test_the_best_weights_come_back_even_if_the_baseline_was_never_passed() -> None:
    stopping = EarlyStopping(patience=3, baseline=0.1, restore_best_weights=True)
    assert play(stopping, [0.9, 0.5, 0.6, 0.7, 0.8]).epoch == 1


@pytest.mark.parametrize(("start", "last"), [(0, 1), (2, 3)])
def test_epochs_before_the_start_are_not_watched(start: int, last: int) -> None:
    assert play(EarlyStopping(patience=1, start_from_epoch=start), [1, 2, 3, 4]).epoch == last


def test_nan_is_never_an_improvement() -> None:
    stopping = EarlyStopping(patience=2)
    assert play(stopping, [1.0, float("nan"), float("nan"), 0.5]).epoch == 2
    assert stopping.best == 1.0


@pytest.mark.parametrize(("verbose", "printed"), [(0, ""), (1, "Epoch 4: early stopping; best epoch 2\n")])
def test_it_says_so(verbose: int, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    play(EarlyStopping(patience=2, verbose=verbose), [3, 1, 2, 2, 0])
    assert capsys.readouterr().out == printed


def test_it_starts_afresh_with_each_fit() -> None:
    stopping = EarlyStopping(patience=1)
    play(stopping, [1, 2])
    model = play(stopping, [5, 4, 3])
    assert not model.stop_training
    assert (stopping.best, stopping.best_epoch, stopping.stopped_epoch) == (3, 2, 0)


@pytest.mark.parametrize(
    ("monitor", "fit", "message"),
    [
        ("val_los", {"validation_split": 0.5}, "no 'val_los' to monitor; there are: loss, acc, val_loss, val_acc"),
        ("val_loss", {}, "no 'val_loss' to monitor; there are: loss, acc"),
    ],
)
@pytest.mark.parametrize("kind", ["EarlyStopping", "ModelCheckpoint"])
def test_a_log_that_no_epoch_has(kind: str, monitor: str, fit: dict[str, Any], message: str, tmp_path: Path) -> None:
    model, x, y = small_model()
    checkpoint = ModelCheckpoint(tmp_path / "best", monitor, save_best_only=True)
    callback = EarlyStopping(monitor) if kind == "EarlyStopping" else checkpoint
    with pytest.raises(ValueError, match="^" + re.escape(f"{kind}: there is {message}") + "$"):
        model.fit(x, y, callbacks=callback, verbose=0, **fit)


def test_epochs_without_validation_are_passed_over(tmp_path: Path) -> None:
    model, x, y = small_model()
    stopping = EarlyStopping(patience=2)
    checkpoint = ModelCheckpoint(tmp_path / "{epoch}", save_best_only=True)
    history = model.fit(
        x, y, epochs=5, validation_split=0.5, validation_freq=2, callbacks=[stopping, checkpoint], verbose=0
    )
    first, second = history.history["val_loss"]
    assert history.epoch == [0, 1, 2, 3, 4]
    assert sorted(path.name for path in tmp_path.iterdir()) == (["2", "4"] if second < first else ["2"])


def test_modes_there_are() -> None:
    with pytest.raises(ValueError, match="EarlyStopping: mode must be one of 'auto', 'min', 'max', not 'mean'"):
        EarlyStopping(mode="mean")
    with pytest.raises(ValueError, match="ModelCheckpoint: mode must be one of 'auto', 'min', 'max', not 'maximum'"):
        ModelCheckpoint("m", mode="maximum")


# --- Checkpoints -----------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 9), min_size=1, max_size=10), st.sampled_from(["min", "max"]), st.booleans())
def test_every_epoch_or_each_that_is_better_than_all_before(values: list[int], mode: str, best_only: bool) -> None:
    sign = 1 if mode == "max" else -1
    model = play(ModelCheckpoint("{epoch}", save_best_only=best_only, mode=mode), [float(value) for value in values])
    better = [e for e, v in enumerate(values) if all(sign * v > sign * other for other in values[:e])]
    assert model.saved == [str(epoch + 1) for epoch in (better if best_only else range(len(values)))]


def test_names_of_checkpoints_hold_the_epoch_and_logs() -> None:
    model = play(ModelCheckpoint("m-{epoch:02d}-{val_loss:.2f}"), [0.5, 0.25])
    assert model.saved == ["m-01-0.50", "m-02-0.25"]
    with pytest.raises(ValueError, match=re.escape("'m-{val_acc}' names 'val_acc'; there are: epoch, val_loss")):
        play(ModelCheckpoint("m-{val_acc}"), [0.5])
    with pytest.raises(ValueError, match="ModelCheckpoint: 'm-{' names "):
        play(ModelCheckpoint("m-{"), [0.5])


def test_a_checkpoint_is_a_model_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, x, y = small_model()
    weights = []
    note = LambdaCallback(on_epoch_end=lambda epoch, logs: weights.append(model.get_weights()))
    model.fit(x, y, epochs=2, callbacks=[ModelCheckpoint(tmp_path / "{epoch}", verbose=1), note], verbose=0)
    for epoch in (0, 1):
        for a, b in zip(load_model(tmp_path / str(epoch + 1)).get_weights(), weights[epoch], strict=True):
            np.testing.assert_array_equal(a, b)
    assert capsys.readouterr().out == f"Epoch 1: saved to {tmp_path}/1\nEpoch 2: saved to {tmp_path}/2\n"


@pytest.mark.parametrize(
    ("argument", "accepted", "refused"),
    [
        ("save_weights_only", False, True),
        ("save_freq", "epoch", 100),
        ("initial_value_threshold", None, 0.5),
    ],
)
def test_kerass_arguments_are_accepted_or_refused_by_name(argument: str, accepted: Any, refused: Any) -> None:
    ModelCheckpoint("m", **{argument: accepted})
    with pytest.raises(ValueError, match=f"ModelCheckpoint: {argument}={refused!r} is not supported"):
        ModelCheckpoint("m", **{argument: refused})


# --- What callbacks are told -----------------------------------------------------------------------------------------


class Recorder(Callback):
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.calls.append(("train begin",))

    def on_train_end(self, logs: Any = None) -> None:
        self.calls.append(("train end",))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.calls.append(("epoch begin", epoch))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.calls.append(("epoch end", epoch, sorted(logs)))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.calls.append(("batch end", batch, sorted(logs)))


def test_the_order_of_calls() -> None:
    model, x, y = small_model()
    recorder = Recorder()
    model.fit(x, y, batch_size=2, epochs=3, initial_epoch=1, validation_split=0.4, callbacks=[recorder], verbose=0)
    logs, all_logs = ["acc", "loss"], ["acc", "loss", "val_acc", "val_loss"]
    expected: list[tuple[Any, ...]] = [("train begin",)]
    for epoch in (1, 2):
        batches = [("batch end", batch, logs) for batch in (0, 1)]
        expected += [("epoch begin", epoch), *batches, ("epoch end", epoch, all_logs)]
    assert recorder.calls == [*expected, ("train end",)]
    assert recorder.model is model
    names = ["loss", "acc", "val_loss", "val_acc"]
    assert recorder.params == {"verbose": 0, "epochs": 3, "steps": 2, "batch_size": 2, "metrics": names}


def test_watching_batches_does_not_change_training() -> None:
    plain, watched = small_model(), small_model()
    plain[0].fit(*plain[1:], batch_size=1, epochs=2, verbose=0)
    watched[0].fit(*watched[1:], batch_size=1, epochs=2, verbose=0, callbacks=Recorder())
    for a, b in zip(plain[0].get_weights(), watched[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_callback_can_end_the_fit_and_the_next_fit_goes_on() -> None:
    model, x, y = small_model()

    def stop(epoch: int, logs: dict[str, float]) -> None:
        model.stop_training = epoch == 1

    assert model.fit(x, y, epochs=9, callbacks=LambdaCallback(stop), verbose=0).epoch == [0, 1]
    assert model.fit(x, y, epochs=3, verbose=0).epoch == [0, 1, 2]


@pytest.mark.parametrize(("error", "told"), [(ValueError, True), (KeyboardInterrupt, False)])
def test_the_end_is_told_after_an_error_but_not_after_an_interrupt(error: type[BaseException], told: bool) -> None:
    model, x, y = small_model()
    weights: list[Any] = []

    def fail(epoch: int, logs: dict[str, float]) -> None:
        weights.append(model.get_weights())
        if epoch == 2:
            raise error

    recorder, stopping = Recorder(), EarlyStopping("loss", mode="max", patience=5, restore_best_weights=True)
    with pytest.raises(error):
        model.fit(x, y, epochs=9, callbacks=[recorder, stopping, LambdaCallback(fail)], verbose=0)
    assert (recorder.calls[-1] == ("train end",)) == told
    # The loss falls, so that the first epoch's weights are the "best": an interrupt leaves those reached.
    for kept, expected in zip(model.get_weights(), weights[0 if told else 2], strict=True):
        np.testing.assert_array_equal(kept, expected)


def test_logs_of_batches_are_means_since_the_epoch_began() -> None:
    model, x, y = small_model()
    stepped, losses, told = small_model()[0], [], []
    for batch in range(3):
        losses.append(stepped.train_on_batch(x[2 * batch : 2 * batch + 2], y[2 * batch : 2 * batch + 2])[0])
    note = LambdaCallback(on_train_batch_end=lambda batch, logs: told.append(logs["loss"]))
    history = model.fit(x, y, batch_size=2, shuffle=False, callbacks=[note], verbose=0)
    assert told == pytest.approx([np.mean(losses[: batch + 1]) for batch in range(3)])
    assert history.history["loss"] == told[-1:]
    assert model.history is history


@pytest.mark.parametrize(
    "hook",
    [
        name
        for name in vars(Callback)
        if name.startswith("on_") and name not in ("on_predict_batch_end", "on_epoch_end")
    ],
)
def test_functions_for_every_hook(hook: str) -> None:
    calls: list[Any] = []
    callback = LambdaCallback(**{hook: lambda *arguments: calls.append(arguments)})
    model, x, y = small_model()
    if "predict" in hook:
        model.predict(x, callbacks=callback)
    else:
        model.fit(x, y, validation_split=0.5, callbacks=callback, verbose=0)
    assert len(calls) == 1
    assert isinstance(calls[0][-1], dict)


def test_functions_for_no_hook() -> None:
    with pytest.raises(TypeError, match="LambdaCallback: there is no 'on_epoch_ended'; there are: on_train_begin, on_"):
        LambdaCallback(on_epoch_ended=print)


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_what_is_no_callback_is_refused(method: str) -> None:
    model, x, y = small_model()
    arguments = (x,) if method == "predict" else (x, y)
    with pytest.raises(TypeError, match=f"^{method}: callbacks must be of bilstm.callbacks.Callback, not <function"):
        getattr(model, method)(*arguments, callbacks=[test_what_is_no_callback_is_refused])


def test_history_collects_every_log() -> None:
    history = History()
    history.on_epoch_end(0, {"loss": 1.0})
    history.on_epoch_end(1, {"loss": 0.5, "val_loss": 2.0})
    history.on_epoch_end(2, None)
    assert history.history == {"loss": [1.0, 0.5], "val_loss": [2.0]}
    assert history.epoch == [0, 1, 2]


# --- Learning rates and logs (against Keras: oracles/test_keras_training.py) ------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ReduceLROnPlateau(factor=1.0), "ReduceLROnPlateau: factor must be at least 0 and below 1, not 1.0"),
        (lambda: ReduceLROnPlateau(cooldown=-1), "ReduceLROnPlateau: cooldown must be at least 0, not -1"),
        (lambda: ReduceLROnPlateau(min_lr="low"), "ReduceLROnPlateau: min_lr must be a finite number, not 'low'"),
        (lambda: ReduceLROnPlateau(monitor="f1"), "ReduceLROnPlateau: there is no 'f1' to monitor; there are: loss"),
        (lambda: LearningRateScheduler(0.1), "LearningRateScheduler: schedule must be a function, not 0.1"),
        (lambda: LearningRateScheduler(lambda epoch: "x"), "Adam: learning_rate must be a number, not 'x'"),
        (lambda: CSVLogger("nowhere/log.csv"), "CSVLogger: cannot write nowhere/log.csv: "),
    ],
)
def test_callbacks_that_cannot_work(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        compiled().fit(*above_half(4), callbacks=make(), verbose=0)


@pytest.mark.parametrize("make", [lambda: ReduceLROnPlateau("loss"), lambda: LearningRateScheduler(lambda epoch: 0.1)])
def test_a_schedule_leaves_nothing_to_callbacks(make: Any) -> None:
    with pytest.raises(ValueError, match="the learning rate is a schedule already: Adam"):
        compiled(optimizer=Adam(CosineDecay(0.1, 5))).fit(*above_half(4), callbacks=make(), verbose=0)


@pytest.mark.parametrize("verbose", [0, 1])
def test_changed_rates_are_printed(verbose: int, capsys: pytest.CaptureFixture[str]) -> None:
    plateau = ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=9, verbose=verbose)
    scheduler = LearningRateScheduler(lambda epoch, rate: rate, verbose)
    history = compiled().fit(*above_half(4), epochs=2, callbacks=[scheduler, plateau], verbose=0)
    assert history.history["learning_rate"] == [0.001, 0.001]
    expected = "Epoch 1: learning rate 0.001\nEpoch 2: learning rate 0.001\nEpoch 2: learning rate reduced to 0.0005\n"
    assert capsys.readouterr().out == expected * verbose
