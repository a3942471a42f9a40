"""What a comparison has found, in words: a table, a sentence, and what to be careful about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bilstm.compare.variants import Variant
from bilstm.errors import counted, shown
from bilstm.metrics.intervals import RESAMPLES
from bilstm.wording import aligned

SCORES = {"accuracy": "accuracy", "macro_f1": "mean F1", "span_f1": "F1 of spans"}
MOST_CLAUSES = 5  # in a sentence that a person reads to its end
FEW_SEQUENCES = 20  # of which resamples say too little: intervals come out too narrow
_NORMAL = 1.96  # standard errors from the middle of a 95 % interval to its ends
Difference = Mapping[str, Any]


def sentence(report: Mapping[str, Any], variants: Sequence[Variant]) -> str:
    """Which variants differ from the first, by how much, and how far the best two differ; in points of the score."""
    score, reference = report["score"], report["reference"]
    known = {variant.name: variant for variant in variants}
    from_first = [found for found in report["differences"] if found["against"] == reference]
    from_best = [found for found in report["differences"] if found["against"] == report["best"] != reference]
    if not from_first and not from_best:
        return f"Of one variant only, {report['best']}, a training has ended: there is nothing to compare it with."
    if not from_first:
        reference, from_first, from_best = report["best"], from_best, []
    clauses = _clauses(from_first, score) if len(from_first) <= MOST_CLAUSES else _summary(from_first, score, reference)
    better = {found["variant"] for found in from_first if found[score]["low"] > 0}
    rivals = [found for found in from_best if found["variant"] in better and report["best"] in better]
    if rivals:
        rival = max(rivals, key=lambda found: float(found[score]["mean"]))
        best, other = known[rival["against"]], known[rival["variant"]]
        clauses.append(_clause(best.named_beside(other), other.named_beside(best), _reversed(rival[score])))
    text = "; ".join(clauses).replace(" points", f" points of {SCORES[score]}", 1)  # said once
    return text[:1].upper() + text[1:] + "."


def _clauses(differences: Sequence[Difference], score: str) -> list[str]:
    """Gains first, the largest of all, then losses, then what does not differ."""
    ordered = sorted(differences, key=lambda each: (_rank(each[score]), -each[score]["mean"]))
    first, *rest = ordered
    clauses = [_clause(first["variant"], first["against"], first[score])]
    return clauses + [_clause(each["variant"], each["against"], each[score], pronoun=True) for each in rest]


def _rank(found: Mapping[str, float]) -> int:
    return 0 if found["low"] > 0 else 1 if found["high"] < 0 else 2


def _clause(name: str, against: str, found: Mapping[str, float], *, pronoun: bool = False) -> str:
    low, high = found["low"], found["high"]
    if low <= 0 <= high:
        return f"{name} and {against} do not differ ({_still_possible(low, high)})"
    verb, preposition = ("gain", "over") if low > 0 else ("lose", "against")
    if "both directions" not in name:
        verb += "s"
    smallest, largest = sorted((abs(low), abs(high)))
    how_much = f"{_points(smallest)} to {_points(largest)}" + ("" if pronoun else " points")
    return f"{name} {verb} {how_much} {preposition} {'it' if pronoun else against}"


def _still_possible(low: float, high: float) -> str:
    if not low < high:
        return "on no test sequence at all"
    return f"the former may still be up to {_points(high)} points better or {_points(-low)} worse"


def _summary(differences: Sequence[Difference], score: str, reference: str) -> list[str]:
    """Of many."""
    better = [found for found in differences if found[score]["low"] > 0]
    worse = [found for found in differences if found[score]["high"] < 0]
    clauses = []
    if better:
        most = max(better, key=lambda found: float(found[score]["mean"]))
        which = f"the most {most['variant']}" if len(better) > 1 else most["variant"]
        how_much = f"{_points(most[score]['low'])} to {_points(most[score]['high'])} points"
        verb = "gains" if len(better) == 1 else "gain"
        of = counted(len(differences), "other variant")
        clauses.append(f"{len(better)} of {of} {verb} over it, {which} {how_much}")
    if worse:
        clauses.append(f"{counted(len(worse), 'variant')} {'loses' if len(worse) == 1 else 'lose'} against it")
    same = len(differences) - len(better) - len(worse)
    if same:
        clauses.append(f"{counted(same, 'variant')} {'does' if same == 1 else 'do'} not differ from it")
    clauses[0] = f"compared with {reference}, {clauses[0]}"
    return clauses


def _reversed(found: Mapping[str, float]) -> dict[str, float]:
    return {"low": -found["high"], "high": -found["low"]}


def _points(share: float) -> str:
    """A share in percentage points, with more digits where one would be 0."""
    points = abs(100 * share)
    return f"{points:.1f}" if points >= 0.05 or points == 0 else f"{points:.2f}"


def notes(report: Mapping[str, Any]) -> list[str]:
    """What a person should know before believing the figures."""
    found = []
    if report["finished"] < report["planned"]:
        found.append(f"only {report['finished']} of {counted(report['planned'], 'training')} came to their end")
    for variant in report["variants"]:
        failed = sum(run["variant"] == variant["name"] for run in report["failed"])
        if failed:
            of = f"{failed} of {counted(failed + variant['runs'], 'training')}"
            found.append(f"{variant['name']}: {of} diverged and are left out; try a smaller learning rate")
    limited = [run for run in report["runs"] if run["stopped"] == "the time limit was reached"]
    if limited:
        of = f"{len(limited)} of {counted(len(report['runs']), 'training')}"
        found.append(f"the time limit ended {of} ({_named(limited)}), which may be worse for want of time")
    if len(report["seeds"]) == 1:
        found.append("with one seed only, the intervals leave out what another would change")
    if report["sequences"]["test"] < FEW_SEQUENCES:
        found.append(f"only {report['sequences']['test']} sequences to score by: intervals come out too narrow")
    unsure = [each for each in report["differences"] if _unsure(each[report["score"]])]
    if unsure:
        from_seeds = sum(_mostly_seeds(each[report["score"]]) for each in unsure)
        more = "more seeds" if 2 * from_seeds > len(unsure) else "more sequences to score by"
        found.append(f"where variants do not differ, {more} would tell more")
    if len(report["differences"]) > MOST_CLAUSES:
        found.append(
            f"of {len(report['differences'])} intervals of 95 %, about one in twenty misses the truth; and the best of "
            f"many looks better than it is: score it again on other sequences"
        )
    return found


def _unsure(found: Mapping[str, float]) -> bool:
    return found["low"] <= 0 <= found["high"] and found["low"] < found["high"]


def _mostly_seeds(found: Mapping[str, float]) -> bool:
    """Whether more test sequences would leave more than half of the interval's width."""
    half = (found["high"] - found["low"]) / 2
    from_sequences = _NORMAL * found["sequence_error"]
    return half**2 - from_sequences**2 > from_sequences**2


def _named(runs: Iterable[Mapping[str, Any]]) -> str:
    return "; ".join(dict.fromkeys(str(run["variant"]) for run in runs))


def table(report: Mapping[str, Any]) -> list[str]:
    """The scores, a table for each: the commonest label, then the variants."""
    names = [name for name in SCORES if name in report["majority"]]
    names.sort(key=lambda name: name != report["score"])
    lines = []
    for name in names:
        lines += aligned(_rows(report, name, with_size=name == report["score"]))
    runs = [variant["runs"] for variant in report["variants"]]
    seeds = f"{'' if len(set(runs)) == 1 else 'at most '}{counted(max(runs), 'seed')}"
    lines.append(f"mean of {seeds} ± standard deviation; in brackets 95 % intervals, from drawing the sequences scored")
    lines.append(f"again {RESAMPLES:,} times, for both variants the same, and from how much the seeds differ")
    return [line.rstrip() for line in lines]


def _rows(report: Mapping[str, Any], score: str, *, with_size: bool) -> list[list[str]]:
    against = {found["variant"]: found for found in report["differences"] if found["against"] == report["reference"]}
    size = ["units", "parameters", "seconds"] if with_size else []
    label = shown(report["majority"]["label"], 20)[1:-1]
    rows = [
        [SCORES[score], "", f"points over {report['reference']}", *size],
        [f"always {label}", f"{report['majority'][score]:.4f} {'':8}", "", *("" for _ in size)],
    ]
    for variant in report["variants"]:
        measured = [f"{variant['units']:,}", f"{variant['parameters']:,}"]
        if not variant["runs"]:
            rows.append([variant["name"], "–", "", *[*measured, "–"][: len(size)]])
            continue
        figures = variant["scores"][score]
        spread = "" if figures["deviation"] is None else f"± {figures['deviation']:.4f}"
        found = against.get(variant["name"], {}).get(score)
        points = f"{100 * found['mean']:+.2f} [{100 * found['low']:+.2f}, {100 * found['high']:+.2f}]" if found else ""
        measured = [*measured, f"{variant['seconds']:.1f}"][: len(size)]
        rows.append([variant["name"], f"{figures['mean']:.4f} {spread:8}", points, *measured])
    return rows
