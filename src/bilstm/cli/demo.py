"""`bilstm demo`."""

from __future__ import annotations

import click

from bilstm.cli.options import COUNT, FILE, MERGE_MODE, WholeNumber
from bilstm.console import echo
from bilstm.errors import UserError


@click.command(short_help="Watch bidirectional LSTMs learn.")
@click.option("--steps", type=WholeNumber(2), default=10, show_default=True, help="Length of the sequences.")
@click.option("--units", type=COUNT, default=20, show_default=True, help="LSTM units in each direction.")
@click.option("--sequences", type=COUNT, default=1000, show_default=True, help="Number of training sequences.")
@click.option(
    "--merge-mode",
    type=MERGE_MODE,
    default="concat",
    show_default=True,
    help="How the outputs of the two directions are merged.",
)
@click.option("--seed", type=WholeNumber(0), help="Seed of the random numbers. The same seed gives the same results.")
@click.option("--out", metavar="FILE", type=FILE, help="Draw the learning curves to this file: .png or .svg.")
@click.option("--page", is_flag=True, help="Serve a page on which networks learn while you watch and ask them.")
@click.option("--port", type=WholeNumber(0, 65535), help="The port of --page; 0 for a free one. Default: 8000.")
def demo(
    steps: int,
    units: int,
    sequences: int,
    merge_mode: str,
    seed: int | None,
    out: str | None,
    page: bool,
    port: int | None,
) -> None:
    """Watch bidirectional LSTMs learn, and compare them with one direction."""
    if not page:
        from bilstm.demo import run_demo

        if port is not None:
            raise UserError("--port is where --page is served: give both, or neither")
        run_demo(steps, units, sequences, merge_mode, seed, out)
        return
    from bilstm.lesson import run_page

    if out is not None:
        raise UserError("--out is the picture of learning curves, which --page shows in the browser: leave one out")

    def announce(address: str) -> None:
        echo(f"open {address} in a browser; Ctrl-C ends it")

    run_page(steps, units, sequences, merge_mode, seed, 8000 if port is None else port, announce)
