"""The Python blocks of README.md and docs/ run, in order, and print what stands under them; so do README.md's commands.

A text block that follows a Python block is what the latter prints. Its figures may differ by a little, so that a change
of the engine's rounding does not need new ones. Sybil and its like would want a conftest.py beside the documents and
compare to the letter; here are a regular expression and a loop.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bilstm.cli import commands

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d+(?:\.\d*)?")
TOLERANCE = 0.015


def blocks_of(path: Path) -> list[tuple[int, str, str]]:
    """(line, language, content) of each fenced block."""
    text = path.read_text(encoding="utf-8")
    return [(text.count("\n", 0, m.start()) + 1, m[1], m[2]) for m in BLOCK.finditer(text)]


def run(path: Path, line: int, content: str, names: dict[str, Any]) -> str:
    """What a block prints. A traceback tells its line in the document."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile("\n" * line + content, str(path), "exec"), names)
    return printed.getvalue()


def same(printed: str, expected: str) -> bool:
    """Whether the words are the same, and the figures nearly."""
    if NUMBER.sub("#", printed).split() != NUMBER.sub("#", expected).split():
        return False
    pairs = zip(NUMBER.findall(printed), NUMBER.findall(expected), strict=True)
    return all(abs(float(a) - float(b)) <= TOLERANCE for a, b in pairs)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_python_blocks_run_and_print_what_they_say(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    printed = None
    for line, language, content in blocks_of(path):
        if language == "text" and printed is not None:
            assert same(printed, content), f"{path.name}, line {line}: printed\n{printed}"
        printed = run(path, line, content, names) if language == "python" else None


def test_the_commands_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"s{i // 5},{i % 5},{i * 7 % 11},{'up' if i * 7 % 11 > 5 else 'down'}" for i in range(100)]
    for name in ("train.csv", "test.csv", "new.csv"):
        Path(name).write_text("\n".join(["id,time,x,state", *rows]) + "\n")
    lines = [line for _, _, content in blocks_of(ROOT / "README.md") for line in content.splitlines()]
    typed = [shlex.split(line)[1:] for line in lines if line.startswith("bilstm ")]
    assert [arguments[0] for arguments in typed] == ["train", "evaluate", "inspect", "predict"]
    typed[0] += ["--epochs", "1"]
    for arguments in typed:
        result = CliRunner().invoke(commands, arguments)
        assert result.exit_code == 0, result.output
    assert "How good is model.safetensors?" in Path("report.html").read_text(encoding="utf-8")
    assert Path("labelled.csv").read_text().startswith("id,time,x,state,predicted,probability\n")


def test_the_page_on_tables_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    objects = [{"recording": 1, "seconds": t, "movement": t % 3, "pulse": None, "place": "home"} for t in range(9)]
    Path("live.ndjson").write_text("".join(json.dumps(row) + "\n" for row in objects))
    path = ROOT / "docs" / "tables.md"
    names: dict[str, Any] = {}
    ran = 0
    for line, language, content in blocks_of(path):
        if language == "python":
            run(path, line, content, names)
        elif language == "toml":
            Path("options.toml").write_text(content)
        elif content.startswith(first := "recording,seconds"):
            assert Path("train.csv").read_text().startswith(content), first
        for typed in content.splitlines() if not language else ():
            if typed.startswith("bilstm "):
                command, _, given = typed.partition(" < ")
                result = CliRunner().invoke(commands, shlex.split(command)[1:], input=given and Path(given).read_text())
                assert result.exit_code == 0, result.output
                ran += 1
    assert ran == 13
    assert Path("events.csv").read_text().startswith("sequence,start,end,label,confidence\n")


def test_the_documents_have_python_blocks() -> None:
    found = {path.name: sum(language == "python" for _, language, _ in blocks_of(path)) for path in DOCUMENTS}
    assert found["README.md"] >= 1
    assert found["tutorial.md"] >= 7


@pytest.mark.parametrize(
    ("printed", "expected", "agree"),
    [
        ("a 0.950 b", "a 0.951\nb", True),
        ("a 0.950 b", "a 0.990 b", False),
        ("a 0.950 b", "a 0.950 c", False),
        ("a 0.950", "a 0.950 b", False),
        ("[0 1 1]", "[0 1 0]", False),
    ],
)
def test_figures_may_differ_by_a_little(printed: str, expected: str, agree: bool) -> None:
    assert same(printed, expected) == agree
