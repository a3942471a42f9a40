"""Plain data from an untrusted file."""

from __future__ import annotations

import sys
from typing import Any

from bilstm.errors import ModelFileError


class Fields:
    """The fields of an object; each method gives one of the kind it is named after, or raises ModelFileError.

    Args:
        what: that the object describes, for the message.
    """

    def __init__(self, what: str, data: Any) -> None:
        self.what = what
        self.data = data
        if not isinstance(data, dict):
            raise ModelFileError(f"the model is damaged: its {what} are not an object")

    def wrong(self, name: str) -> ModelFileError:
        return ModelFileError(f"the model is damaged: its {self.what} have no valid {name!r}")

    def get(self, name: str) -> Any:
        return self.data.get(name)

    def text(self, name: str) -> str:
        value = self.get(name)
        if not isinstance(value, str) or not value:
            raise self.wrong(name)
        return value

    def number(self, name: str) -> float:
        value = self.get(name)
        # A whole number of a thousand digits is no float.
        if type(value) not in (int, float) or not abs(value) <= sys.float_info.max:
            raise self.wrong(name)
        return float(value)

    def numbers(self, name: str) -> tuple[float, ...]:
        values = self.items(name)
        if not all(type(value) in (int, float) and abs(value) <= sys.float_info.max for value in values):
            raise self.wrong(name)
        return tuple(map(float, values))

    def count(self, name: str) -> int:
        value = self.get(name)
        if type(value) is not int or not 0 <= value < 2**63:
            raise self.wrong(name)
        return int(value)

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.data.get(name, default)
        if not isinstance(value, bool):
            raise self.wrong(name)
        return value

    def items(self, name: str) -> list[Any]:
        value = self.get(name)
        if not isinstance(value, list):
            raise self.wrong(name)
        return value

    def distinct_texts(self, name: str) -> tuple[str, ...]:
        values = self.items(name)
        if set(map(type, values)) - {str} or len(set(values)) != len(values):
            raise self.wrong(name)
        return tuple(values)
