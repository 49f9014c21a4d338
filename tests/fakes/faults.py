"""Faults at every call of a port: error, delay, hang, crash before, crash after, twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from reconciler.errors import SupervisorError
from tests.fakes.clock import FakeClock

Fault = Literal["error", "delay", "hang", "crash-before", "crash-after", "twice"]
Chooser = Callable[[int, str], Fault | None]
"""What happens at the nth call of the run, which is of this kind."""

DELAY = 3.0
HANG = 45.0
"""Seconds until the deadline that an adapter keeps ends a hanging call."""


class Crash(BaseException):
    """`kill -9` of the daemon at this very point."""


class Faults:
    """Counts every call; `chooser` says what goes wrong. The default is a world without faults."""

    def __init__(self, clock: FakeClock, chooser: Chooser = lambda _n, _call: None) -> None:
        self.clock = clock
        self.chooser = chooser
        self.count = 0
        self.crashed = False
        self.calls: list[str] = []

    async def before(self, call: str) -> Fault | None:
        """Come here before the effect; hand the answer to `after`. Raises, or returns late."""
        if self.crashed:
            raise Crash(call)  # a dead process calls nothing
        fault = self.chooser(self.count, call)
        self.count += 1
        self.calls.append(call)
        match fault:
            case "crash-before":
                self.crash(call)
            case "error":
                raise self.error(call)
            case "delay":
                await self.clock.sleep(DELAY)
            case "hang":
                await self.clock.sleep(HANG)
                raise self.error(call)
            case _:
                pass
        if self.crashed:
            raise Crash(call)
        return fault

    def after(self, call: str, fault: Fault | None) -> None:
        """Come here after the effect."""
        if fault == "crash-after":
            self.crash(call)

    def crash(self, call: str) -> None:
        self.crashed = True
        raise Crash(call)

    def error(self, call: str) -> Exception:
        return SupervisorError(f"injected into {call}")
