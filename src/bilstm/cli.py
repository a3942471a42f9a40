"""The command line: arguments in, text out. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

try:
    import click
except ModuleNotFoundError:
    sys.exit("bilstm: the command line needs further packages: pip install 'bilstm[cli]'")

from bilstm._version import __version__
from bilstm.console import CommandLine, Progress, fail, saying_if_stopped, stop_on_signals, stop_status
from bilstm.errors import UserError

if TYPE_CHECKING:
    from bilstm.columns import Columns, Encoded
    from bilstm.tables import Table
    from bilstm.tagger import Tagger
    from bilstm.training import TrainingOptions

FRACTION = click.FloatRange(0, 1, max_open=True)
POSITIVE = click.FloatRange(0, min_open=True)
COUNT = click.IntRange(1)
MERGE_MODE = click.Choice(["concat", "sum", "mul", "ave"])


def main() -> None:
    """Run the command line, and exit with its status."""
    stop_on_signals()
    commands.main(prog_name="bilstm")


class TrainingOption(click.Option):
    """An option that is one of `TrainingOptions`. Its default is looked up only when help is asked for."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from bilstm.training import TrainingOptions

        name, text = super().get_help_record(ctx) or ("", "")
        default = getattr(TrainingOptions, str(self.name))
        return name, text if default is None else f"{text}  [default: {default}]"


def training_option(name: str, kind: Any, text: str) -> Callable[[Any], Any]:
    return click.option(name, cls=TrainingOption, type=kind, help=text)


def column_option(name: str, text: str, **settings: Any) -> Callable[[Any], Any]:
    metavar = "COLUMNS" if settings.get("multiple") else "COLUMN"
    return click.option(name, metavar=metavar, help=text, **settings)


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="bilstm", message="%(prog)s %(version)s")
def commands() -> None:
    """Label every step of your sequences with a bidirectional LSTM.

    A TABLE has one row a step: .csv, .tsv, .parquet, .ndjson, or CoNLL-style columns (.conll).

    \b
    bilstm train train.csv --sequence id --order time --label state --out model.safetensors
    bilstm evaluate model.safetensors test.csv
    bilstm predict model.safetensors new.csv --out labelled.csv
    """


@commands.command()
@click.argument("table")
@column_option("--sequence", "Tells the sequences apart. CoNLL-style files need none: empty lines do.")
@column_option("--label", "What to predict; an empty cell is unlabelled. In CoNLL-style files, the last column.")
@column_option("--order", "Sorts the rows of a sequence. Without it, they stand in order.")
@column_option(
    "--features",
    "What to predict from, separated by commas. Without it, all other columns; of CoNLL-style files, the first.",
    multiple=True,
)
@column_option("--categorical", "Features that are codes, though they look like numbers.", multiple=True)
@click.option("--valid", metavar="TABLE", help="Sequences to stop early by, instead of a part held out.")
@click.option("--out", metavar="MODEL", required=True, help="The model file to write.")
@training_option("--units", COUNT, "LSTM units in each direction.")
@training_option("--layers", COUNT, "LSTM layers.")
@training_option("--direction", click.Choice(["both", "forward", "backward"]), "Which way the sequences are read.")
@training_option("--merge-mode", MERGE_MODE, "How the two directions are joined.")
@training_option("--embedding", COUNT, "Numbers that stand for a text value. By itself: more for more values.")
@training_option("--dropout", FRACTION, "Share of numbers left out at random in training.")
@training_option("--epochs", COUNT, "Passes over the training sequences, at most.")
@training_option("--batch-size", COUNT, "Sequences in a training step. By itself: fewer where they are long.")
@training_option("--learning-rate", POSITIVE, "The highest that Adam reaches.")
@training_option("--patience", COUNT, "Epochs without a better score on the held-out part before training stops.")
@training_option("--validation-split", FRACTION, "Share of the sequences held out.")
@training_option("--seed", click.IntRange(0, 2**32 - 1), "The same seed and data give the same model.")
@training_option("--time-limit", POSITIVE, "Seconds after which training stops, with the best model until then.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Without it, one a processor. The model is the same.")
@click.option("--quiet", is_flag=True, help="Print mistakes only.")
def train(table: str, out: str, valid: str | None, threads: int | None, quiet: bool, **given: Any) -> None:
    """Train a model on a TABLE of labelled sequences.

    Ctrl-C stops training after the first epoch with the best model until then, which is written.
    """
    from bilstm.modelfile import check_model_path
    from bilstm.prepare import Roles, prepare
    from bilstm.tablefiles import read_table
    from bilstm.training import TaggerInterrupted, train_tagger
    from bilstm.wording import after_training, before_training, when_stopped

    check_model_path(out, inputs=[table, valid] if valid else [table])
    options = _training_options(given)
    source = read_table(table)
    roles = Roles(
        sequence=given["sequence"],
        label=given["label"],
        order=given["order"],
        features=_split(given["features"], source) if given["features"] else None,
        categorical=_split(given["categorical"], source),
    )
    validation = read_table(valid, conll_columns=source.conll_columns) if valid else None
    prepared = prepare(source, roles, valid=validation, validation_split=options.validation_split, seed=options.seed)
    if prepared.validation is None:
        options = dataclasses.replace(options, validation_split=0.0)
    _say(before_training(source, prepared), quiet)
    _use_threads(threads)
    parts = (prepared.columns, prepared.training, prepared.validation)
    interrupt = None
    with saying_if_stopped("before the first epoch ended: no model was written"):
        try:
            with Progress(quiet=quiet) as progress:
                tagger = train_tagger(*parts, options=options, progress=progress)
        except TaggerInterrupted as caught:
            interrupt, tagger = caught, caught.tagger
    with saying_if_stopped("while the model was being written: it was not"):
        tagger.save(out)
    if interrupt:
        fail(when_stopped(tagger.training, out), stop_status(interrupt.__cause__ or interrupt))
    _say(after_training(tagger.training, out), quiet)


@commands.command(short_help="Score a MODEL on a labelled TABLE.")
@click.argument("model")
@click.argument("table")
@column_option("--sequence", "Its name in this table, if it is not the training table's.")
@column_option("--order", "Likewise.")
@column_option("--label", "Likewise.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Without it, one a processor.")
def evaluate(model: str, table: str, as_json: bool, threads: int | None, **names: str | None) -> None:
    """Compare a MODEL's predictions with the labels of a TABLE."""
    from bilstm.metrics import classification_report
    from bilstm.wording import evaluation

    tagger, columns, source = _open(model, table, names)
    encoded = columns.encode(source, need_labels=True)
    _use_threads(threads)
    predicted, _ = _predict(tagger, encoded)
    report = classification_report(encoded.labels, predicted, len(columns.classes))
    report["sequences"] = len(encoded.values)
    report["notes"] = list(encoded.notes)
    report["per_class"] = dict(zip(columns.classes, report["per_class"], strict=True))
    if as_json:
        click.echo(json.dumps({"model": model, "table": table, **report}, ensure_ascii=False, indent=2))
    else:
        _say(evaluation(table, report), quiet=False)


@commands.command(short_help="Label the steps of a TABLE with a MODEL.")
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
    tagger, columns, source = _open(model, table, names)
    check_output(source, ["predicted", "probability"], out)
    encoded = columns.encode(source)
    _use_threads(threads)
    likeliest, probabilities = _predict(tagger, encoded)
    predicted = np.empty(source.rows, object)
    probability = np.empty(source.rows)
    predicted[encoded.rows] = np.array(columns.classes, object)[likeliest]
    probability[encoded.rows] = np.round(probabilities.astype(np.float64), 6)
    write_table(source, {"predicted": predicted, "probability": probability}, out)
    _say(prediction(out, encoded), quiet)


@commands.command(short_help="Watch bidirectional LSTMs learn.")
@click.option("--steps", type=click.IntRange(2), default=10, show_default=True, help="Steps of each sequence.")
@click.option("--units", type=COUNT, default=20, show_default=True, help="LSTM units in each direction.")
@click.option("--sequences", type=COUNT, default=1000, show_default=True, help="Sequences to train on.")
@click.option("--merge-mode", type=MERGE_MODE, default="concat", show_default=True, help="How directions are joined.")
@click.option("--seed", type=click.IntRange(0), help="The same seed gives the same figures.")
@click.option("--out", metavar="FILE", help="The picture: .png or .svg.")
def demo(steps: int, units: int, sequences: int, merge_mode: str, seed: int | None, out: str | None) -> None:
    """Watch bidirectional LSTMs learn, and compare them with one direction."""
    from bilstm.demo import run_demo

    run_demo(steps, units, sequences, merge_mode, seed, out)


def _training_options(given: dict[str, Any]) -> TrainingOptions:
    from bilstm.training import TrainingOptions

    names = {field.name for field in dataclasses.fields(TrainingOptions)}
    try:
        return TrainingOptions(**{name: value for name, value in given.items() if name in names and value is not None})
    except ValueError as error:  # such as an infinite learning rate, which click lets pass
        raise UserError(str(error)) from None


def _open(model: str, table: str, names: dict[str, str | None]) -> tuple[Tagger, Columns, Table]:
    """A model, what it expects of this table, and the table."""
    from bilstm.tablefiles import read_table
    from bilstm.tagger import Tagger

    tagger = Tagger.load(model)
    known = tagger.columns
    columns = dataclasses.replace(
        known,
        sequence=names.get("sequence") or known.sequence,
        order=names.get("order") or known.order,
        label=names.get("label") or known.label,
    )
    return tagger, columns, read_table(table, conll_columns=columns.conll_columns)


def _predict(tagger: Tagger, encoded: Encoded) -> tuple[Any, Any]:
    """The likeliest class of each step, and its probability."""
    probabilities = tagger.predict_proba(encoded.values)
    return probabilities.argmax(axis=1), probabilities.max(axis=1)


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        from bilstm.utils import set_threads

        set_threads(threads)


def _split(given: tuple[str, ...], table: Table) -> list[str]:
    """`a,b` is two columns, unless one is called that."""
    names: list[str] = []
    for text in given:
        names += [text] if text in table.names else [name.strip() for name in text.split(",") if name.strip()]
    return names


def _say(lines: list[str], quiet: bool) -> None:
    if not quiet:
        click.echo("\n".join(lines))
