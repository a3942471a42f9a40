"""Callbacks that record the logs of epochs, or pass them on."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from typing import Any

from bilstm.callbacks.base import Callback, Logs
from bilstm.errors import UserError
from bilstm.files import reason


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
