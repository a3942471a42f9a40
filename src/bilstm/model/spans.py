"""The spans that a model predicts, each with its probability."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bilstm.errors import UserError, listed
from bilstm.metrics.events import Events
from bilstm.metrics.spans import find_spans
from bilstm.model.trained import TrainedModel
from bilstm.models.chains import span_probabilities
from bilstm.ragged import Ragged
from bilstm.tasks import LabelTask, Task


class Span(NamedTuple):
    """A span that a model predicts.

    Attributes:
        first, last: its first and its last step, counted from the sequence's first, which is 0.
        label: its type, such as PER of B-PER and I-PER; "" for tags without one.
        probability: that the sequence's labels mark precisely this span, whatever its other labels are.
    """

    first: int
    last: int
    label: str
    probability: float


class PredictedSpans(NamedTuple):
    """The spans that are predicted for some sequences.

    Attributes:
        events: the spans, whose classes index the types.
        types: the types.
        probabilities: (n_spans,) float64, see `bilstm.models.chains.span_probabilities`.
    """

    events: Events
    types: list[str]
    probabilities: npt.NDArray[np.float64]


def check_spans(task: Task, what: str) -> LabelTask:
    """The task, if its labels mark spans.

    Args:
        what: what is asked for, for messages.

    Raises:
        UserError: they do not.
    """
    if not isinstance(task, LabelTask) or task.per_sequence:
        raise UserError(f"{what} is for labels of time steps, but the model's task is {task.kind}")
    if not task.spans:
        raise UserError(
            f"{what} is for labels that mark spans, tags such as B-X, I-X and O, but the model's are "
            f"{listed(task.classes)}"
        )
    return task


def predicted_spans(model: TrainedModel, values: Ragged) -> PredictedSpans:
    """The spans that a model predicts for encoded sequences.

    Raises:
        UserError: its labels mark no spans.
    """
    task = check_spans(model.task, "a prediction of spans")
    labels = model.learned_outputs(values).labels
    events, types = find_spans(labels, values.offsets, task.learned)
    return PredictedSpans(
        events, types, span_probabilities(model.network, values, events, task.learned, model.precision)
    )


def span_chunks(model: TrainedModel, values: Ragged) -> Iterator[tuple[slice, slice, PredictedSpans]]:
    """`predicted_spans` of some sequences at a time, as `TrainedModel.output_chunks` divides them."""
    for group, steps in model.divided(values):
        offsets = values.offsets[group.start : group.stop + 1] - steps.start
        yield group, steps, predicted_spans(model, values.take_steps(steps, offsets))


def sequences_of_spans(model: TrainedModel, values: Ragged) -> list[list[Span]]:
    """See `TrainedModel.predict_spans`."""
    found: list[list[Span]] = [[] for _ in range(len(values))]
    for group, _, (events, types, probabilities) in span_chunks(model, values):
        ends = (events.sequences.tolist(), events.onsets.tolist(), events.offsets.tolist(), events.classes.tolist())
        for sequence, first, last, type_, probability in zip(*ends, probabilities.tolist(), strict=True):
            found[group.start + sequence].append(Span(first, last, types[type_], probability))
    return found
