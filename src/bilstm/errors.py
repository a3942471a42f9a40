"""The mistakes of the person at the keyboard, and how messages name things.

Everything raised here is printed as one line, without a traceback: what was wrong, where, and what would be right.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class UserError(ValueError):
    """A mistake in what was typed or in a file that was given; the message is complete and meant to be printed."""


class ModelFileError(UserError):
    """A file is not a model that this version can read: missing, damaged, foreign, or written by a newer version."""


class DivergedError(ArithmeticError):
    """The loss became NaN or infinite. The weights are those before the step that would have spoilt them."""


def shown(value: Any, limit: int = 40) -> str:
    """A cell as it is quoted in a message: on one line, and cut where it is long."""
    text = repr(str(value))
    return text if len(text) <= limit else text[: limit - 2] + "…" + text[0]


def suggestion(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """` Did you mean 'label'?`, or nothing where no known name is similar."""
    known = list(known)
    lowered = {other.lower(): other for other in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=cutoff)
    return f" Did you mean {lowered[close[0]]!r}?" if close else ""


def listed(names: Iterable[str], limit: int = 12) -> str:
    """`'a', 'b' and 3 more`: names for a message, a long list cut."""
    names = [repr(name) for name in names]
    if len(names) <= limit:
        return ", ".join(names)
    return f"{', '.join(names[:limit])} and {len(names) - limit} more"


def counted(number: int, noun: str) -> str:
    """`1 sequence`, `1,200 sequences`, `3 classes`."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {noun if number == 1 else plural}"
