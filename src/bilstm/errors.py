"""Errors for the person at the keyboard, and how messages name things.

Everything raised here is printed as one line, without a traceback: what was wrong, where, and what would be right.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # Unicode categories: controls, format, surrogates, line and paragraph ends
_JOINERS = "\u200c\u200d"  # format characters that Persian, Indian scripts and emoji need; they move nothing


class UserError(ValueError):
    """A mistake in what was typed or in an input file; the message is complete and meant to be printed."""

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))  # it may quote a file


class ModelFileError(UserError):
    """A file is not a model that this version can read: missing, damaged, foreign, or written by a newer version."""

    def __init__(self, message: str = "") -> None:
        text = printable(message)
        super().__init__(text if len(text) <= 1500 else f"{text[:1000]} … {text[-400:]}")  # it may quote a file


class DivergedError(ArithmeticError):
    """The loss became NaN or infinite. The weights are those before the step that would have spoilt them."""


def printable(text: str) -> str:
    """The text on one line, with whatever could command a terminal or reorder the line as an escape such as `\\x1b`.

    These are control and format characters, line ends and unpaired surrogates. Letters of every script stay.
    """
    if text.isprintable():
        return text
    return "".join(
        repr(character)[1:-1] if unicodedata.category(character) in _HIDDEN and character not in _JOINERS else character
        for character in text
    )


def shown(value: Any, limit: int = 40) -> str:
    """A cell as it is quoted in a message: on one line, printable, and cut where it is long."""
    text = repr(str(value))
    return text if len(text) <= limit else text[: limit - 2] + "…" + text[0]


def suggestion(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'label'?`, or nothing where no known name is similar.

    A known name is similar where it is spelt nearly alike, where its words begin with those of `name` ("val-split" for
    "validation-split"), where `name` has all its words and others ("out-file" for "out"), or where `name` is the
    initials of its words ("lr" for "learning-rate"). Case and what separates words do not count.
    """
    words, candidates = _words(name), {other: _words(other) for other in known}
    spelt = {" ".join(others): other for other, others in reversed(candidates.items())}
    nearly, close = (
        [spelt[each] for each in difflib.get_close_matches(" ".join(words), spelt, n=1, cutoff=cutoff)]
        for cutoff in (0.85, 0.75)
    )
    initials = [other for other, others in candidates.items() if words == ["".join(word[:1] for word in others)]]
    longer = [other for other, others in candidates.items() if _begin(words, others)]
    shorter = [other for other, others in candidates.items() if set(others) <= set(words)]
    longer.sort(key=lambda other: len(candidates[other]))
    shorter.sort(key=lambda other: -len(candidates[other]))
    for similar in (nearly, longer, shorter, close, initials):
        if len(similar) == 1 or (similar and len(candidates[similar[0]]) != len(candidates[similar[1]])):
            return f" Did you mean {similar[0]!r}?"
    return ""


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W_]+", name.lower()) or [name]


def _begin(words: list[str], others: list[str]) -> bool:
    """Whether each word is the beginning of one of the others, in their order; a single letter says too little."""
    rest = iter(others)
    return len("".join(words)) > 1 and all(any(other.startswith(word) for other in rest) for word in words)


def listed(names: Iterable[str], limit: int = 12) -> str:
    """`'a', 'b' and 3 more`: names for a message, a long list cut."""
    names = [repr(str(name)) for name in names]
    if len(names) <= limit:
        return ", ".join(names)
    return f"{', '.join(names[:limit])} and {len(names) - limit} more"


def counted(number: int, noun: str) -> str:
    """`1 sequence`, `1,200 sequences`, `3 classes`."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {noun if number == 1 else plural}"
