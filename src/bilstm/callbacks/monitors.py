"""Callbacks that follow one log: they end a fit, or save the model, by it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from bilstm.arguments import check_choice, refuse_unsupported
from bilstm.callbacks.base import Callback, Logs


class Monitor:
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
        self._monitor = Monitor("EarlyStopping", self.monitor, self.mode, self.min_delta)
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
        self._monitor = Monitor("ModelCheckpoint", monitor, mode)

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
