"""A trained model: schema, network, task, and the record of its training."""

from __future__ import annotations

import dataclasses
import itertools
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bilstm.arguments import check_count
from bilstm.data import scratch
from bilstm.data.dataset import Dataset
from bilstm.data.memory import MemoryTable
from bilstm.data.readingoptions import PLAIN, ReadingOptions
from bilstm.data.schema import Schema
from bilstm.data.sources import open_for, open_labels
from bilstm.data.stores import as_path, fetch
from bilstm.data.table import Table
from bilstm.engine.network import Paths
from bilstm.errors import UserError, counted
from bilstm.files import AnyPath
from bilstm.model.datasets import read_dataset
from bilstm.model.examples import Example, read_examples
from bilstm.model.live import ModelStream
from bilstm.model.storage import Parts, read_parts, write_parts
from bilstm.models import Sequential
from bilstm.models.decoding import MOST_PATHS, decodes, likeliest_paths, predict_paths
from bilstm.models.lookahead import LookAhead
from bilstm.models.structure import describe
from bilstm.ragged import Ragged, chunks
from bilstm.tasks import LabelTask, Outputs, Task

if TYPE_CHECKING:
    from bilstm.model.spans import Span

_PROBABILITIES = 1 << 24  # in memory at a time, unless one sequence has more


class TrainedModel:
    """Predicts a label, several labels or quantities, for each time step or each sequence.

    Sequences are given to its methods as a path, a folder, a pattern or a list of paths; a data frame of pandas, Polars
    or PyArrow (or anything with Arrow's PyCapsule interface), a dictionary of columns, a list of dictionaries, a list
    of (steps, features) arrays, a (n, steps, features) array, a `bilstm.Ragged`, or a list of lists of strings. All
    pass through the schema, so they hold raw values, as training's did.

    Attributes:
        schema: which columns or arrays it reads, and how they become the network's inputs.
        task: what it predicts.
        network: a `Sequential` network.
        training: how it was trained, plain data: "epochs", "best_epoch", "history", "sequences", "steps" …
        baseline: the model without recurrence, which sees each step alone, trained on the same sequences: what a
            score is to be compared with. None where there is none.
        precision: of the network's weights in predictions, "float32" or "bfloat16"; see `Sequential.evaluate`.
        warn: whether predictions warn of data unlike those of training; each kind of warning comes once.
    """

    precision: str = "float32"
    warn: bool = True

    def __init__(
        self,
        schema: Schema,
        task: Task,
        network: Sequential,
        training: dict[str, Any],
        baseline: TrainedModel | None = None,
    ) -> None:
        self.schema = schema
        self.task = task
        self.network = network
        self.training = training
        self.baseline = baseline
        self._warned: set[tuple[str, str]] = set()

    @property
    def examples(self) -> list[Example]:
        """A few sequences of the validation set that the file keeps; none if `examples=False` in training."""
        return read_examples(self.training)

    # --- Prediction ----------------------------------------------------------------------------------------------

    def predict(self, data: Any) -> Any:
        """The predicted labels, or quantities.

        Returns:
            For tasks with an answer for each step, in the form of the data: (n, steps) for an array, a list of (steps,)
            arrays for lists, (rows,) for a table. For tasks with one answer per sequence (n_sequences,), or (rows,) for
            a data frame with a row per step. Several labels (0 or 1) or quantities have a last dimension for them.

        Raises:
            UserError: the data are not like those of training; the message says where.
        """
        table = self.open(data)
        dataset = self.read(table)
        predicted = self.task.predicted(self.outputs(dataset.values))
        if self.task.what == "quantity" and self.task.outputs == 1:
            predicted = predicted[:, 0]
        return _shaped(predicted, table, dataset)

    def predict_proba(self, data: Any) -> Any:
        """The probability of each label, float32, in the form of `predict` with a last dimension for the labels.

        Those of a `CRF` are of the label at each step; `predict` gives the likeliest labels of a whole sequence, of
        which one may be less probable at its step than another.

        Raises:
            UserError: the model predicts quantities, or the data are not like those of training.
        """
        if self.task.what == "quantity":
            raise UserError("the model predicts quantities, which have no probabilities")
        table = self.open(data)
        dataset = self.read(table)
        return _shaped(self.outputs(dataset.values).values, table, dataset)

    def predict_spans(self, data: Any) -> list[list[Span]]:
        """The spans that predicted tags such as B-X and I-X mark, each with its probability.

        Returns:
            For each sequence its spans, in order, as `bilstm.model.spans.Span`: (first, last, label, probability).
            The probability is that precisely this span is labelled, whatever the other labels are. That of a model with
            a `CRF` is exact. For output "softmax" it is the product of probabilities: at each of the span's steps, that
            of the labels by which it begins or continues, and at the next step that of the labels that do not continue
            it.

        Raises:
            UserError: the labels mark no spans, or the data are not like those of training.
        """
        from bilstm.model.spans import sequences_of_spans

        return sequences_of_spans(self, self.read(self.open(data)).values)

    def predict_paths(self, data: Any, paths: int) -> list[tuple[Any, npt.NDArray[np.float64]]]:
        """The likeliest labels of each sequence as a whole, of a model with output "crf" or "constrained".

        Args:
            paths: how many there are to be of each sequence, from 1 to 1,000.

        Returns:
            For each path, the likeliest first, which `predict` gives: the labels in the form of `predict`, and
            (n_sequences,) float64, the probability of these labels as a whole. A sequence that has fewer has the labels
            of the path before again, with a probability of 0.

        Raises:
            UserError: the model has another output, or the data are not like those of training.
        """
        task = check_paths(self.task, "a prediction of paths", paths)
        table = self.open(data)
        dataset = self.read(table)
        found = self.likeliest_paths(dataset.values, paths)
        codes, predicted = found.labels[0], []
        for labels, logarithms in zip(found.labels, found.log_probabilities, strict=True):
            codes = np.where(labels < 0, codes, labels)
            predicted.append((_shaped(task.labels[codes], table, dataset), np.exp(logarithms)))
        return predicted

    def likeliest_paths(self, values: Ragged, paths: int) -> Paths:
        """The likeliest labels of encoded sequences as wholes, as numbers of the task's classes; -1 where there are
        fewer than `paths`.
        """
        found = likeliest_paths(self.network, values, paths, self.precision)
        if not isinstance(self.task, LabelTask) or self.task.learned_tags is None:
            return found
        labels = [self.task.learned_tags.restore_labels(own, values.offsets) for own in found.labels]
        return Paths(np.array(labels), found.log_probabilities)

    def annotate(self, texts: str | Sequence[str], *, probabilities: bool = False) -> Any:
        """The spans that the model finds in raw texts, such as names, by their characters.

        Texts are divided into tokens by the rule that the model keeps, see `bilstm.data.tokens`. A text is one
        sequence, of any length.

        Args:
            texts: a text, or a list of texts.
            probabilities: whether to give each span's probability: see `predict_spans`.

        Returns:
            For each text, or for the only one, a list of dictionaries with "start" and "end" (offsets of the first
            character and of the one after the last), "label" and "text".

        Raises:
            UserError: the model's labels are no tags such as B-X, I-X and O, or it reads more than tokens.
        """
        from bilstm.model.annotating import annotate

        return annotate(self, texts, probabilities=probabilities)

    def outputs(self, values: Ragged) -> Outputs:
        """What the model gives for encoded sequences: probabilities and labels, or scaled quantities."""
        return self.task.restored(self.learned_outputs(values), values.offsets)

    def learned_outputs(self, values: Ragged) -> Outputs:
        """What the network gives: of labels, for those that it has learned, which may be tags of another scheme."""
        if decodes(self.network):
            return Outputs(*predict_paths(self.network, values, self.precision))
        return Outputs(self.network.predict_rows(values, precision=self.precision))

    def output_chunks(
        self,
        values: Ragged,
        *,
        width: int | None = None,
        look_ahead: LookAhead = "all",
        block: int = 1,
    ) -> Iterator[tuple[slice, slice, Outputs]]:
        """The outputs of some sequences at a time, where memory may not hold those of all.

        Args:
            width: the number of values that a step becomes later, if more than the network has outputs.
            look_ahead, block: how far ahead each step's outputs look; see `stream`.

        Yields:
            Which sequences these are, which steps, and what the network gives for them.
        """
        for group, steps in self.divided(values, width=width):
            offsets = values.offsets[group.start : group.stop + 1]
            chunk = values.take_steps(steps, offsets - offsets[0])
            if look_ahead == "all":
                yield group, steps, self.outputs(chunk)
            else:
                yield group, steps, self.stream(look_ahead=look_ahead, block=block).outputs_of(chunk)

    def divided(self, values: Ragged, *, width: int | None = None) -> Iterator[tuple[slice, slice]]:
        """Which sequences and which steps `output_chunks` takes at a time."""
        most = _PROBABILITIES // (width or self.task.outputs)
        for group in chunks(values.offsets, max(1, min(scratch.BLOCK, most))):
            yield group, slice(int(values.offsets[group.start]), int(values.offsets[group.stop]))

    def adapted(
        self,
        *,
        sequence: str | None = None,
        order: str | None = None,
        label: Sequence[str] = (),
        features: Sequence[str] | None = None,
        reading: ReadingOptions = PLAIN,
    ) -> TrainedModel:
        """The model for data that have other names for its columns.

        Args:
            sequence, order: the columns' names; None: as in training.
            label: the target columns' names, in their order.
            features: the features' names, in their order.
            reading: how files are read, where that differs from training's.

        Raises:
            UserError: there are more or fewer names than columns, or a reading option has no effect.
        """
        schema = self.schema if features is None else self.schema.with_features(features)
        schema = dataclasses.replace(
            schema,
            sequence=sequence or schema.sequence,
            order=order or schema.order,
            reading=reading.over(schema.reading),
        )
        schema.reading.check_order(schema.order)
        if reading.tokens and schema.text is not None:
            raise UserError(f"the model's texts are divided by the rule {schema.text.tokens}: leave --tokens out")
        task = self.task
        if label:
            if len(label) != len(task.columns):
                count = len(task.columns)
                raise UserError(
                    f"the model has {counted(count, 'target column')}, so label must name {count}, not {len(label)}"
                )
            task = dataclasses.replace(task, columns=tuple(label))
        other = self.baseline
        baseline = TrainedModel(schema, task.with_output("softmax"), other.network, other.training) if other else None
        model = TrainedModel(schema, task, self.network, self.training, baseline)
        model.precision, model.warn = self.precision, self.warn
        return model

    # --- Reading -------------------------------------------------------------------------------------------------

    def open(self, data: Any, label: str = "X") -> Table:
        """Read what holds sequences, without encoding it; `label` is what messages call it, if it is not a file."""
        return open_for(self.schema, data, label=label, steps=self.task.columns)

    def read(self, data: Any, *, labels: Any = None, group: str | None = None, with_truth: bool = False) -> Dataset:
        """Encode sequences as the network takes them.

        Args:
            labels: a table with one row per sequence that holds the true answers, where they are not among the data.
            group: the column that tells which sequences belong together.
            with_truth: whether to read the true answers.

        Raises:
            UserError: the data are not like those of training; the message says where.
        """
        table = self.open(data)
        if labels is not None:
            labels = open_labels(labels, "labels", self.schema.sequence, self.schema.reading)
        dataset = read_dataset(self.schema, self.task, table, labels=labels, group=group, with_truth=with_truth)
        if self.warn and table.passed:
            for kind, note in dataset.observations.surprises.items():
                if kind not in self._warned:
                    self._warned.add(kind)
                    warnings.warn(f"column {note}", stacklevel=3)
        return dataset

    # --- Streams -------------------------------------------------------------------------------------------------

    def stream(self, *, look_ahead: LookAhead, block: int = 1) -> ModelStream:
        """For sequences that have not ended: takes their steps piece by piece, and gives the answers that are final.

        Args:
            look_ahead: how many further steps an answer waits for, from 0, or "all" for the sequence's end. With enough
                of them, answers are those of `predict`; `bilstm evaluate --look-ahead` shows how many are enough.
            block: how many steps become final together. Each block costs the time of `look_ahead + block` steps.

        Raises:
            UserError: the model cannot work with bounded look-ahead: it has one answer per sequence, or a layer, such
                as a CRF, that needs whole sequences.
        """
        return ModelStream(self, look_ahead, block)

    # --- Evaluation ----------------------------------------------------------------------------------------------

    def evaluate(self, data: Any, *, labels: Any = None, group: str | None = None, **options: Any) -> dict[str, Any]:
        """Compare predictions with the true answers.

        Args:
            data: labelled sequences.
            labels: a table with one row per sequence that holds the true answers, where they are not among the data.
            group: the column that tells which sequences belong together, such as one patient's: intervals then draw
                whole groups.
            options: see `bilstm.model.evaluation.evaluate`.

        Returns:
            Plain data: see `bilstm.model.evaluation.evaluate`.

        Raises:
            UserError: the data are not like those of training, or have no true answer.
        """
        from bilstm.model.evaluation import evaluate

        return evaluate(self, self.read(data, labels=labels, group=group, with_truth=True), **options)

    def evaluate_delays(
        self,
        data: Any,
        look_aheads: Sequence[LookAhead],
        *,
        block: int = 1,
        labels: Any = None,
        group: str | None = None,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """What the answers of a `stream` are worth: the scores with each of several look-aheads.

        Args:
            data, labels, group: as for `evaluate`.
            look_aheads: numbers of steps, and "all".
            block, options: see `bilstm.model.evaluation.evaluate_delays`.

        Returns:
            For each look-ahead plain data: see `bilstm.model.evaluation.evaluate_delays`.

        Raises:
            UserError: the data are not like those of training, or the model cannot work with bounded look-ahead.
        """
        from bilstm.model.evaluation import evaluate_delays

        for look_ahead in look_aheads:
            if look_ahead != "all":  # which any model can do
                self.stream(look_ahead=look_ahead, block=block)
        dataset = self.read(data, labels=labels, group=group, with_truth=True)
        return evaluate_delays(self, dataset, look_aheads, block=block, **options)

    # --- Files ---------------------------------------------------------------------------------------------------

    def save(self, path: AnyPath, *, force: bool = False) -> None:
        """Write everything needed for prediction to one file, atomically.

        Args:
            force: whether to replace a file that bilstm did not write.

        Raises:
            UserError: the file cannot be written, or another program's file would be replaced.
        """
        baseline = (self.baseline.network, self.baseline.training) if self.baseline else None
        write_parts(path, Parts(self.schema, self.task, self.network, self.training, baseline), force=force)

    @classmethod
    def load(cls, path: AnyPath) -> TrainedModel:
        """Read what `save`, `bilstm train` or an estimator's `save` wrote. Never runs code from the file.

        Args:
            path: the file, which may be in a store, such as `s3://models/tagger.model`.

        Raises:
            ModelFileError: the file is not a trained model; the message says why.
            UserError: a store does not give it.
        """
        file = as_path(path)
        fetch([file])
        parts = read_parts(file)
        alone = parts.task.with_output("softmax")
        baseline = cls(parts.schema, alone, *parts.baseline) if parts.baseline else None
        return cls(parts.schema, parts.task, parts.network, parts.training, baseline)

    def __repr__(self) -> str:
        features = f"{len(self.schema.features)} feature" + ("s" if len(self.schema.features) != 1 else "")
        classes = f", {len(self.task.classes)} classes" if isinstance(self.task, LabelTask) else ""
        size = f"{self.network.count_params():,} parameters"
        return f"TrainedModel({self.task.kind}: {features} -> {', '.join(self.task.columns)}{classes}; {size})"

    def _repr_html_(self) -> str:
        import html

        record = self.training
        names = {"loss": "loss", "val_loss": "validation loss", "val_accuracy": "validation accuracy"}
        history, kept = record.get("history", {}), record.get("best_epoch", 0) - 1
        rows = {
            "predicts": f"{self.task.kind}: {', '.join(self.task.columns)}",
            "features": ", ".join(self.schema.features),
            "layers": ", ".join(describe(layer) for layer in self.network.layers),
            "parameters": f"{self.network.count_params():,}",
            "trained": f"{record['sequences']:,} sequences, epoch {kept + 1} was kept" if history else "",
            "scores": ", ".join(f"{text} {history[name][kept]:.4f}" for name, text in names.items() if name in history),
        }
        cells = "".join(
            f"<tr><th>{name}</th><td>{html.escape(text[:200])}</td></tr>" for name, text in rows.items() if text
        )
        return f"<table><caption>TrainedModel</caption>{cells}</table>"


def check_paths(task: Task, what: str, paths: int) -> LabelTask:
    """The task, if its model gives several sequences of labels.

    Args:
        what: what is asked for, for messages.

    Raises:
        UserError: it does not, or fewer than these.
    """
    if not isinstance(task, LabelTask) or task.output == "softmax":
        output = f"output {task.output!r}" if isinstance(task, LabelTask) else f"the task {task.kind}"
        raise UserError(f"{what} is for models with output 'crf' or 'constrained', but the model has {output}")
    if check_count("predictions", "paths", paths) > MOST_PATHS:
        raise UserError(f"{what} is for up to {MOST_PATHS:,} of each sequence, not {paths:,}")
    return task


def load(path: str | os.PathLike[str]) -> TrainedModel:
    """Read a model that `TrainedModel.save`, `bilstm train` or an estimator's `save` wrote.

    Raises:
        ModelFileError: the file is not a trained model; the message says why. Never runs code from the file.
    """
    return TrainedModel.load(path)


def _shaped(rows: npt.NDArray[Any], table: Table, data: Dataset) -> Any:
    """What is predicted, in the form of the data."""
    form, offsets = (table.form, table.offsets) if isinstance(table, MemoryTable) else ("file", None)
    if data.per_sequence and (offsets is not None or form == "file"):
        return rows
    values = np.repeat(rows, data.values.lengths, axis=0) if data.per_sequence else rows
    ordered = np.empty_like(values)
    ordered[data.rows] = values
    if offsets is None or not isinstance(table, MemoryTable):
        return ordered
    if form == "array":
        return ordered.reshape(len(data), -1, *ordered.shape[1:])
    parts = [ordered[start:stop] for start, stop in itertools.pairwise(offsets.tolist())]
    if form != "objects":
        return parts
    objects = np.empty(len(parts), object)
    objects[:] = parts
    return objects
