"""The command line: arguments in, text out. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import NoReturn

try:
    import click
except ModuleNotFoundError:
    sys.exit("bilstm: the command line needs further packages: pip install 'bilstm[cli]'")

from bilstm._version import __version__
from bilstm.cli.configuration import config_option
from bilstm.console import CommandLine, open_closed_streams

_COMMANDS = (
    *("compare", "completion", "convert", "demo", "estimate", "evaluate", "export", "inspect", "predict", "serve"),
    "train",
)


class _Commands(CommandLine):
    """Commands that are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _COMMANDS and cmd_name not in self.commands:
            command = getattr(import_module(f"bilstm.cli.{cmd_name}"), cmd_name)
            if cmd_name != "completion":
                command.params.append(config_option())
            self.add_command(command)
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="bilstm", message="%(prog)s %(version)s")
def commands() -> None:
    """Learn to label sequences with bidirectional LSTMs: each time step, or whole sequences.

    A TABLE has one row per time step, or one per sequence: .csv, .tsv, .parquet, .ndjson, or CoNLL-style columns
    (.conll). It may be several files, a folder, or a pattern in quotes: 'recordings/*.csv'. Each of them is a sequence
    then, unless --sequence names the column that identifies sequences.

    \b
    bilstm train train.csv --sequence id --order time --label state --out model.safetensors
    bilstm evaluate model.safetensors test.csv --report report.html
    bilstm predict model.safetensors new.csv --out labelled.csv
    """


def run() -> NoReturn:
    """Run the command that was typed, and exit with its status."""
    open_closed_streams()
    commands.main(prog_name="bilstm")
