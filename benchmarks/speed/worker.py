"""The process of one library: reads commands, one JSON object a line, and answers each with one.

    python -m benchmarks.speed.worker PEER

A command has a "do": "hello", "build", "check", "time" or "memory"; the functions below say what they take and
answer. An answer with "error" says what went wrong. Whatever the library itself prints goes to standard error.
"""

from __future__ import annotations

import gc
import importlib
import resource
import sys
import time
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.speed.answering import Answering, answer_commands
from benchmarks.speed.cases import Case, case_from
from benchmarks.speed.peers.base import Peer, Runner, Setting

# Peer -> module, class. The class may serve several processes, told apart by their environment.
PEERS = {
    "bilstm": ("ours", "Bilstm"),
    "PyTorch": ("pytorch", "PyTorch"),
    "Keras on TensorFlow": ("keras_any", "Keras"),
    "Keras on JAX": ("keras_any", "Keras"),
    "JAX": ("jax_scan", "Jax"),
    "Flax": ("flax_rnn", "Flax"),
    "ONNX Runtime": ("onnx_runtime", "OnnxRuntime"),
    "OpenVINO": ("open_vino", "OpenVino"),
    "LiteRT": ("lite_rt", "LiteRt"),
    "MNN": ("mnn_session", "Mnn"),
    "ncnn": ("ncnn_net", "Ncnn"),
    "tract": ("tract_onnx", "Tract"),
    # Of benchmarks.speed.convert.
    "bilstm, converted": ("files", "Converted"),
    "Keras files on TensorFlow": ("files", "KerasFile"),
    "Keras files on JAX": ("files", "KerasFile"),
    "Keras files on PyTorch": ("files", "KerasFile"),
    "ONNX Runtime, exported": ("files", "OnnxFile"),
}


class Worker(Answering):
    """Holds the library, the case at hand and its prepared networks."""

    def __init__(self, name: str) -> None:
        module, kind = PEERS[name]
        self.peer: Peer = getattr(importlib.import_module(f"benchmarks.speed.peers.{module}"), kind)()
        self.case: Case | None = None
        self.settings: dict[str, Setting] = {}
        self.runners: dict[str, Runner] = {}
        self.memory_before = _peak_memory()
        self.answered = _clocks()

    def hello(self) -> dict[str, Any]:
        """Answers "versions" and the bytes of "memory" that the imports took."""
        return {"versions": self.peer.versions(), "memory": self.memory_before}

    def build(self, case: dict[str, Any]) -> dict[str, Any]:
        """Turn to a case. Answers "settings", each with name, exact and granule."""
        self.runners.clear()
        gc.collect()
        self.case = case_from(case)
        possible = self.peer.convolves or not self.case.filters
        self.settings = {setting.name: setting for setting in self.peer.settings(self.case)} if possible else {}
        described = [{"name": s.name, "exact": s.exact, "granule": s.granule} for s in self.settings.values()]
        return {"settings": described}

    def check(self, setting: str, steps: int, path: str) -> dict[str, Any]:
        """Make a new network; write its first outputs to an .npy file. Answers "losses" of two runs of `steps`."""
        runner = self._runner(setting)
        np.save(path, np.asarray(runner.outputs(), np.float32))
        return {"losses": [runner.run(steps) for _ in range(2)]}

    def time(self, setting: str, steps: int, repeats: int) -> dict[str, Any]:
        """Run `steps` so many times. Answers "seconds" a step, those of the "fastest" run's steps, and "waiting", the
        processors used on average since the last answer, when others were measured.
        """
        runner = self._runner(setting)
        processor, wall = (now - before for now, before in zip(_clocks(), self.answered, strict=True))
        gc.collect()
        gc.disable()
        clock = [time.perf_counter()]
        for _ in range(repeats):
            runner.run(steps)
            clock.append(time.perf_counter())
        gc.enable()
        seconds, fastest = clock[-1] - clock[0], min(after - before for before, after in pairwise(clock))
        return {"seconds": seconds / (steps * repeats), "fastest": fastest / steps, "waiting": processor / wall}

    def drop(self, setting: str) -> dict[str, Any]:
        """Forget the setting's network."""
        self.runners.pop(setting, None)
        gc.collect()
        return {}

    def memory(self) -> dict[str, Any]:
        """Answers the bytes of "memory" that have been needed, at most, beyond those after the imports."""
        return {"memory": _peak_memory() - self.memory_before}

    def _runner(self, name: str) -> Runner:
        if name not in self.runners:
            assert self.case is not None
            self.runners[name] = self.peer.prepare(self.case, self.settings[name])
        return self.runners[name]

    def answer(self, line: str) -> dict[str, Any]:
        result = super().answer(line)
        self.answered = _clocks()
        return result


def _clocks() -> tuple[float, float]:
    """Seconds that this process has used processors, and seconds on the wall."""
    return time.process_time(), time.perf_counter()


def _peak_memory() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    answer_commands(Worker)
