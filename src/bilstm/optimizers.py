"""Adam, with decoupled weight decay too, and plain stochastic gradient descent, with Keras's arguments."""

from __future__ import annotations

from typing import Any, ClassVar

from bilstm.arguments import check_fraction, refuse_unsupported
from bilstm.engine.plans import OptimizerPlan

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
        learning_rate: step size, a positive number; may be changed between calls of `fit`.
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
        learning_rate: float,
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
        self.learning_rate = _positive(owner, "learning_rate", learning_rate)
        clipping = {"clipnorm": clipnorm, "global_clipnorm": global_clipnorm, "clipvalue": clipvalue}
        given = [name for name, value in clipping.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"{owner}: only one of {' and '.join(given)} may be given")
        self.clipping = {name: _positive(owner, name, clipping[name]) for name in given}
        self.weight_decay = (
            None if weight_decay is None else _positive(owner, "weight_decay", weight_decay, or_zero=True)
        )

    takes: ClassVar[dict[str, Any]] = {}  # further arguments of Keras's, with the values that change nothing

    def get_config(self) -> dict[str, Any]:
        decay = {} if self.weight_decay is None else {"weight_decay": self.weight_decay}
        return {"learning_rate": self.learning_rate, **self.clipping, **decay}

    def plan(self) -> OptimizerPlan:
        """The settings in the engine's terms."""
        rate = _positive(type(self).__name__, "learning_rate", self.learning_rate)
        return OptimizerPlan(self.kind, rate, **self.clipping, weight_decay=self.weight_decay or 0.0)


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
        learning_rate: float = 0.001,
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

    def plan(self) -> OptimizerPlan:
        rate = _positive(type(self).__name__, "learning_rate", self.learning_rate)
        decay = self.weight_decay or 0.0
        return OptimizerPlan("adam", rate, self.beta_1, self.beta_2, self.epsilon, **self.clipping, weight_decay=decay)


class AdamW(Adam):
    """Adam with weight decay, and Keras's default for it."""

    kind = "adamw"

    def __init__(
        self,
        learning_rate: float = 0.001,
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

    def __init__(self, learning_rate: float = 0.01, **keywords: Any) -> None:
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
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{owner}: {name} must be a number, not {value!r}") from None
    if not (0.0 < number < float("inf") or (or_zero and number == 0.0)):
        raise ValueError(f"{owner}: {name} must be a positive number{' or 0' if or_zero else ''}, not {value!r}")
    return number
