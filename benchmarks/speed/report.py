"""From what was measured to Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.speed.cases import CASES, Case
from benchmarks.speed.growth import exponent
from benchmarks.speed.harness import LOSS_TOLERANCE, OURS, OUTPUT_TOLERANCE
from benchmarks.speed.limits import NOT_MEASURED, limit
from benchmarks.speed.pages import other_pages
from benchmarks.speed.processors import COUNTS, divided, expected, serial

Entry = dict[str, Any]  # see harness.Entry.described
Results = dict[str, Any]  # see __main__.py

_NEAR_PEAK = 0.7  # from which share on it is part of what limits a case
_PREDICT, _PREDICTOR = "predict", "a predictor"
ONE_THREAD, AVX2 = ", 1 thread", ", AVX2"  # the notes of our other processes, see harness.Process


def targets_table(results: Results) -> list[str]:
    """Ours beside the fastest exact peer, case by case."""
    rows = []
    for case in _cases(results):
        ours, best = _ours(results, case), _best_peer(results, case)
        row = [f"**{case.name}** {case.task}", case.shape, _milliseconds(ours)]
        if ours and best:
            ratio = best["median"] / ours["median"]
            reached = "yes" if ratio >= case.target else f"no, {ratio / case.target:.0%} of it"
            row += [f"{best['peer']}: {best['setting']}", _milliseconds(best), f"{ratio:.1f}×"]
            row += [f"{case.target:g}×", reached]
        else:
            row += ["none", "", "", f"{case.target:g}×", ""]
        rows.append(row)
    header = ["case", "shape", "ours, ms", "fastest exact peer", "its ms", "ratio", "target", "reached"]
    return _table(header, rows, left=(0, 1, 3, 7)) + _remarks(results)


def limits_list(results: Results) -> list[str]:
    """By how much targets were missed, what was tried, and what limits the case."""
    lines = []
    for case in _cases(results):
        ours, best = _ours(results, case), _best_peer(results, case)
        if not (ours and best) or best["median"] / ours["median"] >= case.target:
            continue
        missing = 1 - best["median"] / ours["median"] / case.target
        share = case.operations * case.target / best["median"] / 1e9 / results["peak"][1]
        bound = f"; reaching it would take {share:.0%} of the peak" if share > _NEAR_PEAK else ""
        lines.append(f"- **{case.name}** misses its target by {missing:.0%}{bound}. {limit(case)}".rstrip())
    return ["Missed:", "", *lines, ""] if lines else []


def _remarks(results: Results) -> list[str]:
    """Ratios that the table leaves out where a case's target speaks of some peers only, or of more than the case's."""
    lines = []
    for case in _cases(results):
        ours = _ours(results, case)
        best = _fastest(_peers(results, case.name))
        if not (ours and best):
            continue
        ratio = f"{best['median'] / ours['median']:.1f}× over {best['peer']}, {best['setting']}"
        if case.target_over:
            lines.append(
                f"{case.name}: the target is over PyTorch's {case.target_over} sequences, "
                f"of which one step was timed where it was too slow for the rounds. In all: {ratio}."
            )
        if case.rivals:
            lines.append(f"{case.name}: the target is over {case.rivals}'s peers too. With one call a step: {ratio}.")
    return ["", *lines] if lines else []


def undisturbed_table(results: Results) -> list[str]:
    """As `targets_table`, of the fastest run of each."""
    rows = []
    for case in _cases(results):
        ours, best = _ours(results, case, key="fastest"), _best_peer(results, case, "fastest")
        if ours and best:
            ratio = best["fastest"] / ours["fastest"]
            row = [case.name, _milliseconds(ours, "fastest"), f"{best['peer']}: {best['setting']}"]
            rows.append([*row, _milliseconds(best, "fastest"), f"{ratio:.1f}×", f"{case.target:g}×"])
    return _table(["case", "ours, ms", "fastest exact peer", "its ms", "ratio", "target"], rows, left=(0, 2))


def avx2_table(results: Results) -> list[str]:
    """Our engine for AVX2 beside the same peers: medians, then the fastest run of each; no lines without it."""
    rows = []
    for case in _cases(results):
        row = [case.name]
        for key in ("median", "fastest"):
            ours, best = _ours(results, case, AVX2, key), _best_peer(results, case, key)
            if ours and best:
                row += [_milliseconds(ours, key), _milliseconds(best, key), f"{best[key] / ours[key]:.1f}×"]
        if len(row) > 1:
            rows.append([*row, f"{case.target:g}×"])
    header = ["case", "ours, ms", "fastest exact peer, ms", "ratio", "ours, fastest run", "peer's", "ratio", "target"]
    return _table(header, rows, left=(0,)) if rows else []


def processor_table(results: Results) -> list[str]:
    """Operations a second, and their share of the peak."""
    one, several = results["peak"]
    rows = []
    for case in _cases(results):
        ours, best = _ours(results, case), _best_peer(results, case)
        if not ours:
            continue
        row = [case.name, f"{case.operations / 1e9:.4g}"]
        for entry in (ours, best):
            speed = case.operations / entry["median"] / 1e9 if entry else math.nan
            row += [f"{speed:.1f}", f"{speed / several:.0%}"] if entry else ["", ""]
        single = _ours(results, case, ONE_THREAD)
        if single:
            speed = case.operations / single["median"] / 1e9
            row += [_milliseconds(single), f"{speed / one:.0%}", f"{single['median'] / ours['median']:.2f}×"]
        else:
            row += ["", "", ""]
        rows.append(row)
    header = ["case", "GFLOP", "ours, GFLOP/s", "of peak", "peer, GFLOP/s", "of peak"]
    header += ["ours on 1 thread, ms", "of peak, 1 thread", "gain by all threads"]
    return _table(header, rows, left=(0,))


def processors_table(results: Results) -> list[str]:
    """What more processors would gain, from what two do."""
    rows = []
    for case in _cases(results):
        ours, single = _ours(results, case), _ours(results, case, ONE_THREAD)
        if not (ours and single):
            continue
        gain = single["median"] / ours["median"]
        row = [case.name, f"{gain:.2f}×", f"{serial(case, gain):.0%}"]
        for count in COUNTS:
            row += [f"{divided(case, count):.1f}", f"{expected(case, gain, count):.1f}×"]
        rows.append(row)
    header = ["case", "measured on 2", "serial"]
    for count in COUNTS:
        header += [f"parts on {count}", f"gain on {count}"]
    return _table(header, rows, left=(0,))


def overhead_table(results: Results) -> list[str]:
    """What `predict` adds, for any form of sequences, to a predictor for arrays of one shape."""
    rows = []
    for case in _cases(results):
        found = {e["setting"]: e for e in results["cases"][case.name] if e["peer"] == OURS and e["median"]}
        if _PREDICT in found and _PREDICTOR in found:
            rows.append([case.name, _milliseconds(found[_PREDICT]), _milliseconds(found[_PREDICTOR])])
    return _table(["case", "predict, ms", "a predictor, ms"], rows, left=(0,))


def libraries_table(results: Results) -> list[str]:
    """The fastest setting of every library; inexact ones beside it."""
    names = list(dict.fromkeys(e["peer"] for entries in results["cases"].values() for e in entries))
    rows = []
    for case in _cases(results):
        row = [case.name]
        for name in names:
            entries = [e for e in results["cases"][case.name] if e["peer"] == name]
            exact, inexact = (_fastest([e for e in entries if e["exact"] is wanted]) for wanted in (True, False))
            cell = _milliseconds(exact) if exact else "failed" if any(e["problem"] for e in entries) else ""
            row.append(cell + (f" ({_milliseconds(inexact)})" if inexact else ""))
        rows.append(row)
    return _table(["case", *names], rows, left=(0,))


def settings_table(results: Results) -> list[str]:
    """Every setting that was measured, tried or failed."""
    rows = []
    for case in _cases(results):
        for entry in results["cases"][case.name]:
            if entry["problem"]:
                time, spread = entry["problem"].replace("|", "\\|"), ""
            elif entry["median"]:
                time, spread = _milliseconds(entry), f"{_spread(entry['seconds']):.0%}"
            else:
                time, spread = f"tried: {_digits(entry['estimate'] * 1e3)}", ""
            rows.append([case.name, entry["peer"], entry["setting"], "" if entry["exact"] else "inexact", time, spread])
    return _table(["case", "library", "setting", "", "ms", "spread"], rows, left=(0, 1, 2, 3))


def growth_tables(results: Results) -> list[str]:
    growth = results.get("growth")
    if not growth:
        return []
    lines = []
    for name, text in (
        ("steps", "Steps, 8 sequences, 16 inputs, 64 units"),
        ("units", "Units, 16 sequences of 100 steps, 64 inputs"),
        ("large", "Large cases"),
    ):
        peers = growth[name]
        header, rows = [name if name != "large" else "case"], []
        for peer in peers:
            header += [f"{peer}, ms", f"{peer}, MiB"]
        for index, point in enumerate(peers[OURS]):
            row = [str(point["x"])]
            for points in peers.values():
                here = points[index] if index < len(points) else None
                row += [_digits(here["seconds"] * 1e3), f"{here['bytes'] / 2**20:.1f}"] if here else ["", ""]
            rows.append(row)
        if name != "large":
            rows.append(["exponent"])
            for points in peers.values():
                rows[-1] += [f"{exponent(points, what):.2f}" for what in ("seconds", "bytes")]
        lines += [f"{text}:", "", *_table(header, rows, left=()), ""]
    return lines


def page(results: Results) -> str:
    """The tables of some cases."""
    lines = [
        "# Speed, beside the peers: " + ", ".join(results["cases"]),
        "",
        *_measured_with(results),
        "",
        "As in [RESULTS.md](RESULTS.md): medians of the rounds, in milliseconds for a training step or the prediction "
        "of a batch, of processes timed in turn.",
        "",
        *targets_table(results),
        "",
        "The fastest run of each:",
        "",
        *undisturbed_table(results),
        "",
        "All libraries:",
        "",
        *libraries_table(results),
        "",
    ]
    return "\n".join(lines)


def _measured_with(results: Results) -> list[str]:
    """The machine, its peak, and the libraries."""
    machine = results["machine"]
    return [
        f"{machine['processor']}, {machine['processors']} processors, {machine['system']}, Python {machine['Python']}, "
        f"{machine['date']}. Measured peak: {results['peak'][0]:.0f} GFLOP/s float32 on one thread, "
        f"{results['peak'][1]:.0f} on all (`benchmarks/speed/peak.cpp`: multiply-adds in registers, the best of "
        "measurements between the cases).",
        "",
        ", ".join(f"{name} {version}" for name, version in results["versions"].items()) + ".",
    ]


def markdown(results: Results) -> str:
    """All of RESULTS.md."""
    waiting = max((e["waiting"] for entries in results["cases"].values() for e in entries), default=0.0)
    lines = [
        "# Speed, beside the peers",
        "",
        *_measured_with(results),
        "",
        "Made by `make bench`: every library in a process of its own, all timed in turn, round after round; medians of "
        "the rounds, in milliseconds for a training step or the prediction of a batch. A training step is forward "
        "pass, loss, backward pass and Adam. T is steps, B sequences, I inputs, C filters of a convolution over "
        "five steps in front, H units of each direction; every network is bidirectional and ends with a Dense layer "
        "applied to every step. All start from the same weights "
        f"and data; an exact peer's outputs lie within {OUTPUT_TOLERANCE:g} of ours and its losses, before and after "
        f"training steps, within {LOSS_TOLERANCE:g} of ours, relatively, or it is listed as failed.",
        "",
        "## Targets",
        "",
        *targets_table(results),
        "",
        *limits_list(results),
        *results.get("remarks", []),
        "## Undisturbed",
        "",
        "The processors of a virtual machine are shared with others, and what keeps them busiest loses most by it. The "
        "fastest run of each library, of all its turns; a run is one step or prediction, or all of a call that makes "
        "several.",
        "",
        *undisturbed_table(results),
        "",
        *_on_avx2(results),
        "## Operations, and threads",
        "",
        "GFLOP counts the additions and multiplications of the matrix products that a batch needs, without padding; "
        "for training with the gradients of weights and of inputs, but the first layer's. The peer is the fastest "
        "exact one.",
        "",
        *processor_table(results),
        "",
        *_on_paper(results),
        "## `predict`, and a predictor",
        "",
        *overhead_table(results),
        "",
        "## All libraries",
        "",
        "Milliseconds at each library's best setting. In brackets: inexact, by padding that the backward direction "
        "reads first, or by bfloat16; such figures do not count. Padded batches are all of one shape, which spares "
        "compiled peers the compilation that new shapes cost in practice; inputs are in each library's own form "
        "beforehand.",
        "",
        *libraries_table(results),
        "",
        NOT_MEASURED,
        "",
        "## Growth and memory",
        "",
        "Training. Memory is the largest resident set of a fresh process less the largest that its imports took; it "
        "includes what a library loads or sets up at its first step. Times are the fastest of nine steps. Exponents "
        "are those of the power laws that fit best: of the time, and of the memory beyond the first row's.",
        "",
        *growth_tables(results),
        "## Settings",
        "",
        f"What each library tried, and what came of it. Spread is the middle half of the rounds over the median. While "
        f"others were measured, no process used more than {waiting:.1%} of a processor.",
        "",
        *settings_table(results),
        "",
        "## Other tables",
        "",
        *other_pages(),
        "",
    ]
    return "\n".join(lines)


def _on_avx2(results: Results) -> list[str]:
    table = avx2_table(results)
    if not table:
        return []
    return [
        "## AVX2",
        "",
        "Our engine kept to AVX2 (`BILSTM_ENGINE=avx2`), timed in turn with everything else in this run. Its peers are "
        "not kept to it: they use AVX-512 where they can.",
        "",
        *table,
        "",
    ]


def _on_paper(results: Results) -> list[str]:
    """More processors than the two of a machine."""
    if results["machine"]["processors"] != 2:
        return []
    return [
        "## 4 and 8 processors, on paper",
        "",
        "The engine divides a step into parts, by shares, directions, sequences and panels of weights, and the longest "
        "of them decide how many times as fast it can be (*parts*, computed in `benchmarks/speed/processors.py`). The "
        "rest of a step is taken as serial, as much as explains the gain measured on two processors: what is expected "
        "is Amdahl's law, and an upper bound, as it leaves out that processors share caches and memory.",
        "",
        *processors_table(results),
        "",
        "Where it stops: a single sequence has two directions, so two processors; tiny networks (S1, L1) run in one "
        "thread. 32 sequences of a small network are two shares; more processors than shares divide each layer "
        "instead, by directions and sequences, and its weights' gradients by panels of 16 units: 64 units are four "
        "panels. Ranges of few sequences also make tiles of few rows, which use less of a processor.",
        "",
    ]


def _cases(results: Results) -> list[Case]:
    return [CASES[name] for name in results["cases"]]


def _ours(results: Results, case: Case, note: str = "", key: str = "median") -> Entry | None:
    entries = results["cases"][case.name]
    others = tuple({ONE_THREAD, AVX2} - {note})
    found = [e for e in entries if e["peer"] == OURS and e["setting"].endswith(note)]
    return _fastest([e for e in found if e["exact"] and not e["setting"].endswith(others)], key)


def _peers(results: Results, name: str) -> list[Entry]:
    entries: list[Entry] = results["cases"].get(name, [])
    return [e for e in entries if e["peer"] != OURS and e["exact"] and not e["problem"]]


def _best_peer(results: Results, case: Case, key: str = "median") -> Entry | None:
    peers = _peers(results, case.name) + (_peers(results, case.rivals) if case.rivals else [])
    if not case.target_over:
        return _fastest(peers, key)
    # Such a peer may have been too slow for the rounds; what one step took before them then has to do.
    wanted = [e for e in peers if case.target_over in e["setting"]]
    return _fastest([e if e.get(key) else e | {key: e["estimate"]} for e in wanted], key)


def _fastest(entries: Sequence[Entry], key: str = "median") -> Entry | None:
    return min((e for e in entries if e.get(key)), key=lambda e: float(e[key]), default=None)


def _spread(seconds: list[float]) -> float:
    if len(seconds) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return (high - low) / middle


def _milliseconds(entry: Entry | None, key: str = "median") -> str:
    return _digits(entry[key] * 1e3) if entry else ""


def _digits(number: float) -> str:
    """Three significant digits, without an exponent."""
    decimals = max(0, 2 - math.floor(math.log10(number))) if number > 0 else 0
    return f"{number:.{decimals}f}"


def _table(header: list[str], rows: list[list[str]], left: Sequence[int]) -> list[str]:
    marks = ["---" if column in left else "---:" for column in range(len(header))]
    return [f"| {' | '.join(row)} |" for row in [header, marks, *rows]]
