"""`bilstm demo`."""

from __future__ import annotations

import click

from bilstm.cli.options import COUNT, FILE, MERGE_MODE, WholeNumber


@click.command(short_help="Watch bidirectional LSTMs learn.")
@click.option("--steps", type=WholeNumber(2), default=10, show_default=True, help="Steps of each sequence.")
@click.option("--units", type=COUNT, default=20, show_default=True, help="LSTM units in each direction.")
@click.option("--sequences", type=COUNT, default=1000, show_default=True, help="Sequences to train on.")
@click.option("--merge-mode", type=MERGE_MODE, default="concat", show_default=True, help="How directions are joined.")
@click.option("--seed", type=WholeNumber(0), help="The same seed gives the same figures.")
@click.option("--out", metavar="FILE", type=FILE, help="The picture: .png or .svg.")
def demo(steps: int, units: int, sequences: int, merge_mode: str, seed: int | None, out: str | None) -> None:
    """Watch bidirectional LSTMs learn, and compare them with one direction."""
    from bilstm.demo import run_demo

    run_demo(steps, units, sequences, merge_mode, seed, out)
