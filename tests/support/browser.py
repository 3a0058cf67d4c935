"""Debian's Chromium without a window, spoken to over two pipes: pages that must be silent, clicks, sizes of a window.

The DevTools protocol over ``--remote-debugging-pipe``: JSON messages that end with a zero byte, written to the
browser's descriptor 3 and read from its 4. No port is opened and no package needed.
"""

import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

FLAGS = """--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --disable-background-networking
 --disable-component-update --disable-sync --disable-extensions --remote-debugging-pipe""".split()
LIMIT_S = 60


class Browser:
    """A browser with an empty profile; a context manager."""

    def __init__(self):
        self.profile = tempfile.mkdtemp(prefix="chromium")
        ours, theirs = os.pipe(), os.pipe()  # the browser reads from the first and writes to the second
        given = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (ours[0], theirs[1])]  # else one may be 3 or 4 itself
        ends = f"3<&{given[0]} 4>&{given[1]} {given[0]}<&- {given[1]}>&-"
        silent = subprocess.DEVNULL
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" {ends}', "bash", "chromium", *FLAGS, f"--user-data-dir={self.profile}"],
            pass_fds=given, stdin=silent, stdout=silent, stderr=silent,
        )  # fmt: skip
        for end in (ours[0], theirs[1], *given):
            os.close(end)
        self.write, self.read = ours[1], theirs[0]
        self.number, self.rest, self.events = 0, b"", []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.call("Browser.close")
            self.process.wait(10)
        except (OSError, RuntimeError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        os.close(self.write)
        os.close(self.read)
        shutil.rmtree(self.profile, ignore_errors=True)

    def call(self, method, session=None, **params):
        """Send one command and wait for its answer; what happens meanwhile is kept in `events`."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.message()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def message(self, limit_s=LIMIT_S):
        until = time.monotonic() + limit_s
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.read], [], [], max(0, until - time.monotonic()))
            data = os.read(self.read, 1 << 16) if ready else b""
            if not data:
                raise RuntimeError("the browser does not answer; is Debian's package chromium installed?")
            self.rest += data
        first, _, self.rest = self.rest.partition(b"\0")
        return json.loads(first)

    def open(self, path, width=1200, height=900):
        """A new tab that has loaded a file and settled."""
        return self.visit(Path(path).resolve().as_uri(), width, height)

    def visit(self, address, width=1200, height=900):
        """A new tab that has loaded an address and settled."""
        return Tab(self, address, width, height)


class Tab:
    """One page; `complaints` is everything that it should not have done since it was opened."""

    def __init__(self, browser, address, width, height):
        self.browser, self.address = browser, address
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.resize(width, height)
        self.call("Page.navigate", url=address)
        self.wait("Page.loadEventFired")
        self.settle()

    def call(self, method, **params):
        return self.browser.call(method, self.session, **params)

    def wait(self, method):
        while not any(event.get("method") == method for event in self.own()):
            self.browser.events.append(self.browser.message())

    def own(self):
        return [event for event in self.browser.events if event.get("sessionId") == self.session]

    def settle(self):
        """Two frames and a moment for what was started to fail."""
        self.evaluate(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 150))))"
        )

    def resize(self, width, height=900):
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def evaluate(self, expression):
        """The value of a JavaScript expression; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def wait_for(self, expression, limit_s=LIMIT_S):
        """Wait until a JavaScript expression is true, whatever page is there meanwhile."""
        until = time.monotonic() + limit_s
        while True:
            try:
                if self.evaluate(expression):
                    return
            except RuntimeError:  # the page changes
                if time.monotonic() > until:
                    raise
            assert time.monotonic() < until, expression
            time.sleep(0.1)

    def click(self, selector):
        """A real click on the middle of an element, which is scrolled to first."""
        x, y = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center', inline: 'center'}); const r = e.getBoundingClientRect();"
            " return [r.x + r.width / 2, r.y + r.height / 2] })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key, text=""):
        """A key, down and up, wherever the focus is."""
        for kind in ("keyDown", "keyUp"):
            more = {"text": text} if text and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=13, **more)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def complaints(self):
        """Console errors and warnings, exceptions, log entries and every request but the page itself and data: ones."""
        self.settle()
        found = []
        for event in self.own():
            method, params = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                found.append(f"exception: {params['exceptionDetails']['text']}")
            elif method == "Runtime.consoleAPICalled" and params["type"] in {"error", "warning", "assert"}:
                found.append(f"console {params['type']}: {[a.get('value') for a in params['args']]}")
            elif method == "Log.entryAdded" and params["entry"]["level"] in {"error", "warning"}:
                found.append(f"log: {params['entry']['text']}")
            elif method == "Network.requestWillBeSent":
                url = params["request"]["url"]
                if url.partition("#")[0] != self.address and not url.startswith("data:"):
                    found.append(f"request: {url}")
        return found
