"""The addresses that are asked most, answered without what a framework does for any address.

FastAPI knows and describes them like all others; here, their own functions are called by nothing but the path.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute

from bilstm.serving.errors import answer_to
from bilstm.serving.guard import Message, Receive, Send

_PATHS = ("/label", "/models/{model}/label", "/v2/models/{model}/infer")


class Direct:
    """An ASGI application around a FastAPI one.

    Args:
        names: of the models.
    """

    def __init__(self, app: FastAPI, names: Iterable[str]) -> None:
        self._app = app
        routes = {
            each.path: each for each in app.routes if isinstance(each, APIRoute) and "POST" in (each.methods or ())
        }
        self._known: dict[str, tuple[APIRoute, dict[str, str]]] = {}
        for path in _PATHS:
            if "{" in path:
                self._known |= {path.format(model=name): (routes[path], {"model": name}) for name in names}
            else:
                self._known[path] = routes[path], {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        found = self._known.get(scope.get("path", ""))
        if found is None or scope.get("method") != "POST" or scope.get("root_path"):
            await self._app(scope, receive, send)
            return
        scope["route"], parameters = found
        unexpected = None
        try:
            response = await found[0].endpoint(Request(scope, receive), **parameters)
        except Exception as error:
            response = answer_to(error)
            unexpected = error if response.status_code == 500 else None
        await response(scope, receive, send)
        if unexpected is not None:
            raise unexpected  # to be logged
