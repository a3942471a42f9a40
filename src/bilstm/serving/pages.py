"""Pages of one static file, which browsers let do nothing but talk to their own service."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


def read_page(path: Path) -> tuple[bytes, dict[str, str]]:
    """A page with one script, and the headers with which it is sent."""
    content = path.read_bytes()
    return content, {"Content-Security-Policy": _policy(content.decode()), "X-Content-Type-Options": "nosniff"}


def _policy(page: str) -> str:
    """Nothing from elsewhere, and no script but the page's own."""
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; connect-src 'self'; "
        f"img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def is_foreign(scope: MutableMapping[str, Any]) -> bool:
    """Whether a page of another origin asks: browsers let any page open a WebSocket, and read what comes."""
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    return b"origin" in headers and urlsplit(headers[b"origin"]).netloc != headers.get(b"host")
