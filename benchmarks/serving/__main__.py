"""`bilstm serve` under load, compared with plain FastAPI services around ONNX Runtime and PyTorch.

    python -m benchmarks.serving --data FOLDER           all, about 15 minutes; writes RESULTS.md and latency.png
    python -m benchmarks.serving --seconds 1 --quick     a smoke test with the tutorial's model: prints the table
    python -m benchmarks.serving --soak 600              ours at saturation: statuses, and memory over time

FOLDER, or BILSTM_DATA, has the data sets of benchmarks/accuracy. All networks have the same weights, and all services
give the same labels. Every answer of ours is compared with that for the sequence alone, byte for byte.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from benchmarks.serving import report
from benchmarks.serving.cases import Case, make_cases
from benchmarks.serving.load import ask
from benchmarks.speed import machine
from bilstm.model import TrainedModel
from bilstm.serving.answers import answers
from bilstm.serving.reading import read_question

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "serving"
SERVERS = {"bilstm": "bilstm serve", "onnx": "FastAPI, ONNX Runtime", "torch": "FastAPI, PyTorch"}
CONNECTIONS = (1, 16, 64, 256)
PORT = 8765
_TOLERANCE = 2e-5  # between probabilities of different libraries


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("BILSTM_DATA"))
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--workers", type=int, action="append", help="processes of each service; default: 1, and 2")
    parser.add_argument("--quick", action="store_true", help="the tutorial's model, and fewer connections")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="ours alone, with 256 connections")
    arguments = parser.parse_args()
    cases = make_cases(FOLDER, None if arguments.quick else arguments.data and Path(arguments.data))
    if arguments.soak:
        soak(cases[-1], arguments.soak)
        return
    results: list[dict[str, Any]] = []
    for case in cases:
        for workers in arguments.workers or (1, 2):
            for server in SERVERS:
                connections = (1, 16) if arguments.quick else CONNECTIONS
                results += measure(case, server, workers, connections, arguments.seconds)
    page = report.page(results, cases, machine.describe(), SERVERS)
    print(page)
    if not arguments.quick and len(cases) == 3:
        Path(__file__).with_name("RESULTS.md").write_text(page, encoding="utf-8")
        report.plot(results, SERVERS, Path(__file__).with_name("latency.png"))


def measure(
    case: Case, server: str, workers: int, connections: tuple[int, ...], seconds: float
) -> Iterator[dict[str, Any]]:
    """Start a service, check its answers, and put it under load."""
    expected = expected_answers(case)
    with running(case, server, workers):
        check(case, expected)
        exact = expected if server == "bilstm" else None
        asyncio.run(ask(PORT, "/label", case.bodies, None, 16, 1.0))  # warm
        for number in connections:
            load = asyncio.run(ask(PORT, "/label", case.bodies, exact, number, seconds))
            if load.different or set(load.statuses) - {200}:
                raise SystemExit(f"{server}, {case.name}: {dict(load.statuses)}, {load.different} different answers")
            found = {"case": case.name, "server": server, "workers": workers, "connections": number}
            found |= {"rate": load.rate, "p50": load.milliseconds(0.5), "p99": load.milliseconds(0.99)}
            found["max"] = load.milliseconds(1.0)
            print(report.line(found), flush=True)
            yield found


def expected_answers(case: Case) -> list[bytes]:
    """Our answer to each request, from the model alone."""
    model = TrainedModel.load(case.path)
    found = []
    for cells in case.sequences:
        question = read_question(model, {"columns": cells}, 1 << 30)
        found.append(orjson.dumps(answers(model, question, model.outputs(question.data.values))))
    return [_around(case, each) for each in found]


def _around(case: Case, sequences: bytes) -> bytes:
    import hashlib

    version = hashlib.blake2b(case.path.read_bytes(), digest_size=6).hexdigest()
    return b'{"model":"%s","version":"%s","sequences":%s}' % (case.name.encode(), version.encode(), sequences)


def check(case: Case, expected: list[bytes]) -> None:
    """All services say the same."""
    for body, right in list(zip(case.bodies, expected, strict=True))[:20]:
        request = urllib.request.Request(f"http://127.0.0.1:{PORT}/label", body, {"Content-Type": "application/json"})
        answer = json.loads(urllib.request.urlopen(request).read())
        (wanted,) = json.loads(right)["sequences"]
        found = answer["sequences"][0] if "sequences" in answer else answer
        pairs = zip(found["probability"], wanted["probability"], strict=True)
        assert all(abs(one - other) < _TOLERANCE for one, other in pairs), (found, wanted)


@contextlib.contextmanager
def running(case: Case, server: str, workers: int) -> Iterator[subprocess.Popen[bytes]]:
    common = ["--port", str(PORT), "--workers", str(workers)]
    if server == "bilstm":
        limits = ["--queue", "2000", "--quiet", "--threads", str(max(1, (os.cpu_count() or 1) // workers))]
        command = ["-m", "bilstm", "serve", str(case.path), *common, *limits]
    else:
        command = ["-m", "benchmarks.serving.peer", server, str(case.path), *common]
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT)
    try:
        _wait(process)
        yield process
    finally:
        process.terminate()
        process.wait(timeout=90)
        time.sleep(0.5)


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Until it answers, whatever it says; and so that each worker does."""
    for _ in range(600):
        assert process.poll() is None, "the service has ended"
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/openapi.json", timeout=10).read()
            time.sleep(1)
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("the service does not answer")


def soak(case: Case, seconds: float) -> None:
    """Whether there is an error but 503, and whether memory grows."""
    expected = expected_answers(case)
    with running(case, "bilstm", 1) as process:
        asyncio.run(ask(PORT, "/label", case.bodies, None, 64, 3.0))
        started = time.monotonic()
        while time.monotonic() < started + seconds:
            load = asyncio.run(ask(PORT, "/label", case.bodies, expected, 256, min(10.0, seconds)))
            spent = time.monotonic() - started
            print(
                f"{spent:4.0f} s: {load.rate:,.0f} requests/s, p99 {load.milliseconds(0.99):.1f} ms, "
                f"{dict(load.statuses)}, {load.different} different, {_megabytes(process.pid):.1f} MB",
                flush=True,
            )
            assert not load.different
            assert set(load.statuses) <= {200, 503}


def _megabytes(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) / 1000 for line in text.splitlines() if line.startswith("VmRSS"))


if __name__ == "__main__":
    main()
