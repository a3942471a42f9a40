"""Laws of windows and of blocks of time: what is trained on, what is left out, and that nothing else changes."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bilstm.data.sources import open_table
from bilstm.engine.plans import Targets
from bilstm.errors import UserError
from bilstm.layers import LSTM, Bidirectional, Dense, Dropout
from bilstm.model.columns import ColumnOptions
from bilstm.model.prepare import Prepared, prepare
from bilstm.models import Sequential
from bilstm.models.fitting import FitData
from bilstm.ragged import Ragged, offsets_of
from bilstm.splitting import Division, divide_time
from bilstm.training.loop import LoopOptions, train_model
from bilstm.training.windows import LONGEST, WindowSource, find_windows, windows_for
from oracles.models import weight_bits

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=6)


@st.composite
def windows_and_strides(draw: st.DrawFn, most: int = 20) -> tuple[int, int]:
    window = draw(st.integers(1, most))
    return window, draw(st.integers(1, window))


# --- Windows ---------------------------------------------------------------------------------------------------------


@given(LENGTHS, windows_and_strides())
def test_windows_cover_each_sequence_and_stay_in_it(lengths: list[int], size: tuple[int, int]) -> None:
    window, stride = size
    offsets = offsets_of(lengths)
    starts, stops = find_windows(offsets, window, stride)
    covered = np.concatenate([np.arange(*bounds) for bounds in zip(starts, stops, strict=True)])
    assert set(covered.tolist()) == set(range(offsets[-1]))
    sequence = np.searchsorted(offsets, starts, "right") - 1
    assert (stops <= offsets[sequence + 1]).all()
    assert (stops - starts == np.minimum(window, np.diff(offsets)[sequence])).all()
    within = np.diff(sequence) == 0
    assert (np.diff(starts)[within] <= stride).all()
    assert (np.diff(starts)[within] > 0).all()
    last = np.append(~within, True)
    assert (np.diff(starts)[~(last[1:]) & within[: len(last) - 1]] == stride).all()
    assert (stops[last] == offsets[1:]).all()


@given(LENGTHS, windows_and_strides())
def test_as_python_would_find_them(lengths: list[int], size: tuple[int, int]) -> None:
    window, stride = size
    expected, begin = [], 0
    for length in lengths:
        starts = [*range(0, max(length - window, 0), stride), max(length - window, 0)]
        expected += [(begin + start, begin + min(start + window, length)) for start in dict.fromkeys(starts)]
        begin += length
    found = find_windows(offsets_of(lengths), window, stride)
    assert list(zip(*(each.tolist() for each in found), strict=True)) == expected


@given(LENGTHS, windows_and_strides())
def test_how_many_there_are_is_known_before(lengths: list[int], size: tuple[int, int]) -> None:
    found = windows_for(offsets_of(lengths), *size)
    starts, stops = found.draw(np.random.default_rng(0))
    assert found.count == len(starts)
    assert found.steps == (stops - starts).sum()
    assert windows_for(offsets_of(lengths), size[0]).count == windows_for(offsets_of(lengths), size[0], size[0]).count


def recording(lengths: list[int], seed: int = 0) -> FitData:
    random = np.random.default_rng(seed)
    steps = sum(lengths)
    labels = random.integers(-1, 3, size=steps).astype(np.int32)
    weights = random.uniform(0.5, 2, steps).astype(np.float32)
    values = Ragged(random.normal(size=(steps, 2)), offsets_of(lengths))
    return FitData.all_of(values, Targets(labels=labels, weights=weights))


def by_hand(data: FitData, window: int, stride: int) -> FitData:
    """The windows as sequences of their own, copied."""
    starts, stops = find_windows(data.data.offsets, window, stride)
    steps = np.concatenate([np.arange(*bounds) for bounds in zip(starts, stops, strict=True)])
    return FitData.all_of(Ragged(data.data.values[steps], offsets_of(stops - starts)), data.targets.take(steps))


def trained(data: FitData, validation: FitData | None, **options: Any) -> tuple[str, dict[str, Any]]:
    layers = [Bidirectional(LSTM(3, return_sequences=True), input_shape=(None, 2)), Dropout(0.3)]
    network = Sequential([*layers, Dense(3, activation="softmax")], seed=2)
    network.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    record = train_model(network, data, validation, LoopOptions(**{"epochs": 2, "seed": 5} | options))
    return weight_bits(network), record


@settings(max_examples=25, deadline=None)
@given(LENGTHS, windows_and_strides(), st.sampled_from([None, 1, 3]), st.booleans())
def test_the_same_bits_as_windows_that_are_sequences(
    lengths: list[int], size: tuple[int, int], batch_size: int | None, validated: bool
) -> None:
    data, (window, stride) = recording(lengths), size
    validation = recording([7, 9], seed=1) if validated else None
    how: dict[str, Any] = {"batch_size": batch_size}
    bits, record = trained(data, validation, window=window, stride=stride, **how)
    copies = by_hand(data, window, stride)
    expected, other = trained(copies, validation, **how)
    assert bits == expected
    assert trained(copies, validation, window=window, **how)[0] == expected  # a sequence as long as a window is one
    assert record["history"] == other["history"]
    assert record["batch_size"] == other["batch_size"]
    assert record["windows"] == other["sequences"]
    assert record["steps"] == sum(lengths)
    assert "windows" not in other


@given(LENGTHS, windows_and_strides(), st.integers(0, 9))
def test_a_batch_copies_its_own_windows_only(lengths: list[int], size: tuple[int, int], seed: int) -> None:
    data, copies = recording(lengths), by_hand(recording(lengths), *size)
    source = WindowSource(data.data, data.targets, find_windows(data.data.offsets, *size))
    chosen = np.random.default_rng(seed).permutation(len(source.lengths))[:3]
    batch = source.batch(chosen)
    values, targets = batch.data[batch.chosen], batch.targets.take(_steps(batch, batch.chosen))
    expected, other = copies.data[chosen], copies.targets.take(_steps(copies, chosen))
    assert np.array_equal(values.values, expected.values)
    assert np.array_equal(values.offsets, expected.offsets)
    assert np.array_equal(targets.labels, other.labels)  # type: ignore[arg-type]
    assert np.array_equal(targets.weights, other.weights)  # type: ignore[arg-type]
    if np.array_equal(source.lengths, data.data.lengths):
        assert batch.data.values is data.data.values


def _steps(data: FitData, chosen: Any) -> Any:
    return np.concatenate([np.arange(data.data.offsets[i], data.data.offsets[i + 1]) for i in chosen])


@pytest.mark.parametrize("window", [LONGEST, LONGEST + 1, LONGEST * 2])
def test_windows_are_not_cut_further(window: int) -> None:
    data = recording([LONGEST * 3])
    _, record = trained(data, None, window=window, epochs=1)
    assert record["windows"] == -(-3 * LONGEST // window)


def test_windows_are_refused_where_a_sequence_has_one_row() -> None:
    network = Sequential([LSTM(3, input_shape=(None, 2)), Dense(3, activation="softmax")], seed=2)
    network.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    data = FitData.all_of(recording([5, 6]).data, Targets(labels=np.array([0, 1], np.int32)))
    with pytest.raises(ValueError, match="windows are for a network that returns a row for each step"):
        train_model(network, data, None, LoopOptions(epochs=1, window=2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window must be"),
        ({"window": -3}, "window must be"),
        ({"window": 2.5}, "window must be"),
        ({"window": 5, "stride": 0}, "stride must be"),
        ({"window": 5, "stride": 6}, "stride must be at most window, which is 5, not 6"),
        ({"stride": 5}, "stride is the distance of windows, and has no effect without window"),
    ],
)
def test_impossible_windows(options: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        LoopOptions(**options)


# --- Blocks of time --------------------------------------------------------------------------------------------------


def sets_of(division: Division, steps: int) -> np.ndarray:
    """(steps,) 0 for training, 1 for validation, 2 for testing, -1 for none."""
    found = np.full(steps, -1)
    for number, part in enumerate(division.parts):
        for start, stop in zip(division.starts[part], division.stops[part], strict=True):
            assert (found[start:stop] == -1).all()
            found[start:stop] = number
    return found


SHARES = st.sampled_from([(0.1, 0.0), (0.0, 0.3), (0.1, 0.2), (0.5, 0.0), (0.3, 0.6)])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=4),
    SHARES,
    st.integers(1, 30),
    st.integers(0, 99),
    st.floats(0.1, 1),
)
def test_no_two_sets_are_nearer_than_the_gap(
    lengths: list[int], shares: tuple[float, float], gap: int, seed: int, density: float
) -> None:
    offsets, steps = offsets_of(lengths), sum(lengths)
    labelled = np.random.default_rng(seed).random(steps) < density
    division = divide_time(labelled, offsets, shares, gap, seed=seed)
    found = sets_of(division, steps)
    assert division.blocks
    assert division.gap_steps == (found == -1).sum()
    assert (division.starts < division.stops).all()
    assert (np.searchsorted(offsets, division.starts, "right") - 1 == division.sequences).all()
    assert (division.stops <= offsets[division.sequences + 1]).all()
    for start, stop in itertools.pairwise(offsets):
        own = found[start:stop]
        for one, other in ((0, 1), (0, 2), (1, 2)):
            first, second = np.flatnonzero(own == one), np.flatnonzero(own == other)
            if len(first) and len(second):
                assert np.abs(first[:, np.newaxis] - second).min() > gap
        for part in division.parts:  # blocks of one set are apart as well: those that touch are one
            here = division.starts[part], division.stops[part]
            assert not set(here[0].tolist()) & set(here[1].tolist()) - set(offsets.tolist())
    for number, part in enumerate(division.parts[1:]):
        assert shares[number] or part.start == part.stop
    again = divide_time(labelled, offsets, shares, gap, seed=seed)
    assert np.array_equal(sets_of(again, steps), found)


@pytest.mark.parametrize(("steps", "gap"), [(100_000, 500), (100_000, 50), (3_000, 20)])
@pytest.mark.parametrize("shares", [(0.1, 0.0), (0.1, 0.2), (0.2, 0.0)])
def test_a_share_of_the_time_is_set_aside(steps: int, gap: int, shares: tuple[float, float]) -> None:
    """And the gaps cost no more than that."""
    everywhere = np.ones(steps, bool)
    found = {}
    for seed in range(5):
        division = divide_time(everywhere, offsets_of([steps]), shares, gap, seed=seed)
        found[seed] = sets_of(division, steps)
        aside = (found[seed] > 0).sum()
        assert 0.8 * sum(shares) * steps <= aside <= 1.05 * sum(shares) * steps
        assert division.gap_steps <= 1.1 * sum(shares) * steps
        assert (found[seed] == 0).mean() > 0.35
    assert any(not np.array_equal(found[0], found[seed]) for seed in range(1, 5))


# --- From a table ----------------------------------------------------------------------------------------------------


def long_table(lengths: list[int], labelled: float = 1.0, seed: int = 0) -> dict[str, list[Any]]:
    """Numbers that count rows, so that a row is known by its value."""
    random = np.random.default_rng(seed)
    labels = [str(label) if random.random() < labelled else None for label in random.integers(2, size=sum(lengths))]
    ids = [str(i) for i, length in enumerate(lengths) for _ in range(length)]
    return {"id": ids, "x": list(range(sum(lengths))), "y": labels}


def prepared(lengths: list[int], sequence: str | None, **options: Any) -> Prepared:
    import pandas

    frame = pandas.DataFrame(long_table(lengths))
    drop = () if sequence else ("id",)
    columns = ColumnOptions(sequence, ("y",), drop=drop, standardize=False, task="step-label")
    return prepare(open_table(frame, sequence=sequence), columns, **options)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(30, 300), min_size=1, max_size=4),
    windows_and_strides(),
    st.booleans(),
    st.sampled_from([(None, 0.0), (0.2, 0.0), (0.1, 0.2)]),
    st.integers(0, 9),
)
def test_no_window_is_near_to_what_is_set_aside(
    lengths: list[int], size: tuple[int, int], named: bool, shares: tuple[float | None, float], seed: int
) -> None:
    (window, stride), (validation, test) = size, shares
    options = {"validation_split": validation, "test_split": test, "window": window, "seed": seed}
    try:
        found = prepared(lengths, "id" if named else None, **options)
    except UserError:  # too short, see test_recordings_that_are_too_short
        assume(False)
    assert found.training.blocks
    starts, stops = find_windows(found.training.values.offsets, window, stride)
    rows = found.training.rows
    offsets = offsets_of(lengths if named else [sum(lengths)])
    sequence = np.searchsorted(offsets, np.arange(offsets[-1]), "right") - 1
    others = [each.rows for each in (found.validation, found.test) if each is not None]
    assert len(others) == 1 + bool(test)
    for start, stop in zip(starts, stops, strict=True):
        own = rows[start:stop]
        assert (np.diff(own) == 1).all()
        assert len(set(sequence[own])) == 1
        for other in others:
            same = other[sequence[other] == sequence[own[0]]]
            assert not len(same) or np.abs(own[:, np.newaxis] - same).min() > window
    covered = {row for start, stop in zip(starts, stops, strict=True) for row in rows[start:stop].tolist()}
    assert covered == set(rows.tolist())
    taken = sum(len(each) for each in (rows, *others))
    assert taken + found.gap_steps == offsets[-1]
    for data in (found.training, found.validation, found.test):
        if data is not None:
            assert np.array_equal(data.values.values[:, 0], data.rows)  # the encoded values are those of its rows
            assert found.task.labelled(data.known).any()
            expected = [int(label) for label in np.array(long_table(lengths)["y"])[data.rows]]
            assert data.known.tolist() == expected


@pytest.mark.parametrize("lengths", [[100], [60, 30, 45]])
def test_a_validation_table_leaves_all_for_windows(lengths: list[int]) -> None:
    other = open_table({"id": ["z"] * 9, "x": list(range(9)), "y": list("010101010")}, sequence="id")
    found = prepared(lengths, "id", valid=other, window=20)
    assert len(found.training.rows) == sum(lengths)
    assert not found.training.blocks
    assert found.validation is not None
    assert len(found.validation) == 1
    assert found.gap_steps == 0


def test_whole_sequences_are_set_aside_where_there_are_enough() -> None:
    """A share of a tenth needs ten of them; groups always stay whole."""
    for count, blocks in ((9, True), (10, False)):
        found = prepared([50] * count, "id", window=5)
        assert found.training.blocks == blocks
        assert found.validation is not None
    assert prepared([50] * 9, "id", window=5, validation_split=0.2).training.blocks is False
    import pandas

    frame = pandas.DataFrame(long_table([50] * 4))
    columns = ColumnOptions("id", ("y",), group="id", task="step-label", features=["x"])
    found = prepare(open_table(frame, sequence="id"), columns, window=5)
    assert not found.training.blocks
    assert found.validation is not None
    assert len(found.validation) == 1
    assert found.validation.values.lengths.tolist() == [50]


def test_without_a_validation_set_all_is_trained_on() -> None:
    found = prepared([50], None, window=5, validation_split=0.0)
    assert found.validation is None
    assert found.training.values.lengths.tolist() == [50]
    assert dataclasses.astuple(found.schema)[:2] == (None, None)
    assert found.schema.one_sequence
