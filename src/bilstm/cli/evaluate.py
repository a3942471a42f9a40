"""`bilstm evaluate`."""

from __future__ import annotations

import click

from bilstm.cli.options import FILE, column_option, open_model, precision_option, say, use_threads
from bilstm.console import echo_json


@click.command(short_help="Score a MODEL on a labelled TABLE.")
@click.argument("model", type=FILE)
@click.argument("table", type=FILE)
@column_option("--sequence", "Its name in this table, if it is not the training table's.")
@column_option("--order", "Likewise.")
@column_option("--label", "Likewise.")
@click.option(
    "--events",
    metavar="TOLERANCE",
    type=click.IntRange(0),
    help="Score runs of equal labels as events, too: their first and last steps may each be off by so many.",
)
@click.option("--background", metavar="LABEL", help="The label that is no event.")
@click.option(
    "--report",
    metavar="FILE",
    type=FILE,
    help="Write a page for everyone as well (.html): scores, curves, the worst sequences, how far the model looks.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@precision_option
@click.option("--threads", type=click.IntRange(1, 1024), help="Without it, one a processor.")
def evaluate(
    model: str,
    table: str,
    events: int | None,
    background: str | None,
    report: str | None,
    as_json: bool,
    precision: str,
    threads: int | None,
    **names: str | None,
) -> None:
    """Compare a MODEL's predictions with the labels of a TABLE.

    Labels of the form B-X, I-X and O are scored as spans, too.
    """
    from bilstm.tagging.evaluation import evaluate_tagger
    from bilstm.wording import evaluation

    if report is not None:
        from bilstm.report import check_report_path

        check_report_path(report, inputs=[model, table])
    if background is not None and events is None:
        raise click.UsageError("--background says which label is no event: it needs --events")
    tagger, columns, source = open_model(model, table, names)
    tagger.precision = precision
    encoded = columns.encode(source, need_labels=True, allow_unseen=True)
    use_threads(threads)
    if report is not None:
        from bilstm.report import write_report

        findings = write_report(
            report,
            tagger,
            source,
            columns=columns,
            encoded=encoded,
            tolerance=events,
            background=background,
            model=model,
        )
        scores = findings["scores"]
    else:
        scores = evaluate_tagger(tagger, encoded, tolerance=events, background=background)
    if as_json:
        echo_json({"model": model, "table": table, **scores})
    else:
        say(evaluation(table, scores), quiet=False)
        say([f"{report}: the report"] if report else [], quiet=not report)
