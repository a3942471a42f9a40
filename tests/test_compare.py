"""Comparisons of variants: from Python and on the command line."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import bilstm.compare.comparison as module
from bilstm.cli import commands
from bilstm.compare import ComparisonInterrupted, compare, compare_encoded
from bilstm.compare.comparison import learning_curve
from bilstm.compare.variants import grid
from bilstm.compare.verdict import notes, sentence, table
from bilstm.console import Progress, Stopped
from bilstm.data.columns import Encoded
from bilstm.data.prepare import Roles, prepare
from bilstm.data.reading import read_table
from bilstm.errors import DivergedError, UserError
from bilstm.metrics import classification_report
from bilstm.problems import cumulative_sum, half_of_total
from bilstm.tagging.evaluation import evaluate_tagger
from bilstm.tagging.training import train_tagger
from bilstm.training.options import TrainingOptions
from bilstm.utils import set_threads, threads

SMALL: dict[str, Any] = {"units": 6, "layers": 1, "epochs": 8, "learning_rate": 0.02, "dropout": 0.0}
FLAGS = ["--units", "6", "--layers", "1", "--epochs", "3", "--learning-rate", "0.02", "--dropout", "0"]
COLUMNS = ["--sequence", "id", "--order", "t", "--label", "state"]


def without_seconds(report: Any) -> Any:
    """The report but for what no seed decides."""
    if isinstance(report, dict):
        return {name: without_seconds(value) for name, value in report.items() if name != "seconds"}
    return [without_seconds(value) for value in report] if isinstance(report, list) else report


@pytest.fixture(scope="module")
def halves() -> dict[str, Any]:
    """Of a problem in which both sides are needed."""
    return compare(*half_of_total(250, (4, 10), seed=1), **SMALL)


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


def test_the_second_direction_gains_nothing_where_only_the_past_counts() -> None:
    report = compare(*cumulative_sum(300, 8, seed=1), vary={"direction": ["forward", "both"]}, seeds=2, **SMALL)
    (found,) = report["differences"]
    assert found["accuracy"]["low"] <= 0 <= found["accuracy"]["high"]
    up, down = (f"{100 * size:.1f}" for size in (found["accuracy"]["high"], -found["accuracy"]["low"]))
    assert report["sentence"] == (
        f"Both directions and forward only do not differ (the former may still be up to {up} points of accuracy better "
        f"or {down} worse)."
    )
    assert any(note.startswith("where variants do not differ, more ") for note in report["notes"])


def test_the_report_is_plain_and_whole(halves: dict[str, Any]) -> None:
    assert json.loads(json.dumps(halves)) == halves
    assert (halves["planned"], halves["finished"], halves["seeds"], halves["failed"]) == (9, 9, [1, 2, 3], [])
    assert halves["sequences"] == {"training": 175, "validation": 25, "test": 50}
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


def encoded(folder: Path, sequences: int = 40, labels: str = "word") -> tuple[Any, ...]:
    """Columns, and sequences to train on, to validate on and to score by."""
    path = folder / "table.csv"
    path.write_text(rows(sequences, labels=labels))
    prepared = prepare(read_table(path), Roles("id", "state", "t"), validation_split=0.5)
    assert prepared.validation is not None
    others = prepared.validation
    half = len(others.values) // 2
    return prepared.columns, prepared.training, others.take(range(half)), others.take(range(half, len(others.values)))


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


@pytest.mark.parametrize("labels", ["word", "bio"])
def test_scores_are_those_of_evaluate(tmp_path: Path, labels: str) -> None:
    columns, training, validation, test = encoded(tmp_path, labels=labels)
    options = TrainingOptions(seed=5, patience=100, **SMALL)
    variants = grid({"direction": ["none", "both"]}, options)
    report = compare_encoded(columns, training, validation, test, variants, seeds=2)
    assert report["score"] == ("span_f1" if labels == "bio" else "accuracy")
    for run in report["runs"]:
        direction = {"no context": "none", "both directions": "both"}[run["variant"]]
        own = TrainingOptions(**{**SMALL, "seed": run["seed"], "direction": direction, "patience": 100})
        tagger = train_tagger(columns, training, validation, options=own)
        expected = evaluate_tagger(tagger, test)
        assert run["accuracy"] == expected["accuracy"]
        assert run["macro_f1"] == pytest.approx(expected["macro_f1"])
        assert run["history"] == tagger.training["history"]
        if labels == "bio":
            assert run["span_f1"] == pytest.approx(expected["spans"]["f1"])
    majority = int(np.bincount(training.labels[training.labels >= 0]).argmax())
    always = classification_report(test.labels, np.full(len(test.labels), majority), len(columns.classes))
    assert report["majority"]["label"] == columns.classes[majority]
    assert report["majority"]["accuracy"] == always["accuracy"]
    assert report["majority"]["macro_f1"] == pytest.approx(always["macro_f1"])
    assert report["steps"] == always["steps"]


def test_test_sequences_of_their_own() -> None:
    X, y = half_of_total(60, 6, seed=1)
    X_test, y_test = half_of_total(30, 9, seed=2)
    options: dict[str, Any] = {**SMALL, "vary": {"units": [3, 5]}, "seeds": 1}
    report = compare(X, y, X_test=X_test, y_test=y_test, **options)
    assert report["sequences"] == {"training": 54, "validation": 6, "test": 30}
    assert report["steps"] == 270
    assert compare(X, y, test_split=0.5, **options)["sequences"] == {"training": 24, "validation": 6, "test": 30}
    assert compare(X, y, validation_split=None, **options)["sequences"] == compare(X, y, **options)["sequences"]
    wider = compare(X, y, validation_split=0.4, **options)["sequences"]
    assert wider == {"training": 24, "validation": 24, "test": 12}


def test_nothing_stands_on_two_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a sequence nor a group."""
    sides: list[set[int]] = []

    def kept(columns: Any, *parts: Encoded, **_: Any) -> dict[str, Any]:
        (column,) = columns.numeric
        for part in parts[:3]:
            sides.append(set(np.rint(part.values.values[:, 0] * column.scale + column.mean).astype(int).tolist()))
        return {}

    monkeypatch.setattr("bilstm.compare.sequences.compare_encoded", kept)
    X = np.arange(60).repeat(3).reshape(60, 3)  # its number stands at each step of a sequence
    for groups in (None, np.arange(60) // 4):
        sides.clear()
        compare(X, np.tile([0, 1, 0], (60, 1)), groups=groups)
        assert set.union(*sides) == set(range(60))
        assert sum(map(len, sides)) == 60
        if groups is not None:
            assert sum(len({number // 4 for number in side}) for side in sides) == 15


def test_variants_of_one_size() -> None:
    X, y = half_of_total(40, 5, seed=1)
    options: dict[str, Any] = {**SMALL, "epochs": 1, "seeds": 1}
    own = compare(X, y, **options)["variants"]
    same = compare(X, y, **options, same_size=True)["variants"]
    largest = own[-1]["parameters"]
    assert [variant["units"] for variant in own] == [6, 6, 6]
    assert same[-1] == own[-1] | {"seconds": same[-1]["seconds"]}
    for variant in same[:-1]:
        size = {units: 4 * units * (1 + units + 1) + 2 * (units + 1) for units in range(1, 50)}
        assert variant["parameters"] == min(size.values(), key=lambda each: abs(each - largest))
        assert variant["parameters"] == size[variant["units"]]
    layers = compare(X, y, **options, vary={"layers": [1, 3], "direction": ["none", "both"]}, same_size=True)[
        "variants"
    ]
    sizes = [variant["parameters"] for variant in layers]
    assert max(sizes) < 1.1 * min(sizes)


def test_tables_of_pandas_and_polars() -> None:
    """The same report as for the arrays they are made of."""
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    X, y = half_of_total(40, (3, 6), seed=1)
    rows = {
        "id": np.repeat(np.arange(40), X.lengths),
        "t": np.concatenate([np.arange(steps) for steps in X.lengths]),
        "x": X.values[:, 0].astype(np.float64),
        "late": y.values[:, 0].astype(np.int64),
        "patient": np.repeat(np.arange(40) // 4, X.lengths),
    }
    options: dict[str, Any] = {**SMALL, "vary": {"units": [2, 3]}, "seeds": 1, "epochs": 1}
    expected = without_seconds(compare(X, y, groups=np.arange(40) // 4, **options))
    table = pandas.DataFrame(rows)
    columns: dict[str, Any] = {"sequence": "id", "order": "t"}
    assert without_seconds(compare(table, "late", groups="patient", **columns, **options)) == expected
    shuffled = polars.DataFrame(rows).drop("patient").sample(fraction=1, shuffle=True, seed=1)
    tested = compare(shuffled, "late", X_test=table, y_test="late", **columns, **options)
    assert tested["sequences"] == {"training": 36, "validation": 4, "test": 40}
    with pytest.raises(ValueError, match="X has no column 'x'"):
        compare(table, "late", X_test=table.rename(columns={"x": "z"}), y_test="late", **columns, **options)


def test_words() -> None:
    X = [text.split() for text in ["a b c", "b a", "c c a", "a c", "b b a", "c a b"] * 10]
    y = [[word == "a" for word in words] for words in X]
    report = compare(X, y, vary={"embedding": [2, 4]}, seeds=1, **SMALL)
    assert [variant["name"] for variant in report["variants"]] == ["embedding 2", "embedding 4"]
    assert report["majority"]["label"] == "False"


def test_training_that_diverges_is_left_out_and_said() -> None:
    X, y = half_of_total(60, 6, seed=1)
    options: dict[str, Any] = {**SMALL, "seeds": 2, "batch_size": 2}
    rates = {"learning_rate": [0.02, 0.01, 1e38]}
    report = compare(X, y, **{**options, "vary": rates})
    assert [(run["variant"], run["seed"]) for run in report["failed"]] == [
        ("learning rate 1e+38", 1),
        ("learning rate 1e+38", 2),
    ]
    assert report["variants"][2]["runs"] == 0
    assert "scores" not in report["variants"][2]
    assert [found["variant"] for found in report["differences"]][:1] == ["learning rate 0.01"]
    assert (
        "learning rate 1e+38: 2 of 2 trainings diverged and are left out; try a smaller learning rate"
        in report["notes"]
    )
    assert re.search(r"\n  learning rate 1e\+38 +– +6 +410 +–\n", "\n".join(table(report)))
    first = compare(X, y, **{**options, "vary": {"learning_rate": [1e38, 0.02, 0.01]}})
    assert {found["against"] for found in first["differences"]} == {first["best"]}
    assert first["best"] in first["sentence"]
    with pytest.raises(DivergedError):
        compare(X, y, vary={"units": [3, 4]}, **{**options, "learning_rate": 1e38})


@pytest.mark.parametrize("stop", [1, 3, 8])
def test_an_interrupt_keeps_what_has_ended(stop: int) -> None:
    X, y = half_of_total(60, 6, seed=1)
    whole = compare(X, y, **{**SMALL, "epochs": 2})

    def interrupt(figures: dict[str, Any]) -> None:
        if figures["run"] == stop and figures["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        compare(X, y, progress=interrupt, **{**SMALL, "epochs": 2})
    if stop == 1:
        assert not isinstance(caught.value, ComparisonInterrupted)
        return
    assert isinstance(caught.value, ComparisonInterrupted)
    assert str(caught.value) == f"stopped after {stop - 1} of 9 trainings"
    report = caught.value.report
    assert without_seconds(report["runs"]) == without_seconds(whole["runs"][: stop - 1])
    assert report["finished"] == stop - 1
    assert f"only {stop - 1} of 9 trainings came to their end" in report["notes"]
    assert [variant["runs"] for variant in report["variants"]] == {3: [1, 1, 0], 8: [3, 2, 2]}[stop]
    seeds = {found["variant"]: found["seeds"] for found in report["differences"] if found["against"] == "forward only"}
    assert seeds == {3: {"backward only": 1}, 8: {"backward only": 2, "both directions": 2}}[stop]


def test_after_one_training_there_is_nothing_to_compare() -> None:
    def interrupt(figures: dict[str, Any]) -> None:
        if figures["run"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(ComparisonInterrupted) as caught:
        compare(*half_of_total(60, 6, seed=1), progress=interrupt, **{**SMALL, "epochs": 1})
    expected = "Of one variant only, forward only, a training has ended: there is nothing to compare it with."
    assert caught.value.report["sentence"] == expected


def test_progress_tells_which_training() -> None:
    told: list[dict[str, Any]] = []
    compare(
        *half_of_total(40, 4, seed=1), vary={"units": [2, 3]}, seeds=2, progress=told.append, **{**SMALL, "epochs": 2}
    )
    ends = [each for each in told if each["done"] == 1]
    found = [(each["run"], each["runs"], each["variant"], each["seed"], each["epoch"]) for each in ends]
    plan = [("units 2", 1), ("units 3", 1), ("units 2", 2), ("units 3", 2)]
    assert found == [(run, 4, *about, epoch) for run, about in enumerate(plan, 1) for epoch in (1, 2)]


def test_a_curve_goes_on_at_its_best_where_training_has_ended() -> None:
    runs = [{"history": {"val_accuracy": curve}} for curve in ([0.5, 0.7, 0.6], [0.1, 0.2, 0.3, 0.4, 0.5])]
    curve = learning_curve(runs)
    np.testing.assert_allclose(curve["mean"], np.mean([[0.5, 0.7, 0.6, 0.7, 0.7], [0.1, 0.2, 0.3, 0.4, 0.5]], axis=0))
    assert learning_curve(runs[:1]) == {"mean": [0.5, 0.7, 0.6], "deviation": [0, 0, 0]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"unit": 3}, "unexpected keyword argument 'unit'"),
        ({"units": 0}, "training: units must be at least 1, not 0"),
        ({"seeds": 0}, "compare: seeds must be at least 1, not 0"),
        ({"vary": {"unit": [1, 2]}}, "'unit' cannot vary. Did you mean 'units'?"),
        ({"vary": {"embedding": [1, 2]}}, "embedding cannot vary here: there are no words or categories to embed"),
        (
            {"vary": {"units": [1, 2]}, "same_size": True},
            "units cannot vary where they are chosen to make all variants",
        ),
        ({"test_split": 0}, "test_split must be above 0: without sequences held out there is nothing to compare by"),
        ({"test_split": 1}, "compare: test_split must be at least 0 and below 1, not 1"),
        ({"validation_split": 0}, "validation_split must be above 0"),
        (
            {"test_split": 0.5, "validation_split": 0.5},
            "validation_split and test_split together are 1: nothing is left",
        ),
        ({"test_split": 0.01, "validation_split": 0.01}, "only 1 sequence held out: too few to find the best epoch by"),
        ({"groups": [0] * 39 + [1]}, "only 1 group held out: too few to find the best epoch by"),
        ({"X_test": np.zeros((4, 5, 2)), "y_test": np.zeros((4, 5))}, "X_test has 2 features, but X has 1"),
        (
            {"X_test": np.zeros((4, 5)), "y_test": np.full((4, 5), 2)},
            "y has the label '2', which is none of the classes",
        ),
        ({"X_test": np.zeros((4, 5))}, "X_test and y_test are given together, or neither is"),
        ({"y_test": np.zeros((4, 5))}, "X_test and y_test are given together, or neither is"),
        ({"X_test": np.zeros((1, 5)), "y_test": np.zeros((1, 5))}, "1 labelled sequence to score by, but how sure"),
    ],
)
def test_what_cannot_be_compared(arguments: Any, message: str) -> None:
    X, y = half_of_total(40, 5, seed=1)
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        compare(X, y, **arguments)


def test_class_weights_are_not_compared() -> None:
    with pytest.raises(UserError, match="leave class_weight out"):
        compare(*half_of_total(40, 5, seed=1), class_weight="balanced")


def test_several_labels_for_each_step_are_not_compared() -> None:
    X, y = half_of_total(40, 5, seed=1)
    with pytest.raises(ValueError, match="y has several labels for each step: compare by one of them"):
        compare(X, np.concatenate([y, 1 - y], axis=2))


# --- Words ---------------------------------------------------------------------------------------------------------


def told(
    differences: dict[str, tuple[float, float]], best: str, score: str = "accuracy", **more: Any
) -> dict[str, Any]:
    """As much of a report as its sentence and notes need; of each variant the ends of its interval, in points."""
    found = [
        {
            "variant": name.partition(" / ")[0],
            "against": name.partition(" / ")[2] or "forward only",
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
    return report | {"sequences": {"test": 50}} | more


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
            "3.7 to 4.5 over it; concat and sum do not differ (the former may still be up to 0.3 points better or 0.1 "
            "worse).",
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
            "accuracy",
            "Both directions, concat and forward only do not differ (the former may still be up to 3.0 points of "
            "accuracy better or 2.0 worse); both directions, sum and forward only do not differ (on no test sequence "
            "at all).",
        ),
    ],
)
def test_the_sentence(differences: Any, best: str, score: str, expected: str) -> None:
    assert sentence(told(differences, best, score), MERGED) == expected


def test_the_sentence_on_many_variants() -> None:
    ends = {"layers 2": (-1, 1), "layers 3": (1, 2), "layers 4": (2, 4), "layers 5": (-3, -1), "layers 6": (-2, 0.5)}
    ends |= {"layers 7": (-1, 1), "layers 3 / layers 4": (-2, -1), "layers 2 / layers 4": (-3, -1)}
    report = told(ends, "layers 4")
    for found in report["differences"]:
        found["against"] = found["against"].replace("forward only", "layers 1")
    assert sentence(report | {"reference": "layers 1"}, LAYERS) == (
        "Compared with layers 1, 2 of 6 other variants gain over it, the most layers 4 2.0 to 4.0 points of accuracy; "
        "1 variant loses against it; 3 variants do not differ from it; layers 4 gains 1.0 to 2.0 points over layers 3."
    )


def test_notes_for_the_careful() -> None:
    sure = told({"both directions": (1, 2)}, "both directions")
    assert notes(sure) == []
    assert notes(sure | {"seeds": [1]}) == ["with one seed only, the intervals leave out what another would change"]
    few = notes(sure | {"sequences": {"test": 19}})
    assert few == ["only 19 sequences to score by: intervals come out too narrow"]
    assert len(notes(told({f"layers {n}": (1, 2) for n in range(6)}, "layers 1"))) == 1
    unsure = told({"both directions": (-1, 2)}, "both directions")
    assert notes(unsure) == ["where variants do not differ, more seeds would tell more"]
    unsure["differences"][0]["accuracy"]["sequence_error"] = 0.015 / 1.96
    assert notes(unsure) == ["where variants do not differ, more sequences to score by would tell more"]
    runs = [
        {"variant": "forward only", "stopped": "all epochs done"},
        {"variant": "x", "stopped": "the time limit was reached"},
    ]
    limited = notes(sure | {"runs": runs})
    assert limited == ["the time limit ended 1 of 2 trainings (x), which may be worse for want of time"]


# --- The command ---------------------------------------------------------------------------------------------------


def bilstm(*arguments: Any, status: int = 0) -> Result:
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
    said = bilstm(tables / "train.csv", *COLUMNS, *FLAGS, "--test", tables / "test.csv").stdout
    assert "\nto train on: 54 sequences of 3 to 7 steps, " in said
    assert "\nheld out to judge by: 6 sequences of " in said
    assert "\nto score by: 30 sequences of " in said
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
    quiet = bilstm(tables / "train.csv", *COLUMNS, *FLAGS, "--test", tables / "test.csv", "--quiet").stdout
    assert "to train on" not in quiet
    assert quiet.splitlines()[-1] == last


def test_a_label_that_no_training_saw_counts_as_wrong(tables: Path) -> None:
    report = {}
    for name, label in (("usual", None), ("strange", "strange"), ("unlabelled", "")):
        lines = (tables / "test.csv").read_text().splitlines()
        if label is not None:
            lines[1:21] = [f"{line.rpartition(',')[0]},{label}" for line in lines[1:21]]
        (tables / f"{name}.csv").write_text("\n".join(lines) + "\n")
        options = ["--test", tables / f"{name}.csv", "--valid", tables / "valid.csv", "--seeds", 1, "--json"]
        report[name] = json.loads(bilstm(tables / "train.csv", *COLUMNS, *FLAGS, *options).stdout)
    steps = report["strange"]["steps"]
    assert report["unlabelled"]["steps"] == steps - 20
    for strange, without in zip(report["strange"]["runs"], report["unlabelled"]["runs"], strict=True):
        assert strange["accuracy"] * steps == pytest.approx(without["accuracy"] * (steps - 20))
        assert strange["history"] == without["history"]
    said = bilstm(tables / "train.csv", *COLUMNS, *FLAGS, "--test", tables / "strange.csv", "--seeds", 1).stdout
    assert "\nnote on these: 20 steps with a label that is unknown to the model ('strange'), counted as wrong\n" in said


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
        report = json.loads(bilstm(table, *columns, *FLAGS, "--test", test, "--seeds", 1, "--json").stdout)
        found.append(without_seconds({**report, "table": None, "test": None}))
    assert found[0] == found[1]


def test_json_is_the_same_each_time(tables: Path) -> None:
    arguments = [tables / "train.csv", *COLUMNS, *FLAGS, "--vary", "batch_size=2,3", "--seeds", 2, "--json"]
    found = json.loads(bilstm(*arguments).stdout)
    assert (found["table"], found["test"]) == (str(tables / "train.csv"), None)
    assert found["sequences"] == {"training": 42, "validation": 6, "test": 12}
    repeated = json.loads(bilstm(*arguments, "--threads", 2).stdout)
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
    ],
)
def test_what_varies(tables: Path, vary: list[str], names: list[str]) -> None:
    flags = [flag for text in vary for flag in ("--vary", text)]
    small = ["--seeds", 1, "--units", 3, "--layers", 1, "--epochs", 1]
    report = json.loads(bilstm(tables / "train.csv", *COLUMNS, *flags, *small, "--json").stdout)
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
def test_what_is_held_out(tables: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], sequences: Any) -> None:
    monkeypatch.chdir(tables)
    small = ["--vary", "units=1,2", "--seeds", 1, "--layers", 1, "--epochs", 1, "--json"]
    assert json.loads(bilstm("train.csv", *COLUMNS, *small, *flags).stdout)["sequences"] == sequences


def test_groups_are_held_out_together(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (tables / "train.csv").read_text().splitlines()
    grouped = [f"{line},{'who' if line.startswith('id') else int(line[1:].partition(',')[0]) // 6}" for line in lines]
    (tables / "train.csv").write_text("\n".join(grouped) + "\n")
    counts: list[set[str]] = []
    original = module.compare_encoded

    def spied(columns: Any, training: Encoded, validation: Encoded, test: Encoded, *more: Any, **named: Any) -> Any:
        for part in (training, validation, test):
            counts.append({grouped[1 + row].rpartition(",")[2] for row in part.rows.tolist()})
        return original(columns, training, validation, test, *more, **named)

    monkeypatch.setattr(module, "compare_encoded", spied)
    small = ["--vary", "units=1,2", "--seeds", 1, "--layers", 1, "--epochs", 1, "--json"]
    report = json.loads(bilstm(tables / "train.csv", *COLUMNS, *small, "--group", "who").stdout)
    assert report["sequences"] == {"training": 42, "validation": 6, "test": 12}
    assert [len(side) for side in counts] == [7, 1, 2]
    assert len(set.union(*counts)) == 10


def test_the_same_size(tables: Path) -> None:
    small = ["--vary", "direction=forward,both", "--seeds", 1, "--layers", 1, "--epochs", 1, "--units", 8, "--json"]
    for flags, units in (([], [8, 8]), (["--same-size"], [12, 8])):
        report = json.loads(bilstm(tables / "train.csv", *COLUMNS, *small, *flags).stdout)
        assert [variant["units"] for variant in report["variants"]] == units


def test_early_stopping_and_time_limits(tables: Path) -> None:
    small = ["--vary", "units=1,2", "--seeds", 1, "--layers", 1, "--epochs", 60, "--json"]
    whole = json.loads(bilstm(tables / "train.csv", *COLUMNS, *small).stdout)
    assert {run["epochs"] for run in whole["runs"]} == {60}
    stopped = json.loads(bilstm(tables / "train.csv", *COLUMNS, *small, "--patience", 2).stdout)
    assert all(run["epochs"] == min(60, run["best_epoch"] + 2) for run in stopped["runs"])
    assert stopped["runs"] != whole["runs"]
    limited = json.loads(bilstm(tables / "train.csv", *COLUMNS, *small, "--time-limit", 1e-6).stdout)
    assert {run["epochs"] for run in limited["runs"]} == {1}
    assert any(note.startswith("the time limit ended 2 of 2 trainings (units 1; units 2)") for note in limited["notes"])


@pytest.mark.parametrize(("name", "units"), [("out.png", "1,2"), ("out.svg", "1,2,3,4,5,6,7")])
def test_the_picture(tables: Path, name: str, units: str) -> None:
    small = ["--vary", f"units={units}", "--seeds", 1, "--layers", 1, "--epochs", len(units) // 6 + 1]
    said = bilstm(tables / "train.csv", *COLUMNS, *small, "--out", tables / name).stdout
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
    result = bilstm(tables / "train.csv", *COLUMNS, *FLAGS, "--out", tables / "out.svg", status=status)
    if run == 1:
        assert result.stderr == "bilstm: stopped before there was a result\n"
        assert not (tables / "out.svg").exists()
        return
    counted = f"{run - 1} of 9 trainings"
    assert result.stderr == f"bilstm: stopped after {counted}\n"
    assert f"\nnote: only {counted} came to their end\n" in result.stdout
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
    said = " ".join(bilstm("--help").stdout.split())
    for name, default in module.DEFAULTS.items():
        part = said.partition(f"--{name.replace('_', '-')} ")[2].partition(" --")[0]
        assert (f"[default: {default}]" in part) == (name in ("units", "layers", "validation_split"))
    assert (
        f"--test-split FLOAT RANGE Share of the sequences held out to score by. [default: {module.TEST_SPLIT}]" in said
    )
    assert f"[default: {module.SEEDS}; x>=1]" in said
    assert "[default: direction=forward,backward,both]" in said
