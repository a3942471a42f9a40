"""`bilstm predict`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from bilstm.cli.inputs import as_data, files_of, open_model, use_threads
from bilstm.cli.options import (
    COUNT,
    FILE,
    TABLES,
    LookAheadSteps,
    ShardOf,
    WholeNumber,
    model_columns,
    precision_option,
)
from bilstm.console import echo, fail, highlighting, output_is_closed, say, stop_status, write_output
from bilstm.errors import UserError, counted

if TYPE_CHECKING:
    from bilstm.files import GrowingFile
    from bilstm.model.folders import Progress, Shard
    from bilstm.model.predictions import PredictionOptions
    from bilstm.model.trained import TrainedModel
    from bilstm.models.lookahead import LookAhead

_CHUNK = 1 << 20  # bytes that are copied at a time


@click.command(short_help="Predict labels or quantities for a TABLE with a MODEL.")
@click.argument("model", type=FILE)
@TABLES
@click.option(
    "--out",
    metavar="FILE",
    type=FILE,
    help="The file to write; - for standard output; a folder for one file per file of TABLE. Default with --annotate "
    "highlight: -.",
)
@click.option("--resume", is_flag=True, help="Skip files whose predictions in the folder --out are finished.")
@click.option(
    "--shard",
    metavar="I/N",
    type=ShardOf(),
    help="Predict for the I-th of each N files only, counted from 1. N processes with a shard each may run at the same "
    "time, and be stopped and started again: files that are finished are skipped.",
)
@click.option(
    "--verify",
    metavar="[FILES]",
    type=COUNT,
    is_flag=False,
    flag_value=10,
    help="Do not write, but predict again for a sample of the files, and compare with the folder --out. Default: 10.",
)
@click.option("--probabilities", is_flag=True, help="Add a column for each label with its probability.")
@click.option("--top", metavar="K", type=COUNT, default=1, help="Write the K most probable labels.")
@click.option(
    "--paths",
    metavar="K",
    type=WholeNumber(1, 1000),
    help="With output crf or constrained: add the K likeliest labels of each whole sequence, with their probability.",
)
@click.option("--events", is_flag=True, help="Write one row per run of equal labels instead of one per time step.")
@click.option(
    "--annotate",
    type=click.Choice(["json", "doccano", "label-studio", "highlight"]),
    help="Write texts with spans, such as names, instead of one label per time step: as JSON, which Prodigy reads; as "
    "Doccano or Label Studio import them; or highlighted on the terminal. Default: json for raw texts if labels are "
    "tags such as B-X and I-X.",
)
@click.option(
    "--spans",
    is_flag=True,
    help="Write one row per span of tags such as B-X and I-X, with its probability, instead of one per time step.",
)
@click.option("--background", metavar="LABEL", help="With --events: the label that is not an event.")
@click.option(
    "--look-ahead",
    metavar="STEPS",
    type=LookAheadSteps(),
    help="On standard input: write each row as soon as this number of further rows of its sequence has come, instead "
    "of when the sequence is complete. `bilstm evaluate --look-ahead` shows what that costs in accuracy.",
)
@click.option(
    "--block", metavar="STEPS", type=COUNT, default=1, help="With --look-ahead: the rows that are written together."
)
@model_columns
@precision_option
@click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="At an invalid line of standard input: stop, or report it and continue with the next.",
)
@click.option("--force", is_flag=True, help="Replace the --out file even if it does not hold predictions.")
@click.option("--threads", type=WholeNumber(1, 1024), help="Number of threads. Default: one per CPU.")
@click.option("--quiet", is_flag=True, help="Print errors only.")
def predict(
    model: str,
    tables: tuple[str, ...],
    out: str | None,
    resume: bool,
    shard: Shard | None,
    verify: int | None,
    probabilities: bool,
    top: int,
    paths: int | None,
    events: bool,
    annotate: str | None,
    spans: bool,
    background: str | None,
    look_ahead: LookAhead | None,
    block: int,
    sequence: str | None,
    order: str | None,
    features: tuple[str, ...],
    precision: str,
    on_error: str,
    force: bool,
    threads: int | None,
    quiet: bool,
    **reading: Any,
) -> None:
    """Predict labels or quantities for a TABLE with a MODEL.

    A model for time steps writes the table with the most probable label of each row and its probability; a model for
    sequences writes one row per sequence. If TABLE is -, sequences are read from standard input, one JSON object per
    line, and written as soon as they are complete; with --look-ahead, each row as soon as its answer is final; with
    --format text, lines are raw texts. Tables are read with the options that the model was trained with; options given
    here take precedence.
    """
    from bilstm.model.annotating import default_form
    from bilstm.model.predictions import PredictionOptions

    if background is not None and not events:
        raise click.UsageError("--background says which label is no event: it needs --events")
    if out is None and annotate != "highlight":
        raise click.UsageError("Missing option '--out'.")
    out = out or "-"
    if annotate == "highlight" and out != "-":
        raise click.UsageError("--annotate highlight is for the terminal, so that --out can only be -")
    for option, chosen in (("--events", events), ("--spans", spans)):
        others = {"--probabilities": probabilities, "--top": top > 1, "--paths": paths, "--spans": events and spans}
        if chosen and (other := next((name for name, with_it in others.items() if with_it), None)):
            raise click.UsageError(f"{option} writes runs of steps, which cannot be combined with {other}")
    streamed = "-" in tables
    if streamed and len(tables) > 1:
        raise click.UsageError("- is the standard input, which cannot be combined with files")
    if on_error == "skip" and not streamed:
        raise click.UsageError("--on-error skip is for the standard input: it needs - as the TABLE")
    if look_ahead is not None and not streamed:
        raise click.UsageError("--look-ahead is for the standard input: it needs - as the TABLE")
    if block > 1 and look_ahead is None:
        raise click.UsageError("--block says how many rows become final together: it needs --look-ahead")
    for option, given in (("--events", events), ("--spans", spans), ("--paths", paths)):
        if look_ahead is not None and given:
            raise click.UsageError(f"--look-ahead answers row by row, which cannot be combined with {option}")
    files = [] if streamed else files_of(tables, reading)
    to_folder = bool(files) and _is_folder(out, tables)
    if resume and not to_folder:
        raise click.UsageError("--resume passes over files that are finished: it needs a folder as --out")
    if shard and not to_folder:
        raise click.UsageError("--shard divides files among processes: it needs a folder as --out")
    if verify and not to_folder:
        raise click.UsageError("--verify compares finished files: it needs a folder as --out")
    if verify and (resume or force):
        raise click.UsageError(
            f"--verify writes nothing, which cannot be combined with --{'resume' if resume else 'force'}"
        )
    if not to_folder:
        _check_output([model, *files], out, force, streamed=streamed)
    trained = open_model(model, sequence, order, features=features, reading=reading, tables=tables)
    trained.precision = precision
    form = highlighting() if annotate == "highlight" else annotate
    as_steps = look_ahead is not None or events or spans or paths or top > 1
    if trained.schema.reading.format == "text" and not as_steps:
        form = form or default_form(trained.task)
    options = PredictionOptions(
        probabilities=probabilities,
        top=top,
        events=events,
        background=background,
        spans=spans,
        paths=paths or 0,
        annotate=form,
    )
    use_threads(threads)
    if streamed:
        lines = _predict_stream(trained, options, out, on_error, look_ahead, block)
    elif to_folder:
        lines = _predict_folder(trained, model, tables, options, out, shard, verify, resume=resume, force=force)
    else:
        lines = _predict_table(trained, tables, options, out)
    say(lines, quiet, err=out == "-")


def _is_folder(out: str, tables: Sequence[str]) -> bool:
    """Whether predictions for each file go into a folder: one that is there, or is named so."""
    from bilstm.data.paths import is_folder, stands_for_files
    from bilstm.files import is_address

    several = len(tables) > 1 or any(map(stands_for_files, tables))
    is_file = not is_address(out) and os.path.isfile(out)
    named = out.endswith(("/", os.sep)) or (several and not os.path.splitext(out)[1] and not is_file)
    return out != "-" and (named or is_folder(out))


def _check_output(inputs: Sequence[str], out: str, force: bool, *, streamed: bool) -> None:
    from bilstm.data.paths import format_of
    from bilstm.model.predictions import check_predictions_path

    if out == "-":
        if output_is_closed():
            raise UserError("the standard output, where predictions should go, is closed: name a file with --out")
        return
    if streamed and (format_of(out) != "ndjson" or out.endswith((".gz", ".json"))):
        raise UserError(f"cannot write {out}: predictions for the standard input are written as .ndjson, or to -")
    check_predictions_path(out, inputs=inputs, force=force)


def _predict_folder(
    model: TrainedModel,
    path: str,
    tables: Sequence[str],
    options: PredictionOptions,
    out: str,
    shard: Shard | None,
    verify: int | None,
    *,
    resume: bool,
    force: bool,
) -> list[str]:
    from bilstm.data.paths import check_outside, placed_files
    from bilstm.model.folders import FolderPredictions
    from bilstm.wording import folder_prediction, folder_verification

    files = placed_files(tables, any_name=model.schema.reading.format is not None)
    check_outside(out, tables)
    resume = resume or verify is not None
    predictions = FolderPredictions(model, path, files, out, options, shard=shard, resume=resume, force=force)
    if verify:
        return folder_verification(out, predictions.verify(verify), predictions.count)
    try:
        predictions.run()
    except KeyboardInterrupt as interrupt:
        fail(f"stopped{_finished(out, predictions.progress, shard)}", stop_status(interrupt))
    except UserError as error:
        raise UserError(f"{error}{_finished(out, predictions.progress, shard)}") from error
    return folder_prediction(out, predictions.progress)


def _finished(folder: str, progress: Progress, shard: Shard | None) -> str:
    """What is left where predictions for several files end early."""
    done = progress.written + progress.skipped
    how = "the same command continues" if shard else "--resume continues"
    return f"; {folder} holds {counted(done, 'finished file')}, and {how}" if done else ""


def _predict_table(model: TrainedModel, tables: Sequence[str], options: PredictionOptions, out: str) -> list[str]:
    from bilstm.data import scratch
    from bilstm.data.filetable import FileTable
    from bilstm.data.stores import as_path, writing
    from bilstm.model.predictions import check_predictions, write_predictions
    from bilstm.ragged import Extent
    from bilstm.wording import prediction

    source = model.open(as_data(tables))
    assert isinstance(source, FileTable)
    ending = "json" if options.annotate == "label-studio" else "ndjson"
    path = str(scratch.folder(source) / f"predictions.{ending}") if out == "-" else out
    check_predictions(source, options, model, path)
    data = model.read(source)
    with writing(as_path(path)) as file:
        write_predictions(model, source, data, options, file)
    if out == "-":
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                write_output(chunk)
    return prediction(source.label if out == "-" else out, Extent().add(data.values.lengths), data.notes)


def _predict_stream(
    model: TrainedModel,
    options: PredictionOptions,
    out: str,
    on_error: str,
    look_ahead: LookAhead | None,
    block: int,
) -> list[str]:
    from bilstm.files import GrowingFile
    from bilstm.model.streaming import predict_stream
    from bilstm.wording import prediction

    def report(error: UserError) -> None:
        echo(f"bilstm: {error}; skipped", err=True)

    file = None if out == "-" else GrowingFile(out)
    try:
        write = file.add if file else write_output
        on_wrong = report if on_error == "skip" else None
        source = sys.stdin.buffer
        streamed = predict_stream(source, write, model, options, on_wrong, look_ahead=look_ahead, block=block)
        if file:
            file.finish()
    except KeyboardInterrupt as interrupt:
        fail("stopped" + _kept(file, look_ahead), stop_status(interrupt))
    except UserError as error:
        raise UserError(f"{error}{_kept(file, look_ahead)}") from error
    if streamed.skipped:
        echo(f"bilstm: {counted(streamed.skipped, 'line')} skipped", err=True)
    name = "the standard input" if out == "-" else out
    return prediction(name, streamed.extent, streamed.observations.notes)


def _kept(file: GrowingFile | None, look_ahead: LookAhead | None) -> str:
    """What is left where predictions end early."""
    what = "all sequences before" if look_ahead is None else "all rows whose answers were final"
    return f"; {file.path} holds the predictions for {what}" if file and file.begun else ""
