"""Sequential.fit: what counts how much: weights of classes, sequences and steps, and steps without a label."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilstm.engine.losses import LOSSES, TargetKind
from bilstm.errors import UserError
from bilstm.layers import Dense
from bilstm.models import Sequential
from bilstm.optimizers import SGD
from bilstm.ragged import Ragged, offsets_of
from oracles.models import Case, above_half, cases, compiled, weight_bits


def losses_by_step(model: Sequential, x: Any, y: Any) -> Any:
    p = np.clip(model.predict(x).astype(np.float64), 1e-7, 1 - 1e-7)
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))[:, :, 0]


@given(st.integers(1, 5), st.integers(0, 99))
@settings(max_examples=30)
def test_losses_are_weighted_means_over_labelled_steps(n: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    x, y = above_half(n, seed=seed)
    table = {0: 0.25, 1: 3.0}
    sequence_weights, step_weights = random.random(n), random.random((n, 4))
    model = compiled()
    by_step, classes = losses_by_step(model, x, y), np.where(y[:, :, 0] == 1, table[1], table[0])
    for keywords, weights in (
        ({}, np.ones((n, 4))),
        ({"class_weight": table}, classes),
        ({"sample_weight": sequence_weights}, np.repeat(sequence_weights[:, np.newaxis], 4, axis=1)),
        ({"sample_weight": step_weights}, step_weights),
        ({"sample_weight": step_weights, "class_weight": table}, step_weights * classes),
    ):
        loss = compiled().fit(x, y, batch_size=n, verbose=0, **keywords).history["loss"][0]
        assert loss == pytest.approx((by_step * weights).mean(), rel=1e-5)


def test_a_step_of_double_weight_counts_as_two() -> None:
    x, y = above_half(2)
    once, twice = compiled(optimizer="sgd"), compiled(optimizer="sgd")
    once.fit(x, y, sample_weight=[2, 1], verbose=0)
    rate = SGD(0.01 * 3 / 2)  # the mean is over three sequences rather than two
    twice.compile(rate, "binary_crossentropy")
    twice.fit(x[[0, 0, 1]], y[[0, 0, 1]], verbose=0)
    for a, b in zip(once.get_weights(), twice.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_class_weights_are_for_training_only() -> None:
    x, y = above_half(8)
    model = compiled()
    history = model.fit(x, y, class_weight={0: 9.0, 1: 5.0}, validation_split=0.5, verbose=0).history
    assert history["val_loss"][0] == model.evaluate(x[4:], y[4:])
    weights = np.arange(8.0)
    history = model.fit(
        x, y, sample_weight=weights, class_weight={0: 9.0, 1: 5.0}, validation_split=0.5, verbose=0
    ).history
    assert history["val_loss"][0] == model.evaluate(x[4:], y[4:], sample_weight=weights[4:])


@given(cases(), st.floats(-5, 5), st.data())
@settings(max_examples=40)
def test_what_stands_beside_a_missing_target_has_no_influence(case: Case, other: float, data: st.DataObject) -> None:
    if LOSSES[case.loss].targets is not TargetKind.NUMBERS:
        other = abs(other) / 5  # cross-entropies take numbers from 0 to 1
    plain, changed = case.model(), case.model()
    y = case.y
    if y.ndim == 2:
        y = y.copy()
        unlabelled = np.flatnonzero(np.isnan(y).any(axis=1))
        kept = data.draw(st.integers(0, y.shape[1] - 1))  # one NaN makes a row unlabelled
        y[unlabelled] = other
        y[unlabelled, kept] = np.nan
    else:
        y = np.where(y < 0, np.nan, y)
    first = plain.fit(case.data, case.y, batch_size=2, epochs=2, verbose=0)
    second = changed.fit(case.data, y, batch_size=2, epochs=2, verbose=0)
    assert weight_bits(plain) == weight_bits(changed)
    np.testing.assert_equal(first.history, second.history)
    weights = np.where(np.isnan(np.asarray(y, float).reshape(len(y), -1)).any(axis=1), 7.0, 1.0)
    weighted = case.model()
    weighted.fit(case.data, case.y, batch_size=2, epochs=2, verbose=0, sample_weight=weights)
    assert weight_bits(plain) == weight_bits(weighted)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(0, 99))
@settings(max_examples=30)
def test_without_context_an_unlabelled_step_might_as_well_not_be_there(lengths: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    data, y = Ragged(random.random((sum(lengths), 2)), offsets_of(lengths)), random.integers(-1, 3, sum(lengths))
    labelled = y >= 0
    kept = [int(labelled[a:b].sum()) for a, b in pairwise(data.offsets)]
    if not any(kept):
        return
    fewer = Ragged(data.values[labelled], offsets_of([steps for steps in kept if steps]))
    models = []
    for x, labels in ((data, y), (fewer, y[labelled])):
        model = Sequential([Dense(4, "tanh", input_shape=(None, 2)), Dense(3, "softmax")], seed=seed)
        model.compile("sgd", "sparse_categorical_crossentropy", ["acc"])
        models.append((model, model.train_on_batch(x, labels), model.test_on_batch(x, labels)))
    assert models[0][1] == pytest.approx(models[1][1], rel=1e-6)
    assert models[0][2] == pytest.approx(models[1][2], rel=1e-6)
    for a, b in zip(models[0][0].get_weights(), models[1][0].get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_an_unlabelled_step_is_context() -> None:
    x, y = above_half(3)
    y[:, 2] = -1
    plain, changed = compiled(), compiled()
    other = x.copy()
    other[:, 2] = 1 - other[:, 2]
    plain.fit(x, y, verbose=0)
    changed.fit(other, y, verbose=0)
    assert weight_bits(plain) != weight_bits(changed)


@pytest.mark.parametrize("missing", [-1, np.nan])
def test_data_without_labels_are_refused(missing: float) -> None:
    """Of training, validation and evaluation, whatever the form; of a batch they are no step."""
    x, y = above_half(3)
    model = compiled(["acc"])
    before = weight_bits(model)
    nothing = np.full(y.shape, missing)
    with pytest.raises(UserError, match="^fit: the training set has no labelled step: its loss would be NaN$"):
        model.fit(x, nothing, verbose=0)
    for validation in ((x, nothing), (x, nothing, [1, 1, 1])):
        with pytest.raises(UserError, match="^fit: validation_data has no labelled step"):
            model.fit(x, y, validation_data=validation, verbose=0)
    with pytest.raises(UserError, match=r"^fit: the validation set \(validation_split=0.3\) has no labelled step"):
        model.fit(x, np.concatenate([y[:2], nothing[2:]]), validation_split=0.3, verbose=0)
    with pytest.raises(UserError, match="^fit: validation_data has no labelled step"):
        model.fit(x, y, validation_data=iter([(x, nothing)]), verbose=0)
    with pytest.raises(UserError, match="^evaluate: y has no labelled step"):
        model.evaluate(x, nothing)
    assert np.isnan(model.train_on_batch(x, nothing)).all()
    assert weight_bits(model) == before
