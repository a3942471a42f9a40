"""One answer from every build of the engine that this processor can run, to the last bit.

The build for 64-bit Arm is compared under an emulator: tests/arm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from bilstm import utils
from bilstm.engine.losses import CRF_LIKELIHOOD, LOSSES, TABLE, Loss
from bilstm.engine.plans import ACTIVATIONS, GATES, PRECISIONS
from bilstm.layers import LAYERS, LSTM, Bidirectional, Dense, Dropout, Input, Layer, Masking, Padding, to_json
from bilstm.models import Sequential
from bilstm.optimizers import Optimizer
from bilstm.ragged import Ragged, offsets_of
from laws.test_invariance import OPTIMIZERS, POOLS, large, pooled
from oracles.engines import own_builds, using
from oracles.models import Case, bits, random_labels, set_random_weights
from oracles.thresholds import activations_of, draw

BUILDS = own_builds()
pytestmark = pytest.mark.skipif(len(BUILDS) < 2, reason="this processor can run one build only")
SAMPLE = 40  # random networks in each run of the tests
MANY, CHUNK = 2_000, 100  # in `make test-slow`


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = utils.threads()
    yield
    utils.set_threads(before)


def on_all(compute: Callable[[], dict[str, Any]], threads: int = 2) -> None:
    """What is computed has the same bits from every build."""
    expected: dict[str, bytes] = {}
    for name, engine in BUILDS.items():
        with using(engine):
            assert utils.target() == name
            utils.set_threads(threads)
            found = {what: bits(numbers) for what, numbers in compute().items()}
        expected = expected or found
        differ = [what for what in expected if found[what] != expected[what]]
        assert not differ, f"{name} differs in {', '.join(differ)}"


def trained(case: Case, optimizer: Any = "adam", *, recompute: bool = False, steps: int = 3) -> dict[str, Any]:
    """All that a model's life leaves: outputs before and after training steps, scores, weights, and moments."""
    model = Sequential.from_config({"features": case.data.features, "layers": case.layers}, seed=case.seed, draw=False)
    set_random_weights(model, np.random.default_rng(case.seed))  # orthogonal ones would take longer than all the rest
    model.compile(optimizer, case.loss, ["acc", "mse", "mae"], recompute=recompute)
    network = model.network
    assert network is not None
    found: dict[str, Any] = {"outputs of a new network": model.predict_rows(case.data)}
    for step in range(steps):
        found[f"scores of training step {step}"] = model.train_on_batch(case.data, case.y)
    for name in ("weights", "gradients", "first_moments", "second_moments"):
        found[name] = network.read(name)
    found["scores"] = model.evaluate(case.data, case.y)
    for precision in PRECISIONS:
        found[f"outputs in {precision}"] = model.predict_rows(case.data, precision=precision)
    return found


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: f"{o.kind} {o.clipping}")
def test_where_all_threads_have_work(optimizer: Optimizer) -> None:
    on_all(lambda: trained(large(), optimizer, steps=2))


@pytest.mark.parametrize("pool", POOLS, ids=lambda p: type(p).__name__)
def test_pooled_rows(pool: Layer) -> None:
    on_all(lambda: trained(pooled(pool), steps=2))


@pytest.mark.parametrize("units", [1, 5, 35])
@pytest.mark.parametrize("loss", TABLE, ids=lambda loss: loss.name)
def test_every_loss_of_every_activation(loss: Loss, units: int) -> None:
    random = np.random.default_rng(units)
    lengths = random.integers(1, 60, 33)
    data = Ragged(random.normal(size=(lengths.sum(), 3)), offsets_of(lengths))
    for outputs in (1, 3, 18):
        y = random_labels(loss.name, data.total_steps, outputs, random)
        for activation in activations_of(loss):
            layers = [Bidirectional(LSTM(units, return_sequences=True)), Dropout(0.2), Dense(outputs, activation)]
            case = Case([to_json(layer) for layer in layers], data, y, loss.name, 3)
            on_all(lambda case=case: trained(case))  # type: ignore[misc]


@pytest.mark.fast
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_of_hidden_layers(activation: str) -> None:
    random = np.random.default_rng(1)
    data = Ragged(random.normal(size=(2_000, 7)) * 3, offsets_of([50] * 40))
    layers = [Dense(70, activation), Dense(5, activation), Dense(1)]
    y = random.normal(size=(2_000, 1))
    on_all(lambda: trained(Case([to_json(layer) for layer in layers], data, y, "mean_squared_error", 3)))


# --- Random networks -------------------------------------------------------------------------------------------------


def check(seed: int) -> None:
    case = draw(seed)
    threads = 2 if seed % 10 == 0 else 1  # two wait for each other long where another process keeps a processor busy
    try:
        on_all(lambda: trained(case, OPTIMIZERS[seed % len(OPTIMIZERS)], recompute=seed % 5 == 0), threads)
    except AssertionError as error:
        lengths = case.data.lengths.tolist()
        raise AssertionError(f"network {seed}: {error}\n{case.layers}\n{case.loss}, lengths {lengths}") from None


@pytest.mark.parametrize("seed", range(SAMPLE))
def test_random_networks_of_about_the_sizes_where_the_work_is_divided_differently(seed: int) -> None:
    check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(SAMPLE, SAMPLE + MANY, CHUNK))
def test_many_random_networks(first: int) -> None:
    for seed in range(first, first + CHUNK):
        check(seed)


def test_the_sample_has_every_layer_loss_and_activation() -> None:
    """A layer that is added to the package must be added to oracles/thresholds.py, too."""
    layers, losses, activations, gates, biases = set(), set(), set(), set(), set()
    for seed in range(SAMPLE):
        case = draw(seed)
        losses.add(LOSSES[case.loss])
        for layer in case.layers:
            inner = [layer["config"][name] for name in ("layer", "backward_layer") if layer["config"].get(name)]
            layers |= {part["class_name"] for part in (layer, *inner)}
            activations |= {part["config"].get("activation") for part in (layer, *inner)} & {*ACTIVATIONS}
            biases |= {part["config"].get("use_bias") for part in (layer, *inner)} - {None}
            gates |= {part["config"].get("recurrent_activation") for part in (layer, *inner)} - {None}
    apart = {layer.__name__ for layer in (Input, Masking, Padding)}  # of which the engine knows nothing
    assert layers == LAYERS.keys() - apart
    assert losses == {*TABLE, CRF_LIKELIHOOD}
    assert activations == {*ACTIVATIONS}
    assert gates == {*GATES}
    assert biases == {False, True}
