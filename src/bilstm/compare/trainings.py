"""The trainings of a comparison: one after the other, or several at a time by joblib, with the same results."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from bilstm.compare.planning import Plan
from bilstm.compare.variants import Variant
from bilstm.data import scratch
from bilstm.data.dataset import Dataset
from bilstm.data.memory import MemoryTable
from bilstm.errors import DivergedError, UserError
from bilstm.metrics import SpanScores
from bilstm.model.training import train_prepared
from bilstm.signals import workers_spared
from bilstm.tasks import LabelTask, Outputs, Task
from bilstm.training.loop import Progress
from bilstm.utils import set_threads, threads

# Backends that another package registers with joblib, by the function that does so.
_REGISTERED_BY = {"ray": ("ray.util.joblib", "register_ray"), "spark": ("joblibspark", "register_spark")}
_PROCESSES_HERE = ("LokyBackend", "MultiprocessingBackend")  # joblib's own, among which we divide the CPUs


@dataclasses.dataclass(frozen=True)
class Training:
    """One training of a comparison.

    Attributes:
        index: its position in the order of all trainings, from 0.
        variant: what is trained.
        seed: of the weights and of the order of the sequences.
    """

    index: int
    variant: Variant
    seed: int

    @property
    def about(self) -> dict[str, Any]:
        """What reports call it."""
        return {"variant": self.variant.name, "seed": self.seed}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one training came to.

    Attributes:
        training: which one.
        run: its entry of the report's "runs", or of "failed" if it diverged.
        sums: what the test set's clusters contribute to its scores; empty if it diverged.
    """

    training: Training
    run: dict[str, Any]
    sums: list[Any]


def run_trainings(
    plan: Plan,
    trainings: Sequence[Training],
    add: Callable[[Outcome], None],
    *,
    jobs: int = 1,
    backend: str | None = None,
    notify: Progress,
) -> None:
    """Run all trainings, and score each on the test set.

    Args:
        plan: the sets and variants.
        trainings: what is trained.
        add: called with the outcome of each in this process, in the order in which they complete.
        jobs: how many run at a time.
        backend: joblib's backend for them; None: that of the surrounding `joblib.parallel_config`, or else processes.
        notify: called with the progress: with one job, of each epoch; with several, of each training that completed.

    Raises:
        UserError: several jobs need joblib, there is no such backend, or a worker process has ended abruptly.
    """
    if jobs > 1:
        _run_together(plan, trainings, add, jobs, backend, notify)
        return
    if backend is not None:
        raise UserError("a backend has no effect with one training at a time: state a number of jobs above 1")
    for number, training in enumerate(trainings, 1):
        about = {"run": number, "runs": len(trainings), **training.about}
        add(train_once(plan, training, lambda figures, about=about: notify(figures | about)))  # type: ignore[misc]


def train_once(plan: Plan, training: Training, progress: Progress | None = None) -> Outcome:
    """Train once, and score the test set."""
    options = dataclasses.replace(training.variant.options, seed=training.seed)
    prepared, test = plan.sets_for(options)
    task = plan.prepared.task
    started = time.perf_counter()
    try:
        model = train_prepared(prepared, options, progress=progress)
    except DivergedError as error:
        return Outcome(training, training.about | {"reason": str(error)}, [])
    seconds = time.perf_counter() - started
    kept = {name: model.training[name] for name in ("epochs", "best_epoch", "stopped", "history")}
    portioned = model.output_chunks(test.values, width=task.outputs + len(test.unseen))
    sums = [scorer.sums for scorer in scorers(task, test, portioned)]
    return Outcome(training, training.about | {"seconds": round(seconds, 3), **kept}, sums)


def scorers(task: Task, test: Dataset, outputs: Iterable[tuple[slice, slice, Outputs]]) -> list[Any]:
    """Score the outputs of a network for the test set, as `TrainedModel.output_chunks` gives them.

    Returns:
        The task's scorer and, for tags such as B-X, I-X and O, one of spans.
    """
    labelled, unseen = task.labelled_sequences(test.known, test.values.offsets), tuple(test.unseen)
    scorer = task.scorer(labelled, test.groups, unseen)
    spans = None
    if isinstance(task, LabelTask) and task.spans:
        spans = SpanScores(labelled, (*task.classes, *unseen), groups=test.groups)
    for sequences, steps, values in outputs:
        rows = sequences if test.per_sequence else steps
        truth, offsets = test.known[rows], test.row_offsets[sequences.start : sequences.stop + 1] - rows.start
        task.add_scores(scorer, truth, values, offsets, unseen)
        if spans:
            spans.add_spans(truth, values.labels, offsets)
    return [scorer, spans] if spans else [scorer]


def _run_together(
    plan: Plan,
    trainings: Sequence[Training],
    add: Callable[[Outcome], None],
    jobs: int,
    backend: str | None,
    notify: Progress,
) -> None:
    if find_spec("joblib") is None:
        raise UserError("several trainings at a time need the package joblib: pip install 'bilstm[sklearn]'")
    from joblib import Parallel, delayed
    from joblib.parallel import get_active_backend

    jobs = min(jobs, len(trainings))
    with _using(backend):
        active = get_active_backend()[0]
        here = type(active).__name__ in _PROCESSES_HERE
        # Elsewhere the scheduler grants each worker its CPUs; threads of this process share the engine's.
        limit = max(1, threads() // jobs) if here else None
        ways: dict[str, Any] = {"temp_folder": str(scratch.root()), "batch_size": 1}
        comes = bool(active.supports_return_generator)
        ways["return_as"] = "generator_unordered" if comes else "list"
        sent = _without_table(plan)
        calls = (delayed(_in_worker)(sent, training, os.getpid(), limit) for training in trainings)
        outcomes: Any = iter(())
        try:
            with workers_spared() if comes else contextlib.nullcontext():
                outcomes = iter(Parallel(n_jobs=jobs, **ways)(calls))
            for number, outcome in enumerate(outcomes, 1):
                add(outcome)
                notify(_completed(outcome) | {"run": number, "runs": len(trainings), **outcome.training.about})
        except BrokenExecutor as error:
            raise UserError(
                "a worker process has ended abruptly, perhaps for lack of memory: use a smaller number of jobs"
            ) from error
        except BaseException as error:
            if throw := getattr(outcomes, "throw", None):  # ends the workers
                with contextlib.suppress(type(error)):
                    throw(error)
            raise


def _in_worker(plan: Plan, training: Training, parent: int, limit: int | None) -> Outcome:
    if limit is not None and os.getpid() != parent:
        set_threads(limit)
    return train_once(plan, training)


def _without_table(plan: Plan) -> Plan:
    """The plan for another process, which does not need the table; it may be an open database."""
    label = plan.prepared.table.label
    return dataclasses.replace(
        plan, prepared=dataclasses.replace(plan.prepared, table=MemoryTable({}, label=label, rows=1))
    )


def _completed(outcome: Outcome) -> dict[str, Any]:
    """What `train_model` reports in the end, of a training elsewhere."""
    run = outcome.run
    if "history" not in run:  # it diverged
        return {"epoch": 1, "epochs": 1, "done": 1.0, "loss": float(np.nan)}
    best = run["best_epoch"] - 1
    scores = {name: values[best] for name, values in run["history"].items()}
    return {"epoch": run["epochs"], "epochs": run["epochs"], "done": 1.0, **scores}


@contextlib.contextmanager
def _using(backend: str | None) -> Iterator[None]:
    """Within, joblib uses this backend.

    Raises:
        UserError: there is none of this name, or its package is missing or refuses.
    """
    if backend is None:
        yield
        return
    from joblib import parallel_config

    with contextlib.ExitStack() as stack:
        try:
            if backend in _REGISTERED_BY:
                module, register = _REGISTERED_BY[backend]
                getattr(import_module(module), register)()
            if backend == "dask":
                _connect_to_dask(stack)
            stack.enter_context(parallel_config(backend=backend))
        except (ImportError, ValueError) as error:
            reason = str(error).split("\n")[0]
            raise UserError(f"backend {backend!r}: {reason}") from error
        yield


def _connect_to_dask(stack: contextlib.ExitStack) -> None:
    """Use the program's client; or else the scheduler at DASK_SCHEDULER_ADDRESS, or workers on this machine."""
    import distributed

    try:
        distributed.get_client()
    except ValueError:
        stack.enter_context(distributed.Client())
