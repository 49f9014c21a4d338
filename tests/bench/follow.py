"""The daemon's events as they come, each with the moment at which it was heard."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp

from tests.bench.rig import PATIENCE


@dataclass(frozen=True, slots=True)
class Heard:
    kind: str
    at: float
    """CLOCK_MONOTONIC, when it had arrived here."""
    event: dict[str, Any]


@dataclass(slots=True)
class Follower:
    """Follows `GET /v1/events` on the control socket, from now until it is left."""

    socket: Path
    heard: list[Heard] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        connector = aiohttp.UnixConnector(str(self.socket))
        timeout = aiohttp.ClientTimeout(total=None)
        query = {"follow": "true", "after": "0"}
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.get("http://localhost/v1/events", params=query) as answer,
        ):
            async for line in answer.content:
                event = json.loads(line)
                self.heard.append(Heard(event["kind"], time.monotonic(), event))
                self._news.set()

    async def until(self, kind: str, after: int, **words: object) -> Heard:
        """The first event of this kind with these words, past the first `after` ones."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for one in self.heard[after:]:
                    if one.kind == kind and words.items() <= one.event.items():
                        return one
                    if one.event["severity"] == "error":
                        raise RuntimeError(one.event["message"])
                self._news.clear()
                await self._news.wait()
