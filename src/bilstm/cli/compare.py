"""`bilstm compare`."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from bilstm.cli.inputs import as_data, check_apart, column_arguments, files_of, one_or_several, use_threads
from bilstm.cli.options import (
    CLASS_WEIGHT,
    COUNT,
    FILE,
    FRACTION,
    TABLES,
    VALID,
    WholeNumber,
    column_flags,
    training_flags,
)
from bilstm.console import echo_json, fail, say, saying_if_stopped, stop_status
from bilstm.progress import Progress


@click.command(short_help="Compare variants of the network, with intervals.")
@TABLES
@column_flags
@click.option("--test", metavar="TABLE", type=FILE, multiple=True, help="The test set, instead of a part of TABLE.")
@click.option(
    "--test-labels",
    metavar="FILE",
    type=FILE,
    multiple=True,
    help="A table with the labels of --test, one row per sequence.",
)
@VALID
@click.option(
    "--vary",
    metavar="OPTION=VALUES",
    multiple=True,
    help="What to compare, such as units=32,64. Repeat the option for all combinations. Each variant is compared with "
    "that of the first values.  [default: direction=forward,backward,both]",
)
@click.option("--seeds", type=COUNT, default=3, show_default=True, help="Number of trainings of each variant.")
@click.option(
    "--same-size",
    is_flag=True,
    help="Give smaller variants more units, so that all have about the same number of weights.",
)
@click.option("--test-split", type=FRACTION, help="Share of the sequences for the test set.  [default: 0.2]")
@click.option(
    "--out", metavar="FILE", type=FILE, help="Draw learning curves and differences to this file: .png, .svg or .pdf."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@training_flags(
    texts={
        "layers": "Recurrent layers.",
        "direction": "The direction in which sequences are read, if it is not varied; none: no recurrence, each step "
        "alone.",
        "epochs": "Maximum number of passes over the training set. Default: by the amount of data, 20 to 200.",
        "patience": "Early stopping: epochs without a better validation score before training stops. Default: no "
        "early stopping.",
        "validation_split": "Share of the sequences for the validation set, which decides which epoch is the best.",
        "seed": "The first seed. The same seed, options and table give the same results.",
        "time_limit": "Seconds after which each training stops and keeps the best model so far.",
    },
    defaults={"units": 64, "layers": 2, "validation_split": 0.1, "patience": None},
)
@CLASS_WEIGHT
@click.option(
    "--threads",
    type=WholeNumber(1, 1024),
    help="Number of threads; it does not change the results. Default: one per CPU.",
)
@click.option(
    "--jobs",
    type=COUNT,
    default=1,
    show_default=True,
    help="Number of trainings that run at a time, in processes that share the threads. It does not change the results. "
    "Above 1 it needs joblib, which comes with bilstm[sklearn].",
)
@click.option(
    "--backend",
    metavar="NAME",
    help="The joblib backend for several jobs, such as loky, threading, dask, ray or spark.  [default: loky, processes "
    "on this machine]",
)
@click.option("--quiet", is_flag=True, help="Print the result only.")
def compare(
    tables: tuple[str, ...],
    seeds: int,
    out: str | None,
    as_json: bool,
    threads: int | None,
    jobs: int,
    backend: str | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Train variants of the network on one or several TABLEs of labelled sequences, and compare their scores.

    By default the forward, the backward and the bidirectional network are compared. Every variant is trained with the
    same seeds on the same sequences and scored on the same test set. Ctrl-C stops and prints the results so far.
    """
    from bilstm.compare import ComparisonInterrupted, plan_comparison, run_comparison
    from bilstm.compare.variants import read_values
    from bilstm.compare.verdict import table as scores
    from bilstm.training.options import TrainingOptions
    from bilstm.wording import before_training, extent_of

    picture = None
    if out is not None:
        from bilstm import plots

        picture = plots.picture_path(out, "comparison")
    named = {"TABLE": tables, "--valid": options["valid"], "--test": options["test"]}
    check_apart((what, path) for what, paths in named.items() for path in files_of(paths, options))
    names = {field.name for field in dataclasses.fields(TrainingOptions)}
    sets = ("test", "test_labels", "valid", "valid_labels")
    plan = plan_comparison(
        as_data(tables),
        columns=column_arguments(options),
        vary=read_values(options["vary"]),
        options={name: value for name, value in options.items() if name in names and value is not None},
        **{name: as_data(options[name]) for name in sets},
        **{name: options[name] for name in ("same_size", "test_split")},
    )
    lines = before_training(plan.prepared, *(variant.options for variant in plan.variants))
    lines.append(f"test set: {extent_of(plan.test)}")
    lines.append(f"to compare: {', '.join(variant.name for variant in plan.variants)}")
    say(lines, quiet or as_json)
    use_threads(threads)
    interrupt = None
    with saying_if_stopped("before there was a result"):
        try:
            with Progress(quiet=quiet) as progress:
                report = run_comparison(plan, seeds=seeds, jobs=jobs, backend=backend, progress=progress)
        except ComparisonInterrupted as caught:
            interrupt, report = caught, caught.report
    if as_json:
        echo_json({"table": one_or_several(tables), "test": one_or_several(options["test"]), **report})
    else:
        notes = [f"note: {note}" for note in report["notes"]]
        say([*scores(report), *notes, report["sentence"]], quiet=False)
    if picture is not None:
        plots.save(plots.comparison(report), picture)
        say([f"{picture}: learning curves and differences"], quiet or as_json)
    if interrupt:
        fail(str(interrupt), stop_status(interrupt))
