"""`bilstm estimate`."""

from __future__ import annotations

import time
from typing import Any

import click

from bilstm.cli.inputs import check_sets_apart, one_or_several, prepare_tables, training_options, use_threads
from bilstm.cli.options import (
    CALIBRATE,
    CLASS_WEIGHT,
    COUNT,
    FROM_ZERO,
    POSITIVE,
    TABLES,
    VALID,
    WholeNumber,
    column_flags,
    training_flags,
)
from bilstm.console import echo_json, say


@click.command(short_help="Estimate how long training takes on 1, 2, 4 … machines.")
@TABLES
@column_flags
@VALID
@click.option(
    "--bandwidth",
    metavar="GBIT/S",
    type=POSITIVE,
    default=10.0,
    help="The bandwidth between two machines, in each direction.  [default: 10]",
)
@click.option(
    "--latency",
    metavar="MS",
    type=FROM_ZERO,
    default=0.1,
    help="Milliseconds from one machine to another, half of what ping prints.  [default: 0.1]",
)
@click.option(
    "--sequences", type=COUNT, help="Size of the training set, of which TABLE is a sample. Default: that of TABLE."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@training_flags()
@CLASS_WEIGHT
@CALIBRATE
@click.option("--threads", type=WholeNumber(1, 1024), help="Number of threads on each machine. Default: one per CPU.")
@click.option("--quiet", is_flag=True, help="Print the result only.")
def estimate(
    tables: tuple[str, ...],
    bandwidth: float,
    latency: float,
    sequences: int | None,
    as_json: bool,
    threads: int | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Estimate how long training on a TABLE takes on 1, 2, 4 … machines like this one, and what exchanges cost.

    The options are those of bilstm train. A few training steps of that network are run, with the shares of a batch that
    a worker would have, and exchanges over a network of this bandwidth and latency are added. No model is written.
    """
    from bilstm.distributed.links import Link
    from bilstm.distributed.sizes import estimate_prepared
    from bilstm.distributed.summary import summary
    from bilstm.wording import before_training

    check_sets_apart(tables, options)
    training = training_options(options)
    use_threads(threads)
    started = time.perf_counter()
    prepared = prepare_tables(tables, training, options)
    reading = time.perf_counter() - started
    say(before_training(prepared, training), quiet or as_json)
    found = estimate_prepared(
        prepared, training, bandwidth=bandwidth, latency=latency, sequences=sequences, reading=reading
    )
    if as_json:
        echo_json({"table": one_or_several(tables), "bandwidth": bandwidth, "latency": latency, **found.to_json()})
    else:
        say(summary(found, Link.of(bandwidth, latency)), quiet=False)
