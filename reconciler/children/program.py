"""Programs we run: each in a process group of its own, with a deadline, bounded in what it prints."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reconciler.errors import BuildUnavailable
from reconciler.safe_text import clean_lines

MOST_OUTPUT_BYTES = 1024 * 1024
"""What a child prints beyond this is dropped, the beginning first: errors come last."""
KILLED_SECONDS, KILLED_LOOK = 5.0, 0.005
"""How long the end of killed processes is waited for, and how often it is looked at: as a rule once."""
SHOWN_CHARACTERS = 2000
"""What of it an error message carries."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended; a negative status is the signal that ended it."""

    status: int
    output: bytes

    @property
    def tail(self) -> str:
        """The end of what it printed, which may be the words of foreign inputs."""
        raw = self.output[-4 * SHOWN_CHARACTERS :]  # characters have up to four bytes
        return clean_lines(raw.decode(errors="replace").strip())[-SHOWN_CHARACTERS:]


class Child:
    """A started program. A caller that stops waiting for it, for any reason, ends its whole process group."""

    def __init__(self, process: asyncio.subprocess.Process, name: str, grace: float = 0.0) -> None:
        self._process = process
        self._name = name
        self._grace = grace

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        takes_input: bool = False,
        grace: float = 0.0,
    ) -> Child:
        """Start a program. Raises BuildUnavailable when this host lacks it.

        `grace`: seconds that it has after SIGTERM to end what left its group, if it does that.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                cwd=cwd,
                env={**(os.environ if env is None else env), "LC_ALL": "C"},
                stdin=asyncio.subprocess.PIPE if takes_input else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise missing_program(argv[0], error.strerror or "") from error
        return cls(process, Path(argv[0]).name, grace)

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def finish(
        self,
        seconds: float,
        given: bytes = b"",
        called: str = "",
        heard: Callable[[bytes], None] | None = None,
    ) -> Ended:
        """Hand over the input and wait for the end. Raises BuildUnavailable past the deadline.

        `called`: its name in errors, where it became another program. `heard` gets what it prints meanwhile.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._feed(given)
                output = await self._read(heard)
                status = await self._process.wait()
        except TimeoutError as error:
            raise BuildUnavailable(
                f"{called or self._name}: was not done after {seconds:g} s",
                kind="deadline",
                hint="is the host overloaded? it is tried again",
            ) from error
        finally:
            await self.end()
        return Ended(status, output)

    async def end(self) -> None:
        """End what is left of the group, also where the program itself has ended; then nothing of it runs."""
        if self._grace and self.alive:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._grace):
                    await self._process.wait()
        with contextlib.suppress(ProcessLookupError):  # nothing is
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        # A killed one may still be in the middle of a call, and leave a file where everything is removed.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILLED_SECONDS):
                while await asyncio.to_thread(_group_runs, self._process.pid):  # noqa: ASYNC110 - the kernel's
                    await asyncio.sleep(KILLED_LOOK)

    async def _feed(self, given: bytes) -> None:
        if self._process.stdin is None:
            return
        try:
            self._process.stdin.write(given)
            await self._process.stdin.drain()
            self._process.stdin.close()
        except (BrokenPipeError, ConnectionResetError):
            pass  # it ended early; its status and its output say why

    async def _read(self, heard: Callable[[bytes], None] | None) -> bytes:
        output = bytearray()
        stream = self._process.stdout
        while stream is not None and (chunk := await stream.read(65536)):
            output += chunk
            if heard is not None:
                heard(chunk)
            del output[: max(0, len(output) - MOST_OUTPUT_BYTES)]
        return bytes(output)


def _group_runs(group: int) -> bool:
    """Whether a process of a group still runs; one that only waits to be reaped does not. Blocks."""
    try:
        os.killpg(group, 0)
    except OSError:  # as a rule: there is none
        return False
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                # The name in parentheses may hold anything; state, parent and group come after it.
                found = (entry / "stat").read_bytes().rpartition(b")")[2].split()
                if int(found[2]) == group and found[0] not in (b"Z", b"X"):
                    return True
    return False


def missing_program(program: str, why: str) -> BuildUnavailable:
    """The error for a program that this host lacks."""
    return BuildUnavailable(
        f"{program}: could not be started: {why}",
        kind="missing-program",
        hint="run `reconciler doctor`: it says which package has it",
    )


async def run(
    argv: Sequence[str],
    *,
    seconds: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    grace: float = 0.0,
) -> Ended:
    """Run a program to its end, whatever its status. Raises BuildUnavailable; `grace` as of `Child.start`."""
    child = await Child.start(argv, cwd=cwd, env=env, grace=grace)
    return await child.finish(seconds)


async def check(
    argv: Sequence[str], *, seconds: float, cwd: Path | None = None, hint: str = ""
) -> bytes:
    """Run a program that must succeed; returns what it printed. Raises BuildUnavailable."""
    ended = await run(argv, seconds=seconds, cwd=cwd)
    if ended.status != 0:
        raise BuildUnavailable(
            f"{Path(argv[0]).name}: status {ended.status}: {ended.tail}", hint=hint
        )
    return ended.output
