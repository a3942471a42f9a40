"""Schemes by which labels of steps mark spans: what a tag means, which scheme labels follow, and what it forbids.

A tag is O, or a prefix and a type, such as B-PER; the type may be left out where there is only one.

| scheme | prefixes | a span of X |
| --- | --- | --- |
| IO | I | steps of I-X |
| IOB1 | I, B | steps of I-X; the first is B-X if it follows another span of X |
| IOB2, BIO | B, I | B-X, then steps of I-X |
| IOE1 | I, E | steps of I-X; the last is E-X if another span of X follows |
| IOE2 | I, E | steps of I-X, then E-X |
| IOBES, BIOES | B, I, E, S | B-X, steps of I-X and E-X; S-X if it has one step |
| BILOU | B, I, L, U | the same with L for E and U for S |
| BMES | B, M, E, S | the same with M for I |

After Ramshaw and Marcus 1995, Tjong Kim Sang and Veenstra 1999, and Ratinov and Roth 2009.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bilstm.arguments import check_choice
from bilstm.ragged import as_offsets

_PREFIXES = {
    "IO": "I",
    "IOB2": "BI",
    "IOB1": "BI",
    "IOE2": "IE",
    "IOE1": "IE",
    "IOBES": "BIES",
    "BILOU": "BILU",
    "BMES": "BMES",
}
SCHEMES = tuple(_PREFIXES)
ALIASES = {"BIO": "IOB2", "BIOES": "IOBES"}
# Those whose tags alone tell where a span begins, and where one ends.
MARKS_BEGIN = ("IOB2", "IOBES", "BILOU", "BMES")
MARKS_END = ("IOE2", "IOBES", "BILOU", "BMES")
_TAG = re.compile(r"O|([BIELMSU])(?:-(.+))?", re.DOTALL)
_ROLES = {"L": "E", "U": "S", "M": "I"}  # prefixes that mean the same as another
# Without types, labels may have other meanings: these must all occur.
_UNTYPED = ({"B", "I"}, {"I", "E", "O"}, {"B", "I", "E", "S"}, {"B", "I", "L", "U"}, {"B", "M", "E", "S"})


def parse_tag(name: str) -> tuple[str, str] | None:
    """The prefix and the type of a tag, ("O", "") for O and ("B", "") for B; None if the label is none."""
    mark = _TAG.fullmatch(name)
    return None if mark is None else (mark[1] or "O", mark[2] or "")


def role_of(prefix: str) -> str:
    """What a prefix means: B, I, E, S or O; L is as E, U as S, and M as I."""
    return _ROLES.get(prefix, prefix)


def prefix_for(scheme: str, role: str) -> str:
    """The prefix that a scheme of `SCHEMES` has for a role: B, I, E, or S for the only step of a span.

    In IOB1 and IOE1 the first and the last step have it where a span of the same type is next to them.
    """
    prefixes = _PREFIXES[scheme]
    for prefix in prefixes:
        if role_of(prefix) == role:
            return prefix
    if role == "S" and len(prefixes) == 2:
        return prefixes.strip("I")
    return "I"


def scheme_name(name: str) -> str:
    """The name in `SCHEMES` that a name in any case, or BIO or BIOES, means.

    Raises:
        ValueError: there is no such scheme.
    """
    upper = str(name).upper()
    return str(check_choice("labels", "scheme", ALIASES.get(upper, upper), SCHEMES))


def follows_scheme(classes: Sequence[str], scheme: str) -> bool:
    """Whether all labels are tags of a scheme of `SCHEMES`, one by one."""
    tags = [parse_tag(name) for name in classes]
    return all(tag is not None and tag[0] in _PREFIXES[scheme] + "O" for tag in tags)


def possible_schemes(classes: Sequence[str]) -> list[str]:
    """The schemes that have tags with the prefixes of all labels."""
    return [name for name in SCHEMES if follows_scheme(classes, name)]


def detect_scheme(classes: Sequence[str], transitions: npt.NDArray[np.integer] | None = None) -> str | None:
    """The scheme that labels follow; None where they are no tags.

    Args:
        classes: the labels.
        transitions: (labels + 2, labels) how often each transition occurs, from `count_transitions`: it decides between
            IOB1 and IOB2, and IOE1 and IOE2. Without it, IOB2 and IOE2 are taken for certain.

    Returns:
        One of `SCHEMES`.
    """
    tags = [parse_tag(name) for name in classes]
    if any(tag is None for tag in tags):
        return None
    prefixes = {tag[0] for tag in tags if tag} - {"O"}
    if not any(tag and tag[1] for tag in tags) and not any(needed <= set(classes) for needed in _UNTYPED):
        return None
    if not prefixes & set("BI"):  # such as S-Bahn and E-mail
        return None
    fitting = possible_schemes(classes)
    if transitions is None or len(fitting) < 2:
        return fitting[0] if fitting else None
    return min(fitting[:2], key=lambda name: int(transitions[forbidden_transitions(classes, name)].sum()))


def forbidden_transitions(classes: Sequence[str], scheme: str | None = None) -> npt.NDArray[np.bool_]:
    """Which label never follows which, for a `CRF`.

    Args:
        classes: the labels, in the order of their numbers: tags such as B-X, I-X and O.
        scheme: IO, IOB1, IOB2 (or BIO), IOE1, IOE2, IOBES (or BIOES), BILOU or BMES; None: that of the labels, see
            `detect_scheme`.

    Returns:
        (labels + 2, labels): whether a transition from the row's label to the column's is forbidden; the last two rows
        are beginnings and ends of sequences. These are free where no label could make up a sequence of any length.

    Raises:
        ValueError: labels are no tags, or not of this scheme.
    """
    name = detect_scheme(classes) if scheme is None else scheme_name(scheme)
    if name is None:
        raise ValueError("labels follow no scheme of tags such as B-X, I-X and O: say which transitions are forbidden")
    foreign = next((label for label in classes if not follows_scheme([label], name)), None)
    if foreign is not None:
        raise ValueError(
            f"the label {foreign!r} is none of the scheme {name}, whose tags are "
            f"{', '.join(f'{prefix}-X' for prefix in _PREFIXES[name])} and O"
        )
    tags = [tag for tag in map(parse_tag, classes) if tag]
    roles, types = [role_of(prefix) for prefix, _ in tags], [type_ if prefix != "O" else None for prefix, type_ in tags]
    # What lies outside a sequence is as O.
    role = np.array([*roles, "O"])
    number = {type_: index for index, type_ in enumerate(dict.fromkeys([*types, None]))}
    type_of = np.array([number[type_] for type_ in (*types, None)])
    forbidden = ~_allowed(name, role, type_of)
    n = len(classes)
    table = np.concatenate([forbidden[:, :n], forbidden[np.newaxis, :n, n]])
    if (table[:n].diagonal() | table[n] | table[n + 1]).all():
        table[n:] = False
    return table


def _allowed(scheme: str, role: npt.NDArray[np.str_], type_of: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """(labels, labels) whether one label may follow the other."""
    same = type_of[:, np.newaxis] == type_of
    before = {prefix: (role == prefix)[:, np.newaxis] for prefix in "BIES"}
    after = {prefix: role == prefix for prefix in "BIES"}
    goes_on = (before["B"] | before["I"]) & same
    continues = (after["I"] | after["E"]) & same
    if scheme == "IOB1":
        return np.asarray(~after["B"] | goes_on)
    if scheme == "IOB2":
        return np.asarray(~after["I"] | goes_on)
    if scheme == "IOE1":
        return np.asarray(~before["E"] | continues)
    if scheme == "IOE2":
        return np.asarray(~before["I"] | continues)
    if scheme == "IO":
        return np.ones(same.shape, bool)
    opened, continued = before["B"] | before["I"], after["I"] | after["E"]
    return np.asarray((opened == continued) & (same | ~opened))


def count_transitions(labels: npt.ArrayLike, offsets: npt.ArrayLike, n_labels: int) -> npt.NDArray[np.int64]:
    """(n_labels + 2, n_labels) how often each transition occurs, in the form of `forbidden_transitions`.

    Args:
        labels: (steps,) integers from -1, which is unlabelled, to n_labels - 1. What comes before or after an
            unlabelled step is no transition.
        offsets: (n_sequences + 1,) where sequences begin and end, as in `Ragged`.
    """
    before, after, _ = _transitions(np.asarray(labels), as_offsets(offsets, len(np.asarray(labels))), n_labels)
    counts = np.bincount(before * n_labels + after, minlength=(n_labels + 2) * n_labels)
    return counts.reshape(n_labels + 2, n_labels)


def find_transitions(
    labels: npt.ArrayLike, offsets: npt.ArrayLike, chosen: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """The steps at which one of the chosen transitions happens, in order: those of the label that follows; of the end
    of a sequence, the last step.

    Args:
        labels, offsets: see `count_transitions`.
        chosen: (labels + 2, labels), in the form of `forbidden_transitions`.
    """
    values = np.asarray(labels)
    before, after, steps = _transitions(values, as_offsets(offsets, len(values)), chosen.shape[1])
    return np.sort(steps[chosen[before, after]])


def _transitions(
    labels: npt.NDArray[np.integer], bounds: npt.NDArray[np.int64], n_labels: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The row and the column of each transition, and its step."""
    bounds = bounds[np.append(True, np.diff(bounds) > 0)]  # sequences without steps have no transitions
    firsts, lasts = bounds[:-1], bounds[1:] - 1
    within = np.ones(len(labels), bool)
    within[firsts] = False
    seconds = np.flatnonzero(within)
    n = np.int64(n_labels)
    before = np.concatenate([labels[seconds - 1], np.full(len(firsts), n), np.full(len(lasts), n + 1)]).astype(np.int64)
    after = np.concatenate([labels[seconds], labels[firsts], labels[lasts]]).astype(np.int64)
    steps = np.concatenate([seconds, firsts, lasts])
    known = (before >= 0) & (after >= 0)
    return before[known], after[known], steps[known]
