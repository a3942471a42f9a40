"""Texts that become sequences: each row's text is divided into words or characters, which are its steps."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Literal

from bilstm.data.fields import Fields
from bilstm.errors import UserError

TOKENS = ("words", "characters")
# Runs of letters, digits and underscores, or single other characters that are no blanks.
_WORD = re.compile(r"\w+|[^\w\s]")


@dataclasses.dataclass(frozen=True)
class TextColumn:
    """A column whose texts are sequences.

    Attributes:
        column: its name.
        tokens: what a step is, "words" or "characters".
    """

    column: str
    tokens: Literal["words", "characters"] = "words"

    def split(self, text: str | None) -> list[str]:
        """The steps of a text: its words and punctuation marks, or its characters."""
        return list(text or "") if self.tokens == "characters" else _WORD.findall(text or "")

    def is_empty(self, where: str) -> UserError:
        """The error of a text without steps; `where` names its row."""
        return UserError(
            f"{where}: the text in column {self.column!r} has no {self.tokens}: give it some, or leave the row out"
        )

    @classmethod
    def from_json(cls, data: Any) -> TextColumn:
        """Rebuild from an untrusted file.

        Raises:
            ModelFileError: the data do not describe a text column.
        """
        field = Fields("text column", data)
        if field.get("tokens") not in TOKENS:
            raise field.wrong("tokens")
        return cls(field.text("column"), field.get("tokens"))
