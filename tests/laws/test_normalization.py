"""BatchNormalization: one batch is one share, moving averages are no optimizer's, and outputs depend on no company."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilstm import utils
from bilstm.callbacks import Callback, EarlyStopping, ModelCheckpoint
from bilstm.engine.network import Network
from bilstm.engine.plans import OptimizerPlan, Targets, batch_normalization, dense
from bilstm.layers import LSTM, BatchNormalization, Bidirectional, Conv1D, Dense, Dropout, to_json
from bilstm.models import Sequential, load_model
from bilstm.models.fitting import FitData
from bilstm.optimizers import SGD, Adam, Optimizer
from bilstm.ragged import Ragged, as_ragged, offsets_of
from bilstm.training.checkpoints import Checkpoint
from bilstm.training.loop import LoopOptions, train_model
from laws.test_builds import BUILDS, on_all, trained
from laws.test_invariance import OPTIMIZERS, THREADS, network_arrays
from oracles.models import Case, bits, weight_bits

Array = npt.NDArray[Any]


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = utils.threads()
    yield
    utils.set_threads(before)


def normalized(*, per_step: bool = True) -> Case:
    """Work enough for threads, in many chunks of rows."""
    random = np.random.default_rng(4)
    lengths = [*random.integers(1, 60, 47), 1, 700]
    layers = [
        BatchNormalization(momentum=0.5),
        Conv1D(20, 3, padding="same", activation="relu"),
        BatchNormalization(center=False),
        Dropout(0.2),
        Bidirectional(LSTM(33, return_sequences=per_step)),
        BatchNormalization(scale=False),
        Dense(4, "softmax"),
    ]
    data = Ragged(random.normal(3, 2, size=(sum(lengths), 5)), offsets_of(lengths))
    y = random.integers(-1, 4, sum(lengths) if per_step else len(lengths))
    return Case([to_json(layer) for layer in layers], data, y, "sparse_categorical_crossentropy", 3)


def tagger() -> Sequential:
    layers = [BatchNormalization(momentum=0.8), LSTM(5, return_sequences=True), Dense(1, "sigmoid")]
    model = Sequential(layers, seed=1)
    model.build((None, None, 2))
    model.compile(Adam(0.02), "binary_crossentropy")
    return model


def data_for_tagger(count: int = 12) -> tuple[Array, Array]:
    x = np.random.default_rng(2).normal(4, 2, (count, 6, 2)).astype(np.float32)
    return x, x[:, :, :1] > 4


def moving(model: Sequential) -> list[Array]:
    return [array for name, array in model.tensors().items() if "moving" in name]


# --- One answer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_step", [True, False])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: f"{o.kind} {o.clipping}")
def test_threads_change_no_bit(optimizer: Optimizer, per_step: bool) -> None:
    case, results = normalized(per_step=per_step), []
    for count in THREADS:
        utils.set_threads(count)
        model = case.model(optimizer)
        losses = [model.train_on_batch(case.data, case.y) for _ in range(3)]
        results.append((network_arrays(model), bits(model.predict_rows(case.data)), losses))
    assert results[0] == results[1] == results[2]


@pytest.mark.skipif(len(BUILDS) < 2, reason="this processor can run one build only")
@pytest.mark.parametrize("per_step", [True, False])
def test_builds_change_no_bit(per_step: bool) -> None:
    on_all(lambda: trained(normalized(per_step=per_step)))


def test_recomputing_changes_no_bit() -> None:
    case = normalized()
    model, other = case.model(), case.model()
    other.compile("adam", case.loss, ["acc", "mse", "mae"], recompute=True)
    for one in (model, other):
        one.train_on_batch(case.data, case.y)
    assert network_arrays(model) == network_arrays(other)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.lists(st.integers(1, 4), min_size=1, max_size=9))
@settings(max_examples=20)
def test_a_stream_is_predicted_as_its_whole_is(lengths: list[int], pieces: list[int]) -> None:
    model = tagger()
    model.train_on_batch(*data_for_tagger())
    x = np.random.default_rng(len(lengths)).normal(size=(1, sum(pieces), 2)).astype(np.float32)
    stream, outputs, start = model.stream(), [], 0
    for piece in pieces:
        outputs.append(stream.predict(x[:, start : start + piece]))
        start += piece
    assert bits(np.concatenate(outputs, axis=1)) == bits(model.predict(x))


# --- Shares -----------------------------------------------------------------------------------------------------------


def small_network() -> Network:
    network = Network([dense(0, 3), batch_normalization(1, 0.9, 1e-3), dense(2, 2)], 2)
    network.write(np.random.default_rng(1).random(network.parameter_count, np.float32))
    return network


def small_batch(count: int) -> tuple[Ragged, Targets]:
    random = np.random.default_rng(count)
    lengths = random.integers(1, 5, count)
    data = Ragged(random.normal(size=(lengths.sum(), 2)), offsets_of(lengths))
    return data, Targets(values=random.normal(size=(lengths.sum(), 2)))


@pytest.mark.fast
@pytest.mark.parametrize("count", [0, 1, 31, 32, 500])
def test_a_batch_is_one_share(count: int) -> None:
    (share,) = small_network().divide(np.ones(count, np.int64))
    assert share.tolist() == list(range(count))


@pytest.mark.fast
def test_a_part_of_a_batch_is_refused() -> None:
    network, (data, targets) = small_network(), small_batch(40)
    everything, labelled = np.arange(40), len(targets.labelled)
    message = "a batch normalization's training needs the whole batch, as one share in the batch's order"
    for shares, count in (
        ([everything[:20], everything[20:]], labelled),
        ([everything[::-1]], labelled),
        ([everything], labelled + 1),
        ([np.arange(5, 40)], labelled),
    ):
        with pytest.raises(ValueError, match=message):
            network.gradient_of_shares(data, targets, shares, shares, count, "mean_squared_error", training=True)


def test_a_worker_without_a_share_moves_its_averages_too() -> None:
    data, targets = small_batch(40)
    alone, members, plan = small_network(), [small_network(), small_network()], OptimizerPlan(learning_rate=0.1)
    for _ in range(3):
        alone.gradient(data, targets, "mean_squared_error", training=True)
        alone.update(plan)
        shares, labelled = members[1].divide(data.lengths), len(targets.labelled)
        magnitudes = []
        for member, own in zip(members, ([], shares), strict=True):
            found = member.gradient_of_shares(data, targets, own, own, labelled, "mean_squared_error", training=True)
            magnitudes.append(found[1])
        total = sum(member.sum_of_shares(1, max(magnitudes)) for member in members)
        for member in members:
            member.write(np.asarray(total, np.float32), "gradients")
            member.update(plan)
    assert bits(alone.read()) == bits(members[0].read()) == bits(members[1].read())


# --- Moving averages --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.0, 0.75, 1.0])
@pytest.mark.parametrize(
    "optimizer", [Adam(0.5, weight_decay=0.5), SGD(0.5, global_clipnorm=1e-6), SGD(0.5, clipvalue=1e-6)], ids=str
)
def test_no_optimizer_changes_them(optimizer: Optimizer, momentum: float) -> None:
    x, y = data_for_tagger()
    model = Sequential([BatchNormalization(momentum=momentum, input_shape=(None, 2)), Dense(1)], seed=1)
    model.compile(optimizer, "mse")
    expected = [np.zeros(2), np.ones(2)]
    for _ in range(3):
        model.train_on_batch(x, y.astype(np.float32))
        batch = x.reshape(-1, 2).astype(np.float64)
        measured = batch.mean(axis=0), batch.var(axis=0)
        expected = [momentum * a + (1 - momentum) * b for a, b in zip(expected, measured, strict=True)]
        for found, right in zip(moving(model), expected, strict=True):
            np.testing.assert_allclose(found, right, rtol=1e-6)


def test_they_are_not_part_of_the_norm() -> None:
    """With inputs so far away that their distance would leave nothing of the gradients."""
    x, y = data_for_tagger()
    results = []
    for clipping in ({}, {"global_clipnorm": 1e3}, {"clipnorm": 1e3}, {"clipvalue": 1e3}):
        model = Sequential([BatchNormalization(input_shape=(None, 2)), Dense(1)], seed=1)
        model.compile(SGD(0.1, **clipping), "mse")
        model.train_on_batch(x + 1e6, y.astype(np.float32))
        results.append(weight_bits(model))
    assert results == results[:1] * 4


def test_steps_without_labels_count() -> None:
    x, y = data_for_tagger(2)
    model, other = tagger(), tagger()
    partly = np.where(np.arange(6)[:, np.newaxis] < 3, y, -1.0)
    model.train_on_batch(x, y)
    other.train_on_batch(x, partly)
    assert [bits(each) for each in moving(model)] == [bits(each) for each in moving(other)]
    assert weight_bits(model) != weight_bits(other)


def test_a_row_alone_is_the_offset() -> None:
    model = Sequential([BatchNormalization(momentum=0.0, input_shape=(None, 3))])
    model.compile("sgd", "mse")
    assert model.train_on_batch(np.full((1, 1, 3), 7.0), np.zeros((1, 1, 3))) == 0
    assert [each.tolist() for each in moving(model)] == [[7.0] * 3, [0.0] * 3]


def test_numbers_whose_squares_are_more_than_float32_holds() -> None:
    x = np.array([[[3e38, 1.0], [-3e38, 2.0]]], np.float32)
    model = Sequential([BatchNormalization(input_shape=(None, 2)), Dense(1)], seed=1)
    model.compile("sgd", "mse")
    for _ in range(3):
        model.train_on_batch(x, np.zeros((1, 2)))
    assert all(np.isfinite(each).all() for each in model.get_weights())
    assert np.isfinite(model.predict(x)).all()


def test_a_loss_that_is_not_finite_moves_nothing() -> None:
    model = Sequential([BatchNormalization(input_shape=(None, 1)), Dense(1)], seed=1)
    model.compile("sgd", "mse")
    before = weight_bits(model)
    assert np.isnan(model.train_on_batch(np.ones((1, 2, 1)), np.full((1, 2, 1), 3e38)))
    assert weight_bits(model) == before


# --- What keeps them --------------------------------------------------------------------------------------------------


def test_files_and_copies_hold_them(tmp_path: Path) -> None:
    x, y = data_for_tagger()
    model = tagger()
    model.fit(x, y, epochs=2, verbose=0)
    model.save(tmp_path / "model")
    model.save_weights(tmp_path / "weights")
    other = tagger()
    other.load_weights(tmp_path / "weights")
    for copy in (load_model(tmp_path / "model"), other, pickle.loads(pickle.dumps(model))):
        assert weight_bits(copy) == weight_bits(model)
        assert bits(copy.predict(x)) == bits(model.predict(x))
    assert Sequential.from_config(model.get_config(), seed=1).get_config() == model.get_config()


def test_the_best_epoch_is_restored_with_them(tmp_path: Path) -> None:
    x, y = data_for_tagger()

    class Remember(Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            assert isinstance(self.model, Sequential)
            epochs.append(weight_bits(self.model))

    epochs: list[list[bytes]] = []
    model = tagger()
    stopping = EarlyStopping("loss", min_delta=100.0, patience=2, restore_best_weights=True)
    checkpoint = ModelCheckpoint(str(tmp_path / "best"), monitor="loss", mode="max", save_best_only=True)
    model.fit(x, y, epochs=5, verbose=0, callbacks=[Remember(), stopping, checkpoint])
    assert weight_bits(model) == epochs[0] == weight_bits(load_model(tmp_path / "best"))
    assert epochs[0] != epochs[1]


class EndedError(Exception):
    """Stands for whatever ends a process."""


def test_a_training_goes_on_with_them_from_its_checkpoint(tmp_path: Path) -> None:
    x, y = data_for_tagger()
    data = FitData.all_of(as_ragged(x), Targets(values=y.reshape(-1, 1)))
    options = LoopOptions(epochs=4, batch_size=5)

    def end(progress: dict[str, Any]) -> None:
        if progress["epoch"] == 3:
            raise EndedError

    whole, again, path = tagger(), tagger(), tmp_path / "checkpoint"
    train_model(whole, data, data, options)
    with pytest.raises(EndedError):
        train_model(tagger(), data, data, options, checkpoint=Checkpoint(path), progress=end)
    train_model(again, data, data, options, checkpoint=Checkpoint(path, resume=True))
    assert network_arrays(whole) == network_arrays(again)


def test_a_negative_variance_is_refused() -> None:
    model = tagger()
    weights = model.get_weights()
    weights[3] = -weights[3]
    with pytest.raises(ValueError, match=r"set_weights: layers.0.moving_variance holds a negative number"):
        model.set_weights(weights)
