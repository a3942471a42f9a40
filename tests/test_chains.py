"""Probabilities of spans: by enumeration of all labels, and by the engine's likelihoods of partial labels."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilstm.layers import CRF, GRU, Bidirectional, Dense, TimeDistributed
from bilstm.metrics import find_spans, forbidden_transitions
from bilstm.metrics.conversion import tag_names
from bilstm.metrics.events import Events
from bilstm.metrics.schemes import SCHEMES
from bilstm.metrics.spans import meaning_of, span_breaks
from bilstm.models import Sequential
from bilstm.models.chains import chain_probabilities, span_probabilities
from bilstm.ragged import Ragged
from oracles.models import bits
from oracles.numpy_crf import Chain as Oracle

pytestmark = pytest.mark.fast

Found = tuple[int, int, int]  # type, first step, last step


def by_enumeration(oracle: Oracle, emissions: Any, classes: list[str]) -> Counter[Found]:
    """The probability of each span, from all sequences of labels."""
    paths, scores = oracle.paths(emissions)
    chances = np.exp(scores - np.logaddexp.reduce(scores))
    events, _ = find_spans(np.ravel(paths), np.arange(len(paths) + 1) * len(emissions), classes)
    found: Counter[Found] = Counter()
    for span, path in zip(listed(events), events.sequences.tolist(), strict=True):
        found[span] += chances[path]
    return found


def all_spans(steps: int, types: int, sequence: int = 0) -> Events:
    every = [(t, a, b) for t in range(types) for a, b in itertools.combinations_with_replacement(range(steps), 2)]
    classes, onsets, offsets = (np.array(column) for column in zip(*every, strict=True))
    return Events(np.full(len(every), sequence), classes, onsets, offsets)


def listed(spans: Events) -> list[Found]:
    return list(zip(spans.classes.tolist(), spans.onsets.tolist(), spans.offsets.tolist(), strict=True))


@given(st.data())
@pytest.mark.parametrize("scheme", [None, *SCHEMES])
def test_spans_by_enumeration(scheme: str | None, data: st.DataObject) -> None:
    """Of tags that follow their scheme, and of any tags together where none is forbidden."""
    classes = ["B-X", "I-X", "E-X", "I-Y", "O"] if scheme is None else tag_names("X", scheme)
    steps, random = data.draw(st.integers(1, 3)), np.random.default_rng(data.draw(st.integers(0, 9)))
    size = 5 * data.draw(st.sampled_from([0.0, 1.0, 20.0]))
    weights = [random.normal(0, size, shape) for shape in ((len(classes),) * 2, (1, len(classes)), (1, len(classes)))]
    forbidden = None if scheme is None else forbidden_transitions(classes, scheme)
    oracle = Oracle.of(weights, forbidden)
    emissions = random.normal(0, size, (steps, len(classes)))
    spans = all_spans(steps, 1 if scheme else 2)
    expected = by_enumeration(oracle, emissions, classes)
    found = probabilities(oracle, emissions, spans, classes)
    assert dict(zip(listed(spans), found, strict=True)) == pytest.approx(
        {span: expected[span] for span in listed(spans)}, abs=1e-9
    )


def probabilities(oracle: Oracle, emissions: Any, spans: Events, classes: list[str]) -> Any:
    roles, kinds, _ = meaning_of(classes)
    breaks = span_breaks(roles[:, None], kinds[:, None], roles, kinds)
    scores = {"transitions": oracle.transitions, "start": oracle.start, "end": oracle.end}
    return chain_probabilities(emissions, np.array([0, len(emissions)]), spans, kinds, breaks, **scores)


def tagger(classes: list[str], crf: bool, scheme: str | None = "IOB2") -> Sequential:
    """A network with random weights, those of the transitions among them."""
    labels, random = len(classes), np.random.default_rng(3)
    forbidden = forbidden_transitions(classes, scheme) if scheme else None
    last = (
        [TimeDistributed(Dense(labels)), CRF(labels, forbidden)] if crf else [TimeDistributed(Dense(labels, "softmax"))]
    )
    model = Sequential([Bidirectional(GRU(3, return_sequences=True)), *last], seed=1)
    model.build((None, 2))
    model.set_weights([random.normal(0, 1, each.shape) for each in model.get_weights()])
    return model


CLASSES = tag_names("XY", "IOB2")


@pytest.fixture(scope="module")
def sequences() -> Ragged:
    random = np.random.default_rng(5)
    return Ragged.from_sequences([random.normal(size=(steps, 2)).astype(np.float32) for steps in (1, 30, 4, 7, 3, 30)])


def every_span(data: Ragged) -> Events:
    parts = [all_spans(int(steps), 2, index) for index, steps in enumerate(data.lengths)]
    fields = ("sequences", "classes", "onsets", "offsets")
    return Events(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_spans_by_the_likelihood_of_partial_labels(precision: str, sequences: Ragged) -> None:
    """In IOB2, a span is B-X, then I-X, then anything but I-X."""
    model, spans = tagger(CLASSES, crf=True), every_span(sequences)
    found = span_probabilities(model, sequences, spans, CLASSES, precision)
    chosen = np.random.default_rng(0).choice(len(spans), 100, replace=False)
    for index in chosen.tolist():
        sequence, first, last = (int(each[index]) for each in (spans.sequences, spans.onsets, spans.offsets))
        type_ = "XY"[spans.classes[index]]
        x = sequences[sequence]
        allowed = np.ones((len(x), len(CLASSES)))
        allowed[first : last + 1] = 0
        allowed[first, CLASSES.index(f"B-{type_}")] = 1
        allowed[first + 1 : last + 1, CLASSES.index(f"I-{type_}")] = 1
        if last + 1 < len(x):
            allowed[last + 1, CLASSES.index(f"I-{type_}")] = 0
        ((likelihood,),) = (np.exp(model.log_likelihoods([x], [allowed], precision=precision)),)
        assert found[index] == pytest.approx(likelihood, rel=1e-5, abs=1e-12)


def test_a_softmax_gives_products(sequences: Ragged) -> None:
    model, spans = tagger(CLASSES, crf=False), every_span(sequences)
    rows = model.predict_rows(sequences).astype(np.float64)
    found = span_probabilities(model, sequences, spans, CLASSES)
    name = {label: code for code, label in enumerate(CLASSES)}
    for index in np.random.default_rng(0).choice(len(spans), 100, replace=False).tolist():
        sequence, first, last = (int(each[index]) for each in (spans.sequences, spans.onsets, spans.offsets))
        type_ = "XY"[spans.classes[index]]
        own = rows[sequences.offsets[sequence] : sequences.offsets[sequence + 1]]
        inside = own[:, name[f"I-{type_}"]]
        continues = own[first - 1, [name[f"B-{type_}"], name[f"I-{type_}"]]].sum() if first else 0
        expected = own[first, name[f"B-{type_}"]] + inside[first] * (1 - continues)
        expected *= np.prod(inside[first + 1 : last + 1])
        expected *= 1 - inside[last + 1] if last + 1 < len(own) else 1
        assert found[index] == pytest.approx(expected, rel=1e-4, abs=1e-12)


@pytest.mark.parametrize("crf", [False, True])
def test_a_sequence_does_not_depend_on_others(crf: bool, sequences: Ragged) -> None:
    model, spans = tagger(CLASSES, crf), every_span(sequences)
    whole = span_probabilities(model, sequences, spans, CLASSES)
    random = np.random.default_rng(1)
    for sequence in range(len(sequences)):
        own = np.flatnonzero(spans.sequences == sequence)
        own = random.permutation(own)
        few = Events(np.zeros(len(own), np.int64), spans.classes[own], spans.onsets[own], spans.offsets[own])
        alone = span_probabilities(model, sequences[sequence : sequence + 1], few, CLASSES)
        assert bits(alone) == bits(whole[own])
    assert span_probabilities(model, sequences, Events(*[np.zeros(0, np.int64)] * 4), CLASSES).shape == (0,)


def test_spans_of_a_step_and_probabilities_add_up(sequences: Ragged) -> None:
    """At each step there is one span or none: those that have it and the probability of O are all."""
    model, spans = tagger(CLASSES, crf=True), every_span(sequences)
    found, marginals = span_probabilities(model, sequences, spans, CLASSES), model.predict_rows(sequences)
    for step in range(0, sequences.total_steps, 7):
        sequence = int(np.searchsorted(sequences.offsets, step, "right")) - 1
        at = step - sequences.offsets[sequence]
        having = (spans.sequences == sequence) & (spans.onsets <= at) & (spans.offsets >= at)
        assert found[having].sum() + marginals[step, CLASSES.index("O")] == pytest.approx(1, abs=1e-5)


def test_what_is_allowed_may_be_far_less_probable_than_what_is_forbidden() -> None:
    classes = ["B-X", "I-X", "O"]
    transitions = np.where(forbidden_transitions(classes)[:3], -np.inf, 0.0)
    emissions = np.array([[-2000.0, -2000, 0], [-4000, 0, -2000], [0, -1000, -3000]])
    spans = Events(*(np.array(each) for each in ([0, 0, 0], [0, 0, 0], [0, 0, 2], [1, 2, 2])))
    oracle = Oracle(transitions, np.array([0, -np.inf, 0]), np.zeros(3))
    expected = by_enumeration(oracle, emissions, classes)
    found = probabilities(oracle, emissions, spans, classes)
    assert found.tolist() == pytest.approx([expected[each] for each in listed(spans)])
    assert found.max() > 0.1


@pytest.mark.parametrize(("steps", "labels"), [(5_000, 5), (40, 401)])
def test_long_sequences_and_many_labels(steps: int, labels: int) -> None:
    classes = tag_names(map(str, range((labels - 1) // 2)), "IOB2")
    random = np.random.default_rng(2)
    oracle = Oracle(random.normal(size=(labels, labels)), np.zeros(labels), np.zeros(labels))
    spans = Events(*(np.array(each) for each in ([0, 0], [0, 1], [0, 3], [0, steps - 1])))
    found = probabilities(oracle, random.normal(size=(steps, labels)), spans, classes)
    assert 0 < found[0] < 1
    assert found[1] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("change", ["set_weights", "fit", "train_on_batch", "predictor"])
def test_probabilities_are_those_of_the_weights_of_now(change: str, sequences: Ragged) -> None:
    """What is kept of a network between calls is forgotten whenever its weights change."""
    model, spans = tagger(CLASSES, crf=True), every_span(sequences)
    model.compile("adam", "crf_likelihood")
    before = span_probabilities(model, sequences, spans, CLASSES)
    labels = [np.zeros(len(each), np.int64) for each in sequences]
    match change:
        case "set_weights":
            model.set_weights([each * 0.5 for each in model.get_weights()])
        case "fit":
            model.fit(list(sequences), labels, epochs=1, verbose=0)
        case "train_on_batch":
            model.train_on_batch(list(sequences), labels)
        case "predictor":  # changes nothing
            model.predict(list(sequences))
    other = tagger(CLASSES, crf=True)
    other.set_weights(model.get_weights())
    now = span_probabilities(model, sequences, spans, CLASSES)
    assert bits(now) == bits(span_probabilities(other, sequences, spans, CLASSES))
    assert (bits(now) == bits(before)) == (change == "predictor")
