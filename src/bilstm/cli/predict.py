"""`bilstm predict`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bilstm.cli.options import column_option, open_model, say, use_threads

if TYPE_CHECKING:
    from bilstm.columns import Encoded
    from bilstm.tagger import Tagger


@click.command(short_help="Label the steps of a TABLE with a MODEL.")
@click.argument("model")
@click.argument("table")
@click.option("--out", metavar="FILE", required=True, help="The table with the columns `predicted` and `probability`.")
@column_option("--sequence", "Its name in this table, if it is not the training table's.")
@column_option("--order", "Likewise.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Without it, one a processor.")
@click.option("--quiet", is_flag=True, help="Print mistakes only.")
def predict(model: str, table: str, out: str, threads: int | None, quiet: bool, **names: str | None) -> None:
    """Label the steps of a TABLE: write it with the likeliest label of each row and its probability."""
    import numpy as np

    from bilstm.files import check_writable
    from bilstm.tablefiles import check_output, format_of, write_table
    from bilstm.wording import prediction

    format_of(out)
    check_writable(out, inputs=[model, table])
    tagger, columns, source = open_model(model, table, names)
    check_output(source, ["predicted", "probability"], out)
    encoded = columns.encode(source)
    use_threads(threads)
    likeliest, probabilities = _predict(tagger, encoded)
    predicted = np.empty(source.rows, object)
    probability = np.empty(source.rows)
    predicted[encoded.rows] = np.array(columns.classes, object)[likeliest]
    probability[encoded.rows] = np.round(probabilities.astype(np.float64), 6)
    write_table(source, {"predicted": predicted, "probability": probability}, out)
    say(prediction(out, encoded), quiet)


def _predict(tagger: Tagger, encoded: Encoded) -> tuple[Any, Any]:
    """The likeliest class of each step, and its probability."""
    probabilities = tagger.predict_proba(encoded.values)
    return probabilities.argmax(axis=1), probabilities.max(axis=1)
