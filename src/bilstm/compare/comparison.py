"""The same network trained in several variants, on the same sequences and from the same seeds: what differs, and how
sure that is.

Every variant is trained from every seed, and all are scored on the same test sequences, which decide nothing in
training. For the statistics see `bilstm.metrics.differences`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bilstm.arguments import check_count, check_fraction
from bilstm.compare.variants import Variant, equally_large
from bilstm.compare.verdict import notes, sentence
from bilstm.data.columns import Columns, Encoded
from bilstm.errors import DivergedError, UserError, counted
from bilstm.metrics import is_bio
from bilstm.metrics.counts import Counts, Scores
from bilstm.metrics.differences import Estimate, RunScores, count_steps, estimate, score_runs
from bilstm.metrics.intervals import units_of
from bilstm.metrics.labels import Classes, labelled_sequences, sequence_of_steps
from bilstm.metrics.spans import count_spans
from bilstm.splitting import hold_out
from bilstm.tagging.training import build_model, train_tagger
from bilstm.training.loop import Progress
from bilstm.training.options import TrainingOptions

SEEDS = 3
TEST_SPLIT = 0.2
# What differs from `bilstm train`: a network small enough to be trained nine times in minutes, and no early stopping,
# which would give each variant another budget.
DEFAULTS: dict[str, Any] = {"units": 64, "layers": 2, "validation_split": 0.1, "patience": 1_000_000}

_STEP_SCORES: dict[str, Callable[[Counts], Scores]] = {
    "accuracy": lambda counts: counts.overall().recall,
    "macro_f1": lambda counts: counts.macro(counts.f1),
}
_SPAN_SCORES: dict[str, Callable[[Counts], Scores]] = {"span_f1": lambda counts: counts.overall().f1}


class ComparisonInterrupted(KeyboardInterrupt):
    """Ctrl-C, or what stands for it, after at least one training has ended.

    Attributes:
        report: what would have been returned, of the trainings that have ended.
    """

    def __init__(self, report: dict[str, Any]) -> None:
        super().__init__(f"stopped after {report['finished']} of {counted(report['planned'], 'training')}")
        self.report = report


def held_out_share(validation_split: float | None, test_split: float | None) -> float:
    """The share of the sequences that is held out for both; None where sequences of their own are there.

    Raises:
        UserError: nothing is left to train on, or a share is 0.
    """
    shares = {"validation_split": validation_split, "test_split": test_split}
    for name, share in shares.items():
        if share is not None and not check_fraction("compare", name, share):
            raise UserError(f"{name} must be above 0: without sequences held out there is nothing to compare by")
    total = sum(share for share in shares.values() if share is not None)
    if total >= 1:
        raise UserError(f"validation_split and test_split together are {total:g}: nothing is left to train on")
    return total


def part(held_out: Encoded, share: float, *, seed: int, groups: Any = None) -> tuple[Encoded, Encoded]:
    """Part sequences held out into those that find the best epoch and, this share of them, those to score by.

    Raises:
        UserError: there are too few, or too few groups.
    """
    labelled = labelled_sequences(held_out.labels, held_out.values.offsets)
    if groups is None or len(set(groups)) > 1:
        validation, test = hold_out(labelled, share, seed=seed, groups=groups)
        if len(validation) and labelled[test].sum() > 1:
            return held_out.take(validation), held_out.take(test)
    there = counted(len(labelled), "sequence") if groups is None else counted(len(set(groups)), "group")
    raise UserError(
        f"only {there} held out: too few to find the best epoch by some and to score by others. "
        f"Hold out more, or give test sequences of their own"
    )


def of_one_size(variants: Sequence[Variant], columns: Columns) -> list[Variant]:
    """See `equally_large`."""
    return equally_large(variants, lambda options: build_model(columns, options).count_params())


def compare_encoded(
    columns: Columns,
    training: Encoded,
    validation: Encoded,
    test: Encoded,
    variants: Sequence[Variant],
    *,
    seeds: int = SEEDS,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train in several variants, and say what differs.

    Args:
        columns: what the sequences are made of.
        training: the sequences to train on.
        validation: those that decide which epoch's weights are kept, and by whose accuracy learning curves are drawn.
        test: those to score by, at least two with labels; those that no training has seen count as wrong.
        variants: at least two; the others are compared with the first.
        seeds: how many times each is trained.
        progress: called with what `train_model` tells, and "run" (from 1), "runs", "variant" and "seed".

    Returns:
        Plain data.
        "sentence": what was found. "notes": what else a person should know.
        "score": what the sentence is about, "span_f1" where labels are of the form B-X, I-X and O, else "accuracy".
        "reference": the first variant's name. "best": that of the highest score.
        "planned", "finished": how many trainings. "seeds": the seeds.
        "sequences": how many to train on, to validate on and to score by. "steps": how many of the last are labelled.
        "majority": the scores of always giving the commonest label of the training part, and that "label".
        "variants": of each, in order, its "name", "changes", "units" and "parameters"; how many "runs" have ended; and,
        unless none has, the mean "seconds" of training, "scores" (of each the "mean", its 95 % interval "low" to
        "high", and the "deviation" of the seeds, None of one) and "curve" (see `learning_curve`).
        "differences": of each "variant" "against" the reference and, where that is another, the best: for each score
        the "mean", "low", "high", and the standard errors "sequence_error" and "seed_error", from the seeds that both
        have ended.
        "runs": of each training its "variant", "seed", "seconds", "epochs", "best_epoch", why it "stopped", "history",
        and its scores. "failed": those whose loss was not finite from the first epoch on, with the "reason".

    Raises:
        UserError: fewer than two test sequences have labels, or what varies is of no use here.
        DivergedError: no training had a finite loss.
        ComparisonInterrupted: Ctrl-C after at least one training; holds the report on those that have ended. A
            KeyboardInterrupt, as is raised before.
    """
    check_count("compare", "seeds", seeds)
    if any(variant.options.class_weight is not None for variant in variants):
        raise UserError(
            "variants are judged by their accuracy, for which all labels count alike: leave class_weight out"
        )
    if not columns.vocabularies and any("embedding" in variant.changes for variant in variants):
        raise UserError("embedding cannot vary here: there are no words or categories to embed")
    comparison = _Comparison(columns, test, variants, seeds)
    sizes = {"training": len(training.values), "validation": len(validation.values), "test": len(test.values)}
    tell = progress or (lambda _: None)
    interrupt = None
    try:
        for number, (variant, seed) in enumerate(comparison.plan(), 1):
            about = {"run": number, "runs": comparison.planned, "variant": variant.name, "seed": seed}
            options = dataclasses.replace(variant.options, seed=seed)
            comparison.train(variant, training, validation, options, _telling(tell, about))
    except KeyboardInterrupt as caught:
        if not comparison.runs:
            raise
        interrupt = caught
    if not comparison.runs:
        raise DivergedError(comparison.failed[0]["reason"])
    report = comparison.report(sizes, _commonest(training))
    if interrupt:
        raise ComparisonInterrupted(report) from (interrupt.__cause__ or interrupt)
    return report


def _telling(progress: Progress, about: dict[str, Any]) -> Progress:
    return lambda figures: progress(figures | about)


def learning_curve(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """The validation accuracy after each epoch: "mean" and "deviation" over seeds.

    A training that ended before others goes on with its best, the weights that were kept.
    """
    curves = [run["history"]["val_accuracy"] for run in runs]
    longest = max(map(len, curves))
    filled = np.array([curve + [max(curve)] * (longest - len(curve)) for curve in curves])
    spread = filled.std(axis=0, ddof=1) if len(curves) > 1 else np.zeros(longest)
    return {"mean": filled.mean(axis=0).tolist(), "deviation": spread.tolist()}


class _Comparison:
    """What has come of the trainings until now.

    Attributes:
        runs: a dict for each that has ended, as in the report.
    """

    def __init__(self, columns: Columns, test: Encoded, variants: Sequence[Variant], seeds: int) -> None:
        self.columns, self.test, self.variants = columns, test, variants
        first = variants[0].options.seed
        self.seeds = [first + index for index in range(seeds)]
        self.planned = len(variants) * seeds
        self.classes = (*columns.classes, *test.unseen)
        labelled = labelled_sequences(test.labels, test.values.offsets)
        units = units_of(labelled, 3 * len(self.classes) * (self.planned + 1), seed=0)
        if units is None:
            raise UserError(
                f"{counted(int(labelled.sum()), 'labelled sequence')} to score by, but how sure a difference is can "
                f"only be told from several"
            )
        self.units = units
        self.runs: list[dict[str, Any]] = []
        self.failed: list[dict[str, Any]] = []
        self.counts: dict[str, list[Counts]] = {"steps": []}  # of each run, on the test sequences
        if is_bio(self.classes):
            self.counts["spans"] = []

    def plan(self) -> list[tuple[Variant, int]]:
        """Seed by seed, so that whatever ends it early has trained all variants alike."""
        return [(variant, seed) for seed in self.seeds for variant in self.variants]

    def train(
        self, variant: Variant, training: Encoded, validation: Encoded, options: TrainingOptions, progress: Progress
    ) -> None:
        """Train once, and count what is right."""
        about = {"variant": variant.name, "seed": options.seed}
        started = time.perf_counter()
        try:
            tagger = train_tagger(self.columns, training, validation, options=options, progress=progress)
        except DivergedError as error:
            self.failed.append(about | {"reason": str(error)})
            return
        seconds = time.perf_counter() - started
        kept = {name: tagger.training[name] for name in ("epochs", "best_epoch", "stopped", "history")}
        counts = self.count(tagger.predict(self.test.values))
        for kind, found in counts.items():
            self.counts[kind].append(found)
        self.runs.append(about | {"seconds": round(seconds, 3), **kept})

    def count(self, predicted: Classes) -> dict[str, Counts]:
        """What is right on the test sequences, by unit."""
        test, classes = self.test, self.classes
        known = test.labels >= 0
        truth = test.labels[known].astype(np.int64)
        of_steps = self.units[sequence_of_steps(test.values.offsets)[known]]
        found = {"steps": count_steps(truth, predicted[known], of_steps, int(self.units.max()) + 1, len(classes))}
        if "spans" in self.counts:
            found["spans"] = count_spans(test.labels, predicted, test.values.offsets, classes, self.units)
        return found

    def report(self, sizes: dict[str, int], commonest: int) -> dict[str, Any]:
        """See `compare_encoded`."""
        majority = self.count(np.full(len(self.test.labels), commonest, np.int64))
        scores = score_runs([*self.counts["steps"], majority["steps"]], _STEP_SCORES)
        if "spans" in self.counts:
            scores |= score_runs([*self.counts["spans"], majority["spans"]], _SPAN_SCORES)
        for index, run in enumerate(self.runs):
            run |= {name: float(score.values[index]) for name, score in scores.items()}
        main = "span_f1" if "span_f1" in scores else "accuracy"
        described = [self._describe(variant, scores) for variant in self.variants]
        ended = [variant for variant in described if variant["runs"]]
        best = max(ended, key=lambda variant: float(variant["scores"][main]["mean"]))["name"]
        report: dict[str, Any] = {
            "score": main,
            "reference": self.variants[0].name,
            "best": best,
            "planned": self.planned,
            "finished": len(self.runs) + len(self.failed),
            "seeds": self.seeds,
            "sequences": sizes,
            "steps": int((self.test.labels >= 0).sum()),
            "majority": {"label": self.columns.classes[commonest]}
            | {name: float(score.values[-1]) for name, score in scores.items()},
            "variants": described,
            "differences": self._differences(scores, best),
            "runs": self.runs,
            "failed": self.failed,
        }
        return {"sentence": sentence(report, self.variants), "notes": notes(report), **report}

    def _describe(self, variant: Variant, scores: Mapping[str, RunScores]) -> dict[str, Any]:
        chosen = self._runs_of(variant)
        described = {"name": variant.name, "changes": variant.changes, "units": variant.options.units}
        described |= {"parameters": build_model(self.columns, variant.options).count_params(), "runs": len(chosen)}
        if not chosen:
            return described
        runs = [self.runs[index] for index in chosen.values()]
        found = {}
        for name, score in scores.items():
            values = score.values[list(chosen.values())]
            whole = estimate(score, list(chosen.values()))
            deviation = float(values.std(ddof=1)) if len(values) > 1 else None
            found[name] = {"mean": whole.value, "low": whole.low, "high": whole.high, "deviation": deviation}
        return described | {
            "seconds": float(np.mean([run["seconds"] for run in runs])),
            "scores": found,
            "curve": learning_curve(runs),
        }

    def _differences(self, scores: Mapping[str, RunScores], best: str) -> list[dict[str, Any]]:
        """Of all from the reference, and of all others from the best."""
        reference = self.variants[0]
        leader = next(variant for variant in self.variants if variant.name == best)
        pairs = [(variant, reference) for variant in self.variants[1:]]
        if leader is not reference:
            pairs += [(variant, leader) for variant in self.variants[1:] if variant is not leader]
        found = []
        for variant, against in pairs:
            first, second = self._runs_of(variant), self._runs_of(against)
            common = [seed for seed in first if seed in second]
            if common:
                runs = [first[seed] for seed in common], [second[seed] for seed in common]
                estimates = {name: _plain(estimate(score, *runs)) for name, score in scores.items()}
                found.append({"variant": variant.name, "against": against.name, "seeds": len(common), **estimates})
        return found

    def _runs_of(self, variant: Variant) -> dict[int, int]:
        """Seed -> the index of its run."""
        return {run["seed"]: index for index, run in enumerate(self.runs) if run["variant"] == variant.name}


def _plain(found: Estimate) -> dict[str, float]:
    return {"mean": found.value} | {
        name: getattr(found, name) for name in ("low", "high", "sequence_error", "seed_error")
    }


def _commonest(training: Encoded) -> int:
    return int(np.bincount(training.labels[training.labels >= 0]).argmax())
