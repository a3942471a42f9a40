"""Which output a model for labels of time steps has, which tags it learns, and which transitions it forbids."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import numpy.typing as npt

from bilstm.data.dataset import Dataset
from bilstm.errors import UserError, listed
from bilstm.layers import CRF
from bilstm.metrics.schemes import (
    count_transitions,
    detect_scheme,
    find_transitions,
    forbidden_transitions,
    scheme_name,
)
from bilstm.model.prepare import Prepared
from bilstm.model.tagnotes import known_labels, mixture, named, offender
from bilstm.model.trained import TrainedModel
from bilstm.tasks import LabelTask, Task
from bilstm.tasks.learnedtags import tells_all
from bilstm.training.options import TrainingOptions
from bilstm.training.windows import LONGEST

Table = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Output:
    """The output of a model.

    Attributes:
        task: the task of the model, which says what the output is.
        options: the options, with the output that was chosen.
        learned: what its network is trained on: the task and the sequences with the labels that it learns.
        forbidden: (labels + 2, labels) the transitions between these that are never predicted; None: none.
        description: what a person should know about the output, a sentence; "" where there is nothing.
        note: a sentence on labels that break their scheme, or look like tags without one; "" where there are none.
    """

    task: Task
    options: TrainingOptions
    learned: Prepared
    forbidden: Table | None = None
    description: str = ""
    note: str = ""


def with_output(prepared: Prepared, options: TrainingOptions) -> TrainingOptions:
    """The options with an output: where none is named, a CRF for several possible labels, and for tags of a scheme such
    as B-X and I-X, unless another option or probabilities of labels need a softmax or sequences are so long that
    training cuts them.
    """
    if options.output is not None:
        return options
    if prepared.targets is not None:
        return dataclasses.replace(options, output="crf" if _have_several_labels(prepared) else "softmax")
    task, output = prepared.task, "softmax"
    alone = options.direction == "none" or options.calibrate or options.class_weight is not None
    short = options.window is None and prepared.training.values.lengths.max(initial=0) <= LONGEST
    if (
        isinstance(task, LabelTask)
        and not (task.per_sequence or alone)
        and short
        and (options.scheme is not None or _scheme_of(prepared, task)[0] is not None)
    ):
        output = "crf"
    return dataclasses.replace(options, output=output)


def _scheme_of(prepared: Prepared, task: LabelTask) -> tuple[str | None, npt.NDArray[np.int64]]:
    """The scheme of the labels, None without one, and how often each transition occurs."""
    sets = [data for data in (prepared.training, prepared.validation) if data]
    counts = sum(count_transitions(known_labels(task, data), data.row_offsets, len(task.classes)) for data in sets)
    assert isinstance(counts, np.ndarray)
    return detect_scheme(task.classes, counts), counts


def choose_output(prepared: Prepared, options: TrainingOptions) -> Output:
    """The output that the options mean.

    A transition that occurs in the training or the validation set is never forbidden.

    Raises:
        UserError: the labels are not of the scheme that is named, have none where one is needed, or the output does
            not learn from such targets.
    """
    task, options = prepared.task, with_output(prepared, options)
    _check_targets(prepared, options)
    if not isinstance(task, LabelTask) or task.per_sequence:
        return Output(task, options, prepared)
    detected, counts = _scheme_of(prepared, task)
    scheme = options.scheme or detected
    if scheme in (None, "none"):
        return _without_scheme(prepared, task, options, scheme)
    if options.output == "softmax" and options.train_scheme is None:
        return Output(task, options, prepared)
    try:
        forbidden = forbidden_transitions(task.classes, scheme)
    except ValueError as error:
        raise UserError(str(error)) from None
    how = f"{scheme} ({'detected' if options.scheme is None else 'as stated'})"
    broken = forbidden & (counts > 0)
    if options.train_scheme not in (None, scheme):
        return _converted(prepared, task, options, str(scheme), how, broken)
    task = task.with_output(str(options.output), scheme)
    if options.output == "softmax":  # which learns its labels as they are, and so has no scheme
        return Output(task.with_output("softmax"), options, prepared, None, f"learned tags: those of the scheme {how}")
    note = offender(prepared, task, str(scheme), broken, _ALLOWED) if broken.any() else ""
    forbidden &= ~broken
    _check_possible(prepared, task, forbidden, str(scheme))
    description = f"output: {_WHAT[task.output]} that forbids the transitions which the scheme {how} does not have"
    learned = _trained_for(prepared, task)
    return Output(task, options, learned, forbidden if forbidden.any() else None, description, note)


_WHAT = {"crf": "a CRF", "constrained": "a softmax and a decoding"}
_ALLOWED = "transitions that occur in the data are not forbidden"
_AS_CONLLEVAL = "spans are read as conlleval does"


def _without_scheme(prepared: Prepared, task: LabelTask, options: TrainingOptions, scheme: str | None) -> Output:
    note = "" if scheme else mixture(prepared, task)
    why = "scheme none" if scheme else "labels are no tags such as B-X, I-X and O"
    needing = f"output {options.output!r}" if options.output == "constrained" else "train_scheme"
    if options.output == "constrained" or options.train_scheme is not None:
        raise UserError(f"{needing} needs tags of a scheme, but {note or why}")
    if options.output == "softmax":
        return Output(task, options, prepared, note=note)
    task = task.with_output("crf")
    description = f"output: a CRF that allows all transitions between labels ({why})"
    return Output(task, options, _trained_for(prepared, task), None, description, note)


def _trained_for(prepared: Prepared, task: LabelTask) -> Prepared:
    """What the network is trained on, for a task whose labels are learned as they are."""
    output = "softmax" if task.output == "constrained" else task.output
    return dataclasses.replace(prepared, task=task.with_output(output, task.scheme if output == "crf" else None))


def _converted(
    prepared: Prepared, task: LabelTask, options: TrainingOptions, scheme: str, how: str, broken: Table
) -> Output:
    """The output of a network that learns tags of another scheme than the labels'."""
    other = scheme_name(str(options.train_scheme))
    if not tells_all(other, scheme):
        raise UserError(
            f"train_scheme {other} does not tell all that labels of the scheme {scheme} do: choose one that does, such "
            f"as IOBES"
        )
    task = task.with_output(str(options.output), scheme, other)
    trained, training = learned_by(task, prepared.training)
    validation = learned_by(task, prepared.validation)[1] if prepared.validation else None
    learned = dataclasses.replace(prepared, task=trained, training=training, validation=validation)
    forbidden = None if options.output == "softmax" else forbidden_transitions(task.learned, other)
    description = f"learned tags: those of the scheme {other} for labels of the scheme {how}"
    if forbidden is not None:
        description += f"; output: {_WHAT[task.output]} that forbids the transitions which {other} does not have"
    note = offender(prepared, task, scheme, broken, _AS_CONLLEVAL) if broken.any() else ""
    return Output(task, options, learned, forbidden, description, note)


def learned_by(task: Task, data: Dataset) -> tuple[Task, Dataset]:
    """What the network of a model for a task learns from sequences: labels as they are, or other tags."""
    if not isinstance(task, LabelTask) or task.learned_tags is None:
        return task, data
    crf = task.output == "crf"
    learned = dataclasses.replace(
        task,
        classes=task.learned,
        output="crf" if crf else "softmax",
        scheme=task.train_scheme if crf else None,
        train_scheme=None,
    )
    truth = task.learned_tags.learn(known_labels(task, data), data.row_offsets)
    return learned, dataclasses.replace(data, truth=truth, unseen={})


def task_to_learn(prepared: Prepared, options: TrainingOptions) -> Task:
    """What the network is trained for, which decides its size."""
    return prepared.task if options.train_scheme is None else choose_output(prepared, options).learned.task


def check_learnable(model: TrainedModel, task: Task, data: Dataset) -> None:
    """Refuse labels that have a transition which the model forbids: their probability is 0, and cannot be learned.

    Args:
        task: what the network learns.
        data: sequences with its labels.

    Raises:
        ValueError: the message names the labels.
    """
    last = model.network.layers[-1]
    if not isinstance(task, LabelTask) or not isinstance(last, CRF) or last.forbidden is None:
        return
    forbidden = last.forbidden
    wrong = find_transitions(known_labels(task, data), data.row_offsets, forbidden)
    if len(wrong):
        raise ValueError(
            f"y has {named(task, data, forbidden, int(wrong[0]))}, which the model forbids: it did not occur before"
        )


def _have_several_labels(prepared: Prepared) -> bool:
    """Whether the targets are several possible labels, rather than probabilities."""
    task = prepared.task
    return prepared.targets is not None and isinstance(task, LabelTask) and task.separator is not None


def _check_targets(prepared: Prepared, options: TrainingOptions) -> None:
    """Refuse targets that the output does not learn from, and weights of labels that these do not have."""
    if prepared.targets is None:
        return
    if options.class_weight is not None:
        raise UserError("class_weight weights steps by their one label, which other targets do not have: leave it out")
    if options.train_scheme is not None:
        raise UserError("train_scheme learns other tags than the labels, of which targets are: leave one out")
    several = _have_several_labels(prepared)
    if several and options.output != "crf":
        raise UserError(
            "label_separator: only output 'crf' learns from several possible labels: set it, or leave out the separator"
        )
    if not several and options.output == "crf":
        raise UserError(
            "soft_targets are probabilities of the labels of single steps or sequences, but output 'crf' learns the "
            "labels of a sequence together: leave one out"
        )


def _check_possible(prepared: Prepared, task: LabelTask, forbidden: Table, scheme: str) -> None:
    """Refuse sequences of which none of the possible labels goes with the scheme.

    Raises:
        UserError: the message names the first step after which none does.
    """
    if prepared.targets is None or not _have_several_labels(prepared):
        return
    data, allowed = prepared.training, np.isnan(prepared.targets) | (prepared.targets > 0)
    several = (allowed.sum(axis=1) > 1) & ~np.isnan(prepared.targets).any(axis=1)
    begin, end = ~forbidden[-2], ~forbidden[-1]
    for start, stop in itertools.pairwise(data.row_offsets.tolist()):
        if not several[start:stop].any():  # others have no transition that is forbidden, since those occur
            continue
        reached = begin
        for step in range(start, stop):
            if step > start:
                reached = ~forbidden[:-2][reached].all(axis=0)
            reached = reached & allowed[step] & (end if step == stop - 1 else True)
            if not reached.any():
                names = listed(np.array(task.classes)[allowed[step]].tolist())
                place = prepared.table.place(int(data.rows[step]))
                raise UserError(
                    f"{place}: none of the labels {names} goes with those before it in the scheme {scheme}; correct "
                    f"the labels, or allow all transitions with scheme 'none'"
                )
