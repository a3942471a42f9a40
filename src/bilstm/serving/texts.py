"""Raw text as the steps of a model, and where each step stands in it."""

from __future__ import annotations

from bilstm.data.schema import Schema
from bilstm.data.spelling import WHOLE
from bilstm.data.texts import TextColumn
from bilstm.errors import UserError, listed


def text_column(schema: Schema) -> TextColumn:
    """How a text is divided for a model.

    A model that was trained on texts says so itself. One that was trained on words or characters in rows has a single
    feature of text: its steps are characters where it knows nothing longer, otherwise words.

    Raises:
        UserError: the model does not read text.
    """
    if schema.text is not None:
        return schema.text
    if schema.numeric or len(schema.features) != 1:
        raise UserError(f"the model does not read a text, but columns: {listed(schema.features)}")
    known = [text for column in schema.categorical for text in column.vocabulary if column.part == WHOLE]
    return TextColumn(schema.features[0], "characters" if known and max(map(len, known)) == 1 else "words")


def reads_text(schema: Schema) -> bool:
    try:
        text_column(schema)
    except UserError:
        return False
    return True


def starts_of(text: str, tokens: list[str]) -> list[int]:
    """Where tokens begin in the text from which they were taken, in characters from 0."""
    starts, end = list[int](), 0
    for token in tokens:
        starts.append(text.index(token, end))
        end = starts[-1] + len(token)
    return starts
