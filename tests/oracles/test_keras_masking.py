"""Live against Keras 3: padded arrays behind Masking or Embedding(mask_zero=True), wherever the masked steps are."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import bilstm.layers
import bilstm.models
import bilstm.optimizers
import bilstm.utils
from bilstm.errors import UserError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what Keras's and PyTorch's own imports warn of is not ours to judge
    keras = pytest.importorskip("keras")

# PyTorch and Keras warn of their own use of each other; bilstm's warnings stay errors.
pytestmark = pytest.mark.filterwarnings("ignore:::keras", "ignore:::torch")

Array = Any
COUNT, STEPS, FEATURES, WORDS = 6, 7, 3, 9


def masks(kind: str, random: np.random.Generator) -> Array:
    """(COUNT, STEPS), which steps are data: padded after, before, on both sides, or missing anywhere."""
    lengths = random.integers(1, STEPS, COUNT, endpoint=True)[:, np.newaxis]
    steps = np.arange(STEPS)
    if kind == "post":
        return steps < lengths
    if kind == "pre":
        return steps >= STEPS - lengths
    if kind == "both":
        return (steps >= 1) & (steps < 1 + lengths)
    kept = random.random((COUNT, STEPS)) < 0.6
    kept[:, 3] = True
    return kept


def twins(network: Any, *, words: bool = False, mask_value: float = 0.0, seed: int = 1) -> tuple[Any, Any]:
    """The same masking network, with the same weights, in both libraries."""
    made = []
    for library in (bilstm, keras):
        layers = library.layers
        if words:
            first = [layers.Input((None,)), layers.Embedding(WORDS, 4, mask_zero=True)]
        else:
            first = [layers.Input((None, FEATURES)), layers.Masking(mask_value=mask_value)]
        model = library.models.Sequential([*first, *network(layers)])
        if made:
            model.set_weights(made[0].get_weights())
        made.append(model)
    return made[0], made[1]


def data(kind: str, seed: int, *, words: bool = False, mask_value: float = 0.0) -> tuple[Array, Array]:
    random = np.random.default_rng(seed)
    kept = masks(kind, random)
    if words:
        return np.where(kept, random.integers(1, WORDS, (COUNT, STEPS)), 0), kept
    x = random.normal(0, 1, (COUNT, STEPS, FEATURES)).astype(np.float32)
    x[:, :, 0] += 0.25 * (x[:, :, 0] == mask_value)
    x[~kept] = mask_value
    return x, kept


def tagger(layers: Any) -> list[Any]:
    return [layers.Bidirectional(layers.LSTM(4, return_sequences=True)), layers.Dense(1, activation="sigmoid")]


def stacked(layers: Any) -> list[Any]:
    return [layers.Bidirectional(layers.LSTM(3, return_sequences=True), merge_mode="sum"), *tagger(layers)]


def forward(layers: Any) -> list[Any]:
    return [layers.LSTM(4, return_sequences=True), layers.Dense(2, activation="softmax")]


def classifier(layers: Any) -> list[Any]:
    return [layers.Bidirectional(layers.LSTM(4)), layers.Dense(1, activation="sigmoid")]


def pooled(layers: Any) -> list[Any]:
    return [layers.LSTM(4, return_sequences=True), layers.GlobalAveragePooling1D(), layers.Dense(1)]


def backwards(layers: Any) -> list[Any]:
    return [layers.LSTM(4, go_backwards=True)]


KINDS = ["post", "pre", "both", "anywhere"]
every_kind = pytest.mark.parametrize("kind", KINDS)
NETWORKS = [tagger, stacked, forward, classifier, pooled, backwards]


@every_kind
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
@pytest.mark.parametrize("mask_value", [0.0, -7.0])
def test_predictions_of_arrays(network: Any, kind: str, mask_value: float) -> None:
    ours, theirs = twins(network, mask_value=mask_value)
    x, kept = data(kind, 1, mask_value=mask_value)
    mine, other = ours.predict(x), np.asarray(theirs.predict_on_batch(x))
    assert mine.shape == other.shape
    if mine.ndim == 3:
        assert not mine[~kept].any()  # what Keras computes for masked steps means nothing: here it is 0
        mine, other = mine[kept], other[kept]
    np.testing.assert_allclose(mine, other, rtol=0, atol=1e-5)


@every_kind
@pytest.mark.parametrize("network", [tagger, classifier, pooled], ids=lambda network: network.__name__)
def test_predictions_of_words(network: Any, kind: str) -> None:
    ours, theirs = twins(network, words=True)
    x, kept = data(kind, 2, words=True)
    mine, other = ours.predict(x), np.asarray(theirs.predict_on_batch(x))
    if mine.ndim == 3:
        mine, other = mine[kept], other[kept]
    np.testing.assert_allclose(mine, other, rtol=0, atol=1e-5)


@every_kind
@pytest.mark.parametrize("words", [False, True], ids=["numbers", "words"])
@pytest.mark.parametrize("weights", [None, "steps", "sequences"])
@pytest.mark.parametrize("network", [tagger, classifier], ids=lambda network: network.__name__)
def test_training(network: Any, kind: str, words: bool, weights: str | None) -> None:
    """Losses and trained weights: y and the weights of masked steps, whatever they are, have no influence."""
    x, _ = data(kind, 3, words=words)
    random = np.random.default_rng(4)
    per_step = network is tagger
    y = random.integers(2, size=(COUNT, STEPS, 1) if per_step else (COUNT, 1)).astype(np.float32)
    weight = None
    if weights == "sequences":
        weight = random.random(COUNT).astype(np.float32)
    elif weights == "steps" and per_step:
        weight = random.random((COUNT, STEPS)).astype(np.float32)
    ours, theirs = twins(network, words=words)
    for library, model in ((bilstm, ours), (keras, theirs)):
        model.compile(loss="binary_crossentropy", optimizer=library.optimizers.SGD(0.5))
    of_steps = weights == "sequences" and per_step  # Keras wants a weight for each step then
    repeated = np.repeat(weight[:, np.newaxis], STEPS, 1) if of_steps and weight is not None else weight
    mine = [float(ours.train_on_batch(x, y, sample_weight=weight)) for _ in range(3)]
    other = [float(theirs.train_on_batch(x, y, sample_weight=repeated)) for _ in range(3)]
    np.testing.assert_allclose(mine, other, rtol=1e-4)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@every_kind
@pytest.mark.parametrize("network", [tagger, classifier], ids=lambda network: network.__name__)
def test_fit_and_evaluate(network: Any, kind: str) -> None:
    x, _ = data(kind, 5)
    per_step = network is tagger
    y = np.random.default_rng(6).integers(2, size=(COUNT, STEPS, 1) if per_step else (COUNT, 1)).astype(np.float32)
    settings: Any = {"epochs": 3, "batch_size": COUNT, "shuffle": False, "verbose": 0, "validation_data": (x, y)}
    found = []
    for library, model in zip((bilstm, keras), twins(network), strict=True):
        model.compile(loss="binary_crossentropy", optimizer=library.optimizers.SGD(0.5), metrics=["accuracy"])
        found.append((model.fit(x, y, **settings).history, model.evaluate(x, y, verbose=0)))
    (mine, my_scores), (other, other_scores) = found
    assert set(mine) == set(other)
    for name in mine:
        np.testing.assert_allclose(mine[name], other[name], rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(my_scores, other_scores, rtol=1e-4)


# --- Without Keras ---------------------------------------------------------------------------------------------------


@every_kind
def test_masked_steps_might_as_well_not_be_there(kind: str) -> None:
    """For every form of x, in training and in prediction, to the last bit."""
    x, kept = data(kind, 7)
    y = np.random.default_rng(8).integers(2, size=(COUNT, STEPS))
    short_x = [sequence[own] for sequence, own in zip(x, kept, strict=True)]
    short_y = [labels[own] for labels, own in zip(y, kept, strict=True)]
    ours, _ = twins(tagger)
    plain = bilstm.models.Sequential([bilstm.layers.Input((None, FEATURES)), *tagger(bilstm.layers)])
    plain.set_weights(ours.get_weights())
    plain.seed = ours.seed
    for model in (ours, plain):
        model.compile("adam", "binary_crossentropy")
    form = {"post": list, "pre": bilstm.Ragged.from_padded}.get(kind, np.asarray)(x)
    ours.fit(form, list(y) if kind == "post" else y, epochs=2, shuffle=False, verbose=0)
    plain.fit(short_x, short_y, epochs=2, shuffle=False, verbose=0)
    for a, b in zip(ours.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    rows = ours.predict(form)
    rows = rows.values.reshape(COUNT, STEPS, 1) if isinstance(rows, bilstm.Ragged) else np.asarray(rows)
    np.testing.assert_array_equal(rows[kept], np.concatenate(plain.predict(short_x)))
    assert not rows[~kept].any()
    assert (ours.predict_classes(x)[~kept] == 0).all()


def test_what_masks_must_come_first_and_leave_something() -> None:
    layers = bilstm.layers
    with pytest.raises(ValueError, match=r"Masking\(mask_value=2.0\) must be the first layer"):
        bilstm.Sequential([layers.Dense(2), layers.Masking(2)])
    with pytest.raises(ValueError, match=r"Embedding\(.*mask_zero=True\) must be the first layer"):
        bilstm.Sequential([layers.Masking(), layers.Embedding(3, 2, mask_zero=True)])
    with pytest.raises(ValueError, match="Masking: mask_value must be a finite number, not nan"):
        layers.Masking(float("nan"))
    model, _ = twins(tagger)
    x, _ = data("post", 9)
    x[4] = 0
    with pytest.raises(UserError, match="sequence 4 of x has only masked steps, with the value 0: leave it out"):
        model.predict(x)
    with pytest.raises(ValueError, match=r"predictor: Masking\(\) leaves out or adds steps: use predict"):
        model.predictor(steps=3)
    with pytest.raises(ValueError, match=r"the model does nothing yet: add a layer after Masking\(\)"):
        bilstm.Sequential([layers.Masking(input_shape=(None, 2))]).summary()
