"""A training's scores for TensorBoard, written by tensorboardX, which needs neither TensorFlow nor PyTorch."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bilstm.errors import UserError
from bilstm.files import AnyPath, GrowingFile, reason

_OURS, _EVENTS = ".bilstm", "events.out.tfevents.*"
_NO_SCORES = ("epoch", "epochs", "done", "resumed", "seconds")


class TensorBoardLog:
    """Writes the scores of each epoch into a folder of event files: a `Progress` for `train_model`.

    An epoch, counted from 1, has the scalars "loss/training", "learning_rate" and, where there is a validation set,
    "loss/validation" and "accuracy/validation". A resumed training has its earlier epochs once.

    Args:
        folder: for this training alone; it is created with the first event. Events of an earlier training of bilstm,
            or of an earlier part of this one, are replaced.
        force: replace events of other programs, too.

    Attributes:
        problem: why an event could not be written, or None. Training continues without events.

    Raises:
        UserError: tensorboardX is not installed, the folder cannot be written, or holds events of another program.
    """

    def __init__(self, folder: AnyPath, *, force: bool = False) -> None:
        try:
            from tensorboardX.proto.event_pb2 import Event  # noqa: F401 - whether it is there
        except ModuleNotFoundError:
            raise UserError("--tensorboard needs tensorboardX: pip install 'bilstm[tensorboard]'") from None
        self.folder = Path(folder)
        self.problem: str | None = None
        _check_folder(self.folder)
        self._replaced = list(self.folder.glob(_EVENTS))
        if not force and any(not path.name.endswith(_OURS) for path in self._replaced):
            raise UserError(
                f"{folder} holds the events of another program: give another folder, or replace them with --force"
            )
        self._file: GrowingFile | None = None
        self._started = 0.0  # interruptions left out

    def __call__(self, figures: Mapping[str, Any]) -> None:
        """Take what training reports, and write the scores if an epoch has ended."""
        if self.problem is not None:
            return
        epochs = [*figures.get("resumed", ()), *([figures] if figures["done"] == 1.0 else [])]
        try:
            if epochs:
                beginning = b""
                if self._file is None:
                    self._file, beginning = self._new_file(epochs[-1]["seconds"])
                self._file.add(beginning + b"".join(map(self._records, epochs)))
                while self._replaced:
                    self._replaced.pop().unlink(missing_ok=True)
        except UserError as error:
            self.problem = str(error)
        except OSError as error:
            self.problem = f"cannot write events into {self.folder}: {reason(error)}"

    def _new_file(self, seconds: float) -> tuple[GrowingFile, bytes]:
        """A file of the name that TensorBoard looks for, and unlike those that it replaces; and its beginning."""
        from tensorboardX.proto.event_pb2 import Event

        now = time.time()
        self._started = now - seconds
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"events.out.tfevents.{now:.6f}.{socket.gethostname()}{_OURS}"
        return GrowingFile(path), _record(Event(wall_time=now, file_version="brain.Event:2"))

    def _records(self, epoch: Mapping[str, Any]) -> bytes:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=_tag(n), simple_value=value) for n, value in epoch.items() if n not in _NO_SCORES]
        when = self._started + epoch["seconds"]
        return _record(Event(wall_time=when, step=epoch["epoch"], summary=Summary(value=values)))


def _record(event: Any) -> bytes:
    """An event as a TFRecord: its length and itself, each with a checksum."""
    from tensorboardX.record_writer import masked_crc32c

    data: bytes = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    return b"".join([length, struct.pack("<I", masked_crc32c(length)), data, struct.pack("<I", masked_crc32c(data))])


def _tag(name: str) -> str:
    """Scores of one kind are drawn side by side."""
    if name == "learning_rate":
        return name
    return f"{name.removeprefix('val_')}/{'validation' if name.startswith('val_') else 'training'}"


def _check_folder(folder: Path) -> None:
    existing = next(path for path in (folder, *folder.parents, Path.cwd()) if path.exists())
    if not existing.is_dir():
        raise UserError(f"cannot write events into {folder}: {existing} is not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"cannot write events into {folder}: {existing} is write-protected")
