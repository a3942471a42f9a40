"""Sequences as lines of JSON, answered while further ones come: `bilstm predict MODEL -` over HTTP and WebSocket."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeVar

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from bilstm.errors import UserError, counted, listed, shown, suggestion
from bilstm.model import TrainedModel
from bilstm.model.predictions import PredictionOptions
from bilstm.model.streaming import line_stream
from bilstm.models.lookahead import LookAhead
from bilstm.ragged import Extent
from bilstm.serving.guard import Places, Receive, Send
from bilstm.serving.settings import Settings

T = TypeVar("T")
_FLAGS = {"true": True, "false": False}
OPTIONS = ("probabilities", "top", "events", "background", "on_error", "look_ahead", "block")


@dataclasses.dataclass(frozen=True)
class StreamOptions:
    """How a stream is answered.

    Attributes:
        predictions: what predictions consist of.
        skip: whether lines that are wrong are skipped.
        look_ahead, block: see `bilstm.model.streaming.predict_stream`.
    """

    predictions: PredictionOptions
    skip: bool
    look_ahead: LookAhead | None
    block: int


def read_options(model: TrainedModel, query: Mapping[str, str]) -> StreamOptions:
    """What the query of an address says.

    Raises:
        UserError: there is no such option, or it cannot have this value.
    """
    for name, value in query.items():
        if name not in OPTIONS:
            raise UserError(f"{shown(name)} is none of the options {listed(OPTIONS)}.{suggestion(name, OPTIONS)}")
        allowed = {"probabilities": _FLAGS, "events": _FLAGS, "on_error": ("stop", "skip")}.get(name)
        if allowed and value not in allowed:
            raise UserError(f"{name!r} must be {' or '.join(allowed)}, not {shown(value)}")
    options = PredictionOptions(
        probabilities=_FLAGS[query.get("probabilities", "false")],
        top=_number(query, "top"),
        events=_FLAGS[query.get("events", "false")],
        background=query.get("background"),
    )
    if options.background is not None and not options.events:
        raise UserError("'background' says which label is no event: it needs events=true")
    if options.events and (options.probabilities or options.top > 1):
        raise UserError("events=true writes runs of steps, which cannot be combined with 'probabilities' or 'top'")
    if options.events and "look_ahead" in query:
        raise UserError("'look_ahead' answers step by step, which cannot be combined with events=true")
    if "block" in query and "look_ahead" not in query:
        raise UserError("'block' says how many steps become final together: it needs 'look_ahead'")
    options.check(model.task)
    look_ahead: LookAhead | None = None
    if "look_ahead" in query:
        look_ahead = "all" if query["look_ahead"] == "all" else _number(query, "look_ahead", least=0)
    return StreamOptions(options, query.get("on_error") == "skip", look_ahead, _number(query, "block"))


def _number(query: Mapping[str, str], name: str, least: int = 1) -> int:
    text = query.get(name, "1")
    if not (text.isascii() and text.isdecimal() and len(text) < 9 and int(text) >= least):
        raise UserError(f"{name!r} must be a whole number of at least {least}, not {shown(text)}")
    return int(text)


class Lines:
    """The lines of one client, and the answers that have not been sent.

    Args:
        model: answers them.
        options: says how.
        most_steps: of a sequence that is not complete.
    """

    def __init__(self, model: TrainedModel, options: StreamOptions, most_steps: int) -> None:
        self._answers: list[bytes] = []
        self._most_steps = most_steps
        self._stream = line_stream(
            self._answers.append,
            model,
            options.predictions,
            self.report if options.skip else None,
            look_ahead=options.look_ahead,
            block=options.block,
            source="the stream",
        )

    @property
    def extent(self) -> Extent:
        """The sequences that were answered, and their steps."""
        return self._stream.streamed.extent

    async def take(self, lines: list[bytes]) -> None:
        """Answer what is complete with these lines.

        Raises:
            UserError: a line is wrong, or a sequence too long.
        """
        await asyncio.to_thread(self._stream.take, lines)
        if self._stream.pending > self._most_steps:
            steps = counted(self._most_steps, "time step")
            raise UserError(f"the stream has a sequence of more than {steps}")

    async def end(self) -> None:
        """Answer the last sequence."""
        await asyncio.to_thread(self._stream.end)

    def report(self, error: UserError) -> None:
        """Answer by an error."""
        self._answers.append(orjson.dumps({"error": str(error)}) + b"\n")

    def answers(self) -> bytes:
        """Lines of JSON that are to be sent."""
        content = b"".join(self._answers)
        self._answers.clear()
        return content


ENDS = "the service ends: all complete sequences are answered; connect again for more"


class LineResponse(Response):
    """An answer that begins while the request is still coming. It ends when the service does."""

    def __init__(
        self, lines: Lines, settings: Settings, places: Places, stopping: asyncio.Event, count: Callable[[Extent], None]
    ) -> None:
        super().__init__(media_type="application/x-ndjson", headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._lines, self._most, self._places = lines, settings.max_body, places
        self._stopping, self._count = stopping, count

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        with self._places:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            try:
                await self._answer(Request(scope, receive), send)
            except UserError as error:
                self._lines.report(error)
                await self._send(send)
            except ClientDisconnect:
                return
            finally:
                self._count(self._lines.extent)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _answer(self, request: Request, send: Send) -> None:
        rest: list[bytes] = []  # of the line whose end has not come
        size = 0
        async for chunk in until(request.stream(), self._stopping):
            first, *others = chunk.split(b"\n")
            rest.append(first)
            size += len(first)
            if others:
                lines = [b"".join(rest), *others[:-1]]
                rest = others[-1:]
                size = max(size, *map(len, others))
                await self._lines.take(lines)
                await self._send(send)
            if size > self._most:
                raise UserError(f"the stream has a line of more than {self._most:,} bytes")
            size = len(rest[0]) if others else size
        if self._stopping.is_set():
            raise UserError(ENDS)
        await self._lines.take([b"".join(rest)])
        await self._lines.end()
        await self._send(send)

    async def _send(self, send: Send) -> None:
        if content := self._lines.answers():
            await send({"type": "http.response.body", "body": content, "more_body": True})


async def until(chunks: AsyncIterator[T], stopping: asyncio.Event) -> AsyncIterator[T]:
    """What comes before the event is set."""
    stopped = asyncio.ensure_future(stopping.wait())
    try:
        while True:
            coming = asyncio.ensure_future(anext(chunks, None))
            await asyncio.wait({coming, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                coming.cancel()
                return
            chunk = coming.result()
            if chunk is None:
                return
            yield chunk
    finally:
        stopped.cancel()
