"""Many streams at once: how many ECGs at 250 Hz one processor labels in real time, with bounded look-ahead.

python -m benchmarks.speed.streams    prints the table; --out FILE writes the page
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from benchmarks.speed import machine
from bilstm import __version__, utils
from bilstm.layers import LSTM, Bidirectional, Dense, Input, TimeDistributed
from bilstm.models import Sequential

_HERTZ, _STREAMS, _TURNS = 250, 1000, 20
_BOUNDS = [(16, 1), (16, 16), (64, 1), (64, 16), (64, 64)]  # look-ahead and block


def measure(model: Sequential, look_ahead: int, block: int) -> list[str]:
    """The cells of a row: processor time, so that other processes take nothing from it."""
    stream, random = model.stream(look_ahead=look_ahead, block=block), np.random.default_rng(0)
    steps = random.normal(size=(_STREAMS, _HERTZ // 10, 1)).astype(np.float32)  # a tenth of a second
    turns = _TURNS if block > 1 else 4
    pushed = 0
    while not stream.position(0):  # until outputs come
        stream.push_many(dict(enumerate(steps)))
    begun = time.process_time()
    for _ in range(turns):
        stream.push_many(dict(enumerate(steps)))
        pushed += steps.size
    seconds = time.process_time() - begun
    delay = (look_ahead + block - 1) / _HERTZ
    kept = sum(stream.get_state(0)[name].nbytes for name in ("inputs", "states"))
    return [
        str(look_ahead),
        str(block),
        f"{1000 * delay:,.0f} ms",
        f"{pushed / seconds / _HERTZ:,.0f}",
        f"{kept:,} bytes",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    utils.set_threads(1)
    about = machine.describe()
    both = Bidirectional(LSTM(64, return_sequences=True))
    model = Sequential([Input((None, 1)), both, TimeDistributed(Dense(4, "softmax"))], seed=1)
    lines = [
        "# Many streams at once",
        "",
        f"{about['processor']}, {about['date']}, bilstm {__version__}. Made by `python -m benchmarks.speed.streams`.",
        "",
        f"{_STREAMS:,} ECGs at {_HERTZ} Hz in one stream object: one bidirectional LSTM of 64 units, 4 classes. Each "
        "push brings a tenth of a second of all of them. One thread; in processor time, overheads in Python included.",
        "",
        "| look-ahead | block | an answer comes after at most | in real time on one processor | kept of each |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [f"| {' | '.join(measure(model, *bounds))} |" for bounds in _BOUNDS]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if out:
        out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
