"""How trainings show their progress: a bar on a terminal, or a line for each epoch."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any


@contextlib.contextmanager
def reporting(verbose: bool | None, what: str = "") -> Iterator[Callable[[dict[str, Any]], None]]:
    """What shows the progress of a training, given as `progress` to `train_model`.

    Args:
        verbose: None: a bar, see `Progress`; True: a line for each epoch on standard output; False: nothing.
        what: begins each line.
    """

    def print_epoch(figures: dict[str, Any]) -> None:
        if verbose and "note" in figures:
            print(f"{what}note: {figures['note']}")
        if verbose and figures["done"] == 1.0:
            names = ("loss", "val_loss", "val_accuracy")
            scores = (f"{name} {figures[name]:.4f}" for name in names if name in figures)
            print(f"{what}Epoch {figures['epoch']}/{figures['epochs']}: {', '.join(scores)}")

    if verbose is None:
        with Progress(quiet=False, what=what) as bar:
            yield bar
    else:
        yield print_epoch


class Progress:
    """A bar on standard error with the latest scores of one or several trainings.

    It needs a terminal and tqdm, and shows nothing otherwise; nor does it in worker processes, such as joblib's, which
    would write over each other.

    Args:
        quiet: whether to show nothing.
        what: begins the line.
    """

    def __init__(self, *, quiet: bool, what: str = "") -> None:
        self._what = what
        silent = quiet or sys.stderr is None or not sys.stderr.isatty()
        self._hidden = silent or _in_worker() or find_spec("tqdm") is None
        self._quiet = quiet
        self._bar: Any = None
        self.seconds = 0.0  # until the last epoch ended

    def __call__(self, figures: dict[str, Any]) -> None:
        """Show what `train_model`, or `bilstm.compare`, reports to its `progress`."""
        self.seconds = figures.get("seconds", self.seconds)
        if "resumed" in figures and not self._quiet:
            with contextlib.suppress(OSError):  # the training continues even if its progress cannot be printed
                print(f"resuming after {len(figures['resumed'])} of at most {figures['epochs']} epochs", flush=True)
        if "note" in figures and not self._quiet:
            with contextlib.suppress(OSError):
                print(f"note: {figures['note']}", flush=True)
        if not self._hidden:
            try:
                self._show(figures)
            except OSError:  # such as of a terminal that has gone
                self._hidden = True

    def _show(self, figures: dict[str, Any]) -> None:
        if self._bar is None:
            from tqdm import tqdm

            form = self._what + "{unit} {n:.1f} of {total:.0f} |{bar:10}| {elapsed}<{remaining}{postfix}"
            width, height = shutil.get_terminal_size()  # 80 × 24 where the terminal does not tell
            self._bar = tqdm(
                total=figures.get("runs", figures["epochs"]),
                initial=_done({**figures, "done": 0.0}),  # where training was resumed: for the time left
                unit="training" if "run" in figures else "epoch",
                bar_format=form,
                leave=False,
                file=sys.stderr,
                ncols=width,
                nrows=height,
            )
            self._scores: dict[str, str] = {}
        judged = "accuracy" if "val_accuracy" in figures else "loss"
        names = {"loss": "loss", f"val_{judged}": f"validation {judged}"}
        self._scores |= {"with": figures["variant"]} if "variant" in figures else {}
        self._scores |= {name: f"{figures[key]:.4f}" for key, name in names.items() if key in figures}
        self._bar.set_postfix(self._scores, refresh=False)
        self._bar.update(_done(figures) - self._bar.n)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.close()


def _in_worker() -> bool:
    """Whether multiprocessing started this process, which it then has imported."""
    processes = sys.modules.get("multiprocessing.process")
    return processes is not None and processes.parent_process() is not None


def _done(figures: dict[str, Any]) -> float:
    """Epochs, or of several trainings these."""
    epochs: float = figures["epoch"] - 1 + figures["done"]
    return figures["run"] - 1 + epochs / figures["epochs"] if "run" in figures else epochs
