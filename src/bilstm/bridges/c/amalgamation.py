"""The engine's own sources as one text: what predicts, with internal linkage, so that compilers drop what is unused.

The files are joined in the order of their includes, inside one unnamed namespace. Names of files' own unnamed
namespaces that other files have too get the file's name. Functions that only train keep their declarations and lose
their bodies; of the choices between float32 and bfloat16 weights float32 is left.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from bilstm.errors import UserError

# What the exported model does not call: the C interface, and passes that are kept.
_LEFT_OUT = ("api.cpp", "cpu.cpp", "pass.cpp", "prepared.cpp")
# Virtual functions, which are compiled whether they are called or not.
_TRAINING = ("backward", "backward_step", "recompute_gates", "weight_gradient", "score", "decode")
_LOCAL = re.compile(r'#include "(.+)"')
_SYSTEM = re.compile(r"\s*#include <.+>")
_UNNAMED = re.compile(r"^namespace \{\n(.*?)^\}  // namespace$", re.MULTILINE | re.DOTALL)
_ROUNDED = re.compile(r"mode\.rounded \?\s[^;]*?\)\s*: ")  # the choice of weights rounded to bfloat16
_THREADS = re.compile(
    r"(kWorthThreads = )[\d']+;"
)  # an export has one thread: nothing is divided, nor allocated for it
_RETURNS = re.compile(r"\s*(?:virtual )?(?:void|Score|std::unique_ptr<Direction>) (?:\w+::)?$")


def engine_source(unused: Iterable[str]) -> tuple[list[str], str]:
    """The engine's sources for prediction.

    Args:
        unused: further functions that will not be called, such as `make_gru` or `Crf::forward`.

    Returns:
        The lines that include system headers, and the rest.

    Raises:
        UserError: the sources are not installed.
    """
    files = _files()
    clashes = _clashes(files)
    order = _ordered(files)
    texts = [_renamed(files[name], name, clashes.get(name, set())) for name in order]
    text = _ROUNDED.sub("", "".join(texts))
    includes, body = _hoisted(_THREADS.sub(r"\1INT64_MAX;", text))
    return includes, _without_bodies(body, [*_TRAINING, *unused])


def _files() -> dict[str, str]:
    import bilstm.engine

    # An editable install keeps the libraries apart from the sources; both folders are in __path__.
    folders = [Path(folder) / "native" for folder in bilstm.engine.__path__]
    found = {path.name: path for folder in folders for pattern in ("*.h", "*.cpp") for path in folder.glob(pattern)}
    if not found:
        raise UserError("the engine's sources are not installed, which an export to C is made of: install bilstm again")
    return {name: path.read_text(encoding="utf-8") for name, path in sorted(found.items()) if name not in _LEFT_OUT}


def _ordered(files: Mapping[str, str]) -> list[str]:
    """All sources, each header before what includes it."""
    order: dict[str, None] = {}

    def add(name: str) -> None:
        if name not in order:
            for header in _LOCAL.findall(files[name]):
                add(header)
            order[name] = None

    for name in files:
        if name.endswith(".cpp"):
            add(name)
    return list(order)


def _clashes(files: Mapping[str, str]) -> dict[str, set[str]]:
    """For each source the names of its own that another file has, too."""
    own = {name: _names("".join(_UNNAMED.findall(text))) for name, text in files.items() if name.endswith(".cpp")}
    shared = {each for name, text in files.items() if name.endswith(".h") for each in _names(text)}
    return {
        name: names & shared.union(*(others for other, others in own.items() if other != name))
        for name, names in own.items()
    }


def _names(text: str) -> set[str]:
    """What is declared outside functions and classes: these lines are not indented."""
    found: set[str] = set()
    for line in text.splitlines():
        if not line or line[0] in " #/{}" or line.startswith("namespace"):
            continue
        if made := re.match(
            r"(?:template <.*> )?(?:struct|class|enum(?: class)?|using) (?:alignas\(\w+\) )?(\w+)", line
        ):
            found.add(made[1])
        elif line.startswith("template"):
            continue
        elif "=" in line.split("(")[0]:
            found.update(re.findall(r"(\w+) =", line))
        elif made := re.match(r"[^(=;]*?(\w+)[({;]", line):
            found.add(made[1])
    return found


def _renamed(text: str, name: str, clashes: Iterable[str]) -> str:
    """A source without its includes of others, its own names told apart."""
    for each in clashes:
        text = re.sub(rf"(?<!::)(?<!\.)(?<!->)\b{each}\b", f"{each}_in_{name.partition('.')[0]}", text)
    lines = [line for line in text.splitlines() if not _LOCAL.match(line) and line != "#pragma once"]
    return "\n".join(lines) + "\n"


def _hoisted(text: str) -> tuple[list[str], str]:
    """The includes of system headers, with the conditions around them; and the rest."""
    plain, conditional, rest = dict[str, None](), dict[str, None](), list[str]()
    lines = iter(text.splitlines())
    for line in lines:
        if _SYSTEM.match(line):
            plain[line] = None
            continue
        block = [line]
        if line.startswith("#if"):
            while block[-1].startswith("#") and block[-1] != "#endif":
                block.append(next(lines))
        if len(block) > 1 and block[-1] == "#endif" and any(map(_SYSTEM.match, block)):
            conditional["\n".join(block)] = None
        else:
            rest += block
    return [*sorted(plain), *conditional], "\n".join(rest) + "\n"


def _without_bodies(text: str, names: Iterable[str]) -> str:
    """The text with bodies that throw for functions of these names, which may name their class."""
    calls = re.compile(rf"\b(?:{'|'.join(map(re.escape, names))})\(")
    parts, start = list[str](), 0
    while found := calls.search(text, start):
        end = _closing(text, found.end(), "()")
        body = re.compile(r"(?:\s|const\b|override\b)*\{").match(text, end)
        before = text[text.rfind("\n", 0, found.start()) + 1 : found.start()]
        if not body or not _RETURNS.match(before):
            parts.append(text[start:end])
            start = end
            continue
        parts.append(text[start : body.end()] + ' throw Invalid("this was not exported"); }')
        start = _closing(text, body.end(), "{}")
    return "".join(parts) + text[start:]


def _closing(text: str, start: int, pair: str) -> int:
    """The place after the bracket that closes the one before `start`."""
    depth = 1
    while depth:
        depth += (text[start] == pair[0]) - (text[start] == pair[1])
        start += 1
    return start
