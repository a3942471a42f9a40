"""The package's rooms, and that imports run downwards only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bilstm

pytestmark = pytest.mark.fast

SOURCE = Path(bilstm.__file__).parent
# From the ground up: a room may use those before it.
ROOMS = (
    ("_version", "errors", "ragged"),
    ("arguments", "files", "problems", "progress", "signals", "splitting"),
    ("engine", "metrics", "modelfile"),
    ("layers", "optimizers", "utils", "console", "data"),
    ("callbacks", "tasks"),
    ("models",),
    ("training",),
    ("model",),
    ("wording",),
    ("inspection", "preview"),
    ("compare",),
    ("plots", "report"),
    ("estimators", "torch", "bridges", "serving", "distributed"),
    ("demo",),
    ("lesson",),
    ("cli",),
    ("__main__",),
)
FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}


def imported(nodes: list[ast.stmt]) -> Iterator[str]:
    """The rooms that these statements import, those for the type checker alone left out."""
    for node in nodes:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "bilstm":
            within = (node.module or "").split(".")[1:]
            yield from within[:1] or [name.name for name in node.names]
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[1] for name in node.names if name.name.startswith("bilstm."))
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            yield from imported(getattr(node, part, []))


def test_imports_run_downwards_only() -> None:
    looked_at = set()
    for path in sorted(SOURCE.rglob("*.py")):
        inside = path.relative_to(SOURCE).with_suffix("").parts
        if inside == ("__init__",):  # the front door shows names of all rooms
            continue
        room = inside[0]
        looked_at.add(room)
        above = [name for name in imported(ast.parse(path.read_text(encoding="utf-8")).body) if name != room]
        wrong = [name for name in above if FLOOR[name] >= FLOOR[room]]
        assert not wrong, f"{'/'.join(inside)} imports {', '.join(wrong)}"
    assert looked_at == set(FLOOR)


def test_names_are_found_when_first_used() -> None:
    program = (
        "import bilstm\n"
        "assert bilstm.Sequential is bilstm.models.Sequential and bilstm.layers.LSTM\n"
        "assert set(dir(bilstm)) == set(bilstm.__all__)\n"
        "for name in bilstm.__all__: getattr(bilstm, name)\n"
        "try: bilstm.nothing\n"
        "except AttributeError as error: print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ran.stdout == "module 'bilstm' has no attribute 'nothing'\n"


def test_every_room_has_fast_tests() -> None:
    """A room has if a module with tests that are marked fast imports it, by its name or by a name of the front door."""
    tested = set()
    for path in Path(__file__).parent.rglob("test_*.py"):
        text = path.read_text(encoding="utf-8")
        if "pytest.mark.fast" in text:
            tested |= {bilstm._NAMES.get(name, name).split(".")[0] for name in imported(ast.parse(text).body)}
    assert FLOOR.keys() - tested == {"_version", "__main__"}
