"""The page over a fleet in memory, served from a thread, so that a browser can look at anything."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from reconciler.control.servers import serve_http
from reconciler.model.event import Event, EventKind
from reconciler.model.names import GroupName, Revision, VMName
from reconciler.model.source_state import CommitSummary
from reconciler.model.status import (
    GenerationNumbers,
    GroupStatus,
    ProbeStatus,
    RevisionStatus,
    VMStatus,
    WaitStatus,
)
from tests.unit.control.fake_operator import NEW, OLD, WALL, FakeOperator, fleet, number, vm
from tests.unit.control.opening import ANY_PORT, access
from tests.wait import wait_until

START = 10.0


@dataclass
class Served:
    operator: FakeOperator
    loop: asyncio.AbstractEventLoop
    port: int

    @property
    def home(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def change(self, change: Callable[[FakeOperator], object]) -> None:
        """In the loop's own thread; whoever looks is told."""

        def do() -> None:
            change(self.operator)
            self.operator.news.set()

        self.loop.call_soon_threadsafe(do)


@contextmanager
def served(folder: Path, token: str) -> Iterator[Served]:
    made: list[Served] = []
    end: list[Callable[[], object]] = []

    async def serve() -> None:
        operator = FakeOperator(folder / "console.log")
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        end.append(lambda: loop.call_soon_threadsafe(ended.set))
        face = await serve_http(operator, lambda: b"x 1\n", ANY_PORT, access(token))
        made.append(Served(operator, loop, face.port))
        await ended.wait()
        await face.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        yield wait_until(lambda: made[0] if made else None, START, "the page is served")
    finally:
        for call in end:
            call()
        thread.join(START)


def everything(operator: FakeOperator, words: str = "its checks failed") -> None:
    """A fleet with one of everything that a page can show; `words` stand wherever others write."""
    older = GenerationNumbers(number(1), number(2), number(1))
    waits = (WaitStatus("budget", words, None, WALL + 60),)
    names = tuple(VMName(name) for name in ("web-a", "web-b", "web-c", "web-d"))
    moving: VMStatus = vm("web-a", state="starting", healthy=False, sync="out-of-sync", waits=waits,
                          generation=GenerationNumbers(number(2), number(2), number(1)), why=words)  # fmt: skip
    operator.fleet = fleet(
        vm("db", group=GroupName(""), unasked=True, healthy=False),
        moving,
        vm("web-b", sync="out-of-sync", generation=older, waits=waits, why=words),
        vm("web-c", sync="blocked", generation=older, waits=waits, why=words),
        vm("web-d", probe=words),
        groups=(GroupStatus(GroupName("frontend"), "running", 4, 1, 1, 2, words, names[:1], names[1:2],
                            names[2:3], WALL + 60),),
        revision=RevisionStatus(NEW, OLD, "c" * 40, (words,)),
        alerts=(words,),
    )  # fmt: skip
    operator.asked = {
        name: tuple(
            ProbeStatus(WALL + 5 * n, "failure" if n % 7 == 0 else "success", 0.01, number(1 + n // 9))
            for n in range(20)
        )
        for name in names
    }  # fmt: skip
    commits = [Revision("c" * 40), NEW, OLD]
    operator.history = tuple(
        CommitSummary(name, tuple(commits[place + 1 : place + 2]), words, WALL)
        for place, name in enumerate(commits)
    )
    told: list[tuple[EventKind, Revision]] = [
        ("revision-accepted", NEW),
        ("rolled-back", NEW),
        ("revision-applied", OLD),
    ]
    for kind, revision in told:
        event = Event(kind, words, WALL, names[0], sequence=len(operator.happened) + 1)
        operator.happened.append(replace(event, revision=revision))
    operator.console_path.write_text(f"{words}\n" * 30, encoding="utf-8")
