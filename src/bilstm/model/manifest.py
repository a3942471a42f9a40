"""Which files of predictions in a folder are finished, and of what they were made: lines of JSON in the folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bilstm.data.stores import StoredPath, growing
from bilstm.errors import UserError
from bilstm.files import digest, reason

FINISHED = ".bilstm-finished"  # the file in a folder of predictions; those of shards have names that begin so


class Manifest:
    """The files of predictions in a folder.

    Each process that may run at the same time as others writes a file of its own, and all are read.

    Args:
        folder: the folder.
        identity: what tells the model and the options from others.
        about: what else each entry says.
        part: the end of the name of the file that this process writes.
        resume: whether to keep what the files say.

    Raises:
        UserError: a file cannot be read.
    """

    def __init__(self, folder: Path, identity: str, about: dict[str, str], *, part: str = "", resume: bool) -> None:
        self._folder, self._identity, self._about = folder, identity, about
        self.path = folder / f"{FINISHED}{part}"
        self._file = growing(self.path)
        self._file.begun = resume  # others may append to it at the same time
        self._entries: dict[str, list[dict[str, Any]]] = {}
        self._torn = False  # whether the last line was cut off
        for path in sorted(_files(folder)) if resume else ():
            try:
                content = path.read_bytes()
            except OSError as error:
                raise UserError(f"cannot read {path}: {reason(error)}") from None
            self._torn |= path == self.path and content[-1:] not in (b"", b"\n")
            for line in content.splitlines():
                try:
                    entry = json.loads(line)
                    self._entries.setdefault(entry["file"], []).append(entry)
                except (ValueError, KeyError, TypeError):  # it was cut off, or is another program's
                    continue

    def entry(self, output: Path) -> dict[str, Any] | None:
        """What is known of predictions, if they are by this model with these options and have not been changed since
        (by their size and time)."""
        state = _state(output)
        for entry in self._entries.get(self.name(output), ()):
            if entry.get("by") == self._identity and entry.get("state") == state is not None:
                return entry
        return None

    def is_finished(self, source: Path, output: Path) -> bool:
        """Whether the predictions for a file are there, and what they would be now.

        A file in a store is not fetched for this if the store tells whether it is the one that was read.
        """
        entry = self.entry(output)
        if entry is None:
            return False
        state = source.state() if isinstance(source, StoredPath) else None
        if state is not None and entry.get("input_state") == state:
            return True
        return entry.get("input_sha256") == digest(source)

    def add(self, source: Path, contents: str, output: Path) -> None:
        """Note that predictions have been written.

        Args:
            source: the file that they are for.
            contents: its digest.
            output: the file of predictions.
        """
        entry: dict[str, Any] = {"file": self.name(output), "sha256": digest(output)}
        entry |= {"input": str(source), "input_sha256": contents, **self._about}
        if isinstance(source, StoredPath):
            entry["input_state"] = source.state()
        entry |= {"by": self._identity, "state": _state(output)}
        self._file.add(b"\n" * self._torn + json.dumps(entry).encode() + b"\n")
        self._torn = False

    def name(self, output: Path) -> str:
        """What a file of predictions is called in the folder."""
        if isinstance(self._folder, StoredPath):
            return str(output).removeprefix(str(self._folder)).lstrip("/")
        return output.relative_to(self._folder).as_posix()


def _files(folder: Path) -> list[Path]:
    """The files of a folder that say what is finished."""
    if isinstance(folder, StoredPath):
        return [folder / name for name in folder.below(f"{FINISHED}*")]
    return list(folder.glob(f"{FINISHED}*"))


def _state(path: Path) -> Sequence[int | str] | None:
    """What changes with a file's content."""
    if isinstance(path, StoredPath):
        return path.state()
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]
