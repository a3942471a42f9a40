"""What all scorers promise: streams, groups, cautions, gains; and what label sets and quantities score."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bilstm.metrics import (
    ClassScores,
    DetectionScores,
    LabelSetScores,
    QuantityScores,
    SpanScores,
    average_precision,
    classification_report,
    interval_caution,
    roc_auc,
    step_report,
    top_k_accuracy,
)

pytestmark = pytest.mark.fast

TAGS = ["B-X", "I-X", "O"]
Data = tuple[np.ndarray, np.ndarray, np.ndarray]


class Kind:
    """A kind of scorer, and how to make data for it."""

    def __init__(
        self, make: Callable[..., Any], truth: Callable[..., Any], guess: Callable[..., Any], main: str
    ) -> None:
        self.make, self.truth, self.guess, self.main = make, truth, guess, main

    def data(self, rng: np.random.Generator, lengths: Any, skill: Any = 0.0) -> Data:
        """(truth, predictions, offsets); a tenth of the steps is unlabelled. `skill` is one number, or one a step."""
        steps = int(np.sum(lengths))
        truth = self.truth(rng, steps)
        guess = self.guess(rng, truth, np.broadcast_to(skill, (steps,))[:, np.newaxis])
        truth[rng.random(steps) < 0.1] = -1 if truth.ndim == 1 else np.nan
        return truth, guess, np.cumsum([0, *lengths])

    def feed(self, scorer: Any, truth: np.ndarray, guess: np.ndarray, offsets: np.ndarray) -> None:
        if isinstance(scorer, SpanScores):
            scorer.add_spans(truth, guess.argmax(axis=1), offsets)
        elif isinstance(scorer, DetectionScores):
            scorer.add_events(truth, guess.argmax(axis=1), offsets, onset_tolerance=1, offset_tolerance=1)
        else:
            scorer.add(truth, guess, offsets)

    def fed(self, data: Data, **options: Any) -> Any:
        truth, _, offsets = data
        known = (truth >= 0) if truth.ndim == 1 else ~np.isnan(truth).any(axis=1)
        labelled = [known[start:stop].any() for start, stop in itertools.pairwise(offsets)]
        scorer = self.make(np.array(labelled, bool), **options)
        self.feed(scorer, *data)
        return scorer


def likely(rng: np.random.Generator, truth: np.ndarray, skill: np.ndarray) -> np.ndarray:
    rows = np.exp(rng.normal(size=(len(truth), 3)) + np.eye(3)[truth] * (1 + skill))
    return (rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)


def labels(rng: np.random.Generator, steps: int) -> np.ndarray:
    return rng.integers(0, 3, steps)


KINDS = {
    "classes": Kind(lambda labelled, **o: ClassScores(labelled, 3, **o), labels, likely, "accuracy"),
    "events": Kind(lambda labelled, **o: DetectionScores(labelled, 3, **o), labels, likely, "event_f1"),
    "spans": Kind(lambda labelled, **o: SpanScores(labelled, TAGS, **o), labels, likely, "span_f1"),
    "label sets": Kind(
        lambda labelled, **o: LabelSetScores(labelled, 3, **o),
        lambda rng, steps: (rng.random((steps, 3)) < [0.5, 0.2, 0.8]).astype(float),
        lambda rng, truth, skill: 1 / (1 + np.exp(-rng.normal(size=truth.shape) - (1 + skill) * (2 * truth - 1))),
        "macro_f1",
    ),
    "quantities": Kind(
        lambda labelled, **o: QuantityScores(labelled, 2, [3.0, -50.0], **o),
        lambda rng, steps: rng.normal([3, -50], [1, 10], (steps, 2)),
        lambda rng, truth, skill: truth + rng.normal(size=truth.shape) * [1, 10] * np.exp(-skill),
        "rmse",
    ),
}
EVERY = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def leading(report: dict[str, Any], main: str) -> float:
    return float(report["f1" if main in ("span_f1", "event_f1") else main])


# --- What all kinds share --------------------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("groups", [False, True])
def test_a_stream_scores_as_the_whole(kind: Kind, groups: bool) -> None:
    """To the last bit, however the sequences are divided."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 6, 60)
    truth, guess, offsets = kind.data(rng, lengths)
    options = {"groups": rng.integers(-3, 9, 60)} if groups else {}
    whole = kind.fed((truth, guess, offsets), **options)
    for ends in ([0, 1, 2, 2, 30, 60], range(61)):
        stream = kind.make(whole._cluster_of >= 0, **options)
        for start, stop in itertools.pairwise(ends):
            steps = slice(offsets[start], offsets[stop])
            kind.feed(stream, truth[steps], guess[steps], offsets[start : stop + 1] - offsets[start])
        assert stream.report() == whole.report()


@EVERY
def test_reports_are_plain_data_and_hold_the_leading_score(kind: Kind) -> None:
    scorer = kind.fed(kind.data(np.random.default_rng(1), [5] * 25))
    report = scorer.report()
    assert json.loads(json.dumps(report)) == report
    assert scorer.main == kind.main
    total = scorer.sums.total()
    assert float(scorer.scores[scorer.main](total)) == leading(report, scorer.main)
    assert report["caution"] is None
    for name, (low, high) in report["intervals"].items():
        assert low < report[name] < high, name


@EVERY
def test_groups_widen_intervals_of_what_they_share(kind: Kind) -> None:
    rng = np.random.default_rng(2)
    skill = np.repeat(rng.normal(1, 1, 20), 60)  # of 20 groups of 20 sequences of 3 steps
    data = kind.data(rng, [3] * 400, skill)
    groups = np.arange(400) // 20 * 7 - 30
    alone, grouped, shuffled = (kind.fed(data, groups=g).report() for g in (None, groups, rng.permutation(groups)))
    assert grouped["caution"] is None
    name = "f1" if kind.main in ("span_f1", "event_f1") else kind.main
    widths = [float(np.diff(report["intervals"][name])[0]) for report in (alone, grouped, shuffled)]
    assert widths[1] > 1.5 * widths[0]
    assert widths[2] == pytest.approx(widths[0], rel=0.5)
    assert leading(grouped, kind.main) == pytest.approx(leading(alone, kind.main), rel=1e-12)


@EVERY
def test_few_clusters_are_cautioned_of(kind: Kind) -> None:
    rng = np.random.default_rng(3)
    data = kind.data(rng, [30] * 20)
    assert kind.fed(data).report()["caution"] is None
    few = kind.fed(data, groups=np.arange(20) % 19).report()
    assert few["caution"] == interval_caution(19, "groups")
    assert few["intervals"] is not None
    none = kind.fed(data, groups=np.arange(20) % 2)
    assert none.report()["caution"] == interval_caution(2, "groups")
    assert none.report()["intervals"] is None
    assert none.gain(kind.fed(data, groups=np.arange(20) % 2)) == {"value": 0, "interval": None}


@EVERY
@pytest.mark.parametrize("groups", [False, True])
def test_gains_are_paired(kind: Kind, groups: bool) -> None:
    rng = np.random.default_rng(4)
    skill = np.repeat(rng.normal(0, 1, 100), 6)  # of both, by sequence
    truth, guess, offsets = kind.data(rng, [6] * 100, skill)
    changed = np.flatnonzero(rng.random(600) < 0.1)
    others = guess.copy()
    others[changed] = kind.guess(
        rng, np.nan_to_num(truth[changed]).astype(truth.dtype), -3.0 + np.zeros((len(changed), 1))
    )
    options = {"groups": np.arange(100) // 4} if groups else {}
    good, bad = (kind.fed((truth, rows, offsets), **options) for rows in (guess, others))
    gain, back = good.gain(bad), bad.gain(good)
    difference = leading(good.report(), kind.main) - leading(bad.report(), kind.main)
    assert gain["value"] == pytest.approx(abs(difference)) == -back["value"]
    low, high = gain["interval"]
    assert low < gain["value"] < high
    np.testing.assert_allclose(back["interval"], [-high, -low])
    if kind.main != "rmse":
        name = "f1" if kind.main in ("span_f1", "event_f1") else kind.main
        assert high - low < np.diff(good.report()["intervals"][name])[0]
    assert good.gain(good) == {"value": 0, "interval": [0, 0]}
    assert good.gain(bad) == gain
    for options in ({"level": 0.5}, {"resamples": 50}, {"seed": 1}):
        assert good.gain(bad, **options)["interval"] != gain["interval"]


@EVERY
def test_what_does_not_fit_is_refused(kind: Kind) -> None:
    rng = np.random.default_rng(5)
    data = kind.data(rng, [5] * 4)
    scorer = kind.fed(data)
    with pytest.raises(ValueError, match="^there are 4 sequences in all, but 8 were added$"):
        kind.feed(scorer, *data)
    with pytest.raises(ValueError, match="^a sequence has labels although `labelled` says that it has none$"):
        kind.feed(kind.make(np.array([True, True, True, False])), *data)
    for groups in ([1, 2], [[1, 2, 3, 4]], [0.5, 1, 2, 3], ["a", "b", "c", "d"]):
        with pytest.raises(ValueError, match="^groups must be 4 integers, one for each sequence, not "):
            kind.make(np.ones(4, bool), groups=groups)
    with pytest.raises(ValueError, match="^gain: both scorers must be of one kind and have the same sequences$"):
        scorer.gain(kind.fed(kind.data(rng, [5] * 5)))
    with pytest.raises(ValueError, match="^gain: "):
        scorer.gain(kind.fed(data, groups=[0, 0, 1, 2]))
    if kind.main not in ("span_f1", "event_f1"):
        with pytest.raises(ValueError, match="^no step is labelled, so there is nothing to score$"):
            kind.make(np.zeros(4, bool)).report()


def test_intervals_over_groups_hold_the_truth_as_often_as_they_say() -> None:
    """20 patients of 20 sequences: drawing sequences promises far too much."""
    rng = np.random.default_rng(6)
    held = np.zeros((400, 2), bool)
    groups = np.repeat(np.arange(20), 20)
    for trial, skill in enumerate(rng.normal(0, 1, (400, 20, 1, 1))):
        errors = (skill + rng.normal(0, 1, (20, 20, 5))).reshape(-1, 1)
        for which, of in enumerate((None, groups)):
            scorer = QuantityScores(np.ones(400, bool), 1, [0.0], groups=of)
            scorer.add(np.zeros((2000, 1)), errors, np.arange(0, 2001, 5))
            ends = scorer.intervals({"bias": lambda sums: sums.error[..., 0] / sums.steps}, resamples=200)
            assert ends is not None
            low, high = ends["bias"]
            held[trial, which] = low <= 0 <= high
    alone, grouped = held.mean(axis=0)
    assert alone < 0.6
    assert 0.9 <= grouped <= 0.98


@pytest.mark.parametrize(
    ("clusters", "of", "caution"),
    [
        (0, "sequences", "Only 0 sequences have labels, so no intervals are given: they need at least 3."),
        (1, "groups", "Only 1 group has labels, so no intervals are given: they need at least 3."),
        (2, "sequences", "Only 2 sequences have labels, so no intervals are given: they need at least 3."),
        (
            3,
            "groups",
            "The intervals rest on only 3 groups with labels and may be too narrow: at least 20 are advisable.",
        ),
        (19, "sequences", "The intervals rest on only 19 sequences with labels and may be too narrow: at least 20 are"),
        (20, "sequences", None),
    ],
)
def test_cautions(clusters: int, of: str, caution: str | None) -> None:
    found = interval_caution(clusters, of)
    assert found == caution if caution is None else (found or "").startswith(caution)


# --- Labels of one class each, of whole sequences --------------------------------------------------------------------


def test_whole_sequences_are_ranked_too() -> None:
    truth, given, _ = KINDS["classes"].data(np.random.default_rng(7), [1] * 50)
    offsets = np.arange(51)
    report = KINDS["classes"].fed((truth, given, offsets), per_sequence=True).report()
    expected = step_report(truth, given, offsets)
    assert report["labelled_sequences"] == expected.pop("steps") == (truth >= 0).sum()
    assert "steps" not in report
    assert {name: report[name] for name in expected} == expected
    assert report["top_k"] == {"2": top_k_accuracy(truth, given, 2)}
    assert report["roc_auc"] == roc_auc(truth, given)
    assert report["average_precision"] == average_precision(truth, given)
    assert json.loads(json.dumps(report)) == report


def test_the_number_of_classes_is_checked() -> None:
    scorer = ClassScores(np.ones(1, bool), 3)
    message = "labels have shape (steps,) and probabilities (steps, 3), not (1,) and (1, 2)"
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        scorer.add([0], [[0.5, 0.5]], [0, 1])


# --- Several labels at once ------------------------------------------------------------------------------------------


def label_sets(truth: Any, given: Any, offsets: Any, **options: Any) -> dict[str, Any]:
    scorer = LabelSetScores(np.ones(len(offsets) - 1, bool), np.shape(truth)[1], **options)
    scorer.add(truth, given, offsets)
    return scorer.report()


def test_one_label_scores_as_two_classes() -> None:
    truth, given, offsets = KINDS["label sets"].data(np.random.default_rng(8), [5] * 25)
    truth, given = truth[:, :1], given[:, :1]
    several = label_sets(truth, given, offsets)
    known = np.nan_to_num(truth[:, 0], nan=-1).astype(int)
    one = step_report(known, np.hstack([1 - given, given]), offsets)
    assert several["subset_accuracy"] == one["accuracy"] == pytest.approx(1 - several["hamming_loss"])
    assert several["log_loss"] == pytest.approx(one["log_loss"])
    assert several["majority"] == one["majority"]
    assert several["intervals"]["subset_accuracy"] == one["intervals"]["accuracy"]
    of_class, of_label = one["per_class"][1], several["per_label"][0]
    assert of_label | of_class == of_label
    assert several["macro_f1"] == several["micro_f1"] == of_class["f1"]


@pytest.mark.parametrize("count", ["steps", "labelled_sequences"])
def test_a_report_of_label_sets(count: str) -> None:
    truth = [[1, 0, 0], [1, 1, 0], [0, 1, 0], [1, np.nan, 0]]
    given = [[0.9, 0.5, 0.2], [0.4, 0.6, 0.2], [0.8, 0.7, 0.1], [0, 0, 0]]
    report = label_sets(truth, given, [0, 1, 2, 3, 4], per_sequence=count == "labelled_sequences")
    assert report[count] == 3
    assert report["subset_accuracy"] == pytest.approx(1 / 3)  # a half is no yes
    assert report["hamming_loss"] == pytest.approx(2 / 9)
    assert report["majority"] == pytest.approx(1 / 3)  # yes, yes, no
    assert report["micro_f1"] == pytest.approx(2 * 3 / (4 + 4))
    assert report["macro_f1"] == pytest.approx((0.5 + 1) / 2)  # the third label occurs nowhere
    precisions = [label["average_precision"] for label in report["per_label"]]
    assert precisions == [pytest.approx((1 + 2 / 3) / 2), 1.0, None]
    assert report["macro_average_precision"] == pytest.approx((5 / 6 + 1) / 2)
    assert [label["support"] for label in report["per_label"]] == [2, 2, 0]
    assert set(report["intervals"]) == {"micro_f1", "macro_f1", "subset_accuracy", "hamming_loss", "log_loss"}
    assert json.loads(json.dumps(report)) == report


def test_labels_that_never_hold_have_no_average_precision() -> None:
    report = label_sets([[0, 0]], [[0.2, 0.7]], [0, 1])
    assert report["macro_average_precision"] is None
    assert report["macro_f1"] == 0


# --- Quantities ------------------------------------------------------------------------------------------------------


def quantities(truth: Any, given: Any, means: Any = None, **options: Any) -> dict[str, Any]:
    means = np.nanmean(truth, axis=0) if means is None else means
    scorer = QuantityScores(np.ones(len(truth), bool), np.shape(truth)[1], means, **options)
    scorer.add(truth, given, np.arange(len(truth) + 1))
    return scorer.report()


@pytest.mark.parametrize("count", ["steps", "labelled_sequences"])
def test_a_report_of_quantities(count: str) -> None:
    truth = [[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [np.nan, 5.0]]
    given = [[1.0, 12.0], [2.0, 22.0], [6.0, 32.0], [0.0, 0.0]]
    report = quantities(truth, given, [1.0, 20.0], per_sequence=count == "labelled_sequences")
    assert report[count] == 3
    first, second = report["per_quantity"]
    assert [first[name] for name in ("mae", "rmse", "r2", "bias")] == pytest.approx([1, np.sqrt(3), 1 - 9 / 2, 1])
    assert [second[name] for name in ("mae", "rmse", "r2", "bias")] == pytest.approx([2, 2, 1 - 12 / 200, 2])
    for name in ("mae", "rmse", "r2"):
        assert report[name] == pytest.approx((first[name] + second[name]) / 2)
    guess = {"mae": (1 + 20 / 3) / 2, "rmse": (np.sqrt(5 / 3) + np.sqrt(200 / 3)) / 2, "r2": (1 - 5 / 2 + 0) / 2}
    assert report["mean_guess"] == pytest.approx(guess)
    assert second["intervals"]["bias"] == [2, 2]
    assert set(first["intervals"]) == {"mae", "rmse", "r2", "bias"}
    assert set(report["intervals"]) == {"mae", "rmse", "r2"}


def test_small_variation_of_large_values() -> None:
    """Sums of squares of the values themselves would leave nothing of it."""
    rng = np.random.default_rng(9)
    truth = rng.normal(0, 1, (500, 1))
    given = truth + rng.normal(0, 0.1, truth.shape)
    near, far = quantities(truth, given), quantities(truth + 2.0**30, given + 2.0**30)
    for name in ("mae", "rmse", "r2"):
        assert far[name] == pytest.approx(near[name], rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 3.3, 1e9])
def test_constant_quantities(value: float) -> None:
    """As in scikit-learn: 1 if all are right, else 0. The means are another's."""
    truth = np.full((50, 1), value)
    for means in ([value], [value - 7.7]):
        right = quantities(truth, truth, means)
        wrong = quantities(truth, truth + 1, means)
        assert (right["r2"], right["intervals"]["r2"]) == (1, [1, 1])
        assert (wrong["r2"], wrong["intervals"]["r2"]) == (0, [0, 0])


@pytest.mark.parametrize(
    ("truth", "given", "message"),
    [
        ([[np.inf, 0]], [[0, 0]], "quantities must be finite numbers, or NaN where a step is unlabelled"),
        ([[0, 0]], [[0, np.nan]], "predicted quantities must be finite numbers"),
        ([[0, 0]], [[0, -np.inf]], "predicted quantities must be finite numbers"),
        ([[0]], [[0]], "quantities and predictions have one shape (steps, 2), not (1, 1) and (1, 1)"),
        ([[0, 0]], [0, 0], "quantities and predictions have one shape (steps, 2), not (1, 2) and (2,)"),
        ([["a", "b"]], [[0, 0]], "quantities and predictions must be numbers, not <U1"),
    ],
)
def test_what_are_no_quantities(truth: Any, given: Any, message: str) -> None:
    scorer = QuantityScores(np.ones(1, bool), 2, [0.0, 0.0])
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        scorer.add(truth, given, [0, 1])


@pytest.mark.parametrize("means", [[0.0], [0.0, np.nan], [[0.0, 0.0]]])
def test_what_are_no_means(means: Any) -> None:
    with pytest.raises(ValueError, match="^means must be 2 finite numbers, not "):
        QuantityScores(np.ones(1, bool), 2, means)


def test_unlabelled_steps_may_be_predicted_anything() -> None:
    expected = quantities([[1.0], [2.0]], [[1.5], [2.0]], [0.0])
    assert quantities([[1.0], [2.0], [np.nan]], [[1.5], [2.0], [np.inf]], [0.0])["mae"] == expected["mae"]


def test_average_precision_by_its_definition() -> None:
    given = np.array([[0.7, 0.3], [0.7, 0.3], [0.6, 0.4], [0.2, 0.8]])
    found = average_precision([0, 1, 0, 1], given)
    # Of class 0: above 0.7 one of two is right, above 0.6 two of three.
    assert found["per_class"] == [pytest.approx(0.5 * 0.5 + 0.5 * 2 / 3), pytest.approx(0.5 * 1 + 0.5 * 2 / 4)]
    assert found["macro"] == pytest.approx(np.mean(found["per_class"]))
    assert average_precision([0, 0], given[:2]) == {"macro": 1.0, "per_class": [1.0, None]}
    assert classification_report([0, 0], [0, 0], 2)["accuracy"] == 1
