"""From spans of characters to tags of tokens."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilstm.data.documents import Document, Span, Tagger, TokenColumns, row_of
from bilstm.errors import UserError
from bilstm.metrics.schemes import SCHEMES
from bilstm.metrics.tags import get_entities

pytestmark = pytest.mark.fast


@st.composite
def documents(draw: st.DrawFn) -> tuple[Document, list[tuple[str, int, int]]]:
    """A text, and spans of whole tokens with their labels, first and last tokens."""
    words = draw(st.lists(st.sampled_from(["a", "bc", "é́", "👍🏽", "."]), min_size=1, max_size=12))
    text, bounds = "", []
    for word in words:
        text += draw(st.sampled_from([" ", "  ", "\t"]))
        bounds.append((len(text), len(text) + len(word)))
        text += word
    spans, true, first = [], [], 0
    while first < len(words):
        last = min(len(words) - 1, first + draw(st.integers(0, 2)))
        if draw(st.booleans()):
            label = draw(st.sampled_from(["X", "Y"]))
            blanks = draw(st.integers(0, 1))  # a span may begin or end in a gap
            spans.append(Span(bounds[first][0] - blanks, bounds[last][1], label))
            true.append((label, first, last))
        first = last + 1
    return Document("here", text, draw(st.permutations(spans)), bounds), true


@settings(max_examples=100)
@given(documents(), st.sampled_from(SCHEMES))
def test_tags_mark_the_spans(case: tuple[Document, list[tuple[str, int, int]]], scheme: str) -> None:
    document, true = case
    tagger = Tagger(scheme, "error", "words")
    tags = tagger.tags(document, tagger.bounds(document))
    assert tags is not None
    assert tagger.misfits == 0
    if scheme == "IO":  # cannot tell adjacent spans apart
        merged: list[tuple[str, int, int]] = []
        for label, first, last in true:
            if merged and merged[-1][0] == label and merged[-1][2] == first - 1:
                merged[-1] = label, merged[-1][1], last
            else:
                merged.append((label, first, last))
        true = merged
    assert get_entities(tags) == true


def tagged(text: str, *spans: Span, scheme: str = "IOB2", misaligned: str = "error", rule: str = "words") -> list[str]:
    tagger = Tagger(scheme, misaligned, rule)
    document = Document("a.jsonl, line 3", text, list(spans))
    tags = tagger.tags(document, tagger.bounds(document))
    if problem := tagger.problem():
        raise UserError(problem)
    assert tags is not None
    return [str(tag) for tag in tags]


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("IOB2", "B-X I-X I-X B-X O"),
        ("IOBES", "B-X I-X E-X S-X O"),
        ("BILOU", "B-X I-X L-X U-X O"),
        ("BMES", "B-X M-X E-X S-X O"),
        ("IOB1", "I-X I-X I-X B-X O"),
        ("IOE1", "I-X I-X E-X I-X O"),
        ("IOE2", "I-X I-X E-X E-X O"),
        ("IO", "I-X I-X I-X I-X O"),
    ],
)
def test_schemes(scheme: str, expected: str) -> None:
    assert tagged("a b c d e", Span(0, 5, "X"), Span(6, 7, "X"), scheme=scheme) == expected.split()


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([Span(0, 4, "D")], r"a.jsonl, line 3: the span 'aspi' ('D', 0 to 4) ends within the token 'aspirin'. Correct"),
        ([Span(2, 12, "D")], r"begins within the token 'aspirin'"),
        ([Span(0, 7, "D"), Span(0, 12, "E")], r"the span 'aspirin, two' ('E', 0 to 12) overlaps 'aspirin' ('D')"),
        ([Span(9, 99, "D")], r"(\'D\', 9 to 99) lies outside the text, which has 13 characters"),
        ([Span(-1, 2, "D")], r"lies outside the text"),
        ([Span(3, 3, "D")], r"lies outside the text"),
        ([Span(8, 9, "D")], r"the span ' ' ('D', 8 to 9) covers no token"),
        ([Span(0, 7, "D", "ibuprof")], r"is 'aspirin' by its offsets, but 'ibuprof' by its text"),
    ],
)
def test_wrong_spans_are_named(spans: list[Span], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message.replace("\\'", "'"))):
        tagged("aspirin, two.", *spans)


def test_misaligned_spans_are_counted_widened_or_skipped() -> None:
    text, spans = "aspirin helps often", [Span(0, 4, "D"), Span(15, 19, "E"), Span(8, 10, "D")]
    with pytest.raises(UserError, match=r"ends within .*; 2 other spans also do not fall on token borders. Correct"):
        tagged(text, *spans)
    assert tagged(text, *spans, misaligned="widen") == ["B-D", "B-D", "B-E"]
    assert tagged(text, *spans, misaligned="skip") == ["None", "None", "None"]
    assert tagged("ab c", Span(0, 1, "D"), Span(3, 4, "D"), misaligned="skip") == ["None", "B-D"]
    assert tagged("ab", Span(0, 1, "D"), rule="characters") == ["B-D", "O"]


def test_offsets_in_utf_16_units_are_recognised_by_the_text_of_spans() -> None:
    """Label Studio once counted emoji as two: issue 1347 there."""
    text = "💩This is an annotation."
    assert tagged(text, Span(13, 23, "A", "annotation"))[4] == "B-A"
    assert tagged(text, Span(12, 22, "A", "annotation"))[4] == "B-A"
    assert tagged("a\nb", Span(0, 3, "A", "a\\nb")) == ["B-A", "I-A"]


def test_a_row_has_lists_and_what_else_there_is() -> None:
    document = Document("here", "a b", [Span(0, 1, "X")], others={"id": 7, "Text": "no", "start": 1})
    row = row_of(document, Tagger("IOB2", "error", "words"), TokenColumns())
    assert row == {"text": "a b", "token": ["a", "b"], "start": [0, 2], "end": [1, 3], "label": ["B-X", "O"], "id": 7}
    other = row_of(Document("here", "a", None), Tagger("IOB2", "error", "words"), TokenColumns("text", "start"))
    assert other == {"document_text": "a", "text": ["a"], "document_start": [0], "end": [1]}
