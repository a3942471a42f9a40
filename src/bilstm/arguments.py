"""Checks of arguments, with messages for the person who passed them, and the calls that made objects."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Collection, Mapping
from typing import Any


def check_count(owner: str, name: str, value: Any, least: int = 1) -> int:
    """A whole number of at least `least`.

    Raises:
        TypeError: not a whole number.
        ValueError: a smaller one.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{owner}: {name} must be a whole number, not {value!r}")
    count = int(value.__index__())
    if count < least:
        raise ValueError(f"{owner}: {name} must be at least {least}, not {count}")
    return count


def check_fraction(owner: str, name: str, value: Any) -> float:
    """A number of at least 0 and below 1.

    Raises:
        ValueError: anything else.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{owner}: {name} must be a number, not {value!r}") from None
    if not 0.0 <= number < 1.0:
        raise ValueError(f"{owner}: {name} must be at least 0 and below 1, not {value!r}")
    return number


def check_number(owner: str, name: str, value: Any) -> float:
    """A finite number.

    Raises:
        ValueError: anything else, text included.
    """
    if isinstance(value, (str, bytes)) or not hasattr(value, "__float__") or not math.isfinite(value):
        raise ValueError(f"{owner}: {name} must be a finite number, not {value!r}")
    return float(value)


def check_choice(owner: str, name: str, value: Any, choices: Collection[Any]) -> Any:
    """One of some values.

    Raises:
        ValueError: another; the message lists the choices, the likeliest first where there is one.
    """
    if value in choices:
        return value
    close = difflib.get_close_matches(str(value), [str(choice) for choice in choices], 1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    listed = ", ".join(repr(choice) for choice in choices)
    raise ValueError(f"{owner}: {name} must be one of {listed}, not {value!r}{hint}")


def refuse_unsupported(owner: str, arguments: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Accept Keras's arguments that bilstm knows only by their default values, and refuse all else by name.

    Args:
        arguments: the keyword arguments that the owner does not have.
        defaults: what each may be: a value, or a tuple of values.

    Raises:
        ValueError: an argument of Keras's with a value that bilstm does not support.
        TypeError: no argument of Keras's at all.
    """
    for name, value in arguments.items():
        if name not in defaults:
            raise TypeError(f"{owner}: unexpected argument {name!r}")
        allowed = defaults[name] if isinstance(defaults[name], tuple) else (defaults[name],)
        # Compared by type as well: False is not 0, and arrays have no truth value.
        if not any(type(value) is type(default) and value == default for default in allowed):
            only = " or ".join(repr(default) for default in allowed)
            raise ValueError(f"{owner}: {name}={value!r} is not supported (only {only})")


def call_of(value: object) -> str:
    """`LSTM(units=20, return_sequences=True)`: the call that makes such an object, without arguments at their defaults.

    Arguments are read from the attributes of the same name.
    """
    parts = []
    for name, parameter in inspect.signature(type(value)).parameters.items():
        current = getattr(value, name, parameter.default)
        if current is not parameter.default and current != parameter.default:
            parts.append(f"{name}={current!r}")
    return f"{type(value).__name__}({', '.join(parts)})"
