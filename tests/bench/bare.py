"""A guest by hand: QEMU with an argv, a power button, and a poller that waits for its first answer."""

from __future__ import annotations

import asyncio
import json
import re
import time
from contextlib import suppress
from pathlib import Path

from tests.bench.rig import PATIENCE

ATTEMPT_EVERY = 0.02
ATTEMPT_TIMEOUT = 1.0
MOST_AT_ONCE = 6
"""A small web server that is asked more at once drops connections."""
FORWARD = re.compile(r"(hostfwd=tcp:127\.0\.0\.1:)\d+")
NETWORK = re.compile(r"^user,id=net0$")


def argv_of(pid: int, port: int) -> list[str]:
    """What a guest was started with, but for the port of the host that leads to it."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")
    moved = [FORWARD.sub(rf"\g<1>{port}", word) for word in words]
    if moved == words:  # behind the front a guest gets its ports later, by QMP
        moved = [NETWORK.sub(rf"\g<0>,hostfwd=tcp:127.0.0.1:{port}-:80", word) for word in words]
    if moved == words:
        raise RuntimeError("the guest's command line has no network to forward to")
    return moved


class BareGuest:
    """One QEMU after the other in a folder of its own; no lock, no record, no supervisor."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self._process: asyncio.subprocess.Process | None = None
        (folder / "run").mkdir(parents=True)

    async def boot(self, argv: list[str], marker: str) -> None:
        """Return when the guest serves a page with the marker."""
        with (self.folder / "vmm.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *argv, cwd=self.folder, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
            )
        await first_answer(self.port, marker)

    async def stop(self) -> None:
        """The power button, and wait for the process's end."""
        if self._process is None:
            return
        reader, writer = await asyncio.open_unix_connection(self.folder / "run" / "qmp.sock")
        try:
            async with asyncio.timeout(PATIENCE):
                for command in ("qmp_capabilities", "system_powerdown"):
                    writer.write(json.dumps({"execute": command}).encode() + b"\n")
                    while b'"return"' not in await reader.readline():
                        pass
                await self._process.wait()
        finally:
            writer.close()
        self._process = None

    async def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()


async def first_answer(port: int, marker: str) -> float:
    """The moment of the first page that holds the marker; attempts overlap, as some hang.

    User networking accepts at once for a guest that is still booting, and such a connection may
    hang for good. So a new one is opened every now and then, whatever became of the former ones.
    """
    attempts: list[asyncio.Task[float]] = []
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                for done in [one for one in attempts if one.done()]:
                    attempts.remove(done)
                    with suppress(OSError, TimeoutError, LookupError):
                        return done.result()
                if len(attempts) >= MOST_AT_ONCE:
                    attempts.pop(1).cancel()
                attempts.append(asyncio.create_task(_attempt(port, marker)))
                await asyncio.wait(
                    attempts, timeout=ATTEMPT_EVERY, return_when=asyncio.FIRST_COMPLETED
                )
                if any(one.done() and one.exception() for one in attempts):
                    await asyncio.sleep(ATTEMPT_EVERY)  # refused at once: no busy loop
    finally:
        for one in attempts:
            one.cancel()
        await asyncio.gather(*attempts, return_exceptions=True)


async def _attempt(port: int, marker: str) -> float:
    """Raises OSError, TimeoutError, or LookupError for a page without the marker."""
    async with asyncio.timeout(ATTEMPT_TIMEOUT):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            page = await reader.read()
        finally:
            writer.close()
    if marker.encode() not in page:
        raise LookupError(marker)
    return time.monotonic()
