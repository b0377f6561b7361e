"""A headless browser for tests of pages, without anything to install beside the browser."""

import base64
import json
import os
import shutil
import subprocess
from io import BytesIO
from itertools import count

from PIL import Image

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Browser:
    """One tab of a headless Chromium, spoken to over its debugging pipe: what a user does, and what then happens."""

    def __init__(self, profile):
        (read_commands, self._commands), (self._answers, write_answers) = os.pipe(), os.pipe()
        shell = (
            f"exec {CHROMIUM} --headless --no-sandbox --disable-gpu --remote-debugging-pipe --user-data-dir={profile} "
        )
        shell += f"about:blank 3<&{read_commands} 4>&{write_answers}"
        self._process = subprocess.Popen(
            ["bash", "-c", shell], pass_fds=(read_commands, write_answers), stderr=subprocess.DEVNULL
        )
        os.close(read_commands), os.close(write_answers)
        self._numbers, self._unread, self._session, self.events = count(1), b"", None, []
        (target, *_) = (t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def close(self):
        self._session = None
        self.call("Browser.close")
        self._process.wait(10)
        os.close(self._commands), os.close(self._answers)

    def call(self, method, **parameters):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _read(self):
        while b"\0" not in self._unread:
            received = os.read(self._answers, 1 << 20)
            assert received, "the browser has gone"
            self._unread += received
        message, _, self._unread = self._unread.partition(b"\0")
        return json.loads(message)

    def open(self, page, hash="", width=1366, height=768):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        for url in ("about:blank", f"{page.as_uri()}{hash}"):  # between two hashes of one page nothing would be loaded
            self.events.clear()
            self.call("Page.navigate", url=url)
            while not any(event["method"] == "Page.loadEventFired" for event in self.events):
                self.events.append(self._read())

    def run(self, script):
        """Give the value of an expression once two frames have been painted."""
        script = f"new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done({script}))))"
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, is_reached):
        """Let the browser paint until what runs beside the page's own work (loading, closing a dialog) is done."""
        for _ in range(300):
            if is_reached():
                return
            self.run("0")
        raise AssertionError("waited for 600 frames in vain")

    def text(self, selector):
        return self.run(f"document.querySelector({json.dumps(selector)}).innerText")

    def press(self, key, code):
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **text)
        self.run("0")

    def screenshot(self):
        return Image.open(BytesIO(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])))
