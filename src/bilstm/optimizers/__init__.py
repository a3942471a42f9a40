"""Adam, with decoupled weight decay too, and plain stochastic gradient descent, with Keras's arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from bilstm.arguments import check_choice, check_fraction, refuse_unsupported
from bilstm.engine.plans import OptimizerPlan
from bilstm.optimizers import schedules
from bilstm.optimizers.schedules import SCHEDULES, LearningRateSchedule

__all__ = ["OPTIMIZERS", "SGD", "Adam", "AdamW", "Optimizer", "get", "schedules"]

Rate = float | LearningRateSchedule | Mapping[str, Any]  # a mapping is a schedule as `get_config` describes it

_UNSUPPORTED: dict[str, Any] = {
    "use_ema": False,
    "ema_momentum": 0.99,
    "ema_overwrite_frequency": None,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
    "decay": (0, 0.0),
    "name": (None, "adam", "SGD", "sgd", "Adam", "adamw", "AdamW"),
}


class Optimizer:
    """What all optimizers take.

    Args:
        learning_rate: step size, a positive number, or one of `bilstm.optimizers.schedules`; may be changed between
            calls of `fit` and by callbacks.
        clipnorm: scales down each weight array's gradient to at most this norm.
        global_clipnorm: scales down all gradients together to at most this norm.
        clipvalue: cuts each number of the gradients to ± this. At most one of the three may be given.
        weight_decay: a step also takes learning_rate · weight_decay of each weight away, biases and embeddings
            included, apart from its gradient (Loshchilov & Hutter, "Decoupled weight decay regularization", 2019), as
            in Keras.

    Raises:
        ValueError: an argument out of its range, or one of Keras's that is not supported.
    """

    kind = "adam"

    def __init__(
        self,
        learning_rate: Rate,
        *,
        clipnorm: float | None = None,
        global_clipnorm: float | None = None,
        clipvalue: float | None = None,
        weight_decay: float | None = None,
        **keywords: Any,
    ) -> None:
        owner = type(self).__name__
        if "lr" in keywords:  # Keras 2's name
            learning_rate = keywords.pop("lr")
        refuse_unsupported(owner, keywords, _UNSUPPORTED | self.takes)
        if isinstance(learning_rate, Mapping):  # of `get_config`
            kind = check_choice(owner, "learning_rate", learning_rate.get("class_name"), SCHEDULES)
            learning_rate = SCHEDULES[kind](**learning_rate.get("config", {}))
        if not isinstance(learning_rate, LearningRateSchedule):
            learning_rate = _positive(owner, "learning_rate", learning_rate)
        self.learning_rate: Any = learning_rate  # a number or a schedule
        clipping = {"clipnorm": clipnorm, "global_clipnorm": global_clipnorm, "clipvalue": clipvalue}
        chosen = [name for name, value in clipping.items() if value is not None]
        if len(chosen) > 1:
            raise ValueError(f"{owner}: only one of {' and '.join(chosen)} may be given")
        self.clipping = {name: _positive(owner, name, clipping[name]) for name in chosen}
        self.weight_decay = (
            None if weight_decay is None else _positive(owner, "weight_decay", weight_decay, or_zero=True)
        )

    takes: ClassVar[dict[str, Any]] = {}  # further arguments of Keras's, with the values that change nothing

    def __repr__(self) -> str:
        defaults = {**vars(type(self)(0.001)), "learning_rate": None, "clipping": self.clipping}
        changed = {name: value for name, value in vars(self).items() if value != defaults[name]} | self.clipping
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in changed.items())})"

    def get_config(self) -> dict[str, Any]:
        """The arguments that make the same optimizer, as plain data.

        Raises:
            ValueError: the learning rate is a schedule of the user's own class.
        """
        rate = self.learning_rate
        if isinstance(rate, LearningRateSchedule):
            if type(rate) not in SCHEDULES.values():
                raise ValueError(f"only the schedules of bilstm.optimizers.schedules can be saved, not {rate!r}")
            rate = {"class_name": type(rate).__name__, "config": rate.get_config()}
        decay = {} if self.weight_decay is None else {"weight_decay": self.weight_decay}
        return {"learning_rate": rate, **self.clipping, **decay}

    @property
    def scheduled(self) -> bool:
        """Whether the learning rate depends on the training step."""
        return isinstance(self.learning_rate, LearningRateSchedule)

    def plan(self, step: int = 0) -> OptimizerPlan:
        """The settings of a training step, counted from 0, in the engine's terms."""
        return OptimizerPlan(self.kind, self._rate(step), **self.clipping, weight_decay=self.weight_decay or 0.0)

    def _rate(self, step: int) -> float:
        rate = self.learning_rate
        if isinstance(rate, LearningRateSchedule):  # which may reach 0
            return _positive(type(rate).__name__, f"the learning rate of step {step}", rate(step), or_zero=True)
        return _positive(type(self).__name__, "learning_rate", rate)


class Adam(Optimizer):
    """Kingma & Ba, "Adam: a method for stochastic optimization", 2015, with Keras's bias correction.

    Args:
        learning_rate: step size.
        beta_1: how much of the mean gradient stays at a step, from 0 to below 1.
        beta_2: how much of the mean squared gradient does.
        epsilon: added to the latter's root, a positive number.
        keywords: see `Optimizer`.
    """

    takes: ClassVar[dict[str, Any]] = {"amsgrad": False}

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **keywords: Any,
    ) -> None:
        super().__init__(learning_rate, **keywords)
        owner = type(self).__name__
        self.beta_1 = check_fraction(owner, "beta_1", beta_1)
        self.beta_2 = check_fraction(owner, "beta_2", beta_2)
        self.epsilon = _positive(owner, "epsilon", epsilon)

    def get_config(self) -> dict[str, Any]:
        betas = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
        return super().get_config() | betas

    def plan(self, step: int = 0) -> OptimizerPlan:
        rate, decay = self._rate(step), self.weight_decay or 0.0
        return OptimizerPlan("adam", rate, self.beta_1, self.beta_2, self.epsilon, **self.clipping, weight_decay=decay)


class AdamW(Adam):
    """Adam with weight decay, and Keras's default for it."""

    kind = "adamw"

    def __init__(
        self,
        learning_rate: Rate = 0.001,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **keywords: Any,
    ) -> None:
        if weight_decay is None:
            raise ValueError("AdamW: weight_decay must be a number, not None")
        super().__init__(learning_rate, beta_1, beta_2, epsilon, weight_decay=weight_decay, **keywords)


class SGD(Optimizer):
    """Plain gradient descent: weight -= learning_rate * gradient."""

    kind = "sgd"
    takes: ClassVar[dict[str, Any]] = {"momentum": (0, 0.0), "nesterov": False}

    def __init__(self, learning_rate: Rate = 0.01, **keywords: Any) -> None:
        super().__init__(learning_rate, **keywords)


OPTIMIZERS: dict[str, type[Adam] | type[SGD]] = {"adam": Adam, "adamw": AdamW, "sgd": SGD}


def get(identifier: str | Optimizer) -> Optimizer:
    """An optimizer by its name, "adam", "adamw" or "sgd", or as it is.

    Raises:
        ValueError: an unknown name.
    """
    if isinstance(identifier, Optimizer):
        return identifier
    name = str(identifier).lower()
    if name not in OPTIMIZERS:
        raise ValueError(
            f"compile: optimizer must be 'adam', 'adamw', 'sgd' or one of bilstm.optimizers, not {identifier!r}"
        )
    return OPTIMIZERS[name]()


def _positive(owner: str, name: str, value: Any, *, or_zero: bool = False) -> float:
    if isinstance(value, str) or not hasattr(value, "__float__"):
        raise ValueError(f"{owner}: {name} must be a number, not {value!r}")
    number = float(value)
    if not (0.0 < number < float("inf") or (or_zero and number == 0.0)):
        raise ValueError(f"{owner}: {name} must be a positive number{' or 0' if or_zero else ''}, not {value!r}")
    return number
