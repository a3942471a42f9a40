"""The characters of a text feature: each different text is a sequence of its own, to which the time steps refer."""

from __future__ import annotations

import array
import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from bilstm.data.features import LARGEST_INDEX
from bilstm.data.fields import Fields
from bilstm.errors import UserError
from bilstm.ragged import IndexArray, Ragged, offsets_of

UNKNOWN, START, END = 0, 1, 2  # the indices of characters below the frequency threshold, and of a text's two ends
_FIRST = 3  # index of the alphabet's first character
LARGEST_ALPHABET = 10_000  # the most frequent characters; the others are unknown to the model


@dataclasses.dataclass(frozen=True)
class CharacterColumn:
    """A text feature whose characters a network reads, besides the whole text.

    Attributes:
        name: the feature's name.
        alphabet: the characters (Unicode code points) that occur at least twice in the training rows, the most frequent
            first. Characters that occur once count as unknown, so that training meets unknown characters too.
    """

    name: str
    alphabet: tuple[str, ...]

    @classmethod
    def fit(cls, name: str, cells: Iterable[tuple[str, int]]) -> CharacterColumn:
        """Collect the alphabet of a column.

        Args:
            cells: the different cells ("" where missing), each with its number of rows.
        """
        counts = Counter[str]()
        for text, count in cells:
            for character in text:
                counts[character] += count
        frequent = sorted((item for item in counts.items() if item[1] > 1), key=lambda item: (-item[1], item[0]))
        return cls(name, tuple(character for character, _ in frequent[:LARGEST_ALPHABET]))

    @property
    def size(self) -> int:
        """The number of indices, those of unknown characters and of a text's ends included."""
        return len(self.alphabet) + _FIRST

    @cached_property
    def _indices(self) -> _Indices:
        return _Indices((character, index) for index, character in enumerate(self.alphabet, _FIRST))

    def encode(self, text: str) -> list[int]:
        """The indices of a text's start, its characters and its end."""
        return [START, *map(self._indices.__getitem__, text), END]

    def to_json(self) -> dict[str, Any]:
        """The column as JSON-serialisable data."""
        return {"name": self.name, "alphabet": list(self.alphabet)}

    @classmethod
    def from_json(cls, data: Any) -> CharacterColumn:
        """Rebuild a column from an untrusted file.

        Raises:
            ModelFileError: the data do not describe one.
        """
        field = Fields("characters", data)
        alphabet = field.distinct_texts("alphabet")
        if any(len(character) != 1 for character in alphabet):
            raise field.wrong("alphabet")
        return cls(field.text("name"), alphabet)


class _Indices(dict[str, int]):
    """The index of each character, also of those that are unknown."""

    def __missing__(self, character: str) -> int:
        return UNKNOWN


class Spellings:
    """The different texts of a column, each once.

    Args:
        column: encodes them.
    """

    def __init__(self, column: CharacterColumn) -> None:
        self._column = column
        self._numbers: dict[str, int] = {}
        self._indices = array.array("H")  # of all texts, one after the other
        self._lengths: list[int] = []

    def add(self, texts: Sequence[str | None]) -> IndexArray:
        """(n,) the number of each text; None is a missing cell, an empty text.

        Raises:
            UserError: there are more different texts than a float32 can number.
        """
        numbers = self._numbers
        found = np.empty(len(texts), np.int64)
        for position, text in enumerate(texts):
            number = numbers.get(text or "")
            if number is None:
                number = numbers[text or ""] = len(numbers)
                indices = self._column.encode(text or "")
                self._indices.extend(indices)
                self._lengths.append(len(indices))
            found[position] = number
        if len(numbers) > LARGEST_INDEX:
            raise UserError(
                f"column {self._column.name!r} has more than {LARGEST_INDEX:,} different texts, whose characters "
                f"cannot all be read at once; divide the table, or train without characters"
            )
        return found

    def result(self) -> Ragged:
        """A sequence for each text, in the order of their numbers: its characters' indices."""
        return Ragged(np.array(self._indices, np.uint16), offsets_of(self._lengths))
