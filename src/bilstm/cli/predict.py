"""`bilstm predict`."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import click

from bilstm.cli.options import COUNT, FILE, column_option, known_columns, open_table, precision_option, say, use_threads
from bilstm.errors import UserError

if TYPE_CHECKING:
    from bilstm.data.columns import Columns
    from bilstm.tagging.predictions import Wanted
    from bilstm.tagging.tagger import Tagger


@click.command(short_help="Label the steps of a TABLE with a MODEL.")
@click.argument("model", type=FILE)
@click.argument("table", type=FILE)
@click.option("--out", metavar="FILE", type=FILE, required=True, help="The file to write; - is the standard output.")
@click.option("--probabilities", is_flag=True, help="Add a column for each label with its probability.")
@click.option("--top", metavar="K", type=COUNT, default=1, help="Give the K likeliest labels, not only the first.")
@click.option("--events", is_flag=True, help="Write a row for each run of equal labels, instead of each step.")
@click.option("--background", metavar="LABEL", help="The label that is no event.")
@column_option("--sequence", "Its name in this table, if it is not the training table's.")
@column_option("--order", "Likewise.")
@precision_option
@click.option("--threads", type=click.IntRange(1, 1024), help="Without it, one a processor.")
@click.option("--quiet", is_flag=True, help="Print mistakes only.")
def predict(
    model: str,
    table: str,
    out: str,
    probabilities: bool,
    top: int,
    events: bool,
    background: str | None,
    precision: str,
    threads: int | None,
    quiet: bool,
    **names: str | None,
) -> None:
    """Label the steps of a TABLE: write it with the likeliest label of each row and its probability.

    Where TABLE is -, sequences are read from the standard input, a JSON object a line, and written as soon as they are
    complete.
    """
    from bilstm.tagging.predictions import Wanted

    if background is not None and not events:
        raise click.UsageError("--background says which label is no event: it needs --events")
    if events and (probabilities or top > 1):
        other = "--probabilities" if probabilities else "--top"
        raise click.UsageError(f"--events writes runs of steps, which {other} does not go with")
    _check_output(model, table, out)
    tagger, columns = known_columns(model, names)
    tagger.precision = precision
    wanted = Wanted(probabilities=probabilities, top=top, events=events, background=background)
    use_threads(threads)
    if table == "-":
        said = _predict_stream(tagger, columns, wanted, out)
    else:
        said = _predict_table(tagger, columns, table, wanted, out)
    say(said, quiet, err=out == "-")


def _check_output(model: str, table: str, out: str) -> None:
    from bilstm.data.reading import format_of
    from bilstm.files import check_writable

    if out == "-":
        return
    streamed = table == "-"
    if streamed and (format_of(out) != "ndjson" or out.endswith(".gz")):
        raise UserError(f"cannot write {out}: what comes from the standard input is written as .ndjson, or to -")
    check_writable(out, inputs=[model] if streamed else [model, table])


def _predict_table(tagger: Tagger, columns: Columns, table: str, wanted: Wanted, out: str) -> list[str]:
    from bilstm.data import scratch
    from bilstm.ragged import Extent
    from bilstm.tagging.predictions import check_predictions, write_predictions
    from bilstm.wording import prediction

    source = open_table(table, columns)
    path = str(scratch.folder(source) / "predictions.ndjson") if out == "-" else out
    check_predictions(source, wanted, columns.classes, path)
    encoded = columns.encode(source)
    write_predictions(source, tagger, columns, encoded, wanted, path)
    if out == "-":
        with open(path, "rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
    return prediction(table if out == "-" else out, Extent().add(encoded.values.lengths), encoded.notes)


def _predict_stream(tagger: Tagger, columns: Columns, wanted: Wanted, out: str) -> list[str]:
    from bilstm.files import replacing
    from bilstm.tagging.streaming import predict_stream
    from bilstm.wording import prediction

    source = sys.stdin.buffer
    if out == "-":
        told = predict_stream(source, sys.stdout.buffer, tagger, columns, wanted)
    else:
        with replacing(out) as path, open(path, "wb") as target:
            told = predict_stream(source, target, tagger, columns, wanted)
    return prediction("the standard input" if out == "-" else out, told.extent, told.notes)
