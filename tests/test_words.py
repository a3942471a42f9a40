"""The words of docs, docstrings, help texts, messages and comments: plain English, with the field's terms.

A phrase that CONTRIBUTING.md's glossary replaces, or that no engineer would write, is found wherever it stands, across
line ends too. Names in code are not looked at, unless they are such a phrase.
"""

from __future__ import annotations

import bisect
import io
import itertools
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bilstm.cli import commands

pytestmark = pytest.mark.fast

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = sorted(path for ending in ("py", "h", "cpp") for path in (ROOT / "src").rglob(f"*.{ending}"))
# What a line begins and ends with, besides its words: quotes of a text in parts, and the signs of comments and lists.
BEFORE, AFTER = re.compile(r"""^\s*(?:[rf]?["']+|\#+|//|[->*|]+(?=\s))?\s*"""), re.compile(r"""\s*["']*$""")

_THINGS = (
    "answer|array|cell|character|column|entry|epoch|file|layer|line|list|number|object|probability|quantity|row|"
    "sequence|step|string|text|token|value|vector|weight|word|one label|a label"
)
_UNITS = (
    "batch|class|CPU|direction|epoch|file|gate|group|label|line|page|processor|recording|row|second|sequence|"
    "step|text|time step|unit|word"
)

# What is not written -> what is written instead, and an example of what is found.
PHRASES = {
    r"held[- ]out": ("set aside, validation set, test set", "held-out sequences"),
    r"to (?:judge|score) by": ("validation set, test set", "rows to judge by"),
    r"t(?:ell|old) (?:\w+ )?epochs apart": ("decide which epoch is the best", "nothing to tell epochs apart"),
    r"commonest": ("majority class, most frequent", "the commonest label"),
    r"(?:learn|train)\w*(?: that| it)? along\b(?! with)": ("jointly, alongside", "trains that along"),
    r"by heart": ("memorised, overfitting", "known by heart"),
    r"(?:is|are|was|were) (?:said|told)\b": ("is reported, is printed", "how many there are is said"),
    r"filled and (?:said|told)|what JSON can hold|that strikes": (
        "imputed, serialisable, is reached",
        "filled and said",
    ),
    r"too rare to learn": ("below the frequency threshold", "too rare to learn"),
    r"mistakes only": ("errors only", "Print mistakes only."),
    r"by itself:": ("default", "by itself: 3 layers"),
    r"likewise": ("the sentence again", "Likewise."),
    r"and their like": ("and similar", "the F1 and their like"),
    r"needs? to be said|nothing is said": ("no option is needed", "nothing needs to be said"),
    r"no more is kept than": ("only … is buffered", "no more is kept than a line"),
    r"for want of": ("for lack of", "for want of time"),
    r"c(?:a|o)mes? to (?:their|its|an) end": ("has ended, completed", "it has come to its end"),
    r"do(?:es)? not differ": ("show no clear difference", "they do not differ"),
    r"to what is none": ("was fitted on …", "fitted to what is none"),
    r"g(?:o|oes|oing|one) on\b|went on\b": ("continue", "is not to be gone on with"),
    r"(?:no|of) use\b(?! case)": ("has no effect, unused", "has no use here"),
    r"vouch": ("untrusted", "a file that you vouch for"),
    r"what becomes of": ("how … are encoded", "what becomes of a column"),
    r"who watches|who is told": ("name the things", "who watches, and how"),
    r"see there\b": ("the description again", "arguments: see there"),
    r"learnt\b(?![(`])": ("learned", "learnt jointly"),
    r"mend(?:s|ed|ing)?\b": ("fix", "make format mends it"),
    r"for ever\b": ("forever", "wait for ever"),
    r"in company": ("together with others", "alone and in company"),
    r"wholly or not at all": ("atomically", "write it wholly or not at all"),
    r"heed(?:s|ed)?\b|lest\b|whence|thereof|n[ao]ught\b|hitherto": ("today's words", "lest it fail"),
    r"strangers?\b": ("untrusted", "a file from a stranger"),
    r"some at a time": ("in batches", "rows, some at a time"),
    r"so many\b(?! that)": ("name the number", "off by so many steps"),
    r"(?:some|no)body\b": ("someone, no one, the user", "where nobody said"),
    r"beside\b": ("next to, besides, compared with", "the scores beside ours"),
    rf"(?:{_THINGS}|one)s? an? (?:{_UNITS})\b": ("per", "one JSON object a line"),
}
FOUND = re.compile("|".join(rf"(?P<p{i}>\b(?:{phrase}))" for i, phrase in enumerate(PHRASES)), re.IGNORECASE)

WORDS = (
    *("time step", "sequence", "feature", "dimension", "unit", "missing value", "imputed", "unknown value"),
    *("training set", "validation set", "test set", "set aside", "group", "majority class", "without recurrence"),
    *("baseline", "learned jointly", "overfitting", "trained", "fitted", "epoch", "logits", "temperature"),
    *("calibrated", "span", "span F1", "event", "quantity", "label", "class", "cluster", "window", "front"),
)


def offenders(text: str) -> Iterator[tuple[int, str]]:
    """The line of each phrase, and what it is with what to write."""
    lines = [AFTER.sub("", BEFORE.sub("", line)) for line in text.splitlines()]
    starts = list(itertools.accumulate((len(line) + 1 for line in lines), initial=0))
    for match in FOUND.finditer(" ".join(lines)):
        instead = list(PHRASES.values())[int(str(match.lastgroup)[1:])][0]
        yield bisect.bisect_right(starts, match.start()), f"{match[0]!r}; write {instead}"


@pytest.mark.parametrize("path", [*PAGES, *SOURCES], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_is_in_plain_english(path: Path) -> None:
    assert [f"{path.name}:{line}: {what}" for line, what in offenders(path.read_text(encoding="utf-8"))] == []


def test_each_phrase_is_found() -> None:
    for instead, example in PHRASES.values():
        assert [what.partition("; write ")[2] for _, what in offenders(example)] == [instead], example


def test_phrases_are_found_across_lines() -> None:
    code = (
        '# They are held\n    # out.\nraise Error(\n    "one object a "\n    f"line"\n)\n"""Learned by\n    heart."""'
    )
    assert [line for line, _ in offenders(code)] == [1, 4, 7]


@pytest.mark.parametrize(
    "text",
    [
        "a model that labels a sequence before it has ended",
        "held_out = rows[~chosen]",
        "learned along with the weights of an earlier layer",
        "so many that they are no classes",
        "the number of rows that a sequence has",
        "names a column",
    ],
)
def test_other_phrases_are_not_found(text: str) -> None:
    assert list(offenders(text)) == []


def test_names_in_code_are_nouns_that_say_what_the_thing_is() -> None:
    names = re.compile(r"(?:.*_)?(?:beside|told|coded|wanted|portions?|pieces)(?:_.*)?")
    sources = [path for path in SOURCES if path.suffix == ".py"]
    assert len(sources) > 100
    found = {
        f"{path.relative_to(ROOT)}: {token.string}"
        for path in sources
        for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
        if token.type == tokenize.NAME and names.fullmatch(token.string)
    }
    assert found == set()


def glossary() -> dict[str, str]:
    """The table of words in CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("| word | meaning |\n| --- | --- |\n")[2]
    rows = (line.strip("|").split(" | ") for line in text.partition("\n\n")[0].splitlines())
    return {word.strip(): meaning.strip() for word, meaning in rows}


def test_the_glossary_has_the_words_that_people_use() -> None:
    words = ", ".join(glossary())
    assert [word for word in WORDS if not re.search(rf"\b{word}\b", words)] == []


def texts_of(command: click.Command, name: str) -> Iterator[tuple[str, str]]:
    """(where, text) of a command's first paragraph and its options, and of its subcommands'."""
    yield name, (command.help or "").partition("\n\n")[0]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield f"{name} {parameter.opts[0]}", parameter.help or ""
    for each in command.commands.values() if isinstance(command, click.Group) else ():
        yield from texts_of(each, f"{name} {each.name}")


def test_each_option_has_a_help_text_that_stands_alone() -> None:
    complete = re.compile(r"(?!Likewise|The same|As |See )\w+:? .*[.\])]", re.DOTALL)
    assert [where for where, text in texts_of(commands, "bilstm") if not complete.fullmatch(text.strip())] == []
