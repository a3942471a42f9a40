"""Streams over WebSocket (RFC 6455): messages of JSON lines in, a message for each answer out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from bilstm.errors import UserError
from bilstm.ragged import Extent
from bilstm.serving.streams import ENDS, Lines, until

# Why a connection was closed: https://www.iana.org/assignments/websocket/websocket.xml
DONE, REFUSED, RESTART = 1000, 1008, 1012


class Protocol(WebSocketsSansIOProtocol):
    """Uvicorn's protocol, but for the end of the service: the application then closes connections, once it has answered
    what it has accepted. Uvicorn would close them at once."""

    def shutdown(self) -> None:
        if self.close_sent or not self.handshake_complete:
            super().shutdown()


async def serve_lines(
    socket: WebSocket, lines: Lines, stopping: asyncio.Event, count: Callable[[Extent], None]
) -> None:
    """Answer a client until it goes, ends the stream by an empty message, or sends what is wrong.

    Args:
        stopping: set when the service is to end.
        count: takes what was answered.
    """
    await socket.accept()
    try:
        code = await _answer(socket, lines, stopping)
        await socket.close(code)
    except WebSocketDisconnect:
        return
    finally:
        count(lines.extent)


async def _answer(socket: WebSocket, lines: Lines, stopping: asyncio.Event) -> int:
    """Answer messages; the code with which the connection is to be closed."""
    try:
        async for content in until(_messages(socket), stopping):
            if not content:
                await lines.end()
                await _send(socket, lines)
                return DONE
            parts = content.split(b"\n")
            await lines.take(parts[:-1] if not parts[-1] else parts)
            await _send(socket, lines)
    except UserError as error:
        lines.report(error)
        await _send(socket, lines)
        return REFUSED
    lines.report(UserError(ENDS))
    await _send(socket, lines)
    return RESTART


async def _messages(socket: WebSocket) -> AsyncIterator[bytes]:
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", DONE))
        text = message.get("text")
        yield message["bytes"] if text is None else text.encode("utf-8", "surrogatepass")


async def _send(socket: WebSocket, lines: Lines) -> None:
    for answer in lines.answers().split(b"\n")[:-1]:
        await socket.send_text(answer.decode())
