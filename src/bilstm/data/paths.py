"""From what a person names, paths, patterns and folders, to the files of a table."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bilstm.data.table import Format
from bilstm.errors import UserError
from bilstm.files import AnyPath, reason

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
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://")  # of a store such as S3's
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
            `**` stands for any folders; or some of these, in order. The files of a folder or a pattern are in natural
            order: `walk9` comes before `walk10`.
        any_name: whether a folder's files may have names without a known ending.

    Raises:
        UserError: there is no such file, or one is named twice.
    """
    if isinstance(data, (str, os.PathLike)):
        files = _expanded(data, any_name)
        return ([Path(data)], False) if files is None else (files, True)
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
    for each in data:
        files = _expanded(each, any_name)
        top = Path(each) if os.path.isdir(each) else _above_pattern(each)
        for path in [Path(each)] if files is None else files:
            if (real := os.path.realpath(path)) in seen:
                raise UserError(f"{path} is named twice: name each file once")
            seen.add(real)
            found[path] = Path(path.name) if files is None else path.relative_to(top)
    return found


def check_outside(folder: AnyPath, data: Iterable[AnyPath]) -> None:
    """Refuse a folder for files that a pattern with `**` would find there, when it is read again.

    Raises:
        UserError: it is such a folder.
    """
    check_local(folder)
    for each in data:
        if "**" not in Path(each).parts or not stands_for_files(each) or os.path.isdir(each):
            continue
        top = os.path.realpath(_above_pattern(each))
        if Path(os.path.realpath(folder)).is_relative_to(top):
            raise UserError(f"cannot write into {folder}: {each} means files there, too; give a folder outside of it")


def _above_pattern(path: AnyPath) -> Path:
    """The folders that a pattern names before those that vary."""
    parts = Path(path).parts
    fixed = next((index for index, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return Path(*parts[:fixed])


def check_local(path: AnyPath) -> None:
    """Refuse an address such as `s3://lake/part.parquet`.

    Raises:
        UserError: it is one.
    """
    if _ADDRESS.match(os.fspath(path)):
        raise UserError(
            f"{path} is not on a file system of this machine: mount the store or copy the files; Ray, Spark and Dask "
            f"read stores themselves, and pass tables to bilstm.distributed.Predictor"
        )


def stands_for_files(path: AnyPath) -> bool:
    """Whether a path is that of a folder, or a pattern."""
    return os.path.isdir(path) or (glob.has_magic(os.fspath(path)) and not os.path.lexists(path))


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
        isinstance(each, str) and (os.path.isfile(each) or stands_for_files(each) or has_format(each)) for each in data
    )


def natural_key(path: AnyPath) -> list[tuple[int, int, str]]:
    """What sorts paths as people do, digits as the numbers they are."""
    parts = re.split(r"([0-9]+)", os.fspath(path))
    return [(1, int(part), part) if index % 2 else (0, 0, part) for index, part in enumerate(parts)]


def _expanded(path: AnyPath, any_name: bool) -> list[Path] | None:
    """The files of a folder or a pattern, in natural order; None for any other path."""
    check_local(path)
    if not stands_for_files(path):
        return None
    folder = os.path.isdir(path)
    try:
        names = (
            [os.path.join(path, name) for name in os.listdir(path) if not name.startswith(".")]
            if folder
            else glob.glob(os.fspath(path), recursive=True)
        )
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from None
    # What cannot be read is kept: a message names it.
    # Of a folder, annotations in .json are named by a pattern: many a folder of tables has other facts in such a file.
    files = [
        name
        for name in names
        if not os.path.isdir(name)
        and (any_name or not folder or (has_format(name) and not name.lower().endswith((".json", ".json.gz"))))
    ]
    if not files:
        what = f"the folder {path} has no file whose name ends in {KNOWN}" if folder else f"no file matches {path}"
        raise UserError(what)
    return [Path(name) for name in sorted(files, key=natural_key)]
