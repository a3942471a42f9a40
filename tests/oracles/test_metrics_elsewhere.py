"""Our scores and those of scikit-learn, SciPy and, where it is installed, seqeval."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import scipy.stats
import sklearn.metrics as theirs
from scipy.sparse.csgraph import maximum_bipartite_matching

from bilstm.metrics import (
    ClassScores,
    LabelSetScores,
    QuantityScores,
    calibration_curve,
    classification_report,
    confusion_matrix,
    event_report,
    find_events,
    log_loss,
    match_events,
    roc_auc,
    span_report,
    step_intervals,
    tags,
    top_k_accuracy,
)
from bilstm.metrics.conversion import tag_names

SEEDS = range(6)


def answers(seed: int, classes: int, steps: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """(labels, probabilities): some right, and with even seeds float32."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, steps)
    weights = rng.random((steps, classes)) + np.eye(classes)[labels] * rng.random((steps, 1))
    given = weights / weights.sum(axis=1, keepdims=True)
    return labels, given.astype(np.float32) if seed % 2 == 0 else given


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("seed", SEEDS)
def test_scores_of_steps(seed: int, classes: int) -> None:
    labels, given = answers(seed, classes)
    predicted = given.argmax(axis=1)
    predicted[labels == 0] %= 2
    ours = classification_report(labels, predicted, classes)
    expected: dict[str, Any] = {
        "accuracy": theirs.accuracy_score(labels, predicted),
        "balanced_accuracy": theirs.balanced_accuracy_score(labels, predicted),
    }
    for mean in ("macro", "weighted"):
        scores = theirs.precision_recall_fscore_support(labels, predicted, average=mean, zero_division=0)
        expected |= {
            f"{mean}_{name}": score for name, score in zip(("precision", "recall", "f1"), scores[:3], strict=True)
        }
    assert {name: ours[name] for name in expected} == pytest.approx(expected)
    by_class = theirs.precision_recall_fscore_support(labels, predicted, labels=range(classes), zero_division=0)
    for name, scores in zip(("precision", "recall", "f1", "support"), by_class, strict=True):
        np.testing.assert_allclose([score[name] for score in ours["per_class"]], scores)
    np.testing.assert_array_equal(
        confusion_matrix(labels, predicted, classes), theirs.confusion_matrix(labels, predicted, labels=range(classes))
    )


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("seed", SEEDS)
def test_scores_of_probabilities(seed: int, classes: int) -> None:
    labels, given = answers(seed, classes)
    assert log_loss(labels, given) == pytest.approx(theirs.log_loss(labels, given, labels=range(classes)), rel=1e-5)
    for k in range(1, classes):
        scores = given[:, 1] if classes == 2 else given
        expected = theirs.top_k_accuracy_score(labels, scores, k=k, labels=range(classes))
        assert top_k_accuracy(labels, given, k) == pytest.approx(expected)
    areas = roc_auc(labels, given)
    for class_, area in enumerate(areas["per_class"]):
        assert area == pytest.approx(theirs.roc_auc_score(labels == class_, given[:, class_]))
    if classes > 2 and given.dtype == np.float64:  # scikit-learn refuses float32 rows, whose sums are not exactly 1
        expected = theirs.roc_auc_score(labels, given, multi_class="ovr", average="macro")
        assert areas["macro"] == pytest.approx(expected)


@pytest.mark.parametrize("classes", [2, 7])
@pytest.mark.parametrize("seed", SEEDS)
def test_scores_of_whole_sequences(seed: int, classes: int) -> None:
    """scikit-learn is given the probabilities as they are kept, as float32."""
    labels, given = answers(seed, classes)
    scorer = ClassScores(np.ones(400, bool), classes, per_sequence=True)
    scorer.add(labels, given, np.arange(401))
    report, kept = scorer.report(), given.astype(np.float32)
    assert report["labelled_sequences"] == 400
    for k in (2, 3, 5):
        if k < classes:
            assert report["top_k"][str(k)] == theirs.top_k_accuracy_score(labels, kept, k=k, labels=range(classes))
    for name, score in (("roc_auc", theirs.roc_auc_score), ("average_precision", theirs.average_precision_score)):
        expected = [score(labels == class_, kept[:, class_]) for class_ in range(classes)]
        assert report[name]["per_class"] == pytest.approx(expected)
        assert report[name]["macro"] == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("levels", [4, 1000])  # with few levels, many probabilities are equal
@pytest.mark.parametrize("seed", SEEDS)
def test_scores_of_label_sets(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    truth = (rng.random((300, 5)) < [0.02, 0.2, 0.5, 0.9, 0.0]).astype(float)
    given = np.round(levels * (0.3 * truth + 0.7 * rng.random(truth.shape))) / levels
    given = given.astype(np.float32) if seed % 2 == 0 else given
    predicted, offsets = given > 0.5, np.sort([0, 300, *rng.integers(0, 301, 40)])
    scorer = LabelSetScores(np.diff(offsets) > 0, 5)
    scorer.add(truth, given, offsets)
    report = scorer.report()
    expected = {
        "micro_f1": theirs.f1_score(truth, predicted, average="micro"),
        "macro_f1": theirs.f1_score(truth, predicted, average="macro", zero_division=np.nan),
        "subset_accuracy": theirs.accuracy_score(truth, predicted),
        "hamming_loss": theirs.hamming_loss(truth, predicted),
        "log_loss": theirs.log_loss(truth.ravel(), given.ravel()),
    }
    assert {name: report[name] for name in expected} == pytest.approx(expected, rel=1e-6)
    by_label = theirs.precision_recall_fscore_support(truth, predicted, zero_division=0)
    for name, scores in zip(("precision", "recall", "f1", "support"), by_label, strict=True):
        np.testing.assert_allclose([label[name] for label in report["per_label"]], scores)
    areas = [theirs.average_precision_score(truth[:, label], given[:, label].astype(np.float32)) for label in range(4)]
    assert [label["average_precision"] for label in report["per_label"]] == [*map(pytest.approx, areas), None]
    assert report["macro_average_precision"] == pytest.approx(np.mean(areas))
    most = np.tile(truth.mean(axis=0) > 0.5, (300, 1))
    assert report["majority"] == theirs.accuracy_score(truth, most)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("seed", SEEDS)
def test_scores_of_quantities(seed: int, outputs: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.normal(1000, 1 + 9 * np.arange(outputs), (300, outputs))
    given = truth + rng.normal(0.5, 3, truth.shape)
    means, offsets = truth.mean(axis=0) + rng.normal(size=outputs), np.sort([0, 300, *rng.integers(0, 301, 40)])
    scorer = QuantityScores(np.diff(offsets) > 0, outputs, means)
    scorer.add(truth, given, offsets)
    report = scorer.report()
    scores: dict[str, Any] = {
        "mae": theirs.mean_absolute_error,
        "rmse": theirs.root_mean_squared_error,
        "r2": theirs.r2_score,
    }
    for name, score in scores.items():
        assert report[name] == pytest.approx(score(truth, given))
        assert report["mean_guess"][name] == pytest.approx(score(truth, np.tile(means, (300, 1))))
        by_output = score(truth, given, multioutput="raw_values")
        np.testing.assert_allclose([output[name] for output in report["per_quantity"]], by_output)


@pytest.mark.parametrize("bins", [5, 15])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_calibration_curve_of_several_labels(seed: int, bins: int) -> None:
    from sklearn.calibration import calibration_curve as their_curve

    rng = np.random.default_rng(seed)
    given = rng.random((200, 3))
    truth = (rng.random(given.shape) < given**2).astype(float)
    accuracies, confidences = their_curve(truth.ravel(), given.ravel(), n_bins=bins, strategy="uniform")
    ours = calibration_curve(truth, given, bins, several=True)
    np.testing.assert_allclose([entry["accuracy"] for entry in ours], accuracies)
    np.testing.assert_allclose([entry["confidence"] for entry in ours], confidences)


@pytest.mark.parametrize("bins", [5, 15])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_calibration_curve(seed: int, bins: int) -> None:
    """scikit-learn's is for two classes: whether a prediction is right, and the confidence that it is."""
    from sklearn.calibration import calibration_curve as their_curve

    labels, given = answers(seed, 4)
    right = given.argmax(axis=1) == labels
    accuracies, confidences = their_curve(right, given.max(axis=1), n_bins=bins, strategy="uniform")
    ours = calibration_curve(labels, given, bins)
    np.testing.assert_allclose([found["accuracy"] for found in ours], accuracies)
    np.testing.assert_allclose([found["confidence"] for found in ours], confidences, rtol=1e-6)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_intervals(level: float) -> None:
    """SciPy's percentile bootstrap, of pairs of sums over sequences."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 30, 80)
    offsets = np.cumsum([0, *lengths])
    labels, given = answers(1, 3, int(offsets[-1]))
    right = np.add.reduceat(given.argmax(axis=1) == labels, offsets[:-1], dtype=float)
    losses = np.add.reduceat(-np.log(given[np.arange(len(labels)), labels]), offsets[:-1])
    found = step_intervals(labels, given, offsets, ["accuracy", "log_loss"], level=level, resamples=20_000)
    assert found is not None
    for name, sums in (("accuracy", right), ("log_loss", losses)):
        expected = scipy.stats.bootstrap(
            (sums, lengths),
            lambda part, whole, axis: part.sum(axis) / whole.sum(axis),
            paired=True,
            vectorized=True,
            n_resamples=20_000,
            confidence_level=level,
            method="percentile",
            rng=np.random.default_rng(1),
        ).confidence_interval
        width = expected.high - expected.low
        np.testing.assert_allclose(found[name], expected, atol=0.04 * width)


@pytest.mark.parametrize("tolerances", [(0, 0), (1, 2), (3, 3), (2, None)])
@pytest.mark.parametrize("seed", SEEDS)
def test_matching(seed: int, tolerances: tuple[int, int | None]) -> None:
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.integers(0, 3, 1000), rng.integers(1, 8, 1000))
    predicted = np.where(rng.random(len(labels)) < 0.1, rng.integers(0, 3, len(labels)), np.roll(labels, seed - 2))
    offsets = np.linspace(0, len(labels), 20).astype(int)
    true, guess = find_events(labels, offsets), find_events(predicted, offsets)
    onset, offset = tolerances
    same = (true.classes[:, None] == guess.classes) & (true.sequences[:, None] == guess.sequences)
    same &= abs(true.onsets[:, None] - guess.onsets) <= onset
    if offset is not None:
        same &= abs(true.offsets[:, None] - guess.offsets) <= offset
    expected = int((maximum_bipartite_matching(scipy.sparse.csr_array(same)) >= 0).sum())
    assert len(match_events(true, guess, onset_tolerance=onset, offset_tolerance=offset)) == expected
    report = event_report(labels, predicted, offsets, 3, onset_tolerance=onset, offset_tolerance=offset)
    assert report["f1"] == pytest.approx(2 * expected / (len(true) + len(guess)))


@pytest.mark.parametrize(
    "classes",
    [
        ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"],
        ["I-LOC", "I-PER", "O"],
        ["B-a-b", "I-a-b", "B-a", "O", "I-a"],
        ["B-X", "I-X", "E-X", "S-X", "E-Y", "O"],
    ],
)
@pytest.mark.parametrize("seed", SEEDS)
def test_spans(seed: int, classes: list[str]) -> None:
    seqeval = pytest.importorskip("seqeval.metrics")
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(classes), 600)
    predicted = np.where(rng.random(600) < 0.3, rng.integers(0, len(classes), 600), labels)
    offsets = np.sort([0, 600, *rng.integers(0, 601, 60)])
    ours = span_report(labels, predicted, offsets, classes)
    sentences = [
        [[classes[label] for label in side[start:stop]] for start, stop in itertools.pairwise(offsets)]
        for side in (labels, predicted)
    ]
    report = seqeval.classification_report(*sentences, output_dict=True, zero_division=0)
    overall, macro = report.pop("micro avg"), report.pop("macro avg")
    report.pop("weighted avg")
    assert (ours["precision"], ours["recall"], ours["f1"]) == pytest.approx(
        (overall["precision"], overall["recall"], overall["f1-score"])
    )
    assert ours["macro_f1"] == pytest.approx(macro["f1-score"])
    assert ours["per_class"] == {
        type_: {
            "precision": pytest.approx(scores["precision"]),
            "recall": pytest.approx(scores["recall"]),
            "f1": pytest.approx(scores["f1-score"]),
            "support": scores["support"],
            "f1_interval": ours["per_class"][type_]["f1_interval"],
        }
        for type_, scores in report.items()
    }


@pytest.mark.parametrize(
    ("scheme", "theirs"),
    [("IOB1", "IOB1"), ("IOB2", "IOB2"), ("IOE1", "IOE1"), ("IOE2", "IOE2"), ("IOBES", "IOBES"), ("BILOU", "BILOU")],
)
@pytest.mark.parametrize("seed", SEEDS)
def test_strict_spans(seed: int, scheme: str, theirs: str) -> None:
    """Of any tags of a scheme, whether they follow it or not."""
    seqeval, schemes = pytest.importorskip("seqeval.metrics"), pytest.importorskip("seqeval.scheme")
    rng, classes = np.random.default_rng(seed), tag_names("XY", scheme)
    sides = [
        [[classes[label] for label in rng.integers(0, len(classes), steps)] for steps in rng.integers(1, 12, 40)]
        for _ in range(1)
    ]
    sides.append([[tag if rng.random() < 0.8 else "O" for tag in sentence] for sentence in sides[0]])
    options = {"mode": "strict", "scheme": getattr(schemes, theirs)}
    report = seqeval.classification_report(*sides, output_dict=True, zero_division=0, **options)
    ours = tags.classification_report(*sides, output_dict=True, mode="strict", scheme=scheme)
    assert ours.keys() == report.keys()
    for name, scores in report.items():
        assert ours[name] == pytest.approx(scores)
