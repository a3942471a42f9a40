"""Names and texts in SQL."""

from __future__ import annotations

import re
from pathlib import Path


def identifier(name: str) -> str:
    """SQL: a name as it is."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """SQL: a text as it is."""
    return "'" + text.replace("'", "''") + "'"


def literal_glob(path: Path) -> str:
    """The path as a pattern that matches this file only, even if its name holds `*`, `?` or `[`."""
    return re.sub(r"([\[*?])", r"[\1]", str(path.absolute()))
