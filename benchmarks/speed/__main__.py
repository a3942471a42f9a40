"""Measures bilstm and its peers side by side.

    python -m benchmarks.speed                  all cases and all peers, about an hour; writes RESULTS.md
    python -m benchmarks.speed --quick          ours and a few peers, under 2 minutes; prints the table
    python -m benchmarks.speed --cases N1,L1    some cases; prints the table; with --out FILE, writes a page
    python -m benchmarks.speed --report FILE    RESULTS.md again from the figures of an earlier run

`make bench` sets up the peers' environment first. The figures themselves, every round's, go to
build/bench/results.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from benchmarks.speed import growth, machine, report
from benchmarks.speed.cases import CASES
from benchmarks.speed.harness import LOGS, OURS, PeerError, Process, measure, python_of_peers

OUTPUT = Path(__file__).with_name("RESULTS.md")

# For --quick: what PyTorch takes too long for is left out.
_QUICK = [name for name in CASES if name not in ("N4", "X1") and not CASES[name].filters]
_SMALLEST = ("S1 fit", "S1 call", "L1")


def main() -> None:
    arguments = _arguments()
    if arguments.report:
        _write(json.loads(arguments.report.read_text()))
        return
    names = arguments.cases or (_QUICK if arguments.quick else list(CASES))
    started = time.perf_counter()
    results = _measure(names, arguments.quick, arguments.seconds)
    print("\n".join(["", *report.targets_table(results)]), flush=True)
    whole = not (arguments.quick or arguments.cases)
    if whole:
        results["growth"] = growth.measure(_say)
    _keep(results)
    if whole:
        _write(results)
    if arguments.out:
        arguments.out.write_text(report.page(results), encoding="utf-8")
    _say(f"{(time.perf_counter() - started) / 60:.1f} minutes")


def _measure(names: list[str], quick: bool, seconds: float | None) -> report.Results:
    processes = _processes(quick)
    peak = machine.Peak(LOGS)
    versions: dict[str, str] = {}
    for process in processes:
        try:
            versions |= process.greeting["versions"] if not process.note else {}
        except PeerError as error:
            _say(f"{process.peer}: {error}")
    results: report.Results = {"machine": machine.describe(), "versions": versions, "peak": peak.gflops, "cases": {}}
    cases = results["cases"]
    for name in names:
        peak.measure()
        chosen = processes if not quick or name in _SMALLEST else processes[:2]
        cases[name] = measure(CASES[name], chosen, budget=seconds or (2.0 if quick else 40.0))
        for entry in cases[name]:
            if entry["median"] or entry["problem"]:
                figure = entry["problem"] or f"{entry['median'] * 1e3:.4g} ms"
                _say(f"{name}: {entry['peer']}, {entry['setting']}{'' if entry['exact'] else ' (inexact)'}: {figure}")
        results["peak"] = peak.gflops
        _keep(results)  # a run that is broken off has not been for nothing: see --report
    peak.measure()
    results["peak"] = peak.gflops
    for process in processes:
        process.close()
    return results


def _keep(results: report.Results) -> None:
    (LOGS / "results.json").write_text(json.dumps(results))


def _processes(quick: bool) -> list[Process]:
    """Ours first; in a quick run PyTorch second, then those that matter for the smallest cases."""
    python = python_of_peers()
    ours, pytorch = Process(OURS, sys.executable), Process("PyTorch", python)
    if quick:
        return [ours, pytorch, Process("ONNX Runtime", python), Process("JAX", python)]
    processes = [ours, Process(OURS, sys.executable, note=report.ONE_THREAD, environment={"BILSTM_THREADS": "1"})]
    if "avx512" in ours.greeting["versions"][OURS]:
        processes.append(Process(OURS, sys.executable, note=report.AVX2, environment={"BILSTM_ENGINE": "avx2"}))
    return [
        *processes,
        pytorch,
        Process("Keras on TensorFlow", python, environment={"KERAS_BACKEND": "tensorflow"}),
        Process("Keras on JAX", python, environment={"KERAS_BACKEND": "jax"}),
        Process("JAX", python),
        Process("Flax", python),
        Process("ONNX Runtime", python),
        Process("OpenVINO", python),
        Process("LiteRT", python),
        Process("MNN", python),
        Process("ncnn", python),
        Process("tract", python),
    ]


def _write(results: report.Results) -> None:
    OUTPUT.write_text(report.markdown(results), encoding="utf-8")
    _say(f"written: {OUTPUT}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="ours and a few peers, under 2 minutes")
    parser.add_argument("--cases", type=_names, help="such as N1,L1: only these; prints the table")
    parser.add_argument("--out", type=Path, help="where to write the tables of these cases")
    parser.add_argument("--seconds", type=float, help="for the timed rounds of a case")
    parser.add_argument("--report", type=Path, help="figures of an earlier run, to write RESULTS.md again")
    return parser.parse_args()


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in CASES]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown: {unknown[0]}; there are {', '.join(CASES)}")
    return names


if __name__ == "__main__":
    main()
