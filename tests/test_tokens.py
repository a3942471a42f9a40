"""How texts are divided into tokens."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilstm.data.tokens import RULES, fitting_rule, split, token_bounds

pytestmark = pytest.mark.fast

# Characters that rules treat in some way of their own, and any others.
SPECIAL = (
    "ab1_é\u0301\u093f\u200c\u200d\u200b\u200e\u2066\ufeff\u00ad👍\U0001f3fd🇩🇪👩❤\ufe0f -'’.,:/@\t\n\u3000क漢א\x00"
)
TEXTS = st.text(st.one_of(st.sampled_from(SPECIAL), st.characters(exclude_categories=["Cs"])), max_size=30)


@settings(max_examples=150)
@given(TEXTS, st.sampled_from(RULES))
def test_tokens_and_gaps_give_back_the_text(text: str, rule: str) -> None:
    bounds = token_bounds(text, rule)
    pieces, place = [], 0
    for start, end in bounds:
        assert place <= start < end <= len(text)
        gap = text[place:start]
        assert not re.search(r"[^\s\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]", gap)
        pieces += [gap, text[start:end]]
        place = end
    assert "".join([*pieces, text[place:]]) == text
    assert split(text, rule) == [text[start:end] for start, end in bounds]


@settings(max_examples=100)
@given(TEXTS, TEXTS, st.sampled_from(RULES))
def test_a_line_end_divides_texts(text: str, other: str, rule: str) -> None:
    """What stands before a blank never depends on what stands after it."""
    tokens = [token for token in split(f"{text}\n{other}", rule) if rule != "characters" or token != "\n"]
    apart = [token for each in (text, other) for token in split(each, rule) if token != "\n"]
    assert tokens == apart


@settings(max_examples=100)
@given(TEXTS)
def test_a_letter_keeps_its_marks(text: str) -> None:
    for rule in ("words", "compounds"):
        starts = {start for start, _ in token_bounds(f"a\u0301 {text}", rule)}
        assert 1 not in starts


@pytest.mark.parametrize(
    ("text", "words", "compounds"),
    [
        ("IL-2's effect", "IL - 2 ' s effect", "IL-2's effect"),
        ("don’t, mid-week!", "don ’ t , mid - week !", "don’t , mid-week !"),
        ("U.S. prices: 3.5 or 1,000.", "U . S . prices : 3 . 5 or 1 , 000 .", "U.S. prices : 3.5 or 1,000 ."),
        ("(see https://a.b/c?d=e).", "( see https : / / a . b / c ? d = e ) .", "( see https://a.b/c?d=e ) ."),
        ("a.b@c.org, www.x.org/y.", "a . b @ c . org , www . x . org / y .", "a.b@c.org , www.x.org/y ."),
        ("the end.Next - dogs' x_1", "the end . Next - dogs ' x_1", "the end . Next - dogs ' x_1"),
        ("e\u0301te\u0301 हिन्दी में", "e\u0301te\u0301 हिन्दी में", "e\u0301te\u0301 हिन्दी में"),
        ("👩\u200d👩\u200d👧👍🏽 🇩🇪🇫🇷 1\ufe0f\u20e3", "👩\u200d👩\u200d👧 👍🏽 🇩🇪 🇫🇷 1\ufe0f\u20e3", None),
        ("می\u200cخواهم \u200fאבג\u200e.", "می\u200cخواهم אבג .", None),
        ("\ufeffa\u200bb\u3000c", "a b c", None),
        ("東京都渋谷区", "東京都渋谷区", None),
        (" \t\n", "", None),
    ],
)
def test_examples(text: str, words: str, compounds: str | None) -> None:
    assert split(text) == words.split()
    assert split(text, "compounds") == (words if compounds is None else compounds).split()
    assert split(text, "characters") == list(text)


@pytest.mark.parametrize(
    "piece", ["ab.", "ab+", "a-", "1.", "http://", "www.", "a@", "ab@ab.", "x@a-", "\u200da", "👍\u200d"]
)
def test_time_grows_with_the_text_only(piece: str) -> None:
    started = time.perf_counter()
    split(piece * 20_000, "compounds")
    assert time.perf_counter() - started < 2  # by squares it would be a minute


def test_the_rule_that_fits_tokens_of_others() -> None:
    assert fitting_rule(["mid-week", "don't", "the", ".", "3.5"]) == "compounds"
    assert fitting_rule(["mid", "-", "week", "'", "."]) == "words"
    assert fitting_rule(["a", "b", ".", "ß"]) == "characters"
    assert fitting_rule([]) == "words"
