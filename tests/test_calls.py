"""How much goes into one call of the engine: bounded, whatever the data, and without a trace in the results."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilstm.engine.network import Network
from bilstm.layers import LSTM, Dense
from bilstm.models import Sequential, calls, fitting
from bilstm.models.calls import CALL_SECONDS, Pace, chunks, steps_to_predict
from bilstm.models.fitting import FitData
from bilstm.ragged import Ragged
from oracles.models import Case, bits, cases


@given(st.lists(st.integers(0, 10**7), max_size=200), st.integers(0, 10**9))
def test_pieces_hold_every_sequence_once_and_no_more_steps_than_allowed(lengths: list[int], weights: int) -> None:
    found = list(chunks(np.array(lengths, np.int64), weights))
    assert [i for piece in found for i in range(piece.start, piece.stop)] == list(range(len(lengths)))
    for piece in found:
        few = piece.stop - piece.start <= 32
        assert few or sum(lengths[piece]) <= steps_to_predict(weights)
    for first, second in pairwise(found):
        assert first.stop - first.start >= 32
        assert sum(lengths[first]) + lengths[second.start] > steps_to_predict(weights)


@given(st.integers(0, 10**9), st.floats(1e-8, 10), st.lists(st.integers(1, 99), min_size=1, max_size=50))
def test_the_pace_settles_at_the_time_a_call_should_take(weights: int, second: float, lengths: list[int]) -> None:
    """A step takes `second`; every epoch's batches have these lengths."""
    ends = np.cumsum(lengths * 20)
    pace, done = Pace(ends, weights), 0
    while done < len(ends):
        end = pace.next(done)
        assert done < end <= len(ends)
        steps = sum((lengths * 20)[done:end])
        if done:
            assert end == done + 1 or steps * second <= CALL_SECONDS * (1 + 1e-9)
        pace.note(done, end, steps * second)
        assert pace.steps == 1 or pace.steps * second <= CALL_SECONDS * (1 + 1e-9)
        assert pace.steps >= min(8 * steps, int(CALL_SECONDS / second * (1 - 1e-9)))
        done = end


@pytest.mark.parametrize("first", [1, 100_000_000])
@pytest.mark.parametrize("seconds_a_step", [0.0, 0.001, 0.01, 1.0])
def test_calls_of_fit_are_short(first: int, seconds_a_step: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a step takes so long, each call but the first takes a tenth of a second, or is a single batch."""
    monkeypatch.setattr(calls, "_TRAINING", first)
    now, steps_of_calls = [0.0], []
    monkeypatch.setattr(fitting.time, "perf_counter", lambda: now[0])
    random = np.random.default_rng(1)
    x = [random.random((steps, 1), np.float32) for steps in random.integers(1, 40, 300)]
    y = [(sequence > 0.5).astype(int) for sequence in x]

    class Slow(Sequential):
        def train_batches(self, training: FitData, chosen: Any, starts: Any) -> Any:
            steps = [int(training.data.lengths[chosen[a:b]].sum()) for a, b in pairwise(starts)]
            now[0] += seconds_a_step * sum(steps)
            steps_of_calls.append(steps)
            return super().train_batches(training, chosen, starts)

    model = Slow([LSTM(2, return_sequences=True, input_shape=(None, 1)), Dense(1, "sigmoid")], seed=1)
    model.compile(loss="binary_crossentropy")
    model.fit(x, y, batch_size=3, verbose=0)
    assert sum(map(len, steps_of_calls)) == 100
    for steps in steps_of_calls[1:]:
        assert len(steps) == 1 or sum(steps) * seconds_a_step <= CALL_SECONDS
    if seconds_a_step <= 0.001:
        assert len(steps_of_calls) < 100  # and not shorter than needed
    if first > 1:
        assert len(steps_of_calls[0]) == 100  # so few steps of so small a model take no time


@given(cases(most=70, longest=3, crf=True))
@settings(max_examples=20)
def test_pieces_leave_no_trace(case: Case) -> None:
    model = case.model()
    rows, scores = model.predict_rows(case.data), model.evaluate(case.data, case.y)
    counts = []
    predict = Network.predict

    def count(network: Network, data: Ragged, **options: Any) -> Any:
        counts.append(len(data))
        return predict(network, data, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calls, "_PREDICTION", 0)
        patch.setattr(Network, "predict", count)
        divided, again = model.predict_rows(case.data), model.evaluate(case.data, case.y)
    assert counts == [min(32, len(case.data) - start) for start in range(0, len(case.data), 32)]
    assert bits(divided) == bits(rows)
    assert again == pytest.approx(scores, rel=1e-12)
