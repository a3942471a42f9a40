"""The page, and the socket over which it sees networks learn."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from bilstm.lesson.learning import LABELS, Lesson
from bilstm.ragged import FloatArray
from bilstm.serving.listening import address_of, listening
from bilstm.serving.pages import is_foreign, read_page

PAGE = Path(__file__).with_name("page.html")
MOST_PAGES = 50  # that learn at a time
_TICK = 0.1  # seconds between two looks at how far learning has come
_FASTEST = 1000  # sequences per second
_REFUSED, _BUSY = 1008, 1013


def serve(
    steps: int, units: int, sequences: int, merge_mode: str, seed: int, port: int, announce: Callable[[str], object]
) -> None:
    """See `run_page`."""
    with listening("127.0.0.1", port, "--port") as listener:
        app = create_app(steps, units, sequences, merge_mode, seed)
        announce(address_of(listener))
        options: dict[str, Any] = {"ws": "websockets-sansio", "ws_per_message_deflate": False, "ws_max_size": 1 << 16}
        config = uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=2, **options)
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises the signal again when all is done
            uvicorn.Server(config).run([listener])


def create_app(steps: int, units: int, sequences: int, merge_mode: str, seed: int) -> Starlette:
    """The page as an ASGI application; for the arguments see `run_page`."""
    content, headers = read_page(PAGE)
    pages = list[Pupil]()

    async def page(request: Request) -> Response:
        return Response(content, media_type="text/html", headers=headers)

    async def learn(socket: WebSocket) -> None:
        if is_foreign(socket.scope):
            await socket.close()
            return
        await socket.accept()
        if len(pages) >= MOST_PAGES:
            await socket.close(_BUSY, f"{MOST_PAGES} pages learn already")
            return
        pupil = Pupil(socket, {"steps": steps, "units": units, "sequences": sequences, "merge_mode": merge_mode}, seed)
        pages.append(pupil)
        try:
            await pupil.run()
        except WebSocketDisconnect:
            pass
        except (ValueError, KeyError, RecursionError) as error:
            await socket.close(_REFUSED, str(error)[:100])
        finally:
            pages.remove(pupil)

    return Starlette(routes=[Route("/", page), WebSocketRoute("/learn", learn)])


class Pupil:
    """An open page: what it says is to happen, and how far its networks have come.

    It says {"problem": …, "seed": …} to begin, {"pace": sequences per second, or 0} and {"sequence": numbers}; any
    of these may be in one message. It is told {"lesson": …} at the beginning, {"scores": …} while networks learn, and
    {"answers": …} with both and for each sequence.
    """

    def __init__(self, socket: WebSocket, options: dict[str, Any], seed: int) -> None:
        self._socket, self._options, self._seed = socket, options, seed
        self._lesson = self._new(next(iter(LABELS)), seed)
        self._numbers: FloatArray = self._lesson.example
        self._pace = 0.0

    def _new(self, problem: str, seed: int) -> Lesson:
        return Lesson(problem, **self._options, seed=seed)

    async def run(self) -> None:
        """Talk to the page until it goes.

        Raises:
            WebSocketDisconnect: it has gone.
            ValueError: it said what makes no sense.
        """
        await self._begin()
        coming = asyncio.ensure_future(self._socket.receive_text())
        try:
            while True:
                start = time.monotonic()
                learns = self._pace > 0 and self._lesson.done < self._lesson.total
                if learns:
                    await self._learn(max(1, round(self._pace * _TICK)))
                rest = max(0.0, _TICK - (time.monotonic() - start)) if learns else None
                await asyncio.wait({coming}, timeout=rest)
                if coming.done():
                    await self._hear(coming.result())
                    coming = asyncio.ensure_future(self._socket.receive_text())
        finally:
            coming.cancel()

    async def _hear(self, text: str) -> None:
        said = json.loads(text)
        if not isinstance(said, dict):
            raise ValueError("a message is an object")
        if "pace" in said:
            self._pace = float(_number(said["pace"], 0, _FASTEST))
        if "problem" in said or "seed" in said:
            problem, seed = said.get("problem", ""), int(_number(said.get("seed", self._seed), 0, 2**31))
            if problem not in list(LABELS):  # it may be anything
                raise ValueError("there is no such problem")
            self._lesson = await asyncio.to_thread(self._new, problem, seed)
            await self._begin()
        if "sequence" in said:
            await self._edit(said["sequence"])

    async def _begin(self) -> None:
        lesson = self._lesson
        self._numbers = lesson.example
        networks = [dataclasses.asdict(each) | {"parameters": each.parameters} for each in lesson.contenders]
        described = {"networks": networks, "majority": lesson.majority, "sequences": lesson.total}
        await self._tell(lesson=described, scores=await asyncio.to_thread(lesson.scores))

    async def _learn(self, sequences: int) -> None:
        await self._tell(scores=await asyncio.to_thread(self._lesson.learn, sequences))

    async def _edit(self, sequence: Any) -> None:
        """Another sequence. Of its answers, it says which differ from the same weights' for the one before."""
        if not isinstance(sequence, list) or len(sequence) != len(self._numbers):
            raise ValueError("a sequence is a list of as many numbers as the first one has")
        before = self._lesson.answers(self._numbers)
        self._numbers = np.array([_number(each, 0, 1) for each in sequence], np.float32)
        after = self._lesson.answers(self._numbers)
        changed = [[a != b for a, b in zip(*rows, strict=True)] for rows in zip(before, after, strict=True)]
        await self._tell(changed=changed)

    async def _tell(self, **said: Any) -> None:
        numbers = self._numbers
        answers = {"numbers": numbers.astype(float).tolist(), "truth": self._lesson.truth(numbers)}
        answers["probabilities"] = self._lesson.answers(numbers)
        plain = {name: dataclasses.asdict(each) if name == "scores" else each for name, each in said.items()}
        await self._socket.send_text(json.dumps({**plain, "answers": answers}))


def _number(value: Any, least: float, most: float) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or not least <= value <= most:
        raise ValueError(f"a number from {least} to {most} is needed")
    return float(value)
