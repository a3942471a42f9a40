"""Writing a file wholly or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from bilstm.errors import UserError, suggestion

AnyPath = str | os.PathLike[str]


@contextlib.contextmanager
def replacing(path: AnyPath) -> Iterator[Path]:
    """Yield the path of a new file in the same folder, which takes the place of `path` when the block succeeds.

    Whatever ends the block early, Ctrl-C included, removes the new file and leaves `path` as it was.

    Raises:
        UserError: the file cannot be written; the message gives the system's reason.
    """
    target = Path(os.path.realpath(path))  # through a link, as an ordinary write would go
    temporary = _temporary(target)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_writable(path: AnyPath, *, inputs: Iterable[AnyPath] = ()) -> None:
    """Find out now, before hours of work, whether `path` can be written.

    Args:
        path: the file that will be written.
        inputs: files that are being read, and must not be overwritten.

    Raises:
        UserError: it cannot, or it is one of the inputs.
    """
    target = Path(os.path.realpath(path))
    try:
        if target.is_dir():
            raise UserError(f"cannot write {path}: it is a folder; give the name of a file")
        if not target.parent.is_dir():
            raise UserError(f"cannot write {path}: the folder {Path(path).parent} does not exist")
        if target.exists():
            if not target.is_file():
                raise UserError(f"cannot write {path}: it is not an ordinary file")
            if any(os.path.exists(other) and os.path.samefile(target, other) for other in inputs):
                raise UserError(f"cannot write {path}: it is being read; give another name")
            if not os.access(target, os.W_OK):
                raise UserError(f"cannot write {path}: it is write-protected")
        trial = _temporary(target)
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        raise UserError(f"cannot write {path}: {reason(error)}") from error


def check_readable(path: AnyPath) -> None:
    """Find out whether `path` is a file with something in it.

    Raises:
        UserError: it is missing (the message names a file with a similar name), a folder, empty, or no ordinary file.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder: give the name of a file")
        if not path.exists():
            siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
            raise UserError(f"there is no file {path}.{suggestion(path.name, siblings, cutoff=0.75)}".rstrip("."))
        if not path.is_file():
            raise UserError(f"{path} is not an ordinary file: write it to one first")
        with open(path, "rb") as file:
            if not file.read(1):
                raise UserError(f"{path} is empty")
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from None


def reason(error: OSError) -> str:
    """What the operating system says, in lower case as part of a sentence."""
    text = error.strerror or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]


def _temporary(target: Path) -> Path:
    # A short name of its own: a long one with something appended could exceed the system's limit.
    return target.with_name(f".bilstm-{secrets.token_hex(8)}.partial")


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
