"""What a word's spelling tells, so that one never met before is not quite unknown: its ends and its shape."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache

WHOLE = "whole"
VECTOR = "vector"  # what a file of word vectors is asked for: a text, or the text in lower case


@lru_cache(maxsize=1 << 16)
def shape(text: str) -> str:
    """A for capital letters, a for others, 0 for digits, all else as it is; a run of one kind counts once.

    So "McDonald" is "AaAa" and "B-52s" is "A-0a".
    """
    kinds = ("A" if c.isupper() else "a" if c.isalpha() else "0" if c.isdigit() else c for c in text)
    return re.sub(r"(.)\1+", r"\1", "".join(kinds), flags=re.DOTALL)


# Which part of a text is looked up: after Huang, Xu & Yu, "Bidirectional LSTM-CRF models for sequence tagging", 2015.
PARTS: dict[str, Callable[[str], str]] = {
    WHOLE: lambda text: text,
    "first 2": lambda text: text[:2].lower(),
    "first 3": lambda text: text[:3].lower(),
    "last 2": lambda text: text[-2:].lower(),
    "last 3": lambda text: text[-3:].lower(),
    "shape": shape,
}
_FEWEST_WORDS = 100
_LETTERS = 3  # in a word


def has_letters(text: str) -> bool:
    """Whether a text has enough letters to be a word."""
    return sum(map(str.isalpha, text)) >= _LETTERS


def are_words(lettered: Counter[bool]) -> bool:
    """Whether texts look like a language's words, rather than like letters or a few names of states.

    Args:
        lettered: of how many different texts `has_letters` is true and false.
    """
    return lettered.total() >= _FEWEST_WORDS and lettered[True] > lettered[False]
