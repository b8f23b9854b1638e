"""Headless Chromium over its DevTools protocol: opens a file, tells what the console said, runs JavaScript."""

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

from websockets.sync.client import connect

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    *("--headless", "--disable-gpu", "--no-sandbox", "--no-first-run", "--disable-sync", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    "--remote-debugging-port=0",
)
_SCROLL = "document.querySelector(%s).scrollIntoView({block: 'center', inline: 'center'})"
_MIDDLE = """(() => {
  const box = document.querySelector(%s).getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2];
})()"""
_CORNER = {"x": 0, "y": 0, "width": 1, "height": 1, "scale": 1}
_PATIENCE_SECONDS = 120  # a busy machine is slow, not broken


def executable():
    """The path of a browser here, or None. CHROMIUM names another one."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)


class Page:
    """One tab. problems: console errors, exceptions and refused loads so far. requests: every address asked for."""

    def __init__(self, socket):
        self._socket, self._number = socket, 0
        self.problems, self.requests = [], []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """One command; events that arrive meanwhile are noted."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=_PATIENCE_SECONDS))
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def open(self, path, *, width=1280, height=900, media="screen", script=True):
        """Load a file and wait until it is there."""
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        self.call("Emulation.setEmulatedMedia", media=media)
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Page.navigate", url=Path(path).resolve().as_uri())
        while True:
            message = json.loads(self._socket.recv(timeout=_PATIENCE_SECONDS))
            self._note(message)
            if message.get("method") == "Page.loadEventFired":
                return

    def run(self, expression):
        """The value of a JavaScript expression; a promise is awaited."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def point_at(self, selector, *, click=False):
        """Move the mouse to the middle of an element, which is scrolled into view, and click if asked to."""
        self.run(_SCROLL % json.dumps(selector))
        self.call("Page.captureScreenshot", clip=_CORNER)  # draws a frame: the page has been told of the scrolling
        x, y = self.run(_MIDDLE % json.dumps(selector))
        at = {"x": x, "y": y}
        self.call("Input.dispatchMouseEvent", type="mouseMoved", **at)
        if click:
            for kind in ("mousePressed", "mouseReleased"):
                self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at)

    def screenshot(self, path):
        """The whole page as PNG."""
        taken = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        Path(path).write_bytes(base64.b64decode(taken["data"]))

    def pdf(self, path):
        """The page as it is printed."""
        self.call("Emulation.setEmulatedMedia", media="")
        printed = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        Path(path).write_bytes(base64.b64decode(printed["data"]))

    def _note(self, message):
        params = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.problems.append(params["exceptionDetails"])
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.problems.append(params["args"])
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.problems.append(params["entry"])
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])


@contextmanager
def browsing():
    """A browser with a fresh profile and one tab."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [executable(), *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
            try:
                for line in process.stderr:
                    if found := re.search(r"ws://([\d.:]+)/", line):
                        break
                else:
                    raise RuntimeError("the browser ended before it listened")
                with connect(_tab(f"ws://{found[1]}/", line), max_size=None) as socket:
                    yield Page(socket)
            finally:
                process.kill()
                process.stderr.close()


def _tab(address, line):
    """The socket of the first tab."""
    root = re.search(r"ws://\S+", line)[0]
    with connect(root, max_size=None) as socket:
        socket.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
        targets = json.loads(socket.recv(timeout=_PATIENCE_SECONDS))["result"]["targetInfos"]
    tab = next(target["targetId"] for target in targets if target["type"] == "page")
    return f"{address}devtools/page/{tab}"
