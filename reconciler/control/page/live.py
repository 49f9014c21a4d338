"""A page kept up to date by server-sent events: only the parts that changed are sent."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from reconciler.control.page.frame import Pieces, changes
from reconciler.control.page.stories import Stories
from reconciler.control.streams import PAGE, Followers
from reconciler.engine.api import EngineAPI
from reconciler.model.event import Event

LOOK = 1.0
"""Seconds between looks when no event asks for one; probes and waits change without events."""
BURST = 0.5
"""Seconds that changes are collected for: a rollout writes many at once."""
BEAT = 15
"""Looks without a change after which something is sent all the same, for proxies that hang up."""
MOST_EVENTS = 30


class Recent:
    """The newest events, read once and then followed; shared by all who look."""

    def __init__(self, operator: EngineAPI) -> None:
        self._operator = operator
        self.events: tuple[Event, ...] = ()
        self.stories = Stories()

    @property
    def after(self) -> int:
        """The sequence number of the newest event that was read; 0 before the first."""
        return self.events[-1].sequence if self.events else 0

    async def follow(self) -> tuple[Event, ...]:
        """Read what is new, and answer with the newest MOST_EVENTS, oldest first."""
        while found := await self._operator.events(self.after, PAGE):
            # Another who looks may have read the same meanwhile.
            newer = [event for event in found if event.sequence > self.after]
            self.stories.take(newer)
            self.events = (*self.events, *newer)[-MOST_EVENTS:]
        return self.events


@dataclass(frozen=True, slots=True)
class View:
    """How to make the pieces of one page; the same value while nothing changes."""

    pieces: Callable[[], Awaitable[Pieces]]
    recent: Recent
    operator: EngineAPI


async def updates(view: View, seen: str, followers: Followers) -> AsyncGenerator[bytes, None]:
    """What makes the page with the stamp `seen` the present one, for as long as the peer reads."""
    shown = await view.pieces()
    yield b"retry: 2000\n\n" + (
        message(None, shown) if shown.stamp != seen else b": up to date\n\n"
    )
    quiet = 0
    while True:
        await followers.unless_closing(view.operator.wait_event(view.recent.after, LOOK))
        fresh = await view.pieces()
        if fresh is shown or not (event := message(shown, fresh)):
            quiet += 1
            yield b": still here\n\n" if quiet % BEAT == 0 else b""
            continue
        shown, quiet = fresh, 0
        yield event
        await followers.pause(BURST)


def message(old: Pieces | None, new: Pieces) -> bytes:
    """One event; nothing when the pages are equal."""
    changed = changes(old, new)
    if not changed:
        return b""
    return f"event: pieces\ndata: {json.dumps(changed)}\n\n".encode("ascii")
