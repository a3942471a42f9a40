"""Spans that tags such as B-X, I-X and O mark: names, chunks, slots; for the schemes see `bilstm.metrics.schemes`.

They are counted as `conlleval` does, the script of the shared tasks of CoNLL-2000 to 2003, and seqeval by default: a
span is right if its first step, its last step and its type are. Any tags make spans: an I-X that continues no X begins
one. B and S always begin a span, E and S always end one; L counts as E, U as S, and M as I.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.metrics.counts import Counts, Scores
from bilstm.metrics.events import DetectionScores, Events, events_at, match_events
from bilstm.metrics.labels import Classes, check_classes, labelled_sequences, sequence_of_steps
from bilstm.metrics.schemes import detect_scheme, forbidden_transitions, parse_tag, role_of, scheme_name
from bilstm.metrics.spanerrors import SpanErrors
from bilstm.ragged import as_offsets

Roles = npt.NDArray[np.str_]


def is_bio(classes: Sequence[str]) -> bool:
    """Whether all names of classes are tags that mark spans, such as B-X, I-X and O, or those of another scheme.

    Types may be left out where there is only one, but then B and I must both occur; see `detect_scheme`.
    """
    return detect_scheme(classes) is not None


def find_spans(
    labels: npt.ArrayLike, offsets: npt.ArrayLike, classes: Sequence[str], *, scheme: str | None = None
) -> tuple[Events, list[str]]:
    """The spans that labels mark, as events, and their types. Unlabelled steps (-1) are skipped.

    Args:
        labels: (steps,) integers from -1 to len(classes) - 1.
        offsets: (n_sequences + 1,) where sequences begin and end, as in `Ragged`.
        classes: the names of the labels, tags such as B-X, I-X and O.
        scheme: one of `bilstm.metrics.schemes.SCHEMES`: only spans that it spells out in full, as in seqeval's strict
            mode; None: all, as `conlleval` counts them.

    Returns:
        The spans, whose classes index the types; the types, sorted, "" for a B or I without a type.

    Raises:
        ValueError: an argument is not one of the above.
    """
    truth, _ = check_classes(labels, np.zeros(np.shape(labels), np.int64), len(classes))
    bounds = as_offsets(offsets, len(truth))
    roles, types, names = meaning_of(classes)
    if scheme is not None:
        forbidden_transitions(classes, scheme)  # refuses labels of another scheme
    kept = np.flatnonzero(truth >= 0)
    codes = truth[kept]
    role, kind = roles[codes], types[codes]
    sequence = sequence_of_steps(bounds)[kept]
    inside = kind >= 0
    anew = np.ones(len(kept), bool)  # whether the span before, if any, ends here
    first = np.concatenate([[True], sequence[1:] != sequence[:-1], [True]])  # whether a step begins a sequence
    changes = first.copy()
    changes[1:-1] |= kind[1:] != kind[:-1]
    anew[1:] = first[1:-1] | span_breaks(role[:-1], kind[:-1], role[1:], kind[1:])
    starts = np.flatnonzero(anew & inside)
    edges = np.append(np.flatnonzero(anew), len(kept))
    stops = edges[np.searchsorted(edges, starts, side="right")]
    if scheme is not None:
        following = np.where(first[1:], "O", np.append(role[1:], "O"))
        starts, stops = _complete(scheme_name(scheme), role, following, changes, starts, stops)
    return events_at(kept[starts], kept[stops - 1], kind[starts], bounds), names


def span_report(
    labels: npt.ArrayLike, predicted: npt.ArrayLike, offsets: npt.ArrayLike, classes: Sequence[str]
) -> dict[str, Any]:
    """Precision, recall and F1 of predicted spans, as plain data.

    Args:
        labels: (steps,) integers from -1 to len(classes) - 1. Unlabelled steps (-1) are left out of both sides.
        predicted: (steps,) integers from 0 to len(classes) - 1.
        offsets: (n_sequences + 1,) where sequences begin and end, as in `Ragged`.
        classes: the names of the labels, tags such as B-X, I-X and O.

    Returns:
        What `event_report` returns, where "f1" is the score that is usually reported; "per_class" is a dict by type;
        "errors": what is wrong, see `bilstm.metrics.spanerrors.SpanErrors.report`.

    Raises:
        ValueError: an argument is not one of the above.
    """
    truth, _ = check_classes(labels, predicted, len(classes))
    bounds = as_offsets(offsets, len(truth))
    scores = SpanScores(labelled_sequences(truth, bounds), classes)
    scores.add_spans(truth, predicted, bounds)
    return scores.report()


class SpanScores(DetectionScores):
    """Scores of spans, for sequences that come in batches.

    Args:
        labelled: (n_sequences,) whether a sequence has labels.
        classes: the names of the labels, tags such as B-X, I-X and O.
        groups: (n_sequences,) integers, the group of each sequence: intervals then come from drawing whole groups.

    Raises:
        ValueError: an argument is not one of the above.
    """

    scores: Mapping[str, Callable[[Counts], Scores]] = {"span_f1": lambda counts: counts.overall().f1}
    main = "span_f1"

    def __init__(self, labelled: npt.ArrayLike, classes: Sequence[str], *, groups: npt.ArrayLike | None = None) -> None:
        self._classes = classes
        *_, self._types = meaning_of(classes)
        super().__init__(labelled, len(self._types), groups=groups)
        self._errors = SpanErrors(self._types)

    def add_spans(self, labels: npt.ArrayLike, predicted: npt.ArrayLike, offsets: npt.ArrayLike) -> None:
        """Find, match and count the spans of the next sequences; for the arguments see `span_report`."""
        truth, guess = check_classes(labels, predicted, len(self._classes))
        true, _ = find_spans(truth, offsets, self._classes)
        guessed, _ = find_spans(np.where(truth >= 0, guess, -1), offsets, self._classes)
        pairs = match_events(true, guessed, onset_tolerance=0, offset_tolerance=0)
        self._count(true, guessed, pairs, len(np.asarray(offsets)) - 1)
        self._errors.add(true, guessed)

    def report(self) -> dict[str, Any]:
        """All scores, as plain data: what `span_report` returns."""
        report = super().report()
        by_type = dict(zip(self._types, report["per_class"], strict=True))
        return report | {"per_class": by_type, "errors": self._errors.report()}


def _complete(
    scheme: str,
    role: npt.NDArray[np.str_],
    following: npt.NDArray[np.str_],
    changes: npt.NDArray[np.bool_],
    starts: Classes,
    stops: Classes,
) -> tuple[Classes, Classes]:
    """The spans that a scheme spells out in full, as seqeval 1.2 finds them.

    Args:
        role: (steps,) B, I, E, S or O.
        following: (steps,) that of the next step of the sequence, O where there is none.
        changes: (steps + 1,) whether a step has another type than the one before, or begins a sequence.
        starts, stops: (spans,) the first step of each span, and the one after its last.
    """
    first, last = role[starts], role[stops - 1]
    if scheme == "IOB1":  # a B that follows no span of its type belongs to none
        wrong = (first == "B") & changes[starts]
        # That one of another type follows is an end for an I only.
        complete = ~((last == "B") & changes[stops] & (following[stops - 1] == "B"))
        starts = starts + wrong
        complete &= starts < stops
    elif scheme == "IOE1":
        complete = (last != "E") | ~changes[stops]
        alone = (stops - starts == 1) & (last == "E")
        complete &= ~alone | ((np.append("O", role)[starts] == "E") & ~changes[starts])
    elif scheme == "IOB2":
        complete = first == "B"
    elif scheme == "IOE2":
        complete = last == "E"
    elif scheme == "IO":
        complete = np.ones(len(starts), bool)
    else:
        complete = np.isin(first, ["B", "S"]) & np.isin(last, ["E", "S"])
    return starts[complete], stops[complete]


def span_breaks(role: Roles, kind: Classes, next_role: Roles, next_kind: Classes) -> npt.NDArray[np.bool_]:
    """Whether no span has both a step and the next one, as `conlleval` reads tags of one sequence.

    Args:
        role, kind: of the steps: B, I, E, S or O, and the number of the type.
        next_role, next_kind: those of the steps that follow; the shapes are broadcast.
    """
    begin, end = (next_role == "B") | (next_role == "S"), (role == "E") | (role == "S")
    return np.asarray(begin | end | (kind != next_kind))


def meaning_of(classes: Sequence[str]) -> tuple[npt.NDArray[np.str_], Classes, list[str]]:
    """Whether each label is as a B, an I, an E, an S or an O, the index of its type (-1 for O), and the types."""
    tags = [parse_tag(name) for name in classes]
    for name, tag in zip(classes, tags, strict=True):
        if tag is None:
            raise ValueError(f"labels of spans have the form B-X, I-X, O, or E, S, L, U or M as prefix, not {name!r}")
    known = [tag for tag in tags if tag]
    names = sorted({type_ for prefix, type_ in known if prefix != "O"})
    types = [-1 if prefix == "O" else names.index(type_) for prefix, type_ in known]
    return np.array([role_of(prefix) for prefix, _ in known], "U1"), np.array(types, np.int64), names
