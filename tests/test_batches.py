"""fit and evaluate of batches that a generator or an indexed object makes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bilstm.callbacks import LambdaCallback
from bilstm.errors import UserError
from bilstm.utils import PyDataset, Sequence
from oracles.models import above_half, compiled, weight_bits


def batches(count: int = 3) -> list[Any]:
    """Of different numbers of steps, which no array holds."""
    return [above_half(4, steps=3 + number, seed=number) for number in range(count)]


class Indexed(Sequence):
    def __init__(self, count: int = 3) -> None:
        self.batches, self.order, self.ended = batches(count), [], 0
        self.order: list[int]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Any:
        self.order.append(index)
        return self.batches[index]

    def on_epoch_end(self) -> None:
        self.ended += 1


class Loader:
    """Can be iterated over again and again, as PyTorch's DataLoader."""

    def __iter__(self) -> Iterator[Any]:
        return iter(batches())


@pytest.mark.parametrize("make", [lambda: iter(batches() * 2), Indexed, Loader])
def test_every_source_of_batches_is_a_step_for_each(make: Any) -> None:
    fitted, stepped = compiled(["acc"]), compiled(["acc"])
    history = fitted.fit(make(), epochs=2, steps_per_epoch=3, shuffle=False, verbose=0).history
    losses = [[stepped.train_on_batch(x, y)[0] for x, y in batches()] for _ in range(2)]  # type: ignore[index]
    assert weight_bits(fitted) == weight_bits(stepped)
    weights = [x.size for x, _ in batches()]
    assert history["loss"] == pytest.approx([np.average(of_epoch, weights=weights) for of_epoch in losses])


def test_an_iterator_without_a_number_of_steps_is_one_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    model = compiled()
    seen: list[int] = []
    note = LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    model.fit(iter(batches()), callbacks=[note])
    assert seen == [0, 1, 2]
    assert "3/3 [" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"^fit: the batches ended after 0, before any batch of this epoch$"):
        model.fit(iter(batches()), epochs=2, verbose=0)
    with pytest.raises(UserError, match=r"^fit: the batches ended after 3, before 4 batches of an epoch$"):
        model.fit(iter(batches()), steps_per_epoch=4, verbose=0)


@pytest.mark.parametrize("shuffle", [False, True])
def test_an_epoch_uses_every_index_once(shuffle: bool) -> None:
    source = Indexed(8)
    compiled().fit(source, epochs=2, shuffle=shuffle, verbose=0)
    epochs = source.order[:8], source.order[8:]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(8))
    assert (epochs[0] != list(range(8)) and epochs[0] != epochs[1]) == shuffle
    assert source.ended == 2


def test_validation_and_evaluation_of_batches_are_of_all_their_sequences() -> None:
    x, y = above_half(6)
    weight = np.linspace(0.5, 2, 6)
    model = compiled(["acc"])
    weighted = [(x[:2], y[:2]), (x[2:], y[2:], weight[2:])]
    full = np.concatenate([np.ones(2), weight[2:]])
    expected = model.evaluate(x, y, sample_weight=full)
    assert model.evaluate(iter(weighted)) == pytest.approx(expected)
    assert model.evaluate(iter(weighted), steps=1) == model.evaluate(x[:2], y[:2])
    source = Indexed()
    history = model.fit(x, y, epochs=3, validation_data=source, verbose=0).history
    assert source.order == [0, 1, 2]  # drawn once
    assert history["val_loss"][-1] == pytest.approx(model.evaluate(Indexed())[0])  # type: ignore[index]
    part = model.fit(x, y, validation_data=Indexed(), validation_steps=2, verbose=0).history
    assert part["val_loss"][0] == pytest.approx(model.evaluate(iter(batches(2)))[0])  # type: ignore[index]


def test_class_weights_reach_batches() -> None:
    models = [compiled(), compiled()]
    models[0].fit(iter(batches(1)), class_weight={0: 1.0, 1: 3.0}, verbose=0)
    models[1].train_on_batch(*batches(1)[0], class_weight={0: 1.0, 1: 3.0})
    assert weight_bits(models[0]) == weight_bits(models[1])


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"batch_size": 3}, "fit: batch_size=3 is not supported if x makes batches"),
        ({"sample_weight": [1.0]}, "fit: sample_weight=[1.0] is not supported if x makes batches"),
        ({"validation_split": 0.5}, "fit: validation_split=0.5 is not supported if x makes batches"),
        ({"steps_per_epoch": 0}, "fit: steps must be at least 1, not 0"),
        ({"x": iter([(1, 2, 3, 4)])}, "fit: batch 0 must be (x, y) or (x, y, sample_weight)"),
        ({"x": iter([np.zeros((2, 2))])}, "fit: batch 0 must be (x, y) or (x, y, sample_weight)"),
        ({"x": iter([(np.full((1, 2, 1), np.nan), [[0, 1]])])}, "x has nan in sequence 0, step 0, feature 0: every va"),
        (
            {"x": {"a": [1]}},
            "sequences are a (n, steps, features) array, a list of (steps, features) arrays or a Ragged",
        ),
        ({"x": iter([([], [])])}, "fit: batch 0 has no sequences"),
        ({"x": "text"}, "sequences are a (n, steps, features) array, a list of (steps, features) arrays or a Ragged"),
        ({"x": np.zeros((2, 2, 1))}, "y is missing: it has the targets of the sequences in x"),
    ],
)
def test_what_does_not_go_with_batches(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        compiled().fit(**{"x": Indexed(), "verbose": 0} | keywords)


def test_a_source_of_batches_says_what_it_lacks() -> None:
    assert PyDataset is Sequence
    with pytest.raises(NotImplementedError, match="Sequence must define __len__"):
        len(Sequence())
    with pytest.raises(NotImplementedError, match="Sequence must define __getitem__"):
        Sequence()[0]
