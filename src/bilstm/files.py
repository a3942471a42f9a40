"""Writing a file atomically, and removing what is temporary whatever ends the process."""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl

from bilstm.errors import UserError, suggestion

AnyPath = str | os.PathLike[str]
NOT_FROM_STORES = "only tables, and models that predict, are read from stores; copy it to this machine"
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://")
_PATIENCE = (0.0, 0.01, 0.03, 0.1, 0.3)  # seconds between attempts
_temporaries: dict[Path, int] = {}  # what must be removed, and the process that made it, since a fork has it too


@contextlib.contextmanager
def replacing(path: AnyPath) -> Iterator[Path]:
    """Yield the path of a new file in the same folder, which takes the place of `path` when the block succeeds.

    Whatever ends the block early, Ctrl-C included, removes the new file and leaves `path` as it was. What a process
    leaves that was killed meanwhile is removed when `path` is written next, except on Windows.

    Raises:
        UserError: the file cannot be written; the message gives the system's reason.
    """
    new = None
    try:
        target = _target(path)
        _remove_abandoned(target)
        new = _temporary(target)
        with locked(target.parent, alone=False):
            yield new
            with open(new, "rb+") as file:
                os.fsync(file.fileno())
            if target.exists():
                shutil.copymode(target, new)
            os.replace(new, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {reason(error)}") from error
    finally:
        if new is not None:
            discard(new)


class GrowingFile:
    """A file that is written piece by piece, each atomically: what was added before a failure stays.

    The first piece takes the place of an older file; one that is moved away meanwhile is begun anew.

    Args:
        path: the file.

    Attributes:
        begun: whether something was added.
    """

    def __init__(self, path: AnyPath) -> None:
        self.path, self.begun = path, False

    def add(self, piece: bytes) -> None:
        """Add a piece, which can be read at once.

        Raises:
            UserError: it cannot be written; the message gives the system's reason.
        """
        if not self.begun:
            with replacing(self.path) as new:
                new.write_bytes(piece)
            self.begun = True
            return
        try:
            with open(self.path, "ab", buffering=0) as file:
                size = file.tell()
                try:
                    rest = memoryview(piece)
                    while rest:
                        rest = rest[file.write(rest) :]
                except BaseException:
                    file.truncate(size)
                    raise
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {reason(error)}") from error

    def finish(self) -> None:
        """Make sure that the file is there, and on the disk.

        Raises:
            UserError: it cannot be written.
        """
        if not self.begun:
            self.add(b"")
        try:
            with open(self.path, "rb+") as file:
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {reason(error)}") from error


def is_address(path: AnyPath) -> bool:
    """Whether a path is the address of a file in a store, such as `s3://lake/part.parquet`."""
    return isinstance(path, str) and _ADDRESS.match(path) is not None


def check_writable(path: AnyPath, *, inputs: Iterable[AnyPath] = ()) -> None:
    """Find out now, before hours of work, whether `path` can be written.

    Args:
        path: the file that will be written.
        inputs: files that are being read, and must not be overwritten.

    Raises:
        UserError: it cannot, or it is one of the inputs.
    """
    if is_address(path):
        raise UserError(f"cannot write {path}: only predictions are written to stores; name a file on this machine")
    try:
        target = _target(path)
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
        _remove_abandoned(target)
        trial = _temporary(target)
        try:
            trial.touch(exist_ok=False)
        finally:
            discard(trial)
    except OSError as error:
        raise UserError(f"cannot write {path}: {reason(error)}") from error


def check_replaceable(path: AnyPath, what: str, is_ours: Callable[[AnyPath], bool]) -> None:
    """Refuse to replace a file that bilstm cannot have written, unless it is empty.

    Args:
        path: the file that will be written.
        what: what bilstm writes there, for the message: "a report of bilstm's".
        is_ours: whether an existing file is that; it may raise a UserError if the file cannot be read as such.

    Raises:
        UserError: the file exists and is something else.
    """
    if not os.path.exists(path) or not os.path.getsize(path):
        return
    try:
        replaceable = is_ours(path)
    except (UserError, OSError):  # damaged, or another format than its name says
        replaceable = False
    if not replaceable:
        raise UserError(f"{path} exists and is not {what}: give another name, or replace it with --force")


def check_readable(path: AnyPath) -> None:
    """Find out whether `path` is a file with something in it.

    Raises:
        UserError: it is missing (the message names a file with a similar name), a folder, empty, or no ordinary file.
    """
    if is_address(path):
        raise UserError(f"cannot read {path}: {NOT_FROM_STORES}")
    path = path if isinstance(path, Path) else Path(path)
    try:
        if path.is_dir():
            raise UserError(f"{path} is a folder: give the name of a file")
        if not path.exists():
            siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
            raise UserError(f"there is no file {path}.{suggestion(path.name, siblings)}".rstrip("."))
        if not path.is_file():
            raise UserError(f"{path} is not an ordinary file: write it to one first")
        with open(path, "rb") as file:
            if not file.read(1):
                raise UserError(f"{path} is empty")
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from None


def digest(path: AnyPath) -> str:
    """The SHA-256 of a file's content, as hexadecimal digits.

    Raises:
        UserError: the file cannot be read.
    """
    import hashlib

    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from None


def reason(error: OSError) -> str:
    """What the operating system says, in lower case as part of a sentence."""
    text = error.strerror or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]


@contextlib.contextmanager
def locked(folder: Path, *, alone: bool) -> Iterator[bool]:
    """Lock a folder for the block, alone or with others who use it, and tell whether that was possible.

    A shared lock waits for a moment while a process holds it exclusively, to remove what killed processes left.
    The lock of a process that is killed ends with it. It is the folder's, since what writes a file may lock that.
    """
    if sys.platform == "win32":  # where a folder cannot be opened
        yield False
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield any(_lock(handle, alone, after) for after in (_PATIENCE[:1] if alone else _PATIENCE))
    finally:
        os.close(handle)


def _lock(handle: int, alone: bool, after: float) -> bool:
    """Try to lock an open folder after some seconds, and tell whether it is locked now."""
    time.sleep(after)
    try:
        fcntl.flock(handle, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def temporary(path: Path) -> Path:
    """Note a path that must not outlive the process, before something is made there; `discard` removes it."""
    _temporaries[path] = os.getpid()
    return path


def discard(path: Path) -> None:
    """Remove what is at a `temporary` path, if anything is; what cannot be removed is tried again in the end."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError:
        return
    _temporaries.pop(path, None)


@atexit.register
def _discard_all() -> None:
    """Whatever a signal kept the program from removing."""
    for path in [path for path, process in _temporaries.items() if process == os.getpid()]:
        discard(path)


def _target(path: AnyPath) -> Path:
    """The file that an ordinary write would go to, through links."""
    target = Path(os.path.realpath(path))
    if target.is_symlink():  # one of a circle
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return target


def _temporary(target: Path) -> Path:
    return temporary(target.with_name(f"{_prefix(target)}{os.urandom(4).hex()}.partial"))


def _prefix(target: Path) -> str:
    import hashlib

    # A digest: the name itself with something appended could exceed the system's limit.
    return f".bilstm-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:12]}-"


def _remove_abandoned(target: Path) -> None:
    """Remove what was being written to this target by processes that were killed."""
    prefix = _prefix(target)  # to match a pattern takes long where a folder has many files
    names = [name for name in os.listdir(target.parent) if name.startswith(prefix) and name.endswith(".partial")]
    abandoned = [target.with_name(name) for name in names]
    if abandoned:
        with locked(target.parent, alone=True) as nobody_writes:
            for path in abandoned if nobody_writes else ():
                with contextlib.suppress(OSError):
                    path.unlink()


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
