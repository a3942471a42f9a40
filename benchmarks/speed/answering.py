"""What the processes of benchmarks share: they read commands, one JSON object a line, and answer each with one."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any


class Answering:
    """A process's state. A command's "do" names a method, and its other entries are the method's arguments."""

    def hello(self) -> dict[str, Any]:
        """What is told of the process before the first command."""
        raise NotImplementedError

    def answer(self, line: str) -> dict[str, Any]:
        command = json.loads(line)
        try:
            result: dict[str, Any] = getattr(self, command.pop("do"))(**command)
        except Exception as error:
            traceback.print_exc()
            result = {"error": f"{type(error).__name__}: {error}".strip().splitlines()[0]}
        return result


def answer_commands(kind: Callable[[str], Answering]) -> None:
    """Answer the commands of standard input until it ends; `kind` takes the peer's name, the program's argument."""
    # What libraries print must not come between the answers.
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)
        try:
            worker = kind(sys.argv[1])
        except ImportError as error:
            print(json.dumps({"error": f"not installed: {error}"}), file=answers)
            return
        print(json.dumps(worker.hello()), file=answers)
        for line in sys.stdin:
            print(json.dumps(worker.answer(line)), file=answers)
