"""`bilstm evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bilstm.cli.inputs import as_data, files_of, one_or_several, open_model, use_threads
from bilstm.cli.options import (
    COUNT,
    FILE,
    LABELS,
    TABLES,
    LookAheads,
    WholeNumber,
    column_option,
    model_columns,
    precision_option,
)
from bilstm.console import echo_json, say

if TYPE_CHECKING:
    from pathlib import Path

    from bilstm.models.lookahead import LookAhead


@click.command(short_help="Score a MODEL on a labelled TABLE.")
@click.argument("model", type=FILE)
@TABLES
@model_columns
@column_option("--label", "The target columns, in the order of training's, if their names differ.", multiple=True)
@LABELS
@column_option("--group", "The column of groups, such as patients. Intervals resample whole groups.")
@click.option(
    "--events",
    metavar="TOLERANCE",
    type=WholeNumber(0),
    help="Also score runs of equal labels as events: the first and last step of one may each be off by TOLERANCE "
    "steps.",
)
@click.option("--background", metavar="LABEL", help="The label that is not an event.")
@click.option(
    "--report",
    metavar="FILE",
    type=FILE,
    help="Also write a report (.html): scores, curves, the worst sequences, and how much context the model uses.",
)
@click.option("--force", is_flag=True, help="Replace the --report file even if bilstm did not write it.")
@click.option(
    "--look-ahead",
    "look_aheads",
    metavar="STEPS,…",
    type=LookAheads(),
    help="Score what `bilstm predict - --look-ahead` would answer with each of these numbers of further rows; all: the "
    "whole sequence. For example 0,4,16,64,all.",
)
@click.option("--block", metavar="STEPS", type=COUNT, default=1, help="With --look-ahead: see `bilstm predict`.")
@click.option(
    "--out",
    metavar="FILE",
    type=FILE,
    help="With --look-ahead: draw the score against the look-ahead to this file: .png, .svg or .pdf.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@precision_option
@click.option("--threads", type=WholeNumber(1, 1024), help="Number of threads. Default: one per CPU.")
def evaluate(
    model: str,
    tables: tuple[str, ...],
    sequence: str | None,
    order: str | None,
    features: tuple[str, ...],
    label: tuple[str, ...],
    labels: tuple[str, ...],
    group: str | None,
    events: int | None,
    background: str | None,
    report: str | None,
    force: bool,
    look_aheads: list[LookAhead] | None,
    block: int,
    out: str | None,
    as_json: bool,
    precision: str,
    threads: int | None,
    **reading: Any,
) -> None:
    """Compare a MODEL's predictions with the true answers of a TABLE, or of several with the same columns.

    Tags such as B-X, I-X and O are also scored as spans. Tables are read with the options that the model was trained
    with; options given here take precedence.
    """
    from bilstm.wording import delays, evaluation

    if report is not None:
        from bilstm.report import check_report_path

        check_report_path(report, inputs=[model, *files_of([*tables, *labels], reading)], force=force)
    elif force:
        raise click.UsageError("--force says that the --report may replace any file: it needs --report")
    if background is not None and events is None:
        raise click.UsageError("--background says which label is no event: it needs --events")
    picture = _picture(look_aheads, block, out, report)
    trained = open_model(model, sequence, order, label, features, reading, tables)
    trained.precision = precision
    use_threads(threads)
    data = as_data(tables)
    options: dict[str, Any] = {"labels": as_data(labels), "group": group}
    options |= {"tolerance": events, "background": background}
    if look_aheads is not None:
        reports = trained.evaluate_delays(data, look_aheads, block=block, **options)
        if as_json:
            echo_json({"model": model, "table": one_or_several(tables), "look_aheads": reports})
        else:
            say(delays(" and ".join(tables), reports), quiet=False)
        if picture is not None:
            from bilstm import plots

            plots.save(plots.delays(reports), picture)
            say([f"{picture}: the score against the look-ahead"], quiet=as_json)
        return
    if report is None:
        scores = trained.evaluate(data, **options)
    else:
        from bilstm.report import write_report

        scores = write_report(report, trained, data, name=model, force=force, **options)["scores"]
    if as_json:
        echo_json({"model": model, "table": one_or_several(tables), **scores})
    else:
        say(evaluation(" and ".join(tables), scores), quiet=False)
        say([f"{report}: the report"] if report else [], quiet=not report)


def _picture(look_aheads: list[LookAhead] | None, block: int, out: str | None, report: str | None) -> Path | None:
    """Where the picture of look-aheads goes, or None; options that have no effect are refused."""
    if look_aheads is None:
        if block > 1 or out is not None:
            option = "--block" if block > 1 else "--out"
            raise click.UsageError(f"{option} is for scores with bounded look-ahead: it needs --look-ahead")
        return None
    if report is not None:
        raise click.UsageError("--look-ahead scores several times, which cannot be combined with a --report")
    if block > 1 and look_aheads == ["all"]:
        raise click.UsageError("--block has no effect with --look-ahead all")
    if out is None:
        return None
    from bilstm import plots

    return plots.picture_path(out, "look-ahead")
