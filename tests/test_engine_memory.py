"""What the engine keeps in memory falls again after a call that was much larger than those that follow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from oracles.models import SANITIZED

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not tell"),
    pytest.mark.skipif(SANITIZED is not None, reason="sanitizers keep what is freed"),
]

PROGRAM = """
import resource, sys, threading
import numpy as np
from bilstm.layers import LSTM, Bidirectional, Dense
from bilstm.models import Sequential
from bilstm.ragged import Ragged

def megabytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20

def data(sequences, steps):
    return Ragged(np.zeros((sequences * steps, 2), np.float32), np.arange(sequences + 1) * steps)

layers = [Bidirectional(LSTM(UNITS, return_sequences=True), input_shape=(None, 2)), Dense(2, "softmax")]
model = Sequential(layers, seed=1)
model.compile("adam", "sparse_categorical_crossentropy")
def call(x):
    if sys.argv[1] == "train":
        model.train_on_batch(x, np.zeros(x.total_steps, np.int32))
    else:
        model.predict_rows(x)

small = data(2, 20)
for _ in range(40):
    call(small)
before = megabytes()
if sys.argv[1] == "from threads":
    meeting = threading.Barrier(4)
    threads = [threading.Thread(target=lambda: (meeting.wait(), call(data(32, 2000)))) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
else:
    call(data(*LARGE))
large = megabytes()
for _ in range(40):
    call(small)
print(large - before, megabytes() - before)
"""


@pytest.mark.parametrize("call", ["predict", "train", "from threads"])
@pytest.mark.parametrize(("units", "large"), [(16, "(32, 20_000)"), (150, "(40, 1600)")])
def test_memory_falls_again(call: str, units: int, large: str) -> None:
    program = PROGRAM.replace("UNITS", str(units)).replace("LARGE", large)
    found = subprocess.run([sys.executable, "-c", program, call], capture_output=True, text=True, timeout=120)
    assert not found.stderr
    grown, left = map(float, found.stdout.split())
    assert grown > 10
    assert left < max(4, grown / 8)
