"""How long a training or a prediction takes on 1, 2, 4 … machines, from what a few steps take on this one."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bilstm.data.dataset import Dataset
from bilstm.distributed.links import IDEAL, Link, own_link
from bilstm.errors import UserError, suggestion
from bilstm.model.columns import ColumnOptions
from bilstm.model.opening import column_options, prepare_data
from bilstm.model.prepare import Prepared
from bilstm.model.training import network_and_data
from bilstm.models import Sequential
from bilstm.models.calls import chunks
from bilstm.models.decoding import decodes, predict_paths
from bilstm.ragged import IndexArray
from bilstm.splitting import MOST_SET_ASIDE
from bilstm.training.options import TrainingOptions
from bilstm.training.planning import plan_training
from bilstm.training.shares import divide_validation
from bilstm.training.timing import time_steps
from bilstm.utils import threads

BANDWIDTH, LATENCY = 10.0, 0.1  # Gbit/s and milliseconds: of machines in one data center
SECONDS = 4.0  # that steps are timed, about
PAYS = 1.5  # times as fast that twice as many machines must be
_TIMED = 0.5  # seconds of predictions


@dataclass(frozen=True)
class Estimate:
    """How long a training and predictions take on several machines like this one, with a worker on each.

    Attributes:
        parameters: weights of the network.
        sequences: to train on, or windows of long ones, in an epoch.
        batch_size: of these in a training step.
        batches: training steps in an epoch.
        shares: into which a batch can be divided: more workers have nothing to do.
        epochs: the most that there are; early stopping may end training before.
        steps: number of workers -> seconds of a training step without exchanges.
        validation: number of workers -> seconds of the validation after an epoch.
        prediction: time steps per second for which a machine predicts.
        reading: seconds of reading and encoding all tables, which each worker does.
        link: the network between the machines, with what gloo takes.
        threads: of each worker.
        measured_link: whether the time that gloo itself takes was measured.
    """

    parameters: int
    sequences: int
    batch_size: int
    batches: int
    shares: int
    epochs: int
    steps: Mapping[int, float]
    validation: Mapping[int, float]
    prediction: float
    reading: float = 0.0
    link: Link = IDEAL
    threads: int = 1
    measured_link: bool = False

    @property
    def gradient_bytes(self) -> int:
        """Bytes that each worker adds to those of the others in a training step, a float64 value for each weight."""
        return 8 * self.parameters

    def exchange(self, workers: int) -> float:
        """Seconds of a training step in which workers add their scores, then their gradients."""
        scores = 8 * 5 * (self.shares + 1)
        return self.link.seconds(scores, workers) + self.link.seconds(self.gradient_bytes, workers)

    def step(self, workers: int) -> float:
        """Seconds of a training step."""
        return self.steps[workers] + self.exchange(workers)

    def epoch(self, workers: int) -> float:
        """Seconds of an epoch and its validation."""
        return self.batches * self.step(workers) + self.validation[workers]

    def training(self, workers: int) -> float:
        """Seconds of reading the tables and of all epochs; a baseline comes on top."""
        return self.reading + self.epochs * self.epoch(workers)

    def speedup(self, workers: int) -> float:
        """How many times as fast as one worker these are."""
        return self.epoch(1) / self.epoch(workers)

    @property
    def recommended(self) -> int:
        """The most workers of which each doubling makes training at least 1.5 times as fast."""
        chosen = 1
        for workers in sorted(self.steps)[1:]:
            if self.epoch(chosen) / self.epoch(workers) < PAYS ** math.log2(workers / chosen):
                break
            chosen = workers
        return chosen

    def to_json(self) -> dict[str, Any]:
        """All figures as JSON-serialisable data, times in seconds."""
        names = ("parameters", "sequences", "batch_size", "batches", "shares", "epochs", "threads")
        return {
            **{name: getattr(self, name) for name in names},
            "gradient_bytes": self.gradient_bytes,
            "reading": self.reading,
            "machines": [
                {
                    "machines": workers,
                    "step": self.step(workers),
                    "exchange": self.exchange(workers),
                    "epoch": self.epoch(workers),
                    "training": self.training(workers),
                    "speedup": self.speedup(workers),
                    "predicted_steps_per_second": workers * self.prediction,
                }
                for workers in sorted(self.steps)
            ],
            "recommended": self.recommended,
        }


def estimate(
    data: Any,
    *,
    bandwidth: float = BANDWIDTH,
    latency: float = LATENCY,
    sequences: int | None = None,
    labels: Any = None,
    valid: Any = None,
    valid_labels: Any = None,
    **options: Any,
) -> Estimate:
    """Estimate how long a training takes on 1, 2, 4 … machines like this one, each with a worker with all its threads.

    Some training steps are run here, for each number of workers with the shares of a batch that one of them would have,
    and gloo's exchanges if PyTorch is installed. Nothing is trained that is kept.

    Args:
        data, labels, valid, valid_labels: as `bilstm.train` takes them: all sequences, or a sample.
        bandwidth: Gbit/s between two machines, in each direction.
        latency: milliseconds from one machine to another, half of what `ping` prints.
        sequences: how many there are in the training set; None: those of the data.
        options: those of `bilstm.train` that say which column is what, and those of `bilstm.TrainingOptions`.

    Raises:
        TypeError: there is no option of this name.
        UserError: an argument is impossible, or the data do not fit the arguments.
    """
    of_columns = {field.name for field in dataclasses.fields(ColumnOptions)} - {"classes"} | {"tokens"}
    of_training = TrainingOptions.__dataclass_fields__
    for name in options:
        if name not in of_columns and name not in of_training:
            known = sorted(of_columns | of_training.keys())
            raise TypeError(f"estimate() has no argument {name!r}.{suggestion(name, known)}")
    columns = column_options(**{name: value for name, value in options.items() if name in of_columns})
    training = TrainingOptions(**{name: value for name, value in options.items() if name in of_training})
    started = time.perf_counter()
    prepared = prepare_data(data, columns, training, labels=labels, valid=valid, valid_labels=valid_labels)
    reading = time.perf_counter() - started
    return estimate_prepared(
        prepared, training, bandwidth=bandwidth, latency=latency, sequences=sequences, reading=reading
    )


def estimate_prepared(
    prepared: Prepared,
    options: TrainingOptions,
    *,
    bandwidth: float = BANDWIDTH,
    latency: float = LATENCY,
    sequences: int | None = None,
    reading: float = 0.0,
    seconds: float | None = None,
) -> Estimate:
    """See `estimate`.

    Args:
        reading: seconds that reading and encoding the data took.
        seconds: how long to time training steps, about; None: 4.
    """
    seconds = SECONDS if seconds is None else seconds
    try:
        link = Link.of(bandwidth, latency)
    except ValueError as error:
        raise UserError(str(error)) from None
    ready = network_and_data(prepared, options)
    model, data = ready.network, ready.training
    assert model.network is not None
    times = 1.0 if sequences is None else sequences / len(data.data)
    plan = plan_training(model, data.data.offsets, ready.output.options, times=times)
    timed = time_steps(model, data, plan, seed=options.seed, seconds=seconds, times=times)
    speed = time_predictions(model, prepared.validation or prepared.training, seconds=min(_TIMED, seconds))
    parameters = model.network.parameter_count
    own = own_link(parameters) if timed.shares > 1 else None
    return Estimate(
        parameters=parameters,
        sequences=max(1, round(times * plan.windows.count)),
        batch_size=plan.batch_size,
        batches=timed.batches,
        shares=timed.shares,
        epochs=plan.epochs,
        steps=timed.seconds,
        validation=_validation_seconds(_validation_lengths(prepared, options, times), timed.seconds, speed),
        prediction=speed,
        reading=times * reading,
        link=link.through(own) if own else link,
        threads=threads(),
        measured_link=own is not None,
    )


def time_predictions(model: Sequential, data: Dataset, *, seconds: float) -> float:
    """Time steps per second for which a model predicts, measured for about so long."""
    predict = predict_paths if decodes(model) else _predict_rows
    first = next(chunks(data.values.lengths, model.weights_per_step))
    values = data.values[first]
    predict(model, values, "float32")  # makes room in memory
    started, done, passed = time.perf_counter(), 0, 0.0
    while passed < seconds:
        predict(model, values, "float32")
        done += values.total_steps
        passed = time.perf_counter() - started
    return done / passed


def _predict_rows(model: Sequential, values: Any, precision: str) -> Any:
    return model.predict_rows(values, precision=precision)


def _validation_lengths(prepared: Prepared, options: TrainingOptions, times: float) -> IndexArray:
    """The steps of each sequence of the validation set of a training with `times` as many sequences."""
    if prepared.validation is None:
        return np.zeros(0, np.int64)
    lengths = prepared.validation.values.lengths
    if prepared.valid_table is not None:
        return lengths
    count = max(1, round(times * len(lengths)))
    if options.validation_split is None:
        count = min(count, max(len(lengths), MOST_SET_ASIDE))
    return np.resize(lengths, count)


def _validation_seconds(lengths: IndexArray, counts: Iterable[int], speed: float) -> dict[int, float]:
    """Seconds of a validation by each of some numbers of workers, which divide its parts."""
    parts = [int(lengths[part].sum()) for part in divide_validation(lengths)]
    return {workers: max(sum(parts[first::workers]) for first in range(workers)) / speed for workers in counts}
