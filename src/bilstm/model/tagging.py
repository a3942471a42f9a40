"""Which output a model for labels of time steps has, and which transitions between labels its CRF forbids."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from bilstm.data.dataset import Dataset
from bilstm.errors import UserError, counted, listed
from bilstm.layers import CRF
from bilstm.metrics.schemes import count_transitions, detect_scheme, find_transitions, forbidden_transitions, parse_tag
from bilstm.model.prepare import Prepared
from bilstm.model.trained import TrainedModel
from bilstm.tasks import LabelTask, Task
from bilstm.training.options import TrainingOptions

Table = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Output:
    """The output of a model.

    Attributes:
        task: the task, which says what the output is.
        forbidden: (labels + 2, labels) the transitions that a CRF forbids; None: none.
        description: what a CRF knows about the labels, a sentence; "" where there is none.
        note: a sentence on labels that break their scheme; "" where none does.
    """

    task: Task
    forbidden: Table | None = None
    description: str = ""
    note: str = ""


def choose_output(prepared: Prepared, options: TrainingOptions) -> Output:
    """The output that the options mean.

    A transition that occurs in the training or the validation set is never forbidden.

    Raises:
        UserError: the labels are not of the scheme that is named.
    """
    task = prepared.task
    if options.output != "crf" or not isinstance(task, LabelTask) or task.per_sequence:
        return Output(task)
    sets = [data for data in (prepared.training, prepared.validation) if data]
    counts = sum(count_transitions(_known(task, data), data.row_offsets, len(task.classes)) for data in sets)
    scheme = options.scheme or detect_scheme(task.classes, counts)  # type: ignore[arg-type]
    if scheme in (None, "none"):
        why = "labels are no tags such as B-X, I-X and O" if scheme is None else "scheme none"
        description = f"output: a CRF that allows all transitions between labels ({why})"
        return Output(task.with_output("crf"), None, description, _mixture(task) if scheme is None else "")
    try:
        forbidden = forbidden_transitions(task.classes, scheme)
    except ValueError as error:
        raise UserError(str(error)) from None
    broken = forbidden & (counts > 0)
    how = "detected" if options.scheme is None else "as stated"
    description = f"output: a CRF that forbids the transitions which the scheme {scheme} ({how}) does not have"
    note = _offender(prepared, task, str(scheme), broken) if broken.any() else ""
    forbidden &= ~broken
    return Output(task.with_output("crf", scheme), forbidden if forbidden.any() else None, description, note)


def check_learnable(model: TrainedModel, data: Dataset) -> None:
    """Refuse labels that have a transition which the model forbids: their probability is 0, and cannot be learned.

    Raises:
        ValueError: the message names the labels.
    """
    task, last = model.task, model.network.layers[-1]
    if not isinstance(task, LabelTask) or not isinstance(last, CRF) or last.forbidden is None:
        return
    forbidden = last.forbidden
    wrong = find_transitions(_known(task, data), data.row_offsets, forbidden)
    if len(wrong):
        raise ValueError(
            f"y has {_named(task, data, forbidden, int(wrong[0]))}, which the model forbids: it did not occur before"
        )


def _known(task: LabelTask, data: Dataset) -> npt.NDArray[np.integer]:
    return np.where(data.known < len(task.classes), data.known, -1)


def _mixture(task: LabelTask) -> str:
    """A sentence on labels that look like tags but have no scheme, "" where none does."""
    tags = {name: parse_tag(name) for name in task.classes}
    like = [name for name, tag in tags.items() if tag and tag[0] in "BI" and tag[1]]
    if not like:
        return ""
    other = next((name for name, tag in tags.items() if tag is None), None)
    if other is not None:
        return f"{listed(like)} look like tags, but {other!r} is none, so that labels have no scheme"
    prefixes = sorted({tag[0] for tag in tags.values() if tag} - {"O"})
    return f"labels look like tags, but no scheme has the prefixes {', '.join(prefixes)}"


def _offender(prepared: Prepared, task: LabelTask, scheme: str, broken: Table) -> str:
    """A sentence on the first step that breaks the scheme."""
    data, place = prepared.training, ""
    steps = find_transitions(_known(task, data), data.row_offsets, broken)
    if not len(steps):
        assert prepared.validation is not None
        data, place = prepared.validation, "validation set"  # which may be of another table
        steps = find_transitions(_known(task, data), data.row_offsets, broken)
    first = int(steps[data.rows[steps].argmin()])
    place = place or prepared.table.place(int(data.rows[first]))
    more = f", and {counted(len(steps) - 1, 'other step')} {'does' if len(steps) == 2 else 'do'}" * (len(steps) > 1)
    return (
        f"{place}: {_named(task, data, broken, first)} breaks the scheme {scheme}{more}; transitions that occur in the "
        f"data are not forbidden"
    )


def _named(task: LabelTask, data: Dataset, chosen: Table, step: int) -> str:
    """Such as `I-PER after O`."""
    labels, n = _known(task, data), len(task.classes)
    label = task.classes[labels[step]]
    first = step in data.row_offsets
    if first and chosen[n, labels[step]]:
        return f"{label!r} at the beginning of a sequence"
    if not first and labels[step - 1] >= 0 and chosen[labels[step - 1], labels[step]]:
        return f"{label!r} after {task.classes[labels[step - 1]]!r}"
    return f"{label!r} at the end of a sequence"
