"""Predictions for several files, one file for each, and which of them are finished."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bilstm._version import __version__
from bilstm.data import scratch
from bilstm.data.database import recycle
from bilstm.data.dataset import Dataset, Observations
from bilstm.data.filetable import FileTable, NoRowsError
from bilstm.data.manyfiles import check_names
from bilstm.data.paths import format_of, has_format
from bilstm.data.readingoptions import ANNOTATIONS
from bilstm.data.stores import StoredPath, as_path, exists, identity, in_turn, release, writing
from bilstm.errors import UserError, counted
from bilstm.files import AnyPath, check_writable, digest, reason
from bilstm.model.manifest import Manifest
from bilstm.model.predictions import PredictionOptions, check_predictions, check_predictions_path, write_predictions
from bilstm.model.trained import TrainedModel
from bilstm.ragged import Extent

Shard = tuple[int, int]  # which one, counted from 1, and of how many
_REPORTED = 3  # of the files that are not as they should be


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
    """Writes predictions for each of several files to a file in a folder.

    Args:
        model: the model, as it reads the files.
        path: the model's file.
        files: the files to predict for, each with its name in the folder, which may be one in folders of its own.
        folder: where predictions are written, on this machine or in a store. It is made if it is not there.
        options: what predictions consist of.
        shard: which of the files to predict for, such as (2, 8): the second of each eight. Processes that have one
            each may run at the same time.
        resume: whether to pass over files that are finished, as with a shard. A file is, if the folder's manifest has
            an entry for it which says that its predictions were made of these contents, by this model with these
            options, and if the predictions are as they were written: of the same size, and not changed since.
        force: whether to replace files of any content.

    Attributes:
        progress: what has been predicted.
        count: the number of files, or of those of the shard.

    Raises:
        UserError: the folder cannot be written, or a file in it would be replaced that does not hold predictions.
    """

    def __init__(
        self,
        model: TrainedModel,
        path: AnyPath,
        files: Mapping[Path, Path],
        folder: AnyPath,
        options: PredictionOptions,
        *,
        shard: Shard | None = None,
        resume: bool = False,
        force: bool = False,
    ) -> None:
        self._model, self._options, self.folder = model, options, as_path(folder)
        self._outputs = {file: self.folder / name.with_name(self._name(file)) for file, name in files.items()}
        check_names(files, "their predictions", lambda file: str(self._outputs[file]))
        part = ""
        if shard is not None:
            part = f"-{shard[0]}-of-{shard[1]}"
            self._outputs = dict(list(self._outputs.items())[shard[0] - 1 :: shard[1]])
        about = {"model_sha256": digest(as_path(path)), "duckdb": _version_of_duckdb()}
        identity = _identity(model, about["model_sha256"], options)
        self._manifest = Manifest(self.folder, identity, about, part=part, resume=resume or shard is not None)
        self._check_folder(path)
        self._force, self.progress, self.count = force, Progress(), len(self._outputs)

    def run(self) -> None:
        """Predict for all files that are not finished.

        Raises:
            UserError: a file cannot be read, or predictions for it cannot be written; those before it are.
        """
        left = []
        for file, output in self._outputs.items():
            if self._manifest.is_finished(file, output):
                self.progress.skipped += 1
            else:
                left.append(file)
                if exists(output):
                    check_predictions_path(output, force=self._force)
            for each in (file, output):  # which may have been fetched to find that out
                release(each)
        _make(self.folder, parents=False)
        for file in in_turn(left):
            output = self._outputs[file]
            _make(output.parent)
            contents = digest(file)
            with writing(output) as path:
                data = self._predict(file, path)
            self._manifest.add(file, contents, output)
            release(output)
            self.progress.written += 1
            self.progress.extent.add(data.values.lengths)
            self.progress.observations.add(data.observations)

    def verify(self, count: int) -> int:
        """Predict for a sample of the files again, and compare with what is in the folder, byte for byte.

        The sample are the files with the least digests (SHA-256) of their names in the folder: the same at each time,
        and none that anything else depends on.

        Args:
            count: the number of files to check at most.

        Returns:
            How many files were compared.

        Raises:
            UserError: a file is not finished, was changed since, or differs; the message names the first ones.
        """
        entries = {file: self._manifest.entry(output) for file, output in self._outputs.items()}
        if missing := [str(file) for file, entry in entries.items() if entry is None]:
            raise UserError(
                f"{self.folder} has no finished predictions by this model and with these options for "
                f"{counted(len(missing), 'file')} of {len(entries):,}: {_first(missing)}; the same command without "
                f"--verify, and with --resume or --shard, makes them"
            )
        names = {file: os.fsencode(self._manifest.name(output)) for file, output in self._outputs.items()}
        sample = sorted(entries, key=lambda file: hashlib.sha256(names[file]).digest())[:count]
        differences = {}
        for file in in_turn(sample):
            differences[self._outputs[file]] = self._difference(file, entries[file] or {})
            release(self._outputs[file])
        problems = [f"{output} {problem}" for output, problem in differences.items() if problem]
        if problems:
            of_them = f"{counted(len(problems), 'file')} of {len(sample):,}"
            raise UserError(f"{of_them} {'is' if len(problems) == 1 else 'are'} wrong: {_first(problems, '; ')}")
        return len(sample)

    def _predict(self, file: Path, output: Path) -> Dataset:
        """Write predictions for a file, and return what was predicted for."""
        try:
            table = self._model.open(file)
        except NoRowsError as error:  # as programs write that divide tables: its predictions have no row, either
            table = error.table
        assert isinstance(table, FileTable)
        check_predictions(table, self._options, self._model, output)
        data = self._model.read(table)
        write_predictions(self._model, table, data, self._options, output)
        recycle(table.connection)
        return data

    def _difference(self, file: Path, entry: Mapping[str, Any]) -> str:
        """What is wrong with finished predictions, or nothing."""
        output = self._outputs[file]
        if digest(file) != entry.get("input_sha256"):
            return f"was made before {file} was changed"
        if digest(output) != entry.get("sha256"):
            return "was changed since it was written"
        again = scratch.folder(self) / output.name
        self._predict(file, again)
        if digest(again) == entry.get("sha256"):
            return ""
        versions = entry.get("duckdb"), _version_of_duckdb()
        other = "" if versions[0] == versions[1] else f", which DuckDB {versions[0]} wrote and {versions[1]} does now"
        return f"is not what is predicted now{other}"

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
        inputs = {identity(path): path for path in (model, *self._outputs)}
        for output in self._outputs.values():
            if (other := inputs.get(identity(output))) is not None:
                raise UserError(f"cannot write {output}: {other} is being read; give another folder")
        if isinstance(self.folder, StoredPath):
            return
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"cannot write into {self.folder}: it is not a folder")
        check_writable(self._manifest.path if self.folder.exists() else self.folder)


def _make(folder: Path, *, parents: bool = True) -> None:
    if isinstance(folder, StoredPath):  # which makes folders with their files
        return
    try:
        folder.mkdir(parents=parents, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {reason(error)}") from None


def _first(texts: Sequence[str], sign: str = ", ") -> str:
    """The first of some texts."""
    rest = len(texts) - _REPORTED
    return sign.join(texts[:_REPORTED]) + (f" and {rest:,} more" if rest > 0 else "")


def _version_of_duckdb() -> str:
    import duckdb

    return duckdb.__version__


def _identity(model: TrainedModel, contents: str, options: PredictionOptions) -> str:
    """What two runs that predict the same have in common; `contents` is the digest of the model's file."""
    facts = {
        "version": __version__,
        "model": contents,
        "schema": model.schema.to_json(),
        "columns": list(model.task.columns),
        "precision": model.precision,
        "options": dataclasses.asdict(options),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
