"""Schemes of tags: what they allow, by enumeration; spans and scores as seqeval counts them, by its rules."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilstm.metrics import detect_scheme, find_spans, forbidden_transitions
from bilstm.metrics.schemes import SCHEMES, count_transitions, find_transitions
from bilstm.metrics.tags import (
    accuracy_score,
    classification_report,
    f1_score,
    get_entities,
    precision_score,
    recall_score,
)
from bilstm.ragged import offsets_of

Span = tuple[str, int, int]
PREFIXES = {
    "IO": "I",
    "IOB1": "BI",
    "IOB2": "BI",
    "IOE1": "IE",
    "IOE2": "IE",
    "IOBES": "BIES",
    "BILOU": "BILU",
    "BMES": "BMES",
}


def tags_of(scheme: str) -> list[str]:
    return [f"{prefix}-{type_}" for prefix in PREFIXES[scheme] for type_ in "XY"] + ["O"]


def encoded(spans: list[Span], length: int, scheme: str) -> list[str]:
    """The tags that mark spans, which are in order."""
    tags = ["O"] * length
    for (type_, first, last), before, after in zip(spans, [None, *spans], [*spans[1:], None], strict=False):
        follows = before is not None and before[0] == type_ and before[2] == first - 1
        leads = after is not None and after[0] == type_ and after[1] == last + 1
        marks = ["I"] * (last - first + 1)
        if scheme == "IOB2" or (scheme == "IOB1" and follows):
            marks[0] = "B"
        if scheme == "IOE2" or (scheme == "IOE1" and leads):
            marks[-1] = "E"
        if scheme in ("IOBES", "BILOU", "BMES"):
            marks[0], marks[-1] = "B", "E"
            marks = ["S"] if len(marks) == 1 else marks
            named = {"BILOU": {"E": "L", "S": "U"}, "BMES": {"I": "M"}}.get(scheme, {})
            marks = [named.get(mark, mark) for mark in marks]
        tags[first : last + 1] = [f"{mark}-{type_}" for mark in marks]
    return tags


def all_spans(length: int, start: int = 0) -> Iterator[list[Span]]:
    """All ways to mark spans of two types."""
    yield []
    for first, last in itertools.combinations_with_replacement(range(start, length), 2):
        for type_ in "XY":
            for more in all_spans(length, last + 1):
                yield [(type_, first, last), *more]


def forbidden_in(tags: list[str], classes: list[str], table: Any) -> bool:
    codes = np.array([classes.index(tag) for tag in tags])
    return len(find_transitions(codes, [0, len(codes)], table)) > 0


@pytest.mark.fast
@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_allowed_is_what_encodes_spans(scheme: str) -> None:
    """Of all sequences of tags, exactly those of the scheme have no forbidden transition."""
    classes = tags_of(scheme)
    table = forbidden_transitions(classes, scheme)
    for length in (1, 2, 3, 4) if len(classes) < 9 else (1, 2, 3):
        valid = {tuple(encoded(spans, length, scheme)) for spans in all_spans(length)}
        allowed = {
            tags for tags in itertools.product(classes, repeat=length) if not forbidden_in(list(tags), classes, table)
        }
        assert allowed == valid
    assert detect_scheme(classes) == {"IOB1": "IOB2", "IOE1": "IOE2"}.get(scheme, scheme)


@given(st.data())
@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name != "IO"])
def test_spans_come_back_from_each_scheme(scheme: str, data: st.DataObject) -> None:
    spans: list[Span] = []
    length = 0
    for gap, size, type_ in data.draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from("XY")), max_size=6)
    ):
        spans.append((type_, length + gap, length + gap + size - 1))
        length += gap + size
    tags = encoded(spans, length + 1, scheme)
    assert get_entities(tags) == spans
    classes = tags_of(scheme)
    codes = [classes.index(tag) for tag in tags]
    events, types = find_spans(codes, [0, len(codes)], classes, scheme=scheme)
    strict = zip(events.classes.tolist(), events.onsets.tolist(), events.offsets.tolist(), strict=True)
    if scheme != "IOE1":  # where seqeval leaves out spans of one E
        assert [(types[type_], first, last) for type_, first, last in strict] == spans
    counts = count_transitions(codes, [0, len(codes)], len(classes))
    assert not counts[forbidden_transitions(classes, scheme)].any()
    assert counts[: len(classes)].sum() == len(codes) - 1


@pytest.mark.parametrize(
    ("classes", "scheme"),
    [
        (["O", "I-X"], "IO"),
        (["B-X", "O"], "IOB2"),
        (["B-X", "I-X", "O"], "IOB2"),
        (["I-X", "E-X", "O"], "IOE2"),
        (["B-X", "E-X", "S-X"], "IOBES"),
        (["B-X", "U-X", "O"], "BILOU"),
        (["B", "M", "E", "S"], "BMES"),
        (["B", "I", "O"], "IOB2"),
        (["B", "O"], None),
        (["S-X", "E-X"], None),
        (["B-X", "E-X", "L-X"], None),
        (["B-X", "noun"], None),
        (["P", "QRS", "T"], None),
    ],
)
def test_schemes_are_detected(classes: list[str], scheme: str | None) -> None:
    assert detect_scheme(classes) == scheme


@pytest.mark.parametrize(("scheme", "other"), [("IOB1", "IOB2"), ("IOE1", "IOE2")])
def test_transitions_tell_schemes_with_the_same_tags_apart(scheme: str, other: str) -> None:
    classes = tags_of(scheme)
    for name in (scheme, other):
        tags = encoded([("X", 0, 1), ("X", 2, 4), ("Y", 6, 6), ("X", 7, 8), ("X", 10, 11)], 12, name)
        counts = count_transitions([classes.index(tag) for tag in tags], [0, 12], len(classes))
        assert detect_scheme(classes, counts) == name


def test_unlabelled_steps_have_no_transitions() -> None:
    counts = count_transitions([-1, 0, 1, -1, 1, 1], [0, 3, 3, 6], 2)
    assert counts.tolist() == [[0, 1], [0, 1], [0, 0], [0, 2]]
    assert count_transitions([], [0], 2).sum() == 0


def test_any_number_of_steps_has_labels() -> None:
    """Where no label can begin and end a sequence alone, beginnings and ends are free."""
    for classes in (["B-X", "I-X", "E-X"], ["B-X", "I-X", "E-X", "B-Y", "E-Y"]):
        assert not forbidden_transitions(classes, "IOBES")[len(classes) :].any()
    assert forbidden_transitions(["B-X", "I-X", "E-X", "S-X"])[4:].tolist() == [
        [False, True, True, False],
        [True, True, False, False],
    ]


def test_names_of_schemes() -> None:
    classes = ["B-X", "I-X", "O"]
    assert forbidden_transitions(classes, "bio").tolist() == forbidden_transitions(classes, "IOB2").tolist()
    with pytest.raises(ValueError, match="scheme must be one of 'IO', .* not 'XYZ'"):
        forbidden_transitions(classes, "xyz")
    with pytest.raises(ValueError, match=r"the label 'B-X' is none of the scheme IOE2, whose tags are I-X, E-X and O"):
        forbidden_transitions(classes, "IOE2")
    with pytest.raises(ValueError, match="labels follow no scheme of tags"):
        forbidden_transitions(["noun", "verb"])


# --- seqeval's rules, as they stand there ----------------------------------------------------------------------------


def default_rules(tags: list[str]) -> list[Span]:
    """Where a chunk starts and where it ends: two tables of prefixes, and a change of type."""
    ends = {*("EE", "EI", "EO", "EB", "ES", "SE", "SI", "SO", "SB", "SS"), *("BB", "BS", "BO", "IB", "IS", "IO")}
    starts = {*("EE", "EI", "SE", "SI", "OE", "OI")}
    spans, first = [], 0
    for step, (before, tag) in enumerate(itertools.pairwise(["O", *tags, "O"])):
        changes = before[2:] != tag[2:]
        if before[0] + tag[0] in ends or (before != "O" and changes):
            spans.append((before[2:], first, step - 1))
        if tag[0] in "BS" or before[0] + tag[0] in starts or (tag != "O" and changes):
            first = step
    return spans


ANY, SAME, OTHER = "any", "same", "other"
# The prefix before, the prefix, and whether types must be the same: where spans start, continue and end.
RULES: dict[str, tuple[list[tuple[str, str, str]], ...]] = {
    "IOB1": (
        [("O", "I", ANY), ("I", "I", OTHER), ("B", "I", ANY), ("I", "B", SAME), ("B", "B", SAME)],
        [("B", "I", SAME), ("I", "I", SAME)],
        [("I", "I", OTHER), ("I", "OB", ANY), ("B", "O", ANY), ("B", "I", OTHER), ("B", "B", SAME)],
    ),
    "IOE1": (
        [("O", "I", ANY), ("I", "I", OTHER), ("E", "I", ANY), ("E", "E", SAME)],
        [("I", "IE", SAME)],
        [("I", "I", OTHER), ("I", "O", ANY), ("I", "E", OTHER), ("E", "IE", SAME)],
    ),
    "IOB2": (
        [("IOBES", "B", ANY)],
        [("BI", "I", SAME)],
        [("BI", "OB", ANY), ("BI", "I", OTHER)],
    ),
    "IOE2": (
        [("O", "IE", ANY), ("E", "IE", ANY), ("I", "IE", OTHER)],
        [("I", "IE", SAME)],
        [("E", "IOBES", ANY)],
    ),
    "IOBES": (
        [("IOBES", "BS", ANY)],
        [("BI", "IE", SAME)],
        [("SE", "IOBES", ANY)],
    ),
}


def strict_rules(tags: list[str], scheme: str) -> list[Span]:
    start, inside, end = RULES[scheme]

    def fits(rules: list[tuple[str, str, str]], before: str, tag: str) -> bool:
        same = before[2:] == tag[2:]
        return any(
            before[0] in first and tag[0] in second and (types == ANY or (types == SAME) == same)
            for first, second, types in rules
        )

    padded, spans, step = ["O", *tags, "O"], [], 1
    while step < len(padded):
        if not fits(start, padded[step - 1], padded[step]):
            step += 1
            continue
        stop = step + 1
        while fits(inside, padded[stop - 1], padded[stop]):
            stop += 1
        if fits(end, padded[stop - 1], padded[stop]):
            spans.append((padded[step][2:], step - 1, stop - 2))
        step = stop
    return spans


@given(st.lists(st.sampled_from([*(f"{prefix}-{type_}" for prefix in "BIES" for type_ in "XY"), "O"]), max_size=12))
def test_spans_are_those_of_seqeval(tags: list[str]) -> None:
    assert get_entities(tags) == default_rules(tags)


def test_names_of_other_schemes_mean_the_same() -> None:
    tags = ["B-X", "I-X", "E-X", "S-X", "I-X", "I-X", "E-Y", "E-Y", "O", "S-Y"]
    for names in ({"E": "L", "S": "U"}, {"I": "M"}):
        renamed = [names.get(tag[0], tag[0]) + tag[1:] for tag in tags]
        assert get_entities(renamed) == get_entities(tags) == default_rules(tags)


@pytest.mark.parametrize("scheme", RULES)
@given(st.data())
def test_strict_spans_are_those_of_seqeval(scheme: str, data: st.DataObject) -> None:
    classes = tags_of(scheme)
    sentences = data.draw(st.lists(st.lists(st.sampled_from(classes), max_size=10), max_size=3))
    codes = np.array([classes.index(tag) for tags in sentences for tag in tags], int)
    events, types = find_spans(codes, offsets_of(list(map(len, sentences))), classes, scheme=scheme)
    found: list[list[Span]] = [[] for _ in sentences]
    for sequence, type_, first, last in zip(
        *(each.tolist() for each in (events.sequences, events.classes, events.onsets, events.offsets)), strict=True
    ):
        found[sequence].append((types[type_], first, last))
    assert found == [strict_rules(tags, scheme) for tags in sentences]


SENTENCES = st.lists(st.lists(st.sampled_from(tags_of("IOBES")), min_size=1, max_size=8), min_size=1, max_size=4)
BOTH = SENTENCES.flatmap(
    lambda true: st.tuples(
        st.just(true),
        st.tuples(*(st.lists(st.sampled_from(tags_of("IOBES")), min_size=len(s), max_size=len(s)) for s in true)).map(
            list
        ),
    )
)


@pytest.mark.parametrize("strict", [False, True])
@given(BOTH)
def test_scores(strict: bool, both: Any) -> None:
    def of(tags: list[str]) -> list[Span]:
        return strict_rules(tags, "IOBES") if strict else default_rules(tags)

    options: dict[str, Any] = {"mode": "strict", "scheme": "IOBES"} if strict else {}
    true, guess = ({(i, *span) for i, tags in enumerate(side) for span in of(tags)} for side in both)
    right = true & guess

    def ratio(part: float, whole: float) -> float:
        return part / whole if whole else 0.0

    assert precision_score(*both, **options) == pytest.approx(ratio(len(right), len(guess)))
    assert recall_score(*both, **options) == pytest.approx(ratio(len(right), len(true)))
    f1 = ratio(2 * len(right), len(true) + len(guess))
    assert f1_score(*both, **options) == pytest.approx(f1)
    types = sorted({span[1] for span in true | guess})
    by_type = []
    for type_ in types:
        there, found, both_ = (sum(span[1] == type_ for span in spans) for spans in (true, guess, right))
        by_type.append((ratio(2 * both_, there + found), there))
    assert f1_score(*both, average=None, **options) == pytest.approx([score for score, _ in by_type])
    mean = ratio(sum(score for score, _ in by_type), len(types))
    weighted = ratio(sum(score * there for score, there in by_type), len(true))
    assert f1_score(*both, average="macro", **options) == pytest.approx(mean)
    assert f1_score(*both, average="weighted", **options) == pytest.approx(weighted)
    report = classification_report(*both, output_dict=True, **options)
    assert list(report) == [*types, "micro avg", "macro avg", "weighted avg"]
    assert report["micro avg"]["f1-score"] == pytest.approx(f1)
    assert report["macro avg"]["f1-score"] == pytest.approx(mean)
    assert report["weighted avg"] == {
        "precision": pytest.approx(precision_score(*both, average="weighted", **options)),
        "recall": pytest.approx(recall_score(*both, average="weighted", **options)),
        "f1-score": pytest.approx(weighted),
        "support": len(true),
    }
    right_tags = [a == b for one, other in zip(*both, strict=True) for a, b in zip(one, other, strict=True)]
    assert accuracy_score(*both) == pytest.approx(np.mean(right_tags))


def test_the_report_as_text() -> None:
    true = [["O", "O", "B-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    guess = [["O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    assert classification_report(true, guess).splitlines() == [
        "              precision    recall  f1-score   support",
        "",
        "        MISC       0.00      0.00      0.00         1",
        "         PER       1.00      1.00      1.00         1",
        "",
        "   micro avg       0.50      0.50      0.50         2",
        "   macro avg       0.50      0.50      0.50         2",
        "weighted avg       0.50      0.50      0.50         2",
    ]
    assert "1.000 " in classification_report(true, guess, digits=3)
    assert get_entities(true) == [("MISC", 2, 3), ("PER", 6, 7)]
    assert get_entities(["B", "I", "O"]) == [("_", 0, 1)]
    assert f1_score([["O"]], [["O"]]) == 0
    assert f1_score([], []) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: f1_score([["O"]], []), "y_true has 1 sequences, but y_pred 0"),
        (lambda: f1_score([["O"]], [["O", "O"]]), "sequence 0 has 1 true tags, but 2 predicted ones"),
        (lambda: f1_score(["O"], ["O"]), "tags are lists of lists: a list of tags for each sequence"),
        (lambda: f1_score([["N"]], [["O"]]), "labels of spans have the form B-X, .* not 'N'"),
        (lambda: f1_score([["O"]], [["O"]], average="mean"), "average must be one of"),
        (lambda: f1_score([["O"]], [["O"]], mode="lax"), "mode must be one of None, 'strict', not 'lax'"),
        (lambda: f1_score([["O"]], [["O"]], scheme="IOB2"), "scheme says which spans are complete, which counts with"),
        (lambda: f1_score([["O"]], [["O"]], mode="strict"), "the true tags follow no scheme: name it"),
        (lambda: f1_score([["B-X"]], [["E-X"]], mode="strict"), "the label 'E-X' is none of the scheme IOB2"),
        (lambda: accuracy_score([[]], [[]]), "there are no tags to score"),
    ],
)
def test_what_cannot_be_scored(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
