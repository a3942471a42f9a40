"""From what was measured to Markdown and a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving.cases import Case

Results = Sequence[Mapping[str, Any]]


def line(found: Mapping[str, Any]) -> str:
    return (
        f"{found['case']}, {found['server']}, {found['workers']} workers, {found['connections']} connections: "
        f"{found['rate']:,.0f}/s, p50 {found['p50']:.2f} ms, p99 {found['p99']:.2f} ms, max {found['max']:.1f} ms"
    )


def page(results: Results, cases: Sequence[Case], machine: Mapping[str, Any], servers: Mapping[str, str]) -> str:
    about = f"{machine['processor']}, {machine['processors']} processors, {machine['system']}, {machine['date']}"
    lines = [
        "# Under load",
        "",
        "`bilstm serve` compared with plain FastAPI services around ONNX Runtime and PyTorch, with the same weights,",
        "on the computer that also asks them. Each connection asks again as soon as it has its answer. Of 1 and 2",
        "worker processes, the setting with the higher throughput counts. Every answer of ours is that for the",
        f"sequence alone, byte for byte. `python -m benchmarks.serving` measures this again. {about}.",
        "",
    ]
    for case in cases:
        lines += [
            f"## {case.name}",
            "",
            f"{case.what[0].upper()}{case.what[1:]}.",
            "",
            *_table(case, results, servers),
            "",
        ]
    return "\n".join(lines)


def _table(case: Case, results: Results, servers: Mapping[str, str]) -> list[str]:
    rows = [
        "| connections | service | requests/s | p50, ms | p99, ms | max, ms |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for connections in sorted({found["connections"] for found in results if found["case"] == case.name}):
        for server, title in servers.items():
            if found := best(results, case.name, server, connections):
                workers = f", {found['workers']} worker{'s' * (found['workers'] > 1)}"
                figures = f"{found['rate']:,.0f} | {found['p50']:.2f} | {found['p99']:.2f} | {found['max']:.1f}"
                rows.append(f"| {connections} | {title}{workers} | {figures} |")
    return rows


def best(results: Results, case: str, server: str, connections: int) -> Mapping[str, Any] | None:
    """The setting with the highest throughput."""
    wanted = {"case": case, "server": server, "connections": connections}
    found = [each for each in results if wanted.items() <= each.items()]
    return max(found, key=lambda each: float(each["rate"]), default=None)


def plot(results: Results, servers: Mapping[str, str], path: Path) -> None:
    """Throughput and the 99th percentile against connections, for each model."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(found["case"] for found in results))
    figure, axes = pyplot.subplots(2, len(names), figsize=(4 * len(names), 6), squeeze=False, layout="constrained")
    for column, name in enumerate(names):
        connections = sorted({found["connections"] for found in results if found["case"] == name})
        for server, title in servers.items():
            points = [best(results, name, server, each) for each in connections]
            for row, key in enumerate(("rate", "p99")):
                axes[row, column].plot(connections, [each[key] if each else None for each in points], "o-", label=title)
        for axis in axes[:, column]:
            axis.set_xscale("log")
            axis.set_xticks(connections, map(str, connections))
            axis.minorticks_off()
            axis.grid(alpha=0.3)
        axes[0, column].set_ylim(bottom=0)
        axes[1, column].set_yscale("log")
        axes[1, column].yaxis.set_major_formatter("{x:,g}")
        axes[0, column].set_title(name)
        axes[1, column].set_xlabel("connections")
    axes[0, 0].set_ylabel("requests per second")
    axes[1, 0].set_ylabel("99 % answered within, ms")
    axes[0, 0].legend(loc="lower right")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
