"""Requests that wait at the same time are computed together.

A sequence's result does not depend on its batch, so this shows in nothing but time. Sequences that are long for their
network have a lane of their own, so that short ones do not wait for them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import numpy as np

from bilstm.model import TrainedModel
from bilstm.ragged import Ragged, offsets_of
from bilstm.tasks import Outputs

# In multiply-adds, of which a core does ten billion a second, or more.
AT_ONCE = 1 << 26  # up to here, computing takes as long as a thread waits for its turn while the loop is busy: 5 ms
_ALONE = 16  # times less: computing takes as long as gathering what others ask
BATCH = 1 << 32  # of a batch at most
LONG = 1 << 30  # from here on, a request has a lane of its own


class Batcher:
    """Computes what a model's network gives for the requests of one event loop.

    Args:
        model: the model.
        wait: seconds that a request may wait for others.
        notify: called for each batch, with the number of its requests.
    """

    def __init__(
        self, model: TrainedModel, wait: float = 0.0, notify: Callable[[int], object] = lambda requests: None
    ) -> None:
        self._model, self._notify, self._waits = model, notify, wait > 0
        self._work = max(1, model.network.weights_per_step)  # multiply-adds
        self._short = _Lane(model, self._work, wait, notify)
        self._long = _Lane(model, self._work, 0.0, notify)

    async def outputs(self, values: Ragged) -> Outputs:
        """What `TrainedModel.outputs` returns for encoded sequences, to the last bit."""
        if self.is_quick(values) and not self._waits:
            self._notify(1)
            return self._model.outputs(values)
        return await (self._long if values.total_steps * self._work >= LONG else self._short).outputs(values)

    def is_quick(self, values: Ragged) -> bool:
        """Whether to wait for others would take as long as computing takes."""
        return values.total_steps * self._work <= AT_ONCE // _ALONE


class _Lane:
    """Requests that are computed in the order in which they come."""

    def __init__(self, model: TrainedModel, work: int, wait: float, notify: Callable[[int], object]) -> None:
        self._model, self._work, self._wait, self._notify = model, work, wait, notify
        self._waiting: deque[tuple[Ragged, asyncio.Future[Outputs]]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def outputs(self, values: Ragged) -> Outputs:
        future: asyncio.Future[Outputs] = asyncio.get_running_loop().create_future()
        self._waiting.append((values, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                if self._wait:
                    await asyncio.sleep(self._wait)
                if batch := self._next():
                    await self._compute(batch)
        finally:
            self._running = None

    def _next(self) -> list[tuple[Ragged, asyncio.Future[Outputs]]]:
        """The requests that are computed next; those that no one waits for any more are left out."""
        batch: list[tuple[Ragged, asyncio.Future[Outputs]]] = []
        work = 0
        while self._waiting:
            values, future = self._waiting[0]
            more = values.total_steps * self._work
            if batch and work + more > BATCH:
                break
            self._waiting.popleft()
            if not future.done():
                batch.append((values, future))
                work += more
        return batch

    async def _compute(self, batch: list[tuple[Ragged, asyncio.Future[Outputs]]]) -> None:
        values = _joined([each for each, _ in batch])
        try:
            if values.total_steps * self._work <= AT_ONCE:
                outputs = self._model.outputs(values)
            else:
                outputs = await asyncio.to_thread(self._model.outputs, values)
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        self._notify(len(batch))
        start = 0
        for each, future in batch:
            stop = start + (len(each) if self._model.task.per_sequence else each.total_steps)
            if not future.done():
                future.set_result(outputs[start:stop])
            start = stop


def _joined(parts: list[Ragged]) -> Ragged:
    if len(parts) == 1:
        return parts[0]
    lengths = np.concatenate([part.lengths for part in parts])
    values = np.concatenate([part.values for part in parts])
    if parts[0].words is None:
        return Ragged(values, offsets_of(lengths))
    # Each has words of its own, to which its last column refers by their numbers.
    words = [part.words for part in parts if part.words is not None]
    before = offsets_of([len(each) for each in words])[:-1]
    values[:, -1] += np.repeat(before, [part.total_steps for part in parts])
    characters = np.concatenate([each.values for each in words])
    return Ragged(
        values, offsets_of(lengths), Ragged(characters, offsets_of(np.concatenate([w.lengths for w in words])))
    )
