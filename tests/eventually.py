"""Waiting inside a running loop: for a condition, with a deadline, and never for a fixed time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LOOK_EVERY = 0.005


async def eventually(predicate: Callable[[], object], deadline: float = 10.0) -> None:
    """Return as soon as the predicate is true; it is asked once more when the time is up."""
    loop = asyncio.get_running_loop()
    until = loop.time() + deadline
    while not predicate():
        if loop.time() >= until:
            if predicate():
                return
            asked = getattr(predicate, "__name__", "the condition")
            raise AssertionError(f"not within {deadline:g} s: {asked}")
        await asyncio.sleep(LOOK_EVERY)
