"""`bilstm train`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from bilstm.cli.options import (
    FILE,
    POSITIVE,
    check_apart,
    class_weights,
    column_flags,
    named_columns,
    roles,
    say,
    training_flags,
    training_options,
    use_threads,
)
from bilstm.console import Progress, echo, fail, saying_if_stopped, stop_status
from bilstm.errors import UserError

if TYPE_CHECKING:
    from bilstm.tables.columns import Columns, Encoded
    from bilstm.tables.prepare import Prepared
    from bilstm.tables.table import Table
    from bilstm.tagging.tagger import Tagger
    from bilstm.training.checkpoints import Checkpoint
    from bilstm.training.epochlog import EpochLog
    from bilstm.training.options import TrainingOptions
    from bilstm.training.tensorboard import TensorBoardLog


@click.command()
@click.argument("table", type=FILE)
@column_flags
@click.option("--valid", metavar="TABLE", type=FILE, help="Sequences to stop early by, instead of a part held out.")
@click.option("--out", metavar="MODEL", type=FILE, required=True, help="The model file to write.")
@training_flags(
    texts={
        "time_limit": "Seconds after which training stops, with the best model until then; the baseline may take a "
        "tenth more.",
    }
)
@click.option(
    "--class-weight",
    metavar="WEIGHTS",
    multiple=True,
    callback=class_weights,
    help="balanced: rare labels count for more; or LABEL=NUMBER, for each that is not to count 1.",
)
@click.option(
    "--baseline/--no-baseline",
    default=True,
    help="Whether to train the same network without recurrence as well, and keep it in the model: evaluate then says "
    "what context is worth.",
)
@click.option("--checkpoint", metavar="FILE", type=FILE, help="Keep training's state here until the model is written.")
@click.option("--checkpoint-minutes", type=POSITIVE, help="How often. Without it, after every epoch.")
@click.option("--resume", is_flag=True, help="Go on from --checkpoint, if it is there: to the very same model.")
@click.option("--log", metavar="FILE", type=FILE, help="Write the scores of each epoch, a JSON object in a line.")
@click.option("--tensorboard", metavar="FOLDER", type=FILE, help="Write the scores of each epoch for TensorBoard.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Without it, one a processor. The model is the same.")
@click.option("--quiet", is_flag=True, help="Print mistakes only.")
def train(table: str, out: str, valid: str | None, threads: int | None, quiet: bool, **given: Any) -> None:
    """Train a model on a TABLE of labelled sequences.

    Ctrl-C stops training after the first epoch with the best model until then, which is written. With --checkpoint,
    the same command with --resume goes on, after whatever ended it.
    """
    from bilstm.modelfile import check_model_path
    from bilstm.tagging.training import TaggerInterrupted, train_tagger
    from bilstm.wording import after_training, before_training, when_stopped

    check_apart({"TABLE": table, "--valid": valid})
    inputs = [table, valid] if valid else [table]
    check_model_path(out, inputs=inputs)
    options = training_options(given)
    checkpoint, logs = _kept_files(out, inputs, given)
    source, prepared = _prepare(table, valid, options, given)
    if prepared.validation is None:
        options = dataclasses.replace(options, validation_split=0.0)
    say(before_training(source, prepared), quiet)
    use_threads(threads)
    parts = (prepared.columns, prepared.training, prepared.validation)
    interrupt = None
    with saying_if_stopped("before the first epoch ended: no model was written"):
        try:
            with Progress(quiet=quiet) as progress:
                told = _all_of(progress, *logs)
                tagger = train_tagger(*parts, options=options, progress=told, checkpoint=checkpoint)
        except TaggerInterrupted as caught:
            interrupt, tagger = caught, caught.tagger
    with saying_if_stopped("while the model was being written: it was not"):
        _save(tagger, out, checkpoint)
    for log in logs:
        if log.problem:
            echo(f"bilstm: {log.problem}; training went on without it", err=True)
    if interrupt:
        fail(when_stopped(tagger.training, out) + _how_to_go_on(checkpoint), stop_status(interrupt))
    if given["baseline"] and options.direction != "none":
        with saying_if_stopped(f"in training the baseline: {out} has none{_how_to_go_on(checkpoint)}"):
            tagger.baseline = _train_baseline(parts, options, quiet)
            _save(tagger, out, checkpoint)
    if checkpoint:
        checkpoint.remove()
    say(after_training(tagger, progress.seconds, out), quiet)


def _prepare(table: str, valid: str | None, options: TrainingOptions, given: dict[str, Any]) -> tuple[Table, Prepared]:
    """The table, and what training takes of it."""
    from bilstm.tables.prepare import prepare
    from bilstm.tables.reading import read_table

    columns = named_columns(given)
    source = read_table(table, steps=columns)
    validation = read_table(valid, conll_columns=source.conll_columns, steps=columns) if valid else None
    split, seed = options.validation_split, options.seed
    return source, prepare(source, roles(source, given), valid=validation, validation_split=split, seed=seed)


def _kept_files(
    out: str, inputs: list[str], given: dict[str, Any]
) -> tuple[Checkpoint | None, list[EpochLog | TensorBoardLog]]:
    """What is written while training, besides the model."""
    from bilstm.training.checkpoints import Checkpoint
    from bilstm.training.epochlog import EpochLog
    from bilstm.training.tensorboard import TensorBoardLog

    path, log, board = given["checkpoint"], given["log"], given["tensorboard"]
    if path is None and (given["resume"] or given["checkpoint_minutes"]):
        option = "--resume" if given["resume"] else "--checkpoint-minutes"
        raise UserError(f"{option} needs the file that holds the training: name it with --checkpoint")
    options: dict[str, str] = {}
    for option, name in (("--out", out), ("--checkpoint", path), ("--log", log), ("--tensorboard", board)):
        if name is not None and (other := options.setdefault(os.path.realpath(name), option)) != option:
            raise UserError(f"{other} and {option} name the same file, {name}: give each its own")
    checkpoint = None
    if path is not None:
        minutes = given["checkpoint_minutes"]
        checkpoint = Checkpoint(path, resume=given["resume"], minutes=minutes, inputs=inputs)
    logs: list[EpochLog | TensorBoardLog] = [EpochLog(log, inputs=inputs)] if log else []
    return checkpoint, [*logs, TensorBoardLog(board)] if board else logs


def _train_baseline(
    parts: tuple[Columns, Encoded, Encoded | None], options: TrainingOptions, quiet: bool
) -> Tagger | None:
    """After the model has been written: whatever happens here, it is not lost."""
    from bilstm.errors import DivergedError
    from bilstm.tagging.training import train_baseline

    try:
        with Progress(quiet=quiet, what="without recurrence: ") as progress:
            return train_baseline(*parts, options=options, progress=progress)
    except DivergedError as error:
        echo(f"bilstm: there is no baseline, since without recurrence {error}", err=True)
        return None


def _save(tagger: Tagger, out: str, checkpoint: Checkpoint | None) -> None:
    try:
        tagger.save(out)
    except UserError as error:
        raise UserError(f"{error}{_how_to_go_on(checkpoint)}") from error


def _how_to_go_on(checkpoint: Checkpoint | None) -> str:
    return "; the same command with --resume goes on" if checkpoint and os.path.exists(checkpoint.path) else ""


def _all_of(*listeners: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    def tell(figures: dict[str, Any]) -> None:
        for listener in listeners:
            listener(figures)

    return tell
