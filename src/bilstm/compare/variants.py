"""A grid of ways to train, and what each is called."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bilstm.errors import UserError, counted, listed, suggestion
from bilstm.training.options import TrainingOptions

DIRECTIONS: dict[str, Sequence[Any]] = {"direction": ("forward", "backward", "both")}
# The seeds are several in any case, and all variants learn the same from the same sequences.
VARIABLE = tuple(
    field.name
    for field in dataclasses.fields(TrainingOptions)
    if field.name not in ("seed", "validation_split", "time_limit", "class_weight")
)
_NAMES = {
    ("direction", "both"): "both directions",
    ("direction", "forward"): "forward only",
    ("direction", "backward"): "backward only",
    ("direction", "none"): "no context",
}


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

    def named_beside(self, other: Variant) -> str:
        """Its name without what it has in common with the other."""
        return _name({key: value for key, value in self.changes.items() if other.changes.get(key) != value})


def _name(changes: Mapping[str, Any]) -> str:
    ordered = sorted(changes.items(), key=lambda change: change[0] != "direction")  # the others as they were given
    return ", ".join(_NAMES.get(change) or _described(*change) for change in ordered)


def _described(name: str, value: Any) -> str:
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
    found: dict[TrainingOptions, Variant] = {}
    for values in itertools.product(*vary.values()):
        changes = dict(zip(vary, values, strict=True))
        try:
            each = dataclasses.replace(options, **changes)
        except (TypeError, ValueError) as error:
            raise UserError(str(error)) from None
        if each.direction != "both":  # and so nothing to merge
            changes.pop("merge_mode", None)
            each = dataclasses.replace(each, merge_mode=options.merge_mode)
        found.setdefault(each, Variant(changes, each))
    if len(found) < 2:
        raise UserError(f"there is nothing to compare: {counted(len(found), 'variant')} of the network")
    return list(found.values())


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
        def of(units: int) -> TrainingOptions:
            return dataclasses.replace(options, units=units)

        too_large = options.units
        while size_of(of(too_large)) < largest:
            too_large *= 2
        units = bisect.bisect_left(range(too_large), largest, lo=options.units, key=lambda units: size_of(of(units)))
        return min(of(max(units - 1, options.units)), of(units), key=lambda each: abs(size_of(each) - largest))

    return [dataclasses.replace(variant, options=resized(variant.options)) for variant in variants]
