"""Texts that become sequences: each row's text is divided into words or characters, which are its steps."""

from __future__ import annotations

import dataclasses
from typing import Any

from bilstm.data.fields import Fields
from bilstm.data.tokens import RULES, split
from bilstm.errors import UserError


@dataclasses.dataclass(frozen=True)
class TextColumn:
    """A column whose texts are sequences.

    Attributes:
        column: its name.
        tokens: the rule that divides them into steps, one of `bilstm.data.tokens.RULES`.
    """

    column: str
    tokens: str = "words"

    def split(self, text: str | None) -> list[str]:
        """The steps of a text: its words and punctuation marks, or its characters."""
        return split(text or "", self.tokens)

    @property
    def what(self) -> str:
        """What a step is, in the plural."""
        return "characters" if self.tokens == "characters" else "words"

    def is_empty(self, where: str) -> UserError:
        """The error of a text without steps; `where` names its row."""
        return UserError(
            f"{where}: the text in column {self.column!r} has no {self.what}: give it some, or leave the row out"
        )

    @classmethod
    def from_json(cls, data: Any) -> TextColumn:
        """Rebuild from an untrusted file.

        Raises:
            ModelFileError: the data do not describe a text column.
        """
        field = Fields("text column", data)
        if field.get("tokens") not in RULES:
            raise field.wrong("tokens")
        return cls(field.text("column"), field.get("tokens"))
