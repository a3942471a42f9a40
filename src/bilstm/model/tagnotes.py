"""Sentences on labels that break their scheme, or look like tags without one: with the first of them."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from bilstm.data.dataset import Dataset
from bilstm.errors import counted, listed
from bilstm.metrics.schemes import find_transitions, parse_tag, possible_schemes
from bilstm.model.prepare import Prepared
from bilstm.tasks import LabelTask

_ALMOST = re.compile(r"([BIELMSU])([-_:./ ])(.+)", re.IGNORECASE | re.DOTALL)


def mixture(prepared: Prepared, task: LabelTask) -> str:
    """A sentence on the first label that fits no scheme, of labels that look like tags; "" where there is none."""
    tags = {name: parse_tag(name) for name in task.classes}
    like = [name for name, tag in tags.items() if tag and tag[0] in "BI" and tag[1]]
    if not like:
        return _misspelled(prepared, task)
    labels = _in_order(prepared, task)
    for place, name in labels:
        if tags[name] is None:
            return f"{place}: {name!r} is no tag, but {listed(like)} look like tags, so that labels have no scheme"
    for end, (place, name) in enumerate(labels):
        before = [name for _, name in labels[:end] if name != "O"]
        if not possible_schemes([*before, name]):
            return f"{place}: {name!r} is of no scheme that has {listed(before)}, so that labels have no scheme"
    return ""


def _misspelled(prepared: Prepared, task: LabelTask) -> str:
    """A sentence on labels such as B_X and I_X, or b-X and i-X."""
    almost = {name: match for name in task.classes if (match := _ALMOST.fullmatch(name)) and not parse_tag(name)}
    roles = {(match[1].upper(), match[2], match[3]) for match in almost.values()}
    if not any(role == "B" and ("I", *others) in roles for role, *others in roles):
        return ""
    place, name = next((place, name) for place, name in _in_order(prepared, task) if name in almost)
    tag = f"{almost[name][1].upper()}-{almost[name][3]}"
    return f"{place}: {name!r} looks like a tag, but tags are written as {tag!r}, so that labels have no scheme"


def _in_order(prepared: Prepared, task: LabelTask) -> list[tuple[str, str]]:
    """The labels, in the order in which they occur first, and the places of these; labels of the training set first."""
    found: dict[str, str] = {}
    for data, name in ((prepared.training, ""), (prepared.validation, "validation set")):
        if data is None:
            continue
        labels = known_labels(task, data)
        order = np.argsort(data.rows, kind="stable")
        codes, firsts = np.unique(labels[order], return_index=True)
        for first, code in sorted(zip(firsts.tolist(), codes.tolist(), strict=True)):
            if code >= 0:
                found.setdefault(task.classes[code], name or prepared.table.place(int(data.rows[order[first]])))
    return [(place, name) for name, place in found.items()]


def offender(prepared: Prepared, task: LabelTask, scheme: str, broken: npt.NDArray[np.bool_], fate: str) -> str:
    """A sentence on the first step that breaks the scheme."""
    data, place = prepared.training, ""
    steps = find_transitions(known_labels(task, data), data.row_offsets, broken)
    if not len(steps):
        assert prepared.validation is not None
        data, place = prepared.validation, "validation set"  # which may be of another table
        steps = find_transitions(known_labels(task, data), data.row_offsets, broken)
    first = int(steps[data.rows[steps].argmin()])
    place = place or prepared.table.place(int(data.rows[first]))
    more = f", and {counted(len(steps) - 1, 'other step')} {'does' if len(steps) == 2 else 'do'}" * (len(steps) > 1)
    return f"{place}: {named(task, data, broken, first)} breaks the scheme {scheme}{more}; {fate}"


def named(task: LabelTask, data: Dataset, chosen: npt.NDArray[np.bool_], step: int) -> str:
    """Such as `I-PER after O`."""
    labels, n = known_labels(task, data), len(task.classes)
    label = task.classes[labels[step]]
    first = step in data.row_offsets
    if first and chosen[n, labels[step]]:
        return f"{label!r} at the beginning of a sequence"
    if not first and labels[step - 1] >= 0 and chosen[labels[step - 1], labels[step]]:
        return f"{label!r} after {task.classes[labels[step - 1]]!r}"
    return f"{label!r} at the end of a sequence"


def known_labels(task: LabelTask, data: Dataset) -> npt.NDArray[np.integer]:
    """(steps,) the labels, -1 where unlabelled and for those that the model does not know."""
    return np.where(data.known < len(task.classes), data.known, -1)
