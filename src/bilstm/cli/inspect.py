"""`bilstm inspect`."""

from __future__ import annotations

import click

from bilstm.cli.options import FILE, say
from bilstm.console import echo_json


@click.command(short_help="Describe what a MODEL file holds.")
@click.argument("model", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(model: str, as_json: bool) -> None:
    """Describe what a MODEL file holds: the data that it reads, its task, its network, and how it was trained.

    It may also be a network saved from Python, or the --checkpoint of an unfinished training.
    """
    from bilstm.inspection import inspect_file, inspection

    facts = inspect_file(model)
    if as_json:
        echo_json(facts)
    else:
        say(inspection(facts), quiet=False)
