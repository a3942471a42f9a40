"""Room on disk for what may be larger than memory: files and folders that do not outlive the process.

They are made where TMPDIR says, or else in /var/tmp, which is on a disk where /tmp may be in memory.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from bilstm.errors import UserError
from bilstm.files import discard, locked, reason, temporary

BLOCK = 1 << 20  # rows that are worked on at a time
LARGE = 1 << 26  # bytes from which on an array is kept in a file
_PREFIX, _SUFFIX = ".bilstm-", ".scratch"
_ADVICE = "; the environment variable TMPDIR can name a folder with more room"


def root() -> Path:
    """The folder for temporary files."""
    usual = Path("/var/tmp")
    chosen = "TMPDIR" in os.environ or not (usual.is_dir() and os.access(usual, os.W_OK))
    return Path(tempfile.gettempdir()) if chosen else usual


def empty(shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """An array of any content; a large one is mapped to a file without a name, so that memory need not hold it.

    Raises:
        UserError: there is no room for it on the disk.
    """
    dimensions = (shape,) if isinstance(shape, int) else shape
    size = math.prod(dimensions) * np.dtype(dtype).itemsize
    if size < LARGE:
        return np.empty(dimensions, dtype)
    try:
        with tempfile.TemporaryFile(dir=root(), prefix=_PREFIX) as file:
            _reserve(file, size)
            return np.frombuffer(mmap.mmap(file.fileno(), size), dtype).reshape(dimensions)
    except OSError as error:
        raise UserError(f"cannot write {size / 1e6:,.0f} MB into {root()}: {reason(error)}{_ADVICE}") from None


def folder(owner: object) -> Path:
    """A folder that is removed with its owner, or else when the process ends; what killed processes left is, too.

    Raises:
        UserError: it cannot be made.
    """
    try:
        _remove_abandoned()
        name = f"{_PREFIX}{os.urandom(4).hex()}"
        unlocked, made = (temporary(root() / f"{name}{suffix}") for suffix in (".new", _SUFFIX))
        with contextlib.ExitStack() as stack:
            stack.callback(discard, unlocked)
            unlocked.mkdir(0o700)
            stack.enter_context(locked(unlocked, alone=False))
            stack.callback(discard, made)
            # Locked first, and then given the name that others look for: they remove what is not locked.
            unlocked.rename(made)
            end = stack.pop_all()
    except OSError as error:
        raise UserError(f"cannot write into {root()}: {reason(error)}{_ADVICE}") from None
    weakref.finalize(owner, end.close)
    return made


def unicode_path(path: Path, owner: object) -> Path:
    """A path of the same file that libraries can take which know names in UTF-8 only.

    Args:
        path: the file, which need not exist if its own name is in UTF-8.
        owner: the path is good as long as this exists.
    """
    path = Path(os.fspath(path))  # of a file in a store that of its copy
    if _is_unicode(str(path.absolute())):
        return path
    target = path.parent if _is_unicode(path.name) else path
    link = folder(owner) / "link"
    link.symlink_to(target.absolute())
    return link / path.name if target == path.parent else link


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _reserve(file: IO[bytes], size: int) -> None:
    """Find out now whether there is room: a mapped file that cannot grow kills the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    zeros = bytes(1 << 20)
    for written in range(0, size, len(zeros)):
        file.write(zeros[: size - written])
    file.flush()


def _remove_abandoned() -> None:
    for other in root().glob(f"{_PREFIX}*{_SUFFIX}"):
        with contextlib.suppress(OSError), locked(other, alone=True) as nobody_uses:
            if nobody_uses:
                shutil.rmtree(other, ignore_errors=True)
