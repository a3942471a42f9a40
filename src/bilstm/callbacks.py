"""What can be done between epochs: recording scores, early stopping, saving models, changing the learning rate."""

from __future__ import annotations

import csv
import inspect
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bilstm.arguments import call_of, check_choice, check_count, check_fraction, check_number, refuse_unsupported
from bilstm.errors import UserError
from bilstm.files import reason

if TYPE_CHECKING:
    from bilstm.models import Sequential

Logs = dict[str, float]


class Callback:
    """Base class: override what is of interest. `self.model` is the model at work; setting
    `self.model.stop_training` ends a fit after the batch, with the validation and the end of its epoch.
    `self.params` holds "verbose", "epochs" and "steps" (batches), and in a fit "batch_size" and as "metrics" the names
    of all logs that it will make.

    Logs map "loss", the metrics and their "val_" counterparts to numbers. Those of a batch are the means since the
    epoch, or the evaluation, began. An epoch that is not validated lacks the "val_" ones. Where hooks for batches are
    overridden, the engine returns to Python for each batch, which makes small ones slower.
    """

    model: Sequential
    params: Mapping[str, Any] = MappingProxyType({})

    def __repr__(self) -> str:
        return call_of(self)

    def set_model(self, model: Sequential) -> None:
        """Called first, with what becomes `self.model`."""
        self.model = model

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Called first, with what becomes `self.params`."""
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Called once, before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Called once, after the last epoch, with its logs; also after an error, but not after Ctrl-C."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Called before each epoch, which is counted from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Called after each epoch."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before each batch of an epoch, which is counted from 0."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after each batch."""
        self.on_batch_end(batch, logs)

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """An older name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """An older name of `on_train_batch_end`."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Called before an evaluation, and before the validation of an epoch."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Called after it."""

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before each of its batches."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after each of its batches."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Called before a prediction."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Called after it."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before each of its batches."""

    def on_predict_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Called after each of its batches; "outputs" in the logs are the rows predicted."""


class Callbacks:
    """Callbacks that are called together, one after the other."""

    def __init__(self, callbacks: Iterable[Callback] = ()) -> None:
        self._callbacks = list(callbacks)

    @classmethod
    def of(cls, owner: str, given: Sequence[Callback] | Callback | None, model: Sequential, **params: Any) -> Callbacks:
        """What the user gave, prepared for work on the model.

        Raises:
            TypeError: there is something else among them.
        """
        several = [given] if isinstance(given, Callback) else list(given or ())
        for callback in several:
            if not isinstance(callback, Callback):
                raise TypeError(f"{owner}: callbacks must be of bilstm.callbacks.Callback, not {callback!r}")
            callback.set_params(params)
            callback.set_model(model)
        return cls(several)

    def notify(self, hook: str, *arguments: Any) -> None:
        """Call all callbacks' method of this name."""
        for callback in self._callbacks:
            getattr(callback, hook)(*arguments)

    def override(self, *hooks: str) -> bool:
        """Whether one of the callbacks overrides one of these methods."""
        return any(_overrides(callback, hook) for callback in self._callbacks for hook in hooks)


def _overrides(callback: Callback, hook: str) -> bool:
    return getattr(getattr(callback, hook), "__func__", None) is not getattr(Callback, hook)


class History(Callback):
    """What `fit` returns: `history` maps each log's name to a list with a value for each epoch."""

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []
        self.params = {}

    def __repr__(self) -> str:
        """`History(epochs=3, loss 0.51 -> 0.32)`."""
        logs = (f", {name} {values[0]:.4g} -> {values[-1]:.4g}" for name, values in self.history.items())
        return f"History(epochs={len(self.epoch)}{''.join(logs)})"

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class LambdaCallback(Callback):
    """Calls functions: `LambdaCallback(on_epoch_end=lambda epoch, logs: …)`, or any other method of `Callback`.

    Raises:
        TypeError: there is no such method.
    """

    def __init__(self, on_epoch_end: Callable[[int, Logs], Any] | None = None, **hooks: Callable[..., Any]) -> None:
        if on_epoch_end is not None:
            hooks["on_epoch_end"] = on_epoch_end
        known = [name for name in vars(Callback) if name.startswith("on_")]
        for name, function in hooks.items():
            if name not in known:
                raise TypeError(f"LambdaCallback: there is no {name!r}; there are: {', '.join(known)}")
            if function is not None:
                setattr(self, name, function)

    def __repr__(self) -> str:
        return f"LambdaCallback({', '.join(name for name in vars(self) if name.startswith('on_'))})"


class _Monitor:
    """Follows one log and says when it is better than ever."""

    def __init__(self, owner: str, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        check_choice(owner, "mode", mode, ("auto", "min", "max"))
        higher = any(part in monitor for part in ("acc", "f1", "auc", "precision", "recall"))
        self.owner = owner
        self.name = monitor
        self.sign = 1.0 if mode == "max" or (mode == "auto" and higher) else -1.0
        self.min_delta = abs(min_delta)
        self.best = -math.inf

    @property
    def best_value(self) -> float:
        return self.sign * self.best

    def exceeds(self, value: float) -> bool:
        """Whether the best so far is better than this value."""
        return self.best - self.min_delta > self.sign * value

    def is_logged(self, logs: Logs | None, params: Mapping[str, Any]) -> bool:
        """False after an epoch that is not validated.

        Raises:
            ValueError: no epoch has the log.
        """
        available = list(dict.fromkeys([*(logs or {}), *params.get("metrics", ())]))
        if self.name not in available:
            listed = ", ".join(available) or "none"
            raise ValueError(f"{self.owner}: there is no {self.name!r} to monitor; there are: {listed}")
        return self.name in (logs or {})

    def improved(self, logs: Logs | None) -> bool:
        value = self.sign * (logs or {})[self.name]
        if value - self.min_delta > self.best:
            self.best = value
            return True
        return False


class EarlyStopping(Callback):
    """Ends the fit when a log has not improved for `patience` epochs.

    Args:
        monitor: the log's name.
        min_delta: what counts as an improvement must be larger than this.
        patience: how many epochs without an improvement end the fit.
        verbose: whether a line is printed.
        mode: "min", "max", or "auto": the larger the better where the name has "acc" in it.
        baseline: patience runs until the log is better than this, even while it improves.
        restore_best_weights: set the weights of the best epoch at the end.
        start_from_epoch: epochs before this one are not watched.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        self.monitor, self.mode, self.min_delta = monitor, mode, min_delta
        self.patience = patience
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self.stopped_epoch = 0
        self.best_epoch = 0
        self.on_train_begin()

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._monitor = _Monitor("EarlyStopping", self.monitor, self.mode, self.min_delta)
        self.wait = 0
        self.stopped_epoch = 0
        self.best_epoch = 0
        self.best_weights: list[Any] | None = None

    @property
    def best(self) -> float:
        return self._monitor.best_value

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if epoch < self.start_from_epoch or not self._monitor.is_logged(logs, self.params):
            return
        self.wait += 1
        if self._monitor.improved(logs):
            if self.baseline is None or self._monitor.exceeds(self.baseline):
                self.wait = 0
            self.best_epoch = epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.best_weights is not None:
            self.model.set_weights(self.best_weights)
        if self.verbose and self.stopped_epoch:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping; best epoch {self.best_epoch + 1}")


class ModelCheckpoint(Callback):
    """Saves the model after each epoch, or only after those that are better than all before.

    Args:
        filepath: may hold "{epoch}" and logs' names, as in "model-{epoch:02d}-{val_loss:.3f}.safetensors".
        monitor: the log's name.
        verbose: whether a line is printed.
        save_best_only: keep only improvements of `monitor`.
        mode: as of `EarlyStopping`.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        mode: str = "auto",
        **keywords: Any,
    ) -> None:
        unsupported = {"save_weights_only": False, "save_freq": "epoch", "initial_value_threshold": None}
        refuse_unsupported("ModelCheckpoint", keywords, unsupported)
        self.filepath = os.fspath(filepath)
        self.verbose = verbose
        self.save_best_only = save_best_only
        self.monitor, self.mode = monitor, mode
        self._monitor = _Monitor("ModelCheckpoint", monitor, mode)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.save_best_only and not (self._monitor.is_logged(logs, self.params) and self._monitor.improved(logs)):
            return
        try:
            path = self.filepath.format(epoch=epoch + 1, **(logs or {}))
        except (KeyError, IndexError, ValueError) as error:
            names = ", ".join(["epoch", *(logs or {})])
            raise ValueError(f"ModelCheckpoint: {self.filepath!r} names {error}; there are: {names}") from None
        self.model.save(path)
        if self.verbose:
            print(f"Epoch {epoch + 1}: saved to {path}")


class ReduceLROnPlateau(Callback):
    """Multiplies the learning rate by `factor` when a log has not improved for `patience` epochs.

    It adds "learning_rate", that of the epoch, to the logs, as `LearningRateScheduler` does.

    Args:
        monitor: the log's name.
        factor: from 0 to below 1.
        patience: how many epochs without an improvement reduce the rate.
        verbose: whether a line is printed.
        mode: as of `EarlyStopping`.
        min_delta: what counts as an improvement must be larger than this.
        cooldown: epochs after a reduction that do not count towards `patience`.
        min_lr: the rate is never reduced below this.

    Raises:
        ValueError: an argument out of its range; in a fit, a log that no epoch has, or a learning rate that
            is a schedule.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        self.factor = check_fraction("ReduceLROnPlateau", "factor", factor)
        self.monitor, self.mode, self.min_delta = monitor, mode, min_delta
        self.patience, self.verbose = patience, verbose
        self.cooldown = check_count("ReduceLROnPlateau", "cooldown", cooldown, 0)
        self.min_lr = check_number("ReduceLROnPlateau", "min_lr", min_lr)
        self.on_train_begin()

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._monitor = _Monitor("ReduceLROnPlateau", self.monitor, self.mode, self.min_delta)
        self.wait = self.cooldown_counter = 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        rate = _learning_rate(self)
        if not self._monitor.is_logged(logs, self.params):
            return
        if logs is not None:
            logs["learning_rate"] = rate
        if self.cooldown_counter:
            self.cooldown_counter -= 1
            self.wait = 0
        if self._monitor.improved(logs):
            self.wait = 0
            return
        if self.cooldown_counter:
            return
        self.wait += 1
        reduced = max(rate * self.factor, self.min_lr)
        if self.wait >= self.patience and reduced < rate:
            _set_learning_rate(self, reduced)
            self.wait, self.cooldown_counter = 0, self.cooldown
            if self.verbose:
                print(f"Epoch {epoch + 1}: learning rate reduced to {reduced:g}")


class LearningRateScheduler(Callback):
    """Sets the learning rate before each epoch, and adds it to the logs as "learning_rate".

    Args:
        schedule: called with the epoch, counted from 0, and the learning rate so far; returns the new one. For a rate
            that changes at each training step see `bilstm.optimizers.schedules`.
        verbose: whether a line is printed.

    Raises:
        ValueError: in a fit, what `schedule` returns is no positive number.
    """

    def __init__(self, schedule: Callable[[int, float], float], verbose: int = 0) -> None:
        if not callable(schedule):
            raise ValueError(f"LearningRateScheduler: schedule must be a function, not {schedule!r}")
        self.schedule = schedule
        self.verbose = verbose
        self._takes_rate = _takes_two(schedule)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        rate = _learning_rate(self)
        _set_learning_rate(self, self.schedule(epoch, rate) if self._takes_rate else self.schedule(epoch))  # type: ignore[call-arg]
        if self.verbose:
            print(f"Epoch {epoch + 1}: learning rate {_learning_rate(self):g}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if logs is not None:
            logs["learning_rate"] = _learning_rate(self)


class CSVLogger(Callback):
    """Writes each epoch's logs as a row of a CSV file, after a header: "epoch" and the logs' names, sorted.

    Logs that an epoch lacks are NA. Each row is in the file when its epoch has ended.

    Args:
        filename: the file to write.
        separator: what separates the columns.
        append: whether rows are added to an existing file, which has a header already.

    Raises:
        UserError: the file cannot be written.
    """

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        self.filename = os.fspath(filename)
        self.separator = separator
        self.append = append

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._names: list[str] | None = None
        if not self.append:
            self._write([], "w")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = logs or {}
        rows: list[list[object]] = []
        if self._names is None:
            self._names = sorted({*logs, *self.params.get("metrics", ())})
            if not (os.path.exists(self.filename) and os.path.getsize(self.filename)):
                rows.append(["epoch", *self._names])
        self._write([*rows, [epoch, *(logs.get(name, "NA") for name in self._names)]], "a")

    def _write(self, rows: list[list[object]], mode: str) -> None:
        try:
            with open(self.filename, mode, encoding="utf-8", newline="") as file:
                csv.writer(file, delimiter=self.separator).writerows(rows)
        except OSError as error:
            raise UserError(f"CSVLogger: cannot write {self.filename}: {reason(error)}") from None


def _learning_rate(callback: Callback) -> float:
    optimizer = callback.model.optimizer
    assert optimizer is not None
    if optimizer.scheduled:
        raise ValueError(f"{type(callback).__name__}: the learning rate is a schedule already: {optimizer!r}")
    return float(optimizer.plan().learning_rate)


def _set_learning_rate(callback: Callback, rate: float) -> None:
    assert callback.model.optimizer is not None
    callback.model.optimizer.learning_rate = rate
    _learning_rate(callback)  # which refuses what is no positive number


def _takes_two(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind(0, 0.0)
    except TypeError:
        return False
    except ValueError:  # a signature that Python does not know
        return True
    return True
