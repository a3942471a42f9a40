"""`bilstm inspect`."""

from __future__ import annotations

from typing import Any

import click

from bilstm.cli.inputs import as_data, reading_options
from bilstm.cli.options import FILE, column_option, reading_flags
from bilstm.console import echo_json, say


@click.command(short_help="Describe a MODEL, or a TABLE as it would be read.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=FILE)
@column_option("--sequence", "For a table: the column that identifies the sequences.")
@column_option("--order", "For a table: the column that sorts the rows of a sequence.")
@reading_flags
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(files: tuple[str, ...], sequence: str | None, order: str | None, as_json: bool, **reading: Any) -> None:
    """Describe a model: the data it reads, its task, its network, and how it was trained.

    FILE may also be a network saved from Python, the --checkpoint of an unfinished training, or a table (.csv, .tsv,
    .parquet, .ndjson, .conll …; several files, a folder, or a pattern in quotes). A table's columns, sequences, first
    rows and guessed reading options are printed.
    """
    from bilstm.data.paths import has_format, stands_for_files

    options, (file, *others) = reading_options(reading), files
    is_table = bool(options.format or others) or stands_for_files(file) or has_format(file)
    if is_table:
        from bilstm.preview import inspect_table, preview

        facts = inspect_table(as_data(files), sequence=sequence, order=order, reading=options)
        lines = preview(facts)
    else:
        from bilstm.inspection import inspect_file, inspection

        if sequence is not None or order is not None or options.said:
            raise click.UsageError("--sequence, --order and how to read a file are options for a table, not a model")
        facts = inspect_file(file)
        lines = inspection(facts)
    if as_json:
        echo_json(facts)
    else:
        say(lines, quiet=False)
