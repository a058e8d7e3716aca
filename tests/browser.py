"""A headless Chromium, driven through a pipe as its DevTools are; it needs no driver and no port."""

import base64
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-quic", "--remote-debugging-pipe"),
)
STARTED = """
import os, sys
asked, answered, *command = sys.argv[1:]
os.dup2(int(asked), 3), os.dup2(int(answered), 4)
os.execv(command[0], command)
"""
"""Chromium reads commands from descriptor 3 and answers on 4."""

LIMIT = 60.0
"""Seconds in which an answer must come."""

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


class Browser:
    """One tab. `problems` are what it wrote to the console as errors or warnings, and exceptions of scripts."""

    def __init__(self) -> None:
        assert CHROMIUM is not None
        self.problems: list[str] = []
        self.requests: list[str] = []
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        (asked, self._out), (self._in, answered) = os.pipe(), os.pipe()
        high = [fcntl.fcntl(one, fcntl.F_DUPFD, 10) for one in (asked, answered)]
        self._process = subprocess.Popen(
            (
                sys.executable,
                "-I",
                "-c",
                STARTED,
                *map(str, high),
                CHROMIUM,
                *FLAGS,
                f"--user-data-dir={self._profile.name}",
            ),
            pass_fds=high,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for one in (asked, answered, *high):
            os.close(one)
        self._left, self._asked, self._session = b"", 0, None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        os.close(self._out)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)
        self._profile.cleanup()

    def call(self, method: str, **parameters: Any) -> Any:
        """A command of the DevTools, and what it answers."""
        self._asked += 1
        asked = {"id": self._asked, "method": method, "params": parameters}
        if self._session is not None:
            asked["sessionId"] = self._session
        os.write(self._out, json.dumps(asked).encode() + b"\0")
        while (answer := self._next()).get("id") != self._asked:
            self._hear(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def open(
        self, page: Path, width: int = 1280, height: int = 900, dark: bool = False, fragment: str = ""
    ) -> None:
        """Show a file at a width in CSS pixels, and wait until it is there."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Page.navigate", url=page.resolve().as_uri() + fragment)
        limit = time.monotonic() + LIMIT
        while not self.get(
            f"document.readyState === 'complete' && location.pathname.endsWith({json.dumps(page.name)})"
        ):
            assert time.monotonic() < limit, f"{page} did not load"
            time.sleep(0.02)

    def get(self, expression: str) -> Any:
        """What an expression of JavaScript comes to."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def point_at(self, selector: str) -> None:
        """Move the mouse to the middle of an element, which is scrolled into view."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.get(f"{found}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        self.get("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        box = self.get(
            f"(box => [box.x + box.width / 2, box.y + box.height / 2])({found}.getBoundingClientRect())"
        )
        where = dict(zip("xy", box, strict=True))
        self.call("Input.dispatchMouseEvent", type="mouseMoved", **where)

    def press(self, key: str, code: int, **more: Any) -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **more)

    def picture(self, path: Path, whole: bool = False) -> None:
        """A PNG of what is seen, or of the whole page."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def printed(self, path: Path) -> None:
        """The page as a PDF."""
        path.write_bytes(base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            more = os.read(self._in, 1 << 20)
            assert more, "Chromium has ended"
            self._left += more
        one, _, self._left = self._left.partition(b"\0")
        answer: dict[str, Any] = json.loads(one)
        return answer

    def _hear(self, event: dict[str, Any]) -> None:
        told = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                self.problems.append(json.dumps(told["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if told["type"] in ("error", "warning", "assert"):
                self.problems.append(json.dumps(told["args"]))
            case "Log.entryAdded" if told["entry"]["level"] in ("error", "warning"):
                self.problems.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
            case "Network.requestWillBeSent":
                self.requests.append(told["request"]["url"])
