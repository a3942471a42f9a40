"""Tags of one scheme as those of another that mark the same spans; for the schemes see `bilstm.metrics.schemes`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from bilstm.metrics.labels import Classes, check_classes
from bilstm.metrics.schemes import (
    MARKS_BEGIN,
    MARKS_END,
    find_transitions,
    forbidden_transitions,
    parse_tag,
    prefix_for,
    scheme_name,
)
from bilstm.metrics.spans import meaning_of, span_breaks
from bilstm.metrics.tags import Tags, number_tags
from bilstm.ragged import as_offsets

_SINGLE, _FIRST, _LAST, _INSIDE = range(4)
_ROLES = "SBEI"  # what these are in a scheme that tells them all apart


def convert_tags(tags: Tags, to: str, *, scheme: str | None = None) -> list[list[str]]:
    """Tags in another scheme, which mark the same spans.

    Back in the first scheme they are the same again, unless the other is IO: it cannot say where a span ends and the
    next of its type begins.

    Args:
        tags: for each sequence its tags, such as ["B-PER", "I-PER", "O"].
        to: the scheme of the result: IO, IOB1, IOB2 (or BIO), IOE1, IOE2, IOBES (or BIOES), BILOU or BMES.
        scheme: the scheme of `tags`, which they must then follow; None: tags of any scheme, whose spans are those that
            `conlleval` counts, so that an I-PER after O begins one.

    Returns:
        A list of tags for each sequence.

    Raises:
        ValueError: there is no such scheme, or a label is no tag or breaks the scheme; the message says where.
    """
    if any(isinstance(sequence, str) for sequence in tags):
        raise ValueError("tags are lists of lists: a list of tags for each sequence")
    codes, offsets, classes = number_tags(tags)
    if not classes:
        scheme_name(to)
        return [[] for _ in tags]
    wrong = [number for number, name in enumerate(classes) if parse_tag(str(name)) is None]
    if wrong:
        where, tag = _place(offsets, int(np.flatnonzero(codes == wrong[0])[0])), classes[wrong[0]]
        raise ValueError(f"{where}: {tag!r} is no tag: tags have the form B-X, I-X, O, or E, S, L, U or M as prefix")
    if scheme is not None:
        _check(codes, offsets, classes, scheme)
    converted, names = convert_labels(codes, offsets, classes, to)
    spelled = np.array(names, object)[converted]
    return [spelled[start:stop].tolist() for start, stop in itertools.pairwise(offsets.tolist())]


def convert_labels(
    labels: npt.ArrayLike, offsets: npt.ArrayLike, classes: Sequence[str], to: str, *, scheme: str | None = None
) -> tuple[npt.NDArray[np.int32], list[str]]:
    """`convert_tags` for labels as integers.

    A step that is unlabelled stays so. A step next to it is unlabelled, too, if its tag depends on it: after a B-X of
    the scheme IOB2 an unlabelled step may continue the span, so that in IOBES the tag is B-X or S-X.

    Args:
        labels: (steps,) integers from -1, which is unlabelled, to len(classes) - 1.
        offsets: (n_sequences + 1,) where sequences begin and end, as in `Ragged`.
        classes: the names of the labels, tags such as B-X, I-X and O.
        to: the scheme of the result.
        scheme: that of the labels, where it is known; they need not follow it.

    Returns:
        (steps,) integers from -1, and the names of the labels that they number: see `tag_names`.

    Raises:
        ValueError: an argument is not one of the above.
    """
    target = scheme_name(to)
    truth, _ = check_classes(labels, np.zeros(np.shape(labels), np.int64), len(classes))
    bounds = as_offsets(offsets, len(truth))
    roles, kinds, types = meaning_of(classes)
    names = tag_names(types, target, outside="O" in classes)
    role, kind = np.append(roles, "?")[truth], np.append(kinds, -2)[truth]
    outside = np.zeros(len(truth) + 1, bool)
    outside[bounds] = True
    breaks = np.ones(len(truth) + 1, bool)
    breaks[1:-1] = span_breaks(role[:-1], kind[:-1], role[1:], kind[1:])
    breaks |= outside
    first, last = breaks[:-1], breaks[1:]
    same = np.append(False, kind[1:] == kind[:-1]) & ~outside[:-1]
    joined, joins = same, np.append(same[1:], False)
    # What an unlabelled neighbour hides, unless the tag itself tells.
    hidden = np.append(False, kind[:-1] == -2) & ~outside[:-1], np.append(kind[1:] == -2, False) & ~outside[1:]
    source = None if scheme is None else scheme_name(scheme)
    begins, ends = np.isin(role, ["B", "S"]), np.isin(role, ["E", "S"])
    first, last = (
        first & ~(hidden[0] & ~begins & (source in MARKS_BEGIN)),
        last & ~(hidden[1] & ~ends & (source in MARKS_END)),
    )
    unsure = hidden[0] & ~begins & (source not in MARKS_BEGIN), hidden[1] & ~ends & (source not in MARKS_END)
    if target in ("IOB1", "IOE1"):
        unsure = unsure[0] | (hidden[0] & first), unsure[1] | (hidden[1] & last)
        first, last = first & joined, last & joins
    unknown = kind == -2
    if target in MARKS_BEGIN or target == "IOB1":
        unknown |= unsure[0] & (kind >= 0)
    if target in MARKS_END or target == "IOE1":
        unknown |= unsure[1] & (kind >= 0)
    position = np.where(first, np.where(last, _SINGLE, _FIRST), np.where(last, _LAST, _INSIDE))
    number = {name: code for code, name in enumerate(names)}
    table = np.full((len(types) + 1, 4), number.get("O", -1), np.int32)  # the last row is what is outside
    for index, type_ in enumerate(types):
        table[index] = [number[_spelled(prefix_for(target, mark), type_)] for mark in _ROLES]
    return np.where(unknown, np.int32(-1), table[np.where(kind < 0, len(types), kind), position]), names


def tag_names(types: Iterable[str], scheme: str, *, outside: bool = True) -> list[str]:
    """All tags of a scheme for spans of some types, sorted.

    Args:
        types: such as PER and LOC; "" for tags without a type.
        scheme: IO, IOB1 …
        outside: whether O is one of them.
    """
    target = scheme_name(scheme)
    tags = {_spelled(prefix_for(target, mark), type_) for type_ in types for mark in _ROLES}
    return sorted(tags | {"O"} if outside else tags)


def _spelled(prefix: str, type_: str) -> str:
    return f"{prefix}-{type_}" if type_ else prefix


def _check(codes: Classes, offsets: npt.NDArray[np.int64], classes: list[str], scheme: str) -> None:
    """Refuse tags that break their scheme."""
    forbidden_transitions(classes, scheme)  # refuses labels of another scheme
    *_, types = meaning_of(classes)
    classes = [*classes, *sorted({*tag_names(types, scheme)} - {*classes})]  # all that there could be
    forbidden = forbidden_transitions(classes, scheme)
    broken = find_transitions(codes, offsets, forbidden)
    if not len(broken):
        return
    step = int(broken[0])
    label, start = classes[codes[step]], step in offsets[:-1]
    if start and forbidden[len(classes), codes[step]]:
        how = f"{label!r} at the beginning of a sequence"
    elif not start and forbidden[codes[step - 1], codes[step]]:
        how = f"{label!r} after {classes[codes[step - 1]]!r}"
    else:
        how = f"{label!r} at the end of a sequence"
    raise ValueError(f"{_place(offsets, step)}: {how} breaks the scheme {scheme_name(scheme)}")


def _place(offsets: npt.NDArray[np.int64], step: int) -> str:
    sequence = int(np.searchsorted(offsets, step, side="right")) - 1
    return f"sequence {sequence}, step {step - offsets[sequence]}"
