"""Tags in other schemes: the same spans, and the same tags again on the way back; labels with unlabelled steps."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilstm.metrics import convert_tags, find_spans, forbidden_transitions
from bilstm.metrics.conversion import convert_labels, tag_names
from bilstm.metrics.schemes import SCHEMES, find_transitions
from bilstm.metrics.tags import get_entities
from bilstm.ragged import offsets_of

pytestmark = pytest.mark.fast

ANY_TAG = st.sampled_from(["O", *(f"{prefix}-{type_}" for prefix in "BIELUSM" for type_ in "XY"), "B", "I"])
SENTENCES = st.lists(st.lists(ANY_TAG, max_size=9), max_size=4)
EXACT = [scheme for scheme in SCHEMES if scheme != "IO"]


def follows(tags: list[list[str]], scheme: str) -> bool:
    """Whether tags follow a scheme, by the transitions that it forbids."""
    types = {tag.partition("-")[2] for sequence in tags for tag in sequence} | {"X"}
    classes = tag_names(types, scheme)
    codes = np.array([classes.index(tag) for sequence in tags for tag in sequence], np.int64)
    offsets = offsets_of([len(sequence) for sequence in tags])
    return not len(find_transitions(codes, offsets, forbidden_transitions(classes, scheme)))


@given(SENTENCES, st.sampled_from(EXACT))
def test_the_spans_are_the_same(tags: list[list[str]], scheme: str) -> None:
    """Whatever the tags are: what conlleval counts is marked in full."""
    converted = convert_tags(tags, scheme)
    assert [get_entities(sequence) for sequence in converted] == [get_entities(sequence) for sequence in tags]
    assert follows(converted, scheme)
    if any(converted):
        assert convert_tags(converted, scheme, scheme=scheme) == converted


@given(SENTENCES, st.sampled_from(EXACT), st.sampled_from(EXACT))
def test_tags_come_back_from_each_scheme(tags: list[list[str]], one: str, other: str) -> None:
    there = convert_tags(tags, one)
    assert convert_tags(convert_tags(there, other, scheme=one), one, scheme=other) == there


@given(SENTENCES)
def test_io_keeps_all_but_what_separates_spans(tags: list[list[str]]) -> None:
    converted = convert_tags(tags, "IO")
    kinds = [[(tag != "O", tag.partition("-")[2]) for tag in sequence] for sequence in tags]
    assert [[(tag != "O", tag.partition("-")[2]) for tag in sequence] for sequence in converted] == kinds
    assert convert_tags(converted, "IO", scheme="IO") == converted


@given(SENTENCES, st.sampled_from(SCHEMES))
def test_labels_that_are_all_known_convert_as_tags(tags: list[list[str]], scheme: str) -> None:
    classes = sorted({tag for sequence in tags for tag in sequence} | {"O"})
    codes = [classes.index(tag) for sequence in tags for tag in sequence]
    converted, names = convert_labels(codes, offsets_of([len(sequence) for sequence in tags]), classes, scheme)
    assert [names[code] for code in converted] == [tag for sequence in convert_tags(tags, scheme) for tag in sequence]


@pytest.mark.parametrize("source", EXACT)
@pytest.mark.parametrize("target", EXACT)
def test_what_an_unlabelled_step_hides_is_unlabelled(source: str, target: str) -> None:
    """By enumeration: a tag is known exactly where it is the same whatever the unlabelled steps are."""
    classes = tag_names("X", source)
    table = forbidden_transitions(classes, source)
    for length in (1, 2, 3):
        every = [
            np.array(codes)
            for codes in itertools.product(range(len(classes)), repeat=length)
            if not len(find_transitions(codes, [0, length], table))
        ]
        converted = [convert_labels(codes, [0, length], classes, target)[0] for codes in every]
        for hidden in itertools.product([False, True], repeat=length):
            for codes in every:
                known = np.where(hidden, -1, codes)
                found = convert_labels(known, [0, length], classes, target, scheme=source)[0]
                fitting = [
                    there
                    for here, there in zip(every, converted, strict=True)
                    if (here == codes)[~np.array(hidden)].all()
                ]
                for step in range(length):
                    possible = {int(there[step]) for there in fitting}
                    if hidden[step]:
                        assert found[step] == -1
                    elif found[step] >= 0:
                        assert possible == {found[step]}
                    # Neighbours of neighbours may settle it; only the neighbours are asked.
                    elif len(possible) == 1:
                        assert any(hidden[max(0, step - 1) : step + 2])


def test_schemes_have_other_names() -> None:
    tags = [["B-X", "I-X", "O", "B-X"]]
    assert convert_tags(tags, "bioes") == convert_tags(tags, "IOBES") == [["B-X", "E-X", "O", "S-X"]]
    assert convert_tags([["B", "I", "O"], ["B"]], "BMES", scheme="BIO") == [["B", "E", "O"], ["S"]]
    assert convert_tags([], "BILOU") == []
    assert convert_tags([[], []], "BILOU") == [[], []]
    assert tag_names(["X", ""], "BILOU", outside=False) == sorted(["B-X", "I-X", "L-X", "U-X", "B", "I", "L", "U"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tags": [["O"], ["O", "noun"]], "to": "BIO"}, "sequence 1, step 1: 'noun' is no tag: tags have the form B-X"),
        ({"tags": [["O", 3]], "to": "BIO"}, "sequence 0, step 1: 3 is no tag"),
        ({"tags": ["O"], "to": "BIO"}, "tags are lists of lists"),
        ({"tags": [["O"]], "to": "XYZ"}, "scheme must be one of 'IO', .* not 'XYZ'"),
        ({"tags": [], "to": "XYZ"}, "scheme must be one of 'IO', .* not 'XYZ'"),
        ({"tags": [["O"], ["O", "I-X"]], "to": "IOBES", "scheme": "BIO"}, "sequence 1, step 1: 'I-X' after 'O' breaks"),
        ({"tags": [["I-X"]], "to": "IOBES", "scheme": "BIO"}, "step 0: 'I-X' at the beginning of a sequence breaks"),
        ({"tags": [["B-X"]], "to": "BIO", "scheme": "IOBES"}, "step 0: 'B-X' at the end of a sequence breaks the sch"),
        ({"tags": [["S-X"]], "to": "IOBES", "scheme": "BIO"}, "the label 'S-X' is none of the scheme IOB2"),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        convert_tags(**arguments)


def test_spans_of_converted_labels() -> None:
    """As arrays: the events of a long random text are the same in every scheme."""
    random = np.random.default_rng(0)
    classes = tag_names("XYZ", "IOB2")
    codes, offsets = random.integers(0, len(classes), 500), np.array([0, 100, 100, 350, 500])
    events, types = find_spans(codes, offsets, classes)
    for scheme in EXACT:
        converted, names = convert_labels(codes, offsets, classes, scheme)
        others, other_types = find_spans(converted, offsets, names)
        assert types == other_types
        for name in ("sequences", "classes", "onsets", "offsets"):
            assert getattr(others, name).tolist() == getattr(events, name).tolist()
