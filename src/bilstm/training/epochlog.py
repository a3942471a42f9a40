"""A training's log: a line of JSON for each epoch, which any tracker can read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from bilstm.errors import UserError
from bilstm.files import AnyPath, GrowingFile, check_writable, reason

_NOT_SCORES = ("epochs", "done", "resumed")
_ALWAYS = ("epoch", "loss", "seconds")  # in each line; "epoch" is the first


class EpochLog:
    """Writes the scores of each epoch: a `Progress` for `train_model`.

    Each line is an object with "epoch" (from 1), "loss", "val_loss" and "val_accuracy" where there is a validation set,
    "learning_rate" (the last of the epoch) and "seconds" (since training began, without interruptions). A resumed
    training has the lines of its earlier epochs once.

    Args:
        path: the file to write; an earlier log is replaced.
        inputs: files that are being read, and must not be overwritten.
        force: replace an existing file of any content.

    Attributes:
        problem: why the file could not be completed, or None. Training continues without it.

    Raises:
        UserError: the file cannot be written, or exists and is not a log of training.
    """

    def __init__(self, path: AnyPath, *, inputs: Iterable[AnyPath] = (), force: bool = False) -> None:
        check_writable(path, inputs=inputs)
        self.path, self._force = path, force
        self._check_replaceable()
        self.problem: str | None = None
        self._file = GrowingFile(path)

    def __call__(self, figures: Mapping[str, Any]) -> None:
        """Take what training reports, and write a line if an epoch has ended."""
        if self.problem is not None:
            return
        try:
            lines = []
            if not self._file.begun:
                self._check_replaceable()  # again: training may have begun hours after the first time
                lines = [_line(scores) for scores in figures.get("resumed", ())]
            if figures["done"] == 1.0:
                lines.append(_line({name: value for name, value in figures.items() if name not in _NOT_SCORES}))
            if lines or not self._file.begun:
                self._file.add("".join(lines).encode())
        except UserError as error:
            self.problem = str(error)
        except OSError as error:
            self.problem = f"cannot read {self.path}: {reason(error)}"

    def _check_replaceable(self) -> None:
        if not self._force and not _may_be_replaced(self.path):
            raise UserError(
                f"{self.path} exists and is not a log of training: give another name, or replace it with --force"
            )


def _line(scores: Mapping[str, Any]) -> str:
    return json.dumps(scores) + "\n"


def _may_be_replaced(path: AnyPath) -> bool:
    """Whether nothing is lost with the file: it does not exist, is empty, or its first line is one of ours."""
    try:
        with open(path, "rb") as file:
            first = file.readline(10_000)
        line = json.loads(first) if first else dict.fromkeys(_ALWAYS)
    except FileNotFoundError:
        return True
    except (ValueError, RecursionError):
        return False
    return isinstance(line, dict) and list(line)[:1] == ["epoch"] and line.keys() >= set(_ALWAYS)
