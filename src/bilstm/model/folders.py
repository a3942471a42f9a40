"""Predictions for several files, one file for each, and which of them are finished."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bilstm._version import __version__
from bilstm.data.database import recycle
from bilstm.data.dataset import Observations
from bilstm.data.filetable import FileTable
from bilstm.data.manyfiles import check_names
from bilstm.data.paths import format_of, has_format
from bilstm.data.readingoptions import ANNOTATIONS
from bilstm.errors import UserError
from bilstm.files import AnyPath, GrowingFile, check_writable, reason
from bilstm.model.predictions import PredictionOptions, check_predictions, check_predictions_path, write_predictions
from bilstm.model.trained import TrainedModel
from bilstm.ragged import Extent

FINISHED = ".bilstm-finished"  # the file in a folder of predictions that says which are finished


@dataclasses.dataclass
class Progress:
    """What has been predicted.

    Attributes:
        written: the number of files.
        skipped: the number of those that were finished before.
        extent: how many sequences of how many steps were predicted.
        observations: what was noticed while encoding them.
    """

    written: int = 0
    skipped: int = 0
    extent: Extent = dataclasses.field(default_factory=Extent)
    observations: Observations = dataclasses.field(default_factory=Observations)


class FolderPredictions:
    """Writes predictions for each of several files to a file of the same name in a folder.

    Args:
        model: the model, as it reads the files.
        path: the model's file.
        files: the files to predict for.
        folder: where predictions are written. It is made if it is not there.
        options: what predictions consist of.
        resume: whether to pass over files that are finished. A file is, if the folder's record has an entry for it
            which says that its predictions were made of these contents, by this model with these options, and if the
            predictions are as they were written: of the same size, and not changed since.
        force: whether to replace files of any content.

    Attributes:
        progress: what has been predicted.

    Raises:
        UserError: the folder cannot be written, or a file in it would be replaced that does not hold predictions.
    """

    def __init__(
        self,
        model: TrainedModel,
        path: AnyPath,
        files: Sequence[Path],
        folder: AnyPath,
        options: PredictionOptions,
        *,
        resume: bool = False,
        force: bool = False,
    ) -> None:
        check_names(files, "their predictions")
        self._model, self._options, self.folder = model, options, Path(folder)
        self._outputs = {file: self.folder / self._name(file) for file in files}
        self._check_folder(path)
        self._record = _Record(self.folder / FINISHED, _identity(model, path, options), resume=resume)
        self.progress = Progress()
        self._left = []
        for file, output in self._outputs.items():
            if self._record.is_finished(file, output):
                self.progress.skipped += 1
                continue
            self._left.append(file)
            if os.path.lexists(output):
                check_predictions_path(output, force=force)

    def run(self) -> None:
        """Predict for all files that are not finished.

        Raises:
            UserError: a file cannot be read, or predictions for it cannot be written; those before it are.
        """
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write {self.folder}: {reason(error)}") from None
        for file in self._left:
            table = self._model.open(file)
            assert isinstance(table, FileTable)
            contents = _digest(file)
            output = self._outputs[file]
            check_predictions(table, self._options, self._model, output)
            data = self._model.read(table)
            write_predictions(self._model, table, data, self._options, output)
            if file != self._left[-1]:
                recycle(table.connection)
            self._record.add(output, contents)
            self.progress.written += 1
            self.progress.extent.add(data.values.lengths)
            self.progress.observations.add(data.observations)

    def _name(self, file: Path) -> str:
        """The name of a file's predictions: its own, unless they cannot have the format that it stands for."""
        reading, task = self._model.schema.reading, self._model.task
        own = format_of(file) if has_format(file) else None
        if self._options.annotate or reading.format in (*ANNOTATIONS, "text") or file.suffix == ".json":
            other = ".json" if self._options.annotate == "label-studio" else ".ndjson"
            return file.name if own == "ndjson" and file.suffix != ".json" and other != ".json" else file.name + other
        if own == "conll" and (self._options.runs or task.per_sequence) and reading.format in (None, "conll"):
            return f"{file.name}.csv"
        return file.name if own is not None else f"{file.name}.{reading.format}"

    def _check_folder(self, model: AnyPath) -> None:
        inputs = {os.path.realpath(path): path for path in (model, *self._outputs)}
        for output in self._outputs.values():
            if (other := inputs.get(os.path.realpath(output))) is not None:
                raise UserError(f"cannot write {output}: {other} is being read; give another folder")
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"cannot write into {self.folder}: it is not a folder")
        check_writable(self.folder / FINISHED if self.folder.exists() else self.folder)


class _Record:
    """Which files of predictions are finished: a line for each in a file next to them.

    Args:
        path: that file.
        identity: what tells the model and the options from others.
        resume: whether to keep what it says.
    """

    def __init__(self, path: Path, identity: str, *, resume: bool) -> None:
        self._identity, self._file = identity, GrowingFile(path)
        self._entries: dict[str, dict[str, Any]] = {}
        self._torn = False  # whether the last line was cut off
        if resume and path.is_file():
            self._file.begun = True
            try:
                content = path.read_bytes()
            except OSError as error:
                raise UserError(f"cannot read {path}: {reason(error)}") from None
            self._torn = not content.endswith(b"\n")
            for line in content.splitlines():
                try:
                    entry = json.loads(line)
                    self._entries[entry["file"]] = entry
                except (ValueError, KeyError, TypeError):  # it was cut off, or is another program's
                    continue

    def is_finished(self, source: Path, output: Path) -> bool:
        """Whether the predictions for a file are there, and what they would be now."""
        entry = self._entries.get(_key(output))
        if entry is None or entry.get("by") != self._identity or entry.get("state") != _state(output):
            return False
        return entry.get("of") == _digest(source)

    def add(self, output: Path, contents: str) -> None:
        """Note that predictions for a file of such contents have been written."""
        entry = {"file": _key(output), "by": self._identity, "of": contents, "state": _state(output)}
        self._file.add(b"\n" * self._torn + json.dumps(entry).encode() + b"\n")
        self._torn = False


def _key(output: Path) -> str:
    return ascii(output.name)


def _state(path: Path) -> list[int] | None:
    """What changes with a file's content."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def _digest(path: AnyPath) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from None


def _identity(model: TrainedModel, path: AnyPath, options: PredictionOptions) -> str:
    """What two runs that predict the same have in common."""
    facts = {
        "version": __version__,
        "model": _digest(path),
        "schema": model.schema.to_json(),
        "columns": list(model.task.columns),
        "precision": model.precision,
        "options": dataclasses.asdict(options),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
