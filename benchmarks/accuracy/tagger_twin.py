"""The tagger of words that `bilstm train` makes by default, plainly in PyTorch: `benchmarks.speed.taggers.packed`.

As with `benchmarks.accuracy.twin`, layers, first weights, gradients and Adam are PyTorch's, and the CRF pytorch-crf's,
which forbids no transitions; `bilstm.training.loop.train_model` is shared.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.accuracy.twin import TwinModel
from benchmarks.speed.taggers.packed import Encoded, Network, collate, decode, emissions_of, train_step
from bilstm.metrics.spans import span_report
from bilstm.model.network import depth, embedding_dimension
from bilstm.model.opening import column_options, prepare_data
from bilstm.model.tagging import choose_output
from bilstm.model.trained import TrainedModel
from bilstm.models.fitting import FitData
from bilstm.ragged import IndexArray, Ragged
from bilstm.tasks import LabelTask
from bilstm.training.loop import train_model
from bilstm.training.options import TrainingOptions

_AT_ONCE = 128  # sentences in prediction


class TaggerTwin(TwinModel):
    """The network, with what training asks of a `Sequential`.

    Args:
        network: the network.
        options: of the training.
    """

    def _step(self, data: FitData, batch: IndexArray) -> npt.NDArray[np.float64]:
        part, targets = FitData(data.data, data.targets, batch).take(slice(None), self.one_row_each)
        encoded = encode(part, targets.labels)
        loss = train_step(self.twin, self.optimizer, collate(encoded, range(len(part))))
        self.iteration += 1
        return np.array([[loss * part.total_steps, part.total_steps, 0, 0, 0]])

    def score(self, validation: FitData) -> npt.NDArray[np.float64]:
        data, targets = validation.take(slice(None), self.one_row_each)
        encoded = encode(data, targets.labels)
        loss, right = 0.0, 0
        for batch, emissions in emissions_of(self.twin, encoded, _AT_ONCE):
            loss -= self.twin.crf(emissions, batch.labels, batch.mask).item()
            paths = self.twin.crf.decode(emissions, batch.mask)
            right += int((batch.labels[batch.mask].numpy() == np.concatenate(paths)).sum())
        return np.array([loss, data.total_steps, right, 0, 0], np.float64)

    def decode(self, data: Ragged) -> npt.NDArray[np.int64]:
        """(total_steps,) the likeliest labels of sequences."""
        return np.concatenate(decode(self.twin, encode(data), _AT_ONCE))


def encode(data: Ragged, labels: Any = None) -> Encoded:
    """Sequences as the PyTorch network takes them; labels are (total_steps,)."""
    assert data.words is not None
    values = data.values.astype(np.int64)
    return Encoded(
        columns=np.ascontiguousarray(values[:, :-1]),
        words=values[:, -1].copy(),
        offsets=data.offsets,
        characters=data.words.values[:, 0].astype(np.int64),
        character_offsets=data.words.offsets,
        labels=None if labels is None else np.asarray(labels).astype(np.int64),
    )


def sizes(schema: Any, task: LabelTask, options: TrainingOptions) -> dict[str, Any]:
    """What the PyTorch network takes to be the one that these make here."""
    return {
        "alphabet": schema.characters.size,
        "vocabularies": list(schema.vocabularies),
        "dimensions": [embedding_dimension(size) for size in schema.vocabularies],
        "labels": len(task.classes),
        "units": options.units,
        "layers": depth(options, schema.numeric_width, per_sequence=False),
        "dropout": options.dropout,
    }


def train(data: Path, seed: int, **given: Any) -> dict[str, Any]:
    """Train it on the training set as `bilstm train` trains ours, and score it on the test set.

    Args:
        given: options other than the defaults.
    """
    options = TrainingOptions(seed=seed, **given)
    prepared = prepare_data(data / "train.conll", column_options(), options, valid=data / "dev.conll")
    output = choose_output(prepared, options)
    schema, task, options = prepared.schema, output.task, output.options
    assert isinstance(task, LabelTask)
    torch.manual_seed(seed)
    twin = TaggerTwin(Network(**sizes(schema, task, options)), options)

    def fit_data(part: Any) -> FitData:
        return FitData.all_of(part.values, task.targets(part.known, None, part.known))

    start = time.process_time()
    aside = fit_data(prepared.validation)
    record = train_model(twin, fit_data(prepared.training), aside, options)  # type: ignore[arg-type]
    seconds = time.process_time() - start
    model = TrainedModel(schema, task, twin, record)  # type: ignore[arg-type]
    test = model.read(data / "test.conll", with_truth=True)
    report = span_report(test.known, twin.decode(test.values), test.values.offsets, task.classes)
    return {
        "f1": report["f1"],
        "interval": report["intervals"]["f1"],
        "seconds": seconds,
        "parameters": sum(weights.numel() for weights in twin.twin.parameters()),
        "epochs": record["epochs"],
    }
