"""What went wrong, as an answer."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from bilstm.errors import UserError
from bilstm.serving.refusals import Refusal

ERRORS: tuple[type[Exception], ...] = (Refusal, UserError, ClientDisconnect, Exception)


def answer_to(error: Exception) -> Response:
    """What a request is answered that raised this."""
    if isinstance(error, Refusal):
        return error_response(error.status, error.message, error.headers)
    if isinstance(error, UserError):
        return error_response(422, str(error))
    if isinstance(error, ClientDisconnect):
        return Response(status_code=400)  # which no one receives
    return error_response(500, f"this should not have happened ({type(error).__name__}); please report it")


def error_response(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps({"error": message}), status, headers, "application/json")
