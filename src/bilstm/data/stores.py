"""Files of object stores, and of whatever else fsspec knows, by addresses such as `s3://lake/part.parquet`.

What reads a file reads a local copy, which is fetched when it is opened first. Predictions are written to a local file
and put into the store whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from bilstm.data import scratch
from bilstm.errors import UserError
from bilstm.files import AnyPath, GrowingFile, is_address

if TYPE_CHECKING:
    from pathlib import Path as _LocalPath
else:
    _LocalPath = type(Path())  # PosixPath or WindowsPath

# Here a file is there as a whole or not at all. Elsewhere it is put under another name first, and then renamed, which
# an object store does by a second copy.
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "oci"}
# What changes with the content of a file, as different stores call it: the first one known counts.
_MARKS = ("ETag", "etag", "checksum", "md5Hash", "content_md5", "mtime", "LastModified", "last_modified", "updated")
_AT_ONCE = 8  # files that are fetched


class _Copy:
    """A local file in a folder that is removed with this object."""

    def __init__(self, name: str) -> None:
        self.path = scratch.folder(self) / name


class StoredPath(_LocalPath):
    """A file or a folder of a store.

    Its text is the address, which messages name. As a path of the operating system it is that of a local copy: what
    opens it needs to know nothing of stores.

    Args:
        address: such as `s3://lake/part.parquet`.

    Raises:
        UserError: on opening it, or asking for it: fsspec or what it needs for this store is not installed, the file is
            not there, or the store refuses.
    """

    def __init__(self, address: str) -> None:
        if sys.version_info >= (3, 12):  # before, __new__ takes the arguments
            super().__init__(address)
        self.address = address
        self._copy: _Copy | None = None

    def __fspath__(self) -> str:
        if self._copy is None:
            copy = _Copy(self.name)
            with self._accessing("read") as (system, path):
                system.get_file(path, str(copy.path))
            self._copy = copy
        return str(self._copy.path)

    def __str__(self) -> str:
        return self.address

    def __repr__(self) -> str:
        return f"StoredPath({self.address!r})"

    def __reduce__(self) -> tuple[type[StoredPath], tuple[str]]:
        return StoredPath, (self.address,)

    def __truediv__(self, name: AnyPath) -> StoredPath:
        return StoredPath(posixpath.join(self.address, PurePosixPath(name).as_posix()))

    @property
    def parent(self) -> StoredPath:
        return StoredPath(posixpath.dirname(self.address))

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        with self._accessing("read") as (system, path):
            return bool(system.exists(path))

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        with self._accessing("read") as (system, path):
            return bool(system.isdir(path))

    def state(self) -> list[int | str] | None:
        """What changes with the file's content: its size, and a digest or a time that the store keeps.

        None if there is no such file, or if the store keeps neither.
        """
        with self._accessing("read") as (system, path):
            try:
                about: Mapping[str, Any] = system.info(path)
            except FileNotFoundError:
                return None
        mark = next((about[name] for name in _MARKS if about.get(name)), about.get("created"))
        return None if mark is None else [int(about["size"]), str(mark).strip('"')]

    def below(self, pattern: str = "") -> list[str]:
        """The files in this folder, or those that match a pattern, by their paths below it; none that is hidden.

        Args:
            pattern: such as `*/part-*.parquet`; `**` stands for any folders. Empty: the files in the folder itself.
        """
        with self._accessing("read") as (system, top):
            if pattern:
                found = system.glob(posixpath.join(top, pattern), detail=True)
            else:
                found = {entry["name"]: entry for entry in system.ls(top, detail=True)}
            names = [name for name, about in found.items() if about["type"] == "file"]
            below = [str(system._strip_protocol(name)).removeprefix(top).lstrip("/") for name in names]
        hidden = pattern.startswith(".")
        return [name for name in below if name and (hidden or not any(part[0] == "." for part in name.split("/")))]

    @contextlib.contextmanager
    def writing(self) -> Iterator[Path]:
        """Yield the path of a local file, which is put into the store when the block succeeds.

        Raises:
            UserError: it cannot be put there.
        """
        copy = _Copy(self.name)
        yield copy.path
        local = str(copy.path)
        with self._accessing("write") as (system, path):
            if self.address.partition("://")[0] in _OBJECT_STORES:
                system.put_file(local, path)
            else:
                folder, name = posixpath.split(path)
                system.makedirs(folder, exist_ok=True)
                new = posixpath.join(folder, f".bilstm-{hashlib.sha256(name.encode()).hexdigest()[:12]}.partial")
                system.put_file(local, new)
                system.mv(new, path)
        self._copy = copy

    def release(self) -> None:
        """Remove the local copy; it is fetched again where it is needed."""
        self._copy = None

    @contextlib.contextmanager
    def _accessing(self, doing: str) -> Iterator[tuple[Any, str]]:
        """The store, and the path in it. Whatever a store's own library raises becomes a message."""
        try:
            yield _system(self.address)
        except FileNotFoundError:
            missing = f"there is no file {self.address}"
            if doing == "write":
                missing = f"cannot write {self.address}: the store has no such place, such as a bucket of this name"
            raise UserError(missing) from None
        except (UserError, KeyboardInterrupt):
            raise
        except Exception as error:
            what = str(error).partition("\n")[0] or type(error).__name__
            raise UserError(f"cannot {doing} {self.address}: {what}") from error


def as_path(path: AnyPath) -> Path:
    """A path on this machine or in a store. `file:///lake/part.csv` is one on this machine."""
    if isinstance(path, StoredPath):
        return path
    text = os.fspath(path)
    if not is_address(text):
        return Path(text)
    if text.startswith("file://"):
        from urllib.parse import urlsplit
        from urllib.request import url2pathname

        return Path(url2pathname(urlsplit(text).path))
    return StoredPath(text)


def identity(path: AnyPath) -> str:
    """What two names of one file have in common: its address, or its path without links."""
    path = as_path(path)
    return path.address if isinstance(path, StoredPath) else os.path.realpath(path)


def exists(path: Path) -> bool:
    """Whether there is such a file, or a link of that name."""
    return path.exists() if isinstance(path, StoredPath) else os.path.lexists(path)


def release(path: Path) -> None:
    """Remove the local copy of a file of a store."""
    if isinstance(path, StoredPath):
        path.release()


def fetch(paths: Iterable[Path]) -> None:
    """Fetch the local copies of files of stores, some at the same time.

    Raises:
        UserError: one cannot be read.
    """
    stored = [path for path in paths if isinstance(path, StoredPath)]
    if len(stored) < 2:
        list(map(os.fspath, stored))
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(os.fspath, stored))


def in_turn(paths: Sequence[Path]) -> Iterator[Path]:
    """Each of some files; of a store, one is fetched while the one before is worked on, and removed after that.

    Raises:
        UserError: one cannot be read.
    """
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        ahead = None
        for path, following in zip_longest(paths, paths[1:]):
            if ahead is not None:
                ahead.result()
            ahead = pool.submit(os.fspath, following) if isinstance(following, StoredPath) else None
            try:
                yield path
            finally:
                release(path)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yield where to write a file: the path itself, or a local file that is put into the store after the block.

    Raises:
        UserError: it cannot be put there.
    """
    with path.writing() if isinstance(path, StoredPath) else contextlib.nullcontext(path) as local:
        yield local


class GrowingStoredFile(GrowingFile):
    """A file of a store that is written whole with each piece that is added, as stores cannot append.

    Args:
        path: the file.
    """

    def __init__(self, path: StoredPath) -> None:
        super().__init__(path)
        self._stored, self._content = path, b""

    def add(self, piece: bytes) -> None:
        if self.begun and not self._content and self._stored.exists():
            self._content = self._stored.read_bytes()
        with self._stored.writing() as local:
            local.write_bytes(self._content + piece)
        self._content += piece
        self.begun = True


def growing(path: Path) -> GrowingFile:
    """A file that is written piece by piece."""
    return GrowingStoredFile(path) if isinstance(path, StoredPath) else GrowingFile(path)


def _system(address: str) -> tuple[Any, str]:
    """fsspec's object for a store, and the path that the address has there."""
    protocol, advice = address.partition("://")[0], "or mount the store, or copy its files to this machine"
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError:
        raise UserError(
            f"{address} is in a store: reading it needs fsspec, pip install 'bilstm[stores]', {advice}"
        ) from None
    try:
        system, path = url_to_fs(address)
    except ValueError:
        raise UserError(f"{address} cannot be read: fsspec knows no store of the kind {protocol}://") from None
    except ImportError as error:  # whose message names the package to install
        raise UserError(f"{address} cannot be read: {error}, {advice}") from None
    return system, str(path)
