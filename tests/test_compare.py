"""Comparisons of variants: from Python and on the command line."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import bilstm
import bilstm.compare.planning as module
from bilstm import plots
from bilstm.cli import commands
from bilstm.compare import ComparisonInterrupted, Plan, compare, plan_comparison, run_comparison
from bilstm.compare.comparison import SEEDS, learning_curve
from bilstm.compare.variants import grid
from bilstm.compare.verdict import SCORES, notes, sentence, table
from bilstm.errors import DivergedError, UserError
from bilstm.layers import count_parameters
from bilstm.metrics import ClassScores, LabelSetScores, QuantityScores
from bilstm.model.evaluation import evaluate
from bilstm.model.network import build_network, network_size
from bilstm.model.training import train_prepared
from bilstm.problems import cumulative_sum, half_of_total
from bilstm.progress import Progress
from bilstm.ragged import Ragged
from bilstm.signals import Stopped
from bilstm.tasks import KINDS
from bilstm.training.options import TrainingOptions
from bilstm.utils import set_threads, threads

SMALL: dict[str, Any] = {"layers": 1, "epochs": 8, "learning_rate": 0.02, "dropout": 0.0}
ONCE: dict[str, Any] = {**SMALL, "epochs": 1, "vary": {"units": [2, 3]}, "seeds": 1}
FLAGS = ["--units", "6", "--layers", "1", "--epochs", "3", "--learning-rate", "0.02", "--dropout", "0"]
COLUMNS = ["--sequence", "id", "--order", "t", "--label", "state"]
LONG: dict[str, Any] = {"sequence": "id", "order": "t"}
LEADING = {"label": "accuracy", "labels": "macro_f1", "quantity": "rmse"}
FURTHER = {
    "label": ["accuracy", "macro_f1"],
    "labels": ["macro_f1", "micro_f1", "subset_accuracy"],
    "quantity": ["rmse", "mae", "r2"],
}


def without_seconds(report: Any) -> Any:
    """The report but for what no seed decides."""
    if isinstance(report, dict):
        return {name: without_seconds(value) for name, value in report.items() if name != "seconds"}
    return [without_seconds(value) for value in report] if isinstance(report, list) else report


def long_table(kind: str, sequences: int = 40, seed: int = 0) -> tuple[dict[str, list[Any]], list[str]]:
    """A row for each time step, with a target for this task, and the names of its columns; some have no answer."""
    rng = np.random.default_rng(seed)
    columns: dict[str, list[Any]] = {"id": [], "t": [], "x": [], "patient": []}
    unit, what = kind.split("-")
    names = {"label": ["state"], "labels": ["now", "next"], "quantity": ["sum"]}[what]
    columns |= {name: [] for name in names}
    for sequence in range(sequences):
        x = rng.normal(size=rng.integers(3, 8))
        following = np.append(x[1:], 0.0) > 0
        found: dict[str, Any] = {"state": np.where(following, "up", "down"), "now": (x > 0) * 1, "next": following * 1}
        found["sum"] = np.cumsum(x)
        unlabelled = rng.random(len(x)) < 0.1 if unit == "step" else np.full(len(x), sequence % 9 == 8)
        for name in names:
            values = found[name] if unit == "step" else np.repeat(found[name][-2], len(x))
            columns[name] += [None if no else value for no, value in zip(unlabelled, values.tolist(), strict=True)]
        columns["id"] += [f"s{sequence}"] * len(x)
        columns["patient"] += [f"p{sequence // 2}"] * len(x)
        columns["t"] += [*range(len(x))]
        columns["x"] += x.tolist()
    return columns, names


@pytest.fixture(scope="module")
def halves() -> dict[str, Any]:
    """Of a problem in which both sides are needed."""
    return compare(*half_of_total(250, (4, 10), seed=1), units=6, **SMALL)


# --- What is found -------------------------------------------------------------------------------------------------


def test_both_directions_gain_where_both_sides_count(halves: dict[str, Any]) -> None:
    gain = next(found for found in halves["differences"] if found["variant"] == "both directions")
    assert gain["against"] == halves["reference"] == "forward only"
    for score in ("accuracy", "macro_f1"):
        assert 0.02 < gain[score]["low"] < gain[score]["mean"] < gain[score]["high"]
    low, high = (f"{100 * gain['accuracy'][end]:.1f}" for end in ("low", "high"))
    assert halves["sentence"].startswith(
        f"Both directions gain {low} to {high} points of accuracy over forward only; backward only "
    )
    assert halves["best"] == "both directions"
    assert halves["task"] == "step-label"


def test_the_second_direction_gains_nothing_where_only_the_past_counts() -> None:
    options: dict[str, Any] = {**SMALL, "units": 10, "epochs": 20, "learning_rate": 0.03}
    report = compare(*cumulative_sum(400, 8, seed=1), vary={"direction": ["forward", "both"]}, **options)
    (found,) = report["differences"]
    assert found["accuracy"]["low"] <= 0 <= found["accuracy"]["high"]
    up, down = (f"{100 * size:.1f}" for size in (found["accuracy"]["high"], -found["accuracy"]["low"]))
    assert report["sentence"] == (
        f"Both directions and forward only show no clear difference (the former may still be up to {up} points of "
        f"accuracy better or {down} worse)."
    )
    assert any(note.startswith("where variants show no clear difference, more ") for note in report["notes"])


def test_low_errors_are_good() -> None:
    """A running sum needs the past: the forward network has the lowest error, and is the best."""
    columns, _ = long_table("step-quantity", 120)
    vary = {"direction": ["backward", "forward", "none"]}
    report = compare(columns, label="sum", task="step-quantity", **LONG, vary=vary, units=8, **{**SMALL, "epochs": 20})
    assert (report["score"], report["lower_is_better"], report["best"]) == ("rmse", True, "forward only")
    found = {each["variant"]: each["rmse"] for each in report["differences"] if each["against"] == "backward only"}
    assert found["forward only"]["high"] < 0
    ends = " to ".join(f"{-found['forward only'][end]:.3g}" for end in ("high", "low"))
    assert f"Forward only lowers the RMSE by {ends} compared with backward only; " in report["sentence"]
    assert re.search(r"\n  forward only +0\.\d+ ± \S+ +-0\.\d+ \[-", "\n".join(table(report)))
    curves, bars = plots.comparison(report).axes
    assert curves.get_title("left") == "loss on the validation set"
    assert bars.get_title("left") == "reduction of RMSE"
    dots = [line.get_xdata() for line in bars.lines if len(line.get_xdata()) == 1]
    assert dots[1] == [-found["forward only"]["mean"]]  # to the right of the reference
    np.testing.assert_array_equal(
        sorted(bars.lines[1].get_xdata()), sorted(-found["forward only"][e] for e in ("low", "high"))
    )


def test_the_report_is_plain_and_whole(halves: dict[str, Any]) -> None:
    assert json.loads(json.dumps(halves)) == halves
    assert (halves["planned"], halves["finished"], halves["seeds"], halves["failed"]) == (9, 9, [1, 2, 3], [])
    assert halves["sequences"] == {"training": 175, "validation": 25, "test": 50}
    assert (halves["clusters"], halves["caution"], halves["curve"]) == ("sequences", None, "val_accuracy")
    for variant in halves["variants"]:
        runs = [run for run in halves["runs"] if run["variant"] == variant["name"]]
        assert [run["seed"] for run in runs] == halves["seeds"]
        assert {run["epochs"] for run in runs} == {8}
        for score, found in variant["scores"].items():
            values = [run[score] for run in runs]
            assert found["mean"] == pytest.approx(np.mean(values))
            assert found["deviation"] == pytest.approx(np.std(values, ddof=1))
            assert found["low"] < found["mean"] < found["high"]
        curves = [run["history"]["val_accuracy"] for run in runs]
        np.testing.assert_allclose(variant["curve"]["mean"], np.mean(curves, axis=0))
        np.testing.assert_allclose(variant["curve"]["deviation"], np.std(curves, axis=0, ddof=1))
    sizes = {variant["name"]: variant["parameters"] for variant in halves["variants"]}
    assert sizes["forward only"] == sizes["backward only"] == 4 * 6 * (1 + 6 + 1) + 2 * (6 + 1)
    assert sizes["both directions"] == 2 * 4 * 6 * (1 + 6 + 1) + 2 * (12 + 1)


def test_the_same_seed_gives_the_same_report_at_any_number_of_threads() -> None:
    X, y = half_of_total(60, (3, 6), seed=2)
    options: dict[str, Any] = {**SMALL, "epochs": 2, "dropout": 0.2, "vary": {"units": [3, 5]}, "seeds": 2}
    found, before = [], threads()
    for count, seed in ((1, 1), (2, 1), (1, 2)):
        set_threads(count)
        found.append(without_seconds(compare(X, y, seed=seed, **options)))
    set_threads(before)
    assert found[0] == found[1]
    assert found[0] != found[2]
    assert found[2]["seeds"] == [2, 3]


def plan_of(kind: str, bio: bool = False, **arguments: Any) -> Plan:
    """A comparison of no context and both directions on a generated table."""
    columns, names = long_table(kind, 60)
    if bio:
        columns["state"] = [{"up": "I-x", "down": "O"}.get(label, label) for label in columns["state"]]
    given: dict[str, Any] = {"label": names, "task": kind, **LONG, "drop": ("patient",)} | arguments
    options = {**SMALL, "units": 4, "epochs": 3, "seed": 5}
    return plan_comparison(columns, columns=given, vary={"direction": ["none", "both"]}, options=options)


@pytest.mark.parametrize("kind", [*KINDS, "step-label bio"])
def test_scores_are_those_of_evaluate(kind: str) -> None:
    kind, _, bio = kind.partition(" ")
    plan = plan_of(kind, bool(bio))
    report = run_comparison(plan, seeds=2)
    what = kind.split("-")[1]
    assert (report["task"], report["score"]) == (kind, "span_f1" if bio else LEADING[what])
    for run in report["runs"]:
        direction = {"no context": "none", "both directions": "both"}[run["variant"]]
        options = TrainingOptions(
            **{**module.DEFAULTS, **SMALL, "units": 4, "epochs": 3}, seed=run["seed"], direction=direction
        )
        model = train_prepared(plan.prepared, options)
        expected = evaluate(model, plan.test)
        assert run["history"] == model.training["history"]
        assert {name: run[name] for name in FURTHER[what]} == {name: expected[name] for name in FURTHER[what]}
        if bio:
            assert run["span_f1"] == expected["spans"]["f1"]
    unit = "labelled_sequences" if kind.startswith("sequence") else "steps"
    assert report[unit] == expected[unit]
    curve = "val_accuracy" if what == "label" else "val_loss"
    assert report["curve"] == curve
    for variant in report["variants"]:
        curves = [run["history"][curve] for run in report["runs"] if run["variant"] == variant["name"]]
        np.testing.assert_allclose(variant["curve"]["mean"], np.mean(curves, axis=0))
    assert report["sentence"]
    assert plots.comparison(report).axes[0].get_title("left") == f"{curve.removeprefix('val_')} on the validation set"


@pytest.mark.parametrize("kind", KINDS)
def test_always_the_same_guess(kind: str) -> None:
    """The majority class, the most frequent answer of each label, or the mean, all of the training set."""
    plan = plan_of(kind)
    majority = run_comparison(plan, seeds=1)["majority"]
    task, truth, tested = plan.prepared.task, plan.prepared.training.known, plan.test.known
    known, scored = truth[task.labelled(truth)], tested[task.labelled(tested)]
    every = np.ones(len(scored), bool)
    places = np.arange(len(scored) + 1)
    scorer: Any
    if kind.endswith("quantity"):
        assert majority["answer"] == {"sum": pytest.approx(known.mean())}
        scorer = QuantityScores(every, 1, [0.0])
        scorer.add(scored, np.full_like(scored, known.mean()), places)
    elif kind.endswith("labels"):
        often = known.mean(axis=0) > 0.5
        assert majority["answer"] == [name for name, holds in zip(task.columns, often, strict=True) if holds]
        scorer = LabelSetScores(every, 2)
        scorer.add(scored, np.tile(often.astype(np.float32), (len(scored), 1)), places)
    else:
        code = int(np.bincount(known).argmax())
        assert majority["answer"] == task.classes[code]
        scorer = ClassScores(every, 2)
        scorer.add(scored, np.tile(np.eye(2, dtype=np.float32)[code], (len(scored), 1)), places)
    report = scorer.report()
    for name in FURTHER[kind.split("-")[1]]:
        assert majority[name] == pytest.approx(report[name])


@pytest.mark.parametrize("group", [None, "patient"])
@pytest.mark.parametrize("kind", ["step-label", "sequence-quantity"])
def test_intervals_of_one_seed_are_paired_and_draw_groups(kind: str, group: str | None) -> None:
    """To the last bit those of the gain of one scorer over another."""
    plan = plan_of(kind, group=group)
    report = run_comparison(plan, seeds=1)
    task, test = plan.prepared.task, plan.test
    labelled = task.labelled_sequences(test.known, test.values.offsets)
    scorers = []
    for variant in plan.variants:
        scorers.append(task.scorer(labelled, test.groups))
        outputs = train_prepared(plan.prepared, variant.options).outputs(test.values)
        task.add_scores(scorers[-1], test.known, outputs, test.row_offsets)
    gain = scorers[1].gain(scorers[0])["interval"]
    found = report["differences"][0][report["score"]]
    ends = [found["low"], found["high"]] if kind == "step-label" else [-found["high"], -found["low"]]
    assert ends == pytest.approx(gain, abs=1e-12)
    assert report["clusters"] == ("groups" if group else "sequences")
    assert report["caution"] == scorers[0].caution
    assert f"from drawing the test {report['clusters']} 2,000" in "\n".join(table(report))


def test_few_sequences_are_said_and_fewer_give_no_interval() -> None:
    X, y = half_of_total(40, 5, seed=1)
    for count in (1, 2, 3, 19, 20):
        report = compare(X, y, test=half_of_total(count, 5, seed=2), **ONCE)
        (found,) = report["differences"]
        assert (found["accuracy"]["low"] is None) == (count < 3)
        assert [note for note in report["notes"] if note.startswith("test set: ")] == (
            [f"test set: {report['caution'][0].lower()}{report['caution'][1:-1]}"] if count < 20 else []
        )
        text = "\n".join(table(report))
        assert ("[" in text) == ("95 % intervals" in text) == (count >= 3)
        assert any("the intervals come from drawing" in note for note in report["notes"]) == (count >= 3)
        if count < 3:
            assert report["sentence"] == (
                f"The best accuracy is that of {report['best']}, but too few test sequences have labels to be sure of "
                f"it."
            )
            assert len(plots.comparison(report).axes[1].lines) == 3  # two dots and the line at 0


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_few_seeds_tell_too_little(seeds: int) -> None:
    """Student's t of two seeds would reach from -100 to 100 points."""
    report = compare(*half_of_total(100, 5, seed=1), **{**SMALL, "epochs": 4, "vary": {"units": [1, 8]}}, seeds=seeds)
    (found,) = report["differences"]
    assert found["includes_seeds"] == (seeds == 3)
    half = (found["accuracy"]["high"] - found["accuracy"]["low"]) / 2
    assert (half < 2.3 * found["accuracy"]["sequence_error"]) == (seeds < 3)
    said = [note for note in report["notes"] if "of how results differ between seeds" in note]
    begins = {1: ["one seed tells nothing"], 2: ["two seeds tell too little"], 3: []}[seeds]
    assert [note.partition(" of how")[0] for note in said] == begins
    assert ("NOT from how much the seeds differ" in "\n".join(table(report))) == (seeds < 3)
    assert ("without the seeds" in plots.comparison(report).axes[1].get_xlabel()) == (seeds < 3)


# --- What is compared ----------------------------------------------------------------------------------------------


def test_test_sequences_of_their_own() -> None:
    X, y = half_of_total(60, 6, seed=1)
    report = compare(X, y, test=half_of_total(30, 9, seed=2), **ONCE)
    assert report["sequences"] == {"training": 54, "validation": 6, "test": 30}
    assert report["steps"] == 270
    assert compare(X, y, test_split=0.5, **ONCE)["sequences"] == {"training": 24, "validation": 6, "test": 30}
    assert compare(X, y, validation_split=None, **ONCE)["sequences"] == compare(X, y, **ONCE)["sequences"]
    wider = compare(X, y, validation_split=0.4, **ONCE)["sequences"]
    assert wider == {"training": 24, "validation": 24, "test": 12}
    both = compare(X, y, valid=half_of_total(7, 6, seed=3), test=half_of_total(8, 6, seed=4), **ONCE)
    assert both["sequences"] == {"training": 60, "validation": 7, "test": 8}


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("kind", ["step-label", "sequence-label"])
def test_nothing_stands_on_two_sides(kind: str, grouped: bool) -> None:
    """Neither a sequence nor a group."""
    plan = plan_of(kind, group="patient" if grouped else None)
    sides = [plan.prepared.training, plan.prepared.validation, plan.test]
    rows = [set(side.rows.tolist()) for side in sides if side]
    assert len(rows) == 3
    assert sum(map(len, rows)) == plan.prepared.table.rows
    assert set.union(*rows) == set(range(plan.prepared.table.rows))
    if grouped:
        patients = long_table(kind, 60)[0]["patient"]
        groups = [{patients[row] for row in side} for side in rows]
        assert sum(map(len, groups)) == 30
        assert len(groups[1]) == 3
        assert len(groups[2]) == 6


def test_groups_beside_a_test_set() -> None:
    """They keep training and validation apart, and are drawn if the test set has them; they are no feature."""
    columns, _ = long_table("step-label")
    others, _ = long_table("step-label", 30, seed=1)
    arguments: dict[str, Any] = {"label": "state", **LONG, "group": "patient", **ONCE}
    report = compare(columns, test=others, **arguments)
    assert report["clusters"] == "groups"
    assert "only 15 groups" in report["caution"]
    ungrouped = {name: values for name, values in others.items() if name != "patient"}
    report = compare(columns, test=ungrouped, **arguments)
    assert report["clusters"] == "sequences"
    assert "test set: it has no groups, so intervals draw its sequences one by one" in report["notes"]
    both = compare(columns, test=others, valid=ungrouped, **arguments)
    assert both["clusters"] == "groups"
    assert both["sequences"] == {"training": 40, "validation": 30, "test": 30}


def test_variants_of_one_size() -> None:
    X, y = half_of_total(40, 5, seed=1)
    options: dict[str, Any] = {**SMALL, "epochs": 1, "seeds": 1, "units": 6}
    own = compare(X, y, **options)["variants"]
    same = compare(X, y, **options, same_size=True)["variants"]
    largest = own[-1]["parameters"]
    assert [variant["units"] for variant in own] == [6, 6, 6]
    assert same[-1] == own[-1] | {"seconds": same[-1]["seconds"]}
    for variant in same[:-1]:
        size = {units: 4 * units * (1 + units + 1) + 2 * (units + 1) for units in range(1, 50)}
        assert variant["parameters"] == min(size.values(), key=lambda each: abs(each - largest))
        assert variant["parameters"] == size[variant["units"]]
    del options["layers"]
    vary = {"layers": [1, 3], "direction": ["none", "both"]}
    sizes = [each["parameters"] for each in compare(X, y, **options, vary=vary, same_size=True)["variants"]]
    assert max(sizes) < 1.1 * min(sizes)


@pytest.mark.parametrize("kind", KINDS)
def test_networks_are_counted_without_building_them(kind: str) -> None:
    plan = plan_of(kind)
    schema, task = plan.prepared.schema, plan.prepared.task
    poolings = [None, "mean", "max", "attention", "last"] if task.per_sequence else [None]
    directions, cells = ("both", "forward", "none"), ("lstm", "gru", "simple")
    for direction, merge, cell, pooling in itertools.product(directions, ("concat", "sum"), cells, poolings):
        if direction != "none" or (pooling != "last" and cell == "lstm"):
            options = TrainingOptions(units=3, direction=direction, merge_mode=merge, cell=cell, pooling=pooling)
            assert network_size(schema, task, options) == build_network(schema, task, options).count_params()
    assert network_size(schema, task, TrainingOptions(units=10**6)) > 1e13  # no machine could build this one
    assert count_parameters([], 3) == 0


def test_words_are_counted_too() -> None:
    X = [text.split() for text in ["a b c", "b a", "c c a", "a c", "b b a", "c a b"] * 10]
    y = [[word == "a" for word in words] for words in X]
    report = compare(X, y, vary={"embedding": [2, 4]}, seeds=1, units=3, **SMALL)
    assert [variant["name"] for variant in report["variants"]] == ["embedding 2", "embedding 4"]
    assert report["majority"]["answer"] == "false"
    sizes = [variant["parameters"] for variant in report["variants"]]
    plan = plan_comparison(X, y, columns={}, vary={"embedding": [2, 4]}, options={"units": 3, **SMALL})
    built = [build_network(plan.prepared.schema, plan.prepared.task, each.options) for each in plan.variants]
    assert sizes == [network.count_params() for network in built]


@pytest.mark.parametrize("pooling", [["mean", "max"], ["attention", "last"]])
def test_poolings_vary_where_sequences_have_one_answer(pooling: list[str]) -> None:
    columns, _ = long_table("sequence-label")
    arguments: dict[str, Any] = {**LONG, "label": "state", "vary": {"pooling": pooling}, "seeds": 1, "units": 3}
    report = compare(columns, **arguments, **{**SMALL, "epochs": 1})
    assert [variant["name"] for variant in report["variants"]] == [f"pooling {name}" for name in pooling]


def test_convolutions_vary() -> None:
    X, y = half_of_total(40, 6, seed=1)
    report = compare(X, y, vary={"conv": [None, "4x3", "4x3+3x2"]}, seeds=1, units=3, **SMALL)
    assert [variant["name"] for variant in report["variants"]] == [
        "no convolution",
        "convolution 4x3",
        "convolution 4x3+3x2",
    ]
    plan = plan_comparison(X, y, columns={}, vary={"conv": [None, "4x3"]}, options={"units": 3, **SMALL})
    built = [build_network(plan.prepared.schema, plan.prepared.task, each.options) for each in plan.variants]
    sizes = [variant["parameters"] for variant in report["variants"]]
    assert sizes[:2] == [network.count_params() for network in built]


# --- Forms of data -------------------------------------------------------------------------------------------------


def test_y_in_every_form_of_an_estimator() -> None:
    X, y = half_of_total(40, 6, seed=1)
    expected = without_seconds(compare(X, y, **ONCE))
    lists, places = [sequence[:, 0] for sequence in y], np.arange(41) * 6
    for features, labels in (
        (list(X), lists),
        (list(X), [row.tolist() for row in lists]),
        (Ragged(np.concatenate(list(X)), places), Ragged(np.concatenate(list(y)), places)),
    ):
        assert without_seconds(compare(features, labels, **ONCE)) == expected
    rows = [{"0": sequence[:, 0].tolist(), "late": labels.tolist()} for sequence, labels in zip(X, lists, strict=True)]
    assert without_seconds(compare(rows, label="late", **ONCE)) == expected


def test_tables_of_pandas_and_polars() -> None:
    """The same report as for the arrays they are made of, whether y, its name or the label's name is passed."""
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    X, y = half_of_total(40, (3, 6), seed=1)
    rows = {
        "id": np.repeat(np.arange(40), X.lengths),
        "t": np.concatenate([np.arange(steps) for steps in X.lengths]),
        "x": X.values[:, 0].astype(np.float64),
        "late": y.values[:, 0].astype(np.int64),
        "patient": np.repeat(np.arange(40) // 4, X.lengths),
    }
    expected = without_seconds(compare(X, y, group=np.arange(40) // 4, **ONCE))
    frame = pandas.DataFrame(rows)
    features = frame.drop(columns=["late", "patient"])
    assert without_seconds(compare(frame, "late", group="patient", **LONG, **ONCE)) == expected
    assert without_seconds(compare(frame, label="late", group="patient", **LONG, **ONCE)) == expected
    assert without_seconds(compare(features, frame["late"], group=frame["patient"], **LONG, **ONCE)) == expected
    assert without_seconds(compare(features, frame["late"], group=np.arange(40) // 4, **LONG, **ONCE)) == expected
    shuffled = polars.DataFrame(rows).drop("patient").sample(fraction=1, shuffle=True, seed=1)
    tested = compare(shuffled, "late", test=(frame, "late", "patient"), **LONG, **ONCE)
    assert tested["sequences"] == {"training": 36, "validation": 4, "test": 40}
    assert tested["clusters"] == "groups"
    named = compare(shuffled, label="late", test=frame, **LONG, **ONCE)
    assert named["runs"][0]["history"] == tested["runs"][0]["history"]
    with pytest.raises(UserError, match="has no column 'x'"):
        compare(frame, "late", test=(frame.rename(columns={"x": "z"}), "late"), **LONG, **ONCE)


def test_answers_of_sequences_beside_arrays() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 5, 2))
    total = X.sum(axis=(1, 2))
    for task, y in (("sequence-label", total > 0), ("sequence-quantity", total), ("sequence-labels", X[:, 0] > 0)):
        report = compare(X, y, task=task, **ONCE)
        assert report["task"] == task
        assert report["labelled_sequences"] == 12
    assert compare(X, np.stack([X[:, :, 0] > 0, X[:, :, 1] > 0], axis=2), **ONCE)["task"] == "step-labels"


def test_labels_in_a_table_of_their_own_and_texts() -> None:
    columns, _ = long_table("sequence-label")
    first = [columns["id"].index(name) for name in dict.fromkeys(columns["id"])]
    labels = {name: [columns[name][row] for row in first] for name in ("id", "state")}
    values = {name: columns[name] for name in ("id", "t", "x")}
    pandas = pytest.importorskip("pandas")
    beside = compare(pandas.DataFrame(values), labels=pandas.DataFrame(labels), **LONG, **ONCE)
    within = compare(columns, label="state", drop=["patient"], **LONG, **ONCE)
    assert without_seconds(beside["runs"]) == without_seconds(within["runs"])
    own = compare(
        pandas.DataFrame(values),
        labels=pandas.DataFrame(labels),
        test=pandas.DataFrame(values),
        test_labels=pandas.DataFrame(labels),
        **LONG,
        **ONCE,
    )
    assert own["sequences"]["test"] == 40
    assert own["labelled_sequences"] == 36
    texts = {"words": ["a good film", "a bad film", "good good", "so bad"] * 10, "mood": ["up", "down"] * 20}
    report = compare(pandas.DataFrame(texts), text="words", label="mood", **ONCE)
    assert report["task"] == "sequence-label"


def test_it_is_a_function_in_whatever_order_things_are_imported() -> None:
    """`bilstm.compare` is a package, too: Python binds it to the name as soon as a part of it is imported."""
    for first in ("import bilstm.compare.verdict", "from bilstm.compare import compare", "bilstm.compare"):
        program = f"import bilstm\n{first}\nbilstm.compare\nassert callable(bilstm.compare)\ntry: bilstm.compare([])\n"
        program += "except bilstm.UserError as error: print(error)\n"
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        assert ran.stdout.startswith("data has no "), ran
    assert bilstm.compare is sys.modules["bilstm.compare"]
    X, y = half_of_total(40, 5, seed=1)
    assert without_seconds(bilstm.compare(X, y, **ONCE)) == without_seconds(compare(X, y, **ONCE))


# --- What goes wrong -----------------------------------------------------------------------------------------------


def test_training_that_diverges_is_left_out_and_said() -> None:
    X, y = half_of_total(60, 6, seed=1)
    options: dict[str, Any] = {"layers": 1, "epochs": 8, "dropout": 0.0, "units": 6, "seeds": 3, "batch_size": 2}
    report = compare(X, y, **options, vary={"learning_rate": [0.02, 0.01, 1e38]})
    assert [(run["variant"], run["seed"]) for run in report["failed"]] == [
        ("learning rate 1e+38", seed) for seed in (1, 2, 3)
    ]
    assert report["variants"][2]["runs"] == 0
    assert "scores" not in report["variants"][2]
    assert [found["variant"] for found in report["differences"]][:1] == ["learning rate 0.01"]
    assert (
        "learning rate 1e+38: 3 of 3 trainings diverged and are left out; try a smaller learning rate"
        in report["notes"]
    )
    assert re.search(r"\n  learning rate 1e\+38 +– +6 +410 +–\n", "\n".join(table(report)))
    first = compare(X, y, **options, vary={"learning_rate": [1e38, 0.02, 0.01]})
    assert {found["against"] for found in first["differences"]} == {first["best"]}
    assert first["best"].capitalize() in first["sentence"] or first["best"] in first["sentence"]
    del options["units"]
    with pytest.raises(DivergedError):
        compare(X, y, vary={"units": [3, 4]}, learning_rate=1e38, **options)


@pytest.mark.parametrize("stop", [1, 3, 8])
def test_an_interrupt_keeps_what_has_ended(stop: int) -> None:
    X, y = half_of_total(60, 6, seed=1)
    options: dict[str, Any] = {**SMALL, "units": 6, "epochs": 2}
    whole = compare(X, y, **options)

    def interrupt(figures: dict[str, Any]) -> None:
        if figures["run"] == stop and figures["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        compare(X, y, progress=interrupt, **options)
    if stop == 1:
        assert not isinstance(caught.value, ComparisonInterrupted)
        return
    assert isinstance(caught.value, ComparisonInterrupted)
    assert str(caught.value) == f"stopped after {stop - 1} of 9 trainings"
    report = caught.value.report
    assert without_seconds(report["runs"]) == without_seconds(whole["runs"][: stop - 1])
    assert report["finished"] == stop - 1
    assert f"only {stop - 1} of 9 trainings completed" in report["notes"]
    assert [variant["runs"] for variant in report["variants"]] == {3: [1, 1, 0], 8: [3, 2, 2]}[stop]
    seeds = {found["variant"]: found["seeds"] for found in report["differences"] if found["against"] == "forward only"}
    assert seeds == {3: {"backward only": 1}, 8: {"backward only": 2, "both directions": 2}}[stop]


def test_after_one_training_there_is_nothing_to_compare() -> None:
    def interrupt(figures: dict[str, Any]) -> None:
        if figures["run"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(ComparisonInterrupted) as caught:
        compare(*half_of_total(60, 6, seed=1), progress=interrupt, units=6, **{**SMALL, "epochs": 1})
    expected = "Only forward only has a completed training: there is nothing to compare it with."
    report = caught.value.report
    assert report["sentence"] == expected
    assert "95 %" not in "\n".join(table(report))
    assert plots.comparison(report).axes


def test_progress_tells_which_training() -> None:
    events: list[dict[str, Any]] = []
    options: dict[str, Any] = {**SMALL, "epochs": 2, "vary": {"units": [2, 3]}, "seeds": 2}
    compare(*half_of_total(40, 4, seed=1), progress=events.append, **options)
    ends = [each for each in events if each["done"] == 1]
    found = [(each["run"], each["runs"], each["variant"], each["seed"], each["epoch"]) for each in ends]
    plan = [("units 2", 1), ("units 3", 1), ("units 2", 2), ("units 3", 2)]
    assert found == [(run, 4, *about, epoch) for run, about in enumerate(plan, 1) for epoch in (1, 2)]


def test_a_curve_goes_on_at_its_best_where_training_has_ended() -> None:
    curves = ([0.5, 0.7, 0.6], [0.1, 0.2, 0.3, 0.4, 0.5])
    runs = [{"history": {"val_accuracy": curve, "val_loss": curve}} for curve in curves]
    for score, best in (("val_accuracy", 0.7), ("val_loss", 0.5)):
        curve = learning_curve(runs, score)
        np.testing.assert_allclose(curve["mean"], np.mean([[*curves[0], best, best], curves[1]], axis=0))
    assert learning_curve(runs[:1], "val_loss") == {"mean": [0.5, 0.7, 0.6], "deviation": [0, 0, 0]}


@pytest.mark.parametrize("weights", [{0: 1.0, 1: 20.0}, "balanced"])
def test_class_weights_count_in_training_only(weights: Any) -> None:
    X, y = half_of_total(60, 6, seed=1)
    report = compare(X, y, class_weight=weights, **ONCE)
    assert report["curve"] == "val_loss"
    assert "class weights count in training only: in the scores all labels count the same" in report["notes"]
    varied = compare(X, y, vary={"class_weight": [None, weights]}, seeds=1, units=3, **SMALL)
    assert [variant["changes"]["class_weight"] for variant in varied["variants"]] == [None, weights]
    assert varied["runs"][0]["history"] != varied["runs"][1]["history"]
    assert not any("class weights" in note for note in compare(X, y, **ONCE)["notes"])


def test_calibration_is_left_out_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    original = bilstm.compare.trainings.train_prepared

    def spied(prepared: Any, options: TrainingOptions, **more: Any) -> Any:
        model = original(prepared, options, **more)
        kept.append((options.calibrate, model.training["calibration"] is not None, model.baseline))
        return model

    monkeypatch.setattr(bilstm.compare.trainings, "train_prepared", spied)
    X, y = half_of_total(300, 6, seed=1)
    compare(X, y, **ONCE)
    compare(X, y, calibrate=True, **ONCE)
    compare(X, y, seeds=1, vary={"calibrate": [False, True]}, units=2, **{**SMALL, "epochs": 1})
    assert kept == [(yes, yes, None) for yes in (False, False, True, True, False, True)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"unit": 3}, "compare() has no argument 'unit'. Did you mean 'units'?"),
        ({"sequnce": "id"}, "compare() has no argument 'sequnce'. Did you mean 'sequence'?"),
        ({"quux": 3}, "compare() has no argument 'quux'."),
        ({"units": 0}, "training: units must be at least 1, not 0"),
        ({"seeds": 0}, "compare: seeds must be at least 1, not 0"),
        ({"vary": {"unit": [1, 2]}}, "'unit' cannot vary. Did you mean 'units'?"),
        ({"vary": {"embedding": [1, 2]}}, "embedding has no effect: there are no words or categories to embed"),
        ({"vary": {"pooling": ["mean", "max"]}}, "pooling has no effect: it is for tasks with one answer"),
        ({"vary": {"units": [1, 2]}, "units": 3}, "units varies, so it cannot have one value as well: leave it out"),
        ({"direction": "both"}, "direction varies, so it cannot have one value as well"),
        (
            {"vary": {"units": [1, 2]}, "same_size": True},
            "units cannot vary where they are chosen to make all variants",
        ),
        ({"class_weight": {7: 2.0}}, "class_weight has 7, which is none of the classes"),
        ({"class_weight": "none"}, "class_weight must be None, 'balanced' or a dictionary of classes, not 'none'"),
        ({"test_split": 0}, "test_split must be above 0: variants are compared on sequences that are set aside"),
        ({"test_split": 1}, "compare: test_split must be at least 0 and below 1, not 1"),
        ({"validation_split": 0}, "validation_split must be above 0"),
        (
            {"test_split": 0.5, "validation_split": 0.5},
            "validation_split and test_split together are 1: nothing is left",
        ),
        ({"test_split": 0.01, "validation_split": 0.01}, "only 1 labelled sequence set aside, too few for a"),
        ({"group": [0] * 39 + [1]}, "only 1 group set aside, too few for a validation set and a test set"),
        ({"group": [0] * 40}, "one group only"),
        ({"group": [0] * 39}, "groups has shape (39,), but X has 40 sequences"),
        (
            {"test": (np.zeros((4, 5, 2)), np.zeros((4, 5)))},
            "the X of test has 2 features, but the model is expecting 1",
        ),
        ({"test": (np.zeros((4, 5)), np.full((4, 5), 2))}, "the label '2' is unknown to the model"),
        ({"test": (np.zeros((4, 5)), np.zeros((4, 5, 2)))}, "the y of test has 2 columns, but y has 1"),
        ({"test": np.zeros((4, 5))}, "test is (X, y) where data and y are given, or (X, y, groups)"),
        ({"test": (np.zeros((4, 5)), np.zeros((4, 5))), "test_split": 0.5}, "test is a set of its own, so test_split"),
        ({"valid": (np.zeros((4, 5)), np.zeros((4, 5))), "validation_split": 0.5}, "valid is a set of its own"),
        ({"valid_labels": "labels.csv"}, "valid_labels belong to the sequences of valid, which is missing"),
        ({"label": "state"}, "y has the labels of X, so label has no effect: leave one out"),
        ({"task": "step"}, "task must be "),
        ({"task": "sequence-label"}, "Found input variables with inconsistent numbers of samples"),
    ],
)
def test_what_cannot_be_compared(arguments: Any, message: str) -> None:
    X, y = half_of_total(40, 5, seed=1)
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        compare(X, y, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"group": [1, 2]}, "group is the name of a column; the groups themselves can be given together with y only"),
        ({"group": "p"}, "all labels are of one group in column 'p', so nothing can be set aside"),
        ({"task": "step-quantity", "label": "x2", "class_weight": "balanced"}, "class_weight is for labels, but"),
    ],
)
def test_tables_that_cannot_be_compared(arguments: Any, message: str) -> None:
    columns, _ = long_table("step-label")
    columns["x2"] = columns["x"]
    columns["p"] = ["a" if name == "s0" else "b" for name in columns["id"]]
    columns["state"] = [
        label if name == "s0" or "group" not in arguments else None
        for name, label in zip(columns["id"], columns["state"], strict=True)
    ]
    with pytest.raises(UserError, match=re.escape(message)):
        compare(columns, **{"label": "state", **LONG, **ONCE, **arguments})


def test_options_are_refused_before_the_first_training() -> None:
    X, y = half_of_total(40, 5, seed=1)
    events: list[Any] = []
    for vary, message in (
        ({"pooling": [None, "mean"]}, "pooling has no effect"),
        ({"class_weight": [None, {7: 1.0}]}, "class_weight has 7, which is none of the classes"),
    ):
        with pytest.raises(UserError, match=message):
            compare(X, y, vary=vary, progress=events.append)
    assert not events


def test_labels_of_the_validation_set_that_training_lacks_are_left_out() -> None:
    X, y = half_of_total(60, 6, seed=1)
    X_valid, y_valid = half_of_total(40, 6, seed=2)
    fewer, strange = y_valid.astype(float), y_valid.copy()
    fewer[:5], strange[:5] = np.nan, 7
    options: dict[str, Any] = {**ONCE, "calibrate": True}
    first, second = (compare(X, y, valid=(X_valid, labels), **options) for labels in (fewer, strange))
    assert without_seconds(first["runs"]) == without_seconds(second["runs"])


# --- Words ---------------------------------------------------------------------------------------------------------


def reported(
    differences: dict[str, tuple[float, float]], best: str, score: str = "accuracy", **more: Any
) -> dict[str, Any]:
    """As much of a report as its sentence and notes need; of each variant the ends of its interval, in points."""
    found = [
        {
            "variant": name.partition(" / ")[0],
            "against": name.partition(" / ")[2] or "forward only",
            "seeds": 3,
            "includes_seeds": True,
            score: {
                "mean": (low + high) / 200,
                "low": low / 100,
                "high": high / 100,
                "sequence_error": 0.0,
                "seed_error": (high - low) / 400,
            },
        }
        for name, (low, high) in differences.items()
    ]
    report: dict[str, Any] = {"score": score, "reference": "forward only", "best": best, "differences": found}
    report |= {"planned": 9, "finished": 9, "seeds": [1, 2, 3], "failed": [], "runs": [], "variants": []}
    return report | {"sequences": {"test": 50}, "clusters": "sequences", "caution": None} | more


MERGED = grid({"direction": ["forward", "both"], "merge_mode": ["concat", "sum"]}, TrainingOptions())
LAYERS = grid({"layers": [*range(1, 9)]}, TrainingOptions())


@pytest.mark.parametrize(
    ("differences", "best", "score", "expected"),
    [
        (
            {
                "both directions, concat": (3.94, 4.64),
                "both directions, sum": (3.7, 4.5),
                "both directions, sum / both directions, concat": (-0.31, 0.12),
            },
            "both directions, concat",
            "accuracy",
            "Both directions, concat gain 3.9 to 4.6 points of accuracy over forward only; both directions, sum gain "
            "3.7 to 4.5 over it; concat and sum show no clear difference (the former may still be up to 0.3 points "
            "better or 0.1 worse).",
        ),
        (
            {
                "both directions, concat": (3.9, 4.6),
                "both directions, sum": (-1.2, -0.04),
                "both directions, sum / both directions, concat": (-6, -4),
            },
            "both directions, concat",
            "span_f1",
            "Both directions, concat gain 3.9 to 4.6 points of F1 of spans over forward only; both directions, sum "
            "lose 0.04 to 1.2 against it.",
        ),
        (
            {"both directions, sum": (0, 0), "both directions, concat": (-2, 3)},
            "forward only",
            "macro_f1",
            "Both directions, concat and forward only show no clear difference (the former may still be up to 3.0 "
            "points of mean F1 better or 2.0 worse); both directions, sum and forward only show no clear difference "
            "(their scores are the same).",
        ),
        (
            {
                "both directions, concat": (-46, -39.4),
                "both directions, sum": (-20, -10),
                "both directions, sum / both directions, concat": (-1.2, 31),
            },
            "both directions, concat",
            "rmse",
            "Both directions, concat lower the RMSE by 0.394 to 0.46 compared with forward only; both directions, sum "
            "lower it by 0.1 to 0.2; concat and sum show no clear difference (the former's RMSE may still be up to "
            "0.31 lower or 0.012 higher).",
        ),
        (
            {"both directions, concat": (12, 120)},
            "forward only",
            "rmse",
            "Both directions, concat raise the RMSE by 0.12 to 1.2 compared with forward only.",
        ),
    ],
)
def test_the_sentence(differences: Any, best: str, score: str, expected: str) -> None:
    assert sentence(reported(differences, best, score), MERGED) == expected


@pytest.mark.parametrize(
    ("score", "sign", "by", "last"),
    [
        ("accuracy", 1, "2.0 to 4.0 points of accuracy", "layers 4 gains 1.0 to 2.0 points over layers 3"),
        ("rmse", -1, "0.02 to 0.04 in RMSE", "layers 4 lowers the RMSE by 0.01 to 0.02 compared with layers 3"),
    ],
)
def test_the_sentence_on_many_variants(score: str, sign: int, by: str, last: str) -> None:
    ends = {"layers 2": (-1, 1), "layers 3": (1, 2), "layers 4": (2, 4), "layers 5": (-3, -1), "layers 6": (-2, 0.5)}
    ends |= {"layers 7": (-1, 1), "layers 3 / layers 4": (-2, -1), "layers 2 / layers 4": (-3, -1)}
    signed: Any = {name: tuple(sorted(sign * end for end in each)) for name, each in ends.items()}
    report = reported(signed, "layers 4", score)
    for found in report["differences"]:
        found["against"] = found["against"].replace("forward only", "layers 1")
    assert sentence(report | {"reference": "layers 1"}, LAYERS) == (
        f"Of 6 variants compared with layers 1, 2 are better, layers 4 the most (by {by}); 1 is worse; 3 show no clear "
        f"difference; {last}."
    )


def test_notes_for_the_careful() -> None:
    sure = reported({"both directions": (1, 2)}, "both directions")
    assert notes(sure) == []
    assert notes(sure | {"caution": "The intervals rest on few."}) == ["test set: the intervals rest on few"]
    assert len(notes(reported({f"layers {n}": (1, 2) for n in range(6)}, "layers 1"))) == 1
    unsure = reported({"both directions": (-1, 2)}, "both directions")
    assert notes(unsure) == ["where variants show no clear difference, more seeds would tell more"]
    unsure["differences"][0]["accuracy"]["sequence_error"] = 0.015 / 1.96
    assert notes(unsure) == ["where variants show no clear difference, more test sequences would tell more"]
    grouped = notes(unsure | {"clusters": "groups"})
    assert grouped == ["where variants show no clear difference, more test groups would tell more"]
    runs = [
        {"variant": "forward only", "stopped": "all epochs done"},
        {"variant": "x", "stopped": "the time limit was reached"},
    ]
    limited = notes(sure | {"runs": runs})
    assert limited == ["the time limit ended 1 of 2 trainings (x), which may be undertrained"]


def test_every_score_has_words() -> None:
    compared = [*ClassScores.scores, *LabelSetScores.scores, *QuantityScores.scores, "span_f1"]
    assert {*compared} == {*SCORES}
    lower = [name for name, score in SCORES.items() if score.lower_is_better]
    assert lower == ["rmse", "mae"]
    assert QuantityScores.lower_is_better


# --- The command ---------------------------------------------------------------------------------------------------


def rows(sequences: int, seed: int = 0, labels: str = "word") -> str:
    """A table whose `state` tells whether the next `x` is positive; some have no label, and BIO if wanted."""
    rng = np.random.default_rng(seed)
    lines = ["id,t,x,state"]
    for sequence in range(sequences):
        positive = rng.random(rng.integers(3, 8)) < 0.5
        for step, now in enumerate(positive):
            following = step + 1 < len(positive) and bool(positive[step + 1])
            state = {"word": ["no", "yes"], "bio": ["O", "I-x"]}[labels][following]
            if labels == "bio" and state == "I-x" and rng.random() < 0.5:
                state = "B-x"
            x = rng.random() if now else -rng.random()
            lines.append(f"s{sequence},{step},{x:.3f},{'' if rng.random() < 0.1 else state}")
    return "\n".join(lines) + "\n"


def invoke(*arguments: Any, status: int = 0) -> Result:
    result = CliRunner().invoke(commands, ["compare", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    (tmp_path / "train.csv").write_text(rows(60))
    for name in ("valid.csv", "test.csv"):
        (tmp_path / name).write_text(rows(30, seed=1))
    return tmp_path


def test_the_command(tables: Path) -> None:
    said = invoke(tables / "train.csv", *COLUMNS, *FLAGS, "--test", tables / "test.csv").stdout
    assert "\ntraining set: 54 sequences of 3 to 7 steps, " in said
    assert "\nvalidation set: 6 sequences of " in said
    assert "\ntest set: 30 sequences of " in said
    assert "\nto compare: forward only, backward only, both directions\n" in said
    assert re.search(
        r"\n  accuracy +points over forward only  units  parameters  seconds\n  always no +0\.\d{4}\n", said
    )
    for name in ("forward only", "backward only", "both directions"):
        found = re.findall(rf"\n  {name} +(0\.\d{{4}}) ± 0\.\d{{4}}(.*)", said)
        assert len(found) == 2  # accuracy and mean F1
        assert bool(re.search(r"[+-]\d+\.\d\d \[[+-]\d+\.\d\d, [+-]\d+\.\d\d\]", found[0][1])) == (
            name != "forward only"
        )
    assert "\nmean of 3 seeds ± " in said
    last = said.splitlines()[-1]
    assert last.endswith(".")
    quiet = invoke(tables / "train.csv", *COLUMNS, *FLAGS, "--test", tables / "test.csv", "--quiet").stdout
    assert "training set" not in quiet
    assert quiet.splitlines()[-1] == last


def test_a_label_that_no_training_saw_counts_as_wrong(tables: Path) -> None:
    report = {}
    for name, label in (("usual", None), ("strange", "strange"), ("unlabelled", "")):
        lines = (tables / "test.csv").read_text().splitlines()
        if label is not None:
            lines[1:21] = [f"{line.rpartition(',')[0]},{label}" for line in lines[1:21]]
        (tables / f"{name}.csv").write_text("\n".join(lines) + "\n")
        options = ["--test", tables / f"{name}.csv", "--valid", tables / "valid.csv", "--seeds", 1, "--json"]
        report[name] = json.loads(invoke(tables / "train.csv", *COLUMNS, *FLAGS, *options).stdout)
    steps = report["strange"]["steps"]
    assert report["unlabelled"]["steps"] == steps - 20
    for strange, without in zip(report["strange"]["runs"], report["unlabelled"]["runs"], strict=True):
        assert strange["accuracy"] * steps == pytest.approx(without["accuracy"] * (steps - 20))
        assert strange["history"] == without["history"]
    said = invoke(tables / "train.csv", *COLUMNS, *FLAGS, "--test", tables / "strange.csv", "--seeds", 1).stdout
    assert (
        "\nnote: test set: 20 steps with a label that is unknown to the model ('strange'), counted as wrong\n" in said
    )


def test_rows_with_lists_are_sequences(tmp_path: Path) -> None:
    files = {name: (tmp_path / f"{name}.ndjson", tmp_path / f"{name}.lists.ndjson") for name in ("train", "test")}
    for seed, (steps, lists) in enumerate(files.values()):
        table = list(csv.DictReader(io.StringIO(rows(30, seed=seed))))
        cells = [{"id": row["id"], "x": float(row["x"]), "state": row["state"] or None} for row in table]
        steps.write_text("".join(json.dumps(row) + "\n" for row in cells))
        sequences = [list(each) for _, each in itertools.groupby(cells, lambda row: row["id"])]
        lists.write_text(
            "".join(json.dumps({name: [row[name] for row in of] for name in ("x", "state")}) + "\n" for of in sequences)
        )
    found = []
    for place, roles in enumerate(([], ["--features", "x"])):
        table, test = (files[name][place] for name in ("train", "test"))
        columns = ["--label", "state", *(roles or ["--sequence", "id"])]
        report = json.loads(invoke(table, *columns, *FLAGS, "--test", test, "--seeds", 1, "--json").stdout)
        found.append(without_seconds({**report, "table": None, "test": None}))
    assert found[0] == found[1]


def write_csv(path: Path, columns: dict[str, list[Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def test_labels_in_a_file_of_their_own(tmp_path: Path) -> None:
    """The same as in the table, and as what Python gives."""
    columns, _ = long_table("sequence-label")
    firsts = [columns["id"].index(name) for name in dict.fromkeys(columns["id"])]
    steps = write_csv(tmp_path / "steps.csv", {name: columns[name] for name in ("id", "t", "x")})
    labels = {name: [columns[name][row] for row in firsts] for name in ("id", "state")}
    beside = write_csv(tmp_path / "labels.csv", labels)
    within = write_csv(tmp_path / "table.csv", {name: columns[name] for name in ("id", "t", "x", "state")})
    flags = ["--sequence", "id", "--order", "t", "--vary", "pooling=mean,max", "--seeds", 1, *FLAGS, "--json"]
    first = json.loads(invoke(steps, "--labels", beside, *flags).stdout)
    second = json.loads(invoke(within, "--label", "state", *flags).stdout)
    third = json.loads(
        invoke(
            steps, "--labels", beside, "--test", steps.with_name("table.csv"), "--test-labels", beside, *flags
        ).stdout
    )
    assert first["task"] == "sequence-label"
    assert [variant["name"] for variant in first["variants"]] == ["pooling mean", "pooling max"]
    assert without_seconds(first["runs"]) == without_seconds(second["runs"])
    assert third["sequences"]["test"] == 40
    options = {**SMALL, "units": 6, "epochs": 3, "seeds": 1, "vary": {"pooling": ["mean", "max"]}}
    assert without_seconds(compare(str(within), label="state", **LONG, **options)["runs"]) == without_seconds(
        second["runs"]
    )


def test_quantities_on_the_command_line(tmp_path: Path) -> None:
    columns, _ = long_table("step-quantity")
    del columns["patient"]
    path = write_csv(tmp_path / "table.csv", columns)
    flags = ["--sequence", "id", "--order", "t", "--label", "sum", "--task", "step-quantity", *FLAGS]
    said = invoke(path, *flags, "--out", tmp_path / "out.svg").stdout
    assert re.search(r"\n  RMSE, lower is better +difference from forward only  units  parameters  seconds\n", said)
    assert re.search(r"\n  always the training mean +\d\.\d+\n", said)
    assert "\n  MAE, lower is better " in said
    assert "\n  R² " in said
    svg = (tmp_path / "out.svg").read_text()
    assert "<!-- loss on the validation set -->" in svg
    assert "<!-- reduction of RMSE -->" in svg


def test_convolutions_on_the_command_line(tables: Path) -> None:
    flags = ["--units", 3, "--seeds", 1, "--epochs", 1, "--layers", 1, "--json"]
    report = json.loads(invoke(tables / "train.csv", *COLUMNS, *flags, "--vary", "conv=none,4x3,4x3+3x2").stdout)
    names = ["no convolution", "convolution 4x3", "convolution 4x3+3x2"]
    assert [variant["name"] for variant in report["variants"]] == names
    sizes = []
    for conv in ([], ["--conv", "4x3"], ["--conv", "4x3+3x2"]):
        report = json.loads(invoke(tables / "train.csv", *COLUMNS, *flags, *conv).stdout)
        sizes.append(report["variants"][0]["parameters"])
    assert len(set(sizes)) == 3


def test_class_weights_on_the_command_line(tables: Path) -> None:
    flags = ["--vary", "units=2,3", "--seeds", 1, "--epochs", 1, "--layers", 1, "--json"]
    for weights in (["--class-weight", "balanced"], ["--class-weight", "yes=3"]):
        report = json.loads(invoke(tables / "train.csv", *COLUMNS, *flags, *weights).stdout)
        assert any("class weights count in training only" in note for note in report["notes"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--vary", "unit=1,2"], "--vary unit=1,2: 'unit' cannot vary."),
        (["--vary", "units=1,2", "--units", 3], "units varies, so it cannot have one value as well"),
        (["--vary", "pooling=mean,max"], "pooling has no effect"),
        (["--test", "test.csv", "--test-split", "0.5"], "test is a set of its own, so test_split has no effect"),
        (["--test", "train.csv"], "TABLE and --test are the same file"),
        (["--group", "gone"], "has no column 'gone'"),
        (["--learning-rate", "inf"], "training: learning_rate must be a positive number, not inf"),
    ],
)
def test_errors_on_the_command_line(tables: Path, monkeypatch: pytest.MonkeyPatch, flags: Any, message: str) -> None:
    monkeypatch.chdir(tables)
    result = invoke("train.csv", *COLUMNS, *flags, status=2)
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_json_is_the_same_each_time(tables: Path) -> None:
    arguments = [tables / "train.csv", *COLUMNS, *FLAGS, "--vary", "batch_size=2,3", "--seeds", 2, "--json"]
    found = json.loads(invoke(*arguments).stdout)
    assert (found["table"], found["test"]) == (str(tables / "train.csv"), None)
    assert found["sequences"] == {"training": 42, "validation": 6, "test": 12}
    repeated = json.loads(invoke(*arguments, "--threads", 2).stdout)
    assert without_seconds(repeated) == without_seconds(found)


@pytest.mark.parametrize(
    ("vary", "names"),
    [
        (["direction=both,forward"], ["both directions", "forward only"]),
        (
            ["merge-mode=sum, mul", "dropout=0,0.5"],
            ["sum, dropout 0.0", "sum, dropout 0.5", "mul, dropout 0.0", "mul, dropout 0.5"],
        ),
        (
            ["merge_mode=concat,sum", "direction=none,both"],
            ["no context", "both directions, concat", "both directions, sum"],
        ),
        (["cell=lstm,gru,simple"], ["LSTM", "GRU", "SimpleRNN"]),
    ],
)
def test_what_varies(tables: Path, vary: list[str], names: list[str]) -> None:
    flags = [flag for text in vary for flag in ("--vary", text)]
    small = ["--seeds", 1, "--units", 3, "--layers", 1, "--epochs", 1]
    report = json.loads(invoke(tables / "train.csv", *COLUMNS, *flags, *small, "--json").stdout)
    assert [variant["name"] for variant in report["variants"]] == names


@pytest.mark.parametrize(
    ("flags", "sequences"),
    [
        ([], {"training": 42, "validation": 6, "test": 12}),
        (["--test-split", "0.5", "--validation-split", "0.25"], {"training": 15, "validation": 15, "test": 30}),
        (["--test", "test.csv"], {"training": 54, "validation": 6, "test": 30}),
        (["--valid", "test.csv"], {"training": 48, "validation": 30, "test": 12}),
        (["--valid", "valid.csv", "--test", "test.csv"], {"training": 60, "validation": 30, "test": 30}),
    ],
)
def test_what_is_set_aside(tables: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], sequences: Any) -> None:
    monkeypatch.chdir(tables)
    small = ["--vary", "units=1,2", "--seeds", 1, "--layers", 1, "--epochs", 1, "--json"]
    assert json.loads(invoke("train.csv", *COLUMNS, *small, *flags).stdout)["sequences"] == sequences


def test_groups_are_set_aside_together(tables: Path) -> None:
    lines = (tables / "train.csv").read_text().splitlines()
    grouped = [f"{line},{'who' if line.startswith('id') else int(line[1:].partition(',')[0]) // 6}" for line in lines]
    (tables / "train.csv").write_text("\n".join(grouped) + "\n")
    small = ["--vary", "units=1,2", "--seeds", 1, "--layers", 1, "--epochs", 1, "--json"]
    report = json.loads(invoke(tables / "train.csv", *COLUMNS, *small, "--group", "who").stdout)
    assert report["sequences"] == {"training": 42, "validation": 6, "test": 12}
    assert report["clusters"] == "groups"
    assert report["caution"].startswith("Only 2 groups have labels")


def test_the_same_size(tables: Path) -> None:
    small = ["--vary", "direction=forward,both", "--seeds", 1, "--layers", 1, "--epochs", 1, "--units", 8, "--json"]
    for flags, units in (([], [8, 8]), (["--same-size"], [12, 8])):
        report = json.loads(invoke(tables / "train.csv", *COLUMNS, *small, *flags).stdout)
        assert [variant["units"] for variant in report["variants"]] == units


def test_early_stopping_and_time_limits(tables: Path) -> None:
    small = ["--vary", "units=1,2", "--seeds", 1, "--layers", 1, "--epochs", 60, "--json"]
    whole = json.loads(invoke(tables / "train.csv", *COLUMNS, *small).stdout)
    assert {run["epochs"] for run in whole["runs"]} == {60}
    stopped = json.loads(invoke(tables / "train.csv", *COLUMNS, *small, "--patience", 2).stdout)
    assert all(run["epochs"] == min(60, run["best_epoch"] + 2) for run in stopped["runs"])
    assert stopped["runs"] != whole["runs"]
    limited = json.loads(invoke(tables / "train.csv", *COLUMNS, *small, "--time-limit", 1e-6).stdout)
    assert {run["epochs"] for run in limited["runs"]} == {1}
    assert any(note.startswith("the time limit ended 2 of 2 trainings (units 1; units 2)") for note in limited["notes"])


@pytest.mark.parametrize(("name", "units"), [("out.png", "1,2"), ("out.svg", "1,2,3,4,5,6,7")])
def test_the_picture(tables: Path, name: str, units: str) -> None:
    small = ["--vary", f"units={units}", "--seeds", 1, "--layers", 1, "--epochs", len(units) // 6 + 1]
    said = invoke(tables / "train.csv", *COLUMNS, *small, "--out", tables / name).stdout
    assert said.endswith(f"{tables / name}: learning curves and differences\n")
    content = (tables / name).read_bytes()
    assert content.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")
    assert sorted(path.name for path in tables.iterdir()) == sorted(["train.csv", "valid.csv", "test.csv", name])


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("run", [1, 2, 3])
def test_a_stopped_comparison_prints_what_it_has(
    tables: Path, monkeypatch: pytest.MonkeyPatch, number: int, status: int, run: int
) -> None:
    def stop(_: Progress, figures: dict[str, Any]) -> None:
        if figures["run"] == run and figures["epoch"] == 2:
            raise Stopped(number)

    monkeypatch.setattr(Progress, "__call__", stop)
    result = invoke(tables / "train.csv", *COLUMNS, *FLAGS, "--out", tables / "out.svg", status=status)
    if run == 1:
        assert result.stderr == "bilstm: stopped before there was a result\n"
        assert not (tables / "out.svg").exists()
        return
    counted = f"{run - 1} of 9 trainings"
    assert result.stderr == f"bilstm: stopped after {counted}\n"
    assert f"\nnote: only {counted} completed\n" in result.stdout
    assert re.search(r"\n  both directions +– +6 +[0-9]+ +–\n", result.stdout)
    assert "\nmean of at most 1 seed ± " in result.stdout
    assert (tables / "out.svg").exists()


class Terminal:
    """A standard error that someone watches."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


def test_the_bar_counts_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with Progress(quiet=False) as progress:
        for run, name in ((1, "one"), (2, "two")):
            about = {"run": run, "runs": 2, "variant": name, "seed": 1, "epochs": 4}
            progress({"epoch": 1, "done": 0.0, "loss": 0.5, **about})
            time.sleep(0.11)  # a bar is drawn ten times a second at most
            progress({"epoch": 3, "done": 1.0, "loss": 0.25, "val_loss": 0.3, "val_accuracy": 0.9, **about})
    assert "training 0.8 of 2 |" in terminal.text
    assert "training 1.8 of 2 |" in terminal.text
    assert "with=two" in terminal.text


def test_the_defaults_that_help_tells() -> None:
    said = " ".join(invoke("--help").stdout.split())
    for name, default in module.DEFAULTS.items():
        part = said.partition(f"--{name.replace('_', '-')} ")[2].partition(" --")[0]
        assert (f"[default: {default}]" in part) == (name in ("units", "layers", "validation_split"))
    assert f"--test-split FLOAT RANGE Share of the sequences for the test set. [default: {module.TEST_SPLIT}]" in said
    assert f"[default: {SEEDS}; x>=1]" in said
    assert "[default: direction=forward,backward,both]" in said
