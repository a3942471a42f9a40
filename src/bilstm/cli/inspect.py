"""`bilstm inspect`."""

from __future__ import annotations

from typing import Any

import click

from bilstm.cli.options import FILE, column_option, reading_flags, reading_options, say
from bilstm.console import echo_json
from bilstm.errors import UserError


@click.command(short_help="Describe a MODEL, or a TABLE as it would be read.")
@click.argument("file", metavar="FILE", type=FILE)
@column_option("--sequence", "For a table: the column that identifies the sequences.")
@column_option("--order", "For a table: the column that sorts the rows of a sequence.")
@reading_flags
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(file: str, sequence: str | None, order: str | None, as_json: bool, **reading: Any) -> None:
    """Describe a model: the data it reads, its task, its network, and how it was trained.

    FILE may also be a network saved from Python, the --checkpoint of an unfinished training, or a table (.csv, .tsv,
    .parquet, .ndjson, .conll …). A table's columns, sequences, first rows and guessed reading options are printed.
    """
    from bilstm.data.reading import format_of

    options = reading_options(reading)
    try:
        is_table = bool(options.format or format_of(file))
    except UserError:
        is_table = False
    if is_table:
        from bilstm.preview import inspect_table, preview

        facts = inspect_table(file, sequence=sequence, order=order, reading=options)
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
