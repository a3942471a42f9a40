r"""Dividing a text into tokens, by a rule that has a name, which a model keeps.

Tokens are pieces of the text as it stands: in order, without overlap, each known by its offsets. What lies between
them are gaps, which hold nothing but blanks and invisible marks. So tokens and gaps together are the text again, and
whatever is found out about tokens can be said about characters of the original.

- "words": a run of letters, digits and underscores is a token, and any other character is one of its own:
  `IL-2's` is `IL`, `-`, `2`, `'`, `s`.
- "compounds": as "words", but hyphens and apostrophes within a word, points and commas within a number, abbreviations
  such as `U.S.`, web addresses and e-mail addresses divide nothing: `IL-2's` is one token.
- "characters": each Unicode code point is a token, blanks included.

In "words" and "compounds", what a reader sees as one sign is never divided: a letter and its combining marks (an
accent, a vowel sign of Hindi), an emoji with its skin tone or its joined parts, a flag. Joiners within a word (those
of Persian, a soft hyphen) belong to it. Blanks are what Unicode says is white space, and besides zero-width spaces,
byte order marks and the marks that set the direction of writing. Offsets count code points, as Python does. Writing
without blanks between words, such as Chinese or Thai, is best divided into characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

RULES = ("words", "compounds", "characters")
Bounds = list[tuple[int, int]]  # of each token the first character, and the one after its last
_INVISIBLE = "\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff"  # as good as blanks
_JOINERS = "\u200c\u200d\u00ad"
_TONES, _TAGS, _FLAGS = "\U0001f3fb-\U0001f3ff", "\U000e0020-\U000e007f", "\U0001f1e6-\U0001f1ff"
_MARKS = ((0x300, 0x1F000), (0xE0100, 0xE01F0))  # where Unicode has combining marks


def token_bounds(text: str, rule: str = "words") -> Bounds:
    """The tokens of a text, by the offsets of their characters.

    Args:
        rule: one of `RULES`.
    """
    if rule == "characters":
        return [(index, index + 1) for index in range(len(text))]
    return [match.span() for match in _pattern(rule, text.isascii()).finditer(text)]


def split(text: str, rule: str = "words") -> list[str]:
    """The tokens of a text: see `token_bounds`."""
    if rule == "characters":
        return list(text)
    return _pattern(rule, text.isascii()).findall(text)


def fitting_rule(tokens: Iterable[str]) -> str:
    """The rule that leaves most of some tokens whole, which were found by another program; "words" if in doubt.

    Args:
        tokens: different tokens, such as a vocabulary.
    """
    distinct = [token for token in tokens if token]
    if distinct and all(len(token) == 1 for token in distinct):
        return "characters"
    whole = {rule: sum(split(token, rule) == [token] for token in distinct) for rule in RULES[:2]}
    return max(whole, key=lambda rule: whole[rule])


@cache
def _pattern(rule: str, ascii_only: bool) -> re.Pattern[str]:
    marks = "" if ascii_only else _combining_marks()
    word = rf"\w[\w{marks}]*(?:[{_JOINERS}]+[\w{marks}]+)*"
    sign = rf"[^\w\s{_INVISIBLE}]"
    if not ascii_only:
        after = f"[{marks}{_TONES}{_TAGS}]*"
        sign = rf"[{_FLAGS}]{{2}}|{sign}{after}(?:\u200d{sign}{after})*"
    if rule == "words":
        return re.compile(f"{word}|{sign}")
    letter = rf"[^\W\d_][{marks}]*" if marks else r"[^\W\d_]"
    host = rf"{word}(?:[.-]{word})*"
    address = rf"(?:https?|ftp)://[^\s{_INVISIBLE}<>\"]*[\w/&=#%~]|www\.{host}(?:/[^\s{_INVISIBLE}<>\"]*[\w/&=#%~])?"
    mail = rf"[\w.+-]{{0,63}}\w@{host}\.{word}"  # of the length that RFC 5321 allows
    abbreviation = rf"{letter}\.(?:{letter}\.)+(?!\w)"
    number = r"\d+(?:[.,:]\d+)+(?!\w)"
    compound = rf"{word}(?:[-\u2010\u2011'\u2019]{word})*"
    return re.compile("|".join((address, mail, abbreviation, number, compound, sign)))


@cache
def _combining_marks() -> str:
    """All combining marks, for a set of a regular expression: Python's own sets have none of them."""
    points = (point for start, stop in _MARKS for point in range(start, stop))
    ranges: list[list[int]] = []
    for point in points:
        if unicodedata.category(chr(point))[0] == "M":
            if ranges and ranges[-1][1] == point - 1:
                ranges[-1][1] = point
            else:
                ranges.append([point, point])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)
