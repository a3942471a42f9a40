"""Answers that are no success: what was wrong with a request, or with the moment."""

from __future__ import annotations

from collections.abc import Mapping


class Refusal(Exception):  # noqa: N818 - it need not be an error of the client's
    """A request that is not answered.

    Attributes:
        status: the status of HTTP.
        message: what was wrong and what would be right.
        headers: of the answer.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})


def busy(message: str, seconds: int = 1) -> Refusal:
    """A request for which there is no time or room now."""
    return Refusal(503, f"{message}; try again in {seconds} s", {"Retry-After": str(seconds)})


def too_large(message: str) -> Refusal:
    return Refusal(413, message)
