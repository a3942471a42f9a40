"""The base class of callbacks, and a group of them that is called together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bilstm.arguments import call_of

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
    def of(
        cls, owner: str, callbacks: Sequence[Callback] | Callback | None, model: Sequential, **params: Any
    ) -> Callbacks:
        """What the user gave, prepared for work on the model.

        Raises:
            TypeError: there is something else among them.
        """
        several = [callbacks] if isinstance(callbacks, Callback) else list(callbacks or ())
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
