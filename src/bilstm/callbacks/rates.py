"""Callbacks that change the learning rate between epochs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from bilstm.arguments import check_count, check_fraction, check_number
from bilstm.callbacks.base import Callback, Logs
from bilstm.callbacks.monitors import Monitor


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
        self._monitor = Monitor("ReduceLROnPlateau", self.monitor, self.mode, self.min_delta)
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
