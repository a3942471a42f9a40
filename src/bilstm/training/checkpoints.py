"""An unfinished training in a file, to be resumed later: safetensors with a JSON header. Data, never code."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm._version import __version__
from bilstm.errors import ModelFileError, UserError, listed, shown
from bilstm.files import AnyPath, check_writable, reason
from bilstm.modelfile import Tensors, read_model, write_model
from bilstm.ragged import FloatArray

_DIGEST = "sha256:"
_ARRAYS = ("weights", "first_moments", "second_moments", "average")


@dataclass(frozen=True)
class Best:
    """The best epoch so far; replaced as a whole, so that Ctrl-C never finds half of it.

    Attributes:
        score: of the epoch; larger is better.
        epoch: from 0.
        weights: (parameters,) after it.
    """

    score: tuple[float, float]
    epoch: int
    weights: FloatArray


@dataclass(frozen=True)
class Snapshot:
    """The whole state of a training, between two training steps.

    Attributes:
        weights, first_moments, second_moments: (parameters,) the state of the network and its optimizer.
        average: (parameters,) the moving average of the weights.
        iteration: training steps taken.
        random: the state of the generator that orders sequences, before the epoch.
        batches: how many batches of the epoch are done.
        sums: (5,) the sums of their scores.
        logs: the scores of each epoch that has ended.
        best: the best epoch; None before the first has ended.
        seconds: spent so far.
    """

    weights: FloatArray
    first_moments: FloatArray
    second_moments: FloatArray
    average: FloatArray
    iteration: int
    random: Mapping[str, Any]
    batches: int
    sums: npt.NDArray[np.float64]
    logs: list[dict[str, float]]
    best: Best | None
    seconds: float


class Checkpoint:
    """The file that holds an unfinished training.

    Args:
        path: the file. It is rewritten after every epoch, each time atomically.
        resume: continue the training that the file holds; without the file, training starts from the beginning.
        minutes: write the file at this interval, within an epoch too, instead of after every epoch.
        inputs: files that are being read, and must not be overwritten.
        force: without `resume`, replace an existing file of any content.

    Raises:
        UserError: the file cannot be written, is no checkpoint, or exists and neither `resume` nor `force` is True.
    """

    def __init__(
        self,
        path: AnyPath,
        *,
        resume: bool = False,
        minutes: float | None = None,
        inputs: Iterable[AnyPath] = (),
        force: bool = False,
    ) -> None:
        if minutes is not None and not 0 < minutes < math.inf:
            raise UserError(f"the minutes between two checkpoints must be a positive number, not {minutes!r}")
        check_writable(path, inputs=inputs)
        self.path, self.minutes, self._force = path, minutes, force and not resume
        self._facts: dict[str, Any] = {}
        self._found: tuple[Tensors, dict[str, Any]] | None = None
        self._resumable = False  # whether the file holds a part of this training
        self._written = time.monotonic()
        if self._force or not os.path.exists(path):
            return
        tensors, header = read_model(path)
        if header["kind"] != "checkpoint":
            raise UserError(f"{path} is a model, not a checkpoint: give another name")
        if not resume:
            raise UserError(
                f"{path} holds an unfinished training: continue it with --resume, or start anew with --force"
            )
        self._found = tensors, header
        self._resumable = True

    def belongs_to(self, facts: Mapping[str, Any]) -> None:
        """Add facts that distinguish this training from others.

        Args:
            facts: plain data by name; a `fingerprint` stands for long data.
        """
        self._facts |= json.loads(json.dumps(facts))

    def restore(self, parameters: int) -> Snapshot | None:
        """The state that the file held when this object was made; None if there was no file.

        Args:
            parameters: the number of parameters of the network that is trained.

        Raises:
            UserError: the file belongs to another training; the message names the first difference.
            ModelFileError: the file is damaged.
        """
        if self._found is None:
            return None
        tensors, header = self._found
        self._found = None
        if (version := header["versions"].get("bilstm")) != __version__:
            raise UserError(
                f"{self.path} was written by bilstm {shown(version)[1:-1]}, and this is {__version__}: finish it with "
                f"that version, or remove it to start anew"
            )
        facts = header.get("training")
        if not isinstance(facts, dict):
            raise ModelFileError(f"{self.path} is damaged (it does not say to which training it belongs)")
        for name in [*self._facts, *facts]:
            if name not in facts or name not in self._facts or facts[name] != self._facts[name]:
                difference = _difference(name, facts.get(name), self._facts.get(name))
                raise UserError(
                    f"{self.path} belongs to another training ({difference}): give the same, or remove it to start anew"
                )
        try:
            return _snapshot(tensors, header, parameters)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ModelFileError(f"{self.path} is damaged ({type(error).__name__}: {error})") from None

    def due(self, *, epoch_ended: bool) -> bool:
        """Whether the file should be written now."""
        if self.minutes is None:
            return epoch_ended
        return time.monotonic() - self._written >= 60 * self.minutes

    def write(self, snapshot: Snapshot) -> None:
        """Write the file, atomically.

        Raises:
            UserError: the file cannot be written; it is unchanged, and the message says if training can be resumed.
        """
        tensors, header = _content(snapshot)
        header = {"kind": "checkpoint", "training": self._facts, **header}
        try:
            write_model(self.path, tensors, header, force=self._force)
        except UserError as error:
            kept = ", and the same command with --resume continues" if self._resumable else ""
            raise UserError(f"{error}; training was stopped{kept}") from error
        self._resumable = True
        self._written = time.monotonic()

    def remove(self) -> None:
        """Remove the file: training has ended, and the model is safe.

        Raises:
            UserError: it cannot be removed.
        """
        try:
            Path(self.path).unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"cannot remove {self.path}: {reason(error)}") from error


def pack(snapshot: Snapshot | None) -> bytes:
    """A snapshot as bytes, for the other workers of a training; none for None."""
    if snapshot is None:
        return b""
    tensors, header = _content(snapshot)
    text = json.dumps([list(tensors), header]).encode()
    return b"".join([len(text).to_bytes(8, "little"), text, *(array.tobytes() for array in tensors.values())])


def unpack(data: bytes, parameters: int) -> Snapshot | None:
    """What `pack` was given.

    Args:
        parameters: the number of parameters of the network that is trained.
    """
    if not data:
        return None
    end = 8 + int.from_bytes(data[:8], "little")
    names, header = json.loads(data[8:end])
    arrays = np.frombuffer(data[end:], np.float32).reshape(len(names), parameters)
    return _snapshot(dict(zip(names, arrays, strict=True)), header, parameters)


def fingerprint(*parts: npt.NDArray[Any] | str | None) -> str:
    """A short text that differs if these arrays or texts do."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            digest.update(f"text {len(part.encode())} {part}".encode())
        elif part is None:
            digest.update(b"none ")
        else:
            digest.update(f"{part.dtype.str} {part.shape} ".encode())
            digest.update(np.ascontiguousarray(part).data)
    return _DIGEST + digest.hexdigest()


def _difference(name: str, there: Any, here: Any) -> str:
    if any(isinstance(value, str) and value.startswith(_DIGEST) for value in (there, here)):
        return f"{name} differ"
    return f"{name}: {_worded(there)} in the file, {_worded(here)} now"


def _worded(value: Any) -> str:
    if isinstance(value, list):
        return listed(value) or "none"
    return "not given" if value is None else shown(value) if isinstance(value, str) else str(value)


def _content(snapshot: Snapshot) -> tuple[Tensors, dict[str, Any]]:
    """A snapshot as arrays by name, and plain data."""
    tensors = {name: getattr(snapshot, name) for name in _ARRAYS}
    header = {name: getattr(snapshot, name) for name in ("iteration", "random", "batches", "logs", "seconds")}
    header["sums"] = snapshot.sums.tolist()
    if snapshot.best:
        tensors["best"] = snapshot.best.weights
        header["best"] = {"score": snapshot.best.score, "epoch": snapshot.best.epoch}
    return tensors, header


def _snapshot(tensors: Tensors, header: dict[str, Any], parameters: int) -> Snapshot:
    """The state that `Checkpoint.write` wrote, from an untrusted file. Raises any exception if it is something else."""
    arrays = {name: tensors[name] for name in _ARRAYS}
    logs, best = header["logs"], header.get("best")
    if best is not None:
        accuracy, loss = map(_number, best["score"])
        arrays["best"] = tensors["best"]
        if not 0 <= _count(best["epoch"]) < len(logs):
            raise ValueError("the best epoch is not among those done")
        best = Best((accuracy, loss), best["epoch"], tensors["best"])
    if bool(logs) != (best is not None):
        raise ValueError("epochs without a best one")
    for name, array in arrays.items():
        if array.shape != (parameters,):
            raise ValueError(f"{name} should be {parameters:,} numbers")
    random = header["random"]
    np.random.PCG64().state = random  # raises where it is none
    names = logs[0].keys() if logs else ()
    if any(log.keys() != names for log in logs):
        raise ValueError("the epochs' scores are not of the same names")
    return Snapshot(
        weights=arrays["weights"],
        first_moments=arrays["first_moments"],
        second_moments=arrays["second_moments"],
        average=arrays["average"],
        iteration=_count(header["iteration"]),
        random=random,
        batches=_count(header["batches"]),
        sums=np.array([_number(value) for value in header["sums"]]).reshape(5),
        logs=[{str(name): _number(value) for name, value in log.items()} for log in logs],
        best=best,
        seconds=_number(header["seconds"]),
    )


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{shown(value)} is not a number")
    return float(value)


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError(f"{shown(value)} is not a count")
    return value
