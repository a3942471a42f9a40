"""What docs/onnx.md shows for other languages runs as it stands there: in C++, and in a browser.

Each is skipped where its library is missing. C++ needs ONNX Runtime's headers and library, in the compiler's paths or
below the folder that the environment variable ONNXRUNTIME names (include/ and lib/, as in its release archives). The
browser needs Chromium and npm's onnxruntime-web in build/node, which `make test-slow` fetches where there is npm.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bilstm
from bilstm import TrainedModel
from bilstm.bridges.onnx import export
from browser import EXECUTABLE, browser

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
WEB = ROOT / "build" / "node" / "node_modules" / "onnxruntime-web" / "dist"
COMPILER = shutil.which(os.environ.get("CXX", "c++"))
TEMPERATURES, MODES = [61.5, 66.0, 58.0], ["run", "run", "idle"]  # of the page's examples


def snippet(after: str) -> str:
    """The first indented block of the page after some words."""
    page = (ROOT / "docs" / "onnx.md").read_text(encoding="utf-8").split(after)[1]
    found = re.search(r"(?m)(?:^    .*\n|^\n)+", page[page.index("\n    ") :])
    assert found is not None
    return found.group()


def trained(folder: Path, *features: str) -> TrainedModel:
    """A model of the page's columns, written to model.onnx."""
    random = np.random.default_rng(0)
    table = pd.DataFrame({"temperature": random.normal(60, 5, 400), "mode": random.choice(["idle", "run"], 400)})
    table["state"] = np.where(table["temperature"] > 60, "alarm", "normal")
    table["machine"] = np.repeat(np.arange(20), 20)
    model = bilstm.train(
        table[["machine", *features, "state"]], sequence="machine", label="state", task="step-label", epochs=2, seed=0
    )
    export(model, folder / "model.onnx")
    return model


def expected(model: TrainedModel, *features: str) -> tuple[list[str], list[float]]:
    columns = {"temperature": TEMPERATURES, "mode": MODES}
    rows = pd.DataFrame({"machine": [1] * 3, **{name: columns[name] for name in features}})
    return list(model.predict(rows)), list(model.predict_proba(rows).max(axis=1))


PROGRAM = """
#include <array>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>
#include <onnxruntime_cxx_api.h>

int main() {
%s
    std::printf("%%s %%.7f\\n", first.c_str(), probability);
}
"""


def test_cpp(tmp_path: Path) -> None:
    if COMPILER is None:
        pytest.skip("no C++ compiler")
    home = os.environ.get("ONNXRUNTIME", "/usr")
    paths = [f"-I{home}/include", f"-I{home}/include/onnxruntime", f"-L{home}/lib", f"-Wl,-rpath,{home}/lib"]
    include = [COMPILER, *paths, "-x", "c++", "-std=c++17", "-"]
    header = subprocess.run(
        [*include, "-fsyntax-only"], input="#include <onnxruntime_cxx_api.h>\n", capture_output=True, text=True
    )
    if header.returncode:
        pytest.skip("no headers of ONNX Runtime: set ONNXRUNTIME to a folder that has include/ and lib/")
    source = PROGRAM % snippet("In C++, with")
    made = subprocess.run(
        [*include, "-Wall", "-Wextra", "-o", str(tmp_path / "program"), "-lonnxruntime"],
        input=source,
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    model = trained(tmp_path, "temperature")
    ran = subprocess.run([tmp_path / "program"], cwd=tmp_path, capture_output=True, text=True, check=True)
    labels, probabilities = expected(model, "temperature")
    label, probability = ran.stdout.split()
    assert label == labels[0]
    assert abs(float(probability) - probabilities[0]) < 1e-5


PAGE = """<!doctype html><meta charset="utf-8"><script src="ort.min.js"></script>
<script type="module">
try {
  ort.env.wasm.numThreads = 1;
%s
  window.answer = JSON.stringify([[...label.data], [...probability.data]]);
} catch (error) {
  window.answer = JSON.stringify(String(error));
}
</script>"""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """A folder's files, by HTTP on this machine alone."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_browser(tmp_path: Path) -> None:
    if EXECUTABLE is None or not WEB.is_dir():
        pytest.skip("no Chromium, or no onnxruntime-web in build/node")
    model = trained(tmp_path, "temperature", "mode")
    for name in ("ort.min.js", "ort-wasm-simd-threaded.jsep.mjs", "ort-wasm-simd-threaded.jsep.wasm"):
        shutil.copy(WEB / name, tmp_path)
    (tmp_path / "page.html").write_text(PAGE % snippet("In a browser or in Node"), encoding="utf-8")
    with served(tmp_path) as address, browser() as chromium:
        chromium.call("Page.navigate", url=f"{address}/page.html")
        answer = None
        for _ in range(600):
            if answer := chromium.evaluate("window.answer"):
                break
            time.sleep(0.1)
    assert isinstance(answer, str), "no answer in a minute"
    found = json.loads(answer)
    assert isinstance(found, list), found
    labels, probabilities = expected(model, "temperature", "mode")
    assert found[0] == labels
    np.testing.assert_allclose(found[1], probabilities, atol=1e-5)
