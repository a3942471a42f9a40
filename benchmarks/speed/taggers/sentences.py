"""Sentences of a file of words and tags, and python-crfsuite's usual features. Needs the standard library only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def sentences(path: Path) -> Iterator[tuple[list[str], list[str]]]:
    """The words and the tags of each sentence of a file."""
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        rows = [line.split("\t") for line in block.splitlines() if line.strip()]
        if rows:
            yield [row[0] for row in rows], [row[-1] for row in rows]


def features(words: list[str]) -> list[list[str]]:
    """For each word of a sentence those of python-crfsuite's tutorial on named entities: the word, its end and shape,
    and those of the words around.
    """
    return [
        ["bias", *_of_word("", words[i]), "digit" if words[i].isdigit() else "", *_around(words, i)]
        for i in range(len(words))
    ]


def _of_word(name: str, word: str) -> list[str]:
    flags = f"{name}title={word.istitle()}", f"{name}upper={word.isupper()}"
    return [f"{name}lower={word.lower()}", *flags, *(f"{name}end={word[-n:]}" for n in (2, 3) if not name)]


def _around(words: list[str], i: int) -> list[str]:
    before = _of_word("-1:", words[i - 1]) if i else ["BOS"]
    return before + (_of_word("+1:", words[i + 1]) if i + 1 < len(words) else ["EOS"])
