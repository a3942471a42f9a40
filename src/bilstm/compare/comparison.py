"""The same network trained in several variants, on the same sequences and from the same seeds: what differs, and how
sure that is.

Every variant is trained from every seed, and all are scored on the same test set, which decides nothing in training.
For the statistics see `bilstm.metrics.differences`.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bilstm.arguments import check_count
from bilstm.compare.planning import Plan, plan_comparison, size_for
from bilstm.compare.trainings import Outcome, Training, run_trainings, scorers
from bilstm.compare.variants import Variant
from bilstm.compare.verdict import SCORES, notes, sentence
from bilstm.data import scratch
from bilstm.data.dataset import Dataset
from bilstm.data.readingoptions import ReadingOptions
from bilstm.data.wordvectors import VectorFiles
from bilstm.errors import DivergedError, counted
from bilstm.metrics import interval_caution
from bilstm.metrics.differences import RunScores, estimate, score_runs
from bilstm.model.training import check_names
from bilstm.ragged import chunks
from bilstm.tasks import LabelSetTask, LabelTask, Outputs, Task
from bilstm.tasks.labels import majority
from bilstm.tasks.softtargets import SoftColumns
from bilstm.training.loop import Progress

SEEDS = 3
FEWEST_SEEDS = 3  # with two, Student's t has one degree of freedom and intervals reach from -100 to 100 points
_COLUMNS = (
    *("label", "labels", "sequence", "order", "features", "categorical", "drop"),
    *("spelling", "standardize", "group", "text", "tokens", "vectors", "all_vectors", "soft_targets"),
    *("label_separator", "task", "reading"),
)


class ComparisonInterrupted(KeyboardInterrupt):
    """Ctrl-C, or a signal that stands for it, after at least one training has completed.

    Attributes:
        report: the report on the trainings that have completed.
    """

    def __init__(self, report: dict[str, Any]) -> None:
        super().__init__(f"stopped after {report['finished']} of {counted(report['planned'], 'training')}")
        self.report = report


def compare(
    data: Any,
    y: Any = None,
    *,
    label: str | Sequence[str] | None = None,
    labels: Any = None,
    sequence: str | None = None,
    order: str | None = None,
    features: Sequence[str] | None = None,
    categorical: Sequence[str] = (),
    drop: Sequence[str] = (),
    spelling: bool | None = None,
    standardize: bool = True,
    group: Any = None,
    text: str | None = None,
    tokens: str | None = None,
    vectors: VectorFiles | None = None,
    all_vectors: bool = False,
    soft_targets: SoftColumns | None = None,
    label_separator: str | None = None,
    task: str | None = None,
    reading: ReadingOptions | Mapping[str, Any] | None = None,
    test: Any = None,
    test_labels: Any = None,
    valid: Any = None,
    valid_labels: Any = None,
    vary: Mapping[str, Sequence[Any]] | None = None,
    seeds: int = SEEDS,
    same_size: bool = False,
    test_split: float | None = None,
    jobs: int = 1,
    backend: str | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Train the same network in several variants, and find out what differs.

    Args:
        data: labelled sequences in any form that `bilstm.train` takes; with y, in any that an estimator's `fit` takes.
        y: the labels or quantities of arrays, lists or data frames, as an estimator's `fit` takes them.
        label, labels, sequence, order, features, categorical, drop, spelling, standardize, text, tokens: which column
            is what, as for `bilstm.train`.
        vectors, all_vectors: pretrained word vectors, as for `bilstm.train`.
        soft_targets, label_separator: probabilities of labels, and several possible labels, as for `bilstm.train`.
        group: the column that tells which sequences belong together, such as one patient's; with y, also the group of
            each sequence. A group is wholly in the training, validation or test set, and intervals draw whole groups.
        task: what is predicted, as for `bilstm.train`; with y, "step-label" (or "step-labels") unless named.
        reading: how files are read, as for `bilstm.train`.
        test: test sequences of their own; with y, (X, y) or (X, y, groups). None: a part of the data.
        test_labels: the labels of `test`, where they are in a table of their own.
        valid: sequences of their own for the validation set, like `test`.
        valid_labels: the labels of `valid`, where they are in a table of their own.
        vary: the values of each of `TrainingOptions` that varies; all combinations are trained, and compared with that
            of all first values. None: direction, "forward", "backward" and "both".
        seeds: how many times each variant is trained; the seeds count from `seed`, which is 1 by default.
        same_size: whether smaller variants get more units, so that all have about as many parameters.
        test_split: the share of the sequences, or of the groups, for the test set, 0.2 by default. The validation set
            takes a share of `validation_split` besides.
        jobs: how many trainings run at a time, in processes of their own that share this machine's threads: with two
            CPUs and two jobs, each has one. The result is the same. Above 1 this needs joblib, which comes with
            scikit-learn.
        backend: what runs several jobs: a backend of joblib's, by its name, such as "loky" (the default: processes),
            "threading", "dask", "ray" or "spark". None: that of the surrounding `joblib.parallel_config`, if any.
        progress: called with what `bilstm.training.loop.train_model` reports, and "run" (from 1), "runs", "variant"
            and "seed". With several jobs it is called once for each training that has completed, with the figures of
            its best epoch; "run" then is how many have.
        options: of `TrainingOptions`; by default units=64, layers=2, validation_split=0.1, calibrate=False and no
            early stopping.

    Returns:
        Plain data.
        "sentence": what was found. "notes": what a person should know before believing it.
        "task": such as "step-label". "score": what the sentence is about: "span_f1" for tags such as B-X, I-X and
        O, "accuracy" for other labels, "macro_f1" for several labels, "rmse" for quantities. "lower_is_better":
        whether low values of it are good. "reference": the first variant's name. "best": that of the best score.
        "planned", "finished": numbers of trainings. "seeds": the seeds.
        "sequences": the numbers in the "training", "validation" and "test" set. "steps" (or, with one answer per
        sequence, "labelled_sequences"): how many rows of the test set have a label. "clusters": what intervals draw,
        "sequences", "groups" or "blocks" of time. "caution": a sentence where there are few of them, otherwise None.
        "majority": the scores of always guessing the majority class of the training set, of several labels the most
        frequent answer of each, or the mean; "answer" is this guess.
        "curve": whether learning curves are of "val_accuracy" or "val_loss".
        "variants": of each, in order, its "name", "changes", "units" and "parameters"; how many "runs" completed; and,
        unless none did, the mean "seconds" of training, "scores" (of each the "mean", its 95 % interval "low" to
        "high", and the "deviation" of the seeds, None of one) and "curve" (see `learning_curve`).
        "differences": of each "variant" "against" the reference and, where that is another, the best: for each score
        the "mean", "low", "high", and the standard errors "sequence_error" and "seed_error", from the "seeds" that
        both completed. Intervals are None where fewer than three test sequences, or groups, have labels. With fewer
        than three seeds they come from drawing test sequences only: "includes_seeds" is False.
        "runs": of each training its "variant", "seed", "seconds", "epochs", "best_epoch", why it "stopped", "history",
        and its scores. "failed": those whose loss was not finite in the first epoch, with the "reason".

    Raises:
        TypeError: there is no such option.
        UserError: an argument is impossible, has no effect, or there are too few sequences or groups; several jobs
            need joblib, or there is no such backend.
        DivergedError: no training had a finite loss.
        ComparisonInterrupted: Ctrl-C after at least one training; holds the report on those that completed. Before
            that, KeyboardInterrupt.
    """
    arguments = locals()
    check_names(compare, options)
    settings = ("test", "test_labels", "valid", "valid_labels", "vary", "same_size", "test_split", "options")
    columns = {name: arguments[name] for name in _COLUMNS}
    plan = plan_comparison(data, y, columns=columns, **{name: arguments[name] for name in settings})
    return run_comparison(plan, seeds=seeds, jobs=jobs, backend=backend, progress=progress)


def run_comparison(
    plan: Plan, *, seeds: int = SEEDS, jobs: int = 1, backend: str | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Train all variants of a plan, and report what differs.

    Args:
        plan: what `plan_comparison` returns.
        seeds, jobs, backend, progress: see `compare`.

    Returns:
        The report that `compare` returns.

    Raises:
        UserError: several jobs need joblib, there is no such backend, or a worker process has ended abruptly.
        DivergedError: no training had a finite loss.
        ComparisonInterrupted: Ctrl-C after at least one training. Before that, KeyboardInterrupt.
    """
    check_count("compare", "seeds", seeds)
    check_count("compare", "jobs", jobs)
    comparison = _Comparison(plan, seeds)
    notify = progress or (lambda _: None)
    interrupt = None
    try:
        run_trainings(plan, comparison.order(), comparison.add, jobs=jobs, backend=backend, notify=notify)
    except KeyboardInterrupt as caught:
        if not comparison.runs:
            raise
        interrupt = caught
    if not comparison.runs:
        raise DivergedError(comparison.failed[0]["reason"])
    report = comparison.report()
    if interrupt:
        raise ComparisonInterrupted(report) from (interrupt.__cause__ or interrupt)
    return report


def learning_curve(runs: Sequence[Mapping[str, Any]], score: str) -> dict[str, list[float]]:
    """The validation score after each epoch: "mean" and "deviation" over seeds.

    A training that ended before others continues with its best, the weights that were kept.

    Args:
        runs: trainings with their "history".
        score: "val_accuracy" or "val_loss".
    """
    curves = [run["history"][score] for run in runs]
    longest, best = max(map(len, curves)), max if score == "val_accuracy" else min
    filled = np.array([curve + [best(curve)] * (longest - len(curve)) for curve in curves])
    spread = filled.std(axis=0, ddof=1) if len(curves) > 1 else np.zeros(longest)
    return {"mean": filled.mean(axis=0).tolist(), "deviation": spread.tolist()}


class _Comparison:
    """The trainings that have ended.

    Attributes:
        outcomes: what they came to, in the order that `order` gives them.
    """

    def __init__(self, plan: Plan, seeds: int) -> None:
        self.plan, self.variants, self.task = plan, plan.variants, plan.prepared.task
        first = plan.variants[0].options.seed
        self.seeds = [first + index for index in range(seeds)]
        self.planned = len(plan.variants) * seeds
        self.outcomes: list[Outcome] = []

    def order(self) -> list[Training]:
        """Seed by seed, so that an early end finds all variants trained alike."""
        pairs = ((variant, seed) for seed in self.seeds for variant in self.variants)
        return [Training(index, variant, seed) for index, (variant, seed) in enumerate(pairs)]

    def add(self, outcome: Outcome) -> None:
        """Count a training that has ended, in its place of the order, whichever ended first."""
        position = bisect.bisect([each.training.index for each in self.outcomes], outcome.training.index)
        self.outcomes.insert(position, outcome)

    @property
    def runs(self) -> list[dict[str, Any]]:
        """A dict for each training that has completed, as in the report."""
        return [each.run for each in self.outcomes if each.sums]

    @property
    def failed(self) -> list[dict[str, Any]]:
        """Those that diverged."""
        return [each.run for each in self.outcomes if not each.sums]

    def report(self) -> dict[str, Any]:
        """See `compare`."""
        prepared, test, task = self.plan.prepared, self.plan.test, self.task
        answer, outputs = _guess(task, prepared.training)
        guessed = scorers(task, test, _constant(test, outputs))
        scores: dict[str, RunScores] = {}
        for position, scorer in enumerate(guessed):
            scores |= score_runs(
                [*(each.sums[position] for each in self.outcomes if each.sums), scorer.sums], scorer.scores
            )
        for index, run in enumerate(self.runs):
            run |= {name: float(score.values[index]) for name, score in scores.items()}
        main = guessed[-1].main
        curve = "val_accuracy" if all("val_accuracy" in run["history"] for run in self.runs) else "val_loss"
        described = [self._describe(variant, scores, curve) for variant in self.variants]
        completed = [variant for variant in described if variant["runs"]]
        better = min if SCORES[main].lower_is_better else max
        best = better(completed, key=lambda variant: float(variant["scores"][main]["mean"]))["name"]
        clusters, caution = "sequences" if test.groups is None else "groups", guessed[0].caution
        if test.blocks:
            clusters = "blocks"
            caution = interval_caution(int(task.labelled_sequences(test.known, test.values.offsets).sum()), clusters)
        datasets = {"training": prepared.training, "validation": prepared.validation, "test": test}
        report: dict[str, Any] = {
            "task": task.kind,
            "score": main,
            "lower_is_better": SCORES[main].lower_is_better,
            "reference": self.variants[0].name,
            "best": best,
            "planned": self.planned,
            "finished": len(self.runs) + len(self.failed),
            "seeds": self.seeds,
            "sequences": {name: len(data) for name, data in datasets.items() if data is not None},
            "labelled_sequences" if task.per_sequence else "steps": int(task.labelled(test.known).sum()),
            "clusters": clusters,
            "caution": caution,
            "majority": {"answer": answer} | {name: float(score.values[-1]) for name, score in scores.items()},
            "curve": curve,
            "variants": described,
            "differences": self._differences(scores, best),
            "runs": self.runs,
            "failed": self.failed,
        }
        found = [f"test set: {note}" for note in self.plan.notes] + notes(report)
        if any(variant.options.class_weight is not None for variant in self.variants):
            found.append("class weights count in training only: in the scores all labels count the same")
        return {"sentence": sentence(report, self.variants), "notes": found, **report}

    def _describe(self, variant: Variant, scores: Mapping[str, RunScores], curve: str) -> dict[str, Any]:
        chosen = list(self._runs_of(variant).values())
        size = size_for(self.plan.prepared, variant.options)
        described = {"name": variant.name, "changes": variant.changes, "units": variant.options.units}
        described |= {"parameters": size, "runs": len(chosen)}
        if not chosen:
            return described
        runs = [self.runs[index] for index in chosen]
        estimates = {}
        for name, score in scores.items():
            mean = _estimate(name, score, chosen)
            deviation = float(score.values[chosen].std(ddof=1)) if len(chosen) > 1 else None
            estimates[name] = {key: mean[key] for key in ("mean", "low", "high")} | {"deviation": deviation}
        return described | {
            "seconds": float(np.mean([run["seconds"] for run in runs])),
            "scores": estimates,
            "curve": learning_curve(runs, curve),
        }

    def _differences(self, scores: Mapping[str, RunScores], best: str) -> list[dict[str, Any]]:
        """Of all from the reference, and of all others from the best."""
        reference = self.variants[0]
        leader = next(variant for variant in self.variants if variant.name == best)
        pairs = [(variant, reference) for variant in self.variants[1:]]
        if leader is not reference:
            pairs += [(variant, leader) for variant in self.variants[1:] if variant is not leader]
        differences = []
        for variant, against in pairs:
            first, second = self._runs_of(variant), self._runs_of(against)
            common = [seed for seed in first if seed in second]
            if common:
                runs = [first[seed] for seed in common], [second[seed] for seed in common]
                about = {"variant": variant.name, "against": against.name, "seeds": len(common)}
                about["includes_seeds"] = len(common) >= FEWEST_SEEDS
                differences.append(about | {name: _estimate(name, score, *runs) for name, score in scores.items()})
        return differences

    def _runs_of(self, variant: Variant) -> dict[int, int]:
        """Seed -> the index of its run."""
        return {run["seed"]: index for index, run in enumerate(self.runs) if run["variant"] == variant.name}


def _estimate(
    name: str, scores: RunScores, models: Sequence[int], against: Sequence[int] | None = None
) -> dict[str, float | None]:
    """A mean score or a difference as plain data; with too few seeds the interval comes from the test set alone."""
    bounds = SCORES[name].bounds
    result = estimate(scores, models, against, bounds=bounds)
    errors = {"sequence_error": result.sequence_error, "seed_error": result.seed_error}
    if len(models) < FEWEST_SEEDS:
        kinds = [models] if against is None else [models, against]
        resampled = scores.resampled
        means = None if resampled is None else np.stack([resampled[:, kind].mean(axis=1) for kind in kinds], axis=1)
        pooled = RunScores(np.array([scores.values[kind].mean() for kind in kinds]), means)
        result = estimate(pooled, [0], None if against is None else [1], bounds=bounds)
    return {"mean": result.value, "low": result.low, "high": result.high, **errors}


def _guess(task: Task, training: Dataset) -> tuple[Any, Outputs]:
    """What is always guessed without looking at a sequence, and the row of outputs of a network that does so."""
    if isinstance(task, LabelTask):
        name, _ = majority(task, training.known)
        return name, Outputs(np.eye(task.outputs, dtype=np.float32)[[task.classes.index(name)]])
    if isinstance(task, LabelSetTask):
        known = training.known[task.labelled(training.known)]
        holds = (known.mean(axis=0) > 0.5).astype(np.float32)
        return [name for name, held in zip(task.columns, holds, strict=True) if held], Outputs(holds[np.newaxis])
    mean = Outputs(np.zeros((1, task.outputs), np.float32))
    return dict(zip(task.columns, task.predicted(mean)[0].tolist(), strict=True)), mean


def _constant(test: Dataset, outputs: Outputs) -> Iterator[tuple[slice, slice, Outputs]]:
    """The same row of outputs for each row, in chunks."""
    width = outputs.values.shape[1]
    for group in chunks(test.values.offsets, max(1, scratch.BLOCK // width)):
        steps = slice(int(test.values.offsets[group.start]), int(test.values.offsets[group.stop]))
        rows = group if test.per_sequence else steps
        yield group, steps, Outputs(np.broadcast_to(outputs.values, (rows.stop - rows.start, width)))
