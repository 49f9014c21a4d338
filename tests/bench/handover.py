"""Handovers under a client that asks every 2 ms: its longest gap, beside a boot of the same guest."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePath
from types import TracebackType
from typing import Self

import yaml

from demo.daemon import free_port
from demo.fleet import page
from demo.repository import BRANCH
from demo.stage import Stage
from reconciler.model.names import VMName
from reconciler.proxy.client import ProxyClient
from tests.bench.bare import BareGuest, argv_of
from tests.bench.figures import Figure, Scale, median, ms, spread_of
from tests.bench.follow import Follower
from tests.bench.update import FIRST, VM, accel_of, declare
from tests.wait import wait_until

TARGET_RATIO = 0.03
EVERY = 0.002
TIMEOUT = 2.0
AFTER = 1.0
"""Seconds for which the new guest is still asked after the revision was applied."""
CALM = 1.0
LARGE = 8 << 20
LONG = 60.0
"""Seconds for all of it, from an emulated guest."""
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Answer:
    at: float
    ok: bool
    text: str = ""


class Client:
    """One request after the other, each on a connection of its own; a thread, as asyncio is too late."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.answers: list[Answer] = []

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
        self._thread.join(timeout=2 * TIMEOUT)

    def gap_before(self, marker: str) -> float:
        """From the last answer of the old guest to the first of the new one, which knows the marker."""
        served = [one for one in list(self.answers) if one.ok]
        first = next(n for n, one in enumerate(served) if marker in one.text)
        return served[first].at - served[first - 1].at

    @property
    def longest(self) -> float:
        """Of the whole run: emulated guests hold an answer back now and then."""
        served = [one.at for one in list(self.answers) if one.ok]
        return max((b - a for a, b in pairwise(served)), default=0.0)

    @property
    def failed(self) -> list[Answer]:
        return [one for one in list(self.answers) if not one.ok]

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            ok, why = _ask(self._port)
            self.answers.append(Answer(time.monotonic(), ok, why))
            due = max(due + EVERY, time.monotonic())
            self._stop.wait(max(0.0, due - time.monotonic()))


def _ask(port: int) -> tuple[bool, str]:
    try:
        with socket.create_connection((LOOPBACK, port), TIMEOUT) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b""
            while part := connection.recv(4096):
                answer += part
    except OSError as error:
        return False, str(error)
    return b" 200 " in answer[:16], answer.decode("latin-1")[-200:]


def measure(scale: Scale) -> list[Figure]:
    stage = Stage.open()
    figures = []
    try:
        port = free_port()
        declare(stage, port)
        manifest = yaml.safe_load(stage.repository.read(f"{VM}.yaml"))
        manifest["spec"]["update"]["strategy"] = "handover"
        stage.repository.write(f"{VM}.yaml", yaml.safe_dump(manifest))
        large = str(PurePath(page(VM)).with_name("large"))
        stage.repository.write(large, "0" * LARGE)
        first = stage.repository.push("one VM")
        stage.seed()
        stage.daemon.start()
        wait_until(lambda: stage.daemon.fleet().settled(first, VM), FIRST, "the first guest")
        figures.append(asyncio.run(_rounds(stage, port, scale.pick(20, 2), scale.pick(5, 1))))
        figures += asyncio.run(_costs(stage, port, scale.pick(500, 20), scale.pick(10, 1)))
    finally:
        left = stage.close()
    if left:
        raise RuntimeError(f"still running: {left}")
    return figures


async def _costs(stage: Stage, port: int, requests: int, loads: int) -> list[Figure]:
    """The same guest asked by the front and by its own port, which QEMU forwards itself, in turns."""
    front = ProxyClient(stage.state / "front", lambda: None)
    own = (await front.look()).targets[VMName(VM)].routes[0].target
    await front.close()
    await asyncio.sleep(CALM)
    small = await asyncio.to_thread(_in_turns, (port, own), "/", requests)
    large = await asyncio.to_thread(_in_turns, (port, own), "/large", loads)
    figures = []
    for name, (by_front, direct) in (("a request", small), (f"{LARGE >> 20} MiB", large)):
        figures.append(
            Figure(
                f"proxy, {name}", median(by_front) * 1000, "ms", median(direct) * 1000,
                "by the guest's own forward", spread=spread_of(ms(by_front), "ms"),
                note="one connection each, one after the other, by the front and past it in turns",
                details={"past it, least / median / most": spread_of(ms(direct), "ms")},
            )
        )  # fmt: skip
    return figures


def _in_turns(ports: tuple[int, int], path: str, count: int) -> tuple[list[float], list[float]]:
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(2 * count):
        began = time.monotonic()
        with socket.create_connection((LOOPBACK, ports[number % 2]), LONG) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            while connection.recv(1 << 16):
                pass
        taken[number % 2].append(time.monotonic() - began)
    return taken


async def _rounds(stage: Stage, port: int, count: int, boots: int) -> Figure:
    pid = stage.daemon.fleet().vms[VM].pid
    if pid is None:
        raise RuntimeError(f"{VM} does not run")
    accel = accel_of(pid)
    bare = await _boots(stage, pid, boots)
    gaps = []
    async with Follower(stage.daemon.settings.socket) as events:
        with Client(port) as client:
            for number in range(count):
                await asyncio.sleep(CALM)
                gaps.append(await _one(stage, events, client, f"handover {number}"))
    asked, failed = len(client.answers), client.failed
    return Figure(
        "handover, longest gap", max(gaps) * 1000, "ms", median(bare) * 1000,
        "boot of the same by hand to HTTP", target_ratio=TARGET_RATIO,
        spread=spread_of(ms(gaps), "ms"),
        note=f"one VM, accel {accel}, a client that opens a connection every 2 ms, or as soon as the"
        " last is answered. The gap is the time from the last answer of the old guest to the first of"
        " the new one",
        details={
            "requests": asked,
            "failed requests": len(failed),
            "why": sorted({one.text for one in failed}),
            "longest time between any two answers, ms": round(client.longest * 1000, 1),
            "boot by hand, least / median / most": spread_of(bare, "s"),
        },
    )  # fmt: skip


async def _boots(stage: Stage, pid: int, count: int) -> list[float]:
    """Boots by hand, while the guest that serves idles."""
    taken = []
    twin = BareGuest(stage.root / "twin", free_port())
    argv = argv_of(pid, twin.port)
    try:
        for _ in range(count):
            began = time.monotonic()
            await twin.boot(argv, "")
            taken.append(time.monotonic() - began)
            await twin.kill()
    finally:
        await twin.kill()
    return taken


async def _one(stage: Stage, events: Follower, client: Client, marker: str) -> float:
    """Push, and wait until the ports have moved and the old guest is gone."""
    git = stage.repository.git
    stage.repository.write(page(VM), f"{marker}\n")
    await asyncio.to_thread(git, "commit", "-q", "-a", "-m", marker)
    before = len(events.heard)
    await asyncio.to_thread(git, "push", "-q", "origin", BRANCH)
    await events.until("revision-applied", before, revision=stage.repository.head())
    await asyncio.sleep(AFTER)
    return client.gap_before(f"{marker}\n")
