"""A headless Chromium, driven by the WebDriver protocol over plain HTTP.

Charter: the few commands that tests of the local page need. The browser gets a fresh profile, talks to nobody but the
page, and ends with the block. Violations of the page's security policy and errors of its scripts are gathered from
the browser's own log.

Source: W3C WebDriver; ``goog:loggingPrefs`` and ``se/log`` as chromedriver documents them.
"""

from __future__ import annotations

import base64
import http.client
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
_WITHIN_S = 20.0


class Browser:
    """One window. Elements are named by CSS selectors."""

    def __init__(self, port: int, session: str) -> None:
        self._port = port
        self._path = f"/session/{session}"

    def open(self, url: str) -> None:
        self._call("POST", "/url", {"url": url})

    @property
    def url(self) -> str:
        return str(self._call("GET", "/url"))

    def text(self, selector: str) -> str:
        """What is shown; empty where there is no such element."""
        found = self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)
        return str(found)

    def click(self, selector: str) -> None:
        self._call("POST", f"/element/{self._element(selector)}/click", {})

    def type(self, selector: str, text: str) -> None:
        self._call("POST", f"/element/{self._element(selector)}/value", {"text": text})

    def press(self, keys: str) -> None:
        """To whatever has the focus."""
        active = self._call("GET", "/element/active")[_ELEMENT]
        self._call("POST", f"/element/{active}/value", {"text": keys})

    def run(self, script: str, *arguments: object) -> Any:
        return self._call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def until(self, is_so: Callable[[], bool], what: str, within_s: float = _WITHIN_S) -> None:
        end_s = time.monotonic() + within_s
        while not is_so():
            assert time.monotonic() < end_s, f"not within {within_s} s: {what}\n{self.text('body')}"
            time.sleep(0.1)

    def until_text(self, selector: str, part: str, within_s: float = _WITHIN_S) -> None:
        self.until(lambda: part in self.text(selector), f"{part!r} in {selector}", within_s)

    def size(self, width: int, height: int, *, phone: bool = False) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self._devtools("Emulation.setDeviceMetricsOverride", metrics)

    def scheme(self, name: str) -> None:
        """``light`` or ``dark``."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self._devtools("Emulation.setEmulatedMedia", {"features": features})

    def screenshot(self, file: Path) -> None:
        """All of the page, also what is below the window's edge."""
        shot = self._devtools("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": True})
        file.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self) -> list[str]:
        """What the browser found wrong since it was asked last: policy violations, script errors, lost files."""
        entries = self._call("POST", "/se/log", {"type": "browser"})
        return [str(entry["message"]) for entry in entries]

    def _element(self, selector: str) -> str:
        found = self._call("POST", "/element", {"using": "css selector", "value": selector})
        return str(found[_ELEMENT])

    def _devtools(self, command: str, parameters: dict[str, Any]) -> Any:
        return self._call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return _http(self._port, method, self._path + path, body)


def _http(port: int, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = json.loads(connection.getresponse().read())["value"]
    finally:
        connection.close()
    if isinstance(answer, dict) and "error" in answer:
        raise AssertionError(f"{path}: {answer['error']}: {answer['message'][:500]}")
    return answer


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser with its profile in ``folder``; the test is skipped where there is none."""
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if driver is None or chromium is None:
        pytest.skip("no chromium with chromedriver here")
    process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        port = _port_of(process)
        options = {"binary": chromium, "args": [*_FLAGS, f"--user-data-dir={folder / 'profile'}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}, "acceptInsecureCerts": True}
        begun = _http(port, "POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        try:
            yield Browser(port, begun["sessionId"])
        finally:
            _http(port, "DELETE", f"/session/{begun['sessionId']}")
    finally:
        process.terminate()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


def _port_of(process: subprocess.Popen[str]) -> int:
    """chromedriver picks a free port and says which."""
    assert process.stdout is not None
    for line in process.stdout:
        if "on port " in line and "successfully" in line:
            return int(line.rsplit("on port ", 1)[1].strip(" .\n"))
    raise AssertionError("chromedriver did not start")
