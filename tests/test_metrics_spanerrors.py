"""What is wrong with predicted spans: by the definition, one span after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilstm.metrics import span_report
from bilstm.metrics.events import Events
from bilstm.metrics.spanerrors import OUTCOMES, OUTCOMES_OF_PREDICTED, SpanErrors, compare_spans
from bilstm.ragged import offsets_of

pytestmark = pytest.mark.fast

Span = tuple[int, int, int, int]  # sequence, type, first and last step
TYPES = ["LOC", "ORG", "PER"]


def events(spans: list[Span]) -> Events:
    columns = np.array(spans, np.int64).reshape(-1, 4).T
    return Events(columns[0], columns[1], columns[2], columns[3])


@st.composite
def spans(draw: st.DrawFn) -> list[Span]:
    """Spans of three sequences that do not overlap."""
    found = []
    for sequence in range(3):
        step = 0
        for gap, size, type_ in draw(
            st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(0, 2)), max_size=4)
        ):
            found.append((sequence, type_, step + gap, step + gap + size - 1))
            step += gap + size
    return found


def likeness(one: Span, other: Span) -> tuple[bool, bool, int]:
    return one[2:] == other[2:], one[1] == other[1], min(one[3], other[3]) - max(one[2], other[2])


def by_definition(own: list[Span], others: list[Span]) -> tuple[list[str], list[int]]:
    outcomes, partners = [], []
    for span in own:
        near = [i for i, other in enumerate(others) if other[0] == span[0] and likeness(span, other)[2] >= 0]
        if not near:
            outcomes.append("missed")
            partners.append(-1)
            continue
        best = max(near, key=lambda i: (likeness(span, others[i]), -i))
        same_ends, same_type, _ = likeness(span, others[best])
        outcomes.append({(1, 1): "right", (1, 0): "type", (0, 1): "boundary", (0, 0): "both"}[same_ends, same_type])
        partners.append(best)
    return outcomes, partners


@given(spans(), spans())
def test_outcomes_are_those_of_the_definition(true: list[Span], predicted: list[Span]) -> None:
    for own, others in ((true, predicted), (predicted, true)):
        outcomes, partners = compare_spans(events(own), events(others))
        expected = by_definition(own, others)
        assert [OUTCOMES[outcome] for outcome in outcomes] == expected[0]
        assert partners.tolist() == expected[1]


@given(spans(), spans())
def test_counts(true: list[Span], predicted: list[Span]) -> None:
    """However the sequences are divided into batches."""
    whole, parts = SpanErrors(TYPES), SpanErrors(TYPES)
    whole.add(events(true), events(predicted))
    for sequence in range(3):
        parts.add(*(events([span for span in side if span[0] == sequence]) for side in (true, predicted)))
    report = whole.report()
    assert parts.report() == report
    outcomes, partners = by_definition(true, predicted)
    for number, name in enumerate(TYPES):
        own = [outcome for outcome, span in zip(outcomes, true, strict=True) if span[1] == number]
        assert report["true"][name] == {outcome: own.count(outcome) for outcome in OUTCOMES}
        of_predicted = by_definition(predicted, true)[0]
        own = [outcome for outcome, span in zip(of_predicted, predicted, strict=True) if span[1] == number]
        assert list(report["predicted"][name].values()) == [own.count(outcome) for outcome in OUTCOMES]
        assert tuple(report["predicted"][name]) == OUTCOMES_OF_PREDICTED
        pairs = [
            TYPES[predicted[partner][1]]
            for partner, span in zip(partners, true, strict=True)
            if span[1] == number and partner >= 0
        ]
        assert report["confusion"][name] == {other: pairs.count(other) for other in TYPES if other in pairs}
    right = sum(counts["right"] for counts in report["true"].values())
    assert right == sum(counts["right"] for counts in report["predicted"].values()) == len({*true} & {*predicted})


def encoded(tags: list[str], classes: list[str]) -> Any:
    return [classes.index(tag) for tag in tags], offsets_of([len(tags)])


def test_an_example() -> None:
    classes = ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    true = ["B-PER", "I-PER", "O", "B-LOC", "O", "B-PER", "I-PER", "O", "B-LOC", "O", "B-PER", "O"]
    true += ["B-LOC", "I-LOC", "O"]
    guess = ["B-PER", "I-PER", "O", "B-PER", "O", "B-PER", "O", "O", "O", "O", "B-LOC", "I-LOC"]
    guess += ["O", "B-PER", "I-PER"]
    labels, offsets = encoded(true, classes)
    errors = span_report(labels, encoded(guess, classes)[0], offsets, classes)["errors"]
    assert errors == {
        "true": {
            "LOC": {"right": 0, "type": 1, "boundary": 0, "both": 1, "missed": 1},
            "PER": {"right": 1, "type": 0, "boundary": 1, "both": 1, "missed": 0},
        },
        "predicted": {
            "LOC": {"right": 0, "type": 0, "boundary": 0, "both": 1, "invented": 0},
            "PER": {"right": 1, "type": 1, "boundary": 1, "both": 1, "invented": 0},
        },
        "confusion": {"LOC": {"PER": 2}, "PER": {"LOC": 1, "PER": 2}},
    }
