"""Waiting for the world in tests: for a condition, with a deadline, and never for a fixed time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LOOK_EVERY = 0.05


def wait_until(
    predicate: Callable[[], T | None], deadline: float, what: str = "", every: float = LOOK_EVERY
) -> T:
    """What the predicate answers as soon as it is true, asked until `deadline` seconds passed.

    It is asked at least once, and once more when the time is up: a stalled machine is no failure.
    """
    until = time.monotonic() + deadline
    pause = threading.Event()
    last: object = None
    while True:
        late = time.monotonic() >= until
        if last := predicate():
            return last
        if late:
            asked = what or getattr(predicate, "__name__", "the condition")
            raise AssertionError(f"not within {deadline:g} s: {asked}; last answer: {last!r}")
        pause.wait(every)
