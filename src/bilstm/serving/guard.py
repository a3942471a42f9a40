"""What stands before every request: the key, how many there may be, what is counted and logged."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from types import TracebackType
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from bilstm.serving.logs import log
from bilstm.serving.metrics import Metrics
from bilstm.serving.pages import is_foreign
from bilstm.serving.refusals import Refusal, busy, too_large
from bilstm.serving.settings import Settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
_STATUS = {"websocket.accept": 101, "websocket.close": 403}  # of a connection that had none
_NO_KEY = "this service needs its key, as a header Authorization: Bearer KEY"
_OPEN = ("/", "/v2/health/live", "/v2/health/ready")  # which need no key


class Guard:
    """An ASGI application around another one.

    Attributes:
        names: of the models that are served.
    """

    names: tuple[str, ...] = ()

    def __init__(self, app: App, settings: Settings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        self._key = None if settings.api_key is None else f"Bearer {settings.api_key}".encode()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        start, answer = time.perf_counter(), {"status": 0, "bytes": 0}

        async def sending(message: Message) -> None:
            answer["status"] = answer["status"] or message.get("status", _STATUS.get(message["type"], 0))
            answer["bytes"] += len(message.get("body", b"")) + len(message.get("text") or "")
            await send(message)

        try:
            if not self._is_allowed(scope):
                key = (b"www-authenticate", b"Bearer")
                await _refuse(
                    scope, sending, 401, "this service needs its key, as a header Authorization: Bearer KEY", key
                )
            elif scope["type"] == "websocket" and is_foreign(scope):
                await _refuse(scope, sending, 403, "a page of another origin cannot open a stream here")
            else:
                await self._app(scope, receive, sending)
        finally:
            self._note(scope, answer, time.perf_counter() - start)

    def _is_allowed(self, scope: Message) -> bool:
        if self._key is None or scope["path"] in _OPEN:
            return True
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        return hmac.compare_digest(given, self._key)

    def _note(self, scope: Message, answer: dict[str, int], seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        self._metrics.of("requests", route, str(answer["status"])).inc()
        self._metrics.of("seconds", route).observe(seconds)
        if self._settings.log:
            method = scope.get("method", "websocket") if route != "other" else "other"
            fields = {"method": method, "route": route}
            fields |= scope.get("bilstm", {})
            level = logging.ERROR if answer["status"] == 500 else logging.INFO
            log("request", level, **fields, **answer, ms=round(1000 * seconds, 3))


async def _refuse(scope: Message, send: Send, status: int, message: str, *headers: tuple[bytes, bytes]) -> None:
    response = Response(orjson.dumps({"error": message}), status, media_type="application/json")
    response.raw_headers += headers
    await response(scope, _nothing, send)


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


class Places:
    """Room for a number of requests at a time: a context for each.

    Raises:
        Refusal: there is none left.
    """

    def __init__(self, most: int, metrics: Metrics) -> None:
        self._most, self._metrics, self._taken = most, metrics, 0

    def __enter__(self) -> None:
        if self._taken >= self._most:
            raise busy("the service has as many requests as it takes at a time")
        self._taken += 1
        self._metrics.open.inc()

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        self._taken -= 1
        self._metrics.open.dec()


async def read_body(request: Request, most: int) -> bytes:
    """The body of a request.

    Args:
        most: bytes that it may have.

    Raises:
        Refusal: it is too large, or compressed.
    """
    headers = dict(request.scope["headers"])
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) > most:
        raise _too_large(most)
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise Refusal(415, "compressed bodies are not read: send it as it is")
    chunks, size = [], 0
    async for chunk in request.stream():
        chunks.append(chunk)
        size += len(chunk)
        if size > most:
            raise _too_large(most)
    return b"".join(chunks)


def _too_large(most: int) -> Refusal:
    return too_large(f"the body is larger than {most:,} bytes: send less at a time")
