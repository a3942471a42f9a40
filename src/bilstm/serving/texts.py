"""Raw text as the steps of a model, and where each step stands in it."""

from __future__ import annotations

from bilstm.data.schema import Schema
from bilstm.data.texts import TextColumn
from bilstm.data.tokens import token_bounds
from bilstm.errors import UserError


def text_column(schema: Schema) -> TextColumn:
    """How a text is divided for a model: by the rule that it keeps.

    Raises:
        UserError: the model does not read text.
    """
    return schema.text or TextColumn(schema.token_column(), schema.token_rule)


def reads_text(schema: Schema) -> bool:
    try:
        text_column(schema)
    except UserError:
        return False
    return True


def starts_of(text: str, rule: str) -> list[int]:
    """Where the tokens of a text begin, in characters from 0."""
    return [start for start, _ in token_bounds(text, rule)]
