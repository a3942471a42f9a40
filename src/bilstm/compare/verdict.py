"""What a comparison has found, in words: a table, a sentence, and what to be careful about."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from bilstm.compare.variants import Variant
from bilstm.errors import counted, shown
from bilstm.metrics.differences import Bounds
from bilstm.metrics.intervals import RESAMPLES
from bilstm.wording import aligned


@dataclasses.dataclass(frozen=True)
class Score:
    """How a score is printed.

    Attributes:
        words: its name.
        bounds: its least and greatest possible value.
        points: whether it is a share, whose differences are given in percentage points.
        lower_is_better: whether low values are good.
    """

    words: str
    bounds: Bounds = (0.0, 1.0)
    points: bool = True
    lower_is_better: bool = False

    def gain(self, difference: Mapping[str, Any]) -> tuple[float, float]:
        """The ends of a difference's interval, positive where the first variant is better."""
        low, high = difference["low"], difference["high"]
        return (-high, -low) if self.lower_is_better else (low, high)

    def amount(self, value: float) -> str:
        """The size of a difference; points have more digits where one would be 0."""
        if not self.points:
            return f"{abs(value):.3g}"
        size = abs(100 * value)
        return f"{size:.1f}" if size >= 0.05 or size == 0 else f"{size:.2f}"


SCORES = {
    "accuracy": Score("accuracy"),
    "macro_f1": Score("mean F1"),
    "micro_f1": Score("micro F1"),
    "subset_accuracy": Score("subset accuracy"),
    "span_f1": Score("F1 of spans"),
    "rmse": Score("RMSE", (0.0, None), points=False, lower_is_better=True),
    "mae": Score("MAE", (0.0, None), points=False, lower_is_better=True),
    "r2": Score("R²", (None, 1.0), points=False),
}
MOST_CLAUSES = 5  # in a sentence that a person reads to its end
_ENDS = ("mean", "low", "high")
_NORMAL = 1.96  # standard errors from the middle of a 95 % interval to its ends
Difference = Mapping[str, Any]


def sentence(report: Mapping[str, Any], variants: Sequence[Variant]) -> str:
    """Which variants differ from the first, by how much, and how far the best two differ, in the leading score."""
    score, reference = report["score"], report["reference"]
    how = SCORES[score]
    known = {variant.name: variant for variant in variants}
    from_first = [difference for difference in report["differences"] if difference["against"] == reference]
    from_best = [
        difference for difference in report["differences"] if difference["against"] == report["best"] != reference
    ]
    if not from_first and not from_best:
        return f"Only {report['best']} has a completed training: there is nothing to compare it with."
    if not from_first:
        reference, from_first, from_best = report["best"], from_best, []
    if from_first[0][score]["low"] is None:
        of = report["clusters"]
        return f"The best {how.words} is that of {report['best']}, but too few test {of} have labels to be sure of it."
    several = len(from_first) > MOST_CLAUSES
    clauses = _summary(from_first, score, reference) if several else _clauses(from_first, score)
    better = {difference["variant"] for difference in from_first if how.gain(difference[score])[0] > 0}
    rivals = [difference for difference in from_best if difference["variant"] in better and report["best"] in better]
    if rivals:
        rival = max(rivals, key=lambda difference: sum(how.gain(difference[score])))
        best, other = known[rival["against"]], known[rival["variant"]]
        low, high = how.gain(rival[score])
        clauses.append(_clause(best.named_against(other), other.named_against(best), (-high, -low), how))
    text = "; ".join(clauses).replace(" points", f" points of {how.words}", 1)  # said once
    return text[:1].upper() + text[1:] + "."


def _clauses(differences: Sequence[Difference], score: str) -> list[str]:
    """Gains first, the largest of all, then losses, then what shows no clear difference."""
    how = SCORES[score]
    gains = [(how.gain(difference[score]), difference) for difference in differences]
    first, *rest = sorted(gains, key=lambda each: (_rank(each[0]), -sum(each[0])))
    clauses = [_clause(first[1]["variant"], first[1]["against"], first[0], how)]
    return clauses + [_clause(each["variant"], each["against"], gain, how, pronoun=True) for gain, each in rest]


def _rank(gain: tuple[float, float]) -> int:
    return 0 if gain[0] > 0 else 1 if gain[1] < 0 else 2


def _clause(name: str, against: str, gain: tuple[float, float], how: Score, *, pronoun: bool = False) -> str:
    """What a variant gains over another; `pronoun`: the clause before named the other."""
    low, high = gain
    if low <= 0 <= high:
        return f"{name} and {against} show no clear difference ({_still_possible(low, high, how)})"
    s = "" if "both directions" in name else "s"
    how_much = " to ".join(how.amount(end) for end in sorted(gain, key=abs))
    if how.lower_is_better:
        verb = "lower" if low > 0 else "raise"
        what, reference = ("it", "") if pronoun else (f"the {how.words}", f" compared with {against}")
        return f"{name} {verb}{s} {what} by {how_much}{reference}"
    verb, preposition = ("gain", "over") if low > 0 else ("lose", "against")
    points = "" if pronoun else " points"
    return f"{name} {verb}{s} {how_much}{points} {preposition} {'it' if pronoun else against}"


def _still_possible(low: float, high: float, how: Score) -> str:
    if not low < high:
        return "their scores are the same"
    if how.lower_is_better:
        return f"the former's {how.words} may still be up to {how.amount(high)} lower or {how.amount(low)} higher"
    return f"the former may still be up to {how.amount(high)} points better or {how.amount(low)} worse"


def _summary(differences: Sequence[Difference], score: str, reference: str) -> list[str]:
    """Many variants in few words."""
    how = SCORES[score]
    gains = {difference["variant"]: how.gain(difference[score]) for difference in differences}
    better = [name for name, gain in gains.items() if _rank(gain) == 0]
    worse = sum(_rank(gain) == 1 for gain in gains.values())
    unclear = len(gains) - len(better) - worse
    clauses = []
    if better:
        most = max(better, key=lambda name: sum(gains[name]))
        how_much = " to ".join(how.amount(end) for end in gains[most])
        unit = "points" if how.points else f"in {how.words}"
        are = "is" if len(better) == 1 else "are"
        clauses.append(f"{len(better)} {are} better, {most} the most (by {how_much} {unit})")
    if worse:
        clauses.append(f"{worse} {'is' if worse == 1 else 'are'} worse")
    if unclear:
        clauses.append(f"{unclear} {'shows' if unclear == 1 else 'show'} no clear difference")
    clauses[0] = f"of {counted(len(gains), 'variant')} compared with {reference}, {clauses[0]}"
    return clauses


def notes(report: Mapping[str, Any]) -> list[str]:
    """What a person should know before believing the figures."""
    cautions = []
    if report["finished"] < report["planned"]:
        cautions.append(f"only {report['finished']} of {counted(report['planned'], 'training')} completed")
    for variant in report["variants"]:
        failed = sum(run["variant"] == variant["name"] for run in report["failed"])
        if failed:
            of = f"{failed} of {counted(failed + variant['runs'], 'training')}"
            cautions.append(f"{variant['name']}: {of} diverged and are left out; try a smaller learning rate")
    limited = [run for run in report["runs"] if run["stopped"] == "the time limit was reached"]
    if limited:
        of = f"{len(limited)} of {counted(len(report['runs']), 'training')}"
        names = "; ".join(dict.fromkeys(str(run["variant"]) for run in limited))
        cautions.append(f"the time limit ended {of} ({names}), which may be undertrained")
    without_seeds = [
        each["seeds"]
        for each in report["differences"]
        if not each["includes_seeds"] and each[report["score"]]["low"] is not None
    ]
    if without_seeds:
        tell = "one seed tells nothing" if max(without_seeds) == 1 else "two seeds tell too little"
        cautions.append(
            f"{tell} of how results differ between seeds: the intervals come from drawing test {report['clusters']} "
            f"only, and another seed may give a result outside of them; use at least 3 seeds"
        )
    if report["caution"]:
        cautions.append(f"test set: {report['caution'][:1].lower()}{report['caution'][1:].rstrip('.')}")
    unsure = [each for each in report["differences"] if _unsure(each[report["score"]])]
    if unsure:
        from_seeds = sum(_mostly_seeds(each, each[report["score"]]) for each in unsure)
        more = "more seeds" if 2 * from_seeds > len(unsure) else f"more test {report['clusters']}"
        cautions.append(f"where variants show no clear difference, {more} would tell more")
    if len(report["differences"]) > MOST_CLAUSES:
        cautions.append(
            f"of {len(report['differences'])} intervals of 95 %, about one in twenty misses the truth; and the best of "
            f"many looks better than it is: score it again on other sequences"
        )
    return cautions


def _unsure(difference: Mapping[str, Any]) -> bool:
    return (
        difference["low"] is not None
        and difference["low"] <= 0 <= difference["high"]
        and difference["low"] < difference["high"]
    )


def _mostly_seeds(difference: Difference, estimate: Mapping[str, float]) -> bool:
    """Whether more test sequences would leave more than half of the interval's width."""
    if not difference["includes_seeds"]:
        return True
    half = (estimate["high"] - estimate["low"]) / 2
    from_sequences = _NORMAL * estimate["sequence_error"]
    return half**2 - from_sequences**2 > from_sequences**2


def table(report: Mapping[str, Any]) -> list[str]:
    """The scores, a table for each: always the same guess, then the variants."""
    names = [name for name in SCORES if name in report["majority"]]
    names.sort(key=lambda name: name != report["score"])
    lines = []
    for name in names:
        lines += aligned(_rows(report, name, with_size=name == report["score"]))
    runs = [variant["runs"] for variant in report["variants"]]
    seeds = f"{'' if len(set(runs)) == 1 else 'at most '}{counted(max(runs), 'seed')}"
    spread = f"mean of {seeds} ± standard deviation"
    with_seeds = [each["includes_seeds"] for each in report["differences"]]
    if not with_seeds or report["differences"][0][report["score"]]["low"] is None:
        return [line.rstrip() for line in [*lines, spread]]
    lines.append(f"{spread}; in brackets: 95 % intervals, from drawing the test {report['clusters']} {RESAMPLES:,}")
    seeds = f"{'' if all(with_seeds) else 'NOT '}from how much the seeds differ"
    few = " where fewer than 3 completed" if any(with_seeds) and not all(with_seeds) else ""
    lines.append(f"times, the same for both variants, and {seeds}{few}")
    return [line.rstrip() for line in lines]


def _rows(report: Mapping[str, Any], score: str, *, with_size: bool) -> list[list[str]]:
    how = SCORES[score]
    against = {
        difference["variant"]: difference
        for difference in report["differences"]
        if difference["against"] == report["reference"]
    }
    size = ["units", "parameters", "seconds"] if with_size else []
    unit = "points over" if how.points else "difference from"
    lower = ", lower is better" if how.lower_is_better else ""
    rows = [
        [f"{how.words}{lower}", "", f"{unit} {report['reference']}", *size],
        [_guess(report), f"{_figure(report['majority'][score], how)} {'':8}", "", *("" for _ in size)],
    ]
    for variant in report["variants"]:
        measured = [f"{variant['units']:,}", f"{variant['parameters']:,}"]
        if not variant["runs"]:
            rows.append([variant["name"], "–", "", *[*measured, "–"][: len(size)]])
            continue
        figures = variant["scores"][score]
        spread = "" if figures["deviation"] is None else f"± {figures['deviation']:{'.4f' if how.points else '.3g'}}"
        difference = against.get(variant["name"], {}).get(score)
        measured = [*measured, f"{variant['seconds']:.1f}"][: len(size)]
        rows.append(
            [variant["name"], f"{_figure(figures['mean'], how)} {spread:8}", _difference(difference, how), *measured]
        )
    return rows


def _guess(report: Mapping[str, Any]) -> str:
    answer = report["majority"]["answer"]
    if isinstance(answer, str):
        return f"always {shown(answer, 20)[1:-1]}"
    return "always the training mean" if isinstance(answer, Mapping) else "always the most frequent answers"


def _figure(value: float, how: Score) -> str:
    return f"{value:.4f}" if how.points else f"{value:.4g}"


def _difference(difference: Mapping[str, Any] | None, how: Score) -> str:
    """`+5.52 [+4.23, +6.89]`, without the interval where there is none."""
    if not difference:
        return ""
    form = "{:+.2f}" if how.points else "{:+.3g}"
    mean, *ends = (
        None if difference[name] is None else (100 if how.points else 1) * difference[name] for name in _ENDS
    )
    return form.format(mean) + ("" if ends[0] is None else f" [{', '.join(map(form.format, ends))}]")
