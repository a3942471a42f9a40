"""The command line: arguments in, text out. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys
from typing import NoReturn

try:
    import click
except ModuleNotFoundError:
    sys.exit("bilstm: the command line needs further packages: pip install 'bilstm[cli]'")

from bilstm._version import __version__
from bilstm.cli.compare import compare
from bilstm.cli.completion import completion
from bilstm.cli.configuration import config_option
from bilstm.cli.convert import convert
from bilstm.cli.demo import demo
from bilstm.cli.evaluate import evaluate
from bilstm.cli.export import export
from bilstm.cli.inspect import inspect
from bilstm.cli.predict import predict
from bilstm.cli.serve import serve
from bilstm.cli.train import train
from bilstm.console import CommandLine, open_closed_streams


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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


for command in (train, evaluate, predict, compare, inspect, convert, export, serve, demo):
    command.params.append(config_option())
    commands.add_command(command)
commands.add_command(completion)


def run() -> NoReturn:
    """Run the command that was typed, and exit with its status."""
    open_closed_streams()
    commands.main(prog_name="bilstm")
