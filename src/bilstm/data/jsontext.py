"""JSON in text files: objects, one per line or in one array, and where each begins."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from bilstm.data.lines import text_lines
from bilstm.errors import UserError
from bilstm.files import AnyPath

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # an escape of half of a character
_EXAMPLE = '{"id": 1, "x": 0.5}'
_BLANK = re.compile(r"[ \t\r\n]*")


def check_json(name: AnyPath, number: int, line: str, example: str = _EXAMPLE) -> dict[str, Any]:
    """The JSON object that a line holds.

    Args:
        name: what messages call the text.
        number: the line's, counted from 1.
        line: its text.
        example: an object that would be right, for the message.

    Raises:
        UserError: it holds none; the message names the line.
    """
    try:
        found = json.loads(line, object_pairs_hook=_object, parse_constant=json_constant)
        cause = "it is not an object"
        if _SURROGATE.search(line):
            json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        found, cause = None, f"it has half of a character, {ascii(error.object[error.start])[1:-1]}"
    except (ValueError, RecursionError) as error:
        found, cause = None, str(error)
    if isinstance(found, dict):
        return found
    raise UserError(f"{name}, line {number}: not one JSON object such as {example}: {cause}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = set[str]()
        for name, _ in pairs:
            if name in names:
                raise ValueError(f"it has {name!r} twice")
            names.add(name)
    return found


def json_constant(name: str) -> None:
    """NaN, as Python and NumPy write it, is a missing value; infinity is none."""
    if name != "NaN":
        raise ValueError(f"{name} is not a JSON number")


def is_array(path: AnyPath, encoding: str | None = None) -> bool:
    """Whether a file holds one JSON array rather than an object per line."""
    for line in text_lines(path, encoding):
        if text := line.strip():
            return text.startswith("[")
    return False


def json_objects(
    path: Path, encoding: str | None = None, example: str = _EXAMPLE
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file, one per line or all in one array, and the lines on which they begin.

    Raises:
        UserError: it holds something else; the message names the line.
    """
    if is_array(path, encoding):
        yield from _elements(path, "".join(text_lines(path, encoding)), example)
        return
    for number, line in enumerate(text_lines(path, encoding), 1):
        if text := line.strip():
            yield number, check_json(path, number, text, example)


def _elements(path: Path, text: str, example: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects in a JSON array."""
    decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=json_constant)
    place, line, counted = text.index("[") + 1, 1, 0
    separator = ""
    while True:
        place = _after_blanks(text, place)
        if text[place : place + 1] == "]" and separator != ",":
            break
        line, counted = line + text.count("\n", counted, place), place
        try:
            found, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {error.lineno}: broken JSON: {error.msg}") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {line}: broken JSON: {error}") from None
        if not isinstance(found, dict):
            raise UserError(f"{path}, line {line}: not a JSON object such as {example}")
        if _SURROGATE.search(text, counted, place):
            check_json(path, line, text[counted:place], example)
        yield line, found
        place = _after_blanks(text, place)
        separator = text[place : place + 1]
        if separator not in (",", "]") or not separator:
            ended = "the array is not closed" if not separator else f"{separator!r} where , or ] should be"
            raise UserError(f"{path}, line {line + text.count(chr(10), counted, place)}: broken JSON: {ended}")
        place += separator == ","
    rest = text[place + 1 :].strip()
    if rest:
        number = 1 + text.count("\n", 0, place)
        raise UserError(f"{path}, line {number}: broken JSON: there is something after the array")


def _after_blanks(text: str, place: int) -> int:
    match = _BLANK.match(text, place)
    return match.end() if match else place


def line_of_object(path: Path, index: int, encoding: str | None = None) -> int:
    """The line on which an object begins, counted from 1."""
    return next(islice(json_objects(path, encoding), index, None))[0]
