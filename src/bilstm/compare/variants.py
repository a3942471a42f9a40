"""A grid of ways to train, and what each is called."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bilstm.errors import UserError, counted, listed, suggestion
from bilstm.training.options import TrainingOptions

DIRECTIONS: dict[str, Sequence[Any]] = {"direction": ("forward", "backward", "both")}
# There are several seeds in any case, and all variants are trained on the same sequences for as long.
_TYPES = {
    field.name: str(field.type)
    for field in dataclasses.fields(TrainingOptions)
    if field.name not in ("seed", "validation_split", "time_limit")
}
VARIABLE = tuple(_TYPES)
_READERS: dict[str, Callable[[str], Any]] = {  # what is typed -> a value, by type
    "int": int,
    "float": float,
    "str": str,
    "bool": {"true": True, "false": False}.__getitem__,
    "ClassWeight": lambda text: None if text == "none" else text,
}
_DIRECTIONS = {
    "both": "both directions",
    "forward": "forward only",
    "backward": "backward only",
    "none": "no context",
}
_CELLS = {"lstm": "LSTM", "gru": "GRU", "simple": "SimpleRNN"}


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to train.

    Attributes:
        changes: the options that tell it from the others, by name.
        options: all options; their seed is the first.
    """

    changes: dict[str, Any]
    options: TrainingOptions

    @property
    def name(self) -> str:
        """Such as `both directions, units 64`."""
        return _name(self.changes)

    def named_against(self, other: Variant) -> str:
        """Its name without what it has in common with the other."""
        return _name({key: value for key, value in self.changes.items() if other.changes.get(key) != value})


def _name(changes: Mapping[str, Any]) -> str:
    ordered = sorted(changes.items(), key=lambda change: change[0] != "direction")  # the others as they were given
    return ", ".join(_described(*change) for change in ordered)


def _described(name: str, value: Any) -> str:
    if name == "direction":
        return _DIRECTIONS[value]
    if name == "conv":
        return "no convolution" if value in (None, "none") else f"convolution {value}"
    if name == "characters":
        return "no characters" if value in (None, "none") else f"characters by {value}"
    if name == "freeze_vectors":
        return "vectors frozen" if value else "vectors tuned"
    if name == "output":
        return {"crf": "CRF", "constrained": "constrained softmax"}.get(value, "softmax")
    if name == "scheme":
        return "scheme detected" if value is None else f"scheme {value}"
    if name == "train_scheme":
        return "labels as they are" if value is None else f"learned as {value}"
    if name == "cell":
        return _CELLS[value]
    return str(value) if name == "merge_mode" else f"{name.replace('_', ' ')} {value}"


def grid(vary: Mapping[str, Sequence[Any]], options: TrainingOptions) -> list[Variant]:
    """All combinations of some values of some options; what comes to the same network is one variant.

    Args:
        vary: the values of each option that varies.
        options: the others.

    Returns:
        The variants, that of all first values first.

    Raises:
        UserError: an option cannot vary, a value is impossible, or there are not two variants.
    """
    for name, values in vary.items():
        if name not in VARIABLE:
            raise UserError(f"{name!r} cannot vary.{suggestion(name, VARIABLE)} What can: {listed(VARIABLE)}")
        if isinstance(values, str) or not values:
            raise UserError(f"what {name!r} is to be is a list of values, not {values!r}")
    variants: list[Variant] = []
    for values in itertools.product(*vary.values()):
        changes = dict(zip(vary, values, strict=True))
        try:
            each = dataclasses.replace(options, **changes)
        except (TypeError, ValueError) as error:
            raise UserError(str(error)) from None
        if each.direction != "both":  # and so nothing to merge
            changes.pop("merge_mode", None)
            each = dataclasses.replace(each, merge_mode=options.merge_mode)
        if each.direction == "none":  # and so no cells
            changes.pop("cell", None)
            each = dataclasses.replace(each, cell=TrainingOptions.cell)
        if "output" in vary and each.output == "softmax" and each.train_scheme is None:  # no scheme
            changes.pop("scheme", None)
            each = dataclasses.replace(each, scheme=None)
        if all(each != variant.options for variant in variants):  # class weights cannot be hashed
            variants.append(Variant(changes, each))
    if len(variants) < 2:
        raise UserError(f"there is nothing to compare: {counted(len(variants), 'variant')} of the network")
    return variants


def read_values(texts: Iterable[str]) -> dict[str, list[Any]] | None:
    """What varies, as it is typed: `units=32,64` for each option; None if nothing is.

    Raises:
        UserError: a text is not of this form.
    """
    vary: dict[str, list[Any]] = {}
    for text in texts:
        option, _, values = text.partition("=")
        name = option.strip().replace("-", "_")
        if name not in VARIABLE:
            raise UserError(
                f"--vary {text}: {option!r} cannot vary.{suggestion(name, VARIABLE)} What can: {listed(VARIABLE)}"
            )
        if not values.strip():
            raise UserError(f"--vary {text}: say which values, as in --vary direction=forward,both")
        if name in vary:
            raise UserError(f"--vary {text}: {name} varies already; give all of its values together")
        vary[name] = [_read_value(text, name, value.strip()) for value in values.split(",")]
    return vary or None


def _read_value(text: str, name: str, value: str) -> Any:
    kind = _TYPES[name].partition(" ")[0]
    try:
        return _READERS[kind](value)
    except (KeyError, ValueError):
        what = {"int": "a whole number", "float": "a number", "bool": "true or false"}[kind]
        raise UserError(f"--vary {text}: {name} must be {what}, not {value!r}") from None


def equally_large(variants: Sequence[Variant], size_of: Callable[[TrainingOptions], int]) -> list[Variant]:
    """The variants with the units that make all of them about as large as the largest.

    Args:
        size_of: the number of parameters, which grows with the units.

    Raises:
        UserError: units are what varies.
    """
    if any("units" in variant.changes for variant in variants):
        raise UserError("units cannot vary where they are chosen to make all variants equally large")
    largest = max(size_of(variant.options) for variant in variants)

    def resized(options: TrainingOptions) -> TrainingOptions:
        units = nearest_units(lambda units: size_of(dataclasses.replace(options, units=units)), largest, options.units)
        return dataclasses.replace(options, units=units)

    return [dataclasses.replace(variant, options=resized(variant.options)) for variant in variants]


def nearest_units(size_of: Callable[[int], int], size: int, least: int = 1) -> int:
    """The units, from `least`, of the network whose size is nearest to this one.

    Args:
        size_of: the number of parameters, which grows with the units.
    """
    too_large = least
    while size_of(too_large) < size:
        too_large *= 2
    units = bisect.bisect_left(range(too_large), size, lo=least, key=size_of)
    return min(max(units - 1, least), units, key=lambda units: abs(size_of(units) - size))
