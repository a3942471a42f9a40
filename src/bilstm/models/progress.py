"""The lines that Keras prints while it works: a bar, or a line at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

_WIDTH = 30


class Bar:
    """A bar of batches on standard output.

    Args:
        batches: how many there are.
        verbose: 0 prints nothing; 1 a bar, which moves on a terminal and is otherwise printed at the end; 2 the line
            at the end without it.
        title: what is printed first, such as "Epoch 1/3".
    """

    def __init__(self, batches: int, verbose: int, title: str = "") -> None:
        self.verbose = verbose
        self.batches = batches
        self.title = title
        self.started = time.perf_counter()
        # The bar redraws its line, which only a terminal can.
        self.moves = verbose == 1 and sys.stdout.isatty()
        if verbose and title:
            print(title)

    def update(self, done: int, logs: Mapping[str, float]) -> None:
        """Draw the bar for `done` batches, followed by the logs."""
        if self.moves and 0 < done < self.batches:
            filled = done * _WIDTH // self.batches
            bar = "=" * filled + ">" + "." * (_WIDTH - filled - 1)
            left = (time.perf_counter() - self.started) / done * (self.batches - done)
            print(f"\r{self._count(done)} [{bar}] - ETA: {left:.0f}s{format_logs(logs)}", end="\x1b[K", flush=True)

    def finish(self, logs: Mapping[str, float]) -> None:
        """Print the last line."""
        if not self.verbose:
            return
        seconds = time.perf_counter() - self.started
        count = self._count(self.batches)
        if self.verbose == 2:
            print(f"{'' if self.title else count + ' - '}{seconds:.0f}s{format_logs(logs)}")
            return
        start, end = ("\r", "\x1b[K\n") if self.moves else ("", "\n")
        step = _step_time(seconds / max(1, self.batches))
        print(f"{start}{count} [{'=' * _WIDTH}] - {seconds:.0f}s {step}/step{format_logs(logs)}", end=end)

    def _count(self, done: int) -> str:
        return f"{done:>{len(str(self.batches))}}/{self.batches}"


def format_logs(logs: Mapping[str, float]) -> str:
    """Such as " - loss: 0.0967 - acc: 0.9000", numbers as Keras writes them."""
    return "".join(
        f" - {name}: {value:.4f}" if abs(value) > 1e-3 else f" - {name}: {value:.4e}" for name, value in logs.items()
    )


def _step_time(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.0f}s"
    return f"{seconds * 1e3:.0f}ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f}us"
