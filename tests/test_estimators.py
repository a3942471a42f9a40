"""The estimators: scikit-learn's protocol on sequences, what each parameter does, and that they learn."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks
from sklearn.utils._tags import get_tags

import bilstm
from bilstm import SequenceClassifier, SequenceTagger, problems, splitting
from bilstm.data.spelling import PARTS
from bilstm.errors import DivergedError
from bilstm.layers import Dropout
from bilstm.modelfile import write_model
from bilstm.training.loop import TrainingInterrupted
from oracles.models import bits, weight_bits

NAMES = np.array(["low", "high"])
BOTH = pytest.mark.parametrize("make", [lambda **k: tagger(**k), lambda **k: classifier(**k)], ids=["tagger", "class"])


def tagger(**parameters: Any) -> SequenceTagger:
    quick: dict[str, Any] = {"units": 5, "layers": 1, "epochs": 2, "batch_size": 16, "random_state": 0}
    return SequenceTagger(**quick | parameters)


def classifier(**parameters: Any) -> SequenceClassifier:
    quick: dict[str, Any] = {"units": 5, "layers": 1, "epochs": 2, "batch_size": 16, "random_state": 0}
    return SequenceClassifier(**quick | parameters)


def echoes(count: int = 40, lag: int = 1, seed: int = 1) -> tuple[list[Any], list[Any]]:
    """Sequences of different lengths, and for each step whether the number `lag` steps later is high."""
    X, y = problems.echo(count, (3, 8), lag=lag, seed=seed)
    return X.to_list(), [NAMES[labels[:, 0].astype(int)] for labels in y]


def beginnings(count: int = 40, seed: int = 1) -> tuple[list[Any], Any]:
    """Sequences, and for each whether its first number is high."""
    X, _ = echoes(count, seed=seed)
    return X, NAMES[[int(sequence[0, 0] > 0.5) for sequence in X]]


def data_for(estimator: Any, count: int = 40) -> tuple[list[Any], Any]:
    return echoes(count) if isinstance(estimator, SequenceTagger) else beginnings(count)


def objects(sequences: list[Any]) -> Any:
    made = np.empty(len(sequences), object)
    made[:] = sequences
    return made


def probabilities(estimator: Any, X: Any) -> list[bytes]:
    return [bits(rows) for rows in estimator.predict_proba(X)]


def layers_of(estimator: Any) -> list[dict[str, Any]]:
    layers: list[dict[str, Any]] = estimator.model_.network.get_config()["layers"]
    return layers


# --- scikit-learn's own checks ---------------------------------------------------------------------------------------

ONE_FEATURE = "a two-dimensional X is n sequences of one feature, whatever their number of steps"
FAIL = dict.fromkeys(
    [
        "check_n_features_in",
        "check_n_features_in_after_fitting",
        "check_estimators_partial_fit_n_features",
        "check_classifiers_train",
    ],
    ONE_FEATURE,
)
OF_ANY = [
    estimator_checks.check_do_not_raise_errors_in_init_or_set_params,
    estimator_checks.check_estimator_cloneable,
    estimator_checks.check_estimator_repr,
    estimator_checks.check_estimator_tags_renamed,
    estimator_checks.check_estimators_unfitted,
    estimator_checks.check_get_params_invariance,
    estimator_checks.check_mixin_order,
    estimator_checks.check_no_attributes_set_in_init,
    estimator_checks.check_parameters_default_constructible,
    estimator_checks.check_requires_y_none,
    estimator_checks.check_set_params,
    estimator_checks.check_valid_tag_types,
]


@pytest.mark.filterwarnings("ignore")
def test_the_classifier_passes_scikit_learns_checks() -> None:
    found = estimator_checks.check_estimator(classifier(units=4, epochs=10), expected_failed_checks=FAIL, on_skip=None)
    status = [check["status"] for check in found]
    assert status.count("passed") > 40
    assert set(status) <= {"passed", "skipped", "xfail"}


@pytest.mark.parametrize("check", OF_ANY, ids=lambda check: check.__name__)
def test_the_tagger_passes_those_that_need_no_labels_of_sequences(check: Callable[[str, Any], None]) -> None:
    check("SequenceTagger", tagger())


def test_tags() -> None:
    of_tagger, of_classifier = get_tags(tagger()), get_tags(classifier())
    assert of_classifier.estimator_type == "classifier"
    assert of_tagger.estimator_type is None  # its y is not one label a sample, as scikit-learn's classifiers' is
    for tags in (of_tagger, of_classifier):
        assert tags.target_tags.required
        assert tags.input_tags.three_d_array
        assert tags.input_tags.string
        assert tags.input_tags.allow_nan


@BOTH
def test_clones_and_parameters(make: Any) -> None:
    estimator = make(direction="forward", class_weight={"low": 2.0})
    assert clone(estimator).get_params() == estimator.get_params()
    assert estimator.set_params(units=7).units == 7
    with pytest.raises(ValueError, match="Invalid parameter 'unit'"):
        estimator.set_params(unit=7)
    fitted = estimator.set_params(class_weight=None).fit(*data_for(estimator))
    assert not hasattr(clone(fitted), "model_")


@BOTH
def test_not_fitted(make: Any) -> None:
    for method in ("predict", "predict_proba"):
        with pytest.raises(NotFittedError):
            getattr(make(), method)([[1.0]])
    with pytest.raises(NotFittedError):
        make().score([[1.0]], [["low"]])


def test_nothing_of_scikit_learn_is_imported_before_it_is_needed() -> None:
    program = "import sys, bilstm.models; assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    program = "import sys; sys.modules['sklearn'] = None; import bilstm; bilstm.SequenceTagger"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    last = finished.stderr.splitlines()[-1]
    assert last == "ImportError: bilstm's estimators need scikit-learn 1.6 or later: pip install 'bilstm[sklearn]'"
    assert {"SequenceTagger", "SequenceClassifier"} <= set(dir(bilstm))


# --- In scikit-learn's tools -----------------------------------------------------------------------------------------


FORMS: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "objects": objects,
    "ragged": bilstm.Ragged.from_sequences,
    "array": lambda X: np.stack([sequence[:3] for sequence in X]),
    "flat array": lambda X: np.stack([sequence[:3, 0] for sequence in X]),
    "words": lambda X: [np.where(sequence[:, 0] > 0.5, "up", "down").tolist() for sequence in X],
    "array of words": lambda X: np.stack([np.where(sequence[:3, 0] > 0.5, "up", "down") for sequence in X]),
}
EACH_FORM = pytest.mark.parametrize("form", FORMS)


def data_in(form: str, make: Any) -> tuple[Any, Any]:
    """Sequences in one of their forms, with their labels."""
    X, y = data_for(make())
    given = FORMS[form](X)
    if make is BOTH.args[1][0] and isinstance(given, np.ndarray) and given.dtype != object:
        y = np.stack([labels[:3] for labels in y])
    return given, y


@BOTH
@EACH_FORM
def test_cross_validation(make: Any, form: str) -> None:
    X, y = data_in(form, make)
    scores = cross_val_score(make(), X, y, cv=2, error_score="raise")
    assert scores.shape == (2,)
    if form in ("objects", "ragged"):
        assert (scores == cross_val_score(make(), *data_in("list", make), cv=2)).all()


@BOTH
@pytest.mark.parametrize("form", ["objects", "array", "flat array", "array of words"])
def test_predictions_of_cross_validation(make: Any, form: str) -> None:
    X, y = data_in(form, make)
    found = cross_val_predict(make(), X, objects(y) if isinstance(y, list) else y, cv=2)
    assert [np.shape(labels) for labels in found] == [np.shape(labels) for labels in y]


@BOTH
@EACH_FORM
def test_a_grid_search_over_a_pipeline(make: Any, form: str) -> None:
    X, y = data_in(form, make)
    estimator = make_pipeline(FunctionTransformer(), make(epochs=1))
    name = estimator.steps[-1][0]
    grid = {f"{name}__units": [2, 3], f"{name}__direction": ["both", "none"]}
    search = GridSearchCV(estimator, grid, cv=2, error_score="raise").fit(X, y)
    assert search.cv_results_["mean_test_score"].shape == (4,)
    assert search.best_params_[f"{name}__units"] in (2, 3)
    assert len(search.predict(X)) == len(X)
    assert not hasattr(clone(search.best_estimator_)[-1], "model_")


@BOTH
@EACH_FORM
def test_partial_fit_of_every_form(make: Any, form: str) -> None:
    X, y = data_in(form, make)
    first = make().partial_fit(X, y, classes=["high", "low"])
    before = weight_bits(first.model_.network)
    assert weight_bits(first.partial_fit(X, y).model_.network) != before
    again = make().partial_fit(X, y, classes=["high", "low"]).partial_fit(X, y)
    assert weight_bits(again.model_.network) == weight_bits(first.model_.network)
    assert 0 <= again.score(X, y) <= 1


def test_cross_validation_keeps_groups_together() -> None:
    X, y = beginnings(30)
    groups = np.arange(30) % 5
    keywords: dict[str, Any] = {"groups": groups, "params": {"groups": groups}, "error_score": "raise"}
    assert cross_val_score(classifier(), X, y, cv=GroupKFold(3), **keywords).shape == (3,)


def test_probabilities_of_cross_validation() -> None:
    X, labels = beginnings(20)
    assert cross_val_predict(classifier(), X, labels, cv=2, method="predict_proba").shape == (20, 2)


@BOTH
def test_a_pipeline_scores_as_its_best(make: Any) -> None:
    X, y = data_for(make())
    scaled = FunctionTransformer(lambda X: [10 * sequence for sequence in X])
    search = GridSearchCV(make_pipeline(scaled, make()), {type(make()).__name__.lower() + "__units": [2, 3]}, cv=2)
    search.fit(X, y)
    assert search.score(X, y) == search.best_estimator_.score(X, y)


def test_a_grid_search_by_another_score() -> None:
    X, y = beginnings()
    search = GridSearchCV(classifier(), {"pooling": ["mean", "last"]}, cv=2, scoring="f1_macro").fit(X, y)
    assert 0 <= search.best_score_ <= 1


# --- One answer ------------------------------------------------------------------------------------------------------


@BOTH
def test_the_random_state_decides_every_bit(make: Any) -> None:
    X, y = data_for(make())
    first = make(random_state=3).fit(X, y)
    again = make(random_state=3).fit(X, y)
    assert weight_bits(first.model_.network) == weight_bits(again.model_.network)
    assert first.training_["history"] == again.training_["history"]
    assert weight_bits(first.fit(X, y).model_.network) == weight_bits(again.model_.network)
    for other in (4, None):
        assert weight_bits(make(random_state=other).fit(X, y).model_.network) != weight_bits(first.model_.network)
    drawn = [make(random_state=np.random.RandomState(3)).fit(X, y) for _ in range(2)]
    assert weight_bits(drawn[0].model_.network) == weight_bits(drawn[1].model_.network)


@BOTH
def test_a_copy_predicts_and_learns_on_alike(make: Any) -> None:
    X, y = data_for(make())
    fitted = make(dropout=0.5).fit(X, y)
    for copied in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        assert probabilities(copied, X) == probabilities(fitted, X)
    original = fitted.partial_fit(X, y)
    assert weight_bits(copied.partial_fit(X, y).model_.network) == weight_bits(original.model_.network)
    assert pickle.loads(pickle.dumps(make())).get_params() == make().get_params()


# --- Forms of X and y ------------------------------------------------------------------------------------------------


@BOTH
def test_all_forms_of_sequences_give_one_model(make: Any) -> None:
    X, y = data_for(make())
    fitted = make().fit(X, y)
    forms = [objects(X), bilstm.Ragged.from_sequences(X), [sequence[:, 0] for sequence in X]]
    for form in forms:
        assert weight_bits(make().fit(form, y).model_.network) == weight_bits(fitted.model_.network)
        assert probabilities(fitted, form) == probabilities(fitted, X)


def test_predictions_have_the_form_of_x() -> None:
    X, y = echoes()
    fitted = tagger().fit(X, y)
    for form, kind in ((X, list), (bilstm.Ragged.from_sequences(X), list), (objects(X), np.ndarray)):
        labels, found = fitted.predict(form), fitted.predict_proba(form)
        assert type(labels) is type(found) is kind
        assert [len(part) for part in labels] == [len(sequence) for sequence in X]
        assert {part.shape[1] for part in found} == {2}
        for part, probability in zip(labels, found, strict=True):
            assert (part == fitted.classes_[probability.argmax(axis=1)]).all()
            np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-6)
    array = np.stack([sequence[:3] for sequence in X])
    assert fitted.predict(array).shape == (40, 3)
    assert fitted.predict_proba(array[:, :, 0]).shape == (40, 3, 2)
    equal = objects([sequence[:3] for sequence in X])
    assert fitted.predict(equal).shape == (40,)  # also where all have one length


def test_labels_of_steps_in_any_form() -> None:
    X, y = problems.echo(30, 6, seed=1)
    expected = weight_bits(tagger().fit(X, y).model_.network)
    flat = y[:, :, 0]
    forms = [
        flat,
        flat.tolist(),
        flat.astype(bool),
        flat.astype(float),
        NAMES[1 - flat] == "low",
        list(y),
        objects(list(y)),
    ]
    forms.append(bilstm.Ragged.from_padded(y))
    for form in forms:
        assert weight_bits(tagger().fit(X, form).model_.network) == expected
    assert tagger().fit(X, flat).score(X, y) == tagger().fit(list(X), list(flat)).score(X, flat)


@pytest.mark.parametrize(
    ("names", "kind"), [(("a", "bc"), "U"), ((-1, 1), "i"), ((False, True), "b"), ((0.0, 2.0), "i")]
)
def test_classes_keep_their_type(names: Any, kind: str) -> None:
    X, y = beginnings()
    labels = np.array(names)[(y == "high").astype(int)]
    fitted = classifier().fit(X, labels.tolist())
    assert fitted.classes_.tolist() == sorted(names)
    assert fitted.predict(X).dtype.kind == kind
    assert fitted.score(X, labels) == fitted.score(X, labels.tolist())
    steps = [np.repeat(label, len(sequence)) for sequence, label in zip(X, labels, strict=True)]
    assert tagger().fit(X, steps).predict(X)[0].dtype.kind == kind


def test_a_column_of_labels_is_warned_of() -> None:
    X, y = beginnings()
    with pytest.warns(DataConversionWarning):
        fitted = classifier().fit(X, y[:, np.newaxis])
    assert weight_bits(fitted.model_.network) == weight_bits(classifier().fit(X, y).model_.network)


@pytest.mark.parametrize("features", [1, 3])
def test_arrays_without_a_value(features: int) -> None:
    with pytest.raises(ValueError, match="X has no column left to predict from: all values are missing in '0'"):
        tagger().fit(np.full((4, 5, features), np.nan), np.zeros((4, 5), int))


@pytest.mark.parametrize(("missing", "given"), [(None, None), (None, float("nan")), ("", ""), ("?", None)])
def test_steps_without_labels_are_neither_learnt_nor_scored(missing: Any, given: Any) -> None:
    X, y = echoes()
    partly = [[given if i % 3 == 1 else label for i, label in enumerate(labels)] for labels in y]
    others = [["low" if label == given or label is None or label != label else label for label in p] for p in partly]
    fitted = tagger(missing_label=missing).fit(X, partly)
    expected = tagger().fit(X, [[None if i % 3 == 1 else la for i, la in enumerate(labels)] for labels in y])
    assert weight_bits(fitted.model_.network) == weight_bits(expected.model_.network)
    assert weight_bits(fitted.model_.network) != weight_bits(tagger().fit(X, others).model_.network)
    assert fitted.classes_.tolist() == ["high", "low"]
    found = fitted.predict(X)
    right = [
        a == b for p, labels in zip(partly, found, strict=True) for a, b in zip(p, labels, strict=True) if a in NAMES
    ]
    assert fitted.score(X, partly) == np.mean(right)


def test_a_number_may_stand_for_missing() -> None:
    X, y = echoes()
    numbers = [np.where(np.arange(len(labels)) % 3 == 1, -1, labels == "high") for labels in y]
    assert tagger(missing_label=-1).fit(X, numbers).classes_.tolist() == [0, 1]
    assert tagger().fit(X, numbers).classes_.tolist() == [-1, 0, 1]


def test_only_labelled_sequences_are_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = echoes()
    labels = [labels if i % 4 == 0 else [None] * len(labels) for i, labels in enumerate(y)]
    sides = divisions(monkeypatch)
    tagger(validation_split=0.5).fit(X, labels)
    (_, held_out), *_ = sides
    assert len(held_out) == 5
    assert all(i % 4 == 0 for i in held_out)


def test_words() -> None:
    random = np.random.default_rng(0)
    X = [random.choice(["yes", "no", "er"], random.integers(2, 7)).tolist() for _ in range(60)]
    y = [["after" if i and words[i - 1] == "yes" else "other" for i in range(len(words))] for words in X]
    fitted = tagger(units=8, epochs=30, learning_rate=0.05, dropout=0.0, embedding=4).fit(X, y)
    assert fitted.score(X, y) > 0.95
    assert fitted.n_features_in_ == 1
    assert layers_of(fitted)[0]["config"]["dimensions"] == [4]
    with pytest.warns(UserWarning, match=r"^column words: 2 values of 4 \(50.0 %\) unknown to the model$"):
        new = fitted.predict_proba([["yes", "never seen"], ["yes", "nor this"]])
    assert bits(new[0]) == bits(new[1])
    sentences = classifier(embedding=6).fit(X, [len(words) % 2 for words in X])
    assert layers_of(sentences)[0]["config"]["dimensions"] == [6]
    assert tagger().fit(X, y).model_.schema.vocabularies == [4]
    for layers, count in ((None, 3), (1, 1)):
        assert [layer["class_name"] for layer in layers_of(tagger(layers=layers).fit(X, y))].count(
            "Bidirectional"
        ) == count


@pytest.mark.parametrize("standardize", [True, False])
def test_missing_numbers(standardize: bool) -> None:
    X, y = beginnings()
    holes = [np.where(np.arange(len(x))[:, np.newaxis] == 1, np.nan, x) for x in X]
    fitted = classifier(standardize=standardize).fit(holes, y)
    assert np.isfinite(fitted.predict_proba(holes)).all()
    assert fitted.model_.network.input_features == 2
    whole = classifier(standardize=standardize).fit(X, y)
    with pytest.warns(UserWarning, match="^column 0: 40 missing values, imputed with the mean of .*; training had non"):
        assert np.isfinite(whole.predict_proba(holes)).all()
    whole.predict(holes)  # and warns of it once


def test_standardised_by_the_training_part_only(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = beginnings()
    sides = divisions(monkeypatch)
    fitted = classifier(validation_split=0.4).fit(X, y)
    (training, _), *_ = sides
    values = np.concatenate([X[i] for i in training])
    (column,) = fitted.model_.schema.numeric
    assert column.mean == pytest.approx(values.mean())
    assert column.scale == pytest.approx(values.std())
    larger = [1000 * sequence + 7 for sequence in X]
    assert fitted.score(X, y) == classifier(validation_split=0.4).fit(larger, y).score(larger, y)
    as_they_are = classifier(standardize=False).fit(X, y).model_.schema.numeric[0]
    assert (as_they_are.mean, as_they_are.scale) == (0, 1)


@pytest.mark.parametrize("labels", [(-1, 1), ("a", "b"), (True, False), (2.0, 3.0), (0, 1)])
@pytest.mark.parametrize("per", ["row", "sequence"])
def test_labels_of_sequences_beside_a_long_table(labels: Any, per: str) -> None:
    X, y = beginnings()
    y = np.array(labels)[(y == "high").astype(int)]
    lengths = [len(x) for x in X]
    frame = pd.DataFrame({"id": np.repeat(np.arange(len(X)), lengths), "x": np.concatenate(X)[:, 0]})
    given = y if per == "sequence" else np.repeat(y, lengths)
    fitted = classifier(sequence="id").fit(frame, given)
    assert fitted.classes_.tolist() == sorted(labels)
    assert fitted.classes_.dtype.kind == {"f": "i"}.get(y.dtype.kind, y.dtype.kind)
    assert fitted.predict(X).tolist() == classifier().fit(X, y).predict(X).tolist()
    assert fitted.predict(frame).tolist() == np.repeat(fitted.predict(X), lengths).tolist()
    assert fitted.score(frame, given) == np.mean(fitted.predict(X) == y)
    shuffled = np.random.default_rng(1).permutation(len(X))
    groups = frame["id"].to_numpy() % 7
    together = classifier(sequence="id").fit(frame, given, groups=groups[np.cumsum(lengths) - 1])
    assert weight_bits(together.model_.network) == weight_bits(
        classifier(sequence="id").fit(frame, given, groups=groups).model_.network
    )
    rows = np.random.default_rng(2).permutation(len(frame))
    scattered = frame.assign(t=np.arange(len(frame))).iloc[rows]
    beginning = scattered["id"].drop_duplicates().to_numpy()  # the order in which sequences begin
    in_order = classifier(sequence="id", order="t").fit(scattered, y[beginning] if per == "sequence" else given[rows])
    expected = classifier().fit([X[i] for i in beginning], y[beginning])
    assert weight_bits(in_order.model_.network) == weight_bits(expected.model_.network)
    with pytest.raises(ValueError, match="X has .* rows and 40 sequences, but y has 39 entries"):
        classifier(sequence="id").fit(frame, y[shuffled[1:]])


def test_several_labels_of_a_sequence() -> None:
    train, test = echoes(200)[0], echoes(60, seed=2)[0]

    def of(sequences: list[Any]) -> Any:
        return np.array([[x[0, 0] > 0.5, x[-1, 0] > 0.5, x.mean() > 0.5] for x in sequences]).astype(int)

    fitted = classifier(units=12, epochs=40, learning_rate=0.03, pooling="last").fit(train, of(train))
    assert fitted.multilabel_
    assert fitted.classes_.tolist() == [0, 1, 2]
    assert fitted.predict(test).shape == fitted.predict_proba(test).shape == (60, 3)
    assert fitted.score(test, of(test)) == (fitted.predict(test) == of(test)).all(axis=1).mean()
    assert (fitted.predict(test) == of(test)).mean() > 0.85
    partly = of(train).astype(float)
    partly[::2] = np.nan
    few = classifier(validation_split=0.1).fit(train, partly)
    assert few.training_["validation_sequences"] == 10
    marked = classifier(validation_split=0.1, missing_label=-1).fit(train, np.nan_to_num(partly, nan=-1))
    assert weight_bits(marked.model_.network) == weight_bits(few.model_.network)


def test_sequences_without_a_label_are_not_learned() -> None:
    X, y = beginnings()
    partly = [label if i % 3 else None for i, label in enumerate(y)]
    fitted = classifier(validation_split=0.2).fit(X, partly)
    labelled = [i for i in range(len(X)) if i % 3]
    assert fitted.training_["validation_sequences"] == round(0.2 * len(labelled))
    right = fitted.predict([X[i] for i in labelled]) == y[labelled]
    weights = np.arange(len(X))
    assert fitted.score(X, partly) == right.mean()
    assert fitted.score(X, partly, weights) == pytest.approx(np.average(right, weights=weights[labelled]))


@BOTH
def test_what_stands_for_missing_in_a_table(make: Any, tmp_path: Path) -> None:
    X, y = data_for(make())
    lengths = [len(x) for x in X]
    steps = [np.where(np.arange(n) % 3 == 1, "?", label) for n, label in zip(lengths, y, strict=True)]
    columns = {"id": np.repeat(np.arange(len(X)), lengths), "x": np.concatenate(X)[:, 0], "y": np.concatenate(steps)}
    frame = pd.DataFrame(columns)
    expected = make(sequence="id").fit(frame.replace({"y": {"?": None}}), "y")
    for given in ("y", frame["y"], frame["y"].to_numpy(), frame[["y"]]):
        X_ = frame if isinstance(given, str) else frame.drop(columns="y")
        fitted = make(sequence="id", missing_label="?").fit(X_, given)
        assert fitted.classes_.tolist() == ["high", "low"]
        assert weight_bits(fitted.model_.network) == weight_bits(expected.model_.network)
    if make is BOTH.args[1][0]:
        assert make(sequence="id").fit(frame, "y").classes_.tolist() == ["?", "high", "low"]
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ValueError, match="^missing_label has no effect on a file: leave the cells of missing label"):
        make(sequence="id", missing_label="?").fit(tmp_path / "t.csv", "y")


@BOTH
def test_a_validation_set_of_its_own(make: Any) -> None:
    X, y = data_for(make())
    fitted = make().fit(X[:30], y[:30], validation_data=(X[30:], y[30:]))
    training = fitted.training_
    assert (training["sequences"], training["validation_sequences"]) == (30, 10)
    other = make(epochs=1).fit(X[:30], y[:30], validation_data=(X[30:], y[30:]))
    score = other.score(X[30:], y[30:])
    assert other.training_["history"]["val_accuracy"] == [pytest.approx(score)]
    with pytest.raises(ValueError, match="groups stay together in the validation set, and with a validation table n"):
        make().fit(X[:30], y[:30], groups=np.arange(30), validation_data=(X[30:], y[30:]))


def test_sequences_that_are_cut_apart_are_warned_of() -> None:
    X, y = echoes()
    frame = pd.DataFrame({"id": np.repeat(np.arange(40), [len(x) for x in X]), "x": np.concatenate(X)[:, 0]})
    labels = np.concatenate(y)
    with pytest.warns(
        UserWarning, match="^sequence '.*' of X was in the training data with other rows: sequences were"
    ):
        cross_val_score(tagger(sequence="id"), frame, labels, cv=KFold(5))
    cross_val_score(tagger(sequence="id"), frame, labels, cv=GroupKFold(3), groups=frame["id"])


def test_an_evaluation_notes_what_training_saw() -> None:
    X, y = echoes(60)
    fitted = tagger().fit(X[:50], y[:50])
    steps = [{"0": x[:, 0], "label": labels} for x, labels in zip(X, y, strict=True)]
    (note,) = fitted.model_.evaluate(steps[:50])["notes"]
    assert note == "about 100 % of the sequences were in the training data, so the scores are too good to be true"
    (note,) = fitted.model_.evaluate(steps[40:])["notes"]
    assert note.startswith("about 50 % of the sequences")
    assert fitted.model_.evaluate(steps[50:])["notes"] == []


@BOTH
def test_values_in_other_units_are_warned_of(make: Any) -> None:
    X, y = data_for(make())
    fitted = make().fit(X, y)
    fitted.predict(X)
    message = r"^column 0: values lie 1\d\.\d standard deviations from the training mean on average; are the units"
    with pytest.warns(UserWarning, match=message):
        fitted.predict([9.81 * x for x in X])


# --- Files -----------------------------------------------------------------------------------------------------------


@BOTH
def test_a_saved_estimator_is_the_same(make: Any, tmp_path: Path) -> None:
    X, y = data_for(make())
    fitted = make(validation_split=0.2, learning_rate=0.01, class_weight="balanced", baseline=True).fit(X, y)
    fitted.save(tmp_path / "model")
    loaded = type(fitted).load(tmp_path / "model")
    assert probabilities(loaded, X) == probabilities(fitted, X)
    assert loaded.get_params() == fitted.get_params()
    assert loaded.classes_.tolist() == fitted.classes_.tolist()
    assert loaded.n_features_in_ == 1
    assert loaded.score(X, y) == fitted.score(X, y)
    assert weight_bits(clone(loaded).fit(X, y).model_.network) == weight_bits(fitted.model_.network)
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model").read_bytes()
    other = SequenceClassifier if isinstance(fitted, SequenceTagger) else SequenceTagger
    for estimator in (other, bilstm.SequenceRegressor):
        right = type(fitted).__name__
        with pytest.raises(ValueError, match=f"task .*-label, which is {right}'s: use {right}.load"):
            estimator.load(tmp_path / "model")
    with pytest.raises(NotFittedError):
        make().save(tmp_path / "model")


def test_a_model_that_was_trained_on_a_table_is_loaded(tmp_path: Path) -> None:
    X, y = beginnings()
    lengths = [len(x) for x in X]
    columns = {"id": np.repeat(np.arange(40), lengths), "x": np.concatenate(X)[:, 0], "y": np.repeat(y, lengths)}
    bilstm.train(columns, label="y", sequence="id", units=3, layers=1, epochs=1, seed=4).save(tmp_path / "model")
    loaded = SequenceClassifier.load(tmp_path / "model")
    assert (loaded.sequence, loaded.units, loaded.random_state, loaded.baseline) == ("id", 3, 4, True)
    assert not loaded.examples
    assert loaded.feature_names_in_.tolist() == ["x"]
    assert loaded.predict(X).shape == (40,)
    assert loaded.score(pd.DataFrame(columns), "y") == loaded.score(X, y)
    clone(loaded).fit(pd.DataFrame(columns), "y").save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model").read_bytes()


@pytest.mark.parametrize("baseline", [False, True])
def test_a_file_of_version_0_1(baseline: bool, tmp_path: Path) -> None:
    """Such a file had one label a step, and other names for what it knew."""
    words = [["the", "a", "the"], ["a", "the"]] * 20
    columns = {"id": np.repeat(np.arange(40), [3, 2] * 20), "w": np.concatenate(words), "x": np.arange(100.0)}
    model = bilstm.train(columns | {"y": columns["w"]}, label="y", sequence="id", units=3, epochs=1, baseline=baseline)

    def old(part: Any) -> dict[str, Any]:
        training = {"held_out_sequences" if k == "validation_sequences" else k: v for k, v in part.training.items()}
        return {"model": part.network.get_config(), "training": training}

    schema = {k: v for k, v in model.schema.to_json().items() if k not in ("named", "text")}
    header = {"kind": "tagger", "columns": schema | {"label": "y", "classes": ["a", "the"]}, **old(model)}
    tensors = model.network.tensors()
    if model.baseline:
        header["baseline"] = old(model.baseline)
        tensors |= {f"baseline.{name}": tensor for name, tensor in model.baseline.network.tensors().items()}
    write_model(tmp_path / "model", tensors, header)
    loaded = bilstm.load(tmp_path / "model")
    assert bits(loaded.predict_proba(columns)) == bits(model.predict_proba(columns))
    assert loaded.predict(columns).tolist() == model.predict(columns).tolist()
    assert (loaded.baseline is None) == (model.baseline is None)
    assert loaded.training["validation_sequences"] == model.training["validation_sequences"]
    tables = columns | {"y": columns["w"]}
    assert loaded.evaluate(tables) == model.evaluate(tables)
    assert SequenceTagger.load(tmp_path / "model").classes_.tolist() == ["a", "the"]


# --- Parameters ------------------------------------------------------------------------------------------------------


def divisions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[int], list[int]]]:
    """Collects which sequences fits train on, and which they set aside."""
    sides: list[tuple[list[int], list[int]]] = []
    split = splitting.split

    def spy(*arguments: Any, **keywords: Any) -> Any:
        training, aside = split(*arguments, **keywords)
        sides.append((training.tolist(), aside.tolist()))
        return training, aside

    monkeypatch.setattr(splitting, "split", spy)
    return sides


@BOTH
def test_the_network_is_what_the_parameters_say(make: Any) -> None:
    X, y = data_for(make())

    def classes_of(**parameters: Any) -> list[str]:
        return [layer["class_name"] for layer in layers_of(make(epochs=1, **parameters).fit(X, y))]

    pooled = make is BOTH.args[1][1]
    pool, dense = (["GlobalAveragePooling1D"], "Dense") if pooled else ([], "TimeDistributed")
    assert classes_of() == ["Bidirectional", *pool, "Dropout", dense]
    assert classes_of(layers=2) == ["Bidirectional", "Dropout", "Bidirectional", *pool, "Dropout", dense]
    assert classes_of(direction="forward") == ["LSTM", *pool, "Dropout", dense]
    assert classes_of(direction="backward") == ["LSTM", "Reverse", *pool, "Dropout", dense]
    assert classes_of(direction="forward", cell="gru") == ["GRU", *pool, "Dropout", dense]
    assert classes_of(direction="backward", cell="simple") == ["SimpleRNN", "Reverse", *pool, "Dropout", dense]
    for merge_mode in ("sum", "ave", "mul"):
        first = layers_of(make(epochs=1, merge_mode=merge_mode, units=3).fit(X, y))[0]["config"]
        assert first["merge_mode"] == merge_mode
        assert first["layer"]["config"]["units"] == 3
    for rate in (0.1, 0.6):
        fitted = make(epochs=1, dropout=rate).fit(X, y)
        assert [layer.rate for layer in fitted.model_.network.layers if isinstance(layer, Dropout)] == [rate]


@BOTH
def test_one_mask_for_all_steps_of_a_sequence(make: Any) -> None:
    X, y = data_for(make())
    fitted = [make(epochs=1, layers=2, variational_dropout=kept).fit(X, y) for kept in (False, True)]
    names = [[layer["class_name"] for layer in layers_of(one)] for one in fitted]
    pooled = make is BOTH.args[1][1]  # a row for each sequence has one step
    assert [name for name in names[0] if "Dropout" in name] == ["Dropout", "Dropout"]
    assert [name for name in names[1] if "Dropout" in name] == [
        "SpatialDropout1D",
        "Dropout" if pooled else "SpatialDropout1D",
    ]
    assert weight_bits(fitted[0].model_.network) != weight_bits(fitted[1].model_.network)


@BOTH
def test_weights_decay(make: Any) -> None:
    X, y = data_for(make())
    norms = []
    for weight_decay in (0.0, 1.0, 20.0):
        fitted = make(epochs=4, weight_decay=weight_decay).fit(X, y)
        norms.append(sum(float((weight**2).sum()) for weight in fitted.model_.network.get_weights()))
        assert pickle.loads(pickle.dumps(fitted)).model_.network.optimizer.weight_decay == (weight_decay or None)
    assert norms[0] > norms[1] > norms[2]
    assert fitted.set_params(weight_decay=0.5).partial_fit(X, y).model_.network.optimizer.weight_decay == 0.5


@pytest.mark.parametrize("direction", ["both", "forward", "backward"])
@pytest.mark.parametrize(
    ("pooling", "pool"),
    [
        ("mean", "GlobalAveragePooling1D"),
        ("max", "GlobalMaxPooling1D"),
        ("attention", "GlobalAttentionPooling1D"),
        ("last", ""),
    ],
)
def test_pooling(pooling: str, pool: str, direction: str) -> None:
    X, y = beginnings()
    fitted = classifier(pooling=pooling, direction=direction).fit(X, y)
    names = [layer["class_name"] for layer in layers_of(fitted)]
    assert [name for name in names if name.startswith("Global")] == ([pool] if pool else [])
    alone = np.concatenate([fitted.predict_proba([sequence]) for sequence in X])
    assert bits(alone) == bits(fitted.predict_proba(X))


@BOTH
@pytest.mark.parametrize(
    ("conv", "sizes"), [(None, []), ("none", []), ("5x3", [(5, 3)]), ("5x3+4x2", [(5, 3), (4, 2)])]
)
@pytest.mark.parametrize(("direction", "padding"), [("both", "same"), ("forward", "causal"), ("backward", "same")])
def test_convolutions(make: Any, conv: str | None, sizes: list[tuple[int, int]], direction: str, padding: str) -> None:
    """A network that only reads forward must not know what comes next."""
    X, y = data_for(make())
    fitted = make(conv=conv, direction=direction, epochs=2, baseline=True).fit(X, y)
    made = [layer["config"] for layer in layers_of(fitted) if layer["class_name"] == "Conv1D"]
    assert [(layer["filters"], layer["kernel_size"]) for layer in made] == sizes
    assert {(layer["padding"], layer["activation"]) for layer in made} <= {(padding, "relu")}
    assert fitted.training_["options"]["conv"] == (conv if sizes else None)
    alone = fitted.model_.baseline.network.get_config()["layers"]
    assert "Conv1D" not in [layer["class_name"] for layer in alone]  # each step by itself


@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_without_context_the_order_of_steps_is_nothing(pooling: str) -> None:
    X, y = beginnings()
    fitted = classifier(pooling=pooling, direction="none").fit(X, y)
    turned = [sequence[::-1] for sequence in X]
    np.testing.assert_allclose(fitted.predict_proba(turned), fitted.predict_proba(X), atol=1e-6)
    with pytest.raises(
        ValueError, match=r"with direction 'none' no step knows the others: pool by mean, max or attention"
    ):
        classifier(pooling="last", direction="none").fit(X, y)


@BOTH
def test_how_long_and_how_fast(make: Any) -> None:
    X, y = data_for(make())
    assert make(epochs=1).fit(X, y).training_["epochs"] == 1
    assert make(epochs=3).fit(X, y).training_["epochs"] == 3
    assert make(epochs=None).fit(X, y).training_["epochs"] >= 10
    for batch_size in (4, 20):
        assert make(batch_size=batch_size).fit(X, y).training_["batch_size"] == batch_size
    hasty = make(epochs=60, learning_rate=3.0, patience=2)
    stopped = hasty.set_params(validation_split=0.25).fit(X, y).training_
    assert stopped["epochs"] == stopped["best_epoch"] + 2 < 60
    all_run = hasty.set_params(validation_split=0).fit(X, y).training_  # nothing tells when to stop
    assert (all_run["epochs"], all_run["best_epoch"], all_run["stopped"]) == (60, 60, "all epochs done")
    weights = [weight_bits(make(learning_rate=rate).fit(X, y).model_.network) for rate in (0.001, 0.01)]
    assert weights[0] != weights[1]


@BOTH
def test_a_share_is_held_out(make: Any) -> None:
    X, y = data_for(make())
    for share, count in ((0.0, 0), (0.1, 4), (0.5, 20)):
        training = make(validation_split=share).fit(X, y).training_
        assert training["validation_sequences"] == count
        assert training["sequences"] == 40 - count
        assert ("val_accuracy" in training["history"]) == bool(count)


def test_no_more_than_so_many_are_held_out_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    for most in (1000, 3):
        monkeypatch.setattr("bilstm.splitting.MOST_SET_ASIDE", most)
        for make, count in ((tagger, 40), (classifier, 600)):
            training = make(epochs=1).fit(*data_for(make(), count)).training_
            assert training["validation_sequences"] == min(count // 10, most)


@pytest.mark.parametrize(("count", "held_out"), [(499, 0), (500, 50)])
def test_few_labels_are_not_held_out_from_a_classifier(count: int, held_out: int) -> None:
    X, y = [np.zeros((1, 1))] * count, [i % 2 for i in range(count)]
    assert classifier(epochs=1).fit(X, y).training_["validation_sequences"] == held_out
    assert classifier(epochs=1, validation_split=0.2).fit(X, y).training_["validation_sequences"] == 100
    by_groups = classifier(epochs=1).fit(X, y, groups=[i % 10 for i in range(count)])
    assert by_groups.training_["validation_sequences"] in (count // 10, -(-count // 10))


@pytest.mark.parametrize("spelling", [None, True, False])
def test_spelling(spelling: bool | None) -> None:
    words = [[f"{chr(97 + i % 26)}{chr(97 + i // 26)}{end}" for end in ("ing", "ed")] for i in range(60)]
    fitted = tagger(spelling=spelling, epochs=15, learning_rate=0.05, dropout=0.0).fit(words, [[0, 1]] * 60)
    assert len(fitted.model_.schema.categorical) == (1 if spelling is False else len(PARTS))
    assert fitted.n_features_in_ == 1
    backwards = [["qqed", "qqing"], ["xxed", "xxing"]]
    assert (fitted.score(backwards, [[1, 0], [1, 0]]) == 1) == (spelling is not False)


def test_spelling_of_numbers() -> None:
    X, y = data_for(tagger())
    with pytest.raises(
        ValueError, match="^spelling=True, but X has no feature that is text, whose spelling could count$"
    ):
        tagger(spelling=True).fit(X, y)


@BOTH
def test_groups_are_never_divided(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = data_for(make())
    groups = np.array([f"patient {i % 8}" for i in range(40)])
    sides = divisions(monkeypatch)
    make(validation_split=0.25).fit(X, y, groups=groups)
    make(validation_split=0.25).fit(X, y)
    (training, held_out), (_, by_chance) = sides
    assert not set(groups[training]) & set(groups[held_out])
    assert len(set(groups[held_out])) == 2
    assert sorted(training + held_out) == list(range(40))
    assert len(set(groups[by_chance])) > 2


def rare(count: int = 150) -> tuple[list[Any], list[Any]]:
    """A tenth of the steps is "rare", and hard to tell from the others."""
    random = np.random.default_rng(3)
    flags = [random.random(6) < 0.1 for _ in range(count)]
    return [flag[:, np.newaxis] + random.normal(size=(6, 1)) for flag in flags], [
        np.where(flag, "rare", "usual") for flag in flags
    ]


def test_class_weights_make_a_rare_class_heard() -> None:
    X, y = rare()
    parameters: dict[str, Any] = {"epochs": 8, "learning_rate": 0.03}
    recalls = []
    for weight in (None, {"rare": 9.0}, "balanced"):
        fitted = tagger(class_weight=weight, **parameters).fit(X, y)
        truth, found = np.concatenate(y), np.concatenate(fitted.predict(X))
        recalls.append((found[truth == "rare"] == "rare").mean())
    assert recalls[0] < 0.3 < 0.5 < min(recalls[1:])
    ones = tagger(class_weight={}, **parameters).fit(X, y)
    named = tagger(class_weight={"rare": 1, "usual": 1.0}, **parameters).fit(X, y)
    assert weight_bits(ones.model_.network) == weight_bits(named.model_.network)


def test_balanced_weights_are_scikit_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = rare(40)
    labels = [str(steps[0]) for steps in y]
    sides = divisions(monkeypatch)
    balanced = classifier(class_weight="balanced").fit(X, labels)
    (training, _), *_ = sides
    counts = {name: sum(labels[i] == name for i in training) for name in ("rare", "usual")}
    weights = {name: len(training) / (2 * count) for name, count in counts.items()}
    assert weight_bits(classifier(class_weight=weights).fit(X, labels).model_.network) == weight_bits(
        balanced.model_.network
    )


def test_printing(capsys: pytest.CaptureFixture[str]) -> None:
    X, y = beginnings()
    classifier(validation_split=0.1).fit(X, y)
    assert capsys.readouterr().out == ""
    classifier(validation_split=0.1, verbose=True).fit(X, y)
    number = r"\d+\.\d{4}"
    lines = [f"Epoch {i}/2: loss {number}, val_loss {number}, val_accuracy {number}\n" for i in (1, 2)]
    assert re.fullmatch("".join(lines), capsys.readouterr().out)


# --- partial_fit -----------------------------------------------------------------------------------------------------


@BOTH
def test_partial_fit_goes_on(make: Any) -> None:
    X, y = data_for(make())
    first, again = (make(learning_rate=0.01).partial_fit(X[:20], y[:20], classes=["low", "high"]) for _ in range(2))
    assert first.classes_.tolist() == ["high", "low"]
    assert first.model_.network.network.iteration == 2  # batches of 16 and 4
    for estimator in (first, again):
        estimator.partial_fit(X[20:], y[20:])
    assert weight_bits(first.model_.network) == weight_bits(again.model_.network)
    assert first.model_.network.network.iteration == 4
    before = weight_bits(first.model_.network)
    encoder = first.model_.schema
    first.set_params(batch_size=None).partial_fit(X, y, classes=["high", "low"])
    assert first.model_.network.network.iteration == 6  # 32 and 8
    assert first.model_.schema is encoder
    assert weight_bits(first.model_.network) != before
    assert weight_bits(make().fit(X, y).partial_fit(X, y).model_.network) != weight_bits(
        make().fit(X, y).model_.network
    )


def test_partial_fit_learns() -> None:
    estimator = tagger(units=12, learning_rate=0.02, dropout=0.0)
    for seed in range(25):
        estimator.partial_fit(*echoes(64, seed=seed), classes=["low", "high"])
    assert estimator.score(*echoes(100, seed=99)) > 0.9


def test_partial_fit_heeds_class_weights_and_the_learning_rate() -> None:
    X, y = rare(20)
    found = set()
    for parameters in ({}, {"class_weight": "balanced"}, {"class_weight": {"rare": 3}}, {"learning_rate": 0.1}):
        found.add(
            b"".join(weight_bits(tagger(**parameters).partial_fit(X, y, classes=["rare", "usual"]).model_.network))
        )
    assert len(found) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e, X, y: clone(e).partial_fit(X, y), "classes must be passed on the first call to partial_fit"),
        (
            lambda e, X, y: e.partial_fit(X, y, classes=["low", "other"]),
            "classes=['low', 'other'] are not those of befor",
        ),
        (
            lambda e, X, y: e.partial_fit(X[:1], ["other"]),
            "y has the label 'other', which is none of the classes 'high'",
        ),
        (lambda e, X, y: e.partial_fit([np.zeros((3, 2))], ["low"]), "X has 2 features, but the model is expecting 1 "),
        (
            lambda e, X, y: clone(e).partial_fit(X, y, classes=["low"]),
            "X has one class, 'low' in column 'label': labels of at least two classes are needed",
        ),
    ],
)
def test_partial_fit_refuses(change: Any, message: str) -> None:
    X, y = beginnings()
    fitted = classifier().fit(X, y)
    before = weight_bits(fitted.model_.network)
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        change(fitted, X, y)
    assert weight_bits(fitted.model_.network) == before


# --- When it goes wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"units": 0}, "training: units must be at least 1, not 0"),
        ({"direction": "up"}, "training: direction must be one of 'both', 'forward', 'backward', 'none', not 'up'"),
        ({"merge_mode": None}, "training: merge_mode must be one of"),
        ({"dropout": 1}, "training: dropout must be at least 0 and below 1"),
        ({"learning_rate": 0}, "training: learning_rate must be a positive number, not 0"),
        ({"validation_split": 1.0}, "training: validation_split must be at least 0 and below 1, not 1.0"),
        ({"spelling": "yes"}, "SequenceClassifier: spelling must be one of None, True, False, not 'yes'"),
        ({"standardize": "yes"}, "SequenceClassifier: standardize must be one of True, False, not 'yes'"),
        (
            {"pooling": "sum"},
            "training: pooling must be one of None, 'mean', 'max', 'attention', 'last', not 'sum'",
        ),
        ({"conv": 64}, "training: conv must be filters x kernel size, such as '64x5', or several of them"),
        ({"conv": "64x5,64x3"}, "training: conv must be filters x kernel size, such as '64x5', or several of them"),
        ({"conv": "4x0"}, "training: conv must be filters x kernel size, such as '64x5', or several of them"),
        ({"conv": "4x3", "direction": "none"}, "with direction 'none' no step knows the others, which a convolution"),
        ({"variational_dropout": 0.5}, "training: variational_dropout must be one of True, False, not 0.5"),
        ({"weight_decay": -0.1}, "training: weight_decay must be a number from 0 to below 1 / learning_rate, not -0.1"),
        (
            {"weight_decay": 250, "learning_rate": 0.004},
            "training: weight_decay must be a number from 0 to below 1 / le",
        ),
        ({"class_weight": "even"}, "class_weight must be None, 'balanced' or a dictionary of classes, not 'even'"),
        ({"class_weight": {"lo": 1}}, "class_weight has 'lo', which is none of the classes 'high', 'low'"),
        ({"class_weight": {"low": -1}}, "class_weight must be finite numbers from 0, not {'low': -1.0}"),
    ],
)
def test_impossible_parameters(parameters: dict[str, Any], message: str) -> None:
    X, y = beginnings()
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        classifier(**parameters).fit(X, y)


@pytest.mark.parametrize(
    ("fit", "message"),
    [
        (
            lambda X, y: classifier().fit(X, None),
            "SequenceClassifier requires y to be passed, but the target y is None",
        ),
        (
            lambda X, y: classifier().fit(X, y[:-1]),
            "Found input variables with inconsistent numbers of samples: X has 40",
        ),
        (lambda X, y: classifier().fit(X, y, groups=[1, 2]), "groups has shape (2,), but X has 40 sequences"),
        (
            lambda X, y: classifier().fit(X, [1] * 40),
            "X has one class, '1' in column 'label': labels of at least two classes are needed to learn the difference",
        ),
        (lambda X, y: classifier().fit(X, np.linspace(0, 1, 40)), "Unknown label type: continuous. Labels are classes"),
        (lambda X, y: tagger().fit(X, y), "y: sequence 0 has shape (), but "),
        (lambda X, y: tagger().fit(X, [[None] * len(x) for x in X]), "X has no label in column 'label': labels of at "),
        (
            lambda X, y: classifier().fit(X, y).predict([[[1.0, 2.0]]]),
            "X has 2 features, but the model is expecting 1 ",
        ),
        (
            lambda X, y: classifier().fit(X, y).predict([["a"]]),
            "the steps of X are strings, but those of the training data were num",
        ),
        (lambda X, y: tagger().fit(*echoes()).score([[1.0]], [[None]]), "X has no label in column 'label'"),
        (lambda X, y: classifier().fit(X, y, validation_data=(X,)), "validation_data is (X, y)"),
    ],
)
def test_data_that_do_not_fit(fit: Any, message: str) -> None:
    X, y = beginnings()
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        fit(X, y)


def test_labels_unknown_to_the_model_count_as_wrong() -> None:
    X, y = echoes()
    fitted = tagger().fit(X, y)
    assert fitted.score(X, [["other"] * len(labels) for labels in y]) == 0


def test_a_loss_that_is_not_finite() -> None:
    X, y = beginnings()
    with pytest.raises(DivergedError, match="try a smaller learning_rate"):
        classifier(learning_rate=1e38, batch_size=2).partial_fit(X, y, classes=["low", "high"])
    with pytest.raises(DivergedError):
        classifier(learning_rate=1e38, batch_size=2).fit(X, y)


def test_an_interrupted_fit_keeps_the_best_until_then(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = beginnings()

    def interrupt(line: str) -> None:
        if line.startswith("Epoch 3"):
            raise KeyboardInterrupt

    monkeypatch.setattr("builtins.print", interrupt)
    estimator = classifier(verbose=True, epochs=50)
    with pytest.raises(TrainingInterrupted):
        estimator.fit(X, y)
    assert estimator.training_["epochs"] == 3
    assert estimator.predict(X).shape == (40,)


# --- Learning --------------------------------------------------------------------------------------------------------


def test_a_tagger_learns_what_its_direction_can_see() -> None:
    train, test = echoes(150), echoes(100, seed=2)
    scores = {}
    for direction in ("both", "forward", "backward"):
        parameters: dict[str, Any] = {"units": 10, "epochs": 20, "learning_rate": 0.03, "direction": direction}
        scores[direction] = tagger(**parameters).fit(*train).score(*test)
    majority = max(np.mean(np.concatenate(test[1]) == name) for name in NAMES)
    assert scores["forward"] < majority + 0.05
    assert min(scores["both"], scores["backward"]) > 0.9


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
def test_a_classifier_learns_with_every_pooling(pooling: str) -> None:
    train, test = beginnings(150), beginnings(100, seed=2)
    parameters: dict[str, Any] = {"units": 10, "epochs": 25, "learning_rate": 0.03, "pooling": pooling}
    assert classifier(**parameters).fit(*train).score(*test) > 0.9
