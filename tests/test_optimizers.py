"""Optimizers' arguments. That their steps are right is shown in tests/oracles/test_engine.py."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilstm import optimizers
from bilstm.engine.plans import OptimizerPlan
from bilstm.optimizers import SGD, Adam, AdamW, Optimizer
from bilstm.optimizers.schedules import CosineDecay, ExponentialDecay, PiecewiseConstantDecay

pytestmark = pytest.mark.fast

RATES = st.floats(1e-6, 10)
CLIPPING = st.sampled_from([{}, {"clipnorm": 1.0}, {"global_clipnorm": 2.5, "weight_decay": 0.1}, {"clipvalue": 0.5}])
BETAS = st.floats(0, 0.999)
OPTIMIZERS = st.one_of(
    st.builds(lambda *a, **k: Adam(*a, **k[""]), RATES, BETAS, BETAS, RATES, **{"": CLIPPING}),
    st.builds(AdamW, RATES, st.floats(0, 1), BETAS, BETAS, RATES),
    st.builds(lambda *a, **k: SGD(*a, **k[""]), RATES, **{"": CLIPPING}),
)


@given(OPTIMIZERS)
def test_plain_data_describes_an_optimizer_wholly(optimizer: Optimizer) -> None:
    again = type(optimizer)(**optimizer.get_config())
    assert again.plan() == optimizer.plan()
    assert again.plan().kind == {Adam: "adam", AdamW: "adam", SGD: "sgd"}[type(optimizer)]


def test_kerass_defaults() -> None:
    assert Adam().plan() == OptimizerPlan("adam", 0.001, 0.9, 0.999, 1e-7)
    assert AdamW().plan() == OptimizerPlan("adam", 0.001, 0.9, 0.999, 1e-7, weight_decay=0.004)
    assert SGD().plan() == OptimizerPlan("sgd", 0.01)


def test_arguments_reach_the_engine() -> None:
    plan = Adam(0.1, 0.2, 0.3, 0.4, clipvalue=5).plan()
    assert plan == OptimizerPlan("adam", 0.1, 0.2, 0.3, 0.4, clipvalue=5.0)
    assert AdamW(0.1, 0.2, 0.3, 0.4, 0.5).plan() == OptimizerPlan("adam", 0.1, 0.3, 0.4, 0.5, weight_decay=0.2)
    assert Adam(weight_decay=0.5).plan() == OptimizerPlan(weight_decay=0.5)
    assert Adam(weight_decay=0).plan() == Adam(weight_decay=None).plan() == Adam().plan()
    assert SGD(weight_decay=0.5).plan() == OptimizerPlan("sgd", 0.01, weight_decay=0.5)
    assert SGD(learning_rate=0.5, clipnorm=3).plan() == OptimizerPlan("sgd", 0.5, clipnorm=3.0)
    assert SGD(global_clipnorm=4).plan() == OptimizerPlan("sgd", 0.01, global_clipnorm=4.0)


def test_the_learning_rate_can_be_changed() -> None:
    optimizer = Adam(0.1)
    optimizer.learning_rate = 0.2
    assert optimizer.plan().learning_rate == 0.2
    optimizer.learning_rate = float("nan")
    with pytest.raises(ValueError, match="Adam: learning_rate must be a positive number, not nan"):
        optimizer.plan()


def test_its_name_in_keras_2() -> None:
    assert Adam(lr=0.3).learning_rate == 0.3
    assert SGD(lr=0.3).learning_rate == 0.3


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", Adam), ("Adam", Adam), ("AdamW", AdamW), ("sgd", SGD), ("SGD", SGD)]
)
def test_optimizers_by_name(name: str, kind: type[Optimizer]) -> None:
    assert type(optimizers.get(name)) is kind
    assert optimizers.get(name) is not optimizers.get(name)
    one = kind(0.5)
    assert optimizers.get(one) is one


@pytest.mark.parametrize("name", ["rmsprop", None, 3])
def test_unknown_optimizers(name: Any) -> None:
    expected = f"compile: optimizer must be 'adam', 'adamw', 'sgd' or one of bilstm.optimizers, not {name!r}"
    with pytest.raises(ValueError, match="^" + re.escape(expected) + "$"):
        optimizers.get(name)


POSITIVE = ("learning_rate", "clipnorm", "global_clipnorm", "clipvalue")


@pytest.mark.parametrize(
    ("kind", "argument"), [*((kind, name) for kind in (Adam, SGD) for name in POSITIVE), (Adam, "epsilon")]
)
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "fast"])
def test_numbers_out_of_range(kind: type[Optimizer], argument: str, value: Any) -> None:
    what = "a number" if isinstance(value, str) else "a positive number"
    with pytest.raises(
        ValueError, match="^" + re.escape(f"{kind.__name__}: {argument} must be {what}, not {value!r}") + "$"
    ):
        kind(**{argument: value})


@pytest.mark.parametrize("kind", [Adam, AdamW, SGD])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "much"])
def test_weight_decay_out_of_range(kind: type[Optimizer], value: Any) -> None:
    what = "a number" if isinstance(value, str) else "a positive number or 0"
    message = f"{kind.__name__}: weight_decay must be {what}, not {value!r}"
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        kind(weight_decay=value)  # type: ignore[call-arg]


def test_adamw_decays() -> None:
    with pytest.raises(ValueError, match="AdamW: weight_decay must be a number, not None"):
        AdamW(weight_decay=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("argument", ["beta_1", "beta_2"])
@pytest.mark.parametrize("value", [1.0, -0.1])
def test_betas_out_of_range(argument: str, value: float) -> None:
    with pytest.raises(
        ValueError, match="^" + re.escape(f"Adam: {argument} must be at least 0 and below 1, not {value}") + "$"
    ):
        Adam(**{argument: value})


def test_one_way_of_clipping_at_most() -> None:
    with pytest.raises(ValueError, match="Adam: only one of clipnorm and clipvalue may be given"):
        Adam(clipnorm=1.0, clipvalue=1.0)


COMMON: dict[str, tuple[list[Any], Any]] = {  # argument -> values that change nothing, a value refused
    "use_ema": ([False], True),
    "ema_momentum": ([0.99], 0.9),
    "ema_overwrite_frequency": ([None], 10),
    "loss_scale_factor": ([None], 2.0),
    "gradient_accumulation_steps": ([None], 4),
    "decay": ([0, 0.0], 0.1),
    "name": ([None, "adam", "Adam", "adamw", "AdamW", "sgd", "SGD"], "mine"),
}
CASES = [
    *((kind, argument, *values) for kind in (Adam, AdamW, SGD) for argument, values in COMMON.items()),
    (Adam, "amsgrad", [False], True),
    (SGD, "momentum", [0, 0.0], 0.9),
    (SGD, "nesterov", [False], True),
]


@pytest.mark.parametrize(("kind", "argument", "accepted", "refused"), CASES)
def test_kerass_arguments_are_accepted_or_refused_by_name(
    kind: type[Optimizer], argument: str, accepted: list[Any], refused: Any
) -> None:
    for value in accepted:
        assert kind(**{argument: value}).plan() == kind().plan()
    with pytest.raises(
        ValueError, match="^" + re.escape(f"{kind.__name__}: {argument}={refused!r} is not supported (only ")
    ):
        kind(**{argument: refused})


@pytest.mark.parametrize(("kind", "argument"), [(Adam, "momentum"), (SGD, "amsgrad"), (SGD, "beta_1"), (Adam, "rho")])
def test_no_argument_of_this_optimizer(kind: type[Optimizer], argument: str) -> None:
    with pytest.raises(TypeError, match=f"{kind.__name__}: unexpected argument '{argument}'"):
        kind(**{argument: 0.5})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adam("0.1"), "Adam: learning_rate must be a number, not '0.1'"),
        (
            lambda: SGD({"class_name": "Cosine"}),
            "SGD: learning_rate must be one of 'ExponentialDecay', 'Cosine",
        ),
        (lambda: ExponentialDecay(0.1, 0, 0.5), "ExponentialDecay: decay_steps must be at least 1, not 0"),
        (
            lambda: ExponentialDecay("0.1", 1, 0.5),
            "ExponentialDecay: initial_learning_rate must be a finite",
        ),
        (lambda: ExponentialDecay(0.1, 1, 0), "ExponentialDecay: decay_rate must be positive, not 0"),
        (lambda: CosineDecay(0.1, 5, warmup_target="x"), "CosineDecay: warmup_target must be a finite number, not 'x'"),
        (lambda: CosineDecay(0.1, 5, warmup_steps=-1), "CosineDecay: warmup_steps must be at least 0, not -1"),
        (lambda: PiecewiseConstantDecay([1], [0.1]), "PiecewiseConstantDecay: 1 boundaries need 2 values, not 1"),
        (
            lambda: PiecewiseConstantDecay([2, 1], [1, 2, 3]),
            "PiecewiseConstantDecay: boundaries must increase, not",
        ),
        (
            lambda: SGD(CosineDecay(-1, 5)).plan(3),
            "CosineDecay: the learning rate of step 3 must be a positive",
        ),
    ],
)
def test_learning_rates_that_are_none(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        make()
