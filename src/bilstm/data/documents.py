"""Texts in which spans of characters are marked, as sequences of tokens with tags."""

from __future__ import annotations

import dataclasses
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any

from bilstm.data.conll import LABEL, TOKEN
from bilstm.data.tokens import Bounds, token_bounds
from bilstm.errors import UserError, counted, shown
from bilstm.metrics.schemes import prefix_for

TEXT, START, END = "text", "start", "end"  # columns of such a table


@dataclasses.dataclass(frozen=True)
class Span:
    """A part of a text that is marked.

    Attributes:
        start, end: offsets of its first character, and of the one after its last.
        label: what it is.
        text: what it says, where the file tells.
    """

    start: int
    end: int
    label: str
    text: str | None = None


@dataclasses.dataclass
class Document:
    """A text, and what is marked in it.

    Attributes:
        place: where it stands, such as `train.jsonl, line 17`.
        text: the text.
        spans: what is marked; None: the document is unlabelled.
        bounds: its tokens, where the file divides it.
        others: further cells.
    """

    place: str
    text: str
    spans: list[Span] | None = None
    bounds: Bounds | None = None
    others: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class TokenColumns:
    """How documents become a table.

    Attributes:
        token, label: the names of the columns of tokens and of their tags.
        rule: how texts are divided that the file does not divide, one of `bilstm.data.tokens.RULES`.
        texts: whether texts without spans are documents, too: a model is to predict them.
    """

    token: str = TOKEN
    label: str = LABEL
    rule: str = "words"
    texts: bool = False

    @property
    def others(self) -> tuple[str, str, str]:
        """The names of the columns of the texts, and of the offsets at which tokens start and end."""
        taken = self.token.lower(), self.label.lower()
        text, start, end = (f"document_{name}" if name in taken else name for name in (TEXT, START, END))
        return text, start, end


TOKEN_COLUMNS = TokenColumns()


class Tagger:
    """Divides documents into tokens, and gives each token the tag that spans mean.

    Args:
        scheme: of the tags, one of `bilstm.metrics.schemes.SCHEMES`.
        misaligned: how a span is read that begins or ends within a token: as an "error", "widen" (to whole tokens) or
            "skip" (the tokens that it touches are unlabelled).
        rule: how texts are divided, see `bilstm.data.tokens`.
        own_tokens: whether the tokens of the file count where it has them.

    Attributes:
        misfits: how many spans began or ended within a token.
    """

    def __init__(self, scheme: str, misaligned: str, rule: str, *, own_tokens: bool = True) -> None:
        self._scheme, self._misaligned = scheme, misaligned
        # In these two, only adjacent spans have other prefixes than I.
        alike = scheme in ("IOB1", "IOE1")
        self._prefixes = {role: "I" if alike else prefix_for(scheme, role) for role in "BIES"}
        self._rule, self._own_tokens = rule, own_tokens
        self._first = ""  # what is wrong with the first misfit
        self._wrong = ""  # with the first span that cannot be a tag
        self.misfits = 0

    def bounds(self, document: Document) -> Bounds:
        """The tokens of a document."""
        if document.bounds is not None and self._own_tokens:
            return document.bounds
        return token_bounds(document.text, self._rule)

    def tags(self, document: Document, bounds: Bounds) -> list[str | None] | None:
        """A tag for each token, None where it is unlabelled; None: the document is.

        It is, too, where a span lies outside the text, covers no token, overlaps another, or says something else than
        the text does there: `problem` tells the first of these.
        """
        if document.spans is None:
            return None
        try:
            return self._tags(document, bounds)
        except UserError as error:
            self._wrong = self._wrong or str(error)
            return None

    def _tags(self, document: Document, bounds: Bounds) -> list[str | None]:
        starts, ends = [start for start, _ in bounds], [end for _, end in bounds]
        tags: list[str | None] = ["O"] * len(bounds)
        before: tuple[Span, int, str] | None = None  # the span before, its last token, and its label
        for span in sorted(_located(document), key=lambda span: (span.start, span.end)):
            first, last = bisect_right(ends, span.start), bisect_left(starts, span.end) - 1
            if first > last:
                raise UserError(f"{_named(document, span)} covers no token")
            if before is not None and first <= before[1]:
                other = before[0]
                problem = f"overlaps {shown(document.text[other.start : other.end])} ({shown(other.label)})"
                raise UserError(f"{_named(document, span)} {problem}: a token has one tag")
            skipped = False
            if starts[first] < span.start or ends[last] > span.end:
                skipped = self._misfit(document, span, bounds[first], bounds[last])
            adjacent = before is not None and before[1] == first - 1 and before[2] == span.label
            if skipped:
                tags[first : last + 1] = [None] * (last + 1 - first)
            else:
                self._mark(tags, first, last, span.label, adjacent=adjacent)
            before = span, last, "" if skipped else span.label
        return tags

    def problem(self) -> str:
        """Why the spans cannot be used: the first that cannot be tags, or that is not whole tokens; "" if all can."""
        if self._wrong or not self.misfits or self._misaligned != "error":
            return self._wrong
        others = f"; {counted(self.misfits - 1, 'other span')} also" * (self.misfits > 1)
        do = "does" if self.misfits == 2 else "do"
        others = others and f"{others} {do} not fall on token borders"
        return (
            f"{self._first}{others}. Correct them, or --misaligned widen extends them to whole tokens, and "
            f"--misaligned skip leaves these tokens unlabelled; --tokens divides texts by another rule"
        )

    def notes(self) -> list[str]:
        """A sentence on spans that were widened or skipped."""
        if not self.misfits or self._misaligned == "error":
            return []
        done = "widened to whole tokens" if self._misaligned == "widen" else "skipped, and their tokens are unlabelled"
        return [f"{counted(self.misfits, 'span')} not on token borders: {done}"]

    def _mark(self, tags: list[str | None], first: int, last: int, label: str, *, adjacent: bool) -> None:
        roles = "S" if first == last else f"B{'I' * (last - first - 1)}E"
        prefixes = [self._prefixes[role] for role in roles]
        if adjacent and self._scheme == "IOB1":
            prefixes[0] = "B"
        if adjacent and self._scheme == "IOE1":
            tags[first - 1] = f"E-{label}"
        tags[first : last + 1] = [f"{prefix}-{label}" for prefix in prefixes]

    def _misfit(self, document: Document, span: Span, first: tuple[int, int], last: tuple[int, int]) -> bool:
        """Note a span that does not fall on token borders; whether it is skipped."""
        self.misfits += 1
        if not self._first:
            wrong = ("begins", first) if first[0] < span.start else ("ends", last)
            token = shown(document.text[slice(*wrong[1])])
            self._first = f"{_named(document, span)} {wrong[0]} within the token {token}"
        return self._misaligned != "widen"


def row_of(document: Document, tagger: Tagger, columns: TokenColumns) -> dict[str, Any]:
    """A document as a row of a table, with lists of tokens, of their offsets and, if it is labelled, of their tags."""
    bounds = tagger.bounds(document)
    tags = tagger.tags(document, bounds)
    text, start, end = columns.others
    row = {
        text: document.text,
        columns.token: [document.text[first:last] for first, last in bounds],
        start: [first for first, _ in bounds],
        end: [last for _, last in bounds],
    }
    if tags is not None:
        row[columns.label] = tags
    taken = {text.lower(), start.lower(), end.lower(), columns.token.lower(), columns.label.lower()}
    return row | {name: value for name, value in document.others.items() if name.lower() not in taken}


def _located(document: Document) -> list[Span]:
    """The spans, by offsets that count code points.

    Programs in a browser may count UTF-16 units, of which an emoji has two. Where a span has its text, this shows.
    """
    spans = list(document.spans or ())
    if any(not _says(document, span) for span in spans):
        offsets = _utf_16_offsets(document.text)
        recounted = [
            dataclasses.replace(span, start=offsets.get(span.start, -1), end=offsets.get(span.end, -1))
            for span in spans
        ]
        if all(span.start >= 0 and span.end >= 0 and _says(document, span) for span in recounted):
            spans = recounted
    for span in spans:
        if not 0 <= span.start < span.end <= len(document.text):
            size = f"which has {counted(len(document.text), 'character')}"
            raise UserError(f"{_named(document, span)} lies outside the text, {size}")
        if not _says(document, span):
            there = shown(document.text[span.start : span.end])
            raise UserError(f"{_named(document, span)} is {there} by its offsets, but {shown(span.text)} by its text")
    return spans


def _says(document: Document, span: Span) -> bool:
    """Whether the text has there what the span says, blanks and line ends (which some write as `\\n`) aside."""
    if span.text is None:
        return True
    there = document.text[max(span.start, 0) : max(span.end, 0)]
    return there == span.text or _squeezed(there) == _squeezed(span.text)


def _squeezed(text: str) -> str:
    return re.sub(r"\\n|\s+", "", text)


def _utf_16_offsets(text: str) -> dict[int, int]:
    """The offset in code points, for each in UTF-16 units."""
    offsets, units = {}, 0
    for index, character in enumerate(text):
        offsets[units] = index
        units += 2 if ord(character) > 0xFFFF else 1
    offsets[units] = len(text)
    return offsets


def _named(document: Document, span: Span) -> str:
    said = document.text[max(span.start, 0) : max(span.end, 0)] or span.text or ""
    quoted = f"the span {shown(said)} ({shown(span.label)}, {span.start} to {span.end})"
    return f"{document.place}: {quoted}"


def joined(tokens: Sequence[str]) -> tuple[str, Bounds]:
    """A text of tokens with blanks between them, for those that no text is known of; and where they stand in it."""
    bounds, place = Bounds(), 0
    for token in tokens:
        bounds.append((place, place + len(token)))
        place += len(token) + 1
    return " ".join(tokens), bounds
