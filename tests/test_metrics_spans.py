"""Spans of B, I and O labels, as conlleval counts them: its rule written out, and cases."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilstm.metrics import find_spans, is_bio, span_report

CLASSES = ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"]
SENTENCES = st.lists(st.lists(st.sampled_from(CLASSES), max_size=12), max_size=5)
BOTH = SENTENCES.flatmap(
    lambda true: st.tuples(
        st.just(true),
        st.tuples(*(st.lists(st.sampled_from(CLASSES), min_size=len(s), max_size=len(s)) for s in true)),
    )
)


def encoded(sentences: Any) -> tuple[np.ndarray, np.ndarray]:
    """(labels, offsets); "" is an unlabelled step."""
    labels = [CLASSES.index(label) if label else -1 for sentence in sentences for label in sentence]
    return np.array(labels, int), np.cumsum([0, *map(len, sentences)])


def conlleval(labels: list[str]) -> list[tuple[str, int, int]]:
    """(type, first, last) of the spans, by the script's two rules: where a chunk starts and where it ends."""
    spans, start = [], None
    tags = [(label[0], label[2:]) for label in ["O", *labels, "O"]]
    for step, ((before, type_before), (tag, type_)) in enumerate(itertools.pairwise(tags)):
        ends = before in "BI" and (tag in "BO" or type_ != type_before)
        starts = tag == "B" or (tag == "I" and (before == "O" or type_ != type_before))
        if ends:
            assert start is not None
            spans.append((type_before, start, step - 1))
        if starts:
            start = step
    return spans


@given(SENTENCES)
def test_spans_are_those_of_conlleval(sentences: list[list[str]]) -> None:
    labels, offsets = encoded(sentences)
    spans, types = find_spans(labels, offsets, CLASSES)
    assert types == ["LOC", "PER"]
    found: list[list[tuple[str, int, int]]] = [[] for _ in sentences]
    for sequence, type_, first, last in zip(spans.sequences, spans.classes, spans.onsets, spans.offsets, strict=True):
        found[sequence].append((types[type_], int(first), int(last)))
    assert found == [conlleval(sentence) for sentence in sentences]


@given(BOTH)
def test_a_span_is_right_as_a_whole_or_not(both: Any) -> None:
    (labels, offsets), (predicted, _) = (encoded(side) for side in both)
    report = span_report(labels, predicted, offsets, CLASSES)
    true, guessed = ({(i, *span) for i, s in enumerate(side) for span in conlleval(s)} for side in both)
    right = true & guessed
    assert report["precision"] == pytest.approx(len(right) / max(len(guessed), 1))
    assert report["recall"] == pytest.approx(len(right) / max(len(true), 1))
    assert report["f1"] == pytest.approx(2 * len(right) / max(len(true) + len(guessed), 1))
    for type_ in ("LOC", "PER"):
        there, found, both_ = (sum(span[1] == type_ for span in spans) for spans in (true, guessed, right))
        assert report["per_class"][type_] == {
            "precision": pytest.approx(both_ / max(found, 1)),
            "recall": pytest.approx(both_ / max(there, 1)),
            "f1": pytest.approx(2 * both_ / max(there + found, 1)),
            "support": there,
            "f1_interval": report["per_class"][type_]["f1_interval"],
        }
    if sum(map(bool, both[0])) < 3:
        assert report["intervals"] is None
    else:
        low, high = report["intervals"]["f1"]
        assert 0 <= low <= high <= 1


@given(BOTH, st.randoms(use_true_random=False))
def test_unlabelled_steps_are_left_out(both: Any, random: Any) -> None:
    """As if they had not been there: pieces of words are no steps of their own."""
    (labels, offsets), (predicted, _) = (encoded(side) for side in both)
    expected = span_report(labels, predicted, offsets, CLASSES)
    true: list[list[str]] = []
    guess: list[list[str]] = []
    for sentence, answer in zip(*both, strict=True):
        more = [random.randint(0, 2) for _ in sentence]
        true.append([each for label, n in zip(sentence, more, strict=True) for each in [label, *[""] * n]])
        guess.append([each for label, n in zip(answer, more, strict=True) for each in [label, *["B-LOC"] * n]])
    (labels, offsets), (predicted, _) = (encoded(side) for side in (true, guess))
    assert span_report(labels, predicted, offsets, CLASSES) == expected


@pytest.mark.parametrize(
    ("classes", "spans"),
    [
        (["O", "B-PER", "I-PER"], True),
        (["B-PER", "B-LOC"], True),
        (["I-a-b", "O"], True),
        (["O", "B", "I"], True),
        (["B", "I"], True),
        (["B", "O"], False),  # may mean anything
        (["I", "O"], False),
        (["O"], False),
        (["O", "B-PER", "X"], False),
        (["O", "B-PER", "E-PER"], True),
        (["O", "B-PER", "I-PER", "L-PER", "U-PER"], True),
        (["B", "M", "E", "S"], True),
        (["B", "E", "S"], False),
        (["S-Bahn", "E-mail"], False),
        (["O", "B-PER", "E-PER", "L-PER"], False),
        (["O", "B-"], False),
        (["o", "b-per"], False),
        (["0", "1"], False),
    ],
)
def test_what_labels_mark_spans(classes: list[str], spans: bool) -> None:
    assert is_bio(classes) is spans


def test_types() -> None:
    spans, types = find_spans([1, 2, 0, 3, 1, 2], [0, 6], ["O", "B-a-b", "I-a-b", "I-\n"])
    assert types == ["\n", "a-b"]
    assert (spans.classes.tolist(), spans.onsets.tolist(), spans.offsets.tolist()) == ([1, 0, 1], [0, 3, 4], [1, 3, 5])
    spans, types = find_spans([1, 2, 0, 2, 1, 1], [0, 6], ["O", "B", "I"])
    assert types == [""]
    assert (spans.onsets.tolist(), spans.offsets.tolist()) == ([0, 3, 4, 5], [1, 3, 4, 5])


def test_intervals_of_spans() -> None:
    labels = np.tile([1, 3, 4, 0, 4], 200)
    predicted = np.where(np.random.default_rng(0).random(1000) < 0.1, 4, labels)
    report = span_report(labels, predicted, np.arange(0, 1001, 5), CLASSES)
    for name, (low, high) in report["intervals"].items():
        assert 0.02 < high - low < 0.1
        assert low < report[name] < high


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ([0], ["X-PER"], "labels of spans have the form B-X, I-X, O, or E, S, L, U or M as prefix, not 'X-PER'"),
        ([1], ["O"], "classes must be integers from 0 to 0, or -1 where a step is unlabelled"),
        ([[0]], ["O"], "labels and predictions have one shape (steps,), not (1, 1) and (1, 1)"),
    ],
)
def test_what_are_no_spans(labels: Any, classes: list[str], message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        find_spans(labels, [0, 1], classes)
