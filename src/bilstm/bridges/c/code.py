"""Values as C++ writes them."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from typing import Any

from bilstm.engine.library import LayerStruct

_WIDTH = 116


def c_string(text: str) -> str:
    """A string literal, in which every byte that is not plain ASCII is an escape of three octal digits."""
    plain = {ord(" "), *range(ord("#"), 127)} - {ord("\\"), ord("?")}  # of ?, C makes trigraphs
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in text.encode()) + '"'


def strings(texts: Iterable[str]) -> str:
    """An initialiser of strings."""
    return "{\n" + lines_of([c_string(text) for text in texts]) + "}"


def lines_of(items: Sequence[str]) -> str:
    """Items in lines of a readable width, with commas."""
    lines, line = list[str](), ""
    for item in items:
        if line and len(line) + len(item) + 2 > _WIDTH:
            lines.append(line)
            line = ""
        line += (" " if line else "    ") + item + ","
    return "".join(f"{each}\n" for each in [*lines, line] if each)


def array(kind: str, name: str, values: Any) -> str:
    """A constant array: whole numbers, or doubles without rounding."""
    items = [float(value).hex() if kind == "double" else f"{int(value)}" for value in values]
    return f"const {kind} {name}[] = {{\n{lines_of(items)}}};"


def layer_code(plans: Sequence[LayerStruct]) -> tuple[str, str]:
    """Layers as the engine reads them.

    Returns:
        Arrays that they point to, and statements that fill `all`.
    """
    tables, code = "", ""
    for place, plan in enumerate(plans):
        for field in LayerStruct._fields_:
            name, kind = field[0], field[1]
            value = getattr(plan, name)
            where = f"    all[{place}].{name}"
            if name in ("vocabularies", "dimensions"):
                if plan.tables:
                    made = f"k{name.title()}{place}"
                    tables += array("int64_t", made, value[: plan.tables]) + "\n"
                    code += f"{where} = {made};\n"
            elif name == "ways":
                code += _direction_code(place, plan)
            elif kind is ctypes.c_float:
                code += f"{where} = {value.hex()}f;\n" if value else ""
            elif isinstance(value, int) and value:
                code += f"{where} = {value};\n"
    return tables, code


def _direction_code(place: int, plan: LayerStruct) -> str:
    directions = ((d, plan.ways[d]) for d in range(plan.directions))
    return "".join(
        f"    all[{place}].ways[{d}].{name} = {getattr(way, name)};\n"
        for d, way in directions
        for name in [field[0] for field in way._fields_]
        if getattr(way, name)
    )
