"""`bilstm demo`."""

from __future__ import annotations

import click

from bilstm.cli.options import COUNT, FILE, MERGE_MODE, WholeNumber


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
def demo(steps: int, units: int, sequences: int, merge_mode: str, seed: int | None, out: str | None) -> None:
    """Watch bidirectional LSTMs learn, and compare them with one direction."""
    from bilstm.demo import run_demo

    run_demo(steps, units, sequences, merge_mode, seed, out)
