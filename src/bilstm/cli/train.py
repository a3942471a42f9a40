"""`bilstm train`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from bilstm.cli.inputs import check_sets_apart, files_of, prepare_tables, training_options, use_threads
from bilstm.cli.options import (
    CALIBRATE,
    CLASS_WEIGHT,
    FILE,
    POSITIVE,
    TABLES,
    VALID,
    WholeNumber,
    column_flags,
    training_flags,
)
from bilstm.console import echo, fail, say, saying_if_stopped, speak_as, stop_status
from bilstm.errors import UserError
from bilstm.progress import Progress

if TYPE_CHECKING:
    from bilstm.model.prepare import Prepared
    from bilstm.model.trained import TrainedModel
    from bilstm.training.checkpoints import Checkpoint
    from bilstm.training.communicator import Communicator
    from bilstm.training.epochlog import EpochLog
    from bilstm.training.options import TrainingOptions
    from bilstm.training.tensorboard import TensorBoardLog


@click.command(short_help="Train a model on a labelled TABLE.")
@TABLES
@column_flags
@VALID
@click.option("--out", metavar="MODEL", type=FILE, required=True, help="The model file to write.")
@training_flags(
    texts={
        "time_limit": "Seconds after which training stops and keeps the best model so far; the baseline may take a "
        "tenth more.",
    }
)
@CLASS_WEIGHT
@CALIBRATE
@click.option(
    "--baseline/--no-baseline",
    default=True,
    help="Also train the same network without recurrence and store it in the model, so that evaluate can report what "
    "context is worth.  [default: baseline]",
)
@click.option(
    "--examples/--no-examples",
    default=True,
    help="Store a few sequences of the validation set in the model, values and labels, for the page of bilstm serve.  "
    "[default: examples]",
)
@click.option(
    "--checkpoint",
    metavar="FILE",
    type=FILE,
    help="Save the state of the training to this file until the model is written.",
)
@click.option("--checkpoint-minutes", type=POSITIVE, help="Minutes between checkpoints. Default: after every epoch.")
@click.option(
    "--resume", is_flag=True, help="Continue from the --checkpoint file if it exists. The model will be the same."
)
@click.option(
    "--log", metavar="FILE", type=FILE, help="Write the scores of each epoch to this file, one JSON object per line."
)
@click.option(
    "--tensorboard", metavar="FOLDER", type=FILE, help="Write the scores of each epoch to this folder for TensorBoard."
)
@click.option("--force", is_flag=True, help="Replace existing files even if bilstm did not write them.")
@click.option(
    "--threads",
    type=WholeNumber(1, 1024),
    help="Number of threads; it does not change the model. Default: one per CPU. --workers divide them.",
)
@click.option(
    "--workers",
    type=WholeNumber(1, 64),
    help="Train with this number of processes on this machine; it does not change the model. Started by torchrun or "
    "mpiexec, the processes train together without this option; 1 makes each train alone.",
)
@click.option(
    "--worker-timeout",
    type=POSITIVE,
    default=300.0,
    help="Seconds after which training stops if another worker does not answer.  [default: 300]",
)
@click.option("--quiet", is_flag=True, help="Print errors only.")
def train(workers: int | None, worker_timeout: float, quiet: bool, **options: Any) -> None:
    """Train a model on a TABLE of labelled sequences, or on several with the same columns.

    Ctrl-C stops training and writes the best model so far, if at least one epoch has ended. With --checkpoint, a
    training that was interrupted for any reason continues if the same command is run with --resume.
    """
    with _joined(workers, worker_timeout) as communicator:
        first = communicator.rank == 0
        if not first:
            speak_as(f"worker {communicator.rank} of {communicator.size}")
        _train(communicator, first, workers or 1, worker_timeout, quiet=quiet or not first, **options)


def _joined(workers: int | None, timeout: float) -> Communicator:
    """The workers that torchrun or mpiexec has started, unless a number of workers is asked for."""
    from bilstm.distributed.launchers import join, launch
    from bilstm.training.communicator import ALONE

    if workers and workers > 1 and (found := launch()):
        raise UserError(
            f"{found.by} has started {found.size} workers already ({found.variable}={found.size}): leave out --workers"
        )
    return ALONE if workers else join(timeout)


def _train(
    communicator: Communicator,
    first: bool,
    workers: int,
    timeout: float,
    *,
    tables: tuple[str, ...],
    out: str,
    threads: int | None,
    quiet: bool,
    **options: Any,
) -> None:
    """What `train` does, as one of several workers: the first writes and prints."""
    from bilstm.model.training import ModelInterrupted, train_prepared
    from bilstm.modelfile import check_model_path
    from bilstm.wording import after_training, before_training, when_stopped

    inputs = check_sets_apart(tables, options)
    inputs += files_of([*options["labels"], *options["valid_labels"]], options)
    training = training_options(options)
    if first:
        check_model_path(out, inputs=inputs, force=options["force"])
    checkpoint, logs = _kept_files(out, inputs, options) if first else (None, [])
    prepared = prepare_tables(tables, training, options)
    say(before_training(prepared, training), quiet)
    use_threads(threads or _granted(communicator))
    interrupt = None
    with saying_if_stopped("before the first epoch ended: no model was written"):
        try:
            with Progress(quiet=quiet) as progress:
                notify = _all_of(progress, *logs)
                model = train_prepared(
                    prepared,
                    training,
                    examples=options["examples"],
                    progress=notify,
                    checkpoint=checkpoint,
                    workers=workers,
                    communicator=communicator,
                    timeout=timeout,
                )
        except ModelInterrupted as caught:
            interrupt, model = caught, caught.model
    if not first:
        if interrupt:
            fail("stopped", stop_status(interrupt))
        return
    with saying_if_stopped("while the model was being written: it was not"):
        _save(model, out, checkpoint, options["force"])
    for log in logs:
        if log.problem:
            echo(f"bilstm: {log.problem}; training continued without it", err=True)
    if interrupt:
        fail(when_stopped(model.training, out) + _how_to_continue(checkpoint), stop_status(interrupt))
    if options["baseline"] and training.direction != "none":
        with saying_if_stopped(f"in training the baseline: {out} has none{_how_to_continue(checkpoint)}"):
            model.baseline = _train_baseline(prepared, training, quiet)
            _save(model, out, checkpoint, options["force"])
    if checkpoint:
        checkpoint.remove()
    say(after_training(model, progress.seconds, out), quiet)


def _granted(communicator: Communicator) -> int | None:
    """The threads of one of several workers on this machine, which divide them; None for all."""
    from bilstm.utils import threads

    return max(1, threads() // communicator.local_size) if communicator.local_size > 1 else None


def _kept_files(
    out: str, inputs: list[str], options: dict[str, Any]
) -> tuple[Checkpoint | None, list[EpochLog | TensorBoardLog]]:
    """What is written while training, besides the model."""
    from bilstm.training.checkpoints import Checkpoint
    from bilstm.training.epochlog import EpochLog
    from bilstm.training.tensorboard import TensorBoardLog

    path, log, board, force = (options[name] for name in ("checkpoint", "log", "tensorboard", "force"))
    if path is None and (options["resume"] or options["checkpoint_minutes"]):
        option = "--resume" if options["resume"] else "--checkpoint-minutes"
        raise UserError(f"{option} needs the file that holds the training: name it with --checkpoint")
    paths: dict[str, str] = {}
    for option, name in (("--out", out), ("--checkpoint", path), ("--log", log), ("--tensorboard", board)):
        if name is not None and (other := paths.setdefault(os.path.realpath(name), option)) != option:
            raise UserError(f"{other} and {option} name the same file, {name}: give each its own")
    checkpoint = None
    if path is not None:
        minutes = options["checkpoint_minutes"]
        checkpoint = Checkpoint(path, resume=options["resume"], minutes=minutes, inputs=inputs, force=force)
    logs: list[EpochLog | TensorBoardLog] = [EpochLog(log, inputs=inputs, force=force)] if log else []
    return checkpoint, [*logs, TensorBoardLog(board, force=force)] if board else logs


def _train_baseline(prepared: Prepared, options: TrainingOptions, quiet: bool) -> TrainedModel | None:
    """After the model has been written: whatever happens here, it is not lost."""
    from bilstm.model.training import train_baseline

    with Progress(quiet=quiet, what="without recurrence: ") as progress:
        baseline = train_baseline(prepared, options, progress=progress)
    if baseline is None:
        echo("bilstm: there is no baseline, since its loss was not finite", err=True)
    return baseline


def _save(model: TrainedModel, out: str, checkpoint: Checkpoint | None, force: bool) -> None:
    try:
        model.save(out, force=force)
    except UserError as error:
        raise UserError(f"{error}{_how_to_continue(checkpoint)}") from error


def _how_to_continue(checkpoint: Checkpoint | None) -> str:
    return "; the same command with --resume continues" if checkpoint and os.path.exists(checkpoint.path) else ""


def _all_of(*listeners: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    def notify(figures: dict[str, Any]) -> None:
        for listener in listeners:
            listener(figures)

    return notify
