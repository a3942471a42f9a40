"""What can be done between epochs: a record, early stopping, keeping the best weights."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bilstm.arguments import check_choice, refuse_unsupported

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
    """Callbacks that are told the same, one after the other."""

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

    def tell(self, hook: str, *arguments: Any) -> None:
        """Call all callbacks' method of this name."""
        for callback in self._callbacks:
            getattr(callback, hook)(*arguments)

    def listen_to(self, *hooks: str) -> bool:
        """Whether one of the callbacks overrides one of these methods."""
        return any(_overrides(callback, hook) for callback in self._callbacks for hook in hooks)


def _overrides(callback: Callback, hook: str) -> bool:
    return getattr(getattr(callback, hook), "__func__", None) is not getattr(Callback, hook)


class History(Callback):
    """What `fit` returns: `history` maps each log's name to a list with a number for each epoch."""

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []
        self.params = {}

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


class _Monitor:
    """Watches one log and says when it is better than ever."""

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

    def can_watch(self, logs: Logs | None, params: Mapping[str, Any]) -> bool:
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
        self.arguments = (monitor, mode, min_delta)
        self.patience = patience
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self.start_from_epoch = start_from_epoch
        self.stopped_epoch = 0
        self.best_epoch = 0
        self.on_train_begin()

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._monitor = _Monitor("EarlyStopping", *self.arguments)
        self.wait = 0
        self.stopped_epoch = 0
        self.best_epoch = 0
        self.best_weights: list[Any] | None = None

    @property
    def best(self) -> float:
        return self._monitor.best_value

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if epoch < self.start_from_epoch or not self._monitor.can_watch(logs, self.params):
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
        self._monitor = _Monitor("ModelCheckpoint", monitor, mode)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.save_best_only and not (self._monitor.can_watch(logs, self.params) and self._monitor.improved(logs)):
            return
        try:
            path = self.filepath.format(epoch=epoch + 1, **(logs or {}))
        except (KeyError, IndexError, ValueError) as error:
            names = ", ".join(["epoch", *(logs or {})])
            raise ValueError(f"ModelCheckpoint: {self.filepath!r} names {error}; there are: {names}") from None
        self.model.save(path)
        if self.verbose:
            print(f"Epoch {epoch + 1}: saved to {path}")
