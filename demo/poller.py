"""A client that polls guests over HTTP, and reports afterwards when they did not answer."""

from __future__ import annotations

import asyncio
import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

TIMEOUT = 2.0
"""Seconds until an answer counts as none. Emulated guests are slow when others boot beside them."""
MOST_AT_ONCE = 6
"""Requests under way to one guest. User networking accepts for one that is still booting; a small web
server that is asked more at once than its queue takes (busybox: 9) drops connections."""
USUAL, CLOSE = 0.1, 0.02
"""Seconds between two requests to one guest."""
MOST_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Answer:
    """One request on a connection of its own; CLOCK_MONOTONIC seconds."""

    begun: float
    ended: float
    ok: bool
    text: str = ""
    """The body of an answer; why there was none."""
    refused: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Gap:
    """From the first request that was not served to the first answer after it."""

    begin: float
    end: float
    refused: bool = field(default=False, compare=False)
    """Whether a connection was refused in it: the guest was down, and not just slow."""

    @property
    def seconds(self) -> float:
        return self.end - self.begin


def gaps_of(answers: Iterable[Answer], until: float) -> tuple[Gap, ...]:
    """The stretches without service; one that has not ended yet ends at `until`.

    Answers may be in any order: a request that hung is answered after later ones.
    """
    found: list[Gap] = []
    lost: list[Answer] = []
    for answer in sorted(answers, key=lambda one: one.begun):
        if not answer.ok:
            lost.append(answer)
        elif lost:
            found.append(gap_between(lost, answer.ended))
            lost = []
    if lost:
        found.append(gap_between(lost, max(until, lost[0].begun)))
    return tuple(merged(found))


def gap_between(lost: Sequence[Answer], end: float) -> Gap:
    return Gap(lost[0].begun, end, any(answer.refused for answer in lost))


def merged(gaps: Iterable[Gap]) -> list[Gap]:
    """A late answer may end one gap inside the next: overlapping gaps are one."""
    joined: list[Gap] = []
    for gap in sorted(gaps):
        if joined and gap.begin <= joined[-1].end:
            last = joined[-1]
            joined[-1] = Gap(last.begin, max(last.end, gap.end), last.refused or gap.refused)
        else:
            joined.append(gap)
    return joined


def longest(gaps: Sequence[Gap]) -> float:
    return max((gap.seconds for gap in gaps), default=0.0)


def down_at_once(gaps: Mapping[str, Sequence[Gap]], allowed: int) -> list[Gap]:
    """When more than `allowed` of these were down at the same time.

    A request lost on a busy host does not mean that a guest was down: only gaps with a refused connection count.
    """
    outages = [gap for ones in gaps.values() for gap in ones if gap.refused]
    edges = sorted(edge for gap in outages for edge in ((gap.begin, 1), (gap.end, -1)))
    found, down, since = [], 0, 0.0
    for moment, step in edges:
        if down == allowed and step > 0:
            since = moment
        if down == allowed + 1 and step < 0:
            found.append(Gap(since, moment))
        down += step
    return [gap for gap in found if gap.seconds > 0]


class Poller:
    """Asks `GET path` of each name's port on the loopback, from a thread of its own."""

    def __init__(
        self, ports: Mapping[str, int], path: str = "/", interval: float = USUAL,
        timeout: float = TIMEOUT,
    ) -> None:  # fmt: skip
        self._path = path
        self._timeout = timeout
        self._intervals = dict.fromkeys(ports, interval)
        self._ports = dict(ports)
        self._answers: dict[str, list[Answer]] = {name: [] for name in ports}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=2 * self._timeout)

    def watch_closely(self, names: Iterable[str]) -> None:
        """From now on poll these more often than the others."""
        chosen = set(names)
        self._intervals = {name: CLOSE if name in chosen else USUAL for name in self._intervals}

    def drop(self, name: str) -> None:
        """Stop polling this one; its answers so far stay."""
        self._ports.pop(name, None)

    def answers(self, name: str, since: float = 0.0) -> tuple[Answer, ...]:
        """Those to requests begun after `since`, as they came in."""
        kept = list(self._answers[name])
        # Requests end within the timeout, so older parts of a long run can be skipped.
        first = bisect_left(kept, since, key=lambda one: one.ended)
        return tuple(answer for answer in kept[first:] if answer.begun >= since)

    def gaps(self, since: float = 0.0) -> dict[str, tuple[Gap, ...]]:
        now = time.monotonic()
        return {name: gaps_of(self.answers(name, since), now) for name in self._answers}

    async def _main(self) -> None:
        async with asyncio.TaskGroup() as group:
            for name in self._answers:
                group.create_task(self._poll(name))

    async def _poll(self, name: str) -> None:
        under_way: set[asyncio.Task[None]] = set()
        while not self._stop.is_set():
            port = self._ports.get(name)
            if port is not None and len(under_way) < MOST_AT_ONCE:
                task = asyncio.create_task(self._ask(name, port))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            await asyncio.sleep(self._intervals[name])
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def _ask(self, name: str, port: int) -> None:
        begun = time.monotonic()
        ok, text, refused = False, "", False
        try:
            async with asyncio.timeout(self._timeout):
                ok, text = await request(port, self._path)
        except TimeoutError:
            text = f"no answer within {self._timeout:g} s"
        except OSError as error:
            text, refused = str(error), isinstance(error, ConnectionRefusedError)
        self._answers[name].append(Answer(begun, time.monotonic(), ok, text, refused))


async def request(port: int, path: str) -> tuple[bool, str]:
    """Whether the answer was a 200, and its body or what came instead."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        await writer.drain()
        answer = b""
        while len(answer) < MOST_BYTES and (part := await reader.read(MOST_BYTES)):
            answer += part
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    head, _, body = answer.decode(errors="replace").partition("\r\n\r\n")
    if " 200 " in head[:16]:
        return True, body.strip()
    return False, head.partition("\r\n")[0] or "closed without an answer"
