"""Scores of spans for lists of tag lists, under the names that seqeval's users know.

`from bilstm.metrics.tags import classification_report, f1_score` replaces `from seqeval.metrics import …`. Spans are
counted as there: by `conlleval`'s meaning, or with `mode="strict"` only where the scheme spells them out in full. The
tags of all schemes in `bilstm.metrics.schemes` are known, those of BILOU and BMES in both modes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.arguments import check_choice
from bilstm.metrics.counts import Counts
from bilstm.metrics.schemes import detect_scheme
from bilstm.metrics.spans import find_spans
from bilstm.ragged import offsets_of

Tags = Sequence[Sequence[str]]
_AVERAGES = ("micro", "macro", "weighted", None)


def precision_score(
    y_true: Tags, y_pred: Tags, *, average: str | None = "micro", mode: str | None = None, scheme: str | None = None
) -> Any:
    """The share of predicted spans that are right; 0 where none is predicted.

    Args:
        y_true, y_pred: for each sequence its tags, such as ["B-PER", "I-PER", "O"].
        average: "micro": of all spans together; "macro": the mean over types; "weighted": the mean over types, each
            weighted by its number of true spans; None: a list with the score of each type, in sorted order.
        mode: None, or "strict".
        scheme: in strict mode, the scheme of the tags, such as "IOB2"; None: that of the true tags.

    Raises:
        ValueError: an argument is not one of the above, or sequences have different lengths.
    """
    return _score("precision", y_true, y_pred, average, mode, scheme)


def recall_score(
    y_true: Tags, y_pred: Tags, *, average: str | None = "micro", mode: str | None = None, scheme: str | None = None
) -> Any:
    """The share of true spans that are found; 0 where there is none. The arguments are those of `precision_score`."""
    return _score("recall", y_true, y_pred, average, mode, scheme)


def f1_score(
    y_true: Tags, y_pred: Tags, *, average: str | None = "micro", mode: str | None = None, scheme: str | None = None
) -> Any:
    """The harmonic mean of precision and recall of spans. The arguments are those of `precision_score`."""
    return _score("f1", y_true, y_pred, average, mode, scheme)


def accuracy_score(y_true: Tags, y_pred: Tags) -> float:
    """The share of tags that are right.

    Raises:
        ValueError: there is no tag, or sequences have different lengths.
    """
    _check_lengths(y_true, y_pred)
    right = [a == b for true, guess in zip(y_true, y_pred, strict=True) for a, b in zip(true, guess, strict=True)]
    if not right:
        raise ValueError("there are no tags to score")
    return sum(right) / len(right)


def classification_report(
    y_true: Tags,
    y_pred: Tags,
    *,
    digits: int = 2,
    output_dict: bool = False,
    mode: str | None = None,
    scheme: str | None = None,
) -> Any:
    """Precision, recall, F1 and number of spans by type, and their averages.

    Args:
        y_true, y_pred, mode, scheme: see `precision_score`.
        digits: after the point.
        output_dict: whether to return a dictionary by type and average rather than a text.

    Raises:
        ValueError: an argument is impossible, or sequences have different lengths.
    """
    counts, types = _counts(y_true, y_pred, mode, scheme)
    overall, support = counts.overall(), int(counts.true.sum())
    rows = {
        type_: (scores["precision"], scores["recall"], scores["f1"], scores["support"])
        for type_, scores in zip(types, counts.per_class(), strict=True)
    }
    rows["micro avg"] = (float(overall.precision), float(overall.recall), float(overall.f1), support)
    by_type = counts.precision, counts.recall, counts.f1
    for name, mean in (("macro avg", counts.macro), ("weighted avg", counts.weighted)):
        rows[name] = (*(float(mean(scores)) for scores in by_type), support)  # type: ignore[assignment]
    names = ("precision", "recall", "f1-score", "support")
    if output_dict:
        return {name: dict(zip(names, row, strict=True)) for name, row in rows.items()}
    width = max(map(len, rows))
    lines = [" " * width + " " + "".join(f" {name:>9}" for name in names), ""]
    for name, (*scores, number) in rows.items():
        if name == "micro avg":
            lines.append("")
        lines.append(f"{name:>{width}} " + "".join(f" {score:>9.{digits}f}" for score in scores) + f" {number:>9}")
    return "\n".join([*lines, ""])


def get_entities(tags: Sequence[Any]) -> list[tuple[str, int, int]]:
    """The spans of a list of tags, or of a list of such lists, of which each counts as one tag more than it has.

    Returns:
        The type, the first and the last index of each; the type is "_" for tags without one.
    """
    nested = any(not isinstance(tag, str) for tag in tags)
    flat = [tag for sequence in tags for tag in (*sequence, "O")] if nested else list(tags)
    events, types = _events(*number_tags([flat]))
    spans = zip(events.classes.tolist(), events.onsets.tolist(), events.offsets.tolist(), strict=True)
    return [(types[type_] or "_", first, last) for type_, first, last in spans]


def _score(name: str, y_true: Tags, y_pred: Tags, average: str | None, mode: str | None, scheme: str | None) -> Any:
    check_choice(f"{name}_score", "average", average, _AVERAGES)
    counts, _ = _counts(y_true, y_pred, mode, scheme)
    if average == "micro":
        return float(getattr(counts.overall(), name))
    scores = getattr(counts, name)
    if average is None:
        return scores.tolist()
    return float(counts.macro(scores) if average == "macro" else counts.weighted(scores))


def _counts(y_true: Tags, y_pred: Tags, mode: str | None, scheme: str | None) -> tuple[Counts, list[str]]:
    """The counts of spans by type, of the types that are true or predicted somewhere."""
    check_choice("spans", "mode", mode, (None, "strict"))
    if scheme is not None and mode is None:
        raise ValueError("scheme says which spans are complete, which counts with mode='strict' only")
    _check_lengths(y_true, y_pred)
    codes, offsets, classes = number_tags([*y_true, *y_pred])
    if mode == "strict" and scheme is None:
        scheme = detect_scheme(sorted({tag for tags in y_true for tag in tags}))
        if scheme is None:
            raise ValueError("the true tags follow no scheme: name it, such as scheme='IOB2'")
    events, types = _events(codes, offsets, classes, scheme)
    begins = offsets[events.sequences] + events.onsets
    rows = np.stack([begins, events.offsets, events.classes], axis=1)
    middle = int(offsets[len(y_true)])  # where the predicted tags begin, which are as many as the true ones
    cut = int(np.searchsorted(begins, middle))
    true, guess = rows[:cut], rows[cut:]
    # No two spans of a side begin at one step: those of the other that begin there are the only ones to compare.
    nearest = np.minimum(np.searchsorted(guess[:, 0], true[:, 0] + middle), max(0, len(guess) - 1))
    shifted = true + np.array([middle, 0, 0])
    same = (guess[nearest] == shifted).all(axis=1) if len(guess) else np.zeros(len(true), bool)
    counts = [np.bincount(each[:, 2], minlength=len(types)) for each in (true[same], true, guess)]
    there = (counts[1] + counts[2]) > 0
    names = [type_ or "_" for type_, used in zip(types, there.tolist(), strict=True) if used]
    return Counts(*(count[there] for count in counts)), names


def _check_lengths(y_true: Tags, y_pred: Tags) -> None:
    if len(y_true) != len(y_pred):
        raise ValueError(f"y_true has {len(y_true):,} sequences, but y_pred {len(y_pred):,}")
    for index, (true, guess) in enumerate(zip(y_true, y_pred, strict=True)):
        if isinstance(true, str) or isinstance(guess, str):
            raise ValueError("tags are lists of lists: a list of tags for each sequence")
        if len(true) != len(guess):
            raise ValueError(f"sequence {index} has {len(true):,} true tags, but {len(guess):,} predicted ones")


def number_tags(sequences: Tags) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], list[str]]:
    """(steps,) the numbers of the tags, where sequences begin and end, and the different tags."""
    numbers = _Numbers()
    offsets = offsets_of([len(tags) for tags in sequences])
    flat = itertools.chain.from_iterable(sequences)
    codes = np.fromiter(map(numbers.__getitem__, flat), np.int64, int(offsets[-1]))
    return codes, offsets, list(numbers)


class _Numbers(dict[Any, int]):
    """Gives each new key the next number."""

    def __missing__(self, key: Any) -> int:
        self[key] = number = len(self)
        return number


def _events(
    codes: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64], classes: list[str], scheme: str | None = None
) -> Any:
    return find_spans(codes, offsets, classes or ["O"], scheme=scheme)
