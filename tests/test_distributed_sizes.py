"""How long trainings take on several machines: laws of the arithmetic, and what is measured for it."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bilstm.distributed
from bilstm.distributed import Estimate, links, sizes
from bilstm.distributed.links import IDEAL, SEGMENT, Link, fitted, own_link
from bilstm.distributed.summary import amount, duration, summary, verdict
from bilstm.errors import UserError
from bilstm.layers import LSTM, Dense
from bilstm.model.opening import column_options, prepare_data
from bilstm.models import Sequential
from bilstm.models.fitting import FitData
from bilstm.training.loop import LoopOptions, train_model
from bilstm.training.options import TrainingOptions
from bilstm.training.planning import plan_training
from bilstm.training.timing import _completed, _spread, time_steps, useful_workers
from test_distributed_training import recordings, words
from test_fronts import run

SMALL: dict[str, Any] = {"units": 4, "layers": 1, "epochs": 2, "batch_size": 48}

SIZES = st.integers(1, 1 << 30)
WORKERS = st.integers(1, 8)
LINKS = st.builds(Link.of, st.floats(1e-3, 1e3), st.floats(0, 100))


def estimated(steps: dict[int, float], link: Link = IDEAL, **others: Any) -> Estimate:
    """An estimate with as many batches and epochs as are easy to count with."""
    facts: dict[str, Any] = {
        "parameters": 1000,
        "sequences": 640,
        "batch_size": 64,
        "batches": 10,
        "shares": max(steps),
        "epochs": 5,
        "validation": dict.fromkeys(steps, 0.0),
        "prediction": 1e6,
    }
    return Estimate(**facts | others, steps=steps, link=link)


# --- Laws of the network's model --------------------------------------------------------------------------------------


@given(size=SIZES, workers=WORKERS, bandwidths=st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)))
def test_more_bandwidth_is_never_slower(size: int, workers: int, bandwidths: tuple[float, float]) -> None:
    slow, fast = (Link.of(each, 0.1).seconds(size, workers) for each in sorted(bandwidths))
    assert fast <= slow


@given(size=SIZES, workers=WORKERS, latencies=st.tuples(st.floats(0, 100), st.floats(0, 100)))
def test_less_latency_is_never_slower(size: int, workers: int, latencies: tuple[float, float]) -> None:
    fast, slow = (Link.of(10, each).seconds(size, workers) for each in sorted(latencies))
    assert fast <= slow


@given(size=SIZES, workers=WORKERS, link=LINKS)
def test_more_to_exchange_is_never_faster(size: int, workers: int, link: Link) -> None:
    assert link.seconds(size, workers) <= link.seconds(2 * size, workers)
    rounding = 2 * (workers + 1) * link.latency  # parts are whole segments, of which more workers may have fewer
    assert link.seconds(size, workers) <= link.seconds(size, workers + 1) + rounding


@given(size=SIZES, link=LINKS, other=LINKS, workers=WORKERS)
def test_one_worker_and_ideal_links_take_no_time(size: int, link: Link, other: Link, workers: int) -> None:
    assert link.seconds(size, 1) == 0
    assert IDEAL.seconds(size, workers) == 0
    assert link.through(IDEAL) == IDEAL.through(link) == link
    both = link.through(other)
    assert both.seconds(size, workers) >= max(link.seconds(size, workers), other.seconds(size, workers))


def test_exchanges_take_what_gloo_does() -> None:
    """Two workers: in each of two rounds, two segments at a time, each announced before it is sent."""
    trip = Link(latency=1.0)
    assert trip.seconds(8, 2) == 4
    assert trip.seconds(4 * SEGMENT, 2) == 4
    assert trip.seconds(8 * SEGMENT, 2) == 8
    assert trip.seconds(8, 4) == 12
    # 1 MB at 8 Gbit/s takes 1 ms; two workers send half of it twice, eight send seven eighths twice.
    assert Link.of(8, 0).seconds(1_000_000, 2) == pytest.approx(1e-3)
    assert Link.of(8, 0).seconds(1_000_000, 8) == pytest.approx(1.75e-3)


@given(link=LINKS, size=st.integers(1 << 20, 1 << 24))
def test_a_link_is_found_from_its_times(link: Link, size: int) -> None:
    small = Link(link.latency).seconds(360, 2)
    found = fitted(small, link.seconds(size, 2), size)
    assert found.latency == pytest.approx(link.latency)
    assert found.second_per_byte == pytest.approx(link.second_per_byte, rel=1e-3, abs=1e-13)


@pytest.mark.parametrize(("bandwidth", "latency"), [(0, 0.1), (-1, 0.1), (float("nan"), 0.1), (10, -1), (10, np.inf)])
def test_impossible_networks_are_refused(bandwidth: float, latency: float) -> None:
    with pytest.raises(ValueError, match=r"^(bandwidth|latency) must be a number of"):
        Link.of(bandwidth, latency)


def test_gloo_is_measured_here() -> None:
    pytest.importorskip("torch")
    link = own_link(10_000)
    assert link is not None
    assert 0 < link.latency < 1
    assert 0 <= link.second_per_byte < 1e-3


# --- Laws of estimates ------------------------------------------------------------------------------------------------

STEPS = st.lists(st.floats(1e-4, 10), min_size=4, max_size=4).map(
    lambda times: dict(zip((1, 2, 4, 8), sorted(times, reverse=True), strict=True))
)


@given(steps=STEPS, link=LINKS)
def test_one_worker_takes_the_measured_step(steps: dict[int, float], link: Link) -> None:
    found = estimated(steps, link)
    assert (found.step(1), found.exchange(1), found.speedup(1)) == (steps[1], 0, 1)
    assert found.epoch(1) == pytest.approx(10 * steps[1])
    assert found.training(1) == pytest.approx(50 * steps[1])


@given(steps=STEPS, link=LINKS)
def test_without_a_network_steps_are_ideal(steps: dict[int, float], link: Link) -> None:
    ideal, real = estimated(steps), estimated(steps, link)
    for workers in steps:
        assert ideal.step(workers) == steps[workers]
        assert real.step(workers) == steps[workers] + real.exchange(workers)
        assert real.epoch(workers) >= ideal.epoch(workers)


@given(steps=STEPS, link=LINKS)
def test_each_doubling_up_to_the_recommended_number_pays(steps: dict[int, float], link: Link) -> None:
    found = estimated(steps, link)
    counts = [each for each in sorted(steps) if each <= found.recommended]
    for fewer, more in itertools.pairwise(counts):
        assert found.epoch(fewer) / found.epoch(more) >= sizes.PAYS
    if found.recommended < 8:
        assert found.epoch(found.recommended) / found.epoch(2 * found.recommended) < sizes.PAYS


def test_reading_and_validation_count() -> None:
    found = estimated({1: 1.0, 2: 0.5}, validation={1: 2.0, 2: 1.0}, reading=7.0)
    assert (found.epoch(1), found.epoch(2)) == (12, 6)
    assert (found.training(1), found.training(2)) == (67, 37)


# --- Words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "link", "words"),
    [
        ({1: 1.0}, IDEAL, r"^One machine is enough\. More would have nothing to do: a batch of 64 has 1 share,"),
        ({1: 1.0, 2: 0.5}, IDEAL, r"^2 machines are worth it: 2\.0 times as fast as one\. More would have nothing"),
        ({1: 1.0, 2: 0.5, 4: 0.25, 8: 0.125}, IDEAL, r"^8 machines are worth it: 8\.0 times as fast as one\.$"),
        ({1: 1.0, 2: 0.5, 4: 0.4, 8: 0.4}, IDEAL, r"^2 machines are .* as one\. 4 would be 2\.50 times as fast"),
        ({1: 1.0, 2: 0.5}, Link(1.0), r"^One machine is enough\. 2 would be 0\.12 times as fast as one\.$"),
    ],
)
def test_the_verdict(steps: dict[int, float], link: Link, words: str) -> None:
    assert re.match(words, verdict(estimated(steps, link)))


def test_the_summary_has_a_line_for_each_number_of_machines() -> None:
    link = Link.of(1, 0.5)
    found = estimated({1: 1.0, 2: 0.5, 3: 0.35}, link, parameters=1_000_000, prediction=2e6, threads=4)
    lines = summary(found, link)
    assert lines[0] == "network: 1,000,000 weights; workers exchange 8.0 MB of gradients in each training step"
    assert lines[2].startswith("between machines: 1 Gbit/s, 0.5 ms; what gloo itself takes was not measured")
    rows = [line.split() for line in lines[5:8]]
    assert [row[0] for row in rows] == ["1", "2", "3"]
    assert [row[-1] for row in rows] == ["2,000,000", "4,000,000", "6,000,000"]
    assert summary(found, Link.of(np.inf, 0.5))[2].startswith("between machines: unlimited bandwidth, 0.5 ms;")
    measured = dataclasses.replace(found, link=link.through(Link(1e-4, 1e-8)), measured_link=True)
    assert summary(measured, link)[2].endswith("; gloo itself takes 100 µs for each message here, at most 0.8 Gbit/s")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0"), (2e-7, "0.20 µs"), (0.0123, "12.3 ms"), (0.99996, "1.00 s"), (90, "1.50 min"), (1e6, "11.6 days")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("size", "text"), [(800, "0.8 kB"), (69136, "69 kB"), (1.2e6, "1.2 MB"), (47e9, "47 GB")])
def test_amounts(size: float, text: str) -> None:
    assert amount(int(size)) == text


# --- Timing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shares", "counts"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (5, [1, 2, 4, 5])])
def test_workers_without_a_share_are_left_out(shares: int, counts: list[int]) -> None:
    assert useful_workers(shares) == counts
    assert useful_workers(8) == [1, 2, 4, 8]


@given(count=st.integers(1, 1000))
def test_batches_of_all_lengths_are_timed(count: int) -> None:
    positions = list(_spread(count))
    assert len(set(positions)) == len(positions) == min(5, count)
    assert {*positions} <= {*range(count)}
    assert abs(2 * positions[0] + 1 - count) <= 1


def test_steps_for_which_no_time_was_left_lie_between_the_others() -> None:
    assert _completed({1: 8.0, 8: 1.0}, [1, 2, 4, 8], 8) == {1: 8.0, 2: 4.0, 4: 2.0, 8: 1.0}


def a_model(sequences: int, length: int = 6) -> tuple[Sequential, FitData]:
    model = Sequential([LSTM(3, return_sequences=True, input_shape=(None, 2)), Dense(2, activation="softmax")], seed=1)
    model.compile("adam", "sparse_categorical_crossentropy")
    random = np.random.default_rng(1)
    x, y = random.normal(size=(sequences, length, 2)), random.integers(0, 2, (sequences, length))
    return model, model._fit_data(x.astype(np.float32), y)


@pytest.mark.parametrize(("sequences", "batch_size", "times"), [(100, 32, 1.0), (100, 32, 7.5), (10, 64, 100.0)])
def test_a_plan_is_that_of_the_training(sequences: int, batch_size: int, times: float) -> None:
    model, data = a_model(sequences)
    options = LoopOptions(epochs=2, batch_size=batch_size)
    plan = plan_training(model, data.data.offsets, options, times=times)
    found = time_steps(model, data, plan, seed=1, seconds=0.05, times=times)
    assert (found.batches, found.shares) == (-(-sequences * times // batch_size), batch_size // 16)
    assert list(found.seconds) == useful_workers(found.shares)
    assert all(0 < seconds < 10 for seconds in found.seconds.values())


@pytest.mark.parametrize("options", [LoopOptions(), LoopOptions(batch_size=7, epochs=1), LoopOptions(window=4)])
def test_training_follows_the_plan(options: LoopOptions) -> None:
    model, data = a_model(60)
    plan = plan_training(model, data.data.offsets, dataclasses.replace(options, epochs=1))
    summary = train_model(model, data, None, dataclasses.replace(options, epochs=1))
    assert (summary["batch_size"], summary["epochs"]) == (plan.batch_size, plan.epochs)


def test_more_sequences_make_larger_batches_and_fewer_epochs() -> None:
    model, data = a_model(60)
    small, large = (plan_training(model, data.data.offsets, LoopOptions(), times=times) for times in (1, 10_000))
    assert (small.batch_size, large.batch_size) == (7, 64)
    assert (small.epochs, large.epochs) == (67, 20)


# --- Fronts -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little time for steps, and a gloo that takes none."""
    monkeypatch.setattr(sizes, "SECONDS", 0.05)
    monkeypatch.setattr(sizes, "own_link", lambda count: Link(1e-5, 1e-10))


@pytest.mark.usefixtures("quick")
def test_the_command_and_python_estimate_the_same(tmp_path: Path) -> None:
    table = tmp_path / "train.csv"
    words(300, 1).to_csv(table, index=False)
    arguments = ["estimate", table, "--sequence", "id", "--label", "state", "--threads", "1", "--json"]
    sized = [item for name, value in SMALL.items() for item in (f"--{name.replace('_', '-')}", value)]
    found = json.loads(run(*arguments, *sized).stdout)
    assert (found["bandwidth"], found["latency"], found["threads"]) == (10, 0.1, 1)
    assert (found["sequences"], found["batches"], found["epochs"], found["shares"]) == (270, 6, 2, 3)
    assert [row["machines"] for row in found["machines"]] == [1, 2, 3]
    assert found["gradient_bytes"] == 8 * found["parameters"]
    ours = bilstm.distributed.estimate(table, sequence="id", label="state", **SMALL)
    assert {name: ours.to_json()[name] for name in ("parameters", "sequences", "batches", "epochs", "shares")} == {
        name: found[name] for name in ("parameters", "sequences", "batches", "epochs", "shares")
    }
    slow = bilstm.distributed.estimate(table, sequence="id", label="state", bandwidth=0.001, latency=5, **SMALL)
    assert slow.exchange(2) > 0.03 > ours.exchange(2)
    large = bilstm.distributed.estimate(table, sequence="id", label="state", sequences=10_000, **SMALL)
    assert (large.sequences, large.batches) == (10_000, 209)
    printed = run(*arguments[:-1], *sized, "--bandwidth", 1, "--latency", 2, "--sequences", 5000, "--quiet").stdout
    assert printed.startswith("network: ")
    assert "between machines: 1 Gbit/s, 2 ms; gloo itself takes 10.0 µs for each message here\n" in printed


@pytest.mark.usefixtures("quick")
def test_a_sample_stands_for_all() -> None:
    training = TrainingOptions(**SMALL)
    prepared = prepare_data(words(300, 1), column_options(sequence="id", label="state"), training)
    found = sizes.estimate_prepared(prepared, training, reading=1.0)
    large = sizes.estimate_prepared(prepared, training, reading=1.0, sequences=2700)
    assert (found.reading, found.sequences, found.batches) == (1, 270, 6)
    assert (large.reading, large.sequences, large.batches) == (10, 2700, 57)


@pytest.mark.usefixtures("quick")
def test_validation_takes_time_too(tmp_path: Path) -> None:
    frame = recordings(40, 1)
    options: dict[str, Any] = {"sequence": "id", "label": "state", **SMALL}
    without = bilstm.distributed.estimate(frame[frame.id < 30], validation_split=0.01, **options)
    found = bilstm.distributed.estimate(frame[frame.id < 30], valid=frame[frame.id >= 30], **options)
    assert found.validation[1] > without.validation[1] > 0
    assert found.validation[1] == found.validation[2]  # too few sequences to divide them


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bandwidth", "0"], "'--bandwidth'"),
        (["--latency", "-1"], "'--latency'"),
        (["--latency", "inf"], "latency must be a number of milliseconds"),
        (["--sequences", "0"], "'--sequences'"),
        (["--pooling", "mean"], "pooling"),
        (["--valid", "train.csv"], "are the same file"),
    ],
)
def test_mistakes_are_named(options: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words(30, 1).to_csv("train.csv", index=False)
    ran = run("estimate", "train.csv", "--sequence", "id", "--label", "state", "--units", 4, *options, status=2)
    assert message in ran.output.splitlines()[-1]


def test_mistakes_in_python_are_named() -> None:
    with pytest.raises(TypeError, match=r"^estimate\(\) has no argument 'unit'. Did you mean 'units'"):
        bilstm.distributed.estimate(words(30, 1), sequence="id", label="state", unit=4)
    with pytest.raises(UserError, match="^bandwidth must be a number of Gbit/s above 0, not 0$"):
        bilstm.distributed.estimate(words(30, 1), sequence="id", label="state", bandwidth=0)


def test_gloo_that_does_not_work_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    dist = pytest.importorskip("torch.distributed")

    def fails(*_: Any) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr(dist, "ProcessGroupGloo", fails)
    assert links.own_link(10) is None
