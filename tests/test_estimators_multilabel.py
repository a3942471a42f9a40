"""Taggers whose steps have any number of labels at once."""

from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score
from sklearn.model_selection import cross_val_score

from bilstm import SequenceTagger, problems
from bilstm.ragged import Ragged
from oracles.models import bits, weight_bits

NAN = float("nan")


def tagger(**parameters: Any) -> SequenceTagger:
    quick: dict[str, Any] = {"units": 5, "layers": 1, "epochs": 2, "batch_size": 16, "random_state": 0}
    return SequenceTagger(**quick | parameters)


def echoes(count: int = 40, seed: int = 1) -> tuple[list[Any], list[Any]]:
    """Sequences, and for each step whether its number, the next and both are high."""
    X, next_high = problems.echo(count, (3, 8), lag=1, seed=seed)
    high = [sequence[:, 0] > 0.5 for sequence in X]
    pairs = zip(high, [labels[:, 0] == 1 for labels in next_high], strict=True)
    return X.to_list(), [np.stack([now, then, now & then], axis=1).astype(np.int64) for now, then in pairs]


def test_several_labels_are_learnt() -> None:
    train, (X, y) = echoes(150), echoes(80, seed=2)
    fitted = tagger(units=10, epochs=30, learning_rate=0.03).fit(*train)
    assert fitted.multilabel_
    assert fitted.classes_.tolist() == [0, 1, 2]
    assert fitted.model_.network.get_config()["layers"][-1]["config"]["layer"]["config"] == {
        "units": 3,
        "activation": "sigmoid",
        "use_bias": True,
    }
    assert set(fitted.training_["history"]) == {"loss", "val_loss"}
    predicted, probable = fitted.predict(X), fitted.predict_proba(X)
    for labels, probabilities, truth in zip(predicted, probable, y, strict=True):
        assert labels.shape == probabilities.shape == truth.shape
        assert labels.dtype == np.int64
        np.testing.assert_array_equal(labels, probabilities > 0.5)
    right = accuracy_score(np.concatenate(y), np.concatenate(predicted))
    assert fitted.score(X, y) == pytest.approx(right)
    assert right > 0.8
    forward = tagger(units=10, epochs=30, learning_rate=0.03, direction="forward").fit(*train)
    assert forward.score(X, y) < right - 0.2  # the next number is not seen


def test_in_the_form_of_what_was_given() -> None:
    X = np.random.default_rng(0).normal(size=(20, 4, 2)).astype(np.float32)
    y = np.stack([X[:, :, 0] > 0, X[:, :, 1] > 0], axis=2)
    fitted = tagger().fit(X, y)
    assert fitted.predict(X).shape == fitted.predict_proba(X).shape == (20, 4, 2)
    ragged = Ragged(X.reshape(-1, 2), np.arange(21) * 4)
    assert bits(np.stack(fitted.predict_proba(ragged))) == bits(fitted.predict_proba(X))
    again = tagger().fit(ragged, Ragged(y.reshape(-1, 2), np.arange(21) * 4))
    assert weight_bits(again.model_.network) == weight_bits(fitted.model_.network)


def test_unlabelled_steps_are_context_only() -> None:
    X, y = echoes()
    some = [labels.astype(float) for labels in y]
    for labels in some[:30]:
        labels[1] = NAN
    marked = [np.where(np.isnan(labels), -1, labels) for labels in some]
    fitted = tagger().fit(X, some)
    assert weight_bits(tagger(missing_label=-1).fit(X, marked).model_.network) == weight_bits(fitted.model_.network)
    assert weight_bits(tagger().fit(X, y).model_.network) != weight_bits(fitted.model_.network)
    right = [(p == t).all(axis=1)[~np.isnan(t[:, 0])] for p, t in zip(fitted.predict(X), some, strict=True)]
    assert fitted.score(X, some) == pytest.approx(np.concatenate(right).mean())


def test_in_scikit_learns_tools() -> None:
    X, y = echoes()
    assert cross_val_score(tagger(), X, y, cv=2).shape == (2,)
    fitted = tagger().fit(X, y)
    copied = pickle.loads(pickle.dumps(fitted))
    assert [bits(rows) for rows in copied.predict_proba(X)] == [bits(rows) for rows in fitted.predict_proba(X)]


def test_partial_fit() -> None:
    X, y = echoes()
    fitted = tagger().partial_fit(X, y, classes=[0, 1, 2])
    before = weight_bits(fitted.model_.network)
    assert weight_bits(fitted.partial_fit(X, y).model_.network) != before
    with pytest.raises(ValueError, match="^y has 3 labels a step, which are not the classes"):
        tagger().partial_fit(X, y, classes=[0, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda X, y: tagger(class_weight="balanced").fit(X, y),
            "class_weight is for one label at a time, but here there are several",
        ),
        (
            lambda X, y: tagger().fit(X, [np.full(labels.shape, NAN) for labels in y]),
            "X has no label in column 'label 0', 'label 1', 'label 2'",
        ),
        (
            lambda X, y: tagger().fit(X, y).score(X, [labels[:, 0] for labels in y]),
            "y has 1 label a step, but SequenceTagger was fitted on 3",
        ),
        (
            lambda X, y: tagger().fit(X, [labels[:, 0] for labels in y]).score(X, y),
            "y has 3 labels a step, but SequenceTagger was fitted on 1",
        ),
        (
            lambda X, y: tagger().fit(X, [labels[:, 0] for labels in y]).partial_fit(X, y),
            "y has 3 labels a step, but SequenceTagger was fitted on 1",
        ),
        (
            lambda X, y: tagger().fit(X, y).score(X, [labels[:, :2] for labels in y]),
            "y has 2 labels a step, but SequenceTagger was fitted on 3",
        ),
        (
            lambda X, y: tagger().fit(X, y).score(X, [np.full(labels.shape, NAN) for labels in y]),
            "X has no label in column 'label 0', 'label 1', 'label 2'",
        ),
    ],
)
def test_what_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        call(*echoes())
