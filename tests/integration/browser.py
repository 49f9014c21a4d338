"""A real headless Chromium, asked over its DevTools protocol; what it complains about is kept."""

from __future__ import annotations

import asyncio
import base64
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.wait import wait_until

START = 30.0
ANSWER = 20.0
END = 10.0
SHELL = "/usr/lib/chromium/chromium-headless-shell"
"""Not the one in /usr/bin: that is a script, which would end and leave the browser behind."""
NAMES = ("chromium", "chromium-browser", "google-chrome", SHELL)
PROGRAM = next(filter(shutil.which, NAMES), None)
CODES: dict[str, dict[str, Any]] = {
    "Tab": {"code": "Tab", "windowsVirtualKeyCode": 9},
    "Enter": {"code": "Enter", "windowsVirtualKeyCode": 13},
}
UNAUTHORIZED = "the server responded with a status of 401"
"""Of the empty page, whose script then asks with the session."""
LISTENING = re.compile(r"DevTools listening on (ws://\S+)")


class Browser:
    """One tab."""

    def __init__(self, runner: asyncio.Runner, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._runner = runner
        self._socket = socket
        self._count = 0
        self.complaints: list[str] = []
        """Errors of scripts, and what the policy refused."""

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._runner.run(self._ask(method, parameters))

    async def _ask(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._count += 1
        await self._socket.send_json({"id": self._count, "method": method, "params": parameters})
        async with asyncio.timeout(ANSWER):
            while True:
                answer: dict[str, Any] = await self._socket.receive_json()
                if answer.get("id") == self._count:
                    assert "error" not in answer, answer
                    result: dict[str, Any] = answer["result"]
                    return result
                self._note(answer)

    def _note(self, told: dict[str, Any]) -> None:
        if told.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(told["params"]["exceptionDetails"]))
        if told.get("method") == "Log.entryAdded" and told["params"]["entry"]["level"] == "error":
            text = told["params"]["entry"]["text"]
            if UNAUTHORIZED not in text:
                self.complaints.append(text)

    def open(self, url: str, width: int = 1280, height: int = 1000) -> None:
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")
        self.size(width, height)
        self.ask("Page.navigate", url=url)
        shown = "document.readyState === 'complete' && !document.body.hidden"
        wait_until(lambda: self.value(shown), ANSWER, "loaded")

    def sign_in(self, home: str, token: str) -> None:
        """On the page whose addresses begin with `home`; the browser's profile then keeps the session."""
        self.open(f"{home}/login")
        self.write(token)
        self.press("Enter")
        wait_until(lambda: self.value("document.getElementById('live') !== null"), ANSWER, "in")

    def size(self, width: int, height: int, *, dark: bool = False) -> None:
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        chosen = {
            "prefers-color-scheme": "dark" if dark else "light",
            "prefers-reduced-motion": "reduce",  # a picture is of what is, not of what just was
        }
        features = [{"name": name, "value": value} for name, value in chosen.items()]
        self.ask("Emulation.setEmulatedMedia", features=features)
        self.ask("Emulation.setScrollbarsHidden", hidden=True)

    def value(self, expression: str) -> Any:
        answer = self.ask(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def text(self, selector: str) -> str:
        found = self.value(f"document.querySelector({selector!r})?.innerText ?? ''")
        return str(found)

    def press(self, key: str) -> None:
        code = CODES.get(key, {})
        for kind in ("keyDown", "keyUp"):
            letter = "\r" if key == "Enter" else key
            text = {"text": letter} if len(letter) == 1 and kind == "keyDown" else {}
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, **text, **code)

    def write(self, text: str) -> None:
        """Into the field that has the focus, as from a keyboard; a page gives it a moment after it was loaded."""
        wait_until(
            lambda: self.value("document.activeElement?.matches('input, textarea')"),
            ANSWER,
            "focus",
        )
        self.ask("Input.insertText", text=text)

    def focused(self) -> str:
        return str(self.value("document.activeElement.innerText || document.activeElement.name"))

    def fits(self) -> bool:
        """Nothing is wider than the window."""
        return bool(self.value("document.documentElement.scrollWidth <= innerWidth"))

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """Of all of the page, or of what the window shows."""
        path.parent.mkdir(parents=True, exist_ok=True)
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A browser with a profile of its own, until the end of the block."""
    assert PROGRAM is not None
    log = folder / "chromium.log"
    arguments = [
        PROGRAM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--remote-debugging-port=0", f"--user-data-dir={folder / 'profile'}", "about:blank",
    ]  # fmt: skip
    with log.open("wb") as output, subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output
    ) as process:  # fmt: skip
        try:
            address = wait_until(lambda: listening(log), START, "the browser listens")
            with asyncio.Runner() as runner:
                session = runner.run(new_session())
                try:
                    yield Browser(runner, runner.run(first_tab(session, address)))
                finally:
                    runner.run(session.close())
        finally:
            process.terminate()
            try:
                process.wait(END)
            except subprocess.TimeoutExpired:
                process.kill()


def listening(log: Path) -> str | None:
    found = LISTENING.search(log.read_text(encoding="utf-8", errors="replace"))
    return found[1] if found else None


async def new_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession()


async def first_tab(
    session: aiohttp.ClientSession, address: str
) -> aiohttp.ClientWebSocketResponse:
    http = address.replace("ws://", "http://").split("/devtools")[0]
    async with session.get(f"{http}/json") as answer:
        tabs = [tab for tab in await answer.json() if tab["type"] == "page"]
    return await session.ws_connect(tabs[0]["webSocketDebuggerUrl"], max_msg_size=64 << 20)
