"""From what a person names, paths, patterns and folders, to the files of a table."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bilstm.data.stores import StoredPath, as_path, identity
from bilstm.data.table import Format
from bilstm.errors import UserError
from bilstm.files import AnyPath, is_address, reason

SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",  # annotations, which may stand in one array
    ".conll": "conll",
    ".bio": "conll",
    ".iob": "conll",
    ".iob2": "conll",
    ".conllu": "conll",
    ".txt": "conll",
}
KNOWN = ".csv, .tsv, .parquet, .ndjson, .jsonl or .conll"


def format_of(path: AnyPath) -> Format:
    """The format that the name of a file stands for.

    Raises:
        UserError: none that is known; the message lists those that are.
    """
    suffixes = Path(path).suffixes[-2:]
    compressed = suffixes[-1:] == [".gz"]
    suffix = "".join(suffixes[-2:-1] if compressed else suffixes[-1:]).lower()
    table_format = SUFFIXES.get(suffix)
    if table_format is None or (compressed and table_format == "parquet"):
        what = f"has an unknown format ({suffix})" if suffix else "has no ending that gives its format"
        raise UserError(f"{path} {what}: a table's name ends in {KNOWN}")
    return table_format


def has_format(path: AnyPath) -> bool:
    """Whether the name of a file stands for a format."""
    try:
        return bool(format_of(path))
    except UserError:
        return False


def table_files(data: AnyPath | Iterable[AnyPath], *, any_name: bool = False) -> tuple[list[Path], bool]:
    """The files that are a table, and whether they were named as several: by a list, a pattern or a folder.

    Args:
        data: a file, a folder, which stands for the tables in it, or a pattern such as `recordings/*.csv`, in which
            `**` stands for any folders; or some of these, in order. All may be in a store, such as `s3://lake/*.csv`.
            The files of a folder or a pattern are in natural order: `walk9` comes before `walk10`.
        any_name: whether a folder's files may have names without a known ending.

    Raises:
        UserError: there is no such file, or one is named twice.
    """
    if isinstance(data, (str, os.PathLike)):
        path = as_path(data)
        files = _expanded(path, any_name)
        return ([path], False) if files is None else (list(files), True)
    return list(placed_files(data, any_name=any_name)), True


def placed_files(data: Iterable[AnyPath], *, any_name: bool = False) -> dict[Path, Path]:
    """The files of a table, each with its path below the folders that its pattern names.

    For `lake/*/part.parquet` these are `lake/2024/part.parquet` with `2024/part.parquet` and others. A file that is
    named, or whose folder is, has its name alone.

    Args:
        data, any_name: see `table_files`.

    Raises:
        UserError: there is no such file, or one is named twice.
    """
    found: dict[Path, Path] = {}
    seen = set[str]()
    for each in map(as_path, data):
        files = _expanded(each, any_name)
        for path, below in ({each: Path(each.name)} if files is None else files).items():
            if (real := identity(path)) in seen:
                raise UserError(f"{path} is named twice: name each file once")
            seen.add(real)
            found[path] = below
    return found


def check_outside(folder: AnyPath, data: Iterable[AnyPath]) -> None:
    """Refuse a folder for files that a pattern with `**` would find there, when it is read again.

    Raises:
        UserError: it is such a folder.
    """
    for each in map(as_path, data):
        if "**" not in each.parts or not stands_for_files(each) or is_folder(each):
            continue
        top, inside = identity(_above_pattern(each)), identity(folder)
        if inside == top or inside.startswith(top.rstrip("/" + os.sep) + ("/" if is_address(top) else os.sep)):
            raise UserError(f"cannot write into {folder}: {each} means files there, too; give a folder outside of it")


def _above_pattern(path: Path) -> Path:
    """The folders that a pattern names before those that vary."""
    if isinstance(path, StoredPath):
        parts = path.address.split("/")
        return StoredPath("/".join(parts[: _fixed(parts)]))
    return Path(*path.parts[: _fixed(path.parts)])


def _fixed(parts: Sequence[str]) -> int:
    """How many parts come before the first that stands for several names."""
    return next((index for index, part in enumerate(parts) if glob.has_magic(part)), len(parts))


def is_folder(path: AnyPath) -> bool:
    """Whether there is such a folder. A name in a store that ends as a table's is not asked for."""
    path = as_path(path)
    return not has_format(path) and path.is_dir() if isinstance(path, StoredPath) else os.path.isdir(path)


def stands_for_files(path: AnyPath) -> bool:
    """Whether a path is that of a folder, or a pattern."""
    path = as_path(path)
    if isinstance(path, StoredPath):
        return glob.has_magic(path.address) or is_folder(path)
    return os.path.isdir(path) or (glob.has_magic(str(path)) and not os.path.lexists(path))


def are_paths(data: Any, *, texts: bool = False) -> bool:
    """Whether the elements of a list are paths.

    Args:
        texts: whether strings are texts.
    """
    if not isinstance(data, (list, tuple)) or not data:
        return False
    if all(isinstance(each, os.PathLike) for each in data):
        return True
    return not texts and all(
        isinstance(each, str)
        and (is_address(each) or os.path.isfile(each) or stands_for_files(each) or has_format(each))
        for each in data
    )


def natural_key(path: AnyPath) -> list[tuple[int, int, str]]:
    """What sorts paths as people do, digits as the numbers they are."""
    parts = re.split(r"([0-9]+)", str(path))
    return [(1, int(part), part) if index % 2 else (0, 0, part) for index, part in enumerate(parts)]


def _expanded(path: Path, any_name: bool) -> dict[Path, Path] | None:
    """The files of a folder or a pattern, in natural order, each with its path below the folders that the pattern
    names; None for any other path."""
    if not stands_for_files(path):
        return None
    folder = is_folder(path)
    top = path if folder else _above_pattern(path)
    try:
        names = _below(path, top, folder)
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from None
    # What cannot be read is kept: a message names it.
    # Of a folder, annotations in .json are named by a pattern: many a folder of tables has other facts in such a file.
    files = [
        name
        for name in names
        if any_name or not folder or (has_format(name) and not name.lower().endswith((".json", ".json.gz")))
    ]
    if not files:
        what = f"the folder {path} has no file whose name ends in {KNOWN}" if folder else f"no file matches {path}"
        raise UserError(what)
    return {top / name: Path(name) for name in sorted(files, key=natural_key)}


def _below(path: Path, top: Path, folder: bool) -> list[str]:
    """The files of a folder or a pattern, by their paths below it."""
    if isinstance(path, StoredPath):
        assert isinstance(top, StoredPath)
        return top.below("" if folder else path.address.removeprefix(top.address).lstrip("/"))
    if folder:
        names = [name for name in os.listdir(path) if not name.startswith(".")]
    else:
        names = [str(Path(name).relative_to(top)) for name in glob.glob(str(path), recursive=True)]
    return [name for name in names if not os.path.isdir(top / name)]
