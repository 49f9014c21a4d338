"""Children that stand ready: each serves one request, and the next one takes its place.

A fresh interpreter costs up to 110 ms, and a push may cost 200 ms in all. One request each, so that
nothing of one request is left for the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from reconciler.children.confinement import Bounds
from reconciler.children.program import Child, Ended, missing_program
from reconciler.errors import BuildUnavailable

RENEWAL_PAUSE = 0.25
"""Seconds until the next child is started: what the last one was asked for has the processors first."""
KEPT_VARIABLES = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
"""What a child sees of the daemon's environment, which may hold secrets."""
CONFINEMENT = "reconciler.children.confinement"
USUAL = Bounds()


class SpareChild:
    """A module of ours that reads one request from standard input. `close` it when done.

    Without `ready` none is kept: each request starts its own child.
    """

    def __init__(self, module: str, *arguments: str, grace: float = 0.0) -> None:
        """`grace` as of `Child.start`."""
        # -P: nothing is imported from the working directory.
        self._argv = (sys.executable, "-P", "-m", module, *arguments)
        self._grace = grace
        self._spare: Child | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._kept = False

    async def ready(self) -> None:
        """From now on have a child wait for the next request. Raises BuildUnavailable."""
        self._kept = True
        await self._prepare()

    async def ask(self, request: object, seconds: float, called: str = "") -> Ended:
        """Give a child this request as a JSON line, and wait for its end.

        `called`: its name in errors, where that is not the interpreter's. Raises BuildUnavailable when none can be started, and of kind `deadline` after `seconds`.
        Cancelling it ends the child.
        """
        child, self._spare = self._spare, None
        try:
            if child is None or not child.alive:
                child = await self._start()
            return await child.finish(seconds, json.dumps(request).encode() + b"\n", called)
        finally:
            self._renew()

    async def close(self) -> None:
        """End the waiting child."""
        self._kept = False
        if self._renewal is not None:
            self._renewal.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._renewal
        if self._spare is not None:
            await self._spare.end()
            self._spare = None

    async def _prepare(self) -> None:
        if self._spare is None or not self._spare.alive:
            self._spare = None
            spare = await self._start()
            if not self._kept or self._spare is not None:
                await spare.end()
            else:
                self._spare = spare

    def _renew(self) -> None:
        if self._kept and (self._renewal is None or self._renewal.done()):
            self._renewal = asyncio.create_task(self._renew_quietly())

    async def _renew_quietly(self) -> None:
        # A host that cannot start one now says so at the next request, which tries again.
        await asyncio.sleep(RENEWAL_PAUSE)
        with contextlib.suppress(BuildUnavailable):
            await self._prepare()

    async def _start(self) -> Child:
        env = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        return await Child.start(self._argv, env=env, takes_input=True, grace=self._grace)


class ConfinedPrograms:
    """Runs programs over foreign input: without new privileges, within bounds, and as a rule without network."""

    def __init__(self) -> None:
        self._spare = SpareChild(CONFINEMENT)

    async def ready(self) -> None:
        await self._spare.ready()

    async def run(
        self,
        argv: Sequence[str],
        *,
        seconds: float,
        bounds: Bounds = USUAL,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdout: Path | None = None,
        grace: float = 0.0,
    ) -> Ended:
        """Run a program to its end, whatever its status.

        `bounds`: others than the usual ones cost the start of an interpreter. `env`: variables beside
        KEPT_VARIABLES; no other program of this host sees them. `stdout`: a file that does not exist yet,
        for what it prints there; its errors alone are then in what is returned. `grace` as of `Child.start`.

        Raises BuildUnavailable when this host lacks the program, and as `SpareChild.ask`.
        """
        if shutil.which(argv[0]) is None:
            raise missing_program(argv[0], "no such program")
        request = {
            "argv": list(argv),
            "env": dict(env or {}),
            "cwd": None if cwd is None else str(cwd),
            "stdout": None if stdout is None else str(stdout),
        }
        spare = self._spare
        if bounds != USUAL or grace:
            spare = SpareChild(CONFINEMENT, json.dumps(asdict(bounds)), grace=grace)
        return await spare.ask(request, seconds, Path(argv[0]).name)

    async def close(self) -> None:
        await self._spare.close()
