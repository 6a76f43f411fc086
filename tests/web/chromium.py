"""Debian's Chromium, without a screen, driven over a pipe by its DevTools protocol."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
#: Seconds after which something will never happen.
NEVER = 60
#: The width and height of a desk's screen and of a phone's.
DESK, PHONE = (1180, 860), (390, 844)


class Chromium:
    """One browser; each ``Tab`` has cookies of its own."""

    def __init__(self, folder: Path) -> None:
        ours, theirs = os.pipe(), os.pipe()  # what we say; what it says
        os.set_inheritable(ours[0], True)
        os.set_inheritable(theirs[1], True)

        def prepare() -> None:
            os.dup2(ours[0], 3)
            os.dup2(theirs[1], 4)

        # dup2 must not meet the ends themselves
        keep = (ours[0], theirs[1])
        self._log = open(folder / "chromium.log", "wb")  # noqa: SIM115
        self.process = subprocess.Popen(
            [
                PROGRAM, "--headless=new", "--remote-debugging-pipe", "--no-sandbox",
                "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                "--disable-extensions", "--disable-background-networking", "--hide-scrollbars",
                "--force-color-profile=srgb", "--font-render-hinting=none",
                f"--user-data-dir={folder / 'chromium'}", "about:blank",
            ],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            preexec_fn=prepare, pass_fds=(3, 4, *keep),
        )  # fmt: skip
        for end in keep:
            os.close(end)
        self._out, self._in = ours[1], theirs[0]
        self._number = 0
        self._unread = b""
        self.events: list[dict] = []

    def close(self) -> None:
        with suppress(OSError, AssertionError):
            self.ask("Browser.close")
        self.process.wait(NEVER)
        os.close(self._out)
        os.close(self._in)
        self._log.close()

    def ask(self, method: str, session: str = "", **facts) -> dict:
        """Say something, and return its answer; events that come meanwhile are kept."""
        self._number += 1
        said = {"id": self._number, "method": method, "params": facts}
        if session:
            said["sessionId"] = session
        os.write(self._out, json.dumps(said).encode() + b"\0")
        while True:
            heard = self._hear()
            if heard.get("id") == self._number:
                assert "error" not in heard, (method, facts, heard["error"])
                return heard["result"]
            self.events.append(heard)

    def wait_for(self, method: str, session: str) -> dict:
        """Return the next event of this kind, also one that has come already."""
        until = time.monotonic() + NEVER
        while True:
            for event in self.events:
                if event.get("method") == method and event.get("sessionId") == session:
                    self.events.remove(event)
                    return event["params"]
            assert time.monotonic() < until, (method, self.events[-5:])
            self.events.append(self._hear())

    def _hear(self) -> dict:
        while b"\0" not in self._unread:
            octets = os.read(self._in, 1 << 20)
            assert octets, "Chromium has ended"
            self._unread += octets
        line, _, self._unread = self._unread.partition(b"\0")
        return json.loads(line)


class Tab:
    """One page, with cookies of its own; ``script=False``: without JavaScript."""

    def __init__(
        self, browser: Chromium, *, script: bool = True, dark: bool = False, size=DESK
    ) -> None:
        self.browser = browser
        self._context = browser.ask("Target.createBrowserContext")["browserContextId"]
        self._target = browser.ask(
            "Target.createTarget", url="about:blank", browserContextId=self._context
        )["targetId"]
        self._session = browser.ask(
            "Target.attachToTarget", targetId=self._target, flatten=True
        )["sessionId"]  # fmt: skip
        for domain in ("Page", "Runtime", "Network", "Log", "DOM"):
            self.ask(f"{domain}.enable")
        self.look(dark=dark, size=size)
        if not script:
            self.ask("Emulation.setScriptExecutionDisabled", value=True)

    def close(self) -> None:
        self.browser.ask("Target.disposeBrowserContext", browserContextId=self._context)

    def ask(self, method: str, **facts) -> dict:
        return self.browser.ask(method, self._session, **facts)

    def look(self, *, dark: bool = False, size=DESK) -> None:
        """See the page in the dark or in the light, and so large."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        width, height = size
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=size == PHONE,
        )  # fmt: skip

    def go(self, address: str) -> None:
        """Load a page."""
        self._moved(lambda: self.ask("Page.navigate", url=address))

    def _moved(self, act) -> None:
        """Do something that loads a page, and wait until it is loaded."""
        self.browser.events = [
            one for one in self.browser.events if one.get("method") != "Page.loadEventFired"
        ]
        act()
        self.browser.wait_for("Page.loadEventFired", self._session)

    def find(self, selector: str) -> int:
        root = self.ask("DOM.getDocument")["root"]["nodeId"]
        found = self.ask("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        assert found, f"there is no {selector} in {self.text()}"
        return found

    def there(self, selector: str) -> bool:
        root = self.ask("DOM.getDocument")["root"]["nodeId"]
        return bool(self.ask("DOM.querySelector", nodeId=root, selector=selector)["nodeId"])

    def fill(self, selector: str, text: str) -> None:
        """Type into a field, as a person does: what is there is replaced."""
        self.ask("DOM.focus", nodeId=self.find(selector))
        self.ask(
            "Input.dispatchKeyEvent", type="rawKeyDown", key="a", code="KeyA",
            windowsVirtualKeyCode=65, modifiers=2, commands=["selectAll"],
        )  # fmt: skip
        self.ask("Input.insertText", text=text)

    def click(self, selector: str, *, loads: bool = True) -> None:
        """Click in the middle of something; by default it leads to a page."""
        node = self.find(selector)
        self.ask("DOM.scrollIntoViewIfNeeded", nodeId=node)
        left, top, _, _, right, bottom, *_ = self.ask("DOM.getContentQuads", nodeId=node)["quads"][
            0
        ]
        where = {"x": (left + right) / 2, "y": (top + bottom) / 2, "button": "left"}

        def press() -> None:
            for kind in ("mousePressed", "mouseReleased"):
                self.ask("Input.dispatchMouseEvent", type=kind, clickCount=1, **where)

        if loads:
            self._moved(press)
        else:
            press()

    def press(self, key: str, code: int) -> None:
        """Press a key."""
        for kind in ("rawKeyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code)

    def html(self) -> str:
        root = self.ask("DOM.getDocument")["root"]["nodeId"]
        return self.ask("DOM.getOuterHTML", nodeId=root)["outerHTML"]

    def text(self) -> str:
        """What a person reads, by the accessibility tree."""
        nodes = self.ask("Accessibility.getFullAXTree")["nodes"]
        return "\n".join(
            one["name"]["value"]
            for one in nodes
            if one.get("name", {}).get("value") and one["role"]["value"] == "StaticText"
        )

    def photograph(self, path: Path) -> None:
        """Take a picture of the whole page."""
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        picture = self.ask(
            "Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True
        )["data"]
        path.write_bytes(base64.b64decode(picture))

    def width_of_page(self) -> float:
        return self.ask("Page.getLayoutMetrics")["cssContentSize"]["width"]

    def complaints(self) -> list[str]:
        """What the browser has complained of, such as what the policy forbids."""
        return [
            json.dumps(one["params"])
            for one in self.browser.events
            if one.get("sessionId") == self._session
            and one.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown")
        ]
