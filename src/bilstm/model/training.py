"""Training a model: the one way that the command line, the estimators and Python take."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from bilstm.arguments import check_choice, check_count
from bilstm.data.dataset import Dataset
from bilstm.data.readingoptions import ReadingOptions
from bilstm.data.schema import Schema
from bilstm.data.wordvectors import VectorFiles
from bilstm.engine.plans import Targets
from bilstm.errors import DivergedError, UserError, suggestion
from bilstm.model.calibrating import calibrate
from bilstm.model.examples import find_examples
from bilstm.model.fingerprint import fingerprint
from bilstm.model.network import build_network, check_options, constrained
from bilstm.model.opening import column_options, prepare_data
from bilstm.model.prepare import Prepared
from bilstm.model.tagging import Output, choose_output
from bilstm.model.trained import TrainedModel
from bilstm.models import Sequential
from bilstm.models.fitting import FitData
from bilstm.progress import reporting
from bilstm.ragged import FloatArray
from bilstm.tasks import LabelTask, Task
from bilstm.tasks.softtargets import SoftColumns
from bilstm.training.checkpoints import Checkpoint
from bilstm.training.checkpoints import fingerprint as digest
from bilstm.training.communicator import ALONE, TIMEOUT, Communicator
from bilstm.training.loop import Progress, TrainingInterrupted, train_model
from bilstm.training.options import TrainingOptions
from bilstm.training.workers import MOST_WORKERS, train_on_workers


class ModelInterrupted(TrainingInterrupted):
    """Ctrl-C, or a signal that stands for it, after at least one epoch.

    Attributes:
        model: the best model until then.
    """

    def __init__(self, model: TrainedModel) -> None:
        super().__init__(model.training)
        self.model = model


def train(
    data: Any,
    *,
    label: str | tuple[str, ...] | list[str] | None = None,
    labels: Any = None,
    sequence: str | None = None,
    order: str | None = None,
    features: list[str] | None = None,
    categorical: tuple[str, ...] | list[str] = (),
    drop: tuple[str, ...] | list[str] = (),
    spelling: bool | None = None,
    standardize: bool = True,
    group: str | None = None,
    text: str | None = None,
    tokens: str | None = None,
    vectors: VectorFiles | None = None,
    all_vectors: bool = False,
    soft_targets: SoftColumns | None = None,
    label_separator: str | None = None,
    task: str | None = None,
    reading: ReadingOptions | Mapping[str, Any] | None = None,
    valid: Any = None,
    valid_labels: Any = None,
    baseline: bool = True,
    examples: bool = True,
    verbose: bool | None = None,
    progress: Progress | None = None,
    workers: int = 1,
    communicator: Communicator | None = None,
    **options: Any,
) -> TrainedModel:
    """Train a model on a table of labelled sequences.

    Args:
        data: a path (CSV, Parquet, NDJSON, CoNLL-style columns), a folder, a pattern such as `recordings/*.csv`, or a
            list of paths, whose files have the same columns; a data frame of pandas, Polars or PyArrow, a dictionary of
            columns, or a list of dictionaries with a list for each column.
        label: the target column, or several for several labels (columns of 0 and 1) or quantities.
        labels: a table with one row per sequence that holds the label: a path, or a data frame.
        sequence: the column that identifies sequences; not needed where each row of the data is a sequence. None: each
            of several files is a sequence, whose name is in a column `file`.
        order: the column that sorts the rows of a sequence; None: they are in order.
        features: the columns to predict from; None: all that have no other role.
        categorical: features to treat as text even if they are numbers.
        drop: columns to leave out of the features.
        spelling: whether the first and last letters and the shape of texts count; None: where they are words.
        standardize: whether numeric features are scaled to mean 0 and standard deviation 1.
        group: the column that tells which sequences belong together, such as one patient's: the validation set takes
            all of a group or none.
        text: the column whose texts are the sequences, one in each row.
        tokens: the rule that divides texts into steps: "words", "compounds" or "characters", see
            `bilstm.data.tokens`. None: "words".
        vectors: a file of pretrained word vectors for the feature that is words, or feature -> file: word2vec's text or
            binary form, GloVe's text, fastText's `.vec`, or safetensors; the text ones may be compressed with gzip.
            Only the vectors of words in the training set are read and stored in the model.
        all_vectors: whether all words of these files are, so that words that training had not have their vectors.
        soft_targets: what the names of columns begin with that hold the probability of a label, which is the rest of
            the name, such as "probability_of_"; or label -> column. Training aims at these probabilities, such as those
            of a larger model, instead of at one label. The label that `label` names, or else the likeliest one, is what
            the validation set compares with, and what training aims at where a row has no probabilities.
        label_separator: what is between labels in cells of the label's column that name several, such as "|" in `A|B`:
            one of them is right, and which one is not known. For output "crf".
        task: "step-label", "step-labels", "step-quantity", "sequence-label", "sequence-labels" or
            "sequence-quantity"; None: what is certain from the data.
        reading: how files are read: `bilstm.ReadingOptions`, or a dictionary of some: delimiter, decimal, thousands,
            missing, skip_rows, encoding, quote, header, comment, columns, time_format. The model reads others alike.
        valid: data for validation; None: a part of the data is set aside.
        valid_labels: the labels of `valid`, where they are in a table of their own.
        baseline: whether to train the network without recurrence as well, for comparison.
        examples: whether the model keeps a few sequences of the validation set, with their raw values and labels, which
            `bilstm serve` offers to try it on: see `TrainedModel.examples`. They go wherever its file goes.
        verbose: None: a progress bar on standard error if it is a terminal and tqdm is installed; True: a line for
            each epoch on standard output; False: nothing.
        progress: called with what training reports, see `bilstm.training.loop.train_model`.
        workers: processes on this machine that train together, this one included. The model is the same for any number.
            They divide its threads.
        communicator: what connects this process to others that a launcher started, see `bilstm.distributed.join`: each
            trains with the same arguments, and returns the same model, but that only worker 0 trains the baseline.
        options: of `bilstm.TrainingOptions`: units, layers, epochs, learning_rate, seed …

    Raises:
        TypeError: there is no argument or option of this name.
        UserError: the data do not fit the arguments; the message says where.
        DivergedError: the loss is not finite in the first epoch.
        ModelInterrupted: Ctrl-C after the first epoch, a KeyboardInterrupt; it holds the best model until then.
    """
    check_names(train, options)
    check_choice("train", "verbose", verbose, (None, True, False))
    check_workers(workers, communicator)
    check_choice("train", "examples", examples, (True, False))
    columns = column_options(
        label=label,
        sequence=sequence,
        order=order,
        features=features,
        categorical=categorical,
        drop=drop,
        spelling=spelling,
        standardize=standardize,
        group=group,
        text=text,
        tokens=tokens,
        vectors=vectors,
        all_vectors=all_vectors,
        soft_targets=soft_targets,
        label_separator=label_separator,
        task=task,
        reading=reading,
    )
    training = TrainingOptions(**options)
    prepared = prepare_data(data, columns, training, labels=labels, valid=valid, valid_labels=valid_labels)
    return train_prepared(
        prepared,
        training,
        baseline=baseline,
        examples=examples,
        verbose=verbose,
        progress=progress,
        workers=workers,
        communicator=communicator,
    )


def check_workers(workers: int, communicator: Communicator | None = None) -> None:
    """Refuse a number of workers that is none, too large, or given together with workers that are connected already.

    Raises:
        ValueError: it is none.
        UserError: it is too large, or there is a communicator.
    """
    if check_count("training", "workers", workers) > MOST_WORKERS:
        raise UserError(f"workers must be at most {MOST_WORKERS}, not {workers:,}")
    if workers > 1 and communicator is not None and communicator.size > 1:
        raise UserError(
            f"{communicator.size} workers have been started already: leave out workers, which starts others"
        )


def check_names(function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Refuse keyword arguments of a function that are neither its own nor options of `TrainingOptions`.

    Raises:
        TypeError: the message names the first such argument and one that is spelt alike.
    """
    fields = TrainingOptions.__dataclass_fields__
    for name in options:
        if name not in fields:
            known = (set(inspect.signature(function).parameters) - {"options"}) | fields.keys()
            raise TypeError(f"{function.__name__}() has no argument {name!r}.{suggestion(name, sorted(known))}")


def train_prepared(
    prepared: Prepared,
    options: TrainingOptions,
    *,
    baseline: bool = False,
    examples: bool = False,
    verbose: bool | None = False,
    progress: Progress | None = None,
    checkpoint: Checkpoint | None = None,
    workers: int = 1,
    communicator: Communicator | None = None,
    timeout: float = TIMEOUT,
) -> TrainedModel:
    """Train on prepared data.

    Args:
        baseline: whether to train the network without recurrence as well.
        examples: whether the model keeps sequences of the validation set.
        verbose: see `train`.
        progress, checkpoint: see `train_model`.
        workers, communicator: see `train`.
        timeout: seconds after which one of the `workers` that does not answer is given up.

    Raises:
        DivergedError: the loss is not finite in the first epoch.
        ModelInterrupted: Ctrl-C after the first epoch; it holds the best model until then.
        UserError: the checkpoint cannot be written, or belongs to another training; an option is impossible.
    """
    together = communicator or ALONE
    if together.rank:
        verbose, progress = False, None
    ready, asked = network_and_data(prepared, options), options.output
    output, network, options = ready.output, ready.network, ready.output.options
    sets = (ready.training, ready.validation)
    if checkpoint:
        learned = output.learned
        checkpoint.belongs_to(_facts(learned.schema, learned.task, learned.vectors))
    try:
        with reporting(verbose, "without recurrence: " if options.direction == "none" else "") as report:

            def notify(figures: dict[str, Any]) -> None:
                report(figures)
                if progress:
                    progress(figures)

            work: dict[str, Any] = {"progress": notify, "checkpoint": checkpoint}
            if workers > 1:
                record = train_on_workers(workers, network, *sets, options, timeout=timeout, **work)
            else:
                record = train_model(network, *sets, options, communicator=together, **work)
    except TrainingInterrupted as interrupt:
        model = _finished(output, network, interrupt.summary, options, asked)
        model.training |= _examples(prepared) if examples else {}
        raise ModelInterrupted(model) from interrupt.__cause__
    model = _finished(output, network, record, options, asked)
    model.training |= _examples(prepared) if examples else {}
    if baseline and options.direction != "none" and not together.rank:
        model.baseline = train_baseline(prepared, options, verbose=verbose, progress=progress)
    return model


@dataclasses.dataclass(frozen=True)
class Ready:
    """All that a training takes.

    Attributes:
        output: what the model predicts, and the options with the output that was chosen.
        network: with its initial weights, compiled.
        training: the sequences to train on, with their targets.
        validation: the validation set; None if there is none.
    """

    output: Output
    network: Sequential
    training: FitData
    validation: FitData | None


def network_and_data(prepared: Prepared, options: TrainingOptions) -> Ready:
    """The network that the options describe, and what it is trained on.

    Raises:
        UserError: an option is impossible, or has no effect on this task.
    """
    check_options(prepared.schema, prepared.task, options)
    if options.calibrate and prepared.task.what == "quantity":
        raise UserError("calibrate is for probabilities, but quantities are predicted: leave it out")
    if options.calibrate and prepared.validation is None:
        raise UserError(
            "probabilities are calibrated on the validation set, and there is none: leave out calibrate, or set "
            "sequences aside with validation_split"
        )
    if options.calibrate and prepared.validated_by_targets:
        raise UserError(
            "probabilities are calibrated on true labels, but there are soft targets only: leave out calibrate, or "
            "name the labels with --label (label='…')"
        )
    if prepared.validation is None:
        options = dataclasses.replace(options, validation_split=0.0)
    output = choose_output(prepared, options)
    learned, options = output.learned, output.options
    network = build_network(learned.schema, learned.task, options, output.forbidden, learned.vectors)
    data = _fit_data(learned.training, learned, options)
    if learned.targets is not None:
        data = FitData.all_of(data.data, Targets(values=learned.targets))
    aside = _fit_data(learned.validation, learned, options) if learned.validation else None
    return Ready(output, network, data, aside)


def train_baseline(
    prepared: Prepared,
    options: TrainingOptions,
    *,
    verbose: bool | None = False,
    progress: Progress | None = None,
) -> TrainedModel | None:
    """Train the network without recurrence, which sees each step alone: its scores show what context is worth.

    It is cheap, and of a time limit it takes a tenth at most.

    Returns:
        The model; None if its loss was not finite.

    Raises:
        KeyboardInterrupt: Ctrl-C; an undertrained baseline would flatter the model.
    """
    if isinstance(prepared.task, LabelTask) and prepared.task.separator is not None:
        prepared = dataclasses.replace(prepared, targets=None)  # a softmax does not learn from several labels
    pooling = "mean" if options.pooling == "last" else options.pooling
    limit = options.time_limit and options.time_limit / 10
    alone = dataclasses.replace(
        options,
        direction="none",
        cell=TrainingOptions.cell,
        pooling=pooling,
        conv=None,
        output=None,  # which is a softmax
        scheme=None,
        train_scheme=None,
        time_limit=limit,
    )
    try:
        return train_prepared(prepared, alone, verbose=verbose, progress=progress)
    except ModelInterrupted as interrupt:
        raise KeyboardInterrupt from interrupt.__cause__
    except DivergedError:
        return None


def _finished(
    output: Output, network: Sequential, record: dict[str, Any], options: TrainingOptions, asked: str | None
) -> TrainedModel:
    """The model with calibrated probabilities, and what it remembers of its training.

    Args:
        asked: the output that the options named, None if it was left to the labels.
    """
    record["options"]["output"] = asked
    prepared = output.learned
    model = TrainedModel(prepared.schema, prepared.task, network, record)
    validation = None if prepared.validated_by_targets else prepared.validation
    record["calibration"] = calibrate(model, validation, options.calibrate)
    if options.output == "constrained":
        network = constrained(network, output.forbidden)
    model = TrainedModel(prepared.schema, output.task, network, record)
    if options.window is not None:
        aside = prepared.validation.values.total_steps if prepared.validation else 0
        record |= {"blocks": prepared.training.blocks, "validation_steps": aside, "gap_steps": prepared.gap_steps}
    if options.direction != "none":
        parts = [part.values for part in (prepared.training, prepared.validation) if part]
        record["fingerprint"] = fingerprint(*parts, known=prepared.recordings)
    return model


def _examples(prepared: Prepared) -> dict[str, Any]:
    """What the record says of them."""
    found = find_examples(prepared)
    return {"examples": found} if found else {}


def _facts(schema: Schema, task: Task, vectors: Mapping[str, FloatArray]) -> dict[str, Any]:
    """What distinguishes these columns from those of another training; that its rows are others, their values tell."""
    return {
        "the task": task.kind,
        "the sequence column": schema.sequence,
        "the order column": schema.order,
        "the label column": list(task.columns),
        "the features": schema.features,
        "the categorical features": list(dict.fromkeys(column.name for column in schema.categorical)),
        "the features whose spelling counts": schema.spelled,
        "the classes": digest(*task.classes) if isinstance(task, LabelTask) else None,
        **({"the word vectors": digest(*(vectors[name] for name in sorted(vectors)))} if vectors else {}),
    }


def _fit_data(data: Dataset, prepared: Prepared, options: TrainingOptions) -> FitData:
    try:
        targets = prepared.task.targets(data.known, options.class_weight, prepared.training.known)
    except ValueError as error:
        raise UserError(str(error)) from None
    return FitData.all_of(data.values, targets)
