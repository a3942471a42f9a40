"""Chromium without a window, driven through two pipes by its DevTools protocol: what a page does when it is opened.

See https://chromedevtools.github.io/devtools-protocol/. Playwright and Selenium would bring a browser or a server each.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EXECUTABLE = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """A running Chromium with one empty page.

    Attributes:
        events: what it told of the page, each with "method" and "params".
    """

    def __init__(self, into: int, out_of: int) -> None:
        self._into, self._out_of = into, out_of
        self._rest = b""
        self._count = 0
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    _session: str | None = None

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Have it do something, and wait until it has."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._into, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._out_of, 1 << 20)
            assert more, "the browser has ended"
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def open(self, page: Path | str, *, width: int, height: int = 800, dark: bool = False) -> None:
        """Open a file or an address, as on a screen of this width in pixels, and wait until it is there."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.events.clear()
        self.call("Page.navigate", url=page if isinstance(page, str) else page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page."""
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def wait_for(self, script: str, seconds: float = 10) -> None:
        """Wait until an expression in the page has a true value."""
        end = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({script})"):
            assert time.monotonic() < end, script
            time.sleep(0.01)

    def press(self, key: str) -> None:
        """Press a key, such as "Tab" or "ArrowUp", where the focus is."""
        codes = {"Tab": 9, "Enter": 13, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        described = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, **described)

    def drag(self, points: list[tuple[float, float]]) -> None:
        """Press the mouse at the first point, in pixels of the window, move it along the others, and let go."""
        for kind, (x, y) in zip(["mousePressed", *["mouseMoved"] * (len(points) - 1)], points, strict=True):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
        x, y = points[-1]
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=x, y=y, button="left", clickCount=1)

    def told(self, *methods: str) -> list[dict[str, Any]]:
        """The parameters of all events of these kinds."""
        return [event["params"] for event in self.events if event["method"] in methods]

    def screenshot(self, path: Path, *, height: int | None = None) -> None:
        """Write a picture of the page from its top on, all of it unless a height in pixels is given."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": height or size["height"], "scale": 1}
        image = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]
        path.write_bytes(base64.b64decode(image))


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A Chromium that ends with the block."""
    assert EXECUTABLE
    read_by_it, into = os.pipe()
    out_of, written_by_it = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}"]
        options += ["--no-first-run", "--disable-extensions", "--disable-dev-shm-usage", "--remote-debugging-pipe"]
        # The protocol's pipes are the descriptors 3 and 4.
        shell = f'exec "$0" "$@" 3<&{read_by_it} 4>&{written_by_it}'
        command = ["bash", "-c", shell, EXECUTABLE, *options]
        running = subprocess.Popen(
            command, pass_fds=(read_by_it, written_by_it), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            os.close(read_by_it)
            os.close(written_by_it)
            yield Browser(into, out_of)
        finally:
            running.kill()
            running.wait()
            os.close(into)
            os.close(out_of)


@contextlib.contextmanager
def running(app: Any, **options: Any) -> Iterator[str]:
    """An ASGI application served by a thread, with these options of uvicorn's; its address."""
    import uvicorn

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", **options))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join()
