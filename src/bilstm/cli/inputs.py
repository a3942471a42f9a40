"""What typed options stand for: columns, tables and models."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from bilstm.errors import UserError

if TYPE_CHECKING:
    from bilstm.data.readingoptions import ReadingOptions
    from bilstm.model.prepare import Prepared
    from bilstm.model.trained import TrainedModel
    from bilstm.training.options import TrainingOptions


def reading_options(options: Mapping[str, Any]) -> ReadingOptions:
    """What the options of `reading_flags` say."""
    from bilstm.data.readingoptions import ReadingOptions

    names = ("format", "delimiter", "decimal", "thousands", "skip_rows", "encoding", "quote", "header", "comment")
    reading = {name: options[name] for name in (*names, "time_format", "tokens", "span_scheme", "misaligned")}
    if options["no_quotes"]:
        if options["quote"] is not None:
            raise click.UsageError("--quote says what encloses cells, and --no-quotes that nothing does: leave one out")
        reading["quote"] = ""
    if options["missing"]:
        reading["missing"] = split_names(options["missing"], ())
    if options["columns"] is not None:
        reading["columns"] = [name.strip() for name in options["columns"].split(",")]
    return ReadingOptions(**reading, one_day=options["one_day"] or None)


def column_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `bilstm.train` that the options of `column_flags` give."""
    names = ("label", "labels", "sequence", "order", "features", "drop", "categorical", "text", "task")
    arguments = {
        name: options[name]
        for name in (*names, "spelling", "all_vectors", "soft_targets", "label_separator", "standardize", "group")
    }
    arguments |= {"features": options["features"] or None, "labels": as_data(options["labels"])}
    arguments |= {"vectors": _vector_files(options["vectors"])}
    return arguments | {"reading": reading_options(options)}


def _vector_files(texts: Sequence[str]) -> str | dict[str, str] | None:
    """FILE, or FEATURE=FILE for each feature that has vectors."""
    files: dict[str, str] = {}
    for text in texts:
        feature, sign, path = text.partition("=")
        if not sign or not path or os.path.exists(text):
            if len(texts) > 1:
                raise UserError(
                    f"{text} is one of several files of vectors: say whose it is, as in --vectors FEATURE=FILE"
                )
            return text
        if feature in files:
            raise UserError(f"the feature {feature!r} has two files of vectors: leave one out")
        files[feature] = path
    return files or None


def one_or_several(paths: Sequence[Any]) -> Any:
    """A path, several as a list, or None."""
    return list(paths) if len(paths) > 1 else paths[0] if paths else None


def as_data(paths: Sequence[str]) -> Any:
    """Paths as functions take them that take texts, too: a `Path`, several as a list, or None."""
    from bilstm.data.stores import as_path

    return one_or_several([as_path(path) for path in paths])


def files_of(paths: Sequence[str], reading: Mapping[str, Any]) -> list[str]:
    """The files that paths, patterns and folders stand for."""
    from bilstm.data.paths import stands_for_files, table_files

    files = list[str]()
    for path in paths:
        several = stands_for_files(path)
        files += map(str, table_files(path, any_name=reading["format"] is not None)[0]) if several else [path]
    return files


def training_options(options: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> TrainingOptions:
    """What the options of `training_flags` say; the defaults are those that are not the product's."""
    from bilstm.training.options import TrainingOptions

    names = {field.name for field in dataclasses.fields(TrainingOptions)}
    stated = {name: value for name, value in options.items() if name in names and value is not None}
    try:
        return TrainingOptions(**{**(defaults or {}), **stated})
    except ValueError as error:  # such as an infinite learning rate, which click lets pass
        raise UserError(str(error)) from None


def open_model(
    path: str,
    sequence: str | None,
    order: str | None,
    label: tuple[str, ...] = (),
    features: tuple[str, ...] = (),
    reading: Mapping[str, Any] | None = None,
    tables: Sequence[str] = (),
) -> TrainedModel:
    """A model for tables whose columns have these names, and which are read as the options of `reading_flags` say."""
    from bilstm.data.paths import format_of
    from bilstm.data.readingoptions import PLAIN
    from bilstm.model.trained import TrainedModel

    model = TrainedModel.load(path)
    columns = split_names(label, model.task.columns)
    named = split_names(features, ()) if features else None
    read_as = reading_options(reading) if reading else PLAIN
    if read_as.said:
        files = ["-"] if "-" in tables else files_of(tables, reading or {})
        formats = {"ndjson" if table == "-" else read_as.format or format_of(table) for table in files}
        read_as.check_used(formats, " and ".join(tables))
    return model.adapted(sequence=sequence, order=order, label=columns, features=named, reading=read_as)


def check_apart(named: Iterable[tuple[str, str]]) -> None:
    """Refuse tables that are the same file: a score on the training set would be too good.

    Args:
        named: what each file is, and its path.
    """
    from bilstm.data.stores import identity

    seen: dict[str, str] = {}
    for what, path in named:
        real = identity(path)
        if real in seen:
            both = f"one {what} and another" if seen[real] == what else f"{seen[real]} and {what}"
            raise UserError(f"{both} are the same file, {path}: give each its own sequences")
        seen[real] = what


def check_sets_apart(tables: Sequence[str], options: Mapping[str, Any]) -> list[str]:
    """The files of the training and the validation set, none of which may be in both."""
    files = {name: files_of(paths, options) for name, paths in (("TABLE", tables), ("--valid", options["valid"]))}
    check_apart((name, path) for name, paths in files.items() for path in paths)
    return [*files["TABLE"], *files["--valid"]]


def prepare_tables(tables: Sequence[str], training: TrainingOptions, options: Mapping[str, Any]) -> Prepared:
    """The training and the validation set that TABLE and the options of `column_flags` and VALID name."""
    from bilstm.model.opening import column_options, prepare_data

    columns = column_arguments(options)
    others = {name: as_data(options[name]) for name in ("valid", "valid_labels")}
    labels = columns.pop("labels")
    return prepare_data(as_data(tables), column_options(**columns), training, labels=labels, **others)


def use_threads(threads: int | None) -> None:
    if threads is not None:
        from bilstm.data import database
        from bilstm.utils import set_threads

        set_threads(threads)
        database.use_threads(threads)


def split_names(texts: Sequence[str], names: Sequence[str]) -> list[str]:
    """`a,b` is two columns, unless one has this name."""
    columns: list[str] = []
    for text in texts:
        columns += [text] if text in names else [name.strip() for name in text.split(",") if name.strip()]
    return columns
